//! What Mesos' own tests of its sorters and its allocator check, checked here.
//!
//! One module for each of their test classes, in files by concern where it is long, one test for each
//! of their tests, under its name in snake case. They are made anew from what those tests are about;
//! where ours differ, or one does not apply, `core/tests/CONFORMANCE.md` says why.
//!
//! Where Mesos runs a batch allocation, rounds are run here until nothing is dirty.

#[path = "../support/mod.rs"]
mod support;

mod common_sorter_test;
mod drf_sorter_test;
mod hierarchical_allocator_test;
mod maintenance_test;
mod offer_constraints_filter_test;
mod random_sorter_test;
mod role_tree_test;
mod weighted_shuffle_test;

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../CONFORMANCE.md");

/// A module's name, and the text of a file of it.
macro_rules! texts {
    ($($module:literal: $($file:literal),*;)*) => {
        [$($(($module, include_str!($file))),*),*]
    };
}

/// The names of all tests in the modules above.
fn tests() -> BTreeSet<String> {
    let texts = texts! {
        "common_sorter_test": "common_sorter_test.rs";
        "drf_sorter_test": "drf_sorter_test.rs";
        "hierarchical_allocator_test": "hierarchical_allocator_test/agents.rs",
            "hierarchical_allocator_test/filters.rs",
            "hierarchical_allocator_test/metrics.rs",
            "hierarchical_allocator_test/quota.rs",
            "hierarchical_allocator_test/reservations.rs",
            "hierarchical_allocator_test/shares.rs",
            "hierarchical_allocator_test/volumes.rs";
        "maintenance_test": "maintenance_test.rs";
        "offer_constraints_filter_test": "offer_constraints_filter_test.rs";
        "random_sorter_test": "random_sorter_test.rs";
        "role_tree_test": "role_tree_test.rs";
        "weighted_shuffle_test": "weighted_shuffle_test.rs";
    };
    let of = |(module, text): (&str, &str)| {
        let tests = text.split("#[test]\nfn ").skip(1);
        let named = tests.map(|test| test.split('(').next().unwrap());
        named.map(|test| format!("{module}::{test}")).collect::<Vec<_>>()
    };
    texts.into_iter().flat_map(of).collect()
}

#[test]
fn every_test_of_mesos_is_here_or_explained() {
    let mut rows: Vec<Vec<&str>> = vec![];
    let mut counts = vec![];
    // The rest of the page is compared by `core/tests/oracle`.
    let page = PAGE.split("\n# ").next().unwrap();
    for line in page.lines() {
        if let Some(chapter) = line.strip_prefix("## ") {
            counts.push((chapter, 0));
        }
        let Some(row) = line.strip_prefix("| ") else { continue };
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        if !matches!(cells[0], "Mesos" | "here") {
            counts.last_mut().unwrap().1 += 1;
            rows.push(cells);
        }
    }
    // As many rows as Mesos has tests, and none without an answer.
    for (chapter, count) in counts {
        let promised = chapter.split(['(', ')']).nth(1).and_then(|number| number.parse().ok());
        assert_eq!(promised.unwrap_or(count), count, "{chapter}");
    }
    assert!(rows.iter().all(|cells| cells.len() == 2 && cells[1].len() > 10), "{rows:?}");
    let named = |cell: &str| cell.strip_prefix('`')?.strip_suffix('`').map(str::to_string);
    let listed: BTreeSet<String> = rows
        .iter()
        .flatten()
        .filter_map(|cell| named(cell))
        .filter(|name| name.contains("::"))
        .collect();
    let there = tests();
    assert_eq!(listed, there, "what is listed is what is there");
}
