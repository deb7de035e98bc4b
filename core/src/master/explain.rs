//! What people ask about decisions: answered by the gates of a round themselves.
//!
//! Nothing is kept for it and nothing changes, so a question is no input and in no journal: whoever
//! steps the master asks it between two steps. Rows are numbered, and a question goes on where the
//! rows of its last answer ended.

use serde::{Deserialize, Serialize};

use super::rows::{Agent, AgentState, Framework, FrameworkState, RoleOf};
use super::{Master, World};
use crate::allocator::gates::Short;
use crate::allocator::node::NodeKind;
use crate::allocator::why::{LEVELS, Standing};
use crate::allocator::{Bar, Gate};
use crate::index::after;
use crate::names::{Name, Text};
use crate::slab::List;
use crate::table::Id;
use crate::time::Time;
use crate::wire::call::{Predicate, Quantity, Selector};
use crate::wire::{AgentId, FrameworkId, Seq};

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question<'q> {
    /// What stands between a framework, in each of its roles, and agents: where it stands, then a
    /// row for each agent.
    Why {
        /// Which framework.
        framework: FrameworkId,
        /// Of which agent; none = of all.
        agent: Option<AgentId>,
    },
    /// Where so much would fit now, whoever asked for it: a row for each agent.
    Need {
        /// How much.
        #[serde(borrow)]
        amounts: Seq<'q, Quantity<'q>>,
    },
}

/// A part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Row<'a> {
    /// Where a framework in a role stands among its siblings, at one level from the top.
    Standing {
        /// The framework's role.
        of: &'a str,
        /// What stands there: a role, the frameworks of a role together, or the framework.
        kind: NodeKind,
        /// The role's path, when it is one.
        role: &'a str,
        /// The resource of which it has the largest part; empty = it has nothing.
        resource: &'a str,
        /// Thousandths that it has of that, and that the cluster has.
        has: u64,
        /// See `has`.
        total: u64,
        /// Its weight, in thousandths.
        weight: u32,
        /// How often it was offered something.
        count: u64,
        /// Siblings that want something, and those of them that come before it.
        siblings: u32,
        /// See `siblings`.
        before: u32,
    },
    /// What keeps an agent's free resources from a framework in a role.
    Agent {
        /// The framework's role.
        of: &'a str,
        /// The agent.
        agent: AgentId,
        /// The first gate that says no; none = it is offered them once its turn comes.
        gate: Option<Gate>,
        /// The text of the names in the gate: a role, a resource.
        role: &'a str,
        /// See `role`.
        resource: &'a str,
        /// The constraint that the gate is.
        #[serde(borrow)]
        constraint: Option<Wanted<'a>>,
        /// It is short of a guarantee, and is served before others.
        entitled: bool,
        /// Its refusals in force, on all agents.
        refusals: u32,
        /// The oldest outstanding offer of the agent: to whom, and since how many µs; none of the
        /// latter when offers do not end by themselves.
        offered: Option<(FrameworkId, Option<u64>)>,
        /// Who got its resources last, and how many µs ago.
        last: Option<(FrameworkId, u64)>,
        /// The first amount of what the framework requested that the agent has too little of.
        #[serde(borrow)]
        lacks: Option<Lack<'a>>,
    },
    /// Whether something would fit on an agent.
    Need {
        /// The agent.
        agent: AgentId,
        /// Why it is not offered at all.
        bar: Option<Bar>,
        /// The first amount of which it has too little free; none = all of it fits.
        #[serde(borrow)]
        lacks: Option<Lack<'a>>,
        /// True when it has too little even with nothing in use.
        never: bool,
    },
}

/// A predicate of a framework's constraints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted<'a> {
    /// What it looks at.
    pub selector: Selector,
    /// The attribute.
    pub attribute: &'a str,
    /// What must hold.
    pub predicate: Predicate,
    /// The text or the pattern.
    pub value: &'a str,
}

/// Too little of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack<'a> {
    /// Of what.
    pub resource: &'a str,
    /// Thousandths wanted.
    pub least: u64,
    /// Thousandths free.
    pub have: u64,
}

/// Rows of one framework's role before those of agents: a place for each level.
const PLACES: u64 = LEVELS as u64;

impl<'a> Master<'a> {
    /// Tells the rows of an answer from number `from` on, until `tell` has no more room: the number
    /// of the row that it did not take, or none at the end.
    ///
    /// `UnknownFramework`, `UnknownAgent` when there is no such thing. O(rows told · gates), and
    /// O(nodes) for each standing.
    pub fn explain(
        &mut self,
        now: Time,
        question: &Question<'_>,
        from: u64,
        tell: &mut dyn FnMut(&Row<'_>) -> bool,
    ) -> Result<Option<u64>, crate::Refusal> {
        match *question {
            Question::Why { framework, agent } => {
                let framework = self.framework_by_id(framework);
                let framework = framework.ok_or(crate::Refusal::UnknownFramework)?;
                let agent = match agent {
                    Some(agent) => {
                        let known = self.agent_by_id(agent);
                        Some(known.ok_or(crate::Refusal::UnknownAgent)?)
                    }
                    None => None,
                };
                Ok(self.explain_why(now, framework, agent, from, tell))
            }
            Question::Need { ref amounts } => Ok(self.explain_need(amounts, from, tell)),
        }
    }

    fn explain_why(
        &mut self,
        now: Time,
        framework: Id,
        agent: Option<Id>,
        from: u64,
        tell: &mut dyn FnMut(&Row<'_>) -> bool,
    ) -> Option<u64> {
        let agents = u64::from(self.agents.high_water());
        let each = PLACES.saturating_add(agents);
        let mut roles = self.frameworks.get_ref(framework).map_or(List::EMPTY, |row| row.roles);
        let mut first = 0u64;
        while let Some(RoleOf { client, subscribed }) = self.roles.step(&mut roles) {
            let last = first.saturating_add(each);
            let mut place = from.max(first);
            while subscribed && place < last {
                let within = place.saturating_sub(first);
                let told = match within.checked_sub(PLACES) {
                    None => self.tell_standing(client, within, tell),
                    Some(slot) => {
                        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
                        let asked = agent.is_none_or(|agent| agent.index == slot);
                        !asked || self.tell_agent(now, framework, client, slot, tell)
                    }
                };
                if !told {
                    return Some(place);
                }
                place = place.saturating_add(1);
            }
            first = last;
        }
        None
    }

    fn tell_standing(
        &mut self,
        client: u32,
        level: u64,
        tell: &mut dyn FnMut(&Row<'_>) -> bool,
    ) -> bool {
        let (allocator, world) = self.world();
        let standings = allocator.standings(&world, client);
        let level = usize::try_from(level).unwrap_or(usize::MAX);
        let Some(&standing) = standings.get(level) else { return true };
        let of = self.allocator.role_of(&self.names, client);
        let Standing { kind, role, resource, has, of: total, weight, count, siblings, before } =
            standing;
        let (role, resource) = (self.text(role), self.text(resource));
        tell(&Row::Standing {
            of: &of,
            kind,
            role: &role,
            resource: &resource,
            has,
            total,
            weight,
            count,
            siblings,
            before,
        })
    }

    fn tell_agent(
        &mut self,
        now: Time,
        framework: Id,
        client: u32,
        slot: u32,
        tell: &mut dyn FnMut(&Row<'_>) -> bool,
    ) -> bool {
        let Some((id, row)) = self.agents.at(slot) else { return true };
        let found = self.frameworks.get(framework);
        let Some(Framework { state, congested, capped, hints, .. }) = found else { return true };
        let away = state != FrameworkState::Active || congested || capped;
        let (allocator, world) = self.world();
        let why = allocator.why(&world, client, slot, away);
        let gate = match why.gate {
            // Known to the master, and not yet to the allocator, or not any more.
            Some(Gate::AgentUnknown) => Some(Gate::AgentBarred(Bar::Away)),
            gate => gate,
        };
        let (role, resource) = self.names_in(gate);
        let of = self.allocator.role_of(&self.names, client);
        let constraint = match gate {
            Some(Gate::Constraint(place)) => {
                self.allocator.constraints_of(client).nth(place as usize)
            }
            _ => None,
        };
        let of_constraint = |name: fn(&crate::allocator::constraints::Constraint) -> Name| {
            constraint.as_ref().map_or(Text::new(), |one| self.text(name(one)))
        };
        let (attribute, value) =
            (of_constraint(|one| one.attribute), of_constraint(|one| one.value));
        let constraint = constraint.map(|one| Wanted {
            selector: one.selector,
            attribute: &attribute,
            predicate: one.predicate,
            value: &value,
        });
        let short = self.short_of_hints(hints, slot);
        let short_of = short.map_or(Text::new(), |short| self.text(short.name));
        let lacks =
            short.map(|Short { least, have, .. }| Lack { resource: &short_of, least, have });
        tell(&Row::Agent {
            of: &of,
            agent: row.id,
            gate,
            role: &role,
            resource: &resource,
            constraint,
            entitled: why.entitled,
            refusals: why.refusals,
            offered: self.oldest_offer(now, id),
            last: self.last_winner(now, slot),
            lacks,
        })
    }

    /// The names in a gate: a role, a resource.
    fn names_in(&self, gate: Option<Gate>) -> (Text, Text) {
        let (role, resource) = match gate {
            Some(Gate::Reserved(role)) => (role, Name::EMPTY),
            Some(Gate::BelowMinimum(short) | Gate::Headroom(short)) => (Name::EMPTY, short.name),
            Some(Gate::Limit { role, short }) => (role, short.name),
            _ => (Name::EMPTY, Name::EMPTY),
        };
        (self.text(role), self.text(resource))
    }

    /// The first amount of a framework's first request that an agent has too little of.
    fn short_of_hints(&mut self, hints: List, slot: u32) -> Option<Short> {
        let free = self.allocator.agent_holdings(slot)?.1;
        let first = self.hints.iter(hints).next()?.request;
        let wanted = self.hints.iter(hints).filter(|hint| hint.request == first);
        let wanted = wanted.map(|hint| (hint.name, hint.milli));
        let world = World { pool: &mut self.pool, names: &mut self.names };
        self.allocator.first_short(&world, free, wanted)
    }

    fn oldest_offer(&self, now: Time, agent: Id) -> Option<(FrameworkId, Option<u64>)> {
        let mut next = self.agents.get_ref(agent)?.offers.first(&self.offers);
        let mut oldest: Option<super::Offer> = None;
        while let Some(offer) = next {
            let row = self.offers.get(offer)?;
            if oldest.is_none_or(|other| row.expires < other.expires) {
                oldest = Some(row);
            }
            next = after(&self.offers, super::OF_AGENT, offer);
        }
        let oldest = oldest?;
        let to = self.frameworks.row(oldest.framework)?.id;
        let timeout = self.config.offer_timeout_us;
        let since = (timeout > 0).then(|| timeout.saturating_sub(oldest.expires.since(now)));
        Some((to, since))
    }

    fn last_winner(&self, now: Time, slot: u32) -> Option<(FrameworkId, u64)> {
        let (framework, at) = self.allocator.last_winner(slot)?;
        Some((self.frameworks.row(framework)?.id, now.since(at)))
    }

    fn explain_need(
        &mut self,
        amounts: &Seq<'_, Quantity<'_>>,
        from: u64,
        tell: &mut dyn FnMut(&Row<'_>) -> bool,
    ) -> Option<u64> {
        for slot in u32::try_from(from).unwrap_or(u32::MAX)..self.agents.high_water() {
            let Some((_, row)) = self.agents.at(slot) else { continue };
            if !self.tell_need(slot, &row, amounts, tell) {
                return Some(slot.into());
            }
        }
        None
    }

    fn tell_need(
        &self,
        slot: u32,
        row: &Agent,
        amounts: &Seq<'_, Quantity<'_>>,
        tell: &mut dyn FnMut(&Row<'_>) -> bool,
    ) -> bool {
        let known = self.allocator.agent(slot);
        let bar = match known {
            Some(known) => Bar::ALL.into_iter().find(|bar| known.is_barred(*bar)),
            None => Some(Bar::Away),
        };
        let bar = bar.or((row.state != AgentState::Active).then_some(Bar::Away));
        let have = |holding, name: &str| {
            let kind = self.pool.kind(&self.names, name);
            kind.map_or(0, |kind| self.pool.quantities(holding).of(kind))
        };
        let (mut lacks, mut never) = (None, false);
        let (total, free) = known.map(|known| (known.total, known.free)).unwrap_or_default();
        for Quantity { name: resource, amount } in amounts.iter() {
            let (least, free, all) = (amount.milli(), have(free, resource), have(total, resource));
            if free < least && lacks.is_none() {
                lacks = Some(Lack { resource, least, have: free });
            }
            never |= all < least;
        }
        tell(&Row::Need { agent: row.id, bar, lacks, never })
    }
}
