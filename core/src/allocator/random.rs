//! By chance: whoever is next is drawn, in proportion to weights (Mesos: `RandomSorter`).
//!
//! A client's chance is the product of its fractions of the weights at every level, counting only
//! siblings that want something. Who was passed over for the agent at hand is not drawn again, and
//! the others keep their chances relative to each other, as in a weighted shuffle without
//! replacement: so what is left below a node counts in its own draw ([`Rank::left`]).

use super::node::{LEFT_ALL, Node, Rank};
use super::sorter::Sorter;
use super::tree::{Forest, Group, Halves, Outcome};
use crate::names::Names;
use crate::rand::Rng;
use crate::table::Table;

/// The policy; its chance is the allocator's seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random;

impl Sorter for Random {
    fn value(&self, rank: &Rank) -> u64 {
        // 20 + 24 bits: a thousand billion of them fit.
        u64::from(rank.weight).wrapping_mul(rank.left.into())
    }

    fn play(
        &self,
        _nodes: &Table<'_, Node>,
        _names: &Names<'_>,
        left: Outcome,
        right: Outcome,
    ) -> Outcome {
        let sum = left.value.get().saturating_add(right.value.get());
        let winner = if left.winner == 0 { right.winner } else { left.winner };
        Outcome { value: Halves::of(sum), winner }
    }

    fn next(
        &self,
        forest: &Forest<'_>,
        nodes: &Table<'_, Node>,
        group: Group,
        rng: &mut Rng,
    ) -> Option<u32> {
        let mut at = Forest::top(group);
        let all = forest.outcome_of(nodes, self, at);
        all.winner.checked_sub(1)?;
        let mut drawn = rng.below_u64(all.value.get());
        while let Some((left, right)) = forest.sides(at) {
            let of_left = forest.outcome_of(nodes, self, left).value.get();
            at = match drawn.checked_sub(of_left) {
                None => left,
                Some(rest) => {
                    drawn = rest;
                    right
                }
            };
        }
        forest.outcome_of(nodes, self, at).winner.checked_sub(1)
    }

    fn draws(&self) -> bool {
        true
    }
}

/// What is left of a node when its children's weights are these, counting the passed over, and
/// theirs times what is left of them. Something is left as long as anything is.
pub(super) fn left_of(weights: u64, left: u64) -> u32 {
    if left == 0 {
        return 0;
    }
    // `left` is in 2^-24 of a weight, so the quotient is in 2^-24.
    let fraction = left.checked_div(weights.max(1)).unwrap_or(0);
    u32::try_from(fraction).unwrap_or(LEFT_ALL).clamp(1, LEFT_ALL)
}
