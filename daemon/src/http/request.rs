//! A request's message: all of its body, in one of the two forms, or why not.

use std::io::Read;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::CONTENT_ENCODING;
use hyper::{HeaderMap, Method, Request, StatusCode};
use prost::{Message, Name};

use super::media::{BadType, Media};
use super::{Early, early, only};
use crate::alarm;

/// Bytes of a body, also after it was unpacked. Frameworks send megabytes of task data.
pub(crate) const BODY_MAX: usize = 16 * 1024 * 1024;
/// How long a body may take, in µs.
pub(crate) const BODY_US: u64 = 30_000_000;

/// The message of a POST, with the headers that it came with. Checked in Mesos' order.
pub(crate) async fn message<M: Message + Name + Default>(
    request: Request<Incoming>,
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
    let bytes = body(request).await?;
    let message =
        media.read(&bytes).map_err(|bad| early(StatusCode::BAD_REQUEST, bad.to_string()))?;
    Ok((message, headers))
}

/// The form in which an answer is wanted.
pub(crate) fn asked(headers: &HeaderMap) -> Result<Media, Early> {
    Media::asked(headers).ok_or_else(|| {
        let message = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
        early(StatusCode::NOT_ACCEPTABLE, message)
    })
}

/// The body of a request, unpacked; an answer when it is none.
async fn body(request: Request<Incoming>) -> Result<Bytes, Early> {
    let packed = match request.headers().get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => false,
        Some(b"gzip") => true,
        Some(_) => {
            let message = "Content-Encoding: gzip and identity are understood";
            return Err(early(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
    };
    let bytes = whole(request.into_body()).await?;
    if packed { unpack(&bytes) } else { Ok(bytes) }
}

/// All bytes of a body, as they come.
pub(crate) async fn whole(body: Incoming) -> Result<Bytes, Early> {
    // Who says so at once is not waited for.
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(too_large());
    }
    let collected = Limited::new(body, BODY_MAX).collect();
    match alarm::within(BODY_US, collected).await {
        None => Err(early(StatusCode::REQUEST_TIMEOUT, "the body took longer than 30 s")),
        Some(Ok(collected)) => Ok(collected.to_bytes()),
        Some(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Some(Err(error)) => {
            let message = format!("the body cannot be read: {error}");
            Err(early(StatusCode::BAD_REQUEST, message))
        }
    }
}

fn unpack(bytes: &[u8]) -> Result<Bytes, Early> {
    let mut unpacked = Vec::new();
    let limit = BODY_MAX as u64 + 1;
    let read = flate2::read::GzDecoder::new(bytes).take(limit).read_to_end(&mut unpacked);
    match read {
        Ok(_) if unpacked.len() > BODY_MAX => Err(too_large()),
        Ok(_) => Ok(unpacked.into()),
        Err(error) => Err(early(
            StatusCode::BAD_REQUEST,
            format!("Failed to decompress request body: {error}"),
        )),
    }
}

fn too_large() -> Early {
    early(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {BODY_MAX} bytes"))
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
        assert_eq!(unpack(&packed(b"hello")).ok().unwrap(), "hello");
        let bomb = packed(&vec![0; BODY_MAX + 1]);
        assert!(bomb.len() < 100_000);
        assert_eq!(unpack(&bomb).err().unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(unpack(b"no gzip").err().unwrap().status(), StatusCode::BAD_REQUEST);
    }
}
