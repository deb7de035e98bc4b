//! Which agents a framework wants. Mesos: `OfferConstraintsFilter`.

use mesita_core::limits::HEAD_MAX;
use mesita_core::table::Full;
use mesita_core::wire::call::{
    self, Constraint, ConstraintGroup, Constraints, Predicate, Selector, Verb,
};
use mesita_core::wire::{FrameworkId, Head, Scratch, Seq};

use super::{BadCall, MEMORY, Said};
use crate::pb::mesos::v1 as pb;
use crate::v1::patterns;
use pb::scheduler::{AttributeConstraint, OfferConstraints};

/// What can be said of constraints by themselves. Mesos: `OfferConstraintsFilter::create`.
pub(super) fn check_constraints(
    constraints: &OfferConstraints,
    roles: &Seq<'_, &str>,
) -> Result<(), BadCall> {
    let bad = |why: String| Err(BadCall::Framework(format!("Invalid 'offer_constraints': {why}")));
    for (role, of_role) in &constraints.role_constraints {
        if !roles.iter().any(|own| own == role) {
            return bad(format!("the framework is not in role '{role}'"));
        }
        if of_role.groups.is_empty() {
            return bad(format!("role '{role}' has no group of constraints"));
        }
        for one in of_role.groups.iter().flat_map(|group| &group.attribute_constraints) {
            let checked = constraint(one).and_then(|one| match one.predicate {
                Predicate::TextMatches | Predicate::TextNotMatches => {
                    patterns::read(one.value).map(drop)
                }
                Predicate::Exists
                | Predicate::NotExists
                | Predicate::TextEquals
                | Predicate::TextNotEquals => Ok(()),
            });
            checked.map_err(|why| {
                BadCall::Framework(format!("Invalid 'offer_constraints' of role '{role}': {why}"))
            })?;
        }
        if of_role.groups.iter().any(|group| group.attribute_constraints.is_empty()) {
            return bad(format!("a group of role '{role}' has no constraints"));
        }
    }
    Ok(())
}

/// One constraint for the core.
pub(in crate::v1) fn constraint(one: &AttributeConstraint) -> Result<Constraint<'_>, String> {
    use pb::scheduler::attribute_constraint::predicate::Predicate as Told;
    use pb::scheduler::attribute_constraint::selector::{PseudoattributeType, Selector as Of};
    let (selector, attribute) = match &one.selector.selector {
        Some(Of::AttributeName(name)) => (Selector::Attribute, name.as_str()),
        Some(Of::PseudoattributeType(number)) => {
            let kind = PseudoattributeType::try_from(*number);
            match kind.unwrap_or(PseudoattributeType::Unknown) {
                PseudoattributeType::Hostname => (Selector::Hostname, ""),
                PseudoattributeType::Region => (Selector::Region, ""),
                PseudoattributeType::Zone => (Selector::Zone, ""),
                PseudoattributeType::Unknown => {
                    return Err("an unknown pseudoattribute".to_owned());
                }
            }
        }
        None => return Err("a constraint without a selector".to_owned()),
    };
    let (predicate, value) = match &one.predicate.predicate {
        Some(Told::Exists(_)) => (Predicate::Exists, ""),
        Some(Told::NotExists(_)) => (Predicate::NotExists, ""),
        Some(Told::TextEquals(text)) => (Predicate::TextEquals, text.value.as_str()),
        Some(Told::TextNotEquals(text)) => (Predicate::TextNotEquals, text.value.as_str()),
        Some(Told::TextMatches(told)) => (Predicate::TextMatches, told.regex.as_str()),
        Some(Told::TextNotMatches(told)) => (Predicate::TextNotMatches, told.regex.as_str()),
        None => return Err("a constraint without a predicate".to_owned()),
    };
    Ok(Constraint { selector, attribute, predicate, value })
}

/// True when a framework does not want every agent.
pub(crate) fn is_choosy(constraints: Option<&OfferConstraints>) -> bool {
    constraints.is_some_and(|one| !one.role_constraints.is_empty())
}
/// The call that sets a framework's constraints to those that were checked; none = all agents.
pub(crate) fn constrain(
    constraints: Option<&OfferConstraints>,
    framework: FrameworkId,
) -> Result<Said, BadCall> {
    let mut memory = vec![0; MEMORY];
    let mut scratch = Scratch::new(&mut memory);
    let mut roles = Vec::new();
    for (role, of_role) in constraints.iter().flat_map(|one| &one.role_constraints) {
        let mut groups = Vec::new();
        for group in &of_role.groups {
            let all = group.attribute_constraints.iter().flat_map(constraint);
            let all = scratch.seq::<Constraint<'static>>(all)?;
            groups.push(ConstraintGroup { all });
        }
        let groups = scratch.seq::<ConstraintGroup<'static>>(groups)?;
        roles.push(Constraints { role, groups });
    }
    let roles = scratch.seq::<Constraints<'static>>(roles)?;
    let verb = Verb::Constrain { roles };
    let head = Head::Call(call::Call { framework, ticket: 0, verb });
    // Our own types have no way to fail.
    let head = postcard::to_allocvec(&head).unwrap_or_default();
    if head.len() > HEAD_MAX {
        return Err(Full.into());
    }
    Ok(Said { head, bodies: Vec::new(), bad: Vec::new() })
}
