//! Who may do what to what, by rules that an operator writes: one pure function.
//!
//! Mesos: the local authorizer and its `--acls` (`authorizer/local/authorizer.cpp`, `acls.proto`).
//! The rules of one action are looked at in their order; the first one that both the principal and
//! the object match decides, and none matching, `permissive` does. Reading the file, and asking at
//! each call, is the daemon's; so is what a denied read leaves out of its answer.

use core::ops::Deref;

use crate::doors::same_user;

/// Rules at once. All of an action are looked at for each question.
pub const RULES_MAX: usize = 1_024;
/// Values in all rules together.
pub const VALUES_MAX: usize = 4_096;

/// Declares the actions with the names of their lists and of what they are done to.
macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $list:literal, $object:literal;)*) => {
        /// What somebody asks for. Mesos: `authorization::Action`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Action {
            $($(#[$doc])* $name,)*
        }

        impl Action {
            /// Every action, in the order of their lists' names in Mesos' file.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name of its list in Mesos' file.
            pub const fn list(self) -> &'static str {
                match self { $(Self::$name => $list,)* }
            }

            /// The key of what it is done to in a rule of that list.
            pub const fn object(self) -> &'static str {
                match self { $(Self::$name => $object,)* }
            }
        }
    };
}

actions! {
    /// Be offered resources of a role.
    RegisterFramework = "register_frameworks", "roles";
    /// Run tasks and executors as a user.
    RunTask = "run_tasks", "users";
    /// End a framework of a principal.
    TeardownFramework = "teardown_frameworks", "framework_principals";
    /// Register agents.
    RegisterAgent = "register_agents", "agents";
    /// Reserve for a role.
    ReserveResources = "reserve_resources", "roles";
    /// Take back what a principal has reserved.
    UnreserveResources = "unreserve_resources", "reserver_principals";
    /// Make volumes of a role.
    CreateVolume = "create_volumes", "roles";
    /// Destroy volumes that a principal has made.
    DestroyVolume = "destroy_volumes", "creator_principals";
    /// Grow and shrink volumes of a role.
    ResizeVolume = "resize_volumes", "roles";
    /// Make block disks of a role.
    CreateBlockDisk = "create_block_disks", "roles";
    /// Destroy block disks of a role.
    DestroyBlockDisk = "destroy_block_disks", "roles";
    /// Make mount disks of a role.
    CreateMountDisk = "create_mount_disks", "roles";
    /// Destroy mount disks of a role.
    DestroyMountDisk = "destroy_mount_disks", "roles";
    /// Destroy raw disks of a role.
    DestroyRawDisk = "destroy_raw_disks", "roles";
    /// See the quota of a role.
    GetQuota = "get_quotas", "roles";
    /// Set the quota of a role.
    UpdateQuota = "update_quotas", "roles";
    /// Set the weight of a role.
    UpdateWeight = "update_weights", "roles";
    /// See a role.
    ViewRole = "view_roles", "roles";
    /// See frameworks of a user.
    ViewFramework = "view_frameworks", "users";
    /// See tasks of a user.
    ViewTask = "view_tasks", "users";
    /// See executors of a user.
    ViewExecutor = "view_executors", "users";
    /// See containers of a user.
    ViewContainer = "view_containers", "users";
    /// Read what tasks of a user leave in their sandboxes.
    AccessSandbox = "access_sandboxes", "users";
    /// Read what a daemon logs.
    AccessMesosLog = "access_mesos_logs", "logs";
    /// See the flags of a daemon.
    ViewFlags = "view_flags", "flags";
    /// Change what a daemon logs.
    SetLogLevel = "set_log_level", "level";
    /// Read one of the paths that tell of a daemon itself.
    GetEndpoint = "get_endpoints", "paths";
    /// Say that an agent is gone for good.
    MarkAgentGone = "mark_agents_gone", "agents";
    /// End the tasks of an agent.
    DrainAgent = "drain_agents", "agents";
    /// Offer nothing new of an agent.
    DeactivateAgent = "deactivate_agents", "agents";
    /// Offer an agent again.
    ReactivateAgent = "reactivate_agents", "agents";
    /// Plan when machines are absent.
    UpdateMaintenanceSchedule = "update_maintenance_schedules", "machines";
    /// See what is planned.
    GetMaintenanceSchedule = "get_maintenance_schedules", "machines";
    /// Take machines down.
    StartMaintenance = "start_maintenances", "machines";
    /// Let machines come back.
    StopMaintenance = "stop_maintenances", "machines";
    /// See which machines are down.
    GetMaintenanceStatus = "get_maintenance_statuses", "machines";
    /// Start a container inside of another as a user.
    LaunchNestedContainer = "launch_nested_containers_as_user", "users";
    /// Start a container inside of one of a user.
    LaunchNestedContainerUnder = "launch_nested_containers_under_parent_with_user", "users";
    /// Start a process in a container as a user.
    LaunchNestedSession = "launch_nested_container_sessions_as_user", "users";
    /// Start a process in a container of a user.
    LaunchNestedSessionUnder =
        "launch_nested_container_sessions_under_parent_with_user", "users";
    /// End a container inside of one of a user.
    KillNestedContainer = "kill_nested_containers", "users";
    /// Wait for a container inside of one of a user.
    WaitNestedContainer = "wait_nested_containers", "users";
    /// Remove what a container inside of one of a user has left.
    RemoveNestedContainer = "remove_nested_containers", "users";
    /// Write to a container of a user.
    AttachContainerInput = "attach_containers_input", "users";
    /// Read from a container of a user.
    AttachContainerOutput = "attach_containers_output", "users";
    /// Start a container that belongs to no framework, as a user.
    LaunchStandaloneContainer = "launch_standalone_containers", "users";
    /// End such a container.
    KillStandaloneContainer = "kill_standalone_containers", "users";
    /// Wait for such a container.
    WaitStandaloneContainer = "wait_standalone_containers", "users";
    /// Remove what such a container has left.
    RemoveStandaloneContainer = "remove_standalone_containers", "users";
    /// See such a container.
    ViewStandaloneContainer = "view_standalone_containers", "users";
    /// Change what provides resources.
    ModifyResourceProviderConfig = "modify_resource_provider_configs", "resource_providers";
    /// Say that what provides resources is gone for good.
    MarkResourceProviderGone = "mark_resource_providers_gone", "resource_providers";
    /// See what provides resources.
    ViewResourceProvider = "view_resource_providers", "resource_providers";
    /// Remove images that nothing uses.
    PruneImages = "prune_images", "images";
    /// Say who the masters are. Mesos has no such call, and so no such list.
    ChangeMasters = "change_masters", "masters";
    /// Read and write what somebody has stored. Mesos has no store.
    AccessStore = "access_stores", "owners";
    /// Say who may use the cluster.
    ChangePrincipals = "change_principals", "principals";
}

/// Principals or objects of a rule; `L` is a list of texts, whoever owns them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity<L> {
    /// These. Of roles, `a/%` is every role below `a`.
    Some(L),
    /// All, and whoever is not known.
    Any,
    /// Nobody and nothing: what matches is denied.
    None,
}

/// One rule of the list of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<L> {
    /// The list it is in.
    pub action: Action,
    /// Who.
    pub principals: Entity<L>,
    /// What.
    pub objects: Entity<L>,
}

/// More rules, or more values in them, than are looked through at every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// What there is too much of: `rules` or `values`.
    pub what: &'static str,
    /// As many as there may be.
    pub max: usize,
}

impl core::fmt::Display for TooMany {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "more than {} {}", self.max, self.what)
    }
}

impl core::error::Error for TooMany {}

/// Rules, in memory of the caller's. Without any, and permissive, everybody may do everything.
#[derive(Clone, Copy, Debug)]
pub struct Acls<R> {
    permissive: bool,
    rules: R,
}

impl<L, V, R> Acls<R>
where
    R: Deref<Target = [Rule<L>]>,
    L: Deref<Target = [V]>,
    V: AsRef<str>,
{
    /// Takes rules in the order in which they are looked at. O(rules). [`TooMany`] beyond
    /// [`RULES_MAX`] rules, or [`VALUES_MAX`] values in all of them.
    pub fn new(permissive: bool, rules: R) -> Result<Self, TooMany> {
        let all: &[Rule<L>] = &rules;
        if all.len() > RULES_MAX {
            return Err(TooMany { what: "rules", max: RULES_MAX });
        }
        let len = |entity: &Entity<L>| match entity {
            Entity::Some(list) => list.len(),
            Entity::Any | Entity::None => 0,
        };
        let values = all.iter().fold(0usize, |sum, rule| {
            sum.saturating_add(len(&rule.principals)).saturating_add(len(&rule.objects))
        });
        if values > VALUES_MAX {
            return Err(TooMany { what: "values", max: VALUES_MAX });
        }
        Ok(Self { permissive, rules })
    }

    /// True when a principal may do this to an object. O(rules + values of that action).
    ///
    /// No principal: whoever has shown no credential, who is matched by [`Entity::Any`] alone. No
    /// object: one that has no name, such as a machine, or any of them.
    pub fn allow(&self, action: Action, principal: Option<&str>, object: Option<&str>) -> bool {
        let decided = self.decided(action, principal, object);
        decided.unwrap_or(self.permissive)
    }

    /// What a rule says, if one does: where the default is another than `permissive`.
    pub fn decided(
        &self,
        action: Action,
        principal: Option<&str>,
        object: Option<&str>,
    ) -> Option<bool> {
        let same = means(action);
        let mut rules = self.of(action);
        let rule = rules.find(|rule| {
            matches(&rule.principals, principal, is) && matches(&rule.objects, object, same)
        })?;
        let any = |entity: &Entity<L>, asked: Option<&str>| match entity {
            // A text that matched was among them.
            Entity::Some(_) => asked.is_some(),
            Entity::Any => true,
            Entity::None => false,
        };
        Some(any(&rule.principals, principal) && any(&rule.objects, object))
    }

    /// True when nobody is denied anything by this action: no rule of it, and permissive.
    pub fn is_open(&self, action: Action) -> bool {
        self.permissive && self.of(action).next().is_none()
    }

    /// Rules in all.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn of<'a>(&'a self, action: Action) -> impl Iterator<Item = &'a Rule<L>>
    where
        L: 'a,
    {
        self.rules.iter().filter(move |rule| rule.action == action)
    }
}

/// True when a rule is about it, whatever it says then.
fn matches<L, V>(entity: &Entity<L>, asked: Option<&str>, same: Same) -> bool
where
    L: Deref<Target = [V]>,
    V: AsRef<str>,
{
    match (entity, asked) {
        (Entity::Any | Entity::None, _) => true,
        (Entity::Some(_), None) => false,
        (Entity::Some(list), Some(asked)) => list.iter().any(|value| same(value.as_ref(), asked)),
    }
}

/// What says whether a value of a rule means what is asked about.
type Same = fn(&str, &str) -> bool;

fn means(action: Action) -> Same {
    match action.object() {
        "roles" => covers,
        "users" => same_user,
        _ => is,
    }
}

fn is(value: &str, asked: &str) -> bool {
    value == asked
}

/// True when a value is this role, or those above it.
fn covers(value: &str, asked: &str) -> bool {
    let Some(above) = value.strip_suffix("/%") else { return value == asked };
    let below = asked.strip_prefix(above).and_then(|rest| rest.strip_prefix("/"));
    below.is_some_and(|below| !below.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec;

    type Texts = &'static [&'static str];

    const fn rule(action: Action, who: Entity<Texts>, what: Entity<Texts>) -> Rule<Texts> {
        Rule { action, principals: who, objects: what }
    }

    fn permissive(rules: &[Rule<Texts>]) -> Acls<&[Rule<Texts>]> {
        Acls::new(true, rules).unwrap()
    }

    #[test]
    fn without_rules_permissive_decides() {
        for permissive in [true, false] {
            let none: &[Rule<Texts>] = &[];
            let acls = Acls::new(permissive, none).unwrap();
            for &action in Action::ALL {
                assert_eq!(acls.allow(action, Some("a"), Some("b")), permissive);
                assert_eq!(acls.allow(action, None, None), permissive);
                assert_eq!(acls.is_open(action), permissive);
            }
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = [
            rule(Action::RunTask, Entity::Some(&["a"]), Entity::Some(&["root"])),
            rule(Action::RunTask, Entity::Any, Entity::None),
        ];
        let acls = permissive(&rules);
        assert!(acls.allow(Action::RunTask, Some("a"), Some("root")));
        assert!(!acls.allow(Action::RunTask, Some("a"), Some("guest")));
        assert!(!acls.allow(Action::RunTask, Some("b"), Some("root")));
        assert!(!acls.allow(Action::RunTask, None, Some("root")));
        assert!(acls.allow(Action::ViewTask, Some("b"), Some("root")), "another list");
        assert_eq!(acls.decided(Action::RunTask, Some("a"), Some("root")), Some(true));
        assert_eq!(acls.decided(Action::ViewTask, Some("a"), Some("root")), None);
    }

    #[test]
    fn root_is_meant_by_its_number_too() {
        let rules = [rule(Action::RunTask, Entity::None, Entity::Some(&["root", "www"]))];
        let acls = permissive(&rules);
        let may = |action, user| acls.allow(action, Some("a"), Some(user));
        assert!(!may(Action::RunTask, "root") && !may(Action::RunTask, "0"));
        assert!(!may(Action::RunTask, "www") && may(Action::RunTask, "pi"));
        let rules = [rule(Action::ChangePrincipals, Entity::None, Entity::Some(&["root"]))];
        assert!(permissive(&rules).allow(Action::ChangePrincipals, Some("a"), Some("0")));
    }

    #[test]
    fn nobody_known_is_matched_by_any_and_denied_by_none() {
        let some = [rule(Action::ViewFlags, Entity::Some(&["a"]), Entity::Any)];
        assert!(permissive(&some).allow(Action::ViewFlags, None, None), "no rule is about it");
        let closed = Acls::new(false, &some[..]).unwrap();
        assert!(!closed.allow(Action::ViewFlags, None, None));
        assert!(closed.allow(Action::ViewFlags, Some("a"), None));
        let nobody = [rule(Action::ViewFlags, Entity::None, Entity::Any)];
        assert!(!permissive(&nobody).allow(Action::ViewFlags, Some("a"), None));
        assert!(!permissive(&nobody).allow(Action::ViewFlags, None, None));
    }

    #[test]
    fn roles_below_another_are_named_together() {
        let rules = [
            rule(Action::RegisterFramework, Entity::Some(&["a"]), Entity::Some(&["web/%", "db"])),
            rule(Action::RegisterFramework, Entity::Any, Entity::None),
        ];
        let acls = permissive(&rules);
        let may = |role| acls.allow(Action::RegisterFramework, Some("a"), Some(role));
        assert!(may("web/x") && may("web/x/y") && may("db"));
        assert!(!may("web") && !may("web/") && !may("webs/x") && !may("db/x"));
        let users = [
            rule(Action::RunTask, Entity::Any, Entity::Some(&["u/%"])),
            rule(Action::RunTask, Entity::Any, Entity::None),
        ];
        let acls = permissive(&users);
        assert!(!acls.allow(Action::RunTask, None, Some("u/x")), "users are no roles");
    }

    #[test]
    fn more_than_is_looked_through_at_every_call_is_refused() {
        let one = rule(Action::RunTask, Entity::Any, Entity::Any);
        let rules = vec![one; RULES_MAX + 1];
        let refused = Acls::new(true, &rules[..]).unwrap_err();
        assert_eq!(refused.to_string(), "more than 1024 rules");
        assert!(Acls::new(true, &rules[1..]).is_ok());
        static MANY: [&str; VALUES_MAX] = ["x"; VALUES_MAX];
        let full = [rule(Action::RunTask, Entity::Some(&MANY), Entity::Any)];
        assert!(Acls::new(true, &full[..]).is_ok());
        let over = [rule(Action::RunTask, Entity::Some(&MANY), Entity::Some(&["y"]))];
        assert_eq!(Acls::new(true, &over[..]).unwrap_err().what, "values");
    }

    #[test]
    fn every_list_has_a_name_of_its_own() {
        for (at, action) in Action::ALL.iter().enumerate() {
            let before = &Action::ALL[..at];
            assert!(before.iter().all(|other| other.list() != action.list()), "{action:?}");
        }
        assert_eq!(Action::ALL.len(), 54 + 3, "as many as Mesos has, and three of our own");
    }
}
