//! What agents answer, served by the leader under `/agent/<agent id>/...` over the connection that
//! the agent has made: it works from behind NAT, and two agents at one address are two.

use std::cell::RefCell;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, ORIGIN};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri};
use mesita_core::doors::{ANYONE, Rights};
use mesita_core::wire::AgentId;
use mesita_core::wire::svc::Stream;
use smol_hyper::rt::FuturesIo;

use super::MasterNode;
use crate::alarm;
use crate::audit::calls::{at_agent, shown};
use crate::bodies::Bodies;
use crate::conn::Pipe;
use crate::conn::carried::{Line, ROOM, carry};
use crate::conn::streams::Streams;
use crate::doors::Caller;
use crate::http::body::Body;
use crate::http::media::is_stream;
use crate::http::request::first_record;
use crate::http::{Early, Reply, Visit, early, request};
use crate::legacy;
use crate::pb::mesos::v1::agent::Call;
use crate::pb::mesos::v1::agent::call::Type;

/// How long an agent may take to begin its answer, in µs.
const ANSWER_US: u64 = 30_000_000;

impl MasterNode {
    /// Passes a request on to the agent that its path names.
    pub(super) async fn to_agent(self: Rc<Self>, visit: Visit) -> Reply {
        match self.pass_on(visit).await {
            Ok(reply) => reply,
            Err(reply) => *reply,
        }
    }

    async fn pass_on(self: &Rc<Self>, visit: Visit) -> Result<Reply, Early> {
        self.leads_or_not()?;
        let uri = visit.request.uri().clone();
        let (agent, path) = named(&uri, self.cluster()).ok_or_else(|| {
            let message = "there is no such agent: a path is /agent/<agent id>/...";
            early(StatusCode::NOT_FOUND, message)
        })?;
        let caller = visit.caller.clone();
        let shown = agent.shown(self.cluster()).to_string();
        if let Some(from) = giver(visit.request.method(), &path) {
            caller.heed.asks("bring image", format!("{shown} {} of {from}", blob(&path)));
            return self.hand_on(&caller, &from, agent, path).await;
        }
        // An executor's token is the agent's to look at: who shows none has nothing to ask it.
        let is_stranger = caller.name == ANYONE && !caller.rights.has(Rights::OPERATE);
        if is_stranger && !visit.request.headers().contains_key(AUTHORIZATION) {
            let message = "401 Unauthorized. Expecting the token of the executor's environment, \
                           MESOS_EXECUTOR_AUTHENTICATION_TOKEN, as a bearer token.";
            return Err(early(StatusCode::UNAUTHORIZED, message));
        }
        let (passed, change) = passed(&self.port.bodies, visit.request, path, is_stranger).await?;
        match change {
            Change::None => caller.heed.done(),
            Change::Unnamed => {}
            Change::Named(what, of) => {
                caller.heed.asks(what, format!("{shown} {of}").trim_end());
            }
        }
        self.carry_on(agent, &caller, passed).await
    }

    /// Has the agent answer.
    async fn carry_on(
        self: &Rc<Self>,
        agent: AgentId,
        caller: &Caller,
        mut passed: Request<Body>,
    ) -> Result<Reply, Early> {
        let mut sender = self.reach(agent, caller).await?;
        if caller.principal().is_some() {
            // It was for this master, and no agent has to see it.
            passed.headers_mut().remove(AUTHORIZATION);
        }
        let streams = is_stream(passed.headers());
        let answer = answer_of(&mut sender, passed, streams).await?;
        Ok(answer.map(Body::Passed))
    }

    /// What one agent keeps becomes another one's, for who operates both: neither of them asks for it.
    async fn hand_on(
        self: &Rc<Self>,
        caller: &Caller,
        from: &str,
        to: AgentId,
        path: PathAndQuery,
    ) -> Result<Reply, Early> {
        let giver = AgentId::parse(from, self.cluster())
            .ok_or_else(|| early(StatusCode::NOT_FOUND, format!("there is no agent `{from}`")))?;
        let mut sender = self.reach(giver, caller).await?;
        let asked = request_of(Method::GET, path.clone(), Body::of(""));
        let given = answer_of(&mut sender, asked, false).await?;
        if given.status() != StatusCode::OK {
            return Ok(given.map(Body::Passed));
        }
        let mut taker = self.reach(to, caller).await?;
        let put = request_of(Method::PUT, path, Body::Passed(given.into_body()));
        let answer = answer_of(&mut taker, put, true).await?;
        Ok(answer.map(Body::Passed))
    }

    /// A connection inside of the one that an agent has made, for what a caller asks.
    async fn reach(
        self: &Rc<Self>,
        agent: AgentId,
        caller: &Caller,
    ) -> Result<SendRequest<Body>, Early> {
        let conn = self.connection_of(agent).ok_or_else(|| {
            early(StatusCode::SERVICE_UNAVAILABLE, "the agent is not connected now")
        })?;
        let full = || {
            let message = "the agent has as many streams open as it can";
            early(StatusCode::SERVICE_UNAVAILABLE, message)
        };
        let handle = Streams::open(&conn, Stream::Http { agent }).ok_or_else(full)?;
        let (near, far) = Pipe::pair(ROOM);
        self.tasks.go(carry(handle, far));
        let line = Line(caller).to_string();
        let Pipe { reading, mut writing, ends, .. } = near;
        let said = futures_lite::AsyncWriteExt::write_all(&mut writing, line.as_bytes()).await;
        said.map_err(|_| gone())?;
        let io = FuturesIo::new(Pipe { reading, writing, ends, proved: None }.join());
        let (sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|_| gone())?;
        self.tasks.go(async move {
            if let Err(error) = connection.await {
                log::debug!("an answer of an agent: {error}");
            }
        });
        Ok(sender)
    }
}

fn gone() -> Early {
    early(StatusCode::BAD_GATEWAY, "the agent does not answer")
}

/// What an agent answers. Who goes on writing is answered when that is over.
async fn answer_of(
    sender: &mut SendRequest<Body>,
    request: Request<Body>,
    streams: bool,
) -> Result<Response<Incoming>, Early> {
    let answered = sender.send_request(request);
    let answer = match streams {
        true => Some(answered.await),
        false => alarm::within(ANSWER_US, answered).await,
    };
    let answer = answer
        .ok_or_else(|| early(StatusCode::GATEWAY_TIMEOUT, "the agent takes longer than 30 s"))?;
    let mut answer = answer.map_err(|_| gone())?;
    answer.headers_mut().remove(CONNECTION);
    Ok(answer)
}

/// A request of this master's own.
fn request_of(method: Method, path: PathAndQuery, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    (*request.method_mut(), *request.uri_mut()) = (method, Uri::from(path));
    request.headers_mut().insert(HOST, HeaderValue::from_static("agent"));
    request
}

/// The agent whose content of an image another one is to have.
fn giver(method: &Method, path: &PathAndQuery) -> Option<String> {
    let is = method == Method::PUT && path.path().starts_with("/images/blobs/");
    legacy::query(path.query().filter(|_| is)).remove("from")
}

/// The agent that a path names, and the path there.
fn named(uri: &Uri, cluster: u64) -> Option<(AgentId, PathAndQuery)> {
    let whole = uri.path_and_query()?.as_str().strip_prefix("/agent/")?;
    let (id, rest) = whole.split_once('/')?;
    Some((AgentId::parse(id, cluster)?, format!("/{rest}").parse().ok()?))
}

/// The content of an image that a path is of.
fn blob(path: &PathAndQuery) -> &str {
    path.path().rsplit('/').next().unwrap_or_default()
}

/// What a request changes at an agent.
enum Change {
    /// Nothing, or it is an executor's word of its own task.
    None,
    /// What its method and path say.
    Unnamed,
    /// This, of that.
    Named(String, String),
}

/// The request as it goes on, and what it changes at the agent.
async fn passed(
    bodies: &RefCell<Bodies>,
    visit: Request<Incoming>,
    path: PathAndQuery,
    is_stranger: bool,
) -> Result<(Request<Body>, Change), Early> {
    let at = path.path().strip_prefix("/slave(1)").unwrap_or(path.path());
    let executor = at == "/api/v1/executor" || at.starts_with("/api/v1/executor/");
    let calls = visit.method() == Method::POST && at.starts_with("/api/v1") && !executor;
    let of_path = if executor { Change::None } else { Change::Unnamed };
    let (mut parts, body) = visit.into_parts();
    parts.uri = Uri::from(path);
    // Of this connection alone (RFC 9110 §7.6.1); what is read whole has a length that is known.
    for name in [CONNECTION, HeaderName::from_static("transfer-encoding")] {
        parts.headers.remove(name);
    }
    // Which page it is for was looked at here.
    for name in [ORIGIN, HeaderName::from_static("sec-fetch-site")] {
        parts.headers.remove(name);
    }
    parts.headers.insert(HOST, HeaderValue::from_static("agent"));
    let streams = is_stream(&parts.headers);
    let bytes = match streams {
        _ if is_stranger => request::short(bodies, body).await?,
        true => {
            // Nothing else is told in a stream. Which container it is, its first record says.
            let (call, body) = first_record::<Call>(&parts.headers, body).await;
            let change = call.as_ref().and_then(at_agent);
            let (what, of) = change.unwrap_or_else(|| {
                (shown(Type::AttachContainerInput.as_str_name()), String::new())
            });
            let change = if calls { Change::Named(what, of) } else { of_path };
            return Ok((Request::from_parts(parts, body), change));
        }
        false => request::whole(bodies, body).await?,
    };
    // What cannot be read here is refused there.
    let call = request::message_in::<Call>(&parts.headers, &bytes).filter(|_| calls);
    let change = match call.as_ref().map(|call| (call, at_agent(call))) {
        None => of_path,
        Some((call, None)) if call.r#type() == Type::Unknown => of_path,
        Some((_, None)) => Change::None,
        Some((_, Some((what, of)))) => Change::Named(what, of),
    };
    Ok((Request::from_parts(parts, Body::of(bytes)), change))
}
