//! Samples, torn and mended at random.
//!
//! Each property begins with real input and edits it a few times, so that much of it is nearly right.
//! `PROPTEST_CASES` says how often; `ci/any_input` does it a million times.

use proptest::prelude::*;

use super::samples::{container_calls, executor_calls, operator_calls, scheduler_calls};
use super::*;

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
        let bytes = edited(encoded::<pb::scheduler::Call>(&sample), &edits);
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
        let bytes = edited(encoded::<pb::executor::Call>(&sample), &edits);
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
            encoded::<pb::master::Call>(&sample), &edits,
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
        let bytes = edited(encoded::<pb::agent::Call>(&sample), &edits);
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
        let _ = crate::access::realm("agent", &text);
        let _ = crate::legacy::query(Some(&text));
    }
}

#[test]
fn what_is_fuzzed_begins_from_what_is_understood() {
    for (target, bytes) in seeds() {
        match target {
            "json" => json(&bytes),
            "protobuf" => protobuf(&bytes),
            "records" => records(&bytes),
            "frames" => frames(&bytes),
            _ => http(&bytes),
        }
    }
}
