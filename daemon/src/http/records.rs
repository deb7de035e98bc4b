//! A stream of records (RecordIO: length in decimal, a newline, that many bytes), one record a
//! chunk, bounded: a reader that does not keep up is cut off and never grows memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use event_listener::Event;
use hyper::body::Bytes;

use crate::conn::outbox::Level;
use crate::set::standing::Standing;

/// Digits of a record's length that are read.
const LENGTH_MAX: usize = 20;

/// Records that wait for their reader.
pub(crate) struct Records {
    queue: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    max: usize,
    state: Cell<State>,
    congested: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    left: Cell<bool>,
    changed: Event,
    on_level: Box<dyn Fn(Level)>,
    /// Nothing is read while it is not held.
    lease: Option<Rc<Standing>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// To be ended when all was read.
    Closing,
    /// To be ended now.
    Cut,
}

impl Records {
    /// At most `max` bytes that wait; `on_level` is called as for a connection's outbox.
    pub(crate) fn new(max: usize, on_level: impl Fn(Level) + 'static) -> Self {
        Self {
            queue: RefCell::default(),
            bytes: Cell::new(0),
            max,
            state: Cell::new(State::Open),
            congested: Cell::new(false),
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
        if self.state.get() != State::Open {
            return;
        }
        let bytes = self.bytes.get() + self.weight(framed.len());
        if bytes > self.max && self.bytes.get() > 0 {
            self.cut();
            (self.on_level)(Level::Overrun);
            return;
        }
        self.bytes.set(bytes);
        self.queue.borrow_mut().push_back(framed);
        if bytes > self.max / 2 && !self.congested.replace(true) {
            (self.on_level)(Level::Congested);
        }
        self.wake();
    }

    /// What a record counts for: its bytes, but a large one no more than a quarter of the bound.
    /// It is what it is, and little is what waits behind it while it is being read.
    fn weight(&self, len: usize) -> usize {
        len.min(self.max / 4)
    }

    /// Ends the stream when everything queued was read.
    pub(crate) fn close(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Closing);
            self.wake();
        }
    }

    /// Ends the stream now, as if the connection broke.
    pub(crate) fn cut(&self) {
        self.state.set(State::Cut);
        self.queue.borrow_mut().clear();
        self.bytes.set(0);
        self.changed.notify(usize::MAX);
        self.wake();
    }

    /// Waits until no more than so many bytes wait, or nobody reads any more.
    pub(crate) async fn room(&self, bytes: usize) {
        loop {
            let listener = self.changed.listen();
            if self.bytes.get() <= bytes || !self.is_open() {
                return;
            }
            listener.await;
        }
    }

    /// True while somebody reads, and is to get more.
    pub(crate) fn is_open(&self) -> bool {
        self.state.get() == State::Open
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
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
        self.state.set(State::Cut);
        self.changed.notify(usize::MAX);
    }

    /// The next record; none after the last, an error when the stream is cut.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ()>>> {
        if let Some(standing) = &self.lease
            && self.state.get() != State::Cut
        {
            ready!(standing.lease.poll_held(cx));
        }
        if let Some(record) = self.queue.borrow_mut().pop_front() {
            let left = self.bytes.get().saturating_sub(self.weight(record.len()));
            self.bytes.set(left);
            self.changed.notify(usize::MAX);
            if left == 0 && self.congested.replace(false) {
                (self.on_level)(Level::Drained);
            }
            return Poll::Ready(Some(Ok(record)));
        }
        match self.state.get() {
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

/// A record as it lies in a stream.
pub(crate) fn framed(record: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(record.len() + 12);
    framed.extend_from_slice(record.len().to_string().as_bytes());
    framed.push(b'\n');
    framed.extend_from_slice(record);
    framed
}

/// Records out of the pieces that they come in.
pub(crate) struct Pieces {
    pending: Vec<u8>,
    /// Bytes of one record.
    max: usize,
}

impl Pieces {
    /// Takes records of at most so many bytes.
    pub(crate) const fn new(max: usize) -> Self {
        Self { pending: Vec::new(), max }
    }

    /// The records that are whole with this piece; why it is none of a stream of records.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        self.pending.extend_from_slice(bytes);
        let mut records = Vec::new();
        while let Some(at) = self.pending.iter().position(|byte| *byte == b'\n') {
            let len = std::str::from_utf8(&self.pending[..at]).ok();
            let len: usize =
                len.and_then(|text| text.parse().ok()).ok_or("no stream of records")?;
            if len > self.max {
                return Err(format!("a record of {len} bytes; at most {} may be", self.max));
            }
            if self.pending.len() < at + 1 + len {
                return Ok(records);
            }
            let rest = self.pending.split_off(at + 1 + len);
            records.push(self.pending.split_off(at + 1));
            self.pending = rest;
        }
        if self.pending.len() > LENGTH_MAX {
            return Err("no stream of records".to_owned());
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn records_are_put_together_however_they_are_cut() {
        let whole = b"2\n{}14\n{\"type\":\"a\"} \n3\n[1]";
        for cut in 1..whole.len() {
            let mut records = Pieces::new(100);
            let mut all = records.take(&whole[..cut]).unwrap();
            all.extend(records.take(&whole[cut..]).unwrap());
            assert_eq!(all, [&b"{}"[..], b"{\"type\":\"a\"} \n", b"[1]"], "{cut}");
        }
        for bad in [&b"x\n"[..], b"-1\n", b"101\n", &[b'1'; 100]] {
            assert!(Pieces::new(100).take(bad).is_err(), "{bad:?}");
        }
    }

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
