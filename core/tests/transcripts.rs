//! Protocol behaviour as prose: what was said to a master, and what it answered.
//!
//! Each file of `core/tests/transcripts/` is a conversation; `BLESS=1` writes the answers anew, to
//! be read before they are committed.

mod support;

use std::fmt::Write as _;
use std::path::Path;

use mesita_core::capacity::Capacity;
use support::rig::{Rig, config};

/// Answers of a master to the lines of a transcript; comments and empty lines stay.
fn answered(script: &str) -> String {
    let mut rig = Rig::new();
    let mut out = String::new();
    for line in script.lines() {
        if line.starts_with("  ") {
            continue;
        }
        writeln!(out, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        for said in rig.line(line) {
            writeln!(out, "{said}").unwrap();
        }
    }
    out
}

#[test]
fn masters_answer_as_the_transcripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let script = std::fs::read_to_string(&file).unwrap();
        let answered = answered(&script);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, answered).unwrap();
        } else {
            assert_eq!(script, answered, "{}", file.display());
        }
    }
}

#[test]
fn a_master_without_room_for_another_offer_rests_until_one_ends() {
    let mut rig = Rig::with(Capacity { offers: 1, ..Capacity::tiny() }, config(), 1);
    // After each of these the master must come to rest.
    for line in ["agent s1 cpus:4;mem:4096", "agent s2 cpus:4;mem:4096", "framework f1 *"] {
        rig.line(line);
    }
    let said = rig.line("decline f1 O0.0 1000s");
    assert!(said.iter().any(|line| line.contains("OFFERS")), "{said:?}");
}
