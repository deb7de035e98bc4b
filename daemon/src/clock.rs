//! The only file that reads a clock.

use mesita_core::time::Time;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// µs of CLOCK_BOOTTIME: monotonic, and it runs while the machine sleeps.
pub(crate) fn now() -> Time {
    Time(micros(clock_gettime(ClockId::Boottime)))
}

/// µs of Unix time by the wall clock: data, never decided by. A clock before 1970 reads as 1970.
pub(crate) fn wall_us() -> u64 {
    micros(clock_gettime(ClockId::Realtime))
}

/// How long until `time`; none = for ever.
pub(crate) fn until(time: Time) -> Option<std::time::Duration> {
    let left = time.0.saturating_sub(now().0);
    (time != Time::NEVER).then(|| std::time::Duration::from_micros(left))
}

fn micros(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}
