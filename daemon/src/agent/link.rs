//! The way to the master: dial, say hello, keep it alive, and again.
//!
//! Of several masters one leads. An agent keeps a connection to each of the others, on which they
//! say who that is: it moves there at once, also when the old leader's cable was pulled. A leader that
//! it cannot reach it is joined to by one of them (`around`).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use mesita_core::agent::Input;
use mesita_core::time::Time;
use mesita_core::wire::agent::AgentEvent;
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::{Link, Parting};
use mesita_core::wire::svc::{CloseReason, Stream};
use mesita_core::wire::{BodyRef, Head, Session, decode};

use super::AgentNode;
use super::metrics::Awaited;
use crate::bodies::Bodies;
use crate::conn::dial::{Way, connect};
use crate::conn::frames::Frames;
use crate::conn::hello::{self, Peer, Refused};
use crate::conn::outbox::Outbox;
use crate::conn::streams::refuse;
use crate::conn::talk::{Ending, Talk, talk};
use crate::conn::{Conn, Ends, Pipe, Writing};
use crate::doors::Caller;
use crate::machines::fresh::session_us;
use crate::port::with_refs;
use crate::set::join::shown;
use crate::{alarm, clock, random};
use mesita_isolation::keeper::protocol::Request;

/// How long a master may take to say hello, and then to register the agent, in µs.
const PATIENCE_US: u64 = 10_000_000;
/// Redirections that are followed in a row.
const REDIRECTS_MAX: u32 = 8;
/// Troubles that are known to have been told.
const SAID_MAX: usize = 16;
/// Pauses grow up to so many times the first one.
const BACKOFF_MAX: u64 = 16;

impl AgentNode {
    /// Stays connected to a master, for ever.
    pub(crate) async fn stay_connected(self: Rc<Self>, way: Way) {
        if let Way::To(addresses, over) = &way {
            self.transport.replace(over.clone());
            self.learned.read(self.work_dir.join("meta/masters"), addresses);
            Rc::clone(&self).keep_in_touch_with_all();
        }
        let (mut attempt, mut redirects, mut failures) = (0, 0u32, 0u32);
        let mut leader = None;
        let mut said: Vec<String> = Vec::new();
        loop {
            let told = leader.take().or_else(|| self.news.leader());
            let told = told.or_else(|| self.learned.turn(attempt));
            let outcome = self.converse(&way, attempt, told.as_deref()).await;
            log::debug!("{}: {outcome:?}", way.shown(attempt, told.as_deref()));
            match outcome {
                Outcome::Redirected(address) if redirects < REDIRECTS_MAX => {
                    redirects += 1;
                    leader = Some(address);
                    continue;
                }
                // Each says that another one leads: none does yet.
                Outcome::Redirected(_) => {}
                Outcome::Registered => (failures, said) = (0, Vec::new()),
                Outcome::Failed(why) => {
                    self.news.failed_at(told.as_deref());
                    // The same trouble is told once, also where each master has one of its own.
                    if !said.contains(&why) {
                        log::warn!("{why}; trying again");
                        said.truncate(SAID_MAX - 1);
                        said.insert(0, why);
                    }
                }
            }
            attempt += 1;
            redirects = 0;
            let pause = self.pause(failures);
            failures = failures.saturating_add(1);
            let comes = self.news.another(told.as_deref());
            alarm::within(pause, comes).await;
        }
    }

    /// Where the masters are by now.
    fn told_masters(&self, addresses: &str) {
        if self.learned.tell(addresses)
            && let Some(me) = self.me.upgrade()
        {
            me.keep_in_touch_with_all();
        }
    }

    fn keep_in_touch_with_all(self: Rc<Self>) {
        for address in self.learned.untouched() {
            self.tasks.go(Rc::clone(&self).keep_in_touch(address));
        }
    }

    /// Stays connected to one of several masters, to hear from it who leads, for as long as it is one.
    async fn keep_in_touch(self: Rc<Self>, address: String) {
        let heard = Cell::new(false);
        let mut failures = 0;
        loop {
            self.news.not_at(&address).await;
            if self.learned.is_left(&address) {
                return;
            }
            let listening = self.listen_to(&address, &heard);
            futures_lite::future::or(listening, self.news.at(&address)).await;
            self.news.unheard(&address);
            log::debug!("not in touch with {address}");
            failures = if heard.replace(false) { 0 } else { failures + 1 };
            alarm::after(self.pause(failures)).await;
        }
    }

    /// A pause after so many failures in a row, in µs: it grows, and no two nodes have the same.
    fn pause(&self, failures: u32) -> u64 {
        random::below(longest(self.options.backoff_us, failures)).max(1)
    }

    /// `heard` becomes true when it says who leads.
    async fn listen_to(&self, address: &str, heard: &Cell<bool>) {
        let over = self.transport.borrow().clone();
        let Ok(Pipe { reading, mut writing, .. }) = connect(address, &over).await else { return };
        let own = self.own.borrow().clone();
        let greeting = hello::dial(reading, &mut writing, &own, &self.port.bodies);
        let Some(Ok((mut frames, peer))) = alarm::within(PATIENCE_US, greeting).await else {
            return;
        };
        if peer.role != Role::Master {
            return;
        }
        while let Ok(received) = frames.next(&self.port.bodies).await {
            self.port.drop_bodies(&received.bodies);
            match decode(received.head) {
                Ok(Head::Link(Link::Redirect { fence, address: leader, .. })) => {
                    log::debug!("{address} says that {leader} leads, in epoch {}", fence.epoch);
                    self.news.tell(fence, leader, address);
                    heard.set(true);
                }
                Ok(Head::Link(Link::Masters { addresses })) => {
                    self.told_masters(addresses);
                    heard.set(true);
                }
                Ok(Head::Link(Link::Bye { .. })) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Waits until a later leader than the one at `address` is known.
    async fn outdated(&self, address: &str) -> String {
        self.news.newer(self.seen.get(), address).await
    }

    /// One connection, from the dialling to its end.
    async fn converse(self: &Rc<Self>, way: &Way, attempt: usize, leader: Option<&str>) -> Outcome {
        let address = way.shown(attempt, leader);
        // One that is silent is not waited for when another one leads.
        let outdated = async { Err(Outcome::Redirected(self.outdated(&address).await)) };
        let greeted = futures_lite::future::or(self.greet(way, attempt, leader), outdated).await;
        let (frames, peer, writing, ends) = match greeted {
            Ok(greeted) => greeted,
            Err(outcome) => return outcome,
        };
        if peer.role != Role::Master {
            return Outcome::Failed(format!("{address} is no master"));
        }
        let Some(id) = self.conns.begin() else {
            return Outcome::Failed("too many connections".to_owned());
        };
        let outbox = Outbox::new(self.options.master_bytes_max, self.on_level("the master"));
        // The master needs no rights here: it gives orders, which the core judges.
        let caller = Caller::new("", Default::default());
        let conn = Conn::new(id, ends, peer, caller, outbox);
        self.conns.add(&conn);
        self.master.set(Some(id));
        self.news.go_to(&address);
        self.timeout_us.set(0);
        self.called.take();
        let head_max = conn.peer.head_max;
        self.port.put(&Input::Opened { conn: id, role: Role::Master, head_max });
        let alive = async {
            self.sign_of_life(&conn, &address).await;
            Ending::Parted
        };
        let outdated = async { Ending::Redirect(self.outdated(&address).await) };
        let living = futures_lite::future::or(alive, outdated);
        let talking = async {
            let ending = talk(&conn, frames, writing, &**self).await;
            if let Ending::Redirect(leader) = &ending {
                self.news.shown(leader, &address);
            }
            ending
        };
        let ending = futures_lite::future::or(talking, living).await;
        let registered = self.timeout_us.get() > 0;
        self.conns.end(id);
        self.news.go_to("");
        self.master.set(None);
        self.timeout_us.set(0);
        self.port.put(&Input::Closed { conn: id });
        if let Ending::Redirect(address) = ending {
            return Outcome::Redirected(address);
        }
        if let Ending::Bye(Parting::Denied, _) = ending {
            self.shows_other_key();
        }
        if registered {
            log::warn!("the master at {address} is gone: {ending}");
            return Outcome::Registered;
        }
        Outcome::Failed(format!("{address}: {ending}"))
    }

    /// Dials, and says hello.
    async fn greet(
        &self,
        way: &Way,
        attempt: usize,
        leader: Option<&str>,
    ) -> Result<(Frames, Peer, Writing, Ends), Outcome> {
        let address = way.shown(attempt, leader);
        let dialled = self.reach(way, attempt, leader).await;
        let Pipe { reading, mut writing, ends, .. } =
            dialled.map_err(|error| Outcome::Failed(format!("no master at {address}: {error}")))?;
        let own = self.own.borrow().clone();
        let greeting = hello::dial(reading, &mut writing, &own, &self.port.bodies);
        match alarm::within(PATIENCE_US, greeting).await {
            Some(Ok((frames, peer))) => Ok((frames, peer, writing, ends)),
            Some(Err(Refused::Redirect(address))) => Err(Outcome::Redirected(address)),
            Some(Err(refused)) => Err(Outcome::Failed(format!("{address}: {refused}"))),
            None => Err(Outcome::Failed(format!("{address} does not say hello"))),
        }
    }

    /// Remembers by which key it knows the masters: from now on it needs no token.
    fn has_joined(&self) {
        let Some(pin) = self.options.joining else { return };
        let file = self.work_dir.join("meta/joined");
        if let Err(error) = crate::identity::write(&file, format!("{pin}\n").as_bytes()) {
            log::error!("this node has joined, and will need a token again: {error}");
        }
    }

    /// Pings the master and waits for answers; returns when there were none for too long. A
    /// session lasts 0.75 A from when its newest answered ping was sent.
    async fn sign_of_life(&self, conn: &Conn, address: &str) {
        if conn.ends == Ends::Memory {
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
        self.has_joined();
        self.ask_for_key();
        let node = if self.work_dir.join("meta/joined").exists() {
            // As `mesita node ls` shows it.
            format!(" as node {}", shown(&self.own.borrow().key))
        } else {
            String::new()
        };
        log::info!("registered with the master at {address}{node}");
        let timeout_us = self.timeout_us.get();
        // A third, not quite: two pings may be lost, and an idle node wakes up less than once a
        // second for it.
        let (every, silence) = (timeout_us / 3, session_us(timeout_us));
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
#[derive(Debug)]
enum Outcome {
    /// The agent was registered, until now.
    Registered,
    /// Another node leads.
    Redirected(String),
    /// It was not.
    Failed(String),
}

impl AgentNode {
    /// A task is there that stops when no master has answered for so long.
    pub(super) fn stops(&self, after_us: u64) {
        self.renews.set(self.renews.get() || after_us > 0);
    }

    /// A master has answered a question of then: whoever holds such tasks counts from there.
    fn renew(&self, session: Session, sent: Time) {
        if self.renews.get() {
            self.keeper.send(&Request::Renew { session, contact_us: sent.0 });
        }
    }
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
                let sent = Time(stamp);
                if ours && sent > conn.heard.get() && sent <= clock::now() {
                    conn.heard.set(sent);
                    self.answered(sent);
                    self.renew(session, sent);
                }
            }
            Link::Ping { stamp, session } => {
                conn.say(&Head::Link(Link::Pong { stamp, session }));
            }
            Link::Masters { addresses } => self.told_masters(addresses),
            Link::Called { hostname } => *self.called.borrow_mut() = Some(hostname.to_owned()),
            Link::Redirect { .. } | Link::Bye { .. } | Link::Prove { .. } | Link::Splice { .. } => {
            }
        }
    }

    fn open(&self, conn: &Rc<Conn>, stream: u32, kind: Stream<'_>, window: u32) {
        // It says for whom it asks, and is believed.
        if conn.peer.role != Role::Master {
            let message = "only an agent's master opens streams to it";
            return refuse(conn, stream, CloseReason::Denied, message);
        }
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
        if let Head::AgentEvent(event) = head {
            say_order(event);
        }
        self.outcomes.heard(head);
        let (awaited, me) = (Awaited::of(head), self.me.clone());
        let peer = conn.ends.peer();
        with_refs(&bodies, |refs| {
            let input = Input::Frame { conn: conn.id, head: bytes, bodies: refs };
            self.port.put_then(&input, bodies.clone(), move |result| {
                if let (Some(awaited), Some(me)) = (awaited, me.upgrade()) {
                    me.outcomes.came_of(awaited, result);
                }
                if let Err(refusal) = result {
                    log::info!("{peer}: refused: {refusal}");
                }
            });
        });
        Ok(())
    }
}

/// People hear of what operators have ordered for the whole agent.
fn say_order(event: &AgentEvent<'_>) {
    if let AgentEvent::Shutdown { message } = event {
        log::warn!("everything here ends: {message}");
    } else if let AgentEvent::Drain { .. } = event {
        log::info!("an operator has this agent emptied: its tasks are ended");
    } else if let AgentEvent::Reactivate = event {
        log::info!("this agent is offered again");
    }
}

/// The longest pause after so many failures in a row: the first one, doubled up to [`BACKOFF_MAX`] times
/// that.
fn longest(first_us: u64, failures: u32) -> u64 {
    first_us.saturating_mul((1u64 << failures.min(32)).min(BACKOFF_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_to_its_bound_and_no_further() {
        let all: Vec<u64> = (0..7).map(|failures| longest(10, failures)).collect();
        assert_eq!(all, [10, 20, 40, 80, 160, 160, 160]);
        assert_eq!(longest(10, u32::MAX), 160);
        assert_eq!(longest(u64::MAX, 3), u64::MAX);
        assert_eq!(longest(0, 3), 0);
    }
}
