//! How a thread sleeps until another has something for it, without missing it and without a
//! system call while it is awake.
//!
//! The sleeper says that it is about to sleep and then looks once more; the ringer publishes and
//! then looks whether anyone sleeps. With a full fence between the two steps of each, at least one
//! of them sees the other (Dekker, 1965), so that no ring is lost.

use super::prim::{AtomicU32, Ordering, fence, mutant};
use crate::mutant::{Mutant, planted};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// One sleeper, any number of ringers. How it sleeps, and how it is woken, the caller knows.
#[derive(Debug)]
pub struct Doorbell {
    state: AtomicU32,
}

impl Doorbell {
    /// A doorbell of a thread that is awake.
    #[cfg(not(mesita_loom))]
    pub const fn new() -> Self {
        Self { state: AtomicU32::new(AWAKE) }
    }

    /// A doorbell of a thread that is awake, watched by loom.
    #[cfg(mesita_loom)]
    pub fn new() -> Self {
        Self { state: AtomicU32::new(AWAKE) }
    }

    /// Ringer: what there is to find was published. Calls `wake` when the sleeper sleeps.
    ///
    /// `wake` must end the sleep even if the sleeper has not quite begun it, as unparking a thread
    /// and writing to an eventfd do. It may be called once too often, never too rarely.
    pub fn ring(&self, wake: impl FnOnce()) {
        if !mutant("ring-without-fence") {
            fence(Ordering::SeqCst);
        }
        if self.state.load(Ordering::Relaxed) == ASLEEP {
            // Other ringers may leave the waking to this one, which is sure to follow.
            self.state.store(AWAKE, Ordering::Relaxed);
            if !mutant("ring-without-wake") {
                wake();
            }
        }
    }

    /// Sleeper: says that it is about to sleep, and returns true, unless `has_work` still finds
    /// something. From then on a ring wakes; once woken it calls [`Doorbell::wake`].
    pub fn doze(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.state.store(ASLEEP, Ordering::Relaxed);
        if !mutant("rest-without-fence") {
            fence(Ordering::SeqCst);
        }
        let blind = mutant("rest-without-look") || planted(Mutant::SleepsWithoutLook);
        let sleeps = blind || !has_work();
        if !sleeps {
            self.wake();
        }
        sleeps
    }

    /// Sleeper: it is awake, whatever woke it; rings cost no system call.
    pub fn wake(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Sleeper: calls `sleep` unless `has_work` still finds something.
    pub fn rest(&self, has_work: impl FnOnce() -> bool, sleep: impl FnOnce()) {
        if self.doze(has_work) {
            sleep();
            self.wake();
        }
    }
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}
