//! Nodes draw themselves other keys while they run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::certificates::Authority;
use crate::secure_joins::{agent, listed, master, token};
use crate::world::{Agent, Signal, World, eventually};

const RENEWED: &str = "the masters know this node by another key from now on";

/// Waits until an agent has been registered so often since its start.
fn registered(agent: &Agent<'_>, times: usize) {
    let said = || agent.process().err();
    eventually(|| said().matches("registered with the master at").count() >= times, said);
}

fn secret(agent: &Agent<'_>, name: &str) -> std::path::PathBuf {
    agent.work_dir().join("meta").join(name)
}

/// Puts a secret there that nobody else reads.
fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn an_agent_changes_its_key_under_its_tasks_and_the_one_before_is_refused() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let (mut master, _) = master(&world, &authority);
    let text = token(&master, &world, &[]);
    let mut agent = agent(&world, &master, &["--join", &text]);
    agent.start();
    registered(&agent, 1);
    let gate = world.path("gate");
    let line = format!("echo up; until [ -e {} ]; do sleep 0.05; done; exit 7", gate.display());
    let run = master.run(&["--command", &line]);
    run.prints("up\n");
    let before = fs::read(secret(&agent, "secret")).unwrap();
    let copy = world.path("copy");
    copy_meta(&agent, &copy);
    agent.process().signal(Signal::HUP);
    agent.process().says(RENEWED);
    registered(&agent, 2);
    assert_ne!(fs::read(secret(&agent, "secret")).unwrap(), before);
    assert!(!secret(&agent, "secret.next").exists());
    // It is the same node.
    assert_eq!(listed(&master, &world, "node").len(), 1);
    let noted = world.told(&["audit", "--json", "--master", &master.address()]).out;
    assert!(noted.contains("change key"), "{noted}");
    // Once more, from its own new one; and by nobody else's word.
    let said =
        world.told(&["store", "rm", "0000", "--owner", ":proofs", "--master", &master.address()]);
    assert!(said.status != 0 && said.err.contains("SIGHUP"), "{}", said.err);
    agent.kill();
    agent.start();
    registered(&agent, 1);
    agent.process().signal(Signal::HUP);
    agent.process().says(RENEWED);
    registered(&agent, 2);
    fs::write(gate, "").unwrap();
    assert_eq!(run.end().status, 7);
    // The masters have the next one, and the agent died before it heard of that.
    let now = fs::read(secret(&agent, "secret")).unwrap();
    agent.kill();
    fs::rename(secret(&agent, "secret"), secret(&agent, "secret.next")).unwrap();
    put(&secret(&agent, "secret"), &before);
    fs::remove_file(secret(&agent, "renewed")).unwrap();
    agent.start();
    agent.process().says(RENEWED);
    registered(&agent, 1);
    assert_eq!(fs::read(secret(&agent, "secret")).unwrap(), now);
    // They have not: it is asked for again.
    agent.kill();
    put(&secret(&agent, "secret.next"), &[9; 32]);
    agent.start();
    agent.process().says(RENEWED);
    registered(&agent, 2);
    assert_eq!(fs::read(secret(&agent, "secret")).unwrap(), [9; 32]);
    agent.leave();
    // Who has what was there before is not that node, also after the leader was there anew. While a task of the
    // node runs, no copy of it starts on its machine at all.
    let at = format!("https://{}", master.address());
    let port = world.port().to_string();
    let ghost = ["agent", "--master", &at, "--port", &port, "--work-dir"];
    for _ in 0..2 {
        let mut command = world.mesita(&ghost);
        command.arg(&copy).arg("--isolation=posix/rlimits");
        let ghost = world.start(command);
        ghost.says("proves who it is by another key by now");
        assert!(!ghost.err().contains("registered with"), "{}", ghost.err());
        ghost.kill();
        master.kill();
        master.start();
    }
    master.stop();
    world.nothing_is_left();
}

/// What a thief of the disk would have.
fn copy_meta(agent: &Agent<'_>, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let meta = to.join("meta");
    fs::create_dir(&meta).unwrap();
    fs::set_permissions(&meta, PermissionsExt::from_mode(0o700)).unwrap();
    for name in ["key", "secret", "joined"] {
        fs::copy(secret(agent, name), meta.join(name)).unwrap();
    }
}

#[test]
fn who_has_not_joined_has_no_key_to_change() {
    let world = World::new();
    let master = world.master(&[]);
    let mut agent = Agent::new(&world, &master.address(), &[]);
    agent.start();
    registered(&agent, 1);
    agent.process().signal(Signal::HUP);
    agent.process().says("has no key to change");
    agent.leave();
    master.stop();
    world.nothing_is_left();
}
