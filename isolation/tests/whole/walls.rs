//! Cgroups that hold. Needs root; runs on whatever hierarchies the machine has, which are those of
//! v1 under `ci/root` on most machines that test this, and v2 under `ci/guest`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mesita_core::wire::ContainerId;
use mesita_core::wire::task::Exit;
use mesita_isolation::cgroups::{At, Part};
use mesita_isolation::isolators::{Cap, Io, Reason, Rlimit, TaskLimits};
use mesita_isolation::keeper::protocol::{Enter, Held, Namespaces, Request, Stdio, User, Welcome};
use mesita_isolation::keeper::wall::{Host, Kind, Wall};
use mesita_isolation::sys::{Device, DeviceKind, Linux, Sys, Version};
use mesita_isolation::{Isolation, Killed, Options, machine};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use crate::world::{
    Agent, Directory, NOBODY, PATIENCE, World, children, eventually, is_alive, kill, nap, program,
    within,
};

const MIB: u64 = 1 << 20;
pub(crate) static LINUX: Linux = Linux;

/// Why there can be no walls on this machine, as far as root is not what is missing.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let (namespaces, pid) = (Namespaces::default(), std::process::id());
    let welcome = Welcome { version: 1, pid, boot: [0; 16], namespaces, trouble: None };
    let isolators = Some(vec!["cgroups".to_owned()]);
    match Isolation::new(&Options { isolators, ..options(&welcome, new_key()) }, &LINUX) {
        Ok((isolation, _)) => {
            remove(&isolation);
            None
        }
        Err(why) => Some(why.to_string()),
    }
}

/// Removes the directories of an agent, and those above that no other one uses. What cannot be
/// removed at once can be a moment later, or it was left behind.
pub(crate) fn remove(isolation: &Isolation<'_>) {
    let Request::RemoveAtEnd { directories } = isolation.remove_at_end() else { panic!() };
    for directory in directories {
        let path = Path::new(directory.to_str().unwrap());
        let mut last = Ok(());
        let gone = within(PATIENCE, || {
            last = std::fs::remove_dir(path);
            last.is_ok() || !path.exists() || children_of(path) > 0
        });
        assert!(gone || std::thread::panicking(), "{} stays: {last:?}", path.display());
    }
}

/// How many directories there are in one.
fn children_of(path: &Path) -> usize {
    let inside = std::fs::read_dir(path).into_iter().flatten().flatten();
    inside.filter(|entry| entry.file_type().is_ok_and(|of| of.is_dir())).count()
}

/// Options of an agent with a key of its own.
pub(crate) fn options(welcome: &Welcome, key: u64) -> Options {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&key.to_be_bytes());
    let total = machine::memory_bytes(&LINUX).unwrap();
    let work_dir = Some("/nonexistent/work-dir".into());
    let root = "mesita-whole".to_owned();
    Options { cgroups_root: root, work_dir, ..Options::new(bytes, welcome, total) }
}

/// A key that no other test has now.
fn new_key() -> u64 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    u64::from(std::process::id()) << 32 | u64::from(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A keeper and an agent's isolation, without leftovers at its end.
pub(crate) struct Walls {
    pub(crate) world: World,
    pub(crate) isolation: Isolation<'static>,
    key: u64,
}

impl Walls {
    /// With these isolators, or with all.
    pub(crate) fn with(isolators: Option<&[&str]>) -> Self {
        Self::of(isolators, |_| {})
    }

    /// The same with other flags.
    pub(crate) fn of(isolators: Option<&[&str]>, change: impl FnOnce(&mut Options)) -> Self {
        let (world, key) = (World::new(), new_key());
        let mut options = options(world.client.welcome(), key);
        options.isolators = isolators.map(|names| names.iter().map(|&n| n.to_owned()).collect());
        change(&mut options);
        let (isolation, _) = Isolation::new(&options, &LINUX).unwrap();
        Self { world, isolation, key }
    }

    /// Cgroups alone, so that what holds is they.
    fn of_cgroups() -> Self {
        Self::with(Some(&["cgroups"]))
    }

    fn prepare(&mut self, limits: &TaskLimits, words: &[&str]) -> (ContainerId, Request) {
        let plan = self.world.role_plan(words);
        let container = plan.container;
        (container, self.isolation.prepare(container, limits).unwrap().request(plan))
    }

    pub(crate) fn run(&mut self, limits: &TaskLimits, words: &[&str]) -> (ContainerId, u32) {
        let (container, request) = self.prepare(limits, words);
        self.world.client.send(&request).unwrap();
        let pid = self.world.launched(container);
        (container, pid)
    }

    /// Kills a container, sees that nothing is left of it, and lets go of it.
    fn end(&mut self, container: ContainerId) {
        let members = self.members(container);
        assert_eq!(self.isolation.kill(container), Ok(Killed::All));
        // A process leaves its cgroup a moment before it is gone.
        let gone = || members.iter().all(|&pid| !is_alive(pid));
        eventually(gone, || format!("the end of {members:?}"));
        self.isolation.cleanup(container).unwrap();
        assert!(self.directories(container).iter().all(|directory| !directory.exists()));
        self.world.client.send(&Request::Forget { container }).unwrap();
    }

    fn directories(&self, container: ContainerId) -> Vec<PathBuf> {
        let Request::RemoveAtEnd { directories } = self.isolation.remove_at_end() else { panic!() };
        let ours = directories.iter().map(|path| PathBuf::from(path.to_str().unwrap()));
        let ours = ours.filter(|path| path.ends_with(self.key_text()));
        ours.map(|path| path.join(container.to_string())).collect()
    }

    /// Directories of cgroups of containers of this agent.
    pub(crate) fn containers(&self) -> Vec<PathBuf> {
        let places = find(&self.key_text());
        let inside = places.iter().flat_map(|place| std::fs::read_dir(place).unwrap().flatten());
        inside.filter(|at| at.file_type().unwrap().is_dir()).map(|at| at.path()).collect()
    }

    fn key_text(&self) -> String {
        format!("{:016x}", self.key)
    }

    /// Everything that is in the cgroups of a container.
    fn members(&self, container: ContainerId) -> Vec<u32> {
        let lists = self.directories(container).into_iter().map(|directory| {
            std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default()
        });
        let mut members: Vec<u32> = lists
            .flat_map(|list| list.lines().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
            .collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    fn is_v1(&self) -> bool {
        self.directories(ContainerId::default())
            .iter()
            .any(|at| at.starts_with("/sys/fs/cgroup/memory"))
    }
}

impl Drop for Walls {
    fn drop(&mut self) {
        let recovered = self.isolation.recover(&[]);
        remove(&self.isolation);
        if !std::thread::panicking() {
            assert!(recovered.unwrap().stuck.is_empty());
        }
    }
}

pub(crate) fn limits(mem_mib: u64) -> TaskLimits {
    TaskLimits { cpus_milli: 1000, mem_bytes: mem_mib * MIB, ..TaskLimits::default() }
}

pub(crate) fn a_task_is_in_its_cgroups_before_it_runs() {
    for isolators in [&["cgroups"][..], &["cgroups", "namespaces/pid"]] {
        let mut walls = Walls::with(Some(isolators));
        let mut plan = walls.world.plan(&["/bin/cat", "/proc/self/cgroup"]);
        let prepared = walls.isolation.prepare(plan.container, &limits(64)).unwrap();
        walls.world.walls = prepared.add_to(&mut plan);
        let joined = plan.cgroups.len();
        assert!(joined > 0);
        let container = walls.world.send(plan);
        assert_eq!(walls.world.exit(container), Exit::Code(0));
        let output = walls.world.output();
        let own = format!("/{}/{container}", walls.key_text());
        let ours = output.lines().filter(|line| line.ends_with(&own)).count();
        assert_eq!(ours, joined, "{output}");
        walls.end(container);
    }
}

pub(crate) fn a_task_beyond_its_memory_is_killed_alone_and_told() {
    let mut walls = Walls::of_cgroups();
    let (other, other_pid) = walls.run(&limits(32), &["sleep", "600"]);
    // With v2 what is kept for it is kept for what is around it as well.
    for directory in walls.directories(other) {
        let kept = |at: &Path| -> Option<u64> {
            std::fs::read_to_string(at.join("memory.low")).ok()?.trim().parse().ok()
        };
        if let Some(own) = kept(&directory) {
            assert_eq!(own, 32 * MIB);
            let around: Vec<_> = directory.ancestors().skip(1).take(2).map(kept).collect();
            assert!(around.iter().all(|kept| *kept >= Some(own)), "{around:?}");
        }
    }
    let (container, _) = walls.run(&limits(32), &["hog", "200"]);
    let exit = walls.world.ended(container).exit;
    assert_eq!(exit, Exit::Signal(9));
    let limitation = walls.isolation.ended(container, exit).unwrap().expect("a limitation");
    assert_eq!(limitation.reason, Reason::Memory);
    let first = limitation.message.lines().next().unwrap();
    println!("{first}");
    assert!(first.starts_with("Memory limit exceeded: Requested: 32MB Maximum Used: "), "{first}");
    let usage = walls.isolation.usage(container).unwrap();
    assert_eq!(usage.mem_limit_bytes, Some(32 * MIB));
    // Nor does it have any swap.
    let page = rustix::param::page_size() as u64;
    for (file, most) in [("memory.memsw.limit_in_bytes", 32 * MIB + page), ("memory.swap.max", 0)] {
        let directories = walls.directories(container);
        let told = directories.iter().find_map(|at| std::fs::read_to_string(at.join(file)).ok());
        assert!(told.is_none_or(|told| told.trim() == most.to_string()), "{file}");
    }
    if let Some(peak) = usage.mem_peak_bytes {
        assert!((24 * MIB..=32 * MIB).contains(&peak), "{peak}");
    }
    assert!(is_alive(other_pid) && is_alive(walls.world.keeper));
    assert_eq!(walls.isolation.limitation(other), Ok(None));
    walls.end(container);
    // One that stays below is not touched.
    let (container, pid) = walls.run(&limits(64), &["hog", "20"]);
    walls.world.said("held");
    assert!(is_alive(pid));
    assert_eq!(walls.isolation.limitation(container), Ok(None));
    let rss = walls.isolation.usage(container).unwrap().rss_bytes.unwrap();
    assert!((20 * MIB..40 * MIB).contains(&rss), "{rss}");
    walls.end(container);
    walls.end(other);
}

pub(crate) fn of_six_small_tasks_the_one_that_takes_too_much_is_killed_alone() {
    let mut walls = Walls::of_cgroups();
    let small: Vec<_> = (0..5).map(|_| walls.run(&limits(12), &["hog", "8"])).collect();
    eventually(
        || walls.world.output().matches("held").count() == 5,
        || format!("five that hold 8 MiB: {}", walls.world.output()),
    );
    let (large, _) = walls.run(&limits(12), &["hog", "40"]);
    let exit = walls.world.ended(large).exit;
    assert_eq!(exit, Exit::Signal(9));
    let told = walls.isolation.ended(large, exit).unwrap();
    assert_eq!(told.map(|told| told.reason), Some(Reason::Memory));
    assert!(small.iter().all(|&(_, pid)| is_alive(pid)) && is_alive(walls.world.keeper));
    let status = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status(walls.world.keeper);
    let rss = rss.lines().find(|line| line.starts_with("RssAnon")).unwrap_or_default().to_owned();
    let machine = machine::memory_bytes(&LINUX).unwrap() / MIB;
    println!("Memory limit: of six tasks on {machine} MiB one was killed; keeper {rss}");
    for (container, _) in small.into_iter().chain([(large, 0)]) {
        walls.end(container);
    }
}

pub(crate) fn a_child_beyond_the_memory_is_seen_while_its_parent_runs() {
    let mut walls = Walls::of_cgroups();
    let (container, request) = walls.prepare(&limits(32), &["parent-of-hog", "200"]);
    let watches: Vec<OwnedFd> = walls.isolation.watch(container).unwrap();
    let [watch] = &watches[..] else { panic!("{watches:?}") };
    walls.world.client.send(&request).unwrap();
    let pid = walls.world.launched(container);
    let patience = rustix::time::Timespec { tv_sec: 30, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&patience));
    assert_eq!(ready, Ok(1), "an event");
    let told = || walls.isolation.limitation(container).unwrap();
    eventually(|| told().is_some(), || "a limitation".to_owned());
    if walls.is_v1() {
        walls.world.said("child signal: 9");
        assert!(is_alive(pid), "the kernel killed the child alone");
    } else {
        assert_eq!(walls.world.ended(container).exit, Exit::Signal(9), "all of it");
    }
    walls.end(container);
}

pub(crate) fn a_fork_bomb_stays_below_its_limit() {
    let mut walls = Walls::of_cgroups();
    let few = TaskLimits { pids: Some(20), ..limits(256) };
    let (container, _) = walls.run(&few, &["forks", "100"]);
    walls.world.said("refused after ");
    let usage = walls.isolation.usage(container).unwrap();
    assert_eq!(usage.pids_limit, Some(20));
    assert!(usage.threads.unwrap() <= 20 && usage.pids_refused.unwrap() > 0, "{usage:?}");
    walls.end(container);
    // One that stays below is not touched.
    let (container, _) = walls.run(&few, &["forks", "5"]);
    walls.world.said("forked 5");
    assert_eq!(walls.isolation.usage(container).unwrap().pids_refused, Some(0));
    walls.end(container);
}

pub(crate) fn cpu_time_is_shared_by_the_requests() {
    let mut walls = Walls::of_cgroups();
    let asks = |cpus_milli| TaskLimits { cpus_milli, ..limits(64) };
    let (one, _) = walls.run(&asks(250), &["spin"]);
    let (three, _) = walls.run(&asks(750), &["spin"]);
    let used = |walls: &Walls, container| {
        let usage = walls.isolation.usage(container).unwrap();
        usage.user_us.unwrap() + usage.system_us.unwrap()
    };
    let before = (used(&walls, one), used(&walls, three));
    nap(Duration::from_secs(3));
    let ours = used(&walls, one) - before.0;
    let theirs = used(&walls, three) - before.1;
    let percent = theirs * 100 / ours.max(1);
    println!("{ours} µs and {theirs} µs: 1:{percent}%");
    assert!((200..=450).contains(&percent), "{ours} µs and {theirs} µs");
    walls.end(one);
    walls.end(three);
}

pub(crate) fn a_cap_on_the_cpu_holds() {
    let mut walls = Walls::of_cgroups();
    let capped = TaskLimits { cpus_limit: Some(Cap::At(200)), ..limits(64) };
    let (container, _) = walls.run(&capped, &["spin"]);
    nap(Duration::from_secs(2));
    let usage = || walls.isolation.usage(container).unwrap();
    let used = usage().user_us.unwrap() + usage().system_us.unwrap();
    assert!(used <= 600_000, "{used} µs in 2 s");
    // On a machine that has more to do it may get less than its cap for a while.
    let throttled = || usage().throttled_us.unwrap() > 0 && usage().throttled_periods.unwrap() > 0;
    eventually(throttled, || format!("{:?}", usage()));
    walls.end(container);
}

/// Runs a script of the shell behind all walls; what it said, and how it ended.
fn script(walls: &mut Walls, limits: &TaskLimits, script: &str) -> (String, Exit) {
    let plan = walls.world.plan(&["/bin/sh", "-c", script]);
    let container = plan.container;
    let request = walls.isolation.prepare(container, limits).unwrap().request(plan);
    walls.world.client.send(&request).unwrap();
    let exit = walls.world.exit(container);
    walls.end(container);
    let said = walls.world.output();
    std::fs::remove_file(walls.world.path().join("out")).unwrap();
    (said, exit)
}

pub(crate) fn a_task_finds_its_own_limits_and_no_other_cgroup() {
    let mut walls = Walls::with(None);
    let look = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; \
                find /sys/fs/cgroup -mindepth 1 -name 'mesita*'; \
                mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x; grep -c cgroup /proc/self/mounts";
    let (said, _) = script(&mut walls, &limits(64), look);
    let lines: Vec<&str> = said.lines().filter(|line| !line.contains(": ")).collect();
    assert_eq!(lines[0], (64 * MIB).to_string(), "{said}");
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        said.matches("ead-only file system").count() + said.matches("No such file").count() >= 2
    );
}

/// A directory where services have theirs, which goes away with its owner.
struct BesideServices(PathBuf);

impl Drop for BesideServices {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn where_services_are_a_task_finds_what_is_its_own_or_named_and_nothing_else() {
    let mut world = World::new();
    let top = BesideServices(PathBuf::from(format!("/run/mesita-whole-{}", std::process::id())));
    for name in ["works", "named", "shown", "other"] {
        std::fs::create_dir_all(top.0.join(name)).unwrap();
    }
    std::fs::write(top.0.join("file"), "told\n").unwrap();
    let at = |name: &str| crate::world::text(&top.0.join(name));
    world.namespaces = Namespaces { user: false, pid: true, mount: true };
    world.walls = vec![Wall::Host(Host {
        writable: vec![at("named"), c"/tmp".into(), c"/nonexistent".into()],
        hidden: vec![c"/run".into(), c"/var/run".into()],
        shown: vec![at("shown"), at("file"), c"/run/nonexistent".into()],
    })];
    let script = "cd ..; exec 2>/dev/null; ls /run | wc -l; ls; cat file; echo x >works/a && \
                  echo x >named/a && rm works/a && chmod 700 named && echo may; echo x >shown/a || \
                  chmod 700 shown || chmod 777 /run || echo x >new || chmod 755 /etc/passwd || echo held";
    let mut launch = world.plan(&["/bin/sh", "-c", script]);
    launch.directory = at("works");
    let container = world.send(launch);
    world.launched(container);
    assert_eq!(world.exit(container), Exit::Code(0));
    let said = std::fs::read_to_string(top.0.join("works/out")).unwrap();
    assert_eq!(said, "1\nfile\nnamed\nshown\nworks\ntold\nmay\nheld\n");
    assert!(top.0.join("named/a").exists() && top.0.join("other").exists());
    assert!(!top.0.join("shown/a").exists() && !top.0.join("works/a").exists());
}

pub(crate) fn shared_memory_is_the_tasks_own_and_bounded_and_goes_with_it() {
    let mut walls = Walls::with(None);
    let limited = TaskLimits { shm_bytes: Some(4 * MIB), ..limits(64) };
    let name = format!("mesita-shm-{}", std::process::id());
    let fill = |mib: u32| format!("dd if=/dev/zero of=/dev/shm/{name} bs=1048576 count={mib}");
    let (said, exit) = script(&mut walls, &limited, &fill(3));
    assert_eq!(exit, Exit::Code(0), "{said}");
    let (said, exit) = script(&mut walls, &limited, &fill(8));
    assert_eq!(exit, Exit::Code(1), "{said}");
    assert!(said.contains("No space left"), "{said}");
    // What is there counts as its memory.
    let (_, exit) =
        script(&mut walls, &TaskLimits { shm_bytes: Some(256 * MIB), ..limits(32) }, &fill(128));
    assert_ne!(exit, Exit::Code(0));
    assert!(!Path::new("/dev/shm").join(&name).exists());
}

/// A disk that is a file, for as long as this lives.
struct Disk {
    device: String,
    _directory: Directory,
}

impl Disk {
    /// None where there are no such disks.
    fn new(mib: u64) -> Option<Self> {
        let directory = Directory::new();
        let file = directory.path().join("disk");
        std::fs::File::create(&file).unwrap().set_len(mib * MIB).unwrap();
        let made = Command::new("losetup").args(["-f"]).output().ok()?;
        let device = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let attached = Command::new("losetup").arg(&device).arg(&file).output().ok()?;
        attached.status.success().then_some(Self { device, _directory: directory })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
    }
}

pub(crate) fn a_disk_is_written_no_faster_than_it_may_be_and_that_is_counted() {
    let Some(disk) = Disk::new(16) else {
        return println!("SKIPPED: no disk can be made of a file here");
    };
    let mut walls = Walls::with(Some(&["cgroups/blkio"]));
    let took = |walls: &mut Walls, io: Option<Io>| {
        let begun = mesita_isolation::sys::boottime_us();
        let limits = TaskLimits { io, ..limits(64) };
        let (container, _) = walls.run(&limits, &["write-disk", &disk.device, "4"]);
        assert_eq!(walls.world.ended(container).exit, Exit::Code(0));
        let took = mesita_isolation::sys::boottime_us() - begun;
        let usage = walls.isolation.usage(container).unwrap();
        // With v1 the kernel counts where it limits alone.
        assert!(usage.io_written_bytes.is_some() || io.is_none(), "{usage:?}");
        assert!(usage.io_written_bytes.is_none_or(|bytes| bytes >= 4 * MIB), "{usage:?}");
        assert!(usage.io_writes.is_none_or(|writes| writes >= 4), "{usage:?}");
        walls.end(container);
        took
    };
    let free = took(&mut walls, None);
    let slow = Io { write_bytes: Some(2 * MIB), ..Io::default() };
    let held = took(&mut walls, Some(slow));
    println!("cgroups/blkio: 4 MiB took {} ms, and {} ms at 2 MiB/s", free / 1000, held / 1000);
    assert!((1_300_000..6_000_000).contains(&held) && free < 1_300_000, "{free} µs, {held} µs");
}

pub(crate) fn what_a_container_is_short_of_is_told() {
    let mut walls = Walls::of_cgroups();
    let capped = TaskLimits { cpus_limit: Some(Cap::At(100)), ..limits(64) };
    let (container, _) = walls.run(&capped, &["spin"]);
    let Some(first) = walls.isolation.usage(container).unwrap().cpu_pressure else {
        walls.end(container);
        return println!("SKIPPED: this kernel tells no pressure");
    };
    let more = || walls.isolation.usage(container).unwrap().cpu_pressure.unwrap();
    // A v1 quota is not the unified hierarchy's: there it waits for nobody but those that are busy.
    if walls.is_v1() {
        assert!(more().some_us >= first.some_us);
    } else {
        eventually(|| more().some_us > first.some_us + 50_000, || format!("{:?}", more()));
    }
    walls.end(container);
}

/// A device that not everybody may open: the kernel's log, by the sort of rule that this machine has.
pub(crate) fn a_device_that_is_taken_away_is_not_opened_again() {
    use mesita_isolation::sys::{Device, DeviceKind};
    let mut walls = Walls::with(Some(&["cgroups/devices"]));
    let access = Device::READ | Device::WRITE | Device::MAKE;
    let of =
        |minor| Device { kind: DeviceKind::Character, major: Some(1), minor: Some(minor), access };
    let own = TaskLimits { devices: vec![of(11)], ..limits(64) };
    let (container, _) = walls.run(&own, &["open", "/dev/kmsg", "/dev/null"]);
    let says = |walls: &mut Walls, wanted: &str| {
        let before = walls.world.output().lines().count();
        let last = |walls: &Walls| {
            let output = walls.world.output();
            (output.lines().count() > before + 1, output.lines().last() == Some(wanted))
        };
        eventually(|| last(walls) == (true, true), || walls.world.output());
    };
    says(&mut walls, "true true");
    // Again and again: what was before is replaced.
    for _ in 0..100 {
        walls.isolation.hold_devices(container, &[of(12)]).unwrap();
    }
    says(&mut walls, "false true");
    walls.isolation.hold_devices(container, &[of(11)]).unwrap();
    says(&mut walls, "true true");
    walls.end(container);
}

pub(crate) fn threads_are_told_from_processes() {
    let mut walls = Walls::of_cgroups();
    let (container, _) = walls.run(&limits(64), &["threads", "3"]);
    walls.world.said("threads");
    let usage = walls.isolation.usage(container).unwrap();
    assert_eq!((usage.processes, usage.threads), (Some(1), Some(4)));
    walls.end(container);
}

pub(crate) fn hierarchies_that_are_named_hold_a_task_as_well() {
    let named = ["cgroups/cpuset", "cgroups/hugetlb", "cgroups/freezer", "cgroups/perf_event"];
    for name in named {
        let (world, key) = (World::new(), new_key());
        let mut options = options(world.client.welcome(), key);
        options.isolators = Some(vec![name.to_owned()]);
        match Isolation::new(&options, &LINUX) {
            Err(why) => println!("SKIPPED: {why}"),
            Ok((isolation, _)) => {
                let mut walls = Walls { world, isolation, key };
                let (container, _) = walls.run(&limits(64), &["exit", "3"]);
                assert_eq!(walls.world.exit(container), Exit::Code(3));
                walls.end(container);
            }
        }
    }
}

pub(crate) fn a_task_that_takes_more_disk_than_it_holds_is_told() {
    // Its processes are those of its cgroups, or those below the one that was started.
    for isolators in [&["disk/du"][..], &["disk/du", "cgroups/pids"]] {
        ends_who_takes_too_much_disk(isolators);
    }
}

fn ends_who_takes_too_much_disk(isolators: &[&str]) {
    let world = World::new();
    let (work_dir, key) = (Directory::new(), new_key());
    let options = Options {
        isolators: Some(isolators.iter().map(|&name| name.to_owned()).collect()),
        work_dir: Some(work_dir.path().to_owned()),
        enforce_disk_quota: true,
        disk_watch_us: 100_000,
        ..options(world.client.welcome(), key)
    };
    let (isolation, _) = Isolation::new(&options, &LINUX).unwrap();
    let mut walls = Walls { world, isolation, key };
    let cases = [
        ("take-disk", 1, false),
        ("take-disk", 4, true),
        ("hide-disk", 1, false),
        ("hide-disk", 4, true),
    ];
    for (role, mib, beyond) in cases {
        let mut plan = walls.world.role_plan(&[role, &mib.to_string()]);
        let container = plan.container;
        let sandbox = mesita_isolation::sandbox::create(work_dir.path(), container, None).unwrap();
        plan.directory = std::ffi::CString::new(sandbox.to_str().unwrap()).unwrap();
        let limits = TaskLimits { disk_bytes: Some(2 * MIB), ..limits(64) };
        let prepared = walls.isolation.prepare(container, &limits).unwrap();
        walls.world.client.send(&prepared.request(plan)).unwrap();
        let pid = walls.world.launched(container);
        eventually(|| sandbox.join("taken").exists(), || "what it takes".to_owned());
        let [watch] = &walls.isolation.watch(container).unwrap()[..] else { panic!("a watch") };
        let patience = rustix::time::Timespec { tv_sec: 30, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&patience)), Ok(1));
        let told = walls.isolation.limitation_of(container, Some(pid)).unwrap();
        assert_eq!(told.map(|told| told.reason), beyond.then_some(Reason::Disk), "{role}");
        walls.world.signal(container, Signal::KILL);
        walls.world.ended(container);
        walls.isolation.cleanup(container).unwrap();
    }
}

pub(crate) fn a_stubborn_task_leaves_nothing() {
    let mut walls = Walls::of_cgroups();
    let (container, _) = walls.run(&limits(256), &["stubborn", "3"]);
    eventually(|| walls.members(container).len() == 4, || "four processes".to_owned());
    walls.world.signal(container, Signal::TERM);
    nap(Duration::from_millis(100));
    assert_eq!(walls.members(container).len(), 4, "they ignore what can be ignored");
    walls.end(container);
    eventually(|| children(walls.world.keeper).is_empty(), || "no zombie".to_owned());
}

pub(crate) fn leftovers_are_recovered_and_others_are_not_touched() {
    let mut walls = Walls::of_cgroups();
    let mut other = Walls::of_cgroups();
    let (stray, _) = walls.run(&limits(256), &["stubborn", "2"]);
    let (known, known_pid) = walls.run(&limits(64), &["sleep", "600"]);
    let (theirs, their_pid) = other.run(&limits(64), &["sleep", "600"]);
    eventually(|| walls.members(stray).len() == 3, || "three processes".to_owned());
    let members = walls.members(stray);
    // The next start of the same agent.
    let options = Options {
        isolators: Some(vec!["cgroups".to_owned()]),
        ..options(walls.world.client.welcome(), walls.key)
    };
    let (next, _) = Isolation::new(&options, &LINUX).unwrap();
    let recovered = next.recover(&[known]).unwrap();
    assert_eq!(recovered.removed, [stray.to_string()]);
    assert!(recovered.stuck.is_empty());
    eventually(|| members.iter().all(|&pid| !is_alive(pid)), || format!("{members:?}"));
    assert!(is_alive(known_pid) && is_alive(their_pid));
    assert!(next.usage(known).unwrap().mem_bytes.is_some());
    walls.end(known);
    other.end(theirs);
}

pub(crate) fn a_namespaced_task_is_killed_by_its_cgroup() {
    let mut walls = Walls::with(None);
    assert!(walls.isolation.names().contains(&"namespaces/pid"));
    let (container, init) = walls.run(&limits(256), &["stubborn", "2"]);
    eventually(|| walls.members(container).len() == 4, || "three and their init".to_owned());
    assert_eq!(walls.isolation.kill(container), Ok(Killed::All));
    assert_eq!(walls.world.ended(container).exit, Exit::Signal(9));
    assert!(!is_alive(init));
    walls.end(container);
    // Its true status is told through process 1.
    let (container, _) = walls.run(&limits(64), &["exit", "42"]);
    assert_eq!(walls.world.exit(container), Exit::Code(42));
    walls.end(container);
}

pub(crate) fn containers_inside_another_have_walls_of_their_own_and_end_with_it() {
    let mut walls = Walls::with(None);
    let mut around = walls.world.plan(&["true"]).container;
    around.incarnation = 9;
    walls.isolation.prepare_around(around, &limits(96)).unwrap();
    let mut inside = Vec::new();
    for mib in [32, 64] {
        let mut plan = walls.world.role_plan(&["sleep", "600"]);
        let at = At { inside: Some(around), id: plan.container };
        walls.isolation.prepare_around(around, &limits(96)).unwrap();
        walls.world.walls = walls.isolation.prepare(at, &limits(mib)).unwrap().add_to(&mut plan);
        let container = walls.world.send(plan);
        let pid = walls.world.launched(container);
        assert_eq!(walls.isolation.usage(at).unwrap().mem_limit_bytes, Some(mib * MIB));
        inside.push((at, pid));
    }
    // One of those that share what is around them has no limit of its own.
    let mut plan = walls.world.role_plan(&["sleep", "600"]);
    let at = At { inside: Some(around), id: plan.container };
    walls.isolation.prepare_around(around, &limits(128)).unwrap();
    let shared = TaskLimits { shared: true, ..limits(32) };
    walls.world.walls = walls.isolation.prepare(at, &shared).unwrap().add_to(&mut plan);
    let third = walls.world.send(plan);
    walls.world.launched(third);
    assert_eq!(walls.isolation.usage(at).unwrap().mem_limit_bytes, None);
    assert_eq!(walls.isolation.usage(around).unwrap().mem_limit_bytes, Some(128 * MIB));
    // One ends and leaves the other alone; then all of them.
    let (first, second) = (inside[0], inside[1]);
    assert_eq!(walls.isolation.kill(first.0), Ok(Killed::All));
    assert_eq!(walls.world.exit(first.0.id), Exit::Signal(9));
    walls.isolation.cleanup(first.0).unwrap();
    assert!(is_alive(second.1));
    assert_eq!(walls.isolation.kill(around), Ok(Killed::All));
    assert_eq!(walls.world.exit(second.0.id), Exit::Signal(9));
    assert_eq!(walls.world.exit(third), Exit::Signal(9));
    walls.isolation.cleanup(around).unwrap();
    assert!(walls.directories(around).iter().all(|directory| !directory.exists()));
}

pub(crate) fn a_part_of_a_container_is_killed_alone_at_its_limit_and_at_the_containers_with_all() {
    let mut walls = Walls::of_cgroups();
    let (task, task_pid) = walls.run(&limits(96), &["sleep", "600"]);
    let enter = |walls: &mut Walls, limits: &TaskLimits, words: &[&str]| {
        let mut launch = walls.world.role_plan(words);
        let id = launch.container;
        let part = Part { of: task.into(), within: None, id };
        let prepared = walls.isolation.enclose(part, limits).unwrap();
        let behind = prepared.add_to(&mut launch);
        let enter = Enter { inside: task, launch };
        let request = Request::enter(enter, c"".into(), Stdio::Files, behind);
        walls.world.client.send(&request).unwrap();
        walls.world.launched(id);
        part
    };
    let own = enter(&mut walls, &limits(32), &["hog", "64"]);
    assert_eq!(walls.world.exit(own.id), Exit::Signal(9));
    let told = walls.isolation.limitation_enclosed(own, Some(Exit::Signal(9))).unwrap();
    assert_eq!(told.map(|told| told.reason), Some(Reason::Memory));
    assert_eq!(walls.isolation.limitation(task), Ok(None), "it is not the container's");
    assert!(is_alive(task_pid));
    walls.isolation.disclose(own).unwrap();
    // Who comes later joins what the container is in by now.
    let mut launch = walls.world.plan(&["/bin/sh", "-c", "exit 5"]);
    let check = launch.container;
    let beside = walls.isolation.beside(task, &TaskLimits::default()).unwrap();
    let behind = beside.add_to(&mut launch);
    let enter_it = Request::enter(Enter { inside: task, launch }, c"".into(), Stdio::Files, behind);
    walls.world.client.send(&enter_it).unwrap();
    assert_eq!(walls.world.exit(check), Exit::Code(5));
    let stays = enter(&mut walls, &limits(32), &["hog", "20"]);
    walls.world.said("held");
    let used = walls.isolation.usage_enclosed(stays).unwrap();
    assert_eq!(used.mem_limit_bytes, Some(32 * MIB));
    assert!(used.mem_bytes.unwrap() > 19 * MIB, "{used:?}");
    assert!(walls.isolation.usage(task).unwrap().mem_bytes >= used.mem_bytes);
    // What shares is held to what is left of the container's.
    let shared = TaskLimits { shared: true, ..TaskLimits::default() };
    let beyond = enter(&mut walls, &shared, &["hog", "200"]);
    assert_eq!(walls.world.exit(beyond.id), Exit::Signal(9));
    let told = || walls.isolation.limitation(task).unwrap().map(|told| told.reason);
    eventually(|| told() == Some(Reason::Memory), || "the limit of the container".to_owned());
    assert_eq!(walls.isolation.kill(task), Ok(Killed::All));
    assert_eq!(walls.world.exit(stays.id), Exit::Signal(9));
    for part in [stays, beyond] {
        walls.isolation.disclose(part).unwrap();
    }
    walls.end(task);
    assert!(walls.directories(task).iter().all(|directory| !directory.exists()));
}

pub(crate) fn a_keeper_of_run_removes_the_cgroups() {
    let directory = Directory::new();
    let work_dir = directory.path().join("run");
    std::fs::create_dir(&work_dir).unwrap();
    let key = new_key();
    let mut agent = Agent::start(&work_dir, &["ends", "temporary", &format!("walls={key}")], None);
    let keeper = agent.keeper();
    let own = program();
    let tasks = [
        agent.launch(&["/bin/sleep", "600"]),
        agent.launch(&[own.to_str().unwrap(), "role:stubborn", "2"]),
    ];
    let places = find(&format!("{key:016x}"));
    assert!(!places.is_empty());
    agent.kill();
    let gone = || {
        let dead = tasks.iter().chain([&keeper]).all(|&pid| !is_alive(pid));
        dead && !work_dir.exists() && places.iter().all(|place| !place.exists())
    };
    assert!(within(Duration::from_secs(5), gone), "everything within 5 s: {places:?}");
}

/// The directories of that name in any cgroup hierarchy.
fn find(name: &str) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![PathBuf::from("/sys/fs/cgroup")]);
    while let Some(directory) = left.pop() {
        let inside = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        let inside = inside.filter(|entry| entry.file_type().is_ok_and(|of| of.is_dir()));
        left.extend(inside.map(|entry| entry.path()));
        if directory.ends_with(name) {
            found.push(directory);
        }
    }
    found
}

pub(crate) fn a_killed_keeper_leaves_tasks_that_their_cgroups_end() {
    let mut walls = Walls::of_cgroups();
    let (container, pid) = walls.run(&limits(256), &["stubborn", "2"]);
    eventually(|| walls.members(container).len() == 3, || "three processes".to_owned());
    let members = walls.members(container);
    kill(walls.world.keeper, Signal::KILL);
    eventually(|| !is_alive(walls.world.keeper), || "its end".to_owned());
    assert!(is_alive(pid));
    let next = Agent::start(walls.world.path(), &[], None);
    walls.world.keeper = next.keeper();
    walls.world.reattach();
    let [Held::Left(left)] = walls.world.client.held()[..] else { panic!("one that was left") };
    assert_eq!((left.container, left.pid), (container, pid));
    walls.isolation.kill_left(left.container, &left).unwrap();
    eventually(|| members.iter().all(|&pid| !is_alive(pid)), || format!("{members:?}"));
    walls.end(container);
}

pub(crate) fn a_thousand_containers_leave_no_cgroup() {
    let mut walls = Walls::with(None);
    let start = mesita_isolation::sys::boottime_us();
    for _ in 0..1000 {
        let (container, _) = walls.run(&limits(64), &["exit", "3"]);
        assert_eq!(walls.world.exit(container), Exit::Code(3));
        assert_eq!(walls.isolation.kill(container), Ok(Killed::All));
        walls.isolation.cleanup(container).unwrap();
    }
    let took = mesita_isolation::sys::boottime_us() - start;
    println!("1,000 containers one after the other: {} ms", took / 1000);
    assert_eq!(walls.containers(), [] as [PathBuf; 0]);
    eventually(|| children(walls.world.keeper).is_empty(), || "no zombie".to_owned());
}

/// A new directory in the unified hierarchy.
fn new_unified() -> PathBuf {
    let unified = [Path::new("/sys/fs/cgroup/unified"), Path::new("/sys/fs/cgroup")];
    let unified = unified.into_iter().find(|at| at.join("cgroup.controllers").exists());
    let made = unified.expect("a unified hierarchy").join(format!("given-{:x}", new_key()));
    std::fs::create_dir(&made).unwrap();
    made
}

pub(crate) fn the_unified_hierarchy_lets_a_task_open_the_devices_of_its_list_alone() {
    if let Err(failure) = LINUX.can_program_devices() {
        return println!("SKIPPED: {failure}");
    }
    let directory = new_unified();
    let access = Device::READ | Device::WRITE;
    let device = |minor, access| Device {
        kind: DeviceKind::Character,
        major: Some(1),
        minor: Some(minor),
        access,
    };
    // /dev/null as a whole, /dev/zero to be read.
    let list = [device(3, access), device(5, Device::READ)];
    // It was another one, and is changed as often as that may be.
    let other = [device(3, access), device(5, access), device(9, access)];
    LINUX.allow_devices(Version::V2, &directory, &other).unwrap();
    for _ in 0..100 {
        LINUX.change_devices(Version::V2, &directory, &other).unwrap();
    }
    LINUX.change_devices(Version::V2, &directory, &list).unwrap();
    let script = "echo x >/dev/null || echo null; head -c 1 /dev/zero >/dev/null || echo zero;
                  (echo x >/dev/zero) 2>/dev/null && echo written;
                  head -c 1 /dev/urandom >/dev/null 2>&1 && echo random; echo done";
    let mut command = Command::new(program());
    command.arg("role:in-cgroup").arg(&directory).args(["0", "/bin/sh", "-c", script]);
    let said = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "done\n", "{said:?}");
    // A process leaves its cgroup a moment before it is gone.
    eventually(|| std::fs::remove_dir(&directory).is_ok(), || "an empty cgroup".to_owned());
}

/// An agent of `uid` in a cgroup, with the walls that it can have there.
fn agent_in(cgroup: &Path, uid: u32, work_dir: &Path, key: u64) -> Agent {
    let mut command = Command::new(program());
    command.arg("role:in-cgroup").arg(cgroup).arg(uid.to_string());
    command.arg(program()).arg("role:agent").arg(work_dir);
    command.args(["ends", "temporary", &format!("walls={key}")]);
    Agent::of(command)
}

pub(crate) fn root_beside_others_in_a_session_has_walls_and_leaves_nothing_there() {
    let session = new_unified();
    let mut shell = Command::new(program()).args(["role:sleep", "600"]).spawn().unwrap();
    std::fs::write(session.join("cgroup.procs"), shell.id().to_string()).unwrap();
    let (directory, key) = (Directory::new(), new_key());
    let mut agent = agent_in(&session, 0, &directory.path().join("run"), key);
    let keeper = agent.keeper();
    agent.launch(&["/bin/sleep", "600"]);
    // On v2 it could hand nothing down there, so it went to the top; where there is nothing to be
    // handed down, it stays below its own.
    let places = find(&format!("{key:016x}"));
    let controls = std::fs::read_to_string(session.join("cgroup.controllers")).unwrap();
    let below = places.iter().any(|place| place.starts_with(&session));
    let wanted = |name: &&str| ["cpu", "memory", "pids", "io"].contains(name);
    let handed = controls.split_ascii_whitespace().any(|name| wanted(&name));
    assert_eq!(below, !handed, "{places:?}");
    assert!(!session.join("self").exists());
    agent.kill();
    let gone = || !is_alive(keeper) && places.iter().all(|place| !place.exists());
    assert!(within(Duration::from_secs(5), gone), "everything within 5 s: {places:?}");
    shell.kill().unwrap();
    shell.wait().unwrap();
    std::fs::remove_dir(&session).unwrap();
}

pub(crate) fn a_user_with_a_delegated_cgroup_has_walls() {
    let given = new_unified();
    for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        let path = if file.is_empty() { given.clone() } else { given.join(file) };
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let directory = Directory::new();
    std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let work_dir = directory.path().join("run");
    let key = new_key();
    let mut agent = agent_in(&given, NOBODY, &work_dir, key);
    let keeper = agent.keeper();
    let on = agent.line();
    let controllers = std::fs::read_to_string(given.join("cgroup.controllers")).unwrap();
    for (controller, isolator) in
        [("cpu", "cgroups/cpu"), ("memory", "cgroups/mem"), ("pids", "cgroups/pids")]
    {
        let has = controllers.split_ascii_whitespace().any(|name| name == controller);
        assert_eq!(on.contains(isolator), has, "{on}; given: {controllers}");
    }
    let place = given.join("mesita-whole").join(format!("{key:016x}"));
    let pid = agent.launch(&["/bin/sleep", "600"]);
    let [container] = &std::fs::read_dir(&place)
        .unwrap()
        .flatten()
        .filter(|e| e.file_type().unwrap().is_dir())
        .collect::<Vec<_>>()[..]
    else {
        panic!("one container")
    };
    let procs = std::fs::read_to_string(container.path().join("cgroup.procs")).unwrap();
    assert!(procs.lines().any(|line| line == pid.to_string()), "{procs}");
    agent.kill();
    let empty = || {
        let mut inside = std::fs::read_dir(&given).unwrap().flatten();
        !is_alive(keeper) && !inside.any(|entry| entry.file_type().unwrap().is_dir())
    };
    assert!(within(Duration::from_secs(5), empty), "nothing is left in {}", given.display());
    std::fs::remove_dir(&given).unwrap();
}

pub(crate) fn degraded_without_the_memory_controller() {
    let world = World::new();
    let mut named = options(world.client.welcome(), new_key());
    named.isolators = Some(vec!["cgroups/mem".to_owned()]);
    if let Ok((isolation, _)) = Isolation::new(&named, &LINUX) {
        remove(&isolation);
        panic!("named, it must work; this machine has a memory controller");
    }
    let key = new_key();
    let options = options(world.client.welcome(), key);
    let (isolation, degraded) = Isolation::new(&options, &LINUX).unwrap();
    let [degraded] = &degraded[..] else { panic!("{degraded:?}") };
    println!("{degraded}");
    assert_eq!(degraded.isolator, "cgroups/mem");
    assert!(degraded.to_string().contains("`cgroup_enable=memory`"), "{degraded}");
    assert!(isolation.names().contains(&"cgroups/cpu"));
    assert_eq!(isolation.attributes()[1], ("isolation_off", "cgroups/mem".to_owned()));
    // Everything else holds as ever.
    let mut walls = Walls { key, world, isolation };
    let (container, _) = walls.run(&limits(64), &["exit", "5"]);
    assert_eq!(walls.world.exit(container), Exit::Code(5));
    walls.isolation.kill(container).unwrap();
    walls.isolation.cleanup(container).unwrap();
}

pub(crate) fn tasks_of_a_group_have_ipc_a_name_and_a_loopback_in_common() {
    const GROUP: ContainerId = ContainerId { incarnation: 9, counter: 8 };
    let shows = "for of in ipc uts net mnt pid; do readlink /proc/self/ns/$of; done | tr '\\n' ' '";
    for processes in [false, true] {
        let mut world = World::new();
        world.namespaces = Namespaces { user: false, pid: true, mount: true };
        let own = vec![
            Wall::Ipc,
            Wall::Shm { bytes: 1 << 20 },
            Wall::Uts { hostname: c"".into() },
            Wall::Network,
        ];
        let common =
            [Kind::Ipc, Kind::Uts, Kind::Network].map(|kind| Wall::Common { of: GROUP, kind });
        let mut grouped = [own.clone(), common.to_vec()].concat();
        if processes {
            grouped.push(Wall::Group { of: GROUP });
        }
        let seen = |world: &mut World, name: &str, then: &str| -> (ContainerId, Vec<String>) {
            let file = world.path().join(name);
            let shown = file.display();
            let (id, _) =
                world.shell(&format!("{shows} > {shown}.new; mv {shown}.new {shown}; {then}"));
            eventually(|| file.exists(), || format!("what {name} sees"));
            let told = std::fs::read_to_string(file).unwrap();
            (id, told.split_whitespace().map(str::to_owned).collect())
        };
        world.walls = grouped.clone();
        let (one, first) =
            seen(&mut world, "one", "hostname of-the-group; echo kept > /dev/shm/file; sleep 600");
        let larger = Wall::Shm { bytes: 3 << 20 };
        world.walls =
            grouped.iter().filter(|wall| !matches!(wall, Wall::Shm { .. })).cloned().collect();
        world.walls.push(larger);
        let reads = "while ! grep -q kept /dev/shm/file; do sleep 0.05; done; hostname; \
                     df -k /dev/shm | tail -n 1; cat /sys/class/net/lo/flags; exit 5";
        let (two, second) = seen(&mut world, "two", reads);
        assert_eq!(world.exit(two), Exit::Code(5));
        let output = world.output();
        assert!(output.contains("of-the-group\n") && output.contains(" 3072 "), "{output}");
        assert_eq!(first[..3], second[..3]);
        assert_ne!(first[3], second[3], "mounts are each one's own");
        assert_eq!(first[4] == second[4], processes);
        // Who is beside one of them is there, too.
        let beside = world.beside(one, "cat /dev/shm/file; hostname > beside; exit 6");
        assert_eq!(world.exit(beside), Exit::Code(6));
        let told = std::fs::read_to_string(world.path().join("beside")).unwrap();
        assert_eq!(told, "of-the-group\n");
        // Nobody else is, neither who has all of it alone nor the machine.
        world.walls = own;
        let (alone, third) = seen(&mut world, "alone", "test ! -e /dev/shm/file && exit 7");
        assert_eq!(world.exit(alone), Exit::Code(7));
        let host =
            ["ipc", "uts", "net"].map(|of| std::fs::read_link(format!("/proc/self/ns/{of}")));
        for (at, host) in host.into_iter().enumerate() {
            assert_ne!(third[at], first[at]);
            assert_ne!(host.unwrap().to_str(), Some(&*first[at]));
        }
        assert!(!Path::new("/dev/shm/file").exists());
        // With the last of them it goes.
        world.signal(one, Signal::KILL);
        assert_eq!(world.exit(one), Exit::Signal(9));
        world.walls = grouped;
        let (again, _) = seen(&mut world, "again", "test ! -e /dev/shm/file && exit 8");
        assert_eq!(world.exit(again), Exit::Code(8));
        eventually(|| children(world.keeper).is_empty(), || "nothing".to_owned());
    }
}

pub(crate) fn files_in_flight_are_no_more_than_may_be_open() {
    let mut walls = Walls::with(Some(&["posix/rlimits"]));
    let mut plan = walls.world.role_plan(&["in-flight", "500", "0"]);
    let container = plan.container;
    let sandbox = walls.world.path().join("sandbox");
    std::fs::create_dir(&sandbox).unwrap();
    std::os::unix::fs::chown(&sandbox, Some(NOBODY), Some(NOBODY)).unwrap();
    plan.directory = crate::world::text(&sandbox);
    plan.user = Some(User { uid: NOBODY, gid: NOBODY, groups: vec![NOBODY] });
    let mut limits = TaskLimits::default();
    let rlimit = Rlimit { name: "RLMT_NOFILE".to_owned(), soft: Some(64), hard: Some(64) };
    limits.rlimits.push(rlimit).unwrap();
    let request = walls.isolation.prepare(container, &limits).unwrap().request(plan);
    walls.world.client.send(&request).unwrap();
    walls.world.launched(container);
    let told = || std::fs::read_to_string(sandbox.join("out")).unwrap_or_default();
    eventually(|| told().contains("sent "), told);
    let (sent, errno) = {
        let told = told();
        let (sent, errno) = told.trim().rsplit_once("sent ").unwrap().1.split_once(": ").unwrap();
        (sent.parse::<u64>().unwrap(), errno.parse::<i32>().unwrap())
    };
    // What others of this user have sent counts, too.
    assert!(sent <= 65 && errno == libc::ETOOMANYREFS, "{sent} {errno}");
    walls.world.signal(container, Signal::KILL);
    assert_eq!(walls.world.exit(container), Exit::Signal(9));
}

pub(crate) fn who_may_swap_does_and_who_may_not_is_killed() {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps.lines().count() < 2 {
        println!("SKIPPED: this machine has no swap");
        return;
    }
    for limited in [false, true] {
        let mut walls = Walls::of(Some(&["cgroups/mem"]), |options| {
            options.cgroups_limit_swap = limited;
        });
        let (container, _) = walls.run(&limits(16), &["hog", "32"]);
        if limited {
            let exit = walls.world.ended(container).exit;
            let limitation = walls.isolation.ended(container, exit).unwrap();
            assert_eq!(limitation.map(|told| told.reason), Some(Reason::Memory));
        } else {
            walls.world.said("held");
            let usage = walls.isolation.usage(container).unwrap();
            assert!(usage.mem_bytes.is_some_and(|bytes| bytes <= 16 * MIB), "{usage:?}");
            let swapped = usage.swap_bytes;
            assert!(swapped.is_none_or(|bytes| bytes >= 8 * MIB), "{usage:?}");
            println!("Memory limit: 16 MiB held, {swapped:?} bytes of 32 MiB in swap");
            walls.world.signal(container, Signal::KILL);
        }
        walls.end(container);
    }
}
