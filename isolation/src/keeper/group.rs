//! Process 1 of a pid namespace that tasks of a group have in common: a copy of the keeper that is no
//! task, for the executor that they are inside of has no process.
//!
//! It is made for the first task that asks for it, lends its namespace, reaps what tasks leave behind,
//! and is ended when the last of them has ended; the kernel kills then whatever else lives there. It
//! ends when the keeper does as well. Its memory is the keeper's, and no task's. Whoever is inside can
//! send it nothing that it would act upon.
//!
//! What else tasks have in common takes no process: the keeper holds it open for as long as one of them lives.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mesita_core::wire::ContainerId;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::RecvFlags;

use super::child::{Maps, Plan, Report, Trouble};
use super::init;
use super::inside::{self, Lent, Own, Place};
use super::protocol::{Namespaces, Step};
use super::tasks::{self, Heard, channel, hear};
use super::view;
use super::wall::Kind;
use crate::sys::{self, Cloner};

/// Those that are there, by what their tasks are inside of.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<ContainerId, Group>);

#[derive(Debug)]
struct Group {
    pid: u32,
    /// It ends when this is closed.
    _channel: OwnedFd,
    lent: Lent,
}

impl Groups {
    /// Where a task is among the others of its group; the first makes that.
    pub(super) fn enter(
        &mut self,
        of: ContainerId,
        plan: &Plan<'_>,
        cloner: &mut Cloner,
    ) -> Result<Place<'_>, Trouble> {
        if !plan.namespaces().pid || !plan.namespaces().mount {
            return Err((Step::Request, libc::EINVAL));
        }
        let group = match self.0.entry(of) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(at) => at.insert(Group::new(plan, cloner)?),
        };
        Ok(Place { of: group.pid, lent: &group.lent, own: Own::Rest })
    }

    /// Ends all but these.
    pub(super) fn keep(&mut self, stays: impl Fn(ContainerId) -> bool) {
        self.0.retain(|&of, group| {
            let stays = stays(of);
            if !stays {
                group.end();
            }
            stays
        });
    }

    /// A child of the keeper has ended, and is about to be collected.
    pub(super) fn ended(&mut self, pid: u32) {
        self.0.retain(|_, group| group.pid != pid);
    }
}

impl Group {
    fn new(plan: &Plan<'_>, cloner: &mut Cloner) -> Result<Self, Trouble> {
        let (ours, theirs) = channel()?;
        let namespaces = Namespaces { mount: false, ..plan.namespaces() };
        let how = tasks::flags(namespaces, 0);
        let child = &mut |_| hold(namespaces, &plan.maps, theirs.as_fd());
        let pid = cloner.spawn(how, None, child).map_err(|errno| (Step::Clone, errno))?;
        drop(theirs);
        // It waits for nobody: it has something to say, or ends.
        let lent = match hear(&ours, RecvFlags::empty()) {
            Heard::Started(lent) => Lent::of(how.namespaces, lent).ok_or((Step::Inside, 0)),
            Heard::Report(Report::Failed(trouble)) => Err(trouble),
            Heard::Report(_) | Heard::Closed | Heard::Nothing => Err((Step::Died, 0)),
        };
        // What is not lent is of no use, and ends as its channel does.
        Ok(Self { pid, _channel: ours, lent: lent? })
    }

    /// Kills it, and so all that is in it.
    fn end(&self) {
        let _ = i32::try_from(self.pid).map(|pid| sys::kill(pid, libc::SIGKILL));
    }
}

impl Kind {
    /// The namespaces that this is, as flags of clone(2). Shared memory is found in mounts.
    pub(super) const fn flags(self) -> c_int {
        match self {
            Self::Ipc => libc::CLONE_NEWIPC | libc::CLONE_NEWNS,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Network => libc::CLONE_NEWNET,
        }
    }
}

/// What tasks have in common, by what they are inside of.
#[derive(Debug, Default)]
pub(super) struct Commons(BTreeMap<(ContainerId, Kind), Lent>);

/// What one task has in common with others.
#[derive(Debug, Default)]
pub(super) struct Common<'c>(pub(super) Vec<&'c Lent>);

impl Commons {
    /// What a task has in common with others; what is not there is made.
    pub(super) fn of(
        &mut self,
        plan: &Plan<'_>,
        cloner: &mut Cloner,
    ) -> Result<Common<'_>, Trouble> {
        let all: BTreeSet<(ContainerId, Kind)> = plan.walls.common().collect();
        // Who has users of its own may not enter what is nobody's of them.
        if !all.is_empty()
            && (plan.namespaces().user || !plan.namespaces().mount || !plan.namespaces().pid)
        {
            return Err((Step::Request, libc::EINVAL));
        }
        let bytes = plan.walls.shared_memory().unwrap_or(0);
        for &(of, kind) in &all {
            if let Entry::Vacant(at) = self.0.entry((of, kind)) {
                at.insert(make(kind, bytes, cloner)?);
            }
        }
        Ok(Common(all.iter().filter_map(|one| self.0.get(one)).collect()))
    }

    /// Lets go of all but these.
    pub(super) fn keep(&mut self, stays: impl Fn(ContainerId) -> bool) {
        self.0.retain(|(of, _), _| stays(*of));
    }
}

impl Common<'_> {
    /// Has a process in there. One that finds its shared memory there has mounts of its own from then on.
    pub(super) fn enter(&self, plan: &Plan<'_>) -> Result<(), Trouble> {
        self.0.iter().try_for_each(|lent| lent.enter_all())?;
        if !plan.walls.shares_memory() {
            return Ok(());
        }
        let failed = |errno: rustix::io::Errno| (Step::Mounts, errno.raw_os_error());
        view::share_more_memory(plan.walls.shared_memory().unwrap_or(0)).map_err(failed)?;
        sys::unshare(rustix::thread::UnshareFlags::NEWNS).map_err(failed)
    }
}

/// Makes what tasks have in common. Who is in there first is gone when it is there.
fn make(kind: Kind, bytes: u64, cloner: &mut Cloner) -> Result<Lent, Trouble> {
    let (ours, theirs) = channel()?;
    let how = sys::Clone { borrows: false, namespaces: kind.flags() };
    let child = &mut |_| {
        let made = match kind {
            // What the host mounts later is found there, too, and nothing of this on the host.
            Kind::Ipc => view::follow_mounts().and_then(|()| view::share_memory(bytes)),
            Kind::Uts => Ok(()),
            Kind::Network => sys::raise_loopback(),
        };
        match made {
            Ok(()) => inside::lend(kind.flags(), theirs.as_fd()),
            Err(errno) => {
                Report::Failed((Step::Inside, errno.raw_os_error())).send(theirs.as_fd());
            }
        }
        0
    };
    cloner.spawn(how, None, child).map_err(|errno| (Step::Clone, errno))?;
    drop(theirs);
    match hear(&ours, RecvFlags::empty()) {
        Heard::Started(lent) => Lent::of(kind.flags(), lent).ok_or((Step::Inside, 0)),
        Heard::Report(Report::Failed(trouble)) => Err(trouble),
        Heard::Report(_) | Heard::Closed | Heard::Nothing => Err((Step::Died, 0)),
    }
}

/// What it does; the result is its status.
fn hold(namespaces: Namespaces, maps: &Maps, channel: BorrowedFd<'_>) -> i32 {
    match begin(namespaces, maps, channel) {
        Ok(signals) => {
            inside::lend(tasks::flags(namespaces, 0).namespaces, channel);
            reap_until_closed(&signals, channel);
            0
        }
        Err(trouble) => {
            Report::Failed(trouble).send(channel);
            1
        }
    }
}

fn begin(
    namespaces: Namespaces,
    maps: &Maps,
    channel: BorrowedFd<'_>,
) -> Result<SignalFd, Trouble> {
    sys::close_all_but_on_any_kernel([channel.as_raw_fd()]);
    // For people who look at the process list; nothing depends on it.
    let _ = rustix::thread::set_name(c"mesita-group");
    rustix::process::setsid().map_err(|errno| (Step::Session, errno.raw_os_error()))?;
    init::part(namespaces, maps)?;
    SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|errno| (Step::Channel, errno as i32))
}

/// Nothing is ever said to it: that its channel is ready means that the keeper has closed it.
fn reap_until_closed(signals: &SignalFd, channel: BorrowedFd<'_>) {
    loop {
        let mut ready =
            [PollFd::new(signals, PollFlags::IN), PollFd::from_borrowed_fd(channel, PollFlags::IN)];
        if poll(&mut ready, None).is_err() {
            continue;
        }
        let [signal, closed] = ready.map(|fd| !fd.revents().is_empty());
        if closed {
            return;
        }
        while signal && matches!(signals.read_signal(), Ok(Some(_))) {}
        while let Ok(Some(pid)) = sys::ended_child() {
            if sys::reap(pid).is_err() {
                break;
            }
        }
    }
}
