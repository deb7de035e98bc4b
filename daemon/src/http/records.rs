//! A stream of records (RecordIO: length in decimal, a newline, that many bytes), one record a
//! chunk, bounded: a reader that does not keep up is cut off and never grows memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use event_listener::Event;
use hyper::body::Bytes;

use crate::machines::recordio::framed;
use crate::machines::waiting::{Level, Sort, State, Waiting, Weighs};
use crate::set::standing::Standing;

/// Records that wait for their reader.
pub(crate) struct Records {
    waiting: RefCell<Waiting<Bytes>>,
    reader: RefCell<Option<Waker>>,
    left: Cell<bool>,
    changed: Event,
    on_level: Box<dyn Fn(Level)>,
    /// Nothing is read while it is not held.
    lease: Option<Rc<Standing>>,
}

impl Weighs for Bytes {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Records {
    /// At most `max` bytes that wait; `on_level` is called as for a connection's outbox.
    pub(crate) fn new(max: usize, on_level: impl Fn(Level) + 'static) -> Self {
        Self {
            waiting: RefCell::new(Waiting::new(max)),
            reader: RefCell::default(),
            left: Cell::new(false),
            changed: Event::new(),
            on_level: Box::new(on_level),
            lease: None,
        }
    }

    /// The same, of a leader: what it says is read while it leads.
    pub(crate) fn under(self, lease: Rc<Standing>) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// Queues one record.
    pub(crate) fn push(&self, record: &[u8]) {
        self.push_framed(framed(record).into());
    }

    /// Queues a record as it lies in a stream.
    pub(crate) fn push_framed(&self, framed: Bytes) {
        if !self.is_open() {
            return;
        }
        let level = self.waiting.borrow_mut().push(Sort::Control, framed);
        match level {
            Some(Level::Overrun) => self.cut(),
            Some(Level::Congested | Level::Drained) | None => self.wake(),
        }
        if let Some(level) = level {
            (self.on_level)(level);
        }
    }

    /// Ends the stream when everything queued was read.
    pub(crate) fn close(&self) {
        if self.waiting.borrow_mut().close() {
            self.wake();
        }
    }

    /// Ends the stream now, as if the connection broke.
    pub(crate) fn cut(&self) {
        self.waiting.borrow_mut().cut();
        self.changed.notify(usize::MAX);
        self.wake();
    }

    /// Waits until no more than so many bytes wait, or nobody reads any more.
    pub(crate) async fn room(&self, bytes: usize) {
        loop {
            let listener = self.changed.listen();
            if self.bytes() <= bytes || !self.is_open() {
                return;
            }
            listener.await;
        }
    }

    /// True while somebody reads, and is to get more.
    pub(crate) fn is_open(&self) -> bool {
        self.waiting.borrow().state() == State::Open
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.borrow().bytes()
    }

    /// Waits until nobody reads any more.
    pub(crate) async fn left(&self) {
        loop {
            let listener = self.changed.listen();
            if self.left.get() {
                return;
            }
            listener.await;
        }
    }

    /// Nobody reads any more, or nobody ever will.
    pub(crate) fn leave(&self) {
        self.left.set(true);
        self.waiting.borrow_mut().leave();
        self.changed.notify(usize::MAX);
    }

    /// The next record; none after the last, an error when the stream is cut.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ()>>> {
        if let Some(standing) = &self.lease
            && self.waiting.borrow().state() != State::Cut
        {
            ready!(standing.lease.poll_held(cx));
        }
        let next = self.waiting.borrow_mut().next();
        if let Some(record) = next {
            let mut waiting = self.waiting.borrow_mut();
            let weight = waiting.weight(&record);
            let level = waiting.read(weight);
            drop(waiting);
            self.changed.notify(usize::MAX);
            if let Some(level) = level {
                (self.on_level)(level);
            }
            return Poll::Ready(Some(Ok(record)));
        }
        let state = self.waiting.borrow().state();
        match state {
            State::Open => {
                *self.reader.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Closing => Poll::Ready(None),
            State::Cut => Poll::Ready(Some(Err(()))),
        }
    }

    fn wake(&self) {
        let reader = self.reader.borrow_mut().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(records: &Records) -> Poll<Option<Result<Bytes, ()>>> {
        records.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_record_is_its_length_and_its_bytes() {
        let records = Records::new(100, |_| {});
        records.push(b"{}");
        assert_eq!(read(&records), Poll::Ready(Some(Ok(Bytes::from_static(b"2\n{}")))));
        assert_eq!(read(&records), Poll::Pending);
        records.push(b"[]");
        records.close();
        records.push(b"too late");
        assert!(matches!(read(&records), Poll::Ready(Some(Ok(_)))));
        assert_eq!(read(&records), Poll::Ready(None));
    }

    #[test]
    fn a_reader_that_does_not_keep_up_is_told_of_and_cut() {
        let levels = Rc::new(RefCell::new(Vec::new()));
        let told = Rc::clone(&levels);
        let records = Records::new(20, move |level| told.borrow_mut().push(level));
        // However large a record is, it is a quarter of the bound at most.
        (0..3).for_each(|_| records.push(&[b'x'; 100]));
        assert_eq!(*levels.borrow(), [Level::Congested]);
        (0..3).for_each(|_| assert!(matches!(read(&records), Poll::Ready(Some(Ok(_))))));
        assert_eq!(*levels.borrow(), [Level::Congested, Level::Drained]);
        (0..5).for_each(|_| records.push(&[b'x'; 100]));
        assert_eq!(levels.borrow().last(), Some(&Level::Overrun));
        assert_eq!((read(&records), records.bytes()), (Poll::Ready(Some(Err(()))), 0));
    }
}
