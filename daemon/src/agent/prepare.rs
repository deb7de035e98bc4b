//! What an agent does before its first thread: its work directory, its key, its ledger, its keeper,
//! and a look at what the machine has.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use mesita_core::agent::ledger::Record;
use mesita_core::resources::{Amount, text};
use mesita_core::wire::{Session, decode};
use mesita_isolation::images::{self, Provisioner, Store};
use mesita_isolation::keeper::protocol::Welcome;
use mesita_isolation::keeper::{self, Client, KeeperOptions};
use mesita_isolation::sys::Linux;
use mesita_isolation::{Isolation, Options, isolators, machine, own};
use rustix::fs::{FlockOperation, flock};

use super::images::Registry;
use super::tokens::Tokens;
use crate::flags::images::{Backend, Provider};
use crate::flags::{Holds, json};
use crate::identity;
use crate::ledger::{self, Ledger};
use crate::room;
use crate::tls::Identity;

/// Ports that are offered when nobody says. Mesos: the same.
const PORTS: &str = "[31000-32000]";

/// The kernel that isolators see.
static LINUX: Linux = Linux;

/// An agent that is ready to start.
pub(crate) struct Prepared {
    pub(crate) work_dir: PathBuf,
    pub(crate) key: [u8; 32],
    /// What proves that it has it.
    pub(crate) proof: Option<Identity>,
    /// What may prove it from now on: the masters say.
    pub(crate) next: Option<Identity>,
    /// By which its executors are known.
    pub(crate) tokens: Tokens,
    pub(crate) ledger: Ledger,
    pub(crate) records: Vec<ledger::Entry>,
    pub(crate) keeper: Client,
    pub(crate) isolation: Arc<Isolation<'static>>,
    /// Memory of the machine.
    pub(crate) total_mem_bytes: u64,
    /// What makes roots of images; none, and why.
    pub(crate) provisioner: Result<Arc<Provisioner>, String>,
    pub(crate) registry: Registry,
    pub(crate) resources: String,
    pub(crate) attributes: String,
    pub(crate) hostname: String,
    pub(crate) docker: super::docker::Prepared,
    /// Of the work directory, for as long as the process lives.
    pub(crate) lock: File,
}

/// Why an agent cannot start.
#[derive(Debug)]
pub(crate) enum Error {
    /// A file or directory.
    Io(PathBuf, io::Error),
    /// Another agent has the work directory.
    Taken(PathBuf),
    /// Something in the work directory is not the agent's.
    Own(own::Error),
    /// The key.
    Identity(identity::Error),
    /// The ledger.
    Ledger(ledger::Error),
    /// The keeper.
    Keeper(keeper::Error),
    /// The flags about isolation.
    Isolation(mesita_isolation::NotHere),
    /// What the machine has cannot be found out.
    Machine(machine::Error),
    /// `--resources` or `--attributes`.
    Text(&'static str, String),
    /// The store of images.
    Images(images::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => {
                write!(f, "{}: {error}{}", path.display(), room::hint(error))
            }
            Self::Taken(path) => write!(
                f,
                "another process uses {}; give this one another --work-dir",
                path.display()
            ),
            Self::Own(error) => error.fmt(f),
            Self::Identity(error) => error.fmt(f),
            Self::Ledger(error) => error.fmt(f),
            Self::Keeper(error) => write!(f, "keeper: {error}"),
            Self::Isolation(error) => write!(f, "--isolation: {error}"),
            Self::Machine(error) => write!(f, "{error}; say it with --resources"),
            Self::Text(flag, error) => write!(f, "{flag}: {error}"),
            Self::Images(error) => write!(f, "images: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// What differs between an agent on its own and one inside `run` or `dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its tasks outlive it.
    OfItsOwn,
    /// Its tasks end with this process, and its work directory goes.
    OfThisProcess,
}

/// What tasks of other users lack where their agent is root and its work directory, or one above it,
/// lets nobody else through.
pub(crate) fn closed_to_users(work_dir: &Path) -> Option<String> {
    let closed = |path: &&Path| fs::metadata(path).is_ok_and(|of| of.mode() & 0o001 == 0);
    let closed = work_dir.ancestors().filter(closed).last()?.display();
    rustix::process::geteuid().is_root().then(|| {
        format!(
            "other users cannot go through {closed}: their tasks fetch nothing, and have no volumes \
             or containers in their sandboxes; `chmod o+x {closed}`, or --work-dir elsewhere"
        )
    })
}

/// Who else may put something in the place of what is the agent's: everybody where its work directory,
/// or one above it, is everybody's to write. In one with the sticky bit only who made something moves it.
pub(crate) fn open_to_others(work_dir: &Path) -> Option<String> {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |of| of.mode());
    let is_open = |path: &&Path| {
        let mode = mode(path);
        mode & 0o002 != 0 && (*path == work_dir || mode & 0o1000 == 0)
    };
    let open = work_dir.ancestors().find(is_open)?.display();
    Some(format!(
        "everybody may write to {open}, and put something of theirs in the place of the agent's own; \
         `chmod o-w {open}`, or --work-dir elsewhere"
    ))
}

/// Prepares an agent. The caller has one thread.
pub(crate) fn prepare(work_dir: &Path, holds: &Holds, life: Life) -> Result<Prepared, Error> {
    // Tasks go through directories that are made here, whatever the operator's own files are like.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let work_dir = std::path::absolute(work_dir).map_err(at(work_dir))?;
    let meta = work_dir.join("meta");
    let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(&work_dir);
    made.map_err(at(&work_dir))?;
    own::check(&work_dir).map_err(Error::Own)?;
    for trouble in closed_to_users(&work_dir).into_iter().chain(open_to_others(&work_dir)) {
        log::warn!("{trouble}");
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&meta).map_err(at(&meta))?;
    let lock = lock(&meta.join("lock"))?;
    identity::is_whole(&meta, identity::Known::AGENT).map_err(Error::Identity)?;
    let identity::Own { key, proof, next } = identity::own(&meta).map_err(Error::Identity)?;
    let (resources, attributes) = told(holds)?;
    let (ledger, records) = Ledger::open(&meta).map_err(Error::Ledger)?;
    let start = last_start(&records).saturating_add(1);
    let tokens = Tokens::of(&meta, start, key)?;
    let keeper = keeper::start(&KeeperOptions {
        session: Session { incarnation: start, counter: 0 },
        ends_with_client: life == Life::OfThisProcess,
        temporary: life == Life::OfThisProcess,
        logs: life == Life::OfItsOwn,
        key: Some(key),
        ..KeeperOptions::new(&work_dir)
    });
    let mut keeper = keeper.map_err(Error::Keeper)?;
    let registry = holds.images.docker_registry.as_deref().map(Registry::of).transpose();
    let registry = registry.map_err(|bad| Error::Text("--docker-registry", bad))?;
    let provisioner = provisioner(holds, &work_dir, keeper.welcome()).map_err(Error::Images)?;
    let options = Options {
        work_dir: Some(work_dir.clone()),
        provisioner: provisioner.clone().map(Some),
        ..options(holds, key, keeper.welcome())?
    };
    let (isolation, degraded) = Isolation::new(&options, &LINUX).map_err(Error::Isolation)?;
    // It removes our directories when it ends, whichever way we end, also before we have begun.
    keeper.send(&isolation.remove_at_end()).map_err(Error::Keeper)?;
    for degraded in &degraded {
        log::warn!("isolation: {degraded}");
    }
    for place in isolation.withheld() {
        log::warn!(
            "isolation: tasks do not write below {}, though --writable says so: the work directory \
             is there, and they have no mounts of their own; --work-dir elsewhere lets them",
            place.display()
        );
    }
    let resources = with_machine(&resources, options.total_mem_bytes, &work_dir)?;
    let told = isolation.attributes().into_iter().map(|(name, value)| format!("{name}:{value}"));
    let docker = super::docker::Prepared::new(&holds.docker, &key);
    let of_docker = docker.attributes();
    let of_docker = of_docker.into_iter().map(|(name, value)| format!("{name}:{value}"));
    let attributes = told.chain(of_docker).chain([attributes]).filter(|text| !text.is_empty());
    let node = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Prepared {
        key,
        proof,
        next,
        tokens,
        ledger,
        records,
        keeper,
        isolation: Arc::new(isolation),
        total_mem_bytes: options.total_mem_bytes,
        provisioner,
        registry: registry.unwrap_or_default(),
        resources,
        attributes: attributes.collect::<Vec<_>>().join(";"),
        hostname: holds.hostname.clone().unwrap_or_else(node),
        docker,
        work_dir,
        lock,
    })
}

/// What the flags and a keeper say about isolation.
pub(crate) fn options(holds: &Holds, key: [u8; 32], keeper: &Welcome) -> Result<Options, Error> {
    let total = machine::memory_bytes(&LINUX).map_err(Error::Machine)?;
    let mut options = Options {
        isolators: holds.isolation.clone(),
        cgroups_root: holds.cgroups_root.clone(),
        cgroups_enable_cfs: holds.cgroups_enable_cfs,
        cgroups_limit_swap: holds.cgroups_limit_swap,
        min_task_mem_bytes: holds.min_task_mem.bytes,
        task_pids_max: holds.task_pids_max,
        ..Options::new(key, keeper, total)
    };
    holds.walls.put_into(&mut options);
    Ok(options)
}

/// The resources that an agent with these flags and this work directory offers.
pub(crate) fn offered(holds: &Holds, work_dir: &Path) -> Result<String, Error> {
    let (resources, _) = told(holds)?;
    let total = machine::memory_bytes(&LINUX).map_err(Error::Machine)?;
    with_machine(&resources, total, work_dir)
}

/// What makes roots of images, or why this agent has none of it.
fn provisioner(
    holds: &Holds,
    work_dir: &Path,
    keeper: &Welcome,
) -> Result<Result<Arc<Provisioner>, String>, images::Error> {
    let flags = &holds.images;
    if flags.image_providers.contains(&Provider::None) {
        return Ok(Err("--image-providers=none".to_owned()));
    }
    let named = |names: &Vec<String>| {
        names.iter().any(|name| matches!(&**name, "all" | isolators::FILESYSTEM_LINUX))
    };
    if holds.isolation.as_ref().is_some_and(|names| !named(names)) {
        return Ok(Err(format!("--isolation does not name {}", isolators::FILESYSTEM_LINUX)));
    }
    if let Err(why) = Provisioner::is_possible(keeper) {
        return Ok(Err(why.to_owned()));
    }
    if !can_be_sandbox(Path::new(&flags.sandbox_directory)) {
        let why = format!(
            "--sandbox-directory `{}` is no absolute path where an image has room for it: not `/`, nor below \
             /dev, /proc or /sys",
            flags.sandbox_directory
        );
        return Err(images::Error::Malformed(why));
    }
    let bounds = images::Bounds {
        store_bytes: flags.image_store_max.bytes,
        blob_bytes: flags.image_blobs_max.bytes,
        layer_bytes: flags.image_layer_max.bytes,
        entries: flags.image_entries_max,
        ratio: flags.image_ratio_max,
        depth: flags.image_depth_max,
    };
    let own = || work_dir.join("images");
    let store = Store::open(&flags.docker_store_dir.clone().unwrap_or_else(own), bounds)?;
    let backend = match flags.image_provisioner_backend {
        Backend::Auto => None,
        Backend::Overlay => Some(images::Backend::Overlay),
        Backend::Copy => Some(images::Backend::Copy),
    };
    let sandbox = &flags.sandbox_directory;
    Provisioner::new(store, work_dir, backend, sandbox).map(|one| Ok(Arc::new(one)))
}

/// True for where a sandbox hides nothing of an image, and is hidden by nothing.
fn can_be_sandbox(path: &Path) -> bool {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    path.is_absolute()
        && path != Path::new("/")
        && path.components().all(plain)
        && !path.as_os_str().as_bytes().contains(&0)
        && !["/dev", "/proc", "/sys"].iter().any(|kernels| path.starts_with(kernels))
}

fn at(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |error| Error::Io(path.to_owned(), error)
}

/// The lock of a work directory, for as long as the file is open.
pub(crate) fn lock(path: &Path) -> Result<File, Error> {
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(at(path))?;
    match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let directory = path.parent().and_then(Path::parent).unwrap_or(path);
            Err(Error::Taken(directory.to_owned()))
        }
        Err(errno) => Err(at(path)(errno.into())),
    }
}

/// The newest start that the ledger knows of.
fn last_start(records: &[ledger::Entry]) -> u32 {
    let starts = records.iter().filter_map(|entry| match decode(&entry.record) {
        Ok(Record::Started { incarnation, .. }) => Some(incarnation),
        _ => None,
    });
    starts.max().unwrap_or(0)
}

/// The flags' resources and attributes, checked.
fn told(holds: &Holds) -> Result<(String, String), Error> {
    let resources = json::plain(holds.resources.as_deref().unwrap_or_default());
    let resources = resources.map_err(|bad| Error::Text("--resources", bad))?;
    for entry in text::resources(&resources) {
        entry.map_err(|bad| Error::Text("--resources", bad.to_string()))?;
    }
    let devices = holds.devices.as_deref().unwrap_or_default();
    super::devices::check(devices, &resources).map_err(|bad| Error::Text("--devices", bad))?;
    super::spare::check(&holds.spare).map_err(|(flag, why)| Error::Text(flag, why))?;
    let attributes = holds.attributes.clone().unwrap_or_default();
    for entry in text::entries(&attributes) {
        entry.map_err(|bad| Error::Text("--attributes", bad.to_string()))?;
    }
    Ok((resources, attributes))
}

/// The resources told, and of those that every agent has the machine's where nothing was told.
/// Mesos: `Containerizer::resources`.
fn with_machine(told: &str, total: u64, work_dir: &Path) -> Result<String, Error> {
    let named: Vec<&str> = text::resources(told).flatten().map(|entry| entry.name).collect();
    let mut all = vec![told.to_owned()];
    if !named.contains(&"cpus") {
        all.push(format!("cpus:{}", machine::cpus()));
    }
    if !named.contains(&"mem") {
        all.push(format!("mem:{}", machine::memory_offered_mib(total >> 20)));
    }
    if !named.contains(&"disk") {
        let disk = machine::disk_offered_mib(work_dir).map_err(Error::Machine)?;
        // As much as an amount can say.
        let most = mesita_core::limits::AMOUNT_MAX / 1000;
        all.push(format!("disk:{}", Amount::from_units(disk.min(most))));
    }
    if !named.contains(&"ports") {
        all.push(format!("ports:{PORTS}"));
    }
    all.retain(|text| !text.is_empty());
    Ok(all.join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_put_where_it_hides_nothing_and_is_seen() {
        for good in ["/mnt/mesos/sandbox", "/sandbox", "/devices"] {
            assert!(can_be_sandbox(Path::new(good)), "{good}");
        }
        for bad in ["", "x", "/", "//", "/proc/x", "/sys", "/dev/shm/x", "/a/../proc", "/a\0b"] {
            assert!(!can_be_sandbox(Path::new(bad)), "{bad}");
        }
    }
}
