//! The IO side of a master.
//!
//! | file | concern |
//! |---|---|
//! | `arrivals` | who connects, as what, and for how long |
//! | `schedulers`, `strangers` | frameworks that speak Mesos' scheduler API; agents of none that they ask after |
//! | `operator`, `operations` | operators that speak Mesos' operator API: reads, and changes |
//! | `quotas` | what they say of quota, in each form that Mesos has had for it |
//! | `reservations` | what they reserve, and in another way |
//! | `rights` | what `--acls` let callers do |
//! | `site` | what it answers over HTTP |
//! | `standby` | what it answers while another one leads |
//! | `joining`, `proofs` | nodes that join by a token; the keys that they have changed to |
//! | `agents` | what agents answer, served under `/agent/<id>/` |
//! | `masters` | who the masters are, shown and changed |
//! | `counted`, `tallies` | how much peers have said, by kind; frameworks, each |
//! | `store` | what frameworks store |
//! | `durable` | what several masters keep of what their leader decides |
//! | `heads` | what they say, on its way to the core |
//! | `streams` | logs, passed on to their agent, and rows of the catalog |
//! | `explain` | why a framework does not get what an agent has, as people say it |
//! | `verdicts` | what is wrong with tasks, looking at each alone |

mod agents;
mod arrivals;
mod counted;
mod durable;
mod explain;
mod guests;
mod heads;
pub(crate) mod joining;
mod maintenance;
mod masters;
mod operations;
mod operator;
mod proofs;
mod quotas;
pub(crate) mod requests;
mod reservations;
mod rights;
mod schedulers;
mod site;
mod standby;
mod store;
mod strangers;
mod streams;
pub(crate) mod tallies;
mod verdicts;
pub(crate) mod whitelist;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use mesita_core::drive::sent;
use mesita_core::master::rows::AgentState;
use mesita_core::master::{Fact, Input, Output};
use mesita_core::table::Id;
use mesita_core::wire::agent::AgentEvent;
use mesita_core::wire::event::{AgentInfo, Event};
use mesita_core::wire::hello::Role;
use mesita_core::wire::{AgentId, BodyRef, Head, Scratch, decode};

use crate::access::Access;
use crate::audit::{self, Audit};
use crate::catalog::Catalog;
use crate::clock;
use crate::conn::Conn;
use crate::conn::hello::Own;
use crate::conn::listen::Door;
use crate::conns::Conns;
use crate::doors::{Caller, Doors};
use crate::encoded::Described;
use crate::http::idle::Idle;
use crate::http::long::Long;
use crate::io_thread::{Node, Tasks};
use crate::legacy::moments::Moments;
use crate::machines::waiting::Level;
use crate::port::Port;
use crate::set::charter::Sources;
use crate::set::node::SetNode;
use crate::set::standing::Standing;
use crate::v1::events::agent_id;
use operator::Subscribers;
use schedulers::Schedulers;

/// What an operator chose about connections.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// A: an agent silent for so long has no session any more, in µs.
    pub(crate) agent_timeout_us: u64,
    /// Bytes that may wait for one connection.
    pub(crate) stream_bytes_max: usize,
    /// Bytes that may wait for an agent: everything that can be carried at once, and as much again
    /// as for others.
    pub(crate) agent_bytes_max: usize,
    /// Connections that said hello.
    pub(crate) conns_max: u32,
    /// Different callers.
    pub(crate) callers_max: u32,
    /// What it is called where clients are shown it; none = as its address.
    pub(crate) hostname: Option<String>,
    /// Where the master is.
    pub(crate) region: String,
    /// See `region`.
    pub(crate) zone: String,
    /// The file of the hosts whose agents may be offered.
    pub(crate) whitelist: Option<PathBuf>,
    /// It listens where others reach it, in the clear.
    pub(crate) insecure: bool,
    /// What is spoken at its port.
    pub(crate) door: Rc<Door>,
    /// Who may use it.
    pub(crate) access: Access,
    /// What the flags say, for who asks.
    pub(crate) flags: BTreeMap<String, String>,
    /// What is kept of who changed what.
    pub(crate) audit: audit::Wanted,
    /// What a master is given that joins this one.
    pub(crate) charter: Sources,
    /// Its place among the masters of the cluster.
    pub(crate) standing: Rc<Standing>,
}

/// The IO side of a master.
pub(crate) struct MasterNode {
    pub(crate) port: Port,
    tasks: Tasks,
    pub(crate) options: Options,
    pub(crate) conns: Conns,
    schedulers: Schedulers,
    subscribers: Subscribers,
    /// The turn of whoever is told a long answer.
    reading: smol::lock::Semaphore,
    /// Such answers, until they are read.
    long: Long,
    idle: Idle,
    /// Agents that wait here for a leader, or to be joined to it.
    guests: Idle,
    /// Those that this master has joined to the leader.
    joined_here: guests::Joined,
    moments: Moments,
    waiting: RefCell<operations::Waiting>,
    pub(crate) doors: Doors,
    callers: RefCell<Vec<Caller>>,
    pub(crate) catalog: RefCell<Catalog>,
    own: RefCell<Own>,
    pub(crate) store: RefCell<store::Store>,
    pub(super) audit: Audit,
    /// How long tokens count.
    pub(crate) counting: joining::Counting,
    pub(crate) requests: RefCell<requests::Requests>,
    /// Agents that frameworks were told of, by connection.
    introduced: RefCell<BTreeMap<Id, BTreeSet<AgentId>>>,
    /// Connections of agents that are registered.
    agent_conns: RefCell<BTreeMap<AgentId, Id>>,
    /// Clients that the core was told of, because they operate the cluster.
    operators: RefCell<BTreeSet<Id>>,
    welcomes: durable::Welcomes,
    counted: counted::Counted,
    tallies: tallies::Tallies,
    /// When it began to lead, by the wall clock; 0 = not yet.
    pub(crate) elected_us: Cell<u64>,
    /// When the process began, by the wall clock.
    started_us: u64,
    pub(crate) led: event_listener::Event,
    /// It leads no more, and begins again.
    deposed: event_listener::Event,
    /// Its part in the election, if it is one of a set.
    pub(crate) of_set: RefCell<Weak<SetNode>>,
    me: Weak<Self>,
}

impl MasterNode {
    /// The IO side of the master in the seat of `port`.
    pub(crate) fn new(port: Port, tasks: Tasks, options: Options) -> Rc<Self> {
        let doors = Doors::new(options.insecure);
        Rc::new_cyclic(|me| Self {
            port,
            tasks,
            conns: Conns::new(options.conns_max),
            idle: Idle::of(options.conns_max as usize),
            guests: Idle::of(options.conns_max as usize),
            joined_here: guests::Joined::default(),
            audit: Audit::open(&options.audit).unwrap_or_else(|why| {
                // It could be opened when the flags were looked at.
                log::error!("{why}");
                Audit::default()
            }),
            options,
            schedulers: Schedulers::default(),
            subscribers: Subscribers::default(),
            reading: smol::lock::Semaphore::new(1),
            long: Long::default(),
            moments: Moments::default(),
            waiting: RefCell::default(),
            doors,
            callers: RefCell::default(),
            catalog: RefCell::default(),
            own: RefCell::new(Own::new(Role::Master)),
            store: RefCell::default(),
            counting: joining::Counting::default(),
            requests: RefCell::default(),
            introduced: RefCell::default(),
            agent_conns: RefCell::default(),
            operators: RefCell::default(),
            welcomes: durable::Welcomes::default(),
            counted: counted::Counted::default(),
            tallies: tallies::Tallies::default(),
            elected_us: Cell::new(0),
            started_us: clock::wall_us(),
            led: event_listener::Event::new(),
            deposed: event_listener::Event::new(),
            of_set: RefCell::default(),
            me: me.clone(),
        })
    }

    /// Waits until this master leads.
    pub(crate) async fn leading(&self) {
        loop {
            let listener = self.led.listen();
            if self.elected_us.get() != 0 {
                return;
            }
            listener.await;
        }
    }

    /// The number that the core knows a caller by; none when there are too many.
    fn number_of(&self, caller: &Caller) -> Option<u16> {
        let mut callers = self.callers.borrow_mut();
        let known = callers.iter().position(|known| known.name == caller.name);
        let number = match known {
            Some(number) if callers[number].rights == caller.rights => number,
            // What it may do has changed: the core has whoever it is once.
            Some(number) => {
                callers[number].rights = caller.rights;
                self.port.put(&Input::Caller {
                    caller: u16::try_from(number).ok()?,
                    name: &caller.name,
                    rights: caller.rights,
                });
                number
            }
            None if callers.len() >= self.options.callers_max as usize => return None,
            None => {
                callers.push(Caller::new(caller.name.clone(), caller.rights));
                let number = callers.len() - 1;
                let input = Input::Caller {
                    caller: u16::try_from(number).ok()?,
                    name: &caller.name,
                    rights: caller.rights,
                };
                self.port.put(&input);
                number
            }
        };
        u16::try_from(number).ok()
    }

    /// What an outbox does when its level changes.
    fn on_level(&self, id: Id) -> impl Fn(Level) + 'static {
        let me = self.me.clone();
        move |level| {
            let Some(me) = me.upgrade() else { return };
            match level {
                Level::Congested => me.port.put(&Input::Congested { conn: id }),
                Level::Drained => me.port.put(&Input::Drained { conn: id }),
                Level::Overrun => log::warn!("a connection that reads too slowly was cut"),
            }
        }
    }

    /// Passes a head on to its connection.
    fn send(&self, conn: Id, head: &[u8], bodies: &[BodyRef]) {
        self.core_answers(conn, head);
        if !self.holds_back(conn, head, bodies) && !self.answer_when_durable(conn, head, bodies) {
            self.send_now(conn, head, bodies);
        }
    }

    fn send_now(&self, conn: Id, head: &[u8], bodies: &[BodyRef]) {
        if let Ok(Head::Event(event)) = decode(head) {
            self.tallies.told(conn, &event);
            if let Event::Update { status, .. } = &event {
                self.catalog.borrow_mut().refused(status);
                self.note_launch(conn, status);
            }
        }
        if self.tell_scheduler(conn, head, bodies) || self.answer_operation(conn, head) {
            return;
        }
        let Some(conn) = self.conns.get(conn) else { return };
        if conn.peer.role == Role::Agent {
            // Pings are for the session that the master has opened.
            if let Ok(Head::AgentEvent(AgentEvent::Registered { session, agent, .. })) =
                decode(head)
            {
                conn.session.set(session);
                conn.heard.set(clock::now());
                self.agent_conns.borrow_mut().insert(agent, conn.id);
            }
        } else if let Ok(Head::Event(Event::Offers { offers })) = decode(head) {
            self.introduce(&conn, offers.iter().map(|offer| offer.agent));
        }
        conn.send(head, bodies, &self.port);
    }

    /// Tells a framework about agents that it was not told of on this connection.
    fn introduce(&self, conn: &Rc<Conn>, agents: impl Iterator<Item = AgentId>) {
        let mut introduced = self.introduced.borrow_mut();
        let told = introduced.entry(conn.id).or_default();
        let catalog = self.catalog.borrow();
        let new: Vec<&Described> = agents
            .filter(|agent| told.insert(*agent))
            .filter_map(|agent| catalog.agent(agent).map(|(_, row)| &row.info))
            .collect();
        // As many at once as surely fit what the peer takes.
        for some in new.chunks(16) {
            let mut memory = vec![0; conn.peer.head_max as usize];
            let mut scratch = Scratch::new(&mut memory);
            let infos = some.iter().filter_map(|described| described.info());
            match scratch.seq::<AgentInfo<'static>>(infos) {
                Ok(agents) => conn.say(&Head::Event(Event::Agents { agents })),
                Err(_) => log::warn!("descriptions of agents larger than a framework takes"),
            }
        }
    }

    fn fact(&self, fact: &Fact<'_>, bodies: &[BodyRef]) {
        let wall_us = clock::wall_us();
        if let Fact::Leading { cluster, fence } = *fact {
            let mut own = self.own.borrow_mut();
            (own.cluster, own.generation) = (cluster, fence.generation);
            self.elected_us.set(wall_us);
            self.led.notify(usize::MAX);
            log::info!("leading cluster {cluster:016x} in epoch {}", fence.epoch);
        }
        self.keep(fact);
        self.say_of_agents(fact);
        self.tallies.fact(fact, &self.catalog.borrow().now);
        let change = self.before_fact(fact);
        {
            let store = self.port.bodies.borrow();
            let bytes = |body| store.bytes(body);
            self.catalog.borrow_mut().fold(fact, wall_us, bodies, bytes);
        }
        if let Some(change) = change {
            self.after_fact(change);
        }
        if let Fact::Agent { row, .. } = *fact {
            self.judge_agent(row);
        }
    }

    /// An operator reads in the log which agents are lost, and which only wait for a word.
    fn say_of_agents(&self, fact: &Fact<'_>) {
        let (row, what) = if let Fact::AgentState { row, state: AgentState::Losing } = *fact {
            (row, "is given up")
        } else if let Fact::AgentKept { row } = *fact {
            let why = "does not come back, and is not given up: so many are away that they may be well where no \
                       master reaches them; `mesita drain AGENT --gone` is for one that is lost";
            (row, why)
        } else {
            return;
        };
        if let Some(agent) = self.catalog.borrow().now.agents.get(row) {
            let host = agent.info.info().map_or("", |info| info.hostname);
            let id = agent_id(agent.id, self.own.borrow().cluster).value;
            log::warn!("agent {id} at {host} {what}");
        }
    }
}

impl Node for MasterNode {
    fn port(&self) -> &Port {
        &self.port
    }

    fn output(&self, output: &[u8], bodies: &[BodyRef]) {
        if let Some((conn, head)) = sent(output) {
            return self.send(conn, head, bodies);
        }
        let Ok(output) = postcard::from_bytes(output) else {
            mesita_core::stop(line!(), "an output of a master that cannot be read");
        };
        match output {
            // Sent above.
            Output::Send { .. } => {}
            Output::Close { conn, reason, message } => {
                if self.close_scheduler(conn) {
                    return;
                }
                if let Some(conn) = self.conns.get(conn) {
                    conn.part(reason, message);
                }
            }
            Output::Fact(fact) => self.fact(&fact, bodies),
            Output::KeepBody(body) => self.port.bodies.borrow_mut().keep(body),
            Output::DropBody(body) => self.port.bodies.borrow_mut().drop(body),
            Output::Outranked { fence } => {
                if let Some(set) = self.of_set.borrow().upgrade() {
                    set.is_outranked(fence);
                }
            }
            Output::Await { agent } => {
                let me = self.me.clone();
                self.when_durable(move || {
                    if let Some(me) = me.upgrade() {
                        me.port.put(&Input::Marked { agent });
                    }
                });
            }
        }
    }
}
