//! The board: every planted bug must be found, by a life or by the trace that is named after it.
//!
//! `MUTANT=Name` runs one of them against everything and prints all that find it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mesita_core::election::mutant::Mutant;

use crate::lives::life;
use crate::traces::TRACES;

/// Lives that a planted bug may take to be found.
const LIVES: u64 = 120;

fn words_of(run: impl FnOnce()) -> Option<String> {
    let died = catch_unwind(AssertUnwindSafe(run)).err()?;
    let words = died.downcast_ref::<String>().cloned();
    Some(words.or_else(|| died.downcast_ref::<&str>().map(|s| (*s).to_string())).unwrap_or_default())
}

#[test]
fn every_planted_bug_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let only = std::env::var("MUTANT").ok();
    for (name, mutant) in Mutant::ALL {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        for (trace, run) in TRACES {
            let began = std::time::Instant::now();
            if let Some(how) = words_of(|| run(*mutant)) {
                let how = how.replace('\n', " ");
                println!("{name}: trace {trace} {:.1} s: {how:.90}", began.elapsed().as_secs_f64());
            }
        }
        let began = std::time::Instant::now();
        let found = (1..=LIVES).find_map(|seed| Some((seed, words_of(|| { life(seed, 4, *mutant); })?)));
        let wall = began.elapsed().as_secs_f64();
        match found {
            Some((seed, how)) => println!("{name}: life {seed}, {wall:.1} s: {:.90}", how.replace('\n', " ")),
            None => println!("{name}: NOT FOUND in {LIVES} lives, {wall:.1} s"),
        }
    }
}
