//! What principals have asked for and are still being answered, so that it ends when they are not let in any
//! more: at once, however long it would have gone on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use event_listener::{Event, EventListener};

use crate::doors::Caller;

/// All of them. As many as there are connections.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    all: RefCell<BTreeMap<u64, Rc<Stay>>>,
    next: Cell<u64>,
}

#[derive(Debug)]
struct Stay {
    principal: String,
    is_over: Cell<bool>,
    told: Event,
}

/// One of them, for as long as it is answered.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Rc<Guests>,
    number: u64,
    stay: Rc<Stay>,
    waits: Option<EventListener>,
}

impl Guests {
    /// A caller asks for something; none: it is no principal.
    pub(super) fn enter(self: &Rc<Self>, caller: &Caller) -> Option<Guest> {
        let principal = caller.principal()?.to_owned();
        let stay = Rc::new(Stay { principal, is_over: Cell::new(false), told: Event::new() });
        let number = self.next.replace(self.next.get() + 1);
        self.all.borrow_mut().insert(number, Rc::clone(&stay));
        Some(Guest { guests: Rc::clone(self), number, stay, waits: None })
    }

    /// Ends what these have asked for.
    pub(super) fn end(&self, is_theirs: impl Fn(&str) -> bool) {
        for stay in self.all.borrow().values().filter(|stay| is_theirs(&stay.principal)) {
            stay.is_over.set(true);
            stay.told.notify(usize::MAX);
        }
    }

    /// Requests of principals that are being answered.
    pub(super) fn len(&self) -> usize {
        self.all.borrow().len()
    }
}

impl Guest {
    /// Waits until it is over.
    pub(crate) async fn over(&self) {
        while !self.stay.is_over.get() {
            let told = self.stay.told.listen();
            if !self.stay.is_over.get() {
                told.await;
            }
        }
    }

    /// The same, for who polls.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stay.is_over.get() {
            return Poll::Ready(());
        }
        let waits = self.waits.get_or_insert_with(|| self.stay.told.listen());
        let told = Pin::new(waits).poll(cx);
        if told.is_ready() {
            self.waits = None;
        }
        told
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.all.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesita_core::doors::Rights;

    #[test]
    fn what_is_asked_for_is_over_with_its_principal_alone() {
        let guests = Rc::new(Guests::default());
        let enter = |name: &str| guests.enter(&Caller::new(name, Rights::NONE));
        assert!(enter("local:pi").is_none());
        let (mut web, mut ops) = (enter("principal:web").unwrap(), enter("principal:ops").unwrap());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(web.poll_over(&mut cx).is_pending() && ops.poll_over(&mut cx).is_pending());
        guests.end(|name| name == "web");
        assert!(web.poll_over(&mut cx).is_ready() && ops.poll_over(&mut cx).is_pending());
        assert_eq!(guests.len(), 2);
        drop((web, ops));
        assert_eq!(guests.len(), 0);
    }
}
