//! A connection to the keeper, from its side.

use std::os::fd::OwnedFd;

use mesita_core::wire::ContainerId;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::protocol::{Decoder, Malformed, Reply, Request, encode};

/// Bytes that wait for a slow reader before the keeper stops hearing its requests. What is said
/// unasked, one end for each task, comes on top.
const OUT_MAX: usize = 64 * 1024;
/// Bytes taken from the socket at once.
const CHUNK: usize = 16 * 1024;

/// The other end, what it has sent, and what it has not taken yet.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    decoder: Decoder,
    out: Vec<u8>,
    sent: usize,
    /// A list is being told; from behind this container on.
    pub(super) listing: Option<Option<ContainerId>>,
}

/// The connection is of no further use.
#[derive(Debug)]
pub(super) struct Closed;

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, decoder: Decoder::default(), out: Vec::new(), sent: 0, listing: None }
    }

    /// Takes what has arrived.
    pub(super) fn read(&mut self) -> Result<(), Closed> {
        let mut bytes = [0; CHUNK];
        match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(Closed),
            Ok((len, _)) => {
                self.decoder.push(&bytes[..len]);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => Err(Closed),
        }
    }

    /// The next request, if there is room for its answer.
    pub(super) fn request(&mut self) -> Result<Option<Request>, Malformed> {
        if self.is_full() { Ok(None) } else { self.decoder.message() }
    }

    /// True while a slow reader keeps the keeper from hearing more.
    pub(super) fn is_full(&self) -> bool {
        self.listing.is_some() || self.out.len() - self.sent > OUT_MAX
    }

    /// Queues a reply.
    pub(super) fn say(&mut self, reply: &Reply) {
        // No reply of ours is too long; and a reader that lacks one would wait for ever.
        let encoded = encode(reply, &mut self.out);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
    }

    /// True when bytes wait.
    pub(super) fn has_output(&self) -> bool {
        self.sent < self.out.len()
    }

    /// Gives the socket what it takes.
    pub(super) fn flush(&mut self) -> Result<(), Closed> {
        while self.has_output() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&self.socket, &self.out[self.sent..], flags) {
                Ok(len) => self.sent += len,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(Closed),
            }
        }
        self.sent = 0;
        if self.out.capacity() > CHUNK {
            self.out = Vec::new();
        }
        self.out.clear();
        Ok(())
    }
}
