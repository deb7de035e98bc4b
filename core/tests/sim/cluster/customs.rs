//! Executors of frameworks' own: processes that subscribe with their agent, run tasks, tell what becomes
//! of them until that is safe, and die as the seed decides.
//!
//! Each has a connection of its own, in order and by bytes, which goes with its agent's process and is
//! made again. What an executor was given and what it told lives in its process alone.

use super::machine::Held;
use super::*;

/// The slot that connections of executors have in their numbers; that of masters is another one.
pub(super) const CONN: u32 = 1;
/// An executor that has nothing to do ends after so long.
const IDLE: u64 = 3 * SECOND;
/// How soon it dials again.
const AGAIN: u64 = SECOND / 5;

/// What an executor told, and nobody said that it is safe.
#[derive(Clone, Debug)]
struct Told {
    uuid: [u8; 16],
    task: String,
    state: TaskState,
}

/// An executor's process.
#[derive(Clone, Debug)]
pub(super) struct Custom {
    framework: FrameworkId,
    name: String,
    conn: Option<Id>,
    /// What is on its way to its agent, and to it.
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    /// Tasks that it has, with what each holds.
    tasks: BTreeMap<String, Amounts>,
    told: VecDeque<Told>,
    number: u32,
    /// Since when it has nothing to do.
    idle: Time,
}

impl Custom {
    /// The tasks that it has, by their frameworks.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }
}

impl Cluster {
    /// A container with an executor has begun: some never say a word, some die early.
    pub(super) fn custom_begins(&mut self, agent: usize, launch: &agent::HandLaunch<'_>) {
        self.saw("an executor begins");
        let container = launch.container;
        let custom = Custom {
            framework: launch.framework,
            name: launch.executor.to_owned(),
            conn: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            tasks: BTreeMap::new(),
            told: VecDeque::new(),
            number: 0,
            idle: self.now,
        };
        self.agents[agent].customs.insert(container, custom);
        if self.ways.below(3) == 0 {
            let (after, exit) = (self.ways.below_u64(30 * SECOND), Exit::Signal(11));
            self.at(after, Happening::Exits { agent, container, exit });
        }
        if self.ways.below(20) == 0 {
            return self.saw("an executor never subscribes");
        }
        let after = 10 * MILLI + self.ways.below_u64(2 * SECOND);
        self.at(after, Happening::Dials { agent, container });
        self.at(IDLE, Happening::Idles { agent, container });
    }

    fn custom(&mut self, agent: usize, conn: Id) -> Option<(ContainerId, &mut Custom)> {
        let all = self.agents[agent].customs.iter_mut();
        let mut of = all.filter(|(_, custom)| custom.conn == Some(conn));
        of.next().map(|(container, custom)| (*container, custom))
    }

    /// It dials, and says everything that may be news.
    pub(super) fn dials(&mut self, agent: usize, container: ContainerId) {
        let up = self.agents[agent].drive.is_some();
        let Some(custom) = self.agents[agent].customs.get(&container) else { return };
        if custom.conn.is_some() {
            return;
        }
        if !up {
            return self.at(AGAIN, Happening::Dials { agent, container });
        }
        let conn = Id { index: CONN, generation: self.next_link as u32 };
        self.next_link += 1;
        let Some(custom) = self.agents[agent].customs.get_mut(&container) else { return };
        custom.conn = Some(conn);
        let again = custom.number > 0;
        let custom = custom.clone();
        if again {
            self.saw("an executor subscribes again");
        }
        let (role, head_max) = (Role::Executor, 8_192);
        self.tell_agent(agent, agent::Input::Opened { conn, role, head_max });
        let tasks = custom.tasks.keys().map(String::as_str);
        let mut memory = [0; 8_192];
        let (of_tasks, of_updates) = memory.split_at_mut(4_096);
        let tasks = Scratch::new(of_tasks).seq::<&'static str>(tasks).unwrap();
        let updates = custom.told.iter().map(update_of);
        let updates = Scratch::new(of_updates).seq::<ExecutorUpdate<'static>>(updates).unwrap();
        let (framework, executor, token) = (custom.framework, custom.name.as_str(), &[][..]);
        let call = ExecutorCall::Subscribe { framework, executor, token, tasks, updates };
        self.custom_says(agent, container, &call);
    }

    fn custom_says(&mut self, agent: usize, container: ContainerId, call: &ExecutorCall<'_>) {
        let head = Head::ExecutorCall(*call);
        head.check().unwrap();
        let bytes = bytes_of(&head);
        let delay = 20 + self.ways.below_u64(2 * MILLI);
        let Some(custom) = self.agents[agent].customs.get_mut(&container) else { return };
        let Some(conn) = custom.conn else { return };
        custom.up.push_back(bytes);
        self.at(delay, Happening::Says { agent, conn });
    }

    /// The next that an executor said comes to its agent; at times the connection breaks instead.
    pub(super) fn says(&mut self, agent: usize, conn: Id) {
        let breaks = !self.healed && self.ways.below(60) == 0;
        let Some((_, custom)) = self.custom(agent, conn) else { return };
        let Some(head) = custom.up.pop_front() else { return };
        if breaks {
            self.custom_is_cut(agent, conn);
            return self.tell_agent(agent, agent::Input::Closed { conn });
        }
        let bodies = Seq::EMPTY;
        self.tell_agent(agent, agent::Input::Frame { conn, head: &head, bodies });
    }

    /// A connection is gone: what was on its way is, too.
    pub(super) fn custom_is_cut(&mut self, agent: usize, conn: Id) {
        let Some((container, custom)) = self.custom(agent, conn) else { return };
        custom.conn = None;
        custom.up.clear();
        custom.down.clear();
        self.at(AGAIN, Happening::Dials { agent, container });
    }

    /// The process of an agent is gone, and with it every connection.
    pub(super) fn leave_customs(&mut self, agent: usize) {
        let all = self.agents[agent].customs.values().filter_map(|custom| custom.conn);
        for conn in all.collect::<Vec<_>>() {
            self.custom_is_cut(agent, conn);
        }
    }

    pub(super) fn say_to_custom(&mut self, agent: usize, conn: Id, head: &Head<'_>) {
        head.check().unwrap();
        self.check_confirmed(agent, head);
        let delay = 20 + self.ways.below_u64(2 * MILLI);
        let Some((_, custom)) = self.custom(agent, conn) else { return };
        custom.down.push_back(bytes_of(head));
        self.at(delay, Happening::Hears { agent, conn });
    }

    /// C6: what is confirmed to an executor is written.
    fn check_confirmed(&self, agent: usize, head: &Head<'_>) {
        let Head::ExecutorEvent(ExecutorEvent::Acknowledged { task, uuid: confirmed }) = head
        else {
            return;
        };
        let node = &self.agents[agent];
        let of = |(record, _): &(Vec<u8>, Vec<BodyRef>)| match read::<Record<'_>>(record) {
            Record::Update { uuid, .. } => uuid == *confirmed,
            _ => false,
        };
        // One that is being written anew is there for the second time.
        let (written, unwritten) = node.file.split_at(node.written);
        let is_new = unwritten.iter().any(of) && !written.iter().any(of);
        assert!(!is_new, "C6: agent {agent} confirms what is not written of {task}");
    }

    pub(super) fn hears(&mut self, agent: usize, conn: Id) {
        let Some((container, custom)) = self.custom(agent, conn) else { return };
        let Some(head) = custom.down.pop_front() else { return };
        let Ok(Head::ExecutorEvent(event)) = decode(&head) else { panic!("no event") };
        match event {
            ExecutorEvent::Launch { task } => self.given(agent, container, &task),
            ExecutorEvent::LaunchGroup { tasks } => {
                self.saw("an executor is given a group");
                tasks.iter().for_each(|task| self.given(agent, container, &task));
            }
            ExecutorEvent::Kill { task, .. } => {
                let (after, task) = (self.ways.below_u64(SECOND), task.to_owned());
                let state = TaskState::Killed;
                self.at(after, Happening::Works { agent, container, task, state });
            }
            ExecutorEvent::Acknowledged { task, uuid } => {
                custom.told.retain(|told| (told.uuid, told.task.as_str()) != (uuid, task));
            }
            ExecutorEvent::Shutdown | ExecutorEvent::Error { .. } => {
                let (after, exit) = (self.ways.below_u64(SECOND), Exit::Code(0));
                self.at(after, Happening::Exits { agent, container, exit });
            }
            ExecutorEvent::Subscribed { .. }
            | ExecutorEvent::Message { .. }
            | ExecutorEvent::Heartbeat => {}
        }
    }

    /// C2: an executor is given no task twice.
    fn given(&mut self, agent: usize, container: ContainerId, task: &Launch<'_>) {
        let Some(custom) = self.agents[agent].customs.get_mut(&container) else { return };
        let name = machine::called(custom.framework, task.task);
        custom.tasks.insert(task.task.to_owned(), amounts(&task.resources));
        assert!(self.launched.insert(format!("{name}/given")), "C2: {name} was given twice");
        self.saw("an executor is given a task");
        self.holds(agent, container);
        let mut after = self.ways.below_u64(SECOND / 2);
        let ends = [TaskState::Finished, TaskState::Failed][self.ways.below(2) as usize];
        for state in [TaskState::Starting, TaskState::Running, ends] {
            let task = task.task.to_owned();
            self.at(after, Happening::Works { agent, container, task, state });
            after += self.ways.below_u64(10 * SECOND);
        }
    }

    /// What the executor's container has with its tasks.
    fn holds(&mut self, agent: usize, container: ContainerId) {
        let node = &mut self.agents[agent];
        let (Some(custom), Some(held)) =
            (node.customs.get(&container), node.containers.get_mut(&container))
        else {
            return;
        };
        let mut sum = held.own;
        custom.tasks.values().for_each(|amounts| sum.add(amounts));
        held.has(sum);
        self.check_room(agent);
    }

    /// Something becomes of a task, which its executor tells until that is safe.
    pub(super) fn works(
        &mut self,
        agent: usize,
        container: ContainerId,
        task: String,
        state: TaskState,
    ) {
        let now = self.now;
        let Some(custom) = self.agents[agent].customs.get_mut(&container) else { return };
        if !custom.tasks.contains_key(&task) {
            return;
        }
        custom.number += 1;
        let mut uuid = [0; 16];
        uuid[..4].copy_from_slice(&custom.number.to_le_bytes());
        uuid[4..8].copy_from_slice(&container.counter.to_le_bytes());
        uuid[8..12].copy_from_slice(&container.incarnation.to_le_bytes());
        if state.is_terminal() {
            custom.tasks.remove(&task);
            custom.idle = now;
        }
        let told = Told { uuid, task, state };
        custom.told.push_back(told.clone());
        self.holds(agent, container);
        self.custom_says(agent, container, &ExecutorCall::Update(update_of(&told)));
    }

    /// One that has had nothing to do for a while ends.
    pub(super) fn idles(&mut self, agent: usize, container: ContainerId) {
        let Some(custom) = self.agents[agent].customs.get(&container) else { return };
        let busy = !custom.tasks.is_empty() || !custom.told.is_empty();
        if busy || self.now.since(custom.idle) < IDLE {
            return self.at(SECOND, Happening::Idles { agent, container });
        }
        self.exits(agent, container, Exit::Code(0));
    }

    /// Its process is gone, with all that it had.
    pub(super) fn custom_ends(&mut self, agent: usize, container: ContainerId) {
        let Some(custom) = self.agents[agent].customs.remove(&container) else { return };
        if !custom.tasks.is_empty() {
            self.saw("an executor dies with its tasks");
        }
        if let Some(conn) = custom.conn {
            let delay = self.ways.below_u64(MILLI);
            let life = self.agents[agent].life;
            self.at(delay, Happening::Hangs { agent, life, conn });
        }
    }

    /// The agent hears that an executor's connection is gone.
    pub(super) fn hangs(&mut self, agent: usize, life: u64, conn: Id) {
        if self.agents[agent].life == life {
            self.tell_agent(agent, agent::Input::Closed { conn });
        }
    }
}

fn update_of(told: &Told) -> ExecutorUpdate<'_> {
    let status = Status {
        task: &told.task,
        state: told.state,
        source: Source::Executor,
        agent: AgentId::NONE,
        uuid: None,
        wall_us: 0,
        detail: None,
    };
    ExecutorUpdate { uuid: told.uuid, status }
}

impl Held {
    /// What it has, with that of the tasks of an executor.
    fn has(&mut self, resources: Amounts) {
        self.resources = resources;
    }
}
