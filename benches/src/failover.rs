//! How long a cluster of three masters is without offers when its leader is killed.
//!
//! Real processes: masters, agents, and frameworks of Mesos' v1 scheduler API, each a thread here
//! that subscribes again wherever the leader is. A trial begins with `kill -9` of the leader and
//! ends with a new offer at every framework; then the killed master is started again.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::set::{AGENTS, PATIENCE, Set};

const FRAMEWORKS: usize = 3;
/// How long a framework waits before it tries the next master.
const RETRY: Duration = Duration::from_millis(10);

/// Prints the times of so many trials, for one class of `--timing`.
pub fn print(binary: &Path, timing: &str, trials: u64) -> io::Result<()> {
    let mut set = Set::start(binary, AGENTS, &["--timing", timing])?;
    let (sender, offers) = channel();
    for number in 0..FRAMEWORKS {
        let (ports, sender) = (set.ports.clone(), sender.clone());
        std::thread::spawn(move || framework(number, &ports, &sender));
    }
    all_offered(&offers, Instant::now(), 0)?;
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for trial in 0..trials {
        let leader = set.settled()?;
        // Whatever was offered meanwhile is no news; and deaths come at any time of a beat.
        sleep(Duration::from_millis(200 + trial * 37 % 100));
        while offers.try_recv().is_ok() {}
        let killed = Instant::now();
        set.kill(leader)?;
        let times = all_offered(&offers, killed, set.ports[leader])?;
        first.push(times.0);
        last.push(times.1);
        set.begin(leader, false)?;
    }
    println!("leader killed -> new offer, --timing {timing}, {trials} trials, {AGENTS} agents");
    println!("{:24} {:>8} {:>8} {:>8}", "", "p50 ms", "p99 ms", "max ms");
    for (name, times) in [("at the first framework", first), ("at all frameworks", last)] {
        let [p50, p99, max] = percentiles(times);
        println!("{name:24} {p50:>8} {p99:>8} {max:>8}");
    }
    Ok(())
}

fn percentiles(mut times: Vec<Duration>) -> [u128; 3] {
    times.sort_unstable();
    let at = |part: usize| times.len().saturating_sub(1) * part / 100;
    [at(50), at(99), at(100)].map(|at| times.get(at).map_or(0, Duration::as_millis))
}

/// When the first and when the last framework was offered something after a moment, by another
/// master than that.
fn all_offered(
    offers: &Receiver<Offered>,
    since: Instant,
    by_another_than: u16,
) -> io::Result<(Duration, Duration)> {
    let mut seen = [None; FRAMEWORKS];
    while seen.iter().any(Option::is_none) {
        let late = |_| io::Error::other("no offer within 30 s");
        let (number, by, at) = offers.recv_timeout(PATIENCE).map_err(late)?;
        if at > since && by != by_another_than {
            seen[number].get_or_insert(at - since);
        }
    }
    let times = seen.iter().flatten();
    let least = times.clone().min().copied().unwrap_or_default();
    Ok((least, times.max().copied().unwrap_or_default()))
}

/// Which framework was offered something, at which port, and when.
type Offered = (usize, u16, Instant);

/// A framework that declines everything, for a moment each, for ever.
fn framework(number: usize, ports: &[u16], offers: &Sender<Offered>) {
    let mut id = None;
    let mut port = ports[0];
    for attempt in 0.. {
        match stream(number, port, &mut id, offers) {
            Ok(Some(leader)) => {
                port = leader;
                continue;
            }
            Ok(None) => return,
            Err(_) => port = ports[attempt % ports.len()],
        }
        sleep(RETRY);
    }
}

/// One stream of events to its end. The port of the leader, if it is another one; none: nobody
/// listens to this framework any more.
fn stream(
    number: usize,
    port: u16,
    id: &mut Option<String>,
    offers: &Sender<Offered>,
) -> io::Result<Option<u16>> {
    let known = id.as_ref().map(|id| format!("{{\"value\":\"{id}\"}}"));
    let within = known.as_ref().map_or(String::new(), |id| format!(",\"id\":{id}"));
    let beside = known.as_ref().map_or(String::new(), |id| format!("\"framework_id\":{id},"));
    let call = format!(
        "{{\"type\":\"SUBSCRIBE\",{beside}\"subscribe\":{{\"framework_info\":{{\"user\":\"root\",\
         \"name\":\"f{number}\",\"failover_timeout\":600{within}}}}}}}"
    );
    let mut stream = post(port, &call, None)?;
    let head = head(&mut stream)?;
    if head.starts_with("HTTP/1.1 307") {
        let to = head.split("\r\n").find_map(|line| line.strip_prefix("Location: //"));
        let to = to.and_then(|to| to.split('/').next()?.rsplit_once(':'));
        let to = to.and_then(|(_, port)| port.parse().ok());
        return to.map(Some).ok_or_else(|| io::Error::other("a redirection to nowhere"));
    }
    if !head.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other("no stream"));
    }
    let named = head.split("\r\n").find_map(|line| line.strip_prefix("Mesos-Stream-Id: "));
    let named = named.unwrap_or_default().to_owned();
    loop {
        let record = chunk(&mut stream)?;
        if let Some(framework) = between(&record, "\"framework_id\":{\"value\":\"", "\"")
            && record.contains("\"SUBSCRIBED\"")
        {
            *id = Some(framework.to_owned());
        }
        if record.contains("\"OFFERS\"") {
            if offers.send((number, port, Instant::now())).is_err() {
                return Ok(None);
            }
            decline(port, &named, id.as_deref().unwrap_or_default(), &record)?;
        }
    }
}

/// Gives everything back, to be offered to another one.
fn decline(port: u16, stream: &str, framework: &str, record: &str) -> io::Result<()> {
    let ids = record.split("\"id\":{\"value\":\"").skip(1);
    let ids: Vec<String> = ids
        .filter_map(|rest| rest.split('"').next().filter(|id| id.contains("-O")))
        .map(|id| format!("{{\"value\":\"{id}\"}}"))
        .collect();
    let call = format!(
        "{{\"type\":\"DECLINE\",\"framework_id\":{{\"value\":\"{framework}\"}},\"decline\":\
         {{\"offer_ids\":[{}],\"filters\":{{\"refuse_seconds\":0.2}}}}}}",
        ids.join(",")
    );
    head(&mut post(port, &call, Some(stream))?).map(drop)
}

fn post(port: u16, call: &str, stream: Option<&str>) -> io::Result<BufReader<TcpStream>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    let named = stream.map_or(String::new(), |id| format!("Mesos-Stream-Id: {id}\r\n"));
    write!(
        socket,
        "POST /api/v1/scheduler HTTP/1.1\r\nHost: it\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\n{named}Content-Length: {}\r\n\r\n{call}",
        call.len()
    )?;
    Ok(BufReader::new(socket))
}

fn head(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// One chunk of an answer: one record.
fn chunk(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let len = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
    let mut bytes = vec![0; len + 2];
    stream.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?.1.split(after).next()
}
