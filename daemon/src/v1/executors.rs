//! The conversation with executors, both ways.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesita_core::limits::{HEAD_MAX, NAME_MAX, TASKS_PER_HEAD_MAX};
use mesita_core::wire::executor::{ExecutorCall, ExecutorEvent, ExecutorUpdate};
use mesita_core::wire::task::{Detail, Exit, Launch, Reason, Source, Status, TaskState};
use mesita_core::wire::{AgentId, Body, FrameworkId, Head, Scratch, Seq};
use prost::Message;

use super::amounts::{duration_info, micros};
use super::resources::{Form, Stack, of_wire};
use super::tasks::Bodies;
use crate::pb::mesita::TaskPrivate;
use crate::pb::mesos::v1 as pb;
use pb::executor::call::Type;
use pb::executor::{Call, Event, event};

/// Memory for the lists of one call.
const MEMORY: usize = 128 * 1024;
/// Bytes of the message of a status. What is longer is cut, at its end.
const CARRIED_MAX: usize = 16 * 1024;

/// Tasks that one head names, of the longest names.
const NAMED_MAX: usize = 128;
const _: () = assert!(NAMED_MAX <= TASKS_PER_HEAD_MAX && NAMED_MAX * 2 * NAME_MAX <= HEAD_MAX);
/// What is said of a call that no head has room for.
const TOO_LONG: &str = "The call takes more than 64 KiB; send it in parts";

/// A call as the core takes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The head, encoded.
    pub(crate) head: Vec<u8>,
    /// The bodies that it names, in order.
    pub(crate) bodies: Vec<Vec<u8>>,
}

/// Everything that a call must have whoever makes it; else what is wrong, in Mesos' words.
pub(crate) fn validate(call: &Call) -> Result<(), String> {
    let bad = |why: String| Err(format!("Failed to validate executor::Call: {why}"));
    let missing = |what| bad(format!("Expecting '{what}' to be present"));
    if call.r#type.is_none() || call.r#type() == Type::Unknown {
        return missing("type");
    }
    match call.r#type() {
        Type::Subscribe if call.subscribe.is_none() => missing("subscribe"),
        Type::Update if call.update.is_none() => missing("update"),
        Type::Message if call.message.is_none() => missing("message"),
        Type::Subscribe | Type::Update | Type::Message | Type::Heartbeat | Type::Unknown => {
            let updates = call.subscribe.iter().flat_map(|one| &one.unacknowledged_updates);
            for update in call.update.iter().chain(updates) {
                let status = &update.status;
                if status.uuid.is_none() {
                    return bad("Expecting 'uuid' to be present".to_owned());
                }
                if <[u8; 16]>::try_from(status.uuid()).is_err() {
                    return bad("Not a valid UUID".to_owned());
                }
                if status.state() == pb::TaskState::TaskStaging {
                    let why = "Received Call from executor with state set to TASK_STAGING";
                    return bad(why.to_owned());
                }
                if status.executor_id.as_ref().is_some_and(|id| *id != call.executor_id) {
                    let why = "ExecutorID in Call does not match ExecutorID in TaskStatus";
                    return bad(why.to_owned());
                }
                if let Some(why) = status.check_status.as_ref().and_then(bad_check) {
                    return bad(why);
                }
                if status.source() != pb::task_status::Source::Executor {
                    let why = "Received Call from executor with source set to something else";
                    return bad(why.to_owned());
                }
            }
            Ok(())
        }
    }
}

/// What is wrong with the result of a check, if anything. Mesos: `validation::checkStatusInfo`.
fn bad_check(status: &pb::CheckStatusInfo) -> Option<String> {
    use pb::check_info::Type;
    let what = match status.r#type() {
        Type::Command if status.command.is_none() => "command",
        Type::Http if status.http.is_none() => "http",
        Type::Tcp if status.tcp.is_none() => "tcp",
        Type::Unknown => return Some("'check_status.type' must be set".to_owned()),
        Type::Command | Type::Http | Type::Tcp => return None,
    };
    let kind = status.r#type().as_str_name();
    Some(format!("Expecting 'check_status.{what}' to be set for {kind} check's status"))
}

/// A valid call for the core, in as many parts as it takes, in their order.
pub(crate) fn to_wire(call: &Call, framework: FrameworkId) -> Result<Vec<Said>, String> {
    let mut bodies = Bodies::default();
    let call = match call.r#type() {
        Type::Subscribe => {
            let whole = subscribe(call, framework).ok();
            return whole.map_or_else(|| in_parts(call, framework), |whole| Ok(vec![whole]));
        }
        Type::Update => {
            let none = pb::TaskStatus::default();
            let status = call.update.as_ref().map_or(&none, |one| &one.status);
            return Ok(vec![said(&ExecutorCall::Update(update(status, &mut bodies)), bodies)?]);
        }
        Type::Message => {
            let data = call.message.as_ref().map_or(&[][..], |one| &one.data);
            ExecutorCall::Message { data: bodies.put(data.to_vec()) }
        }
        Type::Heartbeat | Type::Unknown => ExecutorCall::Heartbeat,
    };
    Ok(vec![said(&call, bodies)?])
}

/// A SUBSCRIBE with all that it names, if one head has room for it.
fn subscribe(call: &Call, framework: FrameworkId) -> Result<Said, String> {
    let (tasks, updates) = unacknowledged(call);
    if tasks.len().max(updates.len()) > TASKS_PER_HEAD_MAX {
        return Err(TOO_LONG.to_owned());
    }
    let mut memory = vec![0; MEMORY];
    let mut scratch = Scratch::new(&mut memory);
    let mut bodies = Bodies::default();
    let full = |_| TOO_LONG.to_owned();
    let updates: Vec<ExecutorUpdate<'_>> =
        updates.into_iter().map(|status| update(status, &mut bodies)).collect();
    let call = ExecutorCall::Subscribe {
        framework,
        executor: &call.executor_id.value,
        // Whoever it is was found out already.
        token: &[],
        tasks: scratch.seq::<&'static str>(tasks).map_err(full)?,
        updates: scratch.seq::<ExecutorUpdate<'static>>(updates).map_err(full)?,
    };
    said(&call, bodies)
}

/// The same where there is no room: which tasks it has, that it is there, and what it told, each on
/// its own.
fn in_parts(call: &Call, framework: FrameworkId) -> Result<Vec<Said>, String> {
    let (executor, token) = (&*call.executor_id.value, &[][..]);
    let (tasks, updates) = unacknowledged(call);
    let told = updates.iter().map(|status| &*status.task_id.value);
    let names: BTreeSet<&str> = tasks.into_iter().chain(told).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let mut parts = Vec::new();
    let mut memory = vec![0; MEMORY];
    for some in names.chunks(NAMED_MAX) {
        let mut scratch = Scratch::new(&mut memory);
        let tasks = scratch.seq::<&'static str>(some.iter().copied());
        let tasks = tasks.map_err(|_| TOO_LONG.to_owned())?;
        let holds = ExecutorCall::Holds { framework, executor, token, tasks };
        parts.push(said(&holds, Bodies::default())?);
    }
    let (tasks, none) = (Seq::EMPTY, Seq::EMPTY);
    let there = ExecutorCall::Subscribe { framework, executor, token, tasks, updates: none };
    parts.push(said(&there, Bodies::default())?);
    for status in updates {
        let mut bodies = Bodies::default();
        let update = ExecutorCall::Update(update(status, &mut bodies));
        parts.push(said(&update, bodies)?);
    }
    Ok(parts)
}

/// What a SUBSCRIBE names: the tasks that nobody told of, and what was told of others.
fn unacknowledged(call: &Call) -> (Vec<&str>, Vec<&pb::TaskStatus>) {
    let of = || call.subscribe.iter();
    let tasks = of().flat_map(|one| &one.unacknowledged_tasks);
    let updates = of().flat_map(|one| &one.unacknowledged_updates);
    let tasks = tasks.map(|task| task.task_id.value.as_str()).collect();
    (tasks, updates.map(|one| &one.status).collect())
}

fn said(call: &ExecutorCall<'_>, bodies: Bodies) -> Result<Said, String> {
    // Our own types have no way to fail.
    let head = postcard::to_allocvec(&Head::ExecutorCall(*call)).unwrap_or_default();
    if head.len() > HEAD_MAX {
        return Err(TOO_LONG.to_owned());
    }
    Ok(Said { head, bodies: bodies.0 })
}

/// What a text begins with, of at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn update<'s>(status: &'s pb::TaskStatus, bodies: &mut Bodies) -> ExecutorUpdate<'s> {
    let whole = status.message();
    let public = pb::TaskStatus {
        check_status: status.check_status,
        labels: status.labels.clone(),
        container_status: status.container_status.clone(),
        limitation: status.limitation.clone(),
        // Here as well: what the next master is told of it is this body.
        message: (!whole.is_empty()).then(|| cut(whole, CARRIED_MAX).to_owned()),
        ..pb::TaskStatus::default()
    };
    let carried = public != pb::TaskStatus::default();
    let message = cut(whole, NAME_MAX);
    let detail = Detail {
        reason: status.reason.and_then(|reason| {
            // Their numbers are ours.
            postcard::from_bytes::<Reason>(&[u8::try_from(reason).ok()?]).ok()
        }),
        message,
        exit: Exit::Unseen,
        executor: status.executor_id.as_ref().map_or("", |id| &id.value),
        container: None,
        healthy: status.healthy,
        attempt: 0,
        unreachable_wall_us: 0,
        public: if carried { bodies.put(public.encode_to_vec()) } else { Body::NONE },
        data: bodies.put(status.data().to_vec()),
    };
    ExecutorUpdate {
        uuid: <[u8; 16]>::try_from(status.uuid()).unwrap_or_default(),
        status: Status {
            task: &status.task_id.value,
            state: state(status.state()),
            source: Source::Executor,
            agent: AgentId::NONE,
            uuid: None,
            wall_us: micros(status.timestamp()).unwrap_or(0),
            detail: Some(detail),
        },
    }
}

fn state(state: pb::TaskState) -> TaskState {
    // Their numbers are ours.
    let number = u8::try_from(state as i32).unwrap_or(13);
    postcard::from_bytes(&[number]).unwrap_or(TaskState::Unknown)
}

/// What events for an executor are told with.
pub(crate) struct Telling<'t> {
    /// The framework, the agent, and the executor as it was described.
    pub(crate) framework: &'t pb::FrameworkInfo,
    /// See `framework`.
    pub(crate) agent: &'t pb::AgentInfo,
    /// See `framework`; none until it subscribed.
    pub(crate) executor: Option<&'t pb::ExecutorInfo>,
    /// The bytes of a body.
    pub(crate) bytes: &'t dyn Fn(Body) -> Arc<[u8]>,
}

impl Telling<'_> {
    /// The executor as SUBSCRIBED describes it.
    pub(crate) fn described(&self, event: &ExecutorEvent<'_>) -> Option<pb::ExecutorInfo> {
        let ExecutorEvent::Subscribed { executor, .. } = event else { return None };
        let info = pb::ExecutorInfo::decode(&*(self.bytes)(*executor)).unwrap_or_default();
        Some(pb::ExecutorInfo { framework_id: self.framework.id.clone(), ..info })
    }

    /// An event for the executor.
    pub(crate) fn event(&self, event: &ExecutorEvent<'_>) -> Event {
        use event::Type;
        let mut told = Event::default();
        match event {
            ExecutorEvent::Subscribed { container, .. } => {
                told.set_type(Type::Subscribed);
                told.subscribed = Some(event::Subscribed {
                    executor_info: self.described(event).unwrap_or_default(),
                    framework_info: self.framework.clone(),
                    agent_info: self.agent.clone(),
                    container_id: Some(pb::ContainerId {
                        value: container.to_string(),
                        ..pb::ContainerId::default()
                    }),
                });
            }
            ExecutorEvent::Launch { task } => {
                told.set_type(Type::Launch);
                told.launch = Some(event::Launch { task: self.task(task) });
            }
            ExecutorEvent::LaunchGroup { tasks } => {
                told.set_type(Type::LaunchGroup);
                let tasks = tasks.iter().map(|task| self.task(&task)).collect();
                let task_group = pb::TaskGroupInfo { tasks };
                told.launch_group = Some(event::LaunchGroup { task_group });
            }
            ExecutorEvent::Kill { task, grace_us } => {
                told.set_type(Type::Kill);
                let grace =
                    grace_us.map(|us| pb::KillPolicy { grace_period: Some(duration_info(us)) });
                let task_id = pb::TaskId { value: (*task).to_owned() };
                told.kill = Some(event::Kill { task_id, kill_policy: grace });
            }
            ExecutorEvent::Acknowledged { task, uuid } => {
                told.set_type(Type::Acknowledged);
                let task_id = pb::TaskId { value: (*task).to_owned() };
                told.acknowledged = Some(event::Acknowledged { task_id, uuid: uuid.to_vec() });
            }
            ExecutorEvent::Message { data } => {
                told.set_type(Type::Message);
                told.message = Some(event::Message { data: (self.bytes)(*data).to_vec() });
            }
            ExecutorEvent::Shutdown => told.set_type(Type::Shutdown),
            ExecutorEvent::Error { message } => {
                told.set_type(Type::Error);
                told.error = Some(event::Error { message: (*message).to_owned() });
            }
            ExecutorEvent::Heartbeat => told.set_type(Type::Heartbeat),
        }
        told
    }

    /// A task out of its parts: the bodies have the numbers of TaskInfo, so that they are read as
    /// one.
    fn task(&self, launch: &Launch<'_>) -> pb::TaskInfo {
        use pb::framework_info::capability::Type;
        let mut task = pb::TaskInfo::default();
        for body in [launch.public, launch.private] {
            // A part that cannot be read is left out, and what was read of it stays.
            let _ = task.merge(&*(self.bytes)(body));
        }
        task.task_id = pb::TaskId { value: launch.task.to_owned() };
        task.agent_id = self.agent.id.clone().unwrap_or_default();
        // With what is secret in it.
        let private = TaskPrivate::decode(&*(self.bytes)(launch.private)).unwrap_or_default();
        task.container = private.container.or(task.container);
        task.health_check = private.health_check.or(task.health_check);
        task.check = private.check.or(task.check);
        let refined = Type::ReservationRefinement.into();
        let refined = self.framework.capabilities.iter().any(|one| one.r#type == Some(refined));
        let stack = if refined { Stack::New } else { Stack::Old };
        task.resources = of_wire(&launch.resources, "", Form { stack, allocated: true });
        task.max_completion_time = launch.completion_us.map(duration_info);
        task.executor = self.executor.cloned();
        task
    }
}

/// An error that ends an executor's stream.
pub(crate) fn error(message: &str) -> Event {
    Event {
        r#type: Some(event::Type::Error.into()),
        error: Some(event::Error { message: message.to_owned() }),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::transcode::from_json;
    use mesita_core::wire::decode;

    const UPDATE: &str = r#"{"type":"UPDATE","framework_id":{"value":"f"},
        "executor_id":{"value":"e"},"update":{"status":{"task_id":{"value":"t"},
        "state":"TASK_RUNNING","source":"SOURCE_EXECUTOR","uuid":"AAAAAAAAAAAAAAAAAAAAAQ==",
        "data":"aGk=","timestamp":1.5,"labels":{"labels":[{"key":"k"}]}}}}"#;

    #[test]
    fn an_update_is_said_with_what_it_carries() {
        let call: Call = from_json(UPDATE.as_bytes()).unwrap();
        validate(&call).unwrap();
        let [said] = &to_wire(&call, FrameworkId { epoch: 1, number: 1 }).unwrap()[..] else {
            panic!("more than one part");
        };
        assert_eq!(said.bodies.len(), 2);
        assert_eq!(said.bodies[1], b"hi");
        let Ok(Head::ExecutorCall(ExecutorCall::Update(update))) = decode(&said.head) else {
            panic!("no update");
        };
        assert_eq!((update.status.task, update.status.state), ("t", TaskState::Running));
        assert_eq!((update.uuid[15], update.status.wall_us), (1, 1_500_000));
    }

    #[test]
    fn an_update_needs_a_uuid_and_comes_from_the_executor() {
        for (from, to, words) in [
            ("AAAAAAAAAAAAAAAAAAAAAQ==", "AAAA", "Not a valid UUID"),
            (r#""uuid":"AAAAAAAAAAAAAAAAAAAAAQ==","#, "", "Expecting 'uuid' to be present"),
            ("SOURCE_EXECUTOR", "SOURCE_AGENT", "source set to something else"),
            (r#""update":{"#, r#""other":{"#, "Expecting 'update' to be present"),
            (r#""data":"#, r#""check_status":{"type":"COMMAND"},"data":"#, "check_status.command"),
            (r#""data":"#, r#""check_status":{},"data":"#, "check_status.type"),
            (r#""type":"UPDATE","#, "", "Expecting 'type' to be present"),
        ] {
            let call: Call = from_json(UPDATE.replace(from, to).as_bytes()).unwrap();
            let why = validate(&call).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn a_task_is_put_together_again() {
        let public = crate::pb::mesita::TaskPublic {
            name: Some("name".to_owned()),
            ..crate::pb::mesita::TaskPublic::default()
        };
        let private = TaskPrivate { data: Some(b"data".to_vec()), ..TaskPrivate::default() };
        let bodies = [public.encode_to_vec(), private.encode_to_vec()];
        let bytes = |body: Body| body.index().map_or(Arc::from([]), |at| Arc::from(&*bodies[at]));
        let telling = Telling {
            framework: &pb::FrameworkInfo::default(),
            agent: &pb::AgentInfo::default(),
            executor: None,
            bytes: &bytes,
        };
        let info = pb::TaskInfo::default();
        let launch = Launch {
            task: "t",
            public: Body::at(0),
            private: Body::at(1),
            resources: Seq::EMPTY,
            ..super::super::tasks::nothing_of(&info, AgentId::NONE)
        };
        let task = telling.event(&ExecutorEvent::Launch { task: launch }).launch.unwrap().task;
        assert_eq!((task.name.as_str(), task.data()), ("name", &b"data"[..]));
        assert_eq!(task.task_id.value, "t");
    }
}
