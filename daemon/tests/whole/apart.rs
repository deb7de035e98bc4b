//! Containers inside of a task's that have limits of their own.

use serde_json::{Value, json};

use crate::http::Answer;
use crate::inner::{Host, call, shown};
use crate::spare::weights;
use crate::world::{World, eventually, has_cgroups};

/// Takes more than the 8 MB that they may have, and less than the 32 of the task.
const HUNGRY: &str = "(head -c 14000000 /dev/zero; touch full; sleep 1000) | tail -n 1";

fn mem(mib: u64) -> Value {
    json!([{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
           {"name": "mem", "type": "SCALAR", "scalar": {"value": mib}}])
}

/// Starts one inside of the task with these words more.
fn launch(host: &Host<'_>, id: &Value, command: &str, more: &Value) -> Answer {
    let mut part = json!({"container_id": id, "command": {"value": command}, "resources": mem(8),
        "container": {"type": "MESOS", "linux_info": {"share_cgroups": false}}});
    part.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    host.call("LAUNCH_CONTAINER", &part)
}

fn waited(host: &Host<'_>, id: &Value) -> Option<Value> {
    let answer = host.call("WAIT_CONTAINER", &json!({ "container_id": id }));
    let told = (answer.status == 200).then(|| serde_json::from_str::<Value>(&answer.text()));
    told.map(|told| told.unwrap()["wait_container"].clone())
}

#[test]
fn a_container_inside_of_a_task_has_limits_of_its_own_and_runs_into_them_alone() {
    if !has_cgroups("memory") {
        return;
    }
    let world = World::new();
    let host = Host::new(&world);
    let (own, shares, may) = (host.inside("own"), host.inside("shares"), host.inside("may"));
    let answer = launch(&host, &own, HUNGRY, &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = waited(&host, &own).unwrap();
    assert_eq!(told["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{told}");
    assert_eq!(told["state"], "TASK_FAILED", "{told}");
    assert_eq!(told["limitation"]["resources"][0]["scalar"]["value"], 8.0, "{told}");
    assert!(told["message"].as_str().unwrap().contains("Memory limit exceeded"), "{told}");
    // Who shares what the task has is not held to it, nor is who may have more.
    let full = |name: &str| host.sandbox().join(format!("containers/{name}/full")).exists();
    assert_eq!(host.launch(&shares, HUNGRY).status, 200);
    eventually(|| full("shares"), || "what shares".to_owned());
    assert_eq!(host.call("KILL_CONTAINER", &json!({"container_id": shares})).status, 200);
    assert_eq!(waited(&host, &shares).unwrap()["exit_status"], 9);
    let more = json!({"limits": {"mem": {"value": 24}, "cpus": {"value": 0.5}}});
    assert_eq!(launch(&host, &may, HUNGRY, &more).status, 200);
    eventually(|| full("may"), || "what may have more".to_owned());
    let all = shown(&host, &json!({"show_nested": true}));
    let told = all.iter().find(|one| one["container_id"] == may).unwrap();
    let used = &told["resource_statistics"];
    assert_eq!(used["mem_limit_bytes"], 24 << 20, "{told}");
    assert_eq!(used["cpus_limit"], 0.5, "{told}");
    assert!(used["mem_total_bytes"].as_u64().unwrap() > 13_000_000, "{told}");
    // The task has more than that one: they are counted together.
    let around = all.iter().find(|one| one["container_id"] == host.container).unwrap();
    let whole = around["resource_statistics"]["mem_total_bytes"].as_u64().unwrap();
    assert!(whole > used["mem_total_bytes"].as_u64().unwrap(), "{around}");
    // One inside of it counts for it.
    let inner = json!({"value": "inner", "parent": may});
    assert_eq!(host.launch(&inner, HUNGRY).status, 200);
    let told = waited(&host, &may).unwrap();
    assert_eq!(told["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{told}");
    assert_eq!(waited(&host, &inner).unwrap()["exit_status"], 9);
    assert_eq!(host.call("REMOVE_CONTAINER", &json!({"container_id": may})).status, 200);
    assert_eq!(shown(&host, &json!({"show_nested": true})).len(), 1, "the task runs on");
    assert_eq!(inside_of_the_task(&world), 0);
    host.end(&world);
}

/// Cgroups below that of the task, in all hierarchies.
fn inside_of_the_task(world: &World) -> usize {
    let mut left = world.cgroups();
    let mut found = 0;
    while let Some(path) = left.pop() {
        let below = std::fs::read_dir(path).into_iter().flatten().flatten();
        let below = below.map(|entry| entry.path()).filter(|path| path.is_dir());
        let below: Vec<_> = below.collect();
        let named = |path: &&std::path::PathBuf| path.to_string_lossy().contains("/ffffffff-");
        found += below.iter().filter(named).count();
        left.extend(below);
    }
    found
}

#[test]
fn limits_of_its_own_outlive_the_agent() {
    if !has_cgroups("memory") {
        return;
    }
    let world = World::new();
    let mut host = Host::new(&world);
    let id = host.inside("later");
    let script = format!("until test -e go; do sleep 0.1; done; {HUNGRY}");
    assert_eq!(launch(&host, &id, &script, &json!({})).status, 200);
    assert!(
        weights(&world, "memory.limit_in_bytes").len() + weights(&world, "memory.max").len() > 0
    );
    host.agent.kill();
    host.agent.start();
    let known = |host: &Host<'_>| {
        let answer = host.call("GET_CONTAINERS", &json!({"show_nested": true}));
        let told: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
        let all = told["get_containers"]["containers"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["container_id"] == id)
    };
    eventually(|| known(&host).is_some(), || "the agent".to_owned());
    let told = known(&host).unwrap();
    assert_eq!(told["resource_statistics"]["mem_limit_bytes"], 8 << 20, "{told}");
    assert_eq!(told["resource_statistics"]["cpus_soft_limit"], 0.1, "{told}");
    assert_eq!(told["resource_statistics"]["mem_soft_limit_bytes"], 8 << 20, "{told}");
    std::fs::write(host.sandbox().join("containers/later/go"), "").unwrap();
    let told = waited(&host, &id).unwrap();
    assert_eq!(told["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{told}");
    host.end(&world);
}

#[test]
fn limits_that_cannot_be_are_refused_in_mesos_words() {
    let world = World::new();
    let host = Host::new(&world);
    let (own, deep) = (host.inside("a"), json!({"value": "b", "parent": host.inside("a")}));
    let alone = json!({"value": "alone"});
    let linux = |shares: bool| json!({"container": {"type": "MESOS", "linux_info": {"share_cgroups": shares}}});
    let with = |more: Value, resources: Value| {
        let mut more = more;
        more["resources"] = resources;
        more
    };
    let deeper = "'launch_container' is invalid: containers nested at the second level or greater \
                  cannot";
    let limits = json!({"limits": {"mem": {"value": 8}}, "container": null, "resources": []});
    for (id, more, words) in [
        (&own, linux(true), "Resources may only be specified when using separate cgroups".into()),
        (&own, limits.clone(), "when using separate cgroups".to_owned()),
        (&deep, json!({}), format!("{deeper} specify resources")),
        (&deep, limits, format!("{deeper} specify resource limits")),
        (&deep, with(linux(false), json!([])), format!("{deeper} set 'share_cgroups' to 'false'")),
        (
            &alone,
            linux(true),
            "'launch_container' is invalid: containers without a parent cannot set \
             'share_cgroups' to 'true'"
                .to_owned(),
        ),
    ] {
        let answer = launch(&host, id, "true", &more);
        assert!(answer.status == 400 && answer.text().contains(&words), "{}", answer.text());
    }
    let path = host.path();
    let session = json!({"container_id": own, "command": {"value": "true"},
        "container": linux(false)["container"]});
    let answer = call(host.master.port, &path, "LAUNCH_NESTED_CONTAINER_SESSION", &session);
    let words = "'launch_nested_container_session.container.linux_info' is invalid: 'share_cgroups' \
                 cannot be set to 'false' for nested container sessions";
    assert!(answer.status == 400 && answer.text().contains(words), "{}", answer.text());
    let nested = json!({"container_id": deep, "command": {"value": "true"},
        "container": linux(false)["container"]});
    let answer = host.call("LAUNCH_NESTED_CONTAINER", &nested);
    assert!(answer.text().contains("'launch_nested_container' is invalid"), "{}", answer.text());
    assert_eq!(shown(&host, &json!({"show_nested": true})).len(), 1);
    host.end(&world);
}
