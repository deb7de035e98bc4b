//! Authorities of a test, and servers that they vouch for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};

use crate::world::World;

/// Both directions of a connection.
pub(crate) trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// How a server takes connections in.
#[derive(Clone)]
pub(crate) enum Speaks {
    Plain,
    Tls(Arc<ServerConfig>),
}

impl Speaks {
    /// A connection as the server reads and writes it.
    pub(crate) fn over(&self, stream: TcpStream) -> Box<dyn Stream> {
        match self {
            Self::Plain => Box::new(stream),
            Self::Tls(config) => {
                let server = ServerConnection::new(Arc::clone(config)).unwrap();
                Box::new(StreamOwned::new(server, stream))
            }
        }
    }

    /// Its scheme.
    pub(crate) fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls(_) => "https",
        }
    }
}

/// Somebody who vouches for servers.
pub(crate) struct Authority {
    /// Its certificate.
    pub(crate) file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(world: &World, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // All of them are called so: a name is no key.
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        let file = world.path(&format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { file, issuer: Issuer::new(params, key) }
    }

    /// Its certificate, as a flag's value.
    pub(crate) fn flag(&self) -> &str {
        self.file.to_str().unwrap()
    }

    /// A server of this host, with a certificate for these years.
    pub(crate) fn server(&self, host: &str, years: std::ops::Range<i32>) -> Speaks {
        let (signed, key) = self.signed(host, years);
        let chain = vec![CertificateDer::from(signed.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Speaks::Tls(Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap()))
    }

    /// New files of a certificate for this host with its chain, and of its key.
    pub(crate) fn files(&self, world: &World, host: &str) -> [String; 2] {
        self.files_of(world, host, 2020..2100)
    }

    /// The same for these years.
    pub(crate) fn files_of(
        &self,
        world: &World,
        host: &str,
        years: std::ops::Range<i32>,
    ) -> [String; 2] {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (signed, key) = self.signed(host, years);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let chain = signed.pem() + &std::fs::read_to_string(&self.file).unwrap();
        [("certificate", chain), ("key", key.serialize_pem())].map(|(kind, text)| {
            let path = world.path(&format!("{number}.{kind}"));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            path.to_str().unwrap().to_owned()
        })
    }

    /// Shakes hands with a port as somebody who speaks these versions alone, for this protocol: what came of it.
    pub(crate) fn shakes(
        &self,
        port: u16,
        versions: &[&'static SupportedProtocolVersion],
        protocol: &[u8],
    ) -> std::io::Result<()> {
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_file(&self.file).unwrap();
        roots.add(trusted).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20)))?;
        while client.is_handshaking() {
            client.complete_io(&mut stream)?;
        }
        Ok(())
    }

    fn signed(&self, host: &str, years: std::ops::Range<i32>) -> (Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}
