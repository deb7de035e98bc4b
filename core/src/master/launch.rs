//! ACCEPT: what a framework makes of its offers, task by task.
//!
//! Mesos: `Master::accept`, `Master::_accept`, `master/validation.cpp`. The offers stand or fall
//! together; then each task has a verdict of its own, on what the ones before it left. A task that
//! finds a table full ends as one that is not valid: its framework may try again with a new id.

use core::mem;

use super::groups::Group;
use super::rows::{Agent, AgentState, Executor, Framework, Task};
use super::{Cx, Fact, Master, OPERATION_PLACES, Output, Verdict};
use crate::Refusal;
use crate::doors;
use crate::limits::{BODIES_PER_FRAME_MAX, NAME_MAX};
use crate::names::Name;
use crate::resources::Holding;
use crate::table::Id;
use crate::wire::agent::{AgentEvent, OperationState};
use crate::wire::call::{Accept, Capability, Operation};
use crate::wire::event::Event;
use crate::wire::resource::{Resource, Value};
use crate::wire::task::{
    Detail, Executor as WireExecutor, Kind, Launch, Reason, Source, Status, TaskState,
};
use crate::wire::{Body, BodyRef, Head, OfferId, Scratch, Seq, check_id};

/// Why nothing is launched on some offers. Mesos: `validation::offer`.
const NO_LONGER: &str = "Task launched with invalid offers: an offer is no longer valid";
const TWICE: &str = "Task launched with invalid offers: Duplicate offer in offer list";
const AGENTS: &str =
    "Task launched with invalid offers: Aggregated offers must belong to one single agent";
const ROLES: &str =
    "Task launched with invalid offers: Aggregated offers must be allocated to the same role";
const NO_OFFERS: &str = "Task launched with invalid offers: No offers specified";

/// Why a task is not launched.
pub(super) struct Bad {
    pub(super) state: TaskState,
    pub(super) reason: Reason,
    pub(super) message: &'static str,
}

impl Bad {
    pub(super) const fn invalid(message: &'static str) -> Self {
        Self { state: TaskState::Error, reason: Reason::TaskInvalid, message }
    }

    pub(super) const fn full(refusal: Refusal) -> Self {
        Self::invalid(refusal.sentence())
    }
}

/// What the tasks of one ACCEPT share.
#[derive(Clone, Copy)]
pub(super) struct Taking {
    pub(super) framework: Id,
    pub(super) agent: Id,
    pub(super) client: u32,
    /// What is left of the offers.
    pub(super) rest: Holding,
    /// What of it operations have made.
    pub(super) fresh: Holding,
    /// What volumes were resized to: for the next call.
    pub(super) later: Holding,
    /// An operation was done.
    pub(super) changed: bool,
}

impl Master<'_> {
    /// ACCEPT, or a part of one, which is not the last. O(tasks · (resources + depth · log roles)).
    ///
    /// When an offer is not this framework's, of another epoch, named twice, or the offers are of
    /// several agents or roles, the tasks are told lost and every valid one among the offers is
    /// given back; `UnknownOffer` when none is.
    pub(super) fn accept(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        accept: &Accept<'_>,
        last: bool,
        bodies: &[BodyRef],
        verdicts: &Seq<'_, Verdict<'_>>,
    ) -> Result<(), Refusal> {
        let (agent, client) = match self.common_offer(framework, &accept.offers) {
            Ok(common) => common,
            Err(why) => return self.refuse_accept(cx, framework, accept, why),
        };
        let mut rest = Holding::EMPTY;
        for offer in accept.offers.iter() {
            let held = if last {
                self.take_offer(cx, offer.id).map(|row| row.held)
            } else {
                self.offers.get_mut(offer.id).map(|row| mem::replace(&mut row.held, Holding::EMPTY))
            };
            if let Some(mut held) = held {
                self.pool.add(&mut self.names, &mut rest, &mut held);
            }
        }
        let was_there = self.holds_of(agent, framework);
        let (fresh, later, changed) = (Holding::EMPTY, Holding::EMPTY, false);
        let mut taking = Taking { framework, agent, client, rest, fresh, later, changed };
        let mut first = 0u16;
        for (place, operation) in (OPERATION_PLACES..u16::MAX).zip(accept.operations.iter()) {
            if let Some(verdict) = verdicts.iter().find(|verdict| verdict.task == place) {
                let (id, message) = (operation.id(), verdict.message);
                self.refuse_operation(cx, framework, agent, id, message);
                continue;
            }
            match operation {
                Operation::Launch { tasks } => {
                    self.launch_all(cx, &mut taking, &tasks, bodies, verdicts, first);
                }
                Operation::LaunchGroup { executor, tasks } => {
                    let group = Group { executor, tasks: &tasks, bodies };
                    self.launch_group(cx, &mut taking, &group, verdicts, first);
                }
                Operation::Reserve(_)
                | Operation::Unreserve(_)
                | Operation::Create(_)
                | Operation::Destroy(_)
                | Operation::Grow { .. }
                | Operation::Shrink { .. }
                | Operation::Move { .. } => self.operate(cx, &mut taking, &operation),
            }
            let tasks = u16::try_from(operation.tasks().len()).unwrap_or(u16::MAX);
            first = first.saturating_add(tasks);
        }
        if last {
            self.give_rest(cx, &mut taking, accept.refuse_us);
        } else {
            self.keep_rest(cx, &mut taking, &accept.offers);
        }
        let says_more = self.frameworks.get_ref(framework).is_some_and(|row| !row.public.is_none());
        if says_more && !was_there && self.holds_of(agent, framework) {
            self.tell_public(cx, agent, framework);
        }
        Ok(())
    }

    /// The agent and the client that all of `offers` are of; else why they are none to launch on.
    fn common_offer(
        &self,
        framework: Id,
        offers: &Seq<'_, OfferId>,
    ) -> Result<(Id, u32), &'static str> {
        let mut common = None::<(u32, u32)>;
        for (index, offer) in offers.iter().enumerate() {
            let row = self.own_offer(framework, offer).and_then(|id| self.offers.get(id));
            let row = row.ok_or(NO_LONGER)?;
            if offers.iter().take(index).any(|earlier| earlier == offer) {
                return Err(TWICE);
            }
            match common {
                Some((agent, _)) if agent != row.agent => return Err(AGENTS),
                Some((_, client)) if client != row.client => return Err(ROLES),
                Some(_) | None => common = Some((row.agent, row.client)),
            }
        }
        let (agent, client) = common.ok_or(NO_OFFERS)?;
        Ok((self.agents.id_at(agent).ok_or(NO_LONGER)?, client))
    }

    fn refuse_accept(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        accept: &Accept<'_>,
        message: &'static str,
    ) -> Result<(), Refusal> {
        let mut changed = false;
        for offer in accept.offers.iter() {
            if let Some(id) = self.own_offer(framework, offer) {
                self.give_back(cx, id, Some(0));
                changed = true;
            }
        }
        for operation in accept.operations.iter() {
            match operation {
                Operation::Launch { tasks } | Operation::LaunchGroup { tasks, .. } => {
                    let lost = self.lost_or(framework, TaskState::Dropped);
                    let bad = Bad { state: lost, reason: Reason::InvalidOffers, message };
                    self.refuse_tasks(cx, framework, &tasks, &bad);
                }
                Operation::Reserve(_)
                | Operation::Unreserve(_)
                | Operation::Create(_)
                | Operation::Destroy(_)
                | Operation::Grow { .. }
                | Operation::Shrink { .. }
                | Operation::Move { .. } => {
                    let message = "Operation attempted with invalid offers";
                    let state = OperationState::Error;
                    self.tell_operation(cx, framework, None, operation.id(), state, message);
                }
            }
        }
        if changed { Ok(()) } else { Err(Refusal::UnknownOffer) }
    }

    /// `fine` for partition-aware frameworks, LOST for others.
    fn lost_or(&self, framework: Id, fine: TaskState) -> TaskState {
        let aware = self
            .frameworks
            .get_ref(framework)
            .is_some_and(|row| row.capabilities & Capability::PartitionAware.bit() != 0);
        if aware { fine } else { TaskState::Lost }
    }

    /// Launches what is valid of `tasks` and sends it to the agent, in as many heads as it takes.
    fn launch_all(
        &mut self,
        cx: &mut Cx<'_>,
        taking: &mut Taking,
        tasks: &Seq<'_, Launch<'_>>,
        bodies: &[BodyRef],
        verdicts: &Seq<'_, Verdict<'_>>,
        first: u16,
    ) {
        let mut ready = heapless::Vec::<u16, 256>::new();
        for (index, task) in (0u16..).zip(tasks.iter()) {
            let place = first.saturating_add(index);
            let found = verdicts.iter().find(|verdict| verdict.task == place);
            let checked = match found {
                Some(verdict) => {
                    let reason =
                        if verdict.denied { Reason::TaskUnauthorized } else { Reason::TaskInvalid };
                    let bad = TaskState::Error;
                    self.tell_bad(cx, taking.framework, &task, bad, reason, verdict.message);
                    continue;
                }
                None => self.check_task(taking, &task, bodies),
            };
            match checked {
                Ok(()) => {
                    self.launch_one(cx, taking, &task, bodies);
                    let pushed = ready.push(index);
                    invariant!(pushed.is_ok(), "a launch has more tasks than its limit");
                }
                Err(bad) => {
                    let Bad { state, reason, message } = bad;
                    self.tell_bad(cx, taking.framework, &task, state, reason, message);
                }
            }
        }
        let mut rest = &ready[..];
        while !rest.is_empty() {
            let sent = self.send_launch(cx, taking, tasks, rest, bodies, None).max(1);
            rest = rest.get(sent..).unwrap_or_default();
        }
    }

    /// Sends as many of the launched tasks as one head of the agent's holds. The executor of a group
    /// goes with its first task.
    pub(super) fn send_launch(
        &mut self,
        cx: &mut Cx<'_>,
        taking: &Taking,
        tasks: &Seq<'_, Launch<'_>>,
        ready: &[u16],
        bodies: &[BodyRef],
        mut of_group: Option<WireExecutor<'_>>,
    ) -> usize {
        let Some(agent) = self.agents.get(taking.agent) else { return ready.len() };
        let fence = self.fence();
        let role = self.allocator.role_of(&self.names, taking.client);
        self.with_held(taking.framework, |master, held, _| {
            let head_max = master.head_max(agent.conn);
            master.with_scratch(|_, outer, _| {
                // What stands before the tasks: the framework, the role, and a few numbers.
                let beside = crate::wire::encode(held, outer).map_or(0, <[u8]>::len);
                let beside = beside.saturating_add(role.len()).saturating_add(96);
                let max = head_max.saturating_sub(beside).min(outer.len());
                let mut scratch = Scratch::new(outer.get_mut(..max).unwrap_or_default());
                let mut list = scratch.list::<Launch<'static>>();
                let mut with = heapless::Vec::<BodyRef, BODIES_PER_FRAME_MAX>::new();
                let mut sent = 0usize;
                let launches =
                    ready.iter().filter_map(|index| tasks.iter().nth(usize::from(*index)));
                for task in launches {
                    let public = attach(&mut with, task.public.of(bodies));
                    let private = attach(&mut with, task.private.of(bodies));
                    let executor = task.executor.or(of_group.take());
                    let executor = executor.map(|executor| WireExecutor {
                        body: attach(&mut with, executor.body.of(bodies)),
                        ..executor
                    });
                    let full = with.capacity().saturating_sub(with.len()) < 3;
                    if list.push(&Launch { public, private, executor, ..task }).is_err() {
                        break;
                    }
                    sent = sent.saturating_add(1);
                    if full {
                        break;
                    }
                }
                let event = AgentEvent::Launch {
                    fence,
                    session: agent.session,
                    framework: *held,
                    role: &role,
                    tasks: list.end(),
                };
                let head = Head::AgentEvent(event);
                if sent > 0 {
                    cx.emit_with(Output::Send { conn: agent.conn, head }, &with);
                }
                sent
            })
        })
    }

    /// Everything that can be wrong with a task, in Mesos' order where it has one.
    fn check_task(
        &self,
        taking: &Taking,
        task: &Launch<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Bad> {
        let (framework, agent) = self.check_task_itself(taking, task)?;
        self.check_kind(agent, task)?;
        self.check_user(framework, task)?;
        self.check_resources(taking, task, bodies)?;
        self.check_room(taking, task)
    }

    /// Whether its agent is there, and what it is called.
    pub(super) fn check_task_itself(
        &self,
        taking: &Taking,
        task: &Launch<'_>,
    ) -> Result<(&Framework, &Agent), Bad> {
        let (Some(framework), Some(agent)) =
            (self.frameworks.get_ref(taking.framework), self.agents.get_ref(taking.agent))
        else {
            return Err(Bad::invalid("No such framework or agent"));
        };
        if agent.state != AgentState::Active {
            return Err(Bad {
                state: self.lost_or(taking.framework, TaskState::Dropped),
                reason: Reason::AgentDisconnected,
                message: "Agent disconnected",
            });
        }
        if check_id("task.id", task.task).is_err() {
            return Err(Bad::invalid("Task has an invalid id"));
        }
        if task.agent != agent.id {
            return Err(Bad::invalid("Task uses an agent that is not the one of its offer"));
        }
        if self.task_named(taking.framework, task.task).is_some() {
            return Err(Bad::invalid("Task has a duplicate id"));
        }
        Ok((framework, agent))
    }

    /// Whether its agent takes one more of its kind.
    pub(super) fn check_taken(&self, agent: &Agent, task: &Launch<'_>) -> Result<(), Bad> {
        if agent.task_kinds & task.kind.bit() == 0 {
            return Err(Bad::full(Refusal::KindUnsupported));
        }
        if agent.tasks_max != 0 && agent.tasks.len() >= agent.tasks_max {
            return Err(Bad::full(Refusal::AgentFull));
        }
        Ok(())
    }

    fn check_kind(&self, agent: &Agent, task: &Launch<'_>) -> Result<(), Bad> {
        self.check_taken(agent, task)?;
        let needs_executor = matches!(task.kind, Kind::Executor);
        if needs_executor != task.executor.is_some() {
            return Err(Bad::invalid(
                "Task should have at least one (but not both) of CommandInfo or ExecutorInfo",
            ));
        }
        if task.kind.is_of_group() {
            return Err(Bad::invalid("Tasks of a group are launched together"));
        }
        Ok(())
    }

    pub(super) fn check_user(&self, framework: &Framework, task: &Launch<'_>) -> Result<(), Bad> {
        let of_executor = task.executor.map_or("", |executor| executor.user);
        let (of_framework, caller) = (self.text(framework.user), self.text(framework.caller));
        let user = doors::user(task.user, of_executor, &of_framework, &caller);
        // The rights of whoever subscribed; it may be gone, so they are those of its name.
        let rights = self.callers.iter().find(|row| row.name == framework.caller);
        let rights = rights.map_or(doors::Rights::NONE, |row| row.rights);
        if doors::may_run_as(&caller, rights, user) {
            return Ok(());
        }
        Err(Bad {
            state: TaskState::Error,
            reason: Reason::TaskUnauthorized,
            message: "Not authorized to run the task as its user",
        })
    }

    /// What says that it is allocated to a role must say so of the role that was offered it.
    pub(super) fn check_allocated(
        &self,
        taking: &Taking,
        resources: &Seq<'_, Resource<'_>>,
    ) -> Result<(), Bad> {
        let role = self.allocator.role_of(&self.names, taking.client);
        let foreign = |resource: Resource<'_>| {
            let to = resource.traits.allocated_to;
            !to.is_empty() && to != role.as_str()
        };
        if !resources.iter().any(foreign) {
            return Ok(());
        }
        Err(Bad::invalid("Task uses resources that are allocated to another role than its offer"))
    }

    /// What is wrong with a task's resources by themselves.
    pub(super) fn check_own_resources(
        &self,
        taking: &Taking,
        task: &Launch<'_>,
    ) -> Result<(), Bad> {
        self.check_allocated(taking, &task.resources)?;
        if !task.resources.iter().any(|resource| !is_zero(&resource)) {
            return Err(Bad::invalid("Task uses no resources"));
        }
        let fractional = |resource: &Resource<'_>| match resource.value {
            Value::Scalar(amount) => resource.name == "gpus" && amount.milli() % 1000 != 0,
            Value::Ranges(_) | Value::Set(_) => false,
        };
        if task.resources.iter().any(|resource| fractional(&resource)) {
            return Err(Bad::invalid("The 'gpus' resource must be an unsigned integer"));
        }
        for limit in task.limits.iter() {
            let asked = task.resources.iter().find(|resource| resource.name == limit.name);
            let request = asked.map_or(0, |resource| match resource.value {
                Value::Scalar(amount) => amount.milli(),
                Value::Ranges(_) | Value::Set(_) => 0,
            });
            let known = matches!(limit.name, "cpus" | "mem");
            if !known || limit.amount.is_some_and(|amount| amount.milli() < request) {
                return Err(Bad::invalid("A limit is for cpus or mem, and not below the request"));
            }
        }
        self.pool.admit(&self.names, &task.resources).map(drop).map_err(Bad::full)
    }

    fn check_resources(
        &self,
        taking: &Taking,
        task: &Launch<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Bad> {
        self.check_own_resources(taking, task)?;
        if !self.pool.contains_wire(&self.names, taking.rest, &task.resources) {
            return Err(Bad::invalid("Task uses more resources than were offered"));
        }
        let Some(executor) = task.executor else { return Ok(()) };
        match self.executor_named(taking.framework, taking.agent, executor.id) {
            Some(known) => self.check_same_executor(known, executor.body.of(bodies)),
            None => self.check_executor_resources(taking, task, &executor),
        }
    }

    /// An executor that lives already must be the one that is meant.
    pub(super) fn check_same_executor(&self, known: Id, body: BodyRef) -> Result<(), Bad> {
        let same = |row: &Executor| (row.body.len, row.body.hash) == (body.len, body.hash);
        if self.executors.get_ref(known).is_some_and(same) {
            return Ok(());
        }
        Err(Bad::invalid(
            "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID",
        ))
    }

    /// A new executor is charged beside its task: together they must fit.
    fn check_executor_resources(
        &self,
        taking: &Taking,
        task: &Launch<'_>,
        executor: &WireExecutor<'_>,
    ) -> Result<(), Bad> {
        self.check_allocated(taking, &executor.resources)?;
        if let Err(refusal) = self.pool.admit(&self.names, &executor.resources) {
            return Err(Bad::full(refusal));
        }
        let mut memory = [0u8; 4096];
        let both = task.resources.iter().chain(executor.resources.iter());
        let Ok(both) = Scratch::new(&mut memory).seq::<Resource<'static>>(both) else {
            return Err(Bad::full(Refusal::ResourcesFull));
        };
        if self.pool.contains_wire(&self.names, taking.rest, &both) {
            Ok(())
        } else {
            Err(Bad::invalid("Task and executor use more resources than were offered"))
        }
    }

    fn check_room(&self, taking: &Taking, task: &Launch<'_>) -> Result<(), Bad> {
        let executor = task.executor;
        let new_executor = executor.filter(|executor| {
            self.executor_named(taking.framework, taking.agent, executor.id).is_none()
        });
        let resources = task.resources.len();
        let of_executor = new_executor.map_or(0, |executor| executor.resources.len());
        let spans = task.resources.iter().fold(0u32, |sum, resource| match resource.value {
            Value::Ranges(ranges) => sum.saturating_add(ranges.len().saturating_mul(2)),
            Value::Scalar(_) | Value::Set(_) => sum.saturating_add(1),
        });
        let names = [task.task].into_iter().chain(new_executor.map(|executor| executor.id));
        let full = if self.tasks.room() == 0 {
            Some(Refusal::TasksFull)
        } else if new_executor.is_some() && self.executors.room() == 0 {
            Some(Refusal::ExecutorsFull)
        } else if !self.names.has_room_for(names) {
            Some(Refusal::NamesFull)
        } else if resources.saturating_add(of_executor).saturating_add(spans) > self.pool.room() {
            Some(Refusal::ResourcesFull)
        } else {
            None
        };
        full.map_or(Ok(()), |refusal| Err(Bad::full(refusal)))
    }

    /// Launches a task that was checked: its resources move from the offer to it.
    pub(super) fn launch_one(
        &mut self,
        cx: &mut Cx<'_>,
        taking: &mut Taking,
        task: &Launch<'_>,
        bodies: &[BodyRef],
    ) {
        let executor = task.executor.and_then(|executor| {
            let known = self.executor_named(taking.framework, taking.agent, executor.id);
            known.or_else(|| self.launch_executor(cx, taking, &executor, bodies))
        });
        let held = self.pool.take(&mut self.names, &task.resources);
        let taken = self.pool.subtract(&mut self.names, &mut taking.rest, held);
        invariant!(taken.is_ok(), "a task that was checked does not fit its offer");
        let Ok(name) = self.names.intern(task.task) else { return };
        let public = self.keep_body(cx, task.public.of(bodies));
        let row = Task {
            name,
            framework: taking.framework.index,
            agent: taking.agent.index,
            executor: executor.map_or(0, |id| id.index.saturating_add(1)),
            client: taking.client,
            state: TaskState::Staging,
            charged: true,
            held,
            public,
            ..bytemuck::Zeroable::zeroed()
        };
        let Some(id) = self.add_task(row) else { return };
        if let Some(executor) = executor {
            self.count_executor_task(executor, 1);
        }
        let role = self.allocator.role_of(&self.names, taking.client);
        self.task_fact(cx, id, &role, task.resources);
    }

    fn launch_executor(
        &mut self,
        cx: &mut Cx<'_>,
        taking: &mut Taking,
        executor: &WireExecutor<'_>,
        bodies: &[BodyRef],
    ) -> Option<Id> {
        let held = self.pool.take(&mut self.names, &executor.resources);
        let taken = self.pool.subtract(&mut self.names, &mut taking.rest, held);
        invariant!(taken.is_ok(), "an executor that was checked does not fit its offer");
        let body = BodyRef { slot: 0, ..executor.body.of(bodies) };
        let Taking { framework, agent, client, .. } = *taking;
        self.add_executor(cx, framework, agent, client, executor.id, held, body)
    }

    /// Puts a task's row in every list and index.
    pub(super) fn add_task(&mut self, row: Task) -> Option<Id> {
        let id = self.tasks.insert(row).ok()?;
        let hash = self.task_hash(row.framework, row.name);
        self.tasks_by_name.insert(&mut self.tasks, 0, hash, id);
        if let Some(agent) = self.agents.row_mut(row.agent) {
            agent.tasks.push(&mut self.tasks, super::OF_AGENT, id);
        }
        if let Some(framework) = self.frameworks.row_mut(row.framework) {
            framework.tasks.push(&mut self.tasks, super::OF_FRAMEWORK, id);
        }
        Some(id)
    }

    pub(super) fn count_executor_task(&mut self, executor: Id, by: i32) {
        if let Some(row) = self.executors.get_mut(executor) {
            row.tasks = row.tasks.saturating_add_signed(by);
        }
    }

    pub(super) fn task_named(&self, framework: Id, task: &str) -> Option<Id> {
        let name = self.names.find(task).filter(|name| !name.is_empty())?;
        let hash = self.task_hash(framework.index, name);
        self.tasks_by_name
            .find(&self.tasks, 0, hash, |row| (row.name, row.framework) == (name, framework.index))
    }

    pub(super) fn task_fact(
        &mut self,
        cx: &mut Cx<'_>,
        task: Id,
        role: &str,
        resources: Seq<'_, Resource<'_>>,
    ) {
        let Some(row) = self.tasks.get(task) else { return };
        let ids = (self.frameworks.id_at(row.framework), self.agents.id_at(row.agent));
        let (Some(framework), Some(agent)) = ids else { return };
        let executor = row.executor.checked_sub(1).and_then(|slot| self.executors.row(slot));
        let executor = executor.map_or(Name::EMPTY, |executor: &Executor| executor.name);
        let (name, executor) = (self.text(row.name), self.text(executor));
        let bodies = [row.public];
        let shown = if row.public.is_none() { &[][..] } else { &bodies };
        let fact = Fact::Task {
            row: task,
            framework,
            agent,
            task: &name,
            executor: &executor,
            role,
            state: row.state,
            container: row.container,
            resources,
            public: if row.public.is_none() { Body::NONE } else { Body::at(0) },
        };
        cx.emit_with(Output::Fact(fact), shown);
    }

    /// The fact of a task again, from what its row holds: something of it became known.
    pub(super) fn task_fact_again(&mut self, cx: &mut Cx<'_>, task: Id) {
        let Some(row) = self.tasks.get(task) else { return };
        let role = self.allocator.role_of(&self.names, row.client);
        self.with_scratch(|master, outer, inner| {
            let mut outer = Scratch::new(outer);
            let resources = master.pool.write(&master.names, row.held, "", &mut outer, inner);
            let resources = resources.unwrap_or_default();
            master.task_fact(cx, task, &role, resources);
        });
    }

    fn refuse_tasks(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        tasks: &Seq<'_, Launch<'_>>,
        bad: &Bad,
    ) {
        for task in tasks.iter() {
            self.tell_bad(cx, framework, &task, bad.state, bad.reason, bad.message);
        }
    }

    /// A status of a task that never came to be.
    pub(super) fn tell_bad(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        task: &Launch<'_>,
        state: TaskState,
        reason: Reason,
        message: &str,
    ) {
        let detail = Detail { reason: Some(reason), message, ..Detail::default() };
        let status = Status {
            // An id of any length is told back, so far as an event holds it.
            task: task.task.get(..task.task.len().min(4 * NAME_MAX)).unwrap_or(""),
            state,
            source: Source::Master,
            agent: task.agent,
            uuid: None,
            wall_us: 0,
            detail: Some(detail),
        };
        self.tell(cx, framework, Event::Update { status }, &[]);
    }
}

/// Puts a body behind those that a frame has, and names it.
fn attach(with: &mut heapless::Vec<BodyRef, BODIES_PER_FRAME_MAX>, body: BodyRef) -> Body {
    if body.is_none() {
        return Body::NONE;
    }
    let place = u16::try_from(with.len()).unwrap_or(u16::MAX);
    if with.push(body).is_ok() { Body::at(place) } else { Body::NONE }
}

fn is_zero(resource: &Resource<'_>) -> bool {
    match resource.value {
        Value::Scalar(amount) => amount.milli() == 0,
        Value::Ranges(ranges) => ranges.is_empty(),
        Value::Set(items) => items.is_empty(),
    }
}
