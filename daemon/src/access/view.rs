//! What a caller sees: reads leave out what `--acls` deny. Mesos: `ObjectApprovers` of its reads.
//!
//! A task and an executor count as those of their framework's user, and are seen only with their
//! framework. What of an agent is reserved for a role or allocated to one is seen with the role; sums
//! over all of them are told whole, for they say nothing of whose.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mesita_core::acls::Action;
use mesita_core::table::Id;
use mesita_core::wire::resource::Resource;

use super::Access;
use crate::catalog::Tables;
use crate::catalog::rows::{Completed, Framework};
use crate::doors::Caller;
use crate::legacy::Sum;
use crate::legacy::roles::lineage;

/// What belongs to frameworks, as far as it is seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    framework: bool,
    tasks: bool,
    executors: bool,
}

impl Access {
    /// True when a caller sees the tasks of a user's framework.
    pub(crate) fn sees_tasks(&self, caller: &Caller, user: &str) -> bool {
        self.seen(caller, user).tasks
    }

    /// True when a caller sees a user's frameworks.
    pub(crate) fn sees_frameworks(&self, caller: &Caller, user: &str) -> bool {
        self.seen(caller, user).framework
    }

    /// True when a caller sees the executors of a user's framework.
    pub(crate) fn sees_executors(&self, caller: &Caller, user: &str) -> bool {
        self.seen(caller, user).executors
    }

    fn seen(&self, caller: &Caller, user: &str) -> Seen {
        let may = |action| self.may(caller, action, Some(user));
        let framework = may(Action::ViewFramework);
        Seen {
            framework,
            tasks: framework && may(Action::ViewTask),
            executors: framework && may(Action::ViewExecutor),
        }
    }
}

impl Tables {
    /// What of all this a caller sees; a clone when that is everything. O(rows) else.
    pub(crate) fn seen_by(&self, access: &Access, caller: &Caller) -> Self {
        let actions =
            [Action::ViewFramework, Action::ViewTask, Action::ViewExecutor, Action::ViewRole];
        if access.is_open(&actions) {
            return self.clone();
        }
        let of = |framework: &Framework| access.seen(caller, framework.of_user());
        let by_row: BTreeMap<Id, Seen> =
            self.frameworks.iter().map(|(id, row)| (id, of(row))).collect();
        let seen = |id: Id, what: fn(&Seen) -> bool| by_row.get(&id).is_some_and(what);
        let completed_frameworks = self.completed_frameworks.iter();
        let over = |list: &VecDeque<Completed>| -> Arc<VecDeque<Completed>> {
            let seen = list.iter().filter(|one| access.sees_tasks(caller, &one.user));
            Arc::new(seen.cloned().collect())
        };
        let roles = self.whole().roles().into_iter();
        let unseen = roles.filter(|role| !access.may(caller, Action::ViewRole, Some(role)));
        let unseen_roles: BTreeSet<Box<str>> = unseen.map(Box::from).collect();
        let weights = self.weights.iter().filter(|(role, _)| !unseen_roles.contains(*role));
        Self {
            frameworks: self.frameworks.only(|id, _| seen(id, |one| one.framework)),
            tasks: self.tasks.only(|_, task| seen(task.framework, |one| one.tasks)),
            executors: self.executors.only(|_, row| seen(row.framework, |one| one.executors)),
            offers: self.offers.only(|_, row| seen(row.framework, |one| one.framework)),
            operations: self.operations.only(|_, row| seen(row.framework, |one| one.framework)),
            inverse: self.inverse.only(|_, row| seen(row.framework, |one| one.framework)),
            weights: Arc::new(weights.map(|(role, weight)| (role.clone(), *weight)).collect()),
            completed: over(&self.completed),
            unreachable: over(&self.unreachable),
            completed_frameworks: Arc::new(
                completed_frameworks.filter(|(_, row)| of(row).framework).cloned().collect(),
            ),
            unseen_roles: Arc::new(unseen_roles),
            whole: Some(Arc::new(self.whole().clone())),
            ..self.clone()
        }
    }

    /// The same without quotas that a caller may not see.
    pub(crate) fn with_quotas_seen_by(mut self, access: &Access, caller: &Caller) -> Self {
        if !access.is_open(&[Action::GetQuota]) {
            let all = self.quotas.iter();
            let seen = all.filter(|(role, _)| access.may(caller, Action::GetQuota, Some(role)));
            self.quotas =
                Arc::new(seen.map(|(role, quota)| (role.clone(), quota.clone())).collect());
        }
        self
    }

    /// The same without machines, if a caller may not know what is planned or done with them.
    pub(crate) fn with_machines_seen_by(
        mut self,
        access: &Access,
        caller: &Caller,
        action: Action,
    ) -> Self {
        if !access.may(caller, action, None) {
            self.machines = self.machines.only(|_, _| false);
        }
        self
    }

    /// Roles that frameworks are in, that something is reserved for or that somebody has set
    /// something for, and those above them. Mesos: `Master::knownRoles`.
    fn roles(&self) -> BTreeSet<String> {
        let of_frameworks = self.frameworks.iter().flat_map(|(_, row)| row.roles.iter());
        // What a framework left behind in a role that it has left.
        let of_tasks = self.tasks.iter().map(|(_, task)| &task.role);
        let of_executors = self.executors.iter().map(|(_, one)| &one.role);
        let of_frameworks = of_frameworks.chain(of_tasks).chain(of_executors);
        let set = self.quotas.keys().chain(self.weights.keys());
        let mut roles = BTreeSet::new();
        let mut put = |role: &str| roles.extend(lineage(role).map(str::to_owned));
        of_frameworks.chain(set).for_each(|role| put(role));
        for (_, agent) in self.agents.iter().filter(|(_, agent)| agent.is_known()) {
            Sum::by_role(&agent.resources.list()).0.keys().for_each(|role| put(role));
        }
        roles
    }

    /// Whether a role is told of.
    pub(crate) fn sees_role(&self, role: &str) -> bool {
        !self.unseen_roles.contains(role)
    }

    /// Whether a resource that is allocated to a role, or to none (empty), is told of: with all the
    /// roles that it is reserved for. Mesos: `ObjectApprovers::approved<VIEW_ROLE>(Resource)`.
    pub(crate) fn sees_resource(&self, resource: &Resource<'_>, role: &str) -> bool {
        let mut layers = resource.traits.reservations.iter();
        self.unseen_roles.is_empty()
            || (self.sees_role(role) && layers.all(|layer| self.sees_role(layer.role)))
    }

    /// Those roles, as far as they are told of.
    pub(crate) fn roles_told(&self) -> BTreeSet<String> {
        let mut roles = self.roles();
        roles.retain(|role| self.sees_role(role));
        roles
    }
}
