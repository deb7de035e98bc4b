//! `/metrics/snapshot`: one flat object, under the names that exporters know.

use std::collections::BTreeMap;

use mesita_core::master::rows::{AgentState, FrameworkState};
use mesita_core::wire::task::TaskState;
use serde_json::{Map, Value};

use super::amounts::Sum;
use super::master::About;
use crate::catalog::Tables;

/// Gauges and counters of a master.
pub(crate) fn snapshot(tables: &Tables, about: &About, wall_us: u64) -> Value {
    let mut told = Map::new();
    let mut put = |name: String, value: f64| told.insert(name, Value::from(value));
    let uptime_us = wall_us.saturating_sub(about.started_us);
    put("master/uptime_secs".to_owned(), crate::v1::amounts::seconds(uptime_us));
    put("master/elected".to_owned(), if tables.leading.is_some() { 1.0 } else { 0.0 });
    resources(tables, &mut put);
    agents(tables, &mut put);
    frameworks(tables, &mut put);
    tasks(tables, &mut put);
    Value::Object(told)
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn resources(tables: &Tables, put: &mut impl FnMut(String, f64) -> Option<Value>) {
    let (mut total, mut used) = (Sum::default(), Sum::default());
    for (_, agent) in tables.agents.iter().filter(|(_, one)| one.state == AgentState::Active) {
        total.add(&agent.resources.list());
    }
    for (_, task) in tables.tasks.iter().filter(|(_, task)| !task.latest.is_terminal()) {
        used.add(&task.resources.list());
    }
    for (_, one) in tables.executors.iter() {
        used.add(&one.resources.list());
    }
    for name in ["cpus", "mem", "disk", "gpus"] {
        let (total, used) = (total.scalar(name), used.scalar(name));
        put(format!("master/{name}_total"), total);
        put(format!("master/{name}_used"), used);
        put(format!("master/{name}_percent"), if total > 0.0 { used / total } else { 0.0 });
    }
}

fn agents(tables: &Tables, put: &mut impl FnMut(String, f64) -> Option<Value>) {
    let mut states = BTreeMap::<AgentState, usize>::new();
    for (_, agent) in tables.agents.iter() {
        *states.entry(agent.state).or_default() += 1;
    }
    let of = |state| states.get(&state).copied().unwrap_or_default();
    let active = of(AgentState::Active);
    let away = of(AgentState::Away);
    let lost = of(AgentState::Losing) + of(AgentState::Unreachable);
    let all = states.values().sum::<usize>() - of(AgentState::Gone);
    put("master/slaves_active".to_owned(), number(active));
    put("master/slaves_inactive".to_owned(), number(all - active - lost));
    put("master/slaves_connected".to_owned(), number(all - away - lost));
    put("master/slaves_disconnected".to_owned(), number(away));
    put("master/slaves_unreachable".to_owned(), number(lost));
}

fn frameworks(tables: &Tables, put: &mut impl FnMut(String, f64) -> Option<Value>) {
    let all = tables.frameworks.len();
    let active = tables.frameworks.iter().filter(|(_, one)| one.state == FrameworkState::Active);
    let active = active.count();
    put("master/frameworks_active".to_owned(), number(active));
    put("master/frameworks_inactive".to_owned(), number(all - active));
    put("master/frameworks_connected".to_owned(), number(active));
    put("master/frameworks_disconnected".to_owned(), number(all - active));
    put("master/outstanding_offers".to_owned(), number(tables.offers.len()));
}

fn tasks(tables: &Tables, put: &mut impl FnMut(String, f64) -> Option<Value>) {
    let mut counts = [0usize; 14];
    for (_, task) in tables.tasks.iter().filter(|(_, task)| !task.state.is_terminal()) {
        counts[task.state as usize] += 1;
    }
    // Of one that is unreachable there is no row.
    counts[TaskState::Unreachable as usize] += tables.unreachable.len();
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
    ] {
        let ended = u32::try_from(tables.ended[state as usize]).unwrap_or(u32::MAX);
        put(format!("master/tasks_{name}"), f64::from(ended));
    }
}
