//! Tasks in containers of a Docker engine: Debian's own, started by each test in its directory, with
//! an image that is made there.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::devices::{offered, plug, until, with_device};
use crate::executors::Executor;
use crate::reads::read_at;
use crate::scheduler_api::{Framework, task};
use crate::world::{Agent, Master, Process, Signal, World, eventually, needs_root};

/// The programs of the image: links to busybox.
const PROGRAMS: [&str; 10] =
    ["sh", "sleep", "echo", "cat", "id", "dd", "tr", "env", "wget", "grep"];

/// An engine with one image, `bb:1`.
struct Engine<'w> {
    world: &'w World,
    directory: PathBuf,
    process: Option<Process>,
    wrapper: Vec<&'static str>,
}

impl<'w> Engine<'w> {
    /// One that runs; none, and why, where there cannot be one.
    fn start(world: &'w World, wrapper: &[&'static str]) -> Option<Self> {
        let found = |path: &str| Path::new(path).exists();
        if !needs_root() {
            return None;
        }
        if !["/usr/sbin/dockerd", "/bin/busybox"].into_iter().all(found) {
            println!("SKIPPED: needs docker.io and busybox-static; ci/clients installs them");
            return None;
        }
        let directory = world.path("engine");
        fs::create_dir(&directory).unwrap();
        let mut engine = Self { world, directory, process: None, wrapper: wrapper.to_vec() };
        engine.begin();
        engine.import();
        Some(engine)
    }

    fn begin(&mut self) {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let mut arguments = vec![
            format!("--host=unix://{}", at("socket")),
            format!("--data-root={}", at("data")),
            format!("--exec-root={}", at("exec")),
            format!("--pidfile={}", at("pid")),
            format!("--cgroup-parent=/{}", self.world.name()),
            "--iptables=false".to_owned(),
            "--ip6tables=false".to_owned(),
            "--storage-driver=vfs".to_owned(),
        ];
        if self.wrapper.is_empty() {
            arguments.push("--bridge=none".to_owned());
        }
        let mut command = match self.wrapper.is_empty() {
            true => self.world.command_in(&["env"], "dockerd"),
            false => self.world.command_in(&self.wrapper, "dockerd"),
        };
        command.args(arguments);
        // Where dead ones were, whom nobody may have waited for yet.
        for file in ["pid", "exec/containerd/containerd.pid"] {
            let _ = fs::remove_file(self.directory.join(file));
        }
        self.process = Some(self.world.start(command));
        eventually(
            || self.answers(),
            || format!("an engine: {}", self.process.as_ref().unwrap().err()),
        );
    }

    /// True when it answers, and not only listens.
    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else { return false };
        let mut said = String::new();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let asked = stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n");
        asked.and_then(|()| stream.read_to_string(&mut said)).is_ok() && said.ends_with("OK")
    }

    fn import(&self) {
        let root = self.world.path("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in PROGRAMS {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let tar = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output().unwrap();
        assert!(tar.status.success());
        let said = self.send("POST", "/images/create?fromSrc=-&repo=bb&tag=1", &tar.stdout);
        assert!(said.contains("sha256:"), "{said}");
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let kind =
            if body.first() == Some(&b'{') { "application/json" } else { "application/x-tar" };
        let len = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        let said = String::from_utf8_lossy(&said).into_owned();
        said.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        serde_json::from_str(&self.send(method, path, body.as_bytes())).unwrap_or_default()
    }

    /// The names of all containers, and how they are.
    fn containers(&self) -> Vec<(String, String)> {
        let rows = self.ask("GET", "/containers/json?all=1", &Value::Null);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rows = rows.as_array().into_iter().flatten();
        rows.map(|row| (text(&row["Names"][0]), text(&row["State"]))).collect()
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }

    /// Ends it, with all that it has.
    fn stop(mut self) {
        self.end();
        self.world.nothing_is_left();
    }

    fn end(&mut self) {
        let Some(process) = self.process.take() else { return };
        process.signal(Signal::CONT);
        for (name, _) in self.containers() {
            self.send("DELETE", &format!("/containers{name}?force=1"), b"");
        }
        process.signal(Signal::TERM);
        process.end();
        let _ = Command::new("umount").arg(self.directory.join("exec/netns/default")).output();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.directory.display().to_string();
        for mount in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
            if mount.starts_with(&own) {
                let _ = Command::new("umount").arg(mount).output();
            }
        }
        // What it makes for its containers it leaves there.
        let _ = Command::new("find")
            .args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path"])
            .args([format!("*/{}*", self.world.name()), "-delete".to_owned()])
            .output();
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

fn cluster<'w>(world: &'w World, socket: &Path, more: &[&str]) -> (Master<'w>, Agent<'w>) {
    // What was offered while something else was waited for is offered again.
    let master = world.master(&["--offer-timeout=5secs"]);
    let socket = format!("--docker-socket={}", socket.display());
    let flags =
        ["--resources=cpus:2;mem:1024;ports:[31000-31009]", "--containerizers=docker,mesos"];
    let agent = master.agent(&[&flags[..], &[socket.as_str()], more].concat());
    (master, agent)
}

/// A task in a container.
fn contained(offer: &Value, name: &str, command: &str) -> Value {
    let mut task = task(offer, name, command);
    task["container"] = json!({"type": "DOCKER", "docker": {"image": "bb:1"}});
    task
}

/// A line that goes on until it is asked to end.
const WAITS: &str = "trap 'echo bye; exit 0' TERM; echo here; while :; do sleep 0.05; done";

/// What a task wrote, by a file in its sandbox.
fn wrote(agent: &Agent<'_>, file: &str) -> Vec<String> {
    let sandboxes = fs::read_dir(agent.work_dir().join("sandboxes")).unwrap().flatten();
    let read = sandboxes.filter_map(|entry| fs::read_to_string(entry.path().join(file)).ok());
    read.collect()
}

fn running(framework: &mut Framework, task: &str) -> Value {
    loop {
        let status = framework.status();
        assert_eq!(status["task_id"]["value"], task, "{status}");
        if status["state"] == "TASK_RUNNING" {
            return status;
        }
        assert!(status["state"] == "TASK_STARTING", "{status}");
    }
}

#[test]
fn a_task_runs_in_a_container_of_the_engines_and_is_told_as_mesos_tells_it() {
    let world = World::new();
    let Some(engine) = Engine::start(&world, &[]) else { return };
    let (master, agent) = cluster(
        &world,
        &engine.socket(),
        &["--docker-remove-delay=0ns", "--fetcher-stall-timeout=5secs"],
    );
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let attributes = offer["attributes"].to_string();
    assert!(
        attributes.contains("docker,mesos") || attributes.contains("\"docker\""),
        "{attributes}"
    );

    let line = "echo out; echo err >&2; echo $MESOS_TASK_ID > $MESOS_SANDBOX/file; exit 3";
    framework.launch(&offer, &[contained(&offer, "three", line)]);
    let status = running(&mut framework, "three");
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.decode(status["data"].as_str().unwrap());
    let data: Value = serde_json::from_slice(&data.unwrap()).unwrap();
    assert_eq!(data[0]["Config"]["Image"], "bb:1", "as docker inspect prints it");
    assert_eq!(data[0]["HostConfig"]["Memory"], 32 << 20);
    assert_eq!(data[0]["HostConfig"]["CpuShares"], 102);
    // Where the kernel shares no disks by weight, the engine does without.
    assert!([json!(10), json!(0)].contains(&data[0]["HostConfig"]["BlkioWeight"]), "{data}");
    let ended = framework.end_of("three");
    assert_eq!(ended["state"], "TASK_FAILED");
    assert!(ended["message"].as_str().unwrap().contains("status 3"), "{ended}");
    assert_eq!(wrote(&agent, "stdout"), ["out\n"]);
    assert_eq!(wrote(&agent, "stderr"), ["err\n"]);
    assert_eq!(wrote(&agent, "file"), ["three\n"]);
    let gone = || engine.containers().is_empty();
    eventually(gone, || format!("removed after its delay: {:?}", engine.containers()));

    // An image's own program, with arguments; too much memory; a task beside it that has no image.
    let offer = framework.offer();
    let mut echo = contained(&offer, "echo", "echo");
    echo["command"] = json!({"shell": false, "value": "echo", "arguments": ["a b", "c"]});
    framework.launch(&offer, &[echo]);
    assert_eq!(framework.end_of("echo")["state"], "TASK_FINISHED");
    assert!(wrote(&agent, "stdout").contains(&"a b c\n".to_owned()));
    let offer = framework.offer();
    let hungry = "x=$(dd if=/dev/zero bs=1M count=80 | tr '\\0' a); echo $?; exit 9";
    framework.launch(&offer, &[contained(&offer, "hungry", hungry)]);
    let ended = framework.end_of("hungry");
    assert_eq!(ended["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{ended}");
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "plain", "exit 0")]);
    assert_eq!(framework.end_of("plain")["state"], "TASK_FINISHED");

    // What cannot be is refused by name, and changes nothing.
    let offer = framework.offer();
    let mut odd = contained(&offer, "odd", "true");
    odd["container"]["docker"]["parameters"] = json!([{"key": "gpus", "value": "all"}]);
    framework.launch(&offer, &[odd]);
    let ended = framework.end_of("odd");
    let why = ended["message"].as_str().unwrap();
    assert!(ended["state"] == "TASK_ERROR" && why.contains("parameter `gpus`"), "{ended}");
    let offer = framework.offer();
    let mut missing = contained(&offer, "missing", "true");
    missing["container"]["docker"]["image"] = json!("127.0.0.1:1/none:1");
    framework.launch(&offer, &[missing]);
    let ended = framework.end_of("missing");
    assert_eq!(ended["reason"], "REASON_CONTAINER_LAUNCH_FAILED", "{ended}");
    assert!(ended["message"].as_str().unwrap().contains("127.0.0.1:1/none"), "{ended}");

    // It is asked to end, and made to.
    let offer = framework.offer();
    let mut asked = contained(&offer, "asked", WAITS);
    asked["container"]["docker"]["force_pull_image"] = json!(true);
    let look = json!({"type": "COMMAND", "command": {"value": "cat /mnt/mesos/sandbox/stdout"}});
    asked["health_check"] = look;
    asked["health_check"]["delay_seconds"] = json!(0);
    framework.launch(&offer, &[asked]);
    running(&mut framework, "asked");
    while framework.status()["healthy"] != true {}
    let used = &read_at(agent.port, "/monitor/statistics")[0]["statistics"];
    assert_eq!(used["mem_limit_bytes"], 32 << 20, "{used}");
    assert!(used["cpus_user_time_secs"].as_f64().is_some() && used["threads"].as_u64() >= Some(1));
    for told in ["mem_rss_bytes", "mem_file_bytes", "cpus_nr_throttled"] {
        assert!(used[told].as_u64().is_some(), "{told}: {used}");
    }
    framework.accepted("KILL", &json!({"task_id": {"value": "asked"}}));
    assert_eq!(framework.end_of("asked")["state"], "TASK_KILLED");
    assert!(wrote(&agent, "stdout").contains(&"here\nbye\n".to_owned()));
    let offer = framework.offer();
    framework
        .launch(&offer, &[contained(&offer, "deaf", "trap '' TERM; while :; do sleep 1; done")]);
    running(&mut framework, "deaf");
    let grace = json!({"task_id": {"value": "deaf"},
        "kill_policy": {"grace_period": {"nanoseconds": 200_000_000}}});
    framework.accepted("KILL", &grace);
    assert_eq!(framework.end_of("deaf")["state"], "TASK_KILLED");

    // From the command line, and by its other name.
    let run = master.run(&["--docker-image=bb:1", "--", "echo", "from", "afar"]).end();
    assert_eq!((run.status, run.out.as_str()), (0, "from afar\n"), "{}", run.err);
    agent.leave();
    master.stop();
    engine.stop();
}

#[test]
fn a_check_that_hangs_hangs_once() {
    let world = World::new();
    let Some(engine) = Engine::start(&world, &[]) else { return };
    let (master, agent) = cluster(&world, &engine.socket(), &[]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut hangs = contained(&offer, "hangs", "while :; do sleep 1; done");
    // It goes on when it may, and so does the next one.
    let line = "cd /mnt/mesos/sandbox; echo look >> looks; \
                until cat may 2>/dev/null; do sleep 0.1; done";
    let rhythm = json!({"delay_seconds": 0, "interval_seconds": 0.1, "timeout_seconds": 0.3});
    hangs["health_check"] = json!({"type": "COMMAND", "command": {"value": line},
        "grace_period_seconds": 1000});
    hangs["health_check"].as_object_mut().unwrap().extend(rhythm.as_object().unwrap().clone());
    framework.launch(&offer, &[hangs]);
    running(&mut framework, "hangs");
    let looks = || wrote(&agent, "looks").first().map_or(0, |text| text.lines().count());
    eventually(|| looks() == 1, || looks().to_string());
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(looks(), 1);
    let sandboxes = fs::read_dir(agent.work_dir().join("sandboxes")).unwrap().flatten();
    for sandbox in sandboxes {
        fs::write(sandbox.path().join("may"), "").unwrap();
    }
    while framework.status()["healthy"] != true {}
    assert!(looks() > 1);
    framework.accepted("TEARDOWN", &Value::Null);
    agent.leave();
    master.stop();
    engine.stop();
}

/// The engine's containers are no descendants of a keeper, and their cgroups are not ours.
#[test]
fn a_process_in_a_container_may_not_use_the_cluster_that_runs_it() {
    let world = World::new();
    let Some(engine) = Engine::start(&world, &[]) else { return };
    let (master, agent) = cluster(&world, &engine.socket(), &[]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let line = format!(
        "for port in {} {}; do wget -O - http://127.0.0.1:$port/health 2>&1 | grep ' 403 ' || exit 9; done",
        master.port, agent.port
    );
    framework.launch(&offer, &[contained(&offer, "asks", &line)]);
    let ended = framework.end_of("asks");
    assert_eq!(ended["state"], "TASK_FINISHED", "{ended} {:?}", wrote(&agent, "stdout"));
    agent.leave();
    master.stop();
    engine.stop();
}

#[test]
fn a_container_runs_on_while_its_agent_is_dead_and_nothing_of_it_is_lost() {
    let world = World::new();
    let Some(engine) = Engine::start(&world, &[]) else { return };
    let (master, mut agent) = cluster(&world, &engine.socket(), &[]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let counts = "i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); sleep 0.05; done; exit 7";
    let early = contained(&offer, "early", "sleep 0.5; echo gone; exit 5");
    framework.launch(
        &offer,
        &[contained(&offer, "counts", counts), early, contained(&offer, "waits", WAITS)],
    );
    let ran = || engine.containers().iter().filter(|(_, state)| state == "running").count() == 3;
    eventually(ran, || format!("three run: {:?}", engine.containers()));
    eventually(
        || wrote(&agent, "stdout").iter().any(|out| out.contains("3\n")),
        || "output".into(),
    );
    agent.kill();
    // One of another agent, and one of this that no task is in.
    let name = engine.containers()[0].0.clone();
    let own = name.trim_start_matches("/mesita-").split('.').next().unwrap().to_owned();
    for (name, agent) in [("stranger", "0123456789abcdef"), ("orphan", own.as_str())] {
        let labels = json!({"mesita.agent": agent, "mesita.container": "ff-1"});
        let wanted = json!({"Image": "bb:1", "Cmd": ["sleep", "1000"], "Labels": labels,
            "HostConfig": {"NetworkMode": "host"}});
        engine.ask("POST", &format!("/containers/create?name={name}"), &wanted);
        engine.ask("POST", &format!("/containers/{name}/start"), &Value::Null);
    }
    let ended = || engine.containers().iter().any(|(_, state)| state == "exited");
    eventually(ended, || format!("one ends meanwhile: {:?}", engine.containers()));
    agent.start();
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < 2 {
        let status = framework.status();
        let name = status["task_id"]["value"].as_str().unwrap().to_owned();
        if status["state"] == "TASK_FAILED" {
            ends.insert(name, status["message"].as_str().unwrap().to_owned());
        }
    }
    assert!(ends["early"].contains("status 5") && ends["counts"].contains("status 7"), "{ends:?}");
    let all: String = (0..60).map(|number| format!("{number}\n")).collect();
    let out = wrote(&agent, "stdout");
    assert!(out.contains(&all) && out.contains(&"gone\n".to_owned()), "{out:?}");
    let names = || engine.containers().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    eventually(|| !names().contains(&"/orphan".to_owned()), || format!("{:?}", names()));
    assert!(names().contains(&"/stranger".to_owned()));
    framework.accepted("KILL", &json!({"task_id": {"value": "waits"}}));
    assert_eq!(framework.end_of("waits")["state"], "TASK_KILLED");
    agent.leave();
    master.stop();
    engine.stop();
}

/// A task of the executor `x`, which is in a container and says who it is and what its agent answers.
fn under(world: &World, offer: &Value, name: &str) -> Value {
    let mut task = task(offer, name, "");
    task.as_object_mut().unwrap().remove("command");
    let line = "wget -O - http://$MESOS_AGENT_ENDPOINT/version >$MESOS_SANDBOX/reached 2>&1; \
                env > /told/environment; exec sleep 1000";
    // What is told goes where the test looks for it.
    let told = json!({"container_path": "/told", "mode": "RW", "host_path": world.path("")});
    task["executor"] = json!({"executor_id": {"value": "x"},
        "command": {"value": line, "user": "root"}, "resources": task["resources"],
        "container": {"type": "DOCKER", "docker": {"image": "bb:1"}, "volumes": [told]}});
    task
}

#[test]
fn an_executor_in_a_container_is_given_its_tasks_and_outlives_its_agent() {
    let world = World::new();
    let Some(engine) = Engine::start(&world, &[]) else { return };
    let (master, mut agent) = cluster(&world, &engine.socket(), &[]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let tasks = ["first", "second"].map(|name| under(&world, &offer, name));
    framework.launch(&offer, &tasks[..1]);
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([]));
    assert_eq!(executor.given(), "first");
    assert_eq!(executor.tell("first", "TASK_RUNNING").status, 202);
    assert_eq!(framework.status()["state"], "TASK_RUNNING");
    let reached = wrote(&agent, "reached");
    // Without its token it is a process in a container like others.
    assert!(reached.iter().any(|answer| answer.contains(" 403 ")), "{reached:?}");
    let environment = fs::read_to_string(world.path("environment")).unwrap();
    for line in ["MESOS_EXECUTOR_ID=x\n", "MESOS_SANDBOX=/mnt/mesos/sandbox\n"] {
        assert!(environment.contains(line), "{environment}");
    }
    let name = engine.containers()[0].0.clone();
    let memory = || {
        let told = engine.ask("GET", &format!("/containers{name}/json"), &Value::Null);
        told["HostConfig"]["Memory"].as_u64().unwrap()
    };
    let of_one = memory();

    agent.kill();
    drop(executor);
    agent.start();
    agent.process().says("registered with the master");
    let mut executor = Executor::subscribe(&world, &agent, &framework.id, &json!([tasks[0]]));
    let offer = framework.offer();
    let mut second = tasks[1].clone();
    second["agent_id"] = offer["agent_id"].clone();
    framework.launch(&offer, &[second]);
    assert_eq!(executor.given(), "second");
    eventually(|| memory() > of_one, || format!("more than {of_one}"));
    framework.accepted("KILL", &json!({"task_id": {"value": "first"}}));
    assert_eq!(executor.events.until("KILL")["task_id"]["value"], "first");
    assert_eq!(executor.tell("first", "TASK_KILLED").status, 202);
    assert_eq!(framework.end_of("first")["state"], "TASK_KILLED");

    // It does not end by itself, and is ended.
    let agent_id = offer["agent_id"].clone();
    framework.accepted("SHUTDOWN", &json!({"executor_id": {"value": "x"}, "agent_id": agent_id}));
    executor.events.until("SHUTDOWN");
    assert_eq!(framework.end_of("second")["state"], "TASK_FAILED");
    let over = || engine.containers().iter().all(|(_, state)| state == "exited");
    eventually(over, || format!("{:?}", engine.containers()));

    // What cannot be is said.
    let offer = framework.offer();
    let mut alone = under(&world, &offer, "alone");
    alone["executor"]["container"]["docker"]["network"] = json!("NONE");
    framework.launch(&offer, &[alone]);
    let status = framework.end_of("alone");
    assert!(status["message"].as_str().unwrap().contains("does not reach its agent"), "{status}");
    framework.accepted("TEARDOWN", &Value::Null);
    agent.leave();
    master.stop();
    engine.stop();
}

#[test]
fn an_engine_that_hangs_or_restarts_keeps_nobody_else_waiting() {
    let world = World::new();
    let Some(mut engine) = Engine::start(&world, &[]) else { return };
    let (master, agent) = cluster(&world, &engine.socket(), &["--docker-timeout=3secs"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[contained(&offer, "waits", WAITS)]);
    running(&mut framework, "waits");
    engine.signal(Signal::STOP);
    let offer = framework.offer();
    framework.launch(&offer, &[contained(&offer, "late", "true"), task(&offer, "plain", "true")]);
    let mut ends = Vec::new();
    while ends.len() < 2 {
        let status = framework.status();
        if ["TASK_FINISHED", "TASK_FAILED"].contains(&status["state"].as_str().unwrap()) {
            ends.push(status);
        }
    }
    assert_eq!(ends[0]["task_id"]["value"], "plain", "{ends:?}");
    assert_eq!(ends[1]["reason"], "REASON_CONTAINER_LAUNCH_FAILED");
    assert!(ends[1]["message"].as_str().unwrap().contains("--docker-timeout"), "{ends:?}");
    // A kill that it does not hear is said again, and the end is told when it is back.
    let grace = json!({"task_id": {"value": "waits"},
        "kill_policy": {"grace_period": {"nanoseconds": 100_000_000}}});
    framework.accepted("KILL", &grace);
    engine.signal(Signal::CONT);
    assert_eq!(framework.end_of("waits")["state"], "TASK_KILLED");
    // It dies, and ends what it had when it is back; then it takes tasks again.
    let offer = framework.offer();
    framework.launch(&offer, &[contained(&offer, "cut", WAITS)]);
    running(&mut framework, "cut");
    engine.process.take().unwrap().kill();
    engine.begin();
    // By its signal, or by force.
    let ended = framework.end_of("cut");
    assert!(
        ["TASK_FINISHED", "TASK_FAILED"].contains(&ended["state"].as_str().unwrap()),
        "{ended}"
    );
    let offer = framework.offer();
    framework.launch(&offer, &[contained(&offer, "again", "exit 0")]);
    assert_eq!(framework.end_of("again")["state"], "TASK_FINISHED");
    agent.leave();
    master.stop();
    engine.stop();
}

#[test]
fn a_container_has_its_own_address_and_its_tasks_user_and_no_more_rights() {
    let world = World::new();
    let alone = ["unshare", "--net", "--"];
    let Some(engine) = Engine::start(&world, &alone) else { return };
    let device = world.path("tty").display().to_string();
    plug(&device);
    let devices = format!("--devices=serial:{{{device}}}");
    let (master, agent) = cluster(&world, &engine.socket(), &[&devices]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut mapped = contained(&offer, "mapped", WAITS);
    mapped["container"]["docker"]["network"] = json!("BRIDGE");
    mapped["container"]["docker"]["port_mappings"] =
        json!([{"host_port": 31000, "container_port": 80}]);
    mapped["container"]["hostname"] = json!("there");
    let ports = json!({"name": "ports", "type": "RANGES",
        "ranges": {"range": [{"begin": 31000, "end": 31000}]}});
    mapped["resources"].as_array_mut().unwrap().push(ports);
    let mut other = contained(&offer, "other", "true");
    other["container"]["docker"] = mapped["container"]["docker"].clone();
    framework.launch(&offer, &[mapped, other]);
    let mut seen = std::collections::BTreeMap::new();
    while seen.len() < 2 {
        let status = framework.status();
        if status["state"] != "TASK_STARTING" {
            seen.insert(status["task_id"]["value"].as_str().unwrap().to_owned(), status);
        }
    }
    let status = &seen["mapped"];
    let address = &status["container_status"]["network_infos"][0]["ip_addresses"][0]["ip_address"];
    assert!(address.as_str().unwrap().starts_with("172."), "{status}");
    assert_eq!(status["labels"]["labels"][0]["key"], "Docker.NetworkSettings.IPAddress");
    assert_eq!(&status["labels"]["labels"][0]["value"], address);
    let refused = seen["other"]["message"].as_str().unwrap();
    assert_eq!(refused, "Port mapping [31000] not included in resources");
    let name = &engine.containers()[0].0;
    let told = engine.ask("GET", &format!("/containers{name}/json"), &Value::Null);
    let bound = &told["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"];
    assert_eq!((bound, &told["Config"]["Hostname"]), (&json!("31000"), &json!("there")));
    framework.accepted("KILL", &json!({"task_id": {"value": "mapped"}}));
    assert_eq!(framework.end_of("mapped")["state"], "TASK_KILLED");

    // A task of another user runs as that one, and gets nothing beyond its container.
    let as_nobody = |offer: &Value, name: &str, line: &str| {
        let mut task = contained(offer, name, line);
        task["command"]["user"] = json!("nobody");
        task
    };
    let offer = framework.offer();
    framework
        .launch(&offer, &[as_nobody(&offer, "nobody", "id -u; echo own > $MESOS_SANDBOX/own")]);
    let ended = framework.end_of("nobody");
    assert_eq!(ended["state"], "TASK_FINISHED", "{ended}");
    assert!(wrote(&agent, "stdout").contains(&"65534\n".to_owned()));
    assert_eq!(wrote(&agent, "own"), ["own\n"]);
    // What it holds it finds, under its name, and nobody else does.
    let reads = format!("dd if={device} of=/dev/null bs=1 count=1");
    let offer = until(&mut framework, |offer| !offered(offer).is_empty());
    let holds = with_device(contained(&offer, "holds", &reads), &device);
    framework.launch(&offer, &[holds, contained(&offer, "lacks", &reads)]);
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < 2 {
        let status = framework.status();
        let state = status["state"].as_str().unwrap().to_owned();
        if !["TASK_STARTING", "TASK_RUNNING"].contains(&state.as_str()) {
            ends.insert(status["task_id"]["value"].as_str().unwrap().to_owned(), (state, status));
        }
    }
    assert_eq!(ends["holds"].0, "TASK_FINISHED", "{ends:?}");
    assert_eq!(ends["lacks"].0, "TASK_FAILED", "{ends:?}");
    let offer = framework.offer();
    let mut mighty = as_nobody(&offer, "mighty", "true");
    mighty["container"]["docker"]["privileged"] = json!(true);
    framework.launch(&offer, &[mighty]);
    let ended = framework.end_of("mighty");
    assert!(ended["message"].as_str().unwrap().contains("for tasks of root"), "{ended}");
    let offer = framework.offer();
    // As root it may, as far as the machine lets the engine itself.
    let mut mighty = contained(&offer, "root", "cat /there/file; echo no > /there/file");
    fs::write(world.temporary().join("file"), "yes\n").unwrap();
    let volume = json!({"mode": "RO", "container_path": "/there", "host_path": world.temporary()});
    mighty["container"]["volumes"] = json!([volume]);
    framework.launch(&offer, &[mighty]);
    assert_eq!(framework.end_of("root")["state"], "TASK_FAILED", "it is there to be read");
    assert!(wrote(&agent, "stdout").contains(&"yes\n".to_owned()));
    fs::remove_file(world.temporary().join("file")).unwrap();
    agent.leave();
    master.stop();
    engine.stop();
}

#[test]
fn without_an_engine_the_agent_says_so_and_refuses_what_is_for_one() {
    let world = World::new();
    let (master, agent) = cluster(&world, &world.path("nowhere"), &[]);
    agent.process().says("containerizer `docker` is off");
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let attributes = offer["attributes"].as_array().unwrap();
    let off = attributes.iter().find(|one| one["name"] == "containerizers_off");
    assert_eq!(off.unwrap()["text"]["value"], "docker", "{attributes:?}");
    framework.launch(&offer, &[contained(&offer, "there", "true"), task(&offer, "here", "true")]);
    let refused = framework.end_of("there");
    assert_eq!(refused["reason"], "REASON_CONTAINER_LAUNCH_FAILED");
    let wanted = "None of the enabled containerizers (mesos) could create a container for the \
                  provided TaskInfo";
    assert_eq!(refused["message"], wanted);
    assert_eq!(framework.end_of("here")["state"], "TASK_FINISHED");
    agent.leave();
    master.stop();
    world.nothing_is_left();
}
