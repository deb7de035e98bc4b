//! Agents in network namespaces that let nothing in.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::world::{PATIENCE, Process, Signal, World, needs_root, within};

/// A network namespace, joined to another by a pair of interfaces. Both go with this.
pub(crate) struct Namespace {
    pub(crate) name: String,
    flag: String,
}

pub(crate) fn ip(arguments: &str) -> Result<(), String> {
    let said = Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output();
    match said {
        Ok(said) if said.status.success() => Ok(()),
        Ok(said) => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&said.stderr))),
        Err(error) => Err(format!("ip: {error}")),
    }
}

/// What was made of namespaces; none, and the reason is said, where a machine makes none.
pub(crate) fn or_skipped<T>(made: Result<T, String>) -> Option<T> {
    made.inspect_err(|why| println!("SKIPPED: no network of namespaces can be made: {why}")).ok()
}

impl Namespace {
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        ip(&format!("netns add {name}"))?;
        let flag = format!("--net=/run/netns/{name}");
        let namespace = Self { name: name.to_owned(), flag };
        ip(&format!("-n {name} link set lo up"))?;
        Ok(namespace)
    }

    /// What makes a command run in it, with the cgroups of everybody.
    pub(crate) fn wrapper(&self) -> [&str; 3] {
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
pub(crate) fn cable(world: &World) -> Result<[Namespace; 2], String> {
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
pub(crate) fn start(world: &World, namespace: &Namespace, arguments: &[&str]) -> Process {
    world.start(world.wrapped(&namespace.wrapper(), arguments))
}

/// A third namespace, whose way to the first is a cable of its own.
fn third(world: &World, outside: &Namespace) -> Result<Namespace, String> {
    let third = Namespace::new(&format!("{}-c", world.name()))?;
    let (a, c) = (&outside.name, &third.name);
    ip(&format!("-n {a} link add more type veth peer name cable netns {c}"))?;
    ip(&format!("-n {a} address add 10.78.0.1/24 dev more"))?;
    ip(&format!("-n {c} address add 10.78.0.2/24 dev cable"))?;
    ip(&format!("-n {a} link set more up"))?;
    ip(&format!("-n {c} link set cable up"))?;
    ip(&format!("-n {c} route add 10.77.0.0/24 via 10.78.0.1"))?;
    Ok(third)
}

/// What the master outside answers to `GET path`.
fn got(world: &World, outside: &Namespace, path: &str) -> Value {
    let mut asked = world.command_in(&outside.wrapper(), "bash");
    let line = format!(
        "exec 3<>/dev/tcp/10.77.0.1/5050; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    );
    asked.args(["-c", &line]);
    let said = world.start(asked).end();
    let body = said.out.split_once("\r\n\r\n").unwrap_or_default().1;
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{path}: {}{}", said.out, said.err))
}

#[test]
fn an_agent_that_only_dials_out_shows_what_its_tasks_write() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some([outside, inside]) = or_skipped(cable(&world)) else { return };
    let (work_dir, agent_dir) = (world.path("outside"), world.path("inside"));
    let [work_dir, agent_dir] = [&work_dir, &agent_dir].map(|path| path.to_str().unwrap());
    let flags = ["--ip", "10.77.0.1", "--insecure", "--port", "5050", "--work-dir", work_dir];
    let master = start(&world, &outside, &[&["master"], &flags[..]].concat());
    master.says("master at 10.77.0.1:5050");
    master.says("--insecure: others reach 10.77.0.1, and can listen in");
    let health = got(&world, &outside, "/health");
    assert_eq!(health["insecure"], true, "{health}");
    assert_eq!(health["authenticates"], false, "{health}");
    // The agent listens at loopback alone: from outside its namespace nobody reaches it.
    let root = format!("--cgroups-root={}", world.name());
    let flags = ["--master", "10.77.0.1:5050", "--work-dir", agent_dir, &root, "--hostname=behind"];
    let begin = [&["agent"], &flags[..]].concat();
    // Nothing is said in the clear on a cable unless somebody wants that.
    for words in [&begin[..], &["ps", "--master", "10.77.0.1:5050"]] {
        let said = start(&world, &inside, words).end();
        assert!(
            said.status == 2 && said.err.contains("say https://10.77.0.1:5050"),
            "{}",
            said.err
        );
    }
    let agent = start(&world, &inside, &[&begin[..], &["--insecure"]].concat());
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

/// An agent that only dials out, registered, with room for one task.
fn behind(world: &World, namespace: &Namespace, name: &str, port: &str) -> Process {
    let work_dir = world.path(name);
    let root = format!("--cgroups-root={}", world.name());
    let begin = ["agent", "--master", "10.77.0.1:5050", "--hostname=behind", &root];
    let more = ["--insecure", "--port", port, "--resources=cpus:1;mem:128", "--work-dir"];
    let flags = [&begin[..], &more, &[work_dir.to_str().unwrap()]].concat();
    let agent = start(world, namespace, &flags);
    agent.says("registered with the master at 10.77.0.1:5050");
    agent
}

/// Looks, by way of the master, at an agent's only task; its name and its directory.
fn looked_at(world: &World, outside: &Namespace, agent: &str) -> (String, String) {
    let read = |path: &str| got(world, outside, &format!("/agent/{agent}{path}"));
    let state = read("/state");
    assert_eq!(state["id"], agent, "{state}");
    let executor = &state["frameworks"][0]["executors"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (name, directory) = (text(&executor["tasks"][0]["name"]), text(&executor["directory"]));
    let listed = read(&format!("/files/browse?path={directory}"));
    let stdout = format!("{directory}/stdout");
    assert!(listed.as_array().unwrap().iter().any(|file| file["path"] == *stdout), "{listed}");
    let written = read(&format!("/files/read?path={stdout}&offset=0&length=100"));
    assert_eq!(written["data"], format!("here is {name}\n"), "{written}");
    (name, directory)
}

#[test]
fn agents_behind_one_address_are_each_reached_under_their_own_id() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let made = cable(&world).and_then(|[outside, inside]| {
        let other = third(&world, &outside)?;
        Ok([outside, inside, other])
    });
    let Some([outside, inside, other]) = or_skipped(made) else { return };
    let work_dir = world.path("outside");
    let flags = ["--ip", "10.77.0.1", "--insecure", "--port", "5050", "--work-dir"];
    let begin = [&["master"], &flags[..], &[work_dir.to_str().unwrap()]].concat();
    let master = start(&world, &outside, &begin);
    master.says("master at 10.77.0.1:5050");
    // The first two come from one address; the first and the last tell the same one of themselves.
    let agents = [("one", &inside, "5051"), ("two", &inside, "5052"), ("three", &other, "5051")]
        .map(|(name, namespace, port)| behind(&world, namespace, name, port));

    // Each has room for one of the tasks.
    let mark = world.marked();
    let runs = ["x", "y", "z"].map(|name| {
        let line = format!("echo here is {name}; until [ -e go ]; do sleep 0.1; done");
        let begin = ["run", &mark, "--master", "10.77.0.1:5050", "--resources", "cpus:1;mem:32"];
        let more = ["--user", "nobody", "--name", name, "--command", &line];
        let run = start(&world, &outside, &[&begin[..], &more].concat());
        run.prints(&format!("here is {name}\n"));
        run
    });
    let told = got(&world, &outside, "/slaves");
    let ids = told["slaves"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap());
    let mut looked: Vec<_> = ids.map(|id| looked_at(&world, &outside, id)).collect();
    looked.sort();
    let names: Vec<&str> = looked.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x", "y", "z"]);
    for (_, directory) in &looked {
        std::fs::write(format!("{directory}/go"), "").unwrap();
    }
    for run in runs {
        let said = run.end();
        assert_eq!(said.status, 0, "{}", said.err);
    }

    for agent in agents {
        agent.signal(Signal::USR1);
        assert_eq!(agent.end().status, 0);
    }
    master.signal(Signal::TERM);
    assert_eq!(master.end().status, 0);
    drop((inside, other, outside));
    world.nothing_is_left();
}

#[test]
fn without_a_word_the_cluster_of_this_host_is_used() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some(host) = or_skipped(Namespace::new(&format!("{}-h", world.name()))) else { return };
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

#[test]
fn a_task_is_not_let_in_by_another_address_of_its_machine_either() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some([outside, _inside]) = or_skipped(cable(&world)) else { return };
    let (work_dir, agent_dir) = (world.path("master"), world.path("agent"));
    let [work_dir, agent_dir] = [&work_dir, &agent_dir].map(|path| path.to_str().unwrap());
    let flags = ["master", "--ip", "10.77.0.1", "--insecure", "--work-dir", work_dir];
    let master = start(&world, &outside, &flags);
    master.says("master at 10.77.0.1:5050");
    let (root, at) = (format!("--cgroups-root={}", world.name()), ["--master", "10.77.0.1:5050"]);
    let flags = ["agent", "--work-dir", agent_dir, &root];
    let agent = start(&world, &outside, &[&flags[..], &at].concat());
    agent.says("registered with the master at 10.77.0.1:5050");
    let mark = world.marked();
    let line = "bash -c 'exec 3<>/dev/tcp/10.77.0.1/5050; printf \"GET /state HTTP/1.0\\r\\n\\r\\n\" >&3; \
                head -n 1 <&3'";
    let run = ["run", &mark, "--user", "nobody", "--command", line];
    let said = start(&world, &outside, &[&run[..], &at].concat()).end();
    assert!(said.out.contains(" 403 "), "{}{}", said.out, said.err);
    agent.signal(Signal::USR1);
    assert_eq!(agent.end().status, 0);
    master.signal(Signal::TERM);
    assert_eq!(master.end().status, 0);
}
