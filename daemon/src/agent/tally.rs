//! What tasks and executors there are, for who asks: read off the records of the ledger as they
//! are written, for the core tells nobody else.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mesita_core::agent::ledger::Record;
use mesita_core::wire::task::{self as wire, TaskState};
use mesita_core::wire::{Body, ContainerId, FrameworkId};
use mesita_isolation::cgroups::At;
use prost::Message;

use super::volumes::Held;
use crate::catalog::rows::{Carried, Status, keep_status};
use crate::clock;
use crate::command::without_secrets;
use crate::encoded::{Encoded, Resources};
use crate::pb::mesita::{TaskPrivate, TaskPublic};
use crate::pb::mesos::v1 as pb;
use crate::v1::tasks::command_name;

/// Tasks that are remembered after their end was acknowledged. Mesos: 200 for each executor.
const COMPLETED_MAX: usize = 200;

/// A task.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) framework: FrameworkId,
    pub(super) name: String,
    /// Empty for a command.
    pub(super) executor: String,
    pub(super) role: String,
    pub(super) container: ContainerId,
    /// Its executor's container, if it is inside of that.
    pub(super) inside: Option<ContainerId>,
    pub(super) resources: Resources,
    /// How far above that it may go, in thousandths, by cpus and mem; 0 = not at all.
    limits: [u64; 2],
    pub(super) public: Arc<[u8]>,
    /// Empty once it is over.
    private: Arc<[u8]>,
    /// What was told of it last; a command that was accepted and of whose end nothing is known
    /// yet runs, or is about to.
    pub(super) state: TaskState,
    /// When, in µs of Unix time.
    pub(super) told_us: u64,
    /// What is known to have been told of it, the oldest first.
    pub(super) statuses: Vec<(TaskState, Status)>,
    /// The name of the executor that a command runs under; empty for others.
    pub(super) command: String,
}

impl Row {
    /// The agent runs it: no executor of its framework does.
    pub(super) fn has_own_container(&self) -> bool {
        self.executor.is_empty() || self.inside.is_some()
    }

    /// An executor of its framework runs it, in that one's container.
    pub(super) fn is_given(&self) -> bool {
        !self.has_own_container()
    }

    /// The volumes that it holds, where it finds them.
    pub(super) fn volumes(&self) -> Vec<Held> {
        let held = Held::among(&self.resources.list());
        let asked = || TaskPrivate::decode(&*self.private).unwrap_or_default().volumes;
        if held.is_empty() { held } else { Held::placed(held, &asked()) }
    }

    /// One more thing was told of it.
    fn keep(&mut self, status: &wire::Status<'_>, sequence: u64, public: Arc<[u8]>) {
        let detail = status.detail();
        let new = Status {
            source: status.source,
            reason: detail.reason,
            message: detail.message.into(),
            healthy: detail.healthy,
            told_us: status.wall_us,
            more: Carried::of(&public).more,
            public,
            pid: None,
            ip: None,
            uuid: Some(sequence),
        };
        keep_status(&mut self.statuses, status.state, new);
    }

    fn has_told(&self, sequence: u64) -> bool {
        self.statuses.iter().any(|(_, one)| one.uuid == Some(sequence))
    }

    /// Where its container is.
    pub(super) fn at(&self) -> At {
        At { inside: self.inside, id: self.container }
    }
}

/// An executor.
#[derive(Clone, Debug)]
pub(super) struct ExecutorRow {
    pub(super) framework: FrameworkId,
    pub(super) name: String,
    pub(super) container: ContainerId,
    pub(super) role: String,
    pub(super) resources: Resources,
    /// Its description.
    pub(super) info: Arc<[u8]>,
}

impl ExecutorRow {
    /// As its framework described it, but for what is secret.
    pub(super) fn described(&self) -> pb::ExecutorInfo {
        let info = pb::ExecutorInfo::decode(&*self.info).unwrap_or_default();
        pb::ExecutorInfo { command: info.command.as_ref().map(without_secrets), ..info }
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Tally {
    tasks: RefCell<BTreeMap<(FrameworkId, String), Row>>,
    executors: RefCell<BTreeMap<(FrameworkId, String), ExecutorRow>>,
    completed: RefCell<VecDeque<Row>>,
    /// Ends of tasks by their state, and of executors, since the agent began.
    ended: RefCell<[u64; 14]>,
    executors_ended: Cell<u64>,
    drain: Cell<Option<Drain>>,
    /// Ends of operations that nobody acknowledged, as the wire has them.
    operations: RefCell<BTreeMap<(FrameworkId, String), Encoded>>,
}

/// How the agent is being emptied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    /// No task gets more grace than this, in µs; none = what each says.
    pub(super) grace_us: Option<u64>,
    /// It will be marked gone.
    pub(super) gone: bool,
    /// Since when, in µs of Unix time, as far as this start of the agent knows.
    pub(super) since_us: u64,
}

impl Tally {
    /// Takes in a record; `bytes` gives the bytes of a body that it names. True when it is of a task
    /// that is new.
    pub(super) fn noted(&self, record: &Record<'_>, bytes: impl Fn(Body) -> Arc<[u8]>) -> bool {
        match record {
            Record::Task { framework, role, container, launch, .. } => {
                let grouped = launch.executor.and_then(|executor| {
                    let executors = self.executors.borrow();
                    Some(executors.get(&(*framework, executor.id.to_owned()))?.container)
                });
                let known = self.executor_of(*framework, grouped.unwrap_or(*container));
                let private = TaskPrivate::decode(&*bytes(launch.private)).unwrap_or_default();
                let key = (*framework, launch.task.to_owned());
                // A snapshot says again what is known, and less of it.
                if self.tasks.borrow().get(&key).is_some_and(|row| row.container == *container) {
                    return false;
                }
                let row = Row {
                    statuses: Vec::new(),
                    command: match known {
                        Some(_) => String::new(),
                        None => command_name(launch.task, &private.command.unwrap_or_default()),
                    },
                    framework: *framework,
                    name: launch.task.to_owned(),
                    executor: known.unwrap_or_default(),
                    inside: grouped,
                    role: (*role).to_owned(),
                    container: *container,
                    resources: Resources::of(&launch.resources),
                    limits: above(launch),
                    public: bytes(launch.public),
                    private: bytes(launch.private),
                    state: TaskState::Staging,
                    told_us: clock::wall_us(),
                };
                self.tasks.borrow_mut().insert(key, row);
                return true;
            }
            Record::Executor { framework, container, executor, role, .. } => {
                let row = ExecutorRow {
                    framework: *framework,
                    name: executor.id.to_owned(),
                    container: *container,
                    role: (*role).to_owned(),
                    resources: Resources::of(&executor.resources),
                    info: bytes(executor.body),
                };
                self.executors.borrow_mut().insert((row.framework, row.name.clone()), row);
            }
            Record::ExecutorGone { framework, executor } => {
                let gone = (*framework, (*executor).to_owned());
                if self.executors.borrow_mut().remove(&gone).is_some() {
                    self.executors_ended.set(self.executors_ended.get() + 1);
                }
            }
            Record::Attempt { task, container, .. } => {
                let key = (task.framework, task.task.to_owned());
                // A snapshot says again what is known.
                if let Some(row) = self.tasks.borrow_mut().get_mut(&key)
                    && row.container != *container
                {
                    (row.container, row.state) = (*container, TaskState::Staging);
                }
            }
            Record::Update { framework, sequence, status, .. } => {
                let key = (*framework, status.task.to_owned());
                if let Some(row) = self.tasks.borrow_mut().get_mut(&key) {
                    (row.state, row.told_us) = (status.state, status.wall_us);
                    if !row.has_told(*sequence) {
                        if status.state.is_terminal() {
                            self.ended.borrow_mut()[status.state as usize] += 1;
                            let command = u64::from(row.executor.is_empty());
                            self.executors_ended.set(self.executors_ended.get() + command);
                        }
                        row.keep(status, *sequence, bytes(status.detail().public));
                    }
                }
            }
            // An update of the file before, if it is news.
            Record::Said { framework, status, .. } => {
                let key = (*framework, status.task.to_owned());
                let sequence = status.uuid.unwrap_or(0);
                if let Some(row) = self.tasks.borrow_mut().get_mut(&key)
                    && !row.has_told(sequence)
                {
                    row.keep(status, sequence, bytes(status.detail().public));
                    if !row.state.is_terminal() {
                        (row.state, row.told_us) = (status.state, status.wall_us);
                    }
                }
            }
            Record::Told { task, state } => {
                let key = (task.framework, task.task.to_owned());
                if let Some(row) = self.tasks.borrow_mut().get_mut(&key)
                    && !row.state.is_terminal()
                {
                    row.state = *state;
                }
            }
            Record::Acknowledged { task, .. } | Record::Forgotten { task } => {
                self.settled(task.framework, task.task, matches!(record, Record::Forgotten { .. }));
            }
            Record::Draining { grace_us, gone } => {
                let (grace_us, gone) = (*grace_us, *gone);
                let since_us = self.drain.get().map_or_else(clock::wall_us, |one| one.since_us);
                self.drain.set(Some(Drain { grace_us, gone, since_us }));
            }
            Record::Reactivated => self.drain.set(None),
            Record::FrameworkGone { framework } => {
                self.tasks.borrow_mut().retain(|(of, _), _| of != framework);
                self.executors.borrow_mut().retain(|(of, _), _| of != framework);
            }
            Record::Operated { framework, status, .. }
            | Record::Operation { framework, status, .. } => {
                let key = (*framework, status.operation.operation.to_owned());
                self.operations.borrow_mut().insert(key, Encoded::of(status));
            }
            Record::OperationAcknowledged { framework, operation, .. } => {
                let key = (*framework, operation.operation.to_owned());
                self.operations.borrow_mut().remove(&key);
            }
            Record::SnapshotBegins => self.operations.borrow_mut().clear(),
            Record::SnapshotEnds
            | Record::Started { .. }
            | Record::Admitted { .. }
            | Record::Fence(_)
            | Record::Framework(_)
            | Record::Kill { .. }
            | Record::Resources { .. }
            | Record::Stamp { .. }
            | Record::Settled { .. }
            | Record::Unhealthy { .. }
            | Record::Described { .. }
            | Record::Began { .. }
            | Record::Rebooted { .. }
            | Record::Outlived
            | Record::Limits { .. } => {}
        }
        false
    }

    /// What comes now is counted; what was read of earlier runs is not.
    pub(super) fn count_from_here(&self) {
        *self.ended.borrow_mut() = Default::default();
        self.executors_ended.set(0);
    }

    /// Tasks that ended so since the agent began.
    pub(super) fn ended(&self, state: TaskState) -> u64 {
        self.ended.borrow()[state as usize]
    }

    /// Executors that ended since then, those of commands among them.
    pub(super) fn executors_ended(&self) -> u64 {
        self.executors_ended.get()
    }

    /// A task whose end was acknowledged is over.
    fn settled(&self, framework: FrameworkId, task: &str, forgotten: bool) {
        let key = (framework, task.to_owned());
        let mut tasks = self.tasks.borrow_mut();
        let over = tasks.get(&key).is_some_and(|row| forgotten || row.state.is_terminal());
        if !over {
            return;
        }
        let Some(row) = tasks.remove(&key) else { return };
        let mut completed = self.completed.borrow_mut();
        completed.push_back(Row { private: Arc::from([]), ..row });
        if completed.len() > COMPLETED_MAX {
            completed.pop_front();
        }
    }

    /// The executor in a container.
    fn executor_of(&self, framework: FrameworkId, container: ContainerId) -> Option<String> {
        let executors = self.executors.borrow();
        let of = |row: &&ExecutorRow| row.framework == framework && row.container == container;
        executors.values().find(of).map(|row| row.name.clone())
    }

    /// What the master is told of a task; `latest` is known of it already.
    pub(super) fn told(
        &self,
        framework: FrameworkId,
        latest: TaskState,
        status: &wire::Status<'_>,
        public: impl FnOnce(Body) -> Arc<[u8]>,
    ) {
        let key = (framework, status.task.to_owned());
        let mut tasks = self.tasks.borrow_mut();
        let (Some(row), Some(uuid)) = (tasks.get_mut(&key), status.uuid) else { return };
        if row.has_told(uuid) {
            return;
        }
        row.keep(status, uuid, public(status.detail().public));
        if !row.state.is_terminal() {
            (row.state, row.told_us) = (latest, status.wall_us);
        }
    }

    /// Tasks that live and are run by the executor in a container.
    pub(super) fn given_in(&self, container: ContainerId) -> Vec<Row> {
        let tasks = self.tasks.borrow();
        let lives =
            |row: &&Row| row.container == container && row.is_given() && !row.state.is_terminal();
        tasks.values().filter(lives).cloned().collect()
    }

    /// A task that lives and is run by an executor.
    pub(super) fn given(&self, framework: FrameworkId, task: &str) -> Option<Row> {
        let tasks = self.tasks.borrow();
        let row = tasks.get(&(framework, task.to_owned()))?;
        (row.is_given() && !row.state.is_terminal()).then(|| row.clone())
    }

    /// The executor in a container.
    pub(super) fn executor_in(&self, container: ContainerId) -> Option<ExecutorRow> {
        let executors = self.executors.borrow();
        executors.values().find(|row| row.container == container).cloned()
    }

    /// What everybody may see of the task in a container; empty if there is none.
    pub(super) fn public_of(&self, container: ContainerId) -> Arc<[u8]> {
        self.body_of(container, |row| &row.public)
    }

    /// The private body of a task that the agent runs itself; empty for any other container.
    pub(super) fn private_of(&self, container: ContainerId) -> Arc<[u8]> {
        self.body_of(container, |row| &row.private)
    }

    fn body_of(&self, container: ContainerId, body: impl Fn(&Row) -> &Arc<[u8]>) -> Arc<[u8]> {
        let tasks = self.tasks.borrow();
        let own = |row: &&Row| row.container == container && row.has_own_container();
        let of = tasks.values().find(own);
        of.map_or_else(|| Arc::from([]), |row| Arc::clone(body(row)))
    }

    /// The role that what is in a container is allocated to; empty if nothing is known of it.
    pub(super) fn role_of(&self, container: ContainerId) -> String {
        let (executors, tasks) = (self.executors.borrow(), self.tasks.borrow());
        let of_executor = executors.values().find(|row| row.container == container);
        let of_task = || tasks.values().find(|row| row.container == container);
        let role = of_executor.map(|row| &row.role).or_else(|| Some(&of_task()?.role));
        role.cloned().unwrap_or_default()
    }

    /// What an executor in this container holds, and what those tasks hold that it runs, or that are
    /// inside of it.
    pub(super) fn held_in(&self, around: ContainerId) -> Vec<Resources> {
        self.limited_held_in(around).into_iter().map(|(held, _)| held).collect()
    }

    /// The same, each with how far above that it may go.
    pub(super) fn limited_held_in(&self, around: ContainerId) -> Vec<(Resources, [u64; 2])> {
        let executors = self.executors.borrow();
        let own = executors.values().filter(|row| row.container == around);
        let own = own.map(|row| (row.resources.clone(), [0; 2]));
        let tasks = self.tasks.borrow();
        let inside = |row: &Row| match row.inside {
            Some(of) => of == around,
            None => row.container == around && row.is_given(),
        };
        let lives = |row: &&Row| inside(row) && !row.state.is_terminal();
        let given = tasks.values().filter(lives).map(|row| (row.resources.clone(), row.limits));
        own.chain(given).collect()
    }

    /// The container around a task that lives inside of one.
    pub(super) fn around(&self, framework: FrameworkId, task: &str) -> Option<ContainerId> {
        let tasks = self.tasks.borrow();
        let row = tasks.get(&(framework, task.to_owned()))?;
        row.inside.filter(|_| !row.state.is_terminal())
    }

    /// Some task lives inside of a container.
    pub(super) fn lives_in(&self, around: ContainerId) -> bool {
        let tasks = self.tasks.borrow();
        tasks.values().any(|row| row.inside == Some(around) && !row.state.is_terminal())
    }

    /// A task that lives inside of a container has limits beside what it holds.
    pub(super) fn limited_in(&self, around: ContainerId) -> bool {
        let tasks = self.tasks.borrow();
        let lives = |row: &&Row| row.inside == Some(around) && !row.state.is_terminal();
        tasks.values().filter(lives).any(|row| {
            TaskPublic::decode(&*row.public).is_ok_and(|public| !public.limits.is_empty())
        })
    }

    /// How the agent is being emptied, if it is.
    pub(super) fn drain(&self) -> Option<Drain> {
        self.drain.get()
    }

    /// Ends of operations that nobody acknowledged, with their frameworks.
    pub(super) fn operations(&self) -> Vec<(FrameworkId, Encoded)> {
        let operations = self.operations.borrow();
        operations.iter().map(|((framework, _), one)| (*framework, one.clone())).collect()
    }

    /// Tasks that live, or whose end is not acknowledged.
    pub(super) fn tasks(&self) -> Vec<Row> {
        self.tasks.borrow().values().cloned().collect()
    }

    /// Tasks that are over, the oldest first.
    pub(super) fn completed(&self) -> Vec<Row> {
        self.completed.borrow().iter().cloned().collect()
    }

    /// Executors that live.
    pub(super) fn executors(&self) -> Vec<ExecutorRow> {
        self.executors.borrow().values().cloned().collect()
    }
}

/// How far a task may go above its resources, as the core tells it of those that it has launched.
fn above(task: &wire::Launch<'_>) -> [u64; 2] {
    ["cpus", "mem"].map(|name| {
        let limit = task.limits.iter().find(|limit| limit.name == name);
        limit.map_or(0, |limit| limit.amount.map_or(u64::MAX, |amount| amount.milli()))
    })
}

#[cfg(test)]
mod tests {
    use mesita_core::wire::task::{Kind, Launch, Restart, Status as WireStatus};
    use mesita_core::wire::{AgentId, Seq};

    use super::*;

    #[test]
    fn a_snapshot_says_again_what_is_known_and_changes_nothing() {
        let (tally, framework) = (Tally::default(), FrameworkId { epoch: 1, number: 1 });
        let noted = |record: Record<'_>| tally.noted(&record, |_| Arc::from([]));
        let task = |name, counter| Record::Task {
            framework,
            role: "*",
            user: "",
            container: ContainerId { incarnation: 1, counter },
            launch: launch(name),
        };
        let states = || -> Vec<TaskState> { tally.tasks().iter().map(|row| row.state).collect() };
        assert!(noted(task("a", 1)) && noted(task("b", 2)));
        let status = WireStatus {
            task: "a",
            state: TaskState::Running,
            source: wire::Source::Executor,
            agent: AgentId::NONE,
            uuid: None,
            wall_us: 1,
            detail: None,
        };
        noted(Record::Update { framework, sequence: 1, status, uuid: [0; 16] });
        assert!(!noted(Record::SnapshotBegins));
        assert_eq!(
            states(),
            [TaskState::Running, TaskState::Staging],
            "all of them, at any moment"
        );
        assert!(!noted(task("a", 1)), "it is the one that is known");
        assert_eq!(states()[0], TaskState::Running);
        assert!(noted(task("b", 3)), "it runs in another container: a new one of its name");
    }

    fn launch(task: &str) -> Launch<'_> {
        Launch {
            task,
            agent: AgentId::NONE,
            kind: Kind::Command,
            resources: Seq::EMPTY,
            limits: Seq::EMPTY,
            executor: None,
            user: "",
            grace_us: None,
            completion_us: None,
            restart: Restart::default(),
            public: Body::NONE,
            private: Body::NONE,
        }
    }
}
