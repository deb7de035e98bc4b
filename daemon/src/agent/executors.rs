//! Executors that speak Mesos' executor API: a stream of events each, and calls beside it.
//!
//! Who calls is found out from the kernel: a process in the container of an executor is that
//! executor. Where the kernel does not tell, a bearer token does, which only the executor's
//! environment has.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Request, StatusCode};
use mesita_core::Refusal;
use mesita_core::agent::Input;
use mesita_core::agent::ledger::Record;
use mesita_core::doors;
use mesita_core::limits::HEAD_MAX;
use mesita_core::table::Id;
use mesita_core::wire::agent::FrameworkHeld;
use mesita_core::wire::call::Capability;
use mesita_core::wire::executor::{ExecutorCall, ExecutorEvent, ExecutorUpdate};
use mesita_core::wire::hello::Role;
use mesita_core::wire::task::{Detail, Reason, Source, Status, TaskState};
use mesita_core::wire::{
    AgentId, Body, BodyRef, ContainerId, FrameworkId, Head, Scratch, Seq, decode,
};
use prost::Message;

use super::AgentNode;
use super::hands::cut;
use super::metrics::Awaited;
use crate::describe;
use crate::doors::{Denied, Inside};
use crate::encoded::Resources;
use crate::http::media::Media;
use crate::http::records::Records;
use crate::http::{Early, Reply, early, request, status, stream};
use crate::pb::mesita::FrameworkPublic;
use crate::pb::mesos::v1 as pb;
use crate::port::with_refs;
use crate::v1::events::network_info;
use crate::v1::executors::{self, Said, Telling};
use crate::v1::resources::{Form, Stack, attributes, of_wire};
use crate::{alarm, clock};
use pb::executor::Call;
use pb::executor::call::Type;

/// Silence between events of a stream, in µs. Mesos: 30 min.
const HEARTBEAT_US: u64 = 1_800_000_000;

/// Frameworks that are remembered when they have nothing here any more. Mesos: 50.
const COMPLETED_MAX: usize = 50;
/// Updates of executors that are remembered, should they come again.
const HEARD_MAX: usize = 256;

/// Streams of executors, and what is known of their frameworks.
#[derive(Default)]
pub(super) struct Executors {
    by_conn: RefCell<BTreeMap<Id, Rc<Executor>>>,
    /// Connections, streams or not, of those that subscribed; true for one that is to end.
    heard: RefCell<BTreeMap<Id, (ContainerId, bool)>>,
    frameworks: RefCell<BTreeMap<FrameworkId, Known>>,
    /// Frameworks that have nothing here any more, the newest last.
    completed: RefCell<VecDeque<(FrameworkId, Known)>>,
    /// Updates that executors have sent last, and whether they were confirmed.
    heard_last: RefCell<VecDeque<(Heard, bool)>>,
}

/// An update of an executor's, which may send it again. One that was confirmed is confirmed again,
/// and told to nobody. Mesos: `TaskStatusUpdateStream::update`.
#[derive(PartialEq, Eq)]
struct Heard {
    container: ContainerId,
    task: String,
    uuid: Vec<u8>,
    state: i32,
}

/// A framework.
struct Known {
    info: pb::FrameworkInfo,
    /// Whose it is: the caller's name.
    owner: String,
}

/// An executor's stream.
struct Executor {
    conn: Id,
    framework: FrameworkId,
    name: String,
    media: Media,
    records: Rc<Records>,
    info: RefCell<Option<pb::ExecutorInfo>>,
    told: Cell<bool>,
}

impl Executors {
    /// Takes in what a record of the ledger says of frameworks; `bytes` gives those of a body that it
    /// names.
    pub(super) fn noted(
        &self,
        record: &Record<'_>,
        cluster: u64,
        bytes: impl Fn(Body) -> Arc<[u8]>,
    ) {
        if let Record::Framework(held) = record {
            let known = Known { info: described(held, cluster), owner: held.caller.to_owned() };
            // It may have been here before.
            self.completed.borrow_mut().retain(|(id, _)| *id != held.framework);
            let before = self.frameworks.borrow_mut().insert(held.framework, known);
            if let Some(before) = before {
                self.shown(held.framework, &public_of(&before.info));
            }
        }
        if let Record::Described { framework, public } = record {
            let public = FrameworkPublic::decode(&*bytes(*public)).unwrap_or_default();
            self.shown(*framework, &public);
        }
        if let Record::FrameworkGone { framework } = record {
            let gone = self.frameworks.borrow_mut().remove(framework);
            let mut completed = self.completed.borrow_mut();
            completed.extend(gone.map(|known| (*framework, known)));
            if completed.len() > COMPLETED_MAX {
                completed.pop_front();
            }
        }
    }

    /// Adds to a framework's description what everybody may see of it.
    fn shown(&self, framework: FrameworkId, public: &FrameworkPublic) {
        let mut frameworks = self.frameworks.borrow_mut();
        let Some(info) = frameworks.get_mut(&framework).map(|known| &mut known.info) else {
            return;
        };
        info.hostname.clone_from(&public.hostname);
        info.webui_url.clone_from(&public.webui_url);
        info.labels.clone_from(&public.labels);
        info.offer_filters.clone_from(&public.offer_filters);
    }

    /// Whose a framework is.
    pub(super) fn owner(&self, framework: FrameworkId) -> Option<String> {
        let known = self.frameworks.borrow().get(&framework).map(|known| known.owner.clone());
        known.or_else(|| {
            let completed = self.completed.borrow();
            let of = completed.iter().find(|(id, _)| *id == framework);
            of.map(|(_, known)| known.owner.clone())
        })
    }

    /// The user of a framework; empty when it is not known.
    pub(super) fn user(&self, framework: FrameworkId) -> String {
        let user = |known: &Known| doors::user("", "", &known.info.user, &known.owner).to_owned();
        let known = self.frameworks.borrow().get(&framework).map(user);
        let completed = self.completed.borrow();
        let gone = || completed.iter().find(|(id, _)| *id == framework).map(|(_, one)| user(one));
        known.or_else(gone).unwrap_or_default()
    }

    /// The roles of a framework; none when it is not known.
    pub(super) fn roles(&self, framework: FrameworkId) -> Vec<String> {
        let known = self.frameworks.borrow();
        let info = known.get(&framework).map(|known| &known.info);
        #[allow(deprecated)] // Frameworks without MULTI_ROLE have a role and no roles.
        info.map_or_else(Vec::new, |info| info.roles.iter().chain(&info.role).cloned().collect())
    }

    /// Frameworks with tasks or executors here.
    pub(super) fn frameworks(&self) -> Vec<(FrameworkId, pb::FrameworkInfo)> {
        let known = self.frameworks.borrow();
        known.iter().map(|(id, known)| (*id, known.info.clone())).collect()
    }

    /// Frameworks that had some, and have none any more.
    pub(super) fn completed(&self) -> Vec<(FrameworkId, pb::FrameworkInfo)> {
        let completed = self.completed.borrow();
        completed.iter().map(|(id, known)| (*id, known.info.clone())).collect()
    }

    /// Takes note of what an executor is told on a connection.
    pub(super) fn told(&self, conn: Id, event: &ExecutorEvent<'_>) {
        let mut heard = self.heard.borrow_mut();
        if let (ExecutorEvent::Acknowledged { task, uuid }, Some((container, _))) =
            (event, heard.get(&conn))
        {
            for (one, confirmed) in self.heard_last.borrow_mut().iter_mut() {
                let is = one.container == *container && one.task == *task && one.uuid == *uuid;
                *confirmed |= is;
            }
        }
        if let ExecutorEvent::Subscribed { container, .. } = event {
            heard.insert(conn, (*container, false));
        } else if let (ExecutorEvent::Shutdown, Some((_, ends))) = (event, heard.get_mut(&conn)) {
            *ends = true;
        }
    }

    /// True for an update that came before and was confirmed; another one is remembered.
    fn is_again(&self, said: Heard) -> bool {
        let mut last = self.heard_last.borrow_mut();
        if let Some((_, confirmed)) = last.iter().find(|(one, _)| *one == said) {
            return *confirmed;
        }
        if last.len() >= HEARD_MAX {
            last.pop_front();
        }
        last.push_back((said, false));
        false
    }

    /// The container of the executor at a connection.
    fn container_at(&self, conn: Id) -> Option<ContainerId> {
        self.heard.borrow().get(&conn).map(|(container, _)| *container)
    }

    /// The executor in a container is there to be given tasks.
    pub(super) fn has_subscribed(&self, container: ContainerId) -> bool {
        self.heard.borrow().values().any(|(of, _)| *of == container)
    }

    /// A connection is gone.
    pub(super) fn forget(&self, conn: Id) {
        self.heard.borrow_mut().remove(&conn);
    }

    /// How many have subscribed, and how many more of them are to end.
    pub(super) fn heard(&self) -> (u64, u64) {
        let heard = self.heard.borrow();
        let ending = heard.values().filter(|(_, ends)| *ends).count();
        ((heard.len() - ending) as u64, ending as u64)
    }

    fn of_conn(&self, conn: Id) -> Option<Rc<Executor>> {
        self.by_conn.borrow().get(&conn).map(Rc::clone)
    }

    fn named(&self, framework: FrameworkId, name: &str) -> Option<Rc<Executor>> {
        let streams = self.by_conn.borrow();
        // The newest: an older one is about to end.
        let of = streams.values().rev().find(|one| one.framework == framework && one.name == name);
        of.map(Rc::clone)
    }

    /// Streams, and bytes that wait for their readers.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 2] {
        let streams = self.by_conn.borrow();
        let bytes = streams.values().map(|one| one.records.bytes() as u64).sum();
        [("executor_streams", streams.len() as u64), ("executor_stream_bytes", bytes)]
    }
}

/// What everybody may see of a framework, of what its description has.
fn public_of(info: &pb::FrameworkInfo) -> FrameworkPublic {
    FrameworkPublic {
        hostname: info.hostname.clone(),
        webui_url: info.webui_url.clone(),
        labels: info.labels.clone(),
        offer_filters: info.offer_filters.clone(),
        ..FrameworkPublic::default()
    }
}

/// A framework as its tasks' agent knows it.
#[allow(deprecated)] // Frameworks without MULTI_ROLE have a role and no roles.
fn described(held: &FrameworkHeld<'_>, cluster: u64) -> pb::FrameworkInfo {
    let roles: Vec<String> = held.roles.iter().map(str::to_owned).collect();
    let many = held.capabilities & Capability::MultiRole.bit() != 0;
    pb::FrameworkInfo {
        user: held.user.to_owned(),
        name: held.name.to_owned(),
        id: Some(crate::v1::events::framework_id(held.framework, cluster)),
        failover_timeout: Some(crate::v1::amounts::seconds(held.failover_us)),
        checkpoint: Some(true),
        principal: (!held.principal.is_empty()).then(|| held.principal.to_owned()),
        capabilities: crate::v1::calls::capability_list(held.capabilities),
        role: if many { None } else { roles.first().cloned() },
        roles: if many { roles } else { Vec::new() },
        ..pb::FrameworkInfo::default()
    }
}

impl Executor {
    fn tell(&self, event: &pb::executor::Event) {
        self.told.set(true);
        self.records.push(&self.media.write(event));
    }
}

impl AgentNode {
    /// `POST /api/v1/executor`; `inside` is where the kernel says that the caller is.
    pub(super) async fn executor(
        self: Rc<Self>,
        request: Request<Incoming>,
        denied: Option<Denied>,
    ) -> Reply {
        match self.executor_call(request, denied).await {
            Ok(reply) => reply,
            Err(reply) => *reply,
        }
    }

    async fn executor_call(
        self: &Rc<Self>,
        request: Request<Incoming>,
        denied: Option<Denied>,
    ) -> Result<Reply, Early> {
        let (mut call, headers) = if self.knows_executor(denied.as_ref(), request.headers()) {
            request::message::<Call>(&self.port.bodies, request).await?
        } else {
            request::short_message::<Call>(&self.port.bodies, request).await?
        };
        executors::validate(&call).map_err(|why| {
            if call.r#type() == Type::Update {
                self.outcomes.came_of(Awaited::Update, Err(Refusal::Malformed));
            }
            early(StatusCode::BAD_REQUEST, why)
        })?;
        let media =
            if call.r#type() == Type::Subscribe { Some(request::asked(&headers)?) } else { None };
        let framework = match self.framework_of(&call) {
            // Whoever that is, it changes nothing.
            Err(_) if call.r#type() == Type::Heartbeat => return Ok(status(StatusCode::ACCEPTED)),
            known => known?,
        };
        self.check_executor(&call, framework, denied, &headers)?;
        self.place_update(&mut call, framework);
        let said = executors::to_wire(&call, framework)
            .map_err(|why| early(StatusCode::BAD_REQUEST, why))?;
        if let Some(media) = media {
            return self.executor_subscribes(&call, framework, media, said).await;
        }
        let executor = match self.executors.named(framework, &call.executor_id.value) {
            Some(executor) => executor,
            // It is alive, and nobody waits for it yet.
            None if call.r#type() == Type::Heartbeat => return Ok(status(StatusCode::ACCEPTED)),
            None => return Err(early(StatusCode::FORBIDDEN, "Executor is not subscribed")),
        };
        if let (Some(update), Some(container)) =
            (&call.update, self.executors.container_at(executor.conn))
        {
            let status = &update.status;
            let (task, uuid) = (status.task_id.value.clone(), status.uuid().to_vec());
            let mut again = pb::executor::Event::default();
            again.set_type(pb::executor::event::Type::Acknowledged);
            again.acknowledged = Some(pb::executor::event::Acknowledged {
                task_id: status.task_id.clone(),
                uuid: uuid.clone(),
            });
            if self.executors.is_again(Heard { container, task, uuid, state: status.state }) {
                executor.tell(&again);
                return Ok(self::status(StatusCode::ACCEPTED));
            }
        }
        for part in said {
            self.port.room().await;
            self.put_executor_call(executor.conn, part, |_| {})?;
        }
        Ok(status(StatusCode::ACCEPTED))
    }

    /// Says of what an executor tells which process that is, and where, if that has an address of its
    /// own. Mesos: `Slave::statusUpdate`.
    fn place_update(&self, call: &mut Call, framework: FrameworkId) {
        let container = self.containers.of_executor(framework, &call.executor_id.value);
        let pid = container.and_then(|container| self.containers.pid(container));
        if let (Some(container), Some(pid), Some(update)) = (container, pid, &mut call.update) {
            let into = update.status.container_status.get_or_insert_with(Default::default);
            into.executor_pid = Some(pid);
            if into.network_infos.is_empty() {
                into.network_infos.extend(self.address_of(container).map(network_info));
            }
        }
    }

    fn framework_of(&self, call: &Call) -> Result<FrameworkId, Early> {
        let cluster = self.own.borrow().cluster;
        let id = FrameworkId::parse(&call.framework_id.value, cluster);
        let id = id.filter(|id| self.executors.frameworks.borrow().contains_key(id));
        id.ok_or_else(|| early(StatusCode::BAD_REQUEST, "Framework cannot be found"))
    }

    /// An answer unless the caller is the executor that it claims to be.
    fn check_executor(
        &self,
        call: &Call,
        framework: FrameworkId,
        denied: Option<Denied>,
        headers: &HeaderMap,
    ) -> Result<(), Early> {
        let name = &call.executor_id.value;
        let container = self.containers.of_executor(framework, name);
        let container =
            container.ok_or_else(|| early(StatusCode::BAD_REQUEST, "Executor cannot be found"))?;
        let (key, _) = self.key.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let here = Inside { key: u64::from_be_bytes(*key), container };
        let asks = self.options.access.asks_executors();
        if !asks && denied == Some(Denied::Inside(Some(here))) {
            return Ok(());
        }
        if let Some(token) = bearer(headers)
            && self.containers.proves(framework, name, &token)
        {
            return Ok(());
        }
        if asks {
            self.options.access.count_refused();
            let message = "401 Unauthorized. Expecting the token of the executor's environment, \
                           MESOS_EXECUTOR_AUTHENTICATION_TOKEN, as a bearer token.";
            let mut reply = early(StatusCode::UNAUTHORIZED, message);
            let challenge = HeaderValue::from_static("Bearer realm=\"mesos-agent-executor\"");
            reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            return Err(reply);
        }
        let message = "only the executor itself may call: the connection is not from its \
                       container, and no token of its environment was shown";
        Err(early(StatusCode::FORBIDDEN, message))
    }

    /// True when some executor makes a request, of this agent: only then can it be the one that it
    /// claims to be.
    fn knows_executor(&self, denied: Option<&Denied>, headers: &HeaderMap) -> bool {
        match denied {
            Some(denied) => self.executor_behind(denied, headers).is_some(),
            None => bearer(headers).is_some_and(|token| self.containers.proved(&token).is_some()),
        }
    }

    /// The container of the executor that a request comes from, which is in it or shows its token.
    pub(super) fn executor_behind(
        &self,
        denied: &Denied,
        headers: &HeaderMap,
    ) -> Option<ContainerId> {
        let shown = bearer(headers).and_then(|token| self.containers.proved(&token));
        let (key, _) = self.key.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let here = |inside: &Inside| inside.key == u64::from_be_bytes(*key);
        match denied {
            _ if shown.is_some() => shown,
            Denied::Inside(Some(inside))
                if here(inside) && !self.options.access.asks_executors() =>
            {
                self.containers.is_executor(inside.container).then_some(inside.container)
            }
            Denied::Inside(_) | Denied::Unknown => None,
        }
    }

    async fn executor_subscribes(
        self: &Rc<Self>,
        call: &Call,
        framework: FrameworkId,
        media: Media,
        said: Vec<Said>,
    ) -> Result<Reply, Early> {
        let conn = self.conns.begin().ok_or_else(|| {
            early(StatusCode::SERVICE_UNAVAILABLE, "too many connections: see --size on the agent")
        })?;
        let max = self.options.stream_bytes_max;
        let records = Rc::new(Records::new(max, self.on_level("an executor")));
        let executor = Rc::new(Executor {
            conn,
            framework,
            name: call.executor_id.value.clone(),
            media,
            records: Rc::clone(&records),
            info: RefCell::default(),
            told: Cell::default(),
        });
        self.executors.by_conn.borrow_mut().insert(conn, Rc::clone(&executor));
        let head_max = u32::try_from(HEAD_MAX).unwrap_or(u32::MAX);
        self.port.put(&Input::Opened { conn, role: Role::Executor, head_max });
        let (me, stream_of) = (Rc::clone(self), Rc::clone(&executor));
        self.tasks.go(async move { me.keep_executor(&stream_of).await });
        // Whoever goes while it is put leaves with it.
        let reply = stream(records, media);
        for part in said {
            let weak = Rc::downgrade(&executor);
            self.port.room().await;
            let put = self.put_executor_call(conn, part, move |refusal| {
                if let Some(executor) = weak.upgrade()
                    && !executor.told.get()
                {
                    executor.tell(&executors::error(refusal));
                    executor.records.close();
                }
            });
            put?;
        }
        Ok(reply)
    }

    /// Keeps a stream alive until its reader is gone.
    async fn keep_executor(&self, executor: &Rc<Executor>) {
        let beats = async {
            loop {
                alarm::after(HEARTBEAT_US).await;
                let mut beat = pb::executor::Event::default();
                beat.set_type(pb::executor::event::Type::Heartbeat);
                executor.tell(&beat);
            }
        };
        futures_lite::future::or(executor.records.left(), beats).await;
        self.executors.by_conn.borrow_mut().remove(&executor.conn);
        self.executors.forget(executor.conn);
        self.conns.end(executor.conn);
        self.port.put(&Input::Closed { conn: executor.conn });
    }

    /// Passes a call on to the core; an answer when there is no room for its bodies.
    fn put_executor_call(
        &self,
        conn: Id,
        said: Said,
        refused: impl FnOnce(&str) + 'static,
    ) -> Result<(), Early> {
        let refs = self.port.store(&said.bodies).ok_or_else(|| {
            let message = "no room for what the call carries: see --max-body-bytes on the agent";
            early(StatusCode::SERVICE_UNAVAILABLE, message)
        })?;
        with_refs(&refs, |list| {
            let input = Input::Frame { conn, head: &said.head, bodies: list };
            let awaited = decode(&said.head).ok().and_then(|head| Awaited::of(&head));
            let me = self.me.clone();
            self.port.put_then(&input, refs.clone(), move |result| {
                if let (Some(awaited), Some(me)) = (awaited, me.upgrade()) {
                    me.outcomes.came_of(awaited, result);
                }
                if let Err(refusal) = result {
                    log::info!("an executor's call is refused: {refusal}");
                    refused(refusal.sentence());
                }
            });
        });
        Ok(())
    }

    /// True for tasks that are not to be given to their executor: they have failed instead.
    pub(super) fn keeps_back(&self, conn: Id, head: &[u8]) -> bool {
        let container = self.executors.container_at(conn);
        let Some(known) = container.and_then(|id| self.containers.get(id)) else { return false };
        if known.unfit.borrow().is_empty() {
            return false;
        }
        let Ok(Head::ExecutorEvent(event)) = decode(head) else { return false };
        let names: Vec<&str> = if let ExecutorEvent::Launch { task } = &event {
            vec![task.task]
        } else if let ExecutorEvent::LaunchGroup { tasks } = &event {
            tasks.iter().map(|task| task.task).collect()
        } else {
            return false;
        };
        let why = names.iter().find_map(|name| known.unfit.borrow().get(*name).cloned());
        let Some(why) = why else { return false };
        for task in names {
            let detail = Detail {
                reason: Some(Reason::ContainerUpdateFailed),
                message: cut(&why),
                ..Detail::default()
            };
            let status = Status {
                task,
                state: TaskState::Failed,
                source: Source::Agent,
                agent: AgentId::NONE,
                uuid: None,
                wall_us: clock::wall_us(),
                detail: Some(detail),
            };
            // Of no name: the executor has said nothing that could be confirmed.
            let call = ExecutorCall::Update(ExecutorUpdate { uuid: [0; 16], status });
            // Our own types have no way to fail.
            let head = postcard::to_allocvec(&Head::ExecutorCall(call)).unwrap_or_default();
            self.port.put(&Input::Frame { conn, head: &head, bodies: Seq::EMPTY });
        }
        true
    }

    /// Tells an executor that listens on a stream; false for whoever does not.
    pub(super) fn tell_executor(&self, conn: Id, head: &[u8], bodies: &[BodyRef]) -> bool {
        let Some(executor) = self.executors.of_conn(conn) else { return false };
        let Ok(Head::ExecutorEvent(event)) = decode(head) else { return true };
        self.executors.told(conn, &event);
        let frameworks = self.executors.frameworks.borrow();
        let none = pb::FrameworkInfo::default();
        let agent = self.agent_info();
        let store = self.port.bodies.borrow();
        let mut info = executor.info.borrow_mut();
        let bytes = |body: Body| store.bytes(body.of(bodies));
        let framework = frameworks.get(&executor.framework).map_or(&none, |known| &known.info);
        let mut telling = Telling { framework, agent: &agent, executor: None, bytes: &bytes };
        if let Some(described) = telling.described(&event) {
            *info = Some(described);
        }
        telling.executor = info.as_ref();
        let told = telling.event(&event);
        drop(store);
        executor.tell(&told);
        true
    }

    /// Ends an executor's stream; false for whoever has none.
    pub(super) fn close_executor(&self, conn: Id) -> bool {
        let Some(executor) = self.executors.of_conn(conn) else { return false };
        executor.records.close();
        true
    }

    /// This agent for the API.
    pub(super) fn agent_info(&self) -> pb::AgentInfo {
        let form = Form { stack: Stack::Old, allocated: false };
        let resources = of_wire(&self.resource_list().list(), "", form);
        let (mut list, mut parts) = (vec![0; describe::MEMORY], vec![0; describe::MEMORY]);
        let mut scratch = Scratch::new(&mut list);
        let named = describe::attributes(&self.attributes, &mut scratch, &mut parts);
        let port = self.options.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        pb::AgentInfo {
            hostname: self.hostname.clone(),
            port,
            resources,
            attributes: attributes(&named.unwrap_or_default()),
            id: self.id().map(|(id, cluster)| crate::v1::events::agent_id(id, cluster)),
            domain: crate::v1::events::domain(&self.options.region, &self.options.zone),
        }
    }

    /// All that it offers.
    pub(super) fn resource_list(&self) -> Resources {
        if let Some(has) = &*self.has.borrow() {
            return has.clone();
        }
        let (mut list, mut parts) = (vec![0; describe::MEMORY], vec![0; describe::MEMORY]);
        let mut scratch = Scratch::new(&mut list);
        let resources = describe::resources(&self.resources, &mut scratch, &mut parts);
        Resources::of(&resources.unwrap_or_default())
    }

    fn id(&self) -> Option<(AgentId, u64)> {
        self.containers.id()
    }
}

/// The token of a request: hexadecimal, as the environment has it.
fn bearer(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let text = value.strip_prefix("Bearer ")?.trim();
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok()).flatten()
    });
    pairs.collect()
}
