//! What a scheduler makes of its offers, and what it was told.

use super::*;

pub(super) struct FrameworkNode {
    pub(super) drive: Option<Drive<'static, Driver<'static>>>,
    pub(super) life: u64,
    pub(super) id: FrameworkId,
    pub(super) role: &'static str,
    pub(super) offers: Vec<(OfferId, AgentId)>,
    pub(super) link: Option<u64>,
    pub(super) hint: Option<u8>,
    pub(super) ticking: Time,
    pub(super) next_task: u32,
    /// It launches nothing any more.
    pub(super) done: bool,
    pub(super) told: BTreeMap<String, TaskState>,
    /// Every status that it was told, in order.
    pub(super) history: Vec<(String, TaskState)>,
    /// The newest update of each task, by the number that its agent gave it.
    newest: BTreeMap<String, u64>,
    pub(super) over: bool,
    /// Tasks that are started again by a rule, and those that may run for so long at the most, in µs.
    pub(super) rules: BTreeMap<String, Restart>,
    pub(super) bounds: BTreeMap<String, u64>,
}

/// How long no master answers before a task stops by itself, of those that do.
const STOP: u64 = 15 * SECOND;

/// What a scheduler launches on an offer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Commands,
    Group,
    /// Commands with a rule, or a bound of time.
    Ruled,
    /// Tasks of an executor of its own, one by one or all at once.
    Custom,
    Given,
}

impl FrameworkNode {
    pub(super) fn new(number: usize) -> Self {
        Self {
            drive: None,
            life: 0,
            id: FrameworkId::NONE,
            role: ["*", "a", "a/b", "c"][number % 4],
            offers: vec![],
            link: None,
            hint: None,
            ticking: Time::NEVER,
            next_task: 0,
            done: false,
            told: BTreeMap::new(),
            history: vec![],
            newest: BTreeMap::new(),
            over: false,
            rules: BTreeMap::new(),
            bounds: BTreeMap::new(),
        }
    }
}

impl Cluster {
    pub(super) fn framework_output(&mut self, framework: usize, output: &[u8], bodies: &[BodyRef]) {
        match read::<scheduler::Output<'_>>(output) {
            scheduler::Output::Send(head) => {
                let Some(number) = self.frameworks[framework].link else { return };
                // Its only connection has the number of its link.
                let conn = Id { index: 0, generation: number as u32 };
                self.send(Node::Framework(framework), conn, &head, bodies);
            }
            scheduler::Output::Identity { framework: id } => self.frameworks[framework].id = id,
            scheduler::Output::Event(event) => self.event(framework, &event),
            scheduler::Output::Share { .. } | scheduler::Output::Stopped => {}
        }
    }

    fn event(&mut self, framework: usize, event: &Event<'_>) {
        let node = &mut self.frameworks[framework];
        match event {
            Event::Offers { offers } => {
                node.offers.extend(offers.iter().map(|offer| (offer.id, offer.agent)));
            }
            Event::Rescind { offer } => node.offers.retain(|(id, _)| id != offer),
            Event::Update { status } => self.updated(framework, status),
            Event::Subscribed { .. } => self.reconcile(framework),
            Event::Error { message } if *message == "Framework has been removed" => {
                node.over = true;
            }
            _ => {}
        }
    }

    /// C6, C7 and C8: in order, no end after an end, and nothing of a mark that no majority has.
    fn updated(&mut self, framework: usize, status: &Status<'_>) {
        if matches!(status.state, TaskState::Unreachable | TaskState::GoneByOperator) {
            self.saw("a scheduler is told that a task is out of reach");
            let agent = (status.agent.epoch, status.agent.number);
            assert!(self.marked.contains(&agent), "C8: {status:?} is told before its mark");
        }
        if status.state.is_terminal() {
            self.strike(When::Told);
        }
        let node = &mut self.frameworks[framework];
        node.history.push((status.task.to_owned(), status.state));
        let known = node.told.get(status.task).copied().unwrap_or(TaskState::Staging);
        if let Some(uuid) = status.uuid {
            let of = format!("{} of {:?}", status.task, status.agent);
            let newest = node.newest.entry(of).or_default();
            assert!(uuid >= *newest, "C6: {status:?} comes after number {newest}");
            *newest = uuid;
        }
        let same = status.state == known || status.state == TaskState::Unknown;
        // What was dropped is told without waiting for an acknowledgement: a question may cross it.
        let crossed = known == TaskState::Dropped
            && status.state == TaskState::Gone
            && status.detail().reason == Some(Reason::Reconciliation);
        assert!(!known.is_terminal() || same || crossed, "C7: {known:?}, and then {status:?}");
        if known == TaskState::Unreachable && status.state == TaskState::Running {
            self.saw("a task that was out of reach is found again");
        }
        // Whoever was told that a task is unknown hears when it is found again.
        let found = self.varied && known == TaskState::Unknown;
        let node = &mut self.frameworks[framework];
        if !is_over(known) || found {
            node.told.insert(status.task.to_string(), status.state);
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
            let most = if full > 12 || self.frameworks[framework].done { 1 } else { 4 };
            let tasks = self.rng.below(most);
            let mut launches = vec![];
            for _ in 0..tasks {
                let node = &mut self.frameworks[framework];
                node.next_task += 1;
                let name = format!("f{framework}t{}", node.next_task);
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
            } else {
                let operations = [self.launch_of(framework, grouped, launches)];
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

    fn sort_of(&mut self, grouped: bool) -> Sort {
        if !self.varied {
            return if grouped { Sort::Group } else { Sort::Commands };
        }
        let sorts =
            [Sort::Commands, Sort::Group, Sort::Ruled, Sort::Ruled, Sort::Custom, Sort::Given];
        sorts[self.ways.below(6) as usize]
    }

    fn launch_of(
        &mut self,
        framework: usize,
        grouped: bool,
        mut launches: Vec<Launch<'static>>,
    ) -> Operation<'static> {
        let sort = self.sort_of(grouped);
        if sort == Sort::Ruled {
            launches.iter_mut().for_each(|launch| self.rule(framework, launch));
        }
        let ids = if matches!(sort, Sort::Group) { ["x", "y"] } else { ["e", "f"] };
        let draws = if self.varied { &mut self.ways } else { &mut self.rng };
        let id = if matches!(sort, Sort::Commands | Sort::Ruled) { 0 } else { draws.below(2) };
        let of_executor = [Resource::scalar("mem", Amount::from_units(8))];
        let executor = Executor {
            id: ids[id as usize],
            resources: scratch().seq::<Resource<'static>>(of_executor).unwrap(),
            user: "",
            grace_us: None,
            body: Body::NONE,
        };
        let of_kind = |launch: Launch<'static>| match sort {
            Sort::Commands | Sort::Ruled => launch,
            Sort::Group => Launch { kind: Kind::Group { group: 0 }, ..launch },
            Sort::Given => Launch { kind: Kind::Given { group: 0 }, ..launch },
            Sort::Custom => Launch { kind: Kind::Executor, executor: Some(executor), ..launch },
        };
        let tasks = scratch().seq::<Launch<'static>>(launches.into_iter().map(of_kind)).unwrap();
        match sort {
            Sort::Group | Sort::Given => Operation::LaunchGroup { executor, tasks },
            Sort::Commands | Sort::Ruled | Sort::Custom => Operation::Launch { tasks },
        }
    }

    /// Some are started again by a rule, some may run for so long only, some both.
    fn rule(&mut self, framework: usize, launch: &mut Launch<'static>) {
        let (ways, node) = (&mut self.ways, &mut self.frameworks[framework]);
        if ways.below(3) > 0 {
            let copies = [Copies::Exclusive, Copies::Availability][ways.below(2) as usize];
            let start = copies == Copies::Availability && ways.below(2) == 0;
            let stops = ways.below(2) == 0;
            launch.grace_us = Some(SECOND);
            launch.restart = Restart {
                rule: [RestartRule::OnFailure, RestartRule::Always][ways.below(2) as usize],
                copies,
                unknown: if start { UnknownAge::Start } else { UnknownAge::Hold },
                stop_after_us: if stops { STOP } else { 0 },
                lost_after_us: if stops { 2 * STOP } else { 0 },
                ..Restart::default()
            };
            node.rules.insert(launch.task.to_owned(), launch.restart);
        }
        if ways.below(3) == 0 {
            let may = (5 + ways.below_u64(40)) * SECOND;
            launch.completion_us = Some(may);
            node.bounds.insert(launch.task.to_owned(), may);
        }
        launch.check_restart().unwrap();
    }

    /// What is started again for ever is killed, also what its scheduler thinks is over.
    pub(super) fn end_ruled(&mut self, framework: usize) {
        let node = &self.frameworks[framework];
        let ended = |task: &String| node.told.get(task).is_some_and(|state| state.is_terminal());
        let all: Vec<_> = node.rules.keys().filter(|task| !ended(task)).cloned().collect();
        for task in &all {
            let task = TaskAt { task, agent: AgentId::NONE };
            let verb = Verb::Kill { task, grace_us: Some(SECOND) };
            let bodies = Seq::EMPTY;
            self.tell_framework(framework, scheduler::Input::Call { ticket: 0, verb, bodies });
        }
    }
}
