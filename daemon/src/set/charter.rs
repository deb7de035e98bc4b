//! What the masters of a closed cluster have in common: their authority, the keys of their datagrams,
//! and whom they let in. A master that joins by a token is given it, and keeps it in `meta/given`, as
//! the files that flags would name otherwise.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::access::Asks;
use crate::audit::AUDIT_LOG;
use crate::identity;
use crate::tls::{self, Pin, Signer};

/// The version of the text.
const VERSION: u32 = 1;
/// Bytes of it at the most: 1,024 credentials and as many rules are less.
pub(crate) const CHARTER_MAX: usize = 4 << 20;
/// How a certificate begins in PEM.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Where a master has what it gives to others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Its certificate, with the authority's behind it, and the key of that authority.
    pub(crate) authority: Option<(PathBuf, PathBuf)>,
    pub(crate) gossip: Vec<PathBuf>,
    pub(crate) credentials: Option<PathBuf>,
    /// Files, or the JSON itself.
    pub(crate) acls: Option<String>,
    pub(crate) rates: Option<String>,
    pub(crate) asks: Asks,
}

/// What a new master is given.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Charter {
    version: u32,
    /// Where the others are, parted by commas.
    pub(crate) masters: String,
    /// The authority's certificate and its key, as PEM.
    authority: Option<(String, String)>,
    /// Keys of datagrams, in base64; the first one seals.
    gossip: Vec<String>,
    credentials: Option<String>,
    acls: Option<String>,
    rates: Option<String>,
    asks: Asks,
}

impl Sources {
    /// Reads all of it now: keys may have been changed since this master began.
    pub(crate) fn read(&self, masters: &str) -> Result<Charter, String> {
        let said = |json: &String| {
            let path = json.strip_prefix("file://").unwrap_or(json);
            if json.trim_start().starts_with('{') {
                Ok(json.clone())
            } else {
                text(Path::new(path))
            }
        };
        let signs = |(chain, key): &(PathBuf, PathBuf)| authority_of(chain, key);
        // A second one is there while they are given another.
        let there = self.gossip.iter().enumerate().filter(|(at, path)| *at == 0 || path.exists());
        let gossip = there.map(|(_, path)| {
            fs::read(path).map(|key| STANDARD.encode(key)).map_err(|error| of(path, &error))
        });
        Ok(Charter {
            version: VERSION,
            masters: masters.to_owned(),
            authority: self.authority.as_ref().map(signs).transpose()?,
            gossip: gossip.collect::<Result<_, _>>()?,
            credentials: self.credentials.as_deref().map(text).transpose()?,
            acls: self.acls.as_ref().map(said).transpose()?,
            rates: self.rates.as_ref().map(said).transpose()?,
            asks: self.asks,
        })
    }
}

/// The certificate of the authority behind a daemon's own, and its key, as texts of PEM; or which of the two
/// files is no use, and why.
pub(crate) fn authority_of(chain: &Path, key: &Path) -> Result<(String, String), String> {
    let chain = text(chain)?;
    let last = chain.rfind(CERTIFICATE).map_or("", |at| &chain[at..]);
    let signs = text(key)?;
    tls::judge_authority(last, &signs).map_err(|why| format!("{}: {why}", key.display()))?;
    Ok((last.to_owned(), signs))
}

impl Charter {
    /// As it goes to the new master.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        // Our own types have no way to fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What came.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let charter: Self = serde_json::from_slice(bytes).map_err(|error| {
            format!("what the masters have in common cannot be read by this release: {error}")
        })?;
        if charter.version != VERSION {
            return Err("the masters are of a later release: use that one here, too".to_owned());
        }
        Ok(charter)
    }

    /// It has an authority, by which this master is given a certificate.
    pub(crate) fn signs(&self) -> bool {
        self.authority.is_some()
    }

    /// Keeps it, whole or not at all, for a master at these hosts that has joined by a token with this
    /// key; without hosts, for one that has a certificate of its own.
    pub(crate) fn keep(
        &self,
        meta: &Path,
        hosts: Option<&[String]>,
        pin: Pin,
    ) -> Result<(), String> {
        let (given, new) = (Given::of(meta).0, meta.join("given.new"));
        if let (Some((authority, key)), Some(_)) = (&self.authority, hosts) {
            let judged = tls::judge_authority(authority, key);
            judged.map_err(|why| format!("--tls-ca-key-file of the masters {why}"))?;
        }
        if new.exists() {
            fs::remove_dir_all(&new).map_err(|error| of(&new, &error))?;
        }
        DirBuilder::new().mode(0o700).create(&new).map_err(|error| of(&new, &error))?;
        let write = |name: &str, bytes: &[u8]| {
            identity::write(&new.join(name), bytes).map_err(|error| error.to_string())
        };
        if let (Some((authority, key)), Some(hosts)) = (&self.authority, hosts) {
            let signed = tls::sign(authority, key, hosts)?;
            write(CHAIN, signed.certificate.as_bytes())?;
            write(KEY, signed.key.as_bytes())?;
            write(AUTHORITY_KEY, key.as_bytes())?;
            // Nodes believe that key alone.
            let (chain, key) = (new.join(CHAIN), new.join(KEY));
            let served = tls::Served::read(&chain, &key, Signer::OfTheCluster)?;
            if served.anchor() != pin {
                return Err(
                    "the authority of the masters is not the one that the token names: give them a \
                     --tls-cert-file that ends with its certificate, and its --tls-ca-key-file, and \
                     join again"
                        .to_owned(),
                );
            }
        }
        for (name, key) in GOSSIP.iter().zip(&self.gossip) {
            let key = STANDARD.decode(key).map_err(|error| error.to_string())?;
            write(name, &key)?;
        }
        let texts = [(CREDENTIALS, &self.credentials), (ACLS, &self.acls), (RATES, &self.rates)];
        for (name, text) in texts {
            text.as_ref().map_or(Ok(()), |text| write(name, text.as_bytes()))?;
        }
        write(ASKS, &serde_json::to_vec(&self.asks).unwrap_or_default())?;
        write(MASTERS, self.masters.as_bytes())?;
        write(PIN, pin.to_string().as_bytes())?;
        fs::rename(&new, &given).map_err(|error| of(&given, &error))?;
        fs::File::open(meta).and_then(|file| file.sync_all()).map_err(|error| of(meta, &error))
    }
}

const CHAIN: &str = "master.pem";
const KEY: &str = "master.key";
const AUTHORITY_KEY: &str = "ca.key";
/// As many as a set has while its key is changed.
const GOSSIP: [&str; 2] = ["gossip.key", "gossip2.key"];
const CREDENTIALS: &str = "credentials";
const ACLS: &str = "acls";
const RATES: &str = "rate-limits";
const ASKS: &str = "asks";
const MASTERS: &str = "masters";
const PIN: &str = "pin";

/// What a master was given that joined by a token: `meta/given`.
#[derive(Debug)]
pub(crate) struct Given(PathBuf);

impl Given {
    /// Where it would be.
    pub(crate) fn of(meta: &Path) -> Self {
        Self(meta.join("given"))
    }

    /// It has joined, or is about to.
    pub(crate) fn is_there(&self) -> bool {
        self.0.join(PIN).exists()
    }

    /// The key that its token said.
    pub(crate) fn pin(&self) -> Option<Pin> {
        fs::read_to_string(self.0.join(PIN)).ok()?.parse().ok()
    }

    /// Its certificate and the key of that.
    pub(crate) fn certificate(&self) -> Option<[PathBuf; 2]> {
        let files = [CHAIN, KEY].map(|name| self.0.join(name));
        files[0].exists().then_some(files)
    }

    /// The key of the authority.
    pub(crate) fn authority_key(&self) -> Option<PathBuf> {
        self.file(AUTHORITY_KEY)
    }

    /// The keys of datagrams, and where a second one would be.
    pub(crate) fn gossip(&self) -> Vec<PathBuf> {
        let has = self.file(GOSSIP[0]).is_some();
        GOSSIP.iter().filter(|_| has).map(|name| self.0.join(name)).collect()
    }

    /// Whom the others let in.
    pub(crate) fn credentials(&self) -> Option<PathBuf> {
        self.file(CREDENTIALS)
    }

    /// What those may do.
    pub(crate) fn acls(&self) -> Option<PathBuf> {
        self.file(ACLS)
    }

    /// How often they may call.
    pub(crate) fn rates(&self) -> Option<PathBuf> {
        self.file(RATES)
    }

    /// Who has to show a credential.
    pub(crate) fn asks(&self) -> Asks {
        let text = fs::read(self.0.join(ASKS)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Where the others were.
    pub(crate) fn masters(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.join(MASTERS)).unwrap_or_default();
        text.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect()
    }

    /// Where it writes down who asked for which change: in its work directory, as the first master does.
    pub(crate) fn audit_log(&self) -> Option<PathBuf> {
        Some(self.0.parent()?.parent()?.join(AUDIT_LOG))
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.0.join(name)).filter(|path| path.exists())
    }
}

fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| of(path, &error))
}

fn of(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_given_is_kept_as_files_that_nobody_else_reads() {
        let meta = std::env::temp_dir().join(format!("mesita-charter-{}", std::process::id()));
        fs::create_dir(&meta).unwrap();
        let file = |name: &str| meta.join(name);
        let made = tls::made::make("shop", &["10.0.0.1".to_owned()]).unwrap();
        fs::write(file("chain"), &made.signed.certificate).unwrap();
        fs::write(file("authority"), &made.authority_key).unwrap();
        fs::write(file("key"), [7; 32]).unwrap();
        fs::write(file("who"), "{}").unwrap();
        let sources = Sources {
            authority: Some((file("chain"), file("authority"))),
            gossip: vec![file("key")],
            credentials: Some(file("who")),
            acls: Some("{\"permissive\": false}".to_owned()),
            rates: None,
            asks: Asks { agents: true, ..Asks::default() },
        };
        let given = Given::of(&meta);
        assert!(!given.is_there() && given.certificate().is_none());
        let charter = Charter::parse(&sources.read("a:1,b:2").unwrap().bytes()).unwrap();
        identity::write(&file("secret"), made.signed.key.as_bytes()).unwrap();
        let pin = tls::Served::read(&file("chain"), &file("secret"), Signer::OfTheCluster);
        let pin = pin.unwrap().anchor();
        let hosts = ["10.0.0.2".to_owned()];
        let foreign: Pin = "ab".repeat(32).parse().unwrap();
        let refused = charter.keep(&meta, Some(&hosts), foreign).unwrap_err();
        assert!(refused.contains("not the one that the token names") && !given.is_there());
        // One that has a certificate needs none, whoever it believes.
        charter.keep(&meta, None, foreign).unwrap();
        assert!(given.certificate().is_none() && given.is_there());
        fs::remove_dir_all(file("given")).unwrap();
        for _ in 0..2 {
            // The power may go before the directory has its name.
            fs::create_dir(file("given.new")).unwrap();
            charter.keep(&meta, Some(&hosts), pin).unwrap();
            assert_eq!((given.pin(), given.is_there()), (Some(pin), true));
            fs::rename(file("given"), file("once")).unwrap();
            fs::remove_dir_all(file("once")).unwrap();
        }
        charter.keep(&meta, Some(&hosts), pin).unwrap();
        let [chain, key] = given.certificate().unwrap();
        let served = tls::Served::read(&chain, &key, Signer::OfTheCluster).unwrap();
        assert!(fs::read_to_string(&chain).unwrap().ends_with(&made.authority));
        assert_eq!(served.anchor(), pin);
        assert_eq!(fs::read(&given.gossip()[0]).unwrap(), [7; 32]);
        // The second one is looked for as often as they are read.
        assert_eq!((given.gossip().len(), given.rates()), (2, None));
        assert!(!given.gossip()[1].exists());
        assert_eq!(given.masters(), ["a:1", "b:2"]);
        assert!(given.asks().agents && !given.asks().readonly);
        assert!(fs::read_to_string(given.acls().unwrap()).unwrap().contains("permissive"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file("given")), 0o700);
        for entry in fs::read_dir(file("given")).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
        let newer = String::from_utf8(charter.bytes()).unwrap();
        let newer = newer.replacen("\"version\":1", "\"version\":2", 1);
        assert!(Charter::parse(newer.as_bytes()).err().unwrap().contains("later release"));
        assert!(Charter::parse(b"{}").err().unwrap().contains("cannot be read"));
        // A key that others put in the place of the authority's is given to nobody, and kept by nobody.
        let other = tls::made::make("shop", &["10.0.0.1".to_owned()]).unwrap();
        fs::write(file("authority"), &other.authority_key).unwrap();
        let why = sources.read("").err().unwrap();
        assert!(why.contains("authority: is not the key of the last certificate"), "{why}");
        let authority = Some((made.authority.clone(), made.authority_key[..100].to_owned()));
        let torn = Charter { authority, ..charter.clone() };
        fs::remove_dir_all(file("given")).unwrap();
        let why = torn.keep(&meta, Some(&hosts), pin).unwrap_err();
        assert!(why.contains("--tls-ca-key-file of the masters has no private key"), "{why}");
        assert!(!file("given.new").exists() && !given.is_there());
        fs::write(file("authority"), &made.authority_key).unwrap();
        let missing = Sources { credentials: Some(file("none")), ..sources };
        assert!(missing.read("").err().unwrap().contains("none: No such file"));
        fs::remove_dir_all(meta).unwrap();
    }
}
