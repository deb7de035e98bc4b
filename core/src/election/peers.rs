//! What is known of the other masters: their newest rows, and when these came.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{Election, set_of};
use crate::limits::{MASTER_ID_MAX, MASTERS_MAX};
use crate::mutant::Mutant;
use crate::registry::meta::{Roster, bit};
use crate::time::Time;
use crate::wire::gossip::{Row, Version};

/// A row whose promise is this far above all others is a mistake, not an election.
const LEAP_MAX: u32 = 1 << 20;

/// Another master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Peer {
    /// Its newest row; incarnation 0 = none came yet.
    pub(super) row: Row,
    /// When that row came.
    at: Time,
    /// The most that it ever promised and accepted.
    promised: u32,
    accepted: Version,
    /// A row of it said less than one before.
    amnesiac: bool,
    /// Not granted before then: it was granted, and did not vote.
    pub(super) banned_until: Time,
}

/// All of them, by id.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Peers {
    peers: Vec<Peer, MASTERS_MAX>,
}

impl Peers {
    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(super) fn has(&self, id: u8) -> bool {
        self.of(id).is_some()
    }

    pub(super) fn of(&self, id: u8) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.row.id == id)
    }

    pub(super) fn of_mut(&mut self, id: u8) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.row.id == id)
    }

    /// What is passed on. Whoever starts says nothing of what it knew, and closes the rows in which
    /// it did: so the most that it ever said goes with its row, for itself to see.
    pub(super) fn passed_on(&self) -> impl Iterator<Item = Row> {
        let remembered = |peer: &Peer| {
            let row = peer.row;
            if row.counts() {
                return row;
            }
            Row { promised: peer.promised, accepted: peer.accepted, ..row }
        };
        self.peers.iter().filter(|peer| peer.row.incarnation > 0).map(remembered)
    }

    /// The rows that came at all.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.peers.iter().map(|peer| &peer.row).filter(|row| row.incarnation > 0)
    }

    /// The rows that count and came within `t`.
    pub(super) fn fresh(&self, now: Time, t: u64) -> impl Iterator<Item = &Row> {
        let young = move |peer: &&Peer| peer.row.incarnation > 0 && now.since(peer.at) < t;
        self.peers.iter().filter(young).map(|peer| &peer.row).filter(|row| row.counts())
    }

    /// A bit for each that said less than before.
    pub(super) fn amnesiac(&self) -> u64 {
        set_of(self.peers.iter().filter(|peer| peer.amnesiac).map(|peer| peer.row.id))
    }

    /// The highest epoch that anybody promised, leads or wrote under.
    pub(super) fn epoch_max(&self) -> u32 {
        let of = |peer: &Peer| peer.promised.max(peer.row.leads).max(peer.accepted.epoch);
        self.peers.iter().map(of).max().unwrap_or(0)
    }

    /// The peer at a place of the list, to go through them while something else changes.
    pub(super) fn at(&self, place: usize) -> Option<Row> {
        self.peers.get(place).map(|peer| peer.row)
    }

    /// Everybody of a roster or its predecessor but `me` is a peer, by id, nobody else is.
    pub(super) fn follow(&mut self, roster: &Roster, me: u8) {
        let before = core::mem::take(self);
        for id in 1..=MASTER_ID_MAX {
            let id = u8::try_from(id).unwrap_or(0);
            if id == me || !roster.has(id) && !roster.may_lead(id) {
                continue;
            }
            let unheard = Peer { row: Row { id, ..Row::default() }, ..Peer::default() };
            let place = self.peers.push(before.of(id).copied().unwrap_or(unheard));
            invariant!(place.is_ok(), "more masters than a roster and its predecessor have");
        }
    }
}

impl Peer {
    /// Newer than what came before: by its start, then by its count.
    fn is_news(&self, row: &Row) -> bool {
        let old = &self.row;
        if row.incarnation == old.incarnation && row.nonce != old.nonce {
            return false;
        }
        (row.incarnation, row.sequence) > (old.incarnation, old.sequence)
    }

    fn regresses(&self, row: &Row) -> bool {
        row.counts() && (row.promised < self.promised || row.accepted < self.accepted)
    }
}

impl Election<'_> {
    /// Takes in a row of another master. True when it is news.
    pub(super) fn merge(&mut self, now: Time, row: Row) -> bool {
        let epoch = self.soft.peers.epoch_max().max(self.facts().promised);
        let leap = row.promised > epoch.saturating_add(LEAP_MAX);
        let by_sequence = self.mutant(Mutant::MergesBySequence);
        let trusting = self.mutant(Mutant::TrustsTheAmnesiac);
        let Some(peer) = self.soft.peers.of_mut(row.id) else { return false };
        let news = if by_sequence { row.sequence > peer.row.sequence } else { peer.is_news(&row) };
        if !news || leap {
            return false;
        }
        if peer.regresses(&row) && !trusting {
            peer.amnesiac = true;
            return false;
        }
        peer.row = row;
        peer.at = now;
        if row.counts() {
            peer.promised = peer.promised.max(row.promised);
            peer.accepted = peer.accepted.max(row.accepted);
        }
        true
    }

    /// A bit for each master whose row advanced within T, this one among them.
    pub(super) fn heard(&self, now: Time) -> u64 {
        let fresh = self.soft.peers.fresh(now, self.t()).map(|row| row.id);
        set_of(fresh) | bit(self.facts().me)
    }

    /// True when a majority of the voters has rows that count, are fresh and of which `holds` is
    /// true; this master's own is `own`.
    pub(super) fn majority(&self, now: Time, own: bool, holds: impl Fn(&Row) -> bool) -> bool {
        let fresh = self.soft.peers.fresh(now, self.t()).filter(|row| holds(row));
        let mine = if own { bit(self.facts().me) } else { 0 };
        self.is_majority(set_of(fresh.map(|row| row.id)) | mine)
    }

    pub(super) fn is_majority(&self, set: u64) -> bool {
        let roster = &self.facts().meta.roster;
        if self.mutant(Mutant::SmallQuorum) {
            let few = roster.quorum().saturating_sub(1).max(1);
            return (set & roster.voters()).count_ones() >= few;
        }
        roster.is_majority(set)
    }

    /// It votes.
    pub(super) fn is_voter(&self) -> bool {
        self.facts().meta.roster.voters() & bit(self.facts().me) != 0
    }

    /// It is the only one who does.
    pub(super) fn is_alone(&self) -> bool {
        self.facts().meta.roster.voters() == bit(self.facts().me)
    }
}
