//! What a scheduler makes of its offers, and what it remembers of its tasks.

use super::*;

impl Cluster {
    pub(super) fn framework_output(&mut self, framework: usize, output: &[u8], bodies: &[BodyRef]) {
        match read::<scheduler::Output<'_>>(output) {
            scheduler::Output::Send(head) => {
                let Some(link) = self.frameworks[framework].link else { return };
                let Some(link) = self.links.get(&link) else { return };
                let at = Node::Framework(framework);
                let conn = link.ends[usize::from(link.ends[0].0 != at)].1;
                self.send(at, conn, &head, bodies);
            }
            scheduler::Output::Identity { framework: id } => self.frameworks[framework].id = id,
            scheduler::Output::Event(event) => self.event(framework, &event),
            scheduler::Output::Share { .. } | scheduler::Output::Stopped => {}
        }
    }

    pub(super) fn event(&mut self, framework: usize, event: &Event<'_>) {
        let node = &mut self.frameworks[framework];
        match event {
            Event::Offers { offers } => {
                node.offers.extend(offers.iter().map(|offer| (offer.id, offer.agent)));
            }
            Event::Rescind { offer } => node.offers.retain(|(id, _)| id != offer),
            Event::Update { status } => {
                let known = node.told.get(status.task).copied();
                let known = known.unwrap_or(TaskState::Staging);
                if !is_over(known) {
                    node.told.insert(status.task.to_string(), status.state);
                }
            }
            Event::Subscribed { .. } => self.reconcile(framework),
            Event::Error { message } if *message == "Framework has been removed" => {
                node.over = true;
            }
            _ => {}
        }
    }

    /// A scheduler asks about every task that it remembers, as Mesos' guide asks it to.
    pub(super) fn reconcile(&mut self, framework: usize) {
        let told = self.frameworks[framework].told.clone();
        let open: Vec<_> = told.iter().filter(|(_, state)| !is_over(**state)).collect();
        for some in open.chunks(64) {
            let tasks = some.iter().map(|(task, _)| TaskAt { task, agent: AgentId::NONE });
            let mut memory = [0; 4096];
            let tasks = Scratch::new(&mut memory).seq::<TaskAt<'static>>(tasks).unwrap();
            let (verb, bodies) = (Verb::Reconcile { tasks }, Seq::EMPTY);
            self.tell_framework(framework, scheduler::Input::Call { ticket: 0, verb, bodies });
        }
    }

    /// A scheduler's mind: launches one or two tasks on an offer, or says no, or kills something.
    pub(super) fn decide(&mut self, framework: usize) {
        let again = SECOND / 20 + u64::from(self.rng.below(2_000)) * MILLI;
        self.at(again, Happening::Decide { framework });
        if self.frameworks[framework].drive.is_none() {
            return;
        }
        let offers = std::mem::take(&mut self.frameworks[framework].offers);
        let full = self.frameworks[framework].told.values().filter(|s| !is_over(**s)).count();
        for (offer, agent) in offers {
            let tasks = if full > 12 { 0 } else { self.rng.below(4) };
            let mut launches = vec![];
            for _ in 0..tasks {
                let node = &mut self.frameworks[framework];
                node.next_task += 1;
                let name = format!("t{}", node.next_task);
                node.told.insert(name.clone(), TaskState::Staging);
                let resources = ["cpus:0.5;mem:64", "cpus:1;mem:256", "cpus:8;mem:1"]
                    [self.rng.below(3) as usize];
                launches.push(Rig::launch(&name, agent, resources));
            }
            let offers = scratch().seq::<OfferId>([offer]).unwrap();
            let refuse_us = Some(u64::from(self.rng.below(3)) * SECOND);
            let grouped = self.chance(300);
            let verb = if launches.is_empty() {
                Verb::Decline { offers, refuse_us }
            } else if grouped {
                let kind = Kind::Group { group: 0 };
                let launches = launches.into_iter().map(|launch| Launch { kind, ..launch });
                let tasks = scratch().seq::<Launch<'static>>(launches).unwrap();
                let of_executor = [Resource::scalar("mem", Amount::from_units(8))];
                let executor = Executor {
                    id: ["x", "y"][self.rng.below(2) as usize],
                    resources: scratch().seq::<Resource<'static>>(of_executor).unwrap(),
                    user: "",
                    grace_us: None,
                    body: Body::NONE,
                };
                let operations = [Operation::LaunchGroup { executor, tasks }];
                let operations = scratch().seq::<Operation<'static>>(operations).unwrap();
                Verb::Accept(Accept { offers, operations, refuse_us })
            } else {
                let tasks = scratch().seq::<Launch<'static>>(launches).unwrap();
                let operations = [Operation::Launch { tasks }];
                let operations = scratch().seq::<Operation<'static>>(operations).unwrap();
                Verb::Accept(Accept { offers, operations, refuse_us })
            };
            let bodies = Seq::EMPTY;
            self.tell_framework(framework, scheduler::Input::Call { ticket: 0, verb, bodies });
        }
        if self.chance(100) {
            let node = &self.frameworks[framework];
            let alive = node.told.iter().find(|(_, state)| !is_over(**state));
            if let Some((task, _)) = alive.map(|(task, state)| (task.clone(), *state)) {
                let task = TaskAt { task: &task, agent: AgentId::NONE };
                let verb = Verb::Kill { task, grace_us: Some(SECOND) };
                let bodies = Seq::EMPTY;
                self.tell_framework(framework, scheduler::Input::Call { ticket: 0, verb, bodies });
            }
        }
    }
}
