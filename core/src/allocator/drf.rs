//! Dominant Resource Fairness (Ghodsi et al., NSDI 2011; Mesos: `DRFSorter`).
//!
//! A node's share is its largest fraction of any resource's total, divided by its weight; the
//! smallest share is served first. Keys that are far enough apart decide; else shares are compared
//! exactly: allocation a of total t under weight w against a', t', w' by a·t'·w' < a'·t·w in 128
//! bits, which 2^54 · 2^54 · 2^20 fits.
//! Ties: fewer allocations so far, then the bytes of the role's name, then the framework's slot.

use super::node::{Node, NodeKind, Rank};
use super::sorter::Sorter;
use super::totals::BAND;
use super::tree::{Forest, Group, Outcome};
use crate::names::Names;
use crate::rand::Rng;
use crate::table::Table;

/// The policy; it has no state of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drf;

impl Sorter for Drf {
    #[inline]
    fn value(&self, rank: &Rank) -> u64 {
        rank.key
    }

    #[inline]
    fn play(
        &self,
        nodes: &Table<'_, Node>,
        names: &Names<'_>,
        left: Outcome,
        right: Outcome,
    ) -> Outcome {
        let (Some(a), Some(b)) = (left.winner.checked_sub(1), right.winner.checked_sub(1)) else {
            return if left.winner == 0 { right } else { left };
        };
        let (mine, theirs) = (left.value.get(), right.value.get());
        let first = if mine.abs_diff(theirs) >= BAND {
            mine < theirs
        } else {
            let (Some(a), Some(b)) = (nodes.row(a), nodes.row(b)) else { return left };
            before(names, a, b)
        };
        if first { left } else { right }
    }

    fn next(
        &self,
        forest: &Forest<'_>,
        nodes: &Table<'_, Node>,
        group: Group,
        _rng: &mut Rng,
    ) -> Option<u32> {
        forest.outcome(nodes, self, group).winner.checked_sub(1)
    }

    fn draws(&self) -> bool {
        false
    }
}

/// True when `a` comes before `b`, its sibling: a strict order over all siblings.
pub(super) fn before(names: &Names<'_>, a: &Node, b: &Node) -> bool {
    let (x, y) = (&a.rank, &b.rank);
    // Of the same resource under the same weight, which is the rule, amounts are shares.
    if (x.total, x.weight) == (y.total, y.weight) {
        if x.dominant != y.dominant {
            return x.dominant < y.dominant;
        }
    } else {
        let (mine, theirs) = (share(x, y), share(y, x));
        if mine != theirs {
            return mine < theirs;
        }
    }
    if x.count != y.count {
        return x.count < y.count;
    }
    if x.order != y.order {
        return x.order < y.order;
    }
    // Only names that begin with the same eight bytes come here.
    a.kind == NodeKind::Role && names.cmp(a.name, b.name).is_lt()
}

/// `of`'s allocation over the denominators of `other`: what cross-multiplication compares.
fn share(of: &Rank, other: &Rank) -> u128 {
    // 54 bits times at most 54 + 20: within 128, so wrapping never happens.
    let denominator = u128::from(other.total).wrapping_mul(u128::from(other.weight));
    u128::from(of.dominant).wrapping_mul(denominator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(dominant: u64, total: u64, weight: u32) -> Node {
        let mut node = Node::new(NodeKind::Client, 0);
        (node.rank.dominant, node.rank.total, node.rank.weight) = (dominant, total, weight);
        node
    }

    fn no_names() -> Names<'static> {
        Names::new(&mut [], &mut [], &mut [], 0)
    }

    #[test]
    fn equal_shares_of_different_resources_are_equal() {
        // 3 of 9 and 6 of 18 are the same third, and so is a sixth at half the weight.
        let names = no_names();
        let (a, b, c) = (node(3, 9, 1000), node(6, 18, 1000), node(3, 18, 500));
        for (x, y) in [(a, b), (b, c), (a, c)] {
            assert!(!before(&names, &x, &y) && !before(&names, &y, &x));
        }
        let mut busier = a;
        busier.rank.count = 1;
        assert!(before(&names, &b, &busier));
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_exact_fractions(
            a in (0u64..1 << 54, 1u64..1 << 54, 1u32..1_000_000),
            b in (0u64..1 << 54, 1u64..1 << 54, 1u32..1_000_000),
        ) {
            let names = no_names();
            let (x, y) = (node(a.0, a.1, a.2), node(b.0, b.1, b.2));
            // The same comparison by long division: integer part first, then the remainders.
            let exact = |(n, d, w): (u64, u64, u32)| (u128::from(n), u128::from(d) * u128::from(w));
            let ((n1, d1), (n2, d2)) = (exact(a), exact(b));
            let less = fraction_less(n1, d1, n2, d2);
            prop_assert_eq!(before(&names, &x, &y), less);
        }
    }

    /// n1/d1 < n2/d2 by the continued fraction of both.
    fn fraction_less(n1: u128, d1: u128, n2: u128, d2: u128) -> bool {
        let (q1, q2) = (n1 / d1, n2 / d2);
        if q1 != q2 {
            return q1 < q2;
        }
        match (n1 % d1, n2 % d2) {
            (_, 0) => false,
            (0, _) => true,
            (r1, r2) => fraction_less(d2, r2, d1, r1),
        }
    }
}
