//! `mesita audit`: every change, with who asked for it.

use std::fs;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::credentials::{EVERYBODY, credential, credentials, plain_credentials};
use crate::http::{Records, Sending, ask, post};
use crate::scheduler_api::{Framework, JSON, end, subscription, task};
use crate::world::{Master, World, eventually};

#[test]
fn every_change_is_told_with_who_asked_for_it_and_whether_they_might() {
    let world = World::new();
    let known = credentials(&world);
    let log = world.path("audit.log");
    let file = format!("--audit-log={}", log.display());
    let rules = r#"--acls={"update_quotas": [{"principals": {"values": ["ops"]}, "roles": {"type": "ANY"}},
        {"principals": {"type": "ANY"}, "roles": {"type": "NONE"}}]}"#;
    let flags = [&[&*known, &*file, rules], &EVERYBODY[..]].concat();
    let master = world.master(&flags);
    let at = format!("--master={}", master.address());
    let shown = ["ops", "web"].map(|who| format!("--credential={}", credential(&world, who).1));
    let [ops, web] = &shown;
    let did = |words: &[&str], shown: &str| world.told(&[words, &[&*at, shown]].concat());
    let quota = ["quota", "set", "shop", "--limit=cpus:1"];
    assert_eq!(did(&quota, ops).status, 0);
    assert_ne!(did(&quota, web).status, 0);
    assert_eq!(did(&["store", "put", "key", "value"], web).status, 0);
    let made = did(&["principal", "add", "extra", "--role=extra"], ops);
    let made: Value = serde_json::from_str(&made.out).unwrap();
    let weights = json!({"type": "UPDATE_WEIGHTS", "update_weights": {
        "weight_infos": [{"role": "shop", "weight": 2.0}]}});
    let basic = ("Authorization", "Basic b3BzOnBsYW50ZWQtM2Y5Yy1vcHM=");
    assert_eq!(post(master.port, "/api/v1", &[basic], &weights).status, 200);
    // What is refused is told as that.
    let teardown = json!({"type": "TEARDOWN", "framework_id": {"value": "no-such"}});
    assert_eq!(post(master.port, "/api/v1/scheduler", &[basic], &teardown).status, 400);
    let path = world.path("extra");
    fs::write(&path, made.to_string()).unwrap();
    let extra = format!("extra:{}", made["secret"].as_str().unwrap());
    let extra = format!("Basic {}", BASE64_STANDARD.encode(extra));
    let extra = ("Authorization", extra.as_str());
    assert_eq!(post(master.port, "/api/v1", &[extra], &weights).status, 403);
    // It reads by this what it reads elsewhere.
    assert_eq!(post(master.port, "/api/v1", &[extra], &json!({"type": "GET_STATE"})).status, 200);
    assert_eq!(ask(master.port, "GET", "/state", &[extra], b"").status, 200);
    let told = did(&["audit", "--json"], ops);
    assert_eq!(told.status, 0, "{}", told.err);
    let rows: Vec<Value> =
        told.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let has = |who: &str, what: &str, of: &str, told: &str| {
        let found = rows.iter().any(|row| {
            row["who"] == who
                && row["what"] == what
                && row["of"] == of
                && row["told"].as_str().unwrap().contains(told)
        });
        assert!(found, "{who} {what} {of} {told} in {rows:#?}");
    };
    has("principal:ops", "set quota", "shop", "allowed");
    has("principal:web", "set quota", "shop", "403 Forbidden");
    has("principal:web", "store", "key", "allowed");
    has("principal:ops", "add principal", "extra", "allowed");
    has("principal:ops", "set weight", "shop 2000/1000", "allowed");
    has("principal:ops", "teardown", "no-such", "Framework");
    has("principal:extra", "update weights", "", "only who operates the cluster");
    assert!(!told.out.contains("get state"), "{}", told.out);
    let weights = rows.iter().filter(|row| row["what"] == "set weight").count();
    assert_eq!(weights, 1, "once, however often it is looked at: {rows:#?}");
    // What is read is no change.
    let count = rows.len();
    assert_eq!(did(&["ps"], web).status, 0);
    assert_eq!(did(&["quota", "ls"], ops).status, 0);
    assert_eq!(did(&["audit", "--json"], ops).out.lines().count(), count);
    assert_eq!(fs::read_to_string(&log).unwrap(), told.out);
    assert!(!told.out.contains(made["secret"].as_str().unwrap()));
    let shown = did(&["audit"], ops);
    let known = format!("master {} shows changes since 20", master.address());
    assert!(shown.err.starts_with(&known) && shown.err.contains("audit.log"), "{}", shown.err);
    let table = shown.out;
    assert!(table.starts_with("TIME ") && table.contains("set quota"), "{table}");
    // The credential of a principal that operates nothing shows it none of this.
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = did(&["audit"], &format!("--credential={}", path.display()));
    assert!(refused.status == 1 && refused.err.contains("only who operates"), "{}", refused.err);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn what_is_known_in_memory_alone_is_told_with_since_when_and_by_which_master() {
    let world = World::new();
    let master = world.master(&[]);
    let said = world.told(&["audit", "--json", "--master", &master.address()]);
    assert_eq!((said.status, &*said.out), (0, ""));
    let known = format!("master {} knows of changes since 20", master.address());
    assert!(said.err.starts_with(&known), "{}", said.err);
    assert!(
        said.err.contains("in memory alone") && said.err.contains("--audit-log"),
        "{}",
        said.err
    );
    master.stop();
    world.nothing_is_left();
}

#[test]
fn what_is_done_through_agents_and_launched_without_right_is_told_with_who_asked() {
    let world = World::new();
    let rules = r#"--acls={"permissive": true, "run_tasks": [
        {"principals": {"type": "ANY"}, "users": {"values": ["no-such-user"]}},
        {"principals": {"type": "ANY"}, "users": {"type": "NONE"}}]}"#;
    let master = world.master(&[rules]);
    let agent = master.agent(&["--isolation=posix/rlimits"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let launch = json!({"type": "LAUNCH", "launch": {"task_infos": [task(&offer, "a", "true")]}});
    framework.accepted("ACCEPT", &json!({"offer_ids": [offer["id"]], "operations": [launch]}));
    assert_eq!(framework.status()["state"], "TASK_ERROR");
    let id = offer["agent_id"]["value"].as_str().unwrap();
    let path = format!("/agent/{id}/api/v1");
    let call = |body: &Value| post(master.port, &path, &[], body).status;
    let level = json!({"level": 1, "duration": {"nanoseconds": 1_000_000}});
    let set = json!({"type": "SET_LOGGING_LEVEL", "set_logging_level": level});
    assert_eq!(call(&set), 200);
    let inside = json!({"value": "in", "parent": {"value": "none"}});
    let kill = json!({"type": "KILL_CONTAINER", "kill_container": {"container_id": inside}});
    assert_eq!(call(&kill), 404);
    assert_eq!(call(&json!({"type": "GET_HEALTH"})), 200);
    let said = world.told(&["audit", "--json", "--master", &master.address()]);
    let rows: Vec<Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |what: &str| {
        let row = rows.iter().find(|row| row["what"] == what);
        let row = row.unwrap_or_else(|| panic!("{what} in {rows:#?}"));
        assert!(!row["who"].as_str().unwrap().is_empty(), "{row}");
        [row["of"].as_str().unwrap().to_owned(), row["told"].as_str().unwrap().to_owned()]
    };
    assert_eq!(of("set logging level"), [id.to_owned(), "allowed".to_owned()]);
    assert_eq!(of("kill container"), [format!("{id} none.in"), "404 Not Found".to_owned()]);
    assert!(of("launch")[1].contains("Not authorized to launch as user"), "{rows:#?}");
    assert_eq!(of("launch")[0], "a");
    assert!(!said.out.contains("get health"), "{rows:#?}");
    drop(framework);
    end(&world, master, agent);
}

/// What `mesita audit --json` tells.
fn told(world: &World, master: &Master<'_>, shown: &[&str]) -> Vec<Value> {
    let address = master.address();
    let said = world.told(&[&["audit", "--json", "--master", &address], shown].concat());
    assert_eq!(said.status, 0, "{}", said.err);
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_the_core_alone_refuses_is_told_as_that() {
    let world = World::new();
    let known = plain_credentials(&world);
    let permissive = r#"--acls={"permissive": true}"#;
    let master = world.master(&[&[&*known, permissive], &EVERYBODY[..]].concat());
    let agents = credential(&world, "pis").1;
    let agent = master.agent(&["--isolation=posix/rlimits", "--credential", &agents]);
    let basic = "Basic d2ViOnBsYW50ZWQtM2Y5Yy13ZWI=";
    // No rule denies anything: that tasks of others are not root's, the core says.
    let mut framework = Framework::subscribe_as(&master, &json!({"user": "nobody"}), Some(basic));
    let offer = framework.offer();
    let root = |name: &str| {
        let mut task = task(&offer, name, "true");
        task["command"]["user"] = "root".into();
        task
    };
    framework.launch(&offer, &[root("one")]);
    assert_eq!(framework.status()["reason"], "REASON_TASK_UNAUTHORIZED");
    let call = subscription(&json!({"user": "root", "name": "of-root"}));
    let shown = [JSON[0], JSON[1], ("Authorization", basic)];
    let mut refused =
        Records::open(master.port, "/api/v1/scheduler", &shown, call.to_string().as_bytes());
    assert!(refused.until("ERROR").to_string().contains("user"));
    let ops = format!("--credential={}", credential(&world, "ops").1);
    let rows = told(&world, &master, &[&ops]);
    let of = |what: &str, of: &str| {
        let row = rows.iter().find(|row| row["what"] == what && row["of"] == of);
        let row = row.unwrap_or_else(|| panic!("{what} {of} in {rows:#?}"));
        assert_eq!(row["who"], "principal:web");
        row["told"].as_str().unwrap().to_owned()
    };
    assert_eq!(of("launch", "one"), "Not authorized to run the task as its user");
    assert_eq!(of("subscribe", "it"), "allowed");
    assert!(of("subscribe", "of-root").contains("user"), "{rows:#?}");
    drop(framework);
    end(&world, master, agent);
}

/// The names of an API's calls, out of its description.
fn calls(description: &'static str) -> Vec<&'static str> {
    let (_, call) = description.split_once("message Call {").unwrap();
    let (_, kinds) = call.split_once("enum Type {").unwrap();
    let (kinds, _) = kinds.split_once('}').unwrap();
    let names = kinds.lines().filter_map(|line| line.trim().split_once(" = "));
    names.map(|(name, _)| name.trim()).filter(|name| !name.starts_with("//")).collect()
}

const OF_MASTER: &str = include_str!("../../proto/mesos/v1/master/master.proto");
const OF_AGENT: &str = include_str!("../../proto/mesos/v1/agent/agent.proto");

/// Every call that Mesos has, and every path that changes something: one that is new is told of, too.
#[test]
fn no_change_is_forgotten_whichever_way_it_is_asked_for() {
    let world = World::new();
    let master = world.master(&[]);
    let log = world.path("agent.log");
    let file = format!("--audit-log={}", log.display());
    let agent = master.agent(&["--isolation=posix/rlimits", &file]);
    eventually(|| master.rows(&["--agents"]).len() == 1, || agent.process().err());
    let id = master.rows(&["--agents"])[0]["id"].as_str().unwrap().to_owned();
    let only_reads = |name: &str| {
        ["GET_", "LIST_", "READ_", "WAIT_", "UNKNOWN"].iter().any(|begin| name.starts_with(begin))
            || name == "ATTACH_CONTAINER_OUTPUT"
    };
    let mut asked = Vec::new();
    let mut call = |port: u16, path: &str, of: &'static str| {
        // What goes on for ever is not asked here.
        for name in calls(of).into_iter().filter(|name| *name != "SUBSCRIBE") {
            post(port, path, &[], &json!({"type": name}));
            if !only_reads(name) {
                asked.push((port, path.to_owned(), name.to_lowercase().replace('_', " ")));
            }
        }
    };
    call(master.port, "/api/v1", OF_MASTER);
    call(master.port, &format!("/agent/{id}/api/v1"), OF_AGENT);
    call(agent.port, "/api/v1", OF_AGENT);
    assert!(asked.len() > 45, "{asked:?}");
    for (method, path) in [
        ("PUT", "/weights"),
        ("POST", "/quota"),
        ("DELETE", "/quota/web"),
        ("POST", "/maintenance/schedule"),
        ("POST", "/machine/down"),
        ("POST", "/machine/up"),
        ("POST", "/reserve"),
        ("POST", "/unreserve"),
        ("POST", "/create-volumes"),
        ("POST", "/destroy-volumes"),
        ("POST", "/teardown"),
        ("PUT", "/store?key="),
        ("DELETE", "/store"),
        ("POST", "/masters/change"),
        ("GET", "/logging/toggle?level=9"),
    ] {
        ask(master.port, method, path, &[], b"[");
        let path = path.split('?').next().unwrap();
        asked.push((master.port, path.to_owned(), format!("{method} {path}")));
    }
    for (method, path) in
        [("PUT", "/images/blobs/00"), ("POST", "/images/pull"), ("GET", "/logging/toggle?level=9")]
    {
        for (port, before) in [(master.port, format!("/agent/{id}")), (agent.port, String::new())] {
            let path = format!("{before}{path}");
            ask(port, method, &path, &[], b"[");
            let path = path.split('?').next().unwrap().to_owned();
            asked.push((port, path.clone(), format!("{method} {path}")));
        }
    }
    // What one agent brings to another is told with which, and of what.
    let blob = "ab".repeat(32);
    let giver = format!("{id}x");
    ask(master.port, "PUT", &format!("/agent/{id}/images/blobs/{blob}?from={giver}"), &[], b"");
    // Which container is written to, the first record of a stream says.
    let streams =
        [("Content-Type", "application/recordio"), ("Message-Content-Type", "application/json")];
    let mut input = Sending::open(master.port, &format!("/agent/{id}/api/v1"), &streams);
    let first = json!({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": {
        "type": "CONTAINER_ID", "container_id": {"value": "in", "parent": {"value": "none"}}}});
    input.record(first.to_string().as_bytes());
    assert_eq!(input.end().status, 404);
    // Nothing is there that could be asked for these.
    ask(master.port, "POST", "/state", &[], b"");
    ask(master.port, "POST", "/no/such/path", &[], b"");
    let rows = told(&world, &master, &[]);
    let log = fs::read_to_string(&log).unwrap();
    let own: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_root = |row: &Value| row["who"].as_str().unwrap().starts_with("local:");
    assert!(rows.iter().chain(&own).all(is_root), "{rows:#?} {own:#?}");
    for (port, path, what) in &asked {
        let rows = if *port == master.port { &rows } else { &own };
        // The store has words of its own.
        let store = path == "/store" && ["store", "remove stored"].iter().any(|of| is(rows, of));
        assert!(is(rows, what) || store, "{what} at {path} of {port} in {rows:#?}");
    }
    let has = |what: &str, of: &str| rows.iter().any(|row| row["what"] == what && row["of"] == of);
    assert!(has("attach container input", &format!("{id} none.in")), "{rows:#?}");
    assert!(has("bring image", &format!("{id} {blob} of {giver}")), "{rows:#?}");
    assert!(!rows.iter().any(|row| row.to_string().contains("/no/such/path")), "{rows:#?}");
    assert!(!is(&rows, "POST /state"), "{rows:#?}");
    end(&world, master, agent);
}

fn is(rows: &[Value], what: &str) -> bool {
    rows.iter().any(|row| row["what"] == what)
}

#[test]
fn what_was_told_before_a_restart_is_told_after_it() {
    let world = World::new();
    let log = world.path("audit.log");
    let file = format!("--audit-log={}", log.display());
    let mut master = world.master(&[&file]);
    let set = |role: &str| {
        let said =
            world.told(&["quota", "set", role, "--limit=cpus:1", "--master", &master.address()]);
        assert_eq!(said.status, 0, "{}", said.err);
    };
    set("one");
    set("two");
    master.kill();
    // As of a power cut.
    let torn = fs::read_to_string(&log).unwrap() + "{\"time_us\":5,\"wh";
    fs::write(&log, torn).unwrap();
    master.start();
    let roles = || {
        let rows = told(&world, &master, &[]);
        let rows = rows.iter().filter(|row| row["what"] == "set quota");
        rows.map(|row| row["of"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually(|| roles() == ["one", "two"], || format!("{:?}", roles()));
    let said = world.told(&["weights", "set", "one=2", "--master", &master.address()]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(is(&told(&world, &master, &[]), "set weight"));
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.lines().last().unwrap().contains("set weight"), "{text}");
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_file_that_cannot_be_written_is_refused_at_the_start() {
    let world = World::new();
    let work_dir = world.path("master").display().to_string();
    let port = world.port().to_string();
    let begin = ["master", "--port", &port, "--work-dir", &work_dir];
    let said = world.told(&[&begin[..], &["--audit-log=/nowhere/x"]].concat());
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("--audit-log: /nowhere/x: No such file"), "{}", said.err);
    world.nothing_is_left();
}
