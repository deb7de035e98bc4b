//! Credentials: who must show one, what it shows, and that its secret is nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::http::{Answer, Records, ask, post};
use crate::scheduler_api::{Framework, task};
use crate::world::{Master, World, eventually, is_root};

const SCHEDULER: &str = "/api/v1/scheduler";
/// In every secret of these tests, so that they are found wherever they are.
const PLANTED: &str = "planted-3f9c";
/// `web:planted-3f9c-web` and the like.
const WEB: &str = "Basic d2ViOnBsYW50ZWQtM2Y5Yy13ZWI=";
const OPS: &str = "Basic b3BzOnBsYW50ZWQtM2Y5Yy1vcHM=";
const WRONG: &str = "Basic d2ViOnBsYW50ZWQtM2Y5Yy1vcHM=";
/// Whoever these are may run tasks as anybody: the tests run as root.
pub(crate) const ROOT: &str = r#"--acls={"run_tasks": [
    {"principals": {"values": ["web", "ops"]}, "users": {"type": "ANY"}}]}"#;

pub(crate) const EVERYBODY: [&str; 4] = [
    "--authenticate-http-readonly",
    "--authenticate_http_readwrite=true",
    "--authenticate-http-frameworks",
    "--authenticate-agents",
];

/// A file that only its owner reads.
pub(crate) fn secret_file(world: &World, name: &str, value: &Value) -> PathBuf {
    let path = world.path(name);
    fs::write(&path, value.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The credential of a principal, and its file.
pub(crate) fn credential(world: &World, principal: &str) -> (Value, String) {
    let value = json!({"principal": principal, "secret": format!("{PLANTED}-{principal}")});
    let path = secret_file(world, &format!("{principal}.credential"), &value);
    (value, path.display().to_string())
}

/// The flag of everybody's credentials, as Mesos has them: what each may do is not said.
pub(crate) fn plain_credentials(world: &World) -> String {
    file_of(world, &[("web", json!({})), ("ops", json!({})), ("pis", json!({}))])
}

/// The same with what each may do: run tasks, operate the cluster, be an agent.
pub(crate) fn credentials(world: &World) -> String {
    let web = json!({"roles": ["*", "web", "web/%"]});
    let ops = json!({"roles": ["/%"], "operate": true});
    file_of(world, &[("web", web), ("ops", ops), ("pis", json!({"agent": true}))])
}

/// The flag of a file with the credentials of these, and what is said beside their secrets.
fn file_of(world: &World, all: &[(&str, Value)]) -> String {
    let rows = all.iter().map(|(who, may)| {
        let mut row = credential(world, who).0;
        row.as_object_mut().unwrap().extend(may.as_object().unwrap().clone());
        row
    });
    let all = json!({ "credentials": rows.collect::<Vec<Value>>() });
    format!("--credentials={}", secret_file(world, "credentials", &all).display())
}

fn subscription(principal: &Value) -> Value {
    let info = json!({"user": "nobody", "name": "it", "roles": ["*"], "principal": principal,
                      "failover_timeout": 60.0, "capabilities": [{"type": "MULTI_ROLE"}]});
    json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}})
}

fn shown(port: u16, path: &str, authorization: &str) -> Answer {
    ask(port, "GET", path, &[("Authorization", authorization)], b"")
}

/// Refused as Mesos refuses whoever shows no credential.
fn is_unauthorized(answer: &Answer, realm: &str) {
    assert_eq!(answer.status, 401, "{}", answer.text());
    let challenge = format!("Basic realm=\"{realm}\"");
    assert_eq!(answer.header("www-authenticate"), Some(&*challenge));
}

/// A master that asks everybody, and its agent.
fn closed<'w>(world: &'w World, more: &[&str]) -> Master<'w> {
    let credentials = credentials(world);
    world.master(&[&[&*credentials], &EVERYBODY[..], more].concat())
}

#[test]
fn over_http_nothing_is_told_or_done_without_a_credential() {
    let world = World::new();
    let master = closed(&world, &[]);
    let port = master.port;
    let call = json!({"type": "GET_FLAGS"});
    for (method, path, realm) in [
        ("GET", "/state", "mesos-master-readonly"),
        ("GET", "/master/state.json", "mesos-master-readonly"),
        ("GET", "/metrics", "mesos-master-readonly"),
        ("GET", "/metrics/snapshot", "mesos-master-readonly"),
        ("GET", "/flags", "mesos-master-readonly"),
        ("GET", "/nothing/there", "mesos-master-readonly"),
        ("GET", "/agent/x/state", "mesos-master-readonly"),
        ("POST", "/agent/x/api/v1", "mesos-master-readwrite"),
        ("POST", "/api/v1", "mesos-master-readwrite"),
        ("POST", "/teardown", "mesos-master-readwrite"),
        ("GET", "/maintenance/status", "mesos-master-readonly"),
        ("PUT", "/weights", "mesos-master-readwrite"),
        ("POST", SCHEDULER, "mesos-master-scheduler"),
        ("POST", "/master/api/v1/scheduler", "mesos-master-scheduler"),
        // As the routes take them.
        ("POST", "/api/v1/scheduler/", "mesos-master-scheduler"),
        ("POST", "/master/api/v1/scheduler/x", "mesos-master-scheduler"),
        ("POST", "/api/v1/scheduler.json", "mesos-master-readwrite"),
        ("POST", "/api/v1/executor", "mesos-master-readwrite"),
        ("POST", "/api/v1/executor/x", "mesos-master-readwrite"),
        ("POST", "/agent/x/api/v1/scheduler", "mesos-master-readwrite"),
    ] {
        is_unauthorized(&ask(port, method, path, &[], b""), realm);
        for wrong in [WRONG, "Basic", "Basic !", "Bearer planted", "Negotiate abc"] {
            let headers = [("Authorization", wrong)];
            is_unauthorized(&ask(port, method, path, &headers, b""), realm);
        }
    }
    for path in ["/health", "/version", "/redirect"] {
        assert!(matches!(ask(port, "GET", path, &[], b"").status, 200 | 307), "{path}");
    }
    assert_eq!(shown(port, "/state", WEB).status, 200);
    assert_eq!(shown(port, "/state", "Bearer planted-3f9c-web").status, 200);
    assert_eq!(post(port, "/api/v1", &[("Authorization", OPS)], &call).status, 200);
    let metrics = shown(port, "/metrics", OPS).text();
    let refused = metrics.lines().find(|line| line.contains("unauthenticated_total "));
    assert!(refused.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_framework_is_who_it_has_shown_itself_to_be() {
    let world = World::new();
    let master = closed(&world, &[]);
    let json = [("Content-Type", "application/json"), ("Accept", "application/json")];
    let as_web = [&json[..], &[("Authorization", WEB)]].concat();
    let other =
        post(master.port, SCHEDULER, &[("Authorization", WEB)], &subscription(&json!("ops")));
    let sentence = "Failed to validate scheduler::Call: Authenticated principal 'web' does not \
                    match principal 'ops' set in `FrameworkInfo`";
    assert_eq!((other.status, other.text().as_str()), (400, sentence));
    // It need not say it.
    let call = subscription(&Value::Null).to_string();
    let mut events = Records::open(master.port, SCHEDULER, &as_web, call.as_bytes());
    let id = events.until("SUBSCRIBED")["framework_id"].clone();
    let frameworks = shown(master.port, "/frameworks", OPS);
    let told: Value = serde_json::from_slice(&frameworks.body).unwrap();
    assert_eq!(told["frameworks"][0]["principal"], "web", "{told}");
    // Another principal may neither call for it nor take it over.
    let stream = events.headers.iter().find(|(name, _)| name == "Mesos-Stream-Id").unwrap();
    let headers = [("Authorization", OPS), ("Mesos-Stream-Id", &*stream.1)];
    let revive = json!({"type": "REVIVE", "framework_id": id});
    let answer = post(master.port, SCHEDULER, &headers, &revive);
    let sentence = "Authenticated principal 'ops' does not match principal 'web' set in \
                    `FrameworkInfo`";
    assert_eq!((answer.status, answer.text().as_str()), (400, sentence));
    let headers = [("Authorization", WEB), headers[1]];
    assert_eq!(post(master.port, SCHEDULER, &headers, &revive).status, 202);
    let mut taken = subscription(&Value::Null);
    taken["framework_id"] = id.clone();
    taken["subscribe"]["framework_info"]["id"] = id;
    let as_ops = [&json[..], &[("Authorization", OPS)]].concat();
    let mut stolen = Records::open(master.port, SCHEDULER, &as_ops, taken.to_string().as_bytes());
    let refused = stolen.until("ERROR")["message"].clone();
    assert_eq!(refused, "the principal of a framework cannot change");
    // As root its tasks run only by a rule that says so.
    let mut root = subscription(&Value::Null);
    root["subscribe"]["framework_info"]["user"] = json!("root");
    let mut refused = Records::open(master.port, SCHEDULER, &as_web, root.to_string().as_bytes());
    let why = refused.until("ERROR")["message"].clone();
    assert!(why.as_str().unwrap().contains("`run_tasks` of --acls"), "{why}");
    drop(events);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn agents_and_commands_prove_that_they_have_a_secret_that_never_is_seen() {
    let world = World::new();
    let journal = world.path("journal");
    let flags = [ROOT, "--logging-level=trace", &format!("--journal={}", journal.display())];
    let master = closed(&world, &flags);
    let (_, pis) = credential(&world, "pis");
    let (_, ops) = credential(&world, "ops");
    // One that shows nothing is told what to do, and tries again.
    let mut open = crate::world::Agent::new(&world, &master.address(), &[]);
    open.start();
    open.process().says("asks for a credential that it knows: give --credential FILE");
    open.kill();
    let agent = master.agent(&[&format!("--credential={pis}"), "--logging-level=trace"]);
    let at = ["--master", &master.address()];
    let said = world.told(&[&["ps"], &at[..]].concat());
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("give --credential FILE, or MESITA_CREDENTIAL"), "{}", said.err);
    let said = world.told(&[&["ps", "--agents", "--credential", &ops], &at[..]].concat());
    assert!(said.status == 0 && said.out.contains("active"), "{} {}", said.out, said.err);
    // The environment names the file as well, and a task gets neither.
    let mut command = world.mesita(&["run", "--name", "it", "--command", "env; sleep 1000"]);
    command.args(at).arg(world.marked()).env("MESITA_CREDENTIAL", &ops);
    let run = world.start(command);
    run.prints("MESOS_SANDBOX=");
    run.prints("MESOS_ALLOCATION_ROLE=*");
    assert!(!run.out().contains("MESITA_CREDENTIAL"), "{}", run.out());
    let mut command = world.mesita(&["events", "it", "--json", at[0], at[1]]);
    command.env("MESITA_CREDENTIAL", &ops);
    let events = world.start(command);
    events.prints("SUBSCRIBED");
    let quota = ["quota", "set", "web", "--limit", "cpus:2", "--credential", &ops];
    assert_eq!(world.told(&[&quota[..], &at].concat()).status, 0);
    // A wrong secret is no better than none.
    let wrong = json!({"principal": "ops", "secret": format!("{PLANTED}-wrong")});
    let wrong = secret_file(&world, "wrong.credential", &wrong).display().to_string();
    let said = world.told(&[&["ps", "--credential", &wrong], &at[..]].concat());
    assert_eq!(said.status, 1, "{}", said.err);
    for path in ["/state", "/flags", "/metrics", "/frameworks", "/tasks", "/slaves"] {
        assert!(!shown(master.port, path, OPS).text().contains(PLANTED), "{path}");
    }
    for path in ["/state", "/flags", "/metrics"] {
        assert!(!ask(agent.port, "GET", path, &[], b"").text().contains(PLANTED), "{path}");
    }
    for (pid, called) in world.processes() {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        assert!(!called.contains(PLANTED), "{called}");
        assert!(!String::from_utf8_lossy(&environment).contains(PLANTED), "{called}");
    }
    drop(events);
    drop(run);
    eventually(
        || planted(&world.path("")).len() == 5,
        || format!("{:?}", planted(&world.path(""))),
    );
    agent.leave();
    master.stop();
    // What is left of them are the files that the test has made.
    let found = planted(&world.path(""));
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found.iter().all(|path| path.to_string_lossy().contains("credential")), "{found:?}");
    world.nothing_is_left();
}

/// Files below a directory that hold a secret.
fn planted(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(planted(&path));
        } else if fs::read(&path).is_ok_and(|of| String::from_utf8_lossy(&of).contains(PLANTED)) {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_scheduler_inside_a_task_is_let_in_by_a_credential() {
    let world = World::new();
    let master = world.master(&[&credentials(&world), ROOT]);
    let agent = master.agent(&[]);
    let (_, web) = credential(&world, "web");
    let binary = world.binary().display().to_string();
    let line = format!("{binary} ps --frameworks --master {}", master.address());
    let said = master.run(&["--command", &line]).end();
    assert!(said.err.contains("without a token"), "{}", said.err);
    let line = format!("MESITA_CREDENTIAL={web} {line}");
    let said = master.run(&["--name", "inner", "--command", &line]).end();
    assert!(said.status == 0 && said.out.contains("inner"), "{} {}", said.out, said.err);
    agent.leave();
    // An operator may give it one, and the way to the master.
    let agent = master.agent(&[&format!("--task-credential={web}"), "--logging-level=trace"]);
    let line = format!("echo $DEFAULT_PRINCIPAL; exec {binary} ps --frameworks");
    let said = master.run(&["--name", "inner", "--command", &line]).end();
    let told = said.out.starts_with("web\n") && said.out.contains("inner");
    assert!(said.status == 0 && told, "{} {}", said.out, said.err);
    let found = planted(&world.path(""));
    assert!(found.iter().all(|path| path.to_string_lossy().contains("credential")), "{found:?}");
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn an_agent_asks_at_its_own_port_and_by_way_of_the_master_nobody_twice() {
    let world = World::new();
    let credentials = credentials(&world);
    let master = closed(&world, &[ROOT]);
    let (_, pis) = credential(&world, "pis");
    let http = credentials.replace("--credentials=", "--http-credentials=");
    let flags = ["--authenticate-http-readonly", "--authenticate-http-readwrite"];
    let agent = master.agent(&[&flags[..], &[&http, &format!("--credential={pis}")]].concat());
    is_unauthorized(&ask(agent.port, "GET", "/state", &[], b""), "mesos-agent-readonly");
    is_unauthorized(&ask(agent.port, "POST", "/api/v1", &[], b""), "mesos-agent-readwrite");
    let state: Value = serde_json::from_slice(&shown(agent.port, "/state", WEB).body).unwrap();
    let path = format!("/agent/{}/state", state["id"].as_str().unwrap());
    is_unauthorized(&ask(master.port, "GET", &path, &[], b""), "mesos-master-readonly");
    let again: Value = serde_json::from_slice(&shown(master.port, &path, OPS).body).unwrap();
    assert_eq!(again["id"], state["id"]);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_master_without_the_credentials_it_asks_for_does_not_start() {
    let world = World::new();
    let open = world.path("open");
    fs::write(&open, r#"{"credentials": []}"#).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let open = format!("--credentials={}", open.display());
    for (flags, why) in [
        (&["--authenticate-http-readonly"][..], "give --credentials FILE"),
        (&[&*open], "others can read or write it"),
        (&["--credentials=/nowhere/x"], "/nowhere/x: No such file"),
        (&[r#"--acls={"run_task": []}"#], "`run_task` is not known; known are permissive, "),
    ] {
        let work_dir = world.path("refused").display().to_string();
        let port = world.port().to_string();
        let begin = ["master", "--port", &port, "--work-dir", &work_dir];
        let said = world.told(&[&begin, flags].concat());
        assert!(said.status == 2 && said.err.contains(why), "{flags:?}: {}", said.err);
    }
    let root = format!("--cgroups-root={}", world.name());
    let begin =
        ["agent", "--master", "127.0.0.1:1", "--credential=/nowhere/x", &root, "--work-dir"];
    let work_dir = world.path("agent").display().to_string();
    let said = world.told(&[&begin[..], &[&work_dir]].concat());
    assert!(said.status == 2 && said.err.contains("--credential: /nowhere/x"), "{}", said.err);
    world.nothing_is_left();
}

#[test]
fn an_executor_shows_its_token_where_that_is_asked_for() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--authenticate-http-executors"]);
    let script = world.path("executor.sh");
    let lines = r#"
        body='{"type":"SUBSCRIBE","framework_id":{"value":"'$MESOS_FRAMEWORK_ID'"},'
        body="$body"'"executor_id":{"value":"'$MESOS_EXECUTOR_ID'"},"subscribe":{}}'
        say() {
          exec 3<>/dev/tcp/127.0.0.1/${MESOS_AGENT_ENDPOINT##*:}
          printf 'POST /api/v1/executor HTTP/1.0\r\nContent-Type: application/json\r\n' >&3
          printf 'Accept: application/json\r\nContent-Length: %s\r\n' ${#body} >&3
          printf "$1"'\r\n%s' "$body" >&3
          head -1 <&3
        }
        say ''
        say 'Authorization: Bearer 00\r\n'
        say "Authorization: Bearer $MESOS_EXECUTOR_AUTHENTICATION_TOKEN\r\n"
        exec sleep 1000"#;
    fs::write(&script, lines).unwrap();
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.events.until("OFFERS")["offers"][0].clone();
    let mut launched = task(&offer, "it", "");
    launched.as_object_mut().unwrap().remove("command");
    launched["executor"] = json!({"type": "CUSTOM", "executor_id": {"value": "x"},
        "resources": launched["resources"],
        "command": {"value": format!("bash {}", script.display())}});
    framework.launch(&offer, &[launched]);
    let made = agent.work_dir().join("sandboxes");
    eventually(|| made.exists(), || "a sandbox".to_owned());
    let said = || {
        let sandboxes = world.sandboxes(&agent.work_dir().display().to_string());
        let read = sandboxes.iter().map(|path| fs::read_to_string(path.join("stdout")));
        read.flatten().collect::<String>()
    };
    let expected = ["401 Unauthorized", "401 Unauthorized", "200 OK"];
    eventually(|| said().lines().count() == expected.len(), said);
    let lines = said();
    for (line, status) in lines.lines().zip(expected) {
        assert!(line.ends_with(status), "{lines}");
    }
    framework.accepted("TEARDOWN", &Value::Null);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn what_a_task_is_told_in_secret_stands_in_no_file_of_the_cluster() {
    let world = World::new();
    let journal = world.path("journal").display().to_string();
    let master = world.master(&["--journal", &journal]);
    let mut agent = master.agent(&["--logging-level=trace"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    // "planted-3f9c-file"
    let secret = |base64: &str| json!({"type": "VALUE", "value": {"data": base64}});
    let gate = world.path("gate");
    // A command is no secret, so it does not say what it is told.
    let line = format!(
        "case $KEY in plant*-env) ;; *) exit 9;; esac; [ ! -e .key ] || grep -q 3f9c-file .key || \
         exit 8; touch seen; until [ -e {} ]; do sleep 0.05; done",
        gate.display()
    );
    let mut told = task(&offer, "told", &line);
    told["command"]["environment"] = json!({"variables": [
        {"name": "KEY", "type": "SECRET", "secret": secret("cGxhbnRlZC0zZjljLWVudg==")}]});
    // "planted-3f9c-look"
    let look = |name: &str| {
        let line = format!("case $LOOK in plant*-look) touch {name};; esac");
        json!({"value": line, "environment": {"variables": [
            {"name": "LOOK", "type": "SECRET", "secret": secret("cGxhbnRlZC0zZjljLWxvb2s=")}]}})
    };
    told["check"] = json!({"type": "COMMAND", "delay_seconds": 0, "interval_seconds": 0.1,
        "command": {"command": look("checked")}});
    told["health_check"] = json!({"type": "COMMAND", "delay_seconds": 0, "interval_seconds": 0.1,
        "command": look("healthy")});
    if is_root() {
        told["container"] = json!({"type": "MESOS", "volumes": [
            {"mode": "RO", "container_path": ".key",
             "source": {"type": "SECRET", "secret": secret("cGxhbnRlZC0zZjljLWZpbGU=")}}]});
    }
    framework.launch(&offer, &[told]);
    while framework.status()["state"] != "TASK_RUNNING" {}
    let work_dir = agent.work_dir().display().to_string();
    let sandbox = world.sandboxes(&work_dir).remove(0);
    let seen = |name: &str| {
        eventually(|| sandbox.join(name).exists(), || format!("what it was told: {name}"));
    };
    ["seen", "checked", "healthy"].into_iter().for_each(seen);
    assert_eq!(planted(&world.path("")), [] as [PathBuf; 0]);
    // Nor does the next agent say it.
    agent.kill();
    let looks = ["checked", "healthy"];
    looks.iter().for_each(|name| fs::remove_file(sandbox.join(name)).unwrap());
    agent.start();
    looks.into_iter().for_each(seen);
    let read = ["/state", "/tasks"].map(|path| crate::world::get(master.port, path));
    assert!(!read.iter().any(|told| told.contains("cGxhbnRlZC0z")));
    fs::write(gate, "").unwrap();
    assert_eq!(framework.end_of("told")["state"], "TASK_FINISHED");
    assert_eq!(planted(&world.path("")), [] as [PathBuf; 0]);
    agent.leave();
    master.stop();
    assert_eq!(planted(&world.path("")), [] as [PathBuf; 0]);
    world.nothing_is_left();
}
