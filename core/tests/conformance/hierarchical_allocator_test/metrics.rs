//! What is counted.

use mesita_core::allocator::Bar;
use mesita_core::resources::pool::{CPUS, MEM};

use crate::support::allocation::{Rig, SECOND};

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
