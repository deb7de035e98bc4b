//! What two runs of the same inputs must agree on, in 8 bytes.

use core::hash::Hasher;

use serde::Serialize;
use siphasher::sip::SipHasher13;

use crate::image::{Image, Writer};

/// A running SipHash-1-3 with a zero key over bytes in the order they came.
///
/// It is the same on every target: integers enter in postcard's little-endian form, never as the
/// machine lays them out. It finds differences; it does not withstand somebody who makes them.
#[derive(Clone, Debug)]
pub struct Digest(SipHasher13);

impl Digest {
    /// A digest of nothing yet.
    pub fn new() -> Self {
        Self(SipHasher13::new())
    }

    /// Takes in raw bytes. About 1 ns a byte.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Takes in a value by its postcard form.
    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        let mut sink = |bytes: &[u8]| self.0.write(bytes);
        Writer::new(&mut sink).put(value);
    }

    /// The digest of all taken in so far; taking in more goes on from there.
    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

/// The digest of a whole state, by its exported form. O(state).
pub fn of_image(image: &dyn Image) -> u64 {
    let mut digest = Digest::new();
    let mut sink = |bytes: &[u8]| digest.bytes(bytes);
    image.export(&mut Writer::new(&mut sink));
    digest.finish()
}

/// The hash that names a body on the wire and in the store: SipHash-1-3 with a zero key.
pub fn of_body(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_pieces_digest_as_bytes_at_once() {
        let mut pieces = Digest::new();
        pieces.bytes(b"allo");
        pieces.bytes(b"cation");
        assert_eq!(pieces.finish(), of_body(b"allocation"));
    }

    #[test]
    fn the_digest_of_a_value_does_not_depend_on_the_machine() {
        let mut digest = Digest::new();
        digest.value(&(7u32, 70_000u64, "mem"));
        assert_eq!(digest.finish(), of_body(&[7, 0xf0, 0xa2, 0x04, 3, b'm', b'e', b'm']));
    }
}
