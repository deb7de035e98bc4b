//! pymesos, as it comes from its registry: a scheduler and an executor that know nothing of us.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::credentials::{EVERYBODY, ROOT, credential, credentials};
use crate::masters::Set;
use crate::world::{Master, Process, World, eventually};

/// The Python that `ci/clients` has given pymesos; none, with the reason, when it has not.
fn python() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("target/clients/bin/python");
    let has = Command::new(&python).args(["-c", "import pymesos"]).output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    println!("SKIPPED: pymesos is not installed; ci/clients installs it");
    assert!(std::env::var_os("CI").is_none(), "CI skips nothing");
    None
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pymesos").join(name)
}

fn runs(arguments: &[&str], words: &str) {
    let Some(python) = python() else { return };
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--resources", "cpus:4;mem:2048"]);
    runs_on(&world, &master, &python, arguments, &[], words);
    // A framework goes with the last of its tasks.
    let gone = || master.rows(&["--frameworks"]).is_empty();
    eventually(gone, || format!("{:?}", master.rows(&["--frameworks"])));
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// Runs the scheduler, with more in its environment, to its end.
fn runs_on(
    world: &World,
    master: &Master<'_>,
    python: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
    words: &str,
) {
    let mut command = scheduler(python, &master.address(), arguments);
    command.envs(environment.iter().copied());
    ends_with(world.start(command), words);
}

/// The scheduler, of a master.
fn scheduler(python: &Path, master: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.arg(script("scheduler.py")).arg(master).args(arguments);
    command.env("PYTHON", python).env("EXECUTOR", script("executor.py"));
    command
}

/// Waits for a client's end, which is to be a good one that says something.
pub(crate) fn ends_with(process: Process, words: &str) {
    let said = process.end();
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains(words), "{}{}", said.out, said.err);
}

#[test]
fn a_hundred_commands_run() {
    runs(&["commands", "100"], "100 tasks finished");
}

#[test]
fn tasks_run_under_an_executor_of_their_own_with_messages_both_ways() {
    runs(&["executor", "100"], "99 tasks finished, 1 killed, messages both ways");
}

#[test]
fn a_group_runs_under_the_default_executor() {
    runs(&["group", "12"], "12 tasks finished");
}

#[test]
fn a_scheduler_that_fails_over_finds_its_tasks_again() {
    runs(&["failover", "4"], "4 tasks reconciled after failover");
}

#[test]
fn nothing_is_offered_while_offers_are_suppressed() {
    runs(&["revive", "10"], "10 tasks finished");
}

/// Runs another script of pymesos on an agent with a disk.
fn runs_script(name: &str, words: &str) {
    let Some(python) = python() else { return };
    let world = World::new();
    let master = world.master(&[]);
    let flags = ["--hostname", "here", "--resources", "cpus:4;mem:1024;disk:1000"];
    let agent = master.agent(&flags);
    let said = master.run(&["--", "echo", "here"]).end();
    assert_eq!((said.status, said.out.as_str()), (0, "here\n"), "{}", said.err);
    let mut command = Command::new(python);
    command.arg(script(name)).arg(master.address()).arg(format!("127.0.0.1:{}", agent.port));
    ends_with(world.start(command), words);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_framework_makes_a_volume_uses_it_and_gives_it_back() {
    runs_script("volumes.py", "finished: create destroy reserve unreserve");
}

#[test]
fn operators_ask_and_change_masters_and_agents() {
    runs_script("operators.py", "operator calls answered");
}

#[test]
fn a_scheduler_finds_the_next_leader_of_three_and_its_tasks() {
    let Some(python) = python() else { return };
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let leader = set.leader();
    let agent = set.agent();
    // It is given one that does not lead, and follows its redirect.
    let mut command = scheduler(&python, &set.address((leader + 1) % 3), &["masters", "8"]);
    command.env("MASTERS", set.list());
    let process = world.start(command);
    process.prints("8 tasks run");
    set.kill(leader);
    ends_with(process, "8 tasks reconciled after failover");
    agent.leave();
    set.stop();
    world.nothing_is_left();
}

#[test]
fn it_shows_its_principal_and_secret_where_they_are_asked_for() {
    let Some(python) = python() else { return };
    let world = World::new();
    let credentials = credentials(&world);
    let master = world.master(&[&[&*credentials, ROOT], &EVERYBODY[..]].concat());
    let (_, pis) = credential(&world, "pis");
    let agent = master.agent(&[&format!("--credential={pis}")]);
    let (known, _) = credential(&world, "web");
    let secret = known["secret"].as_str().unwrap();
    let shown = [("PRINCIPAL", "web"), ("SECRET", secret)];
    runs_on(&world, &master, &python, &["commands", "8"], &shown, "8 tasks finished");
    runs_on(&world, &master, &python, &["executor", "4"], &shown, "messages both ways");
    runs_on(&world, &master, &python, &["failover", "2"], &shown, "2 tasks reconciled");
    agent.leave();
    master.stop();
    world.nothing_is_left();
}
