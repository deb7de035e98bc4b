//! What machines do to daemons: full disks, cut cables, spent descriptors, clocks that jump, files that
//! are damaged, cgroups that somebody removed, and death at any moment. What is expected of each is a
//! row of `docs/faults.md`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bad_input::{Setting, cluster, end, in_both, shown};
use crate::kills;
use crate::lans::Lan;
use crate::masters::{Set, copy_all, gated};
use crate::network::or_skipped;
use crate::world::{
    Agent, Master, Process, Signal, World, eventually, get, has_cgroups, lives, needs_root,
};

/// A small file system in memory, at a directory of the test; gone with this.
struct Disk(PathBuf);

impl Disk {
    fn new(at: PathBuf, mib: u32) -> Self {
        fs::create_dir_all(&at).unwrap();
        let size = format!("size={mib}m");
        let said =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).output();
        let said = said.unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        Self(at)
    }

    /// Leaves no byte of it free.
    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        for piece in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
    }

    /// Makes room again.
    fn clear(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also while somebody still has a file of it open, after a test that failed.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn full_disks_of_masters_stop_no_vote_and_no_change() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let mut set = Set::of(&world, 3, &["--min-failover-timeout=60s"]);
    let disks = [0, 1, 2].map(|at| Disk::new(set.work_dir(at), 128));
    (0..3).for_each(|at| set.running[at] = Some(set.begin(at, &["--bootstrap"])));
    (0..3).for_each(|at| set.process(at).says("master at 127.0.0.1:"));
    let agent = set.agent();
    let first = set.leader();
    disks.iter().for_each(Disk::fill);
    // What is decided is kept, and so are votes: one for the next leader, and one for who comes back.
    assert_eq!(set.told("weights", &["set", "ops=3"]).status, 0);
    set.kill(first);
    let second = set.leader();
    agent.process().says(&format!("registered with the master at {}", set.address(second)));
    set.restart(first);
    set.leader();
    let said = set.told("weights", &["ls", "--json"]);
    assert!(said.out.contains("ops"), "{}", said.out);
    let said = set.run(&["--", "echo", "all the same"]).end();
    assert_eq!((said.status, said.out.as_str()), (0, "all the same\n"), "{}", said.err);
    agent.leave();
    set.stop();
    drop(disks);
    world.nothing_is_left();
}

/// A master, and an agent whose work directory has 32 MiB.
fn on_a_small_disk<'w>(world: &'w World, flags: &[&str]) -> (Master<'w>, Agent<'w>, Disk) {
    let master = world.master(&["--min-failover-timeout=60s", "--agent-timeout=30s"]);
    let mut agent = Agent::new(world, &master.address(), flags);
    let disk = Disk::new(agent.work_dir().to_owned(), 32);
    agent.start();
    agent.process().says("registered with the master");
    (master, agent, disk)
}

#[test]
fn an_agent_whose_disk_is_full_takes_nothing_new_and_keeps_what_runs() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let (master, mut agent, disk) = on_a_small_disk(&world, &[]);
    let gates = ["first", "second"].map(|name| world.path(name));
    let runs = gates.each_ref().map(|gate| {
        let line = format!("echo up; until [ -e {} ]; do sleep 0.05; done; exit 7", gate.display());
        let name = gate.file_name().unwrap().to_str().unwrap();
        let run = master.run(&["--name", name, "--command", &line]);
        run.prints("up\n");
        run
    });
    let [first, second] = runs;
    let told = |what: &str| get(agent.port, "/health").contains(what);
    assert!(told(r#""disk_full":false"#), "{}", get(agent.port, "/health"));
    disk.fill();
    agent.process().says("is full: no task is taken until it has room; those that run go on");
    eventually(|| told(r#""disk_full":true"#), || get(agent.port, "/health"));
    let gauges = get(agent.port, "/metrics");
    assert!(gauges.contains("mesita_agent_disk_full 1\n"), "{gauges}");
    let refused = || {
        let mark = world.path("ran");
        let said = master.run(&["--command", &format!("echo ran > {}", mark.display())]).end();
        assert!(
            said.err.contains("the agent's disk is full; retry when it has room"),
            "{}",
            said.err
        );
        assert!(said.status != 0 && !mark.exists(), "{}", said.err);
    };
    refused();
    // What ends is told, and kept through a start: there was room for it all the while.
    fs::write(&gates[0], "").unwrap();
    let said = first.end();
    assert_eq!((said.status, said.out.as_str()), (7, "up\n"), "{}", said.err);
    agent.kill();
    agent.start();
    agent.process().says("is full: no task is taken until it has room; those that run go on");
    agent.process().says("registered with the master");
    refused();
    disk.clear();
    agent.process().says("has room again: tasks are taken");
    let said = master.run(&["--", "true"]).end();
    assert_eq!(said.status, 0, "{}", said.err);
    fs::write(&gates[1], "").unwrap();
    let said = second.end();
    assert_eq!((said.status, said.out.as_str()), (7, "up\n"), "{}", said.err);
    assert!(!agent.process().has_ended(), "{}", agent.process().err());
    agent.leave();
    master.stop();
    drop(disk);
    world.nothing_is_left();
}

#[test]
fn ends_that_a_full_disk_has_no_room_for_wait_and_are_told_when_it_has() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let (master, mut agent, disk) = on_a_small_disk(&world, &["--resources=cpus:32;mem:1024"]);
    let gate = world.path("gate");
    let line = format!("until [ -e {} ]; do sleep 0.1; done; exit 7", gate.display());
    let few = "--resources=cpus:1;mem:1";
    let runs: Vec<_> = (0..24)
        .map(|n| master.run(&["--name", &format!("t{n}"), few, "--command", &line]))
        .collect();
    (0..24).for_each(|n| master.sees(&format!("t{n}"), "TASK_RUNNING"));
    // Nothing stays set aside, as on a file system that sets nothing aside.
    agent.kill();
    let ledger = File::options().write(true).open(agent.work_dir().join("meta/ledger")).unwrap();
    ledger.set_len(ledger.metadata().unwrap().len()).unwrap();
    disk.fill();
    agent.start();
    agent.process().says("is full: no task is taken until it has room; those that run go on");
    fs::write(gate, "").unwrap();
    agent.process().says("what was set aside is used up, too: ends of tasks wait for room");
    assert!(get(agent.port, "/health").contains(r#""disk_full":true"#));
    assert!(!agent.process().has_ended(), "{}", agent.process().err());
    disk.clear();
    for run in runs {
        let said = run.end();
        assert_eq!(said.status, 7, "{}", said.err);
    }
    agent.process().says("has room again: tasks are taken");
    assert_eq!(master.run(&["--", "true"]).end().status, 0);
    agent.leave();
    master.stop();
    drop(disk);
    world.nothing_is_left();
}

in_both! { used_up_descriptors_keep_strangers_out_and_nobody_else }

fn used_up_descriptors_keep_strangers_out_and_nobody_else(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let shown = shown(&world, &master);
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let line = ["--name", "long", "--", "bash", "-c", "echo up; exec sleep 1000"];
    let run = master.run(&[&shown[..], &line].concat());
    run.prints("up");
    let pids = [master.process().pid(), agent.process().pid()];
    for (pid, port) in pids.into_iter().zip([master.port, agent.port]) {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() + 8;
        // The soft one: who started it may widen it again.
        let limit = format!("--nofile={open}:");
        let limited = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
        if !limited.is_ok_and(|status| status.success()) {
            return println!("SKIPPED: prlimit cannot limit a process");
        }
        let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
        let idle: Vec<TcpStream> = (0..64).map(|_| connect()).collect();
        let process = if port == master.port { master.process() } else { agent.process() };
        process.says("cannot accept a connection: Too many open files");
        drop(idle);
        eventually(|| get(port, "/health").starts_with("HTTP/1.1 200 "), || process.err());
    }
    // Nobody who was there has noticed.
    assert_eq!(agent.process().err().matches("registered with").count(), 1);
    let said = world.told(&[&["logs", "long", "--master", &master.address()], &shown[..]].concat());
    assert_eq!(said.status, 0, "{}", said.err);
    run.signal(Signal::INT);
    run.end();
    for pid in pids {
        let wide = ["--pid", &pid.to_string(), "--nofile=1024"];
        assert!(Command::new("prlimit").args(wide).status().unwrap().success());
    }
    end(&world, master, agent);
}

/// As its flag says: up to the first pause, which is doubled with each failure up to 16 times.
#[test]
fn an_agent_that_is_refused_waits_longer_and_longer_up_to_its_bound() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    // The tests' agents begin with 100 ms.
    let mut agent = Agent::new(&world, &at, &[]);
    agent.start();
    let mut came = Vec::new();
    while came.len() < 20 {
        drop(listener.accept().unwrap());
        came.push(std::time::Instant::now());
    }
    let pauses: Vec<Duration> = came.windows(2).map(|two| two[1] - two[0]).collect();
    // A machine that is busy is late by something.
    let late = Duration::from_secs(2);
    for (failures, pause) in pauses.iter().enumerate() {
        let longest = Duration::from_millis(100) * (1 << failures.min(4));
        assert!(*pause < longest + late, "{failures}: {pauses:?}");
    }
    // Each is drawn: of 12 that may take 1.6 s all take more together than if none had grown.
    let grown: Duration = pauses.iter().rev().take(12).sum();
    assert!(grown > Duration::from_millis(2_400), "{pauses:?}");
    drop(listener);
    // Nobody listens: the same, and it does not end.
    assert!(!agent.process().has_ended());
    agent.terminate();
    world.nothing_is_left();
}

/// Every directory below, the deepest first.
fn below(path: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            below(&entry.path(), all);
            all.push(entry.path());
        }
    }
}

#[test]
fn a_cgroup_that_was_removed_takes_no_task_and_no_agent_with_it() {
    if !has_cgroups("cpu") {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let gate = world.path("gate");
    let line = format!("echo up; until [ -e {} ]; do sleep 0.05; done; exit 7", gate.display());
    let run = master.run(&["--name", "long", "--resources=cpus:1;mem:64", "--command", &line]);
    run.prints("up\n");
    let mut removed = 0;
    for root in world.cgroups() {
        let mut all = Vec::new();
        below(&root, &mut all);
        let outside = root.parent().unwrap().join("cgroup.procs");
        let containers = all.iter().filter(|path| !path.ends_with("self"));
        let deep = containers.filter(|path| path.strip_prefix(&root).unwrap().iter().count() > 1);
        for path in deep {
            let gone = || {
                let inside = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
                inside.lines().for_each(|pid| drop(fs::write(&outside, pid)));
                fs::remove_dir(path).is_ok()
            };
            eventually(gone, || format!("{} is gone", path.display()));
            removed += 1;
        }
    }
    assert!(removed > 0, "no cgroup of a task in {:?}", world.cgroups());
    // Its true end is told, its usage is asked for in vain, and others begin.
    get(agent.port, "/monitor/statistics");
    assert_eq!(master.run(&["--", "true"]).end().status, 0);
    fs::write(gate, "").unwrap();
    let said = run.end();
    assert_eq!((said.status, said.out.as_str()), (7, "up\n"), "{}", said.err);
    assert!(!agent.process().has_ended(), "{}", agent.process().err());
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// A number that differs from one call to the next, and is the same in each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn whoever_is_killed_at_any_moment_every_task_runs_once_and_ends_as_told() {
    let world = World::new();
    let mut set = Set::made(&world, &["--min-failover-timeout=60s"]);
    let mut agents = [set.agent(), set.agent()];
    let mut draw = Draw(5);
    for round in 0..16 {
        let mark = world.path(&format!("ran-{round}"));
        let line = format!("echo ran >> {}; sleep 0.3; exit 3", mark.display());
        let run = set.run(&["--name", &format!("t{round}"), "--command", &line]);
        // Any moment from its begin to its end.
        std::thread::sleep(Duration::from_millis(draw.below(900)));
        match usize::try_from(draw.below(5)).unwrap() {
            at @ 0..3 => {
                set.kill(at);
                set.restart(at);
            }
            at => {
                agents[at - 3].kill();
                agents[at - 3].start();
            }
        }
        let said = run.end();
        let ran = fs::read_to_string(&mark).unwrap_or_default().lines().count();
        let told = format!("round {round}: status {}, ran {ran} times: {}", said.status, said.err);
        match said.status {
            3 => assert_eq!(ran, 1, "{told}"),
            // It was on its way to an agent that died; or nobody led for as long as it waits for that.
            _ => {
                let why = ["TASK_", "no master at"].iter().any(|why| said.err.contains(why));
                assert!(ran == 0 && why, "{told}");
            }
        }
    }
    set.leader();
    for agent in agents {
        agent.process().says("registered with the master");
        agent.leave();
    }
    set.stop();
    world.nothing_is_left();
}

#[test]
fn a_leader_that_is_cut_off_or_deaf_makes_way_and_follows_when_it_hears_again() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some(lan) = or_skipped(Lan::new(&world, 4)) else { return };
    let all = [0, 1, 2];
    let masters = lan.masters(&["--bootstrap"]);
    masters.iter().for_each(|process| process.says("master at 10.79.0."));
    let list = lan.list();
    let (root, work_dir) = (format!("--cgroups-root={}", world.name()), world.path("agent"));
    let flags = ["agent", "--master", &list, "--work-dir", work_dir.to_str().unwrap(), &root];
    let agent = lan.start(3, &[&flags[..], &["--insecure"]].concat());
    agent.says("registered with the master");
    for mute in [false, true] {
        let first = lan.leader(&all);
        let others: Vec<usize> = all.into_iter().filter(|at| *at != first).collect();
        // It is not heard either, or it is, and hears nobody.
        let cut: Vec<(usize, usize)> =
            others.iter().flat_map(|at| [(*at, first), (first, *at)]).collect();
        let cut: Vec<_> = cut.into_iter().filter(|(from, _)| mute || *from != first).collect();
        cut.iter().for_each(|(from, to)| lan.cut(*from, *to));
        let second = lan.leader(&others);
        eventually(
            || lan.got(first, "/health")["leading"] == false,
            || format!("that it leads no more: {}", lan.got(first, "/health")),
        );
        let at = format!("registered with the master at {}", lan.master_at(second));
        let there = || {
            agent
                .err()
                .rfind("registered with")
                .is_some_and(|last| agent.err()[last..].starts_with(&at))
        };
        eventually(there, || format!("{at} in {}", agent.err()));
        cut.iter().for_each(|(from, to)| lan.mend(*from, *to));
        assert_eq!(lan.leader(&all), second, "nobody disturbs a leader");
    }
    agent.signal(Signal::USR1);
    assert_eq!(agent.end().status, 0);
    for process in masters {
        process.signal(Signal::TERM);
        assert_eq!(process.end().status, 0);
    }
    drop(lan);
    world.nothing_is_left();
}

#[test]
fn datagrams_that_are_lost_elect_nobody_and_keep_no_change_from_being_made() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some(lan) = or_skipped(Lan::new(&world, 3)) else { return };
    let all = [0, 1, 2];
    if let Err(why) = all.iter().try_for_each(|at| lan.lose(*at, 5)) {
        return println!("SKIPPED: the kernel loses no datagram by chance: {why}");
    }
    let masters = lan.masters(&["--bootstrap"]);
    masters.iter().for_each(|process| process.says("master at 10.79.0."));
    let first = lan.leader(&all);
    let epoch = || lan.got(first, "/health")["epoch"].clone();
    let before = epoch();
    let list = lan.list();
    let changes = |from: u32| {
        for weight in from..from + 20 {
            let weight = format!("ops={weight}");
            let set = ["weights", "set", &weight, "--insecure", "--master", &list];
            let said = lan.start(0, &set).end();
            assert_eq!(said.status, 0, "{weight}: {}", said.err);
        }
    };
    let began = std::time::Instant::now();
    changes(1);
    while began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(epoch(), before, "nobody else was elected");
    }
    // Nearly every third: whoever leads, changes are made.
    all.iter().for_each(|at| lan.lose(*at, 30).unwrap());
    changes(101);
    let ls = ["weights", "ls", "--json", "--insecure", "--master", &list];
    let said = lan.start(0, &ls).end();
    assert!(said.out.contains("120"), "{}", said.out);
    for process in masters {
        process.signal(Signal::TERM);
        assert_eq!(process.end().status, 0);
    }
    drop(lan);
    world.nothing_is_left();
}

#[test]
fn a_network_that_carries_576_bytes_and_drops_the_rest_keeps_no_change_from_being_made() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some(lan) = or_skipped(Lan::new(&world, 3)) else { return };
    let all = [0, 1, 2];
    if let Err(why) = all.iter().try_for_each(|at| lan.narrow(*at, 576)) {
        return println!("SKIPPED: the kernel drops no datagram by its length: {why}");
    }
    let masters = lan.masters(&["--bootstrap"]);
    masters.iter().for_each(|process| process.says("master at 10.79.0."));
    let first = lan.leader(&all);
    let epoch = || lan.got(first, "/health")["epoch"].clone();
    let (before, list) = (epoch(), lan.list());
    let told = |words: &[&str]| {
        let said = lan.start(0, &[words, &["--insecure", "--master", &list]].concat()).end();
        assert_eq!(said.status, 0, "{words:?}: {}", said.err);
        said.out
    };
    // As much as a change has room for, and more than a datagram has there.
    let value = "v".repeat(4_000);
    for key in ["one", "two", "three"] {
        told(&["store", "put", key, &value]);
    }
    assert_eq!(epoch(), before, "nobody else was elected");
    // And so has a whole registry that one of them does not have: it follows, and the change is made without
    // the third.
    let second = all.into_iter().find(|at| *at != first).unwrap();
    let third = 3 - first - second;
    let mut masters = masters.map(Some);
    let end = |process: &mut Option<Process>| {
        let process = process.take().unwrap();
        process.signal(Signal::TERM);
        assert_eq!(process.end().status, 0);
    };
    end(&mut masters[second]);
    for key in ["four", "five", "six"] {
        told(&["store", "put", key, &value]);
    }
    let key = world.path("gossip.key").display().to_string();
    let work_dir = world.path(&format!("m{second}")).display().to_string();
    let begin = ["master", "--insecure", "--ip", &lan.host(second), "--work-dir", &work_dir];
    let rest = ["--masters", &list, "--gossip-key-file", &key];
    let again = lan.start(second, &[&begin[..], &rest].concat());
    masters[second] = Some(again);
    lan.leader(&all);
    end(&mut masters[third]);
    // Until it has all of it, there is no majority that does.
    let seven = ["store", "put", "seven", &value, "--insecure", "--master", &list];
    eventually(|| lan.start(0, &seven).end().status == 0, || "the second does not follow".into());
    assert_eq!(told(&["store", "get", "four"]).trim(), value);
    masters.iter_mut().filter(|process| process.is_some()).for_each(end);
    drop(lan);
    world.nothing_is_left();
}

#[test]
fn machines_whose_clocks_are_years_apart_make_one_cluster() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    // The clock that everything goes by; a second program at once shows whether that can be set.
    let clock = |offset: &str| format!("--boottime={offset}");
    let shown =
        Command::new("unshare").args(["-T", &clock("63072000"), "cat", "/proc/uptime"]).output();
    let shown =
        shown.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
    if !shown.split('.').next().is_some_and(|up| up.parse().is_ok_and(|up: u64| up > 63_072_000)) {
        return println!("SKIPPED: a process cannot be given a clock of its own: {shown}");
    }
    let mut set = Set::of(&world, 3, &["--min-failover-timeout=60s"]);
    let master = |set: &Set<'_>, at: usize, offset: &str, more: &[&str]| {
        let (port, list) = (set.ports[at].to_string(), set.list());
        let work_dir = set.work_dir(at).display().to_string();
        let flags = ["master", "--masters", &list, "--port", &port, "--work-dir", &work_dir];
        world.start(world.wrapped(&["unshare", "-T", &clock(offset)], &[&flags[..], more].concat()))
    };
    for (at, offset) in [(0, "0"), (1, "63072000"), (2, "31536000")] {
        set.running[at] = Some(master(&set, at, offset, &["--bootstrap"]));
    }
    (0..3).for_each(|at| set.process(at).says("master at 127.0.0.1:"));
    let agent = Agent::new(&world, &set.list(), &[]);
    let begin = |offset: &str| {
        let mut command = Command::new("unshare");
        command.args(["-T", &clock(offset)]);
        let known = agent.command();
        command.arg(known.get_program()).args(known.get_args());
        for (name, value) in known.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let process = world.start(command);
        process.says("registered with the master");
        process
    };
    let process = begin("63072000");
    let (run, gate) = gated(&world, &set);
    // Two years back, two years on, and back again; the task is the same all the while.
    process.kill();
    let process = begin("0");
    let first = set.leader();
    set.kill(first);
    set.leader();
    set.running[first] = Some(master(&set, first, "94608000", &[]));
    set.process(first).says("master at 127.0.0.1:");
    set.leader();
    process.kill();
    let process = begin("63072000");
    fs::write(gate, "").unwrap();
    assert_eq!(run.end().status, 7);
    process.signal(Signal::USR1);
    assert_eq!(process.end().status, 0);
    set.stop();
    world.nothing_is_left();
}

/// A cluster with a task that runs on while its agent does not: its run and the gate of its end.
fn left_alone<'w>(world: &'w World) -> (Master<'w>, Agent<'w>, Process, PathBuf) {
    let master = world.master(&["--min-failover-timeout=60s", "--agent-timeout=30s"]);
    let mut agent = master.agent(&[]);
    assert_eq!(master.run(&["--", "true"]).end().status, 0);
    let gate = world.path("gate");
    let line = format!("echo up; until [ -e {} ]; do sleep 0.05; done; exit 7", gate.display());
    let run = master.run(&["--name", "long", "--command", &line]);
    run.prints("up\n");
    agent.kill();
    (master, agent, run, gate)
}

#[test]
fn a_ledger_that_ends_early_gives_all_that_was_promised() {
    let world = World::new();
    let (master, mut agent, run, gate) = left_alone(&world);
    let path = agent.work_dir().join("meta/ledger");
    // The end of a record that never was whole: as much of one as a power cut leaves.
    let whole = fs::read(&path).unwrap();
    for len in [1, 7, 20] {
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&whole[8..8 + len]).unwrap();
        agent.start();
        agent.process().says(&format!("the last {len} bytes are torn"));
        agent.process().says("registered with the master");
        agent.kill();
    }
    agent.start();
    agent.process().says("registered with the master");
    fs::write(gate, "").unwrap();
    let said = run.end();
    assert_eq!((said.status, said.out.as_str()), (7, "up\n"), "{}", said.err);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// How an agent ended that was not to start.
fn refuses(agent: &mut Agent<'_>, sentence: &str) {
    let said = agent.ends();
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains(sentence), "{sentence:?} in {}", said.err);
}

#[test]
fn a_ledger_that_is_damaged_or_of_a_later_release_is_refused_and_its_tasks_run_on() {
    let world = World::new();
    let (master, mut agent, run, gate) = left_alone(&world);
    let path = agent.work_dir().join("meta/ledger");
    let change = |at: u64, byte: &dyn Fn(u8) -> u8| {
        let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut old = [0];
        file.seek(SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut old).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[byte(old[0])]).unwrap();
        old[0]
    };
    // The version is the last byte of its name.
    let version = change(7, &|version| version + 1);
    refuses(&mut agent, "was written by a later release; use that one, or a new --work-dir");
    change(7, &|_| version);
    let len = path.metadata().unwrap().len();
    for at in [9, len / 3, len / 2] {
        change(at, &|byte| byte ^ 0x10);
        refuses(&mut agent, "end this agent's tasks and move its work dir away");
        change(at, &|byte| byte ^ 0x10);
    }
    agent.start();
    agent.process().says("registered with the master");
    fs::write(gate, "").unwrap();
    assert_eq!(run.end().status, 7);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn an_older_copy_of_a_master_is_found_out_by_what_the_others_remember() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let first = set.leader();
    let one = (first + 1) % 3;
    set.kill(one);
    let copy = world.path("copy");
    copy_all(&set.work_dir(one), &copy);
    set.restart(one);
    // It votes in an election that the copy knows nothing of.
    set.kill(first);
    set.leader();
    set.restart(first);
    set.leader();
    set.kill(one);
    fs::remove_dir_all(set.work_dir(one)).unwrap();
    copy_all(&copy, &set.work_dir(one));
    let said = set.begin(one, &[]).end();
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("Its id is over"), "{}", said.err);
    assert!(said.err.contains("Remove it from the set and add a new one"), "{}", said.err);
    // Durably: nor does it try again.
    let said = set.begin(one, &[]).end();
    assert_ne!(said.status, 0);
    assert!(said.err.contains("Its id is over"), "{}", said.err);
    set.leader();
    set.stop();
    world.nothing_is_left();
}

#[test]
fn an_agent_that_lost_its_ledger_begins_anew_and_one_with_an_older_ledger_ends_and_says_so() {
    let world = World::new();
    let master = world.master(&[]);
    let mut agent = master.agent(&[]);
    let registered = "registered with the master";
    agent.process().says(registered);
    let ledger = agent.work_dir().join("meta/ledger");
    let older = fs::read(&ledger).unwrap();
    for _ in 0..3 {
        agent.kill();
        agent.start();
        agent.process().says(registered);
    }
    agent.kill();
    fs::write(&ledger, older).unwrap();
    // By starting more often than the other it would be the later one.
    for _ in 0..6 {
        let said = agent.ends();
        assert_eq!(said.status, 1, "{}", said.err);
        let reason = "another copy of its work directory runs, or this one is older";
        assert!(said.err.contains(reason), "{}", said.err);
        assert!(!said.err.contains(registered), "{}", said.err);
    }
    fs::remove_file(&ledger).unwrap();
    agent.start();
    agent.process().says(registered);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_copy_of_an_agent_does_not_start_beside_it_whether_the_agent_runs_or_only_its_tasks_do() {
    let world = World::new();
    let master = world.master(&[]);
    let mut agent = master.agent(&[]);
    agent.process().says("registered with the master");
    let (run, pid) = kills::gated(&world, &master, "t", "exit 5");
    let mut copy = Agent::new(&world, &master.address(), &[]);
    copy_all(agent.work_dir(), copy.work_dir());
    for runs in [true, false] {
        if !runs {
            agent.kill();
        }
        let said = copy.ends();
        assert_eq!(said.status, 1, "{}", said.err);
        assert!(said.err.contains("whose agent has this one's key"), "{}", said.err);
        assert!(lives(pid), "{}", said.err);
    }
    agent.start();
    kills::open_gate(&world, "t");
    assert_eq!(run.end().status, 5);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn who_loses_its_directory_while_it_runs_ends_at_its_next_write_and_says_so() {
    let world = World::new();
    let mut master = world.master(&[]);
    let mut agent = master.agent(&[]);
    agent.process().says("registered with the master");
    let (first, pid) = kills::gated(&world, &master, "t", "exit 5");
    fs::remove_dir_all(agent.work_dir().join("meta")).unwrap();
    let run = master.run(&["--resources=cpus:0.1;mem:16", "--", "true"]);
    let said = agent.over();
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("meta/ledger: it was removed"), "{}", said.err);
    run.kill();
    // Nobody would find what ran.
    eventually(|| !lives(pid), || "the task that ran before".to_owned());
    first.kill();
    fs::remove_dir_all(world.path(&format!("master-{}", master.port)).join("meta")).unwrap();
    let put = ["store", "put", "key", "value", "--master", &master.address()];
    assert_ne!(world.told(&put).status, 0);
    let said = master.over();
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("meta/registry: it was removed"), "{}", said.err);
    world.nothing_is_left();
}

#[test]
fn an_older_ledger_ends_no_task_of_a_later_start() {
    let world = World::new();
    let master = world.master(&[]);
    let mut agent = master.agent(&[]);
    agent.process().says("registered with the master");
    let ledger = agent.work_dir().join("meta/ledger");
    agent.kill();
    let older = fs::read(&ledger).unwrap();
    agent.start();
    let (run, pid) = kills::gated(&world, &master, "t", "exit 5");
    agent.kill();
    let newest = fs::read(&ledger).unwrap();
    fs::write(&ledger, older).unwrap();
    let said = agent.ends();
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("or this one is older"), "{}", said.err);
    assert!(lives(pid), "{}", said.err);
    // Nor has it made the mistake last.
    fs::write(&ledger, newest).unwrap();
    agent.start();
    kills::open_gate(&world, "t");
    assert_eq!(run.end().status, 5);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn an_older_work_directory_of_the_only_master_is_found_out_by_its_agents() {
    let world = World::new();
    let mut master = world.master(&[]);
    let agent = master.agent(&[]);
    agent.process().says("registered with the master");
    master.kill();
    let dir = world.path(&format!("master-{}", master.port));
    let copy = world.path("copy");
    copy_all(&dir, &copy);
    for _ in 0..2 {
        master.start();
        let registered = || master.rows(&["--agents"]).iter().any(|row| row["state"] == "active");
        eventually(registered, || agent.process().err());
        master.kill();
    }
    fs::remove_dir_all(&dir).unwrap();
    copy_all(&copy, &dir);
    master.start();
    let first = master.process.take().unwrap().end();
    let port = master.port.to_string();
    let again = ["master", "--port", &port, "--work-dir", dir.to_str().unwrap()];
    let again = world.told(&again);
    assert_eq!((first.status, again.status), (1, 2));
    for said in [first, again] {
        let reason = "an older copy of its work directory was put back";
        assert!(said.err.contains(reason), "{}", said.err);
    }
    // What it says to do.
    let (old, text) = (world.path("old"), world.path("registry.json"));
    fs::rename(&dir, &old).unwrap();
    let exported = world.told(&["registry", "export", "--work-dir", old.to_str().unwrap()]);
    assert_eq!(exported.status, 0, "{}", exported.err);
    fs::write(&text, exported.out).unwrap();
    let import = ["registry", "import", text.to_str().unwrap()];
    let into = ["--new-generation", "--i-lost-quorum", "--work-dir", dir.to_str().unwrap()];
    let imported = world.told(&[&import[..], &into].concat());
    assert_eq!(imported.status, 0, "{}", imported.err);
    master.start();
    let registered = || master.rows(&["--agents"]).iter().any(|row| row["state"] == "active");
    eventually(registered, || agent.process().err());
    agent.leave();
    master.stop();
    world.nothing_is_left();
}
