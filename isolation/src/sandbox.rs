//! The sandbox: a directory of the task's own, and its two files of output.
//!
//! `<work dir>/sandboxes/<container>`, mode 0700, owned by the task's user. The directory of all
//! sandboxes can be passed through but not read, so no task learns of another's.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fstat, mkdirat, open, openat};
use rustix::io::Errno;

use crate::cgroups::At;
use crate::keeper::protocol::User;
use crate::own;
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
    /// Above it is something that is not the agent's.
    Own(own::Error),
    /// On the way to a directory inside of it is a link, or no directory.
    Link(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(failure) => failure.fmt(f),
            Self::Own(error) => error.fmt(f),
            Self::Link(path) => write!(f, "{} is a link, or no directory", path.display()),
            Self::Taken(path) => write!(f, "{} is there and not the task's own", path.display()),
        }
    }
}

impl std::error::Error for Error {}

impl From<own::Error> for Error {
    fn from(error: own::Error) -> Self {
        Self::Own(error)
    }
}

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
    let name = at.id.to_string();
    // Each above it can be passed through, and read by nobody.
    let above = path.strip_prefix(work_dir).unwrap_or(&path).parent().unwrap_or(Path::new(""));
    let above = own::directory(work_dir, above, 0o711)?;
    let failed = |errno: Errno| Failure::new("open", &path, errno.raw_os_error());
    let made = match mkdirat(&above, &name, Mode::from_raw_mode(0o700)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(Failure::new("mkdir", &path, errno.raw_os_error()).into()),
    };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(&above, &name, flags, Mode::empty()).map_err(failed)?;
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (uid, gid) = owner.map_or(own, |user| (user.uid, user.gid));
    if made && (uid, gid) != own {
        let failed = |errno: Errno| Failure::new("chown", &path, errno.raw_os_error());
        fchown(&directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
    }
    let of = fstat(&directory).map_err(failed)?;
    if of.st_uid == uid { Ok(path) } else { Err(Error::Taken(path)) }
}

/// Removes a sandbox with all that is in it. One that does not exist is as good.
pub fn remove(work_dir: &Path, container: impl Into<At>) -> Result<(), Error> {
    own::check(work_dir)?;
    Ok(tree::remove(&path(work_dir, container))?)
}

/// Makes a directory further inside of a sandbox, with the rights of the sandbox's owner: what is on
/// the way there is that one's to change, so no link is followed. One that is there already is used.
pub fn create_below(sandbox: &Path, below: &Path, owner: Option<&User>) -> Result<(), Error> {
    let top = held(sandbox)?;
    with_files_of(owner, || go_below(top, sandbox, below, true))?.map(drop)
}

/// The same in a sandbox around others', which is nobody's of them: its first part is made there, and given
/// to who wants it first.
pub fn create_around(sandbox: &Path, below: &Path, owner: Option<&User>) -> Result<(), Error> {
    if let (Some(Component::Normal(first)), Some(owner)) = (below.components().next(), owner) {
        let path = sandbox.join(first);
        let failed = |call, errno: Errno| Failure::new(call, &path, errno.raw_os_error());
        let top = held(sandbox)?;
        match mkdirat(&top, first, Mode::from_raw_mode(0o700)) {
            Ok(()) => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(&top, first, flags, Mode::empty());
                let made = made.map_err(|errno| failed("open", errno))?;
                let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
                fchown(&made, Some(uid), Some(gid)).map_err(|errno| failed("chown", errno))?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("mkdir", errno).into()),
        }
    }
    create_below(sandbox, below, owner)
}

/// Opens a file of output further inside of a sandbox, to be appended to, and makes it if need be, in the
/// same way. Anything there but a file of the owner's is refused.
pub fn output(sandbox: &Path, below: &Path, name: &str) -> Result<File, Error> {
    let path = sandbox.join(below).join(name);
    let failed = |errno: Errno| Failure::new("open", &path, errno.raw_os_error());
    let top = held(sandbox)?;
    let of = fstat(&top).map_err(failed)?;
    let owner = User { uid: of.st_uid, gid: of.st_gid, groups: Vec::new() };
    let owner = Some(&owner).filter(|_| rustix::process::geteuid().is_root());
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    with_files_of(owner, || {
        let at = go_below(top, sandbox, below, false)?;
        let file = openat(&at, name, flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
        let mode = fstat(&file).map_err(failed)?.st_mode;
        if FileType::from_raw_mode(mode) != FileType::RegularFile {
            return Err(failed(Errno::INVAL).into());
        }
        Ok(File::from(file))
    })?
}

/// Removes such a directory, in the same way. One that does not exist is as good.
pub fn remove_below(sandbox: &Path, below: &Path, owner: Option<&User>) -> Result<(), Error> {
    let (Some(above), Some(name)) = (below.parent(), below.file_name()) else {
        return Err(Failure::new("remove", &sandbox.join(below), libc::EINVAL).into());
    };
    let top = held(sandbox)?;
    with_files_of(owner, || match go_below(top, sandbox, above, false) {
        Ok(above) => Ok(tree::remove_at(above.as_fd(), name)?),
        Err(Error::Os(failure)) if failure.errno == libc::ENOENT => Ok(()),
        Err(error) => Err(error),
    })?
}

/// The sandbox itself, which its owner may not be able to reach from the outside.
fn held(sandbox: &Path) -> Result<OwnedFd, Error> {
    let opened = open(sandbox, PART, Mode::empty());
    Ok(opened.map_err(|errno| Failure::new("open", sandbox, errno.raw_os_error()))?)
}

/// A directory on the way to another one, and no link.
const PART: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn go_below(top: OwnedFd, sandbox: &Path, below: &Path, make: bool) -> Result<OwnedFd, Error> {
    let (mut at, mut path) = (top, sandbox.to_owned());
    for part in below.components() {
        path.push(part);
        let failed = |call, errno: Errno| Failure::new(call, &path, errno.raw_os_error());
        let Component::Normal(name) = part else {
            return Err(failed("open", Errno::INVAL).into());
        };
        if make {
            match mkdirat(&at, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed("mkdir", errno).into()),
            }
        }
        at = match openat(&at, name, PART, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(Error::Link(path)),
            Err(errno) => return Err(failed("open", errno).into()),
        };
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Directory;
    use mesita_core::wire::ContainerId;
    use std::fs;
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
    fn what_somebody_else_put_above_it_is_not_followed() {
        let (work_dir, elsewhere) =
            (Directory::new("sandbox-above"), Directory::new("sandbox-target"));
        let inside = At { inside: Some(CONTAINER), id: ContainerId { counter: 256, ..CONTAINER } };
        let around = create(work_dir.path(), CONTAINER, None).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), around.join(INSIDE)).unwrap();
        let refused = create(work_dir.path(), inside, None).unwrap_err();
        assert!(refused.to_string().contains("is a link"), "{refused}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_task_put_on_the_way_further_inside_is_not_followed() {
        let (work_dir, elsewhere) =
            (Directory::new("sandbox-below"), Directory::new("sandbox-victim"));
        let sandbox = create(work_dir.path(), CONTAINER, None).unwrap();
        let below = Path::new("containers/a");
        create_below(&sandbox, below, None).unwrap();
        create_below(&sandbox, below, None).unwrap();
        fs::write(sandbox.join("containers/a/file"), "x").unwrap();
        remove_below(&sandbox, below, None).unwrap();
        remove_below(&sandbox, below, None).unwrap();
        assert!(!sandbox.join("containers/a").exists());
        fs::remove_dir(sandbox.join(INSIDE)).unwrap();
        remove_below(&sandbox, below, None).unwrap();
        fs::create_dir(elsewhere.path().join("a")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), sandbox.join(INSIDE)).unwrap();
        let refused = Err(Error::Link(sandbox.join(INSIDE)));
        assert_eq!(create_below(&sandbox, Path::new("containers/b"), None), refused);
        assert_eq!(remove_below(&sandbox, below, None), refused);
        assert!(elsewhere.path().join("a").exists() && !elsewhere.path().join("b").exists());
        for outside in ["../x", "/x", "."] {
            assert!(remove_below(&sandbox, Path::new(outside), None).is_err(), "{outside}");
        }
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
