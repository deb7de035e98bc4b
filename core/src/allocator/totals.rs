//! What all agents together have, and the shares of it: the cached keys of the tree.
//!
//! A share is a fraction of a total under a weight. Its key is a fixed-point number that is off by
//! less than [`BAND`] / 2; keys that are further apart decide, closer ones are decided exactly. The
//! reciprocals behind it are the only divisions, and are made anew when a total changed, once in the
//! next round; a weight other than 1 divides once for each key.

use super::Allocator;
use crate::Refusal;
use crate::limits::KINDS_MAX;
use crate::names::{Name, Names};
use crate::resources::quantities::Kinds;
use crate::resources::{Pool, Quantities};

/// Keys closer than this may be of equal shares, or the other way round.
pub const BAND: u64 = 1 << 13;
/// Keys are rounded to 2^-52 under weight 1.
const KEY_BITS: u32 = 52;
/// Names left out of shares.
pub const EXCLUDED_MAX: usize = 8;

/// The totals, and what shares are computed with.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// What there is, by kind.
    pub amounts: Quantities,
    /// Reciprocals of the totals: see [`Totals::refresh`].
    inverses: [u64; KINDS_MAX],
    shifts: [u8; KINDS_MAX],
    /// Kinds that count: there is something of them, and they are not left out.
    counted: Kinds,
    /// Names of kinds that are left out.
    pub excluded: heapless::Vec<Name, EXCLUDED_MAX>,
}

impl Totals {
    /// There is nothing yet.
    pub const fn new() -> Self {
        Self {
            amounts: Quantities::NONE,
            inverses: [0; KINDS_MAX],
            shifts: [0; KINDS_MAX],
            counted: Kinds::NONE,
            excluded: heapless::Vec::new(),
        }
    }

    /// Computes the reciprocals anew. O(kinds), a division each.
    pub fn refresh(&mut self, pool: &Pool<'_>) {
        self.counted = Kinds::NONE;
        for (kind, total) in self.amounts.iter() {
            let place = usize::from(kind);
            if self.excluded.contains(&pool.kind_name(kind)) {
                continue;
            }
            self.counted.insert(kind);
            // 2^127 over the total, shifted so that its highest bit is set: 64 bits of precision.
            let shift = total.leading_zeros();
            let divisor = u128::from(total.wrapping_shl(shift)).max(1);
            let inverse = (u128::MAX >> 1).checked_div(divisor).unwrap_or(0);
            if let (Some(to), Some(by)) = (self.inverses.get_mut(place), self.shifts.get_mut(place))
            {
                *to = u64::try_from(inverse).unwrap_or(u64::MAX);
                *by = u8::try_from(65u32.saturating_sub(shift)).unwrap_or(u8::MAX);
            }
        }
    }

    /// Kinds that count in shares.
    pub const fn counted(&self) -> Kinds {
        self.counted
    }

    /// The dominant amount, its total, and the key of their fraction under `weight`. O(kinds).
    pub fn share(&self, allocated: &Quantities, weight: u32) -> (u64, u64, u64) {
        let (mut dominant, mut total, mut best) = (0u64, 1u64, 0u64);
        for kind in self.counted.iter() {
            let amount = allocated.of(kind);
            if amount == 0 {
                continue;
            }
            let fraction = self.fraction(kind, amount);
            // Too close for the rounded fractions: by cross-multiplication, 54 + 54 bits.
            let close = fraction.abs_diff(best) <= CLOSE;
            let all = self.amounts.of(kind);
            let larger = if close {
                let mine = u128::from(amount).wrapping_mul(u128::from(total));
                mine > u128::from(dominant).wrapping_mul(u128::from(all))
            } else {
                fraction > best
            };
            if larger {
                (dominant, total, best) = (amount, all, fraction);
            }
        }
        (dominant, total, weighted(best, weight))
    }

    /// `amount` over the total of its kind, in 2^-62, off by less than 3; beyond 4 it is `MAX`.
    fn fraction(&self, kind: u8, amount: u64) -> u64 {
        let place = usize::from(kind);
        let (inverse, shift) = match (self.inverses.get(place), self.shifts.get(place)) {
            (Some(inverse), Some(shift)) => (*inverse, *shift),
            _ => return 0,
        };
        // 54 bits times 64; the shift is at least 2.
        let product = u128::from(amount).wrapping_mul(u128::from(inverse));
        u64::try_from(product >> (shift & 127)).unwrap_or(u64::MAX)
    }
}

impl Default for Totals {
    fn default() -> Self {
        Self::new()
    }
}

/// Fractions in 2^-62 closer than this are compared exactly.
const CLOSE: u64 = 8;

/// A fraction under a weight of thousandths.
fn weighted(fraction: u64, weight: u32) -> u64 {
    let rounded = fraction >> (62 - KEY_BITS);
    if weight == super::node::WEIGHT_ONE {
        return rounded;
    }
    // 54 bits times 10: nothing is lost above.
    rounded.wrapping_mul(1000).checked_div(weight.into()).unwrap_or(u64::MAX)
}

impl Allocator<'_> {
    /// Leaves a resource out of all shares (Mesos: `--fair_sharing_excluded_resource_names`).
    /// `KindsFull` when [`EXCLUDED_MAX`] are left out already, `NamesFull` without room for its name.
    pub fn leave_out(&mut self, names: &mut Names<'_>, name: &str) -> Result<(), Refusal> {
        if names.find(name).is_some_and(|name| self.totals.excluded.contains(&name)) {
            return Ok(());
        }
        if self.totals.excluded.is_full() {
            return Err(Refusal::KindsFull);
        }
        let name = names.intern(name).map_err(|_| Refusal::NamesFull)?;
        let pushed = self.totals.excluded.push(name);
        invariant!(pushed.is_ok(), "a name that was counted has no room");
        self.state.stale = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocator::node::{Node, NodeKind};
    use crate::names::{Bucket, Cell, Entry, Names};
    use crate::resources::pool::{self, CPUS, DISK, MEM};
    use crate::testing::lend;
    use proptest::prelude::*;

    fn totals(of: &[(u8, u64)]) -> Totals {
        let mut names = Names::new(lend::<Entry>(8), lend::<Cell>(8), lend::<Bucket>(8), 1);
        let memory = pool::Memory { idents: lend(6), layers: lend(1), parts: lend(1) };
        let pool = Pool::new(memory, &mut names).unwrap();
        let mut totals = Totals::new();
        of.iter().for_each(|(kind, milli)| totals.amounts.set(*kind, *milli));
        totals.refresh(&pool);
        totals
    }

    #[test]
    fn the_dominant_resource_is_the_largest_fraction() {
        let totals = totals(&[(CPUS, 9_000), (MEM, 18_000)]);
        let mut node = Node::new(NodeKind::Client, 0);
        node.rekey(&totals);
        assert_eq!((node.rank.dominant, node.rank.total), (0, 1));
        node.allocated.set(CPUS, 1_000);
        node.allocated.set(MEM, 4_000);
        node.allocated.set(DISK, 7_000);
        node.rekey(&totals);
        let found = (node.rank.dominant, node.rank.total);
        assert_eq!(found, (4_000, 18_000), "there is no disk to share");
    }

    proptest! {
        /// The dominant resource is exact, and a key is off by less than half of the band.
        #[test]
        fn shares_are_what_exact_fractions_say(
            have in [0u64..1 << 50, 0u64..1 << 50, 0u64..1 << 50],
            all in [1u64..1 << 54, 1u64..1 << 50, 1u64..1 << 20],
            weight in 1u32..=1_000_000,
        ) {
            let kinds = [CPUS, MEM, DISK];
            let of: std::vec::Vec<_> = kinds.into_iter().zip(all).collect();
            let totals = totals(&of);
            let mut allocated = Quantities::NONE;
            for ((kind, amount), total) in kinds.into_iter().zip(have).zip(all) {
                allocated.set(kind, amount.min(total.saturating_mul(3)));
            }
            let (dominant, total, key) = totals.share(&allocated, weight);
            for (kind, all) in of {
                let theirs = u128::from(allocated.of(kind)) * u128::from(total);
                prop_assert!(theirs <= u128::from(dominant) * u128::from(all));
            }
            // The exact key, by long division: dominant * 2^52 * 1000 / (total * weight).
            let exact = divide(u128::from(dominant) * 1000, u128::from(total) * u128::from(weight));
            prop_assert!(u128::from(key).abs_diff(exact) < u128::from(BAND) / 2, "{} {}", key, exact);
        }
    }

    /// `over * 2^52 / under`, digit by digit.
    fn divide(mut over: u128, under: u128) -> u128 {
        let mut result = over / under;
        over %= under;
        for _ in 0..KEY_BITS {
            over *= 2;
            result = result * 2 + over / under;
            over %= under;
        }
        result
    }
}
