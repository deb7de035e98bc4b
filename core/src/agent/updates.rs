//! Updates: each task's in order, one in flight, sent again until acknowledged.
//!
//! Mesos: `TaskStatusUpdateManager`. The end of a task is on disk before it is first told; what
//! comes before it is written by then, which outlives the agent, and not the power of its machine:
//! nothing of that runs on then. When the table runs short, updates before the end are joined: the
//! newest one stays.

use super::rows::{OF_TASK, Ordered, Stage, Task, Told, Update, health_of, healthy};
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
        if status.wall_us > 0 {
            // When it happened, its executor knows best.
            update.wall_us = status.wall_us;
        }
        update.exit = detail.exit.to_bytes();
        update.health = health_of(detail.healthy);
        update.public = self.keep_body(cx, detail.public.of(bodies));
        update.data = self.keep_body(cx, detail.data.of(bodies));
        self.queue(cx, task, update);
    }

    /// An executor's first word of a task, which nobody will hear of: after a restart it is not given
    /// the task again.
    fn keep_told(&mut self, cx: &mut Cx<'_>, row: &Task, state: TaskState) {
        self.with_task_of(row, |agent, task| {
            agent.persist(cx, Record::Told { task, state }, false, &[]);
        });
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
        if !ends && !self.has_room_for_news(cx, task) {
            if row.runner().is_some() && row.state == TaskState::Staging {
                self.keep_told(cx, &row, update.state);
            }
            self.let_go_of(cx, &update);
            self.set_state(task, update.state);
            return;
        }
        update.durable = planted(Mutant::TellsBeforeTheDisk);
        let Ok(id) = self.updates.insert(update) else {
            invariant!(!ends, "the slot set aside for an end is gone");
            return;
        };
        let record = self.record_update(cx, &row, &update);
        if let Some(stored) = self.updates.get_mut(id) {
            stored.record = record;
        }
        self.set_state(task, update.state);
        if let Some(row) = self.tasks.get_mut(task) {
            row.updates.push(&mut self.updates, OF_TASK, id);
        }
        self.send_first(cx, task);
    }

    /// Makes room for an update before the end of a task, whatever that costs it of those that were
    /// not sent. False when there is none: the rest is set aside for ends.
    fn has_room_for_news(&mut self, cx: &mut Cx<'_>, task: Id) -> bool {
        if self.updates.room() <= self.updates_reserved() {
            self.drop_unsent(cx, task);
        }
        self.updates.room() > self.updates_reserved()
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
            agent.persist(cx, record, update.state.is_terminal(), &bodies)
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

    /// Updates that are written now; of ends: on disk.
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
        self.keep_what_was_told(cx, id, first);
        self.remove_update(cx, id, first);
        self.retries.clear(id.index);
        if let Some(row) = self.tasks.get_mut(id) {
            row.tries = 0;
        }
        self.hold_back(id);
        self.send_first(cx, id);
        Ok(())
    }

    /// What follows an acknowledged update waits until that is written: an agent that begins again would
    /// tell the older one once more, after the newer one.
    fn hold_back(&mut self, task: Id) {
        let written = self.counters.record;
        let next = self.tasks.get_ref(task).and_then(|row| row.updates.first(&self.updates));
        let next = next.and_then(|next| self.updates.get_mut(next));
        if let Some(row) = next.filter(|_| !planted(Mutant::TellsOnUnwritten)) {
            (row.durable, row.record) = (false, written);
        }
    }

    /// What an acknowledged update told stays known, over a restart too: it gives its body to the task.
    fn keep_what_was_told(&mut self, cx: &mut Cx<'_>, task: Id, update: Id) {
        let Some(row) = self.updates.get_mut(update) else { return };
        let told = Told {
            wall_us: row.wall_us,
            sequence: row.sequence,
            uuid: row.uuid,
            state: row.state,
            attempt: row.attempt,
            source: row.source,
            reason: row.reason,
            has_reason: row.has_reason,
            health: row.health,
            public: core::mem::replace(&mut row.public, BodyRef::NONE),
        };
        self.set_told(cx, task, told);
        if let Some(row) = self.tasks.get(task) {
            self.record_told(cx, &row);
        }
    }

    fn set_told(&mut self, cx: &mut Cx<'_>, task: Id, told: Told) {
        if let Some(row) = self.tasks.get_mut(task) {
            let before = core::mem::replace(&mut row.told, told);
            self.drop_body(cx, before.public);
        }
    }

    /// Writes down what was acknowledged last of what was told of a task, if anything was.
    pub(super) fn record_told(&mut self, cx: &mut Cx<'_>, row: &Task) {
        let told = row.told;
        if told.wall_us == 0 {
            return;
        }
        let (name, framework) = (self.text(row.name), self.framework_id(row.framework));
        let detail = Detail {
            reason: told.has_reason.then_some(told.reason),
            healthy: healthy(told.health),
            attempt: told.attempt,
            public: named(told.public, 0),
            ..Detail::default()
        };
        let status = Status {
            task: &name,
            state: told.state,
            source: told.source,
            agent: self.agent,
            uuid: Some(told.sequence),
            wall_us: told.wall_us,
            detail: Some(detail),
        };
        let bodies = [told.public];
        let bodies = if told.public.is_none() { &[][..] } else { &bodies };
        self.persist(cx, Record::Said { framework, status, uuid: told.uuid }, false, bodies);
    }

    /// What a ledger kept of what was acknowledged. What was told before that waits for nobody.
    pub(super) fn restore_told(
        &mut self,
        cx: &mut Cx<'_>,
        framework: FrameworkId,
        status: &Status<'_>,
        uuid: [u8; 16],
        bodies: &[BodyRef],
    ) {
        let Some(task) = self.task_of(&TaskOf { framework, task: status.task }) else { return };
        let Some(row) = self.tasks.get(task) else { return };
        let (sequence, detail) = (status.uuid.unwrap_or(0), status.detail());
        if row.told.sequence >= sequence || status.state.is_terminal() {
            return;
        }
        let told = Told {
            wall_us: status.wall_us,
            sequence,
            uuid,
            state: status.state,
            attempt: detail.attempt,
            source: status.source,
            reason: detail.reason.unwrap_or_default(),
            has_reason: detail.reason.is_some(),
            health: health_of(detail.healthy),
            public: self.keep_body(cx, detail.public.of(bodies)),
        };
        self.set_told(cx, task, told);
        while let Some(first) = self.first_update(task).filter(|first| first.1 <= sequence) {
            self.remove_update(cx, task, first.0);
        }
        if self.first_update(task).is_none() {
            self.was_so(cx, task, told.state, detail.attempt, told.health, told.public);
        }
    }

    /// The oldest update of a task that nobody acknowledged, and its number.
    fn first_update(&self, task: Id) -> Option<(Id, u64)> {
        let first = self.tasks.get_ref(task)?.updates.first(&self.updates)?;
        Some((first, self.updates.get_ref(first)?.sequence))
    }

    /// How a task went when a ledger was written, unless that is of an earlier start of it.
    fn was_so(
        &mut self,
        cx: &mut Cx<'_>,
        task: Id,
        state: TaskState,
        attempt: u32,
        health: u8,
        public: BodyRef,
    ) {
        let Some(row) = self.tasks.get(task).filter(|row| row.attempt == attempt) else { return };
        let given = row.runner().is_some();
        // Its updates carry from now on what they carried then; an executor's are its own.
        let checked = if given { row.checked } else { self.keep_body(cx, public) };
        if let Some(row) = self.tasks.get_mut(task) {
            row.state = state;
            if given {
                row.stage = Stage::Running;
            } else {
                (row.health, row.checked) = (health, checked);
            }
        }
        if !given {
            self.drop_body(cx, row.checked);
        }
    }

    /// The machine was off: whatever was not told of before that is past, but for ends.
    pub(super) fn drop_past(&mut self, cx: &mut Cx<'_>) {
        for slot in 0..self.updates.high_water() {
            let Some((id, row)) = self.updates.at(slot) else { continue };
            if !row.state.is_terminal()
                && let Some(task) = self.tasks.id_at(row.task)
            {
                self.remove_update(cx, task, id);
            }
        }
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
            healthy: healthy(update.health),
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
        let Some(row) = self.tasks.get(task).filter(|row| !row.state.is_terminal()) else { return };
        let ends = status.state.is_terminal();
        let known = |update: &Update| (update.task, update.sequence) == (task.index, sequence);
        if row.told.sequence >= sequence
            || self.updates.iter().any(|(_, update)| known(update))
            || !ends && !self.has_room_for_news(cx, task)
        {
            return;
        }
        let detail = status.detail();
        let mut update =
            self.new_update(cx, task, status.state, status.source, detail.reason, detail.message);
        update.sequence = sequence;
        update.exit = detail.exit.to_bytes();
        update.health = health_of(detail.healthy);
        update.wall_us = status.wall_us;
        update.attempt = detail.attempt;
        update.uuid = uuid;
        update.durable = true;
        self.names.release_one(update.executor);
        update.executor = self.short_name(detail.executor);
        update.public = self.keep_body(cx, detail.public.of(bodies));
        update.data = self.keep_body(cx, detail.data.of(bodies));
        if ends {
            if let Some(container) = detail.container
                && let Some(row) = self.tasks.get_mut(task)
            {
                row.container = container;
            }
            self.free_task(task);
            self.set_state(task, status.state);
        } else {
            self.was_so(cx, task, status.state, update.attempt, update.health, update.public);
        }
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
