//! Who lends the memory, and how much of it.

use crate::record::Zero;

/// Lends zeroed memory for as long as `'a`. A daemon takes pages, a microcontroller its statics.
pub trait Lender<'a> {
    /// `rows` rows, all zero.
    fn lend<T: Zero>(&mut self, rows: u32) -> &'a mut [T];
}
