//! Models of what threads share in `mesita_core::sync`; see `tests/` and `ci/loom`.
//!
//! It is read from the core's own files, with the little that it needs: loom walks all of it in a second, and the
//! rest of the core would be built for a minute to watch.
#![cfg(mesita_loom)]

#[macro_use]
#[path = "../../core/src/invariant.rs"]
mod invariant;
#[path = "../../core/src/mutant.rs"]
pub mod mutant;
#[path = "../../core/src/sync/mod.rs"]
pub mod sync;
#[path = "../../core/src/table/full.rs"]
pub mod table;

pub use invariant::stop;
