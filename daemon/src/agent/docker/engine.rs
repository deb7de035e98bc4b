//! The engine, asked over its socket: HTTP/1.1, one connection for each call.
//!
//! Whoever is asked may hang: each call has a time, so many are made at once and no more, and what is
//! answered has a bound. What waits for the end of a container is neither counted nor timed.
//! Docker: Engine API, <https://docs.docker.com/reference/api/engine/>.

use std::fmt;
use std::path::PathBuf;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use serde_json::Value;
use smol::lock::Semaphore;
use smol::net::unix::UnixStream;
use smol_hyper::rt::FuturesIo;

use crate::alarm;
use crate::io_thread::Tasks;

/// Bytes of an answer that is read whole.
const ANSWER_MAX: usize = 1 << 20;
/// Bytes of the head of an answer.
const HEAD_MAX: usize = 64 * 1024;

/// What an operator chose about the engine.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Its socket.
    pub(crate) socket: PathBuf,
    /// How long it may take for a call, in µs.
    pub(crate) timeout_us: u64,
    /// Calls at once.
    pub(crate) calls_max: usize,
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It cannot be asked, or says nothing: it may be there later.
    Away(String),
    /// It says no: its status code, and its own words.
    Refused(u16, String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) => f.write_str(why),
            Self::Refused(_, why) => write!(f, "the Docker engine says: {why}"),
        }
    }
}

impl Trouble {
    /// True when what was asked for is not there.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused(404, _))
    }
}

/// An engine.
pub(super) struct Engine {
    options: Options,
    calls: Semaphore,
    tasks: Tasks,
}

impl Engine {
    pub(super) fn new(options: Options, tasks: Tasks) -> Self {
        Self { calls: Semaphore::new(options.calls_max.max(1)), options, tasks }
    }

    /// Asks for something, and reads the answer whole: what it says, or nothing.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Trouble> {
        let told = format!("{method} {}", path.split('?').next().unwrap_or_default());
        let asked = async {
            let _place = self.calls.acquire().await;
            let answer = self.ask(method, path, body).await?;
            let bytes = self.whole(answer, ANSWER_MAX).await?;
            Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
        };
        alarm::within(self.options.timeout_us, asked).await.unwrap_or_else(|| {
            let (ms, socket) = (self.options.timeout_us / 1000, self.options.socket.display());
            let flag = "--docker-timeout";
            Err(Trouble::Away(format!(
                "{socket}: no answer to {told} within the {ms} ms of {flag}"
            )))
        })
    }

    /// Asks for something whose answer comes bit by bit, for as long as it likes.
    pub(super) async fn stream(
        &self,
        method: Method,
        path: &str,
    ) -> Result<Response<Incoming>, Trouble> {
        self.ask(method, path, None).await
    }

    fn away(&self, error: &dyn fmt::Display) -> Trouble {
        Trouble::Away(format!("{}: {error}", self.options.socket.display()))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Trouble> {
        let stream = UnixStream::connect(&self.options.socket).await;
        let stream = stream.map_err(|error| self.away(&error))?;
        let mut builder = hyper::client::conn::http1::Builder::new();
        let shaken = builder.max_buf_size(HEAD_MAX).handshake(FuturesIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| self.away(&error))?;
        self.tasks.go(async move {
            if let Err(error) = connection.await {
                log::debug!("the Docker engine: {error}");
            }
        });
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "docker")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.away(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| self.away(&error))?;
        if answer.status().as_u16() < 400 {
            return Ok(answer);
        }
        let status = answer.status();
        let said = self.whole(answer, HEAD_MAX).await?;
        let said = serde_json::from_slice::<Value>(&said).unwrap_or_default();
        let message = said["message"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        Err(Trouble::Refused(status.as_u16(), message))
    }

    async fn whole(&self, mut answer: Response<Incoming>, max: usize) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|error| self.away(&error))?;
            let Some(more) = frame.data_ref() else { continue };
            if bytes.len() + more.len() > max {
                return Err(self.away(&format!("an answer of more than {max} bytes")));
            }
            bytes.extend_from_slice(more);
        }
        Ok(bytes)
    }
}

/// A text as a part of a query.
pub(super) fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let quoted = text.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    quoted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_stays_one_part_of_a_query() {
        assert_eq!(quoted("a.b/c:1&x=y é"), "a.b/c%3A1%26x%3Dy%20%C3%A9");
    }
}
