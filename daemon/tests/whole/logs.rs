//! How much is kept of what tasks write.

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::scheduler_api::{Framework, end, task};
use crate::world::{World, eventually, get};

#[test]
fn of_what_a_task_writes_the_newest_part_is_kept() {
    let world = World::new();
    let master = world.master(&[]);
    let mut agent = master.agent(&["--resources", "cpus:2;mem:1024", "--task-log-max", "1MiB"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    // Six megabytes before it waits, and as much again after a restart of its agent.
    let lines = "seq -f %015.0f 1 400000";
    let script =
        format!("{lines}; while [ ! -e go ]; do sleep 0.1; done; {lines}; echo last; sleep 1000");
    framework.launch(&offer, &[task(&offer, "chatty", &script)]);
    while framework.status()["state"] != "TASK_RUNNING" {}
    let sandbox = world.sandboxes(&agent.work_dir().display().to_string()).remove(0);
    let file = sandbox.join("stdout");
    let of = || file.metadata().unwrap();
    let bounded = |len: u64| of().len() == len && of().blocks() * 512 < 2 << 20;
    eventually(
        || bounded(6_400_000),
        || format!("{} bytes in {} blocks", of().len(), of().blocks()),
    );
    agent.kill();
    agent.start();
    agent.process().says("registered");
    std::fs::write(sandbox.join("go"), "").unwrap();
    let shown = || format!("{} bytes in {} blocks", of().len(), of().blocks());
    eventually(|| bounded(12_800_005), shown);
    let said = world.told(&["logs", "--master", &master.address(), "chatty"]);
    assert!(said.out.len() < 2 << 20, "{} bytes", said.out.len());
    assert!(!said.out.contains('\0') && said.out.ends_with("000000000400000\nlast\n"));
    let metrics = get(agent.port, "/metrics");
    assert!(metrics.contains("mesita_agent_log_bytes_max 1048576"), "{metrics}");
    framework.accepted("TEARDOWN", &serde_json::Value::Null);
    end(&world, master, agent);
}

#[test]
fn what_a_task_writes_is_bounded_though_it_removes_its_file() {
    let world = World::new();
    let master = world.master(&[]);
    let mut agent = master.agent(&["--resources", "cpus:2;mem:1024", "--task-log-max", "1MiB"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let lines = "seq -f %015.0f 1 400000";
    let script =
        format!("rm stdout; {lines}; while [ ! -e go ]; do sleep 0.1; done; {lines}; sleep 1000");
    framework.launch(&offer, &[task(&offer, "hides", &script)]);
    while framework.status()["state"] != "TASK_RUNNING" {}
    let sandbox = world.sandboxes(&agent.work_dir().display().to_string()).remove(0);
    let stdout = sandbox.join("stdout").display().to_string() + " (deleted)";
    let hidden = || {
        let of = |pid: i32| std::path::PathBuf::from(format!("/proc/{pid}/fd/1"));
        let leads = |path: &std::path::PathBuf| {
            std::fs::read_link(path).is_ok_and(|to| to.as_os_str() == &*stdout)
        };
        let found = crate::world::pids().map(of).find(leads)?;
        std::fs::metadata(found).ok()
    };
    let bounded = |len: u64| {
        let holds = || hidden().is_some_and(|of| of.len() == len && of.blocks() < 4 << 10);
        eventually(holds, || format!("{:?}", hidden().map(|of| (of.len(), of.blocks()))));
    };
    bounded(6_400_000);
    // The next agent finds it as well.
    agent.kill();
    agent.start();
    agent.process().says("registered");
    std::fs::write(sandbox.join("go"), "").unwrap();
    bounded(12_800_000);
    framework.accepted("TEARDOWN", &serde_json::Value::Null);
    end(&world, master, agent);
}

#[test]
fn sandboxes_of_tasks_that_ended_make_room_on_a_disk_that_is_full() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--gc-disk-headroom=100%", "--disk-watch-interval=100ms"]);
    let run = master.run(&["--command", "echo hello"]).end();
    assert_eq!(run.status, 0, "{}", run.err);
    let work_dir = agent.work_dir().display().to_string();
    let left = || world.sandboxes(&work_dir);
    eventually(|| left().is_empty(), || format!("{:?}", left()));
    agent.leave();
    master.stop();
    world.nothing_is_left();
}
