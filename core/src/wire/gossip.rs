//! What masters say to each other: facts about themselves, and the registry's contents.
//!
//! A [`Row`] holds facts about one master, written by that master alone and, where they are durable
//! facts, only after its disk has them. So a row may be lost, repeated, reordered or passed on by
//! anybody. A [`Digest`] is a table of rows in one datagram; [`Replica`] carries what the registry
//! holds, over a stream, and whoever holds a value may pass it on: its version and hash name it.

use serde::{Deserialize, Serialize};

use super::check::{Check, Fault, Malformed, count, nothing_to_check, require, text};
use super::ids::Generation;
use super::seq::{Seq, items};
use crate::limits::{
    DELTA_MAX, EDIT_MAX, EDITS_MAX, MASTERS_MAX, MASTERS_TEXT_MAX, MESSAGE_MAX, NAME_MAX, PART_MAX,
    PARTS_MAX, PIECE_MAX,
};
use crate::registry::meta::META_MAX;

record! {
    /// Names one value of the registry: ordered by epoch, then by number. Numbers begin at 1 in each
    /// epoch; the zero version is the registry that nobody has led yet.
    #[derive(Default, PartialOrd, Ord)]
    pub struct Version {
        /// The leader's epoch.
        pub epoch: u32,
        /// Counted up with each write of that leader.
        pub number: u64,
    }

    /// One master's facts about itself. About 45 bytes, 125 at the most.
    #[derive(Default)]
    pub struct Row {
        /// Whose: 1 to [`MASTER_ID_MAX`](crate::limits::MASTER_ID_MAX).
        pub id: u8,
        /// Counted up at each start, on disk before anything is said.
        pub incarnation: u32,
        /// Counted up with each row of an incarnation.
        pub sequence: u32,
        /// Random, drawn at each start: tells two copies of one directory apart.
        pub nonce: u32,
        /// The highest epoch that it voted in or accepted data for.
        pub promised: u32,
        /// For whom it voted in that epoch; 0 = nobody.
        pub voted_for: u8,
        /// The newest value that it accepted.
        pub accepted: Version,
        /// The chain hash of that value.
        pub hash: u64,
        /// The value whose body it can hand out or lead from; behind `accepted` after damage.
        pub held: Version,
        /// The epoch that it leads; 0 = none.
        pub leads: u32,
        /// The newest value that it knows to be committed.
        pub commit: Version,
        /// The epoch that it asks to be elected for; 0 = does not ask.
        pub want: u32,
        /// The epoch for which it would vote for `grant_to`; 0 = for nobody.
        pub grant_epoch: u32,
        /// For whom it would vote.
        pub grant_to: u8,
        /// The epoch of the leader last heard.
        pub echo_epoch: u32,
        /// That leader's own clock in µs when it sent the newest row heard.
        pub echo_stamp: u64,
        /// A bit for each id whose row advanced within T.
        pub heard: u64,
        /// Bits: [`Row::STARTING`] and the others.
        pub flags: u8,
    }
}

impl Row {
    /// It has started and waits to hear what others know of it: no facts, never counted.
    pub const STARTING: u8 = 1;
    /// It may be open for agents. A witness may not.
    pub const CAN_LEAD: u8 = 2;
    /// Its disk keeps up.
    pub const DISK_OK: u8 = 4;
    /// Its disk has forgotten something: it never counts again.
    pub const QUARANTINED: u8 = 8;
    /// It belongs to a cluster.
    pub const FORMED: u8 = 16;

    /// True when every bit of `flag` is set.
    pub const fn is(&self, flag: u8) -> bool {
        self.flags & flag == flag
    }

    /// True when its facts count: it is formed, past its start and not in quarantine.
    pub const fn counts(&self) -> bool {
        self.is(Self::FORMED) && !self.is(Self::STARTING) && !self.is(Self::QUARANTINED)
    }
}

/// Everything a master has to say, in one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest<'a> {
    /// The cluster.
    pub cluster: u64,
    /// Its history.
    pub generation: Generation,
    /// The version of the sender's roster.
    pub roster: u32,
    /// Who sends it.
    pub sender: u8,
    /// A bit for each id that the sender saw forget something.
    pub amnesiac: u64,
    /// What the sender knows of each master, itself first.
    #[serde(borrow)]
    pub rows: Seq<'a, Row>,
}

choice! {
    /// The tables of the registry. Numbers are on disk and on the wire: they are only appended.
    pub enum Table {
        /// Roster, T, who wrote last: one slot.
        Meta = 0,
        /// Admitted agents.
        Agents = 1,
        /// What agents' hosts are called.
        Hosts = 2,
        /// Frameworks.
        Frameworks = 3,
        /// Quota and weight of roles.
        Roles = 4,
        /// Maintenance windows.
        Windows = 5,
        /// Principals.
        Principals = 6,
        /// Access rules.
        Rules = 7,
        /// Join tokens.
        Tokens = 8,
        /// Revocations.
        Revocations = 9,
        /// What frameworks store, in cells.
        Store = 10,
        /// Calls of operators that were done, and may be made again.
        Requests = 11,
        /// A change on its way that is larger than goes at once.
        Redo = 12,
    }
}

nothing_to_check!(Version Table);

/// Bytes to be written at a place of a table. Physical, so that two releases cannot differ in what
/// a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit<'a> {
    /// Which table.
    pub table: Table,
    /// Which slot of it.
    pub slot: u32,
    /// Where in the slot.
    pub at: u16,
    /// What is there from now on.
    pub bytes: &'a [u8],
}

items!(Row; Edit);

/// What the registry holds, or a request for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replica<'a> {
    /// A change.
    Delta {
        /// The value it makes.
        version: Version,
        /// The hash of that value.
        hash: u64,
        /// The value it applies to.
        base: Version,
        /// The hash of that one.
        base_hash: u64,
        /// What is written, in order.
        #[serde(borrow)]
        edits: Seq<'a, Edit<'a>>,
    },
    /// A part of the whole, which is sent from its beginning.
    Piece {
        /// The value.
        version: Version,
        /// Its hash.
        hash: u64,
        /// Bytes of the whole.
        total: u32,
        /// Where this part begins.
        at: u32,
        /// The part.
        bytes: &'a [u8],
    },
    /// Asks for the part that begins there, of whatever the receiver holds now.
    Pull {
        /// The value of which the asker has everything before `at`.
        version: Version,
        /// Its hash.
        hash: u64,
        /// Where the part begins.
        at: u32,
    },
}

/// What stands around everything that a master of a cluster says in a datagram: which one of its
/// datagrams it is, so that none counts twice, and where others are to be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// The sender's start, durable and counted up.
    pub incarnation: u32,
    /// Random, drawn at that start: two copies of one directory are told apart by it.
    pub nonce: u32,
    /// Counted up with each datagram of that start.
    pub counter: u64,
    /// `host:port` at which it answers agents, frameworks and people.
    pub address: &'a str,
    /// What it says: a head of this family.
    pub head: &'a [u8],
}

/// What a master says before there is a cluster: who it will be, and what it would agree to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap<'a> {
    /// The masters as it was told them, sorted, parted by commas.
    pub masters: &'a str,
    /// Its place in that list, from 1.
    pub id: u8,
    /// Random, drawn once and durable: the cluster's id is made of all of them.
    pub draw: u64,
    /// What it will prove itself with.
    pub key: [u8; 32],
    /// Rows of the registry's tables of agents, frameworks and roles.
    pub rows: [u32; 3],
    /// T in µs.
    pub t_us: u32,
    /// A digest of what it has heard from all of the list, itself among them; 0 = not from all yet.
    pub agreed: u64,
    /// It belongs to the set already, and says this as an answer.
    pub made: bool,
}

/// What a master says that would follow a set that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join<'a> {
    /// What it will prove itself with.
    pub key: [u8; 32],
    /// Rows of the registry's tables of agents, frameworks and roles.
    pub rows: [u32; 3],
    /// `host:port` at which it will answer agents, frameworks and people.
    pub address: &'a str,
}

/// The answer to one whose key an operator has named: what it needs to be told to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined<'a> {
    /// The key that this is for.
    pub key: [u8; 32],
    /// The id that goes with it.
    pub id: u8,
    /// The cluster.
    pub cluster: u64,
    /// Its history.
    pub generation: Generation,
    /// The newest epoch that the sender promised.
    pub epoch: u32,
    /// T in µs.
    pub t_us: u32,
    /// The roster, which has this key: a [`Roster`](crate::registry::meta::Roster), encoded.
    pub roster: &'a [u8],
    /// `host:port` of the masters that the sender knows, parted by commas.
    pub masters: &'a str,
}

/// A message between masters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gossip<'a> {
    /// Facts, in a datagram.
    #[serde(borrow)]
    Digest(Digest<'a>),
    /// The registry's contents, in a datagram or in a stream.
    #[serde(borrow)]
    Replica(Replica<'a>),
    /// A datagram of a master that belongs to a cluster.
    #[serde(borrow)]
    Envelope(Envelope<'a>),
    /// A datagram of one that would make a cluster.
    #[serde(borrow)]
    Bootstrap(Bootstrap<'a>),
    /// The answer to one that cannot: why, and what to do.
    Turned {
        /// For people.
        message: &'a str,
    },
    /// A datagram of one that would follow a cluster.
    #[serde(borrow)]
    Join(Join<'a>),
    /// The answer when it may.
    #[serde(borrow)]
    Joined(Joined<'a>),
    /// In an envelope, from a leader that has a name for others: its host.
    Called {
        /// As they reach it.
        hostname: &'a str,
    },
    /// In an envelope, a part of what a network does not carry whole.
    Part {
        /// The counter of the envelope that has the first part.
        of: u64,
        /// Which one it is, from 0.
        at: u8,
        /// How many there are.
        count: u8,
        /// The part; all of them together are a head.
        bytes: &'a [u8],
    },
}

impl Check for Row {
    fn check(&self) -> Result<(), Malformed> {
        for id in [self.voted_for, self.grant_to] {
            require(usize::from(id) <= ID_MAX, "row.id", Fault::Above(ID_MAX as u64))?;
        }
        require(self.id > 0, "row.id", Fault::Below(1))?;
        require(usize::from(self.id) <= ID_MAX, "row.id", Fault::Above(ID_MAX as u64))?;
        require(self.held <= self.accepted, "row.held", Fault::Contradiction)
    }
}

impl Check for Digest<'_> {
    fn check(&self) -> Result<(), Malformed> {
        require(self.sender > 0, "digest.sender", Fault::Below(1))?;
        let sender = usize::from(self.sender);
        require(sender <= ID_MAX, "digest.sender", Fault::Above(ID_MAX as u64))?;
        self.rows.check_up_to("digest.rows", MASTERS_MAX)
    }
}

impl Check for Edit<'_> {
    fn check(&self) -> Result<(), Malformed> {
        let max = Fault::TooLong(count(EDIT_MAX));
        require(self.bytes.len() <= EDIT_MAX, "edit.bytes", max)
    }
}

impl Check for Replica<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Delta { version, base, edits, .. } => {
                require(version > base, "delta.version", Fault::Contradiction)?;
                edits.check_up_to("delta.edits", EDITS_MAX)
            }
            Self::Piece { total, at, bytes, .. } => {
                let max = Fault::TooLong(count(PIECE_MAX));
                require(bytes.len() <= PIECE_MAX, "piece.bytes", max)?;
                let end = u64::from(*at).saturating_add(u64::from(count(bytes.len())));
                require(end <= u64::from(*total), "piece.at", Fault::Contradiction)
            }
            Self::Pull { .. } => Ok(()),
        }
    }
}

impl Check for Envelope<'_> {
    fn check(&self) -> Result<(), Malformed> {
        text("envelope.address", self.address, NAME_MAX)?;
        // A digest of all masters, or a part or a change of the registry with what names it.
        let max = DELTA_MAX.saturating_add(256);
        require(self.head.len() <= max, "envelope.head", Fault::TooLong(count(max)))
    }
}

impl Check for Bootstrap<'_> {
    fn check(&self) -> Result<(), Malformed> {
        text("bootstrap.masters", self.masters, MASTERS_TEXT_MAX)?;
        let max = MASTERS_MAX as u64;
        require(self.id > 0, "bootstrap.id", Fault::Below(1))?;
        require(u64::from(self.id) <= max, "bootstrap.id", Fault::Above(max))
    }
}

impl Check for Joined<'_> {
    fn check(&self) -> Result<(), Malformed> {
        require(self.id > 0, "joined.id", Fault::Below(1))?;
        require(usize::from(self.id) <= ID_MAX, "joined.id", Fault::Above(ID_MAX as u64))?;
        require(self.t_us > 0, "joined.t", Fault::Below(1))?;
        let max = Fault::TooLong(count(META_MAX));
        require(self.roster.len() <= META_MAX, "joined.roster", max)?;
        text("joined.masters", self.masters, MASTERS_TEXT_MAX)
    }
}

impl Check for Gossip<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Digest(digest) => digest.check(),
            Self::Replica(replica) => replica.check(),
            Self::Envelope(envelope) => envelope.check(),
            Self::Bootstrap(bootstrap) => bootstrap.check(),
            Self::Turned { message } => text("turned.message", message, MESSAGE_MAX),
            Self::Join(join) => text("join.address", join.address, NAME_MAX),
            Self::Joined(joined) => joined.check(),
            Self::Called { hostname } => text("called.hostname", hostname, NAME_MAX),
            Self::Part { at, count: parts, bytes, .. } => {
                let most = Fault::Above(PARTS_MAX as u64);
                require(usize::from(*parts) <= PARTS_MAX, "part.count", most)?;
                require(at < parts, "part.at", Fault::Above(u64::from(parts.saturating_sub(1))))?;
                let max = Fault::TooLong(count(PART_MAX));
                require(bytes.len() <= PART_MAX, "part.bytes", max)
            }
        }
    }
}

const ID_MAX: usize = crate::limits::MASTER_ID_MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn a_full_digest_fits_a_datagram_that_no_network_splits() {
        let row = Row {
            id: 63,
            incarnation: u32::MAX,
            sequence: u32::MAX,
            nonce: u32::MAX,
            promised: u32::MAX,
            voted_for: 63,
            accepted: Version { epoch: u32::MAX, number: u64::MAX },
            hash: u64::MAX,
            held: Version { epoch: u32::MAX, number: u64::MAX },
            leads: u32::MAX,
            commit: Version { epoch: u32::MAX, number: u64::MAX },
            want: u32::MAX,
            grant_epoch: u32::MAX,
            grant_to: 63,
            echo_epoch: u32::MAX,
            echo_stamp: u64::MAX,
            heard: u64::MAX,
            flags: u8::MAX,
        };
        let mut memory = [0; 2048];
        let worst = encode(&row, &mut memory).unwrap().len();
        assert!(worst <= 140 && worst * MASTERS_MAX + 60 < 1200, "{worst}");
        let usual = Row {
            incarnation: 40,
            sequence: 90_000,
            promised: 90,
            accepted: Version { epoch: 90, number: 4_000 },
            held: Version { epoch: 90, number: 4_000 },
            commit: Version { epoch: 90, number: 4_000 },
            leads: 90,
            want: 0,
            grant_epoch: 0,
            echo_epoch: 90,
            echo_stamp: 1 << 40,
            heard: 14,
            ..row
        };
        let usual = encode(&usual, &mut memory).unwrap().len();
        assert!(usual <= 60, "{usual}");
    }
}
