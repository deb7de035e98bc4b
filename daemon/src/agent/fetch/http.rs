//! Files of servers.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri as Url};
use smol::Async;
use smol_hyper::rt::FuturesIo;

use super::Means;
use super::uri::url;
use crate::agent::AgentNode;
use crate::alarm;

/// Answers that lead elsewhere, one after the other.
const REDIRECTS_MAX: usize = 10;
/// Bytes of the head of an answer.
const HEAD_MAX: usize = 64 * 1024;
/// Bytes that are written at once.
const CHUNK: usize = 256 * 1024;

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
            let answer = self.ask(means, &from).await?;
            if answer.status() == StatusCode::OK {
                return self.take_in(means, answer, into).await;
            }
            if !answer.status().is_redirection() {
                return Err(format!("the server answers {}", answer.status()));
            }
            from = next(&from, &answer)?;
        }
        Err(format!("the server leads elsewhere more than {REDIRECTS_MAX} times"))
    }

    async fn ask(&self, means: &Means, from: &Url) -> Result<Response<Incoming>, String> {
        let host = from.host().unwrap_or_default().to_owned();
        let port = from.port_u16().unwrap_or(80);
        let stall_us = self.fetcher.options.stall_us;
        let stall = Duration::from_micros(stall_us.max(1));
        // The socket is the user's, as it would be if the task itself asked.
        let stream = means.as_user(move || connect(&host, port, stall)).await?;
        let stream = Async::new(stream).map_err(|error| error.to_string())?;
        let mut builder = hyper::client::conn::http1::Builder::new();
        let io = FuturesIo::new(smol::net::TcpStream::from(stream));
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
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(HOST, HeaderValue::from_str(host).map_err(|error| error.to_string())?)
            .header(USER_AGENT, "mesita")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = alarm::within(stall_us, sender.send_request(request)).await;
        answer.ok_or_else(|| self.silent())?.map_err(|error| error.to_string())
    }

    fn silent(&self) -> String {
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
        let (mut waits, mut len) = (Vec::new(), 0u64);
        loop {
            let frame = alarm::within(self.fetcher.options.stall_us, answer.frame()).await;
            let Some(frame) = frame.ok_or_else(|| self.silent())? else { break };
            let frame = frame.map_err(|error| error.to_string())?;
            let Some(bytes) = frame.data_ref() else { continue };
            means.budget.take(bytes.len() as u64).map_err(|error| error.to_string())?;
            len += bytes.len() as u64;
            waits.extend_from_slice(bytes);
            if waits.len() >= CHUNK {
                write(&into, std::mem::take(&mut waits)).await?;
            }
        }
        write(&into, waits).await?;
        Ok(len)
    }
}

async fn write(into: &Arc<File>, bytes: Vec<u8>) -> Result<(), String> {
    let into = Arc::clone(into);
    let written = blocking::unblock(move || (&*into).write_all(&bytes));
    written.await.map_err(|error| error.to_string())
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
    let absolute = if location.starts_with('/') && !location.starts_with("//") {
        format!("http://{}{location}", from.authority().map_or("", |of| of.as_str()))
    } else {
        location.to_owned()
    };
    if !absolute.starts_with("http://") {
        return Err(format!("the server leads to {location}; only http:// is followed"));
    }
    url(&absolute).map_err(|why| format!("the server leads to {location}, which {why}"))
}
