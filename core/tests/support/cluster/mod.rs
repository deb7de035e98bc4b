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

mod finish;
mod lives;
mod machine;
mod mind;
mod model;
mod network;
mod operators;

use model::*;

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

    pub(super) fn master_output(&mut self, output: &[u8], bodies: &[BodyRef]) {
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

    pub fn launches(&self) -> usize {
        self.launched.len()
    }

    pub fn offers_made(&self) -> u64 {
        self.model.offers_made
    }
}

fn list_of<'m>(bodies: &[BodyRef], memory: &'m mut [u8]) -> Seq<'m, BodyRef> {
    Scratch::new(memory).seq::<BodyRef>(bodies.iter().copied()).unwrap()
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
