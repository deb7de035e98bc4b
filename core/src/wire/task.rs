//! Tasks in messages: what to launch, and what became of it.

use serde::{Deserialize, Serialize};

use super::check::{
    Check, Fault, Malformed, duration, given, name, nothing_to_check, require, text,
};
use super::ids::{AgentId, Body, ContainerId, FrameworkId, Uuid};
use super::resource::Resource;
use super::seq::{Seq, items};
use crate::limits::{ITEMS_PER_LIST_MAX, KILL_GRACE_US, MESSAGE_MAX, NAME_MAX};
use crate::mutant::{Mutant, planted};
use crate::resources::Amount;

choice! {
    /// Where a task is in its life. The numbers are those of Mesos' `TaskState`.
    pub enum TaskState {
        /// Prepared: the process is about to exist.
        Starting = 0,
        /// The process runs.
        Running = 1,
        /// Ended with status 0. Terminal.
        Finished = 2,
        /// Ended with another status, by a signal, or by a limit. Terminal.
        Failed = 3,
        /// Ended because somebody asked. Terminal.
        Killed = 4,
        /// Nobody knows, told to frameworks that are not partition-aware.
        Lost = 5,
        /// Accepted by the master, not yet started by the agent.
        Staging = 6,
        /// Never possible as described. Terminal.
        Error = 7,
        /// Being killed.
        Killing = 8,
        /// Never started. Terminal.
        Dropped = 9,
        /// Its agent does not answer.
        Unreachable = 10,
        /// Its agent does not have it any more. Terminal.
        Gone = 11,
        /// An operator said that its agent will not come back.
        GoneByOperator = 12,
        /// Never heard of, or forgotten.
        Unknown = 13,
    }

    /// Who says so. The numbers are those of Mesos' `TaskStatus.Source`.
    pub enum Source {
        /// The master.
        Master = 0,
        /// The agent.
        Agent = 1,
        /// The executor.
        Executor = 2,
    }

    /// Why. The numbers are those of Mesos' `TaskStatus.Reason`.
    pub enum Reason {
        /// The command executor failed.
        CommandExecutorFailed = 0,
        /// Its executor ended.
        ExecutorTerminated = 1,
        /// Its executor never registered.
        ExecutorUnregistered = 2,
        /// Its framework was removed.
        FrameworkRemoved = 3,
        /// The sandbox could not be kept from collection.
        GcError = 4,
        /// The framework id is not valid.
        InvalidFrameworkId = 5,
        /// The offers were not, or no more, this framework's.
        InvalidOffers = 6,
        /// The scheduler has no master.
        MasterDisconnected = 7,
        /// Used more memory than its limit.
        ContainerLimitationMemory = 8,
        /// An answer to RECONCILE.
        Reconciliation = 9,
        /// The agent's connection was broken at the launch.
        AgentDisconnected = 10,
        /// The agent was removed.
        AgentRemoved = 11,
        /// The agent restarted and the task did not survive it.
        AgentRestarted = 12,
        /// No such agent.
        AgentUnknown = 13,
        /// The task is not valid.
        TaskInvalid = 14,
        /// The task is not allowed.
        TaskUnauthorized = 15,
        /// No such task.
        TaskUnknown = 16,
        /// Its revocable resources were taken back.
        ContainerPreempted = 17,
        /// The agent does not have those resources.
        ResourcesUnknown = 18,
        /// Beyond some limit.
        ContainerLimitation = 19,
        /// Beyond its disk limit.
        ContainerLimitationDisk = 20,
        /// The container could not be started.
        ContainerLaunchFailed = 21,
        /// The container's resources could not be changed.
        ContainerUpdateFailed = 22,
        /// The executor did not register in time.
        ExecutorRegistrationTimeout = 23,
        /// The executor did not come back in time.
        ExecutorReregistrationTimeout = 24,
        /// The group is not valid.
        TaskGroupInvalid = 25,
        /// The group is not allowed.
        TaskGroupUnauthorized = 26,
        /// The process that carried its input and output ended.
        IoSwitchboardExited = 27,
        /// A check has a new result.
        TaskCheckStatusUpdated = 28,
        /// A health check has a new result.
        TaskHealthCheckStatusUpdated = 29,
        /// Killed before it started.
        TaskKilledDuringLaunch = 30,
        /// An operator removed the agent.
        AgentRemovedByOperator = 31,
        /// The agent came back.
        AgentReregistered = 32,
        /// Ran as long as it may.
        MaxCompletionTimeReached = 33,
        /// The agent is being drained.
        AgentDraining = 34,
    }

    /// When an agent starts a task again by itself.
    pub enum RestartRule {
        /// Never: the framework decides. As in Mesos.
        Never = 0,
        /// After an end that is not TASK_FINISHED.
        OnFailure = 1,
        /// After every end.
        Always = 2,
    }

    /// What an agent without a master does with a restart when it cannot tell how long it was off.
    pub enum UnknownAge {
        /// Wait for a master.
        Hold = 0,
        /// Start.
        Start = 1,
    }

    /// Which copy stays when a replacement and the original meet: two of one framework and id.
    pub enum OnReturn {
        /// Not said: as [`OnReturn::KeepReplacement`].
        Unsaid = 0,
        /// The one that replaced it.
        KeepReplacement = 1,
        /// The one that has run longest without a break.
        LongestRunning = 2,
        /// The one that was there first, if it runs.
        KeepOriginal = 3,
    }

    /// Whether two copies of a task may run at once while nobody can tell.
    pub enum Copies {
        /// Never: the task waits instead.
        Exclusive = 0,
        /// Rather twice than not at all.
        Availability = 1,
    }
}

nothing_to_check!(TaskState Source Reason RestartRule UnknownAge OnReturn Copies);

impl Launch<'_> {
    /// Whether its restart rule can be kept, or why not, in a sentence.
    pub fn check_restart(&self) -> Result<(), &'static str> {
        let Restart { stop_after_us, lost_after_us, .. } = self.restart;
        if self.restart == Restart::default() {
            return Ok(());
        }
        let own = matches!(self.kind, Kind::Command | Kind::Container);
        if !own || self.executor.is_some() {
            return Err("a restart rule is for a command that the agent runs itself");
        }
        let grace_us = self.grace_us.unwrap_or(KILL_GRACE_US);
        let early = lost_after_us.saturating_sub(lost_after_us / 4);
        let late = stop_after_us.saturating_add(grace_us) > early;
        let both = stop_after_us > 0 && lost_after_us > 0;
        if both && late && !planted(Mutant::TakesAnyPair) {
            return Err(
                "mesita.stop-after and the kill grace must be at most 0.75 of mesita.lost-after, or two \
                 copies could run",
            );
        }
        self.restart.check().map_err(|_| {
            "mesita.unknown=start is for tasks that may run twice: with mesita.copies=availability"
        })
    }
}

impl TaskState {
    /// True while something may still follow.
    pub const fn is_live(self) -> bool {
        !self.is_terminal()
    }

    /// True when no update may follow. `Lost` counts: frameworks that are told so forget the task.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Finished
                | Self::Failed
                | Self::Killed
                | Self::Error
                | Self::Dropped
                | Self::Gone
                | Self::Lost
        )
    }

    /// The name that Mesos gives it, such as `TASK_RUNNING`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "TASK_STARTING",
            Self::Running => "TASK_RUNNING",
            Self::Finished => "TASK_FINISHED",
            Self::Failed => "TASK_FAILED",
            Self::Killed => "TASK_KILLED",
            Self::Lost => "TASK_LOST",
            Self::Staging => "TASK_STAGING",
            Self::Error => "TASK_ERROR",
            Self::Killing => "TASK_KILLING",
            Self::Dropped => "TASK_DROPPED",
            Self::Unreachable => "TASK_UNREACHABLE",
            Self::Gone => "TASK_GONE",
            Self::GoneByOperator => "TASK_GONE_BY_OPERATOR",
            Self::Unknown => "TASK_UNKNOWN",
        }
    }
}

impl Reason {
    /// The name that Mesos gives it, such as `REASON_CONTAINER_LIMITATION_MEMORY`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CommandExecutorFailed => "REASON_COMMAND_EXECUTOR_FAILED",
            Self::ExecutorTerminated => "REASON_EXECUTOR_TERMINATED",
            Self::ExecutorUnregistered => "REASON_EXECUTOR_UNREGISTERED",
            Self::FrameworkRemoved => "REASON_FRAMEWORK_REMOVED",
            Self::GcError => "REASON_GC_ERROR",
            Self::InvalidFrameworkId => "REASON_INVALID_FRAMEWORKID",
            Self::InvalidOffers => "REASON_INVALID_OFFERS",
            Self::MasterDisconnected => "REASON_MASTER_DISCONNECTED",
            Self::ContainerLimitationMemory => "REASON_CONTAINER_LIMITATION_MEMORY",
            Self::Reconciliation => "REASON_RECONCILIATION",
            Self::AgentDisconnected => "REASON_AGENT_DISCONNECTED",
            Self::AgentRemoved => "REASON_AGENT_REMOVED",
            Self::AgentRestarted => "REASON_AGENT_RESTARTED",
            Self::AgentUnknown => "REASON_AGENT_UNKNOWN",
            Self::TaskInvalid => "REASON_TASK_INVALID",
            Self::TaskUnauthorized => "REASON_TASK_UNAUTHORIZED",
            Self::TaskUnknown => "REASON_TASK_UNKNOWN",
            Self::ContainerPreempted => "REASON_CONTAINER_PREEMPTED",
            Self::ResourcesUnknown => "REASON_RESOURCES_UNKNOWN",
            Self::ContainerLimitation => "REASON_CONTAINER_LIMITATION",
            Self::ContainerLimitationDisk => "REASON_CONTAINER_LIMITATION_DISK",
            Self::ContainerLaunchFailed => "REASON_CONTAINER_LAUNCH_FAILED",
            Self::ContainerUpdateFailed => "REASON_CONTAINER_UPDATE_FAILED",
            Self::ExecutorRegistrationTimeout => "REASON_EXECUTOR_REGISTRATION_TIMEOUT",
            Self::ExecutorReregistrationTimeout => "REASON_EXECUTOR_REREGISTRATION_TIMEOUT",
            Self::TaskGroupInvalid => "REASON_TASK_GROUP_INVALID",
            Self::TaskGroupUnauthorized => "REASON_TASK_GROUP_UNAUTHORIZED",
            Self::IoSwitchboardExited => "REASON_IO_SWITCHBOARD_EXITED",
            Self::TaskCheckStatusUpdated => "REASON_TASK_CHECK_STATUS_UPDATED",
            Self::TaskHealthCheckStatusUpdated => "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
            Self::TaskKilledDuringLaunch => "REASON_TASK_KILLED_DURING_LAUNCH",
            Self::AgentRemovedByOperator => "REASON_AGENT_REMOVED_BY_OPERATOR",
            Self::AgentReregistered => "REASON_AGENT_REREGISTERED",
            Self::MaxCompletionTimeReached => "REASON_MAX_COMPLETION_TIME_REACHED",
            Self::AgentDraining => "REASON_AGENT_DRAINING",
        }
    }
}

/// A task to be started (Mesos: `TaskInfo`, split into what is decided by and what is carried).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch<'a> {
    /// Its id, the framework's choice. Not checked here: a bad one is the task's own error.
    pub task: &'a str,
    /// The agent it is for, which must be the offer's.
    pub agent: AgentId,
    /// What kind of thing runs.
    #[serde(borrow)]
    pub kind: Kind<'a>,
    /// What it gets.
    #[serde(borrow)]
    pub resources: Seq<'a, Resource<'a>>,
    /// How far above that it may go, by resource name (Mesos: `limits`).
    #[serde(borrow)]
    pub limits: Seq<'a, Limit<'a>>,
    /// The executor that runs it; none = the agent runs its command.
    pub executor: Option<Executor<'a>>,
    /// The user of its command; empty = the executor's, then the framework's.
    pub user: &'a str,
    /// From SIGTERM to SIGKILL when it is killed, in µs; none = the agent's default.
    pub grace_us: Option<u64>,
    /// How long it may run, in µs.
    pub completion_us: Option<u64>,
    /// When the agent starts it again.
    pub restart: Restart,
    /// What everybody may see: name, labels, discovery, container, checks.
    pub public: Body,
    /// What only the agent may see: command and data.
    pub private: Body,
}

/// What kind of thing a launch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind<'a> {
    /// A command, in the private body.
    Command,
    /// A task for an executor, which gets the private body.
    Executor,
    /// One of a group that lives and dies together, under one executor.
    Group {
        /// Which group of the message, so that one head can carry several.
        group: u16,
    },
    /// A container image's own entry point.
    Container,
    /// A function linked into the agent, for nodes without processes.
    Function {
        /// Its name.
        entry: &'a str,
        /// Its arguments, opaque.
        args: &'a [u8],
    },
    /// One of a group that an executor of the framework's own is given at once. Only for agents whose
    /// `task_kinds` have its bit.
    Given {
        /// Which group of the message, so that one head can carry several.
        group: u16,
    },
}

impl Kind<'_> {
    /// It is one of a group.
    pub const fn is_of_group(self) -> bool {
        matches!(self, Self::Group { .. } | Self::Given { .. })
    }

    /// The bit of this kind in a hello's `task_kinds`.
    pub const fn bit(self) -> u32 {
        match self {
            Self::Command => 1,
            Self::Executor => 2,
            Self::Group { .. } => 4,
            Self::Container => 8,
            Self::Function { .. } => 16,
            Self::Given { .. } => 32,
        }
    }
}

/// An executor that a task needs (Mesos: `ExecutorInfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executor<'a> {
    /// Its id, the framework's choice.
    pub id: &'a str,
    /// What it gets for itself, charged once while it lives.
    #[serde(borrow)]
    pub resources: Seq<'a, Resource<'a>>,
    /// The user of its command; empty = the framework's.
    pub user: &'a str,
    /// From SIGTERM to SIGKILL when it is shut down, in µs; none = the agent's default.
    pub grace_us: Option<u64>,
    /// The rest of it; two executors of one id must have equal bodies.
    pub body: Body,
}

/// How far a task may go above what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit<'a> {
    /// `cpus` or `mem`.
    pub name: &'a str,
    /// The limit; none = no limit at all.
    pub amount: Option<Amount>,
}

record! {
    /// When and how an agent starts a task again by itself. The default is never, as in Mesos.
    #[derive(Default)]
    pub struct Restart {
        /// After which ends.
        pub rule: RestartRule,
        /// Stops by itself when no master has answered for so long, in µs; 0 = never.
        pub stop_after_us: u64,
        /// The framework may think it lost, and replace it, after so long, in µs; 0 = the master's
        /// word.
        pub lost_after_us: u64,
        /// After a reboot of unknown length.
        pub unknown: UnknownAge,
        /// When original and replacement meet.
        pub on_return: OnReturn,
        /// Whether two may run at once.
        pub copies: Copies,
    }
}

/// What became of a task (Mesos: `TaskStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status<'a> {
    /// The task.
    pub task: &'a str,
    /// Its state now.
    pub state: TaskState,
    /// Who says so.
    pub source: Source,
    /// Where it is or was; [`AgentId::NONE`] = nowhere.
    pub agent: AgentId,
    /// Names this update, to be acknowledged; none = nothing to acknowledge.
    pub uuid: Option<u64>,
    /// When, in µs of Unix time by the speaker's wall clock: data, never decided by.
    pub wall_us: u64,
    /// The rest, when there is any.
    #[serde(borrow)]
    pub detail: Option<Detail<'a>>,
}

/// What a status says beside its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail<'a> {
    /// Why.
    pub reason: Option<Reason>,
    /// Why, in a sentence.
    pub message: &'a str,
    /// How its process ended.
    pub exit: Exit,
    /// The executor it ran under; empty = none.
    pub executor: &'a str,
    /// Its container.
    pub container: Option<ContainerId>,
    /// The result of its health check.
    pub healthy: Option<bool>,
    /// Which start of the task this is about, counted from 0.
    pub attempt: u32,
    /// Since when its agent does not answer, in µs of Unix time; 0 = it answers.
    pub unreachable_wall_us: u64,
    /// Labels, container status, check results, what was limited.
    pub public: Body,
    /// Bytes of the executor's own, for the scheduler.
    pub data: Body,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It did not, or nobody saw how.
    #[default]
    Unseen,
    /// By itself, with this status.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl Exit {
    /// As two bytes of a row.
    pub const fn to_bytes(self) -> [u8; 2] {
        match self {
            Self::Unseen => [0, 0],
            Self::Code(code) => [1, code],
            Self::Signal(signal) => [2, signal],
        }
    }

    /// What [`Exit::to_bytes`] made.
    pub const fn from_bytes([kind, value]: [u8; 2]) -> Self {
        match kind {
            1 => Self::Code(value),
            2 => Self::Signal(value),
            _ => Self::Unseen,
        }
    }
}

/// A task of some framework, and where it is thought to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskAt<'a> {
    /// The task.
    pub task: &'a str,
    /// Its agent, if known.
    pub agent: AgentId,
}

/// A task of one framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOf<'a> {
    /// The framework.
    pub framework: FrameworkId,
    /// The task.
    pub task: &'a str,
}

items!(; Launch, Limit, Status, TaskAt, TaskOf);

impl<'a> Status<'a> {
    /// The status's name, if it asks for an acknowledgement.
    pub fn uuid(&self) -> Option<Uuid> {
        self.uuid.map(|sequence| Uuid { agent: self.agent, sequence })
    }

    /// The detail, empty when nothing more was said.
    pub fn detail(&self) -> Detail<'a> {
        self.detail.unwrap_or_default()
    }
}

impl Check for Launch<'_> {
    fn check(&self) -> Result<(), Malformed> {
        if let Kind::Function { entry, args } = self.kind {
            given("launch.entry", entry)?;
            require(args.len() <= NAME_MAX, "launch.args", Fault::TooLong(255))?;
        }
        self.resources.check_up_to("launch.resources", ITEMS_PER_LIST_MAX)?;
        self.limits.check_up_to("launch.limits", 16)?;
        self.executor.map_or(Ok(()), |executor| executor.check())?;
        name("launch.user", self.user)?;
        duration("launch.grace", self.grace_us.unwrap_or(0))?;
        duration("launch.completion", self.completion_us.unwrap_or(0))?;
        self.restart.check()
    }
}

impl Check for Executor<'_> {
    fn check(&self) -> Result<(), Malformed> {
        super::check::id("executor.id", self.id)?;
        self.resources.check_up_to("executor.resources", ITEMS_PER_LIST_MAX)?;
        name("executor.user", self.user)?;
        duration("executor.grace", self.grace_us.unwrap_or(0))
    }
}

impl Check for Limit<'_> {
    fn check(&self) -> Result<(), Malformed> {
        given("limit.name", self.name)?;
        self.amount.map_or(Ok(()), |amount| amount.check())
    }
}

impl Check for Restart {
    fn check(&self) -> Result<(), Malformed> {
        duration("restart.stop_after", self.stop_after_us)?;
        duration("restart.lost_after", self.lost_after_us)?;
        // An exclusive task that starts after an unknown time off may have a replacement running.
        let twice = self.rule != RestartRule::Never
            && self.copies == Copies::Exclusive
            && self.unknown == UnknownAge::Start;
        require(!twice, "restart.unknown", Fault::Contradiction)
    }
}

impl Check for Status<'_> {
    fn check(&self) -> Result<(), Malformed> {
        let Some(detail) = self.detail else { return Ok(()) };
        text("status.message", detail.message, MESSAGE_MAX)?;
        name("status.executor", detail.executor)
    }
}

impl Check for TaskAt<'_> {
    fn check(&self) -> Result<(), Malformed> {
        given("task.id", self.task)
    }
}

impl Check for TaskOf<'_> {
    fn check(&self) -> Result<(), Malformed> {
        given("task.id", self.task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_task_cannot_start_after_an_unknown_time() {
        let rule =
            Restart { rule: RestartRule::Always, unknown: UnknownAge::Start, ..Restart::default() };
        assert_eq!(rule.check().unwrap_err().field, "restart.unknown");
        assert_eq!(Restart { copies: Copies::Availability, ..rule }.check(), Ok(()));
        assert_eq!(Restart { unknown: UnknownAge::Hold, ..rule }.check(), Ok(()));
    }

    #[test]
    fn only_states_that_nothing_follows_are_terminal() {
        use TaskState::*;
        for state in [Finished, Failed, Killed, Error, Dropped, Gone, Lost] {
            assert!(state.is_terminal(), "{state:?}");
        }
        for state in [Staging, Starting, Running, Killing, Unreachable, GoneByOperator, Unknown] {
            assert!(!state.is_terminal(), "{state:?}");
        }
    }
}
