//! Nodes that speak frames: agents that hold tasks and run none, and a framework that declines.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mesita_core::digest::of_body;
use mesita_core::limits::{FRAME_MAX, HEAD_MAX};
use mesita_core::wire::agent::{AgentCall, AgentEvent, Hash, TaskBodies};
use mesita_core::wire::call::{Call, Capability, Ownership, Subscribe, Verb};
use mesita_core::wire::event::Event;
use mesita_core::wire::frame::{BodyRow, Limits, PREFIX, Prefix, overhead, seal};
use mesita_core::wire::hello::{Hello, Role};
use mesita_core::wire::link::Link;
use mesita_core::wire::task::Kind;
use mesita_core::wire::{Body, FrameworkId, Head, OfferId, Scratch, Seq, Session, decode, encode};

use crate::says::{self, ROLE};

/// What everybody may see of a task: its name.
const PUBLIC: &[u8] = b"\x0a\x09some task";

/// A connection that has said hello.
pub(super) struct Node {
    stream: TcpStream,
    /// The head that came last.
    head: Vec<u8>,
}

impl Node {
    /// Connects, and exchanges hellos.
    pub(super) fn connect(port: u16, role: Role, number: u32) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let mut node = Self { stream, head: Vec::new() };
        let kinds = Kind::Command.bit();
        let hello = Hello {
            key: says::key(number),
            nonce: [1; 16],
            tasks_max: 1_000,
            task_kinds: kinds,
            ..Hello::of_this_release(role, "mesita-benches")
        };
        node.send(&Head::Hello(hello), &[])?;
        node.receive()?;
        Ok(node)
    }

    /// Sends a head, and these bodies.
    pub(super) fn send(&mut self, head: &Head<'_>, bodies: &[&[u8]]) -> io::Result<()> {
        let full = |_| io::Error::other("a head larger than a frame takes");
        let mut memory = vec![0; HEAD_MAX];
        let head = encode(head, &mut memory).map_err(full)?;
        let rows = bodies.iter().map(|body| BodyRow {
            len: u32::try_from(body.len()).unwrap_or(u32::MAX),
            hash: of_body(body),
        });
        let mut frame = vec![0; overhead(bodies.len()) + head.len()];
        seal(head, rows, &mut frame).map_err(full)?;
        self.stream.write_all(&frame)?;
        bodies.iter().try_for_each(|body| self.stream.write_all(body))
    }

    /// Reads a frame; its bodies are passed over.
    fn receive(&mut self) -> io::Result<()> {
        let bad = |_| io::Error::other("what came is no frame");
        let max = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let limits = Limits { frame_max: max(FRAME_MAX), head_max: max(HEAD_MAX) };
        let mut first = [0; PREFIX];
        self.stream.read_exact(&mut first)?;
        let prefix = Prefix::parse(&first, limits).map_err(bad)?;
        let mut rest = vec![0; prefix.rest()];
        self.stream.read_exact(&mut rest)?;
        let frame = prefix.open(&rest).map_err(bad)?;
        self.head = frame.head.to_vec();
        let bodies = prefix.body_bytes() as u64;
        io::copy(&mut Read::by_ref(&mut self.stream).take(bodies), &mut io::sink()).map(drop)
    }
}

/// A framework that takes nothing.
pub(super) struct Decliner {
    node: Node,
    /// Its id.
    pub(super) id: FrameworkId,
}

impl Decliner {
    /// Subscribes.
    pub(super) fn subscribe(port: u16) -> io::Result<Self> {
        let mut node = Node::connect(port, Role::Framework, 0)?;
        let mut memory = [0; 64];
        let roles = Scratch::new(&mut memory).seq::<&'static str>([ROLE]);
        let subscribe = Subscribe {
            name: "decliner",
            user: "root",
            principal: "",
            hostname: "",
            webui_url: "",
            roles: roles.map_err(|_| io::Error::other("no room for a role"))?,
            suppressed: Seq::EMPTY,
            minimums: Seq::EMPTY,
            failover_us: 60_000_000,
            capabilities: Capability::PartitionAware.bit() | Capability::MultiRole.bit(),
            owned: Ownership::Scheduler,
            public: Body::NONE,
        };
        let verb = Verb::Subscribe(subscribe);
        let call = Call { framework: FrameworkId::NONE, ticket: 0, verb };
        node.send(&Head::Call(call), &[])?;
        loop {
            node.receive()?;
            match decode::<Head<'_>>(&node.head) {
                Ok(Head::Event(Event::Subscribed { framework, .. })) => {
                    return Ok(Self { node, id: framework });
                }
                Ok(Head::Event(Event::Error { message })) => return Err(io::Error::other(message)),
                _ => {}
            }
        }
    }

    /// Declines whatever is offered until a moment; how long after each answer the next offers came,
    /// and how many offers there were.
    pub(super) fn decline_until(&mut self, end: Instant) -> io::Result<(Vec<Duration>, u64)> {
        let (mut waits, mut offered) = (Vec::new(), 0);
        let mut answered: Option<Instant> = None;
        while Instant::now() < end {
            self.node.receive()?;
            let offers: Vec<OfferId> = match decode::<Head<'_>>(&self.node.head) {
                Ok(Head::Event(Event::Offers { offers })) => {
                    offers.iter().map(|offer| offer.id).collect()
                }
                Ok(Head::Link(Link::Ping { stamp, session })) => {
                    self.node.send(&Head::Link(Link::Pong { stamp, session }), &[])?;
                    continue;
                }
                _ => continue,
            };
            waits.extend(answered.map(|answered| answered.elapsed()));
            offered += offers.len() as u64;
            let mut memory = vec![0; HEAD_MAX];
            let offers = Scratch::new(&mut memory).seq::<OfferId>(offers);
            let offers = offers.map_err(|_| io::Error::other("more offers than fit"))?;
            let verb = Verb::Decline { offers, refuse_us: Some(0) };
            let call = Call { framework: self.id, ticket: 0, verb };
            self.node.send(&Head::Call(call), &[])?;
            answered = Some(Instant::now());
        }
        Ok((waits, offered))
    }
}

/// An agent with so many tasks of a framework, for as long as its master lives and leads: `told` is
/// called when it was registered. Where the leader is, if that is another one.
pub(super) fn agent(
    port: u16,
    number: u32,
    session: u32,
    of: FrameworkId,
    tasks: u32,
    mut told: impl FnMut(),
) -> io::Result<Option<u16>> {
    let mut node = Node::connect(port, Role::Agent, number)?;
    if let Some(leader) = leader_at(&node.head) {
        return Ok(Some(leader));
    }
    let session = Session { incarnation: 1, counter: session };
    let public = Hash { len: u32::try_from(PUBLIC.len()).unwrap_or(0), hash: of_body(PUBLIC) };
    says::register(number, session, |head| node.send(head, &[]))?;
    says::report(number, session, of, tasks, public, |head| node.send(head, &[]))?;
    loop {
        node.receive()?;
        let head = std::mem::take(&mut node.head);
        if let Some(leader) = leader_at(&head) {
            return Ok(Some(leader));
        }
        match decode::<Head<'_>>(&head) {
            Ok(Head::AgentEvent(AgentEvent::Want { session, tasks })) => {
                let mut memory = vec![0; HEAD_MAX];
                let list = tasks.iter().map(|task| TaskBodies { task, public: Body::at(0) });
                let tasks = Scratch::new(&mut memory).seq::<TaskBodies<'static>>(list);
                let tasks = tasks.map_err(|_| io::Error::other("more bodies than fit"))?;
                let call = AgentCall::Bodies { session, tasks };
                node.send(&Head::AgentCall(call), &[PUBLIC])?;
            }
            Ok(Head::AgentEvent(AgentEvent::Verdicts { session, last: true, .. })) => {
                node.send(&Head::AgentCall(AgentCall::Settled { session }), &[])?;
            }
            Ok(Head::AgentEvent(AgentEvent::Registered { .. })) => told(),
            Ok(Head::AgentEvent(AgentEvent::Refused { message, .. })) => {
                return Err(io::Error::other(message));
            }
            Ok(Head::Link(Link::Ping { stamp, session })) => {
                node.send(&Head::Link(Link::Pong { stamp, session }), &[])?;
            }
            _ => {}
        }
    }
}

/// Where somebody says that the leader is.
fn leader_at(head: &[u8]) -> Option<u16> {
    let Ok(Head::Link(Link::Redirect { address, .. })) = decode::<Head<'_>>(head) else {
        return None;
    };
    address.rsplit_once(':')?.1.parse().ok()
}
