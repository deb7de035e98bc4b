//! Connections on which nothing is asked: clients of Mesos keep one for all of their calls, and may say
//! nothing for hours. They stay, as many as there is room for; the one that is idle longest makes room.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// All of them.
#[derive(Clone)]
pub(crate) struct Idle(Rc<All>);

struct All {
    max: usize,
    /// Those that are, the one that is so longest first.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
    ended: Cell<u64>,
}

/// The place of one of them; whoever has none any more is to end.
pub(crate) struct Place {
    all: Rc<All>,
    number: u64,
}

impl Idle {
    /// Room for so many.
    pub(crate) fn of(max: usize) -> Self {
        Self(Rc::new(All {
            max,
            waiting: RefCell::default(),
            next: Cell::default(),
            ended: Cell::default(),
        }))
    }

    /// A place for one more, of which `waker` is told when it must end.
    pub(super) fn sit(&self, waker: &Waker) -> Place {
        let number = self.0.next.get();
        self.0.next.set(number + 1);
        let mut waiting = self.0.waiting.borrow_mut();
        waiting.insert(number, waker.clone());
        let too_many = waiting.len() > self.0.max;
        if let Some((_, first)) = too_many.then(|| waiting.pop_first()).flatten() {
            self.0.ended.set(self.0.ended.get() + 1);
            first.wake();
        }
        Place { all: Rc::clone(&self.0), number }
    }

    /// A place for one more, which is told when it must end by who waits for that.
    pub(crate) fn place(&self) -> Place {
        self.sit(Waker::noop())
    }

    /// How many there are, and may be, and how many have ended for others.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 3] {
        [
            ("idle_connections", self.0.waiting.borrow().len() as u64),
            ("idle_connections_max", self.0.max as u64),
            ("idle_connections_ended", self.0.ended.get()),
        ]
    }
}

impl Place {
    /// Waits until it must end.
    pub(crate) async fn is_lost(&self) {
        let lost = |cx: &mut Context<'_>| match self.stays(cx.waker()) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        };
        std::future::poll_fn(lost).await;
    }

    /// True while it may stay; `waker` is told when not.
    pub(super) fn stays(&self, waker: &Waker) -> bool {
        let mut waiting = self.all.waiting.borrow_mut();
        let own = waiting.get_mut(&self.number);
        own.map(|own| own.clone_from(waker)).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.waiting.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_is_idle_longest_makes_room() {
        let idle = Idle::of(2);
        let waker = Waker::noop();
        let [first, second] = [idle.sit(waker), idle.sit(waker)];
        assert!(first.stays(waker) && second.stays(waker));
        let third = idle.sit(waker);
        assert_eq!([&first, &second, &third].map(|one| one.stays(waker)), [false, true, true]);
        drop(second);
        let fourth = idle.sit(waker);
        assert!(third.stays(waker) && fourth.stays(waker));
        assert_eq!(idle.gauges().map(|(_, value)| value), [2, 2, 1]);
    }
}
