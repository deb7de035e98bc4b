//! Containers that the operator API starts inside of tasks, and of their own.

use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::http::{Answer, post};
use crate::scheduler_api::{Framework, cluster, end, task};
use crate::world::{Agent, Master, World, eventually, has_cgroups, lives, needs_root};

/// A task that runs for ever, in whose container others are started.
pub(crate) struct Host<'w> {
    pub(crate) master: Master<'w>,
    pub(crate) agent: Agent<'w>,
    pub(crate) framework: Framework,
    pub(crate) offer: Value,
    /// Its container.
    pub(crate) container: Value,
}

impl<'w> Host<'w> {
    pub(crate) fn new(world: &'w World) -> Self {
        let (master, agent) = cluster(world);
        Self::on(master, agent, |_| Vec::new())
    }

    /// The same with more operations of the same ACCEPT, made of the offer.
    pub(crate) fn with(world: &'w World, more: impl Fn(&Value) -> Vec<Value>) -> Self {
        let (master, agent) = cluster(world);
        Self::on(master, agent, more)
    }

    pub(crate) fn on(
        master: Master<'w>,
        agent: Agent<'w>,
        more: impl Fn(&Value) -> Vec<Value>,
    ) -> Self {
        let mut framework = Framework::subscribe(&master, &json!({}));
        let offer = framework.offer();
        let mut host = task(&offer, "host", "echo here > file; sleep 1000");
        host["command"]["environment"]["variables"] = json!([{"name": "OF_HOST", "value": "task"}]);
        let mut operations = vec![json!({"type": "LAUNCH", "launch": {"task_infos": [host]}})];
        operations.extend(more(&offer));
        let accept = json!({"offer_ids": [offer["id"]], "operations": operations});
        framework.accepted("ACCEPT", &accept);
        let container = loop {
            let status = framework.status();
            if status["state"] == "TASK_RUNNING" && status["task_id"]["value"] == "host" {
                break status["container_status"]["container_id"].clone();
            }
        };
        Self { master, agent, framework, offer, container }
    }

    /// The id of a container inside of this one.
    pub(crate) fn inside(&self, name: &str) -> Value {
        json!({"value": name, "parent": self.container})
    }

    /// The path of the agent's API on the master.
    pub(crate) fn path(&self) -> String {
        format!("/agent/{}/api/v1", self.offer["agent_id"]["value"].as_str().unwrap())
    }

    /// Makes a call by way of the master.
    pub(crate) fn call(&self, kind: &str, part: &Value) -> Answer {
        call(self.master.port, &self.path(), kind, part)
    }

    pub(crate) fn launch(&self, id: &Value, command: &str) -> Answer {
        let command = json!({"value": command});
        self.call("LAUNCH_NESTED_CONTAINER", &json!({"container_id": id, "command": command}))
    }

    fn about(&self, kind: &str, id: &Value) -> Answer {
        self.call(kind, &json!({ "container_id": id }))
    }

    fn waited(&self, id: &Value) -> Value {
        let answer = self.about("WAIT_NESTED_CONTAINER", id);
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_str::<Value>(&answer.text()).unwrap()["wait_nested_container"].clone()
    }

    pub(crate) fn sandbox(&self) -> PathBuf {
        let id = self.container["value"].as_str().unwrap();
        self.agent.work_dir().join("sandboxes").join(id)
    }

    pub(crate) fn end(self, world: &World) {
        let Self { master, agent, framework, .. } = self;
        framework.accepted("TEARDOWN", &Value::Null);
        end(world, master, agent);
    }
}

pub(crate) fn call(port: u16, path: &str, kind: &str, part: &Value) -> Answer {
    let mut call = json!({"type": kind});
    call[kind.to_lowercase()] = part.clone();
    post(port, path, &[], &call)
}

pub(crate) fn shown(host: &Host<'_>, also: &Value) -> Vec<Value> {
    let answer = host.call("GET_CONTAINERS", also);
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    told["get_containers"]["containers"].as_array().unwrap().clone()
}

#[test]
fn a_nested_container_names_what_it_is_inside_of() {
    let world = World::new();
    let host = Host::new(&world);
    for kind in ["LAUNCH_NESTED_CONTAINER", "LAUNCH_NESTED_CONTAINER_SESSION"] {
        let part = json!({"container_id": {"value": "x"}, "command": {"value": "true"}});
        let answer = host.call(kind, &part);
        let words =
            format!("Expecting '{}.container_id.parent' to be present", kind.to_lowercase());
        assert!(answer.status == 400 && answer.text().contains(&words), "{}", answer.text());
    }
    host.end(&world);
}

#[test]
fn a_container_inside_of_a_task_has_its_own_files_and_end() {
    let world = World::new();
    let host = Host::new(&world);
    let id = host.inside("redis");
    let script = "cat ../../file; echo oops >&2; test \"$MESOS_TASK_ID\" = host && exit 7";
    assert_eq!(host.launch(&id, script).status, 200);
    assert_eq!(host.waited(&id)["exit_status"], 7 << 8);
    let sandbox = host.sandbox().join("containers/redis");
    let read = |name: &str| std::fs::read_to_string(sandbox.join(name)).unwrap();
    assert_eq!((read("stdout"), read("stderr")), ("here\n".to_owned(), "oops\n".to_owned()));
    // Its name is taken until it is removed, and its sandbox goes then.
    assert_eq!(host.launch(&id, "true").status, 202);
    assert_eq!(host.about("REMOVE_NESTED_CONTAINER", &id).status, 200);
    assert!(!sandbox.exists());
    assert_eq!(host.about("WAIT_NESTED_CONTAINER", &id).status, 404);
    // One inside of another ends with that, and is shown while it runs.
    assert_eq!(host.launch(&id, "sleep 1000").status, 200);
    let inner = json!({"value": "backup", "parent": id});
    assert_eq!(host.launch(&inner, "sleep 1000").status, 200);
    let nested = json!({"show_nested": true});
    let told = shown(&host, &nested);
    assert!(told.iter().any(|one| one["container_id"] == inner), "{told:?}");
    let own = told.iter().find(|one| one["container_id"] == id).unwrap();
    assert_eq!(own["executor_id"]["value"], "host");
    assert_eq!(shown(&host, &json!({})).len(), 1);
    assert_eq!(host.about("REMOVE_NESTED_CONTAINER", &id).status, 500);
    let kill = json!({"container_id": id, "signal": 15});
    assert_eq!(host.call("KILL_NESTED_CONTAINER", &kill).status, 200);
    assert_eq!(host.waited(&id)["exit_status"], 15);
    assert_eq!(host.waited(&inner)["exit_status"], 9);
    assert_eq!(host.about("KILL_NESTED_CONTAINER", &id).status, 404);
    eventually(|| shown(&host, &nested).len() == 1, || "their end".to_owned());
    host.end(&world);
}

#[test]
fn a_container_inside_of_a_task_is_its_users_who_may_be_another_than_the_tasks() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut host = task(&offer, "host", "echo here > file; sleep 1000");
    host["command"]["user"] = json!("nobody");
    framework.launch(&offer, &[host]);
    let container = loop {
        let status = framework.status();
        assert_ne!(status["state"], "TASK_FAILED", "{status}");
        if status["state"] == "TASK_RUNNING" {
            break status["container_status"]["container_id"].clone();
        }
    };
    let host = Host { master, agent, framework, offer, container };
    let containers = host.sandbox().join("containers");
    for user in ["daemon", "root"] {
        let id = host.inside("kid");
        let script = "id -un; echo own > mine; cat mine; ls ../..; cat ../../file";
        let command = json!({"value": script, "user": user});
        let asked = json!({"container_id": id, "command": command});
        let answer = host.call("LAUNCH_NESTED_CONTAINER", &asked);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_ne!(host.waited(&id)["exit_status"], 0, "it read what is the task's");
        let own = containers.join("kid");
        let read = |name: &str| std::fs::read_to_string(own.join(name)).unwrap();
        assert_eq!(read("stdout"), format!("{user}\nown\n"), "{}", read("stderr"));
        for (at, of) in [(&containers, "nobody"), (&own, user)] {
            use std::os::unix::fs::MetadataExt;
            let told = std::fs::metadata(at).unwrap();
            let owner = mesita_isolation::user::name_of(told.uid());
            let mode = told.mode() & 0o7777;
            assert_eq!((owner.as_deref(), mode), (Some(of), 0o700), "{}", at.display());
        }
        assert_eq!(host.about("REMOVE_NESTED_CONTAINER", &id).status, 200);
        assert!(!own.exists());
        // Who has no directory there is in the task's all the same.
        let address = host.master.address();
        let line = ["exec", "--master", &address, "--user", user, "host", "--", "id", "-un"];
        let said = world.told(&line);
        assert_eq!(said.out, format!("{user}\n"), "{}", said.err);
    }
    host.end(&world);
}

#[test]
fn what_is_wrong_with_a_call_about_containers_is_told_and_changes_nothing() {
    let world = World::new();
    let host = Host::new(&world);
    let deep = (0..12).fold(host.container.clone(), |at, _| json!({"value": "x", "parent": at}));
    let nowhere = json!({"value": "a", "parent": {"value": "1-999"}});
    let long = json!({"value": "x".repeat(300), "parent": host.container});
    for (id, status, words) in [
        (host.inside(".."), 400, "is invalid"),
        (host.inside("a/b"), 400, "contains invalid characters"),
        (host.inside(""), 400, "must not be empty"),
        (long, 400, "must not be greater"),
        (deep, 400, "inside of one another"),
        (nowhere, 404, "Container 1-999 cannot be found"),
    ] {
        let answer = host.launch(&id, "true");
        assert!(answer.status == status && answer.text().contains(words), "{}", answer.text());
        for kind in ["WAIT_CONTAINER", "KILL_CONTAINER", "REMOVE_CONTAINER"] {
            assert_eq!(host.about(kind, &id).status, status, "{kind} {id}");
        }
    }
    let id = host.inside("a");
    let launch = |more: Value| {
        let mut part = json!({"container_id": id, "command": {"value": "true"}});
        part.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        host.call("LAUNCH_CONTAINER", &part)
    };
    let mem = json!([{"name": "mem", "type": "SCALAR", "scalar": {"value": 8}}]);
    for (more, words) in [
        (json!({"command": {"value": "x".repeat(300_000)}}), "at most 196608"),
        (json!({"command": {"value": ""}}), "the command is empty"),
        (json!({"resources": mem}), "separate cgroups"),
        (
            json!({"container": {"type": "MESOS", "mesos": {"image": {"type": "DOCKER",
            "docker": {"name": "x"}}}}}),
            "image is not supported",
        ),
    ] {
        let answer = launch(more);
        assert!(answer.status == 400 && answer.text().contains(words), "{}", answer.text());
    }
    let absent = launch(json!({"command": {"shell": false, "value": "/nowhere"}}));
    assert!(absent.status == 500 && absent.text().contains("cannot execute"), "{}", absent.text());
    let none = post(host.master.port, &host.path(), &[], &json!({"type": "WAIT_CONTAINER"}));
    assert!(none.text().contains("Expecting 'wait_container' to be present"), "{}", none.text());
    let signal = json!({"container_id": id, "signal": 99});
    assert_eq!(host.call("KILL_CONTAINER", &signal).status, 400);
    assert!(shown(&host, &json!({"show_nested": true})).len() == 1);
    host.end(&world);
}

#[test]
fn a_container_inside_of_a_task_has_the_walls_that_it_asks_for_or_is_refused() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--effective-capabilities", "CHOWN,NET_RAW"]);
    let host = Host::on(master, agent, |_| Vec::new());
    let asks = |name: &str, container: Value| {
        let command = json!({"value": "grep CapEff /proc/self/status; ulimit -n"});
        let id = host.inside(name);
        let part = json!({"container_id": id, "command": command, "container": container});
        host.call("LAUNCH_NESTED_CONTAINER", &part)
    };
    let set = |names: &[&str]| {
        let effective = json!({ "capabilities": names });
        json!({"type": "MESOS", "linux_info": {"effective_capabilities": effective}})
    };
    let mut less = set(&["NET_RAW"]);
    less["rlimit_info"] = json!({"rlimits": [{"type": "RLMT_NOFILE", "soft": 77, "hard": 77}]});
    assert_eq!(asks("less", less).status, 200);
    assert_eq!(host.waited(&host.inside("less"))["exit_status"], 0);
    let said = std::fs::read_to_string(host.sandbox().join("containers/less/stdout")).unwrap();
    assert_eq!(said, "CapEff:\t0000000000002000\n77\n");
    let answer = asks("more", set(&["SYS_ADMIN"]));
    let words = "effective capabilities requested are SYS_ADMIN, and only CHOWN,NET_RAW";
    assert!(answer.status == 500 && answer.text().contains(words), "{}", answer.text());
    let shm = json!({"type": "MESOS", "linux_info": {"shm_size": 8}});
    let answer = asks("shm", shm);
    assert!(
        answer.status == 400 && answer.text().contains("shares the memory"),
        "{}",
        answer.text()
    );
    host.end(&world);
}

/// What a script prints of the processes that it sees: the namespace, its own number, and how many there
/// are; and of what is hidden of the machine, and kept.
const SEES: &str = "echo $(readlink /proc/self/ns/pid) $$ $(ls -d /proc/[0-9]* | wc -l) \
    $(head -c 1 /proc/kcore 2>/dev/null | wc -c) \
    $(sh -c 'echo 1 > /proc/sys/kernel/panic_on_oops' 2>/dev/null || echo kept)";

#[test]
fn a_container_inside_of_another_has_processes_of_its_own_unless_it_asks_for_its_parents() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let mut host = Host::new(&world);
    let launch = |host: &Host<'_>, id: &Value, then: &str, shares: Value| {
        let info = json!({"type": "MESOS", "linux_info": {"share_pid_namespace": shares}});
        let command = json!({"value": format!("{SEES}; touch seen; {then}")});
        let part = json!({"container_id": id, "command": command, "container": info});
        let answer = host.call("LAUNCH_NESTED_CONTAINER", &part);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let seen = |host: &Host<'_>, below: &str| {
        let sandbox = host.sandbox().join(below);
        eventually(|| sandbox.join("seen").exists(), || format!("what {below} sees"));
        let said = std::fs::read_to_string(sandbox.join("stdout")).unwrap();
        let words: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
        assert_eq!(words[3..], ["0", "kept"], "{said}");
        (words[0].clone(), words[1].clone(), words[2].parse::<u32>().unwrap())
    };
    // One that is in its parent's finds the task there, and each other one process 1 and itself.
    let (shares, own, plain) = (host.inside("shares"), host.inside("own"), host.inside("plain"));
    launch(&host, &shares, "kill -0 2", json!(true));
    let parents = seen(&host, "containers/shares");
    assert_eq!(host.waited(&shares)["exit_status"], 0);
    launch(&host, &own, "trap 'exit 6' TERM; while :; do sleep 0.1; done", json!(false));
    let first = seen(&host, "containers/own");
    assert!(first.0 != parents.0 && first.1 == "2" && first.2 <= 5, "{first:?}");
    launch(&host, &plain, "setsid sleep 1234 & exit 0", Value::Null);
    let second = seen(&host, "containers/plain");
    assert!(![&parents.0, &first.0].contains(&&second.0), "{second:?}");
    assert_eq!(host.waited(&plain)["exit_status"], 0);
    // What is inside of it is in its namespaces, of which a session has no others: also when another
    // agent starts that.
    let session = |host: &Host<'_>, inside: &Value, name: &str| {
        let id = json!({"value": name, "parent": inside});
        let command = json!({"value": "readlink /proc/self/ns/pid"});
        let part = json!({"container_id": id, "command": command});
        let path = host.path();
        let answer = call(host.master.port, &path, "LAUNCH_NESTED_CONTAINER_SESSION", &part);
        assert_eq!(answer.status, 200, "{}", answer.text());
        // The first record, behind its length.
        let text = answer.text();
        let mut records = serde_json::Deserializer::from_str(text.split_once('\n').unwrap().1);
        let told = <Value as serde::Deserialize>::deserialize(&mut records).unwrap();
        let bytes = BASE64_STANDARD.decode(told["data"]["data"].as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let ask = |host: &Host<'_>, name: &str| {
        let deep = json!({"value": name, "parent": own});
        launch(host, &deep, "exit 3", json!(true));
        assert_eq!(seen(host, &format!("containers/own/containers/{name}")).0, first.0);
        assert_eq!(host.waited(&deep)["exit_status"], 3 << 8);
        assert_eq!(session(host, &own, &format!("of-{name}")).trim(), first.0);
        let beside = session(host, &host.container, &format!("beside-{name}"));
        assert_eq!(beside.trim(), parents.0);
    };
    ask(&host, "before");
    host.agent.kill();
    host.agent.start();
    eventually(|| host.about("WAIT_NESTED_CONTAINER", &plain).status == 200, || "the agent".into());
    ask(&host, "after");
    let deep = json!({"value": "deep", "parent": own});
    launch(&host, &deep, "sleep 1000", Value::Null);
    let third = seen(&host, "containers/own/containers/deep");
    assert!(![&parents.0, &first.0].contains(&&third.0), "{third:?}");
    // It hears a signal, and ends with all that is inside.
    let kill = json!({"container_id": own, "signal": 15});
    assert_eq!(host.call("KILL_NESTED_CONTAINER", &kill).status, 200);
    assert_eq!(host.waited(&own)["exit_status"], 6 << 8);
    assert_eq!(host.waited(&deep)["exit_status"], 9);
    host.end(&world);
}

#[test]
fn containers_inside_of_tasks_are_so_many_and_no_more() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--inner-containers-max", "2"]);
    let host = Host::on(master, agent, |_| Vec::new());
    assert_eq!(host.launch(&host.inside("a"), "true").status, 200);
    assert_eq!(host.launch(&host.inside("b"), "sleep 1000").status, 200);
    let full = host.launch(&host.inside("c"), "true");
    assert!(full.status == 503 && full.text().contains("--inner-containers-max"), "{full:?}");
    let metrics = crate::world::get(host.agent.port, "/metrics");
    assert!(metrics.contains("mesita_agent_inner_containers_refused_total 1"), "{metrics}");
    host.waited(&host.inside("a"));
    assert_eq!(host.about("REMOVE_CONTAINER", &host.inside("a")).status, 200);
    assert_eq!(host.launch(&host.inside("c"), "true").status, 200);
    host.end(&world);
}

#[test]
fn containers_inside_of_a_task_outlive_an_agent_that_is_killed_and_end_with_the_task() {
    let world = World::new();
    let mut host = Host::new(&world);
    let (stays, ends) = (host.inside("stays"), host.inside("ends"));
    assert_eq!(host.launch(&stays, "trap '' TERM; sleep 1000 & wait; wait").status, 200);
    assert_eq!(host.launch(&ends, "while test ! -e go; do sleep 0.1; done; exit 3").status, 200);
    host.agent.kill();
    std::fs::write(host.sandbox().join("containers/ends/go"), "").unwrap();
    host.agent.start();
    let again = |host: &Host<'_>| {
        let told = host.about("WAIT_NESTED_CONTAINER", &ends);
        (told.status == 200).then(|| serde_json::from_str::<Value>(&told.text()).unwrap())
    };
    eventually(|| again(&host).is_some(), || "the agent".to_owned());
    assert_eq!(again(&host).unwrap()["wait_nested_container"]["exit_status"], 3 << 8);
    // What ended is known also to the third agent.
    host.agent.kill();
    host.agent.start();
    eventually(|| again(&host).is_some(), || "the agent".to_owned());
    assert_eq!(again(&host).unwrap()["wait_nested_container"]["exit_status"], 3 << 8);
    host.framework.accepted("KILL", &json!({"task_id": {"value": "host"}}));
    assert_eq!(host.framework.end_of("host")["state"], "TASK_KILLED");
    eventually(
        || host.about("WAIT_NESTED_CONTAINER", &stays).status == 404,
        || "the end of what was inside of the task".to_owned(),
    );
    let meta = host.agent.work_dir().join("meta/inner");
    let left = || std::fs::read_dir(&meta).unwrap().count();
    eventually(|| left() == 0, || "what is known of it".to_owned());
    host.end(&world);
}

#[test]
fn all_of_a_container_inside_of_a_task_is_killed_and_nothing_of_the_task() {
    if !has_cgroups("pids") {
        return;
    }
    let world = World::new();
    let host = Host::new(&world);
    let id = host.inside("a");
    // One that leaves its session and its group, so that only a cgroup holds it.
    let script = "setsid sleep 1234 & echo $! > pid; sync; wait";
    assert_eq!(host.launch(&id, script).status, 200);
    let path = host.sandbox().join("containers/a/pid");
    let hidden = || {
        crate::world::pids().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let own = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let marked =
                own.windows(world.name().len()).any(|part| part == world.name().as_bytes());
            line.starts_with(b"sleep\x001234") && (marked || path.exists())
        })
    };
    eventually(|| path.exists() && hidden().is_some(), || "its process".to_owned());
    let pid = hidden().unwrap();
    assert_eq!(host.about("KILL_CONTAINER", &id).status, 200);
    assert_eq!(host.waited(&id)["exit_status"], 9);
    eventually(|| !lives(pid), || format!("the end of {pid}"));
    assert_eq!(host.launch(&host.inside("b"), "true").status, 200);
    host.end(&world);
}

#[test]
fn a_container_of_its_own_has_resources_and_outlives_the_agent() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let mut host = Host::new(&world);
    let id = json!({"value": "alone"});
    let part = json!({"container_id": id, "command": {"value": "echo $PWD; sleep 1000"},
        "resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
                      {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}]});
    let launched = host.call("LAUNCH_CONTAINER", &part);
    assert_eq!(launched.status, 200, "{}", launched.text());
    let own = |host: &Host<'_>| {
        let told = shown(host, &json!({"show_standalone": true}));
        told.into_iter().find(|one| one["container_id"] == id)
    };
    let told = own(&host).unwrap();
    assert!(told["framework_id"].is_null() && told["executor_id"].is_null(), "{told}");
    if has_cgroups("memory") {
        let limit = told["resource_statistics"]["mem_limit_bytes"].as_u64();
        assert_eq!(limit, Some(64 << 20), "{told}");
    }
    let inner = json!({"value": "inner", "parent": id});
    assert_eq!(host.launch(&inner, "exit 4").status, 200);
    assert_eq!(host.waited(&inner)["exit_status"], 4 << 8);
    host.agent.kill();
    host.agent.start();
    eventually(|| host.about("WAIT_NESTED_CONTAINER", &inner).status == 200, || "the agent".into());
    assert!(own(&host).is_some());
    assert_eq!(host.about("KILL_CONTAINER", &id).status, 200);
    let answer = host.about("WAIT_CONTAINER", &id);
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(told["wait_container"]["exit_status"], 9, "{told}");
    assert_eq!(host.about("REMOVE_CONTAINER", &id).status, 200);
    assert_eq!(host.about("WAIT_CONTAINER", &id).status, 404);
    if has_cgroups("memory") {
        let part = json!({"container_id": id, "command": {"value": "tail /dev/zero"},
            "resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 16}}]});
        assert_eq!(host.call("LAUNCH_CONTAINER", &part).status, 200);
        let answer = host.about("WAIT_CONTAINER", &id);
        let told: Value = serde_json::from_str(&answer.text()).unwrap();
        let told = &told["wait_container"];
        assert_eq!(told["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{told}");
        let limited = &told["limitation"]["resources"];
        assert_eq!(limited[0]["name"], "mem", "{told}");
        assert_eq!(limited[0]["scalar"]["value"], 16.0, "{told}");
        assert_eq!(host.about("REMOVE_CONTAINER", &id).status, 200);
    }
    host.end(&world);
}

/// An executor that only asks its agent: for a container inside of its own, how that ended, and for
/// one inside of another's.
const ASKS: &str = r#"
ask() {
    exec 3<>/dev/tcp/${MESOS_AGENT_ENDPOINT%:*}/${MESOS_AGENT_ENDPOINT#*:}
    printf 'POST /api/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n' >&3
    printf 'Content-Type: application/json\r\n' >&3
    printf 'Authorization: Bearer %s\r\n' "$MESOS_EXECUTOR_AUTHENTICATION_TOKEN" >&3
    printf 'Content-Length: %d\r\n\r\n%s' ${#1} "$1" >&3
    cat <&3 > "$2"
    exec 3>&-
}
launch() {
    ask '{"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": {"container_id":
        {"value": "kid", "parent": {"value": "'$1'"}}, "command": {"value": "exit 3"'"$3"'}}}' $2
}
OWN=$(basename $MESOS_SANDBOX)
launch $OWN launched
ask '{"type": "WAIT_NESTED_CONTAINER", "wait_nested_container": {"container_id":
    {"value": "kid", "parent": {"value": "'$OWN'"}}}}' waited
launch $OTHER foreign
ask '{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id":
    {"value": "again", "parent": {"value": "'$OWN'"}}, "command": {"value": "exit 4"}}}' launched-again
ask '{"type": "WAIT_CONTAINER", "wait_container": {"container_id":
    {"value": "again", "parent": {"value": "'$OWN'"}}}}' waited-again
launch $OWN user ', "user": "daemon"'
ask '{"type": "GET_STATE"}' state
touch over
sleep 1000
"#;

#[test]
fn an_executor_has_containers_inside_of_its_own_and_of_no_other() {
    let world = World::new();
    let host = Host::with(&world, |offer| {
        let mut asks = task(offer, "asks", "");
        asks.as_object_mut().unwrap().remove("command");
        // By default it is given 1 MiB, which a shell may or may not do with.
        let resources = asks["resources"].clone();
        asks["executor"] = json!({"type": "CUSTOM", "executor_id": {"value": "asking"},
            "command": {"shell": false, "value": "/bin/bash", "arguments": ["bash", "-c", ASKS],
                "environment": {"variables": [{"name": "OTHER", "value": "1-1"}]}},
            "resources": resources});
        vec![json!({"type": "LAUNCH", "launch": {"task_infos": [asks]}})]
    });
    assert_eq!(host.container["value"], "1-1");
    let work_dir = host.agent.work_dir().display().to_string();
    let sandbox = || world.sandboxes(&work_dir).into_iter().find(|path| path.join("over").exists());
    eventually(|| sandbox().is_some(), || "the executor".to_owned());
    let sandbox = sandbox().unwrap();
    let read = |name: &str| std::fs::read_to_string(sandbox.join(name)).unwrap();
    assert!(read("launched").starts_with("HTTP/1.1 200 "), "{}", read("launched"));
    assert!(read("waited").contains("\"exit_status\":768"), "{}", read("waited"));
    let again = read("launched-again");
    assert!(again.starts_with("HTTP/1.1 200 "), "{again}");
    assert!(read("waited-again").contains("\"exit_status\":1024"), "{}", read("waited-again"));
    assert!(read("foreign").starts_with("HTTP/1.1 403 "), "{}", read("foreign"));
    assert!(read("user").starts_with("HTTP/1.1 403 "), "{}", read("user"));
    assert!(read("state").starts_with("HTTP/1.1 403 "), "{}", read("state"));
    host.end(&world);
}

#[test]
fn who_is_removed_right_after_its_end_leaves_nobody_inside() {
    let world = World::new();
    let host = Host::new(&world);
    let outer = host.inside("outer");
    let inner = json!({"value": "inner", "parent": outer});
    for turn in 0..20 {
        assert_eq!(host.launch(&outer, "exec sleep 1000").status, 200, "{turn}");
        assert_eq!(host.launch(&inner, "exec sleep 2000").status, 200, "{turn}");
        assert_eq!(host.about("KILL_NESTED_CONTAINER", &outer).status, 200, "{turn}");
        // As soon as it may be removed.
        let remove = || host.about("REMOVE_NESTED_CONTAINER", &outer).status;
        assert!((0..10_000).any(|_| remove() == 200), "{turn}: not to be removed");
        let alive = world.processes().into_iter().any(|(_, called)| called.contains("sleep 2000"));
        assert!(!alive, "{turn}: {:?}", world.processes());
        assert_eq!(host.about("WAIT_NESTED_CONTAINER", &inner).status, 404, "{turn}");
    }
    let kept = host.agent.work_dir().join("meta/inner");
    let files = || std::fs::read_dir(&kept).into_iter().flatten().flatten().count();
    eventually(|| files() == 0, || format!("{} files", files()));
    host.end(&world);
}

#[test]
fn a_container_inside_of_a_task_has_what_its_command_needs() {
    let world = World::new();
    let host = Host::new(&world);
    let file = world.path("needed");
    std::fs::write(&file, "needed\n").unwrap();
    let launch = |name: &str, uri: &str, command: &str| {
        let command = json!({"value": command, "uris": [{"value": uri, "output_file": "in/it"}]});
        let part = json!({"container_id": host.inside(name), "command": command});
        host.call("LAUNCH_NESTED_CONTAINER", &part)
    };
    let path = file.to_str().unwrap();
    assert_eq!(launch("has", path, "cat in/it").status, 200);
    assert_eq!(host.waited(&host.inside("has"))["exit_status"], 0);
    let said = host.sandbox().join("containers/has/stdout");
    assert_eq!(std::fs::read_to_string(said).unwrap(), "needed\n");
    // Without it there is no container, and nothing is left of it.
    let absent = launch("lacks", "/nowhere/at/all", "true");
    assert!(absent.status == 500 && absent.text().contains("Failed to fetch"), "{}", absent.text());
    assert_eq!(launch("lacks", path, "true").status, 200);
    host.end(&world);
}
