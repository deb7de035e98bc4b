//! The core thread's end of the journal. It never waits for the disk: what the ring has no room
//! for is counted, and a [`Entry::Gap`] says so where it is missing.

use mesita_core::image::Writer;
use mesita_core::sync::Producer;
use mesita_core::time::Time;
use mesita_core::wire::encode;

use super::{Entry, IMAGE_CHUNK};
use crate::bell::Bell;
use crate::clock;
use crate::passage::RECORD_MAX;
use crate::seats::{Blueprint, Seat};

/// Where entries go, and how far the segment is.
pub(crate) struct Tap {
    to_disk: Producer<'static>,
    disk_bell: &'static Bell,
    blueprints: Vec<Blueprint>,
    /// Bytes of entries after which a new segment begins.
    segment_max: u64,
    segment: u64,
    buffer: Box<[u8]>,
    /// The seats' states at the segment's begin, as far as they were not passed on: where each
    /// seat's ends, and how much of all went.
    image: Vec<u8>,
    ends: Vec<usize>,
    passed: usize,
    /// Entries lost since the last gap that was told, and in all.
    gap: u64,
    lost: u64,
}

impl Tap {
    /// A tap of seats that were not stepped yet. `image_max`: bytes that their states take.
    pub(crate) fn new(
        to_disk: Producer<'static>,
        disk_bell: &'static Bell,
        blueprints: Vec<Blueprint>,
        segment_max: u64,
        image_max: usize,
    ) -> Self {
        Self {
            to_disk,
            disk_bell,
            ends: Vec::with_capacity(blueprints.len()),
            blueprints,
            segment_max,
            segment: 0,
            buffer: bytemuck::allocation::zeroed_slice_box(RECORD_MAX),
            image: Vec::with_capacity(image_max),
            passed: 0,
            gap: 0,
            lost: 0,
        }
    }

    /// Entries that the disk was too slow for.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Begins a segment. From here on every seat's digest goes on from what it is now.
    pub(crate) fn begin(&mut self, seats: &mut [Box<dyn Seat>]) {
        self.segment = 0;
        let count = u8::try_from(seats.len()).unwrap_or(u8::MAX);
        let software = concat!("mesita ", env!("CARGO_PKG_VERSION"));
        let (now, wall_us) = (clock::now(), clock::wall_us());
        self.put(&Entry::Begin { software, now, wall_us, seats: count });
        self.image.clear();
        self.ends.clear();
        self.passed = 0;
        for (number, seat) in (0..).zip(seats) {
            let (steps, digest) = (seat.steps(), seat.digest());
            seat.resume(steps, digest);
            if let Some(&blueprint) = self.blueprints.get(usize::from(number)) {
                self.put(&Entry::Seat { seat: number, blueprint, steps, digest });
            }
            let image = &mut self.image;
            seat.export(&mut Writer::new(&mut |bytes| image.extend_from_slice(bytes)));
            self.ends.push(self.image.len());
        }
    }

    /// An input is about to be applied.
    pub(crate) fn step(&mut self, number: u8, seat: &dyn Seat, now: Time, input: &[u8]) {
        self.put(&Entry::Step { seat: number, now, digest: seat.digest(), input });
    }

    /// Between batches: more of the image, and a new segment when this one is full.
    pub(crate) fn go_on(&mut self, seats: &mut [Box<dyn Seat>]) {
        while self.to_disk.can_take(2 * IMAGE_CHUNK) && self.pass_image() {}
        if self.segment >= self.segment_max && self.passed == self.image.len() {
            self.seal(seats);
            self.begin(seats);
        }
        self.disk_bell.ring();
    }

    /// The last entries.
    pub(crate) fn end(&mut self, seats: &mut [Box<dyn Seat>]) {
        self.seal(seats);
        self.disk_bell.ring();
    }

    fn seal(&mut self, seats: &mut [Box<dyn Seat>]) {
        for (number, seat) in (0..).zip(seats) {
            let (steps, digest, state) = (seat.steps(), seat.digest(), seat.state_digest());
            self.put(&Entry::Seal { seat: number, steps, digest, state });
        }
    }

    /// Passes on the next piece of a seat's state. False when there is none.
    fn pass_image(&mut self) -> bool {
        let Some(seat) = self.ends.iter().position(|&end| end > self.passed) else { return false };
        let end = self.ends[seat];
        let to = end.min(self.passed + IMAGE_CHUNK);
        let image = std::mem::take(&mut self.image);
        let bytes = &image[self.passed..to];
        let number = u8::try_from(seat).unwrap_or(u8::MAX);
        self.put(&Entry::Image { seat: number, last: to == end, bytes });
        self.image = image;
        self.passed = to;
        true
    }

    fn put(&mut self, entry: &Entry<'_>) {
        if self.gap > 0 {
            let gap = Entry::Gap { lost: self.gap };
            if !self.push(&gap) {
                (self.gap, self.lost) = (self.gap + 1, self.lost + 1);
                return;
            }
            self.gap = 0;
        }
        if !self.push(entry) {
            (self.gap, self.lost) = (self.gap + 1, self.lost + 1);
        }
    }

    fn push(&mut self, entry: &Entry<'_>) -> bool {
        let Ok(bytes) = encode(entry, &mut self.buffer) else { return false };
        self.segment += bytes.len() as u64;
        self.to_disk.push(&[bytes]).is_ok()
    }
}
