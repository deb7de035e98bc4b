//! A request's message: all of its body, in one of the two forms, or why not.

use std::cell::RefCell;
use std::io::Read;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::CONTENT_ENCODING;
use hyper::{HeaderMap, Method, Request, StatusCode};
use prost::{Message, Name};

use super::body::Body;
use super::media::{BadType, Media};
use super::transcode::BadMessage;
use super::{Early, early, only};
use crate::alarm;
use crate::bodies::{Bodies, Reserved};
use crate::machines::recordio::Pieces;

/// Bytes of a body, also after it was unpacked. Frameworks send megabytes of task data.
pub(crate) const BODY_MAX: usize = 16 * 1024 * 1024;
/// The same of a caller of whom not more is needed, or of whom nothing is known yet.
const SHORT_MAX: usize = 64 * 1024;
/// Bytes of the first record of a stream, as far as it is looked at.
const FIRST_MAX: usize = 64 * 1024;
/// How long a body may take, in µs.
pub(crate) const BODY_US: u64 = 30_000_000;

/// The message of a POST, with the headers that it came with. Checked in Mesos' order.
pub(crate) async fn message<M: Message + Name + Default>(
    bodies: &RefCell<Bodies>,
    request: Request<Incoming>,
) -> Result<(M, HeaderMap), Early> {
    message_of(bodies, request, BODY_MAX).await
}

/// The same of a caller who may not send much: it is to be known before memory is taken for it.
pub(crate) async fn short_message<M: Message + Name + Default>(
    bodies: &RefCell<Bodies>,
    request: Request<Incoming>,
) -> Result<(M, HeaderMap), Early> {
    message_of(bodies, request, SHORT_MAX).await
}

async fn message_of<M: Message + Name + Default>(
    bodies: &RefCell<Bodies>,
    request: Request<Incoming>,
    max: usize,
) -> Result<(M, HeaderMap), Early> {
    only(request.method(), &[Method::POST])?;
    let media = Media::of_body(request.headers()).map_err(|bad| match bad {
        BadType::Absent => early(StatusCode::BAD_REQUEST, "Expecting 'Content-Type' to be present"),
        BadType::Unknown => early(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Expecting 'Content-Type' of application/json or application/x-protobuf",
        ),
    })?;
    let headers = request.headers().clone();
    let bytes = body(bodies, request, max).await?;
    let message = media.read(&bytes).map_err(|bad| {
        let status = match bad {
            BadMessage::Large => StatusCode::PAYLOAD_TOO_LARGE,
            BadMessage::Json(_)
            | BadMessage::Convert(..)
            | BadMessage::Protobuf(_)
            | BadMessage::Missing(..) => StatusCode::BAD_REQUEST,
        };
        early(status, bad.to_string())
    })?;
    Ok((message, headers))
}

/// The message that bytes with these headers are; none: they are none.
pub(crate) fn message_in<M: Message + Name + Default>(
    headers: &HeaderMap,
    bytes: &Bytes,
) -> Option<M> {
    let media = Media::of_body(headers).ok()?;
    let packed = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes());
    let packed = packed.is_some_and(|name| name.eq_ignore_ascii_case(b"gzip"));
    let unpacked = packed.then(|| unpack(bytes, BODY_MAX)).transpose().ok()?;
    media.read(unpacked.as_ref().unwrap_or(bytes)).ok()
}

/// The first message of a stream of them, if it is read soon, and the stream as if nobody had looked.
pub(crate) async fn first_record<M: Message + Name + Default>(
    headers: &HeaderMap,
    mut body: Incoming,
) -> (Option<M>, Body) {
    let media = Media::of_records(headers).ok();
    let (mut pieces, mut read, mut found) = (Pieces::new(FIRST_MAX), Vec::new(), None);
    let reading = async {
        while read.len() <= FIRST_MAX {
            let Some(Ok(frame)) = body.frame().await else { return };
            let Ok(data) = frame.into_data() else { continue };
            read.extend_from_slice(&data);
            let Ok(records) = pieces.take(&data) else { return };
            if let Some(first) = records.first() {
                found = media.and_then(|media| media.read(first).ok());
                return;
            }
        }
    };
    alarm::within(BODY_US, reading).await;
    (found, Body::Begun(Some(read.into()), body))
}

/// The form in which an answer is wanted.
pub(crate) fn asked(headers: &HeaderMap) -> Result<Media, Early> {
    Media::asked(headers).ok_or_else(|| {
        let message = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
        early(StatusCode::NOT_ACCEPTABLE, message)
    })
}

/// The body of a request, unpacked; an answer when it is none.
async fn body(
    bodies: &RefCell<Bodies>,
    request: Request<Incoming>,
    max: usize,
) -> Result<Bytes, Early> {
    let packed = match request.headers().get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => false,
        Some(name) if name.eq_ignore_ascii_case(b"gzip") => true,
        Some(_) => {
            let message = "Content-Encoding: gzip and identity are understood";
            return Err(early(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
    };
    let bytes = up_to(bodies, request.into_body(), max).await?;
    if packed { unpack(&bytes, max) } else { Ok(bytes) }
}

/// All bytes of a body, as they come; of all bodies at once no more than `--max-body-bytes`.
pub(crate) async fn whole(bodies: &RefCell<Bodies>, body: Incoming) -> Result<Bytes, Early> {
    up_to(bodies, body, BODY_MAX).await
}

/// The same of who is not known.
pub(crate) async fn short(bodies: &RefCell<Bodies>, body: Incoming) -> Result<Bytes, Early> {
    up_to(bodies, body, SHORT_MAX).await
}

async fn up_to(bodies: &RefCell<Bodies>, body: Incoming, max: usize) -> Result<Bytes, Early> {
    // Who says so at once is not waited for.
    if body.size_hint().lower() > max as u64 {
        return Err(too_large(max));
    }
    let late = || early(StatusCode::REQUEST_TIMEOUT, "the body took longer than 30 s");
    alarm::within(BODY_US, collect(bodies, body, max)).await.unwrap_or_else(|| Err(late()))
}

async fn collect(bodies: &RefCell<Bodies>, body: Incoming, max: usize) -> Result<Bytes, Early> {
    let mut body = Limited::new(body, max);
    let mut room = Room { bodies, held: None };
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large(max)),
            Err(error) => {
                let message = format!("the body cannot be read: {error}");
                return Err(early(StatusCode::BAD_REQUEST, message));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        if !room.takes(data.len() as u64) {
            let message = "there is no room for this body beside others: see --max-body-bytes";
            return Err(early(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// What a body that arrives takes of the room for all of them; given back when this goes.
struct Room<'p> {
    bodies: &'p RefCell<Bodies>,
    held: Option<Reserved>,
}

impl Room<'_> {
    fn takes(&mut self, bytes: u64) -> bool {
        let Some(more) = self.bodies.borrow_mut().reserve(bytes) else { return false };
        self.held = Some(match self.held.take() {
            Some(held) => held.and(more),
            None => more,
        });
        true
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.bodies.borrow_mut().release(held);
        }
    }
}

fn unpack(bytes: &[u8], max: usize) -> Result<Bytes, Early> {
    let mut unpacked = Vec::new();
    let limit = max as u64 + 1;
    let read = flate2::read::GzDecoder::new(bytes).take(limit).read_to_end(&mut unpacked);
    match read {
        Ok(_) if unpacked.len() > max => Err(too_large(max)),
        Ok(_) => Ok(unpacked.into()),
        Err(error) => Err(early(
            StatusCode::BAD_REQUEST,
            format!("Failed to decompress request body: {error}"),
        )),
    }
}

fn too_large(max: usize) -> Early {
    let who = if max == SHORT_MAX { " of who is not known, or only reads," } else { "" };
    early(StatusCode::PAYLOAD_TOO_LARGE, format!("a body{who} has at most {max} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_packed_body_is_unpacked_up_to_the_bound() {
        assert_eq!(unpack(&packed(b"hello"), BODY_MAX).ok().unwrap(), "hello");
        let bomb = packed(&vec![0; BODY_MAX + 1]);
        assert!(bomb.len() < 100_000);
        assert_eq!(unpack(&bomb, BODY_MAX).err().unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(unpack(b"no gzip", BODY_MAX).err().unwrap().status(), StatusCode::BAD_REQUEST);
    }
}
