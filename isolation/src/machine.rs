//! What this machine has to offer when nobody says: CPUs, memory, disk.
//!
//! Where Mesos would see the machine, an agent that itself runs in a container sees what it was
//! given: CPUs by its affinity, memory by the limits of its own cgroup and those above.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::cgroups::own_directories;
use crate::sys::{Failure, Sys, Version};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// CPUs that this process may run on; 1 if the kernel does not say. Mesos: `os::cpus`.
pub fn cpus() -> u32 {
    let set = rustix::thread::sched_getaffinity(None);
    set.map_or(1, |set| set.count().max(1))
}

/// Bytes of memory: the machine's, or less where our cgroup or one above it is limited.
pub fn memory_bytes(sys: &dyn Sys) -> Result<u64, Error> {
    let path = Path::new("/proc/meminfo");
    let text = sys.read(path).map_err(Error::Os)?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    let total = kib.ok_or_else(|| Error::Unreadable(path.to_owned()))?.saturating_mul(1024);
    let limits = own_directories(sys).into_iter().filter_map(|(version, directory)| {
        let file = match version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        sys.read(&directory.join(file)).ok()?.trim().parse::<u64>().ok()
    });
    Ok(limits.fold(total, u64::min))
}

/// MiB of memory to offer out of `total` MiB: all but 1 GiB on large machines, and on small ones
/// what leaves the system 16 MiB or a tenth. Never less than Mesos' half.
pub fn memory_offered_mib(total: u64) -> u64 {
    if total >= 2048 {
        return total - 1024;
    }
    let left = u64::max(16, total / 10);
    let most = u64::min(total.saturating_sub(left), 921);
    u64::max(total / 2, most)
}

/// MiB of disk to offer on the file system of `directory`: all but 5 GiB from 10 GiB on, else half;
/// 10 GiB if the file system does not say. Mesos: `Containerizer::resources`.
pub fn disk_offered_mib(directory: &Path) -> Result<u64, Error> {
    let failed = |errno: rustix::io::Errno| {
        Error::Os(Failure::new("statvfs", directory, errno.raw_os_error()))
    };
    let disk = rustix::fs::statvfs(directory).map_err(failed)?;
    let size = disk.f_blocks.saturating_mul(disk.f_frsize);
    Ok(disk_offered_of(size) / MIB)
}

const fn disk_offered_of(size: u64) -> u64 {
    match size {
        0 => 10 * GIB,
        size if size >= 10 * GIB => size - 5 * GIB,
        size => size / 2,
    }
}

/// Whether layers of a file system can be stacked here, by the kernel or a module that it has.
pub fn overlay(sys: &dyn Sys) -> Result<(), NoOverlay> {
    let known = sys.read(Path::new("/proc/filesystems")).unwrap_or_default();
    if known.lines().any(|line| line.ends_with("\toverlay")) {
        return Ok(());
    }
    let release = rustix::system::uname();
    let modules = Path::new("/lib/modules").join(release.release().to_string_lossy().as_ref());
    let listed = sys.read(&modules.join("modules.dep")).unwrap_or_default();
    // `kernel/fs/overlayfs/overlay.ko.xz: what/it/needs.ko`
    let is_module = listed.lines().any(|line| line.contains("/overlay.ko"));
    Err(if is_module { NoOverlay::NotLoaded } else { NoOverlay::Missing })
}

/// Why layers cannot be stacked. Prints as what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOverlay {
    /// The kernel has it as a module.
    NotLoaded,
    /// It does not have it.
    Missing,
}

impl fmt::Display for NoOverlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLoaded => {
                "the kernel's module for overlayfs is not loaded; `modprobe overlay`, and for every \
                 boot `echo overlay >/etc/modules-load.d/overlay.conf`"
            }
            Self::Missing => {
                "the kernel has no overlayfs; use one that was built with CONFIG_OVERLAY_FS"
            }
        })
    }
}

/// Where the kernel lists disks.
const DISKS: &str = "/sys/block";
/// Disks that are listed.
const DISKS_MAX: usize = 64;

/// A disk that has any room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its path below `/dev`.
    pub name: String,
    /// As in `8:0`.
    pub numbers: String,
}

/// The disks that have any room, no more than 64.
pub fn disks(sys: &dyn Sys) -> Vec<Disk> {
    let names = sys.entries(Path::new(DISKS)).unwrap_or_default();
    let with_room = names.into_iter().filter_map(|name| {
        let of = Path::new(DISKS).join(&name);
        let has_room = sys.read(&of.join("size")).is_ok_and(|size| size.trim() != "0");
        let numbers = has_room.then(|| sys.read(&of.join("dev")).ok()).flatten()?;
        // What is a directory below `/dev` is no name here.
        Some(Disk { name: name.replace('!', "/"), numbers: numbers.trim().to_owned() })
    });
    with_room.take(DISKS_MAX).collect()
}

/// What memory can be moved to here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// Nothing.
    None,
    /// Swap, which the kernel counts for each cgroup.
    Counted,
    /// Swap of which it counts nothing.
    Uncounted,
}

/// Whether there is swap now, and whether a cgroup can be kept out of it.
pub fn swap(sys: &dyn Sys) -> Swap {
    let used = sys.read(Path::new("/proc/swaps")).unwrap_or_default();
    if used.lines().count() <= 1 {
        return Swap::None;
    }
    let command_line = sys.read(Path::new("/proc/cmdline")).unwrap_or_default();
    let off = command_line.split_ascii_whitespace().any(|word| word == "swapaccount=0");
    let mounts = sys.read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let of_memory = mounts.lines().find_map(|line| {
        let (at, kind) = line.split_once(" - ")?;
        let mut words = kind.split(' ');
        let is_memory = words.next() == Some("cgroup")
            && words
                .next_back()
                .is_some_and(|options| options.split(',').any(|one| one == "memory"));
        is_memory.then(|| at.split(' ').nth(4)).flatten()
    });
    let counted =
        of_memory.is_none_or(|at| sys.exists(&Path::new(at).join("memory.memsw.limit_in_bytes")));
    if counted && !off { Swap::Counted } else { Swap::Uncounted }
}

/// Why the machine does not say what it has.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// A call failed.
    Os(Failure),
    /// A file does not read as it should.
    Unreadable(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(failure) => failure.fmt(f),
            Self::Unreadable(path) => write!(f, "{} makes no sense", path.display()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Fake;
    use crate::testing::Directory;

    #[test]
    fn memory_is_offered_by_the_rule_of_the_design() {
        for (total, offered) in [
            (0, 0),
            (16, 8),
            (56, 40),
            (64, 48),
            (256, 231),
            (512, 461),
            (1023, 921),
            (1024, 921),
            (1990, 995),
            (2047, 1023),
            (2048, 1024),
            (65_536, 64_512),
        ] {
            assert_eq!(memory_offered_mib(total), offered, "{total} MiB");
        }
    }

    #[test]
    fn more_memory_never_offers_less_on_either_side_of_a_rule() {
        let offers: Vec<_> = (0..10_000).map(memory_offered_mib).collect();
        assert!(offers.is_sorted());
        assert!((0..).zip(&offers).all(|(total, &offered)| offered <= total));
    }

    #[test]
    fn swap_that_the_kernel_does_not_count_is_told_from_what_it_does() {
        let some = "Filename Type Size Used Priority\n/swap file 1 0 -2\n";
        let sys = Fake::v1();
        assert_eq!(swap(&sys), Swap::None);
        sys.put("/proc/swaps", some);
        assert_eq!(swap(&sys), Swap::Uncounted);
        sys.put("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "1");
        assert_eq!(swap(&sys), Swap::Counted);
        let sys = Fake::v2("/", &[50]);
        sys.put("/proc/swaps", some);
        assert_eq!(swap(&sys), Swap::Counted);
        sys.put("/proc/cmdline", "quiet swapaccount=0\n");
        assert_eq!(swap(&sys), Swap::Uncounted);
    }

    #[test]
    fn disk_is_offered_by_the_rule_of_mesos() {
        assert_eq!(disk_offered_of(100 * GIB), 95 * GIB);
        assert_eq!(disk_offered_of(10 * GIB), 5 * GIB);
        assert_eq!(disk_offered_of(8 * GIB), 4 * GIB);
        assert_eq!(disk_offered_of(0), 10 * GIB);
        let here = Directory::new("disk");
        assert!(disk_offered_mib(here.path()).unwrap() > 0);
        assert!(disk_offered_mib(&here.path().join("none")).is_err());
    }

    #[test]
    fn a_limit_above_our_cgroup_is_the_memory_we_have() {
        let sys = Fake::v2("/a.slice/b.service", &[50]);
        sys.put("/proc/meminfo", "MemTotal:        1048576 kB\nMemFree: 5 kB\n");
        assert_eq!(memory_bytes(&sys), Ok(GIB));
        sys.put("/sys/fs/cgroup/a.slice/memory.max", "268435456\n");
        assert_eq!(memory_bytes(&sys), Ok(GIB / 4));
        sys.put("/sys/fs/cgroup/a.slice/b.service/memory.max", "134217728\n");
        assert_eq!(memory_bytes(&sys), Ok(GIB / 8));
    }

    #[test]
    fn on_v1_the_limit_is_that_of_the_memory_hierarchy() {
        let sys = Fake::v1();
        sys.put("/proc/meminfo", "MemTotal:        1048576 kB\n");
        sys.put("/proc/self/cgroup", "4:memory:/docker/x\n3:cpu,cpuacct:/\n");
        sys.put("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "67108864\n");
        assert_eq!(memory_bytes(&sys), Ok(64 * MIB));
    }

    #[test]
    fn a_machine_that_does_not_say_is_an_error() {
        let sys = Fake::bare();
        sys.put("/proc/meminfo", "nothing\n");
        assert_eq!(memory_bytes(&sys), Err(Error::Unreadable("/proc/meminfo".into())));
    }

    #[test]
    fn layers_are_stacked_where_the_kernel_says_so() {
        let sys = Fake::bare();
        assert_eq!(overlay(&sys), Err(NoOverlay::Missing));
        let release = rustix::system::uname();
        let dep = format!("/lib/modules/{}/modules.dep", release.release().to_string_lossy());
        sys.put(&dep, "kernel/fs/overlayfs/overlay.ko.xz:\n");
        assert_eq!(overlay(&sys), Err(NoOverlay::NotLoaded));
        sys.put("/proc/filesystems", "nodev\tsysfs\n\text4\nnodev\toverlay\n");
        assert_eq!(overlay(&sys), Ok(()));
    }

    #[test]
    fn this_machine_has_a_cpu() {
        assert!(cpus() >= 1);
    }
}
