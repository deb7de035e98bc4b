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
use crate::{room, secrets};

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
    /// It is no secret: why.
    Open(PathBuf, String),
    /// Neither key nor secret is there, in a directory of somebody who had both.
    Gone(PathBuf),
    /// The secret is not there, by which others know this node.
    NoSecret(PathBuf),
    /// The key is not that of the secret beside it.
    Another(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => {
                write!(f, "{}: {error}{}", path.display(), room::hint(error))
            }
            Self::Open(path, why) => write!(
                f,
                "{}: {why}. Whoever has read it can be this node: `mesita node revoke` it, and have it join \
                 again with an empty work dir",
                path.display()
            ),
            Self::Length(path) => write!(
                f,
                "{} is not 32 bytes; without it this is another node: move the work dir away",
                path.display()
            ),
            Self::Gone(path) => write!(
                f,
                "{} and `secret` beside it are gone, by which the cluster knows this node, and what it was \
                 told is still here: put both back, or move the work dir away, for a new node",
                path.display()
            ),
            Self::NoSecret(path) => write!(
                f,
                "{} is gone, by which this node proves who it is in the cluster that it has joined: put it \
                 back, or move the work dir away, for a new node that joins by a token",
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

/// Files of somebody whom others know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// By its key.
    by_key: &'static [&'static str],
    /// By what it proves with the secret of that.
    by_secret: &'static [&'static str],
}

impl Known {
    pub(crate) const AGENT: Self = Self { by_key: &["ledger"], by_secret: &["joined"] };
    pub(crate) const MASTER: Self =
        Self { by_key: &["registry"], by_secret: &["authority", "given"] };
}

/// Why this is no directory to make a key in: somebody was here whom others know by the one that was.
pub(crate) fn is_whole(meta: &Path, known: Known) -> Result<(), Error> {
    let has = |name: &str| meta.join(name).exists();
    let any = |names: &[&str]| names.iter().any(|name| has(name));
    match (has("key"), has("secret")) {
        (false, false) if any(known.by_key) => Err(Error::Gone(meta.join("key"))),
        (true, false) if any(known.by_secret) => Err(Error::NoSecret(meta.join("secret"))),
        _ => Ok(()),
    }
}

/// Reads the key of a work directory's `meta`, or makes it.
pub(crate) fn own(meta: &Path) -> Result<Own, Error> {
    let (key_file, secret_file) = (meta.join("key"), meta.join("secret"));
    let (key, secret) = (read(&key_file)?, read_secret(&secret_file)?);
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
    let next = read_secret(&meta.join(NEXT))?.and_then(|drawn| Identity::of(&drawn).ok());
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

/// The same of what nobody else may know.
fn read_secret(path: &Path) -> Result<Option<[u8; 32]>, Error> {
    match fs::metadata(path).map(|of| secrets::judge(&of)) {
        Ok(Err(why)) => Err(Error::Open(path.to_owned(), why)),
        Ok(Ok(())) | Err(_) => read(path),
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
        let open_to = |mode: u32| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(meta.join("secret"), mode).unwrap();
        };
        open_to(0o666);
        assert!(own(&meta).unwrap_err().to_string().contains("others can read or write it"));
        open_to(0o600);
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
        // A token is for nothing where others know another node.
        fs::write(meta.join("joined"), "").unwrap();
        let why = is_whole(&meta, Known::AGENT).unwrap_err().to_string();
        assert!(why.contains("secret is gone, by which this node proves"), "{why}");
        fs::remove_file(meta.join("joined")).unwrap();
        is_whole(&meta, Known::AGENT).unwrap();
        fs::remove_file(meta.join("key")).unwrap();
        is_whole(&meta, Known::AGENT).unwrap();
        fs::write(meta.join("ledger"), "").unwrap();
        let why = is_whole(&meta, Known::AGENT).unwrap_err().to_string();
        assert!(why.contains("are gone, by which the cluster knows"), "{why}");
        fs::remove_dir_all(&meta).unwrap();
    }
}
