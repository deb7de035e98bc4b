//! Flags of `mesita init`, `mesita token` and `mesita node`.

use clap::{Args, Subcommand};

use super::text::Duration;
use super::{Ls, Where};
use crate::access::tokens::NodeRole;

/// `mesita init`
#[cfg(feature = "tls")]
#[derive(Clone, Debug, Args)]
pub(crate) struct NewCluster {
    /// What the cluster is called
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Address by which other machines reach the first master, which is on this one [default: the only
    /// one that it has]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<std::net::IpAddr>,
    /// Its port
    #[arg(long, default_value_t = 5050)]
    pub(crate) port: u16,
    /// Where everything goes: keys, credentials, and what the master and the agent of this machine
    /// are started with [default: /var/lib/mesita/NAME, or below the home directory of a user that is
    /// not root]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<std::path::PathBuf>,
    /// Print what makes other machines agents at their first start, for cloud-init, and tell the rest on
    /// stderr
    #[arg(long)]
    pub(crate) cloud_init: bool,
}

/// `mesita token`
#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Make a token, and print it: masters keep no more of it than a proof needs
    Create(TokenCreate),
    /// List tokens: for how many more nodes, and for how long
    Ls(Ls),
    /// Let nobody join by a token any more; who has, stays
    Revoke(TokenOf),
}

/// `mesita token create`
#[derive(Clone, Debug, Args)]
pub(crate) struct TokenCreate {
    #[command(flatten)]
    pub(crate) at: Where,
    /// As what nodes may join by it
    #[arg(long, value_enum, default_value_t = NodeRole::Agent)]
    pub(crate) role: NodeRole,
    /// How many nodes may join by it
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) uses: u32,
    /// For how long, as leaders count
    #[arg(long, value_name = "DURATION", default_value = "1days")]
    pub(crate) expires: Duration,
}

/// `mesita token revoke`
#[derive(Clone, Debug, Args)]
pub(crate) struct TokenOf {
    #[command(flatten)]
    pub(crate) at: Where,
    /// The id of the token, or all of it
    pub(crate) id: String,
}

/// `mesita node`
#[derive(Debug, Subcommand)]
pub(crate) enum Nodes {
    /// List nodes that have joined
    Ls(Ls),
    /// Speak with a node no more, whatever it shows: it was lost or stolen
    Revoke(NodeOf),
}

/// `mesita node revoke`
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeOf {
    #[command(flatten)]
    pub(crate) at: Where,
    /// Which, as `mesita node ls` shows it: its key, or at least 8 digits of that, the id of its agent, or its
    /// host name where no other node has it
    pub(crate) node: String,
}
