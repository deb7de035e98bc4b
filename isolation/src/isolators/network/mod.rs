//! Isolators of what a task may do on the network.

pub(crate) mod none;
pub(crate) mod ports;
