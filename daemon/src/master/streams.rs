//! Streams that clients open: a task's output, which its agent has, and the catalog's rows.

use std::collections::BTreeMap;
use std::rc::Rc;

use mesita_core::acls::Action;
use mesita_core::doors::Rights;
use mesita_core::wire::hello::Role;
use mesita_core::wire::svc::{CloseReason, LogsOf, Rows, Stream, Svc};
use mesita_core::wire::{AgentId, FrameworkId, Head};
use serde_json::{Value, json};

use super::MasterNode;
use crate::access::denied as access_denied;
use crate::catalog::Tables;
use crate::catalog::rows::{Framework, Used, weight_json};
use crate::conn::carried::{ROOM, carry};
use crate::conn::streams::{Handle, Streams, refuse};
use crate::conn::{Conn, Pipe};
use crate::http;
use crate::set::begin::together;

/// Bytes of JSON that are gathered before they are sent.
const GATHER: usize = 8 * 1024;

impl MasterNode {
    /// Serves a stream that a peer asked for.
    pub(super) fn open_stream(&self, conn: &Rc<Conn>, number: u32, kind: Stream<'_>, window: u32) {
        if let Stream::Rekey { key } = kind {
            return self.take_key(conn, number, window, key);
        }
        // Whoever has an agent's key is to have that agent alone.
        if conn.peer.role == Role::Agent {
            let message = "an agent asks for nothing of the cluster: it opens no streams";
            return refuse(conn, number, CloseReason::Denied, message);
        }
        if (conn.peer.role == Role::Master) != (kind == Stream::Charter) {
            let message = "what masters have in common is for one that has joined, and it asks for \
                           nothing else";
            return refuse(conn, number, CloseReason::Denied, message);
        }
        match kind {
            Stream::Charter => self.give_charter(conn, number, window),
            Stream::Logs { agent, of, which, offset, follow } => {
                let there = |of| Stream::Logs { agent: AgentId::NONE, of, which, offset, follow };
                self.join_output(conn, number, window, self.find(conn, agent, of), there);
            }
            Stream::Follow { agent, of, which, offset } => {
                let there = |of| Stream::Follow { agent: AgentId::NONE, of, which, offset };
                self.join_output(conn, number, window, self.find(conn, agent, of), there);
            }
            Stream::Rows { of: Rows::Audit } if !conn.caller.rights.has(Rights::OPERATE) => {
                let message = "only who operates the cluster learns who changed it";
                refuse(conn, number, CloseReason::Denied, message);
            }
            Stream::Rows { of } => {
                let handle = Streams::serve(conn, number, window);
                let (access, caller) = (&self.options.access, &conn.caller);
                let tables = self.catalog.borrow().now.seen_by(access, caller);
                let action = Action::GetMaintenanceSchedule;
                let tables = tables.with_quotas_seen_by(access, caller);
                let tables = tables.with_machines_seen_by(access, caller, action);
                let more = if of == Rows::Masters {
                    self.rows_of_masters()
                } else if of == Rows::Audit {
                    let (host, port) = self.advertised(&conn.ends);
                    let begin = self.audit.begin(&together(&host, port));
                    [begin].into_iter().chain(self.audit.rows()).collect()
                } else {
                    Vec::new()
                };
                let nodes = match of {
                    Rows::Agents => self.set().map(|set| set.nodes_of_agents()),
                    Rows::Tasks
                    | Rows::Frameworks
                    | Rows::Completed
                    | Rows::Quotas
                    | Rows::Weights
                    | Rows::Machines
                    | Rows::Masters
                    | Rows::Audit => None,
                };
                let nodes = nodes.unwrap_or_default();
                self.tasks.go(send_rows(handle, tables, of, nodes, more));
            }
            Stream::Explain { framework, agent, need, attributes } => {
                let Some(me) = self.me.upgrade() else { return };
                match self.read_question(&conn.caller, framework, agent, need, attributes) {
                    Ok(asked) => {
                        let handle = Streams::serve(conn, number, window);
                        self.tasks.go(async move { me.send_answer(handle, &asked).await });
                    }
                    Err(message) => refuse(conn, number, CloseReason::NotFound, &message),
                }
            }
            Stream::Store { owner, key, verb } => {
                self.open_store(conn, number, window, (owner, key, verb));
            }
            Stream::Http { agent } if agent.is_none() => self.serve_carried(conn, number, window),
            Stream::Http { .. } | Stream::Exec { .. } | Stream::Rekey { .. } => {
                let message = "this kind of stream is not served by this release";
                refuse(conn, number, CloseReason::Unsupported, message);
            }
        }
    }

    /// Joins a stream to one of the agent that has an output.
    fn join_output<'o>(
        &self,
        conn: &Rc<Conn>,
        number: u32,
        window: u32,
        found: Result<(AgentId, LogsOf<'o>), (CloseReason, String)>,
        there: impl FnOnce(LogsOf<'o>) -> Stream<'o>,
    ) {
        let (agent, of) = match found {
            Ok(found) => found,
            Err((reason, message)) => return refuse(conn, number, reason, &message),
        };
        let Some(to) = self.connection_of(agent) else {
            let message = "its agent is not connected now";
            return refuse(conn, number, CloseReason::Gone, message);
        };
        let kind = there(of);
        if to.peer.version < Head::Svc(Svc::Open { stream: 0, kind, window }).since() {
            let message = "its agent is of an older release";
            return refuse(conn, number, CloseReason::Unsupported, message);
        }
        if !Streams::join(conn, number, window, &to, kind) {
            let message = "its agent has as many streams open as it can";
            refuse(conn, number, CloseReason::Overloaded, message);
        }
    }

    /// Serves HTTP to whoever is at the other end, as on a connection of its own: who has proven there
    /// who it is shows nothing more.
    fn serve_carried(&self, conn: &Rc<Conn>, number: u32, window: u32) {
        let Some(me) = self.me.upgrade() else { return };
        let handle = Streams::serve(conn, number, window);
        handle.take_in();
        let (near, far) = Pipe::pair(ROOM);
        self.tasks.go(carry(handle, far));
        let proven = conn.proven.borrow().clone();
        let caller = proven.unwrap_or_else(|| conn.caller.clone());
        let near = Pipe { ends: conn.ends, ..near };
        self.tasks.go(http::serve_as(near, me, Ok(caller)));
    }

    /// The agent that has an output, and the container that it is of. A framework's caller may
    /// read its output, and whoever operates the cluster that of everybody.
    fn find<'o>(
        &self,
        conn: &Conn,
        agent: AgentId,
        of: LogsOf<'o>,
    ) -> Result<(AgentId, LogsOf<'o>), (CloseReason, String)> {
        let operates = conn.caller.rights.has(Rights::OPERATE);
        let denied = || {
            let message = "only who runs a task, or operates the cluster, may read its output";
            (CloseReason::Denied, message.to_owned())
        };
        let not_found = |message: String| (CloseReason::NotFound, message);
        let catalog = self.catalog.borrow();
        let user = match of {
            LogsOf::Task { framework, task } => match catalog.task(framework, task) {
                Some((_, row)) => catalog.now.frameworks.get(row.framework).map(Framework::of_user),
                None => catalog.completed(framework, task).map(|one| &*one.user),
            },
            LogsOf::Container(_) => None,
        };
        let (access, caller) = (&self.options.access, &conn.caller);
        if !access.may(caller, Action::AccessSandbox, user) {
            return Err((CloseReason::Denied, access_denied(caller, Action::AccessSandbox, user)));
        }
        match of {
            LogsOf::Container(_) if !operates => Err(denied()),
            LogsOf::Container(_) if agent.is_none() => {
                Err(not_found("a container is named by its agent, too".to_owned()))
            }
            LogsOf::Container(container) => Ok((agent, LogsOf::Container(container))),
            LogsOf::Task { framework, task } => match catalog.task(framework, task) {
                Some((_, row)) => {
                    let owner = catalog.now.frameworks.get(row.framework);
                    let owns = owner.is_some_and(|owner| *owner.caller == *conn.caller.name);
                    if !owns && !operates {
                        return Err(denied());
                    }
                    if row.container == Default::default() {
                        return Err(not_found(format!("task `{task}` has no output yet")));
                    }
                    let agent = catalog.now.agents.get(row.agent).map(|agent| agent.id);
                    let agent = agent.ok_or_else(|| not_found("its agent is gone".to_owned()))?;
                    Ok((agent, LogsOf::Container(row.container)))
                }
                None => match catalog.completed(framework, task) {
                    Some(one) if !operates && *one.caller != *conn.caller.name => Err(denied()),
                    Some(one) => Ok((one.agent_id, LogsOf::Container(one.task.container))),
                    // An agent keeps output longer than the master keeps the task.
                    None if agent.is_none() => Err(not_found(unknown(framework, task))),
                    None if operates => Ok((agent, LogsOf::Task { framework, task })),
                    None => Err(denied()),
                },
            },
        }
    }

    /// The connection of an agent that is registered.
    pub(super) fn connection_of(&self, agent: AgentId) -> Option<Rc<Conn>> {
        let id = *self.agent_conns.borrow().get(&agent)?;
        self.conns.get(id)
    }
}

/// Sends a table as lines of JSON, as it was when it was asked for.
async fn send_rows(handle: Handle, tables: Tables, of: Rows, nodes: Nodes, more: Vec<Value>) {
    let mut text = Vec::new();
    for row in rows(&tables, of, &nodes).chain(more) {
        text.extend_from_slice(row.to_string().as_bytes());
        text.push(b'\n');
        if text.len() >= GATHER {
            if handle.write(&text).await.is_err() {
                return;
            }
            text.clear();
        }
    }
    if handle.write(&text).await.is_ok() {
        handle.close(CloseReason::Done, "");
    }
}

/// What `mesita node ls` calls the nodes of agents.
type Nodes = BTreeMap<AgentId, String>;

/// A table as JSON objects.
fn rows<'t>(
    tables: &'t Tables,
    of: Rows,
    nodes: &'t Nodes,
) -> Box<dyn Iterator<Item = Value> + 't> {
    match of {
        Rows::Tasks => Box::new(tables.tasks.iter().map(|(_, task)| tables.task_json(task))),
        Rows::Agents => {
            let used = tables.used();
            Box::new(tables.agents.iter().map(move |(id, agent)| {
                let none = Used::default();
                let mut row = tables.agent_json(id, agent, used.get(&id).unwrap_or(&none));
                row["key"] = json!(nodes.get(&agent.id));
                row
            }))
        }
        Rows::Frameworks => Box::new(
            tables.frameworks.iter().map(|(id, framework)| tables.framework_json(id, framework)),
        ),
        Rows::Completed => {
            let all = tables.completed.iter().chain(tables.unreachable.iter());
            Box::new(all.map(|one| tables.completed_json(one)))
        }
        Rows::Quotas => {
            Box::new(tables.quotas.iter().map(|(role, quota)| tables.quota_json(role, quota)))
        }
        Rows::Weights => {
            Box::new(tables.weights.iter().map(|(role, weight)| weight_json(role, *weight)))
        }
        // They are not the catalog's.
        Rows::Masters | Rows::Audit => Box::new(std::iter::empty()),
        Rows::Machines => {
            Box::new(tables.machines.iter().map(|(_, machine)| tables.machine_json(machine)))
        }
    }
}

fn unknown(framework: FrameworkId, task: &str) -> String {
    if framework.is_none() {
        format!("no task `{task}` is known; `mesita ps` lists them")
    } else {
        format!("the framework has no task `{task}`")
    }
}
