//! Figures of decisions, as lines of JSON, and of a whole cluster, as lines of text.
//!
//! `mesita-benches CASE [--agents N] [--frameworks N] [--quick]` runs a case of the allocator's,
//! `list` names them; `results FILE DIRECTORY` makes a page and a plot of what they printed.
//! `reregister [AGENTS]` is about a master's core. `mesita-benches [--binary PATH] footprint [SECONDS]`,
//! `idle [SECONDS]`, `launches [TASKS]`, `resident`, `load [SECONDS]`, `failover [TRIALS] [TIMING]` and `rejoin
//! [AGENTS]` and `tls [HANDSHAKES]` need a binary, `target/dist/mesita` if not given, which `ci/dist` builds.

use std::path::PathBuf;
use std::process::ExitCode;

use mesita_benches::allocation::{self, Size};
use mesita_benches::{
    Counting, codec, failover, footprint, idle, launches, load, reregister, resident, results, tls,
};

// So that a5 can tell that nothing is allocated.
#[global_allocator]
static HEAP: Counting = Counting;

const USAGE: &str = "usage: mesita-benches CASE [--agents N] [--frameworks N] [--quick] | list | results FILE DIRECTORY | reregister [AGENTS]\n       \
                     mesita-benches [--binary PATH] footprint [SECONDS] | idle [SECONDS] | launches [TASKS] | resident | load [SECONDS] | \
                     failover [TRIALS] [fast|default|slow] | rejoin [AGENTS] | tls [HANDSHAKES]";

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let mut binary = PathBuf::from("target/dist/mesita");
    if words.first().is_some_and(|word| word == "--binary") && words.len() > 1 {
        binary = PathBuf::from(words.remove(1));
        words.remove(0);
    }
    if words.first().is_some_and(|word| word == "list") {
        allocation::CASES.iter().for_each(|(name, about)| println!("{name}  {about}"));
        return ExitCode::SUCCESS;
    }
    if let Some(case) = words.first()
        && let Ok(size) = size(words.get(1..).unwrap_or_default())
        && allocation::run(case, size)
    {
        return ExitCode::SUCCESS;
    }
    if let [word, deed, times] = words.as_slice()
        && word == "again"
        && codec::DEEDS.contains(&deed.as_str())
        && let Ok(times) = times.parse()
    {
        codec::again(deed, times);
        return ExitCode::SUCCESS;
    }
    if let [word, lines, directory] = words.as_slice()
        && word == "results"
    {
        return match write_results(lines, directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("mesita-benches: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let number = |default: u64| words.get(1).map_or(Ok(default), |word| word.parse());
    let result = match words.first().map(String::as_str) {
        Some("footprint") => number(60).map(|seconds| footprint::print(&binary, seconds)),
        Some("launches") => number(200).map(|tasks| launches::print(&binary, tasks)),
        Some("resident") => Ok(resident::print(&binary)),
        Some("load") => number(20).map(|seconds| load::print(&binary, seconds)),
        Some("idle") => number(600).map(|seconds| idle::print(&binary, seconds)),
        Some("reregister") => number(10_000)
            .map(|agents| reregister::print(u32::try_from(agents).unwrap_or(u32::MAX))),
        Some("rejoin") => number(1_000)
            .map(|agents| load::rejoin::print(&binary, u32::try_from(agents).unwrap_or(u32::MAX))),
        Some("tls") => number(500).map(|handshakes| tls::print(&binary, handshakes)),
        Some("failover") => {
            let timing = words.get(2).map_or("default", String::as_str);
            number(50).map(|trials| failover::print(&binary, timing, trials))
        }
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

/// Writes `RESULTS.md` and `cycle.svg` of the lines in a file.
fn write_results(lines: &str, directory: &str) -> std::io::Result<()> {
    let lines = std::fs::read_to_string(lines)?;
    let directory = std::path::Path::new(directory);
    std::fs::write(directory.join("RESULTS.md"), results::page(&lines))?;
    std::fs::write(directory.join("cycle.svg"), results::plot(&lines))
}

/// What a case is run with.
fn size(words: &[String]) -> Result<Size, ()> {
    let mut size = Size::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or(());
        match word.as_str() {
            "--agents" => size.agents = Some(number()?),
            "--frameworks" => size.frameworks = Some(number()?),
            "--quick" => size.quick = true,
            _ => return Err(()),
        }
    }
    Ok(size)
}
