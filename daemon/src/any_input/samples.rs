//! Calls as real clients make them: what is torn begins as one of these.

use serde_json::json;

fn scalar(name: &str, value: f64) -> serde_json::Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": value}, "role": "web"})
}

/// Calls of a scheduler, as real ones make them.
pub(super) fn scheduler_calls() -> Vec<serde_json::Value> {
    let id = json!({"value": "00000000000000a1-1-0001"});
    let info = json!({"user": "pi", "name": "it", "id": id, "roles": ["web", "web/a"],
        "failover_timeout": 60.5, "principal": "p", "checkpoint": true,
        "labels": {"labels": [{"key": "k", "value": "v"}]},
        "offer_filters": {"web": {"min_allocatable_resources": {"quantities":
            [{"quantities": {"cpus": {"value": 0.1}}}]}}},
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]});
    let constraints = json!({"role_constraints": {"web": {"groups": [{"attribute_constraints": [
        {"selector": {"attribute_name": "rack"}, "predicate": {"text_matches": {"regex": "a.*"}}}]}]}}});
    let ports = json!({"name": "ports", "type": "RANGES", "ranges": {"range":
        [{"begin": 31000, "end": 31001}]}});
    let task = json!({"name": "t", "task_id": {"value": "t"}, "agent_id": {"value": "00a1-1-S1"},
        "resources": [scalar("cpus", 0.5), scalar("mem", 32.0), ports],
        "command": {"value": "true", "environment": {"variables": [{"name": "A", "value": "b"}]},
                    "uris": [{"value": "http://x/y.tar.gz", "extract": true}]},
        "health_check": {"type": "TCP", "tcp": {"port": 80}, "delay_seconds": 1.5},
        "kill_policy": {"grace_period": {"nanoseconds": 5_000_000_000i64}}, "data": "AAEC"});
    let mut inner = task.clone();
    inner["executor"] = json!({"type": "DEFAULT", "executor_id": {"value": "x"},
        "framework_id": id, "resources": [scalar("cpus", 0.1)]});
    let reserved = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 8.0},
        "reservations": [{"type": "DYNAMIC", "role": "web", "principal": "p"}],
        "disk": {"persistence": {"id": "v"}, "volume": {"container_path": "d", "mode": "RW"}}});
    let operations = json!([
        {"type": "LAUNCH", "launch": {"task_infos": [task]}},
        {"type": "LAUNCH_GROUP", "launch_group": {"executor": inner["executor"],
            "task_group": {"tasks": [task]}}},
        {"type": "RESERVE", "id": {"value": "o"}, "reserve": {"resources": [reserved]}},
        {"type": "CREATE", "create": {"volumes": [reserved]}},
        {"type": "GROW_VOLUME", "grow_volume": {"volume": reserved, "addition": scalar("disk", 1.0)}},
    ]);
    let offers = json!([{"value": "00000000000000a1-O1"}]);
    let uuid = "AAECAwQFBgcICQoLDA0ODw==";
    vec![
        json!({"type": "SUBSCRIBE", "framework_id": id, "subscribe": {"framework_info": info,
               "suppressed_roles": ["web"], "offer_constraints": constraints}}),
        json!({"type": "UPDATE_FRAMEWORK", "framework_id": id, "update_framework":
               {"framework_info": info, "offer_constraints": constraints}}),
        json!({"type": "ACCEPT", "framework_id": id, "accept": {"offer_ids": offers,
               "operations": operations, "filters": {"refuse_seconds": 5.0}}}),
        json!({"type": "DECLINE", "framework_id": id, "decline": {"offer_ids": offers}}),
        json!({"type": "KILL", "framework_id": id, "kill": {"task_id": {"value": "t"},
               "kill_policy": {"grace_period": {"nanoseconds": 1}}}}),
        json!({"type": "ACKNOWLEDGE", "framework_id": id, "acknowledge":
               {"agent_id": {"value": "00a1-1-S1"}, "task_id": {"value": "t"}, "uuid": uuid}}),
        json!({"type": "RECONCILE", "framework_id": id, "reconcile":
               {"tasks": [{"task_id": {"value": "t"}}]}}),
        json!({"type": "MESSAGE", "framework_id": id, "message": {"agent_id": {"value": "x"},
               "executor_id": {"value": "x"}, "data": "AAEC"}}),
        json!({"type": "REQUEST", "framework_id": id, "request":
               {"requests": [{"resources": [scalar("cpus", 1.0)]}]}}),
        json!({"type": "REVIVE", "framework_id": id, "revive": {"roles": ["web"]}}),
    ]
}

/// Calls of an executor.
pub(super) fn executor_calls() -> Vec<serde_json::Value> {
    let status = json!({"task_id": {"value": "t"}, "state": "TASK_RUNNING", "message": "m",
        "source": "SOURCE_EXECUTOR", "uuid": "AAECAwQFBgcICQoLDA0ODw==", "timestamp": 1.5e9,
        "labels": {"labels": [{"key": "k"}]}, "data": "AA=="});
    let of = json!({"framework_id": {"value": "00a1-1-0001"}, "executor_id": {"value": "x"}});
    let call = |kind: &str, field: &str, value: serde_json::Value| {
        let mut call = of.clone();
        (call["type"], call[field]) = (kind.into(), value);
        call
    };
    let unacknowledged = json!({"unacknowledged_tasks": [], "unacknowledged_updates":
        [{"status": status}]});
    vec![
        call("SUBSCRIBE", "subscribe", unacknowledged),
        call("UPDATE", "update", json!({"status": status})),
        call("MESSAGE", "message", json!({"data": "AAEC"})),
    ]
}

/// Calls of operators, to a master.
pub(super) fn operator_calls() -> Vec<serde_json::Value> {
    let window = json!({"machine_ids": [{"hostname": "h", "ip": "10.0.0.1"}],
        "unavailability": {"start": {"nanoseconds": 1}, "duration": {"nanoseconds": 5}}});
    vec![
        json!({"type": "UPDATE_QUOTA", "update_quota": {"force": true, "quota_configs":
               [{"role": "web", "limits": {"cpus": {"value": 2.5}}}]}}),
        json!({"type": "UPDATE_WEIGHTS", "update_weights":
               {"weight_infos": [{"role": "web", "weight": 2.5}]}}),
        json!({"type": "DRAIN_AGENT", "drain_agent": {"agent_id": {"value": "x"},
               "max_grace_period": {"seconds": 5}, "mark_gone": true}}),
        json!({"type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule":
               {"schedule": {"windows": [window]}}}),
    ]
}

/// Calls of operators about containers, to an agent.
pub(super) fn container_calls() -> Vec<serde_json::Value> {
    let id = json!({"value": "a", "parent": {"value": "1-2", "parent": {"value": "1-1"}}});
    let command = json!({"shell": false, "value": "/bin/sh", "arguments": ["sh", "-c", "x"],
        "user": "pi", "environment": {"variables": [{"name": "A", "value": "b"}]}});
    let terminal = json!({"type": "MESOS", "tty_info": {"window_size": {"rows": 3, "columns": 4}}});
    let apart = json!({"type": "MESOS", "linux_info": {"share_cgroups": false}});
    let stdin = json!({"type": "DATA", "data": {"type": "STDIN", "data": "AAEC"}});
    vec![
        json!({"type": "LAUNCH_CONTAINER", "launch_container": {"container_id":
            {"value": "b", "parent": {"value": "1-1"}}, "container": apart,
            "command": command, "resources": [scalar("cpus", 0.5), scalar("mem", 32.0)],
            "limits": {"cpus": {"value": 2.5}, "mem": {"value": "Infinity"}}}}),
        json!({"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container":
            {"container_id": id, "command": command}}),
        json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session":
            {"container_id": id, "command": command, "container": terminal}}),
        json!({"type": "KILL_CONTAINER", "kill_container": {"container_id": id, "signal": 15}}),
        json!({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input":
            {"type": "PROCESS_IO", "process_io": stdin}}),
        json!({"type": "SET_LOGGING_LEVEL", "set_logging_level":
            {"level": 1, "duration": {"nanoseconds": 1000}}}),
    ]
}
