//! Answers to offers: as long as they may be, as wrong as they may be.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::scheduler_api::{Framework, cluster, end, task};
use crate::world::World;

#[test]
fn a_thousand_tasks_are_launched_by_one_call() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--resources", "cpus:10;mem:2048", "--size", "max"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let tasks = (0..1_000).map(|number| {
        let mut task = task(&offer, &format!("t{number}"), "true");
        // One in the middle cannot be.
        let (cpus, mem) = (if number == 500 { 20.0 } else { 0.001 }, 1);
        task["resources"][0]["scalar"]["value"] = json!(cpus);
        task["resources"][1]["scalar"]["value"] = json!(mem);
        task["command"] = json!({"shell": false, "value": "/bin/true", "arguments": ["true"]});
        task
    });
    framework.launch(&offer, &tasks.collect::<Vec<_>>());
    let mut ends = BTreeMap::new();
    while ends.len() < 1_000 {
        let status = framework.status();
        let state = status["state"].as_str().unwrap().to_owned();
        if !["TASK_STARTING", "TASK_RUNNING"].contains(&state.as_str()) {
            let name = status["task_id"]["value"].as_str().unwrap().to_owned();
            assert!(state == "TASK_FINISHED" || name == "t500", "{status}");
            // What is not acknowledged in time is told again.
            let before = ends.insert(name, state.clone());
            assert!(before.is_none_or(|before| before == state), "{status}");
        }
    }
    assert_eq!(ends.remove("t500").unwrap(), "TASK_ERROR");
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn each_of_many_wrong_tasks_is_told_what_is_wrong_however_long_that_is() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let tasks = (0..250).map(|number| {
        let mut task = task(&offer, &format!("{number:0200}"), "true");
        // What is not printed takes several characters in a sentence.
        task["resources"][0]["reservations"] =
            json!([{"type": "DYNAMIC", "role": "\u{1}".repeat(250)}]);
        task
    });
    framework.launch(&offer, &tasks.collect::<Vec<_>>());
    for _ in 0..250 {
        let status = framework.status();
        assert_eq!(status["state"], "TASK_ERROR", "{status}");
        let message = status["message"].as_str().unwrap();
        assert!(message.contains("\\u{1}\\u{1}"), "{status}");
    }
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}
