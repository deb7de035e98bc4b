//! `kill -9` of every process that there is, what comes of it, and that nothing is left.

use std::process::Command;
use std::time::Duration;

use crate::world::{
    Agent, Master, NOBODY, Process, Signal, World, eventually, lives, needs_root, parent, send,
};

/// Runs a task that waits for a gate, and gives its pid when it has begun.
pub(crate) fn gated(world: &World, master: &Master<'_>, name: &str, end: &str) -> (Process, i32) {
    let gate = world.path(&format!("gate-{name}"));
    let line = format!("echo pid $$; until [ -e {} ]; do sleep 0.05; done; {end}", gate.display());
    let run = master.run(&["--name", name, "--command", &line]);
    run.prints("pid ");
    let pid = task_pid(world, &gate.display().to_string());
    (run, pid)
}

pub(crate) fn open_gate(world: &World, name: &str) {
    std::fs::write(world.path(&format!("gate-{name}")), "").unwrap();
}

/// The shell of a task, found by what it was called with.
fn task_pid(world: &World, word: &str) -> i32 {
    let all = world.processes();
    let is = |called: &String| called.starts_with("sh: ") && called.contains(word);
    let found: Vec<i32> =
        all.iter().filter(|(_, called)| is(called)).map(|(pid, _)| *pid).collect();
    // A shell that is about to become another program is called like its parent.
    let first = found.iter().find(|pid| !parent(**pid).is_some_and(|of| found.contains(&of)));
    *first.unwrap_or_else(|| panic!("no {word} in {all:?}"))
}

fn cluster(world: &World) -> (Master<'_>, Agent<'_>) {
    let master = world.master(&["--min-failover-timeout=2s", "--agent-timeout=3s"]);
    let agent = master.agent(&[]);
    (master, agent)
}

#[test]
fn tasks_outlive_an_agent_that_was_killed_and_their_true_ends_are_told() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let (on, pid_on) = gated(&world, &master, "on", "echo on over; exit 7");
    let (meanwhile, _) = gated(&world, &master, "meanwhile", "echo meanwhile over; exit 8");
    let keeper = world.process("mesita-keeper");
    agent.kill();
    open_gate(&world, "meanwhile");
    // It ends while nobody but the keeper is there to see how.
    eventually(
        || world.path("gate-meanwhile").exists() && !has_task(&world, "gate-meanwhile"),
        || format!("the end of a task: {:?}", world.processes()),
    );
    assert!(lives(pid_on), "a task died with its agent");
    agent.start();
    agent.process().says("registered with the master");
    assert_eq!(world.process("mesita-keeper"), keeper, "it uses the keeper that was there");
    let said = meanwhile.end();
    assert_eq!(said.status, 8, "{}", said.err);
    assert!(said.out.ends_with("meanwhile over\n"), "{}", said.out);
    assert!(lives(pid_on), "a task died when its agent came back");
    open_gate(&world, "on");
    let said = on.end();
    assert_eq!(said.status, 7, "{}", said.err);
    assert!(said.out.ends_with("on over\n"), "{}", said.out);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

fn has_task(world: &World, word: &str) -> bool {
    let is = |called: &str| called.starts_with("sh: ") && called.contains(word);
    world.processes().iter().any(|(_, called)| is(called))
}

#[test]
fn an_agent_that_is_terminated_leaves_its_tasks_running() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let (run, pid) = gated(&world, &master, "t", "exit 5");
    agent.terminate();
    assert!(lives(pid));
    agent.start();
    agent.process().says("registered with the master");
    open_gate(&world, "t");
    assert_eq!(run.end().status, 5);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn an_agent_that_leaves_ends_its_tasks_and_its_keeper() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let (run, _) = gated(&world, &master, "t", "exit 5");
    agent.leave();
    let said = run.end();
    assert_eq!(said.status, 143, "{}", said.err);
    assert!(said.err.contains("TASK_KILLED t "), "{}", said.err);
    assert_eq!(master.rows(&["--agents"]), Vec::<serde_json::Value>::new());
    master.stop();
    world.nothing_is_left();
}

#[test]
fn tasks_of_a_keeper_that_was_killed_are_lost_and_a_new_keeper_comes() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let (run, pid) = gated(&world, &master, "t", "exit 5");
    let keeper = world.process("mesita-keeper");
    send(keeper, Signal::KILL);
    let said = run.end();
    assert_eq!(said.status, 1, "{}", said.err);
    // Mesos' finer word for a loss that is certain; TASK_LOST is for frameworks that do not know it.
    let lost =
        |line: &str| line.starts_with("TASK_GONE t ") && line.contains("(REASON_AGENT_RESTARTED)");
    assert!(said.err.lines().any(lost), "{}", said.err);
    assert!(!lives(pid), "a task outlived its keeper");
    let new = world.process("mesita-keeper");
    assert_ne!(new, keeper);
    // The agent is itself again.
    assert_eq!(master.run(&["--", "true"]).end().status, 0);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn an_agent_whose_binary_was_removed_meanwhile_begins_again_all_the_same() {
    let world = World::new();
    let master = world.master(&[]);
    let told = Agent::new(&world, &master.address(), &[]).command();
    let binary = world.binary();
    let mut command = Command::new(&binary);
    command.args(told.get_args());
    for (name, value) in told.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let agent = world.start(command);
    agent.says("registered with the master");
    std::fs::remove_file(binary).unwrap();
    send(world.process("mesita-keeper"), Signal::KILL);
    agent.says("starting again, with a new keeper");
    assert_eq!(master.run(&["--", "true"]).end().status, 0, "{}", agent.err());
    agent.signal(Signal::USR1);
    assert_eq!(agent.end().status, 0);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_task_that_is_killed_from_outside_has_failed_by_its_signal() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let (run, pid) = gated(&world, &master, "t", "exit 5");
    send(pid, Signal::KILL);
    let said = run.end();
    assert_eq!(said.status, 137, "{}", said.err);
    let failed = |line: &str| line.starts_with("TASK_FAILED t ") && line.contains("signal Killed");
    assert!(said.err.lines().any(failed), "{}", said.err);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn tasks_outlive_a_master_that_was_killed_and_everybody_registers_again() {
    let world = World::new();
    let (mut master, agent) = cluster(&world);
    let other = master.agent(&["--hostname=other"]);
    let (run, pid) = gated(&world, &master, "t", "echo over; exit 5");
    let before = master.rows(&["--agents"]);
    master.kill();
    assert!(lives(pid));
    master.start();
    eventually(
        || active(&master) == 2,
        || format!("both agents: {:?}", master.rows(&["--agents"])),
    );
    assert!(lives(pid), "a task died with the master");
    let ids = |rows: &[serde_json::Value]| {
        let mut ids: Vec<String> = rows.iter().map(|row| row["id"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&before), ids(&master.rows(&["--agents"])), "agents keep their ids");
    master.sees("t", "TASK_RUNNING");
    open_gate(&world, "t");
    let said = run.end();
    assert_eq!(said.status, 5, "{}", said.err);
    assert!(said.out.ends_with("over\n"), "{}", said.out);
    assert_eq!(master.run(&["--", "true"]).end().status, 0);
    agent.leave();
    other.leave();
    master.stop();
    world.nothing_is_left();
}

fn active(master: &Master<'_>) -> usize {
    master.rows(&["--agents"]).iter().filter(|row| row["state"] == "active").count()
}

#[test]
fn a_master_that_stops_in_peace_leaves_tasks_running_too() {
    let world = World::new();
    let (mut master, agent) = cluster(&world);
    let (run, pid) = gated(&world, &master, "t", "exit 5");
    let process = master.process.take().unwrap();
    process.signal(Signal::TERM);
    assert_eq!(process.end().status, 0);
    assert!(lives(pid));
    master.start();
    eventually(|| active(&master) == 1, || format!("{:?}", master.rows(&["--agents"])));
    open_gate(&world, "t");
    assert_eq!(run.end().status, 5);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn the_task_of_a_run_that_was_killed_ends_after_the_failover_timeout_and_not_before() {
    let world = World::new();
    let master = world.master(&["--min-failover-timeout=4s"]);
    let agent = master.agent(&[]);
    let (run, pid) = gated(&world, &master, "t", "exit 5");
    let killed = std::time::Instant::now();
    run.kill();
    std::thread::sleep(Duration::from_secs(2));
    // On a machine too busy to look in time, there is nothing to be seen.
    let early = killed.elapsed() < Duration::from_secs(4);
    assert!(lives(pid) || !early, "the task died with its framework");
    eventually(|| !lives(pid), || "the end of a task without a framework".to_owned());
    eventually(
        || master.rows(&["--frameworks"]).is_empty() && master.rows(&[]).is_empty(),
        || format!("nothing: {:?}", master.rows(&["--frameworks"])),
    );
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn an_embedded_cluster_that_was_killed_is_gone_within_five_seconds() {
    let world = World::new();
    let line = "trap '' TERM; setsid sleep 1000 & echo here; while true; do sleep 0.1; done";
    let run = world.run_alone(&["--command", line]);
    run.prints("here\n");
    run.kill();
    // The promise is 5 s; a machine with other things to do is given more.
    world.nothing_is_left();
}

#[test]
fn a_cluster_to_develop_against_ends_whole() {
    let world = World::new();
    for signal in [Signal::INT, Signal::KILL] {
        let port = world.port().to_string();
        let root = format!("--cgroups-root={}", world.name());
        let dev = world.start(world.mesita(&["dev", "--agents", "2", "--port", &port, &root]));
        dev.says("cluster at 127.0.0.1:");
        let (mark, address) = (world.marked(), format!("127.0.0.1:{port}"));
        let line = "trap '' TERM; echo here; while true; do sleep 0.1; done";
        let flags = ["run", &mark, "--master", &address, "--command", line];
        let run = world.start(world.mesita(&flags));
        run.prints("here\n");
        dev.signal(signal);
        let status = dev.end().status;
        assert_eq!(status, if signal == Signal::INT { 0 } else { 137 });
        run.kill();
        world.nothing_is_left();
    }
}

#[test]
fn an_agent_without_a_master_tries_again_until_there_is_one() {
    let world = World::new();
    let port = world.port();
    let mut agent = Agent::new(&world, &format!("127.0.0.1:{port}"), &[]);
    agent.start();
    agent.process().says("trying again");
    let (port, work_dir) = (port.to_string(), world.path("late"));
    let mut command = world.mesita(&["master", "--port", &port, "--work-dir"]);
    command.arg(work_dir);
    let master = world.start(command);
    agent.process().says("registered with the master");
    assert_eq!(agent.process().err().matches("trying again").count(), 1, "the same is told once");
    agent.leave();
    master.signal(Signal::TERM);
    master.end();
    world.nothing_is_left();
}

#[test]
fn an_embedded_cluster_whose_keeper_was_killed_ends_and_leaves_nothing() {
    let world = World::new();
    let run = world.run_alone(&["--command", "echo here; while true; do sleep 0.1; done"]);
    run.prints("here\n");
    send(world.process("mesita-keeper"), Signal::KILL);
    let said = run.end();
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("the keeper of this cluster died"), "{}", said.err);
    world.nothing_is_left();
}

#[test]
fn an_embedded_cluster_of_an_ordinary_user_that_was_killed_is_gone_too() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let user = NOBODY.to_string();
    let wrapper = ["unshare", "--net", "--", "setpriv", "--reuid", &user, "--regid", &user];
    let wrapper = [&wrapper[..], &["--clear-groups", "--no-new-privs"]].concat();
    let mark = world.marked();
    let line = "trap '' TERM; sleep 1000 & echo here; while true; do sleep 0.1; done";
    let run = world.start(world.wrapped(&wrapper, &["run", &mark, "--command", line]));
    run.prints("here\n");
    run.kill();
    world.nothing_is_left();
}

#[test]
fn an_agent_that_was_silent_is_unreachable_and_its_task_is_found_again() {
    let world = World::new();
    let master = world.master(&["--agent-timeout=1s", "--timing=fast"]);
    let agent = master.agent(&[]);
    let (run, pid) = gated(&world, &master, "t", "exit 5");
    agent.process().signal(Signal::STOP);
    run.says("TASK_UNREACHABLE t ");
    assert!(lives(pid));
    let rows = master.rows(&["--agents"]);
    assert_eq!(rows[0]["state"], "unreachable", "{rows:?}");
    let told = |name: &str| {
        let state = crate::http::ask(master.port, "GET", "/state", &[], b"").text();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        state["frameworks"][0][name].clone()
    };
    let unreachable = || told("unreachable_tasks")[0]["state"] == "TASK_UNREACHABLE";
    eventually(unreachable, || told("unreachable_tasks").to_string());
    assert_eq!(told("completed_tasks"), serde_json::json!([]));
    agent.process().signal(Signal::CONT);
    eventually(|| active(&master) == 1, || format!("{:?}", master.rows(&["--agents"])));
    let running = || run.err().matches("TASK_RUNNING t ").count() == 2;
    eventually(running, || format!("the task again: {}", run.err()));
    assert_eq!(told("unreachable_tasks"), serde_json::json!([]));
    open_gate(&world, "t");
    let said = run.end();
    assert_eq!(said.status, 5, "{}", said.err);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_run() {
    let world = World::new();
    for mut command in [
        world.alone(&["run", &world.marked(), "--", "sh", "-c", "ulimit -f 65536; exec yes"]),
        world.alone(&["run", &world.marked(), "--", "sh", "-c", "echo once; exec sleep 1000"]),
    ] {
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        drop(reader);
        if line == "once\n" {
            // Nothing is written that nobody reads.
            child.kill().unwrap();
        }
        eventually(|| child.try_wait().unwrap().is_some(), || "the end of the run".to_owned());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), if line == "y\n" { Some(141) } else { None });
        world.nothing_is_left();
    }
}

#[test]
fn what_is_told_to_nobody_ends_nothing() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let (mark, address) = (world.marked(), master.address());
    for more in [&["--"][..], &["--json", "--"], &["--detach", "--"]] {
        let flags = ["run", &mark, "--master", &address];
        let mut command = world.mesita(&[&flags[..], more, &["true"]].concat());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        eventually(|| child.try_wait().unwrap().is_some(), || format!("the end of {more:?}"));
        assert_eq!(child.wait().unwrap().code(), Some(0), "{more:?}");
    }
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_run_without_a_master_can_be_interrupted_and_its_task_ends_later() {
    let world = World::new();
    let (mut master, agent) = cluster(&world);
    let (run, pid) = gated(&world, &master, "t", "exit 5");
    master.kill();
    run.says("the tasks go on, trying again");
    run.signal(Signal::INT);
    let said = run.end();
    assert_eq!(said.status, 130, "{}", said.err);
    assert!(said.err.contains("there is no connection to the master"), "{}", said.err);
    assert!(lives(pid));
    // A master that hears of a framework by its tasks alone waits for it as long as for others.
    master.start();
    eventually(|| !lives(pid), || "the end of a task without a framework".to_owned());
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_detached_task_outlives_the_silence_of_its_agent() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let gate = world.path("gate-detached");
    let line = format!("until [ -e {} ]; do sleep 0.1; done; echo survived", gate.display());
    let flags = ["--detach", "--name", "detached", "--command", &line];
    assert_eq!(master.run(&flags).end().status, 0);
    master.sees("detached", "TASK_RUNNING");
    agent.process().signal(Signal::STOP);
    let state = || master.rows(&["--agents"])[0]["state"].clone();
    eventually(|| state() == "unreachable", || format!("the agent is {}", state()));
    agent.process().signal(Signal::CONT);
    master.sees("detached", "TASK_RUNNING");
    open_gate(&world, "detached");
    master.sees("detached", "TASK_FINISHED");
    // And with its end the framework goes, for nobody is left to come back.
    eventually(|| master.rows(&["--frameworks"]).is_empty(), || "a framework is left".to_owned());
    agent.leave();
    master.stop();
    world.nothing_is_left();
}
