//! The bytes of every message, release by release. A released byte never changes its meaning.
//!
//! `core/tests/golden/` has a file for each protocol version, with a line for each message that came
//! with it: name, version, bytes. `BLESS=1` appends what is missing to the newest one and refuses
//! to change what is: a difference is a broken wire. Older files stay as they are for ever.

#[path = "support/samples.rs"]
mod samples;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use mesita_core::limits::{VERSION_MAX, VERSION_MIN};
use mesita_core::wire::{Fault, Head, decode, encode};

/// The messages that came with a version; the first ones are in the file of version 2.
fn golden_file(version: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}.txt"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn encoded(head: &Head<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 65_536];
    encode(head, &mut bytes).unwrap().to_vec()
}

fn recorded() -> BTreeMap<String, (u16, String)> {
    let files = (2..=VERSION_MAX).map(|version| std::fs::read_to_string(golden_file(version)));
    let text: String = files.map(Result::unwrap_or_default).collect();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_default().to_string();
            let name = word();
            (name, (word().parse().unwrap(), word()))
        })
        .collect()
}

#[test]
fn every_message_has_the_bytes_of_its_release() {
    let recorded = recorded();
    let mut missing = String::new();
    for (name, head) in samples::all() {
        let bytes = encoded(&head);
        match recorded.get(name) {
            Some((since, golden)) => {
                assert_eq!(&hex(&bytes), golden, "{name} is not what was released");
                assert_eq!(*since, head.since(), "{name}");
            }
            None => writeln!(missing, "{name} {} {}", head.since(), hex(&bytes)).unwrap(),
        }
    }
    if std::env::var_os("BLESS").is_some() {
        let newest = golden_file(VERSION_MAX);
        let mut text = std::fs::read_to_string(&newest).unwrap_or_default();
        text.push_str(&missing);
        std::fs::write(newest, text).unwrap();
    } else {
        assert!(missing.is_empty(), "not recorded (BLESS=1 appends them):\n{missing}");
    }
}

#[test]
fn every_recorded_message_is_still_understood() {
    let samples: BTreeMap<_, _> = samples::all().into_iter().collect();
    for (name, (_, golden)) in recorded() {
        let bytes = unhex(&golden);
        let head: Head<'_> = decode(&bytes).unwrap_or_else(|bad| panic!("{name}: {bad}"));
        assert_eq!(format!("{head:?}"), format!("{:?}", samples[name.as_str()]), "{name}");
    }
}

#[test]
fn a_message_cut_short_or_going_on_is_refused_whatever_it_is() {
    for (name, head) in samples::all() {
        let mut bytes = encoded(&head);
        for len in 0..bytes.len() {
            assert!(decode::<Head<'_>>(&bytes[..len]).is_err(), "{name} cut to {len}");
        }
        bytes.push(0);
        let refused = decode::<Head<'_>>(&bytes).unwrap_err();
        assert_eq!(refused.fault, Fault::TrailingBytes, "{name}");
    }
}

#[test]
fn a_variant_of_a_later_release_is_refused_by_name() {
    for bytes in [
        &[12u8, 0][..],
        &[1, 8],
        &[2, 4],
        &[3, 1, 7, 0, 19],
        &[4, 13],
        &[5, 14],
        &[6, 19],
        &[9, 0, 12],
        &[10, 1],
        &[11, 9],
        &[11, 1, 3],
    ] {
        let refused = decode::<Head<'_>>(bytes).unwrap_err();
        assert_eq!(refused.fault, Fault::Unknown, "{bytes:?}");
    }
}

#[test]
fn a_peer_of_the_release_before_is_sent_nothing_that_it_does_not_know() {
    let newer: Vec<_> =
        samples::all().into_iter().filter(|(_, head)| head.since() > VERSION_MIN).collect();
    assert!(newer.iter().all(|(_, head)| head.since() <= VERSION_MAX));
    let names = newer.iter().map(|(name, _)| *name);
    let known = |name: &str| {
        let later = [
            "operator.",
            "svc.open.charter",
            "svc.open.explain",
            "svc.open.rekey",
            "svc.open.follow",
            "svc.open.rows.",
            "svc.open.store.",
            "gossip.",
        ];
        matches!(
            name,
            "event.waiting"
                | "call.accept_part"
                | "call.constrain"
                | "agent.draining"
                | "agent.leaving"
                | "agent.ran"
                | "agent.told"
                | "agent.event.describe_framework"
                | "agent.event.reactivate"
                | "link.prove"
                | "link.masters"
                | "link.splice"
                | "link.called"
                | "agent.event.reconcile_operations"
        ) || later.iter().any(|begin| name.starts_with(begin))
    };
    assert!(
        names.clone().count() == 51 && names.clone().all(known),
        "{:?}",
        names.collect::<Vec<_>>()
    );
}

#[test]
fn no_mutation_of_a_message_makes_the_decoder_stumble() {
    // Each byte of each message, set to each of a few values that reach far: every answer is a
    // value or a refusal, and a value is one that can be written again.
    for (name, head) in samples::all() {
        let bytes = encoded(&head);
        for at in 0..bytes.len() {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(1)] {
                let mut bad = bytes.clone();
                bad[at] = value;
                if let Ok(head) = decode::<Head<'_>>(&bad) {
                    assert!(!encoded(&head).is_empty(), "{name} at {at} = {value}");
                }
            }
        }
    }
}

#[test]
fn an_offer_is_small() {
    let mut bytes = [0; 128];
    let offer = encode(&samples::usual_offer(), &mut bytes).unwrap().len();
    assert!(offer <= 32, "{offer} bytes");
    let status = encode(&samples::usual_status(), &mut bytes).unwrap().len();
    assert!(status <= 24, "{status} bytes");
}
