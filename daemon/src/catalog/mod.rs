//! The only read model: facts folded into pages, from which every query is answered.
//!
//! A page holds [`PAGE`] rows behind an `Arc`. A reader takes the pages as they are and may be as
//! slow as it likes; a fact that changes a page which somebody reads copies that page alone.

pub(crate) mod rows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use mesita_core::allocator::node::WEIGHT_ONE;
use mesita_core::master::Fact;
use mesita_core::master::rows::{AgentState, Emptying, FrameworkState, Willing};
use mesita_core::table::Id;
use mesita_core::wire::task::{Reason, Source, TaskState};
use mesita_core::wire::{AgentId, Body, BodyRef, Fence, FrameworkId};

use crate::encoded::{Described, Resources};
use crate::legacy::Held;
use rows::{
    Agent, Carried, Completed, Drain, Executor, Framework, Inverse, Machine, Offer, Operation,
    Quota, Status, Task,
};

/// Rows of a page.
pub(crate) const PAGE: usize = 64;
/// Tasks that are remembered after their end was acknowledged.
pub(crate) const COMPLETED_MAX: usize = 500;
/// Tasks that are remembered while their agent does not answer. Mesos:
/// `--max_unreachable_tasks_per_framework`.
pub(crate) const UNREACHABLE_MAX: usize = 1_000;
/// Frameworks that are remembered after their end. Mesos: `--max_completed_frameworks`.
pub(crate) const COMPLETED_FRAMEWORKS_MAX: usize = 50;

/// Everything that a master's facts told, as it is at one moment. A clone is that moment, for as
/// long as a reader takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) agents: Table<Agent>,
    pub(crate) frameworks: Table<Framework>,
    pub(crate) tasks: Table<Task>,
    pub(crate) executors: Table<Executor>,
    pub(crate) offers: Table<Offer>,
    pub(crate) machines: Table<Machine>,
    pub(crate) inverse: Table<Inverse>,
    pub(crate) operations: Table<Operation>,
    /// Quotas of roles.
    pub(crate) quotas: Arc<BTreeMap<Box<str>, Quota>>,
    /// Weights of roles that are not 1, in thousandths.
    pub(crate) weights: Arc<BTreeMap<Box<str>, u32>>,
    /// Tasks whose end was acknowledged, the newest last.
    pub(crate) completed: Arc<VecDeque<Completed>>,
    /// Tasks of agents that do not answer, the newest last: they are where they were, or over.
    pub(crate) unreachable: Arc<VecDeque<Completed>>,
    /// Frameworks that are no more, the newest last, by the rows that they had.
    pub(crate) completed_frameworks: Arc<VecDeque<(Id, Framework)>>,
    /// Tasks that ended since this master leads, by the state that they ended in.
    pub(crate) ended: [u64; 14],
    /// What else happened since then.
    pub(crate) happened: Happened,
    /// Whose word it is, and the cluster; none before this master led.
    pub(crate) leading: Option<(u64, Fence)>,
    /// What its tasks and executors hold, once a reader has asked; shared by all who read the same
    /// tasks and executors.
    pub(crate) held: Arc<OnceLock<Held>>,
    /// Roles that are not told of.
    pub(crate) unseen_roles: Arc<BTreeSet<Box<str>>>,
    /// All that there is, where this is only what somebody sees of it.
    pub(crate) whole: Option<Arc<Tables>>,
}

/// What happened since this master leads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Happened {
    /// Agents that came, that came back, and that were given up.
    pub(crate) registrations: u64,
    pub(crate) reregistrations: u64,
    pub(crate) removals: u64,
    /// Those of the registry that did not come to this master in time, among them.
    pub(crate) recovery_removals: u64,
    /// Those that came to be unreachable, among them.
    pub(crate) unreachable: u64,
    /// Ends of tasks, by `task_<state>/source_<source>/reason_<reason>`.
    pub(crate) ends: BTreeMap<Box<str>, u64>,
}

impl Tables {
    /// The same without agents of which a stream will be told that they are added: they are here, and
    /// the master is not done with what they hold.
    pub(crate) fn told_first(&self) -> Self {
        let told = |_, agent: &Agent| agent.shown || !agent.is_known();
        Self { agents: self.agents.only(told), ..self.clone() }
    }

    /// What was held is not what is held. Readers of before keep theirs.
    fn forget_held(&mut self) {
        match Arc::get_mut(&mut self.held) {
            Some(own) => drop(own.take()),
            None => self.held = Arc::default(),
        }
    }

    /// All that there is: what is summed up for agents.
    pub(crate) fn whole(&self) -> &Self {
        self.whole.as_deref().unwrap_or(self)
    }
}

impl Happened {
    fn to(&mut self, agent: &Agent, state: AgentState) {
        let lost = |state| {
            use AgentState::{Gone, Losing, Unreachable};
            matches!(state, Losing | Unreachable | Gone)
        };
        if state == AgentState::Active && agent.state != state {
            let count =
                if agent.known { &mut self.reregistrations } else { &mut self.registrations };
            *count += 1;
        }
        // One that the registry has as lost comes to be so here, and is not given up once more.
        if agent.known && lost(state) && !lost(agent.state) {
            self.removals += 1;
            self.recovery_removals += u64::from(agent.is_recovered());
        }
        let given_up = (agent.state, state) == (AgentState::Losing, AgentState::Unreachable);
        self.unreachable += u64::from(given_up);
    }

    fn ended(&mut self, state: TaskState, source: Source, reason: Option<Reason>) {
        let Some(reason) = reason else { return };
        let name = format!("{}/{}/{}", state.name(), rows::source(source), reason.name());
        *self.ends.entry(name.to_lowercase().into()).or_default() += 1;
    }
}

/// Bytes of what the tasks of both lists have carried.
const COMPLETED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The tables as facts change them, and how to find a row in them.
#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) now: Tables,
    agents_by_id: BTreeMap<AgentId, Id>,
    /// Bytes of bodies of tasks that are over or unreachable.
    remembered_bytes: usize,
    /// Tasks of one name, whoever's; the newest last.
    tasks_by_name: BTreeMap<Box<str>, Vec<Id>>,
}

/// Rows by their slot in the core's table of the same name.
#[derive(Clone, Debug)]
pub(crate) struct Table<T> {
    pages: Vec<Arc<Page<T>>>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Page<T> {
    rows: Vec<Option<(Id, T)>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }
}

impl<T: Clone> Table<T> {
    /// Rows.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The row of this id; none if it is another's by now.
    pub(crate) fn get(&self, id: Id) -> Option<&T> {
        let index = id.index as usize;
        let row = self.pages.get(index / PAGE)?.rows.get(index % PAGE)?.as_ref();
        row.filter(|(of, _)| *of == id).map(|(_, row)| row)
    }

    /// The row in this slot, whose ever it is.
    pub(crate) fn at(&self, index: u32) -> Option<(Id, &T)> {
        let index = index as usize;
        let row = self.pages.get(index / PAGE)?.rows.get(index % PAGE)?.as_ref();
        row.map(|(id, row)| (*id, row))
    }

    /// All rows, in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        let rows = self.pages.iter().flat_map(|page| page.rows.iter().flatten());
        rows.map(|(id, row)| (*id, row))
    }

    /// The first row from a slot on of which `is` is true; the slot comes to be the one behind it.
    pub(crate) fn next(&self, slot: &mut u32, is: impl Fn(&T) -> bool) -> Option<(Id, &T)> {
        let end = u32::try_from(self.pages.len() * PAGE).unwrap_or(u32::MAX);
        while *slot < end {
            let row = self.at(*slot);
            *slot += 1;
            if let Some((id, row)) = row.filter(|(_, row)| is(row)) {
                return Some((id, row));
            }
        }
        None
    }

    /// Those rows alone; pages that have no others are shared.
    pub(crate) fn only(&self, keep: impl Fn(Id, &T) -> bool) -> Self {
        let mut len = 0;
        let pages = self.pages.iter().map(|page| {
            let kept = |row: &&(Id, T)| keep(row.0, &row.1);
            let left = page.rows.iter().flatten().filter(kept).count();
            len += left;
            if left == page.rows.iter().flatten().count() {
                return Arc::clone(page);
            }
            let rows = page.rows.iter().map(|row| row.as_ref().filter(kept).cloned());
            Arc::new(Page { rows: rows.collect() })
        });
        let pages = pages.collect();
        Self { pages, len }
    }

    fn put(&mut self, id: Id, row: T) {
        let index = id.index as usize;
        while self.pages.len() <= index / PAGE {
            self.pages.push(Arc::new(Page { rows: Vec::new() }));
        }
        let page = Arc::make_mut(&mut self.pages[index / PAGE]);
        if page.rows.len() <= index % PAGE {
            page.rows.resize_with(index % PAGE + 1, || None);
        }
        let before = page.rows[index % PAGE].replace((id, row));
        self.len += usize::from(before.is_none());
    }

    fn change(&mut self, id: Id, change: impl FnOnce(&mut T)) {
        let index = id.index as usize;
        let Some(page) = self.pages.get_mut(index / PAGE) else { return };
        let row = Arc::make_mut(page).rows.get_mut(index % PAGE);
        if let Some(Some((of, row))) = row
            && *of == id
        {
            change(row);
        }
    }

    fn remove(&mut self, id: Id) -> Option<T> {
        self.get(id)?;
        let index = id.index as usize;
        let page = Arc::make_mut(self.pages.get_mut(index / PAGE)?);
        let (_, row) = page.rows.get_mut(index % PAGE)?.take()?;
        self.len -= 1;
        Some(row)
    }
}

impl Catalog {
    /// The agent with this id.
    pub(crate) fn agent(&self, id: AgentId) -> Option<(Id, &Agent)> {
        let row = *self.agents_by_id.get(&id)?;
        Some((row, self.now.agents.get(row)?))
    }

    /// The framework with this id.
    pub(crate) fn framework(&self, id: FrameworkId) -> Option<(Id, &Framework)> {
        self.now.frameworks.iter().find(|(_, framework)| framework.id == id)
    }

    /// A task was refused that never came to be: it is counted with those that were.
    pub(crate) fn refused(&mut self, status: &mesita_core::wire::task::Status<'_>) {
        let reason = status.detail().reason;
        let never_was = matches!(
            reason,
            Some(
                Reason::TaskInvalid
                    | Reason::InvalidOffers
                    | Reason::TaskUnauthorized
                    | Reason::TaskGroupInvalid
                    | Reason::TaskGroupUnauthorized
            )
        );
        if status.source == Source::Master && never_was {
            self.now.ended[status.state as usize] += 1;
            self.now.happened.ended(status.state, status.source, reason);
        }
    }

    /// The newest task of this name, of this framework if one is given.
    pub(crate) fn task(&self, framework: FrameworkId, name: &str) -> Option<(Id, &Task)> {
        let ids = self.tasks_by_name.get(name)?;
        let mut tasks = ids.iter().rev().filter_map(|&id| Some((id, self.now.tasks.get(id)?)));
        let wanted = |task: &Task| {
            let owner = self.now.frameworks.get(task.framework);
            framework.is_none() || owner.is_some_and(|owner| owner.id == framework)
        };
        tasks.find(|(_, task)| wanted(task))
    }

    /// Folds one fact in. Its bodies are those it was put out with, their bytes given by `bytes`.
    pub(crate) fn fold(
        &mut self,
        fact: &Fact<'_>,
        wall_us: u64,
        refs: &[BodyRef],
        bytes: impl Fn(BodyRef) -> Arc<[u8]>,
    ) {
        let body = |body: Body| bytes(body.of(refs));
        if matches!(
            fact,
            Fact::Task { .. }
                | Fact::TaskState { .. }
                | Fact::TaskGone { .. }
                | Fact::Executor { .. }
                | Fact::ExecutorGone { .. }
        ) {
            self.now.forget_held();
        }
        match *fact {
            Fact::Leading { cluster, fence } => self.now.leading = Some((cluster, fence)),
            // The registry's, not the readers'.
            Fact::Admission(_)
            | Fact::Dismissed { .. }
            | Fact::Removed { .. }
            | Fact::Unheard { .. } => {}
            Fact::Agent { row, ref info, ref resources, tasks_max, .. } => {
                let before = self.now.agents.get(row);
                let state = before.map_or_else(Default::default, |agent| agent.state);
                let since_us = before.map_or(wall_us, |agent| agent.since_us);
                let registered_us = before.map_or(wall_us, |agent| agent.registered_us);
                let deactivated = before.is_some_and(|agent| agent.deactivated);
                let drain = before.map_or_else(Default::default, |agent| agent.drain);
                let reregistered_us = before.map_or(0, |agent| agent.reregistered_us);
                let known = before.is_some_and(|agent| agent.known);
                let shown = before.is_some_and(|agent| agent.shown);
                self.agents_by_id.insert(info.agent, row);
                self.now.agents.put(
                    row,
                    Agent {
                        id: info.agent,
                        info: Described::of(info),
                        resources: Resources::of(resources),
                        tasks_max,
                        state,
                        since_us,
                        registered_us,
                        reregistered_us,
                        known,
                        shown,
                        deactivated,
                        drain,
                    },
                );
            }
            Fact::AgentState { row, state } => self.agent_state(row, state, wall_us),
            Fact::AgentKept { .. } => {}
            Fact::AgentGone { row } => {
                if let Some(agent) = self.now.agents.remove(row) {
                    self.agents_by_id.remove(&agent.id);
                }
            }
            Fact::Framework { row, ref info } => {
                let before = self.now.frameworks.get(row);
                let framework = Framework::of(info, before, wall_us, body(info.public));
                self.now.frameworks.put(row, framework);
            }
            Fact::FrameworkState { row, state } => {
                self.now.frameworks.change(row, |framework| framework.enter(state, wall_us));
            }
            Fact::FrameworkGone { row } => {
                if let Some(framework) = self.now.frameworks.remove(row) {
                    let state = FrameworkState::Leaving;
                    let gone = Framework { state, since_us: wall_us, ..framework };
                    let all = Arc::make_mut(&mut self.now.completed_frameworks);
                    all.push_back((row, gone));
                    if all.len() > COMPLETED_FRAMEWORKS_MAX {
                        all.pop_front();
                    }
                }
            }
            Fact::Task {
                row,
                framework,
                agent,
                task,
                executor,
                role,
                state,
                container,
                ref resources,
                public,
            } => {
                let before = self.now.tasks.get(row);
                let since_us = before.map_or(wall_us, |before| before.since_us);
                let status =
                    before.map_or_else(|| Status::new(wall_us), |before| before.status.clone());
                let statuses = before.map_or_else(Vec::new, |before| before.statuses.clone());
                let known = before.is_some();
                let new = Task {
                    framework,
                    agent,
                    name: task.into(),
                    executor: executor.into(),
                    role: role.into(),
                    state,
                    latest: state,
                    container,
                    resources: Resources::of(resources),
                    public: body(public),
                    since_us,
                    status,
                    statuses,
                };
                // An agent that comes back reports what is known.
                if !known {
                    self.tasks_by_name.entry(task.into()).or_default().push(row);
                }
                self.describe_executor(&new);
                self.now.tasks.put(row, new);
            }
            Fact::TaskState {
                row,
                state,
                latest,
                source,
                reason,
                message,
                wall_us: told_us,
                container,
                healthy,
                public,
                uuid,
            } => {
                let told_us = if told_us == 0 { wall_us } else { told_us };
                let before = self.now.tasks.get(row).map(|task| task.state);
                let over =
                    |state: TaskState| state.is_terminal() || state == TaskState::GoneByOperator;
                if over(state) && before.is_some_and(|before| !over(before)) {
                    self.now.ended[state as usize] += 1;
                    self.now.happened.ended(state, source, reason);
                }
                self.now.tasks.change(row, |task| {
                    (task.state, task.latest) = (state, latest);
                    if container != Default::default() {
                        task.container = container;
                    }
                    let public = body(public);
                    let message = rows::message_of(message, &public);
                    let Carried { pid, ip, more } = Carried::of(&public);
                    task.status = Status {
                        source,
                        reason,
                        message,
                        healthy,
                        told_us,
                        public,
                        pid,
                        ip,
                        more,
                        uuid,
                    };
                    rows::keep_status(&mut task.statuses, state, task.status.clone());
                });
            }
            Fact::TaskGone { row } => {
                if let Some(task) = self.now.tasks.remove(row) {
                    self.forget_name(&task.name, row);
                    self.complete(task);
                }
            }
            Fact::Executor { row, framework, agent, executor, ref resources, role } => {
                let resources = Resources::of(resources);
                let (name, role, of_task) = (executor.into(), role.into(), Arc::from([]));
                let new = Executor { framework, agent, name, role, resources, of_task };
                self.now.executors.put(row, new);
            }
            Fact::ExecutorGone { row } => {
                self.now.executors.remove(row);
            }
            Fact::Offer { row, offer, framework, agent, ref resources, role } => {
                let (resources, role) = (Resources::of(resources), role.into());
                self.now.offers.put(row, Offer { id: offer, framework, agent, role, resources });
            }
            Fact::OfferGone { row } => {
                self.now.offers.remove(row);
            }
            Fact::Quota { role, guarantees, limits } => {
                let quotas = Arc::make_mut(&mut self.now.quotas);
                if guarantees.is_empty() && limits.is_empty() {
                    quotas.remove(role);
                } else {
                    quotas.insert(role.into(), Quota::of(&guarantees, &limits));
                }
            }
            Fact::AgentDeactivated { row, deactivated } => {
                self.now.agents.change(row, |agent| agent.deactivated = deactivated);
            }
            Fact::AgentEmptying { row, emptying, grace_us, gone } => {
                self.now.agents.change(row, |agent| {
                    let since_us = match (emptying, agent.drain.emptying) {
                        (Emptying::No, _) => 0,
                        (_, Emptying::No) => wall_us,
                        (_, Emptying::Draining | Emptying::Drained) => agent.drain.since_us,
                    };
                    agent.drain = Drain { emptying, grace_us, gone, since_us };
                });
            }
            Fact::Machine { row, machine, window, down } => {
                let (hostname, ip) = (machine.hostname.into(), machine.ip.into());
                self.now.machines.put(row, Machine { hostname, ip, window, down });
            }
            Fact::MachineGone { row } => {
                self.now.machines.remove(row);
            }
            Fact::Inverse { row, framework, agent, machine, offer, willing } => {
                let before = self.now.inverse.get(row).map_or(0, |one| one.answered_us);
                let answered = offer.is_none() && willing != Willing::Unknown;
                let answered_us = if answered { wall_us } else { before };
                let new = Inverse { framework, agent, machine, offer, willing, answered_us };
                self.now.inverse.put(row, new);
            }
            Fact::InverseGone { row } => {
                self.now.inverse.remove(row);
            }
            Fact::AgentResources { row, ref resources } => {
                let resources = Resources::of(resources);
                self.now.agents.change(row, |agent| agent.resources = resources);
            }
            Fact::Operation { row, framework, agent, ref operation } => {
                let operation = Operation::of(framework, agent, operation);
                self.now.operations.put(row, operation);
            }
            Fact::OperationState { row, ref status } => {
                self.now.operations.change(row, |one| one.told(status));
            }
            Fact::OperationGone { row } => {
                self.now.operations.remove(row);
            }
            Fact::Weight { role, weight } => {
                let weights = Arc::make_mut(&mut self.now.weights);
                if weight == WEIGHT_ONE {
                    weights.remove(role);
                } else {
                    weights.insert(role.into(), weight);
                }
            }
        }
    }

    /// Whoever has a task says what its executor is. O(executors).
    fn describe_executor(&mut self, task: &Task) {
        if task.executor.is_empty() || task.public.is_empty() {
            return;
        }
        let lacks =
            |one: &Executor| one.of_task.is_empty() && one.name == task.executor && one.is_at(task);
        let found = self.now.executors.iter().find(|(_, one)| lacks(one)).map(|(id, _)| id);
        if let Some(id) = found {
            self.now.executors.change(id, |one| one.of_task = Arc::clone(&task.public));
        }
    }

    fn agent_state(&mut self, row: Id, state: AgentState, wall_us: u64) {
        if let Some(agent) = self.now.agents.get(row) {
            self.now.happened.to(agent, state);
        }
        self.now.agents.change(row, |agent| agent.enter(state, wall_us));
        if matches!(state, AgentState::Active | AgentState::Gone) {
            self.settle_unreachable(row, state == AgentState::Gone);
        }
    }

    /// Tasks of an agent that came back are where it said that they are; those of one that never
    /// will are over.
    fn settle_unreachable(&mut self, row: Id, over: bool) {
        let Some(id) = self.now.agents.get(row).map(|agent| agent.id) else { return };
        if self.now.unreachable.iter().all(|one| one.agent_id != id) {
            return;
        }
        let all = std::mem::take(Arc::make_mut(&mut self.now.unreachable));
        let (theirs, others): (VecDeque<_>, VecDeque<_>) =
            all.into_iter().partition(|one| one.agent_id == id);
        self.now.unreachable = Arc::new(others);
        for one in theirs {
            self.remembered_bytes -= one.bytes();
            if over {
                self.remember(one, false);
            }
        }
    }

    /// A task is over, or its agent does not answer: it goes to those that are remembered for a
    /// while.
    fn complete(&mut self, task: Task) {
        let (agent, framework) =
            (self.now.agents.get(task.agent), self.now.frameworks.get(task.framework));
        let (Some(agent), Some(framework)) = (agent, framework) else { return };
        let lost_sight = matches!(agent.state, AgentState::Losing | AgentState::Unreachable);
        let completed = Completed {
            agent_id: agent.id,
            agent: agent.info.info().map_or("", |info| info.hostname).into(),
            framework_id: framework.id,
            framework: framework.name.clone(),
            caller: framework.caller.clone(),
            user: framework.of_user().into(),
            task,
        };
        // Told as lost to who knows of no other word.
        let lost = completed.task.state == TaskState::Lost && lost_sight;
        let unreachable = completed.task.state == TaskState::Unreachable || lost;
        self.remember(completed, unreachable);
    }

    fn remember(&mut self, one: Completed, unreachable: bool) {
        self.remembered_bytes += one.bytes();
        let (all, max) = if unreachable {
            (&mut self.now.unreachable, UNREACHABLE_MAX)
        } else {
            (&mut self.now.completed, COMPLETED_MAX)
        };
        let all = Arc::make_mut(all);
        all.push_back(one);
        // The newest is remembered however large it is.
        while all.len() > max || (self.remembered_bytes > COMPLETED_BYTES_MAX && all.len() > 1) {
            let oldest = all.pop_front();
            self.remembered_bytes -= oldest.map_or(0, |oldest| oldest.bytes());
        }
    }

    /// The newest task of this name that is unreachable or over, of this framework if one is given.
    pub(crate) fn completed(&self, framework: FrameworkId, name: &str) -> Option<&Completed> {
        let mut tasks = self.now.unreachable.iter().rev().chain(self.now.completed.iter().rev());
        tasks.find(|one| {
            *one.task.name == *name && (framework.is_none() || one.framework_id == framework)
        })
    }

    fn forget_name(&mut self, name: &str, row: Id) {
        let Some(ids) = self.tasks_by_name.get_mut(name) else { return };
        ids.retain(|&id| id != row);
        if ids.is_empty() {
            self.tasks_by_name.remove(name);
        }
    }

    /// Names and values of what it holds.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 13] {
        [
            ("catalog_completed_tasks", self.now.completed.len() as u64),
            ("catalog_completed_tasks_max", COMPLETED_MAX as u64),
            ("catalog_unreachable_tasks", self.now.unreachable.len() as u64),
            ("catalog_unreachable_tasks_max", UNREACHABLE_MAX as u64),
            ("catalog_completed_frameworks", self.now.completed_frameworks.len() as u64),
            ("catalog_completed_frameworks_max", COMPLETED_FRAMEWORKS_MAX as u64),
            ("catalog_completed_bytes", self.remembered_bytes as u64),
            ("catalog_completed_bytes_max", COMPLETED_BYTES_MAX as u64),
            ("catalog_agents", self.now.agents.len() as u64),
            ("catalog_frameworks", self.now.frameworks.len() as u64),
            ("catalog_tasks", self.now.tasks.len() as u64),
            ("catalog_executors", self.now.executors.len() as u64),
            ("catalog_offers", self.now.offers.len() as u64),
        ]
    }
}

#[cfg(test)]
mod tests {
    use mesita_core::wire::event::AgentInfo;
    use mesita_core::wire::{Seq, Session};

    use super::*;

    #[test]
    fn an_agent_is_in_what_a_stream_begins_with_or_told_as_added_and_never_both() {
        let (mut catalog, row) = (Catalog::default(), Id { index: 0, generation: 1 });
        let info = AgentInfo {
            agent: AgentId { epoch: 1, number: 1 },
            hostname: "",
            region: "",
            zone: "",
            attributes: Seq::EMPTY,
            address: "",
        };
        let (resources, session) = (Seq::EMPTY, Session::default());
        let came = Fact::Agent { row, info, resources, session, tasks_max: 0, task_kinds: 0 };
        let mut told = |fact: &Fact<'_>| {
            catalog.fold(fact, 1, &[], |_| Arc::from([]));
            (catalog.now.agents.len(), catalog.now.told_first().agents.len())
        };
        assert_eq!(told(&came), (1, 0));
        let mut state = |state| told(&Fact::AgentState { row, state });
        assert_eq!(state(AgentState::Settling), (1, 0));
        assert_eq!(state(AgentState::Confirming), (1, 0), "it is added when it is active");
        assert_eq!(state(AgentState::Active), (1, 1));
        assert_eq!(state(AgentState::Away), (1, 1), "it was there all the time");
        assert_eq!(state(AgentState::Confirming), (1, 1));
        assert_eq!(state(AgentState::Recovered), (1, 1), "among those that are not back");
    }
}
