//! Byte streams beside the conversation: opened by either end, flow-controlled by credit, joined
//! across two connections by a master.
//!
//! The opener chose a stream's number. A frame says whether it comes from the opener, so each end
//! has two tables: streams it opened, and streams that its peer opened.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

use event_listener::Event;
use mesita_core::limits::{STREAM_DATA_MAX, STREAM_WINDOW, STREAMS_MAX};
use mesita_core::wire::Head;
use mesita_core::wire::svc::{CloseReason, Stream, Svc};

use super::Conn;
use super::outbox::Packet;

/// The streams of one connection.
#[derive(Default)]
pub(crate) struct Streams {
    opened: RefCell<BTreeMap<u32, End>>,
    served: RefCell<BTreeMap<u32, End>>,
    next: Cell<u32>,
}

/// Where a stream goes on.
enum End {
    /// To a task of this thread.
    Here(Rc<Local>),
    /// To a stream of another connection.
    There(Joint),
}

/// The other half of a stream that two connections share.
struct Joint {
    conn: Weak<Conn>,
    /// Its number there.
    stream: u32,
    /// Bytes that may come from this side and from the other one, as both sides gave credit: no
    /// end can flood the other through here.
    may: Rc<Cell<u32>>,
    other_may: Rc<Cell<u32>>,
}

/// A stream that ends in this process.
#[derive(Default)]
struct Local {
    chunks: RefCell<VecDeque<Vec<u8>>>,
    /// Bytes in `chunks`, never more than the window that was given.
    held: Cell<u32>,
    /// Bytes that may be sent.
    credit: Cell<u32>,
    closed: RefCell<Option<Closed>>,
    changed: Event,
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) reason: CloseReason,
    pub(crate) message: String,
}

/// One end of a stream, for a task.
pub(crate) struct Handle {
    conn: Rc<Conn>,
    number: u32,
    opener: bool,
    local: Rc<Local>,
}

/// Why a frame of a stream is the peer's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) &'static str);

impl Streams {
    /// Opens a stream to a task of this thread. None when the connection has too many.
    pub(crate) fn open(conn: &Rc<Conn>, kind: Stream<'_>) -> Option<Handle> {
        let local = Rc::new(Local::default());
        // The other end says how much it takes in a credit of its own.
        let number = conn.streams.add_opened(End::Here(Rc::clone(&local)))?;
        conn.say(&Head::Svc(Svc::Open { stream: number, kind, window: STREAM_WINDOW }));
        Some(Handle { conn: Rc::clone(conn), number, opener: true, local })
    }

    /// Serves a stream that the peer opened by a task of this thread.
    pub(crate) fn serve(conn: &Rc<Conn>, number: u32, window: u32) -> Handle {
        let local = Rc::new(Local::default());
        local.credit.set(window);
        let end = End::Here(Rc::clone(&local));
        conn.streams.served.borrow_mut().insert(number, end);
        Handle { conn: Rc::clone(conn), number, opener: false, local }
    }

    /// Joins a stream that the peer of `from` opened to a new one on `to`. False when that has too
    /// many.
    pub(crate) fn join(
        from: &Rc<Conn>,
        number: u32,
        window: u32,
        to: &Rc<Conn>,
        kind: Stream<'_>,
    ) -> bool {
        let window = window.min(STREAM_WINDOW);
        let (forward, backward) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(window)));
        let back = End::There(Joint {
            conn: Rc::downgrade(from),
            stream: number,
            may: Rc::clone(&backward),
            other_may: Rc::clone(&forward),
        });
        let Some(there) = to.streams.add_opened(back) else { return false };
        let conn = Rc::downgrade(to);
        let forth = Joint { conn, stream: there, may: forward, other_may: backward };
        let forth = End::There(forth);
        from.streams.served.borrow_mut().insert(number, forth);
        to.say(&Head::Svc(Svc::Open { stream: there, kind, window }));
        true
    }

    /// True when the peer may open this stream.
    pub(crate) fn may_open(&self, number: u32) -> Result<(), Violation> {
        let served = self.served.borrow();
        if served.contains_key(&number) {
            return Err(Violation("a stream was opened twice"));
        }
        if served.len() >= STREAMS_MAX {
            return Err(Violation("more streams than a connection may have"));
        }
        Ok(())
    }

    fn add_opened(&self, end: End) -> Option<u32> {
        let mut opened = self.opened.borrow_mut();
        if opened.len() >= STREAMS_MAX {
            return None;
        }
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        opened.insert(number, end);
        Some(number)
    }

    /// Takes in a frame of a stream that is open. One that is not was closed meanwhile. A stream
    /// with more bytes than its window is ended.
    pub(crate) fn receive(&self, conn: &Conn, svc: &Svc<'_>) {
        match *svc {
            Svc::Open { .. } => {}
            Svc::Data { stream, from_opener, bytes } => {
                let table = self.table(from_opener);
                let fits = match table.borrow().get(&stream) {
                    Some(End::Here(local)) => local.take(bytes),
                    Some(End::There(joint)) => joint.pass(from_opener, bytes),
                    None => true,
                };
                if !fits {
                    let (reason, message) = (CloseReason::Overloaded, "more bytes than the window");
                    let end = table.borrow_mut().remove(&stream);
                    end.into_iter().for_each(|end| end.close(from_opener, reason, message));
                    let close = Svc::Close { stream, from_opener: !from_opener, reason, message };
                    conn.outbox.push_data(Packet::of(&Head::Svc(close)));
                }
            }
            Svc::Credit { stream, from_opener, bytes } => {
                match self.table(from_opener).borrow().get(&stream) {
                    Some(End::Here(local)) => {
                        local.credit.set(local.credit.get().saturating_add(bytes));
                        local.changed.notify(usize::MAX);
                    }
                    Some(End::There(joint)) => joint.credit(from_opener, bytes),
                    None => {}
                }
            }
            Svc::Close { stream, from_opener, reason, message } => {
                let end = self.table(from_opener).borrow_mut().remove(&stream);
                end.into_iter().for_each(|end| end.close(from_opener, reason, message));
            }
        }
    }

    /// The table of streams that frames from (or to) their opener are about.
    fn table(&self, from_opener: bool) -> &RefCell<BTreeMap<u32, End>> {
        if from_opener { &self.served } else { &self.opened }
    }

    /// The connection is gone: so are its streams.
    pub(crate) fn end_all(&self) {
        for (table, from_opener) in [(&self.opened, false), (&self.served, true)] {
            for end in std::mem::take(&mut *table.borrow_mut()).into_values() {
                end.close(
                    from_opener,
                    CloseReason::Gone,
                    "the connection to the other end is gone",
                );
            }
        }
    }
}

impl End {
    /// Passes the end of a stream on; it came from the opener or went to it.
    fn close(self, from_opener: bool, reason: CloseReason, message: &str) {
        match self {
            Self::Here(local) => {
                *local.closed.borrow_mut() = Some(Closed { reason, message: message.to_owned() });
                local.changed.notify(usize::MAX);
            }
            Self::There(joint) => {
                let Some(conn) = joint.conn.upgrade() else { return };
                // There, the roles are the same: what the opener's side ends, the opener ends.
                let stream = joint.stream;
                conn.streams.table(!from_opener).borrow_mut().remove(&stream);
                let close = Svc::Close { stream, from_opener, reason, message };
                conn.outbox.push_data(Packet::of(&Head::Svc(close)));
            }
        }
    }
}

impl Joint {
    /// Passes bytes on; false when they are more than the other side takes.
    fn pass(&self, from_opener: bool, bytes: &[u8]) -> bool {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Some(left) = self.may.get().checked_sub(len) else { return false };
        self.may.set(left);
        if let Some(conn) = self.conn.upgrade() {
            let data = Svc::Data { stream: self.stream, from_opener, bytes };
            conn.outbox.push_data(Packet::of(&Head::Svc(data)));
        }
        true
    }

    /// Passes credit on, up to the window.
    fn credit(&self, from_opener: bool, bytes: u32) {
        let before = self.other_may.get();
        let after = before.saturating_add(bytes).min(STREAM_WINDOW);
        self.other_may.set(after);
        if let Some(conn) = self.conn.upgrade() {
            let bytes = after - before;
            conn.say(&Head::Svc(Svc::Credit { stream: self.stream, from_opener, bytes }));
        }
    }
}

impl Local {
    /// Takes bytes in; false when they are more than the window that was given.
    fn take(&self, bytes: &[u8]) -> bool {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let held = self.held.get().saturating_add(len);
        if held > STREAM_WINDOW {
            return false;
        }
        self.held.set(held);
        self.chunks.borrow_mut().push_back(bytes.to_vec());
        self.changed.notify(usize::MAX);
        true
    }
}

impl Handle {
    /// Lets the other end, which opened the stream, send as much as is held here.
    pub(crate) fn take_in(&self) {
        let (stream, from_opener) = (self.number, self.opener);
        let bytes = STREAM_WINDOW;
        self.conn.say(&Head::Svc(Svc::Credit { stream, from_opener, bytes }));
    }

    /// The next bytes; the end of the stream when all were read.
    pub(crate) async fn read(&self) -> Result<Vec<u8>, Closed> {
        loop {
            let listener = self.local.changed.listen();
            let chunk = self.local.chunks.borrow_mut().pop_front();
            if let Some(chunk) = chunk {
                let len = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
                self.local.held.set(self.local.held.get() - len);
                let (stream, from_opener) = (self.number, self.opener);
                self.conn.say(&Head::Svc(Svc::Credit { stream, from_opener, bytes: len }));
                return Ok(chunk);
            }
            if let Some(closed) = self.local.closed.borrow().clone() {
                return Err(closed);
            }
            listener.await;
        }
    }

    /// Sends bytes, as the other end takes them. An error: it has ended the stream.
    pub(crate) async fn write(&self, mut bytes: &[u8]) -> Result<(), Closed> {
        while !bytes.is_empty() {
            let listener = self.local.changed.listen();
            if let Some(closed) = self.local.closed.borrow().clone() {
                return Err(closed);
            }
            let credit = self.local.credit.get();
            let len = bytes.len().min(STREAM_DATA_MAX).min(credit as usize);
            if len == 0 {
                listener.await;
                continue;
            }
            let (now, later) = bytes.split_at(len);
            self.local.credit.set(credit - u32::try_from(len).unwrap_or(0));
            let (stream, from_opener) = (self.number, self.opener);
            let data = Svc::Data { stream, from_opener, bytes: now };
            self.conn.outbox.push_data(Packet::of(&Head::Svc(data)));
            bytes = later;
        }
        Ok(())
    }

    /// Waits until the other end has ended the stream.
    pub(crate) async fn closed(&self) -> Closed {
        loop {
            let listener = self.local.changed.listen();
            if let Some(closed) = self.local.closed.borrow().clone() {
                return closed;
            }
            listener.await;
        }
    }

    /// Ends the stream, after all that was written.
    pub(crate) fn close(self, reason: CloseReason, message: &str) {
        self.end(reason, message);
    }

    fn end(&self, reason: CloseReason, message: &str) {
        let table = self.conn.streams.table(!self.opener);
        if table.borrow_mut().remove(&self.number).is_some() {
            let (stream, from_opener) = (self.number, self.opener);
            let close = Svc::Close { stream, from_opener, reason, message };
            self.conn.outbox.push_data(Packet::of(&Head::Svc(close)));
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end(CloseReason::Gone, "nobody reads this stream any more");
    }
}

/// Answers a request for a stream that will not be.
pub(crate) fn refuse(conn: &Conn, stream: u32, reason: CloseReason, message: &str) {
    let close = Svc::Close { stream, from_opener: false, reason, message };
    conn.outbox.push_data(Packet::of(&Head::Svc(close)));
}
