//! Which agents a framework wants at all: predicates on what agents say of themselves.
//!
//! Mesos: `OfferConstraints`, `OfferConstraintsFilter`. A role's constraints are groups, one of
//! which must hold; a group is predicates, all of which must. Predicates on text hold for what is no
//! text. Patterns are not understood here: whoever knows them tells a verdict for each agent, and
//! until it is told neither a pattern holds nor its negation.

use super::Allocator;
use super::hosts::Said;
use crate::Refusal;
use crate::names::{Name, Names};
use crate::slab::List;
use crate::wire::call::{Constraint as WireConstraint, Constraints, Predicate, Selector};

record! {
    /// A predicate on an agent.
    pub struct Constraint {
        /// Which group it belongs to.
        pub group: u16,
        /// What it looks at.
        pub selector: Selector,
        /// What must hold.
        pub predicate: Predicate,
        /// The attribute.
        pub attribute: Name,
        /// The text it is compared with, or the pattern.
        pub value: Name,
        /// The row of verdicts on its pattern, as index + 1.
        pub verdicts: u32,
    }
}

impl<'a> Allocator<'a> {
    /// Whether [`Allocator::set_constraints`] has room for all of `roles`, once the older ones of
    /// `clients` are gone.
    pub fn check_constraints(
        &self,
        names: &Names<'_>,
        clients: impl Iterator<Item = u32>,
        roles: &crate::wire::Seq<'_, Constraints<'_>>,
    ) -> Result<(), Refusal> {
        let old = clients.filter_map(|client| Some(self.nodes.row(client)?.constraints));
        let old = old.flat_map(|list| self.constraints.iter(list));
        let old = old.fold((0u32, 0u32), |(all, patterns), one| {
            let pattern = u32::from(one.verdicts > 0);
            (all.saturating_add(1), patterns.saturating_add(pattern))
        });
        let groups = || roles.iter().flat_map(|role| role.groups.iter());
        let new = || groups().flat_map(|group| group.all.iter());
        let count = new().fold(0u32, |n, _| n.saturating_add(1));
        let patterns = new().filter(|one| one.predicate.is_pattern());
        let patterns = patterns.fold(0u32, |n, _| n.saturating_add(1));
        let rows = self.verdict_rows_free().saturating_add(old.1);
        if count > self.constraints.room().saturating_add(old.0) || patterns > rows {
            return Err(Refusal::ConstraintsFull);
        }
        if !names.has_room_for(new().flat_map(|one| [one.attribute, one.value])) {
            return Err(Refusal::NamesFull);
        }
        Ok(())
    }

    /// Replaces a client's constraints; none = every agent will do. The caller checked that there is
    /// room. O(constraints + agents / 64).
    pub fn set_constraints(
        &mut self,
        names: &mut Names<'a>,
        client: u32,
        constraints: Option<&Constraints<'_>>,
    ) {
        let Some(mut list) = self.nodes.row(client).map(|node| node.constraints) else { return };
        if list.is_empty() && constraints.is_none_or(|new| new.groups.is_empty()) {
            return;
        }
        while let Some(old) = self.constraints.pop(&mut list) {
            names.release_one(old.attribute);
            names.release_one(old.value);
            self.give_verdicts(old.verdicts);
        }
        let groups = constraints.map_or(crate::wire::Seq::EMPTY, |constraints| constraints.groups);
        for (group, of_group) in (0u16..).zip(groups.iter()) {
            for WireConstraint { selector, attribute, predicate, value } in of_group.all.iter() {
                let (Ok(attribute), Ok(value)) = (names.intern(attribute), names.intern(value))
                else {
                    continue;
                };
                let verdicts = if predicate.is_pattern() { self.take_verdicts() } else { 0 };
                let row = Constraint { group, selector, predicate, attribute, value, verdicts };
                let pushed = self.constraints.push(&mut list, row);
                invariant!(pushed.is_ok(), "a constraint that was counted has no room");
            }
        }
        if let Some(node) = self.nodes.row_mut(client) {
            node.constraints = list;
        }
        self.mark_all();
    }

    /// What a pattern says of an agent: the `index`th predicate of a client, from 0. `BadConstraint`
    /// when that is no pattern.
    pub fn set_verdict(
        &mut self,
        client: u32,
        index: u32,
        agent: u32,
        matches: bool,
    ) -> Result<(), Refusal> {
        let list = self.nodes.row(client).map_or(List::EMPTY, |node| node.constraints);
        let found = self.constraints.iter(list).nth(index as usize);
        let row =
            found.and_then(|one| one.verdicts.checked_sub(1)).ok_or(Refusal::BadConstraint)?;
        if agent as usize >= self.agents.len() {
            return Err(Refusal::UnknownAgent);
        }
        let [known, yes] = self.verdict_places(row, agent);
        let bit = 1u64.wrapping_shl(agent % 64);
        if let Some(word) = self.verdicts.get_mut(known) {
            *word |= bit;
        }
        if let Some(word) = self.verdicts.get_mut(yes) {
            *word = if matches { *word | bit } else { *word & !bit };
        }
        self.mark(agent);
        Ok(())
    }

    /// The constraint that keeps a client from an agent, by its place; none when the agent will do.
    /// Of groups none of which holds, the last one's first predicate that fails is told.
    pub(super) fn excluded(&self, client: u32, agent: u32) -> Option<u32> {
        let list = self.nodes.row(client)?.constraints;
        if list.is_empty() {
            return None;
        }
        let mut failed = None;
        let mut group = None;
        for (place, one) in (0u32..).zip(self.constraints.iter(list)) {
            if group != Some(one.group) {
                if group.is_some() && failed.is_none() {
                    return None;
                }
                (group, failed) = (Some(one.group), None);
            }
            if failed.is_none() && !self.holds(&one, agent) {
                failed = Some(place);
            }
        }
        failed
    }

    fn holds(&self, one: &Constraint, agent: u32) -> bool {
        let said = self.hosts.said(agent, one.selector, one.attribute);
        let verdict = || one.verdicts.checked_sub(1).and_then(|row| self.verdict(row, agent));
        match (one.predicate, said) {
            (Predicate::Exists, said) => said != Said::Nothing,
            (Predicate::NotExists, said) => said == Said::Nothing,
            // Text is not looked for in what is none.
            (_, Said::Other) => true,
            (Predicate::TextEquals, Said::Text(text)) => text == one.value,
            (Predicate::TextNotEquals, Said::Text(text)) => text != one.value,
            (Predicate::TextMatches, Said::Text(_)) => verdict() == Some(true),
            (Predicate::TextNotMatches, Said::Text(_)) => verdict() == Some(false),
            (Predicate::TextEquals | Predicate::TextMatches, Said::Nothing) => false,
            (Predicate::TextNotEquals | Predicate::TextNotMatches, Said::Nothing) => true,
        }
    }

    /// A client's constraints in order, to be told.
    pub fn constraints_of(&self, client: u32) -> impl Iterator<Item = Constraint> + '_ {
        let list = self.nodes.row(client).map_or(List::EMPTY, |node| node.constraints);
        self.constraints.iter(list)
    }

    // ---------------------------------------------------------------- verdicts

    /// Words of one row: two bits for each agent, known and yes, and one that says it is taken.
    fn verdict_words(&self) -> usize {
        self.agents.len().div_ceil(64).saturating_mul(2).saturating_add(1)
    }

    fn verdict_places(&self, row: u32, agent: u32) -> [usize; 2] {
        let first = (row as usize).saturating_mul(self.verdict_words()).saturating_add(1);
        let known = first.saturating_add((agent / 64) as usize);
        [known, known.saturating_add(self.agents.len().div_ceil(64))]
    }

    fn verdict(&self, row: u32, agent: u32) -> Option<bool> {
        let [known, yes] = self.verdict_places(row, agent).map(|place| {
            let word = self.verdicts.get(place).copied().unwrap_or(0);
            word & 1u64.wrapping_shl(agent % 64) != 0
        });
        known.then_some(yes)
    }

    fn verdict_rows_free(&self) -> u32 {
        let rows = self.verdicts.chunks_exact(self.verdict_words());
        rows.filter(|row| row.first() == Some(&0)).fold(0u32, |n, _| n.saturating_add(1))
    }

    fn take_verdicts(&mut self) -> u32 {
        let words = self.verdict_words();
        let mut rows = (1u32..).zip(self.verdicts.chunks_exact_mut(words));
        let Some((place, row)) = rows.find(|(_, row)| row.first() == Some(&0)) else { return 0 };
        row.fill(0);
        if let Some(taken) = row.first_mut() {
            *taken = 1;
        }
        place
    }

    fn give_verdicts(&mut self, place: u32) {
        let words = self.verdict_words();
        let mut rows = self.verdicts.chunks_exact_mut(words);
        if let Some(row) = place.checked_sub(1).and_then(|row| rows.nth(row as usize)) {
            row.fill(0);
        }
    }

    /// An agent that says other things of itself: patterns are asked anew.
    pub fn forget_verdicts(&mut self, agent: u32) {
        let words = self.verdict_words();
        let [place, _] = self.verdict_places(0, agent);
        for row in self.verdicts.chunks_exact_mut(words) {
            if let Some(word) = row.get_mut(place) {
                *word &= !1u64.wrapping_shl(agent % 64);
            }
        }
    }
}
