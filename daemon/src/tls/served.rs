//! Clients of the outside: this daemon's certificate and key, taken anew when their files change.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_rustls::LazyConfigAcceptor;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::server::{Acceptor, NoServerSessionStorage};
use futures_rustls::rustls::version::TLS13;
use futures_rustls::rustls::{ALL_VERSIONS, Error, ServerConfig};

use super::made::is_root;
use super::node::{AnyNode, PROTOCOL, key_of};
use super::pin::Pin;
use super::{Signer, split};
use crate::conn::Pipe;
use crate::secrets;

/// Bytes of a certificate with its chain, and of a key.
const FILE_MAX: u64 = 1 << 20;

/// What a daemon shows clients of the outside. Mesos: LIBPROCESS_SSL_CERT_FILE and _KEY_FILE.
#[derive(Debug)]
pub(crate) struct Served {
    certificate: PathBuf,
    key: PathBuf,
    signer: Signer,
    kept: RefCell<Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    /// For clients of the outside.
    outside: Arc<ServerConfig>,
    /// For nodes, which show their key.
    nodes: Arc<ServerConfig>,
    pin: Pin,
    anchor: Pin,
    stamps: [Stamp; 2],
}

/// When a file was written, which it is, and its length: another one when it was replaced.
type Stamp = (i64, i64, u64, u64);

impl Served {
    /// Reads both files, or says what is wrong with them.
    pub(crate) fn read(certificate: &Path, key: &Path, signer: Signer) -> Result<Self, String> {
        let kept = read(certificate, key, signer)?;
        log::info!("clients may speak TLS, and know this daemon by --tls-pin {}", kept.pin);
        let kept = RefCell::new(kept);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), signer, kept })
    }

    /// Takes a connection in; one step of the client costs about 0.1 ms.
    pub(crate) async fn accept(&self, pipe: Pipe) -> io::Result<Pipe> {
        self.renew();
        let ends = pipe.ends;
        let start = LazyConfigAcceptor::new(Acceptor::default(), pipe.join()).await?;
        let is_node =
            start.client_hello().alpn().is_some_and(|mut all| all.any(|of| of == PROTOCOL));
        let config = {
            let kept = self.kept.borrow();
            Arc::clone(if is_node { &kept.nodes } else { &kept.outside })
        };
        let stream = start.into_stream(config).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|all| all.first());
        let proved = shown.and_then(|shown| key_of(shown));
        Ok(Pipe { proved, ..split(stream, ends) })
    }

    /// SHA-256 of the key by which nodes know the masters: that of the authority behind this daemon's
    /// certificate, where that is the cluster's own or a root, else this daemon's own. An authority in
    /// between signs for others, too, and each of them could pass for a master.
    pub(crate) fn anchor(&self) -> Pin {
        self.kept.borrow().anchor
    }

    /// Reads files that have changed; as long as those are no use, what was read before stays.
    fn renew(&self) {
        let before = self.kept.borrow().stamps;
        let now = [stamp(&self.certificate), stamp(&self.key)];
        let [Ok(certificate), Ok(key)] = now else { return };
        if before == [certificate, key] {
            return;
        }
        match read(&self.certificate, &self.key, self.signer) {
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

fn read(certificate: &Path, key: &Path, signer: Signer) -> Result<Kept, String> {
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
    secrets::check(key).map_err(|why| of_key(&why))?;
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
    let vouches = |last: &&CertificateDer<'_>| signer == Signer::OfTheCluster || is_root(last);
    let anchor = chain.last().filter(vouches).map_or(Ok(pin), Pin::of);
    let anchor = anchor.map_err(|error| of_certificate(&error))?;
    let configs = configs(chain, &private).map_err(|error| of_key(&error))?;
    let [outside, nodes] = configs.map(Arc::new);
    Ok(Kept { outside, nodes, pin, anchor, stamps })
}

/// How clients of the outside are spoken with, and how nodes.
fn configs(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<[ServerConfig; 2], Error> {
    let provider = Arc::new(ring::default_provider());
    let any_node = Arc::new(AnyNode(provider.signature_verification_algorithms));
    let builder = |versions| {
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)
    };
    let outside = builder(ALL_VERSIONS)?.with_no_client_auth();
    let outside = outside.with_single_cert(chain.clone(), key.clone_key())?;
    let nodes = builder(&[&TLS13])?.with_client_cert_verifier(any_node);
    let nodes = nodes.with_single_cert(chain, key.clone_key())?;
    let http = [&b"http/1.1"[..], b"http/1.0"];
    Ok([(outside, &http[..]), (nodes, &[PROTOCOL])].map(|(mut config, protocols)| {
        // Connections live long; what would shorten their begin takes memory for each.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    }))
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pin::Verifier;
    use futures_rustls::pki_types::{ServerName, UnixTime};
    use futures_rustls::rustls::client::danger::ServerCertVerifier;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn authority(name: &str) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        (params, KeyPair::generate().unwrap())
    }

    #[test]
    fn an_authority_in_between_vouches_for_no_master_unless_it_is_the_clusters_own() {
        let (params, key) = authority("a root");
        let root = params.self_signed(&key).unwrap();
        let by_root = Issuer::new(params, key);
        let (params, key) = authority("for all the world");
        let between = params.signed_by(&key, &by_root).unwrap();
        let by_between = Issuer::new(params, key);
        let server = |host: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            (params.signed_by(&key, &by_between).unwrap(), key)
        };
        let ((own, own_key), (other, _)) = (server("master.example"), server("mallory.example"));
        let directory = std::env::temp_dir().join(format!("mesita-served-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let [chain, key] = ["chain", "key"].map(|name| directory.join(name));
        fs::write(&key, own_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let anchor = |texts: &[String], signer: Signer| {
            fs::write(&chain, texts.concat()).unwrap();
            Served::read(&chain, &key, signer).unwrap().anchor()
        };
        let short = [own.pem(), between.pem()];
        let long = [own.pem(), between.pem(), root.pem()];
        let pin = |of: &rcgen::Certificate| Pin::of(of.der()).unwrap();
        assert_eq!(anchor(&short, Signer::OfWhomever), pin(&own));
        assert_eq!(anchor(&short, Signer::OfTheCluster), pin(&between));
        assert_eq!(anchor(&long, Signer::OfWhomever), pin(&root));
        assert_eq!(anchor(&short[..1], Signer::OfWhomever), pin(&own));
        // Who has a certificate of the same authority is no master by that.
        let known = |signer: Signer, shown: &rcgen::Certificate| {
            let algorithms = ring::default_provider().signature_verification_algorithms;
            let verifier = Verifier::new(Some(anchor(&short, signer)), algorithms);
            let name = ServerName::try_from("master.example").unwrap();
            let chain = [between.der().clone()];
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_767_225_600));
            verifier.verify_server_cert(shown.der(), &chain, &name, &[], now).is_ok()
        };
        assert!(known(Signer::OfWhomever, &own) && !known(Signer::OfWhomever, &other));
        fs::remove_dir_all(directory).unwrap();
    }
}
