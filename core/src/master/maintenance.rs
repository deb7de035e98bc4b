//! Planned absences of machines: the schedule, and machines that are down.
//!
//! Mesos: `Master::Http::updateMaintenanceSchedule`, `startMaintenance`, `stopMaintenance`. A machine
//! is named by its host's name in any case, its address, or both; what is not given fits any. What a
//! new schedule means for each agent is worked out over as many ticks as it takes.

use super::rows::{AgentState, Farewell, Machine};
use super::{Cx, Fact, Master, Output};
use crate::Refusal;
use crate::limits::NAME_MAX;
use crate::names::{Name, Text};
use crate::table::Id;
use crate::wire::event::Unavailability;
use crate::wire::operator::{MachineId, OperatorEvent, Planned};
use crate::wire::{Head, Seq};

impl Master<'_> {
    /// Replaces the schedule. Machines that are down must stay in it. O(machines²), then
    /// O(agents · machines) over ticks.
    ///
    /// `Busy`; `BadMachine` for a machine named twice, `Down` for one that is down and not named,
    /// `MaintenanceFull` and `NamesFull`; nothing has changed then.
    pub(super) fn set_schedule(
        &mut self,
        cx: &mut Cx<'_>,
        planned: &Seq<'_, Planned<'_>>,
    ) -> Result<(), Refusal> {
        self.check_told()?;
        self.check_schedule(planned)?;
        for slot in 0..self.machines.high_water() {
            if let Some(row) = self.machines.row_mut(slot) {
                row.stays = false;
            }
        }
        for one in planned.iter() {
            self.plan_known(&one);
        }
        self.drop_machines(cx);
        for one in planned.iter() {
            self.plan_new(&one);
        }
        self.plan_again();
        Ok(())
    }

    /// One change of the schedule at a time: the last one was told, all of it. `Busy`.
    fn check_told(&self) -> Result<(), Refusal> {
        let told = !self.machines.iter().any(|(_, row)| row.untold);
        if told && self.counters.planner_ticket == 0 { Ok(()) } else { Err(Refusal::Busy) }
    }

    fn check_schedule(&self, planned: &Seq<'_, Planned<'_>>) -> Result<(), Refusal> {
        let mut new = 0u32;
        for (place, one) in planned.iter().enumerate() {
            let twice =
                planned.iter().take(place).any(|before| same(&before.machine, &one.machine));
            if twice {
                return Err(Refusal::BadMachine);
            }
            new = new.saturating_add(1);
        }
        if new > self.machines.capacity() {
            return Err(Refusal::MaintenanceFull);
        }
        let stays = |id: Id| planned.iter().any(|one| self.machine(&one.machine) == Some(id));
        if self.machines.iter().any(|(id, row)| row.down && !stays(id)) {
            return Err(Refusal::Down);
        }
        let all = planned.iter().flat_map(|one| [one.machine.hostname, one.machine.ip]);
        if self.names.has_room_for(all) { Ok(()) } else { Err(Refusal::NamesFull) }
    }

    /// A machine that was in the schedule before has the window of the new one.
    fn plan_known(&mut self, planned: &Planned<'_>) {
        let Planned { machine, window } = planned;
        let Some(row) = self.machine(machine).and_then(|id| self.machines.get_mut(id)) else {
            return;
        };
        let (start_wall_us, duration_us) = (window.start_wall_us, window.duration_us);
        row.stays = true;
        if (row.start_wall_us, row.duration_us) != (start_wall_us, duration_us) {
            (row.untold, row.renewed) = (true, true);
            (row.start_wall_us, row.duration_us) = (start_wall_us, duration_us);
        }
    }

    fn plan_new(&mut self, planned: &Planned<'_>) {
        let Planned { machine, window } = planned;
        if self.machine(machine).is_some() {
            return;
        }
        let mut intern = |text| self.names.intern(text).unwrap_or(Name::EMPTY);
        let row = Machine {
            hostname: intern(machine.hostname),
            ip: intern(machine.ip),
            start_wall_us: window.start_wall_us,
            duration_us: window.duration_us,
            stays: true,
            untold: true,
            renewed: true,
            ..bytemuck::Zeroable::zeroed()
        };
        let inserted = self.machines.insert(row);
        invariant!(inserted.is_ok(), "a machine that was counted has no room");
    }

    /// Machines that a new schedule does not name are as if they had never been in one.
    fn drop_machines(&mut self, cx: &mut Cx<'_>) {
        for slot in 0..self.machines.high_water() {
            if let Some((id, row)) = self.machines.at(slot)
                && !row.stays
            {
                self.forget_machine(cx, id, &row);
            }
        }
    }

    fn forget_machine(&mut self, cx: &mut Cx<'_>, id: Id, row: &Machine) {
        self.names.release_one(row.hostname);
        self.names.release_one(row.ip);
        self.machines.remove(id);
        cx.fact(Fact::MachineGone { row: id });
    }

    /// START_MAINTENANCE and STOP_MAINTENANCE: machines go down, and their agents with them; or are
    /// up again, and out of the schedule. All or none. O(machines of the call · machines).
    ///
    /// `Busy`, `NotPlanned`, `NotDown`, `Down`.
    pub(super) fn set_down(
        &mut self,
        cx: &mut Cx<'_>,
        machines: &Seq<'_, MachineId<'_>>,
        down: bool,
    ) -> Result<(), Refusal> {
        self.check_told()?;
        for (place, one) in machines.iter().enumerate() {
            if machines.iter().take(place).any(|before| same(&before, &one)) {
                return Err(Refusal::BadMachine);
            }
            let row = self.machine(&one).and_then(|id| self.machines.get_ref(id));
            let row = row.ok_or(Refusal::NotPlanned)?;
            if !down && !row.down {
                return Err(Refusal::NotDown);
            }
            if down && row.down {
                return Err(Refusal::Down);
            }
        }
        for one in machines.iter() {
            let Some(id) = self.machine(&one) else { continue };
            if down {
                if let Some(row) = self.machines.get_mut(id) {
                    (row.down, row.untold) = (true, true);
                }
            } else if let Some(row) = self.machines.get(id) {
                self.forget_machine(cx, id, &row);
            }
        }
        self.plan_again();
        Ok(())
    }

    /// Every agent is to be held against the schedule, the first one next.
    fn plan_again(&mut self) {
        self.counters.planning = 1;
    }

    /// Tells the read model of machines, then holds agents against the schedule, as many as a step
    /// has room for.
    pub(super) fn plan_some(&mut self, cx: &mut Cx<'_>) {
        if self.counters.planning == 0 {
            return;
        }
        for slot in 0..self.machines.high_water() {
            if !cx.has_room() {
                return;
            }
            self.tell_machine(cx, slot);
        }
        self.answer_planner(cx);
        while let Some(at) = self.counters.planning.checked_sub(1)
            && cx.has_room()
        {
            if at >= self.agents.high_water() {
                self.end_planning();
                return;
            }
            self.counters.planning = at.saturating_add(2);
            if let Some(agent) = self.agents.id_at(at) {
                self.plan_agent(cx, agent);
            }
        }
    }

    /// The answer to a call that changes the schedule follows everything that it changed.
    pub(super) fn answer_later(&mut self, conn: Id, ticket: u32) {
        (self.counters.planner, self.counters.planner_ticket) = (conn, ticket);
    }

    fn answer_planner(&mut self, cx: &mut Cx<'_>) {
        let ticket = core::mem::take(&mut self.counters.planner_ticket);
        let conn = core::mem::replace(&mut self.counters.planner, Id::NONE);
        if ticket != 0 && self.conn(conn).is_some() {
            let reply = OperatorEvent::Reply { ticket, result: Ok(()), message: "" };
            cx.emit(Output::Send { conn, head: Head::OperatorEvent(reply) });
        }
    }

    /// A machine that the registry has. `OutOfTurn`, `MaintenanceFull`, `NamesFull`.
    pub(super) fn recall_machine(
        &mut self,
        planned: &Planned<'_>,
        down: bool,
    ) -> Result<(), Refusal> {
        let MachineId { hostname, ip } = planned.machine;
        if self.cluster != 0 || self.machine(&planned.machine).is_some() {
            return Err(Refusal::OutOfTurn);
        }
        if self.machines.room() == 0 {
            return Err(Refusal::MaintenanceFull);
        }
        if !self.names.has_room_for([hostname, ip]) {
            return Err(Refusal::NamesFull);
        }
        self.plan_new(planned);
        if let Some(row) = self.machine(&planned.machine).and_then(|id| self.machines.get_mut(id)) {
            row.down = down;
        }
        self.plan_again();
        Ok(())
    }

    fn end_planning(&mut self) {
        self.counters.planning = 0;
        for slot in 0..self.machines.high_water() {
            if let Some(row) = self.machines.row_mut(slot) {
                row.renewed = false;
            }
        }
    }

    fn tell_machine(&mut self, cx: &mut Cx<'_>, slot: u32) {
        let Some((id, row)) = self.machines.at(slot).filter(|(_, row)| row.untold) else { return };
        if let Some(row) = self.machines.row_mut(slot) {
            row.untold = false;
        }
        let (hostname, ip) = (self.text(row.hostname), self.text(row.ip));
        let machine = MachineId { hostname: &hostname, ip: &ip };
        cx.fact(Fact::Machine { row: id, machine, window: window(&row), down: row.down });
    }

    /// What the schedule says of an agent's machine now. Another window than before: it is offered
    /// anew with that, and whoever has something there is asked to give it back.
    pub(super) fn plan_agent(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let Some(row) = self.agents.get(agent) else { return };
        let machine = self.machine_of(agent);
        let place = machine.map_or(0, |id| id.index.saturating_add(1));
        let known = machine.and_then(|id| self.machines.get_ref(id));
        let (down, renewed) = known.map_or((false, false), |row| (row.down, row.renewed));
        if place != row.machine || renewed {
            if let Some(row) = self.agents.get_mut(agent) {
                row.machine = place;
            }
            self.rescind_agent_offers(cx, agent);
            self.forget_inverse_of_agent(cx, agent);
            let given_up = [AgentState::Losing, AgentState::Unreachable, AgentState::Gone];
            if place != 0 && !given_up.contains(&row.state) {
                self.ask_all_of_agent(cx, agent);
            }
        }
        if down && !matches!(row.state, AgentState::Losing | AgentState::Gone) {
            self.send_away(cx, agent, Farewell::Down);
        }
    }

    /// When an agent is planned not to be there. O(1).
    pub(super) fn window_of(&self, agent: u32) -> Option<Unavailability> {
        let machine = self.agents.row(agent)?.machine.checked_sub(1)?;
        self.machines.row(machine).map(window)
    }

    /// True when whoever is on that host, or at that address, may not register now.
    pub(super) fn is_down(&self, hostname: &str, address: &str) -> bool {
        let row = self.matching(hostname, address).and_then(|id| self.machines.get_ref(id));
        row.is_some_and(|row| row.down)
    }

    pub(super) fn machine_of(&self, agent: Id) -> Option<Id> {
        let address = self.text(self.agents.get_ref(agent)?.address);
        let hostname = self.text(self.allocator.host(agent.index).hostname);
        self.matching(&hostname, &address)
    }

    /// The machine in the schedule that a host of that name and address is.
    fn matching(&self, hostname: &str, address: &str) -> Option<Id> {
        if self.machines.is_empty() {
            return None;
        }
        let ip = address.rsplit_once(':').map_or(address, |(ip, _)| ip);
        let ip = ip.trim_matches(['[', ']']);
        // What nobody holds as a name is in no schedule.
        let known = |text: &str| self.names.find(text);
        let (host, ip) = (known(&lower(hostname)), known(ip));
        let fits = |named: Name, is: Option<Name>| named.is_empty() || Some(named) == is;
        // An agent that has no address of its own goes by its host's name alone.
        let anywhere = ip == Some(Name::EMPTY);
        let here = |row: &Machine| {
            let by_ip = fits(row.ip, ip) || (anywhere && !row.hostname.is_empty());
            fits(row.hostname, host) && by_ip
        };
        self.machines.find(here).map(|(id, _)| id)
    }

    /// The row of a machine by just the name that it has in the schedule.
    fn machine(&self, machine: &MachineId<'_>) -> Option<Id> {
        let hostname = self.names.find(machine.hostname)?;
        let ip = self.names.find(machine.ip)?;
        let named = |row: &Machine| row.hostname == hostname && row.ip == ip;
        self.machines.find(named).map(|(id, _)| id)
    }
}

fn window(row: &Machine) -> Unavailability {
    Unavailability { start_wall_us: row.start_wall_us, duration_us: row.duration_us }
}

/// Two names of one machine.
fn same(one: &MachineId<'_>, other: &MachineId<'_>) -> bool {
    one.ip == other.ip && one.hostname == other.hostname
}

/// A host's name in lower case (RFC 4343); longer than a name may be, it is cut.
fn lower(hostname: &str) -> Text {
    let mut text = Text::new();
    for letter in hostname.chars().take(NAME_MAX) {
        let _ = text.push(letter.to_ascii_lowercase());
    }
    text
}
