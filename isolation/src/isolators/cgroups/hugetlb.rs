//! `cgroups/hugetlb`: huge pages, which the memory controller does not see, count towards a limit as
//! large as that of the task's memory.

use super::Directory;
use crate::cgroups::Controller;
use crate::isolators::{Additions, Cap, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::sys::Version;

/// What it does.
pub(crate) const ABOUT: &str =
    "huge pages no more than the limit of memory; only where it is named";

/// Kinds of huge pages that a machine has at the most.
const SIZES_MAX: usize = 8;

#[derive(Debug)]
struct Hugetlb {
    /// Of every kind, as in `2MB`.
    sizes: Vec<String>,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    // One hierarchy more than an older keeper has room for.
    ground.require_walls()?;
    ground.require(Controller::Hugetlb)?;
    let kinds = ground.sys.children(std::path::Path::new("/sys/kernel/mm/hugepages"));
    let sizes = kinds.unwrap_or_default().into_iter().filter_map(|kind| size(&kind));
    Ok(Box::new(Hugetlb { sizes: sizes.take(SIZES_MAX).collect() }))
}

/// What files of the controller call a kind that is `hugepages-2048kB` elsewhere.
fn size(kind: &str) -> Option<String> {
    let kib: u64 = kind.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let units = [(1 << 20, "GB"), (1 << 10, "MB"), (1, "KB")];
    let (unit, name) = units.into_iter().find(|(unit, _)| kib >= *unit)?;
    Some(format!("{}{name}", kib / unit))
}

impl Isolator for Hugetlb {
    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        _: &mut Additions,
    ) -> Result<(), Error> {
        self.update(container, limits)
    }

    fn update(&self, container: &Container<'_>, limits: &TaskLimits) -> Result<(), Error> {
        let Some(at) = Directory::of(container, Controller::Hugetlb) else { return Ok(()) };
        let bytes = match limits.mem_limit {
            _ if limits.shared => return Ok(()),
            Some(Cap::Unlimited) => return Ok(()),
            Some(Cap::At(bytes)) => bytes,
            None => limits.mem_bytes,
        };
        for size in &self.sizes {
            let file = match at.version {
                Version::V1 => format!("hugetlb.{size}.limit_in_bytes"),
                Version::V2 => format!("hugetlb.{size}.max"),
            };
            container.sys.write(&at.path.join(file), &bytes.to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_the_controller_names_them() {
        assert_eq!(size("hugepages-2048kB").as_deref(), Some("2MB"));
        assert_eq!(size("hugepages-1048576kB").as_deref(), Some("1GB"));
        assert_eq!(size("hugepages-64kB").as_deref(), Some("64KB"));
        assert_eq!(size("other"), None);
    }
}
