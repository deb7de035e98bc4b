//! Who connects to an agent: executors, which prove that they are; others are shown the way to the
//! leader.

use std::rc::Rc;

use mesita_core::agent::Input;
use mesita_core::wire::executor::ExecutorCall;
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::{Link, Parting};
use mesita_core::wire::{Fence, Head, decode};

use super::AgentNode;
use crate::conn::hello;
use crate::conn::listen::{Arrival, STRANGER_US, Stranger, Welcome, say};
use crate::conn::outbox::Outbox;
use crate::conn::talk::{Talk, talk};
use crate::conn::{Conn, Pipe};
use crate::doors::Caller;
use crate::{alarm, http};

impl Welcome for AgentNode {
    async fn arrived(self: Rc<Self>, arrival: Arrival, stranger: Stranger) {
        match arrival {
            Arrival::Native(pipe) => self.native(pipe, || stranger.known()).await,
            Arrival::Http(pipe) => http::serve(pipe, self, stranger).await,
        }
    }
}

impl AgentNode {
    async fn native(self: Rc<Self>, pipe: Pipe, known: impl FnOnce()) {
        let Pipe { reading, mut writing, ends, .. } = pipe;
        let own = self.own.borrow().clone();
        let greeted = hello::hear(reading, &mut writing, &own, &self.port.bodies);
        let (mut frames, peer) = match alarm::within(STRANGER_US, greeted).await {
            Some(Ok(greeted)) => greeted,
            Some(Err(refused)) => {
                return say(log::Level::Info, &ends, &refused.to_string());
            }
            None => return,
        };
        let leader = self.leader.borrow().clone();
        let refusal = match (peer.role, &leader) {
            (Role::Executor, _) => None,
            (Role::Client | Role::Framework | Role::Agent, Some(address)) => {
                let fence = Fence { generation: own.generation, ..Fence::default() };
                Some(Link::Redirect { fence, leader: 0, address })
            }
            (Role::Client | Role::Framework | Role::Agent | Role::Master, _) => Some(Link::Bye {
                reason: Parting::NoLeader,
                message: "this is an agent, and it is not registered with any master now",
            }),
        };
        if let Some(link) = refusal {
            // In the place of a hello: who looks for the cluster reads no further.
            if hello::say(&mut writing, &Head::Link(link)).await.is_ok() {
                let _ = futures_lite::AsyncWriteExt::close(&mut writing).await;
            }
            return;
        }
        if hello::welcome(&mut writing, &own).await.is_err() {
            return;
        }
        // It proves itself by its token, with its first call; until then it has no seat.
        let said = alarm::within(STRANGER_US, frames.next(&self.port.bodies)).await;
        let Some(Ok(received)) = said else { return };
        let (first, bodies) = (received.head.to_vec(), received.bodies);
        let first_call = decode::<Head<'_>>(&first);
        let Ok(call @ Head::ExecutorCall(subscribes)) = first_call else {
            return self.port.drop_bodies(&bodies);
        };
        if !proves_itself(&subscribes) || !self.is_proved(&subscribes) {
            return self.port.drop_bodies(&bodies);
        }
        let Some(id) = self.conns.begin() else { return self.port.drop_bodies(&bodies) };
        known();
        frames.widen(own.limits());
        let outbox = Outbox::new(self.options.stream_bytes_max, self.on_level("an executor"));
        let caller = Caller::new("", Default::default());
        let conn = Conn::new(id, ends, peer, caller, outbox);
        self.conns.add(&conn);
        let head_max = conn.peer.head_max;
        self.port.put(&Input::Opened { conn: id, role: Role::Executor, head_max });
        if let Err(why) = self.head(&conn, &call, &first, bodies) {
            log::info!("executor at {}: {why}", ends.peer());
        }
        let ending = talk(&conn, frames, writing, &*self).await;
        log::debug!("executor at {}: {ending}", ends.peer());
        self.conns.end(id);
        self.executors.forget(id);
        self.port.put(&Input::Closed { conn: id });
    }

    /// True unless an executor claims to be one that it is not.
    pub(super) fn is_proved(&self, call: &ExecutorCall<'_>) -> bool {
        match call {
            ExecutorCall::Subscribe { framework, executor, token, .. }
            | ExecutorCall::Holds { framework, executor, token, .. } => {
                self.containers.proves(*framework, executor, token)
            }
            // The core knows which connection subscribed.
            ExecutorCall::Update(_) | ExecutorCall::Message { .. } | ExecutorCall::Heartbeat => {
                true
            }
        }
    }
}

/// True for a call that says by which token its caller is who it is.
const fn proves_itself(call: &ExecutorCall<'_>) -> bool {
    matches!(call, ExecutorCall::Subscribe { .. } | ExecutorCall::Holds { .. })
}
