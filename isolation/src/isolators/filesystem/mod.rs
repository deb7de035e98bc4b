//! Isolators of what a task sees of files.

pub(crate) mod linux;
