//! What an agent and the leading master say to each other (Mesos: `messages.proto`).
//!
//! A session begins when an agent builds a registration: [`AgentCall::Register`], then as many
//! [`AgentCall::Report`]s as its tasks need, hashes only, at most 256 tasks a frame; the master asks
//! for the bodies it lacks. From then on only launches that name this session are accepted.

use serde::{Deserialize, Serialize};

use super::check::{
    Check, Fault, Malformed, duration, given, name, nothing_to_check, require, role, text,
};
use super::ids::{AgentId, Body, ContainerId, Fence, FrameworkId, Session};
use super::resource::{Attribute, Resource};
use super::seq::{Seq, items};
use super::task::{
    Copies, Exit, Launch, Reason, Restart, RestartRule, Source, Status, TaskOf, TaskState,
};
use crate::limits::{ITEMS_PER_LIST_MAX, MESSAGE_MAX, ROLES_PER_FRAMEWORK_MAX, TASKS_PER_HEAD_MAX};

/// What an agent tells the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentCall<'a> {
    /// Opens a session. Everything before it on other connections of this agent is void.
    #[serde(borrow)]
    Register(Register<'a>),
    /// A part of what it holds.
    Report(Report<'a>),
    /// Bodies that the master asked for.
    Bodies {
        /// The session.
        session: Session,
        /// Whose, at most 256.
        tasks: Seq<'a, TaskBodies<'a>>,
    },
    /// The master's verdicts on what was reported are on disk.
    Settled {
        /// The session.
        session: Session,
    },
    /// What became of a task. Sent again until acknowledged when it has a uuid.
    Update {
        /// Whose task.
        framework: FrameworkId,
        /// Its newest state, which may be past the one told here (Mesos: `latest_state`).
        latest: TaskState,
        /// The status.
        status: Status<'a>,
    },
    /// What became of an operation.
    OperationUpdate {
        /// Whose operation.
        framework: FrameworkId,
        /// The status.
        status: OperationStatus<'a>,
    },
    /// Bytes from an executor to its scheduler. At most once.
    Message {
        /// Whose.
        framework: FrameworkId,
        /// Which executor.
        executor: &'a str,
        /// The bytes.
        data: Body,
    },
    /// An executor ended.
    ExecutorEnded {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: &'a str,
        /// How.
        exit: Exit,
    },
    /// It has more or less than it registered with.
    Totals {
        /// The session.
        session: Session,
        /// All it has now.
        resources: Seq<'a, Resource<'a>>,
    },
    /// It goes away for good, and its tasks have ended.
    Leave {
        /// The session.
        session: Session,
    },
    /// It is being emptied, as an operator once said. Since protocol 3.
    Draining {
        /// The session.
        session: Session,
        /// No task gets more grace than this, in µs; none = what each task says.
        grace_us: Option<u64>,
        /// It is to be marked gone then.
        gone: bool,
    },
    /// How long tasks of the report before have run, of those that stay if they have run longest.
    /// Since protocol 3.
    Ran {
        /// The session.
        session: Session,
        /// Those tasks, at most 256.
        tasks: Seq<'a, TaskRan<'a>>,
    },
    /// What was acknowledged last of what was told of tasks whose bodies were wanted, and of which
    /// nothing else is to be told. Since protocol 3.
    Told {
        /// The session.
        session: Session,
        /// Those tasks, at most 256.
        tasks: Seq<'a, TaskTold<'a>>,
    },
    /// It is about to go away for good, and ends its tasks: nothing new is for it. Since protocol 3.
    Leaving {
        /// The session.
        session: Session,
    },
}

/// Who an agent is and what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register<'a> {
    /// Made by the agent for this registration.
    pub session: Session,
    /// Its id, if it was admitted before.
    pub agent: AgentId,
    /// The newest orders it has obeyed.
    pub seen: Fence,
    /// Its cluster; 0 = none yet.
    pub cluster: u64,
    /// The key that it is known by.
    pub key: [u8; 32],
    /// Its host's name: `--hostname`, else the kernel's node name.
    pub hostname: &'a str,
    /// Its region; empty = not said.
    pub region: &'a str,
    /// Its zone; empty = not said.
    pub zone: &'a str,
    /// `host:port` where its own API answers; empty = nowhere but through the master.
    pub address: &'a str,
    /// Its attributes.
    #[serde(borrow)]
    pub attributes: Seq<'a, Attribute<'a>>,
    /// All it has.
    #[serde(borrow)]
    pub resources: Seq<'a, Resource<'a>>,
    /// Tasks it can hold.
    pub tasks_max: u32,
    /// Kinds of tasks it runs.
    pub task_kinds: u32,
    /// How many reports follow.
    pub reports: u32,
}

/// A part of what an agent holds: whatever comes first is named before it is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report<'a> {
    /// The session.
    pub session: Session,
    /// Which part, from 0.
    pub part: u32,
    /// Frameworks with tasks or executors here.
    #[serde(borrow)]
    pub frameworks: Seq<'a, FrameworkHeld<'a>>,
    /// Executors that live here.
    #[serde(borrow)]
    pub executors: Seq<'a, ExecutorHeld<'a>>,
    /// Tasks that live here, or whose end is not acknowledged; at most 256.
    #[serde(borrow)]
    pub tasks: Seq<'a, TaskHeld<'a>>,
}

/// A framework as an agent knows it: enough for a master that never heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameworkHeld<'a> {
    /// Its id.
    pub framework: FrameworkId,
    /// For people.
    pub name: &'a str,
    /// The user its tasks run as.
    pub user: &'a str,
    /// Who it claimed to be.
    pub principal: &'a str,
    /// Who it was found to be: the caller's name.
    pub caller: &'a str,
    /// How long its tasks live on without it, in µs.
    pub failover_us: u64,
    /// What it understands.
    pub capabilities: u32,
    /// Its roles.
    #[serde(borrow)]
    pub roles: Seq<'a, &'a str>,
    /// Who acknowledges.
    pub owned: super::call::Ownership,
}

/// An executor as its agent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorHeld<'a> {
    /// Whose.
    pub framework: FrameworkId,
    /// Which.
    pub executor: &'a str,
    /// The role that its resources are allocated to.
    pub role: &'a str,
    /// Its container.
    pub container: ContainerId,
    /// What it gets for itself.
    #[serde(borrow)]
    pub resources: Seq<'a, Resource<'a>>,
    /// Length and hash of its description.
    pub body: Hash,
}

/// A task as its agent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHeld<'a> {
    /// Whose.
    pub framework: FrameworkId,
    /// Which.
    pub task: &'a str,
    /// Its executor; empty = the agent runs its command.
    pub executor: &'a str,
    /// The role that its resources are allocated to.
    pub role: &'a str,
    /// Its container, or its executor's.
    pub container: ContainerId,
    /// The newest state.
    pub state: TaskState,
    /// The newest state that an update told and nobody acknowledged, if there is one.
    pub unacknowledged: Option<TaskState>,
    /// Which start of the task this is.
    pub attempt: u32,
    /// Its restart rule.
    pub restart: Restart,
    /// What it holds.
    #[serde(borrow)]
    pub resources: Seq<'a, Resource<'a>>,
    /// Length and hash of its public body.
    pub public: Hash,
}

/// A task, and for how long it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRan<'a> {
    /// It, as in the report.
    #[serde(borrow)]
    pub held: TaskHeld<'a>,
    /// For how long it has run since its newest start, in µs; 0 = it does not, or nobody knows.
    pub us: u64,
}

impl TaskHeld<'_> {
    /// True for one that waits to be started again, and of which there may be only one.
    pub const fn waits_alone(&self) -> bool {
        let rule = !matches!(self.restart.rule, RestartRule::Never);
        let alone = matches!(self.restart.copies, Copies::Exclusive);
        rule && alone && matches!(self.state, TaskState::Starting)
    }
}

/// A body by what it holds, without the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hash {
    /// Bytes.
    pub len: u32,
    /// SipHash-1-3 with a zero key.
    pub hash: u64,
}

/// The bodies of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskBodies<'a> {
    /// Which task.
    #[serde(borrow)]
    pub task: TaskOf<'a>,
    /// What everybody may see.
    pub public: Body,
}

/// What was told of a task before, beside its state, which is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTold<'a> {
    /// Which task.
    #[serde(borrow)]
    pub task: TaskOf<'a>,
    /// In which state it was then.
    pub state: TaskState,
    /// Who said so.
    pub source: Source,
    /// Why.
    pub reason: Option<Reason>,
    /// Names that update.
    pub uuid: u64,
    /// When, in µs of Unix time.
    pub wall_us: u64,
    /// The result of its health check.
    pub healthy: Option<bool>,
    /// Labels, container status, check results.
    pub public: Body,
}

/// What the master tells an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentEvent<'a> {
    /// The session is open, and every report was taken in.
    Registered {
        /// Whose word it is; the agent keeps it before it obeys.
        fence: Fence,
        /// The session that it answers.
        session: Session,
        /// The agent's id.
        agent: AgentId,
        /// The cluster's id.
        cluster: u64,
        /// Silence for so long ends a session, in µs.
        timeout_us: u64,
    },
    /// It may not register; it should not ask again before something changed.
    Refused {
        /// Whose word it is.
        fence: Fence,
        /// Why.
        refusal: crate::Refusal,
        /// Why, in a sentence.
        message: &'a str,
    },
    /// Bodies that the master lacks.
    Want {
        /// The session.
        session: Session,
        /// Whose.
        #[serde(borrow)]
        tasks: Seq<'a, TaskOf<'a>>,
    },
    /// What is to become of reported tasks.
    Verdicts {
        /// Whose word it is.
        fence: Fence,
        /// The session.
        session: Session,
        /// On which tasks; those not named stay.
        tasks: Seq<'a, Verdict<'a>>,
        /// No more of them follow.
        last: bool,
    },
    /// Start tasks of one framework.
    Launch {
        /// Whose word it is.
        fence: Fence,
        /// The session it is for.
        session: Session,
        /// Whose.
        framework: FrameworkHeld<'a>,
        /// The role of the offers.
        role: &'a str,
        /// Which.
        tasks: Seq<'a, Launch<'a>>,
    },
    /// Kill a task.
    Kill {
        /// Which.
        task: TaskOf<'a>,
        /// From SIGTERM to SIGKILL, in µs; none = what the task says.
        grace_us: Option<u64>,
    },
    /// The scheduler took an update in.
    Acknowledge {
        /// Whose.
        task: TaskOf<'a>,
        /// The ledger's sequence number of the update.
        sequence: u64,
    },
    /// The scheduler took an operation's status in.
    AcknowledgeOperation {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        operation: OperationRef<'a>,
        /// The ledger's sequence number of the update.
        sequence: u64,
    },
    /// Bytes for an executor.
    Message {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: &'a str,
        /// The bytes.
        data: Body,
    },
    /// Shut an executor down with its tasks.
    ShutdownExecutor {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: &'a str,
    },
    /// A framework is no more: end all it has, and forget what it would acknowledge.
    ShutdownFramework {
        /// Which.
        framework: FrameworkId,
    },
    /// Tell the state of these tasks, which the master thinks are here.
    Reconcile {
        /// Which.
        tasks: Seq<'a, TaskOf<'a>>,
    },
    /// A framework's description changed.
    UpdateFramework {
        /// To what.
        framework: FrameworkHeld<'a>,
    },
    /// Change what resources are.
    Operate {
        /// Whose word it is.
        fence: Fence,
        /// The session it is for.
        session: Session,
        /// Whose; none = an operator's.
        framework: FrameworkId,
        /// Which, in order.
        operations: Seq<'a, super::call::Operation<'a>>,
    },
    /// End every task, and accept no more.
    Drain {
        /// No task gets more grace than this, in µs; none = what each task says.
        grace_us: Option<u64>,
        /// It will then be marked gone.
        gone: bool,
    },
    /// The cluster goes on without it: end everything.
    Shutdown {
        /// Why.
        message: &'a str,
    },
    /// It is emptied no more: accept tasks again. Since protocol 3.
    Reactivate,
    /// Tell of these operations, which the master thinks are here, if they are not. Since protocol 3.
    ReconcileOperations {
        /// Which.
        operations: Seq<'a, OperationOf<'a>>,
    },
    /// What everybody may see of a framework that has something there. Since protocol 3.
    DescribeFramework {
        /// Which.
        framework: FrameworkId,
        /// It; none = nothing but what [`FrameworkHeld`] says.
        public: Body,
    },
}

/// An operation by its framework's word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationOf<'a> {
    /// Whose.
    pub framework: FrameworkId,
    /// Which.
    pub operation: &'a str,
}

/// What is to become of a reported task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict<'a> {
    /// Which.
    #[serde(borrow)]
    pub task: TaskOf<'a>,
    /// What.
    pub fate: Fate,
}

choice! {
    /// What is to become of a reported task.
    pub enum Fate {
        /// It goes on.
        Keep = 0,
        /// It is killed.
        Kill = 1,
        /// It may be started again by its rule.
        Restart = 2,
        /// It is forgotten: its end was acknowledged, or nobody is left to be told.
        Forget = 3,
    }

    /// Where an operation is in its life (Mesos: `OperationState`).
    pub enum OperationState {
        /// Accepted by the master, not yet done.
        Pending = 0,
        /// Done. Terminal.
        Finished = 1,
        /// Tried in vain. Terminal.
        Failed = 2,
        /// Never possible as described. Terminal.
        Error = 3,
        /// Never tried. Terminal.
        Dropped = 4,
        /// Its agent does not answer.
        Unreachable = 5,
        /// An operator said that its agent will not come back. Terminal.
        GoneByOperator = 6,
        /// The master has not heard from its agent since it began to lead.
        Recovering = 7,
        /// Never heard of, or forgotten.
        Unknown = 8,
    }
}

impl OperationState {
    /// True when nothing follows.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Finished | Self::Failed | Self::Error | Self::Dropped | Self::GoneByOperator => {
                true
            }
            Self::Pending | Self::Unreachable | Self::Recovering | Self::Unknown => false,
        }
    }
}

nothing_to_check!(Fate OperationState Hash);

/// An operation of some framework, and where it is thought to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationRef<'a> {
    /// Its id, the framework's choice.
    pub operation: &'a str,
    /// Its agent, if known.
    pub agent: AgentId,
    /// Its resource provider; empty = the agent itself.
    pub provider: &'a str,
}

/// What became of an operation (Mesos: `OperationStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationStatus<'a> {
    /// Which.
    pub operation: OperationRef<'a>,
    /// Its state now.
    pub state: OperationState,
    /// Names this update, to be acknowledged; none = nothing to acknowledge.
    pub uuid: Option<u64>,
    /// Why, in a sentence.
    pub message: &'a str,
    /// What came out of it.
    #[serde(borrow)]
    pub converted: Seq<'a, Resource<'a>>,
}

items!(; FrameworkHeld, ExecutorHeld, TaskHeld, TaskRan, TaskBodies, TaskTold, Verdict, OperationRef, OperationOf);

impl Check for AgentCall<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Register(register) => register.check(),
            Self::Report(report) => report.check(),
            Self::Bodies { tasks, .. } => tasks.check_up_to("bodies.tasks", TASKS_PER_HEAD_MAX),
            Self::Settled { .. } | Self::Leave { .. } | Self::Leaving { .. } => Ok(()),
            Self::Draining { grace_us, .. } => duration("draining.grace", grace_us.unwrap_or(0)),
            Self::Update { status, .. } => {
                given("status.task", status.task)?;
                status.check()
            }
            Self::OperationUpdate { status, .. } => status.check(),
            Self::Message { executor, .. } => given("message.executor", executor),
            Self::ExecutorEnded { executor, .. } => given("executor.id", executor),
            Self::Totals { resources, .. } => {
                resources.check_up_to("agent.resources", ITEMS_PER_LIST_MAX)
            }
            Self::Ran { tasks, .. } => tasks.check_up_to("ran.tasks", TASKS_PER_HEAD_MAX),
            Self::Told { tasks, .. } => tasks.check_up_to("told.tasks", TASKS_PER_HEAD_MAX),
        }
    }
}

impl Check for Register<'_> {
    fn check(&self) -> Result<(), Malformed> {
        require(self.session.incarnation > 0, "register.session", Fault::Empty)?;
        require(self.key != [0; 32], "register.key", Fault::Empty)?;
        given("register.hostname", self.hostname)?;
        name("register.region", self.region)?;
        name("register.zone", self.zone)?;
        name("register.address", self.address)?;
        self.attributes.check()?;
        self.resources.check_up_to("register.resources", ITEMS_PER_LIST_MAX)
    }
}

impl Check for Report<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.frameworks.check_up_to("report.frameworks", TASKS_PER_HEAD_MAX)?;
        self.executors.check_up_to("report.executors", TASKS_PER_HEAD_MAX)?;
        self.tasks.check_up_to("report.tasks", TASKS_PER_HEAD_MAX)
    }
}

impl Check for FrameworkHeld<'_> {
    fn check(&self) -> Result<(), Malformed> {
        require(!self.framework.is_none(), "framework.id", Fault::Empty)?;
        name("framework.name", self.name)?;
        name("framework.user", self.user)?;
        name("framework.principal", self.principal)?;
        name("framework.caller", self.caller)?;
        duration("framework.failover_timeout", self.failover_us)?;
        self.roles.check_up_to("framework.roles", ROLES_PER_FRAMEWORK_MAX)
    }
}

impl Check for ExecutorHeld<'_> {
    fn check(&self) -> Result<(), Malformed> {
        given("executor.id", self.executor)?;
        role("executor.role", self.role)?;
        self.resources.check_up_to("executor.resources", ITEMS_PER_LIST_MAX)
    }
}

impl Check for TaskHeld<'_> {
    fn check(&self) -> Result<(), Malformed> {
        given("task.id", self.task)?;
        name("task.executor", self.executor)?;
        role("task.role", self.role)?;
        self.restart.check()?;
        self.resources.check_up_to("task.resources", ITEMS_PER_LIST_MAX)
    }
}

impl Check for TaskRan<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.held.check()?;
        duration("ran.us", self.us)
    }
}

impl Check for TaskBodies<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.task.check()
    }
}

impl Check for TaskTold<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.task.check()
    }
}

impl Check for AgentEvent<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Registered { timeout_us, .. } => duration("registered.timeout", *timeout_us),
            Self::Refused { message, .. } | Self::Shutdown { message } => {
                text("message", message, MESSAGE_MAX)
            }
            Self::Want { tasks, .. } => tasks.check_up_to("want.tasks", TASKS_PER_HEAD_MAX),
            Self::Verdicts { tasks, .. } => tasks.check_up_to("verdicts", TASKS_PER_HEAD_MAX),
            Self::Launch { framework, role: of, tasks, .. } => {
                framework.check()?;
                role("launch.role", of)?;
                tasks.check_up_to("launch.tasks", TASKS_PER_HEAD_MAX)
            }
            Self::Kill { task, grace_us } => {
                task.check()?;
                duration("kill.grace", grace_us.unwrap_or(0))
            }
            Self::Acknowledge { task, .. } => task.check(),
            Self::AcknowledgeOperation { operation, .. } => operation.check(),
            Self::Message { executor, .. } | Self::ShutdownExecutor { executor, .. } => {
                given("executor.id", executor)
            }
            Self::ShutdownFramework { .. } | Self::Reactivate | Self::DescribeFramework { .. } => {
                Ok(())
            }
            Self::Reconcile { tasks } => tasks.check_up_to("reconcile.tasks", TASKS_PER_HEAD_MAX),
            Self::UpdateFramework { framework } => framework.check(),
            Self::Operate { operations, .. } => {
                operations.check_up_to("operate", TASKS_PER_HEAD_MAX)
            }
            Self::Drain { grace_us, .. } => duration("drain.grace", grace_us.unwrap_or(0)),
            Self::ReconcileOperations { operations } => {
                operations.check_up_to("reconcile.operations", ITEMS_PER_LIST_MAX)
            }
        }
    }
}

impl Check for OperationOf<'_> {
    fn check(&self) -> Result<(), Malformed> {
        given("operation.id", self.operation)
    }
}

impl Check for Verdict<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.task.check()
    }
}

impl Check for OperationRef<'_> {
    fn check(&self) -> Result<(), Malformed> {
        name("operation.id", self.operation)?;
        name("operation.provider", self.provider)
    }
}

impl Check for OperationStatus<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.operation.check()?;
        text("operation.message", self.message, MESSAGE_MAX)?;
        self.converted.check_up_to("operation.converted", ITEMS_PER_LIST_MAX)
    }
}

const _: () = assert!(size_of::<AgentCall<'_>>() <= 256 && size_of::<AgentEvent<'_>>() <= 256);
