//! What masters must not forget, and how it lies on disk.
//!
//! All masters of a cluster keep one registry together; a single master keeps it alone, by the same
//! rules. What it holds is in [`body`] and [`rows`], who they are in [`meta`], how it lies on a disk
//! in [`store`]; who may change it is decided by [`election`](crate::election).

pub mod body;
pub mod cells;
pub mod meta;
pub mod rows;
pub mod store;

/// Why a file is not this master's registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// There is a file, and no copy in it is valid: all were damaged.
    Damaged,
    /// It was written by a later release.
    Newer,
    /// The disk did not answer.
    Disk,
}

impl core::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Damaged => {
                "all copies are damaged; to begin a new cluster, move the file away \
                 (agents keep their tasks and must be given the new cluster)"
            }
            Self::Newer => "it was written by a later release; use that one, or a new --work-dir",
            Self::Disk => "the disk failed; replace it, remove this master and add a new one",
        })
    }
}

impl core::error::Error for Unreadable {}
