//! What a launch is made of: user, sandbox, isolators, environment. All of it blocks, and is done by
//! the hands.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesita_core::wire::resource::{Resource, Value};
use mesita_core::wire::{ContainerId, Seq, Session};
use mesita_isolation::cgroups::{At, Part};
use mesita_isolation::images::Image;
use mesita_isolation::isolators::{Cap, ImageVolume, Stands, TaskLimits};
use mesita_isolation::keeper::protocol::{Enter, Launch, Request, Stdio, User, path_text};
use mesita_isolation::keeper::wall::{Bind, Wall};
use mesita_isolation::{Isolation, sandbox, user};
use prost::Message;

use super::devices::{Node, nodes_of};
use super::docker;
use super::fetch::Job;
use super::images::Asked;
use super::inner::Window;
use super::volumes::Held;
use super::walls;
use crate::access::ForTasks;
use crate::command::{Command, command_of, of_image};
use crate::flags::text::Duration;
use crate::pb::mesita::{TaskPrivate, TaskPublic};
use crate::pb::mesos::v1::{ContainerInfo, ExecutorInfo};
use crate::v1::amounts::duration;

/// Where programs are looked for when the agent's own environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// From being asked to end to being ended, in µs, unless an executor says otherwise. Mesos:
/// `--executor_shutdown_grace_period`.
const SHUTDOWN_GRACE_US: u64 = 5_000_000;

/// What a container is, by its names.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) user: String,
    pub(super) framework: String,
    /// Empty for an executor.
    pub(super) task: String,
    /// Empty for a command.
    pub(super) executor: String,
    pub(super) agent: String,
    /// What it has is allocated to this role.
    pub(super) role: String,
    /// Where it is: its own address, or its agent's; empty if that does not listen.
    pub(super) ip: String,
    /// What the operator gives all of them.
    pub(super) for_tasks: ForTasks,
}

/// A launch, owned.
pub(super) struct Plan {
    pub(super) request: Launch,
    pub(super) private: Arc<[u8]>,
    /// What everybody may see of a task.
    pub(super) public: Arc<[u8]>,
    pub(super) of: Names,
    pub(super) at: At,
    /// What the container around it is to weigh, if it is inside of one.
    pub(super) around: Option<TaskLimits>,
    pub(super) limits: TaskLimits,
    pub(super) address: String,
    /// Volumes that it holds, and those that tasks of the executor that it is have brought.
    pub(super) volumes: Vec<Held>,
    pub(super) brought: Vec<Held>,
    /// Roles that tasks of the executor that it is may be in.
    pub(super) roles: BTreeSet<String>,
    /// Devices that it holds, as they were offered.
    pub(super) devices: Vec<String>,
    /// What it asks a Docker engine for.
    pub(super) docker: Option<Box<docker::Asked>>,
    /// The image that it asks for, and what it stands on once that is there.
    pub(super) wants: Option<Result<Asked, String>>,
    pub(super) on: Option<On>,
    /// The same of images that it finds elsewhere.
    pub(super) wants_also: Vec<Place>,
    pub(super) finds: Vec<ImageVolume>,
    /// The terminal that it asks for.
    pub(super) terminal: Option<Option<Window>>,
}

/// An image that is to be found somewhere.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) wants: Result<Asked, String>,
    pub(super) to: String,
    pub(super) read_only: bool,
}

/// An image that a launch stands on.
pub(super) struct On {
    pub(super) image: Image,
    /// Whom it is run as by root, if it says that.
    pub(super) user: Option<User>,
    /// Where the sandbox is in it.
    pub(super) sandbox: String,
}

impl On {
    /// Where a program of it works.
    fn works(&self) -> &Path {
        let own = Path::new(&self.image.config.working_dir);
        if own.is_absolute() { own } else { Path::new(&self.sandbox) }
    }
}

/// A launch whose user is known, and whose sandbox is there.
pub(super) struct Ready {
    plan: Plan,
    command: Command,
    user: Option<User>,
    directory: PathBuf,
    /// Volumes that are mounted for it.
    binds: Vec<Bind>,
    /// From being asked to end to being ended, of an executor, in µs.
    grace_us: u64,
}

/// The first half of a launch, all of it blocking: command, user, sandbox.
fn ready(mut plan: Plan, work_dir: &Path, switch_user: bool) -> Result<Ready, String> {
    let grace_us = plan.grace_us();
    let command = if plan.is_executor() {
        let info = ExecutorInfo::decode(&*plan.private);
        let info = info.map_err(|_| "the executor's description cannot be read")?;
        Ok(info.command.unwrap_or_default())
    } else {
        command_of(&plan.private)
    };
    let command = command.and_then(|command| match &plan.on {
        Some(on) => Command::in_image(&command, &on.image.config),
        None => Command::of(&command),
    });
    let command = command.map_err(|bad| bad.to_string())?;
    let mut user = resolved(&plan.of.user, switch_user)?;
    if let (Some(on), Some(0)) = (&plan.on, user.as_ref().map(|user| user.uid)) {
        // Only root becomes whom an image says; others stay who they are.
        user = on.user.clone().or(user);
    }
    let directory = sandbox::create(work_dir, plan.at, user.as_ref());
    let directory = directory.map_err(|error| error.to_string())?;
    let mut binds = Vec::new();
    for volume in plan.placed_volumes() {
        match &plan.on {
            Some(_) => binds.push(volume.bind(work_dir, user.as_ref())?),
            None if volume.is_read_only() => {
                binds.extend(volume.bind_read_only(work_dir, user.as_ref())?);
            }
            None => {
                let shown = volume.show(work_dir, &directory, user.as_ref())?;
                plan.limits.writable.push(shown);
            }
        }
    }
    if let Some(container) = plan.container() {
        walls::add(&container, &mut plan.limits)?;
        let at = (work_dir, plan.at);
        walls::add_volumes(&container, at, user.as_ref(), &mut plan.limits)?;
    }
    if plan.is_executor() {
        // Its tasks may bring volumes when it is behind its walls already.
        let of_roles = mesita_isolation::volumes::of_roles(work_dir, &plan.roles);
        plan.limits.writable.extend(of_roles.map_err(|error| error.to_string())?);
    }
    Ok(Ready { plan, command, user, directory, binds, grace_us })
}

impl Ready {
    /// What has to be fetched before it goes on.
    pub(super) fn job(&mut self) -> Job {
        Job {
            sandbox: self.directory.clone(),
            user: (self.plan.of.user.clone(), self.user.clone()),
            uris: std::mem::take(&mut self.command.uris),
        }
    }

    /// It waits for something.
    fn has_to_fetch(&self) -> bool {
        !self.command.uris.is_empty()
    }
}

impl Plan {
    pub(super) fn is_executor(&self) -> bool {
        self.of.task.is_empty()
    }

    /// From being asked to end to being ended, of an executor, in µs.
    pub(super) fn grace_us(&self) -> u64 {
        let info = self.is_executor().then(|| ExecutorInfo::decode(&*self.private).ok()).flatten();
        let asked = info.and_then(|info| duration(info.shutdown_grace_period.as_ref()?));
        asked.unwrap_or(SHUTDOWN_GRACE_US)
    }

    /// How its framework describes its container, if it does.
    fn container(&self) -> Option<ContainerInfo> {
        if self.is_executor() {
            return ExecutorInfo::decode(&*self.private).ok()?.container;
        }
        let private = TaskPrivate::decode(&*self.private).unwrap_or_default().container;
        private.or_else(|| TaskPublic::decode(&*self.public).ok()?.container)
    }

    /// Its volumes, where it asked for them.
    pub(super) fn placed_volumes(&self) -> Vec<Held> {
        let asked = if self.volumes.is_empty() {
            Vec::new()
        } else if self.is_executor() {
            ExecutorInfo::decode(&*self.private).unwrap_or_default().resources
        } else {
            TaskPrivate::decode(&*self.private).unwrap_or_default().volumes
        };
        let mut placed = Held::placed(self.volumes.clone(), &asked);
        placed.extend(self.brought.iter().cloned());
        placed
    }
}

/// A launch as far as it goes without waiting for anybody.
pub(super) enum Begun {
    /// It is ready to go, as the keeper is asked for it.
    Launch(Box<Request>),
    /// Something has to be fetched first.
    Fetch(Box<Ready>),
}

/// Begins a launch: all of it, if nothing has to be fetched.
pub(super) fn begin(
    plan: Plan,
    isolation: &Isolation<'_>,
    work_dir: &Path,
    switch_user: bool,
    token: [u8; 16],
) -> Result<Begun, String> {
    for volume in plan.placed_volumes() {
        volume.hold(work_dir, isolation)?;
    }
    let ready = ready(plan, work_dir, switch_user)?;
    if ready.has_to_fetch() {
        return Ok(Begun::Fetch(Box::new(ready)));
    }
    build(ready, isolation, token).map(|launch| Begun::Launch(Box::new(launch)))
}

/// The second half, which blocks, too: isolators, environment.
pub(super) fn build(
    ready: Ready,
    isolation: &Isolation<'_>,
    token: [u8; 16],
) -> Result<Request, String> {
    let Ready { plan, command, user, directory, binds, grace_us } = ready;
    let is_executor = plan.is_executor();
    let stands =
        plan.on.as_ref().map(|on| Stands { image: on.image.clone(), sandbox: directory.clone() });
    let held = nodes_of(&plan.devices)?;
    let devices = held.iter().map(Node::device).collect();
    let nodes = held.iter().flat_map(Node::in_root).collect();
    let root = isolation.is_of_root(user.as_ref());
    let limits = TaskLimits { stands, images: plan.finds, devices, nodes, root, ..plan.limits };
    let failed = |error: mesita_isolation::Error| error.to_string();
    isolation.admits(user.as_ref()).map_err(failed)?;
    if let (Some(around), Some(limits)) = (plan.at.inside, &plan.around) {
        isolation.prepare_around(around, limits).map_err(failed)?;
    }
    // Before anything is made of it.
    let mounts = if binds.is_empty() { None } else { Some(isolation.mounts().map_err(failed)?) };
    let mut prepared = isolation.prepare(plan.at, &limits).map_err(failed)?;
    if let Some(namespaces) = mounts {
        prepared.mount(binds.into_iter().map(Wall::Bind), namespaces);
    }
    let endpoint = match prepared.link() {
        Some((host, _)) if is_executor => {
            let endpoint = endpoint(&plan.address, host);
            // Nothing was made of it but directories.
            endpoint.inspect_err(|_| drop(isolation.cleanup(plan.at)))?
        }
        _ => plan.address.clone(),
    };
    let mut variables = names(&plan.of, &directory);
    if let Some((_, address)) = prepared.link() {
        variables.insert("MESOS_CONTAINER_IP".to_owned(), address.to_string());
    }
    if let Some(on) = &plan.on {
        stand_on(&mut variables, Path::new(&on.sandbox));
    }
    if is_executor {
        variables.extend(of_executor(endpoint, grace_us, token));
    }
    let mut launch = with_output(plan.request);
    let works = match &plan.on {
        Some(on) => {
            let output = |name: &str| path_text(&Path::new(&on.sandbox).join(name));
            (launch.stdout, launch.stderr) = (output(sandbox::STDOUT), output(sandbox::STDERR));
            on.works().to_owned()
        }
        None => directory,
    };
    let launch = program(command, variables, &works, user, launch);
    Ok(prepared.request(launch))
}

/// What the environment of an executor says beside its names: where its agent is, and by what that
/// knows it.
pub(super) fn of_executor(
    endpoint: String,
    grace_us: u64,
    token: [u8; 16],
) -> impl Iterator<Item = (String, String)> {
    let hex: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
    let told = [
        ("LIBPROCESS_PORT", "0".to_owned()),
        ("MESOS_SLAVE_PID", format!("slave(1)@{endpoint}")),
        ("MESOS_AGENT_ENDPOINT", endpoint),
        ("MESOS_CHECKPOINT", "1".to_owned()),
        ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", Duration { us: grace_us }.to_string()),
        ("MESITA_EXECUTOR_TOKEN", hex.clone()),
        ("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", hex),
        ("MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned()),
        ("MESOS_RECOVERY_TIMEOUT", "15mins".to_owned()),
        ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "2secs".to_owned()),
    ];
    // As the agent's own. Mesos: `executorEnvironment`.
    let ip = std::env::var("LIBPROCESS_IP").ok().map(|ip| ("LIBPROCESS_IP", ip));
    told.into_iter().chain(ip).map(|(name, value)| (name.to_owned(), value))
}

/// Where an executor reaches its agent, which listens at `address`, over a link whose end on this machine
/// is `host`.
fn endpoint(address: &str, host: Ipv4Addr) -> Result<String, String> {
    let listens: Option<SocketAddr> = address.parse().ok();
    match listens {
        Some(at) if at.ip().is_loopback() => Err(format!(
            "the agent listens at {at} alone, which an executor with a network of its own does not \
             reach: give it an --ip that such do, as 0.0.0.0"
        )),
        Some(at) if at.ip().is_unspecified() => Ok(format!("{host}:{}", at.port())),
        _ => Ok(address.to_owned()),
    }
}

/// What is different in the environment of who stands on an image: where its sandbox is, and where
/// programs are, unless the image says that.
fn stand_on(variables: &mut BTreeMap<String, String>, sandbox: &Path) {
    variables.insert("PATH".to_owned(), PATH.to_owned());
    let sandbox = sandbox.to_string_lossy().into_owned();
    variables.insert("MESOS_SANDBOX".to_owned(), sandbox);
}

/// Where a process beside a task works, given the sandbox on this machine, and what is different in its
/// environment when the task stands on an image.
fn beside_in(
    isolation: &Isolation<'_>,
    inside: At,
    directory: PathBuf,
    below: &Path,
    variables: &mut BTreeMap<String, String>,
    user: &mut Option<User>,
) -> PathBuf {
    let Some(stands) = isolation.stands(inside) else { return directory };
    let works = PathBuf::from(&stands.sandbox);
    let own = if below.as_os_str().is_empty() { works.clone() } else { works.join(below) };
    stand_on(variables, &own);
    variables.extend(of_image(&stands.config.env));
    *user = in_image(Some(&stands), user.take());
    works
}

/// Whom somebody becomes beside a task that may stand on an image: of root's whom that says, as the task
/// itself, whose the sandbox is.
fn in_image(stands: Option<&mesita_isolation::images::Stands>, user: Option<User>) -> Option<User> {
    let of_root = user.as_ref().is_some_and(|user| user.uid == 0);
    let said = stands.filter(|_| of_root).and_then(|stands| stands.user.clone());
    said.or(user)
}

/// A process beside a task: its command, as the task's user, in its sandbox, with its names.
pub(super) fn beside(
    of: &Names,
    command: Command,
    inside: At,
    own: ContainerId,
    isolation: &Isolation<'_>,
    work_dir: &Path,
    switch_user: bool,
) -> Result<Request, String> {
    let mut user = resolved(&of.user, switch_user)?;
    let directory = sandbox::path(work_dir, inside);
    let mut variables = names(of, &directory);
    let directory =
        beside_in(isolation, inside, directory, Path::new(""), &mut variables, &mut user);
    isolation.admits(user.as_ref()).map_err(|error| error.to_string())?;
    let root = isolation.is_of_root(user.as_ref());
    let launch = Launch { container: own, ..empty_launch() };
    let mut launch = program(command, variables, &directory, user, launch);
    let limits = TaskLimits { root, shares_processes: true, ..TaskLimits::default() };
    let prepared = isolation.beside(inside, &limits);
    let walls = prepared.map_err(|error| error.to_string())?.add_to(&mut launch);
    let enter = Enter { inside: inside.id, launch };
    Ok(Request::enter(enter, CString::default(), Stdio::Files, walls))
}

/// Where a container is that is inside of another's.
pub(super) struct Inside<'i> {
    /// Where it is in the cgroups of the one that it ends with.
    pub(super) part: Part,
    /// The one whose namespaces it enters.
    pub(super) enters: ContainerId,
    /// Its sandbox, in the other's, whose owner is this; empty = that one.
    pub(super) below: &'i Path,
    pub(super) owner: &'i str,
    /// What it asks for.
    pub(super) limits: &'i TaskLimits,
}

impl Inside<'_> {
    /// Its sandbox, given that of the other.
    fn sandbox(&self, around: &Path) -> PathBuf {
        // Joined to nothing, it would end with a slash.
        if self.below.as_os_str().is_empty() { around.to_owned() } else { around.join(self.below) }
    }
}

/// A process inside of a container that runs, told apart from its task.
pub(super) fn enclosed(
    of: &Names,
    command: Command,
    inside: &Inside<'_>,
    isolation: &Isolation<'_>,
    work_dir: &Path,
    switch_user: bool,
) -> Result<(Enter, Vec<Wall>), String> {
    let (mut user, owner) =
        (resolved(&of.user, switch_user)?, resolved_begun(inside.owner, switch_user)?);
    let Part { of: at, id: own, .. } = inside.part;
    let directory = sandbox::path(work_dir, at);
    if !inside.below.as_os_str().is_empty() {
        let owner = in_image(isolation.stands(at).as_ref(), owner);
        let whose = in_image(isolation.stands(at).as_ref(), user.clone());
        let made = sandbox::create_for(&directory, inside.below, owner.as_ref(), whose.as_ref());
        made.map_err(|error| error.to_string())?;
    }
    let mut variables = names(of, &inside.sandbox(&directory));
    let directory = beside_in(isolation, at, directory, inside.below, &mut variables, &mut user);
    isolation.admits(user.as_ref()).map_err(|error| error.to_string())?;
    let root = isolation.is_of_root(user.as_ref());
    let limits = TaskLimits { root, ..inside.limits.clone() };
    let prepared = isolation.enclose(inside.part, &limits);
    let prepared = prepared.map_err(|error| error.to_string())?;
    let launch = with_output(Launch { container: own, ..empty_launch() });
    let mut launch = program(command, variables, &directory, user, launch);
    let walls = prepared.add_to(&mut launch);
    Ok((Enter { inside: inside.enters, launch }, walls))
}

/// What a container of its own is.
pub(super) struct Alone {
    pub(super) own: ContainerId,
    pub(super) session: Session,
    pub(super) limits: TaskLimits,
}

/// A container that belongs to no task.
pub(super) fn alone(
    of: &Names,
    command: Command,
    alone: &Alone,
    isolation: &Isolation<'_>,
    work_dir: &Path,
    switch_user: bool,
) -> Result<Request, String> {
    let user = resolved(&of.user, switch_user)?;
    isolation.admits(user.as_ref()).map_err(|error| error.to_string())?;
    let directory = sandbox::create(work_dir, alone.own, user.as_ref());
    let directory = directory.map_err(|error| error.to_string())?;
    let root = isolation.is_of_root(user.as_ref());
    let limits = TaskLimits { root, ..alone.limits.clone() };
    let prepared = isolation.prepare(alone.own, &limits).map_err(|error| error.to_string())?;
    let (container, session) = (alone.own, alone.session);
    let launch = with_output(Launch { container, session, ..empty_launch() });
    let launch = program(command, names(of, &directory), &directory, user, launch);
    Ok(prepared.request(launch))
}

fn with_output(launch: Launch) -> Launch {
    let (stdout, stderr) = (sandbox::STDOUT.to_owned(), sandbox::STDERR.to_owned());
    Launch { stdout: text(stdout), stderr: text(stderr), ..launch }
}

/// Whom something is to run as.
pub(super) fn resolved(user: &str, switch_user: bool) -> Result<Option<User>, String> {
    let resolved = switch_user.then(|| user::resolve(user)).transpose();
    resolved.map_err(|error| error.to_string())
}

/// Whom something runs as, or did.
pub(super) fn resolved_begun(user: &str, switch_user: bool) -> Result<Option<User>, String> {
    let resolved = switch_user.then(|| user::resolve_begun(user)).transpose();
    resolved.map_err(|error| error.to_string())
}

/// What the environment of everything in a container says of it.
pub(super) fn names(of: &Names, directory: &Path) -> BTreeMap<String, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned());
    let directory = directory.to_string_lossy().into_owned();
    let executor = if of.executor.is_empty() { &of.task } else { &of.executor };
    let mut variables = BTreeMap::from([
        ("PATH".to_owned(), path),
        ("MESOS_SANDBOX".to_owned(), directory.clone()),
        ("MESOS_DIRECTORY".to_owned(), directory),
        ("MESOS_FRAMEWORK_ID".to_owned(), of.framework.clone()),
        ("MESOS_EXECUTOR_ID".to_owned(), executor.clone()),
        ("MESOS_SLAVE_ID".to_owned(), of.agent.clone()),
        ("MESOS_ALLOCATION_ROLE".to_owned(), of.role.clone()),
        ("MESOS_CONTAINER_IP".to_owned(), of.ip.clone()),
    ]);
    variables.extend(of.for_tasks.variables());
    if !of.task.is_empty() {
        variables.insert("MESOS_TASK_ID".to_owned(), of.task.clone());
    }
    // What is of no framework has none of its names.
    variables.retain(|_, value| !value.is_empty());
    variables
}

/// A launch with a command and its environment; what the command itself names counts.
fn program(
    command: Command,
    mut variables: BTreeMap<String, String>,
    directory: &Path,
    user: Option<User>,
    launch: Launch,
) -> Launch {
    variables.extend(command.variables);
    let pairs = variables.into_iter().map(|(name, value)| text(format!("{name}={value}")));
    Launch {
        program: text(command.program),
        arguments: command.arguments.into_iter().map(text).collect(),
        environment: pairs.collect(),
        directory: path_text(directory),
        user,
        ..launch
    }
}

/// A text for the keeper; commands with a NUL were refused before.
fn text(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

/// The CPUs, in thousandths, and the bytes of memory among resources.
pub(super) fn asked(resources: &Seq<'_, Resource<'_>>) -> (u64, u64) {
    let sum = |name: &str| {
        let amounts = resources.iter().filter(|resource| resource.name == name);
        let milli = amounts.map(|resource| match resource.value {
            Value::Scalar(amount) => amount.milli(),
            Value::Ranges(_) | Value::Set(_) => 0,
        });
        milli.fold(0u64, u64::saturating_add)
    };
    (sum("cpus"), bytes(sum("mem")))
}

/// The ports among resources.
fn asked_ports(resources: &Seq<'_, Resource<'_>>) -> Vec<(u16, u16)> {
    let mut held = Vec::new();
    for resource in resources.iter().filter(|resource| resource.name == "ports") {
        if let Value::Ranges(ranges) = resource.value {
            let port = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
            held.extend(ranges.iter().map(|range| (port(range.begin), port(range.end))));
        }
    }
    held
}

/// The bytes of disk among resources that are no volume.
pub(super) fn asked_disk(resources: &Seq<'_, Resource<'_>>) -> u64 {
    let plain = |one: &Resource<'_>| one.name == "disk" && one.traits.disk.is_none();
    resources.iter().filter(plain).map(|one| bytes_of(&one)).fold(0, u64::saturating_add)
}

/// The bytes of a resource that Mesos counts in MB.
pub(super) fn bytes_of(resource: &Resource<'_>) -> u64 {
    match resource.value {
        Value::Scalar(amount) => bytes(amount.milli()),
        Value::Ranges(_) | Value::Set(_) => 0,
    }
}

/// True when CPUs among resources may be taken back.
fn revocable_cpus(resources: &Seq<'_, Resource<'_>>) -> bool {
    resources.iter().any(|one| one.name == "cpus" && one.traits.revocable)
}

/// Thousandths of a MiB in bytes.
fn bytes(milli: u64) -> u64 {
    (milli / 1000).saturating_mul(1 << 20).saturating_add(((milli % 1000) << 20) / 1000)
}

/// What a container may use, out of what it holds; what may be taken back, for little if so.
pub(super) fn limits(
    resources: &Seq<'_, Resource<'_>>,
    [cpus, mem]: [u64; 2],
    low_priority: bool,
) -> TaskLimits {
    let (cpus_milli, mem_bytes) = asked(resources);
    let cap = |limit: u64, unit: fn(u64) -> u64| match limit {
        0 => None,
        u64::MAX => Some(Cap::Unlimited),
        limit => Some(Cap::At(unit(limit))),
    };
    TaskLimits {
        cpus_milli,
        low_priority: low_priority && revocable_cpus(resources),
        cpus_limit: cap(cpus, |milli| milli),
        mem_bytes,
        mem_limit: cap(mem, bytes),
        disk_bytes: Some(asked_disk(resources)),
        ports: asked_ports(resources),
        ..TaskLimits::default()
    }
}

/// A launch that says nothing yet.
pub(super) fn empty_launch() -> Launch {
    Launch {
        container: ContainerId::default(),
        attempt: 0,
        session: Default::default(),
        deadline_us: 0,
        program: CString::default(),
        arguments: Vec::new(),
        environment: Vec::new(),
        directory: CString::default(),
        stdout: CString::default(),
        stderr: CString::default(),
        user: None,
        rlimits: heapless::Vec::new(),
        cgroups: heapless::Vec::new(),
        namespaces: Default::default(),
        no_new_privs: false,
        oom_score_adj: 0,
        stop_after_us: 0,
        grace_us: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_where_a_network_of_its_own_reaches_it() {
        let host = Ipv4Addr::new(10, 213, 0, 2);
        assert_eq!(endpoint("0.0.0.0:5051", host), Ok("10.213.0.2:5051".to_owned()));
        assert_eq!(endpoint("[::]:5051", host), Ok("10.213.0.2:5051".to_owned()));
        assert_eq!(endpoint("192.0.2.7:5051", host), Ok("192.0.2.7:5051".to_owned()));
        assert!(endpoint("127.0.0.1:5051", host).unwrap_err().contains("does not reach"));
    }
}
