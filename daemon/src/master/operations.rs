//! What operators change by Mesos' operator API, and by what was there before it: passed on to the
//! core as an operator's call on a connection of its own.

use std::collections::BTreeMap;
use std::rc::Rc;

use hyper::StatusCode;
use mesita_core::Refusal;
use mesita_core::limits::{HEAD_MAX, VERSION_MAX};
use mesita_core::master::Input;
use mesita_core::table::Id;
use mesita_core::wire::hello::Role;
use mesita_core::wire::operator::{OperatorCall, OperatorEvent, OperatorVerb};
use mesita_core::wire::{FrameworkId, Head, Seq, decode};

use super::MasterNode;
use super::requests::unknown;
use crate::clock;
use crate::doors::Caller;
use crate::http::{Early, early};
use crate::once::RequestId;
use crate::pb::mesos::v1 as pb;
use crate::port::with_refs;
use crate::v1::amounts::amount;
use crate::v1::calls::role_trouble;
use pb::master::Call;
use pb::master::call::{Type, UpdateQuota, UpdateWeights};

/// What became of an operation, and why.
pub(super) type Answer = (Result<(), Refusal>, String);

/// Operations that wait for their answers, by their connections.
pub(super) type Waiting = BTreeMap<Id, async_channel::Sender<Answer>>;

impl MasterNode {
    /// A call that changes something; false when it is none.
    #[allow(deprecated)] // Calls that Mesos has given up are answered, too.
    pub(super) async fn change(
        self: &Rc<Self>,
        call: &Call,
        caller: &Caller,
    ) -> Result<bool, Early> {
        let kind = call.r#type();
        if kind == Type::UpdateQuota {
            let none = UpdateQuota::default();
            self.update_quota(call.update_quota.as_ref().unwrap_or(&none), caller).await?;
        } else if kind == Type::SetQuota {
            let request = call.set_quota.as_ref().map(|one| one.quota_request.clone());
            self.put_quota(&request.unwrap_or_default(), caller).await?;
        } else if kind == Type::RemoveQuota {
            let role = call.remove_quota.as_ref().map_or("", |one| &one.role);
            self.remove_quota(role, caller).await?;
        } else if kind == Type::UpdateWeights {
            let none = UpdateWeights::default();
            let update = call.update_weights.as_ref().unwrap_or(&none);
            let weights = update.weight_infos.iter();
            let weights = weights.map(|one| (one.role().to_owned(), one.weight));
            self.update_weights(weights.collect(), caller).await?;
        } else if kind == Type::Teardown {
            let id = call.teardown.as_ref().map_or("", |one| &one.framework_id.value);
            self.teardown(id, caller).await?;
        } else {
            return self.change_agents(call, caller).await;
        }
        Ok(true)
    }

    /// Ends a framework by its id as clients see it.
    pub(super) async fn teardown(self: &Rc<Self>, id: &str, caller: &Caller) -> Result<(), Early> {
        let framework = FrameworkId::parse(id, self.cluster()).ok_or_else(|| {
            early(StatusCode::BAD_REQUEST, "No framework found with specified ID")
        })?;
        self.operate(caller, OperatorVerb::Teardown { framework }).await
    }

    /// Sets weights by role.
    pub(super) async fn update_weights(
        self: &Rc<Self>,
        weights: Vec<(String, f64)>,
        caller: &Caller,
    ) -> Result<(), Early> {
        let mut milli = Vec::new();
        for (role, weight) in &weights {
            let bad = |why: String| {
                early(StatusCode::BAD_REQUEST, format!("Invalid weight for role '{role}': {why}"))
            };
            if let Some(why) = role_trouble(role) {
                return Err(bad(why));
            }
            let weight = amount(*weight).map_err(|bad_number| bad(format!("it {bad_number}")))?;
            let weight = u32::try_from(weight.milli()).unwrap_or(u32::MAX);
            if weight == 0 || weight > mesita_core::limits::WEIGHT_MAX {
                return Err(bad("weights are from 0.001 to 1000".to_owned()));
            }
            milli.push((role, weight));
        }
        for &(role, weight) in &milli {
            self.check_allowed(caller, &OperatorVerb::SetWeight { role, weight })?;
        }
        for (role, weight) in milli {
            self.operate(caller, OperatorVerb::SetWeight { role, weight }).await?;
        }
        Ok(())
    }

    /// Has the core do something that only operators may.
    pub(super) async fn operate(
        self: &Rc<Self>,
        caller: &Caller,
        verb: OperatorVerb<'_>,
    ) -> Result<(), Early> {
        answered(self.ask_core(caller, verb).await?)
    }

    /// The same, with what the core says of it.
    pub(super) async fn ask_core(
        self: &Rc<Self>,
        caller: &Caller,
        verb: OperatorVerb<'_>,
    ) -> Result<Answer, Early> {
        self.check_asked(caller, &verb)?;
        let call = OperatorCall { ticket: 1, verb };
        let kept = self.can_keep(&call);
        kept.map_err(|refusal| early(StatusCode::BAD_REQUEST, refusal.sentence()))?;
        Ok(self.ask_once(caller, call).await)
    }

    /// Puts a call to the core on a connection of its own; what it says. `request`: to be kept with
    /// what it changes.
    pub(super) async fn put_verb(
        self: &Rc<Self>,
        caller: &Caller,
        call: &OperatorCall<'_>,
        request: Option<(RequestId, u64)>,
    ) -> Answer {
        let full = |what| (Err(Refusal::QueueFull), format!("{what}: see --size on the master"));
        let Some(number) = self.number_of(caller) else {
            return full("no room for another caller");
        };
        let Some(conn) = self.conns.begin() else { return full("too many connections") };
        let (sender, receiver) = async_channel::bounded(1);
        self.waiting.borrow_mut().insert(conn, sender.clone());
        self.port.put(&Input::Opened {
            conn,
            role: Role::Client,
            version: VERSION_MAX,
            caller: number,
            head_max: u32::try_from(HEAD_MAX).unwrap_or(u32::MAX),
        });
        self.asks_core(conn, request, &call.verb);
        // Our own types have no way to fail.
        let head = postcard::to_allocvec(&Head::OperatorCall(*call)).unwrap_or_default();
        let me = self.me.clone();
        with_refs(&[], |bodies| {
            let verdicts = Seq::EMPTY;
            let input = Input::Frame { conn, head: &head, bodies, verdicts };
            self.port.put_then(&input, Vec::new(), move |result| {
                // A reply comes first, unless the core could not even read the call.
                if let Err(refusal) = result {
                    me.upgrade().iter().for_each(|me| me.core_answered(conn, false));
                    let _ = sender.try_send((Err(refusal), refusal.sentence().to_owned()));
                }
            });
        });
        let answer = receiver.recv().await;
        self.waiting.borrow_mut().remove(&conn);
        self.conns.end(conn);
        self.port.put(&Input::Closed { conn, since: clock::now() });
        answer.unwrap_or_else(|_| unknown())
    }

    /// True for a connection on which an operator is answered.
    pub(super) fn is_operator(&self, conn: Id) -> bool {
        self.operators.borrow().contains(&conn) || self.waiting.borrow().contains_key(&conn)
    }

    /// The answer to an operation; false for whoever waits for none.
    pub(super) fn answer_operation(&self, conn: Id, head: &[u8]) -> bool {
        let waiting = self.waiting.borrow();
        let Some(sender) = waiting.get(&conn) else { return false };
        if let Ok(Head::OperatorEvent(OperatorEvent::Reply { result, message, .. })) = decode(head)
        {
            // Who asked may be gone.
            let _ = sender.try_send((result, message.to_owned()));
        }
        true
    }
}

/// What the core says of an operation, for an HTTP client.
pub(super) fn answered((result, message): Answer) -> Result<(), Early> {
    result.map_err(|refusal| {
        // A race with offers, as in Mesos, an agent that is away, or no room: to be tried again.
        let passes = refusal.http() == 503
            || matches!(refusal, Refusal::NotAvailable | Refusal::InUse | Refusal::RequestReused);
        let status = if refusal == Refusal::Denied || passes {
            StatusCode::from_u16(refusal.http()).unwrap_or_default()
        } else {
            StatusCode::BAD_REQUEST
        };
        let sentence = if message.is_empty() { refusal.sentence() } else { &message };
        early(status, sentence)
    })
}
