//! Isolators of what a task finds mounted: parts of the host, of its own sandbox or of its executor's,
//! and secrets.
//!
//! A volume is mounted below where the task works, or over a path of the host that is there, in the
//! task's own view alone. Descriptors of both ends are held while that is done, so whatever changes
//! meanwhile is not followed.

pub(crate) mod host_path;
pub(crate) mod image;
pub(crate) mod sandbox_path;
pub(crate) mod secret;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::{Additions, Error};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::Wall;

/// Volumes of one task.
pub const VOLUMES_MAX: usize = 32;

/// Something that a task wants to find mounted (Mesos: `Volume`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where: below where it works, or absolute.
    pub container_path: String,
    /// It cannot write there.
    pub read_only: bool,
    /// What.
    pub source: Source,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A path of the host.
    Host(PathBuf),
    /// A directory in a sandbox.
    Sandbox {
        /// Whose: the task's, or its executor's.
        of: PathBuf,
        /// Below it.
        path: String,
    },
    /// A file with a secret, which is never on a disk.
    Secret(Vec<u8>),
}

/// Parts of the host that nothing is mounted over.
const KEPT: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Where a volume goes, as its keeper takes it.
fn target(volume: &Volume) -> Result<CString, Error> {
    let path = Path::new(&volume.container_path);
    let up = path.components().any(|part| matches!(part, Component::ParentDir));
    let kept = KEPT.iter().any(|kept| path.starts_with(kept)) || path == Path::new("/");
    if volume.container_path.is_empty() || up || kept {
        return Err(Error::Volume(volume.container_path.clone(), "nothing can be mounted there"));
    }
    text(path, volume)
}

fn text(path: &Path, volume: &Volume) -> Result<CString, Error> {
    let text = CString::new(path.as_os_str().as_bytes());
    text.map_err(|_| Error::Volume(volume.container_path.clone(), "its path has a NUL"))
}

/// Adds a wall, and the mounts of its own that it takes.
fn add(additions: &mut Additions, namespaces: Namespaces, wall: Wall) {
    additions.namespaces = namespaces;
    additions.walls.push(wall);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, options};
    use crate::isolators::TaskLimits;
    use crate::keeper::wall::Bind;
    use crate::sys::fake::Fake;

    fn prepared(volume: Volume) -> Result<Vec<Wall>, String> {
        let sys = Fake::bare();
        let names = ["volume/host_path", "volume/sandbox_path", "volume/secret"];
        let options =
            Options { host_paths: vec!["/srv".into(), "/srv/web".into()], ..options(Some(&names)) };
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        let limits = TaskLimits { volumes: vec![volume], ..TaskLimits::default() };
        let prepared = isolation.prepare(CONTAINER, &limits).map_err(|error| error.to_string())?;
        assert!(prepared.additions.namespaces.mount);
        Ok(prepared.additions.walls)
    }

    fn volume(container_path: &str, source: Source) -> Volume {
        Volume { container_path: container_path.to_owned(), read_only: true, source }
    }

    #[test]
    fn a_path_of_the_host_is_found_from_the_nearest_that_is_allowed() {
        let walls = prepared(volume("data", Source::Host("/srv/web/a/b".into()))).unwrap();
        let expected = Bind {
            root: c"/srv/web".into(),
            from: c"a/b".into(),
            to: c"data".into(),
            read_only: true,
        };
        assert_eq!(walls, [Wall::Bind(expected)]);
        for path in ["/etc", "/srvx", "relative", "/srv/../etc", "/"] {
            let refused = prepared(volume("data", Source::Host(path.into()))).unwrap_err();
            assert!(refused.contains("--host-paths"), "{path}: {refused}");
        }
    }

    #[test]
    fn nothing_is_mounted_outside_of_what_a_task_may_change() {
        for at in ["", "../x", "a/../../x", "/proc/sys", "/sys", "/dev/null", "/"] {
            let refused = prepared(volume(at, Source::Host("/srv/a".into()))).unwrap_err();
            assert!(refused.contains("nothing can be mounted there"), "{at}: {refused}");
        }
    }

    #[test]
    fn a_secret_and_a_part_of_a_sandbox_are_walls_as_well() {
        let secret = prepared(volume("key", Source::Secret(b"x".to_vec()))).unwrap();
        assert_eq!(secret, [Wall::Secret { to: c"key".into(), data: b"x".to_vec() }]);
        let source = Source::Sandbox { of: "/w/1-1".into(), path: "shared".to_owned() };
        let [Wall::Bind(bind)] = &prepared(volume("here", source)).unwrap()[..] else { panic!() };
        assert_eq!((bind.root.as_c_str(), bind.from.as_c_str()), (c"/w/1-1", c"shared"));
        let source = Source::Sandbox { of: "/w/1-1".into(), path: "../other".to_owned() };
        assert!(prepared(volume("here", source)).is_err());
    }

    #[test]
    fn a_volume_that_nobody_mounts_is_refused() {
        let sys = Fake::bare();
        let isolation = crate::isolation::tests::isolation(&sys, &["linux/nnp"]);
        let volumes = vec![volume("data", Source::Host("/srv/a".into()))];
        let limits = TaskLimits { volumes, ..TaskLimits::default() };
        let refused = isolation.prepare(CONTAINER, &limits).unwrap_err();
        assert_eq!(refused.to_string(), "volume/host_path: volume `data`: this isolator is off");
    }
}
