//! The core thread: pop an input, stamp it, journal it, step, until there is none; then sleep until
//! a ring or the next deadline. It allocates nothing after its start.

use std::fmt::Write;
use std::thread::JoinHandle;

use mesita_core::Refusal;
use mesita_core::drive::OUTPUT_MAX;
use mesita_core::drive::{STAMP, Sink, stamped};
use mesita_core::limits::BODIES_PER_FRAME_MAX;
use mesita_core::sync::Producer;
use mesita_core::time::Time;
use mesita_core::wire::BodyRef;

use crate::bell::Bell;
use crate::clock;
use crate::journal::tap::Tap;
use crate::machines::passing::{Ends, Side};
use crate::passage::{
    BODY_REF, IN_ASK, IN_GAUGES, IN_INPUT, IN_STOP, IN_TOLD, OUT_ANSWER, OUT_DONE, OUT_GAUGES,
    OUT_LEASE, OUT_OUTPUT, OUT_STOPPED, RECORD_MAX, to_bytes,
};
use crate::seats::{Answer, Seat, refused};
use crate::times;

/// Inputs between two ticks at the most.
const INPUTS_PER_TICK: u32 = 256;
/// Time between two ticks at the most, in µs, while inputs come without a pause.
const TICK_US: u64 = 5_000;
/// Room that a step needs in the ring to IO: its outputs, and the word that it is done.
pub(crate) const ROOM: usize = OUTPUT_MAX + 256;
/// The largest record of gauges.
const GAUGES_MAX: usize = 8 * 1024;

/// Everything the core thread has.
pub(crate) struct Core {
    /// Who is stepped, by number.
    pub(crate) seats: Vec<Box<dyn Seat>>,
    /// Its ends of all rings.
    pub(crate) ends: Ends<'static>,
    /// The core thread's own bell, the IO thread's.
    pub(crate) bell: &'static Bell,
    pub(crate) io_bell: &'static Bell,
    /// What is journaled, if anything.
    pub(crate) tap: Option<Tap>,
    /// Until when this process leads its set, as the IO thread was told last.
    pub(crate) lease: Time,
}

impl Core {
    /// Starts the thread.
    pub(crate) fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("core".to_owned()).spawn(move || self.run())
    }

    /// The loop. Ends when it is told to.
    pub(crate) fn run(mut self) {
        let (parker, unparker) = parking::pair();
        self.bell.answered_by(unparker.into());
        let mut buffer = vec![0; STAMP + RECORD_MAX].into_boxed_slice();
        if let Some(tap) = &mut self.tap {
            tap.begin(&mut self.seats);
        }
        while let Some(worked) = self.work(&mut buffer) {
            // The IO thread may wait for outputs, or for room in the ring that was read.
            if worked {
                self.io_bell.ring();
                continue;
            }
            if self.bell.doze(|| self.ends.has_work()) {
                let due = self.deadline();
                match clock::until(self.ends.sleeps_until(due)) {
                    Some(left) => drop(parker.park_timeout(left)),
                    None => parker.park(),
                }
                self.bell.wake();
            }
        }
        if let Some(tap) = &mut self.tap {
            tap.end(&mut self.seats);
        }
        // There is room: a step begins only when there is far more than this.
        let _ = self.ends.out.push(&[&[0, OUT_STOPPED]]);
        self.io_bell.ring();
    }

    /// One batch of inputs and the ticks that are due. None: the end; true: something was done.
    fn work(&mut self, buffer: &mut [u8]) -> Option<bool> {
        let began = clock::now();
        let mut stepped = 0;
        while stepped < INPUTS_PER_TICK {
            let Some((side, len)) = self.ends.next(&mut buffer[STAMP..]) else { break };
            if !self.record(buffer, len, side) {
                return None;
            }
            stepped += 1;
            if stepped % 16 == 0 && clock::now().since(began) >= TICK_US {
                break;
            }
        }
        let ticked = self.tick_all(buffer);
        if let Some(tap) = &mut self.tap {
            tap.go_on(&mut self.seats);
        }
        Some(stepped > 0 || ticked)
    }

    /// Does what one record says; false at the end.
    fn record(&mut self, buffer: &mut [u8], len: usize, side: Side) -> bool {
        let [seat, kind] = [buffer[STAMP], buffer[STAMP + 1]];
        let sent_so = side == Side::Io || kind == IN_INPUT;
        debug_assert!(sent_so, "the disk thread only sends inputs");
        match kind {
            IN_INPUT | IN_TOLD => {
                let result = self.step(seat, buffer, STAMP + 2, STAMP + len);
                if kind == IN_TOLD {
                    let told = result.map_or_else(|refusal| refusal as u8 + 1, |()| 0);
                    self.push(&[&[seat, OUT_DONE, told]]);
                }
            }
            IN_GAUGES => self.tell_gauges(seat),
            IN_ASK => self.answer(seat, &buffer[STAMP + 2..STAMP + len]),
            IN_STOP => return false,
            kind => mesita_core::stop(u32::from(kind), "a record of a kind that does not exist"),
        }
        true
    }

    /// Steps a seat with the input that stands in the buffer.
    fn step(
        &mut self,
        number: u8,
        buffer: &mut [u8],
        mut from: usize,
        to: usize,
    ) -> Result<(), Refusal> {
        let Some(seat) = self.seats.get_mut(usize::from(number)) else {
            mesita_core::stop(line!(), "an input for a seat that does not exist");
        };
        let now = clock::now();
        if seat.is_stamped() {
            let mut stamp = [0; STAMP];
            let len = stamped(clock::wall_us(), &[], &mut stamp).map_or(0, <[u8]>::len);
            from -= len;
            buffer[from..from + len].copy_from_slice(&stamp[..len]);
        }
        let input = &buffer[from..to];
        if let Some(tap) = &mut self.tap {
            tap.step(number, &**seat, now, input);
        }
        let mut outputs = Outputs { seat: number, to_io: &mut self.ends.out };
        let stepped = seat.step(now, input, &mut outputs);
        if let Some(until) = seat.lease(now).filter(|until| *until != self.lease) {
            self.lease = until;
            self.push(&[&[number, OUT_LEASE], &until.0.to_le_bytes()]);
        }
        stepped
    }

    /// Ticks every seat whose deadline has come. True if there was one.
    fn tick_all(&mut self, buffer: &mut [u8]) -> bool {
        let mut ticked = false;
        for number in 0..self.seats.len() {
            let Some(seat) = self.seats.get(number) else { break };
            let due = seat.next_deadline();
            if due > clock::now() || !self.ends.has_room() {
                continue;
            }
            let tick = seat.tick();
            let end = STAMP + tick.len();
            buffer[STAMP..end].copy_from_slice(tick);
            let number = u8::try_from(number).unwrap_or(u8::MAX);
            let (began, allocates) = (clock::now(), seat.allocates());
            // A tick is not refused; if it were, the counter of refusals would tell.
            let _ = self.step(number, buffer, STAMP, end);
            if allocates {
                times::ALLOCATIONS.took(clock::now().since(began));
                times::LATENCIES.took(began.since(due));
            }
            ticked = true;
        }
        ticked
    }

    /// When the next tick is due.
    fn deadline(&self) -> Time {
        self.seats.iter().map(|seat| seat.next_deadline()).min().unwrap_or(Time::NEVER)
    }

    /// Answers a question. It is no input, and in no journal.
    fn answer(&mut self, number: u8, question: &[u8]) {
        let mut answer = Answer::new();
        if let Some(seat) = self.seats.get_mut(usize::from(number)) {
            seat.ask(clock::now(), question, &mut answer);
        }
        self.push(&[&[number, OUT_ANSWER], &answer]);
    }

    fn tell_gauges(&mut self, number: u8) {
        let mut record = heapless::Vec::<u8, GAUGES_MAX>::new();
        let mut tell = |name: &str, value: u64| {
            let Ok(len) = u8::try_from(name.len()) else { return };
            let parts = [&[len][..], name.as_bytes(), &value.to_le_bytes()];
            if record.capacity() - record.len() >= parts.iter().map(|part| part.len()).sum() {
                // There is room for all three.
                parts.iter().for_each(|part| drop(record.extend_from_slice(part)));
            }
        };
        if let Some(seat) = self.seats.get(usize::from(number)) {
            tell("steps_total", seat.steps());
            seat.gauges(&mut tell);
            for (refusal, count) in refused(seat.refusals()) {
                let mut name = heapless::String::<64>::new();
                // Its name as it is in the code; all are shorter than that.
                let _ = write!(name, "{refusal:?}");
                tell(&name, count);
            }
        }
        if let Some(tap) = &self.tap {
            tell("journal_lost_total", tap.lost());
        }
        self.push(&[&[number, OUT_GAUGES], &record]);
    }

    fn push(&mut self, parts: &[&[u8]]) {
        if self.ends.out.push(parts).is_err() {
            mesita_core::stop(line!(), "no room in the ring to IO that was looked for before");
        }
    }
}

/// Passes a step's outputs to the IO thread.
struct Outputs<'c> {
    seat: u8,
    to_io: &'c mut Producer<'static>,
}

impl Sink for Outputs<'_> {
    fn put(&mut self, output: &[u8], bodies: &[BodyRef]) {
        let mut refs = [0; BODIES_PER_FRAME_MAX * BODY_REF];
        let bytes = bodies.iter().zip(refs.as_chunks_mut::<BODY_REF>().0);
        bytes.for_each(|(body, into)| *into = to_bytes(*body));
        let refs = &refs[..bodies.len() * BODY_REF];
        let count = u16::try_from(bodies.len()).unwrap_or(0).to_le_bytes();
        if self.to_io.push(&[&[self.seat, OUT_OUTPUT], &count, refs, output]).is_err() {
            mesita_core::stop(line!(), "a step put out more than its bound");
        }
    }
}
