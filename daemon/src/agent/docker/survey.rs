//! What an engine has of this agent when that starts, asked before the first thread: tasks that run
//! on are told apart from those that never began.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::engine::quoted;
use super::{AGENT_LABEL, CONTAINER_LABEL};
use mesita_core::wire::ContainerId;

/// How long the engine may say nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// Bytes of what it says: some thousands of containers.
const ANSWER_MAX: u64 = 32 << 20;

/// A container of this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Survivor {
    pub(super) name: String,
    pub(super) id: Option<ContainerId>,
    pub(super) state: Found,
}

/// Where it is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It was made, and never began.
    Created,
    Runs,
    Ended,
}

/// Why nothing is known.
#[derive(Debug)]
pub(crate) enum Unknown {
    /// There is no engine.
    Missing,
    /// It does not answer.
    Silent(String),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is none"),
            Self::Silent(why) => f.write_str(why),
        }
    }
}

/// Asks for the containers of the agent with this name. Blocks for some seconds at the most.
pub(super) fn survey(socket: &Path, agent: &str) -> Result<Vec<Survivor>, Unknown> {
    let stream = UnixStream::connect(socket).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Unknown::Missing
        } else {
            Unknown::Silent(error.to_string())
        }
    })?;
    let silent = |error: io::Error| Unknown::Silent(error.to_string());
    let answer = ask(stream, agent).map_err(silent)?;
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = body.and_then(|head| answer.get(head + 4..)).unwrap_or_default();
    let rows: Vec<Value> = serde_json::from_slice(body)
        .map_err(|_| Unknown::Silent("it is no Docker engine".to_owned()))?;
    Ok(rows.iter().map(survivor).collect())
}

fn ask(mut stream: UnixStream, agent: &str) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let filter = quoted(&format!("{{\"label\":[\"{AGENT_LABEL}={agent}\"]}}"));
    // By the old version of HTTP, so that the answer comes in one piece and the connection ends.
    write!(stream, "GET /containers/json?all=1&filters={filter} HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

fn survivor(row: &Value) -> Survivor {
    let name = row["Names"][0].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
    let id = row["Labels"][CONTAINER_LABEL].as_str().and_then(ContainerId::parse);
    let state = match row["State"].as_str() {
        Some("created") => Found::Created,
        Some("exited" | "dead" | "removing") => Found::Ended,
        _ => Found::Runs,
    };
    Survivor { name, id, state }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_is_known_by_its_label_and_state() {
        let row = json!({
            "Names": ["/mesita-ab.3-7"],
            "Labels": {AGENT_LABEL: "ab", CONTAINER_LABEL: "3-7"},
            "State": "paused",
        });
        let id = Some(ContainerId { incarnation: 3, counter: 7 });
        let wanted = Survivor { name: "mesita-ab.3-7".to_owned(), id, state: Found::Runs };
        assert_eq!(survivor(&row), wanted);
        assert_eq!(survivor(&json!({"State": "exited"})).state, Found::Ended);
        assert_eq!(survivor(&json!({"State": "created"})).state, Found::Created);
    }

    #[test]
    fn without_a_socket_there_is_no_engine_and_with_another_one_it_is_silent() {
        let path = std::env::temp_dir().join(format!("mesita-survey-{}", std::process::id()));
        assert!(matches!(survey(&path, "ab"), Err(Unknown::Missing)));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let answers = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").unwrap();
        });
        assert!(matches!(survey(&path, "ab"), Err(Unknown::Silent(_))));
        answers.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
