//! `volume/sandbox_path`: a directory of a task's own sandbox, or of its executor's, elsewhere.
//!
//! It is there before the task is launched. Whose sandbox it is may change it meanwhile, but to nothing
//! outside of it.

use std::path::{Component, Path};

use super::{Source, add, target, text};
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::{Bind, Wall};

/// What it does.
pub(crate) const ABOUT: &str =
    "volumes that are directories of the task's or its executor's sandbox";

#[derive(Debug)]
struct SandboxPath {
    namespaces: Namespaces,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    Ok(Box::new(SandboxPath { namespaces: ground.require_mounts()? }))
}

impl Isolator for SandboxPath {
    fn prepare(
        &self,
        _: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        for volume in &limits.volumes {
            let Source::Sandbox { of, path } = &volume.source else { continue };
            let path = Path::new(path);
            if !path.components().all(|part| matches!(part, Component::Normal(_))) {
                let why = "it leads out of the sandbox";
                return Err(Error::Volume(path.display().to_string(), why));
            }
            let wall = Wall::Bind(Bind {
                root: text(of, volume)?,
                from: text(path, volume)?,
                to: target(volume)?,
                read_only: volume.read_only,
            });
            add(additions, self.namespaces, wall);
        }
        Ok(())
    }
}
