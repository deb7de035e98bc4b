//! Who connects to a master, as what, and for how long.

use std::rc::Rc;

use mesita_core::acls::Action;
use mesita_core::master::Input;
use mesita_core::table::Id;
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::{Link, Parting};
use mesita_core::wire::{Head, decode};

use super::MasterNode;
use super::standby::Arrived;
use crate::access::{PROOF_SINCE, Shown, denied};
use crate::conn::frames::Frames;
use crate::conn::hello::{self, Peer};
use crate::conn::listen::{Arrival, STRANGER_US, Stranger, Welcome, say};
use crate::conn::outbox::Outbox;
use crate::conn::talk::{Ending, talk};
use crate::conn::{Conn, Ends, Pipe, Writing};
use crate::doors::{Caller, Denied};
use crate::{alarm, clock, http};

impl Welcome for MasterNode {
    async fn arrived(self: Rc<Self>, arrival: Arrival, stranger: Stranger) {
        match arrival {
            Arrival::Native(pipe) => self.native(pipe, || stranger.known()).await,
            Arrival::Http(pipe) => http::serve(pipe, self, stranger).await,
        }
    }
}

impl MasterNode {
    /// Speaks with whoever sends frames, to the end. `known` is called when hello was said.
    pub(crate) async fn native(self: Rc<Self>, pipe: Pipe, known: impl FnOnce()) {
        let Pipe { reading, mut writing, ends, proved } = pipe;
        let own = self.own.borrow().clone();
        let greeted = hello::hear(reading, &mut writing, &own, &self.port.bodies);
        let Some(greeted) = alarm::within(STRANGER_US, greeted).await else { return };
        let (frames, peer) = match greeted {
            Ok(greeted) => greeted,
            Err(refused) => {
                return say(log::Level::Info, &ends, &refused.to_string());
            }
        };
        if self.options.standing.in_set && !self.leads() {
            known();
            let arrived = Arrived { ends: &ends, proved: proved.as_ref(), peer: &peer };
            return self.show_the_way(frames, writing, &arrived).await;
        }
        let Ok(nonce) = hello::welcome(&mut writing, &own).await else { return };
        let mut frames = frames;
        let admitted = match self.identify(&ends, proved.as_ref(), &peer, &mut frames, nonce).await
        {
            Ok(caller) => self.admit(&peer, caller),
            Err(turned_away) => Err(turned_away),
        };
        let (id, caller, number) = match admitted {
            Ok(admitted) => admitted,
            Err((reason, message)) => {
                say(log::Level::Warn, &ends, &message);
                return turn_away(&mut writing, reason, &message).await;
            }
        };
        known();
        frames.widen(own.limits());
        let max = match peer.role {
            Role::Agent => self.options.agent_bytes_max,
            Role::Framework | Role::Client | Role::Master | Role::Executor => {
                self.options.stream_bytes_max
            }
        };
        let outbox = Outbox::new(max, self.on_level(id));
        let outbox = outbox.under(Rc::clone(&self.options.standing));
        let conn = Conn::new(id, ends, peer, caller, outbox);
        conn.nonce.set(nonce);
        self.conns.add(&conn);
        if let Some(caller) = number {
            let (role, version) = (conn.peer.role, conn.peer.version);
            let head_max = conn.peer.head_max;
            self.port.put(&Input::Opened { conn: id, role, version, caller, head_max });
        }
        let silent = async {
            self.silence(&conn).await;
            conn.say(&Head::Link(Link::Bye {
                reason: Parting::Silent,
                message: "nothing was heard for too long",
            }));
            Ending::Parted
        };
        let telling = async {
            self.tell_masters(&conn).await;
            Ending::Parted
        };
        let beside = futures_lite::future::or(silent, telling);
        let ending = futures_lite::future::or(talk(&conn, frames, writing, &*self), beside).await;
        log::debug!("{}: {ending}", ends.peer());
        self.conns.end(id);
        self.tallies.forget(id);
        self.introduced.borrow_mut().remove(&id);
        self.agent_conns.borrow_mut().retain(|_, of| *of != id);
        if self.operators.borrow_mut().remove(&id) || number.is_some() {
            self.port.put(&Input::Closed { conn: id, since: conn.heard.get() });
        }
    }

    /// Finds out who it is: from the kernel, or by a proof where one is needed.
    async fn identify(
        &self,
        ends: &Ends,
        proved: Option<&[u8; 32]>,
        peer: &Peer,
        frames: &mut Frames,
        nonce: [u8; 16],
    ) -> Result<Caller, (Parting, String)> {
        if let Some(caller) = self.joined(peer, proved).map_err(|why| (Parting::Denied, why))? {
            return Ok(caller);
        }
        let known = self.doors.caller(ends);
        let access = &self.options.access;
        // Who runs it is no reason to be one of the masters.
        let asked =
            *ends != Ends::Memory && (peer.role == Role::Master || access.asks_node(peer.role));
        // A process inside of a task is let in by a credential alone.
        let may_prove = access.knows_any() && peer.version >= PROOF_SINCE;
        if !asked && (known.is_ok() || !may_prove) {
            return known.map_err(|denied: Denied| (Parting::Denied, denied.to_string()));
        }
        let said = alarm::within(STRANGER_US, frames.next(&self.port.bodies)).await;
        if let Some(Ok(received)) = &said
            && let Ok(Head::Link(Link::Prove { principal, proof })) = decode(received.head)
        {
            let nonces = [peer.nonce, nonce];
            let shown = Shown { principal, proof, nonces, role: peer.role };
            if let Some(joined) = self.join(&shown, proved, ends).await {
                return joined.map_err(|why| {
                    access.count_refused();
                    (Parting::Denied, why)
                });
            }
            if let Some(caller) = access.prover(&shown) {
                return Ok(caller);
            }
        }
        if let Some(Ok(received)) = said {
            self.port.drop_bodies(&received.bodies);
        }
        access.count_refused();
        let message = match known {
            _ if peer.role == Role::Master => BY_TOKEN.to_owned(),
            Err(denied) if !asked => denied.to_string(),
            Ok(_) | Err(_) => "the master asks for a credential that it knows: give --credential \
                               FILE, or MESITA_CREDENTIAL"
                .to_owned(),
        };
        Err((Parting::Denied, message))
    }

    /// Finds out whether there is room for it. The caller's number is none for those the core has
    /// nothing to do with.
    fn admit(
        &self,
        peer: &Peer,
        caller: Caller,
    ) -> Result<(Id, Caller, Option<u16>), (Parting, String)> {
        let in_core = match peer.role {
            // Whoever has an agent is handed the tasks of everybody.
            Role::Agent if !self.options.access.may_bring_agents(&caller) => {
                let message = "only root and the user that the master runs as may register agents, and \
                               principals that are for that: by `mesita principal add --agent`, \
                               \"agent\": true beside their secret in --credentials, or a rule of \
                               `register_agents` in --acls";
                return Err((Parting::Denied, message.to_owned()));
            }
            Role::Agent if !self.options.access.may(&caller, Action::RegisterAgent, None) => {
                return Err((Parting::Denied, denied(&caller, Action::RegisterAgent, None)));
            }
            Role::Agent | Role::Framework => true,
            Role::Client => false,
            Role::Master if caller.is_node() => false,
            Role::Master => return Err((Parting::Denied, BY_TOKEN.to_owned())),
            Role::Executor => {
                let message = "a master speaks with agents, frameworks and clients";
                return Err((Parting::Denied, message.to_owned()));
            }
        };
        let id = self.conns.begin().ok_or_else(|| {
            let message = "too many connections: see --size on the master";
            (Parting::Overloaded, message.to_owned())
        })?;
        if !in_core {
            return Ok((id, caller, None));
        }
        let number = self.number_of(&caller);
        let Some(number) = number else {
            self.conns.end(id);
            let Caller { name, .. } = caller;
            let message = format!("no room for another caller, {name}: see --size on the master");
            return Err((Parting::Overloaded, message));
        };
        Ok((id, caller, Some(number)))
    }

    /// Tells whoever stays where the masters are, each time that it changes.
    async fn tell_masters(&self, conn: &Conn) {
        let stays = matches!(conn.peer.role, Role::Agent | Role::Framework);
        let called = self.options.hostname.as_deref().filter(|_| conn.peer.role == Role::Agent);
        let called = called.map(|hostname| Head::Link(Link::Called { hostname }));
        called
            .iter()
            .filter(|head| conn.peer.version >= head.since())
            .for_each(|head| conn.say(head));
        let mut told = String::new();
        loop {
            told = self.options.standing.moved(&told).await;
            let head = Head::Link(Link::Masters { addresses: &told });
            if stays && conn.peer.version >= head.since() {
                conn.say(&head);
            }
        }
    }

    /// Waits until an agent was silent for as long as ends a session. Others may be silent: the
    /// kernel notices when they vanish.
    async fn silence(&self, conn: &Conn) {
        if conn.peer.role != Role::Agent || conn.ends == Ends::Memory {
            return std::future::pending().await;
        }
        loop {
            let deadline = conn.heard.get().after(self.options.agent_timeout_us);
            if clock::now() >= deadline {
                return;
            }
            alarm::at(deadline).await;
        }
    }
}

/// Said to who would be a master by something else.
const BY_TOKEN: &str = "a master joins by a token: `mesita token create --role master` makes one";

/// Says why, waits a moment for it to be read, and ends.
async fn turn_away(writing: &mut Writing, reason: Parting, message: &str) {
    let said = hello::say(writing, &Head::Link(Link::Bye { reason, message })).await;
    if said.is_ok() {
        // The peer's end of the stream comes when it has read it, or not at all.
        let _ = futures_lite::AsyncWriteExt::close(writing).await;
    }
}
