//! `mesita run`: how tasks end, and what is told of it.

use std::os::unix::fs::symlink;

use crate::world::{NOBODY, Signal, World, has_cgroups, needs_root};

#[test]
fn a_command_runs_in_a_cluster_of_its_own_and_nothing_is_left() {
    let world = World::new();
    let said = world.run_alone(&["--", "echo", "hello"]).end();
    assert_eq!((said.status, said.out.as_str()), (0, "hello\n"), "{}", said.err);
    // What a user who is not root has to do without is told first.
    let mut lines =
        said.err.lines().filter(|line| !line.starts_with("mesita: warning: isolation: "));
    let announced = lines.next().unwrap();
    let how = "mesita: no master given, none on this host: private one-shot cluster; task held by ";
    assert!(announced.starts_with(how), "{announced}");
    let ended = lines.next().unwrap();
    assert!(ended.starts_with("TASK_FINISHED run-"), "{ended}");
    assert_eq!(lines.next(), None, "{}", said.err);
    world.nothing_is_left();
}

#[test]
fn a_task_is_in_cgroups_that_go_with_it() {
    if !has_cgroups("memory") {
        return;
    }
    let world = World::new();
    let running = world.run_alone(&["--", "sleep", "1"]);
    // It itself sees its own cgroup as the topmost.
    let task = world.process("sleep");
    let cgroups = std::fs::read_to_string(format!("/proc/{task}/cgroup")).unwrap();
    let said = running.end();
    assert_eq!(said.status, 0, "{}", said.err);
    let mut some = 0;
    for line in cgroups.lines() {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        if !path.starts_with("/mesita/") {
            continue;
        }
        some += 1;
        let bases = [controllers, "unified", ""].map(|name| format!("/sys/fs/cgroup/{name}"));
        for base in bases {
            // The container's directory and the agent's; the root is everybody's.
            let container = format!("{base}{path}");
            let container = std::path::Path::new(&container);
            assert!(!container.exists(), "{} is left", container.display());
            let agent = container.parent().unwrap();
            assert!(!agent.exists(), "{} is left", agent.display());
        }
    }
    assert!(some > 0, "{cgroups}");
}

#[test]
fn the_end_of_a_task_is_the_end_of_run_in_a_cluster_of_its_own() {
    let world = World::new();
    for (line, status, told) in ENDS {
        let said = world.run_alone(&["--command", line]).end();
        assert_eq!(said.status, status, "{line}: {}", said.err);
        assert!(said.err.contains(told), "{line}: {}", said.err);
    }
    world.nothing_is_left();
}

#[test]
fn the_end_of_a_task_is_the_end_of_run_on_a_cluster() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    for (line, status, told) in ENDS {
        let said = master.run(&["--command", line]).end();
        assert_eq!(said.status, status, "{line}: {}", said.err);
        for word in ["framework ", "submitted to agent", "TASK_STARTING", "TASK_RUNNING", told] {
            assert!(said.err.contains(word), "{line}: {word} in {}", said.err);
        }
    }
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// A line for the shell, the status of `run`, and what it says of the end.
const ENDS: [(&str, i32, &str); 5] = [
    ("true", 0, "TASK_FINISHED"),
    ("exit 7", 7, "Command exited with status 7"),
    ("exit 3", 3, "TASK_FAILED"),
    ("kill -9 $$", 137, "Command terminated with signal Killed"),
    ("kill -TERM $$", 143, "Command terminated with signal Terminated"),
];

#[test]
fn what_a_task_writes_is_passed_on_whole_and_apart() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let line = "seq 1 200000; echo to stderr >&2; printf 'no newline'";
    let expected = (1..=200_000).map(|n| format!("{n}\n")).collect::<String>() + "no newline";
    for process in [master.run(&["--command", line]), world.run_alone(&["--command", line])] {
        let said = process.end();
        assert_eq!(said.status, 0, "{}", said.err);
        assert!(said.out == expected, "{} bytes of {}", said.out.len(), expected.len());
        assert!(said.err.lines().any(|line| line == "to stderr"), "{}", said.err);
    }
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_task_that_takes_more_memory_than_it_has_is_told_so() {
    if !has_cgroups("memory") {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    // One process, which holds all of a line that never ends.
    let flags = ["--resources", "cpus:1;mem:16", "--", "tail", "/dev/zero"];
    for process in [master.run(&flags), world.run_alone(&flags)] {
        let said = process.end();
        assert_eq!(said.status, 137, "{}", said.err);
        let told = "Memory limit exceeded: Requested: 16MB";
        assert!(said.err.contains(told), "{}", said.err);
        assert!(said.err.contains("(REASON_CONTAINER_LIMITATION_MEMORY)"), "{}", said.err);
        let ends = said.err.lines().filter(|line| line.starts_with("TASK_FAILED")).count();
        assert_eq!(ends, 1, "{}", said.err);
    }
    // The agent is none the worse for it.
    assert_eq!(master.run(&["--", "true"]).end().status, 0);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_task_forks_up_to_its_limit_and_no_further() {
    if !has_cgroups("pids") {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--task-pids-max=16"]);
    let line = "for i in $(seq 1 64); do sleep 1000 & done; wait";
    let said = master.run(&["--command", line]).end();
    assert_ne!(said.status, 0, "{}", said.err);
    assert!(said.err.to_lowercase().contains("cannot fork"), "{}", said.err);
    assert_eq!(master.run(&["--command", "(true) && (true)"]).end().status, 0);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_task_that_ignores_sigterm_is_killed_after_its_grace() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let line = "trap '' TERM; echo here; while true; do sleep 0.1; done";
    let flags = ["--kill-grace", "500ms", "--command", line];
    for process in [master.run(&flags), world.run_alone(&flags)] {
        process.prints("here\n");
        process.signal(Signal::INT);
        let said = process.end();
        assert_eq!(said.status, 130, "{}", said.err);
        assert!(said.err.contains("TASK_KILLED"), "{}", said.err);
    }
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn an_agent_that_leaves_is_not_offered_while_its_tasks_take_their_grace() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let gate = world.path("gate");
    let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", gate.display());
    let line = format!("trap 'echo asked' TERM; echo here; {wait}");
    let run = master.run(&["--kill-grace", "60s", "--command", &line]);
    run.prints("here\n");
    std::thread::scope(|scope| {
        scope.spawn(move || agent.leave());
        run.prints("here\nasked\n");
        let other = master.run(&["--resources", "cpus:0.1;mem:32", "--", "true"]);
        other.says("waiting: ");
        other.signal(Signal::INT);
        let said = other.end();
        assert!(!said.err.contains("TASK_"), "{}", said.err);
        std::fs::write(&gate, "").unwrap();
    });
    run.end();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn sigterm_ends_a_run_with_its_task_which_may_say_goodbye() {
    let world = World::new();
    let line = "trap 'echo bye; exit 0' TERM; echo here; while true; do sleep 0.1; done";
    let process = world.run_alone(&["--kill-grace", "30s", "--command", line]);
    process.prints("here\n");
    process.signal(Signal::TERM);
    let said = process.end();
    assert_eq!((said.status, said.out.as_str()), (143, "here\nbye\n"), "{}", said.err);
    world.nothing_is_left();
}

#[test]
fn a_command_that_does_not_exist_fails_and_says_so() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    for flags in [["--", "no-such-program"], ["--", "/no/such/program"]] {
        for process in [master.run(&flags), world.run_alone(&flags)] {
            let said = process.end();
            assert_eq!(said.status, 1, "{}", said.err);
            let told = "cannot execute the program: No such file or directory";
            let is_told = |line: &str| line.starts_with("TASK_FAILED") && line.contains(told);
            assert!(said.err.lines().any(is_told), "{}", said.err);
            assert!(!said.err.contains("cut short"), "{}", said.err);
        }
    }
    let said = master.run(&["--command", "no-such-program"]).end();
    assert_eq!(said.status, 127, "{}", said.err);
    assert!(said.err.contains("not found"), "{}", said.err);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn what_does_not_fit_is_told_once_with_what_would() {
    let world = World::new();
    let master = world.master(&[]);
    let waiting = master.run(&["--wait", "5s", "--", "true"]).end();
    assert_eq!(waiting.status, 3, "{}", waiting.err);
    assert!(waiting.err.contains("waiting: there is no agent\n"), "{}", waiting.err);
    assert!(!waiting.err.contains("would fit"), "{}", waiting.err);
    let agent = master.agent(&["--hostname=n1"]);
    let flags = ["--wait", "7s", "--resources", "cpus:8;mem:64", "--", "true"];
    let said = master.run(&flags).end();
    assert_eq!(said.status, 3, "{}", said.err);
    let told = "waiting: no agent has cpus:8; largest is n1 with cpus:4 (short by 4)\n         \
                would fit: --resources \"cpus:4;mem:64\"\n";
    assert_eq!(said.err.matches(told).count(), 1, "{}", said.err);
    assert_eq!(said.err.matches("waiting").count(), 1, "{}", said.err);
    agent.leave();
    master.stop();
}

#[test]
fn what_fits_but_is_in_use_is_told_and_waited_for() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let gate = world.path("gate");
    let line = format!("until [ -e {} ]; do sleep 0.1; done", gate.display());
    let occupant = master.run(&["--resources", "cpus:4;mem:64", "--command", &line]);
    occupant.says("TASK_RUNNING");
    let waiting = master.run(&["--resources", "cpus:2;mem:64", "--", "echo", "my turn"]);
    waiting
        .says("waiting: the agents that have that much use it for other tasks, or take none now");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(occupant.end().status, 0);
    let said = waiting.end();
    assert_eq!((said.status, said.out.as_str()), (0, "my turn\n"), "{}", said.err);
    assert_eq!(said.err.matches("waiting").count(), 1, "{}", said.err);
    agent.leave();
    master.stop();
}

#[test]
fn a_cluster_is_found_by_a_variable_and_by_an_agent_that_knows_it() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let mut command = world.mesita(&["run", "--", "echo", "found"]);
    command.env("MESITA_MASTER", master.address());
    let said = world.start(command).end();
    assert_eq!((said.status, said.out.as_str()), (0, "found\n"), "{}", said.err);
    assert!(!said.err.contains("private"), "{}", said.err);
    let through_agent = format!("127.0.0.1:{}", agent.port);
    let flags = ["run", "--master", &through_agent, "--", "echo", "found"];
    let said = world.told(&flags);
    assert_eq!((said.status, said.out.as_str()), (0, "found\n"), "{}", said.err);
    let said = world.told(&["ps", "--agents", "--master", &through_agent]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.out.starts_with("AGENT "), "{}", said.out);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn logs_follow_a_task_to_its_end_and_show_its_tail_afterwards() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let gate = world.path("gate");
    let wait = format!("until [ -e {} ]; do sleep 0.1; done", gate.display());
    let line = format!("echo one; echo aside >&2; {wait}; echo two");
    let run = master.run(&["--name", "said", "--command", &line]);
    run.prints("one\n");
    let address = master.address();
    let logs = |flags: &[&str]| {
        world.start(world.mesita(&[&["logs", "said", "--master", &address], flags].concat()))
    };
    let follows = logs(&["--follow"]);
    follows.prints("one\n");
    assert_eq!(logs(&[]).end().out, "one\n");
    assert_eq!(logs(&["--stderr"]).end().out, "aside\n");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(run.end().status, 0);
    let said = follows.end();
    assert_eq!((said.status, said.out.as_str()), (0, "one\ntwo\n"), "{}", said.err);
    assert_eq!(logs(&["--tail", "4"]).end().out, "two\n");
    let said = world.told(&["logs", "nobody", "--master", &address]);
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("no task `nobody` is known"), "{}", said.err);
    agent.leave();
    master.stop();
}

#[test]
fn a_run_waits_for_an_agent_to_come() {
    let world = World::new();
    let master = world.master(&[]);
    let process = master.run(&["--", "echo", "at last"]);
    process.says("waiting: there is no agent");
    let agent = master.agent(&[]);
    let said = process.end();
    assert_eq!((said.status, said.out.as_str()), (0, "at last\n"), "{}", said.err);
    agent.leave();
    master.stop();
}

#[test]
fn nothing_is_launched_when_it_is_interrupted_while_it_waits() {
    let world = World::new();
    let process = world.run_alone(&["--resources", "cpus:1000;mem:64", "--", "true"]);
    process.says("waiting: no agent has cpus:1000; largest is ");
    process.signal(Signal::INT);
    let said = process.end();
    assert_eq!(said.status, 130, "{}", said.err);
    assert!(said.err.contains("nothing was launched"), "{}", said.err);
    world.nothing_is_left();
}

#[test]
fn a_detached_task_goes_on_and_its_framework_ends_with_it() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let gate = world.path("gate");
    let line =
        format!("echo begun; until [ -e {} ]; do sleep 0.1; done; echo over", gate.display());
    let said = master.run(&["--detach", "--name", "kept", "--command", &line]).end();
    assert_eq!((said.status, said.out.as_str()), (0, "kept\n"), "{}", said.err);
    master.sees("kept", "TASK_RUNNING");
    let frameworks = master.rows(&["--frameworks"]);
    assert_eq!(frameworks.len(), 1, "{frameworks:?}");
    std::fs::write(&gate, "").unwrap();
    master.sees("kept", "TASK_FINISHED");
    crate::world::eventually(
        || master.rows(&["--frameworks"]).is_empty(),
        || format!("no framework: {:?}", master.rows(&["--frameworks"])),
    );
    let logs = world.told(&["logs", "kept", "--master", &master.address()]);
    assert_eq!((logs.status, logs.out.as_str()), (0, "begun\nover\n"), "{}", logs.err);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_run_that_is_hung_up_hands_its_task_over() {
    let world = World::new();
    let master = world.master(&["--min-failover-timeout=1s"]);
    let agent = master.agent(&[]);
    let gate = world.path("gate");
    let line =
        format!("echo begun; until [ -e {} ]; do sleep 0.1; done; echo over", gate.display());
    let process = master.run(&["--name", "kept", "--command", &line]);
    process.prints("begun\n");
    process.signal(Signal::HUP);
    let said = process.end();
    assert_eq!(said.status, 0, "{}", said.err);
    // Longer than a framework that is gone without a word is waited for.
    std::thread::sleep(std::time::Duration::from_secs(3));
    master.sees("kept", "TASK_RUNNING");
    std::fs::write(&gate, "").unwrap();
    master.sees("kept", "TASK_FINISHED");
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn detaching_from_a_cluster_that_ends_with_this_command_is_refused() {
    let world = World::new();
    let said = world.run_alone(&["--detach", "--", "true"]).end();
    assert_eq!(said.status, 4, "{}", said.err);
    assert!(said.err.contains("--detach needs a cluster"), "{}", said.err);
}

#[test]
fn several_instances_run_and_the_worst_end_is_told() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let flags = ["--instances", "6", "--name", "many", "--resources", "cpus:1;mem:16", "--"];
    let said = master.run(&[&flags[..], &["echo", "x"]].concat()).end();
    assert_eq!((said.status, said.out.as_str()), (0, "x\nx\nx\nx\nx\nx\n"), "{}", said.err);
    for number in 1..=6 {
        assert!(said.err.contains(&format!("TASK_FINISHED many-{number} on ")), "{}", said.err);
    }
    let line = "case $MESOS_TASK_ID in many-2) exit 9;; esac";
    let said = master.run(&[&flags[..6], &["--command", line]].concat()).end();
    assert_eq!(said.status, 9, "{}", said.err);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn json_tells_every_step_on_a_line_of_its_own() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let said = master.run(&["--json", "--name", "j", "--command", "echo out; exit 4"]).end();
    assert_eq!((said.status, said.out.as_str()), (4, "out\n"), "{}", said.err);
    let lines: Vec<serde_json::Value> =
        said.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<&str> = lines
        .iter()
        .map(|line| line["state"].as_str().or(line["event"].as_str()).unwrap())
        .collect();
    let steps = ["subscribed", "submitted", "TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"];
    assert_eq!(told, steps, "{}", said.err);
    assert_eq!(lines[4]["exit_code"], 4);
    assert_eq!(lines[4]["task_id"], "j");
    agent.leave();
    master.stop();
}

#[test]
fn a_configuration_file_configures_a_daemon() {
    let world = World::new();
    let port = world.port();
    let (file, work_dir) = (world.path("master.toml"), world.path("configured"));
    let text = format!("port = {port}\nwork_dir = {work_dir:?}\nweights = \"a=2,b=1\"\n");
    std::fs::write(&file, text).unwrap();
    let master = world.start(world.mesita(&["master", "--config", file.to_str().unwrap()]));
    master.says(&format!("master at 127.0.0.1:{port}"));
    assert!(crate::world::get(port, "/health").starts_with("HTTP/1.1 200 OK"));
    master.signal(Signal::TERM);
    assert_eq!(master.end().status, 0);
    assert!(work_dir.join("meta/registry").exists());
}

#[test]
fn called_as_mesos_execute_it_speaks_its_words() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let link = world.path("mesos-execute");
    symlink(env!("CARGO_BIN_EXE_mesita"), &link).unwrap();
    let run = |line: &str| {
        let mut command = std::process::Command::new(&link);
        command.args([&format!("--master={}", master.address()), "--name=my-first-task"]);
        command.args([&format!("--command={line}"), "--resources=cpus:1;mem:128"]);
        world.start(command).end()
    };
    let said = run("echo hello world");
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].starts_with("Subscribed with ID "), "{}", said.out);
    let framework = lines[0].strip_prefix("Subscribed with ID ").unwrap();
    let cluster = framework.split('-').next().unwrap();
    let submitted = format!("Submitted task 'my-first-task' to agent '{cluster}-1-S1'");
    assert_eq!(lines[1], submitted, "{}", said.out);
    let updates: Vec<&str> =
        lines.iter().copied().filter(|line| line.starts_with("Received")).collect();
    let expected = ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
        .map(|state| format!("Received status update {state} for task 'my-first-task'"));
    assert_eq!(updates, expected, "{}", said.out);
    let said = run("exit 5");
    assert_eq!(said.status, 1, "{}{}", said.out, said.err);
    assert!(said.out.contains("Received status update TASK_FAILED"), "{}", said.out);
    assert!(said.out.contains("  message: 'Command exited with status 5'"), "{}", said.out);
    agent.leave();
    master.stop();
}

#[test]
fn a_user_who_is_not_root_runs_tasks_held_by_their_process_group() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let user = NOBODY.to_string();
    let wrapper = ["unshare", "--net", "--", "setpriv", "--reuid", &user, "--regid", &user];
    let wrapper = [&wrapper[..], &["--clear-groups", "--no-new-privs"]].concat();
    let mark = world.marked();
    let run = |arguments: &[&str]| {
        let arguments = [&["run", &mark], arguments].concat();
        world.start(world.wrapped(&wrapper, &arguments)).end()
    };
    let said = run(&["--command", "id -u; exit 6"]);
    assert_eq!((said.status, said.out.as_str()), (6, "65534\n"), "{}", said.err);
    let how = "private one-shot cluster; task held by ";
    let (_, held) = said.err.split_once(how).unwrap_or_else(|| panic!("{}", said.err));
    assert!(!held.contains("cgroups/"), "{}", said.err);
    let off = "cgroups/mem is off: ";
    assert_eq!(said.err.matches(off).count(), 1, "{}", said.err);
    // What a task leaves behind in its group ends with it.
    let said = run(&["--command", "sleep 1000 & echo over"]);
    assert_eq!((said.status, said.out.as_str()), (0, "over\n"), "{}", said.err);
    world.nothing_is_left();
}
