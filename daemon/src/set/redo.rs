//! A change of the registry that is larger than what goes at once: written down as a whole in cells
//! of its own, then done, then taken away. The first cell is written last, so a leader that ends in
//! between leaves nothing that counts, or all that the next one needs to go on.

use std::collections::BTreeMap;

use mesita_core::registry::cells::{CELL, Cell, DATA};
use mesita_core::wire::encode;
use mesita_core::wire::gossip::Table;

use super::kept::Write;

/// Bytes of a table, a slot and a length, at the most.
const AROUND: usize = 16;

/// The cells of a change, in the order of their slots.
pub(super) fn cells<'w>(writes: impl Iterator<Item = &'w Write>) -> Vec<Vec<u8>> {
    let (mut count, mut bytes) = (0u32, vec![0; 4]);
    for (table, slot, row) in writes {
        let mut part = vec![0; row.len() + AROUND];
        // It was measured.
        let part = encode(&(*table, *slot, row.as_slice()), &mut part).unwrap_or_default();
        bytes.extend_from_slice(part);
        count += 1;
    }
    bytes[..4].copy_from_slice(&count.to_le_bytes());
    let parts: Vec<&[u8]> = bytes.chunks(DATA).collect();
    let cell = |(at, data): (u32, &&[u8])| {
        let next = (at as usize + 1 < parts.len()).then_some(at + 1);
        Cell { first: at == 0, next, data }.write(&mut [0; CELL]).to_vec()
    };
    (0..).zip(&parts).map(cell).collect()
}

/// The change that is written down in these cells, if one is.
pub(super) fn found(cells: &BTreeMap<u32, Vec<u8>>) -> Option<Vec<Write>> {
    let mut cell = Cell::read(cells.get(&0)?).filter(|cell| cell.first)?;
    let (mut bytes, mut at) = (cell.data.to_vec(), 0);
    while let Some(next) = cell.next {
        // A later place, or none that was ever written.
        if next <= at {
            return None;
        }
        at = next;
        cell = Cell::read(cells.get(&next)?).filter(|cell| !cell.first)?;
        bytes.extend_from_slice(cell.data);
    }
    let (count, mut rest) = bytes.split_first_chunk::<4>()?;
    let mut writes = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (table, slot, row): (Table, u32, &[u8]);
        ((table, slot, row), rest) = postcard::take_from_bytes(rest).ok()?;
        writes.push((table, slot, row.to_vec()));
    }
    Some(writes)
}
