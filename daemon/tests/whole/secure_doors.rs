//! Ports where TLS is spoken: with clients of the outside, with commands, with agents.

use std::path::Path;

use crate::certificates::Authority;
use crate::network::{cable, or_skipped, start};
use crate::world::{Agent, Master, Said, World, eventually, needs_root};

/// What curl says of a URL, and its status.
pub(crate) fn curl(world: &World, wrapper: &[&str], arguments: &[&str]) -> Said {
    let (program, before) = match wrapper {
        [] => ("curl", &[][..]),
        all => (all[0], &all[1..]),
    };
    let mut command = std::process::Command::new(program);
    command.args(before);
    if !wrapper.is_empty() {
        command.arg("curl");
    }
    command.args(["-sS", "--max-time", "20"]).args(arguments);
    world.start(command).end()
}

/// A master on loopback with a certificate of this authority.
fn master<'w>(world: &'w World, authority: &Authority) -> Master<'w> {
    let [certificate, key] = authority.files(world, "127.0.0.1");
    world.master(&["--tls-cert-file", &certificate, "--tls-key-file", &key])
}

/// The key that a master says clients may know it by.
pub(crate) fn pin(master: &Master<'_>) -> String {
    let said = master.process().err();
    let after = said.split("--tls-pin ").nth(1).unwrap();
    after.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn clients_commands_and_agents_speak_tls_with_a_master_that_has_a_certificate() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let master = master(&world, &authority);
    let (at, pin) = (format!("https://{}", master.address()), pin(&master));
    let said = curl(&world, &[], &["--cacert", authority.flag(), &format!("{at}/version")]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.out.contains("\"version\""), "{}", said.out);
    // Who is on this machine may go on without.
    let said = curl(&world, &[], &[&format!("http://{}/version", master.address())]);
    assert!(said.out.contains("\"version\""), "{}{}", said.out, said.err);

    let trusts = ["--tls-ca-file", authority.flag()];
    let mut agent = Agent::new(&world, &at, &trusts);
    agent.start();
    agent.process().says("registered with the master");
    let marked = world.marked();
    let run = ["run", &marked, "--master", &at, "--command", "echo over tls; sleep 0.1"];
    for by in [&trusts[..], &["--tls-pin", &pin]] {
        let said = world.told(&[&run[..], by].concat());
        assert_eq!((said.status, said.out.as_str()), (0, "over tls\n"), "{}", said.err);
        let said = world.told(&[&["ps", "--agents", "--master", &at][..], by].concat());
        assert_eq!(said.status, 0, "{}", said.err);
        // The API of HTTP, once and as a stream.
        let said = world.told(&[&["top", "--master", &at][..], by].concat());
        assert_eq!(said.status, 0, "{}", said.err);
    }
    // What is large comes whole.
    let line = "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done; sleep 0.1";
    let run = ["run", &marked, "--master", &at, "--tls-pin", &pin, "--command", line];
    let said = world.told(&run);
    assert_eq!((said.status, said.out.len()), (0, 220_000), "{}", said.err);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_master_that_is_not_the_one_that_was_meant_is_not_spoken_with() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let other = Authority::new(&world, "other");
    let master = master(&world, &authority);
    let plain = world.master(&[]);
    let at = format!("https://{}", master.address());
    let named = format!("https://localhost:{}", master.port);
    let at_plain = format!("https://{}", plain.address());
    let wrong = "00".repeat(32);
    for (at, by, words) in [
        (&at, ["--tls-ca-file", other.flag()], "is by no authority in"),
        (&at, ["--tls-pin", &wrong], "has another key than the one of --tls-pin"),
        (&named, ["--tls-ca-file", authority.flag()], "is another host's"),
        (&at_plain, ["--tls-ca-file", authority.flag()], "speaks none there"),
        (&at, ["--tls-pin", "00"], "64 hex digits"),
        (&master.address(), ["--tls-pin", &wrong], "are for masters at https://HOST:PORT"),
    ] {
        for command in ["ps", "events"] {
            let said = world.told(&[&[command, "--master", at][..], &by].concat());
            assert_ne!(said.status, 0, "{command} {at} {by:?}");
            assert!(said.err.contains(words), "{command} {words}: {}", said.err);
        }
    }
    let said = curl(&world, &[], &["-k", &format!("{at_plain}/version")]);
    assert_ne!(said.status, 0, "{}", said.out);
    assert!(said.err.contains("handshake failure"), "{}", said.err);
    plain.process().says("speaks TLS, which this port does not: see --tls-cert-file");
    plain.stop();
    master.stop();
    world.nothing_is_left();
}

/// Nodes speak TLS 1.3 with each other: whoever offers less for what nodes speak is no node.
#[test]
fn nodes_speak_no_tls_of_before() {
    use futures_rustls::rustls::version::{TLS12, TLS13};
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let master = master(&world, &authority);
    let shakes = |version, protocol: &[u8]| authority.shakes(master.port, &[version], protocol);
    let refused = shakes(&TLS12, b"mesita/1").unwrap_err().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    // Nor does anybody pass for one who has no key of its own to show.
    assert!(shakes(&TLS13, b"mesita/1").is_err());
    // Browsers of some age are no nodes, and what is older than these nobody speaks.
    assert!(shakes(&TLS12, b"http/1.1").is_ok());
    let url = format!("https://{}/version", master.address());
    let said = curl(&world, &[], &["-k", "--tls-max", "1.1", &url]);
    assert!(said.status != 0 && said.out.is_empty(), "{}", said.out);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_certificate_is_taken_anew_when_its_file_changes() {
    let world = World::new();
    let before = Authority::new(&world, "before");
    let after = Authority::new(&world, "after");
    let [certificate, key] = before.files(&world, "127.0.0.1");
    let master = world.master(&["--tls-cert-file", &certificate, "--tls-key-file", &key]);
    let url = format!("https://{}/version", master.address());
    let known = |authority: &Authority| {
        curl(&world, &[], &["--cacert", authority.flag(), &url]).status == 0
    };
    assert!(known(&before) && !known(&after));
    // One that is no use changes nothing.
    std::fs::write(&certificate, "none").unwrap();
    assert!(known(&before));
    master.process().says("the certificate stays as it was: --tls-cert-file");
    let [new_certificate, new_key] = after.files(&world, "127.0.0.1");
    std::fs::rename(new_key, &key).unwrap();
    std::fs::rename(new_certificate, &certificate).unwrap();
    eventually(|| known(&after), || master.process().err());
    assert!(!known(&before));
    master.stop();
    world.nothing_is_left();
}

#[test]
fn files_that_are_no_use_are_said_at_the_start() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let [certificate, key] = authority.files(&world, "127.0.0.1");
    let [_, other_key] = authority.files(&world, "127.0.0.1");
    let open = world.path("open.key");
    std::fs::copy(&key, &open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o644)).unwrap();
    let open = open.to_str().unwrap();
    let (port, work_dir) = (world.port().to_string(), world.path("work"));
    let work_dir = work_dir.to_str().unwrap();
    let start = ["master", "--port", &port, "--work-dir", work_dir];
    for (flags, words) in [
        (vec!["--tls-cert-file", &certificate], "--tls-key-file"),
        (vec!["--tls-cert-file", &certificate, "--tls-key-file", open], "chmod o= it"),
        (vec!["--tls-cert-file", &certificate, "--tls-key-file", &other_key], "--tls-key-file"),
        (vec!["--tls-cert-file", &key, "--tls-key-file", &key], "has no certificate"),
        (vec!["--tls-cert-file", &certificate, "--tls-key-file", &certificate], "no private key"),
        (vec!["--tls-cert-file", "/no/such", "--tls-key-file", &key], "No such file"),
        (vec!["--ip", "192.0.2.1"], "give --tls-cert-file and --tls-key-file, or add --insecure"),
        (
            vec!["--ip", "192.0.2.1", "--tls-cert-file", &certificate, "--tls-key-file", &key],
            "not everybody must show a credential: give --credentials FILE, --authenticate-agents",
        ),
    ] {
        let said = world.told(&[&start[..], &flags].concat());
        assert_eq!(said.status, 2, "{flags:?}: {}", said.err);
        assert!(said.err.contains(words), "{flags:?} {words}: {}", said.err);
    }
    assert!(!Path::new(work_dir).exists(), "nothing was begun");
}

/// Who may use the master, as its file has it, and the file of one of them.
pub(crate) fn credentials(world: &World) -> [String; 2] {
    use std::os::unix::fs::PermissionsExt;
    let one = "{\"principal\": \"ops\", \"secret\": \"a secret that is long\"}";
    let may = "\"operate\": true, \"agent\": true, \"roles\": [\"/%\"]";
    let all = format!("{{\"credentials\": [{}, {may}}}]}}", one.trim_end_matches('}'));
    [("all", all.as_str()), ("one", one)].map(|(name, text)| {
        let path = world.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    })
}

#[test]
fn other_machines_come_by_tls_and_with_a_credential_or_not_at_all() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some([outside, inside]) = or_skipped(cable(&world)) else { return };
    let authority = Authority::new(&world, "ca");
    let [certificate, key] = authority.files(&world, "10.77.0.1");
    let [all, one] = credentials(&world);
    let (work_dir, agent_dir) = (world.path("outside"), world.path("inside"));
    let [work_dir, agent_dir] = [&work_dir, &agent_dir].map(|path| path.to_str().unwrap());
    let asks = ["agents", "http-readonly", "http-readwrite", "http-frameworks"];
    let asks = asks.map(|of| format!("--authenticate-{of}"));
    let mut flags = vec!["master", "--ip", "10.77.0.1", "--work-dir", work_dir];
    flags.extend(["--tls-cert-file", &certificate, "--tls-key-file", &key, "--credentials", &all]);
    flags.extend(asks.iter().map(String::as_str));
    let master = start(&world, &outside, &flags);
    master.says("master at 10.77.0.1:5050");
    assert!(!master.err().contains("insecure"), "{}", master.err());

    // From another machine: in the clear it is told what to do, and nothing else.
    let there = inside.wrapper();
    let said = curl(&world, &there, &["-i", "http://10.77.0.1:5050/health"]);
    assert!(said.out.contains("400 Bad Request"), "{}{}", said.out, said.err);
    assert!(said.out.contains("say https://HOST:PORT"), "{}", said.out);
    let ps = ["ps", "--agents", "--credential", &one, "--master"];
    let said = start(&world, &inside, &[&ps[..], &["10.77.0.1:5050", "--insecure"]].concat()).end();
    assert!(said.status == 4 && said.err.contains("say https://HOST:PORT"), "{}", said.err);
    // Without a credential it is told nothing but what all may know.
    let trusts = ["--cacert", authority.flag()];
    let asked = |path: &str| {
        let url = format!("https://10.77.0.1:5050{path}");
        curl(
            &world,
            &there,
            &[&trusts[..], &["-o", "/dev/null", "-w", "%{http_code}", &url]].concat(),
        )
        .out
    };
    assert_eq!(asked("/health"), "200");
    for path in ["/state", "/api/v1", "/metrics/snapshot", "/agent/x/state", "/store", "/masters"] {
        assert_eq!(asked(path), "401", "{path}");
    }
    let at = ["https://10.77.0.1:5050", "--tls-ca-file", authority.flag()];
    let said = start(&world, &inside, &[&["ps", "--master"], &at[..]].concat()).end();
    assert!(said.status != 0 && said.err.contains("asks for a credential"), "{}", said.err);
    // With both all is well.
    let said = start(&world, &inside, &[&ps[..], &at].concat()).end();
    assert_eq!(said.status, 0, "{}", said.err);
    let root = format!("--cgroups-root={}", world.name());
    let agent = ["agent", "--work-dir", agent_dir, &root, "--credential", &one, "--master"];
    let agent = start(&world, &inside, &[&agent[..], &at].concat());
    agent.says("registered with the master at 10.77.0.1:5050");
    let mark = world.marked();
    let run = ["run", &mark, "--credential", &one, "--user", "nobody", "--command", "echo there"];
    let said = start(&world, &inside, &[&run[..], &["--master"], &at].concat()).end();
    assert_eq!((said.status, said.out.as_str()), (0, "there\n"), "{}", said.err);
    // On the master's own machine nobody can listen in.
    let said = start(&world, &outside, &[&ps[..], &["10.77.0.1:5050"]].concat()).end();
    assert_eq!(said.status, 0, "{}", said.err);
    for process in [agent, master] {
        process.signal(crate::world::Signal::TERM);
        assert_eq!(process.end().status, 0);
    }
}
