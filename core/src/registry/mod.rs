//! What a master must not forget, and how it lies on disk.
//!
//! A single master keeps one small record: its cluster, its history and its epoch, which rises by
//! one at each start and is on disk before anything is answered. The record is a sector of
//! [`SECTOR`] bytes with a checksum; the file has two of them, written in turn, so that a torn
//! write leaves the other. The newest valid one counts.
//!
//! Whatever changes the registry goes through [`Registry::propose`] and takes effect when the write
//! that carries it is durable.
//!
//! Several masters keep one registry together. What it holds is in [`body`] and [`rows`], who they
//! are in [`meta`], how it lies on a disk in [`store`]; who may change it is decided by
//! [`election`](crate::election).

pub mod body;
pub mod meta;
pub mod rows;
pub mod store;

use serde::{Deserialize, Serialize};

use crate::image::{BadImage, Image, Reader, Writer};
use crate::wire::frame::CASTAGNOLI;
use crate::wire::{Fence, Generation};

/// Bytes of a sector: what a disk writes whole, or not at all, or torn and so noticed.
pub const SECTOR: usize = 4096;
/// Bytes of the file: two sectors, far enough apart that one flash block does not hold both.
pub const FILE: u64 = 8 * 1024 * 1024;
/// Where the two sectors are.
pub const PLACES: [u64; 2] = [0, FILE / 2];
/// How a sector begins: name and version of the form.
const MAGIC: [u8; 8] = *b"mesitaR1";

/// What is in the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Counted up with each write.
    pub sequence: u64,
    /// The cluster, drawn at its first start.
    pub cluster: u64,
    /// Its history.
    pub generation: Generation,
    /// The newest epoch that this master led, or tried to.
    pub epoch: u32,
}

/// Why a file is not this master's registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// There is a file, and neither sector is valid: both were damaged.
    Damaged,
    /// It was written by a later release.
    Newer,
    /// The disk did not answer.
    Disk,
}

impl core::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Damaged => {
                "both copies are damaged; to begin a new cluster, move the file away \
                 (agents keep their tasks and must be given the new cluster)"
            }
            Self::Newer => "it was written by a later release; use that one, or a new --work-dir",
            Self::Disk => "the disk failed; replace it, remove this master and add a new one",
        })
    }
}

impl core::error::Error for Unreadable {}

/// A write of the registry: these bytes, there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Named by [`Registry::persisted`] when it is durable.
    pub sequence: u64,
    /// Where in the file.
    pub offset: u64,
}

/// The registry of a single master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    record: Record,
    /// The sequence of the newest durable write.
    durable: u64,
}

impl Registry {
    /// Reads the two sectors of a file. Empty slices: there is no file yet.
    pub fn recover(sectors: [&[u8]; 2]) -> Result<Option<Record>, Unreadable> {
        if sectors.iter().all(|sector| sector.is_empty()) {
            return Ok(None);
        }
        // A later release keeps name and checksum where they are, so damage is not taken for one.
        let newer = |sector: &[u8]| valid(sector).is_some_and(|(magic, _)| magic != MAGIC);
        if sectors.into_iter().any(newer) {
            return Err(Unreadable::Newer);
        }
        let newest = sectors.into_iter().filter_map(read).max_by_key(|record| record.sequence);
        if newest.is_none() && sectors.iter().all(|sector| is_zero(sector)) {
            // Preallocated, and the power went before the first write.
            return Ok(None);
        }
        newest.map(Some).ok_or(Unreadable::Damaged)
    }

    /// Begins where a record ended, or a new cluster where there is none, one epoch further.
    pub fn start(recovered: Option<Record>, new_cluster: u64) -> Self {
        let record = recovered.unwrap_or(Record { cluster: new_cluster, ..Record::default() });
        Self { record, durable: record.sequence }
    }

    /// What it holds, durable or not.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Whose word this master's is.
    pub fn fence(&self) -> Fence {
        Fence { generation: self.record.generation, epoch: self.record.epoch }
    }

    /// True when everything proposed is durable.
    pub fn is_settled(&self) -> bool {
        self.durable == self.record.sequence
    }

    /// Changes the record; the change counts once the write is durable. The sector's bytes are
    /// written to `into`.
    pub fn propose(&mut self, change: impl FnOnce(&mut Record), into: &mut [u8; SECTOR]) -> Write {
        change(&mut self.record);
        self.record.sequence = self.record.sequence.saturating_add(1);
        write(&self.record, into);
        let [first, second] = PLACES;
        let odd = self.record.sequence % 2 == 1;
        Write { sequence: self.record.sequence, offset: if odd { second } else { first } }
    }

    /// A write is durable. Late and repeated news change nothing.
    pub fn persisted(&mut self, sequence: u64) {
        self.durable = self.durable.max(sequence.min(self.record.sequence));
    }
}

fn is_zero(sector: &[u8]) -> bool {
    sector.iter().all(|byte| *byte == 0)
}

/// `magic | crc | record`, the checksum over everything but itself.
fn write(record: &Record, into: &mut [u8; SECTOR]) {
    into.fill(0);
    let (head, rest) = into.split_at_mut_checked(HEADER).unwrap_or_default();
    let written = postcard::to_slice(record, rest);
    invariant!(written.is_ok(), "a record larger than its sector");
    let crc = checksum(&MAGIC, rest).to_le_bytes();
    for (to, from) in head.iter_mut().zip(MAGIC.into_iter().chain(crc)) {
        *to = from;
    }
}

/// The name of the form and the record of a whole, undamaged sector.
fn valid(sector: &[u8]) -> Option<([u8; 8], &[u8])> {
    let (magic, rest) = sector.split_first_chunk::<8>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let whole = sector.len() == SECTOR && magic.starts_with(b"mesita");
    (whole && checksum(magic, rest) == u32::from_le_bytes(*crc)).then_some((*magic, rest))
}

fn read(sector: &[u8]) -> Option<Record> {
    let (_, rest) = valid(sector)?;
    postcard::take_from_bytes(rest).ok().map(|(record, _)| record)
}

fn checksum(magic: &[u8], rest: &[u8]) -> u32 {
    let mut digest = CASTAGNOLI.digest();
    digest.update(magic);
    digest.update(rest);
    digest.finalize()
}

const HEADER: usize = MAGIC.len() + 4;

impl Image for Registry {
    fn export(&self, to: &mut Writer<'_>) {
        to.put(&(self.record, self.durable));
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        (self.record, self.durable) = from.take()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(record: Option<Record>) -> (Registry, [u8; SECTOR], Write) {
        let mut registry = Registry::start(record, 77);
        let mut sector = [0; SECTOR];
        let write = registry.propose(|record| record.epoch += 1, &mut sector);
        (registry, sector, write)
    }

    #[test]
    fn each_start_is_an_epoch_of_its_own() {
        let (mut registry, first, write) = started(None);
        assert!(!registry.is_settled());
        registry.persisted(write.sequence);
        assert!(registry.is_settled());
        let record = Registry::recover([&[0; SECTOR], &first]).unwrap().unwrap();
        assert_eq!((record.cluster, record.epoch), (77, 1));
        let (registry, second, next) = started(Some(record));
        assert_ne!(next.offset, write.offset, "the other sector is written");
        assert_eq!(registry.record().epoch, 2);
        let newest = Registry::recover([&second, &first]).unwrap().unwrap();
        assert_eq!((newest.epoch, newest.cluster), (2, 77));
    }

    #[test]
    fn a_torn_write_leaves_the_record_before_it() {
        let (_, first, _) = started(None);
        let record = Registry::recover([&[0; SECTOR], &first]).unwrap();
        let (_, second, _) = started(record);
        for at in 0..SECTOR {
            let mut torn = second;
            torn[at] ^= 0x40;
            assert_eq!(Registry::recover([&torn, &first]), Ok(record), "byte {at}");
            assert_eq!(Registry::recover([&second[..at], &first]), Ok(record));
        }
    }

    #[test]
    fn damage_to_both_copies_is_no_new_cluster() {
        let (_, mut sector, _) = started(None);
        assert_eq!(Registry::recover([&[], &[]]), Ok(None));
        assert_eq!(Registry::recover([&[0; SECTOR], &[0; SECTOR]]), Ok(None));
        sector[100] ^= 1;
        assert_eq!(Registry::recover([&[0; SECTOR], &sector]), Err(Unreadable::Damaged));
        let mut newer = [0; SECTOR];
        newer[..8].copy_from_slice(b"mesitaR2");
        let crc = checksum(&newer[..8], &newer[12..]).to_le_bytes();
        newer[8..12].copy_from_slice(&crc);
        assert_eq!(Registry::recover([&newer, &sector]), Err(Unreadable::Newer));
    }
}
