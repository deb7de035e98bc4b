//! Mesos' operator API: reads of the catalog, and a stream of what changes in it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use mesita_core::acls::Action;
use mesita_core::doors::Rights;
use mesita_core::master::Fact;
use mesita_core::master::rows::AgentState;
use mesita_core::table::Id;
use mesita_core::wire::task::Reason;

use super::MasterNode;
use super::site::no_file;
use crate::alarm;
use crate::audit::calls::{changes, shown};
use crate::conn::Ends;
use crate::doors::Caller;
use crate::http::body::Body;
use crate::http::media::Media;
use crate::http::records::Records;
use crate::http::{Early, Reply, Visit, early, request, status, stream};
use crate::logging;
use crate::machines::recordio::framed;
use crate::pb::mesos::v1 as pb;
use crate::v1::about as told_about;
use crate::v1::amounts::seconds;
use crate::v1::events::{self, HEARTBEAT_US};
use crate::v1::{maintenance, operations, reads};
use pb::master::call::Type;
use pb::master::{Call, Event, Response, event, response};

/// Streams at once; the oldest goes for a new one. Mesos: 1,000.
const SUBSCRIBERS_MAX: usize = 1_000;

/// Streams of what changes.
#[derive(Default)]
pub(crate) struct Subscribers {
    streams: RefCell<VecDeque<Subscriber>>,
    /// A framework that nobody was told of yet: it is told as what the rest of the step makes of it.
    fresh: Cell<Option<Id>>,
    next: Cell<u64>,
}

struct Subscriber {
    number: u64,
    media: Media,
    /// Who reads it.
    caller: Caller,
    records: Rc<Records>,
}

impl Subscribers {
    /// Ends the streams of callers that are not let in any more.
    pub(super) fn end_those_of(&self, is_gone: impl Fn(&str) -> bool) {
        let streams = self.streams.borrow();
        let gone = streams.iter().filter(|one| is_gone(&one.caller.name));
        gone.for_each(|one| one.records.cut());
    }

    /// Nobody listens.
    fn is_empty(&self) -> bool {
        self.streams.borrow().is_empty()
    }

    /// Tells whoever may see it.
    fn tell(&self, event: &Event, sees: impl Fn(&Caller) -> bool) {
        // Written once in each form that somebody wants.
        let (mut json, mut protobuf) = (None, None);
        for one in self.streams.borrow().iter().filter(|one| sees(&one.caller)) {
            let bytes = match one.media {
                Media::Json => json.get_or_insert_with(|| Media::Json.write(event)),
                Media::Protobuf => protobuf.get_or_insert_with(|| Media::Protobuf.write(event)),
            };
            one.records.push(bytes);
        }
    }

    /// Tells everybody what is theirs to see of it.
    fn tell_each(&self, event: impl Fn(&Caller) -> Event) {
        for one in self.streams.borrow().iter() {
            one.records.push(&one.media.write(&event(&one.caller)));
        }
    }

    /// Streams.
    pub(super) fn len(&self) -> usize {
        self.streams.borrow().len()
    }

    /// Streams, the most of them, and bytes that wait for their readers.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 3] {
        let streams = self.streams.borrow();
        let bytes = streams.iter().map(|one| one.records.bytes() as u64).sum();
        [
            ("operator_streams", streams.len() as u64),
            ("operator_streams_max", SUBSCRIBERS_MAX as u64),
            ("operator_stream_bytes", bytes),
        ]
    }
}

/// Said of who may not use the operator API.
pub(super) const OPERATES_NOT: &str = "only who operates the cluster may: root, the master's own user, \
                                       and principals that operate it, by `mesita principal add --operate` \
                                       or \"operate\": true beside their secret in --credentials";

/// True for a call whose answer is as long as the cluster is large.
fn is_long(kind: Type) -> bool {
    matches!(
        kind,
        Type::GetState
            | Type::GetTasks
            | Type::GetAgents
            | Type::GetFrameworks
            | Type::GetExecutors
            | Type::GetOperations
            | Type::Subscribe
    )
}

impl MasterNode {
    /// `POST /api/v1`
    pub(super) async fn operator(self: Rc<Self>, visit: Visit) -> Reply {
        match self.operator_call(visit).await {
            Ok(reply) => reply,
            Err(reply) => *reply,
        }
    }

    async fn operator_call(self: &Rc<Self>, visit: Visit) -> Result<Reply, Early> {
        self.leads_or_not()?;
        let Visit { request, ends, caller } = visit;
        let operates = caller.rights.has(Rights::OPERATE);
        let (call, headers) = if operates {
            request::message::<Call>(&self.port.bodies, request).await?
        } else {
            request::short_message::<Call>(&self.port.bodies, request).await?
        };
        let kind = call.r#type();
        // Whoever may read what was there before this API may read it here.
        let changes = changes(kind.as_str_name());
        if changes {
            caller.heed.asks(shown(kind.as_str_name()), "");
        } else if kind != Type::Unknown {
            caller.heed.done();
        }
        if !operates && changes {
            return Err(early(StatusCode::FORBIDDEN, OPERATES_NOT));
        }
        if call.r#type.is_none() || kind == Type::Unknown {
            return Err(absent("type"));
        }
        if let Some(set) = &call.set_logging_level
            && kind == Type::SetLoggingLevel
        {
            caller.heed.asks(shown(kind.as_str_name()), set.level.to_string());
            self.options.access.check(&caller, Action::SetLogLevel, None)?;
            let set = logging::asked(&self.tasks, set.level, &set.duration);
            set.map_err(|why| early(StatusCode::BAD_REQUEST, why))?;
            return Ok(status(StatusCode::OK));
        }
        if let Some(field) = missing(&call) {
            let message =
                format!("Failed to validate master::Call: Expecting '{field}' to be present");
            return Err(early(StatusCode::BAD_REQUEST, message));
        }
        let media = request::asked(&headers)?;
        if self.change_resources(&call, &caller).await? {
            return Ok(status(StatusCode::ACCEPTED));
        }
        if self.change(&call, &caller).await? {
            return Ok(status(StatusCode::OK));
        }
        // One long answer at a time, and what else waits goes on between two of them.
        let _turn = if is_long(kind) { Some(self.reading.acquire().await) } else { None };
        alarm::turn().await;
        if kind == Type::Subscribe {
            return self.operator_subscribes(media, &caller);
        }
        let response = self.respond(kind, &ends, &caller)?;
        let mut reply = Reply::new(Body::of(self.long.keep(media.write(&response), operates)?));
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media.name()));
        Ok(reply)
    }

    /// The answer to a call that only reads.
    #[allow(deprecated)] // Calls that Mesos has given up are named, too.
    fn respond(&self, kind: Type, ends: &Ends, caller: &Caller) -> Result<Response, Early> {
        let access = &self.options.access;
        let tables = self.catalog.borrow().now.seen_by(access, caller);
        let about = self.about(ends, caller);
        let mut told = Response::default();
        use response::Type as Of;
        match kind {
            Type::GetHealth => {
                told.set_type(Of::GetHealth);
                told.get_health = Some(response::GetHealth { healthy: true });
            }
            Type::GetFlags => {
                access.check(caller, Action::ViewFlags, None)?;
                told.set_type(Of::GetFlags);
                let flags = told_about::flags(&about.flags);
                told.get_flags = Some(response::GetFlags { flags });
            }
            Type::GetVersion => {
                told.set_type(Of::GetVersion);
                let version_info = told_about::version();
                told.get_version = Some(response::GetVersion { version_info });
            }
            Type::GetMetrics => {
                told.set_type(Of::GetMetrics);
                let metrics = told_about::metrics(&self.snapshot(&tables, &about));
                told.get_metrics = Some(response::GetMetrics { metrics });
            }
            Type::GetLoggingLevel => {
                told.set_type(Of::GetLoggingLevel);
                let level = logging::level();
                told.get_logging_level = Some(response::GetLoggingLevel { level });
            }
            Type::GetState => {
                told.set_type(Of::GetState);
                told.get_state = Some(reads::state(&tables));
            }
            Type::GetAgents => {
                told.set_type(Of::GetAgents);
                told.get_agents = Some(reads::agents(&tables));
            }
            Type::GetFrameworks => {
                told.set_type(Of::GetFrameworks);
                told.get_frameworks = Some(reads::frameworks(&tables));
            }
            Type::GetExecutors => {
                told.set_type(Of::GetExecutors);
                told.get_executors = Some(reads::executors(&tables));
            }
            Type::GetOperations => {
                told.set_type(Of::GetOperations);
                told.get_operations = Some(operations::operations(&tables));
            }
            Type::GetTasks => {
                told.set_type(Of::GetTasks);
                told.get_tasks = Some(reads::tasks(&tables));
            }
            Type::GetRoles => {
                told.set_type(Of::GetRoles);
                told.get_roles = Some(reads::roles(&tables));
            }
            Type::GetWeights => {
                told.set_type(Of::GetWeights);
                let weight_infos = reads::weights(&tables);
                // Mesos has no answer to what nobody has set.
                let any = !weight_infos.is_empty();
                told.get_weights = any.then_some(response::GetWeights { weight_infos });
            }
            Type::GetQuota => {
                told.set_type(Of::GetQuota);
                let tables = tables.with_quotas_seen_by(access, caller);
                let status = reads::quota_status(&tables);
                told.get_quota = Some(response::GetQuota { status });
            }
            Type::GetMaster => {
                told.set_type(Of::GetMaster);
                told.get_master = Some(response::GetMaster {
                    master_info: Some(about.master),
                    start_time: Some(seconds(about.started_us)),
                    elected_time: Some(seconds(about.elected_us)),
                });
            }
            Type::GetMaintenanceSchedule => {
                told.set_type(Of::GetMaintenanceSchedule);
                let action = Action::GetMaintenanceSchedule;
                let tables = tables.with_machines_seen_by(access, caller, action);
                let schedule = maintenance::schedule(&tables);
                told.get_maintenance_schedule = Some(response::GetMaintenanceSchedule { schedule });
            }
            Type::GetMaintenanceStatus => {
                told.set_type(Of::GetMaintenanceStatus);
                let action = Action::GetMaintenanceStatus;
                let tables = tables.with_machines_seen_by(access, caller, action);
                let status = maintenance::status(&tables);
                told.get_maintenance_status = Some(response::GetMaintenanceStatus { status });
            }
            Type::SetLoggingLevel => return Err(absent("set_logging_level")),
            Type::ListFiles | Type::ReadFile => return Err(no_file()),
            Type::Unknown
            | Type::Subscribe
            | Type::UpdateWeights
            | Type::ReserveResources
            | Type::UnreserveResources
            | Type::CreateVolumes
            | Type::DestroyVolumes
            | Type::GrowVolume
            | Type::ShrinkVolume
            | Type::UpdateMaintenanceSchedule
            | Type::StartMaintenance
            | Type::StopMaintenance
            | Type::DrainAgent
            | Type::DeactivateAgent
            | Type::ReactivateAgent
            | Type::UpdateQuota
            | Type::SetQuota
            | Type::RemoveQuota
            | Type::Teardown
            | Type::MarkAgentGone => {
                let message = format!("{} is not supported by this release", kind.as_str_name());
                return Err(early(StatusCode::NOT_IMPLEMENTED, message));
            }
        }
        Ok(told)
    }

    fn operator_subscribes(self: &Rc<Self>, media: Media, caller: &Caller) -> Result<Reply, Early> {
        let max = self.options.stream_bytes_max;
        let operates = caller.rights.has(Rights::OPERATE);
        let records = Records::new(max, |level| {
            if level == crate::machines::waiting::Level::Overrun {
                log::warn!("an operator's stream that reads too slowly was cut");
            }
        });
        let records = Rc::new(records.under(Rc::clone(&self.options.standing)));
        let number = self.subscribers.next.get();
        self.subscribers.next.set(number + 1);
        // The new stream has it in what it is told first.
        self.tell_fresh(self.subscribers.fresh.take());
        let seen = self.catalog.borrow().now.seen_by(&self.options.access, caller);
        let snapshot = Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(event::Subscribed {
                get_state: Some(reads::state(&seen.told_first())),
                heartbeat_interval_seconds: Some(seconds(HEARTBEAT_US)),
            }),
            ..Event::default()
        };
        records.push_framed(self.long.keep(framed(&media.write(&snapshot)), operates)?);
        records.push(&media.write(&beat()));
        let (caller, to) = (caller.clone(), Rc::clone(&records));
        let subscriber = Subscriber { number, media, caller, records: to };
        {
            let mut streams = self.subscribers.streams.borrow_mut();
            streams.push_back(subscriber);
            if streams.len() > SUBSCRIBERS_MAX
                && let Some(oldest) = streams.pop_front()
            {
                oldest.records.close();
            }
        }
        let (me, of) = (Rc::clone(self), Rc::clone(&records));
        self.tasks.go(async move {
            let beats = async {
                loop {
                    alarm::after(HEARTBEAT_US).await;
                    of.push(&media.write(&beat()));
                }
            };
            futures_lite::future::or(of.left(), beats).await;
            me.subscribers.streams.borrow_mut().retain(|one| one.number != number);
        });
        Ok(stream(records, media))
    }

    /// What a fact changes for who listens, told from the rows as they are before it is folded.
    pub(super) fn before_fact(&self, fact: &Fact<'_>) -> Option<Change> {
        if self.subscribers.is_empty() {
            return None;
        }
        let tables = &self.catalog.borrow().now;
        match *fact {
            Fact::AgentState { row, state } => {
                let agent = tables.agents.get(row)?;
                let before = agent.state;
                match (agent.shown, state) {
                    // One that was away for a while was there all the time.
                    (false, AgentState::Active) => Some(Change::AgentAdded(row)),
                    (_, AgentState::Losing | AgentState::Unreachable | AgentState::Gone)
                        if !is_lost(before) =>
                    {
                        self.agent_removed(row)
                    }
                    _ => None,
                }
            }
            // That one is lost was told when it was.
            Fact::AgentGone { row } if is_lost(tables.agents.get(row)?.state) => None,
            Fact::AgentGone { row } => self.agent_removed(row),
            Fact::Framework { row, .. } => Some(match tables.frameworks.get(row) {
                Some(_) => Change::FrameworkUpdated(row),
                None => Change::FrameworkAdded(row),
            }),
            Fact::FrameworkState { row, .. } => Some(Change::FrameworkUpdated(row)),
            Fact::FrameworkGone { row } => {
                let framework_info = reads::framework_info(tables, tables.frameworks.get(row)?);
                let mut told = Event::default();
                told.set_type(event::Type::FrameworkRemoved);
                told.framework_removed = Some(event::FrameworkRemoved { framework_info });
                let user = tables.frameworks.get(row).map(|one| one.of_user().into());
                Some(Change::Told(Box::new(told), user))
            }
            Fact::Task { row, .. } => {
                tables.tasks.get(row).is_none().then_some(Change::TaskAdded(row))
            }
            // What a check found is told, too, though the state stays. Mesos: `Master::updateTask`.
            Fact::TaskState { row, state, reason, .. } => {
                let checked = matches!(
                    reason,
                    Some(Reason::TaskCheckStatusUpdated | Reason::TaskHealthCheckStatusUpdated)
                );
                let changes = tables.tasks.get(row)?.state != state;
                (changes || checked).then_some(Change::TaskUpdated(row))
            }
            Fact::Leading { .. }
            | Fact::Agent { .. }
            | Fact::TaskGone { .. }
            | Fact::Executor { .. }
            | Fact::ExecutorGone { .. }
            | Fact::Offer { .. }
            | Fact::OfferGone { .. }
            | Fact::Quota { .. }
            | Fact::Weight { .. }
            | Fact::AgentKept { .. }
            | Fact::AgentDeactivated { .. }
            | Fact::AgentEmptying { .. }
            | Fact::Machine { .. }
            | Fact::MachineGone { .. }
            | Fact::Inverse { .. }
            | Fact::InverseGone { .. }
            | Fact::Admission(_)
            | Fact::Removed { .. }
            | Fact::Unheard { .. }
            | Fact::Dismissed { .. }
            | Fact::AgentResources { .. }
            | Fact::Operation { .. }
            | Fact::OperationState { .. }
            | Fact::OperationGone { .. } => None,
        }
    }

    fn agent_removed(&self, row: Id) -> Option<Change> {
        let tables = &self.catalog.borrow().now;
        let id = tables.agents.get(row)?.id;
        let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
        let mut told = Event::default();
        told.set_type(event::Type::AgentRemoved);
        told.agent_removed = Some(event::AgentRemoved { agent_id: events::agent_id(id, cluster) });
        Some(Change::Told(Box::new(told), None))
    }

    /// Tells who listens of a change, from the rows as they are now. A new framework is told once it
    /// is known whether it is connected: with the next change, or when the step is over.
    pub(super) fn after_fact(&self, change: Change) {
        match (self.subscribers.fresh.take(), change) {
            (Some(fresh), Change::FrameworkUpdated(row)) if row == fresh => {
                self.tell_change(Change::FrameworkAdded(row));
            }
            (fresh, Change::FrameworkAdded(row)) => {
                self.tell_fresh(fresh);
                self.subscribers.fresh.set(Some(row));
                let me = self.me.clone();
                self.tasks.go(async move {
                    futures_lite::future::yield_now().await;
                    if let Some(me) = me.upgrade() {
                        me.tell_fresh(me.subscribers.fresh.take());
                    }
                });
            }
            (fresh, change) => {
                self.tell_fresh(fresh);
                self.tell_change(change);
            }
        }
    }

    fn tell_fresh(&self, fresh: Option<Id>) {
        if let Some(row) = fresh {
            self.tell_change(Change::FrameworkAdded(row));
        }
    }

    fn tell_change(&self, change: Change) {
        let tables = self.catalog.borrow().now.clone();
        let access = &self.options.access;
        let of = |id: Id| tables.frameworks.get(id).map_or("", |row| row.of_user());
        let mut told = Event::default();
        let (mut of_framework, mut of_task) = (None, None);
        match change {
            Change::Told(event, user) => {
                let sees = |caller: &Caller| {
                    user.as_ref().is_none_or(|user| access.sees_frameworks(caller, user))
                };
                return self.subscribers.tell(&event, sees);
            }
            Change::AgentAdded(id) => {
                let Some(row) = tables.agents.get(id) else { return };
                told.set_type(event::Type::AgentAdded);
                let agent = reads::agent(&tables, id, row);
                told.agent_added = Some(event::AgentAdded { agent });
                if !access.is_open(&[Action::ViewRole]) {
                    return self.subscribers.tell_each(|caller| {
                        let agent = reads::agent(&tables.seen_by(access, caller), id, row);
                        let agent_added = Some(event::AgentAdded { agent });
                        Event { agent_added, ..told.clone() }
                    });
                }
            }
            Change::FrameworkAdded(id) => {
                let Some(row) = tables.frameworks.get(id) else { return };
                of_framework = Some(of(id));
                told.set_type(event::Type::FrameworkAdded);
                let framework = reads::framework(&tables, id, row);
                told.framework_added = Some(event::FrameworkAdded { framework });
            }
            Change::FrameworkUpdated(id) => {
                let Some(row) = tables.frameworks.get(id) else { return };
                of_framework = Some(of(id));
                told.set_type(event::Type::FrameworkUpdated);
                let framework = reads::framework(&tables, id, row);
                told.framework_updated = Some(event::FrameworkUpdated { framework });
            }
            Change::TaskAdded(id) => {
                let Some(row) = tables.tasks.get(id) else { return };
                of_task = Some(of(row.framework));
                told.set_type(event::Type::TaskAdded);
                told.task_added = Some(event::TaskAdded { task: reads::task(&tables, row) });
            }
            Change::TaskUpdated(id) => {
                let Some(row) = tables.tasks.get(id) else { return };
                of_task = Some(of(row.framework));
                told.set_type(event::Type::TaskUpdated);
                let task = reads::task(&tables, row);
                told.task_updated = Some(event::TaskUpdated {
                    framework_id: task.framework_id,
                    status: task.statuses.into_iter().last().unwrap_or_default(),
                    state: events::state(row.latest).into(),
                });
            }
        }
        self.subscribers.tell(&told, |caller| {
            of_framework.is_none_or(|user| access.sees_frameworks(caller, user))
                && of_task.is_none_or(|user| access.sees_tasks(caller, user))
        });
    }
}

/// What a call of this kind must have and has not. Mesos: `validation::master::call`.
#[allow(deprecated)] // Calls that Mesos has given up are named, too.
fn missing(call: &Call) -> Option<&'static str> {
    let (field, there) = match call.r#type() {
        Type::ListFiles => ("list_files", call.list_files.is_some()),
        Type::ReadFile => ("read_file", call.read_file.is_some()),
        Type::UpdateWeights => ("update_weights", call.update_weights.is_some()),
        Type::ReserveResources => ("reserve_resources", call.reserve_resources.is_some()),
        Type::UnreserveResources => ("unreserve_resources", call.unreserve_resources.is_some()),
        Type::CreateVolumes => ("create_volumes", call.create_volumes.is_some()),
        Type::DestroyVolumes => ("destroy_volumes", call.destroy_volumes.is_some()),
        Type::GrowVolume => ("grow_volume", call.grow_volume.is_some()),
        Type::ShrinkVolume => ("shrink_volume", call.shrink_volume.is_some()),
        Type::UpdateMaintenanceSchedule => {
            ("update_maintenance_schedule", call.update_maintenance_schedule.is_some())
        }
        Type::StartMaintenance => ("start_maintenance", call.start_maintenance.is_some()),
        Type::StopMaintenance => ("stop_maintenance", call.stop_maintenance.is_some()),
        Type::DrainAgent => ("drain_agent", call.drain_agent.is_some()),
        Type::DeactivateAgent => ("deactivate_agent", call.deactivate_agent.is_some()),
        Type::ReactivateAgent => ("reactivate_agent", call.reactivate_agent.is_some()),
        Type::UpdateQuota => ("update_quota", call.update_quota.is_some()),
        Type::SetQuota => ("set_quota", call.set_quota.is_some()),
        Type::RemoveQuota => ("remove_quota", call.remove_quota.is_some()),
        Type::Teardown => ("teardown", call.teardown.is_some()),
        Type::MarkAgentGone => ("mark_agent_gone", call.mark_agent_gone.is_some()),
        // They only read, or are not supported, or need nothing more.
        Type::Unknown
        | Type::GetHealth
        | Type::GetFlags
        | Type::GetVersion
        | Type::GetMetrics
        | Type::GetLoggingLevel
        | Type::SetLoggingLevel
        | Type::GetState
        | Type::GetAgents
        | Type::GetFrameworks
        | Type::GetExecutors
        | Type::GetOperations
        | Type::GetTasks
        | Type::GetRoles
        | Type::GetWeights
        | Type::GetMaster
        | Type::Subscribe
        | Type::GetMaintenanceStatus
        | Type::GetMaintenanceSchedule
        | Type::GetQuota => return None,
    };
    (!there).then_some(field)
}

const fn is_lost(state: AgentState) -> bool {
    matches!(state, AgentState::Losing | AgentState::Unreachable | AgentState::Gone)
}

/// What a fact changes.
pub(super) enum Change {
    AgentAdded(Id),
    FrameworkAdded(Id),
    FrameworkUpdated(Id),
    TaskAdded(Id),
    TaskUpdated(Id),
    /// What can only be told while the row is there, and the user of its framework, if it has one.
    Told(Box<Event>, Option<Box<str>>),
}

fn beat() -> Event {
    Event { r#type: Some(event::Type::Heartbeat.into()), ..Event::default() }
}

fn absent(what: &str) -> Early {
    let message = format!("Failed to validate master::Call: Expecting '{what}' to be present");
    early(StatusCode::BAD_REQUEST, message)
}
