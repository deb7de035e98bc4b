//! A byte stream of HTTP inside of a stream of frames: how a master reaches an agent's own answers
//! over the connection that the agent has made.
//!
//! Its first line says who asks, as the master has found out: `caller <rights> <name>`. Nobody else
//! opens such streams to an agent.

use std::fmt;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use mesita_core::doors::Rights;
use mesita_core::wire::svc::CloseReason;

use super::Pipe;
use super::streams::Handle;
use crate::doors::Caller;

/// Bytes that wait in each direction beside the windows of the stream.
pub(crate) const ROOM: usize = 16 * 1024;
/// The longest first line.
const LINE_MAX: usize = 1024;

/// Passes bytes on in both directions until both have ended, or the stream has.
pub(crate) async fn carry(handle: Handle, pipe: Pipe) {
    let Pipe { mut reading, mut writing, .. } = pipe;
    let inward = async {
        while let Ok(chunk) = handle.read().await {
            if writing.write_all(&chunk).await.is_err() {
                break;
            }
        }
        // What is read at the other end of the pipe ends with this.
        let _ = writing.close().await;
        std::future::pending::<()>().await;
    };
    let outward = async {
        let mut buffer = vec![0; ROOM];
        loop {
            match reading.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(len) => {
                    if handle.write(&buffer[..len]).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    futures_lite::future::or(outward, inward).await;
    handle.close(CloseReason::Done, "");
}

/// Whose requests follow, on its way.
pub(crate) struct Line<'c>(pub(crate) &'c Caller);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No name has a line's end in it, but nothing is lost by making sure.
        let name: String = self.0.name.chars().filter(|c| !c.is_control()).collect();
        let rights = &self.0.rights;
        let mut bits = 0;
        for (bit, right) in [(1, Rights::ANY_USER), (2, Rights::OPERATE)] {
            bits |= if rights.has(right) { bit } else { 0 };
        }
        writeln!(f, "caller {bits} {name}")
    }
}

/// Reads that line off a stream; none when it is none.
pub(crate) async fn caller(reading: &mut super::Reading) -> Option<Caller> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        reading.read_exact(&mut byte).await.ok()?;
        if byte[0] == b'\n' {
            break;
        }
        line.push(byte[0]);
        if line.len() > LINE_MAX {
            return None;
        }
    }
    let line = String::from_utf8(line).ok()?;
    let (bits, name) = line.strip_prefix("caller ")?.split_once(' ')?;
    let bits: u8 = bits.parse().ok()?;
    let mut rights = Rights::NONE;
    for (bit, right) in [(1, Rights::ANY_USER), (2, Rights::OPERATE)] {
        if bits & bit != 0 {
            rights = rights.and(right);
        }
    }
    Some(Caller::new(name, rights))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8]) -> Option<Caller> {
        let mut reading: crate::conn::Reading = Box::new(bytes);
        crate::alarm::block_on(caller(&mut reading))
    }

    #[test]
    fn who_asks_is_read_as_it_was_written() {
        let bob = Caller::new("local:bob", Rights::OPERATE);
        let line = Line(&bob).to_string();
        assert_eq!(line, "caller 2 local:bob\n");
        assert_eq!(read(b"caller 2 local:bob\nGET / HTTP/1.1"), Some(bob));
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(read(b"caller 9"), None);
        let sly = Caller::new("a\nb", Rights::NONE);
        assert_eq!(Line(&sly).to_string(), "caller 0 ab\n");
    }
}
