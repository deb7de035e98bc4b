//! The decisions of an agent (Mesos: `Slave`): what it accepts, when it starts and ends it, and
//! that every end is told until it is acknowledged.
//!
//! It knows nothing of processes: [`Hand`]s are what it asks of those who do, and their reports
//! come back as inputs. It knows nothing of files: [`Record`]s are what it must not forget, and
//! what waits for the disk waits for [`Input::Persisted`].
//!
//! | file | concern |
//! |---|---|
//! | `rows` | what is known of frameworks, executors, tasks, updates |
//! | `ledger` | what must not be forgotten |
//! | `recovery` | how a start reads it, and writes it anew |
//! | `session` | the conversation with the master: register, report, obey |
//! | `launch` | what is accepted and started |
//! | `ends` | kills, limits, ends of containers |
//! | `checks` | what checks and health checks found |
//! | `drain` | an end to everything here: leaving, and being emptied |
//! | `updates` | told in order, again and again, until acknowledged |
//! | `executors` | the conversation with custom executors |
//! | `groups` | tasks that live and die together |
//! | `preempt` | what may be taken back is |
//! | `operations` | what resources are is changed, kept and told |
//! | `restarts` | tasks that are started again by their rule |

mod checks;
mod drain;
mod ends;
mod executors;
mod groups;
mod launch;
pub mod ledger;
mod operations;
mod preempt;
mod recovery;
pub mod restarts;
pub mod rows;
mod session;
mod updates;

use drain::Drain;
use ledger::Record;
use restarts::Clock;
use rows::{Executor, Framework, GIVEN, Operation, Task, Update};

use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::capacity::{Capacity, Lender};
use crate::drive::OUTPUT_MAX;
use crate::image::{BadImage, Image, Reader, Writer};
use crate::index::{Bucket, Index};
use crate::limits::BODIES_PER_FRAME_MAX;
use crate::names::{self, Name, Names, Text};
use crate::resources::{Holding, Pool, pool};
use crate::slab::{self, Slab};
use crate::table::{Id, Slot, Table};
use crate::time::Time;
use crate::timers::{Timer, Timers};
use crate::wire::agent::{AgentCall, Register};
use crate::wire::hello::Role;
use crate::wire::link::Parting;
use crate::wire::resource::Resource;
use crate::wire::task::{Exit, Kind, Reason};
use crate::wire::{
    AgentId, Body, BodyRef, Check, ContainerId, Fence, FrameworkId, Head, Seq, Session, decode,
};

pub use crate::limits::KILL_GRACE_US;

/// From being asked to end to being ended, for executors, in µs. Mesos: 5 s.
pub const SHUTDOWN_GRACE_US: u64 = 5_000_000;
/// An update that is not acknowledged is sent again after so long, then after twice that, and so
/// on, in µs. Mesos: 10 s.
pub const RETRY_MIN_US: u64 = 10_000_000;
/// But at least so often, in µs. Mesos: 10 min.
pub const RETRY_MAX_US: u64 = 600_000_000;

/// What an operator chooses, and a journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Seeds the indexes.
    pub seed: u64,
    /// Kinds of tasks it runs: bits of [`Kind::bit`].
    pub task_kinds: u32,
    /// Tasks run as their users; else all as the agent itself.
    pub switch_user: bool,
    /// Bytes of bodies that may be kept.
    pub body_bytes_max: u64,
    /// From its start until an executor subscribes, in µs.
    pub registration_us: u64,
    /// From the agent's start until an executor that was there subscribes again, in µs.
    pub reregistration_us: u64,
}

/// Everything that reaches an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input<'a> {
    /// What it is and has: the registration that masters get, but for ids and session.
    #[serde(borrow)]
    Describe(Register<'a>),
    /// A record of the ledger, in order.
    Record {
        /// The record, as it was read.
        record: &'a [u8],
        /// Its bodies, in order.
        #[serde(borrow)]
        bodies: Seq<'a, BodyRef>,
    },
    /// A container that the keeper still knows.
    Container {
        /// Which.
        container: ContainerId,
        /// How it ended; none = it runs.
        ended: Option<Exit>,
    },
    /// Everything that survived was told: the agent starts.
    Recovered {
        /// The kernel's name of its boot.
        boot: [u8; 16],
    },
    /// A connection is open: to a master, or from an executor.
    Opened {
        /// Which.
        conn: Id,
        /// What the peer said it is.
        role: Role,
        /// The largest head it takes.
        head_max: u32,
    },
    /// A connection is gone, or was ended because it was silent.
    Closed {
        /// Which.
        conn: Id,
    },
    /// A head came.
    Frame {
        /// On which connection.
        conn: Id,
        /// The head, as it came.
        head: &'a [u8],
        /// Its bodies, in order.
        #[serde(borrow)]
        bodies: Seq<'a, BodyRef>,
    },
    /// A record is durable, or written if it need not be.
    Persisted {
        /// Which.
        sequence: u64,
    },
    /// A container runs.
    Started {
        /// Which.
        container: ContainerId,
    },
    /// A container could not be started.
    Unstarted {
        /// Which.
        container: ContainerId,
        /// Why, in a sentence.
        message: &'a str,
    },
    /// A container ended.
    Ended {
        /// Which.
        container: ContainerId,
        /// How.
        exit: Exit,
        /// The limit it was ended for.
        limit: Option<Reason>,
        /// About that limit, in a sentence.
        message: &'a str,
        /// What the last update of what ran in it carries then; none = what was carried before.
        status: BodyRef,
    },
    /// The keeper died: nothing of it can be waited for any more.
    KeeperGone,
    /// The agent is to end everything, and to leave when every end is acknowledged. Said again:
    /// as soon as everything has ended.
    Leave,
    /// A deadline is due.
    Tick,
    /// The ledger's file has grown too large.
    Compact,
    /// The check of a task found something else than before, or is about to begin.
    Checked {
        /// In which container.
        container: ContainerId,
        /// What, as a status carries it.
        status: BodyRef,
    },
    /// The health check of a task found something worth telling.
    Health {
        /// In which container.
        container: ContainerId,
        /// What.
        healthy: bool,
        /// It failed so often that the task is to be killed.
        kill: bool,
    },
    /// The directories of volumes are as an operation wants them.
    Volumes {
        /// The operation's number.
        sequence: u64,
        /// Why they are not, in a sentence; empty = they are.
        failed: &'a str,
    },
    /// What runs in a container holds what may be taken back, and has to make room (Mesos: a
    /// correction of a `QoSController`).
    Preempt {
        /// Which: a task's own, or an executor's with all its tasks.
        container: ContainerId,
    },
    /// What the kernel says of its wall clock: before the start, and when it was asked.
    Clock {
        /// Others have set it, and it keeps up with theirs.
        synchronised: bool,
    },
    /// The disk of its work directory is full, or has room again. What must be written still is;
    /// nothing new is taken.
    Disk {
        /// It has no room.
        full: bool,
    },
}

/// An input with the wall clock beside it, which is data only: it is told, never decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped<'a> {
    /// µs of Unix time.
    pub wall_us: u64,
    /// The input.
    #[serde(borrow)]
    pub input: Input<'a>,
}

/// Everything that leaves an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output<'a> {
    /// A head for a connection; its bodies are those emitted with it.
    Send {
        /// Which.
        conn: Id,
        /// The head.
        #[serde(borrow)]
        head: Head<'a>,
    },
    /// A connection is to end.
    Close {
        /// Which.
        conn: Id,
        /// The sort of end.
        reason: Parting,
        /// For people.
        message: &'a str,
    },
    /// A record is to be appended to the ledger, and [`Input::Persisted`] to follow.
    Persist {
        /// Which.
        sequence: u64,
        /// Only when it is on disk.
        sync: bool,
        /// The record; its bodies are those emitted with it.
        #[serde(borrow)]
        record: Record<'a>,
    },
    /// Something to be done with a container.
    #[serde(borrow)]
    Hand(Hand<'a>),
    /// The session that pings are to name; the zero session: none.
    Session {
        /// Which.
        session: Session,
        /// Silence for so long ends it, in µs.
        timeout_us: u64,
    },
    /// The agent is known now by this id, in this cluster.
    Identity {
        /// The id.
        agent: AgentId,
        /// The cluster.
        cluster: u64,
        /// Whose word counts.
        fence: Fence,
    },
    /// A body is to stay in the store.
    KeepBody(BodyRef),
    /// A body that was kept may go.
    DropBody(BodyRef),
    /// Everything ended: the process may.
    Left,
    /// What the agent has, with what operations have made of it: readers are to know.
    Resources {
        /// All of it.
        #[serde(borrow)]
        resources: Seq<'a, Resource<'a>>,
    },
    /// A master has heard a later start of it, and that is on disk: the process may end.
    Outlived,
    /// Its disk is full, or has room again: readers are to know.
    Disk {
        /// It takes nothing new.
        full: bool,
    },
}

/// Something to be done with a container, by those who know processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hand<'a> {
    /// Start it.
    #[serde(borrow)]
    Launch(HandLaunch<'a>),
    /// Send every process of it this signal.
    Signal {
        /// Which.
        container: ContainerId,
        /// Which signal.
        signal: u8,
    },
    /// Kill everything in it, until nothing is left.
    Destroy {
        /// Which.
        container: ContainerId,
    },
    /// Its end was taken in durably: nobody asks for it any more. May come twice.
    Forget {
        /// Which.
        container: ContainerId,
    },
    /// It is not to be started any more: if it has no process yet, say that it has none.
    Abandon {
        /// Which.
        container: ContainerId,
    },
    /// Every container but these may be cleaned away: what a start did not find in its ledger.
    Keep {
        /// Which stay.
        #[serde(borrow)]
        containers: Seq<'a, ContainerId>,
    },
    /// Make or remove the directories of volumes, in the order in which this is said, and before any
    /// later launch. Answered by [`Input::Volumes`].
    Volumes {
        /// The operation's number; 0 = no answer is wanted.
        sequence: u64,
        /// What is to be done.
        order: VolumeOrder,
        /// To which.
        #[serde(borrow)]
        volumes: Seq<'a, Resource<'a>>,
    },
    /// Say what the kernel says of its clock: [`Input::Clock`].
    Clock,
}

choice! {
    /// What is to be done to directories of volumes.
    pub enum VolumeOrder {
        /// They are to be there, with what is in them.
        Make = 0,
        /// They are to be there, and empty.
        MakeNew = 1,
        /// They are to be gone, with what is in them.
        Remove = 2,
    }
}

/// A container to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandLaunch<'a> {
    /// Its id, which names its cgroup and sandbox.
    pub container: ContainerId,
    /// The container that it is to be inside of.
    pub inside: Option<ContainerId>,
    /// Which start of the task this is.
    pub attempt: u32,
    /// The session in which it was accepted: the keeper starts nothing of an older one.
    pub session: Session,
    /// Whose.
    pub framework: FrameworkId,
    /// The task; empty for an executor.
    pub task: &'a str,
    /// The executor; empty for a command.
    pub executor: &'a str,
    /// The user to run as.
    pub user: &'a str,
    /// What it holds.
    #[serde(borrow)]
    pub resources: Seq<'a, Resource<'a>>,
    /// How far above that it may go: see [`rows::Task::limits`].
    pub limits: [u64; 2],
    /// It stops by itself when no master has answered for so long, in µs; 0 = never.
    pub stop_after_us: u64,
    /// With so much grace then, in µs.
    pub grace_us: u64,
    /// What only the agent may see: its command.
    pub private: Body,
    /// What everybody may see.
    pub public: Body,
}

/// Takes what leaves an agent, in order.
pub trait Outbox {
    /// Takes one output with the bodies it names; returns the bytes that it took.
    fn emit(&mut self, output: &Output<'_>, bodies: &[BodyRef]) -> usize;
}

impl Outbox for crate::drive::Encoder<'_> {
    fn emit(&mut self, output: &Output<'_>, bodies: &[BodyRef]) -> usize {
        self.put(output, bodies)
    }
}

/// What a handler needs of the step it is in.
pub(crate) struct Cx<'c> {
    now: Time,
    wall_us: u64,
    out: &'c mut dyn Outbox,
    spent: usize,
}

impl Cx<'_> {
    fn emit(&mut self, output: Output<'_>) {
        self.emit_with(output, &[]);
    }

    fn emit_with(&mut self, output: Output<'_>, bodies: &[BodyRef]) {
        self.spent = self.spent.saturating_add(self.out.emit(&output, bodies));
    }

    fn hand(&mut self, hand: Hand<'_>) {
        self.emit(Output::Hand(hand));
    }

    fn has_room(&self) -> bool {
        self.spent < OUTPUT_MAX / 2
    }
}

/// The memory of an agent.
#[derive(Debug)]
pub struct Storage<'a> {
    names: (&'a mut [names::Entry], &'a mut [names::Cell], &'a mut [names::Bucket]),
    pool: pool::Memory<'a>,
    frameworks: &'a mut [Slot<Framework>],
    framework_buckets: &'a mut [Bucket],
    roles: &'a mut [slab::Node<Name>],
    executors: &'a mut [Slot<Executor>],
    executor_buckets: &'a mut [Bucket],
    tasks: &'a mut [Slot<Task>],
    task_buckets: &'a mut [Bucket],
    task_timers: [&'a mut [Timer]; 4],
    executor_timers: &'a mut [Timer],
    updates: &'a mut [Slot<Update>],
    operations: &'a mut [Slot<Operation>],
    operation_timers: &'a mut [Timer],
    description: &'a mut [u8],
    scratch: &'a mut [u8],
}

impl<'a> Storage<'a> {
    /// Borrows all of it, zeroed, from `lender`. An agent of a profile is as large as the whole
    /// cluster's tasks allow; daemons give theirs a capacity of its own.
    pub fn lend(capacity: &Capacity, lender: &mut impl Lender<'a>) -> Self {
        let c = capacity;
        Self {
            names: (lender.lend(c.names), lender.lend(c.cells), lender.lend(c.names)),
            pool: pool::Memory {
                idents: lender.lend(c.idents),
                layers: lender.lend(c.layers),
                parts: lender.lend(c.parts()),
            },
            frameworks: lender.lend(c.frameworks),
            framework_buckets: lender.lend(c.frameworks),
            roles: lender.lend(c.clients),
            executors: lender.lend(c.executors),
            executor_buckets: lender.lend(c.executors),
            tasks: lender.lend(c.tasks),
            task_buckets: lender.lend(c.tasks),
            task_timers: core::array::from_fn(|_| lender.lend(c.tasks)),
            executor_timers: lender.lend(c.executors),
            updates: lender.lend(c.updates),
            operations: lender.lend(c.operations),
            operation_timers: lender.lend(c.operations),
            description: lender.lend(c.head_max),
            scratch: lender.lend(c.scratch()),
        }
    }
}

/// Where the conversation with masters is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Link {
    /// The connection to the master; none while there is none.
    conn: Id,
    /// The largest head the master takes.
    head_max: u32,
    /// The session; its counter grows with each registration built.
    session: Session,
    /// The master opened the session.
    admitted: bool,
    /// And its word is on disk: it is obeyed.
    registered: bool,
    /// Reports announced, how many went, and where the next begins.
    parts: u32,
    part: u32,
    next: u32,
    /// The record of the word that must be durable before it is obeyed.
    fence_record: u64,
    /// Silence for so long ends a session, in µs.
    timeout_us: u64,
    /// The master thought possible what was not: it hears all that the agent has with each operation.
    diverged: bool,
}

/// Numbers of this start, and what it waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counters {
    /// The start, from 1.
    incarnation: u32,
    /// The next container, update and record.
    container: u32,
    update: u32,
    record: u64,
    /// The newest record that is durable or written.
    persisted: u64,
    /// Bytes of bodies kept.
    body_bytes: u64,
    /// The file is being written anew from this task's slot on; see `recovery`.
    snapshot: u32,
    snapshotting: bool,
    /// The ledger was read and the agent started.
    recovered: bool,
    /// The start's own record; nothing is done before it is durable.
    start_record: u64,
    /// It is to end everything and leave.
    leaving: bool,
    /// It does not wait for acknowledgements of ends before it leaves.
    hurries: bool,
    /// It was told that it left.
    left: bool,
    /// Bytes of the description in use.
    description: u32,
    /// Everything is being ended; from this slot on, as index + 1, tasks first, then executors.
    ending: u32,
    /// Its disk has no room for anything new.
    disk_full: bool,
    /// The record that says that it is a copy or older; 0 = it is not known to be one.
    outlived: u64,
    /// Why a record of its ledger could not be read: it does not start.
    unread: Option<Refusal>,
    /// Verdicts had tasks ended or forgotten, which is to be on disk before anybody is told so.
    judged: bool,
}

/// An agent. All its memory is lent.
#[derive(Debug)]
pub struct Agent<'a> {
    config: Config,
    names: Names<'a>,
    pool: Pool<'a>,
    /// All it has, and what of it nobody uses.
    total: Holding,
    free: Holding,
    frameworks: Table<'a, Framework>,
    frameworks_by_id: Index<'a>,
    roles: Slab<'a, Name>,
    executors: Table<'a, Executor>,
    executors_by_name: Index<'a>,
    tasks: Table<'a, Task>,
    tasks_by_name: Index<'a>,
    /// Sending again, by task.
    retries: Timers<'a>,
    /// From SIGTERM to SIGKILL, by task.
    kills: Timers<'a>,
    /// How long tasks may run.
    completions: Timers<'a>,
    /// When tasks are started again.
    restarts: Timers<'a>,
    /// From being asked to end to being ended, by executor.
    shutdowns: Timers<'a>,
    updates: Table<'a, Update>,
    operations: Table<'a, Operation>,
    /// Telling again, by operation.
    operation_retries: Timers<'a>,
    /// While a start reads the ledger: what operations had made, and had made before.
    made: Holding,
    gone: Holding,
    description: &'a mut [u8],
    scratch: &'a mut [u8],
    agent: AgentId,
    cluster: u64,
    fence: Fence,
    boot: [u8; 16],
    link: Link,
    drain: Drain,
    clock: Clock,
    counters: Counters,
}

/// What is in use, for gauges. Each has its bound in [`Capacity`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Rows of frameworks, executors, tasks, updates.
    pub frameworks: u32,
    /// See `frameworks`.
    pub executors: u32,
    /// See `frameworks`.
    pub tasks: u32,
    /// See `frameworks`.
    pub updates: u32,
    /// Operations that are being done, or whose end nobody acknowledged.
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
    /// Bytes of bodies kept.
    pub body_bytes: u64,
    /// 1 while its disk is full.
    pub disk_full: u32,
}

impl<'a> Agent<'a> {
    /// An agent that knows nothing yet. `NamesFull` or `IdentitiesFull` when a capacity is below
    /// what even an idle agent needs.
    pub fn new(storage: Storage<'a>, config: Config) -> Result<Self, Refusal> {
        let seed = config.seed;
        let (entries, cells, buckets) = storage.names;
        let mut names = Names::new(entries, cells, buckets, seed);
        let pool = Pool::new(storage.pool, &mut names).map_err(|_| Refusal::IdentitiesFull)?;
        let [retries, kills, completions, restarts] = storage.task_timers;
        Ok(Self {
            config,
            names,
            pool,
            total: Holding::EMPTY,
            free: Holding::EMPTY,
            frameworks: Table::new(storage.frameworks),
            frameworks_by_id: Index::new(storage.framework_buckets, seed),
            roles: Slab::new(storage.roles),
            executors: Table::new(storage.executors),
            executors_by_name: Index::new(storage.executor_buckets, seed),
            tasks: Table::new(storage.tasks),
            tasks_by_name: Index::new(storage.task_buckets, seed),
            retries: Timers::new(retries),
            kills: Timers::new(kills),
            completions: Timers::new(completions),
            restarts: Timers::new(restarts),
            shutdowns: Timers::new(storage.executor_timers),
            updates: Table::new(storage.updates),
            operations: Table::new(storage.operations),
            operation_retries: Timers::new(storage.operation_timers),
            made: Holding::EMPTY,
            gone: Holding::EMPTY,
            description: storage.description,
            scratch: storage.scratch,
            agent: AgentId::NONE,
            cluster: 0,
            fence: Fence::default(),
            boot: [0; 16],
            link: Link::default(),
            drain: Drain::default(),
            clock: Clock::default(),
            counters: Counters::default(),
        })
    }

    /// Gives the memory back, as the agent left it.
    pub fn release(self) -> Storage<'a> {
        Storage {
            names: self.names.release(),
            pool: self.pool.release(),
            frameworks: self.frameworks.release(),
            framework_buckets: self.frameworks_by_id.release(),
            roles: self.roles.release(),
            executors: self.executors.release(),
            executor_buckets: self.executors_by_name.release(),
            tasks: self.tasks.release(),
            task_buckets: self.tasks_by_name.release(),
            task_timers: [self.retries, self.kills, self.completions, self.restarts]
                .map(Timers::release),
            executor_timers: self.shutdowns.release(),
            updates: self.updates.release(),
            operations: self.operations.release(),
            operation_timers: self.operation_retries.release(),
            description: self.description,
            scratch: self.scratch,
        }
    }

    /// Applies one input. A [`Refusal`] means that nothing changed.
    pub fn step(
        &mut self,
        now: Time,
        stamped: Stamped<'_>,
        out: &mut dyn Outbox,
    ) -> Result<(), Refusal> {
        let mut cx = Cx { now, wall_us: stamped.wall_us, out, spent: 0 };
        let stepped = self.dispatch(&mut cx, stamped.input);
        invariant!(cx.spent <= OUTPUT_MAX, "a step emitted more than its bound");
        stepped
    }

    /// When [`Input::Tick`] is due. O(1).
    pub fn next_deadline(&self) -> Time {
        let unfinished = self.counters.snapshotting || self.counters.ending != 0;
        if unfinished || self.link.part < self.link.parts {
            return Time(0);
        }
        self.retries
            .next()
            .min(self.kills.next())
            .min(self.completions.next())
            .min(self.operation_retries.next())
            .min(self.shutdowns.next())
            .min(self.next_restart())
    }

    /// What is in use.
    pub fn gauges(&self) -> Gauges {
        let (idents, pieces, spans) = self.pool.used();
        Gauges {
            frameworks: self.frameworks.len(),
            executors: self.executors.len(),
            tasks: self.tasks.len(),
            updates: self.updates.len(),
            operations: self.operations.len(),
            names: self.names.len(),
            cells: self.names.live_cells(),
            idents,
            pieces,
            spans,
            body_bytes: self.counters.body_bytes,
            disk_full: self.counters.disk_full.into(),
        }
    }

    fn dispatch(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<(), Refusal> {
        if !self.counters.recovered {
            return self.recover(cx, input);
        }
        match input {
            Input::Record { .. } | Input::Container { .. } | Input::Recovered { .. } => {
                Err(Refusal::OutOfTurn)
            }
            Input::Describe(register) => self.describe(cx, &register),
            Input::Opened { conn, role, head_max } => {
                if role == Role::Master {
                    self.linked(cx, conn, head_max);
                }
                Ok(())
            }
            Input::Closed { conn } => {
                self.closed(cx, conn);
                Ok(())
            }
            Input::Frame { conn, head, bodies } => self.frame(cx, conn, head, &bodies),
            Input::Persisted { sequence } => {
                self.persisted(cx, sequence);
                Ok(())
            }
            Input::Started { container } => self.started(cx, container),
            Input::Unstarted { container, message } => self.unstarted(cx, container, message),
            Input::Ended { container, exit, limit, message, status } => {
                let limit = limit.map(|reason| (reason, status));
                self.ended(cx, container, exit, limit, message)
            }
            Input::KeeperGone => {
                self.keeper_gone(cx);
                Ok(())
            }
            Input::Leave => {
                self.leave(cx);
                Ok(())
            }
            Input::Tick => {
                self.tick(cx);
                Ok(())
            }
            Input::Compact => {
                self.compact(cx);
                Ok(())
            }
            Input::Checked { container, status } => self.checked(cx, container, status),
            Input::Health { container, healthy, kill } => self.health(cx, container, healthy, kill),
            Input::Volumes { sequence, failed } => self.volumes_done(cx, sequence, failed),
            Input::Preempt { container } => self.preempt(cx, container),
            Input::Clock { synchronised } => self.clock(cx, synchronised),
            Input::Disk { full } => {
                self.disk(cx, full);
                Ok(())
            }
        }
    }

    fn frame(
        &mut self,
        cx: &mut Cx<'_>,
        conn: Id,
        head: &[u8],
        bodies: &Seq<'_, BodyRef>,
    ) -> Result<(), Refusal> {
        let head: Head<'_> = decode(head).map_err(|_| Refusal::Malformed)?;
        let mut stored = heapless::Vec::<BodyRef, BODIES_PER_FRAME_MAX>::new();
        for body in bodies.iter() {
            stored.push(body).map_err(|_| Refusal::Malformed)?;
        }
        match head {
            Head::AgentEvent(event) if conn == self.link.conn => {
                self.master_says(cx, event, &stored)
            }
            Head::ExecutorCall(call) => self.executor_says(cx, conn, call, &stored),
            Head::AgentEvent(_)
            | Head::Hello(_)
            | Head::Link(_)
            | Head::Svc(_)
            | Head::Call(_)
            | Head::Event(_)
            | Head::AgentCall(_)
            | Head::ExecutorEvent(_)
            | Head::OperatorCall(_)
            | Head::OperatorEvent(_)
            | Head::Gossip(_) => Err(Refusal::WrongConnection),
        }
    }

    /// What its disk has room for. O(1).
    fn disk(&mut self, cx: &mut Cx<'_>, full: bool) {
        self.counters.disk_full = full;
        cx.emit(Output::Disk { full });
    }

    fn closed(&mut self, cx: &mut Cx<'_>, conn: Id) {
        if conn == self.link.conn {
            self.unlinked(cx);
        } else {
            self.executor_away(conn);
        }
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        self.end_some(cx);
        self.escalate_kills(cx);
        self.end_overdue(cx);
        self.end_executors_overdue(cx);
        self.start_due(cx);
        self.see_to_stamps(cx);
        self.send_again(cx);
        self.send_operations_again(cx);
        self.report_some(cx);
        self.snapshot_some(cx);
    }

    /// What waited for a record goes on.
    fn persisted(&mut self, cx: &mut Cx<'_>, sequence: u64) {
        self.counters.persisted = self.counters.persisted.max(sequence);
        if (1..=sequence).contains(&self.counters.outlived) {
            return cx.emit(Output::Outlived);
        }
        // A new session hears first what was done in the one before.
        self.operations_durable(cx);
        self.obey(cx);
        self.kill_recorded(cx);
        self.start_recorded(cx);
        self.send_durable(cx);
    }

    /// Appends a record to the ledger; what waits for it waits for the number returned.
    fn persist(
        &mut self,
        cx: &mut Cx<'_>,
        record: Record<'_>,
        sync: bool,
        bodies: &[BodyRef],
    ) -> u64 {
        invariant!(record.check().is_ok(), "a record breaks the wire's limits");
        self.counters.record = self.counters.record.saturating_add(1);
        let sequence = self.counters.record;
        cx.emit_with(Output::Persist { sequence, sync, record }, bodies);
        sequence
    }

    /// Sends a head to the master, if there is a session. True when it was sent.
    fn tell_master(&mut self, cx: &mut Cx<'_>, head: Head<'_>, bodies: &[BodyRef]) -> bool {
        let Some(conn) = self.link.conn.some().filter(|_| self.link.registered) else {
            return false;
        };
        cx.emit_with(Output::Send { conn, head }, bodies);
        true
    }

    fn text(&self, name: Name) -> Text {
        self.names.text(name)
    }

    fn keep_body(&mut self, cx: &mut Cx<'_>, body: BodyRef) -> BodyRef {
        if !body.is_none() {
            let len = u64::from(body.len);
            self.counters.body_bytes = self.counters.body_bytes.saturating_add(len);
            cx.emit(Output::KeepBody(body));
        }
        body
    }

    fn drop_body(&mut self, cx: &mut Cx<'_>, body: BodyRef) {
        if !body.is_none() {
            let len = u64::from(body.len);
            self.counters.body_bytes = self.counters.body_bytes.saturating_sub(len);
            cx.emit(Output::DropBody(body));
        }
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
}

/// A body of a frame that has these, or none.
fn named(body: BodyRef, place: u16) -> Body {
    if body.is_none() { Body::NONE } else { Body::at(place) }
}

/// What a task's own kind is on the wire, from what its row says of it.
fn kind_of(task: &Task) -> Kind<'static> {
    let group = (task.group & !GIVEN).checked_sub(1);
    match (group.map(|group| u16::try_from(group).unwrap_or(u16::MAX)), task.executor) {
        (Some(group), _) if task.is_given() => Kind::Given { group },
        (Some(group), _) => Kind::Group { group },
        (None, 0) => Kind::Command,
        (None, _) => Kind::Executor,
    }
}

impl Image for Agent<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        self.names.export(to);
        self.pool.export(to);
        to.put(&(self.total, self.free));
        self.frameworks.export(to);
        self.roles.export(to);
        self.executors.export(to);
        self.tasks.export(to);
        self.retries.export(to);
        self.kills.export(to);
        self.completions.export(to);
        self.restarts.export(to);
        self.shutdowns.export(to);
        self.updates.export(to);
        self.operations.export(to);
        self.operation_retries.export(to);
        to.put(&(self.made, self.gone));
        let used = self.description.get(..self.counters.description as usize);
        to.put(used.unwrap_or_default());
        to.put(&(self.agent, self.cluster, self.fence, self.boot, self.link, self.counters));
        to.put(&(self.drain, self.clock));
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        self.names.import(from)?;
        self.pool.import(from)?;
        (self.total, self.free) = from.take()?;
        self.frameworks.import(from)?;
        self.roles.import(from)?;
        self.executors.import(from)?;
        self.tasks.import(from)?;
        self.retries.import(from)?;
        self.kills.import(from)?;
        self.completions.import(from)?;
        self.restarts.import(from)?;
        self.shutdowns.import(from)?;
        self.updates.import(from)?;
        self.operations.import(from)?;
        self.operation_retries.import(from)?;
        (self.made, self.gone) = from.take()?;
        let description: &[u8] = from.take()?;
        let place = self.description.get_mut(..description.len()).ok_or(BadImage::TooLarge)?;
        for (to, from) in place.iter_mut().zip(description) {
            *to = *from;
        }
        (self.agent, self.cluster, self.fence, self.boot, self.link, self.counters) =
            from.take()?;
        (self.drain, self.clock) = from.take()?;
        self.index_again();
        Ok(())
    }
}

impl crate::drive::Front for Agent<'_> {
    const STAMPED: bool = true;

    fn apply(
        &mut self,
        now: Time,
        input: &[u8],
        out: &mut crate::drive::Encoder<'_>,
    ) -> Result<(), Refusal> {
        let (stamped, rest) = postcard::take_from_bytes(input).map_err(|_| Refusal::Malformed)?;
        if !rest.is_empty() {
            return Err(Refusal::Malformed);
        }
        self.step(now, stamped, out)
    }

    fn next_deadline(&self) -> Time {
        Self::next_deadline(self)
    }

    fn tick() -> &'static [u8] {
        // `Input::Tick` by its number.
        &[13]
    }
}
