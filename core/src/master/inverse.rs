//! Inverse offers: frameworks are asked to give back what they have of an agent that will go away.
//!
//! Whoever has something there, or was offered it, is asked, once at a time for each agent; the
//! answer changes nothing and is told to operators. After an answer, or none in time, it is asked
//! again as long as it has something there. Mesos: `Master::inverseOffer`,
//! `HierarchicalAllocatorProcess::generateInverseOffers`.

use super::rows::{FrameworkState, Inverse, OF_AGENT, OF_FRAMEWORK, Willing};
use super::{Cx, Fact, Master, Output, REFUSE_DEFAULT_US};
use crate::Refusal;
use crate::index::{Chain, after};
use crate::limits::DURATION_MAX_US;
use crate::table::Id;
use crate::time::Time;
use crate::wire::event::{Event, InverseOffer};
use crate::wire::{Head, OfferId, Scratch, Seq};

/// What tells ids of inverse offers from those of offers: clients keep both in one place.
const INVERSE: u32 = 1 << 31;

impl Master<'_> {
    /// A framework has something of an agent, or was offered it: it is to be asked for that, if the
    /// agent will go away. Without room for the request it is not. O(requests about the agent).
    pub(super) fn ask_back(&mut self, cx: &mut Cx<'_>, framework: Id, agent: Id) {
        if self.window_of(agent.index).is_none() {
            return;
        }
        if let Some(known) = self.inverse_of(framework, agent) {
            let waits = self.inverse.get_ref(known).is_some_and(|row| row.asked);
            if !waits && !self.inverse_timers.is_set(known.index) {
                self.inverse_timers.set(known.index, cx.now);
            }
            return;
        }
        let row = Inverse {
            framework: framework.index,
            agent: agent.index,
            ..bytemuck::Zeroable::zeroed()
        };
        let Ok(id) = self.inverse.insert(row) else {
            self.counters.unasked = self.counters.unasked.saturating_add(1);
            return;
        };
        if let Some(row) = self.agents.get_mut(agent) {
            row.inverse.push(&mut self.inverse, OF_AGENT, id);
        }
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.inverse.push(&mut self.inverse, OF_FRAMEWORK, id);
        }
        self.inverse_timers.set(id.index, cx.now);
    }

    /// Everybody with something of an agent is to be asked for it. O(what lives there · requests).
    pub(super) fn ask_all_of_agent(&mut self, cx: &mut Cx<'_>, agent: Id) {
        for slot in 0..self.frameworks.high_water() {
            if let Some(framework) = self.frameworks.id_at(slot)
                && self.has_something(framework, agent)
            {
                self.ask_back(cx, framework, agent);
            }
        }
    }

    /// Asks whoever is to be asked, and gives up waiting for those that did not answer in time.
    pub(super) fn ask_some(&mut self, cx: &mut Cx<'_>) {
        while cx.has_room()
            && let Some(slot) = self.inverse_timers.expired(cx.now)
        {
            let Some((id, row)) = self.inverse.at(slot) else { continue };
            let ids = (self.frameworks.id_at(row.framework), self.agents.id_at(row.agent));
            let (Some(framework), Some(agent)) = ids else { continue };
            if row.asked {
                self.take_back_request(cx, id, framework);
                let again = cx.now.after(REFUSE_DEFAULT_US);
                self.inverse_timers.set(slot, again);
            } else if self.has_something(framework, agent) {
                self.ask(cx, id, framework, agent);
            } else if row.willing == Willing::Unknown {
                // Nobody needs to know that it never answered: others need the room.
                self.forget_request(cx, id);
            }
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>, id: Id, framework: Id, agent: Id) {
        let Some(unavailable) = self.window_of(agent.index) else { return };
        let row = self.frameworks.get(framework);
        let Some(row) = row.filter(|row| row.state == FrameworkState::Active) else { return };
        let Some(agent_id) = self.agents.get_ref(agent).map(|row| row.id) else { return };
        let offer = self.inverse_id(id);
        self.with_scratch(|_, outer, _| {
            let one = InverseOffer { id: offer, agent: agent_id, unavailable };
            let offers = Scratch::new(outer).seq::<InverseOffer>([one]).unwrap_or_default();
            let head = Head::Event(Event::InverseOffers { offers });
            cx.emit(Output::Send { conn: row.conn, head });
        });
        if let Some(row) = self.inverse.get_mut(id) {
            row.asked = true;
        }
        let timeout = self.config.offer_timeout_us;
        let due = if timeout == 0 { Time::NEVER } else { cx.now.after(timeout) };
        self.inverse_timers.set(id.index, due);
        self.inverse_fact(cx, id);
    }

    /// ACCEPT_INVERSE_OFFERS, DECLINE_INVERSE_OFFERS: what is not asked any more is passed over.
    /// O(offers).
    pub(super) fn answer_inverse(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        offers: &Seq<'_, OfferId>,
        refuse_us: Option<u64>,
        willing: Willing,
    ) -> Result<(), Refusal> {
        let refuse_us = refuse_us.unwrap_or(REFUSE_DEFAULT_US).min(DURATION_MAX_US);
        let mut unknown = false;
        for offer in offers.iter() {
            let Some(id) = self.own_inverse(framework, offer) else {
                unknown = true;
                continue;
            };
            if let Some(row) = self.inverse.get_mut(id) {
                (row.asked, row.willing) = (false, willing);
            }
            self.inverse_timers.set(id.index, cx.now.after(refuse_us.max(ASK_AGAIN_MIN_US)));
            self.inverse_fact(cx, id);
        }
        if unknown && offers.len() == 1 { Err(Refusal::UnknownOffer) } else { Ok(()) }
    }

    fn own_inverse(&self, framework: Id, offer: OfferId) -> Option<Id> {
        let id = Id { index: offer.id.index & !INVERSE, ..offer.id };
        if offer.epoch != self.fence().epoch || offer.id.index & INVERSE == 0 {
            return None;
        }
        let row = self.inverse.get_ref(id)?;
        (row.framework == framework.index && row.asked).then_some(id)
    }

    /// A framework is there again, or wants to hear everything: it is asked at once.
    pub(super) fn ask_framework_again(&mut self, now: Time, framework: Id) {
        let first = self.frameworks.get_ref(framework).map(|row| row.inverse);
        let mut next = first.and_then(|chain| chain.first(&self.inverse));
        while let Some(id) = next {
            next = after(&self.inverse, OF_FRAMEWORK, id);
            if self.inverse.get_ref(id).is_some_and(|row| !row.asked) {
                self.inverse_timers.set(id.index, now);
            }
        }
    }

    /// A framework is not there to answer: nothing waits for it.
    pub(super) fn withdraw_inverse(&mut self, cx: &mut Cx<'_>, framework: Id) {
        let first = self.frameworks.get_ref(framework).map(|row| row.inverse);
        let mut next = first.and_then(|chain| chain.first(&self.inverse));
        while let Some(id) = next {
            next = after(&self.inverse, OF_FRAMEWORK, id);
            self.inverse_timers.clear(id.index);
            let asked = self.inverse.get_mut(id).is_some_and(|row| core::mem::take(&mut row.asked));
            if asked {
                self.inverse_fact(cx, id);
            }
        }
    }

    /// Nobody is asked for an agent any more, and nothing that was answered about it counts.
    pub(super) fn forget_inverse_of_agent(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let chain = |master: &Self| master.agents.get_ref(agent).map(|row| row.inverse);
        self.forget_inverse(cx, chain);
    }

    /// A framework goes: nobody asks it any more.
    pub(super) fn forget_inverse_of_framework(&mut self, cx: &mut Cx<'_>, framework: Id) {
        let chain = |master: &Self| master.frameworks.get_ref(framework).map(|row| row.inverse);
        self.forget_inverse(cx, chain);
    }

    fn forget_inverse(&mut self, cx: &mut Cx<'_>, chain: impl Fn(&Self) -> Option<Chain>) {
        while let Some(id) = chain(self).and_then(|chain| chain.first(&self.inverse)) {
            self.forget_request(cx, id);
        }
    }

    fn forget_request(&mut self, cx: &mut Cx<'_>, id: Id) {
        let Some(row) = self.inverse.get(id) else { return };
        if let Some(framework) = self.frameworks.id_at(row.framework).filter(|_| row.asked) {
            self.take_back_request(cx, id, framework);
        }
        if let Some(agent) = self.agents.row_mut(row.agent) {
            agent.inverse.remove(&mut self.inverse, OF_AGENT, id);
        }
        if let Some(framework) = self.frameworks.row_mut(row.framework) {
            framework.inverse.remove(&mut self.inverse, OF_FRAMEWORK, id);
        }
        self.inverse_timers.clear(id.index);
        self.inverse.remove(id);
        cx.fact(Fact::InverseGone { row: id });
    }

    fn take_back_request(&mut self, cx: &mut Cx<'_>, id: Id, framework: Id) {
        if let Some(row) = self.inverse.get_mut(id) {
            row.asked = false;
        }
        let offer = self.inverse_id(id);
        self.tell(cx, framework, Event::RescindInverse { offer }, &[]);
        self.inverse_fact(cx, id);
    }

    fn inverse_fact(&self, cx: &mut Cx<'_>, id: Id) {
        let Some(row) = self.inverse.get_ref(id) else { return };
        let ids = (self.frameworks.id_at(row.framework), self.agents.id_at(row.agent));
        let (Some(framework), Some(agent)) = ids else { return };
        let machine = self.agents.get_ref(agent).and_then(|row| row.machine.checked_sub(1));
        let machine = machine.and_then(|slot| self.machines.id_at(slot)).unwrap_or(Id::NONE);
        let offer = row.asked.then(|| self.inverse_id(id));
        let willing = row.willing;
        cx.fact(Fact::Inverse { row: id, framework, agent, machine, offer, willing });
    }

    fn inverse_id(&self, id: Id) -> OfferId {
        let id = Id { index: id.index | INVERSE, ..id };
        OfferId { epoch: self.fence().epoch, id }
    }

    fn inverse_of(&self, framework: Id, agent: Id) -> Option<Id> {
        let mut next = self.agents.get_ref(agent)?.inverse.first(&self.inverse);
        while let Some(id) = next {
            let row = self.inverse.get_ref(id)?;
            if row.framework == framework.index {
                return Some(id);
            }
            next = after(&self.inverse, OF_AGENT, id);
        }
        None
    }

    /// True when a framework has tasks or executors on an agent, or was offered it. O(what lives
    /// there).
    fn has_something(&self, framework: Id, agent: Id) -> bool {
        let Some(row) = self.agents.get_ref(agent) else { return false };
        let mut next = row.tasks.first(&self.tasks);
        while let Some(id) = next {
            let task = self.tasks.get_ref(id);
            if task.is_some_and(|task| task.framework == framework.index && task.charged) {
                return true;
            }
            next = after(&self.tasks, OF_AGENT, id);
        }
        let mut next = row.executors.first(&self.executors);
        while let Some(id) = next {
            if self.executors.get_ref(id).is_some_and(|one| one.framework == framework.index) {
                return true;
            }
            next = after(&self.executors, OF_AGENT, id);
        }
        let mut next = row.offers.first(&self.offers);
        while let Some(id) = next {
            if self.offers.get_ref(id).is_some_and(|one| one.framework == framework.index) {
                return true;
            }
            next = after(&self.offers, OF_AGENT, id);
        }
        false
    }
}

/// A refusal of no time at all still lets so much pass before the next request, in µs: whoever
/// answers at once would be asked without end. Mesos asks once a round, which is once a second.
const ASK_AGAIN_MIN_US: u64 = 1_000_000;
