//! What the core wants done with containers, done by the hands: blocking steps, those of one
//! container in order.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use mesita_core::agent::{Hand, HandLaunch, Input};
use mesita_core::limits::MESSAGE_MAX;
use mesita_core::wire::task::Exit;
use mesita_core::wire::{BodyRef, ContainerId};
use mesita_isolation::Killed;
use mesita_isolation::cgroups::At;
use mesita_isolation::images;
use mesita_isolation::isolators::{Cap, ImageVolume, TaskLimits};
use mesita_isolation::keeper::protocol::{Ended, Launch, Request};
use prost::Message;

use super::AgentNode;
use super::build::{
    Begun, Names, On, Place, Plan, asked_disk, begin, build, empty_launch, limits, resolved,
};
use super::containers::{About, Container, RECENT_MAX, Step, count};
use super::docker;
use super::fresh;
use super::images::Asked;
use super::limited::Limited;
use super::terminals;
use super::volumes::Held;
use super::watch::Watch;
use crate::alarm;
use crate::clock;
use crate::command::image_of;
use crate::pb::mesita::TaskPublic;
use crate::pb::mesos::v1::{ContainerInfo, ExecutorInfo, TaskStatus, volume};
use crate::v1::events::own_address;

/// How long an agent that leaves waits for what it removes, in µs.
const CLEAR_US: u64 = 5_000_000;

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
        let of_agent = || own_address(&self.options.address).map(|(ip, _)| ip);
        let ip = self.address_of(id).or_else(of_agent).map(|ip| ip.to_string());
        let role = self.tally.role_of(id);
        Names { role, ip: ip.unwrap_or_default(), ..self.containers.names(id) }
    }

    /// Roles that whoever runs in a container may be in: those of its framework, and its own.
    fn roles_in(&self, id: ContainerId) -> BTreeSet<String> {
        let framework = self.containers.get(id).map(|known| known.framework.get());
        let of_framework = framework.map(|framework| self.executors.roles(framework));
        of_framework.into_iter().flatten().chain([self.tally.role_of(id)]).collect()
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
            limits: TaskLimits {
                shared: launch.inside.is_some() && shares_cgroups(contained.as_ref()),
                ..self.limits_of(launch)
            },
            address: self.options.address.clone(),
            volumes: Held::among(&launch.resources),
            brought: self.brought(launch.container),
            roles: self.roles_in(launch.container),
            devices: self.devices.among(&launch.resources),
            wants: image_of(contained.as_ref()).map(Asked::of),
            on: None,
            wants_also: places_of(contained.as_ref()),
            finds: Vec::new(),
            terminal: terminals::asked(contained.as_ref()),
            docker: docker::Asked::of(contained, &launch.resources),
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

    /// What a container may use. That of an executor has what its tasks hold as well. Mesos:
    /// `Executor::allocatedResources`.
    fn limits_of(&self, launch: &HandLaunch<'_>) -> TaskLimits {
        let low_priority = self.options.spare.revocable_cpu_low_priority;
        if launch.task.is_empty() {
            self.held_by(launch.container)
        } else {
            limits(&launch.resources, launch.limits, low_priority)
        }
    }

    /// What an executor holds with all of its tasks, and how far above that they may go together.
    /// Mesos: `computeExecutorLimits`.
    fn held_by(&self, container: ContainerId) -> TaskLimits {
        let mut all = TaskLimits::default();
        for (held, above) in self.tally.limited_held_in(container) {
            let low_priority = self.options.spare.revocable_cpu_low_priority;
            let one = limits(&held.list(), above, low_priority);
            all.cpus_limit =
                together((all.cpus_limit, all.cpus_milli), (one.cpus_limit, one.cpus_milli));
            all.mem_limit =
                together((all.mem_limit, all.mem_bytes), (one.mem_limit, one.mem_bytes));
            all.cpus_milli = all.cpus_milli.saturating_add(one.cpus_milli);
            all.mem_bytes = all.mem_bytes.saturating_add(one.mem_bytes);
            let disk = [all.disk_bytes, one.disk_bytes].into_iter().flatten();
            all.disk_bytes = Some(disk.fold(0, u64::saturating_add));
            // One that holds what may be taken back makes all of them so.
            all.low_priority |= one.low_priority;
            all.ports.extend(one.ports);
        }
        all
    }

    /// What all that is inside of an executor's container has together, it included. Where one of
    /// them has limits of its own, those are what counts.
    fn around(&self, around: ContainerId) -> TaskLimits {
        let TaskLimits { cpus_milli, mem_bytes, low_priority, .. } = self.held_by(around);
        let limited = self.tally.limited_in(around).then_some(Cap::Unlimited);
        let (cpus_limit, mem_limit) = (limited, limited);
        // What its tasks hold of the disk is each one's own.
        let own = self.tally.executor_in(around);
        let disk_bytes = own.map(|row| asked_disk(&row.resources.list()));
        let around = TaskLimits { cpus_milli, mem_bytes, low_priority, ..TaskLimits::default() };
        TaskLimits { cpus_limit, mem_limit, disk_bytes, ..around }
    }

    /// A task of the executor in a container has come, or ended: what they hold together is more, or
    /// less.
    pub(super) fn resize(&self, id: ContainerId) {
        let holds = self.containers.get(id).is_some_and(|one| one.holds.get());
        if self.containers.is_executor(id) || holds && self.tally.lives_in(id) {
            self.step(id, Step::Resize);
        }
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
                    container.set_pid(pid);
                    if let Err(why) = self.isolate(id, container, pid).await {
                        log::warn!("container {id}: {why}");
                        // That nothing of it was started is told when nothing of it runs.
                        *container.unisolated.borrow_mut() = Some(why);
                        return self.kill(id).await;
                    }
                    container.started.set(true);
                    self.pump_terminal(container);
                    self.show_given(id);
                    self.hold_to_devices_again();
                    self.introduce(id);
                    self.port.put(&Input::Started { container: id });
                    self.begin_checks(id, container);
                    self.bound_logs_of(id, false);
                    if container.docker().is_none() {
                        container.steps.borrow_mut().push_front(Step::Watch);
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
            Step::Watch => {
                let isolation = Arc::clone(&self.containers.isolation);
                let at = self.containers.at(id);
                match self.containers.by_hand(move || isolation.watch(at)).await {
                    Ok(watches) => self.watch(id, container, watches),
                    Err(error) => log::warn!("container {id}: {error}"),
                }
            }
            Step::Resize if container.holds.get() => {
                // With the last of them it goes itself.
                if container.is_over() || !self.tally.lives_in(id) {
                    return;
                }
                let (isolation, limits) = (Arc::clone(&self.containers.isolation), self.around(id));
                let resized = move || isolation.update_around(id, &limits);
                if let Err(error) = self.containers.by_hand(resized).await {
                    log::warn!("container {id}: {error}");
                }
            }
            Step::Resize => {
                let isolation = Arc::clone(&self.containers.isolation);
                let (at, limits) = (self.containers.at(id), self.held_by(id));
                if container.is_over() || !container.started.get() {
                    return;
                }
                if container.docker().is_some() {
                    return self.resize_docker(id, &limits).await;
                }
                // Its tasks are about to begin, so this waits for no hand.
                let resized = blocking::unblock(move || isolation.update(at, &limits)).await;
                if let Err(error) = resized {
                    log::warn!("container {id}: {error}");
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

    /// Waits for what becomes of a launch. Where isolators have something to do to a process that exists, it
    /// waits for them before it becomes its program.
    async fn begun(
        &self,
        id: ContainerId,
        container: &Container,
        request: &mut Request,
    ) -> Result<u32, String> {
        let isolation = Arc::clone(&self.containers.isolation);
        if !isolation.isolates_first() {
            return container.launched().await;
        }
        let Some(pid) = container.waits().await else { return container.launched().await };
        let at = self.containers.at(id);
        let isolated = self.containers.by_hand(move || isolation.isolate(at, pid)).await;
        let may = match isolated {
            // They may have taken their time.
            Ok(()) => self.in_session(container, request).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = may {
            if container.launched.borrow().is_none() {
                self.kill(id).await;
            }
            // Its end, which says no more than that it was killed.
            let _ = container.launched().await;
            return Err(why);
        }
        let deadline_us = request.launch_mut().map_or(0, |launch| launch.deadline_us);
        self.keeper.send(&Request::Go { container: id, deadline_us });
        container.launched().await
    }

    /// Has isolators do to a process that runs what they could not do before, for a keeper of an older
    /// release; why it may not be then.
    async fn isolate(
        &self,
        id: ContainerId,
        container: &Container,
        pid: u32,
    ) -> Result<(), String> {
        let isolation = Arc::clone(&self.containers.isolation);
        let late = isolation.isolates() && !isolation.isolates_first();
        if container.docker().is_some() || !late {
            return Ok(());
        }
        let at = self.containers.at(id);
        let isolated = self.containers.by_hand(move || isolation.isolate(at, pid)).await;
        // Nothing can be done to one that has ended, and how it did is what is told.
        let has_ended = |step: &Step| matches!(step, Step::Finish(_));
        let ended = container.steps.borrow().iter().any(has_ended);
        isolated.or_else(|error| if ended { Ok(()) } else { Err(error.to_string()) })
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
        let terminal = plan.terminal;
        let isolation = Arc::clone(&self.containers.isolation);
        let work_dir = self.containers.work_dir.clone();
        let (switch, token) = (self.containers.switch_user, self.containers.token(id));
        let begun = {
            let isolation = Arc::clone(&isolation);
            self.containers
                .by_hand(move || begin(plan, &isolation, &work_dir, switch, token))
                .await?
        };
        let mut request = match begun {
            Begun::Launch(request) => *request,
            Begun::Fetch(mut ready) => {
                self.fetch(container, ready.job()).await?;
                self.containers.by_hand(move || build(*ready, &isolation, token)).await?
            }
        };
        if self.containers.isolation.isolates_first() {
            request = request.waiting();
        }
        let volumes = request.volumes();
        *container.launched.borrow_mut() = None;
        container.waits.set(None);
        let launched = async {
            loop {
                self.in_session(container, &mut request).await?;
                self.ask_for_task(id, container, request.clone(), terminal).await?;
                let launched = self.begun(id, container, &mut request).await;
                // A busy machine was slow: as long as a master answers, it may still begin.
                let late = launched.as_ref().is_err_and(|why| why == fresh::TOO_LATE);
                if !late || fresh::is_alone(&mut request) {
                    return launched;
                }
            }
        };
        let launched = launched.await;
        if launched.is_err() {
            container.stdio.take();
            let isolation = Arc::clone(&self.containers.isolation);
            let at = self.containers.at(id);
            // What went wrong first is what is told.
            let _ = self.containers.by_hand(move || isolation.cleanup(at)).await;
        }
        launched.map_err(|why| with_volumes(why, &volumes))
    }

    /// Waits for the kernel to say that a container ran into a limit, and ends it then.
    fn watch(&self, id: ContainerId, container: &Rc<Container>, watches: Vec<OwnedFd>) {
        let Some(me) = self.me.upgrade() else { return };
        for watch in watches {
            let Ok(watch) = Watch::new(watch) else { continue };
            let (me, container) = (Rc::clone(&me), Rc::clone(container));
            self.tasks.go(async move {
                let ended = async {
                    loop {
                        let changed = container.changed.listen();
                        if container.is_over() {
                            return None;
                        }
                        changed.await;
                    }
                };
                let limited = watch.until(async || {
                    let isolation = Arc::clone(&me.containers.isolation);
                    let (at, pid) = (me.containers.at(id), container.pid.get());
                    let looked = move || isolation.limitation_of(at, pid);
                    let limited = me.containers.by_hand(looked).await;
                    limited.ok().flatten()
                });
                if let Some(limitation) = futures_lite::future::or(limited, ended).await {
                    *container.limited.borrow_mut() = Some(limitation.into());
                    me.step(id, Step::Kill);
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
        let seen = limit.unwrap_or_default().map(Into::into);
        let limited = container.limited.take().or(seen);
        let usage = usage.unwrap_or_default();
        *container.summary.borrow_mut() = summary(&ended, usage.user_us, usage.mem_peak_bytes);
        self.last_words(container).await;
        self.unbound_logs_of(id).await;
        container.ended.set(Some(ended));
        container.set_over();
        match container.unisolated.take() {
            None => self.tell_ended(id, container, ended.exit, limited.as_ref()),
            Some(why) => {
                count(&self.containers.unlaunched);
                self.port.put(&Input::Unstarted { container: id, message: cut(&why) });
            }
        }
    }

    /// Tells the core how a container ended. What updates of its task carry they carry to the end.
    pub(super) fn tell_ended(
        &self,
        id: ContainerId,
        container: &Container,
        exit: Exit,
        limited: Option<&Limited>,
    ) {
        let limitation = limited.and_then(Limited::resources);
        let carried = limitation.map(|limitation| TaskStatus {
            limitation: Some(limitation),
            ..container.carried.take()
        });
        // Where there is no room for it, the reason is told without.
        let stored = carried.and_then(|carried| self.port.store(&[carried.encode_to_vec()]));
        let stored = stored.unwrap_or_default();
        let status = stored.first().copied().unwrap_or(BodyRef::NONE);
        let limit = limited.map(|limited| limited.reason);
        let message = limited.map_or("", |limited| cut(&limited.message));
        let ended = Input::Ended { container: id, exit, limit, message, status };
        self.port.put_with(&ended, stored);
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
        self.step(id, Step::Watch);
        self.show_given(id);
        if let Some(container) = self.containers.get(id) {
            container.pid.set(Some(pid));
            self.hold_to_devices_again();
            self.pump_again(id, &container);
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
        self.containers.clearing.set(self.containers.clearing.get() + 1);
        self.tasks.go(async move {
            let isolation = Arc::clone(&me.containers.isolation);
            let cleared = move || isolation.kill(id).and_then(|_| isolation.cleanup(id));
            if let Err(error) = me.containers.by_hand(cleared).await {
                log::error!("container {id}: {error}");
                count(&me.containers.unkilled);
            }
            me.containers.clearing.set(me.containers.clearing.get().saturating_sub(1));
            me.containers.cleared.notify(usize::MAX);
        });
    }

    /// What its tasks have left is about to go: waits for that, for a while.
    pub(crate) async fn clears_up(&self) {
        alarm::within(CLEAR_US, self.containers.all_cleared()).await;
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

/// Why something was not launched: of a mount, which ones there were to be.
fn with_volumes(why: String, volumes: &[String]) -> String {
    let mount = mesita_isolation::keeper::protocol::Step::Bind.sentence();
    match why.strip_prefix(mount) {
        Some(errno) if !volumes.is_empty() => format!("{mount} ({}){errno}", volumes.join(", ")),
        _ => why,
    }
}

/// How far two may go together, each with its limit, if it has one, and what it asked for: who has no
/// limit of its own goes as far as it asked, as long as another has one.
fn together(one: (Option<Cap>, u64), other: (Option<Cap>, u64)) -> Option<Cap> {
    let most = |(cap, asked): (Option<Cap>, u64)| cap.unwrap_or(Cap::At(asked));
    one.0.or(other.0)?;
    match (most(one), most(other)) {
        (Cap::At(one), Cap::At(other)) => Some(Cap::At(one.saturating_add(other))),
        (Cap::Unlimited, _) | (_, Cap::Unlimited) => Some(Cap::Unlimited),
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

/// True for a container that is limited with all others of its executor.
fn shares_cgroups(container: Option<&ContainerInfo>) -> bool {
    let linux = container.and_then(|container| container.linux_info.as_ref());
    linux.is_none_or(|linux| linux.share_cgroups())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_mounted_is_named() {
        let told = |why: &str, volumes: &[&str]| {
            let volumes: Vec<String> = volumes.iter().map(|&one| one.to_owned()).collect();
            with_volumes(why.to_owned(), &volumes)
        };
        let all = ["`data` of `/srv/a`", "`key`"];
        let named = told("cannot mount a volume: No such file", &all);
        assert_eq!(named, "cannot mount a volume (`data` of `/srv/a`, `key`): No such file");
        assert_eq!(told("cannot mount a volume: x", &[]), "cannot mount a volume: x");
        assert_eq!(told("cannot make the process", &all), "cannot make the process");
    }

    #[test]
    fn limits_add_up_with_what_those_without_asked_for_and_none_at_all_is_more() {
        let sum = |all: &[(Option<Cap>, u64)]| {
            let add = |one: (Option<Cap>, u64), other: &(Option<Cap>, u64)| {
                (together(one, *other), one.1 + other.1)
            };
            all.iter().fold((None, 0), add).0
        };
        assert_eq!(sum(&[(None, 3), (None, 4)]), None);
        assert_eq!(sum(&[(None, 3), (Some(Cap::At(9)), 4), (None, 5)]), Some(Cap::At(17)));
        let endless = (Some(Cap::Unlimited), 1);
        assert_eq!(sum(&[(None, 3), endless, (Some(Cap::At(9)), 4)]), Some(Cap::Unlimited));
    }
}
