//! Everything that holds the tasks of one agent.
//!
//! [`Isolation::new`] finds out what this machine and this user can do. From then on each container
//! goes the same way: [`prepare`](Isolation::prepare), a launch by the keeper with what that gave,
//! [`isolate`](Isolation::isolate), any number of [`usage`](Isolation::usage) and
//! [`update`](Isolation::update), and at its end [`ended`](Isolation::ended),
//! [`kill`](Isolation::kill) and [`cleanup`](Isolation::cleanup). All of it blocks, for
//! microseconds to milliseconds, `kill` for as long as the processes take to go.

mod chosen;
mod parts;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesita_core::wire::ContainerId;
use mesita_core::wire::task::Exit;

pub use chosen::Surveyed;
use chosen::{Tried, chosen, families, leave_all, outside};

use crate::cgroups::{self, Alive, At, Cgroups};
use crate::held;
use crate::host::{self, Host};
use crate::images::{self, Provisioner};
use crate::isolators::{
    self, Additions, Capabilities, Container, Io, Ipc, Isolator, Limitation, ProjectRange,
    REGISTRY, Range, Seccomp, Source, TaskLimits, Unusable, Usage, WALLS_SINCE, WRITABLE, exec,
};
use crate::keeper::end_left;
use crate::keeper::protocol::{
    self, CGROUPS_MAX, Launch, Left, Namespaces, Request, Trouble, User, WAITS_SINCE, path_text,
};
use crate::keeper::wall::Wall;
use crate::sys::{Device, Failure, Sys, Version};
use crate::work_dir::WorkDir;

/// What an agent's flags and its keeper say about isolation.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--isolation`: names of isolators, `all`, or `cgroups` for all of those; none = every one
    /// that privilege and kernel allow.
    pub isolators: Option<Vec<String>>,
    /// `--cgroups-root`: the directory of cgroups of all agents of this machine.
    pub cgroups_root: String,
    /// The agent's key, whose first 16 hex digits name its directory there.
    pub key: [u8; 32],
    /// `--cgroups-enable-cfs`: CPUs asked for are also a cap.
    pub cgroups_enable_cfs: bool,
    /// `--cgroups-limit-swap`: a limit of memory is one of memory and swap together.
    pub cgroups_limit_swap: bool,
    /// `--min-task-mem`: no task is limited to less memory, in bytes.
    pub min_task_mem_bytes: u64,
    /// `--task-pids-max`: processes and threads of a task that does not say.
    pub task_pids_max: u32,
    /// `--default-container-shm-size`: shared memory of a task that does not say, in bytes; none = as
    /// much as its memory.
    pub default_shm_bytes: Option<u64>,
    /// Memory of the machine in bytes.
    pub total_mem_bytes: u64,
    /// `--task-io-...`: reading and writing of a task that does not say.
    pub task_io: Io,
    /// `--allowed-devices`: what every task may use besides `/dev/null` and the like.
    pub allowed_devices: Vec<Device>,
    /// `--effective-capabilities`: what a task has that asks for none, and the most it may ask for.
    pub effective_capabilities: Option<Capabilities>,
    /// `--bounding-capabilities`: what its programs can ever get; none = the same.
    pub bounding_capabilities: Option<Capabilities>,
    /// `--seccomp-config-dir`: profiles of system calls.
    pub seccomp_config_dir: Option<PathBuf>,
    /// `--seccomp-profile-name`: the one of a task that names none; none = the built-in one.
    pub seccomp_profile_name: Option<String>,
    /// `--seccomp-unconfined`: a task may ask for no filter of system calls.
    pub seccomp_unconfined: bool,
    /// Where sandboxes are.
    pub work_dir: Option<PathBuf>,
    /// `--enforce-container-disk-quota`: a task that takes more disk than it holds is ended.
    pub enforce_disk_quota: bool,
    /// `--container-disk-watch-interval`: from one look at its files to the next, in µs.
    pub disk_watch_us: u64,
    /// `--container-files-max`: files that a task has at the most, 0 = as many as it likes; none = a
    /// part of those of the file system.
    pub container_files_max: Option<u64>,
    /// `--disk-project-range`: ids of projects that sandboxes get.
    pub project_range: ProjectRange,
    /// `--disk-quota-kill`: who takes more than its quota is ended.
    pub disk_quota_kill: bool,
    /// `--disk-quota-headroom`: how much more one can take until then, in bytes.
    pub disk_quota_headroom: u64,
    /// `--container-network`: addresses of tasks with a network of their own.
    pub container_network: Option<Range>,
    /// `--ingress-rate-limit-per-container`: bytes that come to each in a second.
    pub ingress_rate: Option<u64>,
    /// `--egress-rate-limit-per-container`: bytes that leave each.
    pub egress_rate: Option<u64>,
    /// `--host-paths`: what of the host tasks may have mounted.
    pub host_paths: Vec<PathBuf>,
    /// `--writable`: where every task may write.
    pub writable: Vec<PathBuf>,
    /// The keeper's process.
    pub keeper: u32,
    /// What the keeper could make, from its hello.
    pub namespaces: Namespaces,
    /// Why it could not make more.
    pub namespaces_trouble: Option<Trouble>,
    /// The version of the protocol that is spoken with it.
    pub keeper_version: u16,
    /// What makes roots of images, if a store of them is open; or why there can be none.
    pub provisioner: Result<Option<Arc<Provisioner>>, String>,
}

impl Options {
    /// The defaults of the flags, for an agent with this key and this keeper.
    pub fn new(key: [u8; 32], keeper: &protocol::Welcome, total_mem_bytes: u64) -> Self {
        Self {
            isolators: None,
            cgroups_root: "mesita".to_owned(),
            key,
            cgroups_enable_cfs: false,
            cgroups_limit_swap: true,
            min_task_mem_bytes: 1 << 20,
            task_pids_max: 1024,
            default_shm_bytes: None,
            total_mem_bytes,
            task_io: Io::default(),
            allowed_devices: Vec::new(),
            effective_capabilities: None,
            bounding_capabilities: None,
            seccomp_config_dir: None,
            seccomp_profile_name: None,
            seccomp_unconfined: false,
            container_network: None,
            ingress_rate: None,
            egress_rate: None,
            host_paths: Vec::new(),
            work_dir: None,
            enforce_disk_quota: false,
            disk_watch_us: 15_000_000,
            container_files_max: None,
            project_range: ProjectRange::default(),
            disk_quota_kill: false,
            disk_quota_headroom: 10 << 20,
            writable: WRITABLE.iter().map(PathBuf::from).collect(),
            keeper: keeper.pid,
            namespaces: keeper.namespaces,
            namespaces_trouble: keeper.trouble,
            keeper_version: keeper.version,
            provisioner: Provisioner::is_possible(keeper).map(|()| None).map_err(str::to_owned),
        }
    }
}

impl Options {
    /// The isolators that the flag means, in the order in which they prepare.
    pub fn meant(&self) -> Result<Vec<&'static str>, NotHere> {
        let names = chosen(self)?.into_iter().map(|(entry, _)| entry.name);
        Ok(names.chain(outside(self)).collect())
    }
}

/// Why an agent cannot start with the flags it was given.
#[derive(Debug, PartialEq, Eq)]
pub enum NotHere {
    /// `--isolation` names one that does not exist.
    Unknown(String),
    /// `--isolation` names one that cannot work here.
    Unusable {
        /// Which.
        isolator: &'static str,
        /// Why.
        why: Unusable,
    },
    /// `--cgroups-root` is no relative path below a hierarchy.
    Root(String),
}

impl fmt::Display for NotHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "no isolator `{name}`; there are: all cgroups cgroups/all exec:/path")?;
                REGISTRY.iter().try_for_each(|entry| write!(f, " {}", entry.name))
            }
            Self::Unusable { isolator, why } => write!(f, "isolator {isolator}: {why}"),
            Self::Root(root) => {
                write!(
                    f,
                    "--cgroups-root `{root}` is not the name of a directory in a cgroup hierarchy"
                )
            }
        }
    }
}

impl std::error::Error for NotHere {}

/// An isolator that is off though nobody switched it off. Prints as what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// Its name.
    pub isolator: &'static str,
    /// Why.
    pub why: Unusable,
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is off: {}", self.isolator, self.why)
    }
}

/// Why something could not be done to a container.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// Its cgroup directories.
    Cgroups(Failure),
    /// One of the isolators.
    Isolator(&'static str, isolators::Error),
    /// Processes that do not die.
    Alive(Alive),
    /// It cannot have mounts of its own here.
    Mounts(Unusable),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroups(failure) => failure.fmt(f),
            Self::Isolator(name, error) => write!(f, "{name}: {error}"),
            Self::Alive(alive) => alive.fmt(f),
            Self::Mounts(why) => write!(f, "what is only read takes mounts of its own: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// What a launch gets from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The cgroups to join.
    pub cgroups: heapless::Vec<protocol::Cgroup, CGROUPS_MAX>,
    /// What the isolators add.
    pub additions: Additions,
}

impl Prepared {
    /// Puts it into the launch, but for the walls that come beside it.
    pub fn add_to(self, launch: &mut Launch) -> Vec<Wall> {
        launch.cgroups = self.cgroups;
        launch.namespaces = self.additions.namespaces;
        launch.no_new_privs = self.additions.no_new_privs;
        launch.rlimits = self.additions.rlimits;
        launch.oom_score_adj = self.additions.oom_score_adj;
        self.additions.walls
    }

    /// Of the network of its own that it will have: the address of the machine there, and its own.
    pub fn link(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        self.additions.walls.iter().find_map(|wall| {
            let Wall::Link(link) = wall else { return None };
            Some((link.host.into(), link.own.into()))
        })
    }

    /// Adds walls that take [mounts](Isolation::mounts) of its own.
    pub fn mount(&mut self, walls: impl Iterator<Item = Wall>, namespaces: Namespaces) {
        self.additions.namespaces = namespaces;
        self.additions.walls.extend(walls);
    }

    /// Asks for the launch with all of it.
    pub fn request(self, mut launch: Launch) -> Request {
        let walls = self.add_to(&mut launch);
        Request::launch(launch, walls)
    }
}

/// How far killing went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    /// Nothing of the container is alive.
    All,
    /// It has no cgroups; its keeper can kill its group or its namespace.
    AskKeeper,
}

/// What a recovery found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Containers nobody knows, which are gone now.
    pub removed: Vec<String>,
    /// What could not be removed, to be said and tried again at the next start.
    pub stuck: Vec<Error>,
}

/// What Mesos has as an isolator, and every agent does: secrets among the variables of a task.
const ALWAYS: &str = "environment_secret";

/// As many processes as Linux ever has: no limit around containers that have each their own.
const PIDS_MAX: u32 = 4_194_304;

/// The isolators that are on, and the cgroups they share.
#[derive(Debug)]
pub struct Isolation<'s> {
    sys: &'s dyn Sys,
    cgroups: Cgroups,
    isolators: Vec<(&'static str, Box<dyn Isolator>)>,
    off: Vec<&'static str>,
    provisioner: Option<Arc<Provisioner>>,
    mounts: Result<Namespaces, Unusable>,
    work_dir: Option<WorkDir>,
    host: Option<Host>,
    /// Every task has mounts of its own, unless it has a root of its own.
    is_parted: bool,
    /// The keeper has a process wait.
    has_wait: bool,
}

impl<'s> Isolation<'s> {
    /// Finds out what can be held here, and makes this agent's directories of cgroups. An isolator
    /// that was named and cannot work is an error, as is what a flag says of any that cannot be; one that was not
    /// named is left out and explained.
    pub fn new(options: &Options, sys: &'s dyn Sys) -> Result<(Self, Vec<Degraded>), NotHere> {
        let Tried { cgroups, made, mounts } = Tried::new(options, sys)?;
        let mut isolators = Vec::new();
        let mut degraded = Vec::new();
        for (isolator, named, made) in made {
            match made {
                Ok(made) => isolators.push((isolator, made)),
                Err(why) if named || matches!(why, Unusable::Flag(_)) => {
                    leave_all(&cgroups, sys);
                    return Err(NotHere::Unusable { isolator, why });
                }
                Err(why) => degraded.push(Degraded { isolator, why }),
            }
        }
        let off = degraded.iter().map(|degraded| degraded.isolator).collect();
        let provisioner = options.provisioner.clone().unwrap_or_default();
        let parts = |name: &str| name.starts_with("namespaces/") || name == "network/none";
        let is_parted = isolators.iter().any(|(name, _)| parts(name));
        let work_dir = options.work_dir.as_ref().filter(|_| options.keeper_version >= WALLS_SINCE);
        let work_dir = work_dir.map(|path| WorkDir::new(path, &options.writable, is_parted));
        let names: Vec<&str> = isolators.iter().map(|(name, _)| *name).collect();
        let host =
            Host::new(&names, &options.writable).filter(|_| options.keeper_version >= host::SINCE);
        let has_wait = options.keeper_version >= WAITS_SINCE;
        let own = Self {
            sys,
            cgroups,
            isolators,
            off,
            provisioner,
            mounts,
            work_dir,
            host,
            is_parted,
            has_wait,
        };
        Ok((own, degraded))
    }

    /// Tells of each isolator that `--isolation` means whether [`new`](Self::new) could use it, by
    /// doing what that does; nothing is left of it but controllers that the top of the unified
    /// hierarchy hands down now. The key of `options` must be nobody's.
    pub fn survey(options: &Options, sys: &dyn Sys) -> Result<Vec<Surveyed>, NotHere> {
        let Tried { cgroups, made, .. } = Tried::new(options, sys)?;
        let told = made.into_iter().map(|(name, _, made)| (name, made.err())).collect();
        leave_all(&cgroups, sys);
        Ok(told)
    }

    /// The isolators that are on, in the order in which they prepare.
    pub fn names(&self) -> Vec<&'static str> {
        self.isolators.iter().map(|(name, _)| *name).collect()
    }

    /// Attributes that tell frameworks what holds a task here: `isolation`, and `isolation_off`
    /// for what this machine should have and does not, each family once: `cgroups/cpu+mem,linux/nnp`.
    /// Empty ones are left out, and families that a text has no room for.
    pub fn attributes(&self) -> Vec<(&'static str, String)> {
        let lists = [("isolation", self.names()), ("isolation_off", self.off.clone())];
        let told = lists.into_iter().filter(|(_, names)| !names.is_empty());
        told.map(|(attribute, names)| (attribute, families(&names))).collect()
    }

    /// Where tasks cannot write though `--writable` says so: the work directory is there, and they
    /// have no mounts of their own that it could be kept out of.
    pub fn withheld(&self) -> &[PathBuf] {
        self.work_dir.as_ref().map_or(&[], WorkDir::withheld)
    }

    /// The namespaces of a container that has something mounted.
    pub fn mounts(&self) -> Result<Namespaces, Error> {
        self.mounts.clone().map_err(Error::Mounts)
    }

    /// True when a container has cgroups here, whatever limits them.
    pub fn has_cgroups(&self) -> bool {
        !self.cgroups.places().is_empty()
    }

    /// True when the unified hierarchy tells whose a socket is.
    pub fn tells_sockets(&self) -> bool {
        self.cgroups.unified().is_some()
    }

    /// Tells a keeper which directories to remove when it ends.
    pub fn remove_at_end(&self) -> Request {
        let directories = self.cgroups.to_remove();
        Request::RemoveAtEnd {
            directories: directories.iter().map(|path| path_text(path)).collect(),
        }
    }

    /// Does what a keeper would have done at its end, for one that died: kills every container of
    /// this agent and removes its directories. What others still use stays.
    pub fn end_without_keeper(&self) -> Result<Recovered, Error> {
        let recovered = self.recover(&[])?;
        for directory in self.cgroups.to_remove() {
            // One that is not empty has another agent's in it.
            let _ = self.sys.remove(&directory);
        }
        Ok(recovered)
    }

    /// Removes what an earlier agent with this key left of containers that are not `known`, and
    /// nothing else.
    pub fn recover(&self, known: &[ContainerId]) -> Result<Recovered, Error> {
        let mut recovered = Recovered::default();
        for name in self.cgroups.containers(self.sys).map_err(Error::Cgroups)? {
            if ContainerId::parse(&name).is_some_and(|id| known.contains(&id)) {
                continue;
            }
            let places = self.cgroups.places().iter();
            let directories: Vec<_> = places.map(|place| place.directory.join(&name)).collect();
            let gone = cgroups::kill(self.sys, &directories).map_err(Error::Alive);
            let gone = gone.and_then(|()| {
                recovered.stuck.extend(self.clean_unknown(&name, &directories));
                self.remove(&directories)
            });
            match gone {
                Ok(()) => recovered.removed.push(name),
                Err(error) => recovered.stuck.push(error),
            }
        }
        let known: Vec<_> = known.iter().map(|&id| self.container(id.into())).collect();
        for (name, isolator) in &self.isolators {
            isolator.recover(&known).map_err(|error| Error::Isolator(name, error))?;
        }
        Ok(recovered)
    }

    /// Has isolators undo what they may have done for a container that nobody knows, and for those inside
    /// of it. What went wrong is told, and keeps nothing else from being undone.
    fn clean_unknown(&self, name: &str, directories: &[PathBuf]) -> Vec<Error> {
        let Some(id) = ContainerId::parse(name) else { return Vec::new() };
        let inside = directories.iter().flat_map(|at| self.sys.children(at).unwrap_or_default());
        let inside: BTreeSet<String> = inside.collect();
        let inside = inside.iter().filter_map(|name| ContainerId::parse(name));
        let inside = inside.map(|inner| At { inside: Some(id), id: inner });
        let all = inside.chain([At::from(id)]);
        all.filter_map(|at| self.undo(at).err()).collect()
    }

    /// Sets up everything for a container that is about to be launched. If it cannot be, nothing
    /// is left of it.
    pub fn prepare(&self, at: impl Into<At>, limits: &TaskLimits) -> Result<Prepared, Error> {
        let at = at.into();
        self.can_all(limits)?;
        let (stands, finds) = (limits.stands.is_some(), !limits.images.is_empty());
        for (asks, isolator) in [(stands, isolators::FILESYSTEM_LINUX), (finds, "volume/image")] {
            if asks && !self.names().contains(&isolator) {
                return Err(Error::Isolator(isolator, isolators::Error::NoImages));
            }
        }
        if let Err(failure) = self.cgroups.make(self.sys, at) {
            let _ = self.remove(&self.cgroups.of(at));
            return Err(Error::Cgroups(failure));
        }
        let mut additions = Additions::default();
        let container = self.container(at);
        for (name, isolator) in &self.isolators {
            if let Err(error) = isolator.prepare(&container, limits, &mut additions) {
                // What went wrong first is what is told.
                let _ = self.cleanup(at);
                return Err(Error::Isolator(name, error));
            }
        }
        if let Err(error) = isolators::deny_set_ids(self.sys, limits, &mut additions) {
            let _ = self.cleanup(at);
            return Err(Error::Isolator(isolators::LINUX_CAPABILITIES, error));
        }
        if let Some(work_dir) = &self.work_dir {
            work_dir.keep_out(at, limits, &mut additions);
        }
        if let Some(host) = &self.host {
            let work_dir = self.work_dir.as_ref().map(WorkDir::path);
            host.put_around(at, limits, work_dir, &mut additions);
        }
        if let Err(error) = isolators::deny_truncating(self.sys, &mut additions) {
            let _ = self.cleanup(at);
            return Err(Error::Isolator(isolators::LINUX_LANDLOCK, error));
        }
        Ok(Prepared { cgroups: self.joined(at), additions })
    }

    /// Whether somebody may run here at all; none = the agent's own user. To be asked before anything
    /// is prepared for who would.
    pub fn admits(&self, user: Option<&User>) -> Result<(), Error> {
        // Only an agent that is root has others, and then none means root.
        let others = self.mounts.as_ref().is_ok_and(|namespaces| !namespaces.user);
        let root = user.is_none_or(|user| user.uid == 0 || user.gid == 0);
        let name = isolators::NAMESPACES_USER;
        if root && others && self.isolators.iter().any(|(isolator, _)| *isolator == name) {
            return Err(Error::Isolator(name, isolators::Error::Root));
        }
        Ok(())
    }

    /// Whether somebody owns what is root's; none = the agent's own user.
    pub fn is_of_root(&self, user: Option<&User>) -> bool {
        let own = |user: &User| user.uid == 0 || user.gid == 0 || user.groups.contains(&0);
        self.sys.is_root() && user.is_none_or(own)
    }

    /// Nobody is told that a wall is there which is not.
    fn can_all(&self, limits: &TaskLimits) -> Result<(), Error> {
        use isolators::Error as Of;
        let capabilities = limits.effective_capabilities.or(limits.bounding_capabilities);
        let named = matches!(&limits.seccomp, Some(Seccomp::Profile(_)));
        for volume in &limits.volumes {
            let isolator = match &volume.source {
                Source::Host(_) => "volume/host_path",
                Source::Sandbox { .. } => "volume/sandbox_path",
                Source::Secret(_) => "volume/secret",
            };
            if !self.names().contains(&isolator) {
                let path = volume.container_path.clone();
                return Err(Error::Isolator(isolator, Of::Volume(path, "this isolator is off")));
            }
        }
        for (asks, isolator, error) in [
            (limits.hostname.is_some(), "namespaces/uts", Of::Off("a name of the host of its own")),
            (limits.ipc == Some(Ipc::Private), "namespaces/ipc", Of::Off("IPC of its own")),
            (limits.shm_bytes.is_some(), "namespaces/ipc", Of::Off("shared memory of its own")),
            (!limits.rlimits.is_empty(), "posix/rlimits", Of::NoRlimits),
            (capabilities.is_some(), "linux/capabilities", Of::Off("capabilities of its own")),
            (named, "linux/seccomp", Of::Off("a filter of system calls")),
        ] {
            if asks && !self.isolators.iter().any(|(name, _)| *name == isolator) {
                return Err(Error::Isolator(isolator, error));
            }
        }
        Ok(())
    }

    /// Sets up a container that has no process and holds others: all of them together have what
    /// `limits` says, and weigh as much against the rest of the machine. To be said again whenever
    /// that changes.
    pub fn prepare_around(&self, id: ContainerId, limits: &TaskLimits) -> Result<(), Error> {
        self.cgroups.make(self.sys, id).map_err(Error::Cgroups)?;
        self.cgroups.hand_down(self.sys, id).map_err(Error::Cgroups)?;
        self.update_around(id, limits)
    }

    /// The same of one that was set up, as [`update`](Self::update).
    pub fn update_around(&self, id: ContainerId, limits: &TaskLimits) -> Result<(), Error> {
        let around = TaskLimits { pids: Some(PIDS_MAX), holds: true, ..limits.clone() };
        let container = self.container(id.into());
        self.each(|isolator| isolator.update(&container, &around))
    }

    /// The address of its own that a container has while it runs; none = this machine's.
    pub fn address(&self, at: impl Into<At>) -> Option<Ipv4Addr> {
        let container = self.container(at.into());
        self.isolators.iter().find_map(|(_, isolator)| isolator.address(&container))
    }

    /// The image that a container stands on, if it does. Blocks.
    pub fn stands(&self, at: impl Into<At>) -> Option<images::Stands> {
        self.provisioner.as_ref()?.of(at.into().id)
    }

    /// What a process gets that runs beside a container's task, by
    /// [`Request::Enter`]: its cgroups, and no more privileges than a task that asks for these.
    pub fn beside(&self, at: impl Into<At>, limits: &TaskLimits) -> Result<Prepared, Error> {
        let at = at.into();
        self.can_all(limits)?;
        let mut additions = Additions::default();
        self.each(|isolator| isolator.beside(limits, &mut additions))?;
        isolators::deny_set_ids(self.sys, limits, &mut additions)
            .map_err(|error| Error::Isolator(isolators::LINUX_CAPABILITIES, error))?;
        if let Some(work_dir) = &self.work_dir {
            work_dir.keep_out_beside(&mut additions);
        }
        // Others are where the task is.
        if !self.is_parted {
            isolators::deny_truncating(self.sys, &mut additions)
                .map_err(|error| Error::Isolator(isolators::LINUX_LANDLOCK, error))?;
        }
        Ok(Prepared { cgroups: self.joined(at), additions })
    }

    /// Whether a container has to be [isolated](Self::isolate) when its process exists, which takes time.
    pub fn isolates(&self) -> bool {
        self.isolators.iter().any(|(name, _)| name.starts_with(exec::PREFIX))
    }

    /// Whether that is to be while its process [waits](Request::waiting) for the word to become its program; no
    /// keeper of an older release has it wait, and there it is when the program runs.
    pub fn isolates_first(&self) -> bool {
        self.has_wait && self.isolates()
    }

    /// The container's process exists: `pid`. Once for each.
    pub fn isolate(&self, at: impl Into<At>, pid: u32) -> Result<(), Error> {
        let at = at.into();
        let container = self.container(at);
        self.each(|isolator| isolator.isolate(&container, pid))
    }

    /// Descriptors that become readable when [`limitation`](Self::limitation) is worth a look.
    pub fn watch(&self, at: impl Into<At>) -> Result<Vec<OwnedFd>, Error> {
        let at = at.into();
        let container = self.container(at);
        let mut watches = Vec::new();
        for (name, isolator) in &self.isolators {
            let watch = isolator.watch(&container);
            watches.extend(watch.map_err(|error| Error::Isolator(name, error))?);
        }
        Ok(watches)
    }

    /// Which limit a container that runs has run into, if any.
    pub fn limitation(&self, at: impl Into<At>) -> Result<Option<Limitation>, Error> {
        self.limitation_of(at, None)
    }

    /// The same, of one whose process lives: `pid`.
    pub fn limitation_of(
        &self,
        at: impl Into<At>,
        pid: Option<u32>,
    ) -> Result<Option<Limitation>, Error> {
        self.look(&Container { pid, ..self.container(at.into()) }, None)
    }

    /// Where a process of a container writes as this descriptor, if that is a file on this device that has no
    /// name any more. `pid` is a process of it that lives.
    pub fn nameless_output(
        &self,
        at: impl Into<At>,
        pid: Option<u32>,
        number: u32,
        device: u64,
    ) -> Option<PathBuf> {
        let container = Container { pid, ..self.container(at.into()) };
        held::nameless_output(&container.processes(), number, device)
    }

    /// A plain file that a process of a container has open, to be written to, whatever it is called by now:
    /// by its device and its number. `pid` is a process of it that lives.
    pub fn open_file(
        &self,
        at: impl Into<At>,
        pid: Option<u32>,
        (device, inode): (u64, u64),
    ) -> Option<File> {
        let container = Container { pid, ..self.container(at.into()) };
        held::opened(&container.processes(), device, inode)
    }

    /// Which limit a container that has ended had run into, if any. To be asked before
    /// [`cleanup`](Self::cleanup).
    pub fn ended(&self, at: impl Into<At>, exit: Exit) -> Result<Option<Limitation>, Error> {
        self.look(&self.container(at.into()), Some(exit))
    }

    fn look(
        &self,
        container: &Container<'_>,
        exit: Option<Exit>,
    ) -> Result<Option<Limitation>, Error> {
        for (name, isolator) in &self.isolators {
            let found = isolator.limitation(container, exit);
            if let Some(found) = found.map_err(|error| Error::Isolator(name, error))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Changes the limits of a container that runs.
    pub fn update(&self, at: impl Into<At>, limits: &TaskLimits) -> Result<(), Error> {
        let at = at.into();
        let container = self.container(at);
        self.each(|isolator| isolator.update(&container, limits))
    }

    /// Has a container that runs use these devices of its own, and no other any more.
    pub fn hold_devices(&self, at: impl Into<At>, own: &[Device]) -> Result<(), Error> {
        let container = self.container(at.into());
        self.each(|isolator| isolator.hold_devices(&container, own))
    }

    /// Holds a persistent volume to its size, before anybody uses it that may take that much.
    pub fn hold_volume(&self, volume: &Path, bytes: u64) -> Result<(), Error> {
        self.each(|isolator| isolator.hold_volume(self.sys, volume, bytes))
    }

    /// What a container uses and used.
    pub fn usage(&self, at: impl Into<At>) -> Result<Usage, Error> {
        self.usage_of(at, None)
    }

    /// The same, of one whose process lives: `pid`.
    pub fn usage_of(&self, at: impl Into<At>, pid: Option<u32>) -> Result<Usage, Error> {
        let at = at.into();
        let container = Container { pid, ..self.container(at) };
        let mut usage = Usage::default();
        self.each(|isolator| isolator.usage(&container, &mut usage))?;
        if let Some(place) = self.cgroups.unified() {
            let directory = at.below(&place.directory);
            let pressure = |file| cgroups::pressure(self.sys, &directory, file);
            usage.cpu_pressure = pressure("cpu.pressure");
            usage.mem_pressure = pressure("memory.pressure");
            usage.io_pressure = pressure("io.pressure");
        }
        Ok(usage)
    }

    /// Kills everything in a container and waits until it is gone, at most 10 s.
    pub fn kill(&self, at: impl Into<At>) -> Result<Killed, Error> {
        let at = at.into();
        if !self.has_cgroups() {
            return Ok(Killed::AskKeeper);
        }
        cgroups::kill(self.sys, &self.cgroups.of(at)).map_err(Error::Alive)?;
        Ok(Killed::All)
    }

    /// Kills what a dead keeper left of a container, whether or not it has cgroups, and waits until
    /// it is gone.
    pub fn kill_left(&self, at: impl Into<At>, left: &Left) -> Result<(), Error> {
        self.kill(at)?;
        if end_left(left) {
            return Ok(());
        }
        let directory = Path::new("/proc").to_owned();
        Err(Error::Alive(Alive { directory, pids: vec![left.pid] }))
    }

    /// Undoes [`prepare`](Self::prepare). Everything is tried; the first failure is told.
    pub fn cleanup(&self, at: impl Into<At>) -> Result<(), Error> {
        let at = at.into();
        let undone = self.undo(at);
        undone.and(self.remove(&self.cgroups.of(at)))
    }

    /// Has all isolators undo what they did for a container, the last first.
    fn undo(&self, at: At) -> Result<(), Error> {
        let container = self.container(at);
        let mut result = Ok(());
        for (name, isolator) in self.isolators.iter().rev() {
            let cleaned = isolator.cleanup(&container);
            result = result.and(cleaned.map_err(|error| Error::Isolator(name, error)));
        }
        result
    }

    fn remove(&self, directories: &[PathBuf]) -> Result<(), Error> {
        cgroups::remove(self.sys, directories).map_err(Error::Cgroups)
    }

    fn each(
        &self,
        mut what: impl FnMut(&dyn Isolator) -> Result<(), isolators::Error>,
    ) -> Result<(), Error> {
        let mut isolators = self.isolators.iter();
        isolators.try_for_each(|(name, isolator)| {
            what(&**isolator).map_err(|error| Error::Isolator(name, error))
        })
    }

    fn container(&self, at: At) -> Container<'_> {
        Container { at, part: None, sys: self.sys, cgroups: &self.cgroups, pid: None }
    }

    fn joined(&self, at: At) -> heapless::Vec<protocol::Cgroup, CGROUPS_MAX> {
        let directories = self.cgroups.of(at);
        let places = self.cgroups.places().iter().zip(directories);
        let joined = places.map(|(place, directory)| protocol::Cgroup {
            directory: path_text(&directory),
            unified: place.version == Version::V2,
        });
        joined.collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use mesita_core::limits::NAME_MAX;

    use super::*;
    use crate::isolators::Cap;
    use crate::sys::fake::Fake;

    pub(crate) const CONTAINER: ContainerId = ContainerId { incarnation: 1, counter: 1 };

    /// Options of an agent with the key 00 01 02..., on a machine of 1 GiB, with a keeper that
    /// can make namespaces.
    pub(crate) fn options(isolators: Option<&[&str]>) -> Options {
        let mut key = [0; 32];
        (0..).zip(&mut key).for_each(|(number, byte)| *byte = number);
        let welcome = protocol::Welcome {
            version: protocol::VERSION_MAX,
            pid: 51,
            boot: [0; 16],
            namespaces: Namespaces { user: false, pid: true, mount: true },
            trouble: None,
        };
        let names = isolators.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        // One that is kept out of tasks is a wall more than those that are looked at.
        let sees = |name: &&str| {
            ["namespaces/", "network/", "volume/"].iter().any(|of| name.starts_with(of))
        };
        let needed = !isolators.is_some_and(|names| names.iter().all(sees));
        let work_dir = needed.then(|| "/nonexistent/work-dir".into());
        Options {
            isolators: names,
            provisioner: Ok(None),
            work_dir,
            ..Options::new(key, &welcome, 1 << 30)
        }
    }

    pub(crate) fn isolation<'s>(sys: &'s Fake, names: &[&str]) -> Isolation<'s> {
        Isolation::new(&options(Some(names)), sys).unwrap().0
    }

    fn limits() -> TaskLimits {
        TaskLimits { cpus_milli: 500, mem_bytes: 1 << 25, ..TaskLimits::default() }
    }

    #[test]
    fn without_a_flag_everything_that_can_be_is_on() {
        let sys = Fake::hybrid();
        let (isolation, degraded) = Isolation::new(&options(None), &sys).unwrap();
        assert_eq!(degraded, []);
        let unnamed = REGISTRY.iter().filter(|entry| !entry.named);
        let names: Vec<_> = unnamed.map(|entry| entry.name).collect();
        assert_eq!(isolation.names(), names);
        let told = "posix/rlimits+cpu+mem,cgroups/cpu+mem+pids+blkio+devices,disk/du,\
                    linux/nnp+capabilities+landlock+seccomp,\
                    volume/host_path+sandbox_path+secret+image,namespaces/pid+ipc+uts+cgroup,\
                    filesystem/linux";
        assert_eq!(isolation.attributes(), [("isolation", told.to_owned())]);
        let every: Vec<_> = REGISTRY.iter().map(|entry| entry.name).collect();
        assert!(families(&every).len() <= NAME_MAX);
        let long = "x".repeat(NAME_MAX);
        assert_eq!(families(&["a/b", &long, "c/d"]), "a/b,c/d");
    }

    #[test]
    fn what_cannot_be_is_said_once_and_becomes_an_attribute() {
        let sys = Fake::v2("/", &[50]);
        sys.put("/sys/fs/cgroup/cgroup.controllers", "cpu io pids\n");
        sys.put("/proc/cmdline", "cgroup_disable=memory\n");
        let (isolation, degraded) = Isolation::new(&options(None), &sys).unwrap();
        let [degraded] = &degraded[..] else { panic!("{degraded:?}") };
        assert_eq!(
            degraded.to_string(),
            "cgroups/mem is off: the kernel's memory controller is switched off; \
             add `cgroup_enable=memory` to the kernel command line and reboot"
        );
        assert_eq!(isolation.attributes()[1], ("isolation_off", "cgroups/mem".to_owned()));
        assert!(isolation.prepare(CONTAINER, &limits()).is_ok());
    }

    #[test]
    fn what_is_named_must_work_and_must_exist() {
        let sys = Fake::bare();
        let refused = Isolation::new(&options(Some(&["cgroups/cpu"])), &sys).unwrap_err();
        assert!(matches!(refused, NotHere::Unusable { isolator: "cgroups/cpu", .. }), "{refused}");
        let refused = Isolation::new(&options(Some(&["cgroups/gpu"])), &sys).unwrap_err();
        assert!(refused.to_string().contains("namespaces/pid"), "{refused}");
    }

    #[test]
    fn what_a_flag_says_and_cannot_be_leaves_no_wall_out() {
        let sys = Fake::bare();
        sys.put("/profiles/empty.json", "{}");
        let has = |names: &str| names.parse::<Capabilities>().ok();
        let base = || options(None);
        let directory = Some(PathBuf::from("/profiles"));
        for (isolator, options) in [
            (
                "linux/capabilities",
                Options {
                    effective_capabilities: has("NET_RAW"),
                    bounding_capabilities: has("KILL"),
                    ..base()
                },
            ),
            ("linux/seccomp", Options { seccomp_config_dir: directory, ..base() }),
            ("linux/seccomp", Options { seccomp_config_dir: Some("/no".into()), ..base() }),
            ("linux/seccomp", Options { seccomp_profile_name: Some("x".into()), ..base() }),
        ] {
            for keeper_version in [1, options.keeper_version] {
                let options = Options { keeper_version, ..options.clone() };
                let refused = Isolation::new(&options, &sys).unwrap_err();
                let is =
                    matches!(refused, NotHere::Unusable { isolator: of, .. } if of == isolator);
                assert!(is, "{refused}");
            }
        }
    }

    #[test]
    fn a_survey_tells_of_each_and_leaves_nothing() {
        for own in ["/", "/a.service"] {
            let sys = Fake::v2(own, &[50, 51]);
            let directory = format!("/sys/fs/cgroup{}", own.trim_end_matches('/'));
            sys.put(&format!("{directory}/cgroup.controllers"), "cpu pids\n");
            sys.be_user();
            for chosen in [None, Some(&["all"][..])] {
                let told = Isolation::survey(&options(chosen), &sys).unwrap();
                let off = told.iter().filter(|(_, why)| why.is_some());
                let expected = ["cgroups/mem", "cgroups/blkio", "cgroups/devices"];
                assert_eq!(off.map(|(name, _)| *name).collect::<Vec<_>>(), expected);
                let unnamed = REGISTRY.iter().filter(|entry| !entry.named);
                assert_eq!(told.len(), unnamed.count());
                assert_eq!(sys.children(Path::new(&directory)), Ok(Vec::new()));
            }
        }
        assert!(Isolation::survey(&options(Some(&["cgroups/gpu"])), &Fake::bare()).is_err());
    }

    #[test]
    fn an_agent_that_does_not_start_leaves_no_cgroup_but_those_in_use() {
        let named = options(Some(&["cgroups"]));
        for own in ["/", "/a.service"] {
            let sys = Fake::v2(own, &[50, 51]);
            let directory = format!("/sys/fs/cgroup{}", own.trim_end_matches('/'));
            sys.put(&format!("{directory}/cgroup.controllers"), "cpu pids\n");
            sys.be_user();
            assert!(Isolation::new(&named, &sys).is_err());
            let above = Path::new(&directory);
            let left = sys.children(above).unwrap();
            assert!(left.iter().all(|name| name == "a.service"), "{left:?}");
            // The same with a task of an earlier start.
            let earlier = isolation(&sys, &["cgroups/cpu"]);
            earlier.prepare(CONTAINER, &limits()).unwrap();
            assert!(Isolation::new(&named, &sys).is_err());
            assert_eq!(earlier.cgroups.containers(&sys), Ok(vec!["1-1".to_owned()]));
        }
    }

    #[test]
    fn families_of_isolators_have_names() {
        let sys = Fake::v1();
        let cgroups = ["cgroups/cpu", "cgroups/mem", "cgroups/pids"];
        assert_eq!(isolation(&sys, &["cgroups"]).names(), cgroups);
        let always = isolation(&sys, &["environment_secret", "docker/runtime"]);
        assert_eq!(always.names(), ["filesystem/linux"]);
        let called = ["linux/rlimits", "linux/devices", "posix/disk", "process"];
        let are = ["posix/rlimits", "posix/cpu", "posix/mem", "cgroups/devices", "disk/du"];
        assert_eq!(isolation(&sys, &called).names(), are);
        let unnamed = REGISTRY.iter().filter(|entry| !entry.named);
        assert_eq!(isolation(&sys, &["all"]).names().len(), unnamed.count());
    }

    #[test]
    fn a_flag_of_an_isolator_that_is_not_named_is_refused() {
        let sys = Fake::bare();
        let none = options(Some(&["linux/nnp"]));
        for (options, isolator) in [
            (Options { ingress_rate: Some(1), ..none.clone() }, "network/bandwidth"),
            (Options { egress_rate: Some(1), ..none.clone() }, "network/bandwidth"),
            (Options { container_network: Some(Range::default()), ..none }, "namespaces/net"),
        ] {
            let refused = Isolation::new(&options, &sys).map(drop).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("isolator {isolator}: --")), "{refused}");
            assert!(refused.ends_with("--isolation does not name it"), "{refused}");
            assert!(Isolation::survey(&options, &sys).is_err());
        }
    }

    #[test]
    fn a_root_that_leads_out_of_the_hierarchy_is_refused() {
        for root in ["", "/mesita", "../x", "a/../../b", ".", "a/b"] {
            let options = Options { cgroups_root: root.to_owned(), ..options(None) };
            let refused = Isolation::new(&options, &Fake::v1()).unwrap_err();
            assert_eq!(refused, NotHere::Root(root.to_owned()));
        }
    }

    #[test]
    fn a_container_joins_one_directory_of_each_hierarchy_and_leaves_none() {
        let sys = Fake::hybrid();
        let (isolation, _) = Isolation::new(&options(None), &sys).unwrap();
        let prepared = isolation.prepare(CONTAINER, &limits()).unwrap();
        let joined: Vec<_> = prepared.cgroups.iter().map(|cgroup| cgroup.unified).collect();
        assert_eq!(joined, [true, false, false, false, false, false]);
        assert_eq!(
            prepared.cgroups.len(),
            sys.log().iter().filter(|l| l.ends_with("/1-1")).count()
        );
        assert_eq!(isolation.kill(CONTAINER), Ok(Killed::All));
        isolation.cleanup(CONTAINER).unwrap();
        assert_eq!(isolation.cgroups.containers(&sys), Ok(Vec::new()));
        assert_eq!(isolation.cleanup(CONTAINER), Ok(()), "twice is as good");
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_of_the_container() {
        let sys = Fake::v1();
        let isolation = isolation(&sys, &["all"]);
        sys.refuse("/sys/fs/cgroup/pids/mesita/0001020304050607/1-1/pids.max", libc::EINVAL);
        let refused = isolation.prepare(CONTAINER, &limits()).unwrap_err();
        assert!(refused.to_string().starts_with("cgroups/pids: write /sys"), "{refused}");
        assert_eq!(isolation.cgroups.containers(&sys), Ok(Vec::new()));
        sys.refuse("/sys/fs/cgroup/memory/mesita/0001020304050607", libc::ENOMEM);
        assert!(isolation.prepare(CONTAINER, &limits()).is_err());
        assert_eq!(isolation.cgroups.containers(&sys), Ok(Vec::new()));
    }

    #[test]
    fn recovery_kills_what_nobody_knows_and_looks_at_no_other_key() {
        let sys = Fake::v2("/", &[50]);
        let (isolation, _) = Isolation::new(&options(None), &sys).unwrap();
        let ours = Path::new("/sys/fs/cgroup/mesita/0001020304050607");
        let other = Path::new("/sys/fs/cgroup/mesita/ffffffffffffffff");
        sys.make(other).unwrap();
        for directory in [ours.join("1-1"), ours.join("1-2"), ours.join("junk"), other.join("1-2")]
        {
            sys.make(&directory).unwrap();
            sys.put_processes(&directory, &[80]);
        }
        let recovered = isolation.recover(&[CONTAINER]).unwrap();
        assert_eq!(recovered.removed, ["1-2", "junk"]);
        assert!(recovered.stuck.is_empty());
        assert_eq!(sys.children(ours), Ok(vec!["1-1".to_owned()]));
        assert_eq!(sys.children(other), Ok(vec!["1-2".to_owned()]));
    }

    #[test]
    fn without_cgroups_the_keeper_is_asked_to_kill() {
        let sys = Fake::bare();
        let isolation = isolation(&sys, &["linux/nnp"]);
        assert_eq!(isolation.kill(CONTAINER), Ok(Killed::AskKeeper));
        assert!(!isolation.tells_sockets());
    }

    #[test]
    fn a_launch_gets_all_that_was_prepared() {
        let sys = Fake::v1();
        let isolation = isolation(&sys, &["all"]);
        let burst = TaskLimits { mem_limit: Some(Cap::Unlimited), ..limits() };
        let prepared = isolation.prepare(CONTAINER, &burst).unwrap();
        let mut launch = protocol::tests::launch();
        prepared.clone().add_to(&mut launch);
        assert_eq!(launch.cgroups, prepared.cgroups);
        assert!(launch.no_new_privs && launch.namespaces.pid);
        assert_eq!(launch.oom_score_adj, prepared.additions.oom_score_adj);
        assert_eq!(launch.oom_score_adj, 1000 - 31);
        // Who comes beside it gets the walls, and is in them already.
        let beside = isolation.beside(CONTAINER, &limits()).unwrap();
        assert_eq!(beside.cgroups, prepared.cgroups);
        assert!(beside.additions.no_new_privs && !beside.additions.namespaces.pid);
    }

    #[test]
    fn a_task_with_an_image_needs_the_isolator_that_gives_it_a_root() {
        let sys = Fake::bare();
        let image = serde_json::from_str(
            r#"{"name":"x","id":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "layers":[],"config":{"entrypoint":[],"cmd":[],"env":[],"working_dir":"","user":""},
            "stamp":""}"#,
        );
        let stands = isolators::Stands { image: image.unwrap(), sandbox: "/x".into() };
        let wanted = TaskLimits { stands: Some(stands), ..TaskLimits::default() };
        // Without the isolator, and without a store.
        for names in [&["linux/nnp"], &["filesystem/linux"]] {
            let refused = isolation(&sys, names).prepare(CONTAINER, &wanted).unwrap_err();
            assert!(
                refused.to_string().starts_with("filesystem/linux: the task asks"),
                "{refused}"
            );
        }
        let mut options = options(Some(&["filesystem/linux"]));
        options.provisioner = Err("images need an agent that is root".to_owned());
        let refused = Isolation::new(&options, &sys).unwrap_err();
        assert!(refused.to_string().contains("images need an agent that is root"), "{refused}");
    }

    #[test]
    fn hands_share_one_isolation() {
        fn check<T: Send + Sync>() {}
        check::<Isolation<'static>>();
    }

    #[test]
    fn what_a_keeper_removes_at_its_end_fits_its_message() {
        for sys in [Fake::v1(), Fake::hybrid(), Fake::v2("/a.service", &[50, 51])] {
            let isolation = isolation(&sys, &["all"]);
            let Request::RemoveAtEnd { directories } = isolation.remove_at_end() else { panic!() };
            assert_eq!(directories.len(), isolation.cgroups.to_remove().len());
        }
    }
}
