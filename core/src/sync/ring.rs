//! Records from one thread to another, in order, without a lock.
//!
//! A record is a word with its length in bytes and then its bytes, eight to a word. Positions count
//! words and wrap at 2^32; their difference is what the ring holds. The producer writes words and
//! then publishes the new tail; the consumer reads them and then publishes the new head. Whoever
//! reads a position the other published also sees the words behind it.

use super::prim::{AtomicU32, Ordering, Word, mutant};
use crate::table::Full;

/// A ring in words that the caller lends. [`Ring::split`] gives its two ends.
#[derive(Debug)]
pub struct Ring<'a> {
    words: &'a [Word],
    /// The position of the next record to be read; written by the consumer only.
    head: AtomicU32,
    /// The position of the next record to be written; written by the producer only.
    tail: AtomicU32,
}

/// The end that writes.
#[derive(Debug)]
pub struct Producer<'r> {
    ring: &'r Ring<'r>,
    tail: u32,
    /// The consumer's position when it was last looked at: it may be further by now.
    head_seen: u32,
}

/// The end that reads.
#[derive(Debug)]
pub struct Consumer<'r> {
    ring: &'r Ring<'r>,
    head: u32,
    tail_seen: u32,
}

impl<'a> Ring<'a> {
    /// An empty ring in `words`, whose number must be a power of two between 2 and 2^30.
    pub fn new(words: &'a [Word]) -> Self {
        let capacity = words.len();
        let usable = capacity.is_power_of_two() && (2..=1 << 30).contains(&capacity);
        invariant!(usable, "a ring's words are a power of two");
        Self { words, head: AtomicU32::new(0), tail: AtomicU32::new(0) }
    }

    /// The two ends. They may go to two threads; the borrow sees to it that there is one of each.
    pub fn split(&mut self) -> (Producer<'_>, Consumer<'_>) {
        let ring: &Ring<'_> = self;
        let head = ring.head.load(Ordering::Acquire);
        let tail = ring.tail.load(Ordering::Acquire);
        (Producer { ring, tail, head_seen: head }, Consumer { ring, head, tail_seen: tail })
    }

    fn capacity(&self) -> u32 {
        u32::try_from(self.words.len()).unwrap_or(0)
    }

    fn word(&self, position: u32) -> Option<&Word> {
        let mask = self.capacity().wrapping_sub(1);
        self.words.get((position & mask) as usize)
    }
}

/// Words that a record of `len` bytes takes.
const fn words_of(len: usize) -> usize {
    len.div_ceil(8).saturating_add(1)
}

impl Producer<'_> {
    /// Appends one record made of `parts`, joined. O(bytes).
    ///
    /// [`Full`] when the ring does not have the room now, or never will; nothing is written then.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), Full> {
        let len = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        let words = u32::try_from(words_of(len)).map_err(|_| Full)?;
        if !self.has_room(words) {
            return Err(Full);
        }
        let mut at = self.tail;
        self.set(&mut at, u64::try_from(len).map_err(|_| Full)?);
        let mut word = [0u8; 8];
        let mut filled = 0usize;
        for byte in parts.iter().copied().flatten() {
            if let Some(place) = word.get_mut(filled) {
                *place = *byte;
            }
            filled = filled.saturating_add(1);
            if filled == 8 {
                self.set(&mut at, u64::from_le_bytes(word));
                (word, filled) = ([0; 8], 0);
            }
        }
        if filled > 0 {
            self.set(&mut at, u64::from_le_bytes(word));
        }
        invariant!(at == self.tail.wrapping_add(words), "a record is as long as it was said to be");
        self.tail = at;
        let order = if mutant("tail-relaxed") { Ordering::Relaxed } else { Ordering::Release };
        self.ring.tail.store(at, order);
        Ok(())
    }

    /// True when a record of `len` bytes can be pushed now.
    pub fn can_take(&mut self, len: usize) -> bool {
        u32::try_from(words_of(len)).is_ok_and(|words| self.has_room(words))
    }

    /// Bytes that records in the ring take up, at the most: the consumer may be further.
    pub fn used_bytes(&mut self) -> u32 {
        self.head_seen = self.ring.head.load(Ordering::Acquire);
        self.tail.wrapping_sub(self.head_seen).saturating_mul(8)
    }

    fn has_room(&mut self, words: u32) -> bool {
        let capacity = if mutant("capacity-plus-one") {
            self.ring.capacity().saturating_add(1)
        } else {
            self.ring.capacity()
        };
        let used = self.tail.wrapping_sub(self.head_seen);
        if capacity.saturating_sub(used) >= words {
            return true;
        }
        let order = if mutant("head-relaxed-read") { Ordering::Relaxed } else { Ordering::Acquire };
        self.head_seen = self.ring.head.load(order);
        let used = self.tail.wrapping_sub(self.head_seen);
        capacity.saturating_sub(used) >= words
    }

    fn set(&self, at: &mut u32, value: u64) {
        if let Some(word) = self.ring.word(*at) {
            word.set(value);
        }
        *at = at.wrapping_add(1);
    }
}

impl Consumer<'_> {
    /// True when there is no record now.
    pub fn is_empty(&mut self) -> bool {
        if self.head != self.tail_seen {
            return false;
        }
        let order = if mutant("tail-relaxed-read") { Ordering::Relaxed } else { Ordering::Acquire };
        self.tail_seen = self.ring.tail.load(order);
        self.head == self.tail_seen
    }

    /// Takes the next record into `into` and returns its bytes. O(bytes).
    ///
    /// A record longer than `into` is a broken invariant: both ends know the largest one.
    pub fn pop<'b>(&mut self, into: &'b mut [u8]) -> Option<&'b [u8]> {
        if self.is_empty() {
            return None;
        }
        let mut at = self.head;
        let len = usize::try_from(self.get(&mut at)).unwrap_or(usize::MAX);
        let early = mutant("head-before-read");
        let end = self.head.wrapping_add(u32::try_from(words_of(len)).unwrap_or(0));
        if early {
            self.ring.head.store(end, Ordering::Release);
        }
        invariant!(into.len() >= len, "a record fits the buffer it is read into");
        let into = into.get_mut(..len)?;
        for bytes in into.chunks_mut(8) {
            let word = self.get(&mut at).to_le_bytes();
            for (to, from) in bytes.iter_mut().zip(word) {
                *to = from;
            }
        }
        self.head = end;
        if !early {
            let order = if mutant("head-relaxed") { Ordering::Relaxed } else { Ordering::Release };
            self.ring.head.store(end, order);
        }
        Some(into)
    }

    fn get(&self, at: &mut u32) -> u64 {
        let value = self.ring.word(*at).map_or(0, Word::get);
        *at = at.wrapping_add(1);
        value
    }
}

#[cfg(all(test, not(mesita_loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn words(n: usize) -> Vec<Word> {
        (0..n).map(|_| Word::new()).collect()
    }

    #[test]
    fn records_come_out_as_they_went_in_across_the_end_of_the_ring() {
        let words = words(8);
        let mut ring = Ring::new(&words);
        let (mut producer, mut consumer) = ring.split();
        let mut into = [0; 64];
        for n in 0..100u8 {
            let record = std::vec![n; usize::from(n % 23)];
            producer.push(&[&record[..record.len() / 2], &record[record.len() / 2..]]).unwrap();
            assert_eq!(consumer.pop(&mut into), Some(&record[..]));
        }
        assert_eq!(consumer.pop(&mut into), None);
    }

    #[test]
    fn a_full_ring_refuses_and_loses_nothing() {
        let words = words(4);
        let mut ring = Ring::new(&words);
        let (mut producer, mut consumer) = ring.split();
        producer.push(&[b"12345678"]).unwrap();
        assert!(producer.can_take(8) && !producer.can_take(9));
        producer.push(&[b"1"]).unwrap();
        assert_eq!(producer.push(&[]), Err(Full));
        assert_eq!(producer.used_bytes(), 32);
        let mut into = [0; 8];
        assert_eq!(consumer.pop(&mut into), Some(&b"12345678"[..]));
        assert_eq!(producer.push(&[b"123456789"]), Err(Full));
        producer.push(&[b"2"]).unwrap();
        assert_eq!(consumer.pop(&mut into), Some(&b"1"[..]));
        assert_eq!(consumer.pop(&mut into), Some(&b"2"[..]));
    }

    #[test]
    fn two_threads_agree_on_a_million_records() {
        let words = words(64);
        let mut ring = Ring::new(&words);
        let (mut producer, mut consumer) = ring.split();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..1_000_000u32 {
                    while producer.push(&[&n.to_le_bytes()]).is_err() {
                        core::hint::spin_loop();
                    }
                }
            });
            let mut into = [0; 4];
            for n in 0..1_000_000u32 {
                loop {
                    if let Some(bytes) = consumer.pop(&mut into) {
                        assert_eq!(bytes, n.to_le_bytes());
                        break;
                    }
                    core::hint::spin_loop();
                }
            }
        });
    }
}
