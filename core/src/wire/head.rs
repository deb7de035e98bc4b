//! What a frame's head can be, and who may send which.

use serde::{Deserialize, Serialize};

use super::agent::{AgentCall, AgentEvent};
use super::call::{Call, Verb};
use super::check::{Check, Malformed};
use super::event::Event;
use super::executor::{ExecutorCall, ExecutorEvent};
use super::gossip::Gossip;
use super::hello::{Hello, Role};
use super::link::Link;
use super::operator::{OperatorCall, OperatorEvent};
use super::svc::{Rows, Stream, Svc};

/// A head: its first byte is the conversation, its second the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head<'a> {
    /// The first frame in both directions.
    #[serde(borrow)]
    Hello(Hello<'a>),
    /// About the connection. Never enters a core.
    #[serde(borrow)]
    Link(Link<'a>),
    /// A byte stream. Never enters a core.
    #[serde(borrow)]
    Svc(Svc<'a>),
    /// Framework → master.
    #[serde(borrow)]
    Call(Call<'a>),
    /// Master → framework.
    #[serde(borrow)]
    Event(Event<'a>),
    /// Agent → master.
    #[serde(borrow)]
    AgentCall(AgentCall<'a>),
    /// Master → agent.
    #[serde(borrow)]
    AgentEvent(AgentEvent<'a>),
    /// Executor → agent.
    #[serde(borrow)]
    ExecutorCall(ExecutorCall<'a>),
    /// Agent → executor.
    #[serde(borrow)]
    ExecutorEvent(ExecutorEvent<'a>),
    /// Operator → master.
    #[serde(borrow)]
    OperatorCall(OperatorCall<'a>),
    /// Master → operator.
    #[serde(borrow)]
    OperatorEvent(OperatorEvent<'a>),
    /// Master ↔ master. For the election front alone.
    #[serde(borrow)]
    Gossip(Gossip<'a>),
}

impl Head<'_> {
    /// The first protocol version that has this message. A peer of an older one is not sent it.
    pub const fn since(&self) -> u16 {
        match self {
            Self::Event(Event::Waiting { .. }) => 2,
            Self::Call(Call { verb: Verb::Constrain { .. } | Verb::AcceptPart(_), .. })
            | Self::Svc(Svc::Open {
                kind:
                    Stream::Explain { .. }
                    | Stream::Store { .. }
                    | Stream::Follow { .. }
                    | Stream::Charter
                    | Stream::Rekey { .. }
                    | Stream::Rows {
                        of:
                            Rows::Quotas | Rows::Weights | Rows::Machines | Rows::Masters | Rows::Audit,
                    },
                ..
            })
            | Self::AgentCall(
                AgentCall::Draining { .. }
                | AgentCall::Ran { .. }
                | AgentCall::Told { .. }
                | AgentCall::Leaving { .. },
            )
            | Self::AgentEvent(
                AgentEvent::Reactivate
                | AgentEvent::ReconcileOperations { .. }
                | AgentEvent::DescribeFramework { .. },
            )
            | Self::OperatorCall(_)
            | Self::OperatorEvent(_)
            | Self::Link(
                Link::Prove { .. }
                | Link::Masters { .. }
                | Link::Splice { .. }
                | Link::Called { .. },
            )
            | Self::Gossip(_) => 3,
            Self::Hello(_)
            | Self::Link(_)
            | Self::Svc(_)
            | Self::Call(_)
            | Self::Event(_)
            | Self::AgentCall(_)
            | Self::AgentEvent(_)
            | Self::ExecutorCall(_)
            | Self::ExecutorEvent(_) => 1,
        }
    }

    /// True when a peer that said `role` in its hello may send this message to `us`.
    pub const fn may_come_from(&self, role: Role, us: Role) -> bool {
        match self {
            Self::Hello(_) => false,
            Self::Link(_) | Self::Svc(_) => true,
            Self::Call(_) => matches!((role, us), (Role::Framework, Role::Master)),
            Self::Event(_) => matches!((role, us), (Role::Master, Role::Framework)),
            Self::AgentCall(_) => matches!((role, us), (Role::Agent, Role::Master)),
            Self::AgentEvent(_) => matches!((role, us), (Role::Master, Role::Agent)),
            Self::ExecutorCall(_) => matches!((role, us), (Role::Executor, Role::Agent)),
            Self::ExecutorEvent(_) => matches!((role, us), (Role::Agent, Role::Executor)),
            Self::OperatorCall(_) => matches!((role, us), (Role::Client, Role::Master)),
            Self::OperatorEvent(_) => matches!((role, us), (Role::Master, Role::Client)),
            Self::Gossip(_) => matches!((role, us), (Role::Master, Role::Master)),
        }
    }
}

impl Check for Head<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Hello(hello) => hello.check(),
            Self::Link(link) => link.check(),
            Self::Svc(svc) => svc.check(),
            Self::Call(call) => call.check(),
            Self::Event(event) => event.check(),
            Self::AgentCall(call) => call.check(),
            Self::AgentEvent(event) => event.check(),
            Self::ExecutorCall(call) => call.check(),
            Self::ExecutorEvent(event) => event.check(),
            Self::OperatorCall(call) => call.check(),
            Self::OperatorEvent(event) => event.check(),
            Self::Gossip(gossip) => gossip.check(),
        }
    }
}
