//! What a framework's scheduler asks of the master (Mesos: `scheduler.proto`, `Call`).

use serde::{Deserialize, Serialize};

use super::agent::OperationRef;
use super::check::{
    Check, Fault, Malformed, count, duration, given, name, nothing_to_check, require, role,
};
use super::ids::{AgentId, Body, FrameworkId, OfferId, Uuid};
use super::resource::Resource;
use super::seq::{Seq, items};
use super::task::{Executor, Launch, TaskAt};
use crate::limits::{
    DURATION_MAX_US, ITEMS_PER_LIST_MAX, KINDS_MAX, ROLES_PER_FRAMEWORK_MAX, TASKS_PER_HEAD_MAX,
};
use crate::resources::Amount;

/// One call. Calls on one connection are answered in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call<'a> {
    /// Who calls; none only in the first SUBSCRIBE.
    pub framework: FrameworkId,
    /// Asks for a [`Reply`](super::event::Event::Reply) that carries this number; 0 = no reply.
    pub ticket: u32,
    /// What it asks.
    #[serde(borrow)]
    pub verb: Verb<'a>,
}

/// What a scheduler can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb<'a> {
    /// Become a framework, or come back as one.
    #[serde(borrow)]
    Subscribe(Subscribe<'a>),
    /// End the framework and all its tasks.
    Teardown,
    /// Use offers of one agent.
    Accept(Accept<'a>),
    /// Give offers back.
    Decline {
        /// Which.
        offers: Seq<'a, OfferId>,
        /// For how long not to be offered the like, in µs; none = 5 s, 0 = ask again at once.
        refuse_us: Option<u64>,
    },
    /// Accept the request to give resources back.
    AcceptInverse {
        /// Which.
        offers: Seq<'a, OfferId>,
        /// For how long not to be asked again, in µs.
        refuse_us: Option<u64>,
    },
    /// Decline the request to give resources back.
    DeclineInverse {
        /// Which.
        offers: Seq<'a, OfferId>,
        /// For how long not to be asked again, in µs.
        refuse_us: Option<u64>,
    },
    /// Drop the filters of these roles and offer to them again; empty = all roles.
    Revive {
        /// Which roles.
        roles: Seq<'a, &'a str>,
    },
    /// Send these roles no offers until REVIVE; empty = all roles.
    Suppress {
        /// Which roles.
        roles: Seq<'a, &'a str>,
    },
    /// Kill a task.
    Kill {
        /// Which, and where if known.
        task: TaskAt<'a>,
        /// From SIGTERM to SIGKILL, in µs; none = what the task says.
        grace_us: Option<u64>,
    },
    /// Shut an executor down with all its tasks.
    Shutdown {
        /// Which.
        executor: &'a str,
        /// Where.
        agent: AgentId,
    },
    /// A status update was taken in; the next of that task may come.
    Acknowledge {
        /// Whose.
        task: &'a str,
        /// Which update.
        uuid: Uuid,
    },
    /// An operation's status was taken in.
    AcknowledgeOperation {
        /// Which operation.
        operation: OperationRef<'a>,
        /// Which update.
        uuid: Uuid,
    },
    /// Tell the latest state of these tasks; none named = of all.
    Reconcile {
        /// Which.
        tasks: Seq<'a, TaskAt<'a>>,
    },
    /// Tell the latest state of these operations; none named = of all.
    ReconcileOperations {
        /// Which.
        operations: Seq<'a, OperationRef<'a>>,
    },
    /// Pass bytes to an executor. At most once.
    Message {
        /// Where it runs.
        agent: AgentId,
        /// Which.
        executor: &'a str,
        /// The bytes.
        data: Body,
    },
    /// Say what would be of use. Decides nothing; `explain` compares with it.
    Request {
        /// What.
        requests: Seq<'a, Request<'a>>,
    },
    /// Change what was said in SUBSCRIBE, keeping the stream.
    UpdateFramework(Subscribe<'a>),
    /// Say which agents its roles want at all; roles not named want all. Since protocol 3.
    Constrain {
        /// A role's constraints each.
        roles: Seq<'a, Constraints<'a>>,
    },
    /// Use offers of one agent, of which more is said: what is left of them stays with them, until
    /// an [`Accept`](Self::Accept) ends them. So an answer of any length has its way, a head at a
    /// time. Since protocol 3.
    AcceptPart(Accept<'a>),
}

/// What a framework is, wants and may (Mesos: `FrameworkInfo` and what comes with it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe<'a> {
    /// For people.
    pub name: &'a str,
    /// The user its tasks run as unless they name another; empty = the caller's own.
    pub user: &'a str,
    /// Who it claims to be (Mesos: `principal`); the caller is known by other means.
    pub principal: &'a str,
    /// Where it runs, for people.
    pub hostname: &'a str,
    /// Its web page, for people.
    pub webui_url: &'a str,
    /// The roles it takes offers in, each once, at most 16.
    #[serde(borrow)]
    pub roles: Seq<'a, &'a str>,
    /// Those of them that want no offers now.
    #[serde(borrow)]
    pub suppressed: Seq<'a, &'a str>,
    /// The least it takes in a role; roles not named take the master's.
    #[serde(borrow)]
    pub minimums: Seq<'a, Minimum<'a>>,
    /// How long its tasks live on without it, in µs.
    pub failover_us: u64,
    /// What it understands: bits of [`Capability`].
    pub capabilities: u32,
    /// Ownership of its acknowledgements.
    pub owned: Ownership,
    /// The rest of its description, and its offer constraints.
    pub public: Body,
}

choice! {
    /// Who acknowledges the updates of a framework's tasks.
    pub enum Ownership {
        /// The framework. As in Mesos.
        Scheduler = 0,
        /// The master, which removes the framework after its last terminal update: nobody need
        /// stay connected to a task that was only to be started.
        Master = 1,
    }

    /// What a framework understands (Mesos: `FrameworkInfo.Capability`), as bit numbers.
    pub enum Capability {
        /// Nothing in particular; never set.
        None = 0,
        /// Takes resources that may be taken back.
        RevocableResources = 1,
        /// Understands TASK_KILLING.
        TaskKillingState = 2,
        /// Takes agents with GPUs.
        GpuResources = 3,
        /// Understands volumes used by several tasks.
        SharedResources = 4,
        /// Tells unreachable, gone, dropped and unknown tasks apart.
        PartitionAware = 5,
        /// Has a list of roles.
        MultiRole = 6,
        /// Understands stacked reservations.
        ReservationRefinement = 7,
        /// Takes agents of other regions.
        RegionAware = 8,
    }

    /// What a constraint looks at (Mesos: `AttributeConstraint.Selector`).
    pub enum Selector {
        /// The first attribute of a name.
        Attribute = 0,
        /// The host's name.
        Hostname = 1,
        /// The region.
        Region = 2,
        /// The zone.
        Zone = 3,
    }

    /// What must hold of it (Mesos: `AttributeConstraint.Predicate`). Predicates on text hold for
    /// whatever is no text.
    pub enum Predicate {
        /// There is such a thing.
        Exists = 0,
        /// There is none.
        NotExists = 1,
        /// It is this text.
        TextEquals = 2,
        /// It is not, or there is none.
        TextNotEquals = 3,
        /// The pattern matches it.
        TextMatches = 4,
        /// The pattern does not match it, or there is none.
        TextNotMatches = 5,
    }
}

impl Predicate {
    /// True when its value is a pattern, which whoever knows patterns judges.
    pub const fn is_pattern(self) -> bool {
        matches!(self, Self::TextMatches | Self::TextNotMatches)
    }
}

nothing_to_check!(Ownership Capability Selector Predicate);

impl Capability {
    /// Its bit in [`Subscribe::capabilities`].
    pub const fn bit(self) -> u32 {
        1u32.wrapping_shl(self as u32)
    }
}

/// What a role takes at the least: any one alternative suffices; none = anything at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minimum<'a> {
    /// The role.
    pub role: &'a str,
    /// Sets of amounts, each enough by itself.
    #[serde(borrow)]
    pub alternatives: Seq<'a, Quantities<'a>>,
}

/// Amounts of several scalar resources at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantities<'a> {
    /// Each resource once.
    #[serde(borrow)]
    pub amounts: Seq<'a, Quantity<'a>>,
}

/// An amount of a scalar resource, whoever's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantity<'a> {
    /// Its name.
    pub name: &'a str,
    /// How much.
    pub amount: Amount,
}

/// Which agents a role wants: those for which one of the groups holds (Mesos: `OfferConstraints`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraints<'a> {
    /// The role.
    pub role: &'a str,
    /// The groups; none = all agents.
    #[serde(borrow)]
    pub groups: Seq<'a, ConstraintGroup<'a>>,
}

/// Constraints all of which must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConstraintGroup<'a> {
    /// At least one.
    #[serde(borrow)]
    pub all: Seq<'a, Constraint<'a>>,
}

/// A predicate on what an agent says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint<'a> {
    /// What it looks at.
    pub selector: Selector,
    /// The attribute, for [`Selector::Attribute`].
    pub attribute: &'a str,
    /// What must hold.
    pub predicate: Predicate,
    /// The text or pattern, for predicates on text.
    pub value: &'a str,
}

/// Operations on offers of one agent and one role, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept<'a> {
    /// The offers, each once.
    #[serde(borrow)]
    pub offers: Seq<'a, OfferId>,
    /// What to do with them.
    #[serde(borrow)]
    pub operations: Seq<'a, Operation<'a>>,
    /// For how long not to be offered what is left over, in µs; none = 5 s.
    pub refuse_us: Option<u64>,
}

/// One operation on offered resources (Mesos: `Offer.Operation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation<'a> {
    /// Start tasks.
    Launch {
        /// Which.
        #[serde(borrow)]
        tasks: Seq<'a, Launch<'a>>,
    },
    /// Start tasks that live and die together.
    LaunchGroup {
        /// Their executor.
        executor: Executor<'a>,
        /// Which.
        tasks: Seq<'a, Launch<'a>>,
    },
    /// Keep unreserved resources for a role, or refine a reservation.
    Reserve(Change<'a>),
    /// Undo the innermost reservation.
    Unreserve(Change<'a>),
    /// Make a persistent volume of reserved disk.
    Create(Change<'a>),
    /// Destroy a persistent volume and its data.
    Destroy(Change<'a>),
    /// Make a volume larger.
    Grow {
        /// The operation's id; empty = no feedback wanted.
        id: &'a str,
        /// The volume.
        volume: Resource<'a>,
        /// What it gets.
        addition: Resource<'a>,
    },
    /// Make a volume smaller.
    Shrink {
        /// The operation's id; empty = no feedback wanted.
        id: &'a str,
        /// The volume.
        volume: Resource<'a>,
        /// What it loses.
        subtract: Amount,
    },
    /// Keep what is reserved in one way in another, all of it or nothing of it.
    Move {
        /// The operation's id; empty = no feedback wanted.
        id: &'a str,
        /// The resources as they are,
        #[serde(borrow)]
        source: Seq<'a, Resource<'a>>,
        /// and each of them as it will be.
        resources: Seq<'a, Resource<'a>>,
    },
}

impl<'a> Operation<'a> {
    /// Its id; empty = no feedback wanted, or a launch.
    pub const fn id(&self) -> &'a str {
        match self {
            Self::Launch { .. } | Self::LaunchGroup { .. } => "",
            Self::Reserve(change)
            | Self::Unreserve(change)
            | Self::Create(change)
            | Self::Destroy(change) => change.id,
            Self::Grow { id, .. } | Self::Shrink { id, .. } | Self::Move { id, .. } => id,
        }
    }

    /// What it launches; none for any other.
    pub const fn tasks(&self) -> Seq<'a, Launch<'a>> {
        match self {
            Self::Launch { tasks } | Self::LaunchGroup { tasks, .. } => *tasks,
            Self::Reserve(_)
            | Self::Unreserve(_)
            | Self::Create(_)
            | Self::Destroy(_)
            | Self::Grow { .. }
            | Self::Shrink { .. }
            | Self::Move { .. } => Seq::EMPTY,
        }
    }

    /// The same under another id. Launches have none.
    pub fn named(self, id: &'a str) -> Self {
        match self {
            Self::Launch { .. } | Self::LaunchGroup { .. } => self,
            Self::Reserve(change) => Self::Reserve(Change { id, ..change }),
            Self::Unreserve(change) => Self::Unreserve(Change { id, ..change }),
            Self::Create(change) => Self::Create(Change { id, ..change }),
            Self::Destroy(change) => Self::Destroy(Change { id, ..change }),
            Self::Grow { volume, addition, .. } => Self::Grow { id, volume, addition },
            Self::Shrink { volume, subtract, .. } => Self::Shrink { id, volume, subtract },
            Self::Move { source, resources, .. } => Self::Move { id, source, resources },
        }
    }
}

/// An operation that changes what resources are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<'a> {
    /// The operation's id; empty = no feedback wanted.
    pub id: &'a str,
    /// The resources as they will be, or, to undo, as they are.
    #[serde(borrow)]
    pub resources: Seq<'a, Resource<'a>>,
}

/// What would be of use to a framework (Mesos: `Request`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request<'a> {
    /// On which agent; none = any.
    pub agent: AgentId,
    /// At least this much at once.
    #[serde(borrow)]
    pub amounts: Seq<'a, Quantity<'a>>,
}

items!(; Operation, Minimum, Quantities, Quantity, Request, Constraints, ConstraintGroup, Constraint);

impl<'a> Verb<'a> {
    /// What is made of offers, if this says so.
    pub const fn accepted(&self) -> Option<&Accept<'a>> {
        match self {
            Self::Accept(accept) | Self::AcceptPart(accept) => Some(accept),
            Self::Subscribe(_)
            | Self::Teardown
            | Self::Decline { .. }
            | Self::AcceptInverse { .. }
            | Self::DeclineInverse { .. }
            | Self::Revive { .. }
            | Self::Suppress { .. }
            | Self::Kill { .. }
            | Self::Shutdown { .. }
            | Self::Acknowledge { .. }
            | Self::AcknowledgeOperation { .. }
            | Self::Reconcile { .. }
            | Self::ReconcileOperations { .. }
            | Self::Message { .. }
            | Self::Request { .. }
            | Self::UpdateFramework(_)
            | Self::Constrain { .. } => None,
        }
    }
}

impl Check for Call<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.verb.check()
    }
}

impl Check for Verb<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Subscribe(subscribe) | Self::UpdateFramework(subscribe) => subscribe.check(),
            Self::Teardown => Ok(()),
            Self::Accept(accept) | Self::AcceptPart(accept) => accept.check(),
            // A refusal longer than a year is cut to it, as Mesos does, not refused.
            Self::Decline { offers, .. }
            | Self::AcceptInverse { offers, .. }
            | Self::DeclineInverse { offers, .. } => offers.check(),
            Self::Revive { roles } | Self::Suppress { roles } => check_roles("roles", roles),
            Self::Kill { task, grace_us } => {
                task.check()?;
                duration("kill.grace", grace_us.unwrap_or(0))
            }
            Self::Shutdown { executor, .. } => given("shutdown.executor", executor),
            Self::Acknowledge { task, .. } => given("acknowledge.task", task),
            Self::AcknowledgeOperation { operation, .. } => operation.check(),
            Self::Reconcile { tasks } => tasks.check_up_to("reconcile.tasks", TASKS_PER_HEAD_MAX),
            Self::ReconcileOperations { operations } => operations.check(),
            Self::Message { executor, .. } => given("message.executor", executor),
            Self::Request { requests } => requests.check(),
            Self::Constrain { roles } => roles.check_up_to("constraints", ROLES_PER_FRAMEWORK_MAX),
        }
    }
}

impl Check for Subscribe<'_> {
    fn check(&self) -> Result<(), Malformed> {
        name("framework.name", self.name)?;
        name("framework.user", self.user)?;
        name("framework.principal", self.principal)?;
        name("framework.hostname", self.hostname)?;
        name("framework.webui_url", self.webui_url)?;
        check_roles("framework.roles", &self.roles)?;
        check_roles("framework.suppressed_roles", &self.suppressed)?;
        self.minimums.check_up_to("framework.minimums", ROLES_PER_FRAMEWORK_MAX)?;
        duration("framework.failover_timeout", self.failover_us.min(DURATION_MAX_US))
    }
}

/// Valid roles; that none comes twice is for the master to say, which sorts them anyway.
fn check_roles(field: &'static str, roles: &Seq<'_, &str>) -> Result<(), Malformed> {
    roles.check_up_to(field, ROLES_PER_FRAMEWORK_MAX)?;
    roles.iter().try_for_each(|path| role(field, path))
}

impl Check for Accept<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.offers.check()?;
        self.operations.check_up_to("accept.operations", TASKS_PER_HEAD_MAX)?;
        let tasks = self.operations.iter().map(|operation| operation.tasks().len());
        // One step tells of each of them.
        let tasks = tasks.fold(0u32, u32::saturating_add);
        let most = count(TASKS_PER_HEAD_MAX);
        require(tasks <= most, "accept.tasks", Fault::TooMany(most))
    }
}

impl Check for Operation<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Launch { tasks } => tasks.check_up_to("launch.tasks", TASKS_PER_HEAD_MAX),
            Self::LaunchGroup { executor, tasks } => {
                executor.check()?;
                tasks.check_up_to("launch.tasks", TASKS_PER_HEAD_MAX)
            }
            Self::Reserve(change)
            | Self::Unreserve(change)
            | Self::Create(change)
            | Self::Destroy(change) => {
                name("operation.id", change.id)?;
                change.resources.check_up_to("operation.resources", ITEMS_PER_LIST_MAX)
            }
            Self::Grow { id, volume, addition } => {
                name("operation.id", id)?;
                volume.check()?;
                addition.check()
            }
            Self::Shrink { id, volume, subtract } => {
                name("operation.id", id)?;
                volume.check()?;
                subtract.check()
            }
            Self::Move { id, source, resources } => {
                name("operation.id", id)?;
                source.check_up_to("operation.source", ITEMS_PER_LIST_MAX)?;
                resources.check_up_to("operation.resources", ITEMS_PER_LIST_MAX)
            }
        }
    }
}

impl Check for Minimum<'_> {
    fn check(&self) -> Result<(), Malformed> {
        role("minimum.role", self.role)?;
        self.alternatives.check_up_to("minimum.alternatives", 16)
    }
}

impl Check for Quantities<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.amounts.check_up_to("quantities", KINDS_MAX)
    }
}

impl Check for Quantity<'_> {
    fn check(&self) -> Result<(), Malformed> {
        given("quantity.name", self.name)?;
        self.amount.check()
    }
}

impl Check for Constraints<'_> {
    fn check(&self) -> Result<(), Malformed> {
        role("constraints.role", self.role)?;
        self.groups.check_up_to("constraints.groups", CONSTRAINTS_MAX)
    }
}

impl Check for ConstraintGroup<'_> {
    fn check(&self) -> Result<(), Malformed> {
        require(!self.all.is_empty(), "constraints.group", Fault::Empty)?;
        self.all.check_up_to("constraints.group", CONSTRAINTS_MAX)
    }
}

impl Check for Constraint<'_> {
    fn check(&self) -> Result<(), Malformed> {
        let named = self.selector == Selector::Attribute;
        require(named != self.attribute.is_empty(), "constraint.attribute", Fault::Contradiction)?;
        let exists = matches!(self.predicate, Predicate::Exists | Predicate::NotExists);
        require(!exists || self.value.is_empty(), "constraint.value", Fault::Contradiction)?;
        name("constraint.attribute", self.attribute)?;
        name("constraint.value", self.value)
    }
}

/// Groups of constraints, and constraints of a group.
const CONSTRAINTS_MAX: usize = 64;

impl Check for Request<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.amounts.check_up_to("request", KINDS_MAX)
    }
}

const _: () = assert!(size_of::<Call<'_>>() <= 256);
