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
use crate::encoded::Resources;
use crate::legacy::{self, ContainerStatus, Sum, TaskParts, TaskRow};
use crate::pb::mesita::TaskPublic;
use crate::pb::mesos::v1 as pb;
use crate::v1::about::built;
use crate::v1::amounts::seconds;
use crate::v1::events::{MESOS_VERSION, agent_id, framework_id};

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
            "master_hostname": self.leader.borrow().as_deref().and_then(|address| {
                address.rsplit_once(':').map(|(host, _)| host.to_owned())
            }),
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
        let told = |rows: &[&Row]| -> Vec<TaskRow> {
            rows.iter().map(|row| self.task_row(row, &shown)).collect()
        };
        let of = |rows: &[Row], name: &str| -> Vec<TaskRow> {
            told(&rows.iter().filter(|row| row.executor == name).collect::<Vec<_>>())
        };
        // A command runs under an executor of its own name. Mesos: `Slave::getExecutorInfo`.
        let commands = |rows: &[Row], over: bool| -> Vec<Value> {
            let commands = rows.iter().filter(|row| row.executor.is_empty());
            let told = commands.map(|row| {
                let mut lists = [told(&[row]), Vec::new()];
                lists.rotate_right(usize::from(over));
                let (info, at) = (self.command_executor(row), row.at());
                self.executor_json(&info, Some(at), &row.role, Some(&row.resources), lists)
            });
            told.collect()
        };
        let custom = executors.iter().map(|one: &ExecutorRow| {
            let (info, at) = (one.described(), one.container.into());
            let lists = [of(&tasks, &one.name), of(&completed, &one.name)];
            self.executor_json(&info, Some(at), &one.role, Some(&one.resources), lists)
        });
        let gone = |row: &&Row| {
            !row.executor.is_empty() && !executors.iter().any(|one| one.name == row.executor)
        };
        let mut ended = BTreeMap::<&str, Vec<&Row>>::new();
        completed
            .iter()
            .filter(gone)
            .for_each(|row| ended.entry(&row.executor).or_default().push(row));
        let ended = ended.into_iter().map(|(name, rows)| {
            let at = rows.first().map(|row| At::from(row.inside.unwrap_or(row.container)));
            let public = rows.first().map(|row| TaskPublic::decode(&*row.public));
            let info = pb::ExecutorInfo {
                executor_id: pb::ExecutorId { value: name.to_owned() },
                ..public.and_then(Result::ok).and_then(|one| one.executor).unwrap_or_default()
            };
            self.executor_json(&info, at, "", None, [Vec::new(), told(&rows)])
        });
        let over: Vec<Value> = commands(&completed, true).into_iter().chain(ended).collect();
        let live: Vec<Value> = commands(&tasks, false).into_iter().chain(custom).collect();
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

    /// An executor with its tasks: those that live, and those that are over.
    #[allow(deprecated)] // Old clients look at the source.
    fn executor_json(
        &self,
        info: &pb::ExecutorInfo,
        at: Option<At>,
        role: &str,
        resources: Option<&Resources>,
        [tasks, completed]: [Vec<TaskRow>; 2],
    ) -> Value {
        let mut told = json!({
            "id": info.executor_id.value,
            "name": info.name(),
            "source": info.source(),
            "container": at.map(|at| at.id.to_string()),
            "directory": at.map(|at| self.containers.sandbox(at)),
            "resources": resources.map(|list| Sum::of(&list.list())).unwrap_or_default(),
            "tasks": tasks,
            "queued_tasks": [],
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

    fn task_row(&self, row: &Row, framework: &str) -> TaskRow {
        let pid = self.containers.pid(row.container);
        let address = &self.options.address;
        TaskRow::made(TaskParts {
            id: &row.name,
            framework_id: framework.to_owned(),
            executor_id: &row.executor,
            slave_id: self
                .containers
                .id()
                .map(|(id, cluster)| agent_id(id, cluster).value)
                .unwrap_or_default(),
            state: self.state_of(row),
            role: &row.role,
            resources: &row.resources,
            public: &row.public,
            statuses: &self.statuses_of(row),
            container: Some(ContainerStatus::of(row.container, row.inside, address, pid)),
        })
    }

    /// What was told of a task, or is known without having been noted: that it runs.
    pub(super) fn statuses_of(&self, row: &Row) -> Vec<(TaskState, Status)> {
        let (mut all, state) = (row.statuses.clone(), self.state_of(row));
        if state != TaskState::Staging && all.last().is_none_or(|(last, _)| *last != state) {
            all.push((state, Status { source: Source::Agent, ..Status::new(row.told_us) }));
        }
        all
    }

    /// A command of whose end nothing is known runs once its process was started.
    pub(super) fn state_of(&self, row: &Row) -> TaskState {
        let staging = row.state == TaskState::Staging && row.has_own_container();
        if staging && self.containers.has_started(row.container) {
            TaskState::Running
        } else {
            row.state
        }
    }
}
