//! Servers of others over TLS. Their certificates are vouched for by authorities of this machine or of
//! a file, and are for a time: that is for outside peers alone, never between nodes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_rustls::TlsConnector;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, ServerName};
use futures_rustls::rustls::client::danger::ServerCertVerifier;
use futures_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use futures_rustls::rustls::crypto::{CryptoProvider, ring};
use futures_rustls::rustls::version::TLS13;
use futures_rustls::rustls::{ALL_VERSIONS, CertificateError, ClientConfig, Error, RootCertStore};

use super::node::{Identity, PROTOCOL};
use super::pin::{Pin, Verifier};
use super::{NoTls, split};
use crate::clock;
use crate::conn::Pipe;

/// Where systems keep the authorities that they trust: Debian and Alpine, Fedora, SUSE, others.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Bytes of such a file; those of systems have a quarter of a MiB.
const BUNDLE_MAX: u64 = 4 << 20;
/// A clock before this has never been set: 2025-01-01, in µs.
const CLOCK_MIN_US: u64 = 1_735_689_600_000_000;
/// A mean year, in µs.
const YEAR_US: u64 = 31_556_952_000_000;

/// Authorities that vouch for servers of others.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    config: Arc<ClientConfig>,
    by: By,
}

/// By what servers are known.
#[derive(Clone, Debug)]
enum By {
    /// The authorities of a file, which a flag may name.
    Authorities { file: PathBuf, flag: &'static str },
    /// Their key.
    Pin,
    /// They are not.
    Nothing,
}

impl Outside {
    /// Reads the authorities of a file, else those of this machine, and blocks meanwhile; `flag` is
    /// what names another file. About 5 ms and 150 KiB for those of a system, so it is done when
    /// somebody needs it, and not kept for long.
    pub(crate) fn read(
        file: Option<&Path>,
        flag: &'static str,
        node: Option<&Identity>,
    ) -> Result<Self, String> {
        let here = || BUNDLES.iter().map(Path::new).find(|path| path.exists());
        let Some(file) = file.or_else(here) else {
            return Err(format!(
                "this machine has no certificates of authorities: install ca-certificates, or name a \
                 file of them by {flag}"
            ));
        };
        let at = |error: &dyn std::fmt::Display| format!("{flag} {}: {error}", file.display());
        let roots = roots(file).map_err(|error| at(&error))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.build().map_err(|error| at(&error))?;
        let by = By::Authorities { file: file.to_owned(), flag };
        Self::of(verifier, node, by).map_err(|error| at(&error))
    }

    /// A server that has this key, or one signed by it, whatever names and authorities there are.
    pub(crate) fn pinned(pin: Pin, node: Option<&Identity>) -> Result<Self, String> {
        let verifier = Verifier::new(Some(pin), provider().signature_verification_algorithms);
        Self::of(verifier, node, By::Pin).map_err(|error| error.to_string())
    }

    /// Any server, whatever it shows.
    pub(crate) fn anybody() -> Result<Self, String> {
        let verifier = Verifier::new(None, provider().signature_verification_algorithms);
        Self::of(verifier, None, By::Nothing).map_err(|error| error.to_string())
    }

    /// The same, for a node that has another key by now.
    pub(crate) fn shown_by(&self, node: &Identity) -> Self {
        let mut config = (*self.config).clone();
        config.client_auth_cert_resolver = node.resolver();
        Self { config: Arc::new(config), by: self.by.clone() }
    }

    /// `node` is who dials, to be known by its key: among nodes there is nothing older than TLS 1.3.
    fn of(
        verifier: Arc<dyn ServerCertVerifier>,
        node: Option<&Identity>,
        by: By,
    ) -> Result<Self, Error> {
        let versions = if node.is_some() { &[&TLS13][..] } else { ALL_VERSIONS };
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(versions)?.dangerous();
        let builder = builder.with_custom_certificate_verifier(verifier);
        let mut config = match node {
            Some(node) => builder.with_client_cert_resolver(node.resolver()),
            None => builder.with_no_client_auth(),
        };
        if node.is_some() {
            config.alpn_protocols = vec![PROTOCOL.to_vec()];
        }
        // A server is asked once.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), by })
    }

    /// Makes a connection one of TLS with the server that has this name or address.
    pub(crate) async fn wrap(&self, pipe: Pipe, host: &str) -> Result<Pipe, NoTls> {
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_| NoTls {
            says: format!("`{host}` is no host's name"),
            fix: "say https://HOST:PORT",
        })?;
        let ends = pipe.ends;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(name, pipe.join()).await;
        let stream = stream.map_err(|error| self.sentence(host, &error))?;
        Ok(split(stream, ends))
    }

    /// Why a server is not talked to.
    fn sentence(&self, host: &str, error: &io::Error) -> NoTls {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let why = match inner {
            Some(Error::InvalidCertificate(why)) => why,
            Some(Error::InvalidMessage(_)) => {
                let says = format!("{host} answers, but speaks no TLS there");
                return NoTls { says, fix: NO_MASTER };
            }
            Some(Error::AlertReceived(alert)) => {
                let says = format!("{host} refuses TLS ({alert:?}); perhaps it speaks none there");
                return NoTls { says, fix: NO_MASTER };
            }
            Some(_) | None => {
                let says = format!("no TLS with {host}: {error}");
                return NoTls { says, fix: "its log says more" };
            }
        };
        let what = match (kind(why), &self.by) {
            (Kind::Stranger, By::Authorities { file, flag }) => {
                format!("is by no authority in {}; {flag} names others", file.display())
            }
            (Kind::Over, _) => format!("has expired{}", clock_says(clock::wall_us())),
            (Kind::Early, _) => format!("is not valid yet{}", clock_says(clock::wall_us())),
            (Kind::Another, _) => "is another host's".to_owned(),
            (Kind::Bad, By::Pin) => "has another key than the one of --tls-pin, or of the token that this node has joined by"
                    .to_owned(),
            (Kind::Bad | Kind::Stranger, _) => format!("is refused: {why}"),
        };
        let fix = match (kind(why), &self.by) {
            (Kind::Stranger, By::Authorities { .. }) => {
                "--tls-ca-file is to name the authority of the masters, or --tls-pin their key"
            }
            (Kind::Over | Kind::Early, _) => {
                "look at `date` here, then renew the certificate there"
            }
            (Kind::Another, _) => "name the host as its certificate does",
            (_, By::Pin) => {
                "the token, --tls-pin or `meta/joined` of the work dir is of another cluster: give \
                 those of this one, and an empty --work-dir"
            }
            _ => "look at the --tls-cert-file there",
        };
        NoTls { says: format!("the certificate of {host} {what}"), fix }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What to do where nobody speaks TLS.
const NO_MASTER: &str = "is it a master of Mesita that has a --tls-cert-file, and that its --port?";

/// What is wrong with a certificate.
enum Kind {
    Stranger,
    Over,
    Early,
    Another,
    Bad,
}

fn kind(why: &CertificateError) -> Kind {
    use CertificateError as Why;
    // An authority of the same name with another key has signed nothing of it.
    if matches!(why, Why::UnknownIssuer | Why::BadSignature) {
        Kind::Stranger
    } else if matches!(why, Why::Expired | Why::ExpiredContext { .. }) {
        Kind::Over
    } else if matches!(why, Why::NotValidYet | Why::NotValidYetContext { .. }) {
        Kind::Early
    } else if matches!(why, Why::NotValidForName | Why::NotValidForNameContext { .. }) {
        Kind::Another
    } else {
        Kind::Bad
    }
}

/// What this machine's clock has to do with a date.
fn clock_says(now_us: u64) -> String {
    let year = 1970 + now_us / YEAR_US;
    if now_us < CLOCK_MIN_US {
        format!(" by the clock of this machine, which was never set: it is in {year}; set it first")
    } else {
        format!(", by the clock of this machine, which is in {year}")
    }
}

/// What a file of authorities has in it.
pub(super) fn bundle(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(BUNDLE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BUNDLE_MAX {
        return Err(io::Error::other(format!("is larger than {} MiB", BUNDLE_MAX >> 20)));
    }
    Ok(bytes)
}

/// The authorities of a file.
fn roots(file: &Path) -> io::Result<RootCertStore> {
    let bytes = bundle(file)?;
    let mut roots = RootCertStore::empty();
    // One that cannot be read vouches for nobody, and does not keep the others from it.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).flatten());
    if roots.is_empty() {
        return Err(io::Error::other("has no certificate (`-----BEGIN CERTIFICATE-----`) in it"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_what_is_said_of_a_date() {
        assert!(clock_says(0).contains("never set: it is in 1970; set it first"));
        assert_eq!(clock_says(CLOCK_MIN_US), ", by the clock of this machine, which is in 2025");
    }

    #[test]
    fn a_file_without_authorities_is_named_with_the_flag() {
        for (file, words) in [("/dev/null", "no certificate"), ("/no/such", "No such file")] {
            let why = Outside::read(Some(Path::new(file)), "--ca", None).unwrap_err();
            assert!(why.contains("--ca") && why.contains(file) && why.contains(words), "{why}");
        }
    }
}
