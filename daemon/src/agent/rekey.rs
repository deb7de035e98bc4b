//! An agent draws itself another key, by which it proves who it is, and goes on under the name that its
//! first one gave it.
//!
//! The new key lies in `meta/secret.next` until the masters have it. Where the answer is lost, the one
//! that they do not take says so: then it is the other one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mesita_core::wire::svc::{CloseReason, Stream};

use super::AgentNode;
use crate::alarm;
use crate::conn::Conn;
use crate::conn::streams::Streams;
use crate::identity;
use crate::tls::{Identity, Transport};

/// How often it is asked for again that the masters take a key, in µs.
const AGAIN_US: u64 = 1_000_000;
/// The most of what is waited after each refusal: twice as long as after the one before.
const AGAIN_MAX_US: u64 = 300_000_000;

/// The keys by which an agent is known.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The one that it is about to have.
    next: RefCell<Option<Identity>>,
    /// The next one is shown: the masters do not take the one before it.
    shows_next: Cell<bool>,
    /// What it proves itself by; none: by nothing.
    now: RefCell<Option<Identity>>,
}

impl Keys {
    /// Those of a work directory.
    pub(super) fn of(now: Option<Identity>, next: Option<Identity>) -> Self {
        Self { now: RefCell::new(now), next: RefCell::new(next), shows_next: Cell::new(false) }
    }
}

impl AgentNode {
    /// Reads `--http-credentials` and `--acls` again. What those are being answered ends who are not what they
    /// were.
    pub(crate) fn read_access_again(&self) {
        let access = &self.options.access;
        let (changed, troubles) = access.read_again();
        access.end(|principal| changed.contains(principal));
        troubles.iter().for_each(|why| log::error!("{why}"));
        access.trouble().iter().for_each(|trouble| log::warn!("{trouble}"));
    }

    /// Draws another key, if this node has joined a cluster by one.
    pub(crate) fn draw_key(&self) {
        let meta = self.work_dir.join("meta");
        let is_secure = matches!(*self.transport.borrow(), Transport::Tls(_));
        if !meta.join("joined").exists() || !is_secure || self.keys.now.borrow().is_none() {
            return log::info!(
                "SIGHUP: this node has not joined by a token, so it has no key to change"
            );
        }
        if self.keys.next.borrow().is_some() {
            return log::info!("SIGHUP: another key is on its way already");
        }
        match identity::draw_next(&meta) {
            Ok(next) => {
                *self.keys.next.borrow_mut() = Some(next);
                self.ask_for_key();
            }
            Err(why) => log::error!("no other key: {why}"),
        }
    }

    /// Asks the leader, if there is one, to know this node by the key that it is about to have.
    pub(super) fn ask_for_key(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let conn = self.master.get().and_then(|id| self.conns.get(id));
        let next = self.keys.next.borrow().as_ref().map(Identity::key);
        let (Some(conn), Some(key)) = (conn, next) else { return };
        self.tasks.go(async move {
            if me.keys.shows_next.get() {
                // The masters have let it in by that.
                return me.has_key(key);
            }
            let mut again = AGAIN_US;
            while me.conns.get(conn.id).is_some() {
                match taken(&conn, key).await {
                    Ok(()) => {
                        me.has_key(key);
                        return Self::comes_anew(&conn);
                    }
                    Err(Some(why)) => log::warn!("the masters do not take another key: {why}"),
                    Err(None) => return,
                }
                alarm::after(again).await;
                again = again.saturating_mul(2).min(AGAIN_MAX_US);
            }
        });
    }

    /// From now on it is known by that key alone.
    fn has_key(&self, key: [u8; 32]) {
        if self.keys.next.borrow().as_ref().map(Identity::key) != Some(key) {
            return;
        }
        if let Err(why) = identity::take_next(&self.work_dir.join("meta"), &key) {
            return log::error!(
                "the masters know this node by another key, and it is not kept: {why}"
            );
        }
        let next = self.keys.next.borrow_mut().take();
        self.shows(next.as_ref());
        *self.keys.now.borrow_mut() = next;
        self.keys.shows_next.set(false);
        log::info!("the masters know this node by another key from now on");
    }

    /// The masters refuse it: where another key is on its way, they may have that.
    pub(super) fn shows_other_key(&self) {
        let Some(next) = self.keys.next.borrow().clone() else { return };
        let shows_next = !self.keys.shows_next.get();
        self.keys.shows_next.set(shows_next);
        let now = self.keys.now.borrow().clone();
        self.shows(if shows_next { Some(&next) } else { now.as_ref() });
    }

    fn shows(&self, key: Option<&Identity>) {
        let over = self.transport.borrow().clone();
        if let Some(key) = key {
            *self.transport.borrow_mut() = over.shown_by(key);
        }
    }

    /// A connection of the key before is not to last.
    fn comes_anew(conn: &Conn) {
        conn.outbox.close();
    }
}

/// Whether the leader takes a key; why not, if it has said so.
async fn taken(conn: &Rc<Conn>, key: [u8; 32]) -> Result<(), Option<String>> {
    let handle = Streams::open(conn, Stream::Rekey { key }).ok_or(None)?;
    loop {
        match handle.read().await {
            Ok(_) => {}
            Err(closed) if closed.reason == CloseReason::Done => return Ok(()),
            Err(closed) if closed.reason == CloseReason::Gone => return Err(None),
            Err(closed) => return Err(Some(closed.message)),
        }
    }
}
