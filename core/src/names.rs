//! Names given by users, kept once and handed back byte for byte.
//!
//! Task ids, executor ids, roles, host names and attributes are text of the user's choosing, up to
//! [`NAME_MAX`] bytes. A [`Name`] is 4 bytes; two names are equal exactly
//! when their texts are. Text lies in 32-byte cells, chained, so that short names cost one cell.

use bytemuck::Zeroable;
use core::hash::Hasher;
use siphasher::sip::SipHasher13;

use crate::image::{BadImage, Image, Reader, Writer};
use crate::limits::NAME_MAX;
use crate::table::Full;

/// A name's text, handed back.
pub type Text = heapless::String<NAME_MAX>;

record! {
    /// One interned name: its entry, as index + 1. Zero is the empty text, which is never counted.
    #[derive(PartialOrd, Ord, Default)]
    pub struct Name {
        place: u32,
    }

    /// What is known of one name. 16 bytes.
    pub struct Entry {
        /// Holders; 0 = the entry is free.
        holders: u32,
        /// The next entry of the same bucket, or of the free chain, as index + 1.
        chain: u32,
        /// The first cell of the text, as index + 1.
        first: u32,
        /// Bytes of text.
        len: u16,
        padding: u16,
    }

    /// 28 bytes of a name's text. 32 bytes with the link.
    pub struct Cell {
        /// The next cell of the name, or of the free chain, as index + 1.
        next: u32,
        text: [u8; CELL_TEXT],
    }

    /// The head of a chain of entries whose hashes end alike, as index + 1.
    pub struct Bucket {
        first: u32,
    }
}

impl Name {
    /// The name of the empty text.
    pub const EMPTY: Self = Self { place: 0 };

    /// True for the name of the empty text.
    pub const fn is_empty(self) -> bool {
        self.place == 0
    }

    /// The name as a number: 0 for the empty text.
    pub(crate) const fn place(self) -> u32 {
        self.place
    }

    /// The name of a number that [`Name::place`] gave.
    pub(crate) const fn from_place(place: u32) -> Self {
        Self { place }
    }
}

/// The arena of names: three slices lent by the caller.
#[derive(Debug)]
pub struct Names<'a> {
    entries: &'a mut [Entry],
    cells: &'a mut [Cell],
    buckets: &'a mut [Bucket],
    /// Keys the index, so that nobody can choose names that fall into one bucket.
    seed: u64,
    used: Used,
}

record! {
    struct Used {
        entries: u32,
        cells: u32,
        live_entries: u32,
        live_cells: u32,
        free_entry: u32,
        free_cell: u32,
    }
}

impl<'a> Names<'a> {
    /// An empty arena. All memory must be zero; as many buckets as entries keep chains short.
    pub fn new(
        entries: &'a mut [Entry],
        cells: &'a mut [Cell],
        buckets: &'a mut [Bucket],
        seed: u64,
    ) -> Self {
        Self { entries, cells, buckets, seed, used: Used::zeroed() }
    }

    /// Gives the memory back, as the names left it.
    pub fn release(self) -> (&'a mut [Entry], &'a mut [Cell], &'a mut [Bucket]) {
        (self.entries, self.cells, self.buckets)
    }

    /// Names in the arena.
    pub fn len(&self) -> u32 {
        self.used.live_entries
    }

    /// True when it holds no name.
    pub fn is_empty(&self) -> bool {
        self.used.live_entries == 0
    }

    /// Cells of text in use.
    pub fn live_cells(&self) -> u32 {
        self.used.live_cells
    }

    /// True when `texts` could all be interned, even if none of them is known. O(texts).
    ///
    /// Handlers ask this for a whole message before they change anything.
    pub fn has_room_for<'t>(&self, texts: impl IntoIterator<Item = &'t str>) -> bool {
        let mut entries = length(self.entries).saturating_sub(self.used.live_entries);
        let mut cells = length(self.cells).saturating_sub(self.used.live_cells);
        for text in texts {
            if text.is_empty() {
                continue;
            }
            let (Some(e), Some(c)) = (entries.checked_sub(1), cells.checked_sub(cells_of(text)))
            else {
                return false;
            };
            (entries, cells) = (e, c);
        }
        true
    }

    /// The name of `text` with one holder more. O(text) on average.
    ///
    /// `Full` when entries or cells are used up, or the text is longer than `NAME_MAX`.
    pub fn intern(&mut self, text: &str) -> Result<Name, Full> {
        if text.is_empty() {
            return Ok(Name::EMPTY);
        }
        if let Some(name) = self.find(text) {
            self.hold(name)?;
            return Ok(name);
        }
        if text.len() > NAME_MAX || !self.has_room_for([text]) {
            return Err(Full);
        }
        let bucket = self.bucket_of(text).ok_or(Full)?;
        let first = self.write(text)?;
        let place = self.take_entry()?;
        let chain = self.buckets.get(bucket).ok_or(Full)?.first;
        let len = u16::try_from(text.len()).map_err(|_| Full)?;
        if let Some(entry) = self.entry_mut(place) {
            *entry = Entry { holders: 1, chain, first, len, padding: 0 };
        }
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.first = place;
        }
        Ok(Name { place })
    }

    /// The name of `text`, if somebody holds it. O(text) on average.
    pub fn find(&self, text: &str) -> Option<Name> {
        if text.is_empty() {
            return Some(Name::EMPTY);
        }
        let mut place = self.buckets.get(self.bucket_of(text)?)?.first;
        while let Some(entry) = self.entry(place) {
            if self.spells(entry, text) {
                return Some(Name { place });
            }
            place = entry.chain;
        }
        None
    }

    /// One holder more for a name already held. O(1). `Full` after 2^32 − 1 holders.
    pub fn hold(&mut self, name: Name) -> Result<(), Full> {
        if let Some(entry) = self.entry_mut(name.place) {
            invariant!(entry.holders > 0, "a free name is held");
            entry.holders = entry.holders.checked_add(1).ok_or(Full)?;
        }
        Ok(())
    }

    /// One holder less; the text goes with the last one. O(text) then, else O(1).
    pub fn release_one(&mut self, name: Name) {
        let Some(entry) = self.entry_mut(name.place) else { return };
        invariant!(entry.holders > 0, "a free name is released");
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders == 0 {
            self.forget(name.place);
        }
    }

    /// The text of a name, byte for byte. O(text).
    pub fn text(&self, name: Name) -> Text {
        let mut text = Text::new();
        let Some(entry) = self.entry(name.place) else { return text };
        let mut bytes = heapless::Vec::<u8, NAME_MAX>::new();
        // One by one: to extend it by a slice could panic, as far as the compiler knows.
        for byte in self.pieces(entry).flatten() {
            let pushed = bytes.push(*byte);
            invariant!(pushed.is_ok(), "a name longer than its limit");
        }
        // Only whole texts were interned, so the bytes are text again.
        if let Ok(whole) = heapless::String::from_utf8(bytes) {
            text = whole;
        }
        text
    }

    /// Bytes of a name's text. O(1).
    pub fn text_len(&self, name: Name) -> usize {
        self.entry(name.place).map_or(0, |entry| entry.len.into())
    }

    /// True when the name's text is `text`. O(text), without a copy.
    pub fn is(&self, name: Name, text: &str) -> bool {
        match self.entry(name.place) {
            Some(entry) => self.spells(entry, text),
            None => text.is_empty(),
        }
    }

    /// Orders two names by the bytes of their texts. O(shared prefix).
    pub fn cmp(&self, left: Name, right: Name) -> core::cmp::Ordering {
        match (self.entry(left.place), self.entry(right.place)) {
            (Some(left), Some(right)) => {
                self.pieces(left).flatten().cmp(self.pieces(right).flatten())
            }
            (left, right) => left.is_some().cmp(&right.is_some()),
        }
    }

    fn entry(&self, place: u32) -> Option<Entry> {
        self.entries.get(place.checked_sub(1)? as usize).copied()
    }

    fn entry_mut(&mut self, place: u32) -> Option<&mut Entry> {
        self.entries.get_mut(place.checked_sub(1)? as usize)
    }

    fn cell_mut(&mut self, place: u32) -> Option<&mut Cell> {
        self.cells.get_mut(place.checked_sub(1)? as usize)
    }

    fn bucket_of(&self, text: &str) -> Option<usize> {
        let mut hasher = SipHasher13::new_with_keys(self.seed, 0);
        hasher.write(text.as_bytes());
        let buckets = u64::try_from(self.buckets.len()).ok()?;
        usize::try_from(hasher.finish().checked_rem(buckets)?).ok()
    }

    /// The text of an entry, a cell at a time.
    fn pieces(&self, entry: Entry) -> impl Iterator<Item = &[u8]> + '_ {
        let (mut next, mut left) = (entry.first, usize::from(entry.len));
        core::iter::from_fn(move || {
            let cell = self.cells.get(next.checked_sub(1)? as usize)?;
            let piece = cell.text.get(..left.min(CELL_TEXT))?;
            (next, left) = (cell.next, left.saturating_sub(CELL_TEXT));
            Some(piece)
        })
    }

    /// Whether the text of an entry is this. Pieces of equal texts are cut alike.
    fn spells(&self, entry: Entry, text: &str) -> bool {
        usize::from(entry.len) == text.len()
            && self.pieces(entry).eq(text.as_bytes().chunks(CELL_TEXT))
    }

    /// Writes `text` into fresh cells, last piece first, and returns the first one's place.
    fn write(&mut self, text: &str) -> Result<u32, Full> {
        let mut next = 0;
        for piece in text.as_bytes().chunks(CELL_TEXT).rev() {
            let place = self.take_cell()?;
            if let Some(cell) = self.cell_mut(place) {
                cell.next = next;
                for (to, from) in cell.text.iter_mut().zip(piece) {
                    *to = *from;
                }
            }
            next = place;
        }
        Ok(next)
    }

    fn take_entry(&mut self) -> Result<u32, Full> {
        let place = match self.entry(self.used.free_entry) {
            Some(entry) => core::mem::replace(&mut self.used.free_entry, entry.chain),
            None if self.used.entries < length(self.entries) => {
                self.used.entries = self.used.entries.saturating_add(1);
                self.used.entries
            }
            None => return Err(Full),
        };
        self.used.live_entries = self.used.live_entries.saturating_add(1);
        Ok(place)
    }

    fn take_cell(&mut self) -> Result<u32, Full> {
        let free = self.used.free_cell;
        let place = match self.cell_mut(free).map(|cell| cell.next) {
            Some(next) => core::mem::replace(&mut self.used.free_cell, next),
            None if self.used.cells < length(self.cells) => {
                self.used.cells = self.used.cells.saturating_add(1);
                self.used.cells
            }
            None => return Err(Full),
        };
        self.used.live_cells = self.used.live_cells.saturating_add(1);
        Ok(place)
    }

    fn forget(&mut self, place: u32) {
        let Some(entry) = self.entry(place) else { return };
        self.unlink(place, entry);
        let free_entry = self.used.free_entry;
        if let Some(entry) = self.entry_mut(place) {
            *entry = Entry { chain: free_entry, ..Entry::zeroed() };
        }
        self.used.free_entry = place;
        self.used.live_entries = self.used.live_entries.saturating_sub(1);
        let mut next = entry.first;
        while next != 0 {
            let free_cell = self.used.free_cell;
            let Some(cell) = self.cell_mut(next) else { break };
            let after = core::mem::replace(&mut cell.next, free_cell);
            self.used.free_cell = next;
            self.used.live_cells = self.used.live_cells.saturating_sub(1);
            next = after;
        }
    }

    fn unlink(&mut self, place: u32, entry: Entry) {
        let text = self.text(Name { place });
        let Some(bucket) = self.bucket_of(&text).and_then(|b| self.buckets.get_mut(b)) else {
            return;
        };
        if bucket.first == place {
            bucket.first = entry.chain;
            return;
        }
        let mut before = bucket.first;
        while let Some(other) = self.entry_mut(before) {
            if other.chain == place {
                other.chain = entry.chain;
                return;
            }
            before = other.chain;
        }
        invariant!(false, "a name is in no bucket");
    }
}

impl Image for Names<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        to.put(&self.used);
        for entry in self.entries.iter().take(self.used.entries as usize) {
            // The chain of a held name is its bucket's, which an import builds anew and in another
            // order; that of a free entry says which is taken next.
            let chain = if entry.holders == 0 { entry.chain } else { 0 };
            to.put(&Entry { chain, ..*entry });
        }
        for cell in self.cells.iter().take(self.used.cells as usize) {
            to.put(cell);
        }
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        self.used = from.take()?;
        let entries = self.entries.get_mut(..self.used.entries as usize);
        for entry in entries.ok_or(BadImage::TooLarge)? {
            *entry = from.take()?;
        }
        let cells = self.cells.get_mut(..self.used.cells as usize);
        for cell in cells.ok_or(BadImage::TooLarge)? {
            *cell = from.take()?;
        }
        self.index_again();
        Ok(())
    }
}

impl Names<'_> {
    /// Builds the buckets anew: their number may differ from that of the exporting arena.
    fn index_again(&mut self) {
        self.buckets.fill(Bucket::zeroed());
        for place in 1..=self.used.entries {
            if self.entry(place).is_none_or(|entry| entry.holders == 0) {
                continue;
            }
            let text = self.text(Name { place });
            let Some(bucket) = self.bucket_of(&text).and_then(|b| self.buckets.get_mut(b)) else {
                return;
            };
            let chain = core::mem::replace(&mut bucket.first, place);
            if let Some(entry) = self.entry_mut(place) {
                entry.chain = chain;
            }
        }
    }
}

/// Cells that a text takes.
fn cells_of(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(CELL_TEXT)).unwrap_or(u32::MAX)
}

fn length<T>(slice: &[T]) -> u32 {
    u32::try_from(slice.len()).unwrap_or(u32::MAX)
}

/// Bytes of text in a cell.
const CELL_TEXT: usize = 28;

const _: () = assert!(size_of::<Cell>() == 32 && size_of::<Entry>() == 16);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest;
    use crate::record::Zero;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    struct Memory(Vec<Entry>, Vec<Cell>, Vec<Bucket>);

    impl Memory {
        fn new(entries: usize, cells: usize) -> Self {
            Self(
                vec![Entry::ZERO; entries],
                vec![Cell::ZERO; cells],
                vec![Bucket::ZERO; entries.max(1)],
            )
        }

        fn names(&mut self) -> Names<'_> {
            Names::new(&mut self.0, &mut self.1, &mut self.2, 42)
        }
    }

    #[test]
    fn a_name_comes_back_byte_for_byte_whatever_its_length() {
        let mut memory = Memory::new(300, 1_500);
        let mut names = memory.names();
        let long: String = "ä/\u{1f980} x".repeat(60);
        for len in (0..=NAME_MAX).filter(|&len| long.is_char_boundary(len)) {
            let text = &long[..len];
            let name = names.intern(text).unwrap();
            assert_eq!(names.text(name).as_str(), text);
            assert!(names.is(name, text));
            assert_eq!(names.find(text), Some(name));
        }
        assert_eq!(names.intern(&"x".repeat(NAME_MAX + 1)), Err(Full));
    }

    #[test]
    fn a_name_lives_as_long_as_its_last_holder() {
        let mut memory = Memory::new(2, 2);
        let mut names = memory.names();
        let name = names.intern("web").unwrap();
        assert_eq!(names.intern("web"), Ok(name));
        names.release_one(name);
        assert_eq!(names.find("web"), Some(name));
        names.release_one(name);
        assert_eq!(names.find("web"), None);
        assert!(names.is_empty() && names.live_cells() == 0);
    }

    #[test]
    fn a_full_arena_refuses_and_changes_nothing() {
        let mut memory = Memory::new(2, 3);
        let mut names = memory.names();
        names.intern("first").unwrap();
        let before = digest::of_image(&names);
        assert!(
            !names.has_room_for(["a name that needs more cells than there are left in here, \
                                      since it has well over fifty-six bytes"])
        );
        assert!(!names.has_room_for(["a", "b"]), "one entry is left");
        assert_eq!(names.intern(&"x".repeat(85)), Err(Full));
        assert_eq!(digest::of_image(&names), before);
        names.intern(&"x".repeat(56)).unwrap();
        assert_eq!(names.intern("third"), Err(Full));
    }

    #[test]
    fn names_are_ordered_by_their_bytes() {
        let mut memory = Memory::new(4, 8);
        let mut names = memory.names();
        let a = names.intern("eng/a").unwrap();
        let b = names.intern("eng/b").unwrap();
        let long = names.intern("eng/a and a tail that needs a second cell").unwrap();
        assert!(names.cmp(a, b).is_lt() && names.cmp(a, long).is_lt());
        assert!(names.cmp(Name::EMPTY, a).is_lt() && names.cmp(a, a).is_eq());
    }

    #[test]
    fn an_imported_arena_answers_as_the_exported_one() {
        let (mut memory, mut other) = (Memory::new(8, 16), Memory::new(9, 17));
        let mut names = memory.names();
        let kept: Vec<_> = ["a", "b", "c"].map(|t| names.intern(t).unwrap()).into();
        names.release_one(kept[1]);
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
        names.export(&mut Writer::new(&mut sink));
        let mut copy = other.names();
        copy.import(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(digest::of_image(&copy), digest::of_image(&names));
        assert_eq!(copy.find("c"), Some(kept[2]));
        assert_eq!(copy.find("b"), None);
        assert_eq!(copy.intern("d"), names.intern("d"));
    }

    #[test]
    fn the_order_of_a_bucket_is_no_part_of_the_state() {
        // One bucket, so that all chain; the last interned is first there, until it is rebuilt.
        let memory = || ([Entry::ZERO; 3], [Cell::ZERO; 3], [Bucket::ZERO; 1]);
        let (mut one, mut two) = (memory(), memory());
        let mut names = Names::new(&mut one.0, &mut one.1, &mut one.2, 42);
        let mut other = Names::new(&mut two.0, &mut two.1, &mut two.2, 42);
        for text in ["a", "b", "c"] {
            names.intern(text).unwrap();
            other.intern(text).unwrap();
        }
        let b = names.find("b").unwrap();
        names.release_one(b);
        names.intern("b").unwrap();
        assert_eq!(digest::of_image(&names), digest::of_image(&other));
    }
}
