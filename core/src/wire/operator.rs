//! What an operator's program asks of the master (Mesos: `master.proto`, `Call`). Since protocol 3.
//!
//! Reads are not here: they come from the read model, or are asked of the master by whoever steps
//! it.

use serde::{Deserialize, Serialize};

use super::call::{Operation, Quantity};
use super::check::{Check, Fault, Malformed, duration, given, name, require, role, text};
use super::event::Unavailability;
use super::ids::{AgentId, FrameworkId};
use super::seq::Seq;
use crate::Refusal;
use crate::limits::{
    FINGERPRINT_MAX, ITEMS_PER_LIST_MAX, KINDS_MAX, MASTER_ID_MAX, MESSAGE_MAX, WEIGHT_MAX,
};

/// One call. Calls on one connection are answered in order, but for operations, which are answered
/// when their agent has done them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorCall<'a> {
    /// Asks for a [`OperatorEvent::Reply`] that carries this number; 0 = no reply.
    pub ticket: u32,
    /// What is asked.
    #[serde(borrow)]
    pub verb: OperatorVerb<'a>,
}

/// What an operator can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorVerb<'a> {
    /// Set what a role is guaranteed and may have at most; nothing of either takes its quota back.
    SetQuota {
        /// Which role.
        role: &'a str,
        /// Held free for it.
        #[serde(borrow)]
        guarantees: Seq<'a, Quantity<'a>>,
        /// The most that it may have; what is not named is not limited.
        #[serde(borrow)]
        limits: Seq<'a, Quantity<'a>>,
        /// Also when the role has more already, or the cluster has less than all guarantees.
        force: bool,
    },
    /// Set the weight of a role.
    SetWeight {
        /// Which role.
        role: &'a str,
        /// Thousandths; 1,000 takes it back.
        weight: u32,
    },
    /// Offer nothing new of an agent, or offer it again.
    Deactivate {
        /// Which.
        agent: AgentId,
        /// Nothing new.
        deactivated: bool,
    },
    /// Offer only agents on these hosts; none = all.
    Whitelist {
        /// The hosts' names.
        #[serde(borrow)]
        hosts: Option<Seq<'a, &'a str>>,
        /// Beside those that were listed before: a long list comes in parts.
        adds: bool,
    },
    /// Replace the plan of when machines will not be there.
    Schedule {
        /// Each machine once.
        #[serde(borrow)]
        machines: Seq<'a, Planned<'a>>,
    },
    /// Change what resources of an agent are: those that nobody uses. Offers of them are rescinded.
    Operate {
        /// Which agent.
        agent: AgentId,
        /// What: a list of one.
        #[serde(borrow)]
        operation: Seq<'a, Operation<'a>>,
    },
    /// End a framework and all its tasks.
    Teardown {
        /// Which.
        framework: FrameworkId,
    },
    /// Machines go down as planned, and their agents with them; or they are up again, and planned
    /// no more.
    Down {
        /// Which.
        #[serde(borrow)]
        machines: Seq<'a, MachineId<'a>>,
        /// Down; else up.
        down: bool,
    },
    /// End every task of an agent, and offer nothing of it until it is reactivated.
    Drain {
        /// Which.
        agent: AgentId,
        /// No task gets more grace than this, in µs; none = what each says.
        grace_us: Option<u64>,
        /// Mark it gone then.
        gone: bool,
    },
    /// An agent will not come back, and may not.
    MarkGone {
        /// Which.
        agent: AgentId,
    },
    /// Change who the masters are: one is gone for good, or a new one follows, or both. Answered by
    /// the election's side of the leader when a majority has it; the core refuses it.
    Masters {
        /// The id of the one that is gone; 0 = none.
        remove: u8,
        /// How the fingerprint of the new one's key begins; empty = none.
        add: &'a str,
        /// Also one that still answers.
        force: bool,
    },
    /// Something that is done once, however often it is asked for. Masters keep the id with what it
    /// changes, so that the next leader answers what this one would have; the core refuses it.
    Once {
        /// Names the call: drawn by whoever makes it, and the same when it is made again.
        id: [u8; 16],
        /// The verb, encoded; not one of these.
        verb: &'a [u8],
    },
}

/// A machine (Mesos: `MachineID`): its host's name in lower case, its address, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineId<'a> {
    /// Its host's name; empty = any.
    pub hostname: &'a str,
    /// Its address; empty = any.
    pub ip: &'a str,
}

/// When a machine will not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned<'a> {
    /// Which.
    #[serde(borrow)]
    pub machine: MachineId<'a>,
    /// When.
    pub window: Unavailability,
}

super::seq::items!(; MachineId, Planned);

impl Check for MachineId<'_> {
    fn check(&self) -> Result<(), Malformed> {
        let Self { hostname, ip } = self;
        let named = !hostname.is_empty() || !ip.is_empty();
        require(named, "machine", Fault::Empty)?;
        name("machine.hostname", hostname)?;
        name("machine.ip", ip)?;
        let lower = !hostname.bytes().any(|byte| byte.is_ascii_uppercase());
        require(lower, "machine.hostname", Fault::Contradiction)
    }
}

impl Check for Planned<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.machine.check()?;
        duration("machine.duration", self.window.duration_us)
    }
}

/// What a master answers an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorEvent<'a> {
    /// The answer to a call with a ticket.
    Reply {
        /// The ticket.
        ticket: u32,
        /// Done, or why not.
        result: Result<(), Refusal>,
        /// Why not, in a sentence.
        message: &'a str,
    },
}

impl Check for OperatorCall<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.verb.check()
    }
}

impl Check for OperatorVerb<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::SetQuota { role: of, guarantees, limits, .. } => {
                role("quota.role", of)?;
                guarantees.check_up_to("quota.guarantees", KINDS_MAX)?;
                limits.check_up_to("quota.limits", KINDS_MAX)
            }
            Self::SetWeight { role: of, weight } => {
                role("weight.role", of)?;
                require(*weight > 0, "weight", Fault::Below(1))?;
                require(*weight <= WEIGHT_MAX, "weight", Fault::Above(WEIGHT_MAX.into()))
            }
            Self::Teardown { framework } => {
                require(!framework.is_none(), "teardown.framework", Fault::Empty)
            }
            Self::Deactivate { agent, .. } => some("deactivate.agent", *agent),
            Self::Whitelist { hosts, .. } => {
                let Some(hosts) = hosts else { return Ok(()) };
                hosts.check_up_to("whitelist", ITEMS_PER_LIST_MAX)?;
                hosts.iter().try_for_each(|host| given("whitelist.host", host))
            }
            Self::Schedule { machines } => machines.check_up_to("schedule", ITEMS_PER_LIST_MAX),
            Self::Down { machines, .. } => machines.check_up_to("machines", ITEMS_PER_LIST_MAX),
            Self::Drain { agent, grace_us, .. } => {
                some("drain.agent", *agent)?;
                duration("drain.grace", grace_us.unwrap_or(0))
            }
            Self::MarkGone { agent } => some("mark_gone.agent", *agent),
            Self::Masters { remove, add, .. } => {
                let id_max = MASTER_ID_MAX as u64;
                require(u64::from(*remove) <= id_max, "masters.remove", Fault::Above(id_max))?;
                require(*remove > 0 || !add.is_empty(), "masters", Fault::Empty)?;
                text("masters.add", add, FINGERPRINT_MAX)
            }
            Self::Once { verb, .. } => once(verb),
            Self::Operate { agent, operation } => {
                some("operate.agent", *agent)?;
                operation.check_up_to("operate.operation", 1)?;
                let launches = |operation: Operation<'_>| {
                    matches!(operation, Operation::Launch { .. } | Operation::LaunchGroup { .. })
                };
                let one = operation.len() == 1 && !operation.iter().any(launches);
                require(one, "operate.operation", Fault::Contradiction)
            }
        }
    }
}

/// One verb, which is no more than that.
fn once(verb: &[u8]) -> Result<(), Malformed> {
    let read = postcard::take_from_bytes::<OperatorVerb<'_>>(verb);
    let (verb, rest) = read.map_err(super::check::of_postcard)?;
    let one = rest.is_empty() && !matches!(verb, OperatorVerb::Once { .. });
    require(one, "once.verb", Fault::Contradiction)?;
    verb.check()
}

fn some(field: &'static str, agent: AgentId) -> Result<(), Malformed> {
    require(!agent.is_none(), field, Fault::Empty)
}

impl Check for OperatorEvent<'_> {
    fn check(&self) -> Result<(), Malformed> {
        let Self::Reply { message, .. } = self;
        text("reply.message", message, MESSAGE_MAX)
    }
}

const _: () = assert!(size_of::<OperatorCall<'_>>() <= 256);
