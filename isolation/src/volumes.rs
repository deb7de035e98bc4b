//! Persistent volumes: directories that outlive the tasks that use them.
//!
//! `<work dir>/volumes/roles/<role>/<id>`, as Mesos has it, with a space for each `/` of a role, which
//! no role has. A volume is its last user's, mode 0700; what is above it can be passed through, and
//! read by nobody. A task finds it in its sandbox through a symbolic link, which goes with the sandbox
//! and is never followed when that is removed.

use std::collections::BTreeSet;
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

/// The directories of all volumes of these roles and of those above them, made if need be: where who is in
/// a role finds what it may hold.
pub fn of_roles(work_dir: &Path, roles: &BTreeSet<String>) -> Result<Vec<PathBuf>, own::Error> {
    let above = |role: &str| {
        let ends = role.match_indices('/').map(|(at, _)| at).chain([role.len()]);
        ends.map(|end| role[..end].to_owned()).collect::<Vec<_>>()
    };
    let all: BTreeSet<String> = roles.iter().flat_map(|role| above(role)).collect();
    // What is nobody's has no volumes.
    let own = all.iter().filter(|role| !["", "*"].contains(&role.as_str()));
    own.map(|role| of_role(work_dir, role)).collect()
}

fn of_role(work_dir: &Path, role: &str) -> Result<PathBuf, own::Error> {
    // As if it had a volume.
    let path = path(work_dir, role, "x")?;
    let path = path.parent().unwrap_or(&path).to_owned();
    own::directory(work_dir, path.strip_prefix(work_dir).unwrap_or(&path), 0o711)?;
    Ok(path)
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
    Ok(tree::remove(&path)?)
}

/// Removes the directory of a role without volumes. Executors that run know it by itself: another one of
/// its name they would not find.
pub fn forget_role(work_dir: &Path, role: &str) {
    // One that is not empty stays.
    let _ = path(work_dir, role, "x").map(|path| path.parent().map(fs::remove_dir));
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
        assert!(path.parent().unwrap().exists() && !path.exists());
        forget_role(work_dir.path(), "eng/web");
        assert!(!path.parent().unwrap().exists());
        assert_eq!(remove(work_dir.path(), "eng/web", "db"), Ok(()));
    }

    #[test]
    fn who_is_in_a_role_finds_its_volumes_and_those_of_roles_above_and_no_others() {
        let work_dir = Directory::new("volumes-roles");
        let roles = ["eng/web", "eng/web/x", "*", ""].map(str::to_owned).into();
        let found = of_roles(work_dir.path(), &roles).unwrap();
        let all = work_dir.path().join("volumes/roles");
        assert_eq!(found, ["eng", "eng web", "eng web x"].map(|name| all.join(name)));
        let volume = create(work_dir.path(), "eng/web", "db").unwrap();
        assert!(found.iter().any(|of| volume.starts_with(of)));
        assert!(of_roles(work_dir.path(), &["..".to_owned()].into()).is_err());
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
