//! What keeps a connection: who it is, signs of life, the way to the leader, and a word at the end.
//!
//! Links never reach a core: the IO sides of both ends speak them. A core hears of silence and of
//! closed connections as inputs of their own.

use serde::{Deserialize, Serialize};

use super::check::{Check, Malformed, nothing_to_check, text};
use super::ids::{Fence, Session};
use crate::limits::{MASTERS_TEXT_MAX, MESSAGE_MAX, NAME_MAX};

/// Frames about the connection itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link<'a> {
    /// Asks for a sign of life. From agents: one session's, by the agent's own clock.
    Ping {
        /// The sender's clock in µs when it was sent; echoed, never compared across nodes.
        stamp: u64,
        /// The agent's session; zero from others.
        session: Session,
    },
    /// The answer, to one ping.
    Pong {
        /// The stamp of that ping.
        stamp: u64,
        /// The session it answers for.
        session: Session,
    },
    /// The leader is elsewhere; come back when it is not there.
    Redirect {
        /// How new this knowledge is.
        fence: Fence,
        /// The leading master's id.
        leader: u64,
        /// `host:port` that the receiver can use.
        address: &'a str,
    },
    /// The connection ends now, and why.
    Bye {
        /// The sort of end.
        reason: Parting,
        /// For people.
        message: &'a str,
    },
    /// The end that dialled proves who it is, before anything else: by HMAC-SHA-256 under its secret
    /// over the nonces of both hellos, its role and its name. The secret itself goes nowhere.
    Prove {
        /// Whose secret it is.
        principal: &'a str,
        /// The code.
        proof: [u8; 32],
    },
    /// Where the masters are, all of them, as far as the sender knows: for who comes back later.
    Masters {
        /// `host:port` of each, parted by commas.
        addresses: &'a str,
    },
    /// From an agent to a master that has named a leader: join me to it. The same word back says that
    /// it is so: from then on both directions are the bytes of a new connection to there.
    Splice {
        /// `host:port` of that leader, as it was named.
        address: &'a str,
    },
    /// From a master to agents: the name by which clients are shown it. Since protocol 3.
    Called {
        /// `--hostname`.
        hostname: &'a str,
    },
}

choice! {
    /// Why an end closes a connection.
    pub enum Parting {
        /// It is going away in good order.
        Leaving = 0,
        /// Something it received was malformed.
        Malformed = 1,
        /// The peer may not do that, or may not be here.
        Denied = 2,
        /// No version, cluster or history in common.
        Mismatch = 3,
        /// More than it can hold: connections, streams, bytes in the queue.
        Overloaded = 4,
        /// The same peer has a newer connection.
        Replaced = 5,
        /// Nothing was heard for too long.
        Silent = 6,
        /// Not the leader, and no leader known: try again later.
        NoLeader = 7,
    }
}

nothing_to_check!(Parting);

impl Check for Link<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Ping { .. } | Self::Pong { .. } => Ok(()),
            Self::Redirect { address, .. } => text("redirect.address", address, NAME_MAX),
            Self::Bye { message, .. } => text("bye.message", message, MESSAGE_MAX),
            Self::Prove { principal, .. } => text("prove.principal", principal, NAME_MAX),
            Self::Masters { addresses } => text("masters", addresses, MASTERS_TEXT_MAX),
            Self::Splice { address } => text("splice.address", address, NAME_MAX),
            Self::Called { hostname } => text("called.hostname", hostname, NAME_MAX),
        }
    }
}
