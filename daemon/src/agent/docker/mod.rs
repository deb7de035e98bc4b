//! Tasks and executors whose containers a Docker engine holds (Mesos: `slave/containerizer/docker.cpp`, without the
//! command line of Docker and without an executor beside each task).
//!
//! | file | concern |
//! |---|---|
//! | `engine` | the socket: calls with their bounds |
//! | `survey` | what the engine has of this agent when that starts |
//! | `launch` | from a task to a container that runs |
//! | `output` | what it writes, into its sandbox |
//! | `told` | what the engine says of it, as Mesos tells it |
//!
//! The engine is not ours: it may hang, restart, or be gone. Whatever it is asked has a time, and
//! whoever waits for the end of a container asks again until it is answered. A container is known by
//! its labels, `mesita.agent` and `mesita.container`, so that no agent touches what is another's.

mod engine;
mod launch;
mod output;
mod survey;
mod told;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use event_listener::Event;
use http_body_util::BodyExt;
use hyper::Method;
use mesita_core::wire::ContainerId;
use mesita_core::wire::task::{Exit, Reason};
use mesita_isolation::isolators::Usage;
use prost::Message;
use serde_json::json;

use super::AgentNode;
use super::build::resolved_begun;
use super::containers::Container;
use super::limited::Limited;
use crate::alarm;
use crate::clock;
use crate::command::Command;
use crate::flags::docker::Engine as Flags;
use crate::io_thread::Tasks;
use crate::pb::mesita::TaskPublic;
use crate::pb::mesos::v1 as pb;
use crate::v1::docker::is_docker;
pub(crate) use engine::Options;
use engine::{Engine, Trouble};
pub(super) use launch::Asked;
pub(crate) use launch::Rooms;
use output::Output;
use survey::{Found, Survivor};
use told::Inspected;

/// Labels of a container: whose it is, and which.
const AGENT_LABEL: &str = "mesita.agent";
const CONTAINER_LABEL: &str = "mesita.container";
/// Said of one that is gone.
const NO_CONTAINER: &str = "the container is not there any more";
/// The first and the longest pause before the engine is asked again, in µs.
const PAUSE_US: u64 = 200_000;
const PAUSE_MAX_US: u64 = 5_000_000;
/// How long what a container wrote may take to come after its end, in µs.
const REST_US: u64 = 10_000_000;
/// Containers that have ended and wait to be removed: more go at once.
const ENDED_MAX: usize = 1_000;

/// What an agent knows of its engine before its first thread.
#[derive(Debug)]
pub(crate) struct Prepared {
    flags: Flags,
    /// Who this agent is among those of one engine.
    agent: String,
    /// It is to hold tasks, and there is one.
    on: bool,
    /// What it has of this agent; none if it did not say.
    found: Option<Vec<Survivor>>,
}

impl Prepared {
    /// Looks whether there is an engine, and what it has of the agent with this key. Blocks for some
    /// seconds at the most; says once what is not there.
    pub(crate) fn new(flags: &Flags, key: &[u8; 32]) -> Self {
        let agent: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let socket = &flags.docker_socket;
        let wanted = flags.docker();
        // Without the flag nobody is asked: what runs there is found when there is the flag again.
        let found = wanted.then(|| survey::survey(socket, &agent));
        let on = !matches!(found, None | Some(Err(survey::Unknown::Missing)));
        if let Some(Err(why)) = &found {
            let what = if on {
                "it is asked again for each task"
            } else {
                "containerizer `docker` is off"
            };
            log::warn!("the Docker engine at {}: {why}; {what}", socket.display());
        }
        let found = found.and_then(Result::ok);
        Self { flags: flags.clone(), agent, on, found }
    }

    /// Attributes that tell frameworks who holds containers here: nothing where that is as usual.
    pub(crate) fn attributes(&self) -> Vec<(&'static str, String)> {
        if !self.flags.docker() {
            return Vec::new();
        }
        let mesos = self.flags.mesos().then_some("mesos");
        let on = self.on.then_some("docker").into_iter().chain(mesos).collect::<Vec<_>>();
        let mut told = vec![("containerizers", on.join(","))];
        if !self.on {
            told.push(("containerizers_off", "docker".to_owned()));
        }
        told.retain(|(_, names)| !names.is_empty());
        told
    }
}

/// The engine of an agent, and what it has there.
pub(super) struct Docker {
    engine: Engine,
    agent: String,
    on: bool,
    mesos: bool,
    kill_orphans: bool,
    remove_delay_us: u64,
    found: RefCell<Option<Vec<Survivor>>>,
    /// Containers that have ended, and when each is to be removed, the next one first.
    ended: RefCell<VecDeque<(u64, String)>>,
    ended_changed: Event,
    /// Containers that run, or are about to.
    live: Cell<u64>,
    /// Calls that came to nothing because there was no answer.
    unanswered: Cell<u64>,
}

/// What is known of a container that the engine has.
#[derive(Debug, Default)]
pub(super) struct Of {
    /// What it is asked to end by.
    stop_signal: RefCell<String>,
    /// Its addresses; none when it has that of its agent.
    addresses: RefCell<Vec<String>>,
    /// What updates of its task carry.
    carried: RefCell<pb::TaskStatus>,
    /// The command that each of its checks began last, and of whose end it does not know.
    looks: [RefCell<Option<String>>; 2],
}

/// Whose look a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Check,
    Health,
}

impl Of {
    fn learn(&self, inspected: &Inspected, carried: pb::TaskStatus) {
        inspected.stop_signal.clone_into(&mut self.stop_signal.borrow_mut());
        self.addresses.borrow_mut().clone_from(&inspected.addresses);
        *self.carried.borrow_mut() = carried;
    }

    /// What updates of its task carry.
    pub(super) fn carried(&self) -> pb::TaskStatus {
        self.carried.borrow().clone()
    }

    /// Where it can be reached, if it has an address of its own.
    pub(super) fn address(&self) -> Option<std::net::IpAddr> {
        self.addresses.borrow().first()?.parse().ok()
    }
}

impl Docker {
    pub(super) fn new(prepared: Prepared, tasks: Tasks) -> Self {
        let Prepared { flags, agent, on, found } = prepared;
        let mesos = flags.mesos();
        Self {
            kill_orphans: flags.docker_kill_orphans,
            remove_delay_us: flags.docker_remove_delay.us,
            engine: Engine::new(flags.engine(), tasks),
            agent,
            on,
            mesos,
            found: RefCell::new(found),
            ended: RefCell::default(),
            ended_changed: Event::new(),
            live: Cell::default(),
            unanswered: Cell::default(),
        }
    }

    /// Why a task is not for this agent, if it is not.
    pub(super) fn refuses(&self, docker: bool) -> Result<(), String> {
        if if docker { self.on } else { self.mesos } {
            return Ok(());
        }
        let on = [("docker", self.on), ("mesos", self.mesos)];
        let on: Vec<&str> = on.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
        let (on, what) = (on.join(","), "could create a container for the provided TaskInfo");
        Err(format!("None of the enabled containerizers ({on}) {what}"))
    }

    /// The name of a container.
    fn name(&self, id: ContainerId) -> String {
        format!("mesita-{}.{id}", self.agent)
    }

    /// Containers, and calls that are made.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 4] {
        [
            ("docker_containers_len", self.live.get()),
            ("docker_ended_len", self.ended.borrow().len() as u64),
            ("docker_ended_max", ENDED_MAX as u64),
            ("docker_unanswered", self.unanswered.get()),
        ]
    }

    /// True unless the engine is known not to have a container, or never to have started it.
    fn may_run(&self, id: ContainerId) -> bool {
        let found = self.found.borrow();
        let Some(found) = &*found else { return true };
        found.iter().any(|one| one.id == Some(id) && one.state != Found::Created)
    }

    /// A container is to be removed, after a while.
    fn discard(&self, name: String) {
        let due = clock::now().after(self.remove_delay_us).0;
        self.ended.borrow_mut().push_back((due, name));
        self.ended_changed.notify(usize::MAX);
    }

    async fn inspect(&self, name: &str) -> Result<(Inspected, pb::TaskStatus), Trouble> {
        let told = self.engine.call(Method::GET, &format!("/containers/{name}/json"), None).await?;
        let inspected = Inspected::of(&told);
        let carried = inspected.carried(&told);
        Ok((inspected, carried))
    }

    /// Does something again and again until the engine has answered it.
    async fn answered<T>(&self, call: impl AsyncFn() -> Result<T, Trouble>) -> Result<T, Trouble> {
        let mut pause = PAUSE_US;
        loop {
            match call().await {
                Err(Trouble::Away(why)) => {
                    self.unanswered.set(self.unanswered.get() + 1);
                    log::debug!("{why}");
                    alarm::after(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX_US);
                }
                answered => return answered,
            }
        }
    }

    /// Removes a container with all that is of it, however it is.
    async fn remove(&self, name: &str) {
        let path = format!("/containers/{name}?force=1&v=1");
        let removed = self.answered(async || self.engine.call(Method::DELETE, &path, None).await);
        match removed.await {
            // It is gone, or about to be.
            Ok(_) | Err(Trouble::Refused(404 | 409, _)) => {}
            Err(trouble) => log::warn!("container {name} is not removed: {trouble}"),
        }
    }

    /// Waits until a container does not run, and says how it is then.
    async fn end_of(&self, name: &str) -> Result<Inspected, Trouble> {
        loop {
            let wait = self.engine.stream(Method::POST, &format!("/containers/{name}/wait")).await;
            if let Ok(answer) = wait {
                // It comes when the container has ended, or breaks off with the engine.
                let _ = answer.into_body().collect().await;
            }
            let (inspected, _) = self.answered(async || self.inspect(name).await).await?;
            if !inspected.runs {
                return Ok(inspected);
            }
            alarm::after(PAUSE_US).await;
        }
    }

    /// Takes over what a container writes, until the engine says that this was all.
    async fn follow(&self, name: &str, output: Output, over: &Cell<bool>) {
        let (mut output, mut pause) = (Some(output), PAUSE_US);
        loop {
            let whole = self.follow_once(name, &mut output).await;
            // The end of the container is on its way, if that was it.
            alarm::after(pause).await;
            if whole && over.get() || output.is_none() {
                return;
            }
            pause = if whole { PAUSE_US } else { (pause * 2).min(PAUSE_MAX_US) };
            output.iter_mut().for_each(Output::begin);
        }
    }

    /// The same until the stream ends; true when it came to its end.
    async fn follow_once(&self, name: &str, output: &mut Option<Output>) -> bool {
        let query = "follow=1&stdout=1&stderr=1&timestamps=1";
        let path = format!("/containers/{name}/logs?{query}");
        let Ok(mut answer) = self.engine.stream(Method::GET, &path).await else { return false };
        while let Some(frame) = answer.frame().await {
            let bytes = frame.ok().and_then(|frame| frame.into_data().ok());
            let Some(bytes) = bytes else { return false };
            let Some(mut to) = output.take() else { return false };
            let (to, taken) = blocking::unblock(move || {
                let taken = to.take(&bytes);
                (to, taken)
            })
            .await;
            *output = Some(to);
            match taken {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => log::debug!("container {name}: its output: {error}"),
            }
        }
        true
    }
}

impl AgentNode {
    /// A container of the engine's runs: takes over what it writes, and tells how it ends.
    fn attend(&self, id: ContainerId, container: &Rc<Container>, output: Option<Output>) {
        let Some(me) = self.me.upgrade() else { return };
        let container = Rc::clone(container);
        me.docker.live.set(me.docker.live.get() + 1);
        self.tasks.go(async move {
            let name = me.docker.name(id);
            let over = Cell::new(false);
            let follow = async {
                if let Some(output) = output {
                    me.docker.follow(&name, output, &over).await;
                }
            };
            let end = async {
                let ended = me.docker.end_of(&name).await;
                over.set(true);
                ended
            };
            let mut follow = std::pin::pin!(follow);
            let mut end = std::pin::pin!(end);
            let both = async {
                follow.as_mut().await;
                None
            };
            let first = futures_lite::future::or(async { Some(end.as_mut().await) }, both).await;
            let ended = match first {
                Some(ended) => {
                    alarm::within(REST_US, follow).await;
                    ended
                }
                None => end.await,
            };
            me.docker.live.set(me.docker.live.get().saturating_sub(1));
            me.tell_end_of(id, &container, ended).await;
        });
    }

    async fn tell_end_of(
        &self,
        id: ContainerId,
        container: &Container,
        ended: Result<Inspected, Trouble>,
    ) {
        let (exit, limit) = match ended {
            Ok(inspected) => inspected.end(),
            Err(trouble) => {
                let why = format!("The container is not there any more: {trouble}");
                let reason = Reason::ExecutorTerminated;
                (Exit::Unseen, Some(Limited { reason, message: why, bytes: 0 }))
            }
        };
        self.unbound_logs_of(id).await;
        container.set_over();
        self.tell_ended(id, container, exit, limit.as_ref());
    }

    /// A container of the engine's is to be asked to end.
    pub(super) fn ask_to_end(&self, id: ContainerId, container: &Container) {
        let Some(of) = container.docker() else { return };
        let asked = of.stop_signal.borrow().clone();
        let signal = if asked.is_empty() { "SIGTERM".to_owned() } else { asked };
        self.signal_docker(id, signal);
    }

    /// Sends a signal to a container of the engine's, as soon as that answers, while it runs.
    pub(super) fn signal_docker(&self, id: ContainerId, signal: String) {
        let Some(me) = self.me.upgrade() else { return };
        self.tasks.go(async move {
            let name = me.docker.name(id);
            let path = format!("/containers/{name}/kill?signal={}", engine::quoted(&signal));
            let call = async || me.docker.engine.call(Method::POST, &path, None).await;
            match me.docker.answered(call).await {
                Ok(_) => {}
                // It ended meanwhile.
                Err(Trouble::Refused(404 | 409, _)) => {}
                Err(trouble) => log::error!("container {name}: {signal}: {trouble}"),
            }
        });
    }

    /// The end of a container of the engine's is on disk.
    pub(super) fn forget_docker(&self, id: ContainerId) {
        self.docker.discard(self.docker.name(id));
    }

    /// What a container of the engine's uses now.
    pub(super) async fn usage_of_docker(&self, id: ContainerId) -> Usage {
        let path = format!("/containers/{}/stats?stream=0&one-shot=1", self.docker.name(id));
        let told = self.docker.engine.call(Method::GET, &path, None).await;
        told.map_or_else(|_| Usage::default(), |told| told::usage(&told))
    }

    /// Runs a command in a container of the engine's: the look of a check. One that is not waited for
    /// any more runs on as long as it likes, for the engine ends none; the next look fails until it is over.
    pub(super) async fn exec_docker(
        &self,
        id: ContainerId,
        command: &Command,
        by: By,
    ) -> Result<Exit, String> {
        let engine = &self.docker.engine;
        let Some(container) = self.containers.get(id) else { return Err(NO_CONTAINER.to_owned()) };
        let of = container.docker().ok_or(NO_CONTAINER)?;
        let before = of.looks[by as usize].borrow().clone();
        if let Some(before) = before {
            match engine.call(Method::GET, &format!("/exec/{before}/json"), None).await {
                Ok(told) if told["Running"] == true => {
                    return Err("the command of the look before has not ended".to_owned());
                }
                Ok(_) | Err(Trouble::Refused(..)) => {}
                Err(trouble) => return Err(trouble.to_string()),
            }
            of.looks[by as usize].take();
        }
        let named = command.variables.iter().map(|(name, value)| format!("{name}={value}"));
        let argv = match command.arguments.split_first() {
            Some((_, rest)) => [std::slice::from_ref(&command.program), rest].concat(),
            None => vec![command.program.clone()],
        };
        let asked = json!({"Cmd": argv, "Env": named.collect::<Vec<_>>()});
        let failed = |trouble: Trouble| trouble.to_string();
        let path = format!("/containers/{}/exec", self.docker.name(id));
        let made = engine.call(Method::POST, &path, Some(&asked)).await.map_err(failed)?;
        let exec = made["Id"].as_str().unwrap_or_default().to_owned();
        *of.looks[by as usize].borrow_mut() = Some(exec.clone());
        let begin = json!({"Detach": true});
        let path = format!("/exec/{exec}/start");
        engine.call(Method::POST, &path, Some(&begin)).await.map_err(failed)?;
        let path = format!("/exec/{exec}/json");
        let mut pause = PAUSE_US / 10;
        loop {
            let told = engine.call(Method::GET, &path, None).await.map_err(failed)?;
            if let (Some(false), Some(code)) =
                (told["Running"].as_bool(), told["ExitCode"].as_u64())
            {
                of.looks[by as usize].take();
                return Ok(Exit::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
            }
            alarm::after(pause).await;
            pause = (pause * 2).min(1_000_000);
        }
    }

    /// True for the container of a task that asked the engine for it.
    fn asked_docker(&self, id: ContainerId) -> bool {
        let public = TaskPublic::decode(&*self.tally.public_of(id)).unwrap_or_default();
        public.container.as_ref().is_some_and(is_docker)
    }

    /// Containers of tasks and executors that the ledger knows, and that run as far as anybody knows: they are told
    /// to, and looked after as soon as the engine answers.
    pub(super) fn docker_survivors(&self) -> Vec<ContainerId> {
        let rows = self.tally.tasks().into_iter();
        let rows = rows.filter(|row| row.has_own_container() && !row.state.is_terminal());
        let own = rows.filter(|row| self.asked_docker(row.container));
        let executors = self
            .tally
            .executors()
            .into_iter()
            .filter(|executor| executor.described().container.as_ref().is_some_and(is_docker));
        let executors = executors.map(|executor| executor.container);
        let own: Vec<ContainerId> = own.map(|row| row.container).chain(executors).collect();
        for id in &own {
            self.containers.is_of_docker(*id);
        }
        own.into_iter().filter(|id| self.docker.may_run(*id)).collect()
    }

    /// Looks after containers that ran on, and clears away what nobody knows.
    pub(super) fn take_up_docker(&self, survivors: &[ContainerId]) {
        for id in survivors {
            let container = self.containers.is_of_docker(*id);
            self.resume_docker(*id, container);
        }
        self.clear_docker(&survivors.iter().copied().collect());
        self.collect_docker();
    }

    fn resume_docker(&self, id: ContainerId, container: Rc<Container>) {
        let Some(me) = self.me.upgrade() else { return };
        self.tasks.go(async move {
            let name = me.docker.name(id);
            match me.docker.answered(async || me.docker.inspect(&name).await).await {
                Ok((inspected, carried)) => {
                    if let Some(of) = container.docker() {
                        of.learn(&inspected, carried);
                    }
                    container.set_pid(inspected.pid);
                    if inspected.runs {
                        me.begin_checks(id, &container);
                        me.bound_logs_of(id, true);
                    }
                }
                Err(trouble) => log::debug!("container {name}: {trouble}"),
            }
            let output = me.output_of(id).await;
            me.attend(id, &container, output);
        });
    }

    /// Where what a container writes goes.
    async fn output_of(&self, id: ContainerId) -> Option<Output> {
        let user = self.containers.names(id).user;
        let switch = self.containers.switches_user();
        let (work_dir, sandbox) = (self.work_dir.clone(), self.containers.sandbox(id));
        let note = output::note(&work_dir, &self.docker.name(id));
        let open = move || {
            let user = resolved_begun(&user, switch)?;
            let opened = Output::open(&sandbox, user.as_ref(), &note);
            opened.map_err(|error| format!("{}: {error}", note.display()))
        };
        match self.containers.by_hand(open).await {
            Ok(output) => Some(output),
            Err(why) => {
                log::error!("container {id}: {why}: what it writes is lost");
                None
            }
        }
    }

    /// What the engine has of this agent and no task is: what runs ends, if that is wanted, and what
    /// has ended is kept as long as any.
    fn clear_docker(&self, known: &BTreeSet<ContainerId>) {
        let found = self.docker.found.take().unwrap_or_default();
        let unknown = found.into_iter().filter(|one| one.id.is_none_or(|id| !known.contains(&id)));
        for one in unknown {
            match one.state {
                Found::Ended => self.docker.discard(one.name),
                Found::Runs if !self.docker.kill_orphans => {
                    log::warn!("container {} runs, and no task is in it", one.name);
                }
                Found::Created | Found::Runs => {
                    log::info!("container {}, which nobody knows, is removed", one.name);
                    self.remove_docker(one.name);
                }
            }
        }
    }

    /// Removes what a launch that was given up may have made, or makes yet: an engine that hung does
    /// what it was asked for when nobody wants it any more.
    fn undo_docker(&self, name: String) {
        let Some(me) = self.me.upgrade() else { return };
        self.tasks.go(async move {
            me.docker.remove(&name).await;
            alarm::after(REST_US).await;
            me.remove_docker(name);
        });
    }

    /// Removes a container as soon as the engine answers.
    fn remove_docker(&self, name: String) {
        let Some(me) = self.me.upgrade() else { return };
        self.tasks.go(async move {
            me.docker.remove(&name).await;
            let note = output::note(&me.work_dir, &name);
            let _ = me.containers.by_hand(move || std::fs::remove_file(note)).await;
        });
    }

    /// Removes containers that have ended, each when it is due.
    fn collect_docker(&self) {
        let Some(me) = self.me.upgrade() else { return };
        self.tasks.go(async move {
            loop {
                let listener = me.docker.ended_changed.listen();
                let first = me.docker.ended.borrow().front().map(|(due, _)| *due);
                let full = me.docker.ended.borrow().len() > ENDED_MAX;
                match first {
                    None => listener.await,
                    Some(due) if due > clock::now().0 && !full => {
                        let due = alarm::at(mesita_core::time::Time(due));
                        futures_lite::future::or(due, listener).await;
                    }
                    Some(_) => {
                        let name = me.docker.ended.borrow_mut().pop_front();
                        if let Some((_, name)) = name {
                            me.remove_docker(name);
                        }
                    }
                }
            }
        });
    }

    /// Everything of an agent goes that ends with its process, or has left for good.
    pub(crate) async fn end_docker(&self) {
        if !self.docker.on {
            return;
        }
        let names = self.containers.docker_ids().into_iter().map(|id| self.docker.name(id));
        let ended = self.docker.ended.take().into_iter().map(|(_, name)| name);
        for name in names.chain(ended).collect::<BTreeSet<_>>() {
            if alarm::within(REST_US, self.docker.remove(&name)).await.is_none() {
                log::error!("container {name} is not removed: the Docker engine does not answer");
            }
        }
    }
}
