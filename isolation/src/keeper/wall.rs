//! Walls around a process, as an agent asks its keeper for them.
//!
//! postcard numbers variants by position: they are only appended. What a wall does is in `walls`;
//! they are put up in the order of `Walls::part`, `before_user`, `after_user` and `last` there,
//! whatever the order in which they are asked for.

use std::ffi::CString;

use mesita_core::wire::ContainerId;
use serde::{Deserialize, Serialize};

use super::protocol::Step;

/// Walls of one process.
pub const WALLS_MAX: usize = 96;
/// Instructions of a filter of system calls. Linux: `BPF_MAXINSNS`.
pub const FILTER_MAX: usize = 4096;
/// Bytes of a name of a host. Linux: `__NEW_UTS_LEN`.
pub const HOSTNAME_MAX: usize = 64;

/// Directories of one [`Wall::Closed`], pinned or kept.
pub const KEPT_MAX: usize = 512;
/// Ports of one task.
pub const PORTS_MAX: usize = 8192;
/// Bytes of a secret.
pub const SECRET_MAX: usize = 64 * 1024;

/// One wall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wall {
    /// System V objects and POSIX queues of its own.
    Ipc,
    /// A name of the host of its own; empty = the host's, which it cannot change.
    Uts {
        /// At most [`HOSTNAME_MAX`] bytes.
        hostname: CString,
    },
    /// It sees its own cgroup as the topmost, and no other.
    Cgroup,
    /// No network but a loopback of its own.
    Network,
    /// A path that is empty for it, if it is there.
    Hidden {
        /// Absolute.
        path: CString,
    },
    /// A path, with all that is mounted below it, which it cannot write to.
    ReadOnly {
        /// Absolute.
        path: CString,
    },
    /// A part of the host that it finds elsewhere, or in another way.
    Bind(Bind),
    /// What it may do of what only root may.
    Capabilities {
        /// What it can ever get, a bit for each by the kernel's number.
        bounding: u64,
        /// What it has, whoever it is.
        effective: u64,
    },
    /// It may write below these directories alone, and make no connection to abstract sockets of
    /// others. Where the kernel knows no such rule, there is none. Grants it no privilege later.
    Landlock {
        /// Absolute; one that is not there is left out. `.` = where it works.
        writable: Vec<CString>,
    },
    /// A filter of its system calls. Grants it no privilege later.
    Seccomp {
        /// At most [`FILTER_MAX`] instructions; each as `code | jt << 16 | jf << 24 | k << 32`.
        program: Vec<u64>,
    },
    /// A file in memory that its user alone may read.
    Secret {
        /// Where it finds it, as that of a [`Bind`].
        to: CString,
        /// At most [`SECRET_MAX`] bytes.
        data: Vec<u8>,
    },
    /// It listens on these TCP ports, and on those that the kernel picks, and on no other. Grants it
    /// no privilege later.
    Ports {
        /// From and to; at most [`PORTS_MAX`] together.
        held: Vec<(u16, u16)>,
    },
    /// A root of its own. What else is mounted, hidden or made read-only is so in that; it has mounts
    /// and processes of its own.
    Root(Box<Root>),
    /// Layers of another image, where it asks for them. It has mounts of its own.
    Volume {
        /// As those of a root; its sandbox is not looked at. Where it finds them: as a [`Bind`] says it.
        of: Box<Root>,
        /// It cannot write there; else what it writes goes with it.
        read_only: bool,
    },
    /// A directory in which it finds nothing but where it works, and what is kept. It has mounts of its
    /// own.
    Closed {
        /// Absolute.
        path: CString,
        /// Directories that lead there, the outermost first, which it cannot move away.
        pinned: Vec<CString>,
        /// Absolute; those that are not there, or elsewhere, are left out.
        kept: Vec<CString>,
    },
    /// Shared memory of its own, in `/dev/shm`. It has mounts of its own.
    Shm {
        /// The most that is in there.
        bytes: u64,
    },
    /// Devices that are its user's alone, in a root of its own.
    Devices {
        /// At most [`NODES_MAX`].
        nodes: Vec<Node>,
    },
    /// Users of its own: itself and its groups, as they are outside, and nobody else. What it may do
    /// of what only root may it may do to them alone.
    Users,
    /// A network of its own, linked to the host's.
    Link(Link),
    /// Of a process beside a task: processes of its own within the task's, and mounts of its own for a
    /// `/proc` that shows them. All of them end with it.
    Processes,
    /// Of a task that has processes of its own: it has them in common with all tasks that say the same.
    Group {
        /// What they are all inside of, which may have no process.
        of: ContainerId,
    },
    /// What it finds of the machine's own files, in mounts of its own, where it has no other root.
    Host(Host),
    /// Of a task behind walls of this kind, which has mounts and users of its own or not: what is behind
    /// them it has in common with all tasks that say the same, and the first makes it.
    Common {
        /// What they are all inside of, which may have no process.
        of: ContainerId,
        /// What it is.
        kind: Kind,
    },
}

/// What tasks may have in common, each by a wall around all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// That of [`Wall::Ipc`], and of [`Wall::Shm`], which is as large as the largest of them says.
    Ipc,
    /// That of [`Wall::Uts`].
    Uts,
    /// That of [`Wall::Network`].
    Network,
}

/// Places of each sort in one [`Host`].
pub const PLACES_MAX: usize = 512;

/// The machine's own files, for who stands on them. Paths are absolute; one that is not there is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// It changes nothing, neither files nor what the kernel knows about them, but below these, where it
    /// works, what is mounted for it, in `/proc`, and in what of `/dev` is no device. Where the kernel is
    /// older than Linux 5.12 nothing is kept from it.
    pub writable: Vec<CString>,
    /// Directories in which it finds nothing else than what it was given. One that is a link is left out.
    pub hidden: Vec<CString>,
    /// What it finds there all the same, and only reads.
    pub shown: Vec<CString>,
}

/// Bytes of the name of an interface. Linux: `IFNAMSIZ`.
pub const LINK_MAX: usize = 15;

/// A link between the network of a task, where it is `eth0`, and the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// How the host finds its end called: at most [`LINK_MAX`] bytes.
    pub name: CString,
    /// The address of the host's end,
    pub host: [u8; 4],
    /// and of the task's: the two differ in their last bit.
    pub own: [u8; 4],
    /// Bytes that come to the task in a second; 0 = as many as there are.
    pub ingress: u64,
    /// Bytes that leave it.
    pub egress: u64,
}

/// Names of devices in one root.
pub const NODES_MAX: usize = 128;
/// Each is found by its own name and by the one that was asked for, which may be a link.
const _: () = assert!(NODES_MAX == 2 * crate::isolators::DEVICES_MAX);

/// A device in a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Below `/dev`.
    pub path: CString,
    /// A block device; else a character device.
    pub block: bool,
    /// Its numbers.
    pub major: u32,
    /// Its numbers.
    pub minor: u32,
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

/// Layers of one root.
pub const LAYERS_MAX: usize = 64;

/// A mount from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// An absolute path that nobody but root changes.
    pub root: CString,
    /// From there on: nothing leads out of the root, or through a file of `/proc`. Empty = all of it.
    pub from: CString,
    /// Where it finds it: an absolute path that is there, or one below where it works, made if need
    /// be, in which no symbolic link is followed.
    pub to: CString,
    /// It cannot write there.
    pub read_only: bool,
}

impl Wall {
    /// What is mounted by it, if it may be that there is nothing to be mounted, or nowhere to.
    pub(super) fn volume(&self) -> Option<String> {
        if let Self::Secret { to, .. } = self {
            return Some(format!("`{}`", to.to_string_lossy().escape_debug()));
        }
        let Self::Bind(Bind { root, from, to, .. }) = self else { return None };
        let [root, from, to] = [root, from, to].map(|path| path.to_string_lossy());
        let of = std::path::Path::new(&*root).join(&*from).display().to_string();
        Some(format!("`{}` of `{}`", to.escape_debug(), of.trim_end_matches('/').escape_debug()))
    }

    /// The step that fails if this does.
    pub(super) const fn step(&self) -> Step {
        match self {
            Self::Ipc | Self::Processes | Self::Group { .. } => Step::Clone,
            Self::Common { .. } => Step::Inside,
            Self::Uts { .. } => Step::Hostname,
            Self::Cgroup => Step::CgroupView,
            Self::Network => Step::Loopback,
            Self::Hidden { .. } | Self::Closed { .. } => Step::Hidden,
            Self::ReadOnly { .. } => Step::ReadOnly,
            Self::Bind(_) | Self::Secret { .. } => Step::Bind,
            Self::Capabilities { .. } => Step::Capabilities,
            Self::Landlock { .. } | Self::Ports { .. } => Step::Landlock,
            Self::Seccomp { .. } => Step::Seccomp,
            Self::Root(_) | Self::Volume { .. } => Step::Layers,
            Self::Shm { .. } | Self::Devices { .. } => Step::Furnish,
            Self::Users => Step::Users,
            Self::Link(_) => Step::Link,
            Self::Host(_) => Step::ReadOnly,
        }
    }
}
