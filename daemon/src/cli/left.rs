//! What a machine knows that was a master and is none any more, and how that is changed.
//!
//! It is let in no more. What all masters have in common it has all the same, and whoever has its disk.

use mesita_core::wire::svc::{Keep, Stream};

use super::ask;
use super::ps::text;
use crate::access::{kept, tokens};
use crate::alarm;
use crate::flags::Where;

/// Names that are told in one line.
const TOLD: usize = 16;

/// Tells whoever took a master away what to change, on stderr.
pub(super) fn told(at: &Where) {
    let names = |owner: &'static str, name: &str| {
        let kind = Stream::Store { owner, key: "", verb: Keep::List };
        let rows = alarm::block_on(ask::rows(at, kind)).unwrap_or_default();
        rows.iter().map(|row| text(&row[name])).collect::<Vec<_>>()
    };
    let principals = names(kept::OWNER, "principal");
    errln!("{}", sentences(&principals, &names(tokens::TOKENS, "key")));
}

fn sentences(principals: &[String], tokens: &[String]) -> String {
    let list = |names: &[String]| {
        let first = names.get(..names.len().min(TOLD)).unwrap_or_default().join(", ");
        let more = if names.len() > TOLD { " and others" } else { "" };
        if names.is_empty() { "none now".to_owned() } else { format!("{first}{more}") }
    };
    format!(
        "It is let in no more. If somebody else may have its disk, change what it knew, in this order:\n\
         1. The key of datagrams: a new one (`umask 077; head -c 32 /dev/urandom > FILE`) as the second \
         --gossip-key-file of each master that is left, gossip2.key beside the first, and SIGHUP to each; \
         then as the first of each, SIGHUP, which still opens what was sealed before; then \
         remove the second, SIGHUP, which opens that no more.\n\
         2. Tokens ({tokens}): `mesita token revoke ID`, and `mesita token create` for those that are \
         needed.\n\
         3. Principals that the masters keep ({principals}): `mesita principal add NAME ... --replace` \
         gives each another secret.\n\
         4. Those of --credentials, the operator's among them: another secret for each in the file of each \
         master, and SIGHUP.\n\
         5. The authority, if it had --tls-ca-key-file, as masters of `mesita init` have: it can pass for a \
         master. Nodes know the masters by that key, so it is changed by another cluster: `mesita init`, \
         and all join that.\n\
         6. What frameworks have stored (`mesita store ls --owner OWNER`), where secrets are in it.",
        tokens = list(tokens),
        principals = list(principals),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_changed_is_told_by_name() {
        let names = |count: usize| (0..count).map(|at| format!("n{at}")).collect::<Vec<_>>();
        let told = sentences(&names(2), &[]);
        assert!(told.contains("Principals that the masters keep (n0, n1)"), "{told}");
        assert!(told.contains("Tokens (none now)"), "{told}");
        let told = sentences(&[], &names(40));
        assert!(told.contains("n15 and others)") && !told.contains("n16"), "{told}");
        for word in ["--gossip-key-file", "--credentials", "--tls-ca-key-file", "token revoke"] {
            assert!(told.contains(word), "{word}");
        }
    }
}
