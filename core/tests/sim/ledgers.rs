//! What an agent makes of its ledger, record by record, whatever of it was written when it died.

use mesita_core::Refusal;
use mesita_core::agent::ledger::Record;
use mesita_core::agent::{self, Agent, Hand};
use mesita_core::capacity::Capacity;
use mesita_core::drive::{BUFFER, Drive, Front, STAMP, stamped};
use mesita_core::time::Time;
use mesita_core::wire::agent::{FrameworkHeld, Register};
use mesita_core::wire::call::Ownership;
use mesita_core::wire::task::{
    Copies, Detail, Executor, Exit, Kind, Launch, Restart, RestartRule, Source, Status, TaskOf,
    TaskState, UnknownAge,
};
use mesita_core::wire::{AgentId, Body, ContainerId, Fence, FrameworkId, Seq, Session, encode};

use crate::cluster::Taken;

use crate::support::Leak;
use crate::support::rig::Rig;
use crate::support::text::wire;

const SECOND: u64 = 1_000_000;
const FRAMEWORK: FrameworkId = FrameworkId { epoch: 1, number: 1 };
const CONTAINER: ContainerId = ContainerId { incarnation: 1, counter: 1 };

/// An agent that no master is heard by, on a disk that is never late.
struct Alone {
    drive: Drive<'static, Agent<'static>>,
    now: Time,
    /// What it wrote since it was started.
    written: Vec<Vec<u8>>,
    launched: Vec<(ContainerId, u32)>,
    destroyed: Vec<ContainerId>,
}

fn bytes_of(record: &Record<'_>) -> Vec<u8> {
    encode(record, &mut [0; 4096]).unwrap().to_vec()
}

fn records(all: &[Record<'_>]) -> Vec<Vec<u8>> {
    all.iter().map(bytes_of).collect()
}

fn read(record: &[u8]) -> Record<'_> {
    postcard::from_bytes(record).unwrap()
}

impl Alone {
    /// One that reads this, and finds these containers, in a boot of that number.
    fn begin(file: &[Vec<u8>], now: u64, boot: u8, runs: &[ContainerId]) -> Self {
        let mut alone = Self::reads(file, now, Capacity::tiny());
        for &container in runs {
            alone.tell(&agent::Input::Container { container, ended: None });
        }
        alone.tell(&agent::Input::Recovered { boot: [boot; 16] });
        alone
    }

    /// One that has read this, and no more.
    fn reads(file: &[Vec<u8>], now: u64, capacity: Capacity) -> Self {
        let capacity = Capacity { head_max: 16_384, ..capacity };
        let config = agent::Config {
            seed: 3,
            task_kinds: Kind::Command.bit(),
            switch_user: true,
            body_bytes_max: 1 << 20,
            registration_us: 60 * SECOND,
            reregistration_us: 15 * SECOND,
        };
        let front = Agent::new(agent::Storage::lend(&capacity, &mut Leak), config).unwrap();
        let drive = Drive::new(front, Box::leak(vec![0; BUFFER].into_boxed_slice()));
        let (written, launched, destroyed) = (vec![], vec![], vec![]);
        let mut alone = Self { drive, now: Time(now), written, launched, destroyed };
        alone.tell(&agent::Input::Describe(description()));
        for record in file {
            alone.tell(&agent::Input::Record { record, bodies: Seq::EMPTY });
        }
        alone
    }

    fn tell(&mut self, input: &agent::Input<'_>) {
        self.tried(input).unwrap();
    }

    fn tried(&mut self, input: &agent::Input<'_>) -> Result<(), Refusal> {
        let input = encode(input, &mut [0; 8192]).unwrap().to_vec();
        self.step(&input)
    }

    fn step(&mut self, input: &[u8]) -> Result<(), Refusal> {
        let mut into = vec![0; input.len() + STAMP];
        let bytes = stamped(self.now.0 + 1, input, &mut into).unwrap().to_vec();
        let mut taken = Taken::default();
        let result = self.drive.step(self.now, &bytes, &mut taken);
        let mut newest = None;
        for (output, _) in &taken.0 {
            match postcard::from_bytes::<agent::Output<'_>>(output).unwrap() {
                agent::Output::Persist { sequence, record, .. } => {
                    newest = Some(sequence);
                    self.written.push(bytes_of(&record));
                }
                agent::Output::Hand(Hand::Launch(launch)) => {
                    self.launched.push((launch.container, launch.attempt));
                }
                agent::Output::Hand(Hand::Destroy { container }) => self.destroyed.push(container),
                _ => {}
            }
        }
        if let Some(sequence) = newest {
            self.tell(&agent::Input::Persisted { sequence });
        }
        result
    }

    /// Goes on for so long.
    fn go(&mut self, us: u64) {
        let until = self.now.after(us);
        while self.drive.next_deadline() <= until {
            self.now = self.now.max(self.drive.next_deadline());
            self.step(<Agent<'_> as Front>::tick()).unwrap();
        }
        self.now = until;
    }

    /// Writes its file anew.
    fn compacted(&mut self) -> Vec<Vec<u8>> {
        self.written.clear();
        self.tell(&agent::Input::Compact);
        self.go(0);
        let ends = bytes_of(&Record::SnapshotEnds);
        assert_eq!(self.written.last(), Some(&ends));
        std::mem::take(&mut self.written)
    }

    /// The states that its file tells of a task.
    fn tells(&mut self) -> Vec<TaskState> {
        let file = self.compacted();
        let states = file.iter().filter_map(|record| match read(record) {
            Record::Update { status, .. } => Some(status.state),
            _ => None,
        });
        states.collect()
    }
}

fn description() -> Register<'static> {
    Register {
        session: Session { incarnation: 1, counter: 1 },
        agent: AgentId::NONE,
        seen: Fence::default(),
        cluster: 0,
        key: [1; 32],
        hostname: "n1",
        region: "",
        zone: "",
        address: "",
        attributes: Seq::EMPTY,
        resources: wire("cpus:4;mem:4096"),
        tasks_max: 0,
        task_kinds: 0,
        reports: 0,
    }
}

/// A start in boot 1, and the framework.
fn begins<'a>() -> Vec<Record<'a>> {
    let framework = FrameworkHeld {
        framework: FRAMEWORK,
        name: "test",
        user: "pi",
        principal: "",
        caller: "",
        failover_us: 0,
        capabilities: 0,
        roles: Seq::EMPTY,
        owned: Ownership::Scheduler,
    };
    let started = Record::Started { incarnation: 1, boot: [1; 16] };
    vec![started, Record::Framework(framework)]
}

fn task<'a>(launch: Launch<'a>) -> Record<'a> {
    Record::Task { framework: FRAMEWORK, role: "*", user: "pi", container: CONTAINER, launch }
}

fn launch() -> Launch<'static> {
    Rig::launch("t", AgentId::NONE, "cpus:1;mem:64")
}

const T: TaskOf<'static> = TaskOf { framework: FRAMEWORK, task: "t" };

fn update(sequence: u64, state: TaskState, attempt: u32, executor: &str) -> Record<'_> {
    let exit = if state.is_terminal() { Exit::Code(0) } else { Exit::Unseen };
    let detail = Detail { exit, executor, attempt, ..Detail::default() };
    let status = Status {
        task: "t",
        state,
        source: Source::Executor,
        agent: AgentId::NONE,
        uuid: Some(sequence),
        wall_us: 1,
        detail: Some(detail),
    };
    Record::Update { framework: FRAMEWORK, sequence, status, uuid: [0; 16] }
}

/// An executor told that its task runs, and how it ended, and nobody acknowledged either.
#[test]
fn the_end_of_an_executors_task_outlives_a_ledger_that_is_written_anew() {
    let executor = Executor {
        id: "e",
        resources: wire("cpus:1;mem:64"),
        user: "",
        grace_us: None,
        body: Body::NONE,
    };
    let launch = Launch { kind: Kind::Executor, executor: Some(executor), ..launch() };
    let mut file = begins();
    file.extend([
        Record::Executor {
            framework: FRAMEWORK,
            role: "*",
            user: "pi",
            container: CONTAINER,
            executor,
        },
        task(launch),
        update(1, TaskState::Running, 0, "e"),
        update(2, TaskState::Finished, 0, "e"),
    ]);
    let mut file = records(&file);
    for _ in 0..2 {
        let mut alone = Alone::begin(&file, SECOND, 1, &[CONTAINER]);
        file = alone.compacted();
        assert_eq!(alone.tells(), [TaskState::Running, TaskState::Finished]);
    }
}

/// A file that was being written anew is read behind the older one, however far it came.
#[test]
pub fn a_task_that_has_ended_stays_so_wherever_the_new_ledger_breaks_off() {
    let restart = Restart { rule: RestartRule::OnFailure, ..Restart::default() };
    let mut old = begins();
    let again = ContainerId { counter: 2, ..CONTAINER };
    old.extend([
        task(Launch { restart, ..launch() }),
        update(1, TaskState::Running, 0, ""),
        Record::Attempt { task: T, attempt: 1, container: again },
        update(2, TaskState::Running, 1, ""),
        update(3, TaskState::Finished, 1, ""),
    ]);
    let old = records(&old);
    let new = Alone::begin(&old, SECOND, 1, &[]).compacted();
    for len in 0..new.len() {
        let file = [&old[..], &new[..len]].concat();
        let mut alone = Alone::begin(&file, SECOND, 1, &[]);
        alone.go(60 * SECOND);
        assert_eq!(alone.launched, [], "{len} of {} records", new.len());
        assert_eq!(alone.tells().last(), Some(&TaskState::Finished), "{len}");
    }
}

/// Without the record all that it was about would be lost, or end.
#[test]
fn an_agent_that_cannot_keep_all_of_its_ledger_does_not_start() {
    let file = records(&[&begins()[..], &[task(launch())]].concat());
    let again = agent::Input::Recovered { boot: [1; 16] };
    let mut alone = Alone::reads(&file, SECOND, Capacity { tasks: 0, ..Capacity::tiny() });
    assert_eq!(alone.tried(&again), Err(Refusal::TasksFull));
    let mut alone = Alone::reads(&[&file[..], &[vec![255]]].concat(), SECOND, Capacity::tiny());
    assert_eq!(alone.tried(&again), Err(Refusal::Malformed));
    assert_eq!(alone.written, [] as [Vec<u8>; 0]);
}

/// How long it may run is no matter of who looks.
#[test]
fn a_task_that_may_run_so_long_ends_then_under_whichever_agent() {
    let restart = Restart {
        rule: RestartRule::Always,
        copies: Copies::Availability,
        unknown: UnknownAge::Start,
        ..Restart::default()
    };
    let completion_us = Some(10 * SECOND);
    let mut file = begins();
    file.push(task(Launch { restart, completion_us, ..launch() }));
    // It begins at 21 s, for the second time.
    let mut alone = Alone::begin(&records(&file), 20 * SECOND, 1, &[]);
    alone.go(SECOND);
    let [(container, 1)] = alone.launched[..] else { panic!("{:?}", alone.launched) };
    alone.tell(&agent::Input::Started { container });
    let mut file = [records(&file), alone.written].concat();
    for began in [23, 25] {
        let mut next = Alone::begin(&file, began * SECOND, 1, &[container]);
        file = next.compacted();
        next.go((30 - began) * SECOND);
        assert_eq!(next.destroyed, []);
        next.go(SECOND);
        assert_eq!(next.destroyed, [container]);
    }
}

/// A task that waits for a master since its machine was off waits on, whoever is started meanwhile.
#[test]
pub fn a_ledger_written_anew_knows_that_the_machine_was_off() {
    let restart = Restart {
        rule: RestartRule::Always,
        copies: Copies::Availability,
        unknown: UnknownAge::Hold,
        ..Restart::default()
    };
    let mut file = begins();
    file.extend([task(Launch { restart, ..launch() }), update(1, TaskState::Running, 0, "")]);
    let mut file = records(&file);
    for _ in 0..3 {
        let mut alone = Alone::begin(&file, SECOND, 2, &[]);
        alone.go(60 * SECOND);
        assert_eq!(alone.launched, []);
        file = alone.compacted();
    }
}
