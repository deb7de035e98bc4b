//! Flags of TLS.

use std::path::PathBuf;

use clap::Args;

use crate::tls::{Pin, Trust};

/// What a daemon shows clients of the outside.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shown {
    /// Certificate that clients see, with its chain, as PEM; taken anew when the file changes. With
    /// it other machines must speak TLS
    #[arg(long, value_name = "FILE", requires = "tls_key_file")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// The private key of that, as PEM, which only its owner reads
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_key_file: Option<PathBuf>,
}

/// By what masters at https:// are known.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Trusted {
    /// Certificates of the authorities that vouch for masters at https://, as PEM [default: the
    /// machine's]
    #[arg(long, value_name = "FILE", env = "MESITA_TLS_CA_FILE")]
    pub(crate) tls_ca_file: Option<PathBuf>,
    /// The key of masters at https://, as they log it: then neither authorities, names nor dates count
    #[arg(long, value_name = "HEX", env = "MESITA_TLS_PIN", conflicts_with = "tls_ca_file")]
    pub(crate) tls_pin: Option<Pin>,
}

impl Trusted {
    /// The same, for who dials.
    pub(crate) fn trust(&self) -> Trust<'_> {
        Trust { ca_file: self.tls_ca_file.as_deref(), pin: self.tls_pin, ..Trust::default() }
    }
}
