//! What an idle cluster costs: memory, wake-ups, bytes written.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use crate::cluster::Cluster;

/// What the kernel says of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// Its part that is of no file, in KiB.
    pub anon_kib: u64,
    /// Proportional share of the resident memory, in KiB.
    pub pss_kib: u64,
    /// How often any of its threads gave up the processor by itself.
    pub wakeups: u64,
    /// Bytes it caused to be written to storage.
    pub written: u64,
}

impl Footprint {
    /// Of a process that is there.
    pub fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
        let mut wakeups = 0;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            wakeups += field(&status, "voluntary_ctxt_switches:");
        }
        Ok(Self {
            rss_kib: field(&status, "VmRSS:"),
            anon_kib: field(&status, "RssAnon:"),
            pss_kib: field(&rollup, "Pss:"),
            wakeups,
            written: field(&io, "write_bytes:"),
        })
    }
}

/// Prints the table of an idle cluster, watched for `seconds`.
pub fn print(binary: &Path, seconds: u64) -> io::Result<()> {
    println!("binary: {} bytes", fs::metadata(binary)?.len());
    let cluster = Cluster::start(binary)?;
    // What was begun at the start is over by then: files, first pings.
    sleep(Duration::from_secs(5));
    let since = SystemTime::now();
    let processes = cluster.processes()?;
    let before =
        processes.iter().map(|(_, pid)| Footprint::of(*pid)).collect::<io::Result<Vec<_>>>()?;
    sleep(Duration::from_secs(seconds));
    println!("idle for {seconds} s");
    println!(
        "{:8} {:>8} {:>8} {:>8} {:>12} {:>8}",
        "", "RSS KiB", "anon KiB", "PSS KiB", "wake-ups/s", "written"
    );
    for ((name, pid), before) in processes.iter().zip(&before) {
        let after = Footprint::of(*pid)?;
        // Thousandths, so that no rounding makes a bound hold.
        let milli = (after.wakeups - before.wakeups) * 1_000 / seconds.max(1);
        let written = after.written - before.written;
        println!(
            "{name:8} {:>8} {:>8} {:>8} {:>8}.{:03} {written:>8}",
            after.rss_kib,
            after.anon_kib,
            after.pss_kib,
            milli / 1_000,
            milli % 1_000
        );
    }
    println!("files changed meanwhile: {}", changed(cluster.dir(), since)?);
    for port in cluster.ports() {
        let answer = post(port, "/api/v1", r#"{"type":"GET_HEALTH"}"#)?;
        if !answer.contains("\"healthy\":true") {
            return Err(io::Error::other(answer));
        }
    }
    for (name, pid) in &processes {
        let after = Footprint::of(*pid)?;
        println!(
            "{name:8} {:>8} {:>8} {:>8}  after a JSON request",
            after.rss_kib, after.anon_kib, after.pss_kib
        );
    }
    Ok(())
}

/// What a daemon answers to a call of Mesos' API in JSON.
fn post(port: u16, path: &str, call: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{call}",
        call.len()
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// Files below a directory that were changed since.
pub(crate) fn changed(dir: &Path, since: SystemTime) -> io::Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            count += changed(&entry.path(), since)?;
        } else if metadata.modified()? > since {
            count += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_process_has_memory_and_wakes_when_it_slept() {
        let before = Footprint::of(std::process::id()).unwrap();
        sleep(Duration::from_millis(5));
        let after = Footprint::of(std::process::id()).unwrap();
        assert!(before.rss_kib > before.anon_kib && before.anon_kib > 0 && before.pss_kib > 0);
        assert!(after.wakeups > before.wakeups);
    }
}
