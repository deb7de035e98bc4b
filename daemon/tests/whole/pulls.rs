//! `mesita pull`: images that are on agents before a task needs them, from a registry that breaks off in
//! the middle, and from agent to agent.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::images::{can_stand, gauge, hex, lay_out, preceded, registry};
use crate::scheduler_api::end;
use crate::world::{Agent, Master, NOBODY, Said, World};

/// A server of a directory that gives no more than `most` bytes of a body at once, and goes on where it
/// is asked to, unless that is of another version and it tells versions; it counts the bytes of bodies.
struct Server {
    port: u16,
    tells: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    given: Arc<AtomicU64>,
}

impl Server {
    fn new(directory: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (most, given) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicU64::new(0)));
        let tells = Arc::new(AtomicBool::new(false));
        let (known, counted) = (Arc::clone(&most), Arc::clone(&given));
        let server = Self { port, tells: Arc::clone(&tells), most: known, given: counted };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 4096];
                let len = stream.read(&mut head).unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..len]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
                let Ok(bytes) = fs::read(directory.join(path)) else {
                    // Some say of what is not there that it is not for everybody.
                    let status = if path.ends_with(".tar") { 403 } else { 404 };
                    let _ = write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
                    continue;
                };
                let tag = format!("\"{}\"", hex(&bytes));
                let head = head.to_lowercase();
                let tells = tells.load(Ordering::Relaxed);
                let other = head.contains("if-range:") && !head.contains(&tag);
                let tag = if tells { format!("\r\nETag: {tag}") } else { String::new() };
                let head = if other { "" } else { head.as_str() };
                let from = head.split_once("\r\nrange: bytes=").map(|(_, rest)| {
                    let digits = rest.split('-').next().unwrap();
                    digits.parse::<usize>().unwrap()
                });
                let body = &bytes[from.unwrap_or(0).min(bytes.len())..];
                let status = match from {
                    Some(from) => format!(
                        "206 x\r\nContent-Range: bytes {from}-{}/{}",
                        bytes.len() - 1,
                        bytes.len()
                    ),
                    None => "200 x".to_owned(),
                };
                let length = body.len();
                let part = usize::try_from(most.load(Ordering::Relaxed)).unwrap().min(length);
                given.fetch_add(part as u64, Ordering::Relaxed);
                let head = format!("{status}{tag}\r\nContent-Length: {length}\r\n\r\n");
                let _ = write!(stream, "HTTP/1.1 {head}")
                    .and_then(|()| stream.write_all(&body[..part]));
            }
        });
        server
    }

    fn flag(&self) -> String {
        format!("--docker-registry=http://127.0.0.1:{}", self.port)
    }
}

fn pull(world: &World, master: &Master<'_>, arguments: &[&str]) -> Said {
    let address = master.address();
    world.told(&[&["pull", "--master", &address], arguments].concat())
}

/// Agents of hosts that have each their own name.
fn hosts<'w>(master: &Master<'w>, flags: &[&[&str]]) -> Vec<Agent<'w>> {
    let hosts = (1..).zip(flags).map(|(number, flags)| {
        let host = format!("--hostname=pi{number}");
        master.agent(&[&[host.as_str()], *flags].concat())
    });
    hosts.collect()
}

fn end_all(world: &World, master: Master<'_>, mut agents: Vec<Agent<'_>>) {
    let last = agents.pop().unwrap();
    agents.into_iter().for_each(Agent::leave);
    end(world, master, last);
}

#[test]
fn an_image_comes_to_the_agents_that_are_meant_and_from_one_to_the_next() {
    if !can_stand() {
        return;
    }
    let world = World::new();
    let directory = registry(&world);
    lay_out(&directory.join("laid/out"));
    let server = Server::new(directory);
    let master = world.master(&[]);
    let (flag, rack) = (server.flag(), "--attributes=rack:r1");
    let agents = hosts(&master, &[&[rack], &[&flag, rack], &[]]);
    let have = |agents: &[Agent<'_>]| -> Vec<String> {
        agents.iter().map(|agent| gauge(agent, "images_len")).collect()
    };
    for (image, before) in [("laid/out", 0), ("acme/app:v1", 1)] {
        let said = pull(&world, &master, &[image, "--agents", "rack:r1"]);
        // Whoever comes first, it begins where somebody knows a registry.
        assert_eq!(said.out, "pi2: pulled\npi1: pulled\n", "{}", said.err);
        assert_eq!((said.status, have(&agents)[2].as_str()), (0, &*before.to_string()));
        // The registry has given it once.
        let given = server.given.load(Ordering::Relaxed);
        let said = pull(&world, &master, &[image, "--agents", "all"]);
        assert_eq!(said.out, "pi2: has it\npi3: pulled\npi1: has it\n", "{}", said.err);
        let more = server.given.load(Ordering::Relaxed) - given;
        assert!(image != "laid/out" || more < 1000, "a layout does not come again: {more}");
    }
    assert_eq!(have(&agents), ["2", "2", "2"]);
    // Without a registry nobody begins, and it is said of whom.
    let said = pull(&world, &master, &["laid/out", "--agents", "pi3"]);
    assert!(said.status == 1 && said.out.contains("pi3: FAILED: no --docker-registry"), "{said:?}");
    let said = pull(&world, &master, &["laid/out", "--agents", "pi9"]);
    assert!(said.status == 2 && said.err.contains("no agent is `pi9`"), "{said:?}");
    let said = pull(&world, &master, &["/srv/app.tar", "--agents", "all"]);
    assert!(said.status == 1 && said.out.contains("is of one machine"), "{said:?}");
    // Others than who operates the cluster bring nothing.
    let user = NOBODY.to_string();
    let nobody = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let address = master.address();
    let asked = ["pull", "--master", &address, "laid/out", "--agents", "all"];
    let said = world.start(world.wrapped(&nobody, &asked)).end();
    assert!(said.status == 1 && said.out.contains("only who operates"), "{said:?}");
    end_all(&world, master, agents);
}

#[test]
fn what_is_too_large_to_be_kept_is_refused_before_it_comes() {
    if !can_stand() {
        return;
    }
    let world = World::new();
    let directory = registry(&world);
    lay_out(&directory.join("laid/out"));
    let server = Server::new(directory);
    let master = world.master(&[]);
    let agents = hosts(&master, &[&[&server.flag(), "--image-blobs-max=64KiB"]]);
    for image in ["laid/out", "acme/app:v1"] {
        let said = pull(&world, &master, &[image, "--agents", "pi1"]);
        assert!(said.status == 1 && said.out.contains("--image-blobs-max"), "{said:?}");
    }
    let blobs = fs::read_dir(agents[0].work_dir().join("images/blobs")).unwrap().flatten();
    let sizes: Vec<u64> = blobs.map(|entry| entry.metadata().unwrap().len()).collect();
    assert!(sizes.iter().all(|size| *size < 4096), "documents alone: {sizes:?}");
    end_all(&world, master, agents);
}

#[test]
fn what_broke_off_goes_on_where_it_was_and_no_faster_than_it_may() {
    if !can_stand() {
        return;
    }
    let world = World::new();
    let server = Server::new(registry(&world));
    let master = world.master(&[]);
    let flag = server.flag();
    let agents = hosts(&master, &[&[&flag], &[]]);
    server.most.store(900_000, Ordering::Relaxed);
    let whole = fs::metadata(world.path("registry/acme/app:v1.tar")).unwrap().len();
    let mut times = 0;
    let said = loop {
        let said = pull(&world, &master, &["acme/app:v1", "--agents", "pi1"]);
        times += 1;
        assert!(times < 20, "{said:?}");
        if said.status == 0 {
            break said;
        }
        assert!(said.out.contains("pi1: FAILED"), "{said:?}");
    };
    assert_eq!(said.out, "pi1: pulled\n");
    assert_eq!(times, whole.div_ceil(900_000));
    assert_eq!(server.given.load(Ordering::Relaxed), whole, "nothing came twice");
    // From agent to agent with a bound; half of a layer is there from before.
    server.most.store(u64::MAX, Ordering::Relaxed);
    let blobs = agents[0].work_dir().join("images/blobs");
    let largest = fs::read_dir(&blobs).unwrap().flatten();
    let largest = largest.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap().path();
    let bytes = fs::read(&largest).unwrap();
    let half = bytes.len() / 2;
    let part = agents[1].work_dir().join("images/blobs").join(hex(&bytes) + ".part");
    fs::write(&part, &bytes[..half]).unwrap();
    let begun = Instant::now();
    let rate = format!("{}KiB", half / 1024 / 3);
    let said = pull(&world, &master, &["acme/app:v1", "--agents", "pi2,pi1", "--rate", &rate]);
    let took = begun.elapsed().as_secs_f64();
    assert_eq!(said.out, "pi1: has it\npi2: pulled\n", "{}", said.err);
    // The archive came anew at that rate, and of the layer a half.
    assert!(took > 8.0, "{took} s for three times the half, twice and once");
    assert!(!part.exists());
    end_all(&world, master, agents);
}

#[test]
fn an_archive_that_is_another_one_by_now_comes_anew() {
    if !can_stand() {
        return;
    }
    let world = World::new();
    let server = Server::new(registry(&world));
    let master = world.master(&[]);
    let agents = hosts(&master, &[&[&server.flag()]]);
    let archive = world.path("registry/acme/app:v1.tar");
    let mut bytes = fs::read(&archive).unwrap();
    // A server that tells versions gives all of the other one at once; else it is found out when what came
    // makes no sense, and then it is asked for again.
    for (tells, times) in [(true, 0), (false, 1)] {
        server.tells.store(tells, Ordering::Relaxed);
        server.most.store(900_000, Ordering::Relaxed);
        let before = server.given.load(Ordering::Relaxed);
        let said = pull(&world, &master, &["acme/app:v1", "--agents", "pi1"]);
        assert!(said.out.contains("pi1: FAILED"), "{said:?}");
        bytes = preceded(&bytes);
        fs::write(&archive, &bytes).unwrap();
        server.most.store(u64::MAX, Ordering::Relaxed);
        let said = pull(&world, &master, &["acme/app:v1", "--agents", "pi1"]);
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{}", said.out);
        let whole = bytes.len() as u64;
        let given = server.given.load(Ordering::Relaxed) - before;
        assert_eq!(given, 900_000 + whole + times * (whole - 900_000), "{tells}");
    }
    // One that did not change goes on where it broke off.
    server.tells.store(true, Ordering::Relaxed);
    server.most.store(900_000, Ordering::Relaxed);
    let before = server.given.load(Ordering::Relaxed);
    pull(&world, &master, &["acme/app:v1", "--agents", "pi1"]);
    server.most.store(u64::MAX, Ordering::Relaxed);
    let said = pull(&world, &master, &["acme/app:v1", "--agents", "pi1"]);
    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!(server.given.load(Ordering::Relaxed) - before, bytes.len() as u64);
    let blobs = fs::read_dir(agents[0].work_dir().join("images/blobs")).unwrap().flatten();
    let left: Vec<_> = blobs.filter(|entry| entry.path().extension().is_some()).collect();
    assert!(left.is_empty(), "{left:?}");
    end_all(&world, master, agents);
}

#[test]
fn who_sends_content_and_falls_silent_is_let_go_and_goes_on_later() {
    if !can_stand() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let agents = hosts(&master, &[&["--fetcher-stall-timeout=300ms"]]);
    let content = [7; 5000];
    let name = hex(&content);
    let put = |offset: usize, sent: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", agents[0].port)).unwrap();
        let length = content.len() - offset;
        let head = format!(
            "PUT /images/blobs/{name}?offset={offset} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(sent).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = put(0, &content[..2000]);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("nothing comes for the 300 ms of --fetcher-stall-timeout"), "{answer}");
    // What came is there, and nobody holds it.
    let answer = put(0, &content);
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("2000 bytes"), "{answer}");
    let answer = put(2000, &content[2000..]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(fs::read(agents[0].work_dir().join("images/blobs").join(name)).unwrap(), content);
    end_all(&world, master, agents);
}
