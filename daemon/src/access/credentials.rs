//! Principals with their secrets, out of files that only their owner reads.
//!
//! Secrets are compared in a time that does not tell how much of them was right, and are shown
//! nowhere: not by `Debug`, and no message holds one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctutils::{Choice, CtEq};
use hyper::header::HeaderValue;
use mesita_core::limits::NAME_MAX;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::kept::{Principal, Terms};
use crate::secrets;

/// Credentials in one file.
pub(crate) const CREDENTIALS_MAX: usize = 1_024;
/// Bytes of a secret.
const SECRET_MAX: usize = 255;
/// The least bytes of a secret that may be shown without its principal.
const BEARER_MIN: usize = 16;
/// Bytes of a file.
const FILE_MAX: u64 = 1 << 20;

/// A file that is no use, and why.
#[derive(Debug)]
pub(crate) struct BadFile {
    path: PathBuf,
    why: String,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

/// What somebody proves by who it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) principal: String,
    secret: Secret,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({:?})", self.principal)
    }
}

/// Variables of every task's environment.
#[derive(Clone, Default)]
pub(crate) struct ForTasks(std::sync::Arc<[(String, String)]>);

impl ForTasks {
    pub(crate) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().cloned()
    }
}

impl fmt::Debug for ForTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// How one credential is written.
const ONE: &str = "{\"principal\": \"...\", \"secret\": \"...\"}";

/// True when what should name a file is a credential.
fn is_itself(told: &Path) -> bool {
    told.as_os_str().as_encoded_bytes().trim_ascii_start().starts_with(b"{")
}

/// What is wrong with a credential that is in no file.
fn itself(why: String) -> BadFile {
    BadFile { path: "MESITA_CREDENTIAL".into(), why }
}

/// Where JSON is wrong, but nothing of what is there.
fn expected(error: &serde_json::Error, form: &str) -> String {
    format!("line {} column {}: expected {form}", error.line(), error.column())
}

/// A secret, of one length whatever it is.
#[derive(Clone, Eq)]
struct Secret {
    bytes: [u8; SECRET_MAX + 1],
    len: u8,
}

impl Secret {
    /// None when it is too long.
    fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = [0; SECRET_MAX + 1];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Self { bytes, len: u8::try_from(secret.len()).ok()? })
    }

    fn is(&self, other: &Self) -> Choice {
        self.bytes.ct_eq(&other.bytes) & self.len.ct_eq(&other.len)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other).to_bool()
    }
}

impl Credential {
    /// Reads the file of one credential. Mesos: `--credential` of an agent.
    pub(crate) fn read(path: &Path) -> Result<Self, BadFile> {
        if is_itself(path) {
            let why = "it is a credential itself, which a daemon would tell with its flags";
            return Err(itself(why.to_owned()));
        }
        let bad = |why: String| BadFile { path: path.to_owned(), why };
        let row: Row = json(path, ONE)?;
        row.checked().map_err(bad)
    }

    /// A principal and its secret.
    pub(crate) fn new(principal: &str, secret: &str) -> Result<Self, String> {
        Row { principal: principal.to_owned(), secret: Some(secret.to_owned()) }.checked()
    }

    /// The same for a command, which also takes the credential itself, as tasks have it in their
    /// environment.
    pub(crate) fn shown(told: &Path) -> Result<Self, BadFile> {
        if !is_itself(told) {
            return Self::read(told);
        }
        let row = serde_json::from_slice::<Row>(told.as_os_str().as_encoded_bytes());
        let row = row.map_err(|error| itself(expected(&error, ONE)))?;
        row.checked().map_err(itself)
    }

    /// What tasks find in their environment when the operator wants that: where the masters are, and
    /// this credential, for themselves and for Mesos' own frameworks.
    pub(crate) fn for_tasks(&self, masters: &str, insecure: bool) -> ForTasks {
        let secret = String::from_utf8_lossy(self.secret()).into_owned();
        let whole = serde_json::json!({"principal": self.principal, "secret": secret});
        let variables = [
            ("MESITA_MASTER", masters.to_owned()),
            ("MESITA_CREDENTIAL", whole.to_string()),
            ("DEFAULT_PRINCIPAL", self.principal.clone()),
            ("DEFAULT_SECRET", secret),
        ];
        let insecure = insecure.then(|| ("MESITA_INSECURE", "true".to_owned()));
        let all = variables.into_iter().chain(insecure);
        ForTasks(all.map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// One that is in no file. A secret that is too long proves nothing.
    pub(crate) fn of(principal: String, secret: &[u8]) -> Self {
        let none = Secret { bytes: [0; SECRET_MAX + 1], len: 0 };
        Self { principal, secret: Secret::new(secret).unwrap_or(none) }
    }

    /// The user of a framework that names none: a principal is no user, so that who shows one says
    /// which it is.
    pub(crate) fn user(shown: Option<&Self>, named: &str) -> String {
        if shown.is_none() || !named.is_empty() {
            return named.to_owned();
        }
        let uid = rustix::process::geteuid().as_raw();
        mesita_isolation::user::name_of(uid).unwrap_or_else(|| uid.to_string())
    }

    pub(super) fn secret(&self) -> &[u8] {
        &self.secret.bytes[..self.secret.len.into()]
    }
}

/// A row as the file has it.
#[derive(Deserialize)]
struct Row {
    principal: String,
    secret: Option<String>,
}

impl Row {
    fn checked(self) -> Result<Credential, String> {
        let shown = self.principal.escape_debug().to_string();
        if self.principal.is_empty() || self.principal.len() > NAME_MAX {
            return Err(format!("`{shown}` is no principal: 1 to {NAME_MAX} bytes"));
        }
        let plain = |c: char| !c.is_control() && c != ':';
        if !self.principal.chars().all(plain) {
            return Err(format!(
                "the principal `{shown}` has a colon or a control character in it"
            ));
        }
        let secret = self.secret.filter(|secret| !secret.is_empty());
        let secret = secret.ok_or_else(|| format!("`{shown}` has no secret"))?;
        let secret = Secret::new(secret.as_bytes());
        let secret = secret
            .ok_or_else(|| format!("the secret of `{shown}` is longer than {SECRET_MAX} bytes"))?;
        Ok(Credential { principal: self.principal, secret })
    }
}

/// A row of `--credentials`: what Mesos has in it, and what `mesita principal add` says of others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    principal: String,
    secret: Option<String>,
    roles: Option<Vec<String>>,
    users: Option<Vec<String>>,
    operate: Option<bool>,
    agent: Option<bool>,
}

/// How that is written.
const MANY: &str = "{\"credentials\": [{\"principal\": \"...\", \"secret\": \"...\"}]}, each of them \
                    with roles, users, operate and agent, or some of these";

impl Listed {
    fn checked(self) -> Result<Principal, String> {
        let Self { principal, secret, roles, users, operate, agent } = self;
        let says = roles.is_some() || users.is_some() || operate.is_some() || agent.is_some();
        let credential = Row { principal, secret }.checked()?;
        let terms = Terms {
            secret: String::new(),
            roles: roles.unwrap_or_default(),
            users: users.unwrap_or_default(),
            operate: operate.unwrap_or_default(),
            agent: agent.unwrap_or_default(),
        };
        terms.check().map_err(|why| format!("`{}`: {why}", credential.principal))?;
        Ok(Principal { credential, terms, says })
    }
}

impl From<Row> for Listed {
    fn from(row: Row) -> Self {
        let Row { principal, secret } = row;
        Self { principal, secret, roles: None, users: None, operate: None, agent: None }
    }
}

/// Everybody that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials(BTreeMap<String, Principal>);

impl Credentials {
    /// Reads a file. Mesos: `--credentials`.
    pub(crate) fn read(path: &Path) -> Result<Self, BadFile> {
        #[derive(Deserialize)]
        struct File {
            credentials: Vec<Listed>,
        }
        let bad = |why: String| BadFile { path: path.to_owned(), why };
        let bytes = whole(path)?;
        let file: File = match lines(&bytes) {
            Some(rows) => File { credentials: rows.into_iter().map(Listed::from).collect() },
            None => serde_json::from_slice(&bytes).map_err(|error| bad(expected(&error, MANY)))?,
        };
        if file.credentials.len() > CREDENTIALS_MAX {
            return Err(bad(format!("more than {CREDENTIALS_MAX} credentials")));
        }
        let mut known = BTreeMap::new();
        for row in file.credentials {
            let principal = row.checked().map_err(bad)?;
            let name = principal.credential.principal.clone();
            if known.insert(name.clone(), principal).is_some() {
                return Err(bad(format!("the principal `{name}` is there twice")));
            }
        }
        Ok(Self(known))
    }

    /// Principals.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// True when nobody is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn find(&self, principal: &str) -> Option<&Principal> {
        self.0.get(principal)
    }

    /// The principal of an `Authorization` that is right.
    #[cfg(test)]
    pub(crate) fn check(&self, shown: &HeaderValue) -> Option<&str> {
        let find = |name: &str| self.find(name).map(|known| &known.credential);
        let all = self.all().map(|known| &known.credential);
        check(shown, find, all).map(|known| &*known.principal)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Principal> {
        self.0.values()
    }
}

/// Whom an `Authorization` is of, if its secret is right. `Basic` shows both; `Bearer` the secret
/// alone, which then has at least 16 bytes and is nobody else's of those known.
pub(super) fn check<'c>(
    shown: &HeaderValue,
    find: impl FnOnce(&str) -> Option<&'c Credential>,
    all: impl Iterator<Item = &'c Credential>,
) -> Option<&'c Credential> {
    let (scheme, rest) = shown.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("basic") {
        let pair = STANDARD.decode(rest).ok()?;
        let at = pair.iter().position(|&byte| byte == b':')?;
        let principal = std::str::from_utf8(&pair[..at]).ok()?;
        let secret = Secret::new(&pair[at + 1..])?;
        let known = find(principal)?;
        return known.secret.is(&secret).to_bool().then_some(known);
    }
    if !scheme.eq_ignore_ascii_case("bearer") || rest.len() < BEARER_MIN {
        return None;
    }
    let secret = Secret::new(rest.as_bytes())?;
    // All of them are looked at, whichever it is.
    let mut found = (0, None);
    for known in all {
        if known.secret.is(&secret).to_bool() {
            found = (found.0 + 1, Some(known));
        }
    }
    found.1.filter(|_| found.0 == 1)
}

/// Reads a file of secrets: JSON that only its owner, and whom that trusts, can read.
fn json<T: DeserializeOwned>(path: &Path, form: &str) -> Result<T, BadFile> {
    let bad = |why: String| BadFile { path: path.to_owned(), why };
    serde_json::from_slice(&whole(path)?).map_err(|error| bad(expected(&error, form)))
}

/// Credentials in the form before JSON, which Mesos still reads: a principal and a secret on each line.
/// None for everything else.
fn lines(bytes: &[u8]) -> Option<Vec<Row>> {
    let is_json = |text: &&str| text.trim_start().starts_with(['{', '[', '"']);
    let text = std::str::from_utf8(bytes).ok().filter(|text| !is_json(text))?;
    let given = text.lines().filter(|line| !line.trim().is_empty());
    let rows: Option<Vec<Row>> = given
        .map(|line| {
            let mut words = line.split_whitespace();
            let (principal, secret) = (words.next()?, words.next()?);
            let row = Row { principal: principal.to_owned(), secret: Some(secret.to_owned()) };
            words.next().is_none().then_some(row)
        })
        .collect();
    rows.filter(|rows| !rows.is_empty())
}

/// A file with secrets, which others must not read.
fn whole(path: &Path) -> Result<Vec<u8>, BadFile> {
    let path = path.to_str().and_then(|text| text.strip_prefix("file://")).map_or(path, Path::new);
    let bad = |why: String| BadFile { path: path.to_owned(), why };
    let mut file = fs::File::open(path).map_err(|error| bad(error.to_string()))?;
    let of = file.metadata().map_err(|error| bad(error.to_string()))?;
    secrets::judge(&of).map_err(bad)?;
    let mut bytes = Vec::new();
    let read = Read::by_ref(&mut file).take(FILE_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| bad(error.to_string()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(bad("larger than 1 MiB".to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &str, mode: u32) -> tempfile::Kept {
        tempfile::Kept::new(text, mode)
    }

    /// A file that goes with its test.
    mod tempfile {
        use super::*;
        use std::sync::atomic::{AtomicU32, Ordering};

        static NUMBER: AtomicU32 = AtomicU32::new(0);

        pub(super) struct Kept(pub(super) PathBuf);

        impl Kept {
            pub(super) fn new(text: &str, mode: u32) -> Self {
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                let name = format!("mesita-credentials-{}-{number}", std::process::id());
                let path = std::env::temp_dir().join(name);
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                Self(path)
            }
        }

        impl Drop for Kept {
            fn drop(&mut self) {
                let _ = fs::remove_file(&self.0);
            }
        }
    }

    const TWO: &str = r#"{"credentials": [
        {"principal": "web", "secret": "open sesame, please"},
        {"principal": "db", "secret": "xyzzy"}
    ]}"#;

    fn checked(credentials: &Credentials, shown: &str) -> Option<String> {
        let value = HeaderValue::from_str(shown).unwrap();
        credentials.check(&value).map(str::to_owned)
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn a_principal_is_who_shows_its_secret() {
        let known = Credentials::read(&file(TWO, 0o600).0).unwrap();
        assert_eq!(checked(&known, &basic("db:xyzzy")), Some("db".to_owned()));
        for wrong in ["db:xyzz", "db:xyzzyy", "db:", "web:xyzzy", "nobody:xyzzy", "db", ":", ""] {
            assert_eq!(checked(&known, &basic(wrong)), None, "{wrong}");
        }
        for wrong in ["Basic", "Basic ", "Basic !!", "Digest x", "basic", "Negotiate a b c"] {
            assert_eq!(checked(&known, wrong), None, "{wrong}");
        }
        let own = Credential::read(&file(r#"{"principal": "db", "secret": "xyzzy"}"#, 0o600).0);
        let own = own.unwrap();
        assert!(!format!("{own:?} {known:?}").contains("xyzzy"));
    }

    #[test]
    fn a_token_is_a_secret_that_is_long_and_nobody_elses() {
        let known = Credentials::read(&file(TWO, 0o600).0).unwrap();
        assert_eq!(checked(&known, "Bearer open sesame, please"), Some("web".to_owned()));
        assert_eq!(checked(&known, "Bearer xyzzy"), None, "too short to stand alone");
        let same = r#"{"credentials": [{"principal": "a", "secret": "0123456789abcdef"},
            {"principal": "b", "secret": "0123456789abcdef"}]}"#;
        let known = Credentials::read(&file(same, 0o600).0).unwrap();
        assert_eq!(checked(&known, "Bearer 0123456789abcdef"), None, "whose?");
    }

    #[test]
    fn a_bad_file_is_refused_with_what_to_do_and_none_of_its_secrets() {
        let long = format!(r#"{{"credentials": [{{"principal":"a","secret":"{0:x<256}"}}]}}"#, "");
        let many = vec![r#"{"principal":"a","secret":"x"}"#; CREDENTIALS_MAX + 1].join(",");
        let many = format!(r#"{{"credentials": [{many}]}}"#);
        for (text, mode, why) in [
            (TWO, 0o644, "chmod o= it"),
            ("{\"credentials\": [{\"principal\": \"hush", 0o600, "line 1 column"),
            (r#"[{"principal": "a", "secret": "hush"}]"#, 0o600, "expected {\"credentials\""),
            (r#"{"credentials": [{"principal": "a"}]}"#, 0o600, "`a` has no secret"),
            (r#"{"credentials": [{"principal": "", "secret": "hush"}]}"#, 0o600, "is no principal"),
            (r#"{"credentials": [{"principal": "a:b", "secret": "hush"}]}"#, 0o600, "a colon"),
            (
                r#"{"credentials": [{"principal":"a","secret":"hush"},{"principal":"a","secret":"hush"}]}"#,
                0o600,
                "twice",
            ),
            (&long, 0o600, "longer than 255"),
            (&many, 0o600, "more than 1024"),
        ] {
            let refused = Credentials::read(&file(text, mode).0).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
            assert!(!refused.contains("hush"), "{refused}");
        }
        let inline = Path::new(r#"{"principal": "a", "secret": "hush"}"#);
        assert_eq!(Credential::shown(inline).unwrap().principal, "a");
        let refused = Credential::read(inline).unwrap_err().to_string();
        assert!(refused.contains("a credential itself") && !refused.contains("hush"), "{refused}");
        let refused = Credential::shown(Path::new("{\"principal\": \"hush")).unwrap_err();
        assert!(!refused.to_string().contains("hush"), "{refused}");
        let missing = Credentials::read(Path::new("/nowhere/x")).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/x: No such file"), "{missing}");
    }
}
