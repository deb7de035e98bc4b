//! The board: every bug planted in masters and agents, which promise it breaks, and in how many lives
//! that shows. One that is not found fails the test, as does one that is not on the board.
//!
//! `MUTANT=Name` tries one against three hundred lives, and prints which of them find it.

use mesita_core::mutant::{Mutant, plant};

use crate::plan::{Plan, live};

/// A bug, the promise that it breaks, and the number of lives of which one finds it.
const BOARD: &[(&str, &str, u64)] = &[
    ("FreesWhatRuns", "C1", 4),
    ("StartsAgain", "C2", 4),
    ("ObeysAnyWord", "C3", 60),
    ("OffersTheClosed", "C4", 20),
    ("EndsOffersTwice", "C5", 4),
    ("TellsForgottenEnds", "C6", 4),
    ("KeepsEndsToItself", "C7", 20),
    ("TellsBeforeTheDisk", "C6", 4),
    ("LosesTheEnded", "C7", 300),
    ("GivesUpEarly", "C8", 60),
    ("ReportsTooLittle", "C9", 20),
    ("LetsItLieIdle", "C10", 4),
    ("IgnoresLimits", "C11", 60),
    ("NeverRests", "C12", 20),
];

fn of_cluster() -> impl Iterator<Item = &'static (&'static str, &'static str, Mutant)> {
    Mutant::ALL.iter().filter(|(_, _, mutant)| !mutant.is_of_election())
}

/// The first life of so many that shows the bug, and how.
fn found(mutant: Mutant, lives: u64) -> Option<String> {
    plant(mutant);
    let found = (1..=lives).find_map(|seed| {
        let how = Plan::of(seed).fault(|plan| drop(live(plan)))?;
        Some(format!("life {seed}: {how:.120}"))
    });
    plant(Mutant::None);
    found
}

#[test]
#[ignore = "takes minutes: ci/sim"]
fn every_planted_bug_is_found_by_what_the_board_says() {
    std::panic::set_hook(Box::new(|_| {}));
    let only = std::env::var("MUTANT").ok();
    let mut missed = vec![];
    for (name, _, mutant) in of_cluster() {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let row = BOARD.iter().find(|(bug, ..)| bug == name);
        let lives = if only.is_some() { 300 } else { row.map_or(0, |(_, _, lives)| *lives) };
        let found = found(*mutant, lives);
        println!("{name}: {}", found.as_deref().unwrap_or("NOT FOUND"));
        if found.is_none() {
            missed.push(*name);
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// The table of all planted bugs: `BLESS=1` writes it anew.
#[test]
fn the_table_of_planted_bugs_is_that_of_the_board() {
    let mut table =
        String::from("| planted bug | what it is | breaks | found by |\n|---|---|---|---|\n");
    for (name, what, _) in of_cluster() {
        let row = BOARD.iter().find(|(bug, ..)| bug == name);
        let (breaks, lives) = row.map_or(("nothing", 0), |(_, breaks, lives)| (*breaks, *lives));
        table += &format!("| `{name}` |{what} | {breaks} | the first {lives} lives |\n");
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/BOARD.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), table, "BLESS=1 writes it anew");
}
