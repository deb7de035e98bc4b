//! Isolators that any Unix could have.

mod accounts;
pub(crate) mod cpu;
pub(crate) mod mem;
pub(crate) mod rlimits;
