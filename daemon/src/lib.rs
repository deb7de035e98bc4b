//! Everything of Mesita that touches the world: sockets, threads, clocks, files, the command line.
//!
//! # The way of a message
//! A connection (`conn`) reads frames, keeps their bodies in the store (`bodies`) and passes
//! heads on through a seat's `port` and the ring (`passage`) to the `core_thread`, which
//! stamps, journals and steps. What comes out goes back through the other ring to the
//! `io_thread`, whose node for that seat (`master`, `agent`, `client`) sends it, folds it
//! into the `catalog`, has it written by the `disk_thread`, or does it by hand.
//!
//! # Layers, lowest first
//! | module | owns |
//! |---|---|
//! | `clock`, `random`, `memory`, `alarm`, `bell`, `logging`, `times` | the machine, as far as threads need it |
//! | `passage`, `seats`, `core_thread`, `disk_thread`, `io_thread`, `process` | threads, and what goes between them |
//! | `journal`, `ledger`, `identity` | files |
//! | `bodies`, `port`, `conn`, `conns`, `doors`, `once` | connections and who is behind them |
//! | `access` | who must show a credential, and what each may do then |
//! | `audit` | who asked for which change |
//! | `tls` | connections that nobody reads on the way |
//! | `catalog`, `http`, `load` | what can be read |
//! | `lease`, `set` | several masters: who leads, and until when |
//! | `master`, `agent`, `client` | the IO side of each machine |
//! | `fit` | what of an offer a task takes |
//! | [`framework`], [`executor`] | frameworks and executors in Rust, for programs of others |
//! | `flags`, `cli` | the command line |

// Without TLS its connections are of a type that has no values: what is done with them is never reached.
#![cfg_attr(not(feature = "tls"), allow(unreachable_code, unreachable_patterns, unused_variables))]

mod access;
mod agent;
mod alarm;
#[cfg(any(test, fuzzing))]
pub mod any_input;
mod audit;
mod bell;
mod bodies;
mod catalog;
mod cli;
mod client;
mod clock;
mod command;
mod conn;
mod conns;
mod core_thread;
mod describe;
mod disk_thread;
mod doors;
mod durable;
mod encoded;
pub mod executor;
mod fit;
mod flags;
pub mod framework;
mod http;
mod identity;
mod io_thread;
mod journal;
mod lease;
mod ledger;
mod legacy;
mod load;
mod logging;
mod machines;
mod master;
mod memory;
mod once;
mod passage;
mod pb;
mod port;
mod process;
mod random;
mod room;
mod seats;
mod secrets;
mod seldom;
mod set;
mod signals;
mod times;
mod tls;
mod v1;

use std::ffi::OsString;
use std::process::ExitCode;

/// The command line with all subcommands and flags, for who writes completions and man pages of it.
pub fn command_line() -> clap::Command {
    flags::command()
}

/// Does what the command line says; the result is the process' status.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    cli::main(arguments)
}
