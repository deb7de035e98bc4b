//! A connection that only reads: rows and output, for people.

use std::cell::RefCell;
use std::rc::Rc;

use mesita_core::Refusal;
use mesita_core::table::Id;
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::Link;
use mesita_core::wire::operator::{OperatorCall, OperatorEvent};
use mesita_core::wire::svc::{CloseReason, Stream};
use mesita_core::wire::{BodyRef, Head};

use super::{PATIENCE_US, REDIRECTS_MAX};
use crate::access::Credential;
use crate::alarm;
use crate::bodies::Bodies;
use crate::conn::frames::{Broken, Frames};
use crate::conn::hello::{self, Own, Refused};
use crate::conn::outbox::Outbox;
use crate::conn::streams::{Handle, Streams, refuse};
use crate::conn::talk::{Ending, Talk, talk};
use crate::conn::{Conn, Pipe, Writing, dial};
use crate::doors::Caller;
use crate::tls::Transport;

/// Bytes that may wait for the master.
const STREAM_BYTES: usize = 1 << 20;

/// A connection to the leader, for streams.
pub(crate) struct Asker {
    conn: Rc<Conn>,
    side: Side,
    rest: RefCell<Option<(Frames, Writing)>>,
}

/// Our side of it: it takes no bodies, and serves nothing.
struct Side {
    bodies: RefCell<Bodies>,
    /// What came of calls, in order.
    replies: (async_channel::Sender<Reply>, async_channel::Receiver<Reply>),
}

/// Done, or why not.
type Reply = Result<(), (Refusal, String)>;

impl Asker {
    /// Connects to the leader, by way of whoever is at one of these addresses.
    pub(crate) async fn connect(
        addresses: &[String],
        over: &Transport,
        credential: Option<Rc<Credential>>,
    ) -> Result<Self, Refused> {
        Self::connect_as(&Own { credential, ..Own::new(Role::Client) }, addresses, over).await
    }

    /// The same, for who is no client.
    pub(crate) async fn connect_as(
        own: &Own,
        addresses: &[String],
        over: &Transport,
    ) -> Result<Self, Refused> {
        let mut last = Refused::NoHello;
        for address in addresses {
            let mut address = address.clone();
            for _ in 0..REDIRECTS_MAX {
                match Self::connect_to(&address, over, own).await {
                    Ok(asker) => return Ok(asker),
                    Err(Refused::Redirect(leader)) => address = leader,
                    Err(refused) => {
                        last = refused;
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    async fn connect_to(address: &str, over: &Transport, own: &Own) -> Result<Self, Refused> {
        let dialled = dial::connect(address, over).await;
        let pipe = dialled.map_err(|error| Refused::Broken(Broken::Io(error)))?;
        let Pipe { reading, mut writing, ends, .. } = pipe;
        let bodies = RefCell::new(Bodies::new(0));
        let side = Side { bodies, replies: async_channel::bounded(1) };
        let greeting = hello::dial(reading, &mut writing, own, &side.bodies);
        let greeted = alarm::within(PATIENCE_US, greeting).await.ok_or(Refused::NoHello)?;
        let (frames, peer) = greeted?;
        let caller = Caller::new("", Default::default());
        let conn = Conn::new(Id::default(), ends, peer, caller, Outbox::new(STREAM_BYTES, |_| {}));
        Ok(Self { conn, side, rest: RefCell::new(Some((frames, writing))) })
    }

    /// Opens a stream.
    pub(crate) fn open(&self, kind: Stream<'_>) -> Option<Handle> {
        Streams::open(&self.conn, kind)
    }

    /// The protocol that was agreed on.
    pub(crate) fn version(&self) -> u16 {
        self.conn.peer.version
    }

    /// Makes a call that has a ticket, and waits for what comes of it: one at a time.
    pub(crate) async fn call(&self, call: OperatorCall<'_>) -> Reply {
        self.conn.say(&Head::OperatorCall(call));
        let (_, replies) = &self.side.replies;
        let none = || Err((Refusal::OutcomeUnknown, "no reply came".to_owned()));
        replies.recv().await.unwrap_or_else(|_| none())
    }

    /// Keeps the connection going while `ask` asks; what comes of it, or why the connection ended
    /// before.
    pub(crate) async fn during<T>(&self, ask: impl Future<Output = T>) -> Result<T, Ending> {
        let rest = self.rest.borrow_mut().take();
        let talking = async {
            match rest {
                Some((frames, writing)) => Err(talk(&self.conn, frames, writing, &self.side).await),
                None => std::future::pending().await,
            }
        };
        futures_lite::future::or(async { Ok(ask.await) }, talking).await
    }
}

impl Talk for Side {
    fn bodies(&self) -> &RefCell<Bodies> {
        &self.bodies
    }

    fn link(&self, conn: &Rc<Conn>, link: Link<'_>) {
        if let Link::Ping { stamp, session } = link {
            conn.say(&Head::Link(Link::Pong { stamp, session }));
        }
    }

    fn open(&self, conn: &Rc<Conn>, stream: u32, _kind: Stream<'_>, _window: u32) {
        refuse(conn, stream, CloseReason::Unsupported, "a client serves no streams");
    }

    fn head(
        &self,
        _conn: &Rc<Conn>,
        head: &Head<'_>,
        _bytes: &[u8],
        _bodies: Vec<BodyRef>,
    ) -> Result<(), &'static str> {
        let &Head::OperatorEvent(OperatorEvent::Reply { result, message, .. }) = head else {
            return Err("a message that has no place on this connection");
        };
        let (sender, _) = &self.replies;
        let reply = result.map_err(|refusal| (refusal, message.to_owned()));
        sender.try_send(reply).map_err(|_| "a reply that nobody waits for")
    }
}
