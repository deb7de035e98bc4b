//! From a task to a container that runs: user, sandbox, volumes, URIs, image, container.

use std::rc::Rc;

use http_body_util::BodyExt;
use hyper::Method;
use mesita_core::wire::ContainerId;
use mesita_core::wire::Seq;
use mesita_core::wire::resource::{Resource, Value as Amount};
use mesita_isolation::isolators::{Cap, Io, TaskLimits};
use mesita_isolation::keeper::protocol::User;
use mesita_isolation::sys::Linux;
use mesita_isolation::{machine, sandbox};
use prost::Message;

use super::Docker;
use super::engine::{Trouble, quoted};
use super::{AGENT_LABEL, CONTAINER_LABEL};
use crate::agent::AgentNode;
use crate::agent::build::{Names, Plan, names, of_executor, resolved};
use crate::agent::containers::Container;
use crate::agent::devices::nodes_of;
use crate::agent::fetch::Job;
use crate::alarm;
use crate::command::Command;
use crate::pb::mesita::TaskPrivate;
use crate::pb::mesos::v1 as pb;
use crate::v1::docker::{Facts, Room, SANDBOX, create, endpoint, update};

/// Bytes of a line that the engine says while it pulls.
const LINE_MAX: usize = 64 * 1024;

/// What a task asks the engine for.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Asked {
    pub(in crate::agent) container: pb::ContainerInfo,
    /// Ports of the machine that it holds, as ranges.
    pub(in crate::agent) ports: Vec<(u64, u64)>,
}

impl Asked {
    /// What a task asks for that holds these resources; none if it is not for an engine.
    pub(in crate::agent) fn of(
        container: Option<pb::ContainerInfo>,
        resources: &Seq<'_, Resource<'_>>,
    ) -> Option<Box<Self>> {
        let container = container.filter(crate::v1::docker::is_docker)?;
        let ports = resources.iter().filter(|one| one.name == "ports");
        let ports = ports.flat_map(|one| match one.value {
            Amount::Ranges(ranges) => ranges.iter().map(|span| (span.begin, span.end)).collect(),
            Amount::Scalar(_) | Amount::Set(_) => Vec::new(),
        });
        Some(Box::new(Self { container, ports: ports.collect() }))
    }
}

/// A task whose user is known, and whose sandbox is there.
struct Ready {
    command: Command,
    user: Option<User>,
    facts: Facts,
}

/// All that blocks.
fn ready(
    plan: &Plan,
    work_dir: &std::path::Path,
    switch_user: bool,
    name: &str,
    token: [u8; 16],
) -> Result<Ready, String> {
    let command = if plan.is_executor() {
        pb::ExecutorInfo::decode(&*plan.private).unwrap_or_default().command
    } else {
        TaskPrivate::decode(&*plan.private).unwrap_or_default().command
    };
    let command = Command::for_engine(&command.unwrap_or_default());
    let command = command.map_err(|bad| bad.to_string())?;
    let user = resolved(&plan.of.user, switch_user)?;
    let directory = sandbox::create(work_dir, plan.at, user.as_ref());
    let directory = directory.map_err(|error| error.to_string())?;
    let volumes = plan.placed_volumes().into_iter();
    let volumes = volumes.map(|volume| volume.bound(work_dir, user.as_ref()));
    let volumes = volumes.collect::<Result<Vec<_>, String>>()?;
    let devices = nodes_of(&plan.devices)?.into_iter();
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let devices = devices.map(|node| (text(&node.path), text(&node.named))).collect();
    // Of root, or of the agent's own user who may use the engine: both are the machine's masters.
    let other = user.as_ref().filter(|user| user.uid != 0).map(|user| (user.uid, user.gid));
    let mut variables = variables(&plan.of, name, &directory);
    if let Some(asked) = plan.docker.as_ref().filter(|_| plan.is_executor()) {
        let endpoint = endpoint(&asked.container, &plan.address)?;
        variables.extend(of_executor(endpoint, plan.grace_us(), token));
    }
    let facts = Facts {
        variables,
        sandbox: directory.to_string_lossy().into_owned(),
        volumes,
        devices,
        user: other,
        ..Facts::default()
    };
    Ok(Ready { command, user, facts })
}

/// What the environment of a container says of it. Its program is looked for where its image says.
fn variables(
    of: &Names,
    name: &str,
    directory: &std::path::Path,
) -> std::collections::BTreeMap<String, String> {
    let mut variables = names(of, directory);
    variables.remove("PATH");
    variables.insert("MESOS_SANDBOX".to_owned(), SANDBOX.to_owned());
    variables.insert("MESOS_CONTAINER_NAME".to_owned(), name.to_owned());
    variables
}

/// What flags and the machine say of what every container may use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rooms {
    /// Processes and threads.
    pub(crate) pids: u32,
    /// It has no more CPU time than it asked for.
    pub(crate) capped: bool,
    /// Bytes of memory of the machine.
    pub(crate) total: u64,
    /// What it may read from each disk, and write to it.
    pub(crate) io: Io,
}

/// The least and the most that the engine takes as a weight of disks.
const DISK_WEIGHT: (u64, u64) = (10, 1000);

/// What a container may use.
pub(super) fn room(limits: &TaskLimits, rooms: &Rooms) -> Room {
    let Rooms { pids, capped, total, io } = *rooms;
    let limited = io.read_bytes.or(io.write_bytes).is_some();
    let most = |limit: Option<Cap>, asked: u64| match limit {
        None => Some(asked),
        Some(Cap::At(limit)) => Some(limit.max(asked)),
        Some(Cap::Unlimited) => None,
    };
    let mem_bytes_max = most(limits.mem_limit, limits.mem_bytes);
    let capped = capped || limits.cpus_limit.is_some();
    Room {
        shares: limits.cpus_milli.saturating_mul(if limits.low_priority { 10 } else { 1024 })
            / 1000,
        cpus_milli_max: most(limits.cpus_limit, limits.cpus_milli).filter(|_| capped),
        mem_bytes: limits.mem_bytes,
        mem_bytes_max,
        // As `cgroups/blkio` has it.
        disk_weight: (limits.cpus_milli / 10).clamp(DISK_WEIGHT.0, DISK_WEIGHT.1),
        disk_read: io.read_bytes,
        disk_write: io.write_bytes,
        disks: if limited { nodes_of_disks() } else { Vec::new() },
        pids: limits.pids.unwrap_or(pids),
        badness: mesita_isolation::isolators::badness(limits.mem_bytes, total),
    }
}

fn nodes_of_disks() -> Vec<String> {
    let nodes = machine::disks(&Linux).into_iter().map(|disk| format!("/dev/{}", disk.name));
    nodes.filter(|node| std::path::Path::new(node).exists()).collect()
}

impl AgentNode {
    /// Starts the container of a task, and looks after it from then on; its process.
    pub(in crate::agent) async fn launch_docker(
        &self,
        id: ContainerId,
        container: &Rc<Container>,
        plan: Plan,
    ) -> Result<u32, String> {
        // The directories of volumes are as the core thinks they are.
        self.volumes.settled().await;
        let (work_dir, switch) = (self.work_dir.clone(), self.containers.switches_user());
        let (name, token) = (self.docker.name(id), self.containers.token(id));
        let own = name.clone();
        let isolation = self.containers.isolation();
        let begin = move || {
            let mut volumes = plan.placed_volumes().into_iter();
            volumes.try_for_each(|volume| volume.hold(&work_dir, &isolation))?;
            ready(&plan, &work_dir, switch, &own, token).map(|ready| (ready, plan))
        };
        let (mut ready, plan) = self.containers.by_hand(begin).await?;
        let attempt = plan.request.attempt;
        let Some(asked) = plan.docker else { return Err("no container is asked for".to_owned()) };
        let uris = std::mem::take(&mut ready.command.uris);
        if !uris.is_empty() {
            let sandbox = ready.facts.sandbox.clone().into();
            let job = Job { sandbox, user: (plan.of.user, ready.user), uris };
            self.fetch(container, job).await?;
        }
        let facts = Facts {
            room: room(&plan.limits, &self.options.docker_room),
            ports: asked.ports,
            labels: [(AGENT_LABEL, self.docker.agent.clone()), (CONTAINER_LABEL, id.to_string())]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            ..ready.facts
        };
        let wanted = create(&asked.container, &ready.command, facts)?;
        let info = asked.container.docker.unwrap_or_default();
        let begun = async {
            self.pull(&info.image, info.force_pull_image()).await?;
            self.may_begin(container, attempt).await?;
            self.docker.begin(&name, &wanted).await.map_err(|trouble| trouble.to_string())
        };
        let dropped = async {
            container.abandoned().await;
            Err("Killed before its container began".to_owned())
        };
        match futures_lite::future::or(begun, dropped).await {
            Ok((inspected, carried)) => {
                if let Some(of) = container.docker() {
                    of.learn(&inspected, carried);
                }
                let output = self.output_of(id).await;
                self.attend(id, container, output);
                Ok(inspected.pid)
            }
            Err(why) => {
                self.undo_docker(name);
                Err(why)
            }
        }
    }

    /// What the tasks of an executor hold is more, or less: so is what its container may use.
    pub(in crate::agent) async fn resize_docker(&self, id: ContainerId, limits: &TaskLimits) {
        let path = format!("/containers/{}/update", self.docker.name(id));
        let wanted = update(&room(limits, &self.options.docker_room));
        match self.docker.engine.call(Method::POST, &path, Some(&wanted)).await {
            // It ended meanwhile.
            Ok(_) | Err(Trouble::Refused(404 | 409, _)) => {}
            Err(trouble) => log::warn!("container {id}: what it may use is as before: {trouble}"),
        }
    }

    /// Has an image there. One that is there is not pulled, unless that is asked for; then what is
    /// there does, if it cannot be.
    async fn pull(&self, image: &str, force: bool) -> Result<(), String> {
        let path = format!("/images/{}/json", quoted(image));
        let there = match self.docker.engine.call(Method::GET, &path, None).await {
            Ok(_) => true,
            Err(trouble) if trouble.is_missing() => false,
            Err(trouble) => return Err(trouble.to_string()),
        };
        if there && !force {
            return Ok(());
        }
        let (timeout_us, stall_us) = (self.options.fetch.timeout_us, self.options.fetch.stall_us);
        let pulled = alarm::within(timeout_us, self.docker.pull(image, stall_us)).await;
        let late = || {
            Err(format!("it took longer than the {} ms of --fetcher-timeout", timeout_us / 1000))
        };
        match pulled.unwrap_or_else(late) {
            Ok(()) => Ok(()),
            Err(why) if there => {
                log::warn!("image {image} is used as it is here: it cannot be pulled: {why}");
                Ok(())
            }
            Err(why) => Err(format!("Failed to pull the image '{image}': {why}")),
        }
    }
}

impl Docker {
    /// Makes a container and starts it.
    async fn begin(
        &self,
        name: &str,
        wanted: &serde_json::Value,
    ) -> Result<(super::Inspected, pb::TaskStatus), Trouble> {
        let path = format!("/containers/create?name={name}");
        let made = self.engine.call(Method::POST, &path, Some(wanted)).await?;
        for warning in made["Warnings"].as_array().into_iter().flatten() {
            // That is said of every container where disks are not shared by weight, and no harm is done.
            let is_of_weight = warning.as_str().is_some_and(|text| text.contains("I/O weight"));
            let level = if is_of_weight { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "container {name}: the Docker engine says: {warning}");
        }
        self.engine.call(Method::POST, &format!("/containers/{name}/start"), None).await?;
        self.inspect(name).await
    }

    /// Pulls an image from its registry.
    async fn pull(&self, image: &str, stall_us: u64) -> Result<(), String> {
        let (from, tag) = reference(image);
        let path = format!("/images/create?fromImage={}&tag={}", quoted(from), quoted(tag));
        let late = || {
            format!(
                "the Docker engine says nothing for the {} ms of --fetcher-stall-timeout",
                stall_us / 1000
            )
        };
        let answer = alarm::within(stall_us, self.engine.stream(Method::POST, &path)).await;
        let mut answer = answer.ok_or_else(late)?.map_err(|trouble| trouble.to_string())?;
        let mut waits = Vec::new();
        while let Some(frame) = alarm::within(stall_us, answer.frame()).await.ok_or_else(late)? {
            let frame = frame.map_err(|error| error.to_string())?;
            waits.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
            while let Some(end) = waits.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waits.drain(..=end).collect();
                failure(&line)?;
            }
            waits.truncate(LINE_MAX);
        }
        failure(&waits)
    }
}

/// What went wrong, if a line says so.
fn failure(line: &[u8]) -> Result<(), String> {
    let said: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
    said["error"].as_str().map_or(Ok(()), |why| Err(why.to_owned()))
}

/// An image's name, and its tag or digest: without one it is the newest.
fn reference(image: &str) -> (&str, &str) {
    if let Some(parts) = image.split_once('@') {
        return parts;
    }
    match image.rsplit_once(':') {
        // What follows a colon with a slash in it is the port of a registry.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_one_tag() {
        assert_eq!(reference("alpine"), ("alpine", "latest"));
        assert_eq!(reference("alpine:3"), ("alpine", "3"));
        assert_eq!(reference("here:5000/a/b"), ("here:5000/a/b", "latest"));
        assert_eq!(reference("here:5000/a:1"), ("here:5000/a", "1"));
        assert_eq!(reference("a@sha256:12"), ("a", "sha256:12"));
        assert_eq!(failure(b"{\"error\": \"no such host\"}"), Err("no such host".to_owned()));
        assert_eq!(failure(b"{\"status\": \"Pulling\"}"), Ok(()));
    }

    #[test]
    fn what_may_be_used_is_what_was_asked_for_unless_there_is_a_limit() {
        let asked = TaskLimits { cpus_milli: 500, mem_bytes: 64 << 20, ..TaskLimits::default() };
        let rooms = |capped, total| Rooms { pids: 100, capped, total, ..Rooms::default() };
        let plain = room(&asked, &rooms(false, 1 << 30));
        assert_eq!((plain.shares, plain.cpus_milli_max, plain.badness), (512, None, 1000 - 62));
        assert_eq!(plain.mem_bytes_max, Some(64 << 20));
        assert_eq!(room(&asked, &rooms(true, 0)).cpus_milli_max, Some(500));
        let limits = TaskLimits {
            cpus_limit: Some(Cap::At(2000)),
            mem_limit: Some(Cap::Unlimited),
            ..asked
        };
        let more = room(&limits, &rooms(true, 1 << 30));
        assert_eq!((more.cpus_milli_max, more.mem_bytes_max), (Some(2000), None));
        assert_eq!(more.badness, plain.badness);
    }
}
