//! What executors are given to prove that they are there: each container has another token.
//!
//! Tokens are made of `meta/executors.key`, which nobody but this agent has: 32 bytes that were drawn,
//! and the start of the agent, little endian, by which they were. A container of an earlier start may
//! have the token that agents gave before, which was made of their public key.

use std::fs;
use std::hash::Hasher;
use std::io;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use mesita_core::wire::ContainerId;
use sha2::Sha256;
use siphasher::sip128::{Hasher128, SipHasher24};

use super::prepare::Error;
use crate::{identity, random, secrets};

/// The file of the key, in `meta`.
pub(crate) const KEY_FILE: &str = "executors.key";
/// What a token is for: nothing else is made of the key like that.
const PURPOSE: &[u8] = b"mesita executor 1";

/// A token, as long as those before were, which is what programs in Rust read.
type Token = [u8; 16];

/// Makes tokens, and knows them again.
pub(crate) struct Tokens {
    key: [u8; 32],
    /// The first start whose containers have no other.
    since: u32,
    /// By which agents were known, and made tokens of.
    public: [u8; 32],
}

impl Tokens {
    /// Those of an agent whose `start` this is; the key is drawn where there is none.
    pub(crate) fn of(meta: &Path, start: u32, public: [u8; 32]) -> Result<Self, Error> {
        let path = meta.join(KEY_FILE);
        let (key, since) = match fs::read(&path) {
            Ok(bytes) => {
                secrets::check(&path).map_err(|why| failed(&path, why))?;
                parts(&bytes).ok_or_else(|| failed(&path, NO_KEY))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key: [u8; 32] = random::bytes();
                let kept = [&key[..], &start.to_le_bytes()].concat();
                identity::write(&path, &kept).map_err(Error::Identity)?;
                (key, start)
            }
            Err(error) => return Err(Error::Io(path, error)),
        };
        Ok(Self { key, since, public })
    }

    /// What only the executor in this container is given to prove that it is there.
    pub(super) fn give(&self, id: ContainerId) -> Token {
        let whole: [u8; 32] = self.code(id).finalize().into_bytes().into();
        whole.first_chunk().copied().unwrap_or_default()
    }

    /// True for what the executor in this container was given.
    pub(super) fn proves(&self, id: ContainerId, shown: &[u8]) -> bool {
        let is =
            shown.len() == size_of::<Token>() && self.code(id).verify_truncated_left(shown).is_ok();
        is || (id.incarnation < self.since && same_bytes(&self.given_before(id), shown))
    }

    fn code(&self, id: ContainerId) -> Hmac<Sha256> {
        // A key of any length will do.
        let mut code = Hmac::<Sha256>::new_from_slice(&self.key).unwrap_or_else(|_| {
            mesita_core::stop(line!(), "a key that HMAC does not take");
        });
        code.update(PURPOSE);
        code.update(&id.incarnation.to_le_bytes());
        code.update(&id.counter.to_le_bytes());
        code
    }

    /// What agents gave before `since`.
    fn given_before(&self, id: ContainerId) -> Token {
        let (public, _) = self.public.split_first_chunk().unwrap_or((&[0; 16], &[]));
        let mut code = SipHasher24::new_with_key(public);
        code.write(b"executor");
        code.write(&id.incarnation.to_le_bytes());
        code.write(&id.counter.to_le_bytes());
        code.finish128().as_bytes()
    }
}

const NO_KEY: &str = "is no key of executors: put back the one that was there, or remove it, and the \
                      executors that run now cannot come back";

fn failed(path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Io(PathBuf::from(path), io::Error::other(why))
}

fn parts(bytes: &[u8]) -> Option<([u8; 32], u32)> {
    let (key, since) = bytes.split_first_chunk()?;
    Some((*key, u32::from_le_bytes(since.try_into().ok()?)))
}

fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const PUBLIC: [u8; 32] = [7; 32];

    fn id(incarnation: u32, counter: u32) -> ContainerId {
        ContainerId { incarnation, counter }
    }

    fn meta(name: &str) -> PathBuf {
        let meta = std::env::temp_dir().join(format!("mesita-{name}-{}", std::process::id()));
        fs::create_dir(&meta).unwrap();
        meta
    }

    #[test]
    fn a_token_is_no_function_of_what_others_know() {
        let (one, other) = (meta("tokens-one"), meta("tokens-other"));
        let [first, second] = [&one, &other].map(|meta| Tokens::of(meta, 1, PUBLIC).unwrap());
        // The same public key, the same container.
        assert_ne!(first.give(id(1, 1)), second.give(id(1, 1)));
        assert_ne!(first.give(id(1, 1)), first.given_before(id(1, 1)));
        assert!(!first.proves(id(1, 1), &first.given_before(id(1, 1))), "what anybody can reckon");
        assert!(!second.proves(id(1, 1), &first.give(id(1, 1))));
        // It is the same after a restart, whatever the key is that others know.
        let again = Tokens::of(&one, 2, [8; 32]).unwrap();
        assert!(again.proves(id(1, 1), &first.give(id(1, 1))));
        assert!(!again.proves(id(1, 2), &first.give(id(1, 1))), "another container's");
        for shown in [&first.give(id(1, 1))[..15], b"", &[0; 16], &[0; 32]] {
            assert!(!again.proves(id(1, 1), shown));
        }
        [one, other].iter().for_each(|meta| fs::remove_dir_all(meta).unwrap());
    }

    #[test]
    fn a_token_from_before_counts_for_containers_from_before() {
        let meta = meta("tokens-before");
        // The agent's fourth start is the first by which it has a key for that.
        Tokens::of(&meta, 4, PUBLIC).unwrap();
        let tokens = Tokens::of(&meta, 9, PUBLIC).unwrap();
        for (start, counts) in [(1, true), (3, true), (4, false), (8, false), (9, false)] {
            let shown = tokens.given_before(id(start, 1));
            assert_eq!(tokens.proves(id(start, 1), &shown), counts, "{start}");
            assert!(tokens.proves(id(start, 1), &tokens.give(id(start, 1))), "{start}");
        }
        fs::remove_dir_all(&meta).unwrap();
    }

    #[test]
    fn a_key_that_is_none_or_that_others_read_is_refused() {
        let meta = meta("tokens-bad");
        Tokens::of(&meta, 1, PUBLIC).unwrap();
        let path = meta.join(KEY_FILE);
        let why = || Tokens::of(&meta, 2, PUBLIC).err().unwrap().to_string();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(why().contains("executors.key: others can read or write it"), "{}", why());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, [0; 35]).unwrap();
        assert!(why().contains("executors.key: is no key of executors"), "{}", why());
        fs::remove_dir_all(&meta).unwrap();
    }
}
