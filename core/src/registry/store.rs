//! How a replicated registry lies on a disk, and how it is found again.
//!
//! ```text
//! block 0, 1      the vote sector, slot A, twice
//! 2 ..            the ring: a change in each block, from the first one after each checkpoint
//! ..              checkpoint A: a header, then the whole body
//! 1024, 1025      the vote sector, slot B, twice (or behind checkpoint A, if that is large)
//! ..              checkpoint B
//! ```
//! The sector holds everything that must not be forgotten and the newest change itself, so that
//! vote and change are one write and one fsync. Slots are written in turn: a torn write leaves the
//! sector before it, whose change goes into the ring with the write of the next one. When the ring
//! is full, the body goes to the checkpoint not in use, durably, before a sector relies on it.
//!
//! Recovery takes the newest sector that is whole. It then looks for a way from a checkpoint along
//! the hashes to the value that the sector names: it finds exactly that, or says that the body is
//! older than the vote, and which it is. It never makes anything up.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::Unreadable;
use super::body::{Body, Named, Shape, chained, edits};
use super::meta::Meta;
use crate::limits::DELTA_MAX;
use crate::mutant::{Mutant, planted};
use crate::wire::Generation;
use crate::wire::frame::CASTAGNOLI;

/// Bytes of a block: what a disk writes whole, or not at all, or torn and so noticed.
pub const BLOCK: usize = 4096;
/// Changes in the ring of a daemon. Any other number does, as long as it stays the same.
pub const RING: u32 = 128;
/// The least block of slot B: 4 MiB behind slot A, so that one flash block does not hold both.
const FAR: u32 = 1024;

/// A disk did not do what it was told. Whoever wrote ends at once: nothing is known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskError;

/// Blocks of [`BLOCK`] bytes. What was written is durable after [`Disk::sync`], and may be before.
pub trait Disk {
    /// Reads a block, past any cache.
    fn read(&mut self, block: u32, into: &mut [u8; BLOCK]) -> Result<(), DiskError>;
    /// Writes a block.
    fn write(&mut self, block: u32, from: &[u8; BLOCK]) -> Result<(), DiskError>;
    /// Returns when everything written is durable.
    fn sync(&mut self) -> Result<(), DiskError>;
}

/// Everything that a master must not forget, but for the registry's body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Counted up with each write.
    pub sequence: u64,
    /// It belongs to a cluster: made by an explicit bootstrap, or added to one.
    pub formed: bool,
    /// Its disk forgot something once: it never counts again under this id.
    pub quarantined: bool,
    /// Its id.
    pub me: u8,
    /// Its cluster.
    pub cluster: u64,
    /// Its cluster's history.
    pub generation: Generation,
    /// Counted up at each start, before anything is sent.
    pub incarnation: u32,
    /// The highest epoch that it voted in or accepted data for.
    pub promised: u32,
    /// For whom it voted in that epoch; 0 = nobody.
    pub voted_for: u8,
    /// The newest value that it accepted.
    pub accepted: Named,
    /// What the change beside these facts applies to; the same as `accepted` when there is none.
    pub base: Named,
    /// The value whose body it has: `accepted`, or an older one after damage.
    pub held: Named,
    /// The masters, T, and who wrote last, as of `accepted`.
    pub meta: Meta,
}

/// A change of the registry as it is hashed and stored.
pub type Edits = Vec<u8, DELTA_MAX>;

/// The change in the sector before the newest one.
struct Older {
    base: Named,
    edits: Edits,
}

/// The slot of the newest sector, and what the other one adds to it.
type Found = (u32, Option<Older>);

/// Instead of a checkpoint: the registry that nobody has led yet.
const NOTHING: u32 = 2;

/// What is to be written, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Save<'a> {
    /// A part of a whole body, good for nothing until a sector names it. Nothing is written yet.
    Piece {
        /// Where it begins.
        at: u32,
        /// The part.
        bytes: &'a [u8],
    },
    /// The vote sector; durable when this is done.
    Sector {
        /// What it holds.
        facts: Facts,
        /// The pieces before it are the body of `facts.accepted`.
        whole: bool,
        /// The change from `facts.base` to `facts.accepted`; empty when they are the same.
        edits: &'a [u8],
    },
}

/// What a vote sector holds.
#[derive(Serialize, Deserialize)]
struct Sector<'a> {
    #[serde(borrow)]
    edits: &'a [u8],
    facts: Facts,
}

/// A change in the ring.
#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    base: Named,
    named: Named,
    #[serde(borrow)]
    edits: &'a [u8],
}

/// What stands before a checkpoint's body.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Header {
    named: Named,
    crc: u32,
}

const SECTOR_FORM: [u8; 8] = *b"mesitaV1";
const ENTRY_FORM: [u8; 8] = *b"mesitaE1";
const HEADER_FORM: [u8; 8] = *b"mesitaC1";

/// A registry on a disk. Its owner is whoever may wait for disks.
#[derive(Debug)]
pub struct Store<'a> {
    /// The value at `facts.base` or `facts.accepted`, or an older one after damage.
    body: Body<'a>,
    idle: Body<'a>,
    facts: Facts,
    edits: Edits,
    ring: u32,
    ring_max: u32,
    checkpoint: u32,
    slot: u32,
}

/// How many blocks a store of this shape takes.
pub fn blocks(shape: Shape, ring: u32) -> u32 {
    let checkpoint = place_of_checkpoint(shape, ring, 1);
    checkpoint.saturating_add(1).saturating_add(body_blocks(shape))
}

fn body_blocks(shape: Shape) -> u32 {
    u32::try_from(shape.bytes().div_ceil(BLOCK)).unwrap_or(u32::MAX)
}

fn place_of_slot(shape: Shape, ring: u32, slot: u32) -> u32 {
    if slot == 0 {
        return 0;
    }
    let end = place_of_checkpoint(shape, ring, 0).saturating_add(1);
    end.saturating_add(body_blocks(shape)).max(FAR)
}

fn place_of_checkpoint(shape: Shape, ring: u32, which: u32) -> u32 {
    if which == 0 {
        return ring.saturating_add(2);
    }
    place_of_slot(shape, ring, 1).saturating_add(2)
}

impl<'a> Store<'a> {
    /// A store that was not read yet. Both memories are zeroed and of [`Shape::bytes`].
    pub fn new(shape: Shape, ring: u32, body: &'a mut [u8], idle: &'a mut [u8]) -> Self {
        invariant!(ring > 0, "a ring without a place");
        Self {
            body: Body::new(shape, body),
            idle: Body::new(shape, idle),
            facts: Facts::default(),
            edits: Edits::new(),
            ring: 0,
            ring_max: ring,
            checkpoint: 1,
            slot: 0,
        }
    }

    /// Gives the memory back.
    pub fn release(self) -> [&'a mut [u8]; 2] {
        [self.body.release(), self.idle.release()]
    }

    /// The facts of the newest sector; `held` is the body that was found. Not formed: none yet.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The change of the newest sector.
    pub fn edits(&self) -> &[u8] {
        &self.edits
    }

    /// The body at `facts().base`, or at `facts().held` where that is older.
    pub fn body(&self) -> &Body<'a> {
        &self.body
    }

    /// Finds what was saved. O(disk). After an error nothing may be started from it.
    pub fn recover(&mut self, disk: &mut dyn Disk) -> Result<(), Unreadable> {
        let Some((slot, older)) = self.newest_sector(disk)? else { return Ok(()) };
        self.slot = 1u32.saturating_sub(slot);
        let (accepted, base) = (self.facts.accepted, self.facts.base);
        let from_older = self.find_body(disk, older.as_ref())?;
        let found = self.body.named();
        if found == base && base != accepted {
            // It was taken when it was written, and the sector has not changed since.
            let whole = chained(base, accepted.version, &self.edits) == accepted.hash;
            let taken = edits(&self.edits).is_some_and(|edits| self.body.takes(&edits));
            self.facts.held = if whole && taken { accepted } else { base };
        } else if found == accepted {
            self.facts.base = accepted;
            self.facts.held = accepted;
            self.edits.clear();
        } else {
            self.facts.held = found;
        }
        match older.filter(|_| from_older) {
            Some(older) => self.keep_older(disk, older).map_err(|_| Unreadable::Disk),
            None => Ok(()),
        }
    }

    /// Saves one thing, in the order asked for. The sequence of what is durable now, if any is.
    pub fn save(&mut self, disk: &mut dyn Disk, what: &Save<'_>) -> Result<Option<u64>, DiskError> {
        match what {
            Save::Piece { at, bytes } => {
                self.idle.put(*at as usize, bytes);
                Ok(None)
            }
            Save::Sector { facts, whole, edits } => {
                self.sector(disk, facts, *whole, edits)?;
                Ok(Some(facts.sequence))
            }
        }
    }

    fn sector(
        &mut self,
        disk: &mut dyn Disk,
        facts: &Facts,
        whole: bool,
        edits: &[u8],
    ) -> Result<(), DiskError> {
        if whole {
            self.body.swap(&mut self.idle);
            self.body.name(facts.accepted);
            self.write_checkpoint(disk)?;
        } else if facts.accepted != self.facts.accepted {
            invariant!(facts.base == self.facts.accepted, "a change of something else");
            self.keep_previous(disk)?;
        }
        self.facts = facts.clone();
        self.edits = Edits::from_slice(edits).unwrap_or_default();
        let apart = planted(Mutant::SavesTheChangeApart);
        let edits = if apart { &[] } else { edits };
        let place = place_of_slot(self.body.shape(), self.ring_max, self.slot);
        for copy in [place, place.saturating_add(1)] {
            let mut block = [0; BLOCK];
            seal(&mut block, SECTOR_FORM, copy, &Sector { facts: facts.clone(), edits });
            disk.write(copy, &block)?;
        }
        disk.sync()?;
        self.slot = 1u32.saturating_sub(self.slot);
        if apart {
            self.keep_previous(disk)?;
            disk.sync()?;
        }
        Ok(())
    }

    /// The change in the newest sector leaves it: into the ring, or with all others into the
    /// checkpoint that is not in use.
    fn keep_previous(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        let (base, accepted) = (self.facts.base, self.facts.accepted);
        if self.body.named() == accepted {
            return Ok(());
        }
        invariant!(self.body.named() == base, "a change of a body that is not there");
        let full = self.ring >= self.ring_max;
        if !full {
            self.append(disk, base, accepted)?;
        }
        if let Some(edits) = edits(&self.edits) {
            self.body.apply(&edits, accepted);
        }
        if full { self.write_checkpoint(disk) } else { Ok(()) }
    }

    fn append(&mut self, disk: &mut dyn Disk, base: Named, named: Named) -> Result<(), DiskError> {
        let place = self.ring.saturating_add(2);
        let mut block = [0; BLOCK];
        seal(&mut block, ENTRY_FORM, place, &Entry { base, named, edits: &self.edits });
        disk.write(place, &block)?;
        self.ring = self.ring.saturating_add(1);
        Ok(())
    }

    fn write_checkpoint(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        let which = 1u32.saturating_sub(self.checkpoint);
        let place = place_of_checkpoint(self.body.shape(), self.ring_max, which);
        let mut at = place;
        for part in self.body.bytes().chunks(BLOCK) {
            at = at.saturating_add(1);
            let mut block = [0; BLOCK];
            block.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            disk.write(at, &block)?;
        }
        let header =
            Header { named: self.body.named(), crc: CASTAGNOLI.checksum(self.body.bytes()) };
        let mut block = [0; BLOCK];
        seal(&mut block, HEADER_FORM, place, &header);
        disk.write(place, &block)?;
        disk.sync()?;
        self.checkpoint = which;
        self.ring = 0;
        Ok(())
    }

    /// Takes over the newest whole sector. Its slot, and the change in the other slot when that one
    /// leads up to it.
    fn newest_sector(&mut self, disk: &mut dyn Disk) -> Result<Option<Found>, Unreadable> {
        let mut found: [Option<(Facts, Edits)>; 2] = [None, None];
        let mut blank = [true; 2];
        for ((slot, found), blank) in [0u32, 1].into_iter().zip(&mut found).zip(&mut blank) {
            let place = place_of_slot(self.body.shape(), self.ring_max, slot);
            for copy in [place, place.saturating_add(1)] {
                let mut block = [0; BLOCK];
                disk.read(copy, &mut block).map_err(|_| Unreadable::Disk)?;
                *blank &= is_zero(&block);
                if is_newer(&block, SECTOR_FORM) {
                    return Err(Unreadable::Newer);
                }
                let sector: Option<Sector<'_>> = open(&block, SECTOR_FORM, copy);
                let Some(sector) = sector else { continue };
                if found.as_ref().is_none_or(|(facts, _)| facts.sequence < sector.facts.sequence) {
                    let edits = Edits::from_slice(sector.edits).unwrap_or_default();
                    *found = Some((sector.facts, edits));
                }
            }
        }
        let sequence =
            |found: &Option<(Facts, Edits)>| found.as_ref().map_or(0, |(facts, _)| facts.sequence);
        let [a, b] = found;
        let second = sequence(&b) > sequence(&a);
        let (newest, older) = if second { (b, a) } else { (a, b) };
        let Some((facts, edits)) = newest else {
            // The second slot is written second. While it is blank nothing was durable, and nothing
            // said: the very first write was torn.
            let [_, second] = blank;
            return if second { Ok(None) } else { Err(Unreadable::Damaged) };
        };
        let leads_here =
            |(old, _): &(Facts, Edits)| old.accepted == facts.base && old.base != old.accepted;
        let older = older.filter(leads_here);
        let older = older.map(|(old, edits)| Older { base: old.base, edits });
        self.facts = facts;
        self.edits = edits;
        Ok(Some((u32::from(second), older)))
    }

    /// Finds the body that the sector's change applies to, or the newest one before it. True when
    /// its last change was found in the older sector alone.
    fn find_body(
        &mut self,
        disk: &mut dyn Disk,
        older: Option<&Older>,
    ) -> Result<bool, Unreadable> {
        let mut best: Option<(u32, Named)> = None;
        for which in [NOTHING, 0, 1] {
            if !self.start_from(disk, which)? {
                continue;
            }
            let from_older = self.follow(disk, older)?;
            let named = self.body.named();
            if named == self.facts.base || named == self.facts.accepted {
                return Ok(from_older);
            }
            if best.is_none_or(|(_, best)| best.version < named.version) {
                best = Some((which, named));
            }
        }
        let (which, _) = best.unwrap_or_default();
        self.start_from(disk, which)?;
        self.follow(disk, older)
    }

    /// Reads a checkpoint, or begins with nothing. False when it is damaged or not for this sector.
    fn start_from(&mut self, disk: &mut dyn Disk, which: u32) -> Result<bool, Unreadable> {
        self.ring = 0;
        if which == NOTHING {
            self.checkpoint = 1;
            self.clear();
            return Ok(true);
        }
        let place = place_of_checkpoint(self.body.shape(), self.ring_max, which);
        let mut block = [0; BLOCK];
        disk.read(place, &mut block).map_err(|_| Unreadable::Disk)?;
        if is_newer(&block, HEADER_FORM) {
            return Err(Unreadable::Newer);
        }
        let header: Option<Header> = open(&block, HEADER_FORM, place);
        let Some(header) = header else { return Ok(false) };
        if header.named.version > self.facts.accepted.version {
            return Ok(false);
        }
        let (mut at, mut place) = (0usize, place);
        while at < self.body.shape().bytes() {
            place = place.saturating_add(1);
            disk.read(place, &mut block).map_err(|_| Unreadable::Disk)?;
            let rest = self.body.shape().bytes().saturating_sub(at);
            self.body.put(at, block.get(..rest.min(BLOCK)).unwrap_or_default());
            at = at.saturating_add(BLOCK);
        }
        self.body.name(header.named);
        self.checkpoint = which;
        Ok(CASTAGNOLI.checksum(self.body.bytes()) == header.crc)
    }

    fn clear(&mut self) {
        let len = self.body.shape().bytes();
        let mut at = 0;
        while at < len {
            let rest = len.saturating_sub(at);
            self.body.put(at, [0; 64].get(..rest.min(64)).unwrap_or_default());
            at = at.saturating_add(64);
        }
        self.body.name(Named::default());
    }

    /// Applies what the ring and then the older sector have, as far as one follows from the other.
    fn follow(&mut self, disk: &mut dyn Disk, older: Option<&Older>) -> Result<bool, Unreadable> {
        let mut block = [0; BLOCK];
        while self.ring < self.ring_max && self.body.named() != self.facts.base {
            let place = self.ring.saturating_add(2);
            disk.read(place, &mut block).map_err(|_| Unreadable::Disk)?;
            let entry: Option<Entry<'_>> = open(&block, ENTRY_FORM, place);
            let entry = entry.filter(|entry| entry.base == self.body.named());
            if !entry.is_some_and(|entry| self.take(entry.named, entry.edits)) {
                break;
            }
            self.ring = self.ring.saturating_add(1);
        }
        let older = older.filter(|older| older.base == self.body.named());
        Ok(older.is_some_and(|older| self.take(self.facts.base, &older.edits)))
    }

    fn take(&mut self, named: Named, change: &[u8]) -> bool {
        let follows = chained(self.body.named(), named.version, change) == named.hash;
        let edits = edits(change).filter(|edits| follows && self.body.takes(edits));
        if let Some(edits) = edits {
            self.body.apply(&edits, named);
            return true;
        }
        false
    }

    /// The older sector's change is nowhere else, and its slot is the next one to be written.
    fn keep_older(&mut self, disk: &mut dyn Disk, older: Older) -> Result<(), DiskError> {
        if self.ring >= self.ring_max {
            return self.write_checkpoint(disk);
        }
        let newest = core::mem::replace(&mut self.edits, older.edits);
        let written = self.append(disk, older.base, self.facts.base);
        self.edits = newest;
        written?;
        disk.sync()
    }
}

/// `form | crc | place | value`, the checksum over all but itself.
fn seal<T: Serialize>(block: &mut [u8; BLOCK], form: [u8; 8], place: u32, value: &T) {
    let rest = block.get_mut(HEAD..).unwrap_or_default();
    let written = postcard::to_slice(&(place, value), rest);
    invariant!(written.is_ok(), "a value larger than its block");
    let crc = checksum(&form, rest).to_le_bytes();
    for (to, from) in block.iter_mut().zip(form.into_iter().chain(crc)) {
        *to = from;
    }
}

const HEAD: usize = 12;

fn open<'b, T: Deserialize<'b>>(block: &'b [u8; BLOCK], form: [u8; 8], place: u32) -> Option<T> {
    let (magic, rest) = valid(block)?;
    let (found, value) = postcard::take_from_bytes::<(u32, T)>(rest).ok()?.0;
    (magic == form && found == place).then_some(value)
}

/// A block of a later form of the same kind: whole, and not to be touched.
fn is_newer(block: &[u8; BLOCK], form: [u8; 8]) -> bool {
    let [m, e, s, i, t, a, kind, _] = form;
    let same = [m, e, s, i, t, a, kind];
    valid(block).is_some_and(|(magic, _)| magic != form && magic.starts_with(&same))
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// The name of the form and what is behind it, of a whole and undamaged block.
fn valid(block: &[u8]) -> Option<([u8; 8], &[u8])> {
    let (form, rest) = block.split_first_chunk::<8>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let whole = block.len() == BLOCK && form.starts_with(b"mesita");
    (whole && checksum(form, rest) == u32::from_le_bytes(*crc)).then_some((*form, rest))
}

/// Over everything of a block but the checksum itself.
fn checksum(form: &[u8], rest: &[u8]) -> u32 {
    let mut digest = CASTAGNOLI.digest();
    digest.update(form);
    digest.update(rest);
    digest.finalize()
}
