//! `network/none`: a task has no network but a loopback of its own.
//!
//! Nobody reaches it and it reaches nobody, not even the agent, so an executor that speaks to its
//! agent cannot live behind it. Tasks of a group have their loopback in common.

use crate::isolators::namespaces::{Along, require};
use crate::isolators::{Ground, Isolator, Unusable};
use crate::keeper::wall::Wall;

/// What it does.
pub(crate) const ABOUT: &str = "no network but a loopback of its own; only where it is named";

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    require(ground, "/proc/self/ns/net", "namespaces of networks")?;
    Along::make(ground, Wall::Network)
}
