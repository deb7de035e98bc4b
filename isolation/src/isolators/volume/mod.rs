//! Isolators of what a task finds in places that it names.

pub(crate) mod image;
