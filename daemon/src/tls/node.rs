//! Nodes among themselves: TLS 1.3 in which who dials shows the key of its work directory, by itself
//! (RFC 7250): there is no certificate that could run out, and no name that could change.

use std::fmt;
use std::sync::Arc;

use futures_rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, UnixTime,
};
use futures_rustls::rustls::client::AlwaysResolvesClientRawPublicKeys;
use futures_rustls::rustls::client::danger::HandshakeSignatureValid;
use futures_rustls::rustls::crypto::ring::sign::any_eddsa_type;
use futures_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use futures_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use futures_rustls::rustls::sign::CertifiedKey;
use futures_rustls::rustls::{
    DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
};

/// What a node asks for when it says hello, so that it is asked for its key.
pub(super) const PROTOCOL: &[u8] = b"mesita/1";
/// What comes before the 32 bytes of an Ed25519 key: secret (RFC 8410 §7)...
const SECRET: [u8; 16] = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
/// ...and public (RFC 8410 §4).
const PUBLIC: [u8; 12] = [48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0];

/// The key of a node, by which it proves who it is.
#[derive(Clone)]
pub(crate) struct Identity {
    key: [u8; 32],
    shown: Arc<CertifiedKey>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// The key that a secret of 32 bytes makes (RFC 8032 §5.1.5).
    pub(crate) fn of(secret: &[u8; 32]) -> Result<Self, String> {
        let bytes = [&SECRET[..], secret].concat();
        let signing = any_eddsa_type(&PrivatePkcs8KeyDer::from(bytes));
        let signing = signing.map_err(|error| error.to_string())?;
        let public = signing.public_key().ok_or("a key without its public half")?;
        let key = key_of(&public).ok_or("a key that is none of Ed25519")?;
        let shown = CertificateDer::from(public.to_vec());
        Ok(Self { key, shown: Arc::new(CertifiedKey::new(vec![shown], signing)) })
    }

    /// The public half, by which everybody knows the node.
    pub(crate) fn key(&self) -> [u8; 32] {
        self.key
    }

    pub(super) fn resolver(&self) -> Arc<AlwaysResolvesClientRawPublicKeys> {
        Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.shown)))
    }
}

/// The key in what a node has shown.
pub(super) fn key_of(shown: &[u8]) -> Option<[u8; 32]> {
    shown.strip_prefix(&PUBLIC)?.try_into().ok()
}

/// Takes any node that proves to have the key it shows; who that is, is looked at after.
#[derive(Debug)]
pub(super) struct AnyNode(pub(super) WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyNode {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let known = key_of(end_entity).map(|_| ClientCertVerified::assertion());
        known.ok_or_else(|| Error::General("the key of a node is one of Ed25519".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_makes_the_key_that_the_rfc_says() {
        let hex = |text: &str| {
            let byte = |at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
            std::array::from_fn::<u8, 32, _>(byte)
        };
        // RFC 8032 §7.1, test 1.
        let secret = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(Identity::of(&secret).unwrap().key(), public);
    }
}
