//! What an answer holds: bytes at once, or records for as long as somebody reads.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};

use super::records::Records;
use crate::legacy::pieces::Pieces;

/// The body of an answer.
pub(crate) enum Body {
    /// All of it.
    Whole(http_body_util::Full<Bytes>),
    /// A stream of records.
    Records(Reader),
    /// Written while it is read.
    Pieces(Box<Pieces>),
}

/// The reading end of records: they are told when it goes.
pub(crate) struct Reader(Rc<Records>);

impl Body {
    /// These bytes.
    pub(crate) fn of(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(http_body_util::Full::new(bytes.into()))
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
            Self::Whole(whole) => {
                Pin::new(whole).poll_frame(cx).map_err(|never: Infallible| match never {})
            }
            Self::Pieces(pieces) => Poll::Ready(pieces.next().map(|piece| Ok(Frame::data(piece)))),
            Self::Records(reader) => reader.0.poll(cx).map(|next| {
                next.map(|record| {
                    record.map(Frame::data).map_err(|()| io::ErrorKind::ConnectionAborted.into())
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Records(_) | Self::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Records(_) | Self::Pieces(_) => SizeHint::default(),
        }
    }
}
