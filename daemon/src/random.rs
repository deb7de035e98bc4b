//! The kernel's randomness: keys, nonces, seeds, and the spread of retries. Never decided by.

use rustix::rand::{GetRandomFlags, getrandom};

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        // The call can be interrupted, and is then made again; it has no other way to fail.
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}

/// A random number.
pub(crate) fn number() -> u64 {
    u64::from_le_bytes(bytes())
}

/// A random number below `end`; 0 if that is 0.
pub(crate) fn below(end: u64) -> u64 {
    number().checked_rem(end).unwrap_or(0)
}
