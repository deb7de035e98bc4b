//! `DRFSorterTest`: the order of clients by dominant share.

use mesita_core::allocator::Bar;
use mesita_core::resources::pool::{CPUS, DISK};

use crate::support::allocation::{Rig, Sort, joined, sorted, told};
use crate::support::text::wire;

/// A pool that is only shared out on paper: its agent is never offered.
fn paper(resources: &str) -> Rig {
    let mut rig = Rig::new();
    rig.agent("pool", resources);
    rig.bar("pool", Bar::Deactivated, true);
    rig
}

/// Roles with a framework each, called as its role.
fn clients(rig: &mut Rig, roles: &[&str]) {
    roles.iter().for_each(|role| rig.framework(role, &[role]));
}

fn uses(rig: &mut Rig, role: &str, resources: &str) {
    rig.uses(role, role, "pool", resources);
}

/// Who has what comes in which order, for names that sort as a, b, c, d, e, f do.
fn ordered(names: [&'static str; 6]) {
    let [a, b, c, d, e, f] = names;
    let mut rig = paper("cpus:100;mem:100");
    clients(&mut rig, &[a, b]);
    uses(&mut rig, a, "cpus:5;mem:5");
    uses(&mut rig, b, "cpus:2;mem:2");
    uses(&mut rig, b, "cpus:4;mem:4");
    assert_eq!(rig.order(), [a, b]);
    clients(&mut rig, &[c, d]);
    uses(&mut rig, c, "cpus:1;mem:1");
    uses(&mut rig, d, "cpus:3;mem:1");
    assert_eq!(rig.order(), [c, d, a, b]);
    rig.remove_client(a, a);
    rig.end(b, "pool");
    assert_eq!(rig.order(), [c, b, d]);
    clients(&mut rig, &[e]);
    uses(&mut rig, e, "cpus:1;mem:5");
    rig.set_total("pool", &wire("cpus:50;mem:100"));
    assert_eq!(rig.order(), [c, b, e, d]);
    rig.set_total("pool", &wire("cpus:50;mem:200"));
    clients(&mut rig, &[f]);
    uses(&mut rig, f, "cpus:5;mem:1");
    uses(&mut rig, c, "mem:15");
    assert_eq!(rig.order(), [e, b, d, c, f]);
    rig.away(d, d, true);
    assert_eq!(rig.order(), [e, b, c, f]);
    rig.away(d, d, false);
    assert_eq!(rig.order(), [e, b, d, c, f]);
}

#[test]
fn drf() {
    ordered(["a", "b", "c", "d", "e", "f"]);
}

#[test]
fn shallow_hierarchy() {
    ordered(["a/a", "b/b", "c/c", "d/d", "e/e", "f/f"]);
}

#[test]
fn deep_hierarchy() {
    ordered(["a", "b/x/y", "c/x", "d/x/y/z", "e/x/y", "f/x"]);
}

#[test]
fn wdrf() {
    let mut rig = paper("cpus:100;mem:100");
    clients(&mut rig, &["a", "b"]);
    rig.weight("b", 2_000);
    uses(&mut rig, "a", "cpus:5;mem:5");
    uses(&mut rig, "b", "cpus:6;mem:6");
    assert_eq!(rig.order(), ["b", "a"], "6 at twice the weight is 3");
    clients(&mut rig, &["c"]);
    uses(&mut rig, "c", "cpus:4;mem:4");
    assert_eq!(rig.order(), ["b", "c", "a"]);
    clients(&mut rig, &["d"]);
    rig.weight("d", 10_000);
    uses(&mut rig, "d", "cpus:10;mem:20");
    assert_eq!(rig.order(), ["d", "b", "c", "a"]);
    rig.remove_client("b", "b");
    assert_eq!(rig.order(), ["d", "c", "a"]);
    uses(&mut rig, "d", "cpus:10;mem:25");
    uses(&mut rig, "c", "cpus:0.1;mem:0.1");
    assert_eq!(rig.order(), ["c", "d", "a"]);
    clients(&mut rig, &["e"]);
    rig.weight("e", 100);
    uses(&mut rig, "e", "cpus:1;mem:1");
    assert_eq!(rig.order(), ["c", "d", "a", "e"], "1 at a tenth of the weight is 10");
}

#[test]
fn update_weight() {
    let mut rig = paper("cpus:100;mem:100");
    clients(&mut rig, &["a", "b"]);
    uses(&mut rig, "a", "cpus:5;mem:5");
    uses(&mut rig, "b", "cpus:6;mem:6");
    assert_eq!(rig.order(), ["a", "b"]);
    rig.weight("b", 2_000);
    assert_eq!(rig.order(), ["b", "a"]);
}

#[test]
fn allocation_count_tie_break() {
    let mut rig = Rig::new();
    for agent in ["one", "two", "three"] {
        rig.agent(agent, "cpus:1;mem:100");
        rig.bar(agent, Bar::Deactivated, true);
    }
    // One offer to whoever wants one: it counts, and is given back at once.
    let serve = |rig: &mut Rig, agent: &str, name: &str| {
        let others: Vec<_> = rig.order().into_iter().filter(|other| other != name).collect();
        others.iter().for_each(|other| rig.suppress(other, other));
        rig.bar(agent, Bar::Deactivated, false);
        let offers = rig.allocate();
        assert_eq!(told(&offers), [format!("{name}/{name}@{agent} cpus:1;mem:100")]);
        rig.bar(agent, Bar::Deactivated, true);
        rig.decline(name, agent, 0);
        others.iter().for_each(|other| rig.revive(other, other));
    };
    clients(&mut rig, &["a", "b", "c", "d", "e"]);
    assert_eq!(rig.order(), ["a", "b", "c", "d", "e"], "by name");
    serve(&mut rig, "one", "a");
    serve(&mut rig, "two", "b");
    serve(&mut rig, "three", "b");
    assert_eq!(rig.order(), ["c", "d", "e", "a", "b"], "by offers, though they came back");
    rig.away("c", "c", true);
    rig.away("c", "c", false);
    serve(&mut rig, "one", "d");
    assert_eq!(rig.order(), ["c", "e", "a", "d", "b"], "who was away is where it was");
    // Who is away keeps its count, too, and a newcomer has none.
    rig.away("b", "b", true);
    clients(&mut rig, &["f"]);
    assert_eq!(rig.order(), ["c", "e", "f", "a", "d"]);
    rig.away("b", "b", false);
    assert_eq!(rig.order(), ["c", "e", "f", "a", "d", "b"]);
}

#[test]
fn hierarchical_allocation() {
    let mut rig = paper("cpus:100;mem:100");
    clients(&mut rig, &["a", "b/c", "b/d"]);
    uses(&mut rig, "a", "cpus:6;mem:6");
    uses(&mut rig, "b/c", "cpus:4;mem:4");
    uses(&mut rig, "b/d", "cpus:4;mem:4");
    // b has 8 together: its children come after a, whatever each has.
    assert_eq!(rig.order(), ["a", "b/c", "b/d"]);
    uses(&mut rig, "a", "cpus:4;mem:4");
    assert_eq!(rig.order(), ["b/c", "b/d", "a"]);
    rig.end("b/d", "pool");
    uses(&mut rig, "b/d", "cpus:2;mem:2");
    assert_eq!(rig.order(), ["b/d", "b/c", "a"]);
    assert_eq!((rig.has("b/d", "b/d", CPUS), rig.has("a", "a", CPUS)), (2_000, 10_000));
    // What goes with a child goes from its parent.
    uses(&mut rig, "b/c", "cpus:6;mem:6");
    assert_eq!(rig.order(), ["a", "b/d", "b/c"]);
    rig.remove_client("b/c", "b/c");
    assert_eq!(rig.order(), ["b/d", "a"]);
}

#[test]
fn hierarchical_iteration_order() {
    let mut rig = paper("cpus:100;mem:100");
    clients(&mut rig, &["a/b", "c", "d", "d/e"]);
    uses(&mut rig, "a/b", "cpus:6;mem:6");
    uses(&mut rig, "c", "cpus:8;mem:8");
    uses(&mut rig, "d", "cpus:3;mem:3");
    uses(&mut rig, "d/e", "cpus:2;mem:2");
    // d has 5 with its child, and is asked before both others; within it, e has less than itself.
    assert_eq!(rig.order(), ["d/e", "d", "a/b", "c"]);
}

#[test]
fn add_child_to_leaf() {
    let mut rig = paper("cpus:100;mem:100");
    clients(&mut rig, &["a", "b"]);
    uses(&mut rig, "a", "cpus:10;mem:10");
    uses(&mut rig, "b", "cpus:6;mem:6");
    assert_eq!(rig.order(), ["b", "a"]);
    clients(&mut rig, &["a/c"]);
    uses(&mut rig, "a/c", "cpus:5;mem:5");
    assert_eq!(rig.order(), ["b", "a/c", "a"], "a's own frameworks and a/c share what a has");
    // A weight of a is among its siblings, one of a/c is within a.
    rig.weight("a", 3_000);
    assert_eq!(rig.order(), ["a/c", "a", "b"]);
    rig.weight("a/c", 100);
    assert_eq!(rig.order(), ["a", "a/c", "b"]);
    rig.remove_client("a", "a");
    assert_eq!(rig.order(), ["a/c", "b"]);
    rig.remove_client("a/c", "a/c");
    clients(&mut rig, &["a"]);
    assert_eq!(rig.order(), ["a", "b"]);
}

#[test]
fn add_child_to_internal() {
    let mut rig = paper("cpus:100;mem:100");
    clients(&mut rig, &["x/a", "x/b"]);
    uses(&mut rig, "x/a", "cpus:10;mem:10");
    uses(&mut rig, "x/b", "cpus:6;mem:6");
    clients(&mut rig, &["x"]);
    uses(&mut rig, "x", "cpus:7;mem:7");
    clients(&mut rig, &["y"]);
    assert_eq!(rig.order(), ["y", "x/b", "x", "x/a"]);
}

#[test]
fn add_child_to_inactive_leaf() {
    let mut rig = paper("cpus:100;mem:100");
    clients(&mut rig, &["a", "b"]);
    rig.away("a", "a", true);
    uses(&mut rig, "a", "cpus:10;mem:10");
    uses(&mut rig, "b", "cpus:6;mem:6");
    clients(&mut rig, &["a/c"]);
    uses(&mut rig, "a/c", "cpus:5;mem:5");
    assert_eq!(rig.order(), ["b", "a/c"]);
    rig.away("a", "a", false);
    assert_eq!(rig.order(), ["b", "a/c", "a"]);
}

#[test]
fn change_weight_on_subtree() {
    let mut rig = paper("cpus:100;mem:100");
    rig.weight("a", 2_000);
    rig.weight("b", 3_000);
    clients(&mut rig, &["a/x", "b/y"]);
    uses(&mut rig, "a/x", "cpus:6;mem:6");
    uses(&mut rig, "b/y", "cpus:6;mem:6");
    assert_eq!(rig.order(), ["b/y", "a/x"]);
    clients(&mut rig, &["b/z"]);
    rig.weight("b", 1_000);
    assert_eq!(rig.order(), ["a/x", "b/z", "b/y"]);
    rig.weight("a", 1_000);
    rig.weight("b/y", 4_000);
    uses(&mut rig, "b/z", "cpus:3;mem:3");
    assert_eq!(rig.order(), ["a/x", "b/y", "b/z"]);
}

#[test]
fn split_resource_shares() {
    // Two volumes of one id, of 5 each, are 10 of disk, however they are listed.
    let mut rig = Rig::new();
    let disk = sorted("disk:5", Sort { roles: &["a"], volume: "v", ..Sort::default() });
    let total = joined(&[wire("cpus:100;mem:100;disk:90"), disk, disk]);
    rig.agent_of("pool", &total);
    rig.bar("pool", Bar::Deactivated, true);
    clients(&mut rig, &["a", "b"]);
    let both = joined(&[disk, disk]);
    let held = rig.hold(&both);
    let (client, agent) = (rig.client("a", "a"), rig.agents["pool"]);
    rig.act(|allocator, world| allocator.charge(world, agent, client, held));
    uses(&mut rig, "b", "cpus:9;disk:9");
    assert_eq!(rig.has("a", "a", DISK), 10_000);
    assert_eq!(rig.order(), ["b", "a"]);
    uses(&mut rig, "b", "disk:2");
    assert_eq!(rig.order(), ["a", "b"]);
}

#[test]
fn update_total() {
    let mut rig = paper("cpus:10;mem:100");
    clients(&mut rig, &["a", "b"]);
    uses(&mut rig, "a", "cpus:2;mem:1");
    uses(&mut rig, "b", "cpus:1;mem:3");
    assert_eq!(rig.order(), ["b", "a"]);
    rig.set_total("pool", &wire("cpus:100;mem:10"));
    assert_eq!(rig.order(), ["a", "b"]);
}

#[test]
fn multiple_slaves_update_total() {
    let mut rig = paper("cpus:5;mem:50");
    rig.agent("other", "cpus:5;mem:50");
    rig.bar("other", Bar::Deactivated, true);
    clients(&mut rig, &["a", "b"]);
    uses(&mut rig, "a", "cpus:2;mem:1");
    uses(&mut rig, "b", "cpus:1;mem:3");
    assert_eq!(rig.order(), ["b", "a"]);
    rig.set_total("other", &wire("cpus:95;mem:10"));
    rig.set_total("pool", &wire("cpus:5;mem:10"));
    assert_eq!(rig.order(), ["a", "b"]);
}

#[test]
fn remove_resources() {
    let mut rig = paper("cpus:100;mem:100");
    clients(&mut rig, &["a", "b"]);
    uses(&mut rig, "a", "cpus:5;mem:5");
    uses(&mut rig, "b", "cpus:1;mem:1");
    assert_eq!(rig.order(), ["b", "a"]);
    // Less of it all, and a has less: total and allocation shrink together.
    rig.end("a", "pool");
    rig.set_total("pool", &wire("cpus:50;mem:50"));
    assert_eq!(rig.order(), ["a", "b"]);
    uses(&mut rig, "a", "cpus:2;mem:2");
    assert_eq!(rig.order(), ["b", "a"]);
    assert_eq!(rig.allocator.totals().of(CPUS), 50_000);
}

#[test]
fn revocable_resources() {
    let mut rig = Rig::new();
    let revocable = sorted("cpus:10", Sort { revocable: true, ..Sort::default() });
    rig.agent_of("pool", &joined(&[wire("cpus:10;mem:100"), revocable]));
    rig.bar("pool", Bar::Deactivated, true);
    clients(&mut rig, &["a", "b"]);
    let held = rig.hold(&sorted("cpus:10", Sort { revocable: true, ..Sort::default() }));
    let (client, agent) = (rig.client("a", "a"), rig.agents["pool"]);
    rig.act(|allocator, world| allocator.charge(world, agent, client, held));
    uses(&mut rig, "b", "cpus:9");
    assert_eq!(rig.order(), ["b", "a"], "what may be taken back counts");
}

/// A shared volume of 100 beside cpus:100;mem:100;disk:900, reserved for a.
fn shared_pool() -> Rig {
    let mut rig = Rig::new();
    let volume = Sort { roles: &["r"], volume: "v", shared: true, ..Sort::default() };
    let total = joined(&[wire("cpus:100;mem:100;disk:900"), sorted("disk:100", volume)]);
    rig.agent_of("pool", &total);
    rig.bar("pool", Bar::Deactivated, true);
    rig
}

fn uses_shared(rig: &mut Rig, name: &str, role: &str) {
    let volume = Sort { roles: &["r"], volume: "v", shared: true, ..Sort::default() };
    let held = rig.hold(&sorted("disk:100", volume));
    let (client, agent) = (rig.client(name, role), rig.agents["pool"]);
    rig.act(|allocator, world| allocator.charge(world, agent, client, held));
    rig.out.push(crate::support::allocation::Out { agent, client, held });
}

#[test]
fn shared_resources() {
    let mut rig = shared_pool();
    clients(&mut rig, &["r/a", "r/b", "r/c"]);
    uses_shared(&mut rig, "r/a", "r/a");
    uses(&mut rig, "r/b", "cpus:5;mem:5");
    uses(&mut rig, "r/c", "cpus:15;mem:15");
    assert_eq!(rig.order(), ["r/b", "r/a", "r/c"], "0.05, 0.1, 0.15");
    // Above both, the volume counts once.
    uses_shared(&mut rig, "r/b", "r/b");
    assert_eq!(rig.share("r/b", "r/b"), 100_000);
    rig.framework("s", &["s"]);
    uses(&mut rig, "s", "cpus:19;mem:19");
    assert_eq!(rig.order()[0], "s", "r has 0.2 of cpus and of disk only 0.1");
}

#[test]
fn same_dominant_shared_resources_across_clients() {
    let mut rig = shared_pool();
    clients(&mut rig, &["r/b", "r/a"]);
    uses_shared(&mut rig, "r/b", "r/b");
    uses_shared(&mut rig, "r/a", "r/a");
    uses(&mut rig, "r/b", "cpus:1;mem:1");
    uses(&mut rig, "r/a", "cpus:2;mem:2");
    assert_eq!(rig.order(), ["r/a", "r/b"], "equal, and so by name");
}

#[test]
fn same_shared_resources_same_client() {
    let mut rig = shared_pool();
    clients(&mut rig, &["r/a", "r/b"]);
    uses_shared(&mut rig, "r/a", "r/a");
    uses(&mut rig, "r/b", "cpus:12;mem:12");
    assert_eq!(rig.order(), ["r/a", "r/b"]);
    uses_shared(&mut rig, "r/a", "r/a");
    assert_eq!(rig.order(), ["r/a", "r/b"]);
    assert_eq!(rig.has("r/a", "r/a", DISK), 100_000);
}

#[test]
fn shared_resources_unallocated() {
    let mut rig = shared_pool();
    clients(&mut rig, &["r/a", "r/b"]);
    uses(&mut rig, "r/a", "cpus:2;mem:2");
    uses_shared(&mut rig, "r/a", "r/a");
    uses_shared(&mut rig, "r/a", "r/a");
    uses(&mut rig, "r/b", "cpus:5;mem:5");
    assert_eq!(rig.order(), ["r/b", "r/a"]);
    rig.end("r/a", "pool");
    assert_eq!(rig.order(), ["r/b", "r/a"], "one copy is left");
    rig.end("r/a", "pool");
    assert_eq!(rig.order(), ["r/a", "r/b"], "the last one went");
}
