//! A whole cluster by seeds: masters that elect one of them and keep a registry on disks that crash,
//! agents on machines that lose power, schedulers that come and go; and all that must hold of them,
//! looked at after every step.
//!
//! `SEED` and `INPUTS` choose from where and how much; a life that fails is told with the command that
//! shows the least of it. `TRACE=1` prints what happened.

#![allow(
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss
)]

#[cfg(feature = "mutants")]
mod board;
mod cluster;
#[allow(dead_code)]
#[path = "../election/disk.rs"]
mod disk;
// What keeps the registry's rows in a daemon: the same code, without its threads.
#[allow(dead_code)]
#[path = "../../../daemon/src/set/kept.rs"]
mod kept;
mod ledgers;
mod lives;
// What is done with bytes and records in a daemon: the same code, without its sockets and threads.
#[allow(dead_code)]
#[path = "../../../daemon/src/machines/mod.rs"]
mod machines;
#[allow(dead_code)]
#[path = "../election/oracle.rs"]
mod oracle;
mod outcomes;
mod plan;
#[allow(dead_code)]
#[path = "../../../daemon/src/set/redo.rs"]
mod redo;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "../election/world.rs"]
mod world;
