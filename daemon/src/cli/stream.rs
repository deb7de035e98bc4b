//! Mesos' operator stream, read as any client of it reads it.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper::header::{AUTHORIZATION, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use smol_hyper::rt::FuturesIo;

use super::{Failure, NO_MASTER, find};
use crate::access::Credential;
use crate::alarm;
use crate::conn::{Both, dial};
use crate::flags::Where;
use crate::http::records::Pieces;
use crate::tls::Transport;

/// Bytes of one record that are taken.
const RECORD_MAX: usize = 256 * 1024 * 1024;

/// Redirections that are followed in a row.
const REDIRECTS_MAX: u32 = 8;

/// Follows the leader's stream. `take` gets each event; false from it ends this.
pub(super) async fn follow(
    at: &Where,
    mut take: impl FnMut(Value) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut first = None;
    let credential = super::credential(at.credential.as_deref())?;
    let (addresses, over) = find::addresses(at)?;
    for mut address in addresses {
        for _ in 0..REDIRECTS_MAX {
            match follow_at(&mut take, &address, &over, credential.as_deref()).await {
                Ok(Told::Elsewhere(leader)) => address = leader,
                Ok(Told::Ended) => return Ok(()),
                Err(failure) => {
                    first.get_or_insert(failure);
                    break;
                }
            }
        }
    }
    Err(first.unwrap_or_else(|| Failure::new(NO_MASTER, "every master names another one")))
}

/// A connection to a master, which somebody has to drive.
pub(super) async fn connect<B>(
    address: &str,
    over: &Transport,
) -> Result<(SendRequest<B>, Connection<FuturesIo<Both>, B>), Failure>
where
    B: hyper::body::Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(NO_MASTER, format!("no master at {address}: {why}"))
    };
    let pipe = dial::connect(address, over).await.map_err(|error| failed(&error))?;
    let shaken = hyper::client::conn::http1::handshake(FuturesIo::new(pipe.join())).await;
    shaken.map_err(|error| failed(&error))
}

/// What one of the masters has at a path, as JSON, and which.
pub(super) async fn told(at: &Where, path: &str) -> Result<(String, Value), Failure> {
    let (addresses, over) = find::addresses(at)?;
    let mut first = None;
    for address in addresses {
        match told_at(&address, &over, path).await {
            Ok(value) => return Ok((address, value)),
            Err(failure) => {
                first.get_or_insert(failure);
            }
        }
    }
    Err(first.unwrap_or_else(|| Failure::new(NO_MASTER, "there is no master")))
}

async fn told_at(address: &str, over: &Transport, path: &str) -> Result<Value, Failure> {
    let (mut sender, connection) = connect(address, over).await?;
    let request = Request::builder().uri(path).header("Host", address);
    let request = request.body(Full::<Bytes>::default()).map_err(Failure::plain)?;
    let asking = async {
        let answer = sender.send_request(request).await.map_err(Failure::plain)?;
        let body = answer.into_body().collect().await.map_err(Failure::plain)?;
        serde_json::from_slice(&body.to_bytes()).map_err(Failure::plain)
    };
    let ended = async {
        let ended = connection.await;
        // What it still has to say is read by then.
        alarm::after(100_000).await;
        Err(Failure::plain(format!("{address} says no more: {ended:?}")))
    };
    futures_lite::future::or(asking, ended).await
}

/// The address of the leader, if an answer leads there.
pub(super) fn leader_of(answer: &Response<Incoming>) -> Result<Option<String>, Failure> {
    if answer.status() != StatusCode::TEMPORARY_REDIRECT {
        return Ok(None);
    }
    let location = answer.headers().get(LOCATION).and_then(|at| at.to_str().ok());
    let host = location.and_then(|at| at.strip_prefix("//")?.split('/').next());
    let host = host.ok_or_else(|| Failure::plain("the master names no leader"))?;
    Ok(Some(host.to_owned()))
}

/// What came of a request.
enum Told {
    /// The leader is there.
    Elsewhere(String),
    /// Nobody reads any more.
    Ended,
}

async fn follow_at(
    take: &mut impl FnMut(Value) -> Result<bool, Failure>,
    address: &str,
    over: &Transport,
    credential: Option<&Credential>,
) -> Result<Told, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(NO_MASTER, format!("no master at {address}: {why}"))
    };
    let (mut sender, connection) = connect(address, over).await?;
    let mut request = Request::builder().method(Method::POST);
    if let Some(credential) = credential {
        request = request.header(AUTHORIZATION, credential.basic());
    }
    let request = request
        .uri("/api/v1")
        .header("Host", address)
        .header("Content-Type", "application/json")
        .header("Accept", "application/json")
        .body(Full::new(Bytes::from_static(b"{\"type\":\"SUBSCRIBE\"}")))
        .map_err(Failure::plain)?;
    let reading = async {
        let mut answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        if let Some(leader) = leader_of(&answer)? {
            return Ok(Told::Elsewhere(leader));
        }
        if !answer.status().is_success() {
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(Failure::plain)?.to_bytes();
            let why = String::from_utf8_lossy(&body).trim().to_owned();
            return Err(Failure::plain(if why.is_empty() { status.to_string() } else { why }));
        }
        let mut records = Pieces::new(RECORD_MAX);
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|error| failed(&error))?;
            let Some(bytes) = frame.data_ref() else { continue };
            for record in records.take(bytes).map_err(Failure::plain)? {
                let event = serde_json::from_slice(&record).map_err(Failure::plain)?;
                if !take(event)? {
                    return Ok(Told::Ended);
                }
            }
        }
        Err(Failure::plain("the master ended the stream"))
    };
    let broken = async {
        let ended = connection.await;
        // What it still has to say is read by then.
        alarm::after(100_000).await;
        Err(match ended {
            Ok(()) => Failure::plain("the master ended the stream"),
            Err(error) => failed(&error),
        })
    };
    futures_lite::future::or(reading, broken).await
}
