//! `mesita token` and `mesita node`

use std::process::ExitCode;

use mesita_core::wire::svc::{Keep, Rows, Stream};
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

/// A node as people tell it from others.
struct Named {
    key: String,
    node: Node,
    /// What an agent calls its host, and the agent's id.
    hostname: Value,
    agent: Value,
    /// Where it is reached.
    address: Value,
}

/// A value of nodes, with its name and version.
type Stored = (String, u64, Vec<Named>);

impl Named {
    fn new(node: &Node, of: &[Value]) -> Self {
        let key = fingerprint(&node.key)[..SHOWN].to_owned();
        let row = of.iter().find(|row| row["key"] == key.as_str()).unwrap_or(&Value::Null);
        let told = |name: &str| match row[name].as_str() {
            None | Some("") => Value::Null,
            Some(text) => text.into(),
        };
        let [hostname, address] = ["hostname", "address"].map(told);
        // A master has a number.
        let agent = if row["id"].is_string() { row["id"].clone() } else { Value::Null };
        Self { key, node: *node, hostname, agent, address }
    }

    fn json(&self) -> Value {
        let Self { key, node, hostname, agent, address } = self;
        json!({
            "key": key,
            "state": node.state.to_string(),
            "hostname": hostname,
            "address": address,
            "agent": agent,
            "token": format!("{:08x}", node.token),
        })
    }

    /// By its key, the id of its agent, or the host, which a node that was revoked may have had before.
    fn is(&self, name: &str) -> bool {
        let by_host = self.node.state != NodeState::Revoked && self.hostname == name;
        by_host || self.agent == name || name.len() >= DIGITS_MIN && self.key.starts_with(name)
    }
}

/// All nodes that have joined, with what agents and masters say of themselves.
fn all_nodes(at: &Where) -> Result<Vec<Stored>, Failure> {
    let rows = |of: Rows| alarm::block_on(ask::rows(at, Stream::Rows { of }));
    let of = [rows(Rows::Agents)?, rows(Rows::Masters)?].concat();
    let nodes = |value: &[u8]| {
        let nodes = read::<Vec<Node>>(value).unwrap_or_default();
        nodes.iter().map(|node| Named::new(node, &of)).collect()
    };
    let all = all(at, NODES)?.into_iter();
    Ok(all.map(|(name, version, value)| (name, version, nodes(&value))).collect())
}

fn list_nodes(flags: &Ls) -> Result<ExitCode, Failure> {
    let all = all_nodes(&flags.at)?;
    let rows: Vec<Value> =
        all.iter().flat_map(|(_, _, nodes)| nodes).map(|node| node.json()).collect();
    show(flags.json, &rows, ["key", "state", "hostname", "address", "agent", "token"]);
    Ok(ExitCode::SUCCESS)
}

fn revoke_node(flags: &NodeOf) -> Result<ExitCode, Failure> {
    let said = &flags.node;
    let all = all_nodes(&flags.at)?;
    let count = all.iter().flat_map(|(_, _, nodes)| nodes).filter(|node| node.is(said)).count();
    if count != 1 {
        let short = if said.len() < DIGITS_MIN {
            format!("; of a key give at least {DIGITS_MIN} digits")
        } else {
            String::new()
        };
        let why = format!("`{said}` names {count} nodes: `mesita node ls` shows them{short}");
        return Err(Failure::plain(why));
    }
    for (name, version, nodes) in all {
        let Some(which) = nodes.iter().position(|node| node.is(said)) else { continue };
        let mut kept_nodes: Vec<Node> = nodes.iter().map(|named| named.node).collect();
        let was = std::mem::replace(&mut kept_nodes[which].state, NodeState::Revoked);
        let value = kept(&kept_nodes);
        asked(&flags.at, NODES, &name, Keep::Put { value: &value, expected: Some(version) })?;
        let Named { key, hostname, agent, .. } = &nodes[which];
        errln!("node {key} is revoked: host {}, agent {}", text(hostname), text(agent));
        if was == NodeState::Master {
            errln!("the node was a master: `mesita masters remove` takes its vote, if it has one.");
            left::told(&flags.at);
        }
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
