//! Who the masters are: shown, and changed by operators.

use std::rc::Rc;

use hyper::{Method, StatusCode};
use mesita_core::Refusal;
use mesita_core::doors::Rights;
use mesita_core::wire::Head;
use mesita_core::wire::operator::{OperatorCall, OperatorEvent, OperatorVerb};
use serde::Deserialize;
use serde_json::Value;

use super::MasterNode;
use super::operations::Answer;
use super::operator::OPERATES_NOT;
use crate::conn::Conn;
use crate::doors::Caller;
use crate::http::body::Body;
use crate::http::{Reply, Visit, early, only, request, status};
use crate::set::node::SetNode;
use crate::set::roster::{No, Wish};

/// What is posted to `/masters/change`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    /// The id of the master that is gone.
    #[serde(default)]
    remove: u8,
    /// How the fingerprint of a new one's key begins.
    #[serde(default)]
    add: String,
    #[serde(default)]
    force: bool,
}

impl MasterNode {
    /// The masters, and those that ask to be one, as this one knows them.
    pub(super) fn rows_of_masters(&self) -> Vec<Value> {
        self.of_set.borrow().upgrade().map_or_else(Vec::new, |set| set.rows_of_masters())
    }

    /// `GET /masters`: what this very master knows, whoever leads.
    pub(super) fn get_masters(&self, visit: &Visit) -> Reply {
        if let Err(reply) = only(visit.request.method(), &[Method::GET, Method::HEAD]) {
            return *reply;
        }
        let text = Value::from(self.rows_of_masters()).to_string();
        let mut reply = Reply::new(Body::of(text.into_bytes()));
        let json = hyper::header::HeaderValue::from_static("application/json");
        reply.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
        reply
    }

    /// `POST /masters/change`
    pub(super) async fn post_masters(self: Rc<Self>, visit: Visit) -> Reply {
        let change = async {
            self.leads_or_not()?;
            only(visit.request.method(), &[Method::POST])?;
            if !visit.caller.rights.has(Rights::OPERATE) {
                let message = OPERATES_NOT;
                return Err(early(StatusCode::FORBIDDEN, message));
            }
            let bytes = request::whole(&self.port.bodies, visit.request.into_body()).await?;
            let bad = |why: String| early(StatusCode::BAD_REQUEST, why);
            let Posted { remove, add, force } =
                serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
            let verb = OperatorVerb::Masters { remove, add: &add, force };
            self.check_asked(&visit.caller, &verb)?;
            mesita_core::wire::Check::check(&verb).map_err(|error| bad(error.to_string()))?;
            let done = self.change_masters(Wish { remove, add, force }).await;
            done.map_err(|(refusal, why)| {
                early(StatusCode::from_u16(refusal.http()).unwrap_or_default(), why)
            })
        };
        match change.await {
            Ok(()) => status(StatusCode::OK),
            Err(reply) => *reply,
        }
    }

    /// True for a call that is answered here: the election's side does it.
    pub(super) fn changes_masters(&self, conn: &Rc<Conn>, call: &OperatorCall<'_>) -> bool {
        let OperatorVerb::Masters { remove, add, force } = call.verb else { return false };
        let (wish, ticket) = (Wish { remove, add: add.to_owned(), force }, call.ticket);
        let (me, conn) = (self.me.clone(), Rc::clone(conn));
        self.tasks.go(async move {
            let Some(me) = me.upgrade() else { return };
            let (result, message) = me.operates_masters(&conn.caller, wish).await;
            let message = &message;
            conn.say(&Head::OperatorEvent(OperatorEvent::Reply { ticket, result, message }));
        });
        true
    }

    /// The same for whoever operates the cluster.
    pub(super) async fn operates_masters(&self, caller: &Caller, wish: Wish) -> Answer {
        if !caller.rights.has(Rights::OPERATE) {
            return (Err(Refusal::Denied), Refusal::Denied.sentence().to_owned());
        }
        match self.change_masters(wish).await {
            Ok(()) => (Ok(()), String::new()),
            Err((refusal, why)) => (Err(refusal), why),
        }
    }

    async fn change_masters(&self, wish: Wish) -> Result<(), No> {
        let set: Option<Rc<SetNode>> = self.of_set.borrow().upgrade();
        let Some(set) = set.filter(|_| self.options.standing.in_set) else {
            let why = "this master is the only one of its cluster: start it with --masters that \
                       names it, so that others can ask to follow";
            return Err((Refusal::Unsupported, why.to_owned()));
        };
        set.change_masters(&wish).await
    }
}
