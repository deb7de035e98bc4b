//! Resources in Mesos' text form, and sums of them.

use std::collections::{BTreeMap, BTreeSet};

use mesita_core::wire::Seq;
use mesita_core::wire::resource::{Disk, DiskSource, Resource, Value};

use crate::leak;
use crate::support::text::{scratch, wire};

/// The entries of a text like `cpus(eng):2;disk[MOUNT:/mnt]:100;cpus{REV}:4`.
pub fn entries(text: &str) -> Vec<Resource<'static>> {
    text.split(';').filter(|entry| !entry.is_empty()).map(entry).collect()
}

pub fn list(resources: &[Resource<'static>]) -> Seq<'static, Resource<'static>> {
    scratch().seq::<Resource<'static>>(resources.iter().copied()).unwrap()
}

fn entry(text: &str) -> Resource<'static> {
    let plain = text.replacen("{REV}", "", 1);
    let (plain, disk) = without_disk(&plain);
    let mut resource = wire(&plain).first().unwrap();
    resource.traits.revocable = text.contains("{REV}");
    resource.traits.disk = disk;
    resource
}

/// An entry without what it says of a disk: `disk[MOUNT:/mnt]:100` is 100 of `/mnt`.
fn without_disk(text: &str) -> (String, Option<Disk<'static>>) {
    let sources = [("[MOUNT:", DiskSource::Mount), ("[PATH:", DiskSource::Path)];
    let found = sources.iter().find_map(|(open, source)| {
        let (before, after) = text.split_once(open)?;
        let (root, rest) = after.split_once(']')?;
        let root = leak(root);
        let disk = Disk {
            source: *source,
            root,
            id: "",
            profile: "",
            vendor: "",
            persistence: "",
            principal: "",
            container_path: "",
        };
        Some((format!("{before}{rest}"), Some(disk)))
    });
    found.unwrap_or_else(|| (text.to_string(), None))
}

/// A sum of resources, by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum(BTreeMap<String, Much>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Much {
    Milli(u64),
    Ranges(Vec<(u64, u64)>),
    Items(BTreeSet<String>),
}

impl Sum {
    pub fn of<'r>(resources: impl IntoIterator<Item = Resource<'r>>) -> Self {
        let mut sum = Self::default();
        resources.into_iter().for_each(|resource| sum.add(&resource));
        sum
    }

    pub fn add(&mut self, resource: &Resource<'_>) {
        let more = match resource.value {
            Value::Scalar(amount) => Much::Milli(amount.milli()),
            Value::Ranges(ranges) => {
                Much::Ranges(ranges.iter().map(|r| (r.begin, r.end)).collect())
            }
            Value::Set(items) => Much::Items(items.iter().map(str::to_string).collect()),
        };
        self.add_much(kind(resource), more);
    }

    pub fn add_all(&mut self, other: &Self) {
        for (kind, much) in &other.0 {
            self.add_much(kind.clone(), much.clone());
        }
    }

    fn add_much(&mut self, kind: String, more: Much) {
        let Some(much) = self.0.get_mut(&kind) else {
            self.0.insert(kind, more);
            return;
        };
        match (much, more) {
            (Much::Milli(milli), Much::Milli(more)) => *milli += more,
            (Much::Ranges(ranges), Much::Ranges(more)) => {
                ranges.extend(more);
                *ranges = merged(std::mem::take(ranges));
            }
            (Much::Items(items), Much::Items(more)) => items.extend(more),
            (much, more) => panic!("{much:?} and {more:?} are of one kind"),
        }
    }
}

/// What a resource is: all of its text but the amount.
fn kind(resource: &Resource<'_>) -> String {
    let Resource { name, traits, .. } = resource;
    let role = traits.reservations.iter().last().map(|layer| layer.role);
    let role = role.map_or(String::new(), |role| format!("({role})"));
    let disk = traits.disk.map_or(String::new(), |disk| match disk.source {
        DiskSource::Mount => format!("[MOUNT:{}]", disk.root),
        DiskSource::Path => format!("[PATH:{}]", disk.root),
        source => panic!("no scenario has a disk of {source:?}"),
    });
    let revocable = if traits.revocable { "{REV}" } else { "" };
    format!("{name}{role}{disk}{revocable}")
}

fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = vec![];
    for (begin, end) in ranges {
        match merged.last_mut() {
            Some(last) if last.1 + 1 == begin => last.1 = end,
            _ => merged.push((begin, end)),
        }
    }
    merged
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entry = |(kind, much): (&String, &Much)| match much {
            Much::Milli(milli) => format!("{kind}:{}", thousandths(*milli)),
            Much::Ranges(ranges) => {
                let ranges: Vec<_> = ranges.iter().map(|(a, b)| format!("{a}-{b}")).collect();
                format!("{kind}:[{}]", ranges.join(","))
            }
            Much::Items(items) => {
                format!("{kind}:{{{}}}", items.iter().cloned().collect::<Vec<_>>().join(","))
            }
        };
        write!(f, "{}", self.0.iter().map(entry).collect::<Vec<_>>().join(";"))
    }
}

fn thousandths(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
