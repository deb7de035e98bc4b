//! The journal: every input of every seat with the time it was stepped at, so that a run can be
//! repeated and each decision be seen again.
//!
//! A journal is a directory of segments, `00000001.journal` and so on. A segment begins with
//! [`MAGIC`] and is a list of frames, `len u32 | CRC-32C u32 | entry`, little-endian, each entry
//! one [`Entry`] in postcard. It starts with what every seat is made from and holds an image of
//! each seat's state, so the oldest segments can go and the rest still replays. Heads only: no
//! bodies, and no secrets, which never enter a core.
//!
//! | file | concern |
//! |---|---|
//! | `tap` | the core thread's end: entries into the ring |
//! | `segments` | the disk thread's end: files, and which of them stay |
//! | `replay` | reading it all again and comparing |

pub(crate) mod replay;
pub(crate) mod segments;
pub(crate) mod tap;

use mesita_core::time::Time;
use mesita_core::wire::frame::CASTAGNOLI;
use serde::{Deserialize, Serialize};

use crate::seats::Blueprint;

/// How a segment begins: the name of the form and its version. A newer one is refused.
pub(crate) const MAGIC: [u8; 8] = *b"mesitaJ1";
/// Bytes of a state in one entry.
pub(crate) const IMAGE_CHUNK: usize = 16 * 1024;
/// Bytes before each entry.
pub(crate) const FRAME: usize = 8;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Entry<'a> {
    /// A segment begins.
    Begin { software: &'a str, now: Time, wall_us: u64, seats: u8 },
    /// A seat, as it is at the segment's begin: inputs so far, and the digest of what left it.
    Seat { seat: u8, blueprint: Blueprint, steps: u64, digest: u64 },
    /// A piece of a seat's state at the segment's begin. It may come after the first steps.
    Image { seat: u8, last: bool, bytes: &'a [u8] },
    /// A seat is stepped with this input; so far it had this digest.
    Step { seat: u8, now: Time, digest: u64, input: &'a [u8] },
    /// The disk was too slow: so many entries are missing here.
    Gap { lost: u64 },
    /// A seat at the segment's end: inputs, digest of what left it, digest of its whole state.
    Seal { seat: u8, steps: u64, digest: u64, state: u64 },
}

/// The frame's first bytes.
fn frame(entry: &[u8]) -> [u8; FRAME] {
    let len = u32::try_from(entry.len()).unwrap_or(u32::MAX);
    let crc = CASTAGNOLI.checksum(entry);
    let mut bytes = [0; FRAME];
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}
