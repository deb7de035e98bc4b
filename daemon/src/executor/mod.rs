//! An executor in Rust: told what to run, and a driver by which it tells how that goes.
//!
//! An agent starts an executor with what it needs to know in its environment; [`run`] subscribes with
//! that, tells the executor each [`Event`], and subscribes again when the agent was away, with all
//! that the agent has not acknowledged. Mesos: `Executor` and `MesosExecutorDriver`;
//! `docs/porting.md` says which callback became what. `daemon/examples/executor.rs` is a framework
//! with an executor of its own.
//!
//! Events come on the thread that calls [`run`]. The [`Driver`] may be given to other threads, and
//! nothing of it waits: statuses are kept until the agent has them, [`STATUSES_MAX`] of them.

mod given;
mod kept;
mod link;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event as Bell;

use crate::pb::mesos::v1 as pb;
use given::Given;
use kept::Kept;

pub use mesita_core::wire::task::TaskState;

/// Statuses that wait for the agent's acknowledgement.
pub const STATUSES_MAX: usize = 1_024;
/// Messages that wait to be sent.
pub const MESSAGES_MAX: usize = 1_024;

/// A task to be run (Mesos: `TaskInfo`).
#[derive(Clone, Debug)]
pub struct Task {
    /// Its id, by which its statuses name it.
    pub id: String,
    /// For people.
    pub name: String,
    /// What its framework has to say of it.
    pub data: Vec<u8>,
    resources: Vec<pb::Resource>,
}

impl Task {
    fn of(info: pb::TaskInfo) -> Self {
        let (id, name) = (info.task_id.value, info.name);
        Self { id, name, data: info.data.unwrap_or_default(), resources: info.resources }
    }

    /// Units of a scalar resource that it was given: `cpus`, `mem` in MiB, `disk` in MiB.
    pub fn scalar(&self, name: &str) -> f64 {
        let of = self.resources.iter().filter(|resource| resource.name == name);
        of.filter_map(|resource| resource.scalar.as_ref()).map(|scalar| scalar.value).sum()
    }
}

/// What an executor is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The agent expects it, for the first time or again.
    Subscribed {
        /// The agent's id.
        agent: String,
        /// The id of the executor's container.
        container: String,
    },
    /// Run this.
    Launch(Task),
    /// Run these, which live and die together.
    LaunchGroup(Vec<Task>),
    /// End a task, within this if it says so.
    Kill {
        /// Which.
        task: String,
        /// From asking it to killing it.
        grace: Option<Duration>,
    },
    /// Bytes from the framework's scheduler.
    Message(Vec<u8>),
    /// The agent is away, and looked for again; tasks go on.
    Disconnected(String),
    /// End all tasks and tell so: [`run`] returns when the agent has heard of it, and the container
    /// is killed after the grace period.
    Shutdown,
}

/// Why an executor ended that did not end itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The environment is not that of an executor, and what is missing.
    Environment(String),
    /// The agent wants nothing of it.
    Ended(String),
    /// The agent was away for longer than it is waited for.
    Lost(String),
    /// More than [`STATUSES_MAX`] statuses, or [`MESSAGES_MAX`] messages, wait: try again later.
    Full,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(why) => write!(f, "not started by an agent: {why}"),
            Self::Ended(why) => write!(f, "the agent ended this executor: {why}"),
            Self::Lost(why) => write!(f, "the agent did not come back: {why}"),
            Self::Full => f.write_str("too much waits for the agent; try again later"),
        }
    }
}

impl std::error::Error for Error {}

/// How an executor answers. Cheap to clone, for any thread.
#[derive(Clone, Debug)]
pub struct Driver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept: std::sync::Mutex<Kept>,
    changed: Bell,
}

impl Driver {
    fn new() -> Self {
        Self(Arc::new(Shared { kept: std::sync::Mutex::default(), changed: Bell::new() }))
    }

    /// Tells how a task goes. Kept, and sent again, until the agent has it; `message` is cut at
    /// 1 KiB, `data` goes to the scheduler as it is. [`Error::Full`] when too many wait.
    pub fn status(
        &self,
        task: &str,
        state: TaskState,
        message: &str,
        data: &[u8],
    ) -> Result<(), Error> {
        self.change(|kept| kept.status(task, state, message, data))
    }

    /// Sends bytes to the framework's scheduler. At most once. [`Error::Full`] when too many wait.
    pub fn message(&self, data: &[u8]) -> Result<(), Error> {
        self.change(|kept| kept.message(data))
    }

    /// Ends [`run`], once the agent has all statuses.
    pub fn stop(&self) {
        self.change(Kept::stop);
    }

    /// Changes what is kept, and has it looked at.
    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        let result = self.kept(change);
        self.0.changed.notify(usize::MAX);
        result
    }

    fn kept<T>(&self, with: impl FnOnce(&mut Kept) -> T) -> T {
        // Whoever panicked with it left every list of it whole.
        with(&mut self.0.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Runs an executor until it stops or the agent ends it, with what the agent has put into the
/// environment (Mesos: `MESOS_AGENT_ENDPOINT` and what comes with it).
pub fn run(executor: impl FnMut(&Driver, Event)) -> Result<(), Error> {
    let given = Given::of(|name| std::env::var(name).ok()).map_err(Error::Environment)?;
    crate::alarm::block_on(link::live(&given, &Driver::new(), executor))
}
