//! A set of small numbers that counts itself: which agents have something new to offer.

use crate::image::{BadImage, Image, Reader, Writer};

/// Numbers below 64 times the words lent. Finding the next one costs O(words) at worst.
#[derive(Debug)]
pub struct Bits<'a> {
    words: &'a mut [u64],
    len: u32,
}

impl<'a> Bits<'a> {
    /// The empty set. `words` must be zero.
    pub fn new(words: &'a mut [u64]) -> Self {
        Self { words, len: 0 }
    }

    /// Gives the memory back.
    pub fn release(self) -> &'a mut [u64] {
        self.words
    }

    /// Words that hold numbers below `bound`.
    pub const fn words_for(bound: u32) -> u32 {
        bound.div_ceil(64)
    }

    /// Numbers in it. O(1).
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// True when it has none. O(1).
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a number in. O(1).
    pub fn insert(&mut self, number: u32) {
        if let Some(word) = self.words.get_mut((number / 64) as usize) {
            let bit = 1u64.wrapping_shl(number % 64);
            self.len = self.len.saturating_add(u32::from(*word & bit == 0));
            *word |= bit;
        }
    }

    /// Takes a number out. O(1).
    pub fn remove(&mut self, number: u32) {
        if let Some(word) = self.words.get_mut((number / 64) as usize) {
            let bit = 1u64.wrapping_shl(number % 64);
            self.len = self.len.saturating_sub(u32::from(*word & bit != 0));
            *word &= !bit;
        }
    }

    /// Puts every number of `other` in, a set of the same bound. O(words).
    pub fn add_all(&mut self, other: &Self) {
        let mut len = 0u32;
        for (mine, theirs) in self.words.iter_mut().zip(other.words.iter()) {
            *mine |= theirs;
            len = len.saturating_add(mine.count_ones());
        }
        self.len = len;
    }

    /// The words, the lowest numbers first.
    pub fn words(&self) -> &[u64] {
        self.words
    }

    /// True when the number is in it. O(1).
    pub fn contains(&self, number: u32) -> bool {
        let word = self.words.get((number / 64) as usize).copied().unwrap_or(0);
        word & 1u64.wrapping_shl(number % 64) != 0
    }

    /// The smallest number in it that is at least `from`. O(words).
    pub fn at_or_after(&self, from: u32) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let first = from / 64;
        let below = !u64::MAX.wrapping_shl(from % 64);
        (0u32..).zip(self.words.iter()).skip(first as usize).find_map(|(index, word)| {
            let word = if index == first { *word & !below } else { *word };
            let bit = (word != 0).then(|| word.trailing_zeros())?;
            Some(index.saturating_mul(64).saturating_add(bit))
        })
    }
}

impl Image for Bits<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        to.put(&self.len);
        let mut next = self.at_or_after(0);
        while let Some(number) = next {
            to.put(&number);
            next = self.at_or_after(number.saturating_add(1));
        }
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        let len: u32 = from.take()?;
        for _ in 0..len {
            let number: u32 = from.take()?;
            if (number / 64) as usize >= self.words.len() {
                return Err(BadImage::TooLarge);
            }
            self.insert(number);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn bits_do_what_a_set_does(steps in proptest::collection::vec((0u32..192, any::<bool>()), 0..200)) {
            let mut words = [0; 3];
            let mut bits = Bits::new(&mut words);
            let mut model = BTreeSet::new();
            for (number, insert) in steps {
                if insert {
                    bits.insert(number);
                    model.insert(number);
                } else {
                    bits.remove(number);
                    model.remove(&number);
                }
                prop_assert_eq!(bits.len() as usize, model.len());
                prop_assert_eq!(bits.contains(number), model.contains(&number));
                prop_assert_eq!(bits.at_or_after(number), model.range(number..).next().copied());
            }
        }
    }
}
