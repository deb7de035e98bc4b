//! What frameworks said no to, and until when.
//!
//! A filter blocks an offer to one client on one agent while the offer holds nothing that was not
//! refused; what is larger passes (Mesos: `RefusedOfferFilter`). Two forms of it are kept:
//!
//! - a record for each refusal, with what was refused and until when, exactly;
//! - for each agent one *set*: what was refused, until when, and a bit for each client that refused
//!   just that until just then. Ten million refusals that never end, of 1,000 frameworks on 10,000
//!   agents, take 1.25 MB.
//!
//! Both are a bounded cache. Without room for a record, a refusal begins its agent's set if there is
//! none, or joins it when what was refused is the same and the set lasts at least half as long; else
//! the record that expires soonest goes. The last two cost a framework an offer that it will decline
//! again, and are counted.

use super::{Allocator, World};
use crate::image::{BadImage, Image, Reader, Writer};
use crate::index::{Chain, Link, Linked, after};
use crate::limits::DURATION_MAX_US;
use crate::names::Names;
use crate::resources::{Holding, Pool};
use crate::table::{Id, Slot, Table};
use crate::time::Time;
use crate::timers::{Timer, Timers};

record! {
    /// One refusal.
    pub struct Filter {
        /// Whose: the client's node.
        pub client: u32,
        /// Where: the agent's slot.
        pub agent: u32,
        /// What was refused.
        pub refused: Holding,
        links: [Link; 2],
    }
}

const OF_AGENT: usize = 0;
const OF_CLIENT: usize = 1;

impl Linked for Filter {
    fn link(&self, list: usize) -> Link {
        let [agent, client] = self.links;
        if list == OF_AGENT { agent } else { client }
    }

    fn link_mut(&mut self, list: usize) -> &mut Link {
        let [agent, client] = &mut self.links;
        if list == OF_AGENT { agent } else { client }
    }
}

/// All filters that have not expired.
#[derive(Debug)]
pub struct Filters<'a> {
    rows: Table<'a, Filter>,
    timers: Timers<'a>,
    /// When the sets of agents end.
    set_timers: Timers<'a>,
    /// The sets' bits: as many words for each agent.
    bits: &'a mut [u64],
    words: u32,
    /// Refusals in sets.
    in_sets: u32,
    /// Filters that went before their time because there was no room.
    pub evicted: u64,
    /// The time of the newest round.
    now: Time,
}

/// The two lists that a filter is in: its agent's and its client's.
struct Owners<'o> {
    agent: &'o mut Chain,
    client: &'o mut Chain,
}

impl<'a> Filters<'a> {
    /// No filters. All slices must be zero; the first timers are as many as rows, the others as many
    /// as agents, each of which has as many words of `bits`.
    pub fn new(
        rows: &'a mut [Slot<Filter>],
        [timers, set_timers]: [&'a mut [Timer]; 2],
        bits: &'a mut [u64],
    ) -> Self {
        let words = bits.len().checked_div(set_timers.len()).unwrap_or(0);
        Self {
            rows: Table::new(rows),
            timers: Timers::new(timers),
            set_timers: Timers::new(set_timers),
            bits,
            words: u32::try_from(words).unwrap_or(0),
            in_sets: 0,
            evicted: 0,
            now: Time(0),
        }
    }

    /// Gives the memory back.
    #[allow(clippy::type_complexity)]
    pub fn release(self) -> (&'a mut [Slot<Filter>], [&'a mut [Timer]; 2], &'a mut [u64]) {
        let timers = [self.timers.release(), self.set_timers.release()];
        (self.rows.release(), timers, self.bits)
    }

    /// Refusals in force.
    pub fn in_force(&self) -> u32 {
        self.rows.len().saturating_add(self.in_sets)
    }

    /// When the next filter expires. O(1).
    pub fn next_expiry(&self) -> Time {
        self.timers.next().min(self.set_timers.next())
    }

    /// The clients in an agent's set.
    pub(super) fn set_of(&self, agent: u32) -> &[u64] {
        let words = self.words as usize;
        let from = (agent as usize).saturating_mul(words);
        self.bits.get(from..from.saturating_add(words)).unwrap_or_default()
    }

    fn set_of_mut(&mut self, agent: u32) -> &mut [u64] {
        let words = self.words as usize;
        let from = (agent as usize).saturating_mul(words);
        self.bits.get_mut(from..from.saturating_add(words)).unwrap_or_default()
    }

    fn is_in_set(&self, agent: u32, number: u32) -> bool {
        let word = self.set_of(agent).get((number / 64) as usize).copied().unwrap_or(0);
        word & 1u64.wrapping_shl(number % 64) != 0
    }

    /// When an agent's set ends.
    fn set_until(&self, agent: u32) -> Time {
        self.set_timers.due(agent)
    }

    /// The filter that would expire first; of those that never do, the one in the lowest slot.
    fn soonest(&self) -> Option<Id> {
        match self.timers.first() {
            Some(row) => self.rows.id_at(row),
            None => self.rows.find(|_| true).map(|(id, _)| id),
        }
    }

    fn install(
        &mut self,
        owners: Owners<'_>,
        client: u32,
        agent: u32,
        refused: Holding,
        until: Time,
    ) -> Result<(), Holding> {
        let row = Filter { client, agent, refused, links: [Link::default(); 2] };
        let Ok(id) = self.rows.insert(row) else { return Err(refused) };
        owners.agent.push(&mut self.rows, OF_AGENT, id);
        owners.client.push(&mut self.rows, OF_CLIENT, id);
        self.timers.set(id.index, until);
        Ok(())
    }

    /// Until when a record of `client` on `agent` blocks an offer that `contains` says is no more
    /// than was refused. O(the shorter of both lists).
    fn blocks(
        &self,
        of_agent: Chain,
        of_client: Chain,
        client: u32,
        agent: u32,
        mut contains: impl FnMut(Holding) -> bool,
    ) -> Option<Time> {
        let list = if of_agent.len() <= of_client.len() { OF_AGENT } else { OF_CLIENT };
        let chain = if list == OF_AGENT { of_agent } else { of_client };
        let mut next = chain.first(&self.rows);
        while let Some(id) = next {
            let row = self.rows.get_ref(id)?;
            if (row.client, row.agent) == (client, agent) && contains(row.refused) {
                return Some(self.timers.due(id.index));
            }
            next = after(&self.rows, list, id);
        }
        None
    }

    fn remove(&mut self, owners: Owners<'_>, pool: &mut Pool<'_>, names: &mut Names<'_>, id: Id) {
        let Some(mut row) = self.rows.get(id) else { return };
        owners.agent.remove(&mut self.rows, OF_AGENT, id);
        owners.client.remove(&mut self.rows, OF_CLIENT, id);
        self.timers.clear(id.index);
        self.rows.remove(id);
        pool.clear(names, &mut row.refused);
    }
}

impl<'a> Allocator<'a> {
    /// Until when an answer at `now` that refuses for `refuse_us` holds: no shorter than the least
    /// time between two like offers, so that refusing for 0 s cannot become a loop. A year or more
    /// is until the client revives.
    pub fn refused_until(&self, now: Time, refuse_us: u64) -> Option<Time> {
        let us = refuse_us.max(self.config.min_reoffer_us);
        let until = if us >= DURATION_MAX_US { Time::NEVER } else { now.after(us) };
        (us > 0).then_some(until)
    }

    /// Until when a refusal keeps `client` from what `contains` says is no more than was refused.
    pub(super) fn refused(
        &self,
        agent: u32,
        client: u32,
        mut contains: impl FnMut(Holding) -> bool,
    ) -> Option<Time> {
        let (Some(row), Some(node)) = (self.agents.get(agent as usize), self.nodes.row(client))
        else {
            return None;
        };
        if row.refusers > 0 && self.filters.is_in_set(agent, node.number) && contains(row.refused) {
            return Some(self.filters.set_until(agent));
        }
        if row.filters.is_empty() || node.filters.is_empty() {
            return None;
        }
        self.filters.blocks(row.filters, node.filters, client, agent, contains)
    }

    /// Keeps a refusal of what `held` has. O(log filters), unless the cache is full.
    pub(super) fn refuse(
        &mut self,
        world: &mut World<'_, 'a>,
        agent: u32,
        client: u32,
        held: Holding,
        until: Time,
    ) {
        let (Some(row), Some(node)) = (self.agents.get(agent as usize), self.nodes.row(client))
        else {
            return;
        };
        let has_bit = node.number < self.filters.words.saturating_mul(64);
        let set_until = self.filters.set_until(agent);
        let same = row.refusers > 0
            && world.pool.contains(row.refused, held)
            && world.pool.contains(held, row.refused);
        // What never ends is best kept as a bit; so is what ends just when the others' does.
        let joins = has_bit && same && set_until == until;
        let begins = has_bit && row.refusers == 0 && until == Time::NEVER;
        if joins || begins {
            return self.join_set(world, agent, client, held, until);
        }
        if self.filters.rows.room() == 0 {
            if has_bit && row.refusers == 0 {
                return self.join_set(world, agent, client, held, until);
            }
            self.filters.evicted = self.filters.evicted.saturating_add(1);
            if has_bit && same && set_until < until && set_until > self.filters.half(until) {
                return self.join_set(world, agent, client, held, until);
            }
            if let Some(soonest) = self.filters.soonest() {
                self.remove_filter(world, soonest);
            }
        }
        let Ok(refused) = world.pool.copy(world.names, held) else {
            self.filters.evicted = self.filters.evicted.saturating_add(1);
            return;
        };
        let (Some(row), Some(node)) =
            (self.agents.get_mut(agent as usize), self.nodes.row_mut(client))
        else {
            return;
        };
        let owners = Owners { agent: &mut row.filters, client: &mut node.filters };
        if let Err(mut refused) = self.filters.install(owners, client, agent, refused, until) {
            world.pool.clear(world.names, &mut refused);
        }
    }

    /// Puts a client into an agent's set of refusals, which it may begin.
    fn join_set(
        &mut self,
        world: &mut World<'_, 'a>,
        agent: u32,
        client: u32,
        held: Holding,
        until: Time,
    ) {
        let (Some(row), Some(node)) =
            (self.agents.get_mut(agent as usize), self.nodes.row_mut(client))
        else {
            return;
        };
        if row.refusers == 0 {
            let Ok(refused) = world.pool.copy(world.names, held) else {
                self.filters.evicted = self.filters.evicted.saturating_add(1);
                return;
            };
            row.refused = refused;
            self.filters.set_timers.set(agent, until);
        }
        let bit = 1u64.wrapping_shl(node.number % 64);
        let place = (node.number / 64) as usize;
        let Some(word) = self.filters.set_of_mut(agent).get_mut(place) else { return };
        if *word & bit == 0 {
            *word |= bit;
            row.refusers = row.refusers.saturating_add(1);
            node.refusals = node.refusals.saturating_add(1);
            self.filters.in_sets = self.filters.in_sets.saturating_add(1);
        }
    }

    /// Lifts one record; its agent has something new to offer then.
    fn remove_filter(&mut self, world: &mut World<'_, 'a>, id: Id) {
        let Some(Filter { client, agent, .. }) = self.filters.rows.get(id) else { return };
        let (Some(row), Some(node)) =
            (self.agents.get_mut(agent as usize), self.nodes.row_mut(client))
        else {
            return;
        };
        let owners = Owners { agent: &mut row.filters, client: &mut node.filters };
        self.filters.remove(owners, world.pool, world.names, id);
        self.mark(agent);
    }

    /// Lifts what everybody in an agent's set refused. O(clients / 64 + clients in it).
    fn clear_set(&mut self, world: &mut World<'_, 'a>, agent: u32) {
        let Some(row) = self.agents.get_mut(agent as usize) else { return };
        let mut refused = core::mem::take(&mut row.refused);
        let refusers = core::mem::take(&mut row.refusers);
        world.pool.clear(world.names, &mut refused);
        self.filters.set_timers.clear(agent);
        self.filters.in_sets = self.filters.in_sets.saturating_sub(refusers);
        let mut first = 0u32;
        for place in 0..self.filters.words as usize {
            let word = self.filters.set_of_mut(agent).get_mut(place).map(core::mem::take);
            let mut left = word.unwrap_or(0);
            while left != 0 {
                let number = first.saturating_add(left.trailing_zeros());
                left &= left.wrapping_sub(1);
                self.count_refusal_gone(number);
            }
            first = first.saturating_add(64);
        }
        self.mark(agent);
    }

    fn count_refusal_gone(&mut self, number: u32) {
        let client = self.clients.get(number as usize).and_then(|client| client.checked_sub(1));
        if let Some(node) = client.and_then(|client| self.nodes.row_mut(client)) {
            node.refusals = node.refusals.saturating_sub(1);
        }
    }

    /// Lifts filters whose time is over. O(those that are).
    pub(super) fn expire_filters(&mut self, world: &mut World<'_, 'a>, now: Time) {
        self.filters.now = now;
        while let Some(row) = self.filters.timers.first() {
            if self.filters.timers.due(row) > now {
                break;
            }
            match self.filters.rows.id_at(row) {
                Some(id) => self.remove_filter(world, id),
                None => self.filters.timers.clear(row),
            }
        }
        while let Some(agent) = self.filters.set_timers.first() {
            if self.filters.set_timers.due(agent) > now {
                return;
            }
            self.clear_set(world, agent);
        }
    }

    /// Lifts all filters of a client. O(its filters), and O(agents) when it is in any set.
    pub fn lift_filters(&mut self, world: &mut World<'_, 'a>, client: u32) {
        while let Some(id) =
            self.nodes.row(client).and_then(|node| node.filters.first(&self.filters.rows))
        {
            self.remove_filter(world, id);
        }
        let Some(node) = self.nodes.row(client) else { return };
        let number = node.number;
        let bit = 1u64.wrapping_shl(number % 64);
        let mut left = node.refusals;
        for agent in 0u32.. {
            if left == 0 || agent as usize >= self.agents.len() {
                break;
            }
            let place = (number / 64) as usize;
            let Some(word) = self.filters.set_of_mut(agent).get_mut(place) else { break };
            if *word & bit == 0 {
                continue;
            }
            *word &= !bit;
            left = left.saturating_sub(1);
            self.leave_set(world, agent);
        }
        if let Some(node) = self.nodes.row_mut(client) {
            node.refusals = 0;
        }
    }

    /// A client's bit was taken out of an agent's set, which ends with the last one.
    fn leave_set(&mut self, world: &mut World<'_, 'a>, agent: u32) {
        let Some(row) = self.agents.get_mut(agent as usize) else { return };
        row.refusers = row.refusers.saturating_sub(1);
        self.filters.in_sets = self.filters.in_sets.saturating_sub(1);
        if row.refusers == 0 {
            let mut refused = core::mem::take(&mut row.refused);
            world.pool.clear(world.names, &mut refused);
            self.filters.set_timers.clear(agent);
        }
        self.mark(agent);
    }

    /// Lifts all filters on an agent: it is no more, or says other things of itself (Mesos:
    /// `updateSlave` with other attributes). O(its filters).
    pub fn forget_refusals(&mut self, world: &mut World<'_, 'a>, agent: u32) {
        while let Some(id) =
            self.agents.get(agent as usize).and_then(|row| row.filters.first(&self.filters.rows))
        {
            self.remove_filter(world, id);
        }
        if self.agents.get(agent as usize).is_some_and(|row| row.refusers > 0) {
            self.clear_set(world, agent);
        }
    }

    /// Refusals of a client in force. O(1).
    pub fn refusals_of(&self, client: u32) -> u32 {
        let node = self.nodes.row(client);
        node.map_or(0, |node| node.filters.len().saturating_add(node.refusals))
    }
}

impl Filters<'_> {
    /// Half way from the newest round to `until`.
    fn half(&self, until: Time) -> Time {
        Time(self.now.0.midpoint(until.0))
    }
}

impl Image for Filters<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        self.rows.export(to);
        self.timers.export(to);
        self.set_timers.export(to);
        to.put(&(self.in_sets, self.evicted, self.now));
        // Only what is set: a bit for every client of every agent is much, and mostly zero.
        let set = self.bits.iter().zip(0u32..).filter(|(word, _)| **word != 0);
        to.put(&set.clone().fold(0u32, |n, _| n.saturating_add(1)));
        for (word, place) in set {
            let agent = place.checked_div(self.words).unwrap_or(0);
            let at = place.checked_rem(self.words).unwrap_or(0);
            to.put(&(agent, at, *word));
        }
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        self.rows.import(from)?;
        self.timers.import(from)?;
        self.set_timers.import(from)?;
        (self.in_sets, self.evicted, self.now) = from.take()?;
        let set: u32 = from.take()?;
        for _ in 0..set {
            let (agent, at, word): (u32, u32, u64) = from.take()?;
            let place = self.set_of_mut(agent).get_mut(at as usize);
            *place.ok_or(BadImage::TooLarge)? = word;
        }
        Ok(())
    }
}
