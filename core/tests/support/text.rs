//! Resources between text and wire.

use mesita_core::resources::text::{self, TextValue};
use mesita_core::wire::resource::*;
use mesita_core::wire::{Scratch, Seq};

pub fn scratch() -> Scratch<'static> {
    Scratch::new(Box::leak(vec![0; 2_048].into_boxed_slice()))
}

/// Mesos' text form as a list on the wire; a role is a static reservation.
pub fn wire(text: &str) -> Seq<'static, Resource<'static>> {
    let text: &'static str = Box::leak(text.to_string().into_boxed_str());
    let mut whole = scratch();
    let mut list = whole.list::<Resource<'static>>();
    for entry in text::resources(text) {
        let entry = entry.unwrap();
        let value = match entry.value {
            TextValue::Scalar(amount) => Value::Scalar(amount),
            TextValue::Ranges(inside) => {
                Value::Ranges(scratch().seq::<Range>(text::ranges(inside)).unwrap())
            }
            TextValue::Set(inside) => {
                Value::Set(scratch().seq::<&'static str>(text::items(inside)).unwrap())
            }
            TextValue::Text(_) => unreachable!("resources have no text values"),
        };
        let layer = Reservation {
            role: entry.role,
            kind: ReservationKind::Static,
            principal: "",
            labels: "",
        };
        let layers = (entry.role != "*").then_some(layer);
        let reservations = scratch().seq::<Reservation<'static>>(layers).unwrap();
        list.push(&Resource {
            name: entry.name,
            value,
            traits: Traits { reservations, ..Traits::PLAIN },
        })
        .unwrap();
    }
    list.end()
}

/// A list on the wire in Mesos' text form.
pub fn shown(list: &Seq<'_, Resource<'_>>) -> String {
    list.iter().map(|resource| one(&resource)).collect::<Vec<_>>().join(";")
}

fn one(resource: &Resource<'_>) -> String {
    let role = resource.traits.reservations.iter().last();
    let role = role.map_or(String::new(), |layer| format!("({})", layer.role));
    let value = match resource.value {
        Value::Scalar(amount) => amount.to_string(),
        Value::Ranges(ranges) => {
            let ranges: Vec<_> = ranges.iter().map(|r| format!("{}-{}", r.begin, r.end)).collect();
            format!("[{}]", ranges.join(","))
        }
        Value::Set(items) => format!("{{{}}}", items.iter().collect::<Vec<_>>().join(",")),
    };
    format!("{}{role}:{value}", resource.name)
}
