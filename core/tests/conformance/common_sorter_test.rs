//! `CommonSorterTest`: what holds for every policy.

use mesita_core::allocator::{Bar, Config, Policy};
use mesita_core::resources::change::Step;
use mesita_core::resources::pool::{CPUS, DISK};

use crate::support::allocation::{Rig, Sort, capacity, config, sorted, told};

fn each_policy(check: impl Fn(&mut Rig)) {
    for policy in [Policy::Drf, Policy::Random] {
        let config = Config { role_sorter: policy, framework_sorter: policy, ..config() };
        check(&mut Rig::with(config, capacity(), 1));
    }
}

fn roles(rig: &Rig) -> Vec<String> {
    let mut roles: Vec<_> =
        rig.allocator.roles(&rig.pool).map(|role| rig.names.text(role.0).to_string()).collect();
    roles.sort();
    roles
}

#[test]
fn remove_leaf_collapse_parent() {
    each_policy(|rig| {
        rig.framework("a", &["a"]);
        rig.framework("a/c", &["a/c"]);
        assert_eq!(roles(rig), ["a", "a/c"]);
        rig.remove_client("a/c", "a/c");
        assert_eq!(roles(rig), ["a"]);
        rig.agent("one", "cpus:1;mem:100");
        assert_eq!(told(&rig.allocate()), ["a/a@one cpus:1;mem:100"]);
    });
}

#[test]
fn remove_leaf_collapse_parent_inactive() {
    each_policy(|rig| {
        rig.framework("a", &["a"]);
        rig.framework("a/c", &["a/c"]);
        rig.away("a", "a", true);
        rig.remove_client("a/c", "a/c");
        rig.agent("one", "cpus:1;mem:100");
        assert_eq!(rig.allocate(), [], "it stayed away");
        rig.away("a", "a", false);
        assert_eq!(told(&rig.allocate()), ["a/a@one cpus:1;mem:100"]);
    });
}

/// A client of `role` turns disk that it was offered into a volume: it has as much as before.
fn update_allocation_in(rig: &mut Rig, role: &'static str, roles: &'static [&'static str]) {
    rig.framework("f", &[role]);
    rig.agent("one", "cpus:10;mem:100;disk:1000");
    rig.allocate();
    let reserve = sorted("disk:100", Sort { roles, ..Sort::default() });
    let create = sorted("disk:50", Sort { roles, volume: "v", ..Sort::default() });
    rig.operate(Some("f"), "one", Step::Reserve, &reserve).unwrap();
    rig.operate(Some("f"), "one", Step::Create, &create).unwrap();
    assert_eq!(rig.has("f", role, DISK), 1_000_000);
    let expected = format!("cpus:10;mem:100;disk:900;disk({role}):50;disk({role}):50");
    assert_eq!(rig.total("one"), expected);
    assert_eq!(rig.show(rig.out[0].held), expected);
    rig.decline("f", "one", 0);
    assert_eq!(rig.has("f", role, DISK), 0);
    assert_eq!(told(&rig.allocate()), [format!("f/{role}@one {expected}")]);
}

#[test]
fn update_allocation() {
    each_policy(|rig| update_allocation_in(rig, "a", &["a"]));
}

#[test]
fn update_allocation_nested_client() {
    each_policy(|rig| update_allocation_in(rig, "a/b/c", &["a/b/c"]));
}

#[test]
fn allocation_for_inactive_client() {
    each_policy(|rig| {
        rig.agent("one", "cpus:10;mem:100");
        rig.bar("one", Bar::Deactivated, true);
        rig.framework("a", &["a"]);
        rig.framework("b", &["b"]);
        rig.away("b", "b", true);
        rig.uses("a", "a", "one", "cpus:2;mem:2");
        rig.uses("b", "b", "one", "cpus:3;mem:3");
        assert_eq!((rig.has("a", "a", CPUS), rig.has("b", "b", CPUS)), (2_000, 3_000));
    });
}

#[test]
fn multiple_slaves() {
    // Ports of one number on two agents are two things: what comes back goes where it came from.
    each_policy(|rig| {
        rig.framework("f", &["a"]);
        rig.agent("one", "cpus:2;mem:200;ports:[31000-32000]");
        rig.agent("two", "cpus:2;mem:200;ports:[31000-32000]");
        assert_eq!(rig.allocate().len(), 2);
        for agent in ["one", "two"] {
            rig.accept("f", agent, "cpus:1;mem:100;ports:[31000-31009]", 0);
        }
        let rest = "cpus:1;mem:100;ports:[31010-32000]";
        assert_eq!((rig.free("one"), rig.free("two")), (rest.into(), rest.into()));
        assert_eq!(rig.has("f", "a", CPUS), 2_000);
        rig.end("f", "one");
        assert_eq!(rig.free("one"), "cpus:2;mem:200;ports:[31000-32000]");
        assert_eq!(rig.free("two"), rest);
    });
}

#[test]
fn multiple_slaves_update_allocation() {
    each_policy(|rig| {
        rig.framework("f", &["a"]);
        for agent in ["one", "two"] {
            rig.agent(agent, "cpus:2;mem:200;disk:100");
        }
        rig.allocate();
        let reserve = sorted("disk:10", Sort { roles: &["a"], ..Sort::default() });
        let create = sorted("disk:10", Sort { roles: &["a"], volume: "v", ..Sort::default() });
        for agent in ["one", "two"] {
            rig.operate(Some("f"), agent, Step::Reserve, &reserve).unwrap();
            rig.operate(Some("f"), agent, Step::Create, &create).unwrap();
        }
        for agent in ["one", "two"] {
            assert_eq!(rig.total(agent), "cpus:2;mem:200;disk:90;disk(a):10");
        }
        assert_eq!(rig.has("f", "a", DISK), 200_000);
    });
}
