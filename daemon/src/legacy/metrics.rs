//! `/metrics/snapshot`: one flat object, under the names that exporters know.

use std::collections::BTreeMap;

use mesita_core::master::rows::{AgentState, FrameworkState};
use mesita_core::wire::Seq;
use mesita_core::wire::agent::{OperationState, OperationStatus};
use mesita_core::wire::call::Operation;
use mesita_core::wire::task::TaskState;
use serde_json::{Map, Value};

use super::amounts::Sum;
use super::held::all_used;
use super::master::About;
use super::roles::has_by_role;
use crate::catalog::Tables;
use crate::catalog::rows::Agent;
use crate::master::tallies::OPERATIONS;
use crate::v1::amounts::double;

/// Gauges and counters of a master.
pub(crate) fn snapshot(tables: &Tables, about: &About, wall_us: u64, leads: bool) -> Value {
    let mut told: Map<String, Value> = crate::load::metrics().collect();
    let mut put = |name: String, value: f64| told.insert(name, Value::from(value));
    let uptime_us = wall_us.saturating_sub(about.started_us);
    put("master/uptime_secs".to_owned(), crate::v1::amounts::seconds(uptime_us));
    put("master/elected".to_owned(), if leads { 1.0 } else { 0.0 });
    resources(tables, &mut put);
    agents(tables, &mut put);
    frameworks(tables, &mut put);
    tasks(tables, &mut put);
    operations(tables, &mut put);
    happened(tables, &mut put);
    allocator(tables, &mut put);
    Value::Object(told)
}

/// Mesos tells all as doubles.
#[allow(clippy::cast_precision_loss)] // Exact up to 2^53.
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

fn resources(tables: &Tables, put: &mut impl FnMut(String, f64) -> Option<Value>) {
    let (mut total, mut used) = (Sum::default(), all_used(tables));
    for (_, agent) in tables.agents.iter().filter(|(_, one)| one.is_known()) {
        total.add(&agent.resources.list());
    }
    for name in ["cpus", "mem", "disk", "gpus"] {
        for name in [name.to_owned(), format!("{name}_revocable")] {
            let (total, used) = (total.scalar(&name), used.scalar(&name));
            put(format!("master/{name}_total"), total);
            put(format!("master/{name}_used"), used);
            put(format!("master/{name}_percent"), if total > 0.0 { used / total } else { 0.0 });
        }
    }
    for (_, offer) in tables.offers.iter() {
        used.add(&offer.resources.list());
    }
    for name in ["cpus", "mem", "disk"] {
        let of = format!("allocator/mesos/resources/{name}");
        put(format!("{of}/total"), total.scalar(name));
        put(format!("{of}/offered_or_allocated"), used.scalar(name));
    }
}

/// What counts against the quota of each role.
fn allocator(tables: &Tables, put: &mut impl FnMut(String, f64) -> Option<Value>) {
    let of = |role: &str, name: &str, what: &str| {
        format!("allocator/mesos/quota/roles/{role}/resources/{name}/{what}")
    };
    let mut all = Sum::default();
    for (_, agent) in tables.agents.iter().filter(|(_, one)| one.is_known()) {
        all.add(&agent.resources.list());
    }
    for (role, has) in has_by_role(tables) {
        for (name, sum) in has.consumed.scalars() {
            put(of(&role, name, "consumed"), sum);
        }
        let mut taken = has.allocated;
        taken.join(&has.offered);
        let mut dominant = 0.0_f64;
        for (name, sum) in taken.scalars() {
            put(of(&role, name, "offered_or_allocated"), sum);
            let of_all = all.scalar(name);
            dominant = dominant.max(if of_all > 0.0 { sum / of_all } else { 0.0 });
        }
        put(format!("allocator/mesos/roles/{role}/shares/dominant"), dominant);
    }
    // What comes for the allocator is decided as it comes.
    for name in ["allocator/event_queue_dispatches", "allocator/mesos/event_queue_dispatches"] {
        put(name.to_owned(), 0.0);
    }
    for (role, quota) in tables.quotas.iter() {
        for (what, amounts) in [("guarantee", &quota.guarantees), ("limit", &quota.limits)] {
            for (name, amount) in amounts {
                put(of(role, name, what), double(*amount));
            }
        }
    }
}

fn happened(tables: &Tables, put: &mut impl FnMut(String, f64) -> Option<Value>) {
    let it = &tables.happened;
    for (name, count) in [
        ("slave_registrations", it.registrations),
        ("slave_reregistrations", it.reregistrations),
        ("slave_removals", it.removals),
        ("slave_removals/reason_unhealthy", it.unreachable),
        ("slave_removals/reason_unregistered", it.removals.saturating_sub(it.unreachable)),
        ("slave_removals/reason_registered", 0),
        // Whatever comes is answered, and no answer is kept for another reader.
        ("dropped_messages", 0),
        ("http_cache_hits", 0),
        ("recovery_slave_removals", it.recovery_removals),
        // Whoever is to be given up is given up at once, so that none is called off.
        ("slave_unreachable_scheduled", it.unreachable),
        ("slave_unreachable_completed", it.unreachable),
        ("slave_unreachable_canceled", 0),
        // Mesos: `master/metrics.hpp` keeps these from before, and counts nothing in them any more.
        ("slave_shutdowns_scheduled", 0),
        ("slave_shutdowns_completed", 0),
        ("slave_shutdowns_canceled", 0),
    ] {
        put(format!("master/{name}"), number(count));
    }
    for (name, count) in &it.ends {
        put(format!("master/{name}"), number(*count));
    }
}

fn agents(tables: &Tables, put: &mut impl FnMut(String, f64) -> Option<Value>) {
    let count = |is: fn(&Agent) -> bool| {
        number(tables.agents.iter().filter(|(_, agent)| is(agent)).count() as u64)
    };
    let away = |agent: &Agent| agent.state == AgentState::Away;
    for (name, count) in [
        ("active", count(Agent::is_active)),
        ("inactive", count(|agent| agent.is_known() && !agent.is_active())),
        ("connected", count(|agent| agent.is_known() && agent.state != AgentState::Away)),
        ("disconnected", count(away)),
        ("unreachable", count(|agent| agent.unreachable_us().is_some())),
    ] {
        put(format!("master/slaves_{name}"), count);
    }
}

fn frameworks(tables: &Tables, put: &mut impl FnMut(String, f64) -> Option<Value>) {
    let all = tables.frameworks.len() as u64;
    let active = tables.frameworks.iter().filter(|(_, one)| one.state == FrameworkState::Active);
    let active = active.count() as u64;
    put("master/frameworks_active".to_owned(), number(active));
    put("master/frameworks_inactive".to_owned(), number(all - active));
    put("master/frameworks_connected".to_owned(), number(active));
    put("master/frameworks_disconnected".to_owned(), number(all - active));
    put("master/outstanding_offers".to_owned(), number(tables.offers.len() as u64));
}

fn tasks(tables: &Tables, put: &mut impl FnMut(String, f64) -> Option<Value>) {
    let mut counts = [0u64; 14];
    for (_, task) in tables.tasks.iter().filter(|(_, task)| !task.latest.is_terminal()) {
        counts[task.latest as usize] += 1;
    }
    // Of one that is unreachable there is no row.
    for one in tables.unreachable.iter().filter(|one| one.task.state == TaskState::Unreachable) {
        counts[one.task.state as usize] += 1;
    }
    for (name, state) in [
        ("staging", TaskState::Staging),
        ("starting", TaskState::Starting),
        ("running", TaskState::Running),
        ("killing", TaskState::Killing),
        ("unreachable", TaskState::Unreachable),
    ] {
        put(format!("master/tasks_{name}"), number(counts[state as usize]));
    }
    for (name, state) in [
        ("finished", TaskState::Finished),
        ("failed", TaskState::Failed),
        ("killed", TaskState::Killed),
        ("error", TaskState::Error),
        ("lost", TaskState::Lost),
        ("dropped", TaskState::Dropped),
        ("gone", TaskState::Gone),
        ("gone_by_operator", TaskState::GoneByOperator),
    ] {
        put(format!("master/tasks_{name}"), number(tables.ended[state as usize]));
    }
}

/// States of operations, as they are told.
const OPERATION_STATES: [(&str, OperationState); 8] = [
    ("pending", OperationState::Pending),
    ("recovering", OperationState::Recovering),
    ("unreachable", OperationState::Unreachable),
    ("finished", OperationState::Finished),
    ("failed", OperationState::Failed),
    ("error", OperationState::Error),
    ("dropped", OperationState::Dropped),
    ("gone_by_operator", OperationState::GoneByOperator),
];

/// Operations whose end somebody is still to hear of, by their kind and state. Mesos:
/// `Metrics::incrementOperationState`, which counts those that are known, and those of disks, of which
/// there are none here.
fn operations(tables: &Tables, put: &mut impl FnMut(String, f64) -> Option<Value>) {
    let mut counts = BTreeMap::<(Option<&str>, OperationState), u64>::new();
    for (_, row) in tables.operations.iter() {
        let asked = row.asked.read::<Seq<'_, Operation<'_>>>().unwrap_or_default();
        let status = row.status.as_ref().and_then(|one| one.read::<OperationStatus<'_>>());
        let state = status.map_or(OperationState::Pending, |status| status.state);
        let kind = asked.first().and_then(|operation| kind_of(&operation));
        *counts.entry((None, state)).or_default() += 1;
        if kind.is_some() {
            *counts.entry((kind, state)).or_default() += 1;
        }
    }
    // Launches end with their tasks.
    let kinds = OPERATIONS.into_iter().filter(|kind| !kind.starts_with("launch"));
    for kind in kinds.map(Some).chain([None]) {
        let of = kind.map_or_else(String::new, |kind| format!("{kind}/"));
        let mut total = 0;
        for (name, state) in OPERATION_STATES {
            let count = counts.get(&(kind, state)).copied().unwrap_or_default();
            total += count;
            put(format!("master/operations/{of}{name}"), number(count));
        }
        put(format!("master/operations/{of}total"), number(total));
    }
}

/// What an operation is called; none for launches.
fn kind_of(operation: &Operation<'_>) -> Option<&'static str> {
    match operation {
        Operation::Launch { .. } | Operation::LaunchGroup { .. } => None,
        Operation::Reserve(_) | Operation::Move { .. } => Some("reserve"),
        Operation::Unreserve(_) => Some("unreserve"),
        Operation::Create(_) => Some("create"),
        Operation::Destroy(_) => Some("destroy"),
        Operation::Grow { .. } => Some("grow_volume"),
        Operation::Shrink { .. } => Some("shrink_volume"),
    }
}
