//! Devices as resources. A node of the kernel's own random numbers stands for what is plugged in.

use std::process::Command;

use serde_json::{Value, json};

use crate::reads::read_at;
use crate::scheduler_api::{Framework, end, task};
use crate::world::{Master, World, eventually, get, needs_root};

/// Plugs something in.
pub(crate) fn plug(path: &str) {
    plug_as(path, "9");
}

/// The same with a number of its own.
fn plug_as(path: &str, number: &str) {
    let made = Command::new("mknod").args(["-m", "666", path, "c", "1", number]).status();
    assert!(made.unwrap().success(), "{path}");
}

/// The devices of an offer.
pub(crate) fn offered(offer: &Value) -> Vec<String> {
    let all = offer["resources"].as_array().unwrap().iter();
    let sets = all.filter(|one| one["name"] == "serial").flat_map(|one| {
        let items = one["set"]["item"].as_array().cloned().unwrap_or_default();
        items.into_iter().map(|item| item.as_str().unwrap().to_owned())
    });
    sets.collect()
}

/// A task that holds a device.
pub(crate) fn with_device(mut task: Value, item: &str) -> Value {
    let set = json!({"name": "serial", "type": "SET", "set": {"item": [item]}});
    task["resources"].as_array_mut().unwrap().push(set);
    task
}

/// All that the agent of a master has of them.
fn total(master: &Master<'_>) -> Value {
    read_at(master.port, "/slaves")["slaves"][0]["resources"]["serial"].clone()
}

/// The first offer of which this holds.
pub(crate) fn until(framework: &mut Framework, holds: impl Fn(&Value) -> bool) -> Value {
    loop {
        let offer = framework.offer();
        if holds(&offer) {
            return offer;
        }
        let ids = json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}});
        framework.accepted("DECLINE", &ids);
    }
}

#[test]
fn a_device_is_offered_while_it_is_plugged_in_and_held_by_one() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let [one, two] = ["tty1", "tty2"].map(|name| world.path(name).display().to_string());
    plug(&one);
    let master = world.master(&[]);
    let devices = format!("serial:{{{one},{two}}}");
    let agent = master.agent(&["--resources", "cpus:2;mem:1024", "--devices", &devices]);
    agent.process().says("is not there");
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    assert_eq!(offered(&offer), std::slice::from_ref(&one), "what is not there is not offered");
    let ids = json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}});
    framework.accepted("DECLINE", &ids);
    plug_as(&two, "8");
    let offer = until(&mut framework, |offer| offered(offer).len() == 2);
    framework.launch(&offer, &[with_device(task(&offer, "holds", "sleep 1000"), &one)]);
    let offer = until(&mut framework, |offer| offered(offer) == std::slice::from_ref(&two));
    // What another one holds is not there to be had.
    framework.launch(&offer, &[with_device(task(&offer, "late", "true"), &one)]);
    assert_eq!(framework.end_of("late")["state"], "TASK_ERROR");
    // Both are unplugged: the total shrinks, and who holds one is told.
    std::fs::remove_file(&two).unwrap();
    eventually(|| total(&master) == format!("{{{one}}}"), || total(&master).to_string());
    std::fs::remove_file(&one).unwrap();
    agent.process().says("it is held by task holds");
    eventually(|| total(&master).is_null(), || total(&master).to_string());
    let gone = || get(agent.port, "/metrics");
    eventually(|| gone().contains("devices_gone_held 1"), gone);
    framework.accepted("KILL", &json!({"task_id": {"value": "holds"}}));
    assert_eq!(framework.end_of("holds")["state"], "TASK_KILLED", "it ran on");
    plug(&one);
    until(&mut framework, |offer| offered(offer) == std::slice::from_ref(&one));
    end(&world, master, agent);
}

#[test]
fn what_is_no_set_of_devices_is_refused() {
    let world = World::new();
    for (devices, why) in [
        ("serial:2", "set of devices"),
        ("ports:{a}", "set of devices"),
        ("serial:{null};other:{/dev/null}", "which two tasks would hold at once"),
    ] {
        let work_dir = format!("--work-dir={}", world.path("agent").display());
        let root = format!("--cgroups-root={}", world.name());
        let flags = ["agent", "--master=127.0.0.1:1", &work_dir, &root, "--devices", devices];
        let said = world.told(&flags);
        assert!(said.status != 0 && said.err.contains(why), "{}", said.err);
    }
    world.nothing_is_left();
}
