//! `namespaces/uts`: a task cannot change the name of the host, whatever it may do in its own.

use super::{Along, require};
use crate::isolators::{Ground, Isolator, Unusable};
use crate::keeper::wall::Wall;

/// What it does.
pub(crate) const ABOUT: &str = "a name of the host of its own, which begins as the host's";

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    require(ground, "/proc/self/ns/uts", "namespaces of names")?;
    Along::make(ground, Wall::Uts { hostname: c"".into() })
}
