//! Everything that can keep an agent's resources from a client, in the order in which it is asked.
//!
//! A round and `explain` ask the same functions: `closed`, what concerns agent and client as a
//! whole, and `ask`, what of the agent's free resources the client would get.

use super::agents::open;
use super::round::Stage;
use super::{Allocator, Bar, Node, World};
use crate::mutant::{Mutant, planted};
use crate::names::Name;
use crate::resources::pool::{CPUS, Class, Ident, MEM};
use crate::resources::quantities::Kinds;
use crate::resources::{Holding, Quantities};
use crate::time::Time;
use crate::wire::call::Capability;

/// Why a client does not get what an agent has, in the order in which it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Gate {
    /// There is no such agent, or it has not registered.
    AgentUnknown,
    /// The agent may not be offered.
    AgentBarred(Bar),
    /// No offers are made: agents are still coming back.
    Paused,
    /// The framework is not connected, or its stream is congested.
    FrameworkAway,
    /// The framework suppressed this role.
    Suppressed,
    /// The agent is none that the framework wants: its constraint at this place does not hold.
    Constraint(u32),
    /// The agent has nothing free.
    NothingFree,
    /// Everything that is free is reserved for others: the first of it for this role.
    Reserved(Name),
    /// What is left may be taken back, is shared or refined, and the framework does not say that it
    /// understands that.
    Incapable(Capability),
    /// What is left is volumes that the framework was offered, or somebody else in this round.
    OfferedAlready,
    /// What is free is less than the framework takes.
    BelowMinimum(Short),
    /// The agent has GPUs, and the framework does not say that it uses them.
    Gpu,
    /// The agent is in another region, and the framework does not say that it goes there.
    Region,
    /// The role is short of no guarantee that the agent has something for.
    NoNeed,
    /// With what a limit leaves, it is less than the framework takes.
    Limit {
        /// Whose limit.
        role: Name,
        /// Of what, how much is asked, and what the limit leaves.
        short: Short,
    },
    /// With what is held back for guarantees, it is less than the framework takes.
    Headroom(Short),
    /// There is no room to part what is free.
    Full,
    /// The framework refused the like, until then.
    Filtered(Time),
}

/// An amount that is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Short {
    /// Of what.
    pub name: Name,
    /// Thousandths asked for.
    pub least: u64,
    /// Thousandths there are.
    pub have: u64,
}

/// What of an agent's free resources a client would get.
#[derive(Clone, Copy, Debug)]
pub struct Portion {
    /// All of it, and nothing of it is shared.
    pub(super) whole: bool,
    /// Some of it is shared.
    pub(super) shared: bool,
    /// Kinds of which something was held back for guarantees.
    pub(super) held: Kinds,
    pub(super) terms: Terms,
}

/// What decides how much of each identity a client gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    agent: u32,
    client: u32,
    role: u32,
    capabilities: u32,
    stage: Stage,
    lent: bool,
    /// How much it gets of what is anyone's and to keep, by kind; none = all.
    budget: Option<Quantities>,
}

impl Terms {
    /// How much there is to get of what is anyone's and to keep.
    pub(super) fn budget(&self) -> Option<Quantities> {
        self.budget
    }
}

/// What a limit or the headroom took away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cuts {
    /// Kinds that a limit cut, and whose it is.
    pub(super) limited: Kinds,
    whose: [u32; 16],
    /// Kinds that were held back.
    pub(super) held: Kinds,
}

impl Cuts {
    /// The roles whose limits cut something.
    pub(super) fn roles(&self) -> impl Iterator<Item = u32> + '_ {
        self.limited.iter().filter_map(|kind| self.whose_is(kind))
    }

    fn whose_is(&self, kind: u8) -> Option<u32> {
        self.whose.get(usize::from(kind)).and_then(|role| role.checked_sub(1))
    }
}

impl<'a> Allocator<'a> {
    /// What concerns agent and client as a whole.
    pub(super) fn closed(&self, client: u32, agent: u32, away: bool) -> Option<Gate> {
        let Some(row) = self.agent(agent) else { return Some(Gate::AgentUnknown) };
        if let Some(bar) = Bar::ALL.into_iter().find(|bar| row.is_barred(*bar)) {
            return Some(Gate::AgentBarred(bar));
        }
        if self.is_paused() {
            return Some(Gate::Paused);
        }
        let node = self.nodes.row(client)?;
        if away {
            return Some(Gate::FrameworkAway);
        }
        if node.suppressed { Some(Gate::Suppressed) } else { None }
    }

    /// What of an agent's free resources a client would get at a stage, or the gate that keeps it
    /// from them; and what was cut off, by whom. O(parts · depth of reservations + filters).
    pub(super) fn ask(
        &self,
        world: &World<'_, 'a>,
        client: u32,
        agent: u32,
        stage: Stage,
    ) -> (Result<Portion, Gate>, Cuts) {
        let mut cuts = Cuts::default();
        let asked = self.ask_with(world, client, agent, stage, &mut cuts);
        (asked, cuts)
    }

    fn ask_with(
        &self,
        world: &World<'_, 'a>,
        client: u32,
        agent: u32,
        stage: Stage,
        cuts: &mut Cuts,
    ) -> Result<Portion, Gate> {
        let Some(row) = self.agent(agent) else { return Err(Gate::AgentUnknown) };
        let Some(node) = self.nodes.row(client) else { return Err(Gate::FrameworkAway) };
        if !node.constraints.is_empty()
            && let Some(place) = self.excluded(client, agent)
        {
            return Err(Gate::Constraint(place));
        }
        if row.free.is_empty() {
            return Err(Gate::NothingFree);
        }
        let mut terms = Terms {
            agent,
            client,
            role: self.role_slot(client).unwrap_or(self.state.root),
            capabilities: node.capabilities,
            stage,
            lent: row.lent,
            budget: None,
        };
        let free = row.free;
        let simple = row.simple && self.quotas.is_empty();
        let amounts = if row.simple { of_plain(free) } else { self.offered(world, free, &terms)? };
        self.suffices(world, node, &amounts).map_err(Gate::BelowMinimum)?;
        let understands = |capability: Capability| node.capabilities & capability.bit() != 0;
        if self.config.filter_gpus && row.gpus && !understands(Capability::GpuResources) {
            return Err(Gate::Gpu);
        }
        if row.remote && !understands(Capability::RegionAware) {
            return Err(Gate::Region);
        }
        if !self.quotas.is_empty() {
            self.apply_quota(world, node, free, &mut terms, cuts)?;
        }
        let (mut whole, mut shared) = (true, false);
        if !simple {
            let (mut budget, mut any, mut kept) = (terms.budget, false, None);
            world.pool.for_each(free, |ident, amount| {
                let given = self.given(ident, amount, &terms, &mut budget);
                whole &= given == amount;
                shared |= given > 0 && ident.is(Class::SHARED);
                any |= given > 0;
                kept = kept.or((given == 0 && ident.is_open()).then_some(ident.kind));
            });
            if !any {
                // Nothing is no offer, not even to who takes anything.
                let name = world.pool.kind_name(kept.unwrap_or(CPUS));
                return Err(self.blame(world, Short { name, least: 1, have: 0 }, cuts));
            }
        }
        let portion = Portion { whole: whole && !shared, shared, held: cuts.held, terms };
        if !portion.whole && world.pool.parts_of(free) > world.pool.room() {
            return Err(Gate::Full);
        }
        match self.filtered(world, free, &portion, simple) {
            Some(until) => Err(Gate::Filtered(until)),
            None => Ok(portion),
        }
    }

    /// Until when a refusal holds of what a client would get.
    fn filtered(
        &self,
        world: &World<'_, 'a>,
        free: Holding,
        portion: &Portion,
        simple: bool,
    ) -> Option<Time> {
        let Terms { agent, client, budget, .. } = portion.terms;
        self.refused(agent, client, |refused| {
            if simple {
                return world.pool.contains(refused, free);
            }
            let mut budget = budget;
            world.pool.contains_of(refused, free, |ident, amount| {
                self.given(ident, amount, &portion.terms, &mut budget)
            })
        })
    }

    /// What a client may have at all of what is free, by kind; or why it may have nothing of it.
    fn offered(
        &self,
        world: &World<'_, 'a>,
        free: Holding,
        terms: &Terms,
    ) -> Result<Quantities, Gate> {
        let (mut any, mut why) = (false, Gate::NothingFree);
        let amounts = world
            .pool
            .quantities_of(free, |ident, amount| self.given(ident, amount, terms, &mut None));
        world.pool.for_each(free, |ident, amount| {
            if self.given(ident, amount, terms, &mut None) > 0 {
                any = true;
            } else if why == Gate::NothingFree {
                why = self.why_not(ident, terms);
            }
        });
        if any { Ok(amounts) } else { Err(why) }
    }

    fn why_not(&self, ident: &Ident, terms: &Terms) -> Gate {
        if !self.may_use(terms.role, ident) {
            return Gate::Reserved(ident.role);
        }
        match self.lacks(ident, terms) {
            Some(capability) => Gate::Incapable(capability),
            None if ident.is(Class::SHARED) => Gate::OfferedAlready,
            None => Gate::NoNeed,
        }
    }

    /// How much of an amount of an identity a client gets; a budget is used up.
    pub(super) fn given(
        &self,
        ident: &Ident,
        amount: u64,
        terms: &Terms,
        budget: &mut Option<Quantities>,
    ) -> u64 {
        if ident.is_open() {
            let Some(budget) = budget else { return amount };
            let left = budget.of(ident.kind);
            // What is only whole is given whole, or not at all.
            let given = if ident.is(Class::WHOLE) && left < amount { 0 } else { left.min(amount) };
            budget.set(ident.kind, left.saturating_sub(given));
            return given;
        }
        let fits = match terms.stage {
            Stage::Guarantees if ident.is(Class::RESERVED) => {
                self.nodes.row(terms.role).is_some_and(|role| role.name == ident.role)
            }
            Stage::Guarantees | Stage::Fair => self.may_use(terms.role, ident),
        };
        if !fits || self.lacks(ident, terms).is_some() {
            return 0;
        }
        let shared = ident.is(Class::SHARED)
            && (terms.lent
                || self.claims_room() < 8
                || self.is_offered(terms.agent, terms.client, ident));
        if shared { 0 } else { amount }
    }

    fn lacks(&self, ident: &Ident, terms: &Terms) -> Option<Capability> {
        let needs = [
            (Class::REVOCABLE, Capability::RevocableResources),
            (Class::SHARED, Capability::SharedResources),
            (Class::REFINED, Capability::ReservationRefinement),
        ];
        let lacks = |(class, capability): &(Class, Capability)| {
            ident.is(*class) && terms.capabilities & capability.bit() == 0
        };
        needs.into_iter().find(lacks).map(|(_, capability)| capability)
    }

    /// Unreserved, or reserved for a role or one above it.
    fn may_use(&self, role: u32, ident: &Ident) -> bool {
        if ident.role.is_empty() {
            return true;
        }
        let mut at = self.nodes.row(role);
        while let Some(role) = at {
            if role.name == ident.role {
                return true;
            }
            at = role.above().and_then(|above| self.nodes.row(above));
        }
        false
    }

    /// Enough for the client's minimum, or for the master's when it has none of its own
    /// (Mesos: `isAllocatable`): any one alternative is. Else an amount that is short.
    fn suffices(
        &self,
        world: &World<'_, 'a>,
        node: &Node,
        amounts: &Quantities,
    ) -> Result<(), Short> {
        if node.takes_anything {
            return Ok(());
        }
        if !node.minimums.is_empty() {
            return self.suffices_client(world, node, amounts);
        }
        let (cpus, mem) = (self.config.min_cpus_milli, self.config.min_mem_milli);
        let enough = (cpus == 0 && mem == 0)
            || (cpus > 0 && amounts.of(CPUS) >= cpus)
            || (mem > 0 && amounts.of(MEM) >= mem);
        if enough {
            return Ok(());
        }
        let (kind, least) = if cpus > 0 { (CPUS, cpus) } else { (MEM, mem) };
        Err(Short { name: world.pool.kind_name(kind), least, have: amounts.of(kind) })
    }

    fn suffices_client(
        &self,
        world: &World<'_, 'a>,
        node: &Node,
        amounts: &Quantities,
    ) -> Result<(), Short> {
        let have = |name: Name| world.pool.kind_of(name).map_or(0, |kind| amounts.of(kind));
        // Amounts stand in the order of their alternatives: one is met when none of its is short.
        let mut first: Option<Short> = None;
        let (mut alternative, mut met) = (None, false);
        for least in self.minimums.iter(node.minimums) {
            if alternative != Some(least.alternative) {
                if met {
                    return Ok(());
                }
                (alternative, met) = (Some(least.alternative), true);
            }
            let have = have(least.name);
            if have < least.milli {
                met = false;
                let short = Short { name: least.name, least: least.milli, have };
                first = first.or(Some(short));
            }
        }
        match first {
            Some(short) if !met => Err(short),
            _ => Ok(()),
        }
    }

    /// What limits and headroom leave, as a budget.
    fn apply_quota(
        &self,
        world: &World<'_, 'a>,
        node: &Node,
        free: Holding,
        terms: &mut Terms,
        cuts: &mut Cuts,
    ) -> Result<(), Gate> {
        let there = world.pool.quantities_of(free, open);
        let (slack, whose) = self.limit_slack(terms.role);
        let short = self.anybody_short();
        let guarantees = terms.stage == Stage::Guarantees;
        let entitled = if guarantees { self.entitled(terms.role) } else { Quantities::NONE };
        let mut budget = Quantities::ENDLESS;
        let mut needed = false;
        cuts.whose = whose;
        for (kind, have) in there.iter() {
            let limit = slack.of(kind);
            let limit = if planted(Mutant::IgnoresLimits) { u64::MAX } else { limit };
            let first = have.min(entitled.of(kind)).min(limit);
            needed |= first > 0;
            let rest = have.saturating_sub(first);
            let within = rest.min(limit.saturating_sub(first));
            let left = if short { self.left_over(kind) } else { u64::MAX };
            let more = within.min(left);
            if within < rest {
                cuts.limited.insert(kind);
            }
            if more < within {
                cuts.held.insert(kind);
            }
            budget.set(kind, first.saturating_add(more));
        }
        if guarantees && !needed {
            return Err(Gate::NoNeed);
        }
        terms.budget = Some(budget);
        let mut left = terms.budget;
        let amounts = world
            .pool
            .quantities_of(free, |ident, amount| self.given(ident, amount, terms, &mut left));
        self.suffices(world, node, &amounts).map_err(|short| self.blame(world, short, cuts))
    }

    /// Who made an offer too small: a limit, or what is held back.
    fn blame(&self, world: &World<'_, 'a>, short: Short, cuts: &Cuts) -> Gate {
        let limiting = |kind: u8| {
            let role = cuts.whose_is(kind).filter(|_| cuts.limited.contains(kind))?;
            self.nodes.row(role).map(|role| role.name)
        };
        let kind = world.pool.kind_of(short.name).unwrap_or(CPUS);
        if let Some(role) = limiting(kind) {
            return Gate::Limit { role, short };
        }
        if cuts.held.contains(kind) {
            return Gate::Headroom(short);
        }
        // The short one was not cut: another one was, which would have sufficed.
        match cuts.limited.iter().find_map(limiting) {
            Some(role) => Gate::Limit { role, short },
            None if cuts.held.is_empty() => Gate::BelowMinimum(short),
            None => Gate::Headroom(short),
        }
    }
}

/// The amounts of a holding whose parts are spans.
fn of_plain(holding: Holding) -> Quantities {
    let mut amounts = Quantities::NONE;
    for (kind, milli) in (0u8..).zip(holding.plain()) {
        amounts.set(kind, milli);
    }
    amounts
}
