//! What is in the slots of the registry's tables.
//!
//! A slot is empty when its first byte is zero. Else that byte is the form of the row behind it,
//! which is postcard; what follows the row is of no concern. A later release appends variants, and
//! leaves alone what it does not know.

use serde::{Deserialize, Serialize};

use super::body::ENTRY;
use crate::table::Full;
use crate::wire::call::Quantity;
use crate::wire::gossip::Table;
use crate::wire::operator::Planned;
use crate::wire::{AgentId, FrameworkId, Seq, encode};

/// The form of all rows of this release.
const FORM: u8 = 1;
/// Bytes of the largest slot.
pub const ROW_MAX: usize = 512;
/// What an empty slot begins with: written to a slot, it takes its row away.
pub const EMPTY: [u8; 1] = [0];

choice! {
    /// What the cluster thinks of an agent.
    pub enum Life {
        /// It belongs to the cluster, here or on its way.
        Admitted = 0,
        /// It was silent for too long, and may come back.
        Unreachable = 1,
        /// An operator knows that it will not come back; nor may it.
        Gone = 2,
    }
}

/// What is kept of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Its id.
    pub agent: AgentId,
    /// The key it is known by.
    pub key: [u8; 32],
    /// What is thought of it.
    pub life: Life,
    /// Nothing new of it is offered.
    pub deactivated: bool,
    /// It is being emptied, or is empty.
    pub emptying: Option<Emptied>,
}

/// How an agent is emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emptied {
    /// No task gets more grace than this, in µs; none = what each says.
    pub grace_us: Option<u64>,
    /// It is marked gone when it is empty.
    pub gone: bool,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Row<'a> {
    /// The weight of a role.
    Weight {
        /// Which.
        role: &'a str,
        /// Thousandths.
        weight: u32,
    },
    /// The quota of a role.
    Quota {
        /// Which.
        role: &'a str,
        /// Held free for it.
        #[serde(borrow)]
        guarantees: Seq<'a, Quantity<'a>>,
        /// The most that it may have.
        #[serde(borrow)]
        limits: Seq<'a, Quantity<'a>>,
    },
    /// An agent.
    Agent(Admission),
    /// A machine in the maintenance schedule.
    Machine {
        /// Which, and when it will not be there.
        #[serde(borrow)]
        planned: Planned<'a>,
        /// It is down.
        down: bool,
    },
    /// A framework that was removed, and does not come back.
    Removed(FrameworkId),
    /// A call of an operator that was done.
    Request(Request),
    /// What the host of an agent is called, as far as a slot holds that: always 58 bytes.
    Host {
        /// Whose.
        agent: AgentId,
        /// As it said itself.
        hostname: &'a str,
    },
    /// A framework that is not removed.
    Framework(Owned),
}

/// What is kept of a framework: enough to know whose it is when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// Its id.
    pub framework: FrameworkId,
    /// The hash of its caller's name, by [`of_body`](crate::digest::of_body).
    pub caller: u64,
    /// The hash of the principal that it named.
    pub principal: u64,
    /// How long it may be away, in µs; `u64::MAX` = for good.
    pub failover_us: u64,
}

/// A call of an operator that was done, so that it is not done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What it was named by.
    pub id: [u8; 16],
    /// The hash of what was asked; 0 = not known.
    pub hash: u64,
    /// Later calls have higher numbers.
    pub number: u64,
}

impl<'a> Row<'a> {
    /// The table that has such rows.
    pub const fn table(&self) -> Table {
        match self {
            Self::Weight { .. } | Self::Quota { .. } => Table::Roles,
            Self::Agent(_) => Table::Agents,
            Self::Host { .. } => Table::Hosts,
            Self::Machine { .. } => Table::Windows,
            Self::Removed(_) | Self::Framework(_) => Table::Frameworks,
            Self::Request(_) => Table::Requests,
        }
    }

    /// Reads a slot; none if it is empty, or of a release that knows more.
    pub fn read(slot: &'a [u8]) -> Option<Self> {
        let (form, row) = slot.split_first()?;
        let row = postcard::take_from_bytes(row).ok().filter(|_| *form == FORM);
        row.map(|(row, _)| row)
    }

    /// Writes a slot's bytes; [`Full`] when the row is longer than a slot of its table.
    pub fn write<'b>(&self, into: &'b mut [u8; ROW_MAX]) -> Result<&'b [u8], Full> {
        let max = usize::from(ENTRY.get(self.table() as usize).copied().unwrap_or(0));
        let (form, row) = into.split_first_mut().ok_or(Full)?;
        *form = FORM;
        let len = encode(self, row)?.len().saturating_add(1);
        into.get(..len).filter(|_| len <= max).ok_or(Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Amount;
    use crate::testing::scratch;

    #[test]
    fn a_row_survives_its_slot_and_an_empty_slot_has_none() {
        let one = Quantity { name: "cpus", amount: Amount::from_milli(2_500) };
        let guarantees = scratch().seq::<Quantity<'static>>([one]).unwrap();
        let row = Row::Quota { role: "eng/web", guarantees, limits: Seq::EMPTY };
        let mut slot = [7; ROW_MAX];
        assert!(row.write(&mut slot).is_ok());
        assert_eq!(Row::read(&slot), Some(row));
        slot[..1].copy_from_slice(&EMPTY);
        assert_eq!(Row::read(&slot), None);
        assert_eq!(Row::read(&[9, 0, 0]), None, "of a later release");
    }

    #[test]
    fn a_framework_with_the_largest_numbers_fits_its_slot() {
        let most = u64::MAX;
        let framework = FrameworkId { epoch: u32::MAX, number: u32::MAX };
        let owned = Owned { framework, caller: most, principal: most, failover_us: most };
        let mut slot = [0; ROW_MAX];
        assert!(Row::Framework(owned).write(&mut slot).is_ok());
        assert_eq!(Row::read(&slot), Some(Row::Framework(owned)));
    }

    #[test]
    fn a_row_longer_than_its_slot_is_none() {
        let name = "a-name-of-a-resource-that-is-far-too-long-for-anybody";
        let many = [Quantity { name, amount: Amount::from_milli(1) }; 12];
        let limits = scratch().seq::<Quantity<'static>>(many).unwrap();
        let row = Row::Quota { role: "web", guarantees: Seq::EMPTY, limits };
        assert_eq!(row.write(&mut [0; ROW_MAX]), Err(Full));
        let row = Row::Weight { role: "web", weight: 2_000 };
        assert_eq!(row.table(), Table::Roles);
        assert!(row.write(&mut [0; ROW_MAX]).is_ok());
    }
}
