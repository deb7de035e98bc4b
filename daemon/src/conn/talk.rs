//! A connection from its hellos to its end: frames in, frames out, until either end has enough.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use mesita_core::wire::link::{Link, Parting};
use mesita_core::wire::svc::{CloseReason, Stream, Svc};
use mesita_core::wire::{BodyRef, Head, decode};

use super::frames::{Broken, Frames};
use super::streams::{Violation, refuse};
use super::{Conn, Writing, outbox};
use crate::alarm;
use crate::bodies::Bodies;

/// How long a peer may take to read why it is parted from, in µs.
pub(crate) const LAST_WORDS_US: u64 = 1_000_000;

/// Whoever is on our side of a connection.
pub(crate) trait Talk {
    /// Where bodies go.
    fn bodies(&self) -> &RefCell<Bodies>;
    /// Waits until the core can take another input; at once where there is none.
    fn room(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(std::future::ready(()))
    }
    /// A word about the connection; a goodbye is handled elsewhere.
    fn link(&self, conn: &Rc<Conn>, link: Link<'_>);
    /// The peer wants a stream; its number is free.
    fn open(&self, conn: &Rc<Conn>, stream: u32, kind: Stream<'_>, window: u32);
    /// A head for the core, decoded and as it came. An error: it has no place on this connection.
    fn head(
        &self,
        conn: &Rc<Conn>,
        head: &Head<'_>,
        bytes: &[u8],
        bodies: Vec<BodyRef>,
    ) -> Result<(), &'static str>;
}

/// Why a conversation is over.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The connection broke.
    Broken(Broken),
    /// The peer said goodbye.
    Bye(Parting, String),
    /// The peer named another address for the leader.
    Redirect(String),
    /// We ended it.
    Parted,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(broken) => broken.fmt(f),
            Self::Bye(_, message) if message.is_empty() => f.write_str("the peer ended it"),
            Self::Bye(_, message) => write!(f, "the peer ended it: {message}"),
            Self::Redirect(address) => write!(f, "the leader is at {address}"),
            Self::Parted => f.write_str("ended here"),
        }
    }
}

/// Ends what is left of a connection, also when its conversation is dropped.
struct Rest<'c>(&'c Rc<Conn>);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.outbox.cut();
        self.0.streams.end_all();
    }
}

/// Talks until the end. Whatever is left of streams then is ended, too.
pub(crate) async fn talk(
    conn: &Rc<Conn>,
    mut frames: Frames,
    mut writing: Writing,
    side: &dyn Talk,
) -> Ending {
    let _rest = Rest(conn);
    let reading = async {
        loop {
            match listen(conn, &mut frames, side).await {
                Ok(()) => {}
                Err(Ending::Broken(broken @ (Broken::Closed | Broken::Io(_)))) => {
                    return Ending::Broken(broken);
                }
                Err(Ending::Broken(broken)) => {
                    let reason = match &broken {
                        Broken::BodiesFull(_) => Parting::Overloaded,
                        Broken::Malformed(_) | Broken::Body | Broken::Closed | Broken::Io(_) => {
                            Parting::Malformed
                        }
                    };
                    conn.part(reason, &broken.to_string());
                    alarm::after(LAST_WORDS_US).await;
                    return Ending::Broken(broken);
                }
                Err(Ending::Parted) => {
                    alarm::after(LAST_WORDS_US).await;
                    return Ending::Parted;
                }
                Err(ending) => return ending,
            }
        }
    };
    let writing = async {
        match outbox::write(&conn.outbox, &mut writing).await {
            Ok(()) => Ending::Parted,
            Err(error) => Ending::Broken(error.into()),
        }
    };
    let cut = async {
        conn.outbox.cut_short().await;
        Ending::Parted
    };
    futures_lite::future::or(futures_lite::future::or(reading, writing), cut).await
}

/// Takes in one frame.
async fn listen(conn: &Rc<Conn>, frames: &mut Frames, side: &dyn Talk) -> Result<(), Ending> {
    // Whoever sends faster than the core steps waits here.
    side.room().await;
    alarm::at(conn.not_before.get()).await;
    let store = side.bodies();
    let received = frames.next(store).await.map_err(Ending::Broken)?;
    if conn.denied.get() {
        received.bodies.iter().for_each(|&body| store.borrow_mut().drop(body));
        return Err(Ending::Parted);
    }
    let unused = || received.bodies.iter().for_each(|&body| store.borrow_mut().drop(body));
    let head = match decode(received.head) {
        Ok(head) => head,
        Err(malformed) => {
            unused();
            return Err(Ending::Broken(Broken::Malformed(malformed)));
        }
    };
    match head {
        Head::Link(Link::Bye { reason, message }) => {
            unused();
            Err(Ending::Bye(reason, message.to_owned()))
        }
        Head::Link(Link::Redirect { address, .. }) => {
            unused();
            Err(Ending::Redirect(address.to_owned()))
        }
        Head::Link(
            link @ (Link::Ping { .. }
            | Link::Pong { .. }
            | Link::Masters { .. }
            | Link::Splice { .. }
            | Link::Called { .. }
            | Link::Prove { .. }),
        ) => {
            unused();
            side.link(conn, link);
            Ok(())
        }
        Head::Svc(svc) => {
            unused();
            stream(conn, side, &svc);
            Ok(())
        }
        Head::Hello(_)
        | Head::Call(_)
        | Head::Event(_)
        | Head::AgentCall(_)
        | Head::AgentEvent(_)
        | Head::ExecutorCall(_)
        | Head::ExecutorEvent(_)
        | Head::OperatorCall(_)
        | Head::OperatorEvent(_)
        | Head::Gossip(_) => {
            side.head(conn, &head, received.head, received.bodies).map_err(|message| {
                conn.part(Parting::Malformed, message);
                Ending::Parted
            })
        }
    }
}

fn stream(conn: &Rc<Conn>, side: &dyn Talk, svc: &Svc<'_>) {
    let Svc::Open { stream, kind, window } = *svc else {
        return conn.streams.receive(conn, svc);
    };
    match conn.streams.may_open(stream) {
        Ok(()) => side.open(conn, stream, kind, window),
        Err(Violation(message)) => refuse(conn, stream, CloseReason::Overloaded, message),
    }
}
