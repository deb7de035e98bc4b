//! Principals that the masters keep, beside those of `--credentials`: made and removed while the
//! cluster runs, and what each of them may do where no rule of `--acls` says otherwise.
//!
//! Each is a value of the masters' store under an owner that nobody else can be, so that a majority
//! has it before it counts, whoever leads knows it, and its bounds are those of the store.

use std::collections::BTreeMap;

use mesita_core::acls::Action;
use mesita_core::doors::{self, Rights, is_root, same_user};
use serde::{Deserialize, Serialize};

use super::acls::is_pattern;
use super::credentials::Credential;

/// Bytes of a user's name: what Linux takes (`LOGIN_NAME_MAX`).
const USER_MAX: usize = 255;

/// Every role: whatever is below nothing.
const ALL_ROLES: &str = "/%";

/// The owner of their values: no principal has a colon, and no local user an empty kind.
pub(crate) const OWNER: &str = ":principals";

/// What is kept of a principal, whose name is the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Terms {
    /// By which it proves who it is. Taken out before terms are told.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) secret: String,
    /// Roles of its frameworks; `web/%` is every role below `web`, and `/%` every role.
    pub(crate) roles: Vec<String>,
    /// Users of its tasks; none named = every one but root.
    pub(crate) users: Vec<String>,
    /// It operates the cluster: every call that no rule denies.
    pub(crate) operate: bool,
    /// Its nodes are agents.
    pub(crate) agent: bool,
}

impl Terms {
    /// Its tasks may be root's, by whatever name.
    pub(crate) fn has_root(&self) -> bool {
        self.users.iter().any(|user| is_root(user))
    }

    /// Refuses roles and users that nobody has.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut roles = self.roles.iter().filter(|role| *role != ALL_ROLES);
        if let Some(role) = roles.find(|role| !is_pattern(role)) {
            return Err(format!(
                "`{}` is no role: names parted by `/`, or with `/%` behind them, or `/%` alone",
                role.escape_debug()
            ));
        }
        match self.users.iter().find(|user| !is_user(user)) {
            Some(user) => Err(format!("`{}` is no user's name or number", user.escape_debug())),
            None => Ok(()),
        }
    }
}

/// True for what may be called a user: passwd(5) parts its fields by colons.
fn is_user(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b':' && byte != b'/' || byte >= 0x80;
    let fits = !name.is_empty() && name.len() <= USER_MAX && name.bytes().all(fits);
    fits && !name.starts_with('-') && doors::is_user(name)
}

/// A principal that is kept, or is in the file of `--credentials`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Principal {
    pub(super) credential: Credential,
    pub(super) terms: Terms,
    /// The terms are somebody's word: no default for a row that has what Mesos' have and no more.
    pub(super) says: bool,
}

/// All of them.
pub(super) type Kept = BTreeMap<String, Principal>;

/// Reads a value of the store, for the principal of this name.
pub(crate) fn read(name: &str, value: &[u8]) -> Result<Terms, String> {
    let bad = |error: serde_json::Error| format!("no terms of a principal: {error}");
    let terms: Terms = serde_json::from_slice(value).map_err(bad)?;
    Credential::new(name, &terms.secret)?;
    Ok(terms)
}

/// The same of one that was kept before.
pub(super) fn known(name: &str, value: &[u8]) -> Option<Principal> {
    let terms = read(name, value).ok()?;
    let credential = Credential::new(name, &terms.secret).ok()?;
    Some(Principal { credential, terms: Terms { secret: String::new(), ..terms }, says: true })
}

/// Its terms as they are told: without the secret.
pub(crate) fn told(name: &str, value: &[u8]) -> Option<Terms> {
    known(name, value).map(|principal| principal.terms)
}

impl Principal {
    /// What it may do beyond running tasks as itself.
    pub(super) fn rights(&self) -> Rights {
        if self.terms.operate { Rights::OPERATE } else { Rights::NONE }
    }

    /// Tasks of root only where that is said.
    pub(super) fn may_be_root(&self) -> bool {
        self.terms.has_root()
    }

    /// What it may do where no rule decides. What is not its own, it may not: other roles, other
    /// frameworks, root. It may read.
    pub(super) fn may(&self, action: Action, object: Option<&str>) -> bool {
        let Terms { roles, users, operate, agent, .. } = &self.terms;
        if OF_ROLES.contains(&action) {
            object.is_some_and(|role| roles.iter().any(|of| covers(of, role)))
        } else if OF_USERS.contains(&action) && users.is_empty() {
            object.is_none_or(|user| !is_root(user) && doors::is_user(user))
        } else if OF_USERS.contains(&action) {
            object.is_some_and(|user| users.iter().any(|of| same_user(of, user)))
        } else if action == Action::RegisterAgent {
            *agent
        } else if OF_ITS_OWN.contains(&action) {
            *operate || object.is_some_and(|object| object == self.credential.principal)
        } else {
            *operate || is_read(action)
        }
    }
}

/// What is done to a role.
const OF_ROLES: [Action; 4] = [
    Action::RegisterFramework,
    Action::ReserveResources,
    Action::CreateVolume,
    Action::ResizeVolume,
];
/// What is done as a user: tasks are run, and what they wrote is read by whose tasks they were.
const OF_USERS: [Action; 2] = [Action::RunTask, Action::AccessSandbox];
/// What is done to something of a principal.
const OF_ITS_OWN: [Action; 4] = [
    Action::AccessStore,
    Action::TeardownFramework,
    Action::UnreserveResources,
    Action::DestroyVolume,
];

/// True when a role is one of those that a pattern means.
fn covers(pattern: &str, role: &str) -> bool {
    match pattern.strip_suffix("/%") {
        Some("") => true,
        Some(above) => role.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')),
        None => pattern == role,
    }
}

/// True for what changes nothing. Mesos: the names of its lists say so.
fn is_read(action: Action) -> bool {
    ["view_", "get_"].iter().any(|begin| action.list().starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(terms: &str) -> Principal {
        known("web", terms.as_bytes()).unwrap()
    }

    #[test]
    fn roles_and_users_that_cannot_be_are_no_terms() {
        let terms = |roles: &[&str], users: &[&str]| {
            let all = |of: &[&str]| of.iter().map(|&one| one.to_owned()).collect();
            Terms { roles: all(roles), users: all(users), ..Terms::default() }.check()
        };
        assert_eq!(
            terms(&["*", "web", "web/a/%", "a.b", "/%"], &["root", "www-data", "1000", "j\u{e9}"]),
            Ok(())
        );
        for bad in [
            "", "a//b", "a/", "/a", "-a", "a b", "//%", "a/../b", "%", "a/%/b", "%/a", "%/%", "*/%",
        ] {
            assert!(terms(&[bad], &[]).unwrap_err().contains("is no role"), "{bad}");
        }
        for bad in ["", "no such:user", "a b", "a:b", "a/b", "-a", "a\n", "00", "+0", "033"] {
            assert!(terms(&[], &[bad]).unwrap_err().contains("is no user"), "{bad}");
        }
    }

    #[test]
    fn what_is_not_its_own_is_denied_by_default() {
        let web = principal(r#"{"secret": "s", "roles": ["web", "web/%"]}"#);
        for (action, object, may) in [
            (Action::RegisterFramework, Some("web"), true),
            (Action::RegisterFramework, Some("web/a/b"), true),
            (Action::RegisterFramework, Some("webber"), false),
            (Action::RegisterFramework, Some("*"), false),
            (Action::ReserveResources, Some("db"), false),
            (Action::ReserveResources, None, false),
            (Action::RunTask, Some("nobody"), true),
            (Action::RunTask, Some("root"), false),
            (Action::RunTask, Some("0"), false),
            (Action::RunTask, Some("00"), false),
            (Action::RunTask, Some("+0"), false),
            (Action::TeardownFramework, Some("web"), true),
            (Action::TeardownFramework, Some("db"), false),
            (Action::TeardownFramework, None, false),
            (Action::AccessStore, Some("web"), true),
            (Action::AccessStore, Some("db"), false),
            (Action::RegisterAgent, None, false),
            (Action::UpdateQuota, Some("web"), false),
            (Action::MarkAgentGone, None, false),
            (Action::ChangeMasters, None, false),
            (Action::ViewRole, Some("db"), true),
        ] {
            assert_eq!(web.may(action, object), may, "{action:?} {object:?}");
        }
        assert_eq!(web.rights(), Rights::NONE);
    }

    #[test]
    fn what_is_said_is_allowed() {
        let ops = principal(r#"{"secret": "s", "operate": true, "users": ["root", "pi"]}"#);
        assert!(ops.may(Action::UpdateQuota, Some("any")) && ops.may(Action::ChangeMasters, None));
        assert!(ops.may(Action::RunTask, Some("root")) && !ops.may(Action::RunTask, Some("www")));
        assert!(ops.may(Action::RunTask, Some("0")) && !ops.may(Action::RunTask, Some("00")));
        assert!(!ops.may(Action::RegisterFramework, Some("*")), "an operator has no role by that");
        assert!(!ops.may(Action::RegisterAgent, None));
        let all = principal(r#"{"secret": "s", "roles": ["/%"]}"#);
        ["*", "web", "web/a"].iter().for_each(|role| {
            assert!(all.may(Action::RegisterFramework, Some(role)), "{role}");
        });
        assert!(ops.may_be_root() && ops.rights() == Rights::OPERATE);
        assert!(principal(r#"{"secret": "s", "agent": true}"#).may(Action::RegisterAgent, None));
    }

    #[test]
    fn terms_that_make_no_sense_are_refused_and_secrets_are_not_told() {
        for (name, value, why) in [
            ("a", "{", "no terms"),
            ("a", r#"{"secret": "s", "role": ["x"]}"#, "role"),
            ("a", r#"{"roles": []}"#, "has no secret"),
            ("a:b", r#"{"secret": "s"}"#, "a colon"),
            ("", r#"{"secret": "s"}"#, "is no principal"),
        ] {
            let refused = read(name, value.as_bytes()).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let told = told("web", br#"{"secret": "hush", "roles": ["web"]}"#).unwrap();
        assert!(!serde_json::to_string(&told).unwrap().contains("hush"));
        assert!(!format!("{:?}", principal(r#"{"secret": "hush"}"#)).contains("hush"));
    }
}
