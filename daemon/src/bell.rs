//! How one thread wakes another that has nothing to do: a [`Doorbell`] and the way to end its sleep.

use std::sync::OnceLock;
use std::task::Waker;

use mesita_core::sync::Doorbell;

/// A thread's doorbell. It may be rung before the thread is there: it looks before it first sleeps.
#[derive(Debug)]
pub(crate) struct Bell {
    doorbell: Doorbell,
    waker: OnceLock<Waker>,
}

impl Bell {
    /// A bell that nobody answers yet.
    pub(crate) const fn new() -> Self {
        Self { doorbell: Doorbell::new(), waker: OnceLock::new() }
    }

    /// The thread that answers it, before its first sleep. A second answer is not heard.
    pub(crate) fn answered_by(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// There is something to find. A system call only when the thread sleeps; no allocation.
    pub(crate) fn ring(&self) {
        self.doorbell.ring(|| {
            if let Some(waker) = self.waker.get() {
                waker.wake_by_ref();
            }
        });
    }

    /// Sleeps by `sleep`, unless `has_work` still finds something.
    pub(crate) fn rest(&self, has_work: impl FnOnce() -> bool, sleep: impl FnOnce()) {
        self.doorbell.rest(has_work, sleep);
    }

    /// True when the thread may sleep: from now on a ring wakes it.
    pub(crate) fn doze(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.doorbell.doze(has_work)
    }

    /// It is awake.
    pub(crate) fn wake(&self) {
        self.doorbell.wake();
    }
}
