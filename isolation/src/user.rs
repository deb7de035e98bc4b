//! Users of this machine by name, as tasks ask for them.

use std::ffi::CString;
use std::fmt;

use mesita_core::doors::{is_root, is_user};
use nix::unistd::User as Named;
use rustix::fs::Gid;

use crate::keeper::protocol;
use crate::sys::{Failure, errno_text, use_files_as};

/// Why a name is nobody to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such user here. The task fails: names are resolved where they are used.
    Unknown(String),
    /// A number that is written as rules know no user.
    Written(String),
    /// A number that this machine has a name for, by which rules know the user.
    Named(String, String),
    /// It is root under another name than rules know it by.
    Root(String),
    /// The user database could not be read.
    Database(String, i32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "this agent has no user `{name}`"),
            Self::Written(number) => write!(
                f,
                "this agent has no user `{number}`: a number has no sign and no zero before it"
            ),
            Self::Named(number, name) => {
                write!(f, "user {number} of this agent has a name: say `{name}`")
            }
            Self::Root(name) => write!(f, "user `{name}` of this agent is root: say `root`"),
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

/// The ids of a user whom something is to run as, with all groups that it is a member of.
///
/// Rules know users by texts, so each has one here: its name, or its number where this machine has no
/// name for that, as callers are known that have none. Root is `root` or `0`, and nobody else is root.
pub fn resolve(name: &str) -> Result<protocol::User, Error> {
    if let Some(named) = by_name(name)? {
        judge(name, &named)?;
        return in_groups(named);
    }
    if !is_user(name) {
        return Err(Error::Written(name.to_owned()));
    }
    match by_number(name)? {
        (_, Some(known)) if !is_root(name) => Err(Error::Named(name.to_owned(), known.name)),
        (_, Some(root)) => in_groups(root),
        (uid, None) => Ok(nameless(uid)),
    }
}

/// The same of what runs, or has run, for an agent before this one: it took every number.
pub fn resolve_begun(name: &str) -> Result<protocol::User, Error> {
    if let Some(named) = by_name(name)? {
        return in_groups(named);
    }
    let (uid, known) = by_number(name)?;
    known.map_or_else(|| Ok(nameless(uid)), in_groups)
}

/// Refuses what is root under another name than its own.
fn judge(name: &str, named: &Named) -> Result<(), Error> {
    let hidden = named.uid.is_root() && !is_root(name);
    if hidden { Err(Error::Root(name.to_owned())) } else { Ok(()) }
}

fn by_name(name: &str) -> Result<Option<Named>, Error> {
    found(Named::from_name(name)).map_err(|errno| Error::Database(name.to_owned(), errno as i32))
}

/// The number that a text is, and who has it here.
fn by_number(name: &str) -> Result<(u32, Option<Named>), Error> {
    // The last number means "nobody" to every call that takes one.
    let uid = name.parse().ok().filter(|uid| *uid != u32::MAX);
    let uid: u32 = uid.ok_or_else(|| Error::Unknown(name.to_owned()))?;
    let known = found(Named::from_uid(nix::unistd::Uid::from_raw(uid)));
    let known = known.map_err(|errno| Error::Database(name.to_owned(), errno as i32))?;
    Ok((uid, known))
}

fn nameless(uid: u32) -> protocol::User {
    let gid = if uid == 0 { 0 } else { NOGROUP };
    protocol::User { uid, gid, groups: vec![gid] }
}

fn in_groups(user: Named) -> Result<protocol::User, Error> {
    let login = CString::new(user.name.as_bytes());
    let login = login.map_err(|_| Error::Unknown(user.name.clone()))?;
    let groups = nix::unistd::getgrouplist(&login, user.gid);
    let groups = groups.map_err(|errno| Error::Database(user.name, errno as i32))?;
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

/// The name of a user id; none if the machine has no name for it. Root has no other than its own.
pub fn name_of(uid: u32) -> Option<String> {
    let user = Named::from_uid(nix::unistd::Uid::from_raw(uid));
    let name = user.ok().flatten().map(|user| user.name);
    name.map(|name| if uid == 0 { "root".to_owned() } else { name })
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
            let refused = resolve(name).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("this agent has no user `{name}`")), "{refused}");
        }
    }

    #[test]
    fn a_user_is_known_by_one_text_and_root_by_its_name_and_number() {
        for number in ["00", "+0", "000", "+00", "+4294967294", "04294967294"] {
            let refused = resolve(number).unwrap_err();
            assert_eq!(refused, Error::Written(number.to_owned()), "{refused}");
        }
        let nobody = Named::from_name("nobody").unwrap().unwrap();
        let number = nobody.uid.to_string();
        assert_eq!(resolve(&number), Err(Error::Named(number.clone(), "nobody".to_owned())));
        assert_eq!(resolve_begun(&number), resolve("nobody"));
        let root = Named::from_uid(0.into()).unwrap().unwrap();
        assert_eq!(judge("toor", &root), Err(Error::Root("toor".to_owned())));
        assert_eq!((judge("root", &root), judge("0", &root)), (Ok(()), Ok(())));
        assert_eq!(judge("nobody", &nobody), Ok(()));
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
