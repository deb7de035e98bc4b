//! Which offers an operator's change of weights or quotas takes back: no more than it needs.
//!
//! Mesos: `Master::WeightsHandler::rescindOffers`, `Master::QuotaHandler::_update`.

use super::Allocator;
use super::node::{Node, NodeKind};
use super::quota::{Account, Quota};
use crate::names::Names;
use crate::resources::{Holding, Pool};

impl<'a> Allocator<'a> {
    /// True when any framework is in a role, or in one below it. O(clients · depth).
    pub fn has_frameworks(&self, names: &Names<'a>, role: &str) -> bool {
        let at = names.find(role).and_then(|name| self.role(name));
        let is_below = |client: u32| self.roles_above(client).any(|(slot, _)| Some(slot) == at);
        let clients = self.nodes.iter().filter(|(_, node)| node.kind == NodeKind::Client);
        at.is_some() && clients.into_iter().any(|(id, _)| is_below(id.index))
    }

    /// True when a client's role, or one above it, has more than its limit of something that `held`,
    /// which is only offered to it, has. O(depth · kinds + parts).
    pub fn is_over_limit(&self, pool: &Pool<'_>, client: u32, held: Holding) -> bool {
        let open = self.open_quantities(pool, held);
        open.iter().any(|(kind, _)| {
            self.quotas_of(client)
                .any(|(quota, account)| account.consumed(kind) > quota.limit.of(kind))
        })
    }

    /// True when roles are short of what they are guaranteed of something that `held`, which is only
    /// offered to a client, has; less of it is free; and the client's own role, and those above it,
    /// have more than they are guaranteed. O(depth · kinds + parts).
    pub fn is_owed(&self, pool: &Pool<'_>, client: u32, held: Holding) -> bool {
        let open = self.open_quantities(pool, held);
        open.iter().any(|(kind, _)| {
            let owed = self.state.available.of(kind) < self.state.required.of(kind);
            let is_own = |(quota, account): (&Quota, &Account)| {
                let guaranteed = quota.guarantee.of(kind);
                guaranteed > 0 && account.consumed(kind) <= guaranteed
            };
            owed && !self.quotas_of(client).any(is_own)
        })
    }

    /// The quotas that a client's offers count against, with what is counted.
    fn quotas_of(&self, client: u32) -> impl Iterator<Item = (&Quota, &Account)> {
        let roles = self.roles_above(client);
        roles.filter_map(|(slot, node)| self.quota(slot).zip(self.account(node)))
    }

    /// A client's role and those above it, by slot.
    fn roles_above(&self, client: u32) -> impl Iterator<Item = (u32, &Node)> {
        let role = |slot: Option<u32>| {
            let slot = slot?;
            let node = self.nodes.row(slot).filter(|node| node.kind == NodeKind::Role)?;
            Some((slot, node))
        };
        core::iter::successors(role(self.role_slot(client)), move |(_, node)| role(node.above()))
    }
}
