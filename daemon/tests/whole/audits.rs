//! `mesita audit`: every change, with who asked for it.

use std::fs;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::credentials::{EVERYBODY, credential, credentials};
use crate::http::{ask, post};
use crate::scheduler_api::{Framework, end, task};
use crate::world::World;

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
    assert!(of("accept")[1].contains("Not authorized to launch as user"), "{rows:#?}");
    assert!(!said.out.contains("get health"), "{rows:#?}");
    drop(framework);
    end(&world, master, agent);
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
