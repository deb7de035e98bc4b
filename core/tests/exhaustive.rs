//! Every order of what can happen to three masters, within bounds: the twin of the lives by seeds.
//!
//! stateright walks all states that the real [`Election::step`] can be brought to: its image is the
//! state. The network is a set of what was said: the newest few words of each master may come, each
//! late, twice, behind a newer one or never. A disk has what was written in order; the power may go
//! before or after any write. The clocks are free: each master's leaps by itself, so no lease is judged
//! here, and a rule that needs clocks for its safety is found out.
//!
//! A walk begins with all masters started and nobody elected. Its bounds are leaps of each clock, losses
//! of power and proposed changes; a state beyond them is not entered, within them none is left out.
//! `STATES` ends a walk sooner, by breadth, so that it has everything up to some number of events.
#![cfg(target_endian = "little")] // stateright is not built for the emulated machines.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use mesita_core::digest::of_body;
use mesita_core::election::{Birth, Config, Election, Input, Outbox, Output, Role};
use mesita_core::image::{Image, Reader, Writer};
use mesita_core::mutant::Mutant;
use mesita_core::registry::body::{Body, Shape, edits};
use mesita_core::registry::meta::Roster;
use mesita_core::registry::store::{Facts, Save};
use mesita_core::time::Time;
use mesita_core::wire::gossip::{Digest, Edit, Gossip, Row, Table, Version};
use mesita_core::wire::{Generation, Head, Scratch, decode, encode};
use stateright::{Checker, Model, Property};

const MASTERS: u8 = 3;
const T_US: u32 = 500_000;
/// Less than what makes a row too old to count.
const LEAP_US: u64 = T_US as u64 * 3 / 4;
const CLUSTER: u64 = 7;

type Bytes = Arc<[u8]>;

/// What bounds a walk.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// How often the clock of each master leaps.
    leaps: u8,
    /// How often the power goes, of all together.
    losses: u8,
    /// Changes that are proposed, of all together.
    changes: u8,
    /// How many words of each master may still come.
    words: usize,
    /// A write takes a while, in which other things happen.
    slow_disks: bool,
}

/// A master, its disk, and what is on its way there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Master {
    /// Everything but the bodies; and these, by what they are stored under.
    soft: Bytes,
    bodies: [u64; 2],
    clock: u64,
    leaps: u8,
    /// The newest sector; with the body that its change applies to, or that it names.
    sector: Bytes,
    kept: u64,
    writes: Vec<Bytes>,
}

/// What was seen so far, for the promises to be held against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Seen {
    leaders: BTreeMap<u32, u8>,
    hashes: BTreeMap<(u32, u64), u64>,
    votes: BTreeMap<(u8, u32), u8>,
    /// Changes by their ticket, once proposed.
    proposed: BTreeMap<u32, (u32, u64)>,
    acknowledged: BTreeSet<u32>,
    /// The first promise that was broken.
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    masters: Vec<Master>,
    /// The newest words of each master, to all, and those to one.
    said: Vec<Vec<Bytes>>,
    sent: Vec<Vec<(u8, Bytes)>>,
    losses: u8,
    changes: u8,
    seen: Seen,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Hears {
        at: usize,
        from: usize,
        bytes: Bytes,
    },
    Takes {
        at: usize,
        from: usize,
        bytes: Bytes,
    },
    IsWritten {
        at: usize,
    },
    Leaps {
        at: usize,
    },
    /// After so many of the writes that are on their way.
    LosesPower {
        at: usize,
        written: usize,
    },
    Changes {
        at: usize,
    },
}

/// What left a master in one step.
#[derive(Default)]
struct Left {
    said: Vec<Bytes>,
    sent: Vec<(u8, Bytes)>,
    writes: Vec<Bytes>,
    answered: Vec<u32>,
    opened: bool,
}

impl Outbox for Left {
    fn emit(&mut self, output: &Output<'_>) {
        match output {
            Output::Gossip(head) => self.said.push(alone(head)),
            Output::Send { to, head } => self.sent.push((*to, bytes_of(head))),
            Output::Persist(save) => self.writes.push(bytes_of(save)),
            Output::Answer { ticket, result: Ok(()) } => self.answered.push(*ticket),
            Output::Leading(_) => self.opened = true,
            Output::Answer { .. } | Output::Lost => {}
            Output::Quarantined | Output::GivenUp { .. } => {}
        }
    }
}

fn bytes_of<T: serde::Serialize>(value: &T) -> Bytes {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 16_384]);
    }
    BUFFER.with_borrow_mut(|buffer| Arc::from(encode(value, buffer).unwrap()))
}

fn read<'b, T: serde::Deserialize<'b>>(bytes: &'b Bytes) -> T {
    postcard::from_bytes(bytes).unwrap()
}

/// A datagram without the rows that are passed on and count: each of those comes as well from the master
/// that it is of, as late. Of those who start, others alone tell what they were.
fn alone(head: &Head<'_>) -> Bytes {
    let Head::Gossip(Gossip::Digest(digest)) = head else { panic!("not a datagram") };
    let rows = digest.rows.iter().filter(|row| row.id == digest.sender || !row.counts());
    let rows: Vec<Row> = rows.collect();
    let mut memory = [0; 1_280];
    let rows = Scratch::new(&mut memory).seq::<Row>(rows).unwrap();
    bytes_of(&Head::Gossip(Gossip::Digest(Digest { rows, ..*digest })))
}

/// Bodies that were seen, by their digests: there are few, and they are large.
static BODIES: Mutex<BTreeMap<u64, Bytes>> = Mutex::new(BTreeMap::new());

/// Stores a body, which may still be the one that was called `before`.
fn store(bytes: &[u8], before: u64) -> u64 {
    if before != 0 && *stored(before) == *bytes {
        return before;
    }
    let name = of_body(bytes);
    let mut bodies = BODIES.lock().unwrap();
    let found = bodies.entry(name).or_insert_with(|| Arc::from(bytes));
    assert_eq!(**found, *bytes, "two bodies of one digest");
    name
}

fn stored(name: u64) -> Bytes {
    BODIES.lock().unwrap()[&name].clone()
}

fn shape() -> Shape {
    Shape::new(1, 1, 1)
}

/// Lends a master its memory, with what it knows.
fn with_master<R>(
    soft: &[u8],
    bodies: [u64; 2],
    config: Config,
    run: impl FnOnce(&mut Election<'_>) -> R,
) -> R {
    thread_local! {
        static MEMORY: RefCell<[Vec<u8>; 2]> = RefCell::default();
    }
    MEMORY.with_borrow_mut(|memory| {
        memory.iter_mut().for_each(|memory| {
            memory.clear();
            memory.resize(shape().bytes(), 0);
        });
        let [body, incoming] = memory;
        let mut election = Election::new(shape(), body, incoming, config);
        if !soft.is_empty() {
            let mut image = soft.to_vec();
            bodies.iter().for_each(|name| image.extend_from_slice(&stored(*name)));
            election.import(&mut Reader::new(&image)).unwrap();
        }
        run(&mut election)
    })
}

/// Three masters, and what is asked of them.
struct Walk {
    bounds: Bounds,
    mutant: Mutant,
    begin: State,
}

impl Walk {
    /// All have started, have heard each other, and are about to be without a leader for too long.
    fn new(bounds: Bounds, mutant: Mutant) -> Self {
        let keys: Vec<_> = (1..=MASTERS).map(|id| [id; 32]).collect();
        let roster = Roster::first(&keys);
        let empty = store(&vec![0; shape().bytes()], 0);
        let blank = Master {
            soft: Arc::from([]),
            bodies: [empty; 2],
            clock: 1_000_000,
            leaps: 0,
            sector: bytes_of(&(Facts::default(), Vec::<u8>::new())),
            kept: empty,
            writes: vec![],
        };
        let begin = State {
            masters: vec![blank; MASTERS.into()],
            said: vec![vec![]; MASTERS.into()],
            sent: vec![vec![]; MASTERS.into()],
            losses: 0,
            changes: 0,
            seen: Seen::default(),
        };
        let mut walk = Self { bounds, mutant, begin };
        let mut state = walk.begin.clone();
        for at in 0..MASTERS.into() {
            walk.start(&mut state, at);
            let me = number(at);
            let generation = Generation { number: 0, nonce: 0 };
            let roster = roster.clone();
            let birth = Birth { cluster: CLUSTER, generation, me, epoch: 0, t_us: T_US, roster };
            walk.step(&mut state, at, &Input::Form(birth));
        }
        walk.exchange(&mut state);
        // As long as a start takes, then until just before anybody asks.
        for part in [T_US.into(), LEAP_US] {
            for at in 0..MASTERS.into() {
                state.masters[at].clock += part;
                walk.step(&mut state, at, &Input::Tick);
            }
            walk.exchange(&mut state);
        }
        assert!(state.seen == Seen::default() || !state.seen.votes.is_empty());
        state.said.iter_mut().for_each(Vec::clear);
        state.sent.iter_mut().for_each(Vec::clear);
        walk.begin = state;
        walk
    }

    /// Everything that is on its way arrives, until nothing is.
    fn exchange(&self, state: &mut State) {
        for _ in 0..20 {
            for event in self.events(state) {
                if !matches!(
                    event,
                    Event::Leaps { .. } | Event::LosesPower { .. } | Event::Changes { .. }
                ) {
                    self.happen(state, &event);
                }
            }
        }
    }

    fn config(&self, at: usize) -> Config {
        Config { seed: at as u64, can_lead: true, mutant: self.mutant }
    }

    /// A master begins with what its disk has.
    fn start(&self, state: &mut State, at: usize) {
        let master = &mut state.masters[at];
        master.soft = Arc::from([]);
        master.writes.clear();
        let (facts, change): (Facts, Vec<u8>) = read(&master.sector);
        let body = stored(master.kept);
        let nonce = facts.incarnation + 1;
        for (number, bytes) in body.chunks(4_000).enumerate() {
            let place = u32::try_from(number * 4_000).unwrap();
            self.step(state, at, &Input::Piece { at: place, bytes });
        }
        self.step(state, at, &Input::Start { facts, edits: &change, nonce });
    }

    /// One step of one master, with all that leaves it.
    fn step(&self, state: &mut State, at: usize, input: &Input<'_>) {
        let master = &state.masters[at];
        let (now, soft, bodies) = (Time(master.clock), master.soft.clone(), master.bodies);
        let mut left = Left::default();
        with_master(&soft, bodies, self.config(at), |election| {
            let before = election.facts().accepted.version;
            let _ = election.step(now, input, &mut left);
            self.judge(state, at, election, before, input, &left);
            let (mut soft, mut bodies, before) = (vec![], vec![], bodies);
            let large = shape().bytes();
            let mut sort = |part: &[u8]| match part.len() == large {
                true => bodies.push(store(part, before[bodies.len()])),
                false => soft.extend_from_slice(part),
            };
            election.export(&mut Writer::new(&mut sort));
            let master = &mut state.masters[at];
            master.soft = Arc::from(soft);
            master.bodies = bodies.try_into().unwrap();
        });
        state.masters[at].writes.extend(left.writes);
        state.said[at].extend(left.said);
        let old = state.said[at].len().saturating_sub(self.bounds.words);
        state.said[at].drain(..old);
        for (to, bytes) in left.sent {
            state.sent[at].push((to, bytes));
            let to_it = state.sent[at].iter().filter(|(other, _)| *other == to).count();
            if to_it > self.bounds.words {
                let oldest = state.sent[at].iter().position(|(other, _)| *other == to).unwrap();
                state.sent[at].remove(oldest);
            }
        }
        if !self.bounds.slow_disks
            && let Some(sequence) = self.write(state, at)
        {
            self.step(state, at, &Input::Persisted { sequence });
        }
    }

    /// The oldest write of a master is durable; none if nothing but pieces of one is there.
    fn write(&self, state: &mut State, at: usize) -> Option<u64> {
        let master = &mut state.masters[at];
        let is_sector = |bytes: &Bytes| matches!(read(bytes), Save::Sector { .. });
        let end = master.writes.iter().position(is_sector)?;
        let writes: Vec<Bytes> = master.writes.drain(..=end).collect();
        let mut pieces = stored(master.kept).to_vec();
        for bytes in &writes {
            match read(bytes) {
                Save::Piece { at: place, bytes } => {
                    let place = place as usize;
                    pieces[place..place + bytes.len()].copy_from_slice(bytes);
                }
                Save::Sector { facts, whole, edits: change } => {
                    let (old, before): (Facts, Vec<u8>) = read(&master.sector);
                    if whole {
                        master.kept = store(&pieces, 0);
                    } else if facts.accepted != old.accepted {
                        // The change before this one is in the body from now on.
                        let mut memory = stored(master.kept).to_vec();
                        let mut body = Body::new(shape(), &mut memory);
                        if let Some(edits) = edits(&before) {
                            body.apply(&edits, old.accepted);
                        }
                        master.kept = store(&memory, 0);
                    }
                    master.sector = bytes_of(&(&facts, change.to_vec()));
                    return Some(facts.sequence);
                }
            }
        }
        None
    }

    /// Holds what a master did against the promises.
    fn judge(
        &self,
        state: &mut State,
        at: usize,
        election: &Election<'_>,
        before: Version,
        input: &Input<'_>,
        left: &Left,
    ) {
        let disks: Vec<Facts> = state.masters.iter().map(on_disk).collect();
        let State { seen, changes, .. } = state;
        let mut broken = None;
        let mut must = |holds: bool, promise: &'static str| {
            if !holds {
                broken = broken.or(Some(promise));
            }
        };
        let facts = election.facts();
        let me = number(at);
        let epoch = election.fence().epoch;
        // A promise and a vote are of the disk that has them.
        let disk = &disks[at];
        for datagram in &left.said {
            let Ok(Head::Gossip(Gossip::Digest(digest))) = decode(datagram) else { continue };
            let row = digest.rows.first().unwrap();
            if !row.counts() {
                continue;
            }
            let vote = (disk.promised, disk.voted_for) == (row.promised, row.voted_for);
            let has = disk.accepted.version >= row.accepted && disk.held.version >= row.held;
            must((vote || disk.promised > row.promised) && has, "I6: it says what its disk lacks");
            if row.voted_for > 0 {
                let first = *seen.votes.entry((me, row.promised)).or_insert(row.voted_for);
                must(first == row.voted_for, "I3: two votes in one epoch");
            }
        }
        let starts = matches!(input, Input::Piece { .. });
        must(starts || facts.promised >= disk.promised, "I3: a promise fell");
        let accepted = facts.accepted;
        if accepted.version > before {
            let first = *seen
                .hashes
                .entry((accepted.version.epoch, accepted.version.number))
                .or_insert(accepted.hash);
            must(first == accepted.hash, "I2: two values of one version");
        }
        if election.role() >= Role::Elected {
            let first = *seen.leaders.entry(epoch).or_insert(me);
            must(first == me, "I1: two leaders of one epoch");
        }
        let pair = |version: Version| (version.epoch, version.number);
        let majority = |version: (u32, u64)| {
            let has = disks.iter().filter(|disk| pair(disk.accepted.version) >= version).count();
            has * 2 > disks.len()
        };
        if left.opened {
            must(majority(pair(accepted.version)), "I9: open, and a majority lacks its opening");
            must(accepted.version.epoch == epoch, "I9: open without a write");
            // What a change wrote is in the body of whoever opens later.
            for ticket in &seen.acknowledged {
                let older = seen.proposed[ticket].0 < epoch;
                let kept = election
                    .body()
                    .slot(Table::Agents, 0)
                    .is_some_and(|slot| slot[usize::try_from(*ticket).unwrap()] == MARK);
                must(!older || kept, "I4: an acknowledged change is lost");
            }
        }
        if let Input::Propose { ticket, .. } = input
            && accepted.version > before
        {
            seen.proposed.insert(*ticket, pair(accepted.version));
            *changes += 1;
        }
        for ticket in &left.answered {
            let version = seen.proposed[ticket];
            must(majority(version), "I5: acknowledged, and a majority lacks it");
            seen.acknowledged.insert(*ticket);
        }
        seen.broken = seen.broken.or(broken);
    }

    fn events(&self, state: &State) -> Vec<Event> {
        let mut events = vec![];
        for at in 0..usize::from(MASTERS) {
            let master = &state.masters[at];
            for from in (0..usize::from(MASTERS)).filter(|from| *from != at) {
                let said = state.said[from].iter().cloned();
                events.extend(said.map(|bytes| Event::Hears { at, from, bytes }));
                let sent = state.sent[from].iter().filter(|(to, _)| *to == number(at));
                let sent = sent.map(|(_, bytes)| bytes.clone());
                events.extend(sent.map(|bytes| Event::Takes { at, from, bytes }));
            }
            if !master.writes.is_empty() {
                events.push(Event::IsWritten { at });
            }
            if master.leaps < self.bounds.leaps {
                events.push(Event::Leaps { at });
            }
            if state.losses < self.bounds.losses {
                events.push(Event::LosesPower { at, written: 0 });
                if !master.writes.is_empty() {
                    events.push(Event::LosesPower { at, written: 1 });
                }
            }
            if state.changes < self.bounds.changes {
                events.push(Event::Changes { at });
            }
        }
        events
    }

    fn happen(&self, state: &mut State, event: &Event) {
        match event {
            Event::Hears { at, bytes, .. } => {
                let Ok(Head::Gossip(Gossip::Digest(digest))) = decode(bytes) else { return };
                self.step(state, *at, &Input::Digest(digest));
            }
            Event::Takes { at, from, bytes } => {
                let Ok(Head::Gossip(Gossip::Replica(replica))) = decode(bytes) else { return };
                self.step(state, *at, &Input::Replica { from: number(*from), replica });
            }
            Event::IsWritten { at } => {
                if let Some(sequence) = self.write(state, *at) {
                    self.step(state, *at, &Input::Persisted { sequence });
                }
            }
            Event::Leaps { at } => {
                let master = &mut state.masters[*at];
                (master.leaps, master.clock) = (master.leaps + 1, master.clock + LEAP_US);
                self.step(state, *at, &Input::Tick);
            }
            Event::LosesPower { at, written } => {
                state.losses += 1;
                if *written > 0 {
                    self.write(state, *at);
                }
                self.start(state, *at);
            }
            Event::Changes { at } => {
                let ticket = u32::from(state.changes);
                let mut memory = [0; 64];
                let edit = Edit {
                    table: Table::Agents,
                    slot: 0,
                    at: u16::try_from(ticket).unwrap(),
                    bytes: &[MARK],
                };
                let edits = Scratch::new(&mut memory).seq::<Edit<'static>>([edit]).unwrap();
                self.step(state, *at, &Input::Propose { ticket, edits });
            }
        }
    }
}

const MARK: u8 = 0x5a;
const PROMISES: &str = "I1 to I6 and I9";
const OPEN: &str = "somebody was elected";
const COMMITTED: &str = "a change was acknowledged";

fn number(at: usize) -> u8 {
    u8::try_from(at + 1).unwrap()
}

fn on_disk(master: &Master) -> Facts {
    read::<(Facts, Vec<u8>)>(&master.sector).0
}

impl Model for Walk {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        vec![self.begin.clone()]
    }

    fn actions(&self, state: &State, events: &mut Vec<Event>) {
        if state.seen.broken.is_none() {
            events.extend(self.events(state));
        }
    }

    fn next_state(&self, before: &State, event: Event) -> Option<State> {
        let mut state = before.clone();
        self.happen(&mut state, &event);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(PROMISES, |_, state: &State| state.seen.broken.is_none()),
            Property::sometimes(OPEN, |_, state: &State| !state.seen.leaders.is_empty()),
            Property::sometimes(COMMITTED, |_, state: &State| !state.seen.acknowledged.is_empty()),
        ]
    }
}

/// How a walk ended.
#[derive(Debug)]
struct Walked {
    states: usize,
    events: usize,
    /// The promise that was broken, and after how many events.
    broken: Option<String>,
    /// What was seen on the way: without it the walk says nothing.
    seen: Vec<&'static str>,
}

/// Walks until so many states were come to, by breadth.
fn walk(bounds: Bounds, mutant: Mutant, states: usize) -> Walked {
    let checker = Walk::new(bounds, mutant).checker();
    let checker = checker.threads(2).target_state_count(states).spawn_bfs().join();
    let found = checker.discoveries();
    let broken = found.get(PROMISES).map(|path| {
        let after = path.clone().into_actions().len();
        format!("{} after {after} events", path.last_state().seen.broken.unwrap_or_default())
    });
    let seen = [OPEN, COMMITTED].into_iter().filter(|name| found.contains_key(name)).collect();
    let walked =
        Walked { states: checker.unique_state_count(), events: checker.max_depth(), broken, seen };
    let Walked { states, events, broken, seen } = &walked;
    println!("walk: {states} states of up to {events} events, {bounds:?}: {seen:?}, {broken:?}");
    walked
}

fn states(or: usize) -> usize {
    std::env::var("STATES").map_or(or, |text| text.parse().expect("STATES is a number"))
}

/// Disks that are done at once, so that the walk gets further; and disks that take their time.
const WALKS: [Bounds; 3] = [
    Bounds { leaps: 1, losses: 0, changes: 1, words: 1, slow_disks: false },
    Bounds { leaps: 1, losses: 1, changes: 1, words: 2, slow_disks: false },
    Bounds { leaps: 1, losses: 1, changes: 0, words: 1, slow_disks: true },
];

#[test]
fn every_order_of_events_keeps_the_promises() {
    for bounds in WALKS {
        let states = states(10_000);
        let walked = walk(bounds, Mutant::None, states);
        assert_eq!(walked.broken, None);
        // With slow disks an election takes more events than a short walk has.
        let far = !bounds.slow_disks || states >= 150_000;
        assert!(walked.seen.contains(&OPEN) || !far, "nobody was elected");
    }
}

/// Planted bugs that a short walk finds, each with the promise that it breaks.
#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_break_the_promise_that_they_are_about() {
    for (mutant, promise) in [
        (Mutant::SmallQuorum, "I9: open, and a majority"),
        (Mutant::OpensByOldWrites, "I9: open without"),
        (Mutant::AnswersEarly, "I5: "),
    ] {
        let broken = walk(WALKS[0], mutant, 100_000).broken.expect("it is found");
        assert!(broken.starts_with(promise), "{broken}");
    }
}
