//! Who holds how much of what.
//!
//! What a resource *is* (its name, reservations, disk, provider, whether it is revocable or shared)
//! is interned once as an [`Ident`]; a [`Holding`] is a list of amounts and spans, each of one
//! identity. Agents, offers, tasks and executors each have a holding. Arithmetic is exact and never
//! goes below zero: [`Pool::subtract`] refuses what is not contained.
//!
//! A message is taken in two steps: [`Pool::admit`] checks the whole list and the room for it, then
//! [`Pool::take`] interns it, which cannot fail any more.

use super::amount::Amount;
use super::quantities::Quantities;
use crate::Refusal;
use crate::image::{BadImage, Image, Reader, Writer};
use crate::limits::{AMOUNT_MAX, KINDS_MAX};
use crate::names::{Name, Names};
use crate::slab::{self, List, Slab};
use crate::table::{Full, Id, Slot, Table};
use crate::wire::resource::{
    Disk, DiskSource, Range, Reservation, ReservationKind, Resource, Traits, Value,
};
use crate::wire::{Scratch, Seq};

choice! {
    /// The form of a resource's value.
    pub enum Shape {
        /// An amount.
        Scalar = 0,
        /// Ranges of numbers.
        Ranges = 1,
        /// A set of names.
        Set = 2,
    }
}

record! {
    /// What a resource is (Mesos: `Resource` without its value and allocation).
    pub struct Ident {
        /// Its name.
        pub name: Name,
        /// Its reservations, the outermost first.
        pub reservations: List,
        /// Its disk.
        pub disk: DiskIdent,
        /// Its provider; empty = the agent.
        pub provider: Name,
        /// The form of its value.
        pub shape: Shape,
        /// The number of its kind, for scalars.
        pub kind: u8,
        /// May be taken back.
        pub revocable: bool,
        /// May be used by several at once.
        pub shared: bool,
        /// Amounts and spans of it, anywhere.
        holders: u32,
    }

    /// Which disk a disk resource is.
    pub struct DiskIdent {
        /// True when the resource says anything of a disk.
        pub given: bool,
        source: DiskSource,
        root: Name,
        id: Name,
        profile: Name,
        vendor: Name,
        /// The persistent volume; empty = none.
        pub persistence: Name,
        principal: Name,
        /// Not compared: where the volume appears says nothing about what it is.
        container_path: Name,
    }

    /// One layer of a reservation stack.
    pub struct Layer {
        /// Whose.
        pub role: Name,
        principal: Name,
        labels: Name,
        kind: ReservationKind,
    }

    /// An amount of one identity.
    pub struct Piece {
        /// Of what.
        pub ident: IdentId,
        /// How much.
        pub milli: u64,
    }

    /// Consecutive numbers of one identity, or one item of a set (its name twice).
    pub struct Span {
        /// Of what.
        pub ident: IdentId,
        /// The first.
        pub begin: u64,
        /// The last.
        pub end: u64,
    }

    /// An identity: its row's index + 1. It lives while anybody holds some of it.
    #[derive(PartialOrd, Ord)]
    pub struct IdentId {
        place: u16,
    }

    /// What somebody holds.
    #[derive(Default)]
    pub struct Holding {
        amounts: List,
        spans: List,
    }

    struct Kind {
        name: Name,
        idents: u32,
    }
}

/// The number of the kind `cpus`.
pub const CPUS: u8 = 0;
/// The number of the kind `mem`.
pub const MEM: u8 = 1;
/// The number of the kind `disk`.
pub const DISK: u8 = 2;
/// The number of the kind `gpus`.
pub const GPUS: u8 = 3;

/// Names whose plain identities always exist, in the order of their numbers.
const WELL_KNOWN: [(&str, Shape); 5] = [
    ("cpus", Shape::Scalar),
    ("mem", Shape::Scalar),
    ("disk", Shape::Scalar),
    ("gpus", Shape::Scalar),
    ("ports", Shape::Ranges),
];

/// The memory of a [`Pool`].
#[derive(Debug)]
pub struct Memory<'a> {
    /// Identities, at most 65,534; five are always there.
    pub idents: &'a mut [Slot<Ident>],
    /// Layers of reservation stacks.
    pub layers: &'a mut [slab::Node<Layer>],
    /// Amounts in all holdings.
    pub pieces: &'a mut [slab::Node<Piece>],
    /// Spans in all holdings.
    pub spans: &'a mut [slab::Node<Span>],
}

/// Every identity, and every amount that somebody holds.
#[derive(Debug)]
pub struct Pool<'a> {
    idents: Table<'a, Ident>,
    layers: Slab<'a, Layer>,
    pieces: Slab<'a, Piece>,
    spans: Slab<'a, Span>,
    kinds: [Kind; KINDS_MAX],
}

impl Holding {
    /// Nothing.
    pub const EMPTY: Self = Self { amounts: List::EMPTY, spans: List::EMPTY };

    /// True when it holds nothing.
    pub const fn is_empty(self) -> bool {
        self.amounts.is_empty() && self.spans.is_empty()
    }
}

impl<'a> Pool<'a> {
    /// A pool in which nobody holds anything. Needs room for five names and five identities.
    pub fn new(memory: Memory<'a>, names: &mut Names<'_>) -> Result<Self, Full> {
        let mut pool = Self {
            idents: Table::new(memory.idents),
            layers: Slab::new(memory.layers),
            pieces: Slab::new(memory.pieces),
            spans: Slab::new(memory.spans),
            kinds: [Kind { name: Name::EMPTY, idents: 0 }; KINDS_MAX],
        };
        for (name, shape) in WELL_KNOWN {
            let name = names.intern(name)?;
            let kind = if shape == Shape::Scalar { pool.kind_for(name).ok_or(Full)? } else { 0 };
            // One holder that never lets go keeps each of them.
            let plain = Ident { name, shape, kind, holders: 1, ..bytemuck::Zeroable::zeroed() };
            pool.idents.insert(plain)?;
            pool.count_kind(shape, kind, 1);
        }
        Ok(pool)
    }

    /// Gives the memory back.
    pub fn release(self) -> Memory<'a> {
        Memory {
            idents: self.idents.release(),
            layers: self.layers.release(),
            pieces: self.pieces.release(),
            spans: self.spans.release(),
        }
    }

    /// Identities, amounts and spans in use.
    pub fn used(&self) -> (u32, u32, u32) {
        (self.idents.len(), self.pieces.len(), self.spans.len())
    }

    /// Amounts, or spans, that can still be held: whichever are fewer.
    pub fn room(&self) -> u32 {
        self.pieces.room().min(self.spans.room())
    }

    /// What an identity is.
    pub fn ident(&self, id: IdentId) -> Option<Ident> {
        self.ident_ref(id).copied()
    }

    fn ident_ref(&self, id: IdentId) -> Option<&Ident> {
        self.idents.row(u32::from(id.place).checked_sub(1)?)
    }

    /// The number of a kind, if anything of it exists.
    pub fn kind(&self, names: &Names<'_>, name: &str) -> Option<u8> {
        let name = names.find(name)?;
        (0u8..).zip(self.kinds).find(|(_, kind)| kind.name == name && kind.idents > 0).map(|k| k.0)
    }

    /// The name of a kind, by its number.
    pub fn kind_name(&self, kind: u8) -> Name {
        self.kinds.get(usize::from(kind)).map_or(Name::EMPTY, |kind| kind.name)
    }

    /// Checks that `list` is valid and that [`Pool::take`] will have room for it. O(list).
    pub fn admit(&self, names: &Names<'_>, list: &Seq<'_, Resource<'_>>) -> Result<(), Refusal> {
        let mut need = Need::default();
        for resource in list.iter() {
            self.check(names, &resource)?;
            need.count(&resource);
        }
        if need.pieces > self.pieces.room() || need.spans > self.spans.room() {
            return Err(Refusal::ResourcesFull);
        }
        if need.idents > self.idents.room() || need.layers > self.layers.room() {
            return Err(Refusal::IdentitiesFull);
        }
        let new_kinds = self.new_kinds(names, list);
        if new_kinds > self.kinds.iter().filter(|kind| kind.idents == 0).count() {
            return Err(Refusal::KindsFull);
        }
        if need.idents > 0 && !names.has_room_for(list.iter().flat_map(|r| texts(&r))) {
            return Err(Refusal::NamesFull);
        }
        Ok(())
    }

    /// Interns a list that [`Pool::admit`] has just accepted. Zero amounts are dropped. O(list).
    pub fn take(&mut self, names: &mut Names<'_>, list: &Seq<'_, Resource<'_>>) -> Holding {
        let mut holding = Holding::EMPTY;
        for resource in list.iter() {
            let taken = self.take_one(names, &mut holding, &resource);
            invariant!(taken.is_ok(), "an admitted resource finds no room");
        }
        holding
    }

    /// Looks a list up without changing anything: the identities must exist, and every amount is
    /// below its limit. None when something is not known, and so held by nobody. O(list).
    pub fn contains_wire(
        &self,
        names: &Names<'_>,
        whole: Holding,
        list: &Seq<'_, Resource<'_>>,
    ) -> bool {
        list.iter().all(|resource| match self.find(names, &resource) {
            Some(id) => self.covers(names, whole, id, &resource, list),
            None => false,
        })
    }

    /// True when every amount and span of `part` is in `whole`. O(whole × part).
    pub fn contains(&self, whole: Holding, part: Holding) -> bool {
        let amounts = self.pieces.iter(part.amounts).all(|piece| {
            self.pieces
                .iter(whole.amounts)
                .any(|have| have.ident == piece.ident && have.milli >= piece.milli)
        });
        amounts
            && self
                .spans
                .iter(part.spans)
                .all(|span| self.spans.iter(whole.spans).any(|have| have.covers(span)))
    }

    /// Moves everything of `from` into `into`. O(into × from), O(1) when `into` is empty.
    pub fn add(&mut self, into: &mut Holding, from: &mut Holding) {
        if into.amounts.is_empty() {
            into.amounts = core::mem::take(&mut from.amounts);
        }
        if into.spans.is_empty() {
            into.spans = core::mem::take(&mut from.spans);
        }
        while let Some(piece) = self.pieces.pop(&mut from.amounts) {
            self.add_piece(&mut into.amounts, piece);
        }
        while let Some(span) = self.spans.pop(&mut from.spans) {
            self.add_span(&mut into.spans, span);
        }
    }

    /// Takes a copy of `part` out of `from`; `part` stays as it is. O(from × part).
    ///
    /// `AmountOutOfRange` when something of it is not there; `ResourcesFull` when a span would have
    /// to be cut in two and there is no room for the second part. Nothing has changed then.
    pub fn subtract(&mut self, from: &mut Holding, part: Holding) -> Result<(), Refusal> {
        if !self.contains(*from, part) {
            return Err(Refusal::AmountOutOfRange);
        }
        let spans = u32::try_from(self.spans.iter(part.spans).count()).unwrap_or(u32::MAX);
        if spans > self.spans.room() {
            return Err(Refusal::ResourcesFull);
        }
        let mut next = part.amounts;
        while let Some(piece) = self.step_piece(&mut next) {
            let mut gone = 0u32;
            self.pieces.retain(&mut from.amounts, |have| {
                if have.ident == piece.ident {
                    have.milli = have.milli.saturating_sub(piece.milli);
                }
                let keep = have.milli > 0;
                gone = gone.saturating_add(u32::from(!keep));
                keep
            });
            self.let_go(piece.ident, gone);
        }
        let mut next = part.spans;
        while let Some(span) = self.step_span(&mut next) {
            self.cut(&mut from.spans, span);
        }
        Ok(())
    }

    /// A second holding of the same. `ResourcesFull` when there is no room for it.
    pub fn copy(&mut self, of: Holding) -> Result<Holding, Refusal> {
        let pieces = u32::try_from(self.pieces.iter(of.amounts).count()).unwrap_or(u32::MAX);
        let spans = u32::try_from(self.spans.iter(of.spans).count()).unwrap_or(u32::MAX);
        if pieces > self.pieces.room() || spans > self.spans.room() {
            return Err(Refusal::ResourcesFull);
        }
        let mut copy = Holding::EMPTY;
        let mut next = of.amounts;
        while let Some(piece) = self.step_piece(&mut next) {
            self.hold(piece.ident, 1);
            let pushed = self.pieces.push(&mut copy.amounts, piece);
            invariant!(pushed.is_ok(), "room was counted");
        }
        let mut next = of.spans;
        while let Some(span) = self.step_span(&mut next) {
            self.hold(span.ident, 1);
            let pushed = self.spans.push(&mut copy.spans, span);
            invariant!(pushed.is_ok(), "room was counted");
        }
        Ok(copy)
    }

    /// Takes as much of `part` out of `from` as there is. For agents that came back smaller.
    pub fn subtract_what_is_there(&mut self, from: &mut Holding, part: Holding) {
        let mut next = part.amounts;
        while let Some(piece) = self.step_piece(&mut next) {
            let mut gone = 0u32;
            self.pieces.retain(&mut from.amounts, |have| {
                if have.ident == piece.ident {
                    have.milli = have.milli.saturating_sub(piece.milli);
                }
                gone = gone.saturating_add(u32::from(have.milli == 0));
                have.milli > 0
            });
            self.let_go(piece.ident, gone);
        }
        let mut next = part.spans;
        while let Some(span) = self.step_span(&mut next) {
            self.cut(&mut from.spans, span);
        }
    }

    /// Lets go of everything. Identities that nobody holds any more are forgotten. O(holding).
    pub fn clear(&mut self, names: &mut Names<'_>, holding: &mut Holding) {
        while let Some(piece) = self.pieces.pop(&mut holding.amounts) {
            self.let_go(piece.ident, 1);
            self.forget_unheld(names, piece.ident);
        }
        while let Some(span) = self.spans.pop(&mut holding.spans) {
            let set = self.ident(span.ident).is_some_and(|ident| ident.shape == Shape::Set);
            if set {
                names.release_one(item(span.begin));
            }
            self.let_go(span.ident, 1);
            self.forget_unheld(names, span.ident);
        }
    }

    /// Scalars by kind, whoever's they are. O(holding).
    pub fn quantities(&self, holding: Holding) -> Quantities {
        let mut sum = Quantities::NONE;
        for piece in self.pieces.iter(holding.amounts) {
            if let Some(ident) = self.ident_ref(piece.ident) {
                sum.add(ident.kind, piece.milli);
            }
        }
        sum
    }

    /// Scalars by kind of those identities that `allowed` accepts. O(holding).
    pub fn quantities_of(&self, holding: Holding, allowed: impl Fn(&Ident) -> bool) -> Quantities {
        let mut sum = Quantities::NONE;
        for piece in self.pieces.iter(holding.amounts) {
            if let Some(ident) = self.ident_ref(piece.ident).filter(|ident| allowed(ident)) {
                sum.add(ident.kind, piece.milli);
            }
        }
        sum
    }

    /// [`Pool::contains`] for those parts whose identity `allowed` accepts.
    pub fn contains_of(
        &self,
        whole: Holding,
        part: Holding,
        allowed: impl Fn(&Ident) -> bool,
    ) -> bool {
        let counts = |id| self.ident_ref(id).is_some_and(&allowed);
        let amounts =
            self.pieces.iter(part.amounts).filter(|piece| counts(piece.ident)).all(|piece| {
                self.pieces
                    .iter(whole.amounts)
                    .any(|have| have.ident == piece.ident && have.milli >= piece.milli)
            });
        amounts
            && self
                .spans
                .iter(part.spans)
                .filter(|span| counts(span.ident))
                .all(|span| self.spans.iter(whole.spans).any(|have| have.covers(span)))
    }

    /// True when `allowed` accepts the identity of anything in a holding; and whether of all.
    pub fn any_and_all(&self, holding: Holding, allowed: impl Fn(&Ident) -> bool) -> (bool, bool) {
        let amounts = self.pieces.iter(holding.amounts).map(|piece| piece.ident);
        let spans = self.spans.iter(holding.spans).map(|span| span.ident);
        amounts.chain(spans).fold((false, true), |(any, all), id| {
            let yes = self.ident_ref(id).is_some_and(&allowed);
            (any || yes, all && yes)
        })
    }

    /// Moves everything whose identity `allowed` accepts out of `from`. O(holding).
    pub fn split(
        &mut self,
        from: &mut Holding,
        allowed: impl Fn(&Self, &Ident) -> bool,
    ) -> Holding {
        let (mut part, mut rest) = (Holding::EMPTY, Holding::EMPTY);
        while let Some(piece) = self.pieces.pop(&mut from.amounts) {
            let yes = self.ident_ref(piece.ident).is_some_and(|ident| allowed(self, ident));
            let to = if yes { &mut part } else { &mut rest };
            let pushed = self.pieces.push(&mut to.amounts, piece);
            invariant!(pushed.is_ok(), "a node just freed is not there");
        }
        while let Some(span) = self.spans.pop(&mut from.spans) {
            let yes = self.ident_ref(span.ident).is_some_and(|ident| allowed(self, ident));
            let to = if yes { &mut part } else { &mut rest };
            let pushed = self.spans.push(&mut to.spans, span);
            invariant!(pushed.is_ok(), "a node just freed is not there");
        }
        *from = rest;
        part
    }

    /// The innermost role that an identity is reserved for; none = anyone's.
    pub fn reserved_for(&self, ident: &Ident) -> Option<Name> {
        self.layers.iter(ident.reservations).last().map(|layer| layer.role)
    }

    /// The amounts of a holding, in the order they came.
    pub fn pieces(&self, holding: Holding) -> impl Iterator<Item = Piece> + '_ {
        self.pieces.iter(holding.amounts)
    }

    /// The spans of a holding, in the order they came.
    pub fn spans(&self, holding: Holding) -> impl Iterator<Item = Span> + '_ {
        self.spans.iter(holding.spans)
    }

    /// Writes a holding as a list in `to`, with `inner` for the lists within. O(holding).
    pub fn write<'s>(
        &self,
        names: &Names<'_>,
        holding: Holding,
        allocated_to: &str,
        to: &mut Scratch<'s>,
        inner: &mut [u8],
    ) -> Result<Seq<'s, Resource<'s>>, Full> {
        let mut list = to.list::<Resource<'static>>();
        for piece in self.pieces.iter(holding.amounts) {
            let value = Value::Scalar(Amount::from_milli(piece.milli));
            self.write_one(names, piece.ident, value, allocated_to, Scratch::new(inner), |r| {
                list.push(r)
            })?;
        }
        let mut written = None;
        for span in self.spans.iter(holding.spans) {
            if written.is_some_and(|last| last >= span.ident) {
                continue;
            }
            // Spans of one identity stand together, in the order of their numbers.
            written = Some(span.ident);
            let mut inner = Scratch::new(inner);
            let spans = self.spans.iter(holding.spans).filter(|other| other.ident == span.ident);
            let set = self.ident(span.ident).is_some_and(|ident| ident.shape == Shape::Set);
            let value = if set {
                let mut items = inner.list::<&'static str>();
                for span in spans {
                    items.push(&names.text(item(span.begin)).as_str())?;
                }
                Value::Set(items.end())
            } else {
                let ranges = spans.map(|span| Range { begin: span.begin, end: span.end });
                Value::Ranges(inner.seq::<Range>(ranges)?)
            };
            self.write_one(names, span.ident, value, allocated_to, inner, |r| list.push(r))?;
        }
        Ok(list.end())
    }

    fn write_one(
        &self,
        names: &Names<'_>,
        id: IdentId,
        value: Value<'_>,
        allocated_to: &str,
        mut inner: Scratch<'_>,
        push: impl FnOnce(&Resource<'_>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let ident = self.ident(id).ok_or(Full)?;
        let text = |name| names.text(name);
        let (name, provider) = (text(ident.name), text(ident.provider));
        let mut layers = inner.list::<Reservation<'static>>();
        for layer in self.layers.iter(ident.reservations) {
            let (role, principal) = (text(layer.role), text(layer.principal));
            let labels = text(layer.labels);
            layers.push(&Reservation {
                role: &role,
                kind: layer.kind,
                principal: &principal,
                labels: &labels,
            })?;
        }
        let reservations = layers.end();
        let d = ident.disk;
        let [root, disk_id, profile, vendor, persistence, principal, container_path] =
            [d.root, d.id, d.profile, d.vendor, d.persistence, d.principal, d.container_path]
                .map(text);
        let disk = d.given.then_some(Disk {
            source: d.source,
            root: &root,
            id: &disk_id,
            profile: &profile,
            vendor: &vendor,
            persistence: &persistence,
            principal: &principal,
            container_path: &container_path,
        });
        let traits = Traits {
            reservations,
            allocated_to,
            disk,
            provider: &provider,
            revocable: ident.revocable,
            shared: ident.shared,
        };
        push(&Resource { name: &name, value, traits })
    }

    /// Bytes that [`Pool::write`] takes for a holding, at the most. O(holding).
    pub fn wire_bytes(&self, names: &Names<'_>, holding: Holding) -> usize {
        let amounts = self.pieces.iter(holding.amounts).map(|piece| (piece.ident, 16usize));
        let spans = self.spans.iter(holding.spans).map(|span| {
            let set = self.ident_ref(span.ident).is_some_and(|ident| ident.shape == Shape::Set);
            (span.ident, if set { names.text_len(item(span.begin)) } else { 20 })
        });
        amounts.chain(spans).fold(0usize, |sum, (id, bytes)| {
            let plain = usize::from(id.place) <= WELL_KNOWN.len();
            let traits = if plain { 0 } else { self.trait_bytes(names, id) };
            sum.saturating_add(bytes).saturating_add(traits)
        })
    }

    fn trait_bytes(&self, names: &Names<'_>, id: IdentId) -> usize {
        let Some(ident) = self.ident_ref(id) else { return 0 };
        let d = &ident.disk;
        let of_disk =
            [d.root, d.id, d.profile, d.vendor, d.persistence, d.principal, d.container_path];
        let layers = self.layers.iter(ident.reservations);
        let of_layers = layers.flat_map(|layer| [layer.role, layer.principal, layer.labels]);
        [ident.name, ident.provider]
            .into_iter()
            .chain(of_disk)
            .chain(of_layers)
            .fold(32usize, |sum, name| sum.saturating_add(names.text_len(name)).saturating_add(4))
    }

    /// What is wrong with one resource, looking at the identities that exist.
    fn check(&self, names: &Names<'_>, resource: &Resource<'_>) -> Result<(), Refusal> {
        let shape = shape_of(&resource.value);
        let well_known = WELL_KNOWN.iter().find(|(name, _)| *name == resource.name);
        if well_known.is_some_and(|(_, known)| *known != shape) {
            return Err(Refusal::BadResource);
        }
        let name = names.find(resource.name);
        let other = name
            .and_then(|name| self.idents.find(|ident| ident.name == name && ident.shape != shape));
        if other.is_some() {
            return Err(Refusal::BadResource);
        }
        let over = match resource.value {
            Value::Scalar(amount) => amount.milli() > AMOUNT_MAX,
            Value::Ranges(_) | Value::Set(_) => false,
        };
        if over { Err(Refusal::AmountOutOfRange) } else { Ok(()) }
    }

    fn new_kinds(&self, names: &Names<'_>, list: &Seq<'_, Resource<'_>>) -> usize {
        let scalar = |resource: &Resource<'_>| matches!(resource.value, Value::Scalar(_));
        let unknown = |resource: &Resource<'_>| self.kind(names, resource.name).is_none();
        let repeated = |resource: &Resource<'_>, index: usize| {
            list.iter().take(index).any(|earlier| earlier.name == resource.name)
        };
        list.iter()
            .enumerate()
            .filter(|(index, resource)| {
                scalar(resource) && unknown(resource) && !repeated(resource, *index)
            })
            .count()
    }

    fn take_one(
        &mut self,
        names: &mut Names<'_>,
        holding: &mut Holding,
        resource: &Resource<'_>,
    ) -> Result<(), Full> {
        let empty = match resource.value {
            Value::Scalar(amount) => amount == Amount::ZERO,
            Value::Ranges(ranges) => ranges.is_empty(),
            Value::Set(items) => items.is_empty(),
        };
        if empty {
            return Ok(());
        }
        let ident = match self.find(names, resource) {
            Some(ident) => ident,
            None => self.intern(names, resource)?,
        };
        match resource.value {
            Value::Scalar(amount) => {
                self.hold(ident, 1);
                self.add_piece(&mut holding.amounts, Piece { ident, milli: amount.milli() });
            }
            Value::Ranges(ranges) => {
                for range in ranges.iter() {
                    self.hold(ident, 1);
                    let span = Span { ident, begin: range.begin, end: range.end };
                    self.add_span(&mut holding.spans, span);
                }
            }
            Value::Set(items) => {
                for text in items.iter() {
                    let number = number(names.intern(text)?);
                    self.hold(ident, 1);
                    let span = Span { ident, begin: number, end: number };
                    self.add_span(&mut holding.spans, span);
                }
            }
        }
        Ok(())
    }

    /// The identity of a resource, if it exists.
    fn find(&self, names: &Names<'_>, resource: &Resource<'_>) -> Option<IdentId> {
        let traits = &resource.traits;
        let plain = Traits { allocated_to: traits.allocated_to, ..Traits::PLAIN };
        if *traits == plain
            && let Some(known) = WELL_KNOWN.iter().position(|(name, _)| *name == resource.name)
        {
            return Some(IdentId { place: u16::try_from(known).ok()?.saturating_add(1) });
        }
        let name = names.find(resource.name)?;
        let found = self.idents.find(|ident| ident.name == name && self.is(names, ident, resource));
        found.and_then(|(id, _)| ident_id(id))
    }

    fn is(&self, names: &Names<'_>, ident: &Ident, resource: &Resource<'_>) -> bool {
        let traits = &resource.traits;
        let flags = (ident.revocable, ident.shared) == (traits.revocable, traits.shared);
        let layers = self.layers.iter(ident.reservations).count();
        flags
            && names.is(ident.provider, traits.provider)
            && disk_is(names, &ident.disk, traits.disk)
            && layers == traits.reservations.len() as usize
            && self.layers.iter(ident.reservations).zip(traits.reservations.iter()).all(
                |(layer, wire)| {
                    layer.kind == wire.kind
                        && names.is(layer.role, wire.role)
                        && names.is(layer.principal, wire.principal)
                        && names.is(layer.labels, wire.labels)
                },
            )
    }

    fn intern(&mut self, names: &mut Names<'_>, r: &Resource<'_>) -> Result<IdentId, Full> {
        let shape = shape_of(&r.value);
        let name = names.intern(r.name)?;
        let mut reservations = List::EMPTY;
        for wire in r.traits.reservations.iter() {
            let layer = Layer {
                role: names.intern(wire.role)?,
                principal: names.intern(wire.principal)?,
                labels: names.intern(wire.labels)?,
                kind: wire.kind,
            };
            self.layers.push(&mut reservations, layer)?;
        }
        let mut disk: DiskIdent = bytemuck::Zeroable::zeroed();
        if let Some(wire) = r.traits.disk {
            disk = DiskIdent {
                given: true,
                source: wire.source,
                root: names.intern(wire.root)?,
                id: names.intern(wire.id)?,
                profile: names.intern(wire.profile)?,
                vendor: names.intern(wire.vendor)?,
                persistence: names.intern(wire.persistence)?,
                principal: names.intern(wire.principal)?,
                container_path: names.intern(wire.container_path)?,
            };
        }
        let kind = if shape == Shape::Scalar { self.kind_for(name).ok_or(Full)? } else { 0 };
        let provider = names.intern(r.traits.provider)?;
        let (revocable, shared) = (r.traits.revocable, r.traits.shared);
        let ident = Ident {
            name,
            reservations,
            disk,
            provider,
            shape,
            kind,
            revocable,
            shared,
            holders: 0,
        };
        let id = self.idents.insert(ident)?;
        self.count_kind(shape, kind, 1);
        ident_id(id).ok_or(Full)
    }

    /// The number of the kind called `name`, taken anew if there is none.
    fn kind_for(&mut self, name: Name) -> Option<u8> {
        let known = self.kinds.iter().position(|kind| kind.idents > 0 && kind.name == name);
        let at = known.or_else(|| self.kinds.iter().position(|kind| kind.idents == 0))?;
        self.kinds.get_mut(at)?.name = name;
        u8::try_from(at).ok()
    }

    fn count_kind(&mut self, shape: Shape, kind: u8, by: i32) {
        if let Some(kind) = self.kinds.get_mut(usize::from(kind))
            && shape == Shape::Scalar
        {
            kind.idents = kind.idents.saturating_add_signed(by);
        }
    }

    fn forget_unheld(&mut self, names: &mut Names<'_>, id: IdentId) {
        let Some(index) = u32::from(id.place).checked_sub(1) else { return };
        let Some((row, mut ident)) = self.idents.at(index) else { return };
        if ident.holders > 0 {
            return;
        }
        self.idents.remove(row);
        self.count_kind(ident.shape, ident.kind, -1);
        while let Some(layer) = self.layers.pop(&mut ident.reservations) {
            for name in [layer.role, layer.principal, layer.labels] {
                names.release_one(name);
            }
        }
        let d = ident.disk;
        for name in
            [d.root, d.id, d.profile, d.vendor, d.persistence, d.principal, d.container_path]
        {
            names.release_one(name);
        }
        names.release_one(ident.provider);
        names.release_one(ident.name);
    }

    /// True when `whole` has what all entries of `list` with this identity ask together.
    fn covers(
        &self,
        names: &Names<'_>,
        whole: Holding,
        id: IdentId,
        resource: &Resource<'_>,
        list: &Seq<'_, Resource<'_>>,
    ) -> bool {
        match resource.value {
            Value::Scalar(_) => {
                let same = |other: &Resource<'_>| self.find(names, other) == Some(id);
                let asked = list.iter().filter(same).fold(0u64, |sum, other| match other.value {
                    Value::Scalar(amount) => sum.saturating_add(amount.milli()),
                    Value::Ranges(_) | Value::Set(_) => sum,
                });
                let have = self.pieces.iter(whole.amounts).find(|piece| piece.ident == id);
                asked == 0 || have.is_some_and(|have| have.milli >= asked)
            }
            Value::Ranges(ranges) => ranges.iter().all(|range| {
                let span = Span { ident: id, begin: range.begin, end: range.end };
                self.spans.iter(whole.spans).any(|have| have.covers(span))
            }),
            Value::Set(items) => items.iter().all(|text| {
                names.find(text).is_some_and(|name| {
                    let span = Span { ident: id, begin: number(name), end: number(name) };
                    self.spans.iter(whole.spans).any(|have| have.covers(span))
                })
            }),
        }
    }

    fn add_piece(&mut self, list: &mut List, piece: Piece) {
        let mut found = false;
        self.pieces.for_each(*list, |have| {
            if have.ident == piece.ident {
                have.milli = have.milli.saturating_add(piece.milli);
                found = true;
            }
        });
        if found {
            // Two amounts of one identity became one.
            self.let_go(piece.ident, 1);
        } else {
            let pushed = self.pieces.push(list, piece);
            invariant!(pushed.is_ok(), "an amount that was admitted finds no room");
        }
    }

    /// Puts a span where its numbers belong, joined with its neighbours. Set items stay apart.
    fn add_span(&mut self, list: &mut List, mut span: Span) {
        let set = self.ident(span.ident).is_some_and(|ident| ident.shape == Shape::Set);
        let mut joined = 0u32;
        if !set {
            self.spans.retain(list, |have| {
                let touches = have.ident == span.ident
                    && have.begin <= span.end.saturating_add(1)
                    && span.begin <= have.end.saturating_add(1);
                if touches {
                    span.begin = span.begin.min(have.begin);
                    span.end = span.end.max(have.end);
                    joined = joined.saturating_add(1);
                }
                !touches
            });
        }
        self.let_go(span.ident, joined);
        self.insert_span(list, span);
    }

    /// Keeps spans ordered by identity, then number: one form for one holding.
    fn insert_span(&mut self, list: &mut List, span: Span) {
        let key = |span: &Span| (span.ident, span.begin);
        let mut after = List::EMPTY;
        let mut before = List::EMPTY;
        while let Some(have) = self.spans.pop(list) {
            let side = if key(&have) < key(&span) { &mut before } else { &mut after };
            let pushed = self.spans.push(side, have);
            invariant!(pushed.is_ok(), "a node just freed is not there");
        }
        let pushed = self.spans.push(&mut before, span);
        invariant!(pushed.is_ok(), "a span that was admitted finds no room");
        while let Some(have) = self.spans.pop(&mut after) {
            let pushed = self.spans.push(&mut before, have);
            invariant!(pushed.is_ok(), "a node just freed is not there");
        }
        *list = before;
    }

    /// Takes the numbers of `span` out of a list: a span around it becomes two.
    fn cut(&mut self, list: &mut List, span: Span) {
        let mut rest = None;
        let mut gone = 0u32;
        self.spans.retain(list, |have| {
            if have.ident != span.ident || have.end < span.begin || span.end < have.begin {
                return true;
            }
            let left = have.begin < span.begin;
            let right = have.end > span.end;
            let behind = Span { begin: span.end.saturating_add(1), ..*have };
            match (left, right) {
                (true, true) => {
                    rest = Some(behind);
                    have.end = span.begin.saturating_sub(1);
                }
                (true, false) => have.end = span.begin.saturating_sub(1),
                (false, true) => *have = behind,
                (false, false) => gone = gone.saturating_add(1),
            }
            left || right
        });
        self.let_go(span.ident, gone);
        if let Some(rest) = rest {
            self.hold(rest.ident, 1);
            self.insert_span(list, rest);
        }
    }

    fn hold(&mut self, id: IdentId, by: u32) {
        if let Some(ident) = self.ident_mut(id) {
            ident.holders = ident.holders.saturating_add(by);
        }
    }

    fn let_go(&mut self, id: IdentId, by: u32) {
        if let Some(ident) = self.ident_mut(id) {
            invariant!(ident.holders >= by, "an identity has fewer holders than let go of it");
            ident.holders = ident.holders.saturating_sub(by);
        }
    }

    fn ident_mut(&mut self, id: IdentId) -> Option<&mut Ident> {
        self.idents.row_mut(u32::from(id.place).checked_sub(1)?)
    }

    /// The first element of a list that is walked while others change.
    fn step_piece(&self, next: &mut List) -> Option<Piece> {
        self.pieces.step(next)
    }

    fn step_span(&self, next: &mut List) -> Option<Span> {
        self.spans.step(next)
    }
}

impl Span {
    fn covers(self, other: Self) -> bool {
        self.ident == other.ident && self.begin <= other.begin && other.end <= self.end
    }
}

/// Nodes that a list needs at the most.
#[derive(Default)]
struct Need {
    pieces: u32,
    spans: u32,
    idents: u32,
    layers: u32,
}

impl Need {
    fn count(&mut self, resource: &Resource<'_>) {
        match resource.value {
            Value::Scalar(_) => self.pieces = self.pieces.saturating_add(1),
            Value::Ranges(ranges) => self.spans = self.spans.saturating_add(ranges.len()),
            Value::Set(items) => self.spans = self.spans.saturating_add(items.len()),
        }
        let traits = &resource.traits;
        let plain = Traits { allocated_to: traits.allocated_to, ..Traits::PLAIN };
        let known = WELL_KNOWN.iter().any(|(name, _)| *name == resource.name);
        if *traits != plain || !known {
            self.idents = self.idents.saturating_add(1);
            self.layers = self.layers.saturating_add(traits.reservations.len());
        }
    }
}

/// Every text of a resource that would be interned.
fn texts<'r>(resource: &Resource<'r>) -> impl Iterator<Item = &'r str> + use<'r> {
    let disk = resource.traits.disk;
    let of_disk = disk.into_iter().flat_map(|disk| {
        [
            disk.root,
            disk.id,
            disk.profile,
            disk.vendor,
            disk.persistence,
            disk.principal,
            disk.container_path,
        ]
    });
    let items = match resource.value {
        Value::Set(items) => items,
        Value::Scalar(_) | Value::Ranges(_) => Seq::EMPTY,
    };
    let layers = resource.traits.reservations.iter();
    [resource.name, resource.traits.provider]
        .into_iter()
        .chain(of_disk)
        .chain(items.iter())
        .chain(layers.flat_map(|layer| [layer.role, layer.principal, layer.labels]))
}

fn disk_is(names: &Names<'_>, disk: &DiskIdent, wire: Option<Disk<'_>>) -> bool {
    match wire {
        None => !disk.given,
        Some(wire) => {
            disk.given
                && disk.source == wire.source
                && names.is(disk.root, wire.root)
                && names.is(disk.id, wire.id)
                && names.is(disk.profile, wire.profile)
                && names.is(disk.vendor, wire.vendor)
                && names.is(disk.persistence, wire.persistence)
                && names.is(disk.principal, wire.principal)
        }
    }
}

const fn shape_of(value: &Value<'_>) -> Shape {
    match value {
        Value::Scalar(_) => Shape::Scalar,
        Value::Ranges(_) => Shape::Ranges,
        Value::Set(_) => Shape::Set,
    }
}

fn ident_id(id: Id) -> Option<IdentId> {
    u16::try_from(id.index.saturating_add(1)).ok().map(|place| IdentId { place })
}

/// A set item as the number of a span.
fn number(name: Name) -> u64 {
    u64::from(name.place())
}

/// The set item that a span's number is.
fn item(number: u64) -> Name {
    Name::from_place(u32::try_from(number).unwrap_or(0))
}

impl Image for Pool<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        self.idents.export(to);
        self.layers.export(to);
        self.pieces.export(to);
        self.spans.export(to);
        to.put(&self.kinds);
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        self.idents.import(from)?;
        self.layers.import(from)?;
        self.pieces.import(from)?;
        self.spans.import(from)?;
        self.kinds = from.take()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
