//! What a new process does before it becomes a task's program.
//!
//! Everything here runs between clone and exec, on another stack, possibly in memory borrowed from
//! the keeper: it makes system calls, and allocates, locks and frees nothing. What it needs was
//! prepared in a [`Plan`]. The order of the steps is the order of [`Plan::join`] and
//! [`Plan::become_task`]; the first that fails ends the process, and is reported by name.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, fstat, open, openat};
use rustix::io::{Errno, write};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::process::{
    DumpableBehavior, Gid, Pid, Resource, Signal, Uid, getpid, set_dumpable_behavior,
    set_parent_process_death_signal,
};
use rustix::thread::UnshareFlags;

use super::protocol::{Cgroup, Launch, Namespaces, Stdio, Step};
use super::stat::Stat;
use super::wall::Wall;
use super::walls::Walls;
use crate::cgroups::LEAF;
use crate::sys::{self, Cloner, Strings};

/// Where a process stopped, and why: a [`protocol::Trouble`](super::protocol::Trouble) in the
/// making.
pub(super) type Trouble = (Step, i32);

/// A launch with everything in the form that the kernel takes.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    launch: &'a Launch,
    /// Where the program may be, in the order to be tried.
    programs: Vec<CString>,
    arguments: Strings<'a>,
    environment: Strings<'a>,
    /// `cgroup.procs` of every cgroup, and that of the leaf of one in the unified hierarchy.
    procs: Vec<(CString, Option<CString>)>,
    user: Option<(Uid, Gid, Vec<Gid>)>,
    rlimits: Vec<(Resource, rustix::process::Rlimit)>,
    is_root: bool,
    oom_score_adj: Option<CString>,
    pub(super) maps: Maps,
    /// Those of a user namespace that it begins in last of all.
    users: Option<Maps>,
    /// Where below the launch's directory it works; none = there.
    below: Option<&'a CStr>,
    /// It is beside others: where it works may be in a directory that is not its user's to pass through.
    beside: bool,
    /// Unless these are files, it has what this process has.
    stdio: Stdio,
    /// It waits for its keeper's word before it becomes the program.
    waits: bool,
    pub(super) walls: Walls<'a>,
}

/// `uid_map` and `gid_map` of a user namespace whose users and groups are called as outside.
#[derive(Debug)]
pub(super) struct Maps {
    users: CString,
    groups: CString,
}

/// What the keeper has changed for itself, and tasks shall have as the agent had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) badness: Badness,
    /// Its limit of descriptors, if it was raised.
    pub(super) nofile: Option<rustix::process::Rlimit>,
}

/// The keeper's own `oom_score_adj`, which its children begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Badness {
    /// Before the keeper made itself the last to be killed.
    pub(super) agent: i16,
    /// It could do that, so children have to undo it.
    pub(super) lowered: bool,
}

impl Badness {
    /// What a task has to write, if anything: an agent that may not lower the value has children
    /// that may not either, and needs not.
    fn of(self, added: i16) -> Option<i16> {
        // At -1000 nobody is killed at a limit of its own, either.
        let adj = self.agent.saturating_add(added).clamp(-999, 1000);
        (self.lowered || added != 0).then_some(adj)
    }

    fn text(self, added: i16) -> Option<CString> {
        self.of(added).map(|adj| text(adj.to_string()))
    }
}

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of the word that who waits may go on: until when it may begin. A signal is one byte.
pub(super) const WORD: usize = 8;
/// Modes of the files and directories that a task makes.
const UMASK: Mode = Mode::from_raw_mode(0o022);

impl<'a> Plan<'a> {
    /// Looks at a launch once and for all, as the user that the keeper runs as.
    pub(super) fn new(
        launch: &'a Launch,
        walls: &'a [Wall],
        origin: &Origin,
    ) -> Result<Self, Trouble> {
        let nonsense = (Step::Request, libc::EINVAL);
        if launch.directory.is_empty() || launch.arguments.is_empty() {
            return Err(nonsense);
        }
        if !(-1000..=1000).contains(&launch.oom_score_adj) {
            return Err(nonsense);
        }
        let own = origin.nofile.iter().map(|nofile| (Resource::Nofile, *nofile));
        let mut rlimits: Vec<_> = own.collect();
        for limit in &launch.rlimits {
            let resource = resource(limit.resource).ok_or(nonsense)?;
            let limit = rustix::process::Rlimit { current: limit.soft, maximum: limit.hard };
            rlimits.push((resource, limit));
        }
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let mut user = user(launch, uid, gid)?;
        if let (Some((.., groups)), true) = (&mut user, walls.contains(&Wall::Users)) {
            // As `Maps::of` leaves it out.
            groups.retain(|group| !group.is_root());
        }
        Ok(Self {
            programs: programs(launch),
            arguments: Strings::new(&launch.arguments),
            environment: Strings::new(&launch.environment),
            procs: launch.cgroups.iter().map(procs_of).collect(),
            user,
            rlimits,
            is_root: uid.is_root(),
            oom_score_adj: origin.badness.text(launch.oom_score_adj),
            maps: Maps::new(uid, gid),
            users: walls.contains(&Wall::Users).then(|| Maps::of(launch, uid, gid)),
            below: None,
            beside: false,
            stdio: Stdio::Files,
            waits: false,
            walls: Walls::new(walls)?,
            launch,
        })
    }

    /// The same for a process beside a task, which is as likely to be killed as that is: they share a
    /// limit, and who exceeds it is to go.
    pub(super) fn no_better_than(self, task: i16, origin: &Origin) -> Self {
        let added = task.max(self.launch.oom_score_adj);
        Self { oom_score_adj: origin.badness.text(added), ..self }
    }

    /// The same with more of its own.
    pub(super) fn with(self, below: &'a CStr, stdio: Stdio) -> Self {
        Self { below: (!below.is_empty()).then_some(below), stdio, ..self }
    }

    /// The same beside others.
    pub(super) fn beside(self) -> Self {
        Self { beside: true, ..self }
    }

    /// The same, which waits for its keeper's word if `waits`.
    pub(super) fn waiting(self, waits: bool) -> Self {
        Self { waits, ..self }
    }

    /// The namespaces it asks for.
    pub(super) fn namespaces(&self) -> Namespaces {
        self.launch.namespaces
    }

    /// Where it works.
    pub(super) fn directory(&self) -> &CStr {
        &self.launch.directory
    }

    /// What it is in.
    pub(super) fn cgroups(&self) -> &[Cgroup] {
        &self.launch.cgroups
    }

    /// Whom it becomes, if that is somebody else.
    pub(super) fn owner(&self) -> Option<(Uid, Gid)> {
        self.user.as_ref().map(|(user, group, _)| (*user, *group))
    }

    /// True when its process can borrow the keeper's memory on its way: it does nothing that
    /// changes what others may do to that memory, needs nothing of its own, and waits for nobody.
    pub(super) fn may_borrow(&self) -> bool {
        let namespaced = self.launch.namespaces != Namespaces::default();
        !namespaced
            && !self.waits
            && self.walls.is_empty()
            && self.user.is_none()
            && (self.is_root || self.oom_score_adj.is_none())
    }

    /// Joins the cgroups, but for the unified one if it was `joined` already.
    pub(super) fn join(&self, joined: bool) -> Result<(), Trouble> {
        let to_join = self.procs.iter().filter(|(_, leaf)| !joined || leaf.is_none());
        for (procs, leaf) in to_join {
            let put = match (put(procs, b"0"), leaf) {
                // It hands controllers down, and so has its processes in a leaf.
                (Err(Errno::BUSY), Some(leaf)) => put(leaf, b"0"),
                (put, _) => put,
            };
            put.map_err(step(Step::Cgroup))?;
        }
        Ok(())
    }

    /// Sets how soon this process and its children are killed when memory is out.
    pub(super) fn set_badness(&self) -> Result<(), Trouble> {
        let Some(text) = &self.oom_score_adj else { return Ok(()) };
        let write = || put(c"/proc/self/oom_score_adj", text.to_bytes());
        if self.is_root {
            return write().map_err(step(Step::Badness));
        }
        as_owner(write).map_err(step(Step::Badness))
    }

    /// Becomes the task; returns only if that fails.
    pub(super) fn become_task(&self, channel: BorrowedFd<'_>) -> Trouble {
        use std::os::fd::AsRawFd;
        sys::close_all_but([channel.as_raw_fd()]);
        // Nothing depends on this but `became_program`, which then takes it for a program sooner.
        let _ = rustix::thread::set_name(BEFORE);
        match self.prepare_self(channel) {
            Ok(deadline_us) => self.execute(deadline_us),
            Err(trouble) => trouble,
        }
    }

    /// Until when it may begin, in µs of CLOCK_BOOTTIME; 0 = for ever.
    fn prepare_self(&self, channel: BorrowedFd<'_>) -> Result<u64, Trouble> {
        rustix::process::setsid().map_err(step(Step::Session))?;
        for &(resource, limit) in &self.rlimits {
            rustix::process::setrlimit(resource, limit).map_err(step(Step::Rlimit))?;
        }
        // Opened as the keeper, which may pass where the task's user may not; entered as the user.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = open(self.launch.directory.as_c_str(), flags, Mode::empty())
            .map_err(step(Step::Directory))?;
        let below = self.below.map(|below| open_below(directory.as_fd(), below));
        let below = below.transpose().map_err(step(Step::Directory))?;
        let works = below.as_ref().unwrap_or(&directory);
        if self.beside {
            rustix::process::fchdir(works).map_err(step(Step::Directory))?;
        }
        sys::new_keyring();
        // Whoever it becomes there, it has given up all that it was outside.
        self.users.as_ref().map_or(Ok(()), Maps::part)?;
        self.walls.before_user()?;
        self.become_user()?;
        self.walls.after_user()?;
        match rustix::process::fchdir(works) {
            // It is there, where its user may nothing at all.
            Err(Errno::ACCESS) if self.beside => {}
            entered => entered.map_err(step(Step::Directory))?,
        }
        if !sys::works_inside() {
            return Err((Step::Outside, 0));
        }
        rustix::process::umask(UMASK);
        match self.stdio {
            Stdio::Files => self.open_output()?,
            Stdio::Given => {}
            Stdio::Terminal | Stdio::Kept => {
                let terminal = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin());
                terminal.map_err(step(Step::Terminal))?;
            }
        }
        if self.launch.no_new_privs || self.walls.grant_nothing() {
            rustix::thread::set_no_new_privs(true).map_err(step(Step::Privileges))?;
        }
        sys::unblock_signals();
        // Before calls are filtered: what it takes to wait is no call of the program's.
        let deadline_us =
            if self.waits { wait_for_word(channel)? } else { self.launch.deadline_us };
        self.walls.last(directory.as_fd())?;
        Ok(deadline_us)
    }

    fn become_user(&self) -> Result<(), Trouble> {
        let Some((uid, gid, groups)) = &self.user else { return Ok(()) };
        rustix::thread::set_thread_groups(groups).map_err(step(Step::Groups))?;
        rustix::thread::set_thread_res_gid(*gid, *gid, *gid).map_err(step(Step::Group))?;
        rustix::thread::set_thread_res_uid(*uid, *uid, *uid).map_err(step(Step::User))
    }

    /// Standard input is the keeper's, `/dev/null`, and so is what is not asked for.
    fn open_output(&self) -> Result<(), Trouble> {
        let (null, out) = (rustix::stdio::stdin(), &self.launch.stdout);
        if out.is_empty() {
            rustix::stdio::dup2_stdout(null).map_err(step(Step::Stdout))?;
        } else {
            let file = append_to(out).map_err(step(Step::Stdout))?;
            rustix::stdio::dup2_stdout(file).map_err(step(Step::Stdout))?;
        }
        let err = &self.launch.stderr;
        if err.is_empty() {
            return rustix::stdio::dup2_stderr(null).map_err(step(Step::Stderr));
        }
        let file = append_to(err).map_err(step(Step::Stderr))?;
        rustix::stdio::dup2_stderr(file).map_err(step(Step::Stderr))
    }

    /// Tries every place that the program may be in, as execvp(3) does.
    fn execute(&self, deadline_us: u64) -> Trouble {
        if deadline_us != 0 && sys::boottime_us() >= deadline_us {
            return (Step::Late, 0);
        }
        let mut reason = libc::ENOENT;
        for program in &self.programs {
            match sys::execute(program, &self.arguments, &self.environment) {
                libc::ENOENT | libc::ENOTDIR => {}
                // Found, but not to be executed: remembered, in case no other place has it.
                libc::EACCES => reason = libc::EACCES,
                errno => return (Step::Execute, errno),
            }
        }
        (Step::Execute, reason)
    }
}

impl Maps {
    /// Of the user that the keeper runs as.
    pub(super) fn new(uid: Uid, gid: Gid) -> Self {
        let map = |id: u32| text(format!("{id} {id} 1"));
        Self { users: map(uid.as_raw()), groups: map(gid.as_raw()) }
    }

    /// Of the user that a launch is for, and its groups.
    fn of(launch: &Launch, uid: Uid, gid: Gid) -> Self {
        let Some(user) = &launch.user else { return Self::new(uid, gid) };
        let mut groups: BTreeSet<u32> = user.groups.iter().copied().chain([user.gid]).collect();
        // Who has privileges has them over what a group owns that is its own.
        groups.remove(&0);
        let lines: Vec<String> = groups.iter().map(|group| format!("{group} {group} 1")).collect();
        Self { users: text(format!("{0} {0} 1", user.uid)), groups: text(lines.join("\n")) }
    }

    /// Parts this process's users from the host's. A copy of it, which stays outside, says which
    /// there are: nobody inside may say that of others than itself.
    fn part(&self) -> Result<(), Trouble> {
        let failed = step(Step::Users);
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(kind.0, kind.1, kind.2, None).map_err(&failed)?;
        let inside = getpid();
        let mut cloner = Cloner::new().map_err(|failure| (Step::Users, failure.errno))?;
        let helper = cloner.spawn(sys::Clone::default(), None, &mut |_| {
            self.write_for(inside, theirs.as_fd());
            0
        });
        let helper = helper.map_err(|errno| (Step::Users, errno))?;
        let mut answer = [0; 4];
        let parted = sys::unshare(UnshareFlags::NEWUSER)
            .and_then(|()| send(&ours, b"?", SendFlags::NOSIGNAL))
            .and_then(|_| recv(&ours, &mut answer, RecvFlags::empty()));
        if parted.is_err() {
            let _ = i32::try_from(helper).map(|pid| sys::kill(pid, libc::SIGKILL));
        }
        sys::wait_for_child(helper);
        match parted.map_err(&failed)?.0 {
            // It ended without a word.
            0 => Err((Step::Users, libc::EPIPE)),
            _ => match i32::from_le_bytes(answer) {
                0 => Ok(()),
                errno => Err((Step::Users, errno)),
            },
        }
    }

    /// What that copy does: it has memory of its own. It waits until there is something to write, or
    /// for as long as the process inside lives.
    fn write_for(&self, inside: Pid, channel: BorrowedFd<'_>) {
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        let mut word = [0];
        if !recv(channel, &mut word, RecvFlags::empty()).is_ok_and(|(got, _)| got == 1) {
            return;
        }
        let file = |name: &str| text(format!("/proc/{}/{name}", inside.as_raw_nonzero()));
        let written = put(&file("uid_map"), self.users.to_bytes())
            .and_then(|()| put(&file("gid_map"), self.groups.to_bytes()));
        let errno = written.map_or_else(Errno::raw_os_error, |()| 0);
        let _ = send(channel, &errno.to_le_bytes(), SendFlags::NOSIGNAL);
    }

    /// Maps this process's user, and nobody else, into the user namespace it was made in.
    pub(super) fn write(&self) -> Result<(), Trouble> {
        let write = || {
            put(c"/proc/self/setgroups", b"deny")?;
            put(c"/proc/self/uid_map", self.users.to_bytes())?;
            put(c"/proc/self/gid_map", self.groups.to_bytes())
        };
        as_owner(write).map_err(step(Step::Users))
    }
}

/// The name of a process that is not the task's program yet. Executing one changes it.
const BEFORE: &CStr = c"mesita-task";

/// True when a child whose channel has closed became a program; false when it was killed on its
/// way there. It must not have been collected, here and below.
///
/// Who dies gives its memory up before it closes anything, and has no executable then; so who has
/// one lives, and closed the channel by executing it. Of the dead the name tells: it was changed
/// by then if it ever was.
pub(super) fn became_program(pid: u32) -> bool {
    match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(_) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => has_changed_name(pid),
        // Nobody but root is told of who hides its memory, of the dead neither on newer kernels.
        Err(_) => gave_back_as_program(pid),
    }
}

/// The same of a child that has given back the memory it borrowed, which who dies does before anything
/// else of it goes: that one is ending by then.
pub(super) fn gave_back_as_program(pid: u32) -> bool {
    let lives = Stat::of(pid).is_some_and(|stat| !stat.is_ending);
    lives || has_changed_name(pid)
}

fn has_changed_name(pid: u32) -> bool {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.strip_suffix(b"\n") != Some(BEFORE.to_bytes())
}

/// Names the step of an error.
fn step(step: Step) -> impl Fn(Errno) -> Trouble {
    move |errno| (step, errno.raw_os_error())
}

/// Says that only the program is missing, and waits for the keeper's word, which says until when it may
/// begin. Signals come that way as well, below a process 1. It ends when the keeper does.
fn wait_for_word(channel: BorrowedFd<'_>) -> Result<u64, Trouble> {
    Report::Waits.send(channel);
    let mut word = [0; WORD];
    loop {
        match recv(channel, &mut word, RecvFlags::empty()) {
            Ok((WORD, _)) => return Ok(u64::from_le_bytes(word)),
            Ok((0, _)) => return Err((Step::Channel, libc::EPIPE)),
            Ok(_) => {
                let own = getpid().as_raw_nonzero().get();
                let _ = sys::kill(own, i32::from(word[0]));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err((Step::Channel, errno.raw_os_error())),
        }
    }
}

/// Does something to this process's own files in `/proc`, which are root's as long as nobody may
/// look into its memory; so for that moment everybody of our own user may. The memory must be this
/// process's alone.
fn as_owner(what: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    let done = what();
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    done
}

/// Writes a file of the kernel in one piece.
fn put(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write(&file, text).map(|_| ())
}

/// Opens a file of the task's to append to. The sandbox is the task's own, so what lies there may
/// be anything: a symbolic link is not followed, a pipe is not waited for, only a file is written.
fn append_to(path: &CStr) -> Result<impl AsFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::from_raw_mode(0o644))?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

/// The records that a process sends to its keeper: what became of it, or how the task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The program will not run.
    Failed(Trouble),
    /// The program runs, below a process 1.
    Started,
    /// It has ended: status as wait(2) gives it, largest resident set in KiB.
    Ended(i32, u64),
    /// It waits for a word before it becomes the program.
    Waits,
}

/// Bytes of a report.
pub(super) const REPORT: usize = 16;

impl Report {
    /// Sends it. Nobody is there to be told if that fails: the keeper is dead.
    pub(super) fn send(self, channel: BorrowedFd<'_>) {
        let _ = send(channel, &self.to_bytes(), SendFlags::NOSIGNAL);
    }

    pub(super) fn to_bytes(self) -> [u8; REPORT] {
        let (kind, step, number, rss) = match self {
            Self::Failed((step, errno)) => (1, step.number(), errno, 0),
            Self::Started => (2, 0, 0, 0),
            Self::Ended(status, rss) => (3, 0, status, rss),
            Self::Waits => (4, 0, 0, 0),
        };
        let mut bytes = [0; REPORT];
        bytes[0] = kind;
        bytes[1] = step;
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..].copy_from_slice(&rss.to_le_bytes());
        bytes
    }

    /// Reads what [`Report::send`] sent.
    pub(super) fn of_bytes(bytes: &[u8; REPORT]) -> Option<Self> {
        let [kind, step, _, _, a, b, c, d, rss @ ..] = *bytes;
        let number = i32::from_le_bytes([a, b, c, d]);
        match kind {
            1 => Some(Self::Failed((Step::of_number(step)?, number))),
            2 => Some(Self::Started),
            3 => Some(Self::Ended(number, u64::from_le_bytes(rss))),
            4 => Some(Self::Waits),
            _ => None,
        }
    }
}

/// Whom to become; none if the keeper is that already and could be nobody else.
fn user(launch: &Launch, uid: Uid, gid: Gid) -> Result<Option<(Uid, Gid, Vec<Gid>)>, Trouble> {
    let Some(user) = &launch.user else { return Ok(None) };
    // -1 would mean "leave as it is".
    if [user.uid, user.gid].iter().chain(&user.groups).any(|&id| id == u32::MAX) {
        return Err((Step::User, libc::EINVAL));
    }
    let asked = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if !uid.is_root() {
        let same = asked == (uid, gid);
        return if same { Ok(None) } else { Err((Step::User, libc::EPERM)) };
    }
    let groups = user.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    Ok(Some((asked.0, asked.1, groups)))
}

/// The program, or the places where a name without a slash may be found.
fn programs(launch: &Launch) -> Vec<CString> {
    let first = launch.arguments.first().cloned().unwrap_or_default();
    let program = if launch.program.is_empty() { first } else { launch.program.clone() };
    if program.to_bytes().contains(&b'/') || program.is_empty() {
        return vec![program];
    }
    let path = launch.environment.iter().find_map(|text| text.to_bytes().strip_prefix(b"PATH="));
    let path = path.unwrap_or(DEFAULT_PATH.as_bytes());
    let places = path.split(|&byte| byte == b':');
    let joined = places.map(|place| {
        let place = if place.is_empty() { b"." } else { place };
        [place, b"/", program.to_bytes()].concat()
    });
    joined.filter_map(|path| CString::new(path).ok()).collect()
}

/// Opens a directory further inside. Who may write on the way there has no link followed.
fn open_below(from: BorrowedFd<'_>, below: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = None;
    for part in below.to_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        if part == b".." {
            return Err(Errno::INVAL);
        }
        let above = at.as_ref().map_or(from, OwnedFd::as_fd);
        at = Some(openat(above, part, flags, Mode::empty())?);
    }
    at.map_or_else(|| openat(from, c".", flags, Mode::empty()), Ok)
}

/// Where a process joins a cgroup, and where it does when that is divided.
fn procs_of(cgroup: &Cgroup) -> (CString, Option<CString>) {
    let procs = |leaf: &str| {
        let path = [cgroup.directory.to_bytes(), leaf.as_bytes(), b"/cgroup.procs"].concat();
        CString::new(path).unwrap_or_default()
    };
    (procs(""), cgroup.unified.then(|| procs(&format!("/{LEAF}"))))
}

/// Text made of numbers has no NUL.
fn text(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

/// The resource of a kernel's number.
fn resource(number: u8) -> Option<Resource> {
    use Resource::*;
    const ALL: [Resource; 16] = [
        Cpu, Fsize, Data, Stack, Core, Rss, Nproc, Nofile, Memlock, As, Locks, Sigpending,
        Msgqueue, Nice, Rtprio, Rttime,
    ];
    // The numbers differ between architectures; the names do not.
    ALL.into_iter().find(|&resource| resource as u32 == u32::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::protocol::User;
    use crate::keeper::protocol::tests::launch;

    #[test]
    fn reports_survive_their_sixteen_bytes() {
        for report in [
            Report::Failed((Step::Execute, 13)),
            Report::Failed((Step::Died, -1)),
            Report::Started,
            Report::Ended(-7, 1 << 40),
            Report::Waits,
        ] {
            assert_eq!(Report::of_bytes(&report.to_bytes()), Some(report));
        }
        assert_eq!(Report::of_bytes(&[9; REPORT]), None);
    }

    #[test]
    fn a_name_is_looked_for_in_the_path_of_the_task_a_path_is_taken_as_it_is() {
        let mut launch = launch();
        launch.environment = vec![c"HOME=/x".into(), c"PATH=/a::/b".into()];
        let found: Vec<_> =
            programs(&launch).iter().map(|path| path.to_str().unwrap().to_owned()).collect();
        assert_eq!(found, ["/a/true", "./true", "/b/true"]);
        launch.program = c"bin/x".into();
        assert_eq!(programs(&launch), [c"bin/x".to_owned()]);
        (launch.program, launch.environment) = (c"sh".into(), Vec::new());
        assert!(programs(&launch).contains(&c"/bin/sh".to_owned()));
    }

    #[test]
    fn a_launch_that_makes_no_sense_is_refused_before_a_process_is_made() {
        let nonsense = |change: fn(&mut Launch)| {
            let mut launch = launch();
            change(&mut launch);
            let refused = Plan::new(&launch, &[], &Origin::default()).map(|_| ());
            assert_eq!(refused, Err((Step::Request, libc::EINVAL)));
        };
        nonsense(|launch| launch.arguments.clear());
        nonsense(|launch| launch.directory = CString::default());
        nonsense(|launch| launch.oom_score_adj = 1001);
        nonsense(|launch| {
            let limit = super::super::protocol::Rlimit { resource: 99, soft: None, hard: None };
            launch.rlimits.push(limit).unwrap();
        });
    }

    #[test]
    fn only_root_becomes_somebody_else() {
        let mut launch = launch();
        let (root, nobody) = ((Uid::ROOT, Gid::ROOT), (Uid::from_raw(9), Gid::from_raw(9)));
        launch.user = Some(User { uid: 9, gid: 9, groups: vec![3] });
        assert_eq!(user(&launch, nobody.0, nobody.1), Ok(None));
        let became = user(&launch, root.0, root.1).unwrap().unwrap();
        assert_eq!(became, (nobody.0, nobody.1, vec![Gid::from_raw(3)]));
        launch.user = Some(User { uid: 8, gid: 9, groups: Vec::new() });
        assert_eq!(user(&launch, nobody.0, nobody.1), Err((Step::User, libc::EPERM)));
        launch.user = Some(User { uid: u32::MAX, gid: 9, groups: Vec::new() });
        assert_eq!(user(&launch, root.0, root.1), Err((Step::User, libc::EINVAL)));
    }

    #[test]
    fn a_task_has_the_badness_of_its_agent_and_what_is_added() {
        let lowered = Badness { agent: 200, lowered: true };
        assert_eq!(
            (lowered.of(0), lowered.of(300), lowered.of(900)),
            (Some(200), Some(500), Some(1000))
        );
        let not = Badness { agent: 200, lowered: false };
        assert_eq!((not.of(0), not.of(300)), (None, Some(500)));
        assert_eq!(Badness { agent: -1000, lowered: true }.of(0), Some(-999));
    }

    #[test]
    fn every_resource_limit_of_linux_has_its_number() {
        assert_eq!(resource(u8::try_from(libc::RLIMIT_NOFILE).unwrap()), Some(Resource::Nofile));
        assert_eq!(resource(u8::try_from(libc::RLIMIT_RTTIME).unwrap()), Some(Resource::Rttime));
        assert_eq!(resource(16), None);
    }
}
