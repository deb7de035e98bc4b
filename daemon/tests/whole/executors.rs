//! Executors that speak Mesos' executor API, spoken by hand: what they are given, and when they end.

use serde_json::{Value, json};

use crate::http::{Answer, Records, post};
use crate::reads::{operate_at, read_at};
use crate::scheduler_api::{Framework, JSON, cluster, end, task};
use crate::world::{self, Agent, Master, World, eventually, has_cgroups};

const PATH: &str = "/api/v1/executor";

/// A program that runs for long, and is no other test's.
fn program(world: &World) -> String {
    let number: String = world.name().chars().filter(char::is_ascii_digit).collect();
    format!("sleep 1000.{number}")
}

/// A line that says what it was told, and runs the program.
pub(crate) fn long(world: &World) -> String {
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
pub(crate) struct Executor {
    port: u16,
    framework: Value,
    token: String,
    pub(crate) events: Records,
}

impl Executor {
    pub(crate) fn subscribe(
        world: &World,
        agent: &Agent<'_>,
        framework: &Value,
        tasks: &Value,
    ) -> Self {
        Self::subscribe_with(world, agent, framework, tasks, &json!([]))
    }

    fn subscribe_with(
        world: &World,
        agent: &Agent<'_>,
        framework: &Value,
        tasks: &Value,
        updates: &Value,
    ) -> Self {
        let mut executor = Self::open(world, agent, framework, tasks, updates);
        executor.events.until("SUBSCRIBED");
        executor
    }

    fn open(
        world: &World,
        agent: &Agent<'_>,
        framework: &Value,
        tasks: &Value,
        updates: &Value,
    ) -> Self {
        let file = world.path("environment");
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        let name = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN=";
        let token = || read().lines().find_map(|line| Some(line.strip_prefix(name)?.to_owned()));
        eventually(|| token().is_some(), || format!("a token: {}", read()));
        let token = token().unwrap();
        let call = json!({
            "type": "SUBSCRIBE", "framework_id": framework, "executor_id": {"value": "x"},
            "subscribe": {"unacknowledged_tasks": tasks, "unacknowledged_updates": updates},
        });
        let bearer = format!("Bearer {token}");
        let headers = [&JSON[..], &[("Authorization", &bearer)]].concat();
        let events = Records::open(agent.port, PATH, &headers, call.to_string().as_bytes());
        Self { port: agent.port, framework: framework.clone(), token, events }
    }

    pub(crate) fn tell(&self, task: &str, state: &str) -> Answer {
        self.says(task, state, "")
    }

    fn says(&self, task: &str, state: &str, message: &str) -> Answer {
        self.says_as(task, state, message, "MDEyMzQ1Njc4OWFiY2RlZg==")
    }

    fn says_as(&self, task: &str, state: &str, message: &str, uuid: &str) -> Answer {
        let call = json!({
            "type": "UPDATE", "framework_id": self.framework, "executor_id": {"value": "x"},
            "update": {"status": {
                "task_id": {"value": task}, "state": state, "source": "SOURCE_EXECUTOR",
                "timestamp": 12345.5,
                "uuid": uuid, "executor_id": {"value": "x"},
                "message": message,
            }},
        });
        post(self.port, PATH, &[("Authorization", &format!("Bearer {}", self.token))], &call)
    }

    /// The task that it is given next.
    pub(crate) fn given(&mut self) -> Value {
        self.events.until("LAUNCH")["task"]["task_id"]["value"].clone()
    }
}

/// A framework with three tasks under one executor, which has two of them.
fn three(
    world: &World,
    master: &Master<'_>,
    agent: &Agent<'_>,
) -> (Framework, [Value; 3], Executor) {
    let mut framework = Framework::subscribe(master, &json!({}));
    let offer = framework.offer();
    let tasks = ["told", "named", "new"].map(|name| under(world, &offer, name));
    framework.launch(&offer, &tasks);
    let mut executor = Executor::subscribe(world, agent, &framework.id, &json!([]));
    assert_eq!([executor.given(), executor.given()], ["told", "named"]);
    (framework, tasks, executor)
}

/// The framework goes, and its executor with it.
fn torn_down(world: &World, framework: &Framework, executor: &mut Executor) {
    framework.accepted("TEARDOWN", &Value::Null);
    executor.events.until("SHUTDOWN");
    comes(world, false);
}

#[test]
fn what_an_executor_has_it_is_not_given_again_when_its_agent_comes_back() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let (mut framework, tasks, mut executor) = three(&world, &master, &agent);
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
    torn_down(&world, &framework, &mut executor);
    end(&world, master, agent);
}

/// More than one frame between the agent's threads has room for.
#[test]
fn an_executor_may_name_any_number_of_tasks_and_updates_when_it_subscribes() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let (mut framework, tasks, executor) = three(&world, &master, &agent);
    agent.kill();
    drop(executor);
    again(&mut agent);
    // Beside those two it names many that nobody remembers.
    let other = |number: usize| {
        let mut task = tasks[1].clone();
        task["task_id"]["value"] = json!(format!("{number:0200}"));
        task
    };
    let update = |name: &str| {
        let status = json!({
            "task_id": {"value": name}, "state": "TASK_RUNNING", "source": "SOURCE_EXECUTOR",
            "uuid": "MDEyMzQ1Njc4OWFiY2RlZg==", "executor_id": {"value": "x"},
            "message": "m".repeat(200),
        });
        json!({"framework_id": framework.id, "status": status})
    };
    let named: Vec<Value> = (0..600).map(other).chain([tasks[1].clone()]).collect();
    let told: Vec<Value> =
        (0..300).map(|number| update(&format!("{number:0200}"))).chain([update("told")]).collect();
    let mut executor =
        Executor::subscribe_with(&world, &agent, &framework.id, &json!(named), &json!(told));
    assert_eq!(executor.given(), "new");
    let status = framework.status();
    assert_eq!(
        (&status["task_id"]["value"], &status["state"]),
        (&json!("told"), &json!("TASK_RUNNING"))
    );
    assert_eq!(executor.tell("named", "TASK_FINISHED").status, 202);
    assert_eq!(framework.end_of("named")["state"], "TASK_FINISHED");
    torn_down(&world, &framework, &mut executor);
    end(&world, master, agent);
}

/// An executor forgets what its agent has taken, so the agent may not.
#[test]
fn what_an_executor_said_is_told_though_its_agent_is_gone_before_it_is_acknowledged() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let tasks = [under(&world, &offer, "a")];
    framework.launch(&offer, &tasks);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!(executor.given(), "a");
    for (message, uuid) in
        [("one", "MDEyMzQ1Njc4OWFiY2RlZg=="), ("two", "MDEyMzQ1Njc4OWFiY2RlMQ==")]
    {
        assert_eq!(executor.says_as("a", "TASK_RUNNING", message, uuid).status, 202);
        assert_eq!(executor.events.until("ACKNOWLEDGED")["uuid"], uuid);
    }
    // The first of them, which nobody acknowledges; the second waits for that.
    assert_eq!(framework.events.until("UPDATE")["status"]["message"], "one");
    agent.kill();
    drop(executor);
    again(&mut agent);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!(tasks));
    let told = [framework.status(), framework.status()];
    assert_eq!(told.map(|status| status["message"].clone()), ["one", "two"]);
    // It says it once more: the answer was lost, not the word.
    let uuid = "MDEyMzQ1Njc4OWFiY2RlMQ==";
    assert_eq!(executor.says_as("a", "TASK_RUNNING", "two", uuid).status, 202);
    assert_eq!(executor.events.until("ACKNOWLEDGED")["uuid"], uuid);
    assert_eq!(executor.says("a", "TASK_FINISHED", "three").status, 202);
    assert_eq!(framework.status()["message"], "three");
    torn_down(&world, &framework, &mut executor);
    end(&world, master, agent);
}

#[test]
fn a_task_that_waits_for_its_executor_is_told_as_queued() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[under(&world, &offer, "a")]);
    let state = || read_at(agent.port, "/state")["frameworks"][0]["executors"][0].clone();
    let ids = |list: &Value| -> Vec<Value> {
        list.as_array().into_iter().flatten().map(|row| row["id"].clone()).collect()
    };
    let lists = || {
        let state = state();
        ["tasks", "queued_tasks"].map(|name| ids(&state[name]))
    };
    let tasks = || {
        let answer = post(agent.port, "/api/v1", &[], &json!({"type": "GET_TASKS"}));
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        let told = &told["get_tasks"];
        ["launched_tasks", "queued_tasks"].map(|name| told[name].as_array().map_or(0, Vec::len))
    };
    eventually(|| lists() == [vec![], vec![json!("a")]], || format!("{:?}", lists()));
    assert_eq!(tasks(), [0, 1]);
    let row = state()["queued_tasks"][0].clone();
    assert_eq!((&row["executor_id"], &row["slave_id"]), (&json!("x"), &offer["agent_id"]["value"]));
    assert_eq!((&row["role"], &row["resources"]["mem"]), (&json!("*"), &json!(32.0)));
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!(executor.given(), "a");
    assert_eq!((lists(), tasks()), ([vec![json!("a")], vec![]], [1, 0]));
    framework.accepted("TEARDOWN", &Value::Null);
    executor.events.until("SHUTDOWN");
    comes(&world, false);
    drop(executor);
    end(&world, master, agent);
}

/// What went wrong is at the end of it.
#[test]
fn what_an_executor_says_of_a_task_is_told_whole() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[under(&world, &offer, "a")]);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!(executor.given(), "a");
    let trace = format!("{}KeyError: \u{e9}", "  File x, line 1\n".repeat(200));
    assert_eq!(executor.says("a", "TASK_FAILED", &trace).status, 202);
    assert_eq!(framework.end_of("a")["message"], trace);
    framework.accepted("TEARDOWN", &Value::Null);
    drop(executor);
    comes(&world, false);
    end(&world, master, agent);
}

#[test]
fn what_an_executor_said_last_is_known_to_the_next_master() {
    let world = World::new();
    let (mut master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[under(&world, &offer, "a")]);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!(executor.given(), "a");
    assert_eq!(executor.says("a", "TASK_RUNNING", "warming up").status, 202);
    assert_eq!(framework.status()["message"], "warming up");
    executor.events.until("ACKNOWLEDGED");
    master.kill();
    master.start();
    let said = || operate_at(master.port, "GET_TASKS")["tasks"][0]["statuses"][0].clone();
    eventually(|| said()["message"] == "warming up", || said().to_string());
    let rows = || master.rows(&[])[0]["message"].clone();
    assert_eq!(rows(), "warming up");
    let framework = Framework::subscribe(&master, &json!({"id": framework.id}));
    framework.accepted("TEARDOWN", &Value::Null);
    drop(executor);
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

/// Clients take the status of an executor's end without asking whether there is one.
#[test]
fn an_executor_that_could_not_be_started_has_a_status_too() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut task = under(&world, &offer, "a");
    task["executor"]["command"]["uris"] =
        json!([{"value": world.path("nothing").display().to_string()}]);
    framework.launch(&offer, &[task]);
    let failure = framework.events.until("FAILURE");
    assert_eq!(failure["executor_id"]["value"], "x", "{failure}");
    assert_eq!(failure["status"], -1, "{failure}");
    end(&world, master, agent);
}

#[test]
fn an_executor_hears_of_each_kill_and_of_a_grace_that_one_names() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut task = under(&world, &offer, "a");
    task["max_completion_time"] = json!({"nanoseconds": 5_000_000_000_u64});
    framework.launch(&offer, &[task]);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    let given = executor.events.until("LAUNCH")["task"].clone();
    assert_eq!(given["max_completion_time"]["nanoseconds"], 5_000_000_000_u64, "{given}");
    let mut kill = json!({"task_id": {"value": "a"}});
    framework.accepted("KILL", &kill);
    let told = executor.events.until("KILL");
    assert!(told["kill_policy"].is_null(), "{told}");
    kill["kill_policy"] = json!({"grace_period": {"nanoseconds": 1_000_000_000}});
    framework.accepted("KILL", &kill);
    let told = executor.events.until("KILL");
    assert_eq!(told["kill_policy"]["grace_period"]["nanoseconds"], 1_000_000_000, "{told}");
    framework.accepted("TEARDOWN", &Value::Null);
    executor.events.until("SHUTDOWN");
    // Whoever comes again while it is to end hears that once more, and is heard.
    drop(executor);
    let mut executor = Executor::open(&world, &agent, &framework.id, &json!([]), &json!([]));
    executor.events.until("SHUTDOWN");
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
    torn_down(&world, &framework, &mut executor);
    end(&world, master, agent);
}

#[test]
fn an_executor_has_what_its_tasks_hold_and_its_agent_tells_how_they_are() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[under(&world, &offer, "a"), under(&world, &offer, "b")]);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!([executor.given(), executor.given()], ["a", "b"]);
    let told = || read_at(agent.port, "/state")["frameworks"][0]["executors"][0].clone();
    let soft = || read_at(agent.port, "/containers")[0]["statistics"].clone();
    assert_eq!(told()["resources"]["mem"], 96.0, "{}", told());
    assert_eq!(soft()["mem_soft_limit_bytes"], 96 << 20, "{}", soft());
    // Where there are cgroups, and they are those that the kernel holds it to.
    let limit = |mb: u64| soft()["mem_limit_bytes"].as_u64().is_none_or(|bytes| bytes == mb << 20);
    eventually(|| limit(96), || soft().to_string());
    assert_eq!(executor.tell("a", "TASK_RUNNING").status, 202);
    let status = framework.status();
    let told_then = (&status["state"], &status["timestamp"]);
    assert_eq!(told_then, (&json!("TASK_RUNNING"), &json!(12345.5)));
    let of = |list: &str, name: &str| {
        let rows = told()[list].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["id"] == name).unwrap_or_default()
    };
    let (a, b) = (of("tasks", "a"), of("tasks", "b"));
    assert_eq!((&a["state"], &b["state"]), (&json!("TASK_RUNNING"), &json!("TASK_STAGING")));
    assert_eq!(a["statuses"][0]["state"], "TASK_RUNNING", "{a}");
    assert_eq!(read_at(agent.port, "/metrics/snapshot")["slave/tasks_running"], 1.0);
    // Said again it is confirmed again, and told to nobody.
    executor.events.until("ACKNOWLEDGED");
    assert_eq!(executor.tell("a", "TASK_RUNNING").status, 202);
    executor.events.until("ACKNOWLEDGED");
    // An end that is not acknowledged yet is that of a task that is over.
    assert_eq!(executor.tell("a", "TASK_FINISHED").status, 202);
    eventually(|| of("completed_tasks", "a")["state"] == "TASK_FINISHED", || told().to_string());
    assert_eq!(told()["resources"]["mem"], 64.0, "{}", told());
    // One that is sent once more is confirmed once more, though nothing is left of the task.
    assert_eq!(framework.status()["state"], "TASK_FINISHED");
    executor.events.until("ACKNOWLEDGED");
    assert_eq!(executor.tell("a", "TASK_FINISHED").status, 202);
    executor.events.until("ACKNOWLEDGED");
    torn_down(&world, &framework, &mut executor);
    end(&world, master, agent);
}

#[test]
fn an_executor_may_use_what_the_limits_of_its_tasks_say_together() {
    if !has_cgroups("memory") {
        return;
    }
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut tasks = ["a", "b", "c"].map(|name| under(&world, &offer, name));
    tasks[0]["limits"] = json!({"cpus": {"value": 1}, "mem": {"value": 64}});
    tasks[2]["limits"] = json!({"cpus": {"value": "Infinity"}, "mem": {"value": "Infinity"}});
    framework.launch(&offer, &tasks[..2]);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!([executor.given(), executor.given()], ["a", "b"]);
    // It asked for 32 MB and a tenth of a CPU, and so did each of them.
    let told = || read_at(agent.port, "/containers")[0]["statistics"].clone();
    let may = |cpus: &Value, mem: &Value| {
        let wanted = || told()["cpus_limit"] == *cpus && told()["mem_limit_bytes"] == *mem;
        eventually(wanted, || format!("{cpus} {mem}: {}", told()));
    };
    may(&json!(1.2), &json!(128 << 20));
    let offer = framework.offer();
    framework.launch(&offer, &tasks[2..]);
    assert_eq!(executor.given(), "c");
    may(&Value::Null, &Value::Null);
    for name in ["c", "a"] {
        assert_eq!(executor.tell(name, "TASK_FINISHED").status, 202);
        // CPU time is taken back; memory that it may have in use is not.
        let cpus = if name == "c" { json!(1.2) } else { Value::Null };
        may(&cpus, &Value::Null);
    }
    torn_down(&world, &framework, &mut executor);
    end(&world, master, agent);
}
