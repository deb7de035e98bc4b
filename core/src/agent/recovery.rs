//! How an agent starts: it reads its ledger, hears what the keeper still has, and goes on.
//!
//! Records come first, in order, then containers, then [`Input::Recovered`], which is refused if a
//! record was not understood or has no room: an agent that has forgotten something would end it. What the ledger has
//! and the keeper does not is lost to the restart; what the keeper has and the ledger does not was
//! never promised to anyone, and is cleaned away.
//!
//! A file that has grown is written anew while everything goes on: each row that lives is written
//! once, new records go to the new file between them, and the older file goes when the new one is
//! whole.

use super::drain::Drain;
use super::rows::{Executor, OF_FRAMEWORK, Ordered, Stage, Task};
use super::{Agent, Cx, Hand, Input, Record, kind_of, named};
use crate::Refusal;
use crate::index::after;
use crate::limits::BODIES_PER_FRAME_MAX;
use crate::mutant::{Mutant, planted};
use crate::resources::Amount;
use crate::table::Id;
use crate::time::Time;
use crate::wire::task::{
    Executor as WireExecutor, Exit, Kind, Launch, Limit, Reason, TaskOf, TaskState,
};
use crate::wire::{Body, BodyRef, ContainerId, Scratch, Seq, Session, decode};

impl Agent<'_> {
    /// Inputs before the agent started.
    pub(super) fn recover(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<(), Refusal> {
        match input {
            Input::Describe(register) => self.describe(cx, &register),
            Input::Record { record, bodies } => {
                if let Err(refusal) = self.read(cx, record, &bodies) {
                    // Without it the rest would be taken for all there is: see below.
                    self.counters.unread = self.counters.unread.or(Some(refusal));
                }
                Ok(())
            }
            Input::Container { container, ended } => {
                self.survived(cx, container, ended);
                Ok(())
            }
            Input::Recovered { boot } => {
                self.counters.unread.map_or(Ok(()), Err)?;
                self.make_again()?;
                self.begin(cx, boot);
                Ok(())
            }
            Input::Clock { synchronised } => self.clock(cx, synchronised),
            Input::Disk { full } => {
                self.disk(cx, full);
                Ok(())
            }
            Input::Opened { .. }
            | Input::Closed { .. }
            | Input::Frame { .. }
            | Input::Persisted { .. }
            | Input::Started { .. }
            | Input::Unstarted { .. }
            | Input::Ended { .. }
            | Input::KeeperGone
            | Input::Leave
            | Input::Tick
            | Input::Compact
            | Input::Checked { .. }
            | Input::Volumes { .. }
            | Input::Preempt { .. }
            | Input::Health { .. } => Err(Refusal::OutOfTurn),
        }
    }

    fn read(
        &mut self,
        cx: &mut Cx<'_>,
        record: &[u8],
        bodies: &Seq<'_, BodyRef>,
    ) -> Result<(), Refusal> {
        let record: Record<'_> = decode(record).map_err(|_| Refusal::Malformed)?;
        let mut stored = heapless::Vec::<BodyRef, BODIES_PER_FRAME_MAX>::new();
        for body in bodies.iter() {
            stored.push(body).map_err(|_| Refusal::Malformed)?;
        }
        self.replay(cx, &record, &stored)
    }

    /// Applies one record. What it is about may be unknown: then it was forgotten later.
    fn replay(
        &mut self,
        cx: &mut Cx<'_>,
        record: &Record<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        match record {
            Record::Started { incarnation, boot } => {
                self.counters.incarnation = self.counters.incarnation.max(*incarnation);
                self.replay_boot(cx, *boot);
            }
            Record::Outlived => self.counters.unread = Some(Refusal::LedgerOutlived),
            Record::Admitted { cluster, agent } => (self.cluster, self.agent) = (*cluster, *agent),
            Record::Fence(fence) => self.fence = *fence,
            Record::Framework(held) => {
                let known = self.framework_by_id(held.framework);
                self.check_framework(known, held)?;
                match known {
                    Some(known) => self.set_framework(known, held),
                    None => {
                        self.add_framework(cx, held)?;
                    }
                }
            }
            Record::Described { framework, public } => {
                if let Some(id) = self.framework_by_id(*framework) {
                    self.set_public(cx, id, public.of(bodies));
                }
            }
            Record::FrameworkGone { framework } => {
                if let Some(id) = self.framework_by_id(*framework) {
                    self.forget_all_of(cx, id);
                }
            }
            Record::Executor { framework, role, user, container, executor } => {
                let Some(id) = self.framework_by_id(*framework) else { return Ok(()) };
                if self.executor_named(id, executor.id).is_none() {
                    self.pool.admit(&self.names, &executor.resources)?;
                    let body = executor.body.of(bodies);
                    self.add_executor(cx, id, role, user, *container, executor, body);
                }
            }
            Record::ExecutorGone { framework, executor } => {
                let known = self.framework_by_id(*framework);
                let known = known.and_then(|id| self.executor_named(id, executor));
                if let Some(id) = known {
                    self.forget_executor(cx, id);
                }
            }
            Record::Task { framework, role, user, container, launch } => {
                self.replay_task(cx, *framework, role, user, *container, launch, bodies)?;
            }
            Record::Attempt { task, attempt, container } => {
                // A file that was being written anew names again what was read before.
                let again = planted(Mutant::BeginsWhatHadEnded);
                let begins =
                    |row: &&mut Task| *attempt > row.attempt && !row.state.is_terminal() || again;
                let row = self.task_of(task).and_then(|id| self.tasks.get_mut(id));
                if let Some(row) = row.filter(begins) {
                    (row.attempt, row.container) = (*attempt, *container);
                    (row.ordered, row.since) = (Ordered::No, Time(0));
                    row.state = TaskState::Starting;
                }
            }
            Record::Kill { task } => {
                if let Some(row) = self.task_of(task).and_then(|id| self.tasks.get_mut(id)) {
                    row.ordered = Ordered::Kill;
                }
            }
            Record::Unhealthy { task } => {
                if let Some(row) = self.task_of(task).and_then(|id| self.tasks.get_mut(id)) {
                    row.ordered = Ordered::Unhealthy;
                }
            }
            Record::Update { framework, sequence, status, uuid } => {
                self.restore_update(cx, *framework, *sequence, status, *uuid, bodies);
            }
            Record::Said { framework, status, uuid } => {
                self.restore_told(cx, *framework, status, *uuid, bodies);
            }
            Record::Acknowledged { task, .. } | Record::Forgotten { task } => {
                if let Some(id) = self.task_of(task) {
                    self.forget_task(cx, id);
                }
            }
            Record::Told { task, state } => {
                // An end is what its own record says, which is to be told.
                let lives = |row: &&mut Task| row.state.is_live() && state.is_live();
                let row = self.task_of(task).and_then(|id| self.tasks.get_mut(id));
                if let Some(row) = row.filter(lives) {
                    (row.state, row.stage) = (*state, Stage::Running);
                }
            }
            Record::Began { task, boot_us } => {
                if let Some(row) = self.task_of(task).and_then(|id| self.tasks.get_mut(id)) {
                    row.since = Time(*boot_us);
                }
            }
            Record::Draining { grace_us, gone } => {
                self.drain = Drain { on: true, grace_us: *grace_us, gone: *gone };
            }
            Record::Reactivated => self.drain = Drain::default(),
            Record::Resources { resources } => self.replay_made(resources)?,
            Record::Operated { framework, sequence, status, resources } => {
                self.replay_made(resources)?;
                self.replay_operation(*framework, *sequence, status)?;
            }
            Record::Operation { framework, sequence, status } => {
                self.replay_operation(*framework, *sequence, status)?;
            }
            Record::OperationAcknowledged { framework, operation, .. } => {
                self.replay_acknowledged(*framework, operation);
            }
            Record::Stamp { boot, boot_us, wall_us, synchronised } => {
                self.replay_stamp(*boot, *boot_us, *wall_us, *synchronised);
            }
            Record::Rebooted { reboots, since } => self.replay_reboots(*reboots, *since),
            // What it followed is what counts; nothing makes limits yet.
            Record::Settled { .. }
            | Record::SnapshotBegins
            | Record::SnapshotEnds
            | Record::Limits { .. } => {}
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn replay_task(
        &mut self,
        cx: &mut Cx<'_>,
        framework: crate::wire::FrameworkId,
        role: &str,
        user: &str,
        container: ContainerId,
        launch: &Launch<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        let Some(id) = self.framework_by_id(framework) else { return Ok(()) };
        if self.task_of(&TaskOf { framework, task: launch.task }).is_some() {
            return Ok(());
        }
        if self.tasks.room() == 0 {
            return Err(Refusal::TasksFull);
        }
        self.pool.admit(&self.names, &launch.resources)?;
        let executor = match launch.executor {
            Some(executor) => self.executor_named(id, executor.id),
            None => self.executors.find(|row| row.container == container).map(|(id, _)| id),
        };
        if let Kind::Group { .. } = launch.kind
            && let Some(row) = executor.and_then(|executor| self.executors.get_mut(executor))
        {
            (row.builtin, row.stage) = (true, Stage::Running);
        }
        let with = [launch.public.of(bodies), launch.private.of(bodies)];
        self.add_task(cx, id, executor, role, user, container, launch, with);
        Ok(())
    }

    fn forget_all_of(&mut self, cx: &mut Cx<'_>, framework: Id) {
        let mut next =
            self.frameworks.get_ref(framework).and_then(|row| row.tasks.first(&self.tasks));
        while let Some(task) = next {
            next = after(&self.tasks, OF_FRAMEWORK, task);
            self.forget_task(cx, task);
        }
        let mut next =
            self.frameworks.get_ref(framework).and_then(|row| row.executors.first(&self.executors));
        while let Some(executor) = next {
            next = after(&self.executors, OF_FRAMEWORK, executor);
            self.forget_executor(cx, executor);
        }
        self.tidy_framework(cx, framework.index);
    }

    /// The keeper still has a container: it runs, or it knows how it ended. The stage says so
    /// until everything was heard: `Starting` = it runs, `Ending` with an exit = it ended.
    ///
    /// One of a start that the ledger does not know shows that the ledger is older than what runs.
    fn survived(&mut self, cx: &mut Cx<'_>, container: ContainerId, ended: Option<Exit>) {
        let later = container.incarnation > self.counters.incarnation;
        if later && !self.agent.is_none() {
            self.counters.unread = self.counters.unread.or(Some(Refusal::LedgerOutlived));
        }
        if let Some((id, _)) = self.executors.find(|row| row.container == container) {
            if ended.is_none()
                && let Some(row) = self.executors.get_mut(id)
            {
                row.stage = Stage::Running;
            }
            return;
        }
        let Some((id, row)) = self.command_in(container) else { return };
        if row.state.is_terminal() {
            return;
        }
        let Some(row) = self.tasks.get_mut(id) else { return };
        match ended {
            None => row.stage = Stage::Running,
            Some(exit) => {
                row.stage = Stage::Ending;
                // Kept in the row until the agent speaks: a task that ended is not limited.
                let [kind, value] = exit.to_bytes();
                row.record = u64::from(kind) << 8 | u64::from(value);
            }
        }
        let _ = cx;
    }

    /// Everything was heard: the agent starts. What it says waits for its own record.
    fn begin(&mut self, cx: &mut Cx<'_>, boot: [u8; 16]) {
        self.counters.recovered = true;
        self.counters.incarnation = self.counters.incarnation.saturating_add(1);
        (self.counters.update, self.counters.container) = (0, 0);
        self.replay_boot(cx, boot);
        let incarnation = self.counters.incarnation;
        // What starts without a master starts in this session.
        self.link.session = Session { incarnation, counter: 0 };
        self.counters.start_record =
            self.persist(cx, Record::Started { incarnation, boot }, true, &[]);
        self.count_free();
        self.show_resources(cx);
        self.tidy_volumes(cx);
        self.keep_containers(cx);
        for slot in 0..self.executors.high_water() {
            let Some((id, row)) = self.executors.at(slot) else { continue };
            if row.stage != Stage::Running {
                let reason = Some(Reason::AgentRestarted);
                self.executor_ended(cx, id, Exit::Unseen, reason, NOT_SURVIVED);
            } else if !row.builtin {
                if let Some(row) = self.executors.get_mut(id) {
                    row.recovered = true;
                }
                self.expect_executor(cx, id);
            }
            self.tidy_builtin(cx, id);
        }
        for slot in 0..self.tasks.high_water() {
            let Some((id, row)) = self.tasks.at(slot) else { continue };
            self.resume_task(cx, id, &row);
        }
        self.drain_again(cx);
        let (agent, cluster, fence) = (self.agent, self.cluster, self.fence);
        if !agent.is_none() {
            cx.emit(super::Output::Identity { agent, cluster, fence });
        }
    }

    fn resume_task(&mut self, cx: &mut Cx<'_>, id: Id, row: &Task) {
        if row.state.is_terminal() {
            return;
        }
        match row.stage {
            // Its executor told so, and says itself what comes of it.
            Stage::Running if row.runner().is_some() => {}
            Stage::Running => {
                if matches!(row.state, TaskState::Staging | TaskState::Starting) {
                    self.tell(cx, id, TaskState::Running, None, "");
                }
                self.bound_completion(cx, id);
                if matches!(row.ordered, Ordered::Kill | Ordered::Unhealthy) {
                    if let Some(row) = self.tasks.get_mut(id) {
                        row.stage = Stage::Ending;
                    }
                    self.signal_end(cx, id);
                }
            }
            Stage::Ending => {
                let [.., kind, value] = row.record.to_be_bytes();
                let exit = Exit::from_bytes([kind, value]);
                let _ = self.ended(cx, row.container, exit, None, "");
            }
            Stage::Recording | Stage::Starting | Stage::Ended | Stage::Waiting => {
                match row.runner() {
                    // Its executor lives: it says that it has the task, or gets it.
                    Some(_) => {
                        if let Some(row) = self.tasks.get_mut(id) {
                            row.stage = Stage::Starting;
                        }
                    }
                    None if self.comes_back(cx, id, NOT_SURVIVED) => {}
                    None => {
                        self.lose_task(cx, id, row, Reason::AgentRestarted, NOT_SURVIVED);
                        self.end_rest_of_group(cx, row);
                    }
                }
            }
        }
    }

    /// Names the containers that survived; whatever else is of this agent is cleaned away.
    fn keep_containers(&mut self, cx: &mut Cx<'_>) {
        self.with_scratch(|agent, outer, _| {
            let mut scratch = Scratch::new(outer);
            let mut list = scratch.list::<ContainerId>();
            let survived = |stage: Stage| matches!(stage, Stage::Running | Stage::Ending);
            for (_, row) in agent.executors.iter().filter(|(_, row)| survived(row.stage)) {
                let _ = list.push(&row.container);
            }
            let commands = agent.tasks.iter().filter(|(_, row)| row.runner().is_none());
            for (_, row) in commands.filter(|(_, row)| survived(row.stage)) {
                let _ = list.push(&row.container);
            }
            cx.hand(Hand::Keep { containers: list.end() });
        });
    }

    /// Begins to write the file anew.
    pub(super) fn compact(&mut self, cx: &mut Cx<'_>) {
        if self.counters.snapshotting {
            return;
        }
        self.counters.snapshotting = true;
        self.counters.snapshot = 0;
        self.persist(cx, Record::SnapshotBegins, false, &[]);
        let (incarnation, boot) = (self.counters.incarnation, self.boot);
        self.persist(cx, Record::Started { incarnation, boot }, false, &[]);
        if !self.agent.is_none() {
            let (cluster, agent) = (self.cluster, self.agent);
            self.persist(cx, Record::Admitted { cluster, agent }, false, &[]);
        }
        self.persist(cx, Record::Fence(self.fence), false, &[]);
        self.snapshot_drain(cx);
        self.snapshot_stamp(cx);
        self.snapshot_made(cx);
    }

    /// Goes on with it: frameworks, then executors, then tasks with their ends, then operations.
    pub(super) fn snapshot_some(&mut self, cx: &mut Cx<'_>) {
        if !self.counters.snapshotting {
            return;
        }
        while cx.has_room() {
            let at = self.counters.snapshot;
            self.counters.snapshot = at.saturating_add(1);
            let frameworks = self.frameworks.high_water();
            let executors = frameworks.saturating_add(self.executors.high_water());
            let early = planted(Mutant::EndsItsLedgerEarly);
            let held = if early { 0 } else { self.tasks.high_water() };
            let tasks = executors.saturating_add(held);
            let operations = tasks.saturating_add(self.operations.high_water());
            if at < frameworks {
                self.snapshot_framework(cx, at);
            } else if at < executors {
                self.snapshot_executor(cx, at.saturating_sub(frameworks));
            } else if at < tasks {
                self.snapshot_task(cx, at.saturating_sub(executors));
            } else if at < operations {
                self.snapshot_operation(cx, at.saturating_sub(tasks));
            } else {
                self.counters.snapshotting = false;
                self.persist(cx, Record::SnapshotEnds, true, &[]);
                return;
            }
        }
    }

    fn snapshot_framework(&mut self, cx: &mut Cx<'_>, slot: u32) {
        let Some((_, row)) = self.frameworks.at(slot) else { return };
        self.counters.record = self.counters.record.saturating_add(1);
        let sequence = self.counters.record;
        self.with_scratch(|agent, outer, _| {
            agent.with_framework(&row, outer, |held| {
                let record = Record::Framework(*held);
                cx.emit(super::Output::Persist { sequence, sync: false, record });
            });
        });
        if !row.public.is_none() {
            self.record_public(cx, row.id, row.public);
        }
    }

    fn snapshot_executor(&mut self, cx: &mut Cx<'_>, slot: u32) {
        let Some((_, row)) = self.executors.at(slot) else { return };
        let Executor { body, container, grace_us, .. } = row;
        let [id, role, user] = [row.name, row.role, row.user].map(|name| self.text(name));
        let framework = self.framework_id(row.framework);
        self.with_scratch(|agent, outer, inner| {
            let mut outer = Scratch::new(outer);
            let resources = agent.pool.write(&agent.names, row.held, "", &mut outer, inner);
            let executor = WireExecutor {
                id: &id,
                resources: resources.unwrap_or_default(),
                user: "",
                grace_us: (grace_us > 0).then_some(grace_us),
                body: named(body, 0),
            };
            let (role, user) = (role.as_str(), user.as_str());
            let record = Record::Executor { framework, role, user, container, executor };
            let bodies = [body];
            let present = if body.is_none() { &[][..] } else { &bodies };
            agent.persist(cx, record, false, present);
        });
    }

    fn snapshot_task(&mut self, cx: &mut Cx<'_>, slot: u32) {
        let Some((_, row)) = self.tasks.at(slot) else { return };
        self.snapshot_launch(cx, &row);
        self.with_task_of(&row, |agent, task| {
            if row.attempt > 0 {
                let (attempt, container) = (row.attempt, row.container);
                agent.persist(cx, Record::Attempt { task, attempt, container }, false, &[]);
            }
            if row.runner().is_some() && row.state.is_live() && row.state != TaskState::Staging {
                let state = row.state;
                agent.persist(cx, Record::Told { task, state }, false, &[]);
            }
            if row.began_counts() && row.since > Time(0) {
                let boot_us = row.since.0;
                agent.persist(cx, Record::Began { task, boot_us }, false, &[]);
            }
            if row.ordered == Ordered::Unhealthy {
                agent.persist(cx, Record::Unhealthy { task }, false, &[]);
            }
            if row.ordered == Ordered::Kill {
                agent.persist(cx, Record::Kill { task }, false, &[]);
            }
        });
        self.record_told(cx, &row);
        let mut next = row.updates.first(&self.updates);
        while let Some(id) = next {
            next = after(&self.updates, super::rows::OF_TASK, id);
            let Some(update) = self.updates.get(id) else { continue };
            let framework = self.framework_id(row.framework);
            let (uuid, sequence) = (update.uuid, update.sequence);
            let bodies = super::updates::present(&update);
            self.with_status(&row, &update, |agent, status| {
                let record = Record::Update { framework, sequence, status: *status, uuid };
                agent.persist(cx, record, false, &bodies);
            });
        }
    }

    fn snapshot_launch(&mut self, cx: &mut Cx<'_>, row: &Task) {
        let [name, role, user] = [row.name, row.role, row.user].map(|name| self.text(name));
        let framework = self.framework_id(row.framework);
        let (row, agent_id) = (*row, self.agent);
        let around = row.executor.checked_sub(1).and_then(|slot| self.executors.row(slot));
        let around = around
            .filter(|_| row.group != 0 && !row.is_given())
            .map(|executor| self.text(executor.name));
        let around = around.as_ref().map(|id| WireExecutor {
            id,
            resources: Seq::EMPTY,
            user: "",
            grace_us: None,
            body: Body::NONE,
        });
        self.with_scratch(|agent, outer, inner| {
            let mut outer = Scratch::new(outer);
            let resources = agent.pool.write(&agent.names, row.held, "", &mut outer, inner);
            let mut memory = [0u8; 64];
            let mut limits = Scratch::new(&mut memory);
            let mut limits = limits.list::<Limit<'static>>();
            for (name, milli) in ["cpus", "mem"].into_iter().zip(row.limits) {
                let amount = (milli != u64::MAX).then(|| Amount::from_milli(milli));
                if milli > 0 {
                    let _ = limits.push(&Limit { name, amount });
                }
            }
            let launch = Launch {
                task: &name,
                agent: agent_id,
                kind: kind_of(&row),
                resources: resources.unwrap_or_default(),
                limits: limits.end(),
                executor: around,
                user: &user,
                grace_us: Some(row.grace_us),
                completion_us: (row.completion_us > 0).then_some(row.completion_us),
                restart: row.restart,
                public: named(row.public, 0),
                private: named(row.private, u16::from(!row.public.is_none())),
            };
            let (role, user) = (role.as_str(), user.as_str());
            let container = row.container;
            let record = Record::Task { framework, role, user, container, launch };
            let with: heapless::Vec<BodyRef, 2> =
                [row.public, row.private].into_iter().filter(|body| !body.is_none()).collect();
            agent.persist(cx, record, false, &with);
        });
    }

    /// Builds every index anew, after an import.
    pub(super) fn index_again(&mut self) {
        self.frameworks_by_id.clear();
        self.executors_by_name.clear();
        self.tasks_by_name.clear();
        for slot in 0..self.frameworks.high_water() {
            if let Some((id, row)) = self.frameworks.at(slot) {
                let hash = self.frameworks_by_id.hash(row.id.epoch.into(), row.id.number.into());
                self.frameworks_by_id.insert(&mut self.frameworks, 0, hash, id);
            }
        }
        for slot in 0..self.executors.high_water() {
            if let Some((id, row)) = self.executors.at(slot) {
                let index = &mut self.executors_by_name;
                let hash = index.hash(row.framework.into(), row.name.place().into());
                index.insert(&mut self.executors, 0, hash, id);
            }
        }
        for slot in 0..self.tasks.high_water() {
            if let Some((id, row)) = self.tasks.at(slot) {
                let hash = self.tasks_by_name.hash(row.framework.into(), row.name.place().into());
                self.tasks_by_name.insert(&mut self.tasks, 0, hash, id);
            }
        }
    }
}

const NOT_SURVIVED: &str = "The task did not survive the restart of its agent";
