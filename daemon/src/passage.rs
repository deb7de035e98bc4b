//! What goes between the IO thread and the core thread: records in two rings, and two bells.
//!
//! | direction | record |
//! |---|---|
//! | IO → core | seat, [`IN_INPUT`] or [`IN_TOLD`], the input |
//! | IO → core | seat, [`IN_GAUGES`] |
//! | IO → core | any seat, [`IN_STOP`] |
//! | IO → core | seat, [`IN_ASK`], the number of the first row and a question |
//! | core → IO | seat, [`OUT_OUTPUT`], count u16, so many body references, the output |
//! | core → IO | seat, [`OUT_DONE`], 0 or the refusal's number + 1 |
//! | core → IO | seat, [`OUT_GAUGES`], (length u8, name, value u64)... |
//! | core → IO | seat, [`OUT_ANSWER`], where the answer goes on or why there is none, then rows |
//! | core → IO | seat of an election, [`OUT_LEASE`], until when this master leads, in µs u64 |
//! | core → IO | 0, [`OUT_STOPPED`] |
//!
//! The same on the ring of the disk thread, but for gauges, questions and the end.

use std::cell::RefCell;

use event_listener::Event;
use mesita_core::Refusal;
use mesita_core::limits::{BODIES_PER_FRAME_MAX, HEAD_MAX};
use mesita_core::sync::{Consumer, Producer};
use mesita_core::time::Time;
use mesita_core::wire::BodyRef;

use crate::bell::Bell;
use crate::machines::passing::Backlog;

/// An input.
pub(crate) const IN_INPUT: u8 = 0;
/// An input whose end is to be told.
pub(crate) const IN_TOLD: u8 = 1;
/// The gauges of a seat are wanted.
pub(crate) const IN_GAUGES: u8 = 2;
/// The core thread is to end.
pub(crate) const IN_STOP: u8 = 3;
/// A question about a seat's decisions, which changes nothing.
pub(crate) const IN_ASK: u8 = 4;

/// An output.
pub(crate) const OUT_OUTPUT: u8 = 0;
/// An input was applied, or refused.
pub(crate) const OUT_DONE: u8 = 1;
/// Gauges.
pub(crate) const OUT_GAUGES: u8 = 2;
/// The core thread ended.
pub(crate) const OUT_STOPPED: u8 = 3;
/// A part of the answer to a question.
pub(crate) const OUT_ANSWER: u8 = 4;
/// Until when this process may speak as the leader of its set.
pub(crate) const OUT_LEASE: u8 = 5;

/// Bytes of the largest record in either direction: a head and what stands around it.
pub(crate) const RECORD_MAX: usize = 2 * HEAD_MAX + BODIES_PER_FRAME_MAX * BODY_REF + 1024;
/// Bytes of the ring from IO to core, and from disk to core.
pub(crate) const IN_RING: usize = 4 * HEAD_MAX;
/// Bytes of the ring from core to IO: the outputs of one step, and room to go on meanwhile.
pub(crate) const OUT_RING: usize = 2 * mesita_core::drive::OUTPUT_MAX;
/// Bytes of a body reference in a record.
pub(crate) const BODY_REF: usize = 16;

/// A body reference as it stands in a record.
pub(crate) fn to_bytes(body: BodyRef) -> [u8; BODY_REF] {
    let mut bytes = [0; BODY_REF];
    bytes[..4].copy_from_slice(&body.slot.to_le_bytes());
    bytes[4..8].copy_from_slice(&body.len.to_le_bytes());
    bytes[8..].copy_from_slice(&body.hash.to_le_bytes());
    bytes
}

/// What [`to_bytes`] wrote.
fn from_bytes(bytes: &[u8; BODY_REF]) -> BodyRef {
    let [a, b, c, d, e, f, g, h, hash @ ..] = *bytes;
    BodyRef {
        slot: u32::from_le_bytes([a, b, c, d]),
        len: u32::from_le_bytes([e, f, g, h]),
        hash: u64::from_le_bytes(hash),
    }
}

/// A record from the core, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromCore<'a> {
    /// An output, and the bodies that it names.
    Output(Vec<BodyRef>, &'a [u8]),
    /// The next input that was to be told of is done.
    Done(Result<(), Refusal>),
    /// Gauges, to be read by [`gauges`].
    Gauges(&'a [u8]),
    /// The answer to the oldest question.
    Answer(&'a [u8]),
    /// Until when this process leads.
    Lease(Time),
    /// The last record.
    Stopped,
}

impl<'a> FromCore<'a> {
    /// The seat it is from, and what it is. None if it is none of ours.
    pub(crate) fn parse(record: &'a [u8]) -> Option<(u8, Self)> {
        let (&[seat, kind], rest) = record.split_first_chunk()?;
        let record = match kind {
            OUT_OUTPUT => {
                let (count, rest) = rest.split_first_chunk()?;
                let count = usize::from(u16::from_le_bytes(*count));
                let (bodies, output) = rest.split_at_checked(count * BODY_REF)?;
                let bodies = bodies.as_chunks().0.iter().map(from_bytes).collect();
                Self::Output(bodies, output)
            }
            OUT_DONE => Self::Done(match rest.first()?.checked_sub(1) {
                None => Ok(()),
                Some(number) => Err(postcard::from_bytes(&[number]).ok()?),
            }),
            OUT_GAUGES => Self::Gauges(rest),
            OUT_ANSWER => Self::Answer(rest),
            OUT_LEASE => Self::Lease(Time(u64::from_le_bytes(rest.try_into().ok()?))),
            OUT_STOPPED => Self::Stopped,
            _ => return None,
        };
        Some((seat, record))
    }
}

/// The names and values of a gauges record.
pub(crate) fn gauges(mut record: &[u8]) -> impl Iterator<Item = (&str, u64)> {
    std::iter::from_fn(move || {
        let (&len, rest) = record.split_first()?;
        let (name, rest) = rest.split_at_checked(len.into())?;
        let (value, rest) = rest.split_first_chunk()?;
        record = rest;
        Some((std::str::from_utf8(name).ok()?, u64::from_le_bytes(*value)))
    })
}

/// The IO thread's end of the ring to the core.
///
/// What does not fit now waits here, in order; who can wait calls [`ToCore::room`] before, so
/// little does.
pub(crate) struct ToCore {
    backlog: RefCell<Backlog<'static>>,
    bell: &'static Bell,
    room: Event,
}

impl ToCore {
    pub(crate) fn new(producer: Producer<'static>, bell: &'static Bell) -> Self {
        Self { backlog: RefCell::new(Backlog::new(producer)), bell, room: Event::new() }
    }

    /// Passes a record on, now or as soon as there is room.
    pub(crate) fn push(&self, seat: u8, kind: u8, input: &[u8]) {
        self.backlog.borrow_mut().push(&[&[seat, kind], input]);
        self.bell.ring();
    }

    /// Passes on what waited. Called whenever the core thread may have read.
    pub(crate) fn flush(&self) {
        let mut backlog = self.backlog.borrow_mut();
        if backlog.flush() {
            self.bell.ring();
            if backlog.is_empty() {
                self.room.notify(usize::MAX);
            }
        }
    }

    /// True when something waits and the ring has room for it.
    pub(crate) fn can_flush(&self) -> bool {
        self.backlog.borrow_mut().can_flush()
    }

    /// Waits until nothing waits: then a record is passed on at once, or nearly.
    pub(crate) async fn room(&self) {
        while !self.backlog.borrow().is_empty() {
            let listener = self.room.listen();
            if self.backlog.borrow().is_empty() {
                return;
            }
            listener.await;
        }
    }

    /// Bytes that wait beside the ring.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.backlog.borrow().bytes()
    }

    /// The core thread may have room to go on.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }
}

/// The IO thread's end of the ring from the core.
pub(crate) struct OfCore {
    pub(crate) consumer: RefCell<Consumer<'static>>,
    pub(crate) buffer: RefCell<Box<[u8]>>,
}

impl OfCore {
    pub(crate) fn new(consumer: Consumer<'static>) -> Self {
        let buffer = bytemuck::allocation::zeroed_slice_box(RECORD_MAX);
        Self { consumer: RefCell::new(consumer), buffer: RefCell::new(buffer) }
    }

    /// True when no record waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.consumer.borrow_mut().is_empty()
    }
}
