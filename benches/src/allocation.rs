//! What decisions of the allocator cost: group A, a line of JSON for each figure, in ns of wall time
//! unless it says otherwise.

use std::time::Instant;

use mesita_core::capacity::Capacity;

use crate::stage::{AGENT, Stage, USED};

/// The cases by name, with what they measure.
pub const CASES: [(&str, &str); 18] = [
    ("a1", "one decision and its undoing, by frameworks"),
    ("a2", "a cycle: all agents free, one dirty, none dirty"),
    ("a3", "growth with frameworks: a cycle of 1,000 against one of 10"),
    ("a4", "single decisions where everything is as bad as it can be"),
    ("a5", "allocations after the start: none"),
    ("a6", "bytes of all tables, by profile"),
    ("a7", "single events: recover, decline, suppress, revive, frameworks, agents, weight, quota"),
    ("b1", "DeclineOffers: decline everything for ever, then a cycle"),
    ("b2", "DeclineOffers with 3,000 frameworks"),
    ("b3", "DeclineOffers with 20,000 agents"),
    ("b4", "LargeAndSmallQuota: a cycle that offers, and one that must offer nothing"),
    ("b5", "AddAndUpdateSlave: agents come, then have more than before"),
    ("b6", "frameworks of roles with a quota come"),
    ("b7", "FullSort: what agents use comes back"),
    ("b8", "MultiFrameworkAllocations: 19,500 tasks of three sorts of frameworks"),
    ("b9", "ExtremeSuppressOffers: a cycle with 99 % of the frameworks suppressed"),
    ("b10", "UpdateAllocation: resources of an agent are reserved and unreserved"),
    ("codec", "an offer, a status and names: bytes and time"),
];

/// Prints a figure that is no spread of times.
pub(crate) fn tell_one(
    case: &str,
    what: &str,
    [agents, frameworks]: [u32; 2],
    unit: &str,
    value: u64,
) {
    println!(
        "{{\"case\":\"{case}\",\"what\":\"{what}\",\"agents\":{agents},\"frameworks\":{frameworks},\
         \"unit\":\"{unit}\",\"p50\":{value}}}"
    );
}

/// What a case is run with; none = what it has by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Agents.
    pub agents: Option<u32>,
    /// Frameworks.
    pub frameworks: Option<u32>,
    /// Few repeats, for CI.
    pub quick: bool,
}

/// Runs a case; false when there is none of that name.
pub fn run(case: &str, size: Size) -> bool {
    match case {
        "a1" => decisions(size),
        "a2" => cycles(size),
        "a3" => growth(size),
        "a4" => worst(size),
        "a5" => crate::heap::run(size),
        "a6" => memory(),
        "a7" => events(size),
        "codec" => crate::codec::run(size),
        _ => return crate::mesos::run(case, size),
    }
    true
}

/// Prints the spread of times in ns.
pub(crate) fn tell(case: &str, what: &str, agents: u32, frameworks: u32, mut times: Vec<u64>) {
    if times.is_empty() {
        return;
    }
    times.sort_unstable();
    let at = |permille: usize| times.get(times.len().saturating_sub(1) * permille / 1000).copied();
    let at = |permille| at(permille).unwrap_or(0);
    println!(
        "{{\"case\":\"{case}\",\"what\":\"{what}\",\"agents\":{agents},\"frameworks\":{frameworks},\
         \"unit\":\"ns\",\"min\":{},\"p50\":{},\"p99\":{},\"max\":{},\"n\":{}}}",
        at(0),
        at(500),
        at(990),
        at(1000),
        times.len()
    );
}

pub(crate) fn timed<T>(act: impl FnOnce() -> T) -> (u64, T) {
    let began = Instant::now();
    let done = act();
    (u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX), done)
}

/// Mesos' agents, each with something in use, and frameworks of one role.
pub(crate) fn usual(agents: u32, frameworks: u32) -> Stage {
    let mut stage = Stage::new(agents, frameworks + 1, 2);
    (0..frameworks).for_each(|_| stage.add_framework("*"));
    (0..agents).for_each(|_| stage.add_agent(AGENT, USED));
    stage
}

fn decisions(size: Size) {
    let all = [4, 10, 50, 200, 1_000, 3_000, 10_000];
    for frameworks in size.frameworks.map_or(all.to_vec(), |one| vec![one]) {
        let mut stage = Stage::new(1, frameworks, 2);
        (0..frameworks).for_each(|_| stage.add_framework("*"));
        stage.add_agent("cpus:24;mem:4096", "cpus:0.001");
        let block = 100;
        let blocks = if size.quick { 50 } else { 1_000 };
        let mut once = || {
            stage.cycle();
            stage.give_back(false);
        };
        (0..10_000).for_each(|_| once());
        let times = (0..blocks).map(|_| timed(|| (0..block).for_each(|_| once())).0 / block);
        tell("a1", "decision and recover", 1, frameworks, times.collect());
    }
}

fn cycles(size: Size) {
    let all = [(16, 4), (100, 10), (1_000, 50), (1_000, 200), (5_000, 200), (10_000, 1_000)];
    let given = size.agents.zip(size.frameworks);
    for (agents, frameworks) in given.map_or(all.to_vec(), |one| vec![one]) {
        let mut stage = usual(agents, frameworks);
        let repeats = if size.quick { 3 } else { 15 };
        let mut whole = vec![];
        for _ in 0..repeats {
            let (ns, made) = timed(|| stage.cycle());
            assert_eq!(made, agents as usize, "every agent is offered once");
            whole.push(ns);
            while stage.give_back(false) {}
        }
        tell("a2", "all free", agents, frameworks, whole);
        stage.cycle();
        let none = (0..1_000).map(|_| timed(|| stage.cycle()).0);
        tell("a2", "none dirty", agents, frameworks, none.collect());
        let mut one = vec![];
        for _ in 0..1_000 {
            stage.give_back(false);
            one.push(timed(|| stage.cycle()).0);
        }
        tell("a2", "one dirty", agents, frameworks, one);
    }
}

fn growth(size: Size) {
    let agents = size.agents.unwrap_or(if size.quick { 1_000 } else { 10_000 });
    let mut medians = vec![];
    for frameworks in [10, 100, 1_000] {
        let mut stage = usual(agents, frameworks);
        let mut times = vec![];
        for _ in 0..if size.quick { 3 } else { 15 } {
            times.push(timed(|| stage.cycle()).0);
            while stage.give_back(false) {}
        }
        times.sort_unstable();
        medians.push(times[times.len() / 2]);
        tell("a3", "all free", agents, frameworks, times);
    }
    let permille = medians[2].saturating_mul(1_000) / medians[0].max(1);
    println!(
        "{{\"case\":\"a3\",\"what\":\"1,000 against 10 frameworks\",\"agents\":{agents},\
         \"unit\":\"permille\",\"p50\":{permille}}}"
    );
}

fn memory() {
    for (profile, capacity) in [
        ("tiny", Capacity::tiny()),
        ("edge", Capacity::edge()),
        ("rack", Capacity::rack()),
        ("large", Capacity::large()),
        ("max", Capacity::max()),
    ] {
        println!(
            "{{\"case\":\"a6\",\"what\":\"{profile}\",\"agents\":{},\"frameworks\":{},\
             \"unit\":\"bytes\",\"p50\":{}}}",
            capacity.agents,
            capacity.frameworks,
            capacity.master_bytes()
        );
    }
}

fn events(size: Size) {
    let agents = size.agents.unwrap_or(if size.quick { 1_000 } else { 10_000 });
    let frameworks = size.frameworks.unwrap_or(if size.quick { 100 } else { 1_000 });
    let mut stage = usual(agents, frameworks);
    let times = if size.quick { 100 } else { 1_000 };
    let measure = |what: &str, stage: &mut Stage, act: &mut dyn FnMut(&mut Stage, usize)| {
        stage.cycle();
        let all = (0..times).map(|nth| timed(|| act(stage, nth)).0).collect();
        tell("a7", what, agents, frameworks, all);
        while stage.give_back(false) {}
        stage.cycle();
    };
    measure("recover", &mut stage, &mut |stage, _| {
        stage.give_back(false);
    });
    measure("decline for ever", &mut stage, &mut |stage, _| {
        stage.give_back(true);
    });
    let last = frameworks as usize;
    measure("suppress", &mut stage, &mut |stage, nth| stage.suppress(nth % last));
    measure("revive", &mut stage, &mut |stage, nth| stage.revive(nth % last));
    measure("add and remove framework", &mut stage, &mut |stage, _| {
        stage.add_framework("*");
        stage.remove_framework();
    });
    measure("set weight", &mut stage, &mut |stage, nth| {
        stage.weigh("*", 1_001 + u32::try_from(nth).unwrap_or(0));
    });
    while stage.give_back(false) {}
    let all = (0..times).map(|nth| {
        let agent = u32::try_from(nth).unwrap_or(0) % agents;
        timed(|| stage.flap_agent(agent)).0
    });
    tell("a7", "remove and add agent", agents, frameworks, all.collect());
    let all = (0..times).map(|nth| {
        let amount = 1_000 + u64::try_from(nth).unwrap_or(0);
        timed(|| stage.set_quota("*", &[("cpus", amount)])).0
    });
    tell("a7", "set quota", agents, frameworks, all.collect());
}

/// One decision after the other where everything is as bad as it can be: equal shares, an order that
/// is turned over each time, refusals of everybody who comes first, long chains of roles, holdings in
/// as many fragments as there can be.
fn worst(size: Size) {
    let frameworks = size.frameworks.unwrap_or(if size.quick { 100 } else { 1_000 });
    let times = if size.quick { 200 } else { 2_000 };
    let measure = |what: &str, stage: &mut Stage| {
        (0..100).for_each(|_| again(stage));
        let all = (0..times).map(|_| timed(|| again(stage)).0).collect();
        tell("a4", what, 1, frameworks, all);
    };
    let of_role = |role: &dyn Fn(u32) -> String, agent: &str| {
        let mut stage = Stage::new(1, frameworks, frameworks * 2 + 32);
        (0..frameworks).for_each(|number| stage.add_framework(&role(number)));
        stage.add_agent(agent, "cpus:0.001");
        stage
    };
    let plain = "cpus:24;mem:4096";
    measure("equal shares", &mut of_role(&|_| "*".to_owned(), plain));
    measure("a role each", &mut of_role(&|number| format!("r{number}"), plain));
    let deep = "a/b/c/d/e/f/g/h/i/j";
    measure("a chain of ten roles", &mut of_role(&|_| deep.to_owned(), plain));
    measure(
        "chains that part",
        &mut of_role(&|number| format!("a/b/c/d/e/f/g/h/i/r{number}"), plain),
    );
    measure("500 ranges of ports", &mut of_role(&|_| "*".to_owned(), &fragments(500)));
    let mut refused = of_role(&|_| "*".to_owned(), plain);
    for _ in 1..frameworks {
        refused.cycle();
        refused.give_back(true);
    }
    measure("all but one have refused", &mut refused);
}

fn again(stage: &mut Stage) {
    stage.cycle();
    stage.give_back(false);
}

/// Every second port, as many of them.
fn fragments(ranges: u32) -> String {
    let all: Vec<String> =
        (0..ranges).map(|nth| 10_000 + nth * 2).map(|port| format!("{port}-{port}")).collect();
    format!("cpus:24;mem:4096;ports:[{}]", all.join(","))
}
