//! What an agent and its keeper say to each other, and how it lies in the stream.
//!
//! A message is `len u32 LE | postcard`, at most [`MESSAGE_MAX`] bytes of postcard. The agent says
//! [`Request::Hello`] first; the keeper answers [`Reply::Hello`] and then everything it holds, in
//! [`Reply::Listed`]s up to the one that is the last. From then on both speak when they have
//! something to say. postcard numbers variants by position: they are only appended, and a released
//! message never changes its fields.
//!
//! Nothing here reads or writes: [`encode`] appends to a buffer, [`Decoder`] takes bytes as they
//! come, so that a thread that waits for many things can drive it.

use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mesita_core::wire::task::Exit;
use mesita_core::wire::{ContainerId, Session};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::wall::Wall;
use crate::sys::errno_text;

/// The protocol spoken by this release.
pub const VERSION_MAX: u16 = 4;
/// The oldest protocol this release still speaks.
pub const VERSION_MIN: u16 = 1;
/// The first version that has a process wait before it becomes its program.
pub const WAITS_SINCE: u16 = 4;
/// Bytes of one message. Arguments and environment of a task are in one message.
pub const MESSAGE_MAX: usize = 256 * 1024;
/// Descriptors that come along with one message: standard input, output and error.
pub const DESCRIPTORS: usize = 3;
/// Entries in one [`Reply::Listed`].
pub const LISTED_MAX: usize = 64;
/// Cgroup directories of one container: the controllers of v1, a freezer and the unified hierarchy.
pub const CGROUPS_MAX: usize = 16;
/// Directories that a keeper removes at its end: ours, the one above each, and the agent's leaf.
pub const REMOVED_MAX: usize = 2 * CGROUPS_MAX + 1;
/// Kinds of resource limits that Linux knows.
pub const RLIMITS_MAX: usize = 16;

/// A path as it is said here. Ours have no NUL: they are made of the kernel's and of names.
pub fn path_text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Agent → keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First. Whoever says it becomes the client, and the one before is heard no more.
    Hello {
        /// The oldest version the agent speaks.
        min: u16,
        /// The newest.
        max: u16,
        /// The agent's session: launches of older ones are refused from now on.
        session: Session,
    },
    /// Start a task. Answered by `Launched` or `Refused`.
    Launch(Box<Launch>),
    /// Send a signal to a task's process group; SIGKILL reaches its whole pid namespace, if that is its
    /// own.
    /// Answered only if refused.
    Signal {
        /// Whose.
        container: ContainerId,
        /// Which, 1 to 64.
        signal: u8,
    },
    /// The end of a container was taken in durably, here it may go. Answered only if refused.
    Forget {
        /// Which.
        container: ContainerId,
    },
    /// Answered by `Listed`s, as after a hello.
    List,
    /// The agent has heard from its master. Not answered.
    Renew {
        /// The agent's session, as in a hello.
        session: Session,
        /// When the newest answered ping was sent, in µs of CLOCK_BOOTTIME.
        contact_us: u64,
    },
    /// Directories of cgroups that the keeper removes before it ends, the innermost first, besides
    /// those it learns from launches. Not answered.
    RemoveAtEnd {
        /// Absolute paths.
        directories: heapless::Vec<CString, REMOVED_MAX>,
    },
    /// Kill every task. Answered by `AllEnded` when no process is left.
    EndAll,
    /// End. Answered by the end of the stream, or by `Busy` while a task runs.
    Exit,
    /// Start a process inside a container that runs, beside its task. Answered as a launch. Since
    /// version 2.
    Enter(Box<Enter>),
    /// The same with more of its own. Answered as a launch. Since version 3.
    EnterWith {
        /// The process.
        enter: Box<Enter>,
        /// Its working directory, below the one of the launch; no link is followed on the way, which
        /// others may change. Empty = that one itself. It is there, whatever its user may do there.
        below: CString,
        /// What it reads from and writes to.
        stdio: Stdio,
    },
    /// Start a task behind walls. Answered as a launch. Since version 3.
    LaunchWith {
        /// The task.
        launch: Box<Launch>,
        /// At most [`WALLS_MAX`](super::wall::WALLS_MAX).
        walls: Vec<Wall>,
    },
    /// Start a process behind walls beside a task. Answered as a launch. Since version 3.
    EnterBehind {
        /// As in `EnterWith`.
        enter: Box<Enter>,
        /// As in `EnterWith`.
        below: CString,
        /// As in `EnterWith`.
        stdio: Stdio,
        /// As in `LaunchWith`. Those that part it from others are the task's and not looked at, unless it
        /// has processes of its own.
        walls: Vec<Wall>,
    },
    /// Start a task that reads from and writes to descriptors. Answered as a launch. Since version 3.
    LaunchOn {
        /// The task.
        launch: Box<Launch>,
        /// As in `LaunchWith`.
        walls: Vec<Wall>,
        /// As in `EnterWith`.
        stdio: Stdio,
    },
    /// The ends of terminals that are kept. Answered by `Lent`s. Since version 3.
    Terminals,
    /// Start a task that waits for `Go` before it becomes its program, with all around it that it will
    /// have but for what holds it from calls and files. Answered by `Waits`, then as a launch. It ends
    /// with the connection that asked for it. Since version 4.
    LaunchWaiting {
        /// The task.
        launch: Box<Launch>,
        /// As in `LaunchWith`.
        walls: Vec<Wall>,
        /// As in `EnterWith`.
        stdio: Stdio,
    },
    /// Who waits is to become its program. Answered as a launch; of who does not wait any more that was
    /// said. Since version 4.
    Go {
        /// Which.
        container: ContainerId,
        /// As the launch's, instead of that.
        deadline_us: u64,
    },
}

impl Request {
    /// Asks for a task in words that the oldest keeper understands that can do it.
    pub fn launch(launch: Launch, walls: Vec<Wall>) -> Self {
        let launch = Box::new(launch);
        if walls.is_empty() { Self::Launch(launch) } else { Self::LaunchWith { launch, walls } }
    }

    /// The same launch on descriptors; anything else stays as it is.
    pub fn on(self, stdio: Stdio) -> Self {
        if let Self::LaunchWaiting { launch, walls, .. } = self {
            return Self::LaunchWaiting { launch, walls, stdio };
        }
        let walls =
            if let Self::LaunchWith { walls, .. } = &self { walls.clone() } else { Vec::new() };
        let (Self::Launch(launch) | Self::LaunchWith { launch, .. }) = self else { return self };
        Self::LaunchOn { launch, walls, stdio }
    }

    /// The same launch, which waits; anything else stays as it is.
    pub fn waiting(self) -> Self {
        let on = if let Self::LaunchOn { .. } = &self { self } else { self.on(Stdio::Files) };
        let Self::LaunchOn { launch, walls, stdio } = on else { return on };
        Self::LaunchWaiting { launch, walls, stdio }
    }

    /// The task that is to be launched, if one is.
    pub fn launch_mut(&mut self) -> Option<&mut Launch> {
        let (Self::Launch(launch)
        | Self::LaunchWith { launch, .. }
        | Self::LaunchOn { launch, .. }
        | Self::LaunchWaiting { launch, .. }) = self
        else {
            return None;
        };
        Some(launch)
    }

    /// Whom the task runs as that is to be launched; none = the keeper's own user, or there is none.
    pub fn user(&self) -> Option<&User> {
        let (Self::Launch(launch)
        | Self::LaunchWith { launch, .. }
        | Self::LaunchOn { launch, .. }
        | Self::LaunchWaiting { launch, .. }) = self
        else {
            return None;
        };
        launch.user.as_ref()
    }

    /// What it finds mounted, as people call that: where, and what of the host it is.
    pub fn volumes(&self) -> Vec<String> {
        let (Self::LaunchWith { walls, .. }
        | Self::LaunchOn { walls, .. }
        | Self::LaunchWaiting { walls, .. }) = self
        else {
            return Vec::new();
        };
        walls.iter().filter_map(Wall::volume).collect()
    }

    /// The same for a process beside a task.
    pub fn enter(enter: Enter, below: CString, stdio: Stdio, walls: Vec<Wall>) -> Self {
        let enter = Box::new(enter);
        if !walls.is_empty() {
            Self::EnterBehind { enter, below, stdio, walls }
        } else if stdio == Stdio::Files && below.is_empty() {
            Self::Enter(enter)
        } else {
            Self::EnterWith { enter, below, stdio }
        }
    }
}

/// What a process reads from and writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// Files, as its launch says.
    Files,
    /// Descriptors of the agent's, [`DESCRIPTORS`] that come along with the first byte of the
    /// message.
    Given,
    /// The same, all of them one terminal, which becomes that of its session.
    Terminal,
    /// The same of a terminal of which an end came along as well, which the keeper keeps for the agent
    /// after this one: the terminal, its other end, and that again. Since version 3.
    Kept,
}

/// A process beside a task: in its cgroups and namespaces. It ends with the task, is not written
/// down for the next keeper, and its end is told and forgotten as that of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enter {
    /// The container whose namespaces it enters, which runs: a task's, or that of a process beside one
    /// that has processes of its own.
    pub inside: ContainerId,
    /// The process. Its container's id is new to the keeper, its cgroups are those of `inside`; its
    /// session and its own namespaces are not looked at.
    pub launch: Launch,
}

/// A task to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Its container, new to the keeper. Its cgroups have this name.
    pub container: ContainerId,
    /// Which start of the task this is, counted from 0.
    pub attempt: u32,
    /// The session that accepted it: refused if the keeper has seen a newer one.
    pub session: Session,
    /// µs of CLOCK_BOOTTIME after which it must not start; 0 = none. Looked at right before the
    /// process is made, and by the process right before it becomes the program.
    pub deadline_us: u64,
    /// The program: a path, or a name to be found in the `PATH` of `env`. Empty = the first
    /// argument.
    pub program: CString,
    /// Its arguments, the first being its name.
    pub arguments: Vec<CString>,
    /// Its environment, all of it.
    pub environment: Vec<CString>,
    /// Its working directory: the sandbox. The keeper opens it with its own rights, so the path may
    /// lead through nothing that the task's user can change; its last component may not be a
    /// symbolic link. It is entered with the rights of the task's user.
    pub directory: CString,
    /// Where standard output is appended, relative to the directory; empty = nowhere. Opened,
    /// and made if need be, as the task's user.
    pub stdout: CString,
    /// The same for standard error.
    pub stderr: CString,
    /// Whom it runs as; none = the keeper's own user.
    pub user: Option<User>,
    /// Limits of the process.
    pub rlimits: heapless::Vec<Rlimit, RLIMITS_MAX>,
    /// Directories of cgroups to join, each named after the container.
    pub cgroups: heapless::Vec<Cgroup, CGROUPS_MAX>,
    /// Namespaces to give it.
    pub namespaces: Namespaces,
    /// Executing a program never grants a privilege.
    pub no_new_privs: bool,
    /// What is added to the agent's own `oom_score_adj`, -1000 to 1000: who goes first when the
    /// machine is out of memory.
    pub oom_score_adj: i16,
    /// How long it runs on after the agent last heard from its master, in µs; 0 = for ever.
    pub stop_after_us: u64,
    /// From SIGTERM to SIGKILL when that time is over, in µs.
    pub grace_us: u64,
}

/// Whom a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, all of them.
    pub groups: Vec<u32>,
}

/// A limit as setrlimit(2) takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The kernel's number of it, as in RLIMIT_NOFILE.
    pub resource: u8,
    /// What is enforced; none = unlimited.
    pub soft: Option<u64>,
    /// How far the process may raise it; none = unlimited.
    pub hard: Option<u64>,
}

/// A cgroup to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its absolute path.
    pub directory: CString,
    /// It is in the unified hierarchy.
    pub unified: bool,
}

/// Namespaces of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Users: its own user alone, so that an unprivileged keeper may make the other two.
    pub user: bool,
    /// Processes: it sees those below it alone, under a process 1 of the keeper's.
    pub pid: bool,
    /// Mounts: a fresh `/proc`, and mounts of either side unseen by the other.
    pub mount: bool,
}

/// Keeper → agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The answer to a hello; `Listed`s follow.
    Hello(Welcome),
    /// What the keeper holds, in the order of container ids.
    Listed {
        /// At most [`LISTED_MAX`].
        containers: Vec<Held>,
        /// Nothing follows.
        last: bool,
    },
    /// The program runs.
    Launched {
        /// Which container.
        container: ContainerId,
        /// Which attempt.
        attempt: u32,
        /// The keeper's child: the process, process 1 of its pid namespace, or of one in the namespace of
        /// others who waits for it outside.
        pid: u32,
        /// When it was made, in µs of CLOCK_BOOTTIME.
        started_us: u64,
    },
    /// A request was not done. Of a launch nothing is left.
    Refused(Refused),
    /// A task has ended. Listed after each hello until it is forgotten.
    Ended(Ended),
    /// Nothing that the keeper ever started is alive.
    AllEnded,
    /// No end while tasks run.
    Busy {
        /// So many.
        running: u32,
    },
    /// The end of a terminal that is kept, which comes along with the first byte of the message.
    Lent {
        /// Whose; none = that was all, and nothing comes along.
        container: Option<ContainerId>,
    },
    /// A task waits for `Go`. Since version 4.
    Waits {
        /// Which container.
        container: ContainerId,
        /// Which attempt.
        attempt: u32,
        /// As in `Launched`.
        pid: u32,
    },
}

/// The keeper's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version both speak from now on.
    pub version: u16,
    /// The keeper's process.
    pub pid: u32,
    /// The kernel's id of this boot of the machine.
    pub boot: [u8; 16],
    /// Namespaces that the keeper has made on trial; all false = none.
    pub namespaces: Namespaces,
    /// Why it could not make those that are missing.
    pub trouble: Option<Trouble>,
}

/// A container that the keeper holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// Asked for; its program does not run yet.
    Starting {
        /// Which container.
        container: ContainerId,
        /// Which attempt.
        attempt: u32,
    },
    /// It runs.
    Running {
        /// Which container.
        container: ContainerId,
        /// Which attempt.
        attempt: u32,
        /// As in `Launched`.
        pid: u32,
        /// As in `Launched`.
        started_us: u64,
    },
    /// It has ended, and that was not yet taken in.
    Ended(Ended),
    /// It ran when the keeper before this one died; whether it still does has to be seen.
    Left(Left),
}

impl Held {
    /// Which container.
    pub const fn container(&self) -> ContainerId {
        match *self {
            Self::Starting { container, .. } | Self::Running { container, .. } => container,
            Self::Ended(ended) => ended.container,
            Self::Left(left) => left.container,
        }
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which container.
    pub container: ContainerId,
    /// Which attempt.
    pub attempt: u32,
    /// Status or signal; `Unseen` when its keeper died and the machine was restarted since, or when
    /// the process 1 above it gave up.
    pub exit: Exit,
    /// It left a core file.
    pub core: bool,
    /// CPU time in user mode, in µs, of it and of those of its children that it waited for.
    pub user_us: u64,
    /// CPU time in the kernel, the same way.
    pub system_us: u64,
    /// The largest resident set of any one of these processes, in KiB.
    pub max_rss_kib: u64,
    /// When it was seen, in µs of CLOCK_BOOTTIME.
    pub ended_us: u64,
}

/// What names a process for as long as the machine is up, even when its number is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Which container.
    pub container: ContainerId,
    /// Which attempt.
    pub attempt: u32,
    /// The leader of its session.
    pub pid: u32,
    /// When it was made, in µs of CLOCK_BOOTTIME: not before this,
    pub from_us: u64,
    /// and not after that.
    pub to_us: u64,
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which container.
    pub container: ContainerId,
    /// What was asked.
    pub asked: Asked,
    /// Why not.
    pub trouble: Trouble,
}

/// How far something came. Prints as the sentence that a person reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The step that failed.
    pub step: Step,
    /// The kernel's reason; 0 = the step says it all. For [`Step::Died`] the signal.
    pub errno: i32,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// [`Request::Launch`].
    Launch,
    /// [`Request::Signal`].
    Signal,
    /// [`Request::Forget`].
    Forget,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.step, self.errno) {
            (step, 0) => write!(f, "{step}"),
            (Step::Died, signal) => write!(f, "{} by signal {signal}", Step::Died),
            (step, errno) => write!(f, "{step}: {}", errno_text(errno)),
        }
    }
}

macro_rules! steps {
    ($( $(#[doc = $doc:literal])* $step:ident = $sentence:literal, )*) => {
        /// Where a request ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Step { $( $(#[doc = $doc])* $step, )* }

        impl Step {
            /// All of them, by number.
            const ALL: &[Self] = &[ $( Self::$step, )* ];

            /// What a person reads.
            pub const fn sentence(self) -> &'static str {
                match self { $( Self::$step => $sentence, )* }
            }
        }
    };
}

steps! {
    /// [`KeeperOptions::containers_max`](super::KeeperOptions::containers_max) are held.
    Full = "the keeper holds as many containers as it may",
    /// The container id is in use.
    Known = "the keeper already holds this container",
    /// No such container.
    Unknown = "the keeper does not hold this container",
    /// It has ended.
    NotRunning = "the container does not run",
    /// It has not ended.
    Running = "the container still runs",
    /// The session is older than one the keeper has seen.
    Stale = "the launch belongs to an older session of the agent",
    /// The deadline was reached.
    Late = "the deadline of the launch has passed",
    /// `EndAll`, or the end of the keeper, is under way.
    Ending = "the keeper is ending all tasks",
    /// The message contradicts itself.
    Request = "the launch does not make sense",
    /// A signal number outside 1 to 64.
    Signal = "cannot send the signal",
    /// socketpair(2).
    Channel = "cannot make a channel to the process",
    /// clone(2).
    Clone = "cannot make the process",
    /// Opening or writing `cgroup.procs`.
    Cgroup = "cannot join the cgroup",
    /// Writing `uid_map`, `gid_map`, `setgroups`.
    Users = "cannot map the user into its namespace",
    /// Making all mounts private.
    Mounts = "cannot part its mounts from the host's",
    /// Mounting `/proc`.
    Proc = "cannot mount /proc",
    /// setsid(2).
    Session = "cannot make a session",
    /// Writing `oom_score_adj`.
    Badness = "cannot set oom_score_adj",
    /// setrlimit(2).
    Rlimit = "cannot set a resource limit",
    /// setgroups(2).
    Groups = "cannot set its groups",
    /// setresgid(2).
    Group = "cannot become its group",
    /// setresuid(2).
    User = "cannot become its user",
    /// Opening or entering the working directory.
    Directory = "cannot enter the working directory",
    /// Opening standard output.
    Stdout = "cannot open its standard output",
    /// Opening standard error.
    Stderr = "cannot open its standard error",
    /// prctl(PR_SET_NO_NEW_PRIVS).
    Privileges = "cannot give up new privileges",
    /// execve(2).
    Execute = "cannot execute the program",
    /// The process ended before it came that far.
    Died = "the process was killed before its program ran",
    /// setns(2).
    Inside = "cannot enter the namespaces of the task",
    /// Descriptors that should have come along did not, or cannot be made its own.
    Stdio = "cannot take over its standard input and output",
    /// ioctl(TIOCSCTTY).
    Terminal = "cannot make the terminal its own",
    /// sethostname(2).
    Hostname = "cannot set its name of the host",
    /// unshare(CLONE_NEWCGROUP).
    CgroupView = "cannot part its view of cgroups from the host's",
    /// Setting up the loopback of a network namespace.
    Loopback = "cannot set up its loopback",
    /// Mounting something empty over a path.
    Hidden = "cannot hide a part of the host from it",
    /// Remounting a path.
    ReadOnly = "cannot make a part of the host read-only for it",
    /// Opening either end of a mount, or mounting.
    Bind = "cannot mount a volume",
    /// capset(2), prctl(PR_CAPBSET_DROP), prctl(PR_CAP_AMBIENT).
    Capabilities = "cannot give up its capabilities",
    /// landlock_restrict_self(2).
    Landlock = "cannot restrict where it writes",
    /// seccomp(2).
    Seccomp = "cannot filter its system calls",
    /// Where it works cannot be reached from where it sees its root.
    Outside = "its working directory is outside of what it can see",
    /// Mounting an overlay, or what layers were copied to.
    Layers = "cannot mount the layers of its image",
    /// Mounting `/proc`, `/sys`, `/dev` and files of the host's network into a root.
    Furnish = "cannot mount what belongs into its root",
    /// pivot_root(2).
    Pivot = "cannot make its root the only one",
    /// Linking its network to the host's, and bounding what goes there.
    Link = "cannot link its network to the host's",
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl Step {
    /// As one byte, for the channel between a process and its keeper.
    pub(super) fn number(self) -> u8 {
        let place = Self::ALL.iter().position(|&step| step == self);
        place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
    }

    /// The step of a [`Step::number`].
    pub(super) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A stream that cannot be understood any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A message larger than [`MESSAGE_MAX`].
    TooLong(usize),
    /// Bytes that are no message of this version, or more of them than the message has.
    NoMessage,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => {
                write!(f, "a message to or from the keeper has {bytes} bytes; {MESSAGE_MAX} may be")
            }
            Self::NoMessage => f.write_str("not a message of the keeper's protocol"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Appends one message to `into`, which is unchanged when the message is too long.
pub fn encode<T: Serialize>(message: &T, into: &mut Vec<u8>) -> Result<(), Malformed> {
    let start = into.len();
    into.extend_from_slice(&[0; 4]);
    let bytes = std::mem::take(into);
    // Only a type that cannot be told in postcard is refused, and ours all can.
    *into = postcard::to_extend(message, bytes).map_err(|_| Malformed::NoMessage)?;
    let len = into.len() - start - 4;
    match u32::try_from(len) {
        Ok(short) if len <= MESSAGE_MAX => {
            into[start..start + 4].copy_from_slice(&short.to_le_bytes());
            Ok(())
        }
        _ => {
            into.truncate(start);
            Err(Malformed::TooLong(len))
        }
    }
}

/// Takes a stream apart into messages.
///
/// It holds one unfinished message and what its caller pushed behind it: who calls
/// [`message`](Self::message) until there is none after each push of at most `n` bytes keeps it
/// below [`MESSAGE_MAX`] + 4 + `n`.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// How many of them were already given out.
    taken: usize,
}

impl Decoder {
    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Puts messages back that were given out already, before what was not.
    pub fn put_back(&mut self, mut messages: Vec<u8>) {
        messages.extend(self.bytes.drain(self.taken..));
        (self.bytes, self.taken) = (messages, 0);
    }

    /// The next message, or none yet. After an error the stream is of no further use.
    pub fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Malformed> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((len, rest)) = rest.split_first_chunk() else {
            self.release();
            return Ok(None);
        };
        let len = u32::from_le_bytes(*len) as usize;
        if len > MESSAGE_MAX {
            return Err(Malformed::TooLong(len));
        }
        let Some(message) = rest.get(..len) else { return Ok(None) };
        let (message, trailing) =
            postcard::take_from_bytes(message).map_err(|_| Malformed::NoMessage)?;
        if !trailing.is_empty() {
            return Err(Malformed::NoMessage);
        }
        self.taken += 4 + len;
        Ok(Some(message))
    }

    /// Gives the room of a large message back once all of it was given out.
    fn release(&mut self) {
        if self.taken == self.bytes.len() && self.bytes.capacity() > 8192 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A launch that asks for as little as can be.
    pub(crate) fn launch() -> Launch {
        Launch {
            container: ContainerId { incarnation: 1, counter: 1 },
            attempt: 0,
            session: Session { incarnation: 1, counter: 1 },
            deadline_us: 0,
            program: CString::default(),
            arguments: vec![c"true".into()],
            environment: Vec::new(),
            directory: c"/".into(),
            stdout: CString::default(),
            stderr: CString::default(),
            user: None,
            rlimits: heapless::Vec::new(),
            cgroups: heapless::Vec::new(),
            namespaces: Namespaces::default(),
            no_new_privs: false,
            oom_score_adj: 0,
            stop_after_us: 0,
            grace_us: 0,
        }
    }

    fn sample() -> Request {
        Request::Signal { container: ContainerId { incarnation: 7, counter: 9 }, signal: 15 }
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for message in [sample(), Request::List, sample()] {
            encode(&message, &mut stream).unwrap();
        }
        for cut in 1..stream.len() {
            let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
            for piece in stream.chunks(cut) {
                decoder.push(piece);
                while let Some(message) = decoder.message::<Request>().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [sample(), Request::List, sample()], "cut at {cut}");
        }
    }

    #[test]
    fn the_bytes_of_this_version_are_these() {
        let mut stream = Vec::new();
        encode(&sample(), &mut stream).unwrap();
        assert_eq!(stream, [4, 0, 0, 0, 2, 7, 9, 15]);
        let listed = Reply::Listed { containers: Vec::new(), last: true };
        stream.clear();
        encode(&listed, &mut stream).unwrap();
        assert_eq!(stream, [3, 0, 0, 0, 1, 0, 1]);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_bytes_come() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert_eq!(decoder.message::<Request>(), Err(Malformed::TooLong(u32::MAX as usize)));
    }

    #[test]
    fn bytes_behind_a_message_are_refused() {
        let mut stream = Vec::new();
        encode(&Request::List, &mut stream).unwrap();
        stream[0] += 1;
        stream.push(0);
        let mut decoder = Decoder::default();
        decoder.push(&stream);
        assert_eq!(decoder.message::<Request>(), Err(Malformed::NoMessage));
    }

    #[test]
    fn a_message_that_is_too_long_leaves_the_buffer_alone() {
        let mut stream = vec![1, 2, 3];
        let long = vec![0u8; MESSAGE_MAX + 1];
        assert!(matches!(encode(&long, &mut stream), Err(Malformed::TooLong(_))));
        assert_eq!(stream, [1, 2, 3]);
    }

    #[test]
    fn a_large_message_does_not_keep_its_room() {
        let mut stream = Vec::new();
        encode(&vec![7u8; 200_000], &mut stream).unwrap();
        let mut decoder = Decoder::default();
        decoder.push(&stream);
        assert_eq!(decoder.message::<Vec<u8>>().unwrap().unwrap().len(), 200_000);
        assert_eq!(decoder.message::<Vec<u8>>(), Ok(None));
        assert_eq!(decoder.bytes.capacity(), 0);
    }

    #[test]
    fn a_refusal_reads_as_a_sentence() {
        let refused = |step, errno| Trouble { step, errno };
        assert_eq!(
            refused(Step::Execute, libc::ENOENT).to_string(),
            "cannot execute the program: No such file or directory"
        );
        assert_eq!(refused(Step::Late, 0).to_string(), "the deadline of the launch has passed");
        assert!(refused(Step::Died, 9).to_string().ends_with("by signal 9"));
    }

    #[test]
    fn every_step_fits_its_byte() {
        for &step in Step::ALL {
            assert_eq!(Step::of_number(step.number()), Some(step));
        }
        assert_eq!(Step::of_number(200), None);
    }
}
