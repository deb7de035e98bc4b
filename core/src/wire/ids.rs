//! Names of things on the wire, and how they are printed for the clients of Mesos' API.

use core::fmt;

use super::check::nothing_to_check;
use super::seq::items;
use crate::table::Id;

record! {
    /// A framework, minted by a master and never used again: (epoch, counter), each u32.
    /// The zero id is none. Printed `{cluster:016x}-{epoch}-{n:04}`.
    #[derive(PartialOrd, Ord, Default)]
    pub struct FrameworkId {
        /// The epoch of the master that minted it; epochs start at 1.
        pub epoch: u32,
        /// Counted up within the epoch.
        pub number: u32,
    }

    /// An agent, minted by a master and never used again: (epoch, counter), each u32.
    /// The zero id is none. Printed `{cluster:016x}-{epoch}-S{n}`.
    #[derive(PartialOrd, Ord, Default)]
    pub struct AgentId {
        /// The epoch of the master that minted it; epochs start at 1.
        pub epoch: u32,
        /// Counted up within the epoch.
        pub number: u32,
    }

    /// An offer: its row in the table of the master that made it, good in that epoch only.
    /// Printed `{cluster:016x}-{epoch}-O{generation·2^32 + index}`.
    #[derive(PartialOrd, Ord, Default)]
    pub struct OfferId {
        /// The epoch in which it was made.
        pub epoch: u32,
        /// The offer's row.
        pub id: Id,
    }

    /// A container: (incarnation of its agent, counter). Printed `{incarnation:x}-{counter:x}`.
    #[derive(PartialOrd, Ord, Default)]
    pub struct ContainerId {
        /// The start of the agent that made it.
        pub incarnation: u32,
        /// Counted up within that start, from 1.
        pub counter: u32,
    }

    /// One history of a cluster. It changes only when an operator imports a registry after a
    /// majority was lost; the nonce tells two such imports apart.
    #[derive(Default)]
    pub struct Generation {
        /// Counted up by each import.
        pub number: u32,
        /// Drawn by the import; two values with one number mean a split cluster.
        pub nonce: u64,
    }

    /// Whose word counts: generation, then epoch. An agent obeys none older than it has seen.
    #[derive(Default)]
    pub struct Fence {
        /// The history.
        pub generation: Generation,
        /// The reign within it; 0 = none yet.
        pub epoch: u32,
    }

    /// One conversation of an agent with a master: only launches that name it are accepted.
    #[derive(PartialOrd, Ord, Default)]
    pub struct Session {
        /// The agent's start, durable and counted up.
        pub incarnation: u32,
        /// Counted up whenever a registration is built.
        pub counter: u32,
    }

    /// Names one status update, so that its acknowledgement ends that one and no other:
    /// the agent and its ledger's sequence. 16 bytes to the clients of Mesos' API.
    #[derive(PartialOrd, Ord, Default)]
    pub struct Uuid {
        /// The agent that made the update.
        pub agent: AgentId,
        /// The ledger's sequence number.
        pub sequence: u64,
    }

    /// A body of this frame: its place in the frame's body table + 1, or 0 for none.
    #[derive(Default)]
    pub struct Body {
        place: u16,
    }

    /// A body in the store of the IO side: where, how long, and the hash of its bytes.
    /// Two bodies of one framework are equal when length and hash are.
    #[derive(Default)]
    pub struct BodyRef {
        /// The slot of the store + 1; 0 = no body.
        pub slot: u32,
        /// Bytes.
        pub len: u32,
        /// SipHash-1-3 with a zero key.
        pub hash: u64,
    }
}

nothing_to_check!(
    FrameworkId AgentId OfferId ContainerId Generation Fence Session Uuid Body BodyRef Id
);
items!(FrameworkId, AgentId, OfferId, ContainerId, Uuid, Body, BodyRef; );

impl FrameworkId {
    /// No framework.
    pub const NONE: Self = Self { epoch: 0, number: 0 };

    /// True for [`FrameworkId::NONE`].
    pub const fn is_none(self) -> bool {
        self.epoch == 0
    }

    /// The id as Mesos' clients see it.
    pub fn shown(self, cluster: u64) -> impl fmt::Display {
        Shown { cluster, epoch: self.epoch, tail: Tail::Framework(self.number) }
    }

    /// Reads what [`FrameworkId::shown`] printed in the same cluster; anything else is none.
    pub fn parse(text: &str, cluster: u64) -> Option<Self> {
        let (epoch, number) = parse(text, cluster, "")?;
        let id = Self { epoch, number: u32::try_from(number).ok()? };
        same(text, id.shown(cluster)).then_some(id)
    }
}

impl AgentId {
    /// No agent.
    pub const NONE: Self = Self { epoch: 0, number: 0 };

    /// True for [`AgentId::NONE`].
    pub const fn is_none(self) -> bool {
        self.epoch == 0
    }

    /// The id as Mesos' clients see it.
    pub fn shown(self, cluster: u64) -> impl fmt::Display {
        Shown { cluster, epoch: self.epoch, tail: Tail::Agent(self.number) }
    }

    /// Reads what [`AgentId::shown`] printed in the same cluster; anything else is none.
    pub fn parse(text: &str, cluster: u64) -> Option<Self> {
        let (epoch, number) = parse(text, cluster, "S")?;
        let id = Self { epoch, number: u32::try_from(number).ok()? };
        same(text, id.shown(cluster)).then_some(id)
    }
}

impl OfferId {
    /// The id as Mesos' clients see it.
    pub fn shown(self, cluster: u64) -> impl fmt::Display {
        Shown { cluster, epoch: self.epoch, tail: Tail::Offer(self.id) }
    }

    /// Reads what [`OfferId::shown`] printed in the same cluster; anything else is none.
    pub fn parse(text: &str, cluster: u64) -> Option<Self> {
        let (epoch, number) = parse(text, cluster, "O")?;
        let generation = u32::try_from(number >> 32).ok()?;
        let index = u32::try_from(number & u64::from(u32::MAX)).ok()?;
        let id = Self { epoch, id: Id { index, generation } };
        same(text, id.shown(cluster)).then_some(id)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.incarnation, self.counter)
    }
}

impl ContainerId {
    /// Reads what `Display` printed; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (incarnation, counter) = text.split_once(['-'])?;
        let id = Self {
            incarnation: u32::from_str_radix(incarnation, 16).ok()?,
            counter: u32::from_str_radix(counter, 16).ok()?,
        };
        same(text, id).then_some(id)
    }
}

impl Fence {
    /// True when `self` may give orders to one who has obeyed `seen`.
    ///
    /// A newer generation always may, an older never; two generations of one number but different
    /// nonces are a split cluster, and neither may follow the other.
    pub fn reaches(self, seen: Self) -> bool {
        let (ours, theirs) = (self.generation, seen.generation);
        if ours.number != theirs.number {
            return ours.number > theirs.number;
        }
        (theirs.nonce == 0 || ours.nonce == theirs.nonce) && self.epoch >= seen.epoch
    }
}

impl Uuid {
    /// The 16 bytes that Mesos' clients echo: agent (8), then sequence (8), big-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        let agent = (u64::from(self.agent.epoch) << 32) | u64::from(self.agent.number);
        ((u128::from(agent) << 64) | u128::from(self.sequence)).to_be_bytes()
    }

    /// Reads what [`Uuid::to_bytes`] wrote; every 16 bytes are some uuid.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let whole = u128::from_be_bytes(bytes);
        // Cutting a u128 into its parts: each cast keeps exactly the bits it is about.
        #[allow(clippy::cast_possible_truncation)]
        Self {
            agent: AgentId { epoch: (whole >> 96) as u32, number: (whole >> 64) as u32 },
            sequence: whole as u64,
        }
    }
}

impl Body {
    /// No body.
    pub const NONE: Self = Self { place: 0 };

    /// The body at `index` of the frame's table.
    pub fn at(index: u16) -> Self {
        Self { place: index.saturating_add(1) }
    }

    /// Where it is in the frame's table.
    pub fn index(self) -> Option<usize> {
        self.place.checked_sub(1).map(usize::from)
    }

    /// The stored body, out of those that came with the frame; [`BodyRef::NONE`] for none.
    pub fn of(self, stored: &[BodyRef]) -> BodyRef {
        self.index().and_then(|index| stored.get(index)).copied().unwrap_or(BodyRef::NONE)
    }
}

impl BodyRef {
    /// No body.
    pub const NONE: Self = Self { slot: 0, len: 0, hash: 0 };

    /// True for [`BodyRef::NONE`].
    pub const fn is_none(self) -> bool {
        self.slot == 0
    }

    /// True when both have the same bytes, as far as length and hash tell.
    pub const fn same_bytes(self, other: Self) -> bool {
        self.len == other.len && self.hash == other.hash
    }
}

struct Shown {
    cluster: u64,
    epoch: u32,
    tail: Tail,
}

enum Tail {
    Framework(u32),
    Agent(u32),
    Offer(Id),
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}-", self.cluster, self.epoch)?;
        match self.tail {
            Tail::Framework(number) => write!(f, "{number:04}"),
            Tail::Agent(number) => write!(f, "S{number}"),
            Tail::Offer(id) => {
                write!(f, "O{}", (u64::from(id.generation) << 32) | u64::from(id.index))
            }
        }
    }
}

/// Splits `{cluster:016x}-{epoch}-{letter}{number}` of this cluster.
fn parse(text: &str, cluster: u64, letter: &str) -> Option<(u32, u64)> {
    let mut parts = text.splitn(3, ['-']);
    let theirs = u64::from_str_radix(parts.next()?, 16).ok()?;
    let epoch: u32 = parts.next()?.parse().ok()?;
    let number: u64 = parts.next()?.strip_prefix(letter)?.parse().ok()?;
    (theirs == cluster && epoch > 0).then_some((epoch, number))
}

/// True when `value` prints as `text`, byte for byte.
fn same(text: &str, value: impl fmt::Display) -> bool {
    struct Rest<'t>(&'t str);

    impl fmt::Write for Rest<'_> {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(piece).ok_or(fmt::Error)?;
            Ok(())
        }
    }

    let mut rest = Rest(text);
    fmt::write(&mut rest, format_args!("{value}")).is_ok() && rest.0.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const CLUSTER: u64 = 0x3f9a_41c2_0000_0001;

    #[test]
    fn ids_print_as_the_clients_of_mesos_expect_and_are_read_back() {
        let framework = FrameworkId { epoch: 2, number: 7 };
        assert_eq!(framework.shown(CLUSTER).to_string(), "3f9a41c200000001-2-0007");
        assert_eq!(FrameworkId::parse("3f9a41c200000001-2-0007", CLUSTER), Some(framework));
        let agent = AgentId { epoch: 1, number: 12 };
        assert_eq!(agent.shown(CLUSTER).to_string(), "3f9a41c200000001-1-S12");
        assert_eq!(AgentId::parse("3f9a41c200000001-1-S12", CLUSTER), Some(agent));
        let offer = OfferId { epoch: 1, id: Id { index: 3, generation: 5 } };
        let shown = offer.shown(CLUSTER).to_string();
        assert_eq!(shown, "3f9a41c200000001-1-O21474836483");
        assert_eq!(OfferId::parse(&shown, CLUSTER), Some(offer));
        let container = ContainerId { incarnation: 10, counter: 255 };
        assert_eq!(container.to_string(), "a-ff");
        assert_eq!(ContainerId::parse("a-ff"), Some(container));
    }

    #[test]
    fn an_id_that_does_not_print_back_is_a_name_and_none_of_ours() {
        for foreign in [
            "",
            "marathon",
            "3f9a41c200000001-2-7",
            "3f9a41c200000001-2-00007",
            "3F9A41C200000001-2-0007",
            "3f9a41c200000002-2-0007",
            "3f9a41c200000001-0-0007",
            "3f9a41c200000001-2-0007 ",
            "20150323-182301-505808906-5050-14434-0000",
        ] {
            assert_eq!(FrameworkId::parse(foreign, CLUSTER), None, "{foreign}");
        }
        assert_eq!(ContainerId::parse("0a-ff"), None);
    }

    #[test]
    fn a_uuid_survives_its_sixteen_bytes() {
        let uuid = Uuid { agent: AgentId { epoch: 3, number: u32::MAX }, sequence: 1 << 40 };
        assert_eq!(Uuid::from_bytes(uuid.to_bytes()), uuid);
    }

    #[test]
    fn only_newer_orders_of_the_same_history_reach_an_agent() {
        let fence =
            |number, nonce, epoch| Fence { generation: Generation { number, nonce }, epoch };
        assert!(fence(0, 0, 1).reaches(Fence::default()));
        assert!(fence(0, 0, 2).reaches(fence(0, 0, 2)));
        assert!(!fence(0, 0, 1).reaches(fence(0, 0, 2)));
        assert!(fence(1, 9, 1).reaches(fence(0, 0, 8)));
        assert!(!fence(0, 0, 9).reaches(fence(1, 9, 1)));
        assert!(!fence(1, 8, 9).reaches(fence(1, 9, 1)), "two imports of one generation");
    }
}
