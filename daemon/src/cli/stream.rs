//! Mesos' operator stream, read as any client of it reads it.

use http_body_util::BodyExt;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request};
use serde_json::Value;

use super::Failure;
use super::leader::Leader;
use crate::flags::Where;
use crate::http::body::Body;
use crate::http::media::Media;
use crate::machines::recordio::Pieces;

/// Bytes of one record that are taken.
const RECORD_MAX: usize = 256 * 1024 * 1024;

/// Follows the leader's stream. `take` gets each event; false from it ends this.
pub(super) async fn follow(
    at: &Where,
    mut take: impl FnMut(Value) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let leader = Leader::find(at).await?;
    leader.during(read(&leader, &mut take)).await
}

async fn read(
    leader: &Leader,
    take: &mut impl FnMut(Value) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/api/v1")
        .header(CONTENT_TYPE, Media::Json.name())
        .header(ACCEPT, Media::Json.name())
        .body(Body::of(&b"{\"type\":\"SUBSCRIBE\"}"[..]))
        .map_err(Failure::plain)?;
    let mut answer = leader.ask(request).await?;
    if !answer.status().is_success() {
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(Failure::plain)?.to_bytes();
        let why = String::from_utf8_lossy(&body).trim().to_owned();
        return Err(Failure::plain(if why.is_empty() { status.to_string() } else { why }));
    }
    let mut records = Pieces::new(RECORD_MAX);
    while let Some(Ok(frame)) = answer.frame().await {
        let Some(bytes) = frame.data_ref() else { continue };
        for record in records.take(bytes).map_err(Failure::plain)? {
            let event = serde_json::from_slice(&record).map_err(Failure::plain)?;
            if !take(event)? {
                return Ok(());
            }
        }
    }
    Err(Failure::plain("the master ended the stream"))
}
