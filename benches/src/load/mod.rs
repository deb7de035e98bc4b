//! What readers cost who decides: 1,000 streams of schedulers, and 20 readers of `/state` beside a
//! framework that declines whatever is offered, in a cluster of 1,000 agents with 20,000 tasks. The
//! agents are emulated here, one socket each; the master is a real process.

mod native;
pub mod rejoin;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::cluster::{free_ports, get};
use crate::footprint::Footprint;
use native::{Decliner, agent};

const STREAMS: u64 = 1_000;
const AGENTS: u32 = 1_000;
const TASKS_PER_AGENT: u32 = 20;
const READERS: u64 = 20;
/// How long the cluster may take to come together.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of a thread's stack here: there is one for each agent.
const STACK: usize = 256 * 1024;

/// A master on its own, ended with this value.
struct Master {
    child: Child,
    port: u16,
    dir: std::path::PathBuf,
}

impl Master {
    fn start(binary: &Path) -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("mesita-benches-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let port = free_ports(1)?[0];
        let child = Command::new(binary)
            .args(["master", "--port", &port.to_string(), "--size", "large"])
            // Whoever is emulated here says no word by itself.
            .args(["--agent-timeout", "1hrs", "--min-reoffer", "1ms", "--work-dir"])
            .arg(dir.join("master"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("master.log"))?)
            .spawn()?;
        let master = Self { child, port, dir };
        let there = || get(port, "/health").is_ok_and(|text| text.contains("200"));
        wait("the master", there)?;
        Ok(master)
    }

    fn footprint(&self) -> io::Result<Footprint> {
        Footprint::of(self.child.id())
    }

    /// The most memory that it had since [`Master::forget_peak`], in KiB.
    fn peak_kib(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let word = line.and_then(|rest| rest.split_whitespace().next());
        Ok(word.and_then(|word| word.parse().ok()).unwrap_or(0))
    }

    fn forget_peak(&self) -> io::Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")
    }

    /// A number of `/metrics/snapshot`.
    fn metric(&self, name: &str) -> io::Result<f64> {
        let text = get(self.port, "/metrics/snapshot")?;
        let found = text.split_once(&format!("\"{name}\":"));
        let digits = found.and_then(|(_, rest)| rest.split([',', '}']).next());
        let number = digits.and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| io::Error::other(format!("there is no {name}")))
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn wait(what: &str, mut there: impl FnMut() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !there() {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("{what} is not there after 120 s")));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Prints all of it; each part is measured for so many seconds.
pub fn print(binary: &Path, seconds: u64) -> io::Result<()> {
    many_descriptors()?;
    let streams = Master::start(binary)?;
    print_streams(&streams)?;
    drop(streams);
    let master = Master::start(binary)?;
    let mut decliner = Decliner::subscribe(master.port)?;
    gather(&master, &decliner)?;
    let tasks = u64::from(AGENTS * TASKS_PER_AGENT);
    println!("{AGENTS} agents, {tasks} tasks: {} KiB", master.footprint()?.rss_kib);
    let window = Duration::from_secs(seconds);
    println!("{:28} {:>9} {:>9} {:>9} {:>9}", "", "p50 us", "p99 us", "max us", "a second");
    let alone = measure(&master, &mut decliner, window, "without readers")?;
    let (times, bytes) = read_state(master.port, Instant::now() + window)?;
    shown("/state, one reader", &times, window);
    let per_task = percentile(&times, 500).as_nanos() / u128::from(tasks);
    println!("/state: {bytes} bytes, {per_task} ns a task");
    let (before, together) = (master.footprint()?.rss_kib, beside(&master, &mut decliner, window)?);
    let peak = master.peak_kib()?;
    println!("memory of a query: {} KiB", peak.saturating_sub(before) / READERS);
    for (name, part) in [("p50", 0), ("p99", 1)] {
        let milli = together[part].as_nanos() * 1_000 / alone[part].as_nanos().max(1);
        println!(
            "allocation with readers / without, {name}: {}.{:03}",
            milli / 1_000,
            milli % 1_000
        );
    }
    Ok(())
}

/// A descriptor for each end of each connection.
fn many_descriptors() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// What streams cost that nobody is offered anything on.
fn print_streams(master: &Master) -> io::Result<()> {
    let call = r#"{"type":"SUBSCRIBE","subscribe":{"suppressed_roles":["*"],"framework_info":
        {"user":"root","name":"stream","roles":["*"],"failover_timeout":60,
         "capabilities":[{"type":"MULTI_ROLE"}]}}}"#;
    let open = || -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", master.port))?;
        write!(
            stream,
            "POST /api/v1/scheduler HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{call}",
            call.len()
        )?;
        let mut first = [0; 15];
        stream.read_exact(&mut first)?;
        let answer = String::from_utf8_lossy(&first).into_owned();
        if answer == "HTTP/1.1 200 OK" { Ok(stream) } else { Err(io::Error::other(answer)) }
    };
    let first = open()?;
    let before = master.footprint()?.rss_kib;
    let began = Instant::now();
    let open = (1..STREAMS).map(|_| open()).collect::<io::Result<Vec<_>>>()?;
    let took = began.elapsed();
    let kib = master.footprint()?.rss_kib.saturating_sub(before);
    println!("{STREAMS} streams in {} ms, {} bytes each", took.as_millis(), kib * 1_024 / STREAMS);
    drop((first, open));
    Ok(())
}

/// Has all agents register.
fn gather(master: &Master, decliner: &Decliner) -> io::Result<()> {
    let (sender, ready) = channel();
    for number in 0..AGENTS {
        let (port, of, sender) = (master.port, decliner.id, sender.clone());
        let run = move || {
            // Who counts may have given up.
            let told = || {
                let _ = sender.send(());
            };
            if let Err(error) = agent(port, number, 1, of, TASKS_PER_AGENT, told)
                && error.kind() != io::ErrorKind::UnexpectedEof
            {
                eprintln!("agent {number}: {error}");
            }
        };
        std::thread::Builder::new().stack_size(STACK).spawn(run)?;
        // A few at a time: whoever does not say at once who it is may be dropped for the next.
        if number >= 64 {
            ready.recv_timeout(PATIENCE).map_err(io::Error::other)?;
        }
    }
    for _ in 0..AGENTS.min(64) {
        ready.recv_timeout(PATIENCE).map_err(io::Error::other)?;
    }
    let tasks = f64::from(AGENTS * TASKS_PER_AGENT);
    let all = || {
        let running = master.metric("master/tasks_running");
        let active = master.metric("master/slaves_active");
        running.is_ok_and(|count| count >= tasks)
            && active.is_ok_and(|count| count >= f64::from(AGENTS))
    };
    wait("the cluster", all)
}

/// Declines for a while, and prints how offers come; p50 and p99 of the master's own time for each
/// allocation.
fn measure(
    master: &Master,
    decliner: &mut Decliner,
    window: Duration,
    name: &str,
) -> io::Result<[Duration; 2]> {
    let (waits, offered) = decliner.decline_until(Instant::now() + window)?;
    let part = |part: &str| -> io::Result<Duration> {
        let ms = master.metric(&format!("allocator/mesos/allocation_run_ms/{part}"))?;
        Ok(Duration::from_secs_f64(ms / 1_000.0))
    };
    let (p50, p99, max) = (part("p50")?, part("p99")?, part("max")?);
    let us = |time: Duration| time.as_micros();
    println!(
        "{:28} {:>9} {:>9} {:>9} {:>9}",
        format!("allocation {name}"),
        us(p50),
        us(p99),
        us(max),
        offered / window.as_secs().max(1)
    );
    shown(&format!("offers {name}"), &waits, window);
    Ok([p50, p99])
}

/// The same beside all readers, whose own times are printed, too.
fn beside(master: &Master, decliner: &mut Decliner, window: Duration) -> io::Result<[Duration; 2]> {
    master.forget_peak()?;
    let (times, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (port, times, over) = (master.port, Arc::clone(&times), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let Ok((read, _)) = read_state(port, Instant::now()) else { return };
                    if let Ok(mut times) = times.lock() {
                        times.extend(read);
                    }
                }
            })
        })
        .collect();
    let measured = measure(master, decliner, window, "beside 20 readers");
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().map_err(|_| io::Error::other("a reader ended"))?;
    }
    if let Ok(times) = times.lock() {
        shown("/state, each of 20 readers", &times, window);
    }
    measured
}

/// Reads `/state`, once and then again until a moment; how long each took, and its bytes.
fn read_state(port: u16, end: Instant) -> io::Result<(Vec<Duration>, u64)> {
    let mut times = Vec::new();
    loop {
        let began = Instant::now();
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        write!(stream, "GET /state HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let bytes = io::copy(&mut stream, &mut io::sink())?;
        times.push(began.elapsed());
        if Instant::now() >= end {
            return Ok((times, bytes));
        }
    }
}

fn percentile(times: &[Duration], milli: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = sorted.len().saturating_sub(1) * milli / 1_000;
    sorted.get(at).copied().unwrap_or_default()
}

fn shown(name: &str, times: &[Duration], window: Duration) {
    let [p50, p99, max] = [500, 990, 1_000].map(|part| percentile(times, part).as_micros());
    let rate = times.len() as u64 / window.as_secs().max(1);
    println!("{name:28} {p50:>9} {p99:>9} {max:>9} {rate:>9}");
}
