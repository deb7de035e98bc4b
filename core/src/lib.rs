//! The deterministic core of Mesita: who may have what, who decides, and what is said about it.
//!
//! Read in this order: [`limits`] (what a message may hold), [`wire`] (every message), [`table`],
//! [`slab`] and [`names`] (memory lent by the caller), [`resources`] (amounts in thousandths), then
//! the machines.
//!
//! # One way through
//! bytes → [`wire::frame`] → a head → `step` → one `match` → a handler → its parts → the outbox →
//! bytes. Nothing here calls back, blocks, allocates, reads a clock or draws a random number: time
//! and seed are inputs, and the same inputs give the same outputs, byte for byte, on every target.
//!
//! # Layers, lowest first
//! | module | owns |
//! |---|---|
//! | [`time`], [`rand`], [`digest`], [`image`] | µs, seeded chance, what two runs must agree on |
//! | [`table`], [`slab`], [`names`], [`capacity`] | bounded memory that the caller lends |
//! | [`resources`] | kinds, identities, amounts, ranges and sets, and their text form |
//! | [`allocator`] | who may have what |
//! | [`doors`], [`acls`] | who may do what |
//! | [`wire`] | frames and every message, with the check of each field |
//! | [`registry`], [`election`] | what is durable and how it lies on disk; who leads |
//! | [`mutant`] | bugs planted by tests, which simulations must find; nothing of it ships |
//! | [`sync`] (feature) | the rings between threads: the only `unsafe` in this crate |
#![no_std]
#![warn(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::std_instead_of_core,
    clippy::float_arithmetic
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::cast_possible_truncation,
        clippy::wildcard_enum_match_arm
    )
)]

#[cfg(test)]
extern crate std;

#[macro_use]
mod invariant;
#[macro_use]
pub mod record;

pub mod acls;
pub mod agent;
pub mod allocator;
pub mod capacity;
pub mod digest;
pub mod doors;
pub mod drive;
pub mod election;
pub mod image;
pub mod index;
pub mod limits;
pub mod master;
pub mod mutant;
pub mod names;
pub mod rand;
mod refusal;
pub mod registry;
pub mod resources;
pub mod scheduler;
pub mod slab;
#[cfg(feature = "sync")]
pub mod sync;
pub mod table;
#[cfg(test)]
mod testing;
pub mod time;
pub mod timers;
pub mod wire;

pub use invariant::stop;
pub use refusal::Refusal;
