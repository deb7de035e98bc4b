//! Text of flags → lists of the wire.

use mesita_core::resources::text::{self, TextValue};
use mesita_core::table::Full;
use mesita_core::wire::resource::{
    Attribute, AttributeValue, Range, Reservation, ReservationKind, Resource, Traits, Value,
};
use mesita_core::wire::{Scratch, Seq};

/// Memory for the lists of one description.
pub(crate) const MEMORY: usize = 64 * 1024;

/// A list of resources out of text that was checked; what cannot be read is left out.
pub(crate) fn resources<'s>(
    written: &str,
    list: &mut Scratch<'s>,
    parts: &mut [u8],
) -> Result<Seq<'s, Resource<'s>>, Full> {
    resources_and(written, "", list, parts)
}

/// The same, and what is offered beyond that and may be taken back.
pub(crate) fn resources_and<'s>(
    written: &str,
    revocable: &str,
    list: &mut Scratch<'s>,
    parts: &mut [u8],
) -> Result<Seq<'s, Resource<'s>>, Full> {
    let mut parts = Scratch::new(parts);
    let mut resources = Vec::new();
    let entries = text::resources(written).flatten().map(|entry| (entry, false));
    let spare = text::resources(revocable).flatten().map(|entry| (entry, true));
    for (entry, revocable) in entries.chain(spare) {
        let value = match entry.value {
            TextValue::Scalar(amount) => Value::Scalar(amount),
            TextValue::Ranges(inside) => Value::Ranges(parts.seq::<Range>(text::ranges(inside))?),
            TextValue::Set(inside) => Value::Set(parts.seq::<&'static str>(text::items(inside))?),
            TextValue::Text(_) => continue,
        };
        let reservations = if entry.role == "*" {
            Seq::EMPTY
        } else {
            parts.seq::<Reservation<'static>>([Reservation {
                role: entry.role,
                kind: ReservationKind::Static,
                principal: "",
                labels: "",
            }])?
        };
        let traits = Traits { reservations, revocable, ..Traits::PLAIN };
        resources.push(Resource { name: entry.name, value, traits });
    }
    list.seq::<Resource<'static>>(resources)
}

/// A list of attributes out of text that was checked.
pub(crate) fn attributes<'s>(
    written: &str,
    list: &mut Scratch<'s>,
    parts: &mut [u8],
) -> Result<Seq<'s, Attribute<'s>>, Full> {
    let mut parts = Scratch::new(parts);
    let mut attributes = Vec::new();
    let sets: Vec<String> = text::entries(written).flatten().map(set_text).collect();
    for (entry, set) in text::entries(written).flatten().zip(&sets) {
        let value = match entry.value {
            TextValue::Scalar(amount) => AttributeValue::Scalar(amount),
            TextValue::Ranges(inside) => {
                AttributeValue::Ranges(parts.seq::<Range>(text::ranges(inside))?)
            }
            // Attributes know no sets: Mesos takes one as text, too.
            TextValue::Set(_) => AttributeValue::Text(set),
            TextValue::Text(value) => AttributeValue::Text(value),
        };
        attributes.push(Attribute { name: entry.name, value });
    }
    list.seq::<Attribute<'static>>(attributes)
}

fn set_text(entry: text::Entry<'_>) -> String {
    match entry.value {
        TextValue::Set(inside) => format!("{{{inside}}}"),
        TextValue::Scalar(_) | TextValue::Ranges(_) | TextValue::Text(_) => String::new(),
    }
}
