//! Volumes, shared ones too, and what operations change.

use mesita_core::resources::Holding;
use mesita_core::resources::change::{Conversion, Step};
use mesita_core::resources::pool::DISK;
use mesita_core::wire::call::Capability;

use super::{offered, winners};
use crate::support::allocation::{Rig, SECOND, Sort, joined, sorted, told};
use crate::support::text::wire;

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
