//! What a cluster of three masters and ten agents writes and sends while nothing happens.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use crate::cluster::{get, keepers};
use crate::footprint::{Footprint, changed};
use crate::set::{AGENTS, MASTERS, Set};

/// Prints what it was in so many seconds.
pub fn print(binary: &Path, seconds: u64) -> io::Result<()> {
    let set = Set::start(binary, AGENTS, &["--timing", "default"])?;
    // What was begun at the start is over by then: files, first pings.
    sleep(Duration::from_secs(10));
    let since = SystemTime::now();
    let kinds =
        [("masters", set.masters()), ("agents", set.agents()), ("keepers", keepers(set.dir())?)];
    let written = |pids: &[u32]| -> io::Result<u64> {
        pids.iter().map(|pid| Footprint::of(*pid).map(|one| one.written)).sum()
    };
    let before = kinds.iter().map(|(_, pids)| written(pids)).collect::<io::Result<Vec<_>>>()?;
    let (streams, datagrams) = (sent(&set.ports)?, datagrams(&set.ports)?);
    sleep(Duration::from_secs(seconds));
    println!("{MASTERS} masters, {AGENTS} agents, idle for {seconds} s");
    for ((kind, pids), before) in kinds.iter().zip(before) {
        println!("bytes written by all {kind}: {}", written(pids)? - before);
    }
    println!("files changed meanwhile: {}", changed(set.dir(), since)?);
    let later = sent(&set.ports)?;
    for (name, at) in [("by each agent", 0), ("to each agent", 1)] {
        let bytes: u64 = later
            .iter()
            .map(|(ends, sent)| sent[at].saturating_sub(streams.get(ends).map_or(0, |one| one[at])))
            .sum();
        let hourly = bytes * 3_600 / seconds.max(1) / AGENTS as u64;
        println!("bytes sent {name} in an hour: {hourly}, above TCP");
    }
    let each = (self::datagrams(&set.ports)? - datagrams) / MASTERS as u64;
    println!("datagrams sent by each master in a second: {}", each / seconds.max(1));
    Ok(())
}

/// What agents have sent to masters and masters to agents, by the connection, as the kernel counts.
fn sent(masters: &[u16]) -> io::Result<BTreeMap<String, [u64; 2]>> {
    let said = Command::new("ss").args(["-tinOH", "state", "established"]).output()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let mut all = BTreeMap::new();
    let is_master = |end: &str| {
        let port = end.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.is_some_and(|port: u16| masters.contains(&port))
    };
    for line in text.lines() {
        let mut words = line.split_whitespace().skip(2);
        let (Some(local), Some(peer)) = (words.next(), words.next()) else { continue };
        let bytes = words.find_map(|word| word.strip_prefix("bytes_sent:")?.parse().ok());
        let bytes: u64 = bytes.unwrap_or(0);
        // Masters speak with each other by datagrams alone.
        match (is_master(local), is_master(peer)) {
            (false, true) => all.entry(format!("{local} {peer}")).or_insert([0; 2])[0] = bytes,
            (true, false) => all.entry(format!("{peer} {local}")).or_insert([0; 2])[1] = bytes,
            _ => {}
        }
    }
    Ok(all)
}

/// Datagrams that all masters have sent.
fn datagrams(masters: &[u16]) -> io::Result<u64> {
    let of = |port: &u16| -> io::Result<u64> {
        let text = get(*port, "/metrics")?;
        let line = text.lines().find(|line| line.starts_with("mesita_master_gossip_sent_total "));
        let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        count.ok_or_else(|| io::Error::other("a master that counts no datagrams"))
    };
    masters.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_has_sent_is_told_by_the_kernel() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _other = listener.accept().unwrap();
        io::Write::write_all(&mut stream, &[1; 321]).unwrap();
        match sent(&[port]) {
            Ok(all) => assert_eq!(all.into_values().collect::<Vec<_>>(), [[321, 0]]),
            Err(error) => println!("SKIPPED: ss: {error}"),
        }
    }
}
