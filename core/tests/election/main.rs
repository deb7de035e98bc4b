//! Masters that elect one of them and keep a registry together: by seeds, by the traces that broke
//! earlier rules, and against planted bugs.
//!
//! `INPUTS` and `SEED` choose how much and from where, `TRACE=1` prints what happened.

#![allow(
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss
)]

#[cfg(feature = "mutants")]
mod board;
mod disk;
mod images;
mod lives;
mod oracle;
mod traces;
// `core/tests/sim` uses the rest of it.
#[allow(dead_code)]
mod world;
