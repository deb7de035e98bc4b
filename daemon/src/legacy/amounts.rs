//! Resources as these endpoints tell them: `cpus`, `mem`, `disk` and `gpus` always, as numbers;
//! ranges and sets as text. Mesos: `common/http.cpp`, `model(Resources)`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use mesita_core::resources::Amount;
use mesita_core::wire::Seq;
use mesita_core::wire::resource::{Resource, Value};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::ink::Row;
use crate::v1::amounts::double;

/// Told of everything, whether there is any of it or not.
const COMMON: [&str; 4] = ["disk", "mem", "gpus", "cpus"];

/// A sum of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Thousandths of what is common, in that order.
    common: [u64; COMMON.len()],
    scalars: BTreeMap<Box<str>, u64>,
    ranges: BTreeMap<String, BTreeSet<(u64, u64)>>,
    sets: BTreeMap<String, BTreeSet<String>>,
}

impl Sum {
    /// All of a list.
    pub(crate) fn of(list: &Seq<'_, Resource<'_>>) -> Self {
        let mut sum = Self::default();
        sum.add(list);
        sum
    }

    /// Those of a list that are reserved, by role, and those that are not.
    pub(crate) fn by_role(list: &Seq<'_, Resource<'_>>) -> (BTreeMap<String, Self>, Self) {
        let (mut reserved, mut free) = (BTreeMap::<String, Self>::new(), Self::default());
        for resource in list.iter() {
            match resource.traits.reservations.iter().last() {
                Some(layer) => reserved.entry(layer.role.to_owned()).or_default().put(&resource),
                None => free.put(&resource),
            }
        }
        (reserved, free)
    }

    /// Adds all of a list.
    pub(crate) fn add(&mut self, list: &Seq<'_, Resource<'_>>) {
        for resource in list.iter() {
            self.put(&resource);
        }
    }

    fn put(&mut self, resource: &Resource<'_>) {
        let named = || format!("{}_revocable", resource.name);
        let name = match resource.traits.revocable {
            false => Cow::Borrowed(resource.name),
            true => Cow::Owned(named()),
        };
        match &resource.value {
            Value::Scalar(amount) => *self.scalar_mut(&name) += amount.milli(),
            Value::Ranges(ranges) => {
                let ranges = ranges.iter().map(|range| (range.begin, range.end));
                self.ranges.entry(name.into_owned()).or_default().extend(ranges);
            }
            Value::Set(items) => {
                let items = items.iter().map(str::to_owned);
                self.sets.entry(name.into_owned()).or_default().extend(items);
            }
        }
    }

    fn scalar_mut(&mut self, name: &str) -> &mut u64 {
        match COMMON.iter().position(|common| *common == name) {
            Some(place) => &mut self.common[place],
            None => self.scalars.entry(name.into()).or_default(),
        }
    }

    /// Adds all of another.
    pub(crate) fn join(&mut self, other: &Self) {
        for (name, milli) in other.all_scalars() {
            *self.scalar_mut(name) += milli;
        }
        for (name, ranges) in &other.ranges {
            self.ranges.entry(name.clone()).or_default().extend(ranges);
        }
        for (name, items) in &other.sets {
            self.sets.entry(name.clone()).or_default().extend(items.iter().cloned());
        }
    }

    fn all_scalars(&self) -> impl Iterator<Item = (&str, u64)> {
        let common = COMMON.into_iter().zip(self.common);
        common.chain(self.scalars.iter().map(|(name, milli)| (&**name, *milli)))
    }

    /// Scalars that there is something of.
    pub(crate) fn scalars(&self) -> BTreeMap<&str, f64> {
        let scalars = self.all_scalars().filter(|(_, milli)| *milli > 0);
        scalars.map(|(name, milli)| (name, double(Amount::from_milli(milli)))).collect()
    }

    /// How much there is of a scalar.
    pub(crate) fn scalar(&self, name: &str) -> f64 {
        let found = self.all_scalars().find(|(of, _)| *of == name);
        double(Amount::from_milli(found.map_or(0, |(_, milli)| milli)))
    }

    /// Ranges and sets as text, by name.
    fn texts(&self) -> impl Iterator<Item = (&str, String)> {
        let ranges = self.ranges.iter().map(|(name, ranges)| (&**name, ranges_text(ranges)));
        let sets = self.sets.iter().map(|(name, items)| {
            let items: Vec<&str> = items.iter().map(String::as_str).collect();
            (&**name, format!("{{{}}}", items.join(", ")))
        });
        ranges.chain(sets)
    }

    /// Writes it as `Serialize` does.
    pub(super) fn write(&self, into: &mut Row<'_>) {
        for (name, milli) in self.all_scalars() {
            into.key_of(name).thousandths(milli);
        }
        for (name, text) in self.texts() {
            into.key_of(name).text(&text);
        }
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, milli) in self.all_scalars() {
            map.serialize_entry(name, &double(Amount::from_milli(milli)))?;
        }
        for (name, text) in self.texts() {
            map.serialize_entry(name, &text)?;
        }
        map.end()
    }
}

/// Ranges in order, those that touch made one: `[31000-31009, 31020-31029]`.
pub(super) fn ranges_text(ranges: &BTreeSet<(u64, u64)>) -> String {
    let mut merged = Vec::<(u64, u64)>::new();
    for &(begin, end) in ranges {
        match merged.last_mut() {
            Some(last) if begin <= last.1.saturating_add(1) => last.1 = last.1.max(end),
            Some(_) | None => merged.push((begin, end)),
        }
    }
    let mut text = String::from("[");
    for (index, (begin, end)) in merged.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        // A string takes everything.
        let _ = write!(text, "{comma}{begin}-{end}");
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesita_core::wire::Scratch;

    #[test]
    fn a_sum_is_told_as_mesos_tells_it() {
        let (mut list, mut parts) = (vec![0; 1024], vec![0; 1024]);
        let text = "cpus:0.5;mem:64;ports:[10-19, 20-29, 40-49];gold:2";
        let mut scratch = Scratch::new(&mut list);
        let list = crate::describe::resources(text, &mut scratch, &mut parts).unwrap();
        let mut sum = Sum::of(&list);
        sum.add(&list);
        let told = serde_json::to_string(&sum).unwrap();
        assert_eq!(
            told,
            r#"{"disk":0.0,"mem":128.0,"gpus":0.0,"cpus":1.0,"gold":4.0,"ports":"[10-29, 40-49]"}"#
        );
    }
}
