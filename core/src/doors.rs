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
        Some(login) => user == login,
        None => !matches!(user, "" | "root" | "0"),
    }
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
}
