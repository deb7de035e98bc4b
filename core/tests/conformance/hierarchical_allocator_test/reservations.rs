//! What is reserved is offered to its role and those below.

use super::offered;
use crate::support::allocation::Rig;

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
