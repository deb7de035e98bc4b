//! Isolators that any Unix could have.

pub(crate) mod accounts;
pub(crate) mod cpu;
pub(crate) mod mem;
pub(crate) mod rlimits;
