//! What an answer holds: bytes at once, or records for as long as somebody reads.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};

use super::pack::Packed;
use super::patient::Doing;
use super::records::Records;
use crate::access::Guest;
use crate::legacy::pieces::Pieces;

/// The body of an answer.
pub(crate) enum Body {
    /// All of it, until it was read.
    Whole(Option<Bytes>),
    /// A stream of records.
    Records(Reader),
    /// Written while it is read.
    Pieces(Box<Pieces>),
    /// The same, packed.
    Packed(Box<Packed>),
    /// Another's answer, passed on.
    Passed(hyper::body::Incoming),
    /// The same, after what was read of it already.
    Begun(Option<Bytes>, hyper::body::Incoming),
    /// What somebody else feeds.
    Fed(Pin<Box<async_channel::Receiver<Bytes>>>),
}

/// A body that says when it was sent, or its connection is gone: then the next request is waited for.
pub(super) struct Sent {
    pub(super) body: Body,
    pub(super) doing: Rc<Doing>,
    /// Whose it is, if it ends with them.
    pub(super) guest: Option<Guest>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.doing.sent();
    }
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.guest.as_mut().is_some_and(|guest| guest.poll_over(cx).is_ready()) {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The reading end of records: they are told when it goes.
pub(crate) struct Reader(Rc<Records>);

impl Body {
    /// These bytes.
    pub(crate) fn of(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()).filter(|bytes: &Bytes| !bytes.is_empty()))
    }

    /// What it says, if it says all of it at once.
    pub(crate) fn words(&self) -> &str {
        let Self::Whole(Some(bytes)) = self else { return "" };
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// True for what goes on for as long as somebody sends and reads it.
    pub(super) fn is_stream(&self) -> bool {
        match self {
            Self::Records(_) | Self::Fed(_) | Self::Passed(_) | Self::Begun(..) => true,
            Self::Whole(_) | Self::Pieces(_) | Self::Packed(_) => false,
        }
    }

    /// Bytes as somebody sends them.
    pub(crate) fn fed(receiver: async_channel::Receiver<Bytes>) -> Self {
        Self::Fed(Box::pin(receiver))
    }

    /// Records as they come.
    pub(crate) fn records(records: Rc<Records>) -> Self {
        Self::Records(Reader(records))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(whole) => Poll::Ready(whole.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Passed(body) => Pin::new(body).poll_frame(cx).map_err(io::Error::other),
            Self::Begun(begun, body) => match begun.take().filter(|begun| !begun.is_empty()) {
                Some(begun) => Poll::Ready(Some(Ok(Frame::data(begun)))),
                None => Pin::new(body).poll_frame(cx).map_err(io::Error::other),
            },
            Self::Fed(receiver) => {
                let next = futures_lite::Stream::poll_next(receiver.as_mut(), cx);
                next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Pieces(pieces) => {
                pieces.poll(cx).map(|next| next.map(|piece| Ok(Frame::data(piece))))
            }
            Self::Packed(packed) => {
                packed.poll(cx).map(|next| next.map(|piece| Ok(Frame::data(piece))))
            }
            Self::Records(reader) => reader.0.poll(cx).map(|next| {
                next.map(|record| {
                    record.map(Frame::data).map_err(|()| io::ErrorKind::ConnectionAborted.into())
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_none(),
            Self::Passed(body) => body.is_end_stream(),
            Self::Records(_)
            | Self::Pieces(_)
            | Self::Packed(_)
            | Self::Fed(_)
            | Self::Begun(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => {
                SizeHint::with_exact(whole.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Passed(body) => body.size_hint(),
            Self::Records(_)
            | Self::Pieces(_)
            | Self::Packed(_)
            | Self::Fed(_)
            | Self::Begun(..) => SizeHint::default(),
        }
    }
}
