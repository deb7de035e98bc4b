//! The connections of a seat, by the ids that its core knows them by.

use std::cell::RefCell;
use std::rc::Rc;

use mesita_core::capacity::Lender;
use mesita_core::table::{Id, Table};

use crate::conn::Conn;
use crate::memory::Pages;

/// Connections that said hello.
pub(crate) struct Conns {
    ids: RefCell<Table<'static, bool>>,
    conns: RefCell<Vec<Option<Rc<Conn>>>>,
    max: u32,
}

impl Conns {
    /// At most `max` connections.
    pub(crate) fn new(max: u32) -> Self {
        Self { ids: RefCell::new(Table::new(Pages.lend(max))), conns: RefCell::default(), max }
    }

    /// The id of the next connection; none when there are too many.
    pub(crate) fn begin(&self) -> Option<Id> {
        self.ids.borrow_mut().insert(true).ok()
    }

    /// The connection is there.
    pub(crate) fn add(&self, conn: &Rc<Conn>) {
        let mut conns = self.conns.borrow_mut();
        let index = conn.id.index as usize;
        if conns.len() <= index {
            conns.resize(index + 1, None);
        }
        conns[index] = Some(Rc::clone(conn));
    }

    /// The connection with this id, if it is still there.
    pub(crate) fn get(&self, id: Id) -> Option<Rc<Conn>> {
        let conns = self.conns.borrow();
        let conn = conns.get(id.index as usize)?.as_ref()?;
        (conn.id == id).then(|| Rc::clone(conn))
    }

    /// It is gone: its id is never used again.
    pub(crate) fn end(&self, id: Id) {
        if self.ids.borrow_mut().remove(id).is_some()
            && let Some(conn) = self.conns.borrow_mut().get_mut(id.index as usize)
        {
            *conn = None;
        }
    }

    /// All that are there.
    pub(crate) fn all(&self) -> Vec<Rc<Conn>> {
        self.conns.borrow().iter().flatten().map(Rc::clone).collect()
    }

    /// Connections, and how many there may be.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 2] {
        [("connections_len", self.ids.borrow().len().into()), ("connections_max", self.max.into())]
    }
}
