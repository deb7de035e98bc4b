//! Who comes to a master that is none yet: told so, in a sentence, instead of being left to wait.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use mesita_core::wire::Head;
use mesita_core::wire::link::{Link, Parting};

use crate::conn::listen::is_text;
use crate::conn::outbox::Packet;

/// So many are told at a time: what else is to be done waits meanwhile.
const AT_ONCE: usize = 4;
/// How long each may take to say something, and to take the answer.
const MOMENT: Duration = Duration::from_millis(50);

/// The port, before anybody is served there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Early<'l>(&'l TcpListener);

impl<'l> Early<'l> {
    pub(crate) fn new(listener: &'l TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Tells those who have come.
    pub(crate) fn tell(&self, message: &str) {
        for _ in 0..AT_ONCE {
            let Ok((stream, _)) = self.0.accept() else { return };
            // Whoever does not listen is not told.
            let _ = answer(stream, message);
        }
    }
}

fn answer(mut stream: TcpStream, message: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(MOMENT))?;
    stream.set_write_timeout(Some(MOMENT))?;
    let mut said = [0; 4096];
    let len = stream.read(&mut said)?;
    let Some(first) = said[..len].first_chunk::<4>() else { return Ok(()) };
    if is_text(*first) {
        let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 1";
        let len = message.len() + 1;
        let rest = format!("Connection: close\r\nContent-Length: {len}\r\n\r\n{message}\n");
        stream.write_all(format!("{head}\r\n{rest}").as_bytes())
    } else {
        let bye = Link::Bye { reason: Parting::NoLeader, message };
        stream.write_all(&Packet::of(&Head::Link(bye)).into_parts().0)
    }
}
