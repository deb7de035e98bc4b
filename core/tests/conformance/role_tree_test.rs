//! `RoleTreeTest`: which roles are known, and for how long.

use mesita_core::resources::change::Step;

use crate::support::allocation::{Rig, Sort, sorted};

fn roles(rig: &Rig) -> Vec<String> {
    let mut roles: Vec<_> =
        rig.allocator.roles(&rig.pool).map(|role| rig.names.text(role.0).to_string()).collect();
    roles.sort();
    roles
}

#[test]
fn roles_tracking() {
    let mut rig = Rig::new();
    let names = rig.names.len();
    assert_eq!(roles(&rig), [""; 0]);
    // A quota, for as long as it is set.
    rig.quota("a/b/c", "cpus:1");
    assert_eq!(roles(&rig), ["a", "a/b", "a/b/c"]);
    rig.quota("a/b", "mem:1");
    rig.quota("a/b/c", "");
    assert_eq!(roles(&rig), ["a", "a/b"]);
    rig.quota("a/b", "");
    assert_eq!(roles(&rig), [""; 0]);
    // A weight that is not 1.
    rig.weight("w", 2_000);
    assert_eq!(roles(&rig), ["w"]);
    rig.weight("w", 1_000);
    assert_eq!(roles(&rig), [""; 0]);
    // A reservation, static or dynamic, of amounts or of ports.
    rig.agent("one", "cpus:4;mem:400;cpus(s/t):1;ports(p):[1-3]");
    assert_eq!(roles(&rig), ["p", "s", "s/t"]);
    let reserve = sorted("mem:100", Sort { roles: &["d"], ..Sort::default() });
    rig.operate(None, "one", Step::Reserve, &reserve).unwrap();
    assert_eq!(roles(&rig), ["d", "p", "s", "s/t"]);
    rig.operate(None, "one", Step::Unreserve, &reserve).unwrap();
    assert_eq!(roles(&rig), ["p", "s", "s/t"]);
    // A framework, and descendants.
    rig.framework("f", &["s/u/v"]);
    rig.remove_agent("one");
    assert_eq!(roles(&rig), ["s", "s/u", "s/u/v"]);
    rig.remove_client("f", "s/u/v");
    assert_eq!(roles(&rig), [""; 0]);
    assert_eq!(rig.names.len(), names, "and no name is left");
}
