//! Processes beside a container's task that are told apart from it, with limits of their own or
//! without.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use mesita_core::wire::task::Exit;

use super::{Error, Isolation, Killed, Prepared};
use crate::cgroups::{self, Part};
use crate::isolators::{self, Additions, Container, Isolator, Limitation, TaskLimits, Usage};
use crate::keeper::protocol::path_text;

/// The isolator without which nobody inside of another container has limits of its own.
const FIRST: &str = "cgroups/mem";

impl Isolation<'_> {
    /// What a process gets that runs [`beside`](Self::beside) a container's task and is told apart from
    /// it: in cgroups of its own, below those of the container, which limit both of them together.
    /// Unless `limits` are [`shared`](TaskLimits::shared), it has those as well.
    pub fn enclose(&self, part: Part, limits: &TaskLimits) -> Result<Prepared, Error> {
        let mut prepared = self.beside(part.of, limits)?;
        let directories = self.enclosed(part);
        let made = self.make_part(part, &directories, limits, &mut prepared.additions);
        if let Err(error) = made {
            // The first failure is the one to report.
            let _ = self.remove(&directories);
            return Err(error);
        }
        for (cgroup, directory) in prepared.cgroups.iter_mut().zip(&directories) {
            cgroup.directory = path_text(directory);
        }
        Ok(prepared)
    }

    fn make_part(
        &self,
        part: Part,
        directories: &[PathBuf],
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        if !limits.shared {
            if self.limiting().next().is_none() {
                let what = "limits of its own inside of another container";
                return Err(Error::Isolator(FIRST, isolators::Error::Off(what)));
            }
            self.cgroups.divide(self.sys, part.of).map_err(Error::Cgroups)?;
        }
        for directory in directories {
            self.sys.make(directory).map_err(Error::Cgroups)?;
        }
        if limits.shared {
            return Ok(());
        }
        let own = self.part(part);
        self.each_limiting(|isolator| isolator.prepare(&own, limits, additions))
    }

    /// Kills what was enclosed, and waits until it is gone, at most 10 s.
    pub fn kill_enclosed(&self, part: Part) -> Result<Killed, Error> {
        if !self.has_cgroups() {
            return Ok(Killed::AskKeeper);
        }
        cgroups::kill(self.sys, &self.enclosed(part)).map_err(Error::Alive)?;
        Ok(Killed::All)
    }

    /// Undoes [`enclose`](Self::enclose) once nothing of it is alive. Twice is as good.
    pub fn disclose(&self, part: Part) -> Result<(), Error> {
        self.remove(&self.enclosed(part))
    }

    /// As [`watch`](Self::watch), of one that has limits of its own.
    pub fn watch_enclosed(&self, part: Part) -> Result<Vec<OwnedFd>, Error> {
        let own = self.part(part);
        let mut watches = Vec::new();
        self.each_limiting(|isolator| {
            watches.extend(isolator.watch(&own)?);
            Ok(())
        })?;
        Ok(watches)
    }

    /// Which limit of its own it has run into, so far or in the end.
    pub fn limitation_enclosed(
        &self,
        part: Part,
        exit: Option<Exit>,
    ) -> Result<Option<Limitation>, Error> {
        let own = self.part(part);
        let mut found = None;
        self.each_limiting(|isolator| {
            if found.is_none() {
                found = isolator.limitation(&own, exit)?;
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// What it uses and used, if it has limits of its own.
    pub fn usage_enclosed(&self, part: Part) -> Result<Usage, Error> {
        let own = self.part(part);
        let mut usage = Usage::default();
        self.each_limiting(|isolator| isolator.usage(&own, &mut usage))?;
        Ok(usage)
    }

    /// The isolators that limit parts of containers as well.
    fn limiting(&self) -> impl Iterator<Item = (&'static str, &dyn Isolator)> {
        let all = self.isolators.iter().map(|(name, isolator)| (*name, &**isolator));
        all.filter(|(_, isolator)| isolator.limits_parts())
    }

    fn each_limiting(
        &self,
        mut what: impl FnMut(&dyn Isolator) -> Result<(), isolators::Error>,
    ) -> Result<(), Error> {
        self.limiting().try_for_each(|(name, isolator)| {
            what(isolator).map_err(|error| Error::Isolator(name, error))
        })
    }

    fn part(&self, part: Part) -> Container<'_> {
        Container { part: Some(part), ..self.container(part.of) }
    }

    fn enclosed(&self, part: Part) -> Vec<PathBuf> {
        let places = self.cgroups.places().iter();
        places.map(|place| part.below(&place.directory)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mesita_core::wire::ContainerId;

    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::isolators::Cap;
    use crate::sys::Sys;
    use crate::sys::fake::Fake;

    const V1: &str = "/sys/fs/cgroup/memory/mesita/0001020304050607/1-1";
    const V2: &str = "/sys/fs/cgroup/mesita/0001020304050607/1-1";
    const MIB: u64 = 1 << 20;
    const NAMES: [&str; 3] = ["cgroups/cpu", "cgroups/mem", "cgroups/pids"];

    fn part(within: Option<ContainerId>, counter: u32) -> Part {
        let id = ContainerId { incarnation: u32::MAX, counter };
        Part { of: CONTAINER.into(), within, id }
    }

    fn limits(mib: u64) -> TaskLimits {
        let mem_limit = Some(Cap::At(2 * mib * MIB));
        TaskLimits { cpus_milli: 500, mem_bytes: mib * MIB, mem_limit, ..TaskLimits::default() }
    }

    /// One that runs, with a process of its own.
    fn running<'s>(sys: &'s Fake, at: &str) -> Isolation<'s> {
        let isolation = isolation(sys, &NAMES);
        isolation.prepare(CONTAINER, &limits(64)).unwrap();
        sys.put_processes(Path::new(at), &[70, 71]);
        isolation
    }

    #[test]
    fn a_part_has_limits_of_its_own_below_those_of_the_container() {
        let sys = Fake::v1();
        let isolation = running(&sys, V1);
        let own = part(None, 5);
        let prepared = isolation.enclose(own, &limits(16)).unwrap();
        let at = format!("{V1}/{}", own.id);
        assert_eq!(sys.text(&format!("{at}/memory.limit_in_bytes")), "33554432");
        assert_eq!(sys.text(&format!("{at}/memory.soft_limit_in_bytes")), "16777216");
        let procs = sys.text(&format!("{V1}/cgroup.procs"));
        assert_eq!(procs.split_whitespace().collect::<Vec<_>>(), ["70", "71"], "v1 moves nobody");
        assert!(prepared.cgroups.iter().any(|cgroup| cgroup.directory.to_str() == Ok(&at)));
        assert!(prepared.additions.oom_score_adj > 900, "who takes more than it asked for goes");
        isolation.disclose(own).unwrap();
        assert!(sys.children(Path::new(&at)).is_err());
    }

    #[test]
    fn with_v2_the_processes_of_the_container_give_way_first() {
        let sys = Fake::v2("/", &[50]);
        let isolation = running(&sys, V2);
        let own = part(None, 5);
        isolation.enclose(own, &limits(16)).unwrap();
        let at = format!("{V2}/{}", own.id);
        assert_eq!(sys.text(&format!("{at}/memory.max")), "33554432");
        assert_eq!(sys.text(&format!("{at}/cpu.weight")), "50");
        assert_eq!(sys.text(&format!("{V2}/cgroup.procs")).trim(), "");
        let leaf = sys.text(&format!("{V2}/self/cgroup.procs"));
        assert_eq!(leaf.split_whitespace().collect::<Vec<_>>(), ["70", "71"]);
        // Once is enough, and what shares is beside it, and counts for whom it is inside of.
        isolation.enclose(part(None, 6), &limits(16)).unwrap();
        let shared = TaskLimits { shared: true, ..TaskLimits::default() };
        let inner = part(Some(own.id), 7);
        isolation.enclose(inner, &shared).unwrap();
        assert!(sys.children(Path::new(&format!("{at}/{}", inner.id))).is_ok());
        isolation.disclose(own).unwrap();
        assert!(sys.children(Path::new(&at)).is_err());
    }

    #[test]
    fn what_shares_moves_nobody() {
        let sys = Fake::v2("/", &[50]);
        let isolation = running(&sys, V2);
        let shared = TaskLimits { shared: true, ..TaskLimits::default() };
        isolation.enclose(part(None, 5), &shared).unwrap();
        assert!(sys.children(Path::new(&format!("{V2}/self"))).is_err());
        assert!(!sys.text(&format!("{V2}/cgroup.procs")).is_empty());
    }

    #[test]
    fn limits_that_nobody_sets_are_refused_and_nothing_is_left() {
        let sys = Fake::v1();
        let isolation = isolation(&sys, &["linux/nnp"]);
        let refused = isolation.enclose(part(None, 5), &limits(16)).unwrap_err();
        assert!(refused.to_string().contains("limits of its own"), "{refused}");
        assert!(isolation.enclose(part(None, 5), &TaskLimits::default()).is_err());
    }

    #[test]
    fn who_runs_into_a_limit_of_its_own_is_told_alone() {
        for (sys, at, event) in
            [(Fake::v1(), V1, "memory.oom_control"), (Fake::v2("/", &[50]), V2, "memory.events")]
        {
            let isolation = running(&sys, at);
            let own = part(None, 5);
            isolation.enclose(own, &limits(16)).unwrap();
            let below = format!("{at}/{}", own.id);
            sys.put(&format!("{below}/{event}"), "oom 1\noom_kill 1\n");
            if at == V2 {
                // The kernel counts upwards, too, but for what is a cgroup's own.
                sys.put(&format!("{at}/{event}"), "oom 1\noom_kill 1\n");
                sys.put(&format!("{at}/memory.events.local"), "oom 0\noom_kill 0\n");
                sys.put(&format!("{below}/memory.events.local"), "oom 1\noom_kill 1\n");
            }
            let told = isolation.limitation_enclosed(own, None).unwrap();
            assert_eq!(told.unwrap().reason, isolators::Reason::Memory);
            assert_eq!(isolation.limitation(CONTAINER).unwrap(), None, "{at}");
        }
    }
}
