//! Deadlines of the IO thread, kept by the thread itself: a deadline costs one wake-up.
//!
//! The timers of the reactor cost three, one of its own thread to see it and one to be told the
//! next; an idle node has at most one wake-up a second to spend. Whoever has much to do takes
//! [turns](turn): the executor would run two hundred of its steps before it looks at anything else.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mesita_core::time::Time;

use crate::clock;

thread_local! {
    static ALARMS: RefCell<Alarms> = const {
        RefCell::new(Alarms { next: 0, set: BTreeMap::new(), waiting: VecDeque::new() })
    };
}

struct Alarms {
    next: u64,
    set: BTreeMap<(Time, u64), Waker>,
    /// Those who wait for their turn.
    waiting: VecDeque<(u64, Waker)>,
}

impl Alarms {
    fn number(&mut self, known: &mut Option<u64>) -> u64 {
        *known.get_or_insert_with(|| {
            self.next += 1;
            self.next
        })
    }
}

/// Waits for a moment.
#[derive(Debug)]
#[must_use]
pub(crate) struct Alarm {
    at: Time,
    number: Option<u64>,
}

/// An alarm at a moment.
pub(crate) fn at(time: Time) -> Alarm {
    Alarm { at: time, number: None }
}

/// An alarm in so many µs.
pub(crate) fn after(us: u64) -> Alarm {
    at(clock::now().after(us))
}

/// What comes of `future` if it is done within so many µs.
pub(crate) async fn within<T>(us: u64, future: impl Future<Output = T>) -> Option<T> {
    let late = async {
        after(us).await;
        None
    };
    futures_lite::future::or(async { Some(future.await) }, late).await
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if clock::now() >= self.at {
            return Poll::Ready(());
        }
        ALARMS.with_borrow_mut(|alarms| {
            let number = alarms.number(&mut self.number);
            alarms.set.insert((self.at, number), cx.waker().clone());
        });
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // The thread may be ending, and its alarms with it.
            let _ = ALARMS.try_with(|alarms| alarms.borrow_mut().set.remove(&(self.at, number)));
        }
    }
}

/// Waits until everybody who was ready had something of the thread, and everybody who asked before
/// had a turn.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn {
    number: Option<u64>,
}

/// A turn that is not asked for yet.
pub(crate) fn turn() -> Turn {
    Turn { number: None }
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ALARMS.with_borrow_mut(|alarms| {
            let is_new = self.number.is_none();
            let number = alarms.number(&mut self.number);
            match alarms.waiting.iter_mut().find(|(of, _)| *of == number) {
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None if is_new => alarms.waiting.push_back((number, cx.waker().clone())),
                None => return Poll::Ready(()),
            }
            Poll::Pending
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // The thread may be ending, and its turns with it.
            let _ = ALARMS.try_with(|alarms| {
                alarms.borrow_mut().waiting.retain(|(of, _)| *of != number);
            });
        }
    }
}

/// Runs a future to its end on this thread, with the alarms of this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let (parker, unparker) = parking::pair();
    let waker = Waker::from(unparker);
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return result;
        }
        let (next, is_awaited) = ALARMS.with_borrow(|alarms| {
            (alarms.set.keys().next().map(|&(at, _)| at), !alarms.waiting.is_empty())
        });
        match next.and_then(clock::until) {
            _ if is_awaited => drop(parker.park_timeout(Duration::ZERO)),
            Some(left) => drop(parker.park_timeout(left)),
            None => parker.park(),
        }
        fire();
    }
}

/// Wakes everybody whose moment has come, and one of those who wait for their turn.
fn fire() {
    let now = clock::now();
    while let Some(waker) = ALARMS.with_borrow_mut(|alarms| {
        let entry = alarms.set.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }) {
        waker.wake();
    }
    if let Some((_, waker)) = ALARMS.with_borrow_mut(|alarms| alarms.waiting.pop_front()) {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_go_off_in_order_and_not_early() {
        let began = clock::now();
        let order = RefCell::new(Vec::new());
        block_on(async {
            let one = async {
                after(20_000).await;
                order.borrow_mut().push(20);
            };
            let two = async {
                after(5_000).await;
                order.borrow_mut().push(5);
            };
            futures_lite::future::zip(one, two).await;
        });
        assert_eq!(*order.borrow(), [5, 20]);
        assert!(clock::now().since(began) >= 20_000);
        assert!(ALARMS.with_borrow(|alarms| alarms.set.is_empty()));
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let never = std::future::pending::<()>();
        assert_eq!(block_on(within(1_000, never)), None);
        assert_eq!(block_on(within(1_000_000, async { 7 })), Some(7));
        assert!(ALARMS.with_borrow(|alarms| alarms.set.is_empty()));
    }
    #[test]
    fn one_of_those_who_have_much_to_do_goes_on_at_a_time() {
        let tasks = smol::LocalExecutor::new();
        let order = std::rc::Rc::new(RefCell::new(Vec::new()));
        let busy = |name: char| {
            let order = std::rc::Rc::clone(&order);
            tasks.spawn(async move {
                for _ in 0..3 {
                    turn().await;
                    order.borrow_mut().push(name);
                }
            })
        };
        let (a, b) = (busy('a'), busy('b'));
        // Whose turn never comes holds nobody up.
        let gone = busy('c');
        let passes = std::rc::Rc::clone(&order);
        block_on(tasks.run(async {
            drop(gone);
            // Ready at every pass: it is never behind more than one of them.
            let mut seen = 0;
            while passes.borrow().len() < 6 {
                let now = passes.borrow().len();
                assert!(now <= seen + 1);
                seen = now;
                turn_of_anybody().await;
            }
            a.await;
            b.await;
        }));
        assert_eq!(*order.borrow(), ['a', 'b', 'a', 'b', 'a', 'b']);
        assert!(ALARMS.with_borrow(|alarms| alarms.waiting.is_empty()));
    }

    /// Ready when the thread was through once.
    async fn turn_of_anybody() {
        after(0).await;
        futures_lite::future::yield_now().await;
    }
}
