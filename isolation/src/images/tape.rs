//! Reading a tar, entry by entry, in bounded memory.
//!
//! A tar may be anybody's: the texts that stand before an entry have a bound, numbers that contradict
//! each other are an error, and what is no plain entry is named, not guessed at.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use tar::{EntryType, Header, PaxExtensions};

use super::{Error, malformed};

/// Bytes of a block.
const BLOCK: u64 = 512;
/// Bytes of what stands before an entry: its long names, its attributes.
const BEFORE_MAX: u64 = 1 << 20;
/// Bytes of a path, and of what a link says. Linux: `PATH_MAX`.
pub(super) const PATH_MAX: usize = 4096;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Device,
    /// A pipe, or something that only one tar knows.
    Other,
}

/// An entry; its contents follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) path: Vec<u8>,
    /// What a link says.
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// In seconds since 1970.
    pub(super) mtime: u64,
    /// Bytes of its contents.
    pub(super) size: u64,
    /// Where those begin.
    pub(super) at: u64,
}

impl Entry {
    /// Its path as a person can read it.
    pub(super) fn shown(&self) -> String {
        let path = self.path.get(..self.path.len().min(200)).unwrap_or_default();
        String::from_utf8_lossy(path).chars().flat_map(char::escape_default).collect()
    }

    /// Refuses the entry.
    pub(super) fn bad(&self, why: &'static str) -> Error {
        Error::Entry { path: self.shown(), why }
    }
}

/// Where a tar is read from.
pub(super) enum Reel<'r> {
    /// Something that is read through.
    Stream(&'r mut dyn Read),
    /// A file, of which only what is asked for is read.
    File(&'r File),
}

impl Read for Reel<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.read(into),
            Self::File(file) => file.read(into),
        }
    }
}

impl Reel<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match self {
            Self::Stream(stream) => {
                let skipped = io::copy(&mut stream.take(bytes), &mut io::sink())?;
                if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
            Self::File(file) => {
                file.seek(SeekFrom::Current(bytes.cast_signed()))?;
                Ok(())
            }
        }
    }
}

/// A tar that is read.
pub(super) struct Tape<'r> {
    from: Reel<'r>,
    at: u64,
    /// Bytes of the last entry that were not read, and of what fills its last block.
    left: u64,
    padding: u64,
    entries: u64,
    entries_max: u64,
}

/// What stands before an entry.
#[derive(Default)]
struct Before {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<'r> Tape<'r> {
    /// At most so many entries.
    pub(super) fn new(from: Reel<'r>, entries_max: u64) -> Self {
        Self { from, at: 0, left: 0, padding: 0, entries: 0, entries_max }
    }

    /// The next entry; none at the end.
    pub(super) fn entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut before = Before::default();
        loop {
            let Some(block) = self.header()? else { return Ok(None) };
            self.entries += 1;
            if self.entries > self.entries_max {
                let (flag, max) = ("--image-entries-max", self.entries_max);
                return Err(Error::Over { what: "an archive has entries,", flag, max });
            }
            let header = Header::from_byte_slice(&block);
            if self.texts(header, &mut before)? {
                continue;
            }
            return entry(header, before, self.left, self.at).map(Some);
        }
    }

    /// The contents of the last entry.
    pub(super) fn contents(&mut self) -> Contents<'_, 'r> {
        Contents { tape: self }
    }

    /// The next header, and the size of what follows it taken from it.
    fn header(&mut self) -> Result<Option<[u8; 512]>, Error> {
        let skip = self.left + self.padding;
        self.from.skip(skip)?;
        self.at += skip;
        (self.left, self.padding) = (0, 0);
        let mut block = [0; 512];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.from.read(rest)? {
                // As many tools end an archive.
                0 if filled == 0 => return Ok(None),
                0 => return Err(malformed("an archive ends in the middle of an entry")),
                len => filled += len,
            }
        }
        self.at += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block);
        let sum = |sum: u32, byte: &u8| sum + u32::from(*byte);
        let (front, back) = (block.iter().take(148), block.iter().skip(156));
        if header.cksum().ok() != Some(front.chain(back).fold(8 * 32, sum)) {
            return Err(malformed("an archive is no tar, or damaged"));
        }
        self.left = number(&header.as_old().size, header.entry_size())?;
        if self.left > u64::MAX >> 2 {
            return Err(malformed("an entry of an archive has no size that can be"));
        }
        self.padding = self.left.next_multiple_of(BLOCK) - self.left;
        Ok(Some(block))
    }

    /// Takes what stands before an entry; false if this is one.
    fn texts(&mut self, header: &Header, before: &mut Before) -> Result<bool, Error> {
        let kind = header.entry_type();
        let names = kind.is_gnu_longname() || kind.is_gnu_longlink();
        if !names && !kind.is_pax_local_extensions() {
            // What is said of all entries is not about what they are.
            return Ok(kind.is_pax_global_extensions());
        }
        if self.left > BEFORE_MAX {
            return Err(malformed("what stands before an entry of an archive takes over 1 MiB"));
        }
        let mut text = Vec::new();
        self.contents().read_to_end(&mut text)?;
        if self.left > 0 {
            return Err(malformed("an archive ends in the middle of an entry"));
        }
        if kind.is_gnu_longname() {
            before.path = Some(until_nul(text));
        } else if kind.is_gnu_longlink() {
            before.link = Some(until_nul(text));
        } else {
            before.take(&text)?;
        }
        Ok(true)
    }
}

impl Before {
    /// Takes the attributes that POSIX knows.
    fn take(&mut self, text: &[u8]) -> Result<(), Error> {
        for one in PaxExtensions::new(text) {
            let one = one.map_err(|_| malformed("attributes of an archive cannot be read"))?;
            let value = one.value_bytes();
            match one.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => return Err(malformed("an entry of an archive is larger than 8 GiB")),
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(malformed("an archive has a file with holes"));
                }
                // Among them extended attributes: those of overlayfs would lead out of a layer.
                _ => {}
            }
        }
        Ok(())
    }
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

/// A number of a header; some tools leave out those that are 0.
fn number<T: Default>(field: &[u8], number: io::Result<T>) -> Result<T, Error> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(T::default());
    }
    number.map_err(|_| malformed("a number in an archive cannot be read"))
}

fn entry(header: &Header, before: Before, size: u64, at: u64) -> Result<Entry, Error> {
    let kind = kind_of(header.entry_type());
    let path = before.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let own = || header.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
    let link = before.link.unwrap_or_else(own);
    let id = |number: u64| u32::try_from(number).ok().filter(|id| *id != u32::MAX);
    let ids = (
        id(number(&header.as_old().uid, header.uid())?),
        id(number(&header.as_old().gid, header.gid())?),
    );
    let entry = Entry {
        kind,
        path,
        link,
        mode: number(&header.as_old().mode, header.mode())?,
        uid: ids.0.unwrap_or(u32::MAX),
        gid: ids.1.unwrap_or(u32::MAX),
        mtime: number(&header.as_old().mtime, header.mtime())?,
        size,
        at,
    };
    if entry.path.len() > PATH_MAX || entry.link.len() > PATH_MAX {
        return Err(entry.bad("which is longer than a path may be"));
    }
    if entry.path.contains(&0) || entry.link.contains(&0) {
        return Err(entry.bad("which has a NUL in it"));
    }
    if ids.0.is_none() || ids.1.is_none() {
        return Err(entry.bad("whose owner cannot be"));
    }
    Ok(entry)
}

fn kind_of(of: EntryType) -> Kind {
    if of.is_file() || of.is_contiguous() {
        Kind::File
    } else if of.is_dir() {
        Kind::Directory
    } else if of.is_symlink() {
        Kind::Symlink
    } else if of.is_hard_link() {
        Kind::HardLink
    } else if of.is_block_special() || of.is_character_special() {
        Kind::Device
    } else {
        Kind::Other
    }
}

/// The contents of an entry.
pub(super) struct Contents<'t, 'r> {
    tape: &'t mut Tape<'r>,
}

impl Read for Contents<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.tape.left).unwrap_or(usize::MAX).min(into.len());
        let len = self.tape.from.read(into.get_mut(..most).unwrap_or_default())?;
        self.tape.left -= len as u64;
        self.tape.at += len as u64;
        Ok(len)
    }
}
