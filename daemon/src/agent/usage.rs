//! What containers use, as it is told: in Mesos' JSON (`Slave::_containers`), and in Prometheus' text.

use std::fmt::Write;
use std::rc::Rc;

use mesita_core::acls::Action;
use mesita_core::resources::Amount;
use mesita_core::wire::FrameworkId;
use mesita_isolation::cgroups::At;
use mesita_isolation::isolators::Usage;
use serde_json::{Map, Value, json};

use super::AgentNode;
use super::inner::Chain;
use super::operator::statistics;
use crate::doors::Caller;
use crate::encoded::Resources;
use crate::legacy;
use crate::pb::mesos::v1 as pb;
use crate::v1::amounts::seconds;
use crate::v1::events::framework_id;

/// A container that runs, with what it uses.
pub(super) struct Used {
    pub(super) framework: FrameworkId,
    /// Its executor; a command has one of its own name.
    pub(super) executor: String,
    pub(super) executor_name: String,
    pub(super) source: String,
    pub(super) chain: Chain,
    /// Its process, if that is known.
    pub(super) pid: Option<u32>,
    /// What it holds: an executor, with its tasks.
    pub(super) resources: Vec<Resources>,
    /// What it asked for beside that, of nobody's offer: thousandths of CPUs, and bytes of memory.
    pub(super) asked: (u64, u64),
    pub(super) usage: Usage,
}

/// Which containers are asked for beside those of tasks and executors.
#[derive(Clone, Copy, Default)]
pub(super) struct Also {
    /// Those inside of others.
    pub(super) nested: bool,
    /// Those that belong to nobody.
    pub(super) standalone: bool,
}

impl AgentNode {
    /// What runs, with what it uses; those inside of others only if they are asked for.
    pub(super) async fn used(self: &Rc<Self>, also: Also) -> Vec<Used> {
        let nested = also.nested;
        let tasks = self.tally.tasks().into_iter().filter(|row| !row.state.is_terminal());
        let own = tasks.filter(|row| row.executor.is_empty() || (nested && row.inside.is_some()));
        let own = own.map(|row| {
            let at = row.at();
            let info = if row.executor.is_empty() {
                self.command_executor(&row)
            } else {
                let executor_id = pb::ExecutorId { value: row.executor };
                pb::ExecutorInfo { executor_id, ..pb::ExecutorInfo::default() }
            };
            (row.framework, info, at, vec![row.resources])
        });
        let executors = self.tally.executors().into_iter().map(|row| {
            let held = self.tally.held_in(row.container);
            (row.framework, row.described(), At::from(row.container), held)
        });
        let mut used = Vec::new();
        for (framework, info, at, resources) in own.chain(executors) {
            let usage = self.usage_of(at).await;
            #[allow(deprecated)] // Old clients look at the source.
            let source = info.source.unwrap_or_default();
            let (executor, executor_name) = (info.executor_id.value, info.name.unwrap_or_default());
            let (chain, pid) = (at.into(), self.containers.pid(at.id));
            used.push(Used {
                framework,
                executor,
                executor_name,
                source,
                chain,
                pid,
                resources,
                asked: (0, 0),
                usage,
            });
        }
        used.extend(self.shown_inner(also).await);
        used
    }

    /// The same as JSON. For a caller it tells of the containers themselves, of those that it sees.
    pub(super) async fn container_list(
        self: &Rc<Self>,
        caller: Option<&Caller>,
        also: Also,
    ) -> Value {
        let mut rows = Vec::new();
        let cluster = self.cluster();
        for one in self.used(also).await {
            let framework = one.framework;
            if caller.is_some_and(|caller| !self.sees_container(framework, caller)) {
                continue;
            }
            let mut row = json!({
                "executor_id": one.executor,
                "executor_name": one.executor_name,
                "framework_id": framework_id(framework, cluster).value,
                "source": one.source,
                "statistics": legacy::message(&statistics(&one)),
            });
            if let Some(pressure) = pressure(&one.usage) {
                row["pressure"] = pressure;
            }
            if caller.is_some() {
                row["container_id"] = one.chain.name().into();
                row["status"] = json!({"container_id": one.chain.json()});
                if let Some(pid) = one.pid {
                    row["status"]["executor_pid"] = pid.into();
                }
            }
            if framework.is_none() {
                for name in ["executor_id", "executor_name", "framework_id", "source"] {
                    row.as_object_mut().and_then(|row| row.remove(name));
                }
            }
            rows.push(row);
        }
        Value::Array(rows)
    }

    /// The same in Prometheus' text form, of the containers that a caller sees. What those inside of
    /// others use counts as the others', so sums are right.
    pub(super) async fn container_metrics(self: &Rc<Self>, caller: &Caller) -> String {
        let mut used = self.used(Also { nested: false, standalone: true }).await;
        used.retain(|one| self.sees_container(one.framework, caller));
        let cluster = self.cluster();
        let labelled: Vec<_> = used
            .into_iter()
            .map(|one| {
                let framework = match one.framework.is_none() {
                    true => String::new(),
                    false => framework_id(one.framework, cluster).value,
                };
                (labels(one.chain.name(), &framework, &one.executor), one.usage)
            })
            .collect();
        series(&labelled)
    }

    /// True when a caller sees what runs for a framework, as containers.
    pub(super) fn sees_container(&self, framework: FrameworkId, caller: &Caller) -> bool {
        if framework.is_none() {
            return self.options.access.may(caller, Action::ViewStandaloneContainer, None);
        }
        let user = self.executors.user(framework);
        self.options.access.may(caller, Action::ViewContainer, Some(&user))
    }
}

/// How short a container has been of CPU time, memory and disks, where the kernel tells: µs, and the
/// part of the last ten seconds. Mesos has nothing like it.
fn pressure(usage: &Usage) -> Option<Value> {
    let of = |pressure: Option<mesita_isolation::cgroups::Pressure>| {
        pressure.map(|one| {
            let percent = f64::from(one.some_avg10) / 100.0;
            json!({"some_us": one.some_us, "full_us": one.full_us, "some_percent_10s": percent})
        })
    };
    let kinds =
        [("cpu", usage.cpu_pressure), ("mem", usage.mem_pressure), ("io", usage.io_pressure)];
    let told = kinds.into_iter().filter_map(|(kind, one)| Some((kind.to_owned(), of(one)?)));
    let told: Map<String, Value> = told.collect();
    (!told.is_empty()).then_some(Value::Object(told))
}

/// What a series of metrics is of.
enum Of {
    /// Something counted, as it is.
    Count(fn(&Usage) -> Option<u64>),
    /// Time: µs that are told in seconds.
    Time(fn(&Usage) -> Option<u64>),
    /// Thousandths.
    Milli(fn(&Usage) -> Option<u64>),
}

/// The series of a container, in the units that Prometheus asks for. Those that end in `_total` only grow.
const SERIES: [(&str, Of); 32] = [
    ("cpu_user_seconds_total", Of::Time(|of| of.user_us)),
    ("cpu_system_seconds_total", Of::Time(|of| of.system_us)),
    ("cpu_limit_cpus", Of::Milli(|of| of.cpus_limit_milli)),
    ("cpu_periods_total", Of::Count(|of| of.periods)),
    ("cpu_throttled_periods_total", Of::Count(|of| of.throttled_periods)),
    ("cpu_throttled_seconds_total", Of::Time(|of| of.throttled_us)),
    ("cpu_pressure_seconds_total", Of::Time(|of| Some(of.cpu_pressure?.some_us))),
    ("memory_bytes", Of::Count(|of| of.mem_bytes)),
    ("memory_rss_bytes", Of::Count(|of| of.rss_bytes)),
    ("memory_file_bytes", Of::Count(|of| of.file_bytes)),
    ("memory_swap_bytes", Of::Count(|of| of.swap_bytes)),
    ("memory_peak_bytes", Of::Count(|of| of.mem_peak_bytes)),
    ("memory_limit_bytes", Of::Count(|of| of.mem_limit_bytes)),
    ("memory_kills_total", Of::Count(|of| of.oom_kills)),
    ("memory_pressure_seconds_total", Of::Time(|of| Some(of.mem_pressure?.some_us))),
    ("processes", Of::Count(|of| of.processes)),
    ("threads", Of::Count(|of| of.threads)),
    ("threads_limit", Of::Count(|of| of.pids_limit)),
    ("forks_refused_total", Of::Count(|of| of.pids_refused)),
    ("io_read_bytes_total", Of::Count(|of| of.io_read_bytes)),
    ("io_written_bytes_total", Of::Count(|of| of.io_written_bytes)),
    ("io_reads_total", Of::Count(|of| of.io_reads)),
    ("io_writes_total", Of::Count(|of| of.io_writes)),
    ("io_pressure_seconds_total", Of::Time(|of| Some(of.io_pressure?.some_us))),
    ("disk_bytes", Of::Count(|of| of.disk_bytes)),
    ("disk_limit_bytes", Of::Count(|of| of.disk_limit_bytes)),
    ("network_received_bytes_total", Of::Count(|of| of.net_received_bytes)),
    ("network_received_packets_total", Of::Count(|of| of.net_received)),
    ("network_received_dropped_packets_total", Of::Count(|of| of.net_unreceived)),
    ("network_sent_bytes_total", Of::Count(|of| of.net_sent_bytes)),
    ("network_sent_packets_total", Of::Count(|of| of.net_sent)),
    ("network_sent_dropped_packets_total", Of::Count(|of| of.net_unsent)),
];

/// What is known of containers: each series once, with a line for each that has it.
fn series(containers: &[(String, Usage)]) -> String {
    let mut text = String::new();
    for (name, of) in SERIES {
        let value = |usage: &Usage| match of {
            Of::Count(of) => of(usage).map(|count| count.to_string()),
            Of::Time(of) => of(usage).map(|us| seconds(us).to_string()),
            Of::Milli(of) => of(usage).map(|milli| Amount::from_milli(milli).to_string()),
        };
        let mut told =
            containers.iter().filter_map(|(of, usage)| Some((of, value(usage)?))).peekable();
        if told.peek().is_some() {
            let sort = if name.ends_with("_total") { "counter" } else { "gauge" };
            // A string takes everything.
            let _ = writeln!(text, "# TYPE mesita_container_{name} {sort}");
        }
        for (labels, value) in told {
            let _ = writeln!(text, "mesita_container_{name}{labels} {value}");
        }
    }
    text
}

/// Labels of a container; those of no framework have one of their own alone.
fn labels(container: &str, framework: &str, executor: &str) -> String {
    let quoted = |text: &str| {
        let mut quoted = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\\' => quoted.push_str("\\\\"),
                '"' => quoted.push_str("\\\""),
                '\n' => quoted.push_str("\\n"),
                c => quoted.push(c),
            }
        }
        quoted
    };
    let container = quoted(container);
    if framework.is_empty() {
        return format!("{{container=\"{container}\"}}");
    }
    let (framework, executor) = (quoted(framework), quoted(executor));
    format!("{{container=\"{container}\",framework=\"{framework}\",executor=\"{executor}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_told_once_for_all_containers_that_have_it() {
        let of =
            |user_us, processes| Usage { user_us: Some(user_us), processes, ..Usage::default() };
        let containers = [
            (labels("c1", "f1", "say \"hi\\\n"), of(1_500_000, None)),
            (labels("c2", "", ""), of(0, Some(3))),
        ];
        let told = series(&containers);
        let expected = concat!(
            "# TYPE mesita_container_cpu_user_seconds_total counter\n",
            "mesita_container_cpu_user_seconds_total",
            "{container=\"c1\",framework=\"f1\",executor=\"say \\\"hi\\\\\\n\"} 1.5\n",
            "mesita_container_cpu_user_seconds_total{container=\"c2\"} 0\n",
            "# TYPE mesita_container_processes gauge\n",
            "mesita_container_processes{container=\"c2\"} 3\n",
        );
        assert_eq!(told, expected);
    }
}
