//! Every port that any subcommand listens at, off loopback: without a credential nothing is answered
//! but the refusal. Which subcommands those are is read from the flags, which paths they serve from
//! the source, so that neither can be forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

use crate::certificates::Authority;
use crate::credentials::{EVERYBODY, credentials};
use crate::secure_doors::curl;
use crate::world::{Process, Signal, World, eventually, needs_root};

/// An address of the test's own network that is not loopback.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
/// Another one, as another machine has it.
const ELSEWHERE: &str = "10.79.0.2";
/// Subcommands with a port that serve nothing at it.
const LOOKERS: [&str; 3] = ["doctor", "doctor-master", "init"];
/// What becomes of datagrams that nobody of the cluster has sent.
const DROPPED: [&str; 4] = ["truncated", "foreign", "forged", "malformed"];
/// What everybody may know, as in Mesos.
const OPEN: [&str; 3] = ["/health", "/version", "/redirect"];

/// Subcommands that have a flag with this name, those below others included.
fn with_flag(flag: &str) -> BTreeSet<String> {
    fn below(command: &clap::Command, path: &str, flag: &str, into: &mut BTreeSet<String>) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
            if sub.get_arguments().any(|arg| arg.get_long() == Some(flag)) {
                into.insert(path.clone());
            }
            below(sub, &path, flag, into);
        }
    }
    let mut found = BTreeSet::new();
    below(&mesita::command_line(), "", flag, &mut found);
    found
}

/// Runs a test whose thread, and all that it starts, has a network of its own.
fn apart(test: impl FnOnce() + Send + 'static) {
    if !needs_root() {
        return;
    }
    let thread = std::thread::spawn(move || {
        use nix::sched::{CloneFlags, unshare};
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for arguments in ["link set lo up", &format!("address add {OUTSIDE}/32 dev lo")] {
            let ip = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
            assert!(ip.success(), "ip {arguments}");
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What starts a daemon at a port, with what it cannot do without.
fn command(world: &World, subcommand: &str, port: u16) -> Vec<String> {
    let work_dir = world.path(&format!("{subcommand}-{port}")).display().to_string();
    let port = port.to_string();
    let root = format!("--cgroups-root={}", world.name());
    let own: &[&str] = match subcommand {
        "master" => &["--work-dir", &work_dir],
        "agent" => &["--work-dir", &work_dir, &root, "--master", "127.0.0.1:1"],
        "dev" => &["--agents", "1"],
        other => panic!("nobody told this test how `mesita {other}` is started, which has a port"),
    };
    let begin = [subcommand, "--port", &port];
    begin.iter().chain(own).map(|&word| word.to_owned()).collect()
}

fn start(world: &World, words: &[String], more: &[&str]) -> Process {
    let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
    world.start(world.mesita(&words))
}

/// A socket that takes something in: TCP that listens, or UDP.
#[derive(Debug, PartialEq)]
struct Heard {
    is_udp: bool,
    loopback: bool,
    port: u16,
}

/// Those of this network.
fn heard() -> Vec<Heard> {
    let mut found = Vec::new();
    for (file, listens) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (address, port) = words[1].split_once(':').unwrap();
            // Little endian: loopback of IPv4 ends with 7F, that of IPv6 is one.
            let loopback = address.len() == 8 && address.ends_with("7F")
                || address == "00000000000000000000000001000000";
            if words[3] == listens {
                let (is_udp, port) = (listens == "07", u16::from_str_radix(port, 16).unwrap());
                found.push(Heard { is_udp, loopback, port });
            }
        }
    }
    found
}

#[test]
fn nothing_is_heard_off_loopback_that_was_not_asked_to_be() {
    apart(|| {
        let world = World::new();
        for subcommand in with_flag("port").into_iter().filter(|name| !LOOKERS.contains(&&**name)) {
            let port = world.port();
            let process = start(&world, &command(&world, &subcommand, port), &[]);
            let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            eventually(|| listens() || process.has_ended(), || process.err());
            assert!(listens(), "{subcommand} has no port: {}", process.err());
            // The test holds its port at loopback, too.
            let outside: Vec<_> = heard().into_iter().filter(|one| !one.loopback).collect();
            assert_eq!(outside, [], "{subcommand}");
            process.signal(Signal::TERM);
            process.end();
        }
        world.nothing_is_left();
    });
}

#[test]
fn an_address_off_loopback_is_refused_unless_somebody_says_that_it_is_open() {
    apart(|| {
        let world = World::new();
        let subcommands = with_flag("ip");
        assert!(subcommands.contains("master") && subcommands.contains("agent"));
        for subcommand in subcommands.into_iter().filter(|name| !LOOKERS.contains(&&**name)) {
            for ip in ["0.0.0.0", "::", &OUTSIDE.to_string()] {
                let words = command(&world, &subcommand, world.port());
                let said = start(&world, &words, &["--ip", ip]).end();
                assert_eq!(said.status, 2, "{subcommand} {ip}: {}", said.err);
                assert!(said.err.contains("--insecure"), "{subcommand} {ip}: {}", said.err);
            }
        }
        world.nothing_is_left();
    });
}

/// The only address is the one; where there are none or several, which it is somebody has to say.
#[test]
fn init_takes_the_only_address_that_there_is() {
    apart(|| {
        let world = World::new();
        let init = |name: &str| {
            let directory = world.path(name).display().to_string();
            world.told(&["init", "--name", "shop", "--dir", &directory])
        };
        let said = init("one");
        assert_eq!(said.status, 0, "{}", said.err);
        let told = format!("at {OUTSIDE}, the only address by which others reach this machine");
        assert!(said.out.contains(&told), "{}", said.out);
        let config = fs::read_to_string(world.path("one/master.toml")).unwrap();
        assert!(config.contains(&format!("ip = \"{OUTSIDE}\"")), "{config}");
        let ip = |words: &str| {
            let status = std::process::Command::new("ip").args(words.split(' ')).status().unwrap();
            assert!(status.success(), "ip {words}");
        };
        ip("address add 10.78.0.9/32 dev lo");
        let said = init("several");
        let told = format!("several addresses, 10.78.0.9 (lo), {OUTSIDE} (lo): give the one");
        assert!(said.status == 2 && said.err.contains(&told), "{}", said.err);
        assert!(!world.path("several").exists(), "nothing was begun");
        ip("address del 10.78.0.9/32 dev lo");
        ip(&format!("address del {OUTSIDE}/32 dev lo"));
        let said = init("none");
        assert!(said.status == 2 && said.err.contains("no address by which"), "{}", said.err);
        world.nothing_is_left();
    });
}

/// Every text of the source that could be a path that is served.
fn paths() -> BTreeSet<String> {
    fn read(directory: &Path, into: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                read(&path, into);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let quoted = text.split('"').filter(|text| text.starts_with('/'));
                let plain = |c: char| c.is_ascii_alphanumeric() || "/()._-".contains(c);
                into.extend(quoted.filter(|text| text.chars().all(plain)).map(str::to_owned));
            }
        }
    }
    let mut found = BTreeSet::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

/// The status of a request from outside, without a credential.
fn answer(port: u16, method: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect((OUTSIDE, port)).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.take(4096).read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(port: u16, method: &str, path: &str) -> u16 {
    let answer = answer(port, method, path);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("{method} {path}: {answer}"))
}

/// Refused for want of a credential, unless everybody may know it.
fn is_refused(subcommand: &str, method: &str, path: &str, status: u16) {
    let plain = path.strip_suffix(".json").unwrap_or(path);
    let open = OPEN.iter().any(|open| plain.ends_with(open));
    // An executor shows its own token, in another realm.
    let at_agent = subcommand == "agent" || plain.starts_with("/agent/");
    let below = plain.split_once("/api/v1/executor").map(|(_, rest)| rest);
    let executors = at_agent && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let refused = status == 401 || executors && status >= 400;
    assert!(refused || open && status != 0, "{subcommand}: {method} {path} is answered {status}");
}

/// Flags of a daemon that asks everybody for a credential.
fn closed(subcommand: &str, known: &str) -> Vec<String> {
    let of_agent = known.replace("--credentials", "--http-credentials");
    let flags = match subcommand {
        "master" => [&[known], &EVERYBODY[..]].concat(),
        "agent" => [&[&*of_agent, "--authenticate-http-executors"], &EVERYBODY[..2]].concat(),
        other => panic!("nobody told this test how `mesita {other}` is closed"),
    };
    flags.into_iter().map(str::to_owned).collect()
}

#[test]
fn whoever_shows_no_credential_is_told_that_and_nothing_else() {
    apart(|| {
        let world = World::new();
        let known = credentials(&world);
        let ip = ["--insecure", "--ip", &OUTSIDE.to_string()].map(str::to_owned);
        let paths = paths();
        assert!(paths.contains("/state") && paths.contains("/api/v1") && paths.len() > 60);
        for subcommand in with_flag("ip").into_iter().filter(|name| !LOOKERS.contains(&&**name)) {
            let port = world.port();
            let closed = closed(&subcommand, &known);
            let flags: Vec<&str> = ip.iter().chain(&closed).map(String::as_str).collect();
            let process = start(&world, &command(&world, &subcommand, port), &flags);
            process.says(&format!(" at {OUTSIDE}:"));
            // Everybody who looks after it is told that others can listen in.
            process.says(&format!("--insecure: others reach {OUTSIDE}, and can listen in"));
            let health = answer(port, "GET", "/health");
            assert!(health.contains("\"insecure\":true"), "{subcommand}: {health}");
            assert!(health.contains("\"authenticates\":true"), "{subcommand}: {health}");
            for path in &paths {
                for method in ["GET", "POST"] {
                    is_refused(&subcommand, method, path, status(port, method, path));
                }
            }
            let at = format!("{OUTSIDE}:{port}");
            for words in [&["ps"][..], &["ps", "--agents"], &["store", "ls"], &["masters", "ls"]] {
                let said = world.told(&[words, &["--master", &at]].concat());
                assert!(
                    said.status != 0 && said.out.is_empty(),
                    "{subcommand} {words:?}: {said:?}"
                );
            }
            process.signal(Signal::TERM);
            process.end();
        }
        world.nothing_is_left();
    });
}

/// What another machine is answered to each of these paths, without a credential, by TLS.
fn statuses(world: &World, method: &str, port: u16, paths: &BTreeSet<String>) -> Vec<u16> {
    let begin = ["-k", "-g", "--path-as-is", "--interface", ELSEWHERE, "-w", "%{http_code}\\n"];
    let json = ["-H", "Content-Type: application/json"];
    let body: &[&str] = if method == "POST" { &["-d", "{}"] } else { &[] };
    let urls: Vec<String> =
        paths.iter().map(|path| format!("https://{OUTSIDE}:{port}{path}")).collect();
    let urls = urls.iter().flat_map(|url| ["-o", "/dev/null", url]);
    let all: Vec<&str> = begin.iter().chain(&json).chain(body).copied().chain(urls).collect();
    let said = curl(world, &[], &all);
    let found: Vec<u16> = said.out.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(found.len(), paths.len(), "{}", said.err);
    found
}

/// Datagrams that nobody of the cluster has sent: none is answered, whatever is in it.
fn nothing_answers_datagrams(port: u16, counted: impl Fn() -> u64) {
    let from = UdpSocket::bind((ELSEWHERE, 0)).unwrap();
    from.set_nonblocking(true).unwrap();
    let mut sent = 0;
    for len in [0, 1, 3, 4, 16, 64, 200, 576, 1_200] {
        for first in [0, 1, 3, 0x16, b'G', 0xff] {
            let mut datagram = vec![first; len];
            datagram.iter_mut().skip(1).zip((0..=255).cycle()).for_each(|(byte, at)| *byte = at);
            assert_eq!(from.send_to(&datagram, (OUTSIDE, port)).unwrap(), len);
            sent += 1;
        }
    }
    eventually(|| counted() >= sent, || format!("of {sent} datagrams {} were heard", counted()));
    let answer = from.recv_from(&mut [0; 2048]);
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::WouldBlock, "UDP port {port} answers");
}

/// The same where nobody said that it is open: by TLS all of it is refused, in the clear everything is.
#[test]
fn whoever_comes_by_tls_and_shows_no_credential_is_told_that_and_nothing_else() {
    apart(|| {
        let world = World::new();
        let ip = ["address", "add", &format!("{ELSEWHERE}/32"), "dev", "lo"];
        assert!(std::process::Command::new("ip").args(ip).status().unwrap().success());
        let known = credentials(&world);
        let authority = Authority::new(&world, "ca");
        let [certificate, key] = authority.files(&world, &OUTSIDE.to_string());
        let gossip = world.secret("gossip.key", &[3; 32]);
        let gossip = format!("--gossip-key-file={}", gossip.display());
        let paths = paths();
        let mut datagrams = 0;
        for subcommand in with_flag("ip").into_iter().filter(|name| !LOOKERS.contains(&&**name)) {
            let (port, ip) = (world.port(), OUTSIDE.to_string());
            let set = ["--bootstrap", "--masters", &format!("{OUTSIDE}:{port}"), &gossip];
            let set = set.map(str::to_owned);
            let tls = ["--ip", &ip, "--tls-cert-file", &certificate, "--tls-key-file", &key];
            let closed = closed(&subcommand, &known);
            let more = if with_flag("masters").contains(&subcommand) { &set[..] } else { &[] };
            let flags = tls.into_iter().chain(closed.iter().chain(more).map(String::as_str));
            let flags: Vec<&str> = flags.collect();
            let process = start(&world, &command(&world, &subcommand, port), &flags);
            process.says(&format!(" at {OUTSIDE}:"));
            for method in ["GET", "POST"] {
                for (path, status) in paths.iter().zip(statuses(&world, method, port, &paths)) {
                    is_refused(&subcommand, method, path, status);
                }
            }
            // In the clear nobody from elsewhere is told anything but how to ask.
            let url = |path: &str| format!("http://{OUTSIDE}:{port}{path}");
            for path in ["/health", "/state", "/api/v1"] {
                let elsewhere = ["-i", "--interface", ELSEWHERE, &url(path)];
                let said = curl(&world, &[], &elsewhere).out;
                assert!(
                    said.contains("400 Bad Request") && said.contains("https://"),
                    "{subcommand} {path}: {said}"
                );
            }
            let at = format!("https://{OUTSIDE}:{port}");
            let by = ["--tls-ca-file", authority.flag(), "--master", &at];
            for words in [&["ps"][..], &["ps", "--agents"], &["store", "ls"], &["masters", "ls"]] {
                let said = world.told(&[words, &by].concat());
                let told = format!("{subcommand} {words:?}: {said:?}");
                assert!(said.status != 0 && said.out.is_empty(), "{told}");
            }
            let sockets = heard().into_iter().filter(|one| !one.loopback);
            let sockets: Vec<Heard> = sockets.collect();
            assert!(sockets.iter().all(|one| one.port == port), "{subcommand}: {sockets:?}");
            for one in sockets.iter().filter(|one| one.is_udp) {
                let counted = || {
                    let ops = ["-k", "-u", "ops:planted-3f9c-ops", &format!("{at}/metrics")];
                    let told = curl(&world, &[], &ops).out;
                    let dropped = |line: &&str| {
                        let of = |kind: &&str| line.contains(&format!("gossip_{kind}_total "));
                        !line.starts_with('#') && DROPPED.iter().any(of)
                    };
                    let number = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
                    told.lines().filter(dropped).filter_map(number).sum()
                };
                nothing_answers_datagrams(one.port, counted);
                datagrams += 1;
            }
            process.signal(Signal::TERM);
            process.end();
        }
        assert_eq!(datagrams, 1, "masters hear datagrams of each other");
        world.nothing_is_left();
    });
}
