//! Resources and attributes in messages.
//!
//! A plain amount of a well-known resource is a tag and a number, so that an offer of three amounts
//! and two port ranges fits 32 bytes; everything that Mesos' `Resource` can say beside that is in
//! [`Traits`], present only when it differs from the default.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::{Check, Fault, Malformed, given, name, require, role};
use super::seq::{Seq, items};
use crate::limits::{AMOUNT_MAX, RESERVATION_DEPTH_MAX};
use crate::resources::Amount;

/// An amount of something on an agent (Mesos: `Resource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource<'a> {
    /// What: `cpus`, `mem` (MiB), `disk` (MiB), `gpus`, `ports`, or a name of the user's.
    pub name: &'a str,
    /// How much, or which.
    pub value: Value<'a>,
    /// Whose, where from, and how it may be used.
    pub traits: Traits<'a>,
}

/// How much of a resource, or which ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value<'a> {
    /// An amount in thousandths.
    Scalar(Amount),
    /// Numbers from ranges that neither overlap nor follow out of order.
    #[serde(borrow)]
    Ranges(Seq<'a, Range>),
    /// Distinct names.
    #[serde(borrow)]
    Set(Seq<'a, &'a str>),
}

/// Numbers from `begin` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub begin: u64,
    /// The last.
    pub end: u64,
}

/// What makes two amounts of one resource different things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traits<'a> {
    /// Reservations, the outermost role first; each below refines the one above. Empty = anyone's.
    #[serde(borrow)]
    pub reservations: Seq<'a, Reservation<'a>>,
    /// The role it is allocated to, in offers and launches; empty = not said.
    pub allocated_to: &'a str,
    /// Which disk; only for `disk`.
    pub disk: Option<Disk<'a>>,
    /// The resource provider; empty = the agent itself.
    pub provider: &'a str,
    /// May be taken back at any time.
    pub revocable: bool,
    /// Several tasks may use it at once.
    pub shared: bool,
}

/// One layer of a reservation stack (Mesos: `Resource.ReservationInfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation<'a> {
    /// Whose it is.
    pub role: &'a str,
    /// By the agent's flags, or by an operation.
    pub kind: ReservationKind,
    /// Who reserved it; empty = not said.
    pub principal: &'a str,
    /// Labels in one canonical text; reservations with different ones do not merge.
    pub labels: &'a str,
}

/// Which disk, and which part of it (Mesos: `Resource.DiskInfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk<'a> {
    /// What kind of disk.
    pub source: DiskSource,
    /// Its directory, for `Path` and `Mount`.
    pub root: &'a str,
    /// Its id at a storage provider.
    pub id: &'a str,
    /// Its profile at a storage provider.
    pub profile: &'a str,
    /// Its vendor.
    pub vendor: &'a str,
    /// The persistent volume on it; empty = none.
    pub persistence: &'a str,
    /// Who created that volume.
    pub principal: &'a str,
    /// Where the volume appears in its task's sandbox. No part of what the resource is.
    pub container_path: &'a str,
}

choice! {
    /// How a reservation came to be.
    pub enum ReservationKind {
        /// By the agent's `--resources`.
        Static = 0,
        /// By RESERVE, until UNRESERVE.
        Dynamic = 1,
    }

    /// What kind of disk a disk resource is.
    pub enum DiskSource {
        /// The disk of the agent's work dir, divisible.
        Root = 0,
        /// A directory, divisible.
        Path = 1,
        /// A mounted file system, only whole.
        Mount = 2,
        /// A block device, only whole.
        Block = 3,
        /// A disk not yet made into any of these.
        Raw = 4,
    }
}

/// A fact about an agent that frameworks choose by (Mesos: `Attribute`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute<'a> {
    /// Its name; several attributes may share one.
    pub name: &'a str,
    /// What it says.
    #[serde(borrow)]
    pub value: AttributeValue<'a>,
}

/// What an attribute says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttributeValue<'a> {
    /// Text, at most 255 bytes.
    Text(&'a str),
    /// A number in thousandths.
    Scalar(Amount),
    /// Ranges of numbers.
    #[serde(borrow)]
    Ranges(Seq<'a, Range>),
}

items!(Range; Resource, Reservation, Attribute);

impl<'a> Resource<'a> {
    /// An amount of `name` that is nobody's yet.
    pub const fn scalar(name: &'a str, amount: Amount) -> Self {
        Self { name, value: Value::Scalar(amount), traits: Traits::PLAIN }
    }
}

impl Traits<'_> {
    /// Unreserved, the agent's own, neither revocable nor shared.
    pub const PLAIN: Self = Self {
        reservations: Seq::EMPTY,
        allocated_to: "",
        disk: None,
        provider: "",
        revocable: false,
        shared: false,
    };

    /// True when nothing is said.
    pub fn is_plain(&self) -> bool {
        self.allocated_to.is_empty() && self.is_bare()
    }

    /// True when nothing is said, but to whom it may be allocated.
    pub fn is_bare(&self) -> bool {
        let owned = !self.reservations.is_empty() || !self.provider.is_empty();
        !owned && self.disk.is_none() && !self.revocable && !self.shared
    }
}

impl Check for Resource<'_> {
    fn check(&self) -> Result<(), Malformed> {
        given("resource.name", self.name)?;
        self.value.check()?;
        self.traits.check()
    }
}

impl Check for Value<'_> {
    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Scalar(amount) => amount.check(),
            Self::Ranges(ranges) => ascending(ranges),
            Self::Set(names) => names.check(),
        }
    }
}

impl Check for Traits<'_> {
    fn check(&self) -> Result<(), Malformed> {
        self.reservations.check_up_to("resource.reservations", RESERVATION_DEPTH_MAX)?;
        name("resource.allocated_to", self.allocated_to)?;
        name("resource.provider", self.provider)?;
        self.disk.map_or(Ok(()), |disk| disk.check())
    }
}

impl Check for Reservation<'_> {
    fn check(&self) -> Result<(), Malformed> {
        role("reservation.role", self.role)?;
        require(self.role != "*", "reservation.role", Fault::BadName)?;
        name("reservation.principal", self.principal)?;
        name("reservation.labels", self.labels)
    }
}

impl Check for Disk<'_> {
    fn check(&self) -> Result<(), Malformed> {
        for (field, text) in [
            ("disk.root", self.root),
            ("disk.id", self.id),
            ("disk.profile", self.profile),
            ("disk.vendor", self.vendor),
            ("disk.persistence", self.persistence),
            ("disk.principal", self.principal),
            ("disk.container_path", self.container_path),
        ] {
            name(field, text)?;
        }
        Ok(())
    }
}

impl Check for Range {
    fn check(&self) -> Result<(), Malformed> {
        require(self.begin <= self.end, "range", Fault::Contradiction)
    }
}

impl Check for Attribute<'_> {
    fn check(&self) -> Result<(), Malformed> {
        given("attribute.name", self.name)?;
        match self.value {
            AttributeValue::Text(text) => name("attribute.text", text),
            AttributeValue::Scalar(amount) => amount.check(),
            AttributeValue::Ranges(ranges) => ascending(&ranges),
        }
    }
}

impl Check for Amount {
    fn check(&self) -> Result<(), Malformed> {
        require(self.milli() <= AMOUNT_MAX, "amount", Fault::Above(AMOUNT_MAX))
    }
}

/// Ranges one after the other, without overlap.
fn ascending(ranges: &Seq<'_, Range>) -> Result<(), Malformed> {
    ranges.check()?;
    let mut last = None;
    for range in ranges.iter() {
        require(last.is_none_or(|last| last < range.begin), "ranges", Fault::Repeated)?;
        last = Some(range.end);
    }
    Ok(())
}

/// The form of a [`Resource`] on the wire.
#[derive(Serialize, Deserialize)]
enum Packed<'a> {
    Cpus(Amount),
    Mem(Amount),
    Disk(Amount),
    Gpus(Amount),
    #[serde(borrow)]
    Ports(Seq<'a, Range>),
    Plain(&'a str, Value<'a>),
    Whole(&'a str, Value<'a>, Traits<'a>),
}

impl<'a> From<Packed<'a>> for Resource<'a> {
    fn from(packed: Packed<'a>) -> Self {
        let (name, value, traits) = match packed {
            Packed::Cpus(amount) => ("cpus", Value::Scalar(amount), Traits::PLAIN),
            Packed::Mem(amount) => ("mem", Value::Scalar(amount), Traits::PLAIN),
            Packed::Disk(amount) => ("disk", Value::Scalar(amount), Traits::PLAIN),
            Packed::Gpus(amount) => ("gpus", Value::Scalar(amount), Traits::PLAIN),
            Packed::Ports(ranges) => ("ports", Value::Ranges(ranges), Traits::PLAIN),
            Packed::Plain(name, value) => (name, value, Traits::PLAIN),
            Packed::Whole(name, value, traits) => (name, value, traits),
        };
        Self { name, value, traits }
    }
}

impl<'a> From<Resource<'a>> for Packed<'a> {
    fn from(resource: Resource<'a>) -> Self {
        let Resource { name, value, traits } = resource;
        if !traits.is_plain() {
            return Self::Whole(name, value, traits);
        }
        match (name, value) {
            ("cpus", Value::Scalar(amount)) => Self::Cpus(amount),
            ("mem", Value::Scalar(amount)) => Self::Mem(amount),
            ("disk", Value::Scalar(amount)) => Self::Disk(amount),
            ("gpus", Value::Scalar(amount)) => Self::Gpus(amount),
            ("ports", Value::Ranges(ranges)) => Self::Ports(ranges),
            (name, value) => Self::Plain(name, value),
        }
    }
}

impl Serialize for Resource<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Packed::from(*self).serialize(serializer)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Resource<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Packed::<'a>::deserialize(deserializer).map(Self::from)
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.begin, self.end.saturating_sub(self.begin)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (begin, more) = <(u64, u64)>::deserialize(deserializer)?;
        let end = begin.checked_add(more);
        end.map(|end| Self { begin, end })
            .ok_or_else(|| serde::de::Error::custom("a range past the last number"))
    }
}
