//! Resources in Mesos' text form, and sums of them.

use std::collections::{BTreeMap, BTreeSet};

use mesita_core::wire::Seq;
use mesita_core::wire::resource::{
    Disk, DiskSource, Reservation, ReservationKind, Resource, Traits, Value,
};

use crate::leak;
use crate::support::text::{scratch, wire};

/// The entries of a text like `cpus(eng):2;disk[MOUNT:/mnt]:100;cpus{REV}:4`; the fixture's README
/// has the rest of the form.
pub fn entries(text: &str) -> Vec<Resource<'static>> {
    text.split(';').filter(|entry| !entry.is_empty()).map(entry).collect()
}

pub fn list(resources: &[Resource<'static>]) -> Seq<'static, Resource<'static>> {
    scratch().seq::<Resource<'static>>(resources.iter().copied()).unwrap()
}

/// No value has a colon, so what it is of ends at the last one.
fn entry(text: &str) -> Resource<'static> {
    let (kind, value) = text.rsplit_once(':').unwrap();
    let (name, rest) = kind.split_at(kind.find(['(', '[', '{', '<']).unwrap_or(kind.len()));
    let value = wire(&format!("{name}:{value}")).first().unwrap().value;
    let (layers, rest) = match rest.strip_prefix('(') {
        Some(rest) => reservations(rest),
        None => (vec![], rest),
    };
    let traits = Traits {
        reservations: scratch().seq::<Reservation<'static>>(layers).unwrap(),
        disk: rest.strip_prefix('[').map(|rest| disk(rest.split_once(']').unwrap().0)),
        revocable: rest.ends_with("{REV}"),
        shared: rest.ends_with("<SHARED>"),
        ..Traits::PLAIN
    };
    Resource { name: leak(name), value, traits }
}

/// Of `eng)…`, or of `reservations: [(STATIC,eng),(DYNAMIC,eng/dev)])…`; and what follows.
fn reservations(text: &str) -> (Vec<Reservation<'static>>, &str) {
    let layer = |kind, role| Reservation { role: leak(role), kind, principal: "", labels: "" };
    let Some(stack) = text.strip_prefix("reservations: [(") else {
        let (role, rest) = text.split_once(')').unwrap();
        return (vec![layer(ReservationKind::Static, role)], rest);
    };
    let (stack, rest) = stack.split_once(")])").unwrap();
    let layers = stack.split("),(").map(|one| match one.split_once(',').unwrap() {
        ("STATIC", role) => layer(ReservationKind::Static, role),
        (_, role) => layer(ReservationKind::Dynamic, role),
    });
    (layers.collect(), rest)
}

/// `MOUNT:/mnt`, `PATH:/dir`, or a volume with the path where its task sees it.
fn disk(text: &str) -> Disk<'static> {
    let (what, path) = text.split_once(':').unwrap();
    let (source, root, persistence, container_path) = match what {
        "MOUNT" => (DiskSource::Mount, path, "", ""),
        "PATH" => (DiskSource::Path, path, "", ""),
        volume => (DiskSource::Root, "", volume, path),
    };
    let [root, persistence, container_path] = [root, persistence, container_path].map(leak);
    let (id, profile, vendor, principal) = ("", "", "", "");
    Disk { source, root, id, profile, vendor, persistence, principal, container_path }
}

const SHARED: &str = "<SHARED>";

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
            // However many use it, it is there once.
            _ if kind.ends_with(SHARED) => {}
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
    let layers: Vec<_> = traits.reservations.iter().collect();
    let stack = |layer: &Reservation<'_>| match layer.kind {
        ReservationKind::Static => format!("(STATIC,{})", layer.role),
        ReservationKind::Dynamic => format!("(DYNAMIC,{})", layer.role),
    };
    let reserved = match layers.as_slice() {
        [] => String::new(),
        [Reservation { kind: ReservationKind::Static, role, .. }] => format!("({role})"),
        layers => {
            let layers: Vec<_> = layers.iter().map(stack).collect();
            format!("(reservations: [{}])", layers.join(","))
        }
    };
    let disk = traits.disk.map_or(String::new(), |disk| match disk.source {
        DiskSource::Mount => format!("[MOUNT:{}]", disk.root),
        DiskSource::Path => format!("[PATH:{}]", disk.root),
        _ => format!("[{}:{}]", disk.persistence, disk.container_path),
    });
    let revocable = if traits.revocable { "{REV}" } else { "" };
    let shared = if traits.shared { SHARED } else { "" };
    format!("{name}{reserved}{disk}{revocable}{shared}")
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
