//! `mesita events`: what changes on a cluster, as lines. Mesos' operator stream, read as any client
//! of it reads it.

use std::io::{self, Write};
use std::process::ExitCode;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, LOCATION};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use smol_hyper::rt::FuturesIo;

use super::{Failure, NO_MASTER, find};
use crate::access::Credential;
use crate::alarm;
use crate::flags::Events;

/// Bytes of one record that are taken.
const RECORD_MAX: usize = 256 * 1024 * 1024;

pub(super) fn main(flags: &Events) -> Result<ExitCode, Failure> {
    super::log_warnings();
    alarm::block_on(follow(flags))
}

/// Redirections that are followed in a row.
const REDIRECTS_MAX: u32 = 8;

async fn follow(flags: &Events) -> Result<ExitCode, Failure> {
    let mut first = None;
    let credential = super::credential(flags.at.credential.as_deref())?;
    for address in find::addresses(flags.at.master.as_deref()) {
        let mut address = address;
        for _ in 0..REDIRECTS_MAX {
            match follow_at(flags, &address, credential.as_deref()).await {
                Ok(Told::Elsewhere(leader)) => address = leader,
                Ok(Told::Ended(status)) => return Ok(status),
                Err(failure) => {
                    first.get_or_insert(failure);
                    break;
                }
            }
        }
    }
    Err(first.unwrap_or_else(|| Failure::new(NO_MASTER, "every master names another one")))
}

/// What came of a request.
enum Told {
    /// The leader is there.
    Elsewhere(String),
    /// Nobody reads any more.
    Ended(ExitCode),
}

async fn follow_at(
    flags: &Events,
    address: &str,
    credential: Option<&Credential>,
) -> Result<Told, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(NO_MASTER, format!("no master at {address}: {why}"))
    };
    let stream = smol::net::TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(FuturesIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let mut request = Request::builder().method(Method::POST);
    if let Some(credential) = credential {
        request = request.header(AUTHORIZATION, credential.basic());
    }
    let request = request
        .uri("/api/v1")
        .header("Host", address)
        .header("Content-Type", "application/json")
        .header("Accept", "application/json")
        .body(Full::new(Bytes::from_static(b"{\"type\":\"SUBSCRIBE\"}")))
        .map_err(Failure::plain)?;
    let reading = async {
        let mut answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        if answer.status() == StatusCode::TEMPORARY_REDIRECT {
            let location = answer.headers().get(LOCATION).and_then(|at| at.to_str().ok());
            let host = location.and_then(|at| at.strip_prefix("//")?.split('/').next());
            let host = host.ok_or_else(|| Failure::plain("the master names no leader"))?;
            return Ok(Told::Elsewhere(host.to_owned()));
        }
        if !answer.status().is_success() {
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(Failure::plain)?.to_bytes();
            let why = String::from_utf8_lossy(&body).trim().to_owned();
            return Err(Failure::plain(if why.is_empty() { status.to_string() } else { why }));
        }
        let mut records = Records::default();
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|error| failed(&error))?;
            let Some(bytes) = frame.data_ref() else { continue };
            for record in records.take(bytes).map_err(Failure::plain)? {
                if !tell(&record, flags)? {
                    return Ok(Told::Ended(ExitCode::SUCCESS));
                }
            }
        }
        Err(Failure::plain("the master ended the stream"))
    };
    let broken = async {
        let ended = connection.await;
        // What it still has to say is read by then.
        alarm::after(100_000).await;
        Err(match ended {
            Ok(()) => Failure::plain("the master ended the stream"),
            Err(error) => failed(&error),
        })
    };
    futures_lite::future::or(reading, broken).await
}

/// Prints an event; false when nobody reads any more.
fn tell(record: &[u8], flags: &Events) -> Result<bool, Failure> {
    let event: Value = serde_json::from_slice(record).map_err(Failure::plain)?;
    let line = if flags.json { Some(event.to_string()) } else { line(&event) };
    let about = flags.about.as_deref();
    let Some(line) = line.filter(|line| about.is_none_or(|about| line.contains(about))) else {
        return Ok(true);
    };
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::plain(error)),
    }
}

/// Records out of the pieces that they come in.
#[derive(Default)]
struct Records {
    pending: Vec<u8>,
}

impl Records {
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
        self.pending.extend_from_slice(bytes);
        let mut records = Vec::new();
        while let Some(at) = self.pending.iter().position(|byte| *byte == b'\n') {
            let len = std::str::from_utf8(&self.pending[..at]).ok();
            let len: usize =
                len.and_then(|text| text.parse().ok()).ok_or("no stream of records")?;
            if len > RECORD_MAX {
                return Err("a record larger than 256 MiB");
            }
            if self.pending.len() < at + 1 + len {
                break;
            }
            let rest = self.pending.split_off(at + 1 + len);
            records.push(self.pending.split_off(at + 1));
            self.pending = rest;
        }
        Ok(records)
    }
}

/// An event as a line for people; none for what is no news.
fn line(event: &Value) -> Option<String> {
    let kind = event["type"].as_str().unwrap_or_default();
    let part = &event[kind.to_lowercase()];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let short = |id: &Value| {
        let id = id["value"].as_str().unwrap_or_default();
        id.rsplit('-').next().unwrap_or_default().to_owned()
    };
    let now = crate::clock::wall_us();
    Some(match kind {
        "SUBSCRIBED" => {
            let state = &part["get_state"];
            let count = |of: &str, list: &str| state[of][list].as_array().map_or(0, Vec::len);
            format!(
                "{}  {} agents, {} frameworks, {} tasks",
                clock_time(now),
                count("get_agents", "agents"),
                count("get_frameworks", "frameworks"),
                count("get_tasks", "tasks")
            )
        }
        "TASK_ADDED" => {
            let task = &part["task"];
            format!(
                "{}  STAGING  {} on {}",
                clock_time(now),
                text(&task["name"]),
                short(&task["agent_id"])
            )
        }
        "TASK_UPDATED" => {
            let status = &part["status"];
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A time of day.
            let us = (status["timestamp"].as_f64().unwrap_or(0.0) * 1e6) as u64;
            let state = text(&status["state"]);
            let name = text(&status["task_id"]["value"]);
            let agent = short(&status["agent_id"]);
            let state = state.strip_prefix("TASK_").unwrap_or(&state);
            let mut line = format!("{}  {state}  {name} on {agent}", clock_time(us));
            for part in [&status["message"], &status["reason"]] {
                let part = text(part);
                if !part.is_empty() {
                    line.push_str("  ");
                    line.push_str(&part);
                }
            }
            line
        }
        "AGENT_ADDED" => {
            let info = &part["agent"]["agent_info"];
            format!(
                "{}  agent {} is here: {}",
                clock_time(now),
                short(&info["id"]),
                text(&info["hostname"])
            )
        }
        "AGENT_REMOVED" => {
            format!("{}  agent {} is gone", clock_time(now), short(&part["agent_id"]))
        }
        "FRAMEWORK_ADDED" => {
            let info = &part["framework"]["framework_info"];
            format!(
                "{}  framework {} is here: {}",
                clock_time(now),
                short(&info["id"]),
                text(&info["name"])
            )
        }
        "FRAMEWORK_REMOVED" => {
            let info = &part["framework_info"];
            format!(
                "{}  framework {} is gone: {}",
                clock_time(now),
                short(&info["id"]),
                text(&info["name"])
            )
        }
        _ => return None,
    })
}

/// The time of day in UTC.
fn clock_time(us: u64) -> String {
    let seconds = us / 1_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_are_put_together_however_they_are_cut() {
        let whole = b"2\n{}14\n{\"type\":\"a\"} \n3\n[1]";
        for cut in 1..whole.len() {
            let mut records = Records::default();
            let mut all = records.take(&whole[..cut]).unwrap();
            all.extend(records.take(&whole[cut..]).unwrap());
            assert_eq!(all, [&b"{}"[..], b"{\"type\":\"a\"} \n", b"[1]"], "{cut}");
        }
        assert!(Records::default().take(b"x\n").is_err());
    }

    #[test]
    fn a_line_tells_what_became_of_a_task() {
        let event = json!({"type": "TASK_UPDATED", "task_updated": {"status": {
            "task_id": {"value": "it"}, "state": "TASK_FAILED", "timestamp": 3_661.5,
            "agent_id": {"value": "c-1-S3"}, "message": "Command exited with status 3"}}});
        let told = "01:01:01  FAILED  it on S3  Command exited with status 3";
        assert_eq!(line(&event).unwrap(), told);
        assert_eq!(line(&json!({"type": "HEARTBEAT"})), None);
    }
}
