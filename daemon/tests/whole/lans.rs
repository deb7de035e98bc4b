//! Machines on one network, each a namespace: cables between two of them are cut, and addresses change.

use std::cell::Cell;
use std::process::Command;

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

    /// Gives every machine another address, and takes the one that it had.
    pub(crate) fn renumber(&self, net: u8) {
        self.net.set(net);
        for (at, machine) in self.machines.iter().enumerate() {
            ip(&format!("-n {} address flush dev cable", machine.name)).unwrap();
            self.number(at).unwrap();
        }
    }

    /// The address of a machine.
    pub(crate) fn host(&self, at: usize) -> String {
        format!("10.{}.0.{}", self.net.get(), at + 1)
    }

    /// Where the master of a machine is.
    pub(crate) fn master_at(&self, at: usize) -> String {
        format!("{}:{PORT}", self.host(at))
    }

    /// Nothing that `from` sends arrives at `to`, and nobody is told.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.route("replace", from, to);
    }

    /// It does again.
    pub(crate) fn mend(&self, from: usize, to: usize) {
        self.route("delete", from, to);
    }

    fn route(&self, verb: &str, from: usize, to: usize) {
        let (name, host) = (&self.machines[from].name, self.host(to));
        ip(&format!("-n {name} route {verb} blackhole {host}/32")).unwrap();
    }

    /// Of the datagrams that arrive at a machine so many of a hundred are lost, by chance; an error where
    /// the kernel has no filter for that.
    pub(crate) fn lose(&self, at: usize, percent: u64) -> Result<(), String> {
        // Classic BPF: of UDP, and with a random word below the threshold, the packet is dropped.
        let below = percent * (1 << 32) / 100;
        self.filter(
            at,
            &format!("6,48 0 0 23,21 0 3 17,32 0 0 4294963256,53 1 0 {below},6 0 0 2,6 0 0 0"),
        )
    }

    /// No datagram arrives at a machine that takes more than so many bytes, and nobody is told; an error
    /// as above.
    pub(crate) fn narrow(&self, at: usize, bytes: u64) -> Result<(), String> {
        // Of UDP, and with a length by its IP header above that, the packet is dropped.
        self.filter(at, &format!("6,48 0 0 23,21 0 3 17,40 0 0 16,37 0 1 {bytes},6 0 0 2,6 0 0 0"))
    }

    fn filter(&self, at: usize, program: &str) -> Result<(), String> {
        let name = &self.machines[at].name;
        let _ = tc(name, &["qdisc", "delete", "dev", "cable", "clsact"]);
        tc(name, &["qdisc", "add", "dev", "cable", "clsact"])?;
        let filter = ["filter", "add", "dev", "cable", "ingress", "bpf", "da", "bytecode"];
        tc(name, &[&filter[..], &[program]].concat())
    }

    /// Where the masters of the first three machines are, as flags take it.
    pub(crate) fn list(&self) -> String {
        [0, 1, 2].map(|at| self.master_at(at)).join(",")
    }

    /// Starts a master on each of the first three machines, in the clear, and waits for nothing.
    pub(crate) fn masters(&self, more: &[&str]) -> [Process; 3] {
        let key = self.world.secret("gossip.key", &[5; 32]);
        let (key, list) = (key.display().to_string(), self.list());
        [0, 1, 2].map(|at| {
            let work_dir = self.world.path(&format!("m{at}")).display().to_string();
            let begin = ["master", "--insecure", "--ip", &self.host(at), "--work-dir", &work_dir];
            let rest = ["--masters", &list, "--gossip-key-file", &key];
            self.start(at, &[&begin[..], &rest, more].concat())
        })
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

pub(crate) fn tc(namespace: &str, arguments: &[&str]) -> Result<(), String> {
    let said = Command::new("tc").args(["-n", namespace]).args(arguments).output();
    let said = said.map_err(|error| format!("tc: {error}"))?;
    let err = String::from_utf8_lossy(&said.stderr).into_owned();
    if said.status.success() { Ok(()) } else { Err(err) }
}
