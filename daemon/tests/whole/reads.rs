//! What dashboards, exporters and operators read.

use serde_json::{Value, json};

use crate::http::{Records, ask, post};
use crate::scheduler_api::{self, Framework};
use crate::world::{Agent, Master, World, eventually};

fn cluster(world: &World) -> (Master<'_>, Agent<'_>) {
    let master = world.master(&[]);
    let agent = master.agent(&[
        "--resources",
        "cpus:2;mem:1024;disk:64;ports:[31000-31009]",
        "--attributes",
        "rack:a;level:1.5;free:[1-2,5-6]",
    ]);
    (master, agent)
}

fn end(world: &World, master: Master<'_>, agent: Agent<'_>) {
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

fn read(master: &Master<'_>, path: &str) -> Value {
    let answer = ask(master.port, "GET", path, &[], b"");
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/json")));
    serde_json::from_str(&answer.text()).unwrap_or_else(|_| panic!("{path}: {}", answer.text()))
}

pub(crate) fn operate(master: &Master<'_>, kind: &str) -> Value {
    operate_at(master.port, kind)
}

pub(crate) fn operate_at(port: u16, kind: &str) -> Value {
    let answer = post(port, "/api/v1", &[], &json!({"type": kind}));
    assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
    let value: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(value["type"], kind);
    value[kind.to_lowercase()].clone()
}

#[test]
fn an_agent_names_its_master_as_that_is_called() {
    let world = World::new();
    let master = world.master(&["--hostname=called.example"]);
    let agent = master.agent(&[]);
    let named = || read_at(agent.port, "/state")["master_hostname"].clone();
    eventually(|| named() == "called.example", || named().to_string());
    end(&world, master, agent);
}

#[test]
fn what_runs_is_told_where_mesos_tells_it() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    assert_eq!(master.run(&["--name", "over", "--", "true"]).end().status, 0);
    let flags = ["--name", "runs", "--resources", "cpus:0.5;mem:64;ports:[31003-31004]"];
    let run = master.run(&[&flags[..], &["--", "sleep", "1000"]].concat());
    run.says("TASK_RUNNING");

    let state = read(&master, "/master/state");
    let slave = &state["slaves"][0];
    assert_eq!(slave["resources"]["cpus"], 2.0);
    assert_eq!(slave["used_resources"]["ports"], "[31003-31004]");
    let attributes = ["rack", "level", "free"].map(|name| slave["attributes"][name].clone());
    assert_eq!(attributes, [json!("a"), json!(1.5), json!("[1-2, 5-6]")]);
    let full = read(&master, "/slaves")["slaves"][0].clone();
    assert_eq!(full["used_resources_full"][0]["allocation_info"]["role"], "*");
    assert_eq!(full["unreserved_resources_full"][0]["scalar"]["value"], 2.0);
    assert_eq!(full["reserved_resources_full"], json!({}));
    assert_eq!((&slave["active"], &slave["port"]), (&json!(true), &json!(agent.port)));
    let framework = &state["frameworks"][0];
    assert_eq!((&framework["name"], &framework["active"]), (&json!("runs"), &json!(true)));
    let task = &framework["tasks"][0];
    assert_eq!((&task["name"], &task["state"]), (&json!("runs"), &json!("TASK_RUNNING")));
    assert_eq!(task["slave_id"], slave["id"]);
    assert_eq!(task["resources"]["mem"], 64.0);
    let states: Vec<&Value> =
        task["statuses"].as_array().unwrap().iter().map(|status| &status["state"]).collect();
    assert_eq!(states, ["TASK_STARTING", "TASK_RUNNING"]);
    assert_eq!(state["leader_info"]["port"], master.port);
    assert_eq!(state["flags"]["port"], master.port.to_string());
    assert_eq!(read(&master, "/state.json")["id"], state["id"]);

    let summary = read(&master, "/state-summary");
    assert_eq!(summary["slaves"][0]["TASK_RUNNING"], 1);
    assert_eq!(summary["frameworks"][0]["slave_ids"][0], slave["id"]);
    assert_eq!(read(&master, "/slaves")["slaves"][0]["id"], slave["id"]);
    assert_eq!(read(&master, "/slaves?slave_id=nobody")["slaves"], json!([]));
    assert_eq!(read(&master, "/frameworks")["frameworks"][0]["id"], framework["id"]);
    let role = read(&master, "/roles")["roles"][0].clone();
    assert_eq!((&role["name"], &role["allocated"]["cpus"]), (&json!("*"), &json!(0.5)));
    assert_eq!((&role["quota"]["consumed"]["mem"], &role["reserved"]), (&json!(64.0), &json!({})));
    let tasks = |query: &str| read(&master, &format!("/tasks{query}"))["tasks"].clone();
    assert_eq!(tasks("")[0]["name"], "runs");
    assert_eq!(tasks("?order=asc")[0]["name"], "over");
    assert_eq!(tasks("?order=asc")[0]["state"], "TASK_FINISHED");
    assert_eq!(tasks("?limit=1&offset=1")[0]["name"], "over");
    assert_eq!(tasks("?task_id=nobody"), json!([]));
    let metrics = read(&master, "/metrics/snapshot");
    assert_eq!(metrics["master/tasks_running"], 1.0);
    assert_eq!(metrics["master/tasks_finished"], 1.0);
    assert_eq!(metrics["master/cpus_percent"], 0.25);
    assert_eq!(metrics["master/slaves_active"], 1.0);
    assert_eq!(metrics["master/slave_registrations"], 1.0);
    assert!(metrics["master/messages_launch_tasks"].as_f64() >= Some(2.0));
    assert_eq!(metrics["allocator/mesos/resources/cpus/total"], 2.0);
    assert!(metrics["system/mem_total_bytes"].as_f64() > Some(0.0));
    let metrics = read_at(agent.port, "/metrics/snapshot");
    assert_eq!(metrics["slave/tasks_finished"], 1.0);
    assert_eq!(
        (&metrics["slave/executors_running"], &metrics["slave/executors_terminated"]),
        (&json!(1.0), &json!(1.0))
    );
    assert_eq!(metrics["gc/path_removals_failed"], 0.0);

    let whole = ask(master.port, "GET", "/state", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!(whole.header("Content-Encoding"), Some("gzip"));
    let unpacked: Value =
        serde_json::from_reader(flate2::read::GzDecoder::new(&*whole.body)).unwrap();
    assert_eq!(unpacked["id"], state["id"]);
    let wrapped = ask(master.port, "GET", "/state?jsonp=angular.callbacks._0", &[], b"");
    assert_eq!(wrapped.header("Content-Type"), Some("text/javascript"));
    assert!(wrapped.text().starts_with("angular.callbacks._0({"), "{}", wrapped.text());
    assert!(wrapped.text().ends_with("});"));
    for path in ["/version", "/health", "/system/stats.json"] {
        let wrapped = ask(master.port, "GET", &format!("{path}?jsonp=told"), &[], b"").text();
        assert!(wrapped.starts_with("told({") && wrapped.ends_with("});"), "{wrapped}");
    }
    // What is no name of a function is none.
    let unwrapped = ask(master.port, "GET", "/state?jsonp=alert(1)//", &[], b"");
    assert_eq!(unwrapped.header("Content-Type"), Some("application/json"));
    let redirect = ask(master.port, "GET", "/redirect", &[], b"");
    let here = format!("//127.0.0.1:{}", master.port);
    assert_eq!((redirect.status, redirect.header("Location")), (307, Some(here.as_str())));
    assert_eq!(ask(master.port, "POST", "/state", &[], b"").status, 405);
    assert_eq!(ask(master.port, "GET", "/machine/down", &[], b"").status, 405);
    assert_eq!(read(&master, "/files/debug"), json!({}));
    assert!(read(&master, "/system/stats.json")["mem_total_bytes"].as_u64() > Some(0));
    for (port, path) in [(master.port, "/master/health"), (agent.port, "/slave(1)/health")] {
        assert_eq!(read_at(port, path)["healthy"], true);
    }

    run.signal(crate::world::Signal::INT);
    run.end();
    end(&world, master, agent);
}

#[test]
fn an_operator_reads_the_same_by_the_v1_api() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let run =
        master.run(&["--name", "runs", "--resources", "cpus:1;mem:64", "--", "sleep", "1000"]);
    run.says("TASK_RUNNING");
    assert_eq!(operate(&master, "GET_HEALTH")["healthy"], true);
    let agents = operate(&master, "GET_AGENTS")["agents"].clone();
    assert_eq!(agents[0]["active"], true);
    let attributes = agents[0]["agent_info"]["attributes"].as_array().unwrap();
    assert!(attributes.iter().any(|one| one["name"] == "rack" && one["text"]["value"] == "a"));
    let used: Vec<&Value> = agents[0]["allocated_resources"].as_array().unwrap().iter().collect();
    assert!(
        used.iter().any(|one| one["name"] == "cpus" && one["scalar"]["value"] == 1.0),
        "{used:?}"
    );
    let frameworks = operate(&master, "GET_FRAMEWORKS")["frameworks"].clone();
    assert_eq!(frameworks[0]["framework_info"]["name"], "runs");
    let tasks = operate(&master, "GET_TASKS")["tasks"].clone();
    assert_eq!(tasks[0]["state"], "TASK_RUNNING");
    assert_eq!(tasks[0]["statuses"][1]["container_status"]["container_id"]["value"], "1-1");
    let status = &tasks[0]["statuses"][1];
    assert_eq!(status["executor_id"], tasks[0]["task_id"]);
    assert_eq!(
        (&status["uuid"], status["uuid"].is_string()),
        (&tasks[0]["status_update_uuid"], true)
    );
    let address = &status["container_status"]["network_infos"][0]["ip_addresses"][0];
    assert_eq!(address, &json!({"protocol": "IPv4", "ip_address": "127.0.0.1"}));
    let state = operate(&master, "GET_STATE");
    assert_eq!(state["get_tasks"]["tasks"], tasks);
    assert_eq!(operate(&master, "GET_ROLES")["roles"][0]["name"], "*");
    let info = operate(&master, "GET_MASTER")["master_info"].clone();
    assert_eq!(
        (&info["port"], &info["capabilities"][2]["type"]),
        (&json!(master.port), &json!("QUOTA_V2"))
    );
    assert_eq!(operate(&master, "GET_VERSION")["version_info"]["version"], "1.11.0");
    for kind in ["GET_FLAGS", "GET_METRICS", "GET_EXECUTORS", "GET_LOGGING_LEVEL"] {
        operate(&master, kind);
    }
    let refused = |body: &Value, status: u16, words: &str| {
        let answer = post(master.port, "/api/v1", &[], body);
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
    };
    refused(&json!({}), 400, "Expecting 'type' to be present");
    let part = "Expecting 'set_logging_level' to be present";
    refused(&json!({"type": "SET_LOGGING_LEVEL"}), 400, part);
    run.signal(crate::world::Signal::INT);
    run.end();
    end(&world, master, agent);
}

#[test]
fn who_subscribes_hears_what_changes() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let headers = [("Content-Type", "application/json"), ("Accept", "application/json")];
    let call = json!({"type": "SUBSCRIBE"}).to_string();
    let mut events = Records::open(master.port, "/api/v1", &headers, call.as_bytes());
    let snapshot = events.until("SUBSCRIBED");
    assert_eq!(snapshot["heartbeat_interval_seconds"], 15.0);
    assert_eq!(snapshot["get_state"]["get_agents"]["agents"].as_array().unwrap().len(), 1);
    assert_eq!(master.run(&["--name", "it", "--", "true"]).end().status, 0);
    let added = events.until("FRAMEWORK_ADDED")["framework"].clone();
    assert_eq!(added["framework_info"]["name"], "it");
    // It is told once, as what it is.
    assert_eq!((&added["active"], &added["connected"]), (&json!(true), &json!(true)), "{added}");
    assert_ne!(added["recovered"], true, "{added}");
    assert_eq!(events.until("TASK_ADDED")["task"]["name"], "it");
    let states: Vec<Value> =
        (0..3).map(|_| events.until("TASK_UPDATED")["status"]["state"].clone()).collect();
    assert_eq!(states, ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]);
    assert_eq!(events.until("FRAMEWORK_REMOVED")["framework_info"]["name"], "it");
    agent.leave();
    let removed = events.until("AGENT_REMOVED");
    assert!(removed["agent_id"]["value"].as_str().unwrap().ends_with("-S1"), "{removed}");
    // Once: what comes next is of another one.
    let next = master.agent(&[]);
    assert_eq!(events.event().unwrap()["type"], "AGENT_ADDED");
    next.leave();
    events.until("AGENT_REMOVED");
    drop(events);
    let gone = || {
        let metrics = crate::world::get(master.port, "/metrics");
        metrics.contains("\nmesita_master_operator_streams 0\n")
    };
    eventually(gone, || "the stream is still there".to_owned());
    master.stop();
    world.nothing_is_left();
}

/// Mesos' own command line asks so.
#[test]
fn paths_and_queries_are_read_as_libprocess_reads_them() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    for name in ["a", "b"] {
        assert_eq!(master.run(&["--name", name, "--", "true"]).end().status, 0);
    }
    let count = |query: &str| read(&master, query)["tasks"].as_array().unwrap().len();
    eventually(|| count("/tasks") == 2, || read(&master, "/tasks").to_string());
    assert_eq!(count("/tasks?order=asc&limit=-1"), 2);
    assert_eq!(count("/tasks?limit=1"), 1);
    assert_eq!(count("/tasks?limit=many"), 2);
    assert_eq!(read(&master, "/master/frameworks/")["frameworks"], json!([]));
    assert_eq!(read_at(agent.port, "/slave%281%29/state/")["frameworks"], json!([]));
    end(&world, master, agent);
}

/// What somebody has not acknowledged yet is over all the same.
#[test]
fn a_task_is_told_as_it_is_not_as_its_framework_was_told() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[scheduler_api::task(&offer, "a", "sleep 1")]);
    framework.events.until("UPDATE");
    let task = || read(&master, "/state")["frameworks"][0]["tasks"][0].clone();
    eventually(|| task()["state"] == "TASK_FINISHED", || task().to_string());
    let told = task()["statuses"].clone();
    assert!(!told.to_string().contains("TASK_FINISHED"), "{told}");
    let offers = read(&master, "/state")["frameworks"][0]["offers"].clone();
    assert_eq!(offers[0]["allocation_info"], json!({"role": "*"}), "{offers}");
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

pub(crate) fn read_at(port: u16, path: &str) -> Value {
    let answer = ask(port, "GET", path, &[], b"");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_str(&answer.text()).unwrap_or_else(|_| panic!("{path}: {}", answer.text()))
}

/// The directory of a task, as an agent's `/state` tells it.
fn directory(state: &Value, task: &str) -> String {
    let executors = state["frameworks"][0]["executors"].as_array().unwrap();
    let of = executors.iter().find(|one| one["tasks"][0]["name"] == task).unwrap();
    of["directory"].as_str().unwrap().to_owned()
}

#[test]
fn an_agent_tells_what_runs_and_what_it_wrote_also_by_its_master() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    // What it says last tells that all of it is there.
    let line = "echo oops >&2; ln -s /etc/passwd link; mkdir sub; echo x >sub/y; echo hello; \
                sleep 1000";
    let run = master.run(&["--name", "it", "--resources", "cpus:1;mem:64", "--command", line]);
    run.prints("hello");
    let id = read(&master, "/slaves")["slaves"][0]["id"].as_str().unwrap().to_owned();
    let ways = [(agent.port, "/slave(1)".to_owned()), (master.port, format!("/agent/{id}"))];
    for (port, prefix) in ways {
        let at = |path: &str| format!("{prefix}{path}");
        let state = read_at(port, &at("/state"));
        assert_eq!(state["id"], id);
        assert_eq!(state["resources"]["cpus"], 2.0);
        assert_eq!(state["attributes"], read(&master, "/slaves")["slaves"][0]["attributes"]);
        assert_eq!(state["unreserved_resources_allocated"]["cpus"], 1.0);
        assert_eq!(state["unreserved_resources_full"][0]["name"], "cpus");
        let task = &state["frameworks"][0]["executors"][0]["tasks"][0];
        assert_eq!((&task["name"], &task["state"]), (&json!("it"), &json!("TASK_RUNNING")));
        let directory = directory(&state, "it");
        let listed = read_at(port, &at(&format!("/files/browse?path={directory}")));
        let names: Vec<&str> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["path"].as_str().unwrap().rsplit('/').next().unwrap())
            .collect();
        assert_eq!(names, ["link", "stderr", "stdout", "sub"]);
        let file =
            |path: &str, more: &str| at(&format!("/files/read?path={directory}/{path}{more}"));
        let text = read_at(port, &file("stdout", "&offset=0"));
        assert_eq!((&text["data"], &text["offset"]), (&json!("hello\n"), &json!(0)));
        assert_eq!(read_at(port, &file("stdout", "&offset=1&length=3"))["data"], "ell");
        assert_eq!(read_at(port, &file("stdout", ""))["offset"], 6);
        assert_eq!(read_at(port, &file("sub/y", "&offset=0"))["data"], "x\n");
        let whole =
            ask(port, "GET", &at(&format!("/files/download?path={directory}/stderr")), &[], b"");
        assert_eq!((whole.status, whole.text().as_str()), (200, "oops\n"));
        let debug = read_at(port, &at("/files/debug"));
        assert!(debug.as_object().unwrap().contains_key(&directory), "{debug}");
        let statistics = read_at(port, &at("/monitor/statistics"));
        assert_eq!(statistics[0]["executor_id"], task["id"]);
        assert_eq!(statistics[0]["source"], task["id"]);
        let name = statistics[0]["executor_name"].as_str().unwrap();
        assert_eq!(name, "Command Executor (Task: it) (Command: sh -c 'echo oops >&...')");
        assert_eq!(state["frameworks"][0]["executors"][0]["name"], name);
        let statistics = &statistics[0]["statistics"];
        assert!(statistics["timestamp"].as_f64().unwrap() > 1e9);
        assert_eq!(statistics["mem_soft_limit_bytes"], 64 << 20);
        // There is no cap: --cgroups-enable-cfs is off, and the task has no limit.
        assert_eq!(
            (&statistics["cpus_soft_limit"], &statistics["cpus_limit"]),
            (&json!(1.0), &json!(null))
        );
        assert_eq!(read_at(port, &at("/containers"))[0]["container_id"], "1-1");
        assert_eq!(read_at(port, &at("/metrics/snapshot"))["slave/tasks_running"], 1.0);
        for path in [
            file("link", "&offset=0"),
            file("none", "&offset=0"),
            file("%00", "&offset=0"),
            at("/files/read?path=/etc/passwd&offset=0"),
            at(&format!("/files/read?path={directory}/../../../meta/key&offset=0")),
            at(&format!("/files/read?path={directory}/..%2f..%2f..%2fmeta%2fkey&offset=0")),
        ] {
            assert_eq!(ask(port, "GET", &path, &[], b"").status, 404, "{path}");
        }
        for path in [file("stdout", "&offset=x"), file("sub", "&offset=0"), at("/files/read")] {
            assert_eq!(ask(port, "GET", &path, &[], b"").status, 400, "{path}");
        }
    }
    assert_eq!(ask(master.port, "GET", "/agent/nobody/state", &[], b"").status, 404);
    run.signal(crate::world::Signal::INT);
    run.end();
    end(&world, master, agent);
}

/// SET_QUOTA and REMOVE_QUOTA, and what was there before them, of a master where `web` has quota.
fn quota_is_set_by_the_calls_of_before(master: &Master<'_>) {
    let wanted = |role: &str, cpus: f64| {
        json!({"role": role, "guarantee": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}}]})
    };
    let set = |request: Value| {
        let call = json!({"type": "SET_QUOTA", "set_quota": {"quota_request": request}});
        post(master.port, "/api/v1", &[], &call)
    };
    let remove = |role: &str| {
        let call = json!({"type": "REMOVE_QUOTA", "remove_quota": {"role": role}});
        post(master.port, "/api/v1", &[], &call)
    };
    let told = || {
        let configs = operate(master, "GET_QUOTA")["status"]["configs"].clone();
        configs.as_array().cloned().unwrap_or_default()
    };
    for (answer, status, words) in [
        (set(wanted("web", 0.5)), 400, "already has quota"),
        (set(wanted("*", 0.5)), 400, "default '*' role"),
        (set(json!({"role": "ops"})), 400, "empty 'guarantee'"),
        (set(wanted("ops", 1000.0)), 409, "capacity check"),
        (set(wanted("ops", 0.1)), 200, ""),
        (remove("nobody"), 400, "Role 'nobody' has no quota set"),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    // What is guaranteed is the limit, too.
    let ops = told().into_iter().find(|one| one["role"] == "ops").unwrap();
    assert_eq!(ops["guarantees"], json!({"cpus": {"value": 0.1}}));
    assert_eq!(ops["guarantees"], ops["limits"]);
    assert_eq!(remove("ops").status, 200);
    assert_eq!(told().len(), 1);
    // The endpoints before v1 do the same, also with a role below another one.
    assert_eq!(post(master.port, "/quota", &[], &wanted("ops/eu", 0.1)).status, 200);
    assert_eq!(post(master.port, "/master/quota", &[], &wanted("ops/eu", 0.1)).status, 400);
    assert_eq!(told().len(), 2);
    let delete = |path: &str| ask(master.port, "DELETE", path, &[], b"").status;
    assert_eq!(delete("/master/quota/ops/eu"), 200);
    assert_eq!((delete("/quota/ops/eu"), delete("/quota")), (400, 400));
    assert_eq!(ask(master.port, "GET", "/quota/web", &[], b"").status, 405);
    assert_eq!(told().len(), 1);
}

#[test]
fn an_operator_changes_quota_weights_and_what_is_offered() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let change = |call: &Value| post(master.port, "/api/v1", &[], call);
    let done = |call: &Value| {
        let answer = change(call);
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{call}");
    };
    let refused = |call: &Value, words: &str| {
        let answer = change(call);
        assert_eq!(answer.status, 400, "{call}: {}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
    };
    done(&json!({"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [
        {"role": "web", "weight": 2.5}]}}));
    refused(
        &json!({"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [
            {"role": "web", "weight": 0}]}}),
        "Invalid weight for role 'web'",
    );
    refused(&json!({"type": "UPDATE_WEIGHTS"}), "Expecting 'update_weights' to be present");
    let stranger = json!({"agent_id": {"value": "x"}});
    let gone = json!({"type": "MARK_AGENT_GONE", "mark_agent_gone": stranger});
    assert_eq!(change(&gone).status, 404);
    assert_eq!(operate(&master, "GET_WEIGHTS")["weight_infos"][0]["weight"], 2.5);
    let put = |body: &Value| {
        let headers = [("Content-Type", "application/json")];
        ask(master.port, "PUT", "/weights", &headers, body.to_string().as_bytes()).status
    };
    assert_eq!(put(&json!([{"role": "web", "weight": 3}])), 200);
    assert_eq!(put(&json!({"role": "web"})), 400);
    assert_eq!(read(&master, "/weights")[0]["weight"], 3.0);

    let quota = |role: &str, cpus: f64| {
        json!({"role": role, "limits": {"cpus": {"value": cpus}},
               "guarantees": {"cpus": {"value": cpus}}})
    };
    let update = |configs: Vec<Value>| json!({"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": configs}});
    done(&update(vec![quota("web", 1.0)]));
    let told = || operate(&master, "GET_QUOTA")["status"]["configs"].clone();
    assert_eq!(told()[0]["guarantees"]["cpus"]["value"], 1.0);
    // All of them or none: more is guaranteed than there is.
    let answer = change(&update(vec![quota("web", 0.5), quota("batch", 100.0)]));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(told()[0]["guarantees"]["cpus"]["value"], 1.0);
    assert_eq!(told().as_array().unwrap().len(), 1);
    let roles = read(&master, "/roles")["roles"].clone();
    assert_eq!((&roles[0]["name"], &roles[0]["weight"]), (&json!("web"), &json!(3.0)));
    assert_eq!(roles[0]["quota"]["guarantee"]["cpus"], 1.0);

    quota_is_set_by_the_calls_of_before(&master);

    let id = read(&master, "/slaves")["slaves"][0]["id"].clone();
    done(&json!({"type": "DEACTIVATE_AGENT", "deactivate_agent": {"agent_id": {"value": id}}}));
    assert_eq!(read(&master, "/slaves")["slaves"][0]["deactivated"], true);
    let waits = master.run(&["--wait", "1s", "--", "true"]).end();
    assert_eq!(waits.status, 3, "{}", waits.err);
    done(&json!({"type": "REACTIVATE_AGENT", "reactivate_agent": {"agent_id": {"value": id}}}));
    refused(
        &json!({"type": "DEACTIVATE_AGENT", "deactivate_agent": {"agent_id": {"value": "x"}}}),
        "Unknown agent",
    );

    let run =
        master.run(&["--name", "it", "--resources", "cpus:0.1;mem:16", "--", "sleep", "1000"]);
    run.says("TASK_RUNNING");
    let framework = read(&master, "/frameworks")["frameworks"][0]["id"].clone();
    let form = format!("frameworkId={}", framework.as_str().unwrap());
    assert_eq!(ask(master.port, "POST", "/teardown", &[], form.as_bytes()).status, 200);
    assert_ne!(run.end().status, 0);
    assert_eq!(ask(master.port, "POST", "/teardown", &[], b"frameworkId=x").status, 400);
    end(&world, master, agent);
}

#[test]
fn events_are_lines_for_people_and_json_for_programs() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let follow = |flags: &[&str]| {
        let begin = ["events", "--master", &master.address()];
        world.start(world.mesita(&[&begin, flags].concat()))
    };
    let (people, json) = (follow(&["it"]), follow(&["--json"]));
    json.prints("SUBSCRIBED");
    let subscribed = || {
        let metrics = crate::world::get(master.port, "/metrics");
        metrics.contains("\nmesita_master_operator_streams 2\n")
    };
    eventually(subscribed, || "not both listen".to_owned());
    assert_eq!(master.run(&["--name", "it", "--", "true"]).end().status, 0);
    people.prints("  FINISHED  it on S1");
    json.prints("TASK_FINISHED");
    for line in json.out().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["type"].is_string());
    }
    people.kill();
    json.kill();
    let nobody = world.told(&["events", "--master", "127.0.0.1:1"]);
    assert_eq!(nobody.status, 4, "{}", nobody.err);
    end(&world, master, agent);
}
