//! The board: every bug planted in masters, agents and what is between them, which promise it breaks, and in how many lives
//! that shows, or in which story: a life made for it, where chance would take too long, or which test. One that is not
//! found fails the test, as does one that is not on the board.
//!
//! `MUTANT=Name` tries one against three hundred lives, and prints which of them find it.

use mesita_core::mutant::{Mutant, plant};

use By::{Lives, Story, Trace};

use crate::cluster::faults::{Fault, When};
use crate::ledgers;
use crate::outcomes;
use crate::plan::{Plan, live};

const SECOND: u64 = 1_000_000;

/// What finds a bug.
#[derive(Clone, Copy)]
enum By {
    /// One of so many lives.
    Lives(u64),
    /// A life of its own, by its name.
    Story(&'static str, fn() -> Plan),
    /// A test that ends otherwise.
    Trace(&'static str, fn()),
}

/// A bug, the promise that it breaks, and what finds it.
const BOARD: &[(&str, &str, By)] = &[
    ("FreesWhatRuns", "C1", Lives(4)),
    ("StartsAgain", "C2", Lives(4)),
    ("ObeysAnyWord", "C3", Lives(120)),
    ("OffersTheClosed", "C4", Lives(20)),
    ("EndsOffersTwice", "C5", Lives(4)),
    ("TellsForgottenEnds", "C6", Lives(4)),
    ("KeepsEndsToItself", "C7", Lives(20)),
    ("TellsBeforeTheDisk", "C6", Lives(4)),
    ("LosesTheEnded", "C7", Story(UNHEARD, ends_that_nobody_acknowledges)),
    ("GivesUpEarly", "C8", Lives(60)),
    ("ReportsTooLittle", "C9", Lives(20)),
    ("LetsItLieIdle", "C10", Lives(4)),
    ("IgnoresLimits", "C11", Lives(60)),
    ("NeverRests", "C12", Lives(20)),
    ("SleepsWithoutLook", "C12", Lives(4)),
    ("LosesCutEnds", "C9", Lives(4)),
    ("LosesCutRecords", "C9", Lives(4)),
    ("OvertakesWhatWaits", "C12", Lives(20)),
    ("StartsWithoutWord", "C2", Lives(60)),
    ("SettlesUnsynced", "C9", Story(AWAY, frameworks_that_are_removed)),
    ("CountsItsTimeAnew", "C12", Lives(60)),
    (
        "BeginsWhatHadEnded",
        "C7",
        Trace(
            "a_task_that_has_ended_stays_so_wherever_the_new_ledger_breaks_off",
            ledgers::a_task_that_has_ended_stays_so_wherever_the_new_ledger_breaks_off,
        ),
    ),
    (
        "ForgetsItWasOff",
        "C2",
        Trace(
            "a_ledger_written_anew_knows_that_the_machine_was_off",
            ledgers::a_ledger_written_anew_knows_that_the_machine_was_off,
        ),
    ),
    ("EndsItsLedgerEarly", "C9", Lives(60)),
    ("StartsUnasked", "C2", Lives(60)),
    ("GivesTasksAgain", "C2", Lives(20)),
    ("ConfirmsTheUnwritten", "C6", Lives(60)),
    (
        "TellsOnUnwritten",
        "C6",
        Trace(
            "what_follows_is_told_when_the_acknowledgement_before_is_written",
            outcomes::what_follows_is_told_when_the_acknowledgement_before_is_written,
        ),
    ),
    ("TrustsASavedClock", "C2", Lives(20)),
    (
        "TakesAnyPair",
        "C2",
        Trace("a_pair_that_cannot_hold_is_refused", outcomes::a_pair_that_cannot_hold_is_refused),
    ),
];

const UNHEARD: &str = "agents are given up while ends wait for their acknowledgement";

/// A scheduler is told of ends and cannot acknowledge them; before it is heard again, every agent falls
/// asleep, and is given up. Again and again.
fn ends_that_nobody_acknowledges() -> Plan {
    let agents = 4;
    let mut plan = Plan { lasts: 400 * SECOND, ..Plan::quiet(7, 1, agents, 2) };
    for round in 0..4 {
        let at = (20 + 90 * round) * SECOND;
        for framework in 0..2 {
            let fault = Fault::SilenceFramework { framework, us: 8 * SECOND };
            plan.faults.push((0, at, When::Told, fault));
        }
        for agent in 0..agents {
            let fault = Fault::PauseAgent { agent, us: 40 * SECOND };
            plan.faults.push((0, at + 4 * SECOND, When::Now, fault));
        }
    }
    for (number, fault) in plan.faults.iter_mut().enumerate() {
        fault.0 = number;
    }
    plan
}

const AWAY: &str = "frameworks are removed while an agent of theirs is away";

/// Tasks end, or run on, on an agent that is cut off while their framework is removed; it comes back to
/// the same master, and is told to kill and to forget. Again and again.
fn frameworks_that_are_removed() -> Plan {
    let mut plan = Plan { lasts: 100 * SECOND, ..Plan::quiet(7, 1, 2, 4) };
    for framework in 1..4 {
        let at = 20 * framework as u64 * SECOND;
        let silence = |agent| Fault::Silence { agent, us: 9 * SECOND };
        for (after, fault) in [(0, silence(0)), (0, silence(1)), (1, Fault::Teardown(framework))] {
            plan.faults.push((plan.faults.len(), at + after * SECOND, When::Now, fault));
        }
    }
    plan
}

#[test]
fn a_story_ends_well_and_finds_its_bug() {
    for (name, _, mutant) in of_cluster() {
        let row = BOARD.iter().find(|(bug, ..)| bug == name);
        let Some((_, _, by @ (Story(story, _) | Trace(story, _)))) = row else { continue };
        // A test is one by itself.
        if let Story(_, plan) = by {
            assert_eq!(plan().fault(|plan| drop(live(plan))), None, "{story}");
        }
        assert!(found(*mutant, *by).is_some(), "{story}: {name} is not found");
    }
}

fn of_cluster() -> impl Iterator<Item = &'static (&'static str, &'static str, Mutant)> {
    Mutant::ALL.iter().filter(|(_, _, mutant)| !mutant.is_of_election())
}

/// The first life that shows the bug, and how.
fn found(mutant: Mutant, by: By) -> Option<String> {
    plant(mutant);
    let how = |plan: Plan| plan.fault(|plan| drop(live(plan)));
    let found = match by {
        Lives(lives) => (1..=lives).find_map(|seed| {
            let how = how(Plan::of(seed))?;
            Some(format!("life {seed}: {how:.120}"))
        }),
        Story(name, plan) => how(plan()).map(|how| format!("{name}: {how:.120}")),
        Trace(name, test) => {
            let how = Plan::quiet(0, 1, 0, 0).fault(|_| test());
            how.map(|how| format!("{name}: {how:.120}"))
        }
    };
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
        let by = if only.is_some() { Lives(300) } else { row.map_or(Lives(0), |(_, _, by)| *by) };
        let found = found(*mutant, by);
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
        let (breaks, by) = row.map_or(("nothing", Lives(0)), |(_, breaks, by)| (*breaks, *by));
        let by = match by {
            Lives(lives) => format!("the first {lives} lives"),
            Story(name, _) => format!("a life in which {name}"),
            Trace(name, _) => format!("`{name}`"),
        };
        table += &format!("| `{name}` |{what} | {breaks} | {by} |\n");
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/BOARD.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), table, "BLESS=1 writes it anew");
}
