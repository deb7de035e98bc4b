//! What a framework of one command does: takes what fits, passes on what its tasks write, and ends
//! when they do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use event_listener::Event as Changed;
use mesita_core::scheduler::Input;
use mesita_core::time::Time;
use mesita_core::wire::call::{Capability, Ownership, Subscribe, Verb};
use mesita_core::wire::event::Event;
use mesita_core::wire::task::{Exit, Reason, Source, TaskAt, TaskState};
use mesita_core::wire::{AgentId, Body, BodyRef, FrameworkId, Scratch, Seq};

use super::super::NO_FIT;
use super::Job;
use super::voice::Voice;
use crate::client::{self, ClientNode};
use crate::io_thread::Tasks;
use crate::signals::{Caught, Signals};
use crate::{alarm, clock};

/// How long nothing may fit before it is said, and how often it is asked again, in µs.
const PATIENCE_US: u64 = 2_000_000;
/// How long the master may take to say what is short, in µs.
const ANSWER_US: u64 = 500_000;
/// How long a cluster may take to answer at all, in µs.
const CONNECT_US: u64 = 5_000_000;
/// How long the master may take to hear that this framework is done, in µs.
const GOODBYE_US: u64 = 2_000_000;
/// How long tasks may take to end beyond their grace when they are killed, in µs.
const KILL_US: u64 = 10_000_000;
/// Numbers of signals, as statuses tell them.
const SIGINT: u8 = 2;
const SIGPIPE: u8 = 13;
const SIGTERM: u8 = 15;
/// The ticket of the call that hands the framework over.
const HANDED: u32 = 1;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this status.
    Status(u8),
    /// There was no master, and why.
    NoMaster(String),
}

/// The framework.
pub(super) struct App {
    pub(super) job: Job,
    pub(super) voice: Voice,
    client: Weak<ClientNode>,
    pub(super) tasks: Tasks,
    pub(super) me: Weak<Self>,
    pub(super) framework: Cell<FrameworkId>,
    pub(super) cluster: Cell<u64>,
    pub(super) instances: RefCell<Vec<Instance>>,
    /// Names of agents that were introduced.
    pub(super) agents: RefCell<BTreeMap<AgentId, String>>,
    /// Why there is no connection now.
    trouble: RefCell<String>,
    /// Nobody reads what the tasks write any more.
    pub(super) unread: Cell<bool>,
    /// The connection broke at least once.
    cut: Cell<bool>,
    /// What was said last about why nothing fits.
    pub(super) waiting: RefCell<String>,
    /// The master has said what is short since it was asked last.
    pub(super) answered: Cell<bool>,
    /// The master's answer to being handed the framework.
    pub(super) handed: Cell<Option<bool>>,
    /// The master wants nothing of this framework any more.
    pub(super) fatal: RefCell<Option<String>>,
    pub(super) changed: Changed,
}

/// One of its tasks.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) stage: Stage,
    pub(super) agent: AgentId,
    /// When it was submitted, by our clock.
    pub(super) began: Time,
    /// Streams of its output that are open; none before its output was asked for.
    pub(super) streams: Option<u32>,
    /// What it used in all.
    pub(super) used: String,
}

/// Where a task is in its life.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No offer was taken for it yet.
    Waiting,
    /// The master has it.
    Submitted,
    /// Its agent has it.
    Started,
    /// It is over; that is told when its output was passed on.
    Ended(Box<Last>),
    /// All was told; the status it gives this process.
    Told(u8),
}

/// The last status of a task.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) state: TaskState,
    pub(super) source: Source,
    pub(super) reason: Option<Reason>,
    pub(super) message: String,
    pub(super) exit: Exit,
    pub(super) ended: Time,
}

impl Last {
    /// The status for this process: the task's own, 128 + its signal, or 1.
    pub(super) fn status(&self) -> u8 {
        match (self.state, self.exit) {
            (TaskState::Finished, _) => 0,
            (TaskState::Failed, Exit::Code(code)) if code > 0 => code,
            (TaskState::Failed | TaskState::Killed, Exit::Signal(signal)) => {
                128u8.saturating_add(signal)
            }
            _ => 1,
        }
    }
}

/// The id of one of several tasks.
pub(super) fn task_id(name: &str, number: u32, instances: u32) -> String {
    if instances == 1 { name.to_owned() } else { format!("{name}-{number}") }
}

/// What the framework is, as a master is told.
pub(super) fn with_subscribe<T>(
    job: &Job,
    owned: Ownership,
    tell: impl FnOnce(&Subscribe<'_>) -> T,
) -> T {
    // A path and its length; that it is short enough is for whoever checks it.
    let mut memory = vec![0; job.role.len() + 16];
    let roles = Scratch::new(&mut memory).seq::<&'static str>([job.role.as_str()]);
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let capabilities =
        [Capability::TaskKillingState, Capability::PartitionAware, Capability::MultiRole];
    tell(&Subscribe {
        name: &job.name,
        user: &job.user,
        principal: &job.principal,
        hostname: &node,
        webui_url: "",
        roles: roles.unwrap_or_default(),
        suppressed: Seq::EMPTY,
        minimums: Seq::EMPTY,
        failover_us: job.failover_us,
        capabilities: capabilities.iter().fold(0, |bits, one| bits | one.bit()),
        owned,
        public: Body::NONE,
    })
}

impl Stage {
    /// The status for this process, once all was told.
    const fn status(&self) -> Option<u8> {
        if let Self::Told(status) = self { Some(*status) } else { None }
    }

    const fn has_started(&self) -> bool {
        match self {
            Self::Waiting | Self::Submitted => false,
            Self::Started | Self::Ended(_) | Self::Told(_) => true,
        }
    }
}

impl App {
    pub(super) fn new(job: Job, voice: Voice, client: &Rc<ClientNode>, tasks: Tasks) -> Rc<Self> {
        let instances = (1..=job.instances).map(|number| Instance {
            id: task_id(&job.name, number, job.instances),
            stage: Stage::Waiting,
            agent: AgentId::NONE,
            began: Time(0),
            streams: None,
            used: String::new(),
        });
        let instances = RefCell::new(instances.collect());
        Rc::new_cyclic(|me| Self {
            job,
            voice,
            client: Rc::downgrade(client),
            tasks,
            me: me.clone(),
            framework: Cell::new(FrameworkId::NONE),
            cluster: Cell::new(0),
            instances,
            agents: RefCell::default(),
            trouble: RefCell::default(),
            unread: Cell::new(false),
            cut: Cell::new(false),
            waiting: RefCell::default(),
            answered: Cell::new(false),
            handed: Cell::new(None),
            fatal: RefCell::default(),
            changed: Changed::new(),
        })
    }

    /// Tells the driver what the framework is.
    pub(super) fn describe(&self) {
        let owned = if self.job.detach { Ownership::Master } else { Ownership::Scheduler };
        self.with_description(owned, |client, subscribe| client.put(&Input::Describe(subscribe)));
    }

    fn with_description(&self, owned: Ownership, tell: impl FnOnce(&ClientNode, Subscribe<'_>)) {
        let Some(client) = self.client.upgrade() else { return };
        with_subscribe(&self.job, owned, |subscribe| tell(&client, *subscribe));
    }

    /// Runs it until everything ended, nothing fitted in time, or somebody wants an end.
    pub(super) async fn to_the_end(&self, signals: &Signals) -> End {
        let began = clock::now();
        let asking = async {
            loop {
                alarm::after(PATIENCE_US).await;
                if self.ask_for_offers() {
                    // Who has an agent that could run it does not answer.
                    alarm::after(ANSWER_US).await;
                    self.told_nothing();
                }
            }
        };
        let watching = self.watch(signals, began);
        let end = futures_lite::future::or(watching, asking).await;
        self.say_goodbye().await;
        end
    }

    async fn watch(&self, signals: &Signals, began: Time) -> End {
        let mut killed_by = None::<u8>;
        let mut give_up = Time::NEVER;
        loop {
            let changed = self.changed.listen();
            if let Some(end) = self.end(began, killed_by) {
                return end;
            }
            if clock::now() >= give_up {
                self.voice.note("the tasks did not end in time; the master kills them");
                return End::Status(killed_by.map_or(1, |signal| 128 + signal));
            }
            let deadline = self.deadline(began).min(give_up);
            let wake = async {
                futures_lite::future::or(changed, alarm::at(deadline)).await;
                None
            };
            let caught = async { Some(signals.next().await) };
            let signal = match futures_lite::future::or(wake, caught).await {
                None if killed_by.is_none() && self.unread.get() => SIGPIPE,
                None | Some(Caught::User1) => continue,
                Some(Caught::HangUp) => {
                    self.hand_over();
                    continue;
                }
                Some(Caught::Interrupt) => SIGINT,
                Some(Caught::Terminate) => SIGTERM,
            };
            if killed_by.replace(signal).is_some() {
                self.voice.note("the master ends what is left");
                return End::Status(128 + signal);
            }
            if !self.kill_all() {
                self.voice.note("nothing was launched");
                return End::Status(128 + signal);
            }
            if !self.is_connected() {
                self.voice.note(
                    "there is no connection to the master, which ends the tasks when it has \
                     waited for this framework in vain",
                );
                return End::Status(128 + signal);
            }
            let grace = self.job.grace_us.unwrap_or(3_000_000);
            give_up = clock::now().after(grace.saturating_add(KILL_US));
        }
    }

    /// The end, if it has come.
    fn end(&self, began: Time, killed_by: Option<u8>) -> Option<End> {
        self.tell_ended();
        if let Some(message) = self.fatal.borrow_mut().take() {
            self.voice.note(&message);
            return Some(End::Status(1));
        }
        match self.handed.get() {
            Some(true) => return Some(End::Status(0)),
            Some(false) => {
                self.handed.set(None);
                self.voice.note("the master does not take this framework over");
                return Some(End::Status(1));
            }
            None => {}
        }
        let instances = self.instances.borrow();
        let statuses: Vec<u8> =
            instances.iter().filter_map(|instance| instance.stage.status()).collect();
        if statuses.len() == instances.len() {
            let worst = statuses.into_iter().find(|status| *status > 0).unwrap_or(0);
            return Some(End::Status(killed_by.map_or(worst, |signal| 128 + signal)));
        }
        if self.job.detach && instances.iter().all(|instance| instance.stage.has_started()) {
            for instance in instances.iter() {
                outln!("{}", instance.id);
            }
            return Some(End::Status(0));
        }
        let now = clock::now();
        let patience = self.job.wait_us.unwrap_or(CONNECT_US).min(CONNECT_US);
        if self.framework.get().is_none() && now >= began.after(patience) {
            let mut why = self.trouble.borrow().clone();
            if why.is_empty() {
                "it does not take this framework in".clone_into(&mut why);
            }
            return Some(End::NoMaster(why));
        }
        let placed = instances.iter().any(|instance| instance.stage != Stage::Waiting);
        let late = self.job.wait_us.is_some_and(|wait| now >= began.after(wait));
        if late && !placed {
            self.voice.note("nothing fitted in --wait; nothing was launched");
            return Some(End::Status(NO_FIT));
        }
        None
    }

    /// When to look again without being told.
    fn deadline(&self, began: Time) -> Time {
        let connect =
            if self.framework.get().is_none() { began.after(CONNECT_US) } else { Time::NEVER };
        let wait = self.job.wait_us.map_or(Time::NEVER, |wait| began.after(wait));
        let now = clock::now();
        [connect, wait].into_iter().filter(|at| *at > now).min().unwrap_or(Time::NEVER)
    }

    /// True when the connection broke since the framework had an id.
    pub(super) fn was_cut(&self) -> bool {
        self.cut.get()
    }

    /// True while there is a connection to the master.
    pub(super) fn is_connected(&self) -> bool {
        self.trouble.borrow().is_empty()
    }

    /// The driver, for as long as there is one.
    pub(super) fn client(&self) -> Option<Rc<ClientNode>> {
        self.client.upgrade()
    }

    /// Asks for the end of every task that has not ended. False when there is none.
    fn kill_all(&self) -> bool {
        let Some(client) = self.client() else { return false };
        let instances = self.instances.borrow();
        let live = instances.iter().filter(|instance| match instance.stage {
            Stage::Submitted | Stage::Started => true,
            Stage::Waiting | Stage::Ended(_) | Stage::Told(_) => false,
        });
        let mut some = false;
        for instance in live {
            some = true;
            let task = TaskAt { task: &instance.id, agent: instance.agent };
            client.call(0, Verb::Kill { task, grace_us: self.job.grace_us }, &[]);
        }
        some
    }

    /// Asks the master to take this framework over: its tasks go on without anybody here.
    fn hand_over(&self) {
        self.with_description(Ownership::Master, |client, subscribe| {
            client.call(HANDED, Verb::UpdateFramework(subscribe), &[]);
        });
    }

    /// Ends the framework, or leaves it to the master.
    async fn say_goodbye(&self) {
        let Some(client) = self.client() else { return };
        let stays = self.job.detach || self.handed.get() == Some(true);
        client.put(&Input::Stop { failover: stays });
        alarm::within(GOODBYE_US, client.stopped()).await;
    }
}

impl client::App for App {
    fn event(&self, event: &Event<'_>, _bodies: &[BodyRef]) {
        match event {
            Event::Subscribed { cluster, framework, .. } => {
                self.cluster.set(*cluster);
                if self.framework.replace(*framework) != *framework {
                    self.voice.subscribed(&framework.shown(*cluster).to_string());
                }
            }
            Event::Offers { offers } => offers.iter().for_each(|offer| self.offered(&offer)),
            Event::Update { status } => self.status(status),
            Event::Agents { agents } => {
                let mut known = self.agents.borrow_mut();
                for agent in agents.iter() {
                    known.insert(agent.agent, agent.hostname.to_owned());
                }
            }
            Event::Waiting { name, asked, largest, agent, fits } => {
                self.told_why(name, *asked, *largest, *agent, fits);
            }
            Event::Reply { ticket: HANDED, result } => self.handed.set(Some(result.is_ok())),
            Event::Error { message } => {
                *self.fatal.borrow_mut() =
                    Some(format!("the master ended this framework: {message}"));
            }
            Event::InverseOffers { .. }
            | Event::Rescind { .. }
            | Event::RescindInverse { .. }
            | Event::OperationUpdate { .. }
            | Event::Message { .. }
            | Event::Failure { .. }
            | Event::Reply { .. } => {}
        }
        self.changed.notify(usize::MAX);
    }

    fn identity(&self, _framework: FrameworkId) {}

    fn connected(&self, connected: Result<(), &client::Trouble>) {
        let connected = connected.map_err(|trouble| {
            if trouble.hopeless {
                *self.fatal.borrow_mut() = Some(trouble.why.clone());
            }
            trouble.why.as_str()
        });
        match connected {
            Ok(()) => self.trouble.borrow_mut().clear(),
            Err(why) => {
                let known = !self.framework.get().is_none();
                self.cut.set(self.cut.get() || known);
                let new = *self.trouble.borrow() != why;
                if known && new {
                    self.voice.note(&format!("{why}; the tasks go on, trying again"));
                }
                why.clone_into(&mut self.trouble.borrow_mut());
            }
        }
        self.changed.notify(usize::MAX);
    }
}
