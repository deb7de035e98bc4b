//! Elected, open, committing, and stepping down.

use serde::{Deserialize, Serialize};

use super::{Cx, Election, Output};
use crate::Refusal;
use crate::limits::DELTA_MAX;
use crate::mutant::Mutant;
use crate::registry::body::{Named, chained};
use crate::registry::meta::{Change, META_MAX, Meta};
use crate::registry::store::Edits;
use crate::time::Time;
use crate::wire::gossip::{Edit, Row, Table, Version};
use crate::wire::{Fence, Scratch, Seq, encode};

choice! {
    /// What a master is in the election.
    pub enum Role {
        /// It follows, or waits.
        Follower = 0,
        /// It asks whether a majority would vote for it.
        Pre = 1,
        /// It has voted for itself, in this life.
        Candidate = 2,
        /// A majority voted for it; its first write is on its way.
        Elected = 3,
        /// Open.
        Active = 4,
    }
}

/// A change on its way to a majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Proposal {
    named: Named,
    since: Time,
    ticket: Option<u32>,
}

/// What a leader keeps, and a candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reign {
    pub(super) role: Role,
    /// The epoch it leads, or is a candidate for.
    pub(super) epoch: u32,
    elected_at: Time,
    proposal: Option<Proposal>,
    pub(super) commit: Version,
    /// The T by which the lease counts: the smaller one while it changes.
    lease_t: u64,
}

impl Reign {
    /// The epoch that it leads, open or not yet; 0 = none.
    pub(super) fn leads(&self) -> u32 {
        if self.role >= Role::Elected { self.epoch } else { 0 }
    }
}

impl Election<'_> {
    /// Until when this master may speak as the leader: from sending what a majority has heard.
    ///
    /// It bounds offers, launches, reads and answers to pings. The time before which each of them
    /// must have been written to its socket; `NEVER` for a single master, 0 for no leader.
    pub fn lease_until(&self, now: Time) -> Time {
        if self.soft.reign.role != Role::Active {
            return Time(0);
        }
        if self.is_alone() || self.mutant(Mutant::EndlessLease) {
            return Time::NEVER;
        }
        let quarter = self.soft.reign.lease_t / 4;
        // Whoever has not accepted anything of this reign may still count by another leader's T.
        let epoch = self.soft.reign.epoch;
        let heard = self.heard_by_majority(now, |row| row.accepted.epoch == epoch);
        heard.after(quarter.saturating_mul(3))
    }

    /// The newest own stamp that a majority has echoed, of those of whom `counts` is true.
    fn heard_by_majority(&self, now: Time, counts: impl Fn(&Row) -> bool) -> Time {
        let epoch = self.soft.reign.epoch;
        let echoes = |row: &&Row| counts(row) && row.echo_epoch == epoch && row.echo_stamp <= now.0;
        let echoed = || self.soft.peers.rows().filter(|row| row.counts()).filter(echoes);
        let since = |stamp: u64| {
            let heard = echoed().filter(|row| row.echo_stamp >= stamp).map(|row| row.id);
            self.is_majority(super::set_of(heard) | self.my_bit())
        };
        if since(u64::MAX) {
            return now;
        }
        let stamps = echoed().map(|row| row.echo_stamp);
        Time(stamps.filter(|stamp| since(*stamp)).max().unwrap_or(0))
    }

    /// Whoever leads looks whether it still may.
    pub(super) fn check_reign(&mut self, cx: &mut Cx<'_>) {
        let reign = self.soft.reign;
        if reign.role < Role::Elected {
            return;
        }
        let (now, t, epoch) = (cx.now, self.t(), reign.epoch);
        let higher = |row: &Row| row.counts() && (row.promised > epoch || row.leads > epoch);
        let ahead = |row: &Row| {
            row.counts()
                && row.accepted.epoch == epoch
                && row.accepted > self.facts().accepted.version
        };
        let outvoted = self.soft.peers.rows().any(|row| higher(row) || ahead(row));
        let heard = self.heard_by_majority(now, |_| true).max(reign.elected_at);
        let unheard = now.since(heard) > t.saturating_mul(2);
        let long = t.saturating_mul(4);
        let stuck = reign.proposal.is_some_and(|proposal| now.since(proposal.since) > long);
        // Others may have committed what its own disk never ends: then it could not write again.
        let stuck = stuck || self.soft.disk.delay(now) > long;
        let late = reign.role == Role::Elected && now.since(reign.elected_at) > long;
        let tolerant = self.mutant(Mutant::ReignsWithoutWriting);
        let newer = self.facts().promised > epoch && !self.mutant(Mutant::LeadsOn);
        let unheard = unheard && !self.mutant(Mutant::EndlessLease);
        if (stuck || late) && !self.is_alone() && !tolerant {
            self.step_down(cx, 8);
        } else if outvoted || newer || unheard {
            self.step_down(cx, 0);
        }
    }

    /// Leaves whatever role it has, and asks again no sooner than in so many T.
    pub(super) fn step_down(&mut self, cx: &mut Cx<'_>, hold: u64) {
        let reign = &mut self.soft.reign;
        let (role, proposal) = (reign.role, reign.proposal.take());
        reign.role = Role::Follower;
        if let Some(ticket) = proposal.and_then(|proposal| proposal.ticket) {
            cx.emit(&Output::Answer { ticket, result: Err(Refusal::OutcomeUnknown) });
        }
        if role == Role::Active {
            cx.emit(&Output::Lost);
        }
        if role >= Role::Elected {
            self.soft.round.contact = Some(cx.now);
            self.draw_deadline(cx.now);
        }
        if hold > 0 {
            self.hold(cx, hold);
        }
    }

    /// Agents have obeyed somebody newer, of this history or of a later one. Nobody is newer than the only
    /// master of a cluster but itself: its disk is older than what it has said.
    pub(super) fn outranked(&mut self, cx: &mut Cx<'_>, fence: Fence) {
        let later = fence.generation.number > self.facts().generation.number;
        if later && self.may_act() && !self.mutant(Mutant::IgnoresGenerations) {
            return self.give_up(cx, fence.generation.number);
        }
        if self.soft.reign.leads() == 0 || self.fence().reaches(fence) {
            return;
        }
        if self.is_alone() && !self.mutant(Mutant::ClimbsUntilObeyed) {
            return self.quarantine(cx);
        }
        self.step_down(cx, 0);
    }

    /// What a candidate and a leader do.
    pub(super) fn rule(&mut self, cx: &mut Cx<'_>) {
        self.become_elected(cx);
        self.open(cx);
        self.commit_proposal(cx);
        self.learn_commit();
    }

    fn become_elected(&mut self, cx: &mut Cx<'_>) {
        let reign = self.soft.reign;
        let facts = self.facts();
        let resumes = self.mutant(Mutant::ResumesItsEpoch) && facts.voted_for == facts.me;
        let epoch = if resumes { facts.promised } else { reign.epoch };
        let candidate = reign.role == Role::Candidate || resumes && reign.role < Role::Elected;
        // Alone, the vote and the first write are one sector: nothing is said before it is durable.
        let alone = self.is_alone() && !self.has_peers() && reign.role == Role::Candidate;
        if !candidate || facts.promised != epoch || !(alone || self.is_elected(cx.now, epoch)) {
            return;
        }
        self.soft.round.contact = Some(cx.now);
        let lease_t = self.t();
        let reign = &mut self.soft.reign;
        reign.role = Role::Elected;
        reign.epoch = epoch;
        reign.elected_at = cx.now;
        reign.proposal = None;
        reign.lease_t = lease_t;
    }

    /// The first write of a reign records its leader; nothing is open before a majority holds it.
    fn open(&mut self, cx: &mut Cx<'_>) {
        let reign = self.soft.reign;
        if reign.role != Role::Elected || reign.proposal.is_some() {
            return;
        }
        if self.mutant(Mutant::OpensByOldWrites) && self.majority_holds(cx, self.facts().accepted) {
            self.become_active(cx);
            return;
        }
        let facts = self.facts();
        let meta = Meta { leader: facts.me, epoch: reign.epoch, ..facts.meta.clone() };
        self.propose_meta(cx, None, &meta);
    }

    fn become_active(&mut self, cx: &mut Cx<'_>) {
        if self.config.can_lead {
            self.soft.reign.role = Role::Active;
            cx.emit(&Output::Leading(self.fence()));
        } else if !self.mutant(Mutant::HoardingWitness) {
            self.step_down(cx, 4);
        }
    }

    fn majority_holds(&self, cx: &Cx<'_>, named: Named) -> bool {
        let hashless = self.mutant(Mutant::IgnoresTheHash);
        let holds = |row: &Row| {
            row.held == named.version
                && row.accepted == named.version
                && (row.hash == named.hash || hashless)
        };
        let early = self.mutant(Mutant::CountsItselfEarly);
        self.majority(cx.now, early || self.durable().held == named, holds)
    }

    fn commit_proposal(&mut self, cx: &mut Cx<'_>) {
        let Some(proposal) = self.soft.reign.proposal else { return };
        let version = proposal.named.version;
        let early = self.mutant(Mutant::AnswersEarly) && proposal.ticket.is_some();
        if version.epoch != self.soft.reign.epoch
            || !(early || self.majority_holds(cx, proposal.named))
        {
            return;
        }
        let t = self.t();
        let reign = &mut self.soft.reign;
        reign.proposal = None;
        reign.lease_t = t;
        reign.commit = reign.commit.max(version);
        if let Some(ticket) = proposal.ticket {
            cx.emit(&Output::Answer { ticket, result: Ok(()) });
        }
        if self.soft.reign.role == Role::Elected {
            self.become_active(cx);
        } else if !self.is_voter() && !self.mutant(Mutant::OutstaysItsRemoval) {
            // It has removed itself, and that is done.
            self.step_down(cx, 0);
        }
    }

    /// Those who follow know what is committed by the leader's word.
    fn learn_commit(&mut self) {
        let known = self.soft.peers.rows().filter(|row| row.leads > 0).map(|row| row.commit);
        let newest = known.max().unwrap_or_default();
        self.soft.reign.commit = self.soft.reign.commit.max(newest);
    }

    /// A change of the registry, which an open leader takes one at a time.
    pub(super) fn propose(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: u32,
        edits: &Seq<'_, Edit<'_>>,
    ) -> Result<(), Refusal> {
        self.may_propose()?;
        let first = |edit: Edit<'_>| edit.table == Table::Meta;
        if edits.is_empty() || edits.iter().any(first) || !self.body.takes(edits) {
            return Err(Refusal::Malformed);
        }
        let mut memory = [0; DELTA_MAX];
        let bytes = encode(edits, &mut memory).map_err(|_| Refusal::Malformed)?;
        self.send_out(cx, Some(ticket), edits, bytes);
        Ok(())
    }

    fn may_propose(&self) -> Result<(), Refusal> {
        if self.soft.reign.role != Role::Active {
            return Err(Refusal::NotLeading);
        }
        if self.soft.reign.proposal.is_some() || !self.soft.disk.has_room() {
            return Err(Refusal::Busy);
        }
        Ok(())
    }

    pub(super) fn change(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: u32,
        change: Change,
    ) -> Result<(), Refusal> {
        self.may_propose()?;
        let facts = self.facts();
        let roster = facts.meta.roster.changed(change).ok_or(Refusal::Exists)?;
        // What is left commits its own making: without a majority it would never be.
        if !self.mutant(Mutant::BlocksItself) && !roster.is_majority(self.heard(cx.now)) {
            return Err(Refusal::NoMajority);
        }
        if let Change::Promote { id } = change {
            let caught_up = |row: &Row| {
                row.id == id && row.held == facts.held.version && row.hash == facts.accepted.hash
            };
            let late = self.mutant(Mutant::PromotesTheLate);
            if !late && !self.soft.peers.fresh(cx.now, self.t()).any(caught_up) {
                return Err(Refusal::Busy);
            }
        }
        let meta = Meta { roster, ..facts.meta.clone() };
        self.propose_meta(cx, Some(ticket), &meta);
        Ok(())
    }

    pub(super) fn retime(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: u32,
        t_us: u32,
    ) -> Result<(), Refusal> {
        self.may_propose()?;
        if t_us < 1_000 {
            return Err(Refusal::Malformed);
        }
        let smaller = self.t().min(u64::from(t_us));
        let trusting = self.mutant(Mutant::TrustsTheNewT);
        self.soft.reign.lease_t = if trusting { u64::from(t_us) } else { smaller };
        let meta = Meta { t_us, ..self.facts().meta.clone() };
        self.propose_meta(cx, Some(ticket), &meta);
        Ok(())
    }

    fn propose_meta(&mut self, cx: &mut Cx<'_>, ticket: Option<u32>, meta: &Meta) {
        let (mut text, mut list, mut whole) = ([0; META_MAX], [0; DELTA_MAX], [0; DELTA_MAX]);
        let written = encode(meta, &mut text);
        invariant!(written.is_ok(), "a roster larger than its slot");
        let bytes = written.unwrap_or_default();
        let edit = Edit { table: Table::Meta, slot: 0, at: 0, bytes };
        let seq = Scratch::new(&mut list).seq::<Edit<'static>>([edit]).unwrap_or_default();
        let bytes = encode(&seq, &mut whole).unwrap_or_default();
        invariant!(!bytes.is_empty(), "a roster larger than a change");
        self.send_out(cx, ticket, &seq, bytes);
    }

    /// Accepts its own change and sends it to everybody. Not while its body is behind its vote: it
    /// would write an old registry under a new epoch.
    fn send_out(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Option<u32>,
        edits: &Seq<'_, Edit<'_>>,
        bytes: &[u8],
    ) {
        let facts = self.facts();
        let complete = facts.held == facts.accepted || self.mutant(Mutant::WritesWithoutBody);
        let epoch = self.soft.reign.epoch;
        let last = facts.accepted.version;
        let number = if last.epoch == epoch { last.number.checked_add(1) } else { Some(1) };
        let Some(number) = number.filter(|_| complete && self.soft.disk.has_room()) else { return };
        let version = Version { epoch, number };
        let named = Named { version, hash: chained(facts.accepted, version, bytes) };
        invariant!(Edits::from_slice(bytes).is_ok(), "a change larger than its sector");
        self.accept(named, edits, bytes);
        self.soft.reign.proposal = Some(Proposal { named, since: cx.now, ticket });
        self.send_to_all(cx);
    }
}
