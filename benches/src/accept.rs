//! How long it takes from a framework's ACCEPT until it hears that its task runs, in the clear and by TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_rustls::pki_types::ServerName;
use futures_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// How long an event may take.
const EVENT: Duration = Duration::from_secs(20);

/// Both directions of a connection.
trait Both: Read + Write {}
impl<B: Read + Write> Both for B {}

type Stream = BufReader<Box<dyn Both>>;

/// How a framework comes to its master.
pub(crate) struct Way<'w> {
    port: u16,
    /// By TLS, where there is a configuration for it.
    config: Option<&'w Arc<ClientConfig>>,
    /// The header that shows who it is; empty: nobody.
    shown: String,
}

impl<'w> Way<'w> {
    /// The way of the operator of a cluster that `mesita init` made, of anybody to another.
    pub(crate) fn new(
        cluster: &Cluster,
        config: Option<&'w Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let mut shown = String::new();
        if let Some(path) = cluster.operator() {
            let credential: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
            let secret = credential["secret"].as_str().unwrap_or_default();
            shown = format!("Authorization: Bearer {secret}\r\n");
        }
        Ok(Self { port: cluster.ports()[0], config, shown })
    }

    fn connect(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(EVENT))?;
        let Some(config) = self.config else { return Ok(BufReader::new(Box::new(stream))) };
        let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
        let client = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(BufReader::new(Box::new(StreamOwned::new(client, stream))))
    }

    /// Makes a call on a connection; the `Mesos-Stream-Id` of its answer, if that has one.
    fn call(&self, connection: &mut Stream, more: &str, body: &Value) -> io::Result<String> {
        let body = body.to_string();
        let head = format!(
            "POST /api/v1/scheduler HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Accept: application/json\r\n{}{more}Content-Length: {}\r\n\r\n",
            self.shown,
            body.len()
        );
        let stream = connection.get_mut();
        stream.write_all((head + &body).as_bytes())?;
        stream.flush()?;
        answer(connection)
    }
}

/// Reads what answers a call, and all of a short body.
fn answer(connection: &mut Stream) -> io::Result<String> {
    let (mut status, mut stream_id, mut len) = (String::new(), String::new(), 0);
    connection.read_line(&mut status)?;
    loop {
        let mut line = String::new();
        connection.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("mesos-stream-id") {
            value.clone_into(&mut stream_id);
        }
        if name.eq_ignore_ascii_case("content-length") {
            len = value.parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; len];
    connection.read_exact(&mut body)?;
    if status.contains(" 200 ") || status.contains(" 202 ") {
        return Ok(stream_id);
    }
    Err(io::Error::other(format!("{status}{}", String::from_utf8_lossy(&body))))
}

/// A framework: the connection of its events, and one of the calls that it makes beside them.
struct Framework<'w> {
    way: &'w Way<'w>,
    events: Stream,
    calls: Stream,
    /// Bytes of records that have not come to their end.
    pending: Vec<u8>,
    stream_id: String,
    id: Value,
    /// What was offered last and is not accepted: an offer may come before what happened to the last one's task.
    offered: Option<Value>,
}

impl<'w> Framework<'w> {
    fn subscribe(way: &'w Way<'w>) -> io::Result<Self> {
        let root = rustix::process::geteuid().is_root();
        let user =
            if root { "nobody".to_owned() } else { std::env::var("USER").unwrap_or_default() };
        let info = json!({"user": user, "name": "bench", "roles": ["*"], "capabilities": [{"type": "MULTI_ROLE"}]});
        let mut events = way.connect()?;
        let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        let stream_id = way.call(&mut events, "", &call)?;
        let calls = way.connect()?;
        let (pending, id, offered) = (Vec::new(), Value::Null, None);
        let mut framework = Self { way, events, calls, pending, stream_id, id, offered };
        while framework.id.is_null() {
            framework.id = framework.event()?["subscribed"]["framework_id"].take();
        }
        Ok(framework)
    }

    fn call(&mut self, kind: &str, field: &str, body: &Value) -> io::Result<()> {
        let more = format!("Mesos-Stream-Id: {}\r\n", self.stream_id);
        let call = json!({"type": kind, "framework_id": self.id, field: body});
        self.way.call(&mut self.calls, &more, &call).map(drop)
    }

    /// The next event.
    fn event(&mut self) -> io::Result<Value> {
        loop {
            if let Some(at) = self.pending.iter().position(|byte| *byte == b'\n') {
                let len = String::from_utf8_lossy(&self.pending[..at]).parse::<usize>();
                let end = at + 1 + len.map_err(io::Error::other)?;
                if self.pending.len() >= end {
                    let rest = self.pending.split_off(end);
                    let record = std::mem::replace(&mut self.pending, rest).split_off(at + 1);
                    return Ok(serde_json::from_slice(&record)?);
                }
            }
            let mut line = String::new();
            self.events.read_line(&mut line)?;
            let len = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; len + 2];
            self.events.read_exact(&mut chunk)?;
            self.pending.extend_from_slice(&chunk[..len]);
        }
    }

    /// The next status of a task, acknowledged. Whatever is offered before it is kept.
    fn status(&mut self) -> io::Result<Option<Value>> {
        let mut event = self.event()?;
        if let Some(offer) = event["offers"]["offers"].as_array_mut().and_then(Vec::pop) {
            self.offered = Some(offer);
        }
        let status = event["update"]["status"].take();
        if !status["uuid"].is_null() {
            let parts = json!({"agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"]});
            self.call("ACKNOWLEDGE", "acknowledge", &parts)?;
        }
        Ok((!status.is_null()).then_some(status))
    }

    /// Launches one task; how long until it ran. It has ended before the next one begins.
    fn launch(&mut self, number: u64) -> io::Result<Duration> {
        let offer = loop {
            match self.offered.take() {
                Some(offer) => break offer,
                None => drop(self.status()?),
            }
        };
        let resource = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
        let task = json!({
            "name": "bench",
            "task_id": {"value": format!("bench-{number}")},
            "agent_id": offer["agent_id"],
            "command": {"value": "true"},
            "resources": [resource("cpus", 0.01), resource("mem", 1.0)],
        });
        let accept = json!({
            "offer_ids": [offer["id"]],
            "filters": {"refuse_seconds": 0.0},
            "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}],
        });
        let started = Instant::now();
        self.call("ACCEPT", "accept", &accept)?;
        let mut took = None;
        loop {
            let Some(status) = self.status()? else { continue };
            match status["state"].as_str().unwrap_or_default() {
                "TASK_STARTING" => {}
                "TASK_RUNNING" => took = took.or_else(|| Some(started.elapsed())),
                "TASK_FINISHED" => break,
                _ => return Err(io::Error::other(status.to_string())),
            }
        }
        took.ok_or_else(|| io::Error::other("a task that ended and never ran"))
    }
}

/// Times of so many tasks, one after the other.
pub(crate) fn times(way: &Way<'_>, tasks: u64) -> io::Result<Vec<Duration>> {
    let mut framework = Framework::subscribe(way)?;
    let times = (0..tasks).map(|number| framework.launch(number)).collect::<io::Result<_>>()?;
    framework.call("TEARDOWN", "teardown", &json!({}))?;
    Ok(times)
}
