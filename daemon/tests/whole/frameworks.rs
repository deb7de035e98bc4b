//! A framework in Rust: the example, killed in the middle and started anew.

use std::path::PathBuf;
use std::process::Command;

use crate::world::{World, eventually};

/// The example beside this test, which is built with it.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().unwrap().with_file_name("examples").join("framework");
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
        let mut command: Command = world.command_in(&["env"], &example().display().to_string());
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
