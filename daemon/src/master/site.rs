//! What a master answers over HTTP.

use std::collections::BTreeMap;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::header::{HeaderValue, LOCATION};
use hyper::{Method, Request, StatusCode};
use mesita_core::acls::Action;
use serde_json::{Value, json};

use super::MasterNode;
use super::maintenance::Posted;
use super::reservations::Listed;
use crate::access::Access;
use crate::catalog::Tables;
use crate::clock;
use crate::conn::Ends;
use crate::doors::{Caller, Denied};
use crate::http::body::Body;
use crate::http::idle::Idle;
use crate::http::long::LONG_MAX;
use crate::http::{
    Answering, Asked, Early, Gauges, Reply, Site, Visit, early, only, pieces, request, status,
};
use crate::io_thread::Tasks;
use crate::legacy::master::About;
use crate::legacy::pieces::Pieces;
use crate::legacy::{self, metrics};
use crate::once::Again;
use crate::times;

impl Site for MasterNode {
    fn kind(&self) -> &'static str {
        "master"
    }

    fn caller(&self, ends: &Ends) -> Result<Caller, Denied> {
        self.doors.caller(ends)
    }

    fn access(&self) -> &Access {
        &self.options.access
    }

    fn named(&self) -> Option<&str> {
        self.options.hostname.as_deref()
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    fn idle(&self) -> &Idle {
        &self.idle
    }

    fn health(&self) -> Value {
        let leading = self.catalog.borrow().now.leading;
        json!({
            "healthy": true,
            "leading": self.leads(),
            "cluster": leading.map(|(cluster, _)| format!("{cluster:016x}")),
            "epoch": leading.map(|(_, fence)| fence.epoch),
            "leader": self.options.standing.leader().map(|leader| leader.address),
            "trouble": self.doors.trouble(),
            // What it asks of whoever comes, and whether others can listen in.
            "authenticates": self.options.access.is_closed(),
            "insecure": self.options.insecure,
            // By which key its nodes may know it.
            "tls": self.options.door.tls.as_ref().map(|tls| tls.anchor().to_string()),
        })
    }

    fn gauges(&self) -> Gauges<'_> {
        Box::pin(async {
            let core = self.port.gauges().await;
            let mut own = self.conns.gauges().to_vec();
            own.extend(self.idle.gauges());
            own.extend(self.port.bodies.borrow().gauges());
            own.extend(self.catalog.borrow().gauges());
            own.extend(self.store.borrow().gauges());
            own.extend(self.requests.borrow().gauges());
            own.extend(self.schedulers.gauges());
            own.extend(self.subscribers.gauges());
            own.extend(self.options.access.gauges());
            own.extend(self.options.access.rates().gauges());
            own.extend(self.audit.gauges());
            own.extend(self.of_set.borrow().upgrade().iter().flat_map(|set| set.gauges()));
            own.push(("backlog_bytes", self.port.backlog_bytes() as u64));
            own.extend(self.moments.gauges());
            own.push(("long_answer_bytes", self.long.bytes() as u64));
            own.push(("long_answer_bytes_max", LONG_MAX as u64));
            let waiting = self.conns.all().iter().map(|conn| conn.outbox.bytes() as u64).sum();
            own.push(("outbox_bytes", waiting));
            (core, own)
        })
    }

    fn note(&self, asked: &Asked<'_>) {
        self.audit.note_asked(asked);
    }

    fn visit(self: Rc<Self>, mut visit: Visit) -> Result<Answering, Box<Visit>> {
        if let Some(reply) = self.elsewhere(&visit) {
            return Ok(Box::pin(std::future::ready(reply)));
        }
        match Again::of_header(visit.request.headers(), &visit.caller.name) {
            Ok(again) => visit.caller.again = again,
            Err(reply) => return Ok(Box::pin(std::future::ready(*reply))),
        }
        // libprocess serves everything under the name of its process, too.
        let path = visit.request.uri().path();
        match without_process(path) {
            path if path.starts_with("/agent/") => Ok(Box::pin(self.to_agent(visit))),
            // libprocess answers whatever is below it.
            path if path == "/api/v1/scheduler" || path.starts_with("/api/v1/scheduler/") => {
                Ok(Box::pin(self.scheduler(visit)))
            }
            path if path == "/api/v1" || path.starts_with("/api/v1/") => {
                Ok(Box::pin(self.operator(visit)))
            }
            "/weights" if visit.request.method() == Method::PUT => {
                Ok(Box::pin(self.put_weights(visit)))
            }
            "/quota" if visit.request.method() == Method::POST => {
                Ok(Box::pin(self.post_quota(visit)))
            }
            path if path.starts_with("/quota/")
                || (path == "/quota" && visit.request.method() == Method::DELETE) =>
            {
                Ok(Box::pin(self.delete_quota(visit)))
            }
            // A schedule is read at the same path.
            path if Posted::at(path).is_some()
                && (visit.request.method() == Method::POST || path.starts_with("/machine/")) =>
            {
                let what = Posted::at(path).unwrap_or(Posted::Schedule);
                Ok(Box::pin(self.post_maintenance(visit, what)))
            }
            path if Listed::at(path).is_some() => {
                let what = Listed::at(path).unwrap_or(Listed::Reserve);
                Ok(Box::pin(self.post_resources(visit, what)))
            }
            "/teardown" => Ok(Box::pin(self.post_teardown(visit))),
            "/store" => Ok(Box::pin(self.visit_store(visit))),
            "/masters" => Ok(Box::pin(std::future::ready(self.get_masters(&visit)))),
            "/masters/change" => Ok(Box::pin(self.post_masters(visit))),
            path if legacy::master::is_long(path) => Ok(Box::pin(self.read_in_turn(visit))),
            _ => match self.read(&visit) {
                Some(reply) => Ok(Box::pin(std::future::ready(reply))),
                None => Err(Box::new(visit)),
            },
        }
    }

    fn outcast(self: Rc<Self>, _: Request<Incoming>, _: Denied) -> Option<Answering> {
        None
    }
}

/// Said of every path, for a master has no files that it shows: see `/files/debug`.
pub(super) fn no_file() -> Early {
    let message =
        "No such file or directory: a master logs to its standard error, and shows no files";
    early(StatusCode::NOT_FOUND, message)
}

impl MasterNode {
    /// What grows with the cluster, when it may hold a moment for it.
    async fn read_in_turn(self: Rc<Self>, visit: Visit) -> Reply {
        let moment = self.moments.take().await;
        let mut reply = self.read(&visit).unwrap_or_else(|| status(StatusCode::NOT_FOUND));
        if let Body::Pieces(pieces) = reply.body_mut() {
            pieces.hold(moment);
        }
        reply
    }

    /// What was there to read before Mesos' v1 API; none when nothing is there.
    fn read(&self, visit: &Visit) -> Option<Reply> {
        let uri = visit.request.uri();
        let path = without_process(uri.path());
        let query = legacy::query(uri.query());
        let about = self.about(&visit.ends, &visit.caller);
        let (access, caller) = (&self.options.access, &visit.caller);
        let tables = self.catalog.borrow().now.seen_by(access, caller);
        let tables = match path.strip_suffix(".json").unwrap_or(path) {
            "/quota" => tables.with_quotas_seen_by(access, caller),
            "/maintenance/schedule" => {
                tables.with_machines_seen_by(access, caller, Action::GetMaintenanceSchedule)
            }
            "/maintenance/status" => {
                tables.with_machines_seen_by(access, caller, Action::GetMaintenanceStatus)
            }
            "/flags" => match access.check(caller, Action::ViewFlags, None) {
                Ok(()) => tables,
                Err(reply) => return Some(*reply),
            },
            _ => tables,
        };
        let function = query.get("jsonp").map(String::as_str);
        let found = match path {
            "/redirect" => return Some(self.redirect(&about)),
            "/files/browse" | "/files/read" | "/files/download" => return Some(*no_file()),
            "/metrics/snapshot" => {
                let mut pieces = Pieces::new();
                pieces.text(self.snapshot(&tables, &about).to_string());
                pieces
            }
            _ => legacy::master::answer(path, &query, tables, &about)?,
        };
        // What else is done there is not done here.
        let also = match path {
            "/weights" => &[Method::PUT][..],
            "/maintenance/schedule" => &[Method::POST],
            "/quota" => &[Method::POST, Method::DELETE],
            _ => &[],
        };
        let methods = [&[Method::GET, Method::HEAD], also].concat();
        if let Err(reply) = only(visit.request.method(), &methods) {
            return Some(*reply);
        }
        // What is true of itself, whoever leads.
        if !matches!(path, "/flags" | "/metrics/snapshot")
            && let Err(reply) = self.leads_or_not()
        {
            return Some(*reply);
        }
        Some(pieces(found, function))
    }

    /// What `/metrics/snapshot` and GET_METRICS tell: of the cluster while it leads, of itself always.
    pub(super) fn snapshot(&self, tables: &Tables, about: &About) -> Value {
        // Numbers are of all, whoever reads them; frameworks have names.
        let whole = tables.whole();
        let mut told = metrics::snapshot(whole, about, clock::wall_us(), self.leads());
        for (name, count) in self.counted.all() {
            told[format!("master/{name}")] = metrics::number(count).into();
        }
        self.tallies.all(tables, &mut |name, count| told[name] = metrics::number(count).into());
        self.registrar(&mut |name, value| told[name] = value.into());
        let streams = metrics::number(self.subscribers.len() as u64);
        told["master/operator_event_stream_subscribers"] = streams.into();
        // What waits for the decisions; requests wait for nothing else.
        let waiting = metrics::number(self.port.waiting());
        for (queue, count) in [("messages", waiting), ("dispatches", 0.0), ("http_requests", 0.0)] {
            told[format!("master/event_queue_{queue}")] = count.into();
        }
        told
    }

    /// How long the registry takes, and how much it holds. A single master's is a small file, which is
    /// written before it leads.
    fn registrar(&self, put: &mut impl FnMut(String, f64)) {
        let of_set = self.of_set.borrow().upgrade();
        let (masters, waiting, bytes) = of_set.map_or((1, 0, 0), |set| set.registry());
        put("registrar/log/recovered".to_owned(), 1.0);
        put("registrar/log/ensemble_size".to_owned(), metrics::number(masters));
        put("registrar/queued_operations".to_owned(), metrics::number(waiting));
        put("registrar/registry_size_bytes".to_owned(), metrics::number(bytes));
        put("registrar/state_fetch_ms".to_owned(), times::fetch_ms());
        let mut put = |name, value| put(name, value);
        times::STORES.told("registrar/state_store_ms", &mut put);
        times::LATENCIES.told("allocator/mesos/allocation_run_latency_ms", &mut put);
        let runs = times::ALLOCATIONS.told("allocator/mesos/allocation_run_ms", &mut put);
        put("allocator/mesos/allocation_runs".to_owned(), metrics::number(runs));
    }

    /// `PUT /weights`: a list of roles with their weights.
    async fn put_weights(self: Rc<Self>, visit: Visit) -> Reply {
        let change = async {
            self.leads_or_not()?;
            let bytes = request::whole(&self.port.bodies, visit.request.into_body()).await?;
            let bad = |why: &str| {
                let message = format!("Failed to parse update weights request JSON: {why}");
                early(StatusCode::BAD_REQUEST, message)
            };
            let value: Value =
                serde_json::from_slice(&bytes).map_err(|error| bad(&error.to_string()))?;
            let rows = value.as_array().ok_or_else(|| bad("expected a list"))?;
            let read = rows.iter().map(|row| {
                let role = row["role"].as_str().ok_or_else(|| bad("a weight without a role"))?;
                // Mesos' reader takes text for a number.
                let weight =
                    row["weight"].as_f64().or_else(|| row["weight"].as_str()?.parse().ok());
                let weight = weight.ok_or_else(|| bad("a role without a weight"))?;
                Ok((role.trim().to_owned(), weight))
            });
            let weights = read.collect::<Result<Vec<_>, Early>>()?;
            self.update_weights(weights, &visit.caller).await
        };
        match change.await {
            Ok(()) => status(StatusCode::OK),
            Err(reply) => *reply,
        }
    }

    /// `POST /teardown`: a form that names a framework.
    async fn post_teardown(self: Rc<Self>, visit: Visit) -> Reply {
        let change = async {
            self.leads_or_not()?;
            only(visit.request.method(), &[Method::POST])?;
            let bytes = request::whole(&self.port.bodies, visit.request.into_body()).await?;
            let form = legacy::query(Some(&String::from_utf8_lossy(&bytes)));
            let id = form.get("frameworkId").ok_or_else(|| {
                early(StatusCode::BAD_REQUEST, "Missing 'frameworkId' query parameter")
            })?;
            self.teardown(id, &visit.caller).await
        };
        match change.await {
            Ok(()) => status(StatusCode::OK),
            Err(reply) => *reply,
        }
    }

    /// Where the leader is: here.
    fn redirect(&self, about: &About) -> Reply {
        if let Err(reply) = self.leads_or_not() {
            return *reply;
        }
        let mut reply = status(StatusCode::TEMPORARY_REDIRECT);
        let location = legacy::master::location(&about.master);
        if let Ok(location) = HeaderValue::from_str(&location) {
            reply.headers_mut().insert(LOCATION, location);
        }
        reply
    }

    pub(super) fn about(&self, ends: &Ends, caller: &Caller) -> About {
        let flags = self.options.access.may(caller, Action::ViewFlags, None);
        About {
            master: self.master_info(ends),
            started_us: self.started_us,
            elected_us: self.elected_us.get(),
            flags: if flags { self.options.flags.clone() } else { BTreeMap::new() },
        }
    }
}

/// A path without the name of libprocess' process.
pub(super) fn without_process(path: &str) -> &str {
    path.strip_prefix("/master").filter(|rest| rest.starts_with('/')).unwrap_or(path)
}
