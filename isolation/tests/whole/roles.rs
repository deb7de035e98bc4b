//! The parts that this binary plays for its tests: agents, and tasks of every behaviour.

use std::io::{BufRead, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use mesita_core::wire::{ContainerId, Session};
use mesita_isolation::Isolation;
use mesita_isolation::isolators::TaskLimits;
use mesita_isolation::keeper::protocol::{Reply, Request, encode};
use mesita_isolation::keeper::{KeeperOptions, start};
use mesita_isolation::sys::Linux;

use crate::world::{launch_of, nap};

/// Plays a role; the process ends with it.
pub(crate) fn play(role: &str, arguments: &[String]) {
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(0);
    match role {
        "agent" => agent(arguments),
        "threaded" => threaded(arguments),
        "sleep" => nap(Duration::from_secs(number(0))),
        "exit" => std::process::exit(i32::try_from(number(0)).unwrap_or(255)),
        "euid" => say(&rustix::process::geteuid().as_raw().to_string()),
        "closed" => closed(),
        "connect" => connect(&arguments[0]),
        "in-cgroup" => in_cgroup(arguments),
        "hog" => hog(number(0)),
        "parent-of-hog" => parent_of_hog(number(0)),
        "forks" => forks(number(0)),
        "stubborn" => stubborn(number(0)),
        "spin" => spin(),
        "burn" => burn(number(0)),
        "loopback" => loopback(),
        "talk" => talk(&arguments[0], number(1)),
        "write-disk" => write_disk(&arguments[0], number(1)),
        "take-disk" => take_disk(number(0), false),
        "open" => loop {
            let open = |path: &String| std::fs::File::open(path).is_ok().to_string();
            say(&arguments.iter().map(open).collect::<Vec<_>>().join(" "));
            nap(Duration::from_millis(50));
        },
        "threads" => {
            (0..number(0)).for_each(|_| drop(std::thread::spawn(|| nap(Duration::from_secs(600)))));
            say("threads");
            nap(Duration::from_secs(600));
        }
        "hide-disk" => take_disk(number(0), true),
        "fill" => fill(number(0), &arguments[1]),
        "files" => files(number(0)),
        "in-flight" => in_flight(number(0), number(1)),
        "escape-quota" => say(&format!("escaped {} of 3", crate::probes::tries::other_projects())),
        "probe" => crate::probes::play(arguments),
        "helped" => crate::probes::helped(&arguments[0]),
        other => panic!("no role {other}"),
    }
}

/// Sends so many bytes to an address, says how many come back, and stays.
fn talk(to: &str, bytes: u64) {
    let mut stream = std::net::TcpStream::connect(to).unwrap();
    stream.write_all(&vec![7; usize::try_from(bytes).unwrap()]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let received = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    say(&format!("received {received}"));
    nap(Duration::from_secs(600));
}

/// An agent: starts a keeper, says so, does what it is told line by line, and dies with its
/// standard input, without a word to the keeper.
///
/// `agent WORK_DIR [ends] [temporary] [max=N] [nofile=N] [walls=KEY]`; its lines are
/// `launch PROGRAM ARGUMENT...`.
fn agent(arguments: &[String]) {
    let mut options = KeeperOptions::new(arguments[0].as_ref());
    options.logs = false;
    options.session = Session { incarnation: 1, counter: 1 };
    let mut key = None;
    for word in &arguments[1..] {
        match word.split_once('=') {
            None if word == "ends" => options.ends_with_client = true,
            None => options.temporary = word == "temporary",
            Some(("max", number)) => options.containers_max = number.parse().unwrap(),
            Some(("nofile", number)) => {
                let limit = number.parse().ok();
                let limit = rustix::process::Rlimit { current: limit, maximum: limit };
                rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
            }
            Some((_, number)) => key = Some(number.parse().unwrap()),
        }
    }
    let mut client = match start(&options) {
        Ok(client) => client,
        Err(error) => {
            say(&format!("error {error}"));
            std::process::exit(3);
        }
    };
    say(&format!("keeper {} {}", client.welcome().pid, client.is_fresh()));
    let isolation = key.map(|key| {
        let options = crate::walls::options(client.welcome(), key);
        let (isolation, degraded) = Isolation::new(&options, &Linux).unwrap();
        degraded.iter().for_each(|degraded| eprintln!("{degraded}"));
        client.send(&isolation.remove_at_end()).unwrap();
        if !rustix::process::geteuid().is_root() {
            say(&isolation.names().join(" "));
        }
        isolation
    });
    for (counter, line) in (1000..).zip(std::io::stdin().lock().lines()) {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], "launch");
        let container = ContainerId { incarnation: 1, counter };
        let launch = launch_of(container, &options.work_dir, &words[1..]);
        let request = if let Some(isolation) = &isolation {
            let limits =
                TaskLimits { cpus_milli: 100, mem_bytes: 1 << 28, ..TaskLimits::default() };
            isolation.prepare(container, &limits).unwrap().request(launch)
        } else {
            Request::launch(launch, Vec::new())
        };
        client.send(&request).unwrap();
        loop {
            match client.receive(Duration::from_secs(30)) {
                // Of a task before this one.
                Ok(Some(Reply::Ended(_))) => {}
                Ok(Some(Reply::Launched { pid, .. })) => break say(&format!("launched {pid}")),
                other => break say(&format!("error {other:?}")),
            }
        }
    }
    // Not even the socket is closed by us.
    std::process::exit(0);
}

/// Makes a directory that nobody may look into, and waits to be killed.
fn closed() {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all("closed/deep").unwrap();
    std::fs::set_permissions("closed", std::fs::Permissions::from_mode(0o000)).unwrap();
    say("closed");
    nap(Duration::from_secs(600));
}

/// Somebody who tries to talk to a keeper.
fn connect(socket: &str) {
    let mut stream = match std::os::unix::net::UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => return say(&format!("refused: {}", error.kind())),
    };
    let mut bytes = Vec::new();
    let session = Session { incarnation: 9, counter: 9 };
    encode(&Request::Hello { min: 1, max: 1, session }, &mut bytes).unwrap();
    let _ = stream.write_all(&bytes);
    match stream.read(&mut [0]) {
        Ok(1) => say("answered"),
        Ok(_) | Err(_) => say("closed"),
    }
}

/// `in-cgroup DIRECTORY UID PROGRAM ARGUMENT...`: becomes a user's program in a cgroup.
fn in_cgroup(arguments: &[String]) {
    use std::os::unix::process::CommandExt;
    let [directory, uid, program, arguments @ ..] = arguments else { panic!("{arguments:?}") };
    let uid = uid.parse().unwrap();
    std::fs::write(format!("{directory}/cgroup.procs"), "0").unwrap();
    panic!("{}", Command::new(program).args(arguments).uid(uid).gid(uid).exec());
}

/// A process that has a second thread, and tries to start a keeper.
fn threaded(arguments: &[String]) {
    let (keep, kept) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || kept.recv());
    let error = start(&KeeperOptions::new(arguments[0].as_ref())).unwrap_err();
    say(&format!("error {error}"));
    drop(keep);
    let _ = thread.join();
}

/// Uses so much memory, then waits to be killed.
fn hog(mib: u64) {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mib {
        let mut chunk = vec![0u8; 1 << 20];
        chunk.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        held.push(std::hint::black_box(chunk));
    }
    say("held");
    nap(Duration::from_secs(600));
    drop(held);
}

/// Lives on when its child was killed.
fn parent_of_hog(mib: u64) {
    let own = std::env::current_exe().unwrap();
    let mut child = Command::new(own).args(["role:hog", &mib.to_string()]).spawn().unwrap();
    let status = child.wait().unwrap();
    say(&format!("child {status}"));
    nap(Duration::from_secs(600));
}

/// Starts children until it has so many or is refused, says how many, and waits to be killed.
fn forks(most: u64) {
    let own = std::env::current_exe().unwrap();
    let mut children = Vec::new();
    for _ in 0..most {
        match Command::new(&own).args(["role:sleep", "600"]).stdout(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(error) => {
                say(&format!("refused after {}: {}", children.len(), error.kind()));
                break;
            }
        }
    }
    say(&format!("forked {}", children.len()));
    nap(Duration::from_secs(600));
}

/// Ignores what can be ignored, and leaves children in sessions of their own behind, which do the
/// same, `depth` deep.
fn stubborn(depth: u64) {
    use nix::sys::signal::SigSet;
    SigSet::all().thread_block().unwrap();
    if depth > 0 {
        let own = std::env::current_exe().unwrap();
        let deeper = (depth - 1).to_string();
        let child = Command::new(own).args(["role:stubborn", &deeper]).spawn().unwrap();
        // Nobody waits for it.
        std::mem::forget(child);
    }
    let _ = rustix::process::setsid();
    nap(Duration::from_secs(600));
}

/// Takes all it can get of the first CPU.
fn spin() {
    let mut first = rustix::thread::CpuSet::new();
    first.set(0);
    rustix::thread::sched_setaffinity(None, &first).unwrap();
    loop {
        std::hint::black_box(0);
    }
}

/// Writes so many MiB to a disk, past what caches it.
fn write_disk(path: &str, mib: u64) {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let mut disk = std::fs::File::options().write(true).custom_flags(flags).open(path).unwrap();
    // What goes past the cache begins at a page.
    let memory = vec![7u8; (1 << 20) + 4096];
    let from = memory.as_ptr().align_offset(4096);
    for _ in 0..mib {
        disk.write_all(&memory[from..from + (1 << 20)]).unwrap();
    }
}

/// Takes so many MiB of disk where it works, says so there, and waits to be killed.
fn take_disk(mib: u64, hidden: bool) {
    let block: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_ne_bytes).collect();
    let mut file = std::fs::File::create("more").unwrap();
    (0..mib).for_each(|_| file.write_all(&block).unwrap());
    file.sync_all().unwrap();
    if hidden {
        std::fs::remove_file("more").unwrap();
    }
    std::fs::File::create("taken").unwrap();
    nap(Duration::from_secs(600));
}

/// Writes so many MiB where it works, says how many it could and why not more, then three elsewhere, and
/// waits to be killed.
fn fill(mib: u64, elsewhere: &str) {
    let write = |path: &std::path::Path, mib: u64| {
        let mut file = std::fs::File::create(path).unwrap();
        let block = vec![7; 1 << 20];
        let written = (0..mib).try_for_each(|_| file.write_all(&block));
        written.and_then(|()| file.sync_all()).err().and_then(|error| error.raw_os_error())
    };
    let told = |why: Option<i32>, mib: u64| match why {
        None => format!("{mib} of {mib}"),
        Some(errno) => format!("less of {mib}: {errno}"),
    };
    // What is said later has room from now on.
    say("begins");
    say(&format!("wrote {}", told(write("filled".as_ref(), mib), mib)));
    let file = std::path::Path::new(elsewhere).join("volume");
    say(&format!("outside {}", told(write(&file, 3), 3)));
    nap(Duration::from_secs(600));
}

/// Makes so many empty files where it works, says how many there are and why not more, and waits to be
/// killed.
fn files(most: u64) {
    say("begins");
    let made = (0..most).map(|number| std::fs::File::create(format!("file{number}")));
    let stopped = made.enumerate().find_map(|(number, made)| Some((number, made.err()?)));
    match stopped {
        None => say(&format!("made all {most}")),
        Some((number, error)) => say(&format!("made {number}: {}", error.raw_os_error().unwrap())),
    }
    nap(Duration::from_secs(600));
}

/// Sends so many files of so many MiB to itself, which have no name and are open nowhere else then, says how
/// many and why not more, and waits to be killed.
fn in_flight(most: u64, mib: u64) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;
    say("begins");
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let block = vec![7; 1 << 20];
    let send = || -> std::io::Result<()> {
        let mut file = std::fs::File::create("flies")?;
        let written = (0..mib).try_for_each(|_| file.write_all(&block));
        written.and_then(|()| file.sync_all())?;
        std::fs::remove_file("flies")?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let file = [file.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&file)));
        sendmsg(&ours, &[std::io::IoSlice::new(b"x")], &mut control, SendFlags::DONTWAIT)?;
        Ok(())
    };
    match (0..most).find_map(|number| Some((number, send().err()?))) {
        None => say(&format!("sent all {most}")),
        Some((number, error)) => say(&format!("sent {number}: {}", error.raw_os_error().unwrap())),
    }
    nap(Duration::from_secs(600));
}

/// Is heard by itself, over the network.
fn loopback() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::net::TcpStream::connect(address).unwrap();
}

/// Takes so many ms of CPU time, and says when it is done.
fn burn(ms: u64) {
    let used = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
    };
    while used() < ms {
        std::hint::black_box(0);
    }
    say("burnt");
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
