//! From a disk to a first word: whoever starts hears first what others remember of it.

use serde::{Deserialize, Serialize};

use super::{Birth, Cx, Election, Output};
use crate::Refusal;
use crate::mutant::Mutant;
use crate::registry::body::edits;
use crate::registry::meta::bit;
use crate::registry::store::Facts;
use crate::time::Time;
use crate::wire::gossip::{Digest, Row};

/// How far a start has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    /// The disk was told.
    pub(super) begun: bool,
    /// Nothing is said yet but that it starts.
    pub(super) starting: bool,
    /// Random, of this start.
    pub(super) nonce: u32,
    /// When T has passed since then; `NEVER` afterwards.
    pub(super) due: Time,
    /// A bit for each master that has shown this start in a digest.
    counted: u64,
    /// The highest promise in those digests.
    promised: u32,
}

impl Election<'_> {
    pub(super) fn found_piece(&mut self, at: u32, bytes: &[u8]) -> Result<(), Refusal> {
        if self.soft.start.begun {
            return Err(Refusal::OutOfTurn);
        }
        self.body.put(at as usize, bytes);
        Ok(())
    }

    pub(super) fn begin(
        &mut self,
        cx: &Cx<'_>,
        facts: &Facts,
        change: &[u8],
        nonce: u32,
    ) -> Result<(), Refusal> {
        if self.soft.start.begun {
            return Err(Refusal::OutOfTurn);
        }
        self.soft.start = Start { nonce, ..Start::default() };
        if facts.formed {
            let edits = edits(change).filter(|edits| self.body.takes(edits));
            let complete = facts.held == facts.accepted;
            self.body.name(if complete { facts.base } else { facts.held });
            match edits.filter(|_| complete && facts.base != facts.accepted) {
                Some(edits) => self.body.apply(&edits, facts.accepted),
                None if complete && facts.base != facts.accepted => return Err(Refusal::Malformed),
                None => {}
            }
            self.go(cx, facts, change);
        }
        Ok(())
    }

    pub(super) fn form(&mut self, cx: &Cx<'_>, birth: &Birth) -> Result<(), Refusal> {
        if self.soft.start.begun {
            return Err(Refusal::Exists);
        }
        if !birth.roster.has(birth.me) || birth.roster.voters() == 0 || birth.t_us == 0 {
            return Err(Refusal::Malformed);
        }
        self.go(cx, &birth.facts(), &[]);
        Ok(())
    }

    /// The first thing is that this start is on disk.
    fn go(&mut self, cx: &Cx<'_>, facts: &Facts, change: &[u8]) {
        let forgets = self.mutant(Mutant::ForgetsQuarantine);
        let soft = &mut self.soft;
        soft.disk.begin(facts, change);
        if forgets {
            soft.disk.promise(|facts| facts.quarantined = false);
        }
        soft.disk.promise(|facts| facts.incarnation = facts.incarnation.saturating_add(1));
        soft.start.begun = true;
        soft.start.starting = true;
        soft.start.due = cx.now.after(u64::from(facts.meta.t_us));
        soft.beat = cx.now;
        self.follow_roster();
        let hasty = self.mutant(Mutant::HastyStart);
        // A start counts as the leader's contact: it may have been heard right before the crash.
        self.soft.round.contact = if hasty { None } else { Some(cx.now) };
        self.draw_deadline(cx.now);
    }

    /// A digest counts for this start only if it shows this very start.
    pub(super) fn count_for_start(&mut self, digest: &Digest<'_>) {
        if !self.soft.start.starting {
            return;
        }
        let (me, incarnation) = (self.facts().me, self.facts().incarnation);
        let nonce = self.soft.start.nonce;
        let shows = |row: Row| row.id == me && row.incarnation == incarnation && row.nonce == nonce;
        let sound =
            |row: Row| row.id == digest.sender && row.is(Row::FORMED) && !row.is(Row::QUARANTINED);
        if digest.rows.iter().any(shows) && digest.rows.iter().any(sound) {
            let promised = digest.rows.iter().map(|row| row.promised).max().unwrap_or(0);
            let start = &mut self.soft.start;
            start.counted |= bit(digest.sender);
            start.promised = start.promised.max(promised);
        }
    }

    /// When T has passed and a majority was heard, facts may be said.
    pub(super) fn finish_start(&mut self, now: Time) {
        if now >= self.soft.start.due {
            self.soft.start.due = Time::NEVER;
        }
        let start = self.soft.start;
        let durable = self.durable().incarnation == self.facts().incarnation;
        if !start.starting || !durable || !self.may_finish_start() {
            return;
        }
        if start.promised > self.facts().promised {
            self.soft.disk.promise(|facts| {
                facts.promised = start.promised;
                facts.voted_for = 0;
            });
        }
        if self.durable().promised < self.facts().promised {
            return;
        }
        self.soft.start.starting = false;
        self.soft.start.due = Time::NEVER;
        self.draw_deadline(now);
        if self.is_alone() {
            self.soft.round.contact = None;
            self.soft.round.ask_at(now);
        }
    }

    fn may_finish_start(&self) -> bool {
        if self.is_alone() && self.led_alone() || self.mutant(Mutant::HastyStart) {
            return true;
        }
        let waited = self.soft.start.due == Time::NEVER;
        let counted = self.soft.start.counted | bit(self.facts().me);
        waited && self.is_majority(counted)
    }

    /// Nobody else can have led since the newest value: it was its own, or there is none.
    pub(super) fn led_alone(&self) -> bool {
        let (facts, meta) = (self.facts(), &self.facts().meta);
        let epoch = facts.accepted.version.epoch;
        epoch == 0 || (meta.leader == facts.me && meta.epoch == epoch)
    }

    /// What others know of this master must not be more than it knows itself.
    pub(super) fn see_myself(&mut self, cx: &mut Cx<'_>, row: &Row) {
        let facts = self.facts();
        let later = row.incarnation > facts.incarnation;
        let double = row.incarnation == facts.incarnation && row.nonce != self.soft.start.nonce;
        let past = row.incarnation < facts.incarnation && row.nonce != self.soft.start.nonce;
        let more = row.promised > facts.promised || row.accepted > facts.accepted.version;
        if facts.accepted.version.epoch == 0 && self.mutant(Mutant::VotesFromNothing) {
            if row.nonce != self.soft.start.nonce {
                let next = row.incarnation.saturating_add(1).max(facts.incarnation);
                self.soft.disk.promise(|facts| facts.incarnation = next);
            }
            return;
        }
        if later || double || more || (past && self.mutant(Mutant::SuspectsItsPast)) {
            self.quarantine(cx);
        }
    }

    /// This id is over: its disk has forgotten something, or there are two of it.
    pub(super) fn quarantine(&mut self, cx: &mut Cx<'_>) {
        self.end_for_good(cx, &Output::Quarantined);
    }

    /// Another history of this cluster goes on elsewhere: this one is over.
    pub(super) fn give_up(&mut self, cx: &mut Cx<'_>, generation: u32) {
        self.end_for_good(cx, &Output::GivenUp { generation });
    }

    fn end_for_good(&mut self, cx: &mut Cx<'_>, told: &Output<'_>) {
        if self.facts().quarantined || self.mutant(Mutant::NoQuarantine) {
            return;
        }
        self.step_down(cx, 0);
        self.soft.round = super::rounds::Round::default();
        self.soft.disk.promise(|facts| facts.quarantined = true);
        cx.emit(told);
    }
}
