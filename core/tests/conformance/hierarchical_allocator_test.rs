//! `HierarchicalAllocatorTest`: who is offered what.
//!
//! One agent's resources stand as Mesos writes them; an offer is `framework/role@agent resources`.
//! Amounts follow Mesos' own tests where those give any.

use mesita_core::allocator::hosts::Description;
use mesita_core::allocator::{Bar, Config};
use mesita_core::resources::Holding;
use mesita_core::resources::change::{Conversion, Step};
use mesita_core::resources::pool::{CPUS, DISK, MEM};
use mesita_core::wire::Seq;
use mesita_core::wire::call::Capability;
use mesita_core::wire::resource::{Attribute, AttributeValue};

use crate::support::allocation::{Out, Rig, SECOND, Sort, capacity, config, joined, sorted, told};
use crate::support::text::{scratch, wire};

/// What the next run offers.
fn offered(rig: &mut Rig) -> Vec<String> {
    told(&rig.allocate())
}

/// Who got something in the next run, by agent.
fn winners(rig: &mut Rig) -> Vec<String> {
    rig.allocate().iter().map(|offer| format!("{}@{}", offer.framework, offer.agent)).collect()
}

// ------------------------------------------------------------------------ shares

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

// ----------------------------------------------------------------------- filters

#[test]
fn offer_filter() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:1;mem:512");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.decline("fw1", "agent1", 3_600 * SECOND);
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.wait(3_599 * SECOND);
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.wait(SECOND);
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
}

#[test]
fn small_offer_filter_timeout() {
    // There is no interval here: the shortest filter is the least time between two like offers.
    let spaced = Config { min_reoffer_us: SECOND, ..config() };
    let mut rig = Rig::with(spaced, capacity(), 1);
    rig.framework("fw1", &["role1"]);
    rig.framework("fw2", &["role1"]);
    rig.agent("agent1", "cpus:1;mem:512");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    let out = rig.out.pop().unwrap();
    let until = rig.allocator.refused_until(rig.now, SECOND / 2);
    rig.act(|allocator, world| allocator.recover(world, out.agent, out.client, out.held, until));
    assert_eq!(winners(&mut rig), ["fw2@agent1"]);
    let out = rig.out.pop().unwrap();
    rig.act(|allocator, world| allocator.recover(world, out.agent, out.client, out.held, until));
    rig.wait(SECOND / 2);
    assert_eq!(offered(&mut rig), [""; 0], "half a second became a whole one");
    rig.wait(SECOND / 2);
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
}

#[test]
fn revive_offers() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["*"]);
    rig.agent("agent1", "cpus:2;mem:1024");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.decline("fw1", "agent1", 1_000 * SECOND);
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.revive("fw1", "*");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
}

#[test]
fn suppress_and_revive_offers() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:2;mem:1024");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.suppress("fw1", "role1");
    rig.decline("fw1", "agent1", 0);
    assert_eq!(offered(&mut rig), [""; 0]);
    // Nor what comes later.
    rig.agent("agent2", "cpus:2;mem:1024");
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.revive("fw1", "role1");
    assert_eq!(winners(&mut rig), ["fw1@agent1", "fw1@agent2"]);
}

#[test]
fn suppress_and_revive_offers_with_multi_role() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1", "role2"]);
    rig.suppress("fw1", "role1");
    rig.agent("agent1", "cpus:2;mem:1024");
    assert_eq!(offered(&mut rig), ["fw1/role2@agent1 cpus:2;mem:1024"]);
    rig.decline("fw1", "agent1", 1_000 * SECOND);
    assert_eq!(offered(&mut rig), [""; 0], "refused in one role, suppressed in the other");
    rig.revive("fw1", "role1");
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:2;mem:1024"]);
    rig.suppress("fw1", "role1");
    rig.decline("fw1", "agent1", 0);
    assert_eq!(offered(&mut rig), [""; 0], "the refusal in role2 still holds");
    rig.revive("fw1", "role2");
    assert_eq!(offered(&mut rig), ["fw1/role2@agent1 cpus:2;mem:1024"]);
}

#[test]
fn deactivate_and_reactivate_framework() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.suppress("fw1", "role1");
    rig.agent("agent1", "cpus:2;mem:1024");
    assert_eq!(offered(&mut rig), [""; 0]);
    // Who subscribes again says anew which roles it suppresses: none.
    rig.away("fw1", "role1", true);
    rig.revive_away("fw1", "role1");
    assert_eq!(offered(&mut rig), [""; 0], "it is not there");
    rig.away("fw1", "role1", false);
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
}

/// What an agent says of itself, with one attribute.
fn describe(rig: &mut Rig, agent: &str, rack: &'static str) -> bool {
    let attribute = Attribute { name: "rack", value: AttributeValue::Text(rack) };
    let attributes = scratch().seq::<Attribute<'static>>([attribute]).unwrap();
    let description = Description { hostname: "host", region: "", zone: "", attributes };
    let agent = rig.agents[agent];
    let changed = rig.allocator.describe(&mut rig.names, agent, &description);
    if changed {
        rig.act(|allocator, world| allocator.forget_refusals(world, agent));
    }
    changed
}

#[test]
fn remove_filters() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:2;mem:1024");
    describe(&mut rig, "agent1", "1");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.decline("fw1", "agent1", 1_000 * SECOND);
    assert_eq!(offered(&mut rig), [""; 0]);
    assert!(!describe(&mut rig, "agent1", "1"), "it says the same");
    assert_eq!(offered(&mut rig), [""; 0]);
    assert!(describe(&mut rig, "agent1", "2"));
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
}

// ------------------------------------------------------------------------ minima

#[test]
fn allocatable() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    // 0.01 cpus or 32 MB suffice, and less does not.
    rig.agent("agent1", "cpus:0.009;mem:31");
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.agent("agent2", "cpus:0.01;mem:31");
    assert_eq!(offered(&mut rig), ["fw1/role1@agent2 cpus:0.01;mem:31"]);
    rig.agent("agent3", "cpus:0.009;mem:32");
    assert_eq!(offered(&mut rig), ["fw1/role1@agent3 cpus:0.009;mem:32"]);
    // Reserved and unreserved together.
    rig.agent("agent4", "cpus:0.006;cpus(role1):0.005;mem:1");
    assert_eq!(offered(&mut rig), ["fw1/role1@agent4 cpus:0.006;mem:1;cpus(role1):0.005"]);
}

#[test]
fn framework_min_allocatable() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.minimum("fw1", "role1", Some("cpus:4|disk:1000"));
    rig.agent("agent1", "cpus:2;mem:1024");
    assert_eq!(offered(&mut rig), [""; 0], "the master's would suffice");
    rig.agent("agent2", "cpus:0.001;disk:1000");
    assert_eq!(offered(&mut rig), ["fw1/role1@agent2 cpus:0.001;disk:1000"]);
    rig.minimum("fw1", "role1", Some("cpus:2;mem:1024"));
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:2;mem:1024"]);
}

#[test]
fn framework_empty_min_allocatable() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.minimum("fw1", "role1", Some(""));
    rig.framework("fw2", &["role1"]);
    rig.agent("agent1", "cpus:0.001");
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:0.001"]);
    rig.minimum("fw1", "role1", None);
    rig.decline("fw1", "agent1", 0);
    assert_eq!(offered(&mut rig), [""; 0]);
}

// ------------------------------------------------------------------ reservations

#[test]
fn reservations() {
    let mut rig = Rig::new();
    rig.agent("agent1", "cpus(role1):2;mem(role1):1024");
    rig.agent("agent2", "cpus(role2):2;mem(role2):1024;cpus:1;mem:1024");
    rig.framework("fw1", &["role1"]);
    assert_eq!(
        offered(&mut rig),
        ["fw1/role1@agent1 cpus(role1):2;mem(role1):1024", "fw1/role1@agent2 cpus:1;mem:1024"]
    );
    rig.framework("fw2", &["role2"]);
    assert_eq!(offered(&mut rig), ["fw2/role2@agent2 cpus(role2):2;mem(role2):1024"]);
}

#[test]
fn recover_resources() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus(role1):1;mem(role1):1024;cpus:1;mem:1024");
    let all = ["fw1/role1@agent1 cpus:1;mem:1024;cpus(role1):1;mem(role1):1024"];
    assert_eq!(offered(&mut rig), all);
    // What is kept is not offered again, what is given back is: reserved and unreserved.
    rig.accept("fw1", "agent1", "cpus:1;mem:1024", 0);
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus(role1):1;mem(role1):1024"]);
    rig.decline("fw1", "agent1", 0);
    rig.end("fw1", "agent1");
    assert_eq!(offered(&mut rig), all);
}

#[test]
fn offer_ancestor_reservations_to_descendant_child() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["a/b/c"]);
    rig.framework("fw2", &["x"]);
    rig.agent("agent1", "cpus(a):1;mem(a):100;cpus(a/b):2;cpus(a/b/d):4;cpus(x):8");
    assert_eq!(
        offered(&mut rig),
        ["fw1/a/b/c@agent1 cpus(a):1;mem(a):100;cpus(a/b):2", "fw2/x@agent1 cpus(x):8"]
    );
}

#[test]
fn non_scalar_reservation_tracking_mesos_9555() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:1;mem:1024;ports(role1):[80-82]");
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:1;mem:1024;ports(role1):[80-82]"]);
    rig.decline("fw1", "agent1", 0);
    rig.remove_agent("agent1");
    // What was reserved is reserved no more: nothing keeps the role but the framework.
    rig.remove_client("fw1", "role1");
    assert_eq!(rig.allocator.roles(&rig.pool).count(), 0);
    rig.framework("fw2", &["role2"]);
    rig.agent("agent2", "cpus:1;mem:1024;ports(role1):[80-82]");
    assert_eq!(offered(&mut rig), ["fw2/role2@agent2 cpus:1;mem:1024"]);
}

// ------------------------------------------------------------------------- agents

#[test]
fn remove_slave_recover_resources() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.framework("fw2", &["role2"]);
    rig.agent("agent1", "cpus:2;mem:1024");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.remove_agent("agent1");
    assert_eq!((rig.has("fw1", "role1", CPUS), rig.allocator.totals().of(CPUS)), (0, 0));
    rig.agent("agent2", "cpus:2;mem:1024");
    assert_eq!(winners(&mut rig), ["fw2@agent2"], "fw1 was offered something once before");
}

#[test]
fn whitelist() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["*"]);
    rig.agent("agent1", "cpus:2;mem:1024");
    rig.bar("agent1", Bar::Unlisted, true);
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.bar("agent1", Bar::Unlisted, false);
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
}

#[test]
fn add_resource_provider() {
    // Here a provider's resources come as a larger total of its agent.
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:1;mem:1024;disk:100");
    rig.bar("agent1", Bar::Deactivated, true);
    rig.set_total("agent1", &wire("cpus:1;mem:1024;disk:400"));
    rig.uses("fw1", "role1", "agent1", "disk:300");
    assert_eq!(rig.share("fw1", "role1"), 750_000);
    rig.framework("fw2", &["role2"]);
    assert_eq!(rig.order(), ["fw2", "fw1"]);
    rig.bar("agent1", Bar::Deactivated, false);
    assert_eq!(offered(&mut rig), ["fw2/role2@agent1 cpus:1;mem:1024;disk:100"]);
}

#[test]
fn add_resource_provider_overallocated() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:1;mem:1024;disk:100");
    rig.uses("fw1", "role1", "agent1", "cpus:1;mem:1024;disk:150");
    assert_eq!(offered(&mut rig), [""; 0]);
    // 50 of the new disk are owed to what is used already.
    rig.set_total("agent1", &wire("cpus:1;mem:1024;disk:120"));
    assert_eq!((rig.free("agent1"), offered(&mut rig)), (String::new(), vec![]));
    rig.set_total("agent1", &wire("cpus:1;mem:1124;disk:160"));
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 mem:100;disk:10"]);
}

#[test]
fn update_slave_total_resources() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:100;mem:100;disk:100");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.accept("fw1", "agent1", "cpus:30;mem:30;disk:30", 0);
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:70;mem:70;disk:70"]);
    // More: the difference is offered.
    rig.set_total("agent1", &wire("cpus:120;mem:120;disk:120"));
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:20;mem:20;disk:20"]);
    // Less than is out: nothing, until as much came back.
    rig.set_total("agent1", &wire("cpus:40;mem:40;disk:40"));
    assert_eq!(rig.allocator.totals().of(CPUS), 40_000);
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.decline("fw1", "agent1", 0);
    assert_eq!(offered(&mut rig), [""; 0], "20 of 80 too many came back");
    rig.decline("fw1", "agent1", 0);
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:10;mem:10;disk:10"]);
}

#[test]
fn framework_loop_mesos_9554() {
    // Who cannot take what there is comes first in order, and stops nobody.
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.framework_of("fw2", &["role1"], &[Capability::GpuResources]);
    rig.agent("agent1", "cpus:1;mem:1024;gpus:1");
    assert_eq!(offered(&mut rig), ["fw2/role1@agent1 cpus:1;mem:1024;gpus:1"]);
    rig.decline("fw2", "agent1", SECOND);
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.agent("agent2", "cpus(other):1;cpus:0.02;gpus:1");
    assert_eq!(offered(&mut rig), ["fw2/role1@agent2 cpus:0.02;gpus:1"]);
}

// ---------------------------------------------------------------------- revocable

fn revocable(text: &str) -> Seq<'static, mesita_core::wire::resource::Resource<'static>> {
    sorted(text, Sort { revocable: true, ..Sort::default() })
}

#[test]
fn update_slave_oversubscribed_resources() {
    let mut rig = Rig::new();
    rig.framework_of("fw1", &["role1"], &[Capability::RevocableResources]);
    let plain = wire("cpus:100;mem:100;disk:100");
    rig.agent_of("agent1", &plain);
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    // 10 more that may be taken back.
    rig.set_total("agent1", &joined(&[plain, revocable("cpus:10")]));
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:10"]);
    assert_eq!(rig.allocator.totals().of(CPUS), 110_000);
    // 12 in all, and then 9: of what is out, nothing changes.
    rig.set_total("agent1", &joined(&[plain, revocable("cpus:12")]));
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:2"]);
    rig.set_total("agent1", &joined(&[plain, revocable("cpus:9")]));
    assert_eq!(rig.allocator.totals().of(CPUS), 109_000);
    assert_eq!(offered(&mut rig), [""; 0]);
}

#[test]
fn oversubscribed_not_allocated() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    let plain = wire("cpus:100;mem:100");
    rig.agent_of("agent1", &plain);
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    rig.set_total("agent1", &joined(&[plain, revocable("cpus:10")]));
    assert_eq!(offered(&mut rig), [""; 0]);
    rig.framework_of("fw2", &["role1"], &[Capability::RevocableResources]);
    assert_eq!(offered(&mut rig), ["fw2/role1@agent1 cpus:10"]);
}

#[test]
fn recover_oversubscribed_resources() {
    let mut rig = Rig::new();
    rig.framework_of("fw1", &["role1"], &[Capability::RevocableResources]);
    rig.agent_of("agent1", &joined(&[wire("cpus:100;mem:100"), revocable("cpus:10")]));
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    // 6 of what may be taken back, and 50 of the rest, come back: just those are offered.
    let kept = rig.hold(&joined(&[wire("cpus:50;mem:100"), revocable("cpus:4")]));
    rig.accept_held("fw1", "agent1", kept, 0);
    let offers = rig.allocate();
    assert_eq!(told(&offers), ["fw1/role1@agent1 cpus:50;cpus:6"]);
}

// ------------------------------------------------------------------------- volumes

const VOLUME: Sort = Sort {
    roles: &["role1"],
    labels: "",
    volume: "id1",
    mount: "",
    shared: false,
    revocable: false,
};

#[test]
fn update_allocation() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:100;mem:100;disk(role1):100");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    let before = rig.share("fw1", "role1");
    // Statically reserved disk becomes a volume in its framework's hands.
    let fixed = Sort { roles: &[], ..VOLUME };
    let create = sorted("disk(role1):5", fixed);
    rig.operate(Some("fw1"), "agent1", Step::Create, &create).unwrap();
    assert_eq!(rig.share("fw1", "role1"), before, "as much as before");
    assert_eq!(rig.total("agent1"), "cpus:100;mem:100;disk(role1):95;disk(role1):5");
    rig.decline("fw1", "agent1", 0);
    assert_eq!(
        offered(&mut rig),
        ["fw1/role1@agent1 cpus:100;mem:100;disk(role1):95;disk(role1):5"]
    );
}

#[test]
fn update_allocation_remove_resources() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:100;mem:100;disk:100");
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    let disk = rig.hold(&wire("disk:50"));
    let gone = Conversion { consumed: disk, converted: Holding::EMPTY };
    let mut held = rig.out[0].held;
    rig.pool.apply(&mut rig.names, &mut held, &gone).unwrap();
    rig.out[0].held = held;
    let (agent, client) = (rig.out[0].agent, rig.out[0].client);
    rig.act(|allocator, world| allocator.convert(world, agent, Some(client), &gone));
    rig.let_go(disk);
    assert_eq!(rig.total("agent1"), "cpus:100;mem:100;disk:50");
    assert_eq!(rig.allocator.totals().of(DISK), 50_000);
    assert_eq!(rig.has("fw1", "role1", DISK), 50_000);
    rig.decline("fw1", "agent1", 0);
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:100;mem:100;disk:50"]);
}

const SHARED: Sort = Sort { shared: true, ..VOLUME };

#[test]
fn update_allocation_shared_persistent_volume() {
    let mut rig = Rig::new();
    rig.framework_of("fw1", &["role1"], &[Capability::SharedResources]);
    let reserved = sorted("disk:5", Sort { volume: "", ..VOLUME });
    rig.agent_of("agent1", &joined(&[wire("cpus:100;mem:100"), reserved]));
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    let volume = sorted("disk:5", SHARED);
    rig.operate(Some("fw1"), "agent1", Step::Create, &volume).unwrap();
    assert_eq!(rig.total("agent1"), "cpus:100;mem:100;disk(role1):5");
    // It is shared: a copy of it is with the agent still.
    assert_eq!(rig.free("agent1"), "disk(role1):5");
    assert_eq!(rig.has("fw1", "role1", DISK), 5_000);
    rig.operate(Some("fw1"), "agent1", Step::Destroy, &volume).unwrap();
    assert_eq!((rig.free("agent1"), rig.has("fw1", "role1", DISK)), (String::new(), 5_000));
}

#[test]
fn shared_resources_capability() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent_of("agent1", &joined(&[wire("cpus:1;mem:100"), sorted("disk:5", SHARED)]));
    assert_eq!(offered(&mut rig), ["fw1/role1@agent1 cpus:1;mem:100"]);
    rig.framework_of("fw2", &["role1"], &[Capability::SharedResources]);
    rig.decline("fw1", "agent1", SECOND);
    assert_eq!(offered(&mut rig), ["fw2/role1@agent1 cpus:1;mem:100;disk(role1):5"]);
}

#[test]
fn allocate_shared_resources() {
    let mut rig = Rig::new();
    let capable = [Capability::SharedResources];
    rig.framework_of("fw1", &["role1"], &capable);
    rig.framework_of("fw2", &["role1"], &capable);
    rig.agent_of("agent1", &joined(&[wire("cpus:4;mem:400"), sorted("disk:5", SHARED)]));
    let offers = rig.allocate();
    assert_eq!(told(&offers), ["fw1/role1@agent1 cpus:4;mem:400;disk(role1):5"]);
    // In use by fw1, the volume is offered to one framework at a time, with what is free beside it.
    let kept = rig.hold(&joined(&[wire("cpus:1;mem:100"), sorted("disk:5", SHARED)]));
    rig.accept_held("fw1", "agent1", kept, 1_000 * SECOND);
    assert_eq!(offered(&mut rig), ["fw2/role1@agent1 cpus:3;mem:300;disk(role1):5"]);
    let kept = rig.hold(&joined(&[wire("cpus:1;mem:100"), sorted("disk:5", SHARED)]));
    rig.accept_held("fw2", "agent1", kept, 0);
    assert_eq!(offered(&mut rig), ["fw2/role1@agent1 cpus:2;mem:200;disk(role1):5"]);
    assert_eq!(rig.allocator.usage(rig.client("fw2", "role1")).unwrap().0.of(DISK), 5_000);
}

#[test]
fn update_available_success() {
    let mut rig = Rig::new();
    rig.agent("agent1", "cpus:100;mem:100;disk:100");
    let reserve = sorted("cpus:25;mem:50", Sort { roles: &["role1"], ..Sort::default() });
    rig.operate(None, "agent1", Step::Reserve, &reserve).unwrap();
    assert_eq!(rig.free("agent1"), "cpus:75;mem:50;disk:100;cpus(role1):25;mem(role1):50");
    rig.framework("fw1", &["role1"]);
    assert_eq!(
        offered(&mut rig),
        ["fw1/role1@agent1 cpus:75;mem:50;disk:100;cpus(role1):25;mem(role1):50"]
    );
}

#[test]
fn update_available_fail() {
    let mut rig = Rig::new();
    rig.agent("agent1", "cpus:100;mem:100;disk:100");
    rig.framework("fw1", &["role1"]);
    assert_eq!(winners(&mut rig), ["fw1@agent1"]);
    let reserve = sorted("cpus:25;mem:50", Sort { roles: &["role1"], ..Sort::default() });
    let refused = rig.operate(None, "agent1", Step::Reserve, &reserve);
    assert_eq!(refused, Err(mesita_core::Refusal::NotAvailable));
    assert_eq!(rig.total("agent1"), "cpus:100;mem:100;disk:100");
}

// --------------------------------------------------------------------------- quota

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

// ------------------------------------------------------------------------- metrics

#[test]
fn resource_metrics() {
    let mut rig = Rig::new();
    rig.agent("agent1", "cpus:2;mem:1024;disk:0.001");
    rig.framework("fw1", &["role1"]);
    rig.allocate();
    let totals = rig.allocator.totals();
    assert_eq!((totals.of(CPUS), totals.of(MEM)), (2_000, 1_024_000));
    assert_eq!(rig.has("fw1", "role1", CPUS), 2_000);
    rig.remove_agent("agent1");
    assert_eq!(rig.allocator.totals().of(CPUS), 0);
    assert_eq!(rig.has("fw1", "role1", CPUS), 0);
}

#[test]
fn resource_metrics_uninitialized() {
    let rig = Rig::new();
    assert!(rig.allocator.totals().iter().all(|(_, amount)| amount == 0));
    assert_eq!(rig.allocator.gauges(), mesita_core::allocator::Gauges::default());
}

#[test]
fn allocation_runs_metric() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    assert_eq!(rig.allocator.gauges().rounds, 0);
    rig.agent("agent1", "cpus:2;mem:1024");
    rig.allocate();
    assert_eq!((rig.allocator.gauges().rounds, rig.allocator.gauges().grants), (1, 1));
    rig.allocate();
    assert_eq!(rig.allocator.gauges().rounds, 1, "nothing to do is no round");
}

#[test]
fn active_offer_filters_metrics() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.framework("fw2", &["role2"]);
    for agent in ["agent1", "agent2", "agent3"] {
        rig.agent(agent, "cpus:2;mem:1024");
    }
    let offers = rig.allocate();
    for offer in &offers {
        rig.decline(&offer.framework, &offer.agent, SECOND);
    }
    let in_role = |rig: &Rig, role: &str| {
        rig.names.find(role).map_or(0, |name| rig.allocator.refusals_in(name))
    };
    assert_eq!(rig.allocator.gauges().filters, 3);
    assert_eq!(in_role(&rig, "role1") + in_role(&rig, "role2"), 3);
    rig.wait(SECOND);
    rig.allocate();
    assert_eq!(rig.allocator.gauges().filters, 0);
    assert_eq!(in_role(&rig, "role1") + in_role(&rig, "role2"), 0);
}

fn dominant(rig: &Rig, role: &str) -> (u64, u64) {
    let found = rig.allocator.roles(&rig.pool).find(|(name, ..)| rig.names.is(*name, role));
    found.map(|(_, _, amount, of)| (amount, of)).unwrap()
}

#[test]
fn dominant_share_metrics() {
    let mut rig = Rig::new();
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:1;mem:1024");
    rig.allocate();
    assert_eq!(dominant(&rig, "role1"), (1_000, 1_000));
    rig.agent("agent2", "cpus:3;mem:1024");
    rig.bar("agent2", Bar::Deactivated, true);
    // 1/4 of the cpus, 1/2 of the memory.
    assert_eq!(dominant(&rig, "role1"), (1_024_000, 2_048_000));
    rig.decline("fw1", "agent1", 1_000 * SECOND);
    assert_eq!(dominant(&rig, "role1").0, 0);
}

#[test]
fn dominant_share_metrics_with_fairness_exclusion() {
    let mut rig = Rig::new();
    rig.leave_out("mem");
    rig.framework("fw1", &["role1"]);
    rig.agent("agent1", "cpus:1;mem:1024");
    rig.allocate();
    rig.agent("agent2", "cpus:3;mem:1024");
    assert_eq!(dominant(&rig, "role1"), (1_000, 4_000));
}

#[test]
fn quota_metrics() {
    let mut rig = Rig::new();
    rig.try_quota("quota", "cpus:2;mem:512", "cpus:4", true).unwrap();
    rig.framework("fw1", &["quota"]);
    rig.agent("agent1", "cpus:3;mem:1024;cpus(quota):0.5");
    rig.allocate();
    let quotas: Vec<_> = rig.allocator.quotas().collect();
    let [(name, quota, account)] = quotas[..] else { panic!("one role has a quota") };
    assert!(rig.names.is(name, "quota"));
    assert_eq!((quota.guarantee.of(CPUS), quota.guarantee.of(MEM)), (2_000, 512_000));
    assert_eq!((quota.limit.of(CPUS), quota.limit.of(MEM)), (4_000, u64::MAX));
    assert_eq!((account.consumed(CPUS), account.consumed(MEM)), (3_500, 1_024_000));
}
