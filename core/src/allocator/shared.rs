//! Volumes that several use at once: always free for another, charged once to whoever has any.
//!
//! Every offer, task and executor that has a shared volume counts as a copy of it. A client is
//! charged for it from the first copy to the last, and so is every role above from the first copy
//! below it (Mesos: `DRFSorter`, shared resources). A client that has it in an unanswered offer is
//! not offered it again, and nobody is offered what somebody else got in the same round.

use super::quota::Sign;
use super::{Allocator, World};
use crate::names::{Name, Names};
use crate::resources::Holding;
use crate::resources::pool::{Class, Ident, IdentId};

record! {
    /// A client's copies of a shared volume of an agent.
    pub struct Claim {
        /// The client's node.
        pub client: u32,
        /// In offers that are not answered.
        pub offered: u32,
        /// With tasks and executors.
        pub used: u32,
        /// Which volume, and what it is called.
        pub ident: IdentId,
        name: Name,
        kind: u8,
        /// Its size.
        milli: u64,
    }
}

impl<'a> Allocator<'a> {
    /// An offer of shared volumes was made. O(claims on the agent · depth).
    pub(super) fn claim_offered(
        &mut self,
        world: &World<'_, 'a>,
        agent: u32,
        client: u32,
        held: Holding,
    ) {
        self.for_shared(world, agent, client, held, |claim| {
            claim.offered = claim.offered.saturating_add(1);
        });
    }

    /// A task or an executor has what `held` has of shared volumes.
    pub fn claim_used(&mut self, world: &World<'_, 'a>, agent: u32, client: u32, held: Holding) {
        self.for_shared(world, agent, client, held, |claim| {
            claim.used = claim.used.saturating_add(1);
        });
    }

    /// An offer is no more.
    pub(super) fn release_offered(
        &mut self,
        world: &World<'_, 'a>,
        agent: u32,
        client: u32,
        held: Holding,
    ) {
        self.for_shared(world, agent, client, held, |claim| {
            claim.offered = claim.offered.saturating_sub(1);
        });
    }

    pub(super) fn release_used(
        &mut self,
        world: &World<'_, 'a>,
        agent: u32,
        client: u32,
        held: Holding,
    ) {
        self.for_shared(world, agent, client, held, |claim| {
            claim.used = claim.used.saturating_sub(1);
        });
    }

    /// True when a client has a shared volume in an offer that it has not answered.
    pub(super) fn is_offered(&self, agent: u32, client: u32, ident: &Ident) -> bool {
        let claims = self.agents.get(agent as usize).map(|row| row.claims).unwrap_or_default();
        self.claims.iter(claims).any(|claim| {
            claim.client == client && claim.name == ident.disk.persistence && claim.offered > 0
        })
    }

    /// How many copies of a shared volume there are, with whomever.
    pub fn copies(&self, agent: u32, ident: IdentId) -> u32 {
        let claims = self.agents.get(agent as usize).map(|row| row.claims).unwrap_or_default();
        self.claims
            .iter(claims)
            .filter(|claim| claim.ident == ident)
            .fold(0u32, |sum, claim| sum.saturating_add(claim.offered).saturating_add(claim.used))
    }

    /// Copies that can still be counted.
    pub fn claims_room(&self) -> u32 {
        self.claims.room()
    }

    fn for_shared(
        &mut self,
        world: &World<'_, 'a>,
        agent: u32,
        client: u32,
        held: Holding,
        change: impl Fn(&mut Claim),
    ) {
        if held.is_plain() {
            return;
        }
        for part in world.pool.parts(held) {
            let shared = world.pool.ident(part.ident).filter(|ident| ident.is(Class::SHARED));
            if let Some(ident) = shared {
                let claim = Claim {
                    client,
                    ident: part.ident,
                    name: ident.disk.persistence,
                    kind: ident.kind,
                    milli: part.end,
                    ..bytemuck::Zeroable::zeroed()
                };
                self.claim(world.names, agent, claim, &change);
            }
        }
    }

    fn claim(&mut self, names: &Names<'a>, agent: u32, new: Claim, change: &impl Fn(&mut Claim)) {
        let Some(row) = self.agents.get(agent as usize) else { return };
        let mut claims = row.claims;
        let same = |claim: &Claim| (claim.client, claim.ident) == (new.client, new.ident);
        let known = self.claims.iter(claims).any(|claim| same(&claim));
        if !known {
            let mut first = new;
            change(&mut first);
            if first.offered.saturating_add(first.used) == 0 {
                return;
            }
            if self.claims.push(&mut claims, first).is_err() {
                invariant!(false, "a shared volume is given without room to count it");
                return;
            }
            self.charge_claim(names, agent, &first, Sign::More);
        } else {
            self.claims.for_each(claims, |claim| {
                if same(claim) {
                    change(claim);
                }
            });
            let mut gone = None;
            self.claims.retain(&mut claims, |claim| {
                let keep = claim.offered.saturating_add(claim.used) > 0;
                gone = if keep { gone } else { Some(*claim) };
                keep
            });
            if let Some(gone) = gone {
                self.set_claims(agent, claims);
                self.charge_claim(names, agent, &gone, Sign::Less);
            }
        }
        self.set_claims(agent, claims);
    }

    fn set_claims(&mut self, agent: u32, claims: crate::slab::List) {
        if let Some(row) = self.agents.get_mut(agent as usize) {
            row.claims = claims;
        }
    }

    /// Charges the client, and those above it up to the first that has another copy below it.
    fn charge_claim(&mut self, names: &Names<'a>, agent: u32, claim: &Claim, sign: Sign) {
        let claims = self.agents.get(agent as usize).map(|row| row.claims).unwrap_or_default();
        let mut at = Some(claim.client);
        while let Some(slot) = at {
            let others = self.claims.iter(claims).any(|other| {
                other.ident == claim.ident
                    && other.client != claim.client
                    && self.is_under(other.client, slot)
            });
            if others {
                return;
            }
            at = self.nodes.row(slot).and_then(super::Node::above);
            self.walk_one(names, slot, |allocated, _| match sign {
                Sign::More => allocated.add(claim.kind, claim.milli),
                Sign::Less => allocated.subtract(claim.kind, claim.milli),
            });
        }
    }

    fn is_under(&self, mut below: u32, above: u32) -> bool {
        loop {
            if below == above {
                return true;
            }
            match self.nodes.row(below).and_then(super::Node::above) {
                Some(next) => below = next,
                None => return false,
            }
        }
    }
}
