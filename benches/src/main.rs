//! Figures of a whole cluster, as lines of text.
//!
//! `mesita-benches [--binary PATH] footprint [SECONDS]` and
//! `mesita-benches [--binary PATH] launches [TASKS]`; the binary is `target/dist/mesita` if not
//! given, which `ci/dist` builds.

use std::path::PathBuf;
use std::process::ExitCode;

use mesita_benches::{footprint, launches};

const USAGE: &str = "usage: mesita-benches [--binary PATH] footprint [SECONDS] | launches [TASKS]";

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let mut binary = PathBuf::from("target/dist/mesita");
    if words.first().is_some_and(|word| word == "--binary") && words.len() > 1 {
        binary = PathBuf::from(words.remove(1));
        words.remove(0);
    }
    let number = |default: u64| words.get(1).map_or(Ok(default), |word| word.parse());
    let result = match words.first().map(String::as_str) {
        Some("footprint") => number(60).map(|seconds| footprint::print(&binary, seconds)),
        Some("launches") => number(200).map(|tasks| launches::print(&binary, tasks)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("mesita-benches: {}: {error}", binary.display());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("mesita-benches: a number is wanted: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
