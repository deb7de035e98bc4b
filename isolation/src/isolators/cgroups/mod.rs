//! Isolators that limit through a controller.

pub(crate) mod blkio;
pub(crate) mod cpu;
pub(crate) mod cpuset;
pub(crate) mod devices;
pub(crate) mod freezer;
pub(crate) mod hugetlb;
pub(crate) mod mem;
pub(crate) mod perf_event;
pub(crate) mod pids;

use std::path::PathBuf;

use super::{Container, Error};
use crate::cgroups::Controller;
use crate::sys::Version;

/// A container's directory in the hierarchy of a controller that is known to be there.
struct Directory {
    version: Version,
    path: PathBuf,
}

impl Directory {
    fn of(container: &Container<'_>, controller: Controller) -> Option<Self> {
        let place = container.cgroups.place(controller)?;
        let path = container.directory(place);
        Some(Self { version: place.version, path })
    }

    /// What it is called in the version here.
    const fn either(&self, v1: &'static str, v2: &'static str) -> &'static str {
        match self.version {
            Version::V1 => v1,
            Version::V2 => v2,
        }
    }

    fn read(&self, container: &Container<'_>, file: &str) -> Result<String, Error> {
        Ok(container.sys.read(&self.path.join(file))?)
    }

    /// A file of one number; none for the word `max`.
    fn number(&self, container: &Container<'_>, file: &str) -> Result<Option<u64>, Error> {
        let text = self.read(container, file)?;
        match text.trim() {
            "max" => Ok(None),
            number => match number.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Error::Unreadable(self.path.join(file))),
            },
        }
    }
}
