//! `filesystem/shared`: a task that shares the machine's files finds a `/tmp` and a `/var/tmp` of its
//! own there, which are directories of its sandbox and go with it.
//!
//! Who knows how others call their files there cannot put links in their way, nor read what they leave.
//! A task on an image has a root of its own, with all that is in it. Mesos: `filesystem/shared`, there
//! for the directories that `--default_container_info` names.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::{Namespaces, User, path_text};
use crate::keeper::wall::{Bind, Wall};
use crate::sandbox;
use crate::sys::Failure;

/// What it does.
pub(crate) const ABOUT: &str =
    "a /tmp and /var/tmp of its own, in its sandbox; only where it is named";

/// What is the task's own, and where in its sandbox that is.
const OWN: [(&str, &str); 2] = [("/tmp", "shared/tmp"), ("/var/tmp", "shared/var-tmp")];

#[derive(Debug)]
struct Shared {
    work_dir: PathBuf,
    namespaces: Namespaces,
    /// Of `OWN` what is a directory here, and not where the sandboxes are.
    own: Vec<(&'static str, &'static str)>,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    let namespaces = ground.require_mounts()?;
    let Some(work_dir) = ground.options.work_dir.clone() else {
        return Err(Unusable::Lack("there is no directory of sandboxes".to_owned()));
    };
    // One that is a link leads to another one, and where the sandboxes are they stay.
    let is = |path: &str| fs::symlink_metadata(path).is_ok_and(|of| of.is_dir());
    let works = fs::canonicalize(&work_dir).unwrap_or_else(|_| work_dir.clone());
    let own: Vec<_> =
        OWN.into_iter().filter(|(path, _)| is(path) && !works.starts_with(path)).collect();
    if own.is_empty() {
        return Err(Unusable::Lack("there is no /tmp but what --work-dir is in".to_owned()));
    }
    Ok(Box::new(Shared { work_dir, namespaces, own }))
}

impl Isolator for Shared {
    fn prepare(
        &self,
        container: &Container<'_>,
        _: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        if additions.walls.iter().any(|wall| matches!(wall, Wall::Root(_))) {
            return Ok(());
        }
        let sandbox = sandbox::path(&self.work_dir, container.at);
        let of = fs::symlink_metadata(&sandbox);
        let of = of.map_err(|error| Failure::io("stat", &sandbox, &error))?;
        let owner = User { uid: of.uid(), gid: of.gid(), groups: Vec::new() };
        additions.namespaces = self.namespaces;
        for (path, below) in &self.own {
            let made = sandbox::create_below(&sandbox, Path::new(below), Some(&owner));
            made.map_err(|error| Error::Shared(error.to_string()))?;
            additions.walls.push(Wall::Bind(Bind {
                root: path_text(&sandbox),
                from: path_text(Path::new(below)),
                to: path_text(Path::new(path)),
                read_only: false,
            }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, options};
    use crate::sys::fake::Fake;
    use crate::testing::Directory;

    #[test]
    fn a_task_has_directories_of_its_own_and_makes_none_elsewhere() {
        let (sys, directory) = (Fake::bare(), Directory::new("shared"));
        let work_dir = Some(directory.path().to_owned());
        let options = Options { work_dir, ..options(Some(&["filesystem/shared"])) };
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        let sandbox = sandbox::create(directory.path(), CONTAINER, None).unwrap();
        let walls = isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap().additions.walls;
        let mut binds = walls.iter().filter_map(|wall| {
            let Wall::Bind(bind) = wall else { return None };
            Some(bind)
        });
        let bind = binds.next_back().unwrap();
        assert_eq!((bind.from.as_c_str(), bind.to.as_c_str()), (c"shared/var-tmp", c"/var/tmp"));
        assert_eq!(bind.root, path_text(&sandbox));
        assert!(sandbox.join("shared/var-tmp").is_dir() && !bind.read_only);
        // Not over what the sandbox itself is in.
        let over = walls
            .iter()
            .any(|wall| matches!(wall, Wall::Bind(bind) if bind.to.as_c_str() == c"/tmp"));
        assert_eq!(over, !directory.path().starts_with("/tmp"));
        // A file in its place is no directory.
        fs::remove_dir_all(sandbox.join("shared")).unwrap();
        fs::write(sandbox.join("shared"), "").unwrap();
        assert!(isolation.prepare(CONTAINER, &TaskLimits::default()).is_err());
    }
}
