//! What TLS costs: handshakes, tasks through a closed cluster against one in the clear, memory.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, ServerName};
use futures_rustls::rustls::client::Resumption;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::accept::{self, Way};
use crate::cluster::Cluster;
use crate::footprint::Footprint;

/// How often a command is timed in each cluster, in turns.
const ROUNDS: usize = 25;
/// Tasks of one framework, whose connection is made once.
const TASKS: u64 = 200;

/// Prints times of so many handshakes, and of the same work with TLS and without.
pub fn print(binary: &Path, handshakes: u64) -> io::Result<()> {
    let open = Cluster::start(binary)?;
    let closed = Cluster::closed(binary)?;
    let config = config(&closed.authority())?;
    // The first one finds nothing warm.
    handshake(&config, closed.ports()[0])?;
    let times: io::Result<Vec<_>> =
        (0..handshakes).map(|_| handshake(&config, closed.ports()[0])).collect();
    let mut times = times?;
    times.sort_unstable();
    let of = |part: usize| {
        let at = (times.len() * part / 100).min(times.len().saturating_sub(1));
        times.get(at).map_or(0, Duration::as_micros)
    };
    println!(
        "{handshakes} handshakes of TLS 1.3, one after the other: p50 {} µs, p99 {} µs",
        of(50),
        of(99)
    );
    let mut single = [Vec::new(), Vec::new()];
    let mut many = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (at, cluster) in [&open, &closed].into_iter().enumerate() {
            single[at].push(timed(cluster, 1)?);
            if round % 5 == 0 {
                many[at].push(timed(cluster, TASKS)?);
            }
        }
    }
    println!("{:44} {:>9} {:>9} {:>7}", "", "plain µs", "TLS µs", "ratio");
    tell("one command, its own connection, p50", 1, &mut single);
    tell(&format!("each of {TASKS} tasks of one framework, p50"), TASKS, &mut many);
    let ways = [Way::new(&open, None)?, Way::new(&closed, Some(&config))?];
    let mut running = [Vec::new(), Vec::new()];
    // In turns: what else the machine does meanwhile, it does to both.
    for _ in 0..ROUNDS {
        for (way, running) in ways.iter().zip(&mut running) {
            running.extend(accept::times(way, 8)?);
        }
    }
    tell("accept to RUNNING of one task, p50", 1, &mut running);
    println!("{:44} {:>9} {:>9}", "", "plain", "TLS");
    let (plain, secure) = (open.processes()?, closed.processes()?);
    for ((name, plain), (_, secure)) in plain.iter().zip(&secure) {
        let [plain, secure] = [Footprint::of(*plain)?, Footprint::of(*secure)?];
        println!("{:44} {:>9} {:>9}", format!("{name}: RSS KiB"), plain.rss_kib, secure.rss_kib);
        println!("{:44} {:>9} {:>9}", format!("{name}: anon KiB"), plain.anon_kib, secure.anon_kib);
    }
    Ok(())
}

/// A line of the same work in both clusters.
fn tell(what: &str, parts: u64, times: &mut [Vec<Duration>; 2]) {
    let [plain, secure] = times.each_mut().map(|times| {
        times.sort_unstable();
        let middle = times.get(times.len() / 2).map_or(0, Duration::as_micros);
        middle / u128::from(parts.max(1))
    });
    let ratio = secure * 100 / plain.max(1);
    println!("{what:44} {plain:>9} {secure:>9} {:>4}.{:02}", ratio / 100, ratio % 100);
}

/// How long so many tasks take through a cluster, from the command's start to its end.
fn timed(cluster: &Cluster, tasks: u64) -> io::Result<Duration> {
    let mut command = cluster.command("run");
    if rustix::process::geteuid().is_root() {
        command.args(["--user", "nobody"]);
    }
    command.args([
        "--resources",
        "cpus:0.01;mem:1",
        "--instances",
        &tasks.to_string(),
        "--",
        "true",
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let output = command.output()?;
    let took = started.elapsed();
    if output.status.success() {
        return Ok(took);
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// A connection and its handshake, as a client of the outside makes them.
fn handshake(config: &Arc<ClientConfig>, port: u16) -> io::Result<Duration> {
    let started = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
    let client = ClientConnection::new(Arc::clone(config), name);
    let mut client = client.map_err(io::Error::other)?;
    while client.is_handshaking() {
        client.complete_io(&mut stream)?;
    }
    Ok(started.elapsed())
}

fn config(authority: &Path) -> io::Result<Arc<ClientConfig>> {
    let bad = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let text = std::fs::read(authority)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| bad(&error))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// `mesita init` of a cluster on loopback.
pub(crate) fn init(binary: &Path, dir: &Path, port: u16) -> io::Result<()> {
    let mut command = Command::new(binary);
    command.args(["init", "--name", "bench", "--ip", "127.0.0.1", "--port", &port.to_string()]);
    let output = command.arg("--dir").arg(dir).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}
