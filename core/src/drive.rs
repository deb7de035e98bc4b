//! The only caller of every front's `step`: bytes in, bytes out, counted and digested.
//!
//! A front decides; this file does what is the same for all of them. It writes each output once,
//! takes it into the running digest and hands it on, counts refusals by their kind, and says when
//! the front wants to be stepped again. Two runs of the same inputs have the same digest after
//! every step, on every target: that is what a journal is checked by.

use crate::Refusal;
use crate::digest::{Digest, of_image};
use crate::image::Image;
use crate::table::Id;
use crate::time::Time;
use crate::wire::{BodyRef, encode};

/// A state machine that [`Drive`] steps.
pub trait Front: Image {
    /// Its inputs come after the wall clock, as [`stamped`] puts them.
    const STAMPED: bool = false;

    /// Reads one input and applies it.
    fn apply(&mut self, now: Time, input: &[u8], out: &mut Encoder<'_>) -> Result<(), Refusal>;

    /// When the front wants its `Tick`.
    fn next_deadline(&self) -> Time;

    /// The bytes of a `Tick`, without a stamp.
    fn tick() -> &'static [u8]
    where
        Self: Sized;
}

/// Bytes that a stamp takes at the most.
pub const STAMP: usize = 10;

/// An input behind the wall clock, in µs of Unix time: what [`Front::STAMPED`] fronts take.
/// [`Full`](crate::table::Full) when `into` is smaller than both.
pub fn stamped<'b>(
    wall_us: u64,
    input: &[u8],
    into: &'b mut [u8],
) -> Result<&'b [u8], crate::table::Full> {
    let full = crate::table::Full;
    let stamp = encode(&wall_us, into)?.len();
    let end = stamp.checked_add(input.len()).ok_or(full)?;
    for (to, from) in into.get_mut(stamp..end).ok_or(full)?.iter_mut().zip(input) {
        *to = *from;
    }
    into.get(..end).ok_or(full)
}

/// The connection and the head of a master's or an agent's output that is to be sent; none if the
/// output is another one. O(1): the head is the last field, so it needs no decoding.
pub fn sent(output: &[u8]) -> Option<(Id, &[u8])> {
    let (variant, rest) = output.split_first()?;
    let to = postcard::take_from_bytes(rest).ok();
    to.filter(|_| *variant == SEND)
}

/// The number of `Output::Send` among the outputs of a master, an agent and a driver.
pub const SEND: u8 = 0;

/// Takes what leaves a front, in order.
pub trait Sink {
    /// Takes the bytes of one output with the bodies it names. There is room: see [`OUTPUT_MAX`].
    fn put(&mut self, output: &[u8], bodies: &[BodyRef]);
}

/// Writes outputs, digests them and passes them on.
pub struct Encoder<'e> {
    buffer: &'e mut [u8],
    digest: &'e mut Digest,
    sink: &'e mut dyn Sink,
}

impl Encoder<'_> {
    /// Takes one output; returns the bytes it took.
    pub fn put<T: serde::Serialize>(&mut self, output: &T, bodies: &[BodyRef]) -> usize {
        let Ok(bytes) = encode(output, self.buffer) else {
            crate::stop(line!(), "an output larger than the buffer for one");
        };
        self.digest.bytes(bytes);
        for body in bodies {
            // Where a body lies is the store's affair; what it holds is the decision's.
            self.digest.value(&(body.len, body.hash));
        }
        self.sink.put(bytes, bodies);
        let refs = bodies.len().saturating_mul(size_of::<BodyRef>());
        bytes.len().saturating_add(refs)
    }
}

/// How many refusals of each kind there were.
pub type Refusals = [u64; REFUSALS];

/// One more than the highest number of a [`Refusal`]; see the test below.
pub const REFUSALS: usize = 74;

/// A front and what is known of its run.
#[derive(Debug)]
pub struct Drive<'a, F> {
    front: F,
    buffer: &'a mut [u8],
    digest: Digest,
    refusals: Refusals,
    steps: u64,
}

/// Bytes of outputs that one step of a front emits at most. Whoever steps has that much room before.
pub const OUTPUT_MAX: usize = 4 * crate::limits::HEAD_MAX;
/// Bytes of the buffer for one output: the largest head, and what stands before it.
pub const BUFFER: usize = crate::limits::HEAD_MAX + 256;

impl<'a, F: Front> Drive<'a, F> {
    /// A front that was not stepped yet. `buffer` holds one output: [`BUFFER`] bytes, or as many
    /// more than the largest head of a small front.
    pub fn new(front: F, buffer: &'a mut [u8]) -> Self {
        Self { front, buffer, digest: Digest::new(), refusals: [0; REFUSALS], steps: 0 }
    }

    /// Applies one input. Costs what the front says it costs, and a hash of what it says.
    pub fn step(&mut self, now: Time, input: &[u8], sink: &mut dyn Sink) -> Result<(), Refusal> {
        let mut encoder = Encoder { buffer: self.buffer, digest: &mut self.digest, sink };
        let result = self.front.apply(now, input, &mut encoder);
        self.steps = self.steps.saturating_add(1);
        let told = match result {
            Ok(()) => 0u8,
            Err(refusal) => {
                if let Some(count) = self.refusals.get_mut(refusal as usize) {
                    *count = count.saturating_add(1);
                }
                (refusal as u8).saturating_add(1)
            }
        };
        self.digest.bytes(&[told]);
        result
    }

    /// The front, to be asked.
    pub fn front(&self) -> &F {
        &self.front
    }

    /// When `Tick` is due.
    pub fn next_deadline(&self) -> Time {
        self.front.next_deadline()
    }

    /// The digest of everything that left and was refused so far.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// The digest of the whole state. O(state).
    pub fn state_digest(&self) -> u64 {
        of_image(&self.front)
    }

    /// Refusals so far, by number.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Inputs so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Goes on from another run: a journal's segment, after the front was imported.
    pub fn resume(&mut self, steps: u64, digest: u64) {
        self.steps = steps;
        self.digest = Digest::new();
        self.digest.bytes(&digest.to_le_bytes());
    }

    /// The front, to be imported into.
    pub fn front_mut(&mut self) -> &mut F {
        &mut self.front
    }

    /// The front, no more stepped.
    pub fn into_front(self) -> F {
        self.front
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Head, decode};
    use crate::{agent, master, scheduler};

    #[test]
    fn a_tick_is_a_tick_to_every_front() {
        let mut into = [0; 16];
        let tick = master::Master::tick();
        assert_eq!(postcard::from_bytes(tick), Ok(master::Input::Tick));
        assert_eq!(postcard::from_bytes(scheduler::Driver::tick()), Ok(scheduler::Input::Tick));
        let tick = crate::election::Election::tick();
        assert_eq!(postcard::from_bytes(tick), Ok(crate::election::Input::Tick));
        let tick = stamped(7 << 40, agent::Agent::tick(), &mut into).unwrap();
        let expected = agent::Stamped { wall_us: 7 << 40, input: agent::Input::Tick };
        assert_eq!(postcard::from_bytes(tick), Ok(expected));
    }

    #[test]
    fn a_stamp_that_does_not_fit_is_refused() {
        assert_eq!(stamped(300, &[1, 2], &mut [0; 3]), Err(crate::table::Full));
        assert_eq!(stamped(300, &[1, 2], &mut [0; 4]).map(<[u8]>::len), Ok(4));
    }

    #[test]
    fn what_is_sent_is_found_in_the_output() {
        let conn = Id { index: 300, generation: 70_000 };
        let head = Head::Event(crate::wire::event::Event::Error { message: "no" });
        let mut buffers = [[0; 64]; 3];
        let [one, two, three] = &mut buffers;
        for output in [
            encode(&master::Output::Send { conn, head }, one).unwrap(),
            encode(&agent::Output::Send { conn, head }, two).unwrap(),
        ] {
            let (to, bytes) = sent(output).unwrap();
            assert_eq!((to, decode(bytes)), (conn, Ok(head)));
        }
        let output = encode(&scheduler::Output::Send(head), three).unwrap();
        assert_eq!((output[0], decode(&output[1..])), (SEND, Ok(head)));
        assert_eq!(sent(encode(&agent::Output::Left, one).unwrap()), None);
    }

    #[test]
    fn every_refusal_has_a_counter() {
        let mut bytes = [0];
        let last = (0..=u8::MAX)
            .take_while(|number| {
                bytes[0] = *number;
                postcard::from_bytes::<Refusal>(&bytes).is_ok()
            })
            .last();
        assert!(usize::from(last.unwrap()) < REFUSALS);
    }
}
