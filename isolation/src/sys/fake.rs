//! A small kernel for unit tests: cgroup files of both versions, with the rules that matter here.
//!
//! It records every change. This process is 50. Directories get the files that the kernel would
//! put there; a v2 cgroup that hands controllers down takes no process; handing down one that works
//! on threads while it has processes makes it one of threads; one with processes or children is not
//! removed; only what was handed down can be limited.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rustix::event::{EventfdFlags, eventfd};

use super::{Device, Failure, Limit, Project, Projects, Sys, Version};

/// This process.
const SELF: u32 = 50;

/// Files of a v1 directory, by controller, with their first text.
const V1_FILES: &[(&str, &str, &str)] = &[
    ("cpu", "cpu.shares", "1024"),
    ("cpu", "cpu.cfs_quota_us", "-1"),
    ("cpu", "cpu.cfs_period_us", "100000"),
    ("cpu", "cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n"),
    ("cpuacct", "cpuacct.usage_user", "0"),
    ("cpuacct", "cpuacct.usage_sys", "0"),
    ("memory", "memory.limit_in_bytes", "9223372036854771712"),
    ("memory", "memory.soft_limit_in_bytes", "9223372036854771712"),
    ("memory", "memory.memsw.limit_in_bytes", "9223372036854771712"),
    ("memory", "memory.swappiness", "60"),
    ("memory", "memory.usage_in_bytes", "0"),
    ("memory", "memory.max_usage_in_bytes", "0"),
    ("memory", "memory.stat", "rss 0\ntotal_rss 0\n"),
    ("memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"),
    ("pids", "pids.max", "max"),
    ("pids", "pids.current", "0"),
    ("pids", "pids.events", "max 0\n"),
    ("freezer", "freezer.state", "THAWED"),
    ("cpuset", "cpuset.cpus", ""),
    ("cpuset", "cpuset.mems", ""),
    ("blkio", "blkio.throttle.read_bps_device", ""),
    ("blkio", "blkio.throttle.write_bps_device", ""),
    ("blkio", "blkio.throttle.read_iops_device", ""),
    ("blkio", "blkio.throttle.write_iops_device", ""),
    ("blkio", "blkio.throttle.io_service_bytes_recursive", "Total 0\n"),
    ("blkio", "blkio.throttle.io_serviced_recursive", "Total 0\n"),
];

/// The same for v2.
const V2_FILES: &[(&str, &str, &str)] = &[
    ("cpu", "cpu.weight", "100"),
    ("cpu", "cpu.max", "max 100000"),
    ("io", "io.max", ""),
    ("io", "io.weight", "default 100"),
    ("io", "io.stat", ""),
    ("memory", "memory.max", "max"),
    ("memory", "memory.low", "0"),
    ("memory", "memory.swap.max", "max"),
    ("memory", "memory.current", "0"),
    ("memory", "memory.peak", "0"),
    ("memory", "memory.stat", "anon 0\nfile 0\n"),
    ("memory", "memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n"),
    ("memory", "memory.oom.group", "0"),
    ("pids", "pids.max", "max"),
    ("pids", "pids.current", "0"),
    ("pids", "pids.events", "max 0\n"),
];

#[derive(Debug)]
pub(crate) struct Fake {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mounts: Vec<(PathBuf, Version, Vec<String>)>,
    files: BTreeMap<PathBuf, String>,
    directories: BTreeSet<PathBuf>,
    processes: BTreeMap<PathBuf, BTreeSet<u32>>,
    /// Directories at or below a cgroup of threads.
    threaded: BTreeSet<PathBuf>,
    immortal: BTreeSet<u32>,
    refused: Vec<(PathBuf, i32)>,
    user: bool,
    /// What the file system does about projects.
    quotas: Projects,
    /// Directories that have one, and what each has.
    projects: BTreeMap<PathBuf, u32>,
    project: BTreeMap<u32, Project>,
    /// A kernel before 5.14, without `cgroup.kill`.
    old: bool,
    /// A kernel without filters of system calls.
    unfiltered: bool,
    untruncating: bool,
    /// Files that no cgroup of this kernel has.
    lacking: BTreeSet<&'static str>,
    log: Vec<String>,
}

impl Fake {
    /// No cgroups at all.
    pub(crate) fn bare() -> Self {
        let state = State::default();
        let fake = Self { state: Mutex::new(state) };
        fake.put("/proc/cmdline", "quiet\n");
        for kind in ["ipc", "uts", "cgroup", "net", "user"] {
            fake.put(&format!("/proc/self/ns/{kind}"), "");
        }
        fake.put("/proc/self/mountinfo", "22 1 0:20 / /sys rw - sysfs sysfs rw\n");
        fake
    }

    /// v1 alone, cpu and cpuacct mounted together as most systems do.
    pub(crate) fn v1() -> Self {
        let fake = Self::bare();
        for controllers in
            ["cpu,cpuacct", "memory", "pids", "freezer", "blkio", "devices", "cpuset"]
        {
            fake.mount(&format!("/sys/fs/cgroup/{controllers}"), Version::V1, controllers);
        }
        fake.put("/proc/self/cgroup", "3:memory:/\n2:pids:/\n1:cpu,cpuacct:/\n");
        fake
    }

    /// v1 with the unified hierarchy beside it.
    pub(crate) fn hybrid() -> Self {
        let fake = Self::v1();
        fake.mount("/sys/fs/cgroup/unified", Version::V2, "");
        fake.put("/proc/self/cgroup", "1:cpu,cpuacct:/\n0::/\n");
        fake
    }

    /// v2 alone; we live in `own`, together with these processes.
    pub(crate) fn v2(own: &str, processes: &[u32]) -> Self {
        let fake = Self::bare();
        fake.mount("/sys/fs/cgroup", Version::V2, "cpu io memory pids");
        let mut at = PathBuf::from("/sys/fs/cgroup");
        for part in own.split('/').filter(|part| !part.is_empty()) {
            fake.put(at.join("cgroup.subtree_control").to_str().unwrap(), "cpu io memory pids");
            at.push(part);
            fake.make(&at).unwrap();
        }
        fake.set_own(own);
        fake.put_processes(&at, processes);
        fake.lock().log.clear();
        fake
    }

    fn mount(&self, point: &str, version: Version, controllers: &str) {
        let mut state = self.lock();
        let (kind, options) = match version {
            Version::V1 => ("cgroup", controllers),
            Version::V2 => ("cgroup2", ""),
        };
        let line =
            format!("30 24 0:27 / {point} rw,nosuid shared:9 - {kind} {kind} rw,{options}\n");
        state.files.entry("/proc/self/mountinfo".into()).or_default().push_str(&line);
        let names = controllers.split([',', ' ']).filter(|name| !name.is_empty());
        state.mounts.push((point.into(), version, names.map(str::to_owned).collect()));
        state.directories.insert(point.into());
        state.fill(Path::new(point), controllers);
    }

    /// Moves us in `/proc/self/cgroup`.
    pub(crate) fn set_own(&self, own: &str) {
        self.put("/proc/self/cgroup", &format!("0::{own}\n"));
    }

    /// Sets the text of a file, there or not.
    pub(crate) fn put(&self, path: &str, text: &str) {
        self.lock().files.insert(path.into(), text.to_owned());
    }

    /// Takes a file away.
    pub(crate) fn forget(&self, path: &str) {
        self.lock().files.remove(Path::new(path));
    }

    /// A directory that is there.
    pub(crate) fn put_directory(&self, path: &str) {
        let above = Path::new(path).ancestors().map(Path::to_owned);
        self.lock().directories.extend(above);
    }

    /// Puts processes into a directory, and takes them out of no other.
    pub(crate) fn put_processes(&self, directory: &Path, pids: &[u32]) {
        self.lock().processes.entry(directory.to_owned()).or_default().extend(pids);
    }

    /// A process is gone.
    pub(crate) fn end_process(&self, pid: u32) {
        self.lock().end(pid);
    }

    /// No signal ends this process.
    pub(crate) fn make_immortal(&self, pid: u32) {
        self.lock().immortal.insert(pid);
    }

    /// Refuses every change below a path from now on.
    pub(crate) fn refuse(&self, below: &str, errno: i32) {
        self.lock().refused.push((below.into(), errno));
    }

    /// We are not root.
    pub(crate) fn be_user(&self) {
        self.lock().user = true;
    }

    /// What the file system does about projects.
    pub(crate) fn put_projects(&self, counted: bool, enforced: bool) {
        self.lock().quotas = Projects { counted, enforced };
    }

    /// What a project has from now on; with no files it is nobody's.
    pub(crate) fn put_project(&self, id: u32, bytes: u64, files: u64) {
        let mut state = self.lock();
        let of = state.project.entry(id).or_default();
        (of.bytes, of.files) = (bytes, files);
    }

    /// The kernel has no filters of system calls.
    pub(crate) fn filter_no_calls(&self) {
        self.lock().unfiltered = true;
    }

    /// Landlock does not know of cutting files short.
    pub(crate) fn forget_truncating(&self) {
        self.lock().untruncating = true;
    }

    /// The kernel puts no such file into cgroups.
    pub(crate) fn lacks(&self, file: &'static str) {
        self.lock().lacking.insert(file);
    }

    /// The kernel cannot kill a cgroup by one write.
    pub(crate) fn be_old(&self) {
        self.lock().old = true;
    }

    /// What was changed, in order.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    /// The text of a file that must be there.
    pub(crate) fn text(&self, path: &str) -> String {
        self.read(Path::new(path)).unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn mount_of(&self, path: &Path) -> Option<&(PathBuf, Version, Vec<String>)> {
        let above = self.mounts.iter().filter(|(point, ..)| path.starts_with(point));
        above.max_by_key(|(point, ..)| point.as_os_str().len())
    }

    /// Puts the files of a new directory into it; `handed` are the controllers it gets on v2.
    fn fill(&mut self, directory: &Path, handed: &str) {
        let Some((point, version, mounted)) = self.mount_of(directory).cloned() else { return };
        let handed: Vec<_> = handed.split([' ', ',']).map(str::to_owned).collect();
        let (table, has) = match version {
            Version::V1 => (V1_FILES, mounted),
            Version::V2 => (V2_FILES, handed),
        };
        if version == Version::V2 {
            self.files.insert(directory.join("cgroup.controllers"), has.join(" "));
            self.files.entry(directory.join("cgroup.subtree_control")).or_default();
        }
        if version == Version::V2 && point != directory {
            self.files.insert(directory.join("cgroup.type"), "domain\n".to_owned());
            self.files.insert(directory.join("cgroup.freeze"), "0\n".to_owned());
        }
        if point != directory {
            for (controller, file, text) in table {
                let path = directory.join(file);
                if has.iter().any(|name| name == controller) && !self.lacking.contains(file) {
                    self.files.entry(path).or_insert_with(|| (*text).to_owned());
                } else {
                    self.files.remove(&path);
                }
            }
        }
    }

    fn check(&self, call: &'static str, path: &Path) -> Result<(), Failure> {
        let refused = self.refused.iter().find(|(below, _)| path.starts_with(below));
        refused.map_or(Ok(()), |&(_, errno)| Err(Failure::new(call, path, errno)))
    }

    fn has_processes(&self, directory: &Path) -> bool {
        self.processes.get(directory).is_some_and(|pids| !pids.is_empty())
    }

    fn below(&self, directory: &Path) -> Vec<PathBuf> {
        let all = self.directories.iter().filter(|at| at.starts_with(directory));
        all.cloned().collect()
    }

    fn end(&mut self, pid: u32) {
        if !self.immortal.contains(&pid) {
            self.processes.values_mut().for_each(|pids| {
                pids.remove(&pid);
            });
        }
    }

    /// What the kernel does with a write; the errno if it refuses.
    fn apply(&mut self, directory: &Path, file: &str, text: &str) -> Result<(), i32> {
        let (point, version, _) = self.mount_of(directory).cloned().ok_or(libc::ENOENT)?;
        let top = point == directory;
        if !self.directories.contains(directory) {
            return Err(libc::ENOENT);
        }
        match (file, version) {
            ("cgroup.procs", _) => self.enter(directory, &point, version, text),
            ("cgroup.kill", Version::V2) if !top && !self.old => {
                let inside = self.below(directory);
                let pids: Vec<_> = inside
                    .iter()
                    .filter_map(|at| self.processes.get(at))
                    .flatten()
                    .copied()
                    .collect();
                pids.into_iter().for_each(|pid| self.end(pid));
                Ok(())
            }
            ("cgroup.subtree_control", Version::V2) => self.hand_down(directory, top, text),
            _ => {
                let file = self.files.get_mut(&directory.join(file)).ok_or(libc::ENOENT)?;
                *file = text.to_owned();
                Ok(())
            }
        }
    }

    fn enter(&mut self, into: &Path, point: &Path, version: Version, pid: &str) -> Result<(), i32> {
        let pid = pid.parse().map_err(|_| libc::EINVAL)?;
        let pid = if pid == 0 { SELF } else { pid };
        let control = self.files.get(&into.join("cgroup.subtree_control"));
        if version == Version::V2 && into != point && control.is_some_and(|list| !list.is_empty()) {
            return Err(libc::EBUSY);
        }
        for (at, pids) in &mut self.processes {
            if at.starts_with(point) {
                pids.remove(&pid);
            }
        }
        self.processes.entry(into.to_owned()).or_default().insert(pid);
        Ok(())
    }

    fn hand_down(&mut self, directory: &Path, top: bool, text: &str) -> Result<(), i32> {
        let (sign, name) = text.split_at_checked(1).ok_or(libc::EINVAL)?;
        let offered = self.files.get(&directory.join("cgroup.controllers")).cloned();
        if !offered.unwrap_or_default().split_ascii_whitespace().any(|offered| offered == name) {
            return Err(libc::ENOENT);
        }
        if sign == "+" && self.threaded.iter().any(|at| directory.starts_with(at)) {
            return Err(libc::EOPNOTSUPP);
        }
        if sign == "+" && !top && self.has_processes(directory) {
            if name == "memory" {
                return Err(libc::EBUSY);
            }
            self.threaded.insert(directory.to_owned());
        }
        let control = self.files.entry(directory.join("cgroup.subtree_control")).or_default();
        let mut list: Vec<&str> =
            control.split(' ').filter(|item| !item.is_empty() && *item != name).collect();
        if sign == "+" {
            list.push(name);
        }
        let list = list.join(" ");
        control.clone_from(&list);
        let children: Vec<_> =
            self.below(directory).into_iter().filter(|at| at.parent() == Some(directory)).collect();
        children.iter().for_each(|child| self.fill(child, &list));
        Ok(())
    }
}

impl Sys for Fake {
    fn read(&self, path: &Path) -> Result<String, Failure> {
        let state = self.lock();
        let missing = || Failure::new("read", path, libc::ENOENT);
        let directory = path.parent().ok_or_else(missing)?;
        if !state.directories.contains(directory) {
            return state.files.get(path).cloned().ok_or_else(missing);
        }
        let Some((point, version, _)) = state.mount_of(directory) else {
            return state.files.get(path).cloned().ok_or_else(missing);
        };
        match path.file_name().and_then(|name| name.to_str()) {
            Some("cgroup.procs") => {
                let pids = state.processes.get(directory).into_iter().flatten();
                Ok(pids.map(|pid| format!("{pid}\n")).collect())
            }
            Some("cgroup.events") if *version == Version::V2 => {
                let populated = state.below(directory).iter().any(|at| state.has_processes(at));
                Ok(format!("populated {}\nfrozen 0\n", u8::from(populated)))
            }
            Some("cgroup.kill") if *version == Version::V2 && point != directory && !state.old => {
                Err(Failure::new("read", path, libc::EINVAL))
            }
            _ => state.files.get(path).cloned().ok_or_else(missing),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.lock();
        state.files.contains_key(path) || state.directories.contains(path)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Failure> {
        let mut state = self.lock();
        state.check("write", path)?;
        let directory = path.parent().unwrap_or(path).to_owned();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
        let done = state.apply(&directory, &file, text);
        done.map_err(|errno| Failure::new("write", path, errno))?;
        state.log.push(format!("write {} {text}", path.display()));
        Ok(())
    }

    fn limit(&self, version: Version, directory: &Path, limit: Limit) -> Result<(), Failure> {
        let value = match (limit, version) {
            (Limit::CpuWeight(value) | Limit::Memory(value) | Limit::MemoryKept(value), _) => {
                value.to_string()
            }
            (Limit::CpuQuota(None), Version::V1) => "-1".to_owned(),
            (Limit::CpuQuota(None), Version::V2) => "max 100000".to_owned(),
            (Limit::CpuQuota(Some(us)), Version::V1) => us.to_string(),
            (Limit::CpuQuota(Some(us)), Version::V2) => format!("{us} 100000"),
            (Limit::Pids(max), _) => max.to_string(),
            (Limit::Frozen(true), Version::V1) => "FROZEN".to_owned(),
            (Limit::Frozen(false), Version::V1) => "THAWED".to_owned(),
            (Limit::Frozen(on), Version::V2) => u8::from(on).to_string(),
        };
        self.write(&directory.join(limit.file(version)), &value)
    }

    fn make(&self, directory: &Path) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.directories.contains(directory) {
            return Ok(());
        }
        state.check("mkdir", directory)?;
        let parent = directory.parent().unwrap_or(directory).to_owned();
        if !state.directories.contains(&parent) {
            return Err(Failure::new("mkdir", directory, libc::ENOENT));
        }
        let handed = state.files.get(&parent.join("cgroup.subtree_control")).cloned();
        state.directories.insert(directory.to_owned());
        state.fill(directory, &handed.unwrap_or_default());
        state.log.push(format!("mkdir {}", directory.display()));
        Ok(())
    }

    fn remove(&self, directory: &Path) -> Result<(), Failure> {
        let mut state = self.lock();
        if !state.directories.contains(directory) {
            return Ok(());
        }
        state.check("rmdir", directory)?;
        if state.below(directory).len() > 1 || state.has_processes(directory) {
            return Err(Failure::new("rmdir", directory, libc::EBUSY));
        }
        state.directories.remove(directory);
        state.processes.remove(directory);
        state.files.retain(|path, _| !path.starts_with(directory));
        state.log.push(format!("rmdir {}", directory.display()));
        Ok(())
    }

    fn children(&self, directory: &Path) -> Result<Vec<String>, Failure> {
        let state = self.lock();
        if !state.directories.contains(directory) {
            return Err(Failure::new("list", directory, libc::ENOENT));
        }
        let children = state.directories.iter().filter(|at| at.parent() == Some(directory));
        let names = children.filter_map(|at| at.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn entries(&self, directory: &Path) -> Result<Vec<String>, Failure> {
        let files: Vec<PathBuf> = self.lock().files.keys().cloned().collect();
        let files = files.iter().filter(|file| file.parent() == Some(directory));
        let mut names = self.children(directory)?;
        names.extend(files.filter_map(|file| file.file_name()?.to_str().map(str::to_owned)));
        Ok(names)
    }

    fn allow_devices(
        &self,
        _: Version,
        directory: &Path,
        allowed: &[Device],
    ) -> Result<(), Failure> {
        let list: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        self.lock().log.push(format!("devices {} {}", directory.display(), list.join(",")));
        Ok(())
    }

    fn change_devices(
        &self,
        version: Version,
        directory: &Path,
        allowed: &[Device],
    ) -> Result<(), Failure> {
        self.allow_devices(version, directory, allowed)
    }

    fn can_program_devices(&self) -> Result<(), Failure> {
        let user = self.lock().user;
        if user { Err(Failure::plain("bpf", libc::EPERM)) } else { Ok(()) }
    }

    fn can_filter_calls(&self) -> bool {
        !self.lock().unfiltered
    }

    fn can_restrict_writing(&self) -> bool {
        true
    }

    fn can_restrict_truncating(&self) -> bool {
        !self.lock().untruncating
    }

    fn signal(&self, pid: u32, signal: i32) -> Result<(), Failure> {
        let mut state = self.lock();
        state.log.push(format!("kill {pid} {signal}"));
        if signal == libc::SIGKILL {
            state.end(pid);
        }
        Ok(())
    }

    fn wait(&self, _: &[u32], _: u32) {}

    fn wait_events(&self, _: &Path, _: u32) {}

    fn watch_memory(&self, _: Version, directory: &Path) -> Result<OwnedFd, Failure> {
        self.lock().log.push(format!("watch {}", directory.display()));
        Ok(eventfd(0, EventfdFlags::CLOEXEC).unwrap())
    }

    fn can_restrict_ports(&self) -> bool {
        true
    }

    fn alarm(&self, _: u64) -> Result<OwnedFd, Failure> {
        Ok(eventfd(0, EventfdFlags::CLOEXEC).unwrap())
    }

    fn is_root(&self) -> bool {
        !self.lock().user
    }

    fn projects(&self, _: &Path) -> Result<Projects, Failure> {
        Ok(self.lock().quotas)
    }

    fn project_of(&self, directory: &Path) -> Result<u32, Failure> {
        Ok(self.lock().projects.get(directory).copied().unwrap_or(0))
    }

    fn give_to_project(&self, directory: &Path, id: u32) -> Result<(), Failure> {
        let mut state = self.lock();
        state.check("project", directory)?;
        state.projects.insert(directory.to_owned(), id);
        state.project.entry(id).or_default().files += 1;
        state.log.push(format!("project {} {id}", directory.display()));
        Ok(())
    }

    fn give_empty_to_project(&self, directory: &Path, id: u32) -> Result<(), Failure> {
        self.give_to_project(directory, id)
    }

    fn project(&self, _: &Path, id: u32) -> Result<Project, Failure> {
        Ok(self.lock().project.get(&id).copied().unwrap_or_default())
    }

    fn limit_project(
        &self,
        _: &Path,
        id: u32,
        (soft, hard): (u64, u64),
        files: u64,
    ) -> Result<(), Failure> {
        let mut state = self.lock();
        state.project.entry(id).or_default().soft_bytes = soft;
        state.log.push(format!("limit {id} {soft} {hard} {files}"));
        Ok(())
    }

    fn address_of(&self, interface: &CStr) -> Option<Ipv4Addr> {
        let told = Path::new("/addresses").join(interface.to_str().ok()?);
        self.read(&told).ok()?.parse().ok()
    }

    fn pid(&self) -> u32 {
        SELF
    }
}
