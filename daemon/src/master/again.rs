//! How what is reserved in one way comes to be reserved in another: RESERVE with `source`.
//!
//! Mesos: `Resources::getReservationAncestor`, `validation::operation::validate` of Reserve.

#![allow(deprecated)] // The older form of a reservation is left out of what is compared.

use super::reservations::Listed;
use crate::pb::mesos::v1 as pb;
use crate::v1::resources::stack;
use pb::resource::ReservationInfo;

/// What is to be done, in order, or what is wrong with the two lists: both must have one stack of
/// reservations each, and be the same but for it.
pub(super) fn steps(
    source: &[pb::Resource],
    resources: &[pb::Resource],
) -> Result<Vec<(Listed, Vec<pb::Resource>)>, String> {
    let (from, to) = (one_stack("source", source)?, one_stack("resources", resources)?);
    let plain = with_stack(source, &[]);
    let mut others = with_stack(resources, &[]);
    for one in &plain {
        let same = others.iter().position(|other| other == one);
        let same = same.ok_or("'source' and 'resources' must differ only in their reservations")?;
        others.swap_remove(same);
    }
    if !others.is_empty() {
        return Err("'resources' has more than 'source'".to_owned());
    }
    if from == to {
        return Err("'source' and 'resources' have the same reservations".to_owned());
    }
    let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let down = (common + 1..=from.len()).rev().map(|depth| (Listed::Unreserve, &from[..depth]));
    let up = (common + 1..=to.len()).map(|depth| (Listed::Reserve, &to[..depth]));
    Ok(down.chain(up).map(|(what, stack)| (what, with_stack(source, stack))).collect())
}

/// The stack that all of a list have.
fn one_stack(field: &str, list: &[pb::Resource]) -> Result<Vec<ReservationInfo>, String> {
    let mut stacks = list.iter().map(|one| stack(one).map_err(|bad| bad.to_string()));
    let first = stacks.next().ok_or_else(|| format!("'{field}' is empty"))??;
    for other in stacks {
        if other? != first {
            return Err(format!("all of '{field}' must have the same reservations"));
        }
    }
    Ok(first)
}

fn with_stack(list: &[pb::Resource], stack: &[ReservationInfo]) -> Vec<pb::Resource> {
    let with = |one: &pb::Resource| pb::Resource {
        role: None,
        reservation: None,
        reservations: stack.to_vec(),
        ..one.clone()
    };
    list.iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(value: f64, roles: &[&str]) -> pb::Resource {
        let layer = |role: &&str| {
            let mut layer =
                ReservationInfo { role: Some((*role).to_owned()), ..Default::default() };
            layer.set_type(pb::resource::reservation_info::Type::Dynamic);
            layer
        };
        let mut told = pb::Resource { name: "cpus".to_owned(), ..pb::Resource::default() };
        told.set_type(pb::value::Type::Scalar);
        told.scalar = Some(pb::value::Scalar { value });
        told.reservations = roles.iter().map(layer).collect();
        told
    }

    #[test]
    fn it_goes_by_way_of_the_layer_that_both_have() {
        let shown = |source: &[&str], to: &[&str]| {
            let steps = steps(&[cpus(1.0, source)], &[cpus(1.0, to)])?;
            let told = steps.iter().map(|(what, list)| {
                let roles: Vec<&str> = list[0].reservations.iter().map(|one| one.role()).collect();
                format!("{what:?} {}", roles.join(" "))
            });
            Ok::<_, String>(told.collect::<Vec<_>>())
        };
        assert_eq!(
            shown(&["a", "a/b"], &["a", "a/c"]).unwrap(),
            ["Unreserve a a/b", "Reserve a a/c"]
        );
        assert_eq!(
            shown(&["a"], &["b", "b/c"]).unwrap(),
            ["Unreserve a", "Reserve b", "Reserve b b/c"]
        );
        assert_eq!(shown(&["a", "a/b"], &["a"]).unwrap(), ["Unreserve a a/b"]);
        assert!(shown(&["a"], &["a"]).unwrap_err().contains("the same reservations"));
        let more = steps(&[cpus(1.0, &["a"])], &[cpus(2.0, &["b"])]).unwrap_err();
        assert!(more.contains("differ only"), "{more}");
        assert!(steps(&[], &[cpus(2.0, &["b"])]).unwrap_err().contains("'source' is empty"));
    }
}
