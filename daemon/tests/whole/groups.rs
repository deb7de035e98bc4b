//! Task groups under the executor that the agent is itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::reads::{operate, read_at};
use crate::scheduler_api::{Framework, cluster, end, task};
use crate::spare::weights;
use crate::world::{Agent, World, eventually, has_cgroups, needs_root};

pub(crate) fn executor(id: &str) -> Value {
    json!({"type": "DEFAULT", "executor_id": {"value": id}, "name": "the pod",
           "labels": {"labels": [{"key": "k", "value": "v"}]},
           "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                         {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}]})
}

pub(crate) fn launch_group(executor: &Value, tasks: &[Value]) -> Value {
    json!({"type": "LAUNCH_GROUP",
           "launch_group": {"executor": executor, "task_group": {"tasks": tasks}}})
}

fn accept(framework: &Framework, offer: &Value, operations: &[Value]) {
    framework.accepted(
        "ACCEPT",
        &json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0.1},
                "operations": operations}),
    );
}

/// The states of tasks as they are told, until each of `last` is in that state.
fn until(framework: &mut Framework, last: &[(&str, &str)]) -> BTreeMap<String, Value> {
    let mut told = BTreeMap::new();
    let reached = |told: &BTreeMap<String, Value>| {
        last.iter().all(|(task, state)| told.get(*task).is_some_and(|one| one["state"] == *state))
    };
    while !reached(&told) {
        let status = framework.status();
        told.insert(status["task_id"]["value"].as_str().unwrap().to_owned(), status);
    }
    told
}

fn executors(port: u16) -> Vec<Value> {
    let state = read_at(port, "/state");
    let frameworks = state["frameworks"].as_array().unwrap().clone();
    frameworks.iter().flat_map(|one| one["executors"].as_array().unwrap().clone()).collect()
}

#[test]
fn a_group_runs_each_task_in_a_container_of_its_own_below_the_executors() {
    let world = World::new();
    // An offer that is passed over while something else is waited for comes again soon.
    let master = world.master(&["--offer-timeout=5secs"]);
    let agent = master.agent(&["--resources", "cpus:2;mem:1024;ports:[31000-31009]"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let tasks =
        [task(&offer, "one", "echo one; sleep 1000"), task(&offer, "two", "echo two > file")];
    accept(&framework, &offer, &[launch_group(&executor("pod"), &tasks)]);
    let told = until(&mut framework, &[("one", "TASK_RUNNING"), ("two", "TASK_FINISHED")]);
    assert_eq!(told["one"]["executor_id"]["value"], "pod");
    // Offers of that agent say that the executor runs there.
    framework.accepted("REVIVE", &Value::Null);
    let mut next = framework.offer();
    while next["executor_ids"].is_null() {
        framework.accepted(
            "DECLINE",
            &json!({"offer_ids": [next["id"]], "filters": {"refuse_seconds": 0}}),
        );
        next = framework.offer();
    }
    assert_eq!(next["executor_ids"], json!([{"value": "pod"}]));
    assert_eq!(told["two"]["executor_id"]["value"], "pod");
    let container = |told: &Value| told["container_status"]["container_id"]["value"].clone();
    assert_ne!(container(&told["one"]), container(&told["two"]));
    // The end of one that ended well leaves the other alone.
    // What it holds is told with what its task holds that lives.
    let own = &executors(agent.port)[0];
    assert_eq!((&own["id"], &own["resources"]["mem"]), (&json!("pod"), &json!(64.0)));
    let at_master = &read_at(master.port, "/state")["frameworks"][0]["executors"][0];
    assert_eq!((&at_master["name"], &at_master["type"]), (&json!("the pod"), &json!("DEFAULT")));
    assert_eq!(at_master["labels"], json!([{"key": "k", "value": "v"}]));
    let of_executor = own["directory"].as_str().unwrap();
    assert_eq!(own["tasks"][0]["id"], "one");
    let sandbox = std::path::Path::new(of_executor)
        .join("containers")
        .join(container(&told["two"]).as_str().unwrap());
    assert_eq!(std::fs::read_to_string(sandbox.join("file")).unwrap(), "two\n");
    let path = sandbox.join("file");
    let read = read_at(agent.port, &format!("/files/read?path={}&offset=0", path.display()));
    assert_eq!(read["data"], "two\n");
    // Mesos' page looks for it below the executor's directory, clients below a name of their own.
    let framework_id = framework.id["value"].as_str().unwrap();
    let below = format!("/frameworks/{framework_id}/executors/pod/runs/latest");
    for path in [format!("{of_executor}/tasks/two/file"), format!("{below}/tasks/two/file")] {
        let read = read_at(agent.port, &format!("/files/read?path={path}&offset=0"));
        assert_eq!(read["data"], "two\n", "{path}");
    }
    assert_eq!((&own["name"], &own["type"]), (&json!("the pod"), &json!("DEFAULT")));
    let status = &own["tasks"][0]["statuses"][0];
    assert_eq!(status["container_status"]["container_id"]["parent"]["value"], own["container"]);
    assert!(status["container_status"]["executor_pid"].is_u64(), "{status}");
    let said = world.told(&["logs", "--master", &master.address(), "one"]);
    assert!(said.out.starts_with("one"), "{}{}", said.out, said.err);
    framework.accepted("KILL", &json!({"task_id": {"value": "one"}}));
    assert_eq!(framework.end_of("one")["state"], "TASK_KILLED");
    // With its last task the executor ends, and nothing is held any more.
    let failure = framework.events.until("FAILURE");
    assert_eq!((&failure["executor_id"]["value"], &failure["status"]), (&json!("pod"), &json!(0)));
    eventually(|| executors(agent.port).is_empty(), || "no executor".to_owned());
    let used = || read_at(master.port, "/slaves")["slaves"][0]["used_resources"]["mem"].clone();
    eventually(|| used() == 0.0, || format!("{} in use", used()));
    end(&world, master, agent);
}

#[test]
fn who_fails_or_is_killed_takes_its_group_along_and_no_other() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let lasts = |name: &str| task(&offer, name, "sleep 1000");
    let fails = "while [ ! -e $MESOS_SANDBOX/../go ]; do sleep 0.1; done; exit 3";
    let groups = [
        launch_group(&executor("pod"), &[task(&offer, "a1", fails), lasts("a2")]),
        launch_group(&executor("pod"), &[lasts("b1"), lasts("b2")]),
        launch_group(&executor("pod"), &[lasts("c1")]),
    ];
    accept(&framework, &offer, &groups);
    let running = ["a1", "a2", "b1", "b2", "c1"].map(|name| (name, "TASK_RUNNING"));
    until(&mut framework, &running);
    let pod = executors(agent.port).remove(0);
    let pod = std::path::Path::new(pod["directory"].as_str().unwrap()).to_owned();
    std::fs::write(pod.join("containers/go"), "").unwrap();
    let told = until(&mut framework, &[("a1", "TASK_FAILED"), ("a2", "TASK_KILLED")]);
    assert_eq!(told["a1"]["message"], "Command exited with status 3");
    framework.accepted("KILL", &json!({"task_id": {"value": "b2"}}));
    until(&mut framework, &[("b1", "TASK_KILLED"), ("b2", "TASK_KILLED")]);
    // The third group goes on until its executor is shut down.
    let left = || executors(agent.port).remove(0)["tasks"].clone();
    let alone = || left().as_array().is_some_and(|tasks| tasks.len() == 1);
    eventually(alone, || format!("one task in {}", left()));
    assert_eq!(left()[0]["id"], "c1");
    framework.accepted(
        "SHUTDOWN",
        &json!({"executor_id": {"value": "pod"}, "agent_id": offer["agent_id"]}),
    );
    until(&mut framework, &[("c1", "TASK_KILLED")]);
    end(&world, master, agent);
}

#[test]
fn a_group_is_launched_as_a_whole_or_not_at_all() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let greedy = |offer: &Value| {
        let mut greedy = task(offer, "greedy", "true");
        greedy["resources"][0]["scalar"]["value"] = json!(1000);
        greedy
    };
    let mut custom = executor("pod");
    custom["type"] = json!("CUSTOM");
    let unknown = json!({"executor_id": {"value": "pod"}});
    type Member<'t> = &'t dyn Fn(&Value) -> Value;
    let cases: [(Member<'_>, Value, &str); 5] = [
        (&greedy, executor("pod"), "more resources than were offered"),
        (&|offer| task(offer, "well", "true"), executor("pod"), "same id"),
        (
            &|offer| task(offer, "b", "true"),
            custom,
            "'ExecutorInfo.command' must be set for 'CUSTOM'",
        ),
        (&|offer| task(offer, "b", "true"), unknown, "'ExecutorInfo.type' must be set"),
        (
            &|offer| {
                let mut own = task(offer, "b", "true");
                own["executor"] = executor("x");
                own
            },
            executor("pod"),
            "'TaskInfo.executor' must not be set",
        ),
    ];
    for (other, executor, words) in cases {
        let offer = framework.offer();
        let tasks = [task(&offer, "well", "true"), other(&offer)];
        accept(&framework, &offer, &[launch_group(&executor, &tasks)]);
        for _ in 0..2 {
            let status = framework.status();
            assert_eq!(status["state"], "TASK_ERROR", "{status}");
            assert_eq!(status["reason"], "REASON_TASK_GROUP_INVALID", "{status}");
            assert!(status["message"].as_str().unwrap().contains(words), "{status}");
        }
    }
    // A default executor is no executor of a task by itself.
    let offer = framework.offer();
    let mut alone = task(&offer, "alone", "true");
    alone.as_object_mut().unwrap().remove("command");
    alone["executor"] = executor("pod");
    framework.launch(&offer, &[alone]);
    let status = framework.end_of("alone");
    assert!(status["message"].as_str().unwrap().contains("is for task groups"), "{status}");
    assert!(executors(agent.port).is_empty());
    end(&world, master, agent);
}

#[test]
fn a_group_outlives_its_agent_and_is_still_one() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut watched = task(&offer, "watched", "sleep 1000");
    watched["health_check"] = json!({"type": "COMMAND", "command": {"value": "test ! -e ill"},
        "delay_seconds": 0, "interval_seconds": 0.1, "grace_period_seconds": 0,
        "consecutive_failures": 1});
    let tasks = [task(&offer, "other", "sleep 1000"), watched];
    accept(&framework, &offer, &[launch_group(&executor("pod"), &tasks)]);
    let told = until(&mut framework, &[("other", "TASK_RUNNING"), ("watched", "TASK_RUNNING")]);
    let healthy = |status: &Value| status["healthy"] == true;
    while !healthy(&told["watched"]) && !healthy(&framework.status()) {}
    agent.kill();
    agent.start();
    agent.process().says("registered");
    let own = executors(agent.port).remove(0);
    assert_eq!(own["tasks"].as_array().unwrap().len(), 2, "{own}");
    for task in own["tasks"].as_array().unwrap() {
        let container = &task["statuses"][0]["container_status"]["container_id"]["value"];
        let below = std::path::Path::new(own["directory"].as_str().unwrap()).join("containers");
        let sandbox = below.join(container.as_str().unwrap());
        std::fs::write(sandbox.join("ill"), "").unwrap();
    }
    let told = until(&mut framework, &[("other", "TASK_KILLED"), ("watched", "TASK_KILLED")]);
    assert_eq!(told["watched"]["healthy"], false);
    assert!(told["other"]["healthy"].is_null());
    assert_eq!(told["other"]["executor_id"]["value"], "pod");
    end(&world, master, agent);
}

#[test]
fn tasks_of_a_group_share_what_they_have_unless_they_ask_for_cgroups_of_their_own() {
    if !has_cgroups("memory") {
        return;
    }
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    // More than the 8 MB of the task, and less than those and the 128 of its executor.
    let hungry = "x=$(head -c 20000000 /dev/zero | tr '\\0' a); echo ${#x}";
    let offer = framework.offer();
    let groups = [("shared", true), ("own", false)].map(|(name, shares)| {
        let mut task = task(&offer, name, hungry);
        task["resources"][1]["scalar"]["value"] = json!(8);
        task["container"] = json!({"type": "MESOS", "linux_info": {"share_cgroups": shares}});
        let mut around = executor(&format!("pod-{name}"));
        around["resources"][1]["scalar"]["value"] = json!(128);
        launch_group(&around, &[task])
    });
    accept(&framework, &offer, &groups);
    let told = until(&mut framework, &[("shared", "TASK_FINISHED"), ("own", "TASK_FAILED")]);
    assert_eq!(told["own"]["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{}", told["own"]);
    let limitation = json!({"resources": [{"name": "mem", "type": "SCALAR",
        "scalar": {"value": 8.0}}]});
    assert_eq!(told["own"]["limitation"], limitation, "{}", told["own"]);
    assert!(told["own"]["container_status"]["executor_pid"].is_u64(), "{}", told["own"]);
    // Whoever asks for the task is told the same.
    let state = operate(&master, "GET_STATE");
    let tasks = state["get_tasks"].as_object().unwrap().values();
    let tasks = tasks.flat_map(|tasks| tasks.as_array().into_iter().flatten());
    let own: Vec<_> = tasks.filter(|task| task["task_id"]["value"] == "own").collect();
    let last = own[0]["statuses"].as_array().unwrap().last().unwrap();
    assert_eq!(last["limitation"], limitation, "{last}");
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn tasks_of_a_group_that_ask_for_it_see_each_others_processes_and_those_of_nobody_else() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let sees = "echo $(readlink /proc/self/ns/pid) $(cat /proc/1/comm) > sees";
    let asks = |name: &str, command: String, shares: bool| {
        let mut task = task(&offer, name, &command);
        task["container"] = json!({"type": "MESOS", "linux_info": {"share_pid_namespace": shares}});
        task
    };
    let waits = |then: &str| format!("{sees}; while test ! -e go; do sleep 0.1; done; {then}");
    // A check is among the processes of its task.
    let mut one = asks("one", waits("exit 0"), true);
    one["check"] = json!({"type": "COMMAND", "command": {"command": {
        "value": "test $(cat /proc/1/comm) = mesita-group"}},
        "delay_seconds": 0, "interval_seconds": 0.1});
    let two = asks("two", waits("kill -9 $(cat victim); sleep 1000"), true);
    let apart = asks("apart", waits("exit 0"), false);
    accept(&framework, &offer, &[launch_group(&executor("pod"), &[one, two, apart])]);
    let names = ["one", "two", "apart"];
    let mut told = until(&mut framework, &names.map(|name| (name, "TASK_RUNNING")));
    let checked = |one: &Value| one["check_status"]["command"]["exit_code"] == 0;
    while !checked(&told["one"]) {
        let status = framework.status();
        told.insert(status["task_id"]["value"].as_str().unwrap().to_owned(), status);
    }
    let sandboxes = |agent: &Agent<'_>| {
        let own = executors(agent.port).remove(0);
        let below = std::path::Path::new(own["directory"].as_str().unwrap()).join("containers");
        let of = |name: &str| {
            let container = &told[name]["container_status"]["container_id"]["value"];
            below.join(container.as_str().unwrap())
        };
        names.map(of)
    };
    let sandboxes = sandboxes(&agent);
    let seen = sandboxes.each_ref().map(|sandbox| {
        let read = || std::fs::read_to_string(sandbox.join("sees")).unwrap_or_default();
        eventually(|| !read().is_empty(), || format!("{}", sandbox.display()));
        read()
    });
    assert!(seen[0] == seen[1] && seen[0].ends_with(" mesita-group\n"), "{seen:?}");
    assert!(seen[0] != seen[2] && seen[2].ends_with(" mesita-init\n"), "{seen:?}");
    // They are so under the agent that comes next; one that ends well leaves the others alone.
    agent.kill();
    agent.start();
    agent.process().says("registered");
    for at in [0, 2] {
        std::fs::write(sandboxes[at].join("go"), "").unwrap();
    }
    until(&mut framework, &[("one", "TASK_FINISHED"), ("apart", "TASK_FINISHED")]);
    // Who comes later to the same executor is among them as well.
    framework.accepted("REVIVE", &Value::Null);
    let again = framework.offer();
    let mut late = asks("late", format!("{sees}; echo $$ > pid; sleep 1000"), true);
    late["agent_id"] = again["agent_id"].clone();
    accept(&framework, &again, &[launch_group(&executor("pod"), &[late])]);
    let late = until(&mut framework, &[("late", "TASK_RUNNING")]).remove("late").unwrap();
    let late = &late["container_status"]["container_id"]["value"];
    let late = sandboxes[0].parent().unwrap().join(late.as_str().unwrap());
    eventually(|| late.join("pid").exists(), || "its number".to_owned());
    assert_eq!(std::fs::read_to_string(late.join("sees")).unwrap(), seen[0]);
    // What one user may do to its own processes it may do to those of the others.
    eventually(
        || std::fs::copy(late.join("pid"), sandboxes[1].join("victim")).unwrap() > 0,
        || "it".into(),
    );
    std::fs::write(sandboxes[1].join("go"), "").unwrap();
    let told = until(&mut framework, &[("late", "TASK_FAILED")]);
    assert!(told["late"]["message"].as_str().unwrap().contains("signal"), "{}", told["late"]);
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn tasks_of_a_group_have_a_directory_of_their_executors_in_common_whoever_they_are() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let groups = [("one", "nobody"), ("two", "root")].map(|(pod, user)| {
        let tasks = [
            ("writes", "echo kept > common/new && mv common/new common/file"),
            ("reads", "while test ! -e common/file; do sleep 0.1; done; grep -q kept common/file"),
        ];
        let tasks = tasks.map(|(name, script)| {
            let mut task = task(&offer, &format!("{name}-{pod}"), script);
            task["command"]["user"] = json!(user);
            let of = json!({"type": "SANDBOX_PATH",
                "sandbox_path": {"type": "PARENT", "path": "shared/deep"}});
            let volume = json!({"container_path": "common", "mode": "RW", "source": of});
            task["container"] = json!({"type": "MESOS", "volumes": [volume]});
            task
        });
        launch_group(&executor(pod), &tasks)
    });
    accept(&framework, &offer, &groups);
    let names = ["writes-one", "reads-one", "writes-two", "reads-two"];
    until(&mut framework, &names.map(|name| (name, "TASK_FINISHED")));
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn tasks_of_a_group_share_memory_and_loopback_and_no_other_task_does() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--isolation=all,network/none"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let listens = "echo kept > /dev/shm/file; perl -MIO::Socket::INET -e \
        '$s = IO::Socket::INET->new(LocalPort => 24567, Listen => 5); $c = $s->accept; print $c \"hello\"'";
    let asks = "while ! grep -q kept /dev/shm/file; do sleep 0.1; done; perl -MIO::Socket::INET -e \
        'do { $s = IO::Socket::INET->new(\"127.0.0.1:24567\") } until $s; exit(<$s> ne \"hello\")'";
    let private = json!({"type": "MESOS", "linux_info": {"ipc_mode": "PRIVATE"}});
    let mut own = task(&offer, "own", "sleep 1; test ! -e /dev/shm/file");
    own["container"] = private;
    let mut parents = task(&offer, "parents", asks);
    parents["container"] = json!({"type": "MESOS", "linux_info": {"ipc_mode": "SHARE_PARENT"}});
    let group = [task(&offer, "listens", listens), parents, own];
    let other = task(&offer, "other", "sleep 1; test ! -e /dev/shm/file");
    let launch = json!({"type": "LAUNCH", "launch": {"task_infos": [other]}});
    accept(&framework, &offer, &[launch_group(&executor("shares"), &group), launch]);
    let names = ["listens", "parents", "own", "other"];
    until(&mut framework, &names.map(|name| (name, "TASK_FINISHED")));
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn what_a_group_cannot_ask_of_cgroups_is_told_in_mesos_words() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let linux = |shares: bool| json!({"type": "MESOS", "linux_info": {"share_cgroups": shares}});
    let mut limited = task(&offer, "limited", "true");
    limited["limits"] = json!({"mem": {"value": 64}});
    let mut unlike = [task(&offer, "shares", "true"), task(&offer, "apart", "true")];
    unlike[1]["container"] = linux(false);
    let mut around = executor("around");
    around["container"] = linux(true);
    let groups = [
        launch_group(&executor("one"), &[limited]),
        launch_group(&executor("two"), &unlike),
        launch_group(&around, &[task(&offer, "inside", "true")]),
    ];
    accept(&framework, &offer, &groups);
    let names = ["limited", "shares", "apart", "inside"];
    let told = until(&mut framework, &names.map(|name| (name, "TASK_ERROR")));
    for (name, words) in names.into_iter().zip([
        "Resource limits may only be set for tasks within a task group when the 'share_cgroups' \
         field is set to 'false'.",
        "If set, the value of 'share_cgroups' must be the same for all tasks in each task group \
         and under a single executor",
        "must be the same for all tasks in each task group",
        "The 'share_cgroups' field cannot be set to 'true' on executor containers",
    ]) {
        let message = told[name]["message"].as_str().unwrap();
        assert!(message.contains(words), "{name}: {message}");
    }
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn a_group_weighs_less_when_one_of_its_tasks_is_over() {
    if !has_cgroups("cpu") {
        return;
    }
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let gate = world.path("gate");
    let waits = format!("until [ -e {} ]; do sleep 0.05; done", gate.display());
    let tasks = [task(&offer, "brief", &waits), task(&offer, "long", "sleep 1000")];
    accept(&framework, &offer, &[launch_group(&executor("pod"), &tasks)]);
    until(&mut framework, &[("brief", "TASK_RUNNING"), ("long", "TASK_RUNNING")]);
    let weight = || {
        let all = [weights(&world, "cpu.shares"), weights(&world, "cpu.weight")].concat();
        all.iter().filter_map(|text| text.parse::<u64>().ok()).sum::<u64>()
    };
    let both = weight();
    std::fs::write(gate, "").unwrap();
    until(&mut framework, &[("brief", "TASK_FINISHED")]);
    eventually(|| weight() < both, || format!("{both}, and then {}", weight()));
    assert!(weight() > 0, "{both}");
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}
