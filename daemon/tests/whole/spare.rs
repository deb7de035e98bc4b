//! What is offered twice and taken back, and what may be used beyond what was asked for.

use serde_json::{Value, json};

use crate::groups::{executor, launch_group};
use crate::reads::read_at;
use crate::scheduler_api::{Framework, end, task};
use crate::world::{World, has_cgroups};

fn knows() -> Value {
    json!({"capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"},
                            {"type": "REVOCABLE_RESOURCES"}]})
}

/// The revocable CPUs of an offer.
fn revocable(offer: &Value) -> f64 {
    let all = offer["resources"].as_array().unwrap().iter();
    let cpus = all.filter(|one| one["name"] == "cpus" && !one["revocable"].is_null());
    cpus.map(|one| one["scalar"]["value"].as_f64().unwrap()).sum()
}

/// A task whose CPUs may be taken back.
fn on_spare(offer: &Value, name: &str, command: &str) -> Value {
    let mut task = task(offer, name, command);
    task["resources"][0]["revocable"] = json!({});
    task
}

fn running(framework: &mut Framework, mut tasks: Vec<&str>) {
    while !tasks.is_empty() {
        let status = framework.status();
        if status["state"] == "TASK_RUNNING" {
            tasks.retain(|name| status["task_id"]["value"] != *name);
        }
    }
}

/// What containers weigh, in the file of that name: a task does not see where it is itself.
pub(crate) fn weights(world: &World, file: &str) -> Vec<String> {
    let below = |path: &std::path::PathBuf| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let agents: Vec<_> = world.cgroups().iter().flat_map(below).collect();
    let files = agents.iter().flat_map(below).map(|path| path.join(file));
    let weights = files.filter_map(|file| std::fs::read_to_string(file).ok());
    weights.map(|text| text.trim().to_owned()).collect()
}

#[test]
fn what_is_offered_twice_weighs_little_and_is_taken_back_from_those_alone_who_have_it() {
    let world = World::new();
    let master = world.master(&[]);
    let flags = ["--resources", "cpus:2;mem:1024", "--resource-estimator", "fixed=cpus:4"];
    let mut agent = master.agent(&flags);
    let mut framework = Framework::subscribe(&master, &knows());
    let offer = framework.offer();
    assert_eq!(revocable(&offer), 4.0, "{offer}");
    let mut group = executor("pod");
    group["framework_id"] = framework.id.clone();
    let tasks = [on_spare(&offer, "low", "exec sleep 999"), task(&offer, "own", "exec sleep 1000")];
    let both = [on_spare(&offer, "one", "sleep 1000"), task(&offer, "two", "sleep 1000")];
    framework.accepted(
        "ACCEPT",
        &json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0.1}, "operations": [
            {"type": "LAUNCH", "launch": {"task_infos": tasks}}, launch_group(&group, &both)]}),
    );
    running(&mut framework, vec!["low", "own", "one", "two"]);
    // Of what may be taken back, a tenth of a CPU weighs as little as the kernel takes.
    if has_cgroups("cpu") {
        let (v1, v2) = (weights(&world, "cpu.shares"), weights(&world, "cpu.weight"));
        let least = |all: &[String], least| all.iter().filter(|one| *one == least).count();
        assert_eq!(least(&v1, "2") + least(&v2, "1"), 1, "{v1:?} {v2:?}");
    }
    // The machine is short from now on: whatever it does is too much.
    agent.now_with(&[&flags[..], &["--qos-controller=load", "--load-threshold-5min=0"]].concat());
    agent.kill();
    agent.start();
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < 3 {
        let status = framework.status();
        let (name, state) = (status["task_id"]["value"].clone(), status["state"].clone());
        if !["TASK_STARTING", "TASK_RUNNING"].contains(&state.as_str().unwrap()) {
            ends.insert(name.as_str().unwrap().to_owned(), status);
        }
    }
    // A group goes whole, with the executor around it.
    for name in ["low", "one", "two"] {
        let status = &ends[name];
        assert_eq!(
            (&status["state"], &status["reason"]),
            (&json!("TASK_GONE"), &json!("REASON_CONTAINER_PREEMPTED")),
            "{status}"
        );
        assert_eq!(status["message"], "Container preempted by QoS correction");
    }
    let metrics = read_at(agent.port, "/metrics/snapshot");
    assert_eq!(metrics["slave/executors_preempted"], 2.0);
    framework.accepted("KILL", &json!({"task_id": {"value": "own"}}));
    assert_eq!(framework.end_of("own")["state"], "TASK_KILLED", "nobody took it back");
    end(&world, master, agent);
}

#[test]
fn cpus_that_are_held_and_not_used_are_offered_to_those_who_know_that_they_may_lose_them() {
    if !has_cgroups("cpuacct") {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[
        "--resources",
        "cpus:2;mem:1024",
        "--resource-estimator",
        "usage",
        "--oversubscribed-resources-interval",
        "1secs",
    ]);
    let mut other = Framework::subscribe(&master, &json!({}));
    let offer = other.offer();
    let mut sleeps = task(&offer, "sleeps", "sleep 1000");
    sleeps["resources"][0]["scalar"]["value"] = json!(2);
    other.launch(&offer, &[sleeps]);
    running(&mut other, vec!["sleeps"]);
    let mut framework = Framework::subscribe(&master, &knows());
    let mut offer = framework.offer();
    while revocable(&offer) == 0.0 {
        let id = json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}});
        framework.accepted("DECLINE", &id);
        offer = framework.offer();
    }
    assert!((1.5..=2.0).contains(&revocable(&offer)), "{offer}");
    framework.launch(&offer, &[on_spare(&offer, "spare", "exit 0")]);
    assert_eq!(framework.end_of("spare")["state"], "TASK_FINISHED");
    other.accepted("KILL", &json!({"task_id": {"value": "sleeps"}}));
    assert_eq!(other.end_of("sleeps")["state"], "TASK_KILLED");
    end(&world, master, agent);
}

#[test]
fn a_task_may_use_what_its_limits_say_beyond_what_it_asked_for() {
    if !has_cgroups("memory") {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--resources", "cpus:2;mem:1024"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let hungry = "x=$(head -c 50000000 /dev/zero | tr '\\0' a); echo ${#x}";
    let cases = [
        (json!({"mem": {"value": 256}}), "TASK_FINISHED"),
        (json!({"mem": {"value": "Infinity"}}), "TASK_FINISHED"),
        (json!({}), "TASK_FAILED"),
        (json!({"mem": {"value": 16}}), "TASK_ERROR"),
        (json!({"disk": {"value": 16}}), "TASK_ERROR"),
    ];
    for (place, (limits, wanted)) in cases.into_iter().enumerate() {
        let offer = framework.offer();
        let name = format!("t{place}");
        let mut one = task(&offer, &name, hungry);
        one["limits"] = limits;
        framework.launch(&offer, &[one]);
        let ended = framework.end_of(&name);
        assert_eq!(ended["state"], wanted, "{ended}");
    }
    end(&world, master, agent);
}

#[test]
fn a_controller_that_could_never_say_anything_is_refused() {
    let world = World::new();
    for (flags, why) in [
        (["--qos-controller=load", "--port=1"], "--load-threshold-5min"),
        (["--qos-controller=pressure", "--port=1"], "--pressure-threshold-cpu"),
        (["--resource-estimator=guess", "--port=1"], "fixed="),
    ] {
        let work_dir = format!("--work-dir={}", world.path("agent").display());
        let root = format!("--cgroups-root={}", world.name());
        let begin = ["agent", "--master=127.0.0.1:1", &work_dir, &root];
        let said = world.told(&[&begin[..], &flags[..]].concat());
        assert!(said.status != 0 && said.err.contains(why), "{}", said.err);
    }
    world.nothing_is_left();
}
