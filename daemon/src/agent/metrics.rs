//! `/metrics/snapshot` of an agent: one flat object, under the names that exporters know.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use mesita_core::Refusal;
use mesita_core::wire::Head;
use mesita_core::wire::agent::{AgentCall, AgentEvent};
use mesita_core::wire::executor::ExecutorCall;
use mesita_core::wire::task::TaskState;
use serde_json::{Map, Value};

use super::AgentNode;
use super::containers::count;
use crate::clock;
use crate::legacy::Sum;
use crate::v1::amounts::seconds;

/// Statuses that wait for the master at the most, for counting.
const WAITING_MAX: usize = 4_096;

/// What is said to the agent of which is counted what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A status that an executor tells. Those that are taken are told on, and counted then.
    Update,
    /// A message from a framework to its executor, or back.
    Message,
}

impl Awaited {
    /// Of what somebody says; none for everything else.
    pub(super) fn of(head: &Head<'_>) -> Option<Self> {
        let update = matches!(head, Head::ExecutorCall(ExecutorCall::Update(_)));
        let message = matches!(
            head,
            Head::ExecutorCall(ExecutorCall::Message { .. })
                | Head::AgentEvent(AgentEvent::Message { .. })
        );
        if update { Some(Self::Update) } else { message.then_some(Self::Message) }
    }
}

/// What came of it, since the agent began.
#[derive(Default)]
pub(super) struct Outcomes {
    updates_told: Cell<u64>,
    /// Those that the master was told and has not acknowledged: they may be told again.
    waiting: RefCell<BTreeSet<u64>>,
    updates_refused: Cell<u64>,
    messages_taken: Cell<u64>,
    messages_refused: Cell<u64>,
}

impl Outcomes {
    /// Counts what the master is told of tasks, each status once.
    pub(super) fn tells(&self, head: &Head<'_>) {
        let Head::AgentCall(AgentCall::Update { status, .. }) = head else { return };
        let mut waiting = self.waiting.borrow_mut();
        if status.uuid.is_none_or(|sequence| waiting.insert(sequence)) {
            count(&self.updates_told);
        }
        if waiting.len() > WAITING_MAX {
            waiting.pop_first();
        }
    }

    /// A status needs not be told any more.
    pub(super) fn heard(&self, head: &Head<'_>) {
        if let Head::AgentEvent(AgentEvent::Acknowledge { sequence, .. }) = head {
            self.waiting.borrow_mut().remove(sequence);
        }
    }

    /// Counts what came of it. What is said once more was taken before.
    pub(super) fn came_of(&self, awaited: Awaited, result: Result<(), Refusal>) {
        match (awaited, result.is_ok() || result == Err(Refusal::Exists)) {
            (Awaited::Update, true) => {}
            (Awaited::Update, false) => count(&self.updates_refused),
            (Awaited::Message, true) => count(&self.messages_taken),
            (Awaited::Message, false) => count(&self.messages_refused),
        }
    }
}

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
        // What cannot be read of earlier runs keeps the agent from starting.
        put("slave/recovery_errors".to_owned(), 0.0);
        let age_us = self.containers.age_max_us.get();
        put("slave/executor_directory_max_allowed_age_secs".to_owned(), seconds(age_us));
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
        let commands = || tasks.iter().filter(|row| row.executor.is_empty());
        let in_state = |state| commands().filter(|row| self.state_of(row) == state).count() as u64;
        let live = commands().filter(|row| !row.state.is_terminal()).count() as u64;
        let executors = self.tally.executors();
        let (heard, ending) = self.executors.heard();
        let with_process =
            executors.iter().filter(|one| self.containers.is_executor(one.container));
        let registering = in_state(TaskState::Staging)
            + in_state(TaskState::Starting)
            + (with_process.count() as u64).saturating_sub(heard + ending);
        let terminating = in_state(TaskState::Killing) + ending;
        let running = (executors.len() as u64 + live).saturating_sub(registering + terminating);
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
            ("slave/executors_registering", registering),
            ("slave/executors_running", running),
            ("slave/executors_terminating", terminating),
            ("slave/executors_terminated", self.tally.executors_ended()),
            ("slave/executors_preempted", self.spare.preempted()),
            ("slave/valid_status_updates", self.outcomes.updates_told.get()),
            ("slave/invalid_status_updates", self.outcomes.updates_refused.get()),
            ("slave/valid_framework_messages", self.outcomes.messages_taken.get()),
            ("slave/invalid_framework_messages", self.outcomes.messages_refused.get()),
        ];
        for (name, count) in others.into_iter().chain(self.containers.metrics()) {
            put(name.to_owned(), number(count));
        }
        for (name, count) in self.fetcher.metrics() {
            put(format!("containerizer/fetcher/{name}"), number(count));
        }
        // Root file systems go with their containers, whose errors are told above; nobody provides
        // resources but the agent itself.
        for name in [
            "containerizer/mesos/provisioner/bind/remove_rootfs_errors",
            "containerizer/mesos/provisioner/remove_container_errors",
            "resource_provider_manager/subscribed",
            "resource_provider_manager/events/subscribe",
            "resource_provider_manager/events/disconnect",
        ] {
            put(name.to_owned(), 0.0);
        }
    }
}

/// Mesos tells all as doubles.
#[allow(clippy::cast_precision_loss)] // Exact up to 2^53.
fn number(count: u64) -> f64 {
    count as f64
}
