//! `mesita doctor` where something is missing: it is told, with what to change. A kernel without
//! the memory controller and a board without a clock are in `ci/board`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::world::{NOBODY, World, eventually, needs_root};

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

#[test]
fn a_work_directory_that_nobody_else_goes_through_is_told() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let closed = world.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let flag = format!("--work-dir={}", closed.join("agent").display());
    let found = examine(&world, &[], &[&flag]);
    found.tells("work dir", "degraded", &format!("`chmod o+x {}`", closed.display()));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
    assert_eq!(examine(&world, &[], &[&flag]).of("work dir")["state"], "on");
    // What a master makes for itself is in nobody's way.
    let flag = format!("--work-dir={}", world.path("both/master").display());
    let master = world.start(world.mesita(&["master", "--port", &world.port().to_string(), &flag]));
    master.says("master at");
    let mode = |path: &str| fs::metadata(world.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("both"), mode("both/master")), (0o711, 0o700));
    master.signal(crate::world::Signal::TERM);
    assert_eq!(master.end().status, 0);
}

#[test]
fn a_work_directory_that_everybody_writes_is_told_by_doctor_and_by_the_agent() {
    let world = World::new();
    let open = world.path("open");
    fs::create_dir(&open).unwrap();
    let flag = format!("--work-dir={}", open.join("agent").display());
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&open, 0o777);
    let fix = format!("`chmod o-w {}`", open.display());
    examine(&world, &[], &[&flag]).tells("work dir", "degraded", &fix);
    // Nobody moves what another one has made there.
    mode(&open, 0o1777);
    assert_eq!(examine(&world, &[], &[&flag]).of("work dir")["state"], "on");
    let flag = format!("--work-dir={}", open.display());
    examine(&world, &[], &[&flag]).tells("work dir", "degraded", &fix);
    let port = world.port().to_string();
    let root = format!("--cgroups-root={}", world.name());
    let agent = ["agent", "--master", "127.0.0.1:9", "--port", &port, &root, &flag];
    let agent = world.start(world.mesita(&agent));
    agent.says(&format!("warning: everybody may write to {}", open.display()));
    agent.kill();
}

#[test]
fn secrets_that_others_read_are_told_and_so_is_the_mode_that_they_are_to_have() {
    let world = World::new();
    let credential = world.secret("credential", br#"{"principal": "pis", "secret": "s"}"#);
    let flag = format!("--credential={}", credential.display());
    let found = examine(&world, &[], &["--isolation=posix/rlimits", &flag]);
    assert_eq!(found.of("secrets")["state"], "on", "{}", found.said);
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o644)).unwrap();
    let found = examine(&world, &[], &["--isolation=posix/rlimits", &flag]);
    found.tells("secrets", "fails", &format!("`chmod 600 {}`", credential.display()));
    assert_eq!(found.status, 1);
    // What the agent has made itself, and somebody has opened.
    let master = world.master(&[]);
    let mut agent = master.agent(&[]);
    agent.terminate();
    let meta = agent.work_dir().join("meta");
    fs::set_permissions(meta.join("secret"), fs::Permissions::from_mode(0o604)).unwrap();
    fs::set_permissions(&meta, fs::Permissions::from_mode(0o755)).unwrap();
    let flag = format!("--work-dir={}", agent.work_dir().display());
    let root = format!("--cgroups-root={}", world.name());
    let port = world.port().to_string();
    let said = world.told(&["doctor", "--json", &root, "--port", &port, &flag]);
    // Without its secret no agent goes by its name; the rest it closes itself.
    for (state, fix) in [
        ("fails", format!("chmod 600 {}/secret", meta.display())),
        ("degraded", format!("chmod 700 {}", meta.display())),
    ] {
        let is = |line: &&str| line.contains(&format!("\"{state}\"")) && line.contains(&fix);
        assert!(said.out.lines().any(|line| is(&line)), "{fix} in {}", said.out);
    }
    let refused = world.start(agent.command()).end();
    assert!(refused.err.contains("others can read or write it"), "{}", refused.err);
    fs::set_permissions(meta.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    agent.start();
    agent.process().says("registered with the master");
    agent.leave();
    master.stop();
}

#[test]
fn a_docker_engine_and_isolators_of_a_name_are_told_before_anybody_asks_for_them() {
    use std::io::{Read, Write};
    let world = World::new();
    let socket = world.path("docker.sock");
    let flag = format!("--docker-socket={}", socket.display());
    let found = examine(&world, &[], &[&flag]);
    assert_eq!(found.of("docker")["state"], "-", "{}", found.said);
    let names = ["namespaces/user", "namespaces/net", "network/bandwidth", "network/none"];
    for name in names.into_iter().chain(["network/ports", "filesystem/shared"]) {
        let row = found.of(name);
        assert_eq!(row["state"], "-", "{row}");
        let says = row["says"].as_str().unwrap();
        let works = says.contains("would work");
        assert!(works || says.contains("would not work here: "), "{row}");
        let fix = row["fix"].as_str().unwrap();
        assert!(!works || fix == format!("--isolation=all,{name}"), "{row}");
        assert!(!says.contains("name one of the two"), "{row}");
    }
    // Flags of one that nobody names keep an agent from its start.
    let range = "--container-network=10.99.0.0/16";
    let found = examine(&world, &[], &[&flag, range]);
    found.tells("isolators", "fails", "--isolation=all,namespaces/net");
    if crate::world::is_root() {
        let found = examine(&world, &[], &[&flag, range, "--isolation=all,namespaces/net"]);
        assert_eq!(found.of("namespaces/net")["state"], "on", "{}", found.said);
        assert_eq!(found.of("network/none")["state"], "-", "{}", found.said);
    }
    // Where one of them is named, what goes with it is judged by that.
    let found = examine(&world, &[], &[&flag, "--isolation=all,network/none"]);
    assert_ne!(found.of("network/none")["state"], "-", "{}", found.said);
    let row = found.of("namespaces/net");
    assert!(row["state"] == "-" && !row["says"].as_str().unwrap().contains("of the two"), "{row}");
    let found = examine(&world, &[], &[&flag, "--containerizers=docker,mesos"]);
    found.tells("docker", "off", "systemctl start docker");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let engine = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let body = r#"{"Version": "20.10.5", "ApiVersion": "1.41"}"#;
        stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes()).unwrap();
    });
    let found = examine(&world, &[], &[&flag, "--containerizers=docker,mesos"]);
    engine.join().unwrap();
    let row = found.of("docker");
    assert!(row["state"] == "on" && row["says"].as_str().unwrap().contains("20.10.5"), "{row}");
}

#[test]
fn a_file_system_without_quotas_of_projects_is_told_and_an_agent_that_needs_them_does_not_start() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let work = world.path("work").display().to_string();
    fs::create_dir(world.path("work")).unwrap();
    // One that never has any.
    let script = format!("mount -t tmpfs none {work}; exec \"$0\" \"$@\"");
    let named = "--isolation=all,disk/xfs";
    let found = examine(&world, &mounted(&script), &[named]);
    found.tells("disk/quota", "fails", "tune2fs -O project,quota -Q prjquota");
    assert!(found.of("disk/quota")["says"].as_str().unwrap().contains(&work), "{}", found.said);
    let found = examine(&world, &mounted(&script), &[]);
    assert_eq!(found.of("disk/quota")["state"], "-", "{}", found.said);
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
fn a_work_directory_on_a_full_disk_is_told() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let work = world.path("work").display().to_string();
    fs::create_dir(world.path("work")).unwrap();
    // A directory can be made there, and nothing be written.
    let script = format!(
        "mount -t tmpfs -o size=64k none {work}; head -c 60k /dev/zero >{work}/all; exec \"$0\" \"$@\""
    );
    let found = examine(&world, &mounted(&script), &["--isolation=posix/rlimits"]);
    found.tells("work dir", "fails", "remove something there");
    let said = world
        .start(world.wrapped(
            &mounted(&script),
            &[
                "agent",
                "--master=127.0.0.1:1",
                &format!("--work-dir={work}"),
                &format!("--cgroups-root={}", world.name()),
            ],
        ))
        .end();
    let told =
        said.err.contains("No space left on device") && said.err.contains("remove something");
    assert!(said.status != 0 && told, "{}", said.err);
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

/// The rows of `mesita doctor master` with these flags, and the status.
fn of_master(world: &World, flags: &[&str]) -> Found {
    let said = world.told(&[&["doctor", "master", "--json"], flags].concat());
    assert_eq!(said.err, "", "{}", said.out);
    let rows = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Found { rows, status: said.status, said: said.out }
}

#[test]
fn what_a_master_would_find_is_told_and_nothing_is_left() {
    let world = World::new();
    let (work_dir, port) = (world.path("work").display().to_string(), world.port().to_string());
    let flags = ["--work-dir", &work_dir, "--port", &port];
    let found = of_master(&world, &flags);
    for check in ["clock", "entropy", "work dir", "port", "doors", "registry"] {
        assert_eq!(found.of(check)["state"], "on", "{}", found.said);
    }
    assert!(found.of("disk")["says"].as_str().unwrap().contains(" ms"), "{}", found.said);
    assert_eq!(found.of("masters")["state"], "-");
    assert_ne!(found.status, 1, "{}", found.said);
    assert!(!world.path("work").exists(), "a look makes nothing");
    assert!(!found.said.contains("isolat"), "{}", found.said);
    // In words for a person, and out of a file.
    let file = world.path("master.toml");
    fs::write(
        &file,
        format!("port = {port}\nwork_dir = {work_dir:?}\ngossip_key_file = \"/no/such\"\n"),
    )
    .unwrap();
    let said = world.told(&["doctor", "master", "--config", file.to_str().unwrap()]);
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.out.contains("a master with these flags does not start here"), "{}", said.out);
    assert!(said.out.contains("/no/such: No such file"), "{}", said.out);
    world.nothing_is_left();
}

#[test]
fn a_work_directory_of_another_cluster_is_told_before_its_agent_tries() {
    let world = World::new();
    let master = world.master(&[]);
    let mut agent = master.agent(&[]);
    let work_dir = agent.work_dir().display().to_string();
    agent.terminate();
    let other = world.master(&[]);
    let asked = |master: &str| world.told(&["doctor", "--master", master, "--work-dir", &work_dir]);
    let said = asked(&other.address());
    assert_eq!(said.status, 1, "{}", said.out);
    assert!(said.out.contains("belongs to cluster"), "{}", said.out);
    assert!(said.out.contains("name the masters of the cluster"), "{}", said.out);
    let said = asked(&master.address());
    assert!(!said.out.contains("belongs to cluster"), "{}", said.out);
    agent.start();
    agent.process().says("registered with the master");
    agent.leave();
    master.stop();
    other.stop();
    world.nothing_is_left();
}

#[test]
fn the_only_master_of_a_cluster_is_all_that_there_is() {
    let world = World::new();
    let (port, at) = (world.port().to_string(), world.path("shop").display().to_string());
    let init = ["init", "--name=shop", "--ip=127.0.0.1", "--port", &port, "--dir", &at];
    let made = world.told(&init);
    assert_eq!(made.status, 0, "{}", made.err);
    let config = world.path("shop/master.toml").display().to_string();
    let said = world.told(&["doctor", "master", "--config", &config]);
    assert_eq!(said.status, 0, "{}", said.out);
    assert!(said.out.contains("this is the only one"), "{}", said.out);
    let none = ["init", "--name=none", "--ip=127.0.0.1", "--port=0", "--dir", &at];
    let said = world.told(&none);
    assert!(said.status == 2 && said.err.contains("--port: a number"), "{}", said.err);
    world.nothing_is_left();
}

#[test]
fn what_keeps_a_master_from_being_one_is_told_with_what_to_do() {
    let world = World::new();
    let work_dir = world.path("work").display().to_string();
    let port = world.port();
    let at = |port: u16| format!("127.0.0.1:{port}");
    let udp = std::net::UdpSocket::bind(at(port)).unwrap();
    let tcp = TcpListener::bind(at(0)).unwrap();
    let taken = tcp.local_addr().unwrap().port();
    let nobody = world.port();
    let list = format!("{},{},{}", at(port), at(nobody), at(taken));
    let key = world.secret("gossip.key", &[1; 32]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let key = key.display().to_string();
    let number = port.to_string();
    let flags =
        ["--work-dir", &work_dir, "--port", &number, "--masters", &list, "--gossip-key-file", &key];
    let found = of_master(&world, &flags);
    found.tells("port for datagrams", "fails", &format!("ss -lunp 'sport = :{port}'"));
    found.tells("gossip key", "fails", "chmod o= it");
    found.tells("secrets", "fails", &format!("`chmod 600 {key}`"));
    found.tells(&format!("master {}", at(nobody)), "degraded", "start `mesita master`");
    found.tells(&format!("master {}", at(taken)), "degraded", "another program listens there");
    found.tells("majority", "fails", "start the others");
    assert_eq!(found.status, 1);
    drop(udp);
    // At another address than the list has, and at a port that somebody has.
    let number = taken.to_string();
    let flags = ["--work-dir", &work_dir, "--port", &number, "--masters", &at(nobody)];
    let found = of_master(&world, &flags);
    found.tells("port", "fails", &format!("ss -ltnp 'sport = :{taken}'"));
    found.tells("masters", "degraded", "--advertise-ip");
    let short = world.secret("short.key", &[1; 5]).display().to_string();
    let found = of_master(&world, &["--work-dir", &work_dir, "--gossip-key-file", &short]);
    found.tells("gossip key", "fails", "head -c 32 /dev/urandom");
    // Somebody else's file in the place of the directory, and no access.
    let file = world.path("file");
    fs::write(&file, "").unwrap();
    let found = of_master(&world, &["--work-dir", file.to_str().unwrap()]);
    found.tells("work dir", "fails", "--work-dir elsewhere");
    let found = of_master(&world, &["--work-dir", &work_dir, "--credentials", "/no/such"]);
    assert!(found.of("doors")["says"].as_str().unwrap().contains("/no/such"), "{}", found.said);
    drop(tcp);
    world.nothing_is_left();
}

/// A firewall that lets TCP through and drops datagrams; here, one who listens by TCP alone.
#[test]
fn a_master_that_hears_no_datagrams_is_told() {
    let world = World::new();
    let master = world.master(&[]);
    let (work_dir, port) = (world.path("work").display().to_string(), world.port());
    let list = format!("127.0.0.1:{port},{}", master.address());
    let number = port.to_string();
    let found =
        of_master(&world, &["--work-dir", &work_dir, "--port", &number, "--masters", &list]);
    assert_eq!(found.of(&format!("master {}", master.address()))["state"], "on");
    let udp = format!("UDP port {}", master.port);
    found.tells(&format!("datagrams {}", master.address()), "degraded", &udp);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_work_directory_of_the_other_kind_is_told_as_the_daemon_tells_it() {
    let world = World::new();
    let mut master = world.master(&[]);
    let mut agent = master.agent(&[]);
    eventually(|| master.rows(&["--agents"]).len() == 1, || agent.process().err());
    let of_agent = agent.work_dir().display().to_string();
    agent.terminate();
    master.kill();
    let of_a_master = world.path(&format!("master-{}", master.port)).display().to_string();
    let port = world.port().to_string();
    let found = of_master(&world, &["--work-dir", &of_agent, "--port", &port]);
    found.tells("work dir", "fails", "give this one another");
    assert!(
        found.of("work dir")["says"].as_str().unwrap().contains("of an agent"),
        "{}",
        found.said
    );
    let flags = ["doctor", "--json", "--work-dir", &of_a_master, "--port", &port];
    let said = world.told(&[&flags[..], &["--isolation=posix/rlimits"]].concat());
    assert_eq!(said.status, 1, "{}", said.out);
    assert!(said.out.contains("is the work directory of a master"), "{}", said.out);
    master.start();
    agent.start();
    agent.process().says("registered with the master");
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn masters_that_are_there_are_told_and_a_registry_that_is_damaged() {
    let world = World::new();
    let mut set = crate::masters::Set::made(&world, &[]);
    set.leader();
    let list = set.list();
    set.kill(0);
    let work_dir = set.work_dir(0);
    let port = set.ports[0].to_string();
    let flags = ["--work-dir", work_dir.to_str().unwrap(), "--port", &port, "--masters", &list];
    let found = of_master(&world, &flags);
    for at in 1..3 {
        assert_eq!(
            found.of(&format!("master {}", set.address(at)))["state"],
            "on",
            "{}",
            found.said
        );
        // They elect by datagrams, and nobody is left asking to follow.
        let datagrams = found.of(&format!("datagrams {}", set.address(at)));
        assert_eq!(datagrams["state"], "on", "{}", found.said);
    }
    let asks = set.told("masters", &["ls"]);
    assert!(!asks.out.contains("asks"), "{}", asks.out);
    let other = world.secret("other.key", &[7; 32]).display().to_string();
    let found = of_master(&world, &[&flags[..], &["--gossip-key-file", &other]].concat());
    let first = format!("datagrams {}", set.address(1));
    found.tells(&first, "degraded", "--gossip-key-file is the same");
    let whole = found.of("registry");
    assert!(
        whole["state"] == "on" && whole["says"].as_str().unwrap().starts_with("whole"),
        "{whole}"
    );
    set.restart(0);
    let found = of_master(&world, &flags);
    for check in ["work dir", "port", "registry"] {
        assert_eq!(found.of(check)["state"], "on", "{}", found.said);
    }
    set.leader();
    set.kill(0);
    let registry = work_dir.join("meta/registry");
    let len = fs::metadata(&registry).unwrap().len();
    fs::write(&registry, vec![0x5a; usize::try_from(len).unwrap()]).unwrap();
    let found = of_master(&world, &flags);
    found.tells("registry", "fails", "mesita masters replace");
    set.stop();
    world.nothing_is_left();
}
