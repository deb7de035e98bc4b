//! Tasks as these endpoints tell them, of masters and of agents. There are many of them, so they are
//! written by hand. Mesos: `common/http.cpp`, `JSON::Object model(Task)`.

use std::net::IpAddr;
use std::rc::Rc;

use mesita_core::table::Id;
use mesita_core::wire::ContainerId;
use mesita_core::wire::task::TaskState;
use prost::Message;
use serde_json::Value;
use serde_json::value::RawValue;

use super::amounts::Sum;
use super::ink::Row;
use super::rows::{labels, message};
use crate::catalog::Tables;
use crate::catalog::rows::{Agent, Completed, Status, Task};
use crate::encoded::Resources;
use crate::pb::mesita::TaskPublic;
use crate::pb::mesos::v1 as pb;
use crate::pb::mesos::v1::{ContainerStatus, TaskStatus};
use crate::v1::events::{network_info, own_address, place};

/// What a task's row is made of, at the master and at its agent.
pub(crate) struct TaskParts<'p> {
    pub(crate) id: &'p str,
    pub(crate) framework_id: &'p str,
    /// Empty for a command at the master.
    pub(crate) executor_id: &'p str,
    pub(crate) slave_id: &'p str,
    pub(crate) state: TaskState,
    pub(crate) role: &'p str,
    pub(crate) resources: &'p Resources,
    /// What everybody may see of it.
    pub(crate) public: &'p [u8],
    pub(crate) statuses: &'p [(TaskState, Status)],
    pub(crate) container: Option<Contained>,
}

/// A container, inside of another or not, and the address of its agent, which is its own.
/// Mesos: `Slave::statusUpdate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contained {
    pub(crate) id: ContainerId,
    pub(crate) inside: Option<ContainerId>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) executor_pid: Option<u32>,
}

/// Writes the rows of tasks, of which many have the framework, the agent or the resources of the one
/// before.
pub(super) struct Tasks {
    tables: Rc<Tables>,
    framework: (Id, String),
    agent: OfAgent,
    had: Had,
}

/// What was told last, and is likely to be told again: resources, the network of an agent, and where a
/// task is.
#[derive(Default)]
struct Had {
    resources: (Resources, Vec<u8>),
    network: (Option<IpAddr>, Vec<u8>),
    place: (Option<(Contained, Option<u32>)>, Vec<u8>),
}

impl Had {
    /// Resources as these endpoints tell them.
    fn resources(&mut self, resources: &Resources) -> &[u8] {
        let (of, text) = &mut self.resources;
        if text.is_empty() || of != resources {
            of.clone_from(resources);
            text.clear();
            Row::write(text, |row| Sum::of(&resources.list()).write(row));
        }
        text
    }

    /// The status of a container with that process.
    fn place(&mut self, container: Contained, pid: Option<u32>) -> &[u8] {
        if self.place.0 != Some((container, pid)) {
            if let Some(ip) = container.ip.filter(|ip| self.network.0 != Some(*ip)) {
                self.network = (Some(ip), network(ip));
            }
            self.place.0 = Some((container, pid));
            self.place.1.clear();
            let network = &self.network.1;
            Row::write(&mut self.place.1, |row| container.write(row, pid, network));
        }
        &self.place.1
    }
}

/// The networks of what has one address.
fn network(ip: IpAddr) -> Vec<u8> {
    let mut text = Vec::new();
    Row::write(&mut text, |row| {
        row.key("ip_addresses").objects([ip], |row, ip| {
            row.key("protocol").word(if ip.is_ipv4() { "IPv4" } else { "IPv6" });
            row.key("ip_address").shown(ip);
        });
    });
    [&b"["[..], &text, b"]"].concat()
}

/// What tasks tell of their agent.
#[derive(Default)]
struct OfAgent {
    row: Id,
    id: String,
    ip: Option<IpAddr>,
}

impl Tasks {
    /// Of the tables of one moment.
    pub(super) fn of(tables: &Rc<Tables>) -> Self {
        let framework = (Id::default(), String::new());
        Self {
            tables: Rc::clone(tables),
            framework,
            agent: OfAgent::default(),
            had: Had::default(),
        }
    }

    /// Writes the row of a task.
    pub(super) fn write(&mut self, into: &mut Vec<u8>, task: &Task) {
        let cluster = self.tables.leading.map_or(0, |(cluster, _)| cluster);
        if self.framework.1.is_empty() || self.framework.0 != task.framework {
            let framework = self.tables.frameworks.get(task.framework);
            let id = framework.map(|one| one.id.shown(cluster).to_string()).unwrap_or_default();
            self.framework = (task.framework, id);
        }
        if self.agent.id.is_empty() || self.agent.row != task.agent {
            let agent = self.tables.agents.get(task.agent);
            self.agent = OfAgent {
                row: task.agent,
                id: agent.map(|one| one.id.shown(cluster).to_string()).unwrap_or_default(),
                ip: ip(agent),
            };
        }
        parts(task, &self.framework.1, &self.agent.id, self.agent.ip).write(into, &mut self.had);
    }

    /// Writes the row of a task that is over or unreachable.
    pub(super) fn write_completed(&mut self, into: &mut Vec<u8>, one: &Completed) {
        let cluster = self.tables.leading.map_or(0, |(cluster, _)| cluster);
        let framework = one.framework_id.shown(cluster).to_string();
        let agent = one.agent_id.shown(cluster).to_string();
        let ip = ip(self.tables.agents.get(one.task.agent));
        parts(&one.task, &framework, &agent, ip).write(into, &mut self.had);
    }
}

fn ip(agent: Option<&Agent>) -> Option<IpAddr> {
    own_address(agent?.info.info()?.address).map(|(ip, _)| ip)
}

fn parts<'p>(
    task: &'p Task,
    framework_id: &'p str,
    slave_id: &'p str,
    ip: Option<IpAddr>,
) -> TaskParts<'p> {
    let is_contained = task.container != ContainerId::default();
    let ip = task.own_ip().or(ip);
    let contained = Contained { id: task.container, inside: None, ip, executor_pid: None };
    TaskParts {
        id: &task.name,
        framework_id,
        executor_id: &task.executor,
        slave_id,
        state: task.latest,
        role: &task.role,
        resources: &task.resources,
        public: &task.public,
        statuses: &task.statuses,
        container: is_contained.then_some(contained),
    }
}

impl TaskParts<'_> {
    /// The row as a value.
    pub(crate) fn row(&self) -> Value {
        let mut text = Vec::new();
        self.write(&mut text, &mut Had::default());
        // Our own rows have no way to fail.
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes the row.
    fn write(&self, into: &mut Vec<u8>, had: &mut Had) {
        let public = TaskPublic::decode(self.public).unwrap_or_default();
        Row::write(into, |row| {
            row.key("id").text(self.id);
            row.key("name").text(public.name());
            row.key("framework_id").word(self.framework_id);
            row.key("executor_id").text(self.executor_id);
            row.key("slave_id").word(self.slave_id);
            row.key("state").word(self.state.name());
            row.key("resources").raw(had.resources(self.resources));
            row.key("role").text(self.role);
            row.key("statuses").objects(self.statuses, |row, (state, status)| {
                self.write_status(row, *state, status, had);
            });
            if let Some(user) = &public.user {
                row.key("user").text(user);
            }
            let mut put = |name, value: Option<Box<RawValue>>| {
                if let Some(value) = value {
                    row.key(name).raw(value.get().as_bytes());
                }
            };
            put("labels", public.labels.as_ref().map(labels));
            put("discovery", public.discovery.as_ref().map(message));
            put("container", public.container.as_ref().map(message));
            put("health_check", public.health_check.as_ref().map(message));
            if !public.limits.is_empty() {
                // How far it may go above what it has; no number where there is no limit.
                row.key("limits").object(|row| {
                    for (name, limit) in &public.limits {
                        match serde_json::Number::from_f64(limit.value) {
                            Some(value) => row.key_of(name).plain(value),
                            None => row.key_of(name).word("Infinity"),
                        }
                    }
                });
            }
        });
    }

    fn write_status(&self, row: &mut Row<'_>, state: TaskState, status: &Status, had: &mut Had) {
        row.key("state").word(state.name());
        row.key("timestamp").seconds(status.told_us);
        if status.more {
            self.write_carried(row, status);
        } else if let Some(container) = self.container {
            row.key("container_status").raw(had.place(container, status.pid));
        }
        if let Some(healthy) = status.healthy {
            row.key("healthy").plain(healthy);
        }
    }
}

impl TaskParts<'_> {
    /// Labels, and all that was said of networks.
    fn write_carried(&self, row: &mut Row<'_>, status: &Status) {
        let mut told = TaskStatus::decode(&*status.public).unwrap_or_default();
        if let Some(labels) = told.labels.as_ref().map(labels) {
            row.key("labels").raw(labels.get().as_bytes());
        }
        if let Some(container) = self.container {
            place(&mut told, &container.status(status.pid));
        }
        if let Some(container) = told.container_status.as_ref().map(message) {
            row.key("container_status").raw(container.get().as_bytes());
        }
    }
}

impl Contained {
    /// The same as a message.
    fn status(&self, pid: Option<u32>) -> ContainerStatus {
        let id = |id: ContainerId| pb::ContainerId { value: id.to_string(), parent: None };
        let parent = self.inside.map(|around| Box::new(id(around)));
        ContainerStatus {
            container_id: Some(pb::ContainerId { parent, ..id(self.id) }),
            network_infos: self.ip.map(network_info).into_iter().collect(),
            executor_pid: self.executor_pid.or(pid),
            ..ContainerStatus::default()
        }
    }

    fn write(&self, row: &mut Row<'_>, pid: Option<u32>, network: &[u8]) {
        row.key("container_id").object(|row| {
            row.key("value").shown(self.id);
            if let Some(around) = self.inside {
                row.key("parent").object(|row| row.key("value").shown(around));
            }
        });
        if self.ip.is_some() {
            row.key("network_infos").raw(network);
        }
        if let Some(pid) = self.executor_pid.or(pid) {
            row.key("executor_pid").plain(pid);
        }
    }
}
