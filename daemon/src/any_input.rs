//! What comes from outside, torn and mended at random: whatever it is, it is read or refused, never
//! stumbled over. Four of five published holes of Mesos were a request that ended the master.
//!
//! Each property begins with real input and edits it a few times, so that much of it is nearly right.
//! `PROPTEST_CASES` says how often; `ci/any_input` does it a million times.

use mesita_core::wire::{FrameworkId, Head, decode};
use proptest::prelude::*;
use prost::{Message, Name};
use serde_json::json;

use crate::agent::judge;
use crate::http::records::{Pieces, framed};
use crate::http::transcode::{from_json, from_protobuf, to_json};
use crate::pb::mesos::v1 as pb;
use crate::v1::{calls, executors};

/// What edits put in: all that has a meaning in JSON, and numbers at the ends of what fits.
const WORDS: [&str; 30] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\u0000",
    "\\",
    "null",
    "true",
    "\"Infinity\"",
    "\"NaN\"",
    "-1",
    "0",
    "1e308",
    "-0.0",
    "18446744073709551616",
    "9223372036854775807",
    "0.0005",
    "\u{fffd}",
    "\"type\":",
    "\"value\":",
    "\"scalar\":",
    "\"ACCEPT\"",
    "\"SUBSCRIBE\"",
    "\"RANGES\"",
    "=",
    "[[[[",
    "\n",
];

/// One edit, at a place in thousandths of the whole.
#[derive(Clone, Debug)]
enum Edit {
    Put(u16, usize),
    Byte(u16, u8),
    Cut(u16, usize),
    Twice(u16, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = 0..1000u16;
    let edit = prop_oneof![
        (at.clone(), 0..WORDS.len()).prop_map(|(at, word)| Edit::Put(at, word)),
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        (at.clone(), 1..40usize).prop_map(|(at, len)| Edit::Cut(at, len)),
        (at, 1..80usize).prop_map(|(at, len)| Edit::Twice(at, len)),
    ];
    prop::collection::vec(edit, 0..5)
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let place = |at: u16| bytes.len() * usize::from(at) / 1000;
        match *edit {
            Edit::Put(at, word) => {
                let at = place(at);
                bytes.splice(at..at, WORDS[word].bytes());
            }
            Edit::Byte(at, byte) => {
                let at = place(at);
                bytes.splice(at..(at + 1).min(bytes.len()), [byte]);
            }
            Edit::Cut(at, len) => {
                let at = place(at);
                bytes.drain(at..(at + len).min(bytes.len()));
            }
            Edit::Twice(at, len) => {
                let at = place(at);
                let again = bytes[at..(at + len).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

fn scalar(name: &str, value: f64) -> serde_json::Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": value}, "role": "web"})
}

/// Calls of a scheduler, as real ones make them.
fn scheduler_calls() -> Vec<serde_json::Value> {
    let id = json!({"value": "00000000000000a1-1-0001"});
    let info = json!({"user": "pi", "name": "it", "id": id, "roles": ["web", "web/a"],
        "failover_timeout": 60.5, "principal": "p", "checkpoint": true,
        "labels": {"labels": [{"key": "k", "value": "v"}]},
        "offer_filters": {"web": {"min_allocatable_resources": {"quantities":
            [{"quantities": {"cpus": {"value": 0.1}}}]}}},
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]});
    let constraints = json!({"role_constraints": {"web": {"groups": [{"attribute_constraints": [
        {"selector": {"attribute_name": "rack"}, "predicate": {"text_matches": {"regex": "a.*"}}}]}]}}});
    let ports = json!({"name": "ports", "type": "RANGES", "ranges": {"range":
        [{"begin": 31000, "end": 31001}]}});
    let task = json!({"name": "t", "task_id": {"value": "t"}, "agent_id": {"value": "00a1-1-S1"},
        "resources": [scalar("cpus", 0.5), scalar("mem", 32.0), ports],
        "command": {"value": "true", "environment": {"variables": [{"name": "A", "value": "b"}]},
                    "uris": [{"value": "http://x/y.tar.gz", "extract": true}]},
        "health_check": {"type": "TCP", "tcp": {"port": 80}, "delay_seconds": 1.5},
        "kill_policy": {"grace_period": {"nanoseconds": 5_000_000_000i64}}, "data": "AAEC"});
    let mut inner = task.clone();
    inner["executor"] = json!({"type": "DEFAULT", "executor_id": {"value": "x"},
        "framework_id": id, "resources": [scalar("cpus", 0.1)]});
    let reserved = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 8.0},
        "reservations": [{"type": "DYNAMIC", "role": "web", "principal": "p"}],
        "disk": {"persistence": {"id": "v"}, "volume": {"container_path": "d", "mode": "RW"}}});
    let operations = json!([
        {"type": "LAUNCH", "launch": {"task_infos": [task]}},
        {"type": "LAUNCH_GROUP", "launch_group": {"executor": inner["executor"],
            "task_group": {"tasks": [task]}}},
        {"type": "RESERVE", "id": {"value": "o"}, "reserve": {"resources": [reserved]}},
        {"type": "CREATE", "create": {"volumes": [reserved]}},
        {"type": "GROW_VOLUME", "grow_volume": {"volume": reserved, "addition": scalar("disk", 1.0)}},
    ]);
    let offers = json!([{"value": "00000000000000a1-O1"}]);
    let uuid = "AAECAwQFBgcICQoLDA0ODw==";
    vec![
        json!({"type": "SUBSCRIBE", "framework_id": id, "subscribe": {"framework_info": info,
               "suppressed_roles": ["web"], "offer_constraints": constraints}}),
        json!({"type": "UPDATE_FRAMEWORK", "framework_id": id, "update_framework":
               {"framework_info": info, "offer_constraints": constraints}}),
        json!({"type": "ACCEPT", "framework_id": id, "accept": {"offer_ids": offers,
               "operations": operations, "filters": {"refuse_seconds": 5.0}}}),
        json!({"type": "DECLINE", "framework_id": id, "decline": {"offer_ids": offers}}),
        json!({"type": "KILL", "framework_id": id, "kill": {"task_id": {"value": "t"},
               "kill_policy": {"grace_period": {"nanoseconds": 1}}}}),
        json!({"type": "ACKNOWLEDGE", "framework_id": id, "acknowledge":
               {"agent_id": {"value": "00a1-1-S1"}, "task_id": {"value": "t"}, "uuid": uuid}}),
        json!({"type": "RECONCILE", "framework_id": id, "reconcile":
               {"tasks": [{"task_id": {"value": "t"}}]}}),
        json!({"type": "MESSAGE", "framework_id": id, "message": {"agent_id": {"value": "x"},
               "executor_id": {"value": "x"}, "data": "AAEC"}}),
        json!({"type": "REQUEST", "framework_id": id, "request":
               {"requests": [{"resources": [scalar("cpus", 1.0)]}]}}),
        json!({"type": "REVIVE", "framework_id": id, "revive": {"roles": ["web"]}}),
    ]
}

/// Calls of an executor.
fn executor_calls() -> Vec<serde_json::Value> {
    let status = json!({"task_id": {"value": "t"}, "state": "TASK_RUNNING", "message": "m",
        "source": "SOURCE_EXECUTOR", "uuid": "AAECAwQFBgcICQoLDA0ODw==", "timestamp": 1.5e9,
        "labels": {"labels": [{"key": "k"}]}, "data": "AA=="});
    let of = json!({"framework_id": {"value": "00a1-1-0001"}, "executor_id": {"value": "x"}});
    let call = |kind: &str, field: &str, value: serde_json::Value| {
        let mut call = of.clone();
        (call["type"], call[field]) = (kind.into(), value);
        call
    };
    let unacknowledged = json!({"unacknowledged_tasks": [], "unacknowledged_updates":
        [{"status": status}]});
    vec![
        call("SUBSCRIBE", "subscribe", unacknowledged),
        call("UPDATE", "update", json!({"status": status})),
        call("MESSAGE", "message", json!({"data": "AAEC"})),
    ]
}

/// Calls of operators, to a master.
fn operator_calls() -> Vec<serde_json::Value> {
    let window = json!({"machine_ids": [{"hostname": "h", "ip": "10.0.0.1"}],
        "unavailability": {"start": {"nanoseconds": 1}, "duration": {"nanoseconds": 5}}});
    vec![
        json!({"type": "UPDATE_QUOTA", "update_quota": {"force": true, "quota_configs":
               [{"role": "web", "limits": {"cpus": {"value": 2.5}}}]}}),
        json!({"type": "UPDATE_WEIGHTS", "update_weights":
               {"weight_infos": [{"role": "web", "weight": 2.5}]}}),
        json!({"type": "DRAIN_AGENT", "drain_agent": {"agent_id": {"value": "x"},
               "max_grace_period": {"seconds": 5}, "mark_gone": true}}),
        json!({"type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule":
               {"schedule": {"windows": [window]}}}),
    ]
}

/// Calls of operators about containers, to an agent.
fn container_calls() -> Vec<serde_json::Value> {
    let id = json!({"value": "a", "parent": {"value": "1-2", "parent": {"value": "1-1"}}});
    let command = json!({"shell": false, "value": "/bin/sh", "arguments": ["sh", "-c", "x"],
        "user": "pi", "environment": {"variables": [{"name": "A", "value": "b"}]}});
    let terminal = json!({"type": "MESOS", "tty_info": {"window_size": {"rows": 3, "columns": 4}}});
    let stdin = json!({"type": "DATA", "data": {"type": "STDIN", "data": "AAEC"}});
    vec![
        json!({"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "b"},
            "command": command, "resources": [scalar("cpus", 0.5), scalar("mem", 32.0)],
            "limits": {"cpus": {"value": 2.5}, "mem": {"value": "Infinity"}}}}),
        json!({"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container":
            {"container_id": id, "command": command}}),
        json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session":
            {"container_id": id, "command": command, "container": terminal}}),
        json!({"type": "KILL_CONTAINER", "kill_container": {"container_id": id, "signal": 15}}),
        json!({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input":
            {"type": "PROCESS_IO", "process_io": stdin}}),
        json!({"type": "SET_LOGGING_LEVEL", "set_logging_level":
            {"level": 1, "duration": {"nanoseconds": 1000}}}),
    ]
}

/// Reads JSON; whatever was understood is understood again, from either form.
fn read<M: Message + Name + Default>(bytes: &[u8]) -> Option<M> {
    let read: M = from_json(bytes).ok()?;
    // JSON tells defaults, too, so that it is JSON that is compared.
    let told = to_json(&read);
    let again: M = from_json(&told).expect("our own JSON is understood");
    let [first, second] = [&told, &to_json(&again)].map(|text| serde_json::from_slice(text));
    let same = alike(&first.expect("JSON"), &second.expect("JSON"));
    assert!(same, "JSON lost something: {}", String::from_utf8_lossy(&told));
    let written = read.encode_to_vec();
    let again: M = from_protobuf(&written).expect("our own protobuf is understood");
    assert!(again.encode_to_vec() == written, "protobuf lost something: {written:?}");
    Some(read)
}

/// True for the same JSON. A number of 17 digits may be read to the last bit but one: amounts are
/// thousandths, and times µs.
fn alike(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (one, other) {
        (Number(a), Number(b)) => {
            let [x, y] = [a, b].map(|number| number.as_f64().unwrap_or_default());
            a == b || (x - y).abs() <= x.abs() * 4.0 * f64::EPSILON
        }
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Object(a), Object(b)) => {
            let same = |(name, value): (&String, _)| b.get(name).is_some_and(|of| alike(value, of));
            a.len() == b.len() && a.iter().all(same)
        }
        _ => one == other,
    }
}

fn scheduler_call(call: &pb::scheduler::Call) {
    if calls::validate(call).is_ok()
        && let Ok(said) = calls::to_wire(call, FrameworkId { epoch: 1, number: 1 }, 0xa1)
    {
        // Whatever it is, the core refuses it or takes it.
        let _ = decode::<Head<'_>>(&said.head);
    }
}

fn executor_call(call: &pb::executor::Call) {
    if executors::validate(call).is_ok() {
        let said = executors::to_wire(call, FrameworkId { epoch: 1, number: 1 });
        let _ = said.map(|said| decode::<Head<'_>>(&said.head).is_ok());
    }
}

/// A message of this kind as protobuf.
fn protobuf<M: Message + Name + Default>(value: &serde_json::Value) -> Vec<u8> {
    from_json::<M>(value.to_string().as_bytes()).expect("a sample is right").encode_to_vec()
}

#[test]
fn samples_are_right_before_they_are_torn() {
    for sample in scheduler_calls() {
        let call = from_json::<pb::scheduler::Call>(sample.to_string().as_bytes()).unwrap();
        calls::validate(&call).unwrap_or_else(|bad| panic!("{sample}: {bad}"));
    }
    for sample in executor_calls() {
        let call = from_json::<pb::executor::Call>(sample.to_string().as_bytes()).unwrap();
        executors::validate(&call).unwrap_or_else(|bad| panic!("{sample}: {bad}"));
    }
    for sample in operator_calls() {
        from_json::<pb::master::Call>(sample.to_string().as_bytes()).unwrap();
    }
    for sample in container_calls() {
        let call = from_json::<pb::agent::Call>(sample.to_string().as_bytes()).unwrap();
        judge(&call).unwrap_or_else(|bad| panic!("{sample}: {bad}"));
    }
}

proptest! {
    // A failure is told whole, and becomes a test of its own: no file remembers it.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn torn_json_of_a_scheduler_is_read_or_refused(
        sample in prop::sample::select(scheduler_calls()), edits in edits()
    ) {
        let bytes = edited(sample.to_string().into_bytes(), &edits);
        if let Some(call) = read::<pb::scheduler::Call>(&bytes) {
            scheduler_call(&call);
        }
    }

    #[test]
    fn torn_protobuf_of_a_scheduler_is_read_or_refused(
        sample in prop::sample::select(scheduler_calls()), edits in edits()
    ) {
        let bytes = edited(protobuf::<pb::scheduler::Call>(&sample), &edits);
        if let Ok(call) = from_protobuf::<pb::scheduler::Call>(&bytes) {
            read::<pb::scheduler::Call>(&to_json(&call));
            scheduler_call(&call);
        }
    }

    #[test]
    fn torn_calls_of_an_executor_are_read_or_refused(
        sample in prop::sample::select(executor_calls()), edits in edits()
    ) {
        let bytes = edited(sample.to_string().into_bytes(), &edits);
        if let Some(call) = read::<pb::executor::Call>(&bytes) {
            executor_call(&call);
        }
        let bytes = edited(protobuf::<pb::executor::Call>(&sample), &edits);
        if let Ok(call) = from_protobuf::<pb::executor::Call>(&bytes) {
            executor_call(&call);
        }
    }

    #[test]
    fn torn_calls_of_an_operator_are_read_or_refused(
        sample in prop::sample::select(operator_calls()), edits in edits()
    ) {
        read::<pb::master::Call>(&edited(sample.to_string().into_bytes(), &edits));
        let _ = from_protobuf::<pb::master::Call>(&edited(
            protobuf::<pb::master::Call>(&sample), &edits,
        ));
    }

    #[test]
    fn torn_calls_about_containers_are_read_or_refused(
        sample in prop::sample::select(container_calls()), edits in edits()
    ) {
        let bytes = edited(sample.to_string().into_bytes(), &edits);
        if let Some(call) = read::<pb::agent::Call>(&bytes) {
            let _ = judge(&call);
        }
        let bytes = edited(protobuf::<pb::agent::Call>(&sample), &edits);
        if let Ok(call) = from_protobuf::<pb::agent::Call>(&bytes) {
            let _ = judge(&call);
        }
    }

    #[test]
    fn torn_streams_of_records_are_read_or_refused(
        sample in prop::collection::vec(prop::sample::select(container_calls()), 0..4),
        edits in edits(), cut in 0..1000usize
    ) {
        let all = sample.iter().flat_map(|one| framed(one.to_string().as_bytes()));
        let bytes = edited(all.collect(), &edits);
        let (first, second) = bytes.split_at(bytes.len() * cut / 1000);
        let mut pieces = Pieces::new(4096);
        if let Ok(records) = pieces.take(first) {
            let more = pieces.take(second).unwrap_or_default();
            for record in records.into_iter().chain(more) {
                prop_assert!(record.len() <= 4096);
                let _ = from_json::<pb::agent::Call>(&record);
            }
        }
    }

    #[test]
    fn what_a_request_shows_and_asks_is_read_or_refused(text in "\\PC{0,80}", scheme in "Basic |Bearer |") {
        let shown = hyper::header::HeaderValue::from_str(&format!("{scheme}{text}"));
        let known = crate::access::Credentials::default();
        prop_assert!(shown.is_err() || known.check(&shown.unwrap()).is_none());
        let _ = crate::access::realm(&text);
        let _ = crate::legacy::query(Some(&text));
    }
}
