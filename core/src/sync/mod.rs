//! What two threads share: a [`ring`] of records in each direction, and the [`doorbell`] that ends
//! a sleep.
//!
//! The only `unsafe` of this crate is here, two accesses of a word; every interleaving of it is
//! walked by loom (`loom-tests/`, with a script of planted bugs that it must find). One producer,
//! one consumer, no compare-and-swap, no 64-bit atomics.

pub mod doorbell;
mod prim;
pub mod ring;

pub use doorbell::Doorbell;
pub use prim::Word;
pub use ring::{Consumer, Producer, Ring};
