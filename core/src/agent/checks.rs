//! What checks and health checks of a task found. They are made by those who know processes and
//! sockets; here it is decided what is told, and that a task that is not healthy is killed.
//!
//! Mesos: `launcher/executor.cpp`, whose updates carry what was found last. A result that comes when
//! the task is about to end is of no interest any more.

use super::rows::{Ordered, Stage};
use super::{Agent, Cx};
use crate::Refusal;
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
        let status = self.keep_body(cx, status);
        if let Some(row) = self.tasks.get_mut(id) {
            row.checked = status;
        }
        self.drop_body(cx, row.checked);
        if row.stage == Stage::Running {
            let reason = Some(Reason::TaskCheckStatusUpdated);
            self.tell(cx, id, TaskState::Running, reason, "");
        }
        Ok(())
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
        if let Some(row) = self.tasks.get_mut(id) {
            row.health = if healthy { 2 } else { 1 };
        }
        let reason = Some(Reason::TaskHealthCheckStatusUpdated);
        self.tell(cx, id, TaskState::Running, reason, "");
        if kill {
            self.order_end(cx, id, None, Ordered::Unhealthy);
        }
        Ok(())
    }
}
