//! What is accepted, and how it starts: recorded first, then asked for, then told.
//!
//! A launch that cannot be taken is answered, never lost: its task is told dropped. Each accepted
//! task has the slot of its last update set aside, so that its end can always be told.

use super::groups::Group;
use super::rows::{Executor, Framework, GIVEN, OF_EXECUTOR, OF_FRAMEWORK, Stage, Task};
use super::{Agent, Cx, Hand, HandLaunch, KILL_GRACE_US, Record, named};
use crate::Refusal;
use crate::doors;
use crate::mutant::{Mutant, planted};
use crate::names::Name;
use crate::resources::Holding;
use crate::table::Id;
use crate::wire::agent::{AgentCall, FrameworkHeld};
use crate::wire::call::Capability;
use crate::wire::resource::Resource;
use crate::wire::task::{
    Detail, Executor as WireExecutor, Exit, Kind, Launch, Reason, RestartRule, Source, Status,
    TaskOf, TaskState,
};
use crate::wire::{BodyRef, ContainerId, Head, Scratch, Seq};

/// Whose a task is that is taken in, and where it goes.
#[derive(Clone, Copy)]
pub(super) struct Taken<'t, 'w> {
    pub(super) framework: Id,
    pub(super) held: &'t FrameworkHeld<'w>,
    pub(super) role: &'t str,
    pub(super) user: &'t str,
    pub(super) container: ContainerId,
    pub(super) executor: Option<Id>,
}

/// A task that was checked, as it is written down, and the bodies of the frame it came in.
#[derive(Clone, Copy)]
pub(super) struct Accepted<'t> {
    pub(super) launch: Launch<'t>,
    pub(super) bodies: &'t [BodyRef],
}

impl Agent<'_> {
    /// Takes launches of one framework, each by itself. O(tasks · resources).
    pub(super) fn launch(
        &mut self,
        cx: &mut Cx<'_>,
        held: &FrameworkHeld<'_>,
        role: &str,
        tasks: &Seq<'_, Launch<'_>>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        let known = self.framework_by_id(held.framework);
        let checked = self.check_framework(known, held);
        let framework = match (known, checked) {
            (Some(known), _) => known,
            (None, Ok(())) => self.add_framework(cx, held)?,
            (None, Err(refusal)) => {
                for task in tasks.iter() {
                    self.drop_launch(cx, held, &task, refusal);
                }
                return Err(refusal);
            }
        };
        let mut place = 0usize;
        while let Some(task) = tasks.iter().nth(place) {
            if let Some(group) = Group::at(held, role, tasks, place, bodies) {
                self.launch_group(cx, framework, &group);
                place = place.saturating_add(group.count);
                continue;
            }
            place = place.saturating_add(1);
            match self.check_launch(framework, held, role, &task) {
                Ok(()) => self.accept(cx, framework, held, role, &task, bodies),
                // The task it names lives here already; nothing may be said of that one.
                Err(Refusal::Exists) => {}
                Err(refusal) => self.drop_launch(cx, held, &task, refusal),
            }
        }
        self.tidy_framework(cx, framework.index);
        Ok(())
    }

    pub(super) fn add_framework(
        &mut self,
        cx: &mut Cx<'_>,
        held: &FrameworkHeld<'_>,
    ) -> Result<Id, Refusal> {
        let row = Framework { id: held.framework, ..bytemuck::Zeroable::zeroed() };
        let id = self.frameworks.insert(row).map_err(|_| Refusal::FrameworksFull)?;
        let hash = self.frameworks_by_id.hash(row.id.epoch.into(), row.id.number.into());
        self.frameworks_by_id.insert(&mut self.frameworks, 0, hash, id);
        self.set_framework(id, held);
        if self.counters.recovered {
            self.persist(cx, Record::Framework(*held), false, &[]);
        }
        Ok(id)
    }

    /// Everything that can keep a launch from being accepted here.
    fn check_launch(
        &self,
        framework: Id,
        held: &FrameworkHeld<'_>,
        role: &str,
        task: &Launch<'_>,
    ) -> Result<(), Refusal> {
        self.check_new(held, task)?;
        let executor = task.executor;
        let of_executor = executor.map_or("", |executor| executor.user);
        self.check_taker(framework, held, task, of_executor)?;
        let user = doors::user(task.user, of_executor, held.user, held.caller);
        let new = executor.filter(|executor| self.executor_named(framework, executor.id).is_none());
        self.check_rooms(1, new.is_some())?;
        let texts = [task.task, role, user].into_iter().chain(new.map(|executor| executor.id));
        if !self.names.has_room_for(texts) {
            return Err(Refusal::NamesFull);
        }
        self.check_resources(task, new.as_ref())
    }

    /// A task of this name does not live here yet.
    pub(super) fn check_new(
        &self,
        held: &FrameworkHeld<'_>,
        task: &Launch<'_>,
    ) -> Result<(), Refusal> {
        let named = TaskOf { framework: held.framework, task: task.task };
        if self.task_of(&named).is_some() { Err(Refusal::Exists) } else { Ok(()) }
    }

    /// Whether this agent takes such a task, now, and for such a user.
    pub(super) fn check_taker(
        &self,
        framework: Id,
        held: &FrameworkHeld<'_>,
        task: &Launch<'_>,
        of_executor: &str,
    ) -> Result<(), Refusal> {
        let leaving = self.frameworks.get_ref(framework).is_none_or(|row| row.leaving);
        if self.counters.leaving {
            return Err(Refusal::AgentLeaving);
        }
        if leaving {
            return Err(Refusal::FrameworkRemoved);
        }
        if self.drain.on {
            return Err(Refusal::Draining);
        }
        // Before anything is made for it: what is left of the room is for those that run.
        if self.counters.disk_full {
            return Err(Refusal::DiskFull);
        }
        task.check_restart().map_err(|_| Refusal::KindUnsupported)?;
        let stop_us = task.restart.stop_after_us;
        if stop_us > 0 && stop_us < self.link.timeout_us {
            return Err(Refusal::TooShort);
        }
        if self.config.task_kinds & task.kind.bit() == 0 {
            return Err(Refusal::KindUnsupported);
        }
        let user = doors::user(task.user, of_executor, held.user, held.caller);
        if self.config.switch_user && user.is_empty() {
            return Err(Refusal::UserDenied);
        }
        Ok(())
    }

    /// Room for so many tasks, and for a new executor.
    pub(super) fn check_rooms(&self, tasks: usize, executor: bool) -> Result<(), Refusal> {
        let tasks = u32::try_from(tasks).unwrap_or(u32::MAX);
        if self.tasks.room() < tasks {
            return Err(Refusal::TasksFull);
        }
        if executor && self.executors.room() == 0 {
            return Err(Refusal::ExecutorsFull);
        }
        // One update for the end of each, and one more for everything before it.
        let updates = tasks.saturating_mul(2).saturating_add(self.updates_reserved());
        if self.updates.room() < updates {
            return Err(Refusal::UpdatesFull);
        }
        if self.counters.body_bytes > self.config.body_bytes_max {
            return Err(Refusal::BodiesFull);
        }
        Ok(())
    }

    fn check_resources(
        &self,
        task: &Launch<'_>,
        executor: Option<&WireExecutor<'_>>,
    ) -> Result<(), Refusal> {
        self.pool.admit(&self.names, &task.resources)?;
        let mut memory = [0u8; 4096];
        let mut all = Scratch::new(&mut memory);
        let mut all = all.list::<Resource<'static>>();
        let of_executor = executor.map_or(Seq::EMPTY, |executor| executor.resources);
        self.pool.admit(&self.names, &of_executor)?;
        for resource in task.resources.iter().chain(of_executor.iter()) {
            all.push(&resource).map_err(|_| Refusal::ResourcesFull)?;
        }
        self.check_fits(&all.end())
    }

    /// Room for these resources, and enough of them free.
    pub(super) fn check_fits(&self, all: &Seq<'_, Resource<'_>>) -> Result<(), Refusal> {
        if all.len().saturating_mul(4) > self.pool.room() {
            return Err(Refusal::ResourcesFull);
        }
        if self.pool.contains_wire(&self.names, self.free, all) {
            Ok(())
        } else {
            Err(Refusal::AmountOutOfRange)
        }
    }

    /// Updates that are set aside for the ends of tasks.
    pub(super) fn updates_reserved(&self) -> u32 {
        let live = self.tasks.iter().filter(|(_, task)| !task.state.is_terminal());
        u32::try_from(live.count()).unwrap_or(u32::MAX)
    }

    fn accept(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        held: &FrameworkHeld<'_>,
        role: &str,
        task: &Launch<'_>,
        bodies: &[BodyRef],
    ) {
        let executor = task.executor.map(|executor| {
            self.executor_named(framework, executor.id).or_else(|| {
                self.accept_executor(cx, framework, held, role, &executor, bodies, false)
            })
        });
        let executor = executor.flatten();
        let of_executor = task.executor.map_or("", |executor| executor.user);
        let user = doors::user(task.user, of_executor, held.user, held.caller);
        let container = match executor.and_then(|id| self.executors.get_ref(id)) {
            Some(executor) => executor.container,
            None => self.next_container(),
        };
        let kind = if executor.is_some() { Kind::Executor } else { task.kind };
        let launch = Launch { kind, executor: None, ..*task };
        let taken = Taken { framework, held, role, user, container, executor };
        self.take_in(cx, &taken, &Accepted { launch, bodies });
    }

    /// Takes a task in that was checked, and writes it down.
    pub(super) fn take_in(&mut self, cx: &mut Cx<'_>, of: &Taken<'_, '_>, task: &Accepted<'_>) {
        let Accepted { launch, bodies } = *task;
        let with = [launch.public.of(bodies), launch.private.of(bodies)];
        let Taken { framework, held, role, user, container, executor } = *of;
        let added = self.add_task(cx, framework, executor, role, user, container, &launch, with);
        let Some(id) = added else { return };
        let present: heapless::Vec<BodyRef, 2> =
            with.into_iter().filter(|body| !body.is_none()).collect();
        let public = named(with[0], 0);
        let private = named(with[1], u16::from(!with[0].is_none()));
        let launch = Launch { public, private, ..launch };
        let framework = held.framework;
        let record = Record::Task { framework, role, user, container, launch };
        // A task that is to survive a reboot is on disk before it starts.
        let sync = launch.restart.rule != RestartRule::Never;
        let record = self.persist(cx, record, sync, &present);
        if let Some(row) = self.tasks.get_mut(id) {
            row.record = record;
        }
        if sync {
            self.begin_stamps(cx);
        }
    }

    /// Puts a task that was checked into every table, list and index.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn add_task(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        executor: Option<Id>,
        role: &str,
        user: &str,
        container: ContainerId,
        task: &Launch<'_>,
        bodies: [BodyRef; 2],
    ) -> Option<Id> {
        let held = self.pool.take(&mut self.names, &task.resources);
        let mut free = self.free;
        let taken = self.pool.subtract(&mut self.names, &mut free, held);
        self.free = free;
        // What a ledger brings back may no longer fit what the agent has.
        invariant!(
            taken.is_ok() || !self.counters.recovered,
            "a launch that was checked does not fit"
        );
        let mut intern = |text: &str| self.names.intern(text).unwrap_or(Name::EMPTY);
        let (name, role, user) = (intern(task.task), intern(role), intern(user));
        let [public, private] = bodies.map(|body| self.keep_body(cx, body));
        let row = Task {
            name,
            framework: framework.index,
            executor: executor.map_or(0, |id| id.index.saturating_add(1)),
            group: match task.kind {
                Kind::Group { group } => u32::from(group).saturating_add(1),
                Kind::Given { group } => u32::from(group).saturating_add(1) | GIVEN,
                Kind::Command | Kind::Executor | Kind::Container | Kind::Function { .. } => 0,
            },
            role,
            user,
            container,
            state: TaskState::Staging,
            held,
            limits: limits_of(task),
            grace_us: task.grace_us.unwrap_or(KILL_GRACE_US),
            completion_us: task.completion_us.unwrap_or(0),
            restart: task.restart,
            public,
            private,
            ..bytemuck::Zeroable::zeroed()
        };
        let id = self.tasks.insert(row).ok()?;
        let hash = self.tasks_by_name.hash(framework.index.into(), name.place().into());
        self.tasks_by_name.insert(&mut self.tasks, 0, hash, id);
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.tasks.push(&mut self.tasks, OF_FRAMEWORK, id);
        }
        if let Some(row) = executor.and_then(|executor| self.executors.get_mut(executor)) {
            row.tasks.push(&mut self.tasks, OF_EXECUTOR, id);
        }
        Some(id)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn accept_executor(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        held: &FrameworkHeld<'_>,
        role: &str,
        executor: &WireExecutor<'_>,
        bodies: &[BodyRef],
        builtin: bool,
    ) -> Option<Id> {
        let user = doors::user("", executor.user, held.user, held.caller);
        let container = self.next_container();
        let body = executor.body.of(bodies);
        let id = self.add_executor(cx, framework, role, user, container, executor, body)?;
        let record = Record::Executor {
            framework: held.framework,
            role,
            user,
            container,
            executor: WireExecutor { body: named(body, 0), ..*executor },
        };
        let bodies = [body];
        let present = if body.is_none() { &[][..] } else { &bodies };
        let record = self.persist(cx, record, false, present);
        if let Some(row) = self.executors.get_mut(id) {
            (row.record, row.builtin) = (record, builtin);
        }
        Some(id)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn add_executor(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        role: &str,
        user: &str,
        container: ContainerId,
        executor: &WireExecutor<'_>,
        body: BodyRef,
    ) -> Option<Id> {
        let held = self.pool.take(&mut self.names, &executor.resources);
        let mut free = self.free;
        let taken = self.pool.subtract(&mut self.names, &mut free, held);
        self.free = free;
        invariant!(
            taken.is_ok() || !self.counters.recovered,
            "an executor that was checked does not fit"
        );
        let mut intern = |text: &str| self.names.intern(text).unwrap_or(Name::EMPTY);
        let (name, role, user) = (intern(executor.id), intern(role), intern(user));
        let body = self.keep_body(cx, body);
        let row = Executor {
            name,
            framework: framework.index,
            role,
            user,
            container,
            held,
            grace_us: executor.grace_us.unwrap_or(0),
            body,
            ..bytemuck::Zeroable::zeroed()
        };
        let id = self.executors.insert(row).ok()?;
        let hash = self.executors_by_name.hash(framework.index.into(), name.place().into());
        self.executors_by_name.insert(&mut self.executors, 0, hash, id);
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.executors.push(&mut self.executors, OF_FRAMEWORK, id);
        }
        Some(id)
    }

    pub(super) fn next_container(&mut self) -> ContainerId {
        self.counters.container = self.counters.container.saturating_add(1);
        ContainerId { incarnation: self.counters.incarnation, counter: self.counters.container }
    }

    /// Starts what waited for its record. O(tasks + executors that wait), by their tables.
    pub(super) fn start_recorded(&mut self, cx: &mut Cx<'_>) {
        let written = self.counters.persisted;
        let waits = |stage: Stage, record: u64| stage == Stage::Recording && record <= written;
        while let Some((id, row)) = self.executors.find(|row| waits(row.stage, row.record)) {
            if !cx.has_room() {
                return;
            }
            self.start_executor(cx, id, &row);
        }
        while let Some((id, row)) = self.tasks.find(|row| waits(row.stage, row.record)) {
            if !cx.has_room() {
                return;
            }
            self.start_task(cx, id, &row);
        }
    }

    fn start_task(&mut self, cx: &mut Cx<'_>, id: Id, row: &Task) {
        if let Some(row) = self.tasks.get_mut(id) {
            let again = planted(Mutant::StartsAgain) && row.stage == Stage::Recording;
            row.stage = if again { Stage::Recording } else { Stage::Starting };
            row.record = if again { row.record.saturating_add(1) } else { row.record };
        }
        if let Some(executor) = row.runner() {
            match self.executors.id_at(executor) {
                Some(executor) if row.is_given() => self.hand_group(cx, executor, row),
                Some(executor) => self.hand_to_executor(cx, executor, id),
                None => {}
            }
            return;
        }
        self.forget_before(cx, id);
        self.tell(cx, id, TaskState::Starting, None, "");
        let bodies = [row.private, row.public];
        let around = row.executor.checked_sub(1).and_then(|slot| self.executors.row(slot));
        let inside = around.map(|around| around.container);
        self.hand_launch(
            cx,
            row.framework,
            row.container,
            row.held,
            &bodies,
            |launch| HandLaunch {
                inside,
                attempt: row.attempt,
                limits: row.limits,
                stop_after_us: row.restart.stop_after_us,
                grace_us: row.grace_us,
                ..launch
            },
            (row.name, around.map_or(Name::EMPTY, |around| around.name), row.user),
        );
    }

    fn start_executor(&mut self, cx: &mut Cx<'_>, id: Id, row: &Executor) {
        if let Some(row) = self.executors.get_mut(id) {
            row.stage = if row.builtin { Stage::Running } else { Stage::Starting };
        }
        if row.builtin {
            return;
        }
        let bodies = [row.body, BodyRef::NONE];
        let names = (Name::EMPTY, row.name, row.user);
        self.hand_launch(
            cx,
            row.framework,
            row.container,
            row.held,
            &bodies,
            |launch| launch,
            names,
        );
    }

    #[allow(clippy::too_many_arguments)]
    fn hand_launch(
        &mut self,
        cx: &mut Cx<'_>,
        framework: u32,
        container: ContainerId,
        held: Holding,
        bodies: &[BodyRef; 2],
        complete: impl FnOnce(HandLaunch<'_>) -> HandLaunch<'_>,
        names: (Name, Name, Name),
    ) {
        let session = self.link.session;
        let framework = self.framework_id(framework);
        let (task, executor, user) = (self.text(names.0), self.text(names.1), self.text(names.2));
        self.with_scratch(|agent, outer, inner| {
            let mut outer = Scratch::new(outer);
            let resources = agent.pool.write(&agent.names, held, "", &mut outer, inner);
            let launch = complete(HandLaunch {
                container,
                inside: None,
                attempt: 0,
                session,
                framework,
                task: &task,
                executor: &executor,
                user: &user,
                resources: resources.unwrap_or_default(),
                limits: [0; 2],
                stop_after_us: 0,
                grace_us: 0,
                private: named(bodies[0], 0),
                public: named(bodies[1], u16::from(!bodies[0].is_none())),
            });
            let present: heapless::Vec<BodyRef, 2> =
                bodies.iter().copied().filter(|body| !body.is_none()).collect();
            cx.emit_with(super::Output::Hand(Hand::Launch(launch)), &present);
        });
    }

    /// A container runs.
    pub(super) fn started(
        &mut self,
        cx: &mut Cx<'_>,
        container: ContainerId,
    ) -> Result<(), Refusal> {
        if let Some((id, row)) = self.executors.find(|row| row.container == container) {
            if row.stage == Stage::Starting
                && let Some(row) = self.executors.get_mut(id)
            {
                row.stage = Stage::Running;
                self.expect_executor(cx, id);
            }
            return Ok(());
        }
        let (id, row) = self.command_in(container).ok_or(Refusal::UnknownTask)?;
        match row.stage {
            Stage::Starting => {
                if let Some(row) = self.tasks.get_mut(id) {
                    (row.stage, row.began, row.since) = (Stage::Running, cx.now, cx.now);
                }
                self.note_begin(cx, &row);
                self.tell(cx, id, TaskState::Running, None, "");
                self.bound_completion(cx, id);
                Ok(())
            }
            // A kill came between: its signal waited for a process to send it to.
            Stage::Ending => {
                self.signal_end(cx, id);
                Ok(())
            }
            Stage::Recording | Stage::Running | Stage::Ended | Stage::Waiting => {
                Err(Refusal::OutOfTurn)
            }
        }
    }

    /// A container could not be started.
    pub(super) fn unstarted(
        &mut self,
        cx: &mut Cx<'_>,
        container: ContainerId,
        message: &str,
    ) -> Result<(), Refusal> {
        if let Some((id, _)) = self.executors.find(|row| row.container == container) {
            self.executor_ended(cx, id, Exit::Unseen, Some(Reason::ContainerLaunchFailed), message);
            return Ok(());
        }
        let (id, row) = self.command_in(container).ok_or(Refusal::UnknownTask)?;
        if row.stage == Stage::Waiting {
            return Err(Refusal::OutOfTurn);
        }
        if self.starts_again(cx, id, Exit::Unseen, message) {
            return Ok(());
        }
        let (state, reason) = if row.ordered == super::rows::Ordered::No {
            (TaskState::Failed, Reason::ContainerLaunchFailed)
        } else {
            (TaskState::Killed, Reason::TaskKilledDuringLaunch)
        };
        self.end_task(cx, id, state, Some(reason), message, [0, 0]);
        Ok(())
    }

    /// The task whose own container it is.
    pub(super) fn command_in(&self, container: ContainerId) -> Option<(Id, Task)> {
        self.tasks.find(|row| row.container == container && row.runner().is_none())
    }

    pub(super) fn executor_named(&self, framework: Id, executor: &str) -> Option<Id> {
        let name = self.names.find(executor).filter(|name| !name.is_empty())?;
        let hash = self.executors_by_name.hash(framework.index.into(), name.place().into());
        self.executors_by_name.find(&self.executors, 0, hash, |row| {
            (row.name, row.framework) == (name, framework.index)
        })
    }

    /// Tells that a launch was not accepted. Nobody acknowledges it: it leaves nothing here.
    pub(super) fn drop_launch(
        &mut self,
        cx: &mut Cx<'_>,
        held: &FrameworkHeld<'_>,
        task: &Launch<'_>,
        refusal: Refusal,
    ) {
        let aware = held.capabilities & Capability::PartitionAware.bit() != 0;
        let dropped = if aware { TaskState::Dropped } else { TaskState::Lost };
        let drains = refusal == Refusal::Draining;
        let reason = if drains { Reason::AgentDraining } else { Reason::ResourcesUnknown };
        // It would be refused anywhere.
        let invalid = refusal == Refusal::TooShort;
        let (state, reason) =
            if invalid { (TaskState::Error, Reason::TaskInvalid) } else { (dropped, reason) };
        let detail =
            Detail { reason: Some(reason), message: refusal.sentence(), ..Detail::default() };
        let status = Status {
            task: task.task,
            state,
            source: Source::Agent,
            agent: self.agent,
            uuid: None,
            wall_us: cx.wall_us,
            detail: Some(detail),
        };
        let framework = held.framework;
        let head = AgentCall::Update { framework, latest: state, status };
        self.tell_master(cx, Head::AgentCall(head), &[]);
    }
}

/// How far a task may go above its resources, by cpus and mem.
fn limits_of(task: &Launch<'_>) -> [u64; 2] {
    let of = |name: &str| {
        let limit = task.limits.iter().find(|limit| limit.name == name);
        limit.map_or(0, |limit| limit.amount.map_or(u64::MAX, |amount| amount.milli()))
    };
    [of("cpus"), of("mem")]
}
