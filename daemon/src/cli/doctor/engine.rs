//! A Docker engine: whether there is one here, and whether this user may ask it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Finding, State};
use crate::flags::docker::Engine;

const OF: &str = "docker";
/// How long it may say nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// Bytes of what it says of itself.
const ANSWER_MAX: u64 = 1 << 20;
/// The oldest protocol that has all that is asked: `Engine API` of Docker 18.09.
const API_MIN: (u32, u32) = (1, 39);

pub(super) fn examined(flags: &Engine) -> Finding {
    let socket = &flags.docker_socket;
    let shown = socket.display();
    let wanted = flags.docker();
    // Nobody asked for it: whatever it is keeps no agent from anything.
    let state = |state| if wanted { state } else { State::Skipped };
    match version(socket) {
        Ok((name, api)) if api < API_MIN => {
            let (major, minor) = API_MIN;
            let sentence = format!(
                "the engine at {shown}, {name}, is too old; Docker 18.09 or newer speaks {major}.{minor}"
            );
            Finding::new(OF, state(State::Off), sentence)
        }
        Ok((name, _)) if wanted => {
            Finding::on(OF, format!("the engine at {shown} answers, {name}"))
        }
        Ok((name, _)) => {
            let sentence = format!(
                "the engine at {shown} answers, {name}, and no task is given to it; \
                 --containerizers=docker,mesos does that"
            );
            Finding::new(OF, State::Skipped, sentence)
        }
        Err(error) => Finding::new(OF, state(State::Off), missing(socket, &error)),
    }
}

/// Why nobody answers, and what to do.
fn missing(socket: &Path, error: &io::Error) -> String {
    let (shown, kind) = (socket.display(), error.kind());
    if kind == ErrorKind::NotFound {
        format!("no engine is at {shown}; `systemctl start docker`, or --docker-socket where it is")
    } else if kind == ErrorKind::PermissionDenied {
        let uid = rustix::process::geteuid().as_raw();
        format!(
            "user {uid} may not use {shown}; run as root, or put the user into the socket's group: who may \
             use it is as good as root"
        )
    } else if kind == ErrorKind::ConnectionRefused {
        format!("nobody listens at {shown}; `systemctl restart docker`")
    } else if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&kind) {
        format!("the engine at {shown} does not answer; `systemctl restart docker`")
    } else {
        format!("{shown}: {error}; --docker-socket is that of a Docker engine")
    }
}

/// What an engine is called, and the newest protocol that it speaks.
fn version(socket: &Path) -> io::Result<(String, (u32, u32))> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    // By the old version of HTTP the connection ends with the answer.
    stream.write_all(b"GET /version HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = body.and_then(|head| answer.get(head + 4..)).unwrap_or_default();
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    let api = told["ApiVersion"].as_str().and_then(|text| text.split_once('.'));
    let api = api.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let api = api.ok_or_else(|| io::Error::other("what answers there is no Docker engine"))?;
    let version = told["Version"].as_str().unwrap_or("of an unknown version");
    Ok((format!("version {}", version.escape_debug()), api))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_told_with_its_version_and_anybody_else_by_what_it_is_not() {
        let path = std::env::temp_dir().join(format!("mesita-engine-{}", std::process::id()));
        assert!(
            missing(&path, &version(&path).unwrap_err()).contains("; `systemctl start docker`")
        );
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let answers = std::thread::spawn(move || {
            for body in [r#"{"Version": "20.10.5", "ApiVersion": "1.41"}"#, "hello"] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]);
                stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes()).unwrap();
            }
        });
        assert_eq!(version(&path).unwrap(), ("version 20.10.5".to_owned(), (1, 41)));
        assert!(missing(&path, &version(&path).unwrap_err()).contains("no Docker engine"));
        answers.join().unwrap();
        assert!(missing(&path, &version(&path).unwrap_err()).contains("nobody listens"));
        std::fs::remove_file(&path).unwrap();
        let denied = missing(&path, &ErrorKind::PermissionDenied.into());
        assert!(denied.contains("may not use") && denied.contains("; run as root"), "{denied}");
    }
}
