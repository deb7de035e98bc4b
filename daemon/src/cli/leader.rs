//! Mesos' HTTP API of the leader, and of agents by way of it, inside of frames: who asks has proven a
//! credential that goes nowhere.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use mesita_core::wire::AgentId;
use mesita_core::wire::svc::Stream;
use serde_json::Value;
use smol::LocalExecutor;
use smol_hyper::rt::FuturesIo;

use super::{Failure, NO_MASTER, find};
use crate::client::asker::Asker;
use crate::conn::Pipe;
use crate::conn::carried::{ROOM, carry};
use crate::flags::Where;
use crate::http::body::Body;

/// A connection to the leader.
pub(super) struct Leader {
    asker: Asker,
    /// What goes on beside, for as long as [`Leader::during`] waits.
    pub(super) tasks: LocalExecutor<'static>,
}

impl Leader {
    /// Connects to it, by way of whoever is known.
    pub(super) async fn find(at: &Where) -> Result<Self, Failure> {
        Ok(Self { asker: find::ask(at).await?, tasks: LocalExecutor::new() })
    }

    /// What the leader has at a path, as JSON.
    pub(super) async fn told(at: &Where, path: &str) -> Result<Value, Failure> {
        let leader = Self::find(at).await?;
        let asking = async {
            let request = Request::builder().uri(path).body(Body::of(&b""[..]));
            let answer = leader.ask(request.map_err(Failure::plain)?).await?;
            let body = answer.into_body().collect().await.map_err(Failure::plain)?;
            serde_json::from_slice(&body.to_bytes()).map_err(Failure::plain)
        };
        leader.during(asking).await
    }

    /// Keeps the connection going while `ask` asks.
    pub(super) async fn during<T>(
        &self,
        ask: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.tasks.run(self.asker.during(ask)).await.map_err(Failure::plain)?
    }

    /// Sends a request on a stream of its own.
    pub(super) async fn ask(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Failure> {
        let failed =
            |why: &dyn std::fmt::Display| Failure::new(NO_MASTER, format!("the master: {why}"));
        let handle = self.asker.open(Stream::Http { agent: AgentId::NONE });
        let handle = handle.ok_or_else(|| failed(&"it serves no more streams"))?;
        let (near, far) = Pipe::pair(ROOM);
        self.tasks.spawn(carry(handle, far)).detach();
        let shaken = handshake(FuturesIo::new(near.join())).await;
        let (mut sender, connection) = shaken.map_err(|error| failed(&error))?;
        self.tasks.spawn(connection).detach();
        request.headers_mut().insert(HOST, HeaderValue::from_static("master"));
        sender.send_request(request).await.map_err(|error| failed(&error))
    }
}
