//! Isolators that part a task's view from the host's.

pub(crate) mod cgroup;
pub(crate) mod ipc;
pub(crate) mod net;
pub(crate) mod pid;
pub(crate) mod range;
pub(crate) mod user;
pub(crate) mod uts;

use super::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::{Namespaces, WAITS_SINCE};
use crate::keeper::wall::{Kind, Wall};

/// Whether tasks of a group have something in common here: an older keeper has none of that, and who has
/// users of its own enters nothing of others.
fn shares(ground: &Ground<'_>, namespaces: Namespaces) -> bool {
    !namespaces.user && ground.options.keeper_version >= WAITS_SINCE
}

/// What a task has in common with the others of its group, if it is in one.
fn in_common(container: &Container<'_>, kind: Kind) -> Option<Wall> {
    container.at.inside.map(|of| Wall::Common { of, kind })
}

/// A namespace that comes along with those of processes and mounts, whose process 1 holds it open
/// for whoever is started beside the task.
#[derive(Debug)]
pub(super) struct Along {
    namespaces: Namespaces,
    walls: Vec<Wall>,
    /// What tasks of a group have in common of it.
    common: Option<Kind>,
}

impl Along {
    pub(super) fn make(ground: &Ground<'_>, wall: Wall) -> Result<Box<dyn Isolator>, Unusable> {
        ground.require_walls()?;
        let mut walls = vec![wall];
        let mut common = None;
        let namespaces = ground.require_namespaces()?;
        if walls.contains(&Wall::Network) {
            walls.extend(other_networks(ground));
            common = Some(Kind::Network).filter(|_| shares(ground, namespaces));
        }
        Ok(Box::new(Self { namespaces, walls, common }))
    }
}

impl Isolator for Along {
    fn prepare(
        &self,
        container: &Container<'_>,
        _: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        additions.namespaces = self.namespaces;
        additions.walls.extend_from_slice(&self.walls);
        additions.walls.extend(self.common.and_then(|kind| in_common(container, kind)));
        Ok(())
    }
}

/// Where `/sys` lists the interfaces of the network that it was mounted in: that of the host.
const NETWORKS: [&str; 2] = ["/sys/class/net", "/sys/devices/virtual/net"];

/// What of `/sys` is hidden from who has a network of its own.
pub(super) fn other_networks(ground: &Ground<'_>) -> Vec<Wall> {
    let there = NETWORKS.into_iter().filter(|path| ground.sys.exists(std::path::Path::new(path)));
    let text = |path| std::ffi::CString::new(path).unwrap_or_default();
    there.map(|path| Wall::Hidden { path: text(path) }).collect()
}

/// The kernel has such namespaces.
pub(super) fn require(ground: &Ground<'_>, file: &str, what: &'static str) -> Result<(), Unusable> {
    let exists = ground.sys.exists(std::path::Path::new(file));
    if exists { Ok(()) } else { Err(Unusable::Kernel(what)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation, options};
    use crate::isolation::{Isolation, NotHere};
    use crate::sys::fake::Fake;

    #[test]
    fn each_comes_with_a_process_1_that_holds_it() {
        let sys = Fake::bare();
        for (name, wall) in [
            ("namespaces/uts", Wall::Uts { hostname: c"".into() }),
            ("namespaces/cgroup", Wall::Cgroup),
            ("network/none", Wall::Network),
        ] {
            let isolation = isolation(&sys, &[name]);
            let prepared = isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap();
            assert!(prepared.additions.namespaces.pid && prepared.additions.namespaces.mount);
            assert_eq!(prepared.additions.walls, [wall]);
            assert_eq!(
                isolation.beside(CONTAINER, &TaskLimits::default()).unwrap().additions,
                Additions::default()
            );
        }
    }

    #[test]
    fn tasks_of_a_group_have_in_common_what_they_do_not_ask_for_as_their_own() {
        use crate::isolators::Ipc;
        use Kind::{Network, Uts};
        let sys = Fake::bare();
        let at = crate::cgroups::At { inside: Some(CONTAINER), ..CONTAINER.into() };
        let names = ["namespaces/ipc", "namespaces/uts", "namespaces/cgroup", "network/none"];
        let common = |options: &crate::Options, limits: TaskLimits| -> Vec<Kind> {
            let (isolation, _) = Isolation::new(options, &sys).unwrap();
            let kinds = |at: crate::cgroups::At| -> Vec<Kind> {
                let walls = isolation.prepare(at, &limits).unwrap().additions.walls;
                let common = walls.iter().filter_map(|wall| {
                    let Wall::Common { of, kind } = wall else { return None };
                    assert_eq!(*of, CONTAINER);
                    Some(*kind)
                });
                common.collect()
            };
            if limits.ipc != Some(Ipc::Parent) {
                assert_eq!(kinds(CONTAINER.into()), []);
            }
            kinds(at)
        };
        let own = options(Some(&names));
        let plain = TaskLimits::default();
        assert_eq!(common(&own, plain.clone()), [Kind::Ipc, Uts, Network]);
        let shares = TaskLimits { ipc: Some(Ipc::Parent), ..plain.clone() };
        assert_eq!(common(&own, shares.clone()), [Kind::Ipc, Uts, Network]);
        for limits in [
            TaskLimits { ipc: Some(Ipc::Private), ..plain.clone() },
            TaskLimits { shm_bytes: Some(1), ..plain.clone() },
        ] {
            assert_eq!(common(&own, limits), [Uts, Network]);
        }
        let named = TaskLimits { hostname: Some("db".to_owned()), ..plain.clone() };
        assert_eq!(common(&own, named), [Kind::Ipc, Network]);
        // Who has users of its own, and whose keeper is older, has all of its own.
        let namespaces = Namespaces { user: true, ..own.namespaces };
        let user = crate::Options { namespaces, ..own.clone() };
        let older = crate::Options { keeper_version: WAITS_SINCE - 1, ..own };
        for options in [user, older] {
            assert_eq!(common(&options, plain.clone()), []);
            let (isolation, _) = Isolation::new(&options, &sys).unwrap();
            let refused = isolation.prepare(at, &shares).unwrap_err().to_string();
            assert!(refused.contains("IPC of its group's executor"), "{refused}");
        }
    }

    #[test]
    fn who_has_a_network_of_its_own_is_shown_no_other() {
        let sys = Fake::bare();
        sys.put("/sys/class/net", "");
        let walls = |name: &str| {
            let isolation = isolation(&sys, &[name]);
            isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap().additions.walls
        };
        let hidden = Wall::Hidden { path: c"/sys/class/net".into() };
        assert_eq!(walls("network/none"), [Wall::Network, hidden.clone()]);
        assert!(walls("namespaces/net").contains(&hidden));
        assert!(!walls("namespaces/ipc").contains(&hidden));
    }

    #[test]
    fn a_keeper_of_an_earlier_release_has_none_and_says_so() {
        let sys = Fake::bare();
        let options = crate::Options { keeper_version: 2, ..options(Some(&["namespaces/ipc"])) };
        let refused = Isolation::new(&options, &sys).unwrap_err();
        let expected = NotHere::Unusable { isolator: "namespaces/ipc", why: Unusable::OldKeeper };
        assert_eq!(refused, expected);
        let lacks = Fake::bare();
        lacks.forget("/proc/self/ns/ipc");
        let options = crate::Options { keeper_version: 3, ..options };
        let refused = Isolation::new(&options, &lacks).unwrap_err().to_string();
        assert_eq!(refused, "isolator namespaces/ipc: the kernel has no namespaces of IPC");
    }
}
