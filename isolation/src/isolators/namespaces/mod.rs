//! Isolators that are namespaces.

pub(crate) mod pid;
