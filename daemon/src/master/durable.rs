//! What a leader of several masters decides, on its way to all of them: what asks for it is answered
//! when a majority has it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mesita_core::Refusal;
use mesita_core::master::Fact;
use mesita_core::registry::rows::Row;
use mesita_core::table::Id;
use mesita_core::wire::agent::AgentEvent;
use mesita_core::wire::event::{AgentInfo, Event};
use mesita_core::wire::gossip::Table;
use mesita_core::wire::operator::{MachineId, OperatorCall, OperatorEvent, OperatorVerb, Planned};
use mesita_core::wire::{BodyRef, Head, decode};

use super::MasterNode;
use crate::conn::Conn;
use crate::set::kept::About;
use crate::set::node::SetNode;

impl MasterNode {
    pub(super) fn set(&self) -> Option<Rc<SetNode>> {
        self.of_set.borrow().upgrade()
    }

    /// Keeps what a fact says, if it is to outlive this leader.
    pub(super) fn keep(&self, fact: &Fact<'_>) {
        // Before it leads it is told what is kept, and what the flags of this one say.
        if self.catalog.borrow().now.leading.is_none() {
            return;
        }
        let Some(set) = self.set() else { return };
        let row = match *fact {
            Fact::Admission(admission) => {
                set.keep(&Row::Agent(admission));
                let catalog = self.catalog.borrow();
                let agent = catalog.agent(admission.agent);
                let info = agent.and_then(|(_, agent)| agent.info.info());
                let hostname = info.map_or("", |info| info.hostname);
                return set.keep(&Row::Host { agent: admission.agent, hostname });
            }
            Fact::Agent { info: AgentInfo { agent, hostname, .. }, .. } => {
                // One that is new is kept when it is admitted.
                if set.has(&About::agent(agent)) {
                    set.keep(&Row::Host { agent, hostname });
                }
                return;
            }
            Fact::Machine { machine, window, down, .. } => {
                Row::Machine { planned: Planned { machine, window }, down }
            }
            Fact::MachineGone { row } => {
                let catalog = self.catalog.borrow();
                if let Some(machine) = catalog.now.machines.get(row) {
                    let machine = MachineId { hostname: &machine.hostname, ip: &machine.ip };
                    set.forget(&About::machine(&machine));
                }
                return;
            }
            Fact::Removed { framework, instead_of } => {
                set.forget(&About::framework(instead_of));
                Row::Removed(framework)
            }
            Fact::Framework { info, .. } => Row::Framework(info.kept()),
            Fact::Unheard { framework } => return set.forget(&About::framework(framework)),
            Fact::Dismissed { agent } => {
                set.forget(&About::host(agent));
                return set.forget(&About::agent(agent));
            }
            Fact::Quota { role, guarantees, limits } => Row::Quota { role, guarantees, limits },
            Fact::Weight { role, weight } => Row::Weight { role, weight },
            Fact::Leading { .. }
            | Fact::AgentState { .. }
            | Fact::AgentKept { .. }
            | Fact::AgentGone { .. }
            | Fact::FrameworkState { .. }
            | Fact::FrameworkGone { .. }
            | Fact::Task { .. }
            | Fact::TaskState { .. }
            | Fact::TaskGone { .. }
            | Fact::Executor { .. }
            | Fact::ExecutorGone { .. }
            | Fact::Offer { .. }
            | Fact::OfferGone { .. }
            | Fact::AgentDeactivated { .. }
            | Fact::AgentEmptying { .. }
            | Fact::Inverse { .. }
            | Fact::InverseGone { .. }
            | Fact::AgentResources { .. }
            | Fact::Operation { .. }
            | Fact::OperationState { .. }
            | Fact::OperationGone { .. } => return,
        };
        set.keep(&row);
    }

    /// Calls `then` when everything decided so far is durable: at once, where nobody keeps it.
    pub(super) fn when_durable(&self, then: impl FnOnce() + 'static) {
        match self.set() {
            Some(set) => set.when_durable(then),
            None => then(),
        }
    }

    /// Why a call asks for more than can be kept.
    pub(super) fn can_keep(&self, call: &OperatorCall<'_>) -> Result<(), Refusal> {
        let row = match call.verb {
            OperatorVerb::SetQuota { role, guarantees, limits, .. } => {
                Row::Quota { role, guarantees, limits }
            }
            OperatorVerb::SetWeight { role, weight } => Row::Weight { role, weight },
            OperatorVerb::Schedule { machines } => {
                let rows = machines.iter().map(|planned| Row::Machine { planned, down: false });
                let set = self.set();
                return set.map_or(Ok(()), |set| set.has_room_for(Table::Windows, rows));
            }
            OperatorVerb::Deactivate { .. }
            | OperatorVerb::Whitelist { .. }
            | OperatorVerb::Down { .. }
            | OperatorVerb::Drain { .. }
            | OperatorVerb::MarkGone { .. }
            | OperatorVerb::Operate { .. }
            | OperatorVerb::Teardown { .. }
            | OperatorVerb::Masters { .. }
            | OperatorVerb::Once { .. } => return Ok(()),
        };
        self.set().map_or(Ok(()), |set| set.has_room(&row))
    }

    /// True when a call was answered, because it asks for more than can be kept.
    pub(super) fn refuses(&self, conn: &Conn, call: &OperatorCall<'_>) -> bool {
        let Err(refusal) = self.can_keep(call) else { return false };
        let (ticket, result, message) = (call.ticket, Err(refusal), refusal.sentence());
        conn.say(&Head::OperatorEvent(OperatorEvent::Reply { ticket, result, message }));
        true
    }

    /// Sends an answer to an operator, or to an agent that it is registered, when everything decided
    /// before it is durable. False: it is neither, or nobody keeps what is decided.
    pub(super) fn answer_when_durable(&self, conn: Id, head: &[u8], bodies: &[BodyRef]) -> bool {
        let waits = || self.is_operator(conn) || is_welcome(head);
        let Some(set) = self.set().filter(|_| waits()) else { return false };
        let (me, head, bodies) = (self.me.clone(), head.to_vec(), bodies.to_vec());
        set.when_durable(move || {
            if let Some(me) = me.upgrade() {
                me.send_now(conn, &head, &bodies);
            }
        });
        true
    }
}

/// What a framework is told that subscribed, and what follows it, in order, until a majority has whose it
/// is: whoever leads next would give its id to the first that names it. That takes one write, or as
/// long as a leader without a majority lasts.
#[derive(Default)]
pub(super) struct Welcomes(RefCell<BTreeMap<Id, Vec<Held>>>);

struct Held {
    head: Vec<u8>,
    bodies: Vec<BodyRef>,
}

impl MasterNode {
    /// Holds a head for a framework that is not to hear it yet. False: it is to hear it now.
    pub(super) fn holds_back(&self, conn: Id, head: &[u8], bodies: &[BodyRef]) -> bool {
        let mut welcomes = self.welcomes.0.borrow_mut();
        let begins = !welcomes.contains_key(&conn);
        if begins {
            let subscribed = || matches!(decode(head), Ok(Head::Event(Event::Subscribed { .. })));
            // Most heads go to nobody who waits: they are looked at no further.
            if !self.is_behind() || !subscribed() {
                return false;
            }
        }
        bodies.iter().for_each(|body| self.port.bodies.borrow_mut().keep(*body));
        let held = Held { head: head.to_vec(), bodies: bodies.to_vec() };
        welcomes.entry(conn).or_default().push(held);
        drop(welcomes);
        if begins {
            let me = self.me.clone();
            self.when_durable(move || {
                if let Some(me) = me.upgrade() {
                    me.welcome(conn);
                }
            });
        }
        true
    }

    /// Something that was decided is not durable yet.
    fn is_behind(&self) -> bool {
        self.set().is_some_and(|set| set.is_behind())
    }

    fn welcome(&self, conn: Id) {
        let held = self.welcomes.0.borrow_mut().remove(&conn);
        for Held { head, bodies } in held.into_iter().flatten() {
            self.send_now(conn, &head, &bodies);
            self.port.drop_bodies(&bodies);
        }
    }
}

/// True for the answer to an agent that registered.
fn is_welcome(head: &[u8]) -> bool {
    matches!(decode(head), Ok(Head::AgentEvent(AgentEvent::Registered { .. })))
}
