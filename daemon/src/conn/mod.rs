//! Connections: frames of the wire over any pair of byte streams.
//!
//! | file | concern |
//! |---|---|
//! | `frames` | bytes → frames, and their bodies into the store |
//! | `outbox` | frames → bytes: what waits, in which order, how much of it |
//! | `hello` | the first frame in both directions |
//! | `streams` | byte streams beside the conversation |
//! | `carried` | HTTP inside of such a stream |
//! | `learned` | where masters are, beside what was given |
//! | `dial`, `listen` | how a connection begins |
//! | `splice` | the same, by way of somebody |
//! | `talk` | its life from the hellos to its end |

pub(crate) mod carried;
pub(crate) mod dial;
pub(crate) mod frames;
pub(crate) mod hello;
pub(crate) mod learned;
pub(crate) mod listen;
pub(crate) mod outbox;
pub(crate) mod splice;
pub(crate) mod streams;
pub(crate) mod talk;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite};
use mesita_core::table::Id;
use mesita_core::time::Time;
use mesita_core::wire::link::{Link, Parting};
use mesita_core::wire::{BodyRef, Head, Session};

use crate::clock;
use crate::doors::Caller;
use crate::port::Port;
use hello::Peer;
use outbox::{Outbox, Packet};
use streams::Streams;

/// Where bytes come from.
pub(crate) type Reading = Box<dyn AsyncRead + Unpin>;
/// Where bytes go.
pub(crate) type Writing = Box<dyn AsyncWrite + Unpin>;

/// Both directions of a byte stream, and what is known of its other end.
pub(crate) struct Pipe {
    pub(crate) reading: Reading,
    pub(crate) writing: Writing,
    pub(crate) ends: Ends,
    /// The key that the other end has proved to have, if it is a node that has.
    pub(crate) proved: Option<[u8; 32]>,
}

/// Whom a byte stream joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Two parts of this very process.
    Memory,
    /// A TCP connection.
    Tcp { local: SocketAddr, peer: SocketAddr },
}

impl Ends {
    /// The other end's address, for people.
    pub(crate) fn peer(&self) -> String {
        match self {
            Self::Memory => "this process".to_owned(),
            Self::Tcp { peer, .. } => peer.to_string(),
        }
    }

    /// True when both are on this machine.
    pub(crate) fn are_here(&self) -> bool {
        match self {
            Self::Memory => true,
            Self::Tcp { local, peer } => {
                let [local, peer] = [local, peer].map(|end| end.ip().to_canonical());
                peer.is_loopback() || peer == local
            }
        }
    }
}

impl Pipe {
    /// The two ends of a stream within this process, each with room for so many bytes.
    pub(crate) fn pair(bytes: usize) -> (Self, Self) {
        let (a_reading, b_writing) = piper::pipe(bytes);
        let (b_reading, a_writing) = piper::pipe(bytes);
        let end = |reading, writing| Self {
            reading: Box::new(reading),
            writing: Box::new(writing),
            ends: Ends::Memory,
            proved: None,
        };
        (end(a_reading, a_writing), end(b_reading, b_writing))
    }

    /// Both directions as one stream.
    pub(crate) fn join(self) -> Both {
        Both { reading: self.reading, writing: self.writing }
    }

    /// A TCP connection that was made or accepted.
    pub(crate) fn tcp(stream: smol::net::TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        let ends = Ends::Tcp { local: stream.local_addr()?, peer: stream.peer_addr()? };
        let (reading, writing) = (Box::new(stream.clone()), Box::new(stream));
        Ok(Self { reading, writing, ends, proved: None })
    }
}

/// Both directions of a byte stream in one.
pub(crate) struct Both {
    reading: Reading,
    writing: Writing,
}

impl AsyncRead for Both {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.reading).poll_read(cx, into)
    }
}

impl AsyncWrite for Both {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writing).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writing).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writing).poll_close(cx)
    }
}

/// How long a peer may leave what it was sent without an answer, in ms: what asks after an idle one
/// takes as long, 30 s and three times 10 s.
const UNANSWERED_MS: u32 = 60_000;

/// Lets the kernel notice a peer that vanished: it costs this process no wake-up. Without a bound of
/// its own, what is on its way to a peer that is nowhere would be sent again for a quarter of an hour.
fn keep_alive(stream: &smol::net::TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    use std::time::Duration;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_tcp_user_timeout(stream, UNANSWERED_MS)?;
    Ok(())
}

/// A connection after its hellos.
pub(crate) struct Conn {
    /// Its number in the seat it belongs to.
    pub(crate) id: Id,
    /// Whom it joins.
    pub(crate) ends: Ends,
    /// What the other end said of itself.
    pub(crate) peer: Peer,
    /// Who it was found to be.
    pub(crate) caller: Caller,
    /// What was drawn here for a proof of who it is.
    pub(crate) nonce: Cell<[u8; 16]>,
    /// Who it has proven to be though nobody asked: for HTTP, where that counts.
    pub(crate) proven: RefCell<Option<Caller>>,
    /// Frames on their way out.
    pub(crate) outbox: Outbox,
    /// Byte streams.
    pub(crate) streams: Streams,
    /// The session that pings on it are for, if it is an agent's and registered.
    pub(crate) session: Cell<Session>,
    /// When the newest sign of life came, by our clock.
    pub(crate) heard: Cell<Time>,
    /// Who is at the other end is not let in any more: nothing that it says is heard.
    pub(crate) denied: Cell<bool>,
    /// Nothing more is read from it before this.
    pub(crate) not_before: Cell<Time>,
}

impl Conn {
    pub(crate) fn new(id: Id, ends: Ends, peer: Peer, caller: Caller, outbox: Outbox) -> Rc<Self> {
        Rc::new(Self {
            id,
            ends,
            peer,
            caller,
            nonce: Cell::default(),
            proven: RefCell::default(),
            outbox,
            streams: Streams::default(),
            session: Cell::default(),
            heard: Cell::new(clock::now()),
            denied: Cell::default(),
            not_before: Cell::default(),
        })
    }

    /// Sends a head, already encoded, with the bodies it names.
    pub(crate) fn send(&self, head: &[u8], bodies: &[BodyRef], port: &Port) {
        let store = port.bodies.borrow();
        let bytes = bodies.iter().map(|&body| store.bytes(body)).collect();
        self.outbox.push(Packet::new(head, bodies, bytes));
    }

    /// Sends a head that names no bodies, such as a [`Link`].
    pub(crate) fn say(&self, head: &Head<'_>) {
        self.outbox.push(Packet::of(head));
    }

    /// Says why, and ends the connection when everything before was sent.
    pub(crate) fn part(&self, reason: Parting, message: &str) {
        self.say(&Head::Link(Link::Bye { reason, message }));
        self.outbox.close();
    }
}
