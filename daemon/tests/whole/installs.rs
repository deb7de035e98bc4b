//! `mesita install`: what it writes below a root, a service that it starts, and nothing afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::world::{Said, Signal, World, eventually, needs_root};

/// All files and links below a directory, in order.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

fn names(root: &Path) -> Vec<String> {
    let below = files(root).into_iter().map(|path| path.strip_prefix(root).unwrap().to_owned());
    below.map(|path| path.display().to_string()).collect()
}

fn install(world: &World, root: &Path, arguments: &[&str]) -> Said {
    let root = root.display().to_string();
    world.told(&[&["install", "--root", &root], arguments].concat())
}

#[test]
fn an_image_gets_both_daemons_and_loses_them_one_by_one() {
    let world = World::new();
    let root = world.path("root");
    fs::create_dir(&root).unwrap();
    let master = install(&world, &root, &["master", "--init=systemd", "--", "--port=5060"]);
    assert_eq!(master.status, 0, "{}", master.err);
    let flags = ["agent", "--init=systemd", "--", "--master=a:1,b:2", "--attributes=rack:a"];
    assert_eq!(install(&world, &root, &flags).status, 0);
    assert_eq!(
        names(&root),
        [
            "etc/mesita/agent.toml",
            "etc/mesita/master.toml",
            "etc/systemd/system/mesita-agent.service",
            "etc/systemd/system/mesita-master.service",
            "etc/systemd/system/multi-user.target.wants/mesita-agent.service",
            "etc/systemd/system/multi-user.target.wants/mesita-master.service",
            "usr/local/bin/mesita",
        ]
    );
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert_eq!(text("etc/mesita/master.toml"), "port = \"5060\"\n");
    // There may be a token in it.
    let mode = fs::metadata(root.join("etc/mesita/agent.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let unit = text("etc/systemd/system/mesita-agent.service");
    assert!(unit.contains("ExecStart=/usr/local/bin/mesita agent --config /etc/mesita/agent.toml"));
    let link = root.join("etc/systemd/system/multi-user.target.wants/mesita-agent.service");
    assert_eq!(fs::read_link(link).unwrap(), Path::new("/etc/systemd/system/mesita-agent.service"));
    // Again, with no flags: what was written stays.
    let again = install(&world, &root, &["agent", "--init=systemd"]);
    assert_eq!(again.status, 0, "{}", again.err);
    assert!(text("etc/mesita/agent.toml").contains("rack:a"));
    let gone = |daemon| assert_eq!(install(&world, &root, &[daemon, "--uninstall"]).status, 0);
    gone("agent");
    assert_eq!(names(&root).len(), 4, "what the master needs stays: {:?}", names(&root));
    gone("master");
    gone("master");
    assert_eq!(names(&root), [""; 0]);
    world.nothing_is_left();
}

#[test]
fn a_program_that_was_there_before_stays_when_the_services_go() {
    let world = World::new();
    let root = world.path("root");
    // As a tarball leaves it.
    let unpacked = ["usr/local/bin/mesita", "usr/local/share/man/man1/mesita.1"];
    let unpack = |which: &[&str]| {
        for name in which {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "before").unwrap();
        }
    };
    let install = |daemon: &str| {
        let words = [daemon, "--init=systemd", "--", "--master=a:1"];
        let said = install(&world, &root, &words[..if daemon == "agent" { 4 } else { 2 }]);
        assert_eq!(said.status, 0, "{}", said.err);
    };
    let gone = |daemon| {
        let said = self::install(&world, &root, &[daemon, "--uninstall"]);
        assert_eq!(said.status, 0, "{}", said.err);
        said.out
    };
    unpack(&unpacked);
    install("agent");
    install("master");
    // What runs is of one release.
    assert_ne!(fs::read(root.join(unpacked[0])).unwrap(), b"before");
    gone("agent");
    assert!(root.join("etc/mesita/master.toml").exists(), "{:?}", names(&root));
    install("agent");
    gone("master");
    assert!(gone("agent").contains("left"), "it is said that the program stays");
    assert_eq!(names(&root), unpacked);
    gone("agent");
    assert_eq!(names(&root), unpacked);
    // Where none was there, it goes with what brought it, also when it was brought anew.
    fs::remove_file(root.join(unpacked[0])).unwrap();
    install("agent");
    install("agent");
    install("master");
    gone("agent");
    gone("master");
    assert_eq!(names(&root), unpacked[1..]);
    world.nothing_is_left();
}

#[test]
fn what_init_prints_for_cloud_init_makes_a_machine_an_agent() {
    let world = World::new();
    let (directory, root) = (world.path("shop"), world.path("root"));
    fs::create_dir(&root).unwrap();
    let directory = directory.to_str().unwrap();
    let init = ["init", "--name", "shop", "--ip", "10.0.0.1", "--dir", directory, "--cloud-init"];
    // Not where everybody could put keys of theirs in the place of its own.
    let open = world.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let begin = ["init", "--name", "shop", "--ip", "127.0.0.1", "--dir"];
    let refused = world.told(&[&begin[..], &[open.to_str().unwrap()]].concat());
    assert!(refused.status != 0 && refused.err.contains("everybody may write"), "{}", refused.err);
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
    let here = world.path("here");
    let here = [&begin[..], &[here.to_str().unwrap()]].concat();
    let refused = world.told(&[&here[..], &["--cloud-init"]].concat());
    assert!(refused.status == 2 && refused.err.contains("no other machine"), "{}", refused.err);
    let said = world.told(&here);
    assert!(said.status == 0 && said.out.contains("No other machine reaches"), "{}", said.out);
    let said = world.told(&init);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.err.contains("mesita master --config"), "{}", said.err);
    assert!(said.out.starts_with("#cloud-config\n"), "{}", said.out);
    let after = |key: &str| {
        let value = said.out.lines().find_map(|line| line.trim().strip_prefix(key));
        value.unwrap_or_else(|| panic!("{key} in {}", said.out)).to_owned()
    };
    let text = |key: &str| serde_json::from_str::<String>(&after(key)).unwrap();
    assert!(said.err.contains(&text("content: ")), "{}", said.err);
    let command = format!("[{}", after("- ["));
    let command: Vec<String> = serde_json::from_str(&command).unwrap();
    assert_eq!(command[..3], ["/usr/bin/mesita", "install", "agent"]);
    let words: Vec<&str> = command[3..].iter().map(String::as_str).collect();
    let said = install(&world, &root, &[&["agent", "--init=systemd"], &words[..]].concat());
    assert_eq!(said.status, 0, "{}", said.err);
    let config = fs::read_to_string(root.join("etc/mesita/agent.toml")).unwrap();
    assert!(config.contains("https://10.0.0.1:5050") && config.contains(&text("- path: ")));
    // What was written for it goes with it.
    fs::write(root.join("etc/mesita/agent.token"), text("content: ")).unwrap();
    assert_eq!(install(&world, &root, &["agent", "--uninstall"]).status, 0);
    assert_eq!(names(&root), [""; 0]);
    world.nothing_is_left();
}

#[test]
fn the_init_system_is_the_one_that_is_there() {
    let world = World::new();
    for (there, file) in [
        ("sbin/openrc-run", "etc/init.d/mesita-master"),
        ("usr/lib/systemd/systemd", "etc/systemd/system/mesita-master.service"),
    ] {
        let root = world.path(&there.replace('/', "-"));
        fs::create_dir_all(root.join(there).parent().unwrap()).unwrap();
        fs::write(root.join(there), "").unwrap();
        let said = install(&world, &root, &["master"]);
        assert_eq!(said.status, 0, "{}", said.err);
        assert!(root.join(file).exists(), "{:?}", names(&root));
        assert_eq!(install(&world, &root, &["master", "--uninstall"]).status, 0);
        assert_eq!(names(&root), [there]);
    }
}

#[test]
fn a_script_of_openrc_is_one_of_the_shell() {
    let world = World::new();
    let root = world.path("root");
    fs::create_dir(&root).unwrap();
    let said = install(&world, &root, &["agent", "--init=openrc", "--", "--master=a:1"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let script = root.join("etc/init.d/mesita-agent").display().to_string();
    let checked = world.start(world.command_in(&["sh", "-n"], &script)).end();
    assert_eq!(checked.status, 0, "{}", checked.err);
    let runlevel = root.join("etc/runlevels/default/mesita-agent");
    assert_eq!(fs::read_link(runlevel).unwrap(), Path::new("/etc/init.d/mesita-agent"));
}

/// What `init` makes is written for the daemons to be started by hand.
#[test]
fn a_file_of_flags_becomes_the_services_own() {
    let world = World::new();
    let (root, config) = (world.path("root"), world.path("made.toml"));
    fs::create_dir(&root).unwrap();
    let masters = "masters = \"127.0.0.1:5060\"\nbootstrap = true\n";
    fs::write(&config, format!("port = 5050\n{masters}")).unwrap();
    let config = format!("--config={}", config.display());
    let said = install(&world, &root, &["master", "--init=systemd", "--", &config, "--port=5060"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let text = fs::read_to_string(root.join("etc/mesita/master.toml")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let expected = ["bootstrap = \"true\"", "masters = \"127.0.0.1:5060\"", "port = \"5060\""];
    assert_eq!(lines, expected);
}

#[test]
fn what_would_not_start_is_refused_and_nothing_is_written() {
    let world = World::new();
    let root = world.path("root");
    fs::create_dir(&root).unwrap();
    for (arguments, told) in [
        (&["agent", "--init=systemd"][..], "an agent needs a master"),
        (&["agent", "--init=systemd", "--", "--master=a:1", "--port=x"], "--port"),
        (&["master", "--init=systemd", "--", "--config=x"], "x: No such file"),
        (&["master"], "neither systemd nor OpenRC"),
    ] {
        let said = install(&world, &root, arguments);
        assert_eq!(said.status, 2, "{arguments:?}: {}", said.out);
        assert!(said.err.contains(told), "{arguments:?}: {}", said.err);
        assert_eq!(names(&root), [""; 0], "{arguments:?}");
    }
    let none = world.path("none");
    assert_eq!(install(&world, &none, &["master", "--init=systemd"]).status, 2);
}

/// In the words of the daemon itself, whose own checks these are.
#[test]
fn what_the_daemon_would_refuse_is_refused_as_it_does_and_nothing_is_written() {
    let world = World::new();
    let root = world.path("root");
    fs::create_dir(&root).unwrap();
    let (pin, secret) = ("ab".repeat(32), "c".repeat(32));
    let foreign = format!("--join=v1.{pin}.0000000a.{secret}");
    let joined = root.join("var/lib/mesita/agent/meta");
    fs::create_dir_all(&joined).unwrap();
    fs::write(joined.join("joined"), "cd".repeat(32)).unwrap();
    fs::create_dir_all(root.join("there/meta/registry")).unwrap();
    fs::write(root.join("rules"), "{\"run_taks\": []}").unwrap();
    let (before, fresh) = (names(&root), "--work-dir=/fresh");
    let https = "--master=https://10.0.0.1:5050";
    let far = ["--ip=10.0.0.1", "--tls-cert-file=/etc/c", "--tls-key-file=/etc/k"];
    let lone = ["--masters=10.0.0.1:5050", "--bootstrap", "--ip=10.0.0.1", "--insecure"];
    for (daemon, flags, told) in [
        ("agent", &[https, "--join=v1.short"][..], "the token is not whole"),
        ("agent", &["--master=a:1", &*foreign, fresh], "a node joins by TLS"),
        ("agent", &[https, &*foreign], "a node of another cluster than the token's"),
        ("agent", &["--master=a:1", "--ip=10.0.0.1"], "nothing protects what they say"),
        ("agent", &["--master=10.0.0.1:5050", fresh], "say https://10.0.0.1:5050"),
        ("agent", &["--master=a:1", "--work-dir=/there"], "the work directory of a master"),
        ("agent", &["--master=a:1", "--acls=/rules", fresh], "`run_taks` is not known"),
        ("master", &["--ip=10.0.0.1"], "nothing protects what they say"),
        ("master", &far, "not everybody must show a credential"),
        ("master", &["--authenticate-agents"], "somebody must show a credential"),
        ("master", &["--masters=127.0.0.1:5050"], "--bootstrap"),
        ("master", &["--masters=127.0.0.1:1", "--bootstrap"], "say which it is by"),
        ("master", &lone, "a key that only they have"),
        ("master", &["--masters=a:1", "--join=v1.short"], "the token is not whole"),
    ] {
        let words = [&[daemon, "--init=systemd", "--"], flags].concat();
        let said = install(&world, &root, &words);
        assert_eq!(said.status, 2, "{words:?}: {}{}", said.out, said.err);
        assert!(said.err.contains(told), "{words:?}: {}", said.err);
        assert_eq!(names(&root), before, "{words:?}");
    }
    // What is in files that an image does not have yet is judged on its machine.
    let words = ["master", "--init=systemd", "--", "--credentials=/etc/later"];
    assert_eq!(install(&world, &root, &words).status, 0);
    assert_eq!(install(&world, &root, &["master", "--uninstall"]).status, 0);
    world.nothing_is_left();
}

/// A variable of whoever installs says nothing to a service, and a file of a token is found from anywhere.
#[test]
fn a_service_has_the_flags_that_were_said_and_no_variables() {
    let world = World::new();
    let root = world.path("root");
    fs::create_dir(&root).unwrap();
    let root = root.display().to_string();
    let words = ["install", "--root", &root, "agent", "--init=systemd", "--"];
    let mut command = world.mesita(&[&words[..], &["--master=https://a:1", "--join=./t"]].concat());
    command.env("MESITA_IP", "10.0.0.1");
    let said = world.start(command).end();
    assert_eq!(said.status, 0, "{}", said.err);
    let text = fs::read_to_string(Path::new(&root).join("etc/mesita/agent.toml")).unwrap();
    let join = text.lines().find(|line| line.starts_with("join")).unwrap();
    assert!(join.starts_with("join = \"/"), "{text}");
    world.nothing_is_left();
}

/// What stands for systemctl: it starts what the unit says, and ends that.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>$WORLD/asked
case "$1" in
restart)
  set -- $(sed -n 's/^ExecStart=//p' /etc/systemd/system/$2.service)
  "$@" >$WORLD/agent.out 2>&1 &
  echo $! >$WORLD/pid ;;
stop)
  pid=$(cat $WORLD/pid)
  kill $pid
  while [ -e /proc/$pid/exe ]; do sleep 0.05; done ;;
esac
"#;

/// A machine of its own as far as its files go.
const MACHINE: &str = r#"
cp -a /etc $WORLD/etc
rm -rf $WORLD/etc/mesita
mount --bind $WORLD/etc /etc
mount -t tmpfs none /usr/local/bin
mount -t tmpfs none /run
mkdir -p /run/systemd/system
export PATH=$WORLD/bin:$PATH
"$0" install agent -- --master $MASTER --port $PORT --work-dir $WORLD/agent
while ! [ -e $WORLD/go ]; do sleep 0.05; done
/usr/local/bin/mesita install agent --uninstall --purge
! ls -d /etc/mesita /usr/local/bin/mesita /etc/systemd/system/*mesita* \
  /etc/systemd/system/multi-user.target.wants/*mesita* $WORLD/agent 2>/dev/null
"#;

#[test]
fn a_service_starts_and_when_it_is_taken_away_nothing_is_left_of_it_or_its_tasks() {
    if !needs_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let master = world.master(&[]);
    fs::create_dir(world.path("bin")).unwrap();
    let systemctl = world.path("bin/systemctl");
    fs::write(&systemctl, SYSTEMCTL).unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    let mut machine = world.wrapped(&["unshare", "--mount", "--", "sh", "-ec", MACHINE], &[]);
    machine.env("WORLD", world.path("")).env("MASTER", master.address());
    machine.env("PORT", world.port().to_string());
    let machine = world.start(machine);
    eventually(|| master.rows(&["--agents"]).len() == 1, || machine.err());
    let task = master.run(&["--", "sleep", "1000"]);
    let runs = || master.rows(&[]).iter().any(|row| row["state"] == "TASK_RUNNING");
    eventually(runs, || task.err());
    fs::write(world.path("go"), "").unwrap();
    let said = machine.end();
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("mesita: ended 1 tasks"), "{}", said.out);
    let asked = fs::read_to_string(world.path("asked")).unwrap();
    assert_eq!(
        asked.lines().collect::<Vec<_>>(),
        [
            "daemon-reload",
            "restart mesita-agent",
            "stop mesita-agent",
            "daemon-reload",
            "reset-failed mesita-agent"
        ]
    );
    task.signal(Signal::KILL);
    drop(task);
    master.stop();
    world.nothing_is_left();
}
