//! HTTP on the port of a daemon.
//!
//! | file | concern |
//! |---|---|
//! | `request` | the body of a request, bounded in bytes and time |
//! | `body`, `records` | the body of an answer: at once, or as a stream of records |
//! | `long` | long answers, of all of them at once |
//! | `path` | paths as libprocess reads them |
//! | `noted` | what is told of requests that change something |
//! | `origin` | which pages a browser may change something for |
//! | `pack` | answers packed by gzip |
//! | `patient` | how long a connection waits for its other end |
//! | `idle` | connections on which nothing is asked |
//! | `media` | JSON or protobuf: which one it is, which one is wanted |
//! | `transcode` | messages from and to JSON |

pub(crate) mod body;
pub(crate) mod idle;
pub(crate) mod long;
pub(crate) mod media;
mod noted;
mod origin;
mod pack;
mod path;
mod patient;
pub(crate) mod records;
pub(crate) mod request;
pub(crate) mod transcode;

use std::convert::Infallible;
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use smol_hyper::rt::FuturesIo;

use crate::access::{Access, Guest, endpoint, realm};
use crate::conn::listen::{Stranger, say};
use crate::conn::{Ends, Pipe};
use crate::doors::{Caller, Denied};
use crate::io_thread::Tasks;
use crate::legacy::pieces::Pieces;
use crate::legacy::{self, master::wrapped};
use crate::logging;
use crate::passage::gauges;
use crate::v1::about::built;
use crate::v1::events::MESOS_VERSION;
use body::{Body, Sent};
use idle::Idle;
use media::Media;
use mesita_core::acls::Action;
use mesita_core::doors::{ANYONE, Rights};
pub(crate) use noted::Asked;
use noted::Noted;
use patient::{Doing, HEAD_US, Patience, Patient, UNREAD_US};
use records::Records;

/// Bytes of a connection's buffer.
const BUFFER: usize = 16 * 1024;

/// An answer.
pub(crate) type Reply = Response<Body>;
/// An answer that comes before the question is understood.
pub(crate) type Early = Box<Reply>;
/// An answer that is being made.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Reply>>>;

/// A core's gauges as they were told, and the IO side's own, when they are there.
pub(crate) type Gauges<'s> =
    Pin<Box<dyn Future<Output = (Vec<u8>, Vec<(&'static str, u64)>)> + 's>>;

/// A request, with what is known of who makes it.
pub(crate) struct Visit {
    /// The request.
    pub(crate) request: Request<Incoming>,
    /// The connection that it came on.
    pub(crate) ends: Ends,
    /// Who is at its other end.
    pub(crate) caller: Caller,
}

/// A daemon that can be asked.
pub(crate) trait Site {
    /// `master` or `agent`.
    fn kind(&self) -> &'static str;
    /// Who is at the other end, if they are let in.
    fn caller(&self, ends: &Ends) -> Result<Caller, Denied>;
    /// Who may use it.
    fn access(&self) -> &Access;
    /// The name that its operator gave it, if any.
    fn named(&self) -> Option<&str>;
    /// What goes on beside what it answers.
    fn tasks(&self) -> &Tasks;
    /// Connections to it on which nothing is asked.
    fn idle(&self) -> &Idle;
    /// What it says of its health, beside that it is there.
    fn health(&self) -> Value;
    /// Its gauges: the core's, as they were told, and the IO side's own.
    fn gauges(&self) -> Gauges<'_>;
    /// Takes note of what somebody asked for, if nobody has.
    fn note(&self, asked: &Asked<'_>);
    /// Answers what not every daemon does; the visit comes back when nothing is there.
    fn visit(self: Rc<Self>, visit: Visit) -> Result<Answering, Box<Visit>>;
    /// Answers a caller that is let in nowhere else; none: it is not let in here, either.
    fn outcast(self: Rc<Self>, request: Request<Incoming>, denied: Denied) -> Option<Answering>;
}

/// Serves one connection to its end.
pub(crate) async fn serve<S: Site + 'static>(pipe: Pipe, site: Rc<S>, stranger: Stranger) {
    let caller = site.caller(&pipe.ends);
    serve_stranger(pipe, site, caller, Some(stranger)).await;
}

/// Serves one connection of a caller that is known.
pub(crate) async fn serve_as<S: Site + 'static>(
    pipe: Pipe,
    site: Rc<S>,
    caller: Result<Caller, Denied>,
) {
    serve_stranger(pipe, site, caller, None).await;
}

async fn serve_stranger<S: Site + 'static>(
    pipe: Pipe,
    site: Rc<S>,
    caller: Result<Caller, Denied>,
    stranger: Option<Stranger>,
) {
    let ends = pipe.ends;
    let peer = ends.peer();
    let doing = Rc::new(Doing::of(stranger));
    let times = Patience { unread: UNREAD_US, head: HEAD_US };
    let patient = Patient::new(pipe.join(), times, Rc::clone(&doing), site.idle().clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        // What is passed on was read so where it came in.
        let is_new = ends != Ends::Memory;
        if let Some(uri) = is_new.then(|| path::plain(request.uri())).flatten() {
            *request.uri_mut() = uri;
        }
        let (site, caller, doing) = (Rc::clone(&site), caller.clone(), Rc::clone(&doing));
        doing.answers.set(true);
        let gzip = pack::takes_gzip(request.headers());
        async move {
            if origin::is_foreign(request.method(), request.uri(), request.headers(), site.named())
            {
                say(log::Level::Info, &ends, origin::SENTENCE);
                return Ok(answered(text(StatusCode::FORBIDDEN, origin::SENTENCE), doing, None));
            }
            let proven = caller.as_ref().is_ok_and(|known| known.principal().is_some());
            // Whoever is in this process, comes through it, or has proven who it is has been looked
            // at before.
            let visitor = if ends == Ends::Memory || proven {
                Ok(caller)
            } else {
                let realm = realm(site.kind(), request.uri().path());
                site.access().visitor(realm, request.headers(), caller)
            };
            if let Ok(Ok(caller)) = &visitor
                && (caller.name != ANYONE || caller.rights != Rights::NONE)
            {
                doing.let_in();
            }
            let access = site.access();
            let mut guest =
                visitor.as_ref().ok().and_then(|known| access.guest(known.as_ref().ok()?));
            let reply = match visitor {
                Ok(Ok(caller)) => {
                    let answering = answer(Visit { request, ends, caller }, Rc::clone(&site));
                    match guest.take() {
                        None => answering.await,
                        Some(known) => {
                            let over = async {
                                known.over().await;
                                None
                            };
                            let in_time = async { Some(answering.await) };
                            let reply = futures_lite::future::or(over, in_time).await;
                            // What is said to who is no more is no answer that ends with them.
                            guest = reply.is_some().then_some(known);
                            reply.unwrap_or_else(|| text(StatusCode::UNAUTHORIZED, OVER))
                        }
                    }
                }
                Ok(Err(denied)) => match site.outcast(request, denied) {
                    Some(answering) => answering.await,
                    None => {
                        say(log::Level::Info, &ends, &denied.to_string());
                        text(StatusCode::FORBIDDEN, denied.to_string())
                    }
                },
                Err(reply) => {
                    say(log::Level::Info, &ends, "shows no credential where one is needed");
                    *reply
                }
            };
            let reply = if gzip { pack::packed(reply) } else { reply };
            Ok::<_, Infallible>(answered(reply, doing, guest))
        }
    });
    let mut builder = http1::Builder::new();
    // Names of headers as Mesos writes them: not every client knows that case is nothing.
    builder.title_case_headers(true);
    // `Patient` has the times: hyper would take a client that is silent for one that is slow.
    builder.header_read_timeout(None).max_buf_size(BUFFER);
    if let Err(error) = builder.serve_connection(FuturesIo::new(patient), service).await {
        log::debug!("{peer}: {error}");
    }
}

/// Said to a principal that is not let in any more while it waits for an answer.
const OVER: &str = "401 Unauthorized. This principal is no more, or is another by now.";

/// An answer that says when it was sent.
fn answered(reply: Reply, doing: Rc<Doing>, guest: Option<Guest>) -> Response<Sent> {
    doing.streams.set(reply.body().is_stream());
    let status = reply.status();
    doing.answered(status.is_success() || status.is_redirection());
    reply.map(|body| Sent { body, doing, guest })
}

async fn answer<S: Site>(mut visit: Visit, site: Rc<S>) -> Reply {
    let Some(noted) = Noted::of(&mut visit, &site) else { return answer_it(visit, site).await };
    let reply = answer_it(visit, site).await;
    noted.answered(&reply);
    reply
}

async fn answer_it<S: Site>(visit: Visit, site: Rc<S>) -> Reply {
    let path = visit.request.uri().path().to_owned();
    if let Some(endpoint) = endpoint(&path)
        && let Err(reply) = site.access().check(&visit.caller, Action::GetEndpoint, Some(endpoint))
    {
        return *reply;
    }
    // Under the name of the process, too, there is what tells whether it is well.
    let path = match path.as_str() {
        "/master/health" | "/slave(1)/health" => "/health",
        "/system/stats" => "/system/stats.json",
        path => path,
    };
    match path {
        "/health" | "/version" | "/metrics" | "/system/stats.json" => {
            if let Err(reply) = only(visit.request.method(), &[Method::GET, Method::HEAD]) {
                return *reply;
            }
        }
        "/logging/toggle" => return toggle(&visit, &*site),
        _ => {
            return match site.visit(visit) {
                Ok(answering) => answering.await,
                Err(_) => text(StatusCode::NOT_FOUND, format!("there is nothing at {path}")),
            };
        }
    }
    let told = match path {
        "/health" => site.health(),
        "/version" => version(),
        "/system/stats.json" => crate::load::stats().into(),
        _ => {
            let (core, own) = site.gauges().await;
            return exposition(prometheus(site.kind(), &core, &own));
        }
    };
    let query = legacy::query(visit.request.uri().query());
    object(&told, query.get("jsonp").map(String::as_str))
}

/// Logs more for a while, or says how much more it does.
fn toggle<S: Site>(visit: &Visit, site: &S) -> Reply {
    if !visit.caller.rights.has(Rights::OPERATE) {
        return text(StatusCode::FORBIDDEN, "only root and the daemon's own user may change that");
    }
    if let Err(reply) = site.access().check(&visit.caller, Action::SetLogLevel, None) {
        return *reply;
    }
    match logging::toggled(site.tasks(), visit.request.uri().query()) {
        Ok(said) => text(StatusCode::OK, said),
        Err(why) => text(StatusCode::BAD_REQUEST, why),
    }
}

/// Clients of Mesos choose by its release; ours stands beside it.
fn version() -> Value {
    let mut told = json!({
        "version": MESOS_VERSION,
        "mesita_version": env!("CARGO_PKG_VERSION"),
        "protocol_min": mesita_core::limits::VERSION_MIN,
        "protocol_max": mesita_core::limits::VERSION_MAX,
    });
    for (name, value) in built() {
        told[name] = value;
    }
    told
}

/// An answer unless the method is one of these. Mesos: `MethodNotAllowed`.
pub(crate) fn only(method: &Method, allowed: &[Method]) -> Result<(), Early> {
    if allowed.contains(method) {
        return Ok(());
    }
    let names: Vec<String> = allowed.iter().map(|method| format!("'{method}'")).collect();
    let message = format!(
        "405 Method Not Allowed. Expecting one of {{ {} }}, but received '{method}'.",
        names.join(", ")
    );
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, message);
    let allow = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(ALLOW, allow);
    }
    Err(Box::new(response))
}

/// An answer in a sentence.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Reply {
    let mut response = Response::new(Body::of(text.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// An answer in Prometheus' text form.
pub(crate) fn exposition(metrics: String) -> Reply {
    let mut response = text(StatusCode::OK, metrics);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// An answer in a sentence that comes early.
pub(crate) fn early(status: StatusCode, message: impl Into<String>) -> Early {
    Box::new(text(status, message))
}

/// An answer without a body.
pub(crate) fn status(status: StatusCode) -> Reply {
    let mut response = Response::new(Body::of(""));
    *response.status_mut() = status;
    response
}

/// An answer that is a stream of messages.
pub(crate) fn stream(records: Rc<Records>, media: Media) -> Reply {
    let mut reply = Response::new(Body::records(records));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media.name()));
    reply
}

/// An answer in JSON, written while it is read; wrapped into a call of `function`, if one is named.
pub(crate) fn pieces(mut pieces: Pieces, function: Option<&str>) -> Reply {
    let mut kind = "application/json";
    if let Some((begin, end)) = function.and_then(wrapped) {
        kind = "text/javascript";
        pieces.wrap(begin, end);
    }
    let mut response = Response::new(Body::Pieces(Box::new(pieces)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A short answer in JSON, of which the length is told; wrapped like [`pieces`].
fn object(value: &Value, function: Option<&str>) -> Reply {
    let (kind, begin, end) = match function.and_then(wrapped) {
        Some((begin, end)) => ("text/javascript", begin, end),
        None => ("application/json", String::new(), ""),
    };
    let told = transcode::ascii(format!("{begin}{value}{end}").into_bytes());
    let mut response = Response::new(Body::of(told));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
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
