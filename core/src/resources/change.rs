//! Operations: how what resources are is changed (Mesos: `Resources::apply`, `ResourceConversion`).
//!
//! Each operation is a conversion: some amounts go, as many of the same kind come. A list is checked
//! by [`Pool::check_change`], which changes nothing, then [`Pool::change`] cannot fail.

use super::holding::Holding;
use super::ident::{Class, Form, Ident, IdentId, Less};
use super::pool::{Part, Pool, Shape, is_empty};
use crate::Refusal;
use crate::names::Names;
use crate::wire::resource::{DiskSource, Reservation, ReservationKind, Resource, Traits, Value};
use crate::wire::{Seq, check_id};

/// What is done to a list of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A layer is put on top of their reservations; the list says what they will be.
    Reserve,
    /// The innermost layer is taken off; the list says what they are.
    Unreserve,
    /// A persistent volume is made of reserved disk; the list says what it will be.
    Create,
    /// A persistent volume is destroyed; the list says what it is.
    Destroy,
    /// A volume takes in more disk: first the volume, then what it gets.
    Grow,
    /// A volume gives disk away: first the volume, then the disk that comes out of it.
    Shrink,
    /// What is reserved in one way is in another; the list says what it will be, and beside it stands
    /// what it is: [`Pool::check_move`].
    Move,
}

/// Why a list is none that a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misfit {
    /// Nothing is in it, or nothing of something.
    Nothing,
    /// The innermost reservation is none that an operation has made, or makes.
    NotReserved,
    /// What may be taken back at any time.
    Revocable,
    /// A volume, where only what is none is reserved or let go of.
    Volume,
    /// No volume.
    NoVolume,
    /// A volume is no number of anything.
    NoAmount,
    /// A volume of what is not reserved.
    Unreserved,
    /// A volume on a disk that has no directories.
    WholeDisk,
    /// A name of a volume, or of its place, that no directory has.
    BadName,
    /// Something else than disk grows or shrinks.
    NoDisk,
    /// A shared volume.
    Shared,
    /// A volume that is as large as its disk.
    Mount,
    /// The disk beside a volume is none that it could take in or give away.
    OtherDisk,
    /// A volume of which nothing would be left.
    NothingLeft,
    /// Both sides of a move do not differ in what operations have reserved, and in that alone.
    NoMove,
}

impl Misfit {
    /// The same for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Nothing => "an operation is about some resources, and about some of each",
            Self::NotReserved => "the resources are not dynamically reserved",
            Self::Revocable => "revocable resources are not reserved",
            Self::Volume => {
                "a persistent volume is not reserved or unreserved; destroy it first, and then \
                 unreserve its disk"
            }
            Self::NoVolume => "not a persistent volume: its disk has no persistence id",
            Self::NoAmount => "a persistent volume is an amount of disk",
            Self::Unreserved => "persistent volumes cannot be created from unreserved resources",
            Self::WholeDisk => "persistent volumes cannot be on disks of type RAW or BLOCK",
            Self::BadName => "a persistence id and a container path are names of directories",
            Self::NoDisk => "only persistent volumes of disk grow or shrink",
            Self::Shared => "shared persistent volumes do not grow or shrink",
            Self::Mount => "persistent volumes on disks of type MOUNT do not grow or shrink",
            Self::OtherDisk => {
                "the volume and the disk beside it must have one source, and the same reservations"
            }
            Self::NothingLeft => "a persistent volume must be larger than what it is shrunk by",
            Self::NoMove => {
                "'source' and 'resources' must be the same but for their dynamic reservations"
            }
        }
    }
}

/// Why `list`, and for a move `source` beside it, is none that a step is about; none: it is. O(list).
pub fn misfit(
    step: Step,
    source: &Seq<'_, Resource<'_>>,
    list: &Seq<'_, Resource<'_>>,
) -> Option<Misfit> {
    let nothing = |resource: Resource<'_>| is_empty(&resource.value);
    if list.is_empty() || list.iter().any(nothing) {
        return Some(Misfit::Nothing);
    }
    match step {
        Step::Move => {
            let moves = || source.iter().zip(list.iter()).all(|(a, b)| can_move(&a, &b));
            (source.len() != list.len() || !moves()).then_some(Misfit::NoMove)
        }
        Step::Grow | Step::Shrink => {
            list.iter().find_map(|one| misfit_of(step, &one)).or_else(|| misfit_sizes(step, list))
        }
        Step::Reserve | Step::Unreserve | Step::Create | Step::Destroy => {
            list.iter().find_map(|one| misfit_of(step, &one))
        }
    }
}

/// The same of one resource.
fn misfit_of(step: Step, resource: &Resource<'_>) -> Option<Misfit> {
    let traits = &resource.traits;
    let innermost = traits.reservations.iter().last();
    let dynamic = innermost.is_some_and(|layer| layer.kind == ReservationKind::Dynamic);
    let volume = traits.disk.filter(|disk| !disk.persistence.is_empty());
    let scalar = matches!(resource.value, Value::Scalar(_));
    let checks: [(bool, Misfit); 4] = match step {
        Step::Reserve | Step::Unreserve => [
            (traits.revocable, Misfit::Revocable),
            (volume.is_some(), Misfit::Volume),
            (!dynamic, Misfit::NotReserved),
            (false, Misfit::Nothing),
        ],
        Step::Create => {
            let whole = |source| matches!(source, DiskSource::Block | DiskSource::Raw);
            // Both are names of directories.
            let bad = |name: &str| check_id("disk", name).is_err();
            let Some(disk) = volume.filter(|_| scalar) else {
                return Some(if scalar { Misfit::NoVolume } else { Misfit::NoAmount });
            };
            [
                (innermost.is_none(), Misfit::Unreserved),
                (whole(disk.source), Misfit::WholeDisk),
                (bad(disk.persistence), Misfit::BadName),
                (bad(disk.container_path), Misfit::BadName),
            ]
        }
        Step::Destroy => [
            (volume.is_none(), Misfit::NoVolume),
            (!scalar, Misfit::NoAmount),
            (false, Misfit::Nothing),
            (false, Misfit::Nothing),
        ],
        // The volume, and the disk beside it.
        Step::Grow | Step::Shrink => [
            (resource.name != "disk", Misfit::NoDisk),
            (!scalar, Misfit::NoAmount),
            (traits.shared, Misfit::Shared),
            (false, Misfit::Nothing),
        ],
        // It takes two lists.
        Step::Move => return Some(Misfit::NoMove),
    };
    checks.into_iter().find_map(|(is, misfit)| is.then_some(misfit))
}

/// What goes and what comes. The holder of both is whoever asked for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// What there is no more.
    pub consumed: Holding,
    /// What there is instead.
    pub converted: Holding,
}

impl Pool<'_> {
    /// Checks that `list` can be changed by `step`: it is what such an operation is about, all of it
    /// is in the holdings `from` together, and [`Pool::change`] will have room. `total` is all that
    /// the agent has.
    ///
    /// `BadOperation` when it is not about such resources; `NotAvailable` when something is not in
    /// `from`; else as [`Pool::admit`]. O(list · (identities + total)).
    pub fn check_change(
        &self,
        names: &Names<'_>,
        step: Step,
        list: &Seq<'_, Resource<'_>>,
        from: &[Holding],
        total: Holding,
    ) -> Result<(), Refusal> {
        if step == Step::Move || misfit(step, &Seq::EMPTY, list).is_some() {
            return Err(Refusal::BadOperation);
        }
        for (place, resource) in list.iter().enumerate().filter(|_| step == Step::Create) {
            let again = |earlier: Resource<'_>| volume_of(&earlier) == volume_of(&resource);
            let known = self.volume_exists(names, total, &resource);
            if known || list.iter().take(place).any(again) {
                return Err(Refusal::Exists);
            }
        }
        let form = match step {
            Step::Reserve => Form::Unlayered,
            Step::Create => Form::Bare,
            Step::Unreserve | Step::Destroy | Step::Grow | Step::Shrink | Step::Move => Form::AsIs,
        };
        let there = match (step, list.first()) {
            (Step::Shrink, Some(volume)) => self.holds_whole(names, from, &volume),
            (Step::Grow, Some(volume)) => {
                self.holds_whole(names, from, &volume)
                    && list.iter().skip(1).all(|more| self.holds_some(names, from, &more))
            }
            _ => self.contains_as(names, from, list, form),
        };
        if !there {
            return Err(Refusal::NotAvailable);
        }
        self.admit(names, list)?;
        // As much again for what they come from or become, and a cut for each range.
        let parts = self.need(names, list).saturating_mul(4);
        if parts > self.room() {
            return Err(Refusal::ResourcesFull);
        }
        let (idents, layers) = self.ident_room();
        let (new, new_layers) = self.needs(names, step, list);
        if new > idents || new_layers > layers {
            return Err(Refusal::IdentitiesFull);
        }
        Ok(())
    }

    /// Identities and layers that a step may make. What makes more of them leaves one for what takes
    /// it back.
    fn needs(&self, names: &Names<'_>, step: Step, list: &Seq<'_, Resource<'_>>) -> (u32, u32) {
        let known = || list.iter().filter_map(|resource| self.find(names, &resource));
        match step {
            Step::Unreserve => self.needs_lessened(known, Less::Layer),
            Step::Destroy => self.needs_lessened(known, Less::Volume),
            Step::Reserve | Step::Create | Step::Grow | Step::Shrink | Step::Move => {
                let layers = list.iter().fold(0u32, |sum, resource| {
                    sum.saturating_add(resource.traits.reservations.len().saturating_mul(2))
                });
                (list.len().saturating_mul(2).saturating_add(1), layers.saturating_add(1))
            }
        }
    }

    /// True when the agent has a volume of that id in that role.
    fn volume_exists(&self, names: &Names<'_>, total: Holding, made: &Resource<'_>) -> bool {
        let (id, role) = volume_of(made);
        self.parts(total).filter_map(|part| self.ident(part.ident)).any(|ident| {
            ident.is_volume() && names.is(ident.disk.persistence, id) && names.is(ident.role, role)
        })
    }

    fn holds_whole(&self, names: &Names<'_>, from: &[Holding], volume: &Resource<'_>) -> bool {
        let Value::Scalar(amount) = volume.value else { return false };
        let id = self.find(names, volume);
        id.is_some_and(|id| from.iter().any(|from| self.amount_of(*from, id) == amount.milli()))
    }

    fn holds_some(&self, names: &Names<'_>, from: &[Holding], some: &Resource<'_>) -> bool {
        let Value::Scalar(amount) = some.value else { return false };
        let Some(id) = self.find(names, some) else { return false };
        let add = |sum: u64, from: &Holding| sum.saturating_add(self.amount_of(*from, id));
        from.iter().fold(0u64, add) >= amount.milli()
    }

    /// How much of an identity a holding has.
    pub(super) fn amount_of(&self, holding: Holding, id: IdentId) -> u64 {
        match id.plain_kind() {
            Some(kind) => holding.plain().get(kind).copied().unwrap_or(0),
            None => self.parts(holding).find(|part| part.ident == id).map_or(0, |part| part.end),
        }
    }

    /// Makes what a list that was checked is changed from and to. O(list · identities).
    pub fn change(
        &mut self,
        names: &mut Names<'_>,
        step: Step,
        list: &Seq<'_, Resource<'_>>,
    ) -> Conversion {
        let given = self.take(names, list);
        match step {
            Step::Reserve => {
                Conversion { consumed: self.derived(names, given, Less::Layer), converted: given }
            }
            Step::Unreserve => {
                Conversion { consumed: given, converted: self.derived(names, given, Less::Layer) }
            }
            Step::Create => {
                Conversion { consumed: self.derived(names, given, Less::Volume), converted: given }
            }
            Step::Destroy => {
                Conversion { consumed: given, converted: self.derived(names, given, Less::Volume) }
            }
            Step::Grow | Step::Shrink => self.resized(names, step, given, list),
            Step::Move => Conversion { consumed: Holding::EMPTY, converted: given },
        }
    }

    /// Checks that `source` can be reserved as `list` says instead: both are the same but for their
    /// reservations, of which no static one changes, all of it is in the holdings `from` together, and
    /// [`Pool::change_to`] will have room.
    ///
    /// Refuses as [`Pool::check_change`]. O(list · (identities + total)).
    pub fn check_move(
        &self,
        names: &Names<'_>,
        source: &Seq<'_, Resource<'_>>,
        list: &Seq<'_, Resource<'_>>,
        from: &[Holding],
    ) -> Result<(), Refusal> {
        if misfit(Step::Move, source, list).is_some() {
            return Err(Refusal::BadOperation);
        }
        if !self.contains_as(names, from, source, Form::AsIs) {
            return Err(Refusal::NotAvailable);
        }
        self.admit(names, list)?;
        let parts = self.need(names, list).saturating_add(self.need(names, source));
        if parts.saturating_mul(4) > self.room() {
            return Err(Refusal::ResourcesFull);
        }
        let (idents, layers) = self.ident_room();
        let (new, new_layers) = self.needs(names, Step::Move, list);
        if new > idents || new_layers > layers {
            return Err(Refusal::IdentitiesFull);
        }
        Ok(())
    }

    /// [`Pool::change`], and of a move that was checked what it moves. O(list · identities).
    pub fn change_to(
        &mut self,
        names: &mut Names<'_>,
        step: Step,
        source: &Seq<'_, Resource<'_>>,
        list: &Seq<'_, Resource<'_>>,
    ) -> Conversion {
        let consumed = self.take(names, source);
        let conversion = self.change(names, step, list);
        if step == Step::Move { Conversion { consumed, ..conversion } } else { conversion }
    }

    /// A volume with more disk, or less and the disk that comes out of it.
    fn resized(
        &mut self,
        names: &mut Names<'_>,
        step: Step,
        mut given: Holding,
        list: &Seq<'_, Resource<'_>>,
    ) -> Conversion {
        let (volume, other) = (list.first(), list.iter().nth(1));
        let (Some(volume), Some(other)) = (volume, other) else { return Conversion::default() };
        let (Value::Scalar(whole), Value::Scalar(some)) = (volume.value, other.value) else {
            return Conversion::default();
        };
        let (Some(id), Some(beside)) = (self.find(names, &volume), self.find(names, &other)) else {
            return Conversion::default();
        };
        let mut result = Conversion::default();
        if step == Step::Grow {
            let sum = whole.milli().saturating_add(some.milli());
            self.put_amount(names, &mut result.converted, id, sum);
            result.consumed = given;
        } else {
            let left = whole.milli().saturating_sub(some.milli());
            self.put_amount(names, &mut result.converted, id, left);
            self.put_amount(names, &mut result.converted, beside, some.milli());
            self.put_amount(names, &mut result.consumed, id, whole.milli());
            self.clear(names, &mut given);
        }
        result
    }

    /// A holding of as much of what each identity becomes.
    pub(super) fn derived(&mut self, names: &mut Names<'_>, of: Holding, less: Less) -> Holding {
        let mut holding = Holding::EMPTY;
        let mut next = of.head();
        while let Some(part) = self.parts.step(&mut next) {
            let Ok(ident) = self.lessened(names, part.ident, less) else {
                invariant!(false, "an operation that was checked finds no room");
                continue;
            };
            if part.shape == Shape::Scalar {
                self.put_amount(names, &mut holding, ident, part.end);
                continue;
            }
            self.held_by(ident, 1);
            if part.shape == Shape::Set {
                let held = names.hold(super::holding::item(part.begin));
                invariant!(held.is_ok(), "a name has more holders than there are parts");
            }
            self.put_part(names, &mut holding, Part { ident, ..part });
        }
        holding
    }

    /// Replaces what `conversion` consumes by what it makes, in a holding that has it. Both of the
    /// conversion's holdings stay as they are.
    pub fn apply(
        &mut self,
        names: &mut Names<'_>,
        to: &mut Holding,
        conversion: &Conversion,
    ) -> Result<(), Refusal> {
        let mut comes = self.copy(names, conversion.converted)?;
        if let Err(refusal) = self.take_out(names, to, conversion.consumed) {
            self.clear(names, &mut comes);
            return Err(refusal);
        }
        self.add(names, to, &mut comes);
        Ok(())
    }

    /// [`Pool::subtract`], of what is shared, too: it is no more.
    fn take_out(
        &mut self,
        names: &mut Names<'_>,
        from: &mut Holding,
        part: Holding,
    ) -> Result<(), Refusal> {
        self.subtract(names, from, part)?;
        let shared =
            |pool: &Self, id| pool.ident(id).is_some_and(|ident: Ident| ident.is(Class::SHARED));
        let (mut head, mut after, mut next) = (from.head(), 0, part.head());
        while let Some(part) = self.parts.step(&mut next) {
            if shared(self, part.ident) {
                let fewer = self.parts.cut(&mut head, &mut after, part);
                self.held_by(part.ident, fewer.saturating_neg());
            }
        }
        from.set_head(head);
        Ok(())
    }
}

/// A volume and disk of the same reservations and source, and something left of the volume.
fn misfit_sizes(step: Step, list: &Seq<'_, Resource<'_>>) -> Option<Misfit> {
    let mut items = list.iter();
    let (Some(volume), Some(disk), None) = (items.next(), items.next(), items.next()) else {
        return Some(Misfit::OtherDisk);
    };
    let (a, b) = (&volume.traits, &disk.traits);
    let (Value::Scalar(whole), Value::Scalar(some)) = (volume.value, disk.value) else {
        return Some(Misfit::NoAmount);
    };
    let Some(of) = a.disk.filter(|disk| !disk.persistence.is_empty()) else {
        return Some(Misfit::NoVolume);
    };
    if matches!(of.source, DiskSource::Mount | DiskSource::Block | DiskSource::Raw) {
        return Some(Misfit::Mount);
    }
    let beside = match b.disk {
        None => of.source == DiskSource::Root,
        Some(on) => on.persistence.is_empty() && (of.source, of.root) == (on.source, on.root),
    };
    if !beside || a.reservations != b.reservations || a.reservations.is_empty() {
        return Some(Misfit::OtherDisk);
    }
    let enough = step == Step::Grow || some.milli() < whole.milli();
    (!enough).then_some(Misfit::NothingLeft)
}

/// The same resource under another reservation: no layer that an agent's flags made is different, and
/// the innermost is none of those.
fn can_move(from: &Resource<'_>, to: &Resource<'_>) -> bool {
    let (old, new) = (from.traits.reservations, to.traits.reservations);
    let volume = from.traits.disk.is_some_and(|disk| !disk.persistence.is_empty());
    let plain = !volume && !from.traits.revocable && !from.traits.shared;
    let same = bare(from) == bare(to) && !is_empty(&from.value);
    let dynamic = |layer: Reservation<'_>| layer.kind == ReservationKind::Dynamic;
    let innermost = |stack: Seq<'_, Reservation<'_>>| stack.iter().last().is_some_and(dynamic);
    same && plain
        && old != new
        && innermost(old)
        && innermost(new)
        && only_dynamic(old, new)
        && only_dynamic(new, old)
}

/// True when what the first stack has beyond what both have is dynamic.
fn only_dynamic(stack: Seq<'_, Reservation<'_>>, other: Seq<'_, Reservation<'_>>) -> bool {
    let (mut others, mut common) = (other.iter(), true);
    stack.iter().all(|layer| {
        common = common && others.next().is_some_and(|other| other == layer);
        common || layer.kind == ReservationKind::Dynamic
    })
}

fn bare<'r>(of: &Resource<'r>) -> Resource<'r> {
    let traits = Traits { reservations: Seq::EMPTY, allocated_to: "", ..of.traits };
    Resource { traits, ..*of }
}

/// The id of a volume, and the role that it is for: there is one of each on an agent.
fn volume_of<'r>(of: &Resource<'r>) -> (&'r str, &'r str) {
    let id = of.traits.disk.map_or("", |disk| disk.persistence);
    (id, of.traits.reservations.iter().last().map_or("", |layer| layer.role))
}
