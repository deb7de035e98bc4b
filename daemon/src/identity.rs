//! Who a node is: a key that it makes at its first start, by which everybody knows it.
//!
//! `meta/key` has the 32 bytes that others know; `meta/secret` what they are made of, which never
//! leaves the work directory: by it a node proves who it is (Ed25519, RFC 8032). A work directory
//! without it, of a build without TLS, has a key that proves nothing.
//!
//! A node that has drawn itself another secret keeps its name: `meta/key` stays, `meta/renewed` is the
//! key that the secret makes by now, and `meta/secret.next` one that the masters may have, or not yet.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::tls::Identity;

/// A node's own key.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) key: [u8; 32],
    /// What proves that it has it; none: nothing does.
    pub(crate) proof: Option<Identity>,
    /// What may do so from now on: the masters say.
    pub(crate) next: Option<Identity>,
}

/// Why a node does not know who it is.
#[derive(Debug)]
pub(crate) enum Error {
    /// A file.
    Io(PathBuf, io::Error),
    /// It is not 32 bytes.
    Length(PathBuf),
    /// The key is not that of the secret beside it.
    Another(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Length(path) => write!(
                f,
                "{} is not 32 bytes; without it this is another node: move the work dir away",
                path.display()
            ),
            Self::Another(path) => write!(
                f,
                "{} is not the key that `secret` beside it makes: put back the one that was there, or \
                 move the work dir away, for a new node",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Error {}

/// Reads the key of a work directory's `meta`, or makes it.
pub(crate) fn own(meta: &Path) -> Result<Own, Error> {
    let (key_file, secret_file) = (meta.join("key"), meta.join("secret"));
    let (key, secret) = (read(&key_file)?, read(&secret_file)?);
    if let (Some(key), None) = (key, secret) {
        return Ok(Own { key, proof: None, next: None });
    }
    let drawn = secret.unwrap_or_else(crate::random::bytes);
    let proof = Identity::of(&drawn).ok();
    if let (None, Some(_)) = (secret, &proof) {
        // First: a key whose secret is not there proves nothing for ever.
        write(&secret_file, &drawn)?;
    }
    let (Some(key), Some(made)) = (key, &proof) else {
        let key = key.unwrap_or_else(|| proof.as_ref().map_or_else(random, Identity::key));
        write(&key_file, &key)?;
        return Ok(Own { key, proof, next: None });
    };
    let next = read(&meta.join(NEXT))?.and_then(|drawn| Identity::of(&drawn).ok());
    let renewed = read(&meta.join(RENEWED))?.unwrap_or(key);
    if made.key() == renewed {
        return Ok(Own { key, proof, next });
    }
    // The power went in the midst of a change.
    match next.filter(|next| next.key() == renewed) {
        Some(next) => {
            take_next(meta, &renewed)?;
            Ok(Own { key, proof: Some(next), next: None })
        }
        None => Err(Error::Another(key_file)),
    }
}

const NEXT: &str = "secret.next";
const RENEWED: &str = "renewed";

fn random() -> [u8; 32] {
    crate::random::bytes()
}

/// Draws another secret, which is none before the masters have its key.
pub(crate) fn draw_next(meta: &Path) -> Result<Identity, String> {
    let drawn = random();
    let next = Identity::of(&drawn)?;
    write(&meta.join(NEXT), &drawn).map_err(|error| error.to_string())?;
    Ok(next)
}

/// The masters have this key: what makes it is the secret from now on.
pub(crate) fn take_next(meta: &Path, key: &[u8; 32]) -> Result<(), Error> {
    // First: a secret that makes another key than it should is refused at the next start.
    write(&meta.join(RENEWED), key)?;
    let (next, secret) = (meta.join(NEXT), meta.join("secret"));
    fs::rename(&next, &secret)
        .and_then(|()| sync_above(&secret))
        .map_err(|error| Error::Io(secret, error))
}

/// What was renamed has its name after a power cut, too.
fn sync_above(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())
}

fn read(path: &Path) -> Result<Option<[u8; 32]>, Error> {
    match fs::read(path) {
        Ok(bytes) => bytes.try_into().map(Some).map_err(|_| Error::Length(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Io(path.to_owned(), error)),
    }
}

/// Writes a file that is there whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    let written = || {
        let mut options = File::options();
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_above(path)
    };
    written().map_err(|error| Error::Io(path.to_owned(), error))
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_who_it_was_and_says_when_it_cannot_be() {
        let meta = std::env::temp_dir().join(format!("mesita-identity-{}", std::process::id()));
        fs::create_dir(&meta).unwrap();
        let first = own(&meta).unwrap();
        assert_eq!(first.proof.as_ref().map(Identity::key), Some(first.key));
        assert_eq!(own(&meta).unwrap().key, first.key);
        // The power went before the key was written.
        fs::remove_file(meta.join("key")).unwrap();
        assert_eq!(own(&meta).unwrap().key, first.key);
        fs::write(meta.join("key"), [1; 32]).unwrap();
        assert!(own(&meta).unwrap_err().to_string().contains("is not the key"));
        fs::write(meta.join("key"), first.key).unwrap();
        let next = draw_next(&meta).unwrap();
        let before = fs::read(meta.join("secret")).unwrap();
        let own_now = own(&meta).unwrap();
        assert_eq!(own_now.proof.map(|proof| proof.key()), Some(first.key));
        assert_eq!(own_now.next.map(|next| next.key()), Some(next.key()));
        // The power went before the secret was the new one.
        fs::write(meta.join("renewed"), next.key()).unwrap();
        for _ in 0..2 {
            let own_now = own(&meta).unwrap();
            assert_eq!((own_now.key, own_now.next.is_none()), (first.key, true));
            assert_eq!(own_now.proof.map(|proof| proof.key()), Some(next.key()));
        }
        fs::write(meta.join("secret"), before).unwrap();
        assert!(own(&meta).unwrap_err().to_string().contains("is not the key"));
        fs::write(meta.join("key"), [1; 32]).unwrap();
        fs::remove_file(meta.join("secret")).unwrap();
        let unproved = own(&meta).unwrap();
        assert!(unproved.key == [1; 32] && unproved.proof.is_none());
        fs::write(meta.join("key"), [1; 31]).unwrap();
        assert!(own(&meta).unwrap_err().to_string().contains("is not 32 bytes"));
        fs::remove_dir_all(&meta).unwrap();
    }
}
