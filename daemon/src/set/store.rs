//! The registry of a set on this master's disk: `meta/registry`.
//!
//! How it lies there and how it is found again is the core's ([`mesita_core::registry::store`]);
//! here blocks are read, written and synced. The file has its whole length, filled with zeros,
//! before anything relies on it: a full disk cannot stop a vote.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mesita_core::registry::Unreadable;
use mesita_core::registry::body::{Shape, edits};
use mesita_core::registry::store::{BLOCK, Disk, DiskError, Facts, RING, Save, Store, blocks};
use mesita_core::wire::gossip::Table;
use rustix::fs::{Advice, fadvise};

use super::redo;
use crate::durable;
use crate::seats::{TABLES_OF_ROWS, bodies};

/// Blocks of a file. The error that the core is not told of is kept.
struct Blocks {
    path: PathBuf,
    file: File,
    failed: Option<io::Error>,
    /// Nothing is written: somebody only looks.
    looks: bool,
}

impl Blocks {
    fn did(&mut self, result: io::Result<()>) -> Result<(), DiskError> {
        result.map_err(|error| {
            self.failed = Some(error);
            DiskError
        })
    }
}

fn place(block: u32) -> u64 {
    u64::from(block) * BLOCK as u64
}

impl Disk for Blocks {
    fn read(&mut self, block: u32, into: &mut [u8; BLOCK]) -> Result<(), DiskError> {
        let read = self.file.read_exact_at(into, place(block));
        self.did(read)
    }

    fn write(&mut self, block: u32, from: &[u8; BLOCK]) -> Result<(), DiskError> {
        if self.looks {
            return Ok(());
        }
        let written = self.file.write_all_at(from, place(block));
        self.did(written)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        if self.looks {
            return Ok(());
        }
        let synced = durable::sync(&self.file);
        self.did(synced)
    }
}

/// A registry and its file.
pub(crate) struct SetStore {
    store: Store<'static>,
    blocks: Blocks,
}

impl std::fmt::Debug for SetStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetStore").field("path", &self.blocks.path).finish_non_exhaustive()
    }
}

/// Said of a master that has forgotten everything.
pub(crate) const DAMAGED: &str = "the registry of this master is gone or damaged: it has forgotten what it promised, and does not go \
     on. The other masters of a set do: put back nothing older, and replace this one. A single master \
     begins a new cluster with an empty work directory, and its agents with empty ones";

/// Why there is no registry to start from.
#[derive(Debug)]
pub(crate) enum Error {
    /// A file or directory.
    Io(PathBuf, io::Error),
    /// What is in the file.
    Unreadable(PathBuf, Unreadable),
    /// The file has another length than a registry of these sizes.
    Length(PathBuf),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Unreadable(path, Unreadable::Damaged) => {
                write!(f, "{}: {DAMAGED}", path.display())
            }
            Self::Unreadable(path, why) => write!(f, "{}: {why}", path.display()),
            Self::Length(path) => write!(
                f,
                "{}: not as long as a registry of this --size: give the --size and --capacity \
                 that the set was made with",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Error {}

impl SetStore {
    /// Opens the registry below `meta`, or makes an empty one, and finds what was saved.
    pub(crate) fn open(meta: &Path, shape: Shape) -> Result<Self, Error> {
        let path = meta.join("registry");
        let io = |error| Error::Io(path.clone(), error);
        let len = place(blocks(shape, RING));
        if !path.exists() {
            create(&path, len).map_err(io)?;
        }
        Self::read(path, shape, false)
    }

    /// The same of a registry that is there, which stays as it is.
    pub(crate) fn look(meta: &Path, shape: Shape) -> Result<Self, Error> {
        Self::read(meta.join("registry"), shape, true)
    }

    fn read(path: PathBuf, shape: Shape, looks: bool) -> Result<Self, Error> {
        let io = |error| Error::Io(path.clone(), error);
        let len = place(blocks(shape, RING));
        let file = File::options().read(true).write(!looks).open(&path).map_err(io)?;
        if file.metadata().map_err(io)?.len() != len {
            return Err(Error::Length(path));
        }
        // After a write that failed, memory may hold what the disk does not: read it anew.
        fadvise(&file, 0, None, Advice::DontNeed).map_err(|errno| io(errno.into()))?;
        let [body, idle] = bodies(shape);
        let mut store = Store::new(shape, RING, body, idle);
        let mut blocks = Blocks { path: path.clone(), file, failed: None, looks };
        match store.recover(&mut blocks) {
            Ok(()) => Ok(Self { store, blocks }),
            Err(why) => Err(match blocks.failed.take() {
                Some(error) => Error::Io(path, error),
                None => Error::Unreadable(path, why),
            }),
        }
    }

    /// What must not be forgotten; not formed: nothing yet.
    pub(crate) fn facts(&self) -> &Facts {
        self.store.facts()
    }

    /// The change beside the facts.
    pub(crate) fn edits(&self) -> &[u8] {
        self.store.edits()
    }

    /// The registry's bytes as they were found.
    pub(crate) fn body(&self) -> &[u8] {
        self.store.body().bytes()
    }

    /// The rows that it has: of the value at `facts().base`, and those of the change beside it.
    pub(crate) fn values(&self) -> Vec<(Table, u32, Vec<u8>)> {
        let body = self.store.body();
        let mut found = BTreeMap::new();
        for table in TABLES_OF_ROWS {
            for slot in 0..body.shape().slots(table) {
                found.insert((table, slot), body.slot(table, slot).unwrap_or_default().to_vec());
            }
        }
        let change = edits(self.store.edits()).filter(|_| body.named() == self.facts().base);
        // What the leader writes of itself is no row.
        let edits = change.iter().flat_map(|change| change.iter());
        for edit in edits.filter(|edit| TABLES_OF_ROWS.contains(&edit.table)) {
            let slot = found.entry((edit.table, edit.slot)).or_default();
            let (at, end) = (usize::from(edit.at), usize::from(edit.at) + edit.bytes.len());
            slot.resize(slot.len().max(end), 0);
            slot[at..end].copy_from_slice(edit.bytes);
        }
        redone(&mut found);
        let filled = found.into_iter().filter(|(_, bytes)| bytes.first().is_some_and(|b| *b != 0));
        filled.map(|((table, slot), bytes)| (table, slot, bytes)).collect()
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.blocks.path
    }

    /// Saves what the election asked for. The sequence of what is durable now, if any is.
    pub(crate) fn save(&mut self, save: &[u8]) -> io::Result<Option<u64>> {
        let Ok(save) = postcard::from_bytes::<Save<'_>>(save) else {
            mesita_core::stop(line!(), "something to be saved that cannot be read");
        };
        self.store.save(&mut self.blocks, &save).map_err(|DiskError| {
            self.blocks.failed.take().unwrap_or_else(|| io::ErrorKind::Other.into())
        })
    }
}

/// What a leader had begun to write as a whole counts as written.
fn redone(found: &mut BTreeMap<(Table, u32), Vec<u8>>) {
    let later = found.split_off(&(Table::Redo, 0));
    let cells = later.into_iter().map(|((_, slot), bytes)| (slot, bytes)).collect();
    for (table, slot, bytes) in redo::found(&cells).unwrap_or_default() {
        found.insert((table, slot), bytes);
    }
}

/// A file of zeros that takes its whole room on the disk; its name comes last.
fn create(path: &Path, len: u64) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = File::options();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options.open(&new)?;
    let zeros = vec![0; 256 * 1024];
    let mut left = len;
    while left > 0 {
        let some = left.min(zeros.len() as u64);
        file.write_all(&zeros[..usize::try_from(some).unwrap_or(0)])?;
        left -= some;
    }
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let directory = path.parent().unwrap_or(path);
    File::open(directory)?.sync_all()
}
