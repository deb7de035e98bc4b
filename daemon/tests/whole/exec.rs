//! `mesita exec` and `mesita attach`, from a shell's point of view.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::inner::Host;
use crate::scheduler_api::{Framework, task};
use crate::world::{Process, World, eventually, lives, pids};

fn words<'a>(address: &'a str, flags: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    [&["exec", "--master", address], flags, &["host", "--"], command].concat()
}

/// What a command says and how it ends, with this as its input.
fn piped(mut command: Command, input: &[u8]) -> (i32, String, String) {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writing = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let said = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (said.status.code().unwrap(), text(said.stdout), text(said.stderr))
}

fn sleeper(number: u32) -> Option<i32> {
    let wanted = format!("sleep\0{number}\0");
    pids().find(|pid| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    })
}

fn unique(more: u32) -> u32 {
    300_000 + 10 * (std::process::id() % 50_000) + more
}

#[test]
fn a_command_in_a_task_has_its_own_status_input_and_outputs() {
    let world = World::new();
    let host = Host::new(&world);
    let address = host.master.address();
    let sh = |script: &'static str| ["sh", "-c", script];
    let said = world.told(&words(&address, &[], &sh("cat file; cat; echo oops >&2; exit 7")));
    assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (7, "here\n", "oops\n"));
    let said = world.told(&words(&address, &[], &sh("kill -9 $$")));
    assert_eq!(said.status, 137, "{}", said.err);
    // Its input is this one's, however much of it there is.
    let input = b"0123456789abcdef".repeat(100_000);
    let sum = world.mesita(&words(&address, &["-i"], &["wc", "-c"]));
    let (status, out, err) = piped(sum, &input);
    assert_eq!((status, out.trim()), (0, "1600000"), "{err}");
    let back = world.mesita(&words(&address, &["-i"], &["cat"]));
    let (status, out, _) = piped(back, &input);
    assert!(status == 0 && out.as_bytes() == input, "{} bytes", out.len());
    // One that does not read it ends all the same.
    let (status, ..) = piped(world.mesita(&words(&address, &["-i"], &["true"])), &input);
    assert_eq!(status, 0);
    for (arguments, code, why) in [
        (words(&address, &[], &["/nowhere"]), 127, "cannot execute the program"),
        (words(&address, &[], &["/etc/passwd"]), 126, "cannot execute the program"),
        (words("127.0.0.1:1", &[], &["true"]), 4, "no master at 127.0.0.1:1"),
        (vec!["exec", "--master", &address, "nobody", "--", "true"], 1, "there is no task"),
        (words(&address, &["-t"], &["true"]), 2, "-t needs a terminal"),
    ] {
        let said = world.told(&arguments);
        assert!(said.status == code && said.err.contains(why), "{}: {}", said.status, said.err);
    }
    // Nothing of all that is kept.
    let metrics = crate::world::get(host.agent.port, "/metrics");
    assert!(metrics.contains("mesita_agent_inner_containers_len 0"), "{metrics}");
    host.end(&world);
}

#[test]
fn a_command_ends_with_who_started_it_with_its_task_and_with_its_agent() {
    let world = World::new();
    let mut host = Host::new(&world);
    let address = host.master.address();
    let begin = |number: u32| -> (Process, i32) {
        let number_text = number.to_string();
        let script = format!("setsid sleep {number_text} & echo ready; wait");
        let arguments = words(&address, &[], &["sh", "-c", &script]);
        let process = world.start(world.mesita(&arguments));
        process.prints("ready");
        eventually(|| sleeper(number).is_some(), || format!("sleep {number}"));
        (process, sleeper(number).unwrap())
    };
    let (client, pid) = begin(unique(0));
    client.kill();
    eventually(|| !lives(pid), || format!("the end of {pid}"));
    let (client, pid) = begin(unique(1));
    host.agent.kill();
    let said = client.end();
    assert!(said.status == 1 && !said.err.is_empty(), "{}: {}", said.status, said.err);
    host.agent.start();
    eventually(|| !lives(pid), || format!("the end of {pid}"));
    let ready = || world.told(&words(&address, &[], &["true"])).status == 0;
    eventually(ready, || "the agent".to_owned());
    let (client, pid) = begin(unique(2));
    host.framework.accepted("KILL", &json!({"task_id": {"value": "host"}}));
    let said = client.end();
    assert_ne!(said.status, 0, "{}", said.err);
    eventually(|| !lives(pid), || format!("the end of {pid}"));
    let why = || world.told(&words(&address, &[], &["true"])).err;
    eventually(|| why().contains("does not run: TASK_KILLED"), why);
    host.end(&world);
}

#[test]
fn a_command_has_a_terminal_which_is_given_back() {
    let world = World::new();
    let host = Host::new(&world);
    let line = format!(
        "stty rows 33 cols 77; {} exec --master {} -it host -- sh -c 'test -t 0 && stty size; exit 5'; \
         echo status $?; stty -a",
        world.binary().display(),
        host.master.address()
    );
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).env("TERM", "xterm");
    let said = world.start(command).end();
    assert!(said.out.contains("33 77"), "{}", said.out);
    assert!(said.out.contains("status 5"), "{}", said.out);
    let (_, after) = said.out.split_once("status 5").unwrap();
    assert!(after.contains(" icanon") && after.contains(" echo "), "{after}");
    host.end(&world);
}

#[test]
fn a_reader_that_does_not_read_stops_its_own_command_and_nothing_else() {
    let world = World::new();
    let host = Host::new(&world);
    let address = host.master.address();
    let arguments = words(&address, &[], &["sh", "-c", "yes | head -c 30000000; echo end >&2"]);
    let mut stalled = world.mesita(&arguments);
    let mut child =
        stalled.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let said = world.told(&words(&address, &[], &["echo", "others"]));
    assert_eq!((said.status, said.out.as_str()), (0, "others\n"), "{}", said.err);
    // Nothing grows meanwhile: the agent and the master hold next to nothing of it.
    assert!(child.try_wait().unwrap().is_none());
    let mut all = Vec::new();
    std::io::Read::read_to_end(child.stdout.as_mut().unwrap(), &mut all).unwrap();
    assert_eq!((all.len(), child.wait().unwrap().code()), (30_000_000, Some(0)));
    host.end(&world);
}

#[test]
fn what_a_task_writes_is_followed_until_it_ends() {
    let world = World::new();
    let host = Host::new(&world);
    let attached =
        world.start(world.mesita(&["attach", "--master", &host.master.address(), "host"]));
    let path = |name: &str| host.sandbox().join(name);
    let write = |name: &str, text: &str| {
        let mut file = fs::File::options().append(true).open(path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let mut written = 0;
    let heard = || {
        written += 1;
        write("stdout", &format!("{written}\n"));
        !attached.out().is_empty()
    };
    eventually(heard, || "what the task writes".to_owned());
    write("stderr", "oops\n");
    attached.says("oops");
    host.framework.accepted("KILL", &json!({"task_id": {"value": "host"}}));
    let said = attached.end();
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(!said.out.contains("here") && !said.out.contains("oops"), "{}", said.out);
    host.end(&world);
}

#[test]
fn what_a_task_writes_is_followed_over_a_restart_of_its_agent_and_of_its_master() {
    let world = World::new();
    let mut host = Host::new(&world);
    let address = host.master.address();
    let path = host.sandbox().join("stdout");
    let write = |text: &str| {
        let mut file = fs::File::options().append(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    write("before\n");
    let follow = |flags: &[&str]| world.start(world.mesita(&[flags, &["host"]].concat()));
    let all = follow(&["logs", "--follow", "--master", &address]);
    let last = follow(&["logs", "--follow", "--tail", "4", "--master", &address]);
    let now = follow(&["attach", "--master", &address]);
    all.prints("before\n");
    last.prints("ore\n");
    let mut beats = 0;
    let heard = || {
        beats += 1;
        write(&format!("{beats}\n"));
        !now.out().is_empty()
    };
    eventually(heard, || "what the task writes".to_owned());
    host.agent.kill();
    write("while it was gone\n");
    host.agent.start();
    for one in [&all, &last, &now] {
        one.prints("while it was gone\n");
        one.says("waiting for `host`");
    }
    host.master.kill();
    host.master.start();
    write("and again\n");
    for one in [&all, &last, &now] {
        one.prints("and again\n");
    }
    host.framework = Framework::subscribe(&host.master, &json!({"id": host.framework.id}));
    host.framework.accepted("KILL", &json!({"task_id": {"value": "host"}}));
    let whole = fs::read_to_string(&path).unwrap();
    let from = |text: &str| whole[whole.find(text).unwrap()..].to_owned();
    let said = all.end();
    assert_eq!((said.status, said.out), (0, whole.clone()), "{}", said.err);
    assert_eq!(last.end().out, from("ore\n"));
    let (said, whole) = (now.end(), whole.as_str());
    assert!(said.status == 0 && whole.ends_with(&said.out), "{}{}", said.out, said.err);
    host.end(&world);
}

#[test]
fn a_terminal_is_given_back_whatever_ends_its_command() {
    let world = World::new();
    let host = Host::new(&world);
    let pid = world.path("pid");
    let line = format!(
        "sh -c 'echo $$ > {}; exec {} exec --master {} -it host -- sh -c \"echo begun; sleep 1000\"'; \
         stty -a",
        pid.display(),
        world.binary().display(),
        host.master.address()
    );
    for signal in ["QUIT", "TERM", "HUP"] {
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &line, "/dev/null"]).env("TERM", "xterm");
        let session = world.start(command);
        session.prints("begun");
        let number = fs::read_to_string(&pid).unwrap();
        let killed = Command::new("kill").args(["-s", signal, number.trim()]).status().unwrap();
        assert!(killed.success());
        let said = session.end();
        let (_, after) = said.out.split_once("begun").unwrap();
        assert!(after.contains(" icanon") && after.contains(" echo "), "{signal}: {after}");
    }
    host.end(&world);
}

#[test]
fn commands_run_in_members_of_groups_and_not_where_nothing_runs() {
    let world = World::new();
    let host = Host::with(&world, |offer| {
        vec![json!({"type": "LAUNCH_GROUP", "launch_group": {
            "executor": {"type": "DEFAULT", "executor_id": {"value": "pod"}},
            "task_group": {"tasks": [task(offer, "member", "echo inside > file; sleep 1000")]}}})]
    });
    let address = host.master.address();
    let exec = |script: &str| {
        world.told(&["exec", "--master", &address, "member", "--", "sh", "-c", script])
    };
    eventually(|| exec("cat file").out == "inside\n", || exec("cat file").err);
    let said = exec("echo $MESOS_TASK_ID; exit 6");
    assert_eq!((said.status, said.out.as_str()), (6, "member\n"), "{}", said.err);
    // One of its own has its sandbox in the member's, which is in the executor's.
    let containers = || {
        let shown = host.call("GET_CONTAINERS", &json!({"show_nested": true}));
        let shown: Value = serde_json::from_str(&shown.text()).unwrap();
        shown["get_containers"]["containers"].as_array().unwrap().clone()
    };
    let all = containers();
    let member = all.iter().find(|one| !one["container_id"]["parent"].is_null()).unwrap();
    let whole = member["container_id"].clone();
    let pod = whole["parent"]["value"].as_str().unwrap();
    let member = whole["value"].as_str().unwrap();
    // As statuses tell it, without what is around it.
    let own = json!({"value": "own", "parent": {"value": member}});
    assert_eq!(host.launch(&own, "pwd; sleep 1000").status, 200);
    let told = json!({"value": "own", "parent": whole});
    assert!(containers().iter().any(|one| one["container_id"] == told), "{:?}", containers());
    let below = format!("sandboxes/{pod}/containers/{member}/containers/own/stdout");
    let path = host.agent.work_dir().join(below);
    let shown = || fs::read_to_string(&path).unwrap_or_default();
    let ends_there = |pwd: String| pwd.trim_end().ends_with(&format!("{member}/containers/own"));
    eventually(|| ends_there(shown()), shown);
    let in_executor = json!({"value": "x", "parent": {"value": pod}});
    let refused = host.launch(&in_executor, "true");
    assert!(refused.status == 400 && refused.text().contains("no process"), "{}", refused.text());
    host.end(&world);
}
