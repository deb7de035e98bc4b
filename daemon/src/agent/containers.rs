//! What the core wants done with containers, done by the hands: a bounded number of blocking steps
//! at once, those of one container in order.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use event_listener::Event;
use mesita_core::agent::ledger::Record;
use mesita_core::agent::{Hand, HandLaunch, Input};
use mesita_core::limits::MESSAGE_MAX;
use mesita_core::wire::task::{Kind, Reason, TaskOf};
use mesita_core::wire::{AgentId, BodyRef, ContainerId, FrameworkId};
use mesita_isolation::cgroups::At;
use mesita_isolation::images::{self, Provisioner};
use mesita_isolation::isolators::{ImageVolume, Limitation, Reason as LimitReason, TaskLimits};
use mesita_isolation::keeper::protocol::{Ended, Launch, Left, Request};
use mesita_isolation::{Isolation, Killed, sandbox};
use prost::Message;
use siphasher::sip128::{Hasher128, SipHasher24};
use smol::lock::Semaphore;

use super::AgentNode;
use super::build::{
    Begun, Names, On, Place, Plan, asked, begin, build, empty_launch, limits, resolved,
    revocable_cpus,
};
use super::docker;
use super::images::Asked;
use super::volumes::Held;
use super::watch::Watch;
use crate::access::ForTasks;
use crate::clock;
use crate::command::image_of;
use crate::pb::mesita::TaskPublic;
use crate::pb::mesos::v1::{ContainerInfo, ExecutorInfo, volume};
use crate::v1::events::own_address;

/// Containers that are remembered after their end.
const RECENT_MAX: usize = 128;
/// Containers of one agent.
pub(crate) struct Containers {
    /// What every task finds in its environment.
    for_tasks: ForTasks,
    isolation: Arc<Isolation<'static>>,
    provisioner: Option<Arc<Provisioner>>,
    pub(super) work_dir: PathBuf,
    key: [u8; 32],
    switch_user: bool,
    hands: Semaphore,
    hands_max: usize,
    known: RefCell<BTreeMap<ContainerId, Rc<Container>>>,
    /// Those that the core has forgotten last, for who asks late what they used.
    recent: RefCell<VecDeque<(ContainerId, Rc<Container>)>>,
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
    unlaunched: Cell<u64>,
    unkilled: Cell<u64>,
}

/// A container that the core knows.
#[derive(Default)]
pub(crate) struct Container {
    framework: Cell<FrameworkId>,
    task: RefCell<String>,
    executor: RefCell<String>,
    user: RefCell<String>,
    /// The executor's container that it is inside of.
    inside: Cell<Option<ContainerId>>,
    /// It has no process, and others are inside of it.
    holds: Cell<bool>,
    /// The limit it ran into while it ran.
    limited: RefCell<Option<(Reason, String)>>,
    /// How it ended.
    ended: Cell<Option<Ended>>,
    /// Nothing of it runs, nor will: it ended, never began, or is forgotten.
    over: Cell<bool>,
    /// Its process was started.
    started: Cell<bool>,
    /// That process, as the agent sees it.
    pid: Cell<Option<u32>>,
    /// It is not to be started any more, if it was not yet.
    abandoned: Cell<bool>,
    /// Volumes that tasks of the executor in it have brought.
    volumes: RefCell<Vec<Held>>,
    /// What it used in all, for people.
    summary: RefCell<String>,
    /// Told when anything of this changes.
    changed: Event,
    steps: RefCell<VecDeque<Step>>,
    busy: Cell<bool>,
    /// What the keeper said of the launch.
    launched: RefCell<Option<Result<u32, String>>>,
    /// What is known of it, if a Docker engine has it.
    docker: OnceCell<docker::Of>,
}

/// What is said of a container when it comes to be known.
#[derive(Default)]
struct About<'a> {
    task: &'a str,
    executor: &'a str,
    user: &'a str,
    inside: Option<ContainerId>,
}

/// One thing to be done to a container.
enum Step {
    Launch(Box<Plan>),
    Isolate(u32),
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
        key: [u8; 32],
        hands: usize,
        switch_user: bool,
        for_tasks: ForTasks,
    ) -> Self {
        Self {
            isolation,
            provisioner,
            work_dir,
            key,
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

    /// A task of the executor in a container brings volumes.
    pub(super) fn brings(&self, id: ContainerId, volumes: Vec<Held>) {
        let container = self.entry(id);
        let mut known = container.volumes.borrow_mut();
        let new = volumes.into_iter().filter(|one| !known.contains(one)).collect::<Vec<_>>();
        known.extend(new);
    }

    /// The volumes that tasks of the executor in a container have brought.
    fn brought(&self, id: ContainerId) -> Vec<Held> {
        self.get(id).map(|container| container.volumes.borrow().clone()).unwrap_or_default()
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

    fn about(&self, id: ContainerId, framework: FrameworkId, names: &About<'_>) {
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

    fn entry(&self, id: ContainerId) -> Rc<Container> {
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
        let (secret, _) = self.key.split_first_chunk().unwrap_or((&[0; 16], &[]));
        let mut mac = SipHasher24::new_with_key(secret);
        std::hash::Hasher::write(&mut mac, b"executor");
        std::hash::Hasher::write(&mut mac, &id.incarnation.to_le_bytes());
        std::hash::Hasher::write(&mut mac, &id.counter.to_le_bytes());
        mac.finish128().as_bytes()
    }

    /// The container of an executor that shows the right token.
    pub(super) fn proves(&self, framework: FrameworkId, executor: &str, token: &[u8]) -> bool {
        let known = self.known.borrow();
        known.iter().any(|(id, container)| {
            container.framework.get() == framework
                && *container.executor.borrow() == executor
                && !executor.is_empty()
                && container.inside.get().is_none()
                && same_bytes(&self.token(*id), token)
        })
    }

    /// True for the container of an executor that has a process.
    pub(super) fn is_executor(&self, id: ContainerId) -> bool {
        self.known.borrow().get(&id).is_some_and(|container| container.is_executor())
    }

    /// The container of the executor that has this token.
    pub(super) fn proved(&self, token: &[u8]) -> Option<ContainerId> {
        let known = self.known.borrow();
        let mut executors = known.iter().filter(|(_, container)| container.is_executor());
        let of = executors.find(|(id, _)| same_bytes(&self.token(**id), token));
        of.map(|(id, _)| *id)
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
fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

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

impl AgentNode {
    /// Something to be done with a container.
    pub(super) fn hand(&self, hand: &Hand<'_>, bodies: &[BodyRef]) {
        match hand {
            Hand::Launch(launch) => {
                let id = launch.container;
                let HandLaunch { framework, task, executor, user, inside, .. } = *launch;
                self.stops(launch.stop_after_us);
                self.containers.about(id, framework, &About { task, executor, user, inside });
                let plan = self.plan(launch, bodies);
                self.step(id, Step::Launch(Box::new(plan)));
            }
            Hand::Signal { container, signal } => {
                if let Some(known) = self.containers.get(*container)
                    && known.docker().is_some()
                {
                    return self.ask_to_end(*container, &known);
                }
                self.keeper.send(&Request::Signal { container: *container, signal: *signal });
            }
            Hand::Abandon { container } => {
                if let Some(container) = self.containers.get(*container) {
                    container.abandoned.set(true);
                    container.changed.notify(usize::MAX);
                }
            }
            Hand::Destroy { container } => self.step(*container, Step::Kill),
            Hand::Forget { container } => self.forget(*container),
            Hand::Keep { containers } => self.keep_only(&containers.iter().collect()),
            Hand::Volumes { sequence, order, volumes } => {
                self.order_volumes(*sequence, *order, volumes);
            }
            Hand::Clock => self.tell_clock(),
        }
    }

    /// What a container is, by its names, its role and its address.
    pub(super) fn names(&self, id: ContainerId) -> Names {
        let ip = own_address(&self.options.address).map(|(ip, _)| ip.to_string());
        let role = self.tally.role_of(id);
        Names { role, ip: ip.unwrap_or_default(), ..self.containers.names(id) }
    }

    fn plan(&self, launch: &HandLaunch<'_>, bodies: &[BodyRef]) -> Plan {
        let bytes =
            |body: mesita_core::wire::Body| self.port.bodies.borrow().bytes(body.of(bodies));
        let contained = container_of(launch, &bytes);
        Plan {
            request: Launch {
                container: launch.container,
                attempt: launch.attempt,
                session: launch.session,
                stop_after_us: launch.stop_after_us,
                grace_us: if launch.stop_after_us > 0 { launch.grace_us } else { 0 },
                ..empty_launch()
            },
            private: bytes(launch.private),
            public: bytes(launch.public),
            of: self.names(launch.container),
            at: self.containers.at(launch.container),
            around: launch.inside.map(|around| self.around(around)),
            limits: limits(launch, self.options.spare.revocable_cpu_low_priority),
            address: self.options.address.clone(),
            volumes: Held::among(&launch.resources),
            brought: self.containers.brought(launch.container),
            devices: self.devices.among(&launch.resources),
            docker: self.docker_asked(launch, &bytes(launch.public)),
            wants: image_of(contained.as_ref()).map(Asked::of),
            on: None,
            wants_also: places_of(contained.as_ref()),
            finds: Vec::new(),
        }
    }

    /// What a launch stands on, when its image is there.
    async fn stand(&self, container: &Container, plan: &Plan) -> Result<Option<On>, String> {
        let Some(wants) = plan.wants.clone().transpose()? else { return Ok(None) };
        let user = resolved(&plan.of.user, self.containers.switch_user)?;
        let image = self.image_for(container, &wants, user).await?;
        let Some(provisioner) = self.containers.provisioner.as_ref().map(Arc::clone) else {
            return Ok(None);
        };
        let stand = move || {
            if let (_, Some(why)) = provisioner.backend() {
                log::warn!("images are copied for each task that stands on one: {why}");
            }
            let user = provisioner.user_of(&image)?;
            Ok(On { image, user, sandbox: provisioner.sandbox().to_owned() })
        };
        let stands = self.containers.by_hand(stand).await;
        stands.map(Some).map_err(|error: images::Error| error.to_string())
    }

    /// The images that a launch finds elsewhere, when they are there.
    async fn find(&self, container: &Container, plan: &Plan) -> Result<Vec<ImageVolume>, String> {
        let mut finds = Vec::new();
        for Place { wants, to, read_only } in plan.wants_also.clone() {
            if to.starts_with('/') && plan.wants.is_none() {
                let why =
                    format!("a volume at `{to}`, which is absolute, needs an image to stand on");
                return Err(why);
            }
            let user = resolved(&plan.of.user, self.containers.switch_user)?;
            let image = self.image_for(container, &wants?, user).await?;
            finds.push(ImageVolume { image, to, read_only });
        }
        Ok(finds)
    }

    /// What all that is inside of an executor's container is to weigh, it included.
    fn around(&self, around: ContainerId) -> TaskLimits {
        let lists = self.tally.held_in(around);
        let (cpus, mem) = lists.iter().map(|list| asked(&list.list())).fold((0, 0), |all, one| {
            (u64::saturating_add(all.0, one.0), u64::saturating_add(all.1, one.1))
        });
        // One that holds what may be taken back makes all of them so.
        let low_priority = self.options.spare.revocable_cpu_low_priority
            && lists.iter().any(|list| revocable_cpus(&list.list()));
        TaskLimits { cpus_milli: cpus, mem_bytes: mem, low_priority, ..TaskLimits::default() }
    }

    /// Puts a step behind those of the same container.
    fn step(&self, id: ContainerId, step: Step) {
        let container = self.containers.entry(id);
        container.steps.borrow_mut().push_back(step);
        if container.busy.replace(true) {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        self.tasks.go(async move {
            loop {
                let step = container.steps.borrow_mut().pop_front();
                let Some(step) = step else { break };
                me.take(id, &container, step).await;
            }
            container.busy.set(false);
        });
    }

    async fn take(&self, id: ContainerId, container: &Rc<Container>, step: Step) {
        match step {
            Step::Launch(plan) => match self.launch_by(id, container, *plan).await {
                Ok(pid) => {
                    container.started.set(true);
                    container.set_pid(pid);
                    self.tally.started(id);
                    self.introduce(id);
                    self.port.put(&Input::Started { container: id });
                    self.begin_checks(id, container);
                    self.bound_logs_of(id, false);
                    if container.docker().is_none() {
                        container.steps.borrow_mut().push_front(Step::Isolate(pid));
                    }
                }
                Err(message) => {
                    log::warn!("container {id}: {message}");
                    count(&self.containers.unlaunched);
                    container.set_over();
                    let message = cut(&message);
                    self.port.put(&Input::Unstarted { container: id, message });
                }
            },
            Step::Isolate(pid) => {
                let isolation = Arc::clone(&self.containers.isolation);
                let at = self.containers.at(id);
                let done = move || (isolation.isolate(at, pid), isolation.watch(at));
                let (isolated, watched) = self.containers.by_hand(done).await;
                if let Err(error) = isolated {
                    log::warn!("container {id}: {error}");
                }
                match watched {
                    Ok(watches) => self.watch(id, container, watches),
                    Err(error) => log::warn!("container {id}: {error}"),
                }
            }
            // Nothing of its own runs there: who is inside ends by itself.
            Step::Kill if container.holds.get() => {}
            Step::Kill if container.docker().is_some() => {
                self.signal_docker(id, "SIGKILL".to_owned());
            }
            Step::Kill => self.kill(id).await,
            Step::Finish(ended) => self.finish(id, container, ended).await,
        }
    }

    async fn launch_by(
        &self,
        id: ContainerId,
        container: &Rc<Container>,
        plan: Plan,
    ) -> Result<u32, String> {
        self.docker.refuses(plan.docker.is_some())?;
        if plan.docker.is_none() {
            return self.launch(id, container, plan).await;
        }
        if plan.at.inside.is_some() {
            return Err("Docker ContainerInfo is not supported on the task".to_owned());
        }
        self.containers.is_of_docker(id);
        self.launch_docker(id, container, plan).await
    }

    async fn launch(
        &self,
        id: ContainerId,
        container: &Rc<Container>,
        plan: Plan,
    ) -> Result<u32, String> {
        // The directories of volumes are as the core thinks they are.
        self.volumes.settled().await;
        let on = self.stand(container, &plan).await?;
        let finds = self.find(container, &plan).await?;
        let plan = Plan { on, finds, ..plan };
        let isolation = Arc::clone(&self.containers.isolation);
        let work_dir = self.containers.work_dir.clone();
        let (switch, token) = (self.containers.switch_user, self.containers.token(id));
        let begun = {
            let isolation = Arc::clone(&isolation);
            self.containers
                .by_hand(move || begin(plan, &isolation, &work_dir, switch, token))
                .await?
        };
        let request = match begun {
            Begun::Launch(request) => *request,
            Begun::Fetch(mut ready) => {
                self.fetch(container, ready.job()).await?;
                self.containers.by_hand(move || build(*ready, &isolation, token)).await?
            }
        };
        *container.launched.borrow_mut() = None;
        self.keeper.send(&request);
        let launched = loop {
            let listener = container.changed.listen();
            let launched = container.launched.borrow_mut().take();
            match launched {
                Some(launched) => break launched,
                None => listener.await,
            }
        };
        if launched.is_err() {
            let isolation = Arc::clone(&self.containers.isolation);
            let at = self.containers.at(id);
            // What went wrong first is what is told.
            let _ = self.containers.by_hand(move || isolation.cleanup(at)).await;
        }
        launched
    }

    /// Waits for the kernel to say that a container ran into a limit, and ends it then.
    fn watch(&self, id: ContainerId, container: &Rc<Container>, watches: Vec<OwnedFd>) {
        let Some(me) = self.me.upgrade() else { return };
        for watch in watches {
            let Ok(watch) = Watch::new(watch) else { continue };
            let (me, container) = (Rc::clone(&me), Rc::clone(container));
            self.tasks.go(async move {
                loop {
                    let ended = async {
                        while !container.is_over() {
                            container.changed.listen().await;
                        }
                        false
                    };
                    let told = async { watch.told().await.is_ok() };
                    if !futures_lite::future::or(told, ended).await {
                        return;
                    }
                    let isolation = Arc::clone(&me.containers.isolation);
                    let at = me.containers.at(id);
                    let limited = me.containers.by_hand(move || isolation.limitation(at)).await;
                    if let Ok(Some(limitation)) = limited {
                        *container.limited.borrow_mut() = Some(told_as(&limitation));
                        me.step(id, Step::Kill);
                        return;
                    }
                }
            });
        }
    }

    async fn kill(&self, id: ContainerId) {
        let isolation = Arc::clone(&self.containers.isolation);
        let at = self.containers.at(id);
        match self.containers.by_hand(move || isolation.kill(at)).await {
            Ok(Killed::All) => {}
            Ok(Killed::AskKeeper) => {
                self.keeper.send(&Request::Signal { container: id, signal: 9 });
            }
            Err(error) => {
                log::error!("container {id}: {error}");
                count(&self.containers.unkilled);
                self.keeper.send(&Request::Signal { container: id, signal: 9 });
            }
        }
    }

    /// A container's process ended: what it ran into is found out, what is left of it goes, and
    /// only then is the core told, for then what it held is free.
    async fn finish(&self, id: ContainerId, container: &Rc<Container>, ended: Ended) {
        let isolation = Arc::clone(&self.containers.isolation);
        let at = self.containers.at(id);
        let finished = move || {
            let limit = isolation.ended(at, ended.exit);
            let usage = isolation.usage(at);
            let killed = isolation.kill(at).map(|_| ());
            let cleaned = killed.and_then(|()| isolation.cleanup(at));
            (limit, usage, cleaned)
        };
        let (limit, usage, cleaned) = self.containers.by_hand(finished).await;
        if let Err(error) = &cleaned {
            log::error!("container {id}: {error}");
            count(&self.containers.unkilled);
        }
        let seen = limit.unwrap_or_default().map(|limitation| told_as(&limitation));
        let limited = container.limited.take().or(seen);
        let usage = usage.unwrap_or_default();
        *container.summary.borrow_mut() = summary(&ended, usage.user_us, usage.mem_peak_bytes);
        self.unbound_logs_of(id).await;
        container.ended.set(Some(ended));
        container.set_over();
        let (limit, message) = match &limited {
            Some((reason, message)) => (Some(*reason), cut(message)),
            None => (None, ""),
        };
        self.port.put(&Input::Ended { container: id, exit: ended.exit, limit, message });
    }

    /// What a container uses now; what cannot be told is left out.
    pub(super) async fn usage_of(&self, at: At) -> mesita_isolation::isolators::Usage {
        if self.containers.get(at.id).is_some_and(|one| one.docker().is_some()) {
            return self.usage_of_docker(at.id).await;
        }
        let isolation = Arc::clone(&self.containers.isolation);
        let pid = self.containers.pid(at.id);
        self.containers.by_hand(move || isolation.usage_of(at, pid)).await.unwrap_or_default()
    }

    /// Kills everything that runs: nobody is left who could tell how it ends.
    pub(crate) async fn kill_all(&self) {
        let known: Vec<ContainerId> = self.containers.known.borrow().keys().copied().collect();
        let of_docker = self.containers.docker_ids();
        for id in known.into_iter().filter(|id| !of_docker.contains(id)) {
            let isolation = Arc::clone(&self.containers.isolation);
            let at = self.containers.at(id);
            if let Err(error) = self.containers.by_hand(move || isolation.kill(at)).await {
                log::error!("container {id}: {error}");
            }
        }
    }

    /// The keeper says that a program runs.
    pub(super) fn launched(&self, id: ContainerId, launched: Result<u32, String>) {
        if let Some(container) = self.containers.get(id) {
            *container.launched.borrow_mut() = Some(launched);
            container.changed.notify(usize::MAX);
        }
    }

    /// A container that ran on while the agent was away is watched again.
    pub(super) fn runs_on(&self, id: ContainerId, pid: u32) {
        self.step(id, Step::Isolate(pid));
        if let Some(container) = self.containers.get(id) {
            container.pid.set(Some(pid));
            self.begin_checks(id, &container);
            self.bound_logs_of(id, true);
        }
    }

    /// The keeper says how a container ended.
    pub(super) fn ended(&self, ended: Ended) {
        self.step(ended.container, Step::Finish(ended));
    }

    /// The end of a container is on disk.
    fn forget(&self, id: ContainerId) {
        let at = self.containers.at(id);
        let known = self.containers.known.borrow_mut().remove(&id);
        let Some(container) = known else { return };
        self.forget_inside(id);
        let ended = container.ended.get().is_some();
        if container.holds.get() {
            self.clear(id);
        }
        if container.docker().is_some() {
            self.forget_docker(id);
        }
        container.set_over();
        {
            let mut recent = self.containers.recent.borrow_mut();
            recent.push_back((id, container));
            if recent.len() > RECENT_MAX {
                recent.pop_front();
            }
        }
        if ended {
            self.keeper.send(&Request::Forget { container: id });
        }
        let due = clock::now().after(self.options.keeping.delay_us);
        self.containers.discard(due.0, at);
    }

    /// A container that only held others is no more.
    fn clear(&self, id: ContainerId) {
        let Some(me) = self.me.upgrade() else { return };
        self.tasks.go(async move {
            let isolation = Arc::clone(&me.containers.isolation);
            let cleared = move || isolation.kill(id).and_then(|_| isolation.cleanup(id));
            if let Err(error) = me.containers.by_hand(cleared).await {
                log::error!("container {id}: {error}");
                count(&me.containers.unkilled);
            }
        });
    }

    /// Every other container goes.
    fn keep_only(&self, stay: &BTreeSet<ContainerId>) {
        let known: Vec<ContainerId> = self.containers.known.borrow().keys().copied().collect();
        for id in known.into_iter().filter(|id| !stay.contains(id)) {
            self.containers.known.borrow_mut().remove(&id);
            self.keeper.end_and_forget(id);
        }
        self.keep_only_inside(stay);
        let isolation = Arc::clone(&self.containers.isolation);
        let mut stay: Vec<ContainerId> = stay.iter().copied().collect();
        stay.extend(self.inners.of_their_own());
        let Some(me) = self.me.upgrade() else { return };
        self.tasks.go(async move {
            match me.containers.by_hand(move || isolation.recover(&stay)).await {
                Ok(recovered) => {
                    for name in recovered.removed {
                        log::info!("container {name}, which nobody knows, is gone");
                    }
                    for error in recovered.stuck {
                        log::error!("{error}");
                    }
                }
                Err(error) => log::error!("{error}"),
            }
        });
    }
}

/// What a launch says of its container.
fn container_of(
    launch: &HandLaunch<'_>,
    bytes: &impl Fn(mesita_core::wire::Body) -> Arc<[u8]>,
) -> Option<ContainerInfo> {
    if launch.task.is_empty() {
        ExecutorInfo::decode(&*bytes(launch.private)).unwrap_or_default().container
    } else {
        TaskPublic::decode(&*bytes(launch.public)).unwrap_or_default().container
    }
}

/// Images that it asks for beside the one that it stands on.
fn places_of(container: Option<&ContainerInfo>) -> Vec<Place> {
    let volumes = container.map_or(&[][..], |container| &container.volumes);
    let places = volumes.iter().filter_map(|volume| {
        let wants = Asked::of(volume.image.as_ref()?);
        let read_only = volume.mode() == volume::Mode::Ro;
        Some(Place { wants, to: volume.container_path.clone(), read_only })
    });
    places.collect()
}

/// A limit as the core and frameworks know it.
fn told_as(limitation: &Limitation) -> (Reason, String) {
    let reason = match limitation.reason {
        LimitReason::Memory => Reason::ContainerLimitationMemory,
        LimitReason::Disk => Reason::ContainerLimitationDisk,
    };
    (reason, limitation.message.clone())
}

/// What a container used, for people.
fn summary(ended: &Ended, user_us: Option<u64>, peak: Option<u64>) -> String {
    let cpu_us = user_us.unwrap_or(0).max(ended.user_us.saturating_add(ended.system_us));
    let peak = peak.unwrap_or(0).max(ended.max_rss_kib.saturating_mul(1024));
    let tenths = peak / (1024 * 1024 / 10);
    format!("cpu {} ms  mem peak {}.{} MB", cpu_us / 1000, tenths / 10, tenths % 10)
}

/// As much of a message as a status holds, in whole lines if it has several.
pub(super) fn cut(message: &str) -> &str {
    let whole = &message[..message.floor_char_boundary(MESSAGE_MAX)];
    match whole.rfind('\n') {
        Some(end) if whole.len() < message.len() => &whole[..end],
        _ => whole,
    }
}
