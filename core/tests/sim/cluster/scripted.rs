//! A cluster in which only what a test says happens: agents are cut off, machines start again, a
//! framework replaces what it was told is unreachable; and at each instant the live copies are
//! counted.

use super::*;

/// What the script keeps beside the cluster.
#[derive(Default)]
pub(super) struct Script {
    cut_off: BTreeSet<usize>,
    /// Of each container: its task, and after how much silence its keeper stops it; 0 = never.
    tasks: BTreeMap<(usize, ContainerId), (String, u64)>,
    most: usize,
}

/// Between two counts, in µs; each launch is one, too.
const COUNT_EVERY: u64 = 20 * MILLI;

impl Cluster {
    /// A master, some agents and a framework that does nothing by itself.
    pub fn scripted(agents: usize) -> Self {
        let mut cluster = Self::new(&Plan::quiet(7, 1, agents, 1));
        cluster.script = Some(Script::default());
        cluster.queue.retain(|_, what| !matches!(what, Happening::Decide { .. }));
        cluster
    }

    fn script(&mut self) -> &mut Script {
        self.script.as_mut().unwrap()
    }

    /// A container begins; true when nothing of it is left to chance.
    pub(super) fn scripted_launch(&mut self, agent: usize, launch: &agent::HandLaunch<'_>) -> bool {
        let Some(script) = &mut self.script else { return false };
        let (container, stop_us) = (launch.container, launch.stop_after_us);
        script.tasks.insert((agent, container), (launch.task.to_owned(), stop_us));
        if script.cut_off.contains(&agent) {
            self.stop_later(agent, container, stop_us);
        }
        self.count();
        true
    }

    /// What a keeper does when no master was heard for so long.
    fn stop_later(&mut self, agent: usize, container: ContainerId, after_us: u64) {
        if after_us > 0 {
            let exit = Exit::Signal(15);
            self.at(after_us, Happening::Exits { agent, container, exit });
        }
    }

    /// Goes on for so long, and counts.
    pub fn go(&mut self, us: u64) {
        let until = self.now.after(us);
        while self.now < until {
            self.run(self.now.after(COUNT_EVERY).min(until));
            self.count();
        }
    }

    fn count(&mut self) {
        let live = self.live().len();
        let script = self.script();
        script.most = script.most.max(live);
    }

    /// Tasks that live now.
    pub fn live(&self) -> Vec<String> {
        let script = self.script.as_ref().unwrap();
        let lives = |(agent, container): &(usize, ContainerId)| {
            let held = self.agents[*agent].containers.get(container);
            held.is_some_and(|held| held.ended.is_none())
        };
        let live = script.tasks.iter().filter(|(of, _)| lives(of));
        live.map(|(_, (task, _))| task.clone()).collect()
    }

    /// The agents on which a task lives now.
    pub fn lives_on(&self, task: &str) -> Vec<usize> {
        let script = self.script.as_ref().unwrap();
        let lives = |(agent, container): &(usize, ContainerId)| {
            let held = self.agents[*agent].containers.get(container);
            held.is_some_and(|held| held.ended.is_none())
        };
        let live = script.tasks.iter().filter(|(of, (name, _))| lives(of) && name == task);
        live.map(|((agent, _), _)| *agent).collect()
    }

    /// The most that lived at once since the beginning.
    pub fn most(&self) -> usize {
        self.script.as_ref().unwrap().most
    }

    /// The framework launches a task on an agent that it was offered.
    pub fn launch_on(&mut self, task: &str, agent: usize, restart: Restart) {
        let id = self.agents[agent].id.unwrap();
        let node = &mut self.frameworks[0];
        node.told.insert(task.to_owned(), TaskState::Staging);
        let at = node.offers.iter().position(|(_, of)| *of == id).unwrap();
        let (offer, _) = node.offers.remove(at);
        let launch = Launch { restart, ..Rig::launch(task, id, "cpus:0.5;mem:64") };
        launch.check_restart().unwrap();
        let tasks = scratch().seq::<Launch<'static>>([launch]).unwrap();
        let operations =
            scratch().seq::<Operation<'static>>([Operation::Launch { tasks }]).unwrap();
        let offers = scratch().seq::<OfferId>([offer]).unwrap();
        let verb = Verb::Accept(Accept { offers, operations, refuse_us: Some(0) });
        let call = scheduler::Input::Call { ticket: 0, verb, bodies: Seq::EMPTY };
        self.tell_framework(0, call);
    }

    /// The framework asks what became of everything that has not ended.
    pub fn asks(&mut self) {
        self.reconcile(0);
    }

    /// What the framework was told last of a task.
    pub fn told(&self, task: &str) -> TaskState {
        self.frameworks[0].told.get(task).copied().unwrap_or(TaskState::Unknown)
    }

    /// Everything that the framework was told of a task, in order.
    pub fn history(&self, task: &str) -> Vec<TaskState> {
        let of = self.frameworks[0].history.iter().filter(|(of, _)| of == task);
        of.map(|(_, state)| *state).collect()
    }

    /// The health check of everything that runs on an agent finds this.
    pub fn looks(&mut self, agent: usize, healthy: bool) {
        let lives =
            |(id, held): (&ContainerId, &machine::Held)| held.ended.is_none().then_some(*id);
        let all: Vec<_> = self.agents[agent].containers.iter().filter_map(lives).collect();
        for container in all {
            self.tell_agent(agent, agent::Input::Health { container, healthy, kill: false });
        }
    }

    /// Nothing goes between an agent and its master from now on.
    pub fn cut_off(&mut self, agent: usize) {
        let (there, master) = (Node::Agent(agent), Node::Master(1));
        self.blocked.extend([(there, master), (master, there)]);
        self.script().cut_off.insert(agent);
        let here: Vec<ContainerId> = self.agents[agent].containers.keys().copied().collect();
        for container in here {
            let stop_us = self.script().tasks.get(&(agent, container)).map_or(0, |(_, us)| *us);
            self.stop_later(agent, container, stop_us);
        }
    }

    /// It goes again.
    pub fn reach(&mut self, agent: usize) {
        let (there, master) = (Node::Agent(agent), Node::Master(1));
        self.blocked.remove(&(there, master));
        self.blocked.remove(&(master, there));
        self.script().cut_off.remove(&agent);
        let stops = |what: &Happening| match what {
            Happening::Exits { agent: of, exit, .. } => *of == agent && *exit == Exit::Signal(15),
            _ => false,
        };
        self.queue.retain(|_, what| !stops(what));
    }

    /// An agent is killed, without its tasks, and started again. What it wrote is there.
    pub fn loses_agent(&mut self, agent: usize) {
        let node = &mut self.agents[agent];
        node.written = node.file.len();
        self.crash(Node::Agent(agent));
    }

    /// The same, and nothing of what its disk was given last is there.
    pub fn loses_agent_and_what_it_wrote(&mut self, agent: usize) {
        let (node, now) = (&mut self.agents[agent], self.now);
        node.file.truncate(node.written);
        node.disk_until = now;
        self.crash(Node::Agent(agent));
    }

    /// An agent's disk does nothing for a while.
    pub fn hangs_disk(&mut self, agent: usize) {
        self.agents[agent].disk_until = self.now.after(60 * SECOND);
    }

    /// Nothing that the framework says comes to its master, or all of it.
    pub fn mutes_framework(&mut self, muted: bool) {
        let way = (Node::Framework(0), Node::Master(1));
        if muted {
            self.blocked.insert(way);
        } else {
            self.blocked.remove(&way);
        }
    }

    /// The master is killed, and started again.
    pub fn loses_master(&mut self) {
        self.crash(Node::Master(1));
    }

    /// Its tasks end, which is written down where the agent finds it; before it does, power is cut.
    pub fn loses_power_after_ends(&mut self, agent: usize) {
        let mut ended = std::mem::take(&mut self.agents[agent].containers);
        ended.values_mut().for_each(|held| held.ended = Some(Exit::Signal(9)));
        self.loses_power(agent);
        self.agents[agent].containers = ended;
    }

    /// Power is cut, and comes back. What was written seconds ago is on the disk.
    pub fn loses_power(&mut self, agent: usize) {
        let node = &mut self.agents[agent];
        node.synced = node.file.len();
        self.reboot(agent, 0);
    }
}
