//! The bytes of everything that an agent and its keeper say. A running keeper is older than the
//! agent that was just replaced, so a released byte never changes its meaning.
//!
//! `golden/keeper-v1.txt` has a line for each message below: name, bytes. `BLESS=1` appends what is
//! missing there and refuses to change what is.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::path::PathBuf;

use mesita_core::wire::task::Exit;
use mesita_core::wire::{ContainerId, Session};
use mesita_isolation::keeper::protocol::{
    Asked, Cgroup, Decoder, Ended, Enter, Held, Launch, Left, Malformed, Namespaces, Refused,
    Reply, Request, Rlimit, Stdio, Step, Trouble, User, Welcome, encode,
};
use mesita_isolation::keeper::wall::{Bind, Host, Kind, Link, Node, Root, Wall};
use serde::Serialize;
use serde::de::DeserializeOwned;

const CONTAINER: ContainerId = ContainerId { incarnation: 7, counter: 300 };
const SESSION: Session = Session { incarnation: 7, counter: 2 };

fn launch() -> Launch {
    Launch {
        container: CONTAINER,
        attempt: 1,
        session: SESSION,
        deadline_us: 1 << 40,
        program: c"/bin/sh".into(),
        arguments: vec![c"sh".into(), c"-c".into(), c"true".into()],
        environment: vec![c"A=\xff".into()],
        directory: c"/w".into(),
        stdout: c"stdout".into(),
        stderr: c"stderr".into(),
        user: Some(User { uid: 1000, gid: 100, groups: vec![100, 4] }),
        rlimits: [Rlimit { resource: 7, soft: Some(64), hard: None }].into_iter().collect(),
        cgroups: [Cgroup { directory: c"/c/7-12c".into(), unified: true }].into_iter().collect(),
        namespaces: Namespaces { user: false, pid: true, mount: true },
        no_new_privs: true,
        oom_score_adj: -5,
        stop_after_us: 60_000_000,
        grace_us: 5_000_000,
    }
}

/// One of each.
fn walls() -> Vec<Wall> {
    vec![
        Wall::Ipc,
        Wall::Uts { hostname: c"a".into() },
        Wall::Cgroup,
        Wall::Network,
        Wall::Hidden { path: c"/proc/kcore".into() },
        Wall::ReadOnly { path: c"/sys".into() },
        Wall::Bind(Bind {
            root: c"/srv".into(),
            from: c"a/b".into(),
            to: c"data".into(),
            read_only: true,
        }),
        Wall::Capabilities { bounding: 1 << 10, effective: 1 },
        Wall::Landlock { writable: vec![c".".into()] },
        Wall::Seccomp { program: vec![6 | 0x7fff_0000 << 32] },
        Wall::Secret { to: c"key".into(), data: vec![1, 2] },
        Wall::Ports { held: vec![(80, 81)] },
    ]
}

fn ended() -> Ended {
    Ended {
        container: CONTAINER,
        attempt: 1,
        exit: Exit::Signal(9),
        core: true,
        user_us: 5,
        system_us: 6,
        max_rss_kib: 7,
        ended_us: 8,
    }
}

fn requests() -> Vec<(&'static str, Request)> {
    let container = CONTAINER;
    vec![
        ("request.hello", Request::Hello { min: 1, max: 2, session: SESSION }),
        ("request.launch", Request::Launch(Box::new(launch()))),
        ("request.signal", Request::Signal { container, signal: 15 }),
        ("request.forget", Request::Forget { container }),
        ("request.list", Request::List),
        ("request.renew", Request::Renew { session: SESSION, contact_us: 9 }),
        (
            "request.remove",
            Request::RemoveAtEnd { directories: [c"/c/k".into()].into_iter().collect() },
        ),
        ("request.end-all", Request::EndAll),
        ("request.exit", Request::Exit),
        ("request.enter", Request::Enter(Box::new(Enter { inside: CONTAINER, launch: launch() }))),
        (
            "request.enter-with",
            Request::EnterWith {
                enter: Box::new(Enter { inside: CONTAINER, launch: launch() }),
                below: c"containers/a".into(),
                stdio: Stdio::Terminal,
            },
        ),
        (
            "request.enter-kept",
            Request::EnterWith {
                enter: Box::new(Enter { inside: CONTAINER, launch: launch() }),
                below: c"".into(),
                stdio: Stdio::Kept,
            },
        ),
        (
            "request.launch-on",
            Request::LaunchOn { launch: Box::new(launch()), walls: walls(), stdio: Stdio::Kept },
        ),
        ("request.terminals", Request::Terminals),
        (
            "request.launch-in-common",
            Request::LaunchWith {
                launch: Box::new(launch()),
                walls: [Kind::Ipc, Kind::Uts, Kind::Network]
                    .map(|kind| Wall::Common { of: CONTAINER, kind })
                    .to_vec(),
            },
        ),
        (
            "request.launch-waiting",
            Request::LaunchWaiting {
                launch: Box::new(launch()),
                walls: walls(),
                stdio: Stdio::Files,
            },
        ),
        ("request.go", Request::Go { container, deadline_us: 1 << 33 }),
        ("request.launch-with", Request::LaunchWith { launch: Box::new(launch()), walls: walls() }),
        (
            "request.enter-behind",
            Request::EnterBehind {
                enter: Box::new(Enter { inside: CONTAINER, launch: launch() }),
                below: c"".into(),
                stdio: Stdio::Files,
                walls: walls(),
            },
        ),
        (
            "request.launch-in",
            Request::LaunchWith {
                launch: Box::new(launch()),
                walls: vec![
                    Wall::Root(Box::new(root())),
                    Wall::Volume { of: Box::new(root()), read_only: true },
                ],
            },
        ),
        (
            "request.launch-seeing",
            Request::LaunchWith {
                launch: Box::new(launch()),
                walls: vec![Wall::Closed {
                    path: c"/tmp/a/agent".into(),
                    pinned: vec![c"/tmp/a".into()],
                    kept: vec![c"/tmp/a/agent/volumes/roles/web/db".into()],
                }],
            },
        ),
        (
            "request.launch-sharing",
            Request::LaunchWith {
                launch: Box::new(launch()),
                walls: vec![Wall::Shm { bytes: 300 }],
            },
        ),
        (
            "request.launch-among",
            Request::LaunchWith { launch: Box::new(launch()), walls: vec![Wall::Users] },
        ),
        (
            "request.launch-linked",
            Request::LaunchWith {
                launch: Box::new(launch()),
                walls: vec![Wall::Link(Link {
                    name: c"ms0".into(),
                    host: [10, 213, 0, 0],
                    own: [10, 213, 0, 1],
                    ingress: 300,
                    egress: 1,
                })],
            },
        ),
        (
            "request.launch-still",
            Request::LaunchWith {
                launch: Box::new(launch()),
                walls: vec![Wall::Host(Host {
                    writable: vec![c"/tmp".into()],
                    hidden: vec![c"/run".into()],
                    shown: vec![c"/run/systemd/resolve".into()],
                })],
            },
        ),
        (
            "request.launch-holding",
            Request::LaunchWith {
                launch: Box::new(launch()),
                walls: vec![Wall::Devices {
                    nodes: vec![Node {
                        path: c"serial/by-id/x".into(),
                        block: false,
                        major: 188,
                        minor: 300,
                    }],
                }],
            },
        ),
        (
            "request.launch-in-group",
            Request::LaunchWith {
                launch: Box::new(launch()),
                walls: vec![Wall::Group { of: CONTAINER }],
            },
        ),
        (
            "request.enter-parted",
            Request::EnterBehind {
                enter: Box::new(Enter { inside: CONTAINER, launch: launch() }),
                below: c"".into(),
                stdio: Stdio::Files,
                walls: vec![Wall::Processes],
            },
        ),
    ]
}

fn root() -> Root {
    Root {
        at: c"/w/root".into(),
        layers: c"/w/layers".into(),
        lower: vec![c"b".into(), c"a".into()],
        upper: c"/w/upper".into(),
        work: c"/w/work".into(),
        sandbox: c"/s".into(),
        to: c"/mnt/mesos/sandbox".into(),
    }
}

fn replies() -> Vec<(&'static str, Reply)> {
    let (container, attempt) = (CONTAINER, 1);
    let trouble = Trouble { step: Step::Execute, errno: 2 };
    let welcome = Welcome {
        version: 1,
        pid: 4242,
        boot: [3; 16],
        namespaces: Namespaces { user: true, pid: true, mount: true },
        trouble: Some(Trouble { step: Step::Proc, errno: 1 }),
    };
    let containers = vec![
        Held::Starting { container, attempt },
        Held::Running { container, attempt, pid: 77, started_us: 1 << 33 },
        Held::Ended(ended()),
        Held::Left(Left { container, attempt, pid: 77, from_us: 1, to_us: 2 }),
    ];
    vec![
        ("reply.hello", Reply::Hello(welcome)),
        ("reply.listed", Reply::Listed { containers, last: true }),
        ("reply.launched", Reply::Launched { container, attempt, pid: 77, started_us: 5 }),
        ("reply.refused", Reply::Refused(Refused { container, asked: Asked::Launch, trouble })),
        ("reply.ended", Reply::Ended(ended())),
        ("reply.all-ended", Reply::AllEnded),
        ("reply.busy", Reply::Busy { running: 3 }),
        ("reply.lent", Reply::Lent { container: Some(container) }),
        ("reply.lent-all", Reply::Lent { container: None }),
        ("reply.waits", Reply::Waits { container, attempt, pid: 77 }),
    ]
}

fn bytes_of(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes).unwrap();
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn golden_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/keeper-v1.txt")
}

fn recorded() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(golden_file()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, hex)| (name.to_owned(), hex.to_owned())).collect()
}

#[test]
fn every_message_has_the_bytes_of_its_release() {
    let recorded = recorded();
    let requests = requests().into_iter().map(|(name, of)| (name, bytes_of(&of)));
    let replies = replies().into_iter().map(|(name, of)| (name, bytes_of(&of)));
    let mut missing = String::new();
    for (name, bytes) in requests.chain(replies) {
        match recorded.get(name) {
            Some(golden) => assert_eq!(&hex(&bytes), golden, "{name} is not what was released"),
            None => writeln!(missing, "{name} {}", hex(&bytes)).unwrap(),
        }
    }
    if std::env::var_os("BLESS").is_some() {
        let text = std::fs::read_to_string(golden_file()).unwrap_or_default() + &missing;
        std::fs::write(golden_file(), text).unwrap();
    } else {
        assert!(missing.is_empty(), "not recorded (BLESS=1 appends them):\n{missing}");
    }
}

fn check_decoder<T>(samples: Vec<(&'static str, T)>)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    for (name, sample) in samples {
        let bytes = bytes_of(&sample);
        let decode = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            decoder.message::<T>()
        };
        assert_eq!(decode(&bytes), Ok(Some(sample)), "{name}");
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Ok(None), "{name} cut to {cut}");
        }
        // Whatever a byte becomes, the answer is a message, none yet, or a refusal.
        for at in 0..bytes.len() {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff, bytes[at] ^ 1] {
                let mut bad = bytes.clone();
                bad[at] = value;
                match decode(&bad) {
                    Ok(Some(message)) => assert!(!bytes_of(&message).is_empty(), "{name} at {at}"),
                    Ok(None) | Err(Malformed::NoMessage | Malformed::TooLong(_)) => {}
                }
            }
        }
    }
}

#[test]
fn no_mutation_of_a_message_makes_the_decoder_stumble() {
    check_decoder(requests());
    check_decoder(replies());
}
