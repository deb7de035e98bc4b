//! What checks and health checks of a task found. They are made by those who know processes and
//! sockets; here it is decided what is told, and that a task that is not healthy is killed.
//!
//! Mesos: `launcher/executor.cpp`, whose updates carry what was found last. A result that comes when
//! the task is about to end is of no interest any more.

use super::rows::{OF_EXECUTOR, Ordered, Stage, health_of};
use super::{Agent, Cx};
use crate::Refusal;
use crate::index::after;
use crate::table::Id;
use crate::wire::task::{Reason, TaskState};
use crate::wire::{BodyRef, ContainerId};

impl Agent<'_> {
    /// A check has a new result, which every update of the task carries from now on. Before the
    /// task runs, there is none yet, and its first update says so.
    pub(super) fn checked(
        &mut self,
        cx: &mut Cx<'_>,
        container: ContainerId,
        status: BodyRef,
    ) -> Result<(), Refusal> {
        let (id, row) = self.command_in(container).ok_or(Refusal::UnknownTask)?;
        if row.ordered != Ordered::No || !matches!(row.stage, Stage::Starting | Stage::Running) {
            return Err(Refusal::OutOfTurn);
        }
        if (row.checked.len, row.checked.hash) == (status.len, status.hash) {
            // The agent started again and looked anew.
            return Ok(());
        }
        self.carry(cx, id, status);
        if row.stage == Stage::Running {
            let reason = Some(Reason::TaskCheckStatusUpdated);
            self.tell(cx, id, TaskState::Running, reason, "");
        }
        Ok(())
    }

    /// Every update of a task carries this from now on; none = what it carried before.
    pub(super) fn carry(&mut self, cx: &mut Cx<'_>, id: Id, status: BodyRef) {
        if status.is_none() {
            return;
        }
        let status = self.keep_body(cx, status);
        let before = self.tasks.get_mut(id).map(|row| core::mem::replace(&mut row.checked, status));
        self.drop_body(cx, before.unwrap_or(status));
    }

    /// The same of all tasks of an executor that have not ended.
    pub(super) fn carry_in(&mut self, cx: &mut Cx<'_>, executor: Id, status: BodyRef) {
        let row = self.executors.get(executor);
        let mut next = row.and_then(|row| row.tasks.first(&self.tasks));
        while let Some(task) = next {
            next = after(&self.tasks, OF_EXECUTOR, task);
            if self.tasks.get_ref(task).is_some_and(|row| !row.state.is_terminal()) {
                self.carry(cx, task, status);
            }
        }
    }

    /// A health check has something to tell, and may have failed once too often.
    pub(super) fn health(
        &mut self,
        cx: &mut Cx<'_>,
        container: ContainerId,
        healthy: bool,
        kill: bool,
    ) -> Result<(), Refusal> {
        let (id, row) = self.command_in(container).ok_or(Refusal::UnknownTask)?;
        if row.ordered != Ordered::No || row.stage != Stage::Running {
            return Err(Refusal::OutOfTurn);
        }
        if healthy && !kill && row.health == health_of(Some(true)) {
            return Ok(());
        }
        if let Some(row) = self.tasks.get_mut(id) {
            row.health = health_of(Some(healthy));
        }
        let reason = Some(Reason::TaskHealthCheckStatusUpdated);
        self.tell(cx, id, TaskState::Running, reason, "");
        if kill {
            self.order_end(cx, id, None, Ordered::Unhealthy);
        }
        Ok(())
    }
}
