//! Who is behind, and gets what is there.

use mesita_core::wire::call::Capability;

use super::{offered, winners};
use crate::support::allocation::{Out, Rig};

#[test]
fn unreserved_drf() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:2;mem:1024");
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:2;mem:1024"]);
    rig.framework("fw2", &["role2"]);
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.agent("agent2", "cpus:1;mem:512");
    assert_eq!(offered(&mut rig), ["fw2/role2@agent2 cpus:1;mem:512"]);
    rig.agent("agent3", "cpus:3;mem:2048");
    assert_eq!(offered(&mut rig), ["fw2/role2@agent3 cpus:3;mem:2048"]);
    rig.framework("fw3", &["role1"]);
    rig.agent("agent4", "cpus:4;mem:4096");
    assert_eq!(offered(&mut rig), ["fw3/role1@agent4 cpus:4;mem:4096"]);
    rig.framework("fw4", &["role1"]);
    rig.agent("agent5", "cpus:1;mem:512");
    assert_eq!(offered(&mut rig), ["fw2/role2@agent5 cpus:1;mem:512"], "0.36 against 0.62");
}

#[test]
fn reserved_drf() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:1;mem:512;cpus(role1):100;mem(role1):1024");
    assert_eq!(
        offered(&mut rig),
        ["fw1/role1@agent1 cpus:1;mem:512;cpus(role1):100;mem(role1):1024"]
    );
    rig.framework("fw2", &["role2"]);
    rig.agent("agent2", "cpus:2;mem:512");
    assert_eq!(offered(&mut rig), ["fw2/role2@agent2 cpus:2;mem:512"]);
    // Without what is reserved role2 would have more than role1 by now.
    rig.agent("agent3", "cpus:2;mem:512");
    assert_eq!(offered(&mut rig), ["fw2/role2@agent3 cpus:2;mem:512"]);
    // Frameworks of a role share what is reserved for it.
    rig.framework("fw3", &["role1"]);
    rig.agent("agent4", "cpus(role1):2;mem(role1):512");
    assert_eq!(offered(&mut rig), ["fw3/role1@agent4 cpus(role1):2;mem(role1):512"]);
}

#[test]
fn drf_with_fairness_exclusion() {
    let mut rig = Rig::new();
    rig.leave_out("gpus");
    rig.framework_of("fw1", &["role1"], &[Capability::GpuResources]);
    rig.agent("agent1", "cpus:2;mem:1024;gpus:1");
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:2;mem:1024;gpus:1"]);
    rig.framework("fw2", &["role2"]);
    rig.agent("agent2", "cpus:1;mem:512");
    assert_eq!(offered(&mut rig), ["fw2/role2@agent2 cpus:1;mem:512"]);
    rig.agent("agent3", "cpus:3;mem:2048");
    assert_eq!(offered(&mut rig), ["fw2/role2@agent3 cpus:3;mem:2048"]);
    // role1 has all GPUs, which do not count: 2/10 cpus against 4/10.
    rig.framework("fw3", &["role1"]);
    rig.agent("agent4", "cpus:4;mem:4096");
    assert_eq!(offered(&mut rig), ["fw3/role1@agent4 cpus:4;mem:4096"]);
}

#[test]
fn nested_role_drf() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["a"]);
    rig.agent("agent1", "cpus:4;mem:400");
    assert_eq!(offered(&mut rig), ["fw1/a@agent1 cpus:4;mem:400"]);
    rig.framework("fw2", &["b/c"]);
    rig.agent("agent2", "cpus:1;mem:100");
    assert_eq!(offered(&mut rig), ["fw2/b/c@agent2 cpus:1;mem:100"]);
    rig.framework("fw3", &["b/d"]);
    rig.agent("agent3", "cpus:2;mem:200");
    assert_eq!(offered(&mut rig), ["fw3/b/d@agent3 cpus:2;mem:200"]);
    // b has 3 against 4 of a; within b, e has nothing.
    rig.framework("fw4", &["b/e"]);
    rig.agent("agent4", "cpus:2;mem:200");
    assert_eq!(offered(&mut rig), ["fw4/b/e@agent4 cpus:2;mem:200"]);
    // b has 5 by now, though each of its children has less than a.
    rig.agent("agent5", "cpus:1;mem:100");
    assert_eq!(offered(&mut rig), ["fw1/a@agent5 cpus:1;mem:100"]);
}

#[test]
fn coarse_grained() {
    let mut rig = Rig::new();
    rig.agent("agent1", "cpus:2;mem:1024");
    rig.agent("agent2", "cpus:2;mem:1024");
    rig.framework("fw1", &["role1"]);
    let whole = ["fw1/role1@agent1 cpus:2;mem:1024", "fw1/role1@agent2 cpus:2;mem:1024"];
    assert_eq!(offered(&mut rig), whole);
    // Who comes later gets whole agents, too, and nothing while none is free.
    rig.framework("fw2", &["role1"]);
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.decline("fw1", "agent2", 0);
    assert_eq!(offered(&mut rig), ["fw2/role1@agent2 cpus:2;mem:1024"]);
}

#[test]
fn same_share_fairness() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["*"]);
    rig.framework("fw2", &["*"]);
    rig.agent("agent1", "cpus:2;mem:1024");
    let mut counts = [0, 0];
    for _ in 0..10 {
        let offers = rig.allocate();
        assert_eq!(offers.len(), 1);
        counts[usize::from(offers[0].framework == "fw2")] += 1;
        rig.decline(&offers[0].framework, "agent1", 0);
    }
    assert_eq!(counts, [5, 5]);
}

#[test]
fn update_weight() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.framework("fw2", &["role2"]);
    (1..=6).for_each(|agent| {
        rig.agent(&format!("agent{agent}"), "cpus:2;mem:1024");
    });
    let count =
        |offers: &[String], who: &str| offers.iter().filter(|offer| offer.starts_with(who)).count();
    let give_all_back = |rig: &mut Rig| {
        let all: Vec<Out> = rig.out.drain(..).collect();
        all.into_iter().for_each(|out| rig.give_back(out, 0));
    };
    let even = winners(&mut rig);
    assert_eq!((count(&even, "fw1"), count(&even, "fw2")), (3, 3));
    give_all_back(&mut rig);
    rig.weight("role2", 2_000);
    let double = winners(&mut rig);
    assert_eq!((count(&double, "fw1"), count(&double, "fw2")), (2, 4));
    give_all_back(&mut rig);
    rig.weight("role3", 3_000);
    rig.framework("fw3", &["role3"]);
    let three = winners(&mut rig);
    let counts = ["fw1", "fw2", "fw3"].map(|who| count(&three, who));
    assert_eq!(counts, [1, 2, 3]);
    give_all_back(&mut rig);
    // All the same again.
    rig.weight("role2", 1_000);
    rig.weight("role3", 1_000);
    let same = winners(&mut rig);
    assert_eq!(["fw1", "fw2", "fw3"].map(|who| count(&same, who)), [2, 2, 2]);
}

#[test]
fn no_double_accounting() {
    // What tasks use counts once, whether the framework or its agent came first.
    let shares = [true, false].map(|framework_first| {
        let mut rig = Rig::new();
        if framework_first {
            rig.framework("fw1", &["role1"]);
        }
        rig.agent("agent1", "cpus:1");
        rig.agent("agent2", "cpus:1");
        if !framework_first {
            rig.framework("fw1", &["role1"]);
        }
        rig.uses("fw1", "role1", "agent1", "cpus:1");
        let before = rig.share("fw1", "role1");
        assert_eq!(winners(&mut rig), ["fw1@agent2"]);
        (before, rig.share("fw1", "role1"))
    });
    assert_eq!(shares, [(500_000, 1_000_000); 2]);
}
