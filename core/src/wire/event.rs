//! What the master tells a framework's scheduler (Mesos: `scheduler.proto`, `Event`).

use serde::{Deserialize, Serialize};

use super::agent::OperationStatus;
use super::call::Quantity;
use super::check::{Check, Malformed, given, name, require, text};
use super::ids::{AgentId, Body, Fence, FrameworkId, OfferId};
use super::resource::{Attribute, Resource};
use super::seq::{Seq, items};
use super::task::{Exit, Status};
use crate::Refusal;
use crate::limits::{ITEMS_PER_LIST_MAX, KINDS_MAX, MESSAGE_MAX, OFFERS_PER_EVENT_MAX};

/// One event on a framework's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event<'a> {
    /// The first event: it is a framework now.
    Subscribed {
        /// Its id.
        framework: FrameworkId,
        /// Whose word it is.
        fence: Fence,
        /// The cluster's id.
        cluster: u64,
        /// The leading master's id.
        master: u64,
        /// What its roles' quotas guarantee, summed; empty = nothing.
        #[serde(borrow)]
        guaranteed: Seq<'a, Quantity<'a>>,
    },
    /// Resources it may use, until it answers, they expire, or they are rescinded.
    Offers {
        /// At most 64.
        offers: Seq<'a, Offer<'a>>,
    },
    /// Requests to give resources back.
    InverseOffers {
        /// At most 64.
        offers: Seq<'a, InverseOffer>,
    },
    /// An offer is no more.
    Rescind {
        /// Which.
        offer: OfferId,
    },
    /// A request to give resources back is no more.
    RescindInverse {
        /// Which.
        offer: OfferId,
    },
    /// What became of a task.
    Update {
        /// The status.
        status: Status<'a>,
    },
    /// What became of an operation.
    OperationUpdate {
        /// The status.
        status: OperationStatus<'a>,
    },
    /// Bytes from an executor. At most once.
    Message {
        /// Where it runs.
        agent: AgentId,
        /// Which.
        executor: &'a str,
        /// The bytes.
        data: Body,
    },
    /// An agent is lost, or an executor ended.
    Failure {
        /// Which agent.
        agent: AgentId,
        /// Which executor; empty = the whole agent.
        executor: &'a str,
        /// How it ended.
        exit: Exit,
    },
    /// The stream ends now, and the framework with it unless it comes back.
    Error {
        /// Why.
        message: &'a str,
    },
    /// The answer to a call with a ticket.
    Reply {
        /// The ticket.
        ticket: u32,
        /// Done, or why not.
        result: Result<(), Refusal>,
    },
    /// About agents that are named by offers that follow; sent once for each connection.
    Agents {
        /// Which.
        agents: Seq<'a, AgentInfo<'a>>,
    },
    /// Why nothing that was requested can be offered. Since protocol 2.
    Waiting {
        /// The resource that is short everywhere.
        name: &'a str,
        /// In thousandths: asked for, and the most that one agent has in all.
        asked: u64,
        /// The most that one agent has of it.
        largest: u64,
        /// That agent; none when there is no agent at all.
        agent: AgentId,
        /// What would fit on it.
        fits: Seq<'a, Quantity<'a>>,
    },
}

/// One framework's claim on one agent's free resources (Mesos: `Offer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer<'a> {
    /// Its id.
    pub id: OfferId,
    /// Whose resources.
    pub agent: AgentId,
    /// The role it is made to.
    pub role: &'a str,
    /// What is offered.
    #[serde(borrow)]
    pub resources: Seq<'a, Resource<'a>>,
    /// The rest, when there is any.
    #[serde(borrow)]
    pub detail: Option<OfferDetail<'a>>,
}

/// What an offer says beside its resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferDetail<'a> {
    /// Executors of the framework that run there already.
    #[serde(borrow)]
    pub executors: Seq<'a, &'a str>,
    /// When the agent will go away.
    pub unavailable: Option<Unavailability>,
}

/// When an agent is planned not to be there (Mesos: `Unavailability`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailability {
    /// From, in µs of Unix time.
    pub start_wall_us: u64,
    /// For so long, in µs; 0 = for good.
    pub duration_us: u64,
}

/// A request to give an agent's resources back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InverseOffer {
    /// Its id.
    pub id: OfferId,
    /// Which agent.
    pub agent: AgentId,
    /// When they are needed back.
    pub unavailable: Unavailability,
}

/// What frameworks choose an agent by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo<'a> {
    /// Its id.
    pub agent: AgentId,
    /// Its host's name: `--hostname`, else the kernel's node name.
    pub hostname: &'a str,
    /// Its region; empty = not said.
    pub region: &'a str,
    /// Its zone; empty = not said.
    pub zone: &'a str,
    /// Its attributes, in the order given.
    #[serde(borrow)]
    pub attributes: Seq<'a, Attribute<'a>>,
    /// `host:port` where its own API answers; empty = under the leader's `/agent/`.
    pub address: &'a str,
}

items!(InverseOffer; Offer, AgentInfo);

impl Check for Event<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Subscribed { guaranteed, .. } => {
                guaranteed.check_up_to("subscribed.guaranteed", KINDS_MAX)
            }
            Self::Offers { offers } => offers.check_up_to("offers", OFFERS_PER_EVENT_MAX),
            Self::InverseOffers { offers } => {
                offers.check_up_to("inverse_offers", OFFERS_PER_EVENT_MAX)
            }
            Self::Rescind { .. } | Self::RescindInverse { .. } => Ok(()),
            Self::Update { status } => status.check(),
            Self::OperationUpdate { status } => status.check(),
            Self::Message { executor, .. } => given("message.executor", executor),
            Self::Failure { executor, .. } => name("failure.executor", executor),
            Self::Error { message } => text("error.message", message, MESSAGE_MAX),
            Self::Reply { .. } => Ok(()),
            Self::Agents { agents } => agents.check_up_to("agents", OFFERS_PER_EVENT_MAX),
            Self::Waiting { name: of, fits, .. } => {
                name("waiting.name", of)?;
                fits.check_up_to("waiting.fits", KINDS_MAX)
            }
        }
    }
}

impl Check for Offer<'_> {
    fn check(&self) -> Result<(), Malformed> {
        given("offer.role", self.role)?;
        self.resources.check_up_to("offer.resources", ITEMS_PER_LIST_MAX)?;
        match self.detail {
            Some(detail) => detail.executors.check(),
            None => Ok(()),
        }
    }
}

impl Check for InverseOffer {
    fn check(&self) -> Result<(), Malformed> {
        Ok(())
    }
}

impl Check for AgentInfo<'_> {
    fn check(&self) -> Result<(), Malformed> {
        require(!self.agent.is_none(), "agent.id", super::Fault::Empty)?;
        name("agent.hostname", self.hostname)?;
        name("agent.region", self.region)?;
        name("agent.zone", self.zone)?;
        name("agent.address", self.address)?;
        self.attributes.check()
    }
}

const _: () = assert!(size_of::<Event<'_>>() <= 256);
