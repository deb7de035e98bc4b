//! Masters come and go: one that is lost with its disk is replaced, one becomes three, and what is
//! not to be done to a set is refused.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::http::post;
use crate::lans::Lan;
use crate::masters::{Set, copy_all, gated, refused};
use crate::network::or_skipped;
use crate::world::{
    Agent, PATIENCE, Process, Said, Signal, World, eventually, get, needs_root, within,
};

impl Set<'_> {
    /// Starts a new master with an empty work directory that asks to follow; its place.
    fn newcomer(&mut self, more: &[&str]) -> usize {
        let at = self.ports.len();
        self.ports.push(self.world.port());
        let process = self.begin(at, &[&["--join"], more].concat());
        process.says("`mesita masters add ");
        self.running.push(Some(process));
        at
    }

    /// What `mesita masters ls` says.
    fn masters(&self) -> Vec<Value> {
        let said = self.told("masters", &["ls", "--json"]);
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The key of the one that asks to follow.
    fn asking(&self) -> String {
        let key = || {
            let asks = |row: &Value| row["state"] == "asks";
            self.masters().into_iter().find(asks).map(|row| row["key"].as_str().unwrap().to_owned())
        };
        eventually(|| key().is_some(), || format!("one that asks: {:?}", self.masters()));
        key().unwrap()
    }

    /// Waits until so many vote, all of them heard.
    fn voting(&self, count: usize) {
        let all = || {
            let rows = self.masters();
            let well = |row: &&Value| row["votes"] == true && row["state"] != "silent";
            let all = rows.iter().filter(|row| row["id"].is_u64()).count();
            rows.iter().filter(well).count() == count && all == count
        };
        eventually(all, || format!("{count} that vote: {:?}", self.masters()));
    }

    fn change(&self, words: &[&str]) -> Said {
        self.told("masters", words)
    }

    fn is_refused(&self, words: &[&str], sentence: &str) {
        let said = self.change(words);
        assert_eq!(said.status, 1, "{words:?}: {}", said.err);
        assert!(said.err.contains(sentence), "{sentence:?} in {}", said.err);
    }
}

fn id(at: usize) -> String {
    (at + 1).to_string()
}

#[test]
fn a_master_that_is_lost_with_its_disk_is_replaced() {
    let world = World::new();
    let mut set = Set::made(&world, &["--min-failover-timeout=60s"]);
    let mut agent = set.agent();
    let (run, gate) = gated(&world, &set);
    let first = set.leader();
    let (lost, other) = ((first + 1) % 3, (first + 2) % 3);
    assert_eq!(set.told("weights", &["set", "ops=3"]).status, 0);
    set.kill(lost);
    let copy = world.path("copy");
    copy_all(&set.work_dir(lost), &copy);
    fs::remove_dir_all(set.work_dir(lost)).unwrap();
    // Nobody who forgot everything comes back as who it was.
    refused(set.begin(lost, &["--bootstrap"]), "its set was made before");
    fs::remove_dir_all(set.work_dir(lost)).unwrap();
    let new = set.newcomer(&[]);
    let key = set.asking();
    set.is_refused(&["remove", "9"], "there is no master 9");
    set.is_refused(&["remove", &id(first), "--force"], "leads: stop it");
    set.is_refused(&["remove", &id(other)], "--force");
    // What would be left is the leader and one that is gone.
    set.is_refused(&["remove", &id(other), "--force"], "too few answer");
    set.is_refused(&["replace", &id(lost), "00000000000000000000"], "asks to follow");
    set.is_refused(&["replace", &id(lost), "00"], "names no key");
    set.is_refused(&["add", "not-a-fingerprint"], "names no key");
    let said = set.change(&["replace", &id(lost), &key]);
    assert_eq!(said.status, 0, "{}", said.err);
    set.process(new).says("master at 127.0.0.1:");
    set.voting(3);
    // The same again changes nothing.
    assert_eq!(set.change(&["replace", &id(lost), &key]).status, 0);
    assert_eq!(set.masters().len(), 3);
    set.kill(first);
    let second = set.leader();
    agent.process().says(&format!("registered with the master at {}", set.address(second)));
    let said = set.told("weights", &["ls", "--json"]);
    assert!(said.out.contains("ops"), "{}", said.out);
    // The directory of the one that was removed is nobody's any more.
    let ghost = set.begin_in(copy, set.ports[lost], &set.list(), &[]);
    ghost.says("this master was removed from the set");
    ghost.kill();
    set.restart(first);
    set.kill(new);
    set.restart(new);
    set.leader();
    // An agent that knows only who is gone has heard of the others.
    let told = agent.work_dir().join("meta/masters");
    let knows = || fs::read_to_string(&told).unwrap_or_default().contains(&set.address(new));
    eventually(knows, || fs::read_to_string(&told).unwrap_or_default());
    agent.kill();
    agent.now_at(&set.address(lost));
    agent.start();
    agent.process().says("registered with the master at ");
    fs::write(gate, "").unwrap();
    assert_eq!(run.end().status, 7);
    agent.leave();
    set.stop();
    world.nothing_is_left();
}

#[test]
fn a_master_that_is_lost_with_its_disk_is_replaced_where_it_was() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let first = set.leader();
    let lost = (first + 1) % 3;
    set.kill(lost);
    fs::remove_dir_all(set.work_dir(lost)).unwrap();
    let process = set.begin(lost, &["--join"]);
    process.says("`mesita masters add ");
    set.running[lost] = Some(process);
    let key = set.asking();
    let silent = || set.masters().iter().any(|row| row["state"] == "silent");
    eventually(silent, || format!("one that is silent: {:?}", set.masters()));
    let said = set.change(&["replace", &id(lost), &key]);
    assert_eq!(said.status, 0, "{}", said.err);
    set.voting(3);
    set.stop();
    world.nothing_is_left();
}

#[test]
fn one_change_at_a_time_and_only_by_operators() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let first = set.leader();
    let new = set.newcomer(&["--size=tiny"]);
    eventually(
        || set.masters().iter().any(|row| row["state"] == "asks, of another --size"),
        || format!("another size: {:?}", set.masters()),
    );
    set.process(new).says("another --size");
    let key = set.masters()[3]["key"].as_str().unwrap().to_owned();
    set.is_refused(&["add", &key], "another --size");
    set.kill(new);
    fs::remove_dir_all(set.work_dir(new)).unwrap();
    let new = set.newcomer(&[]);
    let key = set.asking();
    // Four are no better than three: they are a step to five, or none.
    set.is_refused(&["add", &key], "have a second new master ask to follow");
    set.newcomer(&[]);
    let asks = |row: &Value| row["state"] == "asks" && row["key"] != key;
    let other = || set.masters().into_iter().find(asks);
    eventually(|| other().is_some(), || format!("another that asks: {:?}", set.masters()));
    let other = other().unwrap()["key"].as_str().unwrap().to_owned();
    // It is named, and stopped before it has a vote.
    set.process(new).signal(Signal::STOP);
    assert_eq!(set.change(&["add", &key]).status, 0);
    let learner = set.masters().iter().find(|row| row["votes"] == false).unwrap()["id"].to_string();
    set.is_refused(&["remove", &id((first + 1) % 3), "--force"], "one change at a time");
    // The new one alone may go again: it was never needed.
    assert_eq!(set.change(&["remove", &learner]).status, 0);
    assert_eq!(set.masters().iter().filter(|row| row["id"].is_u64()).count(), 3);
    set.process(new).signal(Signal::CONT);
    // It asks still, and may be added again, under another id.
    let asks = || set.masters().iter().any(|row| row["key"] == key && row["state"] == "asks");
    eventually(asks, || format!("{key} that asks: {:?}", set.masters()));
    let changed = |body| post(set.ports[first], "/masters/change", &[], &body).status;
    assert_eq!(changed(json!({"add": key})), 200);
    set.voting(4);
    let answer = get(set.ports[(first + 1) % 3], "/masters");
    assert!(answer.contains("\"learns\"") || answer.contains("\"follows\""), "{answer}");
    assert_eq!([changed(json!({"remove": 77})), changed(json!({"what": 1}))], [400, 400]);
    set.process(first).says("there are 4 masters for now");
    assert_eq!(set.change(&["add", &other]).status, 0);
    set.voting(5);
    // Back to three by way of four, and to no four.
    let gone = (first + 1) % 3;
    set.is_refused(&["remove", &id(gone), "--force"], "stop the second one that is to go");
    let added = set.masters().iter().position(|row| row["key"] == key).unwrap();
    let added = set.masters()[added]["id"].to_string();
    set.kill(new);
    eventually(
        || set.masters().iter().any(|row| row["state"] == "silent"),
        || format!("a silent one: {:?}", set.masters()),
    );
    assert_eq!(set.change(&["remove", &id(gone), "--force"]).status, 0);
    assert_eq!(set.change(&["remove", &added]).status, 0);
    set.voting(3);
    let said = set.running[gone].take().unwrap().end();
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("this master was removed from the set"), "{}", said.err);
    refused(set.begin(gone, &[]), "this master was removed from the set");
    set.stop();
    world.nothing_is_left();
}

#[test]
fn a_list_of_one_is_a_set_that_others_can_follow() {
    let world = World::new();
    let mut set = Set::of(&world, 1, &[]);
    set.running[0] = Some(set.begin(0, &["--bootstrap"]));
    set.process(0).says("master at 127.0.0.1:");
    set.leader();
    set.newcomer(&[]);
    let key = set.asking();
    assert_eq!(set.change(&["add", &key]).status, 0);
    set.voting(2);
    set.stop();
    world.nothing_is_left();
}

#[test]
fn a_single_master_becomes_three() {
    let world = World::new();
    let mut set = Set::of(&world, 1, &[]);
    let (port, address) = (set.ports[0].to_string(), set.address(0));
    let directory = set.work_dir(0).display().to_string();
    let words = ["master", "--port", &port, "--work-dir", &directory];
    let alone = world.start(world.mesita(&words));
    alone.says("master at 127.0.0.1:");
    let mut agent = Agent::new(&world, &address, &[]);
    agent.start();
    agent.process().says("registered with the master");
    assert_eq!(set.told("weights", &["set", "ops=3"]).status, 0);
    set.is_refused(&["add", "00112233445566778899"], "the only one of its cluster");
    stop(alone);
    set.restart(0);
    set.leader();
    for count in 2..=3 {
        let new = set.newcomer(&[]);
        let key = set.asking();
        let said = set.change(&["add", &key]);
        assert_eq!(said.status, 0, "{}", said.err);
        set.process(new).says("master at 127.0.0.1:");
        set.voting(count);
    }
    set.kill(0);
    let second = set.leader();
    agent.process().says(&format!("registered with the master at {}", set.address(second)));
    let said = set.told("weights", &["ls", "--json"]);
    assert!(said.out.contains("ops"), "{}", said.out);
    // Nobody takes it for the only one any more.
    refused(world.start(world.mesita(&words)), "give --masters");
    set.restart(0);
    set.leader();
    agent.leave();
    set.stop();
    world.nothing_is_left();
}

fn stop(process: Process) {
    process.signal(Signal::TERM);
    assert_eq!(process.end().status, 0);
}

/// A command whose names of hosts are in a file.
fn with_hosts(world: &World, command: Command) -> Process {
    with_hosts_in(world, &[], command)
}

/// The same, started by a wrapper.
fn with_hosts_in(world: &World, wrapper: &[&str], command: Command) -> Process {
    let line = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    let words = [wrapper, &["unshare", "-m", "sh", "-c", line, "sh"]].concat();
    let mut inside = Command::new(words[0]);
    inside.args(&words[1..]).arg(world.path("hosts"));
    inside.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        inside.env(name, value.unwrap_or_default());
    }
    world.start(inside)
}

#[test]
fn masters_and_agents_that_were_all_renumbered_find_each_other_by_their_names() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let ports: Vec<u16> = (0..3).map(|_| world.port()).collect();
    let name = |at: usize| format!("m{at}.test:{}", ports[at]);
    let list = [0, 1, 2].map(name).join(",");
    let key = world.secret("gossip.key", &[5; 32]);
    let renumber = |net: u8| {
        let line = |at: usize| format!("127.0.{net}.{} m{at}.test\n", at + 1);
        fs::write(world.path("hosts"), [0, 1, 2].map(line).concat()).unwrap();
    };
    let master = |at: usize, net: u8, more: &[&str]| {
        let (ip, port) = (format!("127.0.{net}.{}", at + 1), ports[at].to_string());
        let host = format!("m{at}.test");
        let mut command = world.mesita(&["master", "--ip", &ip, "--port", &port]);
        command.args(["--masters", &list, "--advertise-ip", &host, "--gossip-key-file"]);
        command.arg(&key).arg("--work-dir").arg(world.path(&host)).args(more);
        let process = with_hosts(&world, command);
        if more.is_empty() {
            process.says("master at 127.0.");
        }
        process
    };
    renumber(11);
    let before = [0, 1, 2].map(|at| master(at, 11, &["--bootstrap"]));
    before.iter().for_each(|process| process.says("master at 127.0."));
    let agent = with_hosts(&world, Agent::new(&world, &list, &[]).command());
    agent.says("registered with the master at m");
    before.into_iter().for_each(Process::kill);
    renumber(12);
    let after = [0, 1, 2].map(|at| master(at, 12, &[]));
    let again = || agent.err().matches("registered with the master at m").count() > 1;
    eventually(again, || agent.err());
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().status, 0);
    after.into_iter().for_each(stop);
    world.nothing_is_left();
}

#[test]
fn masters_and_ten_agents_whose_addresses_all_change_at_once_form_again_unaided() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some(lan) = or_skipped(Lan::new(&world, 13)) else { return };
    let names = |net: u8| {
        let line = |at: usize| format!("10.{net}.0.{} m{at}.test\n", at + 1);
        fs::write(world.path("hosts"), [0, 1, 2].map(line).concat()).unwrap();
    };
    names(79);
    let list = [0, 1, 2].map(|at| format!("m{at}.test:5050")).join(",");
    let key = world.secret("gossip.key", &[5; 32]);
    let start = |at: usize, command| with_hosts_in(&world, &lan.machines[at].wrapper(), command);
    let masters = [0, 1, 2].map(|at| {
        let host = format!("m{at}.test");
        let mut command = world.mesita(&["master", "--ip", "0.0.0.0", "--insecure"]);
        command.args(["--masters", &list, "--advertise-ip", &host, "--bootstrap"]);
        command.arg("--gossip-key-file").arg(&key).arg("--work-dir").arg(world.path(&host));
        start(at, command)
    });
    masters.iter().for_each(|process| process.says("master at 0.0.0.0:"));
    let agents: Vec<Process> =
        (3..13).map(|at| start(at, Agent::new(&world, &list, &["--insecure"]).command())).collect();
    agents.iter().for_each(|agent| agent.says("registered with the master at m"));
    let gate = world.path("gate");
    let line = format!("echo up; until [ -e {} ]; do sleep 0.05; done; exit 7", gate.display());
    let mark = world.marked();
    let begin = ["run", &mark, "--insecure", "--master", &list];
    let run = [&begin[..], &["--user", "nobody", "--command", &line]].concat();
    let run = start(3, world.mesita(&run));
    run.prints("up\n");

    lan.renumber(80);
    names(80);
    let again =
        || agents.iter().all(|agent| agent.err().matches("registered with the m").count() > 1);
    eventually(again, || {
        let last = |agent: &Process| agent.err().lines().last().unwrap_or_default().to_owned();
        agents.iter().map(last).collect::<Vec<_>>().join("\n")
    });
    fs::write(gate, "").unwrap();
    // Who runs the task has one connection, and hears of its end from the kernel, after a minute.
    assert!(within(3 * PATIENCE, || run.has_ended()), "{}", run.err());
    let said = run.end();
    assert_eq!((said.status, said.out.as_str()), (7, "up\n"), "{}", said.err);
    agents.iter().for_each(|agent| agent.signal(Signal::USR1));
    for agent in agents {
        assert_eq!(agent.end().status, 0);
    }
    masters.into_iter().for_each(stop);
    drop(lan);
    world.nothing_is_left();
}
