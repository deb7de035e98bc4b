//! A whole cluster in one thread: the real masters with their election and registry, agents and
//! drivers between a network, disks, clocks and processes that a seed decides.
//!
//! Time is virtual, every message goes by its bytes, and everything that is random comes from the
//! seed: the same seed is the same run, step by step. In most lives each process has two threads, with
//! the daemon's own rings and bells between them; what goes over connections is always put together by
//! the daemon's own machines. What must hold is checked from outside: from
//! the facts a master tells, from what the fake kernels run, from what schedulers were told. The
//! masters among themselves are those of [`World`], with its checks after each of their steps.
//!
//! | file | concern |
//! |---|---|
//! | `masters` | who leads, what the registry keeps, who waits for it |
//! | `disks` | masters whose disk is lost, or goes back, and who replaces them |
//! | `lives` | agents and schedulers start, die and sleep |
//! | `network` | connections: dialled, used in order, silent, cut |
//! | `pipes` | their bytes, cut anywhere, and the machines that make frames of them |
//! | `threads` | the two threads of a process, with rings, doorbells and stalls |
//! | `machine` | an agent's disk, and a kernel whose processes end as the seed decides |
//! | `keeper` | images, launches that wait, tasks that stop by themselves, clocks; copies |
//! | `customs` | executors of frameworks' own |
//! | `mind` | what a scheduler makes of its offers, and what it was told |
//! | `model` | what a master tells its readers, and what must hold of it |
//! | `operators` | what operators ask for |
//! | `faults` | what goes wrong, and when |
//! | `finish` | no faults any more: everything must come to an end by itself |

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use mesita_core::agent::{self, Agent, Hand, ledger::Record};
use mesita_core::capacity::Capacity;
use mesita_core::doors::Rights;
use mesita_core::drive::{BUFFER, Drive, Front, OUTPUT_MAX, Sink};
use mesita_core::master::{self, Fact, Master};
use mesita_core::mutant::Mutant;
use mesita_core::rand::Rng;
use mesita_core::registry::body::Shape;
use mesita_core::resources::Amount;
use mesita_core::scheduler::{self, Driver};
use mesita_core::table::Id;
use mesita_core::time::Time;
use mesita_core::wire::agent::*;
use mesita_core::wire::call::*;
use mesita_core::wire::event::{Event, Unavailability};
use mesita_core::wire::executor::{ExecutorCall, ExecutorEvent, ExecutorUpdate};
use mesita_core::wire::gossip::Table;
use mesita_core::wire::hello::Role;
use mesita_core::wire::operator::{MachineId, OperatorCall, OperatorVerb, Planned};
use mesita_core::wire::resource::{Resource, Value};
use mesita_core::wire::task::*;
use mesita_core::wire::*;

mod customs;
mod disks;
pub mod faults;
mod finish;
mod keeper;
mod lives;
mod machine;
mod masters;
mod mind;
mod model;
mod network;
mod operators;
mod pipes;
mod scripted;
mod threads;

use disks::Spoiled;
use faults::{Fault, When};
use machine::AgentNode;
use masters::MasterNode;
use mind::FrameworkNode;
use model::*;
use network::Link;
use pipes::{Cargo, Pipe};
use threads::{Thread, Threads};

use crate::disk::SimDisk;
use crate::machines::passing::Side;
use crate::machines::waiting::Waiting;
use crate::plan::Plan;
use crate::support::Leak;
use crate::support::rig::{Rig, config};
use crate::support::text::{scratch, wire};
use crate::world::{CLUSTER, World};

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;
/// A: silence for so long ends an agent's session.
const AGENT_TIMEOUT: u64 = 10 * SECOND;
/// Steps within a second, of all masters, agents and drivers together.
const BUSY_MAX: u64 = 4_000;
/// Every so many steps the whole state is digested, too.
const WHOLE_EVERY: u64 = 64;

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
    /// By its id, from 1.
    Master(u8),
    Agent(usize),
    Framework(usize),
}

/// What happens at some time.
#[derive(Clone, Debug)]
enum Happening {
    /// The next that is on its way arrives, unless its connection is gone by then.
    Deliver {
        to: Node,
        link: u64,
    },
    /// What was not read of what arrived is.
    Rest {
        to: Node,
        link: u64,
    },
    /// A connection is gone at this end.
    Closed {
        at: Node,
        link: u64,
    },
    /// Whoever dialled says that it is there.
    Ping {
        from: Node,
        link: u64,
    },
    /// An end looks how long it heard nothing.
    Watch {
        at: Node,
        link: u64,
    },
    /// What was on its way over an agent's former connection comes up.
    Leftover {
        agent: usize,
        link: u64,
    },
    /// An agent or scheduler dials.
    Dial {
        who: Node,
    },
    /// A write is done.
    Persisted {
        at: Node,
        life: u64,
        sequence: u64,
    },
    /// The disk thread says once more what it said long ago.
    Repeated {
        agent: usize,
        life: u64,
        sequence: u64,
    },
    /// A thread has its turn.
    Turn {
        at: Node,
        thread: Thread,
    },
    /// What was decided is proposed once more.
    Propose {
        id: u8,
        life: u64,
    },
    /// A container runs.
    Started {
        agent: usize,
        container: ContainerId,
    },
    /// A check of a container's task finds something, and its health check, too.
    Looked {
        agent: usize,
        container: ContainerId,
        healthy: bool,
        kill: bool,
    },
    /// A container's process ends by itself.
    Exits {
        agent: usize,
        container: ContainerId,
        exit: Exit,
    },
    /// A launch has all that it needs.
    Ready {
        agent: usize,
        life: u64,
        container: ContainerId,
    },
    /// The agent hears that a launch was abandoned.
    Unstarted {
        agent: usize,
        life: u64,
        container: ContainerId,
    },
    /// A keeper looks how long no master has answered.
    Stops {
        agent: usize,
        container: ContainerId,
    },
    /// An agent hears of its kernel's clock.
    Clocked {
        agent: usize,
        life: u64,
    },
    /// An executor dials its agent.
    Dials {
        agent: usize,
        container: ContainerId,
    },
    /// What an executor said comes to its agent; what it is told comes to it.
    Says {
        agent: usize,
        conn: Id,
    },
    Hears {
        agent: usize,
        conn: Id,
    },
    /// Something becomes of an executor's task.
    Works {
        agent: usize,
        container: ContainerId,
        task: String,
        state: TaskState,
    },
    /// An executor looks whether it has anything to do.
    Idles {
        agent: usize,
        container: ContainerId,
    },
    /// An agent hears that an executor's connection is gone.
    Hangs {
        agent: usize,
        life: u64,
        conn: Id,
    },
    /// The agent hears of it.
    Ended {
        agent: usize,
        life: u64,
        container: ContainerId,
        exit: Exit,
    },
    /// A dead process starts again.
    Restart {
        who: Node,
    },
    /// A deadline.
    Tick {
        at: Node,
        life: u64,
    },
    /// A scheduler looks at its offers.
    Decide {
        framework: usize,
    },
    /// Something goes wrong, at once or when it hurts most.
    Befalls {
        when: When,
        fault: Fault,
    },
    /// What went wrong between nodes is over.
    Mended,
    /// A master's disk is an older one; it is known to be; an operator does something about it.
    GoesBack {
        id: u8,
        disk: SimDisk,
        knows: (u32, u32, gossip::Version),
    },
    Judged {
        id: u8,
    },
    Replaces,
    /// Somebody looks whether a majority works and is led.
    Probe,
}

impl Happening {
    /// Whose thread it needs.
    fn node(&self) -> Option<Node> {
        match self {
            Self::Deliver { to, .. } | Self::Rest { to, .. } => Some(*to),
            Self::Closed { at, .. }
            | Self::Turn { at, .. }
            | Self::Watch { at, .. }
            | Self::Persisted { at, .. }
            | Self::Tick { at, .. } => Some(*at),
            Self::Ping { from, .. } => Some(*from),
            Self::Dial { who } => Some(*who),
            Self::Propose { id, .. } => Some(Node::Master(*id)),
            Self::Leftover { agent, .. }
            | Self::Started { agent, .. }
            | Self::Looked { agent, .. }
            | Self::Repeated { agent, .. }
            | Self::Ready { agent, .. }
            | Self::Unstarted { agent, .. }
            | Self::Clocked { agent, .. }
            | Self::Dials { agent, .. }
            | Self::Says { agent, .. }
            | Self::Hangs { agent, .. }
            | Self::Ended { agent, .. } => Some(Node::Agent(*agent)),
            Self::Decide { framework } => Some(Node::Framework(*framework)),
            Self::Exits { .. }
            | Self::Stops { .. }
            | Self::Hears { .. }
            | Self::Works { .. }
            | Self::Idles { .. }
            | Self::Restart { .. }
            | Self::Befalls { .. }
            | Self::Mended
            | Self::GoesBack { .. }
            | Self::Judged { .. }
            | Self::Replaces
            | Self::Probe => None,
        }
    }
}

pub struct Cluster {
    pub now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    order: u64,
    pub rng: Rng,
    pub world: World,
    shape: Shape,
    masters: Vec<MasterNode>,
    agents: Vec<AgentNode>,
    frameworks: Vec<FrameworkNode>,
    links: BTreeMap<u64, Link>,
    /// The link of an end.
    ends: BTreeMap<(Node, Id), u64>,
    next_link: u64,
    operations: u32,
    /// Nothing goes from one to the other.
    blocked: BTreeSet<(Node, Node)>,
    paused: BTreeMap<Node, Time>,
    /// What waits for its moment.
    armed: Vec<(When, Fault)>,
    /// In thousandths: messages a hundred times as late as the others.
    slow: u32,
    /// Every launch that a fake kernel made, to find one made twice.
    launched: BTreeSet<String>,
    /// What a majority was told to think of agents that is not that they belong to the cluster.
    marked: BTreeSet<(u32, u32)>,
    /// Since when a majority thinks so, of those of which it still does.
    given_up: BTreeMap<(u32, u32), Time>,
    /// The master that is of no use any more.
    spoiled: Option<Spoiled>,
    /// Since when each majority works.
    works: BTreeMap<Vec<u8>, u64>,
    pub steps: u64,
    /// Steps of this second but for those of elections.
    busy: (u64, u64),
    pub digest: u64,
    pub capacity: Capacity,
    pub refused: BTreeMap<String, u64>,
    /// Containers launched inside that of an executor.
    pub grouped: u64,
    /// How often each thing happened that a test wants to have happened.
    pub seen: BTreeMap<&'static str, u64>,
    buffers: Vec<&'static mut [u8]>,
    /// The threads of each process; none = every input is stepped the moment it comes.
    threads: BTreeMap<Node, Threads>,
    /// Chance for what bytes and threads do: nothing else draws from it.
    luck: Rng,
    /// Bytes that wait in a connection at the most.
    outbox_max: usize,
    /// Work of every sort, and machines that are off for longer: see `keeper`.
    varied: bool,
    /// Chance for that.
    ways: Rng,
    /// Nothing goes wrong any more.
    healed: bool,
    /// What is read of rings, by either thread.
    memory: Vec<u8>,
    memory_of_outputs: Vec<u8>,
    trace: bool,
    /// Nothing ends and nobody decides by itself: see `scripted`.
    script: Option<scripted::Script>,
}

impl Cluster {
    pub fn new(plan: &Plan) -> Self {
        let capacity = Capacity { head_max: 8_192, frameworks: 8, ..Capacity::tiny() };
        let shape = Shape::new(capacity.agents, capacity.frameworks, capacity.roles);
        let mut rng = Rng::new(plan.seed);
        let set = Rng::new(rng.draw());
        let mut world = World::of(set, plan.masters, plan.t, planted(), (shape, plan.ring));
        world.probes = Table::Tokens;
        world.writes_every = plan.writes_us;
        world.heard = Some(VecDeque::new());
        let masters = (1..=plan.masters).map(|id| MasterNode::new(id, shape)).collect();
        let mut cluster = Self {
            now: Time(SECOND),
            queue: BTreeMap::new(),
            order: 0,
            rng,
            world,
            shape,
            masters,
            agents: vec![],
            frameworks: vec![],
            links: BTreeMap::new(),
            ends: BTreeMap::new(),
            next_link: 1,
            operations: 0,
            blocked: BTreeSet::new(),
            paused: BTreeMap::new(),
            armed: vec![],
            slow: 0,
            launched: BTreeSet::new(),
            marked: BTreeSet::new(),
            given_up: BTreeMap::new(),
            spoiled: None,
            works: BTreeMap::new(),
            steps: 0,
            busy: (0, 0),
            digest: 0,
            capacity,
            refused: BTreeMap::new(),
            grouped: 0,
            seen: BTreeMap::new(),
            buffers: vec![],
            threads: BTreeMap::new(),
            luck: Rng::new(plan.seed ^ 0x006c_7563_6b00),
            outbox_max: usize::MAX,
            varied: plan.varied,
            ways: Rng::new(plan.seed ^ 0x7761_7973),
            healed: false,
            memory: vec![0; 2 * BUFFER],
            memory_of_outputs: vec![0; 2 * BUFFER],
            trace: std::env::var_os("TRACE").is_some(),
            script: None,
        };
        if plan.threads {
            cluster.have_threads(plan);
        }
        for number in 0..plan.agents {
            let node = AgentNode::new(number, &mut cluster.rng);
            cluster.agents.push(node);
            cluster.start_agent(number);
        }
        for number in 0..plan.frameworks {
            cluster.frameworks.push(FrameworkNode::new(number));
            cluster.start_framework(number);
        }
        for (_, at, when, fault) in &plan.faults {
            cluster.at(*at, Happening::Befalls { when: *when, fault: *fault });
        }
        cluster.at(plan.t / 4, Happening::Probe);
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
        if self.chance(self.slow) { usual * 100 } else { usual }
    }

    /// Something happened that a test wants to have happened.
    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    // ---------------------------------------------------------------- clocks

    /// The time by a node's own clock.
    fn local(&self, node: Node) -> Time {
        match node {
            Node::Master(id) => self.world.local(id),
            Node::Agent(agent) => self.agents[agent].clock.local(self.now),
            Node::Framework(_) => self.now,
        }
    }

    /// When a node's clock shows that time.
    fn due(&self, node: Node, local: Time) -> Time {
        let due = match node {
            Node::Master(id) => Time(self.world.true_time(id, local)),
            Node::Agent(agent) => self.agents[agent].clock.due(local),
            Node::Framework(_) => local,
        };
        due.max(self.now)
    }

    fn sleeps_until(&self, node: Node) -> Option<Time> {
        self.paused.get(&node).copied().filter(|until| *until > self.now)
    }

    // ---------------------------------------------------------------- steps

    /// One step; a refusal must have changed nothing.
    fn step<F: Front>(
        &mut self,
        drive: &mut Drive<'static, F>,
        now: Time,
        input: &[u8],
        who: &'static str,
    ) -> Taken {
        let whole = self.steps.is_multiple_of(WHOLE_EVERY);
        let before = whole.then(|| drive.state_digest());
        let mut taken = Taken::default();
        let result = drive.step(now, input, &mut taken);
        self.steps += 1;
        self.rest();
        self.digest = self.digest.rotate_left(7) ^ drive.digest() ^ before.unwrap_or(0);
        let bytes: usize = taken.0.iter().map(|(output, _)| output.len()).sum();
        assert!(bytes <= OUTPUT_MAX, "C12: {who} says {bytes} bytes in one step");
        if let Err(refusal) = result {
            *self.refused.entry(format!("{who} {refusal:?}")).or_default() += 1;
            if let Some(before) = before {
                let after = drive.state_digest();
                assert_eq!(before, after, "{who} refused ({refusal:?}) and changed");
            }
        }
        taken
    }

    /// C12: nobody is so busy with itself that nothing else gets through.
    fn rest(&mut self) {
        let second = self.now.0 / SECOND;
        let before = if self.busy.0 == second { self.busy.1 } else { 0 };
        self.busy = (second, before + 1);
        assert!(before < BUSY_MAX, "C12: {before} steps within a second");
    }

    fn schedule_tick(&mut self, at: Node, deadline: Time) {
        if deadline == Time::NEVER || self.threads.contains_key(&at) {
            // A thread knows by itself.
            return;
        }
        let due = self.due(at, deadline);
        let life = self.life(at);
        let ticking = self.ticking(at);
        if *ticking <= due {
            return;
        }
        *ticking = due;
        let after = due.since(self.now);
        self.at(after, Happening::Tick { at, life });
    }

    fn ticking(&mut self, at: Node) -> &mut Time {
        match at {
            Node::Master(id) => &mut self.master(id).ticking,
            Node::Agent(agent) => &mut self.agents[agent].ticking,
            Node::Framework(framework) => &mut self.frameworks[framework].ticking,
        }
    }

    fn life(&self, node: Node) -> u64 {
        match node {
            Node::Master(id) => self.masters[usize::from(id) - 1].life,
            Node::Agent(agent) => self.agents[agent].life,
            Node::Framework(framework) => self.frameworks[framework].life,
        }
    }

    fn lives(&self, node: Node) -> bool {
        match node {
            Node::Master(id) => self.world.has(id) && self.world.peek(id).front.is_some(),
            Node::Agent(agent) => self.agents[agent].drive.is_some(),
            Node::Framework(framework) => self.frameworks[framework].drive.is_some(),
        }
    }

    fn buffer(&mut self) -> &'static mut [u8] {
        self.buffers.pop().unwrap_or_else(|| Box::leak(vec![0; BUFFER].into_boxed_slice()))
    }

    // ------------------------------------------------------------------ runs

    /// Goes on until `until`.
    pub fn run(&mut self, until: Time) {
        loop {
            let mine = self.queue.first_key_value().map(|((at, _), _)| *at);
            let theirs = self.world.next().map(Time);
            let Some(next) = mine.into_iter().chain(theirs).min().filter(|at| *at <= until) else {
                break;
            };
            self.now = next;
            if theirs == Some(next) {
                let before = self.world.steps;
                self.world.one();
                self.steps += self.world.steps - before;
            } else {
                self.world.now = next.0;
                if let Some((_, what)) = self.queue.pop_first() {
                    self.happen(what);
                }
            }
            self.hear_masters();
        }
        self.now = until;
        self.world.now = until.0;
    }

    fn happen(&mut self, what: Happening) {
        let asleep = what.node().and_then(|node| self.sleeps_until(node));
        if let Some(until) = asleep.or_else(|| self.stalls_until(&what)) {
            let after = until.since(self.now);
            return self.at(after, what);
        }
        if self.trace {
            self.tell(&what);
        }
        match what {
            Happening::Deliver { to, link } => self.deliver(to, link),
            Happening::Rest { to, link } => self.read_rest(to, link),
            Happening::Closed { at, link } => self.closed(at, link),
            Happening::Ping { from, link } => self.ping(from, link),
            Happening::Watch { at, link } => self.watch(at, link),
            Happening::Leftover { agent, link } => self.leftover(agent, link),
            Happening::Dial { who } => self.dial(who),
            Happening::Persisted { at: Node::Agent(agent), life, sequence } => {
                self.persisted(agent, life, sequence);
            }
            Happening::Repeated { agent, life, sequence } => {
                if self.agents[agent].life == life {
                    self.tell_agent_of_disk(agent, sequence);
                }
            }
            Happening::Turn { at, thread } => self.turn(at, thread),
            Happening::Propose { id, life } => {
                if self.master(id).life == life {
                    self.propose(id);
                }
            }
            Happening::Started { agent, container } => self.started(agent, container),
            Happening::Looked { agent, container, healthy, kill } => {
                self.looked(agent, container, healthy, kill);
            }
            Happening::Ready { agent, life, container } => self.ready(agent, life, container),
            Happening::Unstarted { agent, life, container } => {
                self.unstarted(agent, life, container);
            }
            Happening::Stops { agent, container } => self.stops(agent, container),
            Happening::Clocked { agent, life } => self.clocked(agent, life),
            Happening::Dials { agent, container } => self.dials(agent, container),
            Happening::Says { agent, conn } => self.says(agent, conn),
            Happening::Hears { agent, conn } => self.hears(agent, conn),
            Happening::Works { agent, container, task, state } => {
                self.works(agent, container, task, state);
            }
            Happening::Idles { agent, container } => self.idles(agent, container),
            Happening::Hangs { agent, life, conn } => self.hangs(agent, life, conn),
            Happening::Exits { agent, container, exit } => self.exits(agent, container, exit),
            Happening::Ended { agent, life, container, exit } => {
                if self.agents[agent].life == life {
                    let (limit, message, status) = (None, "", BodyRef::NONE);
                    let ended = agent::Input::Ended { container, exit, limit, message, status };
                    self.tell_agent(agent, ended);
                }
            }
            Happening::Restart { who } => self.restart(who),
            Happening::Tick { at, life } if self.life(at) == life => self.tick(at),
            Happening::Decide { framework } => self.decide(framework),
            Happening::Befalls { when, fault } => self.befall(when, fault),
            Happening::Mended => self.mend(),
            Happening::GoesBack { id, disk, knows } => self.go_back(id, disk, knows),
            Happening::Judged { id } => self.judged(id),
            Happening::Replaces => self.replaces(),
            Happening::Probe => self.probe(),
            Happening::Persisted { .. } | Happening::Tick { .. } => {}
        }
    }

    fn tell(&self, what: &Happening) {
        match what {
            Happening::Deliver { .. }
            | Happening::Rest { .. }
            | Happening::Turn { .. }
            | Happening::Tick { .. }
            | Happening::Persisted { .. }
            | Happening::Ping { .. }
            | Happening::Watch { .. }
            | Happening::Probe
            | Happening::Replaces
            | Happening::Decide { .. } => {}
            Happening::GoesBack { id, .. } => {
                println!("{:>11.6} {id} goes back", self.now.0 as f64 / 1e6)
            }
            _ => println!("{:>11.6} {what:?}", self.now.0 as f64 / 1e6),
        }
    }

    fn tick(&mut self, at: Node) {
        let now = self.now;
        let ticking = self.ticking(at);
        if *ticking > now {
            // It was done with an earlier deadline.
            return;
        }
        *ticking = Time::NEVER;
        match at {
            Node::Master(id) => self.tell_master(id, master::Input::Tick),
            Node::Agent(agent) => self.tell_agent(agent, agent::Input::Tick),
            Node::Framework(framework) => self.tell_framework(framework, scheduler::Input::Tick),
        }
    }

    pub fn launches(&self) -> usize {
        self.launched.len()
    }
}

/// The bug that is planted in this thread, if it is one of an election.
fn planted() -> Mutant {
    Mutant::None
}

fn list_of<'m>(bodies: &[BodyRef], memory: &'m mut [u8]) -> Seq<'m, BodyRef> {
    Scratch::new(memory).seq::<BodyRef>(bodies.iter().copied()).unwrap()
}

/// Nothing more will be told of a task in this state.
fn is_over(state: TaskState) -> bool {
    state.is_terminal() || state == TaskState::Unknown
}

fn bytes_of<T: serde::Serialize>(value: &T) -> Vec<u8> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 100_000]);
    }
    BUFFER.with_borrow_mut(|buffer| encode(value, buffer).unwrap().to_vec())
}

fn read<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> T {
    let (value, rest) = postcard::take_from_bytes(bytes).unwrap();
    assert!(rest.is_empty());
    value
}
