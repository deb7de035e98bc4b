//! Agents that do not reach the leader: a master that they do reach joins them to it.

use std::path::PathBuf;

use crate::certificates::Authority;
use crate::lans::Lan;
use crate::network::or_skipped;
use crate::secure_doors::credentials;
use crate::world::{Process, Signal, World, eventually, needs_root};

/// Where the agent is.
const AGENT: usize = 3;

/// Three masters that speak TLS, each with a certificate for its own address alone.
struct Masters<'l, 'w> {
    lan: &'l Lan<'w>,
    flags: Vec<Vec<String>>,
    running: Vec<Option<Process>>,
}

impl<'l, 'w> Masters<'l, 'w> {
    fn new(lan: &'l Lan<'w>, authority: &Authority, credentials: &str) -> Self {
        let world = lan.world;
        let gossip = world.secret("gossip.key", &[5; 32]);
        let list = [0, 1, 2].map(|at| lan.master_at(at)).join(",");
        let flags = (0..3).map(|at| {
            let [certificate, key] = authority.files(world, &lan.host(at));
            let work_dir = world.path(&format!("m{at}")).display().to_string();
            let (host, gossip) = (lan.host(at), gossip.display().to_string());
            let flags = ["master", "--ip", &host, "--work-dir", &work_dir, "--masters", &list];
            let keys = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
            let more = ["--credentials", credentials, "--gossip-key-file", &gossip];
            let asks = ["agents", "http-readonly", "http-readwrite", "http-frameworks"];
            let asks = asks.map(|of| format!("--authenticate-{of}"));
            let all = [&flags[..], &keys, &more].concat();
            all.into_iter().map(str::to_owned).chain(asks).collect()
        });
        let flags = flags.collect();
        Self { lan, flags, running: (0..3).map(|_| None).collect() }
    }

    fn begin(&mut self, at: usize, more: &[&str]) {
        let flags: Vec<&str> =
            self.flags[at].iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.running[at] = Some(self.lan.start(at, &flags));
    }

    fn process(&self, at: usize) -> &Process {
        self.running[at].as_ref().unwrap()
    }

    fn leader(&self) -> usize {
        let alive: Vec<usize> = (0..3).filter(|at| self.running[*at].is_some()).collect();
        self.lan.leader(&alive)
    }
}

/// A task that ends with status 7 when its gate opens; its run, beside the master that leads.
fn gated(lan: &Lan<'_>, at: usize, credential: &str, name: &str) -> (Process, PathBuf) {
    let gate = lan.world.path(&format!("{name}.gate"));
    let line = format!("echo up; until [ -e {} ]; do sleep 0.05; done; exit 7", gate.display());
    let (mark, list) = (lan.world.marked(), [0, 1, 2].map(|at| lan.master_at(at)).join(","));
    let list = list.split(',').map(|one| format!("https://{one}")).collect::<Vec<_>>().join(",");
    let ca = lan.world.path("ca.pem").display().to_string();
    let begin = ["run", &mark, "--master", &list, "--credential", credential, "--name", name];
    let more = ["--tls-ca-file", &ca, "--user", "nobody", "--command", &line];
    let run = lan.start(at, &[&begin[..], &more].concat());
    run.prints("up\n");
    (run, gate)
}

#[test]
fn an_agent_that_reaches_a_standby_alone_is_joined_to_the_leader() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some(lan) = or_skipped(Lan::new(&world, 4)) else { return };
    let authority = Authority::new(&world, "ca");
    let [all, one] = credentials(&world);
    let mut masters = Masters::new(&lan, &authority, &all);
    (0..3).for_each(|at| masters.begin(at, &["--bootstrap"]));
    (0..3).for_each(|at| masters.process(at).says("master at 10.79.0."));
    let first = masters.leader();
    let (only, other) = ((first + 1) % 3, (first + 2) % 3);
    [first, other].into_iter().for_each(|at| lan.cut(at, AGENT));

    let list = [0, 1, 2].map(|at| format!("https://{}", lan.master_at(at))).join(",");
    let (root, work_dir) = (format!("--cgroups-root={}", world.name()), world.path("agent"));
    let ca = authority.file.display().to_string();
    let flags = ["agent", "--master", &list, "--work-dir", work_dir.to_str().unwrap(), &root];
    let more = ["--hostname=apart", "--tls-ca-file", &ca, "--credential", &one];
    let agent = lan.start(AGENT, &[&flags[..], &more].concat());
    let by = |leader: usize, only: usize| {
        let (leader, only) = (lan.master_at(leader), lan.master_at(only));
        format!("the master at {leader} is reached by way of {only}")
    };
    let registered = |at: usize| format!("registered with the master at {}", lan.master_at(at));
    agent.says(&by(first, only));
    agent.says(&registered(first));
    masters.process(only).says("an agent is joined to the leader");
    // Who shows nothing is joined to nobody.
    let begin = |name: &str, work_dir: &str, more: &[&str]| {
        let root = format!("--cgroups-root={}", world.name());
        let work_dir = world.path(work_dir).display().to_string();
        let port = world.port().to_string();
        let flags = ["agent", "--master", &list, "--work-dir", &work_dir, "--port", &port];
        lan.start(AGENT, &[&flags[..], &["--hostname", name, &root], more].concat())
    };
    let nobody = begin("nobody", "nobody", &["--tls-ca-file", &ca]);
    masters.process(only).says("only nodes that have joined");
    assert!(!nobody.err().contains("by way of"), "{}", nobody.err());
    nobody.kill();
    // Who has a token is, and by its key from then on.
    let at_leader = format!("https://{}", lan.master_at(first));
    let create = ["token", "create", "--master", &at_leader, "--credential", &one];
    let said = lan.start(first, &[&create[..], &["--tls-ca-file", &ca]].concat()).end();
    assert_eq!(said.status, 0, "{}", said.err);
    for join in [&["--join", said.out.trim()][..], &[]] {
        let node = begin("node", "node", join);
        node.says(&by(first, only));
        node.says(&registered(first));
        node.signal(Signal::TERM);
        assert_eq!(node.end().status, 0);
    }
    // Orders, updates and what tasks write go through.
    let (run, gate) = gated(&lan, first, &one, "near");
    std::fs::write(gate, "").unwrap();
    let said = run.end();
    assert_eq!((said.status, said.out.as_str()), (7, "up\n"), "{}", said.err);

    // The leader goes: whichever follows it, the agent is there, and its task goes on.
    let (run, gate) = gated(&lan, only, &one, "long");
    masters.running[first].take().unwrap().kill();
    let second = masters.leader();
    agent.says(&registered(second));
    if second != only {
        agent.says(&by(second, only));
    }
    masters.begin(first, &[]);
    let second = masters.leader();

    // Cables are cut under a connection that is in use: the agent is back before it is missed.
    [first, other].into_iter().for_each(|at| lan.mend(at, AGENT));
    let way = (0..3).find(|at| *at != second && *at != only).unwrap();
    (0..3).filter(|at| *at != way).for_each(|at| lan.cut(at, AGENT));
    agent.says(&by(second, way));
    let again = || agent.err().matches(&registered(second)).count() >= 2;
    eventually(again, || agent.err());
    std::fs::write(gate, "").unwrap();
    let said = run.end();
    assert_eq!((said.status, said.out.as_str()), (7, "up\n"), "{}", said.err);
    assert!(!said.err.contains("UNREACHABLE"), "{}", said.err);

    agent.signal(Signal::USR1);
    assert_eq!(agent.end().status, 0);
    for process in masters.running.into_iter().flatten() {
        process.signal(Signal::TERM);
        assert_eq!(process.end().status, 0);
    }
    drop(lan);
    world.nothing_is_left();
}
