//! What a new cluster needs of its own: an authority, and what it signs for its masters.

use futures_rustls::pki_types::CertificateDer;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::RootCertStore;
use futures_rustls::rustls::server::ParsedCertificate;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};

/// Texts of PEM.
pub(crate) struct Made {
    pub(crate) authority: String,
    pub(crate) authority_key: String,
    pub(crate) signed: Signed,
}

/// The same of a daemon.
pub(crate) struct Signed {
    /// The certificate, and the authority's behind it.
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Makes an authority that is called so, and what it signs for a daemon at these hosts. Neither ever
/// runs out: a board without a clock reads 1970.
pub(crate) fn make(name: &str, hosts: &[String]) -> Result<Made, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    for_ever(&mut params);
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let authority_key = key.serialize_pem();
    let signed = signed_by(&Issuer::new(params, key), &authority, hosts)?;
    Ok(Made { authority, authority_key, signed })
}

/// What an authority signs for another daemon at these hosts; both of it are texts of PEM.
pub(crate) fn sign(authority: &str, key: &str, hosts: &[String]) -> Result<Signed, String> {
    let said = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(authority)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::from_pem(key).map_err(said)?;
    signed_by(&Issuer::new(params, key), authority, hosts).map_err(said)
}

/// Refuses what is no key that can sign, and one that is not that of this authority: nobody who goes by the
/// authority would believe what it signs. Both are texts of PEM.
pub(crate) fn judge_authority(authority: &str, key: &str) -> Result<(), String> {
    let der = CertificateDer::from_pem_slice(authority.as_bytes());
    let der = der.map_err(|_| "the authority has no certificate".to_owned())?;
    let key = KeyPair::from_pem(key).map_err(|_| {
        "has no private key in it that can sign (`-----BEGIN PRIVATE KEY-----`, PKCS #8): put back the key \
         of the authority"
    })?;
    let known = ParsedCertificate::try_from(&der).map_err(|error| error.to_string())?;
    if *known.subject_public_key_info() == *key.subject_public_key_info() {
        return Ok(());
    }
    Err("is not the key of the last certificate of --tls-cert-file: put back the key of that authority"
        .to_owned())
}

fn signed_by(
    issuer: &Issuer<'_, KeyPair>,
    authority: &str,
    hosts: &[String],
) -> Result<Signed, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    let first = hosts.first().map_or("mesita", String::as_str);
    params.distinguished_name.push(DnType::CommonName, first);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for_ever(&mut params);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?.pem() + authority;
    Ok(Signed { certificate, key: key.serialize_pem() })
}

fn for_ever(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
}

/// What an authority is called: what it signs has to name it so, byte for byte.
fn subject(authority: &str) -> Result<DistinguishedName, String> {
    let certificate = CertificateDer::from_pem_slice(authority.as_bytes());
    let certificate = certificate.map_err(|_| "the authority has no certificate".to_owned())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(|error| error.to_string())?;
    let name = roots.roots.first().map_or(&[][..], |root| &root.subject);
    parsed(name)
        .ok_or_else(|| "the name of the authority is of a form that is not known".to_owned())
}

/// A name as certificates hold it (RFC 5280 §4.1.2.4): sets of one pair each.
fn parsed(mut name: &[u8]) -> Option<DistinguishedName> {
    let mut all = DistinguishedName::new();
    while !name.is_empty() {
        let (SET, set, rest) = element(name)? else { return None };
        name = rest;
        let (SEQUENCE, pair, []) = element(set)? else { return None };
        let (OID, oid, text) = element(pair)? else { return None };
        let (kind, bytes, []) = element(text)? else { return None };
        let text = std::str::from_utf8(bytes).ok()?;
        let value = match kind {
            UTF8 => DnValue::Utf8String(text.to_owned()),
            PRINTABLE => DnValue::PrintableString(text.try_into().ok()?),
            IA5 => DnValue::Ia5String(text.try_into().ok()?),
            _ => return None,
        };
        all.push(DnType::from_oid(&numbers(oid)?), value);
    }
    Some(all)
}

const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// True for a certificate that names itself as who has issued it (RFC 5280 §4.1): a root.
pub(super) fn is_root(der: &[u8]) -> bool {
    issuer_and_subject(der).is_some_and(|[issuer, subject]| issuer == subject)
}

fn issuer_and_subject(der: &[u8]) -> Option<[&[u8]; 2]> {
    let (SEQUENCE, certificate, []) = element(der)? else { return None };
    let (SEQUENCE, mut to_be_signed, _) = element(certificate)? else { return None };
    // In front of the issuer: a version that may be left out, a number, how it is signed.
    if let (VERSION, _, rest) = element(to_be_signed)? {
        to_be_signed = rest;
    }
    let (_, _, rest) = element(to_be_signed)?;
    let (_, _, rest) = element(rest)?;
    let (SEQUENCE, issuer, rest) = element(rest)? else { return None };
    let (_dates, _, rest) = element(rest)?;
    let (SEQUENCE, subject, _) = element(rest)? else { return None };
    Some([issuer, subject])
}

/// The first element of DER: its tag, its content, and what is behind it. No certificate is so long that
/// its length takes more than two bytes after the first.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&len, rest) = rest.split_first()?;
    let (len, rest) = match (len, rest) {
        (0..=0x7f, _) => (len.into(), rest),
        (0x81, [len, rest @ ..]) => ((*len).into(), rest),
        (0x82, [high, low, rest @ ..]) => (u16::from_be_bytes([*high, *low]).into(), rest),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// The numbers of an identifier.
fn numbers(oid: &[u8]) -> Option<Vec<u64>> {
    let mut all = Vec::new();
    let mut number = 0_u64;
    for byte in oid {
        number = number.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            // The first two are in one.
            let first = (number / 40).min(2);
            if all.is_empty() {
                all.extend([first, number - 40 * first]);
            } else {
                all.push(number);
            }
            number = 0;
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{Served, Signer};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_an_authority_signs_later_is_known_by_the_same_key() {
        let hosts = ["10.0.0.1".to_owned(), "localhost".to_owned()];
        let made = make("a shop", &hosts).unwrap();
        let again = sign(&made.authority, &made.authority_key, &hosts[1..]).unwrap();
        let directory = std::env::temp_dir().join(format!("mesita-made-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let anchor = |signed: &Signed| {
            let [certificate, key] = ["pem", "key"].map(|name| directory.join(name));
            fs::write(&certificate, &signed.certificate).unwrap();
            fs::write(&key, &signed.key).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
            Served::read(&certificate, &key, Signer::OfTheCluster).unwrap().anchor()
        };
        assert_eq!(anchor(&made.signed), anchor(&again));
        let mut roots = RootCertStore::empty();
        let der = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
        roots.add(der(&made.authority)).unwrap();
        let algorithms = futures_rustls::rustls::crypto::ring::default_provider();
        for signed in [&made.signed, &again] {
            let end = der(&signed.certificate);
            let end = ParsedCertificate::try_from(&end).unwrap();
            futures_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor(
                &end,
                &roots,
                &[],
                // 2026: no date counts, but this function asks for one.
                futures_rustls::pki_types::UnixTime::since_unix_epoch(
                    std::time::Duration::from_secs(1_767_225_600),
                ),
                algorithms.signature_verification_algorithms.all,
            )
            .unwrap();
        }
        fs::remove_dir_all(directory).unwrap();
        assert_eq!(judge_authority(&made.authority, &made.authority_key), Ok(()));
        let other = make("a shop", &hosts).unwrap();
        for (key, words) in [
            (&other.authority_key[..], "is not the key of the last certificate"),
            (&made.authority_key[..100], "has no private key in it that can sign"),
            (&made.authority, "has no private key in it that can sign"),
            ("", "has no private key in it that can sign"),
        ] {
            let why = judge_authority(&made.authority, key).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        assert!(judge_authority("", &made.authority_key).is_err());
        assert!(sign("", &made.authority_key, &hosts).is_err());
        assert!(sign(&made.authority, "", &hosts).is_err());
    }

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let long = "x".repeat(130);
        let mut name = DistinguishedName::new();
        name.push(DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap()));
        name.push(DnType::OrganizationName, &*long);
        name.push(DnType::CommonName, "a shop");
        let component = DnType::from_oid(&[0, 9, 2342, 19_200_300, 100, 1, 25]);
        name.push(component, DnValue::Ia5String("example".try_into().unwrap()));
        let mut params = CertificateParams::default();
        params.distinguished_name = name.clone();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        assert_eq!(subject(&pem), Ok(name));
        for torn in 0..10 {
            assert_eq!(parsed(&[SET, 9, SEQUENCE, 7, OID, 3, 85, 4, 3, UTF8][..=torn]), None);
        }
    }
}
