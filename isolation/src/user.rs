//! Users of this machine by name, as tasks ask for them.

use std::ffi::CString;
use std::fmt;

use crate::keeper::protocol;
use crate::sys::errno_text;

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
    let named = nix::unistd::User::from_name(name).map_err(failed)?;
    let user = match (named, name.parse()) {
        (Some(user), _) => user,
        // This number means "nobody" to every call that takes one.
        (None, Ok(u32::MAX) | Err(_)) => return Err(unknown()),
        (None, Ok(uid)) => {
            let known = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
            match known.map_err(failed)? {
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

/// The name of a user id; none if the machine has no name for it.
pub fn name_of(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok().flatten().map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
