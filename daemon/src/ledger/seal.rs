//! What a ledger is sealed with: tasks have secrets, and a copy of the file is not to tell them.
//!
//! ```text
//! "mesitaL2" | records: len u32 | mark u32 | nonce 24 | frame, encrypted (XChaCha20-Poly1305) | tag 16
//! ```
//! The key is `meta/ledger.key`, made with the ledger. Who may read all of `meta` can read the ledger:
//! after a power cut an agent has to start tasks again with their secrets, and nobody is there to say
//! a word. Nonces are random, and so long that a copied directory does not repeat one. The mark is of
//! length and nonce, so that looking for a record in what is damaged costs little.

use std::fs;
use std::io;
use std::path::Path;

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use mesita_core::digest::of_body;

use super::Error;
use crate::identity;
use crate::random;
use crate::secrets;

/// How a sealed file begins.
pub(super) const MAGIC: [u8; 8] = *b"mesitaL2";
const NONCE: usize = 24;
const TAG: usize = 16;
/// Bytes of a record before what is encrypted.
const BEFORE: usize = 4 + 4 + NONCE;
/// The file of the key, in `meta`.
pub(super) const KEY_FILE: &str = "ledger.key";

/// Seals frames, and opens them.
pub(super) struct Seal(XChaCha20Poly1305);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// Of a ledger in `meta`: its key is made where there is none, but not `behind` a file that was
    /// sealed with another one.
    pub(super) fn of(meta: &Path, behind: bool) -> Result<Self, Error> {
        let path = meta.join(KEY_FILE);
        let io = |error| Error::Io(path.clone(), error);
        let key: [u8; 32] = match fs::read(&path) {
            Ok(bytes) => {
                secrets::check(&path).map_err(|why| io(io::Error::other(why)))?;
                bytes.try_into().map_err(|_| Error::Keyless(path.clone()))?
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            Err(_) if behind => return Err(Error::Keyless(path)),
            Err(_) => {
                let key = random::bytes();
                identity::write(&path, &key).map_err(|error| io(io::Error::other(error)))?;
                super::sync_directory(&path).map_err(io)?;
                key
            }
        };
        Ok(Self(XChaCha20Poly1305::new(&key.into())))
    }

    /// A frame with its bodies, as a record.
    pub(super) fn seal(&self, frame: &[u8], bodies: &[impl AsRef<[u8]>]) -> io::Result<Vec<u8>> {
        let nonce: [u8; NONCE] = random::bytes();
        let inner = bodies.iter().fold(frame.len(), |sum, body| sum + body.as_ref().len());
        let len = u32::try_from(inner + TAG).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut record = Vec::with_capacity(BEFORE + inner + TAG);
        record.extend_from_slice(&len.to_le_bytes());
        record.extend_from_slice(&mark(len, &nonce));
        record.extend_from_slice(&nonce);
        record.extend_from_slice(frame);
        bodies.iter().for_each(|body| record.extend_from_slice(body.as_ref()));
        let open = InOutBuf::from(&mut record[BEFORE..]);
        let tag = self.0.encrypt_inout_detached(&nonce.into(), &MAGIC, open);
        record.extend_from_slice(&tag.map_err(|_| io::ErrorKind::InvalidInput)?);
        Ok(record)
    }

    /// The frame of the first record of `bytes`, and what follows that.
    pub(super) fn open<'b>(&self, bytes: &'b [u8]) -> Option<(Vec<u8>, &'b [u8])> {
        let (record, rest) = bytes.split_at_checked(length(bytes)?)?;
        let (before, sealed) = record.split_first_chunk::<BEFORE>()?;
        let nonce: [u8; NONCE] = *before.last_chunk()?;
        let (sealed, tag) = sealed.split_last_chunk::<TAG>()?;
        let mut frame = sealed.to_vec();
        let opened = InOutBuf::from(&mut frame[..]);
        let opened = self.0.decrypt_inout_detached(&nonce.into(), &MAGIC, opened, tag.into());
        opened.ok().map(|()| (frame, rest))
    }
}

/// True for bytes that begin with all of a record, whether or not it opens.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    length(bytes).is_some_and(|len| len <= bytes.len())
}

/// How many bytes somebody wrote of a record that does not open and that nothing follows: all of one that is
/// there; of one whose length cannot be believed, what says that. None: its end is not there, as after a power
/// cut.
pub(super) fn written(bytes: &[u8]) -> Option<usize> {
    match length(bytes) {
        Some(len) => (len <= bytes.len()).then_some(len),
        None => (bytes.len() >= BEFORE).then_some(BEFORE),
    }
}

/// Bytes of the record that begins here, by its mark.
fn length(bytes: &[u8]) -> Option<usize> {
    let (len, before) = bytes.split_first_chunk::<4>()?;
    let (marked, before) = before.split_first_chunk::<4>()?;
    let nonce = before.first_chunk::<NONCE>()?;
    let len = u32::from_le_bytes(*len);
    (*marked == mark(len, nonce)).then_some(BEFORE + len as usize)
}

fn mark(len: u32, nonce: &[u8; NONCE]) -> [u8; 4] {
    let mut of = [0; 4 + NONCE];
    of[..4].copy_from_slice(&len.to_le_bytes());
    of[4..].copy_from_slice(nonce);
    let [a, b, c, d, ..] = of_body(&of).to_le_bytes();
    [a, b, c, d]
}
