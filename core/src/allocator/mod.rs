//! Who may have what: Dominant Resource Fairness over roles, then over the frameworks in a role.
//!
//! This file is what the allocator is made of; the master calls what the others say (Mesos:
//! `HierarchicalAllocator`):
//!
//! | file | concern |
//! |---|---|
//! | [`node`], [`tree`] | the tree of roles and frameworks, and who comes first in it |
//! | [`totals`] | what there is, and the keys of shares |
//! | [`sorter`], `drf`, `random` | policies: one file and one line each |
//! | [`roles`] | clients and their wishes, weights, the tree's upkeep |
//! | [`agents`] | what agents have, give and take back |
//! | [`quota`] | guarantees, limits, reservations, headroom |
//! | [`shared`] | volumes that several use at once |
//! | [`filters`] | what frameworks refused |
//! | [`hosts`], [`constraints`] | what agents say of themselves, and which ones a framework wants |
//! | `whitelist` | hosts whose agents may be offered |
//! | `recall` | which offers a change of weights or quotas takes back |
//! | [`gates`] | everything that can keep an agent's resources from a client |
//! | [`round`] | who gets what |
//! | [`why`] | the same questions, asked by people |
//!
//! Events only mark agents dirty. A round ([`Allocator::begin`], then [`Allocator::next`] until it
//! is over) visits at most [`ROUND_MAX`] of them, in an order drawn from the seed. First it gives
//! those roles what they are short of a guarantee, then it hands each agent's free resources to the
//! first client in order that every gate lets through. With nothing dirty a round costs O(1).
//!
//! # What forces keys to be computed anew
//! - A change of the cluster's totals: an agent added, removed, or with more or less than before.
//! - A change of a weight, of the names left out of shares.
//!
//! All keys, once, in the next round that has something to do. Everything else re-keys one path.
//!
//! # What makes an agent dirty
//! - Its free resources grew, or their identities changed; a filter on it went; it may be offered
//!   again; somebody was offered a volume of it that others may use, too.
//! - Any client wants more than before (it came, revived, asks less, has other capabilities or
//!   constraints), a limit that cut something was raised or is less used, or what is not held back
//!   for guarantees grew: then every agent with something free.
//!
//! # Nobody starves
//! A client whose gates an agent's free resources pass, and before whom nobody comes who would be
//! offered them, is offered them after at most ⌈dirty agents / 256⌉ rounds, which follow each other
//! at once; `core/tests/allocation.rs` holds it to that.

pub mod agents;
pub mod bits;
pub mod constraints;
mod drf;
pub mod filters;
pub mod gates;
pub mod hosts;
pub mod node;
pub mod quota;
mod random;
mod recall;
pub mod roles;
pub mod round;
pub mod shared;
pub mod sorter;
pub mod totals;
pub mod tree;
mod whitelist;
pub mod why;

pub use agents::{AgentRow, Bar};
use bits::Bits;
use constraints::Constraint;
use filters::{Filter, Filters};
pub use gates::Gate;
use hosts::{Attribute, HostRow, Hosts};
use node::{Node, NodeKind};
use quota::{Account, Quota};
use roles::Least;
pub use round::{Grant, ROUND_MAX, Round};
use shared::Claim;
pub use sorter::Policy;
use totals::Totals;
use tree::{Forest, Match};

use crate::Refusal;
use crate::capacity::{Capacity, Lender};
use crate::image::{BadImage, Image, Reader, Writer};
use crate::index::{Bucket, Index};
use crate::names::Names;
use crate::rand::Rng;
use crate::resources::quantities::Kinds;
use crate::resources::{Pool, Quantities};
use crate::slab::{self, Slab};
use crate::table::{Slot, Table};
use crate::time::Time;
use crate::timers::Timer;

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

/// The memory of an [`Allocator`].
#[derive(Debug)]
pub struct Memory<'a> {
    /// Roles, their own nodes, clients, and the root.
    pub nodes: &'a mut [Slot<Node>],
    /// As many as nodes.
    pub node_buckets: &'a mut [Bucket],
    /// As many as nodes, and as roles.
    pub matches: &'a mut [Match],
    /// As many as roles.
    pub accounts: &'a mut [Slot<Account>],
    /// Roles with a quota, and roles above them.
    pub quotas: &'a mut [Slot<Quota>],
    /// As many as clients.
    pub clients: &'a mut [u32],
    /// Four times a bit for each client.
    pub client_sets: [&'a mut [u64]; 4],
    /// One for each agent of the master's table.
    pub agents: &'a mut [AgentRow],
    /// As many as agents.
    pub hosts: &'a mut [HostRow],
    /// Attributes of all agents.
    pub attributes: &'a mut [slab::Node<Attribute>],
    /// Twice a bit for each agent.
    pub agent_sets: [&'a mut [u64]; 2],
    /// A bit for each name: the hosts on the operator's list.
    pub listed: &'a mut [u64],
    /// Refusals remembered one by one.
    pub filters: &'a mut [Slot<Filter>],
    /// As many as filters.
    pub filter_timers: &'a mut [Timer],
    /// As many as agents.
    pub refusal_timers: &'a mut [Timer],
    /// For each agent, as many words as hold a bit for each of the first clients.
    pub refusals: &'a mut [u64],
    /// Amounts in all clients' minimums.
    pub minimums: &'a mut [slab::Node<Least>],
    /// Predicates in all clients' constraints.
    pub constraints: &'a mut [slab::Node<Constraint>],
    /// For each pattern among them, a bit for each agent: the verdicts of whoever knows patterns.
    pub verdicts: &'a mut [u64],
    /// Clients of shared volumes.
    pub claims: &'a mut [slab::Node<Claim>],
}

impl<'a> Memory<'a> {
    /// Borrows all of it, zeroed, from `lender`.
    pub fn lend(capacity: &Capacity, lender: &mut impl Lender<'a>) -> Self {
        let c = capacity;
        let (of_clients, of_agents) = (Bits::words_for(c.clients), Bits::words_for(c.agents));
        Self {
            nodes: lender.lend(c.nodes()),
            node_buckets: lender.lend(c.nodes()),
            matches: lender.lend(c.nodes().saturating_add(c.roles)),
            accounts: lender.lend(c.roles),
            quotas: lender.lend(c.quotas),
            clients: lender.lend(c.clients),
            client_sets: [(); 4].map(|()| lender.lend(of_clients)),
            agents: lender.lend(c.agents),
            hosts: lender.lend(c.agents),
            attributes: lender.lend(c.attributes),
            agent_sets: [(); 2].map(|()| lender.lend(of_agents)),
            listed: lender.lend(Bits::words_for(c.names.saturating_add(1))),
            filters: lender.lend(c.filters),
            filter_timers: lender.lend(c.filters),
            refusal_timers: lender.lend(c.agents),
            refusals: lender.lend(c.agents.saturating_mul(Bits::words_for(c.frameworks))),
            minimums: lender.lend(c.minimums),
            constraints: lender.lend(c.constraints),
            verdicts: lender.lend(c.patterns.saturating_mul(verdict_words(c.agents))),
            claims: lender.lend(c.claims),
        }
    }
}

/// Words for the verdicts on one pattern: two bits for each agent, and one that says it is taken.
const fn verdict_words(agents: u32) -> u32 {
    Bits::words_for(agents).saturating_mul(2).saturating_add(1)
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
    accounts: Table<'a, Account>,
    quotas: Table<'a, Quota>,
    /// Nodes of clients by their numbers, as slot + 1; of free numbers, the next one.
    clients: &'a mut [u32],
    /// Clients that want offers, that use GPUs, that take agents of other regions; and a mask.
    wanting: Bits<'a>,
    gpu_users: Bits<'a>,
    travellers: Bits<'a>,
    mask: &'a mut [u64],
    agents: &'a mut [AgentRow],
    hosts: Hosts<'a>,
    /// Agents with something new to offer, and those with anything to offer.
    dirty: Bits<'a>,
    offerable: Bits<'a>,
    /// Names of the hosts on the operator's list, by their places.
    listed: Bits<'a>,
    filters: Filters<'a>,
    minimums: Slab<'a, Least>,
    constraints: Slab<'a, Constraint>,
    verdicts: &'a mut [u64],
    claims: Slab<'a, Claim>,
    totals: Totals,
    state: State,
}

/// Everything of an allocator that is neither a table nor a cache.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
struct State {
    rng: Rng,
    root: u32,
    /// The last node passed over for the agent at hand, as slot + 1.
    passed: u32,
    /// Where the next round begins to look for dirty agents.
    cursor: u32,
    /// The first free client's number, and how many were ever taken.
    number: u32,
    numbers: u32,
    /// Clients there are.
    clients: u32,
    /// Agents that have something that may be taken back.
    revocable: u32,
    /// Keys are of older totals or weights.
    stale: bool,
    /// Whether roles are parked is to be asked anew.
    repark: bool,
    /// No offers are made: the agents are still coming back.
    paused: bool,
    /// Only agents on listed hosts are offered.
    lists: bool,
    /// Free and anyone's, on agents that may be offered.
    available: Quantities,
    /// What all roles are short of their guarantees, and what is guaranteed to all of them.
    required: Quantities,
    promised: Quantities,
    /// Kinds of which something was held back for guarantees, and how little was left over then.
    held: Kinds,
    held_at: Quantities,
    /// Rounds that had something to do, and grants made.
    rounds: u64,
    grants: u64,
}

/// Numbers for gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Agents with something new to offer.
    pub dirty: u32,
    /// Refusals in force.
    pub filters: u32,
    /// Refusals that went before their time for want of room.
    pub evicted: u64,
    /// Rounds that had something to do.
    pub rounds: u64,
    /// Grants made.
    pub grants: u64,
}

impl<'a> Allocator<'a> {
    /// An allocator without agents and frameworks. All memory must be zero.
    pub fn new(memory: Memory<'a>, config: Config, seed: u64) -> Result<Self, Refusal> {
        let mut nodes = Table::new(memory.nodes);
        let mut root = Node::new(NodeKind::Root, 0);
        root.parent = 0;
        let root = nodes.insert(root).map_err(|_| Refusal::RolesFull)?.index;
        let [wanting, gpu_users, travellers, mask] = memory.client_sets;
        let [dirty, offerable] = memory.agent_sets;
        let timers = [memory.filter_timers, memory.refusal_timers];
        Ok(Self {
            config,
            nodes,
            by_name: Index::new(memory.node_buckets, seed),
            forest: Forest::new(memory.matches),
            accounts: Table::new(memory.accounts),
            quotas: Table::new(memory.quotas),
            clients: memory.clients,
            wanting: Bits::new(wanting),
            gpu_users: Bits::new(gpu_users),
            travellers: Bits::new(travellers),
            mask,
            agents: memory.agents,
            hosts: Hosts::new(memory.hosts, memory.attributes),
            dirty: Bits::new(dirty),
            offerable: Bits::new(offerable),
            listed: Bits::new(memory.listed),
            filters: Filters::new(memory.filters, timers, memory.refusals),
            minimums: Slab::new(memory.minimums),
            constraints: Slab::new(memory.constraints),
            verdicts: memory.verdicts,
            claims: Slab::new(memory.claims),
            totals: Totals::new(),
            state: State {
                rng: Rng::new(seed),
                root,
                passed: 0,
                cursor: 0,
                number: 0,
                numbers: 0,
                clients: 0,
                revocable: 0,
                stale: false,
                repark: false,
                paused: false,
                lists: false,
                available: Quantities::NONE,
                required: Quantities::NONE,
                promised: Quantities::NONE,
                held: Kinds::NONE,
                held_at: Quantities::ENDLESS,
                rounds: 0,
                grants: 0,
            },
        })
    }

    /// Gives the memory back.
    pub fn release(self) -> Memory<'a> {
        let (filters, [filter_timers, refusal_timers], refusals) = self.filters.release();
        let (hosts, attributes) = self.hosts.release();
        let client_sets = [
            self.wanting.release(),
            self.gpu_users.release(),
            self.travellers.release(),
            self.mask,
        ];
        Memory {
            nodes: self.nodes.release(),
            node_buckets: self.by_name.release(),
            matches: self.forest.release(),
            accounts: self.accounts.release(),
            quotas: self.quotas.release(),
            clients: self.clients,
            client_sets,
            agents: self.agents,
            hosts,
            attributes,
            agent_sets: [self.dirty.release(), self.offerable.release()],
            listed: self.listed.release(),
            filters,
            filter_timers,
            refusal_timers,
            refusals,
            minimums: self.minimums.release(),
            constraints: self.constraints.release(),
            verdicts: self.verdicts,
            claims: self.claims.release(),
        }
    }

    /// True when a round has something to do now.
    pub fn is_dirty(&self) -> bool {
        !self.state.paused && (!self.dirty.is_empty() || self.is_more_left_over())
    }

    /// When a filter expires next, which makes its agent dirty.
    pub fn next_expiry(&self) -> Time {
        self.filters.next_expiry()
    }

    /// What is in use, and what happened.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            dirty: self.dirty.len(),
            filters: self.filters.in_force(),
            evicted: self.filters.evicted,
            rounds: self.state.rounds,
            grants: self.state.grants,
        }
    }

    /// What all agents together have.
    pub fn totals(&self) -> &Quantities {
        &self.totals.amounts
    }

    /// No offers from now on, until they are allowed again: agents are still coming back (Mesos:
    /// `HierarchicalAllocator::pause`).
    pub fn pause(&mut self, paused: bool) {
        self.state.paused = paused;
    }

    /// True while no offers are made.
    pub fn is_paused(&self) -> bool {
        self.state.paused
    }
}

impl Image for Allocator<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        self.nodes.export(to);
        self.forest.export(to);
        self.accounts.export(to);
        self.quotas.export(to);
        let numbers = self.clients.get(..self.state.numbers as usize);
        to.put_all(numbers.unwrap_or_default());
        for set in [&self.wanting, &self.gpu_users, &self.travellers, &self.dirty] {
            set.export(to);
        }
        self.offerable.export(to);
        self.listed.export(to);
        let used = |row: &&AgentRow| row.known || !row.claims.is_empty();
        let rows = self.agents.iter().zip(0u32..).filter(|(row, _)| used(row));
        to.put(&rows.clone().fold(0u32, |n, _| n.saturating_add(1)));
        for (row, agent) in rows {
            to.put(&(agent, row));
        }
        self.hosts.export(to);
        self.filters.export(to);
        self.minimums.export(to);
        self.constraints.export(to);
        to.put_all(self.verdicts);
        self.claims.export(to);
        to.put(&self.totals);
        to.put(&self.state);
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        self.nodes.import(from)?;
        self.forest.import(from)?;
        self.accounts.import(from)?;
        self.quotas.import(from)?;
        from.take_all(self.clients)?;
        for set in [&mut self.wanting, &mut self.gpu_users, &mut self.travellers, &mut self.dirty] {
            set.import(from)?;
        }
        self.offerable.import(from)?;
        self.listed.import(from)?;
        let rows: u32 = from.take()?;
        for _ in 0..rows {
            let (agent, row): (u32, AgentRow) = from.take()?;
            *self.agents.get_mut(agent as usize).ok_or(BadImage::TooLarge)? = row;
        }
        self.hosts.import(from)?;
        self.filters.import(from)?;
        self.minimums.import(from)?;
        self.constraints.import(from)?;
        from.take_all(self.verdicts)?;
        self.claims.import(from)?;
        self.totals = from.take()?;
        self.state = from.take()?;
        self.index_again();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
