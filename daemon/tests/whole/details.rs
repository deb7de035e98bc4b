//! What is told of little things, and what wrong ones are answered.

use serde_json::{Value, json};

use crate::http::{Records, ask, post};
use crate::inner::call;
use crate::reads::read_at;
use crate::scheduler_api::{Framework, JSON, cluster, end, task};
use crate::world::{World, eventually};

#[test]
fn metrics_tell_of_each_framework_of_the_registry_and_of_allocations() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({"name": "a b"}));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "one", "true")]);
    assert_eq!(framework.end_of("one")["state"], "TASK_FINISHED");
    framework.accepted("SUPPRESS", &json!({}));
    let told = read_at(master.port, "/metrics/snapshot");
    let id = framework.id["value"].as_str().unwrap();
    let of = |name: &str| told[&format!("master/frameworks/a%20b/{id}/{name}")].clone();
    for (name, count) in [
        ("subscribed", 1.0),
        ("calls/subscribe", 1.0),
        ("calls/accept", 1.0),
        ("calls/suppress", 1.0),
        ("calls/teardown", 0.0),
        ("events/subscribed", 1.0),
        ("operations/launch", 1.0),
        ("offers/accepted", 1.0),
        ("tasks/terminal/task_finished", 1.0),
        ("tasks/active/task_running", 0.0),
        ("roles/*/suppressed", 1.0),
    ] {
        assert_eq!(of(name), count, "{name}");
    }
    let at_least_one = |value: &Value| value.as_f64().unwrap_or_default() >= 1.0;
    for name in ["offers/sent", "events/offers", "events/update", "events/heartbeat", "calls"] {
        assert!(at_least_one(&of(name)), "{name}: {}", of(name));
    }
    assert_eq!(told["registrar/log/ensemble_size"], 1.0);
    assert!(at_least_one(&told["allocator/mesos/allocation_runs"]));
    assert!(told["allocator/mesos/allocation_run_ms/p99"].is_number(), "{told}");
    // They go with their framework.
    framework.accepted("TEARDOWN", &Value::Null);
    let gone = || {
        let told = read_at(master.port, "/metrics/snapshot");
        !told.as_object().unwrap().keys().any(|name| name.contains(id))
    };
    eventually(gone, || "the framework's metrics".to_owned());
    end(&world, master, agent);
}

#[test]
fn metrics_tell_what_was_refused_and_leave_out_nothing_that_exporters_look_for() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "one", "true")]);
    assert_eq!(framework.end_of("one")["state"], "TASK_FINISHED");
    let uuid = "MDEyMzQ1Njc4OWFiY2RlZg==";
    framework.accepted(
        "ACKNOWLEDGE",
        &json!({"agent_id": offer["agent_id"], "task_id": {"value": "one"}, "uuid": uuid}),
    );
    let told = || read_at(master.port, "/metrics/snapshot");
    let refused = "master/invalid_status_update_acknowledgements";
    eventually(|| told()[refused] == 1.0, || told()[refused].to_string());
    let told = told();
    assert!(told["master/valid_status_update_acknowledgements"].as_f64() >= Some(2.0));
    assert!(told["registrar/state_fetch_ms"].as_f64() > Some(0.0));
    let by_v1 = post(master.port, "/api/v1", &[], &json!({"type": "GET_METRICS"})).text();
    for name in [
        "invalid_status_updates",
        "slave_shutdowns_scheduled",
        "slave_shutdowns_completed",
        "slave_shutdowns_canceled",
        "slave_unreachable_scheduled",
        "slave_unreachable_completed",
        "slave_unreachable_canceled",
        "event_queue_messages",
        "event_queue_dispatches",
        "event_queue_http_requests",
        "operations/total",
        "operations/unreserve/recovering",
        "operations/create_disk/gone_by_operator",
    ] {
        let name = format!("master/{name}");
        assert_eq!(told[&name], 0.0, "{name}");
        assert!(by_v1.contains(&format!("\"{name}\"")), "{name}");
    }
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn an_agent_that_is_given_up_is_counted() {
    let world = World::new();
    let master = world.master(&["--agent-timeout=3s"]);
    let mut agent = master.agent(&[]);
    agent.kill();
    let told = || {
        let told = read_at(master.port, "/metrics/snapshot");
        let count = |step: &str| told[&format!("master/slave_unreachable_{step}")].clone();
        ["scheduled", "completed", "canceled"].map(count)
    };
    eventually(|| told() == [json!(1.0), json!(1.0), json!(0.0)], || format!("{:?}", told()));
    agent.start();
    agent.process().says("registered with the master");
    end(&world, master, agent);
}

#[test]
fn an_agent_that_was_away_for_a_while_is_not_told_as_a_new_one() {
    let world = World::new();
    let (master, mut agent) = cluster(&world);
    let subscribe = json!({"type": "SUBSCRIBE"}).to_string();
    let mut events = Records::open(master.port, "/api/v1", &JSON, subscribe.as_bytes());
    events.until("SUBSCRIBED");
    agent.kill();
    agent.start();
    agent.process().says("registered with the master");
    let framework = Framework::subscribe(&master, &json!({}));
    loop {
        let event = events.event().unwrap();
        assert_ne!(event["type"], "AGENT_ADDED");
        if event["type"] == "FRAMEWORK_ADDED" {
            break;
        }
    }
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn a_master_is_shown_and_found_under_its_name() {
    let world = World::new();
    let master = world.master(&["--hostname", "leader.example"]);
    assert_eq!(read_at(master.port, "/state")["hostname"], "leader.example");
    let answer = ask(master.port, "GET", "/redirect", &[], b"");
    let location = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("location"));
    let wanted = format!("//leader.example:{}", master.port);
    assert_eq!(location.map(|(_, value)| value.as_str()), Some(&*wanted));
    master.stop();
    world.nothing_is_left();
}

#[test]
fn more_is_logged_for_a_while_and_what_makes_no_sense_is_said() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    for port in [master.port, agent.port] {
        let toggle = |query: &str| {
            let answer = ask(port, "POST", &format!("/logging/toggle{query}"), &[], b"");
            (answer.status, answer.text())
        };
        assert_eq!(toggle(""), (200, "0\n".to_owned()));
        assert_eq!(toggle("?level=1&duration=10secs"), (200, String::new()));
        assert_eq!(toggle(""), (200, "1\n".to_owned()));
        assert_eq!(toggle("?level=0&duration=1secs"), (200, String::new()));
        for (query, why) in [
            ("?level=1", "Expecting 'duration=value' in query.\n"),
            ("?duration=1secs", "Expecting 'level=value' in query.\n"),
        ] {
            assert_eq!(toggle(query), (400, why.to_owned()));
        }
        for query in ["?level=x&duration=1secs", "?level=9&duration=1secs", "?level=1&duration=x"] {
            assert_eq!(toggle(query).0, 400, "{query}");
        }
        let set = json!({"type": "SET_LOGGING_LEVEL", "set_logging_level":
            {"level": 1, "duration": {"nanoseconds": -5}}});
        let answer = post(port, "/api/v1", &[], &set);
        assert!(
            answer.status == 400 && answer.text().contains("non-negative"),
            "{}",
            answer.text()
        );
    }
    end(&world, master, agent);
}

#[test]
fn what_is_wrong_with_one_thing_is_wrong_with_it_alone() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let quota = json!({"quota_configs": [{"role": "a/..", "limits": {"cpus": {"value": 1}}}]});
    let answer = call(master.port, "/api/v1", "UPDATE_QUOTA", &quota);
    let why = "Invalid 'QuotaConfig.role': Role 'a/..' cannot include '.' or '..'";
    assert!(answer.status == 400 && answer.text().contains(why), "{}", answer.text());
    // No agent has disks of resource providers, and what else is asked for is done.
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let disk = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 1}});
    let mut one = task(&offer, "one", "true");
    let resources = one["resources"].as_array_mut().unwrap();
    // As Mesos has it: what a task asks for is its own business.
    resources.retain(|resource| resource["name"] != "mem");
    framework.accepted(
        "ACCEPT",
        &json!({"offer_ids": [offer["id"]], "operations": [
            {"type": "CREATE_DISK", "create_disk": {"source": disk, "target_type": "MOUNT"}},
            {"type": "LAUNCH", "launch": {"task_infos": [task(&offer, "two", "true"), one]}},
        ]}),
    );
    assert_eq!(framework.end_of("two")["state"], "TASK_FINISHED");
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn statuses_say_which_process_a_task_is() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "one", "sleep 1000")]);
    let status = loop {
        let status = framework.status();
        if status["state"] == "TASK_RUNNING" {
            break status;
        }
    };
    let pid = status["container_status"]["executor_pid"].as_u64().unwrap();
    let of_agent = read_at(agent.port, "/containers");
    assert_eq!(of_agent[0]["status"]["executor_pid"], pid, "{of_agent}");
    let told = read_at(master.port, "/state");
    let statuses = &told["frameworks"][0]["tasks"][0]["statuses"];
    let last = statuses.as_array().unwrap().last().unwrap();
    assert_eq!(last["container_status"]["executor_pid"], pid, "{statuses}");
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}
