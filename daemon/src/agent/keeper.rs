//! The conversation with the keeper, whose socket this thread reads.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use event_listener::Event;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use mesita_core::wire::ContainerId;
use mesita_isolation::keeper::protocol::{Asked, DESCRIPTORS, Decoder, Reply, Request, encode};
use mesita_isolation::keeper::{Client, lend};
use mesita_isolation::tree;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use smol::Async;

use super::{AgentNode, Prepared, Why};
use crate::alarm;

/// How long a keeper may take to end all tasks, and then itself, in µs.
const END_US: u64 = 5_000_000;

/// Names the keeper's process for as long as it lives.
pub(crate) fn pidfd_of(prepared: &Prepared) -> Option<OwnedFd> {
    let pid = i32::try_from(prepared.keeper.welcome().pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Waits for a keeper to be gone with everything it made, at most 5 s.
pub(crate) fn wait_for(keeper: Option<OwnedFd>) {
    let Some(keeper) = keeper else { return };
    let mut fds = [PollFd::new(&keeper, PollFlags::IN)];
    let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
    // Whatever comes of it: the keeper does not need us.
    let _ = poll(&mut fds, Some(&limit));
}

/// Messages that wait to be written, and descriptors that go with the first byte of them.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    lent: Option<[OwnedFd; DESCRIPTORS]>,
}

/// The agent's end of the keeper's socket.
pub(crate) struct Link {
    stream: Async<UnixStream>,
    decoder: Cell<Option<Decoder>>,
    queue: RefCell<VecDeque<Waiting>>,
    queued: Event,
    /// Containers that nobody knows: to be killed, and forgotten when they ended.
    unknown: RefCell<BTreeSet<ContainerId>>,
    /// It was asked to end.
    ending: Cell<bool>,
    /// It has said that nothing of it is alive.
    all_ended: Cell<bool>,
    ended: Event,
}

impl Link {
    pub(super) fn new(client: Client) -> io::Result<Self> {
        let (stream, decoder) = client.into_parts();
        Ok(Self {
            stream: Async::new(stream)?,
            decoder: Cell::new(Some(decoder)),
            queue: RefCell::default(),
            queued: Event::new(),
            unknown: RefCell::default(),
            ending: Cell::new(false),
            all_ended: Cell::new(false),
            ended: Event::new(),
        })
    }

    /// Tells the keeper something that is never too long. It reads as fast as it is told.
    pub(super) fn send(&self, request: &Request) {
        if let Err(why) = self.ask(request, None) {
            log::error!("{why}");
        }
    }

    /// Asks the keeper for something, with descriptors that it is to use. What is too long is refused,
    /// and its descriptors go nowhere.
    pub(super) fn ask(
        &self,
        request: &Request,
        lent: Option<[OwnedFd; DESCRIPTORS]>,
    ) -> Result<(), String> {
        let mut queue = self.queue.borrow_mut();
        let mut own = Vec::new();
        let into = match queue.back_mut() {
            Some(last) if lent.is_none() => &mut last.bytes,
            _ => &mut own,
        };
        encode(request, into)
            .map_err(|malformed| format!("the keeper cannot be asked: {malformed}"))?;
        if !own.is_empty() {
            queue.push_back(Waiting { bytes: own, lent });
        }
        self.queued.notify(usize::MAX);
        Ok(())
    }

    /// Kills a container that nobody knows.
    pub(super) fn end_and_forget(&self, container: ContainerId) {
        self.unknown.borrow_mut().insert(container);
        self.send(&Request::Signal { container, signal: 9 });
        // If it ended already, the signal is refused and this one is not.
        self.send(&Request::Forget { container });
    }

    async fn write(&self) -> io::Result<()> {
        loop {
            let listener = self.queued.listen();
            let waiting = self.queue.borrow_mut().pop_front();
            let Some(Waiting { bytes, lent }) = waiting else {
                listener.await;
                continue;
            };
            let sent = match lent {
                Some(lent) => {
                    let lent: Vec<BorrowedFd<'_>> = lent.iter().map(AsFd::as_fd).collect();
                    let first = |stream: &UnixStream| Ok(lend(stream, &bytes, &lent)?);
                    self.stream.write_with(first).await?
                }
                None => 0,
            };
            (&self.stream).write_all(&bytes[sent..]).await?;
        }
    }
}

impl AgentNode {
    /// Speaks with the keeper until it is gone.
    pub(super) fn serve_keeper(&self) {
        let Some(me) = self.me.upgrade() else { return };
        self.tasks.go(async move {
            let reading = me.read_keeper();
            let writing = me.keeper.write();
            let ended = futures_lite::future::or(reading, writing).await;
            if let Err(error) = ended
                && !me.keeper.ending.get()
            {
                log::error!("the keeper is gone: {error}");
            }
            me.over.tell(Why::KeeperGone);
        });
    }

    /// Ends every task and the keeper, and waits until it has. What a keeper that died can not do
    /// is done here.
    pub(crate) async fn end_keeper(&self) {
        self.end_docker().await;
        if self.over.is_told() {
            return self.end_without_keeper().await;
        }
        self.keeper.ending.set(true);
        self.keeper.send(&Request::EndAll);
        let all = async {
            while !self.keeper.all_ended.get() {
                self.keeper.ended.listen().await;
            }
        };
        if alarm::within(END_US, all).await.is_none() {
            log::warn!("the keeper is still ending tasks");
        }
        self.keeper.send(&Request::Exit);
        alarm::within(END_US, self.over.wait()).await;
    }

    async fn end_without_keeper(&self) {
        self.kill_all().await;
        let isolation = self.containers.isolation();
        let work_dir = self.work_dir().to_owned();
        let ended = move || (isolation.end_without_keeper(), tree::remove(&work_dir));
        let (ended, removed) = self.containers.by_hand(ended).await;
        match ended {
            Ok(recovered) => recovered.stuck.iter().for_each(|error| log::error!("{error}")),
            Err(error) => log::error!("{error}"),
        }
        if let Err(error) = removed {
            log::error!("{error}");
        }
    }

    async fn read_keeper(self: &Rc<Self>) -> io::Result<()> {
        let mut decoder = self.keeper.decoder.take().unwrap_or_default();
        let mut buffer = [0; 4096];
        loop {
            loop {
                let reply = decoder.message().map_err(io::Error::other)?;
                let Some(reply) = reply else { break };
                self.keeper_says(&reply);
            }
            let len = (&self.keeper.stream).read(&mut buffer).await?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            decoder.push(&buffer[..len]);
        }
    }

    fn keeper_says(&self, reply: &Reply) {
        match reply {
            Reply::Launched { container, .. } if self.beside.launched(*container) => {}
            Reply::Launched { container, pid, .. } => self.launched(*container, Ok(*pid)),
            Reply::Waits { container, pid, .. } => {
                if !self.beside.waits(*container, *pid)
                    && let Some(known) = self.containers.get(*container)
                {
                    known.waits.set(Some(*pid));
                    known.changed.notify(usize::MAX);
                }
            }
            Reply::Refused(refused) => match refused.asked {
                Asked::Launch => {
                    let (container, why) = (refused.container, refused.trouble.to_string());
                    if !self.beside.refused(container, &why) {
                        self.launched(container, Err(why));
                    }
                }
                // It ended meanwhile, or was forgotten before.
                Asked::Signal | Asked::Forget => {
                    let (container, trouble) = (refused.container, refused.trouble);
                    log::debug!("keeper: container {container}: {trouble}");
                }
            },
            Reply::Ended(ended) => {
                let unknown = self.keeper.unknown.borrow_mut().remove(&ended.container);
                match self.beside.ended(ended).or(unknown.then_some(true)) {
                    Some(true) => self.keeper.send(&Request::Forget { container: ended.container }),
                    Some(false) => {}
                    None => self.ended(*ended),
                }
            }
            Reply::AllEnded => {
                self.keeper.all_ended.set(true);
                self.keeper.ended.notify(usize::MAX);
            }
            Reply::Hello(_) | Reply::Listed { .. } | Reply::Busy { .. } | Reply::Lent { .. } => {
                log::debug!("the keeper says what was not asked: {reply:?}");
            }
        }
    }
}
