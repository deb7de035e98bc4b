//! The sandbox: a directory of the task's own, and its two files of output.
//!
//! `<work dir>/sandboxes/<container>`, mode 0700, owned by the task's user. The directory of all
//! sandboxes can be passed through but not read, so no task learns of another's.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid, chownat, fchown, fstat, mkdirat, open,
    openat, renameat_with, unlinkat,
};
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

/// The same for `user`, who may be somebody else: the directory is that one's, and all above it the
/// sandbox's owner's.
pub fn create_for(
    sandbox: &Path,
    below: &Path,
    owner: Option<&User>,
    user: Option<&User>,
) -> Result<(), Error> {
    let path = sandbox.join(below);
    let others = user.filter(|user| owner.is_some_and(|owner| owner.uid != user.uid));
    let Some(user) = others else { return create_below(sandbox, below, owner) };
    let top = held(sandbox)?;
    let made = with_files_of(owner, || go_below(top, sandbox, below, true))??;
    let failed = |call, errno: Errno| Failure::new(call, &path, errno.raw_os_error());
    let of = fstat(&made).map_err(|errno| failed("stat", errno))?;
    if of.st_uid == user.uid {
        return Ok(());
    }
    // Who is its owner may have put something else there, of its own.
    if owner.is_none_or(|owner| of.st_uid != owner.uid) {
        return Err(Error::Taken(path));
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let given = chownat(&made, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
    Ok(given.map_err(|errno| failed("chown", errno))?)
}

/// The same in a sandbox around others', which is nobody's of them: its first part is made there, and given
/// to who wants it first. Whoever finds it there finds whose it is.
pub fn create_around(sandbox: &Path, below: &Path, owner: Option<&User>) -> Result<(), Error> {
    if let (Some(Component::Normal(first)), Some(owner)) = (below.components().next(), owner) {
        give_first(sandbox, first, owner)?;
    }
    create_below(sandbox, below, owner)
}

/// Makes a directory for `owner` that is there as that one's or not at all: under another name first.
fn give_first(sandbox: &Path, name: &OsStr, owner: &User) -> Result<(), Failure> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let path = sandbox.join(name);
    let failed = |call, errno: Errno| Failure::new(call, &path, errno.raw_os_error());
    let top = open(sandbox, PART, Mode::empty()).map_err(|errno| failed("open", errno))?;
    if openat(&top, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).is_ok()
    {
        return Ok(());
    }
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let new = format!(".new-{}-{number}", std::process::id());
    mkdirat(&top, &new, Mode::from_raw_mode(0o700)).map_err(|errno| failed("mkdir", errno))?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    let given = openat(&top, &new, flags, Mode::empty())
        .and_then(|made| fchown(&made, Some(uid), Some(gid)))
        .and_then(|()| renameat_with(&top, &new, &top, name, RenameFlags::NOREPLACE));
    if given.is_ok() {
        return Ok(());
    }
    let _ = unlinkat(&top, &new, AtFlags::REMOVEDIR);
    match given {
        // Somebody else was first.
        Err(Errno::EXIST) => Ok(()),
        given => given.map_err(|errno| failed("chown", errno)),
    }
}

/// Opens a file of output further inside of a sandbox, to be appended to, and makes it if need be, in the
/// same way. Anything there but a file of the owner's is refused.
pub fn output(sandbox: &Path, below: &Path, name: &str) -> Result<File, Error> {
    let path = sandbox.join(below).join(name);
    let failed = |errno: Errno| Failure::new("open", &path, errno.raw_os_error());
    let top = held(sandbox)?;
    let at = go_below(top, sandbox, below, false)?;
    let of = fstat(&at).map_err(failed)?;
    let owner = User { uid: of.st_uid, gid: of.st_gid, groups: Vec::new() };
    let owner = Some(&owner).filter(|_| rustix::process::geteuid().is_root());
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    with_files_of(owner, || {
        let file = openat(&at, name, flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
        let mode = fstat(&file).map_err(failed)?.st_mode;
        if FileType::from_raw_mode(mode) != FileType::RegularFile {
            return Err(failed(Errno::INVAL).into());
        }
        Ok(File::from(file))
    })?
}

/// Finds a file in a sandbox, or in one of them all: nothing on the way there is a link. What may be done to
/// it, its own rights say.
pub fn find(sandbox: &Path, inside: &Path) -> Result<OwnedFd, Error> {
    let (Some(above), Some(name)) = (inside.parent(), inside.file_name()) else {
        return Err(Failure::new("open", &sandbox.join(inside), libc::EINVAL).into());
    };
    let above = go_below(held(sandbox)?, sandbox, above, false)?;
    let found =
        openat(&above, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    Ok(found.map_err(|errno| Failure::new("open", &sandbox.join(inside), errno.raw_os_error()))?)
}

/// Removes such a directory as [`create_for`] makes. One that does not exist is as good.
pub fn remove_for(
    sandbox: &Path,
    below: &Path,
    owner: Option<&User>,
    user: Option<&User>,
) -> Result<(), Error> {
    if user.zip(owner).is_none_or(|(user, owner)| user.uid == owner.uid) {
        return remove_below(sandbox, below, owner);
    }
    let (Some(above), Some(name)) = (below.parent(), below.file_name()) else {
        return Err(Failure::new("remove", &sandbox.join(below), libc::EINVAL).into());
    };
    let top = held(sandbox)?;
    match with_files_of(owner, || go_below(top, sandbox, above, false))? {
        // Neither of the two may remove all of it.
        Ok(above) => Ok(tree::remove_at(above.as_fd(), name)?),
        Err(Error::Os(failure)) if failure.errno == libc::ENOENT => Ok(()),
        Err(error) => Err(error),
    }
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
    fn a_directory_for_somebody_else_is_that_ones_and_no_other_is_given_away() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let work_dir = Directory::new("sandbox-for");
        fs::set_permissions(work_dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let [owner, user] = [65_534, 65_533].map(|id| User { uid: id, gid: id, groups: vec![id] });
        let sandbox = create(work_dir.path(), CONTAINER, Some(&owner)).unwrap();
        let below = Path::new("containers/a");
        for _ in 0..2 {
            create_for(&sandbox, below, Some(&owner), Some(&user)).unwrap();
            let told = |at: &str| fs::metadata(sandbox.join(at)).unwrap();
            let both = ["containers", "containers/a"].map(|at| (told(at).uid(), told(at).mode()));
            assert_eq!(
                both.map(|(uid, mode)| (uid, mode & 0o7777)),
                [(65_534, 0o700), (65_533, 0o700)]
            );
        }
        fs::write(sandbox.join("containers/a/file"), "x").unwrap();
        assert!(find(&sandbox, Path::new("containers/a/file")).is_ok());
        // Neither what is root's nor a link is given to anybody.
        fs::create_dir(sandbox.join("containers/root")).unwrap();
        let root = Path::new("containers/root");
        let refused = create_for(&sandbox, root, Some(&owner), Some(&user)).unwrap_err();
        assert_eq!(refused, Error::Taken(sandbox.join(root)));
        std::os::unix::fs::symlink(work_dir.path(), sandbox.join("containers/b")).unwrap();
        let link = Path::new("containers/b");
        assert!(create_for(&sandbox, link, Some(&owner), Some(&user)).is_err());
        assert!(find(&sandbox, Path::new("containers/b/sandboxes")).is_err());
        remove_for(&sandbox, below, Some(&owner), Some(&user)).unwrap();
        remove_for(&sandbox, below, Some(&owner), Some(&user)).unwrap();
        assert!(!sandbox.join(below).exists());
    }

    #[test]
    fn who_comes_second_to_a_directory_in_common_finds_it_given_away() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let work_dir = Directory::new("sandbox-common");
        fs::set_permissions(work_dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let nobody = User { uid: 65_534, gid: 65_534, groups: vec![65_534] };
        for round in 0..300 {
            let below = Path::new("shared").join("deep");
            let sandbox = work_dir.path().join(round.to_string());
            fs::create_dir(&sandbox).unwrap();
            fs::set_permissions(&sandbox, fs::Permissions::from_mode(0o711)).unwrap();
            let together = std::sync::Barrier::new(4);
            let come = || {
                together.wait();
                create_around(&sandbox, &below, Some(&nobody))
            };
            std::thread::scope(|scope| {
                let all = [(); 4].map(|()| scope.spawn(come));
                for one in all {
                    assert_eq!(one.join().unwrap(), Ok(()), "round {round}");
                }
            });
            let left: Vec<_> = fs::read_dir(&sandbox).unwrap().flatten().collect();
            assert_eq!(left.len(), 1, "{left:?}");
            assert_eq!(left[0].metadata().unwrap().uid(), nobody.uid);
        }
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
