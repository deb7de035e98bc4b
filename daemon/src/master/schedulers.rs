//! Frameworks that speak Mesos' scheduler API: a stream of events each, and calls beside it.
//!
//! The order of checks is that of Mesos (`Master::Http::scheduler`), so that a client that is wrong
//! in two ways hears of the same one first.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use mesita_core::Refusal;
use mesita_core::doors::Rights;
use mesita_core::limits::{HEAD_MAX, VERSION_MAX};
use mesita_core::master::{Input, Judged};
use mesita_core::table::Id;
use mesita_core::wire::call::Capability;
use mesita_core::wire::event::Event;
use mesita_core::wire::hello::Role;
use mesita_core::wire::{BodyRef, FrameworkId, Head, Scratch, decode};
use prost::Message;

use super::MasterNode;
use super::counted::Awaited;
use super::requests::OUTCOME_UNKNOWN;
use super::strangers::{Strangers, nameless};
use super::verdicts::Verdicts;
use crate::conn::Ends;
use crate::conn::listen::say;
use crate::doors::Caller;
use crate::encoded::Described;
use crate::http::media::Media;
use crate::http::records::Records;
use crate::http::{Early, Reply, Visit, early, request, status, stream};
use crate::pb::mesita::FrameworkPublic;
use crate::pb::mesos::v1 as pb;
use crate::port::with_refs;
use crate::set::begin::together;
use crate::v1::amounts;
use crate::v1::calls::{self, BadCall, Said};
use crate::v1::events::{self, HEARTBEAT_US, MESOS_VERSION, Telling};
use crate::v1::patterns::{Pattern, patterns};
use crate::{alarm, clock, random};
use pb::scheduler::Call;
use pb::scheduler::call::Type;

/// The header that names a stream.
const STREAM_ID: HeaderName = HeaderName::from_static("mesos-stream-id");

/// Streams of frameworks.
#[derive(Default)]
pub(crate) struct Schedulers {
    by_conn: RefCell<BTreeMap<Id, Rc<Scheduler>>>,
    by_framework: RefCell<BTreeMap<FrameworkId, Rc<Scheduler>>>,
}

/// A framework's stream.
pub(crate) struct Scheduler {
    conn: Id,
    /// What calls name it by.
    id: String,
    /// Whose connection it is.
    caller: String,
    media: Media,
    records: Rc<Records>,
    framework: Cell<FrameworkId>,
    capabilities: Cell<u32>,
    master: pb::MasterInfo,
    /// Something was told on it.
    told: Cell<bool>,
    /// Which agents it wants, to be said once it is a framework.
    constraints: RefCell<Option<pb::scheduler::call::Subscribe>>,
    /// The patterns among them, once they were said.
    patterns: RefCell<Vec<Pattern>>,
    /// Agents that it asks after and that nobody knows.
    strangers: Strangers,
}

impl Schedulers {
    /// Ends the streams of callers that are not let in any more.
    pub(super) fn end_those_of(&self, is_gone: impl Fn(&str) -> bool) {
        let streams = self.by_conn.borrow();
        let gone = streams.values().filter(|one| is_gone(&one.caller));
        gone.for_each(|one| one.records.cut());
    }

    /// Whose stream it is.
    pub(super) fn caller_of(&self, conn: Id) -> Option<String> {
        self.by_conn.borrow().get(&conn).map(|one| one.caller.clone())
    }

    fn of_conn(&self, conn: Id) -> Option<Rc<Scheduler>> {
        self.by_conn.borrow().get(&conn).map(Rc::clone)
    }

    fn of_framework(&self, framework: FrameworkId) -> Option<Rc<Scheduler>> {
        self.by_framework.borrow().get(&framework).map(Rc::clone)
    }

    fn end(&self, scheduler: &Rc<Scheduler>) {
        self.by_conn.borrow_mut().remove(&scheduler.conn);
        let framework = scheduler.framework.get();
        let mut frameworks = self.by_framework.borrow_mut();
        // Another stream may be the framework's by now.
        if frameworks.get(&framework).is_some_and(|of| Rc::ptr_eq(of, scheduler)) {
            frameworks.remove(&framework);
        }
    }

    /// Streams, and bytes that wait for their readers.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 2] {
        let streams = self.by_conn.borrow();
        let bytes = streams.values().map(|scheduler| scheduler.records.bytes() as u64).sum();
        [("scheduler_streams", streams.len() as u64), ("scheduler_stream_bytes", bytes)]
    }
}

impl Scheduler {
    fn tell(&self, event: &pb::scheduler::Event) {
        self.told.set(true);
        self.records.push(&self.media.write(event));
    }
}

impl MasterNode {
    /// `POST /api/v1/scheduler`
    pub(super) async fn scheduler(self: Rc<Self>, visit: Visit) -> Reply {
        match self.scheduler_call(visit).await {
            Ok(reply) => reply,
            Err(reply) => *reply,
        }
    }

    /// Waits until a principal's next call may go: see `--rate-limits`.
    async fn its_turn(&self, caller: &Caller) -> Result<(), Early> {
        let turn = self.options.access.rates().turn(caller.principal(), clock::now());
        let turn = turn.ok_or_else(|| {
            let message =
                "as many calls of this principal wait as --rate-limits lets wait: try later";
            early(StatusCode::TOO_MANY_REQUESTS, message)
        })?;
        alarm::at(turn).await;
        Ok(())
    }

    /// Whether a framework has said that its tasks are to outlive their agent's restart.
    fn checkpoints(&self, framework: FrameworkId) -> bool {
        let catalog = self.catalog.borrow();
        let known = catalog.framework(framework).map(|(_, row)| &row.public);
        let public = known.and_then(|public| FrameworkPublic::decode(&**public).ok());
        public.is_some_and(|public| public.checkpoint())
    }

    async fn scheduler_call(self: &Rc<Self>, visit: Visit) -> Result<Reply, Early> {
        self.leads_or_not()?;
        let Visit { request, ends, caller } = visit;
        let (mut call, headers) = request::message::<Call>(&self.port.bodies, request).await?;
        // A framework that begins or ends is told of, and what else is denied to it.
        match of_framework(&call) {
            Some((what, of)) => caller.heed.asks(what, of),
            None => caller.heed.done(),
        }
        calls::validate(&call).map_err(refused)?;
        claim(&mut call, caller.principal())?;
        if call.r#type() == Type::ReconcileOperations {
            // It has an answer in the API, if none in ours.
            request::asked(&headers)?;
        }
        self.its_turn(&caller).await?;
        self.scheduler_does(call, &headers, ends, &caller).await
    }

    /// Does what was understood, for whoever may.
    async fn scheduler_does(
        self: &Rc<Self>,
        call: Call,
        headers: &HeaderMap,
        ends: Ends,
        caller: &Caller,
    ) -> Result<Reply, Early> {
        let stream = headers.get(STREAM_ID);
        if call.r#type() == Type::Subscribe {
            let media = request::asked(headers)?;
            if stream.is_some() {
                let message = "Subscribe calls should not include the 'Mesos-Stream-Id' header";
                return Err(early(StatusCode::BAD_REQUEST, message));
            }
            return self.scheduler_subscribes(&call, media, ends, caller);
        }
        let scheduler = self.scheduler_of(&call, stream, caller.principal())?;
        if scheduler.caller != caller.name && !caller.rights.has(Rights::OPERATE) {
            let message = "the framework belongs to another user";
            return Err(early(StatusCode::FORBIDDEN, message));
        }
        let (framework, cluster) = (scheduler.framework.get(), self.cluster());
        if call.r#type() == Type::Unknown {
            let message = "Received 'UNKNOWN' call";
            return Err(early(StatusCode::NOT_IMPLEMENTED, message));
        }
        if call.r#type() == Type::Reconcile {
            return self.reconciles(&scheduler, call, cluster).await;
        }
        if call.r#type() == Type::Accept {
            return self.accepts(&scheduler, call, cluster).await;
        }
        if call.r#type() == Type::Decline {
            return self.put_parts(&scheduler, &calls::declines(call), cluster).await;
        }
        let said = calls::to_wire(&call, framework, cluster).map_err(refused)?;
        if call.r#type() == Type::UpdateFramework {
            let constraints = call.update_framework.as_ref();
            let constraints = constraints.and_then(|call| call.offer_constraints.as_ref());
            // Whatever cannot be said is refused before any of it is done.
            let constrained = calls::constrain(constraints, framework).map_err(refused)?;
            let info = call.update_framework.as_ref().map(|call| &call.framework_info);
            let may = info.map_or(Ok(()), |info| self.may_register(info));
            may.map_err(|why| early(StatusCode::FORBIDDEN, why))?;
            if info.is_some_and(|info| info.checkpoint() != self.checkpoints(framework)) {
                let message = "Updating 'FrameworkInfo.checkpoint' is unsupported";
                return Err(early(StatusCode::BAD_REQUEST, message));
            }
            let capabilities = call.update_framework.as_ref();
            let capabilities = capabilities.map(|call| calls::capabilities(&call.framework_info));
            // What it is told once the core knows is told in its new form.
            let before = scheduler.capabilities.replace(capabilities.unwrap_or_default());
            let result = self.put_and_wait(&scheduler, said).await;
            if !matches!(result, Ok(Ok(()))) {
                scheduler.capabilities.set(before);
            }
            result?.map_err(|refusal| early(StatusCode::BAD_REQUEST, refusal.sentence()))?;
            let result = self.put_and_wait(&scheduler, constrained).await?;
            result.map_err(|refusal| early(StatusCode::BAD_REQUEST, refusal.sentence()))?;
            scheduler.patterns.replace(patterns(constraints));
            self.judge_all(&scheduler);
            return Ok(status(StatusCode::OK));
        }
        // What names a role or a task that there cannot be is dropped without a word, as in Mesos.
        let drops = matches!(call.r#type(), Type::Revive | Type::Suppress | Type::Kill);
        if drops && decode::<Head<'_>>(&said.head).is_err() {
            return Ok(status(StatusCode::ACCEPTED));
        }
        if call.r#type() == Type::Teardown {
            // That it is gone is kept by a majority, or nobody was told so.
            let _ = self.put_and_wait(&scheduler, said).await?;
            if !self.durable().await {
                return Err(early(StatusCode::SERVICE_UNAVAILABLE, OUTCOME_UNKNOWN));
            }
            return Ok(status(StatusCode::ACCEPTED));
        }
        self.port.room().await;
        scheduler.strangers.asked(&call, cluster);
        self.put_call(&scheduler, said, |_| {})?;
        Ok(status(StatusCode::ACCEPTED))
    }

    /// Answers of tasks that cannot be, and asks the core about the rest.
    async fn reconciles(
        self: &Rc<Self>,
        scheduler: &Rc<Scheduler>,
        mut call: Call,
        cluster: u64,
    ) -> Result<Reply, Early> {
        let unknown = nameless(&mut call, scheduler.capabilities.get());
        // Without any task it would ask about all.
        let is_over = !unknown.is_empty()
            && call.reconcile.as_ref().is_none_or(|reconcile| reconcile.tasks.is_empty());
        for mut status in unknown {
            status.timestamp = Some(amounts::seconds(clock::wall_us()));
            scheduler.tell(&events::update(status));
        }
        if is_over {
            return Ok(status(StatusCode::ACCEPTED));
        }
        self.put_parts(scheduler, &calls::reconciliations(call), cluster).await
    }

    /// Passes the parts of a call on, one after the other. All of them can be said before any is.
    async fn put_parts(
        self: &Rc<Self>,
        scheduler: &Rc<Scheduler>,
        parts: &[Call],
        cluster: u64,
    ) -> Result<Reply, Early> {
        let framework = scheduler.framework.get();
        let said = parts.iter().map(|part| calls::to_wire(part, framework, cluster));
        let said = said.collect::<Result<Vec<_>, _>>().map_err(refused)?;
        for (part, said) in parts.iter().zip(said) {
            self.port.room().await;
            scheduler.strangers.asked(part, cluster);
            self.put_call(scheduler, said, |_| {})?;
        }
        Ok(status(StatusCode::ACCEPTED))
    }

    /// Passes an ACCEPT on, in as many parts as it takes. There is room for all of it before any of it
    /// is done, and all of it is done though the client be gone meanwhile.
    async fn accepts(
        self: &Rc<Self>,
        scheduler: &Rc<Scheduler>,
        call: Call,
        cluster: u64,
    ) -> Result<Reply, Early> {
        scheduler.strangers.asked(&call, cluster);
        let parts = calls::accepts(call, scheduler.framework.get(), cluster).map_err(refused)?;
        let mut stored: Vec<(Said, Vec<BodyRef>)> = Vec::new();
        for said in parts {
            match self.stored(&said) {
                Ok(refs) => stored.push((said, refs)),
                Err(reply) => {
                    stored.iter().for_each(|(_, refs)| self.port.drop_bodies(refs));
                    return Err(reply);
                }
            }
        }
        let (sender, receiver) = async_channel::bounded::<()>(1);
        let (me, scheduler) = (Rc::clone(self), Rc::clone(scheduler));
        self.tasks.go(async move {
            for (said, refs) in stored {
                me.port.room().await;
                me.put_stored(&scheduler, said, refs, |_| {});
            }
            drop(sender);
        });
        // Nothing is ever sent: it is closed when all is done.
        let _ = receiver.recv().await;
        Ok(status(StatusCode::ACCEPTED))
    }

    /// The cluster that this master leads; 0 before it does.
    pub(super) fn cluster(&self) -> u64 {
        self.catalog.borrow().now.leading.map_or(0, |(cluster, _)| cluster)
    }

    /// The stream that a call belongs to.
    fn scheduler_of(
        &self,
        call: &Call,
        stream: Option<&HeaderValue>,
        principal: Option<&str>,
    ) -> Result<Rc<Scheduler>, Early> {
        let bad = |message: String| early(StatusCode::BAD_REQUEST, message);
        let id = call.framework_id.as_ref().map_or("", |id| &id.value);
        let framework = FrameworkId::parse(id, self.cluster());
        let known = framework.filter(|id| self.catalog.borrow().framework(*id).is_some());
        let framework = known.ok_or_else(|| bad("Framework cannot be found".to_owned()))?;
        if let Some(principal) = principal
            && let Some((_, row)) = self.catalog.borrow().framework(framework)
            && *row.principal != *principal
        {
            return Err(bad(unlike(principal, &row.principal)));
        }
        let scheduler = self.schedulers.of_framework(framework).ok_or_else(|| {
            let native = self.catalog.borrow().framework(framework).is_some_and(|(_, row)| {
                row.state == mesita_core::master::rows::FrameworkState::Active
            });
            let message = if native {
                "Framework is not connected via HTTP"
            } else {
                "Framework is not subscribed"
            };
            early(StatusCode::FORBIDDEN, message)
        })?;
        let Some(stream) = stream else {
            let message = "All non-subscribe calls should include the 'Mesos-Stream-Id' header";
            return Err(bad(message.to_owned()));
        };
        if stream.as_bytes() != scheduler.id.as_bytes() {
            let stream = String::from_utf8_lossy(stream.as_bytes());
            return Err(bad(format!(
                "The stream ID '{stream}' included in this request didn't match the stream ID \
                 currently associated with framework ID {id}"
            )));
        }
        Ok(scheduler)
    }

    /// A sentence unless a framework may use its roles. Mesos: `Master::authorizeFramework`.
    #[allow(deprecated)] // Frameworks without MULTI_ROLE have a role and no roles.
    fn may_register(&self, info: &pb::FrameworkInfo) -> Result<(), String> {
        let one = [info.role().to_owned()];
        let many = calls::capabilities(info) & Capability::MultiRole.bit() != 0;
        let roles = if many { &info.roles[..] } else { &one[..] };
        self.may_use_roles(info.principal(), roles.iter().map(String::as_str))
    }

    fn scheduler_subscribes(
        self: &Rc<Self>,
        call: &Call,
        media: Media,
        ends: Ends,
        caller: &Caller,
    ) -> Result<Reply, Early> {
        let full = |what: &str| {
            early(StatusCode::SERVICE_UNAVAILABLE, format!("{what}: see --size on the master"))
        };
        let (id, cluster) = (new_stream_id(), self.cluster());
        let wanted = call.framework_id.as_ref().map_or("", |id| &id.value);
        let framework = match FrameworkId::parse(wanted, cluster) {
            _ if wanted.is_empty() => Ok(FrameworkId::NONE),
            Some(framework) => Ok(framework),
            // It was not this cluster that named it so.
            None => Err(BadCall::Framework(format!(
                "Framework has been removed: '{}' is no id of this cluster; subscribe without one",
                wanted.escape_debug()
            ))),
        };
        let info = call.subscribe.as_ref().map(|call| &call.framework_info);
        let framework = framework.and_then(|framework| {
            let may = info.map_or(Ok(()), |info| self.may_register(info));
            may.map(|()| framework).map_err(BadCall::Framework)
        });
        let constraints = call.subscribe.as_ref().and_then(|call| call.offer_constraints.as_ref());
        calls::constrain(constraints, FrameworkId::NONE).map_err(refused)?;
        let said = framework.and_then(|framework| calls::to_wire(call, framework, cluster));
        let said = said.and_then(|said| match decode::<Head<'_>>(&said.head) {
            Ok(_) => Ok(said),
            Err(malformed) => Err(BadCall::Framework(malformed.to_string())),
        });
        let said = match said {
            Ok(said) => said,
            Err(BadCall::Framework(why)) => {
                say(log::Level::Info, &ends, &format!("a framework is refused: {why}"));
                let (what, of) = of_framework(call).unwrap_or_default();
                self.audit.note(caller, what, &of, Some(&why));
                let records = Rc::new(Records::new(self.options.stream_bytes_max, |_| {}));
                records.push(&media.write(&events::error(&why)));
                records.close();
                return Ok(stream_of(records, media, &id));
            }
            Err(bad) => return Err(refused(bad)),
        };
        let number = self.number_of(caller).ok_or_else(|| full("no room for another caller"))?;
        let conn = self.conns.begin().ok_or_else(|| full("too many connections"))?;
        let records = Records::new(self.options.stream_bytes_max, self.on_level(conn));
        let records = Rc::new(records.under(Rc::clone(&self.options.standing)));
        let scheduler = Rc::new(Scheduler {
            conn,
            id: id.clone(),
            caller: caller.name.clone(),
            media,
            records: Rc::clone(&records),
            framework: Cell::default(),
            capabilities: Cell::new(info.map_or(0, calls::capabilities)),
            master: self.master_info(&ends),
            told: Cell::default(),
            constraints: RefCell::new(call.subscribe.clone()),
            patterns: RefCell::default(),
            strangers: Strangers::default(),
        });
        self.schedulers.by_conn.borrow_mut().insert(conn, Rc::clone(&scheduler));
        self.port.put(&Input::Opened {
            conn,
            role: Role::Framework,
            version: VERSION_MAX,
            caller: number,
            head_max: u32::try_from(HEAD_MAX).unwrap_or(u32::MAX),
        });
        let (me, stream) = (Rc::clone(self), Rc::clone(&scheduler));
        self.tasks.go(async move { me.keep_stream(&stream).await });
        let weak = Rc::downgrade(&scheduler);
        let ((what, of), me) = (of_framework(call).unwrap_or_default(), self.me.clone());
        let asks = caller.clone();
        let put = self.put_call(&scheduler, said, move |result| {
            let why = result.err().map(Refusal::sentence);
            me.upgrade().iter().for_each(|me| me.audit.note(&asks, what, &of, why));
            // The core has said why on the stream, unless it could not even read the call.
            if let (Err(refusal), Some(scheduler)) = (result, weak.upgrade()) {
                if !scheduler.told.get() {
                    scheduler.tell(&events::error(refusal.sentence()));
                }
                scheduler.records.close();
            }
        });
        if let Err(reply) = put {
            records.leave();
            return Err(reply);
        }
        // What came of it is told when the core has said.
        caller.heed.done();
        Ok(stream_of(records, media, &id))
    }

    /// Keeps a stream alive until its reader is gone.
    async fn keep_stream(&self, scheduler: &Rc<Scheduler>) {
        let beats = async {
            loop {
                alarm::after(HEARTBEAT_US).await;
                if !scheduler.framework.get().is_none() {
                    scheduler.tell(&events::heartbeat());
                    self.tallies.beaten(scheduler.conn);
                }
            }
        };
        futures_lite::future::or(scheduler.records.left(), beats).await;
        self.schedulers.end(scheduler);
        self.conns.end(scheduler.conn);
        self.tallies.forget(scheduler.conn);
        self.port.put(&Input::Closed { conn: scheduler.conn, since: clock::now() });
    }

    async fn put_and_wait(
        &self,
        scheduler: &Rc<Scheduler>,
        said: Said,
    ) -> Result<Result<(), Refusal>, Early> {
        let (sender, receiver) = async_channel::bounded(1);
        self.port.room().await;
        self.put_call(scheduler, said, move |result| {
            // Who asked may be gone.
            let _ = sender.try_send(result);
        })?;
        let gone = || early(StatusCode::SERVICE_UNAVAILABLE, "the master is ending");
        receiver.recv().await.map_err(|_| gone())
    }

    /// Passes a call on to the core; an answer when there is no room for its bodies.
    fn put_call(
        &self,
        scheduler: &Rc<Scheduler>,
        said: Said,
        then: impl FnOnce(Result<(), Refusal>) + 'static,
    ) -> Result<(), Early> {
        let refs = self.stored(&said)?;
        self.put_stored(scheduler, said, refs, then);
        Ok(())
    }

    /// Stores what a call carries.
    fn stored(&self, said: &Said) -> Result<Vec<BodyRef>, Early> {
        // What is wrong with it, and where, is said by name: the core only says that it is.
        if let Err(malformed) = decode::<Head<'_>>(&said.head) {
            return Err(early(StatusCode::BAD_REQUEST, malformed.to_string()));
        }
        self.port.store(&said.bodies).ok_or_else(|| {
            let message = "no room for what the call carries: see --max-body-bytes on the master";
            early(StatusCode::SERVICE_UNAVAILABLE, message)
        })
    }

    /// Passes a call on to the core.
    fn put_stored(
        &self,
        scheduler: &Rc<Scheduler>,
        said: Said,
        refs: Vec<BodyRef>,
        then: impl FnOnce(Result<(), Refusal>) + 'static,
    ) {
        let Said { head, bad, .. } = said;
        let read = decode::<Head<'_>>(&head).ok();
        let awaited = read.as_ref().and_then(|head| {
            self.counted.said(head);
            if let Head::Call(call) = head {
                self.tallies.said(call);
            }
            Awaited::of(head)
        });
        let verdicts = if let Some(Head::Call(call)) = &read
            && let Some(accept) = call.verb.accepted()
        {
            let store = self.port.bodies.borrow();
            let may_run = self.may_run(call.framework);
            let may_operate = self.may_operate(call.framework);
            let timeout_us = self.options.agent_timeout_us;
            let bytes = |body: mesita_core::wire::Body| store.bytes(body.of(&refs));
            let on = Verdicts::on(accept, bad, timeout_us, bytes, may_run, may_operate);
            self.note_denied(&scheduler.caller, &on);
            on
        } else {
            Verdicts::none()
        };
        let (conn, me) = (scheduler.conn, self.me.clone());
        with_refs(&refs, |list| {
            let input = Input::Frame { conn, head: &head, bodies: list, verdicts: verdicts.list() };
            self.port.put_then(&input, refs.clone(), move |result| {
                if let (Some(awaited), Some(me)) = (awaited, me.upgrade()) {
                    me.counted.came_of(awaited, result.is_ok());
                }
                if let Err(refusal) = &result {
                    log::info!("a framework's call is refused: {refusal}");
                }
                then(result);
            });
        });
    }

    /// Tells a framework that listens on a stream; false for whoever does not.
    pub(super) fn tell_scheduler(&self, conn: Id, head: &[u8], bodies: &[BodyRef]) -> bool {
        let Some(scheduler) = self.schedulers.of_conn(conn) else { return false };
        let Ok(Head::Event(event)) = decode(head) else { return true };
        let subscribed = if let Event::Subscribed { framework, .. } = event {
            scheduler.framework.set(framework);
            let mut frameworks = self.schedulers.by_framework.borrow_mut();
            frameworks.insert(framework, Rc::clone(&scheduler));
            true
        } else {
            false
        };
        let catalog = self.catalog.borrow();
        let store = self.port.bodies.borrow();
        let cluster = catalog.now.leading.map_or(0, |(cluster, _)| cluster);
        let telling = Telling {
            cluster,
            framework: scheduler.framework.get(),
            capabilities: scheduler.capabilities.get(),
            master: &scheduler.master,
            wall_us: clock::wall_us(),
            catalog: &catalog,
            bytes: &|body| store.bytes(body.of(bodies)),
        };
        let told = telling.event(&event);
        drop(store);
        if let Some(mut told) = told {
            if let Some(update) = &mut told.update {
                scheduler.strangers.name(&mut update.status, cluster);
            }
            scheduler.tell(&told);
        }
        drop(catalog);
        if subscribed {
            scheduler.tell(&events::heartbeat());
            self.tallies.beaten(conn);
            self.constrain(&scheduler);
        }
        true
    }

    /// Says which agents a framework wants, now that it is one.
    fn constrain(&self, scheduler: &Rc<Scheduler>) {
        let Some(subscribe) = scheduler.constraints.borrow_mut().take() else { return };
        // None at all takes back what an earlier stream has said.
        let constraints = subscribe.offer_constraints.as_ref();
        let framework = scheduler.framework.get();
        let Ok(said) = calls::constrain(constraints, framework) else { return };
        let read = patterns(constraints);
        let (weak, me) = (Rc::downgrade(scheduler), self.me.clone());
        // It carries no bodies, so there is always room for it.
        let _ = self.put_call(scheduler, said, move |result| {
            let Some(scheduler) = weak.upgrade() else { return };
            match (result, me.upgrade()) {
                (Err(refusal), _) => {
                    scheduler.tell(&events::error(refusal.sentence()));
                    scheduler.records.close();
                }
                (Ok(()), Some(me)) => {
                    scheduler.patterns.replace(read);
                    me.judge_all(&scheduler);
                }
                (Ok(()), None) => {}
            }
        });
        let again = calls::revive(&subscribe, framework);
        if let Some(revive) = again.filter(|_| calls::is_choosy(constraints)) {
            let _ = self.put_call(scheduler, revive, |_| {});
        }
    }

    /// Tells the core what a framework's patterns say of all agents, a few at a time: others are to
    /// be served meanwhile.
    fn judge_all(self: &Rc<Self>, scheduler: &Rc<Scheduler>) {
        if scheduler.patterns.borrow().is_empty() {
            return;
        }
        let (me, scheduler) = (Rc::clone(self), Rc::clone(scheduler));
        self.tasks.go(async move {
            let tables = me.catalog.borrow().now.clone();
            for (id, agent) in tables.agents.iter() {
                me.judge(&scheduler, &[(id, &agent.info)]);
                alarm::turn().await;
            }
        });
    }

    /// Tells the core what all patterns say of an agent, which has come or says other things now.
    pub(super) fn judge_agent(&self, row: Id) {
        let catalog = self.catalog.borrow();
        let Some(agent) = catalog.now.agents.get(row) else { return };
        for scheduler in self.schedulers.by_framework.borrow().values() {
            self.judge(scheduler, &[(row, &agent.info)]);
        }
    }

    fn judge(&self, scheduler: &Scheduler, agents: &[(Id, &Described)]) {
        let patterns = scheduler.patterns.borrow();
        let mut verdicts = Vec::new();
        for (agent, described) in agents {
            let Some(info) = described.info() else { continue };
            verdicts.extend(patterns.iter().filter_map(|pattern| {
                let matches = pattern.judge(&info)?;
                let (role, place) = (pattern.role.as_str(), pattern.place);
                Some(Judged { role, place, agent: *agent, matches })
            }));
        }
        // As many at once as surely fit, each with a role as long as roles are.
        for some in verdicts.chunks(64) {
            let mut memory = vec![0; 64 * 512];
            let verdicts = Scratch::new(&mut memory).seq::<Judged<'static>>(some.iter().copied());
            let Ok(verdicts) = verdicts else { continue };
            let framework = scheduler.framework.get();
            self.port.put(&Input::Judged { framework, verdicts });
        }
    }

    /// Ends a framework's stream; false for whoever has none.
    pub(super) fn close_scheduler(&self, conn: Id) -> bool {
        let Some(scheduler) = self.schedulers.of_conn(conn) else { return false };
        scheduler.records.close();
        true
    }

    /// This master for the API, at the address that a client has connected to.
    pub(super) fn master_info(&self, ends: &Ends) -> pb::MasterInfo {
        use pb::master_info::capability::Type as Can;
        let (host, port) = self.advertised(ends);
        let leading = self.catalog.borrow().now.leading;
        let id = leading.map(|(cluster, fence)| format!("{cluster:016x}-{}", fence.epoch));
        let number = match host.parse() {
            // As the kernel has it in memory, which is how Mesos tells it.
            Ok(IpAddr::V4(ip)) => u32::from_le_bytes(ip.octets()),
            Ok(IpAddr::V6(_)) | Err(_) => 0,
        };
        let shown = together(&host, port);
        let called = self.options.hostname.clone().unwrap_or_else(|| host.clone());
        let capabilities = [Can::AgentUpdate, Can::AgentDraining, Can::QuotaV2];
        pb::MasterInfo {
            id: id.unwrap_or_default(),
            ip: number,
            port: port.into(),
            pid: Some(format!("master@{shown}")),
            hostname: Some(called.clone()),
            version: Some(MESOS_VERSION.to_owned()),
            address: Some(pb::Address {
                hostname: Some(called),
                ip: Some(host),
                port: port.into(),
            }),
            domain: events::domain(&self.options.region, &self.options.zone),
            capabilities: capabilities
                .map(|one| pb::master_info::Capability { r#type: Some(one.into()) })
                .to_vec(),
        }
    }
}

/// What is told of a call by which a framework begins or ends, and of which.
fn of_framework(call: &Call) -> Option<(&'static str, String)> {
    if let Some(subscribe) = &call.subscribe {
        return Some(("subscribe", subscribe.framework_info.name.clone()));
    }
    let id = || call.framework_id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
    (call.r#type() == Type::Teardown).then(|| ("teardown", id()))
}

/// A framework has the principal that it has shown, and may say so or not. Mesos:
/// `validation::scheduler::call::validate`.
fn claim(call: &mut Call, principal: Option<&str>) -> Result<(), Early> {
    let Some(principal) = principal else { return Ok(()) };
    let subscribe = call.subscribe.as_mut().map(|one| &mut one.framework_info);
    let update = call.update_framework.as_mut().map(|one| &mut one.framework_info);
    let Some(info) = subscribe.or(update) else { return Ok(()) };
    let claimed = info.principal.get_or_insert_with(|| principal.to_owned());
    if *claimed == principal {
        return Ok(());
    }
    let why = unlike(principal, claimed);
    let message = format!("Failed to validate scheduler::Call: {why}");
    Err(early(StatusCode::BAD_REQUEST, message))
}

/// Mesos' sentence.
pub(super) fn unlike(principal: &str, claimed: &str) -> String {
    format!(
        "Authenticated principal '{principal}' does not match principal '{claimed}' set in \
         `FrameworkInfo`"
    )
}

fn refused(bad: BadCall) -> Early {
    early(StatusCode::BAD_REQUEST, bad.to_string())
}

/// The answer to SUBSCRIBE.
fn stream_of(records: Rc<Records>, media: Media, id: &str) -> Reply {
    let mut reply = stream(records, media);
    if let Ok(id) = HeaderValue::from_str(id) {
        reply.headers_mut().insert(STREAM_ID, id);
    }
    reply
}

/// A random UUID (RFC 9562 §5.4).
fn new_stream_id() -> String {
    let mut bytes: [u8; 16] = random::bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
