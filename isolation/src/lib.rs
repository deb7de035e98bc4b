//! What holds a task on Linux: who is its parent, what it may use, what it can see.
//!
//! The [`keeper`], one small process per agent, is the parent of every task. It outlives the agent,
//! so no end of a task is ever lost; [`keeper::start`] finds or makes it before the agent's first
//! thread.
//!
//! # Layers, lowest first
//! | module | owns |
//! |---|---|
//! | [`sys`] | the kernel: the only `unsafe`, and the trait that isolators see |
//! | [`cgroups`] | hierarchies of v1, v2 and both; killing and removing what is in them |
//! | [`keeper`] | processes: launch, signal, end |
//! | [`machine`], [`sandbox`], [`user`] | what there is to offer; a task's directory; whom it runs as |
#![deny(unsafe_code)]

pub mod cgroups;
pub mod keeper;
pub mod machine;
pub mod sandbox;
pub mod sys;
#[cfg(test)]
mod testing;
mod tree;
pub mod user;
