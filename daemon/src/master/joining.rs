//! Nodes that join by a token: who may, who has, until when a token counts.
//!
//! All of it is among the values that the masters store, so that a use is a majority's before the
//! node is let in, and outlives every leader. Time is counted by the leader: no clock of a node or of
//! the wall is asked.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;

use event_listener::Event;
use mesita_core::doors::Rights;
use mesita_core::time::Time;
use mesita_core::wire::hello::Role;
use mesita_core::wire::svc::{CloseReason, Keep};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MasterNode;
use super::proofs::RENEWED;
use super::requests::OUTCOME_UNKNOWN;
use crate::access::tokens::{
    FIRST_TOKENS, NODES, NODES_EACH, Node, NodeRole, NodeState, PROOFS, TOKEN, TOKENS, Token,
    credential, kept, read,
};
use crate::access::{Shown, proves};
use crate::conn::hello::Peer;
use crate::conn::streams::{Streams, refuse};
use crate::conn::{Conn, Ends};
use crate::doors::{Caller, NODE};
use crate::set::cells::{Name, Stored};
use crate::set::join::fingerprint;
use crate::{alarm, clock};

/// What is left of a token is written down whenever this part of it is over, or a minute is.
const PARTS: u64 = 8;
const SECOND_US: u64 = 1_000_000;
const MINUTE_US: u64 = 60_000_000;
/// Digits of a node's fingerprint in its name.
const SHOWN: usize = 16;
/// Digits of the id of a token.
const ID: usize = 8;

/// What a leader counts.
#[derive(Default)]
pub(crate) struct Counting {
    /// Since when each token is counted, in which version, and what was left of it then.
    since: RefCell<BTreeMap<Box<str>, (u64, Time, u64)>>,
    /// It has begun to.
    counts: Cell<bool>,
    /// Tokens are others, or a reign began.
    pub(crate) changed: Event,
}

impl MasterNode {
    /// What the cluster knows of a node's key.
    pub(super) fn node(&self, key: &[u8; 32]) -> Option<Node> {
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
        let own = self.proof_of(&peer.key);
        if own != peer.key && proved.is_some_and(|key| *key == peer.key) {
            return Err(RENEWED.to_owned());
        }
        if proved.is_some_and(|key| *key != own) {
            return Err("the node says hello with another key than the one that it proves to have"
                .to_owned());
        }
        match self.node(&peer.key).map(|node| node.state) {
            Some(NodeState::Revoked) => Err(REVOKED.to_owned()),
            Some(_) if proved.is_none() => Err(UNPROVED.to_owned()),
            Some(NodeState::Agent) if peer.role == Role::Agent => Ok(Some(caller(&peer.key))),
            Some(NodeState::Master) if peer.role == Role::Master => Ok(Some(caller(&peer.key))),
            Some(NodeState::Agent | NodeState::Master) | None => Ok(None),
        }
    }

    /// Lets a node join that shows a proof of a token, once for each node. What comes of it is
    /// durable before anybody is told.
    pub(super) async fn join(
        &self,
        shown: &Shown<'_>,
        proved: Option<&[u8; 32]>,
        ends: &Ends,
    ) -> Option<Result<Caller, String>> {
        let id = shown.principal.strip_prefix(TOKEN)?;
        let mut done = self.join_now(id, shown, proved, ends);
        if done.is_ok() && !self.durable().await {
            done = Err(OUTCOME_UNKNOWN.to_owned());
        }
        let who = proved.map(|key| format!("{NODE}{}", &fingerprint(key)[..SHOWN]));
        let why = done.as_ref().err().map(String::as_str);
        match why {
            // Whoever it is may ask as often as it likes.
            Some(why) => self.audit.note_stranger(who.as_deref().unwrap_or("nobody"), "join", why),
            None => self.audit.note_of(who.as_deref().unwrap_or("nobody"), "join", id, None),
        }
        Some(done)
    }

    fn join_now(
        &self,
        id: &str,
        shown: &Shown<'_>,
        proved: Option<&[u8; 32]>,
        ends: &Ends,
    ) -> Result<Caller, String> {
        let key = proved.ok_or("a node joins by TLS: say https://HOST:PORT of the masters")?;
        let (number, token) = self.token_of(id, shown).ok_or(UNKNOWN)?;
        let name: Name = (TOKENS.into(), id.into());
        match (token.role, shown.role) {
            (NodeRole::Agent, Role::Agent) | (NodeRole::Master, Role::Master) => {}
            (NodeRole::Agent, _) => return Err(OF_AGENTS.to_owned()),
            (NodeRole::Master, _) => return Err(OF_MASTERS.to_owned()),
        }
        let state = token.role.state();
        // It may have come by two ways at once, or again before it was answered: that is one use.
        match self.node(key).map(|node| node.state) {
            Some(NodeState::Revoked) => return Err(REVOKED.to_owned()),
            Some(is) if is == state => return Ok(caller(key)),
            Some(is) => {
                return Err(format!(
                    "this node has joined as one of another kind: it is {is} in `mesita node ls`; \
                     start it on an empty work directory"
                ));
            }
            None => {}
        }
        if token.role == NodeRole::Master {
            self.judge_set()?;
            // Whoever is let in is given it next: what cannot be given takes no use.
            let given = self.options.charter.read("");
            given.map_err(|why| {
                format!("the leader cannot say what masters have in common: {why}")
            })?;
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
        let node = Node { key: *key, state, token: number };
        self.keep_among(NODES, NODES_EACH, |of: &Node| of.key == *key, node)?;
        self.keep_value(name, &kept(&Token { uses: token.uses - 1, left_us, ..token }))?;
        log::info!("node {} joins by token {id} from {}", &fingerprint(key)[..SHOWN], ends.peer());
        Ok(caller(key))
    }

    /// The token that somebody proves to have.
    pub(super) fn token_of(&self, id: &str, shown: &Shown<'_>) -> Option<(u32, Token)> {
        let value = self.store.borrow().value(&(TOKENS.into(), id.into()));
        let known = value.as_deref().and_then(read::<Token>);
        let number = u32::from_str_radix(id, 16).unwrap_or_default();
        let of = known.map(|token| credential(number, &token.secret));
        // Without one as much is reckoned.
        known.filter(|_| proves(of.as_ref(), shown)).map(|token| (number, token))
    }

    /// True for a node that may be one of the masters, and is asked for by no operator.
    pub(crate) fn may_follow(&self, key: &[u8; 32]) -> bool {
        self.node(key).is_some_and(|node| node.state == NodeState::Master)
    }

    /// True for a node that may be nothing any more.
    pub(crate) fn is_revoked(&self, key: &[u8; 32]) -> bool {
        self.node(key).is_some_and(|node| node.state == NodeState::Revoked)
    }

    /// A master is about to be removed: one that has joined by a token does not come back by itself, also
    /// if this one leads no more before it could say so.
    pub(crate) fn is_no_master(&self, key: &[u8; 32]) -> bool {
        self.becomes(key, NodeState::Master, NodeState::Revoked)
    }

    /// It was not removed after all.
    pub(crate) fn is_master_still(&self, key: &[u8; 32]) {
        self.becomes(key, NodeState::Revoked, NodeState::Master);
    }

    /// False when it was not that before.
    fn becomes(&self, key: &[u8; 32], from: NodeState, to: NodeState) -> bool {
        let name = {
            let store = self.store.borrow();
            let has = |one: &&Stored| {
                let nodes = read::<Vec<Node>>(&one.value).unwrap_or_default();
                nodes.iter().any(|node| node.key == *key && node.state == from)
            };
            store.of(NODES).find(has).map(|one| one.key.clone())
        };
        let Some(name) = name else { return false };
        let mut nodes = self.nodes(&name);
        for node in nodes.iter_mut().filter(|node| node.key == *key) {
            node.state = to;
        }
        if let Err(why) = self.keep_value((NODES.into(), name), &kept(&nodes)) {
            log::warn!("{}: {why}", &fingerprint(key)[..SHOWN]);
        }
        true
    }

    /// Tells a new master what all of them have in common.
    pub(super) fn give_charter(&self, conn: &Rc<Conn>, number: u32, window: u32) {
        let masters = self.options.standing.masters();
        match self.options.charter.read(&masters) {
            Ok(charter) => {
                let handle = Streams::serve(conn, number, window);
                self.tasks.go(async move {
                    if handle.write(&charter.bytes()).await.is_ok() {
                        handle.close(CloseReason::Done, "");
                    }
                });
            }
            Err(why) => {
                log::error!("a master cannot be told what masters have in common: {why}");
                refuse(conn, number, CloseReason::Failed, &format!("the leader: {why}"));
            }
        }
    }

    /// Why nobody can be one of the masters here.
    fn judge_set(&self) -> Result<(), String> {
        if self.options.standing.in_set {
            return Ok(());
        }
        let why = "this master is the only one of its cluster, and hears no others: start it with \
                   --masters that names it, and --gossip-key-file";
        Err(why.to_owned())
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

    /// Why what somebody wants to change of the nodes is no change that an operator makes: nodes come
    /// by tokens, and are revoked for good.
    pub(super) fn judge_nodes(
        &self,
        owner: &str,
        name: &str,
        verb: Keep<'_>,
    ) -> Result<(), String> {
        let is_token = |value: &[u8]| name.len() == ID && read::<Token>(value).is_some();
        let is_of_master =
            |value: &[u8]| read::<Token>(value).is_some_and(|token| token.role == NodeRole::Master);
        match verb {
            Keep::Put { value, .. } if owner == NODES => {
                let (now, wanted) = (self.nodes(name), read::<Vec<Node>>(value));
                let may_be = |(one, of): (&Node, &Node)| {
                    one == of || *of == Node { state: NodeState::Revoked, ..*one }
                };
                let is_change = |wanted: &Vec<Node>| {
                    now.len() == wanted.len() && now.iter().zip(wanted).all(may_be)
                };
                let why = "nodes join by tokens, and are revoked for good: `mesita node revoke`";
                if !wanted.as_ref().is_some_and(is_change) {
                    return Err(why.to_owned());
                }
                wanted.iter().flatten().zip(&now).try_for_each(|(of, one)| self.judge_end(of, one))
            }
            Keep::Remove { .. } if owner == NODES => {
                Err("a node that was revoked stays so: another joins by a token".to_owned())
            }
            Keep::Put { .. } | Keep::Remove { .. } if owner == PROOFS => {
                Err("a node changes its key itself: SIGHUP has an agent draw another".to_owned())
            }
            Keep::Put { value, .. } if owner == TOKENS && !is_token(value) => {
                Err("this is no token: `mesita token create` makes one".to_owned())
            }
            Keep::Put { value, .. } if owner == TOKENS && is_of_master(value) => self.judge_set(),
            Keep::Put { .. } | Keep::Get | Keep::Remove { .. } | Keep::List => Ok(()),
        }
    }

    /// Why a node is not what it is to be from now on.
    fn judge_end(&self, of: &Node, now: &Node) -> Result<(), String> {
        let id = self.set().and_then(|set| set.id_of(&of.key));
        match id.filter(|_| of != now) {
            Some(id) => Err(format!(
                "this node is master {id}: `mesita masters remove {id}` takes its vote, and revokes it"
            )),
            None => Ok(()),
        }
    }

    /// The nodes that are kept in a value.
    fn nodes(&self, name: &str) -> Vec<Node> {
        let value = self.store.borrow().value(&(NODES.into(), name.into()));
        value.as_deref().and_then(read::<Vec<Node>>).unwrap_or_default()
    }

    /// The fingerprints of the nodes that this value would revoke, as `mesita node ls` shows them.
    pub(super) fn revoked(&self, name: &str, value: &[u8]) -> Vec<String> {
        let now = self.nodes(name);
        let wanted = read::<Vec<Node>>(value).unwrap_or_default().into_iter();
        let is_revoked = |node: &Node| node.state == NodeState::Revoked;
        let new = wanted.filter(|node| is_revoked(node) && !now.contains(node));
        new.map(|node| fingerprint(&node.key)[..SHOWN].to_owned()).collect()
    }

    /// Takes in the tokens that were made with the cluster, once.
    pub(crate) fn take_first_tokens(&self, meta: &Path) {
        let path = meta.join(FIRST_TOKENS);
        let lost = |why: &str| {
            log::error!(
                "{}: {why}: nobody joins by the first tokens of this cluster; `mesita token create` makes \
                 others, and without the file nothing is said of it",
                path.display()
            );
        };
        let all = match std::fs::read(&path).map(|bytes| read::<Vec<(u32, Token)>>(&bytes)) {
            Ok(Some(all)) => all,
            Ok(None) => return lost("it has no tokens that this release knows"),
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return lost(&error.to_string()),
        };
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

    /// Keeps something among others of its kind, so many in one value, in the place of the one that it
    /// is to replace.
    pub(super) fn keep_among<T: Serialize + DeserializeOwned>(
        &self,
        owner: &str,
        each: usize,
        is: impl Fn(&T) -> bool,
        one: T,
    ) -> Result<(), String> {
        let (name, mut all) = {
            let store = self.store.borrow();
            let values = store.of(owner).map(|of| (of.key.clone(), read::<Vec<T>>(&of.value)));
            let values: Vec<_> =
                values.map(|(name, all)| (name, all.unwrap_or_default())).collect();
            let fresh = format!("{:04}", values.len()).into();
            let has = values.iter().position(|(_, all)| all.iter().any(&is));
            let place = has.or_else(|| values.iter().position(|(_, all)| all.len() < each));
            let value = place.and_then(|at| values.into_iter().nth(at));
            value.unwrap_or_else(|| (fresh, Vec::new()))
        };
        all.retain(|other| !is(other));
        all.push(one);
        self.keep_value((owner.into(), name), &kept(&all))
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
    pub(super) fn left_of(&self, id: &str, token: &Token) -> u64 {
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
            for conn in self.conns.all().iter().filter(|conn| self.is_revoked(&conn.peer.key)) {
                log::warn!("{}: {REVOKED}", conn.ends.peer());
                self.end_now(conn, REVOKED);
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
            self.counting.counts.set(false);
            return None;
        }
        let begins = !self.counting.counts.replace(true);
        let all: Vec<Stored> = self.store.borrow().of(TOKENS).cloned().collect();
        self.counting.since.borrow_mut().retain(|id, _| all.iter().any(|one| one.key == *id));
        all.iter().filter_map(|stored| self.count(stored, begins)).min()
    }

    /// Of one token. The leader before may have counted as much as a step beyond what it wrote down: who
    /// begins goes on behind that, so that no end of a leader gives time back.
    fn count(&self, stored: &Stored, begins: bool) -> Option<u64> {
        let (token, now) = (read::<Token>(&stored.value)?, clock::now());
        let (version, since, left_us) = {
            let mut all = self.counting.since.borrow_mut();
            let of = all.entry(stored.key.clone()).or_insert((0, now, 0));
            if of.0 != stored.version {
                *of = (stored.version, now, token.left_us);
            }
            *of
        };
        let step = step_of(left_us);
        let gone = if begins { step } else { now.since(since) };
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
        Some(step_of(token.left_us).min(token.left_us))
    }
}

/// How long a token is counted before that is written down.
fn step_of(left_us: u64) -> u64 {
    (left_us / PARTS).clamp(SECOND_US, MINUTE_US)
}

/// Said of a token that is none of those that the masters keep.
const UNKNOWN: &str = "the cluster does not know this token: it was revoked, or its time is over, or it is \
                       another cluster's; `mesita token create` makes a new one";

/// Said to who has a token of the other kind.
const OF_AGENTS: &str = "this token is for agents: `mesita token create --role master` makes one for \
                         masters";
const OF_MASTERS: &str = "this token is for masters: `mesita token create` makes one for agents";

/// Said of who has the name of a node that has joined, and not its secret.
pub(crate) const UNPROVED: &str = "this node has joined, and proves who it is by TLS: say https://HOST:PORT of \
                        the masters";

/// Said of a node that may be nothing any more.
pub(crate) const REVOKED: &str = "this node was revoked: a machine comes back as a new one, with an empty work \
                       directory and a token";

/// A node as a caller: what it may do, it may do as an agent alone.
fn caller(key: &[u8; 32]) -> Caller {
    Caller::new(format!("{NODE}{}", &fingerprint(key)[..SHOWN]), Rights::NONE)
}
