//! Images of containers: kept by their content, unpacked without trust, and stood upon.
//!
//! An image is a list of layers and a few words on how to run it. It comes as a directory of the OCI
//! image layout, or as a tar of `docker save`; where that comes from is the caller's business. Each
//! layer is unpacked once, into a directory named by the digest of its contents, in the form that
//! overlayfs takes; containers share these. Nothing that an image says is believed: digests are
//! compared, sizes have bounds, and what a layer is unpacked through are descriptors of its own
//! directory, below which the kernel keeps every path.
//!
//! | file | concern |
//! |---|---|
//! | `blobs` | content as it comes, by its digest, for others and for later |
//! | `digest` | what content is known by |
//! | `name` | what images are called |
//! | `tape` | reading a tar, entry by entry, in bounded memory |
//! | `packing` | gzip, zstd, neither; what comes out of them has bounds |
//! | `unpack` | a layer becomes a directory |
//! | `documents` | manifests and configurations |
//! | `source` | a layout in a directory, an archive: where documents and layers are read from |
//! | `store` | what is kept, for how long, and who needs it |
//! | `provision` | what a container stands on, above its layers |
//!
//! Sources: OCI image specification 1.1 (layout, layer, manifest, config); Mesos: `provisioner/docker`.

#[cfg(any(test, fuzzing))]
pub mod any_layer;
mod blobs;
mod digest;
mod documents;
mod name;
mod packing;
mod provision;
mod source;
mod store;
mod tape;
mod unpack;

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::sys::Failure;

pub use blobs::Blobs;
pub use digest::Digest;
pub use documents::{Config, Led, Platform, Wanted, layers_of, led, wanted};
pub use name::{BadName, Name, Place};
pub use provision::{Backend, Provisioner, Stands};
pub use source::Source;
pub use store::{Image, Lacks, Layer, Pruned, Store, Usage};

/// How much an image may be. Each is a flag of the agent's, which a refusal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all layers that are kept, unpacked (`--image-store-max`).
    pub store_bytes: u64,
    /// Bytes of all that is kept of images as it comes (`--image-blobs-max`).
    pub blob_bytes: u64,
    /// Bytes of one layer, as it comes and as a tar (`--image-layer-max`).
    pub layer_bytes: u64,
    /// Entries of one layer (`--image-entries-max`).
    pub entries: u64,
    /// How many times as large a layer may become by being unpacked (`--image-ratio-max`).
    pub ratio: u64,
    /// Directories on the way to a file of a layer (`--image-depth-max`).
    pub depth: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        let (store_bytes, blob_bytes, layer_bytes) = (8 << 30, 1 << 30, 2 << 30);
        Self { store_bytes, blob_bytes, layer_bytes, entries: 65_536, ratio: 100, depth: 64 }
    }
}

/// Layers of one image. Docker: the same.
pub const LAYERS_MAX: usize = 127;
/// Bytes of a manifest, an index or a configuration.
pub const DOCUMENT_MAX: u64 = 1 << 20;

/// Why an image cannot be had. Prints as what a person can do something about.
#[derive(Debug)]
pub enum Error {
    /// A call failed.
    Os(Failure),
    /// Reading failed.
    Read(io::Error),
    /// It is not where it was looked for.
    Missing(String),
    /// Something of it cannot be understood.
    Malformed(String),
    /// Content is not what its name says.
    Digest {
        /// What should be there.
        expected: Digest,
        /// What is.
        found: Digest,
    },
    /// It is more than a bound allows.
    Over {
        /// What of it.
        what: &'static str,
        /// The flag of the bound.
        flag: &'static str,
        /// The bound.
        max: u64,
    },
    /// An entry of a layer.
    Entry {
        /// Its path, as far as it can be shown.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is for other machines.
    Platform(String),
    /// Another process has the store.
    Taken(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(failure) => failure.fmt(f),
            Self::Read(error) => write!(f, "the image cannot be read: {error}"),
            Self::Missing(what) => write!(f, "there is no {what}"),
            Self::Malformed(why) => f.write_str(why),
            Self::Digest { expected, found } => {
                write!(f, "what should be {expected} is {found}: it was changed or cut off")
            }
            Self::Over { what, flag, max } => write!(f, "{what} more than the {max} of {flag}"),
            Self::Entry { path, why } => write!(f, "a layer of the image has `{path}`, {why}"),
            Self::Platform(why) => f.write_str(why),
            Self::Taken(path) => write!(
                f,
                "another agent uses {}; give this one another --docker-store-dir",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Os(failure)
    }
}

/// What a reader of ours refused comes back as that.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) => Self::Read(error),
        }
    }
}

/// So that a reader can refuse.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

fn malformed(why: impl Into<String>) -> Error {
    Error::Malformed(why.into())
}
