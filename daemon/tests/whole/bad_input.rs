//! What does not belong on a port, and what does not belong on a command line.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use mesita_core::wire::frame::{CRC, PREFIX, Prefix, overhead, seal};
use mesita_core::wire::hello::{Hello, Role};
use mesita_core::wire::link::{Link, Parting};
use mesita_core::wire::svc::{CloseReason, Keep, LogsOf, Output, Rows, Stream, Svc};
use mesita_core::wire::{AgentId, ContainerId, Head, Session, decode, encode};

use crate::credentials::{EVERYBODY, ROOT, credential, credentials};
use crate::http::ask;
use crate::world::{Agent, Master, PATIENCE, Signal, World, eventually, get};

/// Whom the daemons of a test let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Whoever is on this machine.
    Open,
    /// Who shows a credential: agents, commands, frameworks, whoever reads, at both ports, and executors
    /// their token.
    Closed,
}

/// Each of these in both settings.
macro_rules! in_both {
    ($($name:ident)*) => {
        mod open {
            $(#[test]
            fn $name() {
                super::$name(crate::bad_input::Setting::Open);
            })*
        }
        mod closed {
            $(#[test]
            fn $name() {
                super::$name(crate::bad_input::Setting::Closed);
            })*
        }
    };
}
pub(crate) use in_both;

in_both! {
    whoever_asks_nothing_may_stay_and_a_head_that_does_not_end_may_not
    nobody_but_its_master_opens_streams_at_an_agent
    garbage_is_closed_with_a_reason_and_disturbs_nobody
    frames_that_are_none_are_told_what_is_wrong_with_them
    a_peer_of_another_version_or_cluster_is_told_what_to_do
    a_thousand_idle_connections_keep_nobody_out
}

pub(crate) fn cluster(world: &World, setting: Setting) -> (Master<'_>, Agent<'_>) {
    if setting == Setting::Open {
        let master = world.master(&[]);
        let agent = master.agent(&[]);
        return (master, agent);
    }
    let known = credentials(world);
    let master = world.master(&[&[&*known, ROOT], &EVERYBODY[..]].concat());
    let http = known.replace("--credentials=", "--http-credentials=");
    let (_, pis) = credential(world, "pis");
    let own = ["--credential", &pis, &http, "--authenticate-http-executors"];
    let agent = master.agent(&[&own[..], &EVERYBODY[..2]].concat());
    (master, agent)
}

/// What a command shows to a master that asks for a credential.
pub(crate) fn shown(world: &World, master: &Master<'_>) -> Option<String> {
    let asks = master.flags.iter().any(|flag| flag == "--authenticate-agents");
    asks.then(|| format!("--credential={}", credential(world, "ops").1))
}

/// Both daemons answer, and a command runs.
pub(crate) fn is_well(world: &World, master: &Master<'_>, agent: &Agent<'_>) {
    for port in [master.port, agent.port] {
        let answer = get(port, "/health");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("\"healthy\":true"), "{answer}");
    }
    let shown = shown(world, master);
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let said = master.run(&[&shown[..], &["--", "echo", "well"]].concat()).end();
    assert_eq!((said.status, said.out.as_str()), (0, "well\n"), "{}", said.err);
    assert!(!master.process().has_ended(), "{}", master.process().err());
    assert!(!agent.process().has_ended(), "{}", agent.process().err());
    for process in [master.process(), agent.process()] {
        assert!(!process.err().contains("panicked"), "{}", process.err());
    }
    assert!(!world.processes().is_empty());
}

pub(crate) fn end(world: &World, master: Master<'_>, agent: Agent<'_>) {
    is_well(world, &master, &agent);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Clients keep one connection for all of their calls, and executors say nothing for as long as a task
/// takes; a head that was begun is another thing.
fn whoever_asks_nothing_may_stay_and_a_head_that_does_not_end_may_not(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let began = std::time::Instant::now();
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        // The rest of it.
        let mut rest = [0; 4096];
        while !rest.windows(2).any(|two| two == b"}\n" || two[0] == b'}') {
            assert!(stream.read(&mut rest).unwrap() > 0);
        }
    };
    let mut idle = [master.port, agent.port].map(connect);
    idle.iter_mut().for_each(ask);
    let mut slow = [master.port, agent.port].map(connect);
    slow.iter_mut().for_each(|stream| stream.write_all(b"GET /health HT").unwrap());
    for stream in &mut slow {
        // It says nothing, and closes.
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
    }
    assert!(began.elapsed() > std::time::Duration::from_secs(29), "{:?}", began.elapsed());
    idle.iter_mut().for_each(ask);
    end(&world, master, agent);
}

/// Sends bytes, and gives what was answered until the daemon closed.
pub(crate) fn answer_to(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(port);
    // It may close before it has read it all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn frame_of(head: &Head<'_>) -> Vec<u8> {
    let mut memory = vec![0; 4096];
    frame_around(encode(head, &mut memory).unwrap())
}

fn frame_around(head: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; overhead(0) + head.len()];
    seal(head, std::iter::empty(), &mut frame).unwrap();
    frame
}

fn hello(change: impl FnOnce(&mut Hello<'static>)) -> Vec<u8> {
    let mut hello = Hello::of_this_release(Role::Client, "a test");
    change(&mut hello);
    frame_of(&Head::Hello(hello))
}

/// The goodbye in an answer, which may come after a hello.
fn goodbye(answer: &[u8]) -> Option<(Parting, String)> {
    in_answer(answer, |head| {
        let Head::Link(Link::Bye { reason, message }) = head else { return None };
        Some((reason, message.to_owned()))
    })
}

/// How a stream ended that an answer tells of.
fn closed(answer: &[u8]) -> Option<(CloseReason, String)> {
    in_answer(answer, |head| {
        let Head::Svc(Svc::Close { reason, message, .. }) = head else { return None };
        Some((reason, message.to_owned()))
    })
}

/// What is looked for in the heads of an answer; the first.
fn in_answer<T>(mut answer: &[u8], wanted: impl Fn(Head<'_>) -> Option<T>) -> Option<T> {
    let own = Hello::of_this_release(Role::Client, "a test");
    let limits =
        mesita_core::wire::frame::Limits { frame_max: own.frame_max, head_max: own.head_max };
    while let Some((first, rest)) = answer.split_first_chunk::<PREFIX>() {
        let prefix = Prefix::parse(first, limits).unwrap();
        let (frame, after) = rest.split_at_checked(prefix.rest())?;
        let found = wanted(decode(prefix.open(frame).unwrap().head).unwrap());
        if found.is_some() {
            return found;
        }
        answer = after;
    }
    None
}

/// Whoever has an agent's key has that agent, and nothing else of the cluster.
#[test]
fn an_agent_opens_no_streams_at_a_master() {
    let world = World::new();
    let master = world.master(&[]);
    let container = ContainerId { incarnation: 1, counter: 1 };
    let (agent, of, which) = (AgentId::NONE, LogsOf::Container(container), Output::Stdout);
    let streams = [
        Stream::Rows { of: Rows::Agents },
        Stream::Rows { of: Rows::Audit },
        Stream::Http { agent: AgentId::NONE },
        Stream::Store { owner: ":tokens", key: "", verb: Keep::List },
        Stream::Logs { agent, of, which, offset: 0, follow: false },
        Stream::Follow { agent, of, which, offset: 0 },
    ];
    let ending = |role, kind| {
        let mut stream = connect(master.port);
        stream.write_all(&hello(|hello| hello.role = role)).unwrap();
        let open = Svc::Open { stream: 1, kind, window: 65_536 };
        stream.write_all(&frame_of(&Head::Svc(open))).unwrap();
        let (mut answer, mut more) = (Vec::new(), [0; 4096]);
        loop {
            let len = stream.read(&mut more).unwrap();
            assert!(len > 0, "closed, and nothing was said of the stream: {kind:?}");
            answer.extend_from_slice(&more[..len]);
            if let Some(told) = closed(&answer) {
                return told;
            }
        }
    };
    for kind in streams {
        let (reason, message) = ending(Role::Agent, kind);
        assert_eq!(reason, CloseReason::Denied, "{kind:?}: {message}");
        assert!(message.contains("an agent"), "{message}");
    }
    assert_eq!(ending(Role::Client, streams[0]).0, CloseReason::Done);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn the_connection_that_is_idle_longest_makes_room() {
    let world = World::new();
    let master = world.master(&["--size=tiny"]);
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut first = [0; 4096];
        assert!(stream.read(&mut first).unwrap() > 0);
    };
    let mut first = connect(master.port);
    ask(&mut first);
    let idle = |count: &str| {
        let text = get(master.port, "/metrics");
        text.contains(&format!("\nmesita_master_idle_connections {count}\n"))
    };
    eventually(|| idle("1"), || get(master.port, "/metrics"));
    let mut others: Vec<TcpStream> = (0..24).map(|_| connect(master.port)).collect();
    others.iter_mut().for_each(ask);
    eventually(|| idle("24"), || get(master.port, "/metrics"));
    assert_eq!(first.read(&mut [0; 1]).unwrap(), 0, "it is closed");
    others.iter_mut().rev().take(8).for_each(ask);
    drop((first, others));
    master.stop();
    world.nothing_is_left();
}

/// Whoever is let in to speak as an executor has proved that first, and asks for nobody else.
fn nobody_but_its_master_opens_streams_at_an_agent(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let container = ContainerId { incarnation: 1, counter: 1 };
    let (of, which) = (LogsOf::Container(container), Output::Stdout);
    let id = AgentId::NONE;
    for kind in [
        Stream::Http { agent: id },
        Stream::Logs { agent: id, of, which, offset: 0, follow: false },
        Stream::Follow { agent: id, of, which, offset: 0 },
    ] {
        let hello = hello(|hello| hello.role = Role::Executor);
        let open = frame_of(&Head::Svc(Svc::Open { stream: 1, kind, window: 65_536 }));
        let data = b"caller 3 local:root\nGET /state HTTP/1.1\r\nHost: x\r\n\r\n";
        let data = frame_of(&Head::Svc(Svc::Data { stream: 1, from_opener: true, bytes: data }));
        let answer = answer_to(agent.port, &[hello, open, data].concat());
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("HTTP/1.1") && closed(&answer).is_none(), "{kind:?}: {text}");
    }
    end(&world, master, agent);
}

fn garbage_is_closed_with_a_reason_and_disturbs_nobody(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    // No number of these bytes is drawn: a test that fails fails again.
    let mut state = 0x9e37_79b9_u32;
    let mut noise = |len: usize| -> Vec<u8> {
        let byte = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..len).map(byte).collect()
    };
    for port in [master.port, agent.port] {
        for len in [0, 1, 3, 4, 5, 10, 100, 1_000, 100_000] {
            answer_to(port, &noise(len));
            // The same as a frame, and as text.
            answer_to(port, &[&[len.to_le_bytes()[0], 0, 0, 0][..], &noise(len)].concat());
            answer_to(port, &[b"GET ", &noise(len)[..]].concat());
        }
        for text in ["GET\r\n\r\n", "POST /health HTTP/1.1\r\nContent-Length: -1\r\n\r\n"] {
            let answer = answer_to(port, text.as_bytes());
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 4"), "{text:?}: {answer}");
        }
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
        let answer = answer_to(port, long.as_bytes());
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    end(&world, master, agent);
}

fn frames_that_are_none_are_told_what_is_wrong_with_them(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let whole = hello(|_| {});
    let mut checksum = whole.clone();
    let at = checksum.len() - CRC;
    checksum[at] ^= 1;
    let mut trailing = whole.clone();
    let head = trailing.split_off(PREFIX);
    let trailing = frame_around(&[&head[..head.len() - CRC], &[0]].concat());
    let unknown = frame_around(&[99, 0, 0]);
    let four_gib = [&[0xff; 4][..], &whole[4..]].concat();
    let mut head_len = whole.clone();
    head_len[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut bodies = whole.clone();
    bodies[8..10].copy_from_slice(&u16::MAX.to_le_bytes());
    for port in [master.port, agent.port] {
        for (frame, told) in [
            (&checksum, "frame.trailer"),
            (&trailing, "bytes that belong to nothing"),
            (&unknown, "variant"),
            (&four_gib, "frame.len"),
            (&head_len, "frame.head"),
            (&bodies, "frame.bodies"),
        ] {
            let (reason, message) = goodbye(&answer_to(port, frame)).unwrap();
            assert_eq!(reason, Parting::Malformed, "{message}");
            assert!(message.contains(told), "{told}: {message}");
        }
        // Cut short at every byte, there is nobody left to be told.
        for len in 0..whole.len() {
            assert_eq!(goodbye(&answer_to(port, &whole[..len])), None, "{len} bytes");
        }
    }
    end(&world, master, agent);
}

fn a_peer_of_another_version_or_cluster_is_told_what_to_do(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let new = hello(|hello| (hello.version_min, hello.version_max) = (60_000, 60_001));
    let other = hello(|hello| hello.cluster = 0xdead_beef);
    for port in [master.port, agent.port] {
        for (frame, told) in [
            (&new, "upgrade this node"),
            (&other, "the two ends belongs to cluster 00000000deadbeef"),
        ] {
            let answer = answer_to(port, frame);
            let (reason, message) =
                goodbye(&answer).unwrap_or_else(|| panic!("{told}: {answer:?}"));
            assert_eq!(reason, Parting::Mismatch, "{message}");
            assert!(message.contains(told), "{told}: {message}");
        }
    }
    end(&world, master, agent);
}

/// Whoever says that it is of a release before there were proofs, or speaks TLS of before, is let in by no less.
#[test]
fn who_offers_less_than_both_ends_can_is_let_in_by_no_less() {
    let world = World::new();
    let (master, agent) = cluster(&world, Setting::Closed);
    for role in [Role::Client, Role::Framework, Role::Agent, Role::Master] {
        for version in [1, 2] {
            let less = hello(|hello| {
                (hello.role, hello.version_min, hello.version_max) = (role, 1, version);
            });
            // It goes on as if it was let in.
            let ping = frame_of(&Head::Link(Link::Ping { stamp: 1, session: Session::default() }));
            let answer = answer_to(master.port, &[less, ping].concat());
            let (reason, message) = goodbye(&answer).unwrap_or_else(|| panic!("{role:?}"));
            assert_eq!(reason, Parting::Denied, "{role:?} {version}: {message}");
        }
    }
    end(&world, master, agent);
}

#[test]
fn an_agent_of_another_cluster_says_so_and_keeps_trying() {
    let world = World::new();
    let (master, mut agent) = cluster(&world, Setting::Open);
    let other = world.master(&[]);
    agent.terminate();
    agent.now_at(&other.address());
    agent.start();
    agent.process().says("belongs to cluster");
    assert!(!agent.process().has_ended());
    assert!(other.rows(&["--agents"]).is_empty());
    agent.terminate();
    agent.now_at(&master.address());
    agent.start();
    agent.process().says("registered with the master");
    other.stop();
    end(&world, master, agent);
}

fn a_thousand_idle_connections_keep_nobody_out(setting: Setting) {
    let world = World::new();
    let (master, agent) = cluster(&world, setting);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let current = limit.maximum;
    let limit = rustix::process::Rlimit { current, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    if current.is_some_and(|most| most < 1_200) {
        println!("SKIPPED: this process may open only {current:?} connections");
        return;
    }
    for port in [master.port, agent.port] {
        let idle: Vec<TcpStream> = (0..1_000).map(|_| connect(port)).collect();
        is_well(&world, &master, &agent);
        // The same with those that begin to say something.
        let begun: Vec<TcpStream> = (0..200).map(|_| connect(port)).collect();
        for mut stream in &begun {
            // Some were closed to make room for others.
            let _ = stream.write_all(b"GET");
        }
        is_well(&world, &master, &agent);
        drop((idle, begun));
    }
    end(&world, master, agent);
}

#[test]
fn a_port_that_is_taken_is_told_by_every_daemon_before_it_begins() {
    let world = World::new();
    let (master, agent) = cluster(&world, Setting::Open);
    let port = master.port.to_string();
    let work_dir = world.path("second");
    let work_dir = work_dir.to_str().unwrap();
    let root = format!("--cgroups-root={}", world.name());
    for flags in [
        &["master", "--work-dir", work_dir][..],
        &["agent", "--master", "127.0.0.1:1", &root, "--work-dir", work_dir],
        &["dev"],
    ] {
        let said = world.told(&[flags, &["--port", &port]].concat());
        assert_eq!(said.status, 1, "{flags:?}: {}", said.err);
        assert!(said.err.contains("choose another --port"), "{flags:?}: {}", said.err);
        assert!(said.err.contains(&port), "{flags:?}: {}", said.err);
    }
    end(&world, master, agent);
}

#[test]
fn a_work_directory_that_is_in_use_is_refused() {
    let world = World::new();
    let (master, agent) = cluster(&world, Setting::Open);
    let (mut second, port) = (agent.command(), world.port().to_string());
    second.args(["--port", &port]);
    let said = world.start(second).end();
    assert_eq!(said.status, 2, "clap takes a flag once: {}", said.err);
    let work_dir = agent.work_dir().to_str().unwrap().to_owned();
    let address = master.address();
    let root = format!("--cgroups-root={}", world.name());
    let flags = ["agent", "--master", &address, "--port", &port, "--work-dir", &work_dir, &root];
    let said = world.told(&flags);
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("give this one another --work-dir"), "{}", said.err);
    end(&world, master, agent);
}

#[test]
fn resources_that_do_not_parse_are_refused_with_the_place() {
    let world = World::new();
    let (master, agent) = cluster(&world, Setting::Open);
    let port = world.port().to_string();
    let work_dir = world.path("bad");
    let work_dir = work_dir.to_str().unwrap();
    let address = master.address();
    let root = format!("--cgroups-root={}", world.name());
    let agent_flags =
        ["agent", "--master", &address, "--port", &port, "--work-dir", work_dir, &root];
    let bad = [
        "cpus:four",
        "cpus",
        "cpus:1;;mem:",
        "cpus:-1",
        "ports:[2-1]",
        "ports:[1-2",
        "cpus:1e99",
        "cpus:99999999999999999999",
        "{\"name\":\"cpus\"",
        "cpus:NaN",
    ];
    for text in bad {
        let said = world.told(&["run", "--master", &address, "--resources", text, "--", "true"]);
        assert_eq!(said.status, 2, "{text}: {}", said.err);
        assert!(said.err.contains("--resources"), "{text}: {}", said.err);
        let said = world.told(&[&agent_flags[..], &["--resources", text]].concat());
        assert!([1, 2].contains(&said.status), "{text}: {}", said.err);
        assert!(said.err.contains("--resources"), "{text}: {}", said.err);
    }
    end(&world, master, agent);
}

#[test]
fn resources_in_json_are_the_same_resources() {
    let world = World::new();
    let json = |cpus: &str| {
        format!(
            r#"[{{"name":"cpus","type":"SCALAR","scalar":{{"value":{cpus}}}}},
                {{"name":"mem","type":"SCALAR","scalar":{{"value":128}}}}]"#
        )
    };
    let master = world.master(&[]);
    let agent = master.agent(&[&format!("--resources={}", json("2.5"))]);
    let rows = master.rows(&["--agents"]);
    assert_eq!(rows[0]["resources"]["cpus"], 2.5, "{rows:?}");
    let said = master.run(&["--resources", &json("2.5"), "--", "true"]).end();
    assert_eq!(said.status, 0, "{}", said.err);
    end(&world, master, agent);
}

#[test]
fn http_answers_what_it_has_and_says_what_it_has_not() {
    let world = World::new();
    let (master, agent) = cluster(&world, Setting::Open);
    for (port, kind) in [(master.port, "master"), (agent.port, "agent")] {
        let version = get(port, "/version");
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        let metrics = get(port, "/metrics");
        assert!(metrics.contains(&format!("\nmesita_{kind}_steps_total ")), "{metrics}");
        let body = metrics.split_once("\r\n\r\n").unwrap().1;
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let name = name.split('{').next().unwrap();
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(is_name), "{line}");
            assert!(value.parse::<u64>().is_ok(), "{line}");
        }
        assert!(get(port, "/nothing").starts_with("HTTP/1.1 404 "));
        let mut stream = connect(port);
        stream.write_all(b"POST /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }
    end(&world, master, agent);
}

#[test]
fn a_page_of_another_site_may_read_and_change_nothing() {
    let world = World::new();
    let (master, agent) = cluster(&world, Setting::Open);
    let asked = |port: u16, method: &str, path: &str, header: (&str, &str), body: &str| {
        ask(port, method, path, &[header], body.as_bytes())
    };
    let plan = r#"{"windows": [{"machine_ids": [{"hostname": "h"}],
        "unavailability": {"start": {"nanoseconds": 1}}}]}"#;
    let evil = ("Origin", "http://evil.example");
    for (port, method, path) in [
        (master.port, "POST", "/maintenance/schedule"),
        (master.port, "POST", "/api/v1/scheduler"),
        (master.port, "PUT", "/weights"),
        (agent.port, "POST", "/api/v1"),
    ] {
        for header in [evil, ("Sec-Fetch-Site", "cross-site"), ("Origin", "http://it")] {
            let answer = asked(port, method, path, header, plan);
            assert_eq!(answer.status, 403, "{path} {header:?}: {}", answer.text());
            assert!(answer.text().contains("another site"), "{}", answer.text());
        }
    }
    // Mesos has this one changed by GET.
    let toggled = asked(master.port, "GET", "/logging/toggle?level=3&duration=1hrs", evil, "");
    assert_eq!(toggled.status, 403, "{}", toggled.text());
    assert_eq!(asked(master.port, "GET", "/maintenance/schedule", evil, "").text(), "{}");
    assert_eq!(asked(master.port, "GET", "/state", evil, "").status, 200);
    end(&world, master, agent);
}

#[test]
fn bodies_that_arrive_have_room_for_all_of_them_together() {
    let world = World::new();
    let master = world.master(&["--max-body-bytes", "1MiB"]);
    let mut slow = connect(master.port);
    let head = "POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    write!(slow, "{head}Content-Length: 1000000\r\n\r\n").unwrap();
    slow.write_all(&vec![b' '; 900_000]).unwrap();
    let mut call = br#"{"type":"GET_HEALTH"}"#.to_vec();
    call.resize(200_000, b' ');
    let asked =
        || ask(master.port, "POST", "/api/v1", &[("Content-Type", "application/json")], &call);
    let refused = || asked().status == 503 && asked().text().contains("--max-body-bytes");
    eventually(refused, || asked().text());
    drop(slow);
    eventually(|| asked().status == 200, || asked().text());
    master.stop();
    world.nothing_is_left();
}

/// The most memory that a process has had, in KiB.
fn most_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_small_body_that_stands_for_much_memory_is_refused_before_it_takes_it() {
    let world = World::new();
    let (master, agent) = cluster(&world, Setting::Open);
    let before = most_memory(master.process().pid());
    let headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    let all = |begin: &str, item: &str, end: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        write!(packed, "{begin}{item}{}{end}", format!(",{item}").repeat(4_000_000)).unwrap();
        packed.finish().unwrap()
    };
    for (begin, item, end) in [
        (r#"{"type":"ACCEPT","framework_id":{"value":"x"},"accept":{"operations":["#, "{}", "]}}"),
        (r#"{"type":"DECLINE","framework_id":{"value":"x"},"decline":{"offer_ids":["#, "{}", "]}}"),
        (r#"{"type":"REVIVE","framework_id":{"value":"x"},"revive":{"roles":["#, "\"\"", "]}}"),
    ] {
        let body = all(begin, item, end);
        assert!(body.len() < 64 * 1024);
        for port in [master.port, agent.port] {
            let path = if port == agent.port { "/api/v1/executor" } else { "/api/v1/scheduler" };
            let answer = ask(port, "POST", path, &headers, &body);
            assert_eq!(answer.status, 413, "{begin}: {}", answer.text());
        }
    }
    // The body itself, unpacked, and twice as much for what it says.
    let grown = most_memory(master.process().pid()) - before;
    assert!(grown < 96 * 1024, "{grown} KiB");
    let few = "{},".repeat(100) + "{}";
    let call = format!(
        r#"{{"type":"DECLINE","framework_id":{{"value":"x"}},"decline":{{"offer_ids":[{few}]}}}}"#
    );
    let answer = ask(master.port, "POST", "/api/v1/scheduler", &headers[..1], call.as_bytes());
    assert!(answer.status == 400 && answer.body.len() < 2_000, "{}", answer.text());
    is_well(&world, &master, &agent);
    end(&world, master, agent);
}

#[test]
fn a_task_larger_than_a_message_is_refused_in_a_sentence() {
    let world = World::new();
    let (master, agent) = cluster(&world, Setting::Open);
    let long = "x".repeat(100_000);
    // A line of the shell goes into a body, which may be long.
    let said = master.run(&["--command", &format!("true {long}")]).end();
    assert_eq!(said.status, 0, "{}", said.err);
    // A name goes into a head, which may not.
    for (flag, told) in [
        ("--name", "--name: expected 1 to 255 bytes"),
        ("--role", "--role: longer than 255 bytes"),
        ("--user", "framework.user"),
        ("--principal", "framework.principal"),
    ] {
        let said = master.run(&[flag, &long, "--wait", "5s", "--", "true"]).end();
        assert_eq!(said.status, 2, "{flag}: {}", said.err);
        assert!(said.err.contains(told), "{flag}: {}", said.err);
        assert!(said.err.len() < 1_000, "{flag}: {} bytes", said.err.len());
    }
    assert_eq!(master.run(&["--name", "", "--", "true"]).end().status, 2);
    assert_eq!(master.run(&["--name", &long[..255], "--", "true"]).end().status, 0);
    end(&world, master, agent);
}

#[test]
fn a_ledger_or_registry_that_is_damaged_is_told_with_its_path() {
    let world = World::new();
    let (master, mut agent) = cluster(&world, Setting::Open);
    assert_eq!(master.run(&["--", "true"]).end().status, 0);
    agent.terminate();
    let key = agent.work_dir().join("meta/key");
    let good = std::fs::read(&key).unwrap();
    std::fs::write(&key, b"short").unwrap();
    agent.start();
    agent.process().says("is not 32 bytes");
    std::fs::write(&key, good).unwrap();
    agent.start();
    agent.process().says("registered with the master");
    let registry = world.path(&format!("master-{}/meta/registry", master.port));
    let mut master = master;
    let process = master.process.take().unwrap();
    process.signal(Signal::TERM);
    process.end();
    let good = std::fs::read(&registry).unwrap();
    std::fs::write(&registry, vec![0xaa; good.len()]).unwrap();
    let work_dir = world.path(&format!("master-{}", master.port));
    let port = master.port.to_string();
    let flags = ["master", "--port", &port, "--work-dir", work_dir.to_str().unwrap()];
    let said = world.told(&flags);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("meta/registry"), "{}", said.err);
    std::fs::write(&registry, good).unwrap();
    master.start();
    end(&world, master, agent);
}
