//! The command line of Mesita.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesita::main(std::env::args_os().collect())
}
