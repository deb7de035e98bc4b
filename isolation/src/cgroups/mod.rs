//! Where cgroups are: which hierarchies this machine has, which of them are ours to write, and the
//! directory of every container in each.
//!
//! `<hierarchy>/<root>/<first 16 hex of the agent's key>/<container>`. With v1 `<hierarchy>` is
//! where the controller is mounted. With v2 it is the agent's own cgroup, whose controllers have
//! to be handed down; a cgroup that does so may not hold processes, so the agent and its keeper
//! move into the leaf `self`. Where that cannot be, because other processes live there, root uses
//! the top of the hierarchy. The unified hierarchy is used wherever one is mounted, controllers or
//! not: it tells whose a socket is, and it can kill.

mod find;
mod kill;
mod remedy;

use std::path::{Path, PathBuf};

use mesita_core::wire::ContainerId;

use crate::sys::{Failure, Sys, Version};

pub(crate) use find::own_directories;
pub use find::{Wanted, Why};
pub(crate) use kill::kill_once;
pub use kill::{Alive, kill, leave, remove};
pub use remedy::{Boot, Switch};

/// The leaf of a cgroup of v2 that hands controllers down, for the processes that were in it: the
/// agent's own, and those of containers with parts that have limits of their own.
pub(crate) const LEAF: &str = "self";
/// How often processes are moved that are made while others are.
const MOVES: u32 = 100;

/// What a hierarchy controls, as far as tasks are put under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// CPU weight and quota; with v2 also accounting.
    Cpu,
    /// CPU accounting, v1 only.
    Cpuacct,
    /// Memory.
    Memory,
    /// Number of processes.
    Pids,
    /// Stopping everything in a cgroup; part of v2 itself.
    Freezer,
    /// Processors and memory nodes.
    Cpuset,
    /// Reading from disks and writing to them.
    Io,
    /// Which devices may be opened, v1 only.
    Devices,
    /// Huge pages.
    Hugetlb,
    /// Counting events of the hardware; part of v2 itself.
    PerfEvent,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Memory,
        Self::Pids,
        Self::Freezer,
        Self::Cpuset,
        Self::Io,
        Self::Devices,
        Self::Hugetlb,
        Self::PerfEvent,
    ];

    /// Those that v2 hands down.
    pub(crate) const HANDED: [Self; 6] =
        [Self::Cpu, Self::Memory, Self::Pids, Self::Cpuset, Self::Io, Self::Hugetlb];

    /// The kernel's name.
    pub const fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Cpu, _) => "cpu",
            (Self::Cpuacct, _) => "cpuacct",
            (Self::Memory, _) => "memory",
            (Self::Pids, _) => "pids",
            (Self::Freezer, _) => "freezer",
            (Self::Cpuset, _) => "cpuset",
            (Self::Io, Version::V1) => "blkio",
            (Self::Io, Version::V2) => "io",
            (Self::Devices, _) => "devices",
            (Self::Hugetlb, _) => "hugetlb",
            (Self::PerfEvent, _) => "perf_event",
        }
    }
}

/// A directory that is ours in some hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The interface of its files.
    pub version: Version,
    /// The directory that containers have theirs in.
    pub directory: PathBuf,
    /// What can be limited there.
    pub controllers: Vec<Controller>,
}

/// Where a container is: among the others of its agent, or inside another one, which holds nothing
/// but those inside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The container around it.
    pub inside: Option<ContainerId>,
    /// The container.
    pub id: ContainerId,
}

impl From<ContainerId> for At {
    fn from(id: ContainerId) -> Self {
        Self { inside: None, id }
    }
}

impl At {
    /// Its directory below the one of all containers.
    pub fn below(self, all: &Path) -> PathBuf {
        let around = self.inside.map_or_else(|| all.to_owned(), |id| all.join(id.to_string()));
        around.join(self.id.to_string())
    }
}

/// Where a process is that was told apart from a container's task: below the cgroups of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The container.
    pub of: At,
    /// Another part of it that it counts for, which has limits of its own.
    pub within: Option<ContainerId>,
    /// Itself.
    pub id: ContainerId,
}

impl Part {
    /// Its directory below the one of all containers.
    pub fn below(self, all: &Path) -> PathBuf {
        let of = self.of.below(all);
        let around = self.within.map_or(of.clone(), |id| of.join(id.to_string()));
        around.join(self.id.to_string())
    }
}

/// The directories that are ours, one for each hierarchy in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    places: Vec<Place>,
    /// The leaf that the agent moved itself into.
    own: Option<PathBuf>,
}

impl Cgroups {
    /// Where `controller` can be used.
    pub fn place(&self, controller: Controller) -> Option<&Place> {
        self.places.iter().find(|place| place.controllers.contains(&controller))
    }

    /// Our directory in the unified hierarchy.
    pub fn unified(&self) -> Option<&Place> {
        self.places.iter().find(|place| place.version == Version::V2)
    }

    /// Every hierarchy in use.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The directories of one container.
    pub fn of(&self, container: impl Into<At>) -> Vec<PathBuf> {
        let at = container.into();
        self.places.iter().map(|place| at.below(&place.directory)).collect()
    }

    /// Lets containers inside this one be limited, as it is itself. It may have no processes.
    pub(crate) fn hand_down(&self, sys: &dyn Sys, container: ContainerId) -> Result<(), Failure> {
        for place in self.places.iter().filter(|place| place.version == Version::V2) {
            let directory = At::from(container).below(&place.directory);
            for controller in &place.controllers {
                find::enable(sys, &directory, *controller)?;
            }
        }
        Ok(())
    }

    /// Lets parts of a container that runs be limited. With v2 none can be that is beside a process:
    /// those of the container move into a leaf, which takes everybody who joins it from now on.
    pub(crate) fn divide(&self, sys: &dyn Sys, container: At) -> Result<(), Failure> {
        let places = self.places.iter().filter(|place| place.version == Version::V2);
        for place in places.filter(|place| !place.controllers.is_empty()) {
            let directory = container.below(&place.directory);
            let procs = directory.join("cgroup.procs");
            let leaf = directory.join(LEAF);
            sys.make(&leaf)?;
            let mut divided = Ok(());
            for _ in 0..MOVES {
                for pid in pids(&sys.read(&procs)?) {
                    // Gone meanwhile is as good.
                    let _ = sys.write(&leaf.join("cgroup.procs"), &pid.to_string());
                }
                let mut controllers = place.controllers.iter();
                divided = controllers.try_for_each(|one| find::enable(sys, &directory, *one));
                // One was made while the others moved.
                if !divided.as_ref().is_err_and(|failure| failure.errno == libc::EBUSY) {
                    break;
                }
            }
            divided?;
        }
        Ok(())
    }

    /// Makes the directories of a container; on failure those made are removed again.
    pub fn make(&self, sys: &dyn Sys, container: impl Into<At>) -> Result<(), Failure> {
        let directories = self.of(container);
        for (made, directory) in directories.iter().enumerate() {
            if let Err(failure) = sys.make(directory) {
                for directory in &directories[..made] {
                    // The first failure is the one to report.
                    let _ = sys.remove(directory);
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    /// The names of the containers that have a directory anywhere, sorted.
    pub fn containers(&self, sys: &dyn Sys) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        for place in &self.places {
            names.extend(sys.children(&place.directory)?);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// What is left to remove when no container is left: our directories, the one above them if
    /// nobody else uses it, and the agent's own leaf; the innermost first.
    pub fn to_remove(&self) -> Vec<PathBuf> {
        let ours = self.places.iter().map(|place| place.directory.clone());
        let above = self.places.iter().filter_map(|place| place.directory.parent());
        ours.chain(above.map(Path::to_owned)).chain(self.own.clone()).collect()
    }
}

/// The words of a file such as `cgroup.controllers`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
}

/// The processes that a `cgroup.procs` lists. 0 stands for those of other pid namespaces.
fn pids(text: &str) -> impl Iterator<Item = u32> {
    words(text).filter_map(|word| word.parse().ok()).filter(|&pid| pid != 0)
}

/// What the kernel knows of the shortage of one kind that a cgroup has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// How long some of its threads waited for it, in µs.
    pub some_us: u64,
    /// How long all of them did at once, in µs.
    pub full_us: u64,
    /// The part of the last 10 s in which some did, in hundredths of a percent.
    pub some_avg10: u32,
}

/// Reads a file such as `memory.pressure`; none where the kernel does not tell.
pub(crate) fn pressure(sys: &dyn Sys, directory: &Path, file: &str) -> Option<Pressure> {
    let text = sys.read(&directory.join(file)).ok()?;
    let value = |line: &str, key: &str| {
        let line = text.lines().find(|of| of.starts_with(line))?;
        words(line).find_map(|word| word.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
    };
    let total = |line| value(line, "total").and_then(|total| total.parse().ok());
    // Two digits behind the point, always.
    let hundredths = value("some", "avg10")?.replace('.', "").parse().ok()?;
    let full_us = total("full").unwrap_or(0);
    Some(Pressure { some_us: total("some")?, full_us, some_avg10: hundredths })
}

/// Cgroups below each other whose processes are looked for: parts are within parts.
const DEPTH_MAX: usize = 4;

/// The processes in a cgroup and in those below it.
pub(crate) fn members(sys: &dyn Sys, directory: &Path) -> Vec<u32> {
    let mut all = Vec::new();
    visit(sys, directory, DEPTH_MAX, &mut |text| all.extend(pids(text)));
    all
}

/// How many that are; those of other pid namespaces, too.
pub(crate) fn processes(sys: &dyn Sys, directory: &Path) -> u64 {
    let mut count = 0;
    visit(sys, directory, DEPTH_MAX, &mut |text| count += words(text).count() as u64);
    count
}

fn visit(sys: &dyn Sys, directory: &Path, depth: usize, what: &mut dyn FnMut(&str)) {
    // One of threads has none of its own.
    what(&sys.read(&directory.join("cgroup.procs")).unwrap_or_default());
    let Some(depth) = depth.checked_sub(1) else { return };
    for name in sys.children(directory).unwrap_or_default() {
        visit(sys, &directory.join(name), depth, what);
    }
}

/// The number behind `key` in a file of `key number` lines.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).and_then(|(_, value)| value.trim().parse().ok())
}
