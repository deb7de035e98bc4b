//! Races: whoever may write to a sandbox swaps a directory or a file there for a link that leads out of
//! it, without a pause, while agent and keeper go that way.
//!
//! Each is first run until it gets through what follows paths, so that it can fail honestly, and is then
//! tried against what goes by held descriptors. `MESITA_TRIES` says how often; `ci/nightly` asks for
//! 100,000.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, spawn};

use mesita_core::wire::task::Exit;
use mesita_isolation::keeper::protocol::{Enter, Request, Stdio};
use mesita_isolation::keeper::wall::{Bind, Wall};
use mesita_isolation::{sandbox, tree};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, mkdirat, open, renameat_with, unlinkat};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::world::{Directory, World};

/// Tries without `MESITA_TRIES`.
const TRIES: u64 = 1_000;
/// So often a race is lost to what follows paths before it counts as one that cannot be won.
const UNHELD_MAX: u64 = 1_000_000;
/// There is at least one swap in so many tries.
const DISTURBED: u64 = 10;

/// Swaps two names of a directory until it is dropped.
struct Swaps {
    over: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swaps {
    fn of(one: PathBuf, other: PathBuf) -> Self {
        let (over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, count) = (Arc::clone(&over), Arc::clone(&made));
        let thread = spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let swapped = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
                count.fetch_add(u64::from(swapped.is_ok()), Ordering::Relaxed);
            }
        });
        Self { over, made, thread: Some(thread) }
    }
}

impl Drop for Swaps {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A sandbox in which `way` is a directory and `link` leads to one outside, until they are swapped; and
/// `file` a file and `pointer` a link to one outside.
struct Arena {
    sandbox: PathBuf,
    outside: PathBuf,
    /// Both directories, wherever they are now.
    inner: OwnedFd,
    outer: OwnedFd,
    _directory: Directory,
}

impl Arena {
    fn new() -> Self {
        Self::at(Directory::new())
    }

    fn at(directory: Directory) -> Self {
        let (sandbox, outside) = (directory.path().join("s"), directory.path().join("o"));
        let inside = sandbox.join("way");
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, sandbox.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), sandbox.join("pointer")).unwrap();
        for place in [&inside, &outside] {
            fs::create_dir(place.join("at")).unwrap();
        }
        fs::write(sandbox.join("file"), "").unwrap();
        fs::write(outside.join("file"), "").unwrap();
        let held = |path: &Path| {
            open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        let (inner, outer) = (held(&inside), held(&outside));
        Self { sandbox, outside, inner, outer, _directory: directory }
    }

    fn ways(&self) -> Swaps {
        Swaps::of(self.sandbox.join("way"), self.sandbox.join("link"))
    }

    fn files(&self) -> Swaps {
        Swaps::of(self.sandbox.join("file"), self.sandbox.join("pointer"))
    }

    /// Something of that name is outside; it is not from now on, nor inside.
    fn appeared(&self, name: &str, flags: AtFlags) -> bool {
        let _ = unlinkat(&self.inner, name, flags);
        unlinkat(&self.outer, name, flags).is_ok()
    }

    /// What was outside is not there any more; from now on it is in both places.
    fn vanished(&self, name: &str) -> bool {
        let _ = mkdirat(&self.inner, name, Mode::RWXU);
        mkdirat(&self.outer, name, Mode::RWXU).is_ok()
    }

    /// Something was written to the file outside.
    fn written(&self) -> bool {
        fs::metadata(self.outside.join("file")).unwrap().len() > 0
    }
}

fn tries() -> u64 {
    let asked = std::env::var("MESITA_TRIES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(TRIES)
}

/// Runs a race against what follows paths until it gets through.
fn gets_through(mut once: impl FnMut() -> bool) {
    let lost = (0..UNHELD_MAX).take_while(|_| !once()).count();
    assert!(lost < usize::try_from(UNHELD_MAX).unwrap(), "held without what holds it");
    println!("through after {lost} tries without what holds it");
}

/// Runs it against what is to hold it, and so long that a part of the tries was disturbed.
fn is_held(swaps: &Swaps, mut once: impl FnMut() -> bool) {
    let (tries, before) = (tries(), swaps.made.load(Ordering::Relaxed));
    let (mut tried, mut swapped) = (0, 0);
    while tried < tries || swapped < tries / DISTURBED {
        assert!(!once(), "through at try {tried}");
        tried += 1;
        swapped = swaps.made.load(Ordering::Relaxed) - before;
    }
    println!("held {tried} times, under {swapped} swaps");
}

pub(crate) fn a_directory_is_made_where_it_is_wanted() {
    let arena = Arena::new();
    let swaps = arena.ways();
    gets_through(|| {
        let _ = fs::create_dir(arena.sandbox.join("way/made"));
        arena.appeared("made", AtFlags::REMOVEDIR)
    });
    is_held(&swaps, || {
        let _ = sandbox::create_below(&arena.sandbox, Path::new("way/made"), None);
        arena.appeared("made", AtFlags::REMOVEDIR)
    });
}

pub(crate) fn a_file_of_output_is_made_where_it_is_wanted() {
    let arena = Arena::new();
    let swaps = arena.ways();
    gets_through(|| {
        let _ = File::create(arena.sandbox.join("way/made"));
        arena.appeared("made", AtFlags::empty())
    });
    is_held(&swaps, || {
        let _ = sandbox::output(&arena.sandbox, Path::new("way"), "made");
        arena.appeared("made", AtFlags::empty())
    });
}

pub(crate) fn a_directory_inside_is_removed_and_none_outside() {
    let arena = Arena::new();
    assert!(arena.vanished("kept"));
    let swaps = arena.ways();
    gets_through(|| {
        let _ = fs::remove_dir(arena.sandbox.join("way/kept"));
        arena.vanished("kept")
    });
    is_held(&swaps, || {
        let _ = sandbox::remove_below(&arena.sandbox, Path::new("way/kept"), None);
        arena.vanished("kept")
    });
}

pub(crate) fn a_tree_is_removed_and_nothing_outside() {
    let (directory, outside) = (Directory::new(), Directory::new());
    let (root, kept) = (directory.path().join("tree"), outside.path().join("kept"));
    let swaps = Swaps::of(root.join("way"), root.join("link"));
    let once = |remove: fn(&Path)| {
        fs::create_dir_all(root.join("way")).unwrap();
        fs::write(root.join("way/kept"), "").unwrap();
        let _ = std::os::unix::fs::symlink(outside.path(), root.join("link"));
        fs::write(&kept, "").unwrap();
        remove(&root);
        !kept.exists()
    };
    fs::create_dir(&root).unwrap();
    gets_through(|| {
        let through = once(remove_by_paths);
        let _ = tree::remove(&root);
        through
    });
    // Who is disturbed may give up.
    is_held(&swaps, || once(|root| drop(tree::remove(root))));
}

/// Asks what something is, and goes there by its path.
fn remove_by_paths(path: &Path) {
    if !fs::symlink_metadata(path).is_ok_and(|of| of.is_dir()) {
        let _ = fs::remove_file(path);
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        remove_by_paths(&entry.path());
    }
    let _ = fs::remove_dir(path);
}

pub(crate) fn a_task_writes_its_output_to_no_file_outside() {
    let mut world = World::new();
    let arena = Arena::new();
    let swaps = arena.files();
    gets_through(|| {
        let file = OpenOptions::new().append(true).open(arena.sandbox.join("file"));
        let _ = file.and_then(|mut file| std::io::Write::write_all(&mut file, b"x"));
        arena.written()
    });
    fs::write(arena.outside.join("file"), "").unwrap();
    is_held(&swaps, || {
        let mut launch = world.plan(&["/bin/echo", "x"]);
        launch.directory = crate::world::text(&arena.sandbox);
        (launch.stdout, launch.stderr) = (c"file".into(), c"".into());
        let container = world.send(launch);
        let _ = world.outcome(container);
        arena.written()
    });
}

pub(crate) fn a_process_beside_a_task_begins_inside() {
    let mut world = World::new();
    let arena = Arena::new();
    let mut around = world.plan(&["/bin/sleep", "100000"]);
    around.directory = crate::world::text(&arena.sandbox);
    let around = world.send(around);
    world.launched(around);
    let swaps = arena.ways();
    // Which of the two it is in is told by what is only outside.
    let found = ["/usr/bin/test", "-e", "file"];
    gets_through(|| {
        let mut command = Command::new(found[0]);
        command.args(&found[1..]).current_dir(arena.sandbox.join("way"));
        command.status().is_ok_and(|status| status.success())
    });
    is_held(&swaps, || {
        let mut launch = world.plan(&found);
        launch.directory = crate::world::text(&arena.sandbox);
        (launch.stdout, launch.stderr) = (c"".into(), c"".into());
        let container = launch.container;
        let enter = Enter { inside: around, launch };
        let request = Request::enter(enter, c"way".into(), Stdio::Files, Vec::new());
        world.client.send(&request).unwrap();
        world.outcome(container) == Some(Exit::Code(0))
    });
}

/// Root's, as are all mounts.
pub(crate) fn a_volume_is_mounted_inside() {
    let mut world = World::new();
    let possible = world.client.welcome().namespaces;
    if !possible.pid {
        return println!("SKIPPED: no task has mounts of its own here");
    }
    let (arena, volume) = (Arena::new(), Directory::new());
    fs::write(volume.path().join("mark"), "").unwrap();
    let seen = arena.outside.join("at/mark");
    let swaps = arena.ways();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: this thread has nothing in common with others but memory.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            gets_through(|| {
                let mounted = mount_bind(volume.path(), arena.sandbox.join("way/at"));
                let through = seen.exists();
                for place in [arena.outside.join("at"), arena.sandbox.join("way/at")] {
                    let _ = unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
                }
                mounted.is_ok() && through
            });
        });
    });
    let bind = Wall::Bind(Bind {
        root: crate::world::text(volume.path()),
        from: CString::default(),
        to: c"way/at".into(),
        read_only: false,
    });
    (world.namespaces, world.walls) = (possible, vec![bind]);
    is_held(&swaps, || {
        let mut launch = world.plan(&["/usr/bin/test", "-e", seen.to_str().unwrap()]);
        launch.directory = crate::world::text(&arena.sandbox);
        (launch.stdout, launch.stderr) = (c"".into(), c"".into());
        let container = world.send(launch);
        world.outcome(container) == Some(Exit::Code(0))
    });
}
