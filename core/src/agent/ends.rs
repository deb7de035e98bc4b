//! How things end: kills with a grace, limits of time, and what the end of a container means.
//!
//! Mesos: `Slave::killTask`, `Slave::executorTerminated`, `launcher/executor.cpp`. A task that was
//! asked to end is told killed, however its process ended; one that was not is told by its status.

use super::rows::{Executor, OF_EXECUTOR, OF_FRAMEWORK, Ordered, Stage, Task};
use super::{Agent, Cx, Hand, Head, Record, SHUTDOWN_GRACE_US};
use crate::Refusal;
use crate::index::after;
use crate::mutant::{Mutant, planted};
use crate::resources::Holding;
use crate::table::Id;
use crate::time::Time;
use crate::wire::agent::AgentCall;
use crate::wire::call::Capability;
use crate::wire::executor::ExecutorEvent;
use crate::wire::task::{Exit, Reason, RestartRule, TaskOf, TaskState};
use crate::wire::{BodyRef, ContainerId, FrameworkId, Seq};

const SIGTERM: u8 = 15;

impl Agent<'_> {
    /// KILL. A later one may shorten the grace, not lengthen it.
    pub(super) fn kill(
        &mut self,
        cx: &mut Cx<'_>,
        task: &TaskOf<'_>,
        grace_us: Option<u64>,
    ) -> Result<(), Refusal> {
        let Some(id) = self.task_of(task) else {
            self.tell_unknown(cx, task);
            return Err(Refusal::UnknownTask);
        };
        self.kill_task(cx, id, grace_us);
        Ok(())
    }

    pub(super) fn kill_task(&mut self, cx: &mut Cx<'_>, id: Id, grace_us: Option<u64>) {
        self.order_end(cx, id, grace_us, Ordered::Kill);
    }

    /// Orders a task to end, which is written down first.
    pub(super) fn order_end(
        &mut self,
        cx: &mut Cx<'_>,
        id: Id,
        grace_us: Option<u64>,
        why: Ordered,
    ) {
        let Some(row) = self.tasks.get(id).filter(|row| !row.state.is_terminal()) else { return };
        if row.ordered != Ordered::No {
            self.hasten_end(cx, id, grace_us);
            return;
        }
        if let Some(row) = self.tasks.get_mut(id) {
            row.ordered = why;
            row.name_grace(grace_us);
        }
        self.with_task_of(&row, |agent, task| {
            // A task that would be started again must not come back after its kill.
            let sync = row.restart.rule != RestartRule::Never;
            let unhealthy = why == Ordered::Unhealthy;
            let record = if unhealthy { Record::Unhealthy { task } } else { Record::Kill { task } };
            let record = agent.persist(cx, record, sync, &[]);
            if let Some(row) =
                agent.tasks.get_mut(id).filter(|row| sync && row.stage == Stage::Running)
            {
                (row.record, row.kill_waits) = (record, true);
            }
        });
        if self.tasks.get_ref(id).is_some_and(|row| !row.kill_waits) {
            self.begin_end(cx, id);
        }
    }

    /// A task that is to end already is told to once more. An executor hears of each kill, which may name
    /// another grace; a command has what is left of the first one at the most.
    fn hasten_end(&mut self, cx: &mut Cx<'_>, id: Id, grace_us: Option<u64>) {
        let Some(row) = self.tasks.get_mut(id) else { return };
        if let Some(executor) = row.runner() {
            row.name_grace(grace_us);
            let row = *row;
            if row.ordered == Ordered::Kill && !row.kill_waits {
                self.ask_executor_to_kill(cx, executor, id, &row);
            }
            return;
        }
        let due = cx.now.after(grace_us.unwrap_or(row.grace_us));
        if due < self.kills.due(id.index) {
            self.kills.set(id.index, due);
        }
    }

    /// Tasks whose kill is on disk: the next start of the machine does not bring them back.
    pub(super) fn kill_recorded(&mut self, cx: &mut Cx<'_>) {
        let written = self.counters.persisted;
        while cx.has_room()
            && let Some((id, _)) = self.tasks.find(|row| row.kill_waits && row.record <= written)
        {
            if let Some(row) = self.tasks.get_mut(id) {
                row.kill_waits = false;
            }
            if self.tasks.get_ref(id).is_some_and(|row| row.stage == Stage::Running) {
                self.begin_end(cx, id);
            }
        }
    }

    /// Begins to end a task that was ordered to.
    pub(super) fn begin_end(&mut self, cx: &mut Cx<'_>, id: Id) {
        let Some(row) = self.tasks.get(id) else { return };
        if row.stage == Stage::Recording {
            if row.is_given() {
                self.end_unhanded(cx, &row);
                return;
            }
            let (state, reason) = (TaskState::Killed, Some(Reason::TaskKilledDuringLaunch));
            self.end_task(cx, id, state, reason, "Killed before it started", [0; 2]);
            return;
        }
        if let Some(executor) = row.runner() {
            self.ask_executor_to_kill(cx, executor, id, &row);
            return;
        }
        if row.stage == Stage::Waiting {
            let message = "Killed while it waited to be started again";
            self.end_task(cx, id, TaskState::Killed, None, message, [0; 2]);
            return;
        }
        let knows = self.frameworks.row(row.framework).is_some_and(|framework| {
            framework.capabilities & Capability::TaskKillingState.bit() != 0
        });
        if knows {
            self.tell(cx, id, TaskState::Killing, None, "");
        }
        let was = row.stage;
        if let Some(row) = self.tasks.get_mut(id) {
            row.stage = Stage::Ending;
        }
        // One that is starting has no process yet: the signal goes out when it runs, if it still does.
        if was == Stage::Running {
            self.signal_end(cx, id);
        } else if was == Stage::Starting {
            cx.hand(Hand::Abandon { container: row.container });
        }
    }

    /// Asks a task's process to end, and sets the time after which it is made to.
    pub(super) fn signal_end(&mut self, cx: &mut Cx<'_>, id: Id) {
        let Some(row) = self.tasks.get(id) else { return };
        if row.grace_us == 0 {
            cx.hand(Hand::Destroy { container: row.container });
            return;
        }
        cx.hand(Hand::Signal { container: row.container, signal: SIGTERM });
        self.kills.set(id.index, cx.now.after(row.grace_us));
    }

    /// Tasks whose grace is over.
    pub(super) fn escalate_kills(&mut self, cx: &mut Cx<'_>) {
        while let Some(slot) = self.kills.expired(cx.now) {
            if let Some(row) = self.tasks.row(slot) {
                cx.hand(Hand::Destroy { container: row.container });
            }
        }
    }

    /// How long a task may run counts from when it began, whichever agent saw that.
    pub(super) fn bound_completion(&mut self, cx: &Cx<'_>, id: Id) {
        let Some(row) = self.tasks.get(id).filter(|row| row.completion_us > 0) else { return };
        let known = row.since > Time(0) && !planted(Mutant::CountsItsTimeAnew);
        let from = if known { row.since } else { cx.now };
        self.completions.set(id.index, from.after(row.completion_us));
    }

    /// Tasks that ran as long as they may: no grace for them (Mesos: `max_completion_time`).
    pub(super) fn end_overdue(&mut self, cx: &mut Cx<'_>) {
        while let Some(slot) = self.completions.expired(cx.now) {
            let Some(id) = self.tasks.id_at(slot) else { continue };
            let Some(row) = self.tasks.get_mut(id) else { continue };
            if row.state.is_terminal() || row.ordered != Ordered::No {
                continue;
            }
            row.ordered = Ordered::Limit;
            row.stage = Stage::Ending;
            let container = row.container;
            cx.hand(Hand::Destroy { container });
        }
    }

    /// A container ended.
    pub(super) fn ended(
        &mut self,
        cx: &mut Cx<'_>,
        container: ContainerId,
        exit: Exit,
        limit: Option<(Reason, BodyRef)>,
        message: &str,
    ) -> Result<(), Refusal> {
        if let Some((id, _)) = self.executors.find(|row| row.container == container) {
            if let Some((_, status)) = limit {
                self.carry_in(cx, id, status);
            }
            self.executor_ended(cx, id, exit, limit.map(|(reason, _)| reason), message);
            return Ok(());
        }
        let (id, row) = self.command_in(container).ok_or(Refusal::UnknownTask)?;
        if row.state.is_terminal() {
            cx.hand(Hand::Forget { container });
            return Err(Refusal::OutOfTurn);
        }
        if row.ordered == Ordered::Preempt {
            self.end_preempted(cx, id, &row);
            return Ok(());
        }
        if row.stage == Stage::Waiting {
            return Err(Refusal::OutOfTurn);
        }
        let text = Sentence::of(exit);
        let said = if message.is_empty() { text.as_str() } else { message };
        // Whatever held it was gone before anybody saw how it ended.
        let unseen = exit == Exit::Unseen && row.began == Time(0);
        let comes = unseen && self.comes_back(cx, id, said);
        if comes || self.starts_again(cx, id, exit, said) {
            return Ok(());
        }
        let (state, reason, own) = match (row.ordered, limit, exit) {
            // Told above.
            (Ordered::Preempt, _, _) => return Ok(()),
            (Ordered::Kill | Ordered::Unhealthy | Ordered::Group, _, _) => {
                (TaskState::Killed, None, text.as_str())
            }
            (Ordered::Limit, _, _) => {
                let reason = Some(Reason::MaxCompletionTimeReached);
                (TaskState::Failed, reason, "Ran as long as it may")
            }
            (Ordered::No, Some((reason, status)), _) => {
                self.carry(cx, id, status);
                (TaskState::Failed, Some(reason), message)
            }
            (Ordered::No, None, Exit::Code(0)) => (TaskState::Finished, None, text.as_str()),
            (Ordered::No, None, _) => (TaskState::Failed, None, text.as_str()),
        };
        self.end_task(cx, id, state, reason, own, exit.to_bytes());
        Ok(())
    }

    /// A task is over: what it held is free, its end is told until acknowledged.
    pub(super) fn end_task(
        &mut self,
        cx: &mut Cx<'_>,
        id: Id,
        state: TaskState,
        reason: Option<Reason>,
        message: &str,
        exit: [u8; 2],
    ) {
        self.kills.clear(id.index);
        self.completions.clear(id.index);
        self.restarts.clear(id.index);
        self.free_task(id);
        self.forget_before(cx, id);
        self.tell_end(cx, id, state, reason, message, exit);
        if let Some(row) = self.tasks.get(id)
            && matches!(state, TaskState::Failed | TaskState::Killed)
        {
            self.end_rest_of_group(cx, &row);
        }
        self.check_left(cx);
    }

    /// What a task held is free.
    pub(super) fn free_task(&mut self, id: Id) {
        let Some(row) = self.tasks.get_mut(id) else { return };
        row.stage = Stage::Ended;
        let mut held = core::mem::replace(&mut row.held, Holding::EMPTY);
        let mut free = self.free;
        self.pool.add(&mut self.names, &mut free, &mut held);
        self.free = free;
    }

    /// Forgets a task with all its updates.
    pub(super) fn forget_task(&mut self, cx: &mut Cx<'_>, id: Id) {
        self.free_task(id);
        self.drop_updates(cx, id);
        let Some(row) = self.tasks.get(id) else { return };
        if row.runner().is_none() {
            // For the second time, unless its end never reached the disk.
            cx.hand(Hand::Forget { container: row.container });
        }
        self.retries.clear(id.index);
        self.kills.clear(id.index);
        self.completions.clear(id.index);
        self.restarts.clear(id.index);
        if let Some(framework) = self.frameworks.row_mut(row.framework) {
            framework.tasks.remove(&mut self.tasks, OF_FRAMEWORK, id);
        }
        let executor = row.executor.checked_sub(1).and_then(|slot| self.executors.id_at(slot));
        if let Some(executor) = executor.and_then(|executor| self.executors.get_mut(executor)) {
            executor.tasks.remove(&mut self.tasks, OF_EXECUTOR, id);
        }
        let hash = self.tasks_by_name.hash(row.framework.into(), row.name.place().into());
        self.tasks_by_name.remove(&mut self.tasks, 0, hash, id);
        self.tasks.remove(id);
        for name in [row.name, row.role, row.user] {
            self.names.release_one(name);
        }
        self.drop_body(cx, row.public);
        self.drop_body(cx, row.private);
        self.drop_body(cx, row.checked);
        self.drop_body(cx, row.told.public);
        if let Some(executor) = executor.filter(|_| self.counters.recovered) {
            self.tidy_builtin(cx, executor);
        }
        self.tidy_framework(cx, row.framework);
        self.check_left(cx);
    }

    /// The keeper died, and with it whoever could say how its containers end: they are ended, and
    /// their tasks are lost to the restart of what held them.
    pub(super) fn keeper_gone(&mut self, cx: &mut Cx<'_>) {
        for slot in 0..self.executors.high_water() {
            let Some((id, row)) = self.executors.at(slot) else { continue };
            if row.stage != Stage::Recording && !row.builtin {
                let reason = Some(Reason::AgentRestarted);
                self.executor_ended(cx, id, Exit::Unseen, reason, KEEPER_DIED);
            }
        }
        for slot in 0..self.tasks.high_water() {
            let Some((id, row)) = self.tasks.at(slot) else { continue };
            let started = !matches!(row.stage, Stage::Recording | Stage::Ended | Stage::Waiting);
            if row.runner().is_none() && started && !self.comes_back(cx, id, KEEPER_DIED) {
                self.lose_task(cx, id, &row, Reason::AgentRestarted, KEEPER_DIED);
            }
        }
    }

    /// A task is no more, and nobody knows how it ended.
    pub(super) fn lose_task(
        &mut self,
        cx: &mut Cx<'_>,
        id: Id,
        row: &Task,
        reason: Reason,
        message: &str,
    ) {
        let state = if matches!(row.ordered, Ordered::Kill | Ordered::Unhealthy) {
            TaskState::Killed
        } else {
            let aware = self.frameworks.row(row.framework).is_some_and(|framework| {
                framework.capabilities & Capability::PartitionAware.bit() != 0
            });
            if aware { TaskState::Gone } else { TaskState::Lost }
        };
        self.end_task(cx, id, state, Some(reason), message, [0; 2]);
    }

    /// An executor's container ended: so did its tasks, and the master hears of both.
    pub(super) fn executor_ended(
        &mut self,
        cx: &mut Cx<'_>,
        id: Id,
        exit: Exit,
        reason: Option<Reason>,
        message: &str,
    ) {
        let Some(row) = self.executors.get(id) else { return };
        let text = Sentence::of(exit);
        let (reason, message) = match row {
            Executor { late: true, recovered: true, .. } => {
                (Some(Reason::ExecutorReregistrationTimeout), NOT_BACK)
            }
            Executor { late: true, .. } => (Some(Reason::ExecutorRegistrationTimeout), NOT_THERE),
            _ if message.is_empty() => (reason, text.as_str()),
            _ => (reason, message),
        };
        let mut next = row.tasks.first(&self.tasks);
        while let Some(task) = next {
            next = after(&self.tasks, OF_EXECUTOR, task);
            let Some(task_row) = self.tasks.get(task) else { continue };
            if task_row.state.is_terminal() {
                continue;
            }
            if task_row.ordered == Ordered::Preempt {
                self.end_preempted(cx, task, &task_row);
                continue;
            }
            let killed = task_row.ordered != Ordered::No;
            let reason = reason.unwrap_or(Reason::ExecutorTerminated);
            if reason == Reason::AgentRestarted {
                self.lose_task(cx, task, &task_row, reason, message);
            } else {
                let state = if killed { TaskState::Killed } else { TaskState::Failed };
                self.end_task(cx, task, state, Some(reason), message, exit.to_bytes());
            }
        }
        let name = self.text(row.name);
        let framework = self.framework_id(row.framework);
        // Also while a registration is under way: it may have been reported, and is told of nowhere else.
        if let Some(conn) = self.link.conn.some() {
            let head = AgentCall::ExecutorEnded { framework, executor: &name, exit };
            cx.emit(super::Output::Send { conn, head: Head::AgentCall(head) });
        }
        if row.stage != Stage::Recording {
            cx.hand(Hand::Forget { container: row.container });
        }
        self.persist(cx, Record::ExecutorGone { framework, executor: &name }, false, &[]);
        self.forget_executor(cx, id);
    }

    pub(super) fn forget_executor(&mut self, cx: &mut Cx<'_>, id: Id) {
        let Some(mut row) = self.executors.get(id) else { return };
        self.shutdowns.clear(id.index);
        // Its tasks that still wait for an acknowledgement go on without it.
        let mut next = row.tasks.first(&self.tasks);
        while let Some(task) = next {
            next = after(&self.tasks, OF_EXECUTOR, task);
            row.tasks.remove(&mut self.tasks, OF_EXECUTOR, task);
            if let Some(task) = self.tasks.get_mut(task) {
                task.executor = 0;
            }
        }
        if let Some(framework) = self.frameworks.row_mut(row.framework) {
            framework.executors.remove(&mut self.executors, OF_FRAMEWORK, id);
        }
        let hash = self.executors_by_name.hash(row.framework.into(), row.name.place().into());
        self.executors_by_name.remove(&mut self.executors, 0, hash, id);
        self.executors.remove(id);
        let mut free = self.free;
        self.pool.add(&mut self.names, &mut free, &mut row.held);
        self.free = free;
        for name in [row.name, row.role, row.user] {
            self.names.release_one(name);
        }
        self.drop_body(cx, row.body);
        self.tidy_framework(cx, row.framework);
        self.check_left(cx);
    }

    /// SHUTDOWN of one executor.
    pub(super) fn shutdown_executor(
        &mut self,
        cx: &mut Cx<'_>,
        framework: FrameworkId,
        executor: &str,
    ) -> Result<(), Refusal> {
        let framework = self.framework_by_id(framework).ok_or(Refusal::UnknownFramework)?;
        let id = self.executor_named(framework, executor).ok_or(Refusal::UnknownExecutor)?;
        self.end_executor(cx, id);
        Ok(())
    }

    /// Asks an executor to end; after its grace it is made to.
    pub(super) fn end_executor(&mut self, cx: &mut Cx<'_>, id: Id) {
        let Some(row) = self.executors.get(id) else { return };
        if row.builtin {
            return self.end_builtin(cx, id);
        }
        match row.stage {
            Stage::Recording => {
                self.executor_ended(cx, id, Exit::Unseen, None, "Ended before it started");
            }
            Stage::Starting | Stage::Running => {
                if let Some(row) = self.executors.get_mut(id) {
                    row.stage = Stage::Ending;
                }
                let conn = row.conn.some();
                if let Some(conn) = conn {
                    let head = Head::ExecutorEvent(ExecutorEvent::Shutdown);
                    cx.emit(super::Output::Send { conn, head });
                }
                if row.stage == Stage::Starting {
                    cx.hand(Hand::Abandon { container: row.container });
                }
                let grace = if row.grace_us == 0 { SHUTDOWN_GRACE_US } else { row.grace_us };
                self.shutdowns.set(id.index, cx.now.after(grace));
            }
            Stage::Ending | Stage::Ended | Stage::Waiting => {}
        }
    }

    pub(super) fn end_executors_overdue(&mut self, cx: &mut Cx<'_>) {
        while let Some(slot) = self.shutdowns.expired(cx.now) {
            let Some((id, row)) = self.executors.at(slot) else { continue };
            if row.builtin {
                self.end_builtin(cx, id);
            } else if row.stage == Stage::Running {
                self.executor_late(cx, id);
            } else {
                cx.hand(Hand::Destroy { container: row.container });
            }
            if !cx.has_room() {
                return;
            }
        }
    }

    /// Tells the states of tasks that the master thinks are here.
    pub(super) fn reconcile(
        &mut self,
        cx: &mut Cx<'_>,
        tasks: &Seq<'_, TaskOf<'_>>,
    ) -> Result<(), Refusal> {
        for task in tasks.iter() {
            match self.task_of(&task) {
                Some(id) => self.tell_now(cx, id),
                None => self.tell_unknown(cx, &task),
            }
        }
        Ok(())
    }
}

const NOT_THERE: &str = "Its executor did not subscribe within --executor-registration-timeout";
const NOT_BACK: &str =
    "Its executor did not subscribe again within --executor-reregistration-timeout";
const KEEPER_DIED: &str = "The process that held the task died";

/// How a command ended, in Mesos' words.
struct Sentence(heapless::String<64>);

impl Sentence {
    fn of(exit: Exit) -> Self {
        use core::fmt::Write as _;
        let mut text = heapless::String::new();
        // 64 bytes hold every one of them.
        let _ = match exit {
            Exit::Unseen => write!(text, "Command ended"),
            Exit::Code(code) => write!(text, "Command exited with status {code}"),
            Exit::Signal(signal) => match signal_name(signal) {
                Some(name) => write!(text, "Command terminated with signal {name}"),
                None => write!(text, "Command terminated with signal {signal}"),
            },
        };
        Self(text)
    }

    fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a signal is called by `strsignal(3)` on Linux, and so in Mesos' sentences; none for those
/// that have no name of their own.
const fn signal_name(signal: u8) -> Option<&'static str> {
    Some(match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        31 => "Bad system call",
        _ => return None,
    })
}
