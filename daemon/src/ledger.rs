//! An agent's ledger as files: `meta/ledger`, and `meta/ledger.new` while it is written anew.
//!
//! A file is [`MAGIC`] and frames as on the wire: a record and its bodies under a checksum and
//! their hashes. The last frame may be torn; what follows it was never promised. Records are
//! absolute, so a new file that was not finished is read after the old one and joined to it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesita_core::agent::ledger::MAGIC;
use mesita_core::digest::of_body;
use mesita_core::limits::{FRAME_MAX, HEAD_MAX};
use mesita_core::wire::Malformed;
use mesita_core::wire::frame::{Limits, PREFIX, Prefix};

use crate::disk_thread::Turn;

/// Bytes below which a ledger is not written anew.
const SMALL: u64 = 256 * 1024;
/// What a reader takes: anything that a writer could write.
#[allow(clippy::cast_possible_truncation)] // Constants that fit.
const LIMITS: Limits = Limits { frame_max: FRAME_MAX as u32, head_max: HEAD_MAX as u32 };

/// A ledger that is appended to.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Bytes it had when it was last written anew.
    base: u64,
    /// The new file while it is written, and its bytes.
    new: Option<(File, u64)>,
    /// A compaction was asked for and has not begun.
    asked: bool,
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
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
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
        }
    }
}

impl std::error::Error for Error {}

impl Ledger {
    /// Opens the ledger in `meta`, reads every record in order, and is ready to be appended to.
    pub(crate) fn open(meta: &Path) -> Result<(Self, Vec<Entry>), Error> {
        let path = meta.join("ledger");
        let mut records = Vec::new();
        let whole = read(&path, &mut records)?;
        let new_path = path.with_extension("new");
        let fresh = read(&new_path, &mut records)?;
        let io = |error| Error::Io(path.clone(), error);
        let file = join(&path, whole, &new_path, fresh).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        Ok((Self { path, file, bytes, base: bytes, new: None, asked: false }, records))
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
    ) -> io::Result<()> {
        if turn == Turn::Begins {
            self.new = Some((begin(&self.path.with_extension("new"))?, MAGIC.len() as u64));
            self.asked = false;
        }
        let mut whole = frame.to_vec();
        bodies.iter().for_each(|body| whole.extend_from_slice(body));
        let len = whole.len() as u64;
        match &mut self.new {
            Some((file, bytes)) => {
                file.write_all(&whole)?;
                *bytes += len;
            }
            None => {
                self.file.write_all(&whole)?;
                self.bytes += len;
            }
        }
        if turn == Turn::Ends {
            self.take_over()?;
        }
        Ok(())
    }

    /// The new file is whole: it becomes the ledger.
    fn take_over(&mut self) -> io::Result<()> {
        let Some((file, bytes)) = self.new.take() else { return Ok(()) };
        file.sync_data()?;
        fs::rename(self.path.with_extension("new"), &self.path)?;
        sync_directory(&self.path)?;
        (self.file, self.bytes, self.base) = (file, bytes, bytes);
        Ok(())
    }

    /// Waits until all that was appended is on disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        match &self.new {
            Some((file, _)) => file.sync_data(),
            None => self.file.sync_data(),
        }
    }

    /// True once when the file has grown to twice what it was.
    pub(crate) fn wants_compaction(&mut self) -> bool {
        let grown = self.bytes > SMALL.max(self.base.saturating_mul(2));
        let asks = grown && !self.asked && self.new.is_none();
        self.asked |= asks;
        asks
    }
}

/// A new file with its magic, on disk under its name.
fn begin(path: &Path) -> io::Result<File> {
    let mut file = File::create(path)?;
    file.write_all(&MAGIC)?;
    file.sync_data()?;
    sync_directory(path)?;
    Ok(file)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Cuts torn ends off, and appends what an unfinished new file holds to the old one.
fn join(path: &Path, whole: Option<u64>, new: &Path, fresh: Option<u64>) -> io::Result<File> {
    let Some(whole) = whole else { return begin(path) };
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

/// Reads a file's records; returns the bytes up to the end of the last whole one. None: no file,
/// or one that was not begun.
fn read(path: &Path, records: &mut Vec<Entry>) -> Result<Option<u64>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::Io(path.to_owned(), error)),
    };
    let Some((magic, mut rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    if *magic != MAGIC {
        return Err(Error::Newer(path.to_owned()));
    }
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        match frame(rest) {
            Some((record, after)) => {
                records.push(record);
                rest = after;
            }
            None if goes_on(rest) => return Err(Error::Damaged(path.to_owned(), at as u64)),
            None => {
                log::warn!("{}: the last {} bytes are torn", path.display(), rest.len());
                return Ok(Some(at as u64));
            }
        }
    }
    Ok(Some(bytes.len() as u64))
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

/// True when a whole frame follows somewhere behind a bad one: then it is damage and no torn end.
fn goes_on(bytes: &[u8]) -> bool {
    (1..bytes.len()).any(|at| frame(&bytes[at..]).is_some())
}
