//! What operations have made of resources: what an agent keeps of them, and what they came from.
//!
//! An agent's own flags say what it has; dynamic reservations and volumes are what was made of some
//! of that. After a restart they are made again (Mesos: `applyCheckpointedResources`).

use super::change::Step;
use super::holding::Holding;
use super::ident::{IdentId, Less, bare_disk};
use super::pool::{Ident, Pool};
use crate::Refusal;
use crate::names::Names;
use crate::table::Full;
use crate::wire::call::Operation;
use crate::wire::resource::{ReservationKind, Resource, Traits, Value};
use crate::wire::{Scratch, Seq};

/// An operation as a step, and the list that it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned<'s> {
    /// Its id; empty = nobody wants to hear what becomes of it.
    pub id: &'s str,
    /// What is done.
    pub step: Step,
    /// To what: see [`Step`].
    pub list: Seq<'s, Resource<'s>>,
    /// What a move moves; else nothing.
    pub source: Seq<'s, Resource<'s>>,
}

impl<'s> Planned<'s> {
    /// What an operation comes to; none for launches. `memory` holds the list of those that do not
    /// bring one; [`Full`] when it is too small.
    pub fn of(operation: &Operation<'s>, memory: &'s mut [u8]) -> Result<Option<Self>, Full> {
        let listed = |step, change: &crate::wire::call::Change<'s>| {
            Ok(Some(Self { id: change.id, step, list: change.resources, source: Seq::EMPTY }))
        };
        let (id, step, volume, other) = match operation {
            Operation::Launch { .. } | Operation::LaunchGroup { .. } => return Ok(None),
            Operation::Reserve(change) => return listed(Step::Reserve, change),
            Operation::Unreserve(change) => return listed(Step::Unreserve, change),
            Operation::Create(change) => return listed(Step::Create, change),
            Operation::Destroy(change) => return listed(Step::Destroy, change),
            Operation::Move { id, source, resources } => {
                return Ok(Some(Self { id, step: Step::Move, list: *resources, source: *source }));
            }
            Operation::Grow { id, volume, addition } => (*id, Step::Grow, volume, *addition),
            Operation::Shrink { id, volume, subtract } => {
                let disk = bare_disk(volume.traits.disk);
                let traits = Traits { disk, shared: false, ..volume.traits };
                let value = Value::Scalar(*subtract);
                (*id, Step::Shrink, volume, Resource { name: volume.name, value, traits })
            }
        };
        let list = Scratch::new(memory).seq::<Resource<'static>>([*volume, other])?;
        Ok(Some(Self { id, step, list, source: Seq::EMPTY }))
    }
}

impl Pool<'_> {
    /// True for a volume, and for what an operation has reserved.
    pub fn is_made(&self, ident: &Ident) -> bool {
        let innermost = self.layers(ident).last();
        ident.is_volume() || innermost.is_some_and(|layer| layer.kind == ReservationKind::Dynamic)
    }

    /// True when a holding has anything of what `list` names. O(list · (identities + holding)).
    pub fn has_any(&self, names: &Names<'_>, held: Holding, list: &Seq<'_, Resource<'_>>) -> bool {
        !held.is_plain()
            && list.iter().any(|resource| {
                let ident = self.find(names, &resource);
                ident.is_some_and(|id| self.parts(held).any(|part| part.ident == id))
            })
    }

    /// A second holding of what operations have made of `total`. O(total).
    ///
    /// `ResourcesFull` when there is no room for it.
    pub fn made_of(&mut self, names: &mut Names<'_>, total: Holding) -> Result<Holding, Refusal> {
        let mut rest = self.copy(names, total)?;
        if self.parts_of(rest) > self.room() {
            self.clear(names, &mut rest);
            return Err(Refusal::ResourcesFull);
        }
        let is_made = |pool: &Self, ident: &Ident, amount| {
            if pool.is_made(ident) { amount } else { 0 }
        };
        let made = self.split(names, &mut rest, is_made);
        self.clear(names, &mut rest);
        Ok(made)
    }

    /// What `made` was before any operation: disk without volumes, only the reservations that an
    /// agent's flags have made. O(made · identities).
    ///
    /// `ResourcesFull` or `IdentitiesFull` when there is no room to say so.
    pub fn origins(&mut self, names: &mut Names<'_>, made: Holding) -> Result<Holding, Refusal> {
        if self.parts_of(made) > self.room() {
            return Err(Refusal::ResourcesFull);
        }
        let (idents, layers) = self.ident_room();
        let (new, of_new) = self.needs_lessened(|| self.idents_of(made), Less::Made);
        if new > idents || of_new > layers {
            return Err(Refusal::IdentitiesFull);
        }
        Ok(self.derived(names, made, Less::Made))
    }

    fn idents_of(&self, holding: Holding) -> impl Iterator<Item = IdentId> + '_ {
        self.parts(holding).map(|part| part.ident)
    }

    /// Replaces in `total`, which has no reservations but those of an agent's flags, what `made` came
    /// from by it. Takes over `made`.
    ///
    /// `NotAvailable` when the total has less than that; else as [`Pool::origins`]. `made` is cleared
    /// then, and the total as before.
    pub fn make_again(
        &mut self,
        names: &mut Names<'_>,
        total: &mut Holding,
        made: &mut Holding,
    ) -> Result<(), Refusal> {
        let taken = self.origins(names, *made).and_then(|mut origins| {
            let taken = self.subtract(names, total, origins);
            self.clear(names, &mut origins);
            let less = Refusal::AmountOutOfRange;
            taken.map_err(|refusal| if refusal == less { Refusal::NotAvailable } else { refusal })
        });
        match taken {
            Ok(()) => self.add(names, total, made),
            Err(_) => self.clear(names, made),
        }
        taken
    }

    /// The disk that volumes are on, as what it is when they are destroyed. Needs room for as many
    /// parts, and the identities; nothing where there is none.
    pub fn disk_of(&mut self, names: &mut Names<'_>, volumes: Holding) -> Holding {
        let (idents, layers) = self.ident_room();
        let (new, of_new) = self.needs_lessened(|| self.idents_of(volumes), Less::Volume);
        if self.parts_of(volumes) > self.room() || new > idents || of_new > layers {
            return Holding::EMPTY;
        }
        self.derived(names, volumes, Less::Volume)
    }

    /// Takes those volumes out of `from` that `of` has, too, of whatever size. O(from · of).
    pub fn subtract_volumes(&mut self, names: &mut Names<'_>, from: &mut Holding, of: Holding) {
        let others = |pool: &Self, ident: &Ident, amount| {
            let called = |of: &Ident| (of.disk.persistence, of.role);
            let same = |part: super::pool::Part| {
                pool.ident_ref(part.ident).is_some_and(|other| called(other) == called(ident))
            };
            if ident.is_volume() && !pool.parts(of).any(same) { amount } else { 0 }
        };
        let mut rest = *from;
        if self.parts_of(rest) <= self.room() {
            *from = self.split(names, &mut rest, others);
        } else {
            *from = Holding::EMPTY;
        }
        self.clear(names, &mut rest);
    }

    /// Writes what operations have made of a holding: see [`Pool::write`].
    pub fn write_made<'s>(
        &self,
        names: &Names<'_>,
        holding: Holding,
        to: &mut Scratch<'s>,
        inner: &mut [u8],
    ) -> Result<Seq<'s, Resource<'s>>, Full> {
        self.write_some(names, holding, "", to, inner, |ident| self.is_made(ident))
    }

    /// Writes the volumes of a holding: see [`Pool::write`].
    pub fn write_volumes<'s>(
        &self,
        names: &Names<'_>,
        holding: Holding,
        to: &mut Scratch<'s>,
        inner: &mut [u8],
    ) -> Result<Seq<'s, Resource<'s>>, Full> {
        self.write_some(names, holding, "", to, inner, Ident::is_volume)
    }
}
