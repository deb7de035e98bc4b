//! How long it takes until every agent of a large cluster is registered again when the leader of three
//! masters is killed. The agents are emulated here, one socket each; the masters are real processes.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mesita_core::wire::FrameworkId;

use super::native::{Decliner, agent};
use super::{PATIENCE, STACK, many_descriptors, percentile};
use crate::set::Set;

/// Tasks of each agent.
const TASKS: u32 = 10;
/// Leaders that are killed.
const TRIALS: usize = 5;
/// How long agents wait before they try the next master, in ms: anything up to so long, as real ones do
/// (`--registration-backoff-factor`).
const BACKOFF: u32 = 1_000;
/// So many begin at once: whoever does not say soon who it is may be dropped for the next.
const AT_ONCE: u32 = 64;

/// Prints how long so many agents take.
pub fn print(binary: &Path, agents: u32) -> io::Result<()> {
    many_descriptors()?;
    let mut set = Set::start(binary, 0, &["--size", "large", "--agent-timeout", "1hrs"])?;
    let first = set.settled()?;
    let decliner = Decliner::subscribe(set.ports[first])?;
    let (sender, registered) = channel();
    for number in 0..agents {
        let (ports, of, sender) = (set.ports.clone(), decliner.id, sender.clone());
        let run = move || emulate(&ports, first, number, of, &sender);
        std::thread::Builder::new().stack_size(STACK).spawn(run)?;
        if number >= AT_ONCE {
            registered.recv_timeout(PATIENCE).map_err(io::Error::other)?;
        }
    }
    for _ in 0..agents.min(AT_ONCE) {
        registered.recv_timeout(PATIENCE).map_err(io::Error::other)?;
    }
    println!(
        "leader killed -> agents registered again: {agents} agents of {TASKS} tasks, of 3 masters"
    );
    println!("{:>8} {:>8} {:>8}", "p50 ms", "p99 ms", "max ms");
    for _ in 0..TRIALS {
        let leader = set.leader()?;
        sleep(Duration::from_secs(1));
        while registered.try_recv().is_ok() {}
        let killed = Instant::now();
        set.kill(leader)?;
        let times = all(&registered, agents, killed)?;
        let [p50, p99, max] = [500, 990, 1_000].map(|part| percentile(&times, part).as_millis());
        println!("{p50:>8} {p99:>8} {max:>8}");
        set.begin(leader, false)?;
    }
    Ok(())
}

/// When each agent was registered after a moment.
fn all(
    registered: &Receiver<(u32, Instant)>,
    agents: u32,
    since: Instant,
) -> io::Result<Vec<Duration>> {
    let mut times = vec![None; agents as usize];
    let mut missing = agents;
    while missing > 0 {
        let (number, at) = registered.recv_timeout(PATIENCE).map_err(io::Error::other)?;
        if at > since && times[number as usize].replace(at - since).is_none() {
            missing -= 1;
        }
    }
    Ok(times.into_iter().flatten().collect())
}

/// An agent that goes wherever the leader is, for ever.
fn emulate(
    ports: &[u16],
    first: usize,
    number: u32,
    of: FrameworkId,
    told: &Sender<(u32, Instant)>,
) {
    let mut port = ports[first];
    for session in 1.. {
        // Who counts may have given up.
        let registered = || {
            let _ = told.send((number, Instant::now()));
        };
        match agent(port, number, session, of, TASKS, registered) {
            Ok(Some(leader)) if leader != port => port = leader,
            _ => {
                port = ports[session as usize % ports.len()];
                let spread = number.wrapping_mul(7_919).wrapping_add(session.wrapping_mul(104_729));
                sleep(Duration::from_millis(u64::from(spread % BACKOFF)));
            }
        }
    }
}
