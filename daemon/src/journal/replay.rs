//! Repeats a journal: every input through `step` again, and every digest compared.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mesita_core::Refusal;
use mesita_core::drive::Sink;
use mesita_core::image::Reader;
use mesita_core::wire::BodyRef;
use mesita_core::wire::frame::CASTAGNOLI;

use super::segments::{list, name_of};
use super::{Entry, FRAME, MAGIC};
use crate::seats::Seat;

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Inputs that were applied again.
    pub(crate) inputs: u64,
    /// Segments read.
    pub(crate) segments: u64,
    /// Entries that the disk was too slow for; what followed them in their segment was not replayed.
    pub(crate) lost: u64,
    /// The last segment ends in the middle of an entry: the process died there.
    pub(crate) torn: bool,
    /// Seats with the digest they ended with.
    pub(crate) seats: Vec<(&'static str, u64)>,
    /// The first input after which this run and the recorded one differ.
    pub(crate) difference: Option<Difference>,
}

/// Where two runs part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// In which segment.
    pub(crate) segment: u64,
    /// Which seat.
    pub(crate) seat: &'static str,
    /// Which input of that seat, counted from 1 over its whole run.
    pub(crate) input: u64,
    /// The input, if it is in this segment.
    pub(crate) what: Vec<u8>,
    /// The digest of then and of now.
    pub(crate) recorded: u64,
    pub(crate) repeated: u64,
}

/// Why a journal cannot be repeated.
#[derive(Debug)]
pub(crate) enum Error {
    /// A file or the directory.
    Io(PathBuf, io::Error),
    /// The directory holds no segment.
    Empty(PathBuf),
    /// A file that is no segment of this release.
    Foreign(PathBuf),
    /// An entry is damaged, at this byte.
    Damaged(PathBuf, usize),
    /// A capacity of the journal is too small to begin with.
    Blueprint(Refusal),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Empty(path) => write!(
                f,
                "{} holds no journal; give the directory that was given to --journal",
                path.display()
            ),
            Self::Foreign(path) => write!(
                f,
                "{} is no journal of this release; replay it with the one that wrote it",
                path.display()
            ),
            Self::Damaged(path, at) => write!(
                f,
                "{} is damaged at byte {at}; remove it and all older segments to replay the rest",
                path.display()
            ),
            Self::Blueprint(refusal) => write!(f, "the journal's capacities: {refusal}"),
        }
    }
}

impl std::error::Error for Error {}

/// Takes outputs and drops them: the drive has taken them into the digest.
struct Nowhere;

impl Sink for Nowhere {
    fn put(&mut self, _output: &[u8], _bodies: &[BodyRef]) {}
}

/// Repeats all segments of a directory, the oldest first, up to the first difference.
pub(crate) fn replay(directory: &Path) -> Result<Report, Error> {
    let io = |error| Error::Io(directory.to_owned(), error);
    let segments = list(directory).map_err(io)?;
    let Some(&(last, _)) = segments.last() else { return Err(Error::Empty(directory.to_owned())) };
    let mut report = Report::default();
    for (number, _) in segments {
        let path = directory.join(name_of(number));
        let bytes = fs::read(&path).map_err(|error| Error::Io(path.clone(), error))?;
        let (entries, torn) = entries(&path, &bytes)?;
        if torn && number != last {
            return Err(Error::Damaged(path, bytes.len()));
        }
        report.torn |= torn;
        report.segments += 1;
        segment(&path, number, &entries, &mut report)?;
        if report.difference.is_some() {
            break;
        }
    }
    Ok(report)
}

/// The entries of a segment, and whether the last one is cut short.
fn entries<'b>(path: &Path, bytes: &'b [u8]) -> Result<(Vec<Entry<'b>>, bool), Error> {
    let foreign = || Error::Foreign(path.to_owned());
    let mut rest = bytes.strip_prefix(&MAGIC).ok_or_else(foreign)?;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let damaged = || Error::Damaged(path.to_owned(), at);
        let Some((frame, after)) = rest.split_first_chunk::<FRAME>() else {
            return Ok((entries, true));
        };
        let [a, b, c, d, crc @ ..] = *frame;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some((entry, after)) = after.split_at_checked(len) else {
            return Ok((entries, true));
        };
        if CASTAGNOLI.checksum(entry) != u32::from_le_bytes(crc) {
            return Err(damaged());
        }
        entries.push(postcard::from_bytes(entry).map_err(|_| foreign())?);
        rest = after;
    }
    Ok((entries, false))
}

/// A seat of the run that is repeated.
struct Again<'e> {
    kind: &'static str,
    seat: Box<dyn Seat>,
    image: Vec<u8>,
    whole: bool,
    /// The input that was applied last.
    last: &'e [u8],
}

/// Repeats one segment: first its seats and their states, then its steps.
fn segment(
    path: &Path,
    number: u64,
    entries: &[Entry<'_>],
    report: &mut Report,
) -> Result<(), Error> {
    let mut seats = Vec::new();
    let mut starts = Vec::new();
    for entry in entries {
        match *entry {
            Entry::Seat { blueprint, steps, digest, .. } => {
                let seat = blueprint.build().map_err(Error::Blueprint)?;
                let kind = blueprint.kind();
                seats.push(Again { kind, seat, image: Vec::new(), whole: false, last: &[] });
                starts.push((steps, digest));
            }
            Entry::Image { seat, last, bytes } => {
                if let Some(again) = seats.get_mut(usize::from(seat)) {
                    again.image.extend_from_slice(bytes);
                    again.whole |= last;
                }
            }
            Entry::Begin { .. } | Entry::Step { .. } | Entry::Gap { .. } | Entry::Seal { .. } => {}
        }
    }
    if seats.iter().any(|again| !again.whole) {
        // The process died, or the disk fell behind, before the state was written.
        report.lost +=
            entries.iter().filter(|entry| matches!(entry, Entry::Step { .. })).count() as u64;
        return Ok(());
    }
    for (again, (steps, digest)) in seats.iter_mut().zip(starts) {
        let imported = again.seat.import(&mut Reader::new(&again.image));
        imported.map_err(|_| Error::Foreign(path.to_owned()))?;
        again.seat.resume(steps, digest);
    }
    run(number, entries, &mut seats, report);
    report.seats = seats.iter().map(|again| (again.kind, again.seat.digest())).collect();
    Ok(())
}

fn run<'e>(number: u64, entries: &'e [Entry<'e>], seats: &mut [Again<'e>], report: &mut Report) {
    for entry in entries {
        match *entry {
            Entry::Step { seat, now, digest, input } => {
                let Some(again) = seats.get_mut(usize::from(seat)) else { return };
                report.difference = differs(number, again, digest, again.seat.digest());
                if report.difference.is_some() {
                    return;
                }
                // Refused then, refused now: the digest tells.
                let _ = again.seat.step(now, input, &mut Nowhere);
                again.last = input;
                report.inputs += 1;
            }
            Entry::Gap { lost } => {
                report.lost += lost;
                return;
            }
            Entry::Seal { seat, digest, state, .. } => {
                let Some(again) = seats.get_mut(usize::from(seat)) else { return };
                let said = differs(number, again, digest, again.seat.digest());
                let is = || differs(number, again, state, again.seat.state_digest());
                report.difference = said.or_else(is);
                if report.difference.is_some() {
                    return;
                }
            }
            Entry::Begin { .. } | Entry::Seat { .. } | Entry::Image { .. } => {}
        }
    }
}

fn differs(segment: u64, again: &Again<'_>, recorded: u64, repeated: u64) -> Option<Difference> {
    (recorded != repeated).then(|| Difference {
        segment,
        seat: again.kind,
        input: again.seat.steps(),
        what: again.last.to_vec(),
        recorded,
        repeated,
    })
}
