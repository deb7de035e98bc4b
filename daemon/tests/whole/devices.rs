//! Devices as resources. A node of the kernel's own random numbers stands for what is plugged in.

use std::process::Command;

use serde_json::{Value, json};

use crate::reads::read_at;
use crate::scheduler_api::{Framework, end, task};
use crate::world::{Master, World, eventually, get, has_cgroups, needs_root};

/// Plugs something in.
pub(crate) fn plug(path: &str) {
    plug_as(path, "9");
}

/// The same with a number of its own.
fn plug_as(path: &str, number: &str) {
    plug_numbers(path, "1", number);
}

fn plug_numbers(path: &str, major: &str, minor: &str) {
    let made = Command::new("mknod").args(["-m", "666", path, "c", major, minor]).status();
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
fn the_next_device_of_its_numbers_is_not_open_to_who_held_the_one_before() {
    if !needs_root() || !has_cgroups("devices") {
        return;
    }
    if !std::path::Path::new("/dev/fuse").exists() {
        return println!("SKIPPED: this kernel has no file systems of users");
    }
    let world = World::new();
    let [one, other, gate] =
        ["tty1", "other", "gate"].map(|name| world.path(name).display().to_string());
    // That of file systems of users: not everybody may open it.
    let plug_fuse = |path: &str| plug_numbers(path, "10", "229");
    plug_fuse(&one);
    let master = world.master(&[]);
    let devices = format!("serial:{{{one}}}");
    let agent = master.agent(&["--resources", "cpus:2;mem:1024", "--devices", &devices]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let wait = |number: u32| format!("until [ -e {gate}{number} ]; do sleep 0.05; done");
    let open = |path: &str| format!("if true <{path}; then touch open; else touch closed; fi");
    let script = format!(
        "{}; mv open was-open; {}; {}; mv closed was-closed; {}; {}; sleep 1000",
        open(&one),
        wait(1),
        open(&other),
        wait(2),
        open(&one),
    );
    framework.launch(&offer, &[with_device(task(&offer, "holds", &script), &one)]);
    while framework.status()["state"] != "TASK_RUNNING" {}
    let sandbox = world.sandboxes(&agent.work_dir().display().to_string()).remove(0);
    let comes = |name: &str| {
        let there = || std::fs::read_dir(&sandbox).unwrap().flatten().map(|one| one.file_name());
        eventually(
            || sandbox.join(name).exists(),
            || format!("{name}: {:?}", there().collect::<Vec<_>>()),
        );
    };
    comes("was-open");
    std::fs::remove_file(&one).unwrap();
    agent.process().says("it is held by task holds");
    plug_fuse(&other);
    // What it may do is changed beside what is said.
    std::thread::sleep(std::time::Duration::from_millis(500));
    std::fs::write(format!("{gate}1"), "").unwrap();
    comes("was-closed");
    // What it holds is back.
    std::fs::remove_file(&other).unwrap();
    plug_fuse(&one);
    eventually(|| total(&master) == format!("{{{one}}}"), || total(&master).to_string());
    std::thread::sleep(std::time::Duration::from_millis(500));
    std::fs::write(format!("{gate}2"), "").unwrap();
    comes("open");
    framework.accepted("TEARDOWN", &Value::Null);
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
