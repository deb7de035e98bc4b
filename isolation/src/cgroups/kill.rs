//! Emptying cgroups and removing them.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{keyed, pids, words};
use crate::sys::{Failure, Limit, Sys, Version};

/// Rounds of killing and waiting, and the longest wait of each in ms: 10 s in all.
const ROUNDS: u32 = 100;
const WAIT_MS: u32 = 100;
/// Attempts to remove a cgroup whose last process is about to be gone, and ms between them: at first it
/// is likely to be gone sooner.
const REMOVALS: u32 = 100;
const REMOVAL_MS: u32 = 10;
/// Directories below one container's that are looked at.
const NESTED_MAX: usize = 1024;

/// Processes that a SIGKILL did not end in time: they wait for a device or a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Where they are.
    pub directory: PathBuf,
    /// Which.
    pub pids: Vec<u32>,
}

impl fmt::Display for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.display();
        write!(f, "processes in {directory} do not end, killed as they were:")?;
        self.pids.iter().try_for_each(|pid| write!(f, " {pid}"))
    }
}

impl std::error::Error for Alive {}

/// Kills everything in a container's `directories`, one of each hierarchy, until they are empty.
///
/// Takes as long as the processes do, at most 10 s. Those that do not exist are empty.
pub fn kill(sys: &dyn Sys, directories: &[PathBuf]) -> Result<(), Alive> {
    for _ in 0..ROUNDS {
        match kill_once(sys, directories) {
            Killed::All => return Ok(()),
            Killed::AtOnce(unified) => sys.wait_events(unified, WAIT_MS),
            Killed::Each(pids) => sys.wait(&pids, WAIT_MS),
        }
    }
    let pids = members(sys, directories);
    Err(Alive { directory: directories.first().cloned().unwrap_or_default(), pids })
}

/// What one round of killing did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Killed<'d> {
    /// Nothing is left.
    All,
    /// All in this directory were killed by one write, which no fork escapes (Linux 5.14).
    AtOnce(&'d Path),
    /// These were, one by one.
    Each(Vec<u32>),
}

/// One round of [`kill`], which waits for nothing.
pub(crate) fn kill_once<'d>(sys: &dyn Sys, directories: &'d [PathBuf]) -> Killed<'d> {
    let alive = members(sys, directories);
    match directories.iter().find(|at| populated(sys, at)) {
        // Nobody is listed any more, but somebody is still giving up memory.
        Some(unified) if alive.is_empty() => Killed::AtOnce(unified),
        Some(unified) if sys.write(&unified.join("cgroup.kill"), "1").is_ok() => {
            Killed::AtOnce(unified)
        }
        None if alive.is_empty() => Killed::All,
        Some(_) | None => {
            kill_each(sys, directories, &alive);
            Killed::Each(alive)
        }
    }
}

/// Removes a container's `directories` and what its processes made below them. They must be empty;
/// the kernel may take a moment to notice.
pub fn remove(sys: &dyn Sys, directories: &[PathBuf]) -> Result<(), Failure> {
    let mut all = directories.iter().flat_map(|directory| nested(sys, directory));
    all.try_for_each(|directory| remove_one(sys, &directory))
}

fn remove_one(sys: &dyn Sys, directory: &Path) -> Result<(), Failure> {
    let mut result = sys.remove(directory);
    for attempt in 0..REMOVALS {
        match &result {
            Err(failure) if failure.errno == libc::EBUSY => {
                sys.wait(&[], REMOVAL_MS.min(1 << attempt.min(REMOVAL_MS)));
            }
            Ok(()) | Err(_) => break,
        }
        result = sys.remove(directory);
    }
    result
}

/// Removes a directory that an agent used beside others, unless others use it still. If it is a v2
/// leaf that this process is in, those in it move out first.
pub fn leave(sys: &dyn Sys, directory: &Path) -> Result<(), Failure> {
    if sys.children(directory).is_ok_and(|children| !children.is_empty()) {
        return Ok(());
    }
    let procs = sys.read(&directory.join("cgroup.procs")).unwrap_or_default();
    if let Some(above) = directory.parent().filter(|_| pids(&procs).any(|pid| pid == sys.pid())) {
        // A cgroup that hands controllers down takes no process back.
        let control = above.join("cgroup.subtree_control");
        for controller in words(&sys.read(&control)?) {
            sys.write(&control, &format!("-{controller}"))?;
        }
        for pid in pids(&procs) {
            sys.write(&above.join("cgroup.procs"), &pid.to_string())?;
        }
    }
    remove_one(sys, directory)
}

/// Stops the container where a freezer can, so that no fork runs ahead of the signals.
fn kill_each(sys: &dyn Sys, directories: &[PathBuf], alive: &[u32]) {
    // Only a freezer of v1, and any cgroup of v2 since Linux 5.2, has such a file.
    let freezers = directories.iter().flat_map(|at| [(at, Version::V1), (at, Version::V2)]);
    let frozen = freezers.into_iter().find(|(at, version)| {
        let freeze = Limit::Frozen(true);
        sys.read(&at.join(freeze.file(*version))).is_ok() && sys.limit(*version, at, freeze).is_ok()
    });
    let stopped = frozen.map(|_| members(sys, directories));
    for &pid in stopped.as_deref().unwrap_or(alive) {
        // Gone meanwhile is what was wanted.
        let _ = sys.signal(pid, libc::SIGKILL);
    }
    if let Some((at, version)) = frozen {
        let _ = sys.limit(version, at, Limit::Frozen(false));
    }
}

/// The processes in any of the directories or below, sorted.
fn members(sys: &dyn Sys, directories: &[PathBuf]) -> Vec<u32> {
    let mut members = Vec::new();
    for directory in directories.iter().flat_map(|directory| nested(sys, directory)) {
        members.extend(pids(&sys.read(&directory.join("cgroup.procs")).unwrap_or_default()));
    }
    members.sort_unstable();
    members.dedup();
    members
}

fn populated(sys: &dyn Sys, directory: &Path) -> bool {
    let events = sys.read(&directory.join("cgroup.events")).unwrap_or_default();
    keyed(&events, "populated") == Some(1)
}

/// A directory and all below it, the innermost first; empty if it does not exist.
fn nested(sys: &dyn Sys, directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut at = 0;
    while let Some(directory) = found.get(at).filter(|_| at < NESTED_MAX).cloned() {
        let children = match sys.children(&directory) {
            Ok(children) => children,
            Err(_) if at == 0 => return Vec::new(),
            Err(_) => Vec::new(),
        };
        found.extend(children.iter().map(|name| directory.join(name)));
        at += 1;
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Fake;
    use std::slice::from_ref;

    fn path(text: &str) -> PathBuf {
        PathBuf::from(text)
    }

    #[test]
    fn one_write_kills_where_the_unified_hierarchy_can() {
        let sys = Fake::v2("/", &[1]);
        let at = path("/sys/fs/cgroup/c");
        sys.make(&at).unwrap();
        sys.put_processes(&at, &[70, 71]);
        assert_eq!(kill(&sys, from_ref(&at)), Ok(()));
        assert!(sys.log().contains(&"write /sys/fs/cgroup/c/cgroup.kill 1".to_owned()));
        assert!(!sys.log().iter().any(|line| line.starts_with("kill")));
        assert_eq!(remove(&sys, from_ref(&at)), Ok(()));
        assert!(sys.children(&at).is_err());
    }

    #[test]
    fn on_v1_everything_is_frozen_first_then_killed_then_thawed() {
        let sys = Fake::v1();
        let directories = [path("/sys/fs/cgroup/memory/c"), path("/sys/fs/cgroup/freezer/c")];
        for directory in &directories {
            sys.make(directory).unwrap();
            sys.put_processes(directory, &[70, 71]);
        }
        assert_eq!(kill(&sys, &directories), Ok(()));
        let log = sys.log();
        let at = |line: &str| log.iter().position(|seen| seen == line).unwrap();
        let frozen = at("write /sys/fs/cgroup/freezer/c/freezer.state FROZEN");
        let thawed = at("write /sys/fs/cgroup/freezer/c/freezer.state THAWED");
        assert!(frozen < at("kill 70 9") && at("kill 71 9") < thawed, "{log:?}");
    }

    #[test]
    fn a_unified_hierarchy_too_old_to_kill_at_least_stops() {
        let sys = Fake::v2("/", &[1]);
        sys.be_old();
        let at = path("/sys/fs/cgroup/c");
        sys.make(&at).unwrap();
        sys.put_processes(&at, &[70]);
        assert_eq!(kill(&sys, from_ref(&at)), Ok(()));
        let expected = [
            "mkdir /sys/fs/cgroup/c",
            "write /sys/fs/cgroup/c/cgroup.freeze 1",
            "kill 70 9",
            "write /sys/fs/cgroup/c/cgroup.freeze 0",
        ];
        assert_eq!(sys.log(), expected);
    }

    #[test]
    fn processes_in_cgroups_that_the_task_made_are_found_and_removed_too() {
        let sys = Fake::v1();
        let (at, deep) = (path("/sys/fs/cgroup/memory/c"), path("/sys/fs/cgroup/memory/c/x/y"));
        for directory in [&at, &path("/sys/fs/cgroup/memory/c/x"), &deep] {
            sys.make(directory).unwrap();
        }
        sys.put_processes(&deep, &[99]);
        assert_eq!(kill(&sys, from_ref(&at)), Ok(()));
        assert!(sys.log().contains(&"kill 99 9".to_owned()));
        assert_eq!(remove(&sys, from_ref(&at)), Ok(()));
        assert!(sys.children(&at).is_err());
    }

    #[test]
    fn a_process_that_does_not_die_is_named_after_a_bounded_time() {
        let sys = Fake::v1();
        let at = path("/sys/fs/cgroup/memory/c");
        sys.make(&at).unwrap();
        sys.put_processes(&at, &[70]);
        sys.make_immortal(70);
        let alive = kill(&sys, from_ref(&at)).unwrap_err();
        assert_eq!(alive, Alive { directory: at, pids: vec![70] });
        assert!(alive.to_string().ends_with("killed as they were: 70"));
    }

    #[test]
    fn what_does_not_exist_is_empty_and_removed() {
        let sys = Fake::v2("/", &[1]);
        let at = path("/sys/fs/cgroup/none");
        assert_eq!(kill(&sys, from_ref(&at)), Ok(()));
        assert_eq!(remove(&sys, &[at]), Ok(()));
    }

    #[test]
    fn a_directory_that_another_agent_uses_stays_as_it_is() {
        let sys = Fake::v1();
        let (root, theirs) = (path("/sys/fs/cgroup/memory/m"), path("/sys/fs/cgroup/memory/m/k"));
        sys.make(&root).unwrap();
        sys.make(&theirs).unwrap();
        assert_eq!(leave(&sys, &root), Ok(()));
        assert_eq!(sys.children(&root), Ok(vec!["k".to_owned()]));
        assert_eq!(leave(&sys, &theirs), Ok(()));
        assert_eq!(leave(&sys, &root), Ok(()));
        assert!(sys.children(&root).is_err());
    }

    #[test]
    fn the_last_process_of_a_leaf_leaves_it_before_it_goes() {
        let sys = Fake::v2("/a.service", &[50, 51]);
        let controllers = &super::super::Controller::ALL;
        let wanted = super::super::Wanted { root: "mesita", key: "k", keeper: 51, controllers };
        let (found, _) = super::super::Cgroups::find(&sys, wanted);
        let [ours, above, leaf] = &found.to_remove()[..] else { panic!("{found:?}") };
        sys.end_process(51);
        remove(&sys, &[ours.clone(), above.clone()]).unwrap();
        assert_eq!(leave(&sys, leaf), Ok(()));
        assert_eq!(sys.children(Path::new("/sys/fs/cgroup/a.service")), Ok(Vec::new()));
    }
}
