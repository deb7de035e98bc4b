//! Frameworks and executors in Rust: the examples, with what they run on killed in the middle.

use std::path::PathBuf;
use std::process::Command;

use crate::world::{Master, Process, World, eventually};

/// An example beside this test, which is built with it.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().unwrap().with_file_name("examples").join(name);
    assert!(example.exists(), "{}: build it with `cargo build --examples`", example.display());
    example
}

#[test]
fn a_framework_in_rust_takes_its_tasks_up_again() {
    let world = World::new();
    let master = world.master(&["--min-failover-timeout=20s"]);
    let agent = master.agent(&["--resources=cpus:1;mem:256"]);
    let (state, gate) = (world.path("state"), world.path("gate"));
    let line = format!("until [ -e {} ]; do sleep 0.05; done", gate.display());
    let start = || {
        let mut command: Command =
            world.command_in(&["env"], &example("framework").display().to_string());
        command.args([&master.address(), &state.display().to_string(), "3", &line]);
        world.start(command)
    };
    let first = start();
    let running = |text: &str| text.matches(" Running ").count();
    eventually(|| running(&first.out()) == 3, || format!("three tasks: {}", first.out()));
    let id = first.out().lines().next().unwrap().to_owned();
    first.kill();
    let second = start();
    // It is the same framework, and hears of its tasks without launching any again.
    second.prints(&id);
    eventually(|| running(&second.out()) >= 3, || format!("three tasks: {}", second.out()));
    assert_eq!(master.rows(&[]).len(), 3, "{:?}", master.rows(&[]));
    std::fs::write(&gate, "").unwrap();
    let said = second.end();
    assert_eq!((said.status, said.out.matches(" Finished ").count()), (0, 3), "{}", said.out);
    assert!(!state.exists(), "it keeps its state when nothing is left to take up");
    // What is wrong with a description is said before anybody is asked.
    std::fs::write(&state, "no-id 1").unwrap();
    let said = start().end();
    assert!(said.status == 1 && said.err.contains("not the id of a framework"), "{}", said.err);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// Runs the example that has an executor of its own.
fn with_executor(world: &World, master: &Master<'_>, tasks: &str, line: &str) -> Process {
    let mut command: Command =
        world.command_in(&["env"], &example("executor").display().to_string());
    command.args([&master.address(), tasks, line]);
    world.start(command)
}

fn count(text: &str, word: &str) -> usize {
    text.matches(word).count()
}

#[test]
fn tasks_run_under_an_executor_in_rust_whose_agent_was_killed_and_came_back() {
    let world = World::new();
    let master = world.master(&[]);
    let mut agent = master.agent(&["--resources=cpus:1;mem:256"]);
    let gate = world.path("gate");
    let line = format!("until [ -e {} ]; do sleep 0.05; done; exit 3", gate.display());
    let framework = with_executor(&world, &master, "3", &line);
    eventually(
        || count(&framework.out(), "heard: task-") == 3,
        || format!("messages both ways: {}{}", framework.out(), framework.err()),
    );
    assert_eq!(count(&framework.out(), " Running "), 3, "{}", framework.out());
    agent.kill();
    std::fs::write(&gate, "").unwrap();
    // The ends come while no agent is there to hear of them.
    std::thread::sleep(std::time::Duration::from_millis(500));
    agent.start();
    let said = framework.end();
    assert_eq!((said.status, count(&said.out, " Failed exit status: 3")), (0, 3), "{}", said.out);
    let work_dir = agent.work_dir().display().to_string();
    let err = std::fs::read_to_string(world.sandboxes(&work_dir)[0].join("stderr")).unwrap();
    assert!(err.contains("trying again"), "{err}");
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn an_executor_in_rust_that_nobody_wants_any_more_ends_its_tasks() {
    let world = World::new();
    let master = world.master(&["--min-failover-timeout=1s"]);
    let agent = master.agent(&["--resources=cpus:1;mem:256"]);
    let framework = with_executor(&world, &master, "2", "exec sleep 1000");
    let running = || count(&framework.out(), " Running ") == 2;
    eventually(running, || format!("{}{}", framework.out(), framework.err()));
    framework.kill();
    eventually(
        || !world.processes().iter().any(|(_, name)| name.contains("sleep")),
        || format!("{:?}", world.processes()),
    );
    agent.leave();
    master.stop();
    world.nothing_is_left();
    // By itself it says what it misses.
    let said = Command::new(example("executor")).env("MESOS_EXECUTOR_ID", "e").output().unwrap();
    let err = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && err.contains("MESOS_AGENT_ENDPOINT is not set"), "{err}");
}
