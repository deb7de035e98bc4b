//! Calls of operators that may be made again: whoever is killed meanwhile, each is done once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{ask, post};
use crate::masters::Set;
use crate::world::{Agent, Signal, World, eventually};

/// What a master answers to a call, if it answers: the status, and what else it says.
fn call(port: u16, key: &str, body: &Value) -> Option<(u16, String)> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let head = format!(
        "POST /api/v1 HTTP/1.1\r\nHost: it\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.get(9..12)?.parse().ok()?;
    Some((status, answer))
}

/// The same until somebody has done it: 503 and silence are no answers.
fn insist(set: &Set<'_>, key: &str, body: &Value) -> u16 {
    let mut last = None;
    let mut answered = || {
        for at in set.alive() {
            match call(set.ports[at], key, body) {
                Some((307 | 503, said)) => last = Some(said),
                Some((status, _)) if status < 300 => return Some(status),
                Some((status, said)) => panic!("{status}: {said}"),
                None => {}
            }
        }
        None
    };
    let mut status = None;
    eventually(
        || {
            status = answered();
            status.is_some()
        },
        || format!("an answer to {body}"),
    );
    status.unwrap()
}

/// RESERVE_RESOURCES of so many cpus for `web`.
fn reserve(agent: &str, cpus: f64) -> Value {
    let resource = json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus},
        "reservations": [{"type": "DYNAMIC", "role": "web"}]});
    json!({"type": "RESERVE_RESOURCES", "reserve_resources":
        {"agent_id": {"value": agent}, "resources": [resource]}})
}

fn set_quota(role: &str, cpus: f64) -> Value {
    let guarantee = json!([{"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}}]);
    json!({"type": "SET_QUOTA", "set_quota": {"quota_request":
        {"role": role, "guarantee": guarantee, "force": true}}})
}

fn schedule(machines: usize) -> Value {
    let windows: Vec<Value> = (0..machines)
        .map(|number| {
            let name = format!("a-machine-with-quite-a-long-name-{number:04}.example");
            json!({"machine_ids": [{"hostname": name}],
                   "unavailability": {"start": {"nanoseconds": 1_000_000_000_i64}}})
        })
        .collect();
    json!({"type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule":
        {"schedule": {"windows": windows}}})
}

fn machines(set: &Set<'_>) -> usize {
    let mut said = set.told("maintenance", &["ls", "--json"]);
    // A busy machine may be between two leaders.
    eventually(
        || {
            said = set.told("maintenance", &["ls", "--json"]);
            said.status == 0
        },
        || "a leader".to_owned(),
    );
    said.out.lines().count()
}

fn agent_row(set: &Set<'_>) -> Option<Value> {
    let rows = set.told("ps", &["--agents", "--json"]).out;
    serde_json::from_str(rows.lines().next()?).ok()
}

/// What is reserved for `web` on the only agent, in thousandths of cpus.
fn reserved(set: &Set<'_>) -> i64 {
    let leader = set.leader();
    let answer = ask(set.ports[leader], "GET", "/slaves", &[], b"");
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    #[allow(clippy::cast_possible_truncation)]
    let milli = |cpus: &Value| (cpus.as_f64().unwrap_or(0.0) * 1000.0).round() as i64;
    milli(&told["slaves"][0]["reserved_resources"]["web"]["cpus"])
}

#[test]
fn a_reservation_is_made_once_however_often_its_master_is_killed() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let mut agent = Agent::new(&world, &set.list(), &["--resources=cpus:8;mem:512;disk:512"]);
    agent.start();
    agent.process().says("registered with the master");
    let id = || agent_row(&set).and_then(|row| row["id"].as_str().map(str::to_owned));
    eventually(|| id().is_some(), || "an agent".to_owned());
    let id = id().unwrap();
    for round in 0..6_u64 {
        let leader = set.leader();
        let (port, key) = (set.ports[leader], format!("round-{round}"));
        let body = reserve(&id, 0.1);
        let (first, with) = (body.clone(), key.clone());
        let asking = std::thread::spawn(move || call(port, &with, &first));
        sleep(Duration::from_millis(round * 3));
        set.kill(leader);
        let heard = asking.join().unwrap();
        assert_eq!(insist(&set, &key, &body), 202, "after {heard:?}");
        // And once more, as somebody does who heard nothing of that.
        assert_eq!(insist(&set, &key, &body), 202);
        let wanted = (i64::try_from(round).unwrap() + 1) * 100;
        // Until its agent is back, a leader knows of none.
        let told = || reserved(&set);
        eventually(|| told() > 0, || format!("the agent: round {round}, after {heard:?}"));
        eventually(|| told() == wanted, || format!("{wanted}, not {}: round {round}", told()));
        set.restart(leader);
    }
    // The agent remembers what its masters did not hear of.
    let leader = set.leader();
    let body = reserve(&id, 0.1);
    let port = set.ports[leader];
    assert_eq!(call(port, "last", &body).unwrap().0, 202);
    agent.kill();
    agent.start();
    agent.process().says("registered with the master");
    assert_eq!(insist(&set, "last", &body), 202);
    eventually(|| reserved(&set) == 700, || format!("700, not {}", reserved(&set)));
    // A name is for one call.
    assert_eq!(call(port, "last", &reserve(&id, 0.2)).unwrap().0, 422);
    let gauges = ["requests", "requests_in_flight", "requests_max"];
    assert_eq!(gauges.map(|name| set.gauge(leader, name)), [7, 0, 256]);
    agent.leave();
    set.stop();
    world.nothing_is_left();
}

#[test]
fn what_nobody_knows_is_said_so_and_asked_again() {
    let world = World::new();
    let set = Set::made(&world, &[]);
    let mut unknown = 0;
    for round in 0..5 {
        let leader = set.leader();
        let others: Vec<usize> = set.alive().into_iter().filter(|at| *at != leader).collect();
        others.iter().for_each(|at| set.process(*at).signal(Signal::STOP));
        let (key, body) = (format!("round-{round}"), set_quota(&format!("eng{round}"), 2.0));
        let (status, said) = call(set.ports[leader], &key, &body).unwrap();
        others.iter().for_each(|at| set.process(*at).signal(Signal::CONT));
        assert_eq!(status, 503, "{said}");
        unknown += u32::from(said.contains("with the same id"));
        assert_eq!(insist(&set, &key, &body), 200);
        // A quota is set where none is: again, it is the same call.
        assert_eq!(insist(&set, &key, &body), 200);
    }
    assert!(unknown > 0, "nobody was answered by a leader that is none any more");
    let body = set_quota("eng0", 2.0);
    let leader = set.leader();
    let other = post(set.ports[leader], "/api/v1", &[], &body);
    assert_eq!(other.status, 400, "{}", other.text());
    set.stop();
    world.nothing_is_left();
}

#[test]
fn the_command_line_asks_again_by_itself() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    for round in 0..4_u64 {
        let leader = set.leader();
        let (list, role) = (set.list(), format!("role-{round}=3"));
        let words = ["weights", "set", &role, "--master", &list];
        let asking = world.start(world.mesita(&words));
        sleep(Duration::from_millis(round * 4));
        set.kill(leader);
        let said = asking.end();
        // Whoever found no master to ask has asked for nothing.
        assert!(said.status == 0 || said.status == 4, "{}: {}", said.status, said.err);
        set.leader();
        let listed = set.told("weights", &["ls", "--json"]).out;
        let has = listed.contains(&format!("role-{round}"));
        assert_eq!(has, said.status == 0, "{listed} after {}", said.err);
        set.restart(leader);
    }
    set.stop();
    world.nothing_is_left();
}

#[test]
fn a_schedule_of_many_machines_is_there_or_is_not() {
    let world = World::new();
    let mut set = Set::made(&world, &[]);
    let (few, many) = (schedule(3), schedule(60));
    assert_eq!(insist(&set, "few", &few), 200);
    for round in 0..4_u64 {
        let leader = set.leader();
        let (port, key, body) = (set.ports[leader], format!("many-{round}"), many.clone());
        let asking = std::thread::spawn(move || call(port, &key, &body));
        sleep(Duration::from_millis(2 + round * 2));
        set.kill(leader);
        let _ = asking.join();
        set.leader();
        let found = machines(&set);
        assert!(found == 3 || found == 60, "round {round}: {found} machines");
        assert_eq!(insist(&set, &format!("many-{round}"), &many), 200);
        assert_eq!(machines(&set), 60);
        assert_eq!(insist(&set, &format!("few-{round}"), &few), 200);
        assert_eq!(machines(&set), 3);
        set.restart(leader);
    }
    set.stop();
    let shown = |dir: &Path| {
        let dir = dir.display().to_string();
        let said = world.told(&["registry", "show", "--json", "--work-dir", &dir]);
        assert_eq!(said.status, 0, "{}", said.err);
    };
    (0..3).for_each(|at| shown(&world.path(&format!("set-{at}"))));
    world.nothing_is_left();
}
