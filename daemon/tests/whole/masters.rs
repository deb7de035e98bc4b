//! Several masters: one of them leads, and when it is gone another one does. What they are told
//! wrongly they refuse.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::idle::{files, written};
use crate::world::{Agent, Process, Said, Signal, World, ask, eventually, get, lives};

/// Masters of one cluster.
pub(crate) struct Set<'w> {
    pub(crate) world: &'w World,
    pub(crate) ports: Vec<u16>,
    flags: Vec<String>,
    pub(crate) running: Vec<Option<Process>>,
}

impl<'w> Set<'w> {
    /// A set of so many, not started.
    pub(crate) fn of(world: &'w World, count: usize, flags: &[&str]) -> Self {
        let mut ports: Vec<u16> = (0..count).map(|_| world.port()).collect();
        ports.sort_unstable();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { world, ports, flags, running: (0..count).map(|_| None).collect() }
    }

    /// Three masters that have made a set.
    pub(crate) fn made(world: &'w World, flags: &[&str]) -> Self {
        let mut set = Self::of(world, 3, flags);
        for at in 0..3 {
            set.running[at] = Some(set.begin(at, &["--bootstrap"]));
        }
        for at in 0..3 {
            set.process(at).says("master at 127.0.0.1:");
        }
        set
    }

    pub(crate) fn address(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.ports[at])
    }

    /// All of them, as flags take it.
    pub(crate) fn list(&self) -> String {
        (0..self.ports.len()).map(|at| self.address(at)).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn work_dir(&self, at: usize) -> PathBuf {
        self.world.path(&format!("set-{at}"))
    }

    /// Starts one with more flags, and does not wait for anything.
    pub(crate) fn begin(&self, at: usize, more: &[&str]) -> Process {
        self.begin_in(self.work_dir(at), self.ports[at], &self.list(), more)
    }

    pub(crate) fn begin_in(
        &self,
        work_dir: PathBuf,
        port: u16,
        list: &str,
        more: &[&str],
    ) -> Process {
        let port = port.to_string();
        let begin = ["master", "--masters", list, "--port", &port, "--work-dir"];
        let mut command = self.world.mesita(&begin);
        command.arg(work_dir).args(&self.flags).args(more);
        self.world.start(command)
    }

    /// Starts one that was killed.
    pub(crate) fn restart(&mut self, at: usize) {
        let process = self.begin(at, &[]);
        process.says("master at 127.0.0.1:");
        self.running[at] = Some(process);
    }

    pub(crate) fn process(&self, at: usize) -> &Process {
        self.running[at].as_ref().unwrap()
    }

    pub(crate) fn kill(&mut self, at: usize) {
        self.running[at].take().unwrap().kill();
    }

    /// What one says of its health.
    pub(crate) fn health(&self, at: usize) -> Value {
        // One that begins again is not there for a moment.
        let answer = ask(self.ports[at], "/health").unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").unwrap_or_default().1;
        serde_json::from_str(body).unwrap_or_default()
    }

    pub(crate) fn alive(&self) -> Vec<usize> {
        (0..self.running.len()).filter(|at| self.running[*at].is_some()).collect()
    }

    /// Waits until one leads and all others know it; which it is.
    pub(crate) fn leader(&self) -> usize {
        let agreed = || {
            let told: Vec<Value> = self.alive().iter().map(|at| self.health(*at)).collect();
            let leads: Vec<usize> =
                (0..told.len()).filter(|at| told[*at]["leading"] == true).collect();
            let [leader] = leads[..] else { return None };
            let leader = self.alive()[leader];
            let address = Value::from(self.address(leader));
            told.iter().all(|one| one["leader"] == address).then_some(leader)
        };
        let shown = || self.alive().iter().map(|at| self.health(*at)).collect::<Vec<_>>();
        eventually(|| agreed().is_some(), || format!("one leader: {:?}", shown()));
        agreed().unwrap_or_else(|| self.leader())
    }

    /// A gauge of one.
    pub(crate) fn gauge(&self, at: usize, name: &str) -> u64 {
        let text = get(self.ports[at], "/metrics");
        let line = text.lines().find(|line| line.starts_with(&format!("mesita_master_{name} ")));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    pub(crate) fn agent(&self) -> Agent<'w> {
        let mut agent = Agent::new(self.world, &self.list(), &[]);
        agent.start();
        agent.process().says("registered with the master");
        agent
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Process {
        let (mark, list) = (self.world.marked(), self.list());
        let begin = ["run", &mark, "--master", &list];
        self.world.start(self.world.mesita(&[&begin, arguments].concat()))
    }

    pub(crate) fn told(&self, command: &str, arguments: &[&str]) -> Said {
        let list = self.list();
        self.world.told(&[&[command], arguments, &["--master", &list][..]].concat())
    }

    /// SIGTERM to all, and their ends.
    pub(crate) fn stop(mut self) {
        let all: Vec<Process> = self.running.iter_mut().filter_map(Option::take).collect();
        all.iter().for_each(|process| process.signal(Signal::TERM));
        for process in all {
            let said = process.end();
            assert_eq!(said.status, 0, "{}", said.err);
            assert!(!said.err.contains("panicked"), "{}", said.err);
        }
    }
}

/// A task that ends with status 7 when its gate opens; its run.
pub(crate) fn gated(world: &World, set: &Set<'_>) -> (Process, PathBuf) {
    let gate = world.path("gate");
    let line = format!("echo up; until [ -e {} ]; do sleep 0.05; done; exit 7", gate.display());
    let run = set.run(&["--name", "gated", "--command", &line]);
    run.prints("up\n");
    (run, gate)
}

#[test]
fn others_show_a_leader_by_the_name_that_it_has_for_clients() {
    let world = World::new();
    let mut set = Set::of(&world, 3, &[]);
    for at in 0..3 {
        let name = format!("--hostname=m{at}.example");
        set.running[at] = Some(set.begin(at, &["--bootstrap", &name]));
    }
    for _ in 0..2 {
        let leader = set.leader();
        let there = format!("//m{leader}.example:{}", set.ports[leader]);
        for at in set.alive() {
            let shown = || get(set.ports[at], "/redirect");
            let named = || shown().contains(&format!("Location: {there}\r\n"));
            eventually(named, || format!("{there}: {}", shown()));
        }
        let other = set.alive().into_iter().find(|at| *at != leader).unwrap();
        let answer = get(set.ports[other], "/state?x=1");
        assert!(answer.contains(&format!("Location: {there}/state?x=1\r\n")), "{answer}");
        if set.alive().len() == 3 {
            set.kill(leader);
        }
    }
    set.stop();
    world.nothing_is_left();
}

#[test]
fn a_leader_that_is_killed_is_followed_by_another_one_and_tasks_run_on() {
    let world = World::new();
    let mut set = Set::made(&world, &["--min-failover-timeout=60s"]);
    let agent = set.agent();
    let (run, gate) = gated(&world, &set);
    let first = set.leader();
    let cluster = set.health(first)["cluster"].clone();
    for at in set.alive().into_iter().filter(|at| *at != first) {
        let answer = get(set.ports[at], "/state?x=1");
        assert!(answer.starts_with("HTTP/1.1 307 "), "{answer}");
        let there = format!("Location: //{}/state?x=1\r\n", set.address(first));
        assert!(answer.contains(&there), "{answer}");
        let answer = get(set.ports[at], "/redirect");
        assert!(answer.contains(&format!("Location: //{}\r\n", set.address(first))), "{answer}");
        assert!(get(set.ports[at], "/version").starts_with("HTTP/1.1 200 "));
        assert!(get(set.ports[at], "/flags").starts_with("HTTP/1.1 200 "));
        let metrics = get(set.ports[at], "/metrics/snapshot");
        assert!(metrics.contains("\"master/elected\":0.0"), "{metrics}");
    }
    set.kill(first);
    let second = set.leader();
    assert_ne!(second, first);
    assert_eq!(set.health(second)["cluster"], cluster);
    agent.process().says(&format!("registered with the master at {}", set.address(second)));
    let said = set.run(&["--", "echo", "again"]).end();
    assert_eq!((said.status, said.out.as_str()), (0, "again\n"), "{}", said.err);
    std::fs::write(gate, "").unwrap();
    let said = run.end();
    assert_eq!(said.status, 7, "{}", said.err);
    // The one that was killed comes back as a follower, with everything that it missed.
    set.restart(first);
    assert_eq!(set.leader(), second, "nobody disturbs a leader");
    let version = || [first, second].map(|at| set.gauge(at, "set_registry_version"));
    eventually(|| version()[0] == version()[1], || format!("the same registry: {:?}", version()));
    agent.leave();
    set.stop();
    world.nothing_is_left();
}

#[test]
fn what_an_operator_sets_outlives_every_leader() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let first = set.leader();
    let limit = ["set", "eng/web", "--limit", "cpus:2", "--force"];
    assert_eq!(set.told("quota", &limit).status, 0);
    assert_eq!(set.told("quota", &["set", "eng", "--limit", "cpus:3", "--force"]).status, 0);
    assert_eq!(set.told("quota", &["set", "gone", "--limit", "cpus:3", "--force"]).status, 0);
    assert_eq!(set.told("quota", &["set", "gone"]).status, 0);
    assert_eq!(set.told("weights", &["set", "eng=2.5,ops=3"]).status, 0);
    let listed = |set: &Set<'_>| {
        let lists = ["quota", "weights"].map(|kind| set.told(kind, &["ls", "--json"]));
        lists.map(|said| {
            assert_eq!(said.status, 0, "{}", said.err);
            said.out
        })
    };
    let before = listed(&set);
    assert!(before[0].contains("eng/web") && !before[0].contains("gone"), "{before:?}");
    assert!(before[1].contains("ops"), "{before:?}");
    set.kill(first);
    let second = set.leader();
    assert_eq!(listed(&set), before);
    // All of them at once, as when the power goes.
    for at in set.alive() {
        set.kill(at);
    }
    (0..3).for_each(|at| set.restart(at));
    set.leader();
    assert_eq!(listed(&set), before, "{second}");
    let long = format!("{}=2", "r".repeat(200));
    assert_eq!(set.told("weights", &["set", &long]).status, 0);
    let directories = [0, 1, 2].map(|at| set.work_dir(at).display().to_string());
    let running = world.told(&["registry", "show", "--work-dir", &directories[0]]);
    assert_eq!(running.status, 1, "{}", running.out);
    let (port, list) = (set.ports[0].to_string(), set.list());
    let begin =
        ["master", "--port", &port, "--masters", &list, "--work-dir", directories[0].as_str()];
    set.stop();
    for directory in &directories {
        let said = world.told(&["registry", "verify", "--work-dir", directory]);
        assert_eq!(said.status, 0, "{}", said.err);
        assert!(said.out.starts_with("whole, at "), "{}", said.out);
        let said = world.told(&["registry", "show", "--json", "--work-dir", directory]);
        let told: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(told["masters"].as_array().unwrap().len(), 3);
        // The one that led last has what it was told last; the others may have stopped before.
        let has =
            |role: &str| told["rows"].as_array().unwrap().iter().any(|row| row["role"] == role);
        assert!(has("eng/web") && has("ops") && !has("gone"), "{told}");
    }
    // Damage is told, and nothing is made of it.
    let file = std::path::Path::new(&directories[0]).join("meta/registry");
    let len = std::fs::read(&file).unwrap().len();
    std::fs::write(&file, vec![7; len]).unwrap();
    let said = world.told(&["registry", "verify", "--work-dir", &directories[0]]);
    assert_eq!(said.status, 1, "{}", said.out);
    assert!(said.err.contains("gone or damaged"), "{}", said.err);
    // Nobody is talked into forgetting for whom it voted.
    let again = |more: &[&str]| world.start(world.mesita(&[&begin[..], more].concat()));
    refused(again(&["--bootstrap"]), "gone or damaged");
    std::fs::remove_file(&file).unwrap();
    refused(again(&[]), "gone or damaged");
    world.nothing_is_left();
}

#[test]
fn without_a_majority_nobody_leads_and_tasks_run_on() {
    let world = World::new();
    let mut set = Set::made(&world, &["--min-failover-timeout=60s"]);
    let agent = set.agent();
    let (run, gate) = gated(&world, &set);
    let leader = set.leader();
    let others: Vec<usize> = set.alive().into_iter().filter(|at| *at != leader).collect();
    others.iter().for_each(|at| set.kill(*at));
    eventually(
        || ask(set.ports[leader], "/state").unwrap_or_default().starts_with("HTTP/1.1 503 "),
        || format!("that it leads no more: {}", set.health(leader)),
    );
    let retry = || ask(set.ports[leader], "/state").unwrap_or_default().contains("Retry-After: 1");
    eventually(retry, || "when to come again".to_owned());
    assert_eq!(set.health(leader)["leading"], false);
    let said = set.run(&["--wait=1s", "--", "true"]).end();
    assert_eq!(said.status, 4, "{}", said.err);
    assert!(agent.process().err().contains("is gone"), "{}", agent.process().err());
    set.restart(others[0]);
    set.leader();
    let said = set.run(&["--", "echo", "again"]).end();
    assert_eq!(said.status, 0, "{}", said.err);
    std::fs::write(gate, "").unwrap();
    assert_eq!(run.end().status, 7);
    agent.leave();
    set.stop();
    world.nothing_is_left();
}

#[test]
fn who_asks_a_master_that_waits_for_the_others_is_told_for_whom() {
    let world = World::new();
    let mut set = Set::of(&world, 3, &[]);
    set.running[0] = Some(set.begin(0, &["--bootstrap"]));
    set.process(0).says("waiting for ");
    let waits = format!(
        "the set of this master is not made yet: it waits for {}, {}, each started with --bootstrap",
        set.address(1),
        set.address(2)
    );
    let said = world.told(&["masters", "ls", "--master", &set.address(0)]);
    assert!(said.status != 0 && said.err.contains(&waits), "{}", said.err);
    let answer = get(set.ports[0], "/health");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(&waits), "{answer}");
    (1..3).for_each(|at| set.running[at] = Some(set.begin(at, &["--bootstrap"])));
    (0..3).for_each(|at| set.process(at).says("master at 127.0.0.1:"));
    set.leader();
    set.stop();
    world.nothing_is_left();
}

#[test]
fn a_majority_that_is_lost_for_good_is_given_up_by_an_operators_word() {
    let world = World::new();
    let mut set = Set::made(&world, &["--min-failover-timeout=60s"]);
    let mut agent = set.agent();
    set.leader();
    assert_eq!(set.told("weights", &["set", "ops=3"]).status, 0);
    let survivor = set.leader();
    for at in set.alive() {
        set.kill(at);
    }
    let (file, new) = (world.path("exported.json"), world.path("survivor"));
    let old = set.work_dir(survivor).display().to_string();
    let said = world.told(&["registry", "export", "--work-dir", &old]);
    assert_eq!(said.status, 0, "{}", said.err);
    std::fs::write(&file, said.out).unwrap();
    let new = new.to_str().unwrap();
    let words = ["registry", "import", file.to_str().unwrap(), "--work-dir", new];
    let said = world.told(&words);
    assert!(said.status == 2 && said.err.contains("--i-lost-quorum"), "{}", said.err);
    let said = world.told(&[&words[..], &["--new-generation", "--i-lost-quorum"]].concat());
    assert_eq!(said.status, 0, "{}", said.err);
    let port = set.ports[survivor].to_string();
    let flags = ["master", "--port", &port, "--work-dir", new];
    let alone = world.start(world.mesita(&flags));
    alone.says("master at 127.0.0.1:");
    agent.process().says(&format!("registered with the master at 127.0.0.1:{port}"));
    let address = set.address(survivor);
    let said = world.told(&["weights", "ls", "--json", "--master", &address]);
    assert!(said.out.contains("ops"), "{}", said.out);
    let mark = world.marked();
    let run = ["run", mark.as_str(), "--master", &address, "--wait=30s", "--", "true"];
    assert_eq!(world.told(&run).status, 0);
    // The others come back in spite of that. Nobody who has heard of the new history obeys them, and who
    // leads them hears of it: that one ends, for good, and so on until there is no majority any more.
    alone.signal(Signal::TERM);
    assert_eq!(alone.end().status, 0);
    (0..3).for_each(|at| set.restart(at));
    let ended = |set: &Set<'_>| (0..3).filter(|at| set.process(*at).has_ended()).count();
    eventually(|| ended(&set) == 2, || format!("two of them end: {}", agent.process().err()));
    for at in 0..3 {
        if set.process(at).has_ended() {
            let said = set.running[at].take().unwrap().end();
            assert_eq!(said.status, 1, "{}", said.err);
            assert!(
                said.err.contains("this cluster goes on elsewhere, as generation 1"),
                "{}",
                said.err
            );
            let again = set.begin(at, &[]).end();
            assert_ne!(again.status, 0, "{}", again.err);
            for err in [said.err, again.err] {
                assert!(err.contains("an operator has given this set of masters up"), "{err}");
            }
        } else {
            assert_eq!(set.health(at)["leading"], false);
        }
    }
    agent.kill();
    set.stop();
    world.nothing_is_left();
}

#[test]
fn a_leader_that_was_stopped_for_a_while_does_not_speak_as_one() {
    let world = World::new();
    let set = Set::made(&world, &[]);
    let agent = set.agent();
    let first = set.leader();
    set.process(first).signal(Signal::STOP);
    let others: Vec<usize> = set.alive().into_iter().filter(|at| *at != first).collect();
    let leads = || others.iter().any(|at| set.health(*at)["leading"] == true);
    eventually(leads, || "another leader".to_owned());
    // The agent leaves a leader that is silent, though its connection is whole.
    let second = *others.iter().find(|at| set.health(**at)["leading"] == true).unwrap();
    agent.process().says(&format!("registered with the master at {}", set.address(second)));
    let pid = set.process(first).pid();
    set.process(first).signal(Signal::CONT);
    eventually(
        || ask(set.ports[first], "/state").unwrap_or_default().starts_with("HTTP/1.1 307 "),
        || format!("that it follows: {}", set.process(first).err()),
    );
    assert!(lives(pid), "it begins again by itself, in its process");
    assert_eq!(set.leader(), second);
    agent.leave();
    set.stop();
    world.nothing_is_left();
}

#[test]
fn an_idle_set_writes_nothing() {
    let world = World::new();
    let set = Set::made(&world, &[]);
    set.leader();
    let state = || {
        let mut all = BTreeMap::new();
        (0..3).for_each(|at| files(&set.work_dir(at), &mut all));
        all
    };
    std::thread::sleep(Duration::from_secs(2));
    let pids = [0, 1, 2].map(|at| set.process(at).pid());
    let (before, files) = (pids.map(written), state());
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(pids.map(written), before, "an idle master wrote");
    assert_eq!(state(), files, "no file changes");
    set.stop();
    world.nothing_is_left();
}

#[test]
fn what_masters_of_a_set_decided_can_be_replayed() {
    let world = World::new();
    let mut set = Set::of(&world, 3, &[]);
    let journals: Vec<PathBuf> = (0..3).map(|at| world.path(&format!("journal-{at}"))).collect();
    for (at, journal) in journals.iter().enumerate() {
        let flag = format!("--journal={}", journal.display());
        set.running[at] = Some(set.begin(at, &["--bootstrap", &flag]));
    }
    (0..3).for_each(|at| set.process(at).says("master at 127.0.0.1:"));
    set.leader();
    assert_eq!(set.told("weights", &["set", "web=2"]).status, 0);
    set.stop();
    for journal in journals {
        let said = world.told(&["replay", &journal.display().to_string()]);
        assert_eq!(said.status, 0, "{}{}", said.out, said.err);
        assert!(said.out.contains("identical to the recorded run"), "{}", said.out);
    }
    world.nothing_is_left();
}

/// How a master ended that was not to start.
pub(crate) fn refused(process: Process, sentence: &str) {
    let said = process.end();
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains(sentence), "{sentence:?} in {}", said.err);
}

#[test]
fn masters_with_different_lists_make_no_set() {
    let world = World::new();
    let set = Set::of(&world, 3, &[]);
    let other = format!("{},127.0.0.1:{},{}", set.address(0), world.port(), set.address(2));
    let one = set.begin(0, &["--bootstrap"]);
    let two = set.begin_in(set.work_dir(2), set.ports[2], &other, &["--bootstrap"]);
    refused(one, "give all of them the same list");
    refused(two, "give all of them the same list");
    let stranger = set.begin_in(world.path("s"), world.port(), &set.list(), &["--bootstrap"]);
    refused(stranger, "--advertise-ip");
    let four = format!("{},127.0.0.1:1", set.list());
    refused(set.begin_in(world.path("f"), set.ports[0], &four, &["--bootstrap"]), "not 4");
    world.nothing_is_left();
}

#[test]
fn a_work_directory_is_what_it_is() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let leader = set.leader();
    let one = (leader + 1) % 3;
    // Unformed, without the word to form.
    refused(set.begin_in(world.path("new"), world.port(), &set.list(), &[]), "--bootstrap");
    set.kill(one);
    refused(set.begin(one, &["--bootstrap"]), "without --bootstrap");
    refused(set.begin(one, &["--size=tiny"]), "--size");
    let two = format!("{},{}", set.address(one), set.address(leader));
    let process = set.begin_in(set.work_dir(one), set.ports[one], &two, &[]);
    process.says("--masters names 2, and this set has 3");
    process.kill();
    let alone = world.told(&[
        "master",
        "--port",
        &set.ports[one].to_string(),
        "--work-dir",
        &set.work_dir(one).display().to_string(),
    ]);
    assert_eq!(alone.status, 2, "{}", alone.err);
    assert!(alone.err.contains("give --masters"), "{}", alone.err);
    // A master whose directory was lost does not make itself anew under the set that is there.
    let lost = set.begin_in(world.path("lost"), set.ports[one], &set.list(), &["--bootstrap"]);
    refused(lost, "its set was made before");
    // One of another key is not the one that it says it is.
    std::fs::write(set.work_dir(one).join("meta/key"), [7; 32]).unwrap();
    refused(set.begin(one, &[]), "meta/key");
    // The directory of a single master is not a set's.
    let single = world.master(&[]);
    let work_dir = world.path(&format!("master-{}", single.port));
    let port = single.port;
    single.stop();
    let list = format!("127.0.0.1:{port}");
    refused(set.begin_in(work_dir, port, &list, &["--bootstrap"]), "a single master");
    set.stop();
    world.nothing_is_left();
}

#[test]
fn of_two_masters_with_one_directory_only_one_goes_on() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let leader = set.leader();
    let one = (leader + 1) % 3;
    set.kill(one);
    let copy = world.path("copy");
    copy_all(&set.work_dir(one), &copy);
    set.restart(one);
    set.leader();
    let twin = set.begin_in(copy, world.port(), &set.list(), &[]);
    let over = |process: &Process| process.err().contains("Its id is over");
    let found = || over(&twin) || over(set.process(one));
    eventually(found, || format!("{}; {}", twin.err(), set.process(one).err()));
    let told = set.gauge(leader, "set_promised_epoch");
    assert!(told > 0 && set.health(leader)["leading"] == true, "the others go on");
    for process in [twin, set.running[one].take().unwrap()] {
        if over(&process) {
            let said = process.end();
            assert_eq!(said.status, 1, "{}", said.err);
        } else {
            process.kill();
        }
    }
    set.stop();
    world.nothing_is_left();
}

pub(crate) fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let there = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &there);
        } else if entry.path().is_file() {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}

#[test]
fn the_key_of_a_set_is_changed_without_a_restart() {
    let world = World::new();
    let [first, second] = ["first", "second"].map(|name| world.secret(name, &[1; 32]));
    let write = |file: &PathBuf, key: &[u8]| std::fs::write(file, key).unwrap();
    let flag = |file: &PathBuf| format!("--gossip-key-file={}", file.display());
    let mut set = Set::made(&world, &[&flag(&first), &flag(&second)]);
    let leader = set.leader();
    let epoch = set.health(leader)["epoch"].clone();
    let all_say = |set: &Set<'_>, words: &str, times: usize| {
        (0..3).for_each(|at| set.process(at).signal(Signal::HUP));
        let said = |at: usize| set.process(at).err().matches(words).count() >= times;
        eventually(|| (0..3).all(said), || format!("{words}, {times} times"));
    };
    // First all of them open what the new key seals, then they seal with it.
    for (file, times) in [(&second, 1), (&first, 2)] {
        write(file, &[2; 32]);
        all_say(&set, "gossip keys were read again", times);
    }
    write(&second, &[0; 31]);
    all_say(&set, "the keys stay as they were", 1);
    write(&second, &[2; 32]);
    assert_eq!((set.leader(), &set.health(leader)["epoch"]), (leader, &epoch));
    // Who knows the new key alone is one of them.
    let other = (leader + 1) % 3;
    set.kill(other);
    set.restart(other);
    assert_eq!(set.leader(), leader);
    let said = set.told("weights", &["set", "web=2"]);
    assert_eq!(said.status, 0, "{}", said.err);
    set.stop();
    world.nothing_is_left();
}

#[test]
fn a_second_gossip_key_that_is_none_is_refused_and_keeps_nothing_from_being_well() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let first = world.secret("gossip.key", &[3; 32]);
    let short = world.secret("short.key", &[3; 31]);
    let open = world.secret("open.key", &[4; 32]);
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let flag = |path: &std::path::Path| format!("--gossip-key-file={}", path.display());
    for (second, why) in [
        (world.path("gossip3.key"), "gossip3.key: No such file"),
        (world.path("elsewhere/gossip2.key"), "elsewhere/gossip2.key: No such file"),
        (short.clone(), "a gossip key is 32 bytes, not 31"),
        (open, "others can read or write it: chmod o= it"),
        (PathBuf::from("/dev/zero"), "others can read or write it"),
    ] {
        let set = Set::of(&world, 3, &[&flag(&first), &flag(&second)]);
        refused(set.begin(0, &["--bootstrap"]), why);
    }
    // Where the next key is to be, nothing has to be yet; what comes there and is no key changes nothing.
    let later = world.path("gossip2.key");
    let set = Set::made(&world, &[&flag(&first), &flag(&later)]);
    let leader = set.leader();
    std::fs::rename(&short, &later).unwrap();
    set.process(leader).signal(Signal::HUP);
    set.process(leader).says("not 31: make one with");
    set.process(leader).says("the keys stay as they were");
    assert_eq!(set.leader(), leader);
    set.stop();
    world.nothing_is_left();
}

#[test]
fn a_gossip_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let key = world.secret("gossip.key", &[3; 32]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let set = Set::of(&world, 3, &[&format!("--gossip-key-file={}", key.display())]);
    let sentence = format!("{}: others can read or write it: chmod o= it", key.display());
    refused(set.begin(0, &["--bootstrap"]), &sentence);
    world.nothing_is_left();
}

#[test]
fn a_master_that_waits_for_the_others_says_once_what_else_it_hears() {
    let world = World::new();
    let mut set = Set::of(&world, 3, &[]);
    set.running[0] = Some(set.begin(0, &["--bootstrap"]));
    set.process(0).says("waiting for ");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..500 {
        socket.send_to(&[7; 300], set.address(0)).unwrap();
    }
    set.process(0).says("of another program, or of a master of another set");
    for at in 1..3 {
        set.running[at] = Some(set.begin(at, &["--bootstrap"]));
    }
    set.leader();
    let said = set.process(0).err();
    assert_eq!(said.matches("something of no use").count(), 1, "{said}");
    set.stop();
    world.nothing_is_left();
}

#[test]
fn datagrams_from_outside_are_counted_and_dropped() {
    let world = World::new();
    let key = world.secret("gossip.key", &[3; 32]);
    let flag = format!("--gossip-key-file={}", key.display());
    let set = Set::made(&world, &[&flag]);
    let leader = set.leader();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = set.address(leader);
    for datagram in [&b"x"[..], &[b'y'; 300], b"msg1", &[&b"msg1\x01"[..], &[9; 400]].concat()] {
        socket.send_to(datagram, &to).unwrap();
    }
    let counted = || {
        ["foreign", "forged", "truncated"]
            .map(|kind| set.gauge(leader, &format!("gossip_{kind}_total")))
    };
    eventually(|| counted() == [1, 1, 2], || format!("one, one, two: {:?}", counted()));
    assert_eq!(set.health(leader)["leading"], true);
    // One with another key is nobody to them.
    std::fs::write(&key, [4; 32]).unwrap();
    let stranger = set.begin_in(world.path("s"), world.port(), &set.list(), &[]);
    refused(stranger, "--bootstrap");
    set.stop();
    world.nothing_is_left();
}

#[test]
fn a_master_whose_key_is_another_one_is_told_of_and_the_others_go_on() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let leader = set.leader();
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    set.kill(one);
    let key = world.secret("wrong.key", &[9; 32]);
    let flag = format!("--gossip-key-file={}", key.display());
    let astray = set.begin(one, &[&flag]);
    let sentence = "give all of them the same --gossip-key-file";
    for process in [&astray, set.process(leader), set.process(other)] {
        process.says(sentence);
    }
    assert_eq!(set.leader(), leader, "they need no third");
    assert_eq!(set.told("weights", &["set", "ops=3"]).status, 0);
    astray.kill();
    set.restart(one);
    assert_eq!(set.leader(), leader);
    set.stop();
    world.nothing_is_left();
}
