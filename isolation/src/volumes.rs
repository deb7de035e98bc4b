//! Persistent volumes: directories that outlive the tasks that use them.
//!
//! `<work dir>/volumes/roles/<role>/<id>`, as Mesos has it, with a space for each `/` of a role, which
//! no role has. A volume is its last user's, mode 0700; what is above it can be passed through, and
//! read by nobody. A task finds it in its sandbox through a symbolic link, which goes with the sandbox
//! and is never followed when that is removed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, mkdirat};
use rustix::io::Errno;

use crate::keeper::protocol::User;
use crate::own;
use crate::sys::Failure;
use crate::tree;

/// Where all of them are.
const ALL: &str = "volumes/roles";

/// Where a volume is. Neither a role nor an id leads out of the work dir: they were checked, and
/// what is no name of a directory is no volume.
pub fn path(work_dir: &Path, role: &str, id: &str) -> Result<PathBuf, Failure> {
    let role = role.replace('/', " ");
    let all = work_dir.join(ALL);
    let path = all.join(&role).join(id);
    let names = [role.as_str(), id];
    let plain = names.iter().all(|name| !name.is_empty() && !name.contains(['/', '\0']));
    let inside = names.iter().all(|name| ![".", ".."].contains(name));
    if plain && inside { Ok(path) } else { Err(Failure::new("mkdir", &path, libc::EINVAL)) }
}

/// The directory of all volumes, made if need be.
pub fn all(work_dir: &Path) -> Result<PathBuf, own::Error> {
    own::directory(work_dir, Path::new(ALL), 0o711)?;
    Ok(work_dir.join(ALL))
}

/// Makes the directory of a volume; one that is there already stays as it is.
pub fn create(work_dir: &Path, role: &str, id: &str) -> Result<PathBuf, own::Error> {
    let path = path(work_dir, role, id)?;
    let above = path.strip_prefix(work_dir).unwrap_or(&path).parent().unwrap_or(Path::new(ALL));
    let above = own::directory(work_dir, above, 0o711)?;
    match mkdirat(&above, id, Mode::from_raw_mode(0o700)) {
        Ok(()) => Ok(path),
        // Its user's, whoever that is, and no link.
        Err(Errno::EXIST) if fs::symlink_metadata(&path).is_ok_and(|of| of.is_dir()) => Ok(path),
        Err(Errno::EXIST) => Err(own::Error::Foreign(path)),
        Err(errno) => Err(Failure::new("mkdir", &path, errno.raw_os_error()).into()),
    }
}

/// Makes the directory of a new volume: what an earlier one of the name left there goes.
pub fn create_new(work_dir: &Path, role: &str, id: &str) -> Result<PathBuf, own::Error> {
    remove(work_dir, role, id)?;
    create(work_dir, role, id)
}

/// Removes a volume with all that is in it. One that does not exist is as good.
pub fn remove(work_dir: &Path, role: &str, id: &str) -> Result<(), own::Error> {
    let path = path(work_dir, role, id)?;
    own::check(work_dir)?;
    tree::remove(&path)?;
    // The role's own directory goes with its last volume; until then it is not empty.
    let _ = path.parent().map(fs::remove_dir);
    Ok(())
}

/// Gives a volume to the user of a task, unless it is `shared` and was given away already. Only its
/// own directory: what is in it stays whose it is.
pub fn give(path: &Path, user: Option<&User>, shared: bool) -> Result<(), Failure> {
    let Some(user) = user else { return Ok(()) };
    let failed = |error: std::io::Error| Failure::io("chown", path, &error);
    let owner = fs::symlink_metadata(path).map_err(failed)?.uid();
    let given = shared && owner != rustix::process::geteuid().as_raw();
    if given || owner == user.uid {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)).map_err(failed)
}

/// Lets a volume appear in a sandbox, as `name`. What is there already of that name is an error,
/// unless it is the same.
pub fn link(path: &Path, sandbox: &Path, name: &str) -> Result<(), Failure> {
    let at = sandbox.join(name);
    if Path::new(name).file_name() != Some(OsStr::new(name)) {
        return Err(Failure::new("symlink", &at, libc::EINVAL));
    }
    match std::os::unix::fs::symlink(path, &at) {
        Err(_) if fs::read_link(&at).is_ok_and(|target| target == path) => Ok(()),
        made => made.map_err(|error| Failure::io("symlink", &at, &error)),
    }
}

/// Lets it disappear again; what else is there of that name stays.
pub fn unlink(path: &Path, sandbox: &Path, name: &str) -> Result<(), Failure> {
    let at = sandbox.join(name);
    if !fs::read_link(&at).is_ok_and(|target| target == path) {
        return Ok(());
    }
    fs::remove_file(&at).map_err(|error| Failure::io("unlink", &at, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Directory;

    #[test]
    fn a_volume_stays_until_it_is_removed_and_a_new_one_is_empty() {
        let work_dir = Directory::new("volumes");
        let path = create(work_dir.path(), "eng/web", "db").unwrap();
        assert_eq!(path, work_dir.path().join("volumes/roles/eng web/db"));
        fs::write(path.join("file"), "").unwrap();
        assert_eq!(create(work_dir.path(), "eng/web", "db"), Ok(path.clone()));
        assert!(path.join("file").exists());
        create_new(work_dir.path(), "eng/web", "db").unwrap();
        assert!(path.exists() && !path.join("file").exists());
        remove(work_dir.path(), "eng/web", "db").unwrap();
        assert!(!path.parent().unwrap().exists());
        assert_eq!(remove(work_dir.path(), "eng/web", "db"), Ok(()));
    }

    #[test]
    fn no_name_leads_out_of_the_work_dir() {
        let work_dir = Directory::new("volumes-names");
        for (role, id) in [("web", ".."), ("..", "x"), ("web", "a/b"), ("", "x"), ("web", "")] {
            assert!(create(work_dir.path(), role, id).is_err(), "{role:?} {id:?}");
            assert!(remove(work_dir.path(), role, id).is_err(), "{role:?} {id:?}");
        }
        let path = create(work_dir.path(), "web", "db").unwrap();
        for name in ["..", "a/b", "", "/etc"] {
            assert!(link(&path, work_dir.path(), name).is_err(), "{name:?}");
        }
        link(&path, work_dir.path(), "data").unwrap();
        link(&path, work_dir.path(), "data").unwrap();
        assert!(link(work_dir.path(), work_dir.path(), "data").is_err());
    }
}
