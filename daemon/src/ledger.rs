//! An agent's ledger as files: `meta/ledger`, and `meta/ledger.new` while it is written anew.
//!
//! A file is a magic and frames as on the wire, each [sealed](seal): a record and its bodies under a
//! checksum and their hashes. The last frame may be torn; what follows it was never promised. Records
//! are absolute, so a new file that was not finished is read after the old one and joined to it. One
//! of an earlier build, [`MAGIC`] and bare frames, is sealed before it is read.
//!
//! Behind its end a file has room that is set aside on the disk, and grows into it. A disk that
//! others have filled is so noticed before anything that must be written finds no room.

mod seal;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesita_core::agent::ledger::{MAGIC, Record};
use mesita_core::digest::of_body;
use mesita_core::limits::{FRAME_MAX, HEAD_MAX};
use mesita_core::wire::frame::{Limits, PREFIX, Prefix};
use mesita_core::wire::{Malformed, decode};

use rustix::fs::{Advice, fadvise};

use crate::disk_thread::Turn;
use crate::durable;
use crate::identity;
use crate::room;
use seal::Seal;

/// Bytes below which a ledger is not written anew.
const SMALL: u64 = 256 * 1024;
/// Bytes that are set aside behind the end of a ledger: some thousands of ends of tasks. Twice as
/// many when they are set aside, and never fewer while the disk has room.
const SET_ASIDE: u64 = 1 << 20;
/// What a reader takes: anything that a writer could write.
#[allow(clippy::cast_possible_truncation)] // Constants that fit.
const LIMITS: Limits = Limits { frame_max: FRAME_MAX as u32, head_max: HEAD_MAX as u32 };

/// A ledger that is appended to.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    seal: Seal,
    current: Part,
    /// Bytes it had when it was last written anew.
    base: u64,
    /// The new file while it is written.
    new: Option<Part>,
    /// A compaction was asked for and has not begun.
    asked: bool,
    /// The disk had no room when it was last looked at.
    full: bool,
}

/// A file that grows.
#[derive(Debug)]
struct Part {
    file: File,
    bytes: u64,
    /// Where the room ends that it has on the disk, as far as is known.
    room: u64,
    /// It has something that the disk may not have.
    unsynced: bool,
}

/// Why something was not written.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The disk is full, and so is what was set aside. Nothing was written, and it may be tried
    /// again.
    NoRoom,
    /// Nobody knows what the disk holds now.
    Io(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        if room::is_none(&error) { Self::NoRoom } else { Self::Io(error) }
    }
}

impl Part {
    fn new(file: File, bytes: u64) -> Self {
        Self { file, bytes, room: bytes, unsynced: false }
    }

    /// Appends, whole or not at all. What an attempt before has left of it is written over.
    fn append(&mut self, whole: &[u8]) -> Result<(), Failed> {
        self.unsynced = true;
        self.file.write_all_at(whole, self.bytes)?;
        self.bytes += whole.len() as u64;
        Ok(())
    }

    /// Waits until all of it is on disk.
    fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            durable::sync(&self.file)?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Sets room aside behind its end. False when the disk has none.
    fn set_aside(&mut self) -> bool {
        let wanted = self.bytes + SET_ASIDE;
        if self.room >= wanted {
            return true;
        }
        for end in [wanted + SET_ASIDE, wanted] {
            match room::set_aside(&self.file, self.bytes, end) {
                Ok(()) => {
                    self.room = end;
                    return true;
                }
                Err(error) if room::is_none(&error) => {}
                // A file system that sets nothing aside: what is free of it is all there is to see.
                Err(_) => return true,
            }
        }
        false
    }
}

/// A record as it was read, with its bodies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The record's bytes.
    pub(crate) record: Vec<u8>,
    /// Its bodies with their hashes.
    pub(crate) bodies: Vec<(Arc<[u8]>, u64)>,
}

/// Why a ledger cannot be read.
#[derive(Debug)]
pub(crate) enum Error {
    /// A call failed.
    Io(PathBuf, io::Error),
    /// It was written by a later release.
    Newer(PathBuf),
    /// It is damaged in the middle, at this byte.
    Damaged(PathBuf, u64),
    /// The key that it was sealed with is not there.
    Keyless(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => {
                write!(f, "{}: {error}{}", path.display(), room::hint(error))
            }
            Self::Newer(path) => write!(
                f,
                "{} was written by a later release; use that one, or a new --work-dir",
                path.display()
            ),
            Self::Damaged(path, at) => write!(
                f,
                "{} is damaged at byte {at} and goes on after it; to start without what it knew, \
                 end this agent's tasks and move its work dir away",
                path.display()
            ),
            Self::Keyless(path) => write!(
                f,
                "{} is not the key that the ledger beside it was sealed with; to start without what \
                 that knew, end this agent's tasks and move its work dir away",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Error {}

impl Ledger {
    /// Opens the ledger in `meta`, reads every record in order, and is ready to be appended to.
    pub(crate) fn open(meta: &Path) -> Result<(Self, Vec<Entry>), Error> {
        let path = meta.join("ledger");
        let new_path = path.with_extension("new");
        let behind = [&path, &new_path].into_iter().any(|path| is_sealed(path));
        let seal = Seal::of(meta, behind)?;
        let mut records = Vec::new();
        let whole = read(&path, &seal, &mut records)?;
        let fresh = read(&new_path, &seal, &mut records)?;
        let io = |error| Error::Io(path.clone(), error);
        let file = join(&path, whole, &new_path, fresh).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let current = Part::new(file, bytes);
        let ledger =
            Self { path, seal, current, base: bytes, new: None, asked: false, full: false };
        Ok((ledger, records))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a frame and its bodies.
    pub(crate) fn append(
        &mut self,
        turn: Turn,
        frame: &[u8],
        bodies: &[Arc<[u8]>],
    ) -> Result<(), Failed> {
        if turn == Turn::Begins {
            self.asked = false;
            // From here on the new file alone is synced, and its records come after these.
            self.current.sync().map_err(Failed::Io)?;
            match begin(&self.path.with_extension("new")) {
                Ok(file) => self.new = Some(Part::new(file, MAGIC.len() as u64)),
                // No room for a second file: all that was to be in it goes where everything is. That
                // the disk is full, whoever looks at it next finds out and tells.
                Err(Failed::NoRoom) => self.base = self.current.bytes,
                Err(failed) => return Err(failed),
            }
        }
        let whole = self.seal.seal(frame, bodies).map_err(Failed::Io)?;
        self.new.as_mut().unwrap_or(&mut self.current).append(&whole)?;
        if turn == Turn::Ends {
            self.take_over()?;
        }
        Ok(())
    }

    /// The new file is whole: it becomes the ledger.
    fn take_over(&mut self) -> Result<(), Failed> {
        let Some(new) = &mut self.new else { return Ok(()) };
        // A disk that finds no room for what it took has lost it.
        new.sync().map_err(Failed::Io)?;
        fs::rename(self.path.with_extension("new"), &self.path)?;
        sync_directory(&self.path).map_err(Failed::Io)?;
        if let Some(new) = self.new.take() {
            (self.base, self.current) = (new.bytes, new);
        }
        Ok(())
    }

    /// Waits until all that was appended is on disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.new.as_mut().unwrap_or(&mut self.current).sync()
    }

    /// True once when the file has grown to twice what it was.
    pub(crate) fn wants_compaction(&mut self) -> bool {
        let grown = self.current.bytes > SMALL.max(self.base.saturating_mul(2));
        let asks = grown && !self.asked && !self.full && self.new.is_none();
        self.asked |= asks;
        asks
    }

    /// Looks whether the disk has room, and sets some of it aside. True when that has changed.
    pub(crate) fn look(&mut self) -> bool {
        let part = self.new.as_mut().unwrap_or(&mut self.current);
        let full = !part.set_aside() || room::is_short(&part.file, SET_ASIDE, self.full);
        std::mem::replace(&mut self.full, full) != full
    }

    /// Something found no room, whatever the disk looked like. True if that is news.
    pub(crate) fn found_none(&mut self) -> bool {
        !std::mem::replace(&mut self.full, true)
    }

    /// The disk has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }
}

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A new file with its magic, on disk under its name.
fn begin(path: &Path) -> Result<File, Failed> {
    let mut options = OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(&seal::MAGIC)?;
    file.sync_data().map_err(Failed::Io)?;
    sync_directory(path).map_err(Failed::Io)?;
    Ok(file)
}

/// True when a file is there and sealed.
fn is_sealed(path: &Path) -> bool {
    let mut magic = [0; seal::MAGIC.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == seal::MAGIC
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Cuts torn ends off, and appends what an unfinished new file holds to the old one.
fn join(path: &Path, whole: Option<u64>, new: &Path, fresh: Option<u64>) -> io::Result<File> {
    let Some(whole) = whole else {
        return begin(path).map_err(|failed| match failed {
            Failed::NoRoom => io::ErrorKind::StorageFull.into(),
            Failed::Io(error) => error,
        });
    };
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.metadata()?.len() != whole {
        file.set_len(whole)?;
    }
    file.seek(SeekFrom::End(0))?;
    if let Some(fresh) = fresh {
        let mut from = File::open(new)?;
        from.seek(SeekFrom::Start(MAGIC.len() as u64))?;
        io::copy(&mut from.take(fresh - MAGIC.len() as u64), &mut file)?;
        file.sync_data()?;
        fs::remove_file(new)?;
        sync_directory(new)?;
    }
    Ok(file)
}

/// The cluster that an agent belongs to, by its ledger in `meta`, which stays as it is; none, if it cannot
/// be read or was never admitted.
pub(crate) fn cluster(meta: &Path) -> Option<u64> {
    let path = meta.join("ledger");
    // A ledger that is there is sealed: no key is made for it.
    let seal = path.exists().then(|| Seal::of(meta, true).ok()).flatten()?;
    let mut records = Vec::new();
    read(&path, &seal, &mut records).ok()?;
    records.iter().rev().find_map(|entry| {
        let Ok(Record::Admitted { cluster, .. }) = decode(&entry.record) else { return None };
        Some(cluster)
    })
}

/// What the disk has: after a sync that failed, the kernel may remember what the disk does not.
fn read_from_disk(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file's records; returns the bytes up to the end of the last whole one. None: no file,
/// or one that was not begun.
fn read(path: &Path, seal: &Seal, records: &mut Vec<Entry>) -> Result<Option<u64>, Error> {
    let mut bytes = match read_from_disk(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::Io(path.to_owned(), error)),
    };
    let (magic, frames) = bytes.split_at_checked(MAGIC.len()).unwrap_or_default();
    if magic == MAGIC {
        bytes = sealed(path, frames, seal)?;
    }
    let Some((magic, mut rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    if *magic != seal::MAGIC {
        return Err(Error::Newer(path.to_owned()));
    }
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        match opened(seal, rest) {
            Some((record, after)) => {
                records.push(record);
                rest = after;
            }
            None => {
                let goes_on = goes_on(rest, |bytes| opened(seal, bytes).is_some());
                let end = goes_on.or_else(|| seal::written(rest));
                if end.is_some_and(|end| !never_written(&bytes[..at + end], at)) {
                    let none_opens = records.is_empty() && goes_on.is_none();
                    return Err(if none_opens && seal::is_whole(rest) {
                        Error::Keyless(path.with_file_name(seal::KEY_FILE))
                    } else {
                        Error::Damaged(path.to_owned(), at as u64)
                    });
                }
                log::warn!("{}: the last {} bytes are torn", path.display(), rest.len());
                return Ok(Some(at as u64));
            }
        }
    }
    Ok(Some(bytes.len() as u64))
}

/// Seals a file of an earlier build, given its frames: what it is now, on disk in its place.
fn sealed(path: &Path, frames: &[u8], seal: &Seal) -> Result<Vec<u8>, Error> {
    let io = |error| Error::Io(path.to_owned(), error);
    let mut bytes = seal::MAGIC.to_vec();
    let mut rest = frames;
    while let Some((_, after)) = frame(rest) {
        let one = &rest[..rest.len() - after.len()];
        bytes.extend(seal.seal(one, &[] as &[&[u8]]).map_err(io)?);
        rest = after;
    }
    if goes_on(rest, |bytes| frame(bytes).is_some()).is_some() {
        let at = MAGIC.len() + frames.len() - rest.len();
        return Err(Error::Damaged(path.to_owned(), at as u64));
    }
    let written = identity::write(&path.with_extension("sealed"), &bytes);
    written.map_err(|error| io(io::Error::other(error)))?;
    fs::rename(path.with_extension("sealed"), path).map_err(io)?;
    sync_directory(path).map_err(io)?;
    Ok(bytes)
}

/// The frame of the first record of `bytes`, and what follows that.
fn opened<'b>(seal: &Seal, bytes: &'b [u8]) -> Option<(Entry, &'b [u8])> {
    let (whole, after) = seal.open(bytes)?;
    Some((frame(&whole)?.0, after))
}

/// The first frame of `bytes`, and what follows it.
fn frame(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<PREFIX>()?;
    let prefix = Prefix::parse(first, LIMITS).ok()?;
    let (envelope, mut rest) = rest.split_at_checked(prefix.rest())?;
    let frame: Result<_, Malformed> = prefix.open(envelope);
    let frame = frame.ok()?;
    let mut bodies = Vec::new();
    for row in frame.bodies() {
        let (body, after) = rest.split_at_checked(row.len as usize)?;
        if of_body(body) != row.hash {
            return None;
        }
        bodies.push((Arc::from(body), row.hash));
        rest = after;
    }
    Some((Entry { record: frame.head.to_vec(), bodies }, rest))
}

/// Where a whole frame follows behind a bad one, if one does: then it is no torn end.
fn goes_on(bytes: &[u8], is_whole: impl Fn(&[u8]) -> bool) -> Option<usize> {
    (1..bytes.len()).find(|at| is_whole(&bytes[*at..]))
}

/// True when the disk never got a sector of the bad frame that begins at `at` and ends `bytes`: it is zero,
/// which nothing sealed is. A kernel writes pages in any order, so what is behind it may have come before the
/// power went; but a sync leaves none out, so nothing behind it was promised.
fn never_written(bytes: &[u8], at: usize) -> bool {
    let frame = &bytes[at..];
    let (first, rest) = frame.split_at(frame.len().min(SECTOR - at % SECTOR));
    [first].into_iter().chain(rest.chunks(SECTOR)).any(|part| part.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests;
