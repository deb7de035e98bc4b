//! What operators ask for.

use super::*;

impl Cluster {
    /// What an operator's program says, over a connection of its own.
    pub fn operate(&mut self, verb: OperatorVerb<'_>) {
        self.operations += 1;
        let conn = Id { index: self.capacity.conns - 1, generation: self.operations };
        let (role, caller, head_max) = (Role::Client, 0, 8_192);
        self.tell_master(master::Input::Opened { conn, role, version: 3, caller, head_max });
        let head = bytes_of(&Head::OperatorCall(OperatorCall { ticket: 0, verb }));
        let (bodies, verdicts) = (Seq::EMPTY, Seq::EMPTY);
        self.tell_master(master::Input::Frame { conn, head: &head, bodies, verdicts });
        self.tell_master(master::Input::Closed { conn, since: self.now });
    }

    /// An agent's id: all are of the first epoch, in which they were admitted in some order.
    pub(super) fn agent_id(&self, agent: usize) -> Option<AgentId> {
        self.agents[agent].file.iter().rev().find_map(|(record, _)| {
            match postcard::from_bytes(record).ok()? {
                Record::Admitted { agent, .. } => Some(agent),
                _ => None,
            }
        })
    }

    pub fn drain(&mut self, agent: usize, grace_us: Option<u64>) {
        if let Some(agent) = self.agent_id(agent) {
            self.operate(OperatorVerb::Drain { agent, grace_us, gone: false });
        }
    }

    pub fn reactivate(&mut self, agent: usize) {
        if let Some(agent) = self.agent_id(agent) {
            self.operate(OperatorVerb::Deactivate { agent, deactivated: false });
        }
    }

    /// Plans an absence of these agents' machines, and of no others.
    pub(super) fn schedule(&mut self, agents: &[usize]) {
        let hosts: Vec<String> = agents.iter().map(|agent| format!("n{}", agent + 1)).collect();
        let planned = hosts.iter().map(|hostname| Planned {
            machine: MachineId { hostname, ip: "" },
            window: Unavailability { start_wall_us: self.now.0 + 1, duration_us: 0 },
        });
        let machines = scratch().seq::<Planned<'static>>(planned).unwrap();
        self.operate(OperatorVerb::Schedule { machines });
    }
}
