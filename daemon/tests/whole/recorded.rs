//! Malformed calls, each with the code and the words by which a Mesos 1.12 was recorded to answer it.

use serde_json::{Value, json};

use crate::http::{Records, ask};
use crate::world::World;

const MASTER: &str = "/api/v1";
const SCHEDULER: &str = "/api/v1/scheduler";
const JSON: (&str, &str) = ("Content-Type", "application/json");
const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");
const ACCEPT: (&str, &str) = ("Accept", "application/json");

/// A call and its answer. The words begin the answer; all of it, unless they end with `...`.
struct Recorded {
    name: &'static str,
    path: &'static str,
    method: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static [u8],
    status: u16,
    words: &'static str,
}

const SUBSCRIBE: &[u8] = br#"{"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root",
    "name": "transcript", "roles": ["*"], "capabilities": [{"type": "MULTI_ROLE"},
    {"type": "PARTITION_AWARE"}], "failover_timeout": 60, "checkpoint": true}}}"#;
const TWO_IDS: &[u8] = br#"{"type": "SUBSCRIBE", "framework_id": {"value": "a"}, "subscribe":
    {"framework_info": {"user": "root", "name": "transcript", "roles": ["*"], "capabilities":
    [{"type": "MULTI_ROLE"}], "id": {"value": "b"}}}}"#;
const HEALTH: &[u8] = br#"{"type": "GET_HEALTH"}"#;
const TEARDOWN: &[u8] = br#"{"type": "TEARDOWN", "framework_id": {"value": "nope"}}"#;

macro_rules! recorded {
    ($($name:literal $path:ident $method:ident $headers:expr, $body:expr => $status:literal $words:literal)*) => {
        const RECORDED: &[Recorded] = &[$(Recorded {
            name: $name,
            path: $path,
            method: stringify!($method),
            headers: &$headers,
            body: $body,
            status: $status,
            words: $words,
        }),*];
    };
}

recorded! {
    "master-v1-err-accept" MASTER POST [JSON, ("Accept", "text/html")], HEALTH
        => 406 "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"
    "master-v1-err-badjson" MASTER POST [JSON, ACCEPT], b"{not json"
        => 400 "Failed to parse body into JSON: ..."
    "master-v1-err-ctype" MASTER POST [("Content-Type", "text/plain")], HEALTH
        => 415 "Expecting 'Content-Type' of application/json or application/x-protobuf"
    "master-v1-err-empty" MASTER POST [JSON, ACCEPT], b""
        => 400 "Failed to parse body into JSON: ..."
    "master-v1-err-get" MASTER GET [JSON, ACCEPT], b""
        => 405 "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."
    "master-v1-err-noctype" MASTER POST [], HEALTH
        => 400 "Expecting 'Content-Type' to be present"
    "master-v1-err-notype" MASTER POST [JSON, ACCEPT], b"{}"
        => 400 "Failed to validate master::Call: Expecting 'type' to be present"
    "master-v1-err-unknowntype" MASTER POST [JSON, ACCEPT], br#"{"type": "FOO"}"#
        => 400 "Failed to validate master::Call: Expecting 'type' to be present"
    "sched-err-accept" SCHEDULER POST [JSON, ("Accept", "text/html")], SUBSCRIBE
        => 406 "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"
    "sched-err-badjson" SCHEDULER POST [JSON, ACCEPT], b"{not json"
        => 400 "Failed to parse body into JSON: ..."
    "sched-err-badpb" SCHEDULER POST [PROTOBUF, ACCEPT], b"\xff\xff\xff"
        => 400 "Failed to parse body into Call protobuf..."
    "sched-err-ctype" SCHEDULER POST [("Content-Type", "text/plain")], SUBSCRIBE
        => 415 "Expecting 'Content-Type' of application/json or application/x-protobuf"
    "sched-err-empty" SCHEDULER POST [JSON, ACCEPT], b""
        => 400 "Failed to parse body into JSON: ..."
    "sched-err-fwid-mismatch" SCHEDULER POST [JSON, ACCEPT], TWO_IDS
        => 400 "Failed to validate scheduler::Call: 'framework_id' differs from 'subscribe.framework_info.id'"
    "sched-err-get" SCHEDULER GET [JSON, ACCEPT], b""
        => 405 "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."
    "sched-err-jsonarray" SCHEDULER POST [JSON, ACCEPT], b"[]"
        => 400 "Failed to convert JSON into Call protobuf: Expecting a JSON object"
    "sched-err-missinguser" SCHEDULER POST [JSON, ACCEPT],
        br#"{"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x"}}}"#
        => 400 "Failed to convert JSON into Call protobuf: Missing required fields: subscribe.framework_info.user"
    "sched-err-noctype" SCHEDULER POST [], SUBSCRIBE
        => 400 "Expecting 'Content-Type' to be present"
    "sched-err-nofwid" SCHEDULER POST [JSON, ACCEPT], br#"{"type": "TEARDOWN"}"#
        => 400 "Failed to validate scheduler::Call: Expecting 'framework_id' to be present"
    "sched-err-nosubscribe" SCHEDULER POST [JSON, ACCEPT], br#"{"type": "SUBSCRIBE"}"#
        => 400 "Failed to validate scheduler::Call: Expecting 'subscribe' to be present"
    "sched-err-notype" SCHEDULER POST [JSON, ACCEPT], br#"{"framework_id": {"value": "x"}}"#
        => 400 "Failed to validate scheduler::Call: Expecting 'type' to be present"
    "sched-err-sub-with-streamid" SCHEDULER POST [JSON, ACCEPT, ("Mesos-Stream-Id", "1234")], SUBSCRIBE
        => 400 "Subscribe calls should not include the 'Mesos-Stream-Id' header"
    "sched-err-unknownfw-nostream" SCHEDULER POST [JSON, ACCEPT], TEARDOWN
        => 400 "Framework cannot be found"
    "sched-err-unknownfw" SCHEDULER POST [JSON, ACCEPT, ("Mesos-Stream-Id", "deadbeef")], TEARDOWN
        => 400 "Framework cannot be found"
    "sched-err-unknowntype" SCHEDULER POST [JSON, ACCEPT], br#"{"type": "FOO"}"#
        => 400 "Failed to validate scheduler::Call: Expecting 'type' to be present"
}

#[test]
fn every_malformed_call_that_was_recorded_has_the_code_and_the_words_of_mesos() {
    let world = World::new();
    let master = world.master(&[]);
    for one in RECORDED {
        let answer = ask(master.port, one.method, one.path, one.headers, one.body);
        let text = answer.text();
        assert_eq!(answer.status, one.status, "{}: {text}", one.name);
        match one.words.strip_suffix("...") {
            // What a parser says is its own.
            Some(words) => assert!(text.starts_with(words), "{}: {text}", one.name),
            None => assert_eq!(text, one.words, "{}", one.name),
        }
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("text/plain; charset=utf-8"), "{}", one.name);
        if one.status == 405 {
            assert_eq!(answer.header("allow"), Some("POST"), "{}", one.name);
        }
    }
    // A subscription that cannot be is answered on its stream, which ends then.
    let subscribe = |info: Value| {
        let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        Records::open(master.port, SCHEDULER, &[JSON, ACCEPT], call.to_string().as_bytes())
    };
    let mut refused = subscribe(json!({"user": "root", "name": "x", "roles": ["/bad/"],
        "capabilities": [{"type": "MULTI_ROLE"}]}));
    let words =
        "'FrameworkInfo.roles' contains invalid role: Role '/bad/' cannot start with a slash";
    assert_eq!(refused.until("ERROR")["message"], words, "sched-err-badrole");
    assert!(refused.event().is_none(), "sched-err-badrole");
    // And one with an empty name can be.
    let mut unnamed = subscribe(json!({"user": "root", "name": ""}));
    assert!(unnamed.until("SUBSCRIBED")["framework_id"]["value"].is_string(), "emptyname-ok");
    drop(unnamed);
    master.stop();
    world.nothing_is_left();
}
