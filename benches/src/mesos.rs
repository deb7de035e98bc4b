//! What Mesos' own benchmarks ask of its allocator, asked of this one: group B, a line of JSON for
//! each figure, in ns of wall time unless it says otherwise.
//!
//! The workloads are those of `hierarchical_allocator_tests.cpp`,
//! `hierarchical_allocator_benchmarks.cpp` and `sorter_tests.cpp`.

use mesita_core::wire::call::Capability;

use crate::allocation::{Size, tell, tell_one, timed, usual};
use crate::stage::{AGENT, Stage};

/// Runs a case; false when there is none of that name.
pub(crate) fn run(case: &str, size: Size) -> bool {
    match case {
        "b1" => {
            let all = [(1_000, 50), (1_000, 200), (10_000, 200), (10_000, 1_000)];
            decline_offers(case, &all, size);
        }
        "b2" => decline_offers(case, &[(10_000, 3_000)], size),
        "b3" => decline_offers(case, &[(20_000, 2_000)], size),
        "b4" => large_and_small_quota(size),
        "b5" => add_and_update(size),
        "b6" => add_frameworks_with_quota(size),
        "b7" => full_sort(size),
        "b8" => multi_framework(size),
        "b9" => extreme_suppress(size),
        "b10" => update_allocation(size),
        _ => return false,
    }
    true
}

fn decline_offers(case: &str, all: &[(u32, u32)], size: Size) {
    let given = size.agents.zip(size.frameworks);
    let small = [(1_000, 50)];
    let all = if size.quick { &small[..] } else { all };
    for (agents, frameworks) in given.map_or(all.to_vec(), |one| vec![one]) {
        let mut stage = usual(agents, frameworks);
        let most = if size.quick { 20 } else { 4_000_000 / agents };
        let rounds = 2 * frameworks.min(most / 2).min(200);
        let (mut declines, mut cycles, mut idle) = (vec![], vec![], vec![]);
        stage.cycle();
        for _ in 0..rounds {
            let (ns, some) = timed(|| decline_all(&mut stage));
            if some {
                declines.push(ns);
            }
            let (ns, made) = timed(|| stage.cycle());
            if made > 0 { cycles.push(ns) } else { idle.push(ns) }
        }
        tell(case, "decline all", agents, frameworks, declines);
        tell(case, "cycle", agents, frameworks, cycles);
        tell(case, "cycle, all refused", agents, frameworks, idle);
        tell_one(
            case,
            "filters at the end",
            [agents, frameworks],
            "filters",
            stage.filters().into(),
        );
    }
}

/// A role with a small or a large quota, and its framework.
fn add_with_quota(stage: &mut Stage, role: u32, is_small: bool) {
    let many = if is_small { 1 } else { 4 };
    let name = format!("r{role}");
    let amounts = [("cpus", many * 1_000), ("mem", many * 1_024_000), ("disk", many * 1_024_000)];
    stage.set_quota(&name, &amounts);
    stage.add_framework(&name);
}

/// True when there was something to decline.
fn decline_all(stage: &mut Stage) -> bool {
    let some = stage.give_back(true);
    while stage.give_back(true) {}
    some
}

fn large_and_small_quota(size: Size) {
    let all = [(25u32, 5u32), (250, 50), (2_500, 500)];
    let all = if size.quick { &all[..2] } else { &all[..] };
    for &(small, large) in all {
        let roles = small + large;
        let agents = small / 5 + large * 5;
        let mut stage = Stage::new(agents, roles, roles);
        for role in 0..roles {
            add_with_quota(&mut stage, role, role < small);
        }
        (0..agents).for_each(|_| stage.add_agent("cpus:2;mem:2048;disk:2048", ""));
        let (first, made) = timed(|| stage.cycle());
        tell("b4", "cycle 1", agents, roles, vec![first]);
        assert!(made > 0, "something is offered");
        // Mesos' second cycle looks at all agents again, and must offer nothing.
        let again = (0..100).map(|_| {
            let (ns, made) = timed(|| stage.cycle());
            assert_eq!(made, 0, "a second cycle offers something");
            ns
        });
        tell("b4", "cycle 2", agents, roles, again.collect());
    }
}

fn extreme_suppress(size: Size) {
    let agents = size.agents.unwrap_or(1_000);
    let frameworks = size.frameworks.unwrap_or(200);
    for suppressed in [0, frameworks * 99 / 100] {
        let mut stage = usual(agents, frameworks);
        (0..suppressed as usize).for_each(|framework| stage.suppress(framework));
        let mut times = vec![];
        for _ in 0..if size.quick { 3 } else { 15 } {
            times.push(timed(|| stage.cycle()).0);
            while stage.give_back(false) {}
        }
        tell("b9", &format!("{suppressed} suppressed"), agents, frameworks, times);
    }
}

/// Inputs between two rounds, when they come faster than rounds do.
const BURST: u32 = 256;

/// Agents come, as fast as they can, and are offered; then each has ten cpus more that may be taken
/// back.
fn add_and_update(size: Size) {
    let agents = size.agents.unwrap_or(if size.quick { 1_000 } else { 10_000 });
    let frameworks = size.frameworks.unwrap_or(if size.quick { 50 } else { 1_000 });
    let mut stage = Stage::new(agents, frameworks, 2);
    let revocable = Capability::RevocableResources.bit();
    (0..frameworks).for_each(|_| stage.add_framework_that("*", revocable));
    let has = "cpus:2;mem:1024;disk:4096;ports:[31000-32000]";
    let used = "cpus:1;mem:128;disk:1024;ports:[31126-31510,31512-31623,31810-31852,31854-31964]";
    let (added, ()) = timed(|| {
        for agent in 0..agents {
            stage.add_agent(has, used);
            cycle_after_burst(&mut stage, agent);
        }
        stage.cycle();
    });
    tell("b5", "all agents added", agents, frameworks, vec![added]);
    let (updated, ()) = timed(|| {
        for agent in 0..agents {
            stage.add_revocable(agent, 10_000);
            cycle_after_burst(&mut stage, agent);
        }
        stage.cycle();
    });
    tell("b5", "all agents updated", agents, frameworks, vec![updated]);
}

fn cycle_after_burst(stage: &mut Stage, nth: u32) {
    if nth % BURST == BURST - 1 {
        stage.cycle();
    }
}

/// Frameworks come, each of a role with a quota, and are offered what is their own.
fn add_frameworks_with_quota(size: Size) {
    let (small, large) = if size.quick { (250u32, 50u32) } else { (2_500, 500) };
    let (roles, agents) = (small + large, small / 5 + large * 5);
    let mut stage = Stage::new(agents, roles, roles);
    (0..agents).for_each(|_| stage.add_agent("cpus:2;mem:2048;disk:2048", ""));
    let (ns, ()) = timed(|| {
        for role in 0..roles {
            add_with_quota(&mut stage, role, role < small);
            cycle_after_burst(&mut stage, role);
        }
        stage.cycle();
    });
    tell("b6", "all frameworks added", agents, roles, vec![ns]);
}

/// What all agents use comes back, then clients go; each with a hundred ranges of ports.
fn full_sort(size: Size) {
    let agents = size.agents.unwrap_or(if size.quick { 1_000 } else { 50_000 });
    let clients = size.frameworks.unwrap_or(if size.quick { 50 } else { 1_000 });
    let mut stage = Stage::new(agents, clients, 2);
    let (ns, ()) = timed(|| (0..clients).for_each(|_| stage.add_framework("*")));
    tell("b7", "clients added", agents, clients, vec![ns]);
    let used = ports_used(100);
    let (ns, ()) = timed(|| (0..agents).for_each(|_| stage.add_agent(AGENT, &used)));
    tell("b7", "agents added and charged", agents, clients, vec![ns]);
    let back = (0..agents).map(|_| timed(|| stage.end_task()).0);
    let back: Vec<u64> = back.collect();
    let whole = back.iter().sum();
    tell("b7", "one use back", agents, clients, back);
    tell("b7", "all uses back", agents, clients, vec![whole]);
    let (ns, ()) = timed(|| (0..clients).for_each(|_| stage.remove_framework()));
    tell("b7", "clients removed", agents, clients, vec![ns]);
}

fn ports_used(ranges: u32) -> String {
    let all: Vec<String> =
        (0..ranges).map(|nth| 31_000 + nth * 2).map(|port| format!("{port}-{port}")).collect();
    format!("cpus:16;mem:2014;disk:1024;ports:[{}]", all.join(","))
}

/// A sort of frameworks: how many, in roles of their own or one, with how many tasks of what size,
/// and how many they put into one offer.
struct Sort {
    name: &'static str,
    frameworks: usize,
    own_roles: bool,
    tasks: u32,
    size: [u64; 2],
    per_offer: u32,
}

const SORTS: [Sort; 3] = [
    Sort {
        name: "marathon",
        frameworks: 4,
        own_roles: true,
        tasks: 4_000,
        size: [70, 400_000],
        per_offer: 100,
    },
    Sort {
        name: "jenkins",
        frameworks: 500,
        own_roles: false,
        tasks: 5,
        size: [100, 4_000_000],
        per_offer: 1,
    },
    Sort {
        name: "spark",
        frameworks: 50,
        own_roles: true,
        tasks: 20,
        size: [1_000, 1_000_000],
        per_offer: 5,
    },
];

/// Rounds until everybody runs all of its tasks; what is not used of an offer is given back, and
/// whoever runs everything wants no more.
fn multi_framework(size: Size) {
    let agents = size.agents.unwrap_or(80);
    let all: usize = SORTS.iter().map(|sort| sort.frameworks).sum();
    let frameworks = u32::try_from(all).unwrap_or(u32::MAX);
    let mut stage = Stage::new(agents, frameworks, frameworks);
    let mut left: Vec<(u32, &Sort)> = Vec::new();
    for sort in &SORTS {
        for number in 0..sort.frameworks {
            let one = if sort.own_roles { number } else { 0 };
            stage.add_framework(&format!("{}{one}", sort.name));
            left.push((sort.tasks, sort));
        }
    }
    (0..agents).for_each(|_| stage.add_agent("cpus:64;mem:488000", ""));
    let (mut launched, mut rounds, mut times) = (0u64, 0u64, Vec::new());
    while left.iter().any(|(tasks, _)| *tasks > 0) && rounds < 10_000 {
        let (ns, _) = timed(|| stage.cycle());
        times.push(ns);
        rounds += 1;
        for grant in stage.taken() {
            let framework = grant.framework as usize;
            let Some((tasks, sort)) = left.get_mut(framework) else { continue };
            let fit = stage.fits(&grant, sort.size);
            let run = fit.min((*tasks).into()).min(sort.per_offer.into());
            *tasks -= u32::try_from(run).unwrap_or(0);
            launched += run;
            stage.use_some(grant, [run * sort.size[0], run * sort.size[1]]);
            if *tasks == 0 {
                stage.suppress(framework);
            }
        }
        stage.wait(1_000_000);
    }
    let at = [agents, frameworks];
    tell("b8", "cycle", agents, frameworks, times);
    tell_one("b8", "tasks launched", at, "tasks", launched);
    tell_one("b8", "cycles", at, "cycles", rounds);
}

/// Four reservations with labels for each role on one agent; then one more comes and goes.
fn update_allocation(size: Size) {
    for roles in [50, 100, 200] {
        let mut stage = Stage::with_reservations(1, 1, roles);
        stage.add_framework("*");
        let cpus = roles * 4 + 8;
        stage.add_agent(&format!("cpus:{cpus};mem:4096"), "");
        for role in 0..roles {
            (0..4).for_each(|label| stage.reserve(&format!("r{role}"), label, 1_000));
        }
        let times = if size.quick { 20 } else { 2_000 };
        let all = (0..times).map(|nth| {
            let (ns, ()) = timed(|| {
                let role = format!("r{}", nth % roles);
                stage.reserve(&role, 4, 1_000);
                stage.unreserve(&role, 4, 1_000);
            });
            ns / 2
        });
        tell("b10", &format!("reserve or unreserve, {roles} roles"), 1, roles, all.collect());
    }
}
