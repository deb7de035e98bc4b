//! The keeper: one small process per agent that is every task's parent.
//!
//! Only a parent learns how its child ended, so the parent must outlive the agent. The keeper is
//! forked from the agent before its first thread, keeps nothing of it but memory it shares, starts
//! tasks on request, holds their ends until they are taken in, and stays when the agent dies or is
//! replaced. It parses nothing that comes from a network, and wakes up only when it is told
//! something.
//!
//! | file | holds |
//! |---|---|
//! | [`protocol`] | what is said, and how it lies in the stream |
//! | `serve`, `connection` | the loop: agent, children, clock |
//! | `tasks` | the containers, from launch to forgotten |
//! | `child`, `init`, `inside` | what a new process does before it is the task, or beside it |
//! | `group` | process 1 of tasks that have their processes in common |
//! | [`wall`], `walls`, `view` | what more is put up around it |
//! | `root` | a root of its own, of the layers of an image |
//! | [`kin`] | who descends from a keeper, and is not heard by one |
//! | `exits` | `meta/exits`, for when the keeper dies, too |
//! | `client`, `left` | the agent's end, and what to do with the tasks of a dead keeper |

mod child;
mod client;
mod connection;
mod exits;
mod group;
mod init;
mod inside;
pub mod kin;
mod left;
mod named;
mod only;
pub mod protocol;
pub(crate) mod root;
mod serve;
pub(crate) mod stat;
mod tasks;
mod view;
pub mod wall;
mod walls;

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use mesita_core::wire::Session;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, socketpair,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_child_subreaper, set_dumpable_behavior,
    setrlimit,
};

use crate::sys::{self, Cloner, Failure, Linux, Sys};
use child::{Badness, Maps, Origin, REPORT, Report};
use exits::Exits;
use protocol::{Held, Namespaces, Welcome};
use serve::Keeper;
use tasks::Tasks;

pub use client::{Client, connect, lend};
pub use left::end_left;

/// The name of a keeper's process.
const NAME: &CStr = c"mesita-keeper";

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4;

/// What a keeper is told when it is started.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// The agent's work directory; the keeper's files are in `meta` below it.
    pub work_dir: PathBuf,
    /// The agent's session as far as it is known.
    pub session: Session,
    /// It ends when its client is gone, and all tasks with it: for `run` and `dev`.
    pub ends_with_client: bool,
    /// The work directory goes with it, too.
    pub temporary: bool,
    /// Containers held at once, those included whose end was not taken in.
    pub containers_max: u32,
    /// Its standard error is the agent's; otherwise nowhere. Who waits for the end of a pipe that
    /// this is waits for the keeper's end, too.
    pub logs: bool,
    /// The agent's key: of agents with the same one no two have a keeper on this machine.
    pub key: Option<[u8; 32]>,
}

impl KeeperOptions {
    /// The keeper of an agent with this work directory.
    pub fn new(work_dir: &Path) -> Self {
        Self {
            work_dir: work_dir.to_owned(),
            session: Session::default(),
            ends_with_client: false,
            temporary: false,
            containers_max: 4096,
            logs: false,
            key: None,
        }
    }
}

/// Why there is no keeper, or none to talk to.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// A call failed.
    Os(Failure),
    /// The process has other threads already, which a fork would lose.
    Threads(usize),
    /// A keeper is there and does not answer.
    Silent(PathBuf),
    /// It ended before it answered.
    Died,
    /// It speaks none of our versions.
    Version(u16),
    /// It said what it may not.
    Malformed(protocol::Malformed),
    /// This process is the keeper of another work directory, whose agent has the same key.
    Copied(i32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(failure) => failure.fmt(f),
            Self::Threads(threads) => {
                write!(f, "a keeper must be started before the first thread; there are {threads}")
            }
            Self::Silent(socket) => {
                write!(f, "the keeper at {} does not answer; ", socket.display())?;
                f.write_str("it is stopped or stuck, and a second one may not be started beside it")
            }
            Self::Died => f.write_str("the keeper ended before it answered"),
            Self::Version(version) => {
                write!(f, "the running keeper speaks version {version} of its protocol, ")?;
                let (min, max) = (protocol::VERSION_MIN, protocol::VERSION_MAX);
                write!(
                    f,
                    "this release {min} to {max}; end the tasks that it keeps, then try again"
                )
            }
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Copied(pid) => write!(
                f,
                "process {pid} keeps the tasks of another work directory whose agent has this one's key: one \
                 of the two is a copy, and would end the other's tasks; start the other one, or end its agent \
                 with SIGUSR1 and then this process"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Os(failure)
    }
}

/// Uses the keeper of this work directory, or starts one.
///
/// The caller holds the work directory's lock, so nobody else does this now, and has no thread but
/// its first. Takes as long as a fork, or as the running keeper takes to answer, at most 5 s.
pub fn start(options: &KeeperOptions) -> Result<Client, Error> {
    // A keeper may be about to end as we come; it then hangs up, and the next look finds none.
    for _ in 0..3 {
        match connect(&options.work_dir, options.session) {
            Ok(Some(client)) => return Ok(client),
            Ok(None) => return fork(options),
            Err(Error::Died) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Died)
}

/// Where a keeper's files are.
fn meta(work_dir: &Path) -> PathBuf {
    work_dir.join("meta")
}

/// The keeper's socket.
fn socket_path(work_dir: &Path) -> PathBuf {
    meta(work_dir).join("keeper.sock")
}

/// The address of a socket, however long its path: the kernel takes 107 bytes, so a longer one is
/// reached through the directory's descriptor, which has to live as long as the address is used.
fn address(path: &Path) -> Result<(SocketAddrUnix, Option<OwnedFd>), Failure> {
    let failed = |errno: rustix::io::Errno| Failure::new("socket", path, errno.raw_os_error());
    if let Ok(address) = SocketAddrUnix::new(path) {
        return Ok((address, None));
    }
    let directory = path.parent().unwrap_or(path);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(directory, flags, Mode::empty()).map_err(failed)?;
    let name = path.file_name().unwrap_or_default();
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((SocketAddrUnix::new(short).map_err(failed)?, Some(directory)))
}

/// Threads that the process had when it began.
static AT_FIRST: AtomicUsize = AtomicUsize::new(1);

/// Remembers how many threads there are before any of ours: where an emulator runs the process, its own are seen
/// among them, and a fork is safe all the same. For a program to call before all else.
pub fn remember_first_threads() {
    AT_FIRST.store(threads(), Ordering::Relaxed);
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Makes everything that can fail, then forks.
fn fork(options: &KeeperOptions) -> Result<Client, Error> {
    let threads = threads();
    if threads > AT_FIRST.load(Ordering::Relaxed) {
        return Err(Error::Threads(threads));
    }
    // The keeper is in no directory of ours, so its paths must lead from the root.
    let work_dir = std::path::absolute(&options.work_dir)
        .map_err(|error| Failure::io("find", &options.work_dir, &error))?;
    let options = &KeeperOptions { work_dir, ..options.clone() };
    let meta = meta(&options.work_dir);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&meta);
    made.map_err(|error| Failure::io("mkdir", &meta, &error))?;
    let lock = lock(&meta)?;
    let name = only::claim(options.key.as_ref())?;
    let boot = boot_id()?;
    let (exits, held) = Exits::open(&meta, boot)?;
    let listener = listen_at(&socket_path(&options.work_dir))?;
    let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None)
        .map_err(|errno| Failure::plain("socketpair", errno.raw_os_error()))?;
    let born = Born { options, lock, name, exits, held, listener, first: theirs, boot };
    sys::fork_detached(|| born.live())?;
    Client::greet(ours.into(), options.session, true)
}

/// Two keepers of one work directory would lose each other's ends.
fn lock(meta: &Path) -> Result<OwnedFd, Failure> {
    let path = meta.join("keeper.lock");
    let failed = |errno: rustix::io::Errno| Failure::new("lock", &path, errno.raw_os_error());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = open(&path, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
    // One that just hung up is gone within milliseconds.
    for _ in 0..100 {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Linux.wait(&[], 10),
            result => return result.map(|()| lock).map_err(failed),
        }
    }
    Err(failed(rustix::io::Errno::WOULDBLOCK))
}

fn listen_at(path: &Path) -> Result<OwnedFd, Failure> {
    let failed = |errno: rustix::io::Errno| Failure::new("listen at", path, errno.raw_os_error());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let listener = listener.map_err(failed)?;
    // Under a name of its own first, so that who finds the socket finds somebody listening.
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let (address, _directory) = address(&new)?;
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = bind(&listener, &address);
    rustix::process::umask(mask);
    bound.and_then(|()| listen(&listener, BACKLOG)).map_err(failed)?;
    fs::rename(&new, path).map_err(|error| Failure::io("rename", &new, &error))?;
    Ok(listener)
}

/// The kernel's id of this boot.
fn boot_id() -> Result<[u8; 16], Failure> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = Linux.read(path)?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let id = u128::from_str_radix(&digits, 16).map_err(|_| Failure::new("read", path, 5))?;
    Ok(id.to_be_bytes())
}

/// A keeper before its first breath.
struct Born<'a> {
    options: &'a KeeperOptions,
    lock: OwnedFd,
    name: OwnedFd,
    exits: Exits,
    held: Vec<Held>,
    listener: OwnedFd,
    first: OwnedFd,
    boot: [u8; 16],
}

impl Born<'_> {
    /// What the forked process does; the result is its status.
    fn live(self) -> i32 {
        let options = self.options;
        match self.become_keeper() {
            Ok(mut keeper) => {
                keeper.serve();
                clean_up(options, &keeper);
                0
            }
            Err(failure) => {
                log(&failure);
                1
            }
        }
    }

    fn become_keeper(self) -> Result<Keeper, Failure> {
        sys::block_signals();
        sys::default_signals();
        sys::close_all_but_on_any_kernel([
            self.lock.as_raw_fd(),
            self.name.as_raw_fd(),
            self.exits.descriptor().as_raw_fd(),
            self.listener.as_raw_fd(),
            self.first.as_raw_fd(),
        ]);
        let origin = detach(self.options.logs)?;
        match named::be_called_keeper(&self.options.work_dir) {
            // Those that have it were told it by the agent's own arguments, too; and an agent that is not
            // root has no keeper that may do this.
            Err(failure) if failure.errno != libc::EACCES => log(&failure),
            _ => {}
        }
        sys::forget_inherited_memory();
        let (namespaces, trouble) = try_namespaces();
        let trouble = trouble.map(|(step, errno)| protocol::Trouble { step, errno });
        let welcome = Welcome {
            version: protocol::VERSION_MAX,
            pid: std::process::id(),
            boot: self.boot,
            namespaces,
            trouble,
        };
        let tasks = Tasks::new(self.exits, &self.held, self.options.containers_max, origin)?;
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&children, flags)
            .map_err(|errno| Failure::plain("signalfd", errno as i32))?;
        let ends_with_client = self.options.ends_with_client;
        Keeper::new(
            tasks,
            [self.listener, self.name, self.lock],
            signals,
            self.first,
            welcome,
            ends_with_client,
        )
    }
}

/// Makes this process nobody's but the kernel's: a name of its own, no terminal, no directory kept
/// busy, no look into its memory, the last to be killed when memory is out, and as many descriptors
/// as it can have. Returns what of that tasks shall have as it was.
fn detach(logs: bool) -> Result<Origin, Failure> {
    let failed = |call| move |errno: rustix::io::Errno| Failure::plain(call, errno.raw_os_error());
    let null = open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.map_err(failed("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(failed("dup2"))?;
    rustix::stdio::dup2_stdout(&null).map_err(failed("dup2"))?;
    if !logs {
        rustix::stdio::dup2_stderr(&null).map_err(failed("dup2"))?;
    }
    // Not the agent's keys, nor those of whoever started it.
    sys::new_keyring();
    rustix::process::chdir(c"/").map_err(failed("chdir"))?;
    rustix::thread::set_name(NAME).map_err(failed("prctl"))?;
    let adopts = set_child_subreaper(Some(rustix::process::getpid()));
    // An emulator of a processor may refuse it; there, tasks are run to see that they run.
    if AT_FIRST.load(Ordering::Relaxed) == 1 {
        adopts.map_err(failed("prctl"))?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("prctl"))?;
    let path = "/proc/self/oom_score_adj";
    let agent = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    // Where this is not allowed, the keeper is as any other process.
    let badness = Badness { agent: agent.unwrap_or(0), lowered: fs::write(path, "-900").is_ok() };
    // Every task in a namespace takes one descriptor.
    let nofile = getrlimit(Resource::Nofile);
    let more = Rlimit { current: nofile.maximum, ..nofile };
    let raised = nofile != more && setrlimit(Resource::Nofile, more).is_ok();
    Ok(Origin { badness, nofile: raised.then_some(nofile) })
}

/// Which namespaces tasks can get, found out by making them. Root needs no user namespace.
fn try_namespaces() -> (Namespaces, Option<child::Trouble>) {
    let user = !rustix::process::geteuid().is_root();
    let wanted = Namespaces { user, pid: true, mount: true };
    match trial(wanted) {
        Ok(()) => (wanted, None),
        Err(trouble) => (Namespaces::default(), Some(trouble)),
    }
}

fn trial(namespaces: Namespaces) -> Result<(), child::Trouble> {
    use rustix::net::{RecvFlags, recv};
    let channel = |errno: rustix::io::Errno| (protocol::Step::Channel, errno.raw_os_error());
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).map_err(channel)?;
    let mut cloner = Cloner::new().map_err(|failure| (protocol::Step::Clone, failure.errno))?;
    let maps = Maps::new(rustix::process::geteuid(), rustix::process::getegid());
    let child = &mut |_| {
        let report =
            init::part(namespaces, &maps).map_or_else(Report::Failed, |()| Report::Started);
        report.send(theirs.as_fd());
        0
    };
    let pid = cloner.spawn(tasks::flags(namespaces, 0), None, child);
    let pid = pid.map_err(|errno| (protocol::Step::Clone, errno))?;
    drop(theirs);
    let mut bytes = [0; REPORT];
    let heard = recv(&ours, &mut bytes, RecvFlags::empty());
    sys::wait_for_child(pid);
    match heard.ok().and_then(|_| Report::of_bytes(&bytes)) {
        Some(Report::Started) => Ok(()),
        Some(Report::Failed(trouble)) => Err(trouble),
        Some(Report::Ended(..) | Report::Waits) | None => Err((protocol::Step::Died, 0)),
    }
}

/// Removes what a keeper that is no longer needed leaves.
fn clean_up(options: &KeeperOptions, keeper: &Keeper) {
    // Who comes after one that is lost may have a socket there.
    if !keeper.is_lost() {
        let _ = fs::remove_file(socket_path(&options.work_dir));
    }
    if options.ends_with_client || keeper.is_lost() {
        keeper.tasks.remove_cgroups();
    }
    for directory in &keeper.directories {
        // Another agent's directory beside ours keeps the one above both; that is no trouble.
        let _ = crate::cgroups::leave(&Linux, directory);
    }
    if options.temporary
        && let Err(failure) = crate::tree::remove(&options.work_dir)
    {
        log(&failure);
    }
}

/// Says something on standard error. Whether anybody reads it, or can, does not matter.
fn log(what: &dyn fmt::Display) {
    let _ = writeln!(std::io::stderr(), "mesita-keeper: {what}");
}

/// A path as it came through the protocol.
fn path_of(text: &CStr) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(text.to_bytes()))
}
