//! The sandbox: a directory of the task's own, and its two files of output.
//!
//! `<work dir>/sandboxes/<container>`, mode 0700, owned by the task's user. The directory of all
//! sandboxes can be passed through but not read, so no task learns of another's.

use std::fmt;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fstat, open};

use crate::cgroups::At;
use crate::keeper::protocol::User;
use crate::sys::Failure;
use crate::tree;
use crate::user::with_files_of;

/// Where a task's standard output is, in its sandbox. Mesos has the same name.
pub const STDOUT: &str = "stdout";
/// Where its standard error is.
pub const STDERR: &str = "stderr";

/// Where the sandboxes of those inside a container are, in its own. Mesos has the same name.
pub const INSIDE: &str = "containers";

/// Why a sandbox cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// A call failed.
    Os(Failure),
    /// A directory of that name is there, and not the task's own.
    Taken(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(failure) => failure.fmt(f),
            Self::Taken(path) => write!(f, "{} is there and not the task's own", path.display()),
        }
    }
}

impl std::error::Error for Error {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Os(failure)
    }
}

/// The sandbox of a container. One that is inside another has its own below that one's.
pub fn path(work_dir: &Path, container: impl Into<At>) -> PathBuf {
    let (all, at) = (work_dir.join("sandboxes"), container.into());
    match at.inside {
        None => all.join(at.id.to_string()),
        Some(around) => all.join(around.to_string()).join(INSIDE).join(at.id.to_string()),
    }
}

/// Makes the sandbox of a container for `owner`, or for ourselves. One that is there already, from
/// an earlier attempt, is used if it belongs to the same user.
pub fn create(
    work_dir: &Path,
    container: impl Into<At>,
    owner: Option<&User>,
) -> Result<PathBuf, Error> {
    let at = container.into();
    let path = path(work_dir, at);
    // From the outermost that this makes: each can be passed through, and read by nobody.
    let outer = if at.inside.is_some() { 3 } else { 1 };
    let above: Vec<&Path> = path.ancestors().skip(1).take(outer).collect();
    above.into_iter().rev().try_for_each(|all| make(all, 0o711).map(|_| ()))?;
    let made = make(&path, 0o700)?;
    let failed = |errno: rustix::io::Errno| Failure::new("open", &path, errno.raw_os_error());
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = open(&path, flags, Mode::empty()).map_err(failed)?;
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (uid, gid) = owner.map_or(own, |user| (user.uid, user.gid));
    if made && (uid, gid) != own {
        let failed = |errno: rustix::io::Errno| Failure::new("chown", &path, errno.raw_os_error());
        fchown(&directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
    }
    let of = fstat(&directory).map_err(failed)?;
    if of.st_uid == uid { Ok(path) } else { Err(Error::Taken(path)) }
}

/// Removes a sandbox with all that is in it. One that does not exist is as good.
pub fn remove(work_dir: &Path, container: impl Into<At>) -> Result<(), Error> {
    Ok(tree::remove(&path(work_dir, container))?)
}

/// Makes a directory further inside of a sandbox, with the rights of the sandbox's owner: what is on
/// the way there may be that one's to change. One that is there already is used.
pub fn create_below(sandbox: &Path, below: &Path, owner: Option<&User>) -> Result<(), Error> {
    let path = sandbox.join(below);
    let make = || fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    let made = with_files_of(owner, make)?;
    Ok(made.map_err(|error| Failure::io("mkdir", &path, &error))?)
}

/// Removes such a directory, with the same rights. One that does not exist is as good.
pub fn remove_below(sandbox: &Path, below: &Path, owner: Option<&User>) -> Result<(), Error> {
    let path = sandbox.join(below);
    Ok(with_files_of(owner, || tree::remove(&path))??)
}

/// Makes a directory; false if it was there.
pub(crate) fn make(path: &Path, mode: u32) -> Result<bool, Failure> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Failure::io("mkdir", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Directory;
    use mesita_core::wire::ContainerId;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    const CONTAINER: ContainerId = ContainerId { incarnation: 10, counter: 255 };

    #[test]
    fn a_sandbox_inside_another_goes_with_it() {
        let work_dir = Directory::new("sandbox");
        let inside = At { inside: Some(CONTAINER), id: ContainerId { counter: 256, ..CONTAINER } };
        let path = create(work_dir.path(), inside, None).unwrap();
        assert_eq!(path, work_dir.path().join("sandboxes/a-ff/containers/a-100"));
        let around = fs::metadata(work_dir.path().join("sandboxes/a-ff")).unwrap();
        assert_eq!(around.mode() & 0o7777, 0o711);
        remove(work_dir.path(), CONTAINER).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_sandbox_is_its_owners_alone_and_can_be_passed_through_to() {
        let work_dir = Directory::new("sandbox");
        let path = create(work_dir.path(), CONTAINER, None).unwrap();
        assert_eq!(path, work_dir.path().join("sandboxes/a-ff"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        let all = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(all.mode() & 0o7777, 0o711);
        assert_eq!(create(work_dir.path(), CONTAINER, None), Ok(path.clone()));
        fs::write(path.join("file"), "").unwrap();
        remove(work_dir.path(), CONTAINER).unwrap();
        assert!(!path.exists());
        assert_eq!(remove(work_dir.path(), CONTAINER), Ok(()));
    }

    #[test]
    fn a_symbolic_link_in_its_place_is_not_followed() {
        let work_dir = Directory::new("sandbox-link");
        let elsewhere = Directory::new("sandbox-elsewhere");
        fs::create_dir(work_dir.path().join("sandboxes")).unwrap();
        let link = path(work_dir.path(), CONTAINER);
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
        assert!(create(work_dir.path(), CONTAINER, None).is_err());
        remove(work_dir.path(), CONTAINER).unwrap_or_default();
        assert!(elsewhere.path().exists());
    }

    #[test]
    fn the_mode_does_not_depend_on_what_was_there() {
        let work_dir = Directory::new("sandbox-mode");
        let path = create(work_dir.path(), CONTAINER, None).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        remove(work_dir.path(), CONTAINER).unwrap();
        assert!(!path.exists());
    }
}
