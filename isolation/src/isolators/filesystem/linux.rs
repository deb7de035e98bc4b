//! `filesystem/linux`: a task that asks for an image stands on it, and sees nothing of the machine's
//! own files.
//!
//! It gets processes and mounts of its own, whatever else is on; its root is put together by the keeper
//! (`keeper::root`), and what that takes on the machine is made and removed here. A task without an
//! image is not touched. Mesos: `filesystem/linux` and `docker/runtime`.

use std::sync::Arc;

use mesita_core::wire::ContainerId;

use crate::images::Provisioner;
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::Wall;

/// What it does.
pub(crate) const ABOUT: &str = "a root of its own for a task with an image";

#[derive(Debug)]
struct Linux {
    /// None where no store is open.
    provisioner: Option<Arc<Provisioner>>,
    namespaces: Namespaces,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    ground.require_walls()?;
    let namespaces = ground.require_namespaces()?;
    match &ground.options.provisioner {
        Ok(provisioner) => {
            let provisioner = provisioner.clone();
            Ok(Box::new(Linux { provisioner, namespaces }))
        }
        Err(why) => Err(Unusable::Flag(why.clone())),
    }
}

impl Isolator for Linux {
    fn recover(&self, known: &[Container<'_>]) -> Result<(), Error> {
        let known: Vec<ContainerId> = known.iter().map(|container| container.at.id).collect();
        let Some(provisioner) = &self.provisioner else { return Ok(()) };
        Ok(provisioner.recover(&known)?)
    }

    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        let Some(stands) = &limits.stands else { return Ok(()) };
        let (image, sandbox) = (&stands.image, &stands.sandbox);
        let provisioner = self.provisioner.as_ref().ok_or(Error::NoImages)?;
        let root = provisioner.provide(container.at.id, image, sandbox);
        let root = root.map_err(|error| Error::Image(error.to_string()))?;
        additions.namespaces = self.namespaces;
        additions.walls.push(Wall::Root(Box::new(root)));
        Ok(())
    }

    fn cleanup(&self, container: &Container<'_>) -> Result<(), Error> {
        let Some(provisioner) = &self.provisioner else { return Ok(()) };
        Ok(provisioner.remove(container.at.id)?)
    }
}
