//! The agent's end of the keeper's socket, for whoever may wait.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mesita_core::wire::{ContainerId, Session};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, connect as connect_to, sendmsg, socket_with,
};

use super::inside;
use super::protocol::{
    DESCRIPTORS, Decoder, Held, Malformed, Namespaces, Reply, Request, VERSION_MAX, VERSION_MIN,
    Welcome, encode,
};
use super::{Error, address, socket_path};
use crate::sys::Failure;

/// How long a keeper may take to say hello and what it holds.
const HELLO: Duration = Duration::from_secs(5);

/// The first version that keeps ends of terminals.
const TERMINALS_SINCE: u16 = 3;

/// It said something else than was due.
const NOT_NOW: Error = Error::Malformed(Malformed::NoMessage);

/// A connection to a keeper that has said hello.
///
/// A thread that waits for several things takes it apart with [`Client::into_parts`].
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    welcome: Welcome,
    held: Vec<Held>,
    fresh: bool,
}

/// Connects to the keeper of a work directory; none if nobody listens there.
pub fn connect(work_dir: &Path, session: Session) -> Result<Option<Client>, Error> {
    let path = socket_path(work_dir);
    let failed = |errno: rustix::io::Errno| Failure::new("connect", &path, errno.raw_os_error());
    let (address, _directory) = match address(&path) {
        Err(failure) if failure.errno == libc::ENOENT => return Ok(None),
        address => address?,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let socket = socket.map_err(failed)?;
    match connect_to(&socket, &address) {
        Ok(()) => Client::greet(socket.into(), session, false).map(Some),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => Ok(None),
        // Its queue is full of those it does not let in.
        Err(rustix::io::Errno::AGAIN) => Err(Error::Silent(path)),
        Err(errno) => Err(failed(errno).into()),
    }
}

impl Client {
    /// Says hello, and takes in what the keeper holds.
    pub(super) fn greet(stream: UnixStream, session: Session, fresh: bool) -> Result<Self, Error> {
        stream.set_nonblocking(false).map_err(|error| failed("talk to", &error))?;
        let welcome = Welcome {
            version: 0,
            pid: 0,
            boot: [0; 16],
            namespaces: Namespaces::default(),
            trouble: None,
        };
        let decoder = Decoder::default();
        let mut client = Self { stream, decoder, welcome, held: Vec::new(), fresh };
        client.send(&Request::Hello { min: VERSION_MIN, max: VERSION_MAX, session })?;
        client.welcome = match client.receive(HELLO)? {
            Some(Reply::Hello(welcome)) => welcome,
            Some(_) => return Err(NOT_NOW),
            None => return Err(client.silent()),
        };
        let version = client.welcome.version;
        if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            return Err(Error::Version(version));
        }
        client.held = client.list()?;
        Ok(client)
    }

    /// The keeper's hello.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// What the keeper held when it said hello, in the order of container ids.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// True when the keeper was started for this client.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Asks for something. Blocks while the keeper does not read.
    pub fn send(&mut self, request: &Request) -> Result<(), Error> {
        let mut bytes = Vec::new();
        encode(request, &mut bytes).map_err(Error::Malformed)?;
        self.stream.write_all(&bytes).map_err(|error| failed("write to", &error))
    }

    /// Asks for something, with descriptors that come along.
    pub fn send_with(&mut self, request: &Request, lent: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let mut bytes = Vec::new();
        encode(request, &mut bytes).map_err(Error::Malformed)?;
        let sent = lend(&self.stream, &bytes, lent);
        let sent = sent.map_err(|errno| failed("write to", &errno.into()))?;
        self.stream.write_all(&bytes[sent..]).map_err(|error| failed("write to", &error))
    }

    /// The next reply; none if it does not come within `time`, which may not be zero.
    pub fn receive(&mut self, time: Duration) -> Result<Option<Reply>, Error> {
        let timed = self.stream.set_read_timeout(Some(time));
        timed.map_err(|error| failed("read from", &error))?;
        loop {
            if let Some(reply) = self.decoder.message().map_err(Error::Malformed)? {
                return Ok(Some(reply));
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Error::Died),
                Ok(len) => self.decoder.push(&bytes[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read from", &error)),
            }
        }
    }

    /// The ends of terminals that the keeper keeps for its agents, with the containers that they are
    /// of. An older keeper keeps none.
    pub fn terminals(&mut self) -> Result<Vec<(ContainerId, OwnedFd)>, Error> {
        if self.welcome.version < TERMINALS_SINCE {
            return Ok(Vec::new());
        }
        self.send(&Request::Terminals)?;
        let timed = self.stream.set_read_timeout(Some(HELLO));
        timed.map_err(|error| failed("read from", &error))?;
        let (mut whose, mut ends) = (Vec::new(), Vec::new());
        // What it says unasked meanwhile is for later.
        let mut early = Vec::new();
        loop {
            while let Some(reply) = self.decoder.message().map_err(Error::Malformed)? {
                let Reply::Lent { container } = reply else {
                    encode(&reply, &mut early).map_err(Error::Malformed)?;
                    continue;
                };
                let Some(container) = container else {
                    self.decoder.put_back(early);
                    if whose.len() != ends.len() {
                        return Err(failed("read from", &rustix::io::Errno::MFILE.into()));
                    }
                    return Ok(whose.into_iter().zip(ends).collect());
                };
                whose.push(container);
            }
            let mut bytes = [0; 4096];
            match inside::take(&self.stream, &mut bytes, RecvFlags::empty()) {
                Ok((0, _)) => return Err(Error::Died),
                Ok((len, lent)) => {
                    self.decoder.push(&bytes[..len]);
                    ends.extend(lent);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(self.silent()),
                Err(errno) => return Err(failed("read from", &errno.into())),
            }
        }
    }

    /// Reads a list to its end.
    fn list(&mut self) -> Result<Vec<Held>, Error> {
        let mut held = Vec::new();
        loop {
            match self.receive(HELLO)? {
                Some(Reply::Listed { containers, last }) => {
                    held.extend(containers);
                    if last {
                        return Ok(held);
                    }
                }
                Some(_) => return Err(NOT_NOW),
                None => return Err(self.silent()),
            }
        }
    }

    fn silent(&self) -> Error {
        let peer = self.stream.peer_addr().ok();
        let path = peer.and_then(|peer| peer.as_pathname().map(Path::to_owned));
        Error::Silent(path.unwrap_or_default())
    }

    /// The stream, and what was read from it and not yet given out.
    pub fn into_parts(self) -> (UnixStream, Decoder) {
        // Not waiting for ever is the caller's business from now on.
        let _ = self.stream.set_read_timeout(None);
        (self.stream, self.decoder)
    }
}

/// Sends the beginning of a message, and descriptors with it, at most
/// [`DESCRIPTORS`]: how many of its bytes went.
pub fn lend(
    stream: impl AsFd,
    bytes: &[u8],
    lent: &[BorrowedFd<'_>],
) -> Result<usize, rustix::io::Errno> {
    lend_by(stream, bytes, lent, SendFlags::NOSIGNAL)
}

/// The same by a call of this kind.
pub(super) fn lend_by(
    stream: impl AsFd,
    bytes: &[u8],
    lent: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<usize, rustix::io::Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !lent.is_empty() && !control.push(SendAncillaryMessage::ScmRights(lent)) {
        return Err(rustix::io::Errno::INVAL);
    }
    sendmsg(stream, &[IoSlice::new(bytes)], &mut control, flags)
}

/// A keeper that is gone breaks the stream.
fn failed(call: &'static str, error: &std::io::Error) -> Error {
    if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
        return Error::Died;
    }
    Failure::io(call, Path::new("the keeper"), error).into()
}

impl From<Client> for OwnedFd {
    fn from(client: Client) -> Self {
        client.stream.into()
    }
}
