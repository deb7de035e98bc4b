//! The command line as a person meets it first.

use std::process::{Command, Output};

fn mesita(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesita"));
    // The tests' own environment says nothing about a cluster.
    command.env_remove("MESITA_MASTER").args(arguments).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_says_which_release_it_is() {
    let said = mesita(&["--version"]);
    assert!(said.status.success());
    assert_eq!(said.stdout, format!("mesita {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
}

#[test]
fn what_it_does_not_know_is_a_usage_error() {
    for arguments in [&["frobnicate"][..], &["--bogus"], &["run", "--bogus"], &[], &["agent"]] {
        let said = mesita(arguments);
        assert_eq!(said.status.code(), Some(2), "{arguments:?}");
        assert!(said.stdout.is_empty() && !said.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_tells_the_default_of_every_flag_that_has_one() {
    let help = mesita(&["master", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    for line in [
        "[default: 127.0.0.1]",
        "[default: 5050]",
        "[default: 10secs]",
        "[default: 64MiB]",
        "/var/lib/mesita/master",
    ] {
        assert!(help.contains(line), "{line} is missing in {help}");
    }
}

#[test]
fn help_tells_the_default_and_the_unit_of_every_flag() {
    for subcommand in ["master", "agent", "dev", "run", "ps", "logs", "replay"] {
        let help = mesita(&[subcommand, "--help"]);
        let help = String::from_utf8(help.stdout).unwrap();
        let (_, options) = help.split_once("Options:\n").unwrap();
        let mut blocks: Vec<String> = Vec::new();
        for line in options.lines() {
            if line.trim_start().starts_with("--") {
                blocks.push(String::new());
            }
            if let Some(block) = blocks.last_mut() {
                block.push_str(line);
            }
        }
        for block in &blocks {
            assert!(block.contains("[default: "), "{subcommand}: no default: {block}");
        }
        assert!(!blocks.is_empty(), "{help}");
        for (value, unit) in [("DURATION", "secs"), ("SIZE", "MiB"), ("RESOURCES", "in CPUs")] {
            if help.contains(&format!("<{value}>")) {
                let told =
                    |line: &str| line.starts_with(&format!("{value}: ")) && line.contains(unit);
                assert!(help.lines().any(told), "{subcommand}: {value} in {help}");
            }
        }
    }
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_starts() {
    for (arguments, why) in [
        (&["run"][..], "nothing to run"),
        (&["run", "--resources", "cpus:four", "--", "true"], "`cpus:four`: expected a number"),
        (&["run", "--resources", "cpus:-1", "--", "true"], "--resources"),
        (&["run", "--resources", "ports:[2-1]", "--", "true"], "expected [begin-end,...]"),
        (&["run", "--resources", "", "--", "true"], "a task needs some"),
        (&["run", "--env", "=x", "--", "true"], "expected NAME=VALUE"),
        (&["run", "--instances", "0", "--", "true"], "at least one"),
        (&["run", "--command", "", "--name", "x"], "the command is empty"),
        (&["run", "--command", "a", "--", "b"], "cannot be used with"),
        (&["master", "--ip", "0.0.0.0"], "add --insecure"),
        (&["master", "--weights", "a=0"], "0.001 to 1000"),
        (&["master", "--weights", "a"], "expected name=value"),
        (&["master", "--capacity", "offrs=1"], "no table is called `offrs`"),
        (&["master", "--agent-timeout", "10"], "expected a duration"),
        (&["master", "--max-body-bytes", "lots"], "expected a size"),
        (&["agent"], "an agent needs a master"),
        (&["dev", "--agents", "0"], "1 to 64"),
    ] {
        let said = mesita(arguments);
        assert_eq!(said.status.code(), Some(2), "{arguments:?}: {}", told(&said));
        assert!(told(&said).contains(why), "{arguments:?}: {}", told(&said));
    }
}

#[test]
fn a_cluster_that_is_not_there_has_a_status_of_its_own() {
    // Nobody listens at port 1.
    for arguments in [
        &["ps", "--master", "127.0.0.1:1"][..],
        &["logs", "x", "--master", "127.0.0.1:1"],
        &["run", "--master", "127.0.0.1:1", "--wait", "1s", "--", "true"],
    ] {
        let said = mesita(arguments);
        assert_eq!(said.status.code(), Some(4), "{arguments:?}: {}", told(&said));
        assert!(told(&said).contains("no master at 127.0.0.1:1"), "{}", told(&said));
    }
}

#[test]
fn a_configuration_file_has_the_flags_as_keys_and_the_command_line_wins() {
    let file = std::env::temp_dir().join(format!("mesita-flags-{}.toml", std::process::id()));
    let run = |text: &str| {
        std::fs::write(&file, text).unwrap();
        mesita(&["master", "--ip", "0.0.0.0", "--config", file.to_str().unwrap()])
    };
    let said = run("agent_timeout = \"nonsense\"\n");
    assert!(told(&said).contains("expected a duration"), "{}", told(&said));
    let said = run("no_such_flag = 1\n");
    assert!(told(&said).contains("there is no flag --no-such-flag"), "{}", told(&said));
    let said = run("port = [[1]\n");
    assert_eq!(said.status.code(), Some(2), "{}", told(&said));
    // The command line's address is the one that is refused, not the file's.
    let said = run("ip = \"127.0.0.1\"\nport = 7\n");
    assert!(told(&said).contains("--ip 0.0.0.0 is reached by other machines"), "{}", told(&said));
    std::fs::remove_file(&file).unwrap();
}
