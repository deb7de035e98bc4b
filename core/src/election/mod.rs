//! Who leads, and what a majority has on disk: the fourth front, stepped before the master's.
//!
//! Masters elect one of them by durable votes that gossip carries. What one says about itself it
//! says only after its disk has it, so a fact may be lost, repeated, reordered or passed on by
//! anybody. Safety rests on disks and majorities alone; clocks decide how soon there is a leader,
//! and, by the lease, how long a leader that nobody hears may still speak.
//!
//! | file | concern |
//! |---|---|
//! | `peers` | what is known of the others: which rows count, and for how long |
//! | `disk` | what is promised, what of it is durable, one write at a time |
//! | `start` | from a disk to a first word: waiting for those who may remember more; quarantine |
//! | `rounds` | asking, granting, voting |
//! | `reign` | elected, open, committing, the lease, and when to step down |
//! | `data` | the registry's values, passed on by whoever holds them |
//!
//! Every input is judged against what was *promised*, durable or not; everything said is *durable*.
//! After each input `settle` goes through all rules once, so none depends on which input came.

mod data;
mod disk;
mod peers;
mod reign;
mod rounds;
mod start;

pub use reign::Role;

use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::drive::{Encoder, Front};
use crate::image::{BadImage, Image, Reader, Writer};
use crate::rand::Rng;
use crate::registry::body::{Body, Named, Shape};
use crate::registry::meta::{Change, Meta, Roster, bit};
use crate::registry::store::{Facts, Save};
use crate::time::Time;
use crate::wire::gossip::{Digest, Edit, Replica, Row, Version};
use crate::wire::{Check, Fence, Generation, Head, Seq};

use crate::mutant::Mutant;
use disk::Disk;
use peers::Peers;
use reign::Reign;
use rounds::Round;
use start::Start;

/// What an operator chooses, and a journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Spreads the election's deadlines; another one on each master.
    pub seed: u64,
    /// It may be open for agents. A witness votes and stores, but never is.
    pub can_lead: bool,
    /// The planted bug, in tests.
    pub mutant: Mutant,
}

/// How a master comes to belong to a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// The cluster.
    pub cluster: u64,
    /// Its history.
    pub generation: Generation,
    /// The master's own id.
    pub me: u8,
    /// The newest epoch of the cluster's history that this one goes on from; 0 for a new cluster.
    pub epoch: u32,
    /// The unit of all timers, in µs.
    pub t_us: u32,
    /// The masters: the first ones, all alike; or those that a new one was told, itself as learner.
    pub roster: Roster,
}

/// Everything that reaches the election.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input<'a> {
    /// A part of the body that was found on disk.
    Piece {
        /// Where it begins.
        at: u32,
        /// The part.
        bytes: &'a [u8],
    },
    /// Everything on disk was told.
    Start {
        /// The facts; not formed when there were none.
        facts: Facts,
        /// The change beside them.
        edits: &'a [u8],
        /// Random, and another one at each start.
        nonce: u32,
    },
    /// An empty disk is given a cluster, by an operator's word.
    Form(Birth),
    /// An authentic datagram came.
    #[serde(borrow)]
    Digest(Digest<'a>),
    /// Something of the registry came over another master's stream.
    Replica {
        /// Whose stream.
        from: u8,
        /// What came.
        #[serde(borrow)]
        replica: Replica<'a>,
    },
    /// A sector is durable.
    Persisted {
        /// Which.
        sequence: u64,
    },
    /// The registry is to be changed. One change at a time, answered when it is committed.
    Propose {
        /// Names the answer.
        ticket: u32,
        /// What is written where; nothing in the first table.
        #[serde(borrow)]
        edits: Seq<'a, Edit<'a>>,
    },
    /// The roster is to be changed.
    Change {
        /// Names the answer.
        ticket: u32,
        /// How.
        change: Change,
    },
    /// T is to be changed, in µs.
    Timing {
        /// Names the answer.
        ticket: u32,
        /// The new T.
        t_us: u32,
    },
    /// An agent of this cluster has obeyed this one.
    Seen(Fence),
    /// A deadline is due.
    Tick,
}

/// Everything that leaves the election.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output<'a> {
    /// A datagram for every other master.
    #[serde(borrow)]
    Gossip(Head<'a>),
    /// A message for one master's stream. It may be lost.
    Send {
        /// Whose.
        to: u8,
        /// What.
        #[serde(borrow)]
        head: Head<'a>,
    },
    /// To be saved, in order. A sector's sequence comes back by [`Input::Persisted`].
    #[serde(borrow)]
    Persist(Save<'a>),
    /// This master is open: from now on it may register agents and make offers.
    Leading(Fence),
    /// It was open, and is no more.
    Lost,
    /// The answer to a change.
    Answer {
        /// Which.
        ticket: u32,
        /// Committed; or its outcome is unknown, and only a later leader will tell.
        result: Result<(), Refusal>,
    },
    /// This master never counts again under its id. Remove it, then add it anew.
    Quarantined,
    /// Neither does this one: an operator gave its set up, and another history goes on.
    GivenUp {
        /// The number of that one's generation.
        generation: u32,
    },
}

/// Takes what leaves the election, in order.
pub trait Outbox {
    /// Takes one output.
    fn emit(&mut self, output: &Output<'_>);
}

impl Outbox for Encoder<'_> {
    fn emit(&mut self, output: &Output<'_>) {
        self.put(output, &[]);
    }
}

/// What a rule needs of the step it is in.
pub(crate) struct Cx<'c> {
    now: Time,
    out: &'c mut dyn Outbox,
}

impl Cx<'_> {
    fn emit(&mut self, output: &Output<'_>) {
        self.out.emit(output);
    }
}

/// The election of one master.
#[derive(Debug)]
pub struct Election<'a> {
    config: Config,
    /// The registry's value at `disk.promised().held`.
    body: Body<'a>,
    /// One that arrives in pieces.
    incoming: Body<'a>,
    soft: Soft,
}

/// Everything but the two bodies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Soft {
    disk: Disk,
    peers: Peers,
    start: Start,
    round: Round,
    reign: Reign,
    arriving: data::Arriving,
    /// When the next row is due by the clock.
    beat: Time,
    beats: u32,
    /// The newest row that was said.
    said: Row,
    rng: Option<Rng>,
}

impl<'a> Election<'a> {
    /// A master that knows nothing yet. Both memories are zeroed and of [`Shape::bytes`].
    pub fn new(shape: Shape, body: &'a mut [u8], incoming: &'a mut [u8], config: Config) -> Self {
        let soft = Soft { rng: Some(Rng::new(config.seed)), ..Soft::default() };
        let (body, incoming) = (Body::new(shape, body), Body::new(shape, incoming));
        Self { config, body, incoming, soft }
    }

    /// Gives the memory back.
    pub fn release(self) -> [&'a mut [u8]; 2] {
        [self.body.release(), self.incoming.release()]
    }

    /// Applies one input. O(masters), and O(body) when a whole one arrived.
    pub fn step(
        &mut self,
        now: Time,
        input: &Input<'_>,
        out: &mut dyn Outbox,
    ) -> Result<(), Refusal> {
        let mut cx = Cx { now, out };
        let done = match input {
            Input::Piece { at, bytes } => self.found_piece(*at, bytes),
            Input::Start { facts, edits, nonce } => self.begin(&cx, facts, edits, *nonce),
            Input::Form(birth) => self.form(&cx, birth),
            Input::Digest(digest) => self.hear(&mut cx, digest),
            Input::Replica { from, replica } => self.take(&mut cx, *from, replica),
            Input::Persisted { sequence } => {
                self.soft.disk.persisted(*sequence);
                Ok(())
            }
            Input::Propose { ticket, edits } => self.propose(&mut cx, *ticket, edits),
            Input::Change { ticket, change } => self.change(&mut cx, *ticket, *change),
            Input::Timing { ticket, t_us } => self.retime(&mut cx, *ticket, *t_us),
            Input::Seen(fence) => {
                self.outranked(&mut cx, *fence);
                Ok(())
            }
            Input::Tick => Ok(()),
        };
        self.settle(&mut cx);
        done
    }

    /// Goes through every rule once.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        if !self.soft.start.begun {
            return;
        }
        if self.may_act() {
            self.finish_start(cx.now);
            self.check_reign(cx);
            if !self.soft.start.starting {
                self.ask_and_vote(cx.now);
                self.rule(cx);
            }
        }
        self.write(cx);
        let beat = self.has_peers() && cx.now >= self.soft.beat;
        if beat {
            self.soft.beats = self.soft.beats.wrapping_add(1);
            self.soft.beat = cx.now.after(self.t() / BEATS);
        }
        self.say(cx, beat);
        if beat && self.may_act() {
            self.pass_on(cx);
        }
    }

    /// When `Tick` is due.
    pub fn next_deadline(&self) -> Time {
        if !self.soft.start.begun {
            return Time::NEVER;
        }
        let beat = if self.has_peers() { self.soft.beat } else { Time::NEVER };
        if !self.may_act() {
            return beat;
        }
        // What a leader and a slow disk are waited for is looked at with each beat.
        beat.min(self.soft.start.due).min(self.round_deadline())
    }

    /// Formed, and not in quarantine.
    fn may_act(&self) -> bool {
        let facts = self.facts();
        facts.formed && !facts.quarantined
    }

    fn has_peers(&self) -> bool {
        !self.soft.peers.is_empty()
    }

    fn mutant(&self, mutant: Mutant) -> bool {
        self.config.mutant.is(mutant)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.soft.rng.as_mut().map_or(0, |rng| rng.below_u64(bound))
    }

    /// The unit of all timers, in µs.
    pub fn t(&self) -> u64 {
        u64::from(self.facts().meta.t_us).max(1_000)
    }

    /// What it has promised, durable or not.
    pub fn facts(&self) -> &Facts {
        self.soft.disk.promised()
    }

    /// What its disk would not forget.
    pub fn durable(&self) -> &Facts {
        self.soft.disk.durable()
    }

    /// The registry: what this master accepted, committed or not. See [`Election::commit`].
    pub fn body(&self) -> &Body<'a> {
        &self.body
    }

    /// The newest value that is known to be committed.
    pub fn commit(&self) -> Version {
        self.soft.reign.commit
    }

    /// What it is at the moment.
    pub fn role(&self) -> Role {
        self.soft.reign.role
    }

    /// Waiting, after its start, to hear what others know of it.
    pub fn is_starting(&self) -> bool {
        self.soft.start.starting
    }

    /// Whose word this master's is.
    pub fn fence(&self) -> Fence {
        Fence { generation: self.facts().generation, epoch: self.soft.reign.epoch }
    }

    /// The leader of whom a row came within T, for those who ask a standby; itself when open.
    pub fn leader(&self, now: Time) -> Option<(u8, Fence)> {
        let generation = self.facts().generation;
        if self.role() == Role::Active {
            return Some((self.facts().me, self.fence()));
        }
        let leads = |row: &&Row| row.leads > 0;
        let row = self.soft.peers.fresh(now, self.t()).filter(leads).max_by_key(|row| row.leads)?;
        Some((row.id, Fence { generation, epoch: row.leads }))
    }

    /// This master's own row as its disk has it.
    fn own_row(&self, now: Time) -> Row {
        let (facts, soft) = (self.spoken(), &self.soft);
        let mut row = Row {
            id: facts.me,
            incarnation: facts.incarnation,
            nonce: soft.start.nonce,
            flags: Row::FORMED,
            ..Row::default()
        };
        if facts.quarantined {
            row.flags |= Row::QUARANTINED;
            return row;
        }
        if soft.start.starting {
            row.flags |= Row::STARTING;
            return row;
        }
        row.flags |= if self.config.can_lead { Row::CAN_LEAD } else { 0 };
        row.flags |= if self.disk_keeps_up(now) { Row::DISK_OK } else { 0 };
        let leads = soft.reign.leads();
        Row {
            promised: facts.promised,
            voted_for: facts.voted_for,
            accepted: facts.accepted.version,
            hash: facts.accepted.hash,
            held: facts.held.version,
            leads,
            commit: soft.reign.commit,
            want: soft.round.want,
            grant_epoch: soft.round.grant_epoch,
            grant_to: soft.round.grant_to,
            echo_epoch: if leads > 0 { leads } else { soft.round.echo_epoch },
            echo_stamp: if leads > 0 { now.0 } else { soft.round.echo_stamp },
            heard: self.heard(now),
            ..row
        }
    }

    /// What may be said: the durable facts.
    fn spoken(&self) -> &Facts {
        let early = self.mutant(Mutant::SpeaksBeforeFsync);
        if early { self.soft.disk.promised() } else { self.soft.disk.durable() }
    }

    /// Says what changed, or everything when a beat is due.
    fn say(&mut self, cx: &mut Cx<'_>, beat: bool) {
        let begun = self.durable().incarnation == self.facts().incarnation;
        if !self.has_peers() || !begun || self.muted_at_start() {
            return;
        }
        if self.soft.said.sequence == u32::MAX {
            self.count_again();
            return;
        }
        let mut row = self.own_row(cx.now);
        let said = self.soft.said;
        let news = Row { sequence: 0, echo_stamp: 0, heard: 0, ..row }
            != Row { sequence: 0, echo_stamp: 0, heard: 0, ..said };
        if !beat && !news {
            return;
        }
        row.sequence = said.sequence.wrapping_add(1);
        self.soft.said = row;
        let mut memory = [0; 1280];
        let mut scratch = crate::wire::Scratch::new(&mut memory);
        let others = self.soft.peers.passed_on();
        let rows = scratch.seq::<Row>(core::iter::once(row).chain(others));
        invariant!(rows.is_ok(), "a digest larger than a datagram");
        let digest = Digest {
            cluster: self.facts().cluster,
            generation: self.facts().generation,
            roster: self.facts().meta.roster.version,
            sender: row.id,
            amnesiac: self.soft.peers.amnesiac(),
            rows: rows.unwrap_or_default(),
        };
        cx.emit(&Output::Gossip(Head::Gossip(crate::wire::gossip::Gossip::Digest(digest))));
    }

    /// Its count is used up. It counts from the beginning as after a start: when that is on disk.
    fn count_again(&mut self) {
        self.soft.disk.promise(|facts| facts.incarnation = facts.incarnation.saturating_add(1));
        self.soft.said.sequence = 0;
    }

    /// As if it had spoken so often: nobody waits for years.
    #[cfg(feature = "mutants")]
    pub fn spoke(&mut self, times: u32) {
        self.soft.said.sequence = times;
    }

    fn muted_at_start(&self) -> bool {
        self.mutant(Mutant::SilentStart) && self.soft.start.starting
    }

    /// A datagram: its rows are merged, nothing else.
    fn hear(&mut self, cx: &mut Cx<'_>, digest: &Digest<'_>) -> Result<(), Refusal> {
        if !self.soft.start.begun || !self.may_act() {
            return Ok(());
        }
        let (ours, theirs) = (self.facts().generation, digest.generation);
        if digest.cluster != self.facts().cluster {
            return Err(Refusal::OtherCluster);
        }
        if theirs.number > ours.number && !self.mutant(Mutant::IgnoresGenerations) {
            self.give_up(cx, theirs.number);
            return Ok(());
        }
        let same = theirs.number == ours.number && self.mutant(Mutant::HearsEveryHistory);
        if theirs != ours && !same {
            return Err(Refusal::StaleFence);
        }
        if !self.soft.peers.has(digest.sender) {
            return Err(Refusal::Denied);
        }
        self.count_for_start(digest);
        for row in digest.rows.iter() {
            if row.id == self.facts().me {
                self.see_myself(cx, &row);
            } else if self.merge(cx.now, row) {
                self.feel_contact(cx.now, &row);
            }
        }
        Ok(())
    }

    /// Everybody in the roster or its predecessor is a peer.
    fn follow_roster(&mut self) {
        let facts = self.soft.disk.promised();
        self.soft.peers.follow(&facts.meta.roster, facts.me);
    }
}

/// Rows said in each T.
const BEATS: u64 = 10;

impl Front for Election<'_> {
    fn apply(&mut self, now: Time, input: &[u8], out: &mut Encoder<'_>) -> Result<(), Refusal> {
        let input = postcard::from_bytes::<Input<'_>>(input).map_err(|_| Refusal::Malformed)?;
        input.check().map_err(|_| Refusal::Malformed)?;
        self.step(now, &input, out)
    }

    fn next_deadline(&self) -> Time {
        Self::next_deadline(self)
    }

    fn tick() -> &'static [u8] {
        &[10]
    }
}

impl Check for Input<'_> {
    fn check(&self) -> Result<(), crate::wire::Malformed> {
        match self {
            Self::Digest(digest) => digest.check(),
            Self::Replica { replica, .. } => replica.check(),
            Self::Propose { edits, .. } => {
                edits.check_up_to("propose.edits", crate::limits::EDITS_MAX)
            }
            Self::Piece { .. }
            | Self::Start { .. }
            | Self::Form(_)
            | Self::Persisted { .. }
            | Self::Change { .. }
            | Self::Timing { .. }
            | Self::Seen(_)
            | Self::Tick => Ok(()),
        }
    }
}

impl Image for Election<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        to.put(&self.soft);
        to.put(&(self.body.named(), self.incoming.named()));
        to.bytes(self.body.bytes());
        to.bytes(self.incoming.bytes());
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        self.soft = from.take()?;
        let (body, incoming): (Named, Named) = from.take()?;
        for (into, named) in [(&mut self.body, body), (&mut self.incoming, incoming)] {
            into.put(0, from.bytes(into.shape().bytes())?);
            into.name(named);
        }
        Ok(())
    }
}

/// The masters other than `me` that a majority of the roster needs.
pub(crate) fn set_of(ids: impl Iterator<Item = u8>) -> u64 {
    ids.fold(0, |set, id| set | bit(id))
}

impl Birth {
    /// The facts of a master's first start.
    fn facts(&self) -> Facts {
        Facts {
            formed: true,
            me: self.me,
            cluster: self.cluster,
            generation: self.generation,
            promised: self.epoch,
            meta: Meta { t_us: self.t_us, roster: self.roster.clone(), ..Meta::default() },
            ..Facts::default()
        }
    }
}
