//! The disk thread's end of the journal: entries into files, the oldest of which go.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Entry, MAGIC, frame};

/// A directory of segments.
pub(crate) struct Segments {
    directory: PathBuf,
    /// Bytes of all segments; the oldest go when there are more.
    max: u64,
    file: Option<BufWriter<File>>,
    number: u64,
    /// Nothing more is written after an error: a journal with a hole looks whole.
    failed: bool,
}

impl Segments {
    /// Opens a directory, made if need be. What is there of earlier runs stays, up to `max`.
    pub(crate) fn open(directory: &Path, max: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let number = list(directory)?.last().map_or(0, |&(number, _)| number);
        Ok(Self { directory: directory.to_owned(), max, file: None, number, failed: false })
    }

    /// Appends one entry; a segment's first opens its file. After an error nothing is written, and
    /// the error is given out once.
    pub(crate) fn append(&mut self, entry: &[u8]) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        let result = self.try_append(entry);
        self.failed = result.is_err();
        result
    }

    fn try_append(&mut self, entry: &[u8]) -> io::Result<()> {
        if matches!(postcard::from_bytes(entry), Ok(Entry::Begin { .. })) {
            self.flush()?;
            self.number += 1;
            let path = self.directory.join(name_of(self.number));
            let mut file = BufWriter::new(File::create_new(path)?);
            file.write_all(&MAGIC)?;
            self.file = Some(file);
            self.make_room()?;
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(&frame(entry))?;
        file.write_all(entry)
    }

    /// Gives the kernel what was gathered. A journal survives the process, not the power.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }

    fn make_room(&self) -> io::Result<()> {
        let segments = list(&self.directory)?;
        let mut bytes: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
        // A quarter of the bound is for the segment that begins.
        for (number, len) in segments {
            if bytes <= self.max - self.max / 4 || number == self.number {
                break;
            }
            fs::remove_file(self.directory.join(name_of(number)))?;
            bytes -= len;
        }
        Ok(())
    }
}

/// The name of a segment.
pub(crate) fn name_of(number: u64) -> String {
    format!("{number:08}.journal")
}

/// Numbers and sizes of the segments in a directory, the oldest first.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".journal")?.parse().ok());
        if let Some(number) = number {
            segments.push((number, entry.metadata()?.len()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}
