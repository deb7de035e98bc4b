//! Where documents and layers are read from: a layout in a directory, or an archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use super::tape::{Kind, Reel, Tape};
use super::unpack::resolve;
use super::{Bounds, DOCUMENT_MAX, Digest, Error, malformed};
use crate::keeper::protocol::User;
use crate::sys::Failure;
use crate::user::with_files_of;

/// Links of an archive that lead to each other.
const LINKS_MAX: usize = 8;

/// An image where it comes from.
#[derive(Debug)]
pub struct Source {
    kind: SourceKind,
    /// What changes when it does.
    stamp: String,
}

#[derive(Debug)]
enum SourceKind {
    /// A directory, read with the rights of a user.
    Layout {
        directory: OwnedFd,
        user: Option<User>,
    },
    Archive {
        file: File,
        places: BTreeMap<Vec<u8>, InArchive>,
    },
}

#[derive(Clone, Debug)]
enum InArchive {
    /// Where it begins, and its bytes.
    At(u64, u64),
    Link(Vec<u8>),
}

impl Source {
    /// Opens a directory or a file with the rights of a user. Blocks.
    pub fn open(path: &Path, user: Option<&User>) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = with_files_of(user, || open(path, flags, Mode::empty()))?;
        let file = File::from(opened.map_err(|errno| match errno {
            rustix::io::Errno::NOENT => Error::Missing(format!("image at {}", path.display())),
            errno => Failure::new("open", path, errno.raw_os_error()).into(),
        })?);
        let of = file.metadata()?;
        if of.is_dir() {
            let directory = OwnedFd::from(file);
            let mut source = Self {
                kind: SourceKind::Layout { directory, user: user.cloned() },
                stamp: String::new(),
            };
            source.stamp = Digest::of(&source.document("index.json")?).hex();
            return Ok(source);
        }
        if !of.is_file() {
            return Err(malformed(format!("{} is no image", path.display())));
        }
        Self::of_archive(file)
    }

    /// An archive that is open already.
    pub fn of_archive(file: File) -> Result<Self, Error> {
        let of = file.metadata()?;
        let (changed, nanos) = (of.mtime(), of.mtime_nsec());
        let stamp = format!("{} {} {} {changed} {nanos}", of.dev(), of.ino(), of.len());
        Ok(Self { kind: SourceKind::Archive { file, places: BTreeMap::new() }, stamp })
    }

    /// What changes when the image does.
    pub(super) fn stamp(&self) -> &str {
        &self.stamp
    }

    /// Learns where in an archive everything is. One that is packed as a whole is unpacked into
    /// `room` first.
    pub(super) fn index(
        &mut self,
        bounds: &Bounds,
        room: impl FnOnce() -> Result<File, Error>,
    ) -> Result<(), Error> {
        let SourceKind::Archive { file, places } = &mut self.kind else { return Ok(()) };
        let mut magic = [0; 4];
        let len = file.read(&mut magic)?;
        file.seek(SeekFrom::Start(0))?;
        if len == 4 && matches!(magic, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
            let mut plain = room()?;
            let mut packed: &File = file;
            io::copy(&mut super::packing::Unpacked::new(&mut packed, bounds)?, &mut plain)?;
            plain.seek(SeekFrom::Start(0))?;
            *file = plain;
        }
        let mut tape = Tape::new(Reel::File(file), bounds.entries);
        while let Some(entry) = tape.entry()? {
            let place = match entry.kind {
                Kind::File => InArchive::At(entry.at, entry.size),
                Kind::Symlink => InArchive::Link(from_beside(&entry.path, &entry.link)),
                Kind::HardLink => InArchive::Link(plain(&entry.link)),
                Kind::Directory | Kind::Device | Kind::Other => continue,
            };
            places.insert(plain(&entry.path), place);
        }
        Ok(())
    }

    /// True if there is something of this name.
    pub(super) fn has(&self, path: &str) -> bool {
        self.read(path).is_ok()
    }

    /// A document, whole.
    pub(super) fn document(&self, path: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.read(path)?.take(DOCUMENT_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > DOCUMENT_MAX {
            return Err(malformed(format!("{path} takes more than 1 MiB")));
        }
        Ok(bytes)
    }

    /// A document that is known by its digest.
    pub(super) fn verified(&self, path: &str, expected: Digest) -> Result<Vec<u8>, Error> {
        let bytes = self.document(path)?;
        let found = Digest::of(&bytes);
        if found == expected { Ok(bytes) } else { Err(Error::Digest { expected, found }) }
    }

    /// Bytes of something.
    pub(super) fn len(&self, path: &str) -> Result<u64, Error> {
        let missing = || Error::Missing(format!("{path} in the image"));
        match &self.kind {
            SourceKind::Layout { directory, .. } => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let file = resolve(directory.as_fd(), path.as_bytes(), flags);
                Ok(File::from(file.map_err(|_| missing())?).metadata()?.len())
            }
            SourceKind::Archive { places, .. } => {
                let mut name = plain(path.as_bytes());
                for _ in 0..LINKS_MAX {
                    match places.get(&name).ok_or_else(missing)? {
                        InArchive::Link(to) => name.clone_from(to),
                        InArchive::At(_, size) => return Ok(*size),
                    }
                }
                Err(missing())
            }
        }
    }

    /// Opens something to be read.
    pub(super) fn read(&self, path: &str) -> Result<Box<dyn Read + '_>, Error> {
        let missing = || Error::Missing(format!("{path} in the image"));
        match &self.kind {
            SourceKind::Layout { directory, user } => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let open = || resolve(directory.as_fd(), path.as_bytes(), flags);
                let file = File::from(with_files_of(user.as_ref(), open)?.map_err(|_| missing())?);
                if file.metadata()?.is_file() { Ok(Box::new(file)) } else { Err(missing()) }
            }
            SourceKind::Archive { file, places } => {
                let mut name = plain(path.as_bytes());
                for _ in 0..LINKS_MAX {
                    match places.get(&name).ok_or_else(missing)? {
                        InArchive::Link(to) => name.clone_from(to),
                        InArchive::At(at, size) => {
                            let mut file: &File = file;
                            file.seek(SeekFrom::Start(*at))?;
                            return Ok(Box::new(file.take(*size)));
                        }
                    }
                }
                Err(missing())
            }
        }
    }
}

/// A path without what leads nowhere.
fn plain(path: &[u8]) -> Vec<u8> {
    from_beside(b"", path)
}

/// Where a link beside `path` leads, in an archive, which has nothing above it.
fn from_beside(path: &[u8], link: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    parts.pop();
    for part in link.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.retain(|part| !matches!(*part, b"" | b"."));
    parts.join(&b'/')
}
