//! What a master knows: a row for each agent, framework, task, executor, offer and connection.
//!
//! Rows are plain data; who changes them, and when, is said in the files of the concerns.

use crate::index::{Chain, Chained, Link, Linked};
use crate::names::Name;
use crate::registry::rows::Life;
use crate::resources::Holding;
use crate::slab::List;
use crate::table::Id;
use crate::time::Time;
use crate::wire::agent::OperationState;
use crate::wire::call::Ownership;
use crate::wire::hello::Role;
use crate::wire::task::TaskState;
use crate::wire::{AgentId, BodyRef, ContainerId, FrameworkId, Session};

choice! {
    /// Where an agent is in its life with this master.
    pub enum AgentState {
        /// Its registration came, its reports are coming.
        Registering = 0,
        /// Every report came; tasks that nobody reported are being given up.
        Settling = 1,
        /// It was told that it is registered, and has not yet said that it keeps what it was told.
        Confirming = 2,
        /// It has a session, and may be offered.
        Active = 3,
        /// Its connection is gone, which is no evidence of anything.
        Away = 4,
        /// It was silent for too long: its tasks are being told lost.
        Losing = 5,
        /// It was silent for too long, and nothing of it is left but its name.
        Unreachable = 6,
        /// It was sent away, and nothing of it is left but its name; see [`Farewell`].
        Gone = 7,
        /// The registry has it, and it has not come back to this master.
        Recovered = 8,
    }

    /// Why an agent is given up.
    pub enum Farewell {
        /// It was silent for too long.
        Silent = 0,
        /// It said that it leaves.
        Left = 1,
        /// An operator knows that it will not come back; nor may it.
        Gone = 2,
        /// Its machine is down for maintenance; it may come back after that.
        Down = 3,
    }

    /// Whether an operator has an agent emptied (Mesos: `DrainState`).
    pub enum Emptying {
        /// Nobody has.
        No = 0,
        /// Its tasks are being ended.
        Draining = 1,
        /// It has no tasks any more.
        Drained = 2,
    }

    /// What an agent has obeyed, by its word.
    pub enum Outranks {
        /// Nothing that this master does not reach.
        Nothing = 0,
        /// A later reign of this master's generation.
        Reign = 1,
        /// A later generation.
        Generation = 2,
    }

    /// What a framework answered when it was asked to give an agent's resources back (Mesos:
    /// `InverseOfferStatus`).
    pub enum Willing {
        /// Nothing yet.
        Unknown = 0,
        /// It will.
        Accepted = 1,
        /// It will not.
        Declined = 2,
    }

    /// Where a framework is in its life with this master.
    pub enum FrameworkState {
        /// Agents told of it; its scheduler has not come back to this master.
        Known = 0,
        /// Its scheduler is connected.
        Active = 1,
        /// Its scheduler is not connected; its tasks live on until its timeout.
        Away = 2,
        /// It is being removed: its tasks are being killed.
        Leaving = 3,
    }
}

record! {
    /// An agent.
    pub struct Agent {
        /// Its id.
        pub id: AgentId,
        /// The key it is known by.
        pub key: [u8; 32],
        /// Where it is in its life.
        pub state: AgentState,
        /// Takes part in what follows a change of its totals: offered too much at once.
        pub crowded: bool,
        /// An operator wants nothing new on it.
        pub deactivated: bool,
        /// Whether it is being emptied.
        pub emptying: Emptying,
        /// It said in this session that it ends its tasks and goes.
        pub departing: bool,
        /// It was emptied, and does not know yet that it is offered again.
        pub reactivated: bool,
        /// It is to be marked gone when it is empty.
        pub then_gone: bool,
        /// What it has obeyed that this master does not reach.
        pub outranks: Outranks,
        /// While it is being emptied, no task gets more grace, in µs; `u64::MAX` = what each says.
        pub grace_us: u64,
        /// Why it is given up, while it is.
        pub farewell: Farewell,
        /// The registry has it, or is about to.
        pub admitted: bool,
        /// As what the registry has it.
        pub life: Life,
        /// Marks that the registry does not have yet; its tasks are told nothing before.
        pub marks: u32,
        /// Its machine's place in the maintenance schedule, as slot + 1.
        pub machine: u32,
        /// Requests to give its resources back.
        pub inverse: Chain,
        /// Its connection; none while it is away.
        pub conn: Id,
        /// Its newest session.
        pub session: Session,
        /// Where its own API answers.
        pub address: Name,
        /// All it has, until its registration is complete; then the allocator has it.
        pub total: Holding,
        /// Tasks on it.
        pub tasks: Chain,
        /// Executors on it.
        pub executors: Chain,
        /// Outstanding offers of it.
        pub offers: Chain,
        /// Reports announced, and how many came.
        pub reports: u32,
        /// See `reports`.
        pub reported: u32,
        /// Tasks it can hold.
        pub tasks_max: u32,
        /// Kinds of tasks it runs.
        pub task_kinds: u32,
        /// The framework it was last told to shut down: told once is enough.
        pub told: Id,
        /// When it was lost, to forget the oldest first.
        pub lost: Time,
        /// Where the work on its tasks goes on, as slot + 1.
        pub cursor: u32,
        /// Indexes: by id, by key.
        #[serde(skip)]
        pub(super) next: [u32; 2],
    }

    /// A framework.
    pub struct Framework {
        /// Its id.
        pub id: FrameworkId,
        /// Where it is in its life.
        pub state: FrameworkState,
        /// Its stream is half full: no offers until it drained.
        pub congested: bool,
        /// Its caller has as many offers as it may: no more until one was answered.
        pub capped: bool,
        /// The states of its tasks are being told, all of them.
        pub reconciling: bool,
        /// It leaves, and every agent with something of it was told.
        pub told_all: bool,
        /// Who acknowledges.
        pub owned: Ownership,
        /// Its connection; none while it is away.
        pub conn: Id,
        /// Who it was found to be.
        pub caller: Name,
        /// For people.
        pub name: Name,
        /// The user its tasks run as.
        pub user: Name,
        /// Who it claims to be.
        pub principal: Name,
        /// Where it runs, for people.
        pub hostname: Name,
        /// Its web page, for people.
        pub webui_url: Name,
        /// Its roles.
        pub roles: List,
        /// What it said would be of use.
        pub hints: List,
        /// How long its tasks live on without it, in µs.
        pub failover_us: u64,
        /// What it understands.
        pub capabilities: u32,
        /// The rest of its description.
        pub public: BodyRef,
        /// Its tasks.
        pub tasks: Chain,
        /// Its executors.
        pub executors: Chain,
        /// Outstanding offers to it.
        pub offers: Chain,
        /// Requests to give resources back.
        pub inverse: Chain,
        /// Where the telling of its tasks goes on, as slot + 1.
        pub cursor: u32,
        /// Tasks of it on agents that do not answer, as far as this master has lost them.
        pub lost: u32,
        #[serde(skip)]
        pub(super) next: u32,
    }

    /// A role of a framework.
    pub struct RoleOf {
        /// The allocator's client.
        pub client: u32,
        /// It is subscribed in it; else it left, and only tasks keep the client.
        pub subscribed: bool,
    }

    /// A least amount of a resource that a framework said would be of use.
    pub struct Hint {
        /// Which request it belongs to.
        pub request: u16,
        /// The resource.
        pub name: Name,
        /// Thousandths.
        pub milli: u64,
    }

    /// A task, from its acceptance until its end was acknowledged.
    pub struct Task {
        /// Its id.
        pub name: Name,
        /// Whose: the framework's slot.
        pub framework: u32,
        /// Where: the agent's slot.
        pub agent: u32,
        /// Its executor, as slot + 1; 0 = the agent runs its command.
        pub executor: u32,
        /// The allocator's client that is charged for it.
        pub client: u32,
        /// Its newest state.
        pub state: TaskState,
        /// A kill was asked for, to be asked again when the agent comes back.
        pub killed: bool,
        /// Its resources are charged; they are not any more once it ended.
        pub charged: bool,
        /// Its agent had been given up when it was reported: whatever else has its id replaced it.
        pub returned: bool,
        /// Which start of it this is.
        pub attempt: u32,
        /// The session in which its agent last told of it, by `told_in`; 0: none.
        pub seen: u32,
        /// When it began to run, in s of this master's clock; 0 = it does not, as far as is known.
        pub since_s: u32,
        /// Its container.
        pub container: ContainerId,
        /// What it holds.
        pub held: Holding,
        /// The update last passed on, by the ledger's sequence.
        pub forwarded: u64,
        /// What everybody may see of it.
        pub public: BodyRef,
        pub(super) links: [Link; 2],
        #[serde(skip)]
        pub(super) next: u32,
    }

    /// An executor, from the first launch that needs it until it ended.
    pub struct Executor {
        /// Its id.
        pub name: Name,
        /// Whose: the framework's slot.
        pub framework: u32,
        /// Where: the agent's slot.
        pub agent: u32,
        /// The allocator's client that is charged for it.
        pub client: u32,
        /// The session in which its agent last told of it, by `told_in`; 0: none.
        pub seen: u32,
        /// What it holds for itself.
        pub held: Holding,
        /// Length and hash of its description: two of one id must be equal.
        pub body: BodyRef,
        /// Its tasks that did not end.
        pub tasks: u32,
        pub(super) links: [Link; 2],
        #[serde(skip)]
        pub(super) next: u32,
    }

    /// An operation on resources whose end was not told, or not acknowledged.
    pub struct Operation {
        /// Its id, its framework's choice; of an operator's, none.
        pub name: Name,
        /// Whose: the framework's slot + 1; 0 = an operator's.
        pub framework: u32,
        /// Where: the agent's slot.
        pub agent: u32,
        /// The session in which it was ordered, or told.
        pub session: Session,
        /// Where it is in its life.
        pub state: OperationState,
        /// The update last passed on, by the ledger's sequence.
        pub forwarded: u64,
        /// The operator that waits for its end.
        pub conn: Id,
        /// The number of the operator's call; 0 = no answer is wanted.
        pub ticket: u32,
    }

    /// An offer.
    pub struct Offer {
        /// To whom: the framework's slot.
        pub framework: u32,
        /// Of what: the agent's slot.
        pub agent: u32,
        /// The allocator's client that is charged for it.
        pub client: u32,
        /// What is offered.
        pub held: Holding,
        /// When it ends by itself.
        pub expires: Time,
        pub(super) links: [Link; 3],
    }

    /// A machine that will be absent.
    pub struct Machine {
        /// Its host's name in lower case; empty = any.
        pub hostname: Name,
        /// Its address; empty = any.
        pub ip: Name,
        /// When.
        pub start_wall_us: u64,
        /// For so long, in µs; 0 = for good.
        pub duration_us: u64,
        /// It is down: its agents were sent away, and may not come back yet.
        pub down: bool,
        /// The read model is to be told of it.
        pub untold: bool,
        /// Its window changed: its agents are to be offered anew.
        pub renewed: bool,
        /// The schedule at hand names it, too.
        pub stays: bool,
    }

    /// A request to a framework to give an agent's resources back.
    pub struct Inverse {
        /// To whom: the framework's slot.
        pub framework: u32,
        /// Of what: the agent's slot.
        pub agent: u32,
        /// What it answered last.
        pub willing: Willing,
        /// It waits for an answer; else it is asked again when its time comes.
        pub asked: bool,
        pub(super) links: [Link; 2],
    }

    /// A connection.
    pub struct Conn {
        /// Which one of those that had this slot; 0 = none.
        pub generation: u32,
        /// What it said it is.
        pub role: Role,
        /// The protocol that was agreed on.
        pub version: u16,
        /// Who it was found to be.
        pub caller: u16,
        /// The largest head it takes.
        pub head_max: u32,
        /// The agent or framework that speaks on it.
        pub who: Id,
    }

    /// Somebody who was found to be behind connections.
    pub struct Caller {
        /// Its name.
        pub name: Name,
        /// What it may do.
        pub rights: crate::doors::Rights,
    }
}

/// A session in the four bytes that a row has for it: its start and its number in that, each to 16 bits.
/// Two sessions of an agent that are told apart by it are never 65,536 starts apart.
pub(super) const fn told_in(session: Session) -> u32 {
    (session.incarnation << 16) | (session.counter & 0xffff)
}

/// Indexes of agents.
pub const BY_ID: usize = 0;
/// Indexes of agents.
pub const BY_KEY: usize = 1;

/// Lists of tasks, executors and offers: those of an agent.
pub const OF_AGENT: usize = 0;
/// Lists of tasks, executors and offers: those of a framework.
pub const OF_FRAMEWORK: usize = 1;
/// The list of all offers, the first to expire first.
pub const BY_AGE: usize = 2;

macro_rules! linked {
    ($($row:ty),*) => {$(
        impl Linked for $row {
            fn link(&self, list: usize) -> Link {
                let [agent, framework] = self.links;
                if list == OF_AGENT { agent } else { framework }
            }

            fn link_mut(&mut self, list: usize) -> &mut Link {
                let [agent, framework] = &mut self.links;
                if list == OF_AGENT { agent } else { framework }
            }
        }
    )*};
}
linked!(Task, Executor, Inverse);

impl Linked for Offer {
    fn link(&self, list: usize) -> Link {
        let [agent, framework, age] = self.links;
        match list {
            OF_AGENT => agent,
            OF_FRAMEWORK => framework,
            _ => age,
        }
    }

    fn link_mut(&mut self, list: usize) -> &mut Link {
        let [agent, framework, age] = &mut self.links;
        match list {
            OF_AGENT => agent,
            OF_FRAMEWORK => framework,
            _ => age,
        }
    }
}

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
chained!(Framework, Task, Executor);

impl Chained for Agent {
    fn next(&self, index: usize) -> u32 {
        let [id, key] = self.next;
        if index == BY_ID { id } else { key }
    }

    fn next_mut(&mut self, index: usize) -> &mut u32 {
        let [id, key] = &mut self.next;
        if index == BY_ID { id } else { key }
    }
}
