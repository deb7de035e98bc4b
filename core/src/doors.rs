//! Who may do what: pure functions of a caller and what it asks.
//!
//! A caller is what the IO side found out about a connection (the login name behind a loopback
//! socket, later a token's or certificate's name), not what its messages claim to be. Its name and
//! rights enter the core once, and every input names it by number.

use serde::{Deserialize, Serialize};

/// What a caller may do beyond running tasks as itself: bits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, bytemuck::Zeroable,
)]
#[repr(transparent)]
pub struct Rights(u8);

impl Rights {
    /// Nothing more.
    pub const NONE: Self = Self(0);
    /// Run tasks as any user: root, over loopback.
    pub const ANY_USER: Self = Self(1);
    /// Register agents and operate the cluster: root, or the master's own user, over loopback.
    pub const OPERATE: Self = Self(2);

    /// Both rights together.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True when `right` is among them.
    pub const fn has(self, right: Self) -> bool {
        self.0 & right.0 == right.0
    }
}

impl crate::record::Zero for Rights {
    const ZERO: Self = Self::NONE;
}

/// The prefix of a caller's name that is the login name behind a loopback socket.
pub const LOCAL: &str = "local:";
/// The prefix of a caller's name that is the principal of a credential it has shown.
pub const PRINCIPAL: &str = "principal:";
/// The caller that nothing is known of.
pub const ANYONE: &str = "anyone";

/// The user that a command runs as: its own, else its executor's, else its framework's, else the
/// caller's. Empty when even that is not known.
pub fn user<'u>(
    command: &'u str,
    executor: &'u str,
    framework: &'u str,
    caller: &'u str,
) -> &'u str {
    let login = caller.strip_prefix(LOCAL).unwrap_or("");
    [command, executor, framework, login].into_iter().find(|user| !user.is_empty()).unwrap_or("")
}

/// True when a caller may run a task as `user`: root as anybody, a local user as itself, anybody
/// else as everybody but root.
pub fn may_run_as(caller: &str, rights: Rights, user: &str) -> bool {
    if rights.has(Rights::ANY_USER) {
        return !user.is_empty();
    }
    match caller.strip_prefix(LOCAL) {
        Some(login) => same_user(user, login),
        None => !user.is_empty() && !is_root(user) && is_user(user),
    }
}

/// True for what is root's: its name, and its number. Every agent refuses to know it by another one.
pub fn is_root(user: &str) -> bool {
    matches!(user, "root" | "0")
}

/// True when two texts mean one user wherever they are read. Rules know users by this: an agent refuses
/// a number where its machine has a name for it, so that no other two texts are the same user.
pub fn same_user(one: &str, other: &str) -> bool {
    one == other || (is_root(one) && is_root(other))
}

/// False for a number that is written as no other number is: `00` and `+0` are not the text by which
/// rules know a user, and would be the same user if they were read as numbers.
pub fn is_user(user: &str) -> bool {
    let digits = user.strip_prefix(['+', '-']).unwrap_or(user);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    !is_number || user == "0" || !user.starts_with(['+', '-', '0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_user_counts() {
        assert_eq!(user("a", "b", "c", "local:d"), "a");
        assert_eq!(user("", "b", "c", "local:d"), "b");
        assert_eq!(user("", "", "c", "local:d"), "c");
        assert_eq!(user("", "", "", "local:d"), "d");
        assert_eq!(user("", "", "", ANYONE), "");
    }

    #[test]
    fn tasks_run_as_their_caller_unless_it_is_root() {
        assert!(may_run_as("local:pi", Rights::NONE, "pi"));
        assert!(!may_run_as("local:pi", Rights::NONE, "root"));
        assert!(!may_run_as("local:pi", Rights::NONE, "other"));
        assert!(!may_run_as("local:pi", Rights::OPERATE, "other"));
        assert!(may_run_as("local:root", Rights::ANY_USER, "pi"));
        assert!(may_run_as(ANYONE, Rights::NONE, "pi"));
        assert!(!may_run_as(ANYONE, Rights::NONE, "root"));
        assert!(!may_run_as(ANYONE, Rights::NONE, ""), "nobody's task has no user");
        assert!(may_run_as("principal:web", Rights::OPERATE, "pi"));
        assert!(!may_run_as("principal:local:root", Rights::OPERATE, "root"), "no login name");
    }

    #[test]
    fn root_has_one_name_and_one_number_and_no_number_is_written_in_two_ways() {
        for user in ["0", "00", "+0", "-0", "000", "+00", "+33", "033"] {
            assert!(!may_run_as("principal:web", Rights::OPERATE, user), "{user}");
            assert!(!may_run_as(ANYONE, Rights::NONE, user), "{user}");
            assert_eq!(is_user(user), user == "0", "{user}");
        }
        for user in ["33", "pi", "1000", "0x0", "0a", "+", "-", "j\u{e9}"] {
            assert!(may_run_as("principal:web", Rights::NONE, user) && is_user(user), "{user}");
        }
        assert!(same_user("root", "0") && same_user("0", "root") && same_user("pi", "pi"));
        assert!(!same_user("root", "00") && !same_user("pi", "1000") && !same_user("", "root"));
        assert!(may_run_as("local:0", Rights::ANY_USER, "root"));
    }
}
