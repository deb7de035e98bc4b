//! Isolators of other mechanisms of Linux.

pub(crate) mod nnp;
