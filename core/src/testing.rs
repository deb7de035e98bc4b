//! What the tests of several modules share: memory without end, and resources from text.

use std::boxed::Box;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use crate::record::Zero;
use crate::resources::text::{self, TextValue};
use crate::wire::resource::{Range, Reservation, ReservationKind, Resource, Traits, Value};
use crate::wire::{Scratch, Seq};

/// Zeroed memory leaked on purpose: a test's whole world.
pub(crate) fn lend<T: Zero>(n: usize) -> &'static mut [T] {
    Box::leak(vec![T::ZERO; n].into_boxed_slice())
}

/// Lends memory that nobody ever takes back.
pub(crate) struct Leak;

impl crate::capacity::Lender<'static> for Leak {
    fn lend<T: Zero + 'static>(&mut self, rows: u32) -> &'static mut [T] {
        lend(rows as usize)
    }
}

/// Memory for lists on the wire.
pub(crate) fn scratch() -> Scratch<'static> {
    Scratch::new(lend::<u8>(4096))
}

/// Mesos' text form as a list on the wire; a role is a static reservation.
pub(crate) fn wire(text: &str) -> Seq<'static, Resource<'static>> {
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
            TextValue::Text(_) => unreachable!("not a resource"),
        };
        let layer = Reservation {
            role: entry.role,
            kind: ReservationKind::Static,
            principal: "",
            labels: "",
        };
        let layers = (entry.role != "*").then_some(layer);
        let reservations = scratch().seq::<Reservation<'static>>(layers).unwrap();
        let traits = Traits { reservations, ..Traits::PLAIN };
        list.push(&Resource { name: entry.name, value, traits }).unwrap();
    }
    list.end()
}

/// A list on the wire in Mesos' text form.
pub(crate) fn shown(list: &Seq<'_, Resource<'_>>) -> String {
    let one = |resource: Resource<'_>| {
        let role = resource.traits.reservations.iter().last();
        let role = role.map_or(String::new(), |layer| std::format!("({})", layer.role));
        let value = match resource.value {
            Value::Scalar(amount) => amount.to_string(),
            Value::Ranges(ranges) => {
                let one = |range: Range| std::format!("{}-{}", range.begin, range.end);
                std::format!("[{}]", ranges.iter().map(one).collect::<Vec<_>>().join(","))
            }
            Value::Set(items) => {
                std::format!("{{{}}}", items.iter().collect::<Vec<_>>().join(","))
            }
        };
        std::format!("{}{role}:{value}", resource.name)
    };
    list.iter().map(one).collect::<Vec<_>>().join(";")
}
