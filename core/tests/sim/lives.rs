//! Whole lives: under faults, then a quiet time in which everything must come to an end.

use mesita_core::time::Time;

use crate::cluster::{Cluster, Node};
use crate::plan::{Plan, live};

const SECOND: u64 = 1_000_000;

/// What the lives of a run have in common, and how often each thing happened that they are for.
#[derive(Default)]
struct Told {
    lives: u64,
    steps: u64,
    simulated: u64,
    launches: u64,
    seen: std::collections::BTreeMap<&'static str, u64>,
}

impl Told {
    fn and(&mut self, cluster: &Cluster) {
        self.lives += 1;
        self.steps += cluster.steps;
        self.simulated += cluster.now.0;
        self.launches += cluster.launches() as u64;
        for (what, times) in &cluster.seen {
            *self.seen.entry(what).or_default() += times;
        }
    }
}

/// What must have happened in each ten million inputs, and how often at the least.
const PROBES: &[(&str, u64)] = &[
    ("a leader leads no more and begins again", 30),
    ("a registry that has something gets another leader", 50),
    ("what a leader says waits for its lease", 1),
    ("a mark is committed", 1),
    ("a subscription waits for a majority", 20),
    ("an agent is given up", 1),
    ("a scheduler is told that a task is out of reach", 5),
    ("a master ends the session of an agent that is silent", 1),
    ("an agent ends a session that nobody answers in", 8),
    ("a scheduler ends a stream that nobody answers in", 5),
    ("a machine loses its power", 15),
    ("every master loses its power", 8),
    ("a majority works for long enough to be held to it", 40_000),
    ("a write is told to be done twice", 200),
    ("something goes wrong when it hurts", 80),
    ("an agent is drained", 25),
    ("a quota is set", 30),
    ("a launch comes too late", 1),
    ("a frame arrives in parts", 10_000),
    ("a ring is full", 400),
    ("a thread stalls", 400),
    ("a thread that was about to sleep finds something", 400),
    ("a connection is congested", 10),
    ("a connection is cut whose reader is slow", 1),
    ("a disk stalls", 20),
    ("a launch waits for a master that answers", 50),
    ("a launch is abandoned that waited", 10),
    ("a task is started again by its rule", 300),
    ("a task stops because no master answers", 1),
    ("a task is back after its machine was off, and no master was asked", 1),
    ("an executor is given a task", 200),
    ("an executor is given a group", 50),
    ("an executor subscribes again", 10),
    ("an executor never subscribes", 10),
    ("an executor dies with its tasks", 15),
    ("a framework is removed", 5),
    ("a verdict that forgets a task is kept", 1),
    ("a master loses its disk", 5),
    ("a master that has forgotten something is in quarantine", 4),
    ("a master is replaced", 8),
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// The faults to leave, by `FAULTS`: numbers, or `none`.
fn chosen(plan: Plan) -> Plan {
    let Ok(list) = std::env::var("FAULTS") else { return plan };
    let numbers: Vec<usize> = list.split(',').filter_map(|one| one.parse().ok()).collect();
    plan.with_only(&numbers)
}

#[test]
fn a_life_without_faults_loses_nothing_and_leaves_nothing() {
    for (masters, threads) in [(1, false), (3, false), (1, true), (3, true)] {
        let plan = Plan { lasts: 120 * SECOND, threads, ..Plan::quiet(1, masters, 3, 3) };
        let cluster = live(&plan);
        let (steps, launches) = (cluster.steps, cluster.launches());
        assert!(steps > 2_000 && launches > 50, "{steps} steps, {launches} launches");
        assert!(cluster.grouped > 5, "{} launches in groups", cluster.grouped);
        assert_eq!(cluster.world.elections, 1);
    }
}

/// Lives from `SEED` on, at least `INPUTS` inputs long together. One that fails is shrunk, and told
/// with the command that shows it.
#[test]
fn lives_under_faults_keep_every_promise() {
    let (first, inputs) = (number("SEED").unwrap_or(1), number("INPUTS").unwrap_or(150_000));
    let (mut told, mut seed) = (Told::default(), first);
    while told.steps < inputs {
        let plan = chosen(Plan::of(seed));
        let done = std::cell::RefCell::new(None);
        let failed = plan.fault(|plan| drop(done.replace(Some(live(plan)))));
        if let Some(how) = failed {
            println!("life {seed}: {how}");
            let least = if std::env::var_os("TRACE").is_some() {
                plan
            } else {
                std::panic::set_hook(Box::new(|_| {}));
                let least = plan.shrunk(|plan| drop(live(plan)));
                drop(std::panic::take_hook());
                least
            };
            panic!("life {seed}: {how}\n{}\n{:#?}", least.command(), least.faults);
        }
        told.and(&done.take().unwrap());
        seed += 1;
    }
    let hours = told.simulated as f64 / 3.6e9;
    println!(
        "{} lives, {} inputs, {hours:.1} hours simulated, {:.4} cluster-years, {} launches",
        told.lives,
        told.steps,
        hours / 8_766.0,
        told.launches
    );
    for (what, times) in &told.seen {
        println!("  {times:>9} times: {what}");
    }
    for (what, least) in PROBES {
        let times = told.seen.get(what).copied().unwrap_or(0);
        // `ci/sim` adds these up over all that it runs, where what is rare must have happened, too.
        println!("probe: {times} times, at least {least}: {what}");
        let tens = told.steps / 10_000_000;
        // What is rare may not happen at all in so few.
        let enough = times >= least * tens || *least == 1 && tens < 5;
        assert!(enough, "{what}: {times} times in {} inputs is too seldom", told.steps);
    }
}

/// Lives that ended badly once: until when, in seconds, and with what.
const KEPT: &[(u64, u64, &str)] = &[
    (3, 50, "a new leader told the end of a task before the updates that came before it"),
    (34, 130, "a late kill of a task that had ended was answered as if it had been lost"),
    (31, 20, "a master without room for another offer went round and round"),
    (77_000_003, 21, "an agent that began again had a status told after a later one"),
    (42_000_000, 30, "a task of an agent that was given up was told unreachable before its mark"),
];

/// The same, of lives of every sort.
const KEPT_OF_ALL: &[(u64, u64, &str)] = &[(
    145,
    54,
    "a task was told gone whose agent had gone again before it had told all that it has",
)];

#[test]
fn lives_of_every_sort_that_ended_badly_once_go_on() {
    for (seed, seconds, what) in KEPT_OF_ALL {
        let until = Time(seconds * SECOND);
        let failed = Plan::of(*seed).fault(|plan| Cluster::new(plan).run(until));
        assert_eq!(failed, None, "life {seed}: {what}");
    }
}

#[test]
fn lives_that_ended_badly_once_go_on() {
    for (seed, seconds, what) in KEPT {
        let until = Time(seconds * SECOND);
        let failed = Plan::plain(*seed).fault(|plan| Cluster::new(plan).run(until));
        assert_eq!(failed, None, "life {seed}: {what}");
    }
}

/// A life whose end was bad once.
#[test]
fn an_executor_that_a_machine_lost_with_its_power_is_forgotten_in_any_session() {
    assert_eq!(Plan::plain(258).fault(|plan| drop(live(plan))), None);
}

/// Another: an executor had ended after its agent had reported it, and before it was registered.
#[test]
fn an_executor_that_ends_while_its_agent_registers_is_known_to_have_ended() {
    assert_eq!(Plan::of(500_008).fault(|plan| drop(live(plan))), None);
}

#[test]
fn the_same_seed_is_the_same_life() {
    let told = |seed, threads| {
        let mut cluster = Cluster::new(&Plan { threads, ..Plan::of(seed) });
        cluster.run(Time(20 * SECOND));
        (cluster.steps, cluster.digest, cluster.world.digest.finish())
    };
    for threads in [false, true] {
        assert_eq!(told(3, threads), told(3, threads));
        assert_ne!(told(3, threads), told(4, threads));
    }
    assert_ne!(told(3, false), told(3, true));
}

/// Nothing runs on an agent that was emptied, whatever crashes meanwhile, until it is offered again.
#[test]
fn an_emptied_agent_stays_empty_until_it_is_offered_again() {
    for crash in [None, Some(Node::Agent(0)), Some(Node::Master(1))] {
        let mut cluster = Cluster::new(&Plan::quiet(9, 1, 1, 2));
        let mut began = 5 * SECOND;
        while cluster.running_on(0) == 0 {
            began += SECOND;
            cluster.run(Time(began));
        }
        assert!(began < 30 * SECOND, "{crash:?}: nothing runs");
        // The newest bound counts.
        cluster.drain(0, Some(1_000 * SECOND));
        cluster.drain(0, Some(SECOND));
        if let Some(node) = crash {
            cluster.run(Time(began + SECOND / 2));
            cluster.crash(node);
        }
        cluster.run(Time(40 * SECOND));
        let launches = cluster.launches();
        assert_eq!(cluster.running_on(0), 0, "{crash:?}");
        cluster.run(Time(80 * SECOND));
        assert_eq!(cluster.launches(), launches, "{crash:?}: something was launched there");
        cluster.reactivate(0);
        cluster.run(Time(100 * SECOND));
        assert!(cluster.launches() > launches, "{crash:?}: nothing is launched any more");
        cluster.heal_and_finish();
        cluster.check_finished();
    }
}

/// What runs on an agent whose disk is full goes on and ends as it does, and nothing is begun.
#[test]
fn an_agent_whose_disk_is_full_begins_nothing_until_there_is_room() {
    let mut cluster = Cluster::new(&Plan::quiet(9, 1, 1, 2));
    cluster.run(Time(20 * SECOND));
    assert!(cluster.running_on(0) > 0);
    cluster.fill(0, true);
    let launches = cluster.launches();
    cluster.run(Time(60 * SECOND));
    assert_eq!((cluster.launches(), cluster.running_on(0)), (launches, 0));
    cluster.fill(0, false);
    cluster.run(Time(80 * SECOND));
    assert!(cluster.launches() > launches, "nothing is launched any more");
    cluster.heal_and_finish();
    cluster.check_finished();
}

#[test]
fn a_ledger_written_anew_brings_everything_back() {
    let mut cluster = Cluster::new(&Plan::quiet(9, 1, 1, 2));
    cluster.run(Time(30 * SECOND));
    let before = cluster.file_len(0);
    cluster.compact(0);
    cluster.run(Time(31 * SECOND));
    assert!(cluster.file_len(0) < before, "{} of {before} records", cluster.file_len(0));
    cluster.crash(Node::Agent(0));
    cluster.run(Time(60 * SECOND));
    cluster.heal_and_finish();
    cluster.check_finished();
}
