//! `cgroups/freezer`: what is killed is stopped first, so that no fork runs ahead of the signals.
//!
//! With v2 that is part of every cgroup, and one write kills all of it anyway. With v1 it takes a
//! hierarchy more, which is used without being asked where nothing else can kill at once.

use crate::cgroups::Controller;
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};

/// What it does.
pub(crate) const ABOUT: &str =
    "what is killed is stopped first; only where it is named, or nothing else kills at once";

#[derive(Debug)]
struct Freezer;

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    // One hierarchy more than an older keeper has room for.
    ground.require_walls()?;
    if ground.cgroups.unified().is_none() {
        ground.require(Controller::Freezer)?;
    }
    Ok(Box::new(Freezer))
}

impl Isolator for Freezer {
    fn prepare(&self, _: &Container<'_>, _: &TaskLimits, _: &mut Additions) -> Result<(), Error> {
        Ok(())
    }
}
