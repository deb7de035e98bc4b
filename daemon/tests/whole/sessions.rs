//! Sessions: processes in the containers of tasks, for as long as somebody is connected.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Records, Sending, post};
use crate::inner::Host;
use crate::scheduler_api::{Framework, cluster, end, task};
use crate::world::{PATIENCE, World, eventually, lives, pids};

const RECORDIO: [(&str, &str); 3] = [
    ("Content-Type", "application/json"),
    ("Accept", "application/recordio"),
    ("Message-Accept", "application/json"),
];
const INPUT: [(&str, &str); 2] =
    [("Content-Type", "application/recordio"), ("Message-Content-Type", "application/json")];

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decoded(text: &Value) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap_or_default()).unwrap()
}

fn session(host: &Host<'_>, id: &Value, command: &str, container: Value) -> Records {
    let mut part = json!({"container_id": id, "command": {"value": command}});
    if !container.is_null() {
        part["container"] = container;
    }
    let call = json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION",
        "launch_nested_container_session": part});
    let records =
        Records::open(host.master.port, &host.path(), &RECORDIO, call.to_string().as_bytes())
            .passed_on();
    let header = |name: &str| {
        let found = records.headers.iter().find(|(of, _)| of.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    };
    assert_eq!(header("content-type").as_deref(), Some("application/recordio"));
    assert_eq!(header("message-content-type").as_deref(), Some("application/json"));
    records
}

/// What a stream says until it ends, by STDOUT and STDERR.
fn said(mut records: Records) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    while let Some(event) = records.event() {
        if event["type"] == "DATA" {
            let of = event["data"]["type"].as_str().unwrap().to_owned();
            let text = String::from_utf8(decoded(&event["data"]["data"])).unwrap();
            said.entry(of).or_insert_with(String::new).push_str(&text);
        }
    }
    said
}

/// Reads until STDOUT has said this, in all that was read of it so far.
fn until(records: &mut Records, all: &mut String, wanted: &str) {
    let began = std::time::Instant::now();
    while !all.contains(wanted) {
        assert!(began.elapsed() < PATIENCE, "no `{wanted}` in `{all}`");
        let event = records.event().unwrap_or_else(|| panic!("no `{wanted}` in `{all}`"));
        if event["data"]["type"] == "STDOUT" {
            all.push_str(&String::from_utf8(decoded(&event["data"]["data"])).unwrap());
        }
    }
}

pub(crate) fn input(host: &Host<'_>, id: &Value) -> Sending {
    let mut sending = Sending::open(host.master.port, &host.path(), &INPUT);
    let first = json!({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input":
        {"type": "CONTAINER_ID", "container_id": id}});
    sending.record(first.to_string().as_bytes());
    sending
}

pub(crate) fn io(sending: &mut Sending, io: &Value) {
    let call = json!({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input":
        {"type": "PROCESS_IO", "process_io": io}});
    sending.record(call.to_string().as_bytes());
}

pub(crate) fn types(sending: &mut Sending, text: &str) {
    let data = json!({"type": "STDIN", "data": encoded(text.as_bytes())});
    io(sending, &json!({"type": "DATA", "data": data}));
}

fn status(host: &Host<'_>, id: &Value) -> Value {
    let answer = host.call("WAIT_NESTED_CONTAINER", &json!({ "container_id": id }));
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    told["wait_nested_container"]["exit_status"].clone()
}

/// What is too long for the keeper leaves nothing behind that the next one would get.
#[test]
fn a_session_that_asks_for_too_much_is_refused_and_the_next_one_is_its_own() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    // Each is short enough for a task, and for a container inside of it: a session has both.
    let variables = |names: [&str; 2]| {
        let all = names.map(|name| json!({"name": name, "value": "x".repeat(70_000)}));
        json!({ "variables": all })
    };
    let mut large = task(&offer, "large", "sleep 1000");
    large["command"]["environment"] = variables(["ONE", "TWO"]);
    framework.launch(&offer, &[large]);
    let status = loop {
        let status = framework.status();
        assert!(status["state"] != "TASK_FAILED", "{status}");
        if status["state"] == "TASK_RUNNING" {
            break status;
        }
    };
    let parent = &status["container_status"]["container_id"];
    let call = |id: &str, command: Value| {
        json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session":
            {"container_id": {"value": id, "parent": parent}, "command": command}})
    };
    for (long, next) in [("long1", "next1"), ("long2", "next2"), ("long3", "next3")] {
        let command = json!({"value": "cat", "environment": variables(["THREE", "FOUR"])});
        let refused = post(agent.port, "/api/v1", &RECORDIO, &call(long, command));
        assert!(refused.status >= 400, "{}", refused.status);
        assert!(refused.text().contains("a message to or from the keeper"), "{}", refused.text());
        let next = call(next, json!({"value": "echo fine; echo $ONE | wc -c"}));
        let next = Records::open(agent.port, "/api/v1", &RECORDIO, next.to_string().as_bytes());
        assert_eq!(said(next)["STDOUT"], "fine\n70001\n");
    }
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn a_session_reads_and_writes_beside_its_task_and_is_waited_for() {
    let world = World::new();
    let host = Host::new(&world);
    let id = host.inside("s1");
    let mut records = session(&host, &id, "cat; cat file; echo oops >&2; exit 7", Value::Null);
    let mut sending = input(&host, &id);
    types(&mut sending, "one ");
    until(&mut records, &mut String::new(), "one ");
    types(&mut sending, "two\n");
    io(
        &mut sending,
        &json!({"type": "CONTROL", "control": {"type": "HEARTBEAT",
        "heartbeat": {"interval": {"nanoseconds": 30_000_000_000u64}}}}),
    );
    // Only one writes.
    let second = input(&host, &id).end();
    assert_eq!(second.status, 409, "{}", second.text());
    types(&mut sending, "");
    assert_eq!(sending.end().status, 200);
    let said = said(records);
    assert_eq!(said["STDOUT"], "two\nhere\n");
    assert_eq!(said["STDERR"], "oops\n");
    assert_eq!(status(&host, &id), 7 << 8);
    // Its working directory is the task's.
    let other = host.inside("s2");
    let records = session(&host, &other, "pwd", Value::Null);
    let pwd = self::said(records)["STDOUT"].clone();
    assert_eq!(pwd.trim(), host.sandbox().display().to_string());
    // And its environment, but for what is said otherwise.
    let third = host.inside("s3");
    let records = session(&host, &third, "echo $OF_HOST $MESOS_SANDBOX", Value::Null);
    let sandbox = host.sandbox();
    let told = self::said(records)["STDOUT"].clone();
    assert_eq!(told, format!("task {}\n", sandbox.display()));
    host.end(&world);
}

#[test]
fn a_session_ends_with_its_connection_with_its_task_and_with_its_agent() {
    let world = World::new();
    let mut host = Host::new(&world);
    let process = |number: u32| {
        let wanted = format!("sleep\0{number}\0");
        pids().find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line == wanted.as_bytes())
        })
    };
    let unique = 100_000 + std::process::id() % 100_000;
    let begin = |host: &Host<'_>, name: &str, number: u32| {
        let script = format!("setsid sleep {number} & echo ready; wait");
        let mut records = session(host, &host.inside(name), &script, Value::Null);
        until(&mut records, &mut String::new(), "ready");
        let found = || process(number);
        eventually(|| found().is_some(), || format!("sleep {number}"));
        (records, found().unwrap())
    };
    let (records, pid) = begin(&host, "connection", unique);
    drop(records);
    eventually(|| !lives(pid), || format!("the end of {pid}"));
    eventually(|| status(&host, &host.inside("connection")) == 9, || "its status".to_owned());
    let (records, pid) = begin(&host, "agent", unique + 1);
    host.agent.kill();
    said(records);
    host.agent.start();
    eventually(|| !lives(pid), || format!("the end of {pid}"));
    let again = || host.call("WAIT_CONTAINER", &json!({"container_id": host.inside("agent")}));
    eventually(|| again().status == 404, || "the agent".to_owned());
    let (records, pid) = begin(&host, "task", unique + 2);
    host.framework.accepted("KILL", &json!({"task_id": {"value": "host"}}));
    said(records);
    eventually(|| !lives(pid), || format!("the end of {pid}"));
    host.end(&world);
}

#[test]
fn a_session_with_a_terminal_has_its_size_and_speaks_with_one_voice() {
    let world = World::new();
    let host = Host::new(&world);
    let id = host.inside("tty");
    let container = json!({"type": "MESOS",
        "tty_info": {"window_size": {"rows": 33, "columns": 77}}});
    let script = "test -t 0 && test -t 2 && stty size; echo oops >&2; read line; stty size; exit 5";
    let mut records = session(&host, &id, script, container);
    let mut all = String::new();
    until(&mut records, &mut all, "33 77");
    until(&mut records, &mut all, "oops");
    let mut sending = input(&host, &id);
    let size = json!({"window_size": {"rows": 44, "columns": 88}});
    io(
        &mut sending,
        &json!({"type": "CONTROL",
        "control": {"type": "TTY_INFO", "tty_info": size}}),
    );
    types(&mut sending, "go\n");
    until(&mut records, &mut all, "44 88");
    assert_eq!(said(records).get("STDERR"), None);
    assert_eq!(status(&host, &id), 5 << 8);
    sending.end();
    host.end(&world);
}

#[test]
fn what_a_task_writes_is_attached_to_and_a_slow_reader_stops_only_itself() {
    let world = World::new();
    let host = Host::new(&world);
    let call = |id: &Value| {
        json!({"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": id}})
            .to_string()
    };
    let attach = |id: &Value| {
        let port = host.master.port;
        Records::open(port, &host.path(), &RECORDIO, call(id).as_bytes()).passed_on()
    };
    // A task's own output, as it comes.
    let mut task = attach(&host.container);
    let out = host.sandbox().join("stdout");
    std::io::Write::write_all(
        &mut std::fs::File::options().append(true).open(out).unwrap(),
        b"more\n",
    )
    .unwrap();
    until(&mut task, &mut String::new(), "more\n");
    // One that does not read is cut, or waited for by nobody but its own session.
    let id = host.inside("talks");
    let mut records =
        session(&host, &id, "read x; head -c 20000000 /dev/zero; echo done; exit 3", Value::Null);
    let _idle = attach(&id);
    let mut listener = attach(&id);
    let idle_session =
        session(&host, &host.inside("idle"), "head -c 20000000 /dev/zero", Value::Null);
    let mut sending = input(&host, &id);
    types(&mut sending, "go\n");
    let both = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut bytes = 0;
            while let Some(event) = listener.event() {
                bytes += decoded(&event["data"]["data"]).len();
            }
            bytes
        });
        let mut bytes = 0;
        while let Some(event) = records.event() {
            bytes += decoded(&event["data"]["data"]).len();
        }
        (bytes, other.join().unwrap())
    });
    assert_eq!(both.0, 20_000_005);
    // Who listens beside it may be cut, too, but not for nothing.
    assert!(both.1 == 20_000_005 || both.1 > 500_000, "{both:?}");
    assert_eq!(status(&host, &id), 3 << 8);
    // Nothing of the agent waits for whoever does not read.
    assert_eq!(host.launch(&host.inside("after"), "true").status, 200);
    drop(idle_session);
    host.end(&world);
}

#[test]
fn who_may_not_is_told_so_and_what_makes_no_sense_is_refused() {
    let world = World::new();
    let host = Host::new(&world);
    let id = host.inside("a");
    let input_call = json!({"type": "ATTACH_CONTAINER_INPUT"});
    let answer = post(host.master.port, &host.path(), &[], &input_call);
    assert_eq!(answer.status, 415, "{}", answer.text());
    let missing = input(&host, &id).end();
    assert_eq!(missing.status, 404, "{}", missing.text());
    let mut bad = Sending::open(host.master.port, &host.path(), &INPUT[..1]);
    bad.record(b"{}");
    assert_eq!(bad.end().status, 400);
    for (record, code) in [(&b"{"[..], 400), (br#"{"type":"GET_STATE"}"#, 415), (b"{}", 415)] {
        let mut bad = Sending::open(host.agent.port, "/api/v1", &INPUT);
        bad.record(record);
        let answer = bad.end();
        assert_eq!(answer.status, code, "{}", answer.text());
    }
    let orphan = json!({"container_id": {"value": "x"}, "command": {"value": "true"}});
    let answer = host.call("LAUNCH_NESTED_CONTAINER_SESSION", &orphan);
    assert!(answer.status == 400 && answer.text().contains("parent"), "{}", answer.text());
    let output = json!({ "container_id": id });
    assert_eq!(host.call("ATTACH_CONTAINER_OUTPUT", &output).status, 404);
    host.end(&world);
}

#[test]
fn a_writer_that_left_while_nothing_was_read_gives_way_to_the_next() {
    let world = World::new();
    let host = Host::new(&world);
    let id = host.inside("full");
    let wait = "until test -e go; do sleep 0.1; done; wc -c";
    let records = session(&host, &id, wait, Value::Null);
    let mut first = input(&host, &id);
    (0..20).for_each(|_| types(&mut first, &"x".repeat(16 * 1024)));
    drop(first);
    // Whoever comes before it is seen that the first one left is one too many.
    let mut second = input(&host, &id);
    let taken = || {
        let is = !second.is_answered_within(Duration::from_secs(1));
        if !is {
            second = input(&host, &id);
        }
        is
    };
    eventually(taken, || "the second writer".to_owned());
    assert_eq!(input(&host, &id).end().status, 409);
    std::fs::write(host.sandbox().join("go"), "").unwrap();
    types(&mut second, "more");
    types(&mut second, "");
    assert_eq!(second.end().status, 200);
    let count: u64 = said(records)["STDOUT"].trim().parse().unwrap();
    // What the pipe held, and not all that was sent.
    assert!((4..20 * 16 * 1024).contains(&count), "{count}");
    host.end(&world);
}
