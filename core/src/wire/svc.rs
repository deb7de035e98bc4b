//! Byte streams beside the conversation: logs, rows of a table, later HTTP exchanges and terminals.
//!
//! Who dialled opens streams to the master; the master opens streams to agents. They never enter a
//! core or a journal, and data goes out only when no other frame waits.

use serde::{Deserialize, Serialize};

use super::check::{Check, Fault, Malformed, name, nothing_to_check, require, text};
use super::ids::{AgentId, ContainerId, FrameworkId};
use crate::limits::{MESSAGE_MAX, STORED_MAX, STREAM_DATA_MAX};

/// A frame of a stream. The opener chose its number, unique among its own open streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Svc<'a> {
    /// Opens a stream.
    Open {
        /// Its number.
        stream: u32,
        /// What flows on it.
        #[serde(borrow)]
        kind: Stream<'a>,
        /// Bytes that the opener takes before it gives credit.
        window: u32,
    },
    /// Bytes, at most 16 KiB.
    Data {
        /// Which stream.
        stream: u32,
        /// They went to the opener, or from it.
        from_opener: bool,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// So many bytes more may be sent.
    Credit {
        /// Which stream.
        stream: u32,
        /// By the opener, or to it.
        from_opener: bool,
        /// How many.
        bytes: u32,
    },
    /// The stream ends, in both directions.
    Close {
        /// Which stream.
        stream: u32,
        /// By the opener, or to it.
        from_opener: bool,
        /// Why.
        reason: CloseReason,
        /// Why, in a sentence.
        message: &'a str,
    },
}

/// What flows on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream<'a> {
    /// A container's output.
    Logs {
        /// Where; none when the receiver is that agent.
        agent: AgentId,
        /// Whose output.
        #[serde(borrow)]
        of: LogsOf<'a>,
        /// Which of the two files.
        which: Output,
        /// From this byte on; negative counts from the end.
        offset: i64,
        /// Go on as it grows, until the container ended.
        follow: bool,
    },
    /// One HTTP/1.1 exchange with an agent.
    Http {
        /// Which agent.
        agent: AgentId,
    },
    /// A program run beside a task.
    Exec {
        /// Where.
        agent: AgentId,
        /// In which container.
        container: ContainerId,
    },
    /// The rows of a table, as JSON lines.
    Rows {
        /// Which.
        of: Rows,
    },
    /// What stands between frameworks and agents, as JSON lines. Since protocol 3.
    Explain {
        /// A framework, by its id or name; empty = whoever would ask for `need`.
        framework: &'a str,
        /// An agent, by its id or host; empty = all.
        agent: &'a str,
        /// Without a framework: how much is to fit, in Mesos' text form of resources.
        need: &'a str,
        /// Only agents with these attributes, in Mesos' text form of attributes.
        attributes: &'a str,
    },
    /// Something of what frameworks store. Since protocol 3.
    Store {
        /// Whose; empty = the caller's own.
        owner: &'a str,
        /// What; empty for all of a list.
        key: &'a str,
        /// What to do.
        #[serde(borrow)]
        verb: Keep<'a>,
    },
    /// A container's output as it grows, in pieces that say where they are, so that whoever loses the
    /// stream goes on at the same place: `offset u64 LE | length u32 LE | bytes`. The first is empty and
    /// tells where the output begins. Since protocol 3.
    Follow {
        /// Where; none when the receiver is that agent.
        agent: AgentId,
        /// Whose output.
        of: LogsOf<'a>,
        /// Which of the two files.
        which: Output,
        /// From this byte on; negative counts from the end, and beyond it is the end.
        offset: i64,
    },
    /// What the masters of a closed cluster have in common, as JSON: for a node that has joined as a
    /// master, and nobody else. Since protocol 3.
    Charter,
    /// An agent that has joined has drawn another key, by which it is known from now on; done when a
    /// majority of the masters has it. Since protocol 3.
    Rekey {
        /// Its public half.
        key: [u8; 32],
    },
}

/// What is done to a key of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keep<'a> {
    /// Answered by the version, u64 LE, and the value.
    Get,
    /// Answered by the new version, u64 LE, when a majority of the masters has the value.
    Put {
        /// The value.
        value: &'a [u8],
        /// Only if it has this version; 0: only if there is none.
        expected: Option<u64>,
    },
    /// Answered, by nothing, when a majority of the masters has it no more.
    Remove {
        /// Only if it has this version.
        expected: Option<u64>,
    },
    /// Answered by a line of JSON for each key.
    List,
}

/// Whose output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogsOf<'a> {
    /// A container's, by its id.
    Container(ContainerId),
    /// A task's: the newest of that name, whoever's it is unless a framework is given.
    Task {
        /// Whose; none = anybody's.
        framework: FrameworkId,
        /// Which.
        task: &'a str,
    },
}

choice! {
    /// One of the two files that a task writes to.
    pub enum Output {
        /// Its standard output.
        Stdout = 0,
        /// Its standard error.
        Stderr = 1,
    }

    /// A table of the read model.
    pub enum Rows {
        /// Tasks.
        Tasks = 0,
        /// Agents.
        Agents = 1,
        /// Frameworks.
        Frameworks = 2,
        /// Tasks whose end was acknowledged, the last ones of them.
        Completed = 3,
        /// Quotas of roles. Since protocol 3.
        Quotas = 4,
        /// Weights of roles. Since protocol 3.
        Weights = 5,
        /// Machines in the maintenance schedule. Since protocol 3.
        Machines = 6,
        /// Masters, and those that ask to be one. Since protocol 3.
        Masters = 7,
        /// Who asked a master for which change, the newest of it. Since protocol 3.
        Audit = 8,
    }

    /// Why a stream ended.
    pub enum CloseReason {
        /// Everything was sent.
        Done = 0,
        /// No such container, agent, task or file.
        NotFound = 1,
        /// Not allowed.
        Denied = 2,
        /// This kind of stream is not served here.
        Unsupported = 3,
        /// Too many streams, or more bytes than the window.
        Overloaded = 4,
        /// The other end of it went away.
        Gone = 5,
        /// Something failed on the way.
        Failed = 6,
        /// The key has another version than expected.
        Conflict = 7,
    }
}

nothing_to_check!(Output Rows CloseReason);

impl Check for Svc<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Open { kind, .. } => match kind {
                Stream::Logs { of: LogsOf::Task { task, .. }, .. }
                | Stream::Follow { of: LogsOf::Task { task, .. }, .. } => name("logs.task", task),
                Stream::Logs { of: LogsOf::Container(_), .. }
                | Stream::Follow { of: LogsOf::Container(_), .. }
                | Stream::Http { .. }
                | Stream::Exec { .. }
                | Stream::Rows { .. }
                | Stream::Charter
                | Stream::Rekey { .. } => Ok(()),
                Stream::Explain { framework, agent, need, attributes } => {
                    name("explain.framework", framework)?;
                    name("explain.agent", agent)?;
                    text("explain.need", need, MESSAGE_MAX)?;
                    text("explain.attributes", attributes, MESSAGE_MAX)
                }
                Stream::Store { owner, key, verb } => {
                    name("store.owner", owner)?;
                    name("store.key", key)?;
                    let len = if let Keep::Put { value, .. } = verb { value.len() } else { 0 };
                    let max = super::check::count(STORED_MAX);
                    require(len <= STORED_MAX, "store.value", Fault::TooLong(max))
                }
            },
            Self::Data { bytes, .. } => {
                let max = super::check::count(STREAM_DATA_MAX);
                require(bytes.len() <= STREAM_DATA_MAX, "data", Fault::TooLong(max))
            }
            Self::Credit { .. } => Ok(()),
            Self::Close { message, .. } => text("close.message", message, MESSAGE_MAX),
        }
    }
}
