//! `namespaces/uts`: a task cannot change the name of the host, whatever it may do in its own, and
//! has another one where it asks for that. Tasks of a group that do not have it in common. Mesos: `ContainerInfo.hostname`, there of networks of its
//! own alone.

use std::ffi::CString;

use super::require;
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::{HOSTNAME_MAX, Kind, Wall};

/// What it does.
pub(crate) const ABOUT: &str =
    "a name of the host of its own: the one that it asks for, or the host's to begin with";

#[derive(Debug)]
struct Uts {
    namespaces: Namespaces,
    /// Tasks of a group have it in common.
    shares: bool,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    require(ground, "/proc/self/ns/uts", "namespaces of names")?;
    let namespaces = ground.require_mounts()?;
    Ok(Box::new(Uts { namespaces, shares: super::shares(ground, namespaces) }))
}

impl Isolator for Uts {
    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        let asked = limits.hostname.as_deref().unwrap_or_default();
        let named = CString::new(asked).ok().filter(|name| name.count_bytes() <= HOSTNAME_MAX);
        let hostname = named.ok_or_else(|| Error::Hostname(asked.chars().take(80).collect()))?;
        additions.namespaces = self.namespaces;
        let common = super::in_common(container, Kind::Uts);
        let common = common.filter(|_| self.shares && hostname.is_empty());
        additions.walls.push(Wall::Uts { hostname });
        additions.walls.extend(common);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::sys::fake::Fake;

    #[test]
    fn a_name_is_the_one_that_is_asked_for_if_the_kernel_takes_it() {
        let sys = Fake::bare();
        let named = |names: &[&str], hostname: &str| {
            let limits =
                TaskLimits { hostname: Some(hostname.to_owned()), ..TaskLimits::default() };
            let prepared = isolation(&sys, names).prepare(CONTAINER, &limits);
            prepared.map(|prepared| prepared.additions.walls).map_err(|error| error.to_string())
        };
        let on = &["namespaces/uts"];
        assert_eq!(named(on, "db").unwrap(), [Wall::Uts { hostname: c"db".into() }]);
        for bad in ["a\0b", &"x".repeat(65)] {
            assert!(named(on, bad).unwrap_err().contains("no name of a host"));
        }
        let refused = named(&["linux/nnp"], "db").unwrap_err();
        assert!(refused.starts_with("namespaces/uts: the task asks for"), "{refused}");
    }
}
