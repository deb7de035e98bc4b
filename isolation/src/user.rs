//! Users of this machine by name, as tasks ask for them.

use std::ffi::CString;
use std::fmt;

use rustix::fs::Gid;

use crate::keeper::protocol;
use crate::sys::{Failure, errno_text, use_files_as};

/// Why a name is nobody to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such user here. The task fails: names are resolved where they are used.
    Unknown(String),
    /// The user database could not be read.
    Database(String, i32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "this agent has no user `{name}`"),
            Self::Database(name, errno) => {
                write!(f, "cannot look up the user `{name}`: {}", errno_text(*errno))
            }
        }
    }
}

impl std::error::Error for Error {}

/// The group of a user id that nobody has a name for: one that owns nothing. A group of the same
/// number might be anybody's.
const NOGROUP: u32 = 65_534;

/// The ids of a user, with all groups that it is a member of. A number that is no user's name is a
/// user id, named or not: so are callers known that have no name.
pub fn resolve(name: &str) -> Result<protocol::User, Error> {
    let failed = |errno: nix::errno::Errno| Error::Database(name.to_owned(), errno as i32);
    let unknown = || Error::Unknown(name.to_owned());
    let named = found(nix::unistd::User::from_name(name)).map_err(failed)?;
    let user = match (named, name.parse()) {
        (Some(user), _) => user,
        // This number means "nobody" to every call that takes one.
        (None, Ok(u32::MAX) | Err(_)) => return Err(unknown()),
        (None, Ok(uid)) => {
            let known = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
            match found(known).map_err(failed)? {
                Some(user) => user,
                None => {
                    let gid = if uid == 0 { 0 } else { NOGROUP };
                    return Ok(protocol::User { uid, gid, groups: vec![gid] });
                }
            }
        }
    };
    let login = CString::new(user.name.as_bytes()).map_err(|_| unknown())?;
    let groups = nix::unistd::getgrouplist(&login, user.gid).map_err(failed)?;
    Ok(protocol::User {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
    })
}

/// A machine without a user database, as small boards are, has no names.
fn found<T>(looked_up: nix::Result<Option<T>>) -> nix::Result<Option<T>> {
    match looked_up {
        Err(nix::errno::Errno::ENOENT) => Ok(None),
        other => other,
    }
}

/// The name of a user id; none if the machine has no name for it.
pub fn name_of(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok().flatten().map(|user| user.name)
}

/// The name of a group id; none if the machine has no name for it.
pub fn group_name_of(gid: u32) -> Option<String> {
    let group = nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(gid));
    group.ok().flatten().map(|group| group.name)
}

/// Does something with the files and sockets of this thread as `user` has the right to; as ourselves
/// if that is nobody else, or who we are is not root. Whatever `work` starts elsewhere has our rights.
pub fn with_files_of<T>(
    user: Option<&protocol::User>,
    work: impl FnOnce() -> T,
) -> Result<T, Failure> {
    let root = rustix::process::geteuid().is_root();
    let Some(user) = user.filter(|user| root && user.uid != 0) else { return Ok(work()) };
    let failed = |errno: rustix::io::Errno| Failure::plain("setgroups", errno.raw_os_error());
    let before = rustix::process::getgroups().map_err(failed)?;
    let own = rustix::process::getegid().as_raw();
    let _back = Back { groups: before, gid: own };
    let groups: Vec<Gid> = user.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(failed)?;
    if !use_files_as(user.uid, user.gid) {
        return Err(Failure::plain("setfsuid", libc::EPERM));
    }
    Ok(work())
}

/// Makes a thread root again; one that cannot be may serve nobody any more.
struct Back {
    groups: Vec<Gid>,
    gid: u32,
}

impl Drop for Back {
    fn drop(&mut self) {
        let files = use_files_as(0, self.gid);
        if !files || rustix::thread::set_thread_groups(&self.groups).is_err() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_user_database_nobody_has_a_name() {
        use nix::errno::Errno;
        assert_eq!(found::<u32>(Err(Errno::ENOENT)), Ok(None));
        assert_eq!(found::<u32>(Err(Errno::EIO)), Err(Errno::EIO));
        assert_eq!(found(Ok(Some(7))), Ok(Some(7)));
    }

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let root = resolve("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(resolve("0"), Ok(root));
        assert_eq!(name_of(0).as_deref(), Some("root"));
    }

    #[test]
    fn an_unknown_user_is_refused_by_name() {
        for name in ["no-such-user", "4294967295", "-1", "", "a\0b"] {
            let refused = resolve(name).unwrap_err();
            assert_eq!(refused.to_string(), format!("this agent has no user `{name}`"));
        }
    }

    #[test]
    fn a_number_without_a_name_is_a_user_in_no_group_of_anybodys() {
        let expected = protocol::User { uid: 4_294_967_294, gid: NOGROUP, groups: vec![NOGROUP] };
        assert_eq!(resolve("4294967294"), Ok(expected));
        assert_eq!(name_of(4_294_967_294), None);
    }

    #[test]
    fn files_are_used_with_a_users_rights_and_ours_come_back() {
        use crate::testing::Directory;
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let directory = Directory::new("files-of");
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "x").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let root = rustix::process::geteuid().is_root();
        let nobody = protocol::User { uid: 65_534, gid: 65_534, groups: vec![65_534] };
        let read = with_files_of(Some(&nobody), || std::fs::read(&secret).is_ok()).unwrap();
        assert_eq!(read, !root, "only root can have less rights for a while");
        assert!(std::fs::read(&secret).is_ok());
        let made = directory.path().join("made");
        std::fs::write(&made, "x").unwrap();
        assert_eq!(std::fs::metadata(&made).unwrap().uid(), rustix::process::geteuid().as_raw());
    }
}
