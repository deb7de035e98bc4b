//! The newest lines of a file that an earlier life of the daemon wrote.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

use super::moment;

/// Bytes of a line at the most: three names, each sign of which may be written as six.
const LINE_MAX: u64 = 6 * 1_024;
/// Bytes that are read of a file, however many lines are wanted.
const READ_MAX: u64 = 16 << 20;

/// The newest lines of the file and of the one before it, the oldest of them first. What is no line is
/// left out; a file that cannot be read has none.
pub(super) fn read(path: &Path, lines_max: usize) -> VecDeque<Value> {
    let newer = lines(path, lines_max);
    let older = lines(&path.with_added_extension("1"), lines_max - newer.len());
    older.into_iter().chain(newer).collect()
}

fn lines(path: &Path, lines_max: usize) -> Vec<Value> {
    let most = (lines_max as u64).saturating_mul(LINE_MAX).min(READ_MAX);
    let text = end_of(path, most).unwrap_or_default();
    let all = text.split(|byte| *byte == b'\n').rev();
    let all = all.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let mut all: Vec<Value> = all.filter(|line| moment(line).is_some()).take(lines_max).collect();
    all.reverse();
    all
}

/// So many bytes at the end of a file, or all of it.
fn end_of(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// True when the last line of a file has no end.
pub(super) fn is_torn(path: &Path) -> bool {
    end_of(path, 1).is_ok_and(|last| last.first().is_some_and(|byte| *byte != b'\n'))
}
