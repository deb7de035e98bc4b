//! Masters, agents and schedulers start and die.

use super::*;

impl Cluster {
    pub(super) fn start_master(&mut self) {
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

    pub(super) fn start_agent(&mut self, agent: usize) {
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

    pub(super) fn start_framework(&mut self, framework: usize) {
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
}
