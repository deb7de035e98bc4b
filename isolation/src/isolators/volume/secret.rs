//! `volume/secret`: a file with a secret, which the task's user alone may read, and which is in memory
//! and never on a disk.

use super::{Source, add, target};
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::{SECRET_MAX, Wall};

/// What it does.
pub(crate) const ABOUT: &str = "volumes that are secrets, in memory alone";

#[derive(Debug)]
struct Secrets {
    namespaces: Namespaces,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    Ok(Box::new(Secrets { namespaces: ground.require_mounts()? }))
}

impl Isolator for Secrets {
    fn prepare(
        &self,
        _: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        for volume in &limits.volumes {
            let Source::Secret(data) = &volume.source else { continue };
            if data.len() > SECRET_MAX {
                let why = "a secret has at most 64 KiB";
                return Err(Error::Volume(volume.container_path.clone(), why));
            }
            let wall = Wall::Secret { to: target(volume)?, data: data.clone() };
            add(additions, self.namespaces, wall);
        }
        Ok(())
    }
}
