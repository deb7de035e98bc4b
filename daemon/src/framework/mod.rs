//! A framework in Rust: a scheduler that is told what happens, and a driver that it answers by.
//!
//! [`run`] connects to the leading master, follows it when another one leads, and tells the scheduler
//! each [`Event`]; the [`Driver`] that comes with it carries the answers. Updates are acknowledged
//! once the scheduler returns. Mesos: `Scheduler` and `MesosSchedulerDriver`; `docs/porting.md` says
//! which callback became what. `daemon/examples/framework.rs` is a whole framework.
//!
//! Everything happens on the thread that calls [`run`]. What is asked of the master is bounded by
//! what waits for its connection (4 MiB); a call that finds no room is logged and dropped, and a task
//! that was lost that way is told so when it is reconciled.

mod launch;
mod store;

pub use store::{Outcome, Stored};

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::Duration;

use mesita_core::capacity::Capacity;
use mesita_core::limits::DURATION_MAX_US;
use mesita_core::resources::Amount;
use mesita_core::scheduler::{self, Input};
use mesita_core::wire::call::{Capability, Ownership, Subscribe, Verb};
use mesita_core::wire::event::{Event as Told, Offer as WireOffer};
use mesita_core::wire::resource::Value;
use mesita_core::wire::task::{Status as WireStatus, TaskAt};
use mesita_core::wire::{Body, BodyRef, Check, Scratch, Seq};

pub use launch::{Executor, Task, Work};
pub use mesita_core::wire::task::{Exit, Reason, TaskState};
pub use mesita_core::wire::{AgentId, FrameworkId, OfferId};

use crate::access::Credential;
use crate::alarm;
use crate::client::{App, ClientNode, Trouble};
use crate::conn::dial::Way;
use crate::disk_thread::Store;
use crate::encoded::Resources;
use crate::io_thread::{Node, Tasks};
use crate::process::{Plan, Process};
use crate::seats::Blueprint;
use crate::tls::{Trust, reached};
use crate::v1::tasks::Bodies;

/// Bytes of bodies that a driver holds.
const BODY_BYTES: u64 = 16 << 20;
/// Bytes that may wait for the master.
const STREAM_BYTES: usize = 4 << 20;
/// Memory for the lists of one call.
const MEMORY: usize = 64 * 1024;
/// Tasks of one [`Driver::accept`].
pub const TASKS_MAX: usize = 64;
/// How long the master may take to hear the last word, in µs.
const GOODBYE_US: u64 = 2_000_000;

/// What a framework is (Mesos: `FrameworkInfo`).
#[derive(Clone, Debug)]
pub struct Framework {
    /// For people.
    pub name: String,
    /// The user its tasks run as; empty = whoever runs the framework.
    pub user: String,
    /// Its roles; none = `*`.
    pub roles: Vec<String>,
    /// How long its tasks live on without it; at least what the master grants everybody.
    pub failover: Duration,
    /// File with the principal and secret that it shows masters which ask for them:
    /// `{"principal": "...", "secret": "..."}`, or that itself; none = it shows none.
    pub credential: Option<PathBuf>,
    /// That it speaks with masters of other machines in the clear, too, where all that is said can be
    /// read and changed on the way.
    pub insecure: bool,
    /// Its id of an earlier run, as [`Event::Subscribed`] has told it: its tasks are its own again.
    pub resume: Option<String>,
}

/// An offer of resources of one agent (Mesos: `Offer`).
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its id.
    pub id: OfferId,
    /// Whose resources.
    pub agent: AgentId,
    /// The agent's host; empty until the agent was introduced.
    pub hostname: String,
    /// The role it is made to.
    pub role: String,
    /// Executors of the framework that run there already.
    pub executors: Vec<String>,
    resources: Resources,
}

impl Offer {
    /// Units of a scalar resource: `cpus`, `mem` in MiB, `disk` in MiB, `gpus`.
    pub fn scalar(&self, name: &str) -> f64 {
        let mut sum = 0u64;
        for resource in self.resources.list().iter().filter(|one| one.name == name) {
            if let Value::Scalar(amount) = resource.value {
                sum = sum.saturating_add(amount.milli());
            }
        }
        crate::v1::amounts::double(Amount::from_milli(sum))
    }
}

/// What became of a task (Mesos: `TaskStatus`).
#[derive(Clone, Debug)]
pub struct Status {
    /// Which.
    pub task: String,
    /// Its state; [`TaskState::is_terminal`] = nothing more comes.
    pub state: TaskState,
    /// Why, if there is more to say than the state.
    pub reason: Option<Reason>,
    /// Why, in a sentence.
    pub message: String,
    /// How its process ended.
    pub exit: Exit,
    /// Where it is, or was.
    pub agent: AgentId,
    /// What its executor has to say of it.
    pub data: Vec<u8>,
}

/// What a scheduler is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// It is a framework now, or again: keep the id to resume by. Offers follow.
    Subscribed {
        /// As [`Framework::resume`] takes it.
        id: String,
    },
    /// Resources it may use, until it answers or they are rescinded.
    Offer(Offer),
    /// An offer is no more.
    Rescinded(OfferId),
    /// What became of a task; acknowledged when the scheduler returns.
    Status(Status),
    /// An agent is lost: its tasks are told one by one.
    Lost(AgentId),
    /// An executor ended: its tasks are told one by one.
    ExecutorLost {
        /// Where it ran.
        agent: AgentId,
        /// Which.
        executor: String,
        /// How it ended.
        exit: Exit,
    },
    /// Bytes from an executor. At most once.
    Message {
        /// Where it runs.
        agent: AgentId,
        /// Which.
        executor: String,
        /// The bytes.
        data: Vec<u8>,
    },
    /// The connection is gone, and tried again; tasks go on.
    Disconnected(String),
    /// What came of something that was asked of the store.
    Stored(Stored),
}

/// Why a framework ended that did not end itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A description, an id or a task that no master would take, and what is wrong with it.
    Invalid(String),
    /// The master wants nothing of it any more.
    Ended(String),
    /// This process cannot run it.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) | Self::Failed(why) => f.write_str(why),
            Self::Ended(why) => write!(f, "the master ended this framework: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// Whoever is told events that are no frames of the master's conversation.
type Tell = dyn Fn(Event);

/// How a scheduler answers. Nothing here waits: what is asked is sent, and its outcome is an event.
pub struct Driver {
    tasks: Tasks,
    tell: Weak<Tell>,
    client: Weak<ClientNode>,
    cluster: Cell<u64>,
    /// Hosts of agents that were introduced.
    hosts: RefCell<BTreeMap<AgentId, String>>,
    end: RefCell<Option<Result<bool, Error>>>,
    changed: event_listener::Event,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl Driver {
    /// Gives an offer back, and refuses the like of it for a while.
    pub fn decline(&self, offer: &Offer, refuse: Duration) {
        let mut memory = [0; 64];
        let offers = Scratch::new(&mut memory).seq::<OfferId>([offer.id]).unwrap_or_default();
        self.call(Verb::Decline { offers, refuse_us: Some(micros(refuse)) }, &[]);
    }

    /// Kills a task; its end is told.
    pub fn kill(&self, task: &str) {
        let task = TaskAt { task, agent: AgentId::NONE };
        self.call(Verb::Kill { task, grace_us: None }, &[]);
    }

    /// Sends bytes to an executor. At most once.
    pub fn message(&self, agent: AgentId, executor: &str, data: &[u8]) {
        let mut bodies = Bodies::default();
        let data = bodies.put(data.to_vec());
        self.call(Verb::Message { agent, executor, data }, &bodies.0);
    }

    /// Has the state of these tasks told, [`TaskState::Unknown`] for those that nobody knows any
    /// more; of none = of all that the master knows.
    pub fn reconcile(&self, tasks: &[&str]) {
        if tasks.is_empty() {
            return self.call(Verb::Reconcile { tasks: Seq::EMPTY }, &[]);
        }
        for some in tasks.chunks(TASKS_MAX) {
            let named = some.iter().map(|&task| TaskAt { task, agent: AgentId::NONE });
            let mut memory = vec![0; MEMORY];
            let tasks = Scratch::new(&mut memory).seq::<TaskAt<'static>>(named);
            self.call(Verb::Reconcile { tasks: tasks.unwrap_or_default() }, &[]);
        }
    }

    /// Wants no offers until [`Driver::revive`].
    pub fn suppress(&self) {
        self.call(Verb::Suppress { roles: Seq::EMPTY }, &[]);
    }

    /// Wants offers again, whatever was refused.
    pub fn revive(&self) {
        self.call(Verb::Revive { roles: Seq::EMPTY }, &[]);
    }

    /// Ends the framework and all its tasks, and [`run`] with it.
    pub fn teardown(&self) {
        self.finish(Ok(false));
    }

    /// Ends [`run`] alone: tasks live on for the failover timeout, to be taken up by
    /// [`Framework::resume`].
    pub fn leave(&self) {
        self.finish(Ok(true));
    }

    fn finish(&self, end: Result<bool, Error>) {
        self.end.borrow_mut().get_or_insert(end);
        self.changed.notify(usize::MAX);
    }

    fn call(&self, verb: Verb<'_>, bodies: &[Vec<u8>]) {
        if let Some(client) = self.client.upgrade() {
            client.call(0, verb, bodies);
        }
    }

    fn bytes(&self, body: Body, bodies: &[BodyRef]) -> Vec<u8> {
        let client = self.client.upgrade();
        client.map_or_else(Vec::new, |client| client.bytes(body, bodies))
    }

    async fn ended(&self) -> Result<bool, Error> {
        loop {
            let listener = self.changed.listen();
            if let Some(end) = self.end.borrow_mut().take() {
                return end;
            }
            listener.await;
        }
    }
}

fn micros(duration: Duration) -> u64 {
    // The longest that is waited anyway.
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(DURATION_MAX_US)
}

/// A driver and the scheduler that it tells.
struct Telling<S> {
    driver: Rc<Driver>,
    scheduler: RefCell<S>,
    /// What the driver's own tasks tell by.
    _tell: Rc<Tell>,
}

impl<S: FnMut(&Driver, Event)> Telling<S> {
    fn tell(&self, event: Event) {
        (self.scheduler.borrow_mut())(&self.driver, event);
    }

    fn offer(&self, offer: &WireOffer<'_>) -> Offer {
        let hosts = self.driver.hosts.borrow();
        Offer {
            id: offer.id,
            agent: offer.agent,
            hostname: hosts.get(&offer.agent).cloned().unwrap_or_default(),
            role: offer.role.to_owned(),
            executors: executors(offer),
            resources: Resources::of(&offer.resources),
        }
    }
}

fn executors(offer: &WireOffer<'_>) -> Vec<String> {
    let detail = offer.detail.as_ref();
    detail.map_or_else(Vec::new, |of| of.executors.iter().map(str::to_owned).collect())
}

fn status(told: &WireStatus<'_>, data: Vec<u8>) -> Status {
    let detail = told.detail();
    Status {
        task: told.task.to_owned(),
        state: told.state,
        reason: detail.reason,
        message: detail.message.to_owned(),
        exit: detail.exit,
        agent: told.agent,
        data,
    }
}

impl<S: FnMut(&Driver, Event)> App for Telling<S> {
    fn event(&self, event: &Told<'_>, bodies: &[BodyRef]) {
        match event {
            Told::Subscribed { framework, cluster, .. } => {
                self.driver.cluster.set(*cluster);
                self.tell(Event::Subscribed { id: framework.shown(*cluster).to_string() });
            }
            Told::Offers { offers } => {
                offers.iter().for_each(|offer| self.tell(Event::Offer(self.offer(&offer))));
            }
            Told::Rescind { offer } => self.tell(Event::Rescinded(*offer)),
            Told::Update { status: told } => {
                let data = self.driver.bytes(told.detail().data, bodies);
                self.tell(Event::Status(status(told, data)));
            }
            Told::Failure { agent, executor: "", .. } => self.tell(Event::Lost(*agent)),
            Told::Agents { agents } => {
                let mut hosts = self.driver.hosts.borrow_mut();
                hosts.extend(agents.iter().map(|one| (one.agent, one.hostname.to_owned())));
            }
            Told::Error { message } => {
                self.driver.finish(Err(Error::Ended((*message).to_owned())));
            }
            Told::Failure { agent, executor, exit } => {
                let (agent, executor, exit) = (*agent, (*executor).to_owned(), *exit);
                self.tell(Event::ExecutorLost { agent, executor, exit });
            }
            Told::Message { agent, executor, data } => {
                let data = self.driver.bytes(*data, bodies);
                let (agent, executor) = (*agent, (*executor).to_owned());
                self.tell(Event::Message { agent, executor, data });
            }
            Told::InverseOffers { .. }
            | Told::RescindInverse { .. }
            | Told::OperationUpdate { .. }
            | Told::Waiting { .. }
            | Told::Reply { .. } => {}
        }
    }

    fn identity(&self, _framework: FrameworkId) {}

    fn connected(&self, connected: Result<(), &Trouble>) {
        let Err(trouble) = connected else { return };
        if trouble.hopeless {
            self.driver.finish(Err(Error::Ended(trouble.why.clone())));
        } else {
            self.tell(Event::Disconnected(trouble.why.clone()));
        }
    }
}

/// Runs a framework until its scheduler ends it. `masters` are `HOST:PORT,...`, in any order.
pub fn run(
    masters: &str,
    framework: &Framework,
    scheduler: impl FnMut(&Driver, Event) + 'static,
) -> Result<(), Error> {
    let resume = framework.resume.as_deref().map(resumed).transpose()?;
    let failed = |error: &dyn fmt::Display| Error::Failed(error.to_string());
    let credential = framework.credential.as_deref().map(Credential::shown).transpose();
    let credential = credential.map_err(|bad| Error::Invalid(bad.to_string()))?.map(Rc::new);
    let capacity = Capacity { tasks: 1_024, offers: 1_024, cells: 4_096, ..Capacity::edge() };
    let config = scheduler::Config { seed: crate::random::number(), acknowledges: true };
    let seat = (Blueprint::Driver { capacity, config }, Store::Memory, BODY_BYTES);
    let plan = Plan { seats: vec![seat], journal: None };
    let mut process = Process::start(plan).map_err(|error| failed(&error))?;
    let (port, tasks) = (process.port(0), process.tasks());
    let user = Credential::user(credential.as_deref(), &framework.user);
    let framework = &Framework { user, ..framework.clone() };
    let client = ClientNode::new(port, STREAM_BYTES, credential);
    let telling = Rc::new_cyclic(|me: &Weak<Telling<_>>| {
        let of = me.clone();
        let tell: Rc<Tell> = Rc::new(move |event| {
            if let Some(telling) = of.upgrade() {
                telling.tell(event);
            }
        });
        let driver = Driver {
            tasks: tasks.clone(),
            tell: Rc::downgrade(&tell),
            client: Rc::downgrade(&client),
            cluster: Cell::new(0),
            hosts: RefCell::default(),
            end: RefCell::default(),
            changed: event_listener::Event::new(),
        };
        Telling { driver: Rc::new(driver), scheduler: RefCell::new(scheduler), _tell: tell }
    });
    let driver = Rc::clone(&telling.driver);
    client.serve(telling as Rc<dyn App>);
    let trust = Trust { insecure: framework.insecure, ..Trust::default() };
    let (addresses, over) = reached(masters.split(','), trust).map_err(Error::Invalid)?;
    let nodes: [Rc<dyn Node>; 1] = [Rc::clone(&client) as Rc<dyn Node>];
    process.run(&nodes, async {
        describe(&client, framework)?;
        if let Some(framework) = resume {
            client.put(&Input::Resume { framework });
        }
        tasks.go(Rc::clone(&client).stay_connected(Way::To(addresses, over)));
        let failover = driver.ended().await?;
        client.put(&Input::Stop { failover });
        alarm::within(GOODBYE_US, client.stopped()).await;
        Ok(())
    })
}

fn describe(client: &ClientNode, framework: &Framework) -> Result<(), Error> {
    let mut memory = vec![0; 8192];
    let usual = ["*".to_owned()];
    let roles = if framework.roles.is_empty() { &usual[..] } else { &framework.roles };
    let roles = roles.iter().map(String::as_str);
    let roles = Scratch::new(&mut memory).seq::<&'static str>(roles);
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let capabilities =
        [Capability::TaskKillingState, Capability::PartitionAware, Capability::MultiRole];
    let subscribe = Subscribe {
        name: &framework.name,
        user: &framework.user,
        principal: "",
        hostname: &node,
        webui_url: "",
        roles: roles.map_err(|_| Error::Invalid("too many roles, or too long".to_owned()))?,
        suppressed: Seq::EMPTY,
        minimums: Seq::EMPTY,
        failover_us: micros(framework.failover),
        capabilities: capabilities.iter().fold(0, |bits, one| bits | one.bit()),
        owned: Ownership::Scheduler,
        public: Body::NONE,
    };
    subscribe.check().map_err(|bad| Error::Invalid(bad.to_string()))?;
    client.put(&Input::Describe(subscribe));
    Ok(())
}

/// Reads an id as [`Event::Subscribed`] tells it.
fn resumed(id: &str) -> Result<FrameworkId, Error> {
    let cluster = crate::encoded::cluster_of(id);
    let framework = cluster.and_then(|cluster| FrameworkId::parse(id, cluster));
    framework.ok_or_else(|| Error::Invalid(format!("`{id}` is not the id of a framework")))
}
