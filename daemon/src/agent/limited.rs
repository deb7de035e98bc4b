//! Limits that containers ran into, as they are told. Mesos: `ContainerLimitation`,
//! `TaskResourceLimitation`.

use mesita_core::resources::Amount;
use mesita_core::wire::task::Reason;
use mesita_isolation::isolators::{Limitation, Reason as Of};
use serde::{Deserialize, Serialize};

use crate::pb::mesos::v1 as pb;
use crate::v1::amounts::double;

/// A limit that a container ran into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Limited {
    pub(super) reason: Reason,
    pub(super) message: String,
    /// How much of what is limited, in bytes; 0 = nobody knows.
    pub(super) bytes: u64,
}

impl From<Limitation> for Limited {
    fn from(limitation: Limitation) -> Self {
        let Limitation { reason, message, bytes } = limitation;
        let reason = match reason {
            Of::Memory => Reason::ContainerLimitationMemory,
            Of::Disk => Reason::ContainerLimitationDisk,
        };
        Self { reason, message, bytes }
    }
}

impl Limited {
    /// What ran out, as frameworks know it: in MB, and of no role, for it says nothing of what the
    /// task holds. Mesos: `MemorySubsystemProcess::oomWaited`.
    pub(super) fn resources(&self) -> Option<pb::TaskResourceLimitation> {
        let names =
            [(Reason::ContainerLimitationMemory, "mem"), (Reason::ContainerLimitationDisk, "disk")];
        let (_, name) = names.into_iter().find(|(reason, _)| *reason == self.reason)?;
        let mb = Amount::from_milli(self.bytes.saturating_mul(1000) >> 20);
        let mut told = pb::Resource { name: name.to_owned(), ..pb::Resource::default() };
        told.set_type(pb::value::Type::Scalar);
        told.scalar = Some(pb::value::Scalar { value: double(mb) });
        (self.bytes > 0).then(|| pb::TaskResourceLimitation { resources: vec![told] })
    }
}
