//! Terminals of tasks, of tasks of groups, and of what is started inside of them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::groups::{executor, launch_group};
use crate::inner::Host;
use crate::reads::operate_at;
use crate::scheduler_api::task;
use crate::sessions::{input, io, types};
use crate::world::{World, eventually, needs_root};

/// Tells how large its terminal is, and again after each line that it reads.
const TALKS: &str = "test -t 0 && test -t 1 && test -t 2 && stty size; \
                     while read line; do test \"$line\" = end && exit 6; echo said $line; stty size; done";

fn terminal() -> Value {
    json!({"type": "MESOS", "tty_info": {"window_size": {"rows": 33, "columns": 77}}})
}

fn on_terminal(offer: &Value, name: &str) -> Value {
    let mut task = task(offer, name, TALKS);
    task["container"] = terminal();
    task
}

fn says(sandbox: &Path, wanted: &str) {
    let read = || std::fs::read_to_string(sandbox.join("stdout")).unwrap_or_default();
    eventually(|| read().contains(wanted), || format!("{wanted:?}, not {:?}", read()));
}

/// Types on a terminal, makes it another size, and sees what comes of both in the file.
fn talk(host: &Host<'_>, id: &Value, sandbox: &Path, word: &str, rows: u32) {
    let mut sending = input(host, id);
    let size = json!({"window_size": {"rows": rows, "columns": 88}});
    io(
        &mut sending,
        &json!({"type": "CONTROL", "control": {"type": "TTY_INFO", "tty_info": size}}),
    );
    types(&mut sending, &format!("{word}\n"));
    says(sandbox, &format!("said {word}\r\n{rows} 88\r\n"));
    assert_eq!(sending.end().status, 200);
}

/// A host with a task on a terminal beside it, its container, and where its files are.
fn beside<'w>(world: &'w World, operation: impl Fn(&Value) -> Value) -> (Host<'w>, Value, PathBuf) {
    let host = Host::with(world, |offer| vec![operation(offer)]);
    // Its statuses may have come while the other task's were waited for.
    let running = || {
        let tasks = operate_at(host.agent.port, "GET_TASKS")["launched_tasks"].clone();
        let mut tasks = tasks.as_array().cloned().unwrap_or_default().into_iter();
        let tty = tasks.find(|task| task["task_id"]["value"] == "tty")?;
        let status = tty["statuses"].as_array()?.last()?.clone();
        let id = status["container_status"]["container_id"].clone();
        (status["state"] == "TASK_RUNNING").then_some(id)
    };
    eventually(|| running().is_some(), || "the task on a terminal".to_owned());
    let id = running().unwrap();
    let all = host.agent.work_dir().join("sandboxes");
    let own = id["value"].as_str().unwrap();
    let around = id["parent"]["value"].as_str();
    let sandbox =
        around.map_or(all.join(own), |around| all.join(around).join("containers").join(own));
    (host, id, sandbox)
}

#[test]
fn a_task_has_a_terminal_that_outlives_its_agent() {
    let world = World::new();
    let (mut host, id, sandbox) = beside(
        &world,
        |offer| json!({"type": "LAUNCH", "launch": {"task_infos": [on_terminal(offer, "tty")]}}),
    );
    says(&sandbox, "33 77\r\n");
    talk(&host, &id, &sandbox, "one", 40);
    // Whoever attaches reads what comes.
    let address = host.master.address();
    let attached = world.start(world.mesita(&["attach", "--master", &address, "tty"]));
    let mut sending = input(&host, &id);
    let mut count = 0;
    eventually(
        || {
            count += 1;
            types(&mut sending, &format!("a{count}\n"));
            attached.out().contains("said a")
        },
        || attached.out(),
    );
    sending.end();
    host.agent.kill();
    host.agent.start();
    eventually(|| host.call("GET_CONTAINERS", &json!({})).status == 200, || "the agent".to_owned());
    talk(&host, &id, &sandbox, "two", 41);
    let mut sending = input(&host, &id);
    types(&mut sending, "end\n");
    let ended = host.framework.end_of("tty");
    assert_eq!(
        (&ended["state"], &ended["message"]),
        (&json!("TASK_FAILED"), &json!("Command exited with status 6"))
    );
    sending.end();
    assert_eq!(attached.end().status, 0);
    host.end(&world);
}

#[test]
fn a_task_of_a_group_has_a_terminal() {
    let world = World::new();
    let user = needs_root().then_some("nobody");
    let (mut host, id, sandbox) = beside(&world, |offer| {
        let mut tty = on_terminal(offer, "tty");
        tty["command"]["user"] = json!(user);
        launch_group(&executor("pod"), &[tty])
    });
    says(&sandbox, "33 77\r\n");
    talk(&host, &id, &sandbox, "one", 40);
    let mut sending = input(&host, &id);
    types(&mut sending, "end\n");
    assert_eq!(host.framework.end_of("tty")["state"], "TASK_FAILED");
    sending.end();
    // Who has none is not written to.
    let none = input(&host, &host.container).end();
    assert!(none.status == 400 && none.text().contains("has a terminal"), "{}", none.text());
    host.end(&world);
}

#[test]
fn a_container_inside_of_a_task_has_a_terminal_that_outlives_its_agent() {
    let world = World::new();
    let mut host = Host::new(&world);
    let id = host.inside("tty");
    let part = json!({"container_id": id, "command": {"value": TALKS}, "container": terminal()});
    let launched = host.call("LAUNCH_CONTAINER", &part);
    assert_eq!(launched.status, 200, "{}", launched.text());
    let sandbox = host.sandbox().join("containers/tty");
    says(&sandbox, "33 77\r\n");
    talk(&host, &id, &sandbox, "one", 40);
    host.agent.kill();
    host.agent.start();
    eventually(
        || host.call("GET_CONTAINERS", &json!({"show_nested": true})).text().contains("tty"),
        || "the agent".to_owned(),
    );
    talk(&host, &id, &sandbox, "two", 41);
    let mut sending = input(&host, &id);
    types(&mut sending, "end\n");
    let answer = host.call("WAIT_CONTAINER", &json!({ "container_id": id }));
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(told["wait_container"]["exit_status"], 6 << 8, "{told}");
    sending.end();
    host.end(&world);
}
