//! Isolators of what a task sees of files.

pub(crate) mod linux;
pub(crate) mod shared;

use std::sync::Arc;

use crate::images::Provisioner;
use crate::isolators::{Container, Error, Ground, Unusable};
use crate::keeper::protocol::Namespaces;

/// What it takes to give a task files of images.
#[derive(Debug)]
pub(crate) struct Provisioned {
    /// None where no store is open.
    provisioner: Option<Arc<Provisioner>>,
    /// What a task gets that has any.
    pub(crate) namespaces: Namespaces,
}

impl Provisioned {
    pub(crate) fn new(ground: &Ground<'_>) -> Result<Self, Unusable> {
        let namespaces = ground.require_mounts()?;
        match &ground.options.provisioner {
            Ok(provisioner) => Ok(Self { provisioner: provisioner.clone(), namespaces }),
            Err(why) => Err(Unusable::Lack(why.clone())),
        }
    }

    pub(crate) fn provisioner(&self) -> Result<&Provisioner, Error> {
        self.provisioner.as_deref().ok_or(Error::NoImages)
    }

    /// Removes what was made for a container. Twice is as good.
    pub(crate) fn clean_up(&self, container: &Container<'_>) -> Result<(), Error> {
        let Some(provisioner) = &self.provisioner else { return Ok(()) };
        Ok(provisioner.remove(container.at.id)?)
    }
}
