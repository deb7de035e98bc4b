//! The whole cluster by seeds: random lives under faults, then a quiet time in which everything
//! must come to an end.

mod support;

use mesita_core::time::Time;
use support::cluster::{Cluster, Faults, Node};

const SECOND: u64 = 1_000_000;

const FAULTS: Faults = Faults {
    cut: 3_000,
    master_crash: 300,
    agent_crash: 1_000,
    scheduler_crash: 500,
    slow: 20,
    operator: 1_000,
};

/// Two minutes of a random life and its end. Inputs stepped, launches made, digest of every step.
fn life(seed: u64, faults: Faults) -> (u64, usize, u64) {
    let mut cluster = Cluster::new(seed, 3, 3, faults);
    cluster.run(Time(120 * SECOND));
    cluster.heal_and_finish();
    cluster.check_finished();
    assert!(cluster.grouped > 5, "{} launches in groups", cluster.grouped);
    (cluster.steps, cluster.launches(), cluster.digest)
}

#[test]
fn a_life_without_faults_loses_nothing_and_leaves_nothing() {
    let (steps, launches, _) = life(1, Faults::NONE);
    assert!(steps > 2_000 && launches > 50, "{steps} steps, {launches} launches");
}

/// Lives under faults from `SEED` on, at least `INPUTS` inputs long together: by default from 1, and
/// 100,000; more of them by night, or one of them to look at with `TRACE=1`.
#[test]
fn lives_under_faults_lose_nothing_and_launch_nothing_twice() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().unwrap())
    };
    let (mut steps, mut launches) = (0, 0);
    let first = number("SEED", 1);
    let mut seed = first;
    while steps < number("INPUTS", 100_000) {
        println!("seed {seed}");
        let (s, l, _) = life(seed, FAULTS);
        steps += s;
        launches += l;
        seed += 1;
    }
    println!("{} lives, {steps} inputs, {launches} launches", seed - first);
    assert!(launches > 100, "{launches} launches");
}

#[test]
fn the_same_seed_is_the_same_life() {
    for seed in [3, 77] {
        assert_eq!(life(seed, FAULTS), life(seed, FAULTS));
    }
    assert_ne!(life(3, FAULTS).2, life(4, FAULTS).2);
}

/// Nothing runs on an agent that was emptied, whatever crashes meanwhile, until it is offered again.
#[test]
fn an_emptied_agent_stays_empty_until_it_is_offered_again() {
    for crash in [None, Some(Node::Agent(0)), Some(Node::Master)] {
        let mut cluster = Cluster::new(9, 1, 2, Faults::NONE);
        cluster.run(Time(10 * SECOND));
        assert!(cluster.running_on(0) > 0, "{crash:?}: nothing runs");
        // The newest bound counts.
        cluster.drain(0, Some(1_000 * SECOND));
        cluster.drain(0, Some(SECOND));
        if let Some(node) = crash {
            cluster.run(Time(10 * SECOND + SECOND / 2));
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

#[test]
fn a_ledger_written_anew_brings_everything_back() {
    let mut cluster = Cluster::new(9, 1, 2, Faults::NONE);
    cluster.run(Time(30 * SECOND));
    let before = cluster.file_len(0);
    cluster.compact(0);
    cluster.run(Time(31 * SECOND));
    assert!(cluster.file_len(0) < before, "{} of {before} records", cluster.file_len(0));
    cluster.crash_agent(0);
    cluster.run(Time(60 * SECOND));
    cluster.heal_and_finish();
    cluster.check_finished();
}
