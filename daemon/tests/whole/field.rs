//! A cluster as it is in the field: three masters and five agents, each a machine of its own, that all
//! join by tokens. One agent is behind an address translation or a firewall that lets nothing in, one
//! changes its address, one its key; the leader is killed, a node revoked. That a clock says 1970 is in
//! `ci/board`: no namespace has a wall clock of its own.

use std::cell::RefCell;
use std::process::Command;

use serde_json::Value;

use crate::lans::{Lan, tc};
use crate::network::{Namespace, ip, or_skipped, start};
use crate::world::{Process, Said, Signal, World, eventually, needs_root};

/// The machine that passes on what the one behind it sends.
const ROUTER: usize = 7;
/// Agents that are on the network themselves.
const AGENTS: [usize; 4] = [3, 4, 5, 6];

/// What a cluster of the field has.
struct Field<'w> {
    lan: Lan<'w>,
    /// Behind the router.
    inside: Namespace,
    directory: String,
    running: RefCell<Vec<Process>>,
}

/// A machine that only dials out.
fn behind(lan: &Lan<'_>) -> Result<Namespace, String> {
    let router = &lan.machines[ROUTER].name;
    let inside = Namespace::new(&format!("{}-n", lan.world.name()))?;
    let name = &inside.name;
    ip(&format!("-n {router} link add inner type veth peer name cable netns {name}"))?;
    ip(&format!("-n {router} address add 192.168.79.1/24 dev inner"))?;
    ip(&format!("-n {router} link set inner up"))?;
    ip(&format!("-n {name} address add 192.168.79.2/24 dev cable"))?;
    ip(&format!("-n {name} link set cable up"))?;
    ip(&format!("-n {name} route add default via 192.168.79.1"))?;
    let on_router = |line: &str| {
        let flag = format!("--net=/run/netns/{router}");
        let said = Command::new("nsenter").args([&flag, "--", "sh", "-ec", line]).output();
        let said = said.map_err(|error| error.to_string())?;
        let err = String::from_utf8_lossy(&said.stderr).into_owned();
        if said.status.success() { Ok(()) } else { Err(err) }
    };
    on_router("echo 1 >/proc/sys/net/ipv4/ip_forward")?;
    let nat = "nft add table ip nat
        nft 'add chain ip nat out { type nat hook postrouting priority 100 ; }'
        nft add rule ip nat out oifname cable masquerade";
    if let Err(why) = on_router(nat) {
        // Without a translation there is a way back, on which nobody begins anything.
        println!("no address is translated here, what comes in is dropped instead: {why}");
        for at in 0..3 {
            let machine = &lan.machines[at].name;
            ip(&format!("-n {machine} route add 192.168.79.0/24 via {}", lan.host(ROUTER)))?;
        }
        // Classic BPF: of TCP, SYN without ACK is dropped.
        let program = "7,48 0 0 23,21 0 4 6,48 0 0 47,84 0 0 18,21 0 1 2,6 0 0 2,6 0 0 0";
        tc(name, &["qdisc", "add", "dev", "cable", "clsact"])?;
        let filter = ["filter", "add", "dev", "cable", "ingress", "bpf", "da", "bytecode"];
        tc(name, &[&filter[..], &[program]].concat())?;
    }
    Ok(inside)
}

impl<'w> Field<'w> {
    /// Its machines, and a first master on the first of them.
    fn new(world: &'w World) -> Result<Self, String> {
        let lan = Lan::new(world, 8)?;
        let inside = behind(&lan)?;
        let directory = world.path("field").display().to_string();
        let field = Self { lan, inside, directory, running: RefCell::default() };
        let init =
            ["init", "--name", "field", "--ip", &field.lan.host(0), "--dir", &field.directory];
        let said = field.lan.start(0, &init).end();
        assert_eq!(said.status, 0, "{}", said.err);
        let config = field.file("master.toml");
        let first = field.lan.start(0, &["master", "--config", &config]);
        first.says("master at 10.79.0.1:5050");
        field.running.borrow_mut().push(first);
        Ok(field)
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn list(&self) -> String {
        [0, 1, 2].map(|at| format!("https://{}", self.lan.master_at(at))).join(",")
    }

    /// What an operator is told on the third machine, by whoever leads.
    fn asked(&self, words: &[&str]) -> Process {
        let (credential, authority, list) =
            (self.file("operator"), self.file("ca.pem"), self.list());
        let by = ["--master", &list, "--credential", &credential, "--tls-ca-file", &authority];
        self.lan.start(2, &[words, &by].concat())
    }

    fn told(&self, words: &[&str]) -> Said {
        self.asked(words).end()
    }

    /// What is listed; nothing, and why not, where that was not answered.
    fn rows(&self, words: &[&str]) -> Vec<Value> {
        let said = self.told(&[words, &["--json"]].concat());
        if said.status != 0 {
            eprintln!("{words:?} ended with {}: {}", said.status, said.err);
        }
        said.out.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect()
    }

    fn token(&self, flags: &[&str]) -> String {
        let said = self.told(&[&["token", "create"], flags].concat());
        assert_eq!(said.status, 0, "{}", said.err);
        said.out.trim().to_owned()
    }

    /// The flags of an agent of this name.
    fn agent(&self, name: &str, token: &str, more: &[&str]) -> Vec<String> {
        let (world, list) = (self.lan.world, self.list());
        let (work_dir, root) = (world.path(name).display().to_string(), world.name());
        let words = ["agent", "--master", &list, "--hostname", name, "--work-dir", &work_dir];
        let rest =
            ["--registration-backoff-factor=100ms", "--gc-disk-headroom=0%", "--join", token];
        let root = format!("--cgroups-root={root}");
        [&words[..], &rest, &[&root], more].concat().into_iter().map(str::to_owned).collect()
    }

    fn start_in(&self, namespace: &Namespace, words: &[String]) -> Process {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        start(self.lan.world, namespace, &words)
    }
}

/// Waits until an agent was registered so often.
fn registered(agent: &Process, times: usize) {
    let said = || agent.err();
    eventually(|| said().matches("registered with the master at").count() >= times, said);
}

#[test]
fn three_masters_and_five_agents_in_the_field() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some(field) = or_skipped(Field::new(&world)) else { return };
    let of_masters = field.token(&["--role", "master", "--uses", "3"]);
    for at in [1, 2] {
        let (address, work_dir) = (field.lan.host(at), world.path(&format!("m{at}")));
        let first = format!("https://{}", field.lan.master_at(0));
        let words = ["master", "--ip", &address, "--masters", &first, "--join", &of_masters];
        let work_dir = ["--work-dir", work_dir.to_str().unwrap()];
        let master = field.lan.start(at, &[&words[..], &work_dir].concat());
        master.says(&format!("master at {address}:5050"));
        field.running.borrow_mut().push(master);
        let voting = || {
            let rows = field.rows(&["masters", "ls"]);
            rows.iter().filter(|row| row["votes"] == true).count() == at + 1
        };
        eventually(voting, || {
            format!("{} that vote: {:?}", at + 1, field.rows(&["masters", "ls"]))
        });
    }
    let token = field.token(&["--uses", "5"]);
    let agents: Vec<Process> = AGENTS
        .iter()
        .map(|at| {
            let words = field.agent(&format!("a{at}"), &token, &["--resources=cpus:1;mem:64"]);
            field.start_in(&field.lan.machines[*at], &words)
        })
        .collect();
    let inner = field.agent("inside", &token, &["--resources=cpus:1;mem:64;gadget:1"]);
    let inner = field.start_in(&field.inside, &inner);
    agents.iter().chain([&inner]).for_each(|agent| registered(agent, 1));

    // Tokens that let nobody in.
    let stranger = &field.lan.machines[ROUTER];
    let over = field.token(&["--expires", "1s"]);
    let left = || {
        field.rows(&["token", "ls"]).iter().any(|row| over.contains(row["id"].as_str().unwrap()))
    };
    eventually(|| !left(), || "the time is over".to_owned());
    let parts: Vec<&str> = token.split('.').collect();
    let others = [parts[0], &"0".repeat(64), parts[2], parts[3]].join(".");
    for (bad, words) in [
        (&token, "the token was used up"),
        (&over, "the cluster does not know this token"),
        (&of_masters, "this token is for masters"),
        (&others, "has another key than"),
    ] {
        let agent = field.start_in(stranger, &field.agent("stranger", bad, &[]));
        agent.says(words);
        assert!(!agent.err().contains("registered with"), "{}", agent.err());
        agent.kill();
    }

    // A task behind the router runs on through all that follows.
    let gate = world.path("gate");
    let line = format!("echo up; until [ -e {} ]; do sleep 0.05; done; exit 7", gate.display());
    let mark = world.marked();
    let run = ["run", &mark, "--user", "nobody", "--resources", "cpus:0.1;mem:32;gadget:1"];
    let run = field.asked(&[&run[..], &["--command", &line]].concat());
    run.prints("up\n");
    // One has another address, another one another key.
    let moved = &field.lan.machines[AGENTS[0]].name;
    ip(&format!("-n {moved} address flush dev cable")).unwrap();
    ip(&format!("-n {moved} address add 10.79.0.104/24 dev cable")).unwrap();
    registered(&agents[0], 2);
    agents[1].signal(Signal::HUP);
    agents[1].says("by another key from now on");
    registered(&agents[1], 2);
    // The leader is gone, and so is the first address that all of them were given.
    let health = |at: usize| {
        let rows = field.rows(&["masters", "ls"]);
        let address = Value::from(field.lan.master_at(at));
        rows.into_iter().find(|row| row["address"] == address).map(|row| row["state"].clone())
    };
    let leader = (0..3).find(|at| health(*at) == Some("leads".into())).unwrap();
    let led = |agent: &Process| agent.err().matches("registered with the master at").count();
    let before: Vec<usize> = agents.iter().chain([&inner]).map(led).collect();
    field.running.borrow_mut().remove(leader).kill();
    for (agent, times) in agents.iter().chain([&inner]).zip(before) {
        registered(agent, times + 1);
    }
    std::fs::write(gate, "").unwrap();
    let said = run.end();
    assert_eq!((said.status, said.out.as_str()), (7, "up\n"), "{}", said.err);
    // A node that was stolen is spoken with no more, wherever it dials from.
    let own = std::fs::read(world.path("a5/meta/key")).unwrap();
    let name = fingerprint(&own);
    let rows = field.rows(&["node", "ls"]);
    assert_eq!(rows.iter().filter(|row| row["state"] == "agent").count(), 5, "{rows:?}");
    let row = rows.iter().find(|row| name.starts_with(row["key"].as_str().unwrap())).unwrap();
    let said = field.told(&["node", "revoke", row["key"].as_str().unwrap()]);
    assert_eq!(said.status, 0, "{}", said.err);
    agents[2].says("this node was revoked");
    let mut agents = agents;
    agents.remove(2).kill();
    agents.push(inner);
    agents.iter().for_each(|agent| agent.signal(Signal::USR1));
    for agent in agents {
        assert_eq!(agent.end().status, 0);
    }
    let masters = field.running.take();
    masters.iter().for_each(|master| master.signal(Signal::TERM));
    for master in masters {
        assert_eq!(master.end().status, 0);
    }
    drop(field);
    world.nothing_is_left();
}

/// SHA-256 of a key, as `mesita node ls` begins it.
fn fingerprint(key: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(key).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
