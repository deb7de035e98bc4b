//! What frameworks said no to, and until when.
//!
//! A filter blocks an offer to one client on one agent while the offer holds nothing that was not
//! refused; what is larger passes (Mesos: `RefusedOfferFilter`). Filters are a bounded cache: when
//! full, the one that expires soonest goes, which costs its framework an offer it will decline.

use crate::image::{BadImage, Image, Reader, Writer};
use crate::index::{Chain, Link, Linked, after};
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
    /// Filters that went before their time because there was no room.
    pub evicted: u64,
}

/// The two lists that a filter is in: its agent's and its client's.
pub struct Owners<'o> {
    /// The agent's filters.
    pub agent: &'o mut Chain,
    /// The client's filters.
    pub client: &'o mut Chain,
}

impl<'a> Filters<'a> {
    /// No filters. Both slices must be zero and of one length.
    pub fn new(rows: &'a mut [Slot<Filter>], timers: &'a mut [Timer]) -> Self {
        Self { rows: Table::new(rows), timers: Timers::new(timers), evicted: 0 }
    }

    /// Gives the memory back.
    pub fn release(self) -> (&'a mut [Slot<Filter>], &'a mut [Timer]) {
        (self.rows.release(), self.timers.release())
    }

    /// Filters in force.
    pub fn len(&self) -> u32 {
        self.rows.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// When the next filter expires. O(1).
    pub fn next_expiry(&self) -> Time {
        self.timers.next()
    }

    /// Room for one more, without which [`Filters::install`] is not to be called.
    pub fn has_room(&self) -> bool {
        self.rows.room() > 0
    }

    /// The filter that would expire first.
    pub fn soonest(&self) -> Option<Id> {
        let due = self.timers.next();
        let at = |row: u32| self.rows.id_at(row);
        if due == Time::NEVER {
            // Those that never expire have no timer: the one in the lowest slot goes.
            return self.rows.find(|_| true).map(|(id, _)| id);
        }
        self.timers.first().and_then(at)
    }

    /// Puts a filter in force until `until`. O(log filters). Without room it is forgotten.
    pub fn install(
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

    /// Until when a filter of `client` in `chain`, its agent's, blocks an offer that `contains`
    /// says is no more than was refused. O(filters of the agent).
    pub fn blocks(
        &self,
        chain: Chain,
        client: u32,
        contains: impl Fn(Holding) -> bool,
    ) -> Option<Time> {
        let mut next = chain.first(&self.rows);
        while let Some(id) = next {
            let row = self.rows.get_ref(id)?;
            if row.client == client && contains(row.refused) {
                return Some(self.timers.due(id.index));
            }
            next = after(&self.rows, OF_AGENT, id);
        }
        None
    }

    /// A filter whose time is over; the caller removes it.
    pub fn expired(&mut self, now: Time) -> Option<Id> {
        let row = self.timers.first()?;
        if self.timers.due(row) > now {
            return None;
        }
        self.rows.id_at(row)
    }

    /// What a filter is about.
    pub fn get(&self, id: Id) -> Option<Filter> {
        self.rows.get(id)
    }

    /// The first filter of an agent or a client, by its chain.
    pub fn first(&self, chain: Chain) -> Option<Id> {
        chain.first(&self.rows)
    }

    /// Lifts a filter and lets go of what it held. O(log filters).
    pub fn remove(
        &mut self,
        owners: Owners<'_>,
        pool: &mut Pool<'_>,
        names: &mut Names<'_>,
        id: Id,
    ) {
        let Some(mut row) = self.rows.get(id) else { return };
        owners.agent.remove(&mut self.rows, OF_AGENT, id);
        owners.client.remove(&mut self.rows, OF_CLIENT, id);
        self.timers.clear(id.index);
        self.rows.remove(id);
        pool.clear(names, &mut row.refused);
    }
}

impl Image for Filters<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        self.rows.export(to);
        self.timers.export(to);
        to.put(&self.evicted);
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        self.rows.import(from)?;
        self.timers.import(from)?;
        self.evicted = from.take()?;
        Ok(())
    }
}
