//! Isolators that any Unix could have.

pub(crate) mod rlimits;
