//! `mesita token` and `mesita node`

use std::process::ExitCode;

use mesita_core::wire::svc::{Keep, Stream};
use serde_json::{Value, json};

use super::leader::Leader;
use super::ps::{columns, text};
use super::{Failure, USAGE, ask, find, left, print};
use crate::access::tokens::{
    Join, NODES, Node, NodeRole, NodeState, TOKENS, Token as Kept, kept, read,
};
use crate::alarm;
use crate::flags::{Ls, NodeOf, Nodes, TokenCreate, TokenOf, Tokens, Where};
use crate::set::join::fingerprint;

/// Bytes of the version that an answer begins with.
const VERSION: usize = 8;
/// Digits of a fingerprint that people are shown.
const SHOWN: usize = 32;
/// Digits that name a node at the least.
const DIGITS_MIN: usize = 8;

pub(super) fn token(flags: &Tokens) -> Result<ExitCode, Failure> {
    super::log_warnings();
    match flags {
        Tokens::Create(flags) => create(flags),
        Tokens::Ls(flags) => list_tokens(flags),
        Tokens::Revoke(flags) => revoke_token(flags),
    }
}

pub(super) fn node(flags: &Nodes) -> Result<ExitCode, Failure> {
    super::log_warnings();
    match flags {
        Nodes::Ls(flags) => list_nodes(flags),
        Nodes::Revoke(flags) => revoke_node(flags),
    }
}

fn create(flags: &TokenCreate) -> Result<ExitCode, Failure> {
    let health = alarm::block_on(Leader::told(&flags.at, "/health"))?;
    let Some(pin) = health["tls"].as_str() else {
        let why = "the master speaks no TLS, so that no node could know it by a token: start it with \
                   --tls-cert-file and --tls-key-file";
        return Err(Failure::plain(why));
    };
    if flags.uses == 0 || flags.expires.us == 0 {
        return Err(Failure::new(USAGE, "a token is for at least one node, and for some time"));
    }
    let join = Join::draw(pin.parse().map_err(Failure::plain)?);
    let left_us = flags.expires.us;
    let token = Kept { role: flags.role, uses: flags.uses, left_us, secret: join.hash() };
    let (key, value) = (format!("{:08x}", join.id), kept(&token));
    asked(&flags.at, TOKENS, &key, Keep::Put { value: &value, expected: Some(0) })?;
    outln!("{join}");
    let asked_of = flags.at.master.as_deref().unwrap_or(find::DEFAULTS[0]);
    let asked_of = asked_of.split(',').next().unwrap_or_default().trim_start_matches("https://");
    let leader = health["leader"].as_str().unwrap_or(asked_of);
    match flags.role {
        NodeRole::Agent => {
            errln!("on the new node: mesita agent --master https://{leader} --join TOKEN");
        }
        NodeRole::Master => errln!(
            "on the new node: mesita master --ip ADDRESS --masters https://{leader} --join TOKEN"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn list_tokens(flags: &Ls) -> Result<ExitCode, Failure> {
    let mut rows = Vec::new();
    for (id, _, value) in all(&flags.at, TOKENS)? {
        let Some(token) = read::<Kept>(&value) else { continue };
        let seconds = token.left_us / 1_000_000;
        let role = token.role.to_string();
        rows.push(json!({ "id": id, "role": role, "uses": token.uses, "seconds": seconds }));
    }
    show(flags.json, &rows, ["id", "role", "uses", "seconds"]);
    Ok(ExitCode::SUCCESS)
}

fn revoke_token(flags: &TokenOf) -> Result<ExitCode, Failure> {
    // Who has the whole token at hand may give that.
    let id =
        flags.id.parse::<Join>().map_or_else(|_| flags.id.clone(), |of| format!("{:08x}", of.id));
    asked(&flags.at, TOKENS, &id, Keep::Remove { expected: None })?;
    Ok(ExitCode::SUCCESS)
}

fn list_nodes(flags: &Ls) -> Result<ExitCode, Failure> {
    let mut rows = Vec::new();
    for (_, _, value) in all(&flags.at, NODES)? {
        for node in read::<Vec<Node>>(&value).unwrap_or_default() {
            rows.push(json!({
                "key": &fingerprint(&node.key)[..SHOWN],
                "state": node.state.to_string(),
                "token": format!("{:08x}", node.token),
            }));
        }
    }
    show(flags.json, &rows, ["key", "state", "token"]);
    Ok(ExitCode::SUCCESS)
}

fn revoke_node(flags: &NodeOf) -> Result<ExitCode, Failure> {
    if flags.key.len() < DIGITS_MIN {
        let why = format!("give at least {DIGITS_MIN} digits of what `mesita node ls` shows");
        return Err(Failure::new(USAGE, why));
    }
    let values = all(&flags.at, NODES)?;
    let is = |node: &Node| fingerprint(&node.key).starts_with(&flags.key);
    let nodes = |value: &[u8]| read::<Vec<Node>>(value).unwrap_or_default();
    let count: usize = values
        .iter()
        .map(|(_, _, value)| nodes(value).iter().filter(|node| is(node)).count())
        .sum();
    if count != 1 {
        let why = format!("`{}` names {count} nodes: `mesita node ls` shows them", flags.key);
        return Err(Failure::plain(why));
    }
    let mut was_master = false;
    for (name, version, value) in values {
        let mut nodes = nodes(&value);
        let Some(node) = nodes.iter_mut().find(|node| is(node)) else { continue };
        was_master = node.state == NodeState::Master;
        node.state = NodeState::Revoked;
        let value = kept(&nodes);
        asked(&flags.at, NODES, &name, Keep::Put { value: &value, expected: Some(version) })?;
    }
    if was_master {
        errln!("the node was a master: `mesita masters remove` takes its vote, if it has one.");
        left::told(&flags.at);
    }
    Ok(ExitCode::SUCCESS)
}

/// Every value of an owner, with its name and version.
fn all(at: &Where, owner: &str) -> Result<Vec<(String, u64, Vec<u8>)>, Failure> {
    let kind = Stream::Store { owner, key: "", verb: Keep::List };
    let rows = alarm::block_on(ask::rows(at, kind))?;
    let names = rows.iter().filter_map(|row| row["key"].as_str());
    let get = |name: &str| {
        let kind = Stream::Store { owner, key: name, verb: Keep::Get };
        // Its time may be over meanwhile.
        let Some(bytes) = alarm::block_on(ask::found(at, kind))? else { return Ok(None) };
        let (version, value) = bytes.split_at_checked(VERSION).unwrap_or_default();
        let version = version.try_into().map_or(0, u64::from_le_bytes);
        Ok(Some((name.to_owned(), version, value.to_vec())))
    };
    names.filter_map(|name| get(name).transpose()).collect()
}

fn asked(at: &Where, owner: &str, key: &str, verb: Keep<'_>) -> Result<Vec<u8>, Failure> {
    alarm::block_on(ask::all(at, Stream::Store { owner, key, verb }))
}

fn show<const N: usize>(json: bool, rows: &[Value], names: [&str; N]) {
    if json {
        return print(rows.iter().map(|row| format!("{row}\n")).collect());
    }
    let head = names.map(str::to_uppercase).to_vec();
    let lines = rows.iter().map(|row| names.map(|name| text(&row[name])).to_vec());
    print(columns(&[head].into_iter().chain(lines).collect::<Vec<_>>()));
}
