//! `filesystem/linux`: a task that asks for an image stands on it, and sees nothing of the machine's
//! own files.
//!
//! It gets processes and mounts of its own, whatever else is on; its root is put together by the keeper
//! (`keeper::root`), and what that takes on the machine is made and removed here. A task without an
//! image has the machine's files read-only where it has mounts of its own (`host`). Mesos: `filesystem/linux` and `docker/runtime`.

use mesita_core::wire::ContainerId;

use crate::isolators::filesystem::Provisioned;
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::wall::{NODES_MAX, Wall};

/// What it does.
pub(crate) const ABOUT: &str = "a root of its own for a task with an image";

#[derive(Debug)]
struct Linux(Provisioned);

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    Ok(Box::new(Linux(Provisioned::new(ground)?)))
}

impl Isolator for Linux {
    fn recover(&self, known: &[Container<'_>]) -> Result<(), Error> {
        let known: Vec<ContainerId> = known.iter().map(|container| container.at.id).collect();
        self.0.provisioner().map_or(Ok(()), |provisioner| Ok(provisioner.recover(&known)?))
    }

    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        let Some(stands) = &limits.stands else { return Ok(()) };
        let (image, sandbox) = (&stands.image, &stands.sandbox);
        let provisioner = self.0.provisioner()?;
        let root = provisioner.provide(container.at.id, image, sandbox);
        let root = root.map_err(|error| Error::Image(error.to_string()))?;
        additions.namespaces = self.0.namespaces;
        additions.walls.push(Wall::Root(Box::new(root)));
        if !limits.nodes.is_empty() {
            let nodes = limits.nodes.iter().take(NODES_MAX).cloned().collect();
            additions.walls.push(Wall::Devices { nodes });
        }
        Ok(())
    }

    fn cleanup(&self, container: &Container<'_>) -> Result<(), Error> {
        self.0.clean_up(container)
    }
}
