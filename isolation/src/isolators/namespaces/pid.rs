//! `namespaces/pid`: a task sees its own processes alone, and they all end with it.
//!
//! It gets a mount namespace as well, for a `/proc` that shows the same. What the kernel lets the
//! keeper make was found out by the keeper when it started; an ordinary user needs a user namespace
//! around them.
//!
//! Files of `/proc` and `/sys` that tell of the whole machine are hidden, and what changes it is
//! read-only, cgroups as well, for a task of root too. Who asks for the processes of the agent
//! (`share_pid_namespace`) is refused, as by Mesos with `--disallow_sharing_agent_pid_namespace`. Tasks of
//! a group that ask for those of their executor have one namespace in common, which nobody else is in. A
//! container inside of another has processes of its own, within that one's, unless it asks for them;
//! commands of checks and sessions have that one's.

use std::path::Path;

use crate::host;
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::Wall;

/// What it does.
pub(crate) const ABOUT: &str = "processes, mounts and /proc of its own; nothing outlives the task";

/// What tells of the machine, or of others on it.
const HIDDEN: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/sys/firmware",
    "/sys/kernel/debug",
];
/// What changes the machine.
const READ_ONLY: [&str; 6] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys"];

#[derive(Debug)]
struct Pid {
    namespaces: Namespaces,
    /// What is inside of others can have processes of its own, or in common. An older keeper cannot.
    parts: bool,
    walls: Vec<Wall>,
}

/// What there is to be hidden and kept from being written here. An older keeper cannot.
fn masks(ground: &Ground<'_>) -> Vec<Wall> {
    if ground.require_walls().is_err() {
        return Vec::new();
    }
    let text = |path: &str| std::ffi::CString::new(path).unwrap_or_default();
    let there = |path: &&str| ground.sys.exists(Path::new(path));
    let hidden = HIDDEN.into_iter().filter(there).map(|path| Wall::Hidden { path: text(path) });
    let kept = READ_ONLY.into_iter().filter(there);
    hidden.chain(kept.map(|path| Wall::ReadOnly { path: text(path) })).collect()
}

/// It is about what the `/proc` of a process shows anew.
fn is_of_proc(wall: &Wall) -> bool {
    let (Wall::Hidden { path } | Wall::ReadOnly { path }) = wall else { return false };
    path.to_bytes().starts_with(b"/proc/")
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    let namespaces = ground.require_namespaces()?;
    let parts = ground.options.keeper_version >= host::SINCE;
    Ok(Box::new(Pid { namespaces, parts, walls: masks(ground) }))
}

impl Isolator for Pid {
    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        if limits.shares_processes {
            let Some(of) = container.at.inside.filter(|_| self.parts) else {
                return Err(container.refuses_to_share("processes"));
            };
            additions.walls.push(Wall::Group { of });
        }
        additions.namespaces = self.namespaces;
        additions.walls.extend(self.walls.iter().cloned());
        Ok(())
    }

    fn beside(&self, limits: &TaskLimits, additions: &mut Additions) -> Result<(), Error> {
        if self.parts && !limits.shares_processes {
            additions.walls.push(Wall::Processes);
            // The rest of the machine's is hidden where it begins.
            additions.walls.extend(self.walls.iter().filter(|wall| is_of_proc(wall)).cloned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::At;
    use crate::isolation::tests::{CONTAINER, isolation, options};
    use crate::isolation::{Isolation, NotHere};
    use crate::keeper::protocol::{Step, Trouble};
    use crate::sys::fake::Fake;

    #[test]
    fn an_older_keeper_is_asked_for_nothing_that_it_does_not_know() {
        let sys = Fake::bare();
        let own = Some(&["namespaces/pid"][..]);
        let old = crate::Options { keeper_version: host::SINCE - 1, ..options(own) };
        let (isolation, _) = Isolation::new(&old, &sys).unwrap();
        let inside = At { id: CONTAINER, inside: Some(CONTAINER) };
        let shares = TaskLimits { shares_processes: true, ..TaskLimits::default() };
        assert!(isolation.prepare(inside, &shares).is_err());
        let beside = isolation.beside(CONTAINER, &TaskLimits::default()).unwrap();
        assert!(!beside.additions.walls.contains(&Wall::Processes));
    }

    #[test]
    fn a_task_gets_what_the_keeper_could_make() {
        let sys = Fake::bare();
        let isolation = isolation(&sys, &["namespaces/pid"]);
        let prepared = isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap();
        let expected = Namespaces { user: false, pid: true, mount: true };
        assert_eq!(prepared.additions.namespaces, expected);
        let shares = TaskLimits { shares_processes: true, ..TaskLimits::default() };
        let refused = isolation.prepare(CONTAINER, &shares).unwrap_err().to_string();
        assert!(refused.contains("to share the processes of its agent"), "{refused}");
        let grouped = At { inside: Some(CONTAINER), ..At::from(CONTAINER) };
        let prepared = isolation.prepare(grouped, &shares).unwrap();
        assert_eq!(prepared.additions.namespaces, expected);
        assert_eq!(prepared.additions.walls, [Wall::Group { of: CONTAINER }]);
        let prepared = isolation.prepare(grouped, &TaskLimits::default()).unwrap();
        assert_eq!(prepared.additions.walls, []);
    }

    #[test]
    fn who_is_beside_a_task_has_what_it_has_or_processes_within_its() {
        let sys = Fake::bare();
        sys.put("/proc/kcore", "");
        sys.put("/sys/firmware", "");
        let isolation = isolation(&sys, &["namespaces/pid"]);
        let beside = |shares_processes| {
            let limits = TaskLimits { shares_processes, ..TaskLimits::default() };
            isolation.beside(CONTAINER, &limits).unwrap().additions.walls
        };
        assert_eq!(beside(true), []);
        let hidden = Wall::Hidden { path: c"/proc/kcore".into() };
        assert_eq!(beside(false), [Wall::Processes, hidden]);
    }

    #[test]
    fn what_is_there_to_be_hidden_is_and_what_is_not_is_left_alone() {
        let sys = Fake::bare();
        sys.put("/proc/kcore", "");
        sys.put("/proc/sysrq-trigger", "");
        let isolation = isolation(&sys, &["namespaces/pid"]);
        let prepared = isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap();
        let hidden = Wall::Hidden { path: c"/proc/kcore".into() };
        let kept = Wall::ReadOnly { path: c"/proc/sysrq-trigger".into() };
        assert_eq!(prepared.additions.walls, [hidden, kept]);
    }

    #[test]
    fn a_keeper_that_could_make_none_is_degradation_unless_the_isolator_was_named() {
        let sys = Fake::bare();
        let mut options = options(None);
        options.namespaces = Namespaces::default();
        let trouble = |step| Some(Trouble { step, errno: libc::EPERM });
        options.namespaces_trouble = trouble(Step::Clone);
        let (isolation, degraded) = Isolation::new(&options, &sys).unwrap();
        assert!(!isolation.names().contains(&"namespaces/pid"));
        let degraded = degraded.iter().find(|of| of.isolator == "namespaces/pid").unwrap();
        assert!(degraded.to_string().contains("user.max_user_namespaces"), "{degraded}");
        options.namespaces_trouble = trouble(Step::Proc);
        let (_, degraded) = Isolation::new(&options, &sys).unwrap();
        let degraded = degraded.iter().find(|of| of.isolator == "namespaces/pid").unwrap();
        assert!(degraded.to_string().contains("mounted over parts of /proc"), "{degraded}");
        options.isolators = Some(vec!["namespaces/pid".to_owned()]);
        let refused = Isolation::new(&options, &sys).unwrap_err();
        assert!(matches!(refused, NotHere::Unusable { .. }), "{refused}");
    }
}
