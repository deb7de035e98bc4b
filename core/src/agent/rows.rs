//! What an agent knows: frameworks, executors, tasks, and updates that nobody acknowledged.

use crate::index::{Chain, Chained, Link, Linked};
use crate::names::Name;
use crate::resources::Holding;
use crate::slab::List;
use crate::table::Id;
use crate::time::Time;
use crate::wire::agent::OperationState;
use crate::wire::call::Ownership;
use crate::wire::task::{OnReturn, Reason, Restart, Source, TaskState};
use crate::wire::{BodyRef, ContainerId, FrameworkId};

choice! {
    /// Where a container is in its life.
    pub enum Stage {
        /// Its record is on its way to the disk; nothing was started.
        Recording = 0,
        /// It was asked for.
        Starting = 1,
        /// Its process runs.
        Running = 2,
        /// It is being ended.
        Ending = 3,
        /// It ended, or never was.
        Ended = 4,
        /// It ended, and is started again when its time comes.
        Waiting = 5,
    }

    /// Why a task was told to end, which says what its end is called.
    pub enum Ordered {
        /// It was not.
        No = 0,
        /// Somebody killed it.
        Kill = 1,
        /// It ran as long as it may.
        Limit = 2,
        /// Its health check failed too often.
        Unhealthy = 3,
        /// Another one of its group did not end well, and it is about to be killed for that.
        Group = 4,
        /// What it holds may be taken back, and is.
        Preempt = 5,
    }
}

record! {
    /// A framework that has something here.
    pub struct Framework {
        /// Its id.
        pub id: FrameworkId,
        /// For people.
        pub name: Name,
        /// The user its tasks run as.
        pub user: Name,
        /// Who it claimed to be.
        pub principal: Name,
        /// Who it was found to be.
        pub caller: Name,
        /// Its roles.
        pub roles: List,
        /// How long its tasks live on without it, in µs.
        pub failover_us: u64,
        /// What it understands.
        pub capabilities: u32,
        /// Who acknowledges.
        pub owned: Ownership,
        /// What everybody may see of it.
        pub public: BodyRef,
        /// It is no more: everything of it is being ended.
        pub leaving: bool,
        /// Its tasks.
        pub tasks: Chain,
        /// Its executors.
        pub executors: Chain,
        #[serde(skip)]
        pub(super) next: u32,
    }

    /// An executor.
    pub struct Executor {
        /// Its id.
        pub name: Name,
        /// Whose: the framework's slot.
        pub framework: u32,
        /// The role that its resources are allocated to.
        pub role: Name,
        /// Its user.
        pub user: Name,
        /// Its container.
        pub container: ContainerId,
        /// Where the container is in its life.
        pub stage: Stage,
        /// The record that must be written before it starts.
        pub record: u64,
        /// Its connection; none while it is not subscribed.
        pub conn: Id,
        /// What it holds for itself.
        pub held: Holding,
        /// From being asked to end to being ended, in µs; 0 = the agent's own.
        pub grace_us: u64,
        /// Its description.
        pub body: BodyRef,
        /// It is the agent itself, and has no process: it runs groups.
        pub builtin: bool,
        /// It was there before the agent started: it is to subscribe again.
        pub recovered: bool,
        /// It is ended because it did not subscribe in time.
        pub late: bool,
        /// Its tasks.
        pub tasks: Chain,
        pub(super) links: [Link; 1],
        #[serde(skip)]
        pub(super) next: u32,
    }

    /// A task, from its acceptance until its end was acknowledged.
    pub struct Task {
        /// Its id.
        pub name: Name,
        /// Whose: the framework's slot.
        pub framework: u32,
        /// Its executor, as slot + 1; 0 = the agent runs its command.
        pub executor: u32,
        /// Its group among those of its executor, counted from 1; 0 = none. With [`GIVEN`], the executor
        /// is the framework's own, and is given all of the group at once.
        pub group: u32,
        /// The role that its resources are allocated to.
        pub role: Name,
        /// Its user.
        pub user: Name,
        /// Its container, or its executor's.
        pub container: ContainerId,
        /// Where its own container is; with an executor, whether the executor has the task.
        pub stage: Stage,
        /// Its newest state.
        pub state: TaskState,
        /// Why it is to end.
        pub ordered: Ordered,
        /// Which start of it this is.
        pub attempt: u32,
        /// The record that must be written before it starts.
        pub record: u64,
        /// What it holds.
        pub held: Holding,
        /// How far above that it may go, cpus and mem, in thousandths; 0 = not at all,
        /// `u64::MAX` = as far as it likes.
        pub limits: [u64; 2],
        /// From SIGTERM to SIGKILL, in µs.
        pub grace_us: u64,
        /// A kill named that, not the task.
        pub grace_named: bool,
        /// How long it may run, in µs; 0 = as long as it likes.
        pub completion_us: u64,
        /// When it is started again.
        pub restart: Restart,
        /// Ends in a row, none of them after it was steady.
        pub fails: u32,
        /// When it began to run; zero = not since this start of the agent.
        pub began: Time,
        /// When it began to run, also under an earlier agent; zero = it does not, or nobody knows.
        pub since: Time,
        /// It waits because what held it was gone, not because it ended.
        pub returns: bool,
        /// It is killed when that is on disk.
        pub kill_waits: bool,
        /// The container that it had before.
        pub before: ContainerId,
        /// What everybody may see.
        pub public: BodyRef,
        /// What only this agent may see.
        pub private: BodyRef,
        /// What its health check found last: 0 = nothing yet, 1 = not healthy, 2 = healthy.
        pub health: u8,
        /// What its check found last, as a status carries it.
        pub checked: BodyRef,
        /// What was acknowledged last of what was told of it: the next master is told that again.
        pub told: Told,
        /// Updates that nobody acknowledged, the oldest first.
        pub updates: Chain,
        /// How often the oldest of them was sent.
        pub tries: u32,
        pub(super) links: [Link; 2],
        #[serde(skip)]
        pub(super) next: u32,
    }

    /// What was told of a task.
    pub struct Told {
        /// When, in µs of Unix time; 0 = nothing was.
        pub wall_us: u64,
        /// Names the update.
        pub sequence: u64,
        /// The executor's own name of it.
        pub uuid: [u8; 16],
        /// The state that it told.
        pub state: TaskState,
        /// Which start of the task it was about.
        pub attempt: u32,
        /// Who said so.
        pub source: Source,
        /// Why; see `has_reason`.
        pub reason: Reason,
        /// There is a reason.
        pub has_reason: bool,
        /// As in [`Update::health`].
        pub health: u8,
        /// Labels, container status, check results.
        pub public: BodyRef,
    }

    /// An operation that is being done, or whose end nobody acknowledged.
    pub struct Operation {
        /// Whose; none = an operator's.
        pub framework: FrameworkId,
        /// Its id; empty = nobody wants to hear of its end.
        pub name: Name,
        /// Names the update that tells its end: see [`Update::sequence`].
        pub sequence: u64,
        /// Its end, as it is told.
        pub state: OperationState,
        /// Why, in a sentence, as far as a name holds it.
        pub message: Name,
        /// What came out of it.
        pub converted: Holding,
        /// The record that must be on disk before its end is told.
        pub record: u64,
        /// It is.
        pub durable: bool,
        /// Directories are being made, or removed.
        pub busy: bool,
        /// It makes volumes.
        pub makes: bool,
        /// How often its end was told.
        pub tries: u32,
    }

    /// An update that nobody acknowledged.
    pub struct Update {
        /// Of which task: its slot.
        pub task: u32,
        /// Names it: the agent's start, and a number counted up in it.
        pub sequence: u64,
        /// The state it tells.
        pub state: TaskState,
        /// Who says so.
        pub source: Source,
        /// Why; see `has_reason`.
        pub reason: Reason,
        /// There is a reason.
        pub has_reason: bool,
        /// How the process ended, see [`Exit::to_bytes`](crate::wire::task::Exit::to_bytes).
        pub exit: [u8; 2],
        /// 0 = not told, 1 = not healthy, 2 = healthy.
        pub health: u8,
        /// It is on disk, or written if it is no end: it may be sent.
        pub durable: bool,
        /// The record that must be so before.
        pub record: u64,
        /// Why, in a sentence, as far as a name holds it.
        pub message: Name,
        /// The executor that the task had then; empty = the agent runs its command.
        pub executor: Name,
        /// When, in µs of Unix time.
        pub wall_us: u64,
        /// Which start of the task it is about.
        pub attempt: u32,
        /// The executor's own name of it.
        pub uuid: [u8; 16],
        /// Labels, container status, check results.
        pub public: BodyRef,
        /// Bytes of the executor's own.
        pub data: BodyRef,
        pub(super) links: [Link; 1],
    }
}

/// The bit of [`Task::group`] for groups that executors of frameworks are given.
pub const GIVEN: u32 = 1 << 31;

/// The list of a framework's tasks, or executors.
pub const OF_FRAMEWORK: usize = 0;
/// The list of an executor's tasks.
pub const OF_EXECUTOR: usize = 1;
/// The list of a task's updates.
pub const OF_TASK: usize = 0;

impl Task {
    /// The slot of the executor that runs it; none = the agent runs its command.
    pub const fn runner(&self) -> Option<u32> {
        if self.group == 0 || self.is_given() { self.executor.checked_sub(1) } else { None }
    }

    /// It is killed with this grace, if the kill names one.
    pub(super) const fn name_grace(&mut self, grace_us: Option<u64>) {
        if let Some(us) = grace_us {
            (self.grace_us, self.grace_named) = (us, true);
        }
    }

    /// Where two of its id meet, it stays if it has run longest.
    pub const fn stays_if_longest(&self) -> bool {
        matches!(self.restart.on_return, OnReturn::LongestRunning)
    }

    /// When it began counts also under the next agent.
    pub(super) const fn began_counts(&self) -> bool {
        self.stays_if_longest() || self.completion_us > 0
    }

    /// Its executor is given it with all of its group.
    pub const fn is_given(&self) -> bool {
        self.group & GIVEN != 0
    }
}

impl Linked for Task {
    fn link(&self, list: usize) -> Link {
        let [framework, executor] = self.links;
        if list == OF_FRAMEWORK { framework } else { executor }
    }

    fn link_mut(&mut self, list: usize) -> &mut Link {
        let [framework, executor] = &mut self.links;
        if list == OF_FRAMEWORK { framework } else { executor }
    }
}

macro_rules! linked_once {
    ($($row:ty),*) => {$(
        impl Linked for $row {
            fn link(&self, _list: usize) -> Link {
                let [only] = self.links;
                only
            }

            fn link_mut(&mut self, _list: usize) -> &mut Link {
                let [only] = &mut self.links;
                only
            }
        }
    )*};
}
linked_once!(Executor, Update);

macro_rules! chained {
    ($($row:ty),*) => {$(
        impl Chained for $row {
            fn next(&self, _index: usize) -> u32 {
                self.next
            }

            fn next_mut(&mut self, _index: usize) -> &mut u32 {
                &mut self.next
            }
        }
    )*};
}
chained!(Framework, Executor, Task);

/// The result of a health check as rows keep it: see [`Update::health`].
pub(super) const fn health_of(healthy: Option<bool>) -> u8 {
    match healthy {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    }
}

/// What a row keeps, as a result.
pub(super) const fn healthy(health: u8) -> Option<bool> {
    match health {
        0 => None,
        health => Some(health == 2),
    }
}
