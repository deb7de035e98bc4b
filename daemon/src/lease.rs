//! Until when this process may speak as the leader, and who waits to.
//!
//! Whatever a leader says is looked at right before it is written to its socket: when the lease has
//! passed it waits, for the lease to be renewed or for the process to begin again without it. So a
//! master that nobody hears any more offers, launches and answers nothing.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use mesita_core::time::Time;

use crate::clock;

/// The time before which everything of a leader must be written.
#[derive(Debug)]
pub(crate) struct Lease {
    until: Cell<Time>,
    waiting: RefCell<Vec<Waker>>,
}

impl Lease {
    /// That of a single master, who never loses it.
    pub(crate) fn endless() -> Self {
        Self { until: Cell::new(Time::NEVER), waiting: RefCell::default() }
    }

    /// That of a master who was not elected yet.
    pub(crate) fn none() -> Self {
        Self { until: Cell::new(Time(0)), waiting: RefCell::default() }
    }

    /// Another time holds from now on.
    pub(crate) fn renew(&self, until: Time) {
        self.until.set(until);
        if self.is_held() {
            self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }

    /// True while this process may speak as the leader.
    pub(crate) fn is_held(&self) -> bool {
        let until = self.until.get();
        until == Time::NEVER || clock::now() < until
    }

    /// Ready while it is held; else wakes whoever asks when it is renewed.
    pub(crate) fn poll_held(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_held() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until it is held.
    pub(crate) async fn held(&self) {
        poll_fn(|cx| self.poll_held(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm;

    #[test]
    fn whoever_speaks_waits_for_the_lease() {
        let lease = Lease::none();
        assert_eq!(alarm::block_on(alarm::within(1_000, lease.held())), None);
        let renewed = async {
            alarm::after(2_000).await;
            lease.renew(clock::now().after(60_000_000));
            std::future::pending::<()>().await;
        };
        let held = alarm::within(1_000_000, lease.held());
        let held = futures_lite::future::or(held, async {
            renewed.await;
            None
        });
        assert_eq!(alarm::block_on(held), Some(()));
        lease.renew(Time(1));
        assert!(!lease.is_held());
        assert!(Lease::endless().is_held());
    }
}
