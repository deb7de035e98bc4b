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

/// True when the kernel says that others have set its wall clock, and that it keeps up with theirs
/// (adjtimex(2): not STA_UNSYNC). Whoever saves a time over a power cut does not say so.
pub(crate) fn is_synchronised() -> bool {
    mesita_isolation::sys::clock_is_synchronised()
}

fn micros(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}

/// The day of a moment in seconds of Unix time.
pub(crate) fn date(seconds: u64) -> String {
    // Days are counted from a first of March, so that the odd day of a leap year comes last.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) =
        (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}

/// A moment in seconds of Unix time, as RFC 3339 writes it.
pub(crate) fn moment(seconds: u64) -> String {
    let of_day = seconds % 86_400;
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", date(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_767_225_600, "2026-01-01"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), day);
        }
    }
}
