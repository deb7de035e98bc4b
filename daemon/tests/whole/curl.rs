//! A framework's life by plain `curl`, as it is written down beside the script.

use std::path::PathBuf;
use std::process::Command;

use crate::world::World;

/// True when there is a `curl`; says that the test is skipped otherwise.
fn has_curl() -> bool {
    if Command::new("curl").arg("--version").output().is_ok() {
        return true;
    }
    println!("SKIPPED: curl is not installed; ci/clients installs it");
    assert!(std::env::var_os("CI").is_none(), "CI skips nothing");
    false
}

#[test]
fn a_session_by_curl_is_answered_as_it_is_written() {
    if !has_curl() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let resources = "--resources=cpus:4;mem:1024;disk:1000;ports:[31000-31099]";
    let agent = master.agent(&["--hostname=here", resources]);
    let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/curl");
    let mut command = world.command_in(&["sh"], scripts.join("session.sh").to_str().unwrap());
    command.arg(master.address());
    let said = world.start(command).end();
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    let expected = std::fs::read_to_string(scripts.join("session.txt")).unwrap();
    let mut lines = said.out.lines();
    for (number, line) in expected.lines().enumerate() {
        assert_eq!(lines.next(), Some(line), "line {} of session.txt", number + 1);
    }
    assert_eq!(lines.next(), None);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}
