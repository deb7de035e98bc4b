//! What is used of an agent beyond what it has, since it came back with less.
//!
//! It is kept as a list of parts whose head alone its agent holds: nearly no agent owes anything.

use super::holding::Holding;
use super::parts::Part;
use super::pool::{Pool, Shape};
use crate::names::Names;

impl Pool<'_> {
    /// Takes `used` out of `free`, as much as is there, and adds the rest to a debt. `used` stays.
    pub fn subtract_owing(
        &mut self,
        names: &mut Names<'_>,
        free: &mut Holding,
        used: Holding,
        debt: &mut u32,
    ) {
        if let Ok(mut missing) = self.copy(names, used) {
            self.subtract_what_is_there(names, &mut missing, *free);
            if !missing.is_empty() {
                let mut owed = self.open_debt(names, debt);
                self.add(names, &mut owed, &mut missing);
                self.close_debt(owed, debt);
            }
        }
        self.subtract_what_is_there(names, free, used);
    }

    /// Takes out of `held` what is owed, and out of the debt what `held` had of it.
    pub fn pay(&mut self, names: &mut Names<'_>, debt: &mut u32, held: &mut Holding) {
        let mut owed = self.open_debt(names, debt);
        let mut paid = self.common(names, owed, *held);
        self.subtract_what_is_there(names, &mut owed, paid);
        self.subtract_what_is_there(names, held, paid);
        self.clear(names, &mut paid);
        self.close_debt(owed, debt);
    }

    /// Adds a debt to what is used, and forgets it.
    pub fn take_debt(&mut self, names: &mut Names<'_>, debt: &mut u32, used: &mut Holding) {
        let mut owed = self.open_debt(names, debt);
        self.add(names, used, &mut owed);
    }

    /// Forgets a debt.
    pub fn clear_debt(&mut self, names: &mut Names<'_>, debt: &mut u32) {
        let mut owed = self.open_debt(names, debt);
        self.clear(names, &mut owed);
    }

    /// A debt as a holding; it is none any more.
    fn open_debt(&mut self, names: &mut Names<'_>, debt: &mut u32) -> Holding {
        let mut owed = Holding::EMPTY;
        while let Some(part) = self.parts.pop(debt) {
            match part.ident.plain_kind() {
                Some(kind) => owed.add_plain(kind, part.end),
                None => self.put_part(names, &mut owed, part),
            }
        }
        owed
    }

    /// The holding as a debt. What finds no room is forgiven.
    fn close_debt(&mut self, owed: Holding, debt: &mut u32) {
        let mut last = 0;
        let plain = owed.plain();
        for (kind, milli) in (0u8..).zip(plain) {
            let ident = super::ident::IdentId::of_plain(kind);
            let part = Part { ident, shape: Shape::Scalar, begin: 0, end: milli };
            if milli > 0 {
                let _ = self.parts.append(debt, &mut last, part);
            }
        }
        let mut rest = owed.head();
        while let Some(part) = self.parts.pop(&mut rest) {
            let pushed = self.parts.append(debt, &mut last, part);
            invariant!(pushed.is_ok(), "a node just freed is not there");
        }
    }

    /// What both have; empty where there is no room to say it. O(both).
    pub fn common(&mut self, names: &mut Names<'_>, a: Holding, b: Holding) -> Holding {
        let mut common = Holding::EMPTY;
        for (kind, (mine, theirs)) in a.plain().into_iter().zip(b.plain()).enumerate() {
            common.set_plain(kind, mine.min(theirs));
        }
        let mut next = a.head();
        while let Some(mine) = self.parts.step(&mut next) {
            let mut others = b.head();
            while let Some(theirs) = self.parts.step(&mut others) {
                if theirs.ident != mine.ident || self.room() == 0 {
                    continue;
                }
                let both = Part {
                    begin: mine.begin.max(theirs.begin),
                    end: mine.end.min(theirs.end),
                    ..mine
                };
                if both.begin > both.end {
                    continue;
                }
                self.held_by(both.ident, 1);
                if both.shape == Shape::Set {
                    let held = names.hold(super::holding::item(both.begin));
                    invariant!(held.is_ok(), "a name has more holders than there are parts");
                }
                self.put_part(names, &mut common, both);
            }
        }
        common
    }

    /// A second holding of those parts that `wanted` accepts; empty without room. O(holding).
    pub fn copy_of(
        &mut self,
        names: &mut Names<'_>,
        of: Holding,
        wanted: impl Fn(&super::pool::Ident) -> bool,
    ) -> Holding {
        let mut copy = Holding::EMPTY;
        let mut next = of.head();
        while let Some(part) = self.parts.step(&mut next) {
            if self.room() > 0 && self.ident(part.ident).is_some_and(|ident| wanted(&ident)) {
                self.held_by(part.ident, 1);
                if part.shape == Shape::Set {
                    let held = names.hold(super::holding::item(part.begin));
                    invariant!(held.is_ok(), "a name has more holders than there are parts");
                }
                self.put_part(names, &mut copy, part);
            }
        }
        copy
    }
}
