//! The first frame in both directions: who is there, and what both can take.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use futures_lite::AsyncWriteExt;
use mesita_core::limits::{FRAME_MAX, HEAD_MAX, HEAD_MIN};
use mesita_core::wire::frame::{Limits, overhead};
use mesita_core::wire::hello::{AuthScheme, Hello, Mismatch, Role, agree};
use mesita_core::wire::link::{Link, Parting};
use mesita_core::wire::{Generation, Head, decode};

use super::frames::{Broken, Frames};
use super::outbox::Packet;
use super::{Reading, Writing};
use crate::access::{Credential, PROOF_SINCE, proof};
use crate::bodies::Bodies;

/// What a peer said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) role: Role,
    /// The version both speak.
    pub(crate) version: u16,
    pub(crate) cluster: u64,
    pub(crate) head_max: u32,
    pub(crate) window: u32,
    pub(crate) key: [u8; 32],
    /// What it has drawn for this connection.
    pub(crate) nonce: [u8; 16],
    pub(crate) software: String,
}

/// Why a conversation did not begin.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The connection broke, or what came is no hello.
    Broken(Broken),
    /// Nothing in common.
    Mismatch(Mismatch),
    /// It asks for frames that are protected by a key, and there is none.
    Auth,
    /// The leader is elsewhere.
    Redirect(String),
    /// The peer ended it, and why.
    Bye(Parting, String),
    /// It said something else than hello.
    NoHello,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(broken) => broken.fmt(f),
            Self::Mismatch(mismatch) => mismatch.fmt(f),
            Self::Auth => f.write_str("the peer asks for a key, and this node has none"),
            Self::Redirect(address) => write!(f, "the leader is at {address}"),
            Self::Bye(_, message) => f.write_str(message),
            Self::NoHello => f.write_str("the peer said something else than hello"),
        }
    }
}

impl From<Broken> for Refused {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// A node's own hello, but for its nonce.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) role: Role,
    pub(crate) cluster: u64,
    pub(crate) generation: Generation,
    pub(crate) key: [u8; 32],
    pub(crate) head_max: u32,
    pub(crate) tasks_max: u32,
    pub(crate) task_kinds: u32,
    /// What it proves who it is by, where it dials.
    pub(crate) credential: Option<Rc<Credential>>,
}

/// The program's name and version in a hello.
const SOFTWARE: &str = concat!("mesita ", env!("CARGO_PKG_VERSION"));

impl Own {
    /// The hello of a node without identity.
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            cluster: 0,
            generation: Generation::default(),
            key: [0; 32],
            head_max: u32::try_from(HEAD_MAX).unwrap_or(u32::MAX),
            tasks_max: 0,
            task_kinds: 0,
            credential: None,
        }
    }

    /// What frames this node takes.
    pub(crate) fn limits(&self) -> Limits {
        Limits { frame_max: u32::try_from(FRAME_MAX).unwrap_or(u32::MAX), head_max: self.head_max }
    }

    /// Those of a peer that is not known yet: it has nothing to say that is long, and no room is set
    /// aside for it.
    pub(crate) fn short(&self) -> Limits {
        let frame_max = u32::try_from(HEAD_MAX + overhead(0)).unwrap_or(u32::MAX);
        Limits { frame_max, ..self.limits() }
    }

    /// The hello as it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        Packet::of(&Head::Hello(self.hello())).into_parts().0
    }

    fn hello(&self) -> Hello<'static> {
        Hello {
            cluster: self.cluster,
            generation: self.generation,
            key: self.key,
            nonce: crate::random::bytes(),
            head_max: self.head_max,
            tasks_max: self.tasks_max,
            task_kinds: self.task_kinds,
            ..Hello::of_this_release(self.role, SOFTWARE)
        }
    }
}

/// Says hello first, reads the answer, and proves who it is if it can: the end that dialled.
pub(crate) async fn dial(
    reading: Reading,
    writing: &mut Writing,
    own: &Own,
    store: &RefCell<Bodies>,
) -> Result<(Frames, Peer), Refused> {
    let hello = own.hello();
    say(writing, &Head::Hello(hello)).await?;
    let mut frames = Frames::new(reading, own.limits());
    let received = frames.next(store).await?;
    let head = decode(received.head).map_err(Broken::Malformed)?;
    let peer = read(&hello, &head)?;
    if let Some(credential) = own.credential.as_deref().filter(|_| peer.version >= PROOF_SINCE) {
        let proof = proof(credential, [hello.nonce, peer.nonce], own.role);
        let principal = &*credential.principal;
        say(writing, &Head::Link(Link::Prove { principal, proof })).await?;
    }
    Ok((frames, peer))
}

/// Answers a hello. What it gives is the nonce that a proof is to be over.
pub(crate) async fn welcome(writing: &mut Writing, own: &Own) -> Result<[u8; 16], Refused> {
    let hello = own.hello();
    say(writing, &Head::Hello(hello)).await?;
    Ok(hello.nonce)
}

/// Reads a hello, and answers it only when there is nothing in common: in a sentence. What comes after it
/// is short, until whoever says it is known: see [`Frames::widen`].
pub(crate) async fn hear(
    reading: Reading,
    writing: &mut Writing,
    own: &Own,
    store: &RefCell<Bodies>,
) -> Result<(Frames, Peer), Refused> {
    let mut frames = Frames::new(reading, own.short());
    let answered = take(&mut frames, own, store).await;
    match answered {
        Ok(peer) => Ok((frames, peer)),
        Err(refused) => {
            let reason = match &refused {
                Refused::Mismatch(_) => Parting::Mismatch,
                Refused::Auth => Parting::Denied,
                Refused::Broken(Broken::Closed | Broken::Io(_)) => return Err(refused),
                Refused::Broken(_) | Refused::NoHello => Parting::Malformed,
                Refused::Redirect(_) | Refused::Bye(..) => return Err(refused),
            };
            let message = format!("this node will not speak with the peer: {refused}");
            say(writing, &Head::Link(Link::Bye { reason, message: &message })).await?;
            // Who is told why should have the time to read it.
            let _ = writing.close().await;
            Err(refused)
        }
    }
}

async fn take(frames: &mut Frames, own: &Own, store: &RefCell<Bodies>) -> Result<Peer, Refused> {
    let received = frames.next(store).await?;
    let head = decode(received.head).map_err(Broken::Malformed)?;
    read(&own.hello(), &head)
}

/// What a first frame says.
fn read(own: &Hello<'_>, head: &Head<'_>) -> Result<Peer, Refused> {
    match head {
        Head::Hello(hello) => {
            let version = agree(own, hello).map_err(Refused::Mismatch)?;
            if hello.auth != AuthScheme::None {
                return Err(Refused::Auth);
            }
            Ok(Peer {
                role: hello.role,
                version,
                cluster: hello.cluster,
                head_max: hello.head_max.max(u32::try_from(HEAD_MIN).unwrap_or(0)),
                window: hello.window,
                key: hello.key,
                nonce: hello.nonce,
                software: hello.software.to_owned(),
            })
        }
        Head::Link(Link::Redirect { address, .. }) => Err(Refused::Redirect((*address).to_owned())),
        Head::Link(Link::Bye { reason, message }) => {
            Err(Refused::Bye(*reason, (*message).to_owned()))
        }
        Head::Link(
            Link::Ping { .. }
            | Link::Pong { .. }
            | Link::Prove { .. }
            | Link::Masters { .. }
            | Link::Splice { .. }
            | Link::Called { .. },
        )
        | Head::Svc(_)
        | Head::Call(_)
        | Head::Event(_)
        | Head::AgentCall(_)
        | Head::AgentEvent(_)
        | Head::ExecutorCall(_)
        | Head::ExecutorEvent(_)
        | Head::OperatorCall(_)
        | Head::OperatorEvent(_)
        | Head::Gossip(_) => Err(Refused::NoHello),
    }
}

/// Writes one head at once, outside any outbox.
pub(crate) async fn say(writing: &mut Writing, head: &Head<'_>) -> Result<(), Refused> {
    let (bytes, _) = Packet::of(head).into_parts();
    writing.write_all(&bytes).await.map_err(Broken::from)?;
    Ok(writing.flush().await.map_err(Broken::from)?)
}
