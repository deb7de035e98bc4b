//! The way to the master: dial, say hello, keep it alive, and again.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use mesita_core::agent::Input;
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::Link;
use mesita_core::wire::svc::Stream;
use mesita_core::wire::{BodyRef, Head, Session};

use super::AgentNode;
use crate::bodies::Bodies;
use crate::conn::dial::Way;
use crate::conn::hello::{self, Refused};
use crate::conn::outbox::Outbox;
use crate::conn::talk::{Ending, Talk, talk};
use crate::conn::{Conn, Pipe};
use crate::doors::Caller;
use crate::port::with_refs;
use crate::{alarm, clock, random};

/// How long a master may take to say hello, and then to register the agent, in µs.
const PATIENCE_US: u64 = 10_000_000;
/// Pauses grow up to so many times the first one.
const BACKOFF_MAX: u64 = 16;

impl AgentNode {
    /// Stays connected to a master, for ever.
    pub(crate) async fn stay_connected(self: Rc<Self>, way: Way) {
        let (mut attempt, mut failures) = (0, 0u32);
        let mut leader = None;
        let mut said = String::new();
        loop {
            let told = leader.take();
            match self.converse(&way, attempt, told.as_deref()).await {
                Outcome::Redirected(address) if failures < 8 => {
                    failures += 1;
                    leader = Some(address);
                    continue;
                }
                Outcome::Redirected(_) => {}
                Outcome::Registered => (failures, said) = (0, String::new()),
                Outcome::Failed(why) => {
                    // The same trouble is told once.
                    if why != said {
                        log::warn!("{why}; trying again");
                        said = why;
                    }
                }
            }
            attempt += 1;
            let grown = (1u64 << failures.min(32)).min(BACKOFF_MAX);
            failures = failures.saturating_add(1);
            alarm::after(random::below(self.options.backoff_us.saturating_mul(grown)).max(1)).await;
        }
    }

    /// One connection, from the dialling to its end.
    async fn converse(self: &Rc<Self>, way: &Way, attempt: usize, leader: Option<&str>) -> Outcome {
        let address = way.shown(attempt, leader);
        let pipe = match way.dial(attempt, leader).await {
            Ok(pipe) => pipe,
            Err(error) => return Outcome::Failed(format!("no master at {address}: {error}")),
        };
        let Pipe { reading, mut writing, ends } = pipe;
        let own = self.own.borrow().clone();
        let greeting = hello::dial(reading, &mut writing, &own, &self.port.bodies);
        let (frames, peer) = match alarm::within(PATIENCE_US, greeting).await {
            Some(Ok(greeted)) => greeted,
            Some(Err(Refused::Redirect(address))) => return Outcome::Redirected(address),
            Some(Err(refused)) => return Outcome::Failed(format!("{address}: {refused}")),
            None => return Outcome::Failed(format!("{address} does not say hello")),
        };
        if peer.role != Role::Master {
            return Outcome::Failed(format!("{address} is no master"));
        }
        let Some(id) = self.conns.begin() else {
            return Outcome::Failed("too many connections".to_owned());
        };
        let outbox = Outbox::new(self.options.master_bytes_max, self.on_level("the master"));
        // The master needs no rights here: it gives orders, which the core judges.
        let caller = Caller { name: String::new(), rights: Default::default() };
        let conn = Conn::new(id, ends, peer, caller, outbox);
        self.conns.add(&conn);
        self.master.set(Some(id));
        self.timeout_us.set(0);
        let head_max = conn.peer.head_max;
        self.port.put(&Input::Opened { conn: id, role: Role::Master, head_max });
        let alive = async {
            self.sign_of_life(&conn, &address).await;
            Ending::Parted
        };
        let ending = futures_lite::future::or(talk(&conn, frames, writing, &**self), alive).await;
        let registered = self.timeout_us.get() > 0;
        self.conns.end(id);
        self.master.set(None);
        self.timeout_us.set(0);
        self.port.put(&Input::Closed { conn: id });
        if let Ending::Redirect(address) = ending {
            return Outcome::Redirected(address);
        }
        if registered {
            log::warn!("the master at {address} is gone: {ending}");
            return Outcome::Registered;
        }
        Outcome::Failed(format!("{address}: {ending}"))
    }

    /// Pings the master and waits for answers; returns when there were none for too long. A
    /// session lasts 0.75 A from when its newest answered ping was sent.
    async fn sign_of_life(&self, conn: &Conn, address: &str) {
        if conn.ends == crate::conn::Ends::Memory {
            return std::future::pending().await;
        }
        let registered = async {
            while self.timeout_us.get() == 0 {
                self.session_changed.listen().await;
            }
        };
        if alarm::within(PATIENCE_US, registered).await.is_none() {
            log::warn!("{address} does not register this agent");
            return;
        }
        *self.leader.borrow_mut() = Some(address.to_owned());
        log::info!("registered with the master at {address}");
        let timeout_us = self.timeout_us.get();
        // A third, not quite: two pings may be lost, and an idle node wakes up less than once a
        // second for it.
        let (every, silence) = (timeout_us / 3, timeout_us / 4 * 3);
        let mut next = clock::now();
        loop {
            let now = clock::now();
            if now >= conn.heard.get().after(silence) {
                log::warn!("{address} was silent for {} ms", now.since(conn.heard.get()) / 1000);
                return;
            }
            if now >= next {
                let session = conn.session.get();
                conn.say(&Head::Link(Link::Ping { stamp: now.0, session }));
                next = now.after(every);
            }
            alarm::at(next.min(conn.heard.get().after(silence))).await;
        }
    }
}

/// What came of a connection.
enum Outcome {
    /// The agent was registered, until now.
    Registered,
    /// Another node leads.
    Redirected(String),
    /// It was not.
    Failed(String),
}

impl Talk for AgentNode {
    fn bodies(&self) -> &RefCell<Bodies> {
        &self.port.bodies
    }

    fn room(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(self.port.room())
    }

    fn link(&self, conn: &Rc<Conn>, link: Link<'_>) {
        match link {
            Link::Pong { stamp, session } => {
                let ours = session == conn.session.get() && session != Session::default();
                // Our own clock, echoed: an answer proves life at the time of the question.
                let sent = mesita_core::time::Time(stamp);
                if ours && sent > conn.heard.get() && sent <= clock::now() {
                    conn.heard.set(sent);
                }
            }
            Link::Ping { stamp, session } => {
                conn.say(&Head::Link(Link::Pong { stamp, session }));
            }
            Link::Redirect { .. } | Link::Bye { .. } => {}
        }
    }

    fn open(&self, conn: &Rc<Conn>, stream: u32, kind: Stream<'_>, window: u32) {
        self.open_stream(conn, stream, kind, window);
    }

    fn head(
        &self,
        conn: &Rc<Conn>,
        head: &Head<'_>,
        bytes: &[u8],
        bodies: Vec<BodyRef>,
    ) -> Result<(), &'static str> {
        let fits = match (conn.peer.role, head) {
            (Role::Master, head) => matches!(head, Head::AgentEvent(_)),
            (Role::Executor, Head::ExecutorCall(call)) => self.is_proved(call),
            (Role::Executor | Role::Client | Role::Agent | Role::Framework, _) => false,
        };
        if !fits {
            self.port.drop_bodies(&bodies);
            return Err("a message that has no place on this connection");
        }
        let peer = conn.ends.peer();
        with_refs(&bodies, |refs| {
            let input = Input::Frame { conn: conn.id, head: bytes, bodies: refs };
            self.port.put_then(&input, bodies.clone(), move |result| {
                if let Err(refusal) = result {
                    log::info!("{peer}: refused: {refusal}");
                }
            });
        });
        Ok(())
    }
}
