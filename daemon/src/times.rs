//! How long something took, the last times that it was done. Mesos: libprocess' `Timer`, which tells
//! percentiles of an hour, at most of 1,000 times.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// As many as are remembered.
const RECENT_MAX: usize = 1_000;

/// What one part of the allocator took each time, written by the core thread.
pub(crate) static ALLOCATIONS: Times = Times::new();
/// How long each of those waited for its turn after it was due.
pub(crate) static LATENCIES: Times = Times::new();
/// What it took until a change was durable.
pub(crate) static STORES: Times = Times::new();

/// What it took to read the registry when the process began, in µs.
static FETCH_US: AtomicU32 = AtomicU32::new(0);

/// The registry was read.
pub(crate) fn fetched(us: u64) {
    FETCH_US.store(u32::try_from(us).unwrap_or(u32::MAX), Ordering::Relaxed);
}

/// How long that took, in ms.
pub(crate) fn fetch_ms() -> f64 {
    f64::from(FETCH_US.load(Ordering::Relaxed)) / 1000.0
}

/// Durations in µs. All of it is one lock, held for a few ns.
pub(crate) struct Times(Mutex<Recent>);

struct Recent {
    us: [u32; RECENT_MAX],
    /// So many there were in all; the newest is at that place, modulo the room.
    count: u64,
}

impl Times {
    const fn new() -> Self {
        Self(Mutex::new(Recent { us: [0; RECENT_MAX], count: 0 }))
    }

    /// One more.
    pub(crate) fn took(&self, us: u64) {
        let Ok(mut recent) = self.0.lock() else { return };
        let place = usize::try_from(recent.count).unwrap_or(0) % RECENT_MAX;
        recent.us[place] = u32::try_from(us).unwrap_or(u32::MAX);
        recent.count += 1;
    }

    /// How many there were; then the last one in ms, and by the names of Mesos what the recent ones
    /// were like, if there were some.
    pub(crate) fn told(&self, name: &str, put: &mut dyn FnMut(String, f64)) -> u64 {
        let Ok(recent) = self.0.lock() else { return 0 };
        let (us, count) = (recent.us, recent.count);
        drop(recent);
        let last = usize::try_from(count.saturating_sub(1)).unwrap_or(0) % RECENT_MAX;
        let held = usize::try_from(count).unwrap_or(RECENT_MAX).min(RECENT_MAX);
        let ms = |us: u32| f64::from(us) / 1000.0;
        if held == 0 {
            return 0;
        }
        put(name.to_owned(), ms(us[last]));
        let mut sorted = us[..held].to_vec();
        sorted.sort_unstable();
        let parts = [("p50", 5_000), ("p90", 9_000), ("p95", 9_500), ("p99", 9_900)];
        let parts = parts.into_iter().chain([("p999", 9_990), ("p9999", 9_999)]);
        for (part, at) in parts.chain([("min", 0), ("max", 10_000)]) {
            put(format!("{name}/{part}"), ms(sorted[(held - 1) * at / 10_000]));
        }
        put(format!("{name}/count"), f64::from(u32::try_from(held).unwrap_or(0)));
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_last_times() {
        let times = Times::new();
        let mut told = std::collections::BTreeMap::new();
        assert_eq!(
            times.told("a", &mut |name, ms| {
                told.insert(name, ms);
            }),
            0
        );
        assert!(told.is_empty());
        (0..1_000).for_each(|_| times.took(9_000_000));
        (1..=1_000).for_each(|us| times.took(1_000 * us));
        assert_eq!(
            times.told("a", &mut |name, ms| {
                told.insert(name, ms);
            }),
            2_000
        );
        let one = |name: &str| told[name];
        assert_eq!(
            (one("a"), one("a/min"), one("a/max"), one("a/p50")),
            (1_000.0, 1.0, 1_000.0, 500.0)
        );
        assert_eq!(one("a/count"), 1_000.0);
    }
}
