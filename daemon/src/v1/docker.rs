//! Containers of a Docker engine: what a task asks for, and what the Engine API is told for it.
//!
//! Read the table of [`PARAMETERS`] before changing it: Mesos hands the parameters of a task to the
//! command line of Docker whatever they are; here each is known, and one that is not is refused by
//! name. What reaches beyond a container is for tasks of root. Mesos: `docker/docker.cpp`
//! (`Docker::RunOptions::create`), `slave/containerizer/docker.cpp`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::command::Command;
use crate::pb::mesos::v1 as pb;
use pb::container_info::docker_info::Network;

/// Where a container finds its sandbox. Mesos: `--sandbox_directory`.
pub(crate) const SANDBOX: &str = "/mnt/mesos/sandbox";
/// Labels that name whose a container is begin so.
pub(crate) const OWN_LABELS: &str = "mesita.";
/// µs of one period of a limit of CPU time. The engine's own default.
const PERIOD_US: u64 = 100_000;
/// The engine makes no container with less memory.
const MEM_MIN: u64 = 6 << 20;

/// What may be changed of a container that runs.
const UPDATED: [&str; 7] = [
    "CpuShares",
    "CpuPeriod",
    "CpuQuota",
    "Memory",
    "MemorySwap",
    "MemoryReservation",
    "BlkioWeight",
];

/// What a container may use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    /// Its weight against others, 1024 for each CPU.
    pub(crate) shares: u64,
    /// CPU time at most, in thousandths of a CPU; none = what others leave.
    pub(crate) cpus_milli_max: Option<u64>,
    /// Bytes that are kept for it.
    pub(crate) mem_bytes: u64,
    /// Bytes that it may have; none = no limit.
    pub(crate) mem_bytes_max: Option<u64>,
    /// Its weight where disks are shared by weight, 10 to 1000.
    pub(crate) disk_weight: u64,
    /// Bytes that it reads from each disk in a second, and that it writes to it; none = no limit.
    pub(crate) disk_read: Option<u64>,
    pub(crate) disk_write: Option<u64>,
    /// The nodes of the machine's disks.
    pub(crate) disks: Vec<String>,
    /// Processes and threads.
    pub(crate) pids: u32,
    /// Whom the kernel kills first, the larger the sooner.
    pub(crate) badness: i16,
}

/// What only the agent knows of a container.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) room: Room,
    /// Variables that every task has; its own count.
    pub(crate) variables: BTreeMap<String, String>,
    /// Its sandbox on this machine.
    pub(crate) sandbox: String,
    pub(crate) volumes: Vec<Bound>,
    /// Devices that it holds: the node, and the name that it finds it by.
    pub(crate) devices: Vec<(String, String)>,
    /// Whom it runs as; none = whom the image names, and it may ask for everything.
    pub(crate) user: Option<(u32, u32)>,
    /// Ports of the machine that it holds, as ranges.
    pub(crate) ports: Vec<(u64, u64)>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A persistent volume that it finds in its sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Its directory on this machine.
    pub(crate) from: String,
    /// Its name in the sandbox.
    pub(crate) name: String,
    /// It cannot write there.
    pub(crate) read_only: bool,
}

/// How Docker says that.
const fn mode(read_only: bool) -> &'static str {
    if read_only { "ro" } else { "rw" }
}

impl Facts {
    /// Nothing is known, and everything allowed: what a master looks at.
    fn any() -> Self {
        Self { ports: vec![(0, u64::MAX)], ..Self::default() }
    }
}

/// True for a container of a Docker engine.
pub(crate) fn is_docker(container: &pb::ContainerInfo) -> bool {
    container.r#type() == pb::container_info::Type::Docker
}

/// A container of an image that asks for nothing else.
pub(crate) fn of_image(image: &str) -> pb::ContainerInfo {
    let docker = pb::container_info::DockerInfo { image: image.to_owned(), ..Default::default() };
    let mut container = pb::ContainerInfo { docker: Some(docker), ..Default::default() };
    container.set_type(pb::container_info::Type::Docker);
    container
}

/// What is wrong with a task's container, in a sentence.
pub(crate) fn check(
    container: &pb::ContainerInfo,
    command: Option<&pb::CommandInfo>,
) -> Result<(), String> {
    let command = command.map_or(Ok(Command::default()), Command::for_engine);
    let command = command.map_err(|bad| bad.to_string())?;
    create(container, &command, Facts::any()).map(|_| ())
}

/// Why an executor in such a container could not speak with its agent, if so.
pub(crate) fn reaches_agent(container: &pb::ContainerInfo) -> Result<(), String> {
    match container.docker.as_ref().map(network) {
        Some(Network::None) => Err(
            "an executor without a network does not reach its agent: 'DockerInfo.network' NONE \
                 is for tasks"
                .to_owned(),
        ),
        Some(Network::Host | Network::Bridge | Network::User) | None => Ok(()),
    }
}

/// Where an executor in such a container reaches its agent, which listens at `address`.
pub(crate) fn endpoint(container: &pb::ContainerInfo, address: &str) -> Result<String, String> {
    let shares = container.docker.as_ref().map(network) == Some(Network::Host);
    let listens = address.parse::<std::net::SocketAddr>().ok().map(|at| at.ip());
    match listens {
        Some(ip) if !shares && (ip.is_loopback() || ip.is_unspecified()) => Err(format!(
            "the agent listens at {address}, by which an executor in another network than the host's \
             does not find it: give the agent an --ip that containers reach"
        )),
        _ => Ok(address.to_owned()),
    }
}

/// What the engine is told when a container may use more or less than before
/// (`POST /containers/NAME/update`).
pub(crate) fn update(room: &Room) -> Value {
    let mut made = Made::default();
    made.room(room);
    made.host.retain(|key, _| UPDATED.contains(&key.as_str()));
    Value::Object(made.host)
}

/// The network of a container.
pub(crate) fn network(info: &pb::container_info::DockerInfo) -> Network {
    info.network()
}

/// What the engine is told to make (`POST /containers/create`).
pub(crate) fn create(
    container: &pb::ContainerInfo,
    command: &Command,
    facts: Facts,
) -> Result<Value, String> {
    let info = container.docker.as_ref().ok_or("'ContainerInfo.docker' must be set")?;
    if info.image.is_empty() {
        return Err("'DockerInfo.image' must not be empty".to_owned());
    }
    nothing_else(container)?;
    let mut made = Made::default();
    made.put(In::Top, "Image", info.image.clone().into());
    if !command.program.is_empty() {
        made.put(In::Top, "Entrypoint", json!([command.program]));
    }
    if !command.arguments.is_empty() {
        made.put(In::Top, "Cmd", json!(command.arguments));
    }
    let mut variables = facts.variables.clone();
    variables.extend(command.variables.iter().cloned());
    for (name, value) in &variables {
        made.push(In::Top, "Env", format!("{name}={value}").into());
    }
    made.put(In::Top, "Labels", json!(facts.labels));
    made.networked(container, info, &facts.ports)?;
    made.room(&facts.room);
    made.bind(&facts.sandbox, SANDBOX, "rw");
    for Bound { from, name, read_only } in &facts.volumes {
        made.bind(from, &format!("{SANDBOX}/{name}"), mode(*read_only));
    }
    for (from, to) in &facts.devices {
        made.device(from, to, "rwm");
    }
    let mut powers = Vec::new();
    for volume in &container.volumes {
        made.volume(volume, info, &facts.sandbox)?;
        powers.push("a volume of the host or of Docker");
    }
    if info.privileged() {
        made.put(In::Host, "Privileged", true.into());
        powers.push("'privileged'");
    }
    for parameter in &info.parameters {
        if made.parameter(&parameter.key, &parameter.value)? {
            powers.push("a parameter that reaches beyond the container");
        }
    }
    if let Some((uid, gid)) = facts.user {
        if let Some(power) = powers.first() {
            return Err(format!("{power} is for tasks of root alone: let it run as `root`"));
        }
        made.put(In::Top, "User", format!("{uid}:{gid}").into());
        made.push(In::Host, "SecurityOpt", "no-new-privileges".into());
    }
    Ok(made.whole())
}

/// What a container of Mesos' own may ask for, and one of Docker's may not.
fn nothing_else(container: &pb::ContainerInfo) -> Result<(), String> {
    let others = [
        (container.mesos.is_some(), "'ContainerInfo.mesos'"),
        (container.linux_info.is_some(), "'ContainerInfo.linux_info'"),
        (container.rlimit_info.is_some(), "'ContainerInfo.rlimit_info'"),
        (container.tty_info.is_some(), "'ContainerInfo.tty_info'"),
    ];
    match others.into_iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(format!("{what} is not for a container of type DOCKER")),
        None => Ok(()),
    }
}

/// Where something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    /// Of the container itself.
    Top,
    /// Of what the machine gives it: `HostConfig`.
    Host,
}

/// How the value of a parameter is read.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Text,
    Flag,
    List,
    /// `NAME=VALUE`, or with another sign between the two, into an object.
    Pair(char),
    Bytes,
    /// One text that becomes a list.
    Only,
    Device,
    Ulimit,
}

/// Parameters of `docker run` that are known: their names, where they go, how they are read, and
/// whether they reach beyond the container.
const PARAMETERS: [(&[&str], In, &str, Shape, bool); 24] = [
    (&["env", "e"], In::Top, "Env", Shape::List, false),
    (&["label", "l"], In::Top, "Labels", Shape::Pair('='), false),
    (&["workdir", "w"], In::Top, "WorkingDir", Shape::Text, false),
    (&["hostname", "h"], In::Top, "Hostname", Shape::Text, false),
    (&["entrypoint"], In::Top, "Entrypoint", Shape::Only, false),
    (&["stop-signal"], In::Top, "StopSignal", Shape::Text, false),
    (&["read-only"], In::Host, "ReadonlyRootfs", Shape::Flag, false),
    (&["init"], In::Host, "Init", Shape::Flag, false),
    (&["dns"], In::Host, "Dns", Shape::List, false),
    (&["dns-search"], In::Host, "DnsSearch", Shape::List, false),
    (&["add-host"], In::Host, "ExtraHosts", Shape::List, false),
    (&["cap-drop"], In::Host, "CapDrop", Shape::List, false),
    (&["tmpfs"], In::Host, "Tmpfs", Shape::Pair(':'), false),
    (&["shm-size"], In::Host, "ShmSize", Shape::Bytes, false),
    (&["user", "u"], In::Top, "User", Shape::Text, true),
    (&["privileged"], In::Host, "Privileged", Shape::Flag, true),
    (&["cap-add"], In::Host, "CapAdd", Shape::List, true),
    (&["device"], In::Host, "Devices", Shape::Device, true),
    (&["security-opt"], In::Host, "SecurityOpt", Shape::List, true),
    (&["volume", "v"], In::Host, "Binds", Shape::List, true),
    (&["group-add"], In::Host, "GroupAdd", Shape::List, true),
    (&["ulimit"], In::Host, "Ulimits", Shape::Ulimit, true),
    (&["pid"], In::Host, "PidMode", Shape::Text, true),
    (&["ipc"], In::Host, "IpcMode", Shape::Text, true),
];

/// A container as it is put together.
#[derive(Debug, Default)]
struct Made {
    top: Map<String, Value>,
    host: Map<String, Value>,
}

impl Made {
    fn part(&mut self, part: In) -> &mut Map<String, Value> {
        match part {
            In::Top => &mut self.top,
            In::Host => &mut self.host,
        }
    }

    fn put(&mut self, part: In, key: &str, value: Value) {
        self.part(part).insert(key.to_owned(), value);
    }

    fn push(&mut self, part: In, key: &str, value: Value) {
        let list = self.part(part).entry(key).or_insert_with(|| json!([]));
        list.as_array_mut().into_iter().for_each(|list| list.push(value.clone()));
    }

    fn bind(&mut self, from: &str, to: &str, mode: &str) {
        self.push(In::Host, "Binds", format!("{from}:{to}:{mode}").into());
    }

    fn device(&mut self, from: &str, to: &str, how: &str) {
        let device = json!({"PathOnHost": from, "PathInContainer": to, "CgroupPermissions": how});
        self.push(In::Host, "Devices", device);
    }

    fn whole(mut self) -> Value {
        self.top.insert("HostConfig".to_owned(), Value::Object(self.host));
        Value::Object(self.top)
    }

    fn networked(
        &mut self,
        container: &pb::ContainerInfo,
        info: &pb::container_info::DockerInfo,
        held: &[(u64, u64)],
    ) -> Result<(), String> {
        let network = network(info);
        let mode = match network {
            Network::Host => "host",
            Network::Bridge => "bridge",
            Network::None => "none",
            Network::User => named_network(container)?,
        };
        self.put(In::Host, "NetworkMode", mode.into());
        if !info.port_mappings.is_empty() && matches!(network, Network::Host | Network::None) {
            let why = "Port mappings are only supported for bridge and user-defined networks";
            return Err(why.to_owned());
        }
        for mapping in &info.port_mappings {
            self.map_port(mapping, held)?;
        }
        if let Some(hostname) = &container.hostname {
            if network == Network::Host {
                return Err("Unable to set hostname with host network mode".to_owned());
            }
            self.put(In::Top, "Hostname", hostname.clone().into());
        }
        Ok(())
    }

    fn map_port(
        &mut self,
        mapping: &pb::container_info::docker_info::PortMapping,
        held: &[(u64, u64)],
    ) -> Result<(), String> {
        let protocol = mapping.protocol.as_deref().unwrap_or("tcp").to_ascii_lowercase();
        if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
            return Err(format!("a port mapping has the protocol `{protocol}`"));
        }
        let (host, inside) = (mapping.host_port, mapping.container_port);
        if inside == 0 || inside > 65_535 || host > 65_535 {
            return Err(format!("a port mapping from {host} to {inside} is outside of 1..65535"));
        }
        let host_wide = u64::from(host);
        if !held.iter().any(|(from, to)| (*from..=*to).contains(&host_wide)) {
            return Err(format!("Port mapping [{host}] not included in resources"));
        }
        let key = format!("{inside}/{protocol}");
        let exposed = self.top.entry("ExposedPorts").or_insert_with(|| json!({}));
        exposed[&key] = json!({});
        let bindings = self.host.entry("PortBindings").or_insert_with(|| json!({}));
        let one = json!({ "HostPort": host.to_string() });
        match bindings[&key].as_array_mut() {
            Some(list) => list.push(one),
            None => bindings[&key] = json!([one]),
        }
        Ok(())
    }

    fn room(&mut self, room: &Room) {
        let host = [
            ("CpuShares", room.shares.max(2).into()),
            ("PidsLimit", if room.pids == 0 { Value::Null } else { room.pids.into() }),
            ("OomScoreAdj", room.badness.into()),
            // What it wrote is taken over as it comes; so much waits for whoever was away.
            ("LogConfig", log_config()),
        ];
        for (key, value) in host {
            self.put(In::Host, key, value);
        }
        if let Some(milli) = room.cpus_milli_max {
            self.put(In::Host, "CpuPeriod", PERIOD_US.into());
            self.put(In::Host, "CpuQuota", (milli.max(10) * (PERIOD_US / 1000)).into());
        }
        if room.disk_weight > 0 {
            self.put(In::Host, "BlkioWeight", room.disk_weight.into());
        }
        for (key, rate) in
            [("BlkioDeviceReadBps", room.disk_read), ("BlkioDeviceWriteBps", room.disk_write)]
        {
            let of = |disk: &String| json!({"Path": disk, "Rate": rate});
            let all: Vec<Value> = rate.iter().flat_map(|_| room.disks.iter().map(of)).collect();
            if !all.is_empty() {
                self.put(In::Host, key, Value::Array(all));
            }
        }
        let kept = room.mem_bytes.max(MEM_MIN);
        if let Some(most) = room.mem_bytes_max {
            let most = most.max(kept);
            // No swap beside it.
            self.put(In::Host, "Memory", most.into());
            self.put(In::Host, "MemorySwap", most.into());
        }
        if room.mem_bytes_max.is_none_or(|most| most > kept) {
            self.put(In::Host, "MemoryReservation", kept.into());
        }
    }

    /// A volume beside the sandbox.
    fn volume(
        &mut self,
        volume: &pb::Volume,
        info: &pb::container_info::DockerInfo,
        sandbox: &str,
    ) -> Result<(), String> {
        #[allow(deprecated)] // Old clients name the driver there.
        let driver = info.volume_driver.as_deref();
        let to = &volume.container_path;
        let to = if to.starts_with('/') { to.clone() } else { format!("{SANDBOX}/{to}") };
        let read_only = volume.mode() == pb::volume::Mode::Ro;
        let mode = mode(read_only);
        match (&volume.host_path, &volume.source, &volume.image) {
            (Some(path), None, None) if path.starts_with('/') => self.bind(path, &to, mode),
            (Some(path), None, None) if driver.is_none() => {
                if path.split('/').any(|part| part == "..") {
                    return Err(format!("the volume `{path}` leads out of the sandbox"));
                }
                self.bind(&format!("{sandbox}/{path}"), &to, mode);
            }
            (Some(name), None, None) => self.mount(name, driver, Vec::new(), &to, read_only),
            (None, Some(source), None) => {
                let volume = source.docker_volume.as_ref().ok_or(
                    "a volume of a container of type DOCKER has a host_path or a docker_volume",
                )?;
                let options = volume.driver_options.iter().flat_map(|all| &all.parameter);
                let options = options.map(|one| (one.key.clone(), one.value.clone())).collect();
                let driver = volume.driver.as_deref();
                self.mount(&volume.name, driver, options, &to, read_only);
            }
            _ => {
                let why =
                    "a volume of a container of type DOCKER has either a host_path or a source";
                return Err(why.to_owned());
            }
        }
        Ok(())
    }

    fn mount(
        &mut self,
        name: &str,
        driver: Option<&str>,
        options: Vec<(String, String)>,
        to: &str,
        read_only: bool,
    ) {
        let options: BTreeMap<String, String> = options.into_iter().collect();
        let mut mount =
            json!({"Type": "volume", "Source": name, "Target": to, "ReadOnly": read_only});
        if let Some(driver) = driver {
            mount["VolumeOptions"] = json!({"DriverConfig": {"Name": driver, "Options": options}});
        }
        self.push(In::Host, "Mounts", mount);
    }

    /// A parameter of `docker run`; true when it reaches beyond the container.
    fn parameter(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let name = key.trim_start_matches('-');
        let known = PARAMETERS.iter().find(|(names, ..)| names.contains(&name));
        let Some(&(_, part, key, shape, reaches)) = known else {
            return Err(format!("the Docker parameter `{name}` is not supported"));
        };
        let bad = |what: &str| format!("the Docker parameter `{name}`: expected {what}");
        match shape {
            Shape::Text => self.put(part, key, value.into()),
            Shape::Only => self.put(part, key, json!([value])),
            Shape::List => self.push(part, key, value.into()),
            Shape::Flag => {
                let flag = if value.is_empty() { Ok(true) } else { value.parse() };
                self.put(part, key, flag.map_err(|_| bad("true or false"))?.into());
            }
            Shape::Bytes => {
                self.put(part, key, bytes(value).ok_or_else(|| bad("bytes, such as 64m"))?.into());
            }
            Shape::Pair(sign) => {
                let (left, right) = value.split_once(sign).unwrap_or((value, ""));
                if key == "Labels" && left.starts_with(OWN_LABELS) {
                    return Err(format!(
                        "labels that begin with `{OWN_LABELS}` are the agent's own"
                    ));
                }
                self.part(part).entry(key).or_insert_with(|| json!({}))[left] = right.into();
            }
            Shape::Device => {
                let mut parts = value.split(':');
                let from = parts.next().unwrap_or_default();
                let to = parts.next().unwrap_or(from);
                let how = parts.next().unwrap_or("rwm");
                self.device(from, to, how);
            }
            Shape::Ulimit => {
                let what = || bad("NAME=SOFT or NAME=SOFT:HARD");
                let (limit, amounts) = value.split_once('=').ok_or_else(what)?;
                let (soft, hard) = amounts.split_once(':').unwrap_or((amounts, amounts));
                let number = |text: &str| text.parse::<i64>().map_err(|_| what());
                let one = json!({"Name": limit, "Soft": number(soft)?, "Hard": number(hard)?});
                self.push(part, key, one);
            }
        }
        Ok(reaches)
    }
}

fn log_config() -> Value {
    json!({"Type": "json-file", "Config": {"max-size": "8m", "max-file": "2"}})
}

/// What stands for something else than a network that somebody has made.
const OTHER_NETWORKS: [&str; 4] = ["host", "none", "bridge", "default"];

/// The network that `network_infos` names.
fn named_network(container: &pb::ContainerInfo) -> Result<&str, String> {
    match &container.network_infos[..] {
        [one] if one.name.as_deref().is_some_and(|name| !name.is_empty()) => {
            let name = one.name.as_deref().unwrap_or_default();
            // The engine takes these for no network's name: that of another container, or the host's.
            if OTHER_NETWORKS.contains(&name) || name.contains(':') {
                return Err(format!("`{name:.200}` is no network that a user has made"));
            }
            if !one.ip_addresses.is_empty() || !one.groups.is_empty() {
                let what = "'ip_addresses' and 'groups' of a container of type DOCKER";
                return Err(format!("{what} are not supported: the engine gives it its address"));
            }
            Ok(name)
        }
        [] | [_] => Err("No network info found in container info".to_owned()),
        _ => Err("Only a single network can be defined in Docker run".to_owned()),
    }
}

/// Bytes as `docker run` takes them: a number, and b, k, m or g.
fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix('b').filter(|text| !text.is_empty()).unwrap_or(&text);
    let (number, shift) = match text.strip_suffix(['k', 'm', 'g']) {
        Some(number) if text.ends_with('k') => (number, 10),
        Some(number) if text.ends_with('m') => (number, 20),
        Some(number) => (number, 30),
        None => (text, 0),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(info: pb::container_info::DockerInfo) -> pb::ContainerInfo {
        let docker = Some(pb::container_info::DockerInfo { image: "bb:1".into(), ..info });
        let mut container = pb::ContainerInfo { docker, ..Default::default() };
        container.set_type(pb::container_info::Type::Docker);
        container
    }

    fn with(key: &str, value: &str) -> pb::ContainerInfo {
        let one = pb::Parameter { key: key.into(), value: value.into() };
        container(pb::container_info::DockerInfo { parameters: vec![one], ..Default::default() })
    }

    fn made(container: &pb::ContainerInfo) -> Result<Value, String> {
        create(container, &Command::default(), Facts::any())
    }

    fn for_a_user(container: &pb::ContainerInfo) -> Result<Value, String> {
        create(container, &Command::default(), Facts { user: Some((7, 8)), ..Facts::any() })
    }

    #[test]
    fn a_network_is_one_that_somebody_has_made() {
        let on = |network: pb::NetworkInfo| {
            let mut info = pb::container_info::DockerInfo::default();
            info.set_network(Network::User);
            made(&pb::ContainerInfo { network_infos: vec![network], ..container(info) })
        };
        let named = |name: &str| pb::NetworkInfo { name: Some(name.into()), ..Default::default() };
        assert_eq!(on(named("shop")).unwrap()["HostConfig"]["NetworkMode"], "shop");
        for name in ["container:mesita-1.1-3", "host", "none", "bridge", "default", "ns:/x"] {
            assert!(on(named(name)).unwrap_err().contains("is no network"), "{name}");
        }
        let placed = pb::network_info::IpAddress::default();
        let refused = on(pb::NetworkInfo { ip_addresses: vec![placed], ..named("shop") });
        assert!(refused.unwrap_err().contains("'ip_addresses'"));
    }

    #[test]
    fn a_parameter_that_is_not_known_is_refused_by_name() {
        let refused = made(&with("gpus", "all")).unwrap_err();
        assert_eq!(refused, "the Docker parameter `gpus` is not supported");
        assert_eq!(made(&with("workdir", "/x")).unwrap()["WorkingDir"], "/x");
        assert_eq!(made(&with("--shm-size", "2m")).unwrap()["HostConfig"]["ShmSize"], 2 << 20);
        assert!(made(&with("shm-size", "much")).is_err());
        assert!(made(&with("label", "mesita.agent=x")).is_err());
        let limit = &made(&with("ulimit", "nofile=64:128")).unwrap()["HostConfig"]["Ulimits"][0];
        assert_eq!(*limit, json!({"Name": "nofile", "Soft": 64, "Hard": 128}));
    }

    #[test]
    fn what_reaches_beyond_a_container_is_for_tasks_of_root() {
        let powerful = [
            with("cap-add", "SYS_ADMIN"),
            with("volume", "/:/host"),
            with("user", "root"),
            container(pb::container_info::DockerInfo {
                privileged: Some(true),
                ..Default::default()
            }),
            pb::ContainerInfo {
                volumes: vec![pb::Volume {
                    host_path: Some("/".into()),
                    container_path: "/host".into(),
                    ..Default::default()
                }],
                ..container(Default::default())
            },
        ];
        for one in &powerful {
            made(one).unwrap();
            assert!(for_a_user(one).unwrap_err().contains("for tasks of root"), "{one:?}");
        }
        let plain = for_a_user(&with("env", "A=b")).unwrap();
        assert_eq!(plain["User"], "7:8");
        assert_eq!(plain["HostConfig"]["SecurityOpt"], json!(["no-new-privileges"]));
    }

    #[test]
    fn ports_are_mapped_that_are_held_and_only_where_there_is_something_to_map() {
        let mapping = pb::container_info::docker_info::PortMapping {
            host_port: 31_000,
            container_port: 80,
            protocol: None,
        };
        let mut one = container(pb::container_info::DockerInfo {
            port_mappings: vec![mapping],
            ..Default::default()
        });
        assert!(made(&one).unwrap_err().contains("only supported for bridge"));
        let docker = one.docker.as_mut().unwrap();
        docker.set_network(Network::Bridge);
        let told = made(&one).unwrap();
        assert_eq!(told["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], "31000");
        let facts = Facts { ports: vec![(31_001, 32_000)], ..Facts::default() };
        let refused = create(&one, &Command::default(), facts).unwrap_err();
        assert_eq!(refused, "Port mapping [31000] not included in resources");
    }

    #[test]
    fn a_limit_above_the_request_keeps_the_request() {
        let told = |most| {
            let mem_bytes = 32 << 20;
            let room = Room { mem_bytes, mem_bytes_max: most, ..Room::default() };
            let mut made = Made::default();
            made.room(&room);
            made.host
        };
        assert!(!told(Some(32 << 20)).contains_key("MemoryReservation"));
        assert_eq!(told(Some(64 << 20))["MemoryReservation"], 32 << 20);
        assert!(!told(None).contains_key("Memory"));
    }

    #[test]
    fn disks_are_shared_by_weight_and_limited_where_that_is_asked_for() {
        let told = |disk_weight, disk_read| {
            let disks = vec!["/dev/a".to_owned(), "/dev/b".to_owned()];
            let room = Room { disk_weight, disk_read, disks, ..Room::default() };
            let mut made = Made::default();
            made.room(&room);
            made.host
        };
        let limited = told(50, Some(1000));
        let both = json!([{"Path": "/dev/a", "Rate": 1000}, {"Path": "/dev/b", "Rate": 1000}]);
        assert_eq!((&limited["BlkioWeight"], &limited["BlkioDeviceReadBps"]), (&json!(50), &both));
        assert!(!limited.contains_key("BlkioDeviceWriteBps"));
        assert!(!told(50, None).contains_key("BlkioDeviceReadBps"));
    }

    #[test]
    fn an_executor_is_told_of_an_agent_that_it_reaches() {
        let in_network = |network: Network| {
            let mut info = pb::container_info::DockerInfo::default();
            info.set_network(network);
            container(info)
        };
        let (host, bridge) = (in_network(Network::Host), in_network(Network::Bridge));
        let loopback = "127.0.0.1:5051";
        assert_eq!(endpoint(&host, loopback).unwrap(), loopback);
        for nowhere in [loopback, "0.0.0.0:5051"] {
            assert!(endpoint(&bridge, nowhere).unwrap_err().contains("--ip"));
        }
        assert_eq!(endpoint(&bridge, "10.0.0.1:5051").unwrap(), "10.0.0.1:5051");
        assert!(reaches_agent(&in_network(Network::None)).is_err());
    }

    #[test]
    fn what_is_updated_of_a_container_is_what_it_may_use() {
        let room = Room {
            shares: 2048,
            mem_bytes: 32 << 20,
            mem_bytes_max: Some(32 << 20),
            ..Room::default()
        };
        let bytes = 32 << 20;
        let expected = json!({"CpuShares": 2048, "Memory": bytes, "MemorySwap": bytes});
        assert_eq!(update(&room), expected);
    }

    #[test]
    fn a_persistent_volume_is_mounted_as_its_holder_uses_it() {
        let bound = |name: &str, read_only| Bound {
            from: format!("/w/{name}"),
            name: name.into(),
            read_only,
        };
        let volumes = vec![bound("a", true), bound("b", false)];
        let facts = Facts { volumes, sandbox: "/s".into(), ..Facts::default() };
        let told = create(&container(Default::default()), &Command::default(), facts).unwrap();
        let expected = [
            "/s:/mnt/mesos/sandbox:rw",
            "/w/a:/mnt/mesos/sandbox/a:ro",
            "/w/b:/mnt/mesos/sandbox/b:rw",
        ];
        assert_eq!(told["HostConfig"]["Binds"], json!(expected));
    }

    #[test]
    fn a_volume_stays_in_the_sandbox_unless_it_is_absolute() {
        let at = |path: &str| {
            let volume = pb::Volume {
                host_path: Some(path.into()),
                container_path: "data".into(),
                ..Default::default()
            };
            let container =
                pb::ContainerInfo { volumes: vec![volume], ..container(Default::default()) };
            let facts = Facts { sandbox: "/s".into(), ..Facts::any() };
            create(&container, &Command::default(), facts)
                .map(|told| told["HostConfig"]["Binds"][1].clone())
        };
        assert_eq!(at("sub").unwrap(), "/s/sub:/mnt/mesos/sandbox/data:rw");
        assert_eq!(at("/srv").unwrap(), "/srv:/mnt/mesos/sandbox/data:rw");
        assert!(at("../x").is_err());
    }
}
