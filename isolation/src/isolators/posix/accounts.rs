//! What the processes of a container use, by `/proc`: for whoever has no cgroups.
//!
//! The container's are its process, those of its session, and all below them. Who left its session and
//! was orphaned is not seen, nor is what has ended and was not waited for.

use std::collections::BTreeSet;
use std::path::Path;

use crate::keeper::stat::TICK_US;
use crate::sys::Sys;

/// Processes of a machine that are looked at.
const PROCESSES_MAX: usize = 65_536;

/// What a container's processes use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts {
    pub(super) user_us: u64,
    pub(super) system_us: u64,
    pub(super) rss_bytes: u64,
    pub(super) processes: u64,
    pub(super) threads: u64,
}

/// One process, as `/proc/<pid>/stat` has it.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: u32,
    parent: u32,
    session: u32,
    /// Ticks in user mode and in the kernel, of those it waited for as well.
    ticks: [u64; 2],
    threads: u64,
    pages: u64,
}

/// Reads a line of `pid (name) state parent group session ...`; a name may hold anything.
fn read(pid: u32, stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let small = |at: usize| u32::try_from(number(at)?).ok();
    Some(Process {
        pid,
        parent: small(1)?,
        session: small(3)?,
        ticks: [number(11)? + number(13)?, number(12)? + number(14)?],
        threads: number(17)?,
        pages: number(21)?,
    })
}

/// The processes of the container of this process.
pub(crate) fn inside(sys: &dyn Sys, pid: u32) -> Vec<u32> {
    all_inside(sys, pid).iter().map(|process| process.pid).collect()
}

fn all_inside(sys: &dyn Sys, pid: u32) -> Vec<Process> {
    let proc = Path::new("/proc");
    let names = sys.children(proc).unwrap_or_default();
    let pids = names.iter().filter_map(|name| name.parse().ok()).take(PROCESSES_MAX);
    let mut all: Vec<Process> = pids
        .filter_map(|pid: u32| read(pid, &sys.read(&proc.join(format!("{pid}/stat"))).ok()?))
        .collect();
    // Parents mostly have the smaller numbers; those that do not are found in another round.
    let mut inside = BTreeSet::from([pid]);
    loop {
        let before = inside.len();
        for process in &all {
            if process.session == pid || inside.contains(&process.parent) {
                inside.insert(process.pid);
            }
        }
        if inside.len() == before {
            break;
        }
    }
    all.retain(|process| inside.contains(&process.pid));
    all
}

/// What the container of this process uses; none if it is gone.
pub(super) fn of(sys: &dyn Sys, pid: u32) -> Option<Accounts> {
    let all = all_inside(sys, pid);
    let page = rustix::param::page_size() as u64;
    (!all.is_empty()).then(|| {
        all.iter().fold(Accounts::default(), |sum, process| Accounts {
            user_us: sum.user_us + process.ticks[0] * TICK_US,
            system_us: sum.system_us + process.ticks[1] * TICK_US,
            rss_bytes: sum.rss_bytes + process.pages * page,
            processes: sum.processes + 1,
            threads: sum.threads + process.threads,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Fake;

    fn put(sys: &Fake, pid: u32, parent: u32, session: u32, ticks: u64) {
        sys.put_directory(&format!("/proc/{pid}"));
        let stat = format!(
            "{pid} (a b) c) S {parent} {session} {session} 0 -1 0 0 0 0 0 {ticks} 1 2 0 20 0 2 0 5 0 3 0"
        );
        sys.put(&format!("/proc/{pid}/stat"), &stat);
    }

    #[test]
    fn a_process_its_session_and_all_below_are_counted_and_others_are_not() {
        let sys = Fake::bare();
        sys.put_directory("/proc");
        put(&sys, 70, 50, 70, 10);
        put(&sys, 71, 1, 70, 1);
        put(&sys, 60, 70, 60, 1);
        put(&sys, 61, 60, 61, 1);
        put(&sys, 80, 50, 80, 1000);
        let accounts = of(&sys, 70).unwrap();
        assert_eq!((accounts.processes, accounts.threads), (4, 8));
        assert_eq!(accounts.user_us, (13 + 4 * 2) * TICK_US);
        assert_eq!(accounts.system_us, 4 * TICK_US);
        assert_eq!(accounts.rss_bytes, 12 * rustix::param::page_size() as u64);
        assert_eq!(of(&sys, 99), None);
    }
}
