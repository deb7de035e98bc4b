//! What is tried at the ports of a cluster by whoever reaches them, and by whoever has a credential of
//! it: none of it takes a daemon down, and nobody has more by it than is its own.
//!
//! | probe | where |
//! |---|---|
//! | 46 a head or a body a byte at a time | `bad_input::{open, closed}::whoever_asks_nothing..`, `a_body_that_does_not_end..` |
//! | 47 lengths of frames and records that cannot be | `bad_input::{open, closed}::frames_that_are_none..`, `records_that_are_none..` |
//! | 48 1 GiB, chunks without end, 10,000 headers | `requests_of_any_size..` |
//! | 49 JSON 100,000 deep and the like | `texts_that_are_no_calls..` |
//! | 50 paths that lead elsewhere | `paths_that_lead_elsewhere..` |
//! | 51 noise, TLS at a plain port and the reverse | `bad_input::{open, closed}::garbage..`, `secure_doors` |
//! | 52 idle connections, streams that nobody reads | `bad_input::{open, closed}::a_thousand_idle..`, `streams_that_nobody_reads..` |
//! | 53 no descriptor left | `faults::{open, closed}::used_up_descriptors..` |
//! | 54 two masters of one id, one outside of the list | `masters_that_are_none_of_the_set..` |
//! | 55 an offer accepted twice, of another, of before, and for more | `offers_are_answered_once..` |
//! | 56 certificates of others, and out of date | `certificates_of_others..`, `certificates_that_are_out_of_date..` |
//! | 57 digests that are forged, flipped or said again | `digests_that_are_forged_or_said_again..` |
//! | 57 a conversation that was listened to, said again | `what_was_heard_on_the_wire..` |
//! | 58 tokens of before | `tokens_of_before..` |
//! | 59 what is another role's | `what_is_another_roles..` |
//! | 60 the id of another executor | `an_executor_is_nobody_but_itself` |

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bad_input::{Setting, answer_to, cluster, connect, end, in_both, is_well, shown};
use crate::certificates::Authority;
use crate::credentials::{EVERYBODY, credential, credentials};
use crate::http::{Records, ask, post};
use crate::masters::{Set, copy_all};
use crate::scheduler_api::{Framework, JSON, subscription, task};
use crate::world::{Master, Process, World, eventually};

const WEB: &str = "Basic d2ViOnBsYW50ZWQtM2Y5Yy13ZWI=";
const OPS: &str = "Basic b3BzOnBsYW50ZWQtM2Y5Yy1vcHM=";

in_both! {
    a_body_that_does_not_end_keeps_nobody_waiting
    records_that_are_none_are_refused
    requests_of_any_size_take_no_more_memory_than_they_may
    texts_that_are_no_calls_are_refused
    paths_that_lead_elsewhere_lead_nowhere
    streams_that_nobody_reads_keep_nobody_out
    offers_are_answered_once_and_by_whom_they_were_made_to
}

/// What those show who try: nobody shows anything where that is enough.
fn visitors(setting: Setting) -> &'static [Option<&'static str>] {
    match setting {
        Setting::Open => &[None],
        Setting::Closed => &[None, Some(WEB)],
    }
}

/// A head that is whole, of somebody.
fn head_of(line: &str, shown: Option<&str>, more: &str) -> String {
    let shown = shown.map(|shown| format!("Authorization: {shown}\r\n")).unwrap_or_default();
    format!("{line} HTTP/1.1\r\nHost: it\r\n{shown}{more}\r\n")
}

/// The status that an answer begins with, if there is one.
fn status_of(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    text.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()
}

/// What is answered to a request that says it is the last.
fn answer_of(port: u16, asked: &[u8]) -> Vec<u8> {
    let mut stream = connect(port);
    let _ = stream.write_all(asked);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// The most memory that a process has had, in KiB.
fn most_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn a_body_that_does_not_end_keeps_nobody_waiting(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let more = "Content-Type: application/json\r\nContent-Length: 100000\r\n";
    let mut slow = Vec::new();
    for (port, shown) in [master.port, agent.port]
        .into_iter()
        .flat_map(|port| visitors(setting).iter().map(move |one| (port, *one)))
    {
        let mut stream = connect(port);
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        stream.write_all(head_of("POST /api/v1", shown, more).as_bytes()).unwrap();
        slow.push(stream);
    }
    // A byte now and then, until they are told that they are too slow.
    let began = Instant::now();
    let mut ended = 0;
    while ended < slow.len() {
        assert!(began.elapsed() < Duration::from_secs(100), "{ended} of {} ended", slow.len());
        ended = 0;
        for stream in &mut slow {
            let written = stream.write_all(b" ");
            let read = stream.read(&mut [0; 4096]);
            let waits = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
            if written.is_err() || matches!(read, Ok(0)) || read.is_err_and(|error| !waits(&error))
            {
                ended += 1;
            }
        }
        is_well(&world, &master, &agent);
        std::thread::sleep(Duration::from_millis(500));
    }
    end(&world, master, agent);
}

fn records_that_are_none_are_refused(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let more = "Content-Type: application/recordio\r\nMessage-Content-Type: application/json\r\n\
                Connection: close\r\n";
    for shown in visitors(setting) {
        for record in
            ["-1\n{}", "x\n{}", "4294967295\n{}", "99999999999999999999\n{}", "\n{}", "12"]
        {
            let more = format!("{more}Content-Length: {}\r\n", record.len());
            let asked = head_of("POST /api/v1", *shown, &more) + record;
            let answer = answer_of(agent.port, asked.as_bytes());
            let status = status_of(&answer);
            let refused = status.is_some_and(|status| (400..500).contains(&status));
            assert!(refused, "{record:?} {shown:?}: {}", String::from_utf8_lossy(&answer));
            assert_eq!(status == Some(401), setting == Setting::Closed && shown.is_none());
        }
    }
    end(&world, master, agent);
}

fn requests_of_any_size_take_no_more_memory_than_they_may(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let pids = [master.process().pid(), agent.process().pid()];
    let before = pids.map(most_memory);
    let json = "Content-Type: application/json\r\n";
    for (port, shown) in [master.port, agent.port]
        .into_iter()
        .flat_map(|port| visitors(setting).iter().map(move |one| (port, *one)))
    {
        let refused = |asked: &[u8], what: &str| {
            let answer = answer_to(port, asked);
            let status = status_of(&answer);
            // Who sends more than anybody reads may be cut off before an answer.
            let is =
                answer.is_empty() || status.is_some_and(|status| (400..=503).contains(&status));
            assert!(is, "{what} {shown:?}: {}", String::from_utf8_lossy(&answer));
        };
        let asked =
            head_of("POST /api/v1", shown, &format!("{json}Content-Length: 1073741824\r\n"));
        refused(&[asked.as_bytes(), &[b' '; 1 << 16][..]].concat(), "1 GiB");
        let asked =
            head_of("POST /api/v1", shown, &format!("{json}Transfer-Encoding: chunked\r\n"));
        let endless = b"10000\r\n".iter().chain(&[b' '; 0x10000]).chain(b"\r\n").copied();
        let endless: Vec<u8> = endless.collect();
        refused(&[asked.as_bytes(), &endless.repeat(400)].concat(), "chunks without end");
        let trailers = "x: y\r\n".repeat(10_000);
        refused(format!("{asked}2\r\n{{}}\r\n0\r\n{trailers}\r\n").as_bytes(), "trailers");
        let many: String = (0..10_000).map(|number| format!("x{number}: y\r\n")).collect();
        refused(head_of("GET /state", shown, &many).as_bytes(), "headers");
        let long = format!("x: {}\r\n", "y".repeat(1 << 20));
        refused(head_of("GET /state", shown, &long).as_bytes(), "a long header");
        for length in ["-1", "x", "18446744073709551616", "1, 2"] {
            let more = format!("{json}Content-Length: {length}\r\n");
            refused(head_of("POST /api/v1", shown, &more).as_bytes(), length);
        }
        let both = format!("{json}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n");
        refused(head_of("POST /api/v1", shown, &both).as_bytes(), "both lengths");
    }
    for (pid, before) in pids.into_iter().zip(before) {
        let grown = most_memory(pid) - before;
        assert!(grown < 64 * 1024, "{grown} KiB");
    }
    end(&world, master, agent);
}

fn texts_that_are_no_calls_are_refused(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let deep = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
    let texts = [
        deep("[", "]"),
        deep("{\"a\":", "}"),
        format!("{{\"type\": {}}}", deep("[", "]")),
        "{\"type\": 1e308}".to_owned(),
        "{\"type\": \"UPDATE_WEIGHTS\", \"update_weights\": {\"weight_infos\": [{\"role\": \"a\", \
         \"weight\": 1e400}]}}"
            .to_owned(),
        "{\"type\": \"\\ud800\"}".to_owned(),
        "{\"type\": \"GET_STATE\", \"type\": ".to_owned(),
        "\u{feff}".to_owned(),
        "{\"type\": \"NO_SUCH_CALL\"}".to_owned(),
    ];
    let paths = [
        (master.port, "/api/v1"),
        (master.port, "/api/v1/scheduler"),
        (agent.port, "/api/v1"),
        (agent.port, "/api/v1/executor"),
    ];
    for shown in visitors(setting) {
        let headers: Vec<_> =
            JSON.iter().copied().chain(shown.map(|shown| ("Authorization", shown))).collect();
        for ((port, path), text) in
            paths.iter().flat_map(|at| texts.iter().map(move |text| (*at, text)))
        {
            let answer = ask(port, "POST", path, &headers, text.as_bytes());
            let begin = &text[..text.len().min(40)];
            assert!((400..500).contains(&answer.status), "{path} {begin}: {}", answer.status);
            let executor = path.ends_with("executor");
            let unknown = setting == Setting::Closed && shown.is_none() && !executor;
            assert!(!unknown || answer.status == 401, "{path} {begin}: {}", answer.status);
            assert!(answer.body.len() < 16 * 1024, "{path}: {} bytes", answer.body.len());
        }
    }
    end(&world, master, agent);
}

fn paths_that_lead_elsewhere_lead_nowhere(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let planted = world.secret("planted", b"root:x:0:0");
    let planted = planted.display();
    for shown in visitors(setting) {
        for path in [
            "",
            "/",
            "//",
            "///etc/passwd",
            "/..",
            "/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/%00",
            "/state%00",
            "/a\u{fffd}",
            "*",
            "/files/read?path=/etc/passwd",
            "/files/read?path=../../etc/passwd",
            "/files/read?path=%00",
            "/files/download?path=/etc/passwd",
            "/files/browse?path=/",
            "/agent/../state",
            "/agent//state",
            "/agent/%2e%2e/state",
            "/images/blobs/../../etc/passwd",
            &format!("/files/read?path={planted}"),
            &format!("/files/download?path={planted}"),
        ] {
            for port in [master.port, agent.port] {
                let asked = head_of(&format!("GET {path}"), *shown, "Connection: close\r\n");
                let answer = answer_of(port, asked.as_bytes());
                let text = String::from_utf8_lossy(&answer);
                assert!(!text.contains("root:x:0:0"), "{path}: {text}");
                // What is no request is closed, and some paths are well: the page at the top.
                let status = status_of(&answer);
                let is = status.is_none_or(|status| status == 200 || (300..500).contains(&status));
                assert!(is, "{path}: {text}");
                let unknown = setting == Setting::Closed && shown.is_none();
                assert!(!unknown || matches!(status, None | Some(400 | 401)), "{path}: {text}");
            }
        }
        // Bytes that are no text.
        for port in [master.port, agent.port] {
            let answer = answer_to(
                port,
                b"GET /\xff\xfe/../x HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n",
            );
            assert!(status_of(&answer).is_none_or(|status| status >= 400), "{answer:?}");
        }
    }
    end(&world, master, agent);
}

fn streams_that_nobody_reads_keep_nobody_out(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let shown = (setting == Setting::Closed).then_some(OPS);
    let open = |path: &str, body: &str| {
        let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        let mut stream = connect(master.port);
        stream
            .write_all((head_of(&format!("POST {path}"), shown, &more) + body).as_bytes())
            .unwrap();
        stream
    };
    // In no role: all that there is would be offered to who does not answer.
    let call = subscription(&json!({"roles": []})).to_string();
    let before = most_memory(master.process().pid());
    let streams: Vec<TcpStream> = (0..40)
        .map(|_| open("/api/v1", r#"{"type": "SUBSCRIBE"}"#))
        .chain((0..20).map(|_| open("/api/v1/scheduler", &call)))
        .collect();
    for _ in 0..5 {
        is_well(&world, &master, &agent);
    }
    let grown = most_memory(master.process().pid()) - before;
    assert!(grown < 128 * 1024, "{grown} KiB");
    drop(streams);
    end(&world, master, agent);
}

fn offers_are_answered_once_and_by_whom_they_were_made_to(setting: Setting) {
    let world = World::new();
    let (mut master, agent) = cluster(&world, setting);
    let shown = |of: &'static str| (setting == Setting::Closed).then_some(of);
    let more = json!({"user": "root", "roles": ["*"]});
    let mut one = Framework::subscribe_as(&master, &more, shown(WEB));
    let offer = one.offer();
    let invalid = |framework: &mut Framework, task: &str| {
        let status = framework.end_of(task);
        assert_eq!(status["reason"], "REASON_INVALID_OFFERS", "{status}");
    };
    // Another's offer.
    let mut other = Framework::subscribe_as(&master, &more, shown(OPS));
    other.launch(&offer, &[task(&offer, "anothers", "true")]);
    invalid(&mut other, "anothers");
    other.accepted("TEARDOWN", &Value::Null);
    drop(other);
    // More than was offered.
    let mut large = task(&offer, "large", "true");
    large["resources"][0]["scalar"]["value"] = json!(10_000.0);
    one.launch(&offer, &[large]);
    let status = one.end_of("large");
    assert_eq!(status["state"], "TASK_ERROR", "{status}");
    // Twice.
    let offer = one.offer();
    one.launch(&offer, &[task(&offer, "once", "true")]);
    one.launch(&offer, &[task(&offer, "twice", "true")]);
    let mut ended = std::collections::BTreeMap::new();
    while ended.len() < 2 {
        let status = one.status();
        let name = status["task_id"]["value"].as_str().unwrap().to_owned();
        let lives = ["TASK_STAGING", "TASK_STARTING", "TASK_RUNNING"];
        if !lives.contains(&status["state"].as_str().unwrap()) {
            ended.insert(name, status);
        }
    }
    assert_eq!(ended["once"]["state"], "TASK_FINISHED", "{ended:?}");
    assert_eq!(ended["twice"]["reason"], "REASON_INVALID_OFFERS", "{ended:?}");
    // One of a master that is no more.
    let offer = one.offer();
    let id = one.id.clone();
    master.kill();
    master.start();
    let mut again = more.clone();
    again["id"] = id;
    let mut one = Framework::subscribe_as(&master, &again, shown(WEB));
    one.launch(&offer, &[task(&offer, "before", "true")]);
    invalid(&mut one, "before");
    one.accepted("TEARDOWN", &Value::Null);
    drop(one);
    agent.process().says("registered with the master");
    let frameworks = |master: &Master<'_>| {
        let shown = super::probes::shown(&world, master);
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        master.rows(&[&["--agents"], &shown[..]].concat())
    };
    eventually(
        || frameworks(&master).iter().any(|row| row["state"] == "active"),
        || format!("{:?}", frameworks(&master)),
    );
    end(&world, master, agent);
}

/// Three masters that ask everybody for a credential, and seal what they say to each other.
fn closed_set<'w>(world: &'w World) -> (Set<'w>, String) {
    let key = world.secret("gossip.key", &[3; 32]);
    let key = format!("--gossip-key-file={}", key.display());
    let known = credentials(world);
    let set = Set::made(world, &[&[&*known, &*key], &EVERYBODY[..]].concat());
    (set, format!("--credential={}", credential(world, "ops").1))
}

#[test]
fn masters_that_are_none_of_the_set_change_nothing() {
    let world = World::new();
    let (mut set, ops) = closed_set(&world);
    let leader = set.leader();
    let epoch = set.health(leader)["epoch"].clone();
    // Outside of the list, with the key and the credentials of all.
    let outside = set.begin_in(world.path("outside"), world.port(), &set.list(), &["--bootstrap"]);
    eventually(|| outside.has_ended() || outside.err().contains("--masters"), || outside.err());
    // At the place of one of them, with the key of all, and of no set.
    let one = (leader + 1) % 3;
    set.kill(one);
    let foreign = world.path("foreign");
    let foreign = set.begin_in(foreign, set.ports[one], &set.list(), &["--bootstrap"]);
    foreign.says("its set was made before, and does not know this work directory");
    foreign.kill();
    // Two of one id: one of them is over.
    let copy = world.path("copy");
    copy_all(&set.work_dir(one), &copy);
    set.restart(one);
    set.leader();
    let twin = set.begin_in(copy, world.port(), &set.list(), &[]);
    let over = |process: &Process| process.err().contains("Its id is over");
    let found = || over(&twin) || over(set.process(one));
    eventually(found, || format!("{}; {}", twin.err(), set.process(one).err()));
    assert_eq!(
        (set.health(leader)["leading"].clone(), set.health(leader)["epoch"].clone()),
        (true.into(), epoch)
    );
    let said = set.told("weights", &["set", "web=2", &ops]);
    assert_eq!(said.status, 0, "{}", said.err);
    [Some(twin), set.running[one].take()].into_iter().flatten().for_each(Process::kill);
    if !outside.has_ended() {
        outside.kill();
    }
    set.stop();
    world.nothing_is_left();
}

#[test]
fn digests_that_are_forged_or_said_again_elect_nobody() {
    let world = World::new();
    let (mut set, ops) = closed_set(&world);
    let leader = set.leader();
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    set.kill(one);
    // At the place of a master that is away: what the others say to it is heard, and said again.
    let place = UdpSocket::bind(set.address(one)).unwrap();
    place.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut heard = Vec::new();
    while heard.len() < 40 {
        let mut datagram = [0; 2048];
        let (len, _) = place.recv_from(&mut datagram).unwrap();
        heard.push(datagram[..len].to_vec());
    }
    let epoch = set.health(leader)["epoch"].clone();
    let counted = |at: usize, kind: &str| {
        let told = ask(set.ports[at], "GET", "/metrics", &[("Authorization", OPS)], b"").text();
        let name = format!("gossip_{kind}_total ");
        let line = told.lines().find(|line| !line.starts_with('#') && line.contains(&name));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    for at in [leader, other] {
        let to = set.address(at);
        for datagram in &heard {
            for _ in 0..3 {
                place.send_to(datagram, &to).unwrap();
            }
            for bit in (0..datagram.len() * 8).step_by(41) {
                let mut flipped = datagram.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                place.send_to(&flipped, &to).unwrap();
            }
            for len in [0, 4, datagram.len() / 2, datagram.len() - 1] {
                place.send_to(&datagram[..len], &to).unwrap();
            }
        }
    }
    for at in [leader, other] {
        for kind in ["forged", "truncated", "replayed"] {
            eventually(|| counted(at, kind) > 0, || format!("{kind} at {at}"));
        }
    }
    assert_eq!(set.leader(), leader);
    assert_eq!(set.health(leader)["epoch"], epoch, "nobody was elected anew");
    assert_eq!(set.told("weights", &["set", "web=2", &ops]).status, 0);
    drop(place);
    set.restart(one);
    assert_eq!(set.leader(), leader);
    set.stop();
    world.nothing_is_left();
}

/// Passes the next connection on to a master, and keeps all that is said to it.
fn listened(port: u16) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let heard = std::thread::spawn(move || {
        let (mut near, _) = listener.accept().unwrap();
        let mut far = connect(port);
        let (mut answers, mut back) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        let answering = std::thread::spawn(move || {
            let _ = std::io::copy(&mut answers, &mut back);
            let _ = back.shutdown(Shutdown::Both);
        });
        let (mut heard, mut some) = (Vec::new(), [0; 4096]);
        while let Ok(len @ 1..) = near.read(&mut some) {
            heard.extend_from_slice(&some[..len]);
            far.write_all(&some[..len]).unwrap();
        }
        let _ = far.shutdown(Shutdown::Both);
        answering.join().unwrap();
        heard
    });
    (at, heard)
}

/// Where a master is reached in the clear, whoever listens in has a hello, the proof of a secret, and what
/// was asked then, byte for byte: a proof is over what both ends have drawn for one connection.
#[test]
fn what_was_heard_on_the_wire_and_is_said_again_does_nothing() {
    let world = World::new();
    let known = credentials(&world);
    let master = world.master(&[&[&*known], &EVERYBODY[..]].concat());
    let ops = format!("--credential={}", credential(&world, "ops").1);
    let told = |words: &[&str], at: &str| world.told(&[words, &[&*ops, "--master", at]].concat());
    let put = ["store", "put", "heard", "value"];
    let (at, heard) = listened(master.port);
    let said = told(&put, &at);
    assert_eq!(said.status, 0, "{}", said.err);
    let heard = heard.join().unwrap();
    let has =
        |bytes: &[u8], words: &str| bytes.windows(words.len()).any(|some| some == words.as_bytes());
    assert!(has(&heard, "ops") && has(&heard, "value"), "all of it was heard");
    assert!(!has(&heard, "planted"), "no secret was");
    let kept = || told(&["store", "get", "heard"], &master.address());
    assert_eq!(kept().out.trim(), "value");
    let said = told(&["store", "rm", "heard"], &master.address());
    assert_eq!(said.status, 0, "{}", said.err);
    for _ in 0..3 {
        let answer = answer_of(master.port, &heard);
        assert!(has(&answer, "asks for a credential that it knows"), "{answer:?}");
        assert_ne!(kept().status, 0, "it was done again");
    }
    // Whoever has the secret does it again.
    let said = told(&put, &master.address());
    assert_eq!(said.status, 0, "{}", said.err);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn certificates_of_others_are_shown_no_credential() {
    let world = World::new();
    let (authority, other) = (Authority::new(&world, "ca"), Authority::new(&world, "other"));
    let [certificate, key] = authority.files(&world, "127.0.0.1");
    let tls = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
    let known = credentials(&world);
    let master = world.master(&[&tls[..], &[&known], &EVERYBODY[..]].concat());
    let ops = format!("--credential={}", credential(&world, "ops").1);
    let wrong = "00".repeat(32);
    let at = format!("https://{}", master.address());
    let named = format!("https://localhost:{}", master.port);
    for (at, by, words) in [
        (&at, ["--tls-ca-file", other.flag()], "is by no authority in"),
        (&at, ["--tls-pin", &wrong], "has another key than the one of --tls-pin"),
        (&named, ["--tls-ca-file", authority.flag()], "is another host's"),
    ] {
        let said = world.told(&[&["ps", "--master", at, &ops][..], &by].concat());
        assert!(said.status != 0 && said.err.contains(words), "{words}: {}", said.err);
        let (_, pis) = credential(&world, "pis");
        let mut agent =
            crate::world::Agent::new(&world, at, &[&["--credential", &pis], &by[..]].concat());
        agent.start();
        agent.process().says(words);
        agent.kill();
    }
    // Nor is the right certificate a reason to be let in.
    let by = ["--tls-ca-file", authority.flag()];
    let said = world.told(&[&["ps", "--master", &at][..], &by].concat());
    assert!(said.status != 0 && said.err.contains("asks for a credential"), "{}", said.err);
    let said = world.told(&[&["ps", "--master", &at, &ops][..], &by].concat());
    assert_eq!(said.status, 0, "{}", said.err);
    master.stop();
    world.nothing_is_left();
}

/// Outside clients go by dates, and are told which clock to look at. Nodes that know the masters by their key go by
/// none, so that no board without a clock is kept out; and a certificate is changed without a restart.
#[test]
fn certificates_that_are_out_of_date_are_refused_by_whoever_goes_by_authorities() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let known = credentials(&world);
    for (years, words) in [(2019..2020, "has expired"), (2090..2100, "is not valid yet")] {
        let [certificate, key] = authority.files_of(&world, "127.0.0.1", years);
        let tls = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
        let master = world.master(&[&tls[..], &[&known], &EVERYBODY[..]].concat());
        let pin = master.process().err();
        let pin = pin.split("--tls-pin ").nth(1).unwrap().split_whitespace().next().unwrap();
        let at = format!("https://{}", master.address());
        let [ops, pis] = ["ops", "pis"].map(|who| credential(&world, who).1);
        let by = ["--tls-ca-file", authority.flag()];
        let ps = |by: &[&str]| {
            world.told(&[&["ps", "--master", &at, "--credential", &ops][..], by].concat())
        };
        let agent = |by: &[&str]| {
            let flags = [&["--credential", &pis][..], by].concat();
            let mut agent = crate::world::Agent::new(&world, &at, &flags);
            agent.start();
            agent
        };
        let said = ps(&by);
        assert!(said.status != 0 && said.err.contains(words), "{words}: {}", said.err);
        let mut refused = agent(&by);
        refused.process().says(words);
        refused.kill();
        let work_dir = world.path("looked").display().to_string();
        let doctor = ["doctor", "--master", &at, "--work-dir", &work_dir, "--credential", &pis];
        let said = world.told(&[&doctor[..], &by, &["--isolation=posix/rlimits"]].concat());
        assert_eq!(said.status, 1, "{}", said.out);
        assert!(
            said.out.contains(words) && said.out.contains("look at `date` here"),
            "{}",
            said.out
        );
        let said = ps(&["--tls-pin", pin]);
        assert_eq!(said.status, 0, "{}", said.err);
        let goes_on = agent(&["--tls-pin", pin]);
        goes_on.process().says("registered with the master");
        // Renewed in its place: whoever comes from then on sees that.
        let [new, new_key] = authority.files(&world, "127.0.0.1");
        fs::rename(new_key, &key).unwrap();
        fs::rename(new, &certificate).unwrap();
        let said = ps(&by);
        assert_eq!(said.status, 0, "{}", said.err);
        goes_on.leave();
        master.stop();
    }
    world.nothing_is_left();
}

#[test]
fn tokens_of_before_are_good_for_nothing() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let [certificate, key] = authority.files(&world, "127.0.0.1");
    let tls = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
    let known = credentials(&world);
    let master = world.master(&[&tls[..], &[&known], &EVERYBODY[..]].concat());
    let ops = format!("--credential={}", credential(&world, "ops").1);
    let at = ["--master", &master.address(), &ops];
    let made = |more: &[&str]| {
        let said = world.told(&[&["token", "create"], more, &at].concat());
        assert_eq!(said.status, 0, "{}", said.err);
        said.out.trim().to_owned()
    };
    let tries = |token: &str, words: &str| {
        let mut agent = crate::secure_joins::agent(&world, &master, &["--join", token]);
        agent.start();
        agent.process().says(words);
        agent
    };
    let used = made(&[]);
    let first = tries(&used, "registered with the master");
    tries(&used, "the token was used up").kill();
    let revoked = made(&[]);
    let id = revoked.split('.').nth(2).unwrap();
    assert_eq!(world.told(&[&["token", "revoke", id], &at[..]].concat()).status, 0);
    tries(&revoked, "the cluster does not know this token").kill();
    let rows = world.told(&[&["ps", "--agents", "--json"], &at[..]].concat());
    assert_eq!(rows.out.lines().count(), 1, "{}", rows.out);
    first.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn what_is_another_roles_is_not_had_by_asking() {
    let world = World::new();
    let (master, agent) = cluster(&world, Setting::Closed);
    let refused = |roles: &[&str]| {
        let call = subscription(&json!({"user": "root", "roles": roles})).to_string();
        let headers = [&JSON[..], &[("Authorization", WEB)]].concat();
        let mut events = Records::open(master.port, "/api/v1/scheduler", &headers, call.as_bytes());
        events.until("ERROR")["message"].to_string()
    };
    for roles in [&["db"][..], &["web", "db"], &["webber"], &["web/../db"]] {
        let why = refused(roles);
        assert!(
            why.contains("Not authorized to use roles") || why.contains("invalid role"),
            "{why}"
        );
    }
    let more = json!({"user": "root", "roles": ["web"]});
    let mut web = Framework::subscribe_as(&master, &more, Some(WEB));
    let offer = web.offer();
    let reserved = |role: &str| {
        json!([{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1},
                "allocation_info": {"role": "web"},
                "reservations": [{"type": "DYNAMIC", "role": role, "principal": "web"}]}])
    };
    // Nothing of what is accepted goes to another role.
    web.accepted(
        "ACCEPT",
        &json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0.1},
        "operations": [{"type": "RESERVE", "reserve": {"resources": reserved("db")}}]}),
    );
    let offer = web.offer();
    let mut task = task(&offer, "anothers", "true");
    for resource in task["resources"].as_array_mut().unwrap() {
        resource["allocation_info"] = json!({"role": "db"});
    }
    web.launch(&offer, &[task]);
    let status = web.end_of("anothers");
    assert_eq!(status["state"], "TASK_ERROR", "{status}");
    let update = json!({"framework_info": {"user": "root", "name": "it", "id": web.id, "roles": ["db"],
        "failover_timeout": 60.0,
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]}});
    let answer = web.call("UPDATE_FRAMEWORK", &update);
    assert!(matches!(answer.status, 400 | 403), "{} {}", answer.status, answer.text());
    let told = ask(master.port, "GET", "/slaves", &[("Authorization", OPS)], b"").text();
    assert!(!told.contains("\"db\""), "{told}");
    web.accepted("TEARDOWN", &Value::Null);
    drop(web);
    end(&world, master, agent);
}

#[test]
fn an_executor_is_nobody_but_itself() {
    let world = World::new();
    let (master, agent) = cluster(&world, Setting::Closed);
    let more = json!({"user": "root", "roles": ["*"]});
    let mut framework = Framework::subscribe_as(&master, &more, Some(WEB));
    let offer = framework.offer();
    let token = |name: &str| world.path(&format!("{name}.token"));
    let tasks = ["one", "two"].map(|name| {
        let mut launched = task(&offer, name, "");
        launched.as_object_mut().unwrap().remove("command");
        let line = format!(
            "printf %s \"$MESOS_EXECUTOR_AUTHENTICATION_TOKEN\" > {0}.new; mv {0}.new {0}; exec sleep 1000",
            token(name).display()
        );
        launched["executor"] = json!({"type": "CUSTOM", "executor_id": {"value": name},
            "resources": launched["resources"], "command": {"value": line}});
        launched
    });
    framework.launch(&offer, &tasks);
    eventually(|| ["one", "two"].iter().all(|name| token(name).exists()), || "tokens".to_owned());
    let [one, two] = ["one", "two"].map(|name| fs::read_to_string(token(name)).unwrap());
    assert!(!one.is_empty() && one != two);
    let asked = |id: &str, shown: Option<&str>| {
        let call = json!({"type": "SUBSCRIBE", "framework_id": framework.id,
            "executor_id": {"value": id}, "subscribe": {}});
        let shown = shown.map(|shown| format!("Bearer {shown}"));
        let headers: Vec<_> = shown.iter().map(|shown| ("Authorization", shown.as_str())).collect();
        let answer = post(agent.port, "/api/v1/executor", &headers, &call);
        (answer.status, answer.text())
    };
    // Without its token, with another's, with a credential, and by an id that is nobody's.
    let mut flipped = one.clone().into_bytes();
    flipped[0] = if flipped[0] == b'0' { b'1' } else { b'0' };
    let flipped = String::from_utf8(flipped).unwrap();
    for (id, shown) in [
        ("one", None),
        ("one", Some(two.as_str())),
        ("two", Some(one.as_str())),
        ("one", Some(flipped.as_str())),
        ("one", Some("planted-3f9c-web")),
        ("three", Some(one.as_str())),
        ("", Some(one.as_str())),
    ] {
        let (status, text) = asked(id, shown);
        assert!(matches!(status, 400 | 401 | 403), "{id} by {shown:?}: {status} {text}");
    }
    // Its own does nothing else, at neither port.
    let bearer = format!("Bearer {one}");
    for (port, path) in [(agent.port, "/state"), (master.port, "/state"), (master.port, "/flags")] {
        let answer = ask(port, "GET", path, &[("Authorization", &*bearer)], b"");
        assert_eq!(answer.status, 401, "{path}: {}", answer.text());
    }
    let call = json!({"type": "SUBSCRIBE", "framework_id": framework.id, "executor_id": {"value": "one"},
        "subscribe": {}});
    let headers = [&JSON[..], &[("Authorization", &*bearer)]].concat();
    let mut events =
        Records::open(agent.port, "/api/v1/executor", &headers, call.to_string().as_bytes());
    assert_eq!(events.until("SUBSCRIBED")["executor_info"]["executor_id"]["value"], "one");
    framework.accepted("TEARDOWN", &Value::Null);
    drop((events, framework));
    end(&world, master, agent);
}
