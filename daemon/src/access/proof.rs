//! That a node which speaks frames has a secret: shown by a code over what both ends have just drawn,
//! so that the secret itself goes nowhere, and a proof that was heard serves nobody.

use hmac::{Hmac, KeyInit, Mac};
use mesita_core::wire::hello::Role;
use sha2::Sha256;

use super::credentials::Credential;

/// The first protocol that has proofs.
pub(crate) const PROOF_SINCE: u16 = 3;

/// What a proof is for: nothing else is signed like that.
const PURPOSE: &[u8] = b"mesita prove 1";

/// What a node shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'s> {
    /// Who it says that it is.
    pub(crate) principal: &'s str,
    /// By which it proves that.
    pub(crate) proof: [u8; 32],
    /// What the end that dialled has drawn, and the other one.
    pub(crate) nonces: [[u8; 16]; 2],
    /// As what it is here.
    pub(crate) role: Role,
}

/// The proof that somebody has a credential.
pub(crate) fn proof(credential: &Credential, nonces: [[u8; 16]; 2], role: Role) -> [u8; 32] {
    code(credential.secret(), &credential.principal, nonces, role).finalize().into_bytes().into()
}

/// True when a proof is that of the credential. Without one as much is reckoned, in vain.
pub(crate) fn proves(credential: Option<&Credential>, shown: &Shown<'_>) -> bool {
    let secret = credential.map_or(&[][..], |known| known.secret());
    let code = code(secret, shown.principal, shown.nonces, shown.role);
    code.verify_slice(&shown.proof).is_ok() && credential.is_some()
}

fn code(secret: &[u8], principal: &str, nonces: [[u8; 16]; 2], role: Role) -> Hmac<Sha256> {
    // A key of any length will do.
    let mut code = Hmac::<Sha256>::new_from_slice(secret).unwrap_or_else(|_| {
        mesita_core::stop(line!(), "a key that HMAC does not take");
    });
    code.update(PURPOSE);
    nonces.iter().for_each(|nonce| code.update(nonce));
    code.update(&[role as u8]);
    code.update(principal.as_bytes());
    code
}
