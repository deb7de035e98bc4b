//! Who may have what: Dominant Resource Fairness over roles, then over the frameworks in a role.
//!
//! Read [`node`] for the tree, [`tree`] for who comes first in it, [`sorter`] for the policies and
//! [`filters`] for refusals; this file is what the master calls (Mesos: `HierarchicalAllocator`).
//!
//! Events only mark agents dirty. A round ([`Allocator::begin`], then [`Allocator::next`] until it
//! is over) visits at most [`ROUND_MAX`] of them, in an order drawn from the seed, and hands each
//! agent's free resources to the first client in order that every gate lets through. With nothing
//! dirty a round costs O(1). [`Gate`] lists the gates in the order they are asked.
//!
//! What forces all keys to be computed anew, once in the next round: a change of the cluster's
//! totals, of a weight. Everything else re-keys one path.

pub mod bits;
mod drf;
pub mod filters;
pub mod node;
pub mod sorter;
pub mod tree;

use bits::Bits;
use filters::{Filter, Filters, Owners};
use node::{Node, NodeKind};
pub use sorter::Policy;
use sorter::{Sorter, under};
use tree::{Field, Forest, Match};

use crate::Refusal;
use crate::image::{BadImage, Image, Reader, Writer};
use crate::index::{Bucket, Chain, Index};
use crate::limits::WEIGHT_MAX;
use crate::names::{Name, Names, Text};
use crate::rand::Rng;
use crate::resources::pool::{CPUS, GPUS, Ident, MEM};
use crate::resources::{Holding, Pool, Quantities};
use crate::slab::{self, Slab};
use crate::table::{Slot, Table};
use crate::time::Time;
use crate::timers::Timer;
use crate::wire::Seq;
use crate::wire::call::{Capability, Minimum, Quantity};

/// Agents that one round visits; the rest wait for the next, which is due at once.
pub const ROUND_MAX: usize = 256;

/// What an operator chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Config {
    /// Orders roles.
    pub role_sorter: Policy,
    /// Orders the frameworks of one role.
    pub framework_sorter: Policy,
    /// The same client is not offered the same of an agent again within so long, in µs.
    pub min_reoffer_us: u64,
    /// An offer has at least so many thousandths of a cpu, or `min_mem_milli`; both 0 = anything.
    pub min_cpus_milli: u64,
    /// Thousandths of a MiB; see `min_cpus_milli`.
    pub min_mem_milli: u64,
    /// Agents with GPUs are only for frameworks that say that they use them.
    pub filter_gpus: bool,
}

record! {
    /// What the allocator knows of an agent.
    pub struct AgentRow {
        /// It was added.
        known: bool,
        /// It may be offered: connected, neither drained nor deactivated.
        active: bool,
        /// It has GPUs.
        gpus: bool,
        /// The client that got its resources last: node + 1, for `explain`.
        last_winner: u32,
        /// All it has.
        total: Holding,
        /// What nobody uses and nobody was offered.
        free: Holding,
        /// What it has, by kind.
        quantities: Quantities,
        filters: Chain,
    }

    /// One amount of a client's least acceptable offer.
    pub struct Least {
        /// Which alternative it belongs to.
        alternative: u16,
        /// The resource's name.
        name: Name,
        /// Thousandths.
        milli: u64,
    }
}

/// The memory of an [`Allocator`].
#[derive(Debug)]
pub struct Memory<'a> {
    /// Roles, their own nodes, clients, and the root.
    pub nodes: &'a mut [Slot<Node>],
    /// As many as nodes.
    pub node_buckets: &'a mut [Bucket],
    /// As many as nodes.
    pub matches: &'a mut [Match],
    /// One for each agent of the master's table.
    pub agents: &'a mut [AgentRow],
    /// A bit for each agent.
    pub dirty: &'a mut [u64],
    /// Refusals remembered.
    pub filters: &'a mut [Slot<Filter>],
    /// As many as filters.
    pub filter_timers: &'a mut [Timer],
    /// Amounts in all clients' minimums.
    pub minimums: &'a mut [slab::Node<Least>],
}

/// Why a client does not get what an agent has, in the order in which it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gate {
    /// The agent is not connected, or takes nothing new.
    AgentInactive,
    /// The framework is not connected, or its stream is congested.
    FrameworkAway,
    /// The framework suppressed this role.
    Suppressed,
    /// The agent has nothing free, or nothing that this role may use.
    NothingFree,
    /// What is free is less than the framework takes.
    BelowMinimum,
    /// The agent has GPUs, and the framework does not say that it uses them.
    Gpu,
    /// The framework refused the like, until then.
    Filtered(Time),
}

/// A share of an agent's free resources for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The agent's slot.
    pub agent: u32,
    /// The client's node.
    pub client: u32,
    /// The client's framework.
    pub framework: u32,
    /// What it gets; the receiver owns it now.
    pub held: Holding,
}

/// The agents of one round, drawn by [`Allocator::begin`].
#[derive(Debug, Default)]
pub struct Round {
    agents: heapless::Vec<u32, ROUND_MAX>,
}

/// What every step of the allocator needs beside itself.
pub struct World<'w, 'a> {
    /// Who holds what.
    pub pool: &'w mut Pool<'a>,
    /// Names of roles and resources.
    pub names: &'w mut Names<'a>,
}

/// The allocator. Clients are named by their node's slot, agents and frameworks by theirs.
#[derive(Debug)]
pub struct Allocator<'a> {
    config: Config,
    nodes: Table<'a, Node>,
    by_name: Index<'a>,
    forest: Forest<'a>,
    agents: &'a mut [AgentRow],
    dirty: Bits<'a>,
    filters: Filters<'a>,
    minimums: Slab<'a, Least>,
    totals: Quantities,
    rng: Rng,
    root: u32,
    /// The last node passed over for the agent at hand, as slot + 1.
    passed: u32,
    /// Where the next round begins to look for dirty agents.
    cursor: u32,
    /// Keys are of older totals or weights.
    stale: bool,
}

impl<'a> Allocator<'a> {
    /// An allocator without agents and frameworks. All memory must be zero.
    pub fn new(memory: Memory<'a>, config: Config, seed: u64) -> Result<Self, Refusal> {
        let mut nodes = Table::new(memory.nodes);
        let mut root = Node::new(NodeKind::Root, 0);
        root.parent = 0;
        let root = nodes.insert(root).map_err(|_| Refusal::RolesFull)?.index;
        Ok(Self {
            config,
            nodes,
            by_name: Index::new(memory.node_buckets, seed),
            forest: Forest::new(memory.matches),
            agents: memory.agents,
            dirty: Bits::new(memory.dirty),
            filters: Filters::new(memory.filters, memory.filter_timers),
            minimums: Slab::new(memory.minimums),
            totals: Quantities::NONE,
            rng: Rng::new(seed),
            root,
            passed: 0,
            cursor: 0,
            stale: false,
        })
    }

    /// Gives the memory back.
    pub fn release(self) -> Memory<'a> {
        let (filters, filter_timers) = self.filters.release();
        Memory {
            nodes: self.nodes.release(),
            node_buckets: self.by_name.release(),
            matches: self.forest.release(),
            agents: self.agents,
            dirty: self.dirty.release(),
            filters,
            filter_timers,
            minimums: self.minimums.release(),
        }
    }

    /// True when a round has something to do now.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// When a filter expires next, which makes its agent dirty.
    pub fn next_expiry(&self) -> Time {
        self.filters.next_expiry()
    }

    /// Agents with something new to offer, filters in force, filters evicted.
    pub fn gauges(&self) -> (u32, u32, u64) {
        (self.dirty.len(), self.filters.len(), self.filters.evicted)
    }

    /// What all agents together have.
    pub fn totals(&self) -> &Quantities {
        &self.totals
    }

    // ------------------------------------------------------------------ agents

    /// Adds an agent, active. O(kinds). It takes over both holdings.
    pub fn add_agent(&mut self, pool: &Pool<'_>, agent: u32, total: Holding, free: Holding) {
        let quantities = pool.quantities(total);
        let gpus = quantities.of(GPUS) > 0;
        if let Some(row) = self.agents.get_mut(agent as usize) {
            invariant!(!row.known, "an agent is added twice");
            let filters = Chain::EMPTY;
            *row = AgentRow {
                known: true,
                active: true,
                gpus,
                last_winner: 0,
                total,
                free,
                quantities,
                filters,
            };
            self.totals.add_all(&quantities);
            self.stale = true;
            self.mark(agent);
        }
    }

    /// Removes an agent with its filters. What is offered or used of it is no more charged after
    /// the caller took it back with [`Allocator::uncharge`]. O(filters of the agent).
    pub fn remove_agent(&mut self, world: &mut World<'_, 'a>, agent: u32) {
        while let Some(id) = self.agent(agent).and_then(|row| self.filters.first(row.filters)) {
            self.remove_filter(world, id);
        }
        let Some(row) = self.agents.get_mut(agent as usize) else { return };
        let mut gone = core::mem::replace(row, bytemuck::Zeroable::zeroed());
        if !gone.known {
            return;
        }
        self.totals.subtract_all(&gone.quantities);
        self.stale = true;
        self.dirty.remove(agent);
        world.pool.clear(world.names, &mut gone.total);
        world.pool.clear(world.names, &mut gone.free);
    }

    /// Whether an agent may be offered. O(1).
    pub fn set_agent_active(&mut self, agent: u32, active: bool) {
        if let Some(row) = self.agents.get_mut(agent as usize)
            && row.known
        {
            row.active = active;
            self.mark(agent);
        }
    }

    /// What an agent has, and what of it is free.
    pub fn agent_holdings(&self, agent: u32) -> Option<(Holding, Holding)> {
        self.agent(agent).map(|row| (row.total, row.free))
    }

    /// What an agent has, by kind.
    pub fn agent_quantities(&self, agent: u32) -> Option<Quantities> {
        self.agent(agent).map(|row| row.quantities)
    }

    /// The framework that got an agent's resources last.
    pub fn last_winner(&self, agent: u32) -> Option<u32> {
        let client = self.agent(agent)?.last_winner.checked_sub(1)?;
        self.nodes.row(client).map(|node| node.framework)
    }

    // -------------------------------------------------------------- frameworks

    /// Adds a framework to a role and returns the client. It wants offers unless `suppressed`.
    ///
    /// O(depth of the role · log roles). `RolesFull` or `NamesFull` when there is no room for the
    /// role's nodes: at most its depth and two more.
    pub fn add_client(
        &mut self,
        names: &mut Names<'a>,
        role: &str,
        framework: u32,
        capabilities: u32,
        suppressed: bool,
    ) -> Result<u32, Refusal> {
        let at = self.add_role(names, role)?;
        let own = match self.find_node(OWN, u64::from(at)) {
            Some(own) => Ok(own),
            None => {
                let mut own = Node::new(NodeKind::Own, at);
                own.order = node::order_of(".");
                self.insert_node(own, OWN, u64::from(at)).inspect_err(|_| self.prune(names, at))
            }
        }?;
        let mut client = Node::new(NodeKind::Client, own);
        client.framework = framework;
        client.capabilities = capabilities;
        client.order = u64::from(framework);
        client.suppressed = suppressed;
        let key = client_key(own, framework);
        invariant!(self.find_node(CLIENT, key).is_none(), "a framework is in a role twice");
        self.insert_node(client, CLIENT, key).inspect_err(|_| self.prune(names, own))
    }

    /// The client that a framework is in a role, if it is in it.
    pub fn client(&self, names: &Names<'_>, role: &str, framework: u32) -> Option<u32> {
        let at = self.find_node(ROLE, u64::from(names.find(role)?.place()))?;
        let own = self.find_node(OWN, u64::from(at))?;
        self.find_node(CLIENT, client_key(own, framework))
    }

    /// Whether [`Allocator::add_client`] would find room for all of `roles`: a check ahead.
    pub fn has_room_for_roles<'r>(
        &self,
        names: &Names<'_>,
        roles: impl Iterator<Item = &'r str> + Clone,
    ) -> Result<(), Refusal> {
        let nodes = roles.clone().fold(0usize, |sum, role| {
            sum.saturating_add(role.split('/').count()).saturating_add(2)
        });
        if usize::try_from(self.nodes.room()).is_ok_and(|room| room < nodes) {
            return Err(Refusal::RolesFull);
        }
        if !names.has_room_for(roles.flat_map(paths)) {
            return Err(Refusal::NamesFull);
        }
        Ok(())
    }

    /// Removes a client that is charged for nothing, with its filters, and its role if it was the
    /// last there. O(filters of the client + depth · log roles).
    pub fn remove_client(&mut self, world: &mut World<'_, 'a>, client: u32) {
        self.want(world.names, client, false);
        self.lift_filters(world, client);
        let Some(node) = self.nodes.row(client) else { return };
        invariant!(node.allocated.is_empty(), "a client that has something is removed");
        let mut minimums = node.minimums;
        while let Some(least) = self.minimums.pop(&mut minimums) {
            world.names.release_one(least.name);
        }
        self.prune(world.names, client);
    }

    /// Sets what a client takes at the least; none = the master's minimum. The caller checked that
    /// there is room for it.
    pub fn set_minimum(
        &mut self,
        names: &mut Names<'a>,
        client: u32,
        minimum: Option<&Minimum<'_>>,
    ) {
        let Some(mut list) = self.nodes.row(client).map(|node| node.minimums) else { return };
        while let Some(least) = self.minimums.pop(&mut list) {
            names.release_one(least.name);
        }
        let alternatives = minimum.map_or(Seq::EMPTY, |minimum| minimum.alternatives);
        let mut anything = minimum.is_some() && alternatives.is_empty();
        for (alternative, quantities) in (0u16..).zip(alternatives.iter()) {
            // An alternative that asks nothing is always met.
            anything |= quantities.amounts.is_empty();
            for Quantity { name, amount } in quantities.amounts.iter() {
                let Ok(name) = names.intern(name) else { continue };
                let least = Least { alternative, name, milli: amount.milli() };
                if self.minimums.push(&mut list, least).is_err() {
                    names.release_one(name);
                }
            }
        }
        if let Some(node) = self.nodes.row_mut(client) {
            node.minimums = list;
            node.takes_anything = anything;
        }
    }

    /// Sets what a client's framework understands.
    pub fn set_capabilities(&mut self, client: u32, capabilities: u32) {
        if let Some(node) = self.nodes.row_mut(client) {
            node.capabilities = capabilities;
        }
    }

    /// Amounts that minimums can still hold.
    pub fn minimums_room(&self) -> u32 {
        self.minimums.room()
    }

    /// The framework of a client is there and takes offers, or does not. O(depth · log roles).
    pub fn set_away(&mut self, names: &Names<'a>, client: u32, away: bool) {
        let suppressed = self.nodes.row(client).is_some_and(|node| node.suppressed);
        self.want(names, client, !away && !suppressed);
    }

    /// A client wants no offers until it is revived. O(depth · log roles).
    pub fn suppress(&mut self, names: &Names<'a>, client: u32) {
        if let Some(node) = self.nodes.row_mut(client) {
            node.suppressed = true;
        }
        self.want(names, client, false);
    }

    /// A client wants offers again, of everything: its filters are lifted.
    ///
    /// O(agents / 64 + filters of the client). `away` = its framework is not there to be offered.
    pub fn revive(&mut self, world: &mut World<'_, 'a>, client: u32, away: bool) {
        self.lift_filters(world, client);
        if let Some(node) = self.nodes.row_mut(client) {
            node.suppressed = false;
        }
        self.want(world.names, client, !away);
        self.mark_all();
    }

    /// Lifts all filters of a client. O(its filters).
    pub fn lift_filters(&mut self, world: &mut World<'_, 'a>, client: u32) {
        while let Some(id) =
            self.nodes.row(client).and_then(|node| self.filters.first(node.filters))
        {
            self.remove_filter(world, id);
        }
    }

    /// True when a client suppressed its role.
    pub fn is_suppressed(&self, client: u32) -> bool {
        self.nodes.row(client).is_some_and(|node| node.suppressed)
    }

    /// The role of a client, as it was subscribed.
    pub fn role_of(&self, names: &Names<'_>, client: u32) -> Text {
        self.role_node(client).map_or(Text::new(), |role| names.text(role.name))
    }

    /// What a client has, and how often it was offered something.
    pub fn usage(&self, client: u32) -> Option<(Quantities, u64)> {
        self.nodes.row(client).map(|node| (node.allocated, node.count))
    }

    /// Sets the weight of a role, which stays known when nobody is in it. Thousandths.
    pub fn set_weight(
        &mut self,
        names: &mut Names<'a>,
        role: &str,
        weight: u32,
    ) -> Result<(), Refusal> {
        if weight == 0 || weight > WEIGHT_MAX {
            return Err(Refusal::BadWeight);
        }
        let role = self.add_role(names, role)?;
        if let Some(node) = self.nodes.row_mut(role) {
            node.weight = weight;
            node.weighted = true;
        }
        self.stale = true;
        self.prune(names, role);
        self.mark_all();
        Ok(())
    }

    // ----------------------------------------------------------------- charges

    /// Charges a client for more: tasks reported by an agent. O(depth · (kinds + log roles)).
    pub fn charge(&mut self, names: &Names<'a>, client: u32, amounts: &Quantities) {
        self.walk_up(names, client, |node| node.allocated.add_all(amounts));
    }

    /// Charges a client for less, the resources going nowhere: their agent is lost.
    pub fn uncharge(&mut self, names: &Names<'a>, client: u32, amounts: &Quantities) {
        self.walk_up(names, client, |node| node.allocated.subtract_all(amounts));
    }

    /// Takes resources back from a client to their agent. O(pieces + depth · (kinds + log roles)).
    ///
    /// With `refused_until`, the client is not offered the like there before that time.
    pub fn recover(
        &mut self,
        world: &mut World<'_, 'a>,
        agent: u32,
        client: u32,
        mut held: Holding,
        refused_until: Option<Time>,
    ) {
        let amounts = world.pool.quantities(held);
        self.uncharge(world.names, client, &amounts);
        if let Some(until) = refused_until
            && !held.is_empty()
        {
            self.refuse(world, agent, client, held, until);
        }
        match self.agents.get_mut(agent as usize) {
            Some(row) if row.known => {
                let mut free = row.free;
                world.pool.add(world.names, &mut free, &mut held);
                row.free = free;
                self.mark(agent);
            }
            _ => world.pool.clear(world.names, &mut held),
        }
    }

    /// Until when an answer at `now` that refuses for `refuse_us` holds: no shorter than the least
    /// time between two like offers, so that refusing for 0 s cannot become a loop.
    pub fn refused_until(&self, now: Time, refuse_us: u64) -> Option<Time> {
        let us = refuse_us.max(self.config.min_reoffer_us);
        (us > 0).then(|| now.after(us))
    }

    /// Replaces what an agent has free: after a registration, when all it uses is known.
    pub fn set_free(&mut self, world: &mut World<'_, 'a>, agent: u32, free: Holding) {
        let Some(row) = self.agents.get_mut(agent as usize) else { return };
        let mut before = core::mem::replace(&mut row.free, free);
        world.pool.clear(world.names, &mut before);
        self.mark(agent);
    }

    // ------------------------------------------------------------------ rounds

    /// Lifts filters that expired, brings keys up to date and draws the agents of a round. O(agents
    /// drawn); O(1) when nothing is dirty and nothing expired.
    pub fn begin(&mut self, world: &mut World<'_, 'a>, now: Time) -> Round {
        while let Some(id) = self.filters.expired(now) {
            self.remove_filter(world, id);
        }
        let mut round = Round::default();
        if self.dirty.is_empty() {
            return round;
        }
        if self.stale {
            self.rekey_all(world.names);
        }
        while round.agents.len() < ROUND_MAX {
            let next = self.dirty.at_or_after(self.cursor).or_else(|| self.dirty.at_or_after(0));
            let Some(agent) = next else { break };
            self.dirty.remove(agent);
            self.cursor = agent.saturating_add(1);
            let pushed = round.agents.push(agent);
            invariant!(pushed.is_ok(), "a round has more agents than its bound");
        }
        self.shuffle(&mut round);
        round
    }

    /// The next grant of a round, until it is over. O(clients passed over + depth · log roles).
    pub fn next(&mut self, world: &mut World<'_, 'a>, round: &mut Round) -> Option<Grant> {
        while let Some(&agent) = round.agents.last() {
            let granted = self.serve(world, agent);
            if granted.is_some() {
                return granted;
            }
            round.agents.pop();
        }
        None
    }

    /// Puts back the agents that a round did not come to: it ends early.
    pub fn end(&mut self, round: &Round) {
        for agent in &round.agents {
            self.mark(*agent);
        }
    }

    /// The first gate that keeps `client` from what `agent` has, and none when it would be offered
    /// it once its turn comes: the very gates of a round, for `explain`. O(filters of the agent).
    pub fn why(&self, world: &World<'_, 'a>, client: u32, agent: u32, away: bool) -> Option<Gate> {
        let active = self.agent(agent).filter(|row| row.active);
        let (Some(row), Some(node)) = (active, self.nodes.row(client)) else {
            return Some(Gate::AgentInactive);
        };
        if away {
            return Some(Gate::FrameworkAway);
        }
        if node.suppressed {
            return Some(Gate::Suppressed);
        }
        self.gate(world, row, node, client)
    }

    fn serve(&mut self, world: &mut World<'_, 'a>, agent: u32) -> Option<Grant> {
        let granted = loop {
            let Some(row) = self.agent(agent).filter(|row| row.active && !row.free.is_empty())
            else {
                break None;
            };
            let row = *row;
            let Some(client) = self.first(world.names) else { break None };
            let Some(node) = self.nodes.row(client) else { break None };
            if self.gate(world, &row, node, client).is_none() {
                break self.grant(world, agent, client);
            }
            self.pass(world.names, client);
        };
        self.restore(world.names);
        granted
    }

    /// The client whose turn it is: the first child of the first child … of the root.
    fn first(&mut self, names: &Names<'a>) -> Option<u32> {
        let mut at = self.root;
        loop {
            let node = self.nodes.row(at)?;
            if node.kind == NodeKind::Client {
                return Some(at);
            }
            let group = node.group;
            let next = under!(self.policy_below(node.kind), sorter =>
                sorter.next(&self.forest, &self.nodes, group, &mut self.rng));
            match next {
                Some(next) => at = next,
                None if at == self.root => return None,
                // Everyone below was passed over, so this one is, too.
                None => {
                    self.pass(names, at);
                    at = self.root;
                }
            }
        }
    }

    /// The gates between a client that wants offers and an agent that may be offered, in order.
    fn gate(
        &self,
        world: &World<'_, 'a>,
        row: &AgentRow,
        node: &Node,
        client: u32,
    ) -> Option<Gate> {
        let pool = &*world.pool;
        let allowed =
            |ident: &Ident, amount: u64| if self.may_use(client, ident) { amount } else { 0 };
        let mut any = false;
        pool.for_each(row.free, |ident, amount| any |= allowed(ident, amount) > 0);
        if !any {
            return Some(Gate::NothingFree);
        }
        let amounts = pool.quantities_of(row.free, &allowed);
        if !self.suffices(world, node, &amounts) {
            return Some(Gate::BelowMinimum);
        }
        let uses_gpus = node.capabilities & Capability::GpuResources.bit() != 0;
        if self.config.filter_gpus && row.gpus && !uses_gpus {
            return Some(Gate::Gpu);
        }
        let blocked = self
            .filters
            .blocks(row.filters, client, |refused| pool.contains_of(refused, row.free, &allowed));
        blocked.map(Gate::Filtered)
    }

    /// Unreserved, or reserved for the client's role or one above it.
    fn may_use(&self, client: u32, ident: &Ident) -> bool {
        if ident.role.is_empty() {
            return true;
        }
        let own = self.nodes.row(client).and_then(Node::above);
        let mut at = own.and_then(|own| self.nodes.row(own)).and_then(Node::above);
        while let Some(role) = at.and_then(|at| self.nodes.row(at)) {
            if role.name == ident.role {
                return true;
            }
            at = role.above();
        }
        false
    }

    /// Enough for the client's minimum, or for the master's when it has none of its own
    /// (Mesos: `isAllocatable`): any one alternative is.
    fn suffices(&self, world: &World<'_, 'a>, node: &Node, amounts: &Quantities) -> bool {
        if node.takes_anything {
            return true;
        }
        if node.minimums.is_empty() {
            let Config { min_cpus_milli, min_mem_milli, .. } = self.config;
            let anything = min_cpus_milli == 0 && min_mem_milli == 0;
            return anything
                || (min_cpus_milli > 0 && amounts.of(CPUS) >= min_cpus_milli)
                || (min_mem_milli > 0 && amounts.of(MEM) >= min_mem_milli);
        }
        let have = |name: Name| {
            let kind = (0u8..16).find(|kind| world.pool.kind_name(*kind) == name);
            kind.map_or(0, |kind| amounts.of(kind))
        };
        // Amounts stand in the order of their alternatives: one is met when none of its is short.
        let mut met = None;
        for least in self.minimums.iter(node.minimums) {
            let enough = have(least.name) >= least.milli;
            met = match met {
                Some((alternative, true)) if alternative != least.alternative => return true,
                Some((alternative, so_far)) if alternative == least.alternative => {
                    Some((alternative, so_far && enough))
                }
                _ => Some((least.alternative, enough)),
            };
        }
        met.is_some_and(|(_, enough)| enough)
    }

    fn grant(&mut self, world: &mut World<'_, 'a>, agent: u32, client: u32) -> Option<Grant> {
        let framework = self.nodes.row(client)?.framework;
        let mut free = self.agent(agent)?.free;
        let held = world.pool.split(world.names, &mut free, |_, ident, amount| {
            if self.may_use(client, ident) { amount } else { 0 }
        });
        let amounts = world.pool.quantities(held);
        if let Some(row) = self.agents.get_mut(agent as usize) {
            row.free = free;
            row.last_winner = client.saturating_add(1);
        }
        self.walk_up(world.names, client, |node| {
            node.allocated.add_all(&amounts);
            node.count = node.count.saturating_add(1);
        });
        Some(Grant { agent, client, framework, held })
    }

    // ---------------------------------------------------------------- the tree

    /// The policy that orders what is below a node of this kind.
    fn policy_below(&self, kind: NodeKind) -> Policy {
        match kind {
            NodeKind::Own => self.config.framework_sorter,
            NodeKind::Root | NodeKind::Role | NodeKind::Client => self.config.role_sorter,
        }
    }

    /// Changes a client and all above it, and their places among their siblings.
    fn walk_up(&mut self, names: &Names<'a>, client: u32, mut change: impl FnMut(&mut Node)) {
        let mut at = Some(client);
        while let Some((slot, node)) = at.and_then(|at| Some((at, self.nodes.row_mut(at)?))) {
            change(node);
            node.rekey(&self.totals);
            at = node.above();
            self.changed(names, slot);
        }
    }

    /// A node's key, weight or wish changed.
    fn changed(&mut self, names: &Names<'a>, slot: u32) {
        let Some(kind) = self.kind_above(slot) else { return };
        under!(self.policy_below(kind), sorter => {
            let mut field = Field { nodes: &mut self.nodes, names, sorter };
            self.forest.changed(&mut field, slot);
        });
    }

    fn kind_above(&self, slot: u32) -> Option<NodeKind> {
        let above = self.nodes.row(slot)?.above()?;
        self.nodes.row(above).map(|node| node.kind)
    }

    /// A client that wants offers is in its group, and so is every node above it.
    fn want(&mut self, names: &Names<'a>, client: u32, wants: bool) {
        let Some(node) = self.nodes.row_mut(client) else { return };
        if node.wants == wants {
            return;
        }
        node.wants = wants;
        let mut at = client;
        while let Some(above) = self.nodes.row(at).and_then(Node::above) {
            let Some(parent) = self.nodes.row(above) else { return };
            let mut group = parent.group;
            let first = group.is_empty();
            under!(self.policy_below(parent.kind), sorter => {
                let mut field = Field { nodes: &mut self.nodes, names, sorter };
                if wants {
                    let joined = self.forest.join(&mut field, &mut group, at);
                    invariant!(joined.is_ok(), "as many matches as nodes do not suffice");
                } else {
                    self.forest.leave(&mut field, &mut group, at);
                }
            });
            if let Some(parent) = self.nodes.row_mut(above) {
                parent.group = group;
            }
            if !(wants && first || !wants && group.is_empty()) {
                break;
            }
            at = above;
        }
        if wants {
            self.mark_all();
        }
    }

    /// Skips a node until [`Allocator::restore`].
    fn pass(&mut self, names: &Names<'a>, slot: u32) {
        if let Some(node) = self.nodes.row_mut(slot) {
            node.passed = true;
            node.passed_next = core::mem::replace(&mut self.passed, slot.saturating_add(1));
        }
        self.changed(names, slot);
    }

    /// Skips nobody any more.
    fn restore(&mut self, names: &Names<'a>) {
        while let Some(slot) = self.passed.checked_sub(1) {
            let Some(node) = self.nodes.row_mut(slot) else { return };
            node.passed = false;
            self.passed = core::mem::take(&mut node.passed_next);
            self.changed(names, slot);
        }
    }

    fn rekey_all(&mut self, names: &Names<'a>) {
        self.stale = false;
        for slot in 0..self.nodes.high_water() {
            if let Some(node) = self.nodes.row_mut(slot) {
                node.rekey(&self.totals);
            }
        }
        for slot in 0..self.nodes.high_water() {
            let Some((kind, group)) = self.nodes.row(slot).map(|node| (node.kind, node.group))
            else {
                continue;
            };
            under!(self.policy_below(kind), sorter => {
                let mut field = Field { nodes: &mut self.nodes, names, sorter };
                self.forest.replay_all(&mut field, group);
            });
        }
    }

    /// The node of a role, made with all above it if need be.
    fn add_role(&mut self, names: &mut Names<'a>, role: &str) -> Result<u32, Refusal> {
        let mut at = self.root;
        for path in paths(role) {
            let known =
                names.find(path).and_then(|name| self.find_node(ROLE, u64::from(name.place())));
            at = match known {
                Some(known) => known,
                None => self.new_role(names, at, path).inspect_err(|_| self.prune(names, at))?,
            };
        }
        Ok(at)
    }

    fn new_role(&mut self, names: &mut Names<'a>, above: u32, path: &str) -> Result<u32, Refusal> {
        if self.nodes.room() == 0 {
            return Err(Refusal::RolesFull);
        }
        let mut role = Node::new(NodeKind::Role, above);
        role.name = names.intern(path).map_err(|_| Refusal::NamesFull)?;
        role.order = node::order_of(path.rsplit('/').next().unwrap_or(path));
        self.insert_node(role, ROLE, u64::from(role.name.place()))
    }

    fn insert_node(&mut self, node: Node, index: u64, key: u64) -> Result<u32, Refusal> {
        let id = self.nodes.insert(node).map_err(|_| Refusal::RolesFull)?;
        let hash = self.by_name.hash(index, key);
        self.by_name.insert(&mut self.nodes, 0, hash, id);
        if let Some(parent) = node.above().and_then(|above| self.nodes.row_mut(above)) {
            parent.children = parent.children.saturating_add(1);
        }
        Ok(id.index)
    }

    fn find_node(&self, index: u64, key: u64) -> Option<u32> {
        let hash = self.by_name.hash(index, key);
        let found = self.by_name.find(&self.nodes, 0, hash, |node| key_of(node) == (index, key));
        found.map(|id| id.index)
    }

    /// Removes a node and those above it that nothing keeps any more.
    fn prune(&mut self, names: &mut Names<'a>, mut at: u32) {
        while let Some(node) = self.nodes.row(at).copied() {
            let kept = node.children > 0 || node.weighted || node.kind == NodeKind::Root;
            if kept {
                return;
            }
            let (index, key) = key_of(&node);
            let (Some(id), hash) = (self.nodes.id_at(at), self.by_name.hash(index, key)) else {
                return;
            };
            self.by_name.remove(&mut self.nodes, 0, hash, id);
            self.nodes.remove(id);
            names.release_one(node.name);
            let Some(above) = node.above() else { return };
            if let Some(parent) = self.nodes.row_mut(above) {
                parent.children = parent.children.saturating_sub(1);
            }
            at = above;
        }
    }

    fn role_node(&self, client: u32) -> Option<&Node> {
        let own = self.nodes.row(client)?.above()?;
        self.nodes.row(self.nodes.row(own)?.above()?)
    }

    // ------------------------------------------------------------------ agents

    fn agent(&self, agent: u32) -> Option<&AgentRow> {
        self.agents.get(agent as usize).filter(|row| row.known)
    }

    /// An agent has something new to offer, if it has anything.
    fn mark(&mut self, agent: u32) {
        if self.agent(agent).is_some_and(|row| row.active && !row.free.is_empty()) {
            self.dirty.insert(agent);
        }
    }

    fn mark_all(&mut self) {
        for agent in (0u32..).take(self.agents.len()) {
            self.mark(agent);
        }
    }

    /// Fisher and Yates: the last is drawn from all, the one before it from the rest.
    fn shuffle(&mut self, round: &mut Round) {
        let mut left = u32::try_from(round.agents.len()).unwrap_or(0);
        while left > 1 {
            let drawn = self.rng.below(left);
            left = left.saturating_sub(1);
            round.agents.swap(left as usize, drawn as usize);
        }
    }

    fn refuse(
        &mut self,
        world: &mut World<'_, 'a>,
        agent: u32,
        client: u32,
        held: Holding,
        until: Time,
    ) {
        let Ok(refused) = world.pool.copy(world.names, held) else {
            self.filters.evicted = self.filters.evicted.saturating_add(1);
            return;
        };
        if !self.filters.has_room()
            && let Some(soonest) = self.filters.soonest()
        {
            self.remove_filter(world, soonest);
            self.filters.evicted = self.filters.evicted.saturating_add(1);
        }
        let (Some(row), Some(node)) =
            (self.agents.get_mut(agent as usize), self.nodes.row_mut(client))
        else {
            return;
        };
        let owners = Owners { agent: &mut row.filters, client: &mut node.filters };
        if let Err(mut refused) = self.filters.install(owners, client, agent, refused, until) {
            world.pool.clear(world.names, &mut refused);
        }
    }

    /// Lifts one filter; its agent has something new to offer then.
    fn remove_filter(&mut self, world: &mut World<'_, 'a>, id: crate::table::Id) {
        let Some(Filter { client, agent, .. }) = self.filters.get(id) else { return };
        let (Some(row), Some(node)) =
            (self.agents.get_mut(agent as usize), self.nodes.row_mut(client))
        else {
            return;
        };
        let owners = Owners { agent: &mut row.filters, client: &mut node.filters };
        self.filters.remove(owners, world.pool, world.names, id);
        self.mark(agent);
    }
}

/// The indexes of nodes: roles by the name of their path, own nodes by their role, clients by own
/// node and framework.
const ROLE: u64 = 0;
const OWN: u64 = 1;
const CLIENT: u64 = 2;

fn client_key(own: u32, framework: u32) -> u64 {
    (u64::from(own) << 32) | u64::from(framework)
}

fn key_of(node: &Node) -> (u64, u64) {
    let above = node.above().unwrap_or(0);
    match node.kind {
        NodeKind::Root | NodeKind::Role => (ROLE, u64::from(node.name.place())),
        NodeKind::Own => (OWN, u64::from(above)),
        NodeKind::Client => (CLIENT, client_key(above, node.framework)),
    }
}

/// The paths from a role's first component to the whole of it: `a`, `a/b`, `a/b/c`.
fn paths(role: &str) -> impl Iterator<Item = &str> {
    let ends = role.match_indices('/').map(|(at, _)| at).chain([role.len()]);
    ends.filter_map(|end| role.get(..end))
}

impl Image for Allocator<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        self.nodes.export(to);
        self.forest.export(to);
        let known = self.agents.iter().zip(0u32..).filter(|(row, _)| row.known);
        to.put(&u32::try_from(known.clone().count()).unwrap_or(u32::MAX));
        for (row, agent) in known {
            to.put(&(agent, row));
        }
        self.dirty.export(to);
        self.filters.export(to);
        self.minimums.export(to);
        to.put(&(self.totals, self.rng, self.root, self.cursor, self.stale));
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        self.nodes.import(from)?;
        self.forest.import(from)?;
        let known: u32 = from.take()?;
        for _ in 0..known {
            let (agent, row): (u32, AgentRow) = from.take()?;
            *self.agents.get_mut(agent as usize).ok_or(BadImage::TooLarge)? = row;
        }
        self.dirty.import(from)?;
        self.filters.import(from)?;
        self.minimums.import(from)?;
        (self.totals, self.rng, self.root, self.cursor, self.stale) = from.take()?;
        self.by_name.clear();
        for slot in 0..self.nodes.high_water() {
            if let Some((id, node)) = self.nodes.at(slot) {
                let (index, key) = key_of(&node);
                let hash = self.by_name.hash(index, key);
                self.by_name.insert(&mut self.nodes, 0, hash, id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
