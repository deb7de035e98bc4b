//! `cgroups/mem`: a task never has more memory than its limit, and is killed alone when it tries.
//!
//! What was asked for is left to the task as long as others can be squeezed, and is the limit
//! unless the task has one of its own. A limit may be raised while the task runs, but not lowered:
//! that would kill a task for what it was allowed a moment ago. Swap is none of a task's, unless
//! `--cgroups-limit-swap=false` lets it have all there is: else who has too much is not killed, and slows
//! down everybody. Mesos: `cgroups/subsystems/memory.cpp`, where that flag is false by default; its
//! floor of 32 MB is `--min-task-mem` here, 1 MiB by default.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use mesita_core::wire::ContainerId;
use mesita_core::wire::task::Exit;

use super::Directory;
use crate::cgroups::{Controller, keyed};
use crate::isolators::{
    Additions, Cap, Container, Error, Ground, Isolator, Limitation, Reason, TaskLimits, Unusable,
    Usage,
};
use crate::sys::{Limit, Sys, Version};

/// What it does.
pub(crate) const ABOUT: &str = "memory, and swap with it, never above the limit; what exceeds it is killed alone and reported so";

/// Bytes of a limitation's message: what a status update carries.
pub const MESSAGE_MAX: usize = mesita_core::limits::MESSAGE_MAX;
/// What the kernel calls "no limit" on v1: the largest multiple of a page below 2^63.
const UNLIMITED_V1: u64 = i64::MAX.unsigned_abs() & !0xffff;

#[derive(Debug)]
struct Mem {
    /// `--min-task-mem` in bytes.
    floor: u64,
    /// Memory of the machine in bytes.
    total: u64,
    /// `--cgroups-limit-swap`.
    limits_swap: bool,
    /// What is kept for each container, with v2; none = nobody has looked yet.
    kept: Mutex<Option<BTreeMap<ContainerId, u64>>>,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    ground.require(Controller::Memory)?;
    let options = ground.options;
    Ok(Box::new(Mem {
        floor: options.min_task_mem_bytes,
        total: options.total_mem_bytes,
        limits_swap: options.cgroups_limit_swap,
        kept: Mutex::default(),
    }))
}

impl Mem {
    /// Sets the limit of memory, and that of swap: the kernel takes none of both that is less than memory's.
    fn set(
        &self,
        container: &Container<'_>,
        at: &Directory,
        limit: Option<u64>,
        fresh: bool,
    ) -> Result<(), Error> {
        let raises_both = !fresh && at.version == Version::V1;
        if self.limits_swap && raises_both {
            set_swap(container, at, limit)?;
        }
        set(container, at, limit)?;
        if self.limits_swap && !raises_both && !(fresh && limit.is_none()) {
            set_swap(container, at, limit)?;
        }
        Ok(())
    }

    /// Has v2 keep what is kept for containers from those outside of ours, too: a cgroup is kept no more
    /// than what is around it. Where that is not ours to write, it is as it was.
    fn keep(&self, container: &Container<'_>, kept: Option<u64>) {
        let place = container.cgroups.place(Controller::Memory);
        let is_whole = container.part.is_none() && container.at.inside.is_none();
        let Some(place) = place.filter(|place| is_whole && place.version == Version::V2) else {
            return;
        };
        let (sys, ours) = (container.sys, place.directory.as_path());
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.get_or_insert_with(|| {
            let known = of_each(sys, ours).into_iter();
            known.filter_map(|(name, kept)| Some((ContainerId::parse(&name)?, kept))).collect()
        });
        match kept {
            Some(kept) => all.insert(container.at.id, kept),
            None => all.remove(&container.at.id),
        };
        let write = |at: &Path, sum: u64| {
            let _ = sys.write(&at.join(KEPT), &sum.to_string());
        };
        write(ours, all.values().copied().fold(0, u64::saturating_add));
        // All agents of this machine are in there.
        if let Some(above) = ours.parent() {
            let agents = of_each(sys, above).into_iter().map(|(_, kept)| kept);
            write(above, agents.fold(0, u64::saturating_add));
        }
    }

    /// What is kept for a task, and what it may have; none = no limit.
    fn amounts(&self, limits: &TaskLimits) -> (u64, Option<u64>) {
        let kept = limits.mem_bytes.max(self.floor);
        match limits.mem_limit {
            _ if limits.shared => (kept, None),
            None => (kept, Some(kept)),
            Some(Cap::At(limit)) => (kept, Some(limit.max(kept))),
            Some(Cap::Unlimited) => (kept, None),
        }
    }
}

/// Whom the kernel kills first when the whole machine is out, as `oom_score_adj`: it adds what a
/// process takes, so that who takes more than it asked for is beyond 1000, the more of it the sooner,
/// and nobody else is. What is no task comes last. In bytes: what was asked for, and what the machine
/// has. Mesos: `calculateOOMScoreAdj`, of those alone that may take more; Kubernetes: of burstable pods.
pub fn badness(kept: u64, total: u64) -> i16 {
    if total == 0 {
        return 0;
    }
    let asked = u64::min(1000, kept.saturating_mul(1000) / total);
    i16::try_from(1000 - asked).unwrap_or(1000)
}

/// Where v2 has what is kept.
const KEPT: &str = "memory.low";

/// What is kept for each cgroup in a directory.
fn of_each(sys: &dyn Sys, directory: &Path) -> Vec<(String, u64)> {
    let names = sys.children(directory).unwrap_or_default().into_iter();
    let kept = |name: &String| sys.read(&directory.join(name).join(KEPT)).ok()?.trim().parse().ok();
    names.filter_map(|name| kept(&name).map(|kept| (name, kept))).collect()
}

/// Where v1 limits memory and swap together; a kernel that does not count swap has no such file.
const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";

/// A page more than memory, so that it is memory that is full: newer kernels do not count hits of both.
fn with_swap(bytes: u64) -> u64 {
    bytes.saturating_add(rustix::param::page_size() as u64)
}

/// Keeps who has a limit of memory out of swap, as far as the kernel can.
fn set_swap(container: &Container<'_>, at: &Directory, limit: Option<u64>) -> Result<(), Error> {
    let bytes = limit.map_or_else(|| "-1".to_owned(), |bytes| with_swap(bytes).to_string());
    let (file, text) = match (at.version, limit) {
        (Version::V1, _) if container.sys.exists(&at.path.join(WITH_SWAP)) => (WITH_SWAP, &*bytes),
        // What is above its limit is killed sooner than put there; only the machine's shortage does.
        (Version::V1, Some(_)) => ("memory.swappiness", "0"),
        (Version::V2, Some(_)) => ("memory.swap.max", "0"),
        (Version::V1, None) => return Ok(()),
        (Version::V2, None) => ("memory.swap.max", "max"),
    };
    let file = at.path.join(file);
    if container.sys.exists(&file) { Ok(container.sys.write(&file, text)?) } else { Ok(()) }
}

fn set(container: &Container<'_>, at: &Directory, limit: Option<u64>) -> Result<(), Error> {
    match limit {
        Some(bytes) => container.sys.limit(at.version, &at.path, Limit::Memory(bytes))?,
        // A fresh cgroup has no limit; only an update has to say so.
        None if at.version == Version::V1 => {
            container.sys.write(&at.path.join("memory.limit_in_bytes"), "-1")?;
        }
        None => container.sys.write(&at.path.join("memory.max"), "max")?,
    }
    Ok(())
}

/// The limit as the kernel has it; none = no limit.
fn current(container: &Container<'_>, at: &Directory) -> Result<Option<u64>, Error> {
    let bytes = at.number(container, Limit::Memory(0).file(at.version))?;
    Ok(bytes.filter(|&bytes| bytes < UNLIMITED_V1))
}

/// Whether a limit was hit that holds here: the cgroup's own, or that of one around it among ours.
/// Otherwise it is the machine that was out of memory, or what the agent itself is in. Who cannot be
/// asked is taken at the kernel's word that it killed.
fn was_full(container: &Container<'_>, at: &Directory) -> bool {
    let ours = container.cgroups.place(Controller::Memory).map(|place| place.directory.as_path());
    let around = at.path.ancestors().take_while(|above| Some(*above) != ours);
    around.into_iter().any(|path| {
        let read = |file: &str| container.sys.read(&path.join(file));
        let hits = match at.version {
            // Where an operator has both at one limit, it is the other that is full.
            Version::V1 => {
                let count = |file| read(file).ok()?.trim().parse::<u64>().ok();
                let with_swap = count("memory.memsw.failcnt").unwrap_or(0);
                count("memory.failcnt").map(|hits| hits.saturating_add(with_swap))
            }
            // Since Linux 5.2; those of before count what happened below it, too.
            Version::V2 => {
                let events = read("memory.events.local").or_else(|_| read("memory.events"));
                events.ok().and_then(|events| keyed(&events, "oom"))
            }
        };
        hits.is_none_or(|hits: u64| hits > 0)
    })
}

/// How often the kernel killed here, and in what has its limit from here.
fn kills(container: &Container<'_>, at: &Directory) -> Result<Option<u64>, Error> {
    if at.version == Version::V2 {
        return Ok(keyed(&at.read(container, "memory.events")?, "oom_kill"));
    }
    let of = |at: &Directory| Ok(keyed(&at.read(container, "memory.oom_control")?, "oom_kill"));
    let own: Result<Option<u64>, Error> = of(at);
    // There each cgroup counts for itself alone.
    let below = container.sys.children(&at.path).unwrap_or_default().into_iter().map(|name| {
        let below = Directory { version: at.version, path: at.path.join(name) };
        let shares = current(container, &below).is_ok_and(|limit| limit.is_none());
        shares.then(|| of(&below).ok().flatten()).flatten().unwrap_or(0)
    });
    Ok(own?.map(|own| below.fold(own, u64::saturating_add)))
}

impl Isolator for Mem {
    fn recover(&self, _: &[Container<'_>]) -> Result<(), Error> {
        // Others go now.
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    fn limits_parts(&self) -> bool {
        true
    }

    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        let Some(at) = Directory::of(container, Controller::Memory) else { return Ok(()) };
        let (kept, limit) = self.amounts(limits);
        container.sys.limit(at.version, &at.path, Limit::MemoryKept(kept))?;
        self.keep(container, Some(kept));
        self.set(container, &at, limit, true)?;
        if at.version == Version::V2 {
            // Half a task is of no use to anybody. Linux before 4.19 kills one process only; the
            // watch then tells, as on v1.
            let group = at.path.join("memory.oom.group");
            if container.sys.read(&group).is_ok() {
                container.sys.write(&group, "1")?;
            }
        }
        additions.oom_score_adj = badness(kept, self.total);
        Ok(())
    }

    fn watch(&self, container: &Container<'_>) -> Result<Option<OwnedFd>, Error> {
        let Some(at) = Directory::of(container, Controller::Memory) else { return Ok(None) };
        Ok(Some(container.sys.watch_memory(at.version, &at.path)?))
    }

    fn limitation(
        &self,
        container: &Container<'_>,
        exit: Option<Exit>,
    ) -> Result<Option<Limitation>, Error> {
        let Some(at) = Directory::of(container, Controller::Memory) else { return Ok(None) };
        let killed = match kills(container, &at)? {
            Some(kills) => kills > 0 && was_full(container, &at),
            // Linux before 4.13 does not count: a SIGKILL after the limit was hit is taken for it.
            None => {
                let hits = at.number(container, "memory.failcnt")?.unwrap_or(0);
                let with_swap = at.number(container, "memory.memsw.failcnt").ok().flatten();
                (hits > 0 || with_swap > Some(0)) && exit == Some(Exit::Signal(9))
            }
        };
        if !killed {
            return Ok(None);
        }
        let mut usage = Usage::default();
        self.usage(container, &mut usage)?;
        let statistics = at.read(container, "memory.stat").unwrap_or_default();
        let message = message(&usage, &statistics);
        let bytes = peak(&usage).unwrap_or(0);
        Ok(Some(Limitation { reason: Reason::Memory, message, bytes }))
    }

    fn update(&self, container: &Container<'_>, limits: &TaskLimits) -> Result<(), Error> {
        let Some(at) = Directory::of(container, Controller::Memory) else { return Ok(()) };
        let (kept, limit) = self.amounts(limits);
        container.sys.limit(at.version, &at.path, Limit::MemoryKept(kept))?;
        self.keep(container, Some(kept));
        let raises = match (current(container, &at)?, limit) {
            (Some(now), Some(then)) => then > now,
            (Some(_), None) => true,
            // A fresh one has none yet.
            (None, _) => limits.holds,
        };
        if raises {
            self.set(container, &at, limit, current(container, &at)?.is_none())
        } else {
            Ok(())
        }
    }

    fn cleanup(&self, container: &Container<'_>) -> Result<(), Error> {
        self.keep(container, None);
        Ok(())
    }

    fn usage(&self, container: &Container<'_>, usage: &mut Usage) -> Result<(), Error> {
        let Some(at) = Directory::of(container, Controller::Memory) else { return Ok(()) };
        let stat = at.read(container, "memory.stat")?;
        usage.mem_limit_bytes = current(container, &at)?;
        usage.oom_kills = kills(container, &at)?;
        usage.unevictable_bytes = keyed(&stat, at.either("total_unevictable", "unevictable"));
        usage.file_bytes = keyed(&stat, at.either("total_cache", "file"));
        usage.mapped_bytes = keyed(&stat, at.either("total_mapped_file", "file_mapped"));
        match at.version {
            Version::V1 => {
                usage.swap_bytes = keyed(&stat, "total_swap");
                usage.rss_bytes = keyed(&stat, "total_rss");
                usage.mem_bytes = at.number(container, "memory.usage_in_bytes")?;
                usage.mem_peak_bytes = at.number(container, "memory.max_usage_in_bytes")?;
            }
            Version::V2 => {
                usage.rss_bytes = keyed(&stat, "anon");
                usage.mem_bytes = at.number(container, "memory.current")?;
                // Where there is no swap, there is no file.
                usage.swap_bytes = at.number(container, "memory.swap.current").ok().flatten();
                usage.kernel_bytes = keyed(&stat, "kernel");
                usage.socket_bytes = keyed(&stat, "sock");
                // Since Linux 5.19.
                usage.mem_peak_bytes = at.number(container, "memory.peak").ok().flatten();
            }
        }
        Ok(())
    }
}

/// The most that it ever took: its limit, where the kernel does not remember.
fn peak(usage: &Usage) -> Option<u64> {
    usage.mem_peak_bytes.or(usage.mem_limit_bytes)
}

/// In the words of Mesos, as far as they fit.
fn message(usage: &Usage, statistics: &str) -> String {
    let mut message = String::from("Memory limit exceeded: Requested: ");
    let shown = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), size);
    let most = shown(peak(usage));
    let _ = write!(message, "{} Maximum Used: {most}", shown(usage.mem_limit_bytes));
    message.push_str("\n\nMEMORY STATISTICS:");
    for line in statistics.lines().filter(|line| !line.ends_with(" 0")) {
        if message.len() + 1 + line.len() > MESSAGE_MAX {
            break;
        }
        let _ = write!(message, "\n{line}");
    }
    message
}

/// The largest unit that divides a number of bytes, as Mesos prints sizes.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    let whole = UNITS.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes}B"), |(unit, name)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, isolation, options};
    use crate::sys::fake::Fake;

    const V1: &str = "/sys/fs/cgroup/memory/mesita/0001020304050607/1-1";
    const V2: &str = "/sys/fs/cgroup/mesita/0001020304050607/1-1";
    const MIB: u64 = 1 << 20;

    fn limits(mem_bytes: u64, mem_limit: Option<Cap>) -> TaskLimits {
        TaskLimits { cpus_milli: 1000, mem_bytes, mem_limit, ..TaskLimits::default() }
    }

    fn prepared<'s>(sys: &'s Fake, limits: &TaskLimits) -> (Isolation<'s>, i16) {
        let isolation = isolation(sys, &["cgroups/mem"]);
        let prepared = isolation.prepare(CONTAINER, limits).unwrap();
        (isolation, prepared.additions.oom_score_adj)
    }

    #[test]
    fn the_request_is_the_limit_unless_there_is_one() {
        let v1 = Fake::v1();
        prepared(&v1, &limits(32 * MIB, None));
        assert_eq!(v1.text(&format!("{V1}/memory.limit_in_bytes")), "33554432");
        assert_eq!(v1.text(&format!("{V1}/memory.soft_limit_in_bytes")), "33554432");
        let v2 = Fake::v2("/", &[50]);
        prepared(&v2, &limits(32 * MIB, Some(Cap::At(64 * MIB))));
        assert_eq!(v2.text(&format!("{V2}/memory.max")), "67108864");
        assert_eq!(v2.text(&format!("{V2}/memory.low")), "33554432");
        assert_eq!(v2.text(&format!("{V2}/memory.oom.group")), "1");
    }

    #[test]
    fn what_is_kept_for_tasks_is_kept_for_all_that_is_around_them() {
        let sys = Fake::v2("/", &[50]);
        let (isolation, _) = prepared(&sys, &limits(32 * MIB, None));
        let other = ContainerId { incarnation: 1, counter: 2 };
        isolation.prepare(other, &limits(16 * MIB, None)).unwrap();
        let above = ["/sys/fs/cgroup/mesita/0001020304050607", "/sys/fs/cgroup/mesita"];
        let kept = || above.map(|at| sys.text(&format!("{at}/memory.low")));
        let sum = |mib: u64| [(mib * MIB).to_string(), (mib * MIB).to_string()];
        assert_eq!(kept(), sum(48));
        isolation.update(CONTAINER, &limits(64 * MIB, None)).unwrap();
        assert_eq!(kept(), sum(80));
        // An agent that begins finds what there is, and its keeper's own is another's.
        let (isolation, _) = Isolation::new(&options(Some(&["cgroups/mem"])), &sys).unwrap();
        isolation.kill(other).unwrap();
        isolation.cleanup(other).unwrap();
        assert_eq!(kept(), sum(64));
        sys.make(Path::new("/sys/fs/cgroup/mesita/ffffffffffffffff")).unwrap();
        sys.put("/sys/fs/cgroup/mesita/ffffffffffffffff/memory.low", "1");
        isolation.cleanup(CONTAINER).unwrap();
        assert_eq!(kept(), ["0", "1"]);
    }

    #[test]
    fn swap_is_none_of_a_tasks_unless_that_is_allowed() {
        let own = |path: &str, file: &str| format!("{path}/{file}");
        let burst = limits(32 * MIB, Some(Cap::At(64 * MIB)));
        let (v1, v2) = (Fake::v1(), Fake::v2("/", &[50]));
        let (of_v1, _) = prepared(&v1, &limits(32 * MIB, None));
        let (of_v2, _) = prepared(&v2, &limits(32 * MIB, None));
        assert_eq!(v1.text(&own(V1, WITH_SWAP)), with_swap(32 * MIB).to_string());
        assert_eq!(v2.text(&own(V2, "memory.swap.max")), "0");
        let written = |sys: &Fake| -> Vec<String> {
            let of = |line: &String| line.contains("limit_in_bytes") && !line.contains("soft");
            sys.log().into_iter().filter(of).collect()
        };
        // Both together are never less than memory alone.
        let order = written(&v1);
        assert!(order.last().is_some_and(|last| last.contains("memsw")), "{order:?}");
        of_v1.update(CONTAINER, &burst).unwrap();
        let order = written(&v1);
        assert!(order.last().is_some_and(|last| !last.contains("memsw")), "{order:?}");
        assert_eq!(v1.text(&own(V1, WITH_SWAP)), with_swap(64 * MIB).to_string());
        // Who has no limit of memory has none of swap.
        let endless = limits(32 * MIB, Some(Cap::Unlimited));
        of_v1.update(CONTAINER, &endless).unwrap();
        of_v2.update(CONTAINER, &endless).unwrap();
        assert_eq!(v1.text(&own(V1, WITH_SWAP)), "-1");
        assert_eq!(v2.text(&own(V2, "memory.swap.max")), "max");
        // A kernel that does not count it may be told to use none of it.
        let v1 = Fake::v1();
        v1.lacks("memory.memsw.limit_in_bytes");
        prepared(&v1, &limits(32 * MIB, None));
        assert_eq!(v1.text(&own(V1, "memory.swappiness")), "0");
        for sys in [Fake::v1(), Fake::v2("/", &[50])] {
            let mut options = options(Some(&["cgroups/mem"]));
            options.cgroups_limit_swap = false;
            let (isolation, _) = Isolation::new(&options, &sys).unwrap();
            isolation.prepare(CONTAINER, &burst).unwrap();
            let told = |line: &String| line.contains("swap") || line.contains("memsw");
            assert!(!sys.log().iter().any(told), "{:?}", sys.log());
        }
    }

    #[test]
    fn who_is_full_with_swap_has_run_into_its_limit() {
        let sys = Fake::v1();
        let (isolation, _) = prepared(&sys, &limits(32 * MIB, None));
        sys.put(&format!("{V1}/memory.oom_control"), "oom_kill 1\n");
        sys.put(&format!("{V1}/memory.failcnt"), "0\n");
        assert_eq!(isolation.limitation(CONTAINER), Ok(None));
        sys.put(&format!("{V1}/memory.memsw.failcnt"), "3\n");
        assert!(isolation.limitation(CONTAINER).unwrap().is_some());
    }

    #[test]
    fn no_task_gets_less_than_the_floor_or_a_limit_below_its_request() {
        let sys = Fake::v2("/", &[50]);
        prepared(&sys, &limits(1, Some(Cap::At(2))));
        assert_eq!(sys.text(&format!("{V2}/memory.max")), "1048576");
        let sys = Fake::v2("/", &[50]);
        prepared(&sys, &limits(32 * MIB, Some(Cap::At(MIB))));
        assert_eq!(sys.text(&format!("{V2}/memory.max")), "33554432");
    }

    #[test]
    fn no_limit_is_said_in_either_language() {
        let (v1, v2) = (Fake::v1(), Fake::v2("/", &[50]));
        let (_, badness) = prepared(&v1, &limits(MIB, Some(Cap::Unlimited)));
        prepared(&v2, &limits(MIB, Some(Cap::Unlimited)));
        assert_eq!(v1.text(&format!("{V1}/memory.limit_in_bytes")), "-1");
        assert_eq!(v2.text(&format!("{V2}/memory.max")), "max");
        assert_eq!(badness, 1000);
    }

    #[test]
    fn who_takes_most_beyond_its_request_is_killed_first_when_the_machine_is_out() {
        // The test machine has 1,024 MiB. The kernel adds thousandths of it that are taken.
        let taking = |asked: u64, limit, taken: u64| {
            let sys = Fake::v1();
            i64::from(prepared(&sys, &limits(asked * MIB, limit)).1)
                + (taken * 1000 / 1024).cast_signed()
        };
        let burst = Some(Cap::At(512 * MIB));
        assert_eq!(taking(256, burst, 0), 750);
        assert_eq!(taking(256, None, 0), 750);
        let (far, near) = (taking(256, burst, 400), taking(64, burst, 128));
        assert!(far > near && near > taking(512, None, 511), "{far} {near}");
        // A process that is no task: its score is what it takes.
        assert!(taking(32, None, 1) > 900);
        let shared = TaskLimits { shared: true, ..limits(256 * MIB, None) };
        assert_eq!(prepared(&Fake::v1(), &shared).1, 750);
    }

    #[test]
    fn a_limit_is_raised_while_the_task_runs_and_never_lowered() {
        let sys = Fake::v2("/", &[50]);
        let (isolation, _) = prepared(&sys, &limits(32 * MIB, None));
        isolation.update(CONTAINER, &limits(16 * MIB, None)).unwrap();
        assert_eq!(sys.text(&format!("{V2}/memory.max")), "33554432");
        assert_eq!(sys.text(&format!("{V2}/memory.low")), "16777216");
        isolation.update(CONTAINER, &limits(64 * MIB, None)).unwrap();
        assert_eq!(sys.text(&format!("{V2}/memory.max")), "67108864");
        isolation.update(CONTAINER, &limits(64 * MIB, Some(Cap::Unlimited))).unwrap();
        isolation.update(CONTAINER, &limits(64 * MIB, None)).unwrap();
        assert_eq!(sys.text(&format!("{V2}/memory.max")), "max");
    }

    #[test]
    fn a_kill_of_the_kernel_is_told_with_the_limit_and_the_peak() {
        let sys = Fake::v1();
        let (isolation, _) = prepared(&sys, &limits(32 * MIB, None));
        let ended = |exit| isolation.ended(CONTAINER, exit).unwrap();
        assert_eq!(ended(Exit::Signal(9)), None, "killed by somebody else");
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        sys.put(&format!("{V1}/memory.oom_control"), control);
        sys.put(&format!("{V1}/memory.max_usage_in_bytes"), "33554432\n");
        sys.put(&format!("{V1}/memory.stat"), "cache 0\nrss 33000000\n");
        let limitation = ended(Exit::Code(0)).expect("a child was killed");
        assert_eq!((limitation.reason, limitation.bytes), (Reason::Memory, 32 * MIB));
        assert_eq!(
            limitation.message,
            "Memory limit exceeded: Requested: 32MB Maximum Used: 32MB\n\n\
             MEMORY STATISTICS:\nrss 33000000"
        );
    }

    #[test]
    fn a_kill_for_want_of_the_machines_memory_is_no_limit_of_the_task() {
        let v1 = Fake::v1();
        let (isolation, _) = prepared(&v1, &limits(32 * MIB, None));
        v1.put(&format!("{V1}/memory.oom_control"), "oom_kill 1\n");
        v1.put(&format!("{V1}/memory.failcnt"), "0\n");
        assert_eq!(isolation.ended(CONTAINER, Exit::Signal(9)), Ok(None));
        v1.put(&format!("{V1}/memory.failcnt"), "3\n");
        assert!(isolation.ended(CONTAINER, Exit::Signal(9)).unwrap().is_some());
        // Of who is below without a limit of its own, and only of that one.
        v1.put(&format!("{V1}/memory.oom_control"), "oom_kill 0\n");
        v1.make(Path::new(&format!("{V1}/below"))).unwrap();
        v1.put(&format!("{V1}/below/memory.oom_control"), "oom_kill 1\n");
        assert!(isolation.ended(CONTAINER, Exit::Code(0)).unwrap().is_some());
        v1.put(&format!("{V1}/below/memory.limit_in_bytes"), "1048576\n");
        assert_eq!(isolation.ended(CONTAINER, Exit::Code(0)), Ok(None));
        let v2 = Fake::v2("/", &[50]);
        let (isolation, _) = prepared(&v2, &limits(32 * MIB, None));
        v2.put(&format!("{V2}/memory.events"), "oom 0\noom_kill 1\n");
        assert_eq!(isolation.ended(CONTAINER, Exit::Signal(9)), Ok(None));
        v2.put(&format!("{V2}/memory.events"), "oom 1\noom_kill 1\n");
        assert!(isolation.ended(CONTAINER, Exit::Signal(9)).unwrap().is_some());
    }

    #[test]
    fn on_v2_kills_are_counted_in_memory_events() {
        let sys = Fake::v2("/", &[50]);
        let (isolation, _) = prepared(&sys, &limits(32 * MIB, None));
        let events = "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 1\n";
        sys.put(&format!("{V2}/memory.events"), events);
        let limitation = isolation.ended(CONTAINER, Exit::Signal(9)).unwrap();
        assert_eq!(limitation.map(|limitation| limitation.reason), Some(Reason::Memory));
    }

    #[test]
    fn an_old_kernel_that_does_not_count_kills_is_believed_on_a_sigkill_at_the_limit() {
        let sys = Fake::v1();
        let (isolation, _) = prepared(&sys, &limits(32 * MIB, None));
        sys.put(&format!("{V1}/memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\n");
        sys.put(&format!("{V1}/memory.failcnt"), "7\n");
        let reason = |exit| isolation.ended(CONTAINER, exit).unwrap().map(|l| l.reason);
        assert_eq!(reason(Exit::Code(1)), None);
        assert_eq!(reason(Exit::Signal(9)), Some(Reason::Memory));
    }

    #[test]
    fn the_watch_is_that_of_the_version() {
        let sys = Fake::v1();
        let (isolation, _) = prepared(&sys, &limits(32 * MIB, None));
        assert_eq!(isolation.watch(CONTAINER).unwrap().len(), 1);
        assert_eq!(sys.log().last(), Some(&format!("watch {V1}")));
    }

    #[test]
    fn the_message_of_a_limitation_fits_into_a_status_update() {
        let statistics = "a_long_name_of_something 123456789\n".repeat(100);
        assert!(message(&Usage::default(), &statistics).len() <= MESSAGE_MAX);
        assert_eq!(size(1 << 30), "1GB");
        assert_eq!(size(1536), "1536B");
        assert_eq!(size(3 << 10), "3KB");
    }
}
