//! The board: every planted bug must be found, by a life or by the trace that is named after it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mesita_core::election::mutant::Mutant;

use crate::lives::life;

/// Lives that a planted bug may take to be found.
const LIVES: u64 = 400;

/// The first life that a bug does not survive, and how it ends.
fn found(mutant: Mutant) -> Option<(u64, String)> {
    (1..=LIVES).find_map(|seed| {
        let died = catch_unwind(AssertUnwindSafe(|| life(seed, 4, mutant))).err()?;
        let words = died.downcast_ref::<String>().cloned();
        let words = words.or_else(|| died.downcast_ref::<&str>().map(|s| (*s).to_string()));
        Some((seed, words.unwrap_or_default()))
    })
}

#[test]
fn every_planted_bug_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let only = std::env::var("MUTANT").ok();
    for (name, mutant) in Mutant::ALL {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let began = std::time::Instant::now();
        let found = found(*mutant);
        let wall = began.elapsed().as_secs_f64();
        match found {
            Some((seed, how)) => println!("{name}: life {seed}, {wall:.1} s: {how:.110}"),
            None => println!("{name}: NOT FOUND in {LIVES} lives, {wall:.1} s"),
        }
    }
}
