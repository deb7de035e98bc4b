//! An agent's machine: its disk, and a kernel whose processes end as the seed decides.

use super::customs::Custom;
use super::lives::Clock;
use super::*;

/// A container of the keeper.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// How it ended; none = it runs.
    pub(super) ended: Option<Exit>,
    /// What it has: its own, and that of the tasks of an executor.
    pub(super) resources: Amounts,
    pub(super) own: Amounts,
    /// The task that runs in it, by its framework; empty for an executor.
    pub(super) task: String,
    /// Its keeper stops it when no master has answered for so long, in µs, since it began by the
    /// agent's clock; 0 = never.
    pub(super) stop_us: u64,
    pub(super) begun: Time,
    /// When it has run for as long as it may, by the agent's clock.
    pub(super) must_end: Option<Time>,
}

impl Held {
    pub(super) const fn lives(&self) -> bool {
        self.ended.is_none()
    }
}

pub(super) struct AgentNode {
    pub(super) drive: Option<Drive<'static, Agent<'static>>>,
    pub(super) life: u64,
    pub(super) clock: Clock,
    pub(super) boot: [u8; 16],
    /// The file: records with their bodies, and how many of them the kernel has, and the disk, for sure.
    pub(super) file: Vec<(Vec<u8>, Vec<BodyRef>)>,
    pub(super) written: usize,
    pub(super) synced: usize,
    pub(super) writes: VecDeque<Write>,
    pub(super) disk_until: Time,
    /// The keeper's containers.
    pub(super) containers: BTreeMap<ContainerId, Held>,
    pub(super) resources: &'static str,
    total: Amounts,
    pub(super) key: u8,
    pub(super) id: Option<AgentId>,
    pub(super) link: Option<u64>,
    pub(super) hint: Option<u8>,
    pub(super) ticking: Time,
    /// The newest word that it has, and the newest that it obeyed.
    word: Fence,
    fence: Fence,
    pub(super) session: Option<Session>,
    /// Orders to launch that came too late: for another session, or by a deposed master.
    stale: BTreeSet<String>,
    /// What was on its way over a connection that is gone. It may come up in the next one.
    pub(super) leftover: Vec<Cargo>,
    /// Updates whose acknowledgement the disk has for sure.
    acknowledged: BTreeSet<u64>,
    /// Updates that the disk has for sure.
    recorded: BTreeSet<u64>,
    /// Launches that wait for their image, or for a master that answers.
    pub(super) waiting: BTreeMap<ContainerId, Vec<u8>>,
    /// Executors of frameworks' own, by their containers.
    pub(super) customs: BTreeMap<ContainerId, Custom>,
    /// When the newest question was asked that a master answered, by its own clock.
    pub(super) contact: Time,
    /// Since when it has its session, and runs awake.
    pub(super) session_since: Time,
    pub(super) awake_since: Time,
    /// Its machine was off, and no master has answered since.
    pub(super) unasked: bool,
    /// Its ledger is older than what it did.
    pub(super) rolled_back: bool,
}

impl AgentNode {
    pub(super) fn new(number: usize, rng: &mut Rng) -> Self {
        let resources = ["cpus:4;mem:4096", "cpus:2;mem:1024;ports:[1-100]"][number % 2];
        Self {
            drive: None,
            life: 0,
            clock: Clock::drawn(rng),
            boot: [1; 16],
            file: vec![],
            written: 0,
            synced: 0,
            writes: VecDeque::new(),
            disk_until: Time(0),
            containers: BTreeMap::new(),
            resources,
            total: amounts(&wire(resources)),
            key: number as u8 + 1,
            id: None,
            link: None,
            hint: None,
            ticking: Time::NEVER,
            word: Fence::default(),
            fence: Fence::default(),
            session: None,
            stale: BTreeSet::new(),
            leftover: vec![],
            acknowledged: BTreeSet::new(),
            recorded: BTreeSet::new(),
            waiting: BTreeMap::new(),
            customs: BTreeMap::new(),
            contact: Time(0),
            session_since: Time(0),
            awake_since: Time(0),
            unasked: false,
            rolled_back: false,
        }
    }
}

/// A record on its way to the disk.
pub(super) struct Write {
    sequence: u64,
    /// Records in the file with it.
    len: usize,
    sync: bool,
    /// It ends a file that was written anew.
    ends: bool,
}

impl AgentNode {
    fn is_written(&mut self, write: &Write) {
        self.written = self.written.max(write.len);
        if !write.sync {
            return;
        }
        for (bytes, _) in &self.file[self.synced.min(write.len)..write.len] {
            match read::<Record<'_>>(bytes) {
                Record::Acknowledged { sequence, .. } => drop(self.acknowledged.insert(sequence)),
                Record::Update { sequence, .. } => drop(self.recorded.insert(sequence)),
                _ => {}
            }
        }
        self.synced = self.synced.max(write.len);
        if write.ends {
            // Now, and not before, the older file goes.
            let begins = bytes_of(&Record::SnapshotBegins);
            let before = &self.file[..write.len];
            let start = before.iter().rposition(|(bytes, _)| *bytes == begins).unwrap();
            self.file.drain(..start);
            self.synced -= start;
            self.written -= start;
            self.writes.iter_mut().for_each(|write| write.len -= start);
        }
    }
}

pub(super) fn called(framework: FrameworkId, task: &str) -> String {
    format!("{}-{}/{task}", framework.epoch, framework.number)
}

impl Cluster {
    pub(super) fn agent_output(&mut self, agent: usize, output: &[u8], bodies: &[BodyRef]) {
        let at = Node::Agent(agent);
        match read::<agent::Output<'_>>(output) {
            agent::Output::Send { conn, head } => {
                self.check_update(agent, &head);
                self.check_settled(agent, &head);
                if conn.index == customs::CONN {
                    self.say_to_custom(agent, conn, &head);
                } else {
                    self.send(at, conn, &head, bodies);
                }
            }
            agent::Output::Close { conn, .. } if conn.index == customs::CONN => {
                self.custom_is_cut(agent, conn);
            }
            agent::Output::Close { conn, .. } => self.close(at, conn),
            agent::Output::Persist { sequence, sync, record } => {
                record.check().unwrap();
                self.append(agent, sequence, &record, sync, bodies);
            }
            agent::Output::Hand(hand) => self.hand(agent, hand),
            // No life puts back an older ledger or copies one.
            agent::Output::Outlived => panic!("an agent is taken for a copy of itself"),
            // Noted with the step.
            agent::Output::Session { .. }
            | agent::Output::Identity { .. }
            | agent::Output::KeepBody(_)
            | agent::Output::DropBody(_)
            | agent::Output::Resources { .. }
            | agent::Output::Disk { .. }
            | agent::Output::Left => {}
        }
    }

    /// The disk thread: appends, one write after the other.
    fn append(
        &mut self,
        agent: usize,
        sequence: u64,
        record: &Record<'_>,
        sync: bool,
        bodies: &[BodyRef],
    ) {
        let done = self.now.after(self.delay() + self.stall_of_disk());
        if let Record::Began { task, boot_us } = record {
            self.note_began(agent, task, *boot_us);
        }
        let node = &mut self.agents[agent];
        node.file.push((bytes_of(record), bodies.to_vec()));
        let ends = matches!(record, Record::SnapshotEnds);
        node.writes.push_back(Write { sequence, len: node.file.len(), sync, ends });
        node.disk_until = node.disk_until.max(done);
        let (after, life) = (node.disk_until.since(self.now), node.life);
        self.at(after, Happening::Persisted { at: Node::Agent(agent), life, sequence });
    }

    /// How long a disk thread does nothing before a write.
    fn stall_of_disk(&mut self) -> u64 {
        let stalls = !self.threads.is_empty() && !self.healed && self.luck.below(300) == 0;
        if stalls {
            self.saw("a disk stalls");
        }
        if stalls { self.luck.below_u64(2 * SECOND) } else { 0 }
    }

    /// A write is done, and so is every one before it.
    pub(super) fn persisted(&mut self, agent: usize, life: u64, sequence: u64) {
        let node = &mut self.agents[agent];
        if node.life != life {
            return;
        }
        while let Some(write) = node.writes.pop_front_if(|write| write.sequence <= sequence) {
            node.is_written(&write);
        }
        self.tell_agent_of_disk(agent, sequence);
        // Late and repeated news change nothing.
        if self.chance(20) {
            self.saw("a write is told to be done twice");
            if self.threads.is_empty() {
                return self.tell_agent_of_disk(agent, sequence);
            }
            let after = self.luck.below_u64(SECOND);
            self.at(after, Happening::Repeated { agent, life, sequence });
        }
    }

    /// C6: an end is on disk before it is told, and nothing is told again whose acknowledgement is.
    fn check_update(&mut self, agent: usize, head: &Head<'_>) {
        let Head::AgentCall(AgentCall::Update { status, .. }) = head else { return };
        let node = &self.agents[agent];
        let again = status.uuid.is_some_and(|uuid| node.acknowledged.contains(&uuid));
        let kept = status.uuid.is_none_or(|uuid| node.recorded.contains(&uuid));
        let ends = status.state.is_terminal();
        assert!(kept || !ends, "C6: agent {agent} tells {status:?} before its disk has it");
        assert!(!again, "C6: agent {agent} tells {status:?} after it was acknowledged for good");
    }

    /// C9: verdicts are on disk before they are told to be kept.
    fn check_settled(&mut self, agent: usize, head: &Head<'_>) {
        let Head::AgentCall(AgentCall::Settled { .. }) = head else { return };
        let node = &self.agents[agent];
        let forgets = |(bytes, _): &&(Vec<u8>, Vec<BodyRef>)| {
            matches!(read::<Record<'_>>(bytes), Record::Forgotten { .. })
        };
        let unsure = node.file[node.synced..].iter().filter(forgets).count();
        assert_eq!(unsure, 0, "C9: agent {agent} has forgotten tasks that its disk still knows");
        if node.file.iter().any(|one| forgets(&one)) {
            self.saw("a verdict that forgets a task is kept");
        }
    }

    /// Whom it obeys, with the step that says so.
    pub(super) fn note_session(&mut self, agent: usize, output: &[u8]) {
        if output[0] == mesita_core::drive::SEND {
            return;
        }
        let node = &mut self.agents[agent];
        match read::<agent::Output<'_>>(output) {
            agent::Output::Session { session, .. } => {
                let none = Session { incarnation: 0, counter: 0 };
                node.session = Some(session).filter(|session| *session != none);
                if node.session.is_some() {
                    (node.session_since, node.unasked) = (self.now, false);
                    let link = node.link.and_then(|link| self.links.get(&link));
                    node.contact = link.map_or(node.contact, |link| link.asked());
                    // Its disk has the word by now: what went before may be lost with its power.
                    let (word, newest) = (node.word, node.fence);
                    assert!(word.epoch >= newest.epoch, "C3: agent {agent} obeys {word:?} again");
                    node.fence = word;
                }
            }
            agent::Output::Identity { agent: id, fence, .. } => {
                (node.word, node.id) = (fence, Some(id))
            }
            _ => {}
        }
    }

    /// What is about to be stepped and orders a launch.
    pub(super) fn note_launches(&mut self, agent: usize, input: &[u8]) {
        let agent::Input::Frame { head, .. } = read::<agent::Input<'_>>(input) else { return };
        let node = &mut self.agents[agent];
        let Ok(Head::AgentEvent(AgentEvent::Launch { fence, session, framework, tasks, .. })) =
            decode(head)
        else {
            return;
        };
        let stale = fence.epoch < node.fence.epoch || node.session != Some(session);
        for launch in tasks.iter() {
            let name = called(framework.framework, launch.task);
            if stale {
                node.stale.insert(name);
            } else {
                node.stale.remove(&name);
            }
        }
        if stale {
            self.saw("a launch comes too late");
        }
    }

    pub(super) fn hand(&mut self, agent: usize, hand: Hand<'_>) {
        match hand {
            Hand::Launch(launch) => {
                if !self.waits(agent, &launch) {
                    self.launch(agent, &launch);
                }
            }
            Hand::Signal { container, signal } => {
                let (delay, stubborn) = (self.delay(), self.chance(100));
                if !stubborn {
                    let exit = Exit::Signal(signal);
                    self.at(delay, Happening::Exits { agent, container, exit });
                }
            }
            Hand::Destroy { container } if self.abandon(agent, container) => {}
            Hand::Destroy { container } => {
                let delay = self.delay();
                self.at(delay, Happening::Exits { agent, container, exit: Exit::Signal(9) });
            }
            Hand::Abandon { container } => {
                self.abandon(agent, container);
            }
            Hand::Clock => self.ask_for_clock(agent),
            Hand::Volumes { .. } => {}
            Hand::Forget { container } => {
                self.agents[agent].containers.remove(&container);
                self.agents[agent].customs.remove(&container);
            }
            Hand::Keep { containers } => self.keep_containers(agent, &containers.iter().collect()),
        }
    }

    /// C9: what runs stays under the agent that comes next. What was launched was written before.
    fn keep_containers(&mut self, agent: usize, kept: &BTreeSet<ContainerId>) {
        let node = &mut self.agents[agent];
        let lost = |(id, held): &(&ContainerId, &Held)| held.lives() && !kept.contains(*id);
        if let Some((id, held)) = node.containers.iter().find(lost) {
            assert!(node.rolled_back, "C9: {} in {id:?} runs and is cleaned away", held.task);
        }
        node.containers.retain(|container, _| kept.contains(container));
        node.customs.retain(|container, _| kept.contains(container));
    }

    pub(super) fn launch(&mut self, agent: usize, launch: &agent::HandLaunch<'_>) {
        let task = called(launch.framework, launch.task);
        let name = format!("{task}{}/{}", launch.executor, launch.attempt);
        let (container, node) = (launch.container, &mut self.agents[agent]);
        if !launch.task.is_empty() {
            // A script has another one started under the same id, on another agent.
            let name =
                if self.script.is_some() { format!("{agent}: {name}") } else { name.clone() };
            assert!(self.launched.insert(name.clone()), "C2: {name} was launched twice");
            assert!(!node.stale.contains(&task), "C3: {name} is launched by a word that is stale");
            if self.script.is_none() {
                self.check_copies(agent, launch, &task);
            }
        }
        let node = &mut self.agents[agent];
        self.grouped += u64::from(launch.inside.is_some());
        let resources = amounts(&launch.resources);
        let task = if launch.task.is_empty() { String::new() } else { task };
        let (stop_us, begun, must_end) = (0, Time(0), None);
        let held = Held { ended: None, resources, own: resources, task, stop_us, begun, must_end };
        node.containers.insert(container, held);
        self.check_room(agent);
        self.stop_when_silent(agent, launch);
        self.saw("a task is launched");
        self.strike(When::Launched);
        let delay = self.delay();
        self.at(delay, Happening::Started { agent, container });
        if self.scripted_launch(agent, launch) {
            return;
        }
        if launch.task.is_empty() {
            return self.custom_begins(agent, launch);
        }
        if self.chance(300) {
            let after = u64::from(self.rng.below(3_000)) * MILLI;
            let (healthy, kill) = (self.chance(500), self.chance(300));
            self.at(after, Happening::Looked { agent, container, healthy, kill });
        }
        let lasts = SECOND / 10 + u64::from(self.rng.below(20_000)) * MILLI;
        // Some of those that may run for so long only would run for longer.
        let bound = self.frameworks.iter().any(|node| node.bounds.contains_key(launch.task));
        let lasts = if bound { 30 * SECOND + 6 * lasts } else { lasts };
        let exit = match self.rng.below(4) {
            0 => Exit::Code(1),
            1 => Exit::Signal(9),
            _ => Exit::Code(0),
        };
        self.at(lasts, Happening::Exits { agent, container, exit });
    }

    /// C1: what runs on an agent is never more than it has.
    pub(super) fn check_room(&self, agent: usize) {
        let node = &self.agents[agent];
        let mut sum = Amounts::default();
        for held in node.containers.values().filter(|held| held.lives()) {
            sum.add(&held.resources);
        }
        assert!(sum.fit(&node.total), "C1: agent {agent} runs {sum:?} of {:?}", node.total);
    }

    pub(super) fn started(&mut self, agent: usize, container: ContainerId) {
        if self.agents[agent].containers.contains_key(&container) {
            self.tell_agent(agent, agent::Input::Started { container });
        }
    }

    pub(super) fn looked(
        &mut self,
        agent: usize,
        container: ContainerId,
        healthy: bool,
        kill: bool,
    ) {
        let status = pipes::a_body();
        self.tell_agent(agent, agent::Input::Checked { container, status });
        self.tell_agent(agent, agent::Input::Health { container, healthy, kill });
    }

    pub(super) fn exits(&mut self, agent: usize, container: ContainerId, exit: Exit) {
        let Some(held) = self.agents[agent].containers.get_mut(&container) else { return };
        if held.ended.is_none() {
            held.ended = Some(exit);
            self.custom_ends(agent, container);
            let (delay, life) = (self.delay(), self.agents[agent].life);
            self.at(delay, Happening::Ended { agent, life, container, exit });
        }
    }

    /// Tasks that run on an agent.
    pub fn running_on(&self, agent: usize) -> usize {
        self.agents[agent].containers.values().filter(|held| held.ended.is_none()).count()
    }

    /// Its disk is full, or has room again.
    pub fn fill(&mut self, agent: usize, full: bool) {
        self.tell_agent(agent, agent::Input::Disk { full });
    }

    pub fn compact(&mut self, agent: usize) {
        self.tell_agent(agent, agent::Input::Compact);
    }

    pub fn file_len(&self, agent: usize) -> usize {
        self.agents[agent].file.len()
    }
}
