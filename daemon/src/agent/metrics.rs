//! `/metrics/snapshot` of an agent: one flat object, under the names that exporters know.

use mesita_core::wire::task::TaskState;
use serde_json::{Map, Value};

use super::AgentNode;
use crate::clock;
use crate::legacy::Sum;
use crate::v1::amounts::seconds;

impl AgentNode {
    pub(super) fn snapshot(&self) -> Value {
        let mut told: Map<String, Value> = crate::load::metrics().collect();
        let mut put = |name: String, value: f64| {
            told.insert(name, value.into());
        };
        let uptime_us = clock::wall_us().saturating_sub(self.started_us);
        put("slave/uptime_secs".to_owned(), seconds(uptime_us));
        put("slave/registered".to_owned(), f64::from(u8::from(self.timeout_us.get() > 0)));
        put("slave/recovery_time_secs".to_owned(), seconds(self.recovery_us.get()));
        self.held(&mut put);
        self.counted(&mut put);
        Value::Object(told)
    }

    /// What there is, and what of it is held.
    fn held(&self, put: &mut impl FnMut(String, f64)) {
        let total = Sum::of(&self.resource_list().list());
        let mut used = Sum::default();
        let tasks = self.tally.tasks().into_iter().filter(|row| !row.state.is_terminal());
        tasks.for_each(|row| used.add(&row.resources.list()));
        self.tally.executors().iter().for_each(|one| used.add(&one.resources.list()));
        for name in ["cpus", "mem", "disk", "gpus"] {
            for name in [name.to_owned(), format!("{name}_revocable")] {
                let (total, used) = (total.scalar(&name), used.scalar(&name));
                put(format!("slave/{name}_total"), total);
                put(format!("slave/{name}_used"), used);
                put(format!("slave/{name}_percent"), if total > 0.0 { used / total } else { 0.0 });
            }
        }
    }

    /// How much there is of each kind, and was since the agent began.
    fn counted(&self, put: &mut impl FnMut(String, f64)) {
        let tasks = self.tally.tasks();
        // A command runs under an executor of its own. Mesos: `mesos-executor`.
        let commands = tasks.iter().filter(|row| row.executor.is_empty());
        let live = commands.filter(|row| !row.state.is_terminal()).count();
        let running = (self.tally.executors().len() + live) as u64;
        let states = [
            ("staging", TaskState::Staging),
            ("starting", TaskState::Starting),
            ("running", TaskState::Running),
            ("killing", TaskState::Killing),
        ];
        let states = states.map(|(name, state)| {
            let count = tasks.iter().filter(|row| self.state_of(row) == state).count();
            (name, count as u64)
        });
        let ended = [
            ("finished", TaskState::Finished),
            ("failed", TaskState::Failed),
            ("killed", TaskState::Killed),
            ("lost", TaskState::Lost),
            ("gone", TaskState::Gone),
        ];
        let ended = ended.map(|(name, state)| (name, self.tally.ended(state)));
        for (name, count) in states.into_iter().chain(ended) {
            put(format!("slave/tasks_{name}"), number(count));
        }
        let frameworks = self.executors.frameworks().len() as u64;
        let others = [
            ("slave/frameworks_active", frameworks),
            ("slave/executors_running", running),
            ("slave/executors_terminated", self.tally.executors_ended()),
            ("slave/executors_preempted", self.spare.preempted()),
        ];
        for (name, count) in others.into_iter().chain(self.containers.metrics()) {
            put(name.to_owned(), number(count));
        }
        for (name, count) in self.fetcher.metrics() {
            put(format!("containerizer/fetcher/{name}"), number(count));
        }
    }
}

/// Mesos tells all as doubles.
#[allow(clippy::cast_precision_loss)] // Exact up to 2^53.
fn number(count: u64) -> f64 {
    count as f64
}
