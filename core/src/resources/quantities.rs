//! Amounts by kind of scalar resource, whoever's they are (Mesos: `ResourceQuantities`).

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{AMOUNT_MAX, KINDS_MAX};

/// Thousandths of each of at most 16 kinds, by the kind's number.
///
/// In an image: which kinds there are any of, then those, for most rows have three or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Zeroable)]
pub struct Quantities {
    milli: [u64; KINDS_MAX],
}

impl crate::record::Zero for Quantities {
    const ZERO: Self = Self::NONE;
}

impl Serialize for Quantities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_tuple(KINDS_MAX + 1)?;
        parts.serialize_element(&self.kinds())?;
        for (_, milli) in self.iter() {
            parts.serialize_element(&milli)?;
        }
        parts.end()
    }
}

impl<'de> Deserialize<'de> for Quantities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = Quantities;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("kinds and their amounts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Quantities, A::Error> {
                let missing = || <A::Error as serde::de::Error>::custom("amounts cut short");
                let kinds: Kinds = parts.next_element()?.ok_or_else(missing)?;
                let mut amounts = Quantities::NONE;
                for kind in kinds.iter() {
                    amounts.set(kind, parts.next_element()?.ok_or_else(missing)?);
                }
                Ok(amounts)
            }
        }

        deserializer.deserialize_tuple(KINDS_MAX + 1, Parts)
    }
}

impl Quantities {
    /// Nothing of anything.
    pub const NONE: Self = Self { milli: [0; KINDS_MAX] };
    /// As much of everything as can be counted: no limit.
    pub const ENDLESS: Self = Self { milli: [u64::MAX; KINDS_MAX] };

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

    /// Takes from a kind what must be there.
    pub fn subtract(&mut self, kind: u8, milli: u64) {
        if let Some(place) = self.milli.get_mut(usize::from(kind)) {
            invariant!(*place >= milli, "more is taken back than was given");
            *place = place.saturating_sub(milli);
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

    /// What is left of each kind after `other`, none of it below zero. O(kinds).
    pub fn without(&self, other: &Self) -> Self {
        let mut left = *self;
        for (mine, theirs) in left.milli.iter_mut().zip(other.milli) {
            *mine = mine.saturating_sub(theirs);
        }
        left
    }

    /// The larger of both, kind by kind. O(kinds).
    pub fn at_least(&self, other: &Self) -> Self {
        let mut most = *self;
        for (mine, theirs) in most.milli.iter_mut().zip(other.milli) {
            *mine = theirs.max(*mine);
        }
        most
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

    /// Kinds of which there is something, as bits.
    pub fn kinds(&self) -> Kinds {
        let mut kinds = Kinds::NONE;
        self.iter().for_each(|(kind, _)| kinds.insert(kind));
        kinds
    }
}

record! {
    /// A set of kinds: a bit for each.
    #[derive(Default)]
    pub struct Kinds {
        bits: u16,
    }
}

impl Kinds {
    /// None.
    pub const NONE: Self = Self { bits: 0 };
    /// All.
    pub const ALL: Self = Self { bits: u16::MAX };

    /// True when there is none.
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// True when `kind` is in it.
    pub fn contains(self, kind: u8) -> bool {
        self.bits & bit(kind) != 0
    }

    /// Puts `kind` in.
    pub fn insert(&mut self, kind: u8) {
        self.bits |= bit(kind);
    }

    /// Takes `kind` out.
    pub fn remove(&mut self, kind: u8) {
        self.bits &= !bit(kind);
    }

    /// Those of either.
    pub const fn or(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits }
    }

    /// The kinds in it, the lowest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        let mut left = self.bits;
        core::iter::from_fn(move || {
            let kind = u8::try_from(left.trailing_zeros()).ok().filter(|_| left != 0)?;
            left &= left.wrapping_sub(1);
            Some(kind)
        })
    }
}

fn bit(kind: u8) -> u16 {
    1u16.checked_shl(kind.into()).unwrap_or(0)
}

fn sum(a: u64, b: u64) -> u64 {
    let sum = a.saturating_add(b);
    invariant!(sum <= SUM_MAX, "a sum of resources beyond 2^54 thousandths");
    sum
}

/// What all agents together have of a kind, and what is charged of it, stays at or below this: two
/// of them and a weight fit 128 bits.
pub const SUM_MAX: u64 = AMOUNT_MAX << 4;

const _: () = assert!(SUM_MAX.ilog2() * 2 + crate::limits::WEIGHT_MAX.ilog2() < 128);
