//! Offers: what fits is taken, the rest goes back; and when nothing fits, why.

use mesita_core::resources::Amount;
use mesita_core::resources::text::{TextValue, resources};
use mesita_core::wire::call::{Accept, Operation, Quantity, Request, Verb};
use mesita_core::wire::event::Offer;
use mesita_core::wire::task::{Kind, Launch};
use mesita_core::wire::{AgentId, Body, OfferId, Scratch, Seq};

use super::app::{App, Stage};
use crate::fit::Left;
use crate::{clock, command};

/// Memory for the lists of one call.
const MEMORY: usize = 64 * 1024;
/// Tasks that are taken from one offer at once: the head of their launch has room for them.
const TASKS_MAX: usize = 64;

impl App {
    /// Takes as many waiting tasks from an offer as fit, and gives it back when none does.
    pub(super) fn offered(&self, offer: &Offer<'_>) {
        let waiting: Vec<usize> = {
            let instances = self.instances.borrow();
            let waiting = instances.iter().enumerate();
            waiting.filter(|(_, one)| one.stage == Stage::Waiting).map(|(index, _)| index).collect()
        };
        let mut left = Left::of(&offer.resources);
        let mut memories: Vec<Vec<u8>> = Vec::new();
        let mut taken = Vec::new();
        for &index in waiting.iter().take(TASKS_MAX) {
            let (mut memory, mut parts) = (vec![0; 1024], vec![0; 1024]);
            let fits = {
                let mut scratch = Scratch::new(&mut memory);
                left.take(&self.job.resources, &mut scratch, &mut parts).map(|list| {
                    // Our own types have no way to fail.
                    postcard::to_allocvec(&list).unwrap_or_default()
                })
            };
            let Some(list) = fits else { break };
            memories.push(list);
            taken.push(index);
        }
        if taken.is_empty() {
            // What does not fit now is worth another look only after a while; what is not needed
            // at all, never.
            let refuse_us = if waiting.is_empty() { u64::MAX } else { 5_000_000 };
            return self.decline(offer.id, refuse_us);
        }
        self.accept(offer, &taken, &memories);
    }

    fn accept(&self, offer: &Offer<'_>, taken: &[usize], lists: &[Vec<u8>]) {
        let Some(client) = self.client() else { return };
        let mut instances = self.instances.borrow_mut();
        // One command for all of them; each has its own name.
        let private = command::private(self.job.command.clone());
        let mut bodies = vec![private];
        let mut launches = Vec::new();
        for (&index, list) in taken.iter().zip(lists) {
            let Some(instance) = instances.get(index) else { continue };
            let public = u16::try_from(bodies.len()).unwrap_or(0);
            bodies.push(command::public(&self.job.name, self.job.container.as_ref()));
            launches.push(Launch {
                task: &instance.id,
                agent: offer.agent,
                kind: Kind::Command,
                resources: mesita_core::wire::decode(list).unwrap_or_default(),
                limits: Seq::EMPTY,
                executor: None,
                user: &self.job.user,
                grace_us: self.job.grace_us,
                completion_us: None,
                restart: self.job.restart,
                public: Body::at(public),
                private: Body::at(0),
            });
        }
        let mut memory = vec![0; 2 * MEMORY];
        let mut scratch = Scratch::new(&mut memory);
        let tasks = scratch.seq::<Launch<'static>>(launches.iter().copied()).unwrap_or_default();
        let offers = scratch.seq::<OfferId>([offer.id]).unwrap_or_default();
        let launch = Operation::Launch { tasks };
        let operations = scratch.seq::<Operation<'static>>([launch]).unwrap_or_default();
        let more = instances.iter().filter(|one| one.stage == Stage::Waiting).count() > taken.len();
        let refuse_us = if more { None } else { Some(u64::MAX) };
        client.call(0, Verb::Accept(Accept { offers, operations, refuse_us }), &bodies);
        let shown = offer.agent.shown(self.cluster.get()).to_string();
        let agent = self.name_of(offer.agent);
        drop(launches);
        for &index in taken {
            let Some(instance) = instances.get_mut(index) else { continue };
            instance.stage = Stage::Submitted;
            instance.agent = offer.agent;
            instance.began = clock::now();
            self.voice.submitted(&instance.id, &agent, &shown);
        }
        if !more {
            client.call(0, Verb::Suppress { roles: Seq::EMPTY }, &[]);
        }
    }

    fn decline(&self, offer: OfferId, refuse_us: u64) {
        let Some(client) = self.client() else { return };
        let mut memory = [0; 64];
        let offers = Scratch::new(&mut memory).seq::<OfferId>([offer]).unwrap_or_default();
        client.call(0, Verb::Decline { offers, refuse_us: Some(refuse_us) }, &[]);
    }

    /// The name of an agent that was introduced, else its id.
    pub(super) fn name_of(&self, agent: AgentId) -> String {
        let known = self.agents.borrow().get(&agent).cloned();
        known.unwrap_or_else(|| agent.shown(self.cluster.get()).to_string())
    }

    fn waits(&self) -> bool {
        self.instances.borrow().iter().any(|one| one.stage == Stage::Waiting)
    }

    /// Tells the master what would be of use; it answers when nobody has that much. False when
    /// nothing is asked.
    pub(super) fn ask_for_offers(&self) -> bool {
        let known = !self.framework.get().is_none();
        let Some(client) = self.client().filter(|_| known && self.waits()) else { return false };
        self.answered.set(false);
        let scalars = resources(&self.job.resources).flatten().filter_map(|entry| {
            let TextValue::Scalar(amount) = entry.value else { return None };
            Some(Quantity { name: entry.name, amount })
        });
        let mut memory = [0; 2048];
        let mut scratch = Scratch::new(&mut memory);
        let amounts = scratch.seq::<Quantity<'static>>(scalars).unwrap_or_default();
        let request = Request { agent: AgentId::NONE, amounts };
        let requests = scratch.seq::<Request<'static>>([request]).unwrap_or_default();
        client.call(0, Verb::Request { requests }, &[]);
        true
    }

    /// Says that agents have enough, only not for this, when the master did not say what is short.
    pub(super) fn told_nothing(&self) {
        if !self.answered.get() && self.is_connected() && self.waits() {
            let why = "the agents that have that much use it for other tasks, or take none now; \
                       `mesita explain` tells which";
            self.say_waiting(why, "");
        }
    }

    fn say_waiting(&self, why: &str, fits: &str) {
        if *self.waiting.borrow() != why {
            why.clone_into(&mut self.waiting.borrow_mut());
            self.voice.waiting(why, fits);
        }
    }

    /// Says why nothing fits, unless that was said already.
    pub(super) fn told_why(
        &self,
        name: &str,
        asked: u64,
        largest: u64,
        agent: AgentId,
        fits: &Seq<'_, Quantity<'_>>,
    ) {
        let wanted = format!("{name}:{}", Amount::from_milli(asked));
        let short = Amount::from_milli(asked.saturating_sub(largest));
        let why = if agent.is_none() {
            "there is no agent".to_owned()
        } else {
            let largest = Amount::from_milli(largest);
            let agent = self.name_of(agent);
            format!(
                "no agent has {wanted}; largest is {agent} with {name}:{largest} (short by {short})"
            )
        };
        self.answered.set(true);
        self.say_waiting(&why, &would_fit(fits));
    }
}

/// What would fit, as a flag takes it: without what is not there at all, and nothing where no task
/// could be.
fn would_fit(fits: &Seq<'_, Quantity<'_>>) -> String {
    let is_there = |one: &Quantity<'_>| one.amount > Amount::ZERO;
    if fits.iter().any(|one| matches!(one.name, "cpus" | "mem") && !is_there(&one)) {
        return String::new();
    }
    let shown = |one: Quantity<'_>| format!("{}:{}", one.name, one.amount);
    fits.iter().filter(is_there).map(shown).collect::<Vec<_>>().join(";")
}
