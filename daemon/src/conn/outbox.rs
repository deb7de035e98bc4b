//! Frames → bytes: control frames first, the data of streams when none of those waits.
//!
//! A reader that does not keep up costs at most [`Outbox`]'s bound: at half of it whoever fills it
//! is told, at all of it the connection is cut. Nothing is dropped from the middle.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use event_listener::Event;
use futures_lite::AsyncWriteExt;
use mesita_core::wire::frame::{BodyRow, overhead, seal};
use mesita_core::wire::{BodyRef, Head};

use super::Writing;
use crate::set::standing::Standing;

/// Bytes that are gathered for one write.
const GATHER: usize = 32 * 1024;

/// A frame that is ready: everything up to its bodies, and those.
#[derive(Debug)]
pub(crate) struct Packet {
    bytes: Vec<u8>,
    bodies: Vec<Arc<[u8]>>,
}

impl Packet {
    /// A head, encoded, with the bodies it names.
    pub(crate) fn new(head: &[u8], refs: &[BodyRef], bodies: Vec<Arc<[u8]>>) -> Self {
        let rows = refs.iter().map(|body| BodyRow { len: body.len, hash: body.hash });
        let mut bytes = vec![0; overhead(refs.len()) + head.len()];
        if seal(head, rows, &mut bytes).is_err() {
            mesita_core::stop(line!(), "a frame beyond the limits of the wire");
        }
        Self { bytes, bodies }
    }

    /// A head that names no bodies.
    pub(crate) fn of(head: &Head<'_>) -> Self {
        // Our own types have no way to fail.
        Self::new(&postcard::to_allocvec(head).unwrap_or_default(), &[], Vec::new())
    }

    fn len(&self) -> usize {
        self.bytes.len() + self.bodies.iter().map(|body| body.len()).sum::<usize>()
    }

    /// A frame up to its bodies, and those.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<Arc<[u8]>>) {
        (self.bytes, self.bodies)
    }
}

/// What a connection's level means to whoever fills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Half full: hold back.
    Congested,
    /// Empty again.
    Drained,
    /// Full: it was cut.
    Overrun,
}

/// Called when the level changes.
type OnLevel = Box<dyn Fn(Level)>;

/// Frames that wait to be written.
pub(crate) struct Outbox {
    control: RefCell<VecDeque<Packet>>,
    data: RefCell<VecDeque<Packet>>,
    bytes: Cell<usize>,
    max: usize,
    state: Cell<State>,
    congested: Cell<bool>,
    changed: Event,
    on_level: OnLevel,
    /// Nothing is written while it is not held.
    lease: Option<Rc<Standing>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// To be ended when all was written.
    Closing,
    /// To be ended now.
    Cut,
}

impl Outbox {
    /// An outbox of at most `max` bytes.
    pub(crate) fn new(max: usize, on_level: impl Fn(Level) + 'static) -> Self {
        Self {
            control: RefCell::default(),
            data: RefCell::default(),
            bytes: Cell::new(0),
            max,
            state: Cell::new(State::Open),
            congested: Cell::new(false),
            changed: Event::new(),
            on_level: Box::new(on_level),
            lease: None,
        }
    }

    /// The same, of a leader: what it says is written while it leads.
    pub(crate) fn under(self, lease: Rc<Standing>) -> Self {
        Self { lease: Some(lease), ..self }
    }

    async fn may_speak(&self) {
        if let Some(standing) = &self.lease {
            standing.lease.held().await;
        }
    }

    /// Queues a frame of the conversation.
    pub(crate) fn push(&self, packet: Packet) {
        self.queue(&self.control, packet);
    }

    /// Queues a frame of a stream.
    pub(crate) fn push_data(&self, packet: Packet) {
        self.queue(&self.data, packet);
    }

    fn queue(&self, queue: &RefCell<VecDeque<Packet>>, packet: Packet) {
        if self.state.get() != State::Open {
            return;
        }
        let bytes = self.bytes.get() + self.weight(&packet);
        if bytes > self.max && self.bytes.get() > 0 {
            self.cut();
            (self.on_level)(Level::Overrun);
            return;
        }
        self.bytes.set(bytes);
        queue.borrow_mut().push_back(packet);
        if bytes > self.max / 2 && !self.congested.replace(true) {
            (self.on_level)(Level::Congested);
        }
        self.changed.notify(usize::MAX);
    }

    /// What a frame counts for: its bytes, but a large one no more than a quarter of the bound. Its
    /// receiver said that it takes it, and little is what waits behind it while it is on its way.
    fn weight(&self, packet: &Packet) -> usize {
        packet.len().min(self.max / 4)
    }

    /// Ends the connection when everything queued was written.
    pub(crate) fn close(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Closing);
            self.changed.notify(usize::MAX);
        }
    }

    /// Ends the connection now.
    pub(crate) fn cut(&self) {
        self.state.set(State::Cut);
        self.control.borrow_mut().clear();
        self.data.borrow_mut().clear();
        self.bytes.set(0);
        self.changed.notify(usize::MAX);
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Waits until the connection is to be ended now, whatever waits.
    pub(crate) async fn cut_short(&self) {
        loop {
            let listener = self.changed.listen();
            if self.state.get() == State::Cut {
                return;
            }
            listener.await;
        }
    }

    fn next(&self) -> Option<Packet> {
        let control = self.control.borrow_mut().pop_front();
        control.or_else(|| self.data.borrow_mut().pop_front())
    }

    /// Bytes were handed to the kernel.
    fn written(&self, bytes: usize) {
        let left = self.bytes.get().saturating_sub(bytes);
        self.bytes.set(left);
        if left == 0 {
            if self.congested.replace(false) {
                (self.on_level)(Level::Drained);
            }
            self.changed.notify(usize::MAX);
        }
    }
}

/// Writes what is queued until the connection ends.
pub(crate) async fn write(outbox: &Outbox, writing: &mut Writing) -> io::Result<()> {
    let mut gathered = Vec::new();
    loop {
        let listener = outbox.changed.listen();
        let Some(packet) = outbox.next() else {
            match outbox.state.get() {
                State::Open => listener.await,
                State::Closing | State::Cut => return writing.close().await,
            }
            continue;
        };
        drop(listener);
        outbox.may_speak().await;
        let mut weight = outbox.weight(&packet);
        gathered.clear();
        let mut next = Some(packet);
        while let Some(packet) = next {
            gathered.extend_from_slice(&packet.bytes);
            for body in &packet.bodies {
                if gathered.len() + body.len() > GATHER {
                    writing.write_all(&gathered).await?;
                    gathered.clear();
                }
                if body.len() > GATHER {
                    writing.write_all(body).await?;
                } else {
                    gathered.extend_from_slice(body);
                }
            }
            next = if gathered.len() < GATHER { outbox.next() } else { None };
            weight += next.as_ref().map_or(0, |next| outbox.weight(next));
        }
        writing.write_all(&gathered).await?;
        writing.flush().await?;
        gathered.clear();
        gathered.shrink_to(1024);
        outbox.written(weight);
    }
}
