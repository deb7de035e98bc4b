//! Who a node is: a key that it makes at its first start, by which everybody knows it.
//!
//! `meta/key` has the 32 bytes that others know; `meta/secret` what they are made of, which never
//! leaves the work directory: by it a node proves who it is (Ed25519, RFC 8032). A work directory
//! without it, of a build without TLS, has a key that proves nothing.

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
        return Ok(Own { key, proof: None });
    }
    let drawn = secret.unwrap_or_else(crate::random::bytes);
    let proof = Identity::of(&drawn).ok();
    if let (None, Some(_)) = (secret, &proof) {
        // First: a key whose secret is not there proves nothing for ever.
        write(&secret_file, &drawn)?;
    }
    let made = proof.as_ref().map(Identity::key);
    match (key, made) {
        (Some(key), Some(made)) if key != made => Err(Error::Another(key_file)),
        (Some(key), _) => Ok(Own { key, proof }),
        (None, made) => {
            let key = made.unwrap_or_else(crate::random::bytes);
            write(&key_file, &key)?;
            Ok(Own { key, proof })
        }
    }
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
        fs::rename(&new, path)
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
        fs::remove_file(meta.join("secret")).unwrap();
        let unproved = own(&meta).unwrap();
        assert!(unproved.key == [1; 32] && unproved.proof.is_none());
        fs::write(meta.join("key"), [1; 31]).unwrap();
        assert!(own(&meta).unwrap_err().to_string().contains("is not 32 bytes"));
        fs::remove_dir_all(&meta).unwrap();
    }
}
