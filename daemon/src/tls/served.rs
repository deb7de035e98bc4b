//! Clients of the outside: this daemon's certificate and key, taken anew when their files change.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_rustls::TlsAcceptor;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_rustls::rustls::ServerConfig;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::server::NoServerSessionStorage;

use super::pin::Pin;
use super::split;
use crate::conn::Pipe;

/// Bytes of a certificate with its chain, and of a key.
const FILE_MAX: u64 = 1 << 20;

/// What a daemon shows clients of the outside. Mesos: LIBPROCESS_SSL_CERT_FILE and _KEY_FILE.
#[derive(Debug)]
pub(crate) struct Served {
    certificate: PathBuf,
    key: PathBuf,
    kept: RefCell<Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    config: Arc<ServerConfig>,
    pin: Pin,
    stamps: [Stamp; 2],
}

/// When a file was written, which it is, and its length: another one when it was replaced.
type Stamp = (i64, i64, u64, u64);

impl Served {
    /// Reads both files, or says what is wrong with them.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, String> {
        let kept = read(certificate, key)?;
        log::info!("clients may speak TLS, and know this daemon by --tls-pin {}", kept.pin);
        let kept = RefCell::new(kept);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), kept })
    }

    /// Takes a connection in; one step of the client costs about 0.1 ms.
    pub(crate) async fn accept(&self, pipe: Pipe) -> io::Result<Pipe> {
        self.renew();
        let acceptor = TlsAcceptor::from(Arc::clone(&self.kept.borrow().config));
        let ends = pipe.ends;
        Ok(split(acceptor.accept(pipe.join()).await?, ends))
    }

    /// Reads files that have changed; as long as those are no use, what was read before stays.
    fn renew(&self) {
        let before = self.kept.borrow().stamps;
        let now = [stamp(&self.certificate), stamp(&self.key)];
        let [Ok(certificate), Ok(key)] = now else { return };
        if before == [certificate, key] {
            return;
        }
        match read(&self.certificate, &self.key) {
            Ok(kept) => {
                log::info!("the certificate of this daemon is another one; its key {}", kept.pin);
                *self.kept.borrow_mut() = kept;
            }
            Err(why) => {
                log::warn!("the certificate stays as it was: {why}");
                // Said once for what is there.
                self.kept.borrow_mut().stamps = [certificate, key];
            }
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let of = path.metadata()?;
    Ok((of.mtime(), of.mtime_nsec(), of.ino(), of.size()))
}

fn read(certificate: &Path, key: &Path) -> Result<Kept, String> {
    const CERTIFICATE: &str = "--tls-cert-file";
    const KEY: &str = "--tls-key-file";
    let at = |flag: &str, path: &Path, error: &dyn std::fmt::Display| {
        format!("{flag} {}: {error}", path.display())
    };
    let of_certificate = |error: &dyn std::fmt::Display| at(CERTIFICATE, certificate, error);
    let of_key = |error: &dyn std::fmt::Display| at(KEY, key, error);
    let stamps = [
        stamp(certificate).map_err(|error| of_certificate(&error))?,
        stamp(key).map_err(|error| of_key(&error))?,
    ];
    if key.metadata().map_err(|error| of_key(&error))?.mode() & 0o007 != 0 {
        return Err(of_key(&"others can read or write it: chmod o= it"));
    }
    let text = bytes(certificate).map_err(|error| of_certificate(&error))?;
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().unwrap_or_default();
    let first = chain.first().ok_or_else(|| {
        of_certificate(&"has no certificate (`-----BEGIN CERTIFICATE-----`) in it")
    })?;
    let pin = Pin::of(first).map_err(|error| of_certificate(&error))?;
    let text = bytes(key).map_err(|error| of_key(&error))?;
    let private = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| of_key(&"has no private key in it (`-----BEGIN PRIVATE KEY-----`)"))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| of_key(&error))?;
    let config = builder.with_no_client_auth().with_single_cert(chain, private);
    let mut config = config.map_err(|error| of_key(&error))?;
    // Connections live long; what would shorten their begin takes memory for each.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Kept { config: Arc::new(config), pin, stamps })
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
