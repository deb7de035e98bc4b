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
    // As the file of either version of cgroups has it.
    let stat = |v1: &str, v2: &str| mem["stats"][v1].as_u64().or_else(|| mem["stats"][v2].as_u64());
    let rss = stat("total_rss", "anon").or_else(|| mem["stats"]["rss"].as_u64());
    let io = |list: &str, what: &str| {
        let rows = told["blkio_stats"][list].as_array()?;
        let own = rows
            .iter()
            .filter(|row| row["op"].as_str().is_some_and(|op| op.eq_ignore_ascii_case(what)));
        Some(own.filter_map(|row| row["value"].as_u64()).fold(0, u64::saturating_add))
    };
    let (bytes, counts) = ("io_service_bytes_recursive", "io_serviced_recursive");
    let net = |what: &str| {
        let all = told["networks"].as_object()?.values();
        Some(all.filter_map(|one| one[what].as_u64()).fold(0, u64::saturating_add))
    };
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
        file_bytes: stat("total_cache", "file"),
        mapped_bytes: stat("total_mapped_file", "file_mapped"),
        swap_bytes: stat("total_swap", "swap"),
        kernel_bytes: mem["stats"]["kernel"].as_u64(),
        socket_bytes: mem["stats"]["sock"].as_u64(),
        unevictable_bytes: stat("total_unevictable", "unevictable"),
        io_read_bytes: io(bytes, "read"),
        io_written_bytes: io(bytes, "write"),
        io_reads: io(counts, "read"),
        io_writes: io(counts, "write"),
        net_received_bytes: net("rx_bytes"),
        net_received: net("rx_packets"),
        net_unreceived: net("rx_dropped"),
        net_sent_bytes: net("tx_bytes"),
        net_sent: net("tx_packets"),
        net_unsent: net("tx_dropped"),
        // Where there is no limit, that is as many as there can be.
        pids_limit: told["pids_stats"]["limit"].as_u64().filter(|limit| *limit < 1 << 32),
        threads: told["pids_stats"]["current"].as_u64(),
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
    fn all_that_the_engine_counts_is_told() {
        let row = |op: &str, value: u64| json!({"major": 8, "minor": 0, "op": op, "value": value});
        let v1 = usage(&json!({
            "pids_stats": {"current": 3, "limit": 40},
            "blkio_stats": {
                "io_service_bytes_recursive": [row("Read", 1), row("Write", 2), row("Read", 4)],
                "io_serviced_recursive": [row("Read", 8), row("Write", 16)],
            },
            "memory_stats": {"stats": {"total_rss": 5, "rss": 4, "total_cache": 6, "total_swap": 7}},
            "networks": {
                "eth0": {"rx_bytes": 10, "rx_packets": 1, "rx_dropped": 2, "tx_bytes": 20},
                "eth1": {"rx_bytes": 30, "rx_packets": 1, "rx_dropped": 0, "tx_bytes": 40},
            },
        }));
        let io = [v1.io_read_bytes, v1.io_written_bytes, v1.io_reads, v1.io_writes];
        assert_eq!(io, [5, 2, 8, 16].map(Some));
        let net = [v1.net_received_bytes, v1.net_sent_bytes, v1.net_received, v1.net_unreceived];
        assert_eq!(net, [40, 60, 2, 2].map(Some));
        assert_eq!((v1.rss_bytes, v1.file_bytes, v1.swap_bytes), (Some(5), Some(6), Some(7)));
        assert_eq!((v1.threads, v1.pids_limit), (Some(3), Some(40)));
        let v2 = usage(&json!({
            "pids_stats": {"current": 3, "limit": u64::MAX},
            "blkio_stats": {
                "io_service_bytes_recursive": [row("read", 1)], "io_serviced_recursive": null,
            },
            "memory_stats": {"stats": {"anon": 5, "file": 6, "file_mapped": 1, "sock": 2}},
        }));
        assert_eq!((v2.io_read_bytes, v2.io_reads), (Some(1), None));
        assert_eq!((v2.rss_bytes, v2.file_bytes, v2.mapped_bytes), (Some(5), Some(6), Some(1)));
        assert_eq!((v2.socket_bytes, v2.net_sent, v2.pids_limit), (Some(2), None, None));
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
