//! Rules of who may do what: every call is asked about, and reads leave out what is denied.

use std::fs;

use serde_json::{Value, json};

use crate::credentials::{EVERYBODY, credential, plain_credentials};
use crate::http::{Answer, Records, ask, post};
use crate::world::{Agent, Master, World, eventually};

const WEB: (&str, &str) = ("Authorization", "Basic d2ViOnBsYW50ZWQtM2Y5Yy13ZWI=");
const OPS: (&str, &str) = ("Authorization", "Basic b3BzOnBsYW50ZWQtM2Y5Yy1vcHM=");
const JSON: [(&str, &str); 2] =
    [("Content-Type", "application/json"), ("Accept", "application/json")];

/// A master that asks everybody, with rules, and its agent, which has them, too.
fn cluster<'w>(world: &'w World, rules: &Value) -> (Master<'w>, Agent<'w>) {
    cluster_of(world, rules, &[])
}

/// The same, of an agent with more flags.
fn cluster_of<'w>(world: &'w World, rules: &Value, more: &[&str]) -> (Master<'w>, Agent<'w>) {
    let path = world.path("acls.json");
    let mut rules = rules.clone();
    // As Mesos takes it where it is not said.
    rules.as_object_mut().unwrap().entry("permissive").or_insert(true.into());
    fs::write(&path, rules.to_string()).unwrap();
    let (credentials, acls) = (plain_credentials(world), format!("--acls={}", path.display()));
    let master = world.master(&[&[&*credentials, &acls], &EVERYBODY[..]].concat());
    let (_, pis) = credential(world, "pis");
    let agent = master.agent(&[&[&*format!("--credential={pis}"), &*acls], more].concat());
    (master, agent)
}

fn some(values: &[&str]) -> Value {
    json!({ "values": values })
}

/// The rules of a list: these principals may do it to these objects, and nobody else to any.
fn only(principals: &[&str], what: &str, objects: &Value) -> Value {
    json!([{"principals": some(principals), what: objects},
           {"principals": {"type": "NONE"}, what: {"type": "ANY"}}])
}

fn any() -> Value {
    json!({"type": "ANY"})
}

fn call(port: u16, who: (&str, &str), call: &Value) -> Answer {
    post(port, "/api/v1", &[who], call)
}

fn get(port: u16, who: (&str, &str), path: &str) -> Value {
    let answer = ask(port, "GET", path, &[who], b"");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn subscribe(port: u16, who: (&str, &str), roles: &[&str], user: &str) -> Records {
    let info = json!({"user": user, "name": user, "roles": roles, "failover_timeout": 60.0,
                      "capabilities": [{"type": "MULTI_ROLE"}]});
    let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
    let headers = [&JSON[..], &[who]].concat();
    Records::open(port, "/api/v1/scheduler", &headers, call.to_string().as_bytes())
}

#[test]
fn what_no_rule_allows_is_denied_to_every_call() {
    let world = World::new();
    let rules = json!({
        "permissive": false,
        "register_agents": [{"principals": some(&["pis"]), "agents": any()}],
        "view_frameworks": [{"principals": some(&["ops"]), "users": any()}],
        "view_roles": [{"principals": some(&["ops"]), "roles": some(&["web/%"])}],
        "update_weights": [{"principals": some(&["ops"]), "roles": some(&["web/a"])}],
        "update_quotas": [{"principals": some(&["ops"]), "roles": some(&["web/a"])}],
        "get_quotas": [{"principals": some(&["web"]), "roles": some(&["web/%"])}],
    });
    let (master, agent) = cluster(&world, &rules);
    let port = master.port;
    let id = get(port, OPS, "/slaves")["slaves"][0]["id"].clone();
    let of_agent = json!({"agent_id": {"value": id}});
    let machines = json!({"machines": [{"hostname": "pi1"}]});
    for (kind, field, value, list) in [
        ("DRAIN_AGENT", "drain_agent", &of_agent, "drain_agents"),
        ("DEACTIVATE_AGENT", "deactivate_agent", &of_agent, "deactivate_agents"),
        ("REACTIVATE_AGENT", "reactivate_agent", &of_agent, "reactivate_agents"),
        ("MARK_AGENT_GONE", "mark_agent_gone", &of_agent, "mark_agents_gone"),
        ("START_MAINTENANCE", "start_maintenance", &machines, "start_maintenances"),
        ("STOP_MAINTENANCE", "stop_maintenance", &machines, "stop_maintenances"),
        (
            "UPDATE_MAINTENANCE_SCHEDULE",
            "update_maintenance_schedule",
            &json!({"schedule": {"windows": []}}),
            "update_maintenance_schedules",
        ),
        (
            "UPDATE_QUOTA",
            "update_quota",
            &json!({"quota_configs": [{"role": "web/a"}, {"role": "db"}]}),
            "update_quotas",
        ),
        (
            "SET_QUOTA",
            "set_quota",
            &json!({"quota_request": {"role": "db", "guarantee": [
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}]}}),
            "update_quotas",
        ),
        ("REMOVE_QUOTA", "remove_quota", &json!({"role": "db"}), "update_quotas"),
        (
            "UPDATE_WEIGHTS",
            "update_weights",
            &json!({"weight_infos": [{"role": "web/a", "weight": 2.0},
                                     {"role": "db", "weight": 2.0}]}),
            "update_weights",
        ),
        ("GET_FLAGS", "unused", &Value::Null, "view_flags"),
    ] {
        let answer = call(port, OPS, &json!({"type": kind, field: value}));
        assert_eq!(answer.status, 403, "{kind}: {}", answer.text());
        assert!(answer.text().contains(&format!("`{list}` of --acls deny this to ops")), "{kind}");
    }
    // A call that is partly denied has changed nothing.
    assert_eq!(get(port, OPS, "/weights"), json!([]));
    let weights = json!({"type": "UPDATE_WEIGHTS", "update_weights":
        {"weight_infos": [{"role": "web/a", "weight": 2.0}]}});
    assert_eq!(call(port, OPS, &weights).status, 200);
    assert_eq!(get(port, OPS, "/weights"), json!([{"role": "web/a", "weight": 2.0}]));
    assert_eq!(get(port, WEB, "/weights"), json!([]));
    let scalar = json!({"cpus": {"value": 2.0}});
    let quota = json!({"type": "UPDATE_QUOTA", "update_quota": {"quota_configs":
        [{"role": "web/a", "limits": scalar}]}});
    assert_eq!(call(port, OPS, &quota).status, 200);
    assert_eq!(get(port, OPS, "/quota")["infos"], json!(null));
    assert_eq!(get(port, WEB, "/quota")["infos"][0]["role"], "web/a");
    // Flags, what tells of the daemon, and what is nobody's to read.
    for path in ["/flags", "/metrics/snapshot", "/metrics"] {
        assert_eq!(ask(port, "GET", path, &[OPS], b"").status, 403, "{path}");
    }
    assert_eq!(get(port, OPS, "/state")["flags"], json!({}));
    let refused = subscribe(port, WEB, &["web/a", "db"], "nobody").until("ERROR");
    assert_eq!(refused["message"], "Not authorized to use roles '{ web/a, db }'");
    // Commands are asked about as well.
    let (_, ops) = credential(&world, "ops");
    let at = ["--master", &master.address(), "--credential", &ops];
    let words = ["drain", id.as_str().unwrap()];
    let said = world.told(&[&words[..], &at].concat());
    assert!(said.status == 1 && said.err.contains("`drain_agents` of --acls"), "{}", said.err);
    let said = world.told(&[&["run", "--wait=5s", "--command", "true"], &at[..]].concat());
    assert!(said.err.contains("Not authorized to use roles '{ * }'"), "{}", said.err);
    // Whoever shows no credential is nobody, also where none is asked for.
    assert_eq!(ask(agent.port, "GET", "/flags", &[], b"").status, 403);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn an_agent_that_no_rule_names_is_not_registered() {
    let world = World::new();
    let acls = r#"--acls={"register_agents": [
        {"principals": {"type": "NONE"}, "agents": {"type": "ANY"}}]}"#;
    let master = world.master(&[acls]);
    let mut agent = Agent::new(&world, &master.address(), &[]);
    agent.start();
    agent.process().says("`register_agents` of --acls deny this to whoever shows no credential");
    agent.terminate();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn tasks_run_only_as_users_that_a_rule_allows() {
    let world = World::new();
    let rules = json!({ "run_tasks": only(&["web"], "users", &some(&["nobody"])) });
    let (master, agent) = cluster(&world, &rules);
    let mut events = subscribe(master.port, WEB, &["*"], "nobody");
    let id = events.until("SUBSCRIBED")["framework_id"].clone();
    let stream = events.headers.iter().find(|(name, _)| name == "Mesos-Stream-Id").unwrap();
    let stream = stream.1.clone();
    let offer = events.until("OFFERS")["offers"][0].clone();
    let task = |name: &str, user: &str| {
        let mut task = crate::scheduler_api::task(&offer, name, "true");
        task["command"]["user"] = json!(user);
        task
    };
    let launch = json!({"type": "LAUNCH", "launch":
        {"task_infos": [task("denied", "daemon"), task("allowed", "nobody")]}});
    let accept = json!({"type": "ACCEPT", "framework_id": id, "accept":
        {"offer_ids": [offer["id"]], "operations": [launch]}});
    let headers = [WEB, ("Mesos-Stream-Id", &*stream)];
    assert_eq!(post(master.port, "/api/v1/scheduler", &headers, &accept).status, 202);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let status = events.until("UPDATE")["status"].clone();
        if status["task_id"]["value"] == "denied" {
            assert_eq!(status["reason"], "REASON_TASK_UNAUTHORIZED", "{status}");
            assert_eq!(status["message"], "Not authorized to launch as user 'daemon'", "{status}");
            seen.push("denied");
        } else {
            // As whom it runs is the agent's to find out: here it is enough that it was launched.
            assert_ne!(status["state"], "TASK_ERROR", "{status}");
            seen.push("launched");
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, ["denied", "launched"]);
    drop(events);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn containers_inside_of_tasks_are_for_those_whom_a_rule_names() {
    let world = World::new();
    let ops = || only(&["ops"], "users", &any());
    let rules = json!({
        "launch_nested_containers_as_user": ops(),
        "launch_nested_container_sessions_under_parent_with_user": ops(),
        "kill_nested_containers": ops(),
        "attach_containers_output": ops(),
        "launch_standalone_containers": ops(),
    });
    let (master, agent) = cluster(&world, &rules);
    let mut events = subscribe(master.port, WEB, &["*"], "nobody");
    let id = events.until("SUBSCRIBED")["framework_id"].clone();
    let stream = events.headers.iter().find(|(name, _)| name == "Mesos-Stream-Id").unwrap();
    let stream = stream.1.clone();
    let offer = events.until("OFFERS")["offers"][0].clone();
    let task = crate::scheduler_api::task(&offer, "host", "sleep 1000");
    let accept = json!({"type": "ACCEPT", "framework_id": id, "accept": {"offer_ids": [offer["id"]],
        "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]}});
    let headers = [WEB, ("Mesos-Stream-Id", &*stream)];
    assert_eq!(post(master.port, "/api/v1/scheduler", &headers, &accept).status, 202);
    let path = format!("/agent/{}/api/v1", offer["agent_id"]["value"].as_str().unwrap());
    let call = |who: (&str, &str), kind: &str, id: &Value, user: Option<&str>| {
        let mut part = json!({"container_id": id});
        if kind.starts_with("LAUNCH") {
            part["command"] = json!({"value": "sleep 1000"});
            user.iter().for_each(|user| part["command"]["user"] = json!(user));
        }
        let mut call = json!({"type": kind});
        call[kind.to_lowercase()] = part;
        let answer = post(master.port, &path, &[who], &call);
        (answer.status, answer.text())
    };
    let host = || {
        let told = post(master.port, &path, &[OPS], &json!({"type": "GET_CONTAINERS"}));
        let told: Value = serde_json::from_str(&told.text()).unwrap();
        let id = told["get_containers"]["containers"][0]["container_id"].clone();
        (!id.is_null()).then_some(id)
    };
    eventually(|| host().is_some(), || "the task".to_owned());
    let host = host().unwrap();
    let own = json!({"value": "a", "parent": host});
    // It is about to start.
    let started = || call(OPS, "LAUNCH_NESTED_CONTAINER", &own, None).0 != 500;
    eventually(started, || "the task".to_owned());
    assert_eq!(call(OPS, "KILL_NESTED_CONTAINER", &own, None).0, 200);
    let own = json!({"value": "c", "parent": host});
    for (kind, list) in [
        ("LAUNCH_NESTED_CONTAINER", "launch_nested_containers_as_user"),
        (
            "LAUNCH_NESTED_CONTAINER_SESSION",
            "launch_nested_container_sessions_under_parent_with_user",
        ),
    ] {
        let (status, text) = call(WEB, kind, &own, None);
        assert!(status == 403 && text.contains(list), "{kind}: {text}");
    }
    let (status, text) = call(WEB, "ATTACH_CONTAINER_OUTPUT", &host, None);
    assert!(status == 403 && text.contains("attach_containers_output"), "{text}");
    let (status, text) = call(WEB, "LAUNCH_CONTAINER", &json!({"value": "b"}), Some("nobody"));
    assert!(status == 403 && text.contains("launch_standalone_containers"), "{text}");
    // Nobody becomes root by it who may not run tasks as root.
    let (status, text) = call(OPS, "LAUNCH_NESTED_CONTAINER", &own, Some("root"));
    assert!(status == 403 && text.contains("as the user `root`"), "{text}");
    let (status, text) = call(OPS, "LAUNCH_NESTED_CONTAINER", &own, None);
    assert_eq!(status, 200, "{text}");
    assert_eq!(call(WEB, "KILL_NESTED_CONTAINER", &own, None).0, 403);
    assert_eq!(call(OPS, "KILL_NESTED_CONTAINER", &own, None).0, 200);
    assert_eq!(call(WEB, "WAIT_NESTED_CONTAINER", &own, None).0, 200);
    let exec = |who: &str| {
        let shown = format!("--credential={}", credential(&world, who).1);
        world.told(&["exec", "--master", &master.address(), &shown, "host", "--", "true"])
    };
    let said = exec("web");
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("launch_nested_container_sessions"), "{}", said.err);
    let said = exec("ops");
    assert_eq!(said.status, 0, "{}", said.err);
    let teardown = json!({"type": "TEARDOWN", "framework_id": id});
    assert_eq!(post(master.port, "/api/v1/scheduler", &headers, &teardown).status, 202);
    drop(events);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn what_is_reserved_for_a_role_is_told_only_to_who_sees_the_role() {
    let world = World::new();
    let rules = json!({ "view_roles": only(&["ops"], "roles", &some(&["hidden"])) });
    let resources = "--resources=cpus:1;cpus(hidden):1;mem:512;disk:64;ports:[31000-31009]";
    let (master, agent) = cluster_of(&world, &rules, &[resources]);
    let port = master.port;
    for path in ["/slaves", "/state", "/state-summary"] {
        let told = |who| get(port, who, path).to_string();
        assert!(told(OPS).contains("hidden"), "{path}: {}", told(OPS));
        assert!(!told(WEB).contains("hidden"), "{path}: {}", told(WEB));
    }
    let told = |who| call(port, who, &json!({"type": "GET_AGENTS"})).text();
    assert!(told(OPS).contains("hidden") && !told(WEB).contains("hidden"), "{}", told(WEB));
    // Sums say nothing of whose.
    assert_eq!(get(port, WEB, "/slaves")["slaves"][0]["resources"]["cpus"], 2.0);
    let subscribed = json!({"type": "SUBSCRIBE"}).to_string();
    let watch = |who: (&str, &str)| {
        Records::open(port, "/api/v1", &[&JSON[..], &[who]].concat(), subscribed.as_bytes())
    };
    for (who, seen) in [(OPS, true), (WEB, false)] {
        let state = watch(who).until("SUBSCRIBED").to_string();
        assert_eq!(state.contains("hidden"), seen, "{state}");
    }
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn reads_and_streams_leave_out_what_a_reader_may_not_see() {
    let world = World::new();
    let rules = json!({
        "run_tasks": [{"principals": some(&["web", "ops"]), "users": any()}],
        "view_frameworks": only(&["ops"], "users", &any()),
        "view_tasks": only(&["ops"], "users", &any()),
        "access_sandboxes": only(&["ops"], "users", &any()),
        "view_containers": only(&["ops"], "users", &any()),
        "teardown_frameworks": only(&["ops"], "framework_principals", &some(&["ops"])),
        "get_endpoints": [
            {"principals": any(), "paths": some(&["/containers", "/files/debug", "/metrics/containers"])},
            {"principals": some(&["ops"]), "paths": some(&["/metrics"])},
            {"principals": {"type": "NONE"}, "paths": any()},
        ],
    });
    let (master, agent) = cluster(&world, &rules);
    let port = master.port;
    let subscribed = json!({"type": "SUBSCRIBE"}).to_string();
    let watch = |who: (&str, &str)| {
        Records::open(port, "/api/v1", &[&JSON[..], &[who]].concat(), subscribed.as_bytes())
    };
    let (mut web, mut ops) = (watch(WEB), watch(OPS));
    for stream in [&mut web, &mut ops] {
        stream.until("SUBSCRIBED");
    }
    let (_, shown) = credential(&world, "ops");
    let mut run = world.mesita(&["run", "--name=hidden", "--command", "echo well; sleep 1000"]);
    run.args(["--master", &master.address(), "--credential", &shown]).arg(world.marked());
    let run = world.start(run);
    run.prints("well");
    ops.until("FRAMEWORK_ADDED");
    ops.until("TASK_ADDED");
    for path in ["/state", "/frameworks", "/tasks", "/state-summary"] {
        let told = |who| get(port, who, path).to_string();
        eventually(|| told(OPS).contains("hidden"), || told(OPS));
        assert!(!told(WEB).contains("hidden"), "{path}: {}", told(WEB));
    }
    // What is used is told whole.
    let used = get(port, WEB, "/slaves")["slaves"][0]["used_resources"]["cpus"].clone();
    assert_eq!(used, 1.0);
    for kind in ["GET_STATE", "GET_TASKS", "GET_FRAMEWORKS"] {
        let told = |who| call(port, who, &json!({"type": kind})).text();
        assert!(told(OPS).contains("hidden") && !told(WEB).contains("hidden"), "{kind}");
    }
    let (_, shown_web) = credential(&world, "web");
    let at = ["--master", &master.address(), "--credential"];
    let listed = |who: &str| world.told(&[&["ps", "--all"], &at[..], &[who]].concat()).out;
    assert!(listed(&shown).contains("hidden") && !listed(&shown_web).contains("hidden"));
    let said = world.told(&[&["logs", "hidden"], &at[..], &[&shown_web]].concat());
    assert!(said.status != 0 && said.err.contains("`access_sandboxes` of --acls"), "{}", said.err);
    let said = world.told(&[&["explain", "hidden"], &at[..], &[&shown_web]].concat());
    assert_ne!(said.status, 0, "{}", said.out);
    // The agent says the same, by itself and by way of the master.
    let state = get(port, OPS, "/state");
    let (id, of) = (&state["slaves"][0]["id"], &state["frameworks"][0]["id"]);
    let below = |path: &str| format!("/agent/{}{path}", id.as_str().unwrap());
    assert!(get(port, OPS, &below("/state")).to_string().contains("hidden"));
    assert!(!get(port, WEB, &below("/state")).to_string().contains("hidden"));
    assert_eq!(get(port, WEB, &below("/files/debug")), json!({}));
    assert_eq!(get(port, WEB, &below("/containers")).to_string(), "[]");
    assert_eq!(ask(agent.port, "GET", "/monitor/statistics", &[], b"").status, 403);
    assert_eq!(ask(port, "GET", "/metrics", &[OPS], b"").status, 200);
    assert_eq!(ask(port, "GET", "/metrics", &[WEB], b"").status, 403);
    let metrics = |who| ask(port, "GET", &below("/metrics/containers"), &[who], b"");
    assert!(metrics(OPS).text().contains("executor=\"hidden\""), "{}", metrics(OPS).text());
    assert_eq!((metrics(WEB).status, metrics(WEB).text()), (200, String::new()));
    // Whose framework it is decides who may end it.
    let teardown = json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": of}}});
    assert_eq!(call(port, WEB, &teardown).status, 403);
    assert_eq!(call(port, OPS, &teardown).status, 200);
    ops.until("FRAMEWORK_REMOVED");
    // All that the other stream has heard of is the agent.
    let mut one = subscribe(port, WEB, &["*"], "seen");
    one.until("SUBSCRIBED");
    drop((one, run));
    let weights = json!({"type": "DEACTIVATE_AGENT", "deactivate_agent":
        {"agent_id": {"value": id}}});
    assert_eq!(call(port, OPS, &weights).status, 200);
    agent.leave();
    let last = web.event().unwrap();
    assert_eq!(last["type"], "AGENT_REMOVED", "{last}");
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_task_is_seen_at_its_agent_with_its_executor_alone() {
    let world = World::new();
    let rules = json!({
        "run_tasks": [{"principals": some(&["ops"]), "users": any()}],
        "view_executors": only(&["web"], "users", &any()),
    });
    let (master, agent) = cluster(&world, &rules);
    let (port, address) = (master.port, master.address());
    let (_, shown) = credential(&world, "ops");
    let mut run = world.mesita(&["run", "--name=one", "--command", "echo well; sleep 1000"]);
    run.args(["--master", &address, "--credential", &shown]).arg(world.marked());
    let run = world.start(run);
    run.prints("well");
    let state = get(port, OPS, "/state");
    let (id, of) = (&state["slaves"][0]["id"], &state["frameworks"][0]["id"]);
    let path = format!("/agent/{}/state", id.as_str().unwrap());
    let seen = |who| get(port, who, &path)["frameworks"][0]["executors"].clone();
    assert_eq!(seen(WEB)[0]["tasks"][0]["name"], "one");
    assert_eq!(seen(OPS), json!([]));
    let teardown = json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": of}}});
    assert_eq!(call(port, OPS, &teardown).status, 200);
    drop(run);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}
