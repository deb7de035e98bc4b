//! That nothing is allocated after the start, counted by an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::allocation::{Size, tell_one, usual};

/// The system's allocator, which counts how often it is asked for memory.
#[derive(Debug)]
pub struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is the system's; only a number is counted beside it.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Decisions, declines, suppressions and changes of weights, and how often memory was asked for.
///
/// # Panics
/// When it was asked for at all.
pub(crate) fn run(size: Size) {
    let (agents, frameworks) = if size.quick { (100, 10) } else { (1_000, 200) };
    let mut stage = usual(agents, frameworks);
    // What is out is kept in a list of the bench's own, which grows once.
    stage.cycle();
    while stage.give_back(false) {}
    let before = ASKED.load(Ordering::Relaxed);
    for round in 0..20usize {
        stage.cycle();
        stage.suppress(round % 7);
        while stage.give_back(round % 3 == 0) {}
        stage.revive(round % 7);
        stage.weigh("*", 1_001 + u32::try_from(round).unwrap_or(0));
    }
    let asked = ASKED.load(Ordering::Relaxed) - before;
    tell_one("a5", "allocations in 20 cycles", [agents, frameworks], "allocations", asked);
    assert_eq!(asked, 0, "the allocator allocates");
}
