//! Walls around a process, as an agent asks its keeper for them.
//!
//! postcard numbers variants by position: they are only appended. What a wall does is in `walls`.

use std::ffi::CString;

use serde::{Deserialize, Serialize};

/// Walls of one process.
pub const WALLS_MAX: usize = 96;
/// Layers of one root.
pub const LAYERS_MAX: usize = 64;

/// One wall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wall {
    /// A part of the host that it finds elsewhere.
    Bind(Bind),
    /// A root of its own. It has mounts and processes of its own.
    Root(Box<Root>),
    /// Layers of another image, where it asks for them.
    Volume {
        /// As those of a root; its sandbox is not looked at. Where it finds them: as a [`Bind`] says it.
        of: Box<Root>,
        /// It cannot write there; else what it writes goes with it.
        read_only: bool,
    },
}

/// What the root of a task is made of. Paths are absolute, and changed by nobody but root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The directory where it is put together.
    pub at: CString,
    /// The directory of layers,
    pub layers: CString,
    /// and the names of those that it has, the topmost first; none = `at` has all there is.
    pub lower: Vec<CString>,
    /// The directory that has what is written,
    pub upper: CString,
    /// and the one that this takes.
    pub work: CString,
    /// The sandbox.
    pub sandbox: CString,
    /// Where it finds that.
    pub to: CString,
}

/// A mount from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// An absolute path that nobody but root changes.
    pub root: CString,
    /// From there on: nothing leads out of the root, or through a file of `/proc`. Empty = all of it.
    pub from: CString,
    /// Where it finds it: a path below the sandbox, or where it works, in which no symbolic link is
    /// followed; in a root of its own any path, absolute or below the sandbox, in which links lead to
    /// nothing outside. Made if need be.
    pub to: CString,
    /// It cannot write there.
    pub read_only: bool,
}
