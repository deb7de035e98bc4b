//! Who comes first among siblings: a tournament for each group, all in one lent slice.
//!
//! A group of n leaves is a complete binary tree of n − 1 matches, numbered as a heap is: matches 1
//! to n − 1, leaves n to 2n − 1. A leaf that comes splits the first leaf; one that goes is replaced
//! by the last. So every change walks one path, ⌈log2 n⌉ matches long, and takes no memory but the
//! match that it adds. What wins a match is the [`Sorter`]'s to say.
//!
//! A node is a leaf of two groups of its parent at the most, its *lists*: [`WANTING`], those that
//! want something, and [`NEEDY`], those of them that are short of a guarantee.

use super::node::Node;
use super::sorter::Sorter;
use crate::image::{BadImage, Image, Reader, Writer};
use crate::names::Names;
use crate::table::{Full, Table};

/// The list of those that want something.
pub const WANTING: usize = 0;
/// The list of those that want something and are short of a guarantee.
pub const NEEDY: usize = 1;

record! {
    /// A match between two sides. 24 bytes.
    pub struct Match {
        outcome: Outcome,
        /// The match above; none = this is the top of its group. Links free matches, too.
        above: Ref,
        left: Ref,
        right: Ref,
    }

    /// What a side of a match brings.
    #[derive(Default)]
    pub struct Outcome {
        /// What the policy compares or draws by: the winner's key, or a sum of weights.
        pub value: Halves,
        /// The leaf that won so far, as index + 1; 0 = none of this side wants anything.
        pub winner: u32,
    }

    /// A number in two halves, so that a match is 24 bytes and not 32.
    #[derive(Default)]
    pub struct Halves {
        low: u32,
        high: u32,
    }

    /// A match, or a leaf: twice the index + 1, with the lowest bit set for leaves. 0 = none.
    #[derive(Default)]
    pub struct Ref {
        number: u32,
    }

    /// The siblings below one node.
    #[derive(Default)]
    pub struct Group {
        top: Ref,
        leaves: u32,
    }
}

const _: () = assert!(size_of::<Match>() == 24);

impl Halves {
    /// The halves of a number.
    pub const fn of(number: u64) -> Self {
        // The cut is what is wanted.
        #[allow(clippy::cast_possible_truncation)]
        Self { low: number as u32, high: (number >> 32) as u32 }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        (self.high as u64) << 32 | self.low as u64
    }
}

/// What a [`Ref`] names.
enum Side {
    None,
    Leaf(u32),
    Match(u32),
}

impl Ref {
    /// Neither match nor leaf.
    pub const NONE: Self = Self { number: 0 };

    const fn leaf(node: u32) -> Self {
        Self { number: node.saturating_add(1).saturating_mul(2) | 1 }
    }

    const fn to_match(index: u32) -> Self {
        Self { number: index.saturating_add(1).saturating_mul(2) }
    }

    /// True when it names something.
    pub const fn is_some(self) -> bool {
        self.number != 0
    }

    const fn side(self) -> Side {
        match ((self.number >> 1).checked_sub(1), self.number & 1) {
            (None, _) => Side::None,
            (Some(index), 1) => Side::Leaf(index),
            (Some(index), _) => Side::Match(index),
        }
    }
}

impl Group {
    /// Leaves in it.
    pub const fn len(self) -> u32 {
        self.leaves
    }

    /// True when it has none.
    pub const fn is_empty(self) -> bool {
        self.leaves == 0
    }

    /// Its leaf, when it has only one.
    pub const fn only(self) -> Option<u32> {
        match (self.leaves, self.top.side()) {
            (1, Side::Leaf(leaf)) => Some(leaf),
            _ => None,
        }
    }
}

/// The matches of all groups.
#[derive(Debug)]
pub struct Forest<'a> {
    matches: &'a mut [Match],
    used: u32,
    free: Ref,
}

/// What every walk needs beside the forest: the leaves, how to compare them, and in which list.
pub struct Field<'f, 'a, S> {
    /// All nodes; leaves are among them.
    pub nodes: &'f mut Table<'a, Node>,
    /// For ties.
    pub names: &'f Names<'a>,
    /// The policy.
    pub sorter: &'f S,
    /// The list that the group is of.
    pub list: usize,
}

impl<'a, S: Sorter> Field<'_, 'a, S> {
    fn seat(&self, leaf: u32) -> Ref {
        let seats = self.nodes.row(leaf).map(|node| node.seats);
        seats.and_then(|seats| seats.get(self.list).copied()).unwrap_or(Ref::NONE)
    }

    fn set_seat(&mut self, leaf: Ref, seat: Ref) {
        let Side::Leaf(index) = leaf.side() else { return };
        if let Some(node) = self.nodes.row_mut(index)
            && let Some(place) = node.seats.get_mut(self.list)
        {
            *place = seat;
        }
    }
}

impl<'a> Forest<'a> {
    /// A forest without groups. `matches` must be zero; one fewer than leaves suffices.
    pub fn new(matches: &'a mut [Match]) -> Self {
        Self { matches, used: 0, free: Ref::NONE }
    }

    /// Gives the memory back.
    pub fn release(self) -> &'a mut [Match] {
        self.matches
    }

    /// What a group came to. O(1).
    pub fn outcome<S: Sorter>(&self, nodes: &Table<'_, Node>, sorter: &S, group: Group) -> Outcome {
        self.outcome_of(nodes, sorter, group.top)
    }

    /// The two sides below the top of `at`, for those who draw their way down.
    pub fn sides(&self, at: Ref) -> Option<(Ref, Ref)> {
        match at.side() {
            Side::Match(index) => self.get(index).map(|game| (game.left, game.right)),
            Side::Leaf(_) | Side::None => None,
        }
    }

    /// The top of a group.
    pub const fn top(group: Group) -> Ref {
        group.top
    }

    /// What one side came to.
    #[inline]
    pub fn outcome_of<S: Sorter>(&self, nodes: &Table<'_, Node>, sorter: &S, side: Ref) -> Outcome {
        match side.side() {
            Side::None => Outcome::default(),
            Side::Match(index) => {
                self.matches.get(index as usize).map_or(Outcome::default(), |game| game.outcome)
            }
            Side::Leaf(leaf) => match nodes.row(leaf) {
                Some(node) if !node.passed => Outcome {
                    value: Halves::of(sorter.value(&node.rank)),
                    winner: leaf.saturating_add(1),
                },
                _ => Outcome::default(),
            },
        }
    }

    /// Adds the node `leaf` to `group`. O(log leaves). [`Full`] when no match is free.
    pub fn join<S: Sorter>(
        &mut self,
        field: &mut Field<'_, '_, S>,
        group: &mut Group,
        leaf: u32,
    ) -> Result<(), Full> {
        let new = Ref::leaf(leaf);
        if group.leaves == 0 {
            *group = Group { top: new, leaves: 1 };
            field.set_seat(new, Ref::NONE);
            return Ok(());
        }
        let split = self.at(*group, group.leaves);
        let above = self.above(field, split);
        let index = self.take()?;
        let game = Ref::to_match(index);
        self.put(index, Match { above, left: split, right: new, outcome: Outcome::default() });
        self.replace(group, above, split, game);
        field.set_seat(split, game);
        field.set_seat(new, game);
        group.leaves = group.leaves.saturating_add(1);
        self.replay(field, new, game, 0);
        Ok(())
    }

    /// Takes the node `leaf` out of `group`. O(log leaves).
    pub fn leave<S: Sorter>(&mut self, field: &mut Field<'_, '_, S>, group: &mut Group, leaf: u32) {
        let gone = Ref::leaf(leaf);
        if group.leaves <= 1 {
            *group = Group::default();
            return;
        }
        let last = self.at(*group, group.leaves.saturating_mul(2).saturating_sub(1));
        let game = self.above(field, last);
        let Side::Match(index) = game.side() else { return };
        let Some(Match { above, left: sibling, .. }) = self.get(index) else { return };
        self.replace(group, above, game, sibling);
        self.set_above(field, sibling, above);
        self.give_back(index);
        group.leaves = group.leaves.saturating_sub(1);
        if gone != last {
            let seat = self.above(field, gone);
            self.replace(group, seat, gone, last);
            field.set_seat(last, seat);
            self.replay(field, last, seat, 0);
        }
        field.set_seat(gone, Ref::NONE);
        // The sibling, or the last leaf in its place, is what the match above it has now.
        let moved = if sibling == gone { last } else { sibling };
        self.replay(field, moved, above, 0);
    }

    /// The leaf's key, weight or wish changed: plays the matches above it again. O(log leaves).
    #[inline]
    pub fn changed<S: Sorter>(&mut self, field: &mut Field<'_, '_, S>, leaf: u32) {
        let seat = field.seat(leaf);
        self.replay(field, Ref::leaf(leaf), seat, leaf.saturating_add(1));
    }

    /// Plays every match of `group` again, lower ones first. O(leaves).
    pub fn replay_all<S: Sorter>(&mut self, field: &Field<'_, '_, S>, group: Group) {
        // Matches are numbered 1 to n − 1 from the top: backwards, each comes after those below.
        for position in (1..group.leaves).rev() {
            let Side::Match(index) = self.at(group, position).side() else { continue };
            let Some(game) = self.get(index) else { continue };
            let left = self.outcome_of(field.nodes, field.sorter, game.left);
            let right = self.outcome_of(field.nodes, field.sorter, game.right);
            let outcome = field.sorter.play(field.nodes, field.names, left, right);
            self.put(index, Match { outcome, ..game });
        }
    }

    /// Matches in use.
    pub fn len(&self) -> u32 {
        let mut free = 0u32;
        let mut next = self.free;
        while let Side::Match(index) = next.side() {
            free = free.saturating_add(1);
            next = self.get(index).map_or(Ref::NONE, |game| game.above);
        }
        self.used.saturating_sub(free)
    }

    /// True when no group has two leaves.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Plays from `at`, one side of which is `child`, to the top, or until nothing changes. What
    /// `leaf` brings may have changed without its key, so matches that it won count as changed.
    fn replay<S: Sorter>(
        &mut self,
        field: &Field<'_, '_, S>,
        mut child: Ref,
        mut at: Ref,
        leaf: u32,
    ) {
        let mut mine = self.outcome_of(field.nodes, field.sorter, child);
        while let Side::Match(index) = at.side() {
            let Some(game) = self.matches.get(index as usize) else { return };
            let other = if game.left == child { game.right } else { game.left };
            let (before, above) = (game.outcome, game.above);
            let theirs = self.outcome_of(field.nodes, field.sorter, other);
            mine = field.sorter.play(field.nodes, field.names, mine, theirs);
            if mine == before && mine.winner != leaf {
                return;
            }
            if let Some(game) = self.matches.get_mut(index as usize) {
                game.outcome = mine;
            }
            (child, at) = (at, above);
        }
    }

    /// What is at a position of a group, numbered as a heap.
    fn at(&self, group: Group, position: u32) -> Ref {
        let mut at = group.top;
        for bit in (0..position.checked_ilog2().unwrap_or(0)).rev() {
            let Side::Match(index) = at.side() else { return Ref::NONE };
            let Some(game) = self.get(index) else { return Ref::NONE };
            at = if position >> bit & 1 == 1 { game.right } else { game.left };
        }
        at
    }

    fn above<S: Sorter>(&self, field: &Field<'_, '_, S>, of: Ref) -> Ref {
        match of.side() {
            Side::None => Ref::NONE,
            Side::Match(index) => self.get(index).map_or(Ref::NONE, |game| game.above),
            Side::Leaf(leaf) => field.seat(leaf),
        }
    }

    fn set_above<S: Sorter>(&mut self, field: &mut Field<'_, '_, S>, of: Ref, above: Ref) {
        match of.side() {
            Side::Match(index) => {
                if let Some(game) = self.matches.get_mut(index as usize) {
                    game.above = above;
                }
            }
            Side::Leaf(_) | Side::None => field.set_seat(of, above),
        }
    }

    /// Puts `new` where `old` was: below the match `above`, or at the top.
    fn replace(&mut self, group: &mut Group, above: Ref, old: Ref, new: Ref) {
        let Side::Match(index) = above.side() else {
            group.top = new;
            return;
        };
        if let Some(game) = self.matches.get_mut(index as usize) {
            if game.left == old {
                game.left = new;
            } else {
                game.right = new;
            }
        }
    }

    fn get(&self, index: u32) -> Option<Match> {
        self.matches.get(index as usize).copied()
    }

    fn put(&mut self, index: u32, game: Match) {
        if let Some(place) = self.matches.get_mut(index as usize) {
            *place = game;
        }
    }

    fn take(&mut self) -> Result<u32, Full> {
        if let Side::Match(index) = self.free.side() {
            self.free = self.get(index).ok_or(Full)?.above;
            return Ok(index);
        }
        let index = self.used;
        self.matches.get(index as usize).ok_or(Full)?;
        self.used = self.used.saturating_add(1);
        Ok(index)
    }

    fn give_back(&mut self, index: u32) {
        let free = Match { above: self.free, ..bytemuck::Zeroable::zeroed() };
        self.put(index, free);
        self.free = Ref::to_match(index);
    }
}

impl Image for Forest<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        to.put(&(self.used, self.free));
        for game in self.matches.iter().take(self.used as usize) {
            to.put(game);
        }
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        (self.used, self.free) = from.take()?;
        for game in self.matches.get_mut(..self.used as usize).ok_or(BadImage::TooLarge)? {
            *game = from.take()?;
        }
        Ok(())
    }
}
