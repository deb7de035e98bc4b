//! The board: every planted bug, and what finds it. A bug that nothing finds fails the test, as does
//! one that is not on the board.
//!
//! `MUTANT=Name` tries one bug against every trace and against lives, and prints all that find it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mesita_core::mutant::{Mutant, plant};

use crate::images::a_power_cut_at_every_point_leaves_the_state_before_or_after;
use crate::lives::life;
use crate::traces::TRACES;

/// What finds a bug.
enum By {
    /// A trace that ends otherwise.
    Trace(&'static str),
    /// One of the first so many lives.
    Lives(u64),
    /// Power cuts between what is written of one value and the next.
    Cuts,
}
use By::{Cuts, Lives, Trace};

const BOARD: &[(&str, By)] = &[
    ("SpeaksBeforeFsync", Lives(2)),
    ("VotesForTheStale", Lives(120)),
    ("VotesTwice", Lives(60)),
    ("OpensByOldWrites", Lives(2)),
    ("AcceptsTheOutvoted", Trace("data_is_judged_against_a_vote_that_is_still_being_written")),
    ("LeadsOn", Trace("a_candidate_that_accepts_data_of_its_epoch_is_none_any_more")),
    ("IgnoresTheBase", Lives(20)),
    ("AnswersEarly", Lives(2)),
    ("SmallQuorum", Lives(2)),
    ("NoQuarantine", Trace("a_snapshot_of_before_its_vote_is_noticed_by_who_remembers")),
    ("MergesBySequence", Lives(20)),
    ("EndlessLease", Lives(30)),
    ("HastyStart", Trace("a_start_in_isolation_is_no_lack_of_contact")),
    ("ResumesItsEpoch", Trace("a_leader_that_restarts_does_not_resume_its_epoch")),
    ("JudgesByTheDurable", Trace("data_is_judged_against_a_vote_that_is_still_being_written")),
    ("WritesWithoutBody", Trace("an_old_body_is_not_written_as_a_new_epoch")),
    ("SilentStart", Trace("the_whole_set_comes_back_after_its_power_went")),
    ("SuspectsItsPast", Trace("a_follower_that_restarts_for_ever_disturbs_nobody")),
    ("NeverBans", Trace("who_is_granted_and_does_not_vote_is_passed_over")),
    ("KeepsToItself", Trace("a_hub_is_enough")),
    ("ReignsWithoutWriting", Trace("a_leader_whose_stream_hangs_makes_way")),
    ("AsksDeaf", Trace("a_leader_that_nobody_hears_is_silent_and_then_none")),
    ("ForgetsQuarantine", Trace("a_snapshot_of_an_older_start_stays_in_quarantine_when_restarted")),
    ("TrustsTheAmnesiac", Trace("a_row_that_says_less_than_before_counts_for_nothing")),
    ("HoardingWitness", Trace("a_witness_hands_over_what_only_it_holds")),
    ("IgnoresTheHash", Trace("a_majority_of_another_hash_commits_nothing")),
    ("StaysCandidate", Trace("a_candidate_that_accepts_data_of_its_epoch_is_none_any_more")),
    ("CountsItselfEarly", Trace("a_leaders_own_copy_counts_when_it_is_on_disk")),
    ("TrustsTheNewT", Trace("leases_do_not_overlap_while_t_changes")),
    ("OutstaysItsRemoval", Trace("masters_are_added_and_removed_one_by_one")),
    ("PromotesTheLate", Trace("a_dead_disk_is_replaced")),
    ("IgnoresGenerations", Trace("a_higher_generation_ends_a_master_for_good")),
    ("VotesUnderALeader", Trace("nobody_votes_while_it_hears_a_leader")),
    ("AsksForEveryPiece", Trace("a_whole_registry_is_sent_about_once")),
    ("HearsEveryHistory", Trace("two_imports_of_one_generation_do_not_hear_each_other")),
    ("ClimbsUntilObeyed", Trace("the_only_master_is_not_elected_again_until_it_is_obeyed")),
    ("BlocksItself", Trace("a_master_is_not_removed_from_those_that_are_needed")),
    ("VotesFromNothing", Trace("an_empty_disk_does_not_vote")),
    ("SavesTheChangeApart", Cuts),
];

/// How a run ended, if not well.
fn fault_of(run: impl FnOnce()) -> Option<String> {
    let died = catch_unwind(AssertUnwindSafe(run)).err()?;
    let words = died.downcast_ref::<String>().cloned();
    let words = words.or_else(|| died.downcast_ref::<&str>().map(|text| (*text).to_string()));
    Some(words.unwrap_or_default().replace('\n', " "))
}

fn by_trace(trace: &str, mutant: Mutant) -> Option<String> {
    let (_, run) = TRACES.iter().find(|(name, _)| *name == trace).expect("a trace of that name");
    fault_of(|| run(mutant)).map(|how| format!("{trace}: {how:.80}"))
}

fn by_lives(lives: u64, mutant: Mutant) -> Option<String> {
    (1..=lives).find_map(|seed| {
        let how = fault_of(|| assert!(life(seed, 4, mutant).steps > 0))?;
        Some(format!("life {seed}: {how:.80}"))
    })
}

fn by_cuts(mutant: Mutant) -> Option<String> {
    plant(mutant);
    let found = fault_of(a_power_cut_at_every_point_leaves_the_state_before_or_after);
    plant(Mutant::None);
    found.map(|how| format!("a power cut: {how:.80}"))
}

fn of_election() -> impl Iterator<Item = &'static (&'static str, &'static str, Mutant)> {
    Mutant::ALL.iter().filter(|(_, _, mutant)| mutant.is_of_election())
}

/// The table of all planted bugs: `BLESS=1` writes it anew.
#[test]
fn the_table_of_planted_bugs_is_that_of_the_board() {
    let mut table = String::from("| planted bug | what it is | found by |\n|---|---|---|\n");
    for (name, what, _) in of_election() {
        let row = BOARD.iter().find(|(bug, _)| bug == name);
        let by = match row.map(|(_, by)| by) {
            Some(Trace(trace)) => format!("`{trace}`"),
            Some(Lives(lives)) => format!("the first {lives} lives"),
            Some(Cuts) => {
                "`a_power_cut_at_every_point_leaves_the_state_before_or_after`".to_string()
            }
            None => "nothing".to_string(),
        };
        table += &format!("| `{name}` |{what} | {by} |\n");
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/election/BOARD.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), table, "BLESS=1 writes it anew");
}

#[test]
fn every_planted_bug_is_found_by_what_the_board_says() {
    std::panic::set_hook(Box::new(|_| {}));
    let only = std::env::var("MUTANT").ok();
    let mut missed = vec![];
    for (name, _, mutant) in of_election() {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let row = BOARD.iter().find(|(bug, _)| bug == name);
        let found = match row {
            Some((_, Trace(trace))) => by_trace(trace, *mutant),
            Some((_, Lives(lives))) => by_lives(*lives, *mutant),
            Some((_, Cuts)) => by_cuts(*mutant),
            None => None,
        };
        println!("{name}: {}", found.as_deref().unwrap_or("NOT FOUND"));
        if found.is_none() {
            missed.push(*name);
        }
        if only.is_some() {
            let traces = TRACES.iter().filter_map(|(trace, _)| by_trace(trace, *mutant));
            traces.chain(by_lives(200, *mutant)).for_each(|found| println!("  {found}"));
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
    let _ = std::panic::take_hook();
}
