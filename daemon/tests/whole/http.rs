//! A client of HTTP that hides nothing: what is sent is what is written here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::PATIENCE;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(of, _)| of.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request with a body, if it is not empty.
pub(crate) fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut reader = open(port, method, path, headers, body);
    let (status, headers) = head(&mut reader);
    let mut answer = Answer { status, headers, body: Vec::new() };
    if answer.header("transfer-encoding") == Some("chunked") {
        while let Some(chunk) = chunk(&mut reader) {
            answer.body.extend_from_slice(&chunk);
        }
    } else {
        reader.read_to_end(&mut answer.body).unwrap();
    }
    answer
}

/// A POST of JSON.
pub(crate) fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let json = [("Content-Type", "application/json"), ("Accept", "application/json")];
    ask(port, "POST", path, &[&json, headers].concat(), body.to_string().as_bytes())
}

fn open(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(request.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    BufReader::new(stream)
}

fn head(reader: &mut BufReader<TcpStream>) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer but `{line}`"));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return (status, headers);
        };
        headers.push((name.to_owned(), value.to_owned()));
    }
}

/// The next chunk; none after the last, or when the connection broke.
fn chunk(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let len = usize::from_str_radix(line.trim_end(), 16).ok().filter(|len| *len > 0)?;
    let mut bytes = vec![0; len + 2];
    reader.read_exact(&mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

/// A request whose body is a stream of records, which goes on until it is ended.
pub(crate) struct Sending(TcpStream);

impl Sending {
    pub(crate) fn open(port: u16, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!("POST {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("Transfer-Encoding: chunked\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Self(stream)
    }

    pub(crate) fn record(&mut self, record: &[u8]) {
        let framed = [format!("{}\n", record.len()).as_bytes(), record].concat();
        let chunk = [format!("{:x}\r\n", framed.len()).as_bytes(), &framed, b"\r\n"].concat();
        self.0.write_all(&chunk).unwrap();
    }

    /// True when an answer is there before it is ended, as of what is refused.
    pub(crate) fn is_answered_within(&self, limit: Duration) -> bool {
        self.0.set_read_timeout(Some(limit)).unwrap();
        let is = self.0.peek(&mut [0]).is_ok();
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        is
    }

    /// Ends it; the answer.
    pub(crate) fn end(mut self) -> Answer {
        // Whoever answers before may be gone.
        let _ = self.0.write_all(b"0\r\n\r\n");
        let mut reader = BufReader::new(self.0);
        let (status, headers) = head(&mut reader);
        let mut body = Vec::new();
        let _ = reader.read_to_end(&mut body);
        Answer { status, headers, body }
    }
}

/// The next record, however its pieces come.
fn record_of(pending: &mut Vec<u8>, reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = pending.iter().position(|byte| *byte == b'\n') {
            let len: usize = std::str::from_utf8(&pending[..at]).unwrap().parse().unwrap();
            if pending.len() > at + len {
                let rest = pending.split_off(at + 1 + len);
                let record = pending.split_off(at + 1);
                *pending = rest;
                return Some(record);
            }
        }
        pending.extend(chunk(reader)?);
    }
}

/// A stream of records.
pub(crate) struct Records {
    reader: BufReader<TcpStream>,
    pub(crate) headers: Vec<(String, String)>,
    /// What is here of the next record, of a stream that a master passes on.
    pending: Option<Vec<u8>>,
    /// What came so far, for whoever waits in vain.
    heard: Vec<Value>,
}

impl Records {
    /// A request that is answered by one.
    pub(crate) fn open(port: u16, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut reader = open(port, "POST", path, headers, body);
        let (status, headers) = head(&mut reader);
        assert_eq!(status, 200);
        Self { reader, headers, pending: None, heard: Vec::new() }
    }

    /// The same by way of a master, who does not keep records together.
    pub(crate) fn passed_on(self) -> Self {
        Self { pending: Some(Vec::new()), ..self }
    }

    /// The next record, which is a chunk; none after the last.
    pub(crate) fn record(&mut self) -> Option<Vec<u8>> {
        if let Some(pending) = &mut self.pending {
            return record_of(pending, &mut self.reader);
        }
        let chunk = chunk(&mut self.reader)?;
        let at = chunk.iter().position(|byte| *byte == b'\n').unwrap();
        let len: usize = std::str::from_utf8(&chunk[..at]).unwrap().parse().unwrap();
        assert_eq!(chunk.len(), at + 1 + len, "one record a chunk");
        Some(chunk[at + 1..].to_vec())
    }

    /// The next event in JSON that is no heartbeat; none after the last.
    pub(crate) fn event(&mut self) -> Option<Value> {
        self.event_before(Instant::now() + 2 * PATIENCE)
    }

    /// Heartbeats are not waited with for ever.
    fn event_before(&mut self, deadline: Instant) -> Option<Value> {
        loop {
            let told = || self.heard.iter().map(|event| format!("{event}\n")).collect::<String>();
            assert!(Instant::now() < deadline, "in vain: an event after\n{}", told());
            let event: Value = serde_json::from_slice(&self.record()?).unwrap();
            if event["type"] != "HEARTBEAT" {
                self.heard.push(event.clone());
                return Some(event);
            }
        }
    }

    /// The next event of a type; those before it are passed over.
    pub(crate) fn until(&mut self, kind: &str) -> Value {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let event = self.event_before(deadline);
            let event = event.unwrap_or_else(|| panic!("the stream ended before {kind}"));
            assert!(event["type"] != "ERROR" || kind == "ERROR", "{event}");
            if event["type"] == kind {
                return event[kind.to_lowercase()].clone();
            }
        }
    }
}
