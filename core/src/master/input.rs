//! What reaches a master and what leaves it: the two types that a journal holds.

use serde::{Deserialize, Serialize};

use super::Fact;
use crate::doors::Rights;
use crate::registry::rows::{Admission, Owned};
use crate::table::Id;
use crate::time::Time;
use crate::wire::call::Quantity;
use crate::wire::hello::Role;
use crate::wire::link::Parting;
use crate::wire::operator::Planned;
use crate::wire::{AgentId, BodyRef, Fence, FrameworkId, Head, Seq};

/// Everything that reaches a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input<'a> {
    /// Somebody was found to be behind connections.
    Caller {
        /// The number that inputs name it by.
        caller: u16,
        /// Who.
        name: &'a str,
        /// What it may do.
        rights: Rights,
    },
    /// A connection said who it is.
    Opened {
        /// The connection; its slot is below the capacity for connections.
        conn: Id,
        /// What it is.
        role: Role,
        /// The protocol that was agreed on.
        version: u16,
        /// Who is behind it.
        caller: u16,
        /// The largest head it takes.
        head_max: u32,
    },
    /// A connection is gone, or was ended because it was silent.
    Closed {
        /// Which.
        conn: Id,
        /// When the last ping of its agent came; no session is older than that.
        since: Time,
    },
    /// A head came.
    Frame {
        /// On which connection; for HTTP, that of the framework's stream.
        conn: Id,
        /// The head, as it came.
        head: &'a [u8],
        /// Its bodies, in order.
        #[serde(borrow)]
        bodies: Seq<'a, BodyRef>,
        /// What the IO side found wrong with tasks of an ACCEPT, looking at each alone.
        #[serde(borrow)]
        verdicts: Seq<'a, Verdict<'a>>,
    },
    /// A stream's queue is half full.
    Congested {
        /// Which.
        conn: Id,
    },
    /// A stream's queue is empty again.
    Drained {
        /// Which.
        conn: Id,
    },
    /// A deadline is due, or the inputs paused.
    Tick,
    /// The weight of a role, from the flags.
    Weight {
        /// Which role.
        role: &'a str,
        /// Thousandths.
        weight: u32,
    },
    /// A resource that counts in no share, from the flags.
    LeaveOut {
        /// Its name.
        name: &'a str,
    },
    /// This master was elected, by itself if it is the only one. What the registry has came before.
    Leads {
        /// The cluster.
        cluster: u64,
        /// Whose word this master's is from now on.
        fence: Fence,
    },
    /// A quota that the masters' registry has; before this one leads.
    Quota {
        /// Whose.
        role: &'a str,
        /// Held free for it.
        #[serde(borrow)]
        guarantees: Seq<'a, Quantity<'a>>,
        /// The most that it may have.
        #[serde(borrow)]
        limits: Seq<'a, Quantity<'a>>,
    },
    /// The region that this master is in, from the flags: agents of others are for frameworks that
    /// know of regions. Comes before any agent.
    Region {
        /// Its name; empty = no region, and no agent is in another one.
        name: &'a str,
    },
    /// What patterns in a framework's constraints say of agents. Until it is told, neither a pattern
    /// holds nor its negation.
    Judged {
        /// Whose constraints.
        framework: FrameworkId,
        /// One for each pattern and agent.
        #[serde(borrow)]
        verdicts: Seq<'a, Judged<'a>>,
    },
    /// An agent that the registry has; before this master leads.
    Admitted(Admission),
    /// A machine in the schedule that the registry has; before this master leads.
    Machine {
        /// Which, and when it will not be there.
        #[serde(borrow)]
        planned: Planned<'a>,
        /// It is down.
        down: bool,
    },
    /// A framework that the registry says was removed; before this master leads.
    Removed {
        /// Which.
        framework: FrameworkId,
    },
    /// The registry has what was said of an agent before [`Output::Await`] named it.
    Marked {
        /// The agent's row.
        agent: Id,
    },
    /// What the host of an agent is called that the registry has; before this master leads.
    Hosted {
        /// Which agent.
        agent: AgentId,
        /// Its host.
        hostname: &'a str,
    },
    /// A framework that the registry has; before this master leads.
    Owned(Owned),
}

/// What a pattern says of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged<'a> {
    /// The role whose constraint the pattern is in.
    pub role: &'a str,
    /// The constraint's place among all of the role's, from 0.
    pub place: u16,
    /// The agent's row.
    pub agent: Id,
    /// The agent's text matches.
    pub matches: bool,
}
crate::wire::seq::items!(; Judged);

impl crate::wire::Check for Judged<'_> {
    fn check(&self) -> Result<(), crate::wire::Malformed> {
        Ok(())
    }
}

/// The place of an ACCEPT's first operation among those that verdicts are about: those of its tasks come
/// before, and are fewer.
pub const OPERATION_PLACES: u16 = 1 << 15;

/// What the IO side found wrong with a task, or with an operation on resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict<'a> {
    /// The task's place among all tasks of the ACCEPT, from 0; or that of an operation among all of
    /// them, from [`OPERATION_PLACES`].
    pub task: u16,
    /// It is not allowed; else it is not valid.
    pub denied: bool,
    /// What is wrong, in a sentence.
    pub message: &'a str,
}
crate::wire::seq::items!(; Verdict);

impl crate::wire::Check for Verdict<'_> {
    fn check(&self) -> Result<(), crate::wire::Malformed> {
        Ok(())
    }
}

/// Everything that leaves a master.
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
    /// The read model is to know.
    #[serde(borrow)]
    Fact(Fact<'a>),
    /// A body is to stay in the store.
    KeepBody(BodyRef),
    /// A body that was kept may go.
    DropBody(BodyRef),
    /// When the registry has all that was told so far, [`Input::Marked`] is to follow.
    Await {
        /// The agent's row.
        agent: Id,
    },
    /// More than half of the agents have obeyed a later word than this master's: it leads no more.
    Outranked {
        /// Whose.
        fence: Fence,
    },
}

/// Takes what leaves a master, in order.
pub trait Outbox {
    /// Takes one output with the bodies its head names; returns the bytes that it took.
    fn emit(&mut self, output: &Output<'_>, bodies: &[BodyRef]) -> usize;
}

impl Outbox for crate::drive::Encoder<'_> {
    fn emit(&mut self, output: &Output<'_>, bodies: &[BodyRef]) -> usize {
        self.put(output, bodies)
    }
}
