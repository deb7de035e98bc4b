//! `cgroups/blkio`: how much a task reads from and writes to disks, and a limit on that.
//!
//! Mesos counts and never limits; here `--task-io-...` are limits, for each task and each disk, and
//! where disks are shared by weight a task weighs what its CPUs do. The kernel charges what reaches
//! a disk: with v1 where it limits alone, and there writes that wait in memory are nobody's when they get there, so a limit on writing
//! holds those that do not wait; with v2 it holds all.

use std::fmt::Write;

use super::Directory;
use crate::cgroups::Controller;
use crate::isolators::{
    Additions, Container, Error, Ground, Io, Isolator, TaskLimits, Unusable, Usage,
};
use crate::machine::disks;
use crate::sys::Version;

/// What it does.
pub(crate) const ABOUT: &str = "reads and writes of disks are counted, shared by weight, and limited by --task-io-read and the like";

#[derive(Debug)]
struct Blkio {
    /// Of a task that does not say.
    limits: Io,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    ground.require(Controller::Io)?;
    Ok(Box::new(Blkio { limits: ground.options.task_io }))
}

fn limit_v1(container: &Container<'_>, at: &Directory, disk: &str, io: Io) -> Result<(), Error> {
    for (file, most) in [
        ("read_bps", io.read_bytes),
        ("write_bps", io.write_bytes),
        ("read_iops", io.reads),
        ("write_iops", io.writes),
    ] {
        if let Some(most) = most {
            let file = at.path.join(format!("blkio.throttle.{file}_device"));
            container.sys.write(&file, &format!("{disk} {most}"))?;
        }
    }
    Ok(())
}

fn limit_v2(container: &Container<'_>, at: &Directory, disk: &str, io: Io) -> Result<(), Error> {
    let mut line = disk.to_owned();
    for (key, most) in [
        ("rbps", io.read_bytes),
        ("wbps", io.write_bytes),
        ("riops", io.reads),
        ("wiops", io.writes),
    ] {
        // Writing into a text does not fail.
        let _ = match most {
            Some(most) => write!(line, " {key}={most}"),
            None => write!(line, " {key}=max"),
        };
    }
    Ok(container.sys.write(&at.path.join("io.max"), &line)?)
}

/// The weight of a task, where its kernel shares disks by weight.
fn weigh(container: &Container<'_>, at: &Directory, cpus_milli: u64) -> Result<(), Error> {
    let weight = cpus_milli / 10;
    let files: &[(&str, u64)] = match at.version {
        Version::V1 => &[("blkio.weight", 1000), ("blkio.bfq.weight", 1000)],
        Version::V2 => &[("io.weight", 10_000), ("io.bfq.weight", 1000)],
    };
    for &(file, most) in files {
        let path = at.path.join(file);
        if container.sys.exists(&path) {
            container
                .sys
                .write(&path, &weight.clamp(if most == 1000 { 10 } else { 1 }, most).to_string())?;
        }
    }
    Ok(())
}

/// What `disk Read n` lines of v1 sum up to; none where the kernel does not count: then there is but
/// the line of their sum.
fn sum_v1(text: &str, what: &str) -> Option<u64> {
    text.lines().nth(1)?;
    let numbers = text.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        (words.next()? == what).then(|| words.next()?.parse::<u64>().ok()).flatten()
    });
    Some(numbers.fold(0, u64::saturating_add))
}

/// What `disk key=n ...` lines of v2 sum up to.
fn sum_v2(text: &str, key: &str) -> u64 {
    let pairs = text.split_ascii_whitespace().filter_map(|pair| pair.split_once('='));
    let numbers = pairs.filter(|(name, _)| *name == key).filter_map(|(_, n)| n.parse::<u64>().ok());
    numbers.fold(0, u64::saturating_add)
}

impl Isolator for Blkio {
    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        _: &mut Additions,
    ) -> Result<(), Error> {
        self.update(container, limits)
    }

    fn update(&self, container: &Container<'_>, limits: &TaskLimits) -> Result<(), Error> {
        let Some(at) = Directory::of(container, Controller::Io) else { return Ok(()) };
        weigh(container, &at, limits.cpus_milli)?;
        let io = limits.io.unwrap_or(self.limits);
        if io == Io::default() {
            return Ok(());
        }
        let limit = if at.version == Version::V1 { limit_v1 } else { limit_v2 };
        disks(container.sys).iter().try_for_each(|disk| limit(container, &at, &disk.numbers, io))
    }

    fn usage(&self, container: &Container<'_>, usage: &mut Usage) -> Result<(), Error> {
        let Some(at) = Directory::of(container, Controller::Io) else { return Ok(()) };
        match at.version {
            Version::V1 => {
                let bytes = at.read(container, "blkio.throttle.io_service_bytes_recursive")?;
                let counts = at.read(container, "blkio.throttle.io_serviced_recursive")?;
                usage.io_read_bytes = sum_v1(&bytes, "Read");
                usage.io_written_bytes = sum_v1(&bytes, "Write");
                usage.io_reads = sum_v1(&counts, "Read");
                usage.io_writes = sum_v1(&counts, "Write");
            }
            Version::V2 => {
                let stat = at.read(container, "io.stat")?;
                usage.io_read_bytes = Some(sum_v2(&stat, "rbytes"));
                usage.io_written_bytes = Some(sum_v2(&stat, "wbytes"));
                usage.io_reads = Some(sum_v2(&stat, "rios"));
                usage.io_writes = Some(sum_v2(&stat, "wios"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::sys::fake::Fake;

    const V1: &str = "/sys/fs/cgroup/blkio/mesita/0001020304050607/1-1";
    const V2: &str = "/sys/fs/cgroup/mesita/0001020304050607/1-1";

    fn with_disks(sys: Fake) -> Fake {
        sys.put_directory("/sys/block/vda");
        sys.put_directory("/sys/block/loop0");
        sys.put("/sys/block/vda/size", "2048\n");
        sys.put("/sys/block/vda/dev", "254:0\n");
        sys.put("/sys/block/loop0/size", "0\n");
        sys.put("/sys/block/loop0/dev", "7:0\n");
        sys
    }

    fn limits() -> TaskLimits {
        let io = Io { read_bytes: Some(1 << 20), writes: Some(50), ..Io::default() };
        TaskLimits { io: Some(io), cpus_milli: 2000, ..TaskLimits::default() }
    }

    #[test]
    fn a_limit_is_set_for_every_disk_that_has_room_on_v1() {
        let sys = with_disks(Fake::v1());
        isolation(&sys, &["cgroups/blkio"]).prepare(CONTAINER, &limits()).unwrap();
        assert_eq!(sys.text(&format!("{V1}/blkio.throttle.read_bps_device")), "254:0 1048576");
        assert_eq!(sys.text(&format!("{V1}/blkio.throttle.write_iops_device")), "254:0 50");
        assert_eq!(sys.text(&format!("{V1}/blkio.throttle.write_bps_device")), "");
    }

    #[test]
    fn and_on_v2_with_a_weight() {
        let sys = with_disks(Fake::v2("/", &[50]));
        isolation(&sys, &["cgroups/blkio"]).prepare(CONTAINER, &limits()).unwrap();
        let expected = "254:0 rbps=1048576 wbps=max riops=max wiops=50";
        assert_eq!(sys.text(&format!("{V2}/io.max")), expected);
        assert_eq!(sys.text(&format!("{V2}/io.weight")), "200");
    }

    #[test]
    fn what_was_read_and_written_is_told_of_all_disks_together() {
        let expected = (Some(30), Some(7), Some(3), Some(1));
        let told = |usage: Usage| {
            (usage.io_read_bytes, usage.io_written_bytes, usage.io_reads, usage.io_writes)
        };
        let sys = with_disks(Fake::v1());
        let of_v1 = isolation(&sys, &["cgroups/blkio"]);
        of_v1.prepare(CONTAINER, &TaskLimits::default()).unwrap();
        let bytes = "254:0 Read 10\n254:0 Write 7\n254:0 Total 17\n7:0 Read 20\nTotal 37\n";
        sys.put(&format!("{V1}/blkio.throttle.io_service_bytes_recursive"), bytes);
        let counts = "254:0 Read 3\n254:0 Write 1\nTotal 4\n";
        sys.put(&format!("{V1}/blkio.throttle.io_serviced_recursive"), counts);
        assert_eq!(told(of_v1.usage(CONTAINER).unwrap()), expected);
        let sys = with_disks(Fake::v2("/", &[50]));
        let of_v2 = isolation(&sys, &["cgroups/blkio"]);
        of_v2.prepare(CONTAINER, &TaskLimits::default()).unwrap();
        let stat = "254:0 rbytes=10 wbytes=7 rios=1 wios=1 dbytes=0 dios=0\n7:0 rbytes=20 rios=2\n";
        sys.put(&format!("{V2}/io.stat"), stat);
        assert_eq!(told(of_v2.usage(CONTAINER).unwrap()), expected);
    }
}
