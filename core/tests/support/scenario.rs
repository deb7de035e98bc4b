//! What the core does, told in digests that every machine must agree on.
//!
//! Two read this file: `core/tests/scenario.rs` on a host, whatever its byte order, and `ci/bare`
//! on a microcontroller. So there is no `std` here and nothing that could panic: what must hold is
//! an `invariant!`, everything else is digested. Memory is arrays on the stack, gone when their
//! part ends; the deepest part has to fit the stack of `ci/bare/memory.x`.
//!
//! To add a part: a function here, its call in [`run`], then `BLESS=1 cargo test -p mesita-core
//! --test scenario`.

#![allow(unreachable_pub)]

use core::fmt::{self, Display, Write as _};

use mesita_core::digest::{self, Digest};
use mesita_core::election::{self, Election};
use mesita_core::image::{Image, Reader, Writer};
use mesita_core::invariant;
use mesita_core::mutant::Mutant;
use mesita_core::names::{Bucket, Cell, Entry, Name, Names};
use mesita_core::rand::Rng;
use mesita_core::record::Zero;
use mesita_core::registry::body::{Named, Shape, chained};
use mesita_core::registry::meta::{self, Roster};
use mesita_core::registry::store::{BLOCK, Disk, DiskError, Facts, Save, Store};
use mesita_core::resources::{Amount, text};
use mesita_core::slab::{List, Node, Slab};
use mesita_core::table::{Id, Slot, Table};
use mesita_core::time::Time;
use mesita_core::wire::agent::{AgentCall, Register};
use mesita_core::wire::call::{Accept, Call, Operation, Verb};
use mesita_core::wire::event::{Event, Offer};
use mesita_core::wire::frame::{self, BodyRow, Limits, Prefix};
use mesita_core::wire::gossip::{self, Edit, Replica, Row, Version};
use mesita_core::wire::hello::{Hello, Role};
use mesita_core::wire::resource::{
    Attribute, AttributeValue, Range, Reservation, ReservationKind, Resource, Traits, Value,
};
use mesita_core::wire::seq::Item;
use mesita_core::wire::svc::Svc;
use mesita_core::wire::task::{
    Detail, Executor, Exit, Kind, Launch, Limit, Reason, Restart, Source, Status, TaskState,
};
use mesita_core::wire::{
    AgentId, Body, BodyRef, Fence, FrameworkId, Generation, Head, OfferId, Scratch, Seq, Session,
    Uuid, decode, encode,
};

/// Runs every part and tells `out` the digest of each by name, always in the same order.
pub fn run(out: &mut dyn FnMut(&str, u64)) {
    out("rand", draws());
    table(out);
    slab(out);
    names(out);
    out("resources", resources());
    out("ids", ids());
    wire(out);
    frame(out);
    out("election.alone", alone());
    elected(out);
    out("registry", saved());
}

/// Decides every choice below; any other number would do as well.
const SEED: u64 = 0x6d65_7369_7461;

#[inline(never)]
fn draws() -> u64 {
    let mut rng = Rng::new(SEED);
    let mut seen = Digest::new();
    for bound in (0..96).chain([u32::MAX]) {
        seen.value(&(rng.draw(), rng.below(bound)));
    }
    seen.finish()
}

/// Rows come and go under 20 names in a table of 16, so it fills up and reuses its slots; an id
/// whose row has gone is tried again, and must name nothing.
#[inline(never)]
fn table(out: &mut dyn FnMut(&str, u64)) {
    let (mut memory, mut other) = ([Slot::<Uuid>::ZERO; 16], [Slot::<Uuid>::ZERO; 16]);
    let mut table = Table::new(&mut memory);
    let mut ids = [Id::NONE; 20];
    let mut rng = Rng::new(SEED);
    let mut seen = Digest::new();
    for sequence in 0..500 {
        let agent = AgentId { epoch: 1, number: rng.below(20) };
        let Some(id) = ids.get_mut(agent.number as usize) else { continue };
        match table.remove(*id) {
            Some(gone) => seen.value(&(gone, table.get(*id))),
            None => {
                let made = table.insert(Uuid { agent, sequence });
                *id = made.unwrap_or(*id);
                seen.value(&(made.is_ok(), *id));
            }
        }
    }
    seen.value(&table.find(|row| row.agent.number > 9));
    out("table", seen.finish());
    copied("table.image", &table, &mut Table::new(&mut other), out);
}

#[inline(never)]
fn slab(out: &mut dyn FnMut(&str, u64)) {
    let (mut memory, mut other) = ([Node::<BodyRef>::ZERO; 24], [Node::<BodyRef>::ZERO; 24]);
    let mut slab = Slab::new(&mut memory);
    let mut lists = [List::EMPTY; 4];
    let mut rng = Rng::new(SEED);
    let mut seen = Digest::new();
    for slot in 0..500 {
        let Some(list) = lists.get_mut(rng.below(4) as usize) else { continue };
        match rng.below(8) {
            0 => slab.clear(list),
            1 => slab.retain(list, |body| body.hash % 3 != 0),
            2 => slab.for_each(*list, |body| body.len ^= slot),
            _ => {
                let body = BodyRef { slot, len: rng.below(1 << 20), hash: rng.draw() };
                seen.value(&slab.push(list, body).is_ok());
            }
        }
        seen.value(&(slab.len(), slab.iter(*list).last()));
    }
    for list in lists {
        slab.iter(list).for_each(|body| seen.value(&body));
    }
    out("slab", seen.finish());
    copied("slab.image", &slab, &mut Slab::new(&mut other), out);
}

/// A text of every length class: within a cell, of a cell, of several, and as long as allowed.
const TEXT: &str = "eng/web/canary-7 Grüße aus der Küche, 東京都千代田区, \u{1f980}\u{1f980}; \
    a name may be anything that its user likes and comes back byte for byte, spaces and all; \
    it only ends where the limit on names says so, which is at two hundred and fifty-five bytes";

#[inline(never)]
fn names(out: &mut dyn FnMut(&str, u64)) {
    let mut memory = ([Entry::ZERO; 12], [Cell::ZERO; 40], [Bucket::ZERO; 8]);
    let mut other = ([Entry::ZERO; 12], [Cell::ZERO; 40], [Bucket::ZERO; 8]);
    let mut names = Names::new(&mut memory.0, &mut memory.1, &mut memory.2, SEED);
    let mut held = [Name::EMPTY; 10];
    let mut rng = Rng::new(SEED);
    let mut seen = Digest::new();
    for _ in 0..500 {
        let Some(name) = held.get_mut(rng.below(10) as usize) else { continue };
        names.release_one(*name);
        let text = piece(&mut rng);
        let found = names.find(text);
        let interned = names.intern(text);
        *name = interned.unwrap_or(Name::EMPTY);
        seen.value(&(found, interned.is_ok(), *name, names.len(), names.live_cells()));
        seen.value(names.text(*name).as_str());
    }
    for pair in held.windows(2) {
        if let [left, right] = *pair {
            seen.value(&(names.cmp(left, right) as i8));
        }
    }
    out("names", seen.finish());
    let mut copy = Names::new(&mut other.0, &mut other.1, &mut other.2, SEED);
    copied("names.image", &names, &mut copy, out);
}

/// A piece of [`TEXT`], mostly short; empty where a cut would fall within a character.
fn piece(rng: &mut Rng) -> &'static str {
    let most = [8, 28, 64].get(rng.below(4) as usize).copied().unwrap_or(255);
    let (begin, len) = (rng.below(6) as usize, rng.below(most) as usize);
    TEXT.get(begin..begin.saturating_add(len)).unwrap_or_default()
}

const RESOURCES: &str = "cpus:4;mem(web/db):512.25; disk : 1e5 ;;gpus:0.0005;cpus:-1;cpus;mem:[;\
    ports:[31000-32000, 33000-33100];ports:[5-1];racks:{a,b};racks:{a,a};rack:a-7;mem():1;\
    disk:1e300;x:17592186044.416;(web):1;y:.5e1;z:18446744073709551616";

/// Amounts, ranges and sets read from text, and every refusal as its sentence.
#[inline(never)]
fn resources() -> u64 {
    let mut seen = Digest::new();
    for entry in text::entries(RESOURCES).chain(text::resources(RESOURCES)) {
        let Ok(text::Entry { name, role, value }) = entry else {
            entry.err().iter().for_each(|bad| shown(&mut seen, bad));
            continue;
        };
        seen.value(&(name, role));
        match value {
            text::TextValue::Scalar(amount) => {
                seen.value(&(amount, amount.checked_sub(Amount::from_units(4))));
                shown(&mut seen, &amount);
            }
            text::TextValue::Ranges(inside) => {
                text::ranges(inside).for_each(|range| seen.value(&range));
            }
            text::TextValue::Set(inside) => text::items(inside).for_each(|item| seen.value(item)),
            text::TextValue::Text(text) => seen.value(text),
        }
    }
    seen.finish()
}

/// Ids as the clients of Mesos' API see them, and back.
#[inline(never)]
fn ids() -> u64 {
    let mut seen = Digest::new();
    shown(&mut seen, &FRAMEWORK.shown(CLUSTER));
    shown(&mut seen, &AGENT.shown(CLUSTER));
    shown(&mut seen, &OFFER.shown(CLUSTER));
    seen.bytes(&Uuid { agent: AGENT, sequence: SEED }.to_bytes());
    for text in ["3f9a41c200000001-1-S3", "3f9a41c200000001-1-S03", "3f9a41c200000001-1-0007"] {
        seen.value(&(AgentId::parse(text, CLUSTER), FrameworkId::parse(text, CLUSTER)));
    }
    seen.finish()
}

const CLUSTER: u64 = 0x3f9a_41c2_0000_0001;
const FRAMEWORK: FrameworkId = FrameworkId { epoch: 1, number: 7 };
const AGENT: AgentId = AgentId { epoch: 1, number: 3 };
const OFFER: OfferId = OfferId { epoch: 1, id: Id { index: 5, generation: 1 } };
const SESSION: Session = Session { incarnation: 2, counter: 9 };
const FENCE: Fence = Fence { generation: Generation { number: 1, nonce: SEED }, epoch: 4 };

/// A message of most shapes: its bytes, then what its decoder says when it is cut short anywhere,
/// and when any of its bytes is another.
#[inline(never)]
fn wire(out: &mut dyn FnMut(&str, u64)) {
    let mut faults = Digest::new();
    let mut see = |name: &str, head: &Head<'_>| {
        let mut bytes = [0; 640];
        let Ok(len) = encode(head, &mut bytes).map(<[u8]>::len) else {
            invariant!(false, "a head that does not fit 640 bytes");
            return;
        };
        let Some(bytes) = bytes.get_mut(..len) else { return };
        out(name, digest::of_body(bytes));
        invariant!(decode(bytes) == Ok(*head), "a head is not what it was encoded from");
        for cut in 0..len {
            told(&mut faults, bytes.get(..cut).unwrap_or_default());
        }
        for at in 0..len {
            for flip in [0x01, 0x80, 0xff] {
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= flip);
                told(&mut faults, bytes);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= flip);
            }
        }
    };
    see("wire.hello", &Head::Hello(Hello::of_this_release(Role::Agent, "mesita 0.1.0")));
    see("wire.data", &Head::Svc(Svc::Data { stream: 1, from_opener: false, bytes: b"hello\n" }));
    heads(&mut see);
    out("wire.faults", faults.finish());
}

/// Digests what the decoder says to `bytes`: a refusal's sentence, or the head encoded again.
#[inline(never)]
fn told(seen: &mut Digest, bytes: &[u8]) {
    match decode::<Head<'_>>(bytes) {
        Ok(head) => {
            let mut again = [0; 640];
            seen.bytes(encode(&head, &mut again).unwrap_or_default());
        }
        Err(bad) => shown(seen, &bad),
    }
}

#[inline(never)]
fn heads(see: &mut dyn FnMut(&str, &Head<'_>)) {
    let mut memory = [0; 1024];
    let mut scratch = Scratch::new(&mut memory);
    let ranges = list::<Range>(&mut scratch, [Range { begin: 31_000, end: 32_000 }]);
    let reservations = [Reservation {
        role: "eng/web",
        kind: ReservationKind::Dynamic,
        principal: "ops",
        labels: "a=b",
    }];
    let reservations = list::<Reservation<'_>>(&mut scratch, reservations);
    let traits = Traits { reservations, shared: true, ..Traits::PLAIN };
    let resources = [
        Resource::scalar("cpus", Amount::from_units(4)),
        Resource { name: "ports", value: Value::Ranges(ranges), traits: Traits::PLAIN },
        Resource { name: "disk", value: Value::Scalar(Amount::from_milli(512_250)), traits },
    ];
    let resources = list::<Resource<'_>>(&mut scratch, resources);
    let detail = Detail {
        reason: Some(Reason::ContainerLimitationMemory),
        message: "Memory limit exceeded",
        exit: Exit::Signal(9),
        healthy: Some(false),
        ..Detail::default()
    };
    let status = Status {
        task: "web.1",
        state: TaskState::Failed,
        source: Source::Agent,
        agent: AGENT,
        uuid: Some(1_000),
        wall_us: 1_795_000_000_000_000,
        detail: Some(detail),
    };
    see("wire.update", &Head::Event(Event::Update { status }));
    let offer = Offer { id: OFFER, agent: AGENT, role: "eng/web", resources, detail: None };
    let offers = list::<Offer<'_>>(&mut scratch, [offer]);
    see("wire.offers", &Head::Event(Event::Offers { offers }));
    see("wire.accept", &accept(&mut scratch, resources));
    see("wire.register", &register(&mut scratch, resources));
}

#[inline(never)]
fn accept<'s>(scratch: &mut Scratch<'s>, resources: Seq<'s, Resource<'s>>) -> Head<'s> {
    let limits = [Limit { name: "cpus", amount: None }];
    let executor = Executor {
        id: "default",
        resources: Seq::EMPTY,
        user: "",
        grace_us: Some(3_000_000),
        body: Body::at(2),
    };
    let task = Launch {
        task: "web.1",
        agent: AGENT,
        kind: Kind::Function { entry: "blink", args: &[1, 2] },
        resources,
        limits: list::<Limit<'_>>(scratch, limits),
        executor: Some(executor),
        user: "nobody",
        grace_us: None,
        completion_us: Some(60_000_000),
        restart: Restart::default(),
        public: Body::at(0),
        private: Body::at(1),
    };
    let tasks = list::<Launch<'_>>(scratch, [task]);
    let operations = list::<Operation<'_>>(scratch, [Operation::Launch { tasks }]);
    let offers = list::<OfferId>(scratch, [OFFER]);
    let verb = Verb::Accept(Accept { offers, operations, refuse_us: Some(5_000_000) });
    Head::Call(Call { framework: FRAMEWORK, ticket: 300, verb })
}

#[inline(never)]
fn register<'s>(scratch: &mut Scratch<'s>, resources: Seq<'s, Resource<'s>>) -> Head<'s> {
    let attributes = [
        Attribute { name: "rack", value: AttributeValue::Text("a") },
        Attribute { name: "height", value: AttributeValue::Scalar(Amount::from_milli(1_500)) },
    ];
    Head::AgentCall(AgentCall::Register(Register {
        session: SESSION,
        agent: AGENT,
        seen: FENCE,
        cluster: CLUSTER,
        key: [7; 32],
        hostname: "pi2",
        region: "eu",
        zone: "a",
        address: "10.0.0.2:5051",
        attributes: list::<Attribute<'_>>(scratch, attributes),
        resources,
        tasks_max: 64,
        task_kinds: Kind::Command.bit(),
        reports: 1,
    }))
}

/// Seals a frame, opens it, and flips each of its bits, which must be refused.
#[inline(never)]
fn frame(out: &mut dyn FnMut(&str, u64)) {
    let limits = Limits { frame_max: 1 << 20, head_max: 1 << 10 };
    let rows = [BodyRow { len: 3, hash: digest::of_body(b"abc") }, BodyRow { len: 0, hash: 1 }];
    let mut memory = [0; 96];
    let sealed = frame::seal(
        TEXT.as_bytes().get(..40).unwrap_or_default(),
        rows.iter().copied(),
        &mut memory,
    );
    invariant!(sealed.is_ok(), "a frame that does not fit 96 bytes");
    let len = sealed.map_or(0, <[u8]>::len);
    let Some(bytes) = memory.get_mut(..len) else { return };
    out("frame", digest::of_body(bytes));
    let mut seen = Digest::new();
    opened(&mut seen, bytes, limits);
    for at in 0..len {
        for bit in 0..8 {
            bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
            opened(&mut seen, bytes, limits);
            bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
        }
    }
    out("frame.opened", seen.finish());
}

#[inline(never)]
fn opened(seen: &mut Digest, bytes: &[u8], limits: Limits) {
    let Some((first, rest)) = bytes.split_first_chunk() else { return };
    let prefix = Prefix::parse(first, limits);
    match prefix.and_then(|prefix| prefix.open(rest.get(..prefix.rest()).unwrap_or_default())) {
        Ok(frame) => {
            seen.value(frame.head);
            frame.bodies().for_each(|body| seen.value(&(body.len, body.hash)));
        }
        Err(bad) => shown(seen, &bad),
    }
}

/// What a master's election says, each output into the digest.
struct Heard<'d> {
    seen: &'d mut Digest,
    sequence: u64,
}

impl election::Outbox for Heard<'_> {
    fn emit(&mut self, output: &election::Output<'_>) {
        self.seen.value(output);
        if let election::Output::Persist(Save::Sector { facts, .. }) = output {
            self.sequence = facts.sequence;
        }
    }
}

/// One step, and the news that what it saved is durable.
fn stepped(front: &mut Election<'_>, now: u64, input: &election::Input<'_>, seen: &mut Digest) {
    let mut heard = Heard { seen, sequence: 0 };
    let done = front.step(Time(now), input, &mut heard);
    heard.seen.value(&done.is_ok());
    for _ in 0..4 {
        let sequence = core::mem::take(&mut heard.sequence);
        if sequence > 0 {
            let input = election::Input::Persisted { sequence };
            let done = front.step(Time(now), &input, &mut heard);
            invariant!(done.is_ok(), "a write that was not asked for");
        }
    }
    heard.seen.value(&(front.role(), front.next_deadline(), front.lease_until(Time(now))));
}

const SHAPE: Shape = Shape::new(2, 1, 1);
const ELECTION: election::Config =
    election::Config { seed: SEED, can_lead: true, mutant: Mutant::None };

fn birth(keys: &[[u8; 32]]) -> election::Input<'static> {
    let generation = Generation { number: 1, nonce: 7 };
    let roster = Roster::first(keys);
    let t_us = 500_000;
    election::Input::Form(election::Birth {
        cluster: SEED,
        generation,
        me: 1,
        epoch: 0,
        t_us,
        roster,
    })
}

/// A single master opens and commits.
#[inline(never)]
fn alone() -> u64 {
    let (mut body, mut incoming) = ([0; SHAPE.bytes()], [0; SHAPE.bytes()]);
    let mut front = Election::new(SHAPE, &mut body, &mut incoming, ELECTION);
    let mut seen = Digest::new();
    stepped(&mut front, 1_000, &birth(&[[1; 32]]), &mut seen);
    for ticket in 0..3u32 {
        let (mut memory, value) = ([0; 128], ticket.to_le_bytes());
        let edit = Edit { table: gossip::Table::Agents, slot: ticket % 2, at: 4, bytes: &value };
        let edits = list::<Edit<'static>>(&mut Scratch::new(&mut memory), [edit]);
        stepped(&mut front, 2_000, &election::Input::Propose { ticket, edits }, &mut seen);
    }
    invariant!(front.commit().number == 4, "a single master does not commit");
    seen.value(&front.body().bytes());
    seen.finish()
}

/// One of three, between two whose rows and data are made up here, sound and not.
#[inline(never)]
fn elected(out: &mut dyn FnMut(&str, u64)) {
    let (mut body, mut incoming) = ([0; SHAPE.bytes()], [0; SHAPE.bytes()]);
    let mut front = Election::new(SHAPE, &mut body, &mut incoming, ELECTION);
    let mut seen = Digest::new();
    stepped(&mut front, 1_000, &birth(&[[1; 32], [2; 32], [3; 32]]), &mut seen);
    let mut rng = Rng::new(SEED);
    for beat in 1..80u32 {
        let now = 1_000u64.saturating_add(u64::from(beat).saturating_mul(50_000));
        heard_at(&mut front, now, beat, &mut rng, &mut seen);
    }
    out("election", seen.finish());
    let mut bytes = [0; 18_432];
    let (len, digest) = (written(&front, &mut bytes), digest::of_image(&front));
    // There is no room for the bodies of both.
    body = [0; SHAPE.bytes()];
    incoming = [0; SHAPE.bytes()];
    let mut other = Election::new(SHAPE, &mut body, &mut incoming, ELECTION);
    read_back("election.image", digest, &mut other, bytes.get(..len).unwrap_or_default(), out);
}

/// What the other two say at a beat: they grant and vote for whoever asks, hold what was written,
/// and now and then one of them says anything at all.
#[inline(never)]
fn heard_at(front: &mut Election<'_>, now: u64, beat: u32, rng: &mut Rng, seen: &mut Digest) {
    let facts = front.facts();
    let (promised, accepted, cluster, generation) =
        (facts.promised, facts.accepted, facts.cluster, facts.generation);
    let wild = rng.below(7) == 0;
    let row = Row {
        id: if beat.is_multiple_of(2) { 2 } else { 3 },
        incarnation: 1,
        sequence: beat,
        promised: if wild { rng.below(9) } else { promised },
        voted_for: 1,
        accepted: accepted.version,
        hash: accepted.hash,
        held: accepted.version,
        grant_epoch: promised.saturating_add(1),
        grant_to: 1,
        leads: if wild { rng.below(9) } else { 0 },
        echo_epoch: promised,
        echo_stamp: now.saturating_sub(1_000),
        heard: u64::MAX,
        flags: Row::FORMED | Row::DISK_OK | Row::CAN_LEAD,
        ..Row::default()
    };
    let own = Row { id: 1, incarnation: 1, ..Row::default() };
    let mut memory = [0; 512];
    let rows = list::<Row>(&mut Scratch::new(&mut memory), [row, own]);
    let sender = row.id;
    let digest = gossip::Digest { cluster, generation, roster: 1, sender, amnesiac: 0, rows };
    stepped(front, now, &election::Input::Digest(digest), seen);
    stepped(front, now, &election::Input::Tick, seen);
    let version = Version { epoch: promised.saturating_add(u32::from(wild)), number: 9 };
    let bytes = [7; 64];
    let piece = |at: usize| Replica::Piece {
        version,
        hash: 3,
        total: u32::try_from(SHAPE.bytes()).unwrap_or(0),
        at: u32::try_from(at).unwrap_or(0),
        bytes: bytes.get(..bytes.len().min(SHAPE.bytes().saturating_sub(at))).unwrap_or_default(),
    };
    if wild {
        for at in (0..SHAPE.bytes()).step_by(bytes.len()) {
            stepped(front, now, &election::Input::Replica { from: 2, replica: piece(at) }, seen);
        }
    }
    let pull = Replica::Pull { version, hash: 3, at: 64 };
    stepped(front, now, &election::Input::Replica { from: 2, replica: pull }, seen);
    let change = meta::Change::Add { key: [u8::try_from(beat).unwrap_or(0); 32] };
    let asked = election::Input::Change { ticket: beat, change };
    stepped(front, now, &asked, seen);
}

/// A disk that takes everything into a digest and gives back nothing.
struct Sponge(Digest);

impl Disk for Sponge {
    fn read(&mut self, _: u32, into: &mut [u8; BLOCK]) -> Result<(), DiskError> {
        into.fill(0);
        Ok(())
    }

    fn write(&mut self, block: u32, from: &[u8; BLOCK]) -> Result<(), DiskError> {
        self.0.value(&block);
        self.0.bytes(from);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        self.0.value(&0u8);
        Ok(())
    }
}

/// The blocks that votes, changes and whole bodies become.
#[inline(never)]
fn saved() -> u64 {
    let (mut body, mut idle) = ([0; SHAPE.bytes()], [0; SHAPE.bytes()]);
    let mut store = Store::new(SHAPE, 2, &mut body, &mut idle);
    let mut disk = Sponge(Digest::new());
    let found = store.recover(&mut disk);
    invariant!(found.is_ok() && !store.facts().formed, "an empty disk is none");
    let mut facts = Facts { formed: true, me: 1, ..Facts::default() };
    for number in 1..9u64 {
        let value = number.to_le_bytes();
        let (mut memory, mut encoded) = ([0; 64], [0; 64]);
        let edit = Edit { table: gossip::Table::Frameworks, slot: 0, at: 8, bytes: &value };
        let edits = list::<Edit<'static>>(&mut Scratch::new(&mut memory), [edit]);
        let edits = encode(&edits, &mut encoded).unwrap_or_default();
        let version = Version { epoch: 1, number };
        facts.base = facts.accepted;
        facts.accepted = Named { version, hash: chained(facts.base, version, edits) };
        facts.held = facts.accepted;
        facts.sequence = number;
        let whole = number == 6;
        let edits = if whole { &[][..] } else { edits };
        facts.base = if whole { facts.accepted } else { facts.base };
        let save = Save::Sector { facts: facts.clone(), whole, edits };
        let saved = store.save(&mut disk, &save);
        invariant!(saved == Ok(Some(number)), "a sponge that refuses");
    }
    disk.0.finish()
}

/// Tells the digest of `of`, then of what `into` is after it read what `of` wrote.
fn copied(name: &str, of: &dyn Image, into: &mut dyn Image, out: &mut dyn FnMut(&str, u64)) {
    let mut bytes = [0; 2560];
    let len = written(of, &mut bytes);
    read_back(name, digest::of_image(of), into, bytes.get(..len).unwrap_or_default(), out);
}

/// Writes an image; how long it is.
#[inline(never)]
fn written(of: &dyn Image, bytes: &mut [u8]) -> usize {
    let mut len = 0usize;
    let mut sink = |piece: &[u8]| {
        let end = len.saturating_add(piece.len());
        let place = bytes.get_mut(len..end);
        invariant!(place.is_some(), "an image larger than its memory");
        place.into_iter().flatten().zip(piece).for_each(|(to, from)| *to = *from);
        len = end;
    };
    of.export(&mut Writer::new(&mut sink));
    len
}

/// Reads an image; what it is then has to have the digest of what was written.
#[inline(never)]
fn read_back(
    name: &str,
    of: u64,
    into: &mut dyn Image,
    bytes: &[u8],
    out: &mut dyn FnMut(&str, u64),
) {
    let read = into.import(&mut Reader::new(bytes));
    invariant!(read.is_ok(), "an image is not read back");
    invariant!(of == digest::of_image(into), "a copy differs");
    out(name, of);
}

/// A list that has room, by construction of its caller.
fn list<'s, T: Item>(
    scratch: &mut Scratch<'s>,
    items: impl IntoIterator<Item = T::For<'s>>,
) -> Seq<'s, T::For<'s>> {
    let list = scratch.seq::<T>(items);
    invariant!(list.is_ok(), "a scratch without room");
    list.unwrap_or_default()
}

/// Digests what a person would read.
fn shown(seen: &mut Digest, what: &dyn Display) {
    struct Text<'d>(&'d mut Digest);
    impl fmt::Write for Text<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.bytes(text.as_bytes());
            Ok(())
        }
    }
    let written = write!(Text(seen), "{what}");
    invariant!(written.is_ok(), "text that cannot be written");
}
