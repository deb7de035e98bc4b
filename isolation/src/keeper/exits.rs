//! `meta/exits`: what ran and how it ended, so that neither survives its keeper unknown.
//!
//! An append-only file: a header, then records `len u16 LE | CRC-32C u32 LE | postcard`. A record
//! is written before anybody is told what it says. It is there for the death of a process, not of
//! the machine, so nothing is synced: an agent that takes an end in durably has its own ledger.
//! A torn or damaged record ends the file: what follows it was never told.
//!
//! The file is cut when nothing in it matters any more, and written anew without what was forgotten
//! when it has grown to twice its size after the last time. Room for what is still to come is set
//! aside behind its end, so that a disk that others have filled takes no end from it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mesita_core::wire::ContainerId;
use mesita_core::wire::frame::CASTAGNOLI;
use mesita_core::wire::task::Exit;
use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};

use super::protocol::{Ended, Held, Left};
use crate::sys::Failure;

/// What a file of ours begins with, and the version behind it.
const MAGIC: &[u8; 7] = b"MSTexit";
const FORMAT: u8 = 1;
/// Bytes that the file may have before it is ever written anew.
const SMALL: u64 = 64 * 1024;
/// Bytes that a file takes on disk anyway.
const BLOCK: u64 = 4096;
/// Bytes that are set aside behind the end, and again when half of them are used: a thousand ends.
const SET_ASIDE: u64 = 64 * 1024;
/// Bytes before the postcard of a record.
const FRAME: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Record {
    /// What follows happened in this boot of the machine.
    Boot([u8; 16]),
    /// A task was started.
    Started(Left),
    /// A task ended.
    Ended(Ended),
    /// Its agent has taken the end in.
    Forgotten(ContainerId),
}

/// The file, open for the keeper that writes it.
#[derive(Debug)]
pub(super) struct Exits {
    path: PathBuf,
    file: File,
    boot: [u8; 16],
    len: u64,
    /// Its length after it was last written anew.
    compact_len: u64,
    /// Where the room ends that was set aside for it, as far as is known.
    room: u64,
}

impl Exits {
    /// Opens or makes the file in `meta`, and returns what it says is still of interest.
    ///
    /// A file of a version that this release does not know is refused, not overwritten. One that
    /// is none of ours lost its first bytes with the power, and with it everything ended.
    pub(super) fn open(meta: &Path, boot: [u8; 16]) -> Result<(Self, Vec<Held>), Failure> {
        let path = meta.join("exits");
        let mut file = open(&path, false)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| Failure::io("read", &path, &error))?;
        let records = match bytes.strip_prefix(MAGIC) {
            Some([FORMAT, records @ ..]) => records,
            Some([_, ..]) => return Err(Failure::new("read the format of", &path, libc::EPROTO)),
            Some([]) | None => &[],
        };
        let held = replay(records, boot);
        let mut exits = Self { path, file, boot, len: 0, compact_len: 0, room: 0 };
        exits.rewrite(&held)?;
        Ok((exits, held))
    }

    /// A task runs from now on.
    pub(super) fn started(&mut self, left: Left) -> Result<(), Failure> {
        self.append(Record::Started(left))
    }

    /// A task has ended.
    pub(super) fn ended(&mut self, ended: Ended) -> Result<(), Failure> {
        self.append(Record::Ended(ended))
    }

    /// Its end may go.
    pub(super) fn forgotten(&mut self, container: ContainerId) -> Result<(), Failure> {
        self.append(Record::Forgotten(container))
    }

    /// True when the file holds so much of the past that it should be written anew.
    pub(super) fn is_long(&self) -> bool {
        self.len > SMALL.max(self.compact_len.saturating_mul(2))
    }

    /// Nothing in the file matters any more. It is cut where that saves a block of the disk.
    pub(super) fn clear(&mut self) -> Result<(), Failure> {
        if self.len > BLOCK { self.rewrite(&[]) } else { Ok(()) }
    }

    /// The descriptor that writes.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Writes the file anew with these containers alone; all others are forgotten. Whoever dies
    /// in the middle leaves the file as it was.
    pub(super) fn rewrite(&mut self, held: &[Held]) -> Result<(), Failure> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(FORMAT);
        push(&mut bytes, Record::Boot(self.boot));
        for held in held {
            match *held {
                Held::Ended(ended) => push(&mut bytes, Record::Ended(ended)),
                Held::Left(left) => push(&mut bytes, Record::Started(left)),
                Held::Starting { .. } | Held::Running { .. } => {}
            }
        }
        let new = self.path.with_extension("new");
        let mut file = open(&new, true)?;
        file.write_all(&bytes).map_err(|error| Failure::io("write", &new, &error))?;
        fs::rename(&new, &self.path).map_err(|error| Failure::io("rename", &new, &error))?;
        self.file = file;
        self.len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.compact_len = self.len;
        self.room = self.len;
        self.set_aside();
        Ok(())
    }

    /// Where the disk has none, or sets none aside, each record has to find its own.
    fn set_aside(&mut self) {
        let end = self.len.saturating_add(SET_ASIDE);
        if self.room < end.saturating_sub(SET_ASIDE / 2) {
            let len = end.saturating_sub(self.len);
            if fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.len, len).is_ok() {
                self.room = end;
            }
        }
    }

    fn append(&mut self, record: Record) -> Result<(), Failure> {
        let mut bytes = Vec::with_capacity(128);
        push(&mut bytes, record);
        // What a failed one has left of itself is written over, and torn until then.
        let written = self.file.write_all_at(&bytes, self.len);
        written.map_err(|error| Failure::io("append to", &self.path, &error))?;
        self.len = self.len.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        self.set_aside();
        Ok(())
    }
}

fn open(path: &Path, truncate: bool) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).truncate(truncate).create(true).mode(0o600);
    options.open(path).map_err(|error| Failure::io("open", path, &error))
}

/// Appends a record.
fn push(bytes: &mut Vec<u8>, record: Record) {
    // A record is plain numbers, far below the 64 KiB that its length can say.
    let body = postcard::to_extend(&record, Vec::new()).unwrap_or_default();
    let len = u16::try_from(body.len()).unwrap_or(0).to_le_bytes();
    bytes.extend_from_slice(&len);
    bytes.extend_from_slice(&crc(len, &body).to_le_bytes());
    bytes.extend_from_slice(&body);
}

/// Of the length, too, so that a run of zero bytes is no record.
fn crc(len: [u8; 2], body: &[u8]) -> u32 {
    let mut digest = CASTAGNOLI.digest();
    digest.update(&len);
    digest.update(body);
    digest.finalize()
}

/// What the records leave behind.
fn replay(mut bytes: &[u8], boot: [u8; 16]) -> Vec<Held> {
    let mut held = BTreeMap::new();
    let mut of_boot = [0; 16];
    while let Some((record, rest)) = first(bytes) {
        bytes = rest;
        match record {
            Record::Boot(boot) => of_boot = boot,
            Record::Started(left) => {
                let now = if of_boot == boot { Held::Left(left) } else { gone_with_the_boot(left) };
                held.insert(left.container, now);
            }
            Record::Ended(ended) => {
                held.insert(ended.container, Held::Ended(ended));
            }
            Record::Forgotten(container) => {
                held.remove(&container);
            }
        }
    }
    held.into_values().collect()
}

fn first(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (frame, rest) = bytes.split_first_chunk::<FRAME>()?;
    let [a, b, crc_bytes @ ..] = *frame;
    let (body, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([a, b])))?;
    let whole = crc([a, b], body) == u32::from_le_bytes(crc_bytes);
    let record = whole.then(|| postcard::from_bytes(body).ok()).flatten()?;
    Some((record, rest))
}

/// Nothing outlives the machine: it ended, and nobody saw how.
fn gone_with_the_boot(left: Left) -> Held {
    Held::Ended(Ended {
        container: left.container,
        attempt: left.attempt,
        exit: Exit::Unseen,
        core: false,
        user_us: 0,
        system_us: 0,
        max_rss_kib: 0,
        ended_us: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Directory;

    const BOOT: [u8; 16] = [1; 16];

    fn container(counter: u32) -> ContainerId {
        ContainerId { incarnation: 1, counter }
    }

    fn left(counter: u32) -> Left {
        Left {
            container: container(counter),
            attempt: 0,
            pid: 1000 + counter,
            from_us: 7,
            to_us: 9,
        }
    }

    fn ended(counter: u32, status: u8) -> Ended {
        Ended {
            container: container(counter),
            attempt: 0,
            exit: Exit::Code(status),
            core: false,
            user_us: 1,
            system_us: 2,
            max_rss_kib: 3,
            ended_us: 4,
        }
    }

    #[test]
    fn what_ran_and_what_ended_is_there_for_the_next_keeper() {
        let meta = Directory::new("exits");
        let (mut exits, held) = Exits::open(meta.path(), BOOT).unwrap();
        assert_eq!(held, []);
        for counter in 1..=3 {
            exits.started(left(counter)).unwrap();
        }
        exits.ended(ended(1, 7)).unwrap();
        exits.ended(ended(2, 8)).unwrap();
        exits.forgotten(container(2)).unwrap();
        let expected = [Held::Ended(ended(1, 7)), Held::Left(left(3))];
        for _ in 0..2 {
            let (_, held) = Exits::open(meta.path(), BOOT).unwrap();
            assert_eq!(held, expected);
        }
    }

    #[test]
    fn what_ran_before_a_reboot_has_ended_unseen() {
        let meta = Directory::new("exits-boot");
        let (mut exits, _) = Exits::open(meta.path(), BOOT).unwrap();
        exits.started(left(1)).unwrap();
        exits.ended(ended(2, 5)).unwrap();
        let (_, held) = Exits::open(meta.path(), [2; 16]).unwrap();
        let [Held::Ended(first), Held::Ended(second)] = held[..] else { panic!("{held:?}") };
        assert_eq!(first.exit, Exit::Unseen);
        assert_eq!(second, ended(2, 5));
    }

    #[test]
    fn a_torn_record_hides_nothing_before_it_and_nothing_after_it() {
        let meta = Directory::new("exits-torn");
        let (mut exits, _) = Exits::open(meta.path(), BOOT).unwrap();
        exits.ended(ended(1, 7)).unwrap();
        let whole = fs::read(meta.path().join("exits")).unwrap();
        exits.ended(ended(2, 8)).unwrap();
        let longer = fs::read(meta.path().join("exits")).unwrap();
        for cut in whole.len()..longer.len() {
            fs::write(meta.path().join("exits"), &longer[..cut]).unwrap();
            let (mut exits, held) = Exits::open(meta.path(), BOOT).unwrap();
            assert_eq!(held, [Held::Ended(ended(1, 7))], "cut at {cut}");
            exits.ended(ended(3, 9)).unwrap();
            let (_, held) = Exits::open(meta.path(), BOOT).unwrap();
            assert_eq!(held, [Held::Ended(ended(1, 7)), Held::Ended(ended(3, 9))]);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        let mut bytes = Vec::new();
        push(&mut bytes, Record::Ended(ended(1, 7)));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(first(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_file_of_another_version_is_refused_and_stays() {
        let meta = Directory::new("exits-version");
        fs::write(meta.path().join("exits"), b"MSTexit\x02whatever").unwrap();
        assert_eq!(Exits::open(meta.path(), BOOT).unwrap_err().errno, libc::EPROTO);
        assert_eq!(fs::read(meta.path().join("exits")).unwrap(), b"MSTexit\x02whatever");
    }

    #[test]
    fn a_file_that_lost_its_bytes_with_the_power_keeps_nobody_from_starting() {
        let meta = Directory::new("exits-zero");
        fs::write(meta.path().join("exits"), [0; 4096]).unwrap();
        assert_eq!(Exits::open(meta.path(), BOOT).unwrap().1, []);
    }

    #[test]
    fn the_file_stays_small_for_ever() {
        let meta = Directory::new("exits-long");
        let (mut exits, _) = Exits::open(meta.path(), BOOT).unwrap();
        exits.started(left(0)).unwrap();
        for counter in 1..5000 {
            exits.started(left(counter)).unwrap();
            exits.ended(ended(counter, 0)).unwrap();
            exits.forgotten(container(counter)).unwrap();
            if exits.is_long() {
                exits.rewrite(&[Held::Left(left(0))]).unwrap();
            }
            assert!(exits.len < 2 * SMALL);
        }
        let (_, held) = Exits::open(meta.path(), BOOT).unwrap();
        assert_eq!(held, [Held::Left(left(0))]);
    }
}
