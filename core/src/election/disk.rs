//! What was promised, what of it is durable, and the one write in flight between them.

use serde::{Deserialize, Serialize};

use super::{Cx, Election, Output};
use crate::registry::body::Named;
use crate::registry::store::{Edits, Facts, Save};
use crate::time::Time;

/// One ordered writer. At most one sector is being written, and at most one value waits behind it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Disk {
    promised: Facts,
    /// The change from `promised.base` to `promised.accepted`.
    edits: Edits,
    durable: Facts,
    flying: Option<Facts>,
    flying_since: Time,
    /// `promised` has not been handed over.
    dirty: bool,
    /// What is promised was received as a whole, and its pieces were handed over.
    whole: bool,
}

impl Disk {
    /// Begins with what was found.
    pub(super) fn begin(&mut self, facts: &Facts, edits: &[u8]) {
        self.promised = facts.clone();
        self.durable = facts.clone();
        self.edits = Edits::from_slice(edits).unwrap_or_default();
    }

    pub(super) fn promised(&self) -> &Facts {
        &self.promised
    }

    pub(super) fn durable(&self) -> &Facts {
        &self.durable
    }

    /// The change that made the newest value; empty when it came as a whole.
    pub(super) fn edits(&self) -> &[u8] {
        &self.edits
    }

    /// Changes what is promised. It is handed over as soon as no write is in flight.
    pub(super) fn promise(&mut self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.promised);
        self.dirty = true;
    }

    /// True when another value can be accepted: the one before was handed over.
    pub(super) fn has_room(&self) -> bool {
        let newest = self.flying.as_ref().unwrap_or(&self.durable);
        newest.accepted == self.promised.accepted && !self.whole
    }

    /// Accepts a value made by a change.
    pub(super) fn accept(&mut self, named: Named, edits: &[u8], change: impl FnOnce(&mut Facts)) {
        invariant!(self.has_room(), "two values behind one write");
        self.edits = Edits::from_slice(edits).unwrap_or_default();
        self.promise(|facts| {
            facts.base = facts.accepted;
            facts.accepted = named;
            facts.held = named;
            change(facts);
        });
    }

    /// Accepts a value whose pieces were handed over.
    pub(super) fn accept_whole(&mut self, named: Named, change: impl FnOnce(&mut Facts)) {
        invariant!(self.has_room(), "two values behind one write");
        self.edits.clear();
        self.whole = true;
        self.promise(|facts| {
            facts.base = named;
            facts.accepted = named;
            facts.held = named;
            change(facts);
        });
    }

    /// A write is durable. News of another one than is in flight change nothing.
    pub(super) fn persisted(&mut self, sequence: u64) {
        let done = |facts: &mut Facts| facts.sequence == sequence;
        if let Some(facts) = self.flying.take_if(done) {
            self.durable = facts;
        }
    }

    /// How long the write in flight has been.
    pub(super) fn delay(&self, now: Time) -> u64 {
        if self.flying.is_some() { now.since(self.flying_since) } else { 0 }
    }
}

impl Election<'_> {
    /// Hands over what was promised, one write at a time.
    pub(super) fn write(&mut self, cx: &mut Cx<'_>) {
        let disk = &mut self.soft.disk;
        if !disk.dirty || disk.flying.is_some() {
            return;
        }
        disk.promised.sequence = disk.promised.sequence.saturating_add(1);
        let facts = disk.promised.clone();
        let save = Save::Sector { facts: facts.clone(), whole: disk.whole, edits: &disk.edits };
        cx.emit(&Output::Persist(save));
        disk.flying = Some(facts);
        disk.flying_since = cx.now;
        disk.dirty = false;
        disk.whole = false;
    }

    /// No write takes longer than T/2.
    pub(super) fn disk_keeps_up(&self, now: Time) -> bool {
        self.soft.disk.delay(now) <= self.t() / 2
    }
}
