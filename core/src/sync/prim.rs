//! Atomics and shared words: the processor's, or loom's when every interleaving is to be walked.

#[cfg(not(mesita_loom))]
pub(super) use core::sync::atomic::{AtomicU32, Ordering, fence};
#[cfg(mesita_loom)]
pub(super) use loom::sync::atomic::{AtomicU32, Ordering, fence};

#[cfg(not(mesita_loom))]
use core::cell::UnsafeCell;
#[cfg(mesita_loom)]
use loom::cell::UnsafeCell;

/// A word that one thread writes and another reads, each in its turn.
#[derive(Debug)]
#[cfg_attr(not(mesita_loom), derive(bytemuck::Zeroable))]
#[repr(transparent)]
pub struct Word(UnsafeCell<u64>);

// SAFETY: a ring hands each word to one side at a time: the producer before it publishes the
// position behind it, the consumer before it gives the position back. loom checks that.
#[allow(unsafe_code)]
unsafe impl Sync for Word {}

impl Word {
    /// A word of zero.
    #[cfg(not(mesita_loom))]
    pub const fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    /// A word of zero, watched by loom.
    #[cfg(mesita_loom)]
    pub fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    /// Writes the word. The caller is the side that holds it.
    pub(super) fn set(&self, value: u64) {
        // SAFETY: only the side that holds the word calls this, see `Sync` above.
        #[cfg(not(mesita_loom))]
        #[allow(unsafe_code)]
        unsafe {
            *self.0.get() = value;
        }
        // SAFETY: as above; loom's cell reports the access that breaks it.
        #[cfg(mesita_loom)]
        #[allow(unsafe_code)]
        self.0.with_mut(|word| unsafe { *word = value });
    }

    /// Reads the word. The caller is the side that holds it.
    pub(super) fn get(&self) -> u64 {
        // SAFETY: only the side that holds the word calls this, see `Sync` above.
        #[cfg(not(mesita_loom))]
        #[allow(unsafe_code)]
        unsafe {
            *self.0.get()
        }
        // SAFETY: as above; loom's cell reports the access that breaks it.
        #[cfg(mesita_loom)]
        #[allow(unsafe_code)]
        self.0.with(|word| unsafe { *word })
    }
}

impl Default for Word {
    fn default() -> Self {
        Self::new()
    }
}

/// True when the planted bug of that name is to be in force: only in loom's build, by the
/// environment variable `MESITA_MUTANT`, so that one build serves the whole board.
#[cfg(mesita_loom)]
pub(super) fn mutant(name: &str) -> bool {
    extern crate std;
    std::env::var("MESITA_MUTANT").is_ok_and(|mutant| mutant == name)
}

/// No bugs outside loom's build.
#[cfg(not(mesita_loom))]
pub(super) const fn mutant(_name: &str) -> bool {
    false
}
