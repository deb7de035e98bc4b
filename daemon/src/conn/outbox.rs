//! Frames → bytes, in the order and within the bound of what [waits](crate::machines::waiting).

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use event_listener::Event;
use futures_lite::AsyncWriteExt;
use mesita_core::wire::frame::{BodyRow, overhead, seal};
use mesita_core::wire::{BodyRef, Head};

use super::Writing;
use crate::machines::waiting::{Level, Sort, State, Waiting, Weighs};
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

    /// A frame up to its bodies, and those.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<Arc<[u8]>>) {
        (self.bytes, self.bodies)
    }
}

impl Weighs for Packet {
    fn bytes(&self) -> usize {
        self.bytes.len() + self.bodies.iter().map(|body| body.len()).sum::<usize>()
    }
}

/// Called when the level changes.
type OnLevel = Box<dyn Fn(Level)>;

/// Frames that wait to be written.
pub(crate) struct Outbox {
    waiting: RefCell<Waiting<Packet>>,
    changed: Event,
    on_level: OnLevel,
    /// Nothing is written while it is not held.
    lease: Option<Rc<Standing>>,
}

impl Outbox {
    /// An outbox of at most `max` bytes.
    pub(crate) fn new(max: usize, on_level: impl Fn(Level) + 'static) -> Self {
        Self {
            waiting: RefCell::new(Waiting::new(max)),
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
        self.queue(Sort::Control, packet);
    }

    /// Queues a frame of a stream.
    pub(crate) fn push_data(&self, packet: Packet) {
        self.queue(Sort::Data, packet);
    }

    fn queue(&self, sort: Sort, packet: Packet) {
        let level = self.waiting.borrow_mut().push(sort, packet);
        if let Some(level) = level {
            (self.on_level)(level);
        }
        self.changed.notify(usize::MAX);
    }

    fn weight(&self, packet: &Packet) -> usize {
        self.waiting.borrow().weight(packet)
    }

    /// Ends the connection when everything queued was written.
    pub(crate) fn close(&self) {
        if self.waiting.borrow_mut().close() {
            self.changed.notify(usize::MAX);
        }
    }

    /// Ends the connection now.
    pub(crate) fn cut(&self) {
        self.waiting.borrow_mut().cut();
        self.changed.notify(usize::MAX);
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.borrow().bytes()
    }

    fn state(&self) -> State {
        self.waiting.borrow().state()
    }

    /// Waits until the connection is to be ended now, whatever waits.
    pub(crate) async fn cut_short(&self) {
        loop {
            let listener = self.changed.listen();
            if self.state() == State::Cut {
                return;
            }
            listener.await;
        }
    }

    fn next(&self) -> Option<Packet> {
        self.waiting.borrow_mut().next()
    }

    /// Bytes were handed to the kernel.
    fn written(&self, weight: usize) {
        let level = self.waiting.borrow_mut().read(weight);
        if let Some(level) = level {
            (self.on_level)(level);
        }
        if self.bytes() == 0 {
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
            match outbox.state() {
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
