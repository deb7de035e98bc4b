//! Who comes first among siblings: a tournament for each group, all in one lent slice.
//!
//! A group of n leaves is a complete binary tree of n − 1 matches, numbered as a heap is: matches 1
//! to n − 1, leaves n to 2n − 1. A leaf that comes splits the first leaf; one that goes is replaced
//! by the last. So every change walks one path, ⌈log2 n⌉ matches long, and takes no memory but the
//! match that it adds. What wins a match is the [`Sorter`]'s to say.

use super::node::Node;
use super::sorter::Sorter;
use crate::image::{BadImage, Image, Reader, Writer};
use crate::names::Names;
use crate::table::{Full, Table};

record! {
    /// One match between two sides. 20 bytes.
    pub struct Match {
        /// The match above; none = this is the top of its group. Links free matches, too.
        above: Ref,
        left: Ref,
        right: Ref,
        outcome: Outcome,
    }

    /// What a side of a match brings.
    #[derive(Default)]
    pub struct Outcome {
        /// The leaf that won so far, as index + 1; 0 = none of this side wants anything.
        pub winner: u32,
        /// The weights of this side's leaves that want something, summed.
        pub weight: u32,
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

/// What a [`Ref`] names.
enum Side {
    None,
    Leaf(u32),
    Match(u32),
}

impl Ref {
    const NONE: Self = Self { number: 0 };

    const fn leaf(node: u32) -> Self {
        Self { number: node.saturating_add(1).saturating_mul(2) | 1 }
    }

    const fn to_match(index: u32) -> Self {
        Self { number: index.saturating_add(1).saturating_mul(2) }
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
}

/// The matches of all groups.
#[derive(Debug)]
pub struct Forest<'a> {
    matches: &'a mut [Match],
    used: u32,
    free: Ref,
}

/// What every walk needs beside the forest: the leaves, and how to compare them.
pub struct Field<'f, 'a, S> {
    /// All nodes; leaves are among them.
    pub nodes: &'f mut Table<'a, Node>,
    /// For ties.
    pub names: &'f Names<'a>,
    /// The policy.
    pub sorter: &'f S,
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

    /// What a group came to: its winner, and the weight of all that want something. O(1).
    pub fn outcome(&self, nodes: &Table<'_, Node>, group: Group) -> Outcome {
        self.outcome_of(nodes, group.top)
    }

    /// The outcomes of the two sides below the top of `at`, for those who draw their way down.
    pub fn sides(&self, at: Ref) -> Option<(Ref, Ref)> {
        match at.side() {
            Side::Match(index) => self.get(index).map(|game| (game.left, game.right)),
            Side::Leaf(_) | Side::None => None,
        }
    }

    /// The top of a group.
    pub fn top(&self, group: Group) -> Ref {
        group.top
    }

    /// What one side came to.
    pub fn outcome_of(&self, nodes: &Table<'_, Node>, side: Ref) -> Outcome {
        match side.side() {
            Side::None => Outcome::default(),
            Side::Match(index) => self.get(index).map_or(Outcome::default(), |game| game.outcome),
            Side::Leaf(leaf) => match nodes.row(leaf) {
                Some(node) if !node.passed => {
                    Outcome { winner: leaf.saturating_add(1), weight: node.weight }
                }
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
            set_seat(field.nodes, new, Ref::NONE);
            return Ok(());
        }
        let split = self.at(*group, group.leaves);
        let above = self.above(field.nodes, split);
        let index = self.take()?;
        let game = Ref::to_match(index);
        self.put(index, Match { above, left: split, right: new, outcome: Outcome::default() });
        self.replace(group, above, split, game);
        set_seat(field.nodes, split, game);
        set_seat(field.nodes, new, game);
        group.leaves = group.leaves.saturating_add(1);
        self.replay(field, game, 0);
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
        let game = self.above(field.nodes, last);
        let Side::Match(index) = game.side() else { return };
        let Some(Match { above, left: sibling, .. }) = self.get(index) else { return };
        self.replace(group, above, game, sibling);
        self.set_above(field.nodes, sibling, above);
        self.give_back(index);
        group.leaves = group.leaves.saturating_sub(1);
        let mut seat = Ref::NONE;
        if gone != last {
            seat = self.above(field.nodes, gone);
            self.replace(group, seat, gone, last);
            set_seat(field.nodes, last, seat);
        }
        set_seat(field.nodes, gone, Ref::NONE);
        self.replay(field, above, 0);
        self.replay(field, seat, 0);
    }

    /// The leaf's key, weight or wish changed: plays the matches above it again. O(log leaves).
    pub fn changed<S: Sorter>(&mut self, field: &mut Field<'_, '_, S>, leaf: u32) {
        let seat = self.above(field.nodes, Ref::leaf(leaf));
        self.replay(field, seat, leaf.saturating_add(1));
    }

    /// Plays every match of `group` again, lower ones first. O(leaves).
    pub fn replay_all<S: Sorter>(&mut self, field: &mut Field<'_, '_, S>, group: Group) {
        // Matches are numbered 1 to n − 1 from the top: backwards, each comes after those below.
        for position in (1..group.leaves).rev() {
            if let Side::Match(index) = self.at(group, position).side() {
                self.play(field, index);
            }
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

    /// Plays from `at` to the top, or until nothing changes. `leaf`'s own key may have changed
    /// without its winning less, so matches that it won count as changed.
    fn replay<S: Sorter>(&mut self, field: &mut Field<'_, '_, S>, mut at: Ref, leaf: u32) {
        while let Side::Match(index) = at.side() {
            let Some((before, after, above)) = self.play(field, index) else { return };
            if before == after && after.winner != leaf {
                return;
            }
            at = above;
        }
    }

    fn play<S: Sorter>(
        &mut self,
        field: &Field<'_, '_, S>,
        index: u32,
    ) -> Option<(Outcome, Outcome, Ref)> {
        let game = self.get(index)?;
        let left = self.outcome_of(field.nodes, game.left);
        let right = self.outcome_of(field.nodes, game.right);
        let winner = match (left.winner.checked_sub(1), right.winner.checked_sub(1)) {
            (Some(a), Some(b)) => {
                let (a, b) = (field.nodes.row(a)?, field.nodes.row(b)?);
                let first = field.sorter.before(field.names, a, b);
                if first { left.winner } else { right.winner }
            }
            (Some(_), None) => left.winner,
            (None, _) => right.winner,
        };
        let outcome = Outcome { winner, weight: left.weight.saturating_add(right.weight) };
        if let Some(game) = self.matches.get_mut(index as usize) {
            game.outcome = outcome;
        }
        Some((game.outcome, outcome, game.above))
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

    fn above(&self, nodes: &Table<'_, Node>, of: Ref) -> Ref {
        match of.side() {
            Side::None => Ref::NONE,
            Side::Match(index) => self.get(index).map_or(Ref::NONE, |game| game.above),
            Side::Leaf(leaf) => nodes.row(leaf).map_or(Ref::NONE, |node| node.seat),
        }
    }

    fn set_above(&mut self, nodes: &mut Table<'_, Node>, of: Ref, above: Ref) {
        match of.side() {
            Side::Match(index) => {
                if let Some(game) = self.matches.get_mut(index as usize) {
                    game.above = above;
                }
            }
            Side::Leaf(_) | Side::None => set_seat(nodes, of, above),
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

fn set_seat(nodes: &mut Table<'_, Node>, leaf: Ref, seat: Ref) {
    let Side::Leaf(index) = leaf.side() else { return };
    if let Some(node) = nodes.row_mut(index) {
        node.seat = seat;
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
