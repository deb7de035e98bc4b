//! Records on their way between two threads: what waits beside a ring that is full, and in which
//! order rings are read.

use std::collections::VecDeque;

use mesita_core::mutant::{Mutant, planted};
use mesita_core::sync::{Consumer, Producer};
use mesita_core::time::Time;

/// The end of a ring that writes, and what does not fit it now, in order.
#[derive(Debug)]
pub(crate) struct Backlog<'r> {
    ring: Producer<'r>,
    waits: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl<'r> Backlog<'r> {
    /// Nothing waits beside this ring.
    pub(crate) const fn new(ring: Producer<'r>) -> Self {
        Self { ring, waits: VecDeque::new(), bytes: 0 }
    }

    /// Passes a record on, now or as soon as there is room; it overtakes nothing.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        let waits = !self.waits.is_empty() && !planted(Mutant::OvertakesWhatWaits);
        if waits || self.ring.push(parts).is_err() {
            let record = parts.concat();
            self.bytes += record.len();
            self.waits.push_back(record);
        }
    }

    /// Passes on what waits, as far as there is room; true if there was something.
    pub(crate) fn flush(&mut self) -> bool {
        let any = !self.waits.is_empty();
        while let Some(record) = self.waits.front() {
            if self.ring.push(&[record]).is_err() {
                break;
            }
            self.bytes -= record.len();
            self.waits.pop_front();
        }
        any
    }

    /// True when something waits and the ring has room for it.
    pub(crate) fn can_flush(&mut self) -> bool {
        let first = self.waits.front().map(Vec::len);
        first.is_some_and(|len| self.ring.can_take(len))
    }

    /// True when nothing waits beside the ring.
    pub(crate) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Bytes that wait beside the ring.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Where a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The disk thread.
    Disk,
    /// The IO thread.
    Io,
}

/// A core thread's ends of all rings.
#[derive(Debug)]
pub(crate) struct Ends<'r> {
    /// Of the disk: there are few, and others wait for them.
    pub(crate) disk: Consumer<'r>,
    /// What masters say to each other: it never waits for other work.
    pub(crate) masters: Option<Consumer<'r>>,
    /// All else.
    pub(crate) io: Consumer<'r>,
    /// To the IO thread.
    pub(crate) out: Producer<'r>,
    /// Bytes that a step may put out: none begins without them.
    pub(crate) room: usize,
}

impl Ends<'_> {
    /// Takes the next record into `into`: where it came from, and its length. None while there is no
    /// room for what may come of it.
    pub(crate) fn next(&mut self, into: &mut [u8]) -> Option<(Side, usize)> {
        if !self.has_room() {
            return None;
        }
        if let Some(record) = self.disk.pop(into) {
            return Some((Side::Disk, record.len()));
        }
        if let Some(record) = self.masters.as_mut().and_then(|ring| ring.pop(into)) {
            return Some((Side::Io, record.len()));
        }
        self.io.pop(into).map(|record| (Side::Io, record.len()))
    }

    /// True when a step may begin.
    pub(crate) fn has_room(&mut self) -> bool {
        self.out.can_take(self.room)
    }

    /// True when there is something that can be done now. Without room, nothing can.
    pub(crate) fn has_work(&mut self) -> bool {
        let masters = self.masters.as_mut().is_none_or(Consumer::is_empty);
        let empty = masters && self.disk.is_empty() && self.io.is_empty();
        !empty && self.has_room()
    }

    /// How long to sleep if a tick is due then: without room for what comes of it, until somebody
    /// rings. To be asked after the bell was told of the sleep: whoever makes room rings it then.
    pub(crate) fn sleeps_until(&mut self, due: Time) -> Time {
        if self.has_room() { due } else { Time::NEVER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesita_core::sync::{Ring, Word};

    fn words() -> Vec<Word> {
        (0..4).map(|_| Word::new()).collect()
    }

    #[test]
    fn what_waits_beside_a_full_ring_keeps_its_order() {
        let words = words();
        let mut ring = Ring::new(&words);
        let (producer, mut consumer) = ring.split();
        let (mut backlog, mut into) = (Backlog::new(producer), [0; 64]);
        for n in 0..5u8 {
            backlog.push(&[&[n], &[n]]);
        }
        assert_eq!((backlog.bytes(), backlog.can_flush(), backlog.flush()), (6, false, true));
        let mut all = vec![];
        loop {
            while let Some(record) = consumer.pop(&mut into) {
                all.push(record[0]);
                // There is room by now, but others wait.
                if all.len() == 1 {
                    backlog.push(&[&[9], &[9]]);
                }
            }
            if !backlog.can_flush() {
                break;
            }
            assert!(backlog.flush());
        }
        assert_eq!(all, [0, 1, 2, 3, 4, 9]);
        assert_eq!((backlog.is_empty(), backlog.bytes(), backlog.flush()), (true, 0, false));
    }

    #[test]
    fn the_disk_is_read_first_and_nothing_without_room() {
        let memory = [(); 4].map(|()| words());
        let mut rings = memory.each_ref().map(|words| Ring::new(words));
        let [disk, masters, io, out] = &mut rings;
        let (mut to_disk, disk) = disk.split();
        let (mut to_masters, masters) = masters.split();
        let (mut to_io, io) = io.split();
        let (out, mut outside) = out.split();
        let mut ends = Ends { disk, masters: Some(masters), io, out, room: 16 };
        assert!(!ends.has_work());
        for (ring, n) in [(&mut to_io, 3), (&mut to_masters, 2), (&mut to_disk, 1)] {
            ring.push(&[&[n]]).unwrap();
        }
        let mut into = [0; 8];
        let mut next =
            |ends: &mut Ends<'_>| ends.next(&mut into).map(|(side, len)| (side, len, into[0]));
        assert!(ends.has_work());
        assert_eq!(next(&mut ends), Some((Side::Disk, 1, 1)));
        assert_eq!(next(&mut ends), Some((Side::Io, 1, 2)));
        ends.out.push(&[&[7; 8]]).unwrap();
        assert_eq!((ends.has_work(), next(&mut ends)), (false, None));
        outside.pop(&mut [0; 8]).unwrap();
        assert!(ends.has_work());
        assert_eq!(next(&mut ends), Some((Side::Io, 1, 3)));
        assert_eq!((ends.has_work(), next(&mut ends)), (false, None));
    }

    #[test]
    fn who_has_no_room_for_a_tick_that_is_due_sleeps_until_it_is_rung_for() {
        let memory = [(); 3].map(|()| words());
        let mut rings = memory.each_ref().map(|words| Ring::new(words));
        let [disk, io, out] = &mut rings;
        let (out, mut outside) = out.split();
        let (disk, io) = (disk.split().1, io.split().1);
        let mut ends = Ends { disk, masters: None, io, out, room: 16 };
        assert_eq!(ends.sleeps_until(Time(5)), Time(5));
        ends.out.push(&[&[7; 8]]).unwrap();
        assert_eq!(ends.sleeps_until(Time(5)), Time::NEVER);
        outside.pop(&mut [0; 8]).unwrap();
        assert_eq!(ends.sleeps_until(Time(5)), Time(5));
    }
}
