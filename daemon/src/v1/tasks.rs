//! Tasks and executors, split into the decision head and the bodies that are only carried.

use std::fmt;

use mesita_core::wire::task::{Executor, Kind, Launch, Limit, Restart};
use mesita_core::wire::{AgentId, Body, Scratch, Seq};
use mesita_isolation::images::Name;
use prost::Message;

use super::amounts::{BadNumber, amount, duration};
use super::checks::{Check, Health};
use super::docker;
use super::resources::{self, BadResource};
use super::restarts;
use crate::command::{has_secrets, image_of, shown_check, shown_look, without_secrets};
use crate::pb::mesita::{TaskPrivate, TaskPublic};
use crate::pb::mesos::v1 as pb;

/// What is wrong with a task, in the sentence that its framework is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadTask {
    /// Not exactly one of command and executor.
    Kind,
    /// One of its resources.
    Resource(BadResource),
    /// One of its limits.
    Limit(String, BadNumber),
    /// A time below zero.
    Negative(&'static str),
    /// Something that contradicts how an executor runs its tasks.
    Group(&'static str),
    /// A check or a health check that makes no sense.
    Check(&'static str, String),
    /// The container that it asks for.
    Container(String),
    /// A label of a restart rule.
    Restart(String),
    /// An image that cannot be.
    Image(String),
    /// Something that this release does not do.
    Unsupported(&'static str),
}

impl fmt::Display for BadTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => {
                f.write_str("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present")
            }
            Self::Resource(bad) => bad.fmt(f),
            Self::Limit(name, bad) => write!(f, "The limit of '{name}' {bad}"),
            Self::Negative(what) => write!(f, "Task's '{what}' must be non-negative"),
            Self::Group(why) => f.write_str(why),
            Self::Image(why) => f.write_str(why),
            Self::Check(what, why) => write!(f, "Task uses invalid {what}: {why}"),
            Self::Container(why) => write!(f, "Task uses invalid container: {why}"),
            Self::Restart(why) => f.write_str(why),
            Self::Unsupported(what) => write!(f, "{what} is not supported"),
        }
    }
}

impl BadTask {
    /// True when it is only that something has no room.
    pub(crate) const fn is_too_long(&self) -> bool {
        matches!(self, Self::Resource(BadResource::TooMany))
    }
}

impl From<BadResource> for BadTask {
    fn from(bad: BadResource) -> Self {
        Self::Resource(bad)
    }
}

/// The bodies of one frame, in the order in which heads name them; equal ones are carried once.
#[derive(Debug, Default)]
pub(crate) struct Bodies(pub(crate) Vec<Vec<u8>>);

impl Bodies {
    /// Takes a body; an empty one is none.
    pub(crate) fn put(&mut self, bytes: Vec<u8>) -> Body {
        if bytes.is_empty() {
            return Body::NONE;
        }
        let known = self.0.iter().position(|body| *body == bytes);
        let index = known.unwrap_or_else(|| {
            self.0.push(bytes);
            self.0.len() - 1
        });
        u16::try_from(index).map_or(Body::NONE, Body::at)
    }
}

/// A task for the wire, however little of it makes sense: the launch that is refused for it.
pub(crate) fn nothing_of<'s>(task: &'s pb::TaskInfo, agent: AgentId) -> Launch<'s> {
    Launch {
        task: &task.task_id.value,
        agent,
        kind: Kind::Command,
        resources: Seq::EMPTY,
        limits: Seq::EMPTY,
        executor: None,
        user: "",
        grace_us: None,
        completion_us: None,
        restart: Restart::default(),
        public: Body::NONE,
        private: Body::NONE,
    }
}

/// A task for the wire. `group` is the number of its group and whose tasks those are, if it is in one.
pub(crate) fn to_wire<'s>(
    task: &'s pb::TaskInfo,
    agent: AgentId,
    group: Option<(u16, &'s pb::ExecutorInfo)>,
    bodies: &mut Bodies,
    scratch: &mut Scratch<'s>,
) -> Result<Launch<'s>, BadTask> {
    match group {
        None if task.command.is_some() == task.executor.is_some() => return Err(BadTask::Kind),
        None if !shares_cgroups(task) => {
            let why = "Only tasks in a task group may have 'share_cgroups' set to 'false'";
            return Err(BadTask::Group(why));
        }
        Some((_, executor)) => member(task, executor)?,
        None => {}
    }
    task.executor.as_ref().map_or(Ok(()), custom)?;
    let custom = |executor: &pb::ExecutorInfo| executor.command.is_some();
    let runs_it = group.map(|(_, executor)| executor).or(task.executor.as_ref());
    if runs_it.is_some_and(custom) && !resources::read_only(&task.resources).is_empty() {
        // It may run already, and what it has mounted is its own.
        let why = "a persistent volume of mode RO of a task that a 'CUSTOM' executor is given; that \
                   executor's own may be read-only,";
        return Err(BadTask::Unsupported(why));
    }
    let in_docker = runs_it.and_then(|executor| executor.container.as_ref());
    if in_docker.is_some_and(docker::is_docker) && task.resources.iter().any(is_persistent) {
        let why = "a persistent volume of a task whose executor is in a container of type DOCKER; that \
                   executor's own";
        return Err(BadTask::Unsupported(why));
    }
    supported(task, group.is_some())?;
    let kind = match (group, &task.executor) {
        (Some((group, executor)), _) if executor.command.is_some() => Kind::Given { group },
        (Some((group, _)), _) => Kind::Group { group },
        (None, Some(_)) => Kind::Executor,
        (None, None) => Kind::Command,
    };
    let executor = match &task.executor {
        Some(executor) if group.is_none() => Some(executor_to_wire(executor, bodies, scratch)?),
        Some(_) | None => None,
    };
    let grace = task.kill_policy.as_ref().and_then(|policy| policy.grace_period.as_ref());
    let negative = |what| move || BadTask::Negative(what);
    let launch = Launch {
        kind,
        restart: restarts::of(task.labels.as_ref()).map_err(BadTask::Restart)?,
        resources: resources::to_wire(&task.resources, scratch)?,
        limits: limits(task, scratch)?,
        executor,
        user: task.command.as_ref().map_or("", |command| command.user()),
        grace_us: grace
            .map(|grace| duration(grace).ok_or_else(negative("kill_policy.grace_period")))
            .transpose()?,
        completion_us: task
            .max_completion_time
            .as_ref()
            .map(|time| duration(time).ok_or_else(negative("max_completion_time")))
            .transpose()?,
        public: bodies.put(public(task, runs_it).encode_to_vec()),
        private: bodies.put(private(task).encode_to_vec()),
        ..nothing_of(task, agent)
    };
    launch.check_restart().map_err(|why| BadTask::Restart(why.to_owned()))?;
    Ok(launch)
}

/// A part of a disk that outlives its task.
fn is_persistent(resource: &pb::Resource) -> bool {
    resource.disk.as_ref().is_some_and(|disk| disk.persistence.is_some())
}

/// Whether a task is in the cgroups of its executor.
pub(crate) fn shares_cgroups(task: &pb::TaskInfo) -> bool {
    let linux = task.container.as_ref().and_then(|container| container.linux_info.as_ref());
    linux.is_none_or(|linux| linux.share_cgroups())
}

/// What only a task of a group must be. Mesos: `validation::task::group`. What a custom executor makes of
/// it is that one's.
fn member(task: &pb::TaskInfo, executor: &pb::ExecutorInfo) -> Result<(), BadTask> {
    if task.executor.is_some() {
        return Err(BadTask::Group("'TaskInfo.executor' must not be set"));
    }
    if task.command.is_none() && executor.command.is_none() {
        return Err(BadTask::Group("'TaskInfo.command' must be set"));
    }
    if !task.limits.is_empty() && shares_cgroups(task) {
        return Err(BadTask::Group(
            "Resource limits may only be set for tasks within a task group when the \
             'share_cgroups' field is set to 'false'.",
        ));
    }
    Ok(())
}

/// The executor of a group: the agent itself, or one that is given the group. Mesos:
/// `validation::executor::type`.
pub(crate) fn group_executor(executor: &pb::ExecutorInfo) -> Result<(), BadTask> {
    match executor.r#type() {
        pb::executor_info::Type::Default if image_of(executor.container.as_ref()).is_some() => {
            Err(BadTask::Unsupported("an image of a 'DEFAULT' executor: its tasks have their own"))
        }
        pb::executor_info::Type::Default if executor.command.is_none() => apart(executor),
        pb::executor_info::Type::Default => {
            let why = "'ExecutorInfo.command' must not be set for 'DEFAULT' executor";
            Err(BadTask::Group(why))
        }
        pb::executor_info::Type::Custom => custom(executor),
        pb::executor_info::Type::Unknown => {
            Err(BadTask::Group("'ExecutorInfo.type' must be set: to 'DEFAULT' or 'CUSTOM'"))
        }
    }
}

/// What an executor is inside of has no limits that it could share.
fn apart(executor: &pb::ExecutorInfo) -> Result<(), BadTask> {
    let linux = executor.container.as_ref().and_then(|container| container.linux_info.as_ref());
    if linux.is_some_and(|linux| linux.share_cgroups == Some(true)) {
        let why = "The 'share_cgroups' field cannot be set to 'true' on executor containers";
        return Err(BadTask::Group(why));
    }
    Ok(())
}

/// The executor of a task by itself.
fn custom(executor: &pb::ExecutorInfo) -> Result<(), BadTask> {
    apart(executor)?;
    if executor.r#type() == pb::executor_info::Type::Default {
        return Err(BadTask::Group("An executor of type 'DEFAULT' is for task groups"));
    }
    if executor.command.is_none() {
        return Err(BadTask::Group("'ExecutorInfo.command' must be set for 'CUSTOM' executor"));
    }
    Ok(())
}

/// What a release does not do is refused, and never left out in silence.
fn supported(task: &pb::TaskInfo, grouped: bool) -> Result<(), BadTask> {
    let bad = |what, why| BadTask::Check(what, why);
    if let Some(check) = &task.check {
        Check::of(check).map_err(|why| bad("check", why))?;
    }
    if let Some(check) = &task.health_check {
        Health::of(check).map_err(|why| bad("health check", why))?;
    }
    let Some(container) = &task.container else { return Ok(()) };
    if !docker::is_docker(container) {
        return contained(container);
    }
    docker::check(container, task.command.as_ref()).map_err(BadTask::Container)?;
    match (grouped, &task.executor) {
        (true, _) => Err(BadTask::Group("Docker ContainerInfo is not supported on the task")),
        (false, Some(_)) => {
            let why = "a container of type DOCKER is for a task with a command; \
                       one with an executor has its own";
            Err(BadTask::Container(why.to_owned()))
        }
        (false, None) => Ok(()),
    }
}

/// A container that asks for nothing that no agent has.
pub(crate) fn contained(container: &pb::ContainerInfo) -> Result<(), BadTask> {
    if docker::is_docker(container) {
        return Err(BadTask::Unsupported("a container of type DOCKER inside of another"));
    }
    if container.docker.is_some() {
        return Err(BadTask::Unsupported("a container image"));
    }
    image_of(Some(container)).map_or(Ok(()), image)?;
    for volume in &container.volumes {
        mounted(volume)?;
    }
    if !container.network_infos.is_empty() {
        return Err(BadTask::Unsupported("a network of a container's own"));
    }
    Ok(())
}

/// A volume that agents can mount: a path of the host, a part of a sandbox, a secret.
fn mounted(volume: &pb::Volume) -> Result<(), BadTask> {
    use pb::volume::source::{SandboxPath, Type, sandbox_path};
    let sources = [volume.host_path.is_some(), volume.image.is_some(), volume.source.is_some()];
    if sources.into_iter().filter(|is| *is).count() != 1 {
        let why = "Only one of them should be set: 'host_path', 'image' and 'source'";
        return Err(BadTask::Image(why.into()));
    }
    if let Some(of) = &volume.image {
        let path = &volume.container_path;
        if path.is_empty() || path.contains('\0') || path.split('/').any(|part| part == "..") {
            let why = format!("'container_path' `{path:.200}` is no place for a volume");
            return Err(BadTask::Image(why));
        }
        return image(of);
    }
    let Some(source) = &volume.source else { return Ok(()) };
    let sandbox = |of: &SandboxPath| of.r#type() != sandbox_path::Type::Unknown;
    let both_ways = source.host_path.as_ref().and_then(|path| path.mount_propagation.as_ref());
    match source.r#type() {
        _ if both_ways.is_some() => Err(BadTask::Unsupported("propagation of mounts")),
        Type::HostPath if source.host_path.is_some() => Ok(()),
        Type::SandboxPath if source.sandbox_path.as_ref().is_some_and(sandbox) => Ok(()),
        Type::Secret if source.secret.as_ref().is_some_and(|secret| secret.value.is_some()) => {
            Ok(())
        }
        Type::DockerVolume => Err(BadTask::Unsupported("a volume of a driver of Docker's")),
        Type::CsiVolume => Err(BadTask::Unsupported("a CSI volume")),
        Type::HostPath | Type::SandboxPath | Type::Secret | Type::Unknown => {
            Err(BadTask::Unsupported("a volume without what its type says"))
        }
    }
}

/// An image that an agent may have. Mesos: `common::validation::validateImage`.
pub(crate) fn image(image: &pb::Image) -> Result<(), BadTask> {
    if image.r#type() == pb::image::Type::Appc {
        return Err(BadTask::Unsupported("an image of type APPC"));
    }
    let Some(docker) = &image.docker else {
        return Err(BadTask::Image(
            "'image.docker' must be set for an image of type DOCKER".into(),
        ));
    };
    if docker.config.is_some() {
        return Err(BadTask::Unsupported("a secret to pull an image with"));
    }
    Name::parse(&docker.name).map(|_| ()).map_err(|bad| BadTask::Image(bad.to_string()))
}

fn public(task: &pb::TaskInfo, executor: Option<&pb::ExecutorInfo>) -> TaskPublic {
    TaskPublic {
        executor: executor.map(told_of),
        limits: task.limits.clone(),
        name: Some(task.name.clone()),
        health_check: task.health_check.clone().map(shown_check),
        container: task.container.as_ref().map(container_without_secrets),
        labels: task.labels.clone(),
        discovery: task.discovery.clone(),
        kill_policy: task.kill_policy,
        check: task.check.clone().map(shown_look),
        read_only: resources::read_only(&task.resources),
        user: user_of(task),
    }
}

/// Whom a task's command names, or its executor's. Mesos: `protobuf::createTask`.
fn user_of(task: &pb::TaskInfo) -> Option<String> {
    let of_executor = task.executor.as_ref().and_then(|executor| executor.command.as_ref());
    let user = |command: &pb::CommandInfo| command.user.clone();
    task.command.as_ref().and_then(user).or_else(|| of_executor.and_then(user))
}

fn secrets(container: &pb::ContainerInfo) -> impl Iterator<Item = &pb::Secret> {
    let sources = container.volumes.iter().filter_map(|volume| volume.source.as_ref());
    sources.filter_map(|source| source.secret.as_ref())
}

fn brings_secrets(container: &pb::ContainerInfo) -> bool {
    secrets(container).any(|secret| secret.value.is_some())
}

/// The same without what is secret in it, for whoever asks.
fn container_without_secrets(container: &pb::ContainerInfo) -> pb::ContainerInfo {
    let mut told = container.clone();
    let sources = told.volumes.iter_mut().filter_map(|volume| volume.source.as_mut());
    for secret in sources.filter_map(|source| source.secret.as_mut()) {
        secret.value = None;
    }
    told
}

/// What is told of an executor: all but what its agent alone needs.
#[allow(deprecated)] // Old clients look at the source.
fn told_of(executor: &pb::ExecutorInfo) -> pb::ExecutorInfo {
    pb::ExecutorInfo {
        r#type: executor.r#type,
        executor_id: executor.executor_id.clone(),
        command: executor.command.as_ref().map(without_secrets),
        name: executor.name.clone(),
        source: executor.source.clone(),
        labels: executor.labels.clone(),
        resources: resources::read_only(&executor.resources),
        ..pb::ExecutorInfo::default()
    }
}

/// The name of the executor that a command runs under. Mesos: `Slave::getExecutorInfo`.
pub(crate) fn command_name(task: &str, command: &pb::CommandInfo) -> String {
    let short = |text: &str| match text.char_indices().nth(15) {
        None => text.to_owned(),
        Some(_) => text.chars().take(12).chain("...".chars()).collect(),
    };
    let what = match (command.shell(), &command.value) {
        (true, Some(line)) => format!("sh -c '{}'", short(line)),
        (true, None) => "NO COMMAND".to_owned(),
        (false, Some(program)) => format!("[{program}, {}]", short(&command.arguments.join(", "))),
        (false, None) => "NO EXECUTABLE".to_owned(),
    };
    format!("Command Executor (Task: {task}) (Command: {what})")
}

fn private(task: &pb::TaskInfo) -> TaskPrivate {
    let volume =
        |one: &&pb::Resource| one.disk.as_ref().is_some_and(|disk| disk.persistence.is_some());
    TaskPrivate {
        data: task.data.clone(),
        command: task.command.clone(),
        volumes: task.resources.iter().filter(volume).cloned().collect(),
        container: task.container.as_ref().filter(|one| brings_secrets(one)).cloned(),
        health_check: task
            .health_check
            .as_ref()
            .filter(|one| one.command.as_ref().is_some_and(has_secrets))
            .cloned(),
        check: task.check.as_ref().filter(|one| looks_by(one).is_some_and(has_secrets)).cloned(),
    }
}

/// The command that a check looks by.
fn looks_by(check: &pb::CheckInfo) -> Option<&pb::CommandInfo> {
    Some(&check.command.as_ref()?.command)
}

fn limits<'s>(
    task: &'s pb::TaskInfo,
    scratch: &mut Scratch<'s>,
) -> Result<Seq<'s, Limit<'s>>, BadTask> {
    let mut limits = Vec::new();
    for (name, limit) in &task.limits {
        let amount = if limit.value == f64::INFINITY {
            None
        } else {
            Some(amount(limit.value).map_err(|bad| BadTask::Limit(name.clone(), bad))?)
        };
        limits.push(Limit { name, amount });
    }
    Ok(scratch.seq::<Limit<'static>>(limits).map_err(BadResource::from)?)
}

/// What stands for an executor that makes no sense: its tasks are refused for it.
pub(crate) const NO_EXECUTOR: Executor<'static> =
    Executor { id: "none", resources: Seq::EMPTY, user: "", grace_us: None, body: Body::NONE };

/// An executor for the wire.
pub(crate) fn executor_to_wire<'s>(
    executor: &'s pb::ExecutorInfo,
    bodies: &mut Bodies,
    scratch: &mut Scratch<'s>,
) -> Result<Executor<'s>, BadTask> {
    if let Some(container) = &executor.container {
        if container.tty_info.is_some() && executor.command.is_none() {
            let why = "a terminal of a 'DEFAULT' executor: its tasks have their own";
            return Err(BadTask::Unsupported(why));
        }
        if executor.command.is_none() {
            nothing_to_have(container)?;
        }
        if docker::is_docker(container) {
            in_engine(executor, container)?;
        } else {
            contained(container)?;
        }
    }
    let grace = executor.shutdown_grace_period.as_ref();
    Ok(Executor {
        id: &executor.executor_id.value,
        resources: resources::to_wire(&executor.resources, scratch)?,
        user: executor.command.as_ref().map_or("", |command| command.user()),
        grace_us: grace
            .map(|grace| duration(grace).ok_or(BadTask::Negative("shutdown_grace_period")))
            .transpose()?,
        body: bodies.put(executor_body(executor)),
    })
}

/// What an executor that has no process could not be given.
fn nothing_to_have(container: &pb::ContainerInfo) -> Result<(), BadTask> {
    let linux = container.linux_info.as_ref();
    let shares = |linux: &pb::LinuxInfo| pb::LinuxInfo {
        share_cgroups: linux.share_cgroups,
        ..pb::LinuxInfo::default()
    };
    let asked = [
        (
            linux.is_some_and(|linux| *linux != shares(linux)),
            "'linux_info' of a 'DEFAULT' executor, but for 'share_cgroups': its tasks have their own,",
        ),
        (
            container.rlimit_info.is_some(),
            "'rlimit_info' of a 'DEFAULT' executor: its tasks have their own",
        ),
        (
            container.hostname.is_some(),
            "'hostname' of a 'DEFAULT' executor: its tasks have their own",
        ),
        (
            !container.volumes.is_empty(),
            "volumes of a 'DEFAULT' executor: its tasks have their own",
        ),
    ];
    let asked = asked.into_iter().find(|(asked, _)| *asked);
    asked.map_or(Ok(()), |(_, what)| Err(BadTask::Unsupported(what)))
}

/// An executor in a container of a Docker engine. Mesos: `validation::executor::type`.
fn in_engine(executor: &pb::ExecutorInfo, container: &pb::ContainerInfo) -> Result<(), BadTask> {
    if executor.command.is_none() {
        return Err(BadTask::Group(
            "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor",
        ));
    }
    docker::check(container, executor.command.as_ref()).map_err(BadTask::Container)?;
    docker::reaches_agent(container).map_err(BadTask::Container)
}

/// What is carried of an executor. Two of one id must be equal in it; its framework's id is known. What
/// has no order has one here, for clients list it in any. Mesos: `operator==(ExecutorInfo, ExecutorInfo)`.
pub(crate) fn executor_body(executor: &pb::ExecutorInfo) -> Vec<u8> {
    let mut carried = pb::ExecutorInfo { framework_id: None, ..executor.clone() };
    for resource in &mut carried.resources {
        resource.allocation_info = None;
    }
    carried.resources.sort_by_cached_key(pb::Resource::encode_to_vec);
    if let Some(command) = &mut carried.command {
        command.uris.sort_by(|one, other| one.value.cmp(&other.value));
        // Of two variables of one name the last one counts.
        let variables = command.environment.iter_mut().flat_map(|all| Some(&mut all.variables));
        variables.for_each(|all| all.sort_by(|one, other| one.name.cmp(&other.name)));
    }
    carried.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_is_refused_what_it_could_not_have() {
        let asks = |of: fn(&mut pb::ContainerInfo), command: Option<pb::CommandInfo>| {
            let mut container = pb::ContainerInfo::default();
            container.set_type(pb::container_info::Type::Mesos);
            of(&mut container);
            let container = Some(container);
            let executor = pb::ExecutorInfo { container, command, ..pb::ExecutorInfo::default() };
            let (mut bodies, mut memory) = (Bodies::default(), vec![0; 4096]);
            let told = executor_to_wire(&executor, &mut bodies, &mut Scratch::new(&mut memory));
            told.map(|_| ()).map_err(|bad| bad.to_string())
        };
        let any = Some(pb::CommandInfo { value: Some("x".to_owned()), ..Default::default() });
        let linux = |container: &mut pb::ContainerInfo| {
            let linux = pb::LinuxInfo { share_pid_namespace: Some(true), ..Default::default() };
            container.linux_info = Some(linux);
        };
        let shares = |container: &mut pb::ContainerInfo| {
            let linux = pb::LinuxInfo { share_cgroups: Some(false), ..Default::default() };
            container.linux_info = Some(linux);
        };
        let named = |container: &mut pb::ContainerInfo| container.hostname = Some("x".to_owned());
        let docker = |container: &mut pb::ContainerInfo| *container = docker::of_image("x");
        asks(shares, None).unwrap();
        asks(linux, any.clone()).unwrap();
        asks(docker, any.clone()).unwrap();
        assert!(asks(linux, None).unwrap_err().contains("'linux_info' of a 'DEFAULT' executor"));
        assert!(asks(named, None).unwrap_err().contains("'hostname' of a 'DEFAULT' executor"));
        assert!(asks(docker, None).unwrap_err().contains("must be 'MESOS'"));
        let apart = |container: &mut pb::ContainerInfo| {
            *container = docker::of_image("x");
            let none = pb::container_info::docker_info::Network::None;
            container.docker.as_mut().unwrap().set_network(none);
        };
        assert!(asks(apart, any).unwrap_err().contains("does not reach its agent"));
    }

    #[test]
    fn a_container_without_an_image_may_have_volumes_and_a_terminal() {
        let volume = |of: fn(&mut pb::Volume)| {
            let mut volume =
                pb::Volume { container_path: "data".to_owned(), ..pb::Volume::default() };
            of(&mut volume);
            let mut container =
                pb::ContainerInfo { volumes: vec![volume], ..pb::ContainerInfo::default() };
            container.set_type(pb::container_info::Type::Mesos);
            container
        };
        let asking = |container| {
            let task = pb::TaskInfo { container: Some(container), ..pb::TaskInfo::default() };
            supported(&task, false).map_err(|bad| bad.to_string())
        };
        let host = volume(|volume| volume.host_path = Some("/srv".to_owned()));
        asking(host.clone()).unwrap();
        assert!(asking(volume(|_| {})).unwrap_err().contains("Only one of them"));
        let terminal = pb::ContainerInfo { tty_info: Some(pb::TtyInfo::default()), ..host };
        asking(terminal.clone()).unwrap();
        let around = pb::ExecutorInfo { container: Some(terminal), ..pb::ExecutorInfo::default() };
        let mut memory = [0; 1024];
        let mut scratch = Scratch::new(&mut memory);
        let told = executor_to_wire(&around, &mut Bodies::default(), &mut scratch);
        assert!(told.unwrap_err().to_string().contains("its tasks have their own"));
    }

    #[test]
    fn executors_are_the_same_in_whatever_order_they_are_described() {
        let read = |json: &str| -> pb::ExecutorInfo {
            crate::http::transcode::from_json(json.as_bytes()).unwrap()
        };
        let one = read(
            r#"{"executor_id":{"value":"x"},"command":{"value":"a",
                "uris":[{"value":"http://a"},{"value":"http://b"}],
                "environment":{"variables":[{"name":"A","value":"1"},{"name":"B","value":"2"}]}},
                "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},
                    {"name":"mem","type":"SCALAR","scalar":{"value":32}}]}"#,
        );
        let other = read(
            r#"{"executor_id":{"value":"x"},"framework_id":{"value":"f"},"command":{"value":"a",
                "uris":[{"value":"http://b"},{"value":"http://a"}],
                "environment":{"variables":[{"name":"B","value":"2"},{"name":"A","value":"1"}]}},
                "resources":[{"name":"mem","type":"SCALAR","scalar":{"value":32},
                    "allocation_info":{"role":"r"}},
                    {"name":"cpus","type":"SCALAR","scalar":{"value":1}}]}"#,
        );
        assert_eq!(executor_body(&one), executor_body(&other));
        let mut changed = other;
        changed.resources[0].scalar = Some(pb::value::Scalar { value: 64.0 });
        assert_ne!(executor_body(&one), executor_body(&changed));
    }

    #[test]
    fn a_command_is_named_as_mesos_names_it() {
        let line =
            |value: &str| pb::CommandInfo { value: Some(value.into()), ..Default::default() };
        let name = command_name("long", &line("sleep 1000"));
        assert_eq!(name, "Command Executor (Task: long) (Command: sh -c 'sleep 1000')");
        let name = command_name("short", &line("echo hello; exit 1"));
        assert_eq!(name, "Command Executor (Task: short) (Command: sh -c 'echo hello; ...')");
        let arguments = vec!["ls".to_owned(), "-l".to_owned()];
        let command = pb::CommandInfo { shell: Some(false), arguments, ..line("/bin/ls") };
        let name = command_name("t", &command);
        assert_eq!(name, "Command Executor (Task: t) (Command: [/bin/ls, ls, -l])");
    }
}
