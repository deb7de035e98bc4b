//! Isolators of what the kernel lets a task do.

mod calls;
pub(crate) mod capabilities;
pub(crate) mod filter;
pub(crate) mod landlock;
pub(crate) mod nnp;
mod profile;
pub(crate) mod seccomp;
pub(crate) mod set_ids;
pub(crate) mod truncate;
