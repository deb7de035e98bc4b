//! Signals that end a daemon or change its course, as events of the IO thread.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use smol::Async;

/// Signals that were blocked in every thread, to be read here.
pub(crate) struct Signals(Async<SignalFd>);

/// A signal, as far as daemons care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caught {
    /// SIGINT: the user at the terminal wants an end.
    Interrupt,
    /// SIGTERM: somebody wants an end.
    Terminate,
    /// SIGHUP: the terminal is gone.
    HangUp,
    /// SIGUSR1.
    User1,
}

/// Blocks them. Called before the first thread, which all others take after.
pub(crate) fn block() -> io::Result<()> {
    Ok(set().thread_block()?)
}

/// Has threads that wait for sockets begun without being ended by a signal; this one still is, until
/// [`block`].
pub(crate) fn spare_others() -> io::Result<()> {
    block()?;
    // The first descriptor that is waited for begins them, and they take after this one.
    drop(Signals::new()?);
    Ok(set().thread_unblock()?)
}

/// Like [`block`], for whoever has changed a terminal, which is to be given back whatever ends it: SIGQUIT,
/// too, and what tells that the terminal has another size.
pub(crate) fn block_at_terminal() -> io::Result<()> {
    at_terminal().thread_block()?;
    Ok(resized().thread_block()?)
}

fn at_terminal() -> SigSet {
    let mut set = set();
    set.add(Signal::SIGQUIT);
    set
}

fn set() -> SigSet {
    let mut set = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1]
        .into_iter()
        .for_each(|signal| set.add(signal));
    set
}

impl Signals {
    /// Those that were blocked by [`block`].
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(read(&set())?))
    }

    /// Those that were blocked by [`block_at_terminal`].
    pub(crate) fn at_terminal() -> io::Result<Self> {
        Ok(Self(read(&at_terminal())?))
    }

    /// The next one.
    pub(crate) async fn next(&self) -> Caught {
        let read = self.0.read_with(|fd| fd.read_signal()?.ok_or(io::ErrorKind::WouldBlock.into()));
        let number = match read.await {
            Ok(info) => i32::try_from(info.ssi_signo).unwrap_or(0),
            // Nobody can be told to end any more: better now than never.
            Err(_) => Signal::SIGTERM as i32,
        };
        match Signal::try_from(number) {
            Ok(Signal::SIGINT) => Caught::Interrupt,
            Ok(Signal::SIGHUP) => Caught::HangUp,
            Ok(Signal::SIGUSR1) => Caught::User1,
            _ => Caught::Terminate,
        }
    }
}

fn read(set: &SigSet) -> io::Result<Async<SignalFd>> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Async::new(SignalFd::with_flags(set, flags)?)
}

/// Tells when the terminal has another size.
pub(crate) struct Resized(Async<SignalFd>);

fn resized() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGWINCH);
    set
}

impl Resized {
    /// From now on.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(read(&resized())?))
    }

    /// Waits for it; false when nobody can tell any more.
    pub(crate) async fn next(&self) -> bool {
        let read = self.0.read_with(|fd| fd.read_signal()?.ok_or(io::ErrorKind::WouldBlock.into()));
        read.await.is_ok()
    }
}
