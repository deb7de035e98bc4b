//! The frameworks' store in the registry: which cells an entry is in, and in which order they are
//! written ([`mesita_core::registry::cells`]).

use std::collections::BTreeMap;

use mesita_core::registry::cells::{CELL, Cell, DATA, Entry};
use mesita_core::registry::rows::EMPTY;
use mesita_core::wire::gossip::Table;

use super::kept::Rows;

/// Whose, and what.
pub(crate) type Name = (Box<str>, Box<str>);

/// An entry of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) owner: Box<str>,
    pub(crate) key: Box<str>,
    pub(crate) version: u64,
    pub(crate) value: Vec<u8>,
}

impl Stored {
    /// The same, as it lies in its cells.
    pub(crate) fn entry(&self) -> Entry<'_> {
        let Self { owner, key, version, value } = self;
        Entry { owner, key, version: *version, value }
    }

    fn of(entry: &Entry<'_>) -> Self {
        let Entry { owner, key, version, value } = *entry;
        Self { owner: owner.into(), key: key.into(), version, value: value.to_vec() }
    }
}

/// Where entries are.
#[derive(Debug, Default)]
pub(super) struct Cells {
    slots: BTreeMap<Name, Vec<u32>>,
}

impl Cells {
    /// Writes an entry, then empties the cells of the one that it replaces. There is room for it.
    pub(super) fn keep(&mut self, rows: &mut Rows, stored: &Stored) {
        // Our own types have no way to fail.
        let bytes = postcard::to_allocvec(&stored.entry()).unwrap_or_default();
        let parts: Vec<&[u8]> = bytes.chunks(DATA).collect();
        let slots: Vec<u32> = parts.iter().map_while(|_| rows.take_slot(Table::Store)).collect();
        if slots.len() < parts.len() {
            slots.iter().for_each(|slot| rows.free_slot_of(Table::Store, *slot));
            return log::error!("no room in the registry for what was stored: see --size");
        }
        for at in (0..parts.len()).rev() {
            let cell = Cell { first: at == 0, next: slots.get(at + 1).copied(), data: parts[at] };
            rows.ask(Table::Store, slots[at], cell.write(&mut [0; CELL]).to_vec());
        }
        let name = (stored.owner.clone(), stored.key.clone());
        let before = self.slots.insert(name, slots);
        empty(rows, &before.unwrap_or_default());
    }

    /// Empties the cells of an entry, if there is one.
    pub(super) fn forget(&mut self, rows: &mut Rows, name: &Name) {
        let before = self.slots.remove(name);
        empty(rows, &before.unwrap_or_default());
    }

    /// Finds entries in cells, and empties those that no first one leads to: a leader ended while it
    /// wrote them.
    pub(super) fn found(&mut self, rows: &mut Rows, cells: &BTreeMap<u32, Vec<u8>>) -> Vec<Stored> {
        let mut newest = BTreeMap::<Name, (Stored, Vec<u32>)>::new();
        let mut left: Vec<u32> = cells.keys().copied().collect();
        for (stored, slots) in entries(cells) {
            let name = (stored.owner.clone(), stored.key.clone());
            let older = newest.get(&name).is_some_and(|(known, _)| known.version > stored.version);
            if !older {
                newest.insert(name, (stored, slots));
            }
        }
        for (_, slots) in newest.values() {
            left.retain(|slot| !slots.contains(slot));
        }
        empty(rows, &left);
        self.slots =
            newest.iter().map(|(name, (_, slots))| (name.clone(), slots.clone())).collect();
        newest.into_values().map(|(stored, _)| stored).collect()
    }
}

/// Everything that a first cell leads to, with the slots that it is in.
fn entries(cells: &BTreeMap<u32, Vec<u8>>) -> impl Iterator<Item = (Stored, Vec<u32>)> + '_ {
    cells.iter().filter_map(|(slot, bytes)| {
        let mut cell = Cell::read(bytes).filter(|cell| cell.first)?;
        let (mut slots, mut bytes) = (vec![*slot], cell.data.to_vec());
        while let Some(next) = cell.next {
            // A ring of cells is none that was ever written.
            if slots.contains(&next) {
                return None;
            }
            cell = Cell::read(cells.get(&next)?).filter(|cell| !cell.first)?;
            slots.push(next);
            bytes.extend_from_slice(cell.data);
        }
        Some((Stored::of(&Entry::read(&bytes)?), slots))
    })
}

/// What is stored in these slots of the registry, the newest of each key.
pub(crate) fn stored(values: &[(Table, u32, Vec<u8>)]) -> Vec<Stored> {
    let here = values.iter().filter(|(table, _, _)| *table == Table::Store);
    let cells = here.map(|(_, slot, bytes)| (*slot, bytes.clone())).collect();
    let mut newest = BTreeMap::<Name, Stored>::new();
    for (one, _) in entries(&cells) {
        let known = newest.get(&(one.owner.clone(), one.key.clone()));
        if known.is_none_or(|known| known.version < one.version) {
            newest.insert((one.owner.clone(), one.key.clone()), one);
        }
    }
    newest.into_values().collect()
}

fn empty(rows: &mut Rows, slots: &[u32]) {
    for slot in slots {
        rows.free_slot_of(Table::Store, *slot);
        rows.ask(Table::Store, *slot, EMPTY.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use mesita_core::registry::body::Shape;

    use super::*;

    fn one(key: &str, version: u64, bytes: usize) -> Stored {
        let value = vec![u8::try_from(version).unwrap(); bytes];
        Stored { owner: "web".into(), key: key.into(), version, value }
    }

    /// Everything that is written, change by change.
    fn changes(rows: &mut Rows) -> Vec<Vec<(u32, Vec<u8>)>> {
        let mut all = Vec::new();
        while let Some(some) = rows.next(|edits| {
            edits.iter().map(|edit| (edit.slot, edit.bytes.to_vec())).collect::<Vec<_>>()
        }) {
            rows.committed();
            all.push(some);
        }
        all
    }

    fn after(changes: &[Vec<(u32, Vec<u8>)>]) -> BTreeMap<u32, Vec<u8>> {
        let mut cells: BTreeMap<u32, Vec<u8>> = changes.iter().flatten().cloned().collect();
        cells.retain(|_, bytes| bytes[0] != 0);
        cells
    }

    #[test]
    fn wherever_a_leader_ends_the_old_value_or_the_new_one_is_there() {
        let shape = Shape::new(64, 4, 4);
        let (mut rows, mut cells) = (Rows::new(shape), Cells::default());
        let (old, new) = (one("state", 1, 4096), one("state", 2, 3000));
        cells.keep(&mut rows, &old);
        let mut all = changes(&mut rows);
        let first = all.len();
        assert_eq!(first, 5, "two cells in a change");
        cells.keep(&mut rows, &new);
        all.extend(changes(&mut rows));
        for ends in 0..=all.len() {
            let cells = after(&all[..ends]);
            let (mut rows, mut found) = (Rows::new(shape), Cells::default());
            cells.iter().for_each(|(slot, bytes)| rows.found(Table::Store, *slot, bytes));
            let stored = found.found(&mut rows, &cells);
            let expected = match ends {
                _ if ends < first => None,
                _ if stored == [new.clone()] => Some(&new),
                _ => Some(&old),
            };
            assert_eq!(stored.first(), expected, "after {ends} changes");
            // What nobody sees is emptied: all of it that is left is the entry's.
            changes(&mut rows);
            let cells = stored.first().map_or(0, |one| one.value.len() / DATA + 1);
            assert_eq!(rows.slots_used(Table::Store), cells, "after {ends} changes");
        }
        let name = ("web".into(), "state".into());
        cells.forget(&mut rows, &name);
        all.extend(changes(&mut rows));
        assert!(after(&all).is_empty());
        assert_eq!(rows.slots_used(Table::Store), 0);
    }
}
