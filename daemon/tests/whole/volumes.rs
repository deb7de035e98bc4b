//! Reservations and persistent volumes: made by frameworks and operators, kept by agents through
//! whatever is killed, and shown to tasks.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::executors::{Executor, long};
use crate::http::{ask, post};
use crate::reads::read_at;
use crate::scheduler_api::{Framework, end, task};
use crate::world::{Agent, Master, World, eventually, is_root};

fn cluster(world: &World) -> (Master<'_>, Agent<'_>) {
    let master = world.master(&["--agent-timeout=3s"]);
    let agent = master.agent(&["--resources", "cpus:4;mem:1024;disk:1000"]);
    (master, agent)
}

fn subscribe(master: &Master<'_>, more: &Value) -> Framework {
    let mut info = json!({"roles": ["web"], "principal": "p", "capabilities": [
        {"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}, {"type": "RESERVATION_REFINEMENT"}]});
    info.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Framework::subscribe(master, &info)
}

/// So much of something that `role` has reserved by an operation.
fn reserved(name: &str, amount: f64, role: &str) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": amount},
           "reservations": [{"type": "DYNAMIC", "role": role, "principal": "p"}]})
}

fn volume(amount: f64, id: &str, path: &str) -> Value {
    let mut volume = reserved("disk", amount, "web");
    volume["disk"] = json!({"persistence": {"id": id, "principal": "p"},
                            "volume": {"container_path": path, "mode": "RW"}});
    volume
}

fn reserve(id: &str, resources: &[Value]) -> Value {
    json!({"type": "RESERVE", "id": {"value": id}, "reserve": {"resources": resources}})
}

fn create(id: &str, volumes: &[Value]) -> Value {
    json!({"type": "CREATE", "id": {"value": id}, "create": {"volumes": volumes}})
}

fn destroy(id: &str, volumes: &[Value]) -> Value {
    json!({"type": "DESTROY", "id": {"value": id}, "destroy": {"volumes": volumes}})
}

fn launch(tasks: &[Value]) -> Value {
    json!({"type": "LAUNCH", "launch": {"task_infos": tasks}})
}

fn accept(framework: &Framework, offer: &Value, operations: &[Value]) {
    framework.accepted(
        "ACCEPT",
        &json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0.1},
                "operations": operations}),
    );
}

/// A task on a volume.
fn on(offer: &Value, name: &str, command: &str, volume: &Value) -> Value {
    let mut task = task(offer, name, command);
    task["resources"].as_array_mut().unwrap().push(volume.clone());
    task
}

/// The next end of an operation.
fn operation(framework: &mut Framework) -> Value {
    framework.events.until("UPDATE_OPERATION_STATUS")["status"].clone()
}

fn acknowledge(framework: &Framework, status: &Value) {
    framework.accepted(
        "ACKNOWLEDGE_OPERATION_STATUS",
        &json!({"agent_id": status["agent_id"], "operation_id": status["operation_id"],
                "uuid": status["uuid"]["value"]}),
    );
}

/// Operations have ended, in whichever order; each is acknowledged.
fn finished(framework: &mut Framework, ids: &[&str]) {
    let mut left = ids.to_vec();
    while !left.is_empty() {
        let status = operation(framework);
        assert_eq!(status["state"], "OPERATION_FINISHED", "{status}");
        left.retain(|id| status["operation_id"]["value"] != *id);
        acknowledge(framework, &status);
    }
}

/// The next offer that has a volume of this size.
fn offer_with(framework: &mut Framework, size: f64) -> Value {
    loop {
        let offer = framework.offer();
        let has =
            |one: &Value| !one["disk"]["persistence"].is_null() && one["scalar"]["value"] == size;
        if offer["resources"].as_array().unwrap().iter().any(has) {
            return offer;
        }
    }
}

fn operations(master: &Master<'_>) -> Vec<Value> {
    let answer = post(master.port, "/api/v1", &[], &json!({"type": "GET_OPERATIONS"}));
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    told["get_operations"]["operations"].as_array().cloned().unwrap_or_default()
}

fn directory(agent: &Agent<'_>, id: &str) -> PathBuf {
    agent.work_dir().join("volumes/roles/web").join(id)
}

/// What a task that is over has printed.
fn printed(world: &World, master: &Master<'_>, task: &str) -> String {
    world.told(&["logs", "--master", &master.address(), task]).out
}

/// What an agent has, by its read endpoint.
fn agent_row(master: &Master<'_>) -> Value {
    read_at(master.port, "/slaves")["slaves"][0].clone()
}

#[test]
fn a_volume_outlives_tasks_agents_and_masters_until_it_is_destroyed() {
    let world = World::new();
    let (mut master, mut agent) = cluster(&world);
    let mut framework = subscribe(&master, &json!({}));
    let offer = framework.offer();
    let db = volume(100.0, "db", "data");
    accept(
        &framework,
        &offer,
        &[
            reserve("r", &[reserved("disk", 300.0, "web"), reserved("cpus", 1.0, "web")]),
            create("c", std::slice::from_ref(&db)),
            launch(&[on(&offer, "writer", "echo kept > data/file", &db)]),
        ],
    );
    finished(&mut framework, &["r"]);
    let created = operation(&mut framework);
    assert_eq!(created["converted_resources"][0]["disk"]["persistence"]["id"], "db", "{created}");
    let rows = operations(&master);
    let row = rows.iter().find(|row| row["info"]["type"] == "CREATE").unwrap();
    assert_eq!(row["info"]["id"]["value"], "c", "{row}");
    assert_eq!(row["latest_status"]["state"], "OPERATION_FINISHED", "{row}");
    let of_agent = post(agent.port, "/api/v1", &[], &json!({"type": "GET_OPERATIONS"})).text();
    assert!(of_agent.contains(r#""id":{"value":"c"}"#), "{of_agent}");
    let has = read_at(agent.port, "/state")["reserved_resources"]["web"]["disk"].clone();
    assert_eq!(has, 300.0);
    acknowledge(&framework, &created);
    eventually(|| operations(&master).is_empty(), || "no operation".to_owned());
    assert_eq!(framework.end_of("writer")["state"], "TASK_FINISHED");
    let file = directory(&agent, "db").join("file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept\n");
    assert_eq!(agent_row(&master)["reserved_resources"]["web"]["disk"], 300.0);
    // The agent is killed, and then the master.
    agent.kill();
    agent.start();
    agent.process().says("registered with the master");
    let offer = offer_with(&mut framework, 100.0);
    master.kill();
    drop(offer);
    master.start();
    let id = framework.id.clone();
    let mut framework = subscribe(&master, &json!({ "id": id }));
    let offer = offer_with(&mut framework, 100.0);
    // Wherever a task wants to find it.
    let elsewhere = volume(100.0, "db", "elsewhere");
    let reader = on(&offer, "reader", "cat elsewhere/file; test ! -e data", &elsewhere);
    // What it leaves is not offered alone, but with what comes back from it.
    framework.accepted(
        "ACCEPT",
        &json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 1000.0},
                "operations": [launch(&[reader])]}),
    );
    assert_eq!(framework.end_of("reader")["state"], "TASK_FINISHED");
    assert!(printed(&world, &master, "reader").contains("kept"));
    let offer = offer_with(&mut framework, 100.0);
    let unreserve = json!({"type": "UNRESERVE", "id": {"value": "u"}, "unreserve": {"resources":
        [reserved("disk", 300.0, "web"), reserved("cpus", 1.0, "web")]}});
    accept(&framework, &offer, &[destroy("d", &[db]), unreserve]);
    finished(&mut framework, &["d", "u"]);
    assert!(!directory(&agent, "db").exists());
    agent.kill();
    agent.start();
    agent.process().says("registered with the master");
    let plain = || agent_row(&master)["reserved_resources"] == json!({});
    eventually(plain, || agent_row(&master).to_string());
    assert_eq!(agent_row(&master)["resources"]["disk"], 1000.0);
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn the_end_of_an_operation_is_told_until_it_is_acknowledged_whoever_is_killed() {
    let world = World::new();
    let (mut master, mut agent) = cluster(&world);
    let mut framework = subscribe(&master, &json!({}));
    let offer = framework.offer();
    let bad = reserve("bad", &[reserved("disk", 1.0, "other")]);
    accept(&framework, &offer, &[bad, reserve("r", &[reserved("disk", 10.0, "web")])]);
    let status = operation(&mut framework);
    assert_eq!(status["state"], "OPERATION_ERROR", "{status}");
    assert!(status["uuid"].is_null() && !status["message"].is_null(), "{status}");
    let first = operation(&mut framework);
    assert_eq!(first["state"], "OPERATION_FINISHED", "{first}");
    let counts = |master: &Master<'_>| {
        let told = read_at(master.port, "/metrics/snapshot");
        ["finished", "reserve/finished", "reserve/total", "create/total"]
            .map(|name| told[&format!("master/operations/{name}")].clone())
    };
    assert_eq!(counts(&master), [1.0, 1.0, 1.0, 0.0]);
    agent.kill();
    agent.start();
    let again = operation(&mut framework);
    assert_eq!((&again["uuid"], &again["state"]), (&first["uuid"], &first["state"]), "{again}");
    master.kill();
    master.start();
    let id = framework.id.clone();
    let mut framework = subscribe(&master, &json!({ "id": id }));
    let ask = |framework: &Framework, operations: Value| {
        framework.accepted("RECONCILE_OPERATIONS", &json!({ "operations": operations }));
    };
    // It may have been told before there was anybody to hear it.
    eventually(|| operations(&master).len() == 1, || "the operation".to_owned());
    ask(&framework, json!([]));
    let mut told = operation(&mut framework);
    assert_eq!(told["state"], "OPERATION_FINISHED", "{told}");
    while told["uuid"].is_null() {
        agent.kill();
        agent.start();
        told = operation(&mut framework);
    }
    assert_eq!(told["uuid"], first["uuid"]);
    acknowledge(&framework, &told);
    eventually(|| operations(&master).is_empty(), || "no operation".to_owned());
    assert_eq!(counts(&master), [0.0; 4]);
    ask(&framework, json!([{"operation_id": {"value": "r"}, "agent_id": told["agent_id"]}]));
    loop {
        let told = operation(&mut framework);
        // What was told again meanwhile may still come.
        if told["state"] == "OPERATION_UNKNOWN" {
            break;
        }
    }
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn operators_reserve_what_is_offered_and_make_volumes_of_it() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = subscribe(&master, &json!({}));
    let offer = framework.offer();
    let id = offer["agent_id"].clone();
    let call = |kind: &str, more: &Value| {
        let mut call = json!({"type": kind});
        let mut own = json!({ "agent_id": id });
        own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        call[kind.to_lowercase()] = own;
        let answer = post(master.port, "/api/v1", &[], &call);
        (answer.status, answer.text())
    };
    let done = (202, String::new());
    let two = json!({"resources": [reserved("disk", 200.0, "web"), reserved("cpus", 2.0, "web")]});
    assert_eq!(call("RESERVE_RESOURCES", &two), done);
    let rescinded = framework.events.until("RESCIND")["offer_id"].clone();
    assert_eq!(rescinded, offer["id"]);
    let much = json!({"resources": [reserved("cpus", 3.0, "web")]});
    assert_eq!(call("RESERVE_RESOURCES", &much).0, 409);
    let plain = json!({"resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}]});
    assert_eq!(call("RESERVE_RESOURCES", &plain).0, 400);
    let anyone = call("RESERVE_RESOURCES", &json!({"resources": [reserved("cpus", 1.0, "*")]}));
    let words = "Invalid reservation: role \"*\" cannot be reserved";
    assert!(anyone.0 == 400 && anyone.1.contains(words), "{anyone:?}");
    let db = volume(100.0, "db", "data");
    assert_eq!(call("CREATE_VOLUMES", &json!({ "volumes": [db] })), done);
    assert!(directory(&agent, "db").is_dir());
    assert_eq!(call("CREATE_VOLUMES", &json!({ "volumes": [db] })).0, 400);
    std::fs::write(directory(&agent, "db").join("file"), "").unwrap();
    let more = json!({"volume": db, "addition": reserved("disk", 50.0, "web")});
    assert_eq!(call("GROW_VOLUME", &more), done);
    let less = json!({"volume": volume(150.0, "db", "data"), "subtract": {"value": 30.0}});
    assert_eq!(call("SHRINK_VOLUME", &less), done);
    let grown = volume(120.0, "db", "data");
    let offer = offer_with(&mut framework, 120.0);
    let sleeps = on(&offer, "sleeps", "test -e data/file && sleep 1000", &grown);
    accept(&framework, &offer, &[launch(&[sleeps])]);
    while framework.status()["state"] != "TASK_RUNNING" {}
    let (status, why) = call("DESTROY_VOLUMES", &json!({ "volumes": [grown] }));
    assert!(status == 409 && why.contains("uses"), "{status} {why}");
    framework.accepted("KILL", &json!({"task_id": {"value": "sleeps"}}));
    assert_eq!(framework.end_of("sleeps")["state"], "TASK_KILLED");
    // As it was before the v1 API.
    let form = |path: &str, field: &str, list: Value| {
        let agent = id["value"].as_str().unwrap();
        let list: String = list.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
        let body = format!("slaveId={agent}&{field}={list}");
        let answer = ask(master.port, "POST", path, &[], body.as_bytes());
        (answer.status, answer.text())
    };
    assert_eq!(form("/master/destroy-volumes", "volumes", json!([grown])), done);
    assert!(!directory(&agent, "db").exists());
    let half = json!([reserved("disk", 200.0, "web")]);
    assert_eq!(form("/unreserve", "resources", half), done);
    assert_eq!(form("/reserve", "resources", json!("nonsense")).0, 400);
    let nobody = ask(master.port, "POST", "/reserve", &[], b"slaveId=x&resources=%5B%5D");
    assert_eq!((nobody.status, nobody.text().as_str()), (400, "No agent found with specified ID"));
    // What is reserved in one way is reserved in another.
    let again = |from: &str, to: &str| {
        let (from, to) = (reserved("cpus", 2.0, from), reserved("cpus", 2.0, to));
        call("RESERVE_RESOURCES", &json!({ "source": [from], "resources": [to] }))
    };
    assert_eq!(again("web", "db"), done);
    let told = agent_row(&master)["reserved_resources"].clone();
    assert_eq!((&told["db"]["cpus"], &told["web"]), (&json!(2.0), &Value::Null), "{told}");
    assert_ne!(again("web", "db").0, 202, "there is none any more");
    assert_eq!(again("db", "db").0, 400);
    assert_eq!(again("db", "web"), done);
    let reserved = || agent_row(&master)["reserved_resources"].clone();
    assert_eq!(reserved(), json!({"web": {"cpus": 2.0, "disk": 0.0, "gpus": 0.0, "mem": 0.0}}));
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn a_framework_reserves_otherwise_what_it_has_reserved_and_goes_on_in_the_same_call() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let mut framework = subscribe(&master, &json!({}));
    let offer = framework.offer();
    let labelled = |value: &str| {
        let mut cpus = reserved("cpus", 2.0, "web");
        cpus["reservations"][0]["labels"] = json!({"labels": [{"key": "for", "value": value}]});
        cpus
    };
    let moved = |id: &str, from: &str, to: &str| {
        let reserve = json!({"source": [labelled(from)], "resources": [labelled(to)]});
        json!({"type": "RESERVE", "id": {"value": id}, "reserve": reserve})
    };
    let mut task = task(&offer, "runs", "true");
    let mut one = labelled("b");
    one["scalar"]["value"] = json!(1.0);
    task["resources"].as_array_mut().unwrap().retain(|of| of["name"] != "cpus");
    task["resources"].as_array_mut().unwrap().push(one);
    let operations = [
        reserve("r", &[labelled("a")]),
        moved("m", "a", "b"),
        moved("gone", "a", "c"),
        moved("same", "b", "b"),
        launch(&[task]),
    ];
    accept(&framework, &offer, &operations);
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < 4 {
        let event = framework.events.event().unwrap();
        let status = &event["update_operation_status"]["status"];
        if let Some(id) = status["operation_id"]["value"].as_str() {
            ends.insert(id.to_owned(), status["state"].as_str().unwrap().to_owned());
        }
    }
    let ended = |id: &str| ends[id].as_str();
    assert_eq!((ended("r"), ended("m")), ("OPERATION_FINISHED", "OPERATION_FINISHED"));
    assert_eq!((ended("gone"), ended("same")), ("OPERATION_ERROR", "OPERATION_ERROR"));
    // The agent has kept it.
    agent.kill();
    agent.start();
    agent.process().says("registered with the master");
    let kept = || read_at(agent.port, "/state")["reserved_resources_full"].to_string();
    let is = || kept().contains(r#""value":"b""#) && !kept().contains(r#""value":"a""#);
    eventually(is, kept);
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn an_agent_with_less_than_is_kept_on_it_does_not_start_and_loses_nothing() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let mut framework = subscribe(&master, &json!({}));
    let offer = framework.offer();
    let db = volume(600.0, "db", "data");
    let operations =
        [reserve("r", &[reserved("disk", 600.0, "web")]), create("c", std::slice::from_ref(&db))];
    accept(&framework, &offer, &operations);
    finished(&mut framework, &["r", "c"]);
    std::fs::write(directory(&agent, "db").join("file"), "").unwrap();
    agent.terminate();
    agent.now_with(&["--resources", "cpus:4;mem:1024;disk:500"]);
    let said = world.start(agent.command()).end();
    assert!(said.status == 1 && said.err.contains("--resources"), "{} {}", said.status, said.err);
    agent.now_with(&["--resources", "cpus:4;mem:1024;disk:2000"]);
    agent.start();
    agent.process().says("registered with the master");
    let offer = offer_with(&mut framework, 600.0);
    let task = on(&offer, "finds", "test -e data/file", &db);
    accept(&framework, &offer, &[launch(&[task])]);
    assert_eq!(framework.end_of("finds")["state"], "TASK_FINISHED");
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn each_task_of_a_group_has_its_own_volume() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = subscribe(&master, &json!({}));
    let offer = framework.offer();
    let (a, b) = (volume(10.0, "a", "data"), volume(10.0, "b", "data"));
    let executor = json!({"type": "DEFAULT", "executor_id": {"value": "pod"}, "resources": [
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
        {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}]});
    let tasks =
        [on(&offer, "a", "echo a > data/file", &a), on(&offer, "b", "echo b > data/file", &b)];
    let group = json!({"type": "LAUNCH_GROUP",
        "launch_group": {"executor": executor, "task_group": {"tasks": tasks}}});
    let kept = [reserve("r", &[reserved("disk", 20.0, "web")]), create("c", &[a, b]), group];
    accept(&framework, &offer, &kept);
    let mut ended = 0;
    while ended < 2 {
        let status = framework.status();
        assert_ne!(status["state"], "TASK_FAILED", "{status}");
        ended += i32::from(status["state"] == "TASK_FINISHED");
    }
    for id in ["a", "b"] {
        let file = directory(&agent, id).join("file");
        assert_eq!(std::fs::read_to_string(file).unwrap(), format!("{id}\n"));
    }
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

/// The same volume, only to be read.
fn to_be_read(volume: &Value) -> Value {
    let mut volume = volume.clone();
    volume["disk"]["volume"]["mode"] = json!("RO");
    volume
}

/// An offer of all that the agent has, a volume among it.
fn all_of_it(framework: &mut Framework) -> Value {
    loop {
        let offer = framework.offer();
        let resources = offer["resources"].as_array().unwrap();
        let mut cpus = 0.0;
        for one in resources.iter().filter(|one| one["name"] == "cpus") {
            cpus += one["scalar"]["value"].as_f64().unwrap();
        }
        if cpus > 3.9 && resources.iter().any(|one| !one["disk"]["persistence"].is_null()) {
            return offer;
        }
        let refused = json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}});
        framework.accepted("DECLINE", &refused);
    }
}

#[test]
fn who_holds_a_volume_to_read_it_cannot_write_there_by_any_path() {
    let world = World::new();
    // Offers that come while statuses are waited for are taken back soon.
    let master = world.master(&["--offer-timeout=2s"]);
    let agent = master.agent(&["--resources", "cpus:4;mem:1024;disk:1000"]);
    let mut framework = subscribe(&master, &json!({}));
    let offer = framework.offer();
    let db = volume(10.0, "db", "data");
    let read = to_be_read(&db);
    // It is made to be written to, and each says how it uses it.
    let operations = [
        reserve("r", &[reserved("disk", 10.0, "web")]),
        create("no", std::slice::from_ref(&read)),
        create("c", std::slice::from_ref(&db)),
        launch(&[on(&offer, "writer", "echo kept > data/file", &db)]),
    ];
    accept(&framework, &offer, &operations);
    let refused = operation(&mut framework);
    assert_eq!(refused["operation_id"]["value"], "no", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("mode RO"), "{refused}");
    finished(&mut framework, &["r", "c"]);
    assert_eq!(framework.end_of("writer")["state"], "TASK_FINISHED");
    let id = offer["agent_id"].clone();
    let asked = json!({"type": "CREATE_VOLUMES",
        "create_volumes": {"agent_id": id, "volumes": [to_be_read(&volume(1.0, "x", "data"))]}});
    let refused = post(master.port, "/api/v1", &[], &asked);
    assert!(refused.status == 400 && refused.text().contains("mode RO"), "{}", refused.text());
    // Whoever it runs as, by the name in its sandbox and by the machine's own.
    let own = directory(&agent, "db").display().to_string();
    let script = format!(
        "grep kept data/file && grep kept {own}/file && ! touch data/x && ! touch {own}/x && \
         ! rm -f data/file && sleep 1000"
    );
    let offer = all_of_it(&mut framework);
    accept(&framework, &offer, &[launch(&[on(&offer, "reader", &script, &read)])]);
    while framework.status()["state"] != "TASK_RUNNING" {}
    let mode_at = |port: u16, kind: &str, list: &str| {
        let told = post(port, "/api/v1", &[], &json!({ "type": kind })).text();
        let told: Value = serde_json::from_str(&told).unwrap();
        let tasks = told[kind.to_lowercase()][list].as_array().unwrap().clone();
        let task = tasks.iter().find(|task| task["task_id"]["value"] == "reader").unwrap();
        let resources = task["resources"].as_array().unwrap();
        let disk = resources.iter().find(|one| !one["disk"].is_null()).unwrap();
        disk["disk"]["volume"]["mode"].clone()
    };
    assert_eq!(mode_at(master.port, "GET_TASKS", "tasks"), "RO");
    assert_eq!(mode_at(agent.port, "GET_TASKS", "launched_tasks"), "RO");
    let shown = || printed(&world, &master, "reader");
    eventually(|| shown().matches("kept").count() == 2, shown);
    framework.accepted("KILL", &json!({"task_id": {"value": "reader"}}));
    assert_eq!(framework.end_of("reader")["state"], "TASK_KILLED");
    // In a task group as well, and an executor's own.
    let offer = all_of_it(&mut framework);
    let pod = json!({"type": "DEFAULT", "executor_id": {"value": "pod"}, "resources": [
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
        {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}]});
    let in_group = on(&offer, "in-group", "grep kept data/file && ! touch data/x", &read);
    let group = json!({"type": "LAUNCH_GROUP",
        "launch_group": {"executor": pod, "task_group": {"tasks": [in_group]}}});
    accept(&framework, &offer, &[group]);
    let ended = framework.end_of("in-group");
    assert_eq!(ended["state"], "TASK_FINISHED", "{ended}");
    let offer = all_of_it(&mut framework);
    let script = "touch data/x && echo no > seen || grep kept data/file > seen; exec sleep 1000";
    let executor = json!({"executor_id": {"value": "x"}, "command": {"value": script},
        "resources": [read]});
    let given = |name: &str, resources: &[Value]| {
        let mut task = task(&offer, name, "true");
        task.as_object_mut().unwrap().remove("command");
        task["executor"] = executor.clone();
        task["resources"].as_array_mut().unwrap().extend(resources.iter().cloned());
        task
    };
    accept(&framework, &offer, &[launch(&[given("brings", std::slice::from_ref(&read))])]);
    let refused = framework.end_of("brings");
    assert_eq!(refused["state"], "TASK_ERROR", "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("'CUSTOM' executor"), "{message}");
    let offer = all_of_it(&mut framework);
    let mut own = given("own", &[]);
    own["agent_id"] = offer["agent_id"].clone();
    accept(&framework, &offer, &[launch(&[own])]);
    let seen = || {
        let told = read_at(agent.port, "/state");
        let directory = told["frameworks"][0]["executors"][0]["directory"].as_str()?.to_owned();
        std::fs::read_to_string(PathBuf::from(directory).join("seen")).ok()
    };
    eventually(|| seen().is_some_and(|seen| seen == "kept\n"), || format!("{:?}", seen()));
    let executors = post(master.port, "/api/v1", &[], &json!({"type": "GET_EXECUTORS"})).text();
    assert!(executors.contains(r#""mode":"RO""#), "{executors}");
    framework.accepted("TEARDOWN", &Value::Null);
    assert!(!directory(&agent, "db").join("x").exists());
    end(&world, master, agent);
}

#[test]
fn rules_and_what_this_release_does_not_do_keep_operations_and_tasks_from_being_done() {
    let world = World::new();
    let rules = json!({"reserve_resources": [
        {"principals": {"values": ["p"]}, "roles": {"type": "NONE"}}]});
    let master = world.master(&["--acls", &rules.to_string()]);
    let agent = master.agent(&["--resources", "cpus:4;mem:1024;disk:1000"]);
    let mut framework = subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut of_host = volume(50.0, "db", "data");
    of_host["disk"]["volume"]["host_path"] = json!("/etc");
    let operations = [
        reserve("r", &[reserved("disk", 50.0, "web")]),
        launch(&[on(&offer, "reads", "true", &of_host)]),
    ];
    accept(&framework, &offer, &operations);
    let denied = operation(&mut framework);
    assert_eq!(denied["state"], "OPERATION_ERROR", "{denied}");
    assert!(denied["message"].as_str().unwrap().contains("Not authorized"), "{denied}");
    let status = framework.end_of("reads");
    assert_eq!(status["state"], "TASK_ERROR", "{status}");
    assert!(status["message"].as_str().unwrap().contains("host_path"), "{status}");
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn a_volume_without_a_directory_is_none_and_what_it_was_made_of_is_there_again() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = subscribe(&master, &json!({}));
    let offer = framework.offer();
    // Something is in the way.
    std::fs::write(agent.work_dir().join("volumes"), "").unwrap();
    let db = volume(50.0, "db", "data");
    let both =
        [reserve("r", &[reserved("disk", 50.0, "web")]), create("c", std::slice::from_ref(&db))];
    accept(&framework, &offer, &both);
    let (mut ends, mut offers) = (Vec::new(), Vec::new());
    let mut hear = |framework: &mut Framework, ends: &mut Vec<Value>| {
        let event = framework.events.event().unwrap();
        let status = &event["update_operation_status"]["status"];
        ends.extend(Some(status.clone()).filter(|status| !status.is_null()));
        let new = event["offers"]["offers"].as_array().cloned().unwrap_or_default();
        offers.extend(new);
        offers.last().cloned()
    };
    let mut newest = None;
    while ends.len() < 2 {
        newest = hear(&mut framework, &mut ends);
    }
    let failed = ends.iter().find(|status| status["operation_id"]["value"] == "c").unwrap();
    assert_eq!(failed["state"], "OPERATION_FAILED", "{failed}");
    assert!(failed["message"].as_str().unwrap().contains("volumes"), "{failed}");
    ends.iter().for_each(|status| acknowledge(&framework, status));
    std::fs::remove_file(agent.work_dir().join("volumes")).unwrap();
    // The disk is still reserved, and a volume can be made of it now.
    let reserved = |one: &Value| !one["reservations"].is_null() && one["disk"].is_null();
    let has = |offer: &Value| offer["resources"].as_array().unwrap().iter().any(reserved);
    while !newest.as_ref().is_some_and(has) {
        newest = hear(&mut framework, &mut ends);
    }
    let offer = newest.unwrap();
    accept(&framework, &offer, &[create("again", &[db])]);
    finished(&mut framework, &["again"]);
    assert!(directory(&agent, "db").is_dir());
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn a_custom_executor_finds_the_volumes_of_its_tasks_in_its_sandbox() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = subscribe(&master, &json!({}));
    let offer = framework.offer();
    let db = volume(50.0, "db", "data");
    let theirs = agent.work_dir().join("volumes/roles/other/theirs");
    std::fs::create_dir_all(&theirs).unwrap();
    std::fs::write(theirs.join("secret"), "precious").unwrap();
    // It never speaks to its agent, but it looks around.
    let line = format!(
        "cat {0}/secret > data/found; echo x > {0}/written; echo seen > data/file; exec sleep 1000",
        theirs.display()
    );
    let executor = json!({"executor_id": {"value": "x"}, "command": {"value": line}});
    let mut task = on(&offer, "one", "true", &db);
    task.as_object_mut().unwrap().remove("command");
    task["executor"] = executor;
    let kept = [
        reserve("r", &[reserved("disk", 50.0, "web")]),
        create("c", std::slice::from_ref(&db)),
        launch(&[task]),
    ];
    accept(&framework, &offer, &kept);
    let file = directory(&agent, "db").join("file");
    eventually(|| file.exists(), || file.display().to_string());
    assert!(!theirs.join("written").exists());
    // Who has no mounts of its own reads what its user may.
    if is_root() {
        let found = std::fs::read_to_string(directory(&agent, "db").join("found")).unwrap();
        assert_eq!(found, "");
    }
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
    drop(framework);
}

#[test]
fn a_custom_executor_has_the_volume_of_a_task_only_as_long_as_that_lives() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = subscribe(&master, &json!({}));
    let offer = framework.offer();
    // What comes back is offered once it is asked for, all together.
    framework.accepted("SUPPRESS", &Value::Null);
    let volumes = ["va", "vb", "vc"].map(|id| volume(50.0, id, "data"));
    let under = |offer: &Value, name: &str, volume: &Value| {
        let mut task = on(offer, name, "", volume);
        task.as_object_mut().unwrap().remove("command");
        task["executor"] = json!({"executor_id": {"value": "x"}, "command": {"value": long(&world)},
                   "resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}]});
        task
    };
    let operations = [
        reserve("r", &[reserved("disk", 150.0, "web")]),
        create("c", &volumes),
        launch(&[under(&offer, "ta", &volumes[0]), under(&offer, "tc", &volumes[2])]),
    ];
    accept(&framework, &offer, &operations);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!(executor.given(), "ta");
    // Another one at the same place is somewhere else.
    let status = framework.end_of("tc");
    assert_eq!(status["reason"], "REASON_CONTAINER_UPDATE_FAILED", "{status}");
    assert!(status["message"].as_str().unwrap().contains("another one is at 'data'"), "{status}");
    let told = read_at(agent.port, "/state");
    let sandbox = told["frameworks"][0]["executors"][0]["directory"].as_str().unwrap().to_owned();
    let shown = || std::fs::read_link(PathBuf::from(&sandbox).join("data")).ok();
    assert_eq!(shown(), Some(directory(&agent, "va")));
    assert_eq!(executor.tell("ta", "TASK_FINISHED").status, 202);
    assert_eq!(framework.end_of("ta")["state"], "TASK_FINISHED");
    eventually(|| shown().is_none(), || format!("{:?}", shown()));
    framework.accepted("REVIVE", &Value::Null);
    let offer = offer_with(&mut framework, 50.0);
    accept(&framework, &offer, &[launch(&[under(&offer, "tb", &volumes[1])])]);
    assert_eq!(executor.given(), "tb");
    assert_eq!(shown(), Some(directory(&agent, "vb")));
    framework.accepted("TEARDOWN", &Value::Null);
    executor.events.until("SHUTDOWN");
    end(&world, master, agent);
}

/// As many volumes as fit: what an agent accepted it can read back, and take back.
#[test]
fn an_agent_full_of_volumes_starts_again_and_can_be_emptied() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    eventually(|| agent_row(&master)["id"].is_string(), || "an agent".to_owned());
    let id = agent_row(&master)["id"].clone();
    let call = |kind: &str, field: &str, list: &[Value]| {
        let own = json!({ "agent_id": { "value": id }, field: list });
        let call = json!({ "type": kind, kind.to_lowercase(): own });
        let answer = post(master.port, "/api/v1", &[], &call);
        (answer.status, answer.text())
    };
    let disk = reserved("disk", 200.0, "web");
    assert_eq!(call("RESERVE_RESOURCES", "resources", std::slice::from_ref(&disk)).0, 202);
    let named = |number: usize| volume(1.0, &format!("v{number}"), "data");
    let twice = [named(0), named(0)];
    assert_eq!(call("CREATE_VOLUMES", "volumes", &twice).0, 400, "one volume of each id");
    let full = |(status, why): (u16, String)| {
        let full = status != 202;
        assert!(!full || why.contains("identity"), "{status} {why}");
        full
    };
    let made = (0..1_000).find(|number| full(call("CREATE_VOLUMES", "volumes", &[named(*number)])));
    let made = made.unwrap();
    assert!(made > 100, "{made} volumes");
    agent.kill();
    agent.start();
    agent.process().says("registered with the master");
    eventually(|| agent_row(&master)["active"] == true, || "the agent".to_owned());
    for number in 0..made {
        let gone = call("DESTROY_VOLUMES", "volumes", &[named(number)]);
        assert_eq!(gone.0, 202, "{number} of {made}: {}", gone.1);
    }
    assert_eq!(call("UNRESERVE_RESOURCES", "resources", &[disk]).0, 202);
    end(&world, master, agent);
}
