//! What an agent answers over HTTP: executors, Mesos' read endpoints, files of sandboxes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use mesita_core::acls::Action;
use mesita_core::doors::Rights;
use mesita_core::wire::FrameworkId;
use mesita_isolation::cgroups::At;
use serde_json::{Map, Value, json};

use super::AgentNode;
use super::files::{self, BadPath};
use super::tally::{ExecutorRow, Row};
use super::usage::Also;
use crate::access::Access;
use crate::conn::carried::{self, ROOM, carry};
use crate::conn::streams::Streams;
use crate::conn::{Conn, Ends, Pipe};
use crate::doors::{Caller, Denied};
use crate::http;
use crate::http::body::Body;
use crate::http::idle::Idle;
use crate::http::{
    Answering, Asked, Early, Gauges, Reply, Site, Visit, early, exposition, only, pieces, status,
};
use crate::io_thread::Tasks;
use crate::legacy;
use crate::legacy::pieces::Pieces;
use crate::pb::mesos::v1 as pb;

impl Site for AgentNode {
    fn kind(&self) -> &'static str {
        "agent"
    }

    fn caller(&self, ends: &Ends) -> Result<Caller, Denied> {
        self.doors.caller(ends)
    }

    fn access(&self) -> &Access {
        &self.options.access
    }

    fn named(&self) -> Option<&str> {
        Some(&self.hostname)
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    fn idle(&self) -> &Idle {
        &self.idle
    }

    fn health(&self) -> Value {
        let cluster = self.own.borrow().cluster;
        json!({
            "healthy": true,
            "registered": self.timeout_us.get() > 0,
            "cluster": (cluster != 0).then(|| format!("{cluster:016x}")),
            "leader": *self.leader.borrow(),
            "isolation": self.isolators(),
            "disk_full": self.disk_full.get(),
            "trouble": self.doors.trouble(),
            // What it asks of whoever comes, and whether others can listen in.
            "authenticates": self.options.access.is_closed(),
            "insecure": self.options.insecure,
        })
    }

    fn gauges(&self) -> Gauges<'_> {
        Box::pin(async {
            let core = self.port.gauges().await;
            let mut own = self.conns.gauges().to_vec();
            own.extend(self.idle.gauges());
            own.extend(self.port.bodies.borrow().gauges());
            own.extend(self.containers.gauges());
            own.extend(self.executors.gauges());
            own.push(self.beside.gauge());
            own.extend(self.inners.gauges());
            own.extend(self.fetcher.gauges());
            own.extend(self.docker.gauges());
            own.extend(self.device_gauges());
            own.extend(self.images.gauges());
            own.extend(self.bounds.gauges());
            own.extend(self.options.access.gauges());
            own.extend(self.audit.gauges());
            own.push(("backlog_bytes", self.port.backlog_bytes() as u64));
            own.push(("registered", u64::from(self.timeout_us.get() > 0)));
            (core, own)
        })
    }

    fn note(&self, asked: &Asked<'_>) {
        // What comes by way of a master is told there.
        if *asked.ends != Ends::Memory {
            self.audit.note_asked(asked);
        }
    }

    fn visit(self: Rc<Self>, visit: Visit) -> Result<Answering, Box<Visit>> {
        let path = under_process(visit.request.uri().path()).to_owned();
        let path = path.strip_suffix(".json").unwrap_or(&path);
        match path {
            path if path == "/api/v1/executor" || path.starts_with("/api/v1/executor/") => {
                // It is about its own tasks.
                visit.caller.heed.done();
                Ok(Box::pin(self.executor(visit.request, None)))
            }
            path if path == "/api/v1" || path.starts_with("/api/v1/") => {
                Ok(Box::pin(self.operator(visit)))
            }
            path if path.starts_with("/images/") => {
                let path = path.to_owned();
                Ok(Box::pin(self.images_site(path, visit)))
            }
            "/state"
            | "/flags"
            | "/metrics/containers"
            | "/metrics/snapshot"
            | "/containers"
            | "/monitor/statistics"
            | "/files/browse"
            | "/files/read"
            | "/files/download"
            | "/files/debug" => {
                let path = path.to_owned();
                Ok(Box::pin(async move {
                    match self.read(&path, &visit).await {
                        Ok(reply) => reply,
                        Err(reply) => *reply,
                    }
                }))
            }
            _ => Err(Box::new(visit)),
        }
    }

    fn outcast(self: Rc<Self>, request: Request<Incoming>, denied: Denied) -> Option<Answering> {
        // Whoever is inside a container may be its executor.
        match under_process(request.uri().path()) {
            "/api/v1/executor" => Some(Box::pin(self.executor(request, Some(denied)))),
            "/api/v1" => Some(Box::pin(self.call_of_executor(request, denied))),
            _ => None,
        }
    }
}

/// A path without the name of its process, under which libprocess serves everything, too.
fn under_process(path: &str) -> &str {
    path.strip_prefix("/slave(1)").unwrap_or(path)
}

impl AgentNode {
    /// Serves one exchange that the master passes on, for a caller that it has found out.
    pub(super) fn serve_carried(&self, conn: &Rc<Conn>, number: u32, window: u32) {
        let Some(me) = self.me.upgrade() else { return };
        let handle = Streams::serve(conn, number, window);
        handle.take_in();
        let (mut near, far) = Pipe::pair(ROOM);
        self.tasks.go(carry(handle, far));
        self.tasks.go(async move {
            let Some(caller) = carried::caller(&mut near.reading).await else { return };
            http::serve_as(near, me, Ok(caller)).await;
        });
    }

    async fn read(self: &Rc<Self>, path: &str, visit: &Visit) -> Result<Reply, Early> {
        only(visit.request.method(), &[Method::GET, Method::HEAD])?;
        let query = legacy::query(visit.request.uri().query());
        let value = match path {
            "/state" => self.state(&visit.caller),
            "/flags" => {
                self.options.access.check(&visit.caller, Action::ViewFlags, None)?;
                json!({ "flags": self.options.flags })
            }
            "/metrics/containers" => {
                return Ok(exposition(self.container_metrics(&visit.caller).await));
            }
            "/metrics/snapshot" => self.snapshot(),
            "/containers" => {
                let asked = |name: &str| query.get(name).is_some_and(|told| told == "true");
                let also =
                    Also { nested: asked("show_nested"), standalone: asked("show_standalone") };
                self.container_list(Some(&visit.caller), also).await
            }
            "/monitor/statistics" => self.container_list(None, Also::default()).await,
            "/files/debug" => self.shown_files(&visit.caller),
            "/files/browse" => self.browse(&query, &visit.caller).await?,
            "/files/read" => self.read_file(&query, &visit.caller).await?,
            _ => return self.download(&query, &visit.caller).await,
        };
        let mut text = Pieces::new();
        text.text(value.to_string());
        Ok(pieces(text, query.get("jsonp").map(String::as_str)))
    }

    pub(super) fn cluster(&self) -> u64 {
        self.own.borrow().cluster
    }

    /// Tasks that a caller sees.
    pub(super) fn tasks_seen(&self, caller: &Caller) -> Vec<Row> {
        self.seen(caller, self.tally.tasks(), |row| row.framework, Access::sees_tasks)
    }

    /// Tasks that ended, of those.
    pub(super) fn completed_seen(&self, caller: &Caller) -> Vec<Row> {
        self.seen(caller, self.tally.completed(), |row| row.framework, Access::sees_tasks)
    }

    /// Custom executors that a caller sees.
    pub(super) fn executors_seen(&self, caller: &Caller) -> Vec<ExecutorRow> {
        self.seen(caller, self.tally.executors(), |row| row.framework, Access::sees_executors)
    }

    /// Those tasks of a list whose executors a caller sees.
    pub(super) fn with_executors_seen(&self, caller: &Caller, rows: Vec<Row>) -> Vec<Row> {
        self.seen(caller, rows, |row| row.framework, Access::sees_executors)
    }

    /// Those frameworks of a list that a caller sees.
    pub(super) fn frameworks_seen(
        &self,
        caller: &Caller,
        all: Vec<(FrameworkId, pb::FrameworkInfo)>,
    ) -> Vec<(FrameworkId, pb::FrameworkInfo)> {
        self.seen(caller, all, |(id, _)| *id, Access::sees_frameworks)
    }

    fn seen<T>(
        &self,
        caller: &Caller,
        mut all: Vec<T>,
        of: impl Fn(&T) -> FrameworkId,
        sees: impl Fn(&Access, &Caller, &str) -> bool,
    ) -> Vec<T> {
        all.retain(|row| sees(&self.options.access, caller, &self.executors.user(of(row))));
        all
    }

    /// The sandboxes that a caller may read, as paths.
    fn shown_files(&self, caller: &Caller) -> Value {
        let mut shown = Map::new();
        let mut show = |framework: FrameworkId, at: At| {
            if self.may_read(framework, caller) {
                let path = self.containers.sandbox(at).to_string_lossy().into_owned();
                shown.insert(path.clone(), path.into());
            }
        };
        let rows = self.tally.tasks().into_iter().chain(self.tally.completed());
        rows.for_each(|row| show(row.framework, row.at()));
        self.tally.executors().iter().for_each(|row| show(row.framework, row.container.into()));
        Value::Object(shown)
    }

    fn may_read(&self, framework: FrameworkId, caller: &Caller) -> bool {
        let user = self.executors.user(framework);
        if !self.options.access.may(caller, Action::AccessSandbox, Some(&user)) {
            return false;
        }
        self.is_of(framework, caller)
    }

    /// True for whoever runs a framework, and for who operates the agent.
    pub(super) fn is_of(&self, framework: FrameworkId, caller: &Caller) -> bool {
        caller.rights.has(Rights::OPERATE)
            || self.executors.owner(framework).is_some_and(|owner| owner == caller.name)
    }

    /// The sandbox that a request's `path` is in, if its caller may read it.
    pub(super) fn located(
        &self,
        query: &BTreeMap<String, String>,
        caller: &Caller,
    ) -> Result<(PathBuf, PathBuf, String), Early> {
        let Some(path) = query.get("path") else {
            return Err(early(StatusCode::BAD_REQUEST, "Expecting 'path=value' in query.\n"));
        };
        let real = self.real_path(path);
        let sandboxes = self.work_dir.join("sandboxes");
        let (id, inside) = files::part(&sandboxes, &real).map_err(|bad| refused(&bad))?;
        let sandbox = self.containers.sandbox(id);
        let known = self.containers.framework_of(id);
        let may = match known {
            Some(framework) => self.may_read(framework, caller),
            None => {
                let may = self.options.access.may(caller, Action::AccessSandbox, None);
                may && caller.rights.has(Rights::OPERATE)
            }
        };
        if !may {
            let message = "only who runs a task, or operates the cluster, may read its files";
            return Err(early(StatusCode::FORBIDDEN, message));
        }
        Ok((sandbox, inside, path.clone()))
    }

    /// What a path stands for: the newest run of an executor for
    /// `/frameworks/<id>/executors/<id>/runs/latest`, and a task's sandbox for `tasks/<id>` below
    /// that of its group's executor, where Mesos' page looks for it. Any other is what it says.
    fn real_path(&self, path: &str) -> PathBuf {
        let path = self.latest_run(path).unwrap_or_else(|| path.into());
        let below = files::part(&self.work_dir.join("sandboxes"), &path).ok();
        let task = below.and_then(|(executor, inside)| {
            let inside = inside.strip_prefix("tasks").ok()?;
            let mut parts = inside.components();
            let name = parts.next()?.as_os_str().to_str()?;
            let mut rows = self.tally.completed().into_iter().chain(self.tally.tasks());
            let found = rows.rfind(|row| row.inside == Some(executor) && row.name == name);
            Some(self.containers.sandbox(found?.at()).join(parts.as_path()))
        });
        task.unwrap_or(path)
    }

    fn latest_run(&self, path: &str) -> Option<PathBuf> {
        let (framework, rest) = path.strip_prefix("/frameworks/")?.split_once("/executors/")?;
        let (executor, inside) = rest.split_once("/runs/latest")?;
        let framework = FrameworkId::parse(framework, self.cluster())?;
        let rows = self.tally.completed().into_iter().chain(self.tally.tasks());
        let of_task = rows.filter(|row| {
            let runs_under = if row.executor.is_empty() { &row.name } else { &row.executor };
            row.framework == framework && runs_under == executor
        });
        let of_task = of_task.map(|row| row.inside.unwrap_or(row.container));
        let own = self.tally.executors().into_iter();
        let own = own.filter(|row| row.framework == framework && row.name == executor);
        let id = of_task.chain(own.map(|row| row.container)).next_back()?;
        Some(self.containers.sandbox(id).join(inside.trim_start_matches('/')))
    }

    async fn browse(
        &self,
        query: &BTreeMap<String, String>,
        caller: &Caller,
    ) -> Result<Value, Early> {
        let (sandbox, inside, shown) = self.located(query, caller)?;
        let browse = move || files::browse(&sandbox, &inside, &shown);
        let listed = self.containers.by_hand(browse).await.map_err(|bad| refused(&bad))?;
        Ok(json!(listed))
    }

    async fn read_file(
        &self,
        query: &BTreeMap<String, String>,
        caller: &Caller,
    ) -> Result<Value, Early> {
        let number = |name: &str, default: i64| match query.get(name) {
            None => Ok(default),
            Some(text) => text.parse::<i64>().map_err(|_| {
                let message = format!("Failed to parse {name}: '{text}' is not a number.\n");
                early(StatusCode::BAD_REQUEST, message)
            }),
        };
        let (offset, length) = (number("offset", -1)?, number("length", -1)?);
        if offset < -1 || length < -1 {
            let message = "Negative offset or length provided.\n";
            return Err(early(StatusCode::BAD_REQUEST, message));
        }
        let (sandbox, inside, _) = self.located(query, caller)?;
        let length = u64::try_from(length).unwrap_or(files::PAGE);
        let read = move || {
            let (file, size) = files::open_file(&sandbox, &inside)?;
            match u64::try_from(offset) {
                // Only where the end is.
                Err(_) => Ok((Vec::new(), size)),
                Ok(offset) => Ok((files::read(&file, offset, length)?, offset)),
            }
        };
        let read = self.containers.by_hand(read).await;
        let (data, offset) = read.map_err(|bad: BadPath| refused(&bad))?;
        Ok(json!({ "data": String::from_utf8_lossy(&data), "offset": offset }))
    }

    async fn download(
        self: &Rc<Self>,
        query: &BTreeMap<String, String>,
        caller: &Caller,
    ) -> Result<Reply, Early> {
        let (sandbox, inside, shown) = self.located(query, caller)?;
        let open = move || files::open_file(&sandbox, &inside);
        let opened = self.containers.by_hand(open).await;
        let (file, size) = opened.map_err(|bad| refused(&bad))?;
        let (sender, receiver) = async_channel::bounded::<Bytes>(2);
        let (me, file) = (Rc::clone(self), Arc::new(file));
        self.tasks.go(async move {
            let mut at = 0;
            // As much as there was, however it grows.
            while at < size {
                let of = Arc::clone(&file);
                let length = (size - at).min(files::PAGE);
                let read = me.containers.by_hand(move || files::read(&of, at, length)).await;
                let Ok(bytes) = read else { return };
                if bytes.is_empty() {
                    return;
                }
                at += bytes.len() as u64;
                if sender.send(bytes.into()).await.is_err() {
                    return;
                }
            }
        });
        let mut reply = Reply::new(Body::fed(receiver));
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let name = Path::new(&shown).file_name().map(|name| name.to_string_lossy().into_owned());
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name: String = name.unwrap_or_default().chars().filter(|c| plain(*c)).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename={name}")) {
            headers.insert(CONTENT_DISPOSITION, value);
        }
        Ok(reply)
    }
}

pub(super) fn refused(bad: &BadPath) -> Early {
    match bad {
        BadPath::Outside => {
            let message = "a path is below a task's directory, as /state tells it\n";
            early(StatusCode::NOT_FOUND, message)
        }
        BadPath::Missing => Box::new(status(StatusCode::NOT_FOUND)),
        BadPath::Kind(what) => {
            early(StatusCode::BAD_REQUEST, format!("Cannot read {what} this way.\n"))
        }
        BadPath::Os(error) => early(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
