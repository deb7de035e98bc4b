//! What an agent must not forget: one record after the other, appended to a file.
//!
//! A record is a frame of the wire's form whose head is one [`Record`] and whose bodies are the
//! task's, so it is checked by the same checksum and hashes. Records are absolute: reading one
//! twice changes nothing, and one about something unknown is passed over. So a file that is being
//! written anew is read after the older one, however far it came.
//!
//! `fsync` waits where a lost record would break a promise: whose word counts ([`Record::Fence`]),
//! a start of the agent, the end of a task before it is first told, a launch that is to survive a
//! reboot. A plain launch is written before its process starts, without waiting for the disk.

use serde::{Deserialize, Serialize};

use crate::resources::Amount;
use crate::wire::agent::{FrameworkHeld, OperationRef, OperationStatus};
use crate::wire::resource::Resource;
use crate::wire::task::{Executor, Launch, Status, TaskOf, TaskState};
use crate::wire::{AgentId, Body, Check, ContainerId, Fence, FrameworkId, Malformed, Seq, Session};

/// How the file begins: its name and the version of its form. A newer one is refused.
pub const MAGIC: [u8; 8] = *b"mesitaL1";

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record<'a> {
    /// The agent started.
    Started {
        /// For the so-manieth time, from 1.
        incarnation: u32,
        /// The kernel's name of its boot; another one = the machine was off.
        boot: [u8; 16],
    },
    /// A master admitted it.
    Admitted {
        /// To this cluster.
        cluster: u64,
        /// Under this id.
        agent: AgentId,
    },
    /// It obeys no older word than this.
    Fence(Fence),
    /// A framework as it is known here.
    #[serde(borrow)]
    Framework(FrameworkHeld<'a>),
    /// A framework is no more.
    FrameworkGone {
        /// Which.
        framework: FrameworkId,
    },
    /// An executor was accepted.
    Executor {
        /// Whose.
        framework: FrameworkId,
        /// The role that its resources are allocated to.
        role: &'a str,
        /// Its user.
        user: &'a str,
        /// Its container.
        container: ContainerId,
        /// It.
        #[serde(borrow)]
        executor: Executor<'a>,
    },
    /// An executor ended.
    ExecutorGone {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: &'a str,
    },
    /// A task was accepted.
    Task {
        /// Whose.
        framework: FrameworkId,
        /// The role that its resources are allocated to.
        role: &'a str,
        /// Its user.
        user: &'a str,
        /// Its container, or its executor's.
        container: ContainerId,
        /// It.
        #[serde(borrow)]
        launch: Launch<'a>,
    },
    /// A task is about to be started once more.
    Attempt {
        /// Which.
        #[serde(borrow)]
        task: TaskOf<'a>,
        /// For the so-manieth time after the first.
        attempt: u32,
        /// In which container.
        container: ContainerId,
    },
    /// A task is about to be killed, and not to be started again.
    Kill {
        /// Which.
        #[serde(borrow)]
        task: TaskOf<'a>,
    },
    /// A task ended, or an executor told something of it: to be told until acknowledged.
    Update {
        /// Whose.
        framework: FrameworkId,
        /// Names the update.
        sequence: u64,
        /// The status.
        #[serde(borrow)]
        status: Status<'a>,
        /// The executor's own name of it.
        uuid: [u8; 16],
    },
    /// An update was acknowledged. After its last one a task is forgotten.
    Acknowledged {
        /// Whose.
        #[serde(borrow)]
        task: TaskOf<'a>,
        /// Which update.
        sequence: u64,
    },
    /// A task is forgotten without more.
    Forgotten {
        /// Which.
        #[serde(borrow)]
        task: TaskOf<'a>,
    },
    /// What operations have made of the agent's resources: dynamic reservations and volumes.
    Resources {
        /// All of it.
        #[serde(borrow)]
        resources: Seq<'a, Resource<'a>>,
    },
    /// An operation's end: to be told until acknowledged.
    Operation {
        /// Whose; none = an operator's.
        framework: FrameworkId,
        /// Names the update.
        sequence: u64,
        /// The status.
        #[serde(borrow)]
        status: OperationStatus<'a>,
    },
    /// An operation's end was acknowledged.
    OperationAcknowledged {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        #[serde(borrow)]
        operation: OperationRef<'a>,
        /// Which update.
        sequence: u64,
    },
    /// Where the clocks stood: what is known of how long the machine was off.
    Stamp {
        /// The kernel's name of its boot.
        boot: [u8; 16],
        /// Time since that boot, in µs.
        boot_us: u64,
        /// The wall clock, in µs of Unix time.
        wall_us: u64,
        /// The kernel called its clock synchronised.
        synchronised: bool,
    },
    /// A session's verdicts are kept.
    Settled {
        /// Which session.
        session: Session,
    },
    /// The file is being written anew; what follows stands for everything before.
    SnapshotBegins,
    /// The file is whole: the older one may go.
    SnapshotEnds,
    /// The agent drains.
    Draining {
        /// No task gets more grace than this, in µs; none = what each says.
        grace_us: Option<u64>,
        /// It will be marked gone.
        gone: bool,
    },
    /// Limits of a task were changed.
    Limits {
        /// Which.
        #[serde(borrow)]
        task: TaskOf<'a>,
        /// Thousandths of cpus; none = no limit.
        cpus: Option<Amount>,
        /// MiB; none = no limit.
        mem: Option<Amount>,
    },
    /// A task is about to be killed because its health check failed too often.
    Unhealthy {
        /// Which.
        #[serde(borrow)]
        task: TaskOf<'a>,
    },
    /// The agent accepts tasks again.
    Reactivated,
    /// An operation changed resources: both at once, so that a restart knows both or neither.
    Operated {
        /// Whose.
        framework: FrameworkId,
        /// Names the update.
        sequence: u64,
        /// The status, to be told until acknowledged.
        #[serde(borrow)]
        status: OperationStatus<'a>,
        /// As in `Resources`.
        #[serde(borrow)]
        resources: Seq<'a, Resource<'a>>,
    },
    /// A task's executor told that it has it.
    Told {
        /// Which.
        #[serde(borrow)]
        task: TaskOf<'a>,
        /// How it went then.
        state: TaskState,
    },
    /// What everybody may see of a framework.
    Described {
        /// Which.
        framework: FrameworkId,
        /// It.
        public: Body,
    },
    /// A task has begun to run, of those that stay if they have run longest, or run so long at most.
    Began {
        /// Which.
        #[serde(borrow)]
        task: TaskOf<'a>,
        /// When, in µs since the machine's boot.
        boot_us: u64,
    },
    /// An update before the end was acknowledged: it, and what came before it, is not told again.
    Said {
        /// Whose.
        framework: FrameworkId,
        /// The status, without its sentence; its number names the update.
        #[serde(borrow)]
        status: Status<'a>,
        /// The executor's own name of it.
        uuid: [u8; 16],
    },
    /// The machine was off before the boot that the agent started in.
    Rebooted {
        /// So often in a row, before it was steady.
        reboots: u32,
        /// The first start of the agent after that.
        since: u32,
    },
    /// A master has heard a later start of this agent than this ledger knows: it starts no more.
    Outlived,
}

impl Record<'_> {
    /// True when whatever follows from it must wait for the disk.
    pub const fn needs_disk(&self) -> bool {
        match self {
            Self::Started { .. }
            | Self::Admitted { .. }
            | Self::Fence(_)
            | Self::Attempt { .. }
            | Self::Kill { .. }
            | Self::Acknowledged { .. }
            | Self::Resources { .. }
            | Self::Operation { .. }
            | Self::OperationAcknowledged { .. }
            | Self::Settled { .. }
            | Self::SnapshotEnds
            | Self::Draining { .. }
            | Self::Operated { .. }
            | Self::Outlived
            | Self::Reactivated => true,
            Self::Update { status, .. } => status.state.is_terminal(),
            Self::Framework(_)
            | Self::FrameworkGone { .. }
            | Self::Executor { .. }
            | Self::ExecutorGone { .. }
            | Self::Task { .. }
            | Self::Forgotten { .. }
            | Self::Stamp { .. }
            | Self::SnapshotBegins
            | Self::Unhealthy { .. }
            | Self::Told { .. }
            | Self::Described { .. }
            | Self::Began { .. }
            | Self::Said { .. }
            | Self::Rebooted { .. }
            | Self::Limits { .. } => false,
        }
    }
}

impl Check for Record<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Framework(held) => held.check(),
            Self::Executor { executor, .. } => executor.check(),
            Self::Task { launch, .. } => launch.check(),
            Self::Attempt { task, .. }
            | Self::Kill { task }
            | Self::Acknowledged { task, .. }
            | Self::Forgotten { task }
            | Self::Unhealthy { task }
            | Self::Told { task, .. }
            | Self::Began { task, .. }
            | Self::Limits { task, .. } => task.check(),
            Self::Update { status, .. } | Self::Said { status, .. } => status.check(),
            Self::Resources { resources } => resources.check(),
            Self::Operation { status, .. } => status.check(),
            Self::OperationAcknowledged { operation, .. } => operation.check(),
            Self::Operated { status, resources, .. } => {
                status.check()?;
                resources.check()
            }
            Self::Started { .. }
            | Self::Admitted { .. }
            | Self::Fence(_)
            | Self::FrameworkGone { .. }
            | Self::ExecutorGone { .. }
            | Self::Stamp { .. }
            | Self::Settled { .. }
            | Self::SnapshotBegins
            | Self::SnapshotEnds
            | Self::Draining { .. }
            | Self::Described { .. }
            | Self::Rebooted { .. }
            | Self::Outlived
            | Self::Reactivated => Ok(()),
        }
    }
}
