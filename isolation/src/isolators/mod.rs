//! The isolators: what each of them is called, and what they have in common.
//!
//! An isolator is one file at the path of its name, and one line in [`REGISTRY`]; the flag
//! `--isolation`, its help and the README's table follow from that line. Isolators keep no state:
//! what they did is in the kernel, so a restarted agent knows as much as the one before. They run
//! on a pool of threads; for one container the caller keeps the order prepare, isolate, then
//! update, usage and watch, then cleanup.

mod cgroups;
mod disk;
pub(crate) mod exec;
mod filesystem;
mod linux;
mod namespaces;
mod network;
mod posix;
mod volume;

use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use mesita_core::wire::task::Exit;

use crate::cgroups::{self as cgroups_of, At, Cgroups, Controller, Part, Place, Pressure, Why};
use crate::images::Image;
use crate::isolation::Options;
use crate::keeper::protocol::{self, Namespaces, RLIMITS_MAX, Step, Trouble};
use crate::keeper::wall::{Node, PORTS_MAX, Wall};
use crate::sys::{Device, Failure, Sys};

pub use cgroups::devices::DEVICES_MAX;
pub use cgroups::mem::{MESSAGE_MAX, badness};
pub use disk::quota::ProjectRange;
pub use exec::{ANSWER_MAX, CALL_US};
pub use linux::capabilities::Capabilities;
pub use linux::landlock::WRITABLE;
pub(crate) use linux::set_ids::deny as deny_set_ids;
pub(crate) use linux::truncate::deny as deny_truncating;
pub use namespaces::range::Range;
pub use volume::{Source, VOLUMES_MAX, Volume};

/// One aspect of a task that is held.
pub trait Isolator: fmt::Debug + Send + Sync {
    /// Takes note of the containers that the agent knows after a restart. Leftovers of others are
    /// removed by the caller.
    fn recover(&self, _known: &[Container<'_>]) -> Result<(), Error> {
        Ok(())
    }

    /// Sets up a container that has its cgroup directories and no process, and adds to its launch.
    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error>;

    /// True when it limits parts of a container as well, which have cgroups below those of the
    /// container, and tells what they use: then [`prepare`](Self::prepare),
    /// [`watch`](Self::watch), [`limitation`](Self::limitation) and [`usage`](Self::usage) are
    /// called for them, too.
    fn limits_parts(&self) -> bool {
        false
    }

    /// Adds to a process that is started beside the container's task, in its namespaces, what keeps
    /// it from having more privileges than a task has that asks for as much.
    fn beside(&self, _limits: &TaskLimits, _additions: &mut Additions) -> Result<(), Error> {
        Ok(())
    }

    /// Does what can only be done to a process that exists.
    fn isolate(&self, _container: &Container<'_>, _pid: u32) -> Result<(), Error> {
        Ok(())
    }

    /// A descriptor that becomes readable when [`limitation`](Self::limitation) is worth a look,
    /// where the kernel has one.
    fn watch(&self, _container: &Container<'_>) -> Result<Option<OwnedFd>, Error> {
        Ok(None)
    }

    /// Which limit the container ran into, if any, so far or in the end.
    fn limitation(
        &self,
        _container: &Container<'_>,
        _exit: Option<Exit>,
    ) -> Result<Option<Limitation>, Error> {
        Ok(None)
    }

    /// Changes the limits of a container that runs.
    fn update(&self, _container: &Container<'_>, _limits: &TaskLimits) -> Result<(), Error> {
        Ok(())
    }

    /// Has a container that runs use these devices and those of everybody, and no other any more.
    fn hold_devices(&self, _container: &Container<'_>, _own: &[Device]) -> Result<(), Error> {
        Ok(())
    }

    /// Holds a persistent volume to its size, whoever uses it.
    fn hold_volume(&self, _sys: &dyn Sys, _volume: &Path, _bytes: u64) -> Result<(), Error> {
        Ok(())
    }

    /// Adds what it knows of the container's use of the machine.
    fn usage(&self, _container: &Container<'_>, _usage: &mut Usage) -> Result<(), Error> {
        Ok(())
    }

    /// The address of its own that the container has while it runs.
    fn address(&self, _container: &Container<'_>) -> Option<Ipv4Addr> {
        None
    }

    /// Undoes [`prepare`](Self::prepare); cgroup directories are removed by the caller.
    fn cleanup(&self, _container: &Container<'_>) -> Result<(), Error> {
        Ok(())
    }
}

/// A container, as isolators see it.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// Its name, and where it is.
    pub at: At,
    /// The part of it that this is about; none = all of it.
    pub part: Option<Part>,
    /// The kernel.
    pub sys: &'a dyn Sys,
    /// Where its cgroups are.
    pub cgroups: &'a Cgroups,
    /// The process that the keeper told, where that is of use.
    pub pid: Option<u32>,
}

impl Container<'_> {
    /// Its directory in a hierarchy.
    pub(crate) fn directory(&self, place: &Place) -> PathBuf {
        let all = &place.directory;
        self.part.map_or_else(|| self.at.below(all), |part| part.below(all))
    }

    /// Its processes, as far as they can be found.
    pub(crate) fn processes(&self) -> Vec<u32> {
        match (self.cgroups.of(self.at).first(), self.pid) {
            (Some(directory), _) => cgroups_of::members(self.sys, directory),
            (None, Some(pid)) => posix::accounts::inside(self.sys, pid),
            (None, None) => Vec::new(),
        }
    }

    /// Why it does not get what is around it, in place of its own.
    pub(crate) const fn refuses_to_share(&self, what: &'static str) -> Error {
        if self.at.inside.is_some() { Error::SharesGroup(what) } else { Error::Shares(what) }
    }
}

/// What a task may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskLimits {
    /// CPUs asked for, in thousandths.
    pub cpus_milli: u64,
    /// It has CPU time that nobody else wants: what it was given may be taken back.
    pub low_priority: bool,
    /// CPUs that it may use at the most, in thousandths (Mesos: `limits`); none = as the flags say.
    pub cpus_limit: Option<Cap>,
    /// Memory asked for, in bytes.
    pub mem_bytes: u64,
    /// Memory that it may use at the most, in bytes; none = what it asked for.
    pub mem_limit: Option<Cap>,
    /// It asks for the processes of what it is inside of, or of its agent, and not for its own.
    pub shares_processes: bool,
    /// Whether it asks for IPC of its own, or for its agent's (Mesos: `LinuxInfo.ipc_mode`).
    pub ipc: Option<Ipc>,
    /// What it finds the host called; none = as it is.
    pub hostname: Option<String>,
    /// Memory that it shares, in bytes; none = as the flags say.
    pub shm_bytes: Option<u64>,
    /// What it is inside of limits it, together with all others there: it only weighs.
    pub shared: bool,
    /// It has no process, and is the limit of those inside of it.
    pub holds: bool,
    /// Processes and threads; none = as the flags say.
    pub pids: Option<u32>,
    /// Limits of each process (Mesos: `RLimitInfo`).
    pub rlimits: heapless::Vec<Rlimit, RLIMITS_MAX>,
    /// Reading from and writing to each disk; none = as the flags say.
    pub io: Option<Io>,
    /// Devices it was given, at most [`DEVICES_MAX`].
    pub devices: Vec<Device>,
    /// The same by their names, for a root of its own, at most [`NODES_MAX`](crate::keeper::wall::NODES_MAX).
    pub nodes: Vec<Node>,
    /// Capabilities that it asks for (Mesos: `LinuxInfo`); none = as the flags say.
    pub effective_capabilities: Option<Capabilities>,
    /// Those that its programs can ever get.
    pub bounding_capabilities: Option<Capabilities>,
    /// It runs as root, or in root's group.
    pub root: bool,
    /// The filter of system calls that it asks for; none = as the flags say.
    pub seccomp: Option<Seccomp>,
    /// What its files may take, in bytes; none = as much as there is. Of what holds others: those that
    /// are in none of theirs.
    pub disk_bytes: Option<u64>,
    /// Ports that it holds, from and to.
    pub ports: Vec<(u16, u16)>,
    /// What it finds mounted, at most [`VOLUMES_MAX`].
    pub volumes: Vec<Volume>,
    /// Directories of its own outside of where it works: volumes.
    pub writable: Vec<PathBuf>,
    /// The image that it stands on; none = the machine's own files.
    pub stands: Option<Stands>,
    /// Images that it finds elsewhere.
    pub images: Vec<ImageVolume>,
}

/// Whose System V objects, POSIX queues and shared memory a task asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipc {
    /// Its own.
    Private,
    /// Those of what it is inside of.
    Parent,
}

/// A filter of system calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// That of a file in `--seccomp-config-dir`.
    Profile(String),
    /// None.
    Unconfined,
}

/// How much of a disk may be used each second; none = as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Reads.
    pub reads: Option<u64>,
    /// Writes.
    pub writes: Option<u64>,
}

/// What a task stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    /// The image, which is kept here.
    pub image: Image,
    /// Its sandbox on the machine.
    pub sandbox: PathBuf,
}

/// An image that a task finds somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageVolume {
    /// The image, which is kept here.
    pub image: Image,
    /// Where: a path below the sandbox, or in a root of its own any.
    pub to: String,
    /// It cannot write there; else what it writes goes with it.
    pub read_only: bool,
}

/// The name of the isolator that gives a task a root of its own.
pub const FILESYSTEM_LINUX: &str = "filesystem/linux";

/// The name of the isolator that keeps a task from writing elsewhere.
pub(crate) const LINUX_LANDLOCK: &str = "linux/landlock";

/// The name of the isolator that keeps from a task what only root may do.
pub(crate) const LINUX_CAPABILITIES: &str = "linux/capabilities";

/// The name of the isolator that gives a task users of its own.
pub const NAMESPACES_USER: &str = "namespaces/user";

/// A limit above a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// So much.
    At(u64),
    /// None at all.
    Unlimited,
}

/// One limit of each process, by the name that Mesos gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// As in `RLMT_NOFILE`.
    pub name: String,
    /// What is enforced; none = unlimited.
    pub soft: Option<u64>,
    /// How far the process may raise it; none = unlimited.
    pub hard: Option<u64>,
}

/// What isolators add to a launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// Namespaces of its own.
    pub namespaces: Namespaces,
    /// Executing a program never grants a privilege.
    pub no_new_privs: bool,
    /// Limits of each process.
    pub rlimits: heapless::Vec<protocol::Rlimit, RLIMITS_MAX>,
    /// What is added to the agent's own `oom_score_adj`.
    pub oom_score_adj: i16,
    /// What more is put up around it.
    pub walls: Vec<Wall>,
}

/// A limit that a container ran into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limitation {
    /// Which.
    pub reason: Reason,
    /// What a person reads, at most [`MESSAGE_MAX`] bytes.
    pub message: String,
    /// How much of it, in bytes: of memory what it took at the most, of disk what it may take.
    pub bytes: u64,
}

/// Which limit a container ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Memory: the kernel killed. Mesos: `REASON_CONTAINER_LIMITATION_MEMORY`.
    Memory,
    /// Disk: it was looked at. Mesos: `REASON_CONTAINER_LIMITATION_DISK`.
    Disk,
}

/// What a container uses and used. What no isolator knows is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user mode, in µs.
    pub user_us: Option<u64>,
    /// CPU time in the kernel, in µs.
    pub system_us: Option<u64>,
    /// The cap of its CPU time, in thousandths of a CPU; none = it has none.
    pub cpus_limit_milli: Option<u64>,
    /// Periods of 100 ms in which it ran under a quota.
    pub periods: Option<u64>,
    /// Those in which the quota was used up.
    pub throttled_periods: Option<u64>,
    /// How long it was kept from running by the quota, in µs.
    pub throttled_us: Option<u64>,
    /// Anonymous memory, in bytes.
    pub rss_bytes: Option<u64>,
    /// All memory that counts towards the limit, in bytes.
    pub mem_bytes: Option<u64>,
    /// The most that ever was, in bytes.
    pub mem_peak_bytes: Option<u64>,
    /// The limit, in bytes.
    pub mem_limit_bytes: Option<u64>,
    /// Processes the kernel killed for memory.
    pub oom_kills: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
    /// Their threads, the first of each among them.
    pub threads: Option<u64>,
    /// The limit of those.
    pub pids_limit: Option<u64>,
    /// Forks that the limit refused.
    pub pids_refused: Option<u64>,
    /// Memory that files are cached in, in bytes.
    pub file_bytes: Option<u64>,
    /// Of that what is mapped, in bytes.
    pub mapped_bytes: Option<u64>,
    /// What lies in swap, in bytes.
    pub swap_bytes: Option<u64>,
    /// What the kernel uses for it, in bytes; v2 only.
    pub kernel_bytes: Option<u64>,
    /// What sockets hold, in bytes.
    pub socket_bytes: Option<u64>,
    /// What cannot be taken from it, in bytes.
    pub unevictable_bytes: Option<u64>,
    /// Read from disks, in bytes, and how often.
    pub io_read_bytes: Option<u64>,
    /// Written to disks, in bytes.
    pub io_written_bytes: Option<u64>,
    /// Reads of disks.
    pub io_reads: Option<u64>,
    /// Writes of disks.
    pub io_writes: Option<u64>,
    /// Shortage of CPU time, where the unified hierarchy tells.
    pub cpu_pressure: Option<Pressure>,
    /// Shortage of memory.
    pub mem_pressure: Option<Pressure>,
    /// Shortage of disks.
    pub io_pressure: Option<Pressure>,
    /// Bytes of its sandbox and volumes.
    pub disk_bytes: Option<u64>,
    /// The limit of those.
    pub disk_limit_bytes: Option<u64>,
    /// Bytes that came to it by its link to the host's network,
    pub net_received_bytes: Option<u64>,
    /// packets of them,
    pub net_received: Option<u64>,
    /// packets that did not, for they were too many,
    pub net_unreceived: Option<u64>,
    /// and those that were spoiled.
    pub net_received_errors: Option<u64>,
    /// Bytes that left it,
    pub net_sent_bytes: Option<u64>,
    /// packets of them,
    pub net_sent: Option<u64>,
    /// packets that did not,
    pub net_unsent: Option<u64>,
    /// and those that were spoiled.
    pub net_sent_errors: Option<u64>,
    /// Bytes that may come to it in a second; none = as many as there are.
    pub net_received_limit: Option<u64>,
    /// Bytes that may leave it.
    pub net_sent_limit: Option<u64>,
}

/// Why something could not be done to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The kernel refused.
    Os(Failure),
    /// A file of the kernel does not read as it should.
    Unreadable(PathBuf),
    /// The task asks for limits of its processes, and no isolator sets them.
    NoRlimits,
    /// The task asks for an image, and the isolator that gives it is off.
    NoImages,
    /// What it is to stand on, or to find, cannot be had.
    Image(String),
    /// The task asks for a limit that Linux does not have.
    UnknownRlimit(String),
    /// The soft limit is above the hard one.
    RlimitAboveHard(String),
    /// The task asks for capabilities that it may not have.
    Capabilities {
        /// Which set.
        what: &'static str,
        /// What it asks for.
        asked: String,
        /// What there is.
        most: String,
    },
    /// The task asks for a profile of system calls that does not exist.
    NoProfile(String),
    /// A profile of system calls is longer than the kernel takes.
    LongProfile(String),
    /// The task asks for no filter of system calls, and may not.
    Unconfined,
    /// What an isolator from outside was called for, and what it said.
    Outside(&'static str, String),
    /// The task holds more ports than it can be held to.
    Ports,
    /// The task asks for something of its agent's that no task shares.
    Shares(&'static str),
    /// A task of a group asks for what its executor would have, if it were a process.
    SharesGroup(&'static str),
    /// Directories of its own cannot be had in its sandbox.
    Shared(String),
    /// It would be root where users are its own, and is root of the host's files then.
    Root,
    /// It is one of a group, whose tasks would have a network each.
    Grouped,
    /// No address is left for its network.
    Addresses,
    /// All projects of `--disk-project-range` have files.
    Projects,
    /// What was fetched takes more than the task may.
    Full(String),
    /// The task asks for a name that no host has.
    Hostname(String),
    /// A volume cannot be had: which, and why.
    Volume(String, &'static str),
    /// The task asks for something, and the isolator that does it is off.
    Off(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(failure) => failure.fmt(f),
            Self::Unreadable(path) => write!(f, "{} makes no sense", path.display()),
            Self::NoRlimits => f.write_str("the task sets rlimits, and posix/rlimits is off"),
            Self::NoImages => {
                f.write_str("the task asks for an image, and this agent has none of it")
            }
            Self::Image(why) | Self::Shared(why) => f.write_str(why),
            Self::UnknownRlimit(name) => write!(f, "no such rlimit: {name}"),
            Self::Capabilities { what, asked, most } => {
                write!(f, "{what} capabilities requested are {asked}, and ")?;
                match most.as_str() {
                    "" => f.write_str("none are allowed; ")?,
                    most => write!(f, "only {most} are allowed; ")?,
                }
                f.write_str("--effective-capabilities and --bounding-capabilities say which")
            }
            Self::NoProfile(name) => {
                write!(f, "there is no profile `{}` in --seccomp-config-dir", name.escape_debug())
            }
            Self::LongProfile(name) => {
                write!(f, "profile `{}` is longer than the kernel takes", name.escape_debug())
            }
            Self::Unconfined => f.write_str(
                "the task asks for no filter of system calls, and its agent gives each one: start that \
                 with --seccomp-unconfined, or name a profile of --seccomp-config-dir",
            ),
            Self::Outside(what, why) => write!(f, "{what}: {why}"),
            Self::Shares(what) => {
                write!(f, "the task asks to share the {what} of its agent, and no task does")
            }
            Self::SharesGroup(what) => write!(
                f,
                "the task asks to share the {what} of its group's executor, which is the agent itself: \
                 each task of a group has its own"
            ),
            Self::Root => f.write_str(
                "the task would run as root, or in its group, and own the machine's files in users \
                 of its own as well: run it as another user",
            ),
            Self::Grouped => f.write_str(
                "the tasks of a group share a network, and here each would have its own: launch it \
                 where this isolator is off",
            ),
            Self::Projects => f.write_str(
                "all projects of --disk-project-range have files: give it a wider one, or keep \
                 sandboxes for a shorter time by --gc-delay",
            ),
            Self::Full(how) => write!(f, "{how} before it begins: ask for more `disk`"),
            Self::Addresses => f.write_str("all of --container-network is taken"),
            Self::Hostname(name) => {
                write!(f, "`{}` is no name of a host", name.escape_debug())
            }
            Self::Ports => write!(f, "a task is held to at most {PORTS_MAX} ports"),
            Self::Volume(path, why) => write!(f, "volume `{}`: {why}", path.escape_debug()),
            Self::Off(what) => write!(f, "the task asks for {what}, and this isolator is off"),
            Self::RlimitAboveHard(name) => {
                write!(f, "{name}: the soft limit is above the hard one")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Os(failure)
    }
}

/// What an isolator is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) sys: &'a dyn Sys,
    pub(crate) options: &'a Options,
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) missing: &'a [(Controller, Why)],
}

impl Ground<'_> {
    /// Why a controller is not there, if it is not.
    fn require(&self, controller: Controller) -> Result<(), Unusable> {
        if self.cgroups.place(controller).is_some() {
            return Ok(());
        }
        let why = self.missing.iter().find(|(missing, _)| *missing == controller);
        let why = why.map_or(Why::Missing(controller), |(_, why)| why.clone());
        Err(Unusable::Cgroup(why))
    }

    /// Whether the keeper puts up walls.
    fn require_walls(&self) -> Result<(), Unusable> {
        let able = self.options.keeper_version >= WALLS_SINCE;
        if able { Ok(()) } else { Err(Unusable::OldKeeper) }
    }

    /// Filters of system calls.
    fn require_filters(&self) -> Result<(), Unusable> {
        let able = linux::filter::can_filter(self.sys);
        if able { Ok(()) } else { Err(Unusable::Kernel("filters of system calls")) }
    }

    /// Namespaces for a task with mounts of its own.
    pub(crate) fn require_mounts(&self) -> Result<Namespaces, Unusable> {
        self.require_walls()?;
        self.require_namespaces()
    }

    /// Namespaces for a task with a process 1 that holds all of them open.
    fn require_namespaces(&self) -> Result<Namespaces, Unusable> {
        let namespaces = self.options.namespaces;
        if namespaces.pid && namespaces.mount {
            Ok(namespaces)
        } else {
            Err(Unusable::Namespaces(self.options.namespaces_trouble))
        }
    }
}

/// The first version of the keeper's protocol that has walls.
pub(crate) const WALLS_SINCE: u16 = 3;

/// Why an isolator cannot work here. Prints as what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// A controller is not ours.
    Cgroup(Why),
    /// The keeper could not make the namespaces.
    Namespaces(Option<Trouble>),
    /// The keeper does not know of walls: it was started by an earlier release.
    OldKeeper,
    /// The kernel has no such thing.
    Kernel(&'static str),
    /// A flag says what cannot be: nobody starts with less than what was meant by it.
    Flag(String),
    /// What the agent does not have, in words.
    Lack(String),
    /// The kernel refuses a call, and what would let it.
    Call(Failure, &'static str),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(why) => why.fmt(f),
            Self::OldKeeper => f.write_str(
                "the keeper is of an earlier release; restart the agent when no task runs",
            ),
            Self::Kernel(lacks) => write!(f, "the kernel has no {lacks}"),
            Self::Flag(what) | Self::Lack(what) => f.write_str(what),
            Self::Call(failure, mend) => write!(f, "{failure}; {mend}"),
            Self::Namespaces(why) => {
                let Some(why) = why else {
                    return f.write_str("the kernel does not make them; run as root");
                };
                write!(f, "{why}; run as root, or ")?;
                f.write_str(if matches!(why.step, Step::Proc | Step::Mounts) {
                    "where nothing is mounted over parts of /proc"
                } else {
                    "allow user namespaces: `sysctl user.max_user_namespaces=10000`, on Debian \
                     `kernel.unprivileged_userns_clone=1`, on Ubuntu \
                     `kernel.apparmor_restrict_unprivileged_userns=0`"
                })
            }
        }
    }
}

type Make = fn(&Ground<'_>) -> Result<Box<dyn Isolator>, Unusable>;

/// A line of the registry.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its name, as in `--isolation`.
    pub name: &'static str,
    /// What it does, for the help and the README.
    pub about: &'static str,
    /// The controllers that it uses.
    pub controllers: &'static [Controller],
    pub(crate) make: Make,
    /// It is on only where `--isolation` names it, itself and not by `all`.
    pub named: bool,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! registry {
    ($( $name:literal => $($module:ident)::+ ( $($controller:ident)* ) $(when $when:ident)?, )*) => {
        /// All isolators of this build, in the order in which they prepare. They clean up in
        /// reverse.
        pub const REGISTRY: &[Entry] = &[ $( Entry {
            name: $name,
            about: $($module)::+::ABOUT,
            controllers: &[ $( Controller::$controller ),* ],
            make: $($module)::+::make,
            named: false $( || registry!(@ $when) )?,
        }, )* ];
    };
    (@ named) => { true };
}

// name => module (controllers)
registry! {
    "posix/rlimits" => posix::rlimits(),
    "cgroups/cpu" => cgroups::cpu(Cpu Cpuacct),
    "cgroups/mem" => cgroups::mem(Memory),
    "cgroups/pids" => cgroups::pids(Pids),
    "posix/cpu" => posix::cpu(),
    "posix/mem" => posix::mem(),
    "cgroups/blkio" => cgroups::blkio(Io),
    "cgroups/devices" => cgroups::devices(Devices),
    "cgroups/cpuset" => cgroups::cpuset(Cpuset) when named,
    "cgroups/hugetlb" => cgroups::hugetlb(Hugetlb) when named,
    "cgroups/freezer" => cgroups::freezer(Freezer) when named,
    "cgroups/perf_event" => cgroups::perf_event(PerfEvent) when named,
    "disk/du" => disk::du(),
    "linux/nnp" => linux::nnp(),
    "volume/host_path" => volume::host_path(),
    "volume/sandbox_path" => volume::sandbox_path(),
    "volume/secret" => volume::secret(),
    "linux/capabilities" => linux::capabilities(),
    "linux/landlock" => linux::landlock(),
    "linux/seccomp" => linux::seccomp(),
    "namespaces/pid" => namespaces::pid(),
    "namespaces/ipc" => namespaces::ipc(),
    "namespaces/uts" => namespaces::uts(),
    "namespaces/cgroup" => namespaces::cgroup(),
    "namespaces/user" => namespaces::user() when named,
    "filesystem/linux" => filesystem::linux(),
    "filesystem/shared" => filesystem::shared() when named,
    "volume/image" => volume::image(),
    "disk/quota" => disk::quota() when named,
    "namespaces/net" => namespaces::net() when named,
    "network/bandwidth" => network::bandwidth() when named,
    "network/none" => network::none() when named,
    "network/ports" => network::ports() when named,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_names_every_isolator_and_no_other() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"));
        let readme = readme.unwrap();
        let chapter = readme.split("\n## ").find(|chapter| chapter.starts_with("Isolat"));
        let rows = chapter.unwrap_or_default().lines().filter(|line| line.starts_with("| `"));
        let expected =
            REGISTRY.iter().map(|entry| format!("| `{}` | {} |", entry.name, entry.about));
        assert_eq!(rows.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}
