//! The end of a life: no faults any more, and everything must come to an end by itself.

use super::*;

impl Cluster {
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
}
