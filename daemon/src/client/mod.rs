//! The IO side of a framework's driver: a connection to the leader, and an application.

pub(crate) mod asker;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use event_listener::Event as Told;
use mesita_core::drive::SEND;
use mesita_core::scheduler::{Input, Output};
use mesita_core::table::Id;
use mesita_core::wire::call::Verb;
use mesita_core::wire::event::Event;
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::{Link, Parting};
use mesita_core::wire::svc::{CloseReason, Stream};
use mesita_core::wire::{Body, BodyRef, FrameworkId, Head};

use crate::access::Credential;
use crate::bodies::Bodies;
use crate::conn::dial::Way;
use crate::conn::hello::{self, Own, Refused};
use crate::conn::learned::Learned;
use crate::conn::outbox::Outbox;
use crate::conn::streams::{Handle, Streams, refuse};
use crate::conn::talk::{Ending, Talk, talk};
use crate::conn::{Conn, Pipe};
use crate::doors::Caller;
use crate::io_thread::Node;
use crate::machines::waiting::Level;
use crate::port::{Port, with_refs};
use crate::{alarm, random};

/// How long a master may take to say hello, in µs.
const PATIENCE_US: u64 = 10_000_000;
/// The longest first pause before a master is tried again, in µs; it is doubled up to 8 times that.
const PAUSE_US: u64 = 125_000;
/// Redirections that are followed in a row.
pub(crate) const REDIRECTS_MAX: u32 = 8;

/// What a framework does with what it is told.
pub(crate) trait App {
    /// An event, with the bodies it names.
    fn event(&self, event: &Event<'_>, bodies: &[BodyRef]);
    /// The framework has an id.
    fn identity(&self, framework: FrameworkId);
    /// The connection is there, or is gone.
    fn connected(&self, connected: Result<(), &Trouble>);
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// In a sentence.
    pub(crate) why: String,
    /// The next attempt will be no better.
    pub(crate) hopeless: bool,
}

/// The IO side of a driver.
pub(crate) struct ClientNode {
    port: Port,
    own: Own,
    stream_bytes_max: usize,
    conn: RefCell<Option<Rc<Conn>>>,
    app: RefCell<Option<Rc<dyn App>>>,
    stopped: Cell<bool>,
    /// Where masters are beside the addresses that it was given.
    learned: Learned,
    told: Told,
}

impl ClientNode {
    /// The IO side of the driver in the seat of `port`, and what it proves who it is by.
    pub(crate) fn new(
        port: Port,
        stream_bytes_max: usize,
        credential: Option<Rc<Credential>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            port,
            own: Own { credential, ..Own::new(Role::Framework) },
            stream_bytes_max,
            conn: RefCell::default(),
            app: RefCell::default(),
            stopped: Cell::default(),
            learned: Learned::default(),
            told: Told::new(),
        })
    }

    /// Whoever is told what happens.
    pub(crate) fn serve(&self, app: Rc<dyn App>) {
        *self.app.borrow_mut() = Some(app);
    }

    /// Asks the driver for something.
    pub(crate) fn put(&self, input: &Input<'_>) {
        self.port.put(input);
    }

    /// What a body of an event says.
    pub(crate) fn bytes(&self, body: Body, bodies: &[BodyRef]) -> Vec<u8> {
        self.port.bodies.borrow().bytes(body.of(bodies)).to_vec()
    }

    /// Asks the master for something, by the driver. `bodies` are those that the verb names.
    pub(crate) fn call(&self, ticket: u32, verb: Verb<'_>, bodies: &[Vec<u8>]) {
        let Some(refs) = self.port.store(bodies) else {
            return log::error!("no room for what is to be sent");
        };
        with_refs(&refs, |bodies| {
            self.port.put_then(&Input::Call { ticket, verb, bodies }, refs.clone(), |result| {
                if let Err(refusal) = result {
                    log::debug!("the driver refuses a call: {refusal}");
                }
            });
        });
    }

    /// Opens a stream to the master; none while there is no connection.
    pub(crate) fn open(&self, kind: Stream<'_>) -> Option<Handle> {
        let conn = self.conn.borrow();
        Streams::open(conn.as_ref()?, kind)
    }

    /// Waits until the driver is done, and what it said last was sent.
    pub(crate) async fn stopped(&self) {
        loop {
            let listener = self.told.listen();
            if self.stopped.get() && self.conn.borrow().is_none() {
                return;
            }
            listener.await;
        }
    }

    fn app(&self) -> Option<Rc<dyn App>> {
        self.app.borrow().clone()
    }

    /// Stays connected to the leader until the driver is done.
    pub(crate) async fn stay_connected(self: Rc<Self>, way: Way) {
        let (mut attempt, mut redirects, mut failures) = (0, 0, 0u32);
        let mut leader = None::<String>;
        if let Way::To(addresses, _) = &way {
            self.learned.given(addresses);
        }
        while !self.stopped.get() {
            let told = leader.take().or_else(|| self.learned.turn(attempt));
            let ended = self.converse(&way, attempt, told.as_deref()).await;
            if self.stopped.get() {
                break;
            }
            match ended {
                Err(Refused::Redirect(address)) if redirects < REDIRECTS_MAX => {
                    redirects += 1;
                    leader = Some(address);
                    continue;
                }
                Err(refused) => {
                    let address = way.shown(attempt, told.as_deref());
                    let trouble = Trouble {
                        why: format!("{address}: {refused}"),
                        hopeless: match &refused {
                            Refused::Bye(reason, _) => is_final(*reason),
                            Refused::Mismatch(_) | Refused::Auth => true,
                            Refused::Broken(_) | Refused::Redirect(_) | Refused::NoHello => false,
                        },
                    };
                    self.app().iter().for_each(|app| app.connected(Err(&trouble)));
                }
                Ok(ending) => {
                    (redirects, failures) = (0, 0);
                    let trouble = Trouble {
                        why: ending.to_string(),
                        hopeless: match &ending {
                            Ending::Bye(reason, _) => is_final(*reason),
                            Ending::Broken(_) | Ending::Redirect(_) | Ending::Parted => false,
                        },
                    };
                    self.app().iter().for_each(|app| app.connected(Err(&trouble)));
                }
            }
            attempt += 1;
            alarm::after(random::below(PAUSE_US << failures.min(3))).await;
            failures = failures.saturating_add(1);
        }
        self.told.notify(usize::MAX);
    }

    /// One connection, to its end.
    async fn converse(
        &self,
        way: &Way,
        attempt: usize,
        leader: Option<&str>,
    ) -> Result<Ending, Refused> {
        let dialled = way.dial(attempt, leader).await;
        let Pipe { reading, mut writing, ends, .. } =
            dialled.map_err(|error| Refused::Broken(crate::conn::frames::Broken::Io(error)))?;
        let greeting = hello::dial(reading, &mut writing, &self.own, &self.port.bodies);
        let greeted = alarm::within(PATIENCE_US, greeting).await.ok_or(Refused::NoHello)?;
        let (frames, peer) = greeted?;
        let outbox = Outbox::new(self.stream_bytes_max, |level| {
            if level == Level::Overrun {
                log::warn!("the master reads too slowly; its connection was cut");
            }
        });
        let caller = Caller::new("", Default::default());
        let conn = Conn::new(Id::default(), ends, peer, caller, outbox);
        *self.conn.borrow_mut() = Some(Rc::clone(&conn));
        self.port.put(&Input::Connected);
        self.app().iter().for_each(|app| app.connected(Ok(())));
        let ending = talk(&conn, frames, writing, self).await;
        *self.conn.borrow_mut() = None;
        self.port.put(&Input::Disconnected);
        if let Ending::Redirect(address) = ending {
            return Err(Refused::Redirect(address));
        }
        Ok(ending)
    }
}

/// True when a peer that parts for this reason will do so again.
const fn is_final(reason: Parting) -> bool {
    match reason {
        Parting::Denied | Parting::Mismatch | Parting::Malformed => true,
        Parting::Leaving
        | Parting::Overloaded
        | Parting::Replaced
        | Parting::Silent
        | Parting::NoLeader => false,
    }
}

impl Node for ClientNode {
    fn port(&self) -> &Port {
        &self.port
    }

    fn output(&self, output: &[u8], bodies: &[BodyRef]) {
        if let Some((&SEND, head)) = output.split_first() {
            if let Some(conn) = &*self.conn.borrow() {
                conn.send(head, bodies, &self.port);
            }
            return;
        }
        let Ok(output) = postcard::from_bytes(output) else {
            mesita_core::stop(line!(), "an output of a driver that cannot be read");
        };
        match output {
            // Sent above.
            Output::Send(_) => {}
            Output::Event(event) => {
                self.app().iter().for_each(|app| app.event(&event, bodies));
            }
            Output::Identity { framework } => {
                self.app().iter().for_each(|app| app.identity(framework));
            }
            Output::Share { .. } => {}
            Output::Stopped => {
                self.stopped.set(true);
                if let Some(conn) = &*self.conn.borrow() {
                    conn.outbox.close();
                }
                self.told.notify(usize::MAX);
            }
        }
    }
}

impl Talk for ClientNode {
    fn bodies(&self) -> &RefCell<Bodies> {
        &self.port.bodies
    }

    fn room(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(self.port.room())
    }

    fn link(&self, conn: &Rc<Conn>, link: Link<'_>) {
        if let Link::Ping { stamp, session } = link {
            conn.say(&Head::Link(Link::Pong { stamp, session }));
        } else if let Link::Masters { addresses } = link {
            self.learned.tell(addresses);
        }
    }

    fn open(&self, conn: &Rc<Conn>, stream: u32, _kind: Stream<'_>, _window: u32) {
        let message = "a framework serves no streams";
        refuse(conn, stream, CloseReason::Unsupported, message);
    }

    fn head(
        &self,
        _conn: &Rc<Conn>,
        head: &Head<'_>,
        bytes: &[u8],
        bodies: Vec<BodyRef>,
    ) -> Result<(), &'static str> {
        if !matches!(head, Head::Event(_)) {
            self.port.drop_bodies(&bodies);
            return Err("a message that has no place on this connection");
        }
        with_refs(&bodies, |refs| {
            self.port.put_with(&Input::Frame { head: bytes, bodies: refs }, bodies.clone());
        });
        Ok(())
    }
}
