//! Why a client does not get what an agent has: the gates of a round, asked by a person.
//!
//! Nothing is kept for it but the last winner of each agent and when it won.

use super::gates::{Gate, Short};
use super::node::{Node, NodeKind};
use super::round::Stage;
use super::totals::Totals;
use super::{Allocator, World, drf};
use crate::limits::ROLE_DEPTH_MAX;
use crate::names::{Name, Names};
use crate::resources::{Holding, Pool, Quantities};

/// Levels of the tree below its root: roles, the node of a role's own frameworks, the framework.
pub const LEVELS: usize = ROLE_DEPTH_MAX + 2;

/// Where a node stands among its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Standing {
    /// What it is.
    pub kind: NodeKind,
    /// The role's path; of the frameworks of a role and of a framework empty.
    pub role: Name,
    /// The resource of which it has the largest part; empty = it has nothing.
    pub resource: Name,
    /// What it has of that, in thousandths.
    pub has: u64,
    /// What the cluster has of it.
    pub of: u64,
    /// Its weight, in thousandths.
    pub weight: u32,
    /// How often it, or one below it, was offered something.
    pub count: u64,
    /// Siblings that want something.
    pub siblings: u32,
    /// Those of them that come before it.
    pub before: u32,
}

/// What stands between a client and an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Why {
    /// The first gate that says no; none = it is offered what is free once its turn comes.
    pub gate: Option<Gate>,
    /// Its role is short of a guarantee that the agent has something for: it is served first.
    pub entitled: bool,
    /// Its refusals in force, on all agents.
    pub refusals: u32,
}

impl<'a> Allocator<'a> {
    /// What keeps `client` from what `agent` has: the very gates of a round. `away` = its framework
    /// is not there to be offered.
    pub fn why(&self, world: &World<'_, 'a>, client: u32, agent: u32, away: bool) -> Why {
        let mut why = Why { refusals: self.refusals_of(client), ..Why::default() };
        why.gate = self.closed(client, agent, away);
        if why.gate.is_none() {
            why.gate = self.ask(world, client, agent, Stage::Fair).0.err();
            let short = self.anybody_short();
            why.entitled = short && self.ask(world, client, agent, Stage::Guarantees).0.is_ok();
            if why.entitled {
                why.gate = None;
            }
        }
        why
    }

    /// Where a client stands, from the top: with no gate in the way, those before it come first.
    /// O(depth · nodes).
    pub fn standings(&self, world: &World<'_, 'a>, client: u32) -> heapless::Vec<Standing, LEVELS> {
        let mut standings = heapless::Vec::new();
        let totals = &self.totals_now(world.pool);
        let mut at = client;
        while let Some(node) = self.nodes.row(at)
            && let Some(above) = node.above()
        {
            let (kind, has) = dominant(totals, node);
            let siblings = self.nodes.iter().filter(|(id, other)| {
                other.above() == Some(above) && other.inside && id.index != at
            });
            let (mut count, mut before) = (0u32, 0u32);
            for (_, other) in siblings {
                count = count.saturating_add(1);
                if drf::before(world.names, &ranked(totals, other), &ranked(totals, node)) {
                    before = before.saturating_add(1);
                }
            }
            let standing = Standing {
                kind: node.kind,
                role: node.name,
                resource: kind.map_or(Name::EMPTY, |kind| world.pool.kind_name(kind)),
                has,
                of: kind.map_or(0, |kind| totals.amounts.of(kind)),
                weight: node.rank.weight,
                count: node.rank.count,
                siblings: count,
                before,
            };
            let pushed = standings.push(standing);
            invariant!(pushed.is_ok(), "a tree deeper than its limit");
            at = above;
        }
        standings.reverse();
        standings
    }

    /// The clients that want offers in the order of their shares, as far as `into` holds them; how
    /// many there are. O(clients² · depth), for people.
    pub fn order(&self, pool: &Pool<'_>, names: &Names<'_>, into: &mut [u32]) -> usize {
        let totals = &self.totals_now(pool);
        let mut count = 0usize;
        let wanting =
            self.nodes.iter().filter(|(_, node)| node.kind == NodeKind::Client && node.wants);
        for (id, _) in wanting {
            // Insertion: everything before `at` is in order.
            let mut at = count.min(into.len());
            let mut moved = id.index;
            while let Some(before) = at.checked_sub(1)
                && let Some(other) = into.get(before).copied()
                && self.precedes(totals, names, moved, other)
            {
                if let Some(place) = into.get_mut(at) {
                    *place = other;
                }
                at = before;
            }
            core::mem::swap(&mut moved, into.get_mut(at).unwrap_or(&mut 0));
            count = count.saturating_add(1);
        }
        count
    }

    /// True when client `a` is served before client `b`, by their shares.
    fn precedes(&self, totals: &Totals, names: &Names<'_>, a: u32, b: u32) -> bool {
        let (Some(a), Some(b)) = (self.nodes_above(a), self.nodes_above(b)) else { return false };
        let mut levels = a.iter().rev().zip(b.iter().rev());
        let Some((a, b)) = levels.find(|(a, b)| a != b) else { return false };
        let (Some(a), Some(b)) = (self.nodes.row(*a), self.nodes.row(*b)) else { return false };
        drf::before(names, &ranked(totals, a), &ranked(totals, b))
    }

    /// A client and all above it, but for the root.
    fn nodes_above(&self, client: u32) -> Option<heapless::Vec<u32, LEVELS>> {
        let mut nodes = heapless::Vec::new();
        let mut at = client;
        while let Some(above) = self.nodes.row(at)?.above() {
            nodes.push(at).ok()?;
            at = above;
        }
        Some(nodes)
    }

    /// The totals with what shares are computed with, which a round may still have to bring up to
    /// date.
    fn totals_now(&self, pool: &Pool<'_>) -> Totals {
        let mut totals = self.totals.clone();
        totals.refresh(pool);
        totals
    }

    /// What of a holding is anyone's and to keep, by kind: quota is about that. O(parts).
    pub fn open_quantities(&self, pool: &Pool<'_>, held: Holding) -> Quantities {
        pool.quantities_of(held, super::agents::open)
    }

    /// The first of `wanted`, names with thousandths, that a holding has too little of.
    pub fn first_short(
        &self,
        world: &World<'_, 'a>,
        holding: Holding,
        wanted: impl Iterator<Item = (Name, u64)>,
    ) -> Option<Short> {
        let amounts = world.pool.quantities(holding);
        let have = |name| world.pool.kind_of(name).map_or(0, |kind| amounts.of(kind));
        let mut shorts = wanted.map(|(name, least)| Short { name, least, have: have(name) });
        shorts.find(|short| short.have < short.least)
    }

    /// Every role that is known, with what it and those below it have, for metrics: its path, its
    /// weight, and what it was offered or uses of its dominant resource.
    pub fn roles(&self, pool: &Pool<'_>) -> impl Iterator<Item = (Name, u32, u64, u64)> + '_ {
        let totals = self.totals_now(pool);
        self.nodes.iter().filter(|(_, node)| node.kind == NodeKind::Role).map(move |(_, node)| {
            let (dominant, total, _) = totals.share(&node.allocated, node.rank.weight);
            (node.name, node.rank.weight, dominant, total)
        })
    }

    /// Refusals in force of all clients of a role itself.
    pub fn refusals_in(&self, role: Name) -> u32 {
        let in_role = self.nodes.iter().filter(|(id, node)| {
            node.kind == NodeKind::Client && self.role_name(id.index) == Some(role)
        });
        in_role.fold(0u32, |sum, (id, _)| sum.saturating_add(self.refusals_of(id.index)))
    }
}

/// A node with keys of now.
fn ranked(totals: &Totals, node: &Node) -> Node {
    let mut ranked = *node;
    ranked.rekey(totals);
    ranked
}

/// The kind of which a node has the largest part, and how much.
fn dominant(totals: &Totals, node: &Node) -> (Option<u8>, u64) {
    let (dominant, total, _) = totals.share(&node.allocated, node.rank.weight);
    let is = |kind: &u8| {
        dominant > 0 && node.allocated.of(*kind) == dominant && totals.amounts.of(*kind) == total
    };
    (totals.counted().iter().find(is), dominant)
}
