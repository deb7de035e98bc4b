//! `namespaces/ipc`: System V objects, POSIX queues and shared memory of the task's own, which end
//! with it. Tasks of a group have them in common, as with Mesos, unless they ask for their own.
//!
//! What is in `/dev/shm` counts towards the memory of the task, as far as anything does, and is no
//! more than it asks for, than `--default-container-shm-size`, or than its memory. Mesos:
//! `LinuxInfo.shm_size`; there it is half of the machine's memory unless it is said.

use super::require;
use crate::isolators::{
    self, Additions, Cap, Container, Error, Ground, Isolator, TaskLimits, Unusable,
};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::{Kind, Wall};

/// What it does.
pub(crate) const ABOUT: &str =
    "System V objects, POSIX message queues and a /dev/shm of its own, no larger than its memory";

/// Bytes of shared memory of a task that is not limited.
const UNLIMITED: u64 = 64 << 20;

#[derive(Debug)]
struct Ipc {
    namespaces: Namespaces,
    /// Tasks of a group have it in common.
    shares: bool,
    /// `--default-container-shm-size`.
    default: Option<u64>,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    require(ground, "/proc/self/ns/ipc", "namespaces of IPC")?;
    let namespaces = ground.require_mounts()?;
    let shares = super::shares(ground, namespaces);
    Ok(Box::new(Ipc { namespaces, shares, default: ground.options.default_shm_bytes }))
}

impl Isolator for Ipc {
    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        let own = limits.ipc == Some(isolators::Ipc::Private) || limits.shm_bytes.is_some();
        let common = super::in_common(container, Kind::Ipc).filter(|_| self.shares && !own);
        if limits.ipc == Some(isolators::Ipc::Parent) && common.is_none() {
            return Err(container.refuses_to_share("IPC"));
        }
        let memory = match limits.mem_limit {
            Some(Cap::At(bytes)) => Some(bytes),
            Some(Cap::Unlimited) => None,
            None => Some(limits.mem_bytes).filter(|bytes| *bytes > 0),
        };
        let bytes = limits.shm_bytes.or(self.default).or(memory).unwrap_or(UNLIMITED);
        additions.namespaces = self.namespaces;
        // To the kernel none is no bound at all.
        additions.walls.extend([Wall::Ipc, Wall::Shm { bytes: bytes.max(1) }]);
        additions.walls.extend(common);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation, options};
    use crate::sys::fake::Fake;
    use crate::{Isolation, Options};

    #[test]
    fn ipc_of_its_own_is_what_it_gets_and_that_of_its_agent_is_refused() {
        let sys = Fake::bare();
        let asking = |names: &[&str], ipc| {
            let limits = TaskLimits { ipc: Some(ipc), ..TaskLimits::default() };
            let prepared = isolation(&sys, names).prepare(CONTAINER, &limits);
            prepared.map(|prepared| prepared.additions.walls).map_err(|error| error.to_string())
        };
        let on = &["namespaces/ipc"];
        assert_eq!(asking(on, isolators::Ipc::Private).unwrap()[0], Wall::Ipc);
        let refused = asking(on, isolators::Ipc::Parent).unwrap_err();
        assert!(refused.contains("to share the IPC of its agent"), "{refused}");
        // Where the isolator is off all of them share it.
        let off = &["linux/nnp"];
        assert_eq!(asking(off, isolators::Ipc::Parent).unwrap(), []);
        let refused = asking(off, isolators::Ipc::Private).unwrap_err();
        assert!(refused.starts_with("namespaces/ipc: the task asks for"), "{refused}");
    }

    #[test]
    fn shared_memory_is_as_asked_for_or_as_the_flag_says_or_as_the_memory() {
        let sys = Fake::bare();
        let bytes = |default_shm_bytes, limits: TaskLimits| {
            let options = Options { default_shm_bytes, ..options(Some(&["namespaces/ipc"])) };
            let (isolation, _) = Isolation::new(&options, &sys).unwrap();
            let walls = isolation.prepare(CONTAINER, &limits).unwrap().additions.walls;
            let [Wall::Ipc, Wall::Shm { bytes }] = walls[..] else { panic!("{walls:?}") };
            bytes
        };
        let asks = TaskLimits { mem_bytes: 32, shm_bytes: Some(7), ..TaskLimits::default() };
        assert_eq!(bytes(Some(9), asks.clone()), 7);
        let plain = TaskLimits { shm_bytes: None, ..asks };
        assert_eq!(bytes(Some(9), plain.clone()), 9);
        assert_eq!(bytes(None, plain.clone()), 32);
        assert_eq!(bytes(None, TaskLimits { mem_limit: Some(Cap::At(64)), ..plain.clone() }), 64);
        let unlimited = TaskLimits { mem_limit: Some(Cap::Unlimited), ..plain.clone() };
        assert_eq!(bytes(None, unlimited), UNLIMITED);
        assert_eq!(bytes(None, TaskLimits::default()), UNLIMITED);
        let none = TaskLimits { shm_bytes: Some(0), ..plain.clone() };
        assert_eq!(bytes(Some(9), none), 1);
        assert_eq!(bytes(Some(0), plain.clone()), 1);
        assert_eq!(bytes(None, TaskLimits { mem_limit: Some(Cap::At(0)), ..plain }), 1);
    }
}
