//! `volume/image`: a task finds the files of an image where it asks for them, whatever it stands on.
//!
//! What it writes there, if it may, goes with it. It gets processes and mounts of its own. Mesos: the same
//! name.

use std::sync::Arc;

use crate::images::Provisioner;
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::Wall;

/// What it does.
pub(crate) const ABOUT: &str = "files of images where a task asks for them";

#[derive(Debug)]
struct Image {
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
            Ok(Box::new(Image { provisioner, namespaces }))
        }
        Err(why) => Err(Unusable::Flag(why.clone())),
    }
}

impl Isolator for Image {
    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        for (number, volume) in limits.images.iter().enumerate() {
            let (image, to) = (&volume.image, &volume.to);
            let provisioner = self.provisioner.as_ref().ok_or(Error::NoImages)?;
            let of = provisioner.provide_volume(container.at.id, number, image, to);
            let of = Box::new(of.map_err(|error| Error::Image(error.to_string()))?);
            additions.namespaces = self.namespaces;
            additions.walls.push(Wall::Volume { of, read_only: volume.read_only });
        }
        Ok(())
    }

    fn cleanup(&self, container: &Container<'_>) -> Result<(), Error> {
        let Some(provisioner) = &self.provisioner else { return Ok(()) };
        Ok(provisioner.remove(container.at.id)?)
    }
}
