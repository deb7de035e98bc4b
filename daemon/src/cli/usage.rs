//! What tasks use, as their agents say, for `mesita ps --usage`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::leader::Leader;
use super::ps::{columns, text};
use crate::alarm;
use crate::flags::Where;

/// How long an agent may take to say what its containers use, in µs.
const PATIENCE_US: u64 = 5_000_000;

/// Adds to each task the `statistics` of its container. Of an agent that does not answer nothing is
/// added.
pub(super) async fn add(at: &Where, rows: &mut [Value]) {
    let agents = rows.iter().filter_map(|row| row["agent_id"].as_str());
    let agents: BTreeSet<String> = agents.map(str::to_owned).collect();
    for agent in agents {
        let path = format!("/agent/{agent}/containers?show_nested=true");
        let told = alarm::within(PATIENCE_US, Leader::told(at, &path)).await;
        let Some(Ok(Value::Array(containers))) = told else { continue };
        for row in rows.iter_mut().filter(|row| row["agent_id"] == agent.as_str()) {
            let own = containers.iter().find(|one| is_of(one, row));
            if let Some(statistics) = own.map(|one| one["statistics"].clone()) {
                row["statistics"] = statistics;
            }
        }
    }
}

/// A container inside of another one is named by both.
fn is_of(container: &Value, row: &Value) -> bool {
    let name = container["container_id"].as_str().unwrap_or_default();
    let own = name.rsplit('.').next().filter(|own| !own.is_empty());
    own.is_some() && own == row["container"].as_str()
}

/// Tasks with what they use.
pub(super) fn table(rows: &[Value]) -> String {
    let head = "TASK STATE AGENT CPU MEM DISK IN OUT".split(' ').map(str::to_owned).collect();
    let cells = rows.iter().map(|row| {
        let state = text(&row["state"]);
        let used = &row["statistics"];
        let us = |name: &str| used[name].as_f64();
        let cpu = us("cpus_user_time_secs").zip(us("cpus_system_time_secs"));
        vec![
            text(&row["id"]),
            state.strip_prefix("TASK_").unwrap_or(&state).to_owned(),
            text(&row["agent"]),
            cpu.map_or_else(|| "-".to_owned(), |(user, system)| format!("{:.1}s", user + system)),
            size(&used["mem_total_bytes"]),
            size(&used["disk_used_bytes"]),
            size(&used["net_rx_bytes"]),
            size(&used["net_tx_bytes"]),
        ]
    });
    columns(&[head].into_iter().chain(cells).collect::<Vec<Vec<String>>>())
}

/// Bytes in the largest unit of which there is one.
fn size(bytes: &Value) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let Some(bytes) = bytes.as_u64() else { return "-".to_owned() };
    let unit = UNITS.iter().enumerate().rev().find(|(at, _)| bytes >> (10 * at) > 0);
    let (at, unit) = unit.unwrap_or((0, &"B"));
    let tenths = (u128::from(bytes) * 10) >> (10 * at);
    if at == 0 { format!("{bytes}B") } else { format!("{}.{}{unit}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tasks_are_told_with_what_their_containers_use() {
        let used = json!({"cpus_user_time_secs": 1.25, "cpus_system_time_secs": 0.5,
            "mem_total_bytes": 1_572_864, "disk_used_bytes": 700, "net_rx_bytes": 2048});
        let row = |container| json!({"id": "t", "state": "TASK_RUNNING", "agent": "pi", "container": container});
        let mut one = row("1-2");
        assert!(is_of(&json!({"container_id": "1-2"}), &one));
        assert!(is_of(&json!({"container_id": "1-1.1-2"}), &one));
        assert!(!is_of(&json!({"container_id": "1-2.1-1"}), &one) && !is_of(&json!({}), &one));
        one["statistics"] = used;
        assert_eq!(
            table(&[one, row("1-3")]),
            "TASK  STATE    AGENT  CPU   MEM    DISK  IN     OUT\n\
             t     RUNNING  pi     1.8s  1.5MB  700B  2.0KB  -\n\
             t     RUNNING  pi     -     -      -     -      -\n"
        );
    }
}
