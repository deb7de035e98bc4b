//! Process 1 of a task's pid namespace: a copy of the keeper that never returns to it.
//!
//! It joins the task's cgroups, parts mounts and `/proc` from the host's, starts the task as its
//! child, reaps everything, passes signals on, and tells the keeper the task's true status through
//! the channel. When it ends, the kernel kills whatever else lives in the namespace; it ends when
//! the task does, and also when the keeper is dead, for then nobody would ever know of the task.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, mount};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::thread::UnshareFlags;

use super::child::{Maps, Plan, Report, Trouble, WORD, gave_back_as_program};
use super::group::Common;
use super::inside::{self, Given};
use super::protocol::{Namespaces, Step};
use super::walls::part_mounts;
use crate::sys::{self, Cloner};

/// For people who look at the process list.
const NAME: &CStr = c"mesita-init";

/// What a process made in a new pid namespace does; the result is its status.
pub(super) fn run(
    plan: &Plan<'_>,
    given: Option<&Given>,
    common: &Common<'_>,
    channel: BorrowedFd<'_>,
    joined: bool,
) -> i32 {
    let started = given.map_or(Ok(()), inside::take_over);
    let started = started.and_then(|()| start(plan, common, channel, joined));
    serve(started, given.is_some(), inside::all(plan), channel)
}

/// What one does in a pid namespace within that of a task, in whose namespaces it begins: `lends` are
/// those that it is in at last. The result is its status.
pub(super) fn run_within(
    plan: &Plan<'_>,
    (given, lends): (bool, c_int),
    channel: BorrowedFd<'_>,
) -> i32 {
    sys::close_all_but_on_any_kernel([channel.as_raw_fd()]);
    let _ = rustix::thread::set_name(NAME);
    let parted = sys::unshare(UnshareFlags::NEWNS);
    let started = parted
        .map_err(|errno| (Step::Mounts, errno.raw_os_error()))
        .and_then(|()| furnish(plan))
        .and_then(|()| begin(plan, channel));
    serve(started, given, lends, channel)
}

/// Tells what became of the start, and serves until the end; the result is the status.
fn serve(
    started: Result<(u32, SignalFd), Trouble>,
    given: bool,
    lends: c_int,
    channel: BorrowedFd<'_>,
) -> i32 {
    match started {
        Ok((task, signals)) => {
            if given {
                // Who reads what the task writes is to see when it closes that.
                let _ = inside::let_go();
            }
            inside::lend(lends, channel);
            watch(task, &signals, channel);
            0
        }
        Err(trouble) => {
            Report::Failed(trouble).send(channel);
            1
        }
    }
}

/// Makes the namespaces what they should be and starts the task. All signals were blocked before
/// this process was made, so that none is lost or acted upon before they are looked at.
fn start(
    plan: &Plan<'_>,
    common: &Common<'_>,
    channel: BorrowedFd<'_>,
    joined: bool,
) -> Result<(u32, SignalFd), Trouble> {
    plan.join(joined)?;
    plan.set_badness()?;
    common.enter(plan)?;
    sys::close_all_but_on_any_kernel([channel.as_raw_fd()]);
    // Nothing depends on it.
    let _ = rustix::thread::set_name(NAME);
    // So that a signal to the keeper's group is not one to its tasks.
    rustix::process::setsid().map_err(|errno| (Step::Session, errno.raw_os_error()))?;
    part(plan.namespaces(), &plan.maps)?;
    plan.walls.part(plan.directory(), plan.owner(), plan.cgroups())?;
    begin(plan, channel)
}

/// Makes the mounts of who has some of its own what they should be, among users who are there already.
pub(super) fn furnish(plan: &Plan<'_>) -> Result<(), Trouble> {
    part(Namespaces { user: false, pid: true, mount: true }, &plan.maps)?;
    plan.walls.part(plan.directory(), plan.owner(), plan.cgroups())
}

/// Starts the task.
fn begin(plan: &Plan<'_>, channel: BorrowedFd<'_>) -> Result<(u32, SignalFd), Trouble> {
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC)
        .map_err(|errno| (Step::Channel, errno as i32))?;
    let mut trouble = None;
    let how = sys::Clone { borrows: true, namespaces: 0 };
    let mut cloner = Cloner::new().map_err(|failure| (Step::Clone, failure.errno))?;
    let task = cloner.spawn(how, None, &mut |_| {
        trouble = Some(plan.become_task(channel));
        1
    });
    let task = task.map_err(|errno| (Step::Clone, errno))?;
    match trouble {
        Some(trouble) => Err(trouble),
        None if gave_back_as_program(task) => Ok((task, signals)),
        None => Err((Step::Died, sys::reap(task).map_or(0, |reaped| reaped.status & 0x7f))),
    }
}

/// Users, mounts and `/proc`, as far as this process was given namespaces for them.
pub(super) fn part(namespaces: Namespaces, maps: &Maps) -> Result<(), Trouble> {
    if namespaces.user {
        maps.write()?;
    }
    if namespaces.mount {
        part_mounts().map_err(|errno| (Step::Mounts, errno.raw_os_error()))?;
    }
    if namespaces.mount && namespaces.pid {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let failed = |errno: rustix::io::Errno| (Step::Proc, errno.raw_os_error());
        mount(c"proc", c"/proc", c"proc", flags, None).map_err(failed)?;
    }
    Ok(())
}

/// Serves until the task or the keeper has ended.
pub(super) fn watch(task: u32, signals: &SignalFd, channel: BorrowedFd<'_>) {
    loop {
        let mut ready =
            [PollFd::new(signals, PollFlags::IN), PollFd::from_borrowed_fd(channel, PollFlags::IN)];
        if poll(&mut ready, None).is_err() {
            continue;
        }
        let [signal, word] = ready.map(|fd| !fd.revents().is_empty());
        if signal && !take_signal(signals, task, channel) {
            return;
        }
        if word && !take_word(task, channel) {
            return pass_on(task, libc::SIGKILL);
        }
    }
}

/// Takes one signal; false when the task has ended.
fn take_signal(signals: &SignalFd, task: u32, channel: BorrowedFd<'_>) -> bool {
    let Ok(Some(signal)) = signals.read_signal() else { return true };
    match signal.ssi_signo.cast_signed() {
        libc::SIGCHLD => reap(task, channel),
        other => {
            pass_on(task, other);
            true
        }
    }
}

/// Takes what the keeper says: a signal for the task, in one byte; false when the keeper is dead.
fn take_word(task: u32, channel: BorrowedFd<'_>) -> bool {
    take_word_for(task, None, channel)
}

/// The same for a task that may wait for the word to go on: it is told so by what `waits` is to it.
pub(super) fn take_word_for(
    task: u32,
    waits: Option<BorrowedFd<'_>>,
    channel: BorrowedFd<'_>,
) -> bool {
    let mut word = [0; WORD];
    match recv(channel, &mut word, RecvFlags::DONTWAIT) {
        Ok((0, _)) => false,
        Ok((WORD, _)) => {
            // Who has ended meanwhile is not there to be told.
            if let Some(waits) = waits {
                let _ = send(waits, &word, SendFlags::NOSIGNAL);
            }
            true
        }
        Ok(_) => {
            pass_on(task, i32::from(word[0]));
            true
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
        Err(_) => false,
    }
}

/// Sends a signal to the group of a process that was not collected yet, or to it alone as long as it has
/// made no group.
fn pass_on(task: u32, signal: i32) {
    let Ok(task) = i32::try_from(task) else { return };
    if sys::kill(-task, signal) == Err(libc::ESRCH) {
        // It may have ended, which is about to be seen.
        let _ = sys::kill(task, signal);
    }
}

/// Collects every child that has ended; false when the task was among them.
fn reap(task: u32, channel: BorrowedFd<'_>) -> bool {
    while let Ok(Some(pid)) = sys::ended_child() {
        if pid == task {
            // Before the number can be used again. Below a process 1 the rest ends anyway.
            pass_on(task, libc::SIGKILL);
        }
        let Ok(reaped) = sys::reap(pid) else { break };
        if pid == task {
            Report::Ended(reaped.status, reaped.max_rss_kib).send(channel);
            return false;
        }
    }
    true
}
