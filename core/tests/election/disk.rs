//! A disk that may forget whatever was not synced, in any combination, torn or whole.

use std::collections::BTreeMap;

use mesita_core::rand::Rng;
use mesita_core::registry::store::{BLOCK, Disk, DiskError};

/// What was done since the disk was known to be in one state.
#[derive(Clone, Debug)]
pub enum Op {
    Write(u32, Box<[u8; BLOCK]>),
    Sync,
}

/// Blocks for sure, and what is under way.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    blocks: BTreeMap<u32, Box<[u8; BLOCK]>>,
    pub log: Vec<Op>,
    /// Memory of blocks that were overwritten.
    spare: Vec<Box<[u8; BLOCK]>>,
}

impl Disk for SimDisk {
    fn read(&mut self, block: u32, into: &mut [u8; BLOCK]) -> Result<(), DiskError> {
        let newest = self.log.iter().rev().find_map(|op| match op {
            Op::Write(at, bytes) if *at == block => Some(bytes),
            Op::Write(..) | Op::Sync => None,
        });
        match newest.or_else(|| self.blocks.get(&block)) {
            Some(bytes) => into.copy_from_slice(&bytes[..]),
            None => into.fill(0),
        }
        Ok(())
    }

    fn write(&mut self, block: u32, from: &[u8; BLOCK]) -> Result<(), DiskError> {
        let mut bytes = self.spare.pop().unwrap_or_else(|| Box::new([0; BLOCK]));
        bytes.copy_from_slice(from);
        self.log.push(Op::Write(block, bytes));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        self.log.push(Op::Sync);
        Ok(())
    }
}

/// What becomes of a write that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Kept,
    /// The first so many bytes are new, the rest is old.
    Torn(usize),
}

impl SimDisk {
    /// Everything done so far is on disk.
    pub fn settle(&mut self) {
        for op in self.log.drain(..) {
            if let Op::Write(at, bytes) = op {
                self.spare.extend(self.blocks.insert(at, bytes));
            }
        }
    }

    /// Nothing under way arrived.
    pub fn without_log(&self) -> Self {
        Self { blocks: self.blocks.clone(), log: vec![], spare: vec![] }
    }

    /// The power goes after `done` operations: what came before the last sync of them is there,
    /// each write after it has a fate of its own.
    pub fn crash_after(&mut self, done: usize, mut fate: impl FnMut(usize) -> Fate) {
        let log: Vec<_> = std::mem::take(&mut self.log).into_iter().take(done).collect();
        let synced = log.iter().rposition(|op| matches!(op, Op::Sync)).unwrap_or(0);
        let mut number = 0;
        for (at, op) in log.into_iter().enumerate() {
            let Op::Write(block, bytes) = op else { continue };
            let becomes = if at < synced { Fate::Kept } else { fate(number) };
            number += usize::from(at >= synced);
            match becomes {
                Fate::Lost => {}
                Fate::Kept => drop(self.blocks.insert(block, bytes)),
                Fate::Torn(len) => {
                    let old = self.blocks.entry(block).or_insert_with(|| Box::new([0; BLOCK]));
                    old[..len].copy_from_slice(&bytes[..len]);
                }
            }
        }
    }

    /// [`SimDisk::crash_after`] some of it, as chance has it.
    pub fn crash(&mut self, rng: &mut Rng) {
        let done = rng.below(self.log.len() as u32 + 1) as usize;
        let mut draws = rng.draw();
        self.crash_after(done, |_| {
            draws = draws.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            match draws >> 62 {
                0 => Fate::Lost,
                1 => Fate::Torn((draws >> 40) as usize % BLOCK),
                _ => Fate::Kept,
            }
        });
    }

    /// Everything is gone.
    pub fn wipe(&mut self) {
        *self = Self::default();
    }

    /// A bit of a block rots.
    pub fn rot(&mut self, block: u32, byte: usize) {
        if let Some(bytes) = self.blocks.get_mut(&block) {
            bytes[byte % BLOCK] ^= 0x10;
        }
    }

    /// Some bytes of a block are others.
    pub fn fill(&mut self, block: u32, from: usize, len: usize, with: impl Fn(usize) -> u8) {
        if let Some(bytes) = self.blocks.get_mut(&block) {
            let places = bytes.iter_mut().skip(from).take(len).enumerate();
            places.for_each(|(n, byte)| *byte = with(n));
        }
    }

    /// Nothing from this block on is there.
    pub fn end_at(&mut self, block: u32) {
        self.blocks.retain(|at, _| *at < block);
    }

    /// A block is as it was on another disk.
    pub fn take_from(&mut self, other: &Self, block: u32) {
        match other.blocks.get(&block) {
            Some(bytes) => drop(self.blocks.insert(block, bytes.clone())),
            None => drop(self.blocks.remove(&block)),
        }
    }

    /// What was written to one block is found in the other.
    pub fn exchange(&mut self, a: u32, b: u32) {
        let (one, other) = (self.blocks.remove(&a), self.blocks.remove(&b));
        self.blocks.extend(one.map(|bytes| (b, bytes)));
        self.blocks.extend(other.map(|bytes| (a, bytes)));
    }

    /// The blocks that were ever written.
    pub fn written(&self) -> Vec<u32> {
        self.blocks.keys().copied().collect()
    }
}
