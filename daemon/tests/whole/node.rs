//! mesos-framework of Node, as it comes from its registry.

use std::path::PathBuf;
use std::process::Command;

use crate::pymesos::ends_with;
use crate::world::World;

/// Where `ci/clients` has put it; none, with the reason, when it has not.
fn modules() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let modules = root.join("target/clients-node/node_modules");
    let has_node = Command::new("node").arg("--version").output().is_ok();
    if has_node && modules.join("mesos-framework").exists() {
        return Some(modules);
    }
    println!("SKIPPED: mesos-framework is not installed; ci/clients installs it");
    assert!(std::env::var_os("CI").is_none(), "CI skips nothing");
    None
}

#[test]
fn a_scheduler_of_node_runs_its_tasks() {
    let Some(modules) = modules() else { return };
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/node/scheduler.js");
    // It writes a log below where it runs.
    let directory = world.path("node");
    std::fs::create_dir(&directory).unwrap();
    let mut command = Command::new("node");
    command.arg(script).args(["127.0.0.1", &master.port.to_string()]);
    command.env("NODE_PATH", modules).current_dir(directory);
    ends_with(world.start(command), "2 tasks finished");
    agent.leave();
    master.stop();
    world.nothing_is_left();
}
