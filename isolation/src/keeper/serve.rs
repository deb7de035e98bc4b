//! The keeper's loop: one thread that waits for its agent, its children and its clock.
//!
//! It wakes up only when one of them has something to say. Whoever connects and says hello becomes
//! the client; the one before is dropped first, with all it had sent and the keeper had not read.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use mesita_core::wire::{ContainerId, Session};
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, accept_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::BACKLOG;
use super::connection::{Closed, Connection};
use super::kin;
use super::only;
use super::protocol::{
    Enter, LISTED_MAX, Reply, Request, Stdio, VERSION_MAX, VERSION_MIN, Welcome,
};
use super::tasks::{More, On, Tasks};
use super::wall::Wall;
use crate::sys::{self, Failure};

/// Connections that have not said hello; one more and the oldest is closed.
const WAITING_MAX: usize = 4;

/// How often one without a client looks whether anybody can still find it.
const LOOK_MS: u32 = 10_000;

/// Everything that the loop waits for and what it changes.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) tasks: Tasks,
    listener: OwnedFd,
    /// By which it is the only one of its agent's key.
    name: OwnedFd,
    /// By which it is the only one of its work directory.
    lock: OwnedFd,
    signals: SignalFd,
    timer: OwnedFd,
    /// What the timer is set to.
    armed_us: Option<u64>,
    client: Option<Connection>,
    waiting: Vec<Connection>,
    welcome: Welcome,
    ends_with_client: bool,
    /// It was asked to end, or its client is gone.
    leaving: bool,
    /// It was said that a task tried to be let in, which is said once.
    told: bool,
    /// Directories to be removed before it ends.
    pub(super) directories: Vec<PathBuf>,
}

/// Something that can be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Signals,
    Newcomer,
    Asker,
    Channel(ContainerId),
    Timer,
    Client,
}

impl Keeper {
    /// A keeper whose first connection is `first`.
    pub(super) fn new(
        tasks: Tasks,
        [listener, name, lock]: [OwnedFd; 3],
        signals: SignalFd,
        first: OwnedFd,
        welcome: Welcome,
        ends_with_client: bool,
    ) -> Result<Self, Failure> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)
            .map_err(|errno| Failure::plain("timerfd_create", errno.raw_os_error()))?;
        Ok(Self {
            tasks,
            listener,
            name,
            lock,
            signals,
            timer,
            armed_us: None,
            client: None,
            waiting: vec![Connection::new(first)],
            welcome,
            ends_with_client,
            leaving: false,
            told: false,
            directories: Vec::new(),
        })
    }

    /// Serves until there is nothing left to keep.
    pub(super) fn serve(&mut self) {
        while !self.is_done() {
            self.set_timer();
            let mut sources = self.wait();
            sources.sort_unstable();
            for source in sources {
                match source {
                    Source::Signals => self.collect(),
                    Source::Newcomer => {
                        self.let_in();
                    }
                    Source::Asker => only::answer(&self.name),
                    Source::Channel(container) => self.tasks.settle(container),
                    Source::Timer => self.ring(),
                    // Whoever has come since is to find nothing done that was not read before.
                    Source::Client if !self.let_in() => self.hear(),
                    // What was ready was the client before.
                    Source::Client => {}
                }
            }
            self.answer();
            self.tell();
            if self.client.is_none() && !self.leaving && self.is_lost() {
                self.leave();
            }
        }
    }

    /// An agent's keeper stays for its agent, and for as long as there is anything to ask for.
    fn is_done(&self) -> bool {
        let unneeded = if self.ends_with_client || self.leaving {
            self.leaving && self.tasks.running() == 0 && !self.tasks.is_ending()
        } else {
            self.tasks.is_empty() && !self.tasks.is_ending()
        };
        unneeded && self.client.is_none() && (self.leaving || self.waiting.is_empty())
    }

    /// Waits for anything.
    fn wait(&self) -> Vec<Source> {
        let mut sources = vec![Source::Signals, Source::Newcomer, Source::Asker, Source::Timer];
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.name, PollFlags::IN),
            PollFd::new(&self.timer, PollFlags::IN),
        ];
        for waiting in &self.waiting {
            sources.push(Source::Newcomer);
            fds.push(PollFd::new(&waiting.socket, PollFlags::IN));
        }
        for (container, channel) in self.tasks.starting() {
            sources.push(Source::Channel(container));
            fds.push(PollFd::new(channel, PollFlags::IN));
        }
        if let Some(client) = &self.client {
            let hears = if client.is_full() { PollFlags::empty() } else { PollFlags::IN };
            let says = if client.has_output() { PollFlags::OUT } else { PollFlags::empty() };
            sources.push(Source::Client);
            fds.push(PollFd::new(&client.socket, hears | says));
        }
        let look = self.client.is_none().then(|| sys::timeout(LOOK_MS));
        if poll(&mut fds, look.as_ref()).is_err() {
            return Vec::new();
        }
        let ready = fds.iter().map(|fd| !fd.revents().is_empty());
        sources
            .into_iter()
            .zip(ready)
            .filter_map(|(source, ready)| ready.then_some(source))
            .collect()
    }

    /// Children have ended.
    fn collect(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        let none_left = self.tasks.reap();
        if self.tasks.is_ending() {
            if none_left && self.tasks.running() == 0 {
                self.tasks.ended_all();
            } else {
                self.tasks.kill_strays();
            }
        }
    }

    /// Accepts connections and hears those that have not said hello; true when the client is
    /// another one now.
    fn let_in(&mut self) -> bool {
        self.accept();
        self.greet()
    }

    /// Lets in who runs as our own user, or as root, and is no process of a task.
    fn accept(&mut self) {
        // All that had come by now: whoever hangs up and comes again at once keeps nobody waiting.
        for _ in 0..=BACKLOG {
            let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC) else { return };
            if !self.may_come_in(&socket) {
                continue;
            }
            if self.waiting.len() == WAITING_MAX {
                self.waiting.remove(0);
            }
            self.waiting.push(Connection::new(socket));
        }
    }

    /// Tasks may run as our own user, and root's do: they are known by what they descend from.
    fn may_come_in(&mut self, socket: &OwnedFd) -> bool {
        let own = rustix::process::geteuid();
        let Ok(peer) = socket_peercred(socket) else { return false };
        if peer.uid != own && !peer.uid.is_root() {
            return false;
        }
        let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
        // Its number was its own as long as it was looked at, if it has not ended by then.
        if kin::is_no_task_of_ours(pid) && sys::peer_lives(socket.as_fd()) {
            return true;
        }
        if !std::mem::replace(&mut self.told, true) {
            super::log(&format_args!(
                "process {pid} of a task wants to be its agent; it is refused"
            ));
        }
        false
    }

    /// Reads from the connections that have not said hello; true when one has become the client.
    fn greet(&mut self) -> bool {
        let mut replaced = false;
        for mut waiting in std::mem::take(&mut self.waiting) {
            match waiting.read().map(|()| waiting.request()) {
                Ok(Ok(Some(Request::Hello { min, max, session }))) => {
                    replaced |= self.welcome(waiting, min, max, session);
                }
                Ok(Ok(None)) => self.waiting.push(waiting),
                // Hung up, or did not know how to begin.
                Ok(Ok(Some(_)) | Err(_)) | Err(Closed) => {}
            }
        }
        replaced
    }

    /// Answers a hello; true when the connection is the client now.
    fn welcome(&mut self, mut client: Connection, min: u16, max: u16, session: Session) -> bool {
        let version = max.min(VERSION_MAX);
        client.say(&Reply::Hello(Welcome { version, ..self.welcome }));
        if version < min.max(VERSION_MIN) {
            // It reads in the hello which version would have been understood.
            client.say(&Reply::Listed { containers: Vec::new(), last: true });
            let _ = client.flush();
            return false;
        }
        client.listing = Some(None);
        self.tasks.renew(session, 0);
        self.tasks.end_waiting();
        self.tasks.said.clear();
        self.client = Some(client);
        true
    }

    /// Reads from the client.
    fn hear(&mut self) {
        let Some(client) = &mut self.client else { return };
        let unusable = !client.is_full() && client.read().is_err();
        let gone = unusable || (client.has_output() && client.flush().is_err());
        if gone {
            self.lose_client();
        }
    }

    fn lose_client(&mut self) {
        self.client = None;
        self.tasks.end_waiting();
        if self.ends_with_client && !self.leaving {
            self.leave();
        }
    }

    /// Its directory was removed: no agent finds it any more, nor what it keeps.
    pub(super) fn is_lost(&self) -> bool {
        rustix::fs::fstat(&self.lock).is_ok_and(|of| of.st_nlink == 0)
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.tasks.end_all();
        self.collect();
    }

    /// Does what the client has asked for, as far as its answers find room.
    fn answer(&mut self) {
        loop {
            self.list();
            let Some(client) = &mut self.client else { return };
            match client.request() {
                Ok(Some(request)) => self.serve_one(request),
                Ok(None) => return,
                Err(malformed) => {
                    super::log(&malformed);
                    return self.lose_client();
                }
            }
            self.tell();
        }
    }

    fn serve_one(&mut self, request: Request) {
        match request {
            // Said twice, it changes nothing but the session.
            Request::Hello { session, .. } => self.tasks.renew(session, 0),
            Request::Launch(launch) => self.tasks.launch(&launch, &[], On::FILES, false),
            Request::LaunchWith { launch, walls } => {
                self.tasks.launch(&launch, &walls, On::FILES, false);
            }
            Request::LaunchOn { launch, walls, stdio } => {
                let on = self.on(stdio);
                self.tasks.launch(&launch, &walls, on, false);
            }
            Request::LaunchWaiting { launch, walls, stdio } => {
                let on = self.on(stdio);
                self.tasks.launch(&launch, &walls, on, true);
            }
            Request::Go { container, deadline_us } => self.tasks.go(container, deadline_us),
            Request::Terminals => self.lend_terminals(),
            Request::Enter(enter) => self.enter(&enter, c"", Stdio::Files, &[]),
            Request::EnterWith { enter, below, stdio } => self.enter(&enter, &below, stdio, &[]),
            Request::EnterBehind { enter, below, stdio, walls } => {
                self.enter(&enter, &below, stdio, &walls);
            }
            Request::Signal { container, signal } => self.tasks.signal(container, signal),
            Request::Forget { container } => self.tasks.forget(container),
            Request::List => {
                if let Some(client) = &mut self.client {
                    client.listing = Some(None);
                }
            }
            Request::Renew { session, contact_us } => self.tasks.renew(session, contact_us),
            Request::RemoveAtEnd { directories } => {
                self.directories = directories.iter().map(|path| super::path_of(path)).collect();
            }
            Request::EndAll => {
                self.tasks.end_all();
                self.collect();
            }
            Request::Exit => match self.tasks.running() {
                0 => {
                    self.leaving = true;
                    self.client = None;
                }
                running => self.tasks.said.push(Reply::Busy { running }),
            },
        }
    }

    /// Starts a process beside a task.
    fn enter(&mut self, enter: &Enter, below: &CStr, stdio: Stdio, walls: &[Wall]) {
        let on = self.on(stdio);
        self.tasks.enter(enter, More { below, on, walls });
    }

    /// What came along with the request that was read last, if it is of that kind.
    fn on(&mut self, stdio: Stdio) -> On {
        let client = self.client.as_mut().filter(|_| stdio != Stdio::Files);
        On { stdio, given: client.and_then(Connection::descriptors) }
    }

    /// Sends the ends of terminals that are kept. Who asks for them waits for them, and has room.
    fn lend_terminals(&mut self) {
        let Some(client) = &mut self.client else { return };
        let mut lent = Ok(());
        for (container, end) in self.tasks.terminals() {
            lent =
                lent.and_then(|()| client.lend(&Reply::Lent { container: Some(container) }, end));
        }
        client.say(&Reply::Lent { container: None });
        if lent.is_err() {
            self.lose_client();
        }
    }

    /// Goes on with a list, as far as it finds room.
    fn list(&mut self) {
        let Some(client) = &mut self.client else { return };
        while let Some(after) = client.listing {
            // A list is said whole before anything else is asked for, so nothing but a slow
            // reader is in its way.
            if client.has_output() && client.flush().is_err() || client.has_output() {
                return;
            }
            let containers = self.tasks.list(after, LISTED_MAX);
            let last = containers.len() < LISTED_MAX;
            client.listing = containers.last().filter(|_| !last).map(|held| Some(held.container()));
            client.say(&Reply::Listed { containers, last });
        }
    }

    /// Tells the client what there is to tell.
    fn tell(&mut self) {
        let Some(client) = &mut self.client else { return self.tasks.said.clear() };
        // A list is said in one piece.
        if client.listing.is_some() {
            return;
        }
        for reply in self.tasks.said.drain(..) {
            client.say(&reply);
        }
        if client.flush().is_err() {
            self.lose_client();
        }
    }

    /// The clock's alarm went off.
    fn ring(&mut self) {
        // What is read is how often; it says that the alarm was heard.
        let _ = rustix::io::read(&self.timer, &mut [0u8; 8]);
        self.armed_us = None;
        self.tasks.stop_overdue(sys::boottime_us());
    }

    /// Sets the clock's alarm to the next deadline, or to none.
    fn set_timer(&mut self) {
        let next = self.tasks.next_deadline_us();
        if next == self.armed_us {
            return;
        }
        // Zero would disarm it.
        let at = next.map_or(0, |us| us.max(1));
        let seconds = i64::try_from(at / 1_000_000).unwrap_or(i64::MAX);
        let nanos = i64::try_from(at % 1_000_000 * 1000).unwrap_or(0);
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        #[allow(clippy::useless_conversion)] // Narrower on some targets.
        let alarm = Timespec { tv_sec: seconds.into(), tv_nsec: nanos.try_into().unwrap_or(0) };
        let alarm = Itimerspec { it_interval: never, it_value: alarm };
        if timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &alarm).is_ok() {
            self.armed_us = next;
        }
    }
}
