//! `volume/host_path`: a directory or a file of the host, from among those that `--host-paths` allows.
//!
//! A link on the way that leads out of what is allowed is refused when the task is launched, by the
//! kernel. Mesos allows any path.

use std::path::{Component, Path, PathBuf};

use super::{Source, Volume, add, target, text};
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::{Bind, Wall};

/// What it does.
pub(crate) const ABOUT: &str = "volumes that are paths of the host below --host-paths";

#[derive(Debug)]
struct HostPath {
    namespaces: Namespaces,
    allowed: Vec<PathBuf>,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    let allowed = ground.options.host_paths.clone();
    Ok(Box::new(HostPath { namespaces: ground.require_mounts()?, allowed }))
}

impl HostPath {
    fn wall(&self, volume: &Volume, path: &Path) -> Result<Wall, Error> {
        let plain = |part| matches!(part, Component::Normal(_) | Component::RootDir);
        let below = |root: &&PathBuf| path.components().all(plain) && path.starts_with(root);
        let root = self.allowed.iter().filter(below).max_by_key(|root| root.as_os_str().len());
        let why = "it is not below any of --host-paths";
        let root = root.ok_or_else(|| Error::Volume(path.display().to_string(), why))?;
        let from = path.strip_prefix(root).unwrap_or(Path::new(""));
        Ok(Wall::Bind(Bind {
            root: text(root, volume)?,
            from: text(from, volume)?,
            to: target(volume)?,
            read_only: volume.read_only,
        }))
    }
}

impl Isolator for HostPath {
    fn prepare(
        &self,
        _: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        for volume in &limits.volumes {
            if let Source::Host(path) = &volume.source {
                add(additions, self.namespaces, self.wall(volume, path)?);
            }
        }
        Ok(())
    }
}
