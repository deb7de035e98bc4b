//! The conversation with custom executors (Mesos: executor API v1).
//!
//! Whoever subscribes was found to be that executor by the IO side: it holds the token that only
//! its environment has.

use super::rows::{Executor, OF_EXECUTOR, Ordered, Stage, Task, Update};
use super::{Agent, Config, Cx, Hand, Head, Output, named};
use crate::Refusal;
use crate::index::after;
use crate::mutant::{Mutant, planted};
use crate::names::Name;
use crate::table::Id;
use crate::wire::agent::AgentCall;
use crate::wire::executor::{ExecutorCall, ExecutorEvent, ExecutorUpdate};
use crate::wire::link::Parting;
use crate::wire::resource::Resource;
use crate::wire::task::{Kind, Launch, Reason, TaskState};
use crate::wire::{AgentId, Body, BodyRef, FrameworkId, Scratch, Seq};

impl Agent<'_> {
    /// Everything an executor says.
    pub(super) fn executor_says(
        &mut self,
        cx: &mut Cx<'_>,
        conn: Id,
        call: ExecutorCall<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        if let ExecutorCall::Subscribe { framework, executor, tasks, updates, .. } = call {
            let known = self.executor_subscribes(cx, conn, framework, executor)?;
            for update in updates.iter() {
                // What it told and nobody confirmed; what is known already is confirmed again.
                let _ = self.executor_update(cx, known, &update, bodies);
            }
            self.give_tasks(cx, known, &tasks);
            return Ok(());
        }
        if let ExecutorCall::Holds { framework, executor, tasks, .. } = call {
            return self.executor_holds(framework, executor, &tasks);
        }
        let (id, _) = self
            .executors
            .find(|row| row.conn == conn && conn.some().is_some())
            .ok_or(Refusal::WrongConnection)?;
        match call {
            ExecutorCall::Subscribe { .. }
            | ExecutorCall::Holds { .. }
            | ExecutorCall::Heartbeat => Ok(()),
            ExecutorCall::Update(update) => self.executor_update(cx, id, &update, bodies),
            ExecutorCall::Message { data } => self.message_up(cx, id, data.of(bodies)),
        }
    }

    fn executor_subscribes(
        &mut self,
        cx: &mut Cx<'_>,
        conn: Id,
        framework: FrameworkId,
        executor: &str,
    ) -> Result<Id, Refusal> {
        let Some((id, row)) = self.executor_expected(framework, executor) else {
            let message = Refusal::UnknownExecutor.sentence();
            let event = Head::ExecutorEvent(ExecutorEvent::Error { message });
            cx.emit(Output::Send { conn, head: event });
            cx.emit(Output::Close { conn, reason: Parting::Denied, message });
            return Err(Refusal::UnknownExecutor);
        };
        if let Some(old) = row.conn.some() {
            let message = "the executor subscribed on another connection";
            cx.emit(Output::Close { conn: old, reason: Parting::Replaced, message });
        }
        if row.stage == Stage::Ending {
            // It is to end, and may not have heard so. What it says of its tasks still counts.
            if let Some(row) = self.executors.get_mut(id) {
                row.conn = conn;
            }
            cx.emit(Output::Send { conn, head: Head::ExecutorEvent(ExecutorEvent::Shutdown) });
            return Ok(id);
        }
        if let Some(row) = self.executors.get_mut(id) {
            row.conn = conn;
            row.stage = Stage::Running;
        }
        self.shutdowns.clear(id.index);
        let event = ExecutorEvent::Subscribed {
            agent: self.agent,
            container: row.container,
            executor: named(row.body, 0),
            framework: Body::NONE,
        };
        let with = [row.body];
        let with = if row.body.is_none() { &[][..] } else { &with };
        cx.emit_with(Output::Send { conn, head: Head::ExecutorEvent(event) }, with);
        Ok(id)
    }

    /// The executor of that name, if it may subscribe.
    fn executor_expected(&self, framework: FrameworkId, name: &str) -> Option<(Id, Executor)> {
        let id = self.executor_named(self.framework_by_id(framework)?, name)?;
        let row = self.executors.get(id)?;
        (!row.builtin).then_some((id, row))
    }

    /// An executor that is about to subscribe has those tasks: they are not handed to it again.
    /// O(tasks of it · tasks that it names).
    fn executor_holds(
        &mut self,
        framework: FrameworkId,
        executor: &str,
        has: &Seq<'_, &str>,
    ) -> Result<(), Refusal> {
        let (_, row) =
            self.executor_expected(framework, executor).ok_or(Refusal::UnknownExecutor)?;
        let mut next = row.tasks.first(&self.tasks);
        while let Some(task) = next {
            next = after(&self.tasks, OF_EXECUTOR, task);
            let named = |row: &Task| has.iter().any(|name| self.names.is(row.name, name));
            let is_held = self.tasks.get_ref(task).is_some_and(named);
            if let Some(row) = self.tasks.get_mut(task).filter(|_| is_held)
                && row.stage == Stage::Starting
            {
                row.stage = Stage::Running;
            }
        }
        Ok(())
    }

    /// Gives an executor that subscribed the tasks that it does not have yet: those of which it
    /// neither told anything before, nor says now that it has them. Whom it was to kill it hears
    /// again. O(tasks of it · tasks that it names).
    fn give_tasks(&mut self, cx: &mut Cx<'_>, executor: Id, has: &Seq<'_, &str>) {
        let row = self.executors.get(executor).filter(|row| row.stage != Stage::Ending);
        let Some(row) = row else { return };
        let mut next = row.tasks.first(&self.tasks);
        while let Some(task) = next {
            next = after(&self.tasks, OF_EXECUTOR, task);
            let Some(mut row) = self.tasks.get(task) else { continue };
            let named = || has.iter().any(|name| self.names.is(row.name, name));
            let new = row.stage == Stage::Starting && row.state == TaskState::Staging && !named();
            if new || planted(Mutant::GivesTasksAgain) && !row.is_given() {
                if row.is_given() {
                    self.hand_group(cx, executor, &row);
                } else {
                    self.hand_to_executor(cx, executor, task);
                }
                // What is handed over already is not any more.
                row.stage = self.tasks.get_ref(task).map_or(row.stage, |row| row.stage);
            } else if row.stage == Stage::Starting {
                row.stage = Stage::Running;
                if let Some(row) = self.tasks.get_mut(task) {
                    row.stage = Stage::Running;
                }
            }
            if row.ordered == Ordered::Kill && row.stage == Stage::Running {
                self.ask_executor_to_kill(cx, executor.index, task, &row);
            }
        }
    }

    /// An executor has so long to subscribe. Mesos: `--executor_registration_timeout` and
    /// `--executor_reregistration_timeout`.
    pub(super) fn expect_executor(&mut self, cx: &mut Cx<'_>, id: Id) {
        let Some(row) = self.executors.get_ref(id).filter(|row| row.conn.some().is_none()) else {
            return;
        };
        let Config { registration_us, reregistration_us, .. } = self.config;
        let us = if row.recovered { reregistration_us } else { registration_us };
        self.shutdowns.set(id.index, cx.now.after(us));
    }

    /// It did not: it is destroyed, and its tasks have failed for it.
    pub(super) fn executor_late(&mut self, cx: &mut Cx<'_>, id: Id) {
        let Some(row) = self.executors.get_mut(id) else { return };
        (row.late, row.stage) = (true, Stage::Ending);
        cx.hand(Hand::Destroy { container: row.container });
    }

    /// An executor's connection is gone; its container tells when it is, too.
    pub(super) fn executor_away(&mut self, conn: Id) {
        if let Some((id, _)) = self.executors.find(|row| row.conn == conn)
            && let Some(row) = self.executors.get_mut(id)
        {
            row.conn = Id::NONE;
        }
    }

    /// Gives an executor a task, if it is subscribed; else it gets it when it subscribes.
    pub(super) fn hand_to_executor(&mut self, cx: &mut Cx<'_>, executor: Id, task: Id) {
        let Some(conn) = self.executors.get_ref(executor).and_then(|row| row.conn.some()) else {
            return;
        };
        let Some(row) = self.tasks.get(task) else { return };
        if let Some(row) = self.tasks.get_mut(task) {
            row.stage = Stage::Running;
        }
        let name = self.text(row.name);
        let user = self.text(row.user);
        self.with_scratch(|agent, outer, inner| {
            let mut outer = Scratch::new(outer);
            let resources = agent.pool.write(&agent.names, row.held, "", &mut outer, inner);
            let places = [0, u16::from(!row.public.is_none())];
            let resources = resources.unwrap_or_default();
            let launch = given(agent.agent, &row, [&name, &user], resources, places);
            let with: heapless::Vec<BodyRef, 2> =
                [row.public, row.private].into_iter().filter(|body| !body.is_none()).collect();
            let head = Head::ExecutorEvent(ExecutorEvent::Launch { task: launch });
            cx.emit_with(Output::Send { conn, head }, &with);
        });
    }

    /// Passes a kill on to the executor; one that never subscribed never had the task.
    pub(super) fn ask_executor_to_kill(
        &mut self,
        cx: &mut Cx<'_>,
        executor: u32,
        task: Id,
        row: &Task,
    ) {
        let conn = self.executors.row(executor).and_then(|row| row.conn.some());
        match conn {
            Some(conn) if row.stage == Stage::Running => {
                let name = self.text(row.name);
                let grace_us = row.grace_named.then_some(row.grace_us);
                let event = ExecutorEvent::Kill { task: &name, grace_us };
                cx.emit(Output::Send { conn, head: Head::ExecutorEvent(event) });
            }
            _ if row.stage == Stage::Starting && row.is_given() => {
                self.end_unhanded(cx, row);
                self.end_unused(cx, executor);
            }
            _ if row.stage == Stage::Starting => {
                let reason = Some(Reason::TaskKilledDuringLaunch);
                self.end_task(
                    cx,
                    task,
                    TaskState::Killed,
                    reason,
                    "Killed before its executor had it",
                    [0; 2],
                );
                self.end_unused(cx, executor);
            }
            // It comes back, or its container ends: either tells what became of the task.
            _ => {}
        }
    }

    /// Ends an executor that never subscribed and has no task left to subscribe for.
    fn end_unused(&mut self, cx: &mut Cx<'_>, executor: u32) {
        let Some((id, row)) = self.executors.at(executor) else { return };
        let mut next = row.tasks.first(&self.tasks);
        while let Some(task) = next {
            next = after(&self.tasks, OF_EXECUTOR, task);
            if self.tasks.get_ref(task).is_some_and(|row| !row.state.is_terminal()) {
                return;
            }
        }
        if row.conn == Id::NONE && !row.recovered {
            self.end_executor(cx, id);
        }
    }

    fn executor_update(
        &mut self,
        cx: &mut Cx<'_>,
        executor: Id,
        update: &ExecutorUpdate<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        let row = self.executors.get(executor).ok_or(Refusal::UnknownExecutor)?;
        let name = self.names.find(update.status.task).unwrap_or(Name::EMPTY);
        let mut next = row.tasks.first(&self.tasks);
        let task = loop {
            let Some(id) = next else {
                // Its end was taken in before, or it never was here: saying it again changes nothing.
                self.confirm(cx, row.conn, update.status.task, update.uuid);
                return Err(Refusal::UnknownTask);
            };
            if self.tasks.get_ref(id).is_some_and(|task| task.name == name) {
                break id;
            }
            next = after(&self.tasks, OF_EXECUTOR, id);
        };
        let state = self.tasks.get_ref(task).map_or(TaskState::Unknown, |row| row.state);
        if state.is_terminal() || self.is_told(task, update) {
            // It is safe, or too late for anything but saying so.
            if !self.is_being_written(task, update) {
                self.confirm(cx, row.conn, update.status.task, update.uuid);
            }
            return Err(Refusal::Exists);
        }
        if !self.names.has_room_for([update.status.detail().message]) {
            return Err(Refusal::NamesFull);
        }
        if update.status.state.is_terminal() {
            self.kills.clear(task.index);
            self.tell_for_executor(cx, task, update, bodies);
            self.free_task(task);
            self.check_left(cx);
        } else {
            self.tell_for_executor(cx, task, update, bodies);
            if !self.is_being_written(task, update) {
                self.confirm(cx, row.conn, update.status.task, update.uuid);
            }
        }
        Ok(())
    }

    /// An update of that name is confirmed once it is written.
    fn is_being_written(&self, task: Id, update: &ExecutorUpdate<'_>) -> bool {
        if planted(Mutant::ConfirmsTheUnwritten) {
            return false;
        }
        self.updates.iter().any(|(_, row)| is_again(row, task, update) && !row.durable)
    }

    /// An update of that name waits already, or was acknowledged last, and its executor has not heard
    /// that it may forget it.
    fn is_told(&self, task: Id, update: &ExecutorUpdate<'_>) -> bool {
        let told = self.tasks.get_ref(task).map(|row| row.told);
        self.updates.iter().any(|(_, row)| is_again(row, task, update))
            || told.is_some_and(|told| {
                update.uuid != [0; 16]
                    && (told.uuid, told.state) == (update.uuid, update.status.state)
            })
    }

    /// What an executor told is written: it may forget it.
    pub(super) fn answer_executor(&mut self, cx: &mut Cx<'_>, update: &Update) {
        if update.uuid == [0; 16] {
            return;
        }
        let Some(task) = self.tasks.row(update.task) else { return };
        let name = self.text(task.name);
        let conn = task.executor.checked_sub(1).and_then(|slot| self.executors.row(slot));
        let conn = conn.map_or(Id::NONE, |row| row.conn);
        self.confirm(cx, conn, &name, update.uuid);
    }

    fn confirm(&mut self, cx: &mut Cx<'_>, conn: Id, task: &str, uuid: [u8; 16]) {
        if let Some(conn) = conn.some() {
            let head = Head::ExecutorEvent(ExecutorEvent::Acknowledged { task, uuid });
            cx.emit(Output::Send { conn, head });
        }
    }

    fn message_up(&mut self, cx: &mut Cx<'_>, executor: Id, data: BodyRef) -> Result<(), Refusal> {
        let row = self.executors.get(executor).ok_or(Refusal::UnknownExecutor)?;
        let name = self.text(row.name);
        let framework = self.framework_id(row.framework);
        let head = AgentCall::Message { framework, executor: &name, data: Body::at(0) };
        self.tell_master(cx, Head::AgentCall(head), &[data]);
        Ok(())
    }

    pub(super) fn message_down(
        &mut self,
        cx: &mut Cx<'_>,
        framework: FrameworkId,
        executor: &str,
        data: BodyRef,
    ) -> Result<(), Refusal> {
        let framework = self.framework_by_id(framework).ok_or(Refusal::UnknownFramework)?;
        let id = self.executor_named(framework, executor).ok_or(Refusal::UnknownExecutor)?;
        let conn = self.executors.get_ref(id).and_then(|row| row.conn.some());
        let conn = conn.ok_or(Refusal::Disconnected)?;
        let head = Head::ExecutorEvent(ExecutorEvent::Message { data: Body::at(0) });
        cx.emit_with(Output::Send { conn, head }, &[data]);
        Ok(())
    }
}

/// An executor says once more what it has said of a task.
fn is_again(row: &Update, task: Id, update: &ExecutorUpdate<'_>) -> bool {
    (row.task, row.uuid, row.state) == (task.index, update.uuid, update.status.state)
}

/// A task as its executor is given it: under this name, for this user, with its bodies at these places.
pub(super) fn given<'g>(
    agent: AgentId,
    row: &Task,
    [task, user]: [&'g str; 2],
    resources: Seq<'g, Resource<'g>>,
    [public, private]: [u16; 2],
) -> Launch<'g> {
    Launch {
        task,
        agent,
        kind: Kind::Executor,
        resources,
        limits: Seq::EMPTY,
        executor: None,
        user,
        grace_us: Some(row.grace_us),
        completion_us: (row.completion_us > 0).then_some(row.completion_us),
        restart: row.restart,
        public: named(row.public, public),
        private: named(row.private, private),
    }
}
