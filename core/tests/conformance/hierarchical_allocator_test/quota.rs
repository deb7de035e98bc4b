//! What roles are guaranteed and may have at most.

use mesita_core::resources::change::Step;
use mesita_core::resources::pool::{CPUS, MEM};
use mesita_core::wire::call::Capability;

use super::{offered, winners};
use crate::support::allocation::{Rig, SECOND, Sort, joined, sorted, told};
use crate::support::text::wire;

#[test]
fn quota_provides_guarantee() {
    let mut rig = Rig::new();
    rig.quota("quota", "cpus:2;mem:1024");
    rig.framework("fw1", &["quota"]);
    rig.framework("fw2", &["other"]);
    rig.agent("agent1", "cpus:1;mem:512");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.agent("agent2", "cpus:1;mem:512");
    assert_eq!(winners(&mut rig), ["fw1@agent2"]);
    rig.agent("agent3", "cpus:1;mem:512");
    assert_eq!(winners(&mut rig), ["fw2@agent3"], "the guarantee is met");
    // What the role gives back is laid away for it, though it refused that.
    rig.decline("fw1", "agent2", 3_600 * SECOND);
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.wait(3_600 * SECOND);
    assert_eq!(winners(&mut rig), ["fw1@agent2"]);
}

#[test]
fn quota_provides_limit() {
    for role in ["quota", "*"] {
        let mut rig = Rig::new();
        rig.quota(role, "cpus:2;mem:1024");
        rig.framework("fw1", &[role]);
        rig.agent("agent1", "cpus:1;mem:512");
        assert_eq!(winners(&mut rig), ["fw1@agent1"]);
        rig.agent("agent2", "cpus:1;mem:512");
        assert_eq!(winners(&mut rig), ["fw1@agent2"]);
        rig.agent("agent3", "cpus:1;mem:512");
        assert_eq!(offered(&mut rig), [""; 0], "{role} has all that it may have");
    }
}

#[test]
fn remove_quota() {
    let mut rig = Rig::new();
    rig.quota("quota", "cpus:2;mem:1024");
    rig.framework("fw1", &["quota"]);
    rig.framework("fw2", &["other"]);
    rig.agent("agent1", "cpus:1;mem:512");
    rig.agent("agent2", "cpus:1;mem:512");
    assert_eq!(winners(&mut rig), ["fw1@agent1", "fw1@agent2"]);
    rig.quota("quota", "");
    rig.decline("fw1", "agent1", 0);
    rig.decline("fw1", "agent2", 0);
    let won = winners(&mut rig);
    let (first, second) = (&won[0][..3], &won[1][..3]);
    assert!(won.len() == 2 && first != second, "each has one: {won:?}");
}

#[test]
fn multiple_frameworks_in_role_with_quota() {
    let mut rig = Rig::new();
    rig.guarantee("quota", "cpus:10;mem:2048");
    rig.framework("fw1", &["quota"]);
    rig.agent("agent1", "cpus:1;mem:512");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.framework("fw2", &["quota"]);
    rig.agent("agent2", "cpus:1;mem:512");
    assert_eq!(winners(&mut rig), ["fw2@agent2"]);
    rig.agent("agent3", "cpus:2;mem:1024");
    let third = winners(&mut rig);
    rig.agent("agent4", "cpus:2;mem:1024");
    let fourth = winners(&mut rig);
    assert_ne!(third[0][..3], fourth[0][..3], "fair within the role");
}

#[test]
fn quota_allocation_granularity() {
    let mut rig = Rig::new();
    rig.quota("quota", "cpus:0.5;mem:512");
    rig.framework("fw1", &["quota"]);
    rig.framework("fw2", &["other"]);
    rig.agent("agent1", "cpus:1;mem:1024");
    // Not the whole agent: what the quota is short of, and the rest goes on.
    assert_eq!(
        offered(&mut rig),
        ["fw1/quota@agent1 cpus:0.5;mem:512", "fw2/other@agent1 cpus:0.5;mem:512"]
    );
}

#[test]
fn quota_allocation_granularity_unchoppable_resource() {
    let mut rig = Rig::new();
    rig.limit("quota", "disk:200");
    rig.framework("fw1", &["quota"]);
    let mount = |text, mount| sorted(text, Sort { mount, ..Sort::default() });
    rig.agent_of("agent1", &joined(&[wire("cpus:1;mem:100"), mount("disk:500", "/a")]));
    assert_eq!(offered(&mut rig), ["fw1/quota@agent1 cpus:1;mem:100"], "whole, or not at all");
    rig.agent_of(
        "agent2",
        &joined(&[wire("cpus:1;mem:100"), mount("disk:100", "/a"), mount("disk:150", "/b")]),
    );
    let offers = offered(&mut rig);
    let one =
        ["disk:100", "disk:150"].map(|disk| format!("fw1/quota@agent2 cpus:1;mem:100;{disk}"));
    assert!(offers.len() == 1 && one.contains(&offers[0]), "one of both: {offers:?}");
}

#[test]
fn quota_allocation_multiple_disk() {
    let mut rig = Rig::new();
    rig.guarantee("quota", "disk:2");
    rig.framework("fw1", &["quota"]);
    let path = sorted("disk:3", Sort { mount: "/a", ..Sort::default() });
    rig.agent_of("agent1", &joined(&[wire("cpus:1;mem:100;disk:3"), path]));
    let offers = rig.allocate();
    assert_eq!(told(&offers), ["fw1/quota@agent1 cpus:1;mem:100;disk:3;disk:3"]);
}

#[test]
fn quota_role_allocate_non_quota_resource() {
    let mut rig = Rig::new();
    rig.quota("quota", "cpus:2");
    rig.guarantee("memory", "mem:2048");
    rig.framework("fw1", &["quota"]);
    rig.agent("agent0", "mem:2048");
    // agent1: all of it, as the other guarantee is covered by agent0.
    rig.agent("agent1", "cpus:1;mem:1024;ports:[31000-32000]");
    let offers = rig.allocate();
    let all = "fw1/quota@agent1 cpus:1;mem:1024;ports:[31000-32000]".to_string();
    assert!(told(&offers).contains(&all), "{:?}", told(&offers));
    // agent2: no memory, of which nothing is left over now.
    rig.remove_agent("agent0");
    rig.agent("agent2", "cpus:1;mem:1024;ports:[31000-32000]");
    assert_eq!(offered(&mut rig), ["fw1/quota@agent2 cpus:1;ports:[31000-32000]"]);
    // agent3: the quota is met; only what no quota is about.
    rig.quota("memory", "");
    rig.agent("agent3", "cpus:1;mem:1024;ports:[31000-32000]");
    assert!(
        offered(&mut rig).contains(&"fw1/quota@agent3 mem:1024;ports:[31000-32000]".to_string())
    );
}

#[test]
fn drf_with_quota() {
    let mut rig = Rig::new();
    rig.quota("quota", "cpus:0.25;mem:128");
    rig.framework("fw1", &["quota"]);
    rig.framework("fw2", &["other"]);
    rig.agent("agent1", "cpus:1;mem:512");
    assert_eq!(
        offered(&mut rig),
        ["fw1/quota@agent1 cpus:0.25;mem:128", "fw2/other@agent1 cpus:0.75;mem:384"]
    );
    // Beyond guarantees, those without a quota share by their shares.
    rig.framework("fw3", &["third"]);
    rig.agent("agent2", "cpus:1;mem:512");
    assert_eq!(offered(&mut rig), ["fw3/third@agent2 cpus:1;mem:512"]);
    rig.agent("agent3", "cpus:3;mem:1024");
    assert_eq!(offered(&mut rig), ["fw2/other@agent3 cpus:3;mem:1024"]);
}

#[test]
fn quota_against_starvation() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["quota"]);
    rig.framework("fw2", &["other"]);
    rig.agent("agent1", "cpus:1;mem:512");
    rig.agent("agent2", "cpus:1;mem:512");
    // fw2 holds nothing and declines all: by fair share it comes first again and again.
    rig.uses("fw1", "quota", "agent1", "cpus:1;mem:512");
    for _ in 0..3 {
        assert_eq!(winners(&mut rig), ["fw2@agent2"]);
        rig.decline("fw2", "agent2", 0);
    }
    rig.quota("quota", "cpus:2;mem:1024");
    assert_eq!(winners(&mut rig), ["fw1@agent2"]);
}

#[test]
fn quota_absent_framework_whole_agent() {
    let mut rig = Rig::new();
    rig.quota("quota", "cpus:2;mem:1024");
    rig.framework("fw1", &["other"]);
    rig.agent("agent1", "cpus:2;mem:1024");
    assert_eq!(offered(&mut rig), [""; 0], "held back for nobody yet");
    // More than is held back is there for others, and no more than that.
    rig.agent("agent2", "cpus:1;mem:512");
    let offers = rig.allocate();
    assert_eq!(offers.len(), 1);
    assert_eq!(rig.has("fw1", "other", CPUS), 1_000);
}

#[test]
fn multi_quota_absent_frameworks() {
    let mut rig = Rig::new();
    rig.quota("quota1", "cpus:1;mem:1024");
    rig.quota("quota2", "cpus:2;mem:2048");
    rig.framework("fw1", &["quota2"]);
    rig.agent("agent1", "cpus:2;mem:2048");
    rig.agent("agent2", "cpus:1;mem:1024");
    let offers = rig.allocate();
    assert!(offers.iter().all(|offer| offer.framework == "fw1"));
    assert_eq!(rig.has("fw1", "quota2", CPUS), 2_000, "nobody in quota1 blocks nobody in quota2");
    assert_eq!(rig.has("fw1", "quota2", MEM), 2_048_000);
}

#[test]
fn multi_quota_with_frameworks() {
    let mut rig = Rig::new();
    rig.quota("quota1", "cpus:1;mem:200");
    rig.quota("quota2", "cpus:2;mem:2000");
    rig.framework("fw1", &["quota1"]);
    rig.framework("fw2", &["quota2"]);
    rig.agent("agent1", "cpus:1;mem:1024");
    rig.agent("agent2", "cpus:1;mem:1024");
    rig.uses("fw1", "quota1", "agent1", "cpus:1;mem:200");
    rig.uses("fw2", "quota2", "agent2", "cpus:1;mem:1024");
    // quota1 is met and has the lower share; quota2 is short.
    rig.agent("agent3", "cpus:2;mem:2048");
    let offers = rig.allocate();
    assert!(offers.iter().all(|offer| offer.framework == "fw2"), "{:?}", told(&offers));
    assert_eq!(rig.has("fw2", "quota2", CPUS), 2_000);
}

#[test]
fn reservation_within_quota() {
    let mut rig = Rig::new();
    rig.quota("quota", "cpus:2;mem:256");
    rig.framework("fw1", &["quota"]);
    rig.framework("fw2", &["other"]);
    rig.agent("agent1", "cpus(quota):1;mem(quota):128;cpus:2;mem:512");
    assert_eq!(
        offered(&mut rig),
        [
            "fw1/quota@agent1 cpus:1;mem:128;cpus(quota):1;mem(quota):128",
            "fw2/other@agent1 cpus:1;mem:384"
        ]
    );
}

#[test]
fn quota_set_aside_reserved_resources() {
    // 8 cpus, a quota of 4 that nobody uses, 4 reserved for another role: the headroom is the rest.
    let mut rig = Rig::new();
    rig.quota("quota", "cpus:4");
    rig.framework("fw1", &["other"]);
    rig.agent("agent1", "cpus:4;mem:1024;cpus(other):4");
    assert_eq!(offered(&mut rig), ["fw1/other@agent1 mem:1024;cpus(other):4"]);
}

#[test]
fn disproportionate_quota_vs_allocation() {
    let mut rig = Rig::new();
    rig.quota("quota", "cpus:4;mem:1024");
    rig.framework("fw1", &["quota"]);
    rig.framework("fw2", &["other"]);
    rig.agent("agent1", "cpus:2;mem:1024");
    assert_eq!(offered(&mut rig), ["fw1/quota@agent1 cpus:2;mem:1024"]);
    rig.agent("agent2", "cpus:2;mem:1024");
    assert_eq!(
        offered(&mut rig),
        ["fw1/quota@agent2 cpus:2", "fw2/other@agent2 mem:1024"],
        "only what the quota is still short of"
    );
}

/// A role with something reserved, statically or by an operator.
fn with_reserved(dynamic: bool, role: &'static str, reserved: &str, rest: &str) -> Rig {
    let mut rig = Rig::new();
    let roles: &'static [&'static str] = Box::leak(Box::new([role]));
    if dynamic {
        let list = sorted(reserved, Sort { roles, ..Sort::default() });
        rig.agent_of("agent1", &joined(&[list, wire(rest)]));
    } else {
        let reserved: Vec<String> = reserved
            .split(';')
            .map(|entry| entry.replacen(':', &format!("({role}):"), 1))
            .collect();
        rig.agent("agent1", &format!("{};{rest}", reserved.join(";")));
    }
    rig
}

#[test]
fn reservation_unallocated() {
    for dynamic in [false, true] {
        let mut rig = with_reserved(dynamic, "quota", "cpus:2;mem:1024", "cpus:2;mem:1024");
        rig.quota("quota", "cpus:2;mem:1024");
        rig.framework("fw1", &["other"]);
        // The reservation alone is what was guaranteed: the rest is not held back.
        assert_eq!(offered(&mut rig), ["fw1/other@agent1 cpus:2;mem:1024"]);
        // And the role may have no more than it.
        rig.decline("fw1", "agent1", 1_000 * SECOND);
        rig.framework("fw2", &["quota"]);
        assert_eq!(offered(&mut rig), ["fw2/quota@agent1 cpus(quota):2;mem(quota):1024"]);
    }
}

#[test]
fn reservation_allocated() {
    for dynamic in [false, true] {
        let mut rig = with_reserved(dynamic, "quota", "cpus:2;mem:1024", "disk:1");
        rig.quota("quota", "cpus:4;mem:2048");
        rig.framework("fw1", &["quota"]);
        assert_eq!(offered(&mut rig), ["fw1/quota@agent1 disk:1;cpus(quota):2;mem(quota):1024"]);
        // Reserved and allocated, it counts once: as much again is to be had.
        rig.agent("agent2", "cpus:3;mem:2000");
        assert_eq!(offered(&mut rig), ["fw1/quota@agent2 cpus:2;mem:1024"]);
    }
}

#[test]
fn non_quota_role_reservation_with_quota_role() {
    for dynamic in [false, true] {
        let mut rig = with_reserved(dynamic, "other", "cpus:2;mem:512", "cpus:2;mem:512");
        rig.quota("quota", "cpus:10;mem:10240");
        rig.framework("fw1", &["other"]);
        assert_eq!(offered(&mut rig), ["fw1/other@agent1 cpus(other):2;mem(other):512"]);
    }
}

#[test]
fn shared_allocated_resource_quota_accounting() {
    let volume = Sort { roles: &["quota"], volume: "id1", shared: true, ..Sort::default() };
    let mut rig = Rig::new();
    rig.limit("quota", "disk:150");
    let capable = [Capability::SharedResources];
    rig.framework_of("fw1", &["quota"], &capable);
    rig.framework_of("fw2", &["quota"], &capable);
    rig.agent_of("agent1", &joined(&[wire("cpus:2;mem:200"), sorted("disk:100", volume)]));
    assert_eq!(offered(&mut rig), ["fw1/quota@agent1 cpus:2;mem:200;disk(quota):100"]);
    let kept = rig.hold(&joined(&[wire("cpus:1;mem:100"), sorted("disk:100", volume)]));
    rig.accept_held("fw1", "agent1", kept, 1_000 * SECOND);
    assert_eq!(offered(&mut rig), ["fw2/quota@agent1 cpus:1;mem:100;disk(quota):100"]);
    // Two have it, and it counts once: 50 are left of the limit.
    rig.agent("agent2", "cpus:1;mem:100;disk:100");
    let offers = offered(&mut rig);
    assert!(
        offers.len() == 1 && offers[0].ends_with("@agent2 cpus:1;mem:100;disk:50"),
        "{offers:?}"
    );
}

#[test]
fn quota_accounting_reserve_allocated_resources() {
    let mut rig = Rig::new();
    rig.quota("quota", "cpus:2;mem:1024");
    rig.framework("fw1", &["quota"]);
    rig.agent("agent1", "cpus:2;mem:1024");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    let reserve = sorted("cpus:1;mem:512", Sort { roles: &["quota"], ..Sort::default() });
    rig.operate(Some("fw1"), "agent1", Step::Reserve, &reserve).unwrap();
    rig.agent("agent2", "cpus:2;mem:1024");
    assert_eq!(offered(&mut rig), [""; 0], "it has what it had");
    // Given back, what is reserved counts still, and the rest does not.
    rig.decline("fw1", "agent1", 1_000 * SECOND);
    assert_eq!(offered(&mut rig), ["fw1/quota@agent2 cpus:1;mem:512"]);
}

#[test]
fn quota_accounting_unreserve_allocated_resources() {
    let mut rig = Rig::new();
    rig.quota("quota", "cpus:2;mem:1024");
    rig.framework("fw1", &["quota"]);
    let reserved = sorted("cpus:2;mem:1024", Sort { roles: &["quota"], ..Sort::default() });
    rig.agent_of("agent1", &reserved);
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.operate(Some("fw1"), "agent1", Step::Unreserve, &reserved).unwrap();
    rig.agent("agent2", "cpus:2;mem:1024");
    assert_eq!(offered(&mut rig), [""; 0], "it has what it had");
    rig.decline("fw1", "agent1", 1_000 * SECOND);
    assert_eq!(offered(&mut rig), ["fw1/quota@agent2 cpus:2;mem:1024"]);
}

#[test]
fn quota_headroom_when_reservations_exceed_quota() {
    for dynamic in [false, true] {
        let mut rig = with_reserved(dynamic, "quota1", "cpus:4;mem:1024", "cpus:2;mem:1024");
        rig.quota("quota1", "cpus:2;mem:512");
        rig.quota("quota2", "cpus:2;mem:1024");
        rig.framework("fw1", &["other"]);
        assert_eq!(offered(&mut rig), [""; 0], "quota1's surplus is no help for quota2");
        rig.framework("fw2", &["quota2"]);
        assert_eq!(offered(&mut rig), ["fw2/quota2@agent1 cpus:2;mem:1024"]);
    }
}

#[test]
fn quota_with_ancestor_reservations() {
    let mut rig = Rig::new();
    rig.quota("a", "cpus:4;mem:1024");
    rig.framework("fw1", &["a/b"]);
    rig.framework("fw2", &["other"]);
    rig.agent("agent1", "cpus(a):2;mem(a):512");
    assert_eq!(offered(&mut rig), ["fw1/a/b@agent1 cpus(a):2;mem(a):512"]);
    // Allocated to a child, it is the parent's reservation still, and counted once: of 3 free, the 2
    // that a is short of go to it, one is for others.
    rig.agent("agent2", "cpus:3;mem:1024");
    assert_eq!(
        offered(&mut rig),
        ["fw1/a/b@agent2 cpus:2;mem:512", "fw2/other@agent2 cpus:1;mem:512"]
    );
}

#[test]
fn quota_with_nested_role_reservation() {
    let mut rig = Rig::new();
    rig.quota("a", "cpus:2;mem:1024");
    rig.framework("fw1", &["a"]);
    rig.framework("fw2", &["other"]);
    rig.agent("agent1", "cpus(a/b):1;mem(a/b):512;cpus:2;mem:1024");
    assert_eq!(
        offered(&mut rig),
        ["fw1/a@agent1 cpus:1;mem:512", "fw2/other@agent1 cpus:1;mem:512"]
    );
}

#[test]
fn quota_with_nested_role_allocation() {
    let mut rig = Rig::new();
    rig.quota("a", "cpus:2;mem:1024");
    rig.framework("fw1", &["a/b"]);
    rig.agent("agent1", "cpus:1;mem:512");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.framework("fw2", &["a"]);
    rig.agent("agent2", "cpus:2;mem:1024");
    let offers = rig.allocate();
    let given = rig.has("fw1", "a/b", CPUS) + rig.has("fw2", "a", CPUS);
    assert_eq!(given, 2_000, "parent and child together have the parent's quota: {offers:?}");
}

#[test]
fn quota_headroom_with_nested_role_allocation() {
    let mut rig = Rig::new();
    rig.quota("a", "cpus:2;mem:1024");
    rig.framework("fw1", &["a/b"]);
    rig.agent("agent1", "cpus:1;mem:512");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.suppress("fw1", "a/b");
    rig.framework("fw2", &["other"]);
    // Half of the quota is used by the child: the other half is held back.
    rig.agent("agent2", "cpus:2;mem:1024");
    assert_eq!(offered(&mut rig), ["fw2/other@agent2 cpus:1;mem:512"]);
}

#[test]
fn nested_role_quota() {
    // Disabled in Mesos; here quota works at every level.
    let mut rig = Rig::new();
    rig.guarantee("a", "cpus:4;mem:1024");
    rig.guarantee("a/b", "cpus:2;mem:512");
    rig.framework("fw1", &["a/b"]);
    rig.framework("fw2", &["a/c"]);
    rig.framework("fw3", &["other"]);
    rig.agent("agent1", "cpus:5;mem:1280");
    let offers = rig.allocate();
    assert!(rig.has("fw1", "a/b", CPUS) >= 2_000, "{:?}", told(&offers));
    let of_a = rig.has("fw1", "a/b", CPUS) + rig.has("fw2", "a/c", CPUS);
    assert!(of_a >= 4_000, "{:?}", told(&offers));
}

#[test]
fn nested_role_quota_allocate_to_parent() {
    // Disabled in Mesos. What is guaranteed to a child is not its parent's.
    let mut rig = Rig::new();
    rig.guarantee("a", "cpus:4;mem:1024");
    rig.guarantee("a/b", "cpus:2;mem:512");
    rig.framework("fw1", &["a"]);
    rig.agent("agent1", "cpus:4;mem:1024");
    assert_eq!(offered(&mut rig), ["fw1/a@agent1 cpus:2;mem:512"]);
    rig.framework("fw2", &["a/b"]);
    assert_eq!(offered(&mut rig), ["fw2/a/b@agent1 cpus:2;mem:512"]);
}

#[test]
fn nested_quota_accounting() {
    // Disabled in Mesos. A child's consumption counts against the limits of all above it.
    let mut rig = Rig::new();
    rig.limit("a", "cpus:4");
    rig.limit("a/b", "cpus:3");
    rig.framework("fw1", &["a/b"]);
    rig.framework("fw2", &["a/c"]);
    rig.agent("agent1", "cpus:10;mem:1024");
    let offers = told(&rig.allocate());
    let (b, c) = (rig.has("fw1", "a/b", CPUS), rig.has("fw2", "a/c", CPUS));
    assert!(b <= 3_000 && b + c == 4_000, "{offers:?}");
}
