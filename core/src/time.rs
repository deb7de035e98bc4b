//! Time without a clock: a number that the caller brings.

use bytemuck::Zeroable;
use serde::{Deserialize, Serialize};

/// A moment on the caller's monotonic clock: u64 microseconds, 0 = the clock's own start.
///
/// Daemons bring `CLOCK_BOOTTIME`, which runs through suspend. It never goes backwards, is never
/// compared between machines, and wraps after 584,000 years, which is refused by saturating.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Zeroable,
    Serialize,
    Deserialize,
)]
#[repr(transparent)]
pub struct Time(pub u64);

/// Microseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000;
/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;

impl Time {
    /// The moment that never comes: a deadline switched off.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `us` microseconds after this one, [`Time::NEVER`] at the most.
    pub const fn after(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to this moment, 0 when it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl crate::record::Zero for Time {
    const ZERO: Self = Self(0);
}
