//! What Mesos' own tests of its sorters and its allocator check, checked here.
//!
//! One module for each of their test classes, one test for each of their tests, under its name in
//! snake case. They are made anew from what those tests are about; where ours differ, or one does
//! not apply, `core/tests/CONFORMANCE.md` says why. `ci/conformance` compares the names.
//!
//! Where Mesos runs a batch allocation, rounds are run here until nothing is dirty.

#[path = "../support/mod.rs"]
mod support;

mod common_sorter_test;
mod drf_sorter_test;
mod hierarchical_allocator_test;
mod offer_constraints_filter_test;
mod random_sorter_test;
mod role_tree_test;
mod weighted_shuffle_test;
