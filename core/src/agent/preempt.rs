//! Revocable resources are taken back: whoever holds some of them is ended at once.
//!
//! Mesos: `Slave::qosCorrections`. There the executor goes with all its tasks; whether somebody has to
//! go, and who, is decided by those who look at the machine. It is not written down: after a restart
//! the machine is looked at again.

use super::rows::{OF_EXECUTOR, Ordered, Stage, Task};
use super::{Agent, Cx, Hand};
use crate::Refusal;
use crate::index::after;
use crate::table::Id;
use crate::wire::ContainerId;
use crate::wire::task::Reason;

/// What their frameworks hear. Mesos: the same.
const PREEMPTED: &str = "Container preempted by QoS correction";

impl Agent<'_> {
    /// Ends what runs in a container. `UnknownTask` when nothing is known of it, `OutOfTurn` when
    /// nothing runs there, or ends already: it may be asked for again.
    pub(super) fn preempt(
        &mut self,
        cx: &mut Cx<'_>,
        container: ContainerId,
    ) -> Result<(), Refusal> {
        let Some((_, row)) = self.executors.find(|row| row.container == container) else {
            let (id, _) = self.command_in(container).ok_or(Refusal::UnknownTask)?;
            return if self.preempt_task(cx, id) { Ok(()) } else { Err(Refusal::OutOfTurn) };
        };
        let mut some = false;
        let mut next = row.tasks.first(&self.tasks);
        while let Some(task) = next {
            next = after(&self.tasks, OF_EXECUTOR, task);
            some |= self.preempt_task(cx, task);
        }
        if row.builtin {
            return if some { Ok(()) } else { Err(Refusal::OutOfTurn) };
        }
        if row.stage != Stage::Running {
            return Err(Refusal::OutOfTurn);
        }
        cx.hand(Hand::Destroy { container });
        Ok(())
    }

    /// Marks a task as one that makes room, and ends its own container if it has one.
    fn preempt_task(&mut self, cx: &mut Cx<'_>, id: Id) -> bool {
        let Some(row) = self.tasks.get_mut(id) else { return false };
        let lives = !row.state.is_terminal() && row.ordered == Ordered::No;
        let own = row.runner().is_none();
        if !lives || (own && row.stage != Stage::Running) {
            return false;
        }
        row.ordered = Ordered::Preempt;
        if own {
            row.stage = Stage::Ending;
            let container = row.container;
            cx.hand(Hand::Destroy { container });
        }
        true
    }

    /// One that made room has ended.
    pub(super) fn end_preempted(&mut self, cx: &mut Cx<'_>, id: Id, row: &Task) {
        self.lose_task(cx, id, row, Reason::ContainerPreempted, PREEMPTED);
        self.end_rest_of_group(cx, row);
    }
}
