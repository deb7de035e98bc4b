//! What it takes to judge Mesita from outside: a cluster of real processes, and what the kernel
//! says of them. The figures themselves are printed by `mesita-benches`.

// It watches from outside, with the clock of whoever reads the figures.
#![allow(clippy::disallowed_methods)]

mod accept;
pub mod allocation;
pub mod cluster;
pub mod codec;
pub mod failover;
pub mod footprint;
mod heap;
pub mod idle;
pub mod launches;
pub mod load;
mod mesos;
pub mod reregister;
pub mod resident;
pub mod results;
mod says;
mod set;

pub use heap::Counting;

pub mod stage;
pub mod tls;
