//! What tasks fetch into their sandboxes before they start.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::certificates::Speaks;
use crate::scheduler_api::{Framework, cluster, end, task};
use crate::world::{World, is_root};

/// Files by their paths. One whose path is followed by a status has that status; `leads` and paths
/// with such an end lead to where the content says.
pub(crate) type Files = Vec<(&'static str, Vec<u8>)>;

/// A server of these files; how often it was asked is counted.
pub(crate) fn server(speaks: &Speaks, files: Files) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, speaks) = (Arc::clone(&asked), speaks.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = speaks.over(stream.unwrap());
            let mut head = [0; 4096];
            let len = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..len]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            count.fetch_add(usize::from(!path.is_empty()), Ordering::Relaxed);
            // Begins, and says nothing more.
            if path == "/hangs" {
                let _ = stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 10\r\n\r\nhalf");
                std::mem::forget(stream);
                continue;
            }
            let _ = stream.write_all(&answer(path, &files)).and_then(|()| stream.flush());
        }
    });
    (port, asked)
}

fn answer(path: &str, files: &Files) -> Vec<u8> {
    let leads = |to: &str| format!("HTTP/1.1 307 x\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let with = |status: &str, bytes: &[u8]| {
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", bytes.len());
        [head.as_bytes(), bytes].concat()
    };
    let is = |name: &str, end: &str| name.strip_suffix(end).is_some_and(|name| name == path);
    let found = |end: &str| files.iter().find(|(name, _)| is(name, end)).map(|(_, bytes)| bytes);
    if path == "/moved" {
        leads("/data").into_bytes()
    } else if path == "/leads" || found(" leads").is_some() {
        let to = found("").or(found(" leads")).unwrap();
        leads(std::str::from_utf8(to).unwrap()).into_bytes()
    } else if let Some(bytes) = found(" 404") {
        with("404", bytes)
    } else if let Some(bytes) = found("") {
        with("200", bytes)
    } else {
        with("404", b"")
    }
}

/// What the machine's own programs pack: `hello` in a directory, by this command in it.
fn packed(world: &World, name: &str, command: &str) -> Option<Vec<u8>> {
    let directory = world.path(&format!("pack-{name}"));
    std::fs::create_dir_all(directory.join("d")).unwrap();
    std::fs::write(directory.join("d/hello"), "hello").unwrap();
    let done = Command::new("sh").args(["-c", command]).current_dir(&directory).output().unwrap();
    if !done.status.success() {
        println!("SKIPPED: {name}: {}", String::from_utf8_lossy(&done.stderr));
        return None;
    }
    Some(std::fs::read(directory.join(name)).unwrap())
}

pub(crate) fn fetching(offer: &Value, name: &str, command: &str, uris: &Value) -> Value {
    let mut task = task(offer, name, command);
    task["command"]["uris"] = uris.clone();
    task
}

#[test]
fn a_task_finds_what_it_asked_for_in_its_sandbox() {
    let world = World::new();
    let script = b"#!/bin/sh\necho ran > ran\n".to_vec();
    let mut files = vec![("/data", b"data".to_vec()), ("/run", script)];
    let mut archives = Vec::new();
    for (path, name, command) in [
        ("/a.tar.gz", "a.tar.gz", "tar czf a.tar.gz d"),
        ("/b.tar.bz2", "b.tar.bz2", "tar cjf b.tar.bz2 d"),
        ("/c.tar.xz", "c.tar.xz", "tar cJf c.tar.xz d"),
    ] {
        if let Some(bytes) = packed(&world, name, command) {
            files.push((path, bytes));
            archives.push(path);
        }
    }
    let (port, _) = server(&Speaks::Plain, files);
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let at = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let local = world.path("local");
    std::fs::write(&local, "local").unwrap();
    let offer = framework.offer();
    let mut tasks = vec![
        fetching(
            &offer,
            "files",
            "test \"$(cat data)\" = data && test \"$(cat sub/moved)\" = data && ./run && cat ran \
             && test \"$(cat local)\" = local && test ! -x data",
            &json!([{"value": at("/data")}, {"value": at("/moved"), "output_file": "sub/moved"},
                    {"value": at("/run"), "executable": true}, {"value": local}]),
        ),
        fetching(
            &offer,
            "left-packed",
            "test -e a.tar.gz && test ! -e d",
            &json!([{"value": at("/a.tar.gz"), "extract": false}]),
        ),
    ];
    for archive in &archives {
        let name = format!("from{}", archive.replace('/', "-"));
        let uris = json!([{"value": at(archive)}]);
        tasks.push(fetching(&offer, &name, "test \"$(cat d/hello)\" = hello", &uris));
    }
    let names: Vec<String> =
        tasks.iter().map(|task| task["task_id"]["value"].as_str().unwrap().to_owned()).collect();
    framework.launch(&offer, &tasks);
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < names.len() {
        let status = framework.status();
        if status["state"] != "TASK_STARTING" && status["state"] != "TASK_RUNNING" {
            ends.insert(status["task_id"]["value"].to_string(), status);
        }
    }
    for (name, status) in ends {
        assert_eq!(status["state"], "TASK_FINISHED", "{name}: {status}");
    }
    end(&world, master, agent);
}

#[test]
fn what_cannot_be_fetched_fails_the_task_with_the_reason() {
    let world = World::new();
    let (port, _) = server(
        &Speaks::Plain,
        vec![
            ("/bad.tar.gz", b"no tar".to_vec()),
            ("/big", vec![0; 3 << 20]),
            ("/leads", b"ftp://127.0.0.1/x".to_vec()),
        ],
    );
    let master = world.master(&[]);
    let agent = master.agent(&[
        "--resources",
        "cpus:2;mem:1024",
        "--fetcher-max-size",
        "2MiB",
        "--fetcher-stall-timeout",
        "500ms",
    ]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let at = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (number, (uri, words)) in [
        (at("/missing"), "404"),
        (at("/bad.tar.gz"), "Failed to fetch"),
        (at("/big"), "--fetcher-max-size"),
        (at("/hangs"), "--fetcher-stall-timeout"),
        (at("/leads"), "only https:// and http:// are followed"),
        (format!("http://127.0.0.1:{closed}/x"), "refused"),
        ("/no/such/file".to_owned(), "No such file"),
        ("/dev/zero".to_owned(), "not a file"),
    ]
    .into_iter()
    .enumerate()
    {
        let offer = framework.offer();
        let name = format!("t{number}");
        let mut bad = fetching(&offer, &name, "true", &json!([{"value": uri}]));
        bad["name"] = json!("bad");
        framework.launch(&offer, &[bad]);
        let status = framework.end_of(&name);
        assert_eq!(status["state"], "TASK_FAILED", "{status}");
        assert_eq!(status["reason"], "REASON_CONTAINER_LAUNCH_FAILED", "{status}");
        assert!(status["message"].as_str().unwrap().contains(words), "{words}: {status}");
    }
    // What is never fetched by this release does not even reach the agent.
    let offer = framework.offer();
    let uris = json!([{"value": "ftp://127.0.0.1/x"}]);
    framework.launch(&offer, &[fetching(&offer, "other", "true", &uris)]);
    let status = framework.end_of("other");
    assert_eq!(status["state"], "TASK_ERROR");
    assert!(status["message"].as_str().unwrap().contains("of the scheme ftp"), "{status}");
    end(&world, master, agent);
}

#[test]
fn a_kill_does_not_wait_for_a_server() {
    let world = World::new();
    let (port, _) = server(&Speaks::Plain, vec![]);
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let uris = json!([{"value": format!("http://127.0.0.1:{port}/hangs")}]);
    framework.launch(&offer, &[fetching(&offer, "waits", "true", &uris)]);
    while framework.status()["state"] != "TASK_STARTING" {}
    framework.accepted("KILL", &json!({"task_id": {"value": "waits"}}));
    let status = framework.end_of("waits");
    assert_eq!(status["state"], "TASK_KILLED");
    assert_eq!(status["reason"], "REASON_TASK_KILLED_DURING_LAUNCH");
    end(&world, master, agent);
}

#[test]
fn what_is_cached_is_asked_for_once() {
    let world = World::new();
    let (port, asked) = server(&Speaks::Plain, vec![("/data", b"data".to_vec())]);
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let uris = json!([{"value": format!("http://127.0.0.1:{port}/data"), "cache": true}]);
    let offer = framework.offer();
    let command = "test \"$(cat data)\" = data && echo more >> data";
    let tasks: Vec<Value> =
        ["one", "two", "three"].iter().map(|name| fetching(&offer, name, command, &uris)).collect();
    framework.launch(&offer, &tasks);
    let mut ended = 0;
    while ended < 3 {
        let status = framework.status();
        assert_ne!(status["state"], "TASK_FAILED", "{status}");
        ended += usize::from(status["state"] == "TASK_FINISHED");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    end(&world, master, agent);
}

#[test]
fn nobody_gets_by_the_agent_what_they_do_not_get_themselves() {
    if !is_root() {
        println!("SKIPPED: an agent that is not root has no users to tell apart");
        return;
    }
    let world = World::new();
    let secret = world.path("secret");
    std::fs::write(&secret, "secret").unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&secret, closed).unwrap();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut stranger = fetching(&offer, "stranger", "true", &json!([{"value": secret}]));
    stranger["command"]["user"] = json!("nobody");
    // What the agent would only tell an operator.
    let path =
        format!("http://127.0.0.1:{}/files/browse?path={}", agent.port, agent.work_dir().display());
    let mut asks = fetching(&offer, "asks", "true", &json!([{"value": path}]));
    asks["command"]["user"] = json!("nobody");
    framework.launch(&offer, &[stranger, asks]);
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < 2 {
        let status = framework.status();
        if status["state"] != "TASK_STARTING" {
            ends.insert(status["task_id"]["value"].as_str().unwrap().to_owned(), status);
        }
    }
    let said = |name: &str| ends[name]["message"].as_str().unwrap();
    assert!(said("stranger").contains("Permission denied"), "{}", ends["stranger"]);
    assert_eq!(ends["asks"]["state"], "TASK_FAILED");
    end(&world, master, agent);
}
