//! Updates: each task's in order, one in flight, sent again until acknowledged.
//!
//! Mesos: `TaskStatusUpdateManager`. The end of a task is on disk before it is first told; what
//! comes before it is told from memory, for a restart tells the newest state anyway. When the
//! table runs short, updates before the end are joined: the newest one stays.

use super::rows::{OF_TASK, Ordered, Task, Update};
use super::{Agent, Cx, Hand, Head, RETRY_MAX_US, RETRY_MIN_US, Record, named};
use crate::Refusal;
use crate::index::after;
use crate::mutant::{Mutant, planted};
use crate::names::Name;
use crate::table::Id;
use crate::wire::agent::AgentCall;
use crate::wire::executor::ExecutorUpdate;
use crate::wire::task::{Detail, Exit, Reason, Source, Status, TaskOf, TaskState};
use crate::wire::{BodyRef, FrameworkId};

impl Agent<'_> {
    /// Tells a state of a task that the agent runs itself: as its executor, which is what it is there.
    pub(super) fn tell(
        &mut self,
        cx: &mut Cx<'_>,
        task: Id,
        state: TaskState,
        reason: Option<Reason>,
        message: &str,
    ) {
        let mut update = self.new_update(cx, task, state, Source::Executor, reason, message);
        if let Some(row) = self.tasks.get(task) {
            update.health = row.health;
            update.public = self.keep_body(cx, row.checked);
        }
        self.queue(cx, task, update);
    }

    /// Tells the end of a task, for which a slot was set aside. What an executor of Mesos would see of
    /// it is told as by one; limits, executors that fail and the like are the agent's to tell.
    pub(super) fn tell_end(
        &mut self,
        cx: &mut Cx<'_>,
        task: Id,
        state: TaskState,
        reason: Option<Reason>,
        message: &str,
        exit: [u8; 2],
    ) {
        let source = match reason {
            None | Some(Reason::MaxCompletionTimeReached) => Source::Executor,
            Some(_) => Source::Agent,
        };
        let mut update = self.new_update(cx, task, state, source, reason, message);
        update.exit = exit;
        if let Some(row) = self.tasks.get(task) {
            // How healthy it was is no news any more, but for who was killed for that.
            update.health = u8::from(row.ordered == Ordered::Unhealthy);
            update.public = self.keep_body(cx, row.checked);
        }
        self.queue(cx, task, update);
    }

    /// Tells what an executor says of its task.
    pub(super) fn tell_for_executor(
        &mut self,
        cx: &mut Cx<'_>,
        task: Id,
        told: &ExecutorUpdate<'_>,
        bodies: &[BodyRef],
    ) {
        let status = &told.status;
        let detail = status.detail();
        let (reason, message) = (detail.reason, detail.message);
        let mut update = self.new_update(cx, task, status.state, Source::Executor, reason, message);
        update.uuid = told.uuid;
        update.exit = detail.exit.to_bytes();
        update.health = detail.healthy.map_or(0, |healthy| if healthy { 2 } else { 1 });
        update.public = self.keep_body(cx, detail.public.of(bodies));
        update.data = self.keep_body(cx, detail.data.of(bodies));
        self.queue(cx, task, update);
    }

    /// An executor's first word of a task: the ledger has it before anybody hears of it, the
    /// executor least. After a restart it is not given the task again.
    fn keep_told(&mut self, cx: &mut Cx<'_>, row: &Task, state: TaskState) -> u64 {
        self.with_task_of(row, |agent, task| {
            agent.persist(cx, Record::Told { task, state }, false, &[])
        })
    }

    /// A name once more; empty when it is held too often.
    fn held(&mut self, name: Name) -> Name {
        self.names.hold(name).map_or(Name::EMPTY, |()| name)
    }

    fn new_update(
        &mut self,
        cx: &Cx<'_>,
        task: Id,
        state: TaskState,
        source: Source,
        reason: Option<Reason>,
        message: &str,
    ) -> Update {
        let reason = self.reason_of(state, reason);
        let message = self.short_name(message);
        let of = self.tasks.get(task).and_then(|row| row.executor.checked_sub(1));
        let executor = of.and_then(|slot| self.executors.row(slot)).map(|row| row.name);
        let executor = executor.map_or(Name::EMPTY, |name| self.held(name));
        Update {
            task: task.index,
            executor,
            sequence: self.next_update(),
            state,
            source,
            reason: reason.unwrap_or_default(),
            has_reason: reason.is_some(),
            message,
            wall_us: cx.wall_us,
            attempt: self.tasks.get_ref(task).map_or(0, |row| row.attempt),
            ..bytemuck::Zeroable::zeroed()
        }
    }

    /// A sentence as far as a name holds it, if there is room: the state counts.
    pub(super) fn short_name(&mut self, message: &str) -> Name {
        let cut = (0..=message.len().min(crate::limits::NAME_MAX))
            .rev()
            .find(|end| message.is_char_boundary(*end))
            .and_then(|end| message.get(..end));
        self.names.intern(cut.unwrap_or("")).unwrap_or(Name::EMPTY)
    }

    /// The number of a new update: the agent's start, and a number counted up in it.
    pub(super) fn next_update(&mut self) -> u64 {
        self.counters.update = self.counters.update.saturating_add(1);
        u64::from(self.counters.incarnation) << 32 | u64::from(self.counters.update)
    }

    /// Puts an update behind those of its task, writes it down if it is the end, and sends it when
    /// its turn comes.
    fn queue(&mut self, cx: &mut Cx<'_>, task: Id, mut update: Update) {
        let Some(row) = self.tasks.get(task) else { return };
        invariant!(!row.state.is_terminal(), "something is told after the end");
        let ends = update.state.is_terminal();
        let first = !ends && row.runner().is_some() && row.state == TaskState::Staging;
        let told = if first { self.keep_told(cx, &row, update.state) } else { 0 };
        if !ends && self.updates.room() <= self.updates_reserved() {
            self.drop_unsent(cx, task);
            if self.updates.room() <= self.updates_reserved() {
                self.let_go_of(cx, &update);
                self.set_state(task, update.state);
                return;
            }
        }
        let early = planted(Mutant::TellsBeforeTheDisk);
        (update.durable, update.record) = (early || !ends && !first, told);
        let Ok(id) = self.updates.insert(update) else {
            invariant!(!ends, "the slot set aside for an end is gone");
            return;
        };
        if ends {
            update.record = self.record_update(cx, &row, &update);
            if let Some(stored) = self.updates.get_mut(id) {
                stored.record = update.record;
            }
        }
        self.set_state(task, update.state);
        if let Some(row) = self.tasks.get_mut(task) {
            row.updates.push(&mut self.updates, OF_TASK, id);
        }
        self.send_first(cx, task);
    }

    fn set_state(&mut self, task: Id, state: TaskState) {
        if let Some(row) = self.tasks.get_mut(task) {
            row.state = state;
        }
    }

    fn record_update(&mut self, cx: &mut Cx<'_>, row: &Task, update: &Update) -> u64 {
        let framework = self.framework_id(row.framework);
        let (uuid, sequence) = (update.uuid, update.sequence);
        let bodies = present(update);
        self.with_status(row, update, |agent, status| {
            let record = Record::Update { framework, sequence, status: *status, uuid };
            agent.persist(cx, record, true, &bodies)
        })
    }

    /// Updates before the newest that were not sent: nobody misses them.
    fn drop_unsent(&mut self, cx: &mut Cx<'_>, task: Id) {
        let Some(first) = self.tasks.get(task).and_then(|row| row.updates.first(&self.updates))
        else {
            return;
        };
        while let Some(next) = after(&self.updates, OF_TASK, first) {
            self.remove_update(cx, task, next);
        }
    }

    /// Sends the oldest update of a task, unless it is in flight or not on disk yet.
    fn send_first(&mut self, cx: &mut Cx<'_>, task: Id) {
        let Some(row) = self.tasks.get(task) else { return };
        if row.tries == 0 {
            self.send_update(cx, task, &row);
        }
    }

    fn send_update(&mut self, cx: &mut Cx<'_>, task: Id, row: &Task) {
        let first = row.updates.first(&self.updates).and_then(|id| self.updates.get(id));
        let Some(update) = first.filter(|update| update.durable) else { return };
        let framework = self.framework_id(row.framework);
        let latest = row.state;
        let bodies = present(&update);
        let sent = self.with_status(row, &update, |agent, status| {
            let head = AgentCall::Update { framework, latest, status: *status };
            agent.tell_master(cx, Head::AgentCall(head), &bodies)
        });
        if sent && let Some(row) = self.tasks.get_mut(task) {
            row.tries = row.tries.saturating_add(1);
            let doubled = row.tries.saturating_sub(1).min(6);
            let wait = RETRY_MIN_US.checked_shl(doubled).unwrap_or(RETRY_MAX_US);
            let wait = if planted(Mutant::NeverRests) { 100 } else { wait.min(RETRY_MAX_US) };
            self.retries.set(task.index, cx.now.after(wait));
        }
    }

    /// Updates that were not acknowledged for too long.
    pub(super) fn send_again(&mut self, cx: &mut Cx<'_>) {
        while let Some(slot) = self.retries.expired(cx.now) {
            if let Some((id, row)) = self.tasks.at(slot) {
                self.send_update(cx, id, &row);
            }
            if !cx.has_room() {
                return;
            }
        }
    }

    /// A new session hears the oldest update of every task at once. O(tasks), spread over ticks.
    pub(super) fn tell_all_again(&mut self, cx: &mut Cx<'_>) {
        self.tell_again(cx, |_| true);
    }

    /// A scheduler that may have come back hears the oldest update of each of its tasks at once.
    pub(super) fn tell_framework_again(&mut self, cx: &mut Cx<'_>, framework: Id) {
        self.tell_again(cx, |task| task.framework == framework.index);
    }

    fn tell_again(&mut self, cx: &mut Cx<'_>, of: impl Fn(&Task) -> bool) {
        for slot in 0..self.tasks.high_water() {
            let Some((id, row)) = self.tasks.at(slot) else { continue };
            if row.updates.is_empty() || !of(&row) {
                continue;
            }
            if let Some(row) = self.tasks.get_mut(id) {
                row.tries = 0;
            }
            // Ticks send them, as many at a time as a step may emit.
            self.retries.set(slot, cx.now);
        }
    }

    /// Ends that are on disk now.
    pub(super) fn send_durable(&mut self, cx: &mut Cx<'_>) {
        let written = self.counters.persisted;
        while let Some((id, row)) =
            self.updates.find(|update| !update.durable && update.record <= written)
        {
            if let Some(update) = self.updates.get_mut(id) {
                update.durable = true;
            }
            self.answer_executor(cx, &row);
            if let Some(task) = self.tasks.id_at(row.task) {
                self.keeper_may_forget(cx, task);
                self.send_first(cx, task);
            }
            if !cx.has_room() {
                return;
            }
        }
    }

    /// The end of a task is on disk: the keeper need not know it any more.
    fn keeper_may_forget(&mut self, cx: &mut Cx<'_>, task: Id) {
        let row = self.tasks.get(task);
        let row = row.filter(|row| row.runner().is_none() && row.state.is_terminal());
        if let Some(row) = row {
            cx.hand(Hand::Forget { container: row.container });
        }
    }

    /// An update was taken in. After its last one a task is forgotten. One that was told again meanwhile
    /// may be acknowledged more than once.
    pub(super) fn acknowledged(
        &mut self,
        cx: &mut Cx<'_>,
        task: &TaskOf<'_>,
        sequence: u64,
    ) -> Result<(), Refusal> {
        let id = self.task_of(task).ok_or(Refusal::UnknownTask)?;
        let row = self.tasks.get(id).ok_or(Refusal::UnknownTask)?;
        let waiting = row.updates.first(&self.updates);
        let waiting = waiting.and_then(|first| Some((first, self.updates.get(first)?)));
        let Some((first, update)) = waiting.filter(|(_, update)| update.sequence <= sequence)
        else {
            return Ok(());
        };
        if update.sequence != sequence {
            return Err(Refusal::OutOfTurn);
        }
        if update.state.is_terminal() {
            self.persist(cx, Record::Acknowledged { task: *task, sequence }, true, &[]);
            if planted(Mutant::TellsForgottenEnds) {
                return Ok(());
            }
            self.forget_task(cx, id);
            return Ok(());
        }
        self.remove_update(cx, id, first);
        self.retries.clear(id.index);
        if let Some(row) = self.tasks.get_mut(id) {
            row.tries = 0;
        }
        self.send_first(cx, id);
        Ok(())
    }

    pub(super) fn drop_updates(&mut self, cx: &mut Cx<'_>, task: Id) {
        while let Some(first) =
            self.tasks.get(task).and_then(|row| row.updates.first(&self.updates))
        {
            self.remove_update(cx, task, first);
        }
    }

    fn remove_update(&mut self, cx: &mut Cx<'_>, task: Id, id: Id) {
        let Some(update) = self.updates.get(id) else { return };
        if let Some(row) = self.tasks.get_mut(task) {
            row.updates.remove(&mut self.updates, OF_TASK, id);
        }
        self.updates.remove(id);
        self.let_go_of(cx, &update);
    }

    fn let_go_of(&mut self, cx: &mut Cx<'_>, update: &Update) {
        self.names.release_one(update.message);
        self.names.release_one(update.executor);
        self.drop_body(cx, update.public);
        self.drop_body(cx, update.data);
    }

    /// The newest state of a task, told once and without asking for an acknowledgement.
    pub(super) fn tell_now(&mut self, cx: &mut Cx<'_>, task: Id) {
        let Some(row) = self.tasks.get(task) else { return };
        let framework = self.framework_id(row.framework);
        let name = self.text(row.name);
        let detail = Detail {
            reason: Some(Reason::Reconciliation),
            container: Some(row.container),
            attempt: row.attempt,
            ..Detail::default()
        };
        let status = Status {
            task: &name,
            state: row.state,
            source: Source::Agent,
            agent: self.agent,
            uuid: None,
            wall_us: cx.wall_us,
            detail: Some(detail),
        };
        let head = AgentCall::Update { framework, latest: row.state, status };
        self.tell_master(cx, Head::AgentCall(head), &[]);
    }

    /// A task that is not here (Mesos: an agent answers DROPPED or LOST with RECONCILIATION).
    pub(super) fn tell_unknown(&mut self, cx: &mut Cx<'_>, task: &TaskOf<'_>) {
        let detail = Detail {
            reason: Some(Reason::Reconciliation),
            message: "The agent does not have the task",
            ..Detail::default()
        };
        let status = Status {
            task: task.task,
            state: TaskState::Dropped,
            source: Source::Agent,
            agent: self.agent,
            uuid: None,
            wall_us: cx.wall_us,
            detail: Some(detail),
        };
        let head =
            AgentCall::Update { framework: task.framework, latest: TaskState::Dropped, status };
        self.tell_master(cx, Head::AgentCall(head), &[]);
    }

    /// Runs `work` with an update as a status.
    pub(super) fn with_status<T>(
        &mut self,
        row: &Task,
        update: &Update,
        work: impl FnOnce(&mut Self, &Status<'_>) -> T,
    ) -> T {
        let (name, message) = (self.text(row.name), self.text(update.message));
        let executor = self.text(update.executor);
        let detail = Detail {
            reason: update.has_reason.then_some(update.reason),
            message: &message,
            exit: Exit::from_bytes(update.exit),
            executor: &executor,
            container: Some(row.container),
            healthy: match update.health {
                0 => None,
                health => Some(health == 2),
            },
            attempt: update.attempt,
            unreachable_wall_us: 0,
            public: named(update.public, 0),
            data: named(update.data, u16::from(!update.public.is_none())),
        };
        let status = Status {
            task: &name,
            state: update.state,
            source: update.source,
            agent: self.agent,
            uuid: Some(update.sequence),
            wall_us: update.wall_us,
            detail: Some(detail),
        };
        work(self, &status)
    }

    /// Puts back an update that a ledger kept.
    pub(super) fn restore_update(
        &mut self,
        cx: &mut Cx<'_>,
        framework: FrameworkId,
        sequence: u64,
        status: &Status<'_>,
        uuid: [u8; 16],
        bodies: &[BodyRef],
    ) {
        let Some(task) = self.task_of(&TaskOf { framework, task: status.task }) else { return };
        if self.tasks.get_ref(task).is_none_or(|row| row.state.is_terminal()) {
            return;
        }
        let detail = status.detail();
        let mut update =
            self.new_update(cx, task, status.state, status.source, detail.reason, detail.message);
        update.sequence = sequence;
        update.exit = detail.exit.to_bytes();
        update.health = detail.healthy.map_or(0, |healthy| if healthy { 2 } else { 1 });
        update.wall_us = status.wall_us;
        update.attempt = detail.attempt;
        update.uuid = uuid;
        update.durable = true;
        self.names.release_one(update.executor);
        update.executor = self.short_name(detail.executor);
        update.public = self.keep_body(cx, detail.public.of(bodies));
        update.data = self.keep_body(cx, detail.data.of(bodies));
        if let Some(container) = detail.container
            && let Some(row) = self.tasks.get_mut(task)
        {
            row.container = container;
        }
        self.free_task(task);
        self.set_state(task, status.state);
        let Ok(id) = self.updates.insert(update) else { return };
        if let Some(row) = self.tasks.get_mut(task) {
            row.updates.push(&mut self.updates, OF_TASK, id);
        }
    }
}

/// The bodies of an update, in the order in which its status names them.
pub(super) fn present(update: &Update) -> heapless::Vec<BodyRef, 2> {
    [update.public, update.data].into_iter().filter(|body| !body.is_none()).collect()
}
