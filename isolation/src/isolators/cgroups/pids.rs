//! `cgroups/pids`: a task has no more processes and threads than its limit; a fork beyond it fails
//! in the task, and nowhere else.

use super::Directory;
use crate::cgroups::{Controller, keyed, processes};
use crate::isolators::{
    Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable, Usage,
};
use crate::sys::Limit;

/// What it does.
pub(crate) const ABOUT: &str = "at most --task-pids-max processes and threads in a task";

#[derive(Debug)]
struct Pids {
    /// `--task-pids-max`.
    max: u32,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    ground.require(Controller::Pids)?;
    Ok(Box::new(Pids { max: ground.options.task_pids_max }))
}

impl Isolator for Pids {
    fn limits_parts(&self) -> bool {
        true
    }

    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        _: &mut Additions,
    ) -> Result<(), Error> {
        self.update(container, limits)
    }

    fn update(&self, container: &Container<'_>, limits: &TaskLimits) -> Result<(), Error> {
        let Some(at) = Directory::of(container, Controller::Pids) else { return Ok(()) };
        let max = limits.pids.unwrap_or(self.max).max(1);
        Ok(container.sys.limit(at.version, &at.path, Limit::Pids(max))?)
    }

    fn usage(&self, container: &Container<'_>, usage: &mut Usage) -> Result<(), Error> {
        let Some(at) = Directory::of(container, Controller::Pids) else { return Ok(()) };
        usage.threads = at.number(container, "pids.current")?;
        usage.processes = Some(processes(container.sys, &at.path));
        usage.pids_limit = at.number(container, "pids.max")?;
        usage.pids_refused = keyed(&at.read(container, "pids.events")?, "max");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::sys::Sys;
    use crate::sys::fake::Fake;

    fn check(sys: &Fake, at: &str) {
        let isolation = isolation(sys, &["cgroups/pids"]);
        isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap();
        assert_eq!(sys.text(&format!("{at}/pids.max")), "1024");
        let fewer = TaskLimits { pids: Some(64), ..TaskLimits::default() };
        isolation.update(CONTAINER, &fewer).unwrap();
        assert_eq!(sys.text(&format!("{at}/pids.max")), "64");
        sys.put(&format!("{at}/pids.current"), "12\n");
        sys.put(&format!("{at}/pids.events"), "max 3\n");
        let usage = isolation.usage(CONTAINER).unwrap();
        let expected = (Some(12), Some(64), Some(3));
        assert_eq!((usage.threads, usage.pids_limit, usage.pids_refused), expected);
        assert_eq!(usage.processes, Some(0));
        let part = format!("{at}/part");
        sys.make(Path::new(&part)).unwrap();
        sys.put_processes(Path::new(at), &[70, 71]);
        sys.put_processes(Path::new(&part), &[72]);
        let usage = isolation.usage(CONTAINER).unwrap();
        assert_eq!((usage.threads, usage.processes), (Some(12), Some(3)));
    }

    #[test]
    fn processes_are_limited_by_the_flag_or_by_the_task_on_v1() {
        check(&Fake::v1(), "/sys/fs/cgroup/pids/mesita/0001020304050607/1-1");
    }

    #[test]
    fn and_on_v2() {
        check(&Fake::v2("/", &[50]), "/sys/fs/cgroup/mesita/0001020304050607/1-1");
    }
}
