//! Lists in a head: counted, borrowed, decoded one element at a time.
//!
//! A list by value would make every message as large as its largest one. A [`Seq`] is 24 bytes and
//! decodes nothing until it is walked; [`Check::check`] walks it once, so that the walk which acts
//! meets no surprise.

use core::fmt;
use core::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::{Check, Fault, Malformed, count, of_postcard, require};
use crate::limits::ITEMS_PER_LIST_MAX;
use crate::table::Full;

/// A list of `T` in a head: a count and the borrowed bytes of its elements.
pub struct Seq<'a, T> {
    count: u32,
    bytes: &'a [u8],
    of: PhantomData<fn() -> T>,
}

impl<'a, T> Seq<'a, T> {
    /// The list without elements.
    pub const EMPTY: Self = Self { count: 0, bytes: &[], of: PhantomData };

    /// Elements, as the sender counted them; [`Check::check`] has counted again.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// True when it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl<'a, T: Deserialize<'a>> Seq<'a, T> {
    /// The elements in order, decoded as they are asked for.
    ///
    /// Ends at the first element that cannot be decoded: none, once the list was checked.
    pub fn iter(&self) -> Items<'a, T> {
        Items { left: self.count, rest: self.bytes, of: PhantomData }
    }

    /// The first element.
    pub fn first(&self) -> Option<T> {
        self.iter().next()
    }
}

impl<'a, T: Deserialize<'a> + Check> Seq<'a, T> {
    /// [`Check::check`] with a bound of its own instead of [`ITEMS_PER_LIST_MAX`].
    pub fn check_up_to(&self, field: &'static str, max: usize) -> Result<(), Malformed> {
        require(self.count as usize <= max, field, Fault::TooMany(count(max)))?;
        let mut rest = self.bytes;
        for _ in 0..self.count {
            let (item, after) = postcard::take_from_bytes::<T>(rest)
                .map_err(|error| Malformed { field, ..of_postcard(error) })?;
            item.check()?;
            rest = after;
        }
        require(rest.is_empty(), field, Fault::TrailingBytes)
    }
}

impl<'a, T: Deserialize<'a> + Check> Check for Seq<'a, T> {
    fn check(&self) -> Result<(), Malformed> {
        self.check_up_to("list", ITEMS_PER_LIST_MAX)
    }
}

/// The elements of one [`Seq`].
pub struct Items<'a, T> {
    left: u32,
    rest: &'a [u8],
    of: PhantomData<fn() -> T>,
}

impl<'a, T: Deserialize<'a>> Iterator for Items<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        let (item, rest) = postcard::take_from_bytes(self.rest).ok()?;
        self.rest = rest;
        Some(item)
    }
}

impl<T> Clone for Items<'_, T> {
    fn clone(&self) -> Self {
        Self { left: self.left, rest: self.rest, of: PhantomData }
    }
}

impl<T> Clone for Seq<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Seq<'_, T> {}

impl<T> Default for Seq<'_, T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T> PartialEq for Seq<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.bytes == other.bytes
    }
}

impl<T> Eq for Seq<'_, T> {}

impl<'a, T: Deserialize<'a> + fmt::Debug> fmt::Debug for Seq<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T> Serialize for Seq<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_tuple(2)?;
        parts.serialize_element(&self.count)?;
        parts.serialize_element(&Bytes(self.bytes))?;
        parts.end()
    }
}

impl<'de: 'a, 'a, T> Deserialize<'de> for Seq<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts<T>(PhantomData<fn() -> T>);

        impl<'de, T> Visitor<'de> for Parts<T> {
            type Value = Seq<'de, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count and bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
                let missing = || <A::Error as serde::de::Error>::custom("list cut short");
                let count = parts.next_element()?.ok_or_else(missing)?;
                let bytes = parts.next_element::<&'de [u8]>()?.ok_or_else(missing)?;
                Ok(Seq { count, bytes, of: PhantomData })
            }
        }

        deserializer.deserialize_tuple(2, Parts(PhantomData))
    }
}

/// Bytes written at once; serde writes a plain slice element by element.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// A type that can stand in a list, whatever lifetime its borrowed parts have.
pub trait Item {
    /// The same type with its borrowed parts living for `'a`.
    type For<'a>: Serialize + Deserialize<'a>;
}

macro_rules! items {
    ($($owned:ty),* ; $($borrowed:ident),*) => {
        $(impl $crate::wire::seq::Item for $owned {
            type For<'a> = $owned;
        })*
        $(impl $crate::wire::seq::Item for $borrowed<'static> {
            type For<'a> = $borrowed<'a>;
        })*
    };
}
pub(crate) use items;

items!(u8, u16, u32, u64; );

impl Item for &'static str {
    type For<'a> = &'a str;
}

/// Memory in which lists are written before the message that holds them.
#[derive(Debug)]
pub struct Scratch<'s> {
    rest: &'s mut [u8],
}

impl<'s> Scratch<'s> {
    /// All of `memory`, to be cut into lists.
    pub fn new(memory: &'s mut [u8]) -> Self {
        Self { rest: memory }
    }

    /// Begins a list that takes what it needs from the memory left.
    pub fn list<T: Item>(&mut self) -> List<'_, 's, T> {
        List { scratch: self, used: 0, count: 0, of: PhantomData }
    }

    /// A whole list from `items`. [`Full`] when the memory does not hold it.
    pub fn seq<'x, T: Item>(
        &mut self,
        items: impl IntoIterator<Item = T::For<'x>>,
    ) -> Result<Seq<'s, T::For<'s>>, Full> {
        let mut list = self.list::<T>();
        for item in items {
            list.push(&item)?;
        }
        Ok(list.end())
    }
}

/// A list being written at the front of a [`Scratch`].
#[derive(Debug)]
pub struct List<'l, 's, T> {
    scratch: &'l mut Scratch<'s>,
    used: usize,
    count: u32,
    of: PhantomData<fn() -> T>,
}

impl<'s, T: Item> List<'_, 's, T> {
    /// Appends an element. [`Full`] leaves the list as it was.
    pub fn push(&mut self, item: &T::For<'_>) -> Result<(), Full> {
        let free = self.scratch.rest.get_mut(self.used..).ok_or(Full)?;
        let written = postcard::to_slice(item, free).map_err(|_| Full)?.len();
        self.used = self.used.saturating_add(written);
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Elements so far.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// True before the first element.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.used
    }

    /// Ends the list; its memory is the scratch's no more.
    pub fn end(self) -> Seq<'s, T::For<'s>> {
        let whole = core::mem::take(&mut self.scratch.rest);
        let (bytes, rest) = whole.split_at_mut_checked(self.used).unwrap_or_default();
        self.scratch.rest = rest;
        Seq { count: self.count, bytes, of: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decode, encode};
    use std::vec::Vec;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let mut memory = [0; 64];
        let mut scratch = Scratch::new(&mut memory);
        let seq = scratch.seq::<&str>(["cpus", "", "mem"]).unwrap();
        let numbers = scratch.seq::<u32>([1, 300]).unwrap();
        let mut bytes = [0; 64];
        let bytes = encode(&seq, &mut bytes).unwrap();
        let back: Seq<'_, &str> = decode(bytes).unwrap();
        assert_eq!(back.iter().collect::<Vec<_>>(), ["cpus", "", "mem"]);
        assert_eq!((back.len(), back), (3, seq));
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [1, 300]);
    }

    #[test]
    fn a_list_larger_than_its_memory_is_refused() {
        let mut memory = [0; 4];
        let mut scratch = Scratch::new(&mut memory);
        assert_eq!(scratch.seq::<u32>([1, 2, 3, 4, 5]), Err(Full));
        assert_eq!(scratch.seq::<u32>([1, 2]).map(|seq| seq.len()), Ok(2));
    }

    #[test]
    fn a_count_that_lies_is_refused() {
        let lies: Seq<'_, u32> = Seq { count: 2, bytes: &[1], of: PhantomData };
        let short = Malformed { field: "list", fault: Fault::EndsEarly };
        assert_eq!(lies.check(), Err(short));
        let lies: Seq<'_, u32> = Seq { count: 1, bytes: &[1, 2], of: PhantomData };
        assert_eq!(lies.check().unwrap_err().fault, Fault::TrailingBytes);
        let many: Seq<'_, u32> = Seq { count: 2_000, bytes: &[], of: PhantomData };
        assert_eq!(many.check().unwrap_err().fault, Fault::TooMany(1024));
        assert_eq!(lies.iter().count(), 1, "a walk without a check ends, it does not panic");
    }

    const _: () = assert!(size_of::<Seq<'_, u32>>() <= 24);
}
