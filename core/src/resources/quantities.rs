//! Amounts by kind of scalar resource, whoever's they are (Mesos: `ResourceQuantities`).

use crate::limits::{AMOUNT_MAX, KINDS_MAX};

record! {
    /// Thousandths of each of at most 16 kinds, by the kind's number.
    #[derive(Default)]
    pub struct Quantities {
        milli: [u64; KINDS_MAX],
    }
}

impl Quantities {
    /// Nothing of anything.
    pub const NONE: Self = Self { milli: [0; KINDS_MAX] };

    /// Thousandths of a kind.
    pub fn of(&self, kind: u8) -> u64 {
        self.milli.get(usize::from(kind)).copied().unwrap_or(0)
    }

    /// Sets a kind.
    pub fn set(&mut self, kind: u8, milli: u64) {
        if let Some(place) = self.milli.get_mut(usize::from(kind)) {
            *place = milli;
        }
    }

    /// Adds to a kind. Sums of what exists stay far below the limit; beyond it is a broken invariant.
    pub fn add(&mut self, kind: u8, milli: u64) {
        if let Some(place) = self.milli.get_mut(usize::from(kind)) {
            *place = sum(*place, milli);
        }
    }

    /// Adds all of `other`. O(kinds).
    pub fn add_all(&mut self, other: &Self) {
        for (mine, theirs) in self.milli.iter_mut().zip(other.milli) {
            *mine = sum(*mine, theirs);
        }
    }

    /// Takes all of `other` away, which must be there. O(kinds).
    pub fn subtract_all(&mut self, other: &Self) {
        for (mine, theirs) in self.milli.iter_mut().zip(other.milli) {
            invariant!(*mine >= theirs, "more is taken back than was given");
            *mine = mine.saturating_sub(theirs);
        }
    }

    /// True when there is at least as much of everything as in `other`. O(kinds).
    pub fn contain(&self, other: &Self) -> bool {
        self.milli.iter().zip(other.milli).all(|(mine, theirs)| *mine >= theirs)
    }

    /// True when there is nothing. O(kinds).
    pub fn is_empty(&self) -> bool {
        self.milli.iter().all(|milli| *milli == 0)
    }

    /// Kinds of which there is something, with their thousandths.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u64)> {
        (0u8..).zip(self.milli).filter(|(_, milli)| *milli > 0)
    }
}

fn sum(a: u64, b: u64) -> u64 {
    let sum = a.saturating_add(b);
    invariant!(sum <= AMOUNT_MAX << 8, "a sum of resources beyond 2^58 thousandths");
    sum
}
