//! What operators ask for.

use super::*;

impl Cluster {
    /// What an operator's program says to whoever leads, over a connection of its own.
    pub fn operate(&mut self, verb: OperatorVerb<'_>) {
        let Some(id) = self.leader() else { return };
        self.operations += 1;
        let conn = Id { index: self.capacity.conns - 1, generation: self.operations };
        let (role, caller, head_max) = (Role::Client, 0, 8_192);
        self.tell_master(id, master::Input::Opened { conn, role, version: 3, caller, head_max });
        let head = bytes_of(&Head::OperatorCall(OperatorCall { ticket: 0, verb }));
        let (bodies, verdicts) = (Seq::EMPTY, Seq::EMPTY);
        self.tell_master(id, master::Input::Frame { conn, head: &head, bodies, verdicts });
        let since = self.local(Node::Master(id));
        self.tell_master(id, master::Input::Closed { conn, since });
    }

    pub fn drain(&mut self, agent: usize, grace_us: Option<u64>) {
        if let Some(agent) = self.agents[agent].id {
            self.operate(OperatorVerb::Drain { agent, grace_us, gone: false });
        }
    }

    pub(super) fn teardown(&mut self, framework: usize) {
        let framework = self.frameworks[framework].id;
        if !framework.is_none() {
            self.saw("a framework is removed");
            self.operate(OperatorVerb::Teardown { framework });
        }
    }

    pub fn reactivate(&mut self, agent: usize) {
        if let Some(agent) = self.agents[agent].id {
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

    /// The most cpus that a role may have, in thousandths; 0 = as many as there are.
    pub(super) fn limit(&mut self, role: &str, cpus: u64) {
        let amount = Amount::from_milli(cpus);
        let limit = (cpus > 0).then_some(Quantity { name: "cpus", amount });
        let limits = scratch().seq::<Quantity<'static>>(limit).unwrap();
        let (guarantees, force) = (Seq::EMPTY, true);
        self.operate(OperatorVerb::SetQuota { role, guarantees, limits, force });
    }
}
