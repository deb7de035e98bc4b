//! Lives by seeds: faults of every sort, and again and again a majority that works, in which
//! somebody must be open and a change be committed whatever the others do.

use mesita_core::election::Role;
use mesita_core::mutant::Mutant;
use mesita_core::registry::meta::{Change, bit};

use crate::world::{MILLI, Net, World};

const SECOND: u64 = 1_000 * MILLI;

/// What one life did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub steps: u64,
    pub elections: u64,
    pub commits: u64,
    pub changes: u64,
    pub simulated: u64,
    pub digest: u64,
}

/// One life: `rounds` times some seconds of faults, then a majority that works for 8T.
pub fn life(seed: u64, rounds: u32, mutant: Mutant) -> Told {
    let mut dice = mesita_core::rand::Rng::new(seed ^ 0x5eed);
    let masters = [3, 3, 3, 5, 5, 2, 1][dice.below(7) as usize];
    let t = [150, 500][dice.below(2) as usize] * MILLI;
    let mut world = World::new(seed, masters, t, mutant);
    if masters >= 3 && dice.below(6) == 0 {
        world.node(masters).can_lead = false;
    }
    let start = world.now;
    for _ in 0..rounds {
        chaos(&mut world);
        working_majority(&mut world);
    }
    if dice.below(2) == 0 {
        operate(&mut world);
        chaos(&mut world);
        working_majority(&mut world);
    }
    heal(&mut world);
    let told = world.until_commit(20 * world.t);
    assert!(told.is_some(), "nothing commits after everything is healed");
    Told {
        steps: world.steps,
        elections: world.elections,
        commits: world.commits,
        changes: world.changes,
        simulated: world.now - start,
        digest: world.digest.finish(),
    }
}

fn some(world: &mut World) -> u8 {
    let ids = world.ids();
    ids[world.rng.below(ids.len() as u32) as usize]
}

/// Some seconds in which anything may happen.
fn chaos(world: &mut World) {
    let rough = world.rng.below(3);
    world.net = Net {
        loss: [0, 50, 300][rough as usize],
        double: world.rng.below(200),
        slow: world.rng.below(20),
        delay: (200, [2_000, 5_000, 60_000][world.rng.below(3) as usize]),
    };
    world.fsync = (MILLI, [8, 30, 130][world.rng.below(3) as usize] * MILLI);
    let faults = 5 + world.rng.below(25);
    let t = world.t;
    for _ in 0..faults {
        let wait = world.rng.below_u64(t) + 1;
        world.run(wait);
        fault(world);
    }
}

fn fault(world: &mut World) {
    let t = world.t;
    let (who, other) = (some(world), some(world));
    let leader = world
        .nodes
        .iter()
        .find(|node| node.front.as_ref().is_some_and(|front| front.role() >= Role::Candidate));
    let aimed = leader.map_or(who, |node| node.id);
    let down = world.rng.below_u64(4 * t) + MILLI;
    match world.rng.below(16) {
        0 => world.crash_for(who, down),
        1 | 2 => world.crash_for(aimed, down / 20 + 1),
        3 => world.crash_for(aimed, down),
        4 => {
            for id in world.ids() {
                world.crash_for(id, down);
            }
        }
        5 => world.pause(who, down),
        6 => world.pause(aimed, down),
        7 => world.isolate(who),
        8 => world.isolate(aimed),
        9 => world.deafen(who),
        10 => world.cut(who, other),
        11 => world.cut_both(aimed, who),
        12 => world.node(aimed).hangs = true,
        13 => world.node(who).hangs = true,
        14 => world.unhang(who),
        _ => world.heal_links(),
    }
}

/// A majority works, whatever the rest does: somebody is open within 8T, and changes commit.
fn working_majority(world: &mut World) {
    let voters = world.ids();
    let quorum = voters.len() / 2 + 1;
    let first = world.rng.below(voters.len() as u32) as usize;
    let core: Vec<u8> = (0..quorum).map(|at| voters[(first + at) % voters.len()]).collect();
    world.net = Net { loss: [0, 20][world.rng.below(2) as usize], ..Net::LAN };
    world.fsync = (MILLI, 8 * MILLI);
    world.join(&core);
    world.say(format_args!("{core:?} work"));
    for id in &core {
        world.unhang(*id);
        world.pause(*id, 0);
        world.boot(*id);
    }
    // Who was away while others came is told of them by those that it knows: without these it can trust
    // nobody, and is of no use to a majority.
    let knows = |id: u8, other: u8| {
        let roster = world.facts(id).meta.roster;
        roster.has(other) || roster.before & bit(other) != 0
    };
    if core.iter().any(|id| core.iter().any(|other| !knows(*id, *other))) {
        return;
    }
    for id in voters {
        if !core.contains(&id) {
            match world.rng.below(5) {
                0 => world.crash(id),
                1 => world.deafen(id),
                2 => world.node(id).hangs = true,
                3 => core.iter().for_each(|other| world.cut(id, *other)),
                _ => world.cut_both(id, core[0]),
            }
        }
    }
    let wait = 8 * world.t * 1_000 / 950;
    world.run(wait);
    let told = world.until_commit(4 * world.t);
    if told.is_none() {
        for id in world.ids() {
            if let Some(front) = &world.peek(id).front {
                let all = format!("{front:?}");
                let at = all.find("soft:").unwrap_or(0);
                println!("{id} at {:?}: {}", world.local(id), &all[at..]);
            }
        }
    }
    assert!(told.is_some(), "no change commits though {core:?} work since 8T");
}

/// What operators do to a set that is well: T, a damaged body, and another machine for one of them.
fn operate(world: &mut World) {
    heal(world);
    let t = world.t;
    let Some(leader) = world.until_open(8 * t) else { panic!("nobody opens after a heal") };
    if world.rng.below(2) == 0 {
        world.retime(leader, (t * 2 / 3) as u32);
        world.run(2 * t);
    }
    let ids = world.ids();
    let other = ids.into_iter().find(|id| *id != leader);
    if let Some(other) = other.filter(|_| world.rng.below(2) == 0) {
        world.crash(other);
        world.damage_body(other);
        world.boot(other);
        world.run(2 * t);
    }
    let gone = some(world);
    world.net = Net { loss: 50, ..Net::LAN };
    let id = world.newcomer(20 * t).expect("a learner is taken");
    assert!(world.change_within(Change::Promote { id }, 30 * t), "{id} is not promoted");
    assert!(world.change_within(Change::Remove { id: gone }, 30 * t), "{gone} is not removed");
    world.run(2 * t);
    world.retire(gone);
    world.until_commit(16 * t).expect("changes commit after one was replaced");
}

fn heal(world: &mut World) {
    world.heal_links();
    world.net = Net::LAN;
    for id in world.ids() {
        world.unhang(id);
        world.pause(id, 0);
        world.boot(id);
    }
    world.run(8 * world.t * 1_000 / 950);
}

#[test]
fn a_quiet_life_has_one_election_and_commits_everything() {
    for masters in [1, 2, 3, 5] {
        let mut world = World::new(7, masters, 500 * MILLI, Mutant::None);
        world.run(60 * SECOND);
        assert_eq!(world.elections, 1, "{masters} masters");
        assert!(world.commits > 400, "{} commits of {masters} masters", world.commits);
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn lives_under_faults_keep_every_promise() {
    let first = number("SEED", 1);
    let inputs = number("INPUTS", 400_000);
    let (mut all, mut seed) = (Told::default(), first);
    while all.steps < inputs {
        println!("seed {seed}");
        let told = life(seed, 4, Mutant::None);
        all.steps += told.steps;
        all.elections += told.elections;
        all.commits += told.commits;
        all.simulated += told.simulated;
        seed += 1;
    }
    println!(
        "{} lives, {} steps, {:.1} hours simulated, {:.4} cluster-years, {} elections, {} commits",
        seed - first,
        all.steps,
        all.simulated as f64 / 3.6e9,
        all.simulated as f64 / 3.6e9 / 8_766.0,
        all.elections,
        all.commits
    );
    assert!(all.elections > (seed - first) && all.commits > 10 * (seed - first));
}

#[test]
fn the_same_seed_is_the_same_life() {
    for seed in [5, 6] {
        assert_eq!(life(seed, 2, Mutant::None), life(seed, 2, Mutant::None));
    }
}
