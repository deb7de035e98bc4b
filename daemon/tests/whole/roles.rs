//! Roles with weights share what two agents have.

use std::collections::BTreeMap;
use std::path::Path;

use crate::world::{Process, World, eventually};

#[test]
fn two_roles_share_two_agents_by_their_weights() {
    let world = World::new();
    let master = world.master(&["--weights=a=2,b=1"]);
    let agents = ["n1", "n2"]
        .map(|name| master.agent(&[&format!("--hostname={name}"), "--resources=cpus:3;mem:300"]));
    // Each takes one task at a time of what is offered to it, and wants more than there is: what
    // ends goes to whoever has less of what is theirs.
    let until = |gate: &Path| format!("until [ -e {} ]; do sleep 0.1; done", gate.display());
    let (full, gate) = (world.path("full"), world.path("gate"));
    let line = until(&gate);
    let run = |role: &str| -> Vec<Process> {
        let one = |number: u32| {
            let name = format!("{role}{number}");
            let flags = ["--role", role, "--resources", "cpus:1;mem:10", "--name", &name];
            master.run(&[&flags[..], &["--command", &line]].concat())
        };
        (0..8).map(one).collect()
    };
    let fill = ["--resources", "cpus:3;mem:300", "--instances", "2", "--command"];
    let fill = master.run(&[&fill[..], &[&until(&full)]].concat());
    fill.says("TASK_RUNNING");
    let runs = [run("a"), run("b")];
    // Nothing is free before everybody is there to want it.
    let there = || master.rows(&["--frameworks"]).len();
    eventually(|| there() == 17, || format!("17 frameworks, not {}", there()));
    std::fs::write(&full, "").unwrap();
    assert_eq!(fill.end().status, 0);
    let counts = || {
        let mut counts = BTreeMap::new();
        for row in master.rows(&[]) {
            if row["state"] == "TASK_RUNNING" {
                *counts.entry(row["role"].as_str().unwrap().to_owned()).or_insert(0) += 1;
            }
        }
        counts
    };
    let shared = BTreeMap::from([("a".to_owned(), 4), ("b".to_owned(), 2)]);
    eventually(|| counts() == shared, || format!("4 to 2, not {:?}", counts()));
    let hosts: Vec<String> =
        master.rows(&[]).iter().map(|row| row["agent"].as_str().unwrap().to_owned()).collect();
    assert_eq!(hosts.iter().filter(|host| *host == "n1").count(), 3, "{hosts:?}");
    std::fs::write(&gate, "").unwrap();
    for run in runs.into_iter().flatten() {
        let said = run.end();
        assert_eq!(said.status, 0, "{}", said.err);
    }
    agents.into_iter().for_each(|agent| agent.leave());
    master.stop();
    world.nothing_is_left();
}
