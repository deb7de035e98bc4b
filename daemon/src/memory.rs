//! Memory that is taken once, at the start, and never given back.

use bytemuck::allocation::zeroed_slice_box;
use mesita_core::capacity::Lender;
use mesita_core::record::Zero;
use mesita_core::sync::{Consumer, Producer, Ring, Word};

/// Lends one zeroed allocation for each table: the kernel gives a page when it is first written.
#[derive(Debug)]
pub(crate) struct Pages;

impl Lender<'static> for Pages {
    fn lend<T: Zero + 'static>(&mut self, rows: u32) -> &'static mut [T] {
        Box::leak(zeroed_slice_box(rows as usize))
    }
}

/// A ring of at least `bytes` bytes, as its two ends.
pub(crate) fn ring(bytes: usize) -> (Producer<'static>, Consumer<'static>) {
    let words: &'static [Word] = Box::leak(zeroed_slice_box(bytes.div_ceil(8).next_power_of_two()));
    Box::leak(Box::new(Ring::new(words))).split()
}
