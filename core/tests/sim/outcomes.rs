//! What becomes of a task when its agent is cut off, its machine starts again, its framework replaces
//! it and all of it is over: every combination, with the real master, agents and driver. The rows are
//! the table in `docs/outcomes.md`: `BLESS=1` writes it.

use std::fmt::Write as _;

use mesita_core::wire::AgentId;
use mesita_core::wire::task::{
    Copies, Launch, OnReturn, Restart, RestartRule, TaskState, UnknownAge,
};

use crate::cluster::Cluster;
use crate::support::rig::Rig;

const MILLI: u64 = 1_000;
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

/// What starts anew while it is cut off: nothing, its agent alone, or its machine and so the original,
/// before or after it is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anew {
    No,
    Agent,
    Before,
    After,
}

/// Two of one id meet.
#[derive(Clone, Copy, Debug)]
struct Meeting {
    stays: OnReturn,
    rule: RestartRule,
    anew: Anew,
}

/// The original is on agent 0, what replaced it on agent 1.
struct Met {
    before: Vec<usize>,
    after: Vec<usize>,
    most: usize,
    told: TaskState,
}

fn meetings() -> Vec<Meeting> {
    let words = [
        OnReturn::Unsaid,
        OnReturn::KeepReplacement,
        OnReturn::KeepOriginal,
        OnReturn::LongestRunning,
    ];
    let mut all = Vec::new();
    for stays in words {
        for rule in [RestartRule::Never, RestartRule::Always] {
            for anew in [Anew::No, Anew::Agent, Anew::Before, Anew::After] {
                all.push(Meeting { stays, rule, anew });
            }
        }
    }
    all
}

fn meet(case: &Meeting) -> Met {
    let (copies, unknown) = match case.rule {
        RestartRule::Never => (Copies::Exclusive, UnknownAge::Hold),
        RestartRule::OnFailure | RestartRule::Always => (Copies::Availability, UnknownAge::Start),
    };
    let (rule, on_return) = (case.rule, case.stays);
    let restart = Restart { rule, copies, unknown, on_return, ..Restart::default() };
    let mut cluster = Cluster::scripted(2);
    cluster.go(5 * SECOND);
    cluster.launch_on("task", 0, restart);
    cluster.go(5 * SECOND);
    cluster.cut_off(0);
    cluster.go(SECOND);
    match case.anew {
        Anew::Agent => cluster.loses_agent(0),
        Anew::Before => cluster.loses_power(0),
        Anew::No | Anew::After => {}
    }
    cluster.go(LOST_US);
    assert_eq!(cluster.told("task"), TaskState::Unreachable, "{case:?}");
    cluster.launch_on("task", 1, restart);
    cluster.go(20 * SECOND);
    if case.anew == Anew::After {
        cluster.loses_power(0);
    }
    cluster.go(40 * SECOND);
    let before = cluster.lives_on("task");
    cluster.reach(0);
    cluster.go(30 * SECOND);
    cluster.asks();
    cluster.go(30 * SECOND);
    let (after, told) = (cluster.lives_on("task"), cluster.told("task"));
    Met { before, after, most: cluster.most(), told }
}

/// One is left, it is the one that the rule says, and its framework was told no end.
fn check_met(case: &Meeting, met: &Met) {
    let original = met.before.contains(&0);
    let stays = match case.stays {
        OnReturn::Unsaid | OnReturn::KeepReplacement => 1,
        OnReturn::KeepOriginal => usize::from(!original),
        OnReturn::LongestRunning => usize::from(!original || case.anew == Anew::After),
    };
    let shown = format!("{case:?}: {:?}, then {:?}, told {:?}", met.before, met.after, met.told);
    assert_eq!((&met.after[..], met.told), (&[stays][..], TaskState::Running), "{shown}");
    assert!(met.before.contains(&1) && met.most <= 2, "{shown}");
}

fn row_met(case: &Meeting, met: &Met) -> String {
    let word = match case.stays {
        OnReturn::Unsaid => "none",
        OnReturn::KeepReplacement => "keep-replacement",
        OnReturn::KeepOriginal => "keep-original",
        OnReturn::LongestRunning => "longest-running",
    };
    let rule = match case.rule {
        RestartRule::Never => "never",
        RestartRule::OnFailure | RestartRule::Always => "always, availability",
    };
    let anew = match case.anew {
        Anew::No => "nothing",
        Anew::Agent => "its agent",
        Anew::Before => "its machine, before it is replaced",
        Anew::After => "its machine, after that",
    };
    let name = |agent: &usize| if *agent == 0 { "it" } else { "the other" };
    let names = |all: &[usize]| all.iter().map(name).collect::<Vec<_>>().join(", ");
    let (before, after) = (names(&met.before), names(&met.after));
    let (most, told) = (met.most, met.told.name());
    format!("| {word} | {rule} | {anew} | {before} | {after} | {most} | {told} |\n")
}

/// A leader that knows of neither hears of the original first, and of what replaced it then.
#[test]
fn which_of_two_replaced_the_other_is_known_in_whatever_order_a_leader_hears_of_them() {
    let words = [
        (OnReturn::Unsaid, 1),
        (OnReturn::KeepReplacement, 1),
        (OnReturn::KeepOriginal, 0),
        (OnReturn::LongestRunning, 0),
    ];
    for (on_return, stays) in words {
        let restart = Restart { on_return, ..Restart::default() };
        let mut cluster = Cluster::scripted(2);
        cluster.go(5 * SECOND);
        cluster.launch_on("task", 0, restart);
        cluster.go(5 * SECOND);
        cluster.cut_off(0);
        cluster.go(LOST_US);
        assert_eq!(cluster.told("task"), TaskState::Unreachable, "{on_return:?}");
        cluster.launch_on("task", 1, restart);
        cluster.go(5 * SECOND);
        cluster.loses_master();
        cluster.cut_off(1);
        cluster.go(2 * SECOND);
        cluster.reach(0);
        cluster.go(5 * SECOND);
        cluster.reach(1);
        cluster.go(30 * SECOND);
        cluster.asks();
        cluster.go(30 * SECOND);
        let (live, told) = (cluster.lives_on("task"), cluster.told("task"));
        assert_eq!((live, told), (vec![stays], TaskState::Running), "{on_return:?}");
    }
}

/// What was told and acknowledged is not told again, and what was only told is, by whoever comes next.
#[test]
fn an_agent_that_starts_again_says_nothing_twice() {
    for compacts in [false, true] {
        let mut cluster = Cluster::scripted(1);
        cluster.go(5 * SECOND);
        cluster.launch_on("task", 0, Restart::default());
        cluster.go(5 * SECOND);
        let once = [TaskState::Starting, TaskState::Running];
        assert_eq!(cluster.history("task"), once);
        for _ in 0..2 {
            if compacts {
                cluster.compact(0);
                cluster.go(SECOND);
            }
            cluster.loses_agent(0);
            cluster.go(30 * SECOND);
            assert_eq!((cluster.history("task"), cluster.live().len()), (once.to_vec(), 1));
        }
        // Nobody hears the next word before its agent is gone, and back.
        cluster.looks(0, false);
        cluster.cut_off(0);
        cluster.go(SECOND);
        cluster.loses_agent(0);
        cluster.go(SECOND);
        cluster.reach(0);
        cluster.go(30 * SECOND);
        let then = [&once[..], &[TaskState::Running]].concat();
        assert_eq!(cluster.history("task"), then);
        // What is found anew is no news.
        cluster.looks(0, true);
        cluster.go(SECOND);
        cluster.loses_agent(0);
        cluster.go(20 * SECOND);
        cluster.looks(0, true);
        cluster.go(20 * SECOND);
        let then = [&then[..], &[TaskState::Running]].concat();
        assert_eq!(cluster.history("task"), then);
    }
}

/// An agent dies between an acknowledgement and its being written.
#[test]
pub fn what_follows_is_told_when_the_acknowledgement_before_is_written() {
    let mut cluster = Cluster::scripted(1);
    cluster.go(5 * SECOND);
    cluster.launch_on("task", 0, Restart::default());
    cluster.go(2 * MILLI);
    cluster.mutes_framework(true);
    cluster.go(SECOND);
    assert_eq!(cluster.history("task"), [TaskState::Starting]);
    cluster.hangs_disk(0);
    cluster.mutes_framework(false);
    cluster.go(SECOND);
    cluster.loses_agent_and_what_it_wrote(0);
    cluster.go(30 * SECOND);
    let told = [TaskState::Starting, TaskState::Starting, TaskState::Running];
    assert_eq!(cluster.history("task"), told);
}

/// What began after a reboot is told, whatever became of the agent before it found a master.
#[test]
fn an_agent_that_starts_again_after_a_reboot_has_lost_nothing_to_say() {
    let restart = Restart {
        rule: RestartRule::Always,
        copies: Copies::Availability,
        unknown: UnknownAge::Start,
        ..Restart::default()
    };
    let mut cluster = Cluster::scripted(1);
    cluster.go(5 * SECOND);
    cluster.launch_on("task", 0, restart);
    cluster.go(5 * SECOND);
    let once = [TaskState::Starting, TaskState::Running];
    assert_eq!(cluster.history("task"), once);
    cluster.cut_off(0);
    cluster.go(SECOND);
    cluster.loses_power(0);
    cluster.go(20 * SECOND);
    assert_eq!(cluster.live(), ["task"]);
    cluster.loses_agent(0);
    cluster.go(5 * SECOND);
    cluster.reach(0);
    cluster.go(60 * SECOND);
    // It is told that it is back, and of the reboot that it waits, that it begins, and that it runs.
    let back = [TaskState::Unreachable, TaskState::Running];
    let again = [TaskState::Starting, TaskState::Starting, TaskState::Running];
    assert_eq!(cluster.history("task"), [&once[..], &back, &again].concat());
}

/// How a task ended is known, and not for how long the machine was off: masters are asked first.
#[test]
fn a_task_that_ended_before_a_reboot_is_not_back_before_a_master_is_asked() {
    for (copies, unknown, off_us, alone) in [
        (Copies::Exclusive, UnknownAge::Hold, SECOND, false),
        (Copies::Availability, UnknownAge::Start, 10 * SECOND, true),
    ] {
        let restart = Restart { rule: RestartRule::Always, copies, unknown, ..Restart::default() };
        let mut cluster = Cluster::scripted(1);
        cluster.go(5 * SECOND);
        cluster.launch_on("task", 0, restart);
        cluster.go(5 * SECOND);
        cluster.cut_off(0);
        cluster.loses_power_after_ends(0);
        cluster.go(3 * SECOND);
        assert!(cluster.live().is_empty(), "{copies:?}");
        cluster.go(off_us);
        assert_eq!(!cluster.live().is_empty(), alone, "{copies:?}");
        cluster.reach(0);
        cluster.go(30 * SECOND);
        assert_eq!(cluster.live(), ["task"], "{copies:?}");
    }
}

/// A board without a clock boots in 1970, or when it was switched off: that is no time.
#[test]
pub fn a_task_that_holds_waits_for_a_master_where_nobody_has_set_the_clock() {
    let restart = Restart {
        rule: RestartRule::Always,
        copies: Copies::Availability,
        unknown: UnknownAge::Hold,
        ..Restart::default()
    };
    let mut cluster = Cluster::scripted(1);
    cluster.go(5 * SECOND);
    cluster.launch_on("task", 0, restart);
    cluster.go(5 * SECOND);
    cluster.cut_off(0);
    cluster.loses_power(0);
    cluster.go(60 * SECOND);
    assert!(cluster.live().is_empty(), "it may have been replaced long since");
    cluster.reach(0);
    cluster.go(30 * SECOND);
    assert_eq!(cluster.live(), ["task"]);
}

/// What stops by itself has stopped before another one begins, by clocks of which one is a fifth slower.
#[test]
pub fn a_pair_that_cannot_hold_is_refused() {
    let mut most = Vec::new();
    for (stop_after_us, holds) in [(LOST_US, false), (LOST_US / 4 * 3, false), (STOP_US, true)] {
        let restart = Restart {
            rule: RestartRule::Always,
            stop_after_us,
            lost_after_us: LOST_US,
            ..Restart::default()
        };
        let launch = Launch { restart, ..Rig::launch("task", AgentId::NONE, "cpus:1") };
        if launch.check_restart().is_ok() != holds {
            most.push(stop_after_us);
        }
    }
    assert!(most.is_empty(), "these may run twice: {most:?}");
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
    table.push_str(
        "\n## Two of one id\nA framework may start another one under the same id. `mesita.reconcile` says which of the two stays\n\
         when the agent of the first one is back; the other one is killed, and told to nobody. The cut is a\n\
         long one, nothing stops by itself, and its agent or its machine may start again meanwhile.\n\n\
         | reconcile | rule | starts again | lives before the heal | lives after | most at once | told of it |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for case in meetings() {
        let met = meet(&case);
        check_met(&case, &met);
        table.push_str(&row_met(&case, &met));
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
