//! The binary as a person meets it first.

use std::process::{Command, Output};

fn mesita(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mesita")).args(arguments).output().unwrap()
}

#[test]
fn it_says_which_release_it_is() {
    for arguments in [&[][..], &["--version"]] {
        let said = mesita(arguments);
        assert!(said.status.success());
        assert_eq!(said.stdout, format!("mesita {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
    }
}

#[test]
fn what_it_does_not_know_is_a_usage_error() {
    for arguments in [&["run"][..], &["--version", "run"]] {
        let said = mesita(arguments);
        assert_eq!(said.status.code(), Some(2));
        assert!(said.stdout.is_empty() && said.stderr.starts_with(b"usage: mesita"));
    }
}
