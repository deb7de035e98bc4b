//! Checks and health checks of tasks that the agent runs.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::http::post;
use crate::reads::read_at;
use crate::scheduler_api::{Framework, cluster, end, task};
use crate::world::{World, eventually, needs_root};

/// Looks at once, again and again.
fn rhythm(check: &mut Value) {
    let at_once = json!({"delay_seconds": 0, "interval_seconds": 0.1, "timeout_seconds": 5});
    check.as_object_mut().unwrap().extend(at_once.as_object().unwrap().clone());
}

fn checked(offer: &Value, name: &str, command: &str, mut check: Value) -> Value {
    rhythm(&mut check);
    let mut task = task(offer, name, command);
    task["check"] = check;
    task
}

fn watched(offer: &Value, name: &str, command: &str, mut health: Value) -> Value {
    rhythm(&mut health);
    let mut task = task(offer, name, command);
    task["health_check"] = health;
    task
}

/// The first status of which this holds; every one before is acknowledged.
fn until(framework: &mut Framework, holds: impl Fn(&Value) -> bool) -> Value {
    loop {
        let status = framework.status();
        if holds(&status) {
            return status;
        }
    }
}

#[test]
fn a_command_looks_at_its_task_from_inside() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    // It finds the task's own files, and the task's own names.
    let look = "test -n \"$MESOS_TASK_ID\" && exit $(cat state)";
    let check = json!({"type": "COMMAND", "command": {"command": {"value": look}}});
    let own =
        checked(&offer, "checked", "echo 3 > state; sleep 1; echo 4 > state; sleep 1000", check);
    framework.launch(&offer, &[own]);
    for state in ["TASK_STARTING", "TASK_RUNNING"] {
        let told = until(&mut framework, |status| status["state"] == state);
        assert_eq!(told["check_status"], json!({"type": "COMMAND", "command": {}}), "{told}");
    }
    let code =
        |code: i32| move |status: &Value| status["check_status"]["command"]["exit_code"] == code;
    let three = until(&mut framework, code(3));
    assert_eq!(three["reason"], "REASON_TASK_CHECK_STATUS_UPDATED");
    assert_eq!((&three["state"], three.get("healthy")), (&json!("TASK_RUNNING"), None));
    until(&mut framework, code(4));
    framework.accepted("KILL", &json!({"task_id": {"value": "checked"}}));
    let killed = framework.end_of("checked");
    assert_eq!(killed["state"], "TASK_KILLED");
    assert_eq!(killed["check_status"]["command"]["exit_code"], 4);
    end(&world, master, agent);
}

/// A server that answers every request with the status in `answers`; none while that is 0.
fn server(answers: &Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = Arc::clone(answers);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let status = answers.load(Ordering::Relaxed);
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

#[test]
fn a_task_is_healthy_as_long_as_its_server_says_so_and_killed_when_it_does_not() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let answers = Arc::new(AtomicU16::new(204));
    let port = server(&answers);
    let health = json!({"type": "HTTP", "http": {"port": port, "path": "/is"},
        "grace_period_seconds": 0, "consecutive_failures": 2});
    framework.launch(&offer, &[watched(&offer, "watched", "sleep 1000", health)]);
    let healthy = until(&mut framework, |status| status["healthy"] == true);
    assert_eq!(healthy["reason"], "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED");
    answers.store(500, Ordering::Relaxed);
    let ill = until(&mut framework, |status| status["healthy"] == false);
    assert_eq!(ill["state"], "TASK_RUNNING");
    let killed = framework.end_of("watched");
    assert_eq!((&killed["state"], &killed["healthy"]), (&json!("TASK_KILLED"), &json!(false)));
    end(&world, master, agent);
}

#[test]
fn a_task_without_a_network_is_asked_in_the_one_that_it_has() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--isolation=all,network/none"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    // The machine's own answers, at the same port.
    let port = server(&Arc::new(AtomicU16::new(500)));
    let offer = framework.offer();
    let tcp = json!({"type": "TCP", "tcp": {"port": port}});
    framework.launch(&offer, &[checked(&offer, "alone", "sleep 1000", tcp)]);
    let of = |name: &'static str| move |status: &Value| status["task_id"]["value"] == name;
    let found = |status: &Value| !status["check_status"]["tcp"]["succeeded"].is_null();
    let told = until(&mut framework, |status| of("alone")(status) && found(status));
    assert_eq!(told["check_status"]["tcp"]["succeeded"], false, "{told}");
    let binary = world.binary().display().to_string();
    let line = format!("exec {binary} master --port {port} --work-dir $MESOS_SANDBOX/own");
    let health = json!({"type": "HTTP", "http": {"port": port, "path": "/health"},
        "grace_period_seconds": 60});
    let offer = framework.offer();
    framework.launch(&offer, &[watched(&offer, "serves", &line, health)]);
    until(&mut framework, |status| of("serves")(status) && status["healthy"] == true);
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn failures_within_the_grace_do_not_count_and_what_hangs_fails() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    // A port that nobody listens on.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tcp = |grace: u32| {
        json!({"type": "TCP", "tcp": {"port": closed}, "consecutive_failures": 1,
               "grace_period_seconds": grace})
    };
    let mut hangs = watched(
        &offer,
        "hangs",
        "sleep 1000",
        json!({"type": "COMMAND", "command": {"value": "sleep 500"}, "consecutive_failures": 1,
               "grace_period_seconds": 0}),
    );
    hangs["health_check"]["timeout_seconds"] = json!(0.3);
    let tasks = [
        watched(&offer, "spared", "sleep 2", tcp(1000)),
        watched(&offer, "killed", "sleep 1000", tcp(0)),
        hangs,
    ];
    framework.launch(&offer, &tasks);
    let mut states = std::collections::BTreeMap::new();
    while states.len() < 3 {
        let status = framework.status();
        if status["state"] != "TASK_RUNNING" && status["state"] != "TASK_STARTING" {
            let name = status["task_id"]["value"].as_str().unwrap().to_owned();
            states.insert(name, (status["state"].clone(), status["healthy"].clone()));
        }
    }
    assert_eq!(states["spared"], (json!("TASK_FINISHED"), Value::Null));
    assert_eq!(states["killed"], (json!("TASK_KILLED"), json!(false)));
    assert_eq!(states["hangs"], (json!("TASK_KILLED"), json!(false)));
    end(&world, master, agent);
}

#[test]
fn a_task_is_looked_after_by_the_next_agent() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let health = json!({"type": "COMMAND", "command": {"value": "test ! -e ill"},
        "grace_period_seconds": 0, "consecutive_failures": 1});
    let command = "while [ ! -e told ]; do sleep 0.1; done; touch ill; sleep 1000";
    framework.launch(&offer, &[watched(&offer, "watched", command, health)]);
    until(&mut framework, |status| status["healthy"] == true);
    agent.kill();
    agent.start();
    until(&mut framework, |status| status["healthy"] == true);
    let sandboxes = std::fs::read_dir(agent.work_dir().join("sandboxes")).unwrap();
    for sandbox in sandboxes.flatten() {
        std::fs::write(sandbox.path().join("told"), "").unwrap();
    }
    let killed = framework.end_of("watched");
    assert_eq!((&killed["state"], &killed["healthy"]), (&json!("TASK_KILLED"), &json!(false)));
    end(&world, master, agent);
}

/// As the checks of those do who ask at a port that the task was given.
#[test]
fn a_check_has_the_variables_of_its_task() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let variables = |pairs: &[(&str, &str)]| {
        let each = pairs.iter().map(|(name, value)| json!({"name": name, "value": value}));
        json!({"variables": each.collect::<Vec<Value>>()})
    };
    let command = json!({"value": "test $FOO-$BAR = task-check",
        "environment": variables(&[("BAR", "check")])});
    let mut task = watched(
        &offer,
        "told",
        "sleep 1000",
        json!({"type": "COMMAND",
        "command": command, "grace_period_seconds": 0, "consecutive_failures": 1}),
    );
    task["command"]["environment"] = variables(&[("FOO", "task"), ("BAR", "task")]);
    framework.launch(&offer, &[task]);
    until(&mut framework, |status| status["healthy"] == true);
    framework.accepted("KILL", &json!({"task_id": {"value": "told"}}));
    framework.end_of("told");
    end(&world, master, agent);
}

#[test]
fn a_server_that_speaks_tls_is_asked_whatever_it_shows() {
    let world = World::new();
    let [certificate, key] = Authority::new(&world, "own").files(&world, "elsewhere");
    let server = world.master(&["--tls-cert-file", &certificate, "--tls-key-file", &key]);
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let health = json!({"type": "HTTP", "grace_period_seconds": 0, "consecutive_failures": 1,
        "http": {"port": server.port, "path": "/health", "scheme": "https"}});
    framework.launch(&offer, &[watched(&offer, "told", "sleep 1000", health)]);
    until(&mut framework, |status| status["healthy"] == true);
    framework.accepted("KILL", &json!({"task_id": {"value": "told"}}));
    framework.end_of("told");
    server.stop();
    end(&world, master, agent);
}

/// The agent asks for its tasks, and nobody is to take that for its user's own word.
#[test]
fn no_check_operates_a_daemon() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let other = world.master(&[]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let path = "/logging/toggle?level=2&duration=30secs";
    for (name, port) in [("agents", agent.port), ("masters", master.port), ("others", other.port)] {
        let check = json!({"type": "HTTP", "http": {"port": port, "path": path}});
        let offer = framework.offer();
        framework.launch(&offer, &[checked(&offer, name, "sleep 2", check)]);
        let told = until(&mut framework, |status| {
            assert_ne!(status["check_status"]["http"]["status_code"], 200, "{status}");
            status["state"] == "TASK_FINISHED"
        });
        assert_eq!(told["task_id"]["value"], name);
    }
    for process in [master.process(), agent.process(), other.process()] {
        assert!(!process.err().contains("the level of logging"), "{}", process.err());
    }
    other.stop();
    end(&world, master, agent);
}

#[test]
fn a_check_that_makes_no_sense_is_refused_in_a_sentence() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let bad = checked(&offer, "bad", "true", json!({"type": "TCP"}));
    framework.launch(&offer, &[bad]);
    let status = framework.end_of("bad");
    assert_eq!(
        (&status["state"], &status["reason"]),
        (&json!("TASK_ERROR"), &json!("REASON_TASK_INVALID"))
    );
    let words = "Task uses invalid check: Expecting 'tcp' to be set for TCP check";
    assert_eq!(status["message"], words);
    eventually(|| master.rows(&[]).is_empty(), || "no task".to_owned());
    end(&world, master, agent);
}

#[test]
fn the_next_master_knows_what_was_told_of_a_task_before_it_led() {
    let world = World::new();
    let (mut master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let health = json!({"type": "COMMAND", "command": {"value": "true"}});
    framework.launch(&offer, &[watched(&offer, "watched", "sleep 1000", health)]);
    let told = until(&mut framework, |status| status["healthy"] == true);
    assert!(told["container_status"]["executor_pid"].is_u64(), "{told}");
    let asked = json!({"tasks": [{"task_id": {"value": "watched"}}]});
    framework.accepted("RECONCILE", &asked);
    let before = until(&mut framework, |status| status["reason"] == "REASON_RECONCILIATION");
    master.kill();
    master.start();
    let mut framework = Framework::subscribe(&master, &json!({"id": framework.id}));
    let shown = || read_at(master.port, "/state")["frameworks"][0]["tasks"][0].clone();
    eventually(|| shown()["statuses"][0].is_object(), || shown().to_string());
    let shown = shown();
    let [newest] = shown["statuses"].as_array().unwrap().as_slice() else { panic!("{shown}") };
    assert_eq!((&newest["state"], &newest["healthy"]), (&json!("TASK_RUNNING"), &json!(true)));
    assert_eq!(newest["timestamp"], told["timestamp"]);
    let pid = &told["container_status"]["executor_pid"];
    assert_eq!(&newest["container_status"]["executor_pid"], pid);
    let tasks = post(master.port, "/api/v1", &[], &json!({"type": "GET_TASKS"})).text();
    let tasks: Value = serde_json::from_str(&tasks).unwrap();
    let task = &tasks["get_tasks"]["tasks"][0];
    assert_eq!(task["statuses"][0]["healthy"], true, "{task}");
    assert_eq!(task["statuses"][0]["reason"], "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED");
    framework.accepted("RECONCILE", &asked);
    let after = until(&mut framework, |status| status["reason"] == "REASON_RECONCILIATION");
    for field in ["state", "healthy", "container_status", "executor_id", "message"] {
        assert_eq!(after[field], before[field], "{field}: {after}");
    }
    end(&world, master, agent);
}

#[test]
fn the_next_master_knows_what_was_told_before_that_which_waits() {
    let world = World::new();
    let (mut master, agent) = cluster(&world);
    let knows = json!({"capabilities": [{"type": "TASK_KILLING_STATE"}, {"type": "MULTI_ROLE"}]});
    let mut framework = Framework::subscribe(&master, &knows);
    let offer = framework.offer();
    let gate = world.path("gate");
    let stays = format!("trap '' TERM; until [ -e {} ]; do sleep 0.05; done", gate.display());
    let mut stubborn = task(&offer, "stubborn", &stays);
    stubborn["kill_policy"] = json!({"grace_period": {"nanoseconds": 60_000_000_000_u64}});
    framework.launch(&offer, &[stubborn]);
    let running = until(&mut framework, |status| status["state"] == "TASK_RUNNING");
    framework.accepted("KILL", &json!({"task_id": {"value": "stubborn"}}));
    // Nobody acknowledges this.
    assert_eq!(framework.events.until("UPDATE")["status"]["state"], "TASK_KILLING");
    master.kill();
    master.start();
    let shown = || read_at(master.port, "/state")["frameworks"][0]["tasks"][0].clone();
    let states = || -> Vec<Value> {
        let shown = shown();
        let all = shown["statuses"].as_array().into_iter().flatten();
        all.map(|status| status["state"].clone()).collect()
    };
    eventually(|| states() == ["TASK_RUNNING", "TASK_KILLING"], || format!("{:?}", states()));
    assert_eq!(shown()["statuses"][0]["timestamp"], running["timestamp"]);
    assert_eq!(shown()["state"], "TASK_KILLING");
    std::fs::write(gate, "").unwrap();
    let more = json!({"id": framework.id, "capabilities": knows["capabilities"]});
    let mut framework = Framework::subscribe(&master, &more);
    assert_eq!(framework.end_of("stubborn")["state"], "TASK_KILLED");
    end(&world, master, agent);
}
