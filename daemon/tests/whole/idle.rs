//! A cluster in which nothing happens: it writes nothing, and hardly wakes up.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::world::{World, is_root};

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(8);

/// Times that the threads of a process went to sleep by themselves: as often as they woke up.
fn sleeps(pid: i32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let counted = threads.map(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"));
        line.map_or(0, |line| line.split_whitespace().nth(1).unwrap().parse().unwrap())
    });
    counted.sum()
}

/// Bytes written to disks, and bytes given to write(2). Only root may know them of a keeper.
pub(crate) fn written(pid: i32) -> (u64, u64) {
    let Ok(io) = std::fs::read_to_string(format!("/proc/{pid}/io")) else {
        assert!(!is_root(), "no /proc/{pid}/io");
        println!("SKIPPED: only root knows what a keeper writes");
        return (0, 0);
    };
    let of = |name: &str| {
        let line = io.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    (of("write_bytes: "), of("wchar: "))
}

/// Every file below a directory, with its length and when it was written.
pub(crate) fn files(path: &Path, into: &mut BTreeMap<String, (u64, SystemTime)>) {
    for entry in std::fs::read_dir(path).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            files(&entry.path(), into);
        }
        let name = entry.path().display().to_string();
        into.insert(name, (meta.len(), meta.modified().unwrap()));
    }
}

#[test]
fn an_idle_cluster_writes_nothing_and_wakes_up_less_than_once_a_second() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    // It has worked, and has nothing to do any more.
    assert_eq!(master.run(&["--", "true"]).end().status, 0);
    let keeper = world.process("mesita-keeper");
    let pids = [master.process().pid(), agent.process().pid(), keeper];
    let state = || {
        let mut all = BTreeMap::new();
        files(agent.work_dir(), &mut all);
        files(&world.path(&format!("master-{}", master.port)), &mut all);
        all
    };
    // Threads that wait for more work end after half a second; what was written is on its way.
    std::thread::sleep(Duration::from_secs(2));
    let (files_before, began) = (state(), Instant::now());
    let before = pids.map(|pid| (sleeps(pid), written(pid)));
    std::thread::sleep(IDLE);
    let after = pids.map(|pid| (sleeps(pid), written(pid)));
    let seconds = began.elapsed().as_secs();
    assert_eq!(files_before, state(), "no file changes");
    for ((name, before), after) in ["master", "agent", "keeper"].iter().zip(before).zip(after) {
        let (slept, disk, all) =
            (after.0 - before.0, after.1.0 - before.1.0, after.1.1 - before.1.1);
        println!("{name}: {slept} wake-ups, {disk} bytes to disks, {all} in all, in {seconds} s");
        assert_eq!(disk, 0, "the {name} wrote to a disk");
        assert_eq!(all, 0, "the {name} wrote to something that is no socket");
        // At most one a second, in the long run: three for each ping of an agent, of which there
        // are three in ten seconds. Some more are the kernel's, when others want the processor.
        assert!(slept <= seconds + 5, "the {name} woke up {slept} times in {seconds} s");
    }
    assert_eq!(after[2].0, before[2].0, "a keeper of nothing sleeps");
    agent.leave();
    master.stop();
    world.nothing_is_left();
}
