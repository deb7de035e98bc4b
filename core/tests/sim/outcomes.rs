//! What becomes of a task when its agent is cut off, its machine starts again, its framework replaces
//! it and all of it is over: every combination, with the real master, agents and driver. The rows are
//! the table in `docs/outcomes.md`: `BLESS=1` writes it.

use std::fmt::Write as _;

use mesita_core::wire::task::{Copies, Restart, RestartRule, TaskState, UnknownAge};

use crate::cluster::Cluster;

const SECOND: u64 = 1_000_000;
const STOP_US: u64 = 20 * SECOND;
const LOST_US: u64 = 40 * SECOND;
const BEGINS: &str =
    "<!-- rows: written by `BLESS=1 cargo test -p mesita-core --test sim outcomes` -->\n";

/// How long its agent is cut off: not at all, for less than the agent timeout, for far longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    No,
    Short,
    Long,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    rule: RestartRule,
    copies: Copies,
    stops: bool,
    cut: Cut,
    reboots: bool,
    replaces: bool,
}

struct Outcome {
    /// Lives when the cut is about to end, and a minute after all is over.
    before: Vec<String>,
    after: Vec<String>,
    most: usize,
    told: TaskState,
}

fn cases() -> Vec<Case> {
    let rules = [
        (RestartRule::Never, Copies::Exclusive),
        (RestartRule::Always, Copies::Exclusive),
        (RestartRule::Always, Copies::Availability),
    ];
    let mut all = Vec::new();
    for (rule, copies) in rules {
        for stops in [false, true] {
            for cut in [Cut::No, Cut::Short, Cut::Long] {
                for reboots in [false, true] {
                    for replaces in [false, true] {
                        // Nobody replaces what was not told as unreachable.
                        if cut == Cut::Long || !replaces {
                            all.push(Case { rule, copies, stops, cut, reboots, replaces });
                        }
                    }
                }
            }
        }
    }
    all
}

fn live(case: &Case) -> Outcome {
    let restart = Restart {
        rule: case.rule,
        copies: case.copies,
        stop_after_us: if case.stops { STOP_US } else { 0 },
        lost_after_us: LOST_US,
        unknown: match case.copies {
            Copies::Availability => UnknownAge::Start,
            Copies::Exclusive => UnknownAge::Hold,
        },
        ..Restart::default()
    };
    let mut cluster = Cluster::scripted(2);
    cluster.go(5 * SECOND);
    cluster.launch_on("task", 0, restart);
    cluster.go(5 * SECOND);
    assert_eq!(cluster.live(), ["task"], "{case:?}");
    if case.cut != Cut::No {
        cluster.cut_off(0);
    }
    cluster.go(SECOND);
    if case.reboots {
        cluster.loses_power(0);
    }
    match case.cut {
        Cut::No => cluster.go(20 * SECOND),
        Cut::Short => cluster.go(4 * SECOND),
        Cut::Long => {
            cluster.go(LOST_US);
            assert_eq!(cluster.told("task"), TaskState::Unreachable, "{case:?}");
            if case.replaces {
                cluster.launch_on("other", 1, restart);
            }
            cluster.go(60 * SECOND);
        }
    }
    let before = cluster.live();
    cluster.reach(0);
    cluster.go(30 * SECOND);
    cluster.asks();
    cluster.go(30 * SECOND);
    let (after, most, told) = (cluster.live(), cluster.most(), cluster.told("task"));
    Outcome { before, after, most, told }
}

/// What must be so, whatever the rest.
fn check(case: &Case, outcome: &Outcome) {
    let Outcome { before, after, most, told } = outcome;
    let shown = format!("{case:?}: {before:?}, then {after:?}, at most {most}, told {told:?}");
    if case.copies == Copies::Exclusive && case.stops {
        assert!(*most <= 1, "two at once: {shown}");
    }
    assert!(*most <= 1 || case.replaces, "two without a replacement: {shown}");
    let runs = after.contains(&"task".to_owned());
    assert_eq!(runs, *told == TaskState::Running, "told otherwise: {shown}");
    let over = told.is_terminal() || *told == TaskState::Unknown;
    assert!(runs || over, "nobody was told its end: {shown}");
    if case.replaces {
        assert!(after.contains(&"other".to_owned()), "the replacement is gone: {shown}");
    }
    if case.copies == Copies::Availability {
        let offline = case.cut == Cut::Long && !case.stops;
        assert!(!offline || before.contains(&"task".to_owned()), "not autonomous: {shown}");
        assert!(runs, "{shown}");
    }
}

fn row(case: &Case, outcome: &Outcome) -> String {
    let rule = match (case.rule, case.copies) {
        (RestartRule::Never, _) => "never",
        (_, Copies::Exclusive) => "always, exclusive",
        (_, Copies::Availability) => "always, availability",
    };
    let cut = match case.cut {
        Cut::No => "no",
        Cut::Short => "short",
        Cut::Long => "long",
    };
    let yes = |is: bool| if is { "yes" } else { "no" };
    let names = |all: &[String]| {
        let shown: Vec<&str> =
            all.iter().map(|name| if name == "task" { "it" } else { "the other" }).collect();
        if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
    };
    format!(
        "| {rule} | {} | {cut} | {} | {} | {} | {} | {} | {} |\n",
        yes(case.stops),
        yes(case.reboots),
        yes(case.replaces),
        names(&outcome.before),
        names(&outcome.after),
        outcome.most,
        outcome.told.name(),
    )
}

#[test]
fn every_combination_comes_out_as_the_table_says() {
    let mut table = String::from(
        "| rule | stops | cut off | reboot | replaced | lives before the heal | lives after | most at once | told of it |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for case in cases() {
        let outcome = live(&case);
        check(&case, &outcome);
        let _ = write!(table, "{}", row(&case, &outcome));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/outcomes.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (intro, rows) = text.split_once(BEGINS).unwrap();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, format!("{intro}{BEGINS}{table}")).unwrap();
    } else {
        assert_eq!(rows, table, "{path} tells otherwise; BLESS=1 writes it");
    }
}
