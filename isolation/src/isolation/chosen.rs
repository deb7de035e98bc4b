//! Which isolators an agent has: those that its flags mean, each tried on this machine.

use std::path::{Component, Path};

use mesita_core::limits::NAME_MAX;

use super::{ALWAYS, NotHere, Options};
use crate::cgroups::{self, Cgroups, Controller, Wanted};
use crate::isolators::{Entry, Ground, Isolator, REGISTRY, Unusable, exec};
use crate::keeper::protocol::Namespaces;
use crate::sys::Sys;

/// An isolator by name, and why it cannot be used here, if it cannot.
pub type Surveyed = (&'static str, Option<Unusable>);

/// An isolator, or why there is none.
type Made = Result<Box<dyn Isolator>, Unusable>;

/// Every isolator that is meant, as far as it can be made.
pub(super) struct Tried {
    pub(super) cgroups: Cgroups,
    /// By name, and whether that was said, and not just all.
    pub(super) made: Vec<(&'static str, bool, Made)>,
    pub(super) mounts: Result<Namespaces, Unusable>,
}

impl Tried {
    pub(super) fn new(options: &Options, sys: &dyn Sys) -> Result<Self, NotHere> {
        let root = Path::new(&options.cgroups_root);
        let mut parts = root.components();
        let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !is_name {
            return Err(NotHere::Root(options.cgroups_root.clone()));
        }
        let entries = chosen(options)?;
        let rates = options.ingress_rate.or(options.egress_rate);
        for (given, isolator, flags) in [
            (
                rates.is_some(),
                "network/bandwidth",
                "--ingress-rate-limit-per-container and --egress-rate-limit-per-container are",
            ),
            (options.container_network.is_some(), "namespaces/net", "--container-network is"),
        ] {
            if given && !entries.iter().any(|(entry, _)| entry.name == isolator) {
                let why = format!("{flags} for it, and --isolation does not name it");
                return Err(NotHere::Unusable { isolator, why: Unusable::Flag(why) });
            }
        }
        let controllers: Vec<Controller> =
            entries.iter().flat_map(|(entry, _)| entry.controllers).copied().collect();
        let key: String = options.key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let wanted = Wanted {
            root: &options.cgroups_root,
            key: &key,
            keeper: options.keeper,
            controllers: &controllers,
        };
        let (cgroups, missing) = Cgroups::find(sys, wanted);
        let ground = Ground { sys, options, cgroups: &cgroups, missing: &missing };
        let of_ours =
            entries.iter().map(|(entry, named)| (entry.name, *named, (entry.make)(&ground)));
        let outside = outside(options).into_iter().map(|name| (name, true, exec::make(name)));
        let made = of_ours.chain(outside).collect();
        let mounts = ground.require_mounts();
        Ok(Self { cgroups, made, mounts })
    }
}

/// Leaves nothing of an agent that does not start; what runs from before stays.
pub(super) fn leave_all(cgroups: &Cgroups, sys: &dyn Sys) {
    for directory in cgroups.to_remove() {
        // What is in use cannot be removed.
        let _ = cgroups::leave(sys, &directory);
    }
}

/// The lines of the registry that the flag means, and whether each was named, and not with all.
pub(super) fn chosen(options: &Options) -> Result<Vec<(&'static Entry, bool)>, NotHere> {
    let everything = vec!["all".to_owned()];
    let names = options.isolators.as_ref().unwrap_or(&everything);
    let is_named = |name: &str, entry: &Entry| match name {
        "cgroups" => ["cgroups/cpu", "cgroups/mem", "cgroups/pids"].contains(&entry.name),
        "process" => ["posix/cpu", "posix/mem"].contains(&entry.name),
        "posix/disk" => entry.name == "disk/du",
        "disk/xfs" => entry.name == "disk/quota",
        "linux/devices" => entry.name == "cgroups/devices",
        "linux/rlimits" => entry.name == "posix/rlimits",
        "docker/runtime" => entry.name == "filesystem/linux",
        name => name == entry.name,
    };
    // What stands for whatever there is promises nothing of each.
    let is_meant = |name: &str, entry: &Entry| match name {
        "all" => !entry.named,
        "cgroups/all" => entry.name.starts_with("cgroups/"),
        name => is_named(name, entry),
    };
    let inside = |name: &&String| !name.starts_with(exec::PREFIX) && *name != ALWAYS;
    if let Some(name) =
        names.iter().filter(inside).find(|name| !REGISTRY.iter().any(|entry| is_meant(name, entry)))
    {
        return Err(NotHere::Unknown(name.clone()));
    }
    Ok(REGISTRY
        .iter()
        .filter(|entry| names.iter().any(|name| is_meant(name, entry)))
        .map(|entry| (entry, names.iter().any(|name| is_named(name, entry))))
        .collect())
}

/// Names by what comes before their slash, in the order in which each first appears.
pub(super) fn families(names: &[&str]) -> String {
    let mut families: Vec<(&str, String)> = Vec::new();
    for name in names {
        let (family, own) = name.split_once('/').unwrap_or(("", name));
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, all)) => {
                all.push('+');
                all.push_str(own);
            }
            None => families.push((family, own.to_owned())),
        }
    }
    let mut told = String::new();
    for (family, all) in families {
        let comma = if told.is_empty() { "" } else { "," };
        let one = format!("{comma}{family}/{all}");
        if told.len() + one.len() <= NAME_MAX {
            told.push_str(&one);
        }
    }
    told
}

/// Names of isolators from outside. They live as long as the process, as the names of ours do.
pub(super) fn outside(options: &Options) -> Vec<&'static str> {
    let names = options.isolators.iter().flatten().filter(|name| name.starts_with(exec::PREFIX));
    names.map(|name| &*String::leak(name.clone())).collect()
}
