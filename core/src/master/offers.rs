//! Offers: made in rounds, answered once, or ended by time or by what happens to their agent.
//!
//! Mesos: `Master::offer`, `Master::decline`, `Master::removeOffer`.

use super::caps::Counted;
use super::rows::{BY_AGE, FrameworkState, OF_AGENT, OF_FRAMEWORK, Offer};
use super::{Cx, Fact, Master, OFFERS_PER_AGENT_MAX, Output, REFUSE_DEFAULT_US};
use crate::Refusal;
use crate::allocator::{self, Grant, ROUND_MAX};
use crate::drive::OUTPUT_MAX;
use crate::index::after;
use crate::limits::{DURATION_MAX_US, OFFERS_PER_EVENT_MAX};
use crate::mutant::{Mutant, planted};
use crate::resources::Holding;
use crate::table::Id;
use crate::time::Time;
use crate::wire::event::{Event, Offer as WireOffer, OfferDetail};
use crate::wire::{Head, OfferId, Scratch, Seq};

impl Master<'_> {
    /// One round, if it is due: at most [`ROUND_MAX`] agents.
    pub(super) fn allocate(&mut self, cx: &mut Cx<'_>) {
        let due = self.counters.round <= cx.now || self.allocator.next_expiry() <= cx.now;
        // What the schedule says of agents comes before they are offered.
        if self.cluster == 0 || !due || self.counters.planning != 0 {
            return;
        }
        self.counters.round = Time::NEVER;
        let now = cx.now;
        let (allocator, mut world) = self.world();
        let mut round = allocator.begin(&mut world, now);
        let mut made = heapless::Vec::<(u32, Id), ROUND_MAX>::new();
        let mut over = heapless::Vec::<Grant, ROUND_MAX>::new();
        let (mut bytes, mut counted) = (cx.spent, Counted::default());
        loop {
            if made.is_full() || over.is_full() || self.offers.room() == 0 || bytes > OUTPUT_MAX / 2
            {
                self.allocator.end(&self.names, &round);
                break;
            }
            let (allocator, mut world) = self.world();
            let Some(grant) = allocator.next(&mut world, &mut round) else { break };
            if self.reaches_cap(&mut counted, grant.framework) {
                let pushed = over.push(grant);
                invariant!(pushed.is_ok(), "a round takes back more offers than its bound");
                continue;
            }
            // An offer goes out twice: to its framework, and as a fact.
            let each = self.pool.wire_bytes(&self.names, grant.held).saturating_add(OFFER_BYTES);
            bytes = bytes.saturating_add(each.saturating_mul(2));
            if let Some(offer) = self.make_offer(cx.now, grant) {
                self.counts(&mut counted, grant.framework);
                self.ask_back_offered(cx, offer);
                let pushed = made.push((grant.framework, offer));
                invariant!(pushed.is_ok(), "a round makes more offers than its bound");
            }
        }
        self.take_back(&over);
        // Stable: the offers of a framework stay in the order in which they were made.
        made.sort_unstable_by_key(|(framework, offer)| (*framework, offer.index));
        self.send_offers(cx, &made);
        if self.wants_round() {
            self.counters.round = now;
        }
    }

    /// There is something to offer. Without room for an offer that waits until one ends.
    pub(super) fn wants_round(&self) -> bool {
        self.allocator.is_dirty() && self.offers.room() > 0
    }

    fn make_offer(&mut self, now: Time, grant: Grant) -> Option<Id> {
        let timeout = self.config.offer_timeout_us;
        let row = Offer {
            framework: grant.framework,
            agent: grant.agent,
            client: grant.client,
            held: grant.held,
            expires: if timeout == 0 { Time::NEVER } else { now.after(timeout) },
            links: bytemuck::Zeroable::zeroed(),
        };
        let offer = self.offers.insert(row).ok()?;
        self.offers_by_age.push(&mut self.offers, BY_AGE, offer);
        if let Some(framework) = self.frameworks.row_mut(grant.framework) {
            framework.offers.push(&mut self.offers, OF_FRAMEWORK, offer);
        }
        if let Some(agent) = self.agents.row_mut(grant.agent) {
            agent.offers.push(&mut self.offers, OF_AGENT, offer);
            if agent.offers.len() >= OFFERS_PER_AGENT_MAX {
                agent.crowded = true;
                let crowded = allocator::Bar::Crowded;
                self.allocator.set_barred(&self.pool, grant.agent, crowded, true);
            }
        }
        Some(offer)
    }

    /// Who is offered something that will go away is told that it is to be given back.
    fn ask_back_offered(&mut self, cx: &mut Cx<'_>, offer: Id) {
        let Some(row) = self.offers.get(offer) else { return };
        let ids = (self.frameworks.id_at(row.framework), self.agents.id_at(row.agent));
        if let (Some(framework), Some(agent)) = ids {
            self.ask_back(cx, framework, agent);
        }
    }

    /// Sends each framework its offers, as many to an event as it holds.
    fn send_offers(&mut self, cx: &mut Cx<'_>, made: &[(u32, Id)]) {
        for of_one in made.chunk_by(|a, b| a.0 == b.0) {
            let mut rest = of_one;
            while let Some((_, first)) = rest.first() {
                let sent = self.send_event(cx, rest);
                if sent == 0 {
                    // Larger than the head that the framework takes: it can only be refused.
                    self.give_back(cx, *first, None);
                }
                rest = rest.get(sent.max(1)..).unwrap_or_default();
            }
            for (_, offer) in of_one {
                self.offer_fact(cx, *offer);
            }
        }
    }

    /// Sends as many of `offers` as one event holds, and returns their number.
    fn send_event(&mut self, cx: &mut Cx<'_>, offers: &[(u32, Id)]) -> usize {
        let Some((framework, _)) = offers.first() else { return 0 };
        let Some(conn) = self.frameworks.row(*framework).and_then(|row| row.conn.some()) else {
            return offers.len();
        };
        let head_max = self.head_max(conn);
        let epoch = self.fence().epoch;
        self.with_scratch(|master, outer, inner| {
            let outer_max = head_max.saturating_sub(64).min(outer.len());
            let mut outer = Scratch::new(outer.get_mut(..outer_max).unwrap_or_default());
            let mut list = outer.list::<WireOffer<'static>>();
            let mut sent = 0usize;
            for (_, id) in offers.iter().take(OFFERS_PER_EVENT_MAX) {
                let Some(row) = master.offers.get(*id) else { continue };
                let Some(agent) = master.agents.row(row.agent).map(|agent| agent.id) else {
                    continue;
                };
                let role = master.allocator.role_of(&master.names, row.client);
                let half = inner.len() / 2;
                let Some((lists, within)) = inner.split_at_mut_checked(half) else { break };
                let mut lists = Scratch::new(lists);
                let written = master.pool.write(&master.names, row.held, "", &mut lists, within);
                let Ok(resources) = written else { break };
                let id = OfferId { epoch, id: *id };
                let unavailable = master.window_of(row.agent);
                let mut names = [0u8; EXECUTORS_BYTES];
                let executors = master.executors_there(&row, &mut names);
                let said = unavailable.is_some() || !executors.is_empty();
                let detail = said.then_some(OfferDetail { executors, unavailable });
                let offer = WireOffer { id, agent, role: &role, resources, detail };
                if list.push(&offer).is_err() {
                    break;
                }
                sent = sent.saturating_add(1);
            }
            let head = Head::Event(Event::Offers { offers: list.end() });
            if sent > 0 {
                cx.emit(Output::Send { conn, head });
            }
            sent
        })
    }

    /// The executors of an offer's framework on its agent, as many as have room. O(executors there).
    fn executors_there<'s>(&self, offer: &Offer, memory: &'s mut [u8]) -> Seq<'s, &'s str> {
        let mut scratch = Scratch::new(memory);
        let mut list = scratch.list::<&'static str>();
        let mut next =
            self.agents.row(offer.agent).and_then(|row| row.executors.first(&self.executors));
        while let Some(id) = next {
            next = after(&self.executors, OF_AGENT, id);
            let own = self.executors.get_ref(id).filter(|row| row.framework == offer.framework);
            if let Some(row) = own
                && list.push(&self.text(row.name).as_str()).is_err()
            {
                break;
            }
        }
        list.end()
    }

    pub(super) fn offer_fact(&mut self, cx: &mut Cx<'_>, offer: Id) {
        let Some(row) = self.offers.get(offer) else { return };
        let ids = (self.frameworks.id_at(row.framework), self.agents.id_at(row.agent));
        let (Some(framework), Some(agent)) = ids else { return };
        let id = OfferId { epoch: self.fence().epoch, id: offer };
        let role = self.allocator.role_of(&self.names, row.client);
        self.with_scratch(|master, outer, inner| {
            let mut outer = Scratch::new(outer);
            let resources = master.pool.write(&master.names, row.held, "", &mut outer, inner);
            let resources = resources.unwrap_or_default();
            cx.fact(Fact::Offer {
                row: offer,
                offer: id,
                framework,
                agent,
                resources,
                role: &role,
            });
        });
    }

    /// DECLINE: offers that are not this framework's, or not any more, are passed over, as in
    /// Mesos. O(offers · (pieces + depth · log roles)).
    pub(super) fn decline(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        offers: &Seq<'_, OfferId>,
        refuse_us: Option<u64>,
    ) -> Result<(), Refusal> {
        let mut unknown = false;
        for offer in offers.iter() {
            match self.own_offer(framework, offer) {
                Some(id) => self.give_back(cx, id, refuse_us),
                None => unknown = true,
            }
        }
        // Nothing changed for those: the caller may want to know, Mesos' only write a line.
        if unknown && offers.len() == 1 { Err(Refusal::UnknownOffer) } else { Ok(()) }
    }

    /// An outstanding offer of this epoch to this framework.
    pub(super) fn own_offer(&self, framework: Id, offer: OfferId) -> Option<Id> {
        if offer.epoch != self.fence().epoch {
            return None;
        }
        let row = self.offers.get_ref(offer.id)?;
        (row.framework == framework.index).then_some(offer.id)
    }

    /// Ends an offer; its resources are free again, and refused for as long as was said.
    pub(super) fn give_back(&mut self, cx: &mut Cx<'_>, offer: Id, refuse_us: Option<u64>) {
        let Some(row) = self.take_offer(cx, offer) else { return };
        self.recover(cx.now, row.agent, row.client, row.held, refuse_us);
    }

    /// Takes what is left of an offer back into what is free.
    pub(super) fn recover(
        &mut self,
        now: Time,
        agent: u32,
        client: u32,
        held: Holding,
        refuse_us: Option<u64>,
    ) {
        let idle = planted(Mutant::LetsItLieIdle).then_some(3_600_000_000);
        let refuse_us = idle.or(refuse_us).unwrap_or(REFUSE_DEFAULT_US).min(DURATION_MAX_US);
        let until = self.allocator.refused_until(now, refuse_us);
        let (allocator, mut world) = self.world();
        allocator.recover(&mut world, agent, client, held, until);
    }

    /// Takes an offer out of every list; whoever asked owns what it holds.
    pub(super) fn take_offer(&mut self, cx: &mut Cx<'_>, offer: Id) -> Option<Offer> {
        let row = self.offers.get(offer)?;
        self.offers_by_age.remove(&mut self.offers, BY_AGE, offer);
        if let Some(framework) = self.frameworks.row_mut(row.framework) {
            framework.offers.remove(&mut self.offers, OF_FRAMEWORK, offer);
        }
        self.lift_cap(row.framework);
        if let Some(agent) = self.agents.row_mut(row.agent) {
            agent.offers.remove(&mut self.offers, OF_AGENT, offer);
            if agent.crowded {
                agent.crowded = false;
                let crowded = allocator::Bar::Crowded;
                self.allocator.set_barred(&self.pool, row.agent, crowded, false);
            }
        }
        if !planted(Mutant::EndsOffersTwice) {
            self.offers.remove(offer);
        }
        cx.fact(Fact::OfferGone { row: offer });
        Some(row)
    }

    /// Ends offers whose time is over: rescinded, and not made again at once.
    pub(super) fn expire_offers(&mut self, cx: &mut Cx<'_>) {
        while cx.has_room() {
            let Some(offer) = self.offers_by_age.first(&self.offers) else { return };
            if self.offers.get_ref(offer).is_none_or(|row| row.expires > cx.now) {
                return;
            }
            // Whoever did not answer does not get the same at once.
            self.rescind(cx, offer, Some(0));
        }
    }

    /// Ends an offer by the master's own will, and tells its framework. What it held is free, and
    /// not offered to that framework for `refuse_us`, if that is given.
    pub(super) fn rescind(&mut self, cx: &mut Cx<'_>, offer: Id, refuse_us: Option<u64>) {
        let Some(row) = self.take_offer(cx, offer) else { return };
        if let Some(framework) = self.frameworks.id_at(row.framework) {
            let id = OfferId { epoch: self.fence().epoch, id: offer };
            self.tell(cx, framework, Event::Rescind { offer: id }, &[]);
        }
        match refuse_us {
            Some(_) => self.recover(cx.now, row.agent, row.client, row.held, refuse_us),
            None => self.free(&row),
        }
    }

    /// What an offer held is free, and nobody refused it.
    fn free(&mut self, row: &Offer) {
        let (allocator, mut world) = self.world();
        allocator.recover(&mut world, row.agent, row.client, row.held, None);
    }

    /// At most [`OFFERS_PER_AGENT_MAX`].
    pub(super) fn rescind_agent_offers(&mut self, cx: &mut Cx<'_>, agent: Id) {
        while let Some(offer) =
            self.agents.get_ref(agent).and_then(|row| row.offers.first(&self.offers))
        {
            self.rescind(cx, offer, None);
        }
    }

    /// Ends all offers to a framework that is not there to be told. A fact each, a few bytes.
    pub(super) fn withdraw_offers(&mut self, cx: &mut Cx<'_>, framework: Id) {
        while let Some(offer) =
            self.frameworks.get_ref(framework).and_then(|row| row.offers.first(&self.offers))
        {
            if let Some(row) = self.take_offer(cx, offer) {
                self.free(&row);
            }
        }
    }

    /// Ends the offers made to a framework in one of its roles.
    pub(super) fn rescind_client_offers(&mut self, cx: &mut Cx<'_>, framework: Id, client: u32) {
        let mut next =
            self.frameworks.get_ref(framework).and_then(|row| row.offers.first(&self.offers));
        while let Some(offer) = next {
            next = after(&self.offers, OF_FRAMEWORK, offer);
            if self.offers.get_ref(offer).is_some_and(|row| row.client == client) {
                self.rescind(cx, offer, None);
            }
        }
    }

    /// Agents and frameworks with long work, in turn, until the step has emitted enough.
    pub(super) fn do_chores(&mut self, cx: &mut Cx<'_>) {
        let mut agents = self.agents.high_water();
        let mut frameworks = self.frameworks.high_water();
        while self.counters.chores > 0 && cx.has_room() && (agents > 0 || frameworks > 0) {
            if agents > 0 {
                agents = agents.saturating_sub(1);
                let slot = turn(&mut self.counters.chore_agent, self.agents.high_water());
                if let Some((id, row)) = self.agents.at(slot)
                    && row.has_chore()
                    && self.do_agent_chore(cx, id)
                {
                    self.counters.chores = self.counters.chores.saturating_sub(1);
                }
                continue;
            }
            frameworks = frameworks.saturating_sub(1);
            let slot = turn(&mut self.counters.chore_framework, self.frameworks.high_water());
            let has_chore = self.frameworks.row(slot).is_some_and(|row| {
                (row.reconciling && !row.congested)
                    || (row.state == FrameworkState::Leaving && !row.told_all)
            });
            if let Some(id) = self.frameworks.id_at(slot).filter(|_| has_chore)
                && self.do_framework_chore(cx, id)
            {
                self.counters.chores = self.counters.chores.saturating_sub(1);
            }
        }
    }
}

/// The next slot of a table, in turn.
fn turn(cursor: &mut u32, bound: u32) -> u32 {
    let slot = if *cursor < bound { *cursor } else { 0 };
    *cursor = slot.saturating_add(1);
    slot
}

/// Bytes of the names of executors that an offer tells at the most: they are for information.
const EXECUTORS_BYTES: usize = 512;
/// Bytes of an offer beside its resources at the most: ids, a role's whole path, executors.
const OFFER_BYTES: usize = 64 + crate::limits::NAME_MAX + EXECUTORS_BYTES;
