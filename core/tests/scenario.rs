//! The scenario on this machine, against the digests that every machine must print.
//!
//! `ci/no_std` runs the same on a microcontroller in QEMU and compares with the same file, and
//! `ci/big_endian` runs this test where bytes are the other way round. `BLESS=1` writes the file:
//! right after a change of what the core does, wrong after one that should have changed nothing.

#[path = "support/scenario.rs"]
mod scenario;

use std::fmt::Write as _;
use std::path::PathBuf;

fn told() -> String {
    let mut lines = String::new();
    scenario::run(&mut |name, digest| writeln!(lines, "{name} {digest:016x}").unwrap());
    lines
}

#[test]
fn this_machine_tells_what_every_machine_tells() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scenario.txt");
    let lines = told();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, lines).unwrap();
    } else {
        assert_eq!(lines, std::fs::read_to_string(file).unwrap(), "see BLESS=1 above");
    }
}

#[test]
fn a_second_run_tells_the_same() {
    assert_eq!(told(), told());
}
