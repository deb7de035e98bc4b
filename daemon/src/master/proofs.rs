//! Nodes that prove who they are by another key than the one that they joined by, which stays their
//! name.

use std::rc::Rc;

use mesita_core::wire::hello::Role;
use mesita_core::wire::svc::CloseReason;

use super::MasterNode;
use super::requests::OUTCOME_UNKNOWN;
use crate::access::tokens::{Node, NodeState, PROOFS, PROOFS_EACH, Proof, read};
use crate::conn::Conn;
use crate::conn::streams::{Streams, refuse};

impl MasterNode {
    /// By which key a node of this name proves who it is.
    pub(super) fn proof_of(&self, name: &[u8; 32]) -> [u8; 32] {
        let store = self.store.borrow();
        let mut all = store.of(PROOFS).filter_map(|one| read::<Vec<Proof>>(&one.value));
        let found = all.find_map(|all| all.into_iter().find(|proof| proof.name == *name));
        found.map_or(*name, |proof| proof.key)
    }

    /// A node has drawn another key. It is answered when a majority knows it by that, and spoken with by
    /// the one before no more.
    pub(super) fn take_key(&self, conn: &Rc<Conn>, number: u32, window: u32, key: [u8; 32]) {
        let done = self.take_key_now(conn, key);
        let why = done.as_ref().err().map(String::as_str);
        // An agent asks again by itself.
        self.audit.note_seldom(&conn.caller.name, "change key", "", why);
        if let Err(why) = &done {
            return refuse(conn, number, CloseReason::Denied, why);
        }
        let handle = Streams::serve(conn, number, window);
        let (me, conn) = (self.me.clone(), Rc::clone(conn));
        self.tasks.go(async move {
            let Some(me) = me.upgrade() else { return };
            if !me.durable().await {
                return handle.close(CloseReason::Gone, OUTCOME_UNKNOWN);
            }
            log::info!("{} proves who it is by another key", conn.caller.name);
            let same = |other: &&Rc<Conn>| other.peer.key == conn.peer.key && other.id != conn.id;
            for other in me.conns.all().iter().filter(same) {
                me.end_now(other, RENEWED);
            }
            handle.close(CloseReason::Done, "");
        });
    }

    fn take_key_now(&self, conn: &Conn, key: [u8; 32]) -> Result<(), String> {
        let name = conn.peer.key;
        let is_agent = self.node(&name).is_some_and(|node| node.state == NodeState::Agent);
        if conn.peer.role != Role::Agent || !is_agent {
            return Err("only a node that has joined as an agent has a key to change".to_owned());
        }
        if self.proof_of(&name) == key {
            return Ok(());
        }
        let is_anothers = self.node(&key).is_some_and(|node: Node| node.key != name);
        if is_anothers || key == name || self.proves_another(&name, &key) {
            return Err("that key is another node's, or was this one's before".to_owned());
        }
        let is = |proof: &Proof| proof.name == name;
        self.keep_among(PROOFS, PROOFS_EACH, is, Proof { name, key })
    }

    /// True for a key by which somebody else proves who it is.
    fn proves_another(&self, name: &[u8; 32], key: &[u8; 32]) -> bool {
        let store = self.store.borrow();
        let all = store.of(PROOFS).filter_map(|one| read::<Vec<Proof>>(&one.value));
        all.flatten().any(|proof| proof.key == *key && proof.name != *name)
    }
}

/// Said of who has the key that a node had before.
pub(super) const RENEWED: &str = "this node proves who it is by another key by now: one that has an older copy of its work \
                       directory is not that node";
