//! Putting up walls, by the process that they are around: process 1 of a pid namespace, which has
//! memory of its own.

use std::ffi::{CStr, CString};

use super::child::Trouble;
use super::protocol::Step;
use super::root;
use super::wall::{Bind, LAYERS_MAX, Root, WALLS_MAX, Wall};

/// Walls in the form that the kernel takes.
#[derive(Debug)]
pub(super) struct Walls<'w> {
    walls: &'w [Wall],
}

impl<'w> Walls<'w> {
    /// Looks at them once and for all.
    pub(super) fn new(walls: &'w [Wall]) -> Result<Self, Trouble> {
        let is_sound = |root: &Root| root.lower.len() <= LAYERS_MAX && !root.to.is_empty();
        let sound = walls.iter().all(|wall| match wall {
            Wall::Bind(bind) => is_absolute(&bind.root) && !bind.to.is_empty(),
            Wall::Root(root) => is_sound(root) && is_absolute(&root.to),
            Wall::Volume { of, .. } => is_sound(of),
        });
        let sound = sound && walls.len() <= WALLS_MAX;
        if sound { Ok(Self { walls }) } else { Err((Step::Request, libc::EINVAL)) }
    }

    /// True when there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.walls.is_empty()
    }

    /// Makes its namespaces what they should be; `works` is where it works.
    pub(super) fn part(&self, works: &CStr) -> Result<(), Trouble> {
        let volumes = self.volumes()?;
        let binds = self.binds().chain(&volumes);
        match self.root() {
            // With all that it has of the host, which is out of reach then.
            Some(root) => root::change(root, works, binds),
            None => root::add(works, binds),
        }
    }

    fn root(&self) -> Option<&'w Root> {
        self.walls.iter().find_map(|wall| {
            let Wall::Root(root) = wall else { return None };
            Some(&**root)
        })
    }

    fn binds(&self) -> impl Iterator<Item = &Bind> {
        self.walls.iter().filter_map(|wall| {
            let Wall::Bind(bind) = wall else { return None };
            Some(bind)
        })
    }

    /// Puts layers together where the host has room for it, to be mounted from there.
    fn volumes(&self) -> Result<Vec<Bind>, Trouble> {
        let mut volumes = Vec::new();
        for wall in self.walls {
            let Wall::Volume { of, read_only } = wall else { continue };
            root::layers(of).map_err(|errno| (Step::Layers, errno.raw_os_error()))?;
            let (root, from, to) = (of.at.clone(), CString::default(), of.to.clone());
            volumes.push(Bind { root, from, to, read_only: *read_only });
        }
        Ok(volumes)
    }
}

fn is_absolute(path: &CStr) -> bool {
    path.to_bytes().first() == Some(&b'/')
}
