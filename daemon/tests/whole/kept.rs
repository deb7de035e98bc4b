//! What a single master keeps, whatever happens to its process.

use std::path::Path;

use serde_json::{Value, json};

use crate::http::{Records, ask, post};
use crate::operators::becomes;
use crate::scheduler_api::{Framework, JSON, subscription};
use crate::world::{Master, Signal, World, eventually};

fn told(master: &Master<'_>, world: &World, words: &[&str]) -> String {
    let said = world.told(&[words, &["--master", &master.address()]].concat());
    assert_eq!(said.status, 0, "{words:?}: {}", said.err);
    said.out
}

/// The id of the agent on a host.
fn id(master: &Master<'_>, host: &str) -> String {
    let rows = master.rows(&["--agents"]);
    let row = rows.iter().find(|row| row["hostname"] == host).unwrap();
    row["id"].as_str().unwrap().to_owned()
}

fn listed(master: &Master<'_>, world: &World) -> [String; 2] {
    ["quota", "weights"].map(|kind| told(master, world, &[kind, "ls", "--json"]))
}

#[test]
fn what_an_operator_sets_outlives_a_master_that_is_killed() {
    let world = World::new();
    let mut master = world.master(&[]);
    told(&master, &world, &["quota", "set", "eng", "--limit", "cpus:3", "--force"]);
    told(&master, &world, &["quota", "set", "gone", "--limit", "cpus:3", "--force"]);
    told(&master, &world, &["quota", "set", "gone"]);
    told(&master, &world, &["weights", "set", "eng=2.5"]);
    let before = listed(&master, &world);
    assert!(before[0].contains("eng") && !before[0].contains("gone"), "{before:?}");
    assert!(before[1].contains("2.5"), "{before:?}");
    for _ in 0..3 {
        master.kill();
        master.start();
        assert_eq!(listed(&master, &world), before);
    }
    let work_dir = world.path(&format!("master-{}", master.port));
    let work_dir = work_dir.to_str().unwrap();
    master.stop();
    let said = world.told(&["registry", "verify", "--work-dir", work_dir]);
    assert!(said.status == 0 && said.out.starts_with("whole, at "), "{} {}", said.out, said.err);
    let said = world.told(&["registry", "show", "--json", "--work-dir", work_dir]);
    assert!(said.status == 0 && said.out.contains("\"eng\""), "{} {}", said.out, said.err);
    let flags = ["master", "--port", "0", "--size", "tiny", "--work-dir", work_dir];
    let said = world.told(&flags);
    assert!(said.status == 2 && said.err.contains("give the --size"), "{}", said.err);
    world.nothing_is_left();
}

#[test]
fn what_agents_are_to_the_cluster_outlives_a_master_that_is_killed() {
    let world = World::new();
    let mut master = world.master(&["--agent-timeout=2s"]);
    let words = |words: &[&str], master: &Master<'_>| told(master, &world, words);
    let mut gone = master.agent(&["--hostname=pi1"]);
    let mut idle = master.agent(&["--hostname=pi2"]);
    let mut lost = master.agent(&["--hostname=pi3"]);
    words(&["deactivate", "pi2"], &master);
    lost.kill();
    becomes(&master, "pi3", "unreachable");
    let body = json!({
        "type": "MARK_AGENT_GONE",
        "mark_agent_gone": { "agent_id": { "value": id(&master, "pi1") } },
    });
    let [first, second, third] = ["pi1", "pi2", "pi3"].map(|host| id(&master, host));
    assert_eq!(post(master.port, "/api/v1", &[], &body).status, 200);
    eventually(|| gone.process().has_ended(), || "the agent to end".to_owned());
    idle.kill();
    master.kill();
    master.start();
    let state = |of: &str| {
        let rows = master.rows(&["--agents"]);
        let row = rows.iter().find(|row| row["id"] == of);
        row.map_or_else(|| format!("none in {rows:?}"), |row| row["state"].to_string())
    };
    assert_eq!(state(&first), "\"gone\"");
    assert_eq!(state(&third), "\"unreachable\"");
    let told = ask(master.port, "GET", "/slaves", &[], b"");
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(told["recovered_slaves"][0]["id"], Value::String(second), "{told}");
    assert_eq!(told["recovered_slaves"][0]["hostname"], "pi2", "{told}");
    let named = |of: &str| id(&master, of);
    assert_eq!(["pi1", "pi3"].map(named), [first, third]);
    assert_eq!(told["slaves"], json!([]));
    gone.start();
    gone.process().says("marked this agent gone");
    idle.start();
    becomes(&master, "pi2", "deactivated");
    lost.start();
    becomes(&master, "pi3", "active");
    words(&["reactivate", "pi2"], &master);
    becomes(&master, "pi2", "active");
    idle.leave();
    lost.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn with_quota_a_new_master_waits_for_most_agents_before_it_offers() {
    let world = World::new();
    let mut master = world.master(&["--allocator-recovery-timeout=20s"]);
    let [mut first, mut second] = ["pi1", "pi2"].map(|host| {
        let host = format!("--hostname={host}");
        master.agent(&[&host, "--resources=cpus:1;mem:256"])
    });
    told(&master, &world, &["quota", "set", "eng", "--guarantee", "cpus:0.1"]);
    first.kill();
    second.kill();
    master.flags.push("--allocator-agent-recovery-factor=1".to_owned());
    master.kill();
    master.start();
    first.start();
    becomes(&master, "pi1", "active");
    let said = master.run(&["--wait=1s", "--", "true"]).end();
    assert_eq!(said.status, 3, "{} {}", said.out, said.err);
    let run = master.run(&["--wait=60s", "--", "true"]);
    second.start();
    assert_eq!(run.end().status, 0);
    first.leave();
    second.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn the_schedule_and_removed_frameworks_outlive_a_master_that_is_killed() {
    let world = World::new();
    let mut master = world.master(&[]);
    let mut agent = master.agent(&["--hostname=pi1"]);
    let framework = Framework::subscribe(&master, &json!({}));
    let removed = framework.id.clone();
    let body = json!({ "type": "TEARDOWN", "teardown": { "framework_id": removed } });
    assert_eq!(post(master.port, "/api/v1", &[], &body).status, 200);
    told(&master, &world, &["maintenance", "plan", "pi1", "--in", "2hrs", "--for", "30mins"]);
    told(&master, &world, &["maintenance", "start", "pi1"]);
    eventually(|| agent.process().has_ended(), || "the agent to end".to_owned());
    let schedule = |master: &Master<'_>| told(master, &world, &["maintenance", "ls", "--json"]);
    let before = schedule(&master);
    assert!(before.contains("pi1"), "{before}");
    for _ in 0..2 {
        master.kill();
        master.start();
        assert_eq!(schedule(&master), before);
    }
    agent.start();
    agent.process().says("down for maintenance");
    let call = subscription(&json!({ "id": removed })).to_string();
    let mut events = Records::open(master.port, "/api/v1/scheduler", &JSON, call.as_bytes());
    let event = events.event().unwrap();
    assert_eq!(event["error"]["message"], "Framework has been removed", "{event}");
    told(&master, &world, &["maintenance", "stop", "pi1"]);
    becomes(&master, "pi1", "active");
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_registry_is_taken_out_of_one_master_and_put_into_another() {
    let world = World::new();
    let mut master = world.master(&[]);
    let agent = master.agent(&["--hostname=pi1"]);
    told(&master, &world, &["quota", "set", "eng", "--limit", "cpus:3", "--force"]);
    told(&master, &world, &["deactivate", "pi1"]);
    let (before, first) = (listed(&master, &world), id(&master, "pi1"));
    let process = master.process.take().unwrap();
    process.signal(Signal::TERM);
    process.end();
    let (new, old) = (world.path(&format!("master-{}", master.port)), world.path("old"));
    std::fs::rename(&new, &old).unwrap();
    let registry = |words: &[&str], work_dir: &Path| {
        let work_dir = work_dir.to_str().unwrap();
        world.told(&[&["registry"], words, &["--work-dir", work_dir]].concat())
    };
    let exported = registry(&["export"], &old);
    assert_eq!(exported.status, 0, "{}", exported.err);
    assert!(exported.out.contains("\"eng\""), "{}", exported.out);
    let (file, changed) = (world.path("exported.json"), world.path("changed.json"));
    std::fs::write(&file, &exported.out).unwrap();
    std::fs::write(&changed, exported.out.replacen("\"row\": \"A", "\"row\": \"X", 1)).unwrap();
    let import = |file: &Path, into: &Path| registry(&["import", file.to_str().unwrap()], into);
    let said = import(&file, &old);
    assert!(said.status == 2 && said.err.contains("is there already"), "{}", said.err);
    let said = import(&changed, &new);
    assert!(said.status == 1 && said.err.contains("row 0 was changed"), "{}", said.err);
    assert_eq!(import(&file, &new).status, 0);
    assert!(import(&file, &new).err.contains("is there already"));
    // The tables of the new one may be larger.
    master.flags.push("--size=rack".to_owned());
    for _ in 0..2 {
        master.start();
        assert_eq!(listed(&master, &world), before);
        becomes(&master, "pi1", "deactivated");
        assert_eq!(id(&master, "pi1"), first);
        // What was imported is its own now.
        eventually(|| !new.join("meta/origin").exists(), || "the text to go".to_owned());
        master.kill();
    }
    master.start();
    becomes(&master, "pi1", "deactivated");
    // A power cut may bring the text back: what was decided since then counts.
    told(&master, &world, &["quota", "set", "eng", "--limit", "cpus:1", "--force"]);
    let changed = listed(&master, &world);
    assert_ne!(changed, before);
    master.kill();
    std::fs::copy(&file, new.join("meta/origin")).unwrap();
    master.start();
    assert_eq!(listed(&master, &world), changed);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_registry_that_is_damaged_or_made_up_is_told_and_not_taken() {
    let world = World::new();
    let mut master = world.master(&[]);
    let process = master.process.take().unwrap();
    process.signal(Signal::TERM);
    process.end();
    let work_dir = world.path(&format!("master-{}", master.port));
    let (directory, new) = (work_dir.to_str().unwrap(), world.path("new"));
    let new = new.to_str().unwrap();
    let file = world.path("exported.json");
    let import = |text: &str| {
        std::fs::write(&file, text).unwrap();
        world.told(&["registry", "import", file.to_str().unwrap(), "--work-dir", new])
    };
    // What the leader wrote of itself is no row.
    let exported = world.told(&["registry", "export", "--work-dir", directory]);
    assert!(exported.out.contains("\"rows\": []"), "{} {}", exported.out, exported.err);
    let made_up = |field: &str, value: Value| {
        let mut text: Value = serde_json::from_str(&exported.out).unwrap();
        text[field] = value;
        let said = import(&text.to_string());
        assert!(said.status == 1 && said.err.contains(field), "{field}: {}", said.err);
    };
    made_up("epoch", json!(u32::MAX));
    made_up("t_us", json!(0));
    made_up("cluster", json!("0000000000000000"));
    made_up("cluster", json!("+1"));
    made_up("version", json!(0));
    made_up("masters", json!(0));
    assert_eq!(import(&exported.out).status, 0);
    // A change that is lost: a single master has nobody to get it from.
    master.start();
    for weight in ["a=2", "b=2", "c=2"] {
        told(&master, &world, &["weights", "set", weight]);
    }
    let process = master.process.take().unwrap();
    process.signal(Signal::TERM);
    process.end();
    let registry = work_dir.join("meta/registry");
    let good = std::fs::read(&registry).unwrap();
    let mut lost = 0;
    for block in 2..8 {
        let mut bad = good.clone();
        bad[block * 4096..][..4096].fill(0xa5);
        std::fs::write(&registry, &bad).unwrap();
        let flags = ["master", "--port", "1", "--work-dir", directory];
        let port = master.port.to_string();
        let flags: Vec<&str> = flags.map(|flag| if flag == "1" { &port } else { flag }).to_vec();
        let process = world.start(world.mesita(&flags));
        eventually(|| process.has_ended() || process.err().contains("master at"), || process.err());
        if process.has_ended() {
            let said = process.end();
            assert!(said.err.contains("gone or damaged"), "{block}: {}", said.err);
            lost += 1;
        } else {
            process.kill();
        }
    }
    assert!(lost > 0, "no block counts");
    world.nothing_is_left();
}
