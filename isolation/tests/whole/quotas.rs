//! Quotas of projects, on real file systems that are made in files. Needs root, and a kernel that has
//! them: `ci/guest` shows it where this machine's has none.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesita_core::wire::ContainerId;
use mesita_core::wire::task::Exit;
use mesita_isolation::cgroups::At;
use mesita_isolation::isolators::{Reason, TaskLimits};
use mesita_isolation::keeper::protocol::{Request, User};
use mesita_isolation::sys::{Project, Sys};
use mesita_isolation::{Isolation, Options, sandbox, volumes};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use crate::walls::{LINUX, options, remove};
use crate::world::{Directory, NOBODY, World, eventually};

const MIB: u64 = 1 << 20;
/// What may be used of projects: too little for those who keep theirs.
const RANGE: &str = "5000-5002";

/// A kind of file system: how it is made, and how large it is at least.
const KINDS: [(&str, &[&str], u64); 2] = [
    ("ext4", &["mkfs.ext4", "-q", "-O", "project,quota", "-E", "quotatype=prjquota"], 64),
    ("xfs", &["mkfs.xfs", "-q"], 320),
];

/// A file system with quotas of projects, for as long as this lives.
struct Mounted {
    at: PathBuf,
    _directory: Directory,
}

impl Mounted {
    /// None where there can be none of this kind, which is said.
    fn new((kind, make, mib): (&str, &[&str], u64)) -> Option<Self> {
        let directory = Directory::new();
        let (image, at) = (directory.path().join("image"), directory.path().join("mounted"));
        fs::File::create(&image).unwrap().set_len(mib * MIB).unwrap();
        fs::create_dir(&at).unwrap();
        let made = run(Command::new(make[0]).args(&make[1..]).arg(&image));
        let mounts = ["-t", kind, "-o", "loop,prjquota"];
        let done = made.and_then(|()| run(Command::new("mount").args(mounts).arg(&image).arg(&at)));
        if let Err(why) = done {
            println!("SKIPPED: disk/quota on {kind}: {}", why.trim());
            return None;
        }
        fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Some(Self { at, _directory: directory })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let gone = run(Command::new("umount").arg(&self.at));
        assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(format!("{:?}: {error}", command.get_program())),
    }
}

/// An agent whose work directory is on such a file system.
struct Site {
    world: World,
    options: Options,
    isolation: Isolation<'static>,
    mounted: Mounted,
}

impl Site {
    fn new(mounted: Mounted, key: u64, change: impl FnOnce(&mut Options)) -> Self {
        let world = World::new();
        let mut options = options(world.client.welcome(), key);
        options.isolators = Some(vec!["disk/quota".to_owned()]);
        options.work_dir = Some(mounted.at.clone());
        options.project_range = RANGE.parse().unwrap();
        change(&mut options);
        let (isolation, _) = Isolation::new(&options, &LINUX).unwrap();
        Self { world, options, isolation, mounted }
    }

    /// The agent is another one from now on.
    fn restart(&mut self) {
        self.isolation = Isolation::new(&self.options, &LINUX).unwrap().0;
    }

    fn of(&self, id: u32) -> Project {
        LINUX.project(&self.mounted.at, id).unwrap()
    }

    /// Runs a role in a sandbox of its own, as a user who is nobody in particular.
    fn run(&mut self, disk: u64, words: &[&str], held: bool) -> (ContainerId, PathBuf) {
        let mut plan = self.world.role_plan(words);
        let container = plan.container;
        let user = User { uid: NOBODY, gid: NOBODY, groups: vec![NOBODY] };
        let sandbox = sandbox::create(&self.mounted.at, container, Some(&user)).unwrap();
        plan.directory = CString::new(sandbox.to_str().unwrap()).unwrap();
        plan.user = Some(user);
        let limits = TaskLimits { disk_bytes: Some(disk), ..TaskLimits::default() };
        let mut prepared = self.isolation.prepare(container, &limits).unwrap();
        if !held {
            prepared.additions.walls.clear();
        }
        let request: Request = prepared.request(plan);
        self.world.client.send(&request).unwrap();
        self.world.launched(container);
        (container, sandbox)
    }

    fn end(&mut self, container: ContainerId) {
        self.world.signal(container, Signal::KILL);
        self.world.exit(container);
        self.isolation.cleanup(container).unwrap();
    }
}

/// What a task has said in its sandbox.
fn output(sandbox: &Path) -> String {
    fs::read_to_string(sandbox.join("out")).unwrap_or_default()
}

fn said(sandbox: &Path, text: &str) {
    eventually(|| output(sandbox).contains(text), || format!("{text} in {}", output(sandbox)));
}

/// Where anybody may write that is no sandbox.
fn outside(at: &Path) -> String {
    let outside = at.join("outside");
    fs::create_dir_all(&outside).unwrap();
    chown(&outside, Some(NOBODY), Some(NOBODY)).unwrap();
    outside.to_str().unwrap().to_owned()
}

/// Runs a test on every kind that there is.
fn on_each(key: u64, test: impl Fn(Site), change: impl Fn(&mut Options)) {
    for kind in KINDS {
        if let Some(mounted) = Mounted::new(kind) {
            let site = Site::new(mounted, key, &change);
            test(site);
            println!("disk/quota: held on {}", kind.0);
        }
    }
}

pub(crate) fn a_sandbox_is_given_to_a_project_as_a_whole_or_not_at_all() {
    on_each(0x7105, is_whole, |_| {});
}

fn is_whole(site: Site) {
    let container = ContainerId { incarnation: 1, counter: 99 };
    let sandbox = sandbox::create(&site.mounted.at, container, None).unwrap();
    fs::write(sandbox.join("file"), "x").unwrap();
    // Deeper than is looked at.
    let deep: PathBuf = ["deep"; 140].iter().collect();
    fs::create_dir_all(sandbox.join(deep)).unwrap();
    let limits = TaskLimits { disk_bytes: Some(4 * MIB), ..TaskLimits::default() };
    let given = || (5000..=5002).map(|id| site.of(id).files).sum::<u64>();
    // A next attempt finds nothing of the one before it.
    for _ in 0..2 {
        site.isolation.prepare(container, &limits).unwrap_err();
        assert_eq!(given(), 0);
    }
    fs::remove_dir_all(sandbox.join("deep")).unwrap();
    site.isolation.prepare(container, &limits).unwrap();
    assert_eq!(given(), 2, "the directory and its file");
    site.isolation.cleanup(container).unwrap();
    remove(&site.isolation);
}

pub(crate) fn a_sandbox_takes_no_more_than_its_disk_and_volumes_are_none_of_it() {
    on_each(0x7101, holds, |_| {});
}

fn holds(mut site: Site) {
    let outside = outside(&site.mounted.at);
    let (below, within) = site.run(4 * MIB, &["fill", "1", &outside], true);
    said(&within, "wrote 1 of 1");
    said(&within, "outside 3 of 3");
    assert_eq!(site.isolation.limitation(below), Ok(None));
    let (beyond, sandbox) = site.run(4 * MIB, &["fill", "9", &outside], true);
    // xfs says of projects that there is no room.
    let told = |errno: i32| output(&sandbox).contains(&format!("of 9: {errno}\n"));
    let refused = || [libc::EDQUOT, libc::ENOSPC].into_iter().any(told);
    eventually(refused, || output(&sandbox));
    said(&sandbox, "outside 3 of 3");
    let filled = fs::metadata(sandbox.join("filled")).unwrap().len();
    assert!((3 * MIB..=4 * MIB).contains(&filled), "{filled}");
    let usage = site.isolation.usage(beyond).unwrap();
    assert_eq!(usage.disk_limit_bytes, Some(4 * MIB));
    assert!(usage.disk_bytes.is_some_and(|bytes| (3 * MIB..=4 * MIB).contains(&bytes)));
    assert_eq!(site.isolation.limitation(beyond), Ok(None), "it was refused more, and goes on");
    // It may have more, and another agent knows as much.
    let more = TaskLimits { disk_bytes: Some(6 * MIB), ..TaskLimits::default() };
    site.isolation.update(beyond, &more).unwrap();
    site.restart();
    assert_eq!(site.isolation.usage(beyond).unwrap().disk_limit_bytes, Some(6 * MIB));
    site.end(below);
    site.end(beyond);
    remove(&site.isolation);
}

pub(crate) fn a_volume_and_what_is_around_a_group_take_no_more_than_their_size() {
    on_each(0x7106, bounds, |options| options.project_range = "5000-5009".parse().unwrap());
}

fn bounds(mut site: Site) {
    let at = site.mounted.at.clone();
    let user = User { uid: NOBODY, gid: NOBODY, groups: vec![NOBODY] };
    let volume = volumes::create(&at, "web", "db").unwrap();
    volumes::give(&volume, Some(&user), false).unwrap();
    // What is there already is in it.
    fs::write(volume.join("before"), vec![7; 1 << 20]).unwrap();
    site.isolation.hold_volume(&volume, 2 * MIB).unwrap();
    let words = ["fill", "1", volume.to_str().unwrap()];
    let (first, sandbox) = site.run(4 * MIB, &words, true);
    said(&sandbox, "wrote 1 of 1");
    said(&sandbox, "outside less of 3");
    let taken = |path: &Path| {
        let id = LINUX.project_of(path).unwrap();
        (site_of(&at, id).bytes, id)
    };
    assert!((MIB..=2 * MIB).contains(&taken(&volume).0), "{:?}", taken(&volume));
    assert_ne!(taken(&volume).1, taken(&sandbox).1);
    site.end(first);
    // Another agent, and a volume that was resized: what its next task writes has room.
    site.restart();
    site.isolation.hold_volume(&volume, 8 * MIB).unwrap();
    let (second, sandbox) = site.run(4 * MIB, &words, true);
    said(&sandbox, "outside 3 of 3");
    site.end(second);
    let (_, id) = taken(&volume);
    volumes::remove(&at, "web", "db").unwrap();
    rustix::fs::sync();
    eventually(|| site_of(&at, id).files == 0, || format!("{:?}", site_of(&at, id)));
    // A volume of the sandbox around a task is that of its executor, and its own sandbox is not.
    let around = ContainerId { incarnation: 1, counter: 900 };
    let mut plan = site.world.role_plan(&["fill", "3", "../../shared"]);
    let inside = At { inside: Some(around), id: plan.container };
    let own = sandbox::create(&at, inside, Some(&user)).unwrap();
    let of_all = sandbox::path(&at, around);
    sandbox::create_around(&of_all, Path::new("shared"), Some(&user)).unwrap();
    let limits = |mib: u64| TaskLimits { disk_bytes: Some(mib * MIB), ..TaskLimits::default() };
    site.isolation.prepare_around(around, &limits(2)).unwrap();
    let prepared = site.isolation.prepare(inside, &limits(4)).unwrap();
    plan.directory = CString::new(own.to_str().unwrap()).unwrap();
    plan.user = Some(user);
    let request: Request = prepared.request(plan);
    site.world.client.send(&request).unwrap();
    site.world.launched(inside.id);
    said(&own, "wrote 3 of 3");
    said(&own, "outside less of 3");
    assert!((MIB..=2 * MIB).contains(&taken(&of_all).0), "{:?}", taken(&of_all));
    let used = |at: At| site.isolation.usage(at).unwrap().disk_bytes.unwrap();
    assert!(used(inside) >= 3 * MIB && used(around.into()) <= 2 * MIB);
    site.world.signal(inside.id, Signal::KILL);
    site.world.exit(inside.id);
    site.isolation.cleanup(inside).unwrap();
    site.isolation.cleanup(around).unwrap();
    remove(&site.isolation);
}

fn site_of(at: &Path, id: u32) -> Project {
    LINUX.project(at, id).unwrap()
}

pub(crate) fn who_takes_more_than_its_quota_is_told_where_that_is_wanted() {
    on_each(0x7102, tells, |options| {
        options.disk_quota_kill = true;
        options.disk_watch_us = 100_000;
    });
}

fn tells(mut site: Site) {
    let outside = outside(&site.mounted.at);
    for (mib, is_beyond) in [("1", false), ("4", true)] {
        let (container, sandbox) = site.run(2 * MIB, &["fill", mib, &outside], true);
        said(&sandbox, &format!("wrote {mib} of {mib}"));
        let [watch] = &site.isolation.watch(container).unwrap()[..] else { panic!("a watch") };
        let patience = rustix::time::Timespec { tv_sec: 30, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&patience)), Ok(1));
        let told = site.isolation.limitation(container).unwrap();
        assert_eq!(told.as_ref().map(|told| told.reason), is_beyond.then_some(Reason::Disk));
        assert_eq!(site.isolation.ended(container, Exit::Signal(9)), Ok(told));
        site.end(container);
    }
    remove(&site.isolation);
}

pub(crate) fn projects_are_used_again_when_nothing_is_left_of_them() {
    on_each(0x7103, uses_again, |_| {});
}

fn uses_again(mut site: Site) {
    let outside = outside(&site.mounted.at);
    for round in 0..12 {
        let (container, sandbox) = site.run(4 * MIB, &["fill", "1", &outside], true);
        said(&sandbox, "outside 3 of 3");
        assert_eq!(site.isolation.usage(container).unwrap().disk_limit_bytes, Some(4 * MIB));
        // Another agent in between, and another keeper.
        if round % 3 == 1 {
            site.restart();
        }
        if round % 4 == 2 {
            site.world.reattach();
        }
        site.end(container);
        // The sandbox is kept for a while: its project stays its own, and has no limit any more.
        let id = LINUX.project_of(&sandbox).unwrap();
        assert!(site.of(id).files > 0 && site.of(id).soft_bytes == 0, "{:?}", site.of(id));
        sandbox::remove(&site.mounted.at, container).unwrap();
        rustix::fs::sync();
        eventually(|| site.of(id) == Project::default(), || format!("{:?}", site.of(id)));
    }
    // What was moved elsewhere keeps its project: nobody else gets that.
    let (container, sandbox) = site.run(4 * MIB, &["fill", "1", &outside], true);
    said(&sandbox, "outside 3 of 3");
    let kept = LINUX.project_of(&sandbox).unwrap();
    fs::rename(sandbox.join("filled"), Path::new(&outside).join("moved")).unwrap();
    site.end(container);
    sandbox::remove(&site.mounted.at, container).unwrap();
    for _ in 0..6 {
        let (container, sandbox) = site.run(4 * MIB, &["exit", "0"], true);
        assert_ne!(LINUX.project_of(&sandbox).unwrap(), kept);
        site.end(container);
        sandbox::remove(&site.mounted.at, container).unwrap();
    }
    // With nothing to give there is a sentence.
    let mut last = String::new();
    for counter in 900..904 {
        let id = ContainerId { incarnation: 1, counter };
        sandbox::create(&site.mounted.at, id, None).unwrap();
        let prepared = site.isolation.prepare(id, &TaskLimits::default());
        last = prepared.err().map(|error| error.to_string()).unwrap_or_default();
    }
    for counter in 900..904 {
        site.isolation.cleanup(ContainerId { incarnation: 1, counter }).unwrap();
    }
    assert!(last.contains("--disk-project-range"), "{last}");
    remove(&site.isolation);
}

pub(crate) fn no_task_gives_its_files_another_project() {
    on_each(0x7104, escapes, |_| {});
}

fn escapes(mut site: Site) {
    // With the wall taken away it gets through.
    for (held, expected) in [(false, "escaped 2 of 3"), (true, "escaped 0 of 3")] {
        let (container, sandbox) = site.run(4 * MIB, &["escape-quota"], held);
        said(&sandbox, "escaped");
        let got = output(&sandbox);
        // The third call exists since Linux 6.17.
        assert!(got.contains(expected) || (!held && got.contains("escaped 3 of 3")), "{got}");
        site.end(container);
    }
    remove(&site.isolation);
}

pub(crate) fn a_sandbox_has_no_more_files_than_it_may() {
    on_each(0x7107, counts, |options| options.container_files_max = Some(20));
}

fn counts(mut site: Site) {
    let (below, within) = site.run(4 * MIB, &["files", "9"], true);
    said(&within, "made all 9");
    let (beyond, sandbox) = site.run(4 * MIB, &["files", "90"], true);
    said(&sandbox, ": ");
    let told = output(&sandbox);
    let made: Vec<&str> = told.lines().last().unwrap().split(": ").collect();
    let (count, errno) = (made[0].strip_prefix("made ").unwrap(), made[1].parse().unwrap());
    // Its directory and its output are two.
    assert_eq!(count, "18", "{told}");
    assert!([libc::EDQUOT, libc::ENOSPC].contains(&errno), "{told}");
    assert_eq!(site.isolation.limitation(beyond), Ok(None), "it was refused more, and goes on");
    site.end(below);
    site.end(beyond);
    remove(&site.isolation);
}

pub(crate) fn files_in_flight_take_room_of_their_sandbox() {
    on_each(0x7108, flies, |_| {});
}

fn flies(mut site: Site) {
    let (container, sandbox) = site.run(4 * MIB, &["in-flight", "9", "1"], true);
    said(&sandbox, ": ");
    let told = output(&sandbox);
    let refused = |count: u8, errno: i32| told.contains(&format!("sent {count}: {errno}\n"));
    let all = (2..=4).flat_map(|count| [(count, libc::EDQUOT), (count, libc::ENOSPC)]);
    assert!(all.clone().any(|(count, errno)| refused(count, errno)), "{told}");
    let usage = site.isolation.usage(container).unwrap();
    assert!(usage.disk_bytes.is_some_and(|bytes| bytes >= 2 * MIB), "{usage:?}");
    site.end(container);
    remove(&site.isolation);
}
