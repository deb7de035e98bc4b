//! `mesita doctor` where something is missing: it is told, with what to change. A kernel without
//! the memory controller and a board without a clock are in `ci/board`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::world::{NOBODY, World, needs_root};

/// What was found, by what it is about, and the status.
struct Found {
    rows: Vec<Value>,
    status: i32,
    said: String,
}

impl Found {
    fn of(&self, check: &str) -> &Value {
        let row = self.rows.iter().find(|row| row["check"] == check);
        row.unwrap_or_else(|| panic!("{check} in {}", self.said))
    }

    /// Something is in a state, and what to do about it has this in it.
    fn tells(&self, check: &str, state: &str, fix: &str) {
        let row = self.of(check);
        let told = row["fix"].as_str().unwrap();
        assert!(row["state"] == state && told.contains(fix), "{check} {state} {fix}: {row}");
    }
}

/// Examines with a free port and a work directory of the test, and these flags.
fn examine(world: &World, wrapper: &[&str], flags: &[&str]) -> Found {
    let (work_dir, port) = (world.path("work").display().to_string(), world.port().to_string());
    let root = format!("--cgroups-root={}", world.name());
    let mut all = vec!["doctor", "--json", &root];
    for (name, value) in [("--work-dir", &work_dir), ("--port", &port)] {
        if !flags.iter().any(|flag| flag.starts_with(name)) {
            all.extend([name, value]);
        }
    }
    all.extend(flags);
    let command =
        if wrapper.is_empty() { world.mesita(&all) } else { world.wrapped(wrapper, &all) };
    let said = world.start(command).end();
    assert_eq!(said.err, "", "{}", said.out);
    let rows = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    world.nothing_is_left();
    Found { rows, status: said.status, said: said.out }
}

#[test]
fn what_is_found_is_told_of_each_isolator_and_nothing_is_left() {
    let world = World::new();
    let found = examine(&world, &[], &[]);
    for check in ["posix/rlimits", "cgroups/cpu", "cgroups/mem", "namespaces/pid", "overlayfs"] {
        let state = found.of(check)["state"].as_str().unwrap();
        assert!(["on", "off"].contains(&state), "{check}: {state}");
        assert_eq!(state == "off", found.of(check)["fix"] != "", "{check}");
    }
    for check in ["clock", "entropy", "work dir", "port", "doors", "resources"] {
        assert_eq!(found.of(check)["state"], "on", "{}", found.said);
    }
    assert!(found.of("resources")["says"].as_str().unwrap().contains("cpus:"));
    assert_eq!(found.of("master")["state"], "-");
    let off = found.rows.iter().any(|row| row["state"] == "off" || row["state"] == "degraded");
    assert_eq!(found.status, if off { 5 } else { 0 }, "{}", found.said);
    assert!(!world.path("work").exists(), "a look makes nothing");
}

#[test]
fn a_port_that_is_taken_is_told_with_how_to_find_who_has_it() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let found = examine(&world, &[], &["--isolation=posix/rlimits", &format!("--port={port}")]);
    found.tells("port", "fails", &format!("ss -ltnp 'sport = :{port}'"));
    assert_eq!(found.status, 1);
}

#[test]
fn an_agent_that_runs_here_is_no_trouble_and_a_master_that_answers_is_told() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&[]);
    let (work_dir, port) = (agent.work_dir().display().to_string(), agent.port.to_string());
    let (root, at) = (format!("--cgroups-root={}", world.name()), master.address());
    let flags = ["doctor", "--json", &root, "--work-dir", &work_dir, "--port", &port];
    let said = world.told(&[&flags[..], &["--master", &at]].concat());
    let row = |check: &str| {
        let mut rows = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.find(|row| row["check"] == check).unwrap()
    };
    for check in ["work dir", "port", &format!("master {}", master.address())] {
        assert_eq!(row(check)["state"], "on", "{}", said.out);
    }
    assert_ne!(said.status, 1);
    // Its tasks and walls are as they were.
    assert_eq!(master.run(&["--", "true"]).end().status, 0);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_master_that_is_not_reached_is_told_with_why() {
    let world = World::new();
    let (nobody, listener) = (world.port(), TcpListener::bind("127.0.0.1:0").unwrap());
    let other = listener.local_addr().unwrap();
    let masters = format!("--master=127.0.0.1:{nobody},{other},none.invalid:5050");
    let serving = std::thread::spawn(move || {
        use std::io::Write;
        // One that speaks something else.
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 mail ready\r\n").unwrap();
    });
    let found = examine(&world, &[], &["--isolation=posix/rlimits", &masters]);
    serving.join().unwrap();
    found.tells(&format!("master 127.0.0.1:{nobody}"), "fails", "start `mesita master`");
    found.tells(&format!("master {other}"), "fails", "is it a master of Mesita");
    found.tells("master none.invalid:5050", "fails", "");
    assert_eq!(found.status, 1);
}

#[test]
fn who_is_not_root_learns_what_that_costs_and_what_delegation_it_lacks() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let user = NOBODY.to_string();
    let all = fs::Permissions::from_mode(0o777);
    fs::create_dir(world.path("work")).unwrap();
    fs::set_permissions(world.path("work"), all).unwrap();
    let nobody = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let found = examine(&world, &nobody, &[]);
    found.tells("privilege", "degraded", "run as root");
    found.tells("cgroups/mem", "off", "Delegate=yes");
    assert_eq!(found.status, 5, "{}", found.said);
    let found = examine(&world, &nobody, &["--isolation=cgroups"]);
    found.tells("cgroups/mem", "fails", "Delegate=yes");
    assert_eq!(found.of("linux/nnp")["state"], "-");
    assert_eq!(found.status, 1, "{}", found.said);
    // Not its own, and not there yet.
    let found = examine(&world, &nobody, &["--work-dir=/root/none"]);
    found.tells("work dir", "fails", &format!("chown {user} /root"));
}

/// A namespace of mounts in which these commands of a shell were run first.
fn mounted(script: &str) -> [&str; 6] {
    ["unshare", "--mount", "--", "sh", "-ec", script]
}

#[test]
fn a_work_directory_that_is_read_only_names_the_mount() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let work = world.path("work").display().to_string();
    fs::create_dir(world.path("work")).unwrap();
    let script = format!("mount -t tmpfs -o ro none {work}; exec \"$0\" \"$@\"");
    let found = examine(&world, &mounted(&script), &["--isolation=posix/rlimits"]);
    found.tells("work dir", "fails", &format!("mount -o remount,rw {work}`"));
    assert_eq!(found.status, 1, "{}", found.said);
}

#[test]
fn a_board_without_the_memory_controller_is_told_the_line_of_its_own_boot_file() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let line = world.path("cmdline");
    fs::write(&line, "console=tty1 cgroup_disable=memory\n").unwrap();
    // A board whose firmware says so, whose kernel does so, whose file says nothing of it.
    let script = format!(
        "for at in /sys/fs/cgroup/memory /sys/fs/cgroup/unified; do ! [ -e $at ] || umount $at; done
         mount --bind {} /proc/cmdline
         mount -t tmpfs none /boot && mkdir /boot/firmware
         echo console=tty1 rootwait >/boot/firmware/cmdline.txt
         exec \"$0\" \"$@\"",
        line.display()
    );
    let has_v1 = std::path::Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists();
    if !has_v1 {
        println!("SKIPPED: the memory controller is not of v1, and cannot be taken away; ci/board");
        return;
    }
    let found = examine(&world, &mounted(&script), &[]);
    found.tells(
        "cgroups/mem",
        "off",
        "add `cgroup_enable=memory` to the one line of /boot/firmware/cmdline.txt",
    );
    assert_eq!(found.of("cgroups/pids")["state"], "on");
    assert_eq!(found.status, 5, "{}", found.said);
}
