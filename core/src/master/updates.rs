//! What becomes of tasks: updates, acknowledgements, reconciliation, kills, messages.
//!
//! Mesos: `Master::statusUpdate`, `acknowledge`, `reconcileTasks`, `kill`. An update goes from its
//! agent through the master to the scheduler and its acknowledgement the same way back; the master
//! keeps a task until its last update was acknowledged, but its resources only until it ended.

use super::meet::seconds;
use super::rows::{AgentState, Framework, OF_FRAMEWORK, Task, told_in};
use super::{CHORE_BATCH, Cx, Fact, FrameworkState, Master, OF_AGENT, Output};
use crate::Refusal;
use crate::index::after;
use crate::mutant::{Mutant, planted};
use crate::resources::Holding;
use crate::table::Id;
use crate::wire::agent::{AgentEvent, TaskTold};
use crate::wire::call::{Capability, Ownership};
use crate::wire::event::Event;
use crate::wire::task::{Detail, Exit, Reason, Source, Status, TaskAt, TaskOf, TaskState};
use crate::wire::{AgentId, Body, BodyRef, FrameworkId, Seq, Uuid};

impl Master<'_> {
    /// A status from an agent. O(pieces + depth · log roles).
    pub(super) fn update(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        framework: FrameworkId,
        latest: TaskState,
        status: &Status<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        let id = self.agents.get_ref(agent).ok_or(Refusal::UnknownAgent)?.id;
        if status.agent != id {
            return Err(Refusal::WrongConnection);
        }
        if self.was_sent_away(agent) {
            // Its tasks were told lost: nobody waits for more, and it waits for this.
            return self.acknowledge_unowned(cx, agent, framework, status);
        }
        let Some(owner) = self.framework_by_id(framework) else {
            // Nobody will ever acknowledge it: the agent ends what it still has of it.
            self.order(cx, agent, AgentEvent::ShutdownFramework { framework }, &[]);
            return self.acknowledge_unowned(cx, agent, framework, status);
        };
        let task = self.task_named(owner, status.task);
        let here = |id: &Id| self.tasks.get_ref(*id).is_some_and(|row| row.agent == agent.index);
        if task.is_some_and(|id| !here(&id)) {
            // Another copy is the one that counts: this one ends by the master's word.
            return self.acknowledge_unowned(cx, agent, framework, status);
        }
        if let Some(row) = task.and_then(|id| self.tasks.get_ref(id))
            && status.uuid.is_some_and(|sequence| sequence < row.forwarded)
        {
            // Acknowledged already, or nothing later had come: the agent ended before that was on its disk.
            return self.acknowledge_unowned(cx, agent, framework, status);
        }
        if let Some(task) = task {
            let now = cx.now;
            if let Some(row) = self.tasks.get_mut(task) {
                let again = row.attempt != status.detail().attempt;
                if status.state == TaskState::Running && (again || row.since_s == 0) {
                    row.since_s = seconds(now);
                }
                row.forwarded = status.uuid.unwrap_or(row.forwarded);
                row.attempt = status.detail().attempt;
                row.container = status.detail().container.unwrap_or(row.container);
            }
            if status.uuid.is_some() {
                self.note_executor(agent, task);
            }
            self.update_fact(cx, task, latest, &self.as_removed(owner, status), bodies);
            self.move_to(task, status.state, latest.is_terminal());
        } else if status.uuid.is_none() {
            // An answer about a task whose end was told and acknowledged: a late order has met nothing.
            return Ok(());
        }
        let row = self.frameworks.get(owner).ok_or(Refusal::UnknownFramework)?;
        if acknowledged_here(&row) {
            return self.acknowledge_owned(cx, agent, owner, task, status);
        }
        let state = self.told_state(agent, &row, status.state);
        self.pass_on(cx, owner, &Status { state, ..*status }, bodies);
        // It was never accepted there: nobody acknowledges that, and nothing would ever end it here.
        if status.uuid.is_none()
            && status.state.is_terminal()
            && let Some(task) = task
        {
            self.remove_dropped(cx, task);
        }
        Ok(())
    }

    /// An agent has taken a task in, and so it has its executor.
    fn note_executor(&mut self, agent: Id, task: Id) {
        let session = self.agents.get_ref(agent).map_or(0, |row| told_in(row.session));
        let executor = self.tasks.get_ref(task).and_then(|row| row.executor.checked_sub(1));
        if let Some(row) = executor.and_then(|slot| self.executors.row_mut(slot)) {
            row.seen = session;
        }
    }

    /// Forgets a task that its agent did not take in, and an executor that came with nothing else.
    fn remove_dropped(&mut self, cx: &mut Cx<'_>, task: Id) {
        let executor = self.tasks.get_ref(task).and_then(|row| row.executor.checked_sub(1));
        self.remove_task(cx, task);
        let id = executor.and_then(|slot| self.executors.id_at(slot));
        if let Some(id) = id
            && self.executors.get_ref(id).is_some_and(|row| row.seen == 0 && row.tasks == 0)
        {
            self.remove_executor(cx, id);
        }
    }

    /// A status as it is shown: what was killed because its framework is removed is so by the master
    /// (Mesos: `Master::removeFramework`).
    fn as_removed<'s>(&self, framework: Id, status: &Status<'s>) -> Status<'s> {
        let row = self.frameworks.get_ref(framework);
        let leaving = row.is_some_and(|row| row.state == FrameworkState::Leaving);
        let detail = status.detail();
        if !leaving || status.state != TaskState::Killed || detail.reason.is_some() {
            return *status;
        }
        let reason = Some(Reason::FrameworkRemoved);
        let detail = Detail { reason, message: "The framework was removed", ..detail };
        Status { source: Source::Master, detail: Some(detail), ..*status }
    }

    /// Passes a status on to its scheduler, with its bodies. One that is away hears it when the
    /// agent sends it again.
    fn pass_on(&mut self, cx: &mut Cx<'_>, framework: Id, status: &Status<'_>, bodies: &[BodyRef]) {
        self.tell(cx, framework, Event::Update { status: *status }, bodies);
    }

    /// A task is in another state. Once it ended, its resources are free; what was told before
    /// a later state is not believed any more.
    pub(super) fn move_to(&mut self, task: Id, state: TaskState, ended: bool) {
        let Some(row) = self.tasks.get_mut(task) else { return };
        if !row.state.is_terminal() {
            row.state = state;
        }
        let row = *row;
        let ended = ended || planted(Mutant::FreesWhatRuns);
        if !(ended || row.state.is_terminal()) || !row.charged {
            return;
        }
        if let Some(row) = self.tasks.get_mut(task) {
            row.charged = false;
            row.held = Holding::EMPTY;
        }
        if let Some(executor) = row.executor.checked_sub(1)
            && let Some(executor) = self.executors.id_at(executor)
        {
            self.count_executor_task(executor, -1);
        }
        let (allocator, mut world) = self.world();
        allocator.recover_used(&mut world, row.agent, row.client, row.held);
    }

    /// Nobody owns the task any more: the agent may forget it.
    fn acknowledge_unowned(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        framework: FrameworkId,
        status: &Status<'_>,
    ) -> Result<(), Refusal> {
        if let Some(sequence) = status.uuid {
            let task = TaskOf { framework, task: status.task };
            self.order(cx, agent, AgentEvent::Acknowledge { task, sequence }, &[]);
        }
        Ok(())
    }

    /// The master acknowledges for a framework that is leaving, or that left its tasks to it.
    fn acknowledge_owned(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        framework: Id,
        task: Option<Id>,
        status: &Status<'_>,
    ) -> Result<(), Refusal> {
        let id = self.frameworks.get_ref(framework).map_or(FrameworkId::NONE, |row| row.id);
        // A scheduler that is still there hears it nevertheless.
        self.pass_on(cx, framework, &Status { uuid: None, ..*status }, &[]);
        self.acknowledge_unowned(cx, agent, id, status)?;
        if status.state.is_terminal()
            && let Some(task) = task
        {
            self.remove_task(cx, task);
        }
        Ok(())
    }

    /// ACKNOWLEDGE: passed on to the agent; the last one of a task ends it here. An unknown task
    /// or agent is no reason to keep the acknowledgement from whoever may wait for it.
    pub(super) fn acknowledge(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        task: &str,
        uuid: Uuid,
    ) -> Result<(), Refusal> {
        let agent = self.agent_by_id(uuid.agent).ok_or(Refusal::UnknownAgent)?;
        let id = self.frameworks.get_ref(framework).map_or(FrameworkId::NONE, |row| row.id);
        let named = TaskOf { framework: id, task };
        let event = AgentEvent::Acknowledge { task: named, sequence: uuid.sequence };
        if !self.order(cx, agent, event, &[]) {
            return Err(Refusal::UnknownAgent);
        }
        if let Some(task) = self.task_named(framework, task)
            && let Some(row) = self.tasks.get(task)
            && row.state.is_terminal()
            && row.forwarded == uuid.sequence
            && row.agent == agent.index
        {
            self.remove_task(cx, task);
        }
        Ok(())
    }

    /// Forgets a task. Its resources are free, whatever its state.
    pub(super) fn remove_task(&mut self, cx: &mut Cx<'_>, task: Id) {
        let Some(row) = self.tasks.get(task) else { return };
        if row.charged {
            let (allocator, mut world) = self.world();
            allocator.recover_used(&mut world, row.agent, row.client, row.held);
            if let Some(executor) = row.executor.checked_sub(1)
                && let Some(executor) = self.executors.id_at(executor)
            {
                self.count_executor_task(executor, -1);
            }
        }
        self.skip_cursors(task, &row);
        if let Some(agent) = self.agents.row_mut(row.agent) {
            agent.tasks.remove(&mut self.tasks, OF_AGENT, task);
        }
        if let Some(framework) = self.frameworks.row_mut(row.framework) {
            framework.tasks.remove(&mut self.tasks, OF_FRAMEWORK, task);
        }
        let hash = self.task_hash(row.framework, row.name);
        self.tasks_by_name.remove(&mut self.tasks, 0, hash, task);
        self.tasks.remove(task);
        self.names.release_one(row.name);
        self.drop_body(cx, row.public);
        cx.fact(Fact::TaskGone { row: task });
        if let Some(agent) = self.agents.id_at(row.agent) {
            self.check_drained(cx, agent);
        }
        if let Some(framework) = self.frameworks.id_at(row.framework) {
            self.tidy_framework(cx, framework);
        }
    }

    /// Long work that stands at a task which goes moves on to the next one.
    fn skip_cursors(&mut self, task: Id, row: &Task) {
        let place = task.index.saturating_add(1);
        let after_of =
            |list| after(&self.tasks, list, task).map_or(0, |id| id.index.saturating_add(1));
        let (of_agent, of_framework) = (after_of(OF_AGENT), after_of(OF_FRAMEWORK));
        if let Some(agent) = self.agents.row_mut(row.agent)
            && agent.cursor == place
        {
            agent.cursor = of_agent;
        }
        if let Some(framework) = self.frameworks.row_mut(row.framework)
            && framework.cursor == place
        {
            framework.cursor = of_framework;
        }
    }

    fn update_fact(
        &mut self,
        cx: &mut Cx<'_>,
        task: Id,
        latest: TaskState,
        status: &Status<'_>,
        bodies: &[BodyRef],
    ) {
        let detail = status.detail();
        let public = detail.public.of(bodies);
        let shown = [public];
        let (shown, body) =
            if public.is_none() { (&[][..], Body::NONE) } else { (&shown[..], Body::at(0)) };
        let container = self.tasks.get_ref(task).map(|row| row.container).unwrap_or_default();
        let fact = Fact::TaskState {
            row: task,
            state: status.state,
            latest,
            source: status.source,
            reason: detail.reason,
            message: detail.message,
            wall_us: status.wall_us,
            container,
            healthy: detail.healthy,
            public: body,
            uuid: status.uuid,
        };
        cx.emit_with(Output::Fact(fact), shown);
    }

    /// What was told of a task before this master knew of it.
    pub(super) fn told_fact(
        &mut self,
        cx: &mut Cx<'_>,
        task: Id,
        told: &TaskTold<'_>,
        bodies: &[BodyRef],
    ) {
        let detail = Detail {
            reason: told.reason,
            healthy: told.healthy,
            public: told.public,
            ..Detail::default()
        };
        let status = Status {
            task: told.task.task,
            state: told.state,
            source: told.source,
            agent: AgentId::NONE,
            uuid: Some(told.uuid),
            wall_us: told.wall_us,
            detail: Some(detail),
        };
        let latest = self.tasks.get_ref(task).map_or(told.state, |row| row.state);
        self.update_fact(cx, task, latest, &status, bodies);
    }

    pub(super) fn task_state_fact(
        &mut self,
        cx: &mut Cx<'_>,
        task: Id,
        state: TaskState,
        source: Source,
        reason: Option<Reason>,
        message: &str,
    ) {
        let container = self.tasks.get_ref(task).map(|row| row.container).unwrap_or_default();
        cx.fact(Fact::TaskState {
            row: task,
            state,
            latest: state,
            source,
            reason,
            message,
            wall_us: 0,
            container,
            healthy: None,
            public: Body::NONE,
            uuid: None,
        });
    }

    /// KILL. A task that is not known is answered as if it were asked about; one whose agent is
    /// away is killed when the agent is back.
    pub(super) fn kill(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        task: &TaskAt<'_>,
        grace_us: Option<u64>,
    ) -> Result<(), Refusal> {
        let Some(id) = self.task_named(framework, task.task) else {
            self.tell_unknown(cx, framework, task);
            return Err(Refusal::UnknownTask);
        };
        let row = self.tasks.get(id).ok_or(Refusal::UnknownTask)?;
        let agent = self.agents.id_at(row.agent).ok_or(Refusal::UnknownAgent)?;
        let there = self.agents.get_ref(agent).map_or(AgentId::NONE, |row| row.id);
        if !task.agent.is_none() && task.agent != there {
            return Err(Refusal::UnknownTask);
        }
        if let Some(row) = self.tasks.get_mut(id) {
            row.killed = true;
        }
        let of = self.frameworks.get_ref(framework).map_or(FrameworkId::NONE, |row| row.id);
        let task = TaskOf { framework: of, task: task.task };
        self.order(cx, agent, AgentEvent::Kill { task, grace_us }, &[]);
        Ok(())
    }

    /// RECONCILE: named tasks at once, all of them over as many ticks as it takes.
    pub(super) fn reconcile(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        tasks: &Seq<'_, TaskAt<'_>>,
    ) -> Result<(), Refusal> {
        if tasks.is_empty() {
            self.stop_reconciling(framework);
            let Some(row) = self.frameworks.get_mut(framework) else { return Ok(()) };
            row.reconciling = true;
            row.cursor = row.tasks.first(&self.tasks).map_or(0, |id| id.index.saturating_add(1));
            // Who reads too slowly for what it was told is told when it has read that.
            let now = u32::from(!row.congested);
            self.counters.chores = self.counters.chores.saturating_add(now);
            return Ok(());
        }
        for task in tasks.iter() {
            match self.task_named(framework, task.task) {
                Some(id) => self.tell_state(cx, framework, id),
                None => self.tell_unknown(cx, framework, &task),
            }
        }
        Ok(())
    }

    pub(super) fn stop_reconciling(&mut self, framework: Id) {
        if let Some(row) = self.frameworks.get_mut(framework)
            && core::mem::take(&mut row.reconciling)
        {
            let waits = u32::from(!row.congested);
            self.counters.chores = self.counters.chores.saturating_sub(waits);
        }
    }

    /// A framework's stream is half full, or has room again: what is being told goes on then.
    pub(super) fn set_congested(&mut self, framework: Id, congested: bool) {
        let Some(row) = self.frameworks.get_mut(framework) else { return };
        let before = core::mem::replace(&mut row.congested, congested);
        if !row.reconciling || before == congested {
            return;
        }
        self.counters.chores = if congested {
            self.counters.chores.saturating_sub(1)
        } else {
            self.counters.chores.saturating_add(1)
        };
    }

    /// Goes on with an implicit reconciliation. True when it is done.
    pub(super) fn reconcile_some(&mut self, cx: &mut Cx<'_>, framework: Id) -> bool {
        for _ in 0..CHORE_BATCH {
            let Some(row) = self.frameworks.get(framework) else { return true };
            let Some(task) = row.cursor.checked_sub(1).and_then(|slot| self.tasks.id_at(slot))
            else {
                if let Some(row) = self.frameworks.get_mut(framework) {
                    row.reconciling = false;
                }
                return true;
            };
            let next = after(&self.tasks, OF_FRAMEWORK, task);
            if let Some(row) = self.frameworks.get_mut(framework) {
                row.cursor = next.map_or(0, |id| id.index.saturating_add(1));
            }
            self.tell_state(cx, framework, task);
        }
        false
    }

    /// The latest state of a task, as an answer.
    fn tell_state(&mut self, cx: &mut Cx<'_>, framework: Id, task: Id) {
        let Some(row) = self.tasks.get(task) else { return };
        let message = "Reconciliation: Latest task state";
        self.tell_task(cx, framework, task, row.state, Reason::Reconciliation, message);
    }

    /// What is to be thought of a task that is not here (Mesos: `Master::reconcile`): nothing yet,
    /// while an agent that may have it has not come back; else by what its agent is.
    fn tell_unknown(&mut self, cx: &mut Cx<'_>, framework: Id, task: &TaskAt<'_>) {
        let agent = self.agent_by_id(task.agent).and_then(|id| self.agents.get(id));
        let (state, unreachable) = match agent.map(|agent| agent.state) {
            Some(AgentState::Recovered | AgentState::Registering | AgentState::Settling) => return,
            // Given up, which is not told everybody yet, and which the registry may not have (Mesos: an
            // agent in transition).
            Some(AgentState::Losing) => return,
            Some(AgentState::Gone) if agent.is_some_and(|agent| agent.marks > 0) => return,
            // It came, and went again before it had told all that it has.
            Some(AgentState::Away) if agent.is_some_and(|agent| agent.reported < agent.reports) => {
                return;
            }
            Some(AgentState::Confirming | AgentState::Active | AgentState::Away) => {
                (TaskState::Gone, false)
            }
            Some(AgentState::Unreachable) => (TaskState::Unreachable, true),
            Some(AgentState::Gone) => (TaskState::GoneByOperator, true),
            // An agent that has not come back since this master began to lead may have it.
            None if self.may_come_back(task.agent) => return,
            None => (TaskState::Unknown, false),
        };
        let aware = self
            .frameworks
            .get_ref(framework)
            .is_some_and(|row| row.capabilities & Capability::PartitionAware.bit() != 0);
        let detail = Detail {
            reason: Some(Reason::Reconciliation),
            message: match (state, unreachable) {
                (TaskState::Gone, _) => "Reconciliation: Task is unknown to the agent",
                (TaskState::GoneByOperator, _) => "Reconciliation: Task is gone",
                (_, true) => "Reconciliation: Task is unreachable",
                _ => "Reconciliation: Task is unknown",
            },
            ..Detail::default()
        };
        let status = Status {
            task: task.task,
            state: if aware { state } else { TaskState::Lost },
            source: Source::Master,
            agent: task.agent,
            uuid: None,
            wall_us: 0,
            detail: Some(detail),
        };
        self.tell(cx, framework, Event::Update { status }, &[]);
    }

    /// SHUTDOWN of one executor.
    pub(super) fn shutdown_executor(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        executor: &str,
        agent: AgentId,
    ) -> Result<(), Refusal> {
        let agent = self.agent_by_id(agent).ok_or(Refusal::UnknownAgent)?;
        let framework = self.frameworks.get_ref(framework).map_or(FrameworkId::NONE, |row| row.id);
        let event = AgentEvent::ShutdownExecutor { framework, executor };
        if self.order(cx, agent, event, &[]) { Ok(()) } else { Err(Refusal::UnknownAgent) }
    }

    /// MESSAGE from a scheduler to an executor: at most once.
    pub(super) fn message_down(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        agent: AgentId,
        executor: &str,
        data: BodyRef,
    ) -> Result<(), Refusal> {
        let agent = self.agent_by_id(agent).ok_or(Refusal::UnknownAgent)?;
        let framework = self.frameworks.get_ref(framework).map_or(FrameworkId::NONE, |row| row.id);
        let event = AgentEvent::Message { framework, executor, data: Body::at(0) };
        if self.order(cx, agent, event, &[data]) { Ok(()) } else { Err(Refusal::UnknownAgent) }
    }

    /// A message from an executor to its scheduler: at most once.
    pub(super) fn message_up(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        framework: FrameworkId,
        executor: &str,
        data: BodyRef,
    ) -> Result<(), Refusal> {
        let framework = self.framework_by_id(framework).ok_or(Refusal::UnknownFramework)?;
        let agent = self.agents.get_ref(agent).map_or(AgentId::NONE, |row| row.id);
        let event = Event::Message { agent, executor, data: Body::at(0) };
        self.tell(cx, framework, event, &[data]);
        Ok(())
    }

    /// An executor ended: what it held is free, and its scheduler hears of it.
    pub(super) fn executor_ended(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        framework: FrameworkId,
        executor: &str,
        exit: Exit,
    ) -> Result<(), Refusal> {
        let framework = self.framework_by_id(framework).ok_or(Refusal::UnknownFramework)?;
        let known =
            self.executor_named(framework, agent, executor).ok_or(Refusal::UnknownExecutor)?;
        let id = self.agents.get_ref(agent).map_or(AgentId::NONE, |row| row.id);
        let event = Event::Failure { agent: id, executor, exit };
        self.tell(cx, framework, event, &[]);
        self.remove_executor(cx, known);
        Ok(())
    }
}

/// True when nobody but the master acknowledges a framework's updates.
fn acknowledged_here(framework: &Framework) -> bool {
    let itself = framework.owned == Ownership::Master || planted(Mutant::KeepsEndsToItself);
    framework.state == FrameworkState::Leaving || itself
}
