//! The end of a life: no faults any more, and everything must come to an end by itself.

use super::*;
use mesita_core::master::rows::AgentState;

impl Cluster {
    /// No faults and no new tasks any more; everything must come to an end by itself.
    pub fn heal_and_finish(&mut self) {
        self.heal();
        self.run(self.now.after(60 * SECOND));
        if self.world.t > SECOND {
            // Until then there may have been no leader.
            self.run(self.now.after(12 * self.world.t));
        }
        self.nobody_is_spoiled();
        self.everybody_is_back();
        self.schedule(&[]);
        self.limit("c", 0);
        // A leader that was gone before the removal was durable: the operator heard no answer, and repeats it.
        for framework in 0..self.frameworks.len() {
            if self.frameworks[framework].over {
                self.teardown(framework);
            }
        }
        for agent in 0..self.agents.len() {
            self.reactivate(agent);
        }
        self.run(self.now.after(10 * SECOND));
        // What is refused is refused for two seconds at the most.
        self.queue.retain(|_, what| !matches!(what, Happening::Decide { .. }));
        self.run(self.now.after(5 * SECOND));
        self.nothing_lies_idle();
        self.all_agree();
        for framework in 0..self.frameworks.len() {
            self.frameworks[framework].done = true;
            let bodies = Seq::EMPTY;
            let roles = Seq::EMPTY;
            let verb = Verb::Suppress { roles };
            self.tell_framework(framework, scheduler::Input::Call { ticket: 0, verb, bodies });
            // A scheduler asks from time to time, as Mesos' guide asks it to: a question that came
            // before every agent was back had no answer.
            self.reconcile(framework);
        }
        // The end of a task that has a rule is its scheduler's to say: twice, as what was said may be lost.
        for _ in 0..2 {
            for framework in 0..self.frameworks.len() {
                self.end_ruled(framework);
            }
            self.run(self.now.after(60 * SECOND));
        }
    }

    /// An operator has the time to replace who is of no use any more, and agents to come back.
    fn nobody_is_spoiled(&mut self) {
        if self.spoiled_id().is_none() {
            return;
        }
        let until = self.now.after(120 * self.world.t);
        while self.spoiled_id().is_some() && self.now < until {
            self.run(self.now.after(SECOND));
        }
        assert_eq!(self.spoiled_id(), None, "a master is of no use and is not replaced");
        self.run(self.now.after(20 * SECOND));
    }

    fn leading(&self) -> &MasterNode {
        let id = self.leader().expect("nobody leads after everything is healed");
        &self.masters[usize::from(id) - 1]
    }

    fn everybody_is_back(&self) {
        let model = &self.leading().model;
        let active = |row: &&AgentRow| row.state == Some(AgentState::Active);
        let back = model.agents.values().filter(active).count();
        assert_eq!(back, self.agents.len(), "not every agent is back: {:?}", model.agents);
    }

    /// C10: whoever wants it is offered what nobody has.
    fn nothing_lies_idle(&self) {
        let model = &self.leading().model;
        if model.offers.len() as u32 == self.capacity.offers {
            // Nobody answers here, and there is no room for another offer.
            return;
        }
        for (row, agent) in &model.agents {
            let mut held = Amounts::default();
            model.offers.values().filter(|o| o.agent == *row).for_each(|o| held.add(&o.resources));
            let tasks = model.tasks.values().filter(|task| !task.state.is_terminal());
            tasks.filter(|task| task.agent == *row).for_each(|task| held.add(&task.resources));
            let idle = agent.total.cpus() - held.cpus();
            assert!(idle < 10, "C10: {idle} of {row:?} lies idle: {agent:?}");
        }
    }

    /// C9: the master, agents and schedulers know the same tasks.
    fn all_agree(&self) {
        let model = &self.leading().model;
        let known: BTreeSet<&str> = model
            .tasks
            .values()
            .filter(|task| !task.state.is_terminal())
            .map(|task| task.name.as_str())
            .collect();
        let running = self.agents.iter().flat_map(|node| node.containers.values());
        for held in running.filter(|held| held.ended.is_none() && !held.task.is_empty()) {
            let (_, name) = held.task.split_once('/').unwrap();
            assert!(known.contains(name), "C9: {} runs and no master knows it", held.task);
        }
        let customs = self.agents.iter().flat_map(|node| node.customs.values());
        for task in customs.flat_map(customs::Custom::tasks) {
            assert!(known.contains(task), "C9: {task} runs and no master knows it");
        }
        let told = self.frameworks.iter().flat_map(|node| &node.told);
        let alive: BTreeSet<&str> =
            told.filter(|(_, state)| !is_over(**state)).map(|(name, _)| name.as_str()).collect();
        for name in &known {
            assert!(alive.contains(name), "C9: {name} is known to the master alone");
        }
    }

    /// After everything came to an end: nothing is left anywhere, and everybody was told.
    pub fn check_finished(&mut self) {
        for (number, node) in self.frameworks.iter().enumerate() {
            if node.over {
                continue;
            }
            for (task, state) in &node.told {
                assert!(
                    is_over(*state),
                    "C6: framework {number} was never told the end of {task}, {state:?}"
                );
            }
            let (_, tasks) = node.drive.as_ref().unwrap().front().gauges();
            assert_eq!(tasks, 0, "the driver of framework {number} still waits for tasks");
        }
        let master = self.leading();
        let gauges = master.drive.as_ref().unwrap().front().gauges();
        assert_eq!((gauges.tasks, gauges.executors), (0, 0), "the master still has tasks");
        let outstanding = master.model.offers_made - master.model.offers_ended;
        assert_eq!(u64::from(gauges.offers), outstanding, "C5: offers that nobody knows of");
        for (number, node) in self.agents.iter().enumerate() {
            let gauges = node.drive.as_ref().unwrap().front().gauges();
            assert_eq!((gauges.tasks, gauges.updates), (0, 0), "agent {number} still has tasks");
            assert_eq!(gauges.body_bytes, 0, "agent {number} still keeps bodies");
            assert_eq!(gauges.executors, 0, "agent {number} still has executors");
            assert!(node.containers.is_empty(), "agent {number} still has containers");
        }
    }
}
