//! Why a client does not get what an agent has: the gates of a round, asked by a person.
//!
//! Nothing is kept for it but the last winner of each agent and when it won.

use super::gates::{Gate, Short};
use super::node::{Node, NodeKind};
use super::round::Stage;
use super::{Allocator, World, drf};
use crate::limits::ROLE_DEPTH_MAX;
use crate::names::Name;
use crate::resources::Holding;

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
    /// Where it stands, from the top: with no gate in the way, those before it come first.
    pub standings: heapless::Vec<Standing, LEVELS>,
    /// Its role is short of a guarantee that the agent has something for: it is served first.
    pub entitled: bool,
    /// Its refusals in force, on all agents.
    pub refusals: u32,
}

impl<'a> Allocator<'a> {
    /// What keeps `client` from what `agent` has: the very gates of a round. `away` = its framework
    /// is not there to be offered. O(nodes), for its standings.
    pub fn why(&self, world: &World<'_, 'a>, client: u32, agent: u32, away: bool) -> Why {
        let mut why = Why { refusals: self.refusals_of(client), ..Why::default() };
        self.stand(world, client, &mut why);
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

    fn stand(&self, world: &World<'_, 'a>, client: u32, why: &mut Why) {
        let mut at = client;
        while let Some(node) = self.nodes.row(at)
            && let Some(above) = node.above()
        {
            let (kind, has) = self.dominant(node);
            let siblings = self.nodes.iter().filter(|(id, other)| {
                other.above() == Some(above) && other.inside && id.index != at
            });
            let (mut count, mut before) = (0u32, 0u32);
            for (_, other) in siblings {
                count = count.saturating_add(1);
                if drf::before(world.names, &self.ranked(other), &self.ranked(node)) {
                    before = before.saturating_add(1);
                }
            }
            let standing = Standing {
                kind: node.kind,
                role: node.name,
                resource: kind.map_or(Name::EMPTY, |kind| world.pool.kind_name(kind)),
                has,
                of: kind.map_or(0, |kind| self.totals.amounts.of(kind)),
                weight: node.rank.weight,
                count: node.rank.count,
                siblings: count,
                before,
            };
            let pushed = why.standings.push(standing);
            invariant!(pushed.is_ok(), "a tree deeper than its limit");
            at = above;
        }
        why.standings.reverse();
    }

    /// A node with keys of now: those that nobody competes with may be old.
    fn ranked(&self, node: &Node) -> Node {
        let mut ranked = *node;
        ranked.rekey(&self.totals);
        ranked
    }

    /// The kind of which a node has the largest part, and how much.
    fn dominant(&self, node: &Node) -> (Option<u8>, u64) {
        let (dominant, total, _) = self.totals.share(&node.allocated, node.rank.weight);
        let is = |kind: &u8| {
            dominant > 0
                && node.allocated.of(*kind) == dominant
                && self.totals.amounts.of(*kind) == total
        };
        (self.totals.counted().iter().find(is), dominant)
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
    pub fn roles(&self) -> impl Iterator<Item = (Name, u32, u64, u64)> + '_ {
        self.nodes.iter().filter(|(_, node)| node.kind == NodeKind::Role).map(|(_, node)| {
            let (dominant, total, _) = self.totals.share(&node.allocated, node.rank.weight);
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
