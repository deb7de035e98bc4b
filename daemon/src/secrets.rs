//! Files that are nobody else's: whose they are, and what others may do with them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What others may not do with a file that has a secret.
const OF_SECRETS: u32 = 0o007;
/// What they may not do with one that says who may do what.
const OF_RULES: u32 = 0o002;

/// Why a file with a secret is none: others reach it, or it is somebody else's.
pub(crate) fn judge(of: &Metadata) -> Result<(), String> {
    judged(of.mode(), of.uid(), rustix::process::geteuid().as_raw(), OF_SECRETS)
}

/// The same of the file at a path.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    judge(&path.metadata().map_err(|error| error.to_string())?)
}

/// Why a file of rules is not to be gone by.
pub(crate) fn judge_rules(of: &Metadata) -> Result<(), String> {
    judged(of.mode(), of.uid(), rustix::process::geteuid().as_raw(), OF_RULES)
}

fn judged(mode: u32, owner: u32, own: u32, closed: u32) -> Result<(), String> {
    if mode & closed != 0 {
        let (may, bits) = match closed {
            OF_RULES => ("write", "o-w"),
            _ => ("read or write", "o="),
        };
        return Err(format!("others can {may} it: chmod {bits} it"));
    }
    if owner != 0 && owner != own {
        return Err(format!("it is user {owner}'s, who can replace it: chown {own} it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_its_users_or_roots_and_nobody_else_reaches_it() {
        for (mode, owner) in [(0o600, 7), (0o640, 7), (0o600, 0), (0o100_660, 0)] {
            assert_eq!(judged(mode, owner, 7, OF_SECRETS), Ok(()), "{mode:o} of {owner}");
        }
        for (mode, owner, words) in [
            (0o666, 7, "others can read or write it: chmod o= it"),
            (0o604, 0, "others can read or write it"),
            (0o601, 0, "others can read or write it"),
            (0o600, 8, "it is user 8's, who can replace it: chown 7 it"),
        ] {
            let why = judged(mode, owner, 7, OF_SECRETS).unwrap_err();
            assert!(why.contains(words), "{mode:o} of {owner}: {why}");
        }
        // What everybody may know is only not to be anybody's to write.
        assert_eq!(judged(0o644, 0, 7, OF_RULES), Ok(()));
        assert!(judged(0o646, 0, 7, OF_RULES).unwrap_err().contains("others can write it"));
        assert!(judged(0o644, 8, 7, OF_RULES).is_err());
    }
}
