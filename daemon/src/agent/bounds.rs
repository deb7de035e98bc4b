//! What tasks write is bounded: of each of their two files the newest part is kept.
//!
//! A file is known by its number: one that its task has removed or renamed, and writes to all the same, is
//! found among those that the task has open.
//!
//! The front of a file that has grown too large is given back to the disk as a hole, so that offsets
//! stay true and no writer is disturbed. Where the file system makes no holes, the file is emptied. A
//! file is the task's own, so it is changed with the rights of the task's user, and only if it is one.
//!
//! The kernel tells of writes; who writes much is looked at once a second, who writes nothing not at
//! all.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mesita_core::wire::ContainerId;
use mesita_isolation::sandbox::{self, STDERR, STDOUT};
use mesita_isolation::user;
use rustix::fs::{FallocateFlags, OFlags, fallocate, inotify};
use smol::Async;

use super::AgentNode;
use crate::alarm;

/// Between two looks at files that are written to, in µs.
const PAUSE_US: u64 = 1_000_000;
/// A file grows by so much beyond its bound before its front goes: an eighth, at least 64 KiB.
const SLACK_PART: u64 = 8;
const SLACK_MIN: u64 = 64 * 1024;
/// Holes begin and end at multiples of this.
const BLOCK: u64 = 4096;
/// Bytes of the kernel's words that are read at once.
const WORDS: usize = 4096;

/// The files of running tasks.
pub(super) struct Bounds {
    /// Bytes of one file; 0 = as many as it likes.
    max: u64,
    /// None where the kernel gives none.
    watch: Option<Async<OwnedFd>>,
    files: RefCell<BTreeMap<i32, Watched>>,
    freed: Cell<u64>,
    emptied: Cell<u64>,
    unwatched: Cell<u64>,
}

/// A file of a task.
#[derive(Clone, Debug)]
struct Watched {
    of: ContainerId,
    path: PathBuf,
    /// Its device and its number.
    file: (u64, u64),
}

impl Bounds {
    /// Keeps so many bytes of each file.
    pub(super) fn new(max: u64) -> Self {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let watch = inotify::init(flags).map_err(io::Error::from).and_then(Async::new);
        if let Err(error) = &watch {
            log::warn!("what tasks write is not bounded: {error}");
        }
        Self {
            max,
            watch: watch.ok().filter(|_| max > 0),
            files: RefCell::default(),
            freed: Cell::default(),
            emptied: Cell::default(),
            unwatched: Cell::default(),
        }
    }

    /// Files that are looked after, and what became of those that grew too large.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 5] {
        [
            ("logs_len", self.files.borrow().len() as u64),
            ("log_bytes_max", self.max),
            ("log_bytes_freed", self.freed.get()),
            ("logs_emptied", self.emptied.get()),
            ("logs_unwatched", self.unwatched.get()),
        ]
    }

    /// A file is to be looked after; one that is not in its place any more is what is `open`. True for such
    /// a one: it may be too large already.
    fn begin(
        &self,
        id: ContainerId,
        path: PathBuf,
        open: impl FnOnce() -> Option<PathBuf>,
    ) -> bool {
        let Some(watch) = &self.watch else { return false };
        let named = || {
            let of = std::fs::symlink_metadata(&path)?;
            let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::DONT_FOLLOW;
            io::Result::Ok((inotify::add_watch(watch, &path, events)?, of, false))
        };
        let nameless = |open: PathBuf| {
            let of = std::fs::metadata(&open)?;
            // One that has another name is somebody else's.
            if !of.is_file() || of.nlink() != 0 {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok((inotify::add_watch(watch, &open, inotify::WatchFlags::MODIFY)?, of, true))
        };
        let found = named().or_else(|error| {
            let gone = error.kind() == io::ErrorKind::NotFound;
            gone.then(open).flatten().map_or(Err(error), nameless)
        });
        match found {
            Ok((number, of, moved)) => {
                let file = (of.dev(), of.ino());
                self.files.borrow_mut().insert(number, Watched { of: id, path, file });
                moved
            }
            Err(error) => {
                self.unwatched.set(self.unwatched.get() + 1);
                log::warn!("{} is not bounded: {error}", path.display());
                false
            }
        }
    }

    /// The files that were written to since the last time; all of them if the kernel lost count.
    fn written(&self) -> BTreeSet<i32> {
        let mut written = BTreeSet::new();
        let Some(watch) = &self.watch else { return written };
        let mut words = [MaybeUninit::uninit(); WORDS];
        let mut reader = inotify::Reader::new(watch, &mut words);
        while let Ok(event) = reader.next() {
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                written.extend(self.files.borrow().keys());
            } else if event.events().contains(inotify::ReadFlags::IGNORED) {
                self.files.borrow_mut().remove(&event.wd());
            } else {
                written.insert(event.wd());
            }
        }
        written
    }
}

impl AgentNode {
    /// Looks after what tasks write, for as long as the agent lives.
    pub(super) fn bound_logs(&self) {
        let Some(me) = self.me.upgrade().filter(|me| me.bounds.watch.is_some()) else { return };
        self.tasks.go(async move {
            let Some(watch) = &me.bounds.watch else { return };
            loop {
                if watch.readable().await.is_err() {
                    return;
                }
                // Whoever writes much tells a thousand times; once is enough.
                alarm::after(PAUSE_US).await;
                for number in me.bounds.written() {
                    let file = me.bounds.files.borrow().get(&number).cloned();
                    if let Some(file) = file {
                        me.bound_all(file.of, vec![file]).await;
                    }
                }
            }
        });
    }

    /// The files of a container that runs are looked after from now on; `before`: it ran already, and
    /// they may be too large.
    pub(super) fn bound_logs_of(&self, id: ContainerId, before: bool) {
        self.bound_logs_in(id, &self.containers.sandbox(self.containers.at(id)), before);
    }

    /// The same of a container that has its files there.
    pub(super) fn bound_logs_in(&self, id: ContainerId, sandbox: &Path, before: bool) {
        let Some(me) = self.me.upgrade().filter(|me| me.bounds.watch.is_some()) else { return };
        let (pid, mut late) = (self.containers.pid(id), before);
        for (name, number) in [(STDOUT, 1), (STDERR, 2)] {
            let open = || {
                let device = std::fs::metadata(sandbox).ok()?.dev();
                let isolation = self.containers.isolation();
                isolation.nameless_output(self.containers.at(id), pid, number, device)
            };
            late |= self.bounds.begin(id, sandbox.join(name), open);
        }
        if late {
            let all = self.bounds.files.borrow();
            let files = all.values().filter(|one| one.of == id).cloned().collect();
            self.tasks.go(async move { me.bound_all(id, files).await });
        }
    }

    /// Nothing of a container writes any more: a last look.
    pub(super) async fn unbound_logs_of(&self, id: ContainerId) {
        let Some(watch) = &self.bounds.watch else { return };
        let mut files = Vec::new();
        self.bounds.files.borrow_mut().retain(|number, file| {
            let own = file.of == id;
            if own {
                // The file may be gone, and its watch with it.
                let _ = inotify::remove_watch(watch, *number);
                files.push(file.clone());
            }
            !own
        });
        self.bound_all(id, files).await;
    }

    async fn bound_all(&self, id: ContainerId, files: Vec<Watched>) {
        let max = self.bounds.max;
        let name = self.owner_of_files(id);
        let switch = self.containers.switches_user();
        let (isolation, at) = (self.containers.isolation(), self.containers.at(id));
        let (pid, sandboxes) = (self.containers.pid(id), self.work_dir().join("sandboxes"));
        let bound = move || -> Vec<io::Result<Done>> {
            let open = |file| isolation.open_file(at, pid, file);
            let name = switch.then_some(&*name);
            files.iter().map(|file| bound(file, max, (&sandboxes, name), open)).collect()
        };
        for done in self.containers.by_hand(bound).await {
            match done {
                Ok(Done::Fits) => {}
                Ok(Done::Freed(bytes)) => self.bounds.freed.set(self.bounds.freed.get() + bytes),
                Ok(Done::Emptied) => self.bounds.emptied.set(self.bounds.emptied.get() + 1),
                Err(error) => log::debug!("what container {id} writes: {error}"),
            }
        }
    }
}

/// What was done to a file.
#[derive(Debug, PartialEq, Eq)]
enum Done {
    Fits,
    Freed(u64),
    Emptied,
}

/// Keeps the newest `max` bytes of a file in one of all sandboxes, with the rights of a user; one that has gone from its place is
/// `open`ed as whoever writes to it has it. Blocks.
fn bound(
    of: &Watched,
    max: u64,
    (sandboxes, name): (&Path, Option<&str>),
    open: impl Fn((u64, u64)) -> Option<File>,
) -> io::Result<Done> {
    let before = std::fs::symlink_metadata(&of.path);
    match before.as_ref().map(|one| (one.dev(), one.ino())) {
        Ok(file) if file == of.file => {}
        // Nobody writes to it any more, if nobody has it.
        _ => return open(of.file).map_or(Ok(Done::Fits), |file| cut_file(&file, max)),
    }
    if fits(&before?, max) {
        return Ok(Done::Fits);
    }
    let user = name.map(user::resolve_begun).transpose().map_err(io::Error::other)?;
    // It may be in a directory that is somebody else's: what may be done to it, its own rights say.
    let inside = of.path.strip_prefix(sandboxes).unwrap_or(&of.path);
    let found = sandbox::find(sandboxes, inside).map_err(io::Error::other)?;
    user::with_files_of(user.as_ref(), || cut(&found, max)).map_err(io::Error::other)?
}

fn fits(of: &std::fs::Metadata, max: u64) -> bool {
    let slack = (max / SLACK_PART).max(SLACK_MIN);
    !of.is_file() || on_disk(of) <= max.saturating_add(slack)
}

fn on_disk(of: &std::fs::Metadata) -> u64 {
    of.blocks().saturating_mul(512)
}

fn cut(found: &OwnedFd, max: u64) -> io::Result<Done> {
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    cut_file(&File::options().write(true).custom_flags(flags).open(path)?, max)
}

fn cut_file(file: &File, max: u64) -> io::Result<Done> {
    let before = file.metadata()?;
    if fits(&before, max) {
        return Ok(Done::Fits);
    }
    let end = before.len().saturating_sub(max) / BLOCK * BLOCK;
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if end > 0 && fallocate(file, hole, 0, end).is_ok() {
        return Ok(Done::Freed(on_disk(&before).saturating_sub(on_disk(&file.metadata()?))));
    }
    file.set_len(0)?;
    Ok(Done::Emptied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom, Write};

    #[test]
    fn the_newest_part_stays_where_it_was() {
        let path = std::env::temp_dir().join(format!("mesita-bounds-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let max = 256 * 1024;
        let of = |path: &Path| {
            let one = std::fs::symlink_metadata(path).unwrap();
            Watched { of: ContainerId::default(), path: path.into(), file: (one.dev(), one.ino()) }
        };
        let bound = |path: &Path| bound(&of(path), max, (&std::env::temp_dir(), None), |_| None);
        let lines: Vec<u8> = (0..64_000).flat_map(|n| format!("{n:015}\n").into_bytes()).collect();
        file.write_all(&lines[..300_000]).unwrap();
        assert_eq!(bound(&path).unwrap(), Done::Fits, "within the slack");
        file.write_all(&lines[300_000..]).unwrap();
        file.sync_all().unwrap();
        let done = bound(&path).unwrap();
        if let Done::Freed(bytes) = done {
            assert!(bytes > 700_000, "{bytes}");
            let of = file.metadata().unwrap();
            assert_eq!(of.len(), lines.len() as u64);
            let mut read = File::open(&path).unwrap();
            let from = lines.len() - 200_000;
            read.seek(SeekFrom::Start(from as u64)).unwrap();
            let mut last = Vec::new();
            read.read_to_end(&mut last).unwrap();
            assert!(last == lines[from..], "what is kept is as it was");
        } else {
            assert_eq!((done, file.metadata().unwrap().len()), (Done::Emptied, 0));
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(bound(&path).unwrap(), Done::Fits, "a link is not followed");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_has_gone_from_its_place_is_bounded_as_well() {
        let path = std::env::temp_dir().join(format!("mesita-gone-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        file.write_all(&[1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let of = file.metadata().unwrap();
        let watched =
            Watched { of: ContainerId::default(), path: path.clone(), file: (of.dev(), of.ino()) };
        std::fs::remove_file(&path).unwrap();
        // Another one in its place is left as it is.
        std::fs::write(&path, [2; 1 << 20]).unwrap();
        let open = |wanted| (wanted == watched.file).then(|| file.try_clone().unwrap());
        let done = bound(&watched, 256 * 1024, (&std::env::temp_dir(), None), open).unwrap();
        assert_ne!(done, Done::Fits);
        assert!(on_disk(&file.metadata().unwrap()) <= 300 * 1024);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
        let nobody = bound(&watched, 256 * 1024, (&std::env::temp_dir(), None), |_| None);
        assert_eq!(nobody.unwrap(), Done::Fits);
        std::fs::remove_file(&path).unwrap();
    }
}
