//! State as bytes and back: what a journal segment starts with and what digests are taken over.

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

/// Why an image was refused. The state that was to take it must be thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadImage {
    /// The bytes end early, or are none of ours.
    Malformed,
    /// The image holds more rows than the table it goes into.
    TooLarge,
}

/// A state that can be written out and read back, bit for bit.
pub trait Image {
    /// Writes everything that later steps depend on. O(state).
    fn export(&self, to: &mut Writer<'_>);

    /// Reads what [`Image::export`] wrote into a state of the same capacities or larger ones.
    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage>;
}

/// Writes values in postcard form to a sink of byte pieces that cannot fail.
pub struct Writer<'w> {
    sink: &'w mut dyn FnMut(&[u8]),
}

impl<'w> Writer<'w> {
    /// A writer into `sink`, which gets pieces of up to [`PIECE`] bytes.
    pub fn new(sink: &'w mut dyn FnMut(&[u8])) -> Self {
        Self { sink }
    }

    /// Writes one value. Serializing our own types has no way to fail.
    pub fn put<T: Serialize + ?Sized>(&mut self, value: &T) {
        let pieces = Pieces { writer: self, piece: [0; PIECE], len: 0 };
        let done = postcard::serialize_with_flavor(value, pieces);
        invariant!(done.is_ok(), "a state that cannot be written");
    }

    /// Writes the values of a slice, their number first.
    pub fn put_all<T: Serialize>(&mut self, values: &[T]) {
        self.put(&u32::try_from(values.len()).unwrap_or(u32::MAX));
        values.iter().for_each(|value| self.put(value));
    }

    /// Writes bytes as they are, without their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        (self.sink)(bytes);
    }
}

/// Reads values that a [`Writer`] wrote.
pub struct Reader<'r> {
    rest: &'r [u8],
}

impl<'r> Reader<'r> {
    /// A reader of all of `bytes`.
    pub fn new(bytes: &'r [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads the next value.
    pub fn take<T: Deserialize<'r>>(&mut self) -> Result<T, BadImage> {
        let (value, rest) =
            postcard::take_from_bytes(self.rest).map_err(|_| BadImage::Malformed)?;
        self.rest = rest;
        Ok(value)
    }

    /// Reads what [`Writer::put_all`] wrote into the front of `into`.
    pub fn take_all<T: Deserialize<'r>>(&mut self, into: &mut [T]) -> Result<(), BadImage> {
        let count: u32 = self.take()?;
        for place in into.get_mut(..count as usize).ok_or(BadImage::TooLarge)? {
            *place = self.take()?;
        }
        Ok(())
    }

    /// Reads so many bytes as they are.
    pub fn bytes(&mut self, len: usize) -> Result<&'r [u8], BadImage> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(BadImage::Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// True when every byte was read.
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Bytes gathered before the sink is called: postcard pushes most of them one at a time.
pub const PIECE: usize = 64;

struct Pieces<'p, 'w> {
    writer: &'p mut Writer<'w>,
    piece: [u8; PIECE],
    len: usize,
}

impl Pieces<'_, '_> {
    fn flush(&mut self) {
        if let Some(piece) = self.piece.get(..self.len) {
            self.writer.bytes(piece);
        }
        self.len = 0;
    }
}

impl Flavor for Pieces<'_, '_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.len >= PIECE {
            self.flush();
        }
        if let Some(place) = self.piece.get_mut(self.len) {
            *place = byte;
            self.len = self.len.saturating_add(1);
        }
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.flush();
        self.writer.bytes(bytes);
        Ok(())
    }

    fn finalize(mut self) -> postcard::Result<()> {
        self.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn what_was_written_is_read_back_and_nothing_is_left() {
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
        let mut writer = Writer::new(&mut sink);
        writer.put(&[7u8; 200][..]);
        writer.put("mem");
        writer.put(&u64::MAX);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.take::<&[u8]>(), Ok(&[7u8; 200][..]));
        assert_eq!(reader.take::<&str>(), Ok("mem"));
        assert_eq!(reader.take::<u64>(), Ok(u64::MAX));
        assert!(reader.is_done());
        assert_eq!(reader.take::<u64>(), Err(BadImage::Malformed));
    }
}
