//! What an agent's `/state` tells: frameworks, executors and tasks that are or were here.

use std::collections::BTreeMap;

use mesita_core::acls::Action;
use mesita_core::wire::FrameworkId;
use mesita_core::wire::task::{Source, TaskState};
use mesita_isolation::cgroups::At;
use prost::Message;
use serde_json::{Value, json};

use super::AgentNode;
use super::tally::{ExecutorRow, Row};
use crate::catalog::rows::Status;
use crate::doors::Caller;
use crate::legacy::{self, Contained, Sum, TaskParts};
use crate::pb::mesita::TaskPublic;
use crate::pb::mesos::v1 as pb;
use crate::v1::about::built;
use crate::v1::amounts::seconds;
use crate::v1::events::{MESOS_VERSION, agent_id, framework_id, own_address};

impl AgentNode {
    /// Everything that runs here, and where. Mesos: `Http::state`.
    pub(super) fn state(&self, caller: &Caller) -> Value {
        let access = &self.options.access;
        let cluster = self.cluster();
        let info = self.agent_info();
        let list = self.resource_list();
        let (reserved, unreserved) = Sum::by_role(&list.list());
        let (reserved_full, unreserved_full) = legacy::full_by_role(&list.list());
        let (reserved_allocated, unreserved_allocated) = self.allocated();
        // A task is told below its executor, so it is seen with that alone.
        let tasks = self.with_executors_seen(caller, self.tasks_seen(caller));
        let completed = self.with_executors_seen(caller, self.completed_seen(caller));
        let executors = self.executors_seen(caller);
        let frameworks = self.frameworks_seen(caller, self.executors.frameworks());
        let frameworks = frameworks.iter().map(|(id, framework)| {
            let rows = |rows: &[Row]| -> Vec<Row> {
                rows.iter().filter(|row| row.framework == *id).cloned().collect()
            };
            let own = executors.iter().filter(|one| one.framework == *id).cloned().collect();
            self.framework_json(*id, framework, own, rows(&tasks), rows(&completed))
        });
        let gone = self.frameworks_seen(caller, self.executors.completed());
        let flags = access.may(caller, Action::ViewFlags, None).then_some(&self.options.flags);
        let over = gone.iter().map(|(id, framework)| {
            let own = completed.iter().filter(|row| row.framework == *id).cloned().collect();
            self.framework_json(*id, framework, Vec::new(), Vec::new(), own)
        });
        let mut told = json!({
            "version": MESOS_VERSION,
            "start_time": seconds(self.started_us),
            "id": info.id.map(|id| id.value),
            "pid": format!("slave(1)@{}", self.options.address),
            "hostname": self.hostname,
            "capabilities": legacy::AGENT_CAPABILITIES,
            "resources": Sum::of(&list.list()),
            "reserved_resources": reserved,
            "unreserved_resources": unreserved,
            "reserved_resources_full": reserved_full,
            "unreserved_resources_full": unreserved_full,
            "reserved_resources_allocated": reserved_allocated,
            "unreserved_resources_allocated": unreserved_allocated,
            "resource_providers": [],
            "attributes": legacy::attributes(&info.attributes),
            "master_hostname": self.master_hostname(),
            "flags": flags.cloned().unwrap_or_default(),
            "frameworks": frameworks.collect::<Vec<Value>>(),
            "completed_frameworks": over.collect::<Vec<Value>>(),
            "cluster": format!("{cluster:016x}"),
        });
        for (name, value) in built() {
            told[name] = value;
        }
        if let Some(domain) = &info.domain {
            told["domain"] = json!(legacy::message(domain));
        }
        let agent = self.told_agent();
        if let (Some(config), Some(drain)) = (&agent.drain_config, self.tally.drain()) {
            told["drain_config"] = json!(legacy::message(config));
            told["estimated_drain_start_time_seconds"] = seconds(drain.since_us).into();
        }
        told
    }

    /// What the master that it is registered with is called, or where that is.
    fn master_hostname(&self) -> Option<String> {
        let called = self.called.borrow().clone();
        let host = || Some(self.leader.borrow().as_deref()?.rsplit_once(':')?.0.to_owned());
        called.or_else(host)
    }

    /// What tasks and executors hold: of what is reserved, by role, and of the rest.
    fn allocated(&self) -> (BTreeMap<String, Sum>, Sum) {
        let (mut reserved, mut unreserved) = (BTreeMap::<String, Sum>::new(), Sum::default());
        let tasks = self.tally.tasks().into_iter().filter(|row| !row.state.is_terminal());
        let executors = self.tally.executors().into_iter().map(|row| row.resources);
        for resources in tasks.map(|row| row.resources).chain(executors) {
            let (of_roles, free) = Sum::by_role(&resources.list());
            unreserved.join(&free);
            for (role, sum) in of_roles {
                reserved.entry(role).or_default().join(&sum);
            }
        }
        (reserved, unreserved)
    }

    #[allow(deprecated)] // Frameworks without MULTI_ROLE have a role and no roles.
    fn framework_json(
        &self,
        id: FrameworkId,
        framework: &pb::FrameworkInfo,
        executors: Vec<ExecutorRow>,
        tasks: Vec<Row>,
        completed: Vec<Row>,
    ) -> Value {
        let shown = framework_id(id, self.cluster()).value;
        let told = |rows: &[&Row]| -> Vec<Value> {
            rows.iter().map(|row| self.task_row(row, &shown)).collect()
        };
        let of = |rows: &[Row], name: &str| -> Vec<Value> {
            told(&rows.iter().filter(|row| row.executor == name).collect::<Vec<_>>())
        };
        // A command runs under an executor of its own name. Mesos: `Slave::getExecutorInfo`.
        let commands = |rows: &[Row]| -> Vec<Value> {
            let commands = rows.iter().filter(|row| row.executor.is_empty());
            let told = commands.map(|row| {
                let mut lists = [told(&[row]), Vec::new(), Vec::new()];
                lists.rotate_right(usize::from(row.state.is_terminal()));
                let (info, at) = (self.command_executor(row), row.at());
                let resources = Sum::of(&row.resources.list());
                self.executor_json(&info, Some(at), &row.role, resources, lists)
            });
            told.collect()
        };
        let own = commands(&tasks);
        // Mesos counts those among the completed whose end is not acknowledged yet.
        let (ended, lives): (Vec<Row>, Vec<Row>) =
            tasks.into_iter().partition(|row| row.state.is_terminal());
        let custom = executors.iter().map(|one: &ExecutorRow| {
            let (info, at) = (one.described(), one.container.into());
            let mut over = of(&ended, &one.name);
            over.extend(of(&completed, &one.name));
            let mut resources = Sum::default();
            for held in self.tally.held_in(one.container) {
                resources.join(&Sum::of(&held.list()));
            }
            let of_it = lives.iter().filter(|row| row.executor == one.name);
            let (waits, has): (Vec<&Row>, Vec<&Row>) = of_it.partition(|row| self.is_queued(row));
            let waits = waits.into_iter().map(|row| self.queued_row(row)).collect();
            let lists = [told(&has), waits, over];
            self.executor_json(&info, Some(at), &one.role, resources, lists)
        });
        // An executor that is no more is there until the ends of its tasks are acknowledged.
        let gone = |rows: &[Row]| -> Vec<Value> {
            let is_gone = |row: &&Row| {
                !row.executor.is_empty() && !executors.iter().any(|one| one.name == row.executor)
            };
            let mut by_name = BTreeMap::<&str, Vec<&Row>>::new();
            let rows = rows.iter().filter(is_gone);
            rows.for_each(|row| by_name.entry(&row.executor).or_default().push(row));
            let told = by_name.into_iter().map(|(name, rows)| {
                let at = rows.first().map(|row| At::from(row.inside.unwrap_or(row.container)));
                let public = rows.first().map(|row| TaskPublic::decode(&*row.public));
                let info = pb::ExecutorInfo {
                    executor_id: pb::ExecutorId { value: name.to_owned() },
                    ..public.and_then(Result::ok).and_then(|one| one.executor).unwrap_or_default()
                };
                let lists = [Vec::new(), Vec::new(), told(&rows)];
                self.executor_json(&info, at, "", Sum::default(), lists)
            });
            told.collect()
        };
        let over = [commands(&completed), gone(&completed)].concat();
        let live = [own, custom.collect(), gone(&ended)].concat();
        let mut told = json!({
            "id": shown,
            "name": framework.name,
            "user": framework.user,
            "failover_timeout": framework.failover_timeout(),
            "checkpoint": true,
            "hostname": framework.hostname(),
            "executors": live,
            "completed_executors": over,
        });
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                told[name] = value;
            }
        };
        put("principal", framework.principal.as_deref().map(Into::into));
        put("webui_url", framework.webui_url.as_deref().map(Into::into));
        put("labels", framework.labels.as_ref().map(|labels| json!(legacy::labels(labels))));
        match &framework.role {
            Some(role) => put("role", Some(role.as_str().into())),
            None => put("roles", Some(json!(framework.roles))),
        }
        told
    }

    /// An executor with its tasks: those that it has, those that wait for it, and those that are over.
    #[allow(deprecated)] // Old clients look at the source.
    fn executor_json(
        &self,
        info: &pb::ExecutorInfo,
        at: Option<At>,
        role: &str,
        resources: Sum,
        [tasks, queued, completed]: [Vec<Value>; 3],
    ) -> Value {
        let mut told = json!({
            "id": info.executor_id.value,
            "name": info.name(),
            "source": info.source(),
            "container": at.map(|at| at.id.to_string()),
            "directory": at.map(|at| self.containers.sandbox(at)),
            "resources": resources,
            "tasks": tasks,
            "queued_tasks": queued,
            "completed_tasks": completed,
        });
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                told[name] = value;
            }
        };
        put("role", (!role.is_empty()).then(|| role.into()));
        put("labels", info.labels.as_ref().map(|labels| json!(legacy::labels(labels))));
        put("type", info.r#type.map(|_| info.r#type().as_str_name().into()));
        told
    }

    /// The executor that a command runs under, which has its name. Mesos: `Slave::getExecutorInfo`.
    #[allow(deprecated)] // Old clients look at the source.
    pub(super) fn command_executor(&self, row: &Row) -> pb::ExecutorInfo {
        pb::ExecutorInfo {
            executor_id: pb::ExecutorId { value: row.name.clone() },
            framework_id: Some(framework_id(row.framework, self.cluster())),
            name: Some(row.command.clone()),
            source: Some(row.name.clone()),
            ..pb::ExecutorInfo::default()
        }
    }

    /// It waits for its executor to subscribe. Mesos: `Executor::queuedTasks`.
    pub(super) fn is_queued(&self, row: &Row) -> bool {
        let waits = row.is_given() && row.state == TaskState::Staging;
        waits && !self.executors.has_subscribed(row.container)
    }

    /// A task that waits. Mesos: `json(JSON::ObjectWriter*, const TaskInfo&)`.
    fn queued_row(&self, row: &Row) -> Value {
        let public = TaskPublic::decode(&*row.public).unwrap_or_default();
        let agent = self.containers.id();
        let mut told = json!({
            "id": row.name,
            "name": public.name(),
            "slave_id": agent.map(|(id, cluster)| agent_id(id, cluster).value),
            "resources": Sum::of(&row.resources.list()),
            "role": row.role,
            "executor_id": row.executor,
        });
        if let Some(discovery) = &public.discovery {
            told["discovery"] = json!(legacy::message(discovery));
        }
        told
    }

    fn task_row(&self, row: &Row, framework: &str) -> Value {
        let agent = self.containers.id();
        let agent = agent.map(|(id, cluster)| agent_id(id, cluster).value);
        let container = Contained {
            id: row.container,
            inside: row.inside,
            ip: self
                .address_of(row.container)
                .or_else(|| own_address(&self.options.address).map(|(ip, _)| ip)),
            executor_pid: self.containers.pid(row.container),
        };
        let parts = TaskParts {
            id: &row.name,
            framework_id: framework,
            executor_id: &row.executor,
            slave_id: &agent.unwrap_or_default(),
            state: self.state_of(row),
            role: &row.role,
            resources: &row.resources,
            public: &row.public,
            statuses: &self.statuses_of(row),
            container: Some(container),
        };
        parts.row()
    }

    /// What was told of a task, or is known without having been noted: that it runs.
    pub(super) fn statuses_of(&self, row: &Row) -> Vec<(TaskState, Status)> {
        let (mut all, state) = (row.statuses.clone(), self.state_of(row));
        if state != TaskState::Staging && all.last().is_none_or(|(last, _)| *last != state) {
            all.push((state, Status { source: Source::Executor, ..Status::new(row.told_us) }));
        }
        all
    }

    /// A command of whose end nothing is known runs once its process was started.
    pub(super) fn state_of(&self, row: &Row) -> TaskState {
        let begins = matches!(row.state, TaskState::Staging | TaskState::Starting);
        if begins && row.has_own_container() && self.containers.has_started(row.container) {
            TaskState::Running
        } else {
            row.state
        }
    }
}
