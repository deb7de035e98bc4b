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
pub use super::holding::{Holding, PLAIN};
use super::holding::{item, number};
pub use super::ident::{Class, DiskIdent, Ident, IdentId, Layer, Shape};
use super::ident::{Form, Kind, shape_of};
use super::parts::Parts;
pub use super::parts::{Part, PartNode};
use crate::Refusal;
use crate::image::{BadImage, Image, Reader, Writer};
use crate::limits::{AMOUNT_MAX, KINDS_MAX};
use crate::names::{Name, Names};
use crate::slab::{self, Slab};
use crate::table::{Full, Slot, Table};
use crate::wire::resource::{Disk, Range, Reservation, Resource, Traits, Value};
use crate::wire::{Scratch, Seq};

/// The number of the kind `cpus`.
pub const CPUS: u8 = 0;
/// The number of the kind `mem`.
pub const MEM: u8 = 1;
/// The number of the kind `disk`.
pub const DISK: u8 = 2;
/// The number of the kind `gpus`.
pub const GPUS: u8 = 3;

/// Names whose plain identities always exist, in the order of their numbers. The first ones' amounts
/// stand in holdings themselves.
pub(super) const WELL_KNOWN: [(&str, Shape); 5] = [
    ("cpus", Shape::Scalar),
    ("mem", Shape::Scalar),
    ("disk", Shape::Scalar),
    ("gpus", Shape::Scalar),
    ("ports", Shape::Ranges),
];

/// Where the identity of a resource stands among those that always exist, if it is one of them.
pub(super) fn well_known(resource: &Resource<'_>) -> Option<usize> {
    if !resource.traits.is_bare() {
        return None;
    }
    WELL_KNOWN.iter().position(|(name, _)| *name == resource.name)
}

/// The memory of a [`Pool`].
#[derive(Debug)]
pub struct Memory<'a> {
    /// Identities, at most 65,534; five are always there.
    pub idents: &'a mut [Slot<Ident>],
    /// Layers of reservation stacks.
    pub layers: &'a mut [slab::Node<Layer>],
    /// Amounts and spans in all holdings, beside their plain amounts.
    pub parts: &'a mut [PartNode],
}

/// Every identity, and every amount that somebody holds.
#[derive(Debug)]
pub struct Pool<'a> {
    pub(super) idents: Table<'a, Ident>,
    pub(super) layers: Slab<'a, Layer>,
    pub(super) parts: Parts<'a>,
    pub(super) kinds: [Kind; KINDS_MAX],
}

impl<'a> Pool<'a> {
    /// A pool in which nobody holds anything. Needs room for five names and five identities.
    pub fn new(memory: Memory<'a>, names: &mut Names<'_>) -> Result<Self, Full> {
        let mut pool = Self {
            idents: Table::new(memory.idents),
            layers: Slab::new(memory.layers),
            parts: Parts::new(memory.parts),
            kinds: [Kind { name: Name::EMPTY, idents: 0 }; KINDS_MAX],
        };
        for (name, shape) in WELL_KNOWN {
            let name = names.intern(name)?;
            let kind = if shape == Shape::Scalar { pool.kind_for(name).ok_or(Full)? } else { 0 };
            let class = if shape == Shape::Scalar { Class::NONE } else { Class::SPAN };
            // One holder that never lets go keeps each of them.
            let plain =
                Ident { name, shape, kind, class, holders: 1, ..bytemuck::Zeroable::zeroed() };
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
            parts: self.parts.release(),
        }
    }

    /// Identities, and amounts and spans beside the plain ones, in use.
    pub fn used(&self) -> (u32, u32, u32) {
        let (amounts, spans) = self.parts.live();
        (self.idents.len(), amounts, spans)
    }

    /// Amounts and spans, together, that can still be held beside the plain ones.
    pub fn room(&self) -> u32 {
        self.parts.room()
    }

    /// Identities that can still be made, and layers of reservations.
    pub fn ident_room(&self) -> (u32, u32) {
        (self.idents.room(), self.layers.room())
    }

    /// Checks that `list` is valid and that [`Pool::take`] will have room for it. What it says is
    /// [`Pool::need`] of it. O(list).
    pub fn admit(&self, names: &Names<'_>, list: &Seq<'_, Resource<'_>>) -> Result<u32, Refusal> {
        let mut need = Need::default();
        let mut sums = heapless::Vec::<(&str, u64), { KINDS_MAX + 1 }>::new();
        for resource in list.iter() {
            self.check(names, &resource)?;
            need.count(self, names, &resource);
            let Value::Scalar(amount) = resource.value else { continue };
            match sums.iter_mut().find(|(name, _)| *name == resource.name) {
                Some((_, sum)) => *sum = sum.saturating_add(amount.milli()),
                None => {
                    sums.push((resource.name, amount.milli())).map_err(|_| Refusal::KindsFull)?;
                }
            }
        }
        if sums.iter().any(|(_, sum)| *sum > AMOUNT_MAX) {
            return Err(Refusal::AmountOutOfRange);
        }
        if need.parts > self.parts.room() {
            return Err(Refusal::ResourcesFull);
        }
        if need.idents > self.idents.room() || need.layers > self.layers.room() {
            return Err(Refusal::IdentitiesFull);
        }
        let known = |name: &&(&str, u64)| self.kind(names, name.0).is_some();
        let unknown = sums.iter().filter(|name| !known(name));
        if unknown.fold(0usize, |n, _| n.saturating_add(1)) > self.kinds_room() {
            return Err(Refusal::KindsFull);
        }
        // A list may name the same again and again.
        let new = list.iter().flat_map(|r| texts(&r)).filter(|text| names.find(text).is_none());
        if need.names && !names.has_room_for(new) {
            return Err(Refusal::NamesFull);
        }
        Ok(need.parts)
    }

    /// Parts that `list` takes beside plain amounts, at the most: for those who take it twice.
    pub fn need(&self, names: &Names<'_>, list: &Seq<'_, Resource<'_>>) -> u32 {
        let mut need = Need::default();
        list.iter().for_each(|resource| need.count(self, names, &resource));
        need.parts
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

    fn take_one(
        &mut self,
        names: &mut Names<'_>,
        holding: &mut Holding,
        resource: &Resource<'_>,
    ) -> Result<(), Full> {
        if is_empty(&resource.value) {
            return Ok(());
        }
        let ident = self.find_or_intern(names, resource)?;
        let shape = shape_of(&resource.value);
        match resource.value {
            Value::Scalar(amount) => self.put_amount(names, holding, ident, amount.milli()),
            Value::Ranges(ranges) => {
                for Range { begin, end } in ranges.iter() {
                    self.held_by(ident, 1);
                    self.put_part(names, holding, Part { ident, shape, begin, end });
                }
            }
            Value::Set(items) => {
                for text in items.iter() {
                    let number = number(names.intern(text)?);
                    self.held_by(ident, 1);
                    let part = Part { ident, shape, begin: number, end: number };
                    self.put_part(names, holding, part);
                }
            }
        }
        Ok(())
    }

    /// Looks a list up without changing anything: the identities must exist, and `whole` must have
    /// what all entries of one identity ask together. O(list · (identities + whole)).
    pub fn contains_wire(
        &self,
        names: &Names<'_>,
        whole: Holding,
        list: &Seq<'_, Resource<'_>>,
    ) -> bool {
        self.contains_as(names, &[whole], list, Form::AsIs)
    }

    /// [`Pool::contains_wire`] for what the list's entries come from, in several holdings together.
    pub(super) fn contains_as(
        &self,
        names: &Names<'_>,
        wholes: &[Holding],
        list: &Seq<'_, Resource<'_>>,
        form: Form,
    ) -> bool {
        list.iter().all(|resource| {
            is_empty(&resource.value)
                || self
                    .find_as(names, &resource, form)
                    .is_some_and(|id| self.covers(names, wholes, id, &resource, list, form))
        })
    }

    /// True when the holdings have what all entries of `list` with this identity ask together.
    fn covers(
        &self,
        names: &Names<'_>,
        wholes: &[Holding],
        id: IdentId,
        resource: &Resource<'_>,
        list: &Seq<'_, Resource<'_>>,
        form: Form,
    ) -> bool {
        let shape = shape_of(&resource.value);
        let only_whole = self.ident_ref(id).is_some_and(|ident| ident.is(Class::WHOLE));
        let has = |begin, end| {
            let part = Part { ident: id, shape, begin, end };
            let mut all = wholes.iter().flat_map(|whole| self.parts(*whole));
            all.any(|have| have.gives(&part, only_whole))
        };
        match resource.value {
            Value::Scalar(amount) => {
                let shared = self.ident_ref(id).is_some_and(|ident| ident.is(Class::SHARED));
                let others = list.iter().filter(|other| {
                    other.name == resource.name && self.find_as(names, other, form) == Some(id)
                });
                let asked = others.fold(0u64, |sum, other| match other.value {
                    Value::Scalar(amount) => sum.saturating_add(amount.milli()),
                    Value::Ranges(_) | Value::Set(_) => sum,
                });
                let asked = if shared { amount.milli() } else { asked };
                let sum =
                    |sum: u64, whole: &Holding| sum.saturating_add(self.amount_of(*whole, id));
                if shared || only_whole {
                    has(0, asked)
                } else {
                    wholes.iter().fold(0u64, sum) >= asked
                }
            }
            Value::Ranges(ranges) => ranges.iter().all(|range| has(range.begin, range.end)),
            Value::Set(items) => items
                .iter()
                .all(|text| names.find(text).is_some_and(|name| has(number(name), number(name)))),
        }
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
        self.write_some(names, holding, allocated_to, to, inner, |_| true)
    }

    /// [`Pool::write`] of those identities that are wanted.
    pub(super) fn write_some<'s>(
        &self,
        names: &Names<'_>,
        holding: Holding,
        allocated_to: &str,
        to: &mut Scratch<'s>,
        inner: &mut [u8],
        wanted: impl Fn(&Ident) -> bool,
    ) -> Result<Seq<'s, Resource<'s>>, Full> {
        let mut list = to.list::<Resource<'static>>();
        let kinds = (0u8..).zip(WELL_KNOWN).zip(holding.plain());
        for ((kind, (name, _)), milli) in kinds {
            if milli > 0 && wanted(self.plain_ident(kind)) {
                let traits = Traits { allocated_to, ..Traits::PLAIN };
                let value = Value::Scalar(Amount::from_milli(milli));
                list.push(&Resource { name, value, traits })?;
            }
        }
        let mut written = None;
        for part in self.parts(holding) {
            let unwanted = self.ident_ref(part.ident).is_none_or(|ident| !wanted(ident));
            if unwanted || written == Some(part.ident) {
                continue;
            }
            // Spans of one identity stand together, in the order of their numbers.
            written = Some(part.ident);
            let mut inner = Scratch::new(inner);
            let same = self.parts(holding).filter(|other| other.ident == part.ident);
            let value = match part.shape {
                Shape::Scalar => Value::Scalar(Amount::from_milli(part.end)),
                Shape::Ranges => {
                    let ranges = same.map(|part| Range { begin: part.begin, end: part.end });
                    Value::Ranges(inner.seq::<Range>(ranges)?)
                }
                Shape::Set => {
                    let mut items = inner.list::<&'static str>();
                    for part in same {
                        items.push(&names.text(item(part.begin)).as_str())?;
                    }
                    Value::Set(items.end())
                }
            };
            self.write_one(names, part.ident, value, allocated_to, inner, |r| list.push(r))?;
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
        for layer in self.layers(&ident) {
            let [role, principal, labels] = layer.names().map(text);
            layers.push(&Reservation {
                role: &role,
                kind: layer.kind,
                principal: &principal,
                labels: &labels,
            })?;
        }
        let reservations = layers.end();
        let [root, disk_id, profile, vendor, persistence, principal, container_path] =
            ident.disk.names().map(text);
        let disk = ident.disk.given.then_some(Disk {
            source: ident.disk.source,
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
            revocable: ident.is(Class::REVOCABLE),
            shared: ident.is(Class::SHARED),
        };
        push(&Resource { name: &name, value, traits })
    }

    /// Bytes that [`Pool::write`] takes for a holding, at the most. O(holding).
    pub fn wire_bytes(&self, names: &Names<'_>, holding: Holding) -> usize {
        let plain = holding.plain().into_iter().filter(|milli| *milli > 0);
        let plain = plain.fold(0usize, |sum, _| sum.saturating_add(16));
        self.parts(holding).fold(plain, |sum, part| {
            let bytes = match part.shape {
                Shape::Scalar => 16,
                Shape::Ranges => 20,
                Shape::Set => names.text_len(item(part.begin)),
            };
            let traits =
                if part.ident.is_well_known() { 0 } else { self.trait_bytes(names, part.ident) };
            sum.saturating_add(bytes).saturating_add(traits)
        })
    }

    fn trait_bytes(&self, names: &Names<'_>, id: IdentId) -> usize {
        let Some(ident) = self.ident_ref(id) else { return 0 };
        let of_layers = self.layers(ident).flat_map(|layer| layer.names());
        [ident.name, ident.provider]
            .into_iter()
            .chain(ident.disk.names())
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
        let traits = &resource.traits;
        // What may be taken back is kept for nobody.
        let volume = traits.disk.is_some_and(|disk| !disk.persistence.is_empty());
        let contradicts = traits.revocable && !traits.reservations.is_empty()
            || traits.disk.is_some() && (resource.name != "disk" || traits.revocable && volume);
        if contradicts || !refines(&traits.reservations) {
            return Err(Refusal::BadResource);
        }
        // What is always known is of that shape alone.
        let name = if well_known.is_none() { names.find(resource.name) } else { None };
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
}

/// True when each layer of a stack is for a role strictly below that of the layer before.
fn refines(layers: &Seq<'_, Reservation<'_>>) -> bool {
    let mut above: Option<&str> = None;
    layers.iter().all(|layer| {
        let fits = above.is_none_or(|above| is_below(layer.role, above));
        above = Some(layer.role);
        fits
    })
}

/// True when `role` is strictly below `above` in the tree of roles.
pub fn is_below(role: &str, above: &str) -> bool {
    role.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

pub(super) fn is_empty(value: &Value<'_>) -> bool {
    match value {
        Value::Scalar(amount) => *amount == Amount::ZERO,
        Value::Ranges(ranges) => ranges.is_empty(),
        Value::Set(items) => items.is_empty(),
    }
}

/// Nodes that a list needs at the most.
#[derive(Default)]
struct Need {
    parts: u32,
    idents: u32,
    layers: u32,
    names: bool,
}

impl Need {
    fn count(&mut self, pool: &Pool<'_>, names: &Names<'_>, resource: &Resource<'_>) {
        let place = well_known(resource);
        let parts = match resource.value {
            Value::Scalar(_) => u32::from(place.is_none_or(|place| place >= PLAIN)),
            Value::Ranges(ranges) => ranges.len(),
            Value::Set(items) => items.len(),
        };
        self.parts = self.parts.saturating_add(parts);
        // What is there already needs nothing, what comes twice is counted twice.
        if place.is_none() && pool.find(names, resource).is_none() {
            self.idents = self.idents.saturating_add(1);
            self.layers = self.layers.saturating_add(resource.traits.reservations.len());
            self.names = true;
        }
        self.names |= matches!(resource.value, Value::Set(_));
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

impl Image for Pool<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        self.idents.export(to);
        self.layers.export(to);
        self.parts.export(to);
        to.put(&self.kinds);
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        self.idents.import(from)?;
        self.layers.import(from)?;
        self.parts.import(from)?;
        self.kinds = from.take()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
