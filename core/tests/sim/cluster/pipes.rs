//! The bytes of a connection, cut wherever chance cuts them, and the daemon's own machines that put
//! frames together of them.

use super::*;
use crate::machines::assembly::{Assembly, Whole};
use crate::machines::recordio::{Pieces, framed};
use crate::machines::waiting::Weighs;
use mesita_core::digest::of_body;
use mesita_core::wire::frame::{BodyRow, Limits, overhead, seal};
use mesita_core::wire::link::Link as Word;

/// What every body here is.
const BODY: &[u8] = b"whole";
/// The largest record of a stream of records.
const RECORD_MAX: usize = 1 << 20;
/// The number of links among heads: what is none need not be read to be told from one.
const LINK: u8 = 1;
const LIMITS: Limits = Limits { frame_max: 1 << 20, head_max: 8_192 };
/// The session that pings here are for.
const NO_SESSION: Session = Session { incarnation: 0, counter: 0 };

/// A body whose bytes are known.
pub(super) fn a_body() -> BodyRef {
    BodyRef { slot: 9, len: BODY.len() as u32, hash: of_body(BODY) }
}

/// What goes over a connection.
#[derive(Clone, Debug)]
pub(super) enum Cargo {
    Head(Vec<u8>, Vec<BodyRef>),
    /// When it was said, by the clock of whoever dialled.
    Ping(Time),
    Pong(Time),
    /// Nothing more comes.
    Gone,
}

impl Weighs for Cargo {
    fn bytes(&self) -> usize {
        match self {
            Self::Head(head, bodies) => {
                overhead(bodies.len()) + head.len() + BODY.len() * bodies.len()
            }
            Self::Ping(_) | Self::Pong(_) => overhead(0) + 8,
            Self::Gone => 0,
        }
    }
}

/// One direction of a connection, on its last yards.
pub(super) struct Pipe {
    /// Bytes that arrived and were not read.
    bytes: VecDeque<u8>,
    assembly: Assembly,
    bodies: Vec<BodyRef>,
    /// Frames come as the records of a stream, as over HTTP.
    records: Option<Pieces>,
    ended: bool,
}

impl Pipe {
    pub(super) fn new(of_records: bool) -> Self {
        Self {
            bytes: VecDeque::new(),
            assembly: Assembly::new(LIMITS),
            bodies: vec![],
            records: of_records.then(|| Pieces::new(RECORD_MAX)),
            ended: false,
        }
    }

    /// Something arrives behind everything else.
    pub(super) fn put(&mut self, cargo: &Cargo) {
        let bytes = match cargo {
            Cargo::Head(head, bodies) => sealed(head, bodies),
            Cargo::Ping(Time(stamp)) => word(Word::Ping { stamp: *stamp, session: NO_SESSION }),
            Cargo::Pong(Time(stamp)) => word(Word::Pong { stamp: *stamp, session: NO_SESSION }),
            Cargo::Gone => return self.ended = true,
        };
        if self.records.is_some() {
            self.bytes.extend(framed(&bytes));
        } else {
            self.bytes.extend(bytes);
        }
    }

    /// Bytes that can be read.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The other end has ended it, and everything before was read.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.bytes.is_empty()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Reads one piece of so many bytes; what is whole with it.
    pub(super) fn read(&mut self, bytes: usize, whole: &mut Vec<Cargo>) {
        let piece: Vec<u8> = self.bytes.drain(..bytes).collect();
        let Some(records) = &mut self.records else { return self.frames(&piece, whole) };
        let records = records.take(&piece).expect("a stream of records is one");
        records.iter().for_each(|record| self.frames(record, whole));
    }

    fn frames(&mut self, mut piece: &[u8], all: &mut Vec<Cargo>) {
        while !piece.is_empty() {
            let room = self.assembly.room();
            let (now, later) = piece.split_at(room.len().min(piece.len()));
            room[..now.len()].copy_from_slice(now);
            piece = later;
            self.assembly.came(now.len());
            while let Some(whole) = self.assembly.take().expect("frames are what was sent") {
                match whole {
                    Whole::Envelope(_) => self.bodies.clear(),
                    Whole::Body(bytes, hash) => {
                        self.bodies.push(BodyRef { slot: 9, len: bytes.len() as u32, hash });
                    }
                    Whole::Frame => {
                        all.push(cargo(self.assembly.head(), std::mem::take(&mut self.bodies)));
                    }
                }
            }
        }
    }
}

fn cargo(head: &[u8], bodies: Vec<BodyRef>) -> Cargo {
    match (head[0] == LINK).then(|| decode(head).unwrap()) {
        Some(Head::Link(Word::Ping { stamp, .. })) => Cargo::Ping(Time(stamp)),
        Some(Head::Link(Word::Pong { stamp, .. })) => Cargo::Pong(Time(stamp)),
        _ => Cargo::Head(head.to_vec(), bodies),
    }
}

fn word(word: Word<'_>) -> Vec<u8> {
    sealed(&bytes_of(&Head::Link(word)), &[])
}

fn sealed(head: &[u8], bodies: &[BodyRef]) -> Vec<u8> {
    let rows = bodies.iter().map(|body| BodyRow { len: body.len, hash: body.hash });
    let mut bytes = vec![0; overhead(bodies.len()) + head.len()];
    seal(head, rows, &mut bytes).unwrap();
    bodies.iter().for_each(|_| bytes.extend_from_slice(BODY));
    bytes
}
