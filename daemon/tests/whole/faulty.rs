//! Disks that fail or hang and networks that are slow, under daemons that run: by a library that is
//! loaded into them (`faulty.c`), as no machine has those for the asking.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::masters::{Set, gated};
use crate::world::{Agent, Process, Signal, World, eventually};

/// What is loaded into daemons.
struct Faulty<'w> {
    world: &'w World,
    preload: String,
}

impl<'w> Faulty<'w> {
    fn new(world: &'w World) -> Option<Self> {
        let (source, library) = (world.path("faulty.c"), world.path("faulty.so"));
        fs::write(&source, include_str!("faulty.c")).unwrap();
        let made =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
        if !made.is_ok_and(|status| status.success()) {
            println!("SKIPPED: there is no compiler for what makes a disk or a network bad");
            return None;
        }
        Some(Self { world, preload: format!("LD_PRELOAD={}", library.display()) })
    }

    /// Where the faults of a daemon begin.
    fn faults(&self, daemon: &str) -> String {
        format!("FAULTS={}", self.world.path(daemon).display())
    }

    fn path(&self, daemon: &str, fault: &str) -> PathBuf {
        self.world.path(&format!("{daemon}.{fault}"))
    }

    /// From now on it has that fault.
    fn has(&self, daemon: &str, fault: &str, value: &str) {
        fs::write(self.path(daemon, fault), value).unwrap();
    }

    fn has_no_more(&self, daemon: &str, fault: &str) {
        fs::remove_file(self.path(daemon, fault)).unwrap();
    }

    /// Three masters that make a set; their faults go by their numbers.
    fn set(&self) -> Set<'w> {
        let mut set = Set::of(self.world, 3, &[]);
        for at in 0..3 {
            let faults = self.faults(&at.to_string());
            let (port, list) = (set.ports[at].to_string(), set.list());
            let work_dir = set.work_dir(at).display().to_string();
            let flags = ["master", "--masters", &list, "--port", &port, "--work-dir", &work_dir];
            let flags = [&flags[..], &["--bootstrap", "--min-failover-timeout=60s"]].concat();
            let command = self.world.wrapped(&["env", &self.preload, &faults], &flags);
            set.running[at] = Some(self.world.start(command));
        }
        (0..3).for_each(|at| set.process(at).says("master at 127.0.0.1:"));
        set
    }

    /// Starts an agent, whose faults are called `agent`.
    fn begin(&self, agent: &Agent<'_>) -> Process {
        let known = agent.command();
        let mut command = Command::new("env");
        command.args([&self.preload, &self.faults("agent")]);
        command.arg(known.get_program()).args(known.get_args());
        for (name, value) in known.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let process = self.world.start(command);
        process.says("registered with the master");
        process
    }
}

#[test]
fn a_disk_whose_sync_fails_ends_the_process_and_nothing_is_lost() {
    let world = World::new();
    let Some(faulty) = Faulty::new(&world) else { return };
    let mut set = faulty.set();
    let ends_with_the_reason = |process: Process| {
        let said = process.end();
        assert_eq!(said.status, 1, "{}", said.err);
        for words in
            ["cannot write ", "Input/output error", "ending, to start from what is on disk"]
        {
            assert!(said.err.contains(words), "{words} in {}", said.err);
        }
    };
    let agent = Agent::new(&world, &set.list(), &[]);
    let process = faulty.begin(&agent);
    let (run, gate) = gated(&world, &set);
    // The leader: what it could not write it has not said, and another one makes the change.
    let first = set.leader();
    faulty.has(&first.to_string(), "fails", "");
    let said = set.told("weights", &["set", "ops=3"]);
    assert_eq!(said.status, 0, "{}", said.err);
    ends_with_the_reason(set.running[first].take().unwrap());
    set.leader();
    set.restart(first);
    set.leader();
    let said = set.told("weights", &["ls", "--json"]);
    assert!(said.out.contains("ops"), "{}", said.out);
    // The agent: its task runs on, and is found again.
    faulty.has("agent", "fails", "");
    let other = set.run(&["--", "true"]);
    ends_with_the_reason(process);
    assert!(!run.has_ended(), "{}", run.err());
    faulty.has_no_more("agent", "fails");
    let process = faulty.begin(&agent);
    fs::write(gate, "").unwrap();
    assert_eq!(run.end().status, 7);
    let said = other.end();
    assert!(said.status == 0 || said.err.contains("TASK_"), "{}: {}", said.status, said.err);
    process.signal(Signal::USR1);
    assert_eq!(process.end().status, 0);
    set.stop();
    world.nothing_is_left();
}

#[test]
fn whose_disk_hangs_leads_no_more_and_tells_no_end_that_it_could_not_write() {
    let world = World::new();
    let Some(faulty) = Faulty::new(&world) else { return };
    let set = faulty.set();
    let agent = Agent::new(&world, &set.list(), &[]);
    let process = faulty.begin(&agent);
    let (run, gate) = gated(&world, &set);
    // What its disk does not take it does not say; whoever asked is answered by another one.
    let first = set.leader();
    faulty.has(&first.to_string(), "hangs", "");
    let said = set.told("weights", &["set", "ops=3"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let others: Vec<usize> = (0..3).filter(|at| *at != first).collect();
    let leads = |at: usize| set.health(at)["leading"] == true;
    eventually(|| others.iter().any(|at| leads(*at)), || "another leader".to_owned());
    eventually(|| !leads(first), || "that it leads no more".to_owned());
    // When the disk is back, so is the master, with all that was changed meanwhile.
    faulty.has_no_more(&first.to_string(), "hangs");
    assert_ne!(set.leader(), first, "nobody disturbs a leader");
    assert!(set.told("weights", &["ls", "--json"]).out.contains("ops"));
    // An agent tells no end that it could not write, and nothing is missed.
    faulty.has("agent", "hangs", "");
    let other = set.run(&["--command", "exit 9"]);
    fs::write(gate, "").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(!other.has_ended() && !run.has_ended(), "{}{}", run.err(), other.err());
    faulty.has_no_more("agent", "hangs");
    assert_eq!(run.end().status, 7);
    assert_eq!(other.end().status, 9);
    process.signal(Signal::USR1);
    assert_eq!(process.end().status, 0);
    set.stop();
    world.nothing_is_left();
}

#[test]
fn datagrams_that_come_late_and_in_another_order_elect_nobody_and_keep_no_change_from_being_made() {
    let world = World::new();
    let Some(faulty) = Faulty::new(&world) else { return };
    // A fifth of the time that a leader may be silent, there and back.
    (0..3).for_each(|at| faulty.has(&at.to_string(), "delays", "100"));
    let set = faulty.set();
    let first = set.leader();
    let epoch = set.health(first)["epoch"].clone();
    let began = Instant::now();
    for weight in 1..=20 {
        let said = set.told("weights", &["set", &format!("ops={weight}")]);
        assert_eq!(said.status, 0, "{weight}: {}", said.err);
    }
    while began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(set.health(first)["epoch"], epoch, "nobody else was elected");
    }
    // Beyond that time nobody can know whether there is a leader; with the network it is over.
    (0..3).for_each(|at| faulty.has(&at.to_string(), "delays", "3000"));
    eventually(
        || (0..3).any(|at| set.health(at)["epoch"] != epoch || set.health(at)["leading"] == false),
        || "a network too slow to lead in".to_owned(),
    );
    (0..3).for_each(|at| faulty.has_no_more(&at.to_string(), "delays"));
    set.leader();
    let said = set.told("weights", &["set", "ops=77"]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(set.told("weights", &["ls", "--json"]).out.contains("77"));
    set.stop();
    world.nothing_is_left();
}
