//! `cgroups/perf_event`: a cgroup that `perf stat --cgroup` can count in.
//!
//! With v2 every cgroup is one. With v1 it takes a hierarchy more.

use crate::cgroups::Controller;
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};

/// What it does.
pub(crate) const ABOUT: &str = "a cgroup that `perf` can count in; only where it is named";

#[derive(Debug)]
struct PerfEvent;

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    // One hierarchy more than an older keeper has room for.
    ground.require_walls()?;
    if ground.cgroups.unified().is_none() {
        ground.require(Controller::PerfEvent)?;
    }
    Ok(Box::new(PerfEvent))
}

impl Isolator for PerfEvent {
    fn prepare(&self, _: &Container<'_>, _: &TaskLimits, _: &mut Additions) -> Result<(), Error> {
        Ok(())
    }
}
