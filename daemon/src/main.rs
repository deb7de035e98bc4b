//! The command line of Mesita.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesita_isolation::keeper::remember_first_threads();
    mesita::main(std::env::args_os().collect())
}
