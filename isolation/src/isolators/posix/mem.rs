//! `posix/mem`: the memory of a task's processes, where no cgroup counts it. It limits nothing.

use super::accounts;
use crate::isolators::{
    Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable, Usage,
};

/// What it does.
pub(crate) const ABOUT: &str = "memory is counted by /proc where no cgroup does";

#[derive(Debug)]
struct Mem;

pub(crate) fn make(_: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    Ok(Box::new(Mem))
}

impl Isolator for Mem {
    fn prepare(&self, _: &Container<'_>, _: &TaskLimits, _: &mut Additions) -> Result<(), Error> {
        Ok(())
    }

    fn usage(&self, container: &Container<'_>, usage: &mut Usage) -> Result<(), Error> {
        let Some(pid) = container.pid.filter(|_| usage.rss_bytes.is_none()) else { return Ok(()) };
        usage.rss_bytes = accounts::of(container.sys, pid).map(|all| all.rss_bytes);
        usage.mem_bytes = usage.rss_bytes;
        Ok(())
    }
}
