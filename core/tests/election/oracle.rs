//! What must hold after every step, judged by somebody who sees everything.
//!
//! | | |
//! |---|---|
//! | I1 | at most one master ever leads an epoch |
//! | I2 | one value for each version, equal on all masters |
//! | I3 | a promise never falls, and there is one vote per master and epoch, across restarts |
//! | I4 | whoever leads an epoch holds every change acknowledged in an epoch below it |
//! | I5 | an acknowledged change is on a majority of disks |
//! | I6 | nobody says what its disk would lose |
//! | I7 | at most one lease at any instant (in `World`) |
//! | I8 | a master in quarantine never votes |
//! | I9 | whoever opens has its opening on a majority of disks |

use std::collections::BTreeMap;

use mesita_core::digest::of_body;
use mesita_core::election::Role;
use mesita_core::registry::body::Named;
use mesita_core::registry::store::Facts;
use mesita_core::time::Time;
use mesita_core::wire::gossip::{Row, Version};

use crate::world::Node;

#[derive(Default)]
pub struct Oracle {
    /// Who led an epoch: the master and its life.
    leaders: BTreeMap<u32, (u8, u64)>,
    /// The hash of each version, of its body, its place in the chain and what it was made of.
    values: BTreeMap<Version, Value>,
    /// Where each master's newest vote went.
    votes: BTreeMap<u8, (u32, u8)>,
    /// The newest acknowledged value of each epoch.
    acknowledged: BTreeMap<u32, Version>,
    proposed: BTreeMap<u32, (u8, Version)>,
    proposing: Option<(u32, u8, Version)>,
    seen: BTreeMap<u8, Version>,
    pub accepted: BTreeMap<u8, Version>,
}

#[derive(Clone, Copy, Debug)]
struct Value {
    hash: u64,
    body: Option<u64>,
    base: Option<Version>,
}

impl Oracle {
    /// A change is about to be proposed at `id`.
    pub fn proposing(&mut self, ticket: u32, id: u8) {
        let before = self.seen.get(&id).copied().unwrap_or_default();
        self.proposing = Some((ticket, id, before));
    }

    /// A disk was exchanged: what its master said before is no promise of this one.
    pub fn forget(&mut self, id: u8) {
        self.votes.remove(&id);
        self.seen.remove(&id);
        self.accepted.remove(&id);
    }

    /// Looks at a master after its step.
    pub fn look(&mut self, now: u64, node: &Node, _local: Time) {
        let front = node.front.as_ref().unwrap();
        let facts = front.facts();
        let version = facts.accepted.version;
        if self.seen.get(&node.id) != Some(&version) {
            self.seen.insert(node.id, version);
            if facts.held == facts.accepted {
                self.value(facts, front.body().bytes());
            }
        }
        if let Some((ticket, id, before)) = self.proposing.take_if(|(_, id, _)| *id == node.id)
            && version > before
        {
            self.proposed.insert(ticket, (id, version));
        }
        let epoch = front.fence().epoch;
        // A single master's vote and first write are one sector: before, nobody knows of either.
        if front.role() >= Role::Elected && front.durable().promised >= epoch {
            let me = (node.id, node.life);
            let leader = *self.leaders.entry(epoch).or_insert(me);
            assert_eq!(leader, me, "I1: two leaders of epoch {epoch} at {now}");
        }
        if facts.quarantined {
            let vote = (facts.promised, facts.voted_for);
            let before = *self.votes.get(&node.id).unwrap_or(&vote);
            assert!(
                facts.voted_for == 0 || vote <= before || facts.promised <= before.0,
                "I8: {} votes in quarantine",
                node.id
            );
        }
    }

    fn value(&mut self, facts: &Facts, body: &[u8]) {
        let Named { version, hash } = facts.accepted;
        if version == Version::default() {
            return;
        }
        let base = (facts.base != facts.accepted).then_some(facts.base.version);
        let new = !self.values.contains_key(&version);
        // What differs once differs in every later body: not each of them needs to be looked at.
        let body = version.number.is_multiple_of(8).then(|| of_body(body));
        let value = self.values.entry(version).or_insert(Value { hash, body, base });
        assert_eq!(value.hash, hash, "I2: two values of {version:?}");
        assert_eq!(value.body, body, "I2: two bodies of {version:?}");
        value.base = value.base.or(base);
        if new && version.number == 1 {
            let older = self.acknowledged.range(..version.epoch).map(|(_, v)| *v);
            for acknowledged in older.collect::<Vec<_>>() {
                self.must_hold(version, acknowledged);
            }
        }
    }

    fn must_hold(&self, version: Version, acknowledged: Version) {
        let mut at = version;
        while at > acknowledged {
            let Some(base) = self.values.get(&at).and_then(|value| value.base) else { break };
            at = base;
        }
        assert_eq!(at, acknowledged, "I4: {version:?} was written without {acknowledged:?}");
    }

    pub fn acknowledged(&mut self, ticket: u32, nodes: &[Node]) {
        let Some((id, version)) = self.proposed.remove(&ticket) else {
            panic!("a change was acknowledged that was not proposed: {ticket}");
        };
        self.acknowledged.insert(version.epoch, version);
        let leader = nodes.iter().find(|node| node.id == id).unwrap().front.as_ref().unwrap();
        let has = |node: &&Node| {
            let durable = leader.durable().accepted.version >= version;
            let said = self.accepted.get(&node.id).is_some_and(|accepted| *accepted >= version);
            if node.id == id { durable } else { said }
        };
        let set = nodes.iter().filter(has).fold(0, |set, node| set | 1 << node.id);
        let roster = &leader.facts().meta.roster;
        assert!(roster.is_majority(set), "I5: {version:?} is acknowledged with {set:b}");
        let later = Version { epoch: version.epoch + 1, number: 0 };
        let openings: Vec<_> =
            self.values.range(later..).map(|(v, _)| *v).filter(|v| v.number == 1).collect();
        for opening in openings {
            self.must_hold(opening, version);
        }
    }

    /// The rows that a master says.
    pub fn said(&mut self, row: &Row) {
        if !row.counts() {
            return;
        }
        let vote = (row.promised, row.voted_for);
        let before = self.votes.get(&row.id).copied().unwrap_or_default();
        // A vote that is not said any more was given all the same.
        let silent = row.promised == before.0 && row.voted_for == 0;
        self.votes.insert(row.id, if silent { before } else { vote });
        assert!(row.promised >= before.0, "I3: {} promised {before:?}, then {vote:?}", row.id);
        let same = row.promised == before.0 && before.1 != 0;
        assert!(
            !same || row.voted_for == before.1 || row.voted_for == 0,
            "I3: {} voted twice: {before:?}, then {vote:?}",
            row.id
        );
        let accepted = self.accepted.insert(row.id, row.accepted).unwrap_or_default();
        assert!(row.accepted >= accepted, "I3: {} accepted {accepted:?} before", row.id);
    }

    pub fn is_on_disk(&self, row: &Row, disk: &Facts) {
        let vote = (disk.promised, disk.voted_for);
        assert!(
            vote == (row.promised, row.voted_for) || disk.promised > row.promised,
            "I6: {} says {:?}, its disk {vote:?}",
            row.id,
            (row.promised, row.voted_for)
        );
        assert!(
            disk.accepted.version >= row.accepted && disk.held.version >= row.held,
            "I6: {} says {:?}, its disk has {:?}",
            row.id,
            row.accepted,
            disk.accepted.version
        );
    }

    /// Somebody is open.
    pub fn opened(&self, nodes: &[Node], id: u8) {
        let leader = nodes.iter().find(|node| node.id == id).unwrap().front.as_ref().unwrap();
        let (named, roster) = (leader.facts().accepted, &leader.facts().meta.roster);
        let has = |node: &&Node| {
            let newer = self.accepted.get(&node.id).is_some_and(|v| *v >= named.version);
            newer || node.id == id && leader.durable().accepted == named
        };
        let set = nodes.iter().filter(has).fold(0, |set, node| set | 1 << node.id);
        assert!(roster.is_majority(set), "I9: {id} opens with {set:b}");
        assert_eq!(named.version.epoch, leader.fence().epoch, "I9: {id} opens without a write");
    }
}
