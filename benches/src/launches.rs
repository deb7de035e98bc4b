//! How fast commands run through a cluster, against the same commands started by hand.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;

/// How often each way is timed; the least and the middle are told.
const ROUNDS: usize = 15;

/// Prints times of single commands, and the rate of many at once.
pub fn print(binary: &Path, tasks: u64) -> io::Result<()> {
    let cluster = Cluster::start(binary)?;
    let by_hand = timed(|| Command::new("true"))?;
    let through = timed(|| {
        let mut command = cluster.command("run");
        command.args(["--resources", "cpus:0.01;mem:1", "--", "true"]);
        command
    })?;
    let alone = timed(|| {
        let mut command = Command::new(binary);
        command.args(["run", "--", "true"]).env_remove("MESITA_MASTER");
        command
    })?;
    println!("{:44} {:>9} {:>9}", "one command, to its collected end", "min µs", "p50 µs");
    println!("{:44} {:>9} {:>9}", "spawned by hand", by_hand.0.as_micros(), by_hand.1.as_micros());
    println!(
        "{:44} {:>9} {:>9}",
        "mesita run, with a master",
        through.0.as_micros(),
        through.1.as_micros()
    );
    println!("{:44} {:>9} {:>9}", "mesita run, embedded", alone.0.as_micros(), alone.1.as_micros());
    let started = Instant::now();
    for _ in 0..tasks {
        succeed(&mut Command::new("true"))?;
    }
    let hand = started.elapsed();
    let started = Instant::now();
    let mut many = cluster.command("run");
    many.args(["--resources", "cpus:0.01;mem:1", "--instances", &tasks.to_string(), "--", "true"]);
    succeed(&mut many)?;
    let ours = started.elapsed();
    println!("{tasks} one after the other by hand: {} tasks/s", rate(tasks, hand));
    println!("{tasks} through one framework:       {} tasks/s", rate(tasks, ours));
    Ok(())
}

fn rate(tasks: u64, time: Duration) -> u128 {
    u128::from(tasks) * 1_000_000 / time.as_micros().max(1)
}

fn timed(make: impl Fn() -> Command) -> io::Result<(Duration, Duration)> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let mut command = make();
        let started = Instant::now();
        succeed(&mut command)?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok((times[0], times[ROUNDS / 2]))
}

fn succeed(command: &mut Command) -> io::Result<()> {
    let output =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}
