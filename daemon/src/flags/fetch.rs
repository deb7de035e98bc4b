//! Flags of the fetcher.

use std::path::PathBuf;

use clap::Args;

use super::text::{Duration, Size};
use crate::agent::fetch::hdfs::Web;

/// What tasks bring into their sandboxes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Fetch {
    /// What the URIs of one task take, as they come and unpacked
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    pub(crate) fetcher_max_size: Size,
    /// How long fetching for one task may take
    #[arg(long, value_name = "DURATION", default_value = "15mins")]
    pub(crate) fetcher_timeout: Duration,
    /// How long a server may say nothing
    #[arg(long, value_name = "DURATION", default_value = "1mins")]
    pub(crate) fetcher_stall_timeout: Duration,
    /// What is kept of URIs with `cache`, until the agent starts again; the longest unused goes first
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    pub(crate) fetcher_cache_size: Size,
    /// Certificates of the authorities that vouch for https servers, as PEM [default: the machine's]
    #[arg(long, value_name = "FILE")]
    pub(crate) fetcher_ca_file: Option<PathBuf>,
    /// Where Hadoop is, whose bin/hadoop fetches hdfs:// [default: WebHDFS is asked]
    #[arg(long, value_name = "DIR")]
    pub(crate) hadoop_home: Option<PathBuf>,
    /// Where namenodes answer WebHDFS, for hdfs:// URIs, whose own port is for something else
    #[arg(long, value_name = "SCHEME:PORT", default_value = "http:9870")]
    pub(crate) fetcher_webhdfs: Web,
}
