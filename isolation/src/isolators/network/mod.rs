//! Isolators of what a task may do on the network.

pub(crate) mod bandwidth;
pub(crate) mod none;
pub(crate) mod ports;
