//! Directories of an agent's own, in its work directory. Who may write there, as in a work directory
//! that was somebody else's, could put links or directories of his own in their place: each is
//! opened in the one above it, no link is followed, and what is not the agent's is refused.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat, mkdirat, open, openat};
use rustix::io::Errno;

use crate::sys::Failure;

/// What an agent has in its work directory.
const NAMES: [&str; 6] = ["meta", "sandboxes", "volumes", "volumes/roles", "images", "provisioner"];

/// Why a directory cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// A call failed.
    Os(Failure),
    /// Something of that name is there, and it is no directory of the agent's own.
    Foreign(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(failure) => failure.fmt(f),
            Self::Foreign(path) => write!(
                f,
                "{} is a link, or no directory, or not of the agent's own user; move it away",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Os(failure)
    }
}

/// Looks at what is there of a work directory: all of it must be this user's own.
pub fn check(work_dir: &Path) -> Result<(), Error> {
    for name in NAMES {
        let path = work_dir.join(name);
        match fs::symlink_metadata(&path) {
            Ok(of) if of.is_dir() && of.uid() == own_user() => {}
            Ok(_) => return Err(Error::Foreign(path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::io("stat", &path, &error).into()),
        }
    }
    Ok(())
}

/// The directory `below` a work directory, each on the way there made with this mode if need be.
/// The work directory itself is where the operator says.
pub(crate) fn directory(work_dir: &Path, below: &Path, mode: u32) -> Result<OwnedFd, Error> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut path = work_dir.to_owned();
    let top = open(work_dir, flags, Mode::empty());
    let mut at = top.map_err(|errno| Failure::new("open", &path, errno.raw_os_error()))?;
    for part in below.components() {
        let Component::Normal(name) = part else {
            return Err(Failure::new("open", &path.join(below), libc::EINVAL).into());
        };
        path.push(name);
        at = enter(&at, name, &path, mode)?;
    }
    Ok(at)
}

fn enter(at: &OwnedFd, name: &OsStr, path: &Path, mode: u32) -> Result<OwnedFd, Error> {
    let failed = |call| move |errno: Errno| Failure::new(call, path, errno.raw_os_error());
    match mkdirat(at, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed("mkdir")(errno).into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match openat(at, name, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(Error::Foreign(path.to_owned())),
        Err(errno) => return Err(failed("open")(errno).into()),
    };
    let of = fstat(&directory).map_err(failed("stat"))?;
    if of.st_uid == own_user() { Ok(directory) } else { Err(Error::Foreign(path.to_owned())) }
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Directory;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_somebody_else_put_there_is_refused_and_not_followed() {
        let (work_dir, elsewhere) = (Directory::new("own"), Directory::new("own-elsewhere"));
        check(work_dir.path()).unwrap();
        directory(work_dir.path(), Path::new("volumes/roles/web"), 0o711).unwrap();
        check(work_dir.path()).unwrap();
        for name in ["images", "provisioner"] {
            let link = work_dir.path().join(name);
            symlink(elsewhere.path(), &link).unwrap();
            assert_eq!(check(work_dir.path()), Err(Error::Foreign(link.clone())));
            fs::remove_file(link).unwrap();
        }
        symlink(elsewhere.path(), work_dir.path().join("sandboxes")).unwrap();
        let foreign = Error::Foreign(work_dir.path().join("sandboxes"));
        assert!(foreign.to_string().contains("is a link"), "{foreign}");
        assert_eq!(check(work_dir.path()), Err(foreign));
        let made = directory(work_dir.path(), Path::new("sandboxes/1-1"), 0o711);
        assert_eq!(made.unwrap_err(), Error::Foreign(work_dir.path().join("sandboxes")));
        assert!(!elsewhere.path().join("1-1").exists());
        assert!(directory(work_dir.path(), Path::new("../x"), 0o711).is_err());
    }

    #[test]
    #[ignore = "needs root"]
    fn a_directory_of_another_user_is_refused() {
        let work_dir = Directory::new("own-user");
        directory(work_dir.path(), Path::new("sandboxes"), 0o711).unwrap();
        std::os::unix::fs::chown(work_dir.path().join("sandboxes"), Some(1), None).unwrap();
        let foreign = || Error::Foreign(work_dir.path().join("sandboxes"));
        assert_eq!(check(work_dir.path()), Err(foreign()));
        let made = directory(work_dir.path(), Path::new("sandboxes"), 0o711);
        assert_eq!(made.map(drop), Err(foreign()));
    }
}
