//! `--rate-limits`: calls of a principal's frameworks wait, and too many of them are refused.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::credentials::{EVERYBODY, credential, credentials};
use crate::http::{Records, ask, post};
use crate::world::{Agent, World, eventually};

const SCHEDULER: &str = "/api/v1/scheduler";
const WEB: &str = "Basic d2ViOnBsYW50ZWQtM2Y5Yy13ZWI=";
const OPS: &str = "Basic b3BzOnBsYW50ZWQtM2Y5Yy1vcHM=";

/// A framework of a principal: its stream, its id, and what its calls show.
fn subscribed(port: u16, shown: &str) -> (Records, Value, Vec<(String, String)>) {
    let json = [("Content-Type", "application/json"), ("Accept", "application/json")];
    let info = json!({"user": "nobody", "name": "it", "roles": ["*"], "failover_timeout": 60.0,
                      "capabilities": [{"type": "MULTI_ROLE"}]});
    let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}).to_string();
    let headers = [&json[..], &[("Authorization", shown)]].concat();
    let mut events = Records::open(port, SCHEDULER, &headers, call.as_bytes());
    let id = events.until("SUBSCRIBED")["framework_id"].clone();
    let stream = events.headers.iter().find(|(name, _)| name == "Mesos-Stream-Id").unwrap();
    let headers = vec![("Authorization".to_owned(), shown.to_owned()), stream.clone()];
    (events, id, headers)
}

/// What is answered to who shows that.
fn shown(port: u16, path: &str, authorization: &str) -> String {
    ask(port, "GET", path, &[("Authorization", authorization)], b"").text()
}

fn revive(port: u16, id: &Value, headers: &[(String, String)]) -> u16 {
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    post(port, SCHEDULER, &headers, &json!({"type": "REVIVE", "framework_id": id})).status
}

#[test]
fn calls_of_a_principal_wait_for_their_turn_and_no_more_than_may() {
    let world = World::new();
    let known = credentials(&world);
    let limits = r#"--rate-limits={"limits": [{"principal": "web", "qps": 0.5, "capacity": 1}]}"#;
    let master = world.master(&[&[&*known, limits], &EVERYBODY[..]].concat());
    let port = master.port;
    let (_events, id, headers) = subscribed(port, WEB);
    // The next call is due in two seconds: one waits for that, and of those beside it none may.
    let began = Instant::now();
    let calls: Vec<u16> = std::thread::scope(|scope| {
        let call = || scope.spawn(|| revive(port, &id, &headers));
        let calls = [call(), call(), call()];
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let count = |status: u16| calls.iter().filter(|told| **told == status).count();
    assert_eq!((count(202), count(429)), (1, 2), "{calls:?}");
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    // Another principal has a pace of its own: none.
    let (_others, id, headers) = subscribed(port, OPS);
    for _ in 0..20 {
        assert_eq!(revive(port, &id, &headers), 202);
    }
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_framework_that_speaks_frames_is_read_no_faster() {
    let world = World::new();
    let master = world.master(&[r#"--rate-limits={"aggregate_default_qps": 2}"#]);
    let agent = master.agent(&[]);
    let began = Instant::now();
    // It subscribes, then accepts: two calls at the least.
    assert_eq!(master.run(&["--", "true"]).end().status, 0);
    assert!(began.elapsed() > Duration::from_millis(450), "{:?}", began.elapsed());
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn rates_that_make_no_sense_are_refused_at_the_start() {
    let world = World::new();
    let work_dir = world.path("master").display().to_string();
    let limits = r#"--rate-limits={"limits": [{"principal": "a", "qps": 0}]}"#;
    let said = world.told(&["master", "--work-dir", &work_dir, limits]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("--rate-limits: `a`: qps is 0.001 or more"), "{}", said.err);
}

#[test]
fn a_principal_holds_no_more_offers_than_it_may_and_others_have_the_rest() {
    let world = World::new();
    let known = credentials(&world);
    let flags = [&*known, "--max-offers-per-principal=1"];
    let master = world.master(&[&flags[..], &EVERYBODY[..]].concat());
    let port = master.port;
    let (mut of_web, ..) = subscribed(port, WEB);
    let (mut of_ops, ..) = subscribed(port, OPS);
    let ((_, secret), more) = (credential(&world, "pis"), ["--resources=cpus:1;mem:64"]);
    let flags = [&["--credential", &secret], &more[..]].concat();
    let agents = [0, 1, 2].map(|_| master.agent(&flags));
    let first = of_web.until("OFFERS");
    assert_eq!(first["offers"].as_array().unwrap().len(), 1, "{first}");
    let other = of_ops.until("OFFERS");
    assert_eq!(other["offers"].as_array().unwrap().len(), 1, "{other}");
    let gauge = |name: &str| {
        let told = shown(port, "/metrics", OPS);
        let line = told.lines().find(|line| line.starts_with(&format!("mesita_master_{name} ")));
        line.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
    };
    // Of three agents one is offered to nobody.
    eventually(
        || gauge("offers_per_principal_refused_total").is_some_and(|count| count > 0),
        || shown(port, "/metrics", OPS),
    );
    assert_eq!([gauge("offers"), gauge("offers_per_principal_max")], [Some(2), Some(1)]);
    agents.into_iter().for_each(Agent::leave);
    master.stop();
    world.nothing_is_left();
}
