//! What resources are: identities, interned and counted, and how one becomes another.

use super::holding::PLAIN;
use super::pool::{Pool, WELL_KNOWN, well_known};
use crate::limits::KINDS_MAX;
use crate::names::{Name, Names};
use crate::slab::List;
use crate::table::{Full, Id};
use crate::wire::resource::{Disk, DiskSource, Reservation, ReservationKind, Resource, Value};

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
        /// The innermost role that it is reserved for; empty = anyone's.
        pub role: Name,
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
        /// What decides who may have it, and how much.
        pub class: Class,
        /// Parts of it, anywhere.
        pub(super) holders: u32,
    }

    /// Which disk a disk resource is.
    pub struct DiskIdent {
        /// True when the resource says anything of a disk.
        pub given: bool,
        /// What kind of disk.
        pub source: DiskSource,
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
        /// By the agent's flags, or by an operation.
        pub kind: ReservationKind,
    }

    /// An identity: its row's index + 1. It lives while anybody holds some of it.
    #[derive(PartialOrd, Ord)]
    pub struct IdentId {
        place: u16,
    }

    /// Traits of an identity, or of several: bits.
    #[derive(Default)]
    pub struct Class {
        bits: u8,
    }

    /// A name of a scalar resource, and how many identities have it.
    pub(super) struct Kind {
        pub(super) name: Name,
        pub(super) idents: u32,
    }
}

impl Class {
    /// Anyone's, the agent's own to give, for one at a time.
    pub const NONE: Self = Self { bits: 0 };
    /// Reserved for a role.
    pub const RESERVED: Self = Self { bits: 1 };
    /// May be taken back.
    pub const REVOCABLE: Self = Self { bits: 2 };
    /// May be used by several at once.
    pub const SHARED: Self = Self { bits: 4 };
    /// Reserved by more than one layer.
    pub const REFINED: Self = Self { bits: 8 };
    /// Only whole: a mounted disk, a device, a volume.
    pub const WHOLE: Self = Self { bits: 16 };
    /// No amount.
    pub const SPAN: Self = Self { bits: 32 };
    /// All of them.
    pub const ALL: Self = Self { bits: 63 };

    /// Those of either.
    pub const fn or(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits }
    }

    /// Those of both.
    pub const fn and(self, other: Self) -> Self {
        Self { bits: self.bits & other.bits }
    }

    /// Those that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self { bits: self.bits & !other.bits }
    }

    /// True when `other` is among them.
    pub const fn has(self, other: Self) -> bool {
        self.bits & other.bits == other.bits
    }
}

impl IdentId {
    /// The first kind's number when it is plain and stands in holdings themselves.
    pub(super) fn plain_kind(self) -> Option<usize> {
        let kind = usize::from(self.place).checked_sub(1)?;
        (kind < PLAIN).then_some(kind)
    }

    /// The identity of what stands in holdings themselves.
    pub(super) fn of_plain(kind: u8) -> Self {
        Self { place: u16::from(kind).saturating_add(1) }
    }

    pub(super) fn index(self) -> Option<u32> {
        u32::from(self.place).checked_sub(1)
    }

    /// True for the identities that always exist.
    pub(super) fn is_well_known(self) -> bool {
        usize::from(self.place) <= WELL_KNOWN.len()
    }
}

impl Ident {
    /// True when all of `class` is said of it.
    pub const fn is(&self, class: Class) -> bool {
        self.class.has(class)
    }

    /// An amount that is anyone's to keep: what quota is about.
    pub const fn is_open(&self) -> bool {
        let but = Class::RESERVED.or(Class::REVOCABLE).or(Class::SPAN);
        self.class.and(but).bits == 0
    }

    /// True for a persistent volume.
    pub const fn is_volume(&self) -> bool {
        !self.disk.persistence.is_empty()
    }

    fn class_of(&self) -> Class {
        let d = &self.disk;
        let exclusive = match d.source {
            DiskSource::Mount | DiskSource::Block => true,
            DiskSource::Raw => !d.id.is_empty(),
            DiskSource::Root | DiskSource::Path => false,
        };
        let whole = d.given && (exclusive || !d.persistence.is_empty());
        let mut class = self.class.and(Class::REVOCABLE.or(Class::SHARED).or(Class::REFINED));
        for (is, one) in [
            (!self.role.is_empty(), Class::RESERVED),
            (whole, Class::WHOLE),
            (self.shape != Shape::Scalar, Class::SPAN),
        ] {
            class = if is { class.or(one) } else { class };
        }
        class
    }
}

/// What an identity may be without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Less {
    /// The innermost of its reservations.
    Layer,
    /// The volume that it is: the disk that it is on stays.
    Volume,
    /// Everything that operations have made: only reservations of an agent's flags stay.
    Made,
}

impl DiskIdent {
    /// The disk that a volume is on.
    fn bare(self) -> Self {
        let none = Name::EMPTY;
        match self.source {
            DiskSource::Root => bytemuck::Zeroable::zeroed(),
            DiskSource::Path | DiskSource::Mount | DiskSource::Block | DiskSource::Raw => {
                Self { persistence: none, principal: none, container_path: none, ..self }
            }
        }
    }
}

impl Pool<'_> {
    /// What an identity is.
    pub fn ident(&self, id: IdentId) -> Option<Ident> {
        self.ident_ref(id).copied()
    }

    pub(super) fn ident_ref(&self, id: IdentId) -> Option<&Ident> {
        self.idents.row(id.index()?)
    }

    /// The identity of what stands in holdings themselves.
    pub(super) fn plain_ident(&self, kind: u8) -> &Ident {
        const MISSING: &Ident = &<Ident as crate::record::Zero>::ZERO;
        let ident = self.idents.row(kind.into());
        invariant!(ident.is_some(), "a well-known identity is gone");
        ident.unwrap_or(MISSING)
    }

    /// The layers of an identity, the outermost first.
    pub fn layers(&self, ident: &Ident) -> impl Iterator<Item = Layer> + Clone + '_ {
        self.layers.iter(ident.reservations)
    }

    /// The identity of a resource, if it exists.
    pub(super) fn find(&self, names: &Names<'_>, resource: &Resource<'_>) -> Option<IdentId> {
        if let Some(known) = well_known(resource) {
            return Some(IdentId { place: u16::try_from(known).ok()?.saturating_add(1) });
        }
        self.find_as(names, resource, Form::AsIs)
    }

    /// The identity of what a resource comes from, if it exists.
    pub(super) fn find_as(
        &self,
        names: &Names<'_>,
        resource: &Resource<'_>,
        form: Form,
    ) -> Option<IdentId> {
        let name = names.find(resource.name)?;
        let is = |ident: &Ident| ident.name == name && self.is_of(names, ident, resource, form);
        self.idents.find(is).and_then(|(id, _)| ident_id(id))
    }

    fn is_of(&self, names: &Names<'_>, ident: &Ident, r: &Resource<'_>, form: Form) -> bool {
        let traits = &r.traits;
        let shared = traits.shared && form != Form::Bare;
        let flags = (ident.is(Class::REVOCABLE), ident.is(Class::SHARED));
        let layers = traits.reservations.len();
        let compared = if form == Form::Unlayered { layers.saturating_sub(1) } else { layers };
        let mut layers = self.layers.iter(ident.reservations);
        let mut wires = traits.reservations.iter().take(compared as usize);
        flags == (traits.revocable, shared)
            && names.is(ident.provider, traits.provider)
            && disk_is(names, &ident.disk, bare(traits.disk, form))
            && wires.all(|wire| layers.next().is_some_and(|layer| layer_is(names, &layer, &wire)))
            && layers.next().is_none()
    }

    /// The identity of a resource, made if need be.
    pub(super) fn find_or_intern(
        &mut self,
        names: &mut Names<'_>,
        r: &Resource<'_>,
    ) -> Result<IdentId, Full> {
        if let Some(known) = self.find(names, r) {
            return Ok(known);
        }
        let shape = shape_of(&r.value);
        let name = names.intern(r.name)?;
        let mut reservations = List::EMPTY;
        let mut role = Name::EMPTY;
        for wire in r.traits.reservations.iter() {
            let layer = Layer {
                role: names.intern(wire.role)?,
                principal: names.intern(wire.principal)?,
                labels: names.intern(wire.labels)?,
                kind: wire.kind,
            };
            role = layer.role;
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
        let provider = names.intern(r.traits.provider)?;
        let mut class = Class::NONE;
        for (is, one) in [
            (r.traits.revocable, Class::REVOCABLE),
            (r.traits.shared, Class::SHARED),
            (r.traits.reservations.len() > 1, Class::REFINED),
        ] {
            class = if is { class.or(one) } else { class };
        }
        let kind = if shape == Shape::Scalar { self.kind_for(name).ok_or(Full)? } else { 0 };
        let ident =
            Ident { name, role, reservations, disk, provider, shape, kind, class, holders: 0 };
        self.insert_ident(Ident { class: ident.class_of(), ..ident })
    }

    fn insert_ident(&mut self, ident: Ident) -> Result<IdentId, Full> {
        let id = self.idents.insert(ident)?;
        self.count_kind(ident.shape, ident.kind, 1);
        ident_id(id).ok_or(Full)
    }

    /// The identity that `of` becomes by less; made if need be. Every name that it has is held
    /// already, by the identity it comes from.
    pub(super) fn lessened(
        &mut self,
        names: &mut Names<'_>,
        of: IdentId,
        less: Less,
    ) -> Result<IdentId, Full> {
        let (like, kept) = self.ident(of).map(|ident| self.less(&ident, less)).ok_or(Full)?;
        if let Some(id) = self.alike(&like, kept) {
            return Ok(id);
        }
        let mut reservations = List::EMPTY;
        let mut left = like.reservations;
        for _ in 0..kept {
            let Some(layer) = self.layers.step(&mut left) else { break };
            self.push_layer(names, &mut reservations, layer)?;
        }
        for name in names_of(&like) {
            names.hold(name)?;
        }
        self.insert_ident(Ident { reservations, holders: 0, ..like })
    }

    /// Identities and layers that [`Pool::lessened`] makes of all of `ids`. O(ids² + ids ·
    /// identities).
    pub(super) fn needs_lessened<I: Iterator<Item = IdentId>>(
        &self,
        ids: impl Fn() -> I,
        less: Less,
    ) -> (u32, u32) {
        let each = || ids().filter_map(|id| self.ident(id)).map(|ident| self.less(&ident, less));
        let (mut idents, mut layers) = (0u32, 0u32);
        for (place, (like, kept)) in each().enumerate() {
            let mut before = each().take(place);
            let again = before.any(|(other, of_it)| self.same(&like, kept, &other, of_it));
            if !again && self.alike(&like, kept).is_none() {
                idents = idents.saturating_add(1);
                layers = layers.saturating_add(u32::try_from(kept).unwrap_or(u32::MAX));
            }
        }
        (idents, layers)
    }

    /// What `ident` is like with less, and how many of its layers that has.
    fn less(&self, ident: &Ident, less: Less) -> (Ident, usize) {
        let all = || self.layers.iter(ident.reservations);
        let count = all().fold(0usize, |n, _| n.saturating_add(1));
        let kept = match less {
            Less::Layer => count.saturating_sub(1),
            Less::Volume => count,
            Less::Made => all()
                .take_while(|layer| layer.kind == ReservationKind::Static)
                .fold(0usize, |n, _| n.saturating_add(1)),
        };
        let role = all().take(kept).last().map_or(Name::EMPTY, |layer| layer.role);
        let disk = if less == Less::Layer { ident.disk } else { ident.disk.bare() };
        let shared = if less == Less::Layer { Class::SHARED } else { Class::NONE };
        let refined = if kept > 1 { Class::REFINED } else { Class::NONE };
        let class = ident.class.and(Class::REVOCABLE.or(shared)).or(refined);
        let like = Ident { role, disk, class, ..*ident };
        (Ident { class: like.class_of(), ..like }, kept)
    }

    /// The identity that there is like `like`, with the first `kept` of its layers.
    fn alike(&self, like: &Ident, kept: usize) -> Option<IdentId> {
        let same = |ident: &Ident| self.same(like, kept, ident, usize::MAX);
        self.idents.find(same).and_then(|(id, _)| ident_id(id))
    }

    fn same(&self, one: &Ident, kept: usize, other: &Ident, of_other: usize) -> bool {
        let compared = |disk: &DiskIdent| DiskIdent { container_path: Name::EMPTY, ..*disk };
        one.name == other.name
            && (one.shape, one.class) == (other.shape, other.class)
            && one.provider == other.provider
            && compared(&one.disk) == compared(&other.disk)
            && self
                .layers
                .iter(one.reservations)
                .take(kept)
                .eq(self.layers.iter(other.reservations).take(of_other))
    }

    fn push_layer(
        &mut self,
        names: &mut Names<'_>,
        list: &mut List,
        layer: Layer,
    ) -> Result<(), Full> {
        for name in [layer.role, layer.principal, layer.labels] {
            names.hold(name)?;
        }
        self.layers.push(list, layer)
    }

    /// The number of the kind called `name`, taken anew if there is none.
    pub(super) fn kind_for(&mut self, name: Name) -> Option<u8> {
        let known = self.kinds.iter().position(|kind| kind.idents > 0 && kind.name == name);
        let at = known.or_else(|| self.kinds.iter().position(|kind| kind.idents == 0))?;
        self.kinds.get_mut(at)?.name = name;
        u8::try_from(at).ok()
    }

    pub(super) fn count_kind(&mut self, shape: Shape, kind: u8, by: i32) {
        if let Some(kind) = self.kinds.get_mut(usize::from(kind))
            && shape == Shape::Scalar
        {
            kind.idents = kind.idents.saturating_add_signed(by);
        }
    }

    /// Parts of an identity came or went.
    pub(super) fn held_by(&mut self, id: IdentId, by: i32) {
        let Some(index) = id.index() else { return };
        if let Some(ident) = self.idents.row_mut(index) {
            let holders = ident.holders.checked_add_signed(by);
            invariant!(holders.is_some(), "an identity has fewer holders than let go of it");
            ident.holders = holders.unwrap_or(0);
        }
    }

    /// Forgets an identity that nobody holds any more.
    pub(super) fn forget_unheld(&mut self, names: &mut Names<'_>, id: IdentId) {
        let Some(index) = id.index() else { return };
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
        for name in names_of(&ident) {
            names.release_one(name);
        }
    }

    /// The number of a kind, if anything of it exists.
    pub fn kind(&self, names: &Names<'_>, name: &str) -> Option<u8> {
        let name = names.find(name)?;
        self.kind_of(name)
    }

    /// The number of the kind of a name, if anything of it exists.
    pub fn kind_of(&self, name: Name) -> Option<u8> {
        (0u8..).zip(self.kinds).find(|(_, kind)| kind.name == name && kind.idents > 0).map(|k| k.0)
    }

    /// The name of a kind, by its number.
    pub fn kind_name(&self, kind: u8) -> Name {
        self.kinds.get(usize::from(kind)).map_or(Name::EMPTY, |kind| kind.name)
    }

    /// Kinds that can still be taken.
    pub fn kinds_room(&self) -> usize {
        let taken = self.kinds.iter().filter(|kind| kind.idents > 0);
        KINDS_MAX.saturating_sub(taken.fold(0usize, |n, _| n.saturating_add(1)))
    }
}

impl Layer {
    pub(super) fn names(&self) -> [Name; 3] {
        [self.role, self.principal, self.labels]
    }
}

impl DiskIdent {
    pub(super) fn names(&self) -> [Name; 7] {
        let d = self;
        [d.root, d.id, d.profile, d.vendor, d.persistence, d.principal, d.container_path]
    }
}

/// Every name that an identity holds beside those of its layers.
fn names_of(ident: &Ident) -> impl Iterator<Item = Name> + use<> {
    [ident.name, ident.provider].into_iter().chain(ident.disk.names())
}

/// Which identity of a resource is meant: its own, or that of what an operation makes it from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Its own.
    AsIs,
    /// Without the innermost reservation.
    Unlayered,
    /// Without the volume on it.
    Bare,
}

fn bare(disk: Option<Disk<'_>>, form: Form) -> Option<Disk<'_>> {
    if form == Form::Bare { bare_disk(disk) } else { disk }
}

/// The disk that a volume is on, as what it was before.
pub(super) fn bare_disk(disk: Option<Disk<'_>>) -> Option<Disk<'_>> {
    let disk = disk.filter(|disk| disk.source != DiskSource::Root);
    disk.map(|disk| Disk { persistence: "", principal: "", container_path: "", ..disk })
}

fn layer_is(names: &Names<'_>, layer: &Layer, wire: &Reservation<'_>) -> bool {
    layer.kind == wire.kind
        && names.is(layer.role, wire.role)
        && names.is(layer.principal, wire.principal)
        && names.is(layer.labels, wire.labels)
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

pub(super) const fn shape_of(value: &Value<'_>) -> Shape {
    match value {
        Value::Scalar(_) => Shape::Scalar,
        Value::Ranges(_) => Shape::Ranges,
        Value::Set(_) => Shape::Set,
    }
}

fn ident_id(id: Id) -> Option<IdentId> {
    u16::try_from(id.index.saturating_add(1)).ok().map(|place| IdentId { place })
}

impl Pool<'_> {
    /// Keeps the kind of a name, made if need be: somebody speaks of it though nobody may have any.
    pub fn hold_kind(&mut self, names: &mut Names<'_>, name: &str) -> Option<u8> {
        let name = names.intern(name).ok()?;
        let Some(kind) = self.kind_for(name) else {
            names.release_one(name);
            return None;
        };
        self.count_kind(Shape::Scalar, kind, 1);
        Some(kind)
    }

    /// Lets go of a kind that was kept.
    pub fn release_kind(&mut self, names: &mut Names<'_>, kind: u8) {
        names.release_one(self.kind_name(kind));
        self.count_kind(Shape::Scalar, kind, -1);
    }

    /// True unless a name is that of ranges or sets.
    pub fn is_scalar(&self, names: &Names<'_>, name: &str) -> bool {
        let known = WELL_KNOWN.iter().find(|(known, _)| *known == name);
        let shape = known.map(|(_, shape)| *shape).or_else(|| {
            let name = names.find(name)?;
            self.idents.find(|ident| ident.name == name).map(|(_, ident)| ident.shape)
        });
        shape.is_none_or(|shape| shape == Shape::Scalar)
    }
}
