//! Tokens by which nodes join a cluster, and the nodes that have: how masters keep them among the
//! values that they store, and how people pass them on.
//!
//! A token is `v1.<pin>.<id>.<secret>`: the key by which a node knows the masters, before it says
//! anything; which token it is; and what only its holders have. Masters keep a hash of the secret, and
//! a proof is made of that: the secret itself goes nowhere.

use std::fmt;
use std::str::FromStr;

use mesita_core::limits::STORED_MAX;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Credential;
use crate::tls::Pin;

/// Whose values tokens are. No principal has a colon, and no local user an empty kind.
pub(crate) const TOKENS: &str = ":tokens";
/// The same of the nodes that have joined.
pub(crate) const NODES: &str = ":nodes";
/// The same of keys that nodes have changed to.
pub(crate) const PROOFS: &str = ":proofs";
/// What the first master of a cluster takes in from its `meta` when it leads: tokens by their ids.
pub(crate) const FIRST_TOKENS: &str = "first-tokens";
/// What a node that proves to have a token calls itself, before the id of the token.
pub(crate) const TOKEN: &str = "token:";
/// Nodes that are kept in one value.
pub(crate) const NODES_EACH: usize = 64;
/// Bytes of one of them at the most: key, state, id of a token.
const NODE_BYTES: usize = 32 + 1 + 5;
const _: () = assert!(NODES_EACH * NODE_BYTES + 8 <= STORED_MAX);
/// Keys that nodes have changed to, kept in one value: each is two of them.
pub(crate) const PROOFS_EACH: usize = 63;
const _: () = assert!(PROOFS_EACH * 64 + 8 <= STORED_MAX);

/// What a node may join as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum NodeRole {
    /// It runs tasks.
    Agent,
    /// It is one of those that decide, and is given all that they have in common.
    Master,
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Master => "master",
        })
    }
}

/// A token as masters keep it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) role: NodeRole,
    /// Nodes that may still join by it.
    pub(crate) uses: u32,
    /// How long it may still be used while a leader counts, in µs.
    pub(crate) left_us: u64,
    /// SHA-256 of the secret.
    pub(crate) secret: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, {}, {})", self.role, self.uses, self.left_us)
    }
}

/// A node that has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) key: [u8; 32],
    pub(crate) state: NodeState,
    /// By which token.
    pub(crate) token: u32,
}

/// A node that proves who it is by another key than the one that it joined by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proof {
    /// What it joined by: its name.
    pub(crate) name: [u8; 32],
    pub(crate) key: [u8; 32],
}

/// What a node is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NodeState {
    /// It may be an agent.
    Agent,
    /// It may be nothing any more.
    Revoked,
    /// It may be a master.
    Master,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Revoked => "revoked",
            Self::Master => "master",
        })
    }
}

impl NodeRole {
    /// What a node that joins so is from then on.
    pub(crate) fn state(self) -> NodeState {
        match self {
            Self::Agent => NodeState::Agent,
            Self::Master => NodeState::Master,
        }
    }
}

/// A value with its form before it: one that is newer is none to this release.
const FORM: u8 = 1;

/// A value as it is kept.
pub(crate) fn kept(value: &impl Serialize) -> Vec<u8> {
    // Our own types have no way to fail.
    postcard::to_allocvec(&(FORM, value)).unwrap_or_default()
}

/// What is kept in a value; none when this release does not know it.
pub(crate) fn read<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Option<T> {
    let (form, rest) = bytes.split_first()?;
    (*form == FORM).then(|| postcard::from_bytes(rest).ok()).flatten()
}

/// A token as people pass it on.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) pin: Pin,
    pub(crate) id: u32,
    secret: String,
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Join({:08x})", self.id)
    }
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}.{:08x}.{}", self.pin, self.id, self.secret)
    }
}

impl Join {
    /// Draws a token by which masters with this key are joined.
    pub(crate) fn draw(pin: Pin) -> Self {
        let secret: [u8; 16] = crate::random::bytes();
        let secret = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { pin, id: u32::from_le_bytes(crate::random::bytes()), secret }
    }

    /// What masters keep of its secret.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.as_bytes()).into()
    }

    /// What a node proves to have.
    pub(crate) fn credential(&self) -> Credential {
        credential(self.id, &self.hash())
    }
}

/// The credential that a token is.
pub(crate) fn credential(id: u32, hash: &[u8; 32]) -> Credential {
    Credential::of(format!("{TOKEN}{id:08x}"), hash)
}

/// The form of a token, for who has none.
const WANTED: &str = "`mesita token create` prints one: v1.<key>.<id>.<secret>";

impl FromStr for Join {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Capitals are other digits to nobody but the hash of the secret.
        let text = text.trim().to_ascii_lowercase();
        let parts: Vec<&str> = text.split('.').collect();
        let form = parts.first().copied().unwrap_or_default();
        let is_form = form.strip_prefix('v').is_some_and(|of| of.parse::<u32>().is_ok());
        if !is_form {
            return Err(format!("this is no token; {WANTED}"));
        }
        if form != "v1" {
            return Err(format!(
                "the token is of form {form}, and this release knows v1; {WANTED}"
            ));
        }
        let [_, pin, id, secret] = parts[..] else {
            return Err(format!("the token is not whole; {WANTED}"));
        };
        let is_hex = |text: &str, len| {
            text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if !is_hex(pin, 64) || !is_hex(id, 8) || !is_hex(secret, 32) {
            return Err(format!("the token is not whole; {WANTED}"));
        }
        let id = u32::from_str_radix(id, 16).map_err(|error| error.to_string())?;
        Ok(Self { pin: pin.parse()?, id, secret: secret.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_what_is_newer_is_not() {
        let node = Node { key: [255; 32], state: NodeState::Revoked, token: u32::MAX };
        let nodes = vec![node; NODES_EACH];
        let bytes = kept(&nodes);
        assert!(bytes.len() <= STORED_MAX);
        assert_eq!(read::<Vec<Node>>(&bytes), Some(nodes));
        assert_eq!(read::<Vec<Node>>(&[&[FORM + 1], &bytes[1..]].concat()), None);
        assert_eq!(read::<Vec<Node>>(&[]), None);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_token_is_read_as_it_is_written_and_every_other_has_its_sentence() {
        let join = Join::draw("ab".repeat(32).parse().unwrap());
        let text = join.to_string();
        for text in [&text, &text.to_uppercase(), &format!(" {text}\n")] {
            assert_eq!(text.parse::<Join>().as_ref(), Ok(&join));
        }
        assert!(!format!("{join:?}").contains(&join.secret));
        let (short, long) = (&text[..text.len() - 1], format!("{text}.00"));
        let (newer, flipped) = (text.replacen("v1", "v2", 1), text.replace(".ab", ".xb"));
        for (bad, words) in [
            ("", "no token"),
            ("K10abc::server:def", "no token"),
            (short, "not whole"),
            (&long, "not whole"),
            (&newer, "form v2"),
            (&flipped, "not whole"),
        ] {
            let why = bad.parse::<Join>().unwrap_err();
            assert!(why.contains(words) && why.contains("mesita token create"), "{bad}: {why}");
        }
    }
}
