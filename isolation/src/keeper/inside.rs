//! A process beside a task: in its cgroups and its namespaces, so that what it finds is what the task
//! finds. A check of a task is one.
//!
//! Two processes are needed, for nobody enters a pid namespace but by having a child there: the
//! outer one, a copy of the keeper, stays in the keeper's namespaces, starts the inner one, passes
//! signals on, and tells the keeper how it ended. The outer one ends with either.
//!
//! A task that has its processes in common with others is such an inner process as well, with all else
//! of its own. A process beside a task that has processes of its own stands below a process 1, as a task
//! does, and the outer one only waits for that.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Signal, WaitOptions, getpid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::child::{Plan, Report, Trouble, became_program, gave_back_as_program};
use super::group::Common;
use super::init::{self, watch};
use super::protocol::{DESCRIPTORS, Namespaces, Step};
use super::stat::Stat;
use super::tasks::{Heard, hear};
use crate::sys::{self, Cloner};

/// Kinds of namespaces that a process 1 lends, in the order in which they are sent: the flag of
/// clone(2), the file, and what enters them. The mounts are entered last, the users first.
const KINDS: [(c_int, &str, LinkNameSpaceType); LENT_MAX] = [
    (libc::CLONE_NEWUSER, "/proc/self/ns/user", LinkNameSpaceType::User),
    (libc::CLONE_NEWPID, "/proc/self/ns/pid", LinkNameSpaceType::ProcessID),
    (libc::CLONE_NEWIPC, "/proc/self/ns/ipc", LinkNameSpaceType::InterProcessCommunication),
    (libc::CLONE_NEWUTS, "/proc/self/ns/uts", LinkNameSpaceType::HostNameAndNISDomainName),
    (libc::CLONE_NEWNET, "/proc/self/ns/net", LinkNameSpaceType::Network),
    (libc::CLONE_NEWCGROUP, "/proc/self/ns/cgroup", LinkNameSpaceType::ControlGroup),
    (libc::CLONE_NEWNS, "/proc/self/ns/mnt", LinkNameSpaceType::Mount),
];
/// Kinds of namespaces.
const LENT_MAX: usize = 7;
/// Descriptors of namespaces, of a task and of what it has in common with others, and a channel.
const KEPT_MAX: usize = LENT_MAX + LENT_MAX + 1;
/// How many of them the outer process enters by itself, for its child to be in.
const OUTER: usize = 2;

/// Standard input, output and error, as an agent sends them.
pub(super) type Given = [OwnedFd; DESCRIPTORS];

/// The namespaces of a task, as far as it has any of its own.
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// By their place in `KINDS`.
    namespaces: [Option<OwnedFd>; LENT_MAX],
}

/// All namespaces that a process has of its own, as flags of clone(2).
pub(super) fn all(plan: &Plan<'_>) -> c_int {
    super::tasks::flags(plan.namespaces(), plan.walls.flags()).namespaces | plan.walls.later()
}

/// Tells the keeper that the task runs, and lends it the namespaces of this process, which is
/// process 1 of them: nobody else may open those of a process that hides its memory.
pub(super) fn lend(parts: c_int, channel: BorrowedFd<'_>) {
    let wanted = KINDS.iter().filter(|(flag, ..)| parts & flag != 0);
    let own: Result<Vec<OwnedFd>, Errno> = wanted
        .map(|(_, path, _)| open(*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))
        .collect();
    // All of them or none: their order says which is which.
    send_started(&own.unwrap_or_default(), channel);
}

/// Tells the keeper that the task runs, with what it lends.
fn send_started(own: &[OwnedFd], channel: BorrowedFd<'_>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LENT_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let lent: Vec<BorrowedFd<'_>> = own.iter().map(AsFd::as_fd).collect();
    if lent.is_empty() || !control.push(SendAncillaryMessage::ScmRights(&lent)) {
        return Report::Started.send(channel);
    }
    let bytes = Report::Started.to_bytes();
    // Nobody is there to be told if that fails: the keeper is dead.
    let _ = sendmsg(channel, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
}

/// Takes one record from a channel, or what has arrived on a stream: its bytes, how many, and
/// descriptors that came with it.
pub(super) fn take(
    channel: impl AsFd,
    bytes: &mut [u8],
    flags: RecvFlags,
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LENT_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let mut taken = recvmsg(&channel, &mut [IoSliceMut::new(bytes)], &mut control, flags);
    if taken.as_ref().is_err_and(|errno| *errno == Errno::CONNRESET) {
        // It ended without reading what it was told last, which is said once, before its own last
        // word.
        taken = recvmsg(&channel, &mut [IoSliceMut::new(bytes)], &mut control, flags);
    }
    let taken = taken?;
    if taken.flags.contains(ReturnFlags::CTRUNC) {
        // There was no room for all of them, and which is which is known by their order alone.
        return Err(Errno::MFILE);
    }
    let mut lent = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            lent.extend(descriptors);
        }
    }
    Ok((taken.bytes, lent))
}

impl Lent {
    /// What [`lend`] sent for a task that was given these; none of it when some is missing.
    pub(super) fn of(parts: c_int, lent: Vec<OwnedFd>) -> Option<Self> {
        let mut lent = lent.into_iter();
        let mut all = Self::default();
        for ((flag, ..), at) in KINDS.iter().zip(&mut all.namespaces) {
            if parts & flag != 0 {
                *at = Some(lent.next()?);
            }
        }
        Some(all)
    }

    fn kept(&self, common: &Common<'_>, channel: BorrowedFd<'_>) -> [i32; KEPT_MAX] {
        let mut kept = [channel.as_raw_fd(); KEPT_MAX];
        let all = common.0.iter().copied().chain([self]);
        let lent = all.flat_map(|lent| lent.namespaces.iter().flatten().map(AsRawFd::as_raw_fd));
        kept.iter_mut().zip(lent).for_each(|(kept, lent)| *kept = lent);
        // The last one is nobody else's: there are as many namespaces as come before it.
        kept
    }

    /// Enters all of it.
    pub(super) fn enter_all(&self) -> Result<(), Trouble> {
        self.enter(0..LENT_MAX)
    }

    /// Enters those of `KINDS` in this range.
    fn enter(&self, kinds: Range<usize>) -> Result<(), Trouble> {
        let kinds = KINDS.iter().zip(&self.namespaces).take(kinds.end).skip(kinds.start);
        for ((.., kind), lent) in kinds {
            let Some(lent) = lent else { continue };
            let entered = move_into_link_name_space(lent.as_fd(), Some(*kind));
            entered.map_err(|errno| (Step::Inside, errno.raw_os_error()))?;
        }
        Ok(())
    }
}

/// Whose namespaces a process enters, and what it has of its own.
#[derive(Debug)]
pub(super) struct Place<'p> {
    /// The first process there.
    pub(super) of: u32,
    /// The namespaces.
    pub(super) lent: &'p Lent,
    pub(super) own: Own,
}

/// What a process has of its own that enters namespaces.
#[derive(Clone, Copy, Debug)]
pub(super) enum Own {
    /// Nothing.
    Nothing,
    /// Processes, and mounts for that; it is in these namespaces then, as flags of clone(2).
    Processes(c_int),
    /// All that a task has but for users and processes.
    Rest,
}

/// What the outer process does; the result is its status.
pub(super) fn run(
    plan: &Plan<'_>,
    place: &Place<'_>,
    stdio: Option<&[OwnedFd; DESCRIPTORS]>,
    common: &Common<'_>,
    channel: BorrowedFd<'_>,
    joined: bool,
) -> i32 {
    let kept = place.lent.kept(common, channel);
    let prepared =
        stdio.map_or(Ok(()), take_over).and_then(|()| prepare(plan, place.lent, &kept, joined));
    let started = prepared.and_then(|()| match place.own {
        Own::Nothing => beside(plan, place, channel).map(Some),
        Own::Rest => among(plan, place, common, channel).map(Some),
        Own::Processes(lends) => {
            above(plan, place, (stdio.is_some(), lends), channel).map(|()| None)
        }
    });
    match started {
        Ok(Some(Started { inner, signals, lent })) => {
            // Who reads what the inner one writes is to see when it closes that.
            let _ = stdio.map(|_| let_go());
            send_started(&lent, channel);
            watch(inner, &signals, channel);
            // When the keeper is dead it was not collected yet, and the end of its namespace waits for that.
            sys::wait_for_child(inner);
            0
        }
        Ok(None) => 0,
        Err(trouble) => {
            Report::Failed(trouble).send(channel);
            1
        }
    }
}

/// An inner process that runs, and what it lends.
struct Started {
    inner: u32,
    signals: SignalFd,
    lent: Vec<OwnedFd>,
}

/// Brings the outer process to where its child begins.
fn prepare(
    plan: &Plan<'_>,
    lent: &Lent,
    kept: &[i32; KEPT_MAX],
    joined: bool,
) -> Result<(), Trouble> {
    plan.join(joined)?;
    plan.set_badness()?;
    sys::close_all_but_on_any_kernel(*kept);
    // For people who look at the process list; nothing depends on it.
    let _ = rustix::thread::set_name(c"mesita-inside");
    rustix::process::setsid().map_err(|errno| (Step::Session, errno.raw_os_error()))?;
    lent.enter(0..OUTER)
}

/// All signals, of which none was lost: they were blocked before this process was made.
fn signals() -> Result<SignalFd, Trouble> {
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC);
    signals.map_err(|errno| (Step::Channel, errno as i32))
}

fn cloner() -> Result<Cloner, Trouble> {
    Cloner::new().map_err(|failure| (Step::Clone, failure.errno))
}

/// Why there is no process in the namespace that `of` is the first one of.
fn refused(errno: i32, of: u32) -> Trouble {
    match errno {
        // So says the kernel as well when the first process of the namespace ends.
        libc::ENOMEM if Stat::of(of).is_none_or(|stat| stat.is_ending) => (Step::NotRunning, 0),
        errno => (Step::Clone, errno),
    }
}

/// Why one did not become a program that has ended before.
fn died(inner: u32) -> Trouble {
    (Step::Died, sys::reap(inner).map_or(0, |reaped| reaped.status & 0x7f))
}

/// Starts a process beside a task.
fn beside(plan: &Plan<'_>, place: &Place<'_>, channel: BorrowedFd<'_>) -> Result<Started, Trouble> {
    let signals = signals()?;
    let mut trouble = None;
    let how = sys::Clone { borrows: true, namespaces: 0 };
    let inner = cloner()?.spawn(how, None, &mut |_| {
        // The outer one keeps the keeper's mounts: in its `/proc` it finds the inner one.
        let entered = place.lent.enter(OUTER..LENT_MAX);
        trouble = Some(entered.map_or_else(|trouble| trouble, |()| plan.become_task(channel)));
        1
    });
    let inner = inner.map_err(|errno| refused(errno, place.of))?;
    match trouble {
        Some(trouble) => Err(trouble),
        None if gave_back_as_program(inner) => Ok(Started { inner, signals, lent: Vec::new() }),
        None => Err(died(inner)),
    }
}

/// Starts a task among the processes of others.
fn among(
    plan: &Plan<'_>,
    place: &Place<'_>,
    common: &Common<'_>,
    channel: BorrowedFd<'_>,
) -> Result<Started, Trouble> {
    let signals = signals()?;
    let (ours, theirs) = super::tasks::channel()?;
    let own = Namespaces { user: false, pid: false, mount: !plan.walls.shares_memory() };
    let how = super::tasks::flags(own, plan.walls.made());
    let inner = cloner()?.spawn(how, None, &mut |_| {
        let trouble = match common.enter(plan).and_then(|()| init::furnish(plan)) {
            Ok(()) => {
                lend(all(plan), theirs.as_fd());
                plan.become_task(theirs.as_fd())
            }
            Err(trouble) => trouble,
        };
        Report::Failed(trouble).send(theirs.as_fd());
        1
    });
    let inner = inner.map_err(|errno| refused(errno, place.of))?;
    drop(theirs);
    match settle(inner, &ours, channel) {
        Ok(lent) => Ok(Started { inner, signals, lent }),
        Err(trouble) => {
            let _ = i32::try_from(inner).map(|pid| sys::kill(pid, libc::SIGKILL));
            Err(trouble)
        }
    }
}

/// Waits until the inner process is the task's program, or never will be: what it lends.
fn settle(inner: u32, ours: &OwnedFd, channel: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Trouble> {
    let mut lent = Vec::new();
    loop {
        let mut ready =
            [PollFd::new(ours, PollFlags::IN), PollFd::from_borrowed_fd(channel, PollFlags::IN)];
        if poll(&mut ready, None).is_err() {
            continue;
        }
        let [report, word] = ready.map(|fd| !fd.revents().is_empty());
        if word && !init::take_word_for(inner, Some(ours.as_fd()), channel) {
            return Err((Step::Channel, libc::EPIPE));
        }
        match if report { hear(ours, RecvFlags::DONTWAIT) } else { Heard::Nothing } {
            Heard::Started(own) => lent = own,
            Heard::Report(Report::Failed(trouble)) => return Err(trouble),
            Heard::Report(Report::Waits) => Report::Waits.send(channel),
            Heard::Closed if became_program(inner) => return Ok(lent),
            Heard::Closed => return Err(died(inner)),
            Heard::Report(_) | Heard::Nothing => {}
        }
    }
}

/// Has a process 1 of a pid namespace within the one that was entered, and waits for its end: it tells
/// the keeper all there is to tell.
fn above(
    plan: &Plan<'_>,
    place: &Place<'_>,
    (given, lends): (bool, c_int),
    channel: BorrowedFd<'_>,
) -> Result<(), Trouble> {
    // Who has entered a pid namespace for its children alone makes none in there: one of them does, and
    // is gone then.
    let mut cloner = [cloner()?, cloner()?];
    let [between, first] = &mut cloner;
    let mut made = Ok(());
    let how = sys::Clone { borrows: true, namespaces: 0 };
    let between = between.spawn(how, None, &mut |_| {
        made = place.lent.enter(OUTER..LENT_MAX).and_then(|()| {
            let namespaces = libc::CLONE_PARENT | libc::CLONE_NEWPID;
            let how = sys::Clone { borrows: false, namespaces };
            let child = &mut |_| init::run_within(plan, (given, lends), channel);
            first.spawn(how, None, child).map(|_| ()).map_err(|errno| refused(errno, place.of))
        });
        0
    });
    between.map_err(|errno| refused(errno, place.of))?;
    made?;
    if given {
        let _ = let_go();
    }
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            // Killed with the namespace around it: so does this one end, for it told nobody.
            Ok(Some((_, status))) if status.signaled() => {
                let _ = rustix::process::kill_process(getpid(), Signal::KILL);
            }
            Err(Errno::CHILD) => return Ok(()),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Has what its process is to read from and write to where that expects it.
pub(super) fn take_over(stdio: &[OwnedFd; DESCRIPTORS]) -> Result<(), Trouble> {
    let [input, output, error] = stdio;
    let taken = rustix::stdio::dup2_stdin(input)
        .and_then(|()| rustix::stdio::dup2_stdout(output))
        .and_then(|()| rustix::stdio::dup2_stderr(error));
    taken.map_err(|errno| (Step::Stdio, errno.raw_os_error()))
}

/// Gives that up again, for nothing.
pub(super) fn let_go() -> Result<(), Errno> {
    let null = open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_is_known_by_its_order_and_nothing_is_taken_for_another() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let all = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
        let lent = Lent::of(all, vec![null(), null()]).unwrap();
        let has: Vec<bool> = lent.namespaces.iter().map(Option::is_some).collect();
        assert_eq!(has, [false, true, false, false, false, false, true]);
        assert!(Lent::of(all, vec![null()]).is_none());
        assert!(Lent::of(0, Vec::new()).is_some());
    }
}
