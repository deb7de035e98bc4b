//! Who gets what, compared with what a real Mesos gave on the same small clusters.
//!
//! `core/tests/fixtures/mesos/` has its answers. Each scenario is played to a master, and who holds
//! what is compared after each step. `core/tests/CONFORMANCE.md` names every scenario that ends
//! otherwise here, with this master's answer and the rule that it differs by, and every one that
//! this master cannot be asked.

#![allow(
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

#[path = "../support/mod.rs"]
mod support;

mod amounts;
mod books;
mod patterns;
mod player;
mod scenario;

use std::collections::BTreeSet;

use amounts::{Sum, entries};
use books::Table;
use mesita_core::Refusal;
use player::Player;
use scenario::{Fixture, Row, Scenario, Step};

const PAGE: &str = include_str!("../CONFORMANCE.md");
const ANSWERS: &str = include_str!("../fixtures/mesos/scenarios.json");

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_string().into_boxed_str())
}

/// How a scenario went here.
#[derive(Debug)]
enum Outcome {
    /// As in Mesos, in every step.
    Equal,
    /// At this step, the first being 1, otherwise: what is held here.
    Differs(usize, String),
    /// It asks for something that this master does not have.
    Lacks(&'static str),
}

/// Plays a scenario up to the first step that differs; or says what it would need.
fn play(scenario: &Scenario) -> Result<Outcome, &'static str> {
    let mut player = Player::new(scenario)?;
    for (step, number) in scenario.steps.iter().zip(1..) {
        let mut refused = None;
        for action in &step.actions.0 {
            refused = player.act(action)?.err().or(refused);
        }
        player.settle();
        if refused.is_some() != step.refused || !is_equal(step, &player) {
            return Ok(Outcome::Differs(number, answer(refused, &player)));
        }
    }
    Ok(Outcome::Equal)
}

fn is_equal(step: &Step, player: &Player) -> bool {
    are(&step.holds, &player.books.holds()) && are(&step.used, &player.books.used())
}

/// Compares rows; where Mesos gives one of several agents by chance, its name is `*`.
fn are(theirs: &[Row], ours: &Table) -> bool {
    let row = |([framework, role, agent], sum): (&[String; 3], &Sum)| {
        [framework.clone(), role.clone(), agent.clone(), sum.to_string()]
    };
    let mut left: Vec<Row> = ours.iter().map(row).collect();
    let theirs = theirs.iter().map(canonical);
    let (some, given): (Vec<_>, Vec<_>) = theirs.partition(|row| row[2] == "*");
    let mut take = |is: &dyn Fn(&Row) -> bool| {
        let found = left.iter().position(is);
        found.map(|place| left.swap_remove(place)).is_some()
    };
    let all = given.iter().all(|row| take(&|other| other == row))
        && some.iter().all(|row| take(&|other| other[..2] == row[..2] && other[3] == row[3]));
    all && left.is_empty()
}

fn canonical(row: &Row) -> Row {
    let [framework, role, agent, resources] = row.clone();
    [framework, role, agent, Sum::of(entries(&resources)).to_string()]
}

/// What a refusal said, and who holds what.
fn answer(refused: Option<Refusal>, player: &Player) -> String {
    let used = player.books.used();
    let row = |(key, sum): (&[String; 3], &Sum)| {
        let used = used.get(key).map_or(String::new(), |sum| format!(", uses {sum}"));
        format!("{} {sum}{used}", key.join(" "))
    };
    let refused = refused.map(|refusal| format!("refused: {refusal:?}"));
    let holds = player.books.holds();
    let all: Vec<_> = refused.into_iter().chain(holds.iter().map(row)).collect();
    if all.is_empty() { "nothing".into() } else { all.join(" / ") }
}

/// The cells of the tables of a section of the page, and the number in its heading.
fn section(heading: &str) -> (usize, Vec<Vec<&'static str>>) {
    let part = PAGE.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
    let count = part.split(['(', ')']).nth(1).and_then(|count| count.parse().ok()).unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.filter(|row| !row.starts_with("scenario |"));
    (count, rows.map(|row| row.split(" | ").map(str::trim).collect()).collect())
}

/// Rows of the page that are not true, and rows that it lacks.
fn assert_same(what: &str, page: &BTreeSet<String>, here: &BTreeSet<String>) {
    let wrong: Vec<_> = page.difference(here).map(String::as_str).collect();
    let missing: Vec<_> = here.difference(page).map(String::as_str).collect();
    let (wrong, missing) = (wrong.join("\n"), missing.join("\n"));
    assert!(page == here, "{what}: the page says\n{wrong}\nand this master\n{missing}");
}

#[test]
fn who_gets_what_is_as_in_mesos_or_explained() {
    let fixture: Fixture = serde_json::from_str(ANSWERS).unwrap();
    assert_eq!(fixture.mesos, "1.11.0");
    let (mut equal, mut differ, mut lack) = (0, BTreeSet::new(), BTreeSet::new());
    for scenario in &fixture.scenarios {
        let name = &scenario.name;
        let _ = match play(scenario).unwrap_or_else(Outcome::Lacks) {
            Outcome::Equal => {
                equal += 1;
                true
            }
            Outcome::Differs(step, here) => differ.insert(format!("`{name}` | {step} | `{here}`")),
            Outcome::Lacks(what) => lack.insert(format!("`{name}` | `{what}`")),
        };
    }
    let (differs, rows) = section("Otherwise, on purpose");
    let page = rows.iter().map(|cells| cells[..3].join(" | ")).collect();
    assert_same("otherwise", &page, &differ);
    let (lacks, rows) = section("What cannot be asked");
    let page = rows.iter().map(|cells| cells.join(" | ")).collect();
    assert_same("lacks", &page, &lack);
    let (equals, _) = section("As in Mesos");
    assert_eq!([equals, differs, lacks], [equal, differ.len(), lack.len()]);
    assert_eq!(equal + differ.len() + lack.len(), fixture.scenarios.len(), "names are unique");
}

#[test]
fn every_difference_has_a_rule_and_every_rule_a_difference() {
    let (_, rows) = section("Otherwise, on purpose");
    let named: BTreeSet<_> = rows.iter().map(|cells| cells[3]).collect();
    let rules = PAGE.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("**: "));
    assert_eq!(named, rules.map(|(name, _)| name).collect());
}
