//! What a new cluster needs of its own: an authority, and the certificate of its first master.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// Texts of PEM.
pub(crate) struct Made {
    pub(crate) authority: String,
    pub(crate) authority_key: String,
    /// The certificate, and the authority's behind it.
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Makes an authority that is called so, and what it signs for a daemon at these hosts. Neither ever
/// runs out: a board without a clock reads 1970.
pub(crate) fn make(name: &str, hosts: &[String]) -> Result<Made, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    for_ever(&mut params);
    let authority_key = KeyPair::generate()?;
    let authority = params.self_signed(&authority_key)?.pem();
    let kept = authority_key.serialize_pem();
    let issuer = Issuer::new(params, authority_key);
    let mut params = CertificateParams::new(hosts)?;
    let first = hosts.first().map_or(name, String::as_str);
    params.distinguished_name.push(DnType::CommonName, first);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    for_ever(&mut params);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?.pem() + &authority;
    Ok(Made { authority, authority_key: kept, certificate, key: key.serialize_pem() })
}

fn for_ever(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
}
