//! What agents have: all of it, what is free, and what comes back.
//!
//! The free resources of an agent are its own; what is granted is the receiver's until it comes
//! back through [`Allocator::recover`]. Whoever has something is charged for it, and all roles above.

use super::node::NodeKind;
use super::quota::Sign;
use super::{Allocator, World};
use crate::Refusal;
use crate::index::Chain;
use crate::limits::KINDS_MAX;
use crate::names::Names;
use crate::resources::change::Conversion;
use crate::resources::pool::{Class, GPUS, Ident};
use crate::resources::quantities::{Kinds, SUM_MAX};
use crate::resources::{Holding, Pool, Quantities};
use crate::slab::List;
use crate::time::Time;

choice! {
    /// Why an agent may not be offered. Several may hold at once.
    pub enum Bar {
        /// Its session is over, or not yet confirmed.
        Away = 0,
        /// An operator wants nothing new on it.
        Deactivated = 1,
        /// It is being emptied.
        Draining = 2,
        /// As many offers of it are outstanding as may be.
        Crowded = 3,
        /// It is not on the operator's list.
        Unlisted = 4,
        /// It ends its tasks and goes.
        Leaving = 5,
    }
}

impl Bar {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 6] = [
        Self::Away,
        Self::Leaving,
        Self::Deactivated,
        Self::Draining,
        Self::Crowded,
        Self::Unlisted,
    ];

    const fn bit(self) -> u8 {
        1u8.wrapping_shl(self as u32)
    }
}

record! {
    /// What the allocator knows of an agent. 120 bytes.
    pub struct AgentRow {
        /// All it has.
        pub total: Holding,
        /// What nobody uses and nobody was offered.
        pub free: Holding,
        /// What the clients in its set of refusals refused.
        pub refused: Holding,
        /// When it last gave something.
        pub last_at: Time,
        /// Refusals of other things, or for another time.
        pub filters: Chain,
        /// Clients of its shared volumes.
        pub claims: List,
        /// The client that got its resources last: node + 1, for `explain`.
        pub last_winner: u32,
        /// What is used beyond what it has: a list of parts.
        pub debt: u32,
        /// Clients in its set of refusals.
        pub refusers: u32,
        /// Reasons not to offer it: bits of [`Bar`].
        bars: u8,
        /// It was added.
        pub known: bool,
        /// It has GPUs.
        pub gpus: bool,
        /// It is in another region than the master.
        pub remote: bool,
        /// It has something that may be taken back.
        revocable: bool,
        /// What is free is plain amounts, and spans that are anyone's.
        pub simple: bool,
        /// A shared volume of it was offered to somebody in this round.
        pub lent: bool,
    }
}

impl AgentRow {
    /// True when it may be offered.
    pub const fn is_active(&self) -> bool {
        self.bars == 0
    }

    /// True when `bar` keeps it from being offered.
    pub const fn is_barred(&self, bar: Bar) -> bool {
        self.bars & bar.bit() != 0
    }
}

/// What a client is charged for: thousandths of a few kinds.
#[derive(Clone, Debug, Default)]
pub struct Charge {
    /// Kinds there is something of.
    pub kinds: Kinds,
    all: [u64; KINDS_MAX],
    /// What of it is anyone's and to keep: quota is about that.
    open: [u64; KINDS_MAX],
}

impl Charge {
    /// What a holding comes to, its shared volumes left out.
    pub fn of(pool: &Pool<'_>, held: Holding) -> Self {
        let mut charge = Self::default();
        if held.is_plain() {
            for (kind, amount) in (0u8..).zip(held.plain()) {
                charge.add(kind, amount, amount);
            }
            return charge;
        }
        pool.for_each(held, |ident, amount| {
            if !ident.is(Class::SPAN) && !ident.is(Class::SHARED) {
                charge.add(ident.kind, amount, open(ident, amount));
            }
        });
        charge
    }

    fn add(&mut self, kind: u8, all: u64, open: u64) {
        if all == 0 {
            return;
        }
        self.kinds.insert(kind);
        let place = usize::from(kind);
        if let (Some(sum), Some(of)) = (self.all.get_mut(place), self.open.get_mut(place)) {
            *sum = sum.saturating_add(all);
            *of = of.saturating_add(open);
        }
    }

    /// Thousandths of a kind.
    pub fn of_kind(&self, kind: u8) -> u64 {
        self.all.get(usize::from(kind)).copied().unwrap_or(0)
    }

    /// What of them is anyone's and to keep.
    pub fn open_of(&self, kind: u8) -> u64 {
        self.open.get(usize::from(kind)).copied().unwrap_or(0)
    }
}

/// What quota is about of an amount.
pub(super) fn open(ident: &Ident, amount: u64) -> u64 {
    if ident.is_open() { amount } else { 0 }
}

impl<'a> Allocator<'a> {
    /// Adds an agent, which may be offered. It takes over both holdings. What it reserves must have
    /// room: [`Allocator::has_room_for_agent`]. O(parts + depth of the roles it reserves for).
    pub fn add_agent(
        &mut self,
        world: &mut World<'_, 'a>,
        agent: u32,
        remote: bool,
        total: Holding,
        free: Holding,
    ) {
        let bars = if self.is_listed(agent) { 0 } else { Bar::Unlisted.bit() };
        let Some(row) = self.agents.get_mut(agent as usize) else { return };
        invariant!(!row.known, "an agent is added twice");
        (row.known, row.bars, row.remote, row.lent) = (true, bars, remote, false);
        (row.last_winner, row.last_at) = (0, Time(0));
        (row.total, row.free) = (total, free);
        self.count_total(world, agent, total, Sign::More);
        self.count_free(world.pool, agent, Sign::More);
        self.refresh(world.pool, agent);
        self.mark(agent);
    }

    /// Whether an agent with `quantities` more can be counted. `AmountOutOfRange` when the cluster
    /// would have more than 2^54 thousandths of something.
    pub fn has_room_for_agent(&self, quantities: &Quantities) -> Result<(), Refusal> {
        let charged = self.nodes.row(self.state.root).map(|root| root.allocated);
        let charged = charged.unwrap_or_default();
        let fits = quantities.iter().all(|(kind, milli)| {
            let most = self.totals.amounts.of(kind).max(charged.of(kind));
            most.saturating_add(milli) <= SUM_MAX
        });
        if fits { Ok(()) } else { Err(Refusal::AmountOutOfRange) }
    }

    /// Removes an agent, with its filters unless they are to be kept for its return. Whoever has
    /// something of it is charged until that comes back. O(filters of the agent).
    pub fn remove_agent(&mut self, world: &mut World<'_, 'a>, agent: u32, keep_filters: bool) {
        if !keep_filters {
            self.forget_refusals(world, agent);
        }
        let Some(row) = self.agent(agent).copied() else { return };
        self.count_free(world.pool, agent, Sign::Less);
        self.count_total(world, agent, row.total, Sign::Less);
        let (mut total, mut free, mut debt) = (row.total, row.free, row.debt);
        if let Some(row) = self.agents.get_mut(agent as usize) {
            (row.known, row.debt) = (false, 0);
            (row.total, row.free) = (Holding::EMPTY, Holding::EMPTY);
        }
        world.pool.clear(world.names, &mut total);
        world.pool.clear(world.names, &mut free);
        world.pool.clear_debt(world.names, &mut debt);
        self.dirty.remove(agent);
        self.offerable.remove(agent);
    }

    /// An agent has more or less than before: what is used of it stays used, and what is used beyond
    /// the new total is owed to it (Mesos: `updateSlave`). Takes over `total`. O(parts).
    ///
    /// `ResourcesFull` when there is no room to find out what is free; nothing has changed then.
    pub fn set_total(
        &mut self,
        world: &mut World<'_, 'a>,
        agent: u32,
        total: Holding,
    ) -> Result<(), Refusal> {
        let row = *self.agent(agent).ok_or(Refusal::UnknownAgent)?;
        let parts = world.pool.parts_of(row.total).saturating_add(world.pool.parts_of(total));
        if parts.saturating_add(16).saturating_mul(3) > world.pool.room() {
            return Err(Refusal::ResourcesFull);
        }
        let mut used = world.pool.copy(world.names, row.total)?;
        let mut free = world.pool.copy(world.names, total)?;
        self.count_free(world.pool, agent, Sign::Less);
        world.pool.subtract_what_is_there(world.names, &mut used, row.free);
        let mut debt = row.debt;
        world.pool.take_debt(world.names, &mut debt, &mut used);
        world.pool.subtract_owing(world.names, &mut free, used, &mut debt);
        self.count_total(world, agent, row.total, Sign::Less);
        self.count_total(world, agent, total, Sign::More);
        let (mut before, mut free_before) = (row.total, row.free);
        if let Some(row) = self.agents.get_mut(agent as usize) {
            (row.total, row.free, row.debt) = (total, free, debt);
        }
        world.pool.clear(world.names, &mut used);
        world.pool.clear(world.names, &mut before);
        world.pool.clear(world.names, &mut free_before);
        self.count_free(world.pool, agent, Sign::More);
        self.refresh(world.pool, agent);
        self.mark(agent);
        Ok(())
    }

    /// Replaces what an agent has free: after a registration, when all it uses is known. What is
    /// used beyond what it has is owed to it.
    pub fn set_free(&mut self, world: &mut World<'_, 'a>, agent: u32, free: Holding, debt: u32) {
        let Some(row) = self.agent(agent).copied() else { return };
        self.count_free(world.pool, agent, Sign::Less);
        let (mut before, mut owed) = (row.free, row.debt);
        if let Some(row) = self.agents.get_mut(agent as usize) {
            (row.free, row.debt) = (free, debt);
        }
        world.pool.clear(world.names, &mut before);
        world.pool.clear_debt(world.names, &mut owed);
        self.count_free(world.pool, agent, Sign::More);
        self.refresh(world.pool, agent);
        self.mark(agent);
    }

    /// Sets or lifts a reason not to offer an agent. O(1).
    pub fn set_barred(&mut self, pool: &Pool<'_>, agent: u32, bar: Bar, barred: bool) {
        let Some(row) = self.agent(agent).copied() else { return };
        let bars = if barred { row.bars | bar.bit() } else { row.bars & !bar.bit() };
        if bars == row.bars {
            return;
        }
        self.count_free(pool, agent, Sign::Less);
        if let Some(row) = self.agents.get_mut(agent as usize) {
            row.bars = bars;
        }
        self.count_free(pool, agent, Sign::More);
        self.refresh(pool, agent);
        self.mark(agent);
    }

    /// Whether an agent may be offered, as far as its session goes. O(1).
    pub fn set_agent_active(&mut self, pool: &Pool<'_>, agent: u32, active: bool) {
        self.set_barred(pool, agent, Bar::Away, !active);
    }

    /// What the allocator knows of an agent.
    pub fn agent(&self, agent: u32) -> Option<&AgentRow> {
        self.agents.get(agent as usize).filter(|row| row.known)
    }

    /// What an agent has, and what of it is free.
    pub fn agent_holdings(&self, agent: u32) -> Option<(Holding, Holding)> {
        self.agent(agent).map(|row| (row.total, row.free))
    }

    /// What an agent has, by kind. O(parts).
    pub fn agent_quantities(&self, pool: &Pool<'_>, agent: u32) -> Option<Quantities> {
        self.agent(agent).map(|row| pool.quantities(row.total))
    }

    /// The framework that got an agent's resources last, and when.
    pub fn last_winner(&self, agent: u32) -> Option<(u32, Time)> {
        let row = self.agent(agent)?;
        let client = self.nodes.row(row.last_winner.checked_sub(1)?)?;
        (client.kind == NodeKind::Client).then_some((client.framework, row.last_at))
    }

    // ----------------------------------------------------------------- charges

    /// Charges a client for what it uses of an agent: tasks that the agent reported.
    /// O(depth · (kinds + log roles)).
    pub fn charge(&mut self, world: &World<'_, 'a>, agent: u32, client: u32, held: Holding) {
        let charge = Charge::of(world.pool, held);
        self.charge_all(world.names, client, &charge, Sign::More);
        self.claim_used(world, agent, client, held);
    }

    /// Takes what a client was offered of an agent back, for as much of it as is not used now.
    /// O(parts + depth · (kinds + log roles)).
    ///
    /// With `refused_until`, the client is not offered the like there before that time.
    pub fn recover(
        &mut self,
        world: &mut World<'_, 'a>,
        agent: u32,
        client: u32,
        held: Holding,
        refused_until: Option<Time>,
    ) {
        self.release_offered(world, agent, client, held);
        if let Some(until) = refused_until
            && !held.is_empty()
        {
            self.refuse(world, agent, client, held, until);
        }
        self.take_back(world, agent, client, held);
    }

    /// Takes what a client used of an agent back: a task or an executor ended.
    pub fn recover_used(
        &mut self,
        world: &mut World<'_, 'a>,
        agent: u32,
        client: u32,
        held: Holding,
    ) {
        self.release_used(world, agent, client, held);
        self.take_back(world, agent, client, held);
    }

    fn take_back(&mut self, world: &mut World<'_, 'a>, agent: u32, client: u32, mut held: Holding) {
        let charge = Charge::of(world.pool, held);
        self.charge_all(world.names, client, &charge, Sign::Less);
        let Some(row) = self.agent(agent).copied() else {
            world.pool.clear(world.names, &mut held);
            return;
        };
        if row.debt != 0 {
            let mut debt = row.debt;
            world.pool.pay(world.names, &mut debt, &mut held);
            if let Some(row) = self.agents.get_mut(agent as usize) {
                row.debt = debt;
            }
        }
        if row.is_active() {
            let back = if row.debt == 0 { charge } else { Charge::of(world.pool, held) };
            for kind in back.kinds.iter() {
                self.state.available.add(kind, back.open_of(kind));
            }
        }
        let spans = row.simple && world.pool.is_simple(held);
        let mut free = row.free;
        world.pool.add(world.names, &mut free, &mut held);
        if let Some(row) = self.agents.get_mut(agent as usize) {
            row.free = free;
            row.simple = spans || world.pool.is_simple(free);
        }
        if row.is_active() && !free.is_empty() {
            self.offerable.insert(agent);
            self.dirty.insert(agent);
        }
    }

    /// What resources of an agent are changes, in the hands of a client or, without one, while they
    /// are free (Mesos: `updateAllocation`, `updateAvailable`). `held` is what the client holds, and
    /// has been changed by the caller. O(parts · depth).
    ///
    /// The caller asked [`Pool::check_change`], and [`Allocator::has_room_for_roles`] for the roles
    /// of new reservations.
    pub fn convert(
        &mut self,
        world: &mut World<'_, 'a>,
        agent: u32,
        client: Option<u32>,
        conversion: &Conversion,
    ) {
        let Some(row) = self.agent(agent).copied() else { return };
        let (mut total, mut free) = (row.total, row.free);
        let before = world.pool.quantities(total);
        let applied = world.pool.apply(world.names, &mut total, conversion);
        invariant!(applied.is_ok(), "an operation on what the agent does not have");
        let after = world.pool.quantities(total);
        if before != after {
            self.totals.amounts.subtract_all(&before);
            self.totals.amounts.add_all(&after);
            self.state.stale = true;
        }
        if let Some(row) = self.agents.get_mut(agent as usize) {
            row.total = total;
        }
        self.count_reserved(world, conversion.converted, Sign::More);
        self.count_reserved(world, conversion.consumed, Sign::Less);
        match client {
            Some(client) => {
                self.recharge(world, agent, client, conversion);
                self.share(world, agent, conversion);
            }
            None => {
                self.count_free(world.pool, agent, Sign::Less);
                let applied = world.pool.apply(world.names, &mut free, conversion);
                invariant!(applied.is_ok(), "an operation on what is not free");
                if let Some(row) = self.agents.get_mut(agent as usize) {
                    row.free = free;
                }
                self.count_free(world.pool, agent, Sign::More);
            }
        }
        self.refresh(world.pool, agent);
        self.mark(agent);
    }

    fn recharge(
        &mut self,
        world: &World<'_, 'a>,
        agent: u32,
        client: u32,
        conversion: &Conversion,
    ) {
        let before = Charge::of(world.pool, conversion.consumed);
        let after = Charge::of(world.pool, conversion.converted);
        self.charge_all(world.names, client, &after, Sign::More);
        self.charge_all(world.names, client, &before, Sign::Less);
        self.release_offered(world, agent, client, conversion.consumed);
        self.claim_offered(world, agent, client, conversion.converted);
    }

    /// What is shared is free for others, too, while somebody has it: it comes and goes there.
    fn share(&mut self, world: &mut World<'_, 'a>, agent: u32, conversion: &Conversion) {
        let shared = |ident: &Ident| ident.is(Class::SHARED);
        let consumed = world.pool.copy_of(world.names, conversion.consumed, shared);
        let converted = world.pool.copy_of(world.names, conversion.converted, shared);
        let Some(mut free) = self.agent(agent).map(|row| row.free) else { return };
        let both = Conversion { consumed, converted };
        let applied = world.pool.apply(world.names, &mut free, &both);
        invariant!(applied.is_ok(), "a shared volume is not free");
        for mut holding in [consumed, converted] {
            world.pool.clear(world.names, &mut holding);
        }
        if let Some(row) = self.agents.get_mut(agent as usize) {
            row.free = free;
        }
    }

    /// Charges a client and all above it, and finds their places among their siblings.
    pub(super) fn charge_all(
        &mut self,
        names: &Names<'a>,
        client: u32,
        charge: &Charge,
        sign: Sign,
    ) {
        self.walk_up(names, client, |allocated, _| {
            for kind in charge.kinds.iter() {
                match sign {
                    Sign::More => allocated.add(kind, charge.of_kind(kind)),
                    Sign::Less => allocated.subtract(kind, charge.of_kind(kind)),
                }
            }
        });
        self.count_open(names, client, charge, sign);
    }

    /// Changes what a client and all above it have, and their places among their siblings.
    #[inline]
    pub(super) fn walk_up(
        &mut self,
        names: &Names<'a>,
        client: u32,
        mut change: impl FnMut(&mut Quantities, &mut u64),
    ) {
        let mut at = Some(client);
        while let Some(slot) = at {
            at = self.nodes.row(slot).and_then(super::Node::above);
            self.walk_one(names, slot, &mut change);
        }
    }

    /// Changes what one node has, and its place among its siblings.
    #[inline]
    pub(super) fn walk_one(
        &mut self,
        names: &Names<'a>,
        slot: u32,
        mut change: impl FnMut(&mut Quantities, &mut u64),
    ) {
        let Some(node) = self.nodes.row_mut(slot) else { return };
        change(&mut node.allocated, &mut node.rank.count);
        let [wanting, needy] = node.seats;
        // Who competes with nobody needs no key: see `seat`.
        node.old = true;
        if wanting.is_some() || needy.is_some() {
            node.rekey(&self.totals);
            let kind = node.above().and_then(|above| self.nodes.row(above)).map(|node| node.kind);
            self.changed(names, slot, kind.unwrap_or_default());
        }
    }

    // ------------------------------------------------------------------- sums

    /// What is free of an agent that may be offered counts as available for guarantees.
    fn count_free(&mut self, pool: &Pool<'_>, agent: u32, sign: Sign) {
        let Some(row) = self.agent(agent).filter(|row| row.is_active()) else { return };
        let open = pool.quantities_of(row.free, open);
        for (kind, milli) in open.iter() {
            match sign {
                Sign::More => self.state.available.add(kind, milli),
                Sign::Less => self.state.available.subtract(kind, milli),
            }
        }
    }

    fn count_total(&mut self, world: &mut World<'_, 'a>, agent: u32, total: Holding, sign: Sign) {
        let quantities = world.pool.quantities(total);
        let mut revocable = false;
        world.pool.for_each(total, |ident, _| revocable |= ident.is(Class::REVOCABLE));
        let by = if revocable { 1 } else { 0 };
        let had = self.state.revocable;
        match sign {
            Sign::More => {
                self.totals.amounts.add_all(&quantities);
                self.state.revocable = had.saturating_add(by);
            }
            Sign::Less => {
                self.totals.amounts.subtract_all(&quantities);
                self.state.revocable = had.saturating_sub(by);
            }
        }
        self.state.repark |= (had == 0) != (self.state.revocable == 0);
        self.state.stale = true;
        if let Some(row) = self.agents.get_mut(agent as usize) {
            (row.gpus, row.revocable) = (quantities.of(GPUS) > 0, revocable);
        }
        self.count_reserved(world, total, sign);
    }

    /// Brings what is known of an agent's free resources up to date. O(parts).
    fn refresh(&mut self, pool: &Pool<'_>, agent: u32) {
        let Some(row) = self.agents.get_mut(agent as usize) else { return };
        row.simple = pool.is_simple(row.free);
        if row.known && row.is_active() && !row.free.is_empty() {
            self.offerable.insert(agent);
        } else {
            self.offerable.remove(agent);
            self.dirty.remove(agent);
        }
    }

    /// An agent has something new to offer, if it has anything.
    pub(super) fn mark(&mut self, agent: u32) {
        if self.offerable.contains(agent) {
            self.dirty.insert(agent);
        }
    }

    /// Every agent that has something to offer has something new for somebody. O(agents / 64).
    pub(super) fn mark_all(&mut self) {
        self.dirty.add_all(&self.offerable);
    }

    /// What an agent had free was granted, all or a part of it.
    pub(super) fn set_free_after(&mut self, pool: &Pool<'_>, agent: u32, free: Holding) {
        let Some(row) = self.agents.get_mut(agent as usize) else { return };
        row.free = free;
        row.simple = row.simple || pool.is_simple(free);
        if free.is_empty() {
            self.offerable.remove(agent);
        }
    }
}

impl Pool<'_> {
    /// True when a holding is plain amounts and spans that are anyone's: whoever may have some of
    /// it may have all. O(parts).
    pub fn is_simple(&self, holding: Holding) -> bool {
        holding.is_plain()
            || self.parts(holding).all(|part| {
                self.ident(part.ident).is_some_and(|ident| {
                    ident.class.and(Class::ALL.without(Class::WHOLE)) == Class::SPAN
                })
            })
    }
}
