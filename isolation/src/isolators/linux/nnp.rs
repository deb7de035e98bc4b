//! `linux/nnp`: no program that a task executes gets a privilege that the task does not have, be it
//! setuid, setgid or with capabilities on its file.

use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};

/// What it does.
pub(crate) const ABOUT: &str = "no_new_privs: setuid programs and the like grant nothing";

#[derive(Debug)]
struct NoNewPrivs;

pub(crate) fn make(_: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    Ok(Box::new(NoNewPrivs))
}

impl Isolator for NoNewPrivs {
    fn prepare(
        &self,
        _: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        self.beside(limits, additions)
    }

    fn beside(&self, _: &TaskLimits, additions: &mut Additions) -> Result<(), Error> {
        additions.no_new_privs = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::sys::fake::Fake;

    #[test]
    fn a_task_gets_no_new_privileges_only_where_the_isolator_is_on() {
        let sys = Fake::bare();
        for (names, expected) in [(&["linux/nnp"][..], true), (&["posix/rlimits"][..], false)] {
            let prepared = isolation(&sys, names).prepare(CONTAINER, &TaskLimits::default());
            assert_eq!(prepared.unwrap().additions.no_new_privs, expected);
        }
    }
}
