//! What of a request is told, so that no change is forgotten: whoever makes it tells of it in words of its
//! own, else whoever took the request in does.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What is known of a request by now. No part of who asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heed(Rc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// It was told of, or is nothing to be told of.
    done: Cell<bool>,
    /// What it asks for, and of which thing.
    asks: RefCell<Option<(String, String)>>,
}

impl PartialEq for Heed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Heed {}

impl Heed {
    /// It was told of, or only reads.
    pub(crate) fn done(&self) {
        self.0.done.set(true);
    }

    /// Nobody has told of it.
    pub(crate) fn is_due(&self) -> bool {
        !self.0.done.get()
    }

    /// It asks for this.
    pub(crate) fn asks(&self, what: impl Into<String>, of: impl Into<String>) {
        *self.0.asks.borrow_mut() = Some((what.into(), of.into()));
    }

    /// What it asks for, if that is known.
    pub(crate) fn asked(&self) -> Option<(String, String)> {
        self.0.asks.borrow().clone()
    }
}
