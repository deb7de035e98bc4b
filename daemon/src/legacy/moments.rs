//! Answers that are read from a moment of their own: what changes while one is read is kept once more
//! for it. So few hold one at a time, and who waits for that holds nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use mesita_core::time::Time;

use crate::alarm::{self, Alarm};
use crate::clock;

/// Answers that hold a moment at once, of those that are being read.
pub(crate) const MOMENTS_MAX: usize = 4;
/// One of which nothing was read for so long, in µs, is not counted: it keeps nobody waiting.
const IDLE_US: u64 = 100_000;

/// All of them.
#[derive(Clone, Default)]
pub(crate) struct Moments(Rc<All>);

#[derive(Default)]
struct All {
    /// When something was read of each the last time.
    held: RefCell<Vec<Rc<Cell<Time>>>>,
    /// Who waits, by number, the first one first.
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    next: Cell<u64>,
}

/// The right to hold one. Whoever waits first has it when this is dropped.
pub(crate) struct Moment {
    all: Rc<All>,
    read: Rc<Cell<Time>>,
}

impl Moments {
    /// Waits for one, behind those who asked before.
    pub(crate) fn take(&self) -> Take {
        let number = self.0.next.get();
        self.0.next.set(number + 1);
        Take { all: Rc::clone(&self.0), number, look: None }
    }

    /// How many are held, and how many wait for one.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 3] {
        [
            ("moments", self.0.held.borrow().len() as u64),
            ("moments_max", MOMENTS_MAX as u64),
            ("moments_waited_for", self.0.waiting.borrow().len() as u64),
        ]
    }
}

impl All {
    fn has_room(&self) -> bool {
        let now = clock::now();
        let reads = |read: &&Rc<Cell<Time>>| now.since(read.get()) < IDLE_US;
        self.held.borrow().iter().filter(reads).count() < MOMENTS_MAX
    }

    fn wake_first(&self) {
        if let Some((_, waker)) = self.waiting.borrow().front() {
            waker.wake_by_ref();
        }
    }
}

impl Moment {
    /// Something is read of it.
    pub(crate) fn is_read(&self) {
        self.read.set(clock::now());
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        self.all.held.borrow_mut().retain(|one| !Rc::ptr_eq(one, &self.read));
        self.all.wake_first();
    }
}

/// Waits for a moment.
#[must_use]
pub(crate) struct Take {
    all: Rc<All>,
    number: u64,
    /// When those that hold one are looked at again.
    look: Option<Alarm>,
}

impl Future for Take {
    type Output = Moment;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Moment> {
        let all = Rc::clone(&self.all);
        let is_first = all.waiting.borrow().front().is_none_or(|(of, _)| *of == self.number);
        if is_first && all.has_room() {
            all.waiting.borrow_mut().pop_front();
            let read = Rc::new(Cell::new(clock::now()));
            all.held.borrow_mut().push(Rc::clone(&read));
            all.wake_first();
            return Poll::Ready(Moment { all, read });
        }
        let mut waiting = all.waiting.borrow_mut();
        match waiting.iter_mut().find(|(of, _)| *of == self.number) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => waiting.push_back((self.number, cx.waker().clone())),
        }
        drop(waiting);
        while Pin::new(self.look.get_or_insert_with(|| alarm::after(IDLE_US))).poll(cx).is_ready() {
            self.look = None;
        }
        Poll::Pending
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        self.all.waiting.borrow_mut().retain(|(of, _)| *of != self.number);
        self.all.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_hold_a_moment_and_those_who_wait_have_it_in_order() {
        alarm::block_on(async {
            let moments = Moments::default();
            let mut held = Vec::new();
            for _ in 0..MOMENTS_MAX {
                held.push(moments.take().await);
            }
            let (mut first, mut second) = (Box::pin(moments.take()), Box::pin(moments.take()));
            assert!(futures_lite::future::poll_once(&mut first).await.is_none());
            assert!(futures_lite::future::poll_once(&mut second).await.is_none());
            assert_eq!(moments.gauges().map(|(_, value)| value), [4, 4, 2]);
            held.pop();
            assert!(futures_lite::future::poll_once(&mut second).await.is_none());
            held.push(first.await);
            assert!(futures_lite::future::poll_once(&mut second).await.is_none());
            // One that goes without having waited to the end keeps nobody.
            let mut third = Box::pin(moments.take());
            assert!(futures_lite::future::poll_once(&mut third).await.is_none());
            drop(second);
            held.pop();
            held.push(third.await);
            assert_eq!(moments.gauges().map(|(_, value)| value), [4, 4, 0]);
        });
    }

    #[test]
    fn one_of_which_nothing_is_read_keeps_nobody_waiting() {
        alarm::block_on(async {
            let moments = Moments::default();
            let mut held = Vec::new();
            for _ in 0..MOMENTS_MAX {
                held.push(moments.take().await);
            }
            let mut next = Box::pin(moments.take());
            for _ in 0..3 {
                held.iter().for_each(Moment::is_read);
                assert!(alarm::within(IDLE_US / 4, &mut next).await.is_none());
            }
            // None of them is read any more.
            held.push(next.await);
            assert_eq!(moments.gauges()[0].1, 5);
        });
    }
}
