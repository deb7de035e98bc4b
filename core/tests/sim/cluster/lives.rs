//! Agents and schedulers start, die and sleep.

use super::*;

/// When lives begin by the clocks that are right, in µs of Unix time.
const EPOCH: u64 = 1_700_000_000 * SECOND;

/// A clock of its own: another rate, another start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// In thousandths of the true rate.
    rate: u64,
    /// What it showed when its machine began, and when that was.
    pub(super) offset: u64,
    pub(super) began: Time,
    /// What its wall clock adds: some boards wake up in 1970, and none is trusted.
    pub(super) wall: u64,
    /// The kernel says that others have set it; and said so before the machine was off.
    pub(super) synchronised: bool,
    pub(super) was_synchronised: bool,
}

impl Clock {
    pub(super) fn drawn(rng: &mut Rng) -> Self {
        let rate = 950 + u64::from(rng.below(101));
        let (offset, wall) = (rng.below_u64(1_000 * SECOND), rng.below_u64(1 << 50));
        let (synchronised, was_synchronised, began) = (false, false, Time(0));
        Self { rate, offset, began, wall, synchronised, was_synchronised }
    }

    pub(super) fn local(&self, now: Time) -> Time {
        Time(self.offset + now.since(self.began) * self.rate / 1_000)
    }

    pub(super) fn due(&self, local: Time) -> Time {
        let since = local.0.saturating_sub(self.offset) * 1_000 / self.rate + 1;
        self.began.after(since)
    }

    /// How long its machine was off is known.
    pub(super) const fn is_known(&self) -> bool {
        self.synchronised && self.was_synchronised
    }

    /// What its wall clock shows when its own shows that, in µs of Unix time.
    pub(super) const fn wall_us(&self, now: Time, local: Time) -> u64 {
        if self.synchronised { EPOCH.wrapping_add(now.0) } else { local.0.wrapping_add(self.wall) }
    }
}

impl Cluster {
    pub(super) fn start_agent(&mut self, agent: usize) {
        let buffer = self.buffer();
        let node = &mut self.agents[agent];
        node.life += 1;
        node.ticking = Time::NEVER;
        (node.session, node.awake_since) = (None, self.now);
        self.begin_threads(Node::Agent(agent));
        let node = &mut self.agents[agent];
        let storage = agent::Storage::lend(&self.capacity, &mut Leak);
        let config = agent::Config {
            seed: 3,
            task_kinds: Kind::Command.bit()
                | Kind::Group { group: 0 }.bit()
                | Kind::Executor.bit()
                | Kind::Given { group: 0 }.bit(),
            switch_user: true,
            body_bytes_max: 1 << 20,
            registration_us: 60_000_000,
            reregistration_us: 15_000_000,
        };
        let front = Agent::new(storage, config).unwrap();
        node.drive = Some(Drive::new(front, buffer));
        let register = description(node.key, node.resources);
        let (file, boot) = (node.file.clone(), node.boot);
        let containers: Vec<_> =
            node.containers.iter().map(|(id, held)| (*id, held.ended)).collect();
        self.tell_agent(agent, agent::Input::Describe(register));
        for (record, bodies) in &file {
            let mut memory = [0; 64];
            let bodies = list_of(bodies, &mut memory);
            self.tell_agent(agent, agent::Input::Record { record, bodies });
        }
        for (container, ended) in containers {
            self.tell_agent(agent, agent::Input::Container { container, ended });
        }
        if self.varied {
            let synchronised = self.agents[agent].clock.synchronised;
            self.tell_agent(agent, agent::Input::Clock { synchronised });
        }
        self.tell_agent(agent, agent::Input::Recovered { boot });
        let delay = self.delay() * 10;
        self.at(delay, Happening::Dial { who: Node::Agent(agent) });
    }

    pub(super) fn start_framework(&mut self, framework: usize) {
        let buffer = self.buffer();
        let node = &mut self.frameworks[framework];
        node.life += 1;
        node.ticking = Time::NEVER;
        self.begin_threads(Node::Framework(framework));
        let node = &mut self.frameworks[framework];
        let storage = scheduler::Storage::lend(&self.capacity, &mut Leak);
        let config = scheduler::Config { seed: 5, acknowledges: true };
        node.drive = Some(Drive::new(Driver::new(storage, config), buffer));
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

    pub(super) fn restart(&mut self, who: Node) {
        match who {
            Node::Agent(agent) if self.agents[agent].drive.is_none() => self.start_agent(agent),
            Node::Framework(framework) if self.frameworks[framework].drive.is_none() => {
                self.start_framework(framework);
            }
            Node::Agent(_) | Node::Framework(_) | Node::Master(_) => {}
        }
    }

    /// The process of an agent or scheduler, or of whoever leads, ends and begins again.
    pub fn crash(&mut self, who: Node) {
        self.crash_for(who, 0);
    }

    fn crash_for(&mut self, who: Node, us: u64) {
        let delay = 10 * MILLI + self.delay() * 200 + us;
        match who {
            Node::Master(id) => return self.crash_master(id, delay),
            Node::Agent(agent) => {
                if self.agents[agent].drive.take().is_none() {
                    return;
                }
                self.tear(agent, self.agents[agent].written);
                self.agents[agent].waiting.clear();
                self.forget_unwritten(agent);
                self.leave_customs(agent);
            }
            Node::Framework(framework) => {
                let node = &mut self.frameworks[framework];
                if node.drive.take().is_none() {
                    return;
                }
                node.offers.clear();
            }
        }
        self.paused.remove(&who);
        self.end_threads(who);
        self.drop_links(who);
        self.at(delay, Happening::Restart { who });
    }

    /// Of what follows on what is there for sure, nobody knows.
    fn tear(&mut self, agent: usize, sure: usize) {
        let unsure = self.agents[agent].file.len() - sure;
        let kept = sure + self.rng.below(unsure as u32 + 1) as usize;
        let node = &mut self.agents[agent];
        node.file.truncate(kept);
        node.writes.clear();
        node.written = kept;
    }

    /// The power of an agent's machine goes: nothing of what ran is there any more.
    pub(super) fn reboot(&mut self, agent: usize, off_us: u64) {
        if self.agents[agent].drive.is_none() {
            return;
        }
        self.saw("a machine loses its power");
        let node = &mut self.agents[agent];
        // What the kernel had, the disk may not have.
        node.written = node.synced;
        self.crash_for(Node::Agent(agent), off_us);
        let node = &mut self.agents[agent];
        node.boot[0] = node.boot[0].wrapping_add(1);
        node.customs.clear();
        if !self.varied {
            return node.containers.clear();
        }
        // What the keeper wrote of ends may be on the disk.
        let known = self.ways.below(2) == 0;
        node.containers.retain(|_, held| known && held.ended.is_some());
        node.clock.boots(self.now, &mut self.ways);
        (node.contact, node.unasked) = (Time(0), true);
    }

    /// A process is stopped, or its machine sleeps. Its clock goes on.
    pub(super) fn pause(&mut self, who: Node, us: u64) {
        if let Node::Agent(agent) = who {
            // What was put off until an earlier end of its sleep is.
            let until = self.now.after(us).max(self.agents[agent].awake_since);
            self.agents[agent].awake_since = until;
        }
        if let Node::Master(id) = who {
            self.world.pause(id, us);
        }
        let until = self.now.after(us);
        self.paused.insert(who, until);
    }

    pub(super) fn tell_agent(&mut self, agent: usize, input: agent::Input<'_>) {
        self.tell_agent_by(Side::Io, agent, &bytes_of(&input));
    }

    /// What the disk thread says: a write is done.
    pub(super) fn tell_agent_of_disk(&mut self, agent: usize, sequence: u64) {
        let input = bytes_of(&agent::Input::Persisted { sequence });
        self.tell_agent_by(Side::Disk, agent, &input);
    }

    fn tell_agent_by(&mut self, side: Side, agent: usize, input: &[u8]) {
        if self.agents[agent].drive.is_none() || self.passes(Node::Agent(agent), side, input) {
            return;
        }
        let life = self.agents[agent].life;
        let taken = self.step_agent(agent, input);
        let deadline = self.agents[agent].drive.as_ref().map(Drive::next_deadline);
        for (output, bodies) in taken.0 {
            if self.agents[agent].life == life {
                self.agent_output(agent, &output, &bodies);
            }
        }
        self.schedule_tick(Node::Agent(agent), deadline.unwrap_or(Time::NEVER));
    }

    pub(super) fn step_agent(&mut self, agent: usize, input: &[u8]) -> Taken {
        let now = self.local(Node::Agent(agent));
        let bytes = self.stamp(agent, now, input);
        self.note_launches(agent, input);
        let Some(mut drive) = self.agents[agent].drive.take() else { return Taken::default() };
        let taken = self.step(&mut drive, now, &bytes, "agent");
        if self.steps.is_multiple_of(8) {
            let (gauges, max) = (drive.front().gauges(), &self.capacity);
            let within = gauges.tasks <= max.tasks && gauges.updates <= max.updates;
            assert!(within, "C12: agent {agent} has {gauges:?}");
        }
        self.agents[agent].drive = Some(drive);
        for (output, _) in &taken.0 {
            self.note_session(agent, output);
        }
        taken
    }

    pub(super) fn tell_framework(&mut self, framework: usize, input: scheduler::Input<'_>) {
        let (node, bytes) = (Node::Framework(framework), bytes_of(&input));
        let lives = self.frameworks[framework].drive.is_some();
        if !lives || self.passes(node, Side::Io, &bytes) {
            return;
        }
        let taken = self.step_framework(framework, &bytes);
        let deadline = self.frameworks[framework].drive.as_ref().map(Drive::next_deadline);
        for (output, bodies) in taken.0 {
            self.framework_output(framework, &output, &bodies);
        }
        self.schedule_tick(node, deadline.unwrap_or(Time::NEVER));
    }

    pub(super) fn step_framework(&mut self, framework: usize, input: &[u8]) -> Taken {
        let now = self.now;
        let Some(mut drive) = self.frameworks[framework].drive.take() else {
            return Taken::default();
        };
        let taken = self.step(&mut drive, now, input, "driver");
        self.frameworks[framework].drive = Some(drive);
        taken
    }
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
