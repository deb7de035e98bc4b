//! Flags about container images.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::text::Size;

/// Where images come from, and how much of them is kept.
#[derive(Clone, Debug, Args)]
pub(crate) struct Images {
    /// Kinds of images that tasks may stand on: docker, which is OCI as well; none
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', default_value = "docker")]
    pub(crate) image_providers: Vec<Provider>,
    /// How layers become a root: overlayfs, or copies of all of them where the kernel has none
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Backend::Auto)]
    pub(crate) image_provisioner_backend: Backend,
    /// Directory of images, or http://HOST/PATH of one: NAME:TAG.tar of `docker save`, or a layout of
    /// OCI as NAME/ [default: images are named by paths of this machine alone]
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) docker_registry: Option<String>,
    /// Directory of unpacked images, which no two agents share [default: `images` in --work-dir]
    #[arg(long, value_name = "DIR")]
    pub(crate) docker_store_dir: Option<PathBuf>,
    /// Where a task that stands on an image finds its sandbox
    #[arg(long, value_name = "PATH", default_value = "/mnt/mesos/sandbox")]
    pub(crate) sandbox_directory: String,
    /// What all images take unpacked; the longest unused goes first
    #[arg(long, value_name = "SIZE", default_value = "8GiB")]
    pub(crate) image_store_max: Size,
    /// What is kept packed of images that `mesita pull` brought, for other agents; the longest unused goes
    /// first
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) image_blobs_max: Size,
    /// What one layer takes, as it comes and unpacked
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    pub(crate) image_layer_max: Size,
    /// Files in one layer
    #[arg(long, value_name = "NUMBER", default_value_t = 65_536)]
    pub(crate) image_entries_max: u64,
    /// How many times as large a layer may become by being unpacked
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub(crate) image_ratio_max: u64,
    /// Directories within each other in a layer
    #[arg(long, value_name = "NUMBER", default_value_t = 64)]
    pub(crate) image_depth_max: u64,
}

/// A kind of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Provider {
    /// Docker's and OCI's.
    Docker,
    /// Of no kind.
    None,
}

/// How layers become a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// As it is best here.
    Auto,
    /// By overlayfs.
    Overlay,
    /// By copies.
    Copy,
}
