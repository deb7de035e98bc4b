//! Containers that the core knows, and what is known of each.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use event_listener::Event;
use mesita_core::agent::ledger::Record;
use mesita_core::wire::task::{Kind, TaskOf};
use mesita_core::wire::{AgentId, ContainerId, FrameworkId};
use mesita_isolation::cgroups::At;
use mesita_isolation::images::Provisioner;
use mesita_isolation::keeper::protocol::{Ended, Left};
use mesita_isolation::{Isolation, sandbox};
use smol::lock::Semaphore;

use super::build::{Names, Plan};
use super::docker;
use super::inner::Stdio;
use super::limited::Limited;
use super::tokens::Tokens;
use crate::access::ForTasks;
use crate::pb::mesos::v1::TaskStatus;

/// Containers that are remembered after their end.
pub(super) const RECENT_MAX: usize = 128;
/// Containers of one agent.
pub(crate) struct Containers {
    /// What every task finds in its environment.
    for_tasks: ForTasks,
    pub(super) isolation: Arc<Isolation<'static>>,
    pub(super) provisioner: Option<Arc<Provisioner>>,
    pub(super) work_dir: PathBuf,
    tokens: Tokens,
    pub(super) switch_user: bool,
    hands: Semaphore,
    hands_max: usize,
    pub(super) known: RefCell<BTreeMap<ContainerId, Rc<Container>>>,
    /// Those that the core has forgotten last, for who asks late what they used.
    pub(super) recent: RefCell<VecDeque<(ContainerId, Rc<Container>)>>,
    /// The agent's id, and its cluster; none until it was admitted.
    id: Cell<Option<(AgentId, u64)>>,
    /// Sandboxes that are to go, by when.
    pub(super) garbage: RefCell<BTreeSet<(u64, At)>>,
    pub(super) garbage_changed: Event,
    /// How old they may become, in µs, as the disk was when it was looked at last.
    pub(super) age_max_us: Cell<u64>,
    /// Sandboxes that were removed, or could not be.
    pub(super) removed: Cell<u64>,
    pub(super) stuck: Cell<u64>,
    /// Launches that failed, and containers that could not be ended, or not without a trace.
    pub(super) unlaunched: Cell<u64>,
    pub(super) unkilled: Cell<u64>,
    /// Containers that only held others, and are being removed.
    pub(super) clearing: Cell<u32>,
    pub(super) cleared: Event,
}

/// A container that the core knows.
#[derive(Default)]
pub(crate) struct Container {
    pub(super) framework: Cell<FrameworkId>,
    pub(super) task: RefCell<String>,
    pub(super) executor: RefCell<String>,
    pub(super) user: RefCell<String>,
    /// The executor's container that it is inside of.
    pub(super) inside: Cell<Option<ContainerId>>,
    /// It has no process, and others are inside of it.
    pub(super) holds: Cell<bool>,
    /// The limit it ran into while it ran.
    pub(super) limited: RefCell<Option<Limited>>,
    /// What updates of its task carry.
    pub(super) carried: RefCell<TaskStatus>,
    /// How it ended.
    pub(super) ended: Cell<Option<Ended>>,
    /// Nothing of it runs, nor will: it ended, never began, or is forgotten.
    pub(super) over: Cell<bool>,
    /// Why it may not be, though its process was started: that ends.
    pub(super) unisolated: RefCell<Option<String>>,
    /// Its process was started.
    pub(super) started: Cell<bool>,
    /// That process, as the agent sees it.
    pub(super) pid: Cell<Option<u32>>,
    /// It is not to be started any more, if it was not yet.
    pub(super) abandoned: Cell<bool>,
    /// Tasks that the executor in it is not to be given, and why.
    pub(super) unfit: RefCell<BTreeMap<String, String>>,
    /// What it used in all, for people.
    pub(super) summary: RefCell<String>,
    /// Told when anything of this changes.
    pub(super) changed: Event,
    pub(super) steps: RefCell<VecDeque<Step>>,
    pub(super) busy: Cell<bool>,
    /// Its terminal, and who reads what is written there.
    pub(super) stdio: RefCell<Option<Rc<Stdio>>>,
    pub(super) pumped: RefCell<Option<smol::Task<()>>>,
    /// Its process waits for the word to become its program, and was not looked at yet.
    pub(super) waits: Cell<Option<u32>>,
    /// What the keeper said of the launch.
    pub(super) launched: RefCell<Option<Result<u32, String>>>,
    /// What is known of it, if a Docker engine has it.
    pub(super) docker: OnceCell<docker::Of>,
}

/// What is said of a container when it comes to be known.
#[derive(Default)]
pub(super) struct About<'a> {
    pub(super) task: &'a str,
    pub(super) executor: &'a str,
    pub(super) user: &'a str,
    pub(super) inside: Option<ContainerId>,
}

/// One thing to be done to a container.
pub(super) enum Step {
    Launch(Box<Plan>),
    /// It runs: the kernel tells when it runs into a limit.
    Watch,
    /// What it holds is more, or less.
    Resize,
    /// Kills all of it.
    Kill,
    /// It ended: what is left goes.
    Finish(Ended),
}

impl Containers {
    pub(super) fn new(
        isolation: Arc<Isolation<'static>>,
        provisioner: Option<Arc<Provisioner>>,
        work_dir: PathBuf,
        tokens: Tokens,
        hands: usize,
        switch_user: bool,
        for_tasks: ForTasks,
    ) -> Self {
        Self {
            isolation,
            provisioner,
            work_dir,
            tokens,
            for_tasks,
            switch_user: switch_user && rustix::process::geteuid().is_root(),
            hands: Semaphore::new(hands.max(1)),
            hands_max: hands.max(1),
            known: RefCell::default(),
            recent: RefCell::default(),
            id: Cell::default(),
            garbage: RefCell::default(),
            garbage_changed: Event::new(),
            age_max_us: Cell::default(),
            removed: Cell::default(),
            stuck: Cell::default(),
            unlaunched: Cell::default(),
            unkilled: Cell::default(),
            clearing: Cell::default(),
            cleared: Event::new(),
        }
    }

    /// The isolators that are on.
    pub(super) fn isolators(&self) -> Vec<&'static str> {
        self.isolation.names()
    }

    /// What holds containers.
    pub(super) fn isolation(&self) -> Arc<Isolation<'static>> {
        Arc::clone(&self.isolation)
    }

    /// Tasks run as their users.
    pub(super) fn switches_user(&self) -> bool {
        self.switch_user
    }

    /// The agent is known by this id now.
    pub(super) fn named(&self, id: AgentId, cluster: u64) {
        self.id.set(Some((id, cluster)));
    }

    /// The agent's id, and its cluster.
    pub(super) fn id(&self) -> Option<(AgentId, u64)> {
        self.id.get()
    }

    /// The framework of a container that is known.
    pub(super) fn framework_of(&self, id: ContainerId) -> Option<FrameworkId> {
        let framework = self.get(id)?.framework.get();
        (!framework.is_none()).then_some(framework)
    }

    /// True once a container's process was started.
    pub(super) fn has_started(&self, id: ContainerId) -> bool {
        self.get(id).is_some_and(|container| container.started.get())
    }

    /// The process of a container that runs.
    pub(super) fn pid(&self, id: ContainerId) -> Option<u32> {
        self.get(id).filter(|container| !container.is_over())?.pid.get()
    }

    /// The container of a running executor.
    pub(super) fn of_executor(
        &self,
        framework: FrameworkId,
        executor: &str,
    ) -> Option<ContainerId> {
        let known = self.known.borrow();
        let of = known.iter().rev().find(|(_, container)| {
            container.framework.get() == framework
                && *container.executor.borrow() == executor
                && !executor.is_empty()
                && container.inside.get().is_none()
        });
        of.map(|(id, _)| *id)
    }

    /// What a record of the ledger says about containers.
    pub(super) fn recovered(&self, record: &Record<'_>) {
        if let Record::Task { framework, container, launch, user, .. } = record {
            let task = launch.task;
            match (launch.kind, launch.executor) {
                (Kind::Group { .. }, Some(executor)) => {
                    let inside = self.of_executor(*framework, executor.id);
                    let names = About { task, executor: executor.id, user, inside };
                    self.about(*container, *framework, &names);
                }
                // Of an executor everything is known that is to be known.
                (Kind::Executor | Kind::Given { .. }, _) => {}
                _ => self.about(*container, *framework, &About { task, user, ..About::default() }),
            }
        }
        if let Record::Attempt { task, container, .. } = record {
            self.about_again(*container, task);
        }
        if let Record::Executor { framework, container, executor, user, .. } = record {
            let names = About { executor: executor.id, user, ..About::default() };
            self.about(*container, *framework, &names);
        }
    }

    /// A task was started again: its new container is for what the one before was for.
    fn about_again(&self, id: ContainerId, task: &TaskOf<'_>) {
        let is = |one: &&Rc<Container>| {
            one.framework.get() == task.framework && *one.task.borrow() == task.task
        };
        let before = self.known.borrow().values().find(is).cloned();
        let Some(before) = before else { return };
        let user = before.user.borrow().clone();
        self.about(id, task.framework, &About { task: task.task, user: &user, ..About::default() });
    }

    pub(super) fn about(&self, id: ContainerId, framework: FrameworkId, names: &About<'_>) {
        let container = self.entry(id);
        container.framework.set(framework);
        container.inside.set(names.inside);
        names.task.clone_into(&mut container.task.borrow_mut());
        names.executor.clone_into(&mut container.executor.borrow_mut());
        names.user.clone_into(&mut container.user.borrow_mut());
        if let Some(around) = names.inside {
            let around = self.entry(around);
            around.holds.set(true);
            around.framework.set(framework);
            names.executor.clone_into(&mut around.executor.borrow_mut());
        }
    }

    /// Where a container is.
    pub(super) fn at(&self, id: ContainerId) -> At {
        At { inside: self.get(id).and_then(|container| container.inside.get()), id }
    }

    /// A container that ran on while the agent was away.
    pub(super) fn runs(&self, id: ContainerId) {
        self.entry(id).started.set(true);
    }

    /// A container that a Docker engine has.
    pub(super) fn is_of_docker(&self, id: ContainerId) -> Rc<Container> {
        let container = self.entry(id);
        container.docker.get_or_init(docker::Of::default);
        container
    }

    /// Those that a Docker engine has.
    pub(super) fn docker_ids(&self) -> Vec<ContainerId> {
        let known = self.known.borrow();
        known.iter().filter(|(_, one)| one.docker().is_some()).map(|(id, _)| *id).collect()
    }

    pub(super) fn entry(&self, id: ContainerId) -> Rc<Container> {
        Rc::clone(self.known.borrow_mut().entry(id).or_default())
    }

    /// The container with this id, also for a while after its end.
    pub(super) fn get(&self, id: ContainerId) -> Option<Rc<Container>> {
        let known = self.known.borrow().get(&id).map(Rc::clone);
        known.or_else(|| {
            let recent = self.recent.borrow();
            recent.iter().find(|(of, _)| *of == id).map(|(_, container)| Rc::clone(container))
        })
    }

    /// The newest container of a task of this name, of this framework if one is given.
    pub(super) fn of_task(&self, framework: FrameworkId, task: &str) -> Option<ContainerId> {
        let of = |container: &Container| {
            let owner = container.framework.get();
            *container.task.borrow() == task && (framework.is_none() || owner == framework)
        };
        let (known, recent) = (self.known.borrow(), self.recent.borrow());
        let known = known.iter().rev().find(|(_, container)| of(container)).map(|(id, _)| *id);
        let recent = recent.iter().rev().find(|(_, container)| of(container)).map(|(id, _)| *id);
        known.or(recent)
    }

    /// Ends what a dead keeper left of a container. Blocks until it is gone.
    pub(super) fn kill_left(&self, left: &Left) -> Result<(), mesita_isolation::Error> {
        self.isolation.kill_left(self.at(left.container), left)
    }

    /// Where a container's files are.
    pub(super) fn sandbox(&self, at: impl Into<At>) -> PathBuf {
        sandbox::path(&self.work_dir, at)
    }

    /// What a container is, by its names.
    pub(super) fn names(&self, id: ContainerId) -> Names {
        let (agent, cluster) = self.id.get().unwrap_or_default();
        let Some(container) = self.get(id) else { return Names::default() };
        Names {
            user: container.user.borrow().clone(),
            framework: container.framework.get().shown(cluster).to_string(),
            task: container.task.borrow().clone(),
            executor: container.executor.borrow().clone(),
            for_tasks: self.for_tasks.clone(),
            role: String::new(),
            ip: String::new(),
            agent: if agent.is_none() { String::new() } else { agent.shown(cluster).to_string() },
        }
    }

    /// What only the executor in this container is given to prove that it is there.
    pub(super) fn token(&self, id: ContainerId) -> [u8; 16] {
        self.tokens.give(id)
    }

    /// The container of an executor that shows the right token.
    pub(super) fn proves(&self, framework: FrameworkId, executor: &str, token: &[u8]) -> bool {
        let known = self.known.borrow();
        known.iter().any(|(id, container)| {
            container.framework.get() == framework
                && *container.executor.borrow() == executor
                && !executor.is_empty()
                && container.inside.get().is_none()
                && self.tokens.proves(*id, token)
        })
    }

    /// True for the container of an executor that has a process.
    pub(super) fn is_executor(&self, id: ContainerId) -> bool {
        self.known.borrow().get(&id).is_some_and(|container| container.is_executor())
    }

    /// True where executors run that have a process.
    pub(super) fn has_executors(&self) -> bool {
        let runs = |known: &Container| known.is_executor() && !known.is_over();
        self.known.borrow().values().any(|container| runs(container))
    }

    /// The container of the executor that has this token.
    pub(super) fn proved(&self, token: &[u8]) -> Option<ContainerId> {
        let known = self.known.borrow();
        let mut executors = known.iter().filter(|(_, container)| container.is_executor());
        let of = executors.find(|(id, _)| self.tokens.proves(**id, token));
        of.map(|(id, _)| *id)
    }

    /// Waits until nothing is removed any more.
    pub(super) async fn all_cleared(&self) {
        loop {
            let cleared = self.cleared.listen();
            if self.clearing.get() == 0 {
                return;
            }
            cleared.await;
        }
    }

    /// Containers, and how many hands are busy.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 4] {
        let busy = self.known.borrow().values().filter(|container| container.busy.get()).count();
        [
            ("containers_len", self.known.borrow().len() as u64),
            ("containers_busy", busy as u64),
            ("hands_max", self.hands_max as u64),
            ("sandboxes_kept", self.garbage.borrow().len() as u64),
        ]
    }

    /// The same for Mesos' metrics, and what went wrong since the agent began.
    pub(super) fn metrics(&self) -> [(&'static str, u64); 5] {
        [
            ("gc/path_removals_pending", self.garbage.borrow().len() as u64),
            ("gc/path_removals_succeeded", self.removed.get()),
            ("gc/path_removals_failed", self.stuck.get()),
            ("slave/container_launch_errors", self.unlaunched.get()),
            ("containerizer/mesos/container_destroy_errors", self.unkilled.get()),
        ]
    }

    /// Does something blocking, when a hand is free.
    pub(super) async fn by_hand<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let _hand = self.hands.acquire().await;
        blocking::unblock(what).await
    }
}

pub(super) fn count(one: &Cell<u64>) {
    one.set(one.get() + 1);
}

/// Compares without telling by the time it takes where two differ.
impl Container {
    /// True when it writes nothing any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    fn is_executor(&self) -> bool {
        let named = !self.executor.borrow().is_empty();
        named && self.inside.get().is_none() && !self.holds.get()
    }

    /// True when it has no process of its own.
    pub(super) fn is_empty(&self) -> bool {
        self.holds.get()
    }

    /// What is known of it, if a Docker engine has it.
    pub(super) fn docker(&self) -> Option<&docker::Of> {
        self.docker.get()
    }

    /// Its process, as the agent sees it; 0 = it has none.
    pub(super) fn set_pid(&self, pid: u32) {
        self.pid.set((pid != 0).then_some(pid));
    }

    pub(super) fn set_over(&self) {
        self.over.set(true);
        self.changed.notify(usize::MAX);
    }

    /// Waits for what the keeper says of its launch.
    pub(super) async fn launched(&self) -> Result<u32, String> {
        loop {
            let changed = self.changed.listen();
            let launched = self.launched.borrow_mut().take();
            match launched {
                Some(launched) => return launched,
                None => changed.await,
            }
        }
    }

    /// Waits until its process waits itself; none: it has been said what became of the launch.
    pub(super) async fn waits(&self) -> Option<u32> {
        loop {
            let changed = self.changed.listen();
            if self.launched.borrow().is_some() {
                return None;
            }
            if let Some(pid) = self.waits.take() {
                return Some(pid);
            }
            changed.await;
        }
    }

    /// Waits until it is not to be started any more.
    pub(super) async fn abandoned(&self) {
        loop {
            let changed = self.changed.listen();
            if self.abandoned.get() {
                return;
            }
            changed.await;
        }
    }

    /// What it used, once it ended.
    pub(super) fn summary(&self) -> String {
        self.summary.borrow().clone()
    }

    /// Waits until something of it changes.
    pub(super) fn changed(&self) -> event_listener::EventListener {
        self.changed.listen()
    }
}
