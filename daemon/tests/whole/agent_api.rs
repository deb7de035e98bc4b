//! Mesos' operator API of an agent, asked at the agent and by its master.

use serde_json::{Value, json};

use crate::http::post;
use crate::reads::read_at;
use crate::scheduler_api::{Framework, cluster, end, task};
use crate::world::{World, eventually};

fn told(port: u16, path: &str, call: &Value) -> Value {
    let answer = post(port, path, &[], call);
    assert_eq!(answer.status, 200, "{call}: {}", answer.text());
    let value: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(value["type"], call["type"]);
    value[call["type"].as_str().unwrap().to_lowercase()].clone()
}

#[test]
fn an_agent_tells_what_it_is_and_what_runs() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let labels = json!({"labels": [{"key": "tier", "value": "a"}]});
    let shown = json!({"labels": labels, "webui_url": "http://it/", "hostname": "there"});
    let mut framework = Framework::subscribe(&master, &shown);
    let offer = framework.offer();
    let group = json!({"type": "LAUNCH_GROUP", "launch_group": {
        "executor": {"type": "DEFAULT", "executor_id": {"value": "pod"}},
        "task_group": {"tasks": [task(&offer, "member", "sleep 1000")]}}});
    let both = [task(&offer, "alone", "echo hello; sleep 1000"), task(&offer, "over", "true")];
    framework.accepted(
        "ACCEPT",
        &json!({"offer_ids": [offer["id"]], "operations": [
            {"type": "LAUNCH", "launch": {"task_infos": both}}, group]}),
    );
    let mut states = std::collections::BTreeMap::new();
    let wanted = [("alone", "TASK_RUNNING"), ("member", "TASK_RUNNING"), ("over", "TASK_FINISHED")];
    while wanted.iter().any(|(task, state)| states.get(*task).is_none_or(|told| told != state)) {
        let status = framework.status();
        let told = |value: &Value| value.as_str().unwrap().to_owned();
        states.insert(told(&status["task_id"]["value"]), told(&status["state"]));
    }
    let by_master = format!("/agent/{}/api/v1", offer["agent_id"]["value"].as_str().unwrap());
    for (port, path) in
        [(agent.port, "/api/v1"), (agent.port, "/slave(1)/api/v1"), (master.port, &by_master)]
    {
        let ask = |kind: &str| told(port, path, &json!({"type": kind}));
        assert_eq!(ask("GET_HEALTH"), json!({"healthy": true}));
        assert_eq!(ask("GET_AGENT")["agent_info"]["id"], offer["agent_id"]);
        let version = ask("GET_VERSION")["version_info"]["version"].clone();
        assert!(version.as_str().unwrap().starts_with("1."), "{version}");
        assert!(
            ask("GET_FLAGS")["flags"]
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["name"] == "work_dir")
        );
        assert_eq!(ask("GET_LOGGING_LEVEL"), json!({"level": 0}));
        let metrics = ask("GET_METRICS")["metrics"].clone();
        assert!(metrics.as_array().unwrap().iter().any(|one| one["name"] == "slave/mem_used"));
        let frameworks = ask("GET_FRAMEWORKS")["frameworks"].clone();
        let info = &frameworks[0]["framework_info"];
        assert_eq!(info["id"], framework.id);
        for name in ["labels", "webui_url", "hostname"] {
            assert_eq!(info[name], shown[name], "{info}");
        }
        let tasks = || ask("GET_TASKS");
        let completed = || tasks()["completed_tasks"][0]["task_id"]["value"] == "over";
        eventually(completed, || tasks().to_string());
        let launched = tasks()["launched_tasks"].clone();
        let state = |name: &str| {
            let all = launched.as_array().unwrap().iter();
            all.clone().find(|one| one["task_id"]["value"] == name).unwrap()["state"].clone()
        };
        assert_eq!(
            (state("alone"), state("member")),
            (json!("TASK_RUNNING"), json!("TASK_RUNNING"))
        );
        let executors = ask("GET_EXECUTORS")["executors"].clone();
        let ids: Vec<&Value> = executors
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["executor_info"]["executor_id"]["value"])
            .collect();
        assert_eq!(ids, ["alone", "pod"]);
        let whole = ask("GET_STATE");
        assert_eq!(whole["get_tasks"]["launched_tasks"].as_array().unwrap().len(), 2);
        assert!(ask("GET_OPERATIONS").as_object().unwrap().is_empty());
        assert!(ask("GET_RESOURCE_PROVIDERS").as_object().unwrap().is_empty());
        let containers = |nested: bool| {
            let call = json!({"type": "GET_CONTAINERS", "get_containers": {"show_nested": nested}});
            told(port, path, &call)["containers"].as_array().unwrap().clone()
        };
        assert_eq!(containers(false).len(), 2);
        let inside: Vec<Value> = containers(true);
        let inside = inside.iter().find(|one| !one["container_id"]["parent"].is_null()).unwrap();
        assert_eq!(inside["executor_id"]["value"], "pod");
        assert!(inside["resource_statistics"]["timestamp"].as_f64().unwrap() > 1e9);
    }
    framework.accepted("TEARDOWN", &Value::Null);
    // What is over is remembered by both, with its tasks.
    let gone = |port: u16| read_at(port, "/state")["completed_frameworks"].clone();
    for port in [agent.port, master.port] {
        eventually(|| gone(port)[0]["id"] == framework.id["value"], || gone(port).to_string());
    }
    let tasks = &gone(master.port)[0]["completed_tasks"];
    assert!(tasks.as_array().unwrap().iter().any(|one| one["id"] == "over"), "{tasks}");
    let executors = gone(agent.port)[0]["completed_executors"].clone();
    let ids: Vec<&Value> = executors.as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert!(ids.contains(&&json!("over")) && ids.contains(&&json!("pod")), "{executors}");
    let told = told(agent.port, "/api/v1", &json!({"type": "GET_FRAMEWORKS"}));
    assert_eq!(told["completed_frameworks"][0]["framework_info"]["id"], framework.id);
    end(&world, master, agent);
}

#[test]
fn how_a_framework_describes_itself_is_known_to_its_agents_through_every_restart() {
    let world = World::new();
    let (mut master, mut agent) = cluster(&world);
    let shown = |tier: &str| json!({"labels": {"labels": [{"key": "tier", "value": tier}]}});
    let mut framework = Framework::subscribe(&master, &shown("a"));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "runs", "sleep 1000")]);
    while framework.status()["state"] != "TASK_RUNNING" {}
    let seen = |port: u16| {
        let told = read_at(port, "/state")["frameworks"][0].clone();
        told["labels"][0]["value"].as_str().unwrap_or_default().to_owned()
    };
    let port = agent.port;
    let is = |tier: &str| eventually(|| seen(port) == tier, || seen(port));
    is("a");
    agent.kill();
    agent.start();
    agent.process().says("registered with the master");
    is("a");
    let mut info = json!({"user": "root", "name": "it", "roles": ["*"], "failover_timeout": 60.0,
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}], "id": framework.id});
    info["user"] = read_at(master.port, "/state")["frameworks"][0]["user"].clone();
    info["labels"] = shown("b")["labels"].clone();
    let update = |info: &Value| {
        let answer = framework.call("UPDATE_FRAMEWORK", &json!({ "framework_info": info }));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    update(&info);
    is("b");
    // While its agent is away it changes again.
    agent.kill();
    info["labels"] = shown("c")["labels"].clone();
    update(&info);
    agent.start();
    agent.process().says("registered with the master");
    is("c");
    // Another master hears it from the framework.
    master.kill();
    master.start();
    let mut more = shown("d");
    more["id"] = framework.id.clone();
    let framework = Framework::subscribe(&master, &more);
    is("d");
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn files_of_sandboxes_are_listed_and_read_in_parts() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "writes", "printf 0123456789 > data")]);
    framework.end_of("writes");
    let sandbox = world.sandboxes(&agent.work_dir().display().to_string()).remove(0);
    let sandbox = sandbox.display().to_string();
    let list = json!({"type": "LIST_FILES", "list_files": {"path": sandbox}});
    let listed = told(agent.port, "/api/v1", &list)["file_infos"].clone();
    let data = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["path"].as_str().unwrap().ends_with("/data"));
    assert_eq!(data.unwrap()["size"], 10, "{listed}");
    let read = |more: Value| {
        let mut part = json!({"path": format!("{sandbox}/data"), "offset": 2});
        part.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        told(agent.port, "/api/v1", &json!({"type": "READ_FILE", "read_file": part}))
    };
    assert_eq!(read(json!({"length": 3})), json!({"size": 10, "data": "MjM0"}));
    assert_eq!(read(json!({}))["data"], "MjM0NTY3ODk=");
    for (call, code, words) in [
        (json!({"type": "LIST_FILES"}), 400, "Expecting 'list_files' to be present"),
        (json!({}), 400, "Expecting 'type' to be present"),
        (json!({"type": "PRUNE_IMAGES"}), 200, ""),
        (json!({"type": "LIST_FILES", "list_files": {"path": "/etc"}}), 404, "below a task's"),
        (
            json!({"type": "READ_FILE", "read_file": {"path": format!("{sandbox}/../../meta/key"),
                "offset": 0}}),
            404,
            "",
        ),
    ] {
        let answer = post(agent.port, "/api/v1", &[], &call);
        assert_eq!(answer.status, code, "{call}: {}", answer.text());
        assert!(answer.text().contains(words), "{call}: {}", answer.text());
    }
    end(&world, master, agent);
}

#[test]
fn the_level_of_logging_goes_back_by_itself() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    for port in [master.port, agent.port] {
        let set = |level: u32, seconds: i64| {
            let duration = json!({"nanoseconds": seconds * 1_000_000_000});
            let part = json!({"level": level, "duration": duration});
            let call = json!({"type": "SET_LOGGING_LEVEL", "set_logging_level": part});
            post(port, "/api/v1", &[], &call)
        };
        let level =
            || told(port, "/api/v1", &json!({"type": "GET_LOGGING_LEVEL"}))["level"].clone();
        assert_eq!(set(1, 1000).status, 200);
        assert_eq!(level(), 1);
        // The newest word counts.
        assert_eq!(set(2, 1).status, 200);
        assert_eq!(level(), 2);
        eventually(|| level() == 0, || level().to_string());
        assert_eq!(set(3, 1000).status, 200);
        assert_eq!(set(0, 1000).status, 200);
        assert_eq!(level(), 0);
        for (bad, words) in [(set(4, 1), "Invalid level '4'"), (set(1, -1), "duration")] {
            assert!(bad.status == 400 && bad.text().contains(words), "{}", bad.text());
        }
    }
    end(&world, master, agent);
}
