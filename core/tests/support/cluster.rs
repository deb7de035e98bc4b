//! A whole cluster in one thread: the real master, agents and drivers between a network, disks
//! and processes that a seed decides.
//!
//! Time is virtual, every message goes by its bytes, and everything that is random comes from the
//! seed: the same seed is the same run, step by step. What must hold is checked from outside: from
//! the facts the master tells, from what the fake kernel runs, from what schedulers were told.

use std::collections::{BTreeMap, BTreeSet};

use mesita_core::Refusal;
use mesita_core::agent::{self, Agent, Hand, Stamped, ledger::Record};
use mesita_core::capacity::Capacity;
use mesita_core::doors::Rights;
use mesita_core::drive::{BUFFER, Drive, Front, Sink};
use mesita_core::master::{self, Fact, Master};
use mesita_core::rand::Rng;
use mesita_core::registry::rows::Admission;
use mesita_core::resources::Amount;
use mesita_core::scheduler::{self, Driver};
use mesita_core::table::Id;
use mesita_core::time::Time;
use mesita_core::wire::agent::*;
use mesita_core::wire::call::*;
use mesita_core::wire::event::{Event, Unavailability};
use mesita_core::wire::hello::Role;
use mesita_core::wire::operator::{MachineId, OperatorCall, OperatorVerb, Planned};
use mesita_core::wire::resource::{Resource, Value};
use mesita_core::wire::task::*;
use mesita_core::wire::*;

use super::Leak;
use super::rig::{CLUSTER, Rig, config};
use super::text::{scratch, wire};

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// Outputs of one step, by their bytes.
#[derive(Default)]
pub struct Taken(pub Vec<(Vec<u8>, Vec<BodyRef>)>);

impl Sink for Taken {
    fn put(&mut self, output: &[u8], bodies: &[BodyRef]) {
        self.0.push((output.to_vec(), bodies.to_vec()));
    }
}

/// Who is stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Master,
    Agent(usize),
    Framework(usize),
}

/// What happens at some time.
#[derive(Clone, Debug)]
enum Happening {
    /// A head arrives, unless its connection is gone by then.
    Deliver { to: Node, link: u64, head: Vec<u8>, bodies: Vec<BodyRef> },
    /// A connection is gone at this end.
    Closed { at: Node, link: u64 },
    /// An agent or scheduler dials.
    Dial { who: Node },
    /// A write is done.
    Persisted { at: Node, life: u64, sequence: u64 },
    /// The registry has what was said of an agent.
    Marked { life: u64, agent: Id },
    /// A container runs.
    Started { agent: usize, container: ContainerId },
    /// A check of a container's task finds something, and its health check, too.
    Looked { agent: usize, container: ContainerId, healthy: bool, kill: bool },
    /// A container's process ends by itself.
    Exits { agent: usize, container: ContainerId, exit: Exit },
    /// The agent hears of it.
    Ended { agent: usize, life: u64, container: ContainerId, exit: Exit },
    /// A dead process starts again.
    Restart { who: Node },
    /// A deadline.
    Tick { at: Node, life: u64 },
    /// A scheduler looks at its offers.
    Decide { framework: usize },
}

/// Two ends of a connection. Each end has a number of its own for it, as daemons have.
#[derive(Clone, Copy, Debug)]
struct Link {
    ends: [(Node, Id); 2],
    open: [bool; 2],
    last_ping: Time,
}

struct AgentNode {
    drive: Option<Drive<'static, Agent<'static>>>,
    life: u64,
    /// The file: records with their bodies, and how many of them the disk has for sure.
    file: Vec<(Vec<u8>, Vec<BodyRef>)>,
    synced: usize,
    /// The keeper's containers: running, or how they ended.
    containers: BTreeMap<ContainerId, Option<Exit>>,
    resources: &'static str,
    key: u8,
    link: Option<u64>,
    ticking: Time,
}

struct FrameworkNode {
    drive: Option<Drive<'static, Driver<'static>>>,
    life: u64,
    id: FrameworkId,
    role: &'static str,
    offers: Vec<(OfferId, AgentId)>,
    link: Option<u64>,
    ticking: Time,
    next_task: u32,
    pub told: BTreeMap<String, TaskState>,
    over: bool,
}

/// What the read model knows, folded from facts.
#[derive(Default)]
pub struct Model {
    agents: BTreeMap<Id, BTreeMap<String, u64>>,
    offers: BTreeMap<Id, (Id, BTreeMap<String, u64>)>,
    tasks: BTreeMap<Id, (Id, String, TaskState, BTreeMap<String, u64>)>,
    offers_made: u64,
    offers_ended: u64,
}

/// Rates of faults, in thousandths of a chance at each opportunity.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub cut: u32,
    pub master_crash: u32,
    pub agent_crash: u32,
    pub scheduler_crash: u32,
    pub slow: u32,
    /// An operator empties an agent, offers it again, or plans its absence.
    pub operator: u32,
}

impl Faults {
    pub const NONE: Self =
        Self { cut: 0, master_crash: 0, agent_crash: 0, scheduler_crash: 0, slow: 0, operator: 0 };
}

pub struct Cluster {
    pub now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    order: u64,
    pub rng: Rng,
    pub faults: Faults,
    master: Option<Drive<'static, Master<'static>>>,
    master_life: u64,
    master_ticking: Time,
    /// What the registry keeps of agents.
    admissions: BTreeMap<(u32, u32), Admission>,
    agents: Vec<AgentNode>,
    frameworks: Vec<FrameworkNode>,
    links: BTreeMap<u64, Link>,
    next_link: u64,
    operations: u32,
    pub model: Model,
    /// Every launch that a fake kernel made, to find one made twice.
    launched: BTreeMap<String, u32>,
    running: BTreeMap<String, usize>,
    pub steps: u64,
    pub digest: u64,
    capacity: Capacity,
    pub refused: BTreeMap<String, u64>,
    /// Containers launched inside that of an executor.
    pub grouped: u64,
}

impl Cluster {
    pub fn new(seed: u64, agents: usize, frameworks: usize, faults: Faults) -> Self {
        let capacity = Capacity { head_max: 8_192, frameworks: 8, ..Capacity::tiny() };
        let mut cluster = Self {
            now: Time(SECOND),
            queue: BTreeMap::new(),
            order: 0,
            rng: Rng::new(seed),
            faults,
            master: None,
            master_life: 0,
            master_ticking: Time::NEVER,
            admissions: BTreeMap::new(),
            agents: vec![],
            frameworks: vec![],
            links: BTreeMap::new(),
            next_link: 1,
            operations: 0,
            model: Model::default(),
            launched: BTreeMap::new(),
            running: BTreeMap::new(),
            steps: 0,
            digest: 0,
            capacity,
            refused: BTreeMap::new(),
            grouped: 0,
        };
        cluster.start_master();
        for key in 0..agents {
            cluster.agents.push(AgentNode {
                drive: None,
                life: 0,
                file: vec![],
                synced: 0,
                containers: BTreeMap::new(),
                resources: ["cpus:4;mem:4096", "cpus:2;mem:1024;ports:[1-100]"][key % 2],
                key: key as u8 + 1,
                link: None,
                ticking: Time::NEVER,
            });
            cluster.start_agent(key);
        }
        for number in 0..frameworks {
            cluster.frameworks.push(FrameworkNode {
                drive: None,
                life: 0,
                id: FrameworkId::NONE,
                role: ["*", "a", "a/b", "c"][number % 4],
                offers: vec![],
                link: None,
                ticking: Time::NEVER,
                next_task: 0,
                told: BTreeMap::new(),
                over: false,
            });
            cluster.start_framework(number);
        }
        cluster
    }

    fn at(&mut self, after_us: u64, what: Happening) {
        self.order += 1;
        self.queue.insert((self.now.after(after_us), self.order), what);
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        self.rng.below(1_000) < thousandths
    }

    /// From 0.1 to 2 ms, and now and then a hundred times that.
    fn delay(&mut self) -> u64 {
        let usual = 100 + u64::from(self.rng.below(1_900));
        if self.chance(self.faults.slow) { usual * 100 } else { usual }
    }

    // ---------------------------------------------------------------- lives

    fn start_master(&mut self) {
        self.master_life += 1;
        self.master_ticking = Time::NEVER;
        self.model = Model { ..Model::default() };
        let storage = master::Storage::lend(&self.capacity, &mut Leak);
        let front = Master::new(storage, config()).unwrap();
        let buffer = Box::leak(vec![0; BUFFER].into_boxed_slice());
        self.master = Some(Drive::new(front, buffer));
        for admission in self.admissions.clone().into_values() {
            self.tell_master(master::Input::Admitted(admission));
        }
        let epoch = u32::try_from(self.master_life).unwrap();
        let fence = Fence { epoch, ..Fence::default() };
        self.tell_master(master::Input::Leads { cluster: CLUSTER, fence });
        let rights = Rights::ANY_USER.and(Rights::OPERATE);
        self.tell_master(master::Input::Caller { caller: 0, name: "local:root", rights });
    }

    fn start_agent(&mut self, agent: usize) {
        let node = &mut self.agents[agent];
        node.life += 1;
        node.ticking = Time::NEVER;
        let storage = agent::Storage::lend(&self.capacity, &mut Leak);
        let config = agent::Config {
            seed: 3,
            task_kinds: Kind::Command.bit() | Kind::Group { group: 0 }.bit(),
            switch_user: true,
            body_bytes_max: 1 << 20,
            registration_us: 60_000_000,
            reregistration_us: 15_000_000,
        };
        let front = Agent::new(storage, config).unwrap();
        let buffer = Box::leak(vec![0; BUFFER].into_boxed_slice());
        node.drive = Some(Drive::new(front, buffer));
        let register = description(node.key, node.resources);
        let file = node.file.clone();
        let containers = node.containers.clone();
        self.tell_agent(agent, agent::Input::Describe(register));
        for (record, bodies) in &file {
            let mut memory = [0; 64];
            let bodies = list_of(bodies, &mut memory);
            self.tell_agent(agent, agent::Input::Record { record, bodies });
        }
        for (container, ended) in containers {
            self.tell_agent(agent, agent::Input::Container { container, ended });
        }
        self.tell_agent(agent, agent::Input::Recovered { boot: [1; 16] });
        let delay = self.delay() * 10;
        self.at(delay, Happening::Dial { who: Node::Agent(agent) });
    }

    fn start_framework(&mut self, framework: usize) {
        let node = &mut self.frameworks[framework];
        node.life += 1;
        node.ticking = Time::NEVER;
        let storage = scheduler::Storage::lend(&self.capacity, &mut Leak);
        let config = scheduler::Config { seed: 5, acknowledges: true };
        let front = Driver::new(storage, config);
        let buffer = Box::leak(vec![0; BUFFER].into_boxed_slice());
        node.drive = Some(Drive::new(front, buffer));
        let mut subscribe = Rig::subscription(node.role);
        subscribe.failover_us = 3_600 * SECOND;
        let id = node.id;
        self.tell_framework(framework, scheduler::Input::Describe(subscribe));
        if !id.is_none() {
            self.tell_framework(framework, scheduler::Input::Resume { framework: id });
        }
        let delay = self.delay() * 10;
        self.at(delay, Happening::Dial { who: Node::Framework(framework) });
        self.at(delay, Happening::Decide { framework });
    }

    pub fn crash(&mut self, who: Node) {
        let links: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| link.ends.iter().any(|(node, _)| *node == who))
            .map(|(number, _)| *number)
            .collect();
        for link in links {
            self.cut(link, Some(who));
        }
        match who {
            Node::Master => self.master = None,
            Node::Agent(agent) => {
                let node = &mut self.agents[agent];
                node.drive = None;
                node.link = None;
                // What was not synced may or may not be there.
                let unsure = node.file.len() - node.synced;
                let kept = node.synced + self.rng.below(unsure as u32 + 1) as usize;
                self.agents[agent].file.truncate(kept);
            }
            Node::Framework(framework) => {
                let node = &mut self.frameworks[framework];
                node.drive = None;
                node.link = None;
                node.offers.clear();
            }
        }
        let delay = 10 * MILLI + self.delay() * 200;
        self.at(delay, Happening::Restart { who });
    }

    /// Breaks a connection: each end that lives hears of it, in its own time.
    fn cut(&mut self, number: u64, dead: Option<Node>) {
        let Some(link) = self.links.get(&number).copied() else { return };
        for (end, (node, _)) in link.ends.into_iter().enumerate() {
            if link.open[end] && Some(node) != dead {
                let delay = self.delay();
                self.at(delay, Happening::Closed { at: node, link: number });
            }
        }
        if let Some(dead) = dead {
            let link = self.links.get_mut(&number).unwrap();
            for end in 0..2 {
                if link.ends[end].0 == dead {
                    link.open[end] = false;
                }
            }
        }
    }

    // ---------------------------------------------------------------- steps

    pub fn tell_master(&mut self, input: master::Input<'_>) {
        let bytes = bytes_of(&input);
        let Some(mut drive) = self.master.take() else { return };
        let taken = self.step(&mut drive, &bytes, "master");
        let deadline = drive.next_deadline();
        self.master = Some(drive);
        for (output, bodies) in taken.0 {
            self.master_output(&output, &bodies);
        }
        self.schedule_tick(Node::Master, deadline);
    }

    fn tell_agent(&mut self, agent: usize, input: agent::Input<'_>) {
        let wall_us = self.now.0;
        let bytes = bytes_of(&Stamped { wall_us, input });
        let Some(mut drive) = self.agents[agent].drive.take() else { return };
        let taken = self.step(&mut drive, &bytes, "agent");
        let deadline = drive.next_deadline();
        self.agents[agent].drive = Some(drive);
        for (output, bodies) in taken.0 {
            self.agent_output(agent, &output, &bodies);
        }
        self.schedule_tick(Node::Agent(agent), deadline);
    }

    fn tell_framework(&mut self, framework: usize, input: scheduler::Input<'_>) {
        let bytes = bytes_of(&input);
        let Some(mut drive) = self.frameworks[framework].drive.take() else { return };
        let taken = self.step(&mut drive, &bytes, "driver");
        let deadline = drive.next_deadline();
        self.frameworks[framework].drive = Some(drive);
        for (output, bodies) in taken.0 {
            self.framework_output(framework, &output, &bodies);
        }
        self.schedule_tick(Node::Framework(framework), deadline);
    }

    /// One step; a refusal must have changed nothing.
    fn step<F: Front>(&mut self, drive: &mut Drive<'static, F>, input: &[u8], who: &str) -> Taken {
        let before = drive.state_digest();
        let mut taken = Taken::default();
        let result = drive.step(self.now, input, &mut taken);
        self.steps += 1;
        self.digest = self.digest.rotate_left(7) ^ drive.digest();
        if let Err(refusal) = result {
            *self.refused.entry(format!("{who} {refusal:?}")).or_default() += 1;
            assert_eq!(before, drive.state_digest(), "{who} refused ({refusal:?}) and changed");
        }
        taken
    }

    fn schedule_tick(&mut self, at: Node, deadline: Time) {
        let (ticking, life) = match at {
            Node::Master => (&mut self.master_ticking, self.master_life),
            Node::Agent(agent) => {
                let node = &mut self.agents[agent];
                (&mut node.ticking, node.life)
            }
            Node::Framework(framework) => {
                let node = &mut self.frameworks[framework];
                (&mut node.ticking, node.life)
            }
        };
        if deadline == Time::NEVER || *ticking <= deadline.max(self.now) {
            return;
        }
        *ticking = deadline.max(self.now);
        let after = deadline.since(self.now);
        self.at(after, Happening::Tick { at, life });
    }

    fn life(&self, node: Node) -> u64 {
        match node {
            Node::Master => self.master_life,
            Node::Agent(agent) => self.agents[agent].life,
            Node::Framework(framework) => self.frameworks[framework].life,
        }
    }

    // -------------------------------------------------------------- outputs

    fn send(&mut self, from: Node, conn: Id, head: &Head<'_>, bodies: &[BodyRef]) {
        head.check().unwrap();
        if std::env::var_os("TRACE").is_some() {
            eprintln!("{:?} {from:?} {conn:?}: {}", self.now, super::show::head(head));
        }
        let found = self.links.iter().find(|(_, link)| link.ends.contains(&(from, conn)));
        let Some((number, link)) = found.map(|(number, link)| (*number, *link)) else { return };
        let to = link.ends[usize::from(link.ends[0].0 == from)].0;
        let delay = self.delay();
        // In order: never before what was sent earlier on the same connection.
        let last = self.queue.iter().rev().find_map(|((time, _), what)| match what {
            Happening::Deliver { to: other, link, .. } if *link == number && *other == to => {
                Some(*time)
            }
            _ => None,
        });
        let after = delay.max(last.map_or(0, |last| last.since(self.now)));
        let head = bytes_of(head);
        self.at(after, Happening::Deliver { to, link: number, head, bodies: bodies.to_vec() });
    }

    fn master_output(&mut self, output: &[u8], bodies: &[BodyRef]) {
        match read::<master::Output<'_>>(output) {
            master::Output::Send { conn, head } => self.send(Node::Master, conn, &head, bodies),
            master::Output::Close { conn, .. } => self.close(Node::Master, conn),
            master::Output::Fact(fact) => self.fact(&fact),
            master::Output::KeepBody(_) | master::Output::DropBody(_) => {}
            master::Output::Await { agent } => {
                let (delay, life) = (self.delay(), self.master_life);
                self.at(delay, Happening::Marked { life, agent });
            }
        }
    }

    fn agent_output(&mut self, agent: usize, output: &[u8], bodies: &[BodyRef]) {
        let at = Node::Agent(agent);
        match read::<agent::Output<'_>>(output) {
            agent::Output::Send { conn, head } => self.send(at, conn, &head, bodies),
            agent::Output::Close { conn, .. } => self.close(at, conn),
            agent::Output::Persist { sequence, sync, record } => {
                record.check().unwrap();
                self.append(agent, &record, sync, bodies);
                let (delay, life) = (self.delay(), self.agents[agent].life);
                self.at(delay, Happening::Persisted { at, life, sequence });
            }
            agent::Output::Hand(hand) => self.hand(agent, hand),
            agent::Output::Session { .. }
            | agent::Output::Identity { .. }
            | agent::Output::KeepBody(_)
            | agent::Output::DropBody(_)
            | agent::Output::Resources { .. }
            | agent::Output::Left => {}
        }
    }

    /// The disk thread: appends, and begins a new file at a snapshot.
    fn append(&mut self, agent: usize, record: &Record<'_>, sync: bool, bodies: &[BodyRef]) {
        let node = &mut self.agents[agent];
        node.file.push((bytes_of(record), bodies.to_vec()));
        if matches!(record, Record::SnapshotEnds) {
            let begins = bytes_of(&Record::SnapshotBegins);
            let start = node.file.iter().rposition(|(bytes, _)| *bytes == begins).unwrap();
            node.file.drain(..start);
            node.synced = 0;
        }
        if sync {
            node.synced = node.file.len();
        }
    }

    fn hand(&mut self, agent: usize, hand: Hand<'_>) {
        match hand {
            Hand::Launch(launch) => {
                let name = format!("{:?}/{}/{}", launch.framework, launch.task, launch.attempt);
                let launches = self.launched.entry(name.clone()).or_default();
                *launches += 1;
                assert_eq!(*launches, 1, "{name} was launched twice");
                assert!(self.running.insert(name, agent).is_none());
                let container = launch.container;
                self.grouped += u64::from(launch.inside.is_some());
                self.agents[agent].containers.insert(container, None);
                let delay = self.delay();
                self.at(delay, Happening::Started { agent, container });
                if self.chance(300) {
                    let after = u64::from(self.rng.below(3_000)) * MILLI;
                    let (healthy, kill) = (self.chance(500), self.chance(300));
                    let looked = Happening::Looked { agent, container, healthy, kill };
                    self.at(after, looked);
                }
                let lasts = SECOND / 10 + u64::from(self.rng.below(20_000)) * MILLI;
                let exit = match self.rng.below(4) {
                    0 => Exit::Code(1),
                    1 => Exit::Signal(9),
                    _ => Exit::Code(0),
                };
                self.at(lasts, Happening::Exits { agent, container, exit });
            }
            Hand::Signal { container, signal } => {
                let (delay, stubborn) = (self.delay(), self.chance(100));
                if !stubborn {
                    let exit = Exit::Signal(signal);
                    self.at(delay, Happening::Exits { agent, container, exit });
                }
            }
            Hand::Destroy { container } => {
                let delay = self.delay();
                self.at(delay, Happening::Exits { agent, container, exit: Exit::Signal(9) });
            }
            // Its hands are faster here than any kill.
            Hand::Abandon { .. } => {}
            Hand::Volumes { .. } => {}
            Hand::Forget { container } => {
                self.agents[agent].containers.remove(&container);
            }
            Hand::Keep { containers } => {
                let kept: BTreeSet<_> = containers.iter().collect();
                self.agents[agent].containers.retain(|container, _| kept.contains(container));
            }
        }
    }

    fn framework_output(&mut self, framework: usize, output: &[u8], bodies: &[BodyRef]) {
        match read::<scheduler::Output<'_>>(output) {
            scheduler::Output::Send(head) => {
                let Some(link) = self.frameworks[framework].link else { return };
                let Some(link) = self.links.get(&link) else { return };
                let at = Node::Framework(framework);
                let conn = link.ends[usize::from(link.ends[0].0 != at)].1;
                self.send(at, conn, &head, bodies);
            }
            scheduler::Output::Identity { framework: id } => self.frameworks[framework].id = id,
            scheduler::Output::Event(event) => self.event(framework, &event),
            scheduler::Output::Share { .. } | scheduler::Output::Stopped => {}
        }
    }

    fn event(&mut self, framework: usize, event: &Event<'_>) {
        let node = &mut self.frameworks[framework];
        match event {
            Event::Offers { offers } => {
                node.offers.extend(offers.iter().map(|offer| (offer.id, offer.agent)));
            }
            Event::Rescind { offer } => node.offers.retain(|(id, _)| id != offer),
            Event::Update { status } => {
                let known = node.told.get(status.task).copied();
                let known = known.unwrap_or(TaskState::Staging);
                if !is_over(known) {
                    node.told.insert(status.task.to_string(), status.state);
                }
            }
            Event::Subscribed { .. } => self.reconcile(framework),
            Event::Error { message } if *message == "Framework has been removed" => {
                node.over = true;
            }
            _ => {}
        }
    }

    /// A scheduler asks about every task that it remembers, as Mesos' guide asks it to.
    fn reconcile(&mut self, framework: usize) {
        let told = self.frameworks[framework].told.clone();
        let open: Vec<_> = told.iter().filter(|(_, state)| !is_over(**state)).collect();
        for some in open.chunks(64) {
            let tasks = some.iter().map(|(task, _)| TaskAt { task, agent: AgentId::NONE });
            let mut memory = [0; 4096];
            let tasks = Scratch::new(&mut memory).seq::<TaskAt<'static>>(tasks).unwrap();
            let (verb, bodies) = (Verb::Reconcile { tasks }, Seq::EMPTY);
            self.tell_framework(framework, scheduler::Input::Call { ticket: 0, verb, bodies });
        }
    }

    fn close(&mut self, from: Node, conn: Id) {
        let found = self.links.iter().find(|(_, link)| link.ends.contains(&(from, conn)));
        if let Some(number) = found.map(|(number, _)| *number) {
            self.cut(number, None);
        }
    }

    fn fact(&mut self, fact: &Fact<'_>) {
        if std::env::var_os("TRACE").is_some() {
            eprintln!("{:?} {fact:?}", self.now);
        }
        let model = &mut self.model;
        match fact {
            Fact::Admission(admission) => {
                let AgentId { epoch, number } = admission.agent;
                self.admissions.insert((epoch, number), *admission);
            }
            Fact::Dismissed { agent } => {
                self.admissions.remove(&(agent.epoch, agent.number));
            }
            Fact::Agent { row, resources, .. } => {
                model.agents.insert(*row, amounts(resources));
            }
            Fact::AgentGone { row } => {
                model.agents.remove(row);
            }
            Fact::Offer { row, agent, resources, .. } => {
                model.offers_made += 1;
                let before = model.offers.insert(*row, (*agent, amounts(resources)));
                assert!(before.is_none(), "an offer is made under an id that is in use");
            }
            Fact::OfferGone { row } => {
                model.offers_ended += 1;
                assert!(model.offers.remove(row).is_some(), "an offer ends twice");
            }
            Fact::Task { row, agent, task, state, resources, .. } => {
                let task = (*task).to_string();
                model.tasks.insert(*row, (*agent, task, *state, amounts(resources)));
            }
            Fact::TaskState { row, latest, .. } => {
                let task = model.tasks.get_mut(row).expect("a state of a task that is not known");
                if !task.2.is_terminal() {
                    task.2 = *latest;
                }
            }
            Fact::TaskGone { row } => {
                assert!(model.tasks.remove(row).is_some(), "a task goes twice");
            }
            _ => {}
        }
        self.check_model();
    }

    /// Offered and used together are never more than the agent has.
    fn check_model(&self) {
        for (row, total) in &self.model.agents {
            let mut sum: BTreeMap<&str, u64> = BTreeMap::new();
            let offers = self.model.offers.values().filter(|(agent, _)| agent == row);
            let tasks = self.model.tasks.values();
            let tasks = tasks.filter(|task| task.0 == *row && !task.2.is_terminal());
            let held = offers.map(|(_, held)| held).chain(tasks.map(|task| &task.3));
            for (name, amount) in held.flatten() {
                *sum.entry(name).or_default() += amount;
            }
            for (name, amount) in sum {
                let total = total.get(name).copied().unwrap_or(0);
                assert!(
                    amount <= total,
                    "{name}: {amount} given out of {total} of {row:?}\noffers {:?}\ntasks {:?}",
                    self.model.offers,
                    self.model.tasks
                );
            }
        }
    }

    // ------------------------------------------------------------------ runs

    /// Goes on until `until`, with faults; returns the number of things that happened.
    pub fn run(&mut self, until: Time) -> u64 {
        let before = self.steps;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > until {
                break;
            }
            self.now = entry.key().0;
            let what = entry.remove();
            self.happen(what);
        }
        self.now = until;
        self.steps - before
    }

    fn happen(&mut self, what: Happening) {
        if std::env::var_os("TRACE").is_some()
            && !matches!(
                what,
                Happening::Deliver { .. }
                    | Happening::Tick { .. }
                    | Happening::Persisted { .. }
                    | Happening::Decide { .. }
            )
        {
            eprintln!("{:?} {what:?}", self.now);
        }
        match what {
            Happening::Deliver { to, link, head, bodies } => self.deliver(to, link, &head, &bodies),
            Happening::Closed { at, link } => self.closed(at, link),
            Happening::Dial { who } => self.dial(who),
            Happening::Persisted { at, life, sequence } if self.life(at) == life => match at {
                Node::Agent(agent) => {
                    self.tell_agent(agent, agent::Input::Persisted { sequence });
                }
                Node::Master | Node::Framework(_) => {}
            },
            Happening::Marked { life, agent } => {
                if self.master_life == life && self.master.is_some() {
                    self.tell_master(master::Input::Marked { agent });
                }
            }
            Happening::Started { agent, container } => {
                if self.agents[agent].containers.contains_key(&container) {
                    self.tell_agent(agent, agent::Input::Started { container });
                }
            }
            Happening::Looked { agent, container, healthy, kill } => {
                if self.agents[agent].drive.is_some() {
                    let status = BodyRef { slot: 9, len: 5, hash: 1 };
                    self.tell_agent(agent, agent::Input::Checked { container, status });
                    self.tell_agent(agent, agent::Input::Health { container, healthy, kill });
                }
            }
            Happening::Exits { agent, container, exit } => {
                let node = &mut self.agents[agent];
                if let Some(state @ None) = node.containers.get_mut(&container) {
                    *state = Some(exit);
                    let (delay, life) = (self.delay(), self.agents[agent].life);
                    self.at(delay, Happening::Ended { agent, life, container, exit });
                }
            }
            Happening::Ended { agent, life, container, exit } => {
                if self.agents[agent].life == life {
                    self.tell_agent(
                        agent,
                        agent::Input::Ended { container, exit, limit: None, message: "" },
                    );
                }
            }
            Happening::Restart { who } => match who {
                Node::Master => self.start_master(),
                Node::Agent(agent) => self.start_agent(agent),
                Node::Framework(framework) => self.start_framework(framework),
            },
            Happening::Tick { at, life } if self.life(at) == life => self.tick(at),
            Happening::Decide { framework } => self.decide(framework),
            Happening::Persisted { .. } | Happening::Tick { .. } => {}
        }
        self.maybe_fault();
    }

    fn tick(&mut self, at: Node) {
        let now = self.now;
        let ticking = match at {
            Node::Master => &mut self.master_ticking,
            Node::Agent(agent) => &mut self.agents[agent].ticking,
            Node::Framework(framework) => &mut self.frameworks[framework].ticking,
        };
        if *ticking != now {
            // An earlier deadline came since this one was set.
            return;
        }
        *ticking = Time::NEVER;
        match at {
            Node::Master => self.tell_master(master::Input::Tick),
            Node::Agent(agent) => self.tell_agent(agent, agent::Input::Tick),
            Node::Framework(framework) => self.tell_framework(framework, scheduler::Input::Tick),
        }
    }

    fn maybe_fault(&mut self) {
        // One draw decides, so that a run without faults draws as often.
        let draw = self.rng.below(1_000_000);
        let Faults { cut, master_crash, agent_crash, scheduler_crash, operator, .. } = self.faults;
        let mut below = 0;
        let mut is = |rate: u32| {
            below += rate;
            draw < below
        };
        if is(cut) {
            let open: Vec<_> = self.links.keys().copied().collect();
            if !open.is_empty() {
                let which = self.rng.below(open.len() as u32) as usize;
                self.cut(open[which], None);
            }
        } else if is(master_crash) {
            if self.master.is_some() {
                self.crash(Node::Master);
            }
        } else if is(agent_crash) {
            let agent = self.rng.below(self.agents.len() as u32) as usize;
            if self.agents[agent].drive.is_some() {
                self.crash(Node::Agent(agent));
            }
        } else if is(scheduler_crash) && !self.frameworks.is_empty() {
            let framework = self.rng.below(self.frameworks.len() as u32) as usize;
            if self.frameworks[framework].drive.is_some() {
                self.crash(Node::Framework(framework));
            }
        } else if is(operator) {
            let agent = self.rng.below(self.agents.len() as u32) as usize;
            match self.rng.below(4) {
                0 => self.drain(agent, Some(SECOND)),
                1 => self.reactivate(agent),
                2 => self.schedule(&[agent]),
                _ => self.schedule(&[]),
            }
        }
    }

    // ------------------------------------------------------------- operators

    /// What an operator's program says, over a connection of its own.
    pub fn operate(&mut self, verb: OperatorVerb<'_>) {
        self.operations += 1;
        let conn = Id { index: self.capacity.conns - 1, generation: self.operations };
        let (role, caller, head_max) = (Role::Client, 0, 8_192);
        self.tell_master(master::Input::Opened { conn, role, version: 3, caller, head_max });
        let head = bytes_of(&Head::OperatorCall(OperatorCall { ticket: 0, verb }));
        let (bodies, verdicts) = (Seq::EMPTY, Seq::EMPTY);
        self.tell_master(master::Input::Frame { conn, head: &head, bodies, verdicts });
        self.tell_master(master::Input::Closed { conn, since: self.now });
    }

    /// An agent's id: all are of the first epoch, in which they were admitted in some order.
    fn agent_id(&self, agent: usize) -> Option<AgentId> {
        self.agents[agent].file.iter().rev().find_map(|(record, _)| {
            match postcard::from_bytes(record).ok()? {
                Record::Admitted { agent, .. } => Some(agent),
                _ => None,
            }
        })
    }

    pub fn drain(&mut self, agent: usize, grace_us: Option<u64>) {
        if let Some(agent) = self.agent_id(agent) {
            self.operate(OperatorVerb::Drain { agent, grace_us, gone: false });
        }
    }

    pub fn reactivate(&mut self, agent: usize) {
        if let Some(agent) = self.agent_id(agent) {
            self.operate(OperatorVerb::Deactivate { agent, deactivated: false });
        }
    }

    /// Plans an absence of these agents' machines, and of no others.
    fn schedule(&mut self, agents: &[usize]) {
        let hosts: Vec<String> = agents.iter().map(|agent| format!("n{}", agent + 1)).collect();
        let planned = hosts.iter().map(|hostname| Planned {
            machine: MachineId { hostname, ip: "" },
            window: Unavailability { start_wall_us: self.now.0 + 1, duration_us: 0 },
        });
        let machines = scratch().seq::<Planned<'static>>(planned).unwrap();
        self.operate(OperatorVerb::Schedule { machines });
    }

    /// Tasks that run on an agent.
    pub fn running_on(&self, agent: usize) -> usize {
        self.agents[agent].containers.values().filter(|ended| ended.is_none()).count()
    }

    fn dial(&mut self, who: Node) {
        let (alive, linked) = match who {
            Node::Agent(agent) => {
                let node = &self.agents[agent];
                (node.drive.is_some(), node.link.is_some())
            }
            Node::Framework(framework) => {
                let node = &self.frameworks[framework];
                (node.drive.is_some() && !node.over, node.link.is_some())
            }
            Node::Master => return,
        };
        if !alive || linked {
            return;
        }
        if self.master.is_none() {
            let again = SECOND / 5 + self.delay() * 10;
            self.at(again, Happening::Dial { who });
            return;
        }
        let number = self.next_link;
        self.next_link += 1;
        let slot = self.free_slot();
        let conn = Id { index: slot, generation: number as u32 };
        let theirs = Id { index: 0, generation: number as u32 };
        let ends = [(Node::Master, conn), (who, theirs)];
        let now = self.now;
        self.links.insert(number, Link { ends, open: [true, true], last_ping: now });
        match who {
            Node::Agent(agent) => {
                self.agents[agent].link = Some(number);
                let opened = master::Input::Opened {
                    conn,
                    role: Role::Agent,
                    version: 3,
                    caller: 0,
                    head_max: 8_192,
                };
                self.tell_master(opened);
                self.tell_agent(
                    agent,
                    agent::Input::Opened { conn: theirs, role: Role::Master, head_max: 8_192 },
                );
            }
            Node::Framework(framework) => {
                self.frameworks[framework].link = Some(number);
                let role = Role::Framework;
                let opened =
                    master::Input::Opened { conn, role, version: 3, caller: 0, head_max: 8_192 };
                self.tell_master(opened);
                self.tell_framework(framework, scheduler::Input::Connected);
            }
            Node::Master => {}
        }
    }

    /// A slot that no connection of the master's has now.
    fn free_slot(&self) -> u32 {
        let used: BTreeSet<_> = self
            .links
            .values()
            .filter(|link| link.open[0])
            .map(|link| link.ends[0].1.index)
            .collect();
        (0..).find(|slot| !used.contains(slot)).unwrap()
    }

    fn deliver(&mut self, to: Node, number: u64, head: &[u8], bodies: &[BodyRef]) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let end = usize::from(link.ends[0].0 != to);
        if !link.open[end] {
            return;
        }
        link.last_ping = self.now;
        let conn = link.ends[end].1;
        let mut memory = [0; 4096];
        let bodies = list_of(bodies, &mut memory);
        match to {
            Node::Master => {
                let verdicts = Seq::EMPTY;
                self.tell_master(master::Input::Frame { conn, head, bodies, verdicts });
            }
            Node::Agent(agent) => {
                self.tell_agent(agent, agent::Input::Frame { conn, head, bodies });
            }
            Node::Framework(framework) => {
                self.tell_framework(framework, scheduler::Input::Frame { head, bodies });
            }
        }
    }

    fn closed(&mut self, at: Node, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let end = usize::from(link.ends[0].0 != at);
        if !std::mem::take(&mut link.open[end]) {
            return;
        }
        let (conn, since) = (link.ends[end].1, link.last_ping);
        if link.open == [false, false] {
            self.links.remove(&number);
        }
        let again = SECOND / 10 + self.delay() * 10;
        match at {
            Node::Master => self.tell_master(master::Input::Closed { conn, since }),
            Node::Agent(agent) => {
                if self.agents[agent].link == Some(number) {
                    self.agents[agent].link = None;
                    self.at(again, Happening::Dial { who: at });
                }
                self.tell_agent(agent, agent::Input::Closed { conn });
            }
            Node::Framework(framework) => {
                let node = &mut self.frameworks[framework];
                if node.link == Some(number) {
                    node.link = None;
                    node.offers.clear();
                    self.at(again, Happening::Dial { who: at });
                }
                self.tell_framework(framework, scheduler::Input::Disconnected);
            }
        }
    }

    /// A scheduler's mind: launches one or two tasks on an offer, or says no, or kills something.
    fn decide(&mut self, framework: usize) {
        let again = SECOND / 20 + u64::from(self.rng.below(2_000)) * MILLI;
        self.at(again, Happening::Decide { framework });
        if self.frameworks[framework].drive.is_none() {
            return;
        }
        let offers = std::mem::take(&mut self.frameworks[framework].offers);
        let full = self.frameworks[framework].told.values().filter(|s| !is_over(**s)).count();
        for (offer, agent) in offers {
            let tasks = if full > 12 { 0 } else { self.rng.below(4) };
            let mut launches = vec![];
            for _ in 0..tasks {
                let node = &mut self.frameworks[framework];
                node.next_task += 1;
                let name = format!("t{}", node.next_task);
                node.told.insert(name.clone(), TaskState::Staging);
                let resources = ["cpus:0.5;mem:64", "cpus:1;mem:256", "cpus:8;mem:1"]
                    [self.rng.below(3) as usize];
                launches.push(Rig::launch(&name, agent, resources));
            }
            let offers = scratch().seq::<OfferId>([offer]).unwrap();
            let refuse_us = Some(u64::from(self.rng.below(3)) * SECOND);
            let grouped = self.chance(300);
            let verb = if launches.is_empty() {
                Verb::Decline { offers, refuse_us }
            } else if grouped {
                let kind = Kind::Group { group: 0 };
                let launches = launches.into_iter().map(|launch| Launch { kind, ..launch });
                let tasks = scratch().seq::<Launch<'static>>(launches).unwrap();
                let of_executor = [Resource::scalar("mem", Amount::from_units(8))];
                let executor = Executor {
                    id: ["x", "y"][self.rng.below(2) as usize],
                    resources: scratch().seq::<Resource<'static>>(of_executor).unwrap(),
                    user: "",
                    grace_us: None,
                    body: Body::NONE,
                };
                let operations = [Operation::LaunchGroup { executor, tasks }];
                let operations = scratch().seq::<Operation<'static>>(operations).unwrap();
                Verb::Accept(Accept { offers, operations, refuse_us })
            } else {
                let tasks = scratch().seq::<Launch<'static>>(launches).unwrap();
                let operations = [Operation::Launch { tasks }];
                let operations = scratch().seq::<Operation<'static>>(operations).unwrap();
                Verb::Accept(Accept { offers, operations, refuse_us })
            };
            let bodies = Seq::EMPTY;
            self.tell_framework(framework, scheduler::Input::Call { ticket: 0, verb, bodies });
        }
        if self.chance(100) {
            let node = &self.frameworks[framework];
            let alive = node.told.iter().find(|(_, state)| !is_over(**state));
            if let Some((task, _)) = alive.map(|(task, state)| (task.clone(), *state)) {
                let task = TaskAt { task: &task, agent: AgentId::NONE };
                let verb = Verb::Kill { task, grace_us: Some(SECOND) };
                let bodies = Seq::EMPTY;
                self.tell_framework(framework, scheduler::Input::Call { ticket: 0, verb, bodies });
            }
        }
    }

    /// No faults and no new tasks any more; everything must come to an end by itself.
    pub fn heal_and_finish(&mut self) {
        self.faults = Faults::NONE;
        self.run(self.now.after(60 * SECOND));
        self.schedule(&[]);
        for agent in 0..self.agents.len() {
            self.reactivate(agent);
        }
        self.run(self.now.after(10 * SECOND));
        for framework in 0..self.frameworks.len() {
            self.frameworks[framework].next_task = u32::MAX / 2;
        }
        self.queue.retain(|_, what| !matches!(what, Happening::Decide { .. }));
        for framework in 0..self.frameworks.len() {
            let bodies = Seq::EMPTY;
            let roles = Seq::EMPTY;
            let verb = Verb::Suppress { roles };
            self.tell_framework(framework, scheduler::Input::Call { ticket: 0, verb, bodies });
            // A scheduler asks from time to time, as Mesos' guide asks it to: a question that came
            // before every agent was back had no answer.
            self.reconcile(framework);
        }
        self.run(self.now.after(120 * SECOND));
    }

    /// After everything came to an end: nothing is left anywhere, and everybody was told.
    pub fn check_finished(&mut self) {
        for (number, node) in self.frameworks.iter().enumerate() {
            if node.over {
                continue;
            }
            for (task, state) in &node.told {
                assert!(is_over(*state), "framework {number} was never told the end of {task}");
            }
            let (_, tasks) = node.drive.as_ref().unwrap().front().gauges();
            assert_eq!(tasks, 0, "the driver of framework {number} still waits for tasks");
        }
        let gauges = self.master.as_ref().unwrap().front().gauges();
        assert_eq!((gauges.tasks, gauges.executors), (0, 0), "the master still has tasks");
        assert_eq!(u64::from(gauges.offers), self.model.offers_made - self.model.offers_ended);
        for (number, node) in self.agents.iter().enumerate() {
            let gauges = node.drive.as_ref().unwrap().front().gauges();
            assert_eq!((gauges.tasks, gauges.updates), (0, 0), "agent {number} still has tasks");
            assert_eq!(gauges.body_bytes, 0, "agent {number} still keeps bodies");
            assert_eq!(gauges.executors, 0, "agent {number} still has executors");
            assert!(node.containers.is_empty(), "agent {number} still has containers");
        }
    }

    pub fn launches(&self) -> usize {
        self.launched.len()
    }

    pub fn offers_made(&self) -> u64 {
        self.model.offers_made
    }

    pub fn compact(&mut self, agent: usize) {
        self.tell_agent(agent, agent::Input::Compact);
    }

    pub fn crash_agent(&mut self, agent: usize) {
        self.crash(Node::Agent(agent));
    }

    pub fn file_len(&self, agent: usize) -> usize {
        self.agents[agent].file.len()
    }
}

fn list_of<'m>(bodies: &[BodyRef], memory: &'m mut [u8]) -> Seq<'m, BodyRef> {
    Scratch::new(memory).seq::<BodyRef>(bodies.iter().copied()).unwrap()
}

fn amounts(list: &Seq<'_, Resource<'_>>) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for resource in list.iter() {
        let amount = match resource.value {
            Value::Scalar(amount) => amount.milli(),
            Value::Ranges(ranges) => ranges.iter().map(|range| range.end - range.begin + 1).sum(),
            Value::Set(items) => u64::from(items.len()),
        };
        *sum.entry(resource.name.to_string()).or_default() += amount;
    }
    sum
}

fn description(key: u8, resources: &str) -> Register<'static> {
    let hostname: &'static str = Box::leak(format!("n{key}").into_boxed_str());
    Register {
        session: Session { incarnation: 1, counter: 1 },
        agent: AgentId::NONE,
        seen: Fence::default(),
        cluster: 0,
        key: [key; 32],
        hostname,
        region: "",
        zone: "",
        address: "",
        attributes: Seq::EMPTY,
        resources: wire(resources),
        tasks_max: 0,
        task_kinds: 0,
        reports: 0,
    }
}

/// Nothing more will be told of a task in this state.
fn is_over(state: TaskState) -> bool {
    state.is_terminal() || state == TaskState::Unknown
}

pub fn bytes_of<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; 100_000];
    encode(value, &mut bytes).unwrap().to_vec()
}

fn read<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> T {
    let (value, rest) = postcard::take_from_bytes(bytes).unwrap();
    assert!(rest.is_empty());
    value
}

/// Refusals that say that a table is full, for tests that want to see some.
pub fn is_full(refusal: Refusal) -> bool {
    format!("{refusal:?}").ends_with("Full")
}
