//! `cgroups/mem`: a task never has more memory than its limit, and is killed alone when it tries.
//!
//! What was asked for is left to the task as long as others can be squeezed, and is the limit
//! unless the task has one of its own. A limit may be raised while the task runs, but not lowered:
//! that would kill a task for what it was allowed a moment ago. Mesos:
//! `cgroups/subsystems/memory.cpp`; its floor of 32 MB is `--min-task-mem` here, 1 MiB by default.

use std::fmt::Write;
use std::os::fd::OwnedFd;

use mesita_core::wire::task::Exit;

use super::Directory;
use crate::cgroups::{Controller, keyed};
use crate::isolators::{
    Additions, Cap, Container, Error, Ground, Isolator, Limitation, Reason, TaskLimits, Unusable,
    Usage,
};
use crate::sys::{Limit, Version};

/// What it does.
pub(crate) const ABOUT: &str =
    "memory never above the limit; what exceeds it is killed alone and reported so";

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
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    ground.require(Controller::Memory)?;
    let options = ground.options;
    Ok(Box::new(Mem { floor: options.min_task_mem_bytes, total: options.total_mem_bytes }))
}

impl Mem {
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
            Version::V1 => read("memory.failcnt").ok().and_then(|text| text.trim().parse().ok()),
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
        set(container, &at, limit)?;
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
                hits > 0 && exit == Some(Exit::Signal(9))
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
        let raises = match (current(container, &at)?, limit) {
            (Some(now), Some(then)) => then > now,
            (Some(_), None) => true,
            // A fresh one has none yet.
            (None, _) => limits.holds,
        };
        if raises { set(container, &at, limit) } else { Ok(()) }
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
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::sys::Sys;
    use crate::sys::fake::Fake;
    use std::path::Path;

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
