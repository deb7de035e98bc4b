//! Rows with stable ids in memory that the caller lends: every bounded collection of the core.
//!
//! A never-used slot is all zero bytes and a new table writes nothing, so a table of a million rows
//! costs the pages that its rows touched. Read [`Table::insert`] before changing the order in which
//! slots are reused: ids reach the wire and the digest.

use bytemuck::Zeroable;
use serde::{Deserialize, Serialize};

use crate::image::{BadImage, Image, Reader, Writer};
use crate::record::Zero;

mod full;

pub use full::Full;

record! {
    /// Names one row of one table, once: index and generation, both u32. Zero names none.
    ///
    /// A generation is odd while its row lives, so an id of a removed row never names the next one.
    #[derive(PartialOrd, Ord, Hash, Default)]
    pub struct Id {
        /// The slot, counted from 0.
        pub index: u32,
        /// How often the slot was taken and freed.
        pub generation: u32,
    }
}

impl Id {
    /// Names no row.
    pub const NONE: Self = Self { index: 0, generation: 0 };

    /// This id, unless it names none.
    pub const fn some(self) -> Option<Self> {
        if self.generation == 0 { None } else { Some(self) }
    }
}

/// The memory of one row: lend a zeroed slice of them to [`Table::new`].
#[derive(Clone, Copy, Debug, Zeroable)]
#[repr(C)]
pub struct Slot<T> {
    generation: u32,
    /// The next free slot, as index + 1; meaningless while the row lives.
    next: u32,
    value: T,
}

impl<T: Zero> Zero for Slot<T> {
    const ZERO: Self = Self { generation: 0, next: 0, value: T::ZERO };
}

/// Rows of `T`. The memory is the caller's; its length is the capacity.
#[derive(Debug)]
pub struct Table<'a, T> {
    slots: &'a mut [Slot<T>],
    /// Slots ever taken: everything from here on is still zero.
    used: u32,
    live: u32,
    /// Slots worn out, which nothing is put in any more.
    retired: u32,
    /// Freed slots in the order they were freed, as index + 1; 0 = none.
    free_first: u32,
    free_last: u32,
}

impl<'a, T: Copy> Table<'a, T> {
    /// An empty table in `slots`, which must be all zero. O(1). Slots past 2^32 − 2 are not used.
    pub fn new(slots: &'a mut [Slot<T>]) -> Self {
        Self { slots, used: 0, live: 0, retired: 0, free_first: 0, free_last: 0 }
    }

    /// Gives the memory back, as the rows left it.
    pub fn release(self) -> &'a mut [Slot<T>] {
        self.slots
    }

    /// Rows it can hold.
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX).min(u32::MAX.wrapping_sub(1))
    }

    /// Rows in it.
    pub fn len(&self) -> u32 {
        self.live
    }

    /// True when it has no row.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Rows that can still be inserted; a retired slot does not count.
    pub fn room(&self) -> u32 {
        self.capacity().saturating_sub(self.live).saturating_sub(self.retired)
    }

    /// Puts a row in the slot freed longest ago, else in the next fresh one. O(1).
    pub fn insert(&mut self, value: T) -> Result<Id, Full> {
        let index = match self.free_first.checked_sub(1) {
            Some(index) => {
                let slot = self.slots.get(index as usize).ok_or(Full)?;
                self.free_first = slot.next;
                if self.free_first == 0 {
                    self.free_last = 0;
                }
                index
            }
            None if self.used < self.capacity() => {
                let index = self.used;
                self.used = self.used.saturating_add(1);
                index
            }
            None => return Err(Full),
        };
        let slot = self.slots.get_mut(index as usize).ok_or(Full)?;
        invariant!(slot.generation.is_multiple_of(2), "a free slot has a living row");
        slot.generation |= 1;
        slot.next = 0;
        slot.value = value;
        self.live = self.live.saturating_add(1);
        Ok(Id { index, generation: slot.generation })
    }

    /// A copy of the row that `id` names. O(1).
    pub fn get(&self, id: Id) -> Option<T> {
        self.get_ref(id).copied()
    }

    /// The row that `id` names. O(1).
    pub fn get_ref(&self, id: Id) -> Option<&T> {
        let slot = self.slots.get(id.index as usize)?;
        (slot.generation == id.generation && id.generation % 2 == 1).then_some(&slot.value)
    }

    /// The row that `id` names, to be changed. O(1).
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index as usize)?;
        (slot.generation == id.generation && id.generation % 2 == 1).then_some(&mut slot.value)
    }

    /// The living row in slot `index` with its id. O(1).
    pub fn at(&self, index: u32) -> Option<(Id, T)> {
        let slot = self.slots.get(index as usize)?;
        let id = Id { index, generation: slot.generation };
        (slot.generation % 2 == 1).then_some((id, slot.value))
    }

    /// The living row in slot `index`, where it stands. O(1).
    pub fn row(&self, index: u32) -> Option<&T> {
        let slot = self.slots.get(index as usize)?;
        (slot.generation % 2 == 1).then_some(&slot.value)
    }

    /// The living row in slot `index`, to be changed. O(1).
    pub fn row_mut(&mut self, index: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index as usize)?;
        (slot.generation % 2 == 1).then_some(&mut slot.value)
    }

    /// The id of the living row in slot `index`. O(1).
    pub fn id_at(&self, index: u32) -> Option<Id> {
        let generation = self.slots.get(index as usize)?.generation;
        (generation % 2 == 1).then_some(Id { index, generation })
    }

    /// Takes a row out and returns it. O(1). Its slot is the last to be used again.
    pub fn remove(&mut self, id: Id) -> Option<T> {
        let value = self.get(id)?;
        let slot = self.slots.get_mut(id.index as usize)?;
        self.live = self.live.saturating_sub(1);
        slot.next = 0;
        match slot.generation.checked_add(1) {
            Some(generation) => slot.generation = generation,
            None => {
                // Worn out after 2^31 rows: an even generation that no free list names.
                slot.generation = u32::MAX.wrapping_sub(1);
                self.retired = self.retired.saturating_add(1);
                return Some(value);
            }
        }
        let freed = id.index.saturating_add(1);
        match self.free_last.checked_sub(1) {
            Some(last) => {
                if let Some(last) = self.slots.get_mut(last as usize) {
                    last.next = freed;
                }
            }
            None => self.free_first = freed,
        }
        self.free_last = freed;
        Some(value)
    }

    /// The first row in slot order that `wanted` accepts, by copy. O(slots ever used).
    pub fn find(&self, mut wanted: impl FnMut(&T) -> bool) -> Option<(Id, T)> {
        self.iter().find(|(_, row)| wanted(row)).map(|(id, row)| (id, *row))
    }

    /// All rows in slot order. O(slots ever used).
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.slots.iter().take(self.used as usize).zip(0u32..).filter_map(|(slot, index)| {
            let id = Id { index, generation: slot.generation };
            (slot.generation % 2 == 1).then_some((id, &slot.value))
        })
    }

    /// One past the highest slot ever used: the bound of a walk by [`Table::at`].
    pub fn high_water(&self) -> u32 {
        self.used
    }
}

impl<T: Copy + Serialize + for<'de> Deserialize<'de>> Image for Table<'_, T> {
    fn export(&self, to: &mut Writer<'_>) {
        to.put(&(self.used, self.live, self.retired, self.free_first, self.free_last));
        for slot in self.slots.iter().take(self.used as usize) {
            to.put(&slot.generation);
            if slot.generation % 2 == 1 {
                to.put(&slot.value);
            } else {
                to.put(&slot.next);
            }
        }
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        (self.used, self.live, self.retired, self.free_first, self.free_last) = from.take()?;
        let rows = self.slots.get_mut(..self.used as usize).ok_or(BadImage::TooLarge)?;
        for slot in rows {
            slot.generation = from.take()?;
            if slot.generation % 2 == 1 {
                slot.value = from.take()?;
            } else {
                slot.next = from.take()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest;
    use std::vec;
    use std::vec::Vec;

    fn slots(n: usize) -> Vec<Slot<u64>> {
        vec![Slot::ZERO; n]
    }

    #[test]
    fn a_full_table_refuses_and_changes_nothing() {
        let mut memory = slots(2);
        let mut table = Table::new(&mut memory);
        table.insert(1).unwrap();
        table.insert(2).unwrap();
        let before = digest::of_image(&table);
        assert_eq!(table.insert(3), Err(Full));
        assert_eq!(table.room(), 0);
        assert_eq!(digest::of_image(&table), before);
    }

    #[test]
    fn an_id_of_a_removed_row_names_no_later_one() {
        let mut memory = slots(1);
        let mut table = Table::new(&mut memory);
        let old = table.insert(1).unwrap();
        assert_eq!(table.remove(old), Some(1));
        let new = table.insert(2).unwrap();
        assert_eq!(new.index, old.index);
        assert_eq!(table.get(old), None);
        assert_eq!(table.remove(old), None);
        assert_eq!(table.get(new), Some(2));
        assert_eq!(table.get(Id::NONE), None);
    }

    #[test]
    fn free_slots_are_reused_first_in_first_out() {
        let mut memory = slots(3);
        let mut table = Table::new(&mut memory);
        let ids: Vec<_> = (0..3).map(|n| table.insert(n).unwrap()).collect();
        for n in [1, 0, 2] {
            table.remove(ids[n]);
        }
        let again: Vec<_> = (0..3).map(|n| table.insert(n).unwrap().index).collect();
        assert_eq!(again, [1, 0, 2]);
    }

    #[test]
    fn a_worn_out_slot_is_retired() {
        let mut memory = slots(1);
        memory[0].generation = u32::MAX - 1;
        let mut table = Table::new(&mut memory);
        let last = table.insert(1).unwrap();
        assert_eq!(last.generation, u32::MAX);
        table.remove(last);
        assert_eq!(table.insert(2), Err(Full));
        assert_eq!((table.len(), table.room()), (0, 0));
    }

    #[test]
    fn an_imported_table_goes_on_as_the_exported_one() {
        let (mut memory, mut other) = (slots(4), slots(5));
        let mut table = Table::new(&mut memory);
        let ids: Vec<_> = (0..4).map(|n| table.insert(n).unwrap()).collect();
        table.remove(ids[2]);
        table.remove(ids[0]);
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
        table.export(&mut Writer::new(&mut sink));
        let mut copy = Table::new(&mut other);
        copy.import(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(digest::of_image(&copy), digest::of_image(&table));
        assert_eq!(copy.insert(9), table.insert(9));
        let mut small = slots(2);
        let refused = Table::new(&mut small).import(&mut Reader::new(&bytes));
        assert_eq!(refused, Err(BadImage::TooLarge));
    }

    #[test]
    fn a_table_never_used_touches_no_memory() {
        let mut memory = slots(8);
        let table = Table::new(&mut memory);
        let memory = table.release();
        assert!(memory.iter().all(|slot| slot.generation == 0 && slot.value == 0));
    }
}
