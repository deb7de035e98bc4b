//! Which offers an operator's change of weights or quotas takes back: no more than it needs.
//!
//! Mesos: `Master::WeightsHandler::rescindOffers`, `Master::QuotaHandler::_update`.

use super::Allocator;
use super::node::{Node, NodeKind};
use crate::names::Names;

impl<'a> Allocator<'a> {
    /// True when any framework is in a role, or in one below it. O(clients · depth).
    pub fn has_frameworks(&self, names: &Names<'a>, role: &str) -> bool {
        let at = names.find(role).and_then(|name| self.role(name));
        let is_below = |client: u32| self.roles_above(client).any(|(slot, _)| Some(slot) == at);
        let clients = self.nodes.iter().filter(|(_, node)| node.kind == NodeKind::Client);
        at.is_some() && clients.into_iter().any(|(id, _)| is_below(id.index))
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
