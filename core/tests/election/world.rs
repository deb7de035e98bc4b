//! Masters of the real core in one thread, between a network, disks and clocks that a seed decides.
//!
//! Time is virtual. Every message goes by its bytes, every write through the real layout. What must
//! hold is checked from outside, after every step, by [`Oracle`](crate::oracle::Oracle).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mesita_core::digest::Digest;
use mesita_core::election::{Birth, Config, Election, Input, Outbox, Output, Role};
use mesita_core::mutant::Mutant;
use mesita_core::rand::Rng;
use mesita_core::registry::body::Shape;
use mesita_core::registry::meta::{Change, Roster};
use mesita_core::registry::store::{Facts, Save, Store};
use mesita_core::time::Time;
use mesita_core::wire::gossip::{Edit, Gossip, Table};
use mesita_core::wire::{Fence, Generation, Head, Scratch, Seq, decode, encode};

use crate::disk::SimDisk;
use crate::oracle::Oracle;

pub const MILLI: u64 = 1_000;
pub const CLUSTER: u64 = 0x6d65_7369_7461;
/// Changes in the ring: few, so that checkpoints happen all the time.
pub const RING: u32 = 3;
/// Every so many steps a disk is read as at a start.
const RECOVERED_EVERY: u64 = 256;

/// What leaves a master, by its bytes.
#[derive(Debug)]
pub enum Said {
    Gossip(Vec<u8>),
    Send(u8, Vec<u8>),
    Persist(Vec<u8>),
    Leading,
    Lost,
    Answer(u32, bool),
    Quarantined,
}

#[derive(Default)]
struct Taken(Vec<Said>);

fn bytes_of<T: serde::Serialize>(value: &T) -> Vec<u8> {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 65_536]);
    }
    BUFFER.with_borrow_mut(|buffer| encode(value, buffer).unwrap().to_vec())
}

impl Outbox for Taken {
    fn emit(&mut self, output: &Output<'_>) {
        self.0.push(match output {
            Output::Gossip(head) => Said::Gossip(bytes_of(head)),
            Output::Send { to, head } => Said::Send(*to, bytes_of(head)),
            Output::Persist(save) => Said::Persist(bytes_of(save)),
            Output::Leading(_) => Said::Leading,
            Output::Lost => Said::Lost,
            Output::Answer { ticket, result } => Said::Answer(*ticket, result.is_ok()),
            Output::Quarantined | Output::GivenUp { .. } => Said::Quarantined,
        });
    }
}

/// What the rest of a master's process hears of its election.
#[derive(Clone, Copy, Debug)]
pub enum Heard {
    Leads(u8, Fence),
    Lost(u8),
    Answered { id: u8, ticket: u32, committed: bool },
    Quarantined(u8),
}

#[derive(Clone, Debug)]
enum Happening {
    Deliver { from: u8, to: u8, bytes: Vec<u8>, stream: bool },
    Tick { at: u8, number: u64 },
    Saved { at: u8, life: u64 },
    Restart { at: u8 },
    Write,
}

/// How the network treats a message.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    /// In thousandths.
    pub loss: u32,
    pub double: u32,
    pub slow: u32,
    /// From and to, in µs.
    pub delay: (u64, u64),
}

impl Net {
    pub const LAN: Self = Self { loss: 0, double: 0, slow: 0, delay: (200, 2_000) };
}

pub struct Node {
    pub id: u8,
    pub disk: SimDisk,
    pub front: Option<Election<'static>>,
    store: Option<Store<'static>>,
    pub life: u64,
    saves: VecDeque<Vec<u8>>,
    writing: Option<u64>,
    /// In thousandths of the true rate.
    rate: u64,
    offset: u64,
    pub can_lead: bool,
    /// No write ends.
    pub hangs: bool,
    paused_until: u64,
    ticking: (u64, u64),
    /// What its operator gave it, until that is on disk.
    birth: Option<Roster>,
    /// The newest facts that were checked to be on disk.
    pub checked: Option<(u32, u8, u64)>,
    /// The sector that is being written, and the newest that its disk has for sure.
    sector: Option<Facts>,
    pub synced: Facts,
}

pub struct World {
    pub now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    order: u64,
    pub rng: Rng,
    pub nodes: Vec<Node>,
    pub net: Net,
    /// One-way cuts: of everything, of streams alone, of datagrams alone.
    cuts: BTreeSet<(u8, u8)>,
    cut_streams: BTreeSet<u8>,
    cut_datagrams: BTreeSet<u8>,
    pub fsync: (u64, u64),
    pub t: u64,
    shape: Shape,
    ring: u32,
    memory: Vec<&'static mut [u8]>,
    pub oracle: Oracle,
    pub mutant: Mutant,
    pub writes_every: u64,
    next_ticket: u32,
    pub steps: u64,
    pub digest: Digest,
    pub elections: u64,
    /// When the newest change was answered, and how many were.
    pub last_commit: u64,
    pub commits: u64,
    /// Changes of the roster that were answered.
    pub changes: u64,
    changing: Option<u32>,
    /// Bytes of the registry's contents that were sent.
    pub streamed: u64,
    pub trace: bool,
    /// The table that the changes of [`World::propose`] go to.
    pub probes: Table,
    /// What was heard since somebody looked; none: nobody does.
    pub heard: Option<VecDeque<Heard>>,
}

pub fn key(id: u8) -> [u8; 32] {
    [id; 32]
}

impl World {
    /// So many masters, formed and started at once. A change is proposed every T/4.
    pub fn new(seed: u64, masters: u8, t: u64, mutant: Mutant) -> Self {
        let mut rng = Rng::new(seed);
        let shape = if rng.below(10) == 0 { Shape::new(60, 8, 8) } else { Shape::new(4, 2, 2) };
        Self::of(rng, masters, t, mutant, (shape, RING))
    }

    /// The same with a registry of that shape, and so many changes in its ring.
    pub fn of(rng: Rng, masters: u8, t: u64, mutant: Mutant, (shape, ring): (Shape, u32)) -> Self {
        let mut world = Self {
            now: 1_000_000,
            queue: BTreeMap::new(),
            order: 0,
            rng,
            nodes: vec![],
            net: Net::LAN,
            cuts: BTreeSet::new(),
            cut_streams: BTreeSet::new(),
            cut_datagrams: BTreeSet::new(),
            fsync: (MILLI, 8 * MILLI),
            t,
            shape,
            ring,
            memory: vec![],
            oracle: Oracle::default(),
            mutant,
            writes_every: t / 4,
            next_ticket: 1,
            steps: 0,
            digest: Digest::new(),
            elections: 0,
            last_commit: 0,
            commits: 0,
            changes: 0,
            changing: None,
            streamed: 0,
            trace: std::env::var_os("TRACE").is_some(),
            probes: Table::Agents,
            heard: None,
        };
        let keys: Vec<_> = (1..=masters).map(key).collect();
        let roster = Roster::first(&keys);
        for id in 1..=masters {
            world.add_node(id);
            world.boot(id);
            world.form(id, roster.clone());
        }
        world.at(world.writes_every, Happening::Write);
        world
    }

    fn add_node(&mut self, id: u8) {
        let rate = 950 + u64::from(self.rng.below(101));
        let offset = u64::from(self.rng.below(1_000_000_000));
        self.nodes.push(Node {
            id,
            disk: SimDisk::default(),
            front: None,
            store: None,
            life: 0,
            saves: VecDeque::new(),
            writing: None,
            rate,
            offset,
            can_lead: true,
            hangs: false,
            paused_until: 0,
            ticking: (u64::MAX, 0),
            birth: None,
            checked: None,
            sector: None,
            synced: Facts::default(),
        });
    }

    pub fn has(&self, id: u8) -> bool {
        self.nodes.iter().any(|node| node.id == id)
    }

    pub fn ids(&self) -> Vec<u8> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    pub fn node(&mut self, id: u8) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).unwrap()
    }

    pub fn peek(&self, id: u8) -> &Node {
        self.nodes.iter().find(|node| node.id == id).unwrap()
    }

    fn at(&mut self, after: u64, what: Happening) {
        self.order += 1;
        self.queue.insert((self.now + after, self.order), what);
    }

    fn lend(&mut self) -> &'static mut [u8] {
        let len = self.shape.bytes();
        let memory = self.memory.pop().unwrap_or_else(|| Box::leak(vec![0; len].into()));
        memory.fill(0);
        memory
    }

    /// A clock of its own: another rate, another start.
    pub fn local(&self, id: u8) -> Time {
        let node = self.peek(id);
        Time(node.offset + self.now * node.rate / 1_000)
    }

    /// When its clock shows that.
    pub fn true_time(&self, id: u8, local: Time) -> u64 {
        let node = self.peek(id);
        local.0.saturating_sub(node.offset) * 1_000 / node.rate + 1
    }

    pub fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.trace {
            println!("{:>9.3} {what}", self.now as f64 / 1e6);
        }
    }

    // ---------------------------------------------------------------- lives

    /// Starts from what is on disk.
    pub fn boot(&mut self, id: u8) {
        if self.peek(id).front.is_some() {
            return;
        }
        let memory = [self.lend(), self.lend()];
        let [a, b] = [self.lend(), self.lend()];
        let (shape, ring) = (self.shape, self.ring);
        let seed = self.rng.draw();
        let nonce = self.rng.draw() as u32;
        let mutant = self.mutant;
        let node = self.node(id);
        node.life += 1;
        node.saves.clear();
        node.writing = None;
        node.ticking = (u64::MAX, node.ticking.1 + 1);
        let [body, idle] = memory;
        let mut store = Store::new(shape, ring, body, idle);
        store.recover(&mut node.disk).unwrap();
        node.disk.settle();
        let config = Config { seed, can_lead: node.can_lead, mutant };
        let front = Election::new(shape, a, b, config);
        let (facts, edits) = (store.facts().clone(), store.edits().to_vec());
        (node.sector, node.synced) = (None, facts.clone());
        let whole = store.body().bytes().to_vec();
        node.front = Some(front);
        node.store = Some(store);
        self.say(format_args!(
            "boot {id} promised {} accepted {:?} held {:?} {}",
            facts.promised, facts.accepted.version, facts.held.version, facts.formed
        ));
        for (at, bytes) in whole.chunks(4_000).enumerate() {
            let at = at as u32 * 4_000;
            self.step(id, &Input::Piece { at, bytes }).unwrap();
        }
        self.step(id, &Input::Start { facts, edits: &edits, nonce }).unwrap();
        if let Some(roster) = self.peek(id).birth.clone() {
            self.form(id, roster);
        }
    }

    pub fn form(&mut self, id: u8, roster: Roster) {
        self.node(id).birth = Some(roster.clone());
        let generation = Generation { number: 0, nonce: 0 };
        let t_us = self.t as u32;
        let birth = Birth { cluster: CLUSTER, generation, me: id, epoch: 0, t_us, roster };
        let _ = self.step(id, &Input::Form(birth));
    }

    /// The power goes.
    pub fn crash(&mut self, id: u8) {
        let mut rng = Rng::new(self.rng.draw());
        let node = self.node(id);
        let Some(front) = node.front.take() else { return };
        node.disk.crash(&mut rng);
        let store = node.store.take().unwrap();
        node.writing = None;
        node.saves.clear();
        node.life += 1;
        self.memory.extend(front.release());
        self.memory.extend(store.release());
        self.say(format_args!("crash {id}"));
    }

    pub fn crash_for(&mut self, id: u8, us: u64) {
        self.crash(id);
        self.at(us, Happening::Restart { at: id });
    }

    pub fn pause(&mut self, id: u8, us: u64) {
        let until = self.now + us;
        let node = self.node(id);
        let wakes = until < std::mem::replace(&mut node.paused_until, until);
        if wakes {
            // What was put off until later than this is due.
            node.ticking = (u64::MAX, node.ticking.1 + 1);
            if node.writing.is_some() && !node.hangs {
                let life = node.life;
                self.at(MILLI, Happening::Saved { at: id, life });
            }
            self.schedule(id);
        }
        self.say(format_args!("pause {id} for {} ms", us / MILLI));
    }

    // ---------------------------------------------------------------- the network

    /// Nothing goes from one to the other.
    pub fn cut(&mut self, from: u8, to: u8) {
        self.cuts.insert((from, to));
    }

    pub fn cut_both(&mut self, a: u8, b: u8) {
        self.cut(a, b);
        self.cut(b, a);
    }

    pub fn isolate(&mut self, id: u8) {
        for other in self.ids() {
            self.cut_both(id, other);
        }
    }

    /// It hears nobody.
    pub fn deafen(&mut self, id: u8) {
        for other in self.ids() {
            self.cut(other, id);
        }
    }

    /// Nothing of its registry goes out.
    pub fn silence_stream(&mut self, id: u8) {
        self.cut_streams.insert(id);
    }

    /// It hears what is in the registry, and no facts.
    pub fn deafen_datagrams(&mut self, id: u8) {
        self.cut_datagrams.insert(id);
    }

    pub fn heal_links(&mut self) {
        self.cuts.clear();
        self.cut_streams.clear();
        self.cut_datagrams.clear();
    }

    /// The links among these work.
    pub fn join(&mut self, ids: &[u8]) {
        self.cuts.retain(|(a, b)| !ids.contains(a) || !ids.contains(b));
    }

    fn send(&mut self, from: u8, to: u8, bytes: &[u8], stream: bool) {
        let silent = stream && self.cut_streams.contains(&from);
        let deaf = !stream && self.cut_datagrams.contains(&to);
        let nobody = self.nodes.iter().all(|node| node.id != to);
        if self.cuts.contains(&(from, to)) || from == to || silent || deaf || nobody {
            return;
        }
        self.streamed += if stream { bytes.len() as u64 } else { 0 };
        let net = self.net;
        // A stream repeats what is lost, and is late instead.
        if self.rng.below(1_000) < net.loss && !stream {
            return;
        }
        let copies = if self.rng.below(1_000) < net.double { 2 } else { 1 };
        for _ in 0..copies {
            let (least, most) = net.delay;
            let mut delay = least + self.rng.below_u64(most - least + 1);
            if self.rng.below(1_000) < net.slow {
                delay *= 20;
            }
            let bytes = bytes.to_vec();
            self.at(delay, Happening::Deliver { from, to, bytes, stream });
        }
    }

    // ---------------------------------------------------------------- steps

    /// One step of one master and all that follows from it at once.
    pub fn step(&mut self, id: u8, input: &Input<'_>) -> Result<(), mesita_core::Refusal> {
        let now = self.local(id);
        let mut taken = Taken::default();
        let Some(front) = self.node(id).front.as_mut() else { return Ok(()) };
        let before = front.role();
        let result = front.step(now, input, &mut taken);
        let after = front.role();
        self.steps += 1;
        self.elections += u64::from(before < Role::Elected && after >= Role::Elected);
        if before != after {
            let epoch = self.peek(id).front.as_ref().unwrap().fence().epoch;
            self.say(format_args!("{id} {before:?} -> {after:?} {epoch}"));
        }
        self.digest.value(&(id, result.is_ok(), after));
        // What was accepted is known before its answer is.
        self.oracle.look(self.now, self.nodes.iter().find(|node| node.id == id).unwrap(), now);
        for said in taken.0 {
            self.follow(id, said);
        }
        self.check_leases();
        self.schedule(id);
        result
    }

    fn follow(&mut self, id: u8, said: Said) {
        match said {
            Said::Gossip(bytes) => {
                self.digest.bytes(&bytes);
                self.check_said(id, &bytes);
                for other in self.ids() {
                    self.send(id, other, &bytes, false);
                }
            }
            Said::Send(to, bytes) => {
                self.digest.bytes(&bytes);
                self.send(id, to, &bytes, true);
            }
            Said::Persist(bytes) => {
                self.node(id).saves.push_back(bytes);
                self.write_next(id);
            }
            Said::Leading => {
                self.oracle.opened(&self.nodes, id);
                let fence = self.peek(id).front.as_ref().unwrap().fence();
                self.is_heard(Heard::Leads(id, fence));
            }
            Said::Lost => {
                self.say(format_args!("{id} lost"));
                self.is_heard(Heard::Lost(id));
            }
            Said::Answer(ticket, committed) => {
                self.is_heard(Heard::Answered { id, ticket, committed });
                if self.changing == Some(ticket) {
                    self.changing = None;
                    self.changes += u64::from(committed);
                }
                if committed {
                    self.oracle.acknowledged(ticket, &self.nodes);
                    self.last_commit = self.now;
                    self.commits += 1;
                }
            }
            Said::Quarantined => {
                self.say(format_args!("{id} QUARANTINED"));
                self.is_heard(Heard::Quarantined(id));
            }
        }
    }

    fn is_heard(&mut self, what: Heard) {
        if let Some(heard) = &mut self.heard {
            heard.push_back(what);
        }
    }

    /// What is said must be on disk.
    fn check_said(&mut self, id: u8, bytes: &[u8]) {
        let Ok(Head::Gossip(Gossip::Digest(digest))) = decode(bytes) else { panic!("no digest") };
        let row = digest.rows.first().unwrap();
        self.oracle.said(&row);
        let facts = (row.promised, row.voted_for, row.hash);
        if !row.counts() || self.peek(id).checked == Some(facts) {
            return;
        }
        self.oracle.is_on_disk(&row, &self.nodes.iter().find(|node| node.id == id).unwrap().synced);
        self.node(id).checked = Some(facts);
        if self.steps.is_multiple_of(RECOVERED_EVERY) {
            self.check_recovery(id);
        }
    }

    /// A start now would find what is thought to be on disk.
    fn check_recovery(&mut self, id: u8) {
        let (a, b) = (self.lend(), self.lend());
        let mut store = Store::new(self.shape, self.ring, a, b);
        let mut disk = self.peek(id).disk.without_log();
        store.recover(&mut disk).unwrap();
        let (found, synced) = (store.facts(), &self.peek(id).synced);
        assert_eq!(found.sequence, synced.sequence, "I6: another sector is found");
        assert_eq!((found.promised, found.voted_for), (synced.promised, synced.voted_for), "I6");
        assert_eq!((found.accepted, found.held), (synced.accepted, synced.held), "I6");
        self.memory.extend(store.release());
    }

    fn write_next(&mut self, id: u8) {
        let (least, most) = self.fsync;
        let wait = least + self.rng.below_u64(most - least + 1);
        let node = self.node(id);
        while node.writing.is_none() {
            let Some(bytes) = node.saves.pop_front() else { return };
            let save: Save<'_> = postcard::from_bytes(&bytes).unwrap();
            if let Save::Sector { facts, .. } = &save {
                node.sector = Some(facts.clone());
            }
            let done = node.store.as_mut().unwrap().save(&mut node.disk, &save).unwrap();
            node.writing = done;
        }
        let life = node.life;
        if !node.hangs {
            self.at(wait, Happening::Saved { at: id, life });
        }
    }

    /// A disk that hung goes on.
    pub fn unhang(&mut self, id: u8) {
        let node = self.node(id);
        if std::mem::take(&mut node.hangs) && node.writing.is_some() {
            let life = node.life;
            self.at(MILLI, Happening::Saved { at: id, life });
        }
    }

    fn schedule(&mut self, id: u8) {
        let Some(front) = self.peek(id).front.as_ref() else { return };
        let deadline = front.next_deadline();
        if deadline == Time::NEVER {
            return;
        }
        let due = self.true_time(id, deadline);
        let node = self.node(id);
        if node.ticking.0 == due {
            return;
        }
        node.ticking = (due, node.ticking.1 + 1);
        let number = node.ticking.1;
        let after = due.saturating_sub(self.now).max(1);
        self.at(after, Happening::Tick { at: id, number });
    }

    fn check_leases(&self) {
        let active =
            |node: &&Node| node.front.as_ref().is_some_and(|front| front.role() == Role::Active);
        if self.nodes.iter().filter(active).nth(1).is_none() {
            return;
        }
        let holds = |node: &&Node| {
            let Some(front) = &node.front else { return false };
            let now = self.local(node.id);
            front.role() == Role::Active && front.lease_until(now) > now
        };
        let holders: Vec<_> = self.nodes.iter().filter(holds).map(|node| node.id).collect();
        assert!(holders.len() < 2, "I7: leases of {holders:?} at {}", self.now);
    }

    /// Runs for so long.
    pub fn run(&mut self, us: u64) {
        let end = self.now + us;
        while self.next().is_some_and(|at| at <= end) {
            self.one();
        }
        self.now = end;
    }

    /// When something happens next.
    pub fn next(&self) -> Option<u64> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next thing happens.
    pub fn one(&mut self) {
        if let Some(((at, _), what)) = self.queue.pop_first() {
            self.now = at;
            self.happen(what);
        }
    }

    fn happen(&mut self, what: Happening) {
        let node = match &what {
            Happening::Deliver { to, .. } => *to,
            Happening::Tick { at, .. } | Happening::Saved { at, .. } => *at,
            Happening::Restart { at } => *at,
            Happening::Write => 0,
        };
        if node > 0 && self.nodes.iter().all(|other| other.id != node) {
            return;
        }
        if node > 0 {
            let until = self.peek(node).paused_until;
            if until > self.now {
                let after = until - self.now;
                return self.at(after, what);
            }
        }
        match what {
            Happening::Deliver { from, to, bytes, stream } => {
                self.deliver(from, to, &bytes, stream)
            }
            Happening::Tick { at, number } => {
                if self.peek(at).ticking.1 == number {
                    self.node(at).ticking.0 = u64::MAX;
                    let _ = self.step(at, &Input::Tick);
                }
            }
            Happening::Saved { at, life } => self.saved(at, life),
            Happening::Restart { at } => self.boot(at),
            Happening::Write => {
                self.at(self.writes_every, Happening::Write);
                self.propose();
            }
        }
    }

    fn deliver(&mut self, from: u8, to: u8, bytes: &[u8], stream: bool) {
        // A datagram was checked when it was said, and came as it was.
        let head = if stream { decode(bytes).ok() } else { postcard::from_bytes(bytes).ok() };
        let Some(Head::Gossip(gossip)) = head else { panic!("not gossip") };
        let input = match gossip {
            Gossip::Digest(digest) if !stream => Input::Digest(digest),
            Gossip::Replica(replica) if stream => Input::Replica { from, replica },
            _ => panic!("the wrong way"),
        };
        let _ = self.step(to, &input);
    }

    fn saved(&mut self, id: u8, life: u64) {
        let node = self.node(id);
        if node.life != life || node.front.is_none() {
            return;
        }
        if node.hangs {
            return;
        }
        node.disk.settle();
        node.birth = None;
        let Some(sequence) = node.writing.take() else { return };
        node.synced = node.sector.take().unwrap();
        self.write_next(id);
        let _ = self.step(id, &Input::Persisted { sequence });
        // Late and repeated news change nothing.
        if self.rng.below(20) == 0 {
            let _ = self.step(id, &Input::Persisted { sequence });
        }
    }

    /// A change, at whoever is open.
    pub fn propose(&mut self) {
        for id in self.open() {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            let slot = ticket % 4;
            let value = u64::from(ticket).to_le_bytes();
            let mut memory = [0; 256];
            let edit = Edit { table: self.probes, slot, at: (ticket % 8) as u16, bytes: &value };
            let edits = Scratch::new(&mut memory).seq::<Edit<'static>>([edit]).unwrap();
            self.oracle.proposing(ticket, id);
            let _ = self.step(id, &Input::Propose { ticket, edits });
        }
    }

    /// The same with these edits, at this one; its ticket, and what was said at once.
    pub fn propose_at(
        &mut self,
        id: u8,
        edits: Seq<'_, Edit<'_>>,
    ) -> (u32, Result<(), mesita_core::Refusal>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.oracle.proposing(ticket, id);
        (ticket, self.step(id, &Input::Propose { ticket, edits }))
    }

    /// Who is open.
    pub fn open(&self) -> Vec<u8> {
        let is_open = |node: &&Node| {
            node.front.as_ref().is_some_and(|front| front.role() == Role::Active)
                && node.paused_until <= self.now
        };
        self.nodes.iter().filter(is_open).map(|node| node.id).collect()
    }

    /// These run, with disks that work, and each hears each.
    pub fn work(&self, ids: &[u8]) -> bool {
        let works = |id: &u8| {
            let node = self.peek(*id);
            node.front.is_some() && !node.hangs && node.paused_until <= self.now
        };
        let apart = |(a, b): &(u8, u8)| ids.contains(a) && ids.contains(b);
        let silent = |id: &u8| self.cut_streams.contains(id) || self.cut_datagrams.contains(id);
        ids.iter().all(works) && !self.cuts.iter().any(apart) && !ids.iter().any(silent)
    }

    pub fn facts(&self, id: u8) -> Facts {
        self.peek(id).front.as_ref().unwrap().facts().clone()
    }

    /// Runs until a change is committed that was proposed from now on; how long it took, if at all.
    pub fn until_commit(&mut self, within: u64) -> Option<u64> {
        let (start, before) = (self.now, self.commits);
        while self.now < start + within {
            self.run(self.t / 20);
            if self.commits > before + 1 {
                return Some(self.now - start);
            }
        }
        None
    }

    /// Runs until somebody is open, and says who.
    pub fn until_open(&mut self, within: u64) -> Option<u8> {
        let end = self.now + within;
        while self.now < end {
            if let Some(id) = self.open().first() {
                return Some(*id);
            }
            self.run(self.t / 20);
        }
        self.open().first().copied()
    }

    /// Asks `id` for another T.
    pub fn retime(&mut self, id: u8, t_us: u32) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.oracle.proposing(ticket, id);
        let _ = self.step(id, &Input::Timing { ticket, t_us });
    }

    /// Every block but the vote sectors rots: the vote is there, the body is not.
    pub fn damage_body(&mut self, id: u8) {
        let disk = &mut self.node(id).disk;
        for block in disk.written() {
            if ![0, 1, 1024, 1025].contains(&block) {
                disk.rot(block, 700);
                disk.rot(block, 20);
            }
        }
    }

    // ---------------------------------------------------------------- the roster

    /// Asks an open leader for a change of the roster, unless one is under way.
    pub fn change(&mut self, change: Change) -> bool {
        let Some(id) = self.open().first().copied() else { return false };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.oracle.proposing(ticket, id);
        self.changing = Some(ticket);
        let taken = self.step(id, &Input::Change { ticket, change }).is_ok();
        if !taken {
            self.changing = None;
        }
        taken
    }

    /// Asks until the change is committed.
    pub fn change_within(&mut self, change: Change, within: u64) -> bool {
        let (end, before) = (self.now + within, self.changes);
        while self.now < end {
            if self.changing.is_none() {
                self.change(change);
            }
            self.run(self.t / 20);
            if self.changes > before {
                return true;
            }
        }
        false
    }

    /// Bytes of the registry.
    pub fn body_bytes(&self) -> u64 {
        self.shape.bytes() as u64
    }

    /// A machine that was removed is taken away.
    pub fn retire(&mut self, id: u8) {
        self.crash(id);
        self.nodes.retain(|node| node.id != id);
    }

    /// A new master under a new id, told who the others are. It is the learner then.
    pub fn newcomer(&mut self, within: u64) -> Option<u8> {
        let known = self.nodes.iter().map(|node| node.id).max().unwrap_or(0) + 100;
        if !self.change_within(Change::Add { key: key(known) }, within) {
            return None;
        }
        let leader = *self.open().first()?;
        let roster = self.facts(leader).meta.roster;
        let id = roster.learner()?;
        self.join_as(id, roster).then_some(id)
    }

    /// A machine comes under this id, told who the others are; false when it is there.
    pub fn join_as(&mut self, id: u8, roster: Roster) -> bool {
        if self.has(id) {
            return false;
        }
        self.add_node(id);
        self.boot(id);
        self.form(id, roster);
        true
    }

    /// A change of the roster is under way.
    pub fn is_changing(&self) -> bool {
        self.changing.is_some()
    }

    /// Whoever asked for a change waits no longer: nobody knows what became of it.
    pub fn forget_change(&mut self) {
        self.changing = None;
    }
}
