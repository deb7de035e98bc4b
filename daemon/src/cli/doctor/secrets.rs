//! Files that are nobody else's: keys, credentials and tokens that others could read, or replace.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Finding, State};
use crate::access::tokens::Join;
use crate::cli::join::tells;
use crate::flags::{Agent, Master};
use crate::secrets;

const OF: &str = "secrets";
/// What in `meta` is the agent's alone.
const KEPT: [&str; 5] = ["key", "joined", "ledger", "ledger.key", "executors.key"];
/// What no agent goes by, and no master, that others could have.
const PROOFS: [&str; 2] = ["secret", "secret.next"];

/// One finding for each file that is open to others, or that all are closed.
pub(super) fn all(flags: &Agent, work_dir: &Path) -> Vec<Finding> {
    let mut files: Vec<(&'static str, PathBuf)> = [
        ("--credential", &flags.access.credential),
        ("--task-credential", &flags.access.task_credential),
        ("--http-credentials", &flags.access.http_credentials),
        ("--tls-key-file", &flags.listen.shown.tls_key_file),
    ]
    .into_iter()
    .filter_map(|(flag, path)| Some((flag, path.clone()?)))
    .collect();
    files.extend(of_token(flags.join.as_deref(), flags.common.config.as_deref()));
    told(files, work_dir)
}

/// The same of a master.
pub(super) fn of_master(flags: &Master, work_dir: &Path) -> Vec<Finding> {
    let named = [
        ("--credentials", &flags.access.credentials),
        ("--tls-key-file", &flags.listen.shown.tls_key_file),
        ("--tls-ca-key-file", &flags.set.tls_ca_key_file),
    ];
    let named = named.into_iter().filter_map(|(flag, path)| Some((flag, path.clone()?)));
    let join = of_token(flags.set.join.as_deref(), flags.common.config.as_deref());
    let gossip = flags.set.gossip_key_file.iter().map(|path| ("--gossip-key-file", path.clone()));
    told(named.chain(join).chain(gossip).collect(), work_dir)
}

/// Where a token is. One by itself is no file, but the file of flags may have it.
fn of_token(join: Option<&str>, config: Option<&Path>) -> Option<(&'static str, PathBuf)> {
    let path = PathBuf::from(join?);
    if path.is_file() {
        return Some(("--join", path));
    }
    let is_token = join.is_some_and(|told| told.parse::<Join>().is_ok());
    let config = config.filter(|config| is_token && tells(config, join.unwrap_or_default()))?;
    Some(("--config", config.to_owned()))
}

fn told(mut files: Vec<(&'static str, PathBuf)>, work_dir: &Path) -> Vec<Finding> {
    let meta = work_dir.join("meta");
    files.extend(KEPT.map(|name| ("its own", meta.join(name))));
    files.extend(PROOFS.map(|name| ("--work-dir", meta.join(name))));
    let given = fs::read_dir(meta.join("given")).into_iter().flatten().flatten();
    files.extend(given.map(|entry| ("--work-dir", entry.path())));
    let there = files.iter().filter(|(_, path)| fs::metadata(path).is_ok()).count();
    let mut found: Vec<Finding> =
        files.iter().filter_map(|(of, path)| open(of, path, "600")).collect();
    found.extend(open("its own", &meta, "700"));
    if found.is_empty() && there > 0 {
        found.push(Finding::on(OF, format!("{there} files with secrets are read by nobody else")));
    }
    found
}

/// What others may do with a file that should be nobody else's.
fn open(of: &str, path: &Path, mode: &str) -> Option<Finding> {
    let found = fs::metadata(path).ok()?;
    // What a flag names the agent refuses to read then; what is its own it has made closed.
    let state = if of.starts_with("--") { State::Fails } else { State::Degraded };
    let shown = path.display();
    let may = match found.mode() & 0o007 {
        0 => {
            let why = secrets::judge(&found).err()?;
            return Some(Finding::new(
                OF,
                state,
                format!("{shown} ({of}): {}", why.replacen(": ", "; ", 1)),
            ));
        }
        bits if bits & 0o002 != 0 => "can write",
        bits if bits & 0o004 != 0 => "can read",
        _ => "can enter",
    };
    let sentence = format!(
        "everybody {may} {shown} ({of}, mode {:04o}); `chmod {mode} {shown}`, and put another secret \
         in its place: it may be known",
        found.mode() & 0o7777
    );
    Some(Finding::new(OF, state, sentence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_others_can_read_is_told_with_its_mode() {
        let path = std::env::temp_dir().join(format!("mesita-secrets-{}", std::process::id()));
        fs::write(&path, "s").unwrap();
        let told = |mode: u32, of: &str| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            open(of, &path, "600")
        };
        assert_eq!(told(0o640, "its own"), None, "a group may be the operator's");
        let read = told(0o644, "its own").unwrap();
        assert!(read.says.contains("can read") && read.says.contains("mode 0644"), "{read:?}");
        assert!(read.fix.starts_with("`chmod 600 "), "{read:?}");
        assert_eq!(read.state, State::Degraded);
        let written = told(0o602, "--credential").unwrap();
        assert!(written.says.contains("can write"), "{written:?}");
        assert_eq!(written.state, State::Fails);
        fs::remove_file(&path).unwrap();
        assert_eq!(open("its own", &path, "600"), None);
    }
}
