//! What an executor and its agent say to each other (Mesos: `executor.proto`).

use serde::{Deserialize, Serialize};

use super::check::{Check, Malformed, duration, given, text};
use super::ids::{AgentId, Body, ContainerId, FrameworkId};
use super::seq::{Seq, items};
use super::task::{Launch, Status};
use crate::limits::{MESSAGE_MAX, TASKS_PER_HEAD_MAX};

/// What an executor tells its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutorCall<'a> {
    /// It is there, or there again.
    Subscribe {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: &'a str,
        /// What its environment gave it to prove that it is this executor.
        token: &'a [u8],
        /// Tasks whose launch it may not have acknowledged to itself: their ids.
        #[serde(borrow)]
        tasks: Seq<'a, &'a str>,
        /// Updates that were not acknowledged, oldest first.
        #[serde(borrow)]
        updates: Seq<'a, ExecutorUpdate<'a>>,
    },
    /// What became of a task.
    Update(ExecutorUpdate<'a>),
    /// Bytes for the scheduler. At most once.
    Message {
        /// The bytes.
        data: Body,
    },
    /// It is still there.
    Heartbeat,
    /// What its next `Subscribe` has no room to name. Whoever subscribes with more than fits says this
    /// first, as often as needed, and tells its updates after that.
    Holds {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: &'a str,
        /// See `Subscribe`.
        token: &'a [u8],
        /// Tasks that it has: their ids.
        #[serde(borrow)]
        tasks: Seq<'a, &'a str>,
    },
}

/// A status that an executor made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorUpdate<'a> {
    /// Names the update among the executor's own; the agent echoes it.
    pub uuid: [u8; 16],
    /// The status; its `uuid` is the agent's to set.
    #[serde(borrow)]
    pub status: Status<'a>,
}

/// What an agent tells an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutorEvent<'a> {
    /// It is expected here.
    Subscribed {
        /// The agent.
        agent: AgentId,
        /// Its container.
        container: ContainerId,
        /// Its description, the framework's, the agent's.
        executor: Body,
        /// The framework's description.
        framework: Body,
    },
    /// Run a task.
    Launch {
        /// Which.
        #[serde(borrow)]
        task: Launch<'a>,
    },
    /// Run tasks that live and die together.
    LaunchGroup {
        /// Which.
        tasks: Seq<'a, Launch<'a>>,
    },
    /// Kill a task.
    Kill {
        /// Which.
        task: &'a str,
        /// From SIGTERM to SIGKILL, in µs; none = what the task says.
        grace_us: Option<u64>,
    },
    /// An update is safe with the agent.
    Acknowledged {
        /// Whose.
        task: &'a str,
        /// Which update.
        uuid: [u8; 16],
    },
    /// Bytes from the scheduler.
    Message {
        /// The bytes.
        data: Body,
    },
    /// End everything within the grace that the environment named.
    Shutdown,
    /// The agent will not hear this executor.
    Error {
        /// Why.
        message: &'a str,
    },
    /// The agent is still there.
    Heartbeat,
}

items!(; ExecutorUpdate);

impl Check for ExecutorCall<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Subscribe { executor, tasks, updates, .. } => {
                given("subscribe.executor", executor)?;
                tasks.check_up_to("subscribe.tasks", TASKS_PER_HEAD_MAX)?;
                updates.check_up_to("subscribe.updates", TASKS_PER_HEAD_MAX)
            }
            Self::Holds { executor, tasks, .. } => {
                given("holds.executor", executor)?;
                tasks.check_up_to("holds.tasks", TASKS_PER_HEAD_MAX)
            }
            Self::Update(update) => update.check(),
            Self::Message { .. } | Self::Heartbeat => Ok(()),
        }
    }
}

impl Check for ExecutorUpdate<'_> {
    fn check(&self) -> Result<(), Malformed> {
        given("status.task", self.status.task)?;
        self.status.check()
    }
}

impl Check for ExecutorEvent<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Launch { task } => task.check(),
            Self::LaunchGroup { tasks } => tasks.check_up_to("launch.tasks", TASKS_PER_HEAD_MAX),
            Self::Kill { task, grace_us } => {
                given("kill.task", task)?;
                duration("kill.grace", grace_us.unwrap_or(0))
            }
            Self::Acknowledged { task, .. } => given("acknowledged.task", task),
            Self::Error { message } => text("error.message", message, MESSAGE_MAX),
            Self::Subscribed { .. } | Self::Message { .. } | Self::Shutdown | Self::Heartbeat => {
                Ok(())
            }
        }
    }
}

const _: () = assert!(size_of::<ExecutorCall<'_>>() <= 256);
