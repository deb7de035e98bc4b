//! What the registry holds, as bytes: tables of slots of a fixed size, one after the other.
//!
//! A change is a list of [`Edit`]s that say which bytes are where from now on. It is physical: it
//! means the same to every release, may be applied to a copy that is only partly there, and twice.
//! Each value has a version and a hash chained over all changes that made it, so two bodies of one
//! version and hash are equal byte for byte.

use super::cells::CELL;
use super::meta::{META_MAX, Meta};
use crate::digest::Digest;
use crate::wire::gossip::{Edit, Table, Version};
use crate::wire::{Check, Seq};

/// How many tables there are.
pub const TABLES: usize = 13;
/// Bytes of a slot of each table.
pub const ENTRY: [u16; TABLES] =
    [META_BYTES, 72, 72, 48, 512, 336, 64, 16, 32, 32, CELL_BYTES, 40, CELL_BYTES];

#[allow(clippy::cast_possible_truncation)] // 384
const META_BYTES: u16 = META_MAX as u16;
#[allow(clippy::cast_possible_truncation)] // 480
const CELL_BYTES: u16 = CELL as u16;
/// Cells of the largest store: 1 MiB.
const CELLS_MAX: u32 = 2_184;

/// Slots of each table, the first of them 1: what every master of a cluster must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    slots: [u32; TABLES],
}

impl Shape {
    /// A shape for so many agents, frameworks and roles; the rest follows from them.
    pub const fn new(agents: u32, frameworks: u32, roles: u32) -> Self {
        let few = if agents < 64 { 8 } else { 64 };
        let more = if agents < 64 { 32 } else { 256 };
        let windows: u32 = match agents {
            0..64 => 4,
            64..512 => 64,
            512..5_000 => 128,
            5_000.. => 512,
        };
        let cells = match agents {
            // No room for a store on the smallest boards.
            0..16 => 0,
            16..1_092 => agents.saturating_mul(2),
            1_092.. => CELLS_MAX,
        };
        let requests = match agents {
            0..16 => 8,
            16..64 => 16,
            64..1_024 => 256,
            1_024.. => 1_024,
        };
        // Each machine of a schedule may be dropped, and another one be in its place: less than 0.8 of a
        // cell for both.
        let redo = windows.saturating_mul(4).saturating_div(5).saturating_add(2);
        let slots = [
            1, agents, agents, frameworks, roles, windows, few, more, few, more, cells, requests,
            redo,
        ];
        Self { slots }
    }

    /// Slots of a table.
    pub fn slots(&self, table: Table) -> u32 {
        self.slots.get(table as usize).copied().unwrap_or(0)
    }

    /// Bytes of the whole.
    pub const fn bytes(&self) -> usize {
        self.start(TABLES)
    }

    /// Where a table begins.
    const fn start(&self, table: usize) -> usize {
        let (mut sum, mut at) = (0usize, 0);
        let (mut slots, mut entries) = (self.slots.as_slice(), ENTRY.as_slice());
        while let (Some((count, more)), Some((entry, rest))) =
            (slots.split_first(), entries.split_first())
        {
            if at >= table {
                break;
            }
            (slots, entries) = (more, rest);
            sum = sum.saturating_add((*count as usize).saturating_mul(*entry as usize));
            at = at.saturating_add(1);
        }
        sum
    }

    /// Where the bytes of an edit go; none if the tables have no such place.
    pub fn place(&self, edit: &Edit<'_>) -> Option<core::ops::Range<usize>> {
        let table = edit.table as usize;
        let entry = usize::from(*ENTRY.get(table)?);
        let end_in_slot = usize::from(edit.at).checked_add(edit.bytes.len())?;
        if edit.slot >= *self.slots.get(table)? || end_in_slot > entry {
            return None;
        }
        let slot = self.start(table).checked_add((edit.slot as usize).checked_mul(entry)?)?;
        let start = slot.checked_add(usize::from(edit.at))?;
        Some(start..start.checked_add(edit.bytes.len())?)
    }
}

/// The name of one value: a version, and the hash of how it came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Named {
    /// Its version.
    pub version: Version,
    /// The chain hash.
    pub hash: u64,
}

/// The hash of the value that `edits`, as encoded, make of `base`.
pub fn chained(base: Named, version: Version, edits: &[u8]) -> u64 {
    let mut digest = Digest::new();
    digest.value(&(base.hash, version));
    digest.bytes(edits);
    digest.finish()
}

/// Reads the edits of a change from what [`chained`] was taken over.
pub fn edits(bytes: &[u8]) -> Option<Seq<'_, Edit<'_>>> {
    let seq: Seq<'_, Edit<'_>> = crate::wire::decode(bytes).ok()?;
    seq.check().ok().map(|()| seq)
}

/// One value of the registry in memory that the caller lent.
#[derive(Debug)]
pub struct Body<'a> {
    shape: Shape,
    named: Named,
    bytes: &'a mut [u8],
}

impl<'a> Body<'a> {
    /// The registry that nobody has led yet, in zeroed memory of [`Shape::bytes`].
    pub fn new(shape: Shape, bytes: &'a mut [u8]) -> Self {
        invariant!(bytes.len() == shape.bytes(), "a body of another size than its shape");
        Self { shape, named: Named::default(), bytes }
    }

    /// Gives the memory back.
    pub fn release(self) -> &'a mut [u8] {
        self.bytes
    }

    /// Which value it is.
    pub fn named(&self) -> Named {
        self.named
    }

    /// Its tables.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Its first slot; none before the first leader's opening.
    pub fn meta(&self) -> Option<Meta> {
        let bytes = self.bytes.get(..META_MAX)?;
        let (meta, _) = postcard::take_from_bytes::<Meta>(bytes).ok()?;
        (meta.roster.version > 0).then_some(meta)
    }

    /// The bytes of one slot.
    pub fn slot(&self, table: Table, slot: u32) -> Option<&[u8]> {
        let entry = usize::from(*ENTRY.get(table as usize)?);
        let start = self.shape.place(&Edit { table, slot, at: 0, bytes: &[] })?.start;
        self.bytes.get(start..start.checked_add(entry)?)
    }

    /// True when every edit has its place.
    pub fn takes(&self, edits: &Seq<'_, Edit<'_>>) -> bool {
        edits.iter().all(|edit| self.shape.place(&edit).is_some())
    }

    /// Makes it the value that a checked change makes of it. O(edits).
    pub fn apply(&mut self, edits: &Seq<'_, Edit<'_>>, named: Named) {
        self.patch(edits);
        self.named = named;
    }

    /// Takes the bytes of a part of another value. What it is is settled by [`Body::name`].
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at.saturating_add(bytes.len());
        for (to, from) in self.bytes.get_mut(at..end).into_iter().flatten().zip(bytes) {
            *to = *from;
        }
    }

    /// Applies edits to a copy that is partly there.
    pub fn patch(&mut self, edits: &Seq<'_, Edit<'_>>) {
        for edit in edits.iter() {
            let Some(place) = self.shape.place(&edit) else { continue };
            self.put(place.start, edit.bytes);
        }
    }

    /// Says which value all the bytes put so far are.
    pub fn name(&mut self, named: Named) {
        self.named = named;
    }

    /// Takes over the value of another body.
    pub fn copy_of(&mut self, other: &Body<'_>) {
        self.put(0, other.bytes);
        self.named = other.named;
    }

    /// Exchanges the values of two bodies of one shape. O(1).
    pub fn swap(&mut self, other: &mut Self) {
        core::mem::swap(self, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{lend, scratch};

    const SHAPE: Shape = Shape::new(4, 2, 2);

    fn edit(table: Table, slot: u32, at: u16, bytes: &[u8]) -> Edit<'_> {
        Edit { table, slot, at, bytes }
    }

    #[test]
    fn tables_lie_one_after_the_other_and_end_where_the_memory_does() {
        let place = |table, slot, at, bytes| SHAPE.place(&edit(table, slot, at, bytes));
        assert_eq!(place(Table::Meta, 0, 0, &[0; 384]), Some(0..384));
        assert_eq!(place(Table::Agents, 0, 0, &[1]), Some(384..385));
        assert_eq!(place(Table::Agents, 3, 71, &[1]), Some(671..672));
        assert_eq!(place(Table::Agents, 3, 71, &[1, 2]), None, "beyond its slot");
        assert_eq!(place(Table::Agents, 4, 0, &[]), None, "no such slot");
        assert_eq!(place(Table::Meta, 0, 0, &[0; 385]), None);
        assert_eq!(place(Table::Store, 0, 0, &[]), None, "a set so small has no store");
        let last = place(Table::Redo, 4, 0, &[0; CELL]).unwrap();
        assert_eq!(last.end, SHAPE.bytes());
        let shape = Shape::new(64, 4, 4);
        let edit = edit(Table::Redo, 52, 0, &[0; CELL]);
        assert_eq!(shape.place(&edit).unwrap().end, shape.bytes());
        assert_eq!(Shape::new(1024, 200, 64).slots[1], 1024);
    }

    #[test]
    fn a_change_to_a_partial_copy_is_a_partial_copy_of_the_change() {
        let mut whole = Body::new(SHAPE, lend(SHAPE.bytes()));
        let mut part = Body::new(SHAPE, lend(SHAPE.bytes()));
        let bytes: std::vec::Vec<u8> = (0..SHAPE.bytes()).map(|at| at as u8).collect();
        whole.put(0, &bytes);
        part.put(0, &whole.bytes()[..500]);
        let seq = scratch()
            .seq::<Edit<'static>>([
                edit(Table::Agents, 1, 0, &[9; 72]),
                edit(Table::Revocations, 3, 8, &[7; 8]),
            ])
            .unwrap();
        let named = Named { version: Version { epoch: 1, number: 1 }, hash: 5 };
        assert!(whole.takes(&seq));
        whole.apply(&seq, named);
        part.patch(&seq);
        part.put(500, &whole.bytes()[500..]);
        assert_eq!(part.bytes(), whole.bytes());
        assert_eq!(whole.slot(Table::Agents, 1), Some(&[9; 72][..]));
        assert_eq!(whole.named(), named);
    }

    #[test]
    fn the_hash_tells_apart_what_came_before_which_version_and_what_changed() {
        let base = Named::default();
        let next = Version { epoch: 1, number: 1 };
        let one = chained(base, next, &[1, 2]);
        assert_ne!(one, chained(base, next, &[1, 3]));
        assert_ne!(one, chained(base, Version { epoch: 2, number: 1 }, &[1, 2]));
        assert_ne!(one, chained(Named { hash: 1, ..base }, next, &[1, 2]));
    }
}
