//! `linux/seccomp`: a filter of a task's system calls.
//!
//! Without `--seccomp-profile-name` that is one of ours, which allows all but what no ordinary
//! program calls; with it, and where a task names another one, a file in Docker's format in
//! `--seccomp-config-dir`. A task may ask for none where `--seccomp-unconfined` says so. Mesos:
//! `linux/seccomp`, which has no profile of its own, and lets every task do so.

use std::path::Path;

use super::profile::{PROFILE_MAX, Profile, Profiles, own};
use crate::isolators::{
    Additions, Container, Error, Ground, Isolator, Seccomp, TaskLimits, Unusable,
};
use crate::keeper::wall::Wall;
use crate::sys::Sys;

/// What it does.
pub(crate) const ABOUT: &str =
    "a filter of system calls: the built-in one, or profiles in --seccomp-config-dir";

/// Profiles in a directory.
const PROFILES_MAX: usize = 64;

#[derive(Debug)]
struct Filters {
    /// The built-in one.
    own: Vec<u64>,
    profiles: Profiles,
    /// `--seccomp-profile-name`.
    default: Option<String>,
    /// `--seccomp-unconfined`.
    unconfined: bool,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    let options = ground.options;
    let profiles = match &options.seccomp_config_dir {
        Some(directory) => profiles(ground.sys, directory).map_err(Unusable::Flag)?,
        None => Profiles::new(),
    };
    let default = options.seccomp_profile_name.clone();
    if let Some(name) = default.as_ref().filter(|name| !profiles.contains_key(*name)) {
        let why = format!("--seccomp-profile-name {name} is not in --seccomp-config-dir");
        return Err(Unusable::Flag(why));
    }
    ground.require_walls()?;
    ground.require_filters()?;
    let own = own().program().ok_or(Unusable::Kernel("filters as long as the built-in one"))?;
    let unconfined = options.seccomp_unconfined;
    Ok(Box::new(Filters { own, profiles, default, unconfined }))
}

/// All files of a directory, by name.
fn profiles(sys: &dyn Sys, directory: &Path) -> Result<Profiles, String> {
    let names = sys.entries(directory).map_err(|failure| failure.to_string())?;
    if names.len() > PROFILES_MAX {
        return Err(format!("{} holds more than {PROFILES_MAX} profiles", directory.display()));
    }
    let mut profiles = Profiles::new();
    for name in names {
        let path = directory.join(&name);
        let text = sys.read(&path).map_err(|failure| failure.to_string())?;
        if text.len() as u64 > PROFILE_MAX {
            return Err(format!("{} is longer than {PROFILE_MAX} bytes", path.display()));
        }
        let profile = Profile::read(&text);
        profiles.insert(name, profile.map_err(|why| format!("{}: {why}", path.display()))?);
    }
    Ok(profiles)
}

impl Filters {
    fn program(&self, limits: &TaskLimits, additions: &Additions) -> Result<Vec<u64>, Error> {
        let name = match &limits.seccomp {
            Some(Seccomp::Profile(name)) => Some(name),
            Some(Seccomp::Unconfined) | None => self.default.as_ref(),
        };
        let Some(name) = name else { return Ok(self.own.clone()) };
        let profile = self.profiles.get(name).ok_or_else(|| Error::NoProfile(name.clone()))?;
        // What it may come to have; the isolator of that comes first.
        let mut bounding = additions.walls.iter().filter_map(|wall| {
            let Wall::Capabilities { bounding, .. } = wall else { return None };
            Some(*bounding)
        });
        let has = super::capabilities::Capabilities(bounding.next().unwrap_or(u64::MAX));
        let filter = profile.filter(has).map_err(|_| Error::NoProfile(name.clone()))?;
        filter.program().ok_or_else(|| Error::LongProfile(name.clone()))
    }
}

impl Isolator for Filters {
    fn prepare(
        &self,
        _: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        self.beside(limits, additions)
    }

    fn beside(&self, limits: &TaskLimits, additions: &mut Additions) -> Result<(), Error> {
        if limits.seccomp == Some(Seccomp::Unconfined) {
            return if self.unconfined { Ok(()) } else { Err(Error::Unconfined) };
        }
        let program = self.program(limits, additions)?;
        additions.walls.push(Wall::Seccomp { program });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, isolation, options};
    use crate::sys::fake::Fake;

    fn asking(seccomp: Seccomp) -> TaskLimits {
        TaskLimits { seccomp: Some(seccomp), ..TaskLimits::default() }
    }

    #[test]
    fn a_task_has_the_built_in_filter_unless_it_asks_for_none_and_may() {
        let sys = Fake::bare();
        let held = isolation(&sys, &["linux/seccomp"]);
        let refused = held.prepare(CONTAINER, &asking(Seccomp::Unconfined)).unwrap_err();
        assert!(refused.to_string().contains("--seccomp-unconfined"), "{refused}");
        assert!(held.beside(CONTAINER, &asking(Seccomp::Unconfined)).is_err());
        let options = Options { seccomp_unconfined: true, ..options(Some(&["linux/seccomp"])) };
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        let prepared = isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap();
        assert!(matches!(&prepared.additions.walls[..], [Wall::Seccomp { .. }]));
        let prepared = isolation.prepare(CONTAINER, &asking(Seccomp::Unconfined)).unwrap();
        assert_eq!(prepared.additions.walls, []);
        let refused = isolation.prepare(CONTAINER, &asking(Seccomp::Profile("x.json".into())));
        assert!(refused.unwrap_err().to_string().contains("x.json"));
    }

    #[test]
    fn it_is_off_where_the_kernel_filters_no_calls_and_so_is_what_others_would_filter() {
        let sys = Fake::hybrid();
        sys.filter_no_calls();
        let (isolation, off) = Isolation::new(&options(None), &sys).unwrap();
        let off: Vec<_> = off.iter().map(ToString::to_string).collect();
        assert!(matches!(&off[..], [why] if why.contains("filters of system calls")), "{off:?}");
        let limits = TaskLimits { root: true, ..TaskLimits::default() };
        let walls = isolation.prepare(CONTAINER, &limits).unwrap().additions.walls;
        assert!(!walls.iter().any(|wall| matches!(wall, Wall::Seccomp { .. })), "{walls:?}");
    }

    #[test]
    fn a_profile_of_the_directory_is_the_default_where_it_is_named() {
        let sys = Fake::bare();
        sys.put_directory("/etc/seccomp");
        let options = |name: &str| Options {
            seccomp_config_dir: Some("/etc/seccomp".into()),
            seccomp_profile_name: Some(name.to_owned()),
            ..options(Some(&["linux/seccomp"]))
        };
        sys.put("/etc/seccomp/allow.json", r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#);
        let (isolation, _) = Isolation::new(&options("allow.json"), &sys).unwrap();
        let prepared = isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap();
        let [Wall::Seccomp { program }] = &prepared.additions.walls[..] else { panic!() };
        assert!(program.len() < 10, "{program:x?}");
        assert!(Isolation::new(&options("other.json"), &sys).is_err());
        sys.put("/etc/seccomp/bad.json", "{");
        let refused = Isolation::new(&options("allow.json"), &sys).unwrap_err().to_string();
        assert!(refused.contains("/etc/seccomp/bad.json"), "{refused}");
    }
}
