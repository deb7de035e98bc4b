//! Files of servers.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HOST, HeaderValue, IF_RANGE, LAST_MODIFIED,
    LOCATION, RANGE, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode, Uri as Url};
use serde_json::Value;
use smol::Async;
use smol_hyper::rt::FuturesIo;

use super::uri::url;
use super::{Means, Pace};
use crate::agent::AgentNode;
use crate::alarm;
use crate::conn::Pipe;
use crate::tls::Outside;

/// Answers that lead elsewhere, one after the other.
const REDIRECTS_MAX: usize = 10;
/// Bytes of the head of an answer.
const HEAD_MAX: usize = 64 * 1024;
/// Bytes that are written at once.
const CHUNK: usize = 256 * 1024;

/// A file whose beginning may be here.
pub(in crate::agent) struct Part<'p> {
    pub(in crate::agent) into: Arc<File>,
    /// What its server calls the version that this is of, if it said so,
    pub(in crate::agent) tag: Option<String>,
    /// and who notes that of one that comes from its beginning.
    pub(in crate::agent) tagged: &'p (dyn Fn(Option<&str>) + 'p),
}

/// What a server is told of what is here.
#[derive(Clone, Copy, Default)]
struct Begun<'b> {
    bytes: u64,
    tag: Option<&'b str>,
}

impl AgentNode {
    /// Fetches a file into one that is open; how long it is.
    pub(in crate::agent) async fn fetch_from(
        &self,
        means: &Means,
        from: &Url,
        into: Arc<File>,
    ) -> Result<u64, String> {
        let mut from = from.clone();
        for _ in 0..REDIRECTS_MAX {
            let answer = self.ask(means, &from, Begun::default()).await?;
            if answer.status() == StatusCode::OK {
                return self.take_in(means, answer, into).await;
            }
            if !answer.status().is_redirection() {
                return Err(self.refusal(answer).await);
            }
            from = next(&from, &answer)?;
        }
        Err(format!("the server leads elsewhere more than {REDIRECTS_MAX} times"))
    }

    /// Fetches what is missing of a file at the end of one that has its beginning, no faster than that is
    /// to come; `more` is told how much does, and `fits` is asked about all of it, as soon as that is
    /// announced. A server that tells no parts, or has another version by now, tells it from its
    /// beginning.
    pub(in crate::agent) async fn fetch_on(
        &self,
        means: &Means,
        from: &Url,
        Part { into, tag, tagged }: Part<'_>,
        pace: &Pace,
        more: &dyn Fn(u64),
        fits: &dyn Fn(u64) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut from = from.clone();
        for _ in 0..REDIRECTS_MAX {
            let begun = into.metadata().map_err(|error| error.to_string())?.len();
            let asked = Begun { bytes: begun, tag: tag.as_deref() };
            let answer = self.ask(means, &from, asked).await?;
            match answer.status() {
                StatusCode::PARTIAL_CONTENT if goes_on(&answer, begun) => {}
                StatusCode::OK => {
                    into.set_len(0).map_err(|error| error.to_string())?;
                    tagged(tag_of(&answer));
                }
                // It has no more than that.
                StatusCode::RANGE_NOT_SATISFIABLE if begun > 0 => return Ok(()),
                other if other.is_redirection() => {
                    from = next(&from, &answer)?;
                    continue;
                }
                _ => return Err(self.refusal(answer).await),
            }
            let begun = into.metadata().map_err(|error| error.to_string())?.len();
            let announced = answer.headers().get(CONTENT_LENGTH).and_then(|len| len.to_str().ok());
            let announced = announced.and_then(|len| len.parse().ok()).unwrap_or(0);
            fits(begun.saturating_add(announced))?;
            return self.take_on(means, answer, into, pace, more, fits).await;
        }
        Err(format!("the server leads elsewhere more than {REDIRECTS_MAX} times"))
    }

    /// Everything that comes is written before more is read: what breaks off is there.
    async fn take_on(
        &self,
        means: &Means,
        mut answer: Response<Incoming>,
        into: Arc<File>,
        pace: &Pace,
        more: &dyn Fn(u64),
        fits: &dyn Fn(u64) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut at = into.metadata().map_err(|error| error.to_string())?.len();
        loop {
            let frame = alarm::within(self.fetcher.options.stall_us, answer.frame()).await;
            let Some(frame) = frame.ok_or_else(|| self.silent())? else { return Ok(()) };
            let Ok(bytes) = frame.map_err(|error| error.to_string())?.into_data() else {
                continue;
            };
            let len = bytes.len() as u64;
            at += len;
            fits(at)?;
            means.budget.take(len).map_err(|error| error.to_string())?;
            write(&into, bytes.into()).await?;
            more(len);
            pace.took(len).await;
        }
    }

    async fn ask(
        &self,
        means: &Means,
        from: &Url,
        begun: Begun<'_>,
    ) -> Result<Response<Incoming>, String> {
        let host = from.host().unwrap_or_default().to_owned();
        let secure = from.scheme_str() == Some("https");
        let port = from.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stall_us = self.fetcher.options.stall_us;
        let stall = Duration::from_micros(stall_us.max(1));
        // The socket is the user's, as it would be if the task itself asked.
        let named = host.clone();
        let stream = means.as_user(move || connect(&named, port, stall)).await?;
        let stream = Async::new(stream).map_err(|error| error.to_string())?;
        let mut pipe = Pipe::tcp(stream.into()).map_err(|error| error.to_string())?;
        if secure {
            let outside = self.outside(means).await?;
            let wrapped = alarm::within(stall_us, outside.wrap(pipe, &host)).await;
            let wrapped = wrapped.ok_or_else(|| self.silent())?;
            pipe = wrapped.map_err(|why| why.to_string())?;
        }
        let mut builder = hyper::client::conn::http1::Builder::new();
        let io = FuturesIo::new(pipe.join());
        let shaken = builder.max_buf_size(HEAD_MAX).handshake(io).await;
        let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
        self.tasks.go(async move {
            if let Err(error) = connection.await {
                log::debug!("a server that is fetched from: {error}");
            }
        });
        let authority = from.authority().map_or_else(String::new, |of| of.as_str().to_owned());
        let host = authority.rsplit('@').next().unwrap_or_default();
        let path = from.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder();
        if begun.bytes > 0 {
            request = request.header(RANGE, format!("bytes={}-", begun.bytes));
            if let Some(tag) = begun.tag {
                request = request.header(IF_RANGE, tag);
            }
        }
        let request = request
            .method(Method::GET)
            .uri(path)
            .header(HOST, HeaderValue::from_str(host).map_err(|error| error.to_string())?)
            .header(USER_AGENT, "mesita")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = alarm::within(stall_us, sender.send_request(request)).await;
        answer.ok_or_else(|| self.silent())?.map_err(|error| error.to_string())
    }

    /// The authorities that vouch for servers, read once for a task.
    async fn outside(&self, means: &Means) -> Result<Outside, String> {
        if let Some(outside) = means.outside.get() {
            return Ok(outside.clone());
        }
        let file = self.fetcher.options.ca_file.clone();
        let read = move || Outside::read(file.as_deref(), "--fetcher-ca-file", None);
        let outside = blocking::unblock(read).await?;
        Ok(means.outside.get_or_init(|| outside).clone())
    }

    /// Why a server gives nothing: its status, and its words where it is a namenode of HDFS.
    async fn refusal(&self, answer: Response<Incoming>) -> String {
        let status = answer.status();
        let body = Limited::new(answer.into_body(), HEAD_MAX).collect();
        let body = alarm::within(self.fetcher.options.stall_us, body).await;
        let said = body.and_then(Result::ok).and_then(|body| {
            let said: Value = serde_json::from_slice(&body.to_bytes()).ok()?;
            let said = said.get("RemoteException")?;
            let word = |name: &str| said.get(name)?.as_str();
            Some(format!(": {}: {}", word("exception")?, word("message")?))
        });
        format!("the server answers {status}{}", said.unwrap_or_default())
    }

    pub(super) fn silent(&self) -> String {
        let ms = self.fetcher.options.stall_us / 1000;
        format!("the server says nothing for the {ms} ms of --fetcher-stall-timeout")
    }

    async fn take_in(
        &self,
        means: &Means,
        mut answer: Response<Incoming>,
        into: Arc<File>,
    ) -> Result<u64, String> {
        let said =
            answer.headers().get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        means.budget.has(said.unwrap_or(0)).map_err(|error| error.to_string())?;
        let mut sink = Sink::new(means, into);
        loop {
            let frame = alarm::within(self.fetcher.options.stall_us, answer.frame()).await;
            let Some(frame) = frame.ok_or_else(|| self.silent())? else { break };
            let frame = frame.map_err(|error| error.to_string())?;
            if let Some(bytes) = frame.data_ref() {
                sink.put(bytes).await?;
            }
        }
        sink.end().await
    }
}

/// Where bytes go as they come, within a budget.
pub(super) struct Sink<'m> {
    means: &'m Means,
    into: Arc<File>,
    waits: Vec<u8>,
    len: u64,
}

impl<'m> Sink<'m> {
    pub(super) fn new(means: &'m Means, into: Arc<File>) -> Self {
        Self { means, into, waits: Vec::new(), len: 0 }
    }

    /// Takes bytes in.
    pub(super) async fn put(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.means.budget.take(bytes.len() as u64).map_err(|error| error.to_string())?;
        self.len += bytes.len() as u64;
        self.waits.extend_from_slice(bytes);
        if self.waits.len() >= CHUNK {
            write(&self.into, std::mem::take(&mut self.waits)).await?;
        }
        Ok(())
    }

    /// That was all; how much.
    pub(super) async fn end(self) -> Result<u64, String> {
        write(&self.into, self.waits).await?;
        Ok(self.len)
    }
}

/// Writes bytes at the end of a file.
pub(in crate::agent) async fn write(into: &Arc<File>, bytes: Vec<u8>) -> Result<(), String> {
    let into = Arc::clone(into);
    let written = blocking::unblock(move || (&*into).write_all(&bytes));
    written.await.map_err(|error| error.to_string())
}

/// True for an answer that begins behind so many bytes.
fn goes_on(answer: &Response<Incoming>, begun: u64) -> bool {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {begun}-")))
}

/// What the server calls this version of a file, byte by byte: its tag, or when it was changed, unless
/// that is now and it may change again. RFC 9110, 13.1.5.
fn tag_of(answer: &Response<Incoming>) -> Option<&str> {
    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    match text(ETAG) {
        Some(tag) => Some(tag).filter(|tag| tag.starts_with('"')),
        None => text(LAST_MODIFIED).filter(|at| text(DATE).is_some_and(|now| now != *at)),
    }
}

/// Connects to the first address of a host that answers.
fn connect(host: &str, port: u16, within: Duration) -> io::Result<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = io::Error::other("the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, within) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = at(address, &error),
        }
    }
    Err(last)
}

fn at(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{address}: {error}"))
}

/// Where an answer leads.
fn next(from: &Url, answer: &Response<Incoming>) -> Result<Url, String> {
    let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or("the server leads elsewhere without saying where")?;
    let scheme = from.scheme_str().unwrap_or("http");
    let absolute = if location.starts_with('/') && !location.starts_with("//") {
        format!("{scheme}://{}{location}", from.authority().map_or("", |of| of.as_str()))
    } else {
        location.to_owned()
    };
    if !absolute.starts_with("https://") && !absolute.starts_with("http://") {
        return Err(format!(
            "the server leads to {location}; only https:// and http:// are followed"
        ));
    }
    if scheme == "https" && !absolute.starts_with("https://") {
        return Err(format!(
            "the server leads from https:// to {location}, where anybody may change it"
        ));
    }
    url(&absolute).map_err(|why| format!("the server leads to {location}, which {why}"))
}
