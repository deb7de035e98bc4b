//! Tasks whose keeper died: nobody will learn how they end, so they have to end now.
//!
//! Where a container has cgroups, killing what is in them says it all. Where it has none, its
//! processes are known by their session, and the session by its leader, whose number was written
//! down together with the time of its birth: a number that is used again has another birth.

use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use super::protocol::Left;
use super::stat::{Stat, TICK_US};
use crate::sys::{self, Linux, Sys};

/// Rounds of killing and waiting, and the longest wait of each in ms.
const ROUNDS: u32 = 100;
const WAIT_MS: u32 = 50;

/// Kills what a dead keeper left of a container without cgroups, and waits until it is gone.
///
/// True when nothing of it is alive. A leader that is gone proves nothing about the rest of its
/// session, which is then left alone: rather a stray process than a stranger killed. In a pid
/// namespace nothing outlives its keeper anyway.
pub fn end_left(left: &Left) -> bool {
    if !is_there(left) {
        return true;
    }
    for _ in 0..ROUNDS {
        let mut members = session(left.pid);
        if !members.contains(&left.pid) && is_there(left) {
            // It was about to make its session.
            members.push(left.pid);
        }
        if members.is_empty() {
            return true;
        }
        // The leader last: as long as it is there, the session's number is the task's.
        for &member in members.iter().filter(|&&pid| pid != left.pid) {
            end(member, || is_member(member, left.pid));
        }
        if members == [left.pid] {
            end(left.pid, || is_there(left));
        }
        Linux.wait(&members, WAIT_MS);
    }
    false
}

/// True when the process with the leader's number is the one that was started, and lives.
fn is_there(left: &Left) -> bool {
    let born = left.from_us / TICK_US..=left.to_us / TICK_US;
    Stat::of(left.pid).is_some_and(|stat| stat.state != 'Z' && born.contains(&stat.born))
}

/// The living processes of a session.
fn session(of: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| is_member(pid, of)).collect()
}

fn is_member(pid: u32, of: u32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.session == of && stat.state != 'Z')
}

/// Kills one process, if it still is the one once it cannot be mistaken any more.
fn end(pid: u32, is_the_one: impl FnOnce() -> bool) {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    match pidfd_open(number, PidfdFlags::empty()) {
        Ok(process) if is_the_one() => {
            let _ = pidfd_send_signal(&process, rustix::process::Signal::KILL);
        }
        Ok(_) | Err(rustix::io::Errno::SRCH) => {}
        // Kernels before 5.3.
        Err(_) => {
            let _ = sys::kill(number.as_raw_nonzero().get(), libc::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesita_core::wire::ContainerId;
    use std::process::{Child, Command};

    fn left(child: &Child, from_us: u64) -> Left {
        let container = ContainerId { incarnation: 1, counter: 1 };
        let to_us = sys::boottime_us();
        Left { container, attempt: 0, pid: child.id(), from_us, to_us }
    }

    /// A session of two.
    fn start() -> (Child, Left) {
        let from_us = sys::boottime_us();
        let child = Command::new("setsid").args(["sh", "-c", "sleep 600 & wait"]).spawn();
        let child = child.unwrap();
        let left = left(&child, from_us);
        for _ in 0..500 {
            if session(child.id()).len() == 2 {
                break;
            }
            Linux.wait(&[], 10);
        }
        assert_eq!(session(child.id()).len(), 2);
        (child, left)
    }

    #[test]
    fn the_whole_session_of_a_left_task_ends() {
        let (mut child, left) = start();
        assert!(end_left(&left));
        assert!(session(left.pid).is_empty());
        child.wait().unwrap();
    }

    #[test]
    fn a_number_that_is_used_again_is_left_alone() {
        let (mut child, left) = start();
        // One that was there when the machine had just been started.
        let other = Left { from_us: 0, to_us: 1, ..left };
        assert!(end_left(&other), "whoever that is, it is not the task");
        assert_eq!(session(left.pid).len(), 2);
        assert!(end_left(&left));
        child.wait().unwrap();
    }
}
