//! An agent in a network namespace that lets nothing in.

use std::process::{Command, Stdio};

use crate::world::{PATIENCE, Process, Signal, World, needs_root, within};

/// A network namespace, joined to another by a pair of interfaces. Both go with this.
struct Namespace {
    name: String,
    flag: String,
}

fn ip(arguments: &str) -> Result<(), String> {
    let said = Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output();
    match said {
        Ok(said) if said.status.success() => Ok(()),
        Ok(said) => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&said.stderr))),
        Err(error) => Err(format!("ip: {error}")),
    }
}

impl Namespace {
    fn new(name: &str) -> Result<Self, String> {
        ip(&format!("netns add {name}"))?;
        let flag = format!("--net=/run/netns/{name}");
        let namespace = Self { name: name.to_owned(), flag };
        ip(&format!("-n {name} link set lo up"))?;
        Ok(namespace)
    }

    /// What makes a command run in it, with the cgroups of everybody.
    fn wrapper(&self) -> [&str; 3] {
        ["nsenter", &self.flag, "--"]
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("netns delete {}", self.name)) {
            println!("{error}");
        }
    }
}

/// Two namespaces with a cable between them.
fn cable(world: &World) -> Result<[Namespace; 2], String> {
    let names = ["a", "b"].map(|end| format!("{}-{end}", world.name()));
    let pair = [Namespace::new(&names[0])?, Namespace::new(&names[1])?];
    let [a, b] = &names;
    ip(&format!("-n {a} link add cable type veth peer name cable netns {b}"))?;
    for (name, address) in [(a, "10.77.0.1"), (b, "10.77.0.2")] {
        ip(&format!("-n {name} address add {address}/24 dev cable"))?;
        ip(&format!("-n {name} link set cable up"))?;
    }
    Ok(pair)
}

/// Starts `mesita` in a namespace.
fn start(world: &World, namespace: &Namespace, arguments: &[&str]) -> Process {
    world.start(world.wrapped(&namespace.wrapper(), arguments))
}

#[test]
fn an_agent_that_only_dials_out_shows_what_its_tasks_write() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let [outside, inside] = match cable(&world) {
        Ok(pair) => pair,
        Err(why) => return println!("SKIPPED: no network namespace can be made: {why}"),
    };
    let (work_dir, agent_dir) = (world.path("outside"), world.path("inside"));
    let [work_dir, agent_dir] = [&work_dir, &agent_dir].map(|path| path.to_str().unwrap());
    let flags = ["--ip", "10.77.0.1", "--insecure", "--port", "5050", "--work-dir", work_dir];
    let master = start(&world, &outside, &[&["master"], &flags[..]].concat());
    master.says("master at 10.77.0.1:5050");
    master.says("--insecure: others reach 10.77.0.1, and can listen in");
    let mut asked = world.command_in(&outside.wrapper(), "bash");
    let health =
        "exec 3<>/dev/tcp/10.77.0.1/5050; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    asked.args(["-c", health]);
    let health = world.start(asked).end().out;
    assert!(health.contains("\"insecure\":true"), "{health}");
    assert!(health.contains("\"authenticates\":false"), "{health}");
    // The agent listens at loopback alone: from outside its namespace nobody reaches it.
    let root = format!("--cgroups-root={}", world.name());
    let flags = ["--master", "10.77.0.1:5050", "--work-dir", agent_dir, &root, "--hostname=behind"];
    let agent = start(&world, &inside, &[&["agent"], &flags[..]].concat());
    agent.says("registered with the master at 10.77.0.1:5050");
    let mut probe = world.command_in(&outside.wrapper(), "bash");
    probe.args(["-c", "exec 3<>/dev/tcp/10.77.0.2/5051"]);
    assert_ne!(world.start(probe).end().status, 0, "the agent can be reached from outside");

    let mark = world.marked();
    let at = ["--master", "10.77.0.1:5050"];
    let line = "for i in 1 2 3; do echo line $i; sleep 0.2; done; echo aside >&2";
    let run = ["run", &mark, "--user", "nobody", "--name", "meter", "--command", line];
    let said = start(&world, &outside, &[&run[..], &at].concat()).end();
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(said.out, "line 1\nline 2\nline 3\n");
    assert!(said.err.contains("\naside\n"), "{}", said.err);
    assert!(said.err.contains("TASK_FINISHED meter on behind"), "{}", said.err);
    let logs = start(&world, &outside, &[&["logs", "meter"], &at[..]].concat()).end();
    assert_eq!((logs.status, logs.out.as_str()), (0, "line 1\nline 2\nline 3\n"), "{}", logs.err);

    // A task of a user that has not said hello to this machine's kernel may not be root's.
    let root = ["run", &mark, "--user", "root", "--", "id"];
    let said = start(&world, &outside, &[&root[..4], &at, &root[4..]].concat()).end();
    assert_eq!((said.status, said.out.as_str()), (1, ""), "{}", said.err);

    // The cable is pulled and put back: the agent registers again, and the task goes on.
    let line = "echo begun; until [ -e go ]; do sleep 0.1; done; echo over";
    let run = ["run", &mark, "--user", "nobody", "--name", "long", "--command", line];
    let run = start(&world, &outside, &[&run[..], &at].concat());
    run.prints("begun\n");
    ip(&format!("-n {} link set cable down", inside.name)).unwrap();
    let silent = || agent.err().contains("was silent for");
    assert!(within(PATIENCE, silent), "{}", agent.err());
    ip(&format!("-n {} link set cable up", inside.name)).unwrap();
    let again = || agent.err().matches("registered with the master").count() == 2;
    assert!(within(PATIENCE, again), "{}", agent.err());
    let sandbox = world.sandboxes(agent_dir).pop().unwrap();
    std::fs::write(sandbox.join("go"), "").unwrap();
    let said = run.end();
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(said.out, "begun\nover\n", "{}", said.err);

    agent.signal(Signal::USR1);
    assert_eq!(agent.end().status, 0);
    master.signal(Signal::TERM);
    assert_eq!(master.end().status, 0);
    drop((inside, outside));
    world.nothing_is_left();
}

#[test]
fn without_a_word_the_cluster_of_this_host_is_used() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let host = match Namespace::new(&format!("{}-h", world.name())) {
        Ok(host) => host,
        Err(why) => return println!("SKIPPED: no network namespace can be made: {why}"),
    };
    let mark = world.marked();
    let run = || start(&world, &host, &["run", &mark, "--", "echo", "found"]).end();
    let announced = "private one-shot cluster";
    assert!(run().err.contains(announced));
    let master = |port: &str| {
        let work_dir = world.path("master");
        let flags = ["master", "--port", port, "--work-dir", work_dir.to_str().unwrap()];
        let master = start(&world, &host, &flags);
        master.says("master at 127.0.0.1");
        master
    };
    let agent = |master: &str| {
        let (root, work_dir) = (format!("--cgroups-root={}", world.name()), world.path("agent"));
        let work_dir = work_dir.to_str().unwrap();
        let flags = ["agent", "--master", master, "--work-dir", work_dir, &root];
        let agent = start(&world, &host, &flags);
        agent.says("registered with the master");
        agent
    };
    for port in ["5050", "6060"] {
        // At its own port, and by way of an agent that knows it.
        let (master, agent) = (master(port), agent(&format!("127.0.0.1:{port}")));
        let said = run();
        assert_eq!((said.status, said.out.as_str()), (0, "found\n"), "{port}: {}", said.err);
        assert!(!said.err.contains(announced), "{port}: {}", said.err);
        let said = start(&world, &host, &["ps", "--all"]).end();
        assert_eq!(said.status, 0, "{port}: {}", said.err);
        assert!(said.out.contains(" FINISHED "), "{port}: {}", said.out);
        for process in [agent, master] {
            process.signal(Signal::TERM);
            assert_eq!(process.end().status, 0);
        }
    }
    // Nobody is left to ask.
    let said = start(&world, &host, &["ps"]).end();
    assert_eq!(said.status, 4, "{}", said.err);
    assert!(run().err.contains(announced));
    // Nothing holds an agent's keeper without a task but the agent.
    drop(host);
    world.nothing_is_left();
}
