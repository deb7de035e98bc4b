//! Agents come, go and change; what they offer twice.

use mesita_core::allocator::Bar;
use mesita_core::resources::pool::CPUS;
use mesita_core::wire::Seq;
use mesita_core::wire::call::Capability;

use super::{offered, winners};
use crate::support::allocation::{Rig, SECOND, Sort, joined, sorted, told};
use crate::support::text::wire;

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
