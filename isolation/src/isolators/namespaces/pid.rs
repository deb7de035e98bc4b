//! `namespaces/pid`: a task sees its own processes alone, and they all end with it.
//!
//! It gets a mount namespace as well, for a `/proc` that shows the same. What the kernel lets the
//! keeper make was found out by the keeper when it started; an ordinary user needs a user namespace
//! around them.

use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::Namespaces;

/// What it does.
pub(crate) const ABOUT: &str = "processes, mounts and /proc of its own; nothing outlives the task";

#[derive(Debug)]
struct Pid {
    namespaces: Namespaces,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    let namespaces = ground.options.namespaces;
    if namespaces.pid && namespaces.mount {
        Ok(Box::new(Pid { namespaces }))
    } else {
        Err(Unusable::Namespaces(ground.options.namespaces_trouble))
    }
}

impl Isolator for Pid {
    fn prepare(
        &self,
        _: &Container<'_>,
        _: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        additions.namespaces = self.namespaces;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation, options};
    use crate::isolation::{Isolation, NotHere};
    use crate::keeper::protocol::{Step, Trouble};
    use crate::sys::fake::Fake;

    #[test]
    fn a_task_gets_what_the_keeper_could_make() {
        let sys = Fake::bare();
        let isolation = isolation(&sys, &["namespaces/pid"]);
        let prepared = isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap();
        let expected = Namespaces { user: false, pid: true, mount: true };
        assert_eq!(prepared.additions.namespaces, expected);
    }

    #[test]
    fn a_keeper_that_could_make_none_is_degradation_unless_the_isolator_was_named() {
        let sys = Fake::bare();
        let mut options = options(None);
        options.namespaces = Namespaces::default();
        let trouble = |step| Some(Trouble { step, errno: libc::EPERM });
        options.namespaces_trouble = trouble(Step::Clone);
        let (isolation, degraded) = Isolation::new(&options, &sys).unwrap();
        assert!(!isolation.names().contains(&"namespaces/pid"));
        let degraded = degraded.iter().find(|of| of.isolator == "namespaces/pid").unwrap();
        assert!(degraded.to_string().contains("user.max_user_namespaces"), "{degraded}");
        options.namespaces_trouble = trouble(Step::Proc);
        let (_, degraded) = Isolation::new(&options, &sys).unwrap();
        let degraded = degraded.iter().find(|of| of.isolator == "namespaces/pid").unwrap();
        assert!(degraded.to_string().contains("mounted over parts of /proc"), "{degraded}");
        options.isolators = Some(vec!["namespaces/pid".to_owned()]);
        let refused = Isolation::new(&options, &sys).unwrap_err();
        assert!(matches!(refused, NotHere::Unusable { .. }), "{refused}");
    }
}
