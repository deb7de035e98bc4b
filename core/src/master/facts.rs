//! What the read model is told: every change of state, in order with the messages it caused.
//!
//! Nobody reads the core. The daemon folds facts into the one model that answers every query, and a
//! fact names its row by [`Id`], so that the model needs no search. Facts repeat what their row
//! holds; a fact of a removed row is the last about that id.

use serde::{Deserialize, Serialize};

use super::rows::{AgentState, Emptying, FrameworkState, Willing};
use crate::digest::of_body;
use crate::registry::rows::{Admission, Owned};
use crate::table::Id;
use crate::wire::agent::OperationStatus;
use crate::wire::call::{Operation, Ownership, Quantity};
use crate::wire::event::{AgentInfo, Unavailability};
use crate::wire::operator::MachineId;
use crate::wire::resource::Resource;
use crate::wire::task::{Reason, Source, TaskState};
use crate::wire::{AgentId, Body, ContainerId, Fence, FrameworkId, OfferId, Seq, Session};

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact<'a> {
    /// This master leads from now on.
    Leading {
        /// The cluster.
        cluster: u64,
        /// Whose word it is.
        fence: Fence,
    },
    /// An agent came, or came back with another description.
    Agent {
        /// Its row.
        row: Id,
        /// Its description.
        #[serde(borrow)]
        info: AgentInfo<'a>,
        /// All it has.
        #[serde(borrow)]
        resources: Seq<'a, Resource<'a>>,
        /// Its session.
        session: Session,
        /// Tasks it can hold.
        tasks_max: u32,
        /// Kinds of tasks it runs.
        task_kinds: u32,
    },
    /// An agent is somewhere else in its life.
    AgentState {
        /// Its row.
        row: Id,
        /// Where.
        state: AgentState,
    },
    /// An agent is forgotten.
    AgentGone {
        /// Its row.
        row: Id,
    },
    /// A framework came, or described itself anew.
    Framework {
        /// Its row.
        row: Id,
        /// Its description.
        #[serde(borrow)]
        info: FrameworkInfo<'a>,
    },
    /// A framework is somewhere else in its life.
    FrameworkState {
        /// Its row.
        row: Id,
        /// Where.
        state: FrameworkState,
    },
    /// A framework is removed.
    FrameworkGone {
        /// Its row.
        row: Id,
    },
    /// A task was accepted, or reported by its agent.
    Task {
        /// Its row.
        row: Id,
        /// Its framework's row.
        framework: Id,
        /// Its agent's row.
        agent: Id,
        /// Its id.
        task: &'a str,
        /// Its executor; empty = none.
        executor: &'a str,
        /// The role it was offered to.
        role: &'a str,
        /// Its state.
        state: TaskState,
        /// Its container; zero while it has none.
        container: ContainerId,
        /// What it holds.
        #[serde(borrow)]
        resources: Seq<'a, Resource<'a>>,
        /// What everybody may see of it.
        public: Body,
    },
    /// A task changed its state.
    TaskState {
        /// Its row.
        row: Id,
        /// To what, as was told to its framework.
        state: TaskState,
        /// Its newest state, which may be past the one told: when it ended, what it held is free.
        latest: TaskState,
        /// Who says so.
        source: Source,
        /// Why.
        reason: Option<Reason>,
        /// Why, in a sentence.
        message: &'a str,
        /// When, by the speaker's wall clock, in µs of Unix time; 0 = the master's own word.
        wall_us: u64,
        /// Its container; zero while it has none.
        container: ContainerId,
        /// The result of its health check.
        healthy: Option<bool>,
        /// Labels, container status, check results.
        public: Body,
        /// Names the update to its agent; none = nothing to acknowledge.
        uuid: Option<u64>,
    },
    /// A task's end was acknowledged.
    TaskGone {
        /// Its row.
        row: Id,
    },
    /// An executor came.
    Executor {
        /// Its row.
        row: Id,
        /// Its framework's row.
        framework: Id,
        /// Its agent's row.
        agent: Id,
        /// Its id.
        executor: &'a str,
        /// What it holds for itself.
        #[serde(borrow)]
        resources: Seq<'a, Resource<'a>>,
        /// The role that it was offered to.
        role: &'a str,
    },
    /// An executor ended.
    ExecutorGone {
        /// Its row.
        row: Id,
    },
    /// An offer was made.
    Offer {
        /// Its row.
        row: Id,
        /// Its id.
        offer: OfferId,
        /// Its framework's row.
        framework: Id,
        /// Its agent's row.
        agent: Id,
        /// What is offered.
        #[serde(borrow)]
        resources: Seq<'a, Resource<'a>>,
        /// The role that it is offered to.
        role: &'a str,
    },
    /// An offer ended.
    OfferGone {
        /// Its row.
        row: Id,
    },
    /// An operator set the quota of a role.
    Quota {
        /// Which.
        role: &'a str,
        /// Held free for it. With nothing here and in `limits`, it has no quota any more.
        #[serde(borrow)]
        guarantees: Seq<'a, Quantity<'a>>,
        /// The most that it may have.
        #[serde(borrow)]
        limits: Seq<'a, Quantity<'a>>,
    },
    /// The weight of a role was set.
    Weight {
        /// Which.
        role: &'a str,
        /// In thousandths; 1,000 is what it has if nobody sets it.
        weight: u32,
    },
    /// Nothing new of an agent is offered, or it is again.
    AgentDeactivated {
        /// Its row.
        row: Id,
        /// Nothing new.
        deactivated: bool,
    },
    /// An agent is being emptied, is empty, or is offered again.
    AgentEmptying {
        /// Its row.
        row: Id,
        /// Which.
        emptying: Emptying,
        /// No task gets more grace than this, in µs; none = what each says.
        grace_us: Option<u64>,
        /// It is marked gone when it is empty.
        gone: bool,
    },
    /// A machine is in the maintenance schedule.
    Machine {
        /// Its row.
        row: Id,
        /// Which.
        #[serde(borrow)]
        machine: MachineId<'a>,
        /// When it will not be there.
        window: Unavailability,
        /// It is down.
        down: bool,
    },
    /// A machine is not in the maintenance schedule any more.
    MachineGone {
        /// Its row.
        row: Id,
    },
    /// A framework is asked to give back what it has of an agent, or answered.
    Inverse {
        /// Its row.
        row: Id,
        /// The framework's row.
        framework: Id,
        /// The agent's row.
        agent: Id,
        /// The row of the agent's machine.
        machine: Id,
        /// The request's id, while it waits for an answer.
        offer: Option<OfferId>,
        /// The newest answer.
        willing: Willing,
    },
    /// A framework is not asked for an agent any more.
    InverseGone {
        /// Its row.
        row: Id,
    },
    /// The registry is to have this of an agent.
    Admission(Admission),
    /// The registry is to have that a framework was removed, and no more that another one was.
    Removed {
        /// Which.
        framework: FrameworkId,
        /// The one that it takes the place of; none while there is room.
        instead_of: FrameworkId,
    },
    /// The registry is to have nothing of an agent.
    Dismissed {
        /// Its id.
        agent: AgentId,
    },
    /// What an agent has is something else than before.
    AgentResources {
        /// The agent's row.
        row: Id,
        /// All it has.
        #[serde(borrow)]
        resources: Seq<'a, Resource<'a>>,
    },
    /// An operation whose end its framework wants to hear was done, and ordered from its agent.
    Operation {
        /// Its row.
        row: Id,
        /// Its framework's row.
        framework: Id,
        /// Its agent's row.
        agent: Id,
        /// Which: a list of one; empty = this master only knows what came of it.
        #[serde(borrow)]
        operation: Seq<'a, Operation<'a>>,
    },
    /// What its agent told of an operation.
    OperationState {
        /// Its row.
        row: Id,
        /// What.
        #[serde(borrow)]
        status: OperationStatus<'a>,
    },
    /// An operation's end was acknowledged.
    OperationGone {
        /// Its row.
        row: Id,
    },
    /// The registry is to have nothing of a framework any more: nobody has heard of it for too long.
    Unheard {
        /// Which.
        framework: FrameworkId,
    },
    /// An agent does not come back, and is not given up: too many others are.
    AgentKept {
        /// Its row.
        row: Id,
    },
}

/// A framework's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameworkInfo<'a> {
    /// Its id.
    pub framework: FrameworkId,
    /// For people.
    pub name: &'a str,
    /// The user its tasks run as.
    pub user: &'a str,
    /// Who it claims to be.
    pub principal: &'a str,
    /// Who it was found to be.
    pub caller: &'a str,
    /// Where it runs, for people.
    pub hostname: &'a str,
    /// Its web page, for people.
    pub webui_url: &'a str,
    /// Its roles.
    #[serde(borrow)]
    pub roles: Seq<'a, &'a str>,
    /// How long its tasks live on without it, in µs.
    pub failover_us: u64,
    /// What it understands.
    pub capabilities: u32,
    /// Who acknowledges.
    pub owned: Ownership,
    /// The rest of its description.
    pub public: Body,
}

impl FrameworkInfo<'_> {
    /// What the registry keeps of it.
    pub fn kept(&self) -> Owned {
        let failover_us = if self.owned == Ownership::Master { u64::MAX } else { self.failover_us };
        Owned {
            framework: self.framework,
            caller: of_body(self.caller.as_bytes()),
            principal: of_body(self.principal.as_bytes()),
            failover_us,
        }
    }
}
