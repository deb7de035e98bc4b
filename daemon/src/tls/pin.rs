//! A server that is known by its key alone: no authority, no name, no date.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use futures_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use futures_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use futures_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use futures_rustls::rustls::server::ParsedCertificate;
use futures_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};

use super::outside::bundle;

/// SHA-256 of a public key as certificates hold it (SubjectPublicKeyInfo), as curl's
/// `--pinnedpubkey` and RFC 7469 §2.4 take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pin([u8; 32]);

impl Pin {
    /// The pin of a certificate's key.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        Ok(Self(Sha256::digest(&*key).into()))
    }

    /// True when one of the certificates in a file of PEM is of this key.
    pub(crate) fn is_in(self, path: &Path) -> Result<bool, String> {
        let bytes = bundle(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut all = CertificateDer::pem_slice_iter(&bytes).flatten();
        Ok(all.any(|one| Self::of(&one).is_ok_and(|of| of == self)))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pin = [0; 32];
        let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let wrong = || "a pin is the 64 hex digits that the daemon logs when it starts".to_owned();
        if !is_hex {
            return Err(wrong());
        }
        for (at, byte) in pin.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(pin))
    }
}

/// Dates that are passed over, of those of all certificates of a chain: what has no day in common with
/// the others is refused.
const DATES_MAX: usize = 8;

/// Takes whoever has the key, or one that it has signed.
#[derive(Debug)]
pub(super) struct Verifier {
    /// The key; none: whoever has the one that it shows.
    pin: Option<Pin>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(pin: Option<Pin>, algorithms: WebPkiSupportedAlgorithms) -> Arc<Self> {
        Arc::new(Self { pin, algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(pin) = self.pin else { return Ok(ServerCertVerified::assertion()) };
        if Pin::of(end_entity)? == pin {
            return Ok(ServerCertVerified::assertion());
        }
        let signer = chain.iter().find(|one| Pin::of(one).is_ok_and(|of| of == pin));
        let signer = signer.ok_or(CertificateError::ApplicationVerificationFailure)?;
        let mut roots = RootCertStore::empty();
        roots.add(signer.clone().into_owned())?;
        let (end, all) = (ParsedCertificate::try_from(end_entity)?, self.algorithms.all);
        let mut at = now;
        for _ in 0..=DATES_MAX {
            // A key is no other key because of a date, and not every board knows one.
            match verify_server_cert_signed_by_trust_anchor(&end, &roots, chain, at, all) {
                Ok(()) => return Ok(ServerCertVerified::assertion()),
                Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                    not_after,
                    ..
                })) => at = not_after,
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) => at = not_before,
                Err(error) => return Err(error),
            }
        }
        Err(CertificateError::Expired.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_rustls::rustls::crypto::ring;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    #[test]
    fn no_date_makes_a_key_another_one() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let of = |begin: i32, end: i32| {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_before = date_time_ymd(begin, 1, 1);
            params.not_after = date_time_ymd(end, 1, 1);
            let key = KeyPair::generate().unwrap();
            params.signed_by(&key, &issuer).unwrap().der().clone()
        };
        let algorithms = ring::default_provider().signature_verification_algorithms;
        let pinned = |pin| Verifier::new(Some(pin), algorithms);
        let name = ServerName::try_from("localhost").unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_700_000_000));
        let chain = [authority.clone()];
        let verified = |pin, leaf: &CertificateDer<'_>| {
            pinned(pin).verify_server_cert(leaf, &chain, &name, &[], now).is_ok()
        };
        let pin = Pin::of(&authority).unwrap();
        for (begin, end) in [(2000, 2001), (2020, 2090), (2090, 2091)] {
            assert!(verified(pin, &of(begin, end)), "{begin} to {end}");
        }
        // Another's is not taken, whenever it counts.
        let other =
            CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(!verified(pin, other.der()));
        assert!(!verified(Pin([7; 32]), &of(2020, 2090)));
    }

    #[test]
    fn a_pin_is_read_as_it_is_written() {
        let text = "00ff".repeat(16);
        assert_eq!(text.parse::<Pin>().unwrap().to_string(), text);
        for bad in ["", "00ff", &"0g".repeat(32), &"+1".repeat(32), &"00ff".repeat(17)] {
            assert!(bad.parse::<Pin>().unwrap_err().contains("64 hex digits"), "{bad}");
        }
    }
}
