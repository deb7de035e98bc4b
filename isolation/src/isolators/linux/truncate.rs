//! A file that a task may not write it does not cut short either, where Landlock cannot say so.
//!
//! Landlock knows of that from Linux 6.2 on. Before it a task without mounts of its own, which `linux/landlock`
//! alone holds, makes no call that cuts a file short by its name: it fails with `EPERM`, by the filter of calls,
//! of its own files too. What was opened to be written may be cut short as ever.

use super::filter::{self, Action, Compare, Condition, Rule};
use crate::isolators::{Additions, Error};
use crate::keeper::wall::Wall;
use crate::sys::Sys;

/// Calls that cut a file short by its name.
#[cfg(target_pointer_width = "64")]
const CUTTING: &[std::ffi::c_long] = &[libc::SYS_truncate];
#[cfg(not(target_pointer_width = "64"))]
const CUTTING: &[std::ffi::c_long] = &[libc::SYS_truncate, libc::SYS_truncate64];

/// Calls that open a file, and which of their arguments has the flags.
#[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm"))]
const OPENING: &[(std::ffi::c_long, u8)] = &[(libc::SYS_openat, 2), (libc::SYS_open, 1)];
#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm")))]
const OPENING: &[(std::ffi::c_long, u8)] = &[(libc::SYS_openat, 2)];

/// `O_TRUNC`, and the bits of how a file is opened: to be read, or in the fourth way, which is neither. Landlock
/// knows of the others.
const TRUNCATES: u64 = 0o1000;
const HOW: u64 = 0o3;
const UNSEEN: [u64; 2] = [0, 3];

/// Adds the wall, where it is wanted.
pub(crate) fn deny(sys: &dyn Sys, additions: &mut Additions) -> Result<(), Error> {
    let is_held = additions.walls.iter().any(|wall| matches!(wall, Wall::Landlock { .. }));
    // What is read-only is not cut short, and of an image all is the task's own.
    let elsewhere = |wall: &Wall| matches!(wall, Wall::Host(_) | Wall::Root(_));
    let is_still = additions.walls.iter().any(elsewhere);
    if !is_held || is_still || sys.can_restrict_truncating() || !filter::can_filter(sys) {
        return Ok(());
    }
    if filter::put_before(&rules(), &mut additions.walls) {
        Ok(())
    } else {
        Err(Error::LongProfile("of linux/landlock".to_owned()))
    }
}

fn rules() -> Vec<Rule> {
    let rule = |number: std::ffi::c_long, conditions, errno| Rule {
        number: u32::try_from(number).unwrap_or(0),
        conditions,
        action: Action::errno(errno),
    };
    let cuts = |argument, how| {
        let compare = Compare::Masked(TRUNCATES | HOW);
        vec![Condition { argument, compare, value: TRUNCATES | how }]
    };
    let mut rules: Vec<Rule> =
        CUTTING.iter().map(|&number| rule(number, Vec::new(), libc::EPERM)).collect();
    for &(number, flags) in OPENING {
        rules.extend(UNSEEN.map(|how| rule(number, cuts(flags, how), libc::EPERM)));
    }
    // What these are asked for is in memory, which no filter reads; programs know to do without them.
    for number in [libc::SYS_openat2, libc::SYS_io_uring_setup] {
        rules.push(rule(number, Vec::new(), libc::ENOSYS));
    }
    rules
}

#[cfg(test)]
mod tests {
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::isolators::TaskLimits;
    use crate::keeper::wall::Wall;
    use crate::sys::fake::Fake;

    #[test]
    fn who_is_held_by_an_old_landlock_alone_cuts_no_file_short_by_its_name() {
        let is_filtered = |sys: &Fake, names: &[&str]| {
            let isolation = isolation(sys, names);
            let walls = isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap();
            let beside = isolation.beside(CONTAINER, &TaskLimits::default()).unwrap();
            let is = |walls: &[Wall]| walls.iter().any(|wall| matches!(wall, Wall::Seccomp { .. }));
            (is(&walls.additions.walls), is(&beside.additions.walls))
        };
        let old = Fake::bare();
        old.forget_truncating();
        assert_eq!(is_filtered(&old, &["linux/landlock"]), (true, true));
        assert_eq!(is_filtered(&old, &["linux/nnp"]), (false, false));
        assert_eq!(is_filtered(&old, &["linux/landlock", "namespaces/uts"]), (false, false));
        assert_eq!(is_filtered(&Fake::bare(), &["linux/landlock"]), (false, false));
    }
}
