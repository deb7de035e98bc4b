//! Protocol behaviour as prose: what was said to a master, and what it answered.
//!
//! Each file of `core/tests/transcripts/` is a conversation; `BLESS=1` writes the answers anew, to
//! be read before they are committed.

mod support;

use std::fmt::Write as _;
use std::path::Path;

use mesita_core::capacity::Capacity;
use mesita_core::master::Config;
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

#[test]
fn frameworks_of_one_caller_hold_no_more_offers_than_it_may() {
    let capped = Config { offers_per_caller_max: 2, ..config() };
    let mut rig = Rig::with(Capacity { offers: 16, ..Capacity::tiny() }, capped, 1);
    let offers = |said: &[String], to: &str| {
        let to = format!("-> {to}: OFFERS");
        said.iter()
            .filter(|line| line.contains(&to))
            .map(|line| line.matches(" O").count() - 1)
            .sum::<usize>()
    };
    for number in 1..=5 {
        rig.line(&format!("agent s{number} cpus:4;mem:4096"));
    }
    // After each of these the master must come to rest.
    let said = rig.line("framework f1 *");
    assert_eq!(offers(&said, "f1"), 2, "{said:?}");
    let said = rig.line("framework f2 *");
    assert_eq!(offers(&said, "f2"), 0, "of the same caller: {said:?}");
    let said = rig.line("framework f3 * root");
    assert_eq!(offers(&said, "f3"), 2, "of another one: {said:?}");
    assert_eq!(rig.drive.front().gauges().offers, 4);
    // Reviving is no way around it.
    let said = rig.line("revive f1");
    assert_eq!(offers(&said, "f1") + offers(&said, "f2"), 0, "{said:?}");
    // One that is answered makes room for one, of whichever of its frameworks is next.
    let said = rig.line("decline f1 O0.0 1000s");
    assert_eq!(offers(&said, "f1") + offers(&said, "f2"), 1, "{said:?}");
    assert_eq!(rig.drive.front().gauges().offers, 4);
    assert!(rig.drive.front().gauges().capped >= 2);
    // So does one that ends by itself.
    let said = rig.line("wait 61s");
    assert!(offers(&said, "f1") + offers(&said, "f2") >= 2, "{said:?}");
    assert_eq!(rig.drive.front().gauges().offers, 4);
}

/// What would be more than its stream may hold waits for the reader, and is told once.
#[test]
fn a_scheduler_whose_stream_is_half_full_is_told_of_all_tasks_when_it_has_read() {
    let mut rig = Rig::with(Capacity::tiny(), config(), 1);
    rig.line("framework f1 *");
    rig.line("agent s1 cpus:4;mem:4096");
    rig.line("accept f1 O0.0 a=cpus:1;mem:128 b=cpus:1;mem:128");
    let told = |said: &[String]| said.iter().filter(|line| line.contains("UPDATE")).count();
    // After each of these the master must come to rest.
    rig.line("congested f1");
    assert_eq!(told(&rig.line("reconcile f1")), 0, "it reads nothing now");
    assert_eq!(told(&rig.line("congested f1")), 0);
    assert_eq!(told(&rig.line("drained f1")), 2);
    assert_eq!(told(&rig.line("drained f1")), 0);
    // One that comes by another stream is not kept waiting by the one before.
    rig.line("congested f1");
    rig.line("reconcile f1");
    rig.line("framework f1 *");
    assert_eq!(told(&rig.line("reconcile f1")), 2);
}

#[test]
fn no_answer_to_an_offer_makes_a_step_say_more_than_its_bound() {
    let mut rig = Rig::with(Capacity::tiny(), config(), 1);
    for line in ["agent s1 cpus:4;mem:4096", "framework f1 *"] {
        rig.line(line);
    }
    // As small as tasks are, and each is refused in a sentence.
    let tasks = "t= ".repeat(250) + "destroy=disk%db(~web!p):1 ";
    let said = rig.line(&format!("accept f1 O9.9 {}", tasks.repeat(10)));
    assert_eq!((said.len(), said[0].trim()), (1, "refused: Malformed"));
    let said = rig.line(&format!("accept f1 O9.9 {tasks}"));
    assert_eq!(said.len(), 250 + 1);
}
