//! What a request's message may take: a few bytes of it can stand for kilobytes of memory, as an item of
//! a list that is empty in the text has all of its fields there.

use std::cell::Cell;
use std::sync::OnceLock;

use super::shape::{Field, Kind, Label, Message};

/// Memory for the items of one message, in bytes, as far as they take more than their text.
pub(super) const MESSAGE_MAX: usize = 32 * 1024 * 1024;
/// An item's own place in what is read, whatever it is.
const ITEM: usize = 128;
/// A text, a list or a map inside of a message, with nothing in it.
const HANDLE: usize = 24;
/// A number, with whether it is there.
const NUMBER: usize = 16;

/// What is left of it.
pub(super) struct Budget(Cell<usize>);

impl Budget {
    pub(super) const fn of(bytes: usize) -> Self {
        Self(Cell::new(bytes))
    }

    /// Of what is ours.
    pub(super) const fn boundless() -> Self {
        Self::of(usize::MAX)
    }

    /// Takes what one more item of a list or a map needs; false when that is not there, from then on.
    pub(super) fn takes(&self, kind: Kind) -> bool {
        let left = self.0.get().checked_sub(ITEM + size_of(kind));
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// True once something was asked for that was not there.
    pub(super) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }
}

/// What a value of a kind takes in the message around it.
fn size_of(kind: Kind) -> usize {
    static SIZES: OnceLock<Vec<usize>> = OnceLock::new();
    match kind {
        Kind::Message(place) => {
            let sizes = SIZES.get_or_init(|| {
                let mut around = Vec::new();
                (0..Message::count()).map(|place| of_message(place, &mut around)).collect()
            });
            sizes.get(usize::from(place)).copied().unwrap_or(HANDLE)
        }
        Kind::String | Kind::Bytes => HANDLE,
        Kind::Double
        | Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Bool
        | Kind::Choice(_) => NUMBER,
    }
}

/// A message lies inside of the one around it, but for one that is of itself.
fn of_message(place: u16, around: &mut Vec<u16>) -> usize {
    if around.contains(&place) {
        return HANDLE;
    }
    around.push(place);
    let of = |field: &Field| match (field.label, field.kind) {
        (Label::List | Label::Map, _) => HANDLE,
        (Label::Optional | Label::Required, Kind::Message(inner)) => of_message(inner, around),
        (Label::Optional | Label::Required, kind) => size_of(kind),
    };
    let size = NUMBER + Message::at(place).fields.iter().map(of).sum::<usize>();
    around.pop();
    size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::mesos::v1;

    fn size(name: &str) -> usize {
        let all = 0..Message::count();
        let place = all.into_iter().find(|place| Message::at(*place).name == name).unwrap();
        size_of(Kind::Message(place))
    }

    #[test]
    fn an_item_is_counted_with_what_it_takes() {
        for (name, is) in [
            ("mesos.v1.Offer.Operation", size_of_val(&v1::offer::Operation::default())),
            ("mesos.v1.TaskInfo", size_of_val(&v1::TaskInfo::default())),
            ("mesos.v1.Resource", size_of_val(&v1::Resource::default())),
            ("mesos.v1.OfferID", size_of_val(&v1::OfferId::default())),
            ("mesos.v1.ContainerID", size_of_val(&v1::ContainerId::default())),
        ] {
            let counted = size(name);
            assert!(counted >= is && counted < 2 * is + 64, "{name}: {counted}, and it is {is}");
        }
    }

    #[test]
    fn it_is_spent_when_something_is_not_there() {
        let budget = Budget::of(2 * (ITEM + HANDLE) + 1);
        assert!(budget.takes(Kind::String) && budget.takes(Kind::String) && !budget.is_spent());
        assert!(!budget.takes(Kind::String) && budget.is_spent() && !budget.takes(Kind::Bool));
    }
}
