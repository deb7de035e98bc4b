//! The real kernel.

use std::ffi::CStr;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use cgroups_rs::fs as cgroups;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::freezer::FreezerController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::{Device, Failure, Limit, Project, Projects, Sys, Version, devices, projects};

/// The kernel this process runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

/// The period that a CPU quota counts in. Mesos: `CPU_CFS_PERIOD`.
const PERIOD_US: u64 = 100_000;

impl Sys for Linux {
    fn read(&self, path: &Path) -> Result<String, Failure> {
        fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))
    }

    fn exists(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok()
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Failure> {
        let open = fs::OpenOptions::new().write(true).open(path);
        let written = open.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| Failure::io("write", path, &error))
    }

    fn limit(&self, version: Version, directory: &Path, limit: Limit) -> Result<(), Failure> {
        let (at, v2) = (directory.to_owned(), version == Version::V2);
        // Where the hierarchy is mounted does not matter to a controller that is given its place.
        let root = PathBuf::new();
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let done = match limit {
            Limit::CpuWeight(weight) => CpuController::new(at, root, v2).set_shares(weight),
            Limit::CpuQuota(us) => CpuController::new(at, root, v2)
                .set_cfs_quota_and_period(Some(us.map_or(-1, i64::from)), Some(PERIOD_US)),
            Limit::Memory(max) => MemController::new(at, root, v2).set_limit(bytes(max)),
            Limit::MemoryKept(kept) => MemController::new(at, root, v2).set_soft_limit(bytes(kept)),
            Limit::Pids(max) => PidController::new(at, root, v2)
                .set_pid_max(cgroups::MaxValue::Value(i64::from(max))),
            Limit::Frozen(true) => FreezerController::new(at, root, v2).freeze(),
            Limit::Frozen(false) => FreezerController::new(at, root, v2).thaw(),
        };
        done.map_err(|error| {
            let cause = std::error::Error::source(&error);
            let io = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
            let errno = io.and_then(std::io::Error::raw_os_error);
            Failure::new("write", &directory.join(limit.file(version)), errno.unwrap_or(libc::EIO))
        })
    }

    fn make(&self, directory: &Path) -> Result<(), Failure> {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(Failure::io("mkdir", directory, &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn remove(&self, directory: &Path) -> Result<(), Failure> {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::io("rmdir", directory, &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn children(&self, directory: &Path) -> Result<Vec<String>, Failure> {
        list(directory, |entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    }

    fn entries(&self, directory: &Path) -> Result<Vec<String>, Failure> {
        list(directory, |_| true)
    }

    fn allow_devices(
        &self,
        version: Version,
        directory: &Path,
        allowed: &[Device],
    ) -> Result<(), Failure> {
        devices::allow(self, version, directory, allowed)
    }

    fn change_devices(
        &self,
        version: Version,
        directory: &Path,
        allowed: &[Device],
    ) -> Result<(), Failure> {
        devices::change(self, version, directory, allowed)
    }

    fn can_program_devices(&self) -> Result<(), Failure> {
        devices::can_program()
    }

    fn can_filter_calls(&self) -> bool {
        super::walls::can_filter_calls()
    }

    fn can_restrict_writing(&self) -> bool {
        super::landlock_abi() >= super::LANDLOCK_ABI_MIN
    }

    fn can_restrict_truncating(&self) -> bool {
        super::landlock_abi() >= super::LANDLOCK_ABI_TRUNCATE
    }

    fn signal(&self, pid: u32, signal: i32) -> Result<(), Failure> {
        let pid = i32::try_from(pid).unwrap_or(0);
        super::kill(pid, signal).map_err(|errno| Failure::plain("kill", errno))
    }

    fn wait(&self, pids: &[u32], ms: u32) {
        // One is enough: the caller looks again, and the rest ends meanwhile or is next.
        let ends = pids.iter().find_map(|&pid| {
            let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
            pidfd_open(pid, PidfdFlags::empty()).ok()
        });
        match ends {
            Some(end) => wait_for(&end, PollFlags::IN, ms),
            None if pids.is_empty() => pause(ms),
            // They are gone already, or this kernel has no pidfd.
            None => pause(1),
        }
    }

    fn wait_events(&self, directory: &Path, ms: u32) {
        let Ok(events) = fs::File::open(directory.join("cgroup.events")) else { return pause(1) };
        // What has changed since the file was opened is told; what changed before must be read.
        let populated = std::io::read_to_string(&events).unwrap_or_default();
        if populated.contains("populated 1") {
            wait_for(&events, PollFlags::PRI, ms);
        }
    }

    fn watch_memory(&self, version: Version, directory: &Path) -> Result<OwnedFd, Failure> {
        match version {
            Version::V1 => watch_oom_control(directory),
            Version::V2 => watch_events(directory),
        }
    }

    fn can_restrict_ports(&self) -> bool {
        super::landlock_abi() >= super::LANDLOCK_ABI_PORTS
    }

    fn alarm(&self, every_us: u64) -> Result<OwnedFd, Failure> {
        let failed = |errno: rustix::io::Errno| Failure::plain("timerfd", errno.raw_os_error());
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(failed)?;
        // Zero would never ring.
        let every = timeout(u32::try_from(every_us / 1000).unwrap_or(u32::MAX).max(1));
        let when = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&alarm, TimerfdTimerFlags::empty(), &when).map_err(failed)?;
        Ok(alarm)
    }

    fn projects(&self, at: &Path) -> Result<Projects, Failure> {
        projects::state(at)
    }

    fn project_of(&self, directory: &Path) -> Result<u32, Failure> {
        projects::id(directory)
    }

    fn give_to_project(&self, directory: &Path, id: u32) -> Result<(), Failure> {
        projects::give(directory, id)
    }

    fn give_empty_to_project(&self, directory: &Path, id: u32) -> Result<(), Failure> {
        projects::give_itself(directory, id)
    }

    fn project(&self, at: &Path, id: u32) -> Result<Project, Failure> {
        projects::of(at, id)
    }

    fn limit_project(
        &self,
        at: &Path,
        id: u32,
        bytes: (u64, u64),
        files: u64,
    ) -> Result<(), Failure> {
        projects::limit(at, id, bytes, files)
    }

    fn address_of(&self, interface: &CStr) -> Option<Ipv4Addr> {
        super::link::address_of(interface).ok()
    }

    fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// The names of those in a directory that are `wanted`, sorted.
fn list(directory: &Path, wanted: fn(&fs::DirEntry) -> bool) -> Result<Vec<String>, Failure> {
    let failed = |error: std::io::Error| Failure::io("list", directory, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if wanted(&entry) {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// v1: an eventfd that the kernel signals when it kills in the cgroup, or removes it.
fn watch_oom_control(directory: &Path) -> Result<OwnedFd, Failure> {
    let control = directory.join("memory.oom_control");
    let failed = |error: std::io::Error| Failure::io("open", &control, &error);
    let source = fs::File::open(&control).map_err(failed)?;
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| Failure::plain("eventfd", errno.raw_os_error()))?;
    let registration = format!("{} {}", event.as_raw_fd(), source.as_raw_fd());
    Linux.write(&directory.join("cgroup.event_control"), &registration)?;
    Ok(event)
}

/// v2: an inotify descriptor; the kernel "modifies" `memory.events` with each event in it.
fn watch_events(directory: &Path) -> Result<OwnedFd, Failure> {
    let events = directory.join("memory.events");
    let failed = |errno: rustix::io::Errno| Failure::new("inotify", &events, errno.raw_os_error());
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let watch = inotify::init(flags).map_err(failed)?;
    inotify::add_watch(&watch, &events, inotify::WatchFlags::MODIFY).map_err(failed)?;
    Ok(watch)
}

fn wait_for(fd: impl AsFd, what: PollFlags, ms: u32) {
    // Time out, event, interruption: the caller looks again in each case.
    let _ = poll(&mut [PollFd::new(&fd, what)], Some(&timeout(ms)));
}

fn pause(ms: u32) {
    let _ = poll(&mut [], Some(&timeout(ms)));
}

/// `ms` as poll takes it.
pub(crate) fn timeout(ms: u32) -> Timespec {
    Timespec { tv_sec: (ms / 1000).into(), tv_nsec: (ms % 1000 * 1_000_000).into() }
}
