//! Entries of the frameworks' store in the registry: an entry is longer than a change may be, so it
//! lies in cells of a fixed size, each with the place of the next one.
//!
//! Whoever writes one writes the cells behind the first one first. The first one makes it visible;
//! only then those of the value before are emptied, their first one before the others. So a leader
//! that ends in between leaves cells that no first one leads to, which show nothing, or two values of
//! one key, of which the later version counts.

use serde::{Deserialize, Serialize};

/// Bytes of a cell: two of them fit one change.
pub const CELL: usize = 480;
/// Bytes of an entry in a cell.
pub const DATA: usize = CELL - AROUND;
const AROUND: usize = 5;
/// The first byte of the first cell of an entry, and of the others; those of rows are below.
const FIRST: u8 = 2;
const MORE: u8 = 3;
/// Instead of the place of a next one.
const NONE: u32 = u32::MAX;

/// A cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// An entry begins here.
    pub first: bool,
    /// The slot of the next one; none: the entry ends here.
    pub next: Option<u32>,
    /// A part of the entry; what is behind it is of no concern.
    pub data: &'a [u8],
}

impl<'a> Cell<'a> {
    /// Reads a slot; none if it is empty, or of a release that knows more.
    pub fn read(slot: &'a [u8]) -> Option<Self> {
        let (kind, rest) = slot.split_first()?;
        let (next, data) = rest.split_first_chunk::<4>()?;
        let next = u32::from_le_bytes(*next);
        let known = *kind == FIRST || *kind == MORE;
        let next = (next != NONE).then_some(next);
        known.then_some(Self { first: *kind == FIRST, next, data })
    }

    /// Writes a slot's bytes. Of `data` not more than [`DATA`] bytes.
    pub fn write<'b>(&self, into: &'b mut [u8; CELL]) -> &'b [u8] {
        let kind = if self.first { FIRST } else { MORE };
        let next = self.next.unwrap_or(NONE).to_le_bytes();
        let bytes = [kind].into_iter().chain(next).chain(self.data.iter().copied());
        let len = self.data.len().min(DATA).saturating_add(AROUND);
        into.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        into.get(..len).unwrap_or_default()
    }
}

/// A value that somebody has stored, as it lies in the cells one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// Whose it is.
    pub owner: &'a str,
    /// What the owner calls it.
    pub key: &'a str,
    /// Another one with each write of any key, and a later one.
    pub version: u64,
    /// The value.
    pub value: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads what all its cells have, one after the other.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        postcard::take_from_bytes(bytes).ok().map(|(entry, _)| entry)
    }

    /// The most bytes that it takes.
    pub fn bytes_max(&self) -> usize {
        let text = self.owner.len().saturating_add(self.key.len());
        text.saturating_add(self.value.len()).saturating_add(24)
    }

    /// The most cells that it takes.
    pub fn cells(&self) -> u32 {
        u32::try_from(self.bytes_max().div_ceil(DATA)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_its_cells() {
        let value = std::vec![7; 4096];
        let entry = Entry { owner: "web", key: "state", version: 9, value: &value };
        let mut memory = std::vec![0; 8192];
        let bytes = crate::wire::encode(&entry, &mut memory).unwrap();
        assert!(bytes.len() <= entry.bytes_max());
        let mut read = std::vec![];
        for (at, data) in bytes.chunks(DATA).enumerate() {
            let cell = Cell { first: at == 0, next: u32::try_from(at + 1).ok(), data };
            let mut slot = [9; CELL];
            let len = cell.write(&mut slot).len();
            assert_eq!(len, data.len() + AROUND);
            let cell = Cell::read(&slot).unwrap();
            assert_eq!((cell.first, cell.next), (at == 0, u32::try_from(at + 1).ok()));
            read.extend_from_slice(cell.data);
        }
        assert_eq!(Entry::read(&read), Some(entry));
        assert_eq!(entry.cells(), 9);
    }

    #[test]
    fn what_is_no_cell_is_none() {
        assert_eq!(Cell::read(&[]), None);
        assert_eq!(Cell::read(&[0; CELL]), None);
        assert_eq!(Cell::read(&[1; CELL]), None, "a row");
        assert_eq!(Cell::read(&[2, 0, 0]), None);
        let last = Cell { first: false, next: None, data: &[1] };
        assert_eq!(Cell::read(last.write(&mut [0; CELL])), Some(last));
    }
}
