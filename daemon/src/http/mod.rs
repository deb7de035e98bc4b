//! HTTP on the port of a daemon: its health, its version and its gauges.

use std::convert::Infallible;
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use smol_hyper::rt::FuturesIo;

use crate::alarm::{self, Alarm};
use crate::conn::{Ends, Pipe};
use crate::doors::Denied;
use crate::passage::gauges;

/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(30);
/// Bytes of a connection's buffer.
const BUFFER: usize = 16 * 1024;

/// A core's gauges as they were told, and the IO side's own, when they are there.
pub(crate) type Gauges<'s> =
    Pin<Box<dyn Future<Output = (Vec<u8>, Vec<(&'static str, u64)>)> + 's>>;

/// A daemon that can be asked.
pub(crate) trait Site {
    /// `master` or `agent`.
    fn kind(&self) -> &'static str;
    /// Whether its callers are let in.
    fn admits(&self, ends: &Ends) -> Result<(), Denied>;
    /// What it says of its health, beside that it is there.
    fn health(&self) -> Value;
    /// Its gauges: the core's, as they were told, and the IO side's own.
    fn gauges(&self) -> Gauges<'_>;
}

/// Serves one connection to its end.
pub(crate) async fn serve<S: Site + 'static>(pipe: Pipe, site: Rc<S>) {
    let ends = pipe.ends;
    if let Err(denied) = site.admits(&ends) {
        log::warn!("{}: {denied}", ends.peer());
        let site = Turned(denied);
        return converse(pipe, move |_| {
            let answer = text(StatusCode::FORBIDDEN, site.0.to_string());
            async move { answer }
        })
        .await;
    }
    converse(pipe, move |request| {
        let site = Rc::clone(&site);
        async move { answer(&request, &*site).await }
    })
    .await;
}

struct Turned(Denied);

async fn converse<F, A>(pipe: Pipe, answer: F)
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<Full<Bytes>>>,
{
    let peer = pipe.ends.peer();
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(Alarms).header_read_timeout(HEAD).max_buf_size(BUFFER);
    if let Err(error) = builder.serve_connection(FuturesIo::new(pipe.join()), service).await {
        log::debug!("{peer}: {error}");
    }
}

async fn answer(request: &Request<Incoming>, site: &dyn Site) -> Response<Full<Bytes>> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/health" | "/version" | "/metrics" if !reads => {
            text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed here".to_owned())
        }
        "/health" => object(site.health()),
        "/version" => object(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "protocol_min": mesita_core::limits::VERSION_MIN,
            "protocol_max": mesita_core::limits::VERSION_MAX,
        })),
        "/metrics" => {
            let (core, own) = site.gauges().await;
            let mut response = text(StatusCode::OK, prometheus(site.kind(), &core, &own));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        path => text(
            StatusCode::NOT_FOUND,
            format!("there is nothing at {path}; there is /health, /version and /metrics"),
        ),
    }
}

fn text(status: StatusCode, mut text: String) -> Response<Full<Bytes>> {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn object(value: Value) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, value.to_string());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Gauges in Prometheus' text form. Names that begin in upper case are refusals, by their kind.
fn prometheus(kind: &str, core: &[u8], own: &[(&'static str, u64)]) -> String {
    let mut text = String::new();
    let mut refused = String::new();
    for (name, value) in gauges(core).chain(own.iter().copied()) {
        if name.starts_with(|first: char| first.is_ascii_uppercase()) {
            let _ = writeln!(refused, "mesita_{kind}_refused_total{{refusal=\"{name}\"}} {value}");
            continue;
        }
        let sort = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(text, "# TYPE mesita_{kind}_{name} {sort}\nmesita_{kind}_{name} {value}");
    }
    if !refused.is_empty() {
        let _ = write!(text, "# TYPE mesita_{kind}_refused_total counter\n{refused}");
    }
    text
}

/// hyper's timers, by the alarms of this thread.
#[derive(Clone, Copy, Debug)]
struct Alarms;

/// A timer of hyper.
struct Sleep(Alarm);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl hyper::rt::Sleep for Sleep {}

impl hyper::rt::Timer for Alarms {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(alarm::after(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }
}
