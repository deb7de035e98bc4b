//! What roles have, and how the endpoints tell it. Mesos: `RoleResourceBreakdown`, `Http::roles`.

use std::collections::BTreeMap;

use mesita_core::resources::Amount;
use serde_json::{Value, json};

use super::amounts::Sum;
use crate::catalog::Tables;
use crate::catalog::rows::Quota;
use crate::v1::amounts::double;

/// What one role has, of all that there is.
#[derive(Debug, Default)]
pub(crate) struct Has {
    /// By tasks and executors.
    pub(crate) allocated: Sum,
    /// By offers that were not answered.
    pub(crate) offered: Sum,
    /// Of the agents that are registered, whoever uses it.
    pub(crate) reserved: Sum,
    /// What counts against its quota: what is reserved for it and the roles below it, and what they
    /// use beside that.
    pub(super) consumed: Sum,
}

/// What every role has that has something. O(tasks + executors + offers + agents).
pub(crate) fn has_by_role(tables: &Tables) -> BTreeMap<String, Has> {
    let all = tables.whole();
    let mut roles = BTreeMap::<String, Has>::new();
    let tasks = all.tasks.iter().filter(|(_, task)| !task.latest.is_terminal());
    let tasks = tasks.map(|(_, task)| (&task.role, &task.resources));
    let executors = all.executors.iter().map(|(_, one)| (&one.role, &one.resources));
    for (role, resources) in tasks.chain(executors) {
        let list = resources.list();
        roles.entry(role.to_string()).or_default().allocated.add(&list);
        consume(&mut roles, role, &Sum::by_role(&list).1);
    }
    for (_, offer) in all.offers.iter() {
        roles.entry(offer.role.to_string()).or_default().offered.add(&offer.resources.list());
    }
    for (_, agent) in all.agents.iter().filter(|(_, one)| one.is_known()) {
        for (role, sum) in Sum::by_role(&agent.resources.list()).0 {
            consume(&mut roles, &role, &sum);
            roles.entry(role).or_default().reserved.join(&sum);
        }
    }
    roles
}

fn consume(roles: &mut BTreeMap<String, Has>, role: &str, sum: &Sum) {
    for above in lineage(role) {
        roles.entry(above.to_owned()).or_default().consumed.join(sum);
    }
}

/// A role and those above it.
pub(crate) fn lineage(role: &str) -> impl Iterator<Item = &str> {
    role.match_indices('/').map(|(at, _)| &role[..at]).chain([role])
}

/// `/roles`
pub(super) fn roles(
    tables: &Tables,
    shown: impl Fn(mesita_core::wire::FrameworkId) -> String,
) -> Value {
    let mut frameworks = BTreeMap::<&str, Vec<String>>::new();
    for (_, row) in tables.frameworks.iter() {
        for role in &row.roles {
            frameworks.entry(role).or_default().push(shown(row.id));
        }
    }
    let (mut has, none) = (has_by_role(tables), Quota::default());
    let told = tables.roles_told().into_iter().map(|role| {
        let Has { allocated, offered, reserved, consumed } = has.remove(&role).unwrap_or_default();
        let weight = tables.weights.get(&*role).copied().unwrap_or(1000);
        let mut quota = quota_row(&role, tables.quotas.get(&*role).unwrap_or(&none));
        quota["consumed"] = json!(consumed.scalars());
        let mut resources = allocated.clone();
        resources.join(&offered);
        json!({
            "name": role,
            "weight": double(Amount::from_milli(weight.into())),
            "quota": quota,
            "resources": resources.scalars(),
            "allocated": allocated.scalars(),
            "offered": offered.scalars(),
            "reserved": reserved.scalars(),
            "frameworks": frameworks.remove(&*role).unwrap_or_default(),
        })
    });
    json!({ "roles": told.collect::<Vec<Value>>() })
}

fn quota_row(role: &str, quota: &Quota) -> Value {
    let told = |amounts: &BTreeMap<Box<str>, Amount>| {
        let each = amounts.iter().map(|(name, &amount)| (name.to_string(), double(amount).into()));
        Value::Object(each.collect())
    };
    json!({"role": role, "guarantee": told(&quota.guarantees), "limit": told(&quota.limits)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_those_above_it() {
        assert_eq!(lineage("a/b/c").collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
        assert_eq!(lineage("*").collect::<Vec<_>>(), ["*"]);
    }
}
