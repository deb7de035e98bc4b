//! TLS: nobody on the way reads or changes what a connection carries.
//!
//! | file | concern |
//! |---|---|
//! | `outside` | servers of others, which authorities vouch for: dates count |
//! | `pin` | servers that are known by their key |
//! | `node` | the keys of nodes, and nodes among themselves |
//! | `transport` | how masters are reached |
//! | `made` | the authority of a new cluster, and what it signs |
//! | `served` | clients of the outside |
//! | `absent` | the same in a build without the feature `tls`: refused in a sentence |

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
pub(crate) mod made;
#[cfg(feature = "tls")]
mod node;
#[cfg(feature = "tls")]
mod outside;
#[cfg(feature = "tls")]
mod pin;
#[cfg(feature = "tls")]
mod served;
mod transport;

#[cfg(not(feature = "tls"))]
pub(crate) use absent::{Identity, Outside, Pin, Served, judge_authority, sign};
#[cfg(feature = "tls")]
pub(crate) use made::{judge_authority, sign};
#[cfg(feature = "tls")]
pub(crate) use node::Identity;
#[cfg(feature = "tls")]
pub(crate) use outside::Outside;
#[cfg(feature = "tls")]
pub(crate) use pin::Pin;
#[cfg(feature = "tls")]
pub(crate) use served::Served;
pub(crate) use transport::{Transport, Trust, reached};

/// For whom else the last certificate of a chain signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    /// For this cluster alone: it has the key of that.
    OfTheCluster,
    /// Nobody has said.
    OfWhomever,
}

/// Why a connection is none by TLS, and what to do about it.
#[derive(Debug)]
pub(crate) struct NoTls {
    pub(crate) says: String,
    pub(crate) fix: &'static str,
}

impl std::fmt::Display for NoTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.says)
    }
}

impl std::error::Error for NoTls {}

/// What is said of anything that needs TLS in a build that has none.
#[cfg(not(feature = "tls"))]
pub(crate) const ABSENT: &str = "needs TLS, which this build is without (Cargo's feature `tls`)";

/// Both directions of a stream of TLS.
#[cfg(feature = "tls")]
fn split(
    stream: impl futures_lite::AsyncRead + futures_lite::AsyncWrite + Unpin + 'static,
    ends: crate::conn::Ends,
) -> crate::conn::Pipe {
    let (reading, writing) = futures_lite::io::split(stream);
    crate::conn::Pipe { reading: Box::new(reading), writing: Box::new(writing), ends, proved: None }
}
