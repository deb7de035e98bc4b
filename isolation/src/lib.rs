//! What holds a task on Linux: who is its parent, what it may use, what it can see.
//!
//! Two things, which know nothing of each other and meet in an agent:
//!
//! - the [`keeper`], one small process per agent, is the parent of every task. It outlives the
//!   agent, so no end of a task is lost; [`keeper::start`] finds or makes it before the agent's
//!   first thread.
//! - [`Isolation`] is what this machine and this user can do to hold a task: [`isolators`], one
//!   file each, over the [`cgroups`] that are ours.
//!
//! # A task's way
//! [`user::resolve`] → [`sandbox::create`] → [`Isolation::prepare`] → [`Launch`] with what that
//! gave ([`Prepared::add_to`]) → `Launched` → … → `Ended` → [`Isolation::ended`] (which limit, if
//! any) → [`Isolation::kill`], [`Isolation::cleanup`] → a durable note of the agent's → `Forget`.
//!
//! To kill: [`Signal`](keeper::protocol::Request::Signal) with SIGTERM, after the grace
//! [`Isolation::kill`]; where that says [`Killed::AskKeeper`], `Signal` with SIGKILL.
//! When the keeper's stream ends, its tasks are lost: start a new one, and give what that lists as
//! [`Left`](keeper::protocol::Held::Left) to [`Isolation::kill_left`].
//!
//! # What holds without privilege
//! | | root | a user with a delegated cgroup | a user |
//! |---|---|---|---|
//! | CPU, memory, processes | yes | yes, on cgroup v2 | no |
//! | no more privileges, calls and writes than it needs | yes | yes | yes |
//! | processes and mounts of its own | yes | where user namespaces are allowed | the same |
//! | nothing is left of a task | yes | yes | in a namespace, else of its process group |
//! | another user | yes | no | no |
//!
//! # Layers, lowest first
//! | module | owns |
//! |---|---|
//! | [`sys`] | the kernel: the only `unsafe`, and the trait that isolators see |
//! | [`cgroups`] | hierarchies of v1, v2 and both; killing and removing what is in them |
//! | [`isolators`], [`Isolation`] | one aspect each; their order, and the life of a container |
//! | [`keeper`] | processes: launch, signal, end |
//! | [`machine`], [`sandbox`], [`user`] | what there is to offer; a task's directory, and its user |
//! | `held` | files that processes have open |
//! | [`volumes`] | directories that outlive tasks |
//! | [`own`] | directories of the agent's own, that nobody else put there |
//! | [`images`] | what tasks may stand on instead of the machine's own files |
//!
//! [`Launch`]: keeper::protocol::Launch
#![deny(unsafe_code)]

pub mod cgroups;
mod held;
mod host;
pub mod images;
mod isolation;
pub mod isolators;
pub mod keeper;
pub mod machine;
pub mod own;
pub mod sandbox;
pub mod sys;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod user;
pub mod volumes;
mod work_dir;

pub use isolation::{
    Degraded, Error, Isolation, Killed, NotHere, Options, Prepared, Recovered, Surveyed,
};
