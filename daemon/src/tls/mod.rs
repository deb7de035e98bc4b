//! TLS: nobody on the way reads or changes what a connection carries.
//!
//! | file | concern |
//! |---|---|
//! | `outside` | servers of others, which authorities vouch for: dates count |
//! | `absent` | the same in a build without the feature `tls`: refused in a sentence |

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod outside;

#[cfg(not(feature = "tls"))]
pub(crate) use absent::Outside;
#[cfg(feature = "tls")]
pub(crate) use outside::Outside;

/// What is said of anything that needs TLS in a build that has none.
#[cfg(not(feature = "tls"))]
pub(crate) const ABSENT: &str = "needs TLS, which this build is without (Cargo's feature `tls`)";
