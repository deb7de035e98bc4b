//! The IO side of an agent.
//!
//! | file | concern |
//! |---|---|
//! | `prepare` | before the first thread: work directory, key, ledger, keeper, machine |
//! | `start` | what the core is told first: description, ledger, what still runs |
//! | `link` | the way to the master, and its signs of life |
//! | `rekey` | another key by which masters know it |
//! | `around` | the way to a leader that this agent does not reach itself |
//! | `news` | which of several masters leads |
//! | `arrivals` | who connects: executors, and others, who are shown the way to the leader |
//! | `containers`, `hands` | what is known of containers; what the core wants done with them |
//! | `fresh` | whether a launch may still begin |
//! | `build`, `garbage` | what a launch is made of; what is left of containers, and goes |
//! | `devices` | devices as resources |
//! | `docker` | tasks whose containers a Docker engine holds |
//! | `fetch` | what commands need in their sandboxes |
//! | `images` | what tasks stand on instead of the machine's own files |
//! | `inner` | containers inside of others, and sessions |
//! | `beside`, `checks`, `nobody` | processes beside tasks; checks and health checks; their connections |
//! | `executors` | executors that speak Mesos' executor API |
//! | `operator` | what it answers by the operator API |
//! | `site`, `state`, `metrics`, `usage`, `files` | what it answers over HTTP |
//! | `spare` | what is offered twice, and taken back |
//! | `tally` | what tasks and executors there are |
//! | `keeper` | the conversation with the keeper |
//! | `terminals` | terminals of tasks, and of what is inside of them |
//! | `watch` | what the kernel tells by a descriptor |
//! | `logs`, `bounds` | what tasks wrote, for streams; how much of it is kept |

mod around;
mod arrivals;
mod beside;
mod bounds;
mod build;
mod checks;
mod containers;
mod devices;
pub(crate) mod docker;
mod executors;
pub(crate) mod fetch;
mod files;
mod fresh;
pub(crate) mod garbage;
mod hands;
mod images;
mod inner;
mod keeper;
mod limited;
mod link;
mod logs;
mod metrics;
mod news;
mod nobody;
mod operator;
pub(crate) mod prepare;
mod pulls;
mod rekey;
mod site;
mod spare;
mod start;
mod state;
mod tally;
mod terminals;
mod tokens;
mod usage;
mod volumes;
mod walls;
mod watch;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use event_listener::Event;
use mesita_core::Refusal;
use mesita_core::agent::ledger::Record;
use mesita_core::agent::{Input, Output};
use mesita_core::drive::sent;
use mesita_core::limits::VERSION_MAX;
use mesita_core::table::Id;
use mesita_core::time::Time;
use mesita_core::wire::agent::AgentCall;
use mesita_core::wire::link::Parting;
use mesita_core::wire::{BodyRef, Fence, Head, decode};

use crate::access::{Access, Credential, ForTasks};
use crate::alarm;
use crate::audit::{self, Audit};
use crate::conn::Conn;
use crate::conn::hello::Own;
use crate::conn::learned::Learned;
use crate::conns::Conns;
use crate::disk_thread::{Job, ToDisk, Turn};
use crate::doors::Doors;
use crate::http::idle::Idle;
use crate::io_thread::{Node, Tasks};
use crate::machines::waiting::Level;
use crate::port::Port;
use crate::tls::{Pin, Transport};
use beside::Beside;
use containers::Containers;
pub(crate) use docker::Options as EngineOptions;
use executors::Executors;
#[cfg(any(test, fuzzing))]
pub(crate) use inner::judge;
pub(crate) use keeper::{pidfd_of, wait_for};
use news::News;
pub(crate) use prepare::{Life, Prepared, prepare};
pub(crate) use start::Ready;
use tally::Tally;

/// How long peers may take to read that the agent ends, in µs.
const GOODBYE_US: u64 = 500_000;

/// What an operator chose about an agent's conversations and containers.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Bytes that may wait for one connection.
    pub(crate) stream_bytes_max: usize,
    /// Bytes that may wait for the master: everything that is held here, and as much again as for
    /// others.
    pub(crate) master_bytes_max: usize,
    /// Connections that said hello.
    pub(crate) conns_max: u32,
    /// The longest first pause before a master is tried again, in µs.
    pub(crate) backoff_us: u64,
    /// How long the sandbox of a container that ended is kept.
    pub(crate) keeping: garbage::Keeping,
    /// Containers that the API may have started at once.
    pub(crate) inner_max: usize,
    /// Blocking steps at once.
    pub(crate) hands: usize,
    /// Bytes that are kept of each of a task's two files of output; 0 = all.
    pub(crate) log_bytes_max: u64,
    /// What tasks bring into their sandboxes.
    pub(crate) fetch: fetch::Options,
    /// What flags and the machine say of what every Docker container may use.
    pub(crate) docker_room: docker::Rooms,
    /// `--devices`.
    pub(crate) devices: Option<String>,
    /// What is offered twice.
    pub(crate) spare: crate::flags::spare::Spare,
    /// Tasks run as their users.
    pub(crate) switch_user: bool,
    /// `host:port` where its own API answers; empty = nowhere but through the master.
    pub(crate) address: String,
    /// Region and zone.
    pub(crate) region: String,
    pub(crate) zone: String,
    /// Tasks it can hold.
    pub(crate) tasks_max: u32,
    /// Kinds of tasks it runs.
    pub(crate) task_kinds: u32,
    /// The key of the masters by which it joins: known to the next start.
    pub(crate) joining: Option<Pin>,
    /// It listens where others reach it, in the clear.
    pub(crate) insecure: bool,
    /// Who may use it.
    pub(crate) access: Access,
    /// What is kept of who changed what at its own port.
    pub(crate) audit: audit::Wanted,
    /// What it proves who it is by.
    pub(crate) credential: Option<Rc<Credential>>,
    /// What every task finds in its environment.
    pub(crate) for_tasks: ForTasks,
    /// What the flags say, for who asks.
    pub(crate) flags: std::collections::BTreeMap<String, String>,
    /// It ends with this process.
    pub(crate) life: Life,
}

/// The IO side of an agent.
pub(crate) struct AgentNode {
    pub(crate) port: Port,
    tasks: Tasks,
    to_disk: Rc<ToDisk>,
    options: Options,
    key: [u8; 32],
    work_dir: PathBuf,
    hostname: String,
    resources: String,
    /// What its core says that it has; none before that has started.
    has: RefCell<Option<crate::encoded::Resources>>,
    attributes: String,
    conns: Conns,
    idle: Idle,
    doors: Doors,
    audit: Audit,
    own: RefCell<Own>,
    containers: Containers,
    executors: Executors,
    tally: Tally,
    outcomes: metrics::Outcomes,
    /// When the process began, by the wall clock.
    started_us: u64,
    /// How long it took then to read what earlier ones have left.
    recovery_us: Cell<u64>,
    keeper: keeper::Link,
    beside: Beside,
    inners: inner::Inners,
    fetcher: fetch::Fetcher,
    docker: docker::Docker,
    spare: spare::Spare,
    devices: devices::Devices,
    images: images::Images,
    pulls: pulls::Pulls,
    volumes: volumes::Volumes,
    bounds: bounds::Bounds,
    /// The connection to the master, if there is one.
    master: Cell<Option<Id>>,
    /// Silence for so long ends the session, in µs; 0 = there is no session.
    timeout_us: Cell<u64>,
    session_changed: Event,
    /// When the newest question was asked that a master has answered; 0 = none has.
    contact: Cell<Time>,
    /// Who leads, as other masters say.
    news: News,
    /// Where masters are beside the addresses that it was given.
    learned: Learned,
    /// How they are reached.
    transport: RefCell<Transport>,
    /// By which keys it is known to them.
    keys: rekey::Keys,
    /// Somebody holds a task that stops when no master has answered for too long.
    renews: Cell<bool>,
    /// The newest reign that it has obeyed.
    seen: Cell<Fence>,
    /// Where the leader was seen last.
    leader: RefCell<Option<String>>,
    /// Ends of terminals that an earlier agent has made, until what they belong to is taken over.
    terminals: RefCell<terminals::Ends>,
    /// What the master is called by its clients, if it says.
    called: RefCell<Option<String>>,
    /// Its disk has no room: no task is taken.
    disk_full: Cell<bool>,
    /// The agent has left, or its keeper is gone: the process is to end.
    pub(crate) over: Over,
    /// Of the work directory, for as long as the process lives.
    _lock: std::fs::File,
    me: Weak<Self>,
}

/// Why an agent's process ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It was told to leave, and everything ended.
    Left,
    /// Its keeper died: it has to start again.
    KeeperGone,
    /// It has less than frameworks keep on it, or its ledger is a copy or older.
    Unfit,
}

/// Told once, to whoever waits.
#[derive(Default)]
pub(crate) struct Over {
    why: Cell<Option<Why>>,
    told: Event,
}

impl Over {
    fn tell(&self, why: Why) {
        if self.why.get().is_none() {
            self.why.set(Some(why));
            self.told.notify(usize::MAX);
        }
    }

    /// True when it is over.
    pub(crate) fn is_told(&self) -> bool {
        self.why.get().is_some()
    }

    /// Waits until it is over.
    pub(crate) async fn wait(&self) -> Why {
        loop {
            let listener = self.told.listen();
            if let Some(why) = self.why.get() {
                return why;
            }
            listener.await;
        }
    }
}

impl AgentNode {
    /// Where it works.
    pub(crate) fn work_dir(&self) -> &std::path::Path {
        &self.work_dir
    }

    /// What holds its tasks, for people: the isolators that are on.
    pub(crate) fn isolators(&self) -> Vec<&'static str> {
        self.containers.isolators()
    }

    /// Its name.
    pub(crate) fn hostname(&self) -> &str {
        &self.hostname
    }

    /// What it offers.
    pub(crate) fn resources(&self) -> &str {
        &self.resources
    }

    /// Everything is to end; [`Over`] tells when it did.
    pub(crate) fn leave(&self) {
        self.port.put(&Input::Leave);
    }

    /// Says goodbye to everybody, and waits a moment for it to be sent.
    pub(crate) async fn part_from_all(&self, reason: Parting) {
        let conns = self.conns.all();
        for conn in &conns {
            conn.part(reason, "the agent restarts or ends");
        }
        let sent = async {
            while conns.iter().any(|conn| conn.outbox.bytes() > 0) {
                alarm::after(5_000).await;
            }
        };
        alarm::within(GOODBYE_US, sent).await;
    }

    fn on_level(&self, what: &'static str) -> impl Fn(Level) + 'static {
        move |level| {
            if level == Level::Overrun {
                log::warn!("the connection to {what} reads too slowly and was cut");
            }
        }
    }
}

/// True when the protocol of the other end has this message.
fn knows(conn: &Conn, head: &[u8]) -> bool {
    let since = || decode::<Head<'_>>(head).map_or(1, |head| head.since());
    conn.peer.version == VERSION_MAX || conn.peer.version >= since()
}

impl Node for AgentNode {
    fn port(&self) -> &Port {
        &self.port
    }

    fn output(&self, output: &[u8], bodies: &[BodyRef]) {
        if let Some((conn, head)) = sent(output) {
            self.note_told(head, bodies);
            if self.keeps_back(conn, head) || self.tell_executor(conn, head, bodies) {
                return;
            }
            if let Some(conn) = self.conns.get(conn)
                && knows(&conn, head)
            {
                if let Ok(head) = decode::<Head<'_>>(head) {
                    self.outcomes.tells(&head);
                    if let Head::ExecutorEvent(event) = &head {
                        self.executors.told(conn.id, event);
                    }
                }
                conn.send(head, bodies, &self.port);
            }
            return;
        }
        let Ok(output) = postcard::from_bytes(output) else {
            mesita_core::stop(line!(), "an output of an agent that cannot be read");
        };
        match output {
            // Sent above.
            Output::Send { .. } => {}
            Output::Close { conn, reason, message } => {
                if self.master.get() == Some(conn) {
                    log::warn!("the master: {message}");
                }
                if self.close_executor(conn) {
                    return;
                }
                if let Some(conn) = self.conns.get(conn) {
                    conn.part(reason, message);
                }
            }
            Output::Persist { sequence, sync, record } => {
                self.persist(sequence, sync, &record, bodies);
            }
            Output::Hand(hand) => self.hand(&hand, bodies),
            Output::Session { session, timeout_us } => {
                let none = session == Default::default();
                if let Some(conn) = self.master.get().and_then(|id| self.conns.get(id)) {
                    conn.session.set(session);
                    let asked = conn.heard.replace(crate::clock::now());
                    if !none {
                        // It answers the registration, which went out after that.
                        self.answered(asked);
                    }
                }
                self.inners.session.set(self.inners.session.get().max(session));
                self.timeout_us.set(if none { 0 } else { timeout_us });
                self.session_changed.notify(usize::MAX);
            }
            Output::Identity { agent, cluster, fence } => {
                let mut own = self.own.borrow_mut();
                if own.cluster != cluster || own.generation != fence.generation {
                    log::info!("agent {} of cluster {cluster:016x}", agent.shown(cluster));
                }
                (own.cluster, own.generation) = (cluster, fence.generation);
                self.seen.set(fence);
                self.containers.named(agent, cluster);
            }
            Output::KeepBody(body) => self.port.bodies.borrow_mut().keep(body),
            Output::DropBody(body) => self.port.bodies.borrow_mut().drop(body),
            Output::Left => self.over.tell(Why::Left),
            Output::Outlived => {
                log::error!("{}", Refusal::LedgerOutlived.sentence());
                self.over.tell(Why::Unfit);
            }
            Output::Disk { full } => {
                self.disk_full.set(full);
                // What is left of containers that ended goes now.
                self.containers.garbage_changed.notify(usize::MAX);
            }
            Output::Resources { resources } => {
                *self.has.borrow_mut() = Some(crate::encoded::Resources::of(&resources));
            }
        }
    }
}

impl AgentNode {
    /// What the master is told of tasks is told to others as well.
    fn note_told(&self, head: &[u8], bodies: &[BodyRef]) {
        if let Ok(Head::AgentCall(AgentCall::Update { framework, latest, status })) = decode(head) {
            let store = self.port.bodies.borrow();
            self.tally.told(framework, latest, &status, |body| store.bytes(body.of(bodies)));
        }
    }

    fn persist(&self, sequence: u64, sync: bool, record: &Record<'_>, bodies: &[BodyRef]) {
        let (ends, around) = if let Record::Update { framework, status, .. } = record
            && status.state.is_terminal()
        {
            let of = (*framework, status.task);
            (self.tally.given(of.0, of.1), self.tally.around(of.0, of.1))
        } else {
            (None, None)
        };
        let came = {
            let store = self.port.bodies.borrow();
            let cluster = self.own.borrow().cluster;
            self.executors.noted(record, cluster, |body| store.bytes(body.of(bodies)));
            self.tally.noted(record, |body| store.bytes(body.of(bodies)))
        };
        if let Some(row) = ends {
            self.over_for_executor(&row);
        }
        if let Some(around) = around {
            self.resize(around);
        }
        if let Record::Task { framework, launch, .. } = record
            && came
        {
            self.came_to_executor(*framework, launch.task);
        }
        let turn = if matches!(record, Record::SnapshotBegins) {
            Turn::Begins
        } else if matches!(record, Record::SnapshotEnds) {
            Turn::Ends
        } else {
            Turn::Append
        };
        // Our own types have no way to fail.
        let record = postcard::to_allocvec(record).unwrap_or_default();
        let store = self.port.bodies.borrow();
        let bytes = bodies.iter().map(|&body| store.bytes(body)).collect();
        let packet = crate::conn::outbox::Packet::new(&record, bodies, bytes);
        let (frame, bodies) = packet.into_parts();
        let seat = self.port.seat();
        self.to_disk.write(Job::Ledger { seat, sequence, sync, turn, frame, bodies });
    }
}
