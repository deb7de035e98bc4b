//! The driver of a framework in Rust: what every scheduler would otherwise write again.
//!
//! It keeps the framework's identity and its subscription over lost connections, knows which
//! offers are still good, acknowledges updates when they were taken in, and after each
//! subscription asks about every task it knows until all were told (Mesos: `MesosSchedulerDriver`
//! and the reconciliation that its guide asks of everybody). Decisions are the application's: it
//! gets [`Output::Event`]s and answers with [`Input::Call`]s, or with the verbs of the first Mesos:
//! [`Input::NeedsOffers`], [`Input::SetFilters`], [`Input::ReplyToOffer`],
//! [`Input::GuaranteedShare`].

use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::capacity::{Capacity, Lender};
use crate::drive::OUTPUT_MAX;
use crate::image::{BadImage, Image, Reader, Writer};
use crate::index::{Bucket, Chained, Index};
use crate::limits::{BODIES_PER_FRAME_MAX, KINDS_MAX, TASKS_PER_HEAD_MAX};
use crate::names::{self, Name, Names};

use crate::table::{Id, Slot, Table};
use crate::time::Time;
use crate::wire::call::{Accept, Call, Operation, Quantity, Subscribe, Verb};
use crate::wire::event::Event;
use crate::wire::task::{Launch, Status, TaskAt, TaskState};
use crate::wire::{AgentId, BodyRef, FrameworkId, Head, OfferId, Scratch, Seq, decode, encode};

/// From one question about tasks that were not told to the next, in µs; doubled each time.
pub const RECONCILE_MIN_US: u64 = 1_000_000;
/// But at least so often, in µs.
pub const RECONCILE_MAX_US: u64 = 60_000_000;

/// What an application chooses, and a journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Seeds the index.
    pub seed: u64,
    /// The driver acknowledges each update once the application was told it; else the application
    /// does.
    pub acknowledges: bool,
}

/// Everything that reaches a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input<'a> {
    /// What the framework is; sent with each subscription.
    #[serde(borrow)]
    Describe(Subscribe<'a>),
    /// The framework's id of an earlier run.
    Resume {
        /// The id.
        framework: FrameworkId,
    },
    /// A connection to the leading master is open.
    Connected,
    /// It is gone.
    Disconnected,
    /// A head came.
    Frame {
        /// The head, as it came.
        head: &'a [u8],
        /// Its bodies, in order.
        #[serde(borrow)]
        bodies: Seq<'a, BodyRef>,
    },
    /// The application asks something of the master.
    Call {
        /// Asks for a reply that carries this number; 0 = none.
        ticket: u32,
        /// What.
        verb: Verb<'a>,
        /// The bodies it names.
        #[serde(borrow)]
        bodies: Seq<'a, BodyRef>,
    },
    /// Whether offers are of any use now: SUPPRESS and REVIVE of all roles.
    NeedsOffers(bool),
    /// For how long what is left of an answered offer is refused, in µs.
    SetFilters {
        /// None = the master's default.
        refuse_us: Option<u64>,
    },
    /// Launches tasks on one offer, or declines it when there are none.
    ReplyToOffer {
        /// The offer.
        offer: OfferId,
        /// The tasks.
        tasks: Seq<'a, Launch<'a>>,
        /// The bodies they name.
        bodies: Seq<'a, BodyRef>,
    },
    /// Asks what the roles' quotas guarantee.
    GuaranteedShare,
    /// Ends the framework; or, with `failover`, only this scheduler of it.
    Stop {
        /// Another scheduler takes over: tasks stay.
        failover: bool,
    },
    /// A deadline is due.
    Tick,
}

/// Everything that leaves a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output<'a> {
    /// A head for the master; its bodies are those emitted with it.
    #[serde(borrow)]
    Send(Head<'a>),
    /// An event for the application; its bodies are those emitted with it.
    #[serde(borrow)]
    Event(Event<'a>),
    /// The framework is known now by this id: to be kept by whoever wants to resume.
    Identity {
        /// The id.
        framework: FrameworkId,
    },
    /// What the roles' quotas guarantee.
    Share {
        /// By kind; empty = nothing.
        #[serde(borrow)]
        guaranteed: Seq<'a, Quantity<'a>>,
    },
    /// The driver is done: the connection may be closed.
    Stopped,
}

/// Takes what leaves a driver, in order.
pub trait Outbox {
    /// Takes one output with the bodies it names; returns the bytes that it took.
    fn emit(&mut self, output: &Output<'_>, bodies: &[BodyRef]) -> usize;
}

impl Outbox for crate::drive::Encoder<'_> {
    fn emit(&mut self, output: &Output<'_>, bodies: &[BodyRef]) -> usize {
        self.put(output, bodies)
    }
}

record! {
    /// An offer that was not answered.
    pub struct Offer {
        id: OfferId,
        agent: AgentId,
    }

    /// A task that did not end, as far as the driver knows.
    pub struct Task {
        name: Name,
        agent: AgentId,
        state: TaskState,
        /// Its state was told since the last subscription.
        told: bool,
        #[serde(skip)]
        next: u32,
    }
}

impl Chained for Task {
    fn next(&self, _index: usize) -> u32 {
        self.next
    }

    fn next_mut(&mut self, _index: usize) -> &mut u32 {
        &mut self.next
    }
}

/// The memory of a driver.
#[derive(Debug)]
pub struct Storage<'a> {
    names: (&'a mut [names::Entry], &'a mut [names::Cell], &'a mut [names::Bucket]),
    offers: &'a mut [Slot<Offer>],
    tasks: &'a mut [Slot<Task>],
    task_buckets: &'a mut [Bucket],
    description: &'a mut [u8],
    guaranteed: &'a mut [u8],
    scratch: &'a mut [u8],
}

impl<'a> Storage<'a> {
    /// Borrows all of it, zeroed, from `lender`.
    pub fn lend(capacity: &Capacity, lender: &mut impl Lender<'a>) -> Self {
        let c = capacity;
        Self {
            names: (lender.lend(c.tasks), lender.lend(c.cells), lender.lend(c.tasks)),
            offers: lender.lend(c.offers),
            tasks: lender.lend(c.tasks),
            task_buckets: lender.lend(c.tasks),
            description: lender.lend(c.head_max),
            guaranteed: lender.lend(c.head_max.min(1024)),
            scratch: lender.lend(c.scratch()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    framework: FrameworkId,
    connected: bool,
    subscribed: bool,
    needs_offers: bool,
    stopped: bool,
    refuse_us: Option<u64>,
    /// Bytes of the description, and of the guarantees, in use.
    description: u32,
    guaranteed: u32,
    /// When to ask again about tasks that were not told, and after how long the next time.
    ask: Time,
    wait_us: u64,
}

/// A framework's driver. All its memory is lent.
#[derive(Debug)]
pub struct Driver<'a> {
    config: Config,
    names: Names<'a>,
    offers: Table<'a, Offer>,
    tasks: Table<'a, Task>,
    tasks_by_name: Index<'a>,
    description: &'a mut [u8],
    guaranteed: &'a mut [u8],
    scratch: &'a mut [u8],
    state: State,
}

/// What a handler needs of the step it is in.
struct Cx<'c> {
    now: Time,
    out: &'c mut dyn Outbox,
    spent: usize,
}

impl Cx<'_> {
    fn emit(&mut self, output: Output<'_>, bodies: &[BodyRef]) {
        self.spent = self.spent.saturating_add(self.out.emit(&output, bodies));
    }
}

impl<'a> Driver<'a> {
    /// A driver that is not connected.
    pub fn new(storage: Storage<'a>, config: Config) -> Self {
        let (entries, cells, buckets) = storage.names;
        Self {
            config,
            names: Names::new(entries, cells, buckets, config.seed),
            offers: Table::new(storage.offers),
            tasks: Table::new(storage.tasks),
            tasks_by_name: Index::new(storage.task_buckets, config.seed),
            description: storage.description,
            guaranteed: storage.guaranteed,
            scratch: storage.scratch,
            state: State {
                framework: FrameworkId::NONE,
                connected: false,
                subscribed: false,
                needs_offers: true,
                stopped: false,
                refuse_us: None,
                description: 0,
                guaranteed: 0,
                ask: Time::NEVER,
                wait_us: RECONCILE_MIN_US,
            },
        }
    }

    /// Gives the memory back.
    pub fn release(self) -> Storage<'a> {
        Storage {
            names: self.names.release(),
            offers: self.offers.release(),
            tasks: self.tasks.release(),
            task_buckets: self.tasks_by_name.release(),
            description: self.description,
            guaranteed: self.guaranteed,
            scratch: self.scratch,
        }
    }

    /// Applies one input. A [`Refusal`] means that nothing changed.
    pub fn step(
        &mut self,
        now: Time,
        input: Input<'_>,
        out: &mut dyn Outbox,
    ) -> Result<(), Refusal> {
        let mut cx = Cx { now, out, spent: 0 };
        let stepped = self.dispatch(&mut cx, input);
        invariant!(cx.spent <= OUTPUT_MAX, "a step emitted more than its bound");
        stepped
    }

    /// When [`Input::Tick`] is due. O(1).
    pub fn next_deadline(&self) -> Time {
        self.state.ask
    }

    /// The framework's id, once it was subscribed.
    pub fn framework(&self) -> FrameworkId {
        self.state.framework
    }

    /// Offers not answered, and tasks that did not end.
    pub fn gauges(&self) -> (u32, u32) {
        (self.offers.len(), self.tasks.len())
    }

    fn dispatch(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<(), Refusal> {
        match input {
            Input::Describe(subscribe) => self.describe(cx, &subscribe),
            Input::Resume { framework } => {
                if !self.state.framework.is_none() {
                    return Err(Refusal::Exists);
                }
                self.state.framework = framework;
                Ok(())
            }
            Input::Connected => {
                self.state.connected = true;
                self.subscribe(cx);
                Ok(())
            }
            Input::Disconnected => {
                self.forget_session();
                Ok(())
            }
            Input::Frame { head, bodies } => self.frame(cx, head, &bodies),
            Input::Call { ticket, verb, bodies } => self.call(cx, ticket, verb, &bodies),
            Input::NeedsOffers(needed) => {
                self.state.needs_offers = needed;
                self.send(cx, 0, wish(needed), &[])
            }
            Input::SetFilters { refuse_us } => {
                self.state.refuse_us = refuse_us;
                Ok(())
            }
            Input::ReplyToOffer { offer, tasks, bodies } => {
                self.reply_to_offer(cx, offer, &tasks, &bodies)
            }
            Input::GuaranteedShare => {
                let used = self.guaranteed.get(..self.state.guaranteed as usize);
                let guaranteed = used.and_then(|bytes| decode(bytes).ok()).unwrap_or_default();
                cx.emit(Output::Share { guaranteed }, &[]);
                Ok(())
            }
            Input::Stop { failover } => self.stop(cx, failover),
            Input::Tick => {
                self.ask_again(cx);
                Ok(())
            }
        }
    }

    fn describe(&mut self, cx: &mut Cx<'_>, subscribe: &Subscribe<'_>) -> Result<(), Refusal> {
        let len = encode(subscribe, self.description).map_err(|_| Refusal::NamesFull)?.len();
        self.state.description = u32::try_from(len).map_err(|_| Refusal::NamesFull)?;
        if self.state.subscribed {
            return self.send(cx, 0, Verb::UpdateFramework(*subscribe), &[]);
        }
        self.subscribe(cx);
        Ok(())
    }

    fn subscribe(&mut self, cx: &mut Cx<'_>) {
        let ready = self.state.connected && !self.state.subscribed && !self.state.stopped;
        let used = self.description.get(..self.state.description as usize);
        let Some(used) = used.filter(|used| ready && !used.is_empty()) else { return };
        let Ok(subscribe) = decode::<Subscribe<'_>>(used) else { return };
        let framework = self.state.framework;
        let head = Head::Call(Call { framework, ticket: 0, verb: Verb::Subscribe(subscribe) });
        cx.emit(Output::Send(head), &[]);
    }

    fn forget_session(&mut self) {
        self.state.connected = false;
        self.state.subscribed = false;
        self.state.ask = Time::NEVER;
        while let Some((id, _)) = self.offers.find(|_| true) {
            self.offers.remove(id);
        }
    }

    /// Sends a call of this framework.
    fn send(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: u32,
        verb: Verb<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        if !self.state.subscribed {
            return Err(Refusal::Disconnected);
        }
        let framework = self.state.framework;
        cx.emit(Output::Send(Head::Call(Call { framework, ticket, verb })), bodies);
        Ok(())
    }

    fn call(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: u32,
        verb: Verb<'_>,
        bodies: &Seq<'_, BodyRef>,
    ) -> Result<(), Refusal> {
        if !self.state.subscribed {
            return Err(Refusal::Disconnected);
        }
        match &verb {
            // The driver subscribes by itself.
            Verb::Subscribe(_) => return Err(Refusal::OutOfTurn),
            Verb::Accept(accept) | Verb::AcceptPart(accept) => {
                for offer in accept.offers.iter() {
                    self.forget_offer(offer);
                }
                for operation in accept.operations.iter() {
                    operation.tasks().iter().for_each(|task| self.expect(&task));
                }
            }
            Verb::Decline { offers, .. } => {
                offers.iter().for_each(|offer| self.forget_offer(offer));
            }
            Verb::Teardown
            | Verb::AcceptInverse { .. }
            | Verb::DeclineInverse { .. }
            | Verb::Revive { .. }
            | Verb::Suppress { .. }
            | Verb::Kill { .. }
            | Verb::Shutdown { .. }
            | Verb::Acknowledge { .. }
            | Verb::AcknowledgeOperation { .. }
            | Verb::Reconcile { .. }
            | Verb::ReconcileOperations { .. }
            | Verb::Message { .. }
            | Verb::Request { .. }
            | Verb::UpdateFramework(_)
            | Verb::Constrain { .. } => {}
        }
        let mut with = heapless::Vec::<BodyRef, BODIES_PER_FRAME_MAX>::new();
        for body in bodies.iter() {
            with.push(body).map_err(|_| Refusal::BodiesFull)?;
        }
        self.send(cx, ticket, verb, &with)
    }

    /// `replyToOffer` of the first Mesos.
    fn reply_to_offer(
        &mut self,
        cx: &mut Cx<'_>,
        offer: OfferId,
        tasks: &Seq<'_, Launch<'_>>,
        bodies: &Seq<'_, BodyRef>,
    ) -> Result<(), Refusal> {
        self.offers.find(|row| row.id == offer).ok_or(Refusal::UnknownOffer)?;
        let refuse_us = self.state.refuse_us;
        let memory = core::mem::take(&mut self.scratch);
        let mut scratch = Scratch::new(memory);
        let offers = scratch.seq::<OfferId>([offer]).unwrap_or_default();
        let launch = Operation::Launch { tasks: *tasks };
        let operations = scratch.seq::<Operation<'static>>([launch]);
        let result = match operations {
            Ok(_) if tasks.is_empty() => {
                self.call(cx, 0, Verb::Decline { offers, refuse_us }, bodies)
            }
            Ok(operations) => {
                let accept = Accept { offers, operations, refuse_us };
                self.call(cx, 0, Verb::Accept(accept), bodies)
            }
            Err(_) => Err(Refusal::TasksFull),
        };
        self.scratch = memory;
        result
    }

    fn stop(&mut self, cx: &mut Cx<'_>, failover: bool) -> Result<(), Refusal> {
        if !failover && self.state.subscribed {
            self.send(cx, 0, Verb::Teardown, &[])?;
        }
        self.state.stopped = true;
        cx.emit(Output::Stopped, &[]);
        Ok(())
    }

    fn frame(
        &mut self,
        cx: &mut Cx<'_>,
        head: &[u8],
        bodies: &Seq<'_, BodyRef>,
    ) -> Result<(), Refusal> {
        let Head::Event(event) = decode(head).map_err(|_| Refusal::Malformed)? else {
            return Err(Refusal::WrongConnection);
        };
        let mut with = heapless::Vec::<BodyRef, BODIES_PER_FRAME_MAX>::new();
        for body in bodies.iter() {
            with.push(body).map_err(|_| Refusal::Malformed)?;
        }
        match &event {
            Event::Subscribed { framework, guaranteed, .. } => {
                self.subscribed(cx, *framework, guaranteed);
            }
            Event::Offers { offers } => {
                for offer in offers.iter() {
                    // One that finds no room can still be answered, by its id.
                    let _ = self.offers.insert(Offer { id: offer.id, agent: offer.agent });
                }
            }
            Event::Rescind { offer } => self.forget_offer(*offer),
            Event::Update { status } => self.learn(status),
            Event::Error { .. } => self.state.subscribed = false,
            Event::InverseOffers { .. }
            | Event::RescindInverse { .. }
            | Event::OperationUpdate { .. }
            | Event::Message { .. }
            | Event::Failure { .. }
            | Event::Reply { .. }
            | Event::Agents { .. }
            | Event::Waiting { .. } => {}
        }
        cx.emit(Output::Event(event), &with);
        if let Event::Update { status } = event
            && let (true, Some(uuid)) = (self.config.acknowledges, status.uuid())
        {
            let verb = Verb::Acknowledge { task: status.task, uuid };
            self.send(cx, 0, verb, &[])?;
        }
        Ok(())
    }

    fn subscribed(
        &mut self,
        cx: &mut Cx<'_>,
        framework: FrameworkId,
        guaranteed: &Seq<'_, Quantity<'_>>,
    ) {
        self.state.subscribed = true;
        let written = encode(guaranteed, self.guaranteed).map_or(0, <[u8]>::len);
        self.state.guaranteed = u32::try_from(written).unwrap_or(0);
        if self.state.framework != framework {
            self.state.framework = framework;
            cx.emit(Output::Identity { framework }, &[]);
        }
        if !self.state.needs_offers {
            let _ = self.send(cx, 0, wish(false), &[]);
        }
        for slot in 0..self.tasks.high_water() {
            if let Some(row) = self.tasks.row_mut(slot) {
                row.told = false;
            }
        }
        self.state.wait_us = RECONCILE_MIN_US;
        self.ask(cx);
    }

    /// Asks about every task at once, and again about those that were not told.
    fn ask(&mut self, cx: &mut Cx<'_>) {
        if self.tasks.is_empty() {
            self.state.ask = Time::NEVER;
            return;
        }
        let memory = core::mem::take(&mut self.scratch);
        let mut scratch = Scratch::new(memory);
        let mut list = scratch.list::<TaskAt<'static>>();
        let mut open = false;
        for slot in 0..self.tasks.high_water() {
            let Some(row) = self.tasks.row(slot).filter(|row| !row.told) else { continue };
            open = true;
            let full = list.len() as usize >= TASKS_PER_HEAD_MAX;
            let name = self.names.text(row.name);
            if full || list.push(&TaskAt { task: &name, agent: row.agent }).is_err() {
                break;
            }
        }
        let tasks = list.end();
        if open {
            let _ = self.send(cx, 0, Verb::Reconcile { tasks }, &[]);
        }
        self.scratch = memory;
        self.state.ask = if open { cx.now.after(self.state.wait_us) } else { Time::NEVER };
        self.state.wait_us = self.state.wait_us.saturating_mul(2).min(RECONCILE_MAX_US);
    }

    fn ask_again(&mut self, cx: &mut Cx<'_>) {
        if self.state.ask <= cx.now {
            self.ask(cx);
        }
    }

    fn forget_offer(&mut self, offer: OfferId) {
        if let Some((id, _)) = self.offers.find(|row| row.id == offer) {
            self.offers.remove(id);
        }
    }

    /// A task that was asked for: to be asked about until it ended.
    fn expect(&mut self, launch: &Launch<'_>) {
        let known = self.task_named(launch.task).is_some();
        if known || self.tasks.room() == 0 || !self.names.has_room_for([launch.task]) {
            return;
        }
        let Ok(name) = self.names.intern(launch.task) else { return };
        let row = Task {
            name,
            agent: launch.agent,
            state: TaskState::Staging,
            told: true,
            ..bytemuck::Zeroable::zeroed()
        };
        if let Ok(id) = self.tasks.insert(row) {
            let hash = self.tasks_by_name.hash(name.place().into(), 0);
            self.tasks_by_name.insert(&mut self.tasks, 0, hash, id);
        }
    }

    fn learn(&mut self, status: &Status<'_>) {
        let Some(id) = self.task_named(status.task) else { return };
        let Some(row) = self.tasks.get_mut(id) else { return };
        row.state = status.state;
        row.told = true;
        if !status.agent.is_none() {
            row.agent = status.agent;
        }
        // A master that never heard of it, nor waits for an agent that may have, has said all.
        let ends = status.state.is_terminal() || status.state == TaskState::Unknown;
        if ends {
            self.forget_task(id);
        }
    }

    fn forget_task(&mut self, id: Id) {
        let Some(row) = self.tasks.get(id) else { return };
        let hash = self.tasks_by_name.hash(row.name.place().into(), 0);
        self.tasks_by_name.remove(&mut self.tasks, 0, hash, id);
        self.tasks.remove(id);
        self.names.release_one(row.name);
    }

    fn task_named(&self, task: &str) -> Option<Id> {
        let name = self.names.find(task).filter(|name| !name.is_empty())?;
        let hash = self.tasks_by_name.hash(name.place().into(), 0);
        self.tasks_by_name.find(&self.tasks, 0, hash, |row| row.name == name)
    }
}

const fn wish(needed: bool) -> Verb<'static> {
    if needed { Verb::Revive { roles: Seq::EMPTY } } else { Verb::Suppress { roles: Seq::EMPTY } }
}

impl Image for Driver<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        self.names.export(to);
        self.offers.export(to);
        self.tasks.export(to);
        let description = self.description.get(..self.state.description as usize);
        let guaranteed = self.guaranteed.get(..self.state.guaranteed as usize);
        to.put(description.unwrap_or_default());
        to.put(guaranteed.unwrap_or_default());
        to.put(&self.state);
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        self.names.import(from)?;
        self.offers.import(from)?;
        self.tasks.import(from)?;
        for place in [&mut *self.description, &mut *self.guaranteed] {
            let bytes: &[u8] = from.take()?;
            let place = place.get_mut(..bytes.len()).ok_or(BadImage::TooLarge)?;
            for (to, from) in place.iter_mut().zip(bytes) {
                *to = *from;
            }
        }
        self.state = from.take()?;
        self.tasks_by_name.clear();
        for slot in 0..self.tasks.high_water() {
            if let Some((id, row)) = self.tasks.at(slot) {
                let hash = self.tasks_by_name.hash(row.name.place().into(), 0);
                self.tasks_by_name.insert(&mut self.tasks, 0, hash, id);
            }
        }
        Ok(())
    }
}

impl crate::drive::Front for Driver<'_> {
    fn apply(
        &mut self,
        now: Time,
        input: &[u8],
        out: &mut crate::drive::Encoder<'_>,
    ) -> Result<(), Refusal> {
        let (input, rest) = postcard::take_from_bytes(input).map_err(|_| Refusal::Malformed)?;
        if !rest.is_empty() {
            return Err(Refusal::Malformed);
        }
        self.step(now, input, out)
    }

    fn next_deadline(&self) -> Time {
        Self::next_deadline(self)
    }

    fn tick() -> &'static [u8] {
        // `Input::Tick` by its number.
        &[11]
    }
}

const _: () = assert!(KINDS_MAX * 40 < 1024);
