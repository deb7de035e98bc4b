//! Asking, granting and voting: how a majority comes to one of them, and nobody disturbs a leader.
//!
//! Nobody raises an epoch before a majority has said, softly, that it would vote. A grant costs
//! nothing and binds nobody; a vote is durable, and there is one in each epoch.

use serde::{Deserialize, Serialize};

use super::reign::Role;
use super::{Cx, Election};
use crate::mutant::Mutant;
use crate::registry::meta::bit;
use crate::time::Time;
use crate::wire::gossip::{Row, Version};

/// How the next leader is being found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Round {
    /// When a leader was last heard, or this master started.
    pub(super) contact: Option<Time>,
    /// When it asks, unless a leader is heard before.
    deadline: Time,
    /// It does not ask before then.
    pub(super) hold_until: Time,
    /// The epoch it asks for; 0 = does not ask.
    pub(super) want: u32,
    /// For whom it would vote, and in which epoch.
    pub(super) grant_epoch: u32,
    pub(super) grant_to: u8,
    granted_at: Time,
    /// Since when it asks without a pause.
    asks_since: Time,
    /// The leader's own stamp that was heard last.
    pub(super) echo_epoch: u32,
    pub(super) echo_stamp: u64,
}

/// How askers are ranked: those that did not fail first, then by what they have, by the epoch they
/// ask for, by the lowest id.
type Rank = (bool, Version, u32, core::cmp::Reverse<u8>);

impl Round {
    pub(super) fn ask_at(&mut self, when: Time) {
        self.deadline = when;
    }
}

impl Election<'_> {
    pub(super) fn draw_deadline(&mut self, now: Time) {
        let t = self.t();
        let spread = t.saturating_add(self.below(t));
        self.soft.round.ask_at(now.after(spread));
    }

    /// A newer row of somebody who leads: the election is put off, its stamp is echoed.
    pub(super) fn feel_contact(&mut self, now: Time, row: &Row) {
        if row.leads == 0 || row.leads < self.judged_promise() || !row.counts() {
            return;
        }
        let round = &mut self.soft.round;
        round.contact = Some(now);
        round.want = 0;
        let newer = (row.leads, row.echo_stamp) > (round.echo_epoch, round.echo_stamp);
        if row.echo_epoch == row.leads && newer {
            round.echo_epoch = row.leads;
            round.echo_stamp = row.echo_stamp;
        }
        if self.soft.reign.role == Role::Pre {
            self.soft.reign.role = Role::Follower;
        }
        self.draw_deadline(now);
    }

    /// Against what requests and data are judged: the promise, durable or not.
    pub(super) fn judged_promise(&self) -> u32 {
        let durable = self.mutant(Mutant::JudgesByTheDurable);
        if durable { self.durable().promised } else { self.facts().promised }
    }

    /// No leader was heard for T.
    fn is_quiet(&self, now: Time) -> bool {
        self.soft.round.contact.is_none_or(|contact| now.since(contact) >= self.t())
    }

    pub(super) fn ask_and_vote(&mut self, now: Time) {
        if self.soft.reign.leads() > 0 {
            // A leader hears itself.
            self.soft.round = Round { contact: Some(now), want: 0, ..self.soft.round };
            self.grant(now, None);
            return;
        }
        self.ask(now);
        let best = if self.is_quiet(now) && self.is_voter() { self.best_asker(now) } else { None };
        self.grant(now, best);
        self.vote_for_myself(now);
        self.vote_for_another(now);
    }

    /// At the deadline, whoever hears a majority and can write asks.
    fn ask(&mut self, now: Time) {
        if !self.disk_keeps_up(now) || !self.is_voter() {
            self.soft.round.want = 0;
        }
        if now < self.soft.round.deadline {
            return;
        }
        self.draw_deadline(now);
        let deaf = !self.is_majority(self.heard(now)) && !self.mutant(Mutant::AsksDeaf);
        let may = self.is_voter() && self.disk_keeps_up(now) && now >= self.soft.round.hold_until;
        if !may || deaf || !self.is_quiet(now) {
            self.soft.round.want = 0;
            return;
        }
        if self.soft.round.want == 0 {
            self.soft.round.asks_since = now;
        }
        self.soft.round.want = self.next_epoch().unwrap_or(0);
        self.soft.reign.role = Role::Pre;
    }

    /// One above every epoch seen; none at the end of all epochs.
    fn next_epoch(&self) -> Option<u32> {
        self.soft.peers.epoch_max().max(self.facts().promised).checked_add(1)
    }

    fn best_asker(&self, now: Time) -> Option<(u32, u8)> {
        let facts = self.facts();
        let mine = facts.accepted.version;
        // A newer registry may have another roster, by which its holder has counted whom it hears.
        let newer = |row: &Row| row.accepted > mine;
        let heard = |row: &Row| self.is_majority(row.heard) || newer(row);
        let eligible = |row: &&Row| {
            row.want > facts.promised
                && row.is(Row::DISK_OK)
                && (heard(row) || self.mutant(Mutant::AsksDeaf))
                && (row.accepted >= mine || self.mutant(Mutant::VotesForTheStale))
                && facts.meta.roster.may_lead(row.id)
        };
        let unbanned = |id| self.soft.peers.of(id).is_some_and(|peer| now >= peer.banned_until);
        let rank =
            |row: &Row| (unbanned(row.id), row.accepted, row.want, core::cmp::Reverse(row.id));
        let fresh = self.soft.peers.fresh(now, self.t());
        let other: Option<Rank> = fresh.filter(eligible).map(rank).max();
        let want = self.soft.round.want;
        // Whoever asked for T in vain makes way for others, as it would be passed over itself.
        let young = now.since(self.soft.round.asks_since) <= self.t();
        let own: Option<Rank> =
            (want > 0).then_some((young, mine, want, core::cmp::Reverse(facts.me)));
        other.max(own).map(|(_, _, want, id)| (want, id.0))
    }

    /// Grants the best asker. One that was granted for T and did not vote for itself comes after all
    /// others for 4T: its disk may hang, or its word does not reach the others. It is not passed over
    /// while it is the only one: masters that did so in turns would never elect it.
    fn grant(&mut self, now: Time, best: Option<(u32, u8)>) {
        let (t, me) = (self.t(), self.facts().me);
        let (epoch, to) = best.unwrap_or((0, 0));
        let never = self.mutant(Mutant::NeverBans);
        let round = &mut self.soft.round;
        if to != round.grant_to {
            round.granted_at = now;
        }
        round.grant_epoch = epoch;
        round.grant_to = to;
        if to != me && to > 0 {
            if round.want > 0 {
                round.want = 0;
                self.soft.reign.role = Role::Follower;
            }
            if now.since(self.soft.round.granted_at) > t && !never {
                self.soft.round.granted_at = now;
                if let Some(peer) = self.soft.peers.of_mut(to) {
                    peer.banned_until = now.after(t.saturating_mul(4));
                }
            }
        }
    }

    fn vote_for_myself(&mut self, now: Time) {
        let (round, me) = (self.soft.round, self.facts().me);
        let granted = |row: &Row| row.grant_epoch == round.want && row.grant_to == me;
        let own = round.grant_to == me;
        let may = round.want > 0 && self.is_voter() && self.is_quiet(now);
        if !may || !own || !self.majority(now, true, granted) {
            return;
        }
        let Some(epoch) = self.next_epoch() else { return };
        self.vote(now, epoch, me);
        self.soft.reign.role = Role::Candidate;
        self.soft.reign.epoch = epoch;
    }

    fn vote_for_another(&mut self, now: Time) {
        let quiet = self.is_quiet(now) || self.mutant(Mutant::VotesUnderALeader);
        if !self.is_voter() || !quiet {
            return;
        }
        let (facts, promised) = (self.facts(), self.judged_promise());
        let stale = self.mutant(Mutant::VotesForTheStale);
        let twice = self.mutant(Mutant::VotesTwice);
        let asks = |row: &&Row| {
            row.voted_for == row.id
                && (row.promised > promised || twice && row.promised == promised)
                && (row.accepted >= facts.accepted.version || stale)
                && facts.meta.roster.may_lead(row.id)
        };
        let fresh = self.soft.peers.fresh(now, self.t());
        let best = fresh.filter(asks).max_by_key(|row| row.promised);
        let Some((epoch, id)) = best.map(|row| (row.promised, row.id)) else { return };
        if (epoch, id) == (facts.promised, facts.voted_for) {
            return;
        }
        self.vote(now, epoch, id);
        self.soft.reign.role = Role::Follower;
    }

    fn vote(&mut self, now: Time, epoch: u32, id: u8) {
        self.soft.disk.promise(|facts| {
            facts.promised = epoch;
            facts.voted_for = id;
        });
        self.soft.round.want = 0;
        self.soft.round.grant_epoch = 0;
        self.soft.round.grant_to = 0;
        self.draw_deadline(now);
    }

    /// True when a majority voted for this master in `epoch`.
    pub(super) fn is_elected(&self, now: Time, epoch: u32) -> bool {
        let (durable, me) = (self.durable(), self.facts().me);
        let own = durable.promised == epoch && durable.voted_for == me;
        own && self.majority(now, true, |row| row.promised == epoch && row.voted_for == me)
    }

    pub(super) fn round_deadline(&self) -> Time {
        if self.soft.reign.leads() > 0 || self.soft.start.starting || !self.is_voter() {
            return Time::NEVER;
        }
        let alone_and_voted = self.is_alone() && self.soft.reign.role == Role::Candidate;
        if alone_and_voted { Time::NEVER } else { self.soft.round.deadline }
    }

    /// After a failure of its own it lets others ask first.
    pub(super) fn hold(&mut self, cx: &Cx<'_>, times_t: u64) {
        let until = cx.now.after(self.t().saturating_mul(times_t));
        self.soft.round.hold_until = self.soft.round.hold_until.max(until);
    }

    /// A bit of this master alone.
    pub(super) fn my_bit(&self) -> u64 {
        bit(self.facts().me)
    }
}
