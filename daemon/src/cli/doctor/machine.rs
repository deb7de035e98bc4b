//! The machine itself: kernel, clock, entropy, privilege, stacked file systems.

use mesita_isolation::machine;
use mesita_isolation::sys::{Linux, Sys};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{Finding, State};
use crate::clock;

/// No clock that was ever set is before this release: 2026-01-01, in seconds of Unix time.
const RELEASED_S: u64 = 1_767_225_600;

pub(super) fn all() -> [Finding; 5] {
    [kernel(), privilege(rustix::process::geteuid().is_root()), now(), entropy(), overlay(&Linux)]
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
    fn who_is_not_root_is_told_what_that_costs() {
        assert_eq!(privilege(true).state, State::On);
        assert!(privilege(false).fix.contains("root"));
    }
}
