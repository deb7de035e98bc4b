//! Isolators that part a task's view from the host's.

pub(crate) mod cgroup;
pub(crate) mod ipc;
pub(crate) mod net;
pub(crate) mod pid;
pub(crate) mod range;
pub(crate) mod user;
pub(crate) mod uts;

use super::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::Wall;

/// A namespace that comes along with those of processes and mounts, whose process 1 holds it open
/// for whoever is started beside the task.
#[derive(Debug)]
pub(super) struct Along {
    namespaces: Namespaces,
    walls: Vec<Wall>,
}

impl Along {
    pub(super) fn make(ground: &Ground<'_>, wall: Wall) -> Result<Box<dyn Isolator>, Unusable> {
        ground.require_walls()?;
        let mut walls = vec![wall];
        if walls.contains(&Wall::Network) {
            walls.extend(other_networks(ground));
        }
        Ok(Box::new(Self { namespaces: ground.require_namespaces()?, walls }))
    }
}

impl Isolator for Along {
    fn prepare(
        &self,
        _: &Container<'_>,
        _: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        additions.namespaces = self.namespaces;
        additions.walls.extend_from_slice(&self.walls);
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
