//! What a container writes, taken from the engine into the files of its sandbox.
//!
//! The engine keeps the newest of it with its times; how far that was taken over is written down
//! beside, in the agent's own directory, so that after the death of the agent nothing is missing and
//! nothing is there twice: of each file the time of the last piece, how many of that time there were,
//! and how long the file was with it. What it has beyond that is passed over when it comes again.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mesita_isolation::keeper::protocol::User;
use mesita_isolation::sandbox::{STDERR, STDOUT};
use mesita_isolation::user::with_files_of;
use rustix::fs::OFlags;

/// Bytes before each piece: which of the two it is, and how long (Docker: "Stream format").
const HEAD: usize = 8;
/// A piece that says to be longer is no piece.
const PIECE_MAX: usize = 1 << 20;
/// A time as the engine writes it: `2026-11-28T21:26:31.931811443Z`, and a space.
const TIME: usize = 30;

/// How far one of the two files is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mark {
    /// Of the last piece; times are compared as texts, which are all equally long.
    time: String,
    /// Pieces of that time.
    same: u64,
    /// Bytes of the file with it.
    len: u64,
}

impl Mark {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let time = words.next().filter(|time| time.len() == TIME)?.to_owned();
        let mut number = || words.next()?.parse().ok();
        Some(Self { time, same: number()?, len: number()? })
    }
}

/// One of the two files.
#[derive(Debug, Default)]
struct Half {
    /// None if it cannot be written to.
    file: Option<File>,
    mark: Mark,
    /// Since this stream began: the time of the last piece, and how many of it there were.
    at: (String, u64),
    /// The stream has come to what is new. Times are looked at no more: clocks may go back.
    passed: bool,
    /// Bytes of what is new that the file has already.
    ahead: u64,
}

impl Half {
    fn begin(&mut self) {
        (self.at, self.passed) = (Default::default(), self.mark.time.is_empty());
        let len = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |of| of.len());
        self.ahead = len.saturating_sub(self.mark.len);
    }

    /// Writes what a piece says, unless it was written before.
    fn put(&mut self, piece: &[u8]) -> io::Result<()> {
        let Some((time, [b' ', said @ ..])) = piece.split_at_checked(TIME) else { return Ok(()) };
        let time = String::from_utf8_lossy(time).into_owned();
        let same = if time == self.at.0 { self.at.1 + 1 } else { 1 };
        self.at = (time, same);
        self.passed |= (&self.at.0, self.at.1) > (&self.mark.time, self.mark.same);
        if !self.passed {
            return Ok(());
        }
        (self.mark.time, self.mark.same) = self.at.clone();
        self.mark.len += said.len() as u64;
        let there = self.ahead.min(said.len() as u64);
        self.ahead -= there;
        let new = usize::try_from(there).ok().and_then(|there| said.get(there..));
        // A full disk is the task's own trouble.
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(new.unwrap_or_default()))
    }
}

/// The two files of a container, and how far they are. All of it blocks.
#[derive(Debug)]
pub(super) struct Output {
    halves: [Half; 2],
    note: File,
    waits: Vec<u8>,
    /// The stream makes no sense any more.
    broken: bool,
}

impl Output {
    /// Opens the files of a container with the rights of its user, and the note beside.
    pub(super) fn open(sandbox: &Path, user: Option<&User>, note: &Path) -> io::Result<Self> {
        if let Some(above) = note.parent() {
            std::fs::create_dir_all(above)?;
        }
        let mut note =
            File::options().create(true).truncate(false).read(true).write(true).open(note)?;
        let mut text = String::new();
        note.read_to_string(&mut text)?;
        let mut lines = text.lines();
        let halves = [STDOUT, STDERR].map(|name| {
            let path = sandbox.join(name);
            let opened = with_files_of(user, || append_to(&path)).map_err(io::Error::other);
            let opened = opened.and_then(|opened| opened);
            if let Err(error) = &opened {
                log::warn!("{}: {error}: what comes there is lost", path.display());
            }
            let mark = lines.next().and_then(Mark::read).unwrap_or_default();
            Half { file: opened.ok(), mark, ..Half::default() }
        });
        let mut output = Self { halves, note, waits: Vec::new(), broken: false };
        output.begin();
        Ok(output)
    }

    /// The stream begins again, from what the engine has first.
    pub(super) fn begin(&mut self) {
        self.halves.iter_mut().for_each(Half::begin);
        self.waits.clear();
        self.broken = false;
    }

    /// Takes bytes of the stream; false when they make no sense.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.waits.extend_from_slice(bytes);
        let mut waits = std::mem::take(&mut self.waits);
        let mut from = 0;
        while let Some((which, piece, next)) = self.piece(&waits, from) {
            self.halves[which].put(piece)?;
            from = next;
        }
        waits.drain(..from);
        self.waits = waits;
        if from > 0 {
            self.write_down()?;
        }
        Ok(!self.broken)
    }

    /// The next whole piece, which file it is of, and where it ends.
    fn piece<'b>(&mut self, bytes: &'b [u8], from: usize) -> Option<(usize, &'b [u8], usize)> {
        let rest = bytes.get(from..)?;
        let (head, rest) = rest.split_first_chunk::<HEAD>()?;
        let [which, _, _, _, len @ ..] = *head;
        let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if len > PIECE_MAX || which > 2 || head[1..4] != [0; 3] {
            self.broken = true;
            return None;
        }
        let piece = rest.get(..len)?;
        Some((usize::from(which == 2), piece, from + HEAD + len))
    }

    fn write_down(&mut self) -> io::Result<()> {
        let line = |half: &Half| {
            let Mark { time, same, len } = &half.mark;
            // As long as any, so that nothing of an older one is left.
            let time = if time.is_empty() { "-" } else { time };
            format!("{time:<TIME$} {same:020} {len:020}\n")
        };
        let text: String = self.halves.iter().map(line).collect();
        self.note.seek(SeekFrom::Start(0))?;
        self.note.write_all(text.as_bytes())
    }
}

/// Where it is written down how far the output of a container was taken over.
pub(super) fn note(work_dir: &Path, name: &str) -> PathBuf {
    work_dir.join("meta/docker").join(name)
}

/// Opens a file of a sandbox to append to it, if it is a file and has no other name.
fn append_to(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file =
        File::options().create(true).append(true).mode(0o644).custom_flags(flags).open(path)?;
    let of = file.metadata()?;
    if of.is_file() && of.nlink() == 1 {
        Ok(file)
    } else {
        Err(io::Error::other("not a plain file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(which: u8, nanos: u32, said: &str) -> Vec<u8> {
        let said = format!("2026-11-28T21:26:31.{nanos:09}Z {said}");
        let mut bytes = vec![which, 0, 0, 0];
        bytes.extend(u32::try_from(said.len()).unwrap().to_be_bytes());
        bytes.extend(said.as_bytes());
        bytes
    }

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mesita-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn open(&self) -> Output {
            Output::open(&self.0, None, &self.0.join("note")).unwrap()
        }

        fn said(&self) -> (String, String) {
            let read = |name| std::fs::read_to_string(self.0.join(name)).unwrap();
            (read(STDOUT), read(STDERR))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// All that is said, in pieces of which two have the same time.
    fn all() -> Vec<u8> {
        // Those of one file are in order of time, and not those of both.
        let pieces =
            [(1, 5, "a\n"), (2, 2, "oh\n"), (1, 6, "half "), (1, 6, "a line\n"), (1, 7, "end\n")];
        pieces.into_iter().flat_map(|(which, nanos, said)| piece(which, nanos, said)).collect()
    }

    #[test]
    fn wherever_the_agent_dies_nothing_is_missing_and_nothing_is_twice() {
        let all = all();
        for cut in 0..=all.len() {
            let place = Place::new("docker-output");
            let mut output = place.open();
            assert!(output.take(&all[..cut]).unwrap());
            drop(output);
            let mut output = place.open();
            for some in all.chunks(7) {
                assert!(output.take(some).unwrap());
            }
            let wanted = ("a\nhalf a line\nend\n".to_owned(), "oh\n".to_owned());
            assert_eq!(place.said(), wanted, "cut at {cut}");
        }
    }

    #[test]
    fn what_was_written_and_not_noted_is_not_written_again() {
        let place = Place::new("docker-unnoted");
        place.open().take(&piece(1, 5, "a\n")).unwrap();
        // Written, and then the agent died.
        let mut file = File::options().append(true).open(place.0.join(STDOUT)).unwrap();
        file.write_all(b"half a").unwrap();
        drop(file);
        assert!(place.open().take(&all()).unwrap());
        assert_eq!(place.said().0, "a\nhalf a line\nend\n");
    }

    #[test]
    fn what_is_no_stream_and_what_is_no_file_is_refused() {
        let place = Place::new("docker-broken");
        assert!(!place.open().take(b"HTTP/1.1 what").unwrap());
        let path = place.0.join("link");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(append_to(&path).is_err());
        std::fs::write(place.0.join("one"), "").unwrap();
        std::fs::hard_link(place.0.join("one"), place.0.join("two")).unwrap();
        assert!(append_to(&place.0.join("two")).is_err());
    }
}
