//! The decisions of a master (Mesos: `Master`).
//!
//! One way through: an [`Input`] enters [`Master::step`], the one `match` picks a handler in the
//! file of its concern, the handler checks everything and then changes its rows, and what others
//! must know leaves through the [`Outbox`] as [`Output`]s. Nothing else leaves.
//!
//! | file | concern |
//! |---|---|
//! | `rows` | what is known of agents, frameworks, tasks, executors, offers, connections |
//! | `registration` | agents: register, report, settle |
//! | `meet` | two tasks of one id: which stays |
//! | `subscription` | frameworks: subscribe, update, away, leave |
//! | `offers` | rounds of the allocator, offers made, answered, expired |
//! | `caps` | who has as many offers as it may |
//! | `groups` | tasks that are launched all or none |
//! | `launch` | ACCEPT: verdict by verdict |
//! | `updates` | status, acknowledgement, reconciliation, kill, messages |
//! | `admission` | agents: what the registry keeps of them, and waiting for them |
//! | `departure` | agents: away, lost, left, sent away |
//! | `operations` | what resources are is changed, for frameworks and operators |
//! | `feedback` | what becomes of operations: told, acknowledged, reconciled |
//! | `operators` | who operates; quota, weights |
//! | `drain` | agents that get nothing new, or are being emptied |
//! | `maintenance` | planned absences of machines |
//! | `inverse` | frameworks asked to give back what they have there |
//! | `explain` | what people ask about decisions |
//! | `facts` | what the read model is told |
//! | `input` | what enters a step and what leaves it |
//! | `image` | the whole state as bytes, for journals |
//!
//! Long work (the tasks of a lost agent, of a removed framework, an implicit reconciliation) goes
//! on in [`Input::Tick`]s, at most [`CHORE_BATCH`] tasks each, so that no step emits more than
//! [`OUTPUT_MAX`] bytes and none takes long.

mod admission;
mod caps;
mod departure;
mod drain;
pub mod explain;
mod facts;
mod feedback;
mod groups;
mod image;
mod input;
mod inverse;
mod launch;
mod maintenance;
mod meet;
mod offers;
mod operations;
mod operators;
mod owners;
mod registration;
pub mod rows;
mod subscription;
mod updates;

pub use facts::{Fact, FrameworkInfo};
pub use input::{Input, Judged, OPERATION_PLACES, Outbox, Output, Verdict};
use owners::Owner;
use rows::{
    Agent, Caller, Conn, Executor, Framework, FrameworkState, Hint, Inverse, Machine, OF_AGENT,
    OF_FRAMEWORK, Offer, Operation, RoleOf, Task, Willing,
};

use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::allocator::quota::QuotaSpec;
use crate::allocator::{self, Allocator, World};
use crate::capacity::{Capacity, Lender};
use crate::doors::Rights;
use crate::drive::OUTPUT_MAX;
use crate::index::{Bucket, Chain, Index};
use crate::limits::{BODIES_PER_FRAME_MAX, HEAD_MAX};
use crate::names::{self, Name, Names, Text};
use crate::resources::{Pool, pool};
use crate::slab::{self, Slab};
use crate::table::{Id, Slot, Table};
use crate::time::Time;
use crate::timers::{Timer, Timers};
use crate::wire::agent::{AgentCall, AgentEvent};
use crate::wire::call::{Call, Verb};
use crate::wire::event::Event;
use crate::wire::hello::Role;
use crate::wire::link::Parting;
use crate::wire::{BodyRef, Fence, FrameworkId, Head, Seq, decode};

/// Tasks that one tick of long work gets through.
pub const CHORE_BATCH: u32 = 64;
/// Offers of one agent outstanding at once; it is passed over until some are answered.
pub const OFFERS_PER_AGENT_MAX: u32 = 64;

/// What an operator chooses, and a journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Seeds the order of agents and the indexes.
    pub seed: u64,
    /// T: the unit of all waiting between masters, and the margin of what agents are given, in µs.
    pub timing_us: u64,
    /// A: an agent silent for so long has no session any more, in µs.
    pub agent_timeout_us: u64,
    /// An offer not answered for so long ends by itself, in µs; 0 = never.
    pub offer_timeout_us: u64,
    /// What a framework that names no failover timeout gets, in µs.
    pub failover_min_us: u64,
    /// From the first change to the round that offers it, in µs.
    pub allocation_delay_us: u64,
    /// Bytes of bodies that may be kept for readers.
    pub body_bytes_max: u64,
    /// How long agents that the registry has may take to come back to a new leader, in µs.
    pub reregister_us: u64,
    /// The share of them, in thousandths, that is awaited before anything is offered, if there is
    /// quota.
    pub recovery_share_milli: u32,
    /// How long that is awaited at the most, in µs.
    pub recovery_timeout_us: u64,
    /// The share of them, in thousandths, that is given up without an operator when it does not come
    /// back, but one at the least; 0 = none.
    pub removal_share_milli: u32,
    /// From one agent that is given up because it is silent to the next, in µs.
    pub removal_every_us: u64,
    /// Offers that frameworks of one caller may hold unanswered; 0 = as many as there are.
    pub offers_per_caller_max: u32,
    /// What the allocator is told.
    pub allocator: allocator::Config,
}

/// How long an answer refuses that names no time, in µs. Mesos: `Filters.refuse_seconds`.
pub const REFUSE_DEFAULT_US: u64 = 5_000_000;

/// What a handler needs of the step it is in.
pub(crate) struct Cx<'c> {
    now: Time,
    out: &'c mut dyn Outbox,
    /// Bytes emitted in this step.
    spent: usize,
}

impl Cx<'_> {
    fn emit(&mut self, output: Output<'_>) {
        self.emit_with(output, &[]);
    }

    fn emit_with(&mut self, output: Output<'_>, bodies: &[BodyRef]) {
        self.spent = self.spent.saturating_add(self.out.emit(&output, bodies));
    }

    fn fact(&mut self, fact: Fact<'_>) {
        self.emit(Output::Fact(fact));
    }

    /// True while a step may begin to emit something as large as a head.
    fn has_room(&self) -> bool {
        self.spent < OUTPUT_MAX / 2
    }
}

/// The memory of a master.
#[derive(Debug)]
pub struct Storage<'a> {
    names: (&'a mut [names::Entry], &'a mut [names::Cell], &'a mut [names::Bucket]),
    pool: pool::Memory<'a>,
    allocator: allocator::Memory<'a>,
    agents: &'a mut [Slot<Agent>],
    agent_buckets: [&'a mut [Bucket]; 2],
    agent_timers: &'a mut [Timer],
    frameworks: &'a mut [Slot<Framework>],
    framework_buckets: &'a mut [Bucket],
    framework_timers: &'a mut [Timer],
    removed: &'a mut [FrameworkId],
    owned: &'a mut [Owner],
    roles: &'a mut [slab::Node<RoleOf>],
    hints: &'a mut [slab::Node<Hint>],
    tasks: &'a mut [Slot<Task>],
    task_buckets: &'a mut [Bucket],
    executors: &'a mut [Slot<Executor>],
    executor_buckets: &'a mut [Bucket],
    offers: &'a mut [Slot<Offer>],
    operations: &'a mut [Slot<Operation>],
    machines: &'a mut [Slot<Machine>],
    inverse: &'a mut [Slot<Inverse>],
    inverse_timers: &'a mut [Timer],
    conns: &'a mut [Conn],
    callers: &'a mut [Caller],
    scratch: &'a mut [u8],
}

impl<'a> Storage<'a> {
    /// Borrows all of it, zeroed, from `lender`.
    pub fn lend(capacity: &Capacity, lender: &mut impl Lender<'a>) -> Self {
        let c = capacity;
        Self {
            names: (lender.lend(c.names), lender.lend(c.cells), lender.lend(c.names)),
            pool: pool::Memory {
                idents: lender.lend(c.idents),
                layers: lender.lend(c.layers),
                parts: lender.lend(c.parts()),
            },
            allocator: allocator::Memory::lend(c, lender),
            agents: lender.lend(c.agents),
            agent_buckets: [lender.lend(c.agents), lender.lend(c.agents)],
            agent_timers: lender.lend(c.agents),
            frameworks: lender.lend(c.frameworks),
            framework_buckets: lender.lend(c.frameworks),
            framework_timers: lender.lend(c.frameworks),
            removed: lender.lend(c.frameworks),
            owned: lender.lend(c.frameworks),
            roles: lender.lend(c.clients),
            hints: lender.lend(c.clients.saturating_mul(2)),
            tasks: lender.lend(c.tasks),
            task_buckets: lender.lend(c.tasks),
            executors: lender.lend(c.executors),
            executor_buckets: lender.lend(c.executors),
            offers: lender.lend(c.offers),
            operations: lender.lend(c.operations),
            machines: lender.lend(c.machines),
            inverse: lender.lend(c.requests),
            inverse_timers: lender.lend(c.requests),
            conns: lender.lend(c.conns),
            callers: lender.lend(c.callers),
            scratch: lender.lend(c.scratch()),
        }
    }
}

/// A master. All its memory is lent.
#[derive(Debug)]
pub struct Master<'a> {
    config: Config,
    /// The cluster that it leads; 0 = it does not lead.
    cluster: u64,
    /// Whose word its own is, once it leads.
    fence: Fence,
    names: Names<'a>,
    pool: Pool<'a>,
    allocator: Allocator<'a>,
    agents: Table<'a, Agent>,
    agents_by: [Index<'a>; 2],
    agent_timers: Timers<'a>,
    frameworks: Table<'a, Framework>,
    frameworks_by_id: Index<'a>,
    framework_timers: Timers<'a>,
    /// Frameworks that were removed, the newest.
    removed: &'a mut [FrameworkId],
    /// Those that the registry has, until they are heard of; the first ones are in use.
    owned: &'a mut [Owner],
    roles: Slab<'a, RoleOf>,
    hints: Slab<'a, Hint>,
    tasks: Table<'a, Task>,
    tasks_by_name: Index<'a>,
    executors: Table<'a, Executor>,
    executors_by_name: Index<'a>,
    offers: Table<'a, Offer>,
    /// All offers, the first to expire first.
    offers_by_age: Chain,
    operations: Table<'a, Operation>,
    machines: Table<'a, Machine>,
    inverse: Table<'a, Inverse>,
    inverse_timers: Timers<'a>,
    conns: &'a mut [Conn],
    callers: &'a mut [Caller],
    scratch: &'a mut [u8],
    counters: Counters,
}

/// Numbers that only grow, and what is waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counters {
    /// The next agent's and framework's numbers in this epoch.
    agent: u32,
    framework: u32,
    /// Bytes of bodies kept for readers.
    body_bytes: u64,
    /// When the next round is due; `Time::NEVER` = nothing is dirty.
    round: Time,
    /// When it began to lead.
    leads_since: Time,
    /// Agents and frameworks with long work.
    chores: u32,
    /// Where the search for long work goes on: agents first, then frameworks.
    chore_agent: u32,
    chore_framework: u32,
    /// The region that this master is in.
    region: Name,
    /// The next agent to be held against the maintenance schedule, as slot + 1; 0 = none.
    planning: u32,
    /// Who is answered when all of a new schedule was told, and by which ticket; 0 = nobody.
    planner: Id,
    planner_ticket: u32,
    /// Frameworks removed so far: where the next one is put down.
    removed: u32,
    /// Frameworks of the registry that were not heard of yet, and when the first is given up.
    owned: u32,
    owned_until: Time,
    /// Requests to give something back that found no room.
    unasked: u64,
    /// Offers that were not made because their caller has as many as it may.
    capped: u64,
    /// Agents that the registry has and that have not come back to this master.
    recovered: u32,
    /// Agents that are awaited before anything is offered, and until when.
    awaited: u32,
    recovery_ends: Time,
    /// Agents that never came back and that may still be given up without an operator.
    removals_left: u32,
    /// Those that are not given up for that reason.
    kept_back: u32,
    /// When the next silent agent may be given up.
    next_removal: Time,
}

/// What is in use, for gauges. Each has its bound in [`Capacity`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Rows of agents, frameworks, tasks, executors, offers.
    pub agents: u32,
    /// See `agents`.
    pub frameworks: u32,
    /// See `agents`.
    pub tasks: u32,
    /// See `agents`.
    pub executors: u32,
    /// See `agents`.
    pub offers: u32,
    /// Operations whose end was not told, or not acknowledged.
    pub operations: u32,
    /// Names, and cells of their text.
    pub names: u32,
    /// See `names`.
    pub cells: u32,
    /// Identities, amounts and spans of resources.
    pub idents: u32,
    /// See `idents`.
    pub pieces: u32,
    /// See `idents`.
    pub spans: u32,
    /// Refusals in force, and those that went early for want of room.
    pub filters: u32,
    /// See `filters`.
    pub filters_evicted: u64,
    /// Agents with something new to offer.
    pub dirty: u32,
    /// Bytes of bodies kept for readers.
    pub body_bytes: u64,
    /// Agents that the registry has and that have not come back to this master.
    pub recovered: u32,
    /// Agents that are awaited before anything is offered.
    pub awaited: u32,
    /// Agents that never came back and that only an operator may give up.
    pub kept_back: u32,
    /// Requests to give something back that found no room.
    pub unasked: u64,
    /// Offers that a caller may hold; 0 = as many as there are.
    pub per_caller_max: u32,
    /// Offers that were not made because their caller has as many as it may.
    pub capped: u64,
}

impl<'a> Master<'a> {
    /// A master that knows nothing and does not lead. `NamesFull`, `IdentitiesFull` or `RolesFull`
    /// when a capacity is below what even an idle master needs.
    pub fn new(storage: Storage<'a>, config: Config) -> Result<Self, Refusal> {
        let seed = config.seed;
        let (entries, cells, buckets) = storage.names;
        let mut names = Names::new(entries, cells, buckets, seed);
        let pool = Pool::new(storage.pool, &mut names).map_err(|_| Refusal::IdentitiesFull)?;
        let [by_id, by_key] = storage.agent_buckets;
        Ok(Self {
            config,
            cluster: 0,
            fence: Fence::default(),
            names,
            pool,
            allocator: Allocator::new(storage.allocator, config.allocator, seed)?,
            agents: Table::new(storage.agents),
            agents_by: [Index::new(by_id, seed), Index::new(by_key, seed)],
            agent_timers: Timers::new(storage.agent_timers),
            frameworks: Table::new(storage.frameworks),
            frameworks_by_id: Index::new(storage.framework_buckets, seed),
            framework_timers: Timers::new(storage.framework_timers),
            removed: storage.removed,
            owned: storage.owned,
            roles: Slab::new(storage.roles),
            hints: Slab::new(storage.hints),
            tasks: Table::new(storage.tasks),
            tasks_by_name: Index::new(storage.task_buckets, seed),
            executors: Table::new(storage.executors),
            executors_by_name: Index::new(storage.executor_buckets, seed),
            offers: Table::new(storage.offers),
            offers_by_age: Chain::EMPTY,
            operations: Table::new(storage.operations),
            machines: Table::new(storage.machines),
            inverse: Table::new(storage.inverse),
            inverse_timers: Timers::new(storage.inverse_timers),
            conns: storage.conns,
            callers: storage.callers,
            scratch: storage.scratch,
            counters: Counters { round: Time::NEVER, ..Counters::default() },
        })
    }

    /// Gives the memory back, as the master left it.
    pub fn release(self) -> Storage<'a> {
        let [by_id, by_key] = self.agents_by;
        Storage {
            names: self.names.release(),
            pool: self.pool.release(),
            allocator: self.allocator.release(),
            agents: self.agents.release(),
            agent_buckets: [by_id.release(), by_key.release()],
            agent_timers: self.agent_timers.release(),
            frameworks: self.frameworks.release(),
            framework_buckets: self.frameworks_by_id.release(),
            framework_timers: self.framework_timers.release(),
            removed: self.removed,
            owned: self.owned,
            roles: self.roles.release(),
            hints: self.hints.release(),
            tasks: self.tasks.release(),
            task_buckets: self.tasks_by_name.release(),
            executors: self.executors.release(),
            executor_buckets: self.executors_by_name.release(),
            offers: self.offers.release(),
            operations: self.operations.release(),
            machines: self.machines.release(),
            inverse: self.inverse.release(),
            inverse_timers: self.inverse_timers.release(),
            conns: self.conns,
            callers: self.callers,
            scratch: self.scratch,
        }
    }

    /// Applies one input. What it costs is said at each handler; none emits more than
    /// [`OUTPUT_MAX`] bytes. A [`Refusal`] means that nothing changed.
    pub fn step(
        &mut self,
        now: Time,
        input: Input<'_>,
        out: &mut dyn Outbox,
    ) -> Result<(), Refusal> {
        let mut cx = Cx { now, out, spent: 0 };
        let stepped = self.dispatch(&mut cx, input);
        invariant!(cx.spent <= OUTPUT_MAX, "a step emitted more than its bound");
        if self.wants_round() && self.counters.round == Time::NEVER {
            self.counters.round = now.after(self.config.allocation_delay_us);
        }
        stepped
    }

    /// When [`Input::Tick`] is due: a round, long work, or the next of all deadlines. O(1).
    pub fn next_deadline(&self) -> Time {
        if self.counters.chores > 0 || self.counters.planning > 0 {
            return Time(0);
        }
        let offer = self.offers_by_age.first(&self.offers).and_then(|id| self.offers.get_ref(id));
        self.counters
            .round
            .min(self.agent_timers.next().max(self.counters.next_removal))
            .min(self.recovery_ends())
            .min(self.framework_timers.next())
            .min(self.first_owner())
            .min(self.inverse_timers.next())
            .min(self.allocator.next_expiry())
            .min(offer.map_or(Time::NEVER, |offer| offer.expires))
    }

    /// What is in use.
    pub fn gauges(&self) -> Gauges {
        let (idents, pieces, spans) = self.pool.used();
        let allocator = self.allocator.gauges();
        Gauges {
            agents: self.agents.len(),
            frameworks: self.frameworks.len(),
            tasks: self.tasks.len(),
            executors: self.executors.len(),
            offers: self.offers.len(),
            operations: self.operations.len(),
            names: self.names.len(),
            cells: self.names.live_cells(),
            idents,
            pieces,
            spans,
            filters: allocator.filters,
            filters_evicted: allocator.evicted,
            dirty: allocator.dirty,
            body_bytes: self.counters.body_bytes,
            recovered: self.counters.recovered,
            awaited: self.counters.awaited,
            kept_back: self.counters.kept_back,
            unasked: self.counters.unasked,
            per_caller_max: self.config.offers_per_caller_max,
            capped: self.counters.capped,
        }
    }

    /// Whose word this master's is.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    fn dispatch(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<(), Refusal> {
        match input {
            Input::Caller { caller, name, rights } => self.caller(caller, name, rights),
            Input::Opened { conn, role, version, caller, head_max } => {
                self.opened(conn, role, version, caller, head_max)
            }
            Input::Closed { conn, since } => self.closed(cx, conn, since),
            Input::Frame { conn, head, bodies, verdicts } => {
                self.frame(cx, conn, head, &bodies, &verdicts)
            }
            Input::Congested { conn } => self.congested(conn, true),
            Input::Drained { conn } => self.congested(conn, false),
            Input::Tick => {
                self.tick(cx);
                Ok(())
            }
            Input::Weight { role, weight } => self.set_weight(cx, role, weight),
            Input::LeaveOut { name } => self.allocator.leave_out(&mut self.names, name),
            Input::Leads { cluster, fence } => self.leads(cx, cluster, fence),
            Input::Quota { role, guarantees, limits } => {
                self.set_quota(cx, role, &QuotaSpec { guarantees, limits }, true)
            }
            Input::Region { name } => self.set_region(name),
            Input::Judged { framework, verdicts } => self.judged(framework, &verdicts),
            Input::Admitted(admission) => self.recall(cx, &admission),
            Input::Hosted { agent, hostname } => self.recall_host(cx, agent, hostname),
            Input::Machine { planned, down } => self.recall_machine(&planned, down),
            Input::Removed { framework } => self.recall_removed(framework),
            Input::Owned(owned) => self.recall_owned(owned),
            Input::Marked { agent } => self.marked(cx, agent),
        }
    }

    fn frame(
        &mut self,
        cx: &mut Cx<'_>,
        conn: Id,
        head: &[u8],
        bodies: &Seq<'_, BodyRef>,
        verdicts: &Seq<'_, Verdict<'_>>,
    ) -> Result<(), Refusal> {
        let known = *self.conn(conn).ok_or(Refusal::WrongConnection)?;
        let head: Head<'_> = decode(head).map_err(|_| Refusal::Malformed)?;
        let mut stored = heapless::Vec::<BodyRef, BODIES_PER_FRAME_MAX>::new();
        for body in bodies.iter() {
            stored.push(body).map_err(|_| Refusal::Malformed)?;
        }
        match (known.role, head) {
            (Role::Agent, Head::AgentCall(call)) => self.agent_call(cx, conn, call, &stored),
            (Role::Client, Head::OperatorCall(call)) => self.operator_call(cx, conn, &call),
            (Role::Framework, Head::Call(call)) => {
                let ticket = call.ticket;
                let result = self.call(cx, conn, call, &stored, verdicts);
                if ticket != 0 {
                    let head = Head::Event(Event::Reply { ticket, result });
                    cx.emit(Output::Send { conn, head });
                }
                result
            }
            _ => Err(Refusal::WrongConnection),
        }
    }

    fn agent_call(
        &mut self,
        cx: &mut Cx<'_>,
        conn: Id,
        call: AgentCall<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        self.check_leads(cx, conn)?;
        if let AgentCall::Register(register) = call {
            let registered = self.register(cx, conn, &register);
            return registered.inspect_err(|refusal| self.refuse_agent(cx, conn, *refusal));
        }
        let agent = self.agent_on(conn)?;
        match call {
            AgentCall::Register(_) => Ok(()),
            AgentCall::Report(report) => {
                let reported = self.report(cx, agent, &report);
                reported.inspect_err(|refusal| self.refuse_agent(cx, conn, *refusal))
            }
            AgentCall::Bodies { session, tasks } => self.bodies(cx, agent, session, &tasks, bodies),
            AgentCall::Settled { session } => self.settled(cx, agent, session),
            AgentCall::Update { framework, latest, status } => {
                self.update(cx, agent, framework, latest, &status, bodies)
            }
            AgentCall::OperationUpdate { framework, status } => {
                self.operation_update(cx, agent, framework, &status)
            }
            AgentCall::Message { framework, executor, data } => {
                self.message_up(cx, agent, framework, executor, data.of(bodies))
            }
            AgentCall::ExecutorEnded { framework, executor, exit } => {
                self.executor_ended(cx, agent, framework, executor, exit)
            }
            AgentCall::Totals { session, resources } => self.totals(cx, agent, session, &resources),
            AgentCall::Leave { session } => self.leave(cx, agent, session),
            AgentCall::Leaving { session } => self.leaving(cx, agent, session),
            AgentCall::Draining { session, grace_us, gone } => {
                self.draining(cx, agent, session, grace_us, gone)
            }
            AgentCall::Ran { session, tasks } => self.ran(cx, agent, session, &tasks),
            AgentCall::Told { session, tasks } => self.told(cx, agent, session, &tasks, bodies),
        }
    }

    /// Nobody is answered by a master that does not lead: whoever asks is to come again.
    fn check_leads(&self, cx: &mut Cx<'_>, conn: Id) -> Result<(), Refusal> {
        if self.cluster != 0 {
            return Ok(());
        }
        let message = Refusal::NotLeading.sentence();
        cx.emit(Output::Close { conn, reason: Parting::NoLeader, message });
        Err(Refusal::NotLeading)
    }

    /// An agent hears why it is not registered, and comes again with a new session.
    fn refuse_agent(&self, cx: &mut Cx<'_>, conn: Id, refusal: Refusal) {
        let message = refusal.sentence();
        // One that is gone need not come again.
        let event = if refusal == Refusal::AgentGone {
            AgentEvent::Shutdown { message }
        } else {
            AgentEvent::Refused { fence: self.fence(), refusal, message }
        };
        cx.emit(Output::Send { conn, head: Head::AgentEvent(event) });
    }

    fn call(
        &mut self,
        cx: &mut Cx<'_>,
        conn: Id,
        call: Call<'_>,
        bodies: &[BodyRef],
        verdicts: &Seq<'_, Verdict<'_>>,
    ) -> Result<(), Refusal> {
        self.check_leads(cx, conn)?;
        if let Verb::Subscribe(subscribe) = call.verb {
            return self.subscribe(cx, conn, call.framework, &subscribe, bodies);
        }
        let framework = self.framework_on(conn, call.framework)?;
        match call.verb {
            Verb::Subscribe(_) => Ok(()),
            Verb::Teardown => self.teardown(cx, framework),
            Verb::Accept(accept) => self.accept(cx, framework, &accept, true, bodies, verdicts),
            Verb::AcceptPart(accept) => {
                self.accept(cx, framework, &accept, false, bodies, verdicts)
            }
            Verb::Decline { offers, refuse_us } => self.decline(cx, framework, &offers, refuse_us),
            Verb::Revive { roles } => self.revive(cx.now, framework, &roles),
            Verb::Suppress { roles } => self.suppress(framework, &roles),
            Verb::Kill { task, grace_us } => self.kill(cx, framework, &task, grace_us),
            Verb::Shutdown { executor, agent } => {
                self.shutdown_executor(cx, framework, executor, agent)
            }
            Verb::Acknowledge { task, uuid } => self.acknowledge(cx, framework, task, uuid),
            Verb::Reconcile { tasks } => self.reconcile(cx, framework, &tasks),
            Verb::Message { agent, executor, data } => {
                self.message_down(cx, framework, agent, executor, data.of(bodies))
            }
            Verb::Request { requests } => self.request(cx, framework, &requests),
            Verb::UpdateFramework(update) => self.update_framework(cx, framework, &update, bodies),
            Verb::Constrain { roles } => self.constrain(framework, &roles),
            Verb::AcceptInverse { offers, refuse_us } => {
                self.answer_inverse(cx, framework, &offers, refuse_us, Willing::Accepted)
            }
            Verb::DeclineInverse { offers, refuse_us } => {
                self.answer_inverse(cx, framework, &offers, refuse_us, Willing::Declined)
            }
            Verb::AcknowledgeOperation { operation, uuid } => {
                self.acknowledge_operation(cx, framework, operation.operation, uuid)
            }
            Verb::ReconcileOperations { operations } => {
                self.reconcile_operations(cx, framework, &operations)
            }
        }
    }

    /// Deadlines first, then long work, then a round. O(what is due), bounded.
    fn tick(&mut self, cx: &mut Cx<'_>) {
        self.expire_offers(cx);
        self.recover_some(0, cx.now);
        self.expire_agents(cx);
        self.expire_frameworks(cx);
        self.plan_some(cx);
        self.do_chores(cx);
        self.allocate(cx);
        self.ask_some(cx);
    }

    /// What is durable is the election's affair, and was before it said this.
    fn leads(&mut self, cx: &mut Cx<'_>, cluster: u64, fence: Fence) -> Result<(), Refusal> {
        if self.cluster != 0 || cluster == 0 || fence.epoch == 0 {
            return Err(Refusal::OutOfTurn);
        }
        (self.cluster, self.fence) = (cluster, fence);
        self.counters.leads_since = cx.now;
        self.begin_recovery(cx.now);
        self.await_owners(cx.now);
        cx.fact(Fact::Leading { cluster, fence });
        Ok(())
    }

    fn set_region(&mut self, name: &str) -> Result<(), Refusal> {
        let name = self.names.intern(name).map_err(|_| Refusal::NamesFull)?;
        let before = core::mem::replace(&mut self.counters.region, name);
        self.names.release_one(before);
        Ok(())
    }

    fn caller(&mut self, caller: u16, name: &str, rights: Rights) -> Result<(), Refusal> {
        let row = *self.callers.get(usize::from(caller)).ok_or(Refusal::NamesFull)?;
        let name = self.names.intern(name).map_err(|_| Refusal::NamesFull)?;
        self.names.release_one(row.name);
        if let Some(row) = self.callers.get_mut(usize::from(caller)) {
            *row = Caller { name, rights };
        }
        Ok(())
    }

    fn opened(
        &mut self,
        conn: Id,
        role: Role,
        version: u16,
        caller: u16,
        head_max: u32,
    ) -> Result<(), Refusal> {
        let row = self.conns.get_mut(conn.index as usize).ok_or(Refusal::WrongConnection)?;
        if row.generation == conn.generation {
            return Err(Refusal::Exists);
        }
        // What the slot's last connection left was said by its `Closed`.
        *row = Conn { generation: conn.generation, role, version, caller, head_max, who: Id::NONE };
        Ok(())
    }

    fn closed(&mut self, cx: &mut Cx<'_>, conn: Id, since: Time) -> Result<(), Refusal> {
        let row = self.conn_mut(conn).ok_or(Refusal::WrongConnection)?;
        let Conn { role, who, .. } = core::mem::replace(row, bytemuck::Zeroable::zeroed());
        match role {
            Role::Agent => self.agent_away(cx, who, since),
            Role::Framework => self.framework_away(cx, who),
            Role::Client | Role::Master | Role::Executor => {}
        }
        Ok(())
    }

    fn conn(&self, conn: Id) -> Option<&Conn> {
        let row = self.conns.get(conn.index as usize)?;
        (row.generation == conn.generation && conn.generation != 0).then_some(row)
    }

    fn conn_mut(&mut self, conn: Id) -> Option<&mut Conn> {
        let row = self.conns.get_mut(conn.index as usize)?;
        (row.generation == conn.generation && conn.generation != 0).then_some(row)
    }

    /// The agent that speaks on a connection.
    fn agent_on(&self, conn: Id) -> Result<Id, Refusal> {
        let who = self.conn(conn).map_or(Id::NONE, |row| row.who);
        self.agents.get_ref(who).map(|_| who).ok_or(Refusal::StaleSession)
    }

    /// The framework that speaks on a connection, which says that it is `id`.
    fn framework_on(&self, conn: Id, id: FrameworkId) -> Result<Id, Refusal> {
        let who = self.conn(conn).ok_or(Refusal::WrongConnection)?.who;
        let framework = self.frameworks.get_ref(who).ok_or(Refusal::Disconnected)?;
        if framework.id != id {
            return Err(Refusal::UnknownFramework);
        }
        if framework.state != FrameworkState::Active {
            return Err(Refusal::Disconnected);
        }
        Ok(who)
    }

    /// The name and rights of whoever is behind a connection.
    fn caller_of(&self, conn: Id) -> (Name, Rights) {
        let caller = self.conn(conn).map_or(u16::MAX, |row| row.caller);
        let row = self.callers.get(usize::from(caller));
        row.map_or((Name::EMPTY, Rights::NONE), |row| (row.name, row.rights))
    }

    /// The largest head that a connection takes.
    fn head_max(&self, conn: Id) -> usize {
        self.conn(conn).map_or(0, |row| row.head_max as usize).min(HEAD_MAX)
    }

    fn text(&self, name: Name) -> Text {
        self.names.text(name)
    }

    /// Keeps a body for readers, if there is room; what cannot be kept is not shown.
    fn keep_body(&mut self, cx: &mut Cx<'_>, body: BodyRef) -> BodyRef {
        let sum = self.counters.body_bytes.saturating_add(u64::from(body.len));
        if body.is_none() || sum > self.config.body_bytes_max {
            return BodyRef::NONE;
        }
        self.counters.body_bytes = sum;
        cx.emit(Output::KeepBody(body));
        body
    }

    fn drop_body(&mut self, cx: &mut Cx<'_>, body: BodyRef) {
        if !body.is_none() {
            self.counters.body_bytes = self.counters.body_bytes.saturating_sub(u64::from(body.len));
            cx.emit(Output::DropBody(body));
        }
    }

    /// Sends an event to a framework, if it is connected and its protocol has that event.
    fn tell(&mut self, cx: &mut Cx<'_>, framework: Id, event: Event<'_>, bodies: &[BodyRef]) {
        let Some(row) = self.frameworks.get_ref(framework) else { return };
        let Some(conn) = row.conn.some().filter(|_| row.state == FrameworkState::Active) else {
            return;
        };
        let head = Head::Event(event);
        if self.conn(conn).is_some_and(|row| row.version >= head.since()) {
            cx.emit_with(Output::Send { conn, head }, bodies);
        }
    }

    /// Sends an event to an agent, if it is connected. True when it was sent.
    fn order(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        event: AgentEvent<'_>,
        bodies: &[BodyRef],
    ) -> bool {
        let conn = self.agents.get_ref(agent).and_then(|row| row.conn.some());
        if let Some(conn) = conn {
            cx.emit_with(Output::Send { conn, head: Head::AgentEvent(event) }, bodies);
        }
        conn.is_some()
    }

    /// Runs `work` with two pieces of memory for lists.
    fn with_scratch<T>(&mut self, work: impl FnOnce(&mut Self, &mut [u8], &mut [u8]) -> T) -> T {
        let memory = core::mem::take(&mut self.scratch);
        let half = memory.len() / 2;
        let done = match memory.split_at_mut_checked(half) {
            Some((outer, inner)) => work(self, outer, inner),
            None => work(self, &mut [], &mut []),
        };
        self.scratch = memory;
        done
    }

    fn world(&mut self) -> (&mut Allocator<'a>, World<'_, 'a>) {
        (&mut self.allocator, World { pool: &mut self.pool, names: &mut self.names })
    }
}

impl crate::drive::Front for Master<'_> {
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
        // `Input::Tick` is a variant without fields: its number.
        &[6]
    }
}

#[cfg(test)]
mod tests;
