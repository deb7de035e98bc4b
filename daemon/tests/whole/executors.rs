//! Executors that speak Mesos' executor API, spoken by hand: what they are given, and when they end.

use serde_json::{Value, json};

use crate::http::{Answer, Records, post};
use crate::reads::read_at;
use crate::scheduler_api::{Framework, JSON, cluster, end, task};
use crate::world::{self, Agent, World, eventually};

const PATH: &str = "/api/v1/executor";

/// A program that runs for long, and is no other test's.
fn program(world: &World) -> String {
    let number: String = world.name().chars().filter(char::is_ascii_digit).collect();
    format!("sleep 1000.{number}")
}

/// A line that says what it was told, and runs the program.
fn long(world: &World) -> String {
    format!("env > {}; exec {}", world.path("environment").display(), program(world))
}

/// The program lives.
fn lives(world: &World) -> bool {
    let line = |pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is = |pid| String::from_utf8_lossy(&line(pid)).replace('\0', " ").trim() == program(world);
    world::pids().any(is)
}

/// Waits until it lives, or does not any more.
fn comes(world: &World, to_life: bool) {
    eventually(|| lives(world) == to_life, || format!("{:?}", world.processes()));
}

/// The agent is there again.
fn again(agent: &mut Agent<'_>) {
    agent.start();
    agent.process().says("registered with the master");
}

/// A task of the executor `x`, whose process is a program that does nothing but say who it is.
fn under(world: &World, offer: &Value, name: &str) -> Value {
    let mut task = task(offer, name, "");
    task.as_object_mut().unwrap().remove("command");
    // By default it is given 1 MiB, which a shell may or may not do with.
    task["executor"] = json!({"executor_id": {"value": "x"}, "command": {"value": long(world)},
        "resources": task["resources"]});
    task
}

/// The executor `x`, as far as it speaks: with what its process was told.
struct Executor {
    port: u16,
    framework: Value,
    token: String,
    events: Records,
}

impl Executor {
    fn subscribe(world: &World, agent: &Agent<'_>, framework: &Value, tasks: &Value) -> Self {
        let file = world.path("environment");
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        let name = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN=";
        let token = || read().lines().find_map(|line| Some(line.strip_prefix(name)?.to_owned()));
        eventually(|| token().is_some(), || format!("a token: {}", read()));
        let token = token().unwrap();
        let call = json!({
            "type": "SUBSCRIBE", "framework_id": framework, "executor_id": {"value": "x"},
            "subscribe": {"unacknowledged_tasks": tasks, "unacknowledged_updates": []},
        });
        let bearer = format!("Bearer {token}");
        let headers = [&JSON[..], &[("Authorization", &bearer)]].concat();
        let mut events = Records::open(agent.port, PATH, &headers, call.to_string().as_bytes());
        events.until("SUBSCRIBED");
        Self { port: agent.port, framework: framework.clone(), token, events }
    }

    fn tell(&self, task: &str, state: &str) -> Answer {
        let call = json!({
            "type": "UPDATE", "framework_id": self.framework, "executor_id": {"value": "x"},
            "update": {"status": {
                "task_id": {"value": task}, "state": state, "source": "SOURCE_EXECUTOR",
                "uuid": "MDEyMzQ1Njc4OWFiY2RlZg==", "executor_id": {"value": "x"},
            }},
        });
        post(self.port, PATH, &[("Authorization", &format!("Bearer {}", self.token))], &call)
    }

    /// The task that it is given next.
    fn given(&mut self) -> Value {
        self.events.until("LAUNCH")["task"]["task_id"]["value"].clone()
    }
}

#[test]
fn what_an_executor_has_it_is_not_given_again_when_its_agent_comes_back() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let tasks = ["told", "named", "new"].map(|name| under(&world, &offer, name));
    framework.launch(&offer, &tasks);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!([executor.given(), executor.given()], ["told", "named"]);
    assert_eq!(executor.tell("told", "TASK_STAGING").status, 400);
    assert_eq!(executor.tell("told", "TASK_RUNNING").status, 202);
    executor.events.until("ACKNOWLEDGED");
    assert_eq!(framework.status()["state"], "TASK_RUNNING");
    agent.kill();
    drop(executor);
    again(&mut agent);
    // It has two of them: one that the agent heard of, one that it names. The third got lost.
    let named = json!([tasks[1]]);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &named);
    assert_eq!(executor.given(), "new");
    assert_eq!(executor.tell("told", "TASK_FINISHED").status, 202);
    let status = framework.end_of("told");
    assert_eq!(status["state"], "TASK_FINISHED");
    framework.accepted("TEARDOWN", &Value::Null);
    executor.events.until("SHUTDOWN");
    comes(&world, false);
    end(&world, master, agent);
}

#[test]
fn metrics_of_an_agent_follow_its_executors_and_what_they_say() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let become_so = |names: [&str; 3], wanted: [f64; 3]| {
        let told = || {
            let told = read_at(agent.port, "/metrics/snapshot");
            names.map(|name| told[&format!("slave/{name}")].as_f64().unwrap_or(-1.0))
        };
        eventually(|| told() == wanted, || format!("{names:?}: {wanted:?}, not {:?}", told()));
    };
    let stages = ["executors_registering", "executors_running", "executors_terminating"];
    framework.launch(&offer, &[under(&world, &offer, "a")]);
    become_so(stages, [1.0, 0.0, 0.0]);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!(executor.given(), "a");
    become_so(stages, [0.0, 1.0, 0.0]);
    assert_eq!(executor.tell("a", "TASK_STAGING").status, 400);
    assert_eq!(executor.tell("a", "TASK_RUNNING").status, 202);
    executor.events.until("ACKNOWLEDGED");
    for name in ["x", "nobody"] {
        let to = json!({"agent_id": offer["agent_id"], "executor_id": {"value": name},
                        "data": "aGVsbG8="});
        framework.accepted("MESSAGE", &to);
    }
    executor.events.until("MESSAGE");
    let updates = ["valid_status_updates", "invalid_status_updates", "recovery_errors"];
    become_so(updates, [1.0, 1.0, 0.0]);
    let messages = ["valid_framework_messages", "invalid_framework_messages", "recovery_errors"];
    become_so(messages, [1.0, 1.0, 0.0]);
    let told = read_at(agent.port, "/metrics/snapshot");
    let age = &told["slave/executor_directory_max_allowed_age_secs"];
    assert!(age.as_f64() > Some(0.0), "{age}");
    for name in ["subscribed", "events/subscribe", "events/disconnect"] {
        assert_eq!(told[&format!("resource_provider_manager/{name}")], 0.0, "{name}");
    }
    framework.accepted("TEARDOWN", &Value::Null);
    executor.events.until("SHUTDOWN");
    become_so(stages, [0.0, 0.0, 1.0]);
    comes(&world, false);
    drop(executor);
    become_so(stages, [0.0, 0.0, 0.0]);
    end(&world, master, agent);
}

#[test]
fn an_executor_that_does_not_subscribe_in_time_has_failed_its_tasks() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--executor-registration-timeout=1secs"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[under(&world, &offer, "a")]);
    let status = framework.end_of("a");
    assert_eq!(status["reason"], "REASON_EXECUTOR_REGISTRATION_TIMEOUT", "{status}");
    let state = (&status["state"], &status["executor_id"]["value"]);
    assert_eq!(state, (&json!("TASK_FAILED"), &json!("x")), "{status}");
    comes(&world, false);
    end(&world, master, agent);
}

#[test]
fn an_executor_that_does_not_come_back_in_time_has_failed_its_tasks() {
    let world = World::new();
    let master = world.master(&[]);
    let mut agent = master.agent(&["--executor-reregistration-timeout=1secs"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[under(&world, &offer, "b")]);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!(executor.given(), "b");
    agent.kill();
    again(&mut agent);
    let status = framework.end_of("b");
    assert_eq!(status["reason"], "REASON_EXECUTOR_REREGISTRATION_TIMEOUT", "{status}");
    comes(&world, false);
    end(&world, master, agent);
}

#[test]
fn an_executor_without_a_task_to_subscribe_for_ends() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[under(&world, &offer, "a")]);
    comes(&world, true);
    framework.accepted("KILL", &json!({"task_id": {"value": "a"}}));
    assert_eq!(framework.end_of("a")["reason"], "REASON_TASK_KILLED_DURING_LAUNCH");
    comes(&world, false);
    end(&world, master, agent);
}

#[test]
fn another_executor_under_the_id_of_one_that_lives_is_refused() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut other = under(&world, &offer, "b");
    other["executor"]["command"]["value"] = json!("true");
    framework.launch(&offer, &[under(&world, &offer, "a"), other]);
    let status = framework.end_of("b");
    assert_eq!(status["state"], "TASK_ERROR");
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("not compatible with existing ExecutorInfo"), "{message}");
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn tasks_of_one_framework_after_the_other_end_with_it() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    for _ in 0..3 {
        let mut framework = Framework::subscribe(&master, &json!({}));
        let offer = framework.offer();
        framework.launch(&offer, &[task(&offer, "a", &long(&world))]);
        while framework.status()["state"] != "TASK_RUNNING" {}
        framework.accepted("TEARDOWN", &Value::Null);
        comes(&world, false);
    }
    end(&world, master, agent);
}

#[test]
fn a_failover_timeout_that_is_named_is_the_one_that_counts() {
    let world = World::new();
    let master = world.master(&["--min-failover-timeout=1hrs"]);
    let agent = master.agent(&[]);
    let mut framework = Framework::subscribe(&master, &json!({"failover_timeout": 1.5}));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "a", &long(&world))]);
    while framework.status()["state"] != "TASK_RUNNING" {}
    drop(framework);
    comes(&world, false);
    end(&world, master, agent);
}

#[test]
fn a_custom_executor_is_given_a_group_at_once() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut executor = under(&world, &offer, "one")["executor"].take();
    (executor["type"], executor["framework_id"]) = ("CUSTOM".into(), framework.id.clone());
    let member = |name: &str| {
        let mut member = under(&world, &offer, name);
        member.as_object_mut().unwrap().remove("executor");
        member["data"] = "aGk=".into();
        member
    };
    let group = |names: [&str; 2]| {
        json!({"type": "LAUNCH_GROUP", "launch_group": {"executor": executor,
               "task_group": {"tasks": names.map(member)}}})
    };
    let operations = [group(["one", "two"]), group(["three", "four"])];
    framework.accepted("ACCEPT", &json!({"offer_ids": [offer["id"]], "operations": operations}));
    // One of a group that its executor does not have yet: the other does not begin either.
    framework.accepted("KILL", &json!({"task_id": {"value": "three"}}));
    for name in ["three", "four"] {
        assert_eq!(framework.end_of(name)["state"], "TASK_KILLED", "{name}");
    }
    let given = |executor: &mut Executor| {
        let group = executor.events.until("LAUNCH_GROUP")["task_group"]["tasks"].clone();
        let tasks = group.as_array().unwrap();
        assert!(tasks.iter().all(|task| task["data"] == "aGk="), "{group}");
        let names = tasks.iter().map(|task| task["task_id"]["value"].as_str().unwrap());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!(given(&mut executor), ["one", "two"]);
    // What is lost on the way to it, it is given again, all of it.
    agent.kill();
    drop(executor);
    again(&mut agent);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!(given(&mut executor), ["one", "two"]);
    assert_eq!(executor.tell("one", "TASK_FAILED").status, 202);
    assert_eq!(framework.end_of("one")["state"], "TASK_FAILED");
    // What becomes of the other is the executor's to say.
    assert_eq!(executor.tell("two", "TASK_FINISHED").status, 202);
    assert_eq!(framework.end_of("two")["state"], "TASK_FINISHED");
    framework.accepted("TEARDOWN", &Value::Null);
    executor.events.until("SHUTDOWN");
    comes(&world, false);
    end(&world, master, agent);
}
