//! Who descends from a keeper: the processes of tasks, whatever they did to get away from it.
//!
//! A keeper collects the orphans below it, so what a task started stays below its keeper for as long
//! as that lives. What outlived its keeper is known by its cgroup, which is named after its
//! container, and by the namespace of processes that it is in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use mesita_core::wire::ContainerId;

use super::stat::Stat;

/// Processes above one that are looked at; one that has more above it is a task's.
const ABOVE_MAX: usize = 4096;

/// A container, as its cgroup names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inside {
    /// The first eight bytes of its agent's key.
    pub key: u64,
    /// Which.
    pub container: ContainerId,
}

impl Inside {
    /// The container of `…/<16 hex digits of an agent's key>/<container id>` and whatever is below.
    pub fn of(cgroup: &Path) -> Option<Self> {
        let names: Vec<&str> = cgroup.iter().filter_map(|name| name.to_str()).collect();
        names.windows(2).find_map(|pair| {
            let is_key = pair[0].len() == 16 && pair[0].bytes().all(|b| b.is_ascii_hexdigit());
            let key = u64::from_str_radix(pair[0], 16).ok().filter(|_| is_key)?;
            Some(Self { key, container: ContainerId::parse(pair[1])? })
        })
    }
}

/// Every process below a keeper, whosever it is. Reads all of `/proc`.
pub fn descendants_of_keepers() -> BTreeSet<u32> {
    let mut children = BTreeMap::<u32, Vec<u32>>::new();
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Some(stat) = Stat::of(pid) else { continue };
        children.entry(stat.parent).or_default().push(pid);
        if stat.is_keeper {
            left.push(pid);
        }
    }
    let mut below = BTreeSet::new();
    while let Some(pid) = left.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            below.insert(child);
            left.push(child);
        }
    }
    below
}

/// True when a process is in no task but those that this process, a keeper, is in itself: an agent
/// may be a task of another one. False when that cannot be told.
pub(super) fn is_no_task_of_ours(pid: u32) -> bool {
    let told = |pid| Some((keepers_above(pid)?, containers(pid), depth(pid)));
    let (Some(own), Some(of)) = (told(std::process::id()), told(pid)) else { return false };
    of.0.is_subset(&own.0) && of.1.is_subset(&own.1) && of.2 == own.2
}

/// The keepers among those that a process descends from; none when it is gone.
fn keepers_above(pid: u32) -> Option<BTreeSet<u32>> {
    let mut keepers = BTreeSet::new();
    let (mut at, mut stat) = (pid, Stat::of(pid)?);
    for _ in 0..ABOVE_MAX {
        match Stat::of(stat.parent) {
            Some(parent) => {
                if parent.is_keeper {
                    keepers.insert(stat.parent);
                }
                (at, stat) = (stat.parent, parent);
            }
            None => {
                // Gone, and its children are somebody else's now; or this user may not see it.
                let again = Stat::of(at)?;
                if again.parent == stat.parent {
                    return Some(keepers);
                }
                stat = again;
            }
        }
    }
    None
}

/// The containers that a process is in by its cgroups.
fn containers(pid: u32) -> BTreeSet<Inside> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.filter_map(|path| Inside::of(Path::new(path))).collect()
}

/// How many namespaces of processes a process is in, of those that this one can see.
fn depth(pid: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.unwrap_or_default().split_ascii_whitespace().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_of_containers_are_known_by_their_path() {
        for path in ["/sys/fs/cgroup/mesita/0011223344556677/1-2", "/x/m/aabbccddeeff0011/a-ff/sub"]
        {
            assert!(Inside::of(Path::new(path)).is_some(), "{path}");
        }
        for path in ["/sys/fs/cgroup/user.slice", "/x/mesita/0011223344556677/self", "/x/1-2"] {
            assert_eq!(Inside::of(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn a_process_that_is_gone_or_in_a_namespace_of_its_own_is_not_let_in() {
        let own = std::process::id();
        assert!(is_no_task_of_ours(own));
        assert_eq!(depth(own), 1);
        assert!(!is_no_task_of_ours(u32::MAX));
    }
}
