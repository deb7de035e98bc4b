//! The machine itself: kernel, clock, entropy, privilege, stacked file systems.

use mesita_isolation::machine::{self, Swap};
use mesita_isolation::sys::{Linux, Sys};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{Finding, State};
use crate::clock;
use crate::flags::Holds;

/// No clock that was ever set is before this release: 2026-01-01, in seconds of Unix time.
const RELEASED_S: u64 = 1_767_225_600;

pub(super) fn all(holds: &Holds) -> [Finding; 6] {
    let swap = swap(machine::swap(&Linux), holds.cgroups_limit_swap);
    let privilege = privilege(rustix::process::geteuid().is_root());
    [kernel(), privilege, now(), entropy(), overlay(&Linux), swap]
}

/// Whether tasks can be beyond their memory without being killed.
fn swap(swap: Swap, limited: bool) -> Finding {
    let sentence = match (swap, limited) {
        (Swap::None, _) => return Finding::on("swap", "there is none"),
        (Swap::Counted, true) => return Finding::on("swap", "there is some, and none for tasks"),
        (_, false) => {
            "tasks beyond their memory are moved to disk, and the machine gets slow; leave out \
             --cgroups-limit-swap=false"
        }
        (Swap::Uncounted, true) => {
            "the kernel does not count what of a task is there, and moves it there when the machine is \
             short; add `swapaccount=1` to the kernel command line and reboot, or `swapoff -a`"
        }
    };
    Finding::new("swap", State::Degraded, sentence)
}

/// What of it a master lives by.
pub(super) fn of_master() -> [Finding; 3] {
    [kernel(), now(), entropy()]
}

fn kernel() -> Finding {
    let name = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    Finding::on("kernel", format!("{} on {}", text(name.release()), text(name.machine())))
}

fn privilege(is_root: bool) -> Finding {
    if is_root {
        return Finding::on("privilege", "root: tasks run as the users that they name");
    }
    let sentence = "not root: tasks run as this user only; run as root, or as a service of \
                    `mesita install`";
    Finding::new("privilege", State::Degraded, sentence)
}

fn now() -> Finding {
    clock_at(clock::wall_us() / 1_000_000)
}

fn clock_at(seconds: u64) -> Finding {
    if seconds >= RELEASED_S {
        return Finding::on("clock", "set");
    }
    let sentence = format!(
        "it says {}, so nobody has set it, and times in logs and of tasks are wrong; \
         nothing else depends on it. Set it by `timedatectl set-ntp true` or `ntpd -gq`, or give the \
         board a clock that has a battery",
        clock::date(seconds)
    );
    Finding::new("clock", State::Degraded, sentence)
}

fn entropy() -> Finding {
    let mut byte = [0; 1];
    match getrandom(&mut byte, GetRandomFlags::NONBLOCK) {
        Ok(_) => Finding::on("entropy", "the kernel draws random numbers"),
        Err(_) => Finding::new(
            "entropy",
            State::Degraded,
            "the kernel has no random numbers yet, and daemons wait for them; add \
             `random.trust_cpu=on` to the kernel command line, or install rng-tools or haveged",
        ),
    }
}

/// Whether images can be stacked.
fn overlay(sys: &dyn Sys) -> Finding {
    match machine::overlay(sys) {
        Ok(()) => Finding::on("overlayfs", "layers can be stacked"),
        Err(why) => Finding::new("overlayfs", State::Off, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_nobody_set_is_told_with_what_it_says() {
        let unset = clock_at(0);
        assert_eq!(unset.state, State::Degraded);
        assert!(unset.says.contains("1970-01-01") && unset.fix.contains("timedatectl"));
        assert_eq!(clock_at(RELEASED_S - 1).state, State::Degraded);
        assert_eq!(clock_at(RELEASED_S).state, State::On);
    }

    #[test]
    fn swap_is_told_where_tasks_get_there() {
        for (there, limited, state, says) in [
            (Swap::None, false, State::On, "none"),
            (Swap::Counted, true, State::On, "none for tasks"),
            (Swap::Counted, false, State::Degraded, "moved to disk"),
            (Swap::Uncounted, true, State::Degraded, "does not count"),
        ] {
            let found = swap(there, limited);
            assert_eq!((found.state, found.fix.is_empty()), (state, state == State::On));
            assert!(found.says.contains(says), "{}", found.says);
        }
    }

    #[test]
    fn who_is_not_root_is_told_what_that_costs() {
        assert_eq!(privilege(true).state, State::On);
        assert!(privilege(false).fix.contains("root"));
    }
}
