//! What frameworks store: changed by comparing versions, kept by a majority of the masters, bounded.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::frameworks::example;
use crate::http::{Answer, ask};
use crate::masters::Set;
use crate::world::{NOBODY, Said, Signal, World, eventually, is_root};

impl Set<'_> {
    fn store(&self, words: &[&str]) -> Said {
        self.told("store", words)
    }

    fn value(&self, key: &str) -> String {
        let said = self.store(&["get", key]);
        assert_eq!(said.status, 0, "{}", said.err);
        said.out
    }
}

fn put(port: u16, key: &str, headers: &[(&str, &str)], value: &[u8]) -> Answer {
    ask(port, "PUT", &format!("/store?key={key}"), headers, value)
}

#[test]
fn what_is_stored_outlives_every_master_and_changes_by_its_version() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let first = set.leader();
    let said = set.store(&["put", "state", "one", "--if-version=0"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let version = said.out.trim().to_owned();
    let refused = set.store(&["put", "state", "two", "--if-version=0"]);
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains(&format!("has version {version}")), "{}", refused.err);
    let large = "x".repeat(4096);
    assert_eq!(set.store(&["put", "large", &large]).status, 0);
    assert_eq!(set.store(&["put", "larger", &"x".repeat(4097)]).status, 2);
    assert_eq!(set.store(&["put", "gone", "x"]).status, 0);
    assert_eq!(set.store(&["rm", "gone", "--if-version=7"]).status, 1);
    assert_eq!(set.store(&["rm", "gone"]).status, 0);
    assert!(set.store(&["get", "gone"]).err.contains("there is no key `gone`"));
    // The same over HTTP, where a version is a tag.
    let port = set.ports[first];
    let answer = ask(port, "GET", "/store?key=state", &[], b"");
    let tag = format!("\"{version}\"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "one"));
    assert_eq!(answer.header("etag"), Some(tag.as_str()));
    assert_eq!(put(port, "state", &[("If-None-Match", "*")], b"two").status, 412);
    assert_eq!(put(port, "state", &[("If-Match", "\"7\"")], b"two").status, 412);
    assert_eq!(put(port, "state", &[("If-Match", "x")], b"two").status, 400);
    assert_eq!(put(port, "state", &[("If-Match", &tag)], b"two").status, 200);
    assert_eq!(put(port, "large", &[], &[0; 4097]).status, 400);
    let named = [("Idempotency-Key", "one")];
    let of_delete = ask(port, "DELETE", "/store?key=state", &named, b"");
    for answer in [put(port, "state", &named, b"three"), of_delete] {
        let why = "/store takes no Idempotency-Key";
        assert!(answer.status == 400 && answer.text().contains(why), "{}", answer.text());
        assert!(answer.text().contains("If-Match"), "{}", answer.text());
    }
    assert_eq!(ask(port, "GET", "/store?key=state", &named, b"").text(), "two");
    assert_eq!(put(port, "", &[], b"x").status, 400);
    assert_eq!(ask(port, "DELETE", "/store?key=gone", &[], b"").status, 404);
    assert_eq!(ask(port, "POST", "/store?key=gone", &[], b"").status, 405);
    let standby = set.ports[(first + 1) % 3];
    assert_eq!(ask(standby, "GET", "/store?key=state", &[], b"").status, 307);
    // Several write at once: as many versions as writes, and each compares with the one before.
    let raced = std::thread::scope(|scope| {
        let write = |number: u8| {
            move || put(port, "raced", &[("If-None-Match", "*")], &[number]).status == 200
        };
        let all: Vec<_> = (0..8).map(|number| scope.spawn(write(number))).collect();
        all.into_iter().map(|one| one.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(raced, 1, "one of eight was the first");
    let listed = set.store(&["ls", "--json"]).out;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    set.kill(first);
    set.leader();
    assert_eq!(set.store(&["ls", "--json"]).out, listed);
    assert_eq!((set.value("state").as_str(), set.value("large")), ("two", large.clone()));
    for at in set.alive() {
        set.kill(at);
    }
    (0..3).for_each(|at| set.restart(at));
    let leader = set.leader();
    assert_eq!(set.store(&["ls", "--json"]).out, listed);
    assert_eq!(set.value("large"), large);
    assert_eq!(set.gauge(leader, "store_keys"), 3);
    // Versions of a later reign are later.
    let later: u64 = set.store(&["put", "later", "x"]).out.trim().parse().unwrap();
    assert!(listed.lines().all(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["version"].as_u64().unwrap() < later
    }));
    let (from, to) = (set.work_dir(leader).display().to_string(), world.path("exported.json"));
    let (ports, new) = (set.ports.clone(), world.path("new").display().to_string());
    set.stop();
    let said = world.told(&["registry", "export", "--work-dir", &from]);
    assert_eq!(said.status, 0, "{}", said.err);
    std::fs::write(&to, &said.out).unwrap();
    let shown = world.told(&["registry", "show", "--work-dir", &from]);
    assert!(shown.out.contains("\"key\":\"large\""), "{}", shown.out);
    let words = ["registry", "import", to.to_str().unwrap(), "--work-dir", &new];
    let force = ["--new-generation", "--i-lost-quorum"];
    assert_eq!(world.told(&[&words[..], &force].concat()).status, 0);
    let port = ports[0].to_string();
    let alone = world.start(world.mesita(&["master", "--port", &port, "--work-dir", &new]));
    alone.says("master at 127.0.0.1:");
    let answer = ask(ports[0], "GET", "/store?key=large", &[], b"");
    assert_eq!(answer.text(), large);
    let again: u64 = {
        let answer = put(ports[0], "later", &[], b"y");
        serde_json::from_slice::<Value>(&answer.body).unwrap()["version"].as_u64().unwrap()
    };
    assert!(again > later);
    alone.kill();
    world.nothing_is_left();
}

/// The answer to a write that succeeded.
fn try_put(port: u16, key: &str, condition: (&str, &str), value: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let (name, condition) = condition;
    let head = format!("PUT /store?key={key} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n");
    let rest = format!("{name}: {condition}\r\nContent-Length: {}\r\n\r\n{value}", value.len());
    stream.write_all(format!("{head}{rest}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let (from, to) = (body.find('{')?, body.rfind('}')?);
    let body = serde_json::from_str(&body[from..=to]).ok()?;
    head.starts_with("HTTP/1.1 200 ").then_some(body)
}

#[test]
fn no_write_that_was_acknowledged_is_lost_while_leaders_are_killed() {
    let world = World::new();
    let mut set = Set::made(&world, &["--timing=fast"]);
    // The first one is there before anybody dies: a busy machine may make none in time.
    let port = set.ports[set.leader()];
    let value = format!("1 {}", "x".repeat(2000));
    let body = try_put(port, "n", ("If-None-Match", "*"), &value).unwrap();
    let (mut written, mut version) = (1u32, body["version"].as_u64().unwrap());
    for round in 0..4 {
        let leader = set.leader();
        let list = set.list();
        let port = set.ports[leader];
        // Writes go on while the leader dies; what was answered is there afterwards.
        let writer = std::thread::spawn(move || {
            let (mut last, mut version) = (written, version);
            loop {
                let value = format!("{} {}", last + 1, "x".repeat(2000));
                let tag = format!("\"{version}\"");
                // Not an answer: the leader is gone, or it was not yet, or is no more.
                let Some(body) = try_put(port, "n", ("If-Match", &tag), &value) else {
                    return (last, version);
                };
                (last, version) = (last + 1, body["version"].as_u64().unwrap());
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(150 + round * 37));
        set.kill(leader);
        (written, version) = writer.join().unwrap();
        set.leader();
        let said = world.told(&["store", "ls", "--json", "--master", &list]);
        let rows: Vec<Value> =
            said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let value = set.value("n");
        let found: u32 = value.split(' ').next().unwrap().parse().unwrap();
        assert!(found == written || found == written + 1, "{found} after {written}");
        assert!(rows[0]["version"].as_u64().unwrap() >= version, "{rows:?}");
        (written, version) = (found, rows[0]["version"].as_u64().unwrap());
        set.restart(leader);
    }
    assert!(written > 6, "{written} writes");
    let leader = set.leader();
    // What leaders left behind that died while they wrote is gone: one value, of five cells.
    eventually(|| set.gauge(leader, "set_registry_waiting") == 0, || "nothing waits".to_owned());
    assert_eq!(set.gauge(leader, "store_cells"), 5);
    set.stop();
    world.nothing_is_left();
}

#[test]
fn everybody_has_keys_of_their_own_and_only_so_many() {
    let world = World::new();
    let master = world.master(&[]);
    let (port, address) = (master.port, master.address());
    for number in 0..64 {
        assert_eq!(put(port, &format!("key-{number}"), &[], b"x").status, 200);
    }
    let answer = put(port, "one-more", &[], b"x");
    assert_eq!(answer.status, 507, "{}", answer.text());
    assert!(answer.text().contains("64 keys"), "{}", answer.text());
    assert_eq!(put(port, "key-7", &[], b"y").status, 200, "what is there may change");
    let other = ["--owner", "web", "--master", &address];
    let told = |words: &[&str]| world.told(&[&["store"], words, &other].concat());
    assert_eq!(told(&["put", "key-7", "its own"]).status, 0);
    assert_eq!(told(&["get", "key-7"]).out, "its own");
    assert!(told(&["ls"]).out.starts_with("KEY"), "{}", told(&["ls"]).out);
    if is_root() {
        let uid = format!("--reuid={NOBODY}");
        let nobody = |words: &[&str]| {
            let program = env!("CARGO_BIN_EXE_mesita");
            let mut command =
                world.command_in(&["setpriv", &uid, "--clear-groups", "--regid=65534"], program);
            command.args([&["store"], words, &["--master", &address]].concat());
            world.start(command).end()
        };
        let said = nobody(&["get", "key-7", "--owner", "web"]);
        assert!(said.status == 1 && said.err.contains("only who operates"), "{}", said.err);
        assert_eq!(nobody(&["put", "key-7", "nobody's"]).status, 0);
        assert_eq!(nobody(&["get", "key-7"]).out, "nobody's");
    }
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_framework_in_rust_keeps_a_number_with_the_masters() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let run = |set: &Set<'_>| {
        let mut command = world.command_in(&["env"], &example("counter").display().to_string());
        command.arg(set.list());
        let said = world.start(command).end();
        assert_eq!(said.status, 0, "{}", said.err);
        said.out
    };
    let first = set.leader();
    assert!(run(&set).starts_with("written as "));
    assert!(run(&set).starts_with("1\n"));
    set.kill(first);
    set.leader();
    assert!(run(&set).starts_with("2\n"));
    assert_eq!(set.value("runs"), "3");
    set.stop();
    world.nothing_is_left();
}

#[test]
fn who_stores_while_a_reign_ends_hears_that_it_is_not_known_whether_it_was_done() {
    let world = World::new();
    let set = Set::made(&world, &["--timing=slow"]);
    let leader = set.leader();
    let others = set.alive().into_iter().filter(|at| *at != leader);
    let others: Vec<usize> = others.collect();
    others.iter().for_each(|at| set.process(*at).signal(Signal::STOP));
    let answer = put(set.ports[leader], "state", &[("If-None-Match", "*")], b"one");
    assert_eq!(answer.status, 503, "{}", answer.text());
    let unsure = "whether this was done is not known";
    assert!(answer.text().contains(unsure), "{}", answer.text());
    others.iter().for_each(|at| set.process(*at).signal(Signal::CONT));
    // It was done or not, and asking again says which.
    set.leader();
    let again = set.store(&["put", "state", "one", "--if-version=0"]);
    let there = again.status == 1 && again.err.contains("has version");
    assert!(again.status == 0 || there, "{}", again.err);
    assert_eq!(set.value("state"), "one");
    set.stop();
    world.nothing_is_left();
}
