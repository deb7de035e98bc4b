//! The registry's values: accepted from whoever leads, passed on by whoever holds them.
//!
//! Version and hash name one value only, so any holder may pass it on, and a master that reaches
//! nobody but a third one still gets it. Who lacks one change is sent that; who lacks more is sent
//! the whole, a piece at a time, each asked for. A change that comes meanwhile is applied to the
//! pieces that are there, so that a busy leader does not make a slow master begin again.

use serde::{Deserialize, Serialize};

use super::reign::Role;
use super::{Cx, Election, Output};
use crate::Refusal;
use crate::limits::{MASTERS_MAX, PIECE_MAX};
use crate::mutant::Mutant;
use crate::registry::body::{Named, chained, edits};
use crate::registry::meta::Meta;
use crate::registry::store::Save;
use crate::time::Time;
use crate::wire::gossip::{Edit, Gossip, Replica, Row};
use crate::wire::{Head, Seq};

/// How much of the incoming body is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Arriving {
    /// Bytes from its beginning.
    got: u32,
    /// When the last of them came.
    at: Time,
}

/// A change as it came.
struct Delta<'d> {
    named: Named,
    base: Named,
    edits: &'d Seq<'d, Edit<'d>>,
}

impl Election<'_> {
    pub(super) fn take(
        &mut self,
        cx: &mut Cx<'_>,
        from: u8,
        replica: &Replica<'_>,
    ) -> Result<(), Refusal> {
        let known = self.soft.start.begun && self.may_act() && self.soft.peers.has(from);
        if !known || self.soft.start.starting {
            return Err(Refusal::OutOfTurn);
        }
        match *replica {
            Replica::Delta { version, hash, base, base_hash, edits } => {
                let delta = Delta {
                    named: Named { version, hash },
                    base: Named { version: base, hash: base_hash },
                    edits: &edits,
                };
                self.take_delta(cx, &delta);
            }
            Replica::Piece { version, hash, total, at, bytes } => {
                if total as usize != self.body.shape().bytes() {
                    return Err(Refusal::Malformed);
                }
                self.take_piece(cx, from, Named { version, hash }, at, bytes);
            }
            Replica::Pull { version, hash, at } => {
                let same = self.body.named() == Named { version, hash };
                self.send_piece(cx, from, if same { at } else { 0 });
            }
        }
        Ok(())
    }

    /// True when `named` may be accepted: not outvoted, and newer than what is there.
    fn may_accept(&self, named: Named) -> bool {
        let outvoted = named.version.epoch < self.judged_promise();
        (!outvoted || self.mutant(Mutant::AcceptsTheOutvoted))
            && named.version > self.facts().accepted.version
            && self.soft.disk.has_room()
    }

    fn take_delta(&mut self, cx: &mut Cx<'_>, delta: &Delta<'_>) {
        let mut memory = [0; crate::limits::DELTA_MAX];
        let Ok(bytes) = crate::wire::encode(delta.edits, &mut memory) else { return };
        let sound = chained(delta.base, delta.named.version, bytes) == delta.named.hash;
        if !sound || !self.body.takes(delta.edits) {
            return;
        }
        let facts = self.facts();
        let fits = facts.accepted == delta.base && facts.held == delta.base;
        if self.may_accept(delta.named) && (fits || self.mutant(Mutant::IgnoresTheBase)) {
            self.leave_for(cx, delta.named.version.epoch);
            self.accept(delta.named, delta.edits, bytes);
        } else if self.soft.arriving.got > 0 && self.incoming.named() == delta.base {
            self.incoming.apply(delta.edits, delta.named);
            for edit in delta.edits.iter() {
                let Some(place) = self.incoming.shape().place(&edit) else { continue };
                let at = u32::try_from(place.start).unwrap_or(u32::MAX);
                cx.emit(&Output::Persist(Save::Piece { at, bytes: edit.bytes }));
            }
        }
    }

    /// Leaves any role of a lower epoch, and that of a candidate of the same one.
    fn leave_for(&mut self, cx: &mut Cx<'_>, epoch: u32) {
        let reign = self.soft.reign;
        let stays = self.mutant(Mutant::StaysCandidate) && reign.epoch >= epoch;
        let keeps = stays || reign.role >= Role::Elected && reign.epoch >= epoch;
        if reign.role > Role::Follower && !keeps && !self.mutant(Mutant::LeadsOn) {
            self.step_down(cx, 0);
        }
    }

    /// Makes a change the newest value.
    pub(super) fn accept(&mut self, named: Named, edits: &Seq<'_, Edit<'_>>, bytes: &[u8]) {
        self.body.apply(edits, named);
        let meta = self.body.meta();
        self.soft.disk.accept(named, bytes, |facts| {
            raise(facts, named.version.epoch, meta);
        });
        self.follow_roster();
    }

    fn take_piece(&mut self, cx: &mut Cx<'_>, from: u8, named: Named, at: u32, bytes: &[u8]) {
        let facts = self.facts();
        let repairs = named == facts.accepted && facts.held != facts.accepted;
        if !repairs && !self.may_accept(named) {
            return;
        }
        let arriving = self.soft.arriving;
        if self.incoming.named() != named || arriving.got == 0 {
            let stalled = cx.now.since(arriving.at) > self.t();
            let better = named.version > self.incoming.named().version;
            if at != 0 || !(arriving.got == 0 || better || stalled) {
                return;
            }
            self.incoming.name(named);
            self.soft.arriving = Arriving { got: 0, at: cx.now };
        }
        // It is sent from its beginning with each beat: only one that was lost is asked for again.
        let advances = at == self.soft.arriving.got;
        let lost = cx.now.since(self.soft.arriving.at) > self.t() / 4;
        if !advances && !lost && !self.mutant(Mutant::AsksForEveryPiece) {
            return;
        }
        if advances {
            self.incoming.put(at as usize, bytes);
            cx.emit(&Output::Persist(Save::Piece { at, bytes }));
            let len = u32::try_from(bytes.len()).unwrap_or(0);
            self.soft.arriving = Arriving { got: at.saturating_add(len), at: cx.now };
        }
        let got = self.soft.arriving.got;
        if (got as usize) < self.incoming.shape().bytes() {
            let pull = Replica::Pull { version: named.version, hash: named.hash, at: got };
            cx.emit(&Output::Send { to: from, head: Head::Gossip(Gossip::Replica(pull)) });
        } else {
            self.take_whole(cx, named, repairs);
        }
    }

    fn take_whole(&mut self, cx: &mut Cx<'_>, named: Named, repairs: bool) {
        if !self.soft.disk.has_room() {
            // The last piece comes again.
            return;
        }
        self.soft.arriving = Arriving::default();
        if !repairs {
            self.leave_for(cx, named.version.epoch);
        }
        self.body.swap(&mut self.incoming);
        let meta = self.body.meta();
        self.soft.disk.accept_whole(named, |facts| {
            raise(facts, named.version.epoch, meta);
        });
        self.follow_roster();
    }

    /// What a leader sends with each beat, and every other holder with every fourth.
    pub(super) fn pass_on(&mut self, cx: &mut Cx<'_>) {
        let leads = self.soft.reign.leads() > 0;
        let turn = self.soft.beats.is_multiple_of(4) && !self.mutant(Mutant::KeepsToItself);
        if self.soft.start.starting || !(leads || turn) {
            return;
        }
        for place in 0..MASTERS_MAX {
            let Some(row) = self.soft.peers.at(place) else { break };
            if row.counts() && row.held < self.facts().held.version {
                self.bring_up(cx, &row);
            }
        }
    }

    fn bring_up(&self, cx: &mut Cx<'_>, row: &Row) {
        let facts = self.facts();
        let next = facts.base != facts.accepted
            && row.held == facts.base.version
            && row.accepted == facts.base.version
            && row.hash == facts.base.hash;
        if next && facts.held == facts.accepted {
            self.send_change(cx, row.id);
        } else {
            self.send_piece(cx, row.id, 0);
        }
    }

    /// The newest change, to everybody at once.
    pub(super) fn send_to_all(&self, cx: &mut Cx<'_>) {
        for place in 0..MASTERS_MAX {
            let Some(row) = self.soft.peers.at(place) else { break };
            self.send_change(cx, row.id);
        }
    }

    fn send_change(&self, cx: &mut Cx<'_>, to: u8) {
        let facts = self.facts();
        let Some(edits) = edits(self.soft.disk.edits()) else { return };
        let (named, base) = (facts.accepted, facts.base);
        let delta = Replica::Delta {
            version: named.version,
            hash: named.hash,
            base: base.version,
            base_hash: base.hash,
            edits,
        };
        cx.emit(&Output::Send { to, head: Head::Gossip(Gossip::Replica(delta)) });
    }

    fn send_piece(&self, cx: &mut Cx<'_>, to: u8, at: u32) {
        let (named, whole) = (self.body.named(), self.body.bytes());
        let rest = whole.get(at as usize..).unwrap_or_default();
        let bytes = rest.get(..rest.len().min(PIECE_MAX)).unwrap_or_default();
        if bytes.is_empty() || named == Named::default() {
            return;
        }
        let piece = Replica::Piece {
            version: named.version,
            hash: named.hash,
            total: u32::try_from(whole.len()).unwrap_or(u32::MAX),
            at,
            bytes,
        };
        cx.emit(&Output::Send { to, head: Head::Gossip(Gossip::Replica(piece)) });
    }
}

/// Data raises the promise of whoever accepts it, and sets its vote aside.
fn raise(facts: &mut crate::registry::store::Facts, epoch: u32, meta: Option<Meta>) {
    if epoch > facts.promised {
        facts.promised = epoch;
        facts.voted_for = 0;
    }
    if let Some(meta) = meta {
        facts.meta = meta;
    }
}
