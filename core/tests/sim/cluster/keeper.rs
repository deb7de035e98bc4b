//! What stands between an agent and its processes in lives of every sort of work: images that take
//! their time, launches that wait for a master that answers, tasks that stop when none does, clocks
//! that are wrong; and what must hold of copies at each instant.

use super::lives::Clock;
use super::machine::Held;
use super::*;
use crate::machines::fresh::fresh_until;

/// How much longer than it may a task runs at the most, in µs: what a slow process takes to end it.
const OVERTIME: u64 = 10 * SECOND;
/// The longest that an image takes.
const FETCH: u64 = 15 * SECOND;
/// What an agent is told of a launch that was abandoned.
const KILLED: &str = "killed before it was started";

impl Cluster {
    /// A launch is handed over: true when it does not begin now.
    pub(super) fn waits(&mut self, agent: usize, launch: &agent::HandLaunch<'_>) -> bool {
        if !self.varied || launch.attempt > 0 {
            return false;
        }
        let output = agent::Output::Hand(Hand::Launch(*launch));
        self.agents[agent].waiting.insert(launch.container, bytes_of(&output));
        let slow = self.ways.below(10) == 0;
        let after = if slow { self.ways.below_u64(FETCH) } else { 0 };
        let (life, container) = (self.agents[agent].life, launch.container);
        self.at(after, Happening::Ready { agent, life, container });
        true
    }

    /// Everything that a launch needs is there: it begins, as soon as a master answers.
    pub(super) fn ready(&mut self, agent: usize, life: u64, container: ContainerId) {
        let node = &mut self.agents[agent];
        let (now, life_now) = (node.clock.local(self.now), node.life);
        if life != life_now || !node.waiting.contains_key(&container) {
            return;
        }
        let session = node.session.unwrap_or_default();
        if fresh_until(session, node.contact, AGENT_TIMEOUT, now).is_none() {
            self.saw("a launch waits for a master that answers");
            return self.at(SECOND / 4, Happening::Ready { agent, life, container });
        }
        let Some(output) = self.agents[agent].waiting.remove(&container) else { return };
        let agent::Output::Hand(Hand::Launch(launch)) = read(&output) else { return };
        self.check_word(agent, launch.task);
        self.launch(agent, &launch);
    }

    /// It is not to begin any more; true when it had not.
    pub(super) fn abandon(&mut self, agent: usize, container: ContainerId) -> bool {
        let waited = self.agents[agent].waiting.remove(&container).is_some();
        if waited {
            self.saw("a launch is abandoned that waited");
            let life = self.agents[agent].life;
            self.at(self.now.0 % MILLI, Happening::Unstarted { agent, life, container });
        }
        waited
    }

    pub(super) fn unstarted(&mut self, agent: usize, life: u64, container: ContainerId) {
        if self.agents[agent].life == life {
            self.tell_agent(agent, agent::Input::Unstarted { container, message: KILLED });
        }
    }

    /// C2: nothing that was ordered begins after its agent was given up, but in a session since then.
    fn check_word(&self, agent: usize, task: &str) {
        let node = &self.agents[agent];
        let Some(id) = node.id else { return };
        let marked = self.given_up.get(&(id.epoch, id.number));
        let since = node.session.map(|_| node.session_since);
        if let Some(marked) = marked {
            let later = since.is_some_and(|since| since > *marked);
            assert!(later, "C2: {task} begins on agent {agent}, which was given up at {marked:?}");
        }
    }

    // ------------------------------------------------------------------ copies

    /// A framework's own rule for a task.
    pub(super) fn rule_of(&self, framework: FrameworkId, task: &str) -> Option<Restart> {
        let node = self.frameworks.iter().find(|node| node.id == framework)?;
        node.rules.get(task).copied()
    }

    /// C2: at each instant one copy of a task lives at the most; and what is to run once is not back
    /// after its machine was off before a master was asked.
    pub(super) fn check_copies(
        &mut self,
        agent: usize,
        launch: &agent::HandLaunch<'_>,
        task: &str,
    ) {
        for (other, node) in self.agents.iter().enumerate() {
            let copy = node.containers.values().find(|held| held.lives() && held.task == task);
            assert!(copy.is_none(), "C2: {task} begins on agent {agent} and lives on {other}");
        }
        let Some(rule) = self.rule_of(launch.framework, launch.task) else { return };
        if launch.attempt == 0 {
            return;
        }
        self.saw("a task is started again by its rule");
        let node = &self.agents[agent];
        if !node.unasked {
            return;
        }
        let held = rule.copies == Copies::Exclusive
            || rule.unknown == UnknownAge::Hold && !node.clock.is_known();
        assert!(!held, "C2: {task} is back after its machine was off, and no master was asked");
        self.saw("a task is back after its machine was off, and no master was asked");
    }

    // ------------------------------------------------------------------- stops

    /// A container has begun whose keeper stops it when no master answers for so long.
    pub(super) fn stop_when_silent(&mut self, agent: usize, launch: &agent::HandLaunch<'_>) {
        let (container, after_us) = (launch.container, launch.stop_after_us);
        if self.varied && after_us > 0 {
            let begun = self.local(Node::Agent(agent));
            // One that begins without a master counts from its beginning.
            let from = self.agents[agent].contact.max(begun);
            if let Some(held) = self.agents[agent].containers.get_mut(&container) {
                (held.stop_us, held.begun) = (after_us, begun);
            }
            let due = self.due(Node::Agent(agent), from.after(after_us));
            self.at(due.since(self.now), Happening::Stops { agent, container });
        }
    }

    /// The keeper looks how long no master has answered.
    pub(super) fn stops(&mut self, agent: usize, container: ContainerId) {
        let (now, contact) = (self.local(Node::Agent(agent)), self.agents[agent].contact);
        let Some(held) = self.agents[agent].containers.get(&container).filter(|held| held.lives())
        else {
            return;
        };
        let until = contact.max(held.begun).after(held.stop_us);
        if now < until {
            let due = self.due(Node::Agent(agent), until);
            return self.at(due.since(self.now), Happening::Stops { agent, container });
        }
        self.saw("a task stops because no master answers");
        self.exits(agent, container, Exit::Signal(15));
    }

    // ------------------------------------------------------------------- times

    /// What is written of when a task began: it ends when it has run for as long as it may, whichever
    /// agent sees to that.
    pub(super) fn note_began(&mut self, agent: usize, task: &TaskOf<'_>, boot_us: u64) {
        let name = machine::called(task.framework, task.task);
        let framework = self.frameworks.iter().find(|node| node.id == task.framework);
        let may = framework.and_then(|node| node.bounds.get(task.task)).copied();
        let all = self.agents[agent].containers.values_mut();
        for held in all.filter(|held| held.task == name && held.lives()) {
            held.must_end = may.map(|may| Time(boot_us).after(may));
        }
    }

    /// The records that an agent will read: what they do not say of a task's beginning, nobody knows.
    pub(super) fn forget_unwritten(&mut self, agent: usize) {
        let mut known = BTreeSet::new();
        for (record, _) in &self.agents[agent].file {
            if let Record::Began { task, .. } = read::<Record<'_>>(record) {
                known.insert(machine::called(task.framework, task.task));
            }
        }
        for held in self.agents[agent].containers.values_mut() {
            held.must_end = held.must_end.filter(|_| known.contains(&held.task));
        }
    }

    /// C12: nothing runs longer than it may on an agent that is up and awake.
    pub(super) fn nothing_runs_too_long(&self) {
        if !self.varied {
            return;
        }
        for (number, node) in self.agents.iter().enumerate() {
            let up = node.drive.is_some() && self.now.since(node.awake_since) > OVERTIME;
            if !up || self.sleeps_until(Node::Agent(number)).is_some() {
                continue;
            }
            let now = node.clock.local(self.now);
            let late = |held: &&Held| {
                held.lives() && held.must_end.is_some_and(|end| now > end.after(OVERTIME))
            };
            if let Some(held) = node.containers.values().find(late) {
                panic!("C12: {} runs on agent {number} past {:?}", held.task, held.must_end);
            }
        }
    }

    // ------------------------------------------------------------------ clocks

    /// An agent asks what its kernel says of its clock.
    pub(super) fn ask_for_clock(&mut self, agent: usize) {
        if self.varied {
            let (delay, life) = (self.ways.below_u64(2 * MILLI), self.agents[agent].life);
            self.at(delay, Happening::Clocked { agent, life });
        }
    }

    pub(super) fn clocked(&mut self, agent: usize, life: u64) {
        if self.agents[agent].life == life {
            let synchronised = self.agents[agent].clock.synchronised;
            self.tell_agent(agent, agent::Input::Clock { synchronised });
        }
    }
}

impl Clock {
    /// The machine was off: its clock begins anew, and nobody knows what its wall clock says.
    pub(super) fn boots(&mut self, now: Time, rng: &mut Rng) {
        (self.began, self.offset) = (now, rng.below_u64(5 * SECOND));
        let stamped = std::mem::replace(&mut self.synchronised, rng.below(2) == 0);
        self.was_synchronised = stamped;
        // In 1970, or wherever it was saved.
        self.wall = [0, rng.below_u64(1 << 50)][rng.below(2) as usize];
    }
}
