//! `namespaces/cgroup`: a task sees its own cgroup as the topmost, and nothing of where that is.
//!
//! In `/sys/fs/cgroup` it finds the hierarchies that it has a cgroup in, from there on and read-only, so
//! that programs which go by their limits find their own; a task without any finds nothing there.

use super::{Along, require};
use crate::isolators::{Ground, Isolator, Unusable};
use crate::keeper::wall::Wall;

/// What it does.
pub(crate) const ABOUT: &str = "its own cgroup is the topmost, and the only one, that it sees";

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    require(ground, "/proc/self/ns/cgroup", "namespaces of cgroups")?;
    Along::make(ground, Wall::Cgroup)
}
