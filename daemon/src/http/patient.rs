//! How long a connection waits for its other end: an answer for its reader, a head for its end, and the
//! next request for as long as its client wants.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_lite::{AsyncRead, AsyncWrite};

use super::idle::{Idle, Place};
use crate::alarm::{self, Alarm};
use crate::conn::listen::Stranger;

/// How long nothing of an answer may be read, in µs.
pub(crate) const UNREAD_US: u64 = 60_000_000;
/// How long a request's head may take from its first byte, in µs, and how long somebody may be silent
/// who has asked for nothing that was given.
pub(super) const HEAD_US: u64 = 30_000_000;

/// What a connection does, as whoever answers says.
#[derive(Default)]
pub(super) struct Doing {
    /// A request is being read or answered.
    pub(super) answers: Cell<bool>,
    /// What is answered is a stream: as long as its reader wants, with bounds of its own.
    pub(super) streams: Cell<bool>,
    /// The last request was not refused.
    pub(super) served: Cell<bool>,
    /// Who has not been given anything yet makes room for others.
    stranger: RefCell<Option<Stranger>>,
    /// Who waited for more while it was answered: it is to wait for the next request from then on.
    reader: RefCell<Option<Waker>>,
}

impl Doing {
    /// Of a connection of nobody known, or of somebody.
    pub(super) fn of(stranger: Option<Stranger>) -> Self {
        Self { stranger: RefCell::new(stranger), ..Self::default() }
    }

    /// Whoever asks is let in.
    pub(super) fn let_in(&self) {
        if let Some(stranger) = self.stranger.borrow_mut().take() {
            stranger.known();
        }
    }

    /// A request is answered, and was refused or not.
    pub(super) fn answered(&self, served: bool) {
        self.served.set(served);
        if served {
            self.let_in();
        }
    }

    /// The answer was sent. hyper reads no further by itself: it has looked, while it answered, whether
    /// there is more.
    pub(super) fn sent(&self) {
        self.answers.set(false);
        let reader = self.reader.borrow_mut().take();
        reader.into_iter().for_each(Waker::wake);
    }
}

/// Times of a connection, in µs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) unread: u64,
    pub(super) head: u64,
}

/// A connection that ends when its other end lets it wait for too long.
pub(super) struct Patient<P> {
    pipe: P,
    times: Patience,
    doing: Rc<Doing>,
    idle: Idle,
    /// When nothing that is written was read for too long.
    unread: Option<Alarm>,
    /// When a head, or somebody who is silent, has taken too long.
    head: Option<Alarm>,
    /// Nothing is asked, and there is room for that.
    place: Option<Place>,
}

impl<P> Patient<P> {
    pub(super) fn new(pipe: P, times: Patience, doing: Rc<Doing>, idle: Idle) -> Self {
        Self { pipe, times, doing, idle, unread: None, head: None, place: None }
    }

    fn wait<T>(&mut self, done: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if done.is_ready() || self.doing.streams.get() {
            self.unread = None;
            return done;
        }
        let until = self.unread.get_or_insert_with(|| alarm::after(self.times.unread));
        match Future::poll(Pin::new(until), cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// True when the next request was waited for long enough.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if self.head.is_none() && self.doing.served.get() {
            let place = self.place.get_or_insert_with(|| self.idle.sit(cx.waker()));
            return !place.stays(cx.waker());
        }
        let until = self.head.get_or_insert_with(|| alarm::after(self.times.head));
        Future::poll(Pin::new(until), cx).is_ready()
    }
}

impl<P: AsyncRead + Unpin> AsyncRead for Patient<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.pipe).poll_read(cx, into);
        if self.doing.answers.get() {
            (self.head, self.place) = (None, None);
            *self.doing.reader.borrow_mut() = Some(cx.waker().clone());
            return read;
        }
        if read.is_ready() {
            self.place = None;
            let us = self.times.head;
            self.head.get_or_insert_with(|| alarm::after(us));
            return read;
        }
        if self.is_over(cx) { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) } else { read }
    }
}

impl<P: AsyncWrite + Unpin> AsyncWrite for Patient<P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.pipe).poll_write(cx, bytes);
        self.wait(done, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.pipe).poll_flush(cx);
        self.wait(done, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::Pipe;
    use futures_lite::{AsyncReadExt, AsyncWriteExt};

    const TIMES: Patience = Patience { unread: 20_000, head: 20_000 };

    #[test]
    fn an_answer_that_nobody_reads_ends_and_a_stream_goes_on() {
        let write = |streams: bool| {
            let (near, mut far) = Pipe::pair(10);
            let doing = Rc::new(Doing::default());
            doing.streams.set(streams);
            let mut patient = Patient::new(near.join(), TIMES, doing, Idle::of(1));
            alarm::block_on(async {
                let written = patient.write_all(&[7; 100]);
                let late = alarm::within(200_000, written).await;
                // Whoever waited at all is read from in the end.
                far.reading.read_exact(&mut [0; 10]).await.unwrap();
                late.map(|written| written.unwrap_err().kind())
            })
        };
        assert_eq!(write(false), Some(io::ErrorKind::TimedOut));
        assert_eq!(write(true), None);
    }

    /// What comes of reading for ten times as long as a head may take, from somebody who has sent so
    /// many bytes of one.
    fn reading(answers: bool, served: bool, sent: usize) -> Option<io::ErrorKind> {
        let (near, mut far) = Pipe::pair(10);
        let doing = Rc::new(Doing::default());
        doing.answers.set(answers);
        doing.served.set(served);
        let mut patient = Patient::new(near.join(), TIMES, doing, Idle::of(1));
        alarm::block_on(async {
            far.writing.write_all(&[b'G'; 10][..sent]).await.unwrap();
            let mut head = [0; 10];
            let read = patient.read_exact(&mut head);
            alarm::within(200_000, read).await.map(|read| read.unwrap_err().kind())
        })
    }

    #[test]
    fn a_head_that_does_not_end_ends_its_connection_and_whoever_asks_nothing_may_stay() {
        let late = Some(io::ErrorKind::TimedOut);
        assert_eq!(reading(false, false, 0), late);
        assert_eq!(reading(false, false, 1), late);
        assert_eq!(reading(false, true, 1), late);
        assert_eq!(reading(false, true, 0), None);
        assert_eq!(reading(true, false, 1), None);
    }
}
