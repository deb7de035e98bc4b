//! Delay scheduling: a framework that waits a little for hosts that have its data gets them (Hindman
//! et al., NSDI 2011, §6.3; Zaharia et al., EuroSys 2010).

mod support;

use mesita_core::allocator::Grant;
use mesita_core::capacity::Capacity;
use mesita_core::rand::Rng;
use mesita_core::time::Time;
use support::allocation::{Out, Rig, capacity, config};
use support::text::wire;

const SECOND: u64 = 1_000_000;
/// The paper's cluster: 93 nodes of four cores, and 16 Hadoops that each scan a file of 100 GB, here
/// in blocks of 128 MB with three replicas.
const NODES: usize = 93;
const HADOOPS: usize = 16;
const BLOCKS: usize = 800;
const REPLICAS: usize = 3;

/// A Hadoop: the hosts of each block that it has still to read, and when it last started a task.
struct Hadoop {
    client: u32,
    left: Vec<[usize; REPLICAS]>,
    since: Time,
}

/// A running task: when it ends, and what it uses.
struct Running {
    until: Time,
    out: Out,
}

fn hadoops(rig: &mut Rig, rng: &mut Rng) -> Vec<Hadoop> {
    let mut draw = |bound: usize| rng.below(u32::try_from(bound).unwrap()) as usize;
    let names: Vec<String> = (0..HADOOPS).map(|number| format!("hadoop{number}")).collect();
    let all = names.iter().map(|name| {
        rig.framework(name, &["hadoop"]);
        let left = (0..BLOCKS).map(|_| [(); REPLICAS].map(|()| draw(NODES))).collect();
        Hadoop { client: rig.client(name, "hadoop"), left, since: Time(0) }
    });
    all.collect()
}

/// The next block for a host: one that is there, else any if enough was waited. True when it is.
fn next_block(hadoop: &mut Hadoop, host: usize, now: Time, wait_us: u64) -> Option<bool> {
    if let Some(place) = hadoop.left.iter().position(|hosts| hosts.contains(&host)) {
        hadoop.left.swap_remove(place);
        return Some(true);
    }
    let waited = now >= hadoop.since.after(wait_us);
    (waited && hadoop.left.pop().is_some()).then_some(false)
}

/// Tasks on hosts that have their data, and all tasks, when everybody waits so long.
fn scan(wait_us: u64) -> (usize, usize) {
    let roomy = Capacity { agents: 128, pieces: 8_000, ..capacity() };
    let mut rig = Rig::with(config(), roomy, 7);
    let rng = &mut Rng::new(11);
    for node in 0..NODES {
        rig.agent(&format!("n{node}"), "cpus:4;mem:15000");
    }
    let mut hadoops = hadoops(&mut rig, rng);
    let (mut running, mut local, mut all) = (Vec::<Running>::new(), 0, 0);
    while hadoops.iter().any(|one| !one.left.is_empty()) {
        assert!(rig.now < Time(3_600 * SECOND), "it takes for ever");
        let now = rig.now;
        for ended in running.extract_if(.., |one| one.until <= now).collect::<Vec<_>>() {
            let Out { agent, client, held } = ended.out;
            rig.act(|allocator, world| allocator.recover_used(world, agent, client, held));
        }
        for Grant { agent, client, mut held, .. } in grants(&mut rig) {
            let hadoop = hadoops.iter_mut().find(|one| one.client == client).unwrap();
            for _ in 0..rig.pool.quantities(held).of(0) / 1_000 {
                let Some(is_local) = next_block(hadoop, agent as usize, now, wait_us) else {
                    break;
                };
                hadoop.since = now;
                all += 1;
                local += usize::from(is_local);
                let used = rig.hold(&wire("cpus:1;mem:1024"));
                rig.pool.subtract(&mut rig.names, &mut held, used).unwrap();
                // A block takes from 4 to 12 seconds.
                let until = now.after(4 * SECOND + u64::from(rng.below(8_000)) * 1_000);
                running.push(Running { until, out: Out { agent, client, held: used } });
            }
            rig.give_back(Out { agent, client, held }, 0);
        }
        rig.wait(100_000);
    }
    (local, all)
}

/// What rounds grant until nothing is dirty.
fn grants(rig: &mut Rig) -> Vec<Grant> {
    let now = rig.now;
    let mut made = vec![];
    for _ in 0..64 {
        if !rig.allocator.is_dirty() && rig.allocator.next_expiry() > now {
            break;
        }
        made.extend(rig.act(|allocator, world| {
            let mut round = allocator.begin(world, now);
            std::iter::from_fn(|| allocator.next(world, &mut round)).collect::<Vec<_>>()
        }));
    }
    made
}

#[test]
fn who_waits_five_seconds_for_its_data_gets_it_for_95_percent_of_its_tasks() {
    let (local, all) = scan(5 * SECOND);
    assert_eq!(all, HADOOPS * BLOCKS);
    println!("{local} of {all} tasks with 5 s");
    assert!(local * 100 >= all * 95, "{local} of {all} tasks were where their data is");
    let (hasty, all) = scan(0);
    println!("{hasty} of {all} tasks without");
    assert!(hasty < local, "waiting is worth nothing: {hasty} without, {local} with");
}
