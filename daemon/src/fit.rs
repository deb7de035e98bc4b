//! What of an offer a task takes: the same kinds, reserved first, no more than it asks for.

use mesita_core::resources::Amount;
use mesita_core::resources::text::{self, TextValue};
use mesita_core::wire::resource::{Range, Resource, Value};
use mesita_core::wire::{Scratch, Seq};

/// An offer's resources, as tasks are taken from them.
pub(crate) struct Left<'o> {
    resources: Vec<Resource<'o>>,
    taken: Vec<Range>,
}

impl<'o> Left<'o> {
    pub(crate) fn of(offered: &Seq<'o, Resource<'o>>) -> Self {
        // What is reserved for the role goes first: nobody else can use it.
        let mut resources: Vec<Resource<'o>> = offered.iter().filter(is_usable).collect();
        resources.sort_by_key(|resource| resource.traits.reservations.is_empty());
        Self { resources, taken: Vec::new() }
    }

    /// Takes what `wanted` says, as a list; none, and nothing is taken, when it does not fit.
    pub(crate) fn take<'s>(
        &mut self,
        wanted: &str,
        list: &mut Scratch<'s>,
        parts: &mut [u8],
    ) -> Option<Seq<'s, Resource<'s>>> {
        let mut parts = Scratch::new(parts);
        let mut left = self.resources.clone();
        let mut taken = self.taken.clone();
        let mut task = Vec::new();
        for entry in text::resources(wanted).flatten() {
            match entry.value {
                TextValue::Scalar(amount) => scalar(&mut left, &mut task, entry.name, amount)?,
                TextValue::Ranges(inside) => {
                    let from = left.iter().find(|resource| resource.name == entry.name)?;
                    let Value::Ranges(offered) = from.value else { return None };
                    let ranges: Vec<Range> = text::ranges(inside).collect();
                    let fits = |range: &Range| {
                        let is_in = |of: Range| of.begin <= range.begin && range.end <= of.end;
                        let free = |of: &Range| range.end < of.begin || of.end < range.begin;
                        offered.iter().any(is_in) && taken.iter().all(free)
                    };
                    if !ranges.iter().all(fits) {
                        return None;
                    }
                    taken.extend(&ranges);
                    let ranges = parts.seq::<Range>(ranges).ok()?;
                    task.push(Resource { value: Value::Ranges(ranges), ..*from });
                }
                TextValue::Set(inside) => {
                    let from = left.iter().find(|resource| resource.name == entry.name)?;
                    let Value::Set(offered) = from.value else { return None };
                    if !text::items(inside).all(|item| offered.iter().any(|of| of == item)) {
                        return None;
                    }
                    let items = parts.seq::<&'static str>(text::items(inside)).ok()?;
                    task.push(Resource { value: Value::Set(items), ..*from });
                }
                TextValue::Text(_) => return None,
            }
        }
        let task = list.seq::<Resource<'static>>(task.iter().copied()).ok()?;
        (self.resources, self.taken) = (left, taken);
        Some(task)
    }
}

/// Disks with a life of their own, and what may be taken back, are not for a plain command.
fn is_usable(resource: &Resource<'_>) -> bool {
    let traits = &resource.traits;
    !traits.revocable && !traits.shared && traits.disk.is_none() && traits.provider.is_empty()
}

fn scalar<'o: 't, 't>(
    left: &mut [Resource<'o>],
    task: &mut Vec<Resource<'t>>,
    name: &str,
    amount: Amount,
) -> Option<()> {
    let mut wanted = amount.milli();
    for resource in left.iter_mut().filter(|resource| resource.name == name) {
        let Value::Scalar(has) = resource.value else { continue };
        let some = has.milli().min(wanted);
        if some > 0 {
            wanted -= some;
            resource.value = Value::Scalar(Amount::from_milli(has.milli() - some));
            task.push(Resource { value: Value::Scalar(Amount::from_milli(some)), ..*resource });
        }
    }
    (wanted == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::resources;
    use crate::encoded::resources_text;

    fn taken(offered: &str, wanted: &[&str]) -> Vec<Option<String>> {
        let (mut lists, mut parts) = ([0; 4096], [0; 4096]);
        let mut lists = Scratch::new(&mut lists);
        let offered = resources(offered, &mut lists, &mut parts).unwrap();
        let mut left = Left::of(&offered);
        let take = |wanted: &&str| {
            let (mut list, mut parts) = ([0; 1024], [0; 1024]);
            let taken = left.take(wanted, &mut Scratch::new(&mut list), &mut parts);
            taken.map(|taken| resources_text(&taken))
        };
        wanted.iter().map(take).collect()
    }

    #[test]
    fn tasks_are_taken_until_nothing_fits() {
        let taken = taken("cpus:2;mem:300", &["cpus:1;mem:128"; 3]);
        let one = Some("cpus:1;mem:128".to_owned());
        assert_eq!(taken, [one.clone(), one, None]);
    }

    #[test]
    fn what_is_reserved_goes_first() {
        let taken = taken("cpus:1;cpus(web):0.5;mem:100", &["cpus:0.75;mem:1"]);
        assert_eq!(taken, [Some("cpus:0.5;cpus:0.25;mem:1".to_owned())]);
    }

    #[test]
    fn the_same_port_is_not_taken_twice() {
        let wanted = "ports:[31000-31000]";
        let taken = taken("ports:[31000-31999]", &[wanted, wanted, "ports:[32000-32000]"]);
        assert_eq!(taken, [Some(wanted.to_owned()), None, None]);
    }
}
