//! Connections whose other end does not read: an answer waits for its reader, but not for ever.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite};

use crate::alarm::{self, Alarm};

/// How long nothing of an answer may be read, in µs.
pub(crate) const UNREAD_US: u64 = 60_000_000;

/// A connection that ends when nothing that is written is read for too long. A stream is as long as its
/// reader wants, and has bounds of its own.
pub(super) struct Patient<P> {
    pipe: P,
    us: u64,
    streams: Rc<Cell<bool>>,
    /// Since when there is no room is known by when that is too long.
    until: Option<Alarm>,
}

impl<P> Patient<P> {
    /// `streams`: what is answered now is a stream.
    pub(super) fn new(pipe: P, us: u64, streams: Rc<Cell<bool>>) -> Self {
        Self { pipe, us, streams, until: None }
    }

    fn wait<T>(&mut self, done: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if done.is_ready() || self.streams.get() {
            self.until = None;
            return done;
        }
        let until = self.until.get_or_insert_with(|| alarm::after(self.us));
        match Future::poll(Pin::new(until), cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<P: AsyncRead + Unpin> AsyncRead for Patient<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_read(cx, into)
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

    #[test]
    fn an_answer_that_nobody_reads_ends_and_a_stream_goes_on() {
        let write = |streams: bool| {
            let (near, mut far) = Pipe::pair(10);
            let streams = Rc::new(Cell::new(streams));
            let mut patient = Patient::new(near.join(), 20_000, streams);
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
}
