//! The IO side of the election: what masters say to each other, what must not be forgotten, and
//! what the master's own core is told of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use event_listener::Event;
use mesita_core::Refusal;
use mesita_core::election::{Birth, Input, Output};
use mesita_core::limits::MASTERS_TEXT_MAX;
use mesita_core::master;
use mesita_core::registry::body::Shape;
use mesita_core::registry::meta::{Member, bit};
use mesita_core::registry::rows::{Admission, Row};
use mesita_core::registry::store::{Facts, Save};
use mesita_core::time::Time;
use mesita_core::wire::gossip::{Bootstrap, Digest, Envelope, Gossip, Table};
use mesita_core::wire::{AgentId, BodyRef, Fence, Head, decode};
use smol::Async;

use super::begin::Begun;
use super::bootstrap::Identity;
use super::cells::{self, Cells, Name, Stored};
use super::join::shown;
use super::kept::{About, Rows};
use super::origin::Origin;
use super::parts::{Narrow, Wholes, parts};
use super::peers::Peers;
use super::redo;
use super::roster::{self, Changes, REMOVED};
use super::sealed::{DATAGRAM_MAX, Dropped, Keys, SENDER_AT, STRANGER};
use super::standing::{Leader, Standing};
use crate::disk_thread::{Job, ToDisk};
use crate::io_thread::{Node, Tasks};
use crate::master::MasterNode;
use crate::port::Port;
use crate::{alarm, clock, random, times};

/// Bytes of a body that one input tells.
const PIECE: usize = 16 * 1024;
/// Bytes that wait for the core before what comes in datagrams is dropped: it comes again.
const BACKLOG_MAX: usize = 256 * 1024;
/// How long a change waits for one of the election itself, in µs.
const BUSY_US: u64 = 10_000;
/// How often somebody who was removed is told so, in µs.
const TURNED_US: u64 = 5_000_000;
/// How often a leader says what its host is called, in µs.
const NAME_US: u64 = 1_000_000;
/// How often people are told of a master whose key is another one, in µs.
const TOLD_US: u64 = 60_000_000;
/// How often names of masters are looked up, in µs.
const RESOLVE_US: u64 = 10_000_000;

/// Why a master of a set does not go on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// It led, and does no more: nothing of its reign may survive into another one.
    Lost,
    /// Its disk has forgotten something, or there are two of it.
    Quarantined,
    /// An operator has removed it, and those who are left agree.
    Removed,
    /// An operator has given its set up, and another history goes on.
    GivenUp,
}

/// The IO side of the election.
pub(crate) struct SetNode {
    pub(super) port: Port,
    pub(super) tasks: Tasks,
    to_disk: Rc<ToDisk>,
    pub(super) standing: Rc<Standing>,
    pub(super) master: Rc<MasterNode>,
    /// None when there is nobody else.
    socket: Option<Async<UdpSocket>>,
    pub(super) keys: Keys,
    key: [u8; 32],
    pub(super) identity: Identity,
    meta: PathBuf,
    /// What it says is durable, and so is that it belongs to the set.
    formed: Cell<bool>,
    /// Another history of its cluster goes on.
    given_up: Cell<bool>,
    /// `host:port` for others.
    pub(super) address: String,
    nonce: u32,
    counter: Cell<u64>,
    narrow: RefCell<Narrow>,
    wholes: RefCell<Wholes>,
    /// When others were told its host's name last.
    said_name: Cell<Option<Time>>,
    /// The newest that was handed to the disk.
    pub(super) facts: RefCell<Facts>,
    pub(super) peers: RefCell<Peers>,
    /// Where the masters of the list are.
    places: RefCell<Vec<SocketAddr>>,
    counts: RefCell<BTreeMap<&'static str, u64>>,
    shape: Shape,
    rows: RefCell<Rows>,
    /// Cells of the store as they were read, and where its entries are since then.
    read: RefCell<BTreeMap<u32, Vec<u8>>>,
    /// Cells of a change that a leader had begun.
    begun: RefCell<BTreeMap<u32, Vec<u8>>>,
    cells: RefCell<Cells>,
    ticket: Cell<u32>,
    over: Cell<Option<Over>>,
    told: Event,
    /// It was elected, and its core is told or was told to lead.
    pub(super) leading: Cell<bool>,
    pub(super) changes: Changes,
    /// Keys of masters that left while this process ran: they may still be listened to.
    former: RefCell<BTreeMap<u8, [u8; 32]>>,
    /// Where they were heard last, as its disk has it.
    known: RefCell<Vec<String>>,
    /// When somebody who is not one of them any more was told so.
    turned: Cell<Time>,
    /// When people were told of another key.
    told_of_key: Cell<Option<Time>>,
    pub(super) me: Weak<Self>,
}

impl SetNode {
    /// The IO side of the election in the seat of `port`, which is told what the disk has.
    pub(crate) fn start(
        begun: Begun,
        port: Port,
        tasks: &Tasks,
        to_disk: Rc<ToDisk>,
        standing: Rc<Standing>,
        master: Rc<MasterNode>,
    ) -> std::io::Result<Rc<Self>> {
        let Begun { meta, socket, keys, key, identity, shape, address, facts, edits, body } = begun;
        let nonce = u32::try_from(random::below(u64::from(u32::MAX))).unwrap_or(0);
        let socket = socket.map(Async::new).transpose()?;
        let known = identity.known.clone();
        let node = Rc::new_cyclic(|me| Self {
            port,
            tasks: tasks.clone(),
            to_disk,
            standing,
            master,
            socket,
            keys,
            key,
            formed: Cell::new(identity.formed),
            given_up: Cell::new(identity.given_up),
            identity,
            meta,
            address,
            nonce,
            counter: Cell::new(0),
            narrow: RefCell::default(),
            wholes: RefCell::default(),
            said_name: Cell::new(None),
            facts: RefCell::default(),
            peers: RefCell::default(),
            places: RefCell::default(),
            counts: RefCell::default(),
            shape,
            rows: RefCell::new(Rows::new(shape)),
            read: RefCell::default(),
            begun: RefCell::default(),
            cells: RefCell::default(),
            ticket: Cell::new(0),
            over: Cell::new(None),
            told: Event::new(),
            leading: Cell::new(false),
            changes: Changes::default(),
            former: RefCell::default(),
            known: RefCell::new(known),
            turned: Cell::default(),
            told_of_key: Cell::default(),
            me: me.clone(),
        });
        node.begin(facts, &edits, &body);
        if node.socket.is_some() {
            tasks.go(Rc::clone(&node).listen());
            tasks.go(Rc::clone(&node).resolve());
        }
        Ok(node)
    }

    /// Tells the election what is on disk, or that this is a new set.
    fn begin(&self, facts: Facts, edits: &[u8], body: &[u8]) {
        let formed = facts.formed;
        *self.facts.borrow_mut() = facts.clone();
        for (number, bytes) in body.chunks(PIECE).enumerate() {
            // It is all zeros where nothing is told.
            if bytes.iter().any(|byte| *byte != 0) {
                let at = u32::try_from(number * PIECE).unwrap_or(u32::MAX);
                self.port.put(&Input::Piece { at, bytes });
            }
        }
        self.port.put(&Input::Start { facts, edits, nonce: self.nonce });
        if !formed {
            let (generation, epoch) = self.identity.goes_on_from();
            self.port.put(&Input::Form(Birth {
                cluster: self.identity.cluster(),
                generation,
                me: self.identity.id,
                epoch,
                t_us: self.identity.t_us,
                roster: self.identity.first_roster(),
            }));
        }
    }

    /// Waits until this process is not to go on as it is.
    pub(crate) async fn over(&self) -> Over {
        loop {
            let listener = self.told.listen();
            if let Some(over) = self.over.get() {
                return over;
            }
            listener.await;
        }
    }

    /// An agent has obeyed a later word than this master's.
    pub(crate) fn is_outranked(&self, fence: Fence) {
        self.port.put(&Input::Seen(fence));
    }

    fn end(&self, over: Over) {
        self.leading.set(false);
        self.standing.lease.renew(Time(0));
        self.over.set(Some(over));
        self.told.notify(usize::MAX);
    }

    fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    /// Masters, changes that wait, and bytes that rows of the registry take.
    pub(crate) fn registry(&self) -> (u64, u64, u64) {
        let (waiting, bytes) = self.rows.borrow().size();
        (self.facts.borrow().meta.roster.members.len() as u64, waiting, bytes)
    }

    /// What it has sent and heard, for gauges.
    pub(crate) fn gauges(&self) -> Vec<(&'static str, u64)> {
        let facts = self.facts.borrow();
        let mut gauges = vec![
            ("set_masters", facts.meta.roster.members.len() as u64),
            ("set_id", facts.me.into()),
            ("set_promised_epoch", facts.promised.into()),
            ("set_registry_version", facts.accepted.version.number),
        ];
        gauges.extend(self.rows.borrow().gauges());
        gauges.extend(self.changes.gauges());
        gauges.extend(self.counts.borrow().iter().map(|(name, count)| (*name, *count)));
        gauges
    }
}

/// Our own types have no way to fail.
fn encoded(head: &Head<'_>) -> Vec<u8> {
    postcard::to_allocvec(head).unwrap_or_default()
}

/// What goes out.
impl SetNode {
    /// Seals something that this master says.
    fn seal(&self, head: &[u8]) -> Vec<u8> {
        self.counter.set(self.counter.get() + 1);
        let (incarnation, me) = {
            let facts = self.facts.borrow();
            (facts.incarnation, facts.me)
        };
        let envelope = Head::Gossip(Gossip::Envelope(Envelope {
            incarnation,
            nonce: self.nonce,
            counter: self.counter.get(),
            address: &self.address,
            head,
        }));
        let envelope = postcard::to_allocvec(&envelope).unwrap_or_default();
        self.keys.seal(me, &self.key, &envelope)
    }

    /// A leader that has a name for others says so now and then, to who may come later too.
    fn say_name(&self) {
        let Some(hostname) = self.master.options.hostname.as_deref() else { return };
        let now = clock::now();
        let due = self.said_name.get().is_none_or(|at| now.since(at) >= NAME_US);
        if self.leading.get() && due {
            self.said_name.set(Some(now));
            self.broadcast(&Head::Gossip(Gossip::Called { hostname }));
        }
    }

    /// To everybody: where they were heard, and where the list says that they are.
    fn broadcast(&self, head: &Head<'_>) {
        let datagram = self.seal(&encoded(head));
        let mut places: Vec<SocketAddr> = self.peers.borrow().places().collect();
        places.extend(self.places.borrow().iter());
        places.sort_unstable();
        places.dedup();
        places.iter().for_each(|place| self.send_to(&datagram, *place));
    }

    fn send(&self, to: u8, head: &Head<'_>) {
        // One that was not heard yet hears it when it has said something.
        let Some(place) = self.peers.borrow().place_of(to) else { return };
        let head = encoded(head);
        self.send_to(&self.seal(&head), place);
        if self.narrow.borrow_mut().needs_parts(to, &head, clock::now()) {
            for part in parts(&head, self.counter.get() + 1) {
                self.send_to(&self.seal(&encoded(&Head::Gossip(part))), place);
                self.count("gossip_parts_total");
            }
        }
    }

    /// A datagram that the kernel does not take is lost, as any other may be.
    pub(super) fn send_to(&self, datagram: &[u8], place: SocketAddr) {
        let Some(socket) = &self.socket else { return };
        let sent = socket.get_ref().send_to(datagram, place);
        self.count(if sent.is_ok() { "gossip_sent_total" } else { "gossip_unsent_total" });
    }

    /// Looks up where the masters of the list are, for as long as some are names.
    async fn resolve(self: Rc<Self>) {
        loop {
            let own = self.socket.as_ref().and_then(|socket| socket.get_ref().local_addr().ok());
            let mut found = Vec::new();
            let mut names = false;
            let known = self.known.borrow().clone();
            let mut all: Vec<&String> = self.identity.masters.iter().chain(&known).collect();
            all.sort_unstable();
            all.dedup();
            for master in all {
                match master.parse() {
                    Ok(place) => found.push(place),
                    Err(_) => {
                        names = true;
                        found.extend(smol::net::resolve(master).await.unwrap_or_default());
                    }
                }
            }
            found.retain(|place| Some(*place) != own);
            *self.places.borrow_mut() = found;
            if !names {
                return;
            }
            alarm::after(RESOLVE_US).await;
        }
    }
}

/// What comes in.
impl SetNode {
    async fn listen(self: Rc<Self>) {
        let Some(socket) = &self.socket else { return };
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((len, from)) => {
                    self.count("gossip_received_total");
                    if let Err(dropped) = self.take(&mut buffer[..len], from) {
                        self.count(dropped.gauge());
                        self.tell_of_key(&dropped, from);
                        log::debug!("{from}: a datagram that is {dropped:?}");
                    }
                }
                Err(error) => {
                    // Somebody's port was closed when we sent to it: no concern of ours.
                    log::debug!("gossip: {error}");
                    alarm::after(1_000).await;
                }
            }
        }
    }

    fn owner(&self, sender: u8) -> Option<[u8; 32]> {
        if sender == STRANGER {
            return Some([0; 32]);
        }
        let facts = self.facts.borrow();
        let key = |members: &[Member]| {
            members.iter().find(|member| member.id == sender).map(|member| member.key)
        };
        if !facts.formed {
            // Before its first word to its own disk, what it was told is all there is.
            return key(&self.identity.first_roster().members);
        }
        let roster = &facts.meta.roster;
        // Whoever leads its own removal is heard to its end.
        let leaves = || self.former.borrow().get(&sender).copied();
        key(&roster.members).or_else(|| leaves().filter(|_| roster.before & bit(sender) != 0))
    }

    /// Somebody where a master of the list is seals with a key that is not known here: people are told,
    /// now and then. What comes from anywhere else is counted alone.
    fn tell_of_key(&self, dropped: &Dropped, from: SocketAddr) {
        let known = || self.places.borrow().contains(&from) || self.is_peer(from);
        let now = clock::now();
        let late = self.told_of_key.get().is_none_or(|at| now.since(at) > TOLD_US);
        if matches!(dropped, Dropped::Forged) && late && known() {
            self.told_of_key.set(Some(now));
            log::warn!(
                "{from}: another master seals with another key, and neither hears the other: give all \
                 of them the same --gossip-key-file"
            );
        }
    }

    /// Somebody of another roster: one that was removed is told so, now and then.
    fn turn_away(&self, sender: u8, from: SocketAddr) {
        let now = clock::now();
        let left = {
            let facts = self.facts.borrow();
            facts.formed && !facts.meta.roster.has(sender) && sender < facts.meta.roster.next
        };
        if left && now.since(self.turned.get()) > TURNED_US {
            self.turned.set(now);
            self.turn(from, REMOVED);
        }
    }

    /// Somebody is heard from there who is one of them.
    pub(super) fn is_peer(&self, from: SocketAddr) -> bool {
        let facts = self.facts.borrow();
        let roster = &facts.meta.roster;
        self.peers.borrow().is_place_of(from, |id| roster.has(id))
    }

    fn take(&self, datagram: &mut [u8], from: SocketAddr) -> Result<(), Dropped> {
        let sender = datagram.get(SENDER_AT).copied();
        let opened = self.keys.open(datagram, |sender| self.owner(sender));
        if let (Err(Dropped::Foreign), Some(sender)) = (&opened, sender) {
            self.turn_away(sender, from);
        }
        let (sender, bytes) = opened?;
        let Ok(Head::Gossip(gossip)) = decode(bytes) else { return Err(Dropped::Malformed) };
        match gossip {
            Gossip::Bootstrap(asks) if sender == STRANGER => {
                self.answer_bootstrap(&asks, from);
                Ok(())
            }
            Gossip::Join(join) if sender == STRANGER => {
                self.asked_to_follow(&join, from);
                Ok(())
            }
            Gossip::Turned { message } if sender == STRANGER => {
                log::warn!("{from}: {message}");
                Ok(())
            }
            Gossip::Envelope(envelope) if sender != STRANGER => {
                self.unfold(sender, &envelope, from)
            }
            Gossip::Digest(_)
            | Gossip::Replica(_)
            | Gossip::Envelope(_)
            | Gossip::Bootstrap(_)
            | Gossip::Turned { .. }
            | Gossip::Join(_)
            | Gossip::Called { .. }
            | Gossip::Part { .. }
            | Gossip::Joined(_) => Err(Dropped::Malformed),
        }
    }

    fn answer_bootstrap(&self, asks: &Bootstrap<'_>, from: SocketAddr) {
        if asks.made {
            return;
        }
        let answer = self.identity.answer(asks, self.key);
        let datagram = self.keys.seal(STRANGER, &[0; 32], &answer);
        self.send_to(&datagram, from);
    }

    fn unfold(&self, sender: u8, envelope: &Envelope<'_>, from: SocketAddr) -> Result<(), Dropped> {
        let Ok(Head::Gossip(gossip)) = decode(envelope.head) else {
            return Err(Dropped::Malformed);
        };
        if sender != self.facts.borrow().me {
            self.peers.borrow_mut().note(sender, envelope, from)?;
        } else if envelope.nonce == self.nonce {
            // Its own, by way of an address that it did not know to be its own.
            return Ok(());
        }
        if self.port.backlog_bytes() > BACKLOG_MAX {
            return Err(Dropped::Overload);
        }
        match gossip {
            Gossip::Digest(digest) if digest.sender == sender => self.hear(digest),
            Gossip::Replica(replica) => self.port.put(&Input::Replica { from: sender, replica }),
            Gossip::Called { hostname } => {
                self.peers.borrow_mut().call(sender, hostname);
                self.follow(clock::now());
            }
            Gossip::Part { of, at, count, bytes } => {
                let part = (of, at, count);
                let whole = self.wholes.borrow_mut().put(sender, envelope.nonce, part, bytes);
                match whole.as_deref().map(decode) {
                    None => {}
                    Some(Ok(Head::Gossip(Gossip::Replica(replica)))) => {
                        self.port.put(&Input::Replica { from: sender, replica });
                    }
                    Some(_) => return Err(Dropped::Malformed),
                }
            }
            Gossip::Digest(_)
            | Gossip::Envelope(_)
            | Gossip::Bootstrap(_)
            | Gossip::Turned { .. }
            | Gossip::Join(_)
            | Gossip::Joined(_) => return Err(Dropped::Malformed),
        }
        Ok(())
    }

    fn hear(&self, digest: Digest<'_>) {
        let now = clock::now();
        for row in digest.rows.iter() {
            self.peers.borrow_mut().see(row, now);
        }
        self.port.put(&Input::Digest(digest));
        self.follow(now);
        self.tell_addresses();
        if self.was_removed() {
            self.end(Over::Removed);
        }
    }

    /// Agents and frameworks are told where the masters are, when that changed.
    fn tell_addresses(&self) {
        let (all, addresses) = {
            let (facts, peers) = (self.facts.borrow(), self.peers.borrow());
            let of = |member: &Member| {
                let me = member.id == facts.me;
                let heard =
                    if me { Some(self.address.as_str()) } else { peers.address_of(member.id) };
                heard.map(str::to_owned)
            };
            let members = &facts.meta.roster.members;
            let addresses: Vec<String> = members.iter().filter_map(of).collect();
            (addresses.len() == members.len(), addresses)
        };
        let text = addresses.join(",");
        if text.len() <= MASTERS_TEXT_MAX {
            self.standing.tell_masters(&text);
        }
        if all && *self.known.borrow() != addresses {
            *self.known.borrow_mut() = addresses;
            self.write_identity();
        }
    }

    /// Whoever leads is where others are shown to.
    fn follow(&self, now: Time) {
        let facts = self.facts.borrow();
        let within = u64::from(facts.meta.t_us) * 2;
        let peers = self.peers.borrow();
        let Some((epoch, id, at)) = peers.leader(now, within) else { return };
        // This one says so itself, and whoever is asked for a later reign waits for that.
        if id == facts.me || self.standing.lease.is_held() || epoch < facts.promised {
            return;
        }
        let Some(address) = peers.address_of(id).map(str::to_owned) else { return };
        let hostname = peers.name_of(id).map(str::to_owned);
        let fence = Fence { generation: facts.generation, epoch };
        self.standing.follow(Leader { fence, id, address, hostname }, at.after(within));
    }
}

impl Node for SetNode {
    fn port(&self) -> &Port {
        &self.port
    }

    fn output(&self, output: &[u8], _: &[BodyRef]) {
        let Ok(output) = postcard::from_bytes(output) else {
            mesita_core::stop(line!(), "an output of an election that cannot be read");
        };
        match output {
            Output::Gossip(head) => {
                self.is_formed();
                self.broadcast(&head);
                self.say_name();
            }
            Output::Send { to, head } => self.send(to, &head),
            Output::Persist(save) => self.persist(&save),
            Output::Leading(fence) => {
                self.is_formed();
                self.leading.set(true);
                if let Some(me) = self.me.upgrade() {
                    self.tasks.go(async move { me.leads(fence).await });
                }
            }
            Output::Lost => {
                log::warn!("this master leads no more; beginning again as a follower");
                self.end(Over::Lost);
            }
            Output::Answer { ticket: roster::TICKET, result } => self.changes.answered(result),
            Output::Answer { result, .. } => self.answered(result),
            Output::Quarantined => self.end(Over::Quarantined),
            Output::GivenUp { generation } => {
                log::warn!("this cluster goes on elsewhere, as generation {generation}");
                self.given_up.set(true);
                self.write_identity();
                self.end(Over::GivenUp);
            }
        }
    }

    fn lease(&self, until: Time) {
        if self.over.get().is_none() {
            self.standing.lease.renew(until);
        }
    }
}

/// A slot of a table, and what is in it.
type Slot = (Table, u32, Vec<u8>);

impl SetNode {
    /// It speaks, so its disk has that it belongs to the set: said once, for ever.
    fn is_formed(&self) {
        if self.formed.replace(true) {
            return;
        }
        self.write_identity();
    }

    /// How it finds the others again.
    fn write_identity(&self) {
        let mut identity = self.identity.clone();
        identity.formed = self.formed.get();
        identity.given_up = self.given_up.get();
        identity.known.clone_from(&self.known.borrow());
        if let Err(refused) = identity.write(&self.meta) {
            log::error!("{refused}");
        }
    }

    fn persist(&self, save: &Save<'_>) {
        if let Save::Sector { facts, .. } = save {
            self.remember_keys(facts);
            *self.facts.borrow_mut() = facts.clone();
            self.standing.outlived(facts.promised);
        }
        let save = postcard::to_allocvec(save).unwrap_or_default();
        self.to_disk.write(Job::Save { seat: self.port.seat(), save });
    }

    /// Who leaves with a change of the roster may have proposed it.
    fn remember_keys(&self, next: &Facts) {
        let facts = self.facts.borrow();
        if facts.meta.roster.version != next.meta.roster.version {
            let members = facts.meta.roster.members.iter().map(|member| (member.id, member.key));
            *self.former.borrow_mut() = members.collect();
        }
    }

    /// It was elected: its master is told what the registry has, then that it leads. Nothing changes
    /// the registry meanwhile: only a leader does.
    async fn leads(self: Rc<Self>, fence: Fence) {
        let mut from = 0;
        while let Some(next) = self.read_rows(from).await {
            from = next;
        }
        self.redo();
        self.begin_store(fence);
        let imported = self.import();
        self.tell_rows();
        let (cluster, id) = {
            let facts = self.facts.borrow();
            (facts.cluster, facts.me)
        };
        self.master.port.put(&master::Input::Leads { cluster, fence });
        // Nobody is shown to a leader that would not take them in yet.
        self.master.leading().await;
        self.master.take_first_tokens(&self.meta);
        self.master.counting.changed.notify(usize::MAX);
        // What was imported, and what a leader left behind that died while it stored something.
        self.propose();
        if imported {
            let meta = self.meta.clone();
            self.when_durable(move || Origin::is_done(&meta));
        }
        if self.standing.in_set {
            let address = self.address.clone();
            let hostname = self.master.options.hostname.clone();
            self.standing.follow(Leader { fence, id, address, hostname }, Time::NEVER);
            self.see_to_the_learner();
        }
    }

    /// Reads slots from a number on, and the number that it goes on with.
    async fn read_slots(&self, from: u64) -> (Option<u64>, Vec<Slot>) {
        let answer = self.port.ask(&(from, ())).await;
        let part = postcard::take_from_bytes::<Result<Option<u64>, Refusal>>(&answer);
        let Ok((Ok(next), mut bytes)) = part else { return (None, Vec::new()) };
        let mut slots = Vec::new();
        while let Ok((slot, rest)) = postcard::take_from_bytes::<Slot>(bytes) {
            slots.push(slot);
            bytes = rest;
        }
        (next, slots)
    }

    /// Tells the master what is stored, as far as this one knows: it does not lead.
    pub(crate) async fn tell_stored(&self) {
        let (mut from, mut all) = (Some(0), Vec::new());
        while let Some(at) = from {
            let (next, slots) = self.read_slots(at).await;
            all.extend(slots);
            from = next;
        }
        // Then it is told by [`Self::begin_store`].
        if self.leading.get() {
            return;
        }
        let mut store = self.master.store.borrow_mut();
        store.begin(self.facts.borrow().promised, self.shape.slots(Table::Store));
        for stored in cells::stored(&all) {
            store.found(stored);
        }
        drop(store);
        self.master.principals_changed();
    }

    /// Takes in slots from a number on; the number that it goes on with.
    async fn read_rows(&self, from: u64) -> Option<u64> {
        let (next, slots) = self.read_slots(from).await;
        let mut rows = self.rows.borrow_mut();
        for (table, slot, row) in slots {
            if table == Table::Store {
                self.read.borrow_mut().insert(slot, row.clone());
            }
            if table == Table::Redo {
                self.begun.borrow_mut().insert(slot, row);
            } else {
                rows.found(table, slot, &row);
            }
        }
        next
    }

    /// What a leader had begun to write, and written down as a whole, is written to its end.
    fn redo(&self) {
        let cells = std::mem::take(&mut *self.begun.borrow_mut());
        let Some(writes) = redo::found(&cells) else { return };
        let mut read = self.read.borrow_mut();
        for (_, slot, bytes) in writes.iter().filter(|(table, ..)| *table == Table::Store) {
            read.insert(*slot, bytes.clone());
        }
        read.retain(|_, bytes| bytes.first().is_some_and(|form| *form != 0));
        self.rows.borrow_mut().redo(writes);
    }

    /// Takes in the rows of another registry that an operator put there. True if there were some.
    fn import(&self) -> bool {
        let origin = match Origin::read(&self.meta) {
            Ok(origin) => origin,
            Err(refused) => {
                log::error!("{refused}");
                return false;
            }
        };
        let Some(origin) = origin else { return false };
        let mut rows = self.rows.borrow_mut();
        origin.rows().for_each(|bytes| {
            // This may be the second attempt, and what was decided since the first counts.
            if let Some(row) = Row::read(&bytes).filter(|row| !rows.has(&About::of(row))) {
                rows.keep(&row);
            }
        });
        drop(rows);
        origin.stored().for_each(|stored| {
            // Another value may have been stored since then, and this be the second attempt.
            if self.master.store.borrow_mut().found(stored.clone()) {
                self.keep_stored(&stored);
            }
        });
        self.master.principals_changed();
        true
    }

    /// The master is told what is stored.
    fn begin_store(&self, fence: Fence) {
        let cells = std::mem::take(&mut *self.read.borrow_mut());
        let all = self.cells.borrow_mut().found(&mut self.rows.borrow_mut(), &cells);
        let requests = self.shape.slots(Table::Requests);
        self.master.requests.borrow_mut().begin(fence.epoch, requests);
        let mut store = self.master.store.borrow_mut();
        store.begin(fence.epoch, self.shape.slots(Table::Store));
        for stored in all {
            store.found(stored);
        }
        drop(store);
        self.master.principals_changed();
    }

    fn tell_rows(&self) {
        let rows = self.rows.borrow();
        let mut all: Vec<Row<'_>> = rows.all().collect();
        // What a role is guaranteed is looked at beside what the roles above it are.
        all.sort_by_key(|row| match row {
            Row::Weight { role, .. } | Row::Quota { role, .. } => role.matches('/').count(),
            Row::Agent(_)
            | Row::Machine { .. }
            | Row::Removed(_)
            | Row::Framework(_)
            | Row::Request(_) => 0,
            // After the agent's own.
            Row::Host { .. } => 1,
        });
        for row in all {
            let input = match row {
                Row::Weight { role, weight } => master::Input::Weight { role, weight },
                Row::Quota { role, guarantees, limits } => {
                    master::Input::Quota { role, guarantees, limits }
                }
                Row::Agent(admission) => master::Input::Admitted(admission),
                Row::Host { agent, hostname } => master::Input::Hosted { agent, hostname },
                Row::Machine { planned, down } => master::Input::Machine { planned, down },
                Row::Removed(framework) => master::Input::Removed { framework },
                Row::Framework(owned) => master::Input::Owned(owned),
                // The core has no part in this.
                Row::Request(request) => {
                    self.master.requests.borrow_mut().found(request);
                    continue;
                }
            };
            let shown = format!("{row:?}");
            self.master.port.put_then(&input, Vec::new(), move |result| {
                if let Err(refusal) = result {
                    log::error!("what the registry has does not hold here: {shown}: {refusal}");
                }
            });
        }
    }
}

/// What the leader decides, on its way to a majority.
impl SetNode {
    /// Why a row could not be kept.
    pub(crate) fn has_room(&self, row: &Row<'_>) -> Result<(), Refusal> {
        self.rows.borrow().has_room(row)
    }

    /// Why rows that take the place of all of a table could not be kept.
    pub(crate) fn has_room_for<'r>(
        &self,
        table: Table,
        rows: impl Iterator<Item = Row<'r>>,
    ) -> Result<(), Refusal> {
        self.rows.borrow().has_room_for(table, rows)
    }

    /// Keeps what was decided.
    pub(crate) fn keep(&self, row: &Row<'_>) {
        self.rows.borrow_mut().keep(row);
        self.propose();
    }

    /// True when something of that is kept.
    pub(crate) fn has(&self, about: &About) -> bool {
        self.rows.borrow().has(about)
    }

    /// What `mesita node ls` calls those nodes whose agents are kept, by the agents' ids. O(rows).
    pub(crate) fn nodes_of_agents(&self) -> BTreeMap<AgentId, String> {
        let rows = self.rows.borrow();
        let named = |row: Row<'_>| {
            let Row::Agent(Admission { agent, key, .. }) = row else { return None };
            Some((agent, shown(&key)))
        };
        rows.all().filter_map(named).collect()
    }

    /// All that is kept from now on belongs together, until it is let go.
    pub(crate) fn hold(&self) {
        self.rows.borrow_mut().hold();
    }

    /// What was held goes on its way.
    pub(crate) fn let_go(&self) {
        self.rows.borrow_mut().let_go();
        self.propose();
    }

    /// Reads the keys of datagrams again.
    pub(crate) fn renew_keys(&self) {
        match self.keys.renew() {
            Ok(0) => {}
            Ok(count) => log::info!("{count} gossip keys were read again; the first one seals"),
            Err(bad) => log::error!("--gossip-key-file {bad}; the keys stay as they were"),
        }
    }

    /// Keeps what somebody has stored.
    pub(crate) fn keep_stored(&self, stored: &Stored) {
        self.cells.borrow_mut().keep(&mut self.rows.borrow_mut(), stored);
        self.propose();
    }

    /// Keeps it no more.
    pub(crate) fn forget_stored(&self, name: &Name) {
        self.cells.borrow_mut().forget(&mut self.rows.borrow_mut(), name);
        self.propose();
    }

    /// Keeps nothing of that any more.
    pub(crate) fn forget(&self, about: &About) {
        self.rows.borrow_mut().forget(about);
        self.propose();
    }

    /// A majority does not have everything yet that was decided.
    pub(crate) fn is_behind(&self) -> bool {
        self.rows.borrow().is_behind()
    }

    /// Calls `then` when a majority has everything that was decided so far.
    pub(crate) fn when_durable(&self, then: impl FnOnce() + 'static) {
        let asked = clock::now();
        let then = move || {
            times::STORES.took(clock::now().since(asked));
            then();
        };
        let now = self.rows.borrow_mut().when_durable(Box::new(then));
        if let Some(then) = now {
            then();
        }
    }

    fn propose(&self) {
        let ticket = self.ticket.get().wrapping_add(1) % roster::TICKET;
        let me = self.me.clone();
        let refused = move |result: Result<(), Refusal>| {
            if let (Err(refusal), Some(me)) = (result, me.upgrade()) {
                me.not_now(refusal);
            }
        };
        let proposed = self.rows.borrow_mut().next(|edits| {
            self.port.put_then(&Input::Propose { ticket, edits }, Vec::new(), refused);
        });
        if proposed.is_some() {
            self.ticket.set(ticket);
        }
    }

    /// Another change of the registry is on its way, of the election itself: this one comes after.
    fn not_now(&self, refusal: Refusal) {
        if refusal != Refusal::Busy {
            return log::warn!("the registry takes no change: {refusal}");
        }
        self.rows.borrow_mut().put_back();
        if let Some(me) = self.me.upgrade() {
            self.tasks.go(async move {
                alarm::after(BUSY_US).await;
                me.propose();
            });
        }
    }

    /// A majority has the change. When it is not known to, this master leads no more, and says
    /// nothing of it.
    fn answered(&self, result: Result<(), Refusal>) {
        if result.is_err() {
            return;
        }
        let ready = self.rows.borrow_mut().committed();
        ready.into_iter().for_each(|then| then());
        self.propose();
    }
}
