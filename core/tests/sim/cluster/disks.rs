//! Masters whose disk is lost, or is what it was some time ago; and the operator who replaces them.
//!
//! An empty disk never votes under its old id, and one that went back is noticed by those who remember
//! and put in quarantine: both are removed, and another machine comes under a new id. That a disk went
//! back is noticed only if somebody who is reached at its start remembers what it lost: here the others
//! work while that happens.

use super::*;
use crate::disk::SimDisk;
use mesita_core::registry::meta::Change;
use mesita_core::wire::gossip::Version;

/// How long an operator takes to notice.
const NOTICED: u64 = 20 * SECOND;

/// What is done about a master that is of no use any more, and how far that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nobody has noticed.
    Unnoticed,
    Adding,
    Promoting(u8),
    Removing,
}

/// A master that is of no use any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spoiled {
    id: u8,
    step: Step,
    /// It went back, and is to be put in quarantine.
    judged: bool,
    /// When a change was asked for.
    asked: Time,
}

impl Cluster {
    /// The master that is of no use any more; at most one is at a time.
    pub(super) fn spoiled_id(&self) -> Option<u8> {
        self.spoiled.map(|spoiled| spoiled.id)
    }

    /// Who votes is being changed.
    pub(super) fn is_replacing(&self) -> bool {
        self.spoiled.is_some_and(|spoiled| spoiled.step != Step::Unnoticed)
    }

    /// One that went back is about to be noticed: the others are let alone until it is.
    pub(super) fn is_judging(&self) -> bool {
        self.spoiled.is_some_and(|spoiled| spoiled.judged)
    }

    /// Every other master works, and is enough.
    fn others_work(&self, id: u8) -> bool {
        let ids = self.world.ids();
        let others: Vec<u8> = ids.iter().copied().filter(|other| *other != id).collect();
        ids.len() >= 3 && self.spoiled.is_none() && self.world.work(&others)
    }

    /// A master's disk is gone, and an empty one in its place.
    pub(super) fn lose_disk(&mut self, id: u8) {
        if !self.others_work(id) {
            return;
        }
        self.saw("a master loses its disk");
        self.let_go(id);
        self.world.crash(id);
        self.world.node(id).disk.wipe();
        self.is_spoiled(id, false);
    }

    /// A master's disk is what it was so long ago. What it has now is remembered.
    pub(super) fn go_back_later(&mut self, id: u8, after: u64) {
        let (disk, knows) = (self.world.peek(id).disk.without_log(), self.knows(id));
        self.at(after, Happening::GoesBack { id, disk, knows });
    }

    /// What a master's disk knows of starts, votes and the registry.
    fn knows(&self, id: u8) -> (u32, u32, Version) {
        let facts = &self.world.peek(id).synced;
        (facts.incarnation, facts.promised, facts.accepted.version)
    }

    pub(super) fn go_back(&mut self, id: u8, disk: SimDisk, knows: (u32, u32, Version)) {
        let works =
            self.world.has(id) && self.others_work(id) && self.world.work(&self.world.ids());
        if !works || self.world.open().is_empty() || self.knows(id) == knows {
            return;
        }
        self.saw("a master's disk is an older one");
        self.let_go(id);
        self.world.crash(id);
        self.world.node(id).disk = disk;
        self.is_spoiled(id, true);
        let after = 8 * self.world.t;
        self.at(after, Happening::Judged { id });
    }

    fn is_spoiled(&mut self, id: u8, judged: bool) {
        self.paused.remove(&Node::Master(id));
        self.world.pause(id, 0);
        self.world.boot(id);
        self.spoiled = Some(Spoiled { id, step: Step::Unnoticed, judged, asked: self.now });
        let after = 8 * self.world.t + self.ways.below_u64(NOTICED);
        self.at(after, Happening::Replaces);
    }

    /// I8: it is in quarantine by now, for good.
    pub(super) fn judged(&mut self, id: u8) {
        let Some(spoiled) = self.spoiled.as_mut().filter(|spoiled| spoiled.id == id) else {
            return;
        };
        spoiled.judged = false;
        let front = self.world.peek(id).front.as_ref();
        let quarantined = front.is_none_or(|front| front.facts().quarantined);
        assert!(quarantined, "I8: the disk of {id} is an older one, and it is believed");
        self.saw("a master that has forgotten something is in quarantine");
    }

    pub(super) fn quarantined(&mut self, id: u8) {
        assert!(self.spoiled_id() == Some(id), "{id} has forgotten nothing and is in quarantine");
    }

    /// What an operator does about it, step by step: another one is added, promoted, and it is removed.
    pub(super) fn replaces(&mut self) {
        let Some(spoiled) = self.spoiled else { return };
        let again = self.world.t / 2 + self.ways.below_u64(self.world.t);
        self.at(again, Happening::Replaces);
        let Some(leader) = self.world.open().first().copied() else { return };
        let roster = self.world.facts(leader).meta.roster;
        let Spoiled { id, step, .. } = spoiled;
        let (next, change) = match step {
            Step::Unnoticed => (Step::Adding, None),
            Step::Adding => match roster.learner() {
                Some(new) if self.world.join_as(new, roster) => (Step::Promoting(new), None),
                Some(_) => (step, None),
                None => (step, Some(Change::Add { key: [200 + id; 32] })),
            },
            Step::Promoting(new) if roster.learner() == Some(new) => {
                (step, Some(Change::Promote { id: new }))
            }
            Step::Promoting(_) => (Step::Removing, None),
            Step::Removing if roster.has(id) => (step, Some(Change::Remove { id })),
            Step::Removing => return self.replaced(id),
        };
        if let Step::Promoting(new) = next {
            self.has_master(new);
        }
        self.spoiled = Some(Spoiled { step: next, ..spoiled });
        if self.world.is_changing() && self.now.since(spoiled.asked) > 8 * self.world.t {
            self.world.forget_change();
        }
        if let Some(change) = change.filter(|_| !self.world.is_changing()) {
            self.spoiled = Some(Spoiled { step: next, asked: self.now, ..spoiled });
            self.world.change(change);
        }
    }

    fn has_master(&mut self, id: u8) {
        while self.masters.len() < usize::from(id) {
            let next = self.masters.len() as u8 + 1;
            self.masters.push(MasterNode::new(next, self.shape));
            if !self.threads.is_empty() {
                self.have_thread(Node::Master(next));
            }
        }
    }

    fn replaced(&mut self, id: u8) {
        self.saw("a master is replaced");
        self.let_go(id);
        self.paused.remove(&Node::Master(id));
        self.world.retire(id);
        self.works.clear();
        self.spoiled = None;
    }
}
