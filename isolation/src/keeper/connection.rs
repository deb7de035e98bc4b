//! A connection to the keeper, from its side.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use mesita_core::wire::ContainerId;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, send};

use super::protocol::{DESCRIPTORS, Decoder, Malformed, Reply, Request, encode};
use super::{client, inside};

/// Bytes that wait for a slow reader before the keeper stops hearing its requests. What is said
/// unasked, one end for each task, comes on top.
const OUT_MAX: usize = 64 * 1024;
/// Bytes taken from the socket at once.
const CHUNK: usize = 16 * 1024;
/// Descriptors that wait for their messages. An agent sends more of them only behind a message.
const WAITING_MAX: usize = 64 * DESCRIPTORS;

/// The other end, what it has sent, and what it has not taken yet.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    decoder: Decoder,
    /// What came along with messages that are still to be read, in their order.
    descriptors: VecDeque<OwnedFd>,
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
        Self {
            socket,
            decoder: Decoder::default(),
            descriptors: VecDeque::new(),
            out: Vec::new(),
            sent: 0,
            listing: None,
        }
    }

    /// Takes what has arrived.
    pub(super) fn read(&mut self) -> Result<(), Closed> {
        let mut bytes = [0; CHUNK];
        match inside::take(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(Closed),
            Ok((len, lent)) => {
                self.decoder.push(&bytes[..len]);
                self.descriptors.extend(lent);
                if self.descriptors.len() > WAITING_MAX { Err(Closed) } else { Ok(()) }
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => Err(Closed),
        }
    }

    /// The next request, if there is room for its answer.
    pub(super) fn request(&mut self) -> Result<Option<Request>, Malformed> {
        if self.is_full() { Ok(None) } else { self.decoder.message() }
    }

    /// The descriptors that came along with the request that was read last; none if they did not.
    pub(super) fn descriptors(&mut self) -> Option<[OwnedFd; DESCRIPTORS]> {
        let count = self.descriptors.len().min(DESCRIPTORS);
        let lent: Vec<OwnedFd> = self.descriptors.drain(..count).collect();
        lent.try_into().ok()
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

    /// Sends a reply at once, and a descriptor with it.
    pub(super) fn lend(&mut self, reply: &Reply, lent: &OwnedFd) -> Result<(), Closed> {
        self.flush()?;
        if self.has_output() {
            return Err(Closed);
        }
        self.say(reply);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = client::lend_by(&self.socket, &self.out, &[lent.as_fd()], flags);
        self.sent = sent.map_err(|_| Closed)?;
        self.flush()
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
