//! Arithmetic of holdings: exact, never below zero, one walk over both sides.
//!
//! The three amounts that nearly everything is made of (unreserved `cpus`, `mem`, `disk` of the
//! agent's own) stand in the holding itself; everything else is in a list of [`Part`]s, sorted.
//! Mesos: `Resources`.

use super::pool::{Class, Ident, IdentId, Part, Pool, Shape};
use super::quantities::Quantities;
use crate::Refusal;
use crate::names::{Name, Names};

record! {
    /// What somebody holds. 24 bytes, and 24 more for each part beside the plain amounts.
    #[derive(Default)]
    pub struct Holding {
        /// Plain cpus, mem and disk in the low 51 bits; in the others, a third of the head of the
        /// list of parts.
        words: [u64; PLAIN],
    }
}

/// Kinds whose plain amounts stand in the holding: the first ones.
pub const PLAIN: usize = 3;
const AMOUNT_BITS: u32 = 51;
const AMOUNT_MASK: u64 = (1 << AMOUNT_BITS) - 1;
/// Bits of the head in each word; three of them make 33, one more than is used.
const HEAD_BITS: u32 = 11;

const _: () = assert!(crate::limits::AMOUNT_MAX <= AMOUNT_MASK && HEAD_BITS * 3 >= 32);

impl Holding {
    /// Nothing.
    pub const EMPTY: Self = Self { words: [0; PLAIN] };

    /// True when it holds nothing.
    pub const fn is_empty(self) -> bool {
        let [cpus, mem, disk] = self.words;
        cpus | mem | disk == 0
    }

    /// Plain amounts of the first kinds, in thousandths: unreserved, the agent's own, to keep.
    pub fn plain(self) -> [u64; PLAIN] {
        self.words.map(|word| word & AMOUNT_MASK)
    }

    /// True when the plain amounts are all it holds.
    pub const fn is_plain(self) -> bool {
        let [cpus, mem, disk] = self.words;
        (cpus | mem | disk) >> AMOUNT_BITS == 0
    }

    /// The list of parts.
    pub(super) fn head(self) -> u32 {
        let [low, middle, high] = self.words.map(|word| word >> AMOUNT_BITS);
        let head = low | middle << HEAD_BITS | high << (2 * HEAD_BITS);
        u32::try_from(head).unwrap_or(0)
    }

    pub(super) fn set_head(&mut self, head: u32) {
        let head = u64::from(head);
        let mask = (1u64 << HEAD_BITS) - 1;
        let thirds = [head & mask, head >> HEAD_BITS & mask, head >> (2 * HEAD_BITS)];
        for (word, third) in self.words.iter_mut().zip(thirds) {
            *word = *word & AMOUNT_MASK | third << AMOUNT_BITS;
        }
    }

    /// Sets a plain amount of one of the first kinds.
    pub(super) fn set_plain(&mut self, kind: usize, milli: u64) {
        invariant!(milli <= AMOUNT_MASK, "an amount beyond 2^51 thousandths");
        if let Some(word) = self.words.get_mut(kind) {
            *word = *word & !AMOUNT_MASK | milli & AMOUNT_MASK;
        }
    }

    pub(super) fn add_plain(&mut self, kind: usize, milli: u64) {
        let have = self.plain().get(kind).copied().unwrap_or(0);
        self.set_plain(kind, have.saturating_add(milli));
    }
}

impl Pool<'_> {
    /// True when every amount and part of `part` is in `whole`. O(whole + part).
    pub fn contains(&self, whole: Holding, part: Holding) -> bool {
        self.contains_of(whole, part, |_, amount| amount)
    }

    /// [`Pool::contains`] for as much of `part` as `some` says of each of its identities: of
    /// amounts any part, of spans none or all.
    pub fn contains_of(
        &self,
        whole: Holding,
        part: Holding,
        mut some: impl FnMut(&Ident, u64) -> u64,
    ) -> bool {
        for ((kind, have), want) in (0u8..).zip(whole.plain()).zip(part.plain()) {
            let want = if want == 0 { 0 } else { some(self.plain_ident(kind), want) };
            if want > have {
                return false;
            }
        }
        let mut have = self.parts.iter(whole.head()).peekable();
        for part in self.parts.iter(part.head()) {
            let amount = if part.shape == Shape::Scalar { part.end } else { 1 };
            let want = self.ident_ref(part.ident).map_or(0, |ident| some(ident, amount));
            if want == 0 {
                continue;
            }
            let wanted =
                if part.shape == Shape::Scalar { Part { end: want, ..part } } else { part };
            let whole = self.ident_ref(part.ident).is_some_and(|ident| ident.is(Class::WHOLE));
            while have.next_if(|have| have.before(&wanted)).is_some() {}
            if !have.peek().is_some_and(|have| have.gives(&wanted, whole)) {
                return false;
            }
        }
        true
    }

    /// Moves everything of `from` into `into`. O(into + from), O(1) when either is plain.
    pub fn add(&mut self, names: &mut Names<'_>, into: &mut Holding, from: &mut Holding) {
        let plain = into.plain().into_iter().zip(from.plain());
        for (kind, (mine, theirs)) in plain.enumerate() {
            into.set_plain(kind, mine.saturating_add(theirs));
        }
        let (mut to, mut rest) = (into.head(), from.head());
        *from = Holding::EMPTY;
        if to == 0 {
            into.set_head(rest);
            return;
        }
        let mut after = 0;
        while let Some(part) = self.parts.pop(&mut rest) {
            self.put(names, &mut to, &mut after, part);
        }
        into.set_head(to);
    }

    /// Takes a copy of `part` out of `from`; `part` stays as it is. Of what is shared nothing is
    /// taken. O(from + part).
    ///
    /// `AmountOutOfRange` when something of it is not there; `ResourcesFull` when a range would have
    /// to be cut in two and there is no room for the second part. Nothing has changed then.
    pub fn subtract(
        &mut self,
        names: &mut Names<'_>,
        from: &mut Holding,
        part: Holding,
    ) -> Result<(), Refusal> {
        if !self.contains(*from, part) {
            return Err(Refusal::AmountOutOfRange);
        }
        if self.spans_of(part) > self.room() {
            return Err(Refusal::ResourcesFull);
        }
        self.subtract_what_is_there(names, from, part);
        Ok(())
    }

    /// Takes as much of `part` out of `from` as there is. For agents that came back smaller.
    pub fn subtract_what_is_there(
        &mut self,
        names: &mut Names<'_>,
        from: &mut Holding,
        part: Holding,
    ) {
        let plain = from.plain().into_iter().zip(part.plain());
        for (kind, (mine, theirs)) in plain.enumerate() {
            from.set_plain(kind, mine.saturating_sub(theirs));
        }
        let (mut head, mut after) = (from.head(), 0);
        let mut next = part.head();
        while let Some(part) = self.parts.step(&mut next) {
            let Some(ident) = self.ident(part.ident).filter(|ident| !ident.is(Class::SHARED))
            else {
                continue;
            };
            let fewer = self.parts.cut(&mut head, &mut after, part);
            self.held_by(part.ident, fewer.saturating_neg());
            // `part` still holds it, so that it is not forgotten.
            if fewer > 0 && ident.shape == Shape::Set {
                names.release_one(item(part.begin));
            }
        }
        from.set_head(head);
    }

    /// A second holding of the same. `ResourcesFull` when there is no room for it.
    pub fn copy(&mut self, names: &mut Names<'_>, of: Holding) -> Result<Holding, Refusal> {
        let mut copy = of;
        copy.set_head(0);
        if self.parts_of(of) > self.room() {
            return Err(Refusal::ResourcesFull);
        }
        let (mut head, mut last, mut next) = (0, 0, of.head());
        while let Some(part) = self.parts.step(&mut next) {
            self.append(names, &mut head, &mut last, part);
        }
        copy.set_head(head);
        Ok(copy)
    }

    /// Lets go of everything. Identities that nobody holds any more are forgotten. O(holding).
    pub fn clear(&mut self, names: &mut Names<'_>, holding: &mut Holding) {
        let mut head = holding.head();
        *holding = Holding::EMPTY;
        while let Some(part) = self.parts.pop(&mut head) {
            self.gone(names, part);
        }
    }

    /// Scalars by kind, whoever's they are, each amount once. O(holding).
    pub fn quantities(&self, holding: Holding) -> Quantities {
        self.quantities_of(holding, |_, amount| amount)
    }

    /// Scalars by kind, as much as `some` says of each identity. O(holding).
    pub fn quantities_of(
        &self,
        holding: Holding,
        mut some: impl FnMut(&Ident, u64) -> u64,
    ) -> Quantities {
        let mut sum = Quantities::NONE;
        for (kind, amount) in (0u8..).zip(holding.plain()) {
            if amount > 0 {
                sum.set(kind, some(self.plain_ident(kind), amount));
            }
        }
        for part in self.amounts_in(holding) {
            if let Some(ident) = self.ident_ref(part.ident) {
                sum.add(ident.kind, some(ident, part.end));
            }
        }
        sum
    }

    fn amounts_in(&self, holding: Holding) -> impl Iterator<Item = Part> + '_ {
        self.parts.iter(holding.head()).filter(|part| part.shape == Shape::Scalar)
    }

    /// What all that a holding has is of, summed: the classes of any of it, and those of all of it.
    pub fn classes(&self, holding: Holding) -> (Class, Class) {
        let plain = holding.plain().into_iter().any(|milli| milli > 0);
        let first = if plain { (Class::NONE, Class::NONE) } else { (Class::NONE, Class::ALL) };
        self.parts.iter(holding.head()).fold(first, |(any, all), part| {
            let class = self.ident_ref(part.ident).map_or(Class::NONE, |ident| ident.class);
            (any.or(class), all.and(class))
        })
    }

    /// Calls `see` with the identity of each amount and span: of an amount how much, of a span 1.
    /// O(holding).
    pub fn for_each(&self, holding: Holding, mut see: impl FnMut(&Ident, u64)) {
        for (kind, amount) in (0u8..).zip(holding.plain()) {
            if amount > 0 {
                see(self.plain_ident(kind), amount);
            }
        }
        for part in self.parts.iter(holding.head()) {
            let amount = if part.shape == Shape::Scalar { part.end } else { 1 };
            if let Some(ident) = self.ident_ref(part.ident) {
                see(ident, amount);
            }
        }
    }

    /// Moves as much as `some` says of each identity out of `from`: of amounts any part, of spans
    /// none or all. What is shared is copied and stays. O(holding).
    ///
    /// Needs room for as many parts as `from` has; the caller asked [`Pool::room`].
    pub fn split(
        &mut self,
        names: &mut Names<'_>,
        from: &mut Holding,
        mut some: impl FnMut(&Self, &Ident, u64) -> u64,
    ) -> Holding {
        let mut part = Holding::EMPTY;
        for (kind, amount) in from.plain().into_iter().enumerate() {
            let ident = *self.plain_ident(u8::try_from(kind).unwrap_or(0));
            let given = if amount == 0 { 0 } else { some(self, &ident, amount).min(amount) };
            part.set_plain(kind, given);
            from.set_plain(kind, amount.saturating_sub(given));
        }
        let (mut head, mut last, mut next) = (0, 0, from.head());
        let (mut kept, mut kept_last) = (0, 0);
        while let Some(have) = self.parts.pop(&mut next) {
            let Some(ident) = self.ident(have.ident) else { continue };
            let amount = if have.shape == Shape::Scalar { have.end } else { 1 };
            let given = some(self, &ident, amount).min(amount);
            let shared = ident.is(Class::SHARED);
            let scalar = have.shape == Shape::Scalar;
            if given > 0 {
                let moved = if scalar { Part { end: given, ..have } } else { have };
                let pushed = self.parts.append(&mut head, &mut last, moved);
                invariant!(pushed.is_ok(), "a part is split without room");
            }
            if given < amount || shared {
                let left = if shared { amount } else { amount.saturating_sub(given) };
                let rest = if scalar { Part { end: left, ..have } } else { have };
                let pushed = self.parts.append(&mut kept, &mut kept_last, rest);
                invariant!(pushed.is_ok(), "a part is split without room");
                if given > 0 {
                    self.held_by(have.ident, 1);
                    if have.shape == Shape::Set {
                        let held = names.hold(item(have.begin));
                        invariant!(held.is_ok(), "a name has more holders than there are parts");
                    }
                }
            }
        }
        from.set_head(kept);
        part.set_head(head);
        part
    }

    /// Parts that a holding has beside its plain amounts. O(holding).
    pub fn parts_of(&self, holding: Holding) -> u32 {
        self.parts.iter(holding.head()).fold(0, |sum, _| sum.saturating_add(1))
    }

    /// Ranges and items of a holding: a cut may need a part more for each. O(holding).
    pub fn spans_of(&self, holding: Holding) -> u32 {
        let spans = self.parts.iter(holding.head()).filter(|part| part.shape != Shape::Scalar);
        spans.fold(0, |sum, _| sum.saturating_add(1))
    }

    /// The parts of a holding beside its plain amounts, in order.
    pub fn parts(&self, holding: Holding) -> impl Iterator<Item = Part> + '_ {
        self.parts.iter(holding.head())
    }

    /// Puts an amount of an identity into a holding. The part is held by it from now on.
    pub(super) fn put_amount(
        &mut self,
        names: &mut Names<'_>,
        into: &mut Holding,
        ident: IdentId,
        milli: u64,
    ) {
        if milli == 0 {
            return;
        }
        if let Some(kind) = ident.plain_kind() {
            into.add_plain(kind, milli);
            return;
        }
        self.held_by(ident, 1);
        let part = Part { ident, shape: Shape::Scalar, begin: 0, end: milli };
        self.put_part(names, into, part);
    }

    /// Puts a part that is held already into a holding.
    pub(super) fn put_part(&mut self, names: &mut Names<'_>, into: &mut Holding, part: Part) {
        let (mut head, mut after) = (into.head(), 0);
        self.put(names, &mut head, &mut after, part);
        into.set_head(head);
    }

    fn put(&mut self, names: &mut Names<'_>, head: &mut u32, after: &mut u32, part: Part) {
        let once = self.ident_ref(part.ident).is_some_and(|ident| ident.is(Class::SHARED));
        match self.parts.put(head, after, part, once) {
            Ok(joined) => {
                self.held_by(part.ident, i32::try_from(joined).map_or(0, i32::saturating_neg));
                if joined > 0 && part.shape == Shape::Set {
                    names.release_one(item(part.begin));
                }
            }
            Err(_) => invariant!(false, "a part that was admitted finds no room"),
        }
    }

    fn append(&mut self, names: &mut Names<'_>, head: &mut u32, last: &mut u32, part: Part) {
        self.held_by(part.ident, 1);
        if part.shape == Shape::Set {
            let held = names.hold(item(part.begin));
            invariant!(held.is_ok(), "a name has more holders than there are parts");
        }
        let pushed = self.parts.append(head, last, part);
        invariant!(pushed.is_ok(), "room was counted");
    }

    /// A part is no more.
    fn gone(&mut self, names: &mut Names<'_>, part: Part) {
        if part.shape == Shape::Set {
            names.release_one(item(part.begin));
        }
        self.held_by(part.ident, -1);
        self.forget_unheld(names, part.ident);
    }
}

impl Part {
    /// True when `other` can be taken out of it: of what is only whole, all or nothing.
    pub(super) fn gives(&self, other: &Self, whole: bool) -> bool {
        self.covers(other) && (!whole || self.end == other.end)
    }

    /// True when it stands before all of `other`.
    fn before(&self, other: &Self) -> bool {
        let ends = self.shape != Shape::Scalar && self.end < other.begin;
        self.ident < other.ident || (self.ident == other.ident && ends)
    }
}

/// A set item as the number of a part.
pub(super) fn number(name: Name) -> u64 {
    u64::from(name.place())
}

/// The set item that a part's number is.
pub(super) fn item(number: u64) -> Name {
    Name::from_place(u32::try_from(number).unwrap_or(0))
}
