//! The keeper's tasks: starting them, signalling them, and seeing them end.
//!
//! A task is `Starting` from the clone until its channel says that the program runs or will not:
//! the channel closes when a program is executed, and carries a [`Report`] otherwise. A child that
//! stays the keeper's own user borrows the keeper's memory, which costs a third of a fork, and the
//! keeper stands still meanwhile. A child that becomes somebody else, or gets namespaces, is
//! forked: on its way it opens what that user controls, and a file system that never answers, or a
//! memory cgroup that is killed as a whole, must not take the keeper along.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_int};
use std::ops::Bound;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use mesita_core::wire::task::Exit;
use mesita_core::wire::{ContainerId, Session};
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, send, socketpair};

use super::child::{Origin, Plan, REPORT, Report, Trouble, became_program};
use super::exits::Exits;
use super::group::{Common, Commons, Groups};
use super::init;
use super::inside::{self, Given, Lent, Own, Place};
use super::protocol::{
    self, Asked, CGROUPS_MAX, Ended, Enter, Held, Launch, Left, Namespaces, Refused, Reply, Stdio,
    Step,
};
use super::wall::Wall;
use crate::cgroups;
use crate::sys::{self, Cloner, Failure, Linux, Reaped};

/// A task that a SIGKILL did not end is killed again after this, and has at least this long to end
/// by itself when it was told to stop and has any grace at all.
const KILL_AGAIN_US: u64 = 1_000_000;

/// Ends of terminals that are kept: each is a descriptor, and takes one of the system's terminals. So many
/// can be lent to an agent that begins before it reads the first.
const TERMINALS_MAX: usize = 100;

/// What a process beside a task has of its own.
#[derive(Debug)]
pub(super) struct More<'m> {
    /// Where it works below its launch's directory.
    pub(super) below: &'m CStr,
    /// What it reads from and writes to.
    pub(super) on: On,
    /// What is put up around it.
    pub(super) walls: &'m [Wall],
}

/// What a process reads from and writes to.
#[derive(Debug)]
pub(super) struct On {
    pub(super) stdio: Stdio,
    /// The descriptors of that, if they came along.
    pub(super) given: Option<Given>,
}

impl On {
    /// Files, as its launch says.
    pub(super) const FILES: Self = Self { stdio: Stdio::Files, given: None };
}

/// A container that the keeper holds.
#[derive(Debug)]
struct Task {
    left: Left,
    state: State,
    /// To the process while it starts, and to process 1 of a namespace as long as it lives.
    channel: Option<OwnedFd>,
    namespaced: bool,
    /// The namespaces of its own, as flags of clone(2), and what its process 1 lent of them once it
    /// ran.
    parts: c_int,
    lent: Option<Lent>,
    /// The other end of its terminal, for the agent that comes next.
    terminal: Option<OwnedFd>,
    /// What was added to its `oom_score_adj`.
    badness: i16,
    /// The container that it is inside of, beside its task.
    inside: Option<ContainerId>,
    /// The group whose processes it is among.
    group: Option<ContainerId>,
    /// What those are inside of that it has something in common with.
    common: Option<ContainerId>,
    /// It borrowed the keeper's memory on its way.
    borrowed: bool,
    /// It waits for its agent's word before it becomes the program, or will.
    waits: bool,
    /// It is in the file, for the keeper that comes after this one.
    recorded: bool,
    /// Bit n: it has a directory in `parents[n]`,
    cgroups: u16,
    /// in the one of this container, if it is inside of one.
    around: Option<ContainerId>,
    stop_after_us: u64,
    grace_us: u64,
    /// When it was told to stop; 0 = it was not.
    told_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Running,
    Ended(Ended),
    /// Another keeper's.
    Left,
}

/// Every container, and what it takes to make more.
#[derive(Debug)]
pub(super) struct Tasks {
    held: BTreeMap<ContainerId, Task>,
    containers_max: u32,
    exits: Exits,
    groups: Groups,
    commons: Commons,
    cloner: Cloner,
    origin: Origin,
    /// The directories that cgroups of containers were in, with their hierarchy's kind.
    parents: heapless::Vec<PathBuf, CGROUPS_MAX>,
    newest: Session,
    /// When the agent last heard from its master.
    contact_us: u64,
    /// Everything is to end.
    ending: bool,
    /// What the agent is to be told.
    pub(super) said: Vec<Reply>,
}

impl Tasks {
    /// The table of a keeper that begins with what an earlier one left.
    pub(super) fn new(
        exits: Exits,
        held: &[Held],
        containers_max: u32,
        origin: Origin,
    ) -> Result<Self, Failure> {
        let held = held.iter().filter_map(|&held| {
            let (left, state) = match held {
                Held::Left(left) => (left, State::Left),
                Held::Ended(ended) => (Left::of(&ended), State::Ended(ended)),
                Held::Starting { .. } | Held::Running { .. } => return None,
            };
            Some((left.container, Task::found(left, state)))
        });
        Ok(Self {
            held: held.collect(),
            containers_max,
            exits,
            groups: Groups::default(),
            commons: Commons::default(),
            cloner: Cloner::new()?,
            origin,
            parents: heapless::Vec::new(),
            newest: Session::default(),
            contact_us: 0,
            ending: false,
            said: Vec::new(),
        })
    }

    /// True when there is nothing that anybody could ask for.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Tasks that are alive.
    pub(super) fn running(&self) -> u32 {
        let alive = self.held.values().filter(|task| task.is_alive()).count();
        u32::try_from(alive).unwrap_or(u32::MAX)
    }

    /// The agent's session as it now is, and when it last heard from its master.
    pub(super) fn renew(&mut self, session: Session, contact_us: u64) {
        self.newest = self.newest.max(session);
        self.contact_us = self.contact_us.max(contact_us);
    }

    /// What is held, from behind `after` on, at most `max`.
    pub(super) fn list(&self, after: Option<ContainerId>, max: usize) -> Vec<Held> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tasks = self.held.range((from, Bound::Unbounded)).take(max);
        tasks.map(|(_, task)| task.shown()).collect()
    }

    /// The channels that will tell whether a program runs.
    pub(super) fn starting(&self) -> impl Iterator<Item = (ContainerId, &OwnedFd)> {
        let starting = self.held.iter().filter(|(_, task)| task.state == State::Starting);
        starting.filter_map(|(&container, task)| Some((container, task.channel.as_ref()?)))
    }

    /// Starts a task, which waits for a word before it becomes the program if `waits`. What becomes of it is
    /// said now or later.
    pub(super) fn launch(&mut self, launch: &Launch, walls: &[Wall], on: On, waits: bool) {
        if let Err(trouble) = self.try_launch(launch, walls, on, waits) {
            self.leave_groups();
            self.refuse(launch.container, Asked::Launch, trouble);
        }
    }

    fn try_launch(
        &mut self,
        launch: &Launch,
        walls: &[Wall],
        on: On,
        waits: bool,
    ) -> Result<(), Trouble> {
        self.admit(launch)?;
        let stdio = on.stdio;
        let (given, terminal) = self.ends(on)?;
        let plan = Plan::new(launch, walls, &self.origin)?.with(c"", stdio).waiting(waits);
        let (cgroups, around) = self.places_of(launch)?;
        let unified = launch.cgroups.iter().find(|cgroup| cgroup.unified);
        let unified = unified.map(|cgroup| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = open(cgroup.directory.as_c_str(), flags, Mode::empty());
            directory.map_err(|errno| (Step::Cgroup, errno.raw_os_error()))
        });
        let unified = unified.transpose()?;
        let (ours, theirs) = channel()?;
        let from_us = sys::boottime_us();
        if [launch.deadline_us, self.silent_us(launch)].iter().any(|&us| us != 0 && from_us >= us) {
            return Err((Step::Late, 0));
        }
        let group = plan.walls.group();
        let among = group.map(|of| self.groups.enter(of, &plan, &mut self.cloner)).transpose()?;
        let common = self.commons.of(&plan, &mut self.cloner)?;
        let how = if among.is_some() { sys::Clone::default() } else { how(&plan) };
        let child = &mut |joined| match &among {
            Some(place) => {
                inside::run(&plan, place, given.as_ref(), &common, theirs.as_fd(), joined)
            }
            None => child(&plan, given.as_ref(), &common, theirs.as_fd(), joined),
        };
        let pid = self.cloner.spawn(how, unified.as_ref().map(AsFd::as_fd), child);
        let pid = pid.map_err(|errno| (Step::Clone, errno))?;
        drop(theirs);
        let (container, attempt) = (launch.container, launch.attempt);
        let to_us = sys::boottime_us();
        let left = Left { container, attempt, pid, from_us, to_us };
        let task = Task {
            channel: Some(ours),
            namespaced: launch.namespaces.pid,
            parts: inside::all(&plan),
            terminal,
            badness: launch.oom_score_adj,
            group,
            common: plan.walls.common().next().map(|(of, _)| of),
            borrowed: how.borrows,
            waits,
            recorded: false,
            cgroups,
            around,
            stop_after_us: launch.stop_after_us,
            grace_us: launch.grace_us,
            ..Task::found(left, State::Starting)
        };
        self.held.insert(container, task);
        self.settle(container);
        self.record(container);
        Ok(())
    }

    /// Starts a process beside a task. What becomes of it is said now or later.
    pub(super) fn enter(&mut self, enter: &Enter, more: More<'_>) {
        if let Err(trouble) = self.try_enter(enter, more) {
            self.refuse(enter.launch.container, Asked::Launch, trouble);
        }
    }

    fn try_enter(&mut self, enter: &Enter, more: More<'_>) -> Result<(), Trouble> {
        let More { below, on, walls } = more;
        let stdio = on.stdio;
        let (given, terminal) = self.ends(on)?;
        let launch = &enter.launch;
        self.admit_new(launch.container)?;
        let beside = self.held.get(&enter.inside).ok_or((Step::Unknown, 0))?;
        // Who is beside a task and has nothing of its own is nothing to be inside of.
        if beside.state != State::Running || (beside.inside.is_some() && beside.parts == 0) {
            return Err((Step::NotRunning, 0));
        }
        let none = Lent::default();
        let lent = match &beside.lent {
            Some(lent) => lent,
            None if beside.parts == 0 => &none,
            None => return Err((Step::Inside, 0)),
        };
        let plan = Plan::new(launch, walls, &self.origin)?.with(below, stdio).beside();
        let plan = plan.no_better_than(beside.badness, &self.origin);
        let (ours, theirs) = channel()?;
        let from_us = sys::boottime_us();
        let how = sys::Clone { borrows: false, namespaces: 0 };
        let own = walls.contains(&Wall::Processes);
        let parts = if own { beside.parts | libc::CLONE_NEWPID | libc::CLONE_NEWNS } else { 0 };
        let own = if own { Own::Processes(parts) } else { Own::Nothing };
        let place = Place { of: beside.left.pid, lent, own };
        let none = Common::default();
        let child =
            &mut |joined| inside::run(&plan, &place, given.as_ref(), &none, theirs.as_fd(), joined);
        let pid = self.cloner.spawn(how, None, child).map_err(|errno| (Step::Clone, errno))?;
        drop(theirs);
        let (container, attempt) = (launch.container, launch.attempt);
        let left = Left { container, attempt, pid, from_us, to_us: sys::boottime_us() };
        let task = Task {
            channel: Some(ours),
            namespaced: true,
            inside: Some(enter.inside),
            parts,
            terminal,
            ..Task::found(left, State::Starting)
        };
        self.held.insert(container, task);
        Ok(())
    }

    /// What a process gets of the descriptors that came along, and the end of its terminal that stays
    /// here.
    fn ends(&self, on: On) -> Result<(Option<Given>, Option<OwnedFd>), Trouble> {
        let failed = |error: std::io::Error| (Step::Stdio, error.raw_os_error().unwrap_or(0));
        match (on.stdio, on.given) {
            (Stdio::Files, _) => Ok((None, None)),
            (_, None) => Err((Step::Stdio, libc::EBADF)),
            (Stdio::Kept, _) if self.terminals().count() >= TERMINALS_MAX => {
                Err((Step::Stdio, libc::EMFILE))
            }
            (Stdio::Kept, Some([terminal, end, _])) => {
                let output = terminal.try_clone().map_err(failed)?;
                let error = terminal.try_clone().map_err(failed)?;
                Ok((Some([terminal, output, error]), Some(end)))
            }
            (Stdio::Given | Stdio::Terminal, given) => Ok((given, None)),
        }
    }

    /// The ends of terminals that are kept.
    pub(super) fn terminals(&self) -> impl Iterator<Item = (ContainerId, &OwnedFd)> {
        let held = self.held.iter();
        held.filter_map(|(&container, task)| Some((container, task.terminal.as_ref()?)))
    }

    /// Writes a task down as soon as it is known to be worth it: at the latest when the keeper
    /// turns to something else while the task still starts.
    fn record(&mut self, container: ContainerId) {
        if let Some(task) = self.held.get_mut(&container).filter(|task| !task.recorded) {
            task.recorded = true;
            note(self.exits.started(task.left));
        }
    }

    /// Everything that can be said about a launch by looking at the table.
    fn admit(&mut self, launch: &Launch) -> Result<(), Trouble> {
        if !self.ending && launch.session < self.newest {
            return Err((Step::Stale, 0));
        }
        self.admit_new(launch.container)?;
        self.newest = launch.session;
        Ok(())
    }

    /// When a task that is not there yet would have been told to stop, as its agent does not hear
    /// from its master; 0 = never, as far as is known.
    const fn silent_us(&self, launch: &Launch) -> u64 {
        if launch.stop_after_us == 0 || self.contact_us == 0 {
            return 0;
        }
        self.contact_us.saturating_add(launch.stop_after_us)
    }

    /// Whether there is room for one more container, of this id.
    fn admit_new(&self, container: ContainerId) -> Result<(), Trouble> {
        let refuse = |step| Err((step, 0));
        if self.ending {
            return refuse(Step::Ending);
        }
        if self.held.contains_key(&container) {
            return refuse(Step::Known);
        }
        if u32::try_from(self.held.len()).is_ok_and(|held| held < self.containers_max) {
            Ok(())
        } else {
            refuse(Step::Full)
        }
    }

    /// Which of the known parents its cgroups are in, and inside of which container; new ones become
    /// known.
    fn places_of(&mut self, launch: &Launch) -> Result<(u16, Option<ContainerId>), Trouble> {
        let name = launch.container.to_string();
        let (mut places, mut inside) = (0, None);
        for cgroup in &launch.cgroups {
            let directory = super::path_of(&cgroup.directory);
            let named = directory.file_name().is_some_and(|of| of == name.as_str());
            let nonsense = (Step::Request, libc::EINVAL);
            let parent = directory.parent().filter(|_| named).ok_or(nonsense)?;
            let around = parent.file_name().and_then(|name| ContainerId::parse(name.to_str()?));
            let parent = match around {
                Some(_) => parent.parent().ok_or(nonsense)?,
                None => parent,
            };
            inside = inside.or(around);
            let known = self.parents.iter().position(|known| known == parent);
            let place = match known {
                Some(place) => place,
                None => {
                    let added = self.parents.push(parent.to_owned());
                    added.map_err(|_| (Step::Request, libc::E2BIG))?;
                    self.parents.len() - 1
                }
            };
            places |= 1 << place;
        }
        Ok((places, inside))
    }

    /// Looks whether a starting task runs now, or never will.
    pub(super) fn settle(&mut self, container: ContainerId) {
        let Some(task) = self.held.get_mut(&container) else { return };
        let Some(channel) = task.channel.as_ref().filter(|_| task.state == State::Starting) else {
            return;
        };
        match (hear(channel, RecvFlags::DONTWAIT), task.namespaced) {
            (Heard::Report(Report::Failed(trouble)), _) => self.failed(container, trouble),
            (Heard::Report(Report::Waits), _) => {
                let Left { attempt, pid, .. } = task.left;
                self.said.push(Reply::Waits { container, attempt, pid });
            }
            (Heard::Started(lent), _) => {
                task.lent = Lent::of(task.parts, lent);
                self.runs(container);
            }
            (Heard::Closed, false) if task.borrowed || became_program(task.left.pid) => {
                task.channel = None;
                self.runs(container);
            }
            // It is gone without a word, and about to be collected.
            (Heard::Closed, _) => {}
            (Heard::Nothing | Heard::Report(Report::Started | Report::Ended(..)), _) => {}
        }
    }

    /// The program runs: on record first, then told.
    fn runs(&mut self, container: ContainerId) {
        self.record(container);
        let Some(task) = self.held.get_mut(&container) else { return };
        task.state = State::Running;
        let Left { attempt, pid, from_us, .. } = task.left;
        self.said.push(Reply::Launched { container, attempt, pid, started_us: from_us });
    }

    /// Has a task that waits for it become its program, unless it is later than that then. One that does not
    /// wait any more has told why.
    pub(super) fn go(&mut self, container: ContainerId, deadline_us: u64) {
        let Some(task) = self.held.get_mut(&container).filter(|task| task.is_waiting()) else {
            return;
        };
        task.waits = false;
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // Who has ended is about to be collected.
        let _ = task.channel.as_ref().map(|to| send(to, &deadline_us.to_le_bytes(), flags));
    }

    /// Ends what waits for the word of an agent that is gone: nobody knows what became of what that
    /// waited for.
    pub(super) fn end_waiting(&mut self) {
        let waiting = self.held.iter().filter(|(_, task)| task.is_waiting());
        let waiting: Vec<_> = waiting.map(|(&container, _)| container).collect();
        for container in waiting {
            self.kill(container);
            self.failed(container, (Step::Died, libc::SIGKILL));
        }
    }

    /// The program will not run. Its process ends by itself and is collected as nobody's.
    fn failed(&mut self, container: ContainerId, trouble: Trouble) {
        let failed = self.held.remove(&container);
        self.leave_groups();
        if failed.is_some_and(|task| task.recorded && task.inside.is_none()) {
            note(self.exits.forgotten(container));
            self.shorten();
        }
        self.refuse(container, Asked::Launch, trouble);
    }

    /// Sends a signal to a task.
    pub(super) fn signal(&mut self, container: ContainerId, signal: u8) {
        let sent = match self.held.get(&container) {
            _ if !(1..=64).contains(&signal) => Err((Step::Signal, libc::EINVAL)),
            None => Err((Step::Unknown, 0)),
            Some(task) if !task.is_alive() => Err((Step::NotRunning, 0)),
            Some(task) => task.signal(signal).map_err(|errno| (Step::Signal, errno)),
        };
        if let Err(trouble) = sent {
            self.refuse(container, Asked::Signal, trouble);
        }
    }

    /// Lets go of a container that has ended, or that an earlier keeper left.
    pub(super) fn forget(&mut self, container: ContainerId) {
        match self.held.get(&container) {
            None => {}
            Some(task) if task.is_alive() => {
                self.refuse(container, Asked::Forget, (Step::Running, 0));
            }
            Some(_) => {
                let forgotten = self.held.remove(&container);
                if forgotten.is_some_and(|task| task.inside.is_none()) {
                    note(self.exits.forgotten(container));
                    self.shorten();
                }
            }
        }
    }

    /// Keeps the file short.
    fn shorten(&mut self) {
        if self.held.is_empty() {
            note(self.exits.clear());
        } else if self.exits.is_long() {
            let own = self.held.values().filter(|task| task.inside.is_none());
            let held: Vec<_> = own.map(Task::kept).collect();
            note(self.exits.rewrite(&held));
        }
    }

    /// Collects every child that has ended; true when there are none at all any more.
    pub(super) fn reap(&mut self) -> bool {
        loop {
            let pid = match sys::ended_child() {
                Ok(Some(pid)) => pid,
                Ok(None) => return false,
                Err(_) => return true,
            };
            self.groups.ended(pid);
            let of = self.held.iter().find(|(_, task)| task.is_alive() && task.left.pid == pid);
            let container = of.map(|(&container, task)| {
                // Before the number can be used again: what is left of the task's group ends
                // with its leader. In a namespace the kernel has seen to that.
                if !task.namespaced {
                    let _ = task.signal_group(libc::SIGKILL);
                }
                container
            });
            // As long as it is there to be looked at.
            container.into_iter().for_each(|container| self.settle(container));
            let Ok(reaped) = sys::reap(pid) else { return false };
            container.into_iter().for_each(|container| self.ended(container, reaped));
        }
    }

    /// A task's process was collected.
    fn ended(&mut self, container: ContainerId, reaped: Reaped) {
        // A launch that has failed is not held any more.
        let Some(task) = self.held.get_mut(&container) else { return };
        if task.state == State::Starting {
            return self.failed(container, (Step::Died, reaped.status & 0x7f));
        }
        let of_task = task.channel.take().and_then(|channel| last_word(&channel));
        task.terminal = None;
        let (status, max_rss_kib) = of_task.unwrap_or((reaped.status, reaped.max_rss_kib));
        let (mut exit, core) = exit_of(status);
        if task.namespaced && of_task.is_none() && matches!(exit, Exit::Code(_)) {
            // Process 1 gave up, so this is not the task's status.
            exit = Exit::Unseen;
        }
        let Left { attempt, .. } = task.left;
        let ended = Ended {
            container,
            attempt,
            exit,
            core,
            user_us: reaped.user_us,
            system_us: reaped.system_us,
            max_rss_kib,
            ended_us: sys::boottime_us(),
        };
        task.state = State::Ended(ended);
        task.lent = None;
        if task.inside.is_none() {
            note(self.exits.ended(ended));
        }
        self.said.push(Reply::Ended(ended));
        self.end_beside(container);
        self.leave_groups();
        if self.ending || self.held.get(&container).is_some_and(|task| task.told_us != 0) {
            self.kill_cgroups(container);
        }
    }

    /// Ends groups that no task is in any more.
    fn leave_groups(&mut self) {
        let held = &self.held;
        self.groups.keep(|of| held.values().any(|task| task.is_alive() && task.group == Some(of)));
        self.commons
            .keep(|of| held.values().any(|task| task.is_alive() && task.common == Some(of)));
    }

    /// Ends what runs beside a task that has ended.
    fn end_beside(&self, container: ContainerId) {
        let beside = self.held.values().filter(|task| task.inside == Some(container));
        for task in beside.filter(|task| task.is_alive()) {
            let _ = task.signal(libc::SIGKILL.unsigned_abs().try_into().unwrap_or(9));
        }
    }

    /// When the next task has to be told to stop, or killed because it did not.
    pub(super) fn next_deadline_us(&self) -> Option<u64> {
        let limited = self.held.values().filter(|task| task.is_alive() && task.stop_after_us != 0);
        limited.map(|task| task.deadline_us(self.contact_us)).min()
    }

    /// Stops the tasks whose agent has not heard from its master for too long.
    pub(super) fn stop_overdue(&mut self, now_us: u64) {
        let overdue = |task: &Task| {
            let limited = task.is_alive() && task.stop_after_us != 0;
            limited && task.deadline_us(self.contact_us) <= now_us
        };
        let overdue: Vec<_> =
            self.held.iter().filter(|(_, task)| overdue(task)).map(|(&id, _)| id).collect();
        for container in overdue {
            let Some(task) = self.held.get_mut(&container) else { continue };
            let first = task.told_us == 0;
            task.told_us = now_us;
            if first && task.grace_us != 0 {
                // It may have ended a moment ago; the signal then finds nobody.
                let _ = task.signal(libc::SIGTERM.unsigned_abs().try_into().unwrap_or(15));
            } else {
                self.kill(container);
            }
        }
    }

    /// Kills everything, and goes on until [`reap`](Self::reap) says that no child is left.
    pub(super) fn end_all(&mut self) {
        self.ending = true;
        let all: Vec<_> = self.held.keys().copied().collect();
        all.into_iter().for_each(|container| self.kill(container));
        self.kill_strays();
    }

    /// True from [`end_all`](Self::end_all) to [`ended_all`](Self::ended_all).
    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Nothing is alive any more.
    pub(super) fn ended_all(&mut self) {
        self.ending = false;
        self.said.push(Reply::AllEnded);
    }

    /// Kills children that are no task's leader: they were orphaned, and became the keeper's.
    pub(super) fn kill_strays(&self) {
        let own = std::process::id();
        for pid in children_of(own) {
            let _ = i32::try_from(pid).map(|pid| sys::kill(pid, libc::SIGKILL));
        }
    }

    fn kill(&self, container: ContainerId) {
        self.kill_cgroups(container);
        if let Some(task) = self.held.get(&container).filter(|task| task.is_alive()) {
            let _ = task.signal(libc::SIGKILL.unsigned_abs().try_into().unwrap_or(9));
        }
    }

    fn kill_cgroups(&self, container: ContainerId) {
        let Some(task) = self.held.get(&container) else { return };
        let at = cgroups::At { inside: task.around, id: container };
        let places = self.parents.iter().enumerate();
        let joined = places.filter(|(place, _)| task.cgroups & (1 << place) != 0);
        let directories: Vec<_> = joined.map(|(_, parent)| at.below(parent)).collect();
        let _ = cgroups::kill_once(&Linux, &directories);
    }

    /// Removes the cgroups of all containers, and the directories that they were in.
    pub(super) fn remove_cgroups(&self) {
        if let Err(alive) = cgroups::kill(&Linux, &self.parents) {
            super::log(&alive);
        }
        note(cgroups::remove(&Linux, &self.parents));
    }

    fn refuse(&mut self, container: ContainerId, asked: Asked, (step, errno): Trouble) {
        let trouble = protocol::Trouble { step, errno };
        self.said.push(Reply::Refused(Refused { container, asked, trouble }));
    }
}

impl Left {
    /// The name that is left of a task that ended under an earlier keeper.
    const fn of(ended: &Ended) -> Self {
        let Ended { container, attempt, .. } = *ended;
        Self { container, attempt, pid: 0, from_us: 0, to_us: 0 }
    }
}

impl Task {
    const fn found(left: Left, state: State) -> Self {
        Self {
            left,
            state,
            channel: None,
            namespaced: false,
            parts: 0,
            lent: None,
            terminal: None,
            badness: 0,
            inside: None,
            group: None,
            common: None,
            borrowed: false,
            waits: false,
            recorded: true,
            cgroups: 0,
            around: None,
            stop_after_us: 0,
            grace_us: 0,
            told_us: 0,
        }
    }

    const fn is_alive(&self) -> bool {
        matches!(self.state, State::Starting | State::Running)
    }

    fn is_waiting(&self) -> bool {
        self.waits && self.state == State::Starting
    }

    /// As an agent is told.
    fn shown(&self) -> Held {
        let Left { container, attempt, pid, from_us, .. } = self.left;
        match self.state {
            State::Starting => Held::Starting { container, attempt },
            State::Running => Held::Running { container, attempt, pid, started_us: from_us },
            State::Ended(ended) => Held::Ended(ended),
            State::Left => Held::Left(self.left),
        }
    }

    /// As it is written down for the next keeper.
    fn kept(&self) -> Held {
        match self.state {
            State::Ended(ended) => Held::Ended(ended),
            State::Starting | State::Running | State::Left => Held::Left(self.left),
        }
    }

    fn signal(&self, signal: u8) -> Result<(), i32> {
        let kills = i32::from(signal) == libc::SIGKILL;
        match &self.channel {
            // Who stands outside of a pid namespace does not end it with itself.
            Some(channel) if self.namespaced && (!kills || self.is_outside()) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                send(channel, &[signal], flags).map(|_| ()).map_err(|errno| errno.raw_os_error())
            }
            _ if self.namespaced => sys::kill(self.number(), i32::from(signal)),
            _ => self.signal_group(i32::from(signal)),
        }
    }

    /// Its process is not in the pid namespace of its program.
    const fn is_outside(&self) -> bool {
        self.inside.is_some() || self.group.is_some()
    }

    /// A child that has not made its session yet has no group of its own.
    fn signal_group(&self, signal: i32) -> Result<(), i32> {
        match sys::kill(-self.number(), signal) {
            Err(libc::ESRCH) if self.state == State::Starting => sys::kill(self.number(), signal),
            result => result,
        }
    }

    fn number(&self) -> i32 {
        i32::try_from(self.left.pid).unwrap_or(0)
    }

    /// When it is to be told to stop; once it was, when it is to be killed.
    fn deadline_us(&self, contact_us: u64) -> u64 {
        if self.told_us != 0 {
            return self.told_us.saturating_add(self.grace_us.max(KILL_AGAIN_US));
        }
        // A start is no word of the master. One that was never heard counts from there.
        let from_us = if contact_us == 0 { self.left.from_us } else { contact_us };
        from_us.saturating_add(self.stop_after_us)
    }
}

/// How the child of a plan is made.
fn how(plan: &Plan<'_>) -> sys::Clone {
    // Those that it finds shared memory in it gets from there.
    let mount = plan.namespaces().mount && !plan.walls.shares_memory();
    let namespaces = Namespaces { mount, ..plan.namespaces() };
    sys::Clone { borrows: plan.may_borrow(), ..flags(namespaces, plan.walls.made()) }
}

/// How a process with namespaces of its own is made.
pub(super) fn flags(namespaces: Namespaces, more: c_int) -> sys::Clone {
    let flag = |on, flag| if on { flag } else { 0 };
    let namespaces = more
        | flag(namespaces.user, libc::CLONE_NEWUSER)
        | flag(namespaces.pid, libc::CLONE_NEWPID)
        | flag(namespaces.mount, libc::CLONE_NEWNS);
    sys::Clone { borrows: false, namespaces }
}

/// What the child of a plan does; the result is its status if it does not become the task.
fn child(
    plan: &Plan<'_>,
    given: Option<&Given>,
    common: &Common<'_>,
    channel: std::os::fd::BorrowedFd<'_>,
    joined: bool,
) -> i32 {
    if plan.namespaces().pid {
        return init::run(plan, given, common, channel, joined);
    }
    let prepared = given
        .map_or(Ok(()), inside::take_over)
        .and_then(|()| plan.join(joined))
        .and_then(|()| plan.set_badness())
        .and_then(|()| init::part(plan.namespaces(), &plan.maps))
        .and_then(|()| plan.walls.part(plan.directory(), plan.owner(), plan.cgroups()));
    let trouble = prepared.map_or_else(|trouble| trouble, |()| plan.become_task(channel));
    Report::Failed(trouble).send(channel);
    1
}

/// A channel to a new process: the keeper's end, and its own.
pub(super) fn channel() -> Result<(OwnedFd, OwnedFd), Trouble> {
    let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let pair = socketpair(kind.0, kind.1, kind.2, None);
    pair.map_err(|errno| (Step::Channel, errno.raw_os_error()))
}

/// What a channel may say.
#[derive(Debug)]
pub(super) enum Heard {
    /// A record.
    Report(Report),
    /// That the program runs, with what its process 1 lends.
    Started(Vec<OwnedFd>),
    /// Nothing any more.
    Closed,
    /// Nothing so far, or nothing that makes sense.
    Nothing,
}

/// What a channel has to say by now.
pub(super) fn hear(channel: &OwnedFd, flags: RecvFlags) -> Heard {
    let mut bytes = [0; REPORT];
    match inside::take(channel, &mut bytes, flags) {
        Ok((REPORT, lent)) => match Report::of_bytes(&bytes) {
            Some(Report::Started) => Heard::Started(lent),
            report => report.map_or(Heard::Nothing, Heard::Report),
        },
        Ok((0, _)) => Heard::Closed,
        Err(rustix::io::Errno::CONNRESET) => Heard::Closed,
        Ok(_) | Err(_) => Heard::Nothing,
    }
}

/// How a task ended, by the process 1 above it: status and largest resident set in KiB.
fn last_word(channel: &OwnedFd) -> Option<(i32, u64)> {
    let mut word = None;
    while let Heard::Report(report) = hear(channel, RecvFlags::DONTWAIT) {
        if let Report::Ended(status, max_rss_kib) = report {
            word = Some((status, max_rss_kib));
        }
    }
    word
}

/// A status of wait(2) as the wire has it, and whether there is a core file.
fn exit_of(status: i32) -> (Exit, bool) {
    let signal = status & 0x7f;
    if signal == 0 {
        let code = u8::try_from(status >> 8 & 0xff).unwrap_or(u8::MAX);
        return (Exit::Code(code), false);
    }
    (Exit::Signal(u8::try_from(signal).unwrap_or(0)), status & 0x80 != 0)
}

/// The processes whose parent is `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| super::stat::Stat::of(pid).is_some_and(|of| of.parent == parent)).collect()
}

/// The keeper goes on without a file that it cannot write: ends are still told, though not twice.
fn note(result: Result<(), Failure>) {
    if let Err(failure) = result {
        super::log(&failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_wait_are_told_as_code_or_signal() {
        assert_eq!(exit_of(0), (Exit::Code(0), false));
        assert_eq!(exit_of(255 << 8), (Exit::Code(255), false));
        assert_eq!(exit_of(9), (Exit::Signal(9), false));
        assert_eq!(exit_of(6 | 0x80), (Exit::Signal(6), true));
        assert_eq!(exit_of(40), (Exit::Signal(40), false), "a real-time signal");
    }

    #[test]
    fn a_task_is_told_to_stop_after_the_last_contact_and_killed_after_its_grace() {
        let container = ContainerId { incarnation: 1, counter: 1 };
        let left = Left { container, attempt: 0, pid: 1, from_us: 100, to_us: 110 };
        let mut task = Task::found(left, State::Running);
        (task.stop_after_us, task.grace_us) = (1000, 50);
        assert_eq!(task.deadline_us(0), 1100, "no contact yet: from its start");
        assert_eq!(task.deadline_us(500), 1500);
        assert_eq!(task.deadline_us(50), 1050, "it began while the master was silent");
        task.told_us = 1500;
        assert_eq!(task.deadline_us(9000), 1500 + KILL_AGAIN_US);
        task.grace_us = 5_000_000;
        assert_eq!(task.deadline_us(9000), 5_001_500, "a late contact takes nothing back");
    }
}
