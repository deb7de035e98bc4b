//! Tasks that are started again by their rule: after an end, after a reboot, with no master at all.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::scheduler_api::{Framework, task};
use crate::world::{
    Agent, Process, Signal, World, eventually, lives, needs_root, pids, send, within,
};

/// A task with labels, which writes a line to a file whenever it begins.
fn ruled(offer: &Value, name: &str, rest: &str, runs: &Path, labels: &[(&str, &str)]) -> Value {
    let command = format!("echo up >> {}; {rest}", runs.display());
    let mut task = task(offer, name, &command);
    let label =
        |(key, value): &(&str, &str)| json!({"key": format!("mesita.{key}"), "value": value});
    task["labels"] = json!({"labels": labels.iter().map(label).collect::<Vec<_>>()});
    task
}

/// How often it began.
fn runs(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

fn begins(file: &Path, times: usize) {
    eventually(|| runs(file) >= times, || format!("{times} starts: {}", runs(file)));
}

/// Processes of the command `sleep` with this number, which no other test has. Inside of their
/// namespaces they have other ids.
fn sleepers(number: u32) -> Vec<i32> {
    let wanted = format!("sleep\0{number}\0");
    let is = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    };
    pids().filter(is).collect()
}

/// A number of seconds that no other test sleeps.
fn number(world: &World) -> u32 {
    1_000_000 + u32::from(world.port())
}

/// An agent that is told of another boot: in a namespace of its own, another file lies over the
/// kernel's.
fn booted(agent: &Agent<'_>, world: &World, boot: u8) -> Process {
    let file = world.path(&format!("boot-{boot}"));
    std::fs::write(&file, format!("{boot:08x}-0000-4000-8000-000000000000\n")).unwrap();
    let told = agent.command();
    let mut command = Command::new("unshare");
    let line = format!(
        "mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$0\" \"$@\"",
        file.display()
    );
    command.args(["--mount", "--", "sh", "-c", &line]).arg(told.get_program());
    command.args(told.get_args());
    for (name, value) in told.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    world.start(command)
}

/// What a power cut leaves of an agent: its files.
fn cut_power(world: &World, agent: Process, number: u32) {
    let keeper = world.process("mesita-keeper");
    agent.kill();
    send(keeper, Signal::KILL);
    sleepers(number).into_iter().for_each(|pid| send(pid, Signal::KILL));
    eventually(
        || !lives(keeper) && sleepers(number).is_empty(),
        || "that everything is dead".to_owned(),
    );
}

#[test]
fn a_work_directory_of_a_master_is_no_agents_and_the_other_way_round() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--isolation=posix/rlimits"]);
    let of_agent = agent.work_dir().display().to_string();
    let of_master = world.path(&format!("master-{}", master.port)).display().to_string();
    let port = world.port().to_string();
    agent.leave();
    let said = world.told(&["master", "--port", &port, "--work-dir", &of_agent]);
    assert!(said.status == 2 && said.err.contains("work directory of an agent"), "{}", said.err);
    let at = master.address();
    let begin = ["agent", "--port", &port, "--work-dir", &of_master, "--master", &at];
    let said = world.told(&begin);
    assert!(said.status == 2 && said.err.contains("work directory of a master"), "{}", said.err);
    assert!(!Path::new(&of_master).join("meta/ledger").exists());
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_task_is_started_again_when_it_ends_until_it_is_killed() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--resources", "cpus:2;mem:1024"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let files = ["always", "failing", "well"].map(|name| world.path(name));
    let tasks = [
        ruled(&offer, "always", "exit 0", &files[0], &[("restart", "always")]),
        ruled(&offer, "failing", "exit 7", &files[1], &[("restart", "on-failure")]),
        ruled(&offer, "well", "exit 0", &files[2], &[("restart", "on-failure")]),
    ];
    framework.launch(&offer, &tasks);
    // One that ends well is over; the others are not told as ended.
    let end = framework.end_of("well");
    assert_eq!(end["state"], "TASK_FINISHED", "{end}");
    begins(&files[0], 3);
    begins(&files[1], 3);
    assert_eq!(runs(&files[2]), 1);
    framework.accepted("KILL", &json!({"task_id": {"value": "always"}}));
    framework.accepted("KILL", &json!({"task_id": {"value": "failing"}}));
    let mut killed = 0;
    while killed < 2 {
        let status = framework.status();
        killed += usize::from(status["state"] == "TASK_KILLED");
        assert_ne!(status["state"], "TASK_FAILED", "{status}");
        assert_ne!(status["state"], "TASK_FINISHED", "{status}");
    }
    let counts = || [runs(&files[0]), runs(&files[1])];
    let then = counts();
    assert!(!within(Duration::from_secs(5), || counts() != then), "{then:?} and {:?}", counts());
    framework.accepted("TEARDOWN", &Value::Null);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_rule_that_cannot_be_kept_is_refused() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--resources", "cpus:2;mem:1024"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let file = world.path("never");
    let pair = [("stop-after", "60secs"), ("lost-after", "80secs"), ("restart", "always")];
    let twice = [("restart", "always"), ("unknown", "start")];
    let word = [("restart", "perhaps")];
    let (short, none) = ([("stop-after", "9secs")], [("stop-after", "0secs")]);
    let tasks = [
        ruled(&offer, "pair", "sleep 1", &file, &pair),
        ruled(&offer, "twice", "sleep 1", &file, &twice),
        ruled(&offer, "word", "sleep 1", &file, &word),
        ruled(&offer, "short", "sleep 1", &file, &short),
        ruled(&offer, "none", "sleep 1", &file, &none),
    ];
    framework.launch(&offer, &tasks);
    for _ in 0..5 {
        let status = framework.status();
        assert_eq!(status["state"], "TASK_ERROR", "{status}");
        let why = status["message"].as_str().unwrap();
        let expected = match status["task_id"]["value"].as_str().unwrap() {
            "pair" => "0.75 of mesita.lost-after",
            "twice" => "mesita.copies=availability",
            "short" => {
                "mesita.stop-after is shorter than the --agent-timeout of the master, 10secs"
            }
            "none" => "'0secs' is no time: leave it out to have none",
            _ => "'perhaps' is none of never, on-failure, always",
        };
        assert!(why.contains(expected), "{why}");
    }
    assert_eq!(runs(&file), 0);
    framework.accepted("TEARDOWN", &Value::Null);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn after_a_reboot_a_task_starts_again_with_no_master() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let mut master = world.master(&["--agent-timeout=5s"]);
    let flags = ["--resources", "cpus:2;mem:1024"];
    let agent = Agent::new(&world, &master.address(), &flags);
    let first = booted(&agent, &world, 1);
    first.says("registered with the master");
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let files = ["anyway", "one", "gone", "killed"].map(|name| world.path(name));
    let anyway = [("restart", "always"), ("copies", "availability"), ("unknown", "start")];
    let number = number(&world);
    let rest = &format!("exec sleep {number}");
    let tasks = [
        ruled(&offer, "anyway", rest, &files[0], &anyway),
        ruled(&offer, "one", rest, &files[1], &[("restart", "always")]),
        ruled(&offer, "gone", rest, &files[2], &[]),
        ruled(&offer, "killed", rest, &files[3], &anyway),
    ];
    framework.launch(&offer, &tasks);
    files.iter().for_each(|file| begins(file, 1));
    // What was killed before does not come back.
    framework.accepted("KILL", &json!({"task_id": {"value": "killed"}}));
    assert_eq!(framework.end_of("killed")["state"], "TASK_KILLED");
    let id = framework.id.clone();
    master.kill();
    drop(framework);
    cut_power(&world, first, number);
    let second = booted(&agent, &world, 2);
    begins(&files[0], 2);
    let again = || files.iter().map(|file| runs(file)).collect::<Vec<_>>();
    // One of which there is one waits for a master, and one without a rule is lost.
    assert!(!within(Duration::from_secs(3), || again() != [2, 1, 1, 1]), "{:?}", again());
    // The agent is killed alone: what runs is not started twice.
    second.kill();
    let third = booted(&agent, &world, 2);
    assert!(!within(Duration::from_secs(3), || again() != [2, 1, 1, 1]), "{:?}", again());
    master.start();
    let mut framework = Framework::subscribe(&master, &json!({"id": id}));
    begins(&files[1], 2);
    assert_eq!(again(), [2, 2, 1, 1]);
    // The framework hears the whole story.
    let mut heard = std::collections::BTreeMap::<String, String>::new();
    let told = |heard: &std::collections::BTreeMap<String, String>| {
        let of = |name: &str| heard.get(name).cloned().unwrap_or_default();
        let runs = ["anyway", "one"].iter().all(|name| of(name) == "TASK_RUNNING");
        runs && ["TASK_GONE", "TASK_FAILED"].contains(&of("gone").as_str())
    };
    while !told(&heard) {
        let status = framework.status();
        let of = |value: &Value| value.as_str().unwrap().to_owned();
        heard.insert(of(&status["task_id"]["value"]), of(&status["state"]));
    }
    framework.accepted("TEARDOWN", &Value::Null);
    eventually(|| sleepers(number).is_empty(), || "that both are ended".to_owned());
    third.signal(Signal::USR1);
    let said = third.end();
    assert_eq!(said.status, 0, "{}", said.err);
    drop(agent);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_task_stops_by_itself_when_no_master_answers() {
    let world = World::new();
    let mut master = world.master(&["--agent-timeout=2s"]);
    let mut agent = master.agent(&["--resources", "cpus:2;mem:1024"]);
    let file = world.path("stops");
    let number = number(&world);
    let line = format!("echo up >> {}; exec sleep {number}", file.display());
    let words = ["--detach", "--name=stops", "--restart=always", "--stop-after=4s", "--command"];
    let said = master.run(&[&words[..], &[&line]].concat()).end();
    assert_eq!(said.status, 0, "{}", said.err);
    begins(&file, 1);
    eventually(|| !sleepers(number).is_empty(), || "the shell has become what sleeps".to_owned());
    // As long as a master answers, nothing stops.
    assert!(!within(Duration::from_secs(6), || sleepers(number).is_empty()), "it stopped");
    master.kill();
    // Its keeper sees to it, whether or not the agent is there.
    agent.kill();
    eventually(|| sleepers(number).is_empty(), || "that it stops".to_owned());
    agent.start();
    assert!(!within(Duration::from_secs(3), || runs(&file) > 1), "it came back by itself");
    master.start();
    begins(&file, 2);
    let rows = || master.rows(&[]);
    eventually(
        || rows().iter().any(|row| row["state"] == "TASK_RUNNING"),
        || format!("that it runs: {:?}", rows()),
    );
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// A server that is asked for one file and keeps whoever asks waiting until it may answer.
fn gated_file() -> (String, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/file", listener.local_addr().unwrap());
    let ((asks, asked), (open, opened)) = (mpsc::channel(), mpsc::channel());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = asks.send(());
        if opened.recv().is_ok() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        }
    });
    (uri, asked, open)
}

/// What was ordered begins only while its master could not have given it up, and not in vain when
/// another session has kept it.
#[test]
fn a_launch_that_outlasts_its_session_begins_in_the_next_one_and_not_before() {
    let world = World::new();
    let mut master = world.master(&["--agent-timeout=2s"]);
    let agent = master.agent(&["--resources", "cpus:2;mem:1024"]);
    let (uri, asked, open) = gated_file();
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let file = world.path("late");
    let mut task = ruled(&offer, "late", "exec sleep 600", &file, &[]);
    task["command"]["uris"] = json!([{"value": uri}]);
    framework.launch(&offer, &[task]);
    asked.recv().unwrap();
    master.kill();
    agent.process().says("is gone:");
    open.send(()).unwrap();
    agent.process().says("a launch that is ready waits for a master that answers");
    assert_eq!(runs(&file), 0);
    master.start();
    let mut again = Framework::subscribe(&master, &json!({"id": framework.id}));
    begins(&file, 1);
    again.accepted("KILL", &json!({"task_id": {"value": "late"}}));
    assert_eq!(again.end_of("late")["state"], "TASK_KILLED");
    again.accepted("TEARDOWN", &Value::Null);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// A task under a rule of who stays, that is found by how long it sleeps.
fn sleeper(world: &World, offer: &Value, stays: &str, seconds: u32) -> Value {
    let mut task = task(offer, "one", &format!("exec sleep {seconds}"));
    let mark = world.marked();
    let (name, value) = mark.trim_start_matches("--env=").split_once('=').unwrap();
    task["command"]["environment"] = json!({"variables": [{"name": name, "value": value}]});
    task["labels"] = json!({"labels": [{"key": "mesita.reconcile", "value": stays}]});
    task
}

/// The next status of a task in this state.
fn until(framework: &mut Framework, state: &str) -> Value {
    loop {
        let status = framework.status();
        if status["state"] == state {
            return status;
        }
    }
}

#[test]
fn where_two_of_one_id_meet_the_one_stays_that_the_rule_says() {
    for (stays, original) in
        [("keep-original", true), ("keep-replacement", false), ("longest-running", true)]
    {
        let world = World::new();
        let master = world.master(&["--agent-timeout=3s"]);
        let first = master.agent(&["--hostname=first"]);
        let mut framework = Framework::subscribe(&master, &json!({}));
        let offer = framework.offer();
        framework.launch(&offer, &[sleeper(&world, &offer, stays, 1111)]);
        let was = until(&mut framework, "TASK_RUNNING")["agent_id"].clone();
        // Its agent is silent, its framework has another one started, and both run.
        first.process().signal(Signal::STOP);
        until(&mut framework, "TASK_UNREACHABLE");
        let second = master.agent(&["--hostname=second"]);
        let mut offer = framework.offer();
        while offer["hostname"] != "second" {
            offer = framework.offer();
        }
        framework.launch(&offer, &[sleeper(&world, &offer, stays, 2222)]);
        let is = until(&mut framework, "TASK_RUNNING")["agent_id"].clone();
        assert_ne!(was, is);
        let run = |seconds: &str| {
            let called = |(_, called): &(i32, String)| {
                called.starts_with(&format!("sleep: sleep {seconds}"))
            };
            world.processes().iter().any(called)
        };
        // A shell was told to run that becomes the sleeper in a moment.
        let both = || run("1111") && run("2222");
        eventually(both, || format!("{stays}: {:?}", world.processes()));
        first.process().signal(Signal::CONT);
        let one = || (run("1111"), run("2222")) == (original, !original);
        eventually(one, || format!("{stays}: {:?}", world.processes()));
        if original {
            let told = until(&mut framework, "TASK_RUNNING");
            assert_eq!(
                (&told["agent_id"], &told["reason"]),
                (&was, &json!("REASON_AGENT_REREGISTERED"))
            );
        }
        // It is the framework's task like any other, and the only one.
        framework.accepted("KILL", &json!({"task_id": {"value": "one"}}));
        let end = framework.end_of("one");
        assert_eq!(end["state"], "TASK_KILLED", "{end}");
        assert_eq!(end["agent_id"], if original { was } else { is }, "{end}");
        framework.accepted("TEARDOWN", &Value::Null);
        first.leave();
        second.leave();
        master.stop();
        world.nothing_is_left();
    }
}
