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
        if list.is_empty() || list.iter().any(|resource| is_empty(&resource.value)) {
            return Err(Refusal::BadOperation);
        }
        for (place, resource) in list.iter().enumerate() {
            self.check_step(names, step, &resource, total)?;
            let again = |earlier: Resource<'_>| volume_of(&earlier) == volume_of(&resource);
            if step == Step::Create && list.iter().take(place).any(again) {
                return Err(Refusal::Exists);
            }
        }
        if matches!(step, Step::Grow | Step::Shrink) {
            check_resize(step, list)?;
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

    /// What one resource must be for a step.
    fn check_step(
        &self,
        names: &Names<'_>,
        step: Step,
        resource: &Resource<'_>,
        total: Holding,
    ) -> Result<(), Refusal> {
        let traits = &resource.traits;
        let innermost = traits.reservations.iter().last();
        let dynamic = innermost.is_some_and(|layer| layer.kind == ReservationKind::Dynamic);
        let volume = traits.disk.is_some_and(|disk| !disk.persistence.is_empty());
        let scalar = matches!(resource.value, Value::Scalar(_));
        let fits = match step {
            Step::Reserve | Step::Unreserve => dynamic && !traits.revocable && !volume,
            Step::Create => {
                let made = traits.disk.filter(|_| volume && innermost.is_some() && scalar);
                made.is_some_and(|disk| {
                    let whole = matches!(disk.source, DiskSource::Block | DiskSource::Raw);
                    // Both are names of directories.
                    let names = [disk.persistence, disk.container_path];
                    !whole && names.iter().all(|name| check_id("disk", name).is_ok())
                })
            }
            Step::Destroy => volume && scalar,
            // It takes two lists.
            Step::Move => false,
            // The volume, and the disk beside it.
            Step::Grow | Step::Shrink => resource.name == "disk" && scalar && !traits.shared,
        };
        if !fits {
            return Err(Refusal::BadOperation);
        }
        if step == Step::Create && self.volume_exists(names, total, resource) {
            return Err(Refusal::Exists);
        }
        Ok(())
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
        let pairs = || source.iter().zip(list.iter());
        if list.is_empty() || source.len() != list.len() || !pairs().all(|(a, b)| can_move(&a, &b))
        {
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
fn check_resize(step: Step, list: &Seq<'_, Resource<'_>>) -> Result<(), Refusal> {
    let mut items = list.iter();
    let (Some(volume), Some(disk), None) = (items.next(), items.next(), items.next()) else {
        return Err(Refusal::BadOperation);
    };
    let (a, b) = (&volume.traits, &disk.traits);
    let (Value::Scalar(whole), Value::Scalar(some)) = (volume.value, disk.value) else {
        return Err(Refusal::BadOperation);
    };
    let is_volume = a.disk.is_some_and(|disk| {
        let fixed = matches!(disk.source, DiskSource::Mount | DiskSource::Block | DiskSource::Raw);
        !disk.persistence.is_empty() && !fixed
    });
    let beside = match (a.disk, b.disk) {
        (Some(of), None) => of.source == DiskSource::Root,
        (Some(of), Some(on)) => {
            on.persistence.is_empty() && (of.source, of.root) == (on.source, on.root)
        }
        (None, _) => false,
    };
    let same = a.reservations == b.reservations && !a.reservations.is_empty();
    let enough = step == Step::Grow || some.milli() < whole.milli();
    if is_volume && beside && same && enough { Ok(()) } else { Err(Refusal::BadOperation) }
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
