//! Deadlines of rows: which comes next, and which are over.
//!
//! One timer for each row of a table, addressed by the row's index. An indexed binary heap in lent
//! memory: setting, moving and clearing cost O(log timers), the next deadline O(1), and a timer
//! that was cleared leaves nothing behind.

use crate::image::{BadImage, Image, Reader, Writer};
use crate::time::Time;

record! {
    /// The memory of one timer. 16 bytes.
    pub struct Timer {
        due: Time,
        /// The row at this place of the heap.
        row: u32,
        /// Where the timer of this row is in the heap, + 1; 0 = not set.
        place: u32,
    }
}

/// Timers of the rows of one table. The memory is the caller's: as many as the table has rows.
#[derive(Debug)]
pub struct Timers<'a> {
    slots: &'a mut [Timer],
    set: u32,
}

impl<'a> Timers<'a> {
    /// Timers none of which is set. `slots` must be zero.
    pub fn new(slots: &'a mut [Timer]) -> Self {
        Self { slots, set: 0 }
    }

    /// Gives the memory back.
    pub fn release(self) -> &'a mut [Timer] {
        self.slots
    }

    /// Sets or moves the timer of `row`. [`Time::NEVER`] clears it. O(log timers).
    pub fn set(&mut self, row: u32, due: Time) {
        self.clear(row);
        if due == Time::NEVER {
            return;
        }
        let at = self.set;
        let Some(slot) = self.slots.get_mut(at as usize) else {
            invariant!(false, "more timers than rows");
            return;
        };
        (slot.due, slot.row) = (due, row);
        self.set = self.set.saturating_add(1);
        self.place(row, at.saturating_add(1));
        self.rise(at);
    }

    /// Clears the timer of `row`, if it was set. O(log timers).
    pub fn clear(&mut self, row: u32) {
        let Some(at) = self.slots.get(row as usize).and_then(|slot| slot.place.checked_sub(1))
        else {
            return;
        };
        let end = self.set.saturating_sub(1);
        let Some((due, last)) = self.entry(end) else { return };
        self.set = end;
        self.place(row, 0);
        if at == end {
            return;
        }
        self.put(at, due, last);
        self.rise(at);
        let at = self.slots.get(last as usize).map_or(0, |slot| slot.place.saturating_sub(1));
        self.sink(at);
    }

    /// The next deadline, [`Time::NEVER`] when no timer is set. O(1).
    pub fn next(&self) -> Time {
        self.entry(0).map_or(Time::NEVER, |(due, _)| due)
    }

    /// The row whose timer is due next; of those due at one time, the lowest. O(1).
    pub fn first(&self) -> Option<u32> {
        self.entry(0).map(|(_, row)| row)
    }

    /// When the timer of `row` is due, [`Time::NEVER`] when it is not set. O(1).
    pub fn due(&self, row: u32) -> Time {
        let at = self.slots.get(row as usize).and_then(|slot| slot.place.checked_sub(1));
        at.and_then(|at| self.entry(at)).map_or(Time::NEVER, |(due, _)| due)
    }

    /// True when the timer of `row` is set. O(1).
    pub fn is_set(&self, row: u32) -> bool {
        self.due(row) != Time::NEVER
    }

    /// Clears and returns a row whose time is over; rows of one time come in order of their index.
    pub fn expired(&mut self, now: Time) -> Option<u32> {
        let (due, row) = self.entry(0)?;
        if due > now {
            return None;
        }
        self.clear(row);
        Some(row)
    }

    fn entry(&self, at: u32) -> Option<(Time, u32)> {
        let slot = self.slots.get(at as usize)?;
        (at < self.set).then_some((slot.due, slot.row))
    }

    fn put(&mut self, at: u32, due: Time, row: u32) {
        if let Some(slot) = self.slots.get_mut(at as usize) {
            (slot.due, slot.row) = (due, row);
        }
        self.place(row, at.saturating_add(1));
    }

    fn place(&mut self, row: u32, place: u32) {
        if let Some(slot) = self.slots.get_mut(row as usize) {
            slot.place = place;
        }
    }

    fn rise(&mut self, mut at: u32) {
        while let Some(above) = at.checked_sub(1).map(|below| below / 2) {
            let (Some(upper), Some(lower)) = (self.entry(above), self.entry(at)) else { return };
            if upper <= lower {
                return;
            }
            self.put(above, lower.0, lower.1);
            self.put(at, upper.0, upper.1);
            at = above;
        }
    }

    fn sink(&mut self, mut at: u32) {
        loop {
            let left = at.saturating_mul(2).saturating_add(1);
            let right = left.saturating_add(1);
            let below = match (self.entry(left), self.entry(right)) {
                (Some(l), Some(r)) if r < l => right,
                (Some(_), _) => left,
                (None, _) => return,
            };
            let (Some(upper), Some(lower)) = (self.entry(at), self.entry(below)) else { return };
            if upper <= lower {
                return;
            }
            self.put(at, lower.0, lower.1);
            self.put(below, upper.0, upper.1);
            at = below;
        }
    }
}

impl Image for Timers<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        // The heap's shape decides nothing: rows of one time come in order of their index.
        let set = self.slots.iter().zip(0u32..).filter(|(slot, _)| slot.place != 0);
        to.put(&self.set);
        for (_, row) in set {
            to.put(&(row, self.due(row)));
        }
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        let set: u32 = from.take()?;
        for _ in 0..set {
            let (row, due): (u32, Time) = from.take()?;
            if row as usize >= self.slots.len() || self.set as usize >= self.slots.len() {
                return Err(BadImage::TooLarge);
            }
            self.set(row, due);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Zero;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec;

    proptest! {
        #[test]
        fn timers_do_what_a_sorted_map_does(
            steps in proptest::collection::vec((0u32..8, 0u64..50, 0u8..4), 0..300),
        ) {
            let mut memory = vec![Timer::ZERO; 8];
            let mut timers = Timers::new(&mut memory);
            let mut model = BTreeMap::new();
            let mut now = 0;
            for (row, after, what) in steps {
                match what {
                    0 => {
                        timers.clear(row);
                        model.remove(&row);
                    }
                    1 => {
                        now += after / 10;
                        while let Some(row) = timers.expired(Time(now)) {
                            let first = model.iter().map(|(&row, &due)| (due, row)).min();
                            prop_assert_eq!(first.map(|(_, row)| row), Some(row));
                            prop_assert!(model.remove(&row).unwrap() <= now);
                        }
                    }
                    _ => {
                        timers.set(row, Time(now + after));
                        model.insert(row, now + after);
                    }
                }
                let next = model.values().min().map_or(Time::NEVER, |&due| Time(due));
                prop_assert_eq!(timers.next(), next);
                for row in 0..8 {
                    let due = model.get(&row).map_or(Time::NEVER, |&due| Time(due));
                    prop_assert_eq!(timers.due(row), due);
                }
            }
        }
    }
}
