//! What tasks and executors there are, for who asks: read off the records of the ledger as they
//! are written, for the core tells nobody else.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mesita_core::agent::ledger::Record;
use mesita_core::wire::task::TaskState;
use mesita_core::wire::{Body, ContainerId, FrameworkId};

use crate::clock;
use crate::encoded::Resources;

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
    pub(super) resources: Resources,
    pub(super) public: Arc<[u8]>,
    /// What was told of it last; a command that was accepted and of whose end nothing is known
    /// yet runs, or is about to.
    pub(super) state: TaskState,
    /// When, in µs of Unix time.
    pub(super) told_us: u64,
}

/// An executor.
#[derive(Clone, Debug)]
pub(super) struct ExecutorRow {
    pub(super) framework: FrameworkId,
    pub(super) name: String,
    pub(super) container: ContainerId,
    pub(super) resources: Resources,
}

/// All of them.
#[derive(Default)]
pub(super) struct Tally {
    tasks: RefCell<BTreeMap<(FrameworkId, String), Row>>,
    executors: RefCell<BTreeMap<(FrameworkId, String), ExecutorRow>>,
    completed: RefCell<VecDeque<Row>>,
}

impl Tally {
    /// Takes in a record; `bytes` gives the bytes of a body that it names.
    pub(super) fn noted(&self, record: &Record<'_>, bytes: impl Fn(Body) -> Arc<[u8]>) {
        match record {
            Record::Task { framework, role, container, launch, .. } => {
                let known = self.executor_of(*framework, *container);
                let row = Row {
                    framework: *framework,
                    name: launch.task.to_owned(),
                    executor: known.unwrap_or_default(),
                    role: (*role).to_owned(),
                    container: *container,
                    resources: Resources::of(&launch.resources),
                    public: bytes(launch.public),
                    state: TaskState::Staging,
                    told_us: clock::wall_us(),
                };
                self.tasks.borrow_mut().insert((row.framework, row.name.clone()), row);
            }
            Record::Executor { framework, container, executor, .. } => {
                let row = ExecutorRow {
                    framework: *framework,
                    name: executor.id.to_owned(),
                    container: *container,
                    resources: Resources::of(&executor.resources),
                };
                self.executors.borrow_mut().insert((row.framework, row.name.clone()), row);
            }
            Record::ExecutorGone { framework, executor } => {
                self.executors.borrow_mut().remove(&(*framework, (*executor).to_owned()));
            }
            Record::Attempt { task, container, .. } => {
                let key = (task.framework, task.task.to_owned());
                if let Some(row) = self.tasks.borrow_mut().get_mut(&key) {
                    (row.container, row.state) = (*container, TaskState::Staging);
                }
            }
            Record::Update { framework, status, .. } => {
                let key = (*framework, status.task.to_owned());
                if let Some(row) = self.tasks.borrow_mut().get_mut(&key) {
                    (row.state, row.told_us) = (status.state, status.wall_us);
                }
            }
            Record::Acknowledged { task, .. } | Record::Forgotten { task } => {
                self.settled(task.framework, task.task, matches!(record, Record::Forgotten { .. }));
            }
            Record::FrameworkGone { framework } => {
                self.tasks.borrow_mut().retain(|(of, _), _| of != framework);
                self.executors.borrow_mut().retain(|(of, _), _| of != framework);
            }
            Record::SnapshotBegins => {
                self.tasks.borrow_mut().clear();
                self.executors.borrow_mut().clear();
            }
            Record::Started { .. }
            | Record::Admitted { .. }
            | Record::Fence(_)
            | Record::Framework(_)
            | Record::Kill { .. }
            | Record::Resources { .. }
            | Record::Operation { .. }
            | Record::OperationAcknowledged { .. }
            | Record::Stamp { .. }
            | Record::Settled { .. }
            | Record::SnapshotEnds
            | Record::Draining { .. }
            | Record::Unhealthy { .. }
            | Record::Reactivated
            | Record::Limits { .. } => {}
        }
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
        completed.push_back(row);
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

    /// What everybody may see of the task in a container; empty if there is none.
    pub(super) fn public_of(&self, container: ContainerId) -> Arc<[u8]> {
        let tasks = self.tasks.borrow();
        let of = tasks.values().find(|row| row.container == container && row.executor.is_empty());
        of.map_or_else(|| Arc::from([]), |row| Arc::clone(&row.public))
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
