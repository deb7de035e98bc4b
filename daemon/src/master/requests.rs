//! Calls that may be made again: each has an id, and is done once. What was done is kept by all
//! masters with what it changed, so that whoever leads next answers what this one would have.
//!
//! An id is forgotten when its place is needed, and not before it is [`KEPT_US`] old: whoever makes a
//! call again does so within seconds.

use std::collections::BTreeMap;
use std::rc::Rc;

use mesita_core::Refusal;
use mesita_core::digest::Digest;
use mesita_core::registry::rows::{Request, Row};
use mesita_core::table::Id as Conn;
use mesita_core::time::Time;
use mesita_core::wire::agent::{AgentCall, AgentEvent, OperationState, OperationStatus};
use mesita_core::wire::operator::{OperatorCall, OperatorEvent, OperatorVerb};
use mesita_core::wire::{FrameworkId, Head, decode};

use super::MasterNode;
use super::operations::Answer;
use crate::clock;
use crate::conn::Conn as Connection;
use crate::doors::Caller;
use crate::once::{Again, RequestId};
use crate::set::kept::About;
use crate::set::roster::Wish;

/// An id is known for at least so long, in µs.
const KEPT_US: u64 = 60_000_000;
/// Ids that a master without a registry remembers.
const UNKEPT_MAX: u32 = 64;
/// Characters of an id as agents are told it.
const SHOWN: usize = 32;

/// Somebody who waits for what becomes of a call.
type Waiter = async_channel::Sender<Answer>;

/// A call that was not answered yet.
struct Flying {
    hash: u64,
    waiters: Vec<Waiter>,
}

/// A call that was done.
#[derive(Clone, Copy)]
struct Done {
    hash: u64,
    number: u64,
    since: Time,
    /// In an earlier reign: nobody knows when.
    earlier: bool,
}

/// What becomes of a call that may be made again.
enum Begun {
    /// It was done before.
    Done,
    /// It is being done; whoever made it first began it.
    Flying(async_channel::Receiver<Answer>),
    /// It is to be done now.
    New(async_channel::Receiver<Answer>),
}

/// All calls that may be made again.
#[derive(Default)]
pub(crate) struct Requests {
    done: BTreeMap<RequestId, Done>,
    flying: BTreeMap<RequestId, Flying>,
    /// What the core was asked on these connections, and holds what is kept until it has answered.
    asked: BTreeMap<Conn, (RequestId, u64)>,
    max: Option<u32>,
    number: u64,
    refused: u64,
}

impl Requests {
    /// A reign begins, with room for so many.
    pub(crate) fn begin(&mut self, epoch: u32, max: u32) {
        *self = Self { max: Some(max), number: u64::from(epoch) << 32, ..Self::default() };
    }

    /// A call that was done in an earlier reign.
    pub(crate) fn found(&mut self, request: Request) {
        let Request { id, hash, number } = request;
        self.done.insert(id, Done { hash, number, since: clock::now(), earlier: true });
    }

    fn max(&self) -> usize {
        self.max.unwrap_or(UNKEPT_MAX) as usize
    }

    /// What becomes of a call. Also the id that makes room for it, if one must.
    fn start(
        &mut self,
        id: RequestId,
        hash: u64,
        now: Time,
    ) -> Result<(Begun, Option<RequestId>), Refusal> {
        let other = |known: u64| known != hash && known != 0;
        let (sender, receiver) = async_channel::bounded(1);
        if let Some(done) = self.done.get(&id) {
            return if other(done.hash) {
                Err(Refusal::RequestReused)
            } else {
                Ok((Begun::Done, None))
            };
        }
        if let Some(flying) = self.flying.get_mut(&id) {
            if other(flying.hash) {
                return Err(Refusal::RequestReused);
            }
            flying.waiters.push(sender);
            return Ok((Begun::Flying(receiver), None));
        }
        let forgotten = if self.done.len() + self.flying.len() < self.max() {
            None
        } else {
            Some(self.oldest(now).ok_or(Refusal::RequestsFull)?)
        };
        self.flying.insert(id, Flying { hash, waiters: vec![sender] });
        Ok((Begun::New(receiver), forgotten))
    }

    /// The id that may be forgotten, and is now.
    fn oldest(&mut self, now: Time) -> Option<RequestId> {
        let (id, done) = self.done.iter().min_by_key(|(_, done)| done.number)?;
        let (id, since, earlier) = (*id, done.since, done.earlier);
        // Of those of earlier reigns only the newer ones may still be asked again.
        let few = || self.done.values().filter(|done| done.earlier).count() <= self.max() / 2;
        if now.since(since) < KEPT_US && (!earlier || few()) {
            return None;
        }
        self.done.remove(&id);
        Some(id)
    }

    /// A call was done: to be kept.
    fn do_done(&mut self, id: RequestId, hash: u64, now: Time) -> Request {
        self.number += 1;
        let number = self.number;
        self.done.insert(id, Done { hash, number, since: now, earlier: false });
        Request { id, hash, number }
    }

    /// What became of a call is known to those who wait for it.
    fn answer(&mut self, id: &RequestId, answer: &Answer) {
        for waiter in self.flying.remove(id).map(|flying| flying.waiters).unwrap_or_default() {
            // Who asked may be gone.
            let _ = waiter.try_send(answer.clone());
        }
    }

    /// What of it is in use.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 4] {
        [
            ("requests", self.done.len() as u64),
            ("requests_in_flight", self.flying.len() as u64),
            ("requests_max", self.max() as u64),
            ("requests_refused_total", self.refused),
        ]
    }
}

/// What is said when nobody knows whether a call was done.
pub(super) const OUTCOME_UNKNOWN: &str = "this master leads no more, and whether this was done is not known: \
                                  ask again, with the same id if it has one (Idempotency-Key)";

impl MasterNode {
    /// True when everything that a request asks for was done before, and is not to be looked at as
    /// something new.
    pub(super) fn was_done(&self, caller: &Caller) -> bool {
        caller.again.id().is_some_and(|id| self.requests.borrow().done.contains_key(&id))
    }

    /// What was done of a request is undone: it may be done again.
    pub(super) fn forget_request(&self, caller: &Caller) {
        for id in caller.again.made() {
            self.requests.borrow_mut().done.remove(&id);
            self.set().iter().for_each(|set| set.forget(&About::Request(id)));
        }
    }

    /// Has the core do something once: what came of it, now or when it was asked for before.
    pub(super) async fn ask_once(
        self: &Rc<Self>,
        caller: &Caller,
        call: OperatorCall<'_>,
    ) -> Answer {
        let Some(id) = caller.again.next() else { return self.put_verb(caller, &call, None).await };
        let mut hash = Digest::new();
        hash.value(&call.verb);
        let begun = self.requests.borrow_mut().start(id, hash.finish(), clock::now());
        let (begun, forgotten) = match begun {
            Ok(begun) => begun,
            Err(refusal) => {
                self.requests.borrow_mut().refused += 1;
                return (Err(refusal), refusal.sentence().to_owned());
            }
        };
        if let (Some(forgotten), Some(set)) = (forgotten, self.set()) {
            set.forget(&About::Request(forgotten));
        }
        let receiver = match begun {
            Begun::Done => {
                let kept = self.durable().await;
                return if kept { (Ok(()), String::new()) } else { unknown() };
            }
            Begun::Flying(receiver) => receiver,
            Begun::New(receiver) => {
                self.do_once(caller, id, hash.finish(), call);
                receiver
            }
        };
        receiver.recv().await.unwrap_or_else(|_| unknown())
    }

    /// Does it, whether or not whoever asks waits for it.
    fn do_once(self: &Rc<Self>, caller: &Caller, id: RequestId, hash: u64, call: OperatorCall<'_>) {
        let caller = caller.clone();
        let call = postcard::to_allocvec(&call).unwrap_or_default();
        let me = Rc::clone(self);
        self.tasks.go(async move {
            // Our own types have no way to fail.
            let Ok(call) = postcard::from_bytes::<OperatorCall<'_>>(&call) else { return };
            let mut memory = vec![0; mesita_core::limits::HEAD_MAX];
            let name = shown(&id);
            let call = OperatorCall { verb: named(call.verb, &name, &mut memory), ..call };
            let answer = me.put_verb(&caller, &call, Some((id, hash))).await;
            me.requests.borrow_mut().answer(&id, &answer);
        });
    }

    /// The core is asked for something that is kept with what it changes: both, or neither.
    pub(super) fn asks_core(
        &self,
        conn: Conn,
        request: Option<(RequestId, u64)>,
        verb: &OperatorVerb<'_>,
    ) {
        // What agents do is done when they say so.
        let Some(request) = request.filter(|_| !is_agents(verb)) else { return };
        self.requests.borrow_mut().asked.insert(conn, request);
        self.set().iter().for_each(|set| set.hold());
    }

    /// The core has answered, and everything that it changed was told.
    pub(super) fn core_answers(&self, conn: Conn, head: &[u8]) {
        if !self.requests.borrow().asked.contains_key(&conn) {
            return;
        }
        if let Ok(Head::OperatorEvent(OperatorEvent::Reply { result, .. })) = decode(head) {
            self.core_answered(conn, result.is_ok());
        }
    }

    /// The same, of a call that may have had no answer.
    pub(super) fn core_answered(&self, conn: Conn, done: bool) {
        let Some((id, hash)) = self.requests.borrow_mut().asked.remove(&conn) else { return };
        if done {
            self.keep_request(id, hash);
        }
        self.set().iter().for_each(|set| set.let_go());
    }

    fn keep_request(&self, id: RequestId, hash: u64) {
        let request = self.requests.borrow_mut().do_done(id, hash, clock::now());
        self.set().iter().for_each(|set| set.keep(&Row::Request(request)));
    }

    /// An agent says that it has done an operation that may be asked for again: it forgets it when the
    /// masters have kept that.
    pub(super) fn operation_once(&self, conn: &Rc<Connection>, call: &AgentCall<'_>) {
        let AgentCall::OperationUpdate { framework, status } = call else { return };
        let (id, sequence) = match (read(framework, status), status.uuid) {
            (Some(id), Some(sequence)) => (id, sequence),
            _ => return,
        };
        let known = self.requests.borrow().done.contains_key(&id);
        if status.state == OperationState::Finished && !known {
            let hash = self.requests.borrow().flying.get(&id).map_or(0, |flying| flying.hash);
            self.keep_request(id, hash);
        }
        let (framework, agent) = (*framework, status.operation.agent);
        let (conn, name) = (Rc::clone(conn), status.operation.operation.to_owned());
        self.when_durable(move || {
            let operation =
                mesita_core::wire::agent::OperationRef { operation: &name, agent, provider: "" };
            let event = AgentEvent::AcknowledgeOperation { framework, operation, sequence };
            conn.say(&Head::AgentEvent(event));
        });
    }

    /// This master leads no more: whoever waits for an answer is told that there is none.
    pub(crate) fn answers_unknown(&self) {
        self.deposed.notify(usize::MAX);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for sender in waiting.into_values() {
            let _ = sender.try_send(unknown());
        }
    }

    /// True for a call that is done once; it is answered when it is.
    pub(super) fn does_once(&self, conn: &Rc<Connection>, call: &OperatorCall<'_>) -> bool {
        let OperatorVerb::Once { id, verb } = call.verb else { return false };
        let (ticket, verb) = (call.ticket, verb.to_vec());
        let (me, conn) = (self.me.clone(), Rc::clone(conn));
        self.tasks.go(async move {
            let Some(me) = me.upgrade() else { return };
            let (result, message) = me.answer_once(&conn.caller, id, &verb).await;
            let message = &message;
            conn.say(&Head::OperatorEvent(OperatorEvent::Reply { ticket, result, message }));
        });
        true
    }

    async fn answer_once(self: &Rc<Self>, caller: &Caller, id: RequestId, verb: &[u8]) -> Answer {
        let no = |refusal: Refusal| (Err(refusal), refusal.sentence().to_owned());
        let Ok(verb) = postcard::from_bytes::<OperatorVerb<'_>>(verb) else {
            return no(Refusal::Malformed);
        };
        if let Err(message) = self.allowed(caller, &verb) {
            return (Err(Refusal::Denied), message);
        }
        let call = OperatorCall { ticket: 1, verb };
        if let Err(refusal) = self.can_keep(&call) {
            return no(refusal);
        }
        // The same list of masters again is no change.
        if let OperatorVerb::Masters { remove, add, force } = call.verb {
            let done = self.operates_masters(caller, Wish { remove, add: add.to_owned(), force });
            return done.await;
        }
        let caller = Caller { again: Again::named(id), ..caller.clone() };
        self.ask_once(&caller, call).await
    }
}

/// What is said to whoever waits in vain.
pub(super) fn unknown() -> Answer {
    (Err(Refusal::OutcomeUnknown), OUTCOME_UNKNOWN.to_owned())
}

/// True for what an agent does, which has its own word on it.
const fn is_agents(verb: &OperatorVerb<'_>) -> bool {
    matches!(verb, OperatorVerb::Operate { .. })
}

/// The same under a name that its agent keeps, if an agent does it.
fn named<'v>(verb: OperatorVerb<'v>, name: &'v str, memory: &'v mut [u8]) -> OperatorVerb<'v> {
    let OperatorVerb::Operate { agent, operation } = verb else { return verb };
    let Some(one) = operation.first() else { return verb };
    let list = mesita_core::wire::Scratch::new(memory)
        .seq::<mesita_core::wire::call::Operation<'static>>([one.named(name)]);
    // As large as before, and a name: the core refuses what does not fit.
    list.map_or(verb, |operation| OperatorVerb::Operate { agent, operation })
}

fn shown(id: &RequestId) -> String {
    format!("{:0SHOWN$x}", u128::from_be_bytes(*id))
}

/// The id of an operation that may be asked for again.
fn read(framework: &FrameworkId, status: &OperationStatus<'_>) -> Option<RequestId> {
    let name = status.operation.operation;
    if !framework.is_none() || name.len() != SHOWN {
        return None;
    }
    u128::from_str_radix(name, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Time = Time(KEPT_US);

    fn requests(max: u32) -> Requests {
        let mut requests = Requests::default();
        requests.begin(3, max);
        requests
    }

    fn done(requests: &mut Requests, id: u8, now: Time) {
        requests.flying.remove(&[id; 16]);
        requests.do_done([id; 16], 7, now);
    }

    #[test]
    fn a_call_that_is_made_again_hears_what_the_first_one_does() {
        let mut requests = requests(4);
        let Ok((Begun::New(first), None)) = requests.start([1; 16], 7, Time(0)) else { panic!() };
        let Ok((Begun::Flying(second), None)) = requests.start([1; 16], 7, Time(0)) else {
            panic!()
        };
        assert_eq!(requests.start([1; 16], 8, Time(0)).err(), Some(Refusal::RequestReused));
        requests.do_done([1; 16], 7, Time(0));
        requests.answer(&[1; 16], &(Ok(()), String::new()));
        assert_eq!(first.try_recv().unwrap().0, Ok(()));
        assert_eq!(second.try_recv().unwrap().0, Ok(()));
        assert!(matches!(requests.start([1; 16], 7, Time(0)), Ok((Begun::Done, None))));
        assert_eq!(requests.start([1; 16], 8, Time(0)).err(), Some(Refusal::RequestReused));
    }

    #[test]
    fn half_of_what_was_done_in_earlier_reigns_makes_room_at_once() {
        let mut requests = requests(4);
        for id in [1, 2, 3, 4] {
            let (number, now) = (id.into(), clock::now());
            requests.done.insert([id; 16], Done { hash: 7, number, since: now, earlier: true });
        }
        for (id, oldest) in [(5, 1), (6, 2)] {
            let begun = requests.start([id; 16], 7, clock::now());
            assert_eq!(begun.ok().and_then(|begun| begun.1), Some([oldest; 16]));
        }
        let refused = requests.start([7; 16], 7, clock::now());
        assert_eq!(refused.err(), Some(Refusal::RequestsFull));
        assert!(requests.done.contains_key(&[3; 16]));
    }

    #[test]
    fn the_oldest_id_makes_room_and_none_before_its_time() {
        let mut requests = requests(2);
        for id in [1, 2] {
            assert!(requests.start([id; 16], 7, Time(0)).is_ok());
            done(&mut requests, id, Time(0));
        }
        assert_eq!(requests.start([3; 16], 7, Time(1)).err(), Some(Refusal::RequestsFull));
        let Ok((Begun::New(_), forgotten)) = requests.start([3; 16], 7, LATER) else { panic!() };
        assert_eq!(forgotten, Some([1; 16]));
        assert_eq!(requests.gauges().map(|(_, value)| value), [1, 1, 2, 0]);
    }
}
