//! Datagrams between masters: sealed, so that nobody else says or hears anything.
//!
//! ```text
//! "msg1" | sender u8 | nonce 24 | a head, encrypted (XChaCha20-Poly1305) | tag 16
//! ```
//! The seal covers magic and sender, and the key that the roster has for that sender: whoever has
//! the gossip key, and not the sender's own, does not speak for it. Nonces are random, and so long
//! that a copied directory does not repeat one.

use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};

use crate::{random, secrets};

/// How a datagram begins: name and version of the form.
const MAGIC: [u8; 4] = *b"msg1";
const NONCE: usize = 24;
const TAG: usize = 16;
/// Where a datagram says whose it is.
pub(crate) const SENDER_AT: usize = MAGIC.len();
/// Bytes around what is sealed.
const AROUND: usize = MAGIC.len() + 1 + NONCE + TAG;
/// Bytes of a datagram at the most: what a head of this family takes, and more than it.
pub(crate) const DATAGRAM_MAX: usize = 2_048;
/// The sender of a datagram that comes from no member of a cluster.
pub(crate) const STRANGER: u8 = 0;
/// Bytes of a key.
const KEY: usize = 32;
/// The key of a set that is on one machine, where the kernel keeps others out of its ports.
const LOOPBACK: [u8; KEY] = *b"mesita masters on one loopback..";

/// The keys that masters share; the first one seals, all of them open.
pub(crate) struct Keys {
    ring: RefCell<Vec<XChaCha20Poly1305>>,
    files: Vec<PathBuf>,
}

/// Why there are no keys.
#[derive(Debug)]
pub(crate) enum BadKey {
    /// The file cannot be read.
    Unreadable(PathBuf, std::io::Error),
    /// It is no secret: why.
    Open(PathBuf, String),
    /// It holds something else than a key.
    Length(PathBuf, usize),
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Open(path, why) => write!(f, "{}: {why}", path.display()),
            Self::Length(path, len) => write!(
                f,
                "{}: a gossip key is 32 bytes, not {len}{}: make one with `head -c 32 /dev/urandom`, \
                 and give it to every master",
                path.display(),
                if *len == 2 * KEY { " or more" } else { "" }
            ),
        }
    }
}

impl std::error::Error for BadKey {}

impl Keys {
    /// Reads keys, each a file of 32 bytes. Where `gossip2.key` beside the first one would be, nothing may be
    /// yet.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self, BadKey> {
        let ring = RefCell::new(ring(paths)?);
        Ok(Self { ring, files: paths.to_vec() })
    }

    /// Reads the files again; how many. When one is no use, all stay as they were. What was sealed with until
    /// now is opened until the files are read once more: the others change one after the other.
    pub(crate) fn renew(&self) -> Result<usize, BadKey> {
        if self.files.is_empty() {
            return Ok(0);
        }
        let mut new = ring(&self.files)?;
        let read = new.len();
        let mut ring = self.ring.borrow_mut();
        new.extend(ring.first().cloned());
        *ring = new;
        Ok(read)
    }

    /// What is used where all masters are on one machine and nobody gave a key.
    pub(crate) fn of_loopback() -> Self {
        let ring = RefCell::new(vec![XChaCha20Poly1305::new(&LOOPBACK.into())]);
        Self { ring, files: Vec::new() }
    }

    /// Seals a head.
    pub(crate) fn seal(&self, sender: u8, owner: &[u8; KEY], head: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(AROUND + head.len());
        datagram.extend_from_slice(&MAGIC);
        datagram.push(sender);
        let nonce: [u8; NONCE] = random::bytes();
        datagram.extend_from_slice(&nonce);
        let begin = datagram.len();
        datagram.extend_from_slice(head);
        let buffer = InOutBuf::from(&mut datagram[begin..]);
        let ring = self.ring.borrow();
        let sealed = ring.first().and_then(|key| {
            key.encrypt_inout_detached(&nonce.into(), &bound(sender, owner), buffer).ok()
        });
        let Some(tag) = sealed else {
            mesita_core::stop(line!(), "a datagram that cannot be sealed");
        };
        datagram.extend_from_slice(&tag);
        datagram
    }

    /// Opens a datagram in place. `owner` gives the key of a sender; none: it is no member.
    pub(crate) fn open<'d>(
        &self,
        datagram: &'d mut [u8],
        owner: impl FnOnce(u8) -> Option<[u8; KEY]>,
    ) -> Result<(u8, &'d [u8]), Dropped> {
        let (head, rest) = datagram.split_at_mut_checked(AROUND - TAG).ok_or(Dropped::Truncated)?;
        let (magic, of) = head.split_first_chunk().ok_or(Dropped::Truncated)?;
        let (&sender, nonce) = of.split_first().ok_or(Dropped::Truncated)?;
        if *magic != MAGIC {
            return Err(Dropped::Foreign);
        }
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| Dropped::Truncated)?;
        let owner = owner(sender).ok_or(Dropped::Foreign)?;
        let len = rest.len().checked_sub(TAG).ok_or(Dropped::Truncated)?;
        let (sealed, tag) = rest.split_at_mut(len);
        let tag: [u8; TAG] = (&*tag).try_into().map_err(|_| Dropped::Truncated)?;
        let bound = bound(sender, &owner);
        let mut plain = vec![0; sealed.len()];
        let opened = self.ring.borrow().iter().any(|key| {
            InOutBuf::new(sealed, &mut plain).is_ok_and(|buffer| {
                key.decrypt_inout_detached(&nonce.into(), &bound, buffer, &tag.into()).is_ok()
            })
        });
        if !opened {
            return Err(Dropped::Forged);
        }
        sealed.copy_from_slice(&plain);
        Ok((sender, sealed))
    }
}

/// Why a datagram is not looked at any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dropped {
    /// Shorter than the least one.
    Truncated,
    /// Of another program, another set, or somebody who left.
    Foreign,
    /// Its seal is none of ours.
    Forged,
    /// It came before, or before one that came.
    Replayed,
    /// What was sealed makes no sense to this release.
    Malformed,
    /// The core has enough to do.
    Overload,
}

impl Dropped {
    /// Why it is not, for people.
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::Truncated => "too short for a word of a master",
            Self::Foreign => "of another program, or of a master of another set",
            Self::Forged => {
                "sealed with another key: give all masters of the list the same --gossip-key-file"
            }
            Self::Replayed => "said before",
            Self::Malformed => "of another release, which this one does not understand",
            Self::Overload => "more than this master has time for",
        }
    }

    /// The gauge that counts it.
    pub(crate) const fn gauge(self) -> &'static str {
        match self {
            Self::Truncated => "gossip_truncated_total",
            Self::Foreign => "gossip_foreign_total",
            Self::Forged => "gossip_forged_total",
            Self::Replayed => "gossip_replayed_total",
            Self::Malformed => "gossip_malformed_total",
            Self::Overload => "gossip_overload_total",
        }
    }
}

/// What the seal covers beside the head.
fn bound(sender: u8, owner: &[u8; KEY]) -> [u8; MAGIC.len() + 1 + KEY] {
    let mut bound = [0; MAGIC.len() + 1 + KEY];
    let (head, rest) = bound.split_at_mut(MAGIC.len() + 1);
    head[..MAGIC.len()].copy_from_slice(&MAGIC);
    head[MAGIC.len()] = sender;
    rest.copy_from_slice(owner);
    bound
}

/// The name of a second key that comes later, beside the first one.
const LATER: &str = "gossip2.key";

/// True for a file that need not be there until the key is changed. Any other that is named is there, or
/// its name is mistyped.
pub(crate) fn may_come_later(paths: &[PathBuf], path: &Path) -> bool {
    let beside = |first: &PathBuf| first != path && first.parent() == path.parent();
    path.file_name().is_some_and(|name| name == LATER) && paths.first().is_some_and(beside)
}

fn ring(paths: &[PathBuf]) -> Result<Vec<XChaCha20Poly1305>, BadKey> {
    let later = |path: &Path| may_come_later(paths, path) && !path.exists();
    paths.iter().filter(|path| !later(path)).map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<XChaCha20Poly1305, BadKey> {
    let unreadable = |error| BadKey::Unreadable(path.to_owned(), error);
    let mut file = fs::File::open(path).map_err(unreadable)?;
    let judged = secrets::judge(&file.metadata().map_err(unreadable)?);
    judged.map_err(|why| BadKey::Open(path.to_owned(), why))?;
    let mut bytes = Vec::new();
    // More than a key is none, however much more.
    let read = Read::by_ref(&mut file).take(2 * KEY as u64).read_to_end(&mut bytes);
    let len = read.map_err(unreadable)?;
    let key: [u8; KEY] = bytes.try_into().map_err(|_| BadKey::Length(path.to_owned(), len))?;
    Ok(XChaCha20Poly1305::new(&key.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn keys(bytes: &[u8]) -> Keys {
        let key = |byte: &u8| XChaCha20Poly1305::new(&[*byte; KEY].into());
        let ring = RefCell::new(bytes.iter().map(key).collect());
        Keys { ring, files: Vec::new() }
    }

    fn open(keys: &Keys, datagram: &[u8], owner: Option<[u8; KEY]>) -> Result<Vec<u8>, Dropped> {
        let mut datagram = datagram.to_vec();
        keys.open(&mut datagram, |_| owner).map(|(_, head)| head.to_vec())
    }

    #[test]
    fn what_was_sealed_is_opened_by_whoever_has_the_keys() {
        let owner = [9; KEY];
        let datagram = keys(&[1]).seal(3, &owner, b"a head");
        assert_eq!(open(&keys(&[1]), &datagram, Some(owner)), Ok(b"a head".to_vec()));
        assert_eq!(open(&keys(&[2, 1]), &datagram, Some(owner)), Ok(b"a head".to_vec()));
        assert_eq!(open(&keys(&[2]), &datagram, Some(owner)), Err(Dropped::Forged));
        assert_eq!(open(&keys(&[1]), &datagram, Some([8; KEY])), Err(Dropped::Forged));
        assert_eq!(open(&keys(&[1]), &datagram, None), Err(Dropped::Foreign));
    }

    /// One master after the other, as the README says: whoever is first is heard, and hears the others.
    #[test]
    fn a_key_is_changed_on_one_master_after_the_other() {
        let dir = std::env::temp_dir().join(format!("mesita-keys-{}", std::process::id()));
        let path = |at: usize, name: &str| dir.join(format!("{at}-{name}"));
        let write = |path: &Path, byte: u8| {
            fs::write(path, [byte; KEY]).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        fs::create_dir_all(&dir).unwrap();
        let masters: Vec<Keys> = (0..3)
            .map(|at| {
                write(&path(at, "gossip.key"), 1);
                write(&path(at, "gossip2.key"), 1);
                Keys::read(&[path(at, "gossip.key"), path(at, "gossip2.key")]).unwrap()
            })
            .collect();
        let owner = [9; KEY];
        let all_hear = |step: &str| {
            for from in &masters {
                let datagram = from.seal(1, &owner, b"a head");
                let hears = |to: &Keys| open(to, &datagram, Some(owner)).is_ok();
                assert!(masters.iter().all(hears), "{step}");
            }
        };
        for (step, name) in [("second", "gossip2.key"), ("first", "gossip.key")] {
            for (at, master) in masters.iter().enumerate() {
                write(&path(at, name), 2);
                assert_eq!(master.renew().unwrap(), 2);
                all_hear(step);
            }
        }
        for master in &masters {
            master.renew().unwrap();
            all_hear("last");
            assert!(open(master, &keys(&[1]).seal(1, &owner, b"old"), Some(owner)).is_err());
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn every_bit_and_every_length_is_covered() {
        let owner = [9; KEY];
        let datagram = keys(&[1]).seal(3, &owner, b"a head");
        for at in 0..datagram.len() {
            let mut bad = datagram.clone();
            bad[at] ^= 0x10;
            assert!(open(&keys(&[1]), &bad, Some(owner)).is_err(), "byte {at}");
            assert!(open(&keys(&[1]), &datagram[..at], Some(owner)).is_err(), "{at} bytes");
        }
    }
}
