//! `cgroups/cpuset`: a cgroup of its own among those of processors and memory nodes, with all that
//! its parent has. Where a task runs is not decided here, as it is not in Mesos: it is for an operator
//! to change.

use std::path::Path;

use super::Directory;
use crate::cgroups::Controller;
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::sys::{Failure, Sys, Version};

/// What it does.
pub(crate) const ABOUT: &str =
    "a cgroup in the hierarchy of processors, for an operator to change; only where it is named";

#[derive(Debug)]
struct Cpuset;

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    // One hierarchy more than an older keeper has room for.
    ground.require_walls()?;
    ground.require(Controller::Cpuset)?;
    Ok(Box::new(Cpuset))
}

/// Gives a directory of v1 what the one above it has: nobody can join one that has nothing.
fn inherit(sys: &dyn Sys, directory: &Path) -> Result<(), Failure> {
    let Some(above) = directory.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = directory.join(file);
        if sys.read(&own)?.trim().is_empty() {
            if sys.read(&above.join(file))?.trim().is_empty() {
                inherit(sys, above)?;
            }
            sys.write(&own, sys.read(&above.join(file))?.trim())?;
        }
    }
    Ok(())
}

impl Isolator for Cpuset {
    fn prepare(
        &self,
        container: &Container<'_>,
        _: &TaskLimits,
        _: &mut Additions,
    ) -> Result<(), Error> {
        let Some(at) = Directory::of(container, Controller::Cpuset) else { return Ok(()) };
        // With v2 what is not said is the parent's.
        if at.version == Version::V1 { Ok(inherit(container.sys, &at.path)?) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::sys::fake::Fake;

    #[test]
    fn a_directory_of_v1_has_what_is_above_it_so_that_it_can_be_joined() {
        let sys = Fake::v1();
        let top = "/sys/fs/cgroup/cpuset";
        sys.put(&format!("{top}/cpuset.cpus"), "0-3\n");
        sys.put(&format!("{top}/cpuset.mems"), "0\n");
        let isolation = isolation(&sys, &["cgroups/cpuset"]);
        isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap();
        let own = format!("{top}/mesita/0001020304050607/1-1");
        assert_eq!(sys.text(&format!("{own}/cpuset.cpus")), "0-3");
        assert_eq!(sys.text(&format!("{own}/cpuset.mems")), "0");
    }
}
