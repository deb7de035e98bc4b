//! Isolators of how much room a task takes.

pub(crate) mod du;
pub(crate) mod quota;
