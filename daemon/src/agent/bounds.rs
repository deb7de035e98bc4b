//! What tasks write is bounded: of each of their two files the newest part is kept.
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
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mesita_core::wire::ContainerId;
use mesita_isolation::sandbox::{STDERR, STDOUT};
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
    files: RefCell<BTreeMap<i32, (ContainerId, PathBuf)>>,
    freed: Cell<u64>,
    emptied: Cell<u64>,
    unwatched: Cell<u64>,
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

    fn begin(&self, id: ContainerId, path: PathBuf) {
        let Some(watch) = &self.watch else { return };
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(watch, &path, events) {
            Ok(number) => {
                self.files.borrow_mut().insert(number, (id, path));
            }
            Err(errno) => {
                self.unwatched.set(self.unwatched.get() + 1);
                log::warn!("{} is not bounded: {errno}", path.display());
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
                    if let Some((id, path)) = file {
                        me.bound_all(id, vec![path]).await;
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
        let paths = [STDOUT, STDERR].map(|name| sandbox.join(name));
        paths.iter().for_each(|path| self.bounds.begin(id, path.clone()));
        if before {
            self.tasks.go(async move { me.bound_all(id, paths.into()).await });
        }
    }

    /// Nothing of a container writes any more: a last look.
    pub(super) async fn unbound_logs_of(&self, id: ContainerId) {
        let Some(watch) = &self.bounds.watch else { return };
        let mut paths = Vec::new();
        self.bounds.files.borrow_mut().retain(|number, (of, path)| {
            let own = *of == id;
            if own {
                // The file may be gone, and its watch with it.
                let _ = inotify::remove_watch(watch, *number);
                paths.push(path.clone());
            }
            !own
        });
        self.bound_all(id, paths).await;
    }

    async fn bound_all(&self, id: ContainerId, paths: Vec<PathBuf>) {
        let max = self.bounds.max;
        let name = self.owner_of_files(id);
        let switch = self.containers.switches_user();
        let bound = move || -> Vec<io::Result<Done>> {
            paths.iter().map(|path| bound(path, max, switch.then_some(&*name))).collect()
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

/// Keeps the newest `max` bytes of a file, with the rights of a user. Blocks.
fn bound(path: &Path, max: u64, name: Option<&str>) -> io::Result<Done> {
    let slack = (max / SLACK_PART).max(SLACK_MIN);
    let before = std::fs::symlink_metadata(path)?;
    if !before.is_file() || on_disk(&before) <= max.saturating_add(slack) {
        return Ok(Done::Fits);
    }
    let user = name.map(user::resolve).transpose().map_err(io::Error::other)?;
    user::with_files_of(user.as_ref(), || cut(path, max)).map_err(io::Error::other)?
}

fn on_disk(of: &std::fs::Metadata) -> u64 {
    of.blocks().saturating_mul(512)
}

fn cut(path: &Path, max: u64) -> io::Result<Done> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options().write(true).custom_flags(flags).open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Ok(Done::Fits);
    }
    let end = before.len().saturating_sub(max) / BLOCK * BLOCK;
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if end > 0 && fallocate(&file, hole, 0, end).is_ok() {
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
        let lines: Vec<u8> = (0..64_000).flat_map(|n| format!("{n:015}\n").into_bytes()).collect();
        file.write_all(&lines[..300_000]).unwrap();
        assert_eq!(bound(&path, max, None).unwrap(), Done::Fits, "within the slack");
        file.write_all(&lines[300_000..]).unwrap();
        file.sync_all().unwrap();
        let done = bound(&path, max, None).unwrap();
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
        assert_eq!(bound(&path, max, None).unwrap(), Done::Fits, "a link is not followed");
        std::fs::remove_file(&path).unwrap();
    }
}
