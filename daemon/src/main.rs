//! The command line of Mesita. This release has no daemon yet; it tells which release it is.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (None, _) => {}
        (Some(argument), None) if argument == "--version" => {}
        _ => {
            eprintln!("usage: mesita [--version]");
            return ExitCode::from(2);
        }
    }
    println!("mesita {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}
