//! What a task of root leaves behind is no program that runs as root for whoever executes it.
//!
//! `linux/nnp` keeps tasks from gaining anything by such a program; a user of the machine is behind no
//! wall. So where `linux/capabilities` is on, a task that runs as root, or in its group, and was not
//! granted FSETID, by which the kernel knows who may set these bits, sets none: the calls that would fail
//! with `EPERM`, whatever else of `linux/seccomp` it has. A kernel without filters of system calls keeps
//! nobody from it.

use super::filter::{self, Action, Compare, Condition, Rule};
use crate::isolators::{Additions, Error, TaskLimits};
use crate::keeper::wall::Wall;
use crate::sys::Sys;

/// Set-user-ID and set-group-ID.
const BITS: [u64; 2] = [0o4000, 0o2000];
/// Flags of open(2) by which it makes a file of that mode: `O_CREAT`, and of `O_TMPFILE` what is its own.
const MAKES: [u64; 2] = [0o100, 0o20_000_000];
/// `FSETID`.
const FSETID: u64 = 1 << 4;
/// Since Linux 6.6; the same number everywhere.
const SYS_FCHMODAT2: i64 = 452;

/// Adds the wall, where it is wanted.
pub(crate) fn deny(
    sys: &dyn Sys,
    limits: &TaskLimits,
    additions: &mut Additions,
) -> Result<(), Error> {
    let lacks = |wall: &Wall| matches!(wall, Wall::Capabilities { effective, .. } if effective & FSETID == 0);
    if !limits.root || !additions.walls.iter().any(lacks) || !filter::can_filter(sys) {
        return Ok(());
    }
    if filter::put_before(&rules(), &mut additions.walls) {
        Ok(())
    } else {
        Err(Error::LongProfile("of linux/capabilities".to_owned()))
    }
}

/// Calls with a mode, and which of their arguments that is.
const WITH_MODE: [(i64, u8); 4] = [
    (wide(libc::SYS_fchmod), 1),
    (wide(libc::SYS_fchmodat), 2),
    (SYS_FCHMODAT2, 2),
    (wide(libc::SYS_mknodat), 2),
];

/// Those that only older machines have.
#[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm"))]
const OLD_WITH_MODE: &[(i64, u8)] =
    &[(wide(libc::SYS_chmod), 1), (wide(libc::SYS_creat), 1), (wide(libc::SYS_mknod), 1)];
#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm")))]
const OLD_WITH_MODE: &[(i64, u8)] = &[];

/// Calls with flags that tell whether the mode counts, and which of their arguments both are.
#[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm"))]
const OPENING: &[(i64, u8, u8)] = &[(wide(libc::SYS_openat), 2, 3), (wide(libc::SYS_open), 1, 2)];
#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm")))]
const OPENING: &[(i64, u8, u8)] = &[(wide(libc::SYS_openat), 2, 3)];

/// Numbers of calls have 32 bits on some machines.
#[allow(clippy::unnecessary_cast, clippy::cast_lossless)] // On others they have 64.
const fn wide(number: std::ffi::c_long) -> i64 {
    number as i64
}

fn rules() -> Vec<Rule> {
    let has = |argument, bit| Condition { argument, compare: Compare::Masked(bit), value: bit };
    let rule = |number: i64, conditions, errno| Rule {
        number: u32::try_from(number).unwrap_or(0),
        conditions,
        action: Action::errno(errno),
    };
    let mut rules = Vec::new();
    for &(number, mode) in WITH_MODE.iter().chain(OLD_WITH_MODE) {
        rules.extend(BITS.map(|bit| rule(number, vec![has(mode, bit)], libc::EPERM)));
    }
    for &(number, flags, mode) in OPENING {
        for makes in MAKES {
            let both = |bit| vec![has(flags, makes), has(mode, bit)];
            rules.extend(BITS.map(|bit| rule(number, both(bit), libc::EPERM)));
        }
    }
    // What these are asked for is in memory, which no filter reads; programs know to do without them.
    for number in [libc::SYS_openat2, libc::SYS_io_uring_setup] {
        rules.push(rule(wide(number), Vec::new(), libc::ENOSYS));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, options};
    use crate::sys::fake::Fake;

    fn is_filtered(root: bool, granted: Option<&str>, names: &[&str]) -> bool {
        let effective_capabilities = granted.map(|text| text.parse().unwrap());
        let options = Options { effective_capabilities, ..options(Some(names)) };
        let sys = Fake::bare();
        let isolation = Isolation::new(&options, &sys).unwrap().0;
        let limits = TaskLimits { root, ..TaskLimits::default() };
        let walls = |prepared: crate::isolation::Prepared| prepared.additions.walls;
        let is = |walls: Vec<Wall>| walls.iter().any(|wall| matches!(wall, Wall::Seccomp { .. }));
        let prepared = is(walls(isolation.prepare(CONTAINER, &limits).unwrap()));
        assert_eq!(is(walls(isolation.beside(CONTAINER, &limits).unwrap())), prepared);
        prepared
    }

    #[test]
    fn who_runs_as_root_sets_no_such_bits_unless_it_is_granted_that() {
        let on = &["linux/capabilities"];
        assert!(is_filtered(true, None, on));
        assert!(is_filtered(true, Some("CHOWN"), on));
        assert!(!is_filtered(true, Some("CHOWN,FSETID"), on));
        assert!(!is_filtered(false, None, on));
        assert!(!is_filtered(true, None, &["linux/nnp"]));
    }
}
