//! A master without agents, operated from the command line.
#![allow(clippy::disallowed_methods)] // It waits for another process.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A master at a port of its own, which ends with the test.
struct Master {
    child: Child,
    at: String,
    work_dir: PathBuf,
}

impl Master {
    fn start(name: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let work_dir = std::env::temp_dir().join(format!("mesita-{name}-{}", std::process::id()));
        let child = Command::new(env!("CARGO_BIN_EXE_mesita"))
            .args(["master", "--logging-level", "error", "--weights", "batch=0.5", "--port"])
            .arg(free.port().to_string())
            .arg("--work-dir")
            .arg(&work_dir)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let master = Self { child, at: free.to_string(), work_dir };
        let begun = Instant::now();
        while !master.ask(&["weights", "ls"]).status.success() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the master does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        master
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesita"));
        command.env("MESITA_MASTER", &self.at).args(arguments).output().unwrap()
    }

    /// What it prints when it succeeds.
    fn says(&self, arguments: &[&str]) -> String {
        let said = self.ask(arguments);
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(said.stdout).unwrap()
    }

    /// Why it fails, and with which status.
    fn refuses(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let said = self.ask(arguments);
        assert!(said.stdout.is_empty(), "{arguments:?}");
        (said.status.code(), String::from_utf8(said.stderr).unwrap())
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.work_dir);
    }
}

#[test]
fn weights_are_set_and_listed() {
    let master = Master::start("weights");
    assert_eq!(master.says(&["weights", "ls"]), "ROLE   WEIGHT\nbatch  0.5\n");
    assert_eq!(master.says(&["weights", "set", "web/a=2,batch=1"]), "");
    assert_eq!(master.says(&["weights", "ls"]), "ROLE   WEIGHT\nweb/a  2\n");
    assert_eq!(master.says(&["weights", "ls", "--json"]), "{\"role\":\"web/a\",\"weight\":2}\n");
    let (status, why) = master.refuses(&["weights", "set", "web=1001"]);
    assert!(status == Some(2) && why.contains("0.001 to 1000"), "{why}");
}

#[test]
fn a_quota_is_set_within_what_the_cluster_has_unless_forced() {
    let master = Master::start("quota");
    let set = ["quota", "set", "web", "--guarantee", "cpus:2", "--limit", "cpus:4;mem:512"];
    let (status, why) = master.refuses(&set);
    assert_eq!(status, Some(1));
    assert!(why.contains("less than all guarantees; force"), "{why}");
    assert_eq!(master.says(&["quota", "ls"]), "ROLE  RESOURCE  GUARANTEE  LIMIT  TASKS USE\n");
    master.says(&[&set[..], &["--force"]].concat());
    let table = "ROLE  RESOURCE  GUARANTEE  LIMIT  TASKS USE\n\
                 web   cpus      2          4      0\n\
                 web   mem       -          512    0\n";
    assert_eq!(master.says(&["quota", "ls"]), table);
    // Each refusal names its rule, and leaves what there is.
    for (arguments, rule) in [
        (&["--guarantee", "cpus:9", "--limit", "cpus:8"][..], "a guarantee is above its limit"),
        (&["--guarantee", "ports:[1-2]"], "`ports` is no amount"),
        (&["--guarantee", "cpus:99999999999999"], "--guarantee"),
        (&["--limit", "cpus:-1"], "--limit"),
    ] {
        let (_, why) = master.refuses(&[&["quota", "set", "web"][..], arguments].concat());
        assert!(why.contains(rule), "{arguments:?}: {why}");
        assert_eq!(master.says(&["quota", "ls"]), table);
    }
    let (_, why) = master.refuses(&["quota", "set", "web//x", "--limit", "cpus:1"]);
    assert!(why.contains("quota.role"), "{why}");
    master.says(&["quota", "set", "web"]);
    assert_eq!(master.says(&["quota", "ls", "--json"]), "", "without amounts it is taken back");
}

#[test]
fn what_nobody_knows_is_explained_as_such() {
    let master = Master::start("explain");
    let (_, why) = master.refuses(&["explain", "nobody"]);
    assert!(why.contains("no framework `nobody`; `mesita ps --frameworks`"), "{why}");
    assert_eq!(master.says(&["explain", "--need", "cpus:2;mem:64"]), "no agent is known\n");
    let elsewhere = ["explain", "--need", "cpus:2", "--attributes", "rack:b"];
    assert_eq!(master.says(&elsewhere), "no agent has these attributes\n");
    let (_, why) = master.refuses(&["explain", "--need", "cpus:2", "--agent", "x"]);
    assert!(why.contains("no agent `x`; `mesita ps --agents`"), "{why}");
    let (status, why) = master.refuses(&["explain"]);
    assert!(status == Some(2) && why.contains("give a framework, or with --need"), "{why}");
}
