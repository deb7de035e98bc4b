//! The first frame in both directions: who speaks, which versions, and what it can take.

use serde::{Deserialize, Serialize};

use super::check::{Check, Fault, Malformed, count, name, nothing_to_check, require};
use super::ids::Generation;
use crate::limits::{BODY_MAX, FRAME_MAX, HEAD_MAX, HEAD_MIN, VERSION_MAX, VERSION_MIN};

choice! {
    /// What the speaker is on this connection.
    pub enum Role {
        /// Asks and watches, without offers: `ps`, `logs`, operators' tools.
        Client = 0,
        /// A master.
        Master = 1,
        /// An agent.
        Agent = 2,
        /// A framework's scheduler.
        Framework = 3,
        /// An executor, speaking to its agent.
        Executor = 4,
    }

    /// How frames after the hello are protected.
    pub enum AuthScheme {
        /// By a checksum only: loopback, in memory, or inside TLS.
        None = 0,
        /// By a 16-byte tag under a key that both ends have.
        SharedKey = 1,
    }
}

nothing_to_check!(Role AuthScheme);

/// Who speaks, which versions, and what it can take. Always protected by the checksum only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// The oldest protocol it speaks.
    pub version_min: u16,
    /// The newest protocol it speaks.
    pub version_max: u16,
    /// What it has beyond that protocol, a bit each; unknown bits are ignored.
    pub features: u64,
    /// Its cluster; 0 = none yet.
    pub cluster: u64,
    /// Its cluster's history.
    pub generation: Generation,
    /// What it is.
    pub role: Role,
    /// Which one, of its kind: a master's id, an agent's incarnation; 0 = not said.
    pub node: u64,
    /// The key that it is known by; all zero = none.
    pub key: [u8; 32],
    /// How its frames will be protected.
    pub auth: AuthScheme,
    /// Random, for this connection.
    pub nonce: [u8; 16],
    /// The largest frame it takes, in bytes.
    pub frame_max: u32,
    /// The largest head it takes, in bytes.
    pub head_max: u32,
    /// Bytes of a stream it takes before it gives credit.
    pub window: u32,
    /// Tasks it can hold; 0 = does not run any.
    pub tasks_max: u32,
    /// Kinds of tasks it runs: bits of [`Kind::bit`](super::task::Kind::bit).
    pub task_kinds: u32,
    /// Program and version, for people.
    pub software: &'a str,
}

/// Why two ends part at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The peer speaks only versions up to this one, which is older than ours.
    TooOld(u16),
    /// The peer speaks only versions from this one on, which is newer than ours.
    TooNew(u16),
    /// The peer belongs to another cluster.
    OtherCluster(u64),
    /// The same generation number with another nonce: a cluster split by two imports.
    SplitGeneration,
}

impl core::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::TooOld(theirs) => write!(
                f,
                "the peer speaks protocol {theirs}, this release {VERSION_MIN} to {VERSION_MAX}: \
                 upgrade the peer"
            ),
            Self::TooNew(theirs) => write!(
                f,
                "the peer speaks protocol {theirs} and up, this release {VERSION_MIN} to \
                 {VERSION_MAX}: upgrade this node"
            ),
            Self::OtherCluster(theirs) => write!(
                f,
                "only one of the two ends belongs to cluster {theirs:016x}: name to the agent the masters \
                 of its own cluster, or give it another --work-dir"
            ),
            Self::SplitGeneration => f.write_str(
                "the peer's registry was imported twice under one generation: keep one of the two \
                 and remove the other's work dir",
            ),
        }
    }
}

impl core::error::Error for Mismatch {}

/// The protocol that both ends speak, or why there is none.
///
/// Clusters are compared only when both have one; histories only within one number.
pub fn agree(ours: &Hello<'_>, theirs: &Hello<'_>) -> Result<u16, Mismatch> {
    if theirs.version_max < ours.version_min {
        return Err(Mismatch::TooOld(theirs.version_max));
    }
    if theirs.version_min > ours.version_max {
        return Err(Mismatch::TooNew(theirs.version_min));
    }
    if ours.cluster != 0 && theirs.cluster != 0 {
        if ours.cluster != theirs.cluster {
            return Err(Mismatch::OtherCluster(theirs.cluster));
        }
        let (a, b) = (ours.generation, theirs.generation);
        if a.number == b.number && a.nonce != b.nonce {
            return Err(Mismatch::SplitGeneration);
        }
    }
    Ok(ours.version_max.min(theirs.version_max))
}

impl<'a> Hello<'a> {
    /// A hello of this release, without identity, taking all that the limits allow.
    pub const fn of_this_release(role: Role, software: &'a str) -> Self {
        // The limits are constants that fit; a const fn cannot ask.
        #[allow(clippy::cast_possible_truncation)]
        Self {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            features: 0,
            cluster: 0,
            generation: Generation { number: 0, nonce: 0 },
            role,
            node: 0,
            key: [0; 32],
            auth: AuthScheme::None,
            nonce: [0; 16],
            frame_max: FRAME_MAX as u32,
            head_max: HEAD_MAX as u32,
            window: crate::limits::STREAM_WINDOW,
            tasks_max: 0,
            task_kinds: 0,
            software,
        }
    }
}

impl Check for Hello<'_> {
    fn check(&self) -> Result<(), Malformed> {
        require(self.version_min > 0, "hello.version_min", Fault::Below(1))?;
        require(self.version_min <= self.version_max, "hello.version_max", Fault::Contradiction)?;
        let head_min = Fault::Below(u64::from(count(HEAD_MIN)));
        require(self.head_max as usize >= HEAD_MIN, "hello.head_max", head_min)?;
        require(self.head_max <= self.frame_max, "hello.frame_max", Fault::Contradiction)?;
        require(self.window > 0, "hello.window", Fault::Below(1))?;
        name("hello.software", self.software)
    }
}

const _: () = assert!(BODY_MAX < FRAME_MAX && VERSION_MIN <= VERSION_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn speaking(version_min: u16, version_max: u16) -> Hello<'static> {
        Hello { version_min, version_max, ..Hello::of_this_release(Role::Agent, "test") }
    }

    #[test]
    fn peers_speak_the_newest_protocol_that_both_know() {
        assert_eq!(agree(&speaking(1, 2), &speaking(1, 1)), Ok(1));
        assert_eq!(agree(&speaking(1, 2), &speaking(2, 3)), Ok(2));
        assert_eq!(agree(&speaking(2, 3), &speaking(1, 1)), Err(Mismatch::TooOld(1)));
        assert_eq!(agree(&speaking(1, 2), &speaking(3, 4)), Err(Mismatch::TooNew(3)));
    }

    #[test]
    fn a_peer_of_another_cluster_or_history_is_refused_with_what_to_do() {
        let mut ours = speaking(1, 2);
        let mut theirs = speaking(1, 2);
        ours.cluster = 7;
        assert_eq!(agree(&ours, &theirs), Ok(2), "a node without a cluster joins");
        theirs.cluster = 8;
        let refused = agree(&ours, &theirs).unwrap_err();
        assert!(refused.to_string().contains("--work-dir"), "{refused}");
        theirs.cluster = 7;
        theirs.generation.nonce = 1;
        assert_eq!(agree(&ours, &theirs), Err(Mismatch::SplitGeneration));
        theirs.generation.number = 1;
        assert_eq!(agree(&ours, &theirs), Ok(2), "the fence decides between numbers");
    }

    #[test]
    fn a_hello_that_contradicts_itself_is_refused() {
        assert_eq!(speaking(1, 2).check(), Ok(()));
        assert_eq!(speaking(0, 2).check().unwrap_err().field, "hello.version_min");
        assert_eq!(speaking(3, 2).check().unwrap_err().field, "hello.version_max");
        let small = Hello { head_max: 100, ..speaking(1, 2) };
        assert_eq!(small.check().unwrap_err().fault, Fault::Below(1024));
    }
}
