//! Machines on one network, each a namespace: cables between two of them are cut, and addresses change.

use std::cell::Cell;

use serde_json::Value;

use crate::network::{Namespace, ip, start};
use crate::world::{Process, World, eventually};

/// The port of every master, each on a machine of its own.
const PORT: &str = "5050";

/// Machines that all reach each other, until somebody cuts that.
pub(crate) struct Lan<'w> {
    pub(crate) world: &'w World,
    pub(crate) machines: Vec<Namespace>,
    /// Holds the switch.
    _hub: Namespace,
    net: Cell<u8>,
}

impl<'w> Lan<'w> {
    /// So many machines and a switch between them.
    pub(crate) fn new(world: &'w World, count: usize) -> Result<Self, String> {
        let hub = Namespace::new(&format!("{}-hub", world.name()))?;
        ip(&format!("-n {} link add switch type bridge", hub.name))?;
        ip(&format!("-n {} link set switch up", hub.name))?;
        let machines = (0..count).map(|at| {
            let machine = Namespace::new(&format!("{}-{at}", world.name()))?;
            let [this, switch] = [&machine.name, &hub.name];
            ip(&format!("-n {this} link add cable type veth peer name to{at} netns {switch}"))?;
            ip(&format!("-n {switch} link set to{at} master switch up"))?;
            ip(&format!("-n {this} link set cable up"))?;
            Ok(machine)
        });
        let machines = machines.collect::<Result<Vec<_>, String>>()?;
        let lan = Self { world, machines, _hub: hub, net: Cell::new(79) };
        for at in 0..count {
            lan.number(at)?;
        }
        Ok(lan)
    }

    fn number(&self, at: usize) -> Result<(), String> {
        ip(&format!("-n {} address add {}/24 dev cable", self.machines[at].name, self.host(at)))
    }

    /// The address of a machine.
    pub(crate) fn host(&self, at: usize) -> String {
        format!("10.{}.0.{}", self.net.get(), at + 1)
    }

    /// Where the master of a machine is.
    pub(crate) fn master_at(&self, at: usize) -> String {
        format!("{}:{PORT}", self.host(at))
    }

    /// Nothing that one sends arrives at the other, and nobody is told.
    pub(crate) fn cut(&self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            let line = format!(
                "-n {} route replace blackhole {}/32",
                self.machines[from].name,
                self.host(to)
            );
            // Who sends would be told that there is no way, were it cut at its own end.
            if from != one {
                ip(&line).unwrap();
            }
        }
    }

    /// It does again.
    pub(crate) fn mend(&self, one: usize, other: usize) {
        let name = &self.machines[other].name;
        ip(&format!("-n {name} route delete blackhole {}/32", self.host(one))).unwrap();
    }

    /// Starts `mesita` on a machine.
    pub(crate) fn start(&self, at: usize, arguments: &[&str]) -> Process {
        start(self.world, &self.machines[at], arguments)
    }

    /// What the master of a machine answers there.
    pub(crate) fn got(&self, at: usize, path: &str) -> Value {
        let mut asked = self.world.command_in(&self.machines[at].wrapper(), "bash");
        let line = format!(
            "exec 3<>/dev/tcp/{}/{PORT}; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3",
            self.host(at)
        );
        asked.args(["-c", &line]);
        let said = self.world.start(asked).end();
        let body = said.out.split_once("\r\n\r\n").unwrap_or_default().1;
        serde_json::from_str(body).unwrap_or_default()
    }

    /// Waits until one of these masters leads and the others know it; which it is.
    pub(crate) fn leader(&self, masters: &[usize]) -> usize {
        let agreed = || {
            let told: Vec<Value> = masters.iter().map(|at| self.got(*at, "/health")).collect();
            let leads = (0..told.len()).filter(|at| told[*at]["leading"] == true);
            let [leader] = leads.map(|at| masters[at]).collect::<Vec<_>>()[..] else { return None };
            let address = Value::from(self.master_at(leader));
            told.iter().all(|one| one["leader"] == address).then_some(leader)
        };
        let mut found = None;
        let shown = || masters.iter().map(|at| self.got(*at, "/health")).collect::<Vec<_>>();
        eventually(
            || {
                found = agreed();
                found.is_some()
            },
            || format!("one leader: {:?}", shown()),
        );
        found.unwrap()
    }
}
