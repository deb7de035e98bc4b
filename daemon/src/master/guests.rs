//! Whom a master that does not lead joins to the leader: agents that the leader would hear. What this one
//! knows of them its own registry says, which is read again when somebody comes whom it does not know.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;

use mesita_core::time::Time;
use mesita_core::wire::hello::Role;

use super::MasterNode;
use crate::access::Shown;
use crate::access::tokens::TOKEN;
use crate::clock;
use crate::conn::Ends;
use crate::conn::hello::Peer;

/// The registry is not read more often than that, in µs.
const READ_EVERY_US: u64 = 2_000_000;
/// Connections of one node: the one before may not be known to be over.
const OF_A_NODE: u32 = 2;
/// One in so many of all that may be joined are of one address, behind which there may be several.
const OF_AN_ADDRESS: u32 = 4;

/// Who is joined, by how many connections.
#[derive(Debug, Default)]
pub(super) struct Joined {
    by: RefCell<BTreeMap<Whose, u32>>,
    read: Cell<Time>,
}

/// Whose connection it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    /// A node that has joined the cluster.
    Node([u8; 32]),
    /// Anybody else, from there.
    Place(Option<IpAddr>),
}

impl Joined {
    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.by.borrow().values().sum()
    }

    /// One more, of at most `max` in all. False when there is no room for that.
    pub(super) fn begin(&self, from: &Whose, max: u32) -> bool {
        let each = match from {
            Whose::Node(_) => OF_A_NODE,
            Whose::Place(_) => max.div_ceil(OF_AN_ADDRESS),
        };
        let all = self.count();
        let mut by = self.by.borrow_mut();
        let own = by.get(from).copied().unwrap_or(0);
        let has_room = all < max && own < each;
        if has_room {
            by.insert(from.clone(), own + 1);
        }
        has_room
    }

    /// One less.
    pub(super) fn end(&self, from: &Whose) {
        let mut by = self.by.borrow_mut();
        match by.get_mut(from) {
            Some(own) if *own > 1 => *own -= 1,
            Some(_) | None => drop(by.remove(from)),
        }
    }
}

impl MasterNode {
    /// As whom an agent is joined to the leader; none: it is nobody that this master knows.
    pub(super) async fn guest(
        &self,
        ends: &Ends,
        proved: Option<&[u8; 32]>,
        peer: &Peer,
        shown: Option<&Shown<'_>>,
    ) -> Option<Whose> {
        let known = || self.known_guest(ends, proved, peer, shown);
        let from = known();
        let (now, joined) = (clock::now(), &self.joined_here);
        if from.is_some() || now.since(joined.read.get()) < READ_EVERY_US {
            return from;
        }
        joined.read.set(now);
        self.set()?.tell_stored().await;
        known()
    }

    fn known_guest(
        &self,
        ends: &Ends,
        proved: Option<&[u8; 32]>,
        peer: &Peer,
        shown: Option<&Shown<'_>>,
    ) -> Option<Whose> {
        if let Ok(Some(_)) = self.joined(peer, proved) {
            return Some(Whose::Node(peer.key));
        }
        let access = &self.options.access;
        let proves = |shown: &Shown<'_>| match shown.principal.strip_prefix(TOKEN) {
            Some(id) => proved.is_some() && self.token_of(id, shown).is_some(),
            None => access.prover(shown).is_some(),
        };
        let is_let_in = !access.asks_node(Role::Agent) && self.doors.caller(ends).is_ok();
        let place = match ends {
            Ends::Memory => None,
            Ends::Tcp { peer, .. } => Some(peer.ip().to_canonical()),
        };
        (is_let_in || shown.is_some_and(proves)).then_some(Whose::Place(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_than_its_share() {
        let (joined, max) = (Joined::default(), 8);
        let node = |number: u8| Whose::Node([number; 32]);
        let place = Whose::Place(None);
        assert!(joined.begin(&node(1), max) && joined.begin(&node(1), max));
        assert!(!joined.begin(&node(1), max), "a third one of a node");
        assert!(joined.begin(&place, max) && joined.begin(&place, max));
        assert!(!joined.begin(&place, max), "more than its share");
        joined.end(&place);
        assert!(joined.begin(&place, max));
        (2..6).for_each(|number| assert!(joined.begin(&node(number), max)));
        assert!(!joined.begin(&node(7), max), "all places are taken");
        joined.end(&node(1));
        joined.end(&node(1));
        assert_eq!(joined.count(), 6);
        assert!(joined.begin(&node(7), max));
    }
}
