//! The memory of holdings: short sorted lists of parts, in one lent slice.
//!
//! A part is an amount of one identity, or a range of its numbers, or one item of a set. Lists are
//! ordered by identity, then by number, and ranges that touch are one: a holding has one form, and
//! two of them are compared, joined and parted in a single walk over both.

use super::ident::{IdentId, Shape};
use crate::image::{BadImage, Image, Reader, Writer};
use crate::table::Full;

/// A part of a holding, as it is passed around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Of what.
    pub ident: IdentId,
    /// The form of its value.
    pub shape: Shape,
    /// The first number; 0 for amounts.
    pub begin: u64,
    /// The last number, or the amount in thousandths.
    pub end: u64,
}

record! {
    /// The memory of one part. 24 bytes: the numbers are halved, so that they need no alignment.
    pub struct PartNode {
        /// The next part of the list, or of the free chain, as index + 1.
        next: u32,
        ident: IdentId,
        shape: Shape,
        begin: [u32; 2],
        end: [u32; 2],
    }
}

const _: () = assert!(size_of::<PartNode>() == 24);

/// A list: its first part as index + 1; 0 = empty.
pub(super) type Head = u32;

/// All parts of all holdings.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    nodes: &'a mut [PartNode],
    used: u32,
    free: u32,
    /// Living parts: amounts, and spans.
    live: [u32; 2],
}

impl<'a> Parts<'a> {
    pub(super) fn new(nodes: &'a mut [PartNode]) -> Self {
        Self { nodes, used: 0, free: 0, live: [0; 2] }
    }

    pub(super) fn release(self) -> &'a mut [PartNode] {
        self.nodes
    }

    pub(super) fn live(&self) -> (u32, u32) {
        let [amounts, spans] = self.live;
        (amounts, spans)
    }

    pub(super) fn room(&self) -> u32 {
        let [amounts, spans] = self.live;
        let capacity = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX).min(u32::MAX >> 1);
        capacity.saturating_sub(amounts).saturating_sub(spans)
    }

    /// The parts of a list in order.
    pub(super) fn iter(&self, head: Head) -> Walk<'_> {
        Walk { nodes: self.nodes, next: head }
    }

    /// The first part of what is left of a list, which then begins behind it.
    pub(super) fn step(&self, rest: &mut Head) -> Option<Part> {
        let node = self.nodes.get(rest.checked_sub(1)? as usize)?;
        *rest = node.next;
        Some(node.part())
    }

    /// Takes the first part out of a list.
    pub(super) fn pop(&mut self, head: &mut Head) -> Option<Part> {
        let place = *head;
        let part = self.step(head)?;
        self.give_back(place, part.shape);
        Some(part)
    }

    /// Puts a part where it belongs and joins it with what it touches; how many parts of its
    /// identity fewer there are then. The search goes on from `after`, a part of this list that
    /// stands before all that will still be put in, or 0; it is moved to where this part is.
    pub(super) fn put(
        &mut self,
        head: &mut Head,
        after: &mut Head,
        part: Part,
        once: bool,
    ) -> Result<u32, Full> {
        let mut next = if *after == 0 { *head } else { self.next_of(*after) };
        while let Some(at) = self.at(next).filter(|at| at.key() < part.key()) {
            *after = next;
            next = at.next;
        }
        let mut joined = 0u32;
        let same = |at: &PartNode| at.key() == part.key() && at.shape != Shape::Ranges;
        let place = if let Some(before) = self.at(*after).filter(|at| at.touches(&part)) {
            joined = 1;
            let end = before.part().end.max(part.end);
            self.set_end(*after, end);
            *after
        } else if let Some(have) = self.at(next).filter(same) {
            // Amounts of one thing add up; an item, or a thing that is shared, is there once.
            let (mine, theirs) = (have.part().end, part.end);
            let once = once || have.shape == Shape::Set;
            self.set_end(next, if once { mine.max(theirs) } else { mine.saturating_add(theirs) });
            *after = next;
            return Ok(1);
        } else {
            let place = self.take(part, next)?;
            self.link(head, *after, place);
            place
        };
        *after = place;
        while let Some(at) = self.at(place)
            && let Some(following) = self.at(at.next)
            && at.touches(&following.part())
        {
            let end = at.part().end.max(following.part().end);
            self.set_end(place, end);
            self.set_next(place, following.next);
            self.give_back(at.next, following.shape);
            joined = joined.saturating_add(1);
        }
        Ok(joined)
    }

    /// Takes `part` out of a list, as much of it as is there; how many parts of its identity fewer
    /// there are then, or one more when a range was cut in two, which needs room for one part.
    pub(super) fn cut(&mut self, head: &mut Head, after: &mut Head, part: Part) -> i32 {
        let mut fewer = 0i32;
        let mut next = if *after == 0 { *head } else { self.next_of(*after) };
        while let Some(at) = self.at(next) {
            let have = at.part();
            if have.ident > part.ident || (at.is_span() && have.key() > (part.ident, part.end)) {
                break;
            }
            if have.ident < part.ident || (at.is_span() && have.end < part.begin) {
                *after = next;
                next = at.next;
                continue;
            }
            if !at.is_span() {
                let left = have.end.saturating_sub(part.end);
                if left > 0 {
                    self.set_end(next, left);
                } else {
                    self.unlink(head, *after, next);
                    fewer = fewer.saturating_add(1);
                }
                break;
            }
            let left = have.begin < part.begin;
            let right = have.end > part.end;
            let behind = Part { begin: part.end.saturating_add(1), ..have };
            match (left, right) {
                (true, true) => {
                    self.set_end(next, part.begin.saturating_sub(1));
                    if let Ok(place) = self.take(behind, at.next) {
                        self.set_next(next, place);
                        fewer = fewer.saturating_sub(1);
                    } else {
                        invariant!(false, "a range is cut in two without room");
                    }
                    break;
                }
                (true, false) => {
                    self.set_end(next, part.begin.saturating_sub(1));
                    *after = next;
                    next = at.next;
                }
                (false, true) => {
                    self.set_begin(next, behind.begin);
                    break;
                }
                (false, false) => {
                    self.unlink(head, *after, next);
                    fewer = fewer.saturating_add(1);
                    next = at.next;
                }
            }
        }
        fewer
    }

    /// Appends a part behind `last`, which is the last of the list or 0: for lists that are made in
    /// order. `last` is moved.
    pub(super) fn append(
        &mut self,
        head: &mut Head,
        last: &mut Head,
        part: Part,
    ) -> Result<(), Full> {
        let place = self.take(part, 0)?;
        self.link(head, *last, place);
        *last = place;
        Ok(())
    }

    fn take(&mut self, part: Part, next: u32) -> Result<u32, Full> {
        let place = if self.free != 0 {
            let place = self.free;
            self.free = self.next_of(place);
            place
        } else {
            let place = self.used.checked_add(1).ok_or(Full)?;
            self.nodes.get(self.used as usize).ok_or(Full)?;
            self.used = place;
            place
        };
        if let Some(node) = self.node_mut(place) {
            *node = PartNode {
                next,
                ident: part.ident,
                shape: part.shape,
                begin: halves(part.begin),
                end: halves(part.end),
            };
        }
        self.count(part.shape, 1);
        Ok(place)
    }

    fn give_back(&mut self, place: u32, shape: Shape) {
        let free = self.free;
        self.set_next(place, free);
        self.free = place;
        self.count(shape, -1);
    }

    fn count(&mut self, shape: Shape, by: i32) {
        let [amounts, spans] = &mut self.live;
        let live = if shape == Shape::Scalar { amounts } else { spans };
        *live = live.saturating_add_signed(by);
    }

    fn unlink(&mut self, head: &mut Head, before: u32, place: u32) {
        let Some(node) = self.at(place) else { return };
        if before == 0 {
            *head = node.next;
        } else {
            self.set_next(before, node.next);
        }
        self.give_back(place, node.shape);
    }

    fn link(&mut self, head: &mut Head, before: u32, place: u32) {
        if before == 0 {
            *head = place;
        } else {
            self.set_next(before, place);
        }
    }

    fn at(&self, place: u32) -> Option<PartNode> {
        self.nodes.get(place.checked_sub(1)? as usize).copied()
    }

    fn node_mut(&mut self, place: u32) -> Option<&mut PartNode> {
        self.nodes.get_mut(place.checked_sub(1)? as usize)
    }

    fn next_of(&self, place: u32) -> u32 {
        self.at(place).map_or(0, |node| node.next)
    }

    fn set_next(&mut self, place: u32, next: u32) {
        if let Some(node) = self.node_mut(place) {
            node.next = next;
        }
    }

    fn set_begin(&mut self, place: u32, begin: u64) {
        if let Some(node) = self.node_mut(place) {
            node.begin = halves(begin);
        }
    }

    fn set_end(&mut self, place: u32, end: u64) {
        if let Some(node) = self.node_mut(place) {
            node.end = halves(end);
        }
    }
}

impl PartNode {
    fn part(&self) -> Part {
        let (begin, end) = (whole(self.begin), whole(self.end));
        Part { ident: self.ident, shape: self.shape, begin, end }
    }

    fn key(&self) -> (IdentId, u64) {
        (self.ident, whole(self.begin))
    }

    fn is_span(&self) -> bool {
        self.shape != Shape::Scalar
    }

    /// True when a range that begins no earlier overlaps this one or follows it at once.
    fn touches(&self, later: &Part) -> bool {
        self.shape == Shape::Ranges
            && self.ident == later.ident
            && later.begin <= whole(self.end).saturating_add(1)
    }
}

impl Part {
    fn key(&self) -> (IdentId, u64) {
        (self.ident, self.begin)
    }

    /// True when all of `other` is in this part.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.ident == other.ident && self.begin <= other.begin && other.end <= self.end
    }
}

/// The parts of one list, by copy.
#[derive(Clone, Debug)]
pub(super) struct Walk<'s> {
    nodes: &'s [PartNode],
    next: u32,
}

impl Iterator for Walk<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let node = self.nodes.get(self.next.checked_sub(1)? as usize)?;
        self.next = node.next;
        Some(node.part())
    }
}

const fn halves(number: u64) -> [u32; 2] {
    // The cut is what is wanted.
    #[allow(clippy::cast_possible_truncation)]
    [number as u32, (number >> 32) as u32]
}

const fn whole([low, high]: [u32; 2]) -> u64 {
    (high as u64) << 32 | low as u64
}

impl Image for Parts<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        to.put(&(self.used, self.free, self.live));
        for node in self.nodes.iter().take(self.used as usize) {
            to.put(node);
        }
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        (self.used, self.free, self.live) = from.take()?;
        for node in self.nodes.get_mut(..self.used as usize).ok_or(BadImage::TooLarge)? {
            *node = from.take()?;
        }
        Ok(())
    }
}
