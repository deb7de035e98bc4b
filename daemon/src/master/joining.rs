//! Nodes that join by a token: who may, who has, until when a token counts.
//!
//! All of it is among the values that the masters store, so that a use is a majority's before the
//! node is let in, and outlives every leader. Time is counted by the leader: no clock of a node or of
//! the wall is asked.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use event_listener::Event;
use mesita_core::doors::Rights;
use mesita_core::time::Time;
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::Parting;

use super::MasterNode;
use crate::access::tokens::{
    FIRST_TOKENS, NODES, NODES_EACH, Node, NodeRole, NodeState, TOKEN, TOKENS, Token, credential,
    kept, read,
};
use crate::access::{Shown, proves};
use crate::conn::hello::Peer;
use crate::doors::Caller;
use crate::set::cells::{Name, Stored};
use crate::set::join::fingerprint;
use crate::{alarm, clock};

/// What is left of a token is written down as often while it counts, or once a minute.
const PARTS: u64 = 8;
const MINUTE_US: u64 = 60_000_000;
/// Digits of a node's fingerprint in its name.
const SHOWN: usize = 16;

/// What a leader counts.
#[derive(Default)]
pub(crate) struct Counting {
    /// Since when each token is counted, in which version, and what was left of it then.
    since: RefCell<BTreeMap<Box<str>, (u64, Time, u64)>>,
    /// Tokens are others, or a reign began.
    pub(crate) changed: Event,
}

impl MasterNode {
    /// What the cluster knows of a node's key.
    fn node(&self, key: &[u8; 32]) -> Option<Node> {
        let store = self.store.borrow();
        let mut all = store.of(NODES).filter_map(|one| read::<Vec<Node>>(&one.value));
        all.find_map(|nodes| nodes.into_iter().find(|node| node.key == *key))
    }

    /// Who a node is that has joined; none: it has not. An error: it is not who it says.
    pub(super) fn joined(
        &self,
        peer: &Peer,
        proved: Option<&[u8; 32]>,
    ) -> Result<Option<Caller>, String> {
        if proved.is_some_and(|key| *key != peer.key) {
            return Err("the node says hello with another key than the one that it proves to have"
                .to_owned());
        }
        match self.node(&peer.key).map(|node| node.state) {
            Some(NodeState::Revoked) => Err(REVOKED.to_owned()),
            Some(NodeState::Agent) if proved.is_none() => Err(UNPROVED.to_owned()),
            Some(NodeState::Agent) if peer.role == Role::Agent => Ok(Some(caller(&peer.key))),
            Some(NodeState::Agent) | None => Ok(None),
        }
    }

    /// Lets a node join that shows a proof of a token, once for each node. What comes of it is
    /// durable before anybody is told.
    pub(super) async fn join(
        &self,
        shown: &Shown<'_>,
        proved: Option<&[u8; 32]>,
    ) -> Option<Result<Caller, String>> {
        let id = shown.principal.strip_prefix(TOKEN)?;
        let done = self.join_now(id, shown, proved);
        if done.is_ok() {
            self.durable().await;
        }
        Some(done)
    }

    fn join_now(
        &self,
        id: &str,
        shown: &Shown<'_>,
        proved: Option<&[u8; 32]>,
    ) -> Result<Caller, String> {
        let key = proved.ok_or("a node joins by TLS: say https://HOST:PORT of the masters")?;
        let name: Name = (TOKENS.into(), id.into());
        let value = self.store.borrow().value(&name);
        let known = value.as_deref().and_then(read::<Token>);
        let number = u32::from_str_radix(id, 16).unwrap_or_default();
        let of = known.map(|token| credential(number, &token.secret));
        if !proves(of.as_ref(), shown) {
            return Err(UNKNOWN.to_owned());
        }
        let Some(token) = known else { return Err(UNKNOWN.to_owned()) };
        match (token.role, shown.role) {
            (NodeRole::Agent, Role::Agent) => {}
            (NodeRole::Agent, _) => return Err("this token is for agents".to_owned()),
        }
        if token.uses == 0 {
            let why =
                "the token was used up: `mesita token create --uses N` makes one for more nodes";
            return Err(why.to_owned());
        }
        // Its time may be over, and nobody have removed it yet.
        let left_us = self.left_of(id, &token);
        if left_us == 0 {
            return Err(UNKNOWN.to_owned());
        }
        self.add_node(Node { key: *key, state: NodeState::Agent, token: number })?;
        self.keep_value(name, &kept(&Token { uses: token.uses - 1, left_us, ..token }))?;
        log::info!("node {} joins by token {id}", &fingerprint(key)[..SHOWN]);
        Ok(caller(key))
    }

    /// Why tokens are not kept: what is kept goes by the core, whose inputs are all in a journal.
    pub(super) fn judge_tokens(&self) -> Result<(), String> {
        if self.options.flags.contains_key("journal") {
            let why = "this master writes a --journal, and secrets never enter it: start the masters \
                       without, and make the token then";
            return Err(why.to_owned());
        }
        Ok(())
    }

    /// Takes in the tokens that were made with the cluster, once.
    pub(crate) fn take_first_tokens(&self, meta: &Path) {
        let path = meta.join(FIRST_TOKENS);
        let Ok(bytes) = std::fs::read(&path) else { return };
        let all = read::<Vec<(u32, Token)>>(&bytes).unwrap_or_default();
        let kept = |(id, token): &(u32, Token)| {
            let name: Name = (TOKENS.into(), format!("{id:08x}").into());
            self.keep_value(name, &kept(token))
        };
        match self.judge_tokens().and_then(|()| all.iter().try_for_each(kept)) {
            Ok(()) => self.when_durable(move || {
                if let Err(error) = std::fs::remove_file(&path) {
                    log::error!("{}: {error}", path.display());
                }
            }),
            Err(why) => log::error!("{}: {why}", path.display()),
        }
    }

    /// Puts a node beside the others.
    fn add_node(&self, node: Node) -> Result<(), String> {
        let (name, mut nodes) = {
            let store = self.store.borrow();
            let mut names = 0;
            let open = store.of(NODES).find_map(|one| {
                names += 1;
                let nodes = read::<Vec<Node>>(&one.value)?;
                (nodes.len() < NODES_EACH).then(|| (one.key.clone(), nodes))
            });
            open.unwrap_or_else(|| (format!("{names:04}").into(), Vec::new()))
        };
        nodes.push(node);
        self.keep_value((NODES.into(), name), &kept(&nodes))
    }

    /// Stores a value.
    fn keep_value(&self, name: Name, value: &[u8]) -> Result<(), String> {
        let stored = self.store.borrow_mut().store(name, value, None);
        let stored: Stored = stored.map_err(|(_, why)| why)?;
        if let Some(set) = self.set() {
            set.keep_stored(&stored);
        }
        Ok(())
    }

    /// How long a token may still be used.
    fn left_of(&self, id: &str, token: &Token) -> u64 {
        let since = self.counting.since.borrow();
        let gone = since.get(id).map_or(0, |(_, since, _)| clock::now().since(*since));
        token.left_us.saturating_sub(gone)
    }

    /// Somebody has stored something of this.
    pub(super) fn tokens_changed(&self, owner: &str) {
        if owner == TOKENS {
            self.counting.changed.notify(usize::MAX);
        }
        if owner == NODES {
            let revoked = |key| self.node(key).is_some_and(|of| of.state == NodeState::Revoked);
            for conn in self.conns.all().iter().filter(|conn| revoked(&conn.peer.key)) {
                log::warn!("{}: {REVOKED}", conn.ends.peer());
                conn.part(Parting::Denied, REVOKED);
            }
        }
    }

    /// Counts what is left of tokens, for as long as there are some.
    pub(crate) async fn count_tokens(self: Rc<Self>) {
        loop {
            let changed = self.counting.changed.listen();
            match self.count_down() {
                Some(us) => {
                    alarm::within(us, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Writes down what is left of tokens when it is time; how long until it is again.
    fn count_down(&self) -> Option<u64> {
        if !self.leads() {
            self.counting.since.borrow_mut().clear();
            return None;
        }
        let all: Vec<Stored> = self.store.borrow().of(TOKENS).cloned().collect();
        self.counting.since.borrow_mut().retain(|id, _| all.iter().any(|one| one.key == *id));
        all.iter().filter_map(|stored| self.count(stored)).min()
    }

    fn count(&self, stored: &Stored) -> Option<u64> {
        let (token, now) = (read::<Token>(&stored.value)?, clock::now());
        let (version, since, left_us) = {
            let mut all = self.counting.since.borrow_mut();
            let of = all.entry(stored.key.clone()).or_insert((0, now, 0));
            if of.0 != stored.version {
                *of = (stored.version, now, token.left_us);
            }
            *of
        };
        let (gone, step) = (now.since(since), (left_us / PARTS).max(MINUTE_US));
        let name: Name = (TOKENS.into(), stored.key.clone());
        if gone >= left_us {
            log::info!("the time of token {} is over", stored.key);
            let removed = self.store.borrow_mut().remove(&name, Some(version));
            if let (Ok(true), Some(set)) = (removed, self.set()) {
                set.forget_stored(&name);
            }
            return None;
        }
        if gone < step {
            return Some((step - gone).min(left_us - gone));
        }
        let token = Token { left_us: left_us - gone, ..token };
        if let Err(why) = self.keep_value(name, &kept(&token)) {
            log::warn!("what is left of token {} cannot be kept: {why}", stored.key);
        }
        Some(MINUTE_US.min(token.left_us))
    }
}

/// Said of a token that is none of those that the masters keep.
const UNKNOWN: &str = "the cluster does not know this token: it was revoked, or its time is over, or it is \
                       another cluster's; `mesita token create` makes a new one";

/// Said of who has the name of a node that has joined, and not its secret.
const UNPROVED: &str = "this node has joined, and proves who it is by TLS: say https://HOST:PORT of \
                        the masters";

/// Said of a node that may be nothing any more.
const REVOKED: &str = "this node was revoked: a machine comes back as a new one, with an empty work \
                       directory and a token";

/// A node as a caller: what it may do, it may do as an agent alone.
fn caller(key: &[u8; 32]) -> Caller {
    Caller::new(format!("node:{}", &fingerprint(key)[..SHOWN]), Rights::OPERATE)
}
