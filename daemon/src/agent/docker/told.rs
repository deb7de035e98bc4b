//! What an engine says of a container, as Mesos tells it: in `data`, labels and `container_status` of
//! a status, and as statistics. Mesos: `docker/executor.cpp`, `Docker::Container::create`.

use mesita_core::wire::task::{Exit, Reason};
use mesita_isolation::isolators::Usage;
use serde_json::Value;

use crate::agent::limited::Limited;
use crate::pb::mesos::v1 as pb;

/// The label that Mesos tells the address of a container by.
const ADDRESS_LABEL: &str = "Docker.NetworkSettings.IPAddress";

/// How a container is (`GET /containers/NAME/json`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inspected {
    pub(super) runs: bool,
    /// It was made, and never began.
    pub(super) created: bool,
    /// 0 = none.
    pub(super) pid: u32,
    exit: u8,
    killed_for_memory: bool,
    /// What it may take, in bytes; 0 = as much as there is.
    memory: u64,
    /// What its image wants to be asked to end by.
    pub(super) stop_signal: String,
    /// The network that it is in, with its addresses there.
    network: String,
    pub(super) addresses: Vec<String>,
}

impl Inspected {
    pub(super) fn of(told: &Value) -> Self {
        let state = &told["State"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let networks = told["NetworkSettings"]["Networks"].as_object();
        let address = |one: &Value| {
            let both = ["IPAddress", "GlobalIPv6Address"].map(|key| text(&one[key]));
            both.into_iter().filter(|address| !address.is_empty()).collect::<Vec<_>>()
        };
        let mut networks = networks.into_iter().flatten();
        let (network, addresses) =
            networks.next().map(|(name, one)| (name.clone(), address(one))).unwrap_or_default();
        Self {
            runs: state["Running"].as_bool().unwrap_or(false),
            created: state["Status"] == "created",
            pid: state["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
            exit: state["ExitCode"].as_u64().map_or(0, |code| (code & 0xff) as u8),
            killed_for_memory: state["OOMKilled"].as_bool().unwrap_or(false),
            memory: told["HostConfig"]["Memory"].as_u64().unwrap_or(0),
            stop_signal: text(&told["Config"]["StopSignal"]),
            network,
            addresses,
        }
    }

    /// How it ended, and the limit that it ended for.
    pub(super) fn end(&self) -> (Exit, Option<Limited>) {
        let limited = self.killed_for_memory && self.exit != 0;
        let limit = limited.then(|| {
            let why =
                "Memory limit exceeded: the Docker engine says that the kernel killed it for that";
            let reason = Reason::ContainerLimitationMemory;
            // How much it took nobody knows any more.
            Limited { reason, message: why.to_owned(), bytes: self.memory }
        });
        (Exit::Code(self.exit), limit)
    }

    /// What the updates of its task carry.
    pub(super) fn carried(&self, told: &Value) -> pb::TaskStatus {
        let address = |ip: &String| pb::network_info::IpAddress {
            // IPv4 and IPv6.
            protocol: Some(if ip.contains(':') { 2 } else { 1 }),
            ip_address: Some(ip.clone()),
        };
        let ip_addresses: Vec<_> = self.addresses.iter().map(address).collect();
        let network = (!ip_addresses.is_empty()).then(|| pb::NetworkInfo {
            name: Some(self.network.clone()),
            ip_addresses,
            ..Default::default()
        });
        let labels = self.addresses.first().map(|ip| pb::Labels {
            labels: vec![pb::Label { key: ADDRESS_LABEL.to_owned(), value: Some(ip.clone()) }],
        });
        pb::TaskStatus {
            // As `docker inspect` prints it.
            data: Some(format!("[{told}]").into_bytes()),
            labels,
            container_status: Some(pb::ContainerStatus {
                network_infos: network.into_iter().collect(),
                executor_pid: (self.pid != 0).then_some(self.pid),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

/// What a container uses (`GET /containers/NAME/stats`).
pub(super) fn usage(told: &Value) -> Usage {
    let (cpu, mem) = (&told["cpu_stats"], &told["memory_stats"]);
    let us = |value: &Value| value.as_u64().map(|ns| ns / 1000);
    let used = &cpu["cpu_usage"];
    let rss = mem["stats"]["rss"].as_u64().or_else(|| mem["stats"]["anon"].as_u64());
    Usage {
        user_us: us(&used["usage_in_usermode"]),
        system_us: us(&used["usage_in_kernelmode"]),
        periods: cpu["throttling_data"]["periods"].as_u64(),
        throttled_periods: cpu["throttling_data"]["throttled_periods"].as_u64(),
        throttled_us: us(&cpu["throttling_data"]["throttled_time"]),
        rss_bytes: rss,
        mem_bytes: mem["usage"].as_u64(),
        mem_limit_bytes: mem["limit"].as_u64(),
        mem_peak_bytes: mem["max_usage"].as_u64(),
        pids: told["pids_stats"]["current"].as_u64(),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inspected(state: &Value) -> Inspected {
        Inspected::of(&json!({
            "State": state,
            "Config": {"StopSignal": "SIGINT"},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
        }))
    }

    #[test]
    fn an_end_has_its_status_and_its_limit() {
        let ended = |code: u8, killed: bool| {
            inspected(&json!({"Status": "exited", "ExitCode": code, "OOMKilled": killed})).end()
        };
        assert_eq!(ended(3, false), (Exit::Code(3), None));
        assert_eq!(ended(137, true).1.unwrap().reason, Reason::ContainerLimitationMemory);
        assert_eq!(ended(0, true), (Exit::Code(0), None), "what it lost it did not need");
    }

    #[test]
    fn a_status_tells_what_docker_tells() {
        let told = json!({"State": {"Running": true, "Pid": 7}});
        let one = inspected(&told["State"]);
        assert!(one.runs && !one.created);
        let carried = one.carried(&told);
        assert_eq!(carried.data.as_deref(), Some(format!("[{told}]").as_bytes()));
        let labels = carried.labels.unwrap().labels;
        assert_eq!(
            (&*labels[0].key, labels[0].value.as_deref()),
            (ADDRESS_LABEL, Some("172.17.0.2"))
        );
        let status = carried.container_status.unwrap();
        assert_eq!(status.executor_pid, Some(7));
        assert_eq!(status.network_infos[0].name.as_deref(), Some("bridge"));
    }
}
