//! `posix/rlimits`: limits of each process of a task, by the names of Mesos' `RLimitInfo`.
//!
//! A task that does not ask for core files has none, and the program that the host gives them to is
//! not run for it: the kernel takes a limit of 0 for none at all there, and 1 for what it says.

use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol;

/// What it does.
pub(crate) const ABOUT: &str = "resource limits of each process, as the task asks for";

/// Mesos' names and the kernel's numbers. A name that Linux has no limit for is not here.
const NAMES: [(&str, u32); 16] = [
    ("RLMT_AS", libc_number(libc::RLIMIT_AS)),
    ("RLMT_CORE", libc_number(libc::RLIMIT_CORE)),
    ("RLMT_CPU", libc_number(libc::RLIMIT_CPU)),
    ("RLMT_DATA", libc_number(libc::RLIMIT_DATA)),
    ("RLMT_FSIZE", libc_number(libc::RLIMIT_FSIZE)),
    ("RLMT_LOCKS", libc_number(libc::RLIMIT_LOCKS)),
    ("RLMT_MEMLOCK", libc_number(libc::RLIMIT_MEMLOCK)),
    ("RLMT_MSGQUEUE", libc_number(libc::RLIMIT_MSGQUEUE)),
    ("RLMT_NICE", libc_number(libc::RLIMIT_NICE)),
    ("RLMT_NOFILE", libc_number(libc::RLIMIT_NOFILE)),
    ("RLMT_NPROC", libc_number(libc::RLIMIT_NPROC)),
    ("RLMT_RSS", libc_number(libc::RLIMIT_RSS)),
    ("RLMT_RTPRIO", libc_number(libc::RLIMIT_RTPRIO)),
    ("RLMT_RTTIME", libc_number(libc::RLIMIT_RTTIME)),
    ("RLMT_SIGPENDING", libc_number(libc::RLIMIT_SIGPENDING)),
    ("RLMT_STACK", libc_number(libc::RLIMIT_STACK)),
];

/// glibc counts them unsigned, musl signed.
#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
const fn libc_number(number: LibcNumber) -> u32 {
    number as u32
}

#[cfg(target_env = "gnu")]
type LibcNumber = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type LibcNumber = libc::c_int;

/// The kernel's number of the limit of core files.
const CORE: u8 = 4;

#[derive(Debug)]
struct Rlimits;

pub(crate) fn make(_: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    Ok(Box::new(Rlimits))
}

impl Isolator for Rlimits {
    fn prepare(
        &self,
        _: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        self.beside(limits, additions)
    }

    fn beside(&self, limits: &TaskLimits, additions: &mut Additions) -> Result<(), Error> {
        for limit in &limits.rlimits {
            let named = NAMES.iter().find(|(name, _)| *name == limit.name);
            let number = named.and_then(|&(_, number)| u8::try_from(number).ok());
            let resource = number.ok_or_else(|| Error::UnknownRlimit(limit.name.clone()))?;
            // None is unlimited, above every number.
            let above = match (limit.soft, limit.hard) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(soft), Some(hard)) => soft > hard,
            };
            if above {
                return Err(Error::RlimitAboveHard(limit.name.clone()));
            }
            let limit = protocol::Rlimit { resource, soft: limit.soft, hard: limit.hard };
            // There is room: both lists have the same bound.
            let _ = additions.rlimits.push(limit);
        }
        if !additions.rlimits.iter().any(|limit| limit.resource == CORE) {
            let limit = protocol::Rlimit { resource: CORE, soft: Some(1), hard: Some(1) };
            // Who asks for all but one of them leaves room for that one.
            let _ = additions.rlimits.push(limit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::Error as IsolationError;
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::isolators::Rlimit;
    use crate::sys::fake::Fake;

    fn limits(name: &str, soft: Option<u64>, hard: Option<u64>) -> TaskLimits {
        let mut limits = TaskLimits::default();
        limits.rlimits.push(Rlimit { name: name.to_owned(), soft, hard }).unwrap();
        limits
    }

    fn prepared(names: &[&str], limits: &TaskLimits) -> Result<Additions, IsolationError> {
        let sys = Fake::bare();
        isolation(&sys, names).prepare(CONTAINER, limits).map(|prepared| prepared.additions)
    }

    #[test]
    fn a_limit_is_found_by_the_name_that_mesos_gives_it() {
        let limits = limits("RLMT_NOFILE", Some(100), None);
        let additions = prepared(&["posix/rlimits"], &limits).unwrap();
        let expected = protocol::Rlimit { resource: 7, soft: Some(100), hard: None };
        let core = protocol::Rlimit { resource: CORE, soft: Some(1), hard: Some(1) };
        assert_eq!(additions.rlimits[..], [expected, core]);
    }

    #[test]
    fn an_unknown_name_and_a_soft_limit_above_the_hard_are_refused() {
        let refused = |limits: &TaskLimits| prepared(&["posix/rlimits"], limits).unwrap_err();
        let unknown = refused(&limits("RLMT_KQUEUES", None, None));
        assert_eq!(unknown.to_string(), "posix/rlimits: no such rlimit: RLMT_KQUEUES");
        let above = refused(&limits("RLMT_CORE", None, Some(1)));
        assert!(above.to_string().contains("above the hard"), "{above}");
    }

    #[test]
    fn a_task_that_asks_for_limits_is_refused_where_nobody_sets_them() {
        let refused = prepared(&["linux/nnp"], &limits("RLMT_CORE", Some(0), Some(0)));
        assert!(refused.unwrap_err().to_string().contains("posix/rlimits is off"));
    }
}
