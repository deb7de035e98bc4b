//! `namespaces/ipc`: System V objects and POSIX queues of the task's own, which end with it.

use super::{Along, require};
use crate::isolators::{Ground, Isolator, Unusable};
use crate::keeper::wall::Wall;

/// What it does.
pub(crate) const ABOUT: &str = "System V objects and POSIX message queues of its own";

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    require(ground, "/proc/self/ns/ipc", "namespaces of IPC")?;
    Along::make(ground, Wall::Ipc)
}
