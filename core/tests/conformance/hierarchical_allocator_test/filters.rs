//! What was refused, suppressed or is too little to be offered.

use mesita_core::allocator::Config;
use mesita_core::allocator::hosts::Description;
use mesita_core::wire::resource::{Attribute, AttributeValue};

use super::{offered, winners};
use crate::support::allocation::{Rig, SECOND, capacity, config};
use crate::support::text::scratch;

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
