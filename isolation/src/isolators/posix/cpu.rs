//! `posix/cpu`: the CPU time of a task's processes, where no cgroup counts it. It limits nothing.

use super::accounts;
use crate::isolators::{
    Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable, Usage,
};

/// What it does.
pub(crate) const ABOUT: &str = "CPU time is counted by /proc where no cgroup does";

#[derive(Debug)]
struct Cpu;

pub(crate) fn make(_: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    Ok(Box::new(Cpu))
}

impl Isolator for Cpu {
    fn prepare(&self, _: &Container<'_>, _: &TaskLimits, _: &mut Additions) -> Result<(), Error> {
        Ok(())
    }

    fn usage(&self, container: &Container<'_>, usage: &mut Usage) -> Result<(), Error> {
        let Some(pid) = container.pid.filter(|_| usage.user_us.is_none()) else { return Ok(()) };
        let accounts = accounts::of(container.sys, pid);
        usage.user_us = accounts.map(|all| all.user_us);
        usage.system_us = accounts.map(|all| all.system_us);
        usage.processes = usage.processes.or(accounts.map(|all| all.processes));
        usage.threads = usage.threads.or(accounts.map(|all| all.threads));
        Ok(())
    }
}
