//! Answers packed by gzip for who takes that. Mesos: libprocess' `encoder.hpp`.

use std::io::Write;
use std::task::{Context, Poll, ready};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue};

use super::Reply;
use super::body::Body;
use super::media::refuses;
use crate::legacy::pieces::Pieces;

/// Shorter answers stay as they are. Mesos: `GZIP_MINIMUM_BODY_LENGTH`.
const PACKED_MIN: usize = 1024;

/// An answer in pieces that is packed while it is read.
pub(crate) struct Packed {
    first: Option<Bytes>,
    pieces: Pieces,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Packed {
    /// The next bytes; none after the last. See [`Pieces::poll`].
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some(encoder) = self.encoder.as_mut() else { return Poll::Ready(None) };
            ready!(self.pieces.poll_turn(cx));
            let Some(piece) = self.first.take().or_else(|| self.pieces.next()) else {
                // A vector takes everything.
                let end = self.encoder.take().map(|encoder| encoder.finish().unwrap_or_default());
                return Poll::Ready(end.map(Bytes::from));
            };
            let _ = encoder.write_all(&piece);
            let packed = std::mem::take(encoder.get_mut());
            if !packed.is_empty() {
                return Poll::Ready(Some(packed.into()));
            }
        }
    }
}

/// True when an answer may be packed.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(','));
    codings.any(|coding| {
        let name = coding.split(';').next().unwrap_or_default().trim();
        (name.eq_ignore_ascii_case("gzip") || name == "*") && !refuses(coding)
    })
}

/// The same answer, packed if that is worth it: one that is whole or told in pieces, and no stream.
pub(super) fn packed(mut reply: Reply) -> Reply {
    if reply.headers().contains_key(CONTENT_ENCODING) {
        return reply;
    }
    let encoder = || GzEncoder::new(Vec::new(), Compression::fast());
    let (body, is_packed) = match std::mem::replace(reply.body_mut(), Body::of("")) {
        Body::Whole(Some(bytes)) if bytes.len() >= PACKED_MIN => {
            let mut encoder = encoder();
            // A vector takes everything.
            let _ = encoder.write_all(&bytes);
            (Body::of(encoder.finish().unwrap_or_default()), true)
        }
        Body::Pieces(mut pieces) => match pieces.next() {
            Some(first) if first.len() >= PACKED_MIN => {
                let (first, encoder) = (Some(first), Some(encoder()));
                (Body::Packed(Box::new(Packed { first, pieces: *pieces, encoder })), true)
            }
            // A piece is only so small when it is the last.
            first => (Body::of(first.unwrap_or_default()), false),
        },
        body @ (Body::Whole(_)
        | Body::Records(_)
        | Body::Packed(_)
        | Body::Passed(_)
        | Body::Begun(..)
        | Body::Fed(_)) => (body, false),
    };
    *reply.body_mut() = body;
    if is_packed {
        reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;
    use std::io::Read;

    fn headers(accept: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accept))])
    }

    #[test]
    fn gzip_is_answered_to_who_takes_it() {
        assert!(takes_gzip(&headers("deflate, GZIP;q=0.5")) && takes_gzip(&headers("*")));
        assert!(!takes_gzip(&headers("gzip;q=0, identity")) && !takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn what_is_packed_in_pieces_is_whole_again() {
        let mut pieces = Pieces::new();
        pieces.text("{");
        let mut numbers = 0..20_000u32;
        pieces.array("numbers", move || numbers.next());
        pieces.text("}");
        let reply = packed(super::super::pieces(pieces, None));
        assert_eq!(reply.headers()[CONTENT_ENCODING], "gzip");
        let Body::Packed(mut body) = reply.into_body() else { panic!("not packed") };
        let mut bytes = Vec::new();
        let next =
            |body: &mut Packed| crate::alarm::block_on(std::future::poll_fn(|cx| body.poll(cx)));
        while let Some(piece) = next(&mut body) {
            bytes.extend_from_slice(&piece);
        }
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["numbers"].as_array().unwrap().len(), 20_000);
        let short = packed(super::super::text(StatusCode::OK, "short"));
        assert!(!short.headers().contains_key(CONTENT_ENCODING));
        let long = packed(super::super::text(StatusCode::OK, "long ".repeat(1000)));
        assert!(long.headers().contains_key(CONTENT_ENCODING));
    }
}
