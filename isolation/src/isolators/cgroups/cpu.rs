//! `cgroups/cpu`: a share of the CPUs by what was asked for, and a hard cap where one is wanted.
//!
//! With n CPUs busy, tasks get them in the ratio of their requests; an idle CPU is anybody's. The
//! numbers are those of Mesos (`cgroups/subsystems/cpu.cpp`), except that v2's weight is kept in
//! the 1 to 10,000 that the kernel takes.

use super::Directory;
use crate::cgroups::{Controller, keyed};
use crate::isolators::{
    Additions, Cap, Container, Error, Ground, Isolator, TaskLimits, Unusable, Usage,
};
use crate::sys::{Limit, Version};

/// What it does.
pub(crate) const ABOUT: &str =
    "CPU time in the ratio of the requests; a hard cap by `limits` or --cgroups-enable-cfs";

/// The period of a cap and the least part of it, in µs. Mesos: `CPU_CFS_PERIOD`,
/// `MIN_CPU_CFS_QUOTA`.
const PERIOD_US: u64 = 100_000;
const QUOTA_MIN_US: u64 = 1_000;

#[derive(Debug)]
struct Cpu {
    /// `--cgroups-enable-cfs`: the request is the cap.
    caps: bool,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    ground.require(Controller::Cpu)?;
    Ok(Box::new(Cpu { caps: ground.options.cgroups_enable_cfs }))
}

/// The weight of a request, in the unit of the file; of one that may be taken back, a hundredth of
/// that. Mesos: `CPU_SHARES_PER_CPU_REVOCABLE`.
fn weight(version: Version, limits: &TaskLimits) -> u64 {
    let cpus_milli = limits.cpus_milli;
    match version {
        Version::V1 if limits.low_priority => {
            (cpus_milli.saturating_mul(10) / 1000).clamp(2, 262_144)
        }
        Version::V2 if limits.low_priority => (cpus_milli / 1000).clamp(1, 10_000),
        Version::V1 => (cpus_milli.saturating_mul(1024) / 1000).clamp(2, 262_144),
        Version::V2 => (cpus_milli.saturating_mul(100) / 1000).clamp(1, 10_000),
    }
}

/// The cap in µs of every period; none = no cap.
fn quota(caps: bool, limits: &TaskLimits) -> Option<u32> {
    let milli = match limits.cpus_limit {
        _ if limits.shared => return None,
        Some(Cap::Unlimited) => return None,
        Some(Cap::At(milli)) => milli,
        None if caps => limits.cpus_milli,
        None => return None,
    };
    let us = milli.saturating_mul(PERIOD_US / 1000).max(QUOTA_MIN_US);
    Some(u32::try_from(us).unwrap_or(u32::MAX))
}

/// The cap that a file of a quota tells, in thousandths of a CPU; none = no cap.
fn cap_of(quota: &str) -> Option<u64> {
    let us: u64 = quota.split_whitespace().next()?.parse().ok()?;
    Some(us / (PERIOD_US / 1000))
}

/// Sets weight and cap; `fresh` is a cgroup that has no cap yet, and needs not be told so.
fn set(
    container: &Container<'_>,
    limits: &TaskLimits,
    quota: Option<u32>,
    fresh: bool,
) -> Result<(), Error> {
    let Some(at) = Directory::of(container, Controller::Cpu) else { return Ok(()) };
    let weight = Limit::CpuWeight(weight(at.version, limits));
    container.sys.limit(at.version, &at.path, weight)?;
    // A kernel without CFS bandwidth control has no file to say "no cap" in.
    let file = Limit::CpuQuota(None).file(at.version);
    let quota = quota.map(|own| own.min(around(container, &at).unwrap_or(u32::MAX)));
    if quota.is_some() || (!fresh && at.read(container, file).is_ok()) {
        container.sys.limit(at.version, &at.path, Limit::CpuQuota(quota))?;
    }
    Ok(())
}

/// The cap of what a part is inside of, in µs of every period, where it may ask for no more than that:
/// v2 takes the least of both by itself.
fn around(container: &Container<'_>, at: &Directory) -> Option<u32> {
    container.part?;
    let above = at.path.parent().filter(|_| at.version == Version::V1)?;
    let quota = container.sys.read(&above.join(Limit::CpuQuota(None).file(at.version))).ok()?;
    quota.trim().parse().ok()
}

impl Isolator for Cpu {
    fn limits_parts(&self) -> bool {
        true
    }

    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        _: &mut Additions,
    ) -> Result<(), Error> {
        set(container, limits, quota(self.caps, limits), true)
    }

    fn update(&self, container: &Container<'_>, limits: &TaskLimits) -> Result<(), Error> {
        set(container, limits, quota(self.caps, limits), false)
    }

    fn usage(&self, container: &Container<'_>, usage: &mut Usage) -> Result<(), Error> {
        let Some(at) = Directory::of(container, Controller::Cpu) else { return Ok(()) };
        let stat = at.read(container, "cpu.stat")?;
        usage.periods = keyed(&stat, "nr_periods");
        usage.throttled_periods = keyed(&stat, "nr_throttled");
        // A kernel without CFS bandwidth control has no such file.
        let quota = at.read(container, Limit::CpuQuota(None).file(at.version)).ok();
        usage.cpus_limit_milli = quota.and_then(|quota| cap_of(&quota));
        match at.version {
            Version::V2 => {
                usage.user_us = keyed(&stat, "user_usec");
                usage.system_us = keyed(&stat, "system_usec");
                usage.throttled_us = keyed(&stat, "throttled_usec");
            }
            Version::V1 => {
                usage.throttled_us = keyed(&stat, "throttled_time").map(|ns| ns / 1000);
                let Some(of) = Directory::of(container, Controller::Cpuacct) else { return Ok(()) };
                let us = |ns: Option<u64>| ns.map(|ns| ns / 1000);
                usage.user_us = us(of.number(container, "cpuacct.usage_user")?);
                usage.system_us = us(of.number(container, "cpuacct.usage_sys")?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mesita_core::wire::ContainerId;

    use super::*;
    use crate::cgroups::Part;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::sys::fake::Fake;

    const V1: &str = "/sys/fs/cgroup/cpu,cpuacct/mesita/0001020304050607/1-1";
    const V2: &str = "/sys/fs/cgroup/mesita/0001020304050607/1-1";

    fn limits(cpus_milli: u64, cpus_limit: Option<Cap>) -> TaskLimits {
        TaskLimits { cpus_milli, cpus_limit, mem_bytes: 1 << 25, ..TaskLimits::default() }
    }

    fn prepared<'s>(sys: &'s Fake, limits: &TaskLimits) -> Isolation<'s> {
        let isolation = isolation(sys, &["cgroups/cpu"]);
        isolation.prepare(CONTAINER, limits).unwrap();
        isolation
    }

    #[test]
    fn shares_of_v1_are_1024_for_a_cpu_and_2_at_least() {
        for (milli, shares) in [(1000, "1024"), (500, "512"), (100, "102"), (1, "2"), (0, "2")] {
            let sys = Fake::v1();
            prepared(&sys, &limits(milli, None));
            assert_eq!(sys.text(&format!("{V1}/cpu.shares")), shares);
            assert_eq!(sys.text(&format!("{V1}/cpu.cfs_quota_us")), "-1");
        }
    }

    #[test]
    fn what_may_be_taken_back_has_a_hundredth_of_the_weight() {
        let low = TaskLimits { low_priority: true, ..limits(2000, None) };
        let (v1, v2) = (Fake::v1(), Fake::v2("/", &[50]));
        prepared(&v1, &low);
        assert_eq!(v1.text(&format!("{V1}/cpu.shares")), "20");
        prepared(&v2, &low);
        assert_eq!(v2.text(&format!("{V2}/cpu.weight")), "2");
    }

    #[test]
    fn weights_of_v2_are_100_for_a_cpu_within_what_the_kernel_takes() {
        for (milli, weight) in [(1000, "100"), (500, "50"), (1, "1"), (200_000, "10000")] {
            let sys = Fake::v2("/", &[50]);
            prepared(&sys, &limits(milli, None));
            assert_eq!(sys.text(&format!("{V2}/cpu.weight")), weight);
            assert_eq!(sys.text(&format!("{V2}/cpu.max")), "max 100000");
        }
    }

    #[test]
    fn a_limit_above_the_request_is_a_cap() {
        let (v1, v2) = (Fake::v1(), Fake::v2("/", &[50]));
        for (limit, quota_v1, max_v2) in [
            (Cap::At(1500), "150000", "150000 100000"),
            (Cap::At(1), "1000", "1000 100000"),
            (Cap::Unlimited, "-1", "max 100000"),
        ] {
            let limits = limits(1000, Some(limit));
            for sys in [&v1, &v2] {
                // One that was capped before, and one that is new.
                prepared(sys, &limits).update(CONTAINER, &limits).unwrap();
            }
            assert_eq!(v1.text(&format!("{V1}/cpu.cfs_quota_us")), quota_v1);
            assert_eq!(v2.text(&format!("{V2}/cpu.max")), max_v2);
        }
    }

    #[test]
    fn a_part_asks_for_no_more_than_what_is_around_it_has() {
        let part = Part {
            of: CONTAINER.into(),
            within: None,
            id: ContainerId { incarnation: 1, counter: 2 },
        };
        for (around, own, quota) in [
            (Some(Cap::At(1000)), 2000, "100000"),
            (Some(Cap::At(1000)), 500, "50000"),
            (Some(Cap::Unlimited), 2000, "200000"),
        ] {
            let sys = Fake::v1();
            let isolation = prepared(&sys, &limits(1000, around));
            isolation.enclose(part, &limits(500, Some(Cap::At(own)))).unwrap();
            assert_eq!(sys.text(&format!("{V1}/1-2/cpu.cfs_quota_us")), quota);
        }
    }

    #[test]
    fn a_cap_is_told_as_it_was_set() {
        for (sys, at) in [(Fake::v1(), V1), (Fake::v2("/", &[50]), V2)] {
            let isolation = prepared(&sys, &limits(1000, Some(Cap::At(1500))));
            sys.put(&format!("{at}/cpu.stat"), "nr_periods 0\n");
            for file in ["cpuacct.usage_user", "cpuacct.usage_sys"] {
                sys.put(&format!("{V1}/{file}"), "0\n");
            }
            assert_eq!(isolation.usage(CONTAINER).unwrap().cpus_limit_milli, Some(1500));
        }
        assert_eq!((cap_of("-1\n"), cap_of("max 100000\n")), (None, None));
    }

    #[test]
    fn with_enable_cfs_the_request_is_the_cap() {
        assert_eq!(quota(true, &limits(250, None)), Some(25_000));
        assert_eq!(quota(true, &limits(250, Some(Cap::Unlimited))), None);
        assert_eq!(quota(false, &limits(250, None)), None);
    }

    #[test]
    fn an_update_changes_weight_and_cap_of_what_runs() {
        let sys = Fake::v2("/", &[50]);
        let isolation = prepared(&sys, &limits(1000, None));
        isolation.update(CONTAINER, &limits(2000, Some(Cap::At(3000)))).unwrap();
        assert_eq!(sys.text(&format!("{V2}/cpu.weight")), "200");
        assert_eq!(sys.text(&format!("{V2}/cpu.max")), "300000 100000");
    }

    #[test]
    fn time_is_told_in_microseconds_from_either_version() {
        let sys = Fake::v1();
        let isolation = prepared(&sys, &limits(1000, None));
        sys.put(&format!("{V1}/cpuacct.usage_user"), "5000999\n");
        sys.put(&format!("{V1}/cpuacct.usage_sys"), "7000\n");
        let stat = "nr_periods 9\nnr_throttled 4\nthrottled_time 12000\n";
        sys.put(&format!("{V1}/cpu.stat"), stat);
        let expected = Usage {
            user_us: Some(5000),
            system_us: Some(7),
            periods: Some(9),
            throttled_periods: Some(4),
            throttled_us: Some(12),
            ..Usage::default()
        };
        assert_eq!(isolation.usage(CONTAINER).unwrap(), expected);

        let sys = Fake::v2("/", &[50]);
        let isolation = prepared(&sys, &limits(1000, None));
        let stat = "usage_usec 5007\nuser_usec 5000\nsystem_usec 7\nnr_periods 9\n\
                    nr_throttled 4\nthrottled_usec 12\n";
        sys.put(&format!("{V2}/cpu.stat"), stat);
        assert_eq!(isolation.usage(CONTAINER).unwrap(), expected);
    }
}
