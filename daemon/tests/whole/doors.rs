//! Who may do what: users of one machine, and processes inside tasks.

use crate::world::{Master, NOBODY, Process, Signal, World, eventually, needs_root};

/// `mesita run` as an ordinary user.
fn run_as_nobody(world: &World, master: &Master<'_>, arguments: &[&str]) -> Process {
    let user = NOBODY.to_string();
    let wrapper = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let (mark, address) = (world.marked(), master.address());
    let begin = ["run", &mark, "--master", &address];
    world.start(world.wrapped(&wrapper, &[&begin, arguments].concat()))
}

#[test]
fn a_process_inside_a_task_may_not_use_the_cluster_that_runs_it() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let binary = world.binary();
    let (binary, address) = (binary.to_str().unwrap(), master.address());
    for words in ["run --wait 5s -- true", "ps", "logs x"] {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        let line = format!("{binary} {verb} --master {address} {rest}");
        let said = master.run(&["--command", &line]).end();
        assert_ne!(said.status, 0, "{words}: {}", said.err);
        let why = "processes inside a task or a container may not use the cluster without a token";
        assert!(said.err.contains(why), "{words}: {}", said.err);
    }
    // HTTP is no other door, and the agent's port is none either.
    for port in [master.port, agent.port] {
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
        );
        let said = master.run(&["--", "bash", "-c", &script]).end();
        assert!(said.out.starts_with("HTTP/1.0 403 Forbidden"), "{} {}", said.out, said.err);
    }
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// README: everybody on the machine may read what runs.
#[test]
fn an_ordinary_user_reads_the_operator_api_and_changes_nothing_by_it() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let user = NOBODY.to_string();
    let asked = |port: u16, call: &str| {
        let head = "POST /api/v1 HTTP/1.0\\r\\nContent-Type: application/json";
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; printf '{head}\\r\\nContent-Length: {}\\r\\n\\r\\n%s' \
             '{call}' >&3; cat <&3",
            call.len()
        );
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        let said = command.args(["bash", "-c", &script]).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    for port in [master.port, agent.port] {
        for kind in ["GET_VERSION", "GET_STATE", "GET_HEALTH"] {
            let told = asked(port, &format!(r#"{{"type":"{kind}"}}"#));
            assert!(told.starts_with("HTTP/1.0 200 OK") && told.contains(kind), "{told}");
        }
    }
    for (port, call) in [
        (master.port, r#"{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[]}}"#),
        (agent.port, r#"{"type":"PRUNE_IMAGES","prune_images":{}}"#),
    ] {
        let told = asked(port, call);
        assert!(told.starts_with("HTTP/1.0 403 "), "{told}");
    }
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn whoever_runs_a_task_looks_into_it_and_no_other_user_does() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let task = run_as_nobody(&world, &master, &["--name", "own", "--", "sleep", "1000"]);
    eventually(
        || master.rows(&[]).iter().any(|row| row["state"] == "TASK_RUNNING"),
        || format!("{:?} {}", master.rows(&[]), task.err()),
    );
    let exec = |user: u32| {
        let user = user.to_string();
        let wrapper = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
        let words = ["exec", "--master", &master.address(), "own", "--", "id", "-u"];
        world.start(world.wrapped(&wrapper, &words)).end()
    };
    let own = exec(NOBODY);
    assert_eq!((own.status, own.out.as_str()), (0, "65534\n"), "{}", own.err);
    let other = exec(NOBODY - 1);
    assert!(other.status != 0 && other.out.is_empty(), "{}", other.err);
    task.signal(Signal::TERM);
    task.end();
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_task_runs_as_who_asked_for_it_and_as_nobody_else() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let said = run_as_nobody(&world, &master, &["--command", "id -u; id -g; id -G"]).end();
    assert_eq!((said.status, said.out.as_str()), (0, "65534\n65534\n65534\n"), "{}", said.err);
    let said = run_as_nobody(&world, &master, &["--user", "root", "--", "id", "-u"]).end();
    assert_eq!((said.status, said.out.as_str()), (1, ""), "{}", said.err);
    assert!(said.err.contains("may not run tasks as that user"), "{}", said.err);
    // Root may name anybody.
    let said = master.run(&["--user", "nobody", "--", "id", "-u"]).end();
    assert_eq!((said.status, said.out.as_str()), (0, "65534\n"), "{}", said.err);
    let said = master.run(&["--user", "no-such-user", "--", "id", "-u"]).end();
    assert_eq!((said.status, said.out.as_str()), (1, ""), "{}", said.err);
    assert!(said.err.contains("no-such-user"), "{}", said.err);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn only_who_runs_a_task_or_operates_the_cluster_reads_what_it_wrote() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let said = master.run(&["--name", "secret", "--", "echo", "not for you"]).end();
    assert_eq!(said.status, 0, "{}", said.err);
    let user = NOBODY.to_string();
    let wrapper = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let logs = ["logs", "secret", "--master", &master.address()];
    let said = world.start(world.wrapped(&wrapper, &logs)).end();
    assert_eq!((said.status, said.out.as_str()), (1, ""), "{}", said.err);
    assert!(said.err.contains("only who runs a task"), "{}", said.err);
    assert_eq!(world.told(&logs).out, "not for you\n");
    agent.leave();
    master.stop();
}

#[test]
fn an_ordinary_user_registers_no_agent_with_roots_master() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let user = NOBODY.to_string();
    let wrapper = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let (port, work_dir) = (world.port().to_string(), world.temporary().join("agent"));
    let address = master.address();
    let root = format!("--cgroups-root={}", world.name());
    let begin = ["agent", "--master", &address, "--port", &port, &root, "--work-dir"];
    let arguments = [&begin[..], &[work_dir.to_str().unwrap()]].concat();
    let agent = world.start(world.wrapped(&wrapper, &arguments));
    agent.says("only root and the user that the master runs as may register agents");
    assert!(master.rows(&["--agents"]).is_empty());
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().status, 0);
    std::fs::remove_dir_all(work_dir).unwrap();
    master.stop();
    world.nothing_is_left();
}
