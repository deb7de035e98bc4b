//! Mesos' scheduler API, spoken by hand.

use serde_json::{Value, json};

use crate::http::{Answer, Records, ask, post};
use crate::reads::read_at;
use crate::world::{Agent, Master, World, eventually, get};

const PATH: &str = "/api/v1/scheduler";
pub(crate) const JSON: [(&str, &str); 2] =
    [("Content-Type", "application/json"), ("Accept", "application/json")];

pub(crate) fn subscription(more: &Value) -> Value {
    let mut info = json!({
        "user": user(), "name": "it", "roles": ["*"], "failover_timeout": 60.0,
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}],
    });
    let map = info.as_object_mut().unwrap();
    map.extend(more.as_object().unwrap().clone());
    let mut call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
    if let Some(id) = more.get("id") {
        call["framework_id"] = id.clone();
    }
    call
}

fn user() -> String {
    let name = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(name.stdout).unwrap().trim().to_owned()
}

/// A framework with its stream.
pub(crate) struct Framework {
    port: u16,
    pub(crate) events: Records,
    pub(crate) id: Value,
    stream: String,
    /// The `Authorization` that it shows.
    shown: Option<String>,
}

impl Framework {
    pub(crate) fn subscribe(master: &Master<'_>, more: &Value) -> Self {
        Self::subscribe_as(master, more, None)
    }

    /// The same of one that shows a credential.
    pub(crate) fn subscribe_as(master: &Master<'_>, more: &Value, shown: Option<&str>) -> Self {
        let call = subscription(more).to_string();
        let mut headers = JSON.to_vec();
        headers.extend(shown.map(|shown| ("Authorization", shown)));
        let mut events = Records::open(master.port, PATH, &headers, call.as_bytes());
        let find =
            |(name, value): &(String, String)| (name == "Mesos-Stream-Id").then(|| value.clone());
        let stream = events.headers.iter().find_map(find).unwrap();
        let id = events.until("SUBSCRIBED")["framework_id"].clone();
        Self { port: master.port, events, id, stream, shown: shown.map(str::to_owned) }
    }

    pub(crate) fn call(&self, kind: &str, more: &Value) -> Answer {
        let mut call = json!({"type": kind, "framework_id": self.id});
        if !more.is_null() {
            call[kind.to_lowercase()] = more.clone();
        }
        let mut headers = vec![("Mesos-Stream-Id", &*self.stream)];
        headers.extend(self.shown.as_deref().map(|shown| ("Authorization", shown)));
        post(self.port, PATH, &headers, &call)
    }

    pub(crate) fn accepted(&self, kind: &str, more: &Value) {
        let answer = self.call(kind, more);
        assert_eq!((answer.status, answer.text().as_str()), (202, ""), "{kind}");
    }

    /// The next status of a task, acknowledged.
    pub(crate) fn status(&mut self) -> Value {
        let status = self.events.until("UPDATE")["status"].clone();
        if !status["uuid"].is_null() {
            self.accepted(
                "ACKNOWLEDGE",
                &json!({"agent_id": status["agent_id"], "task_id": status["task_id"],
                        "uuid": status["uuid"]}),
            );
        }
        status
    }

    /// The first status of a task in a terminal state.
    pub(crate) fn end_of(&mut self, task: &str) -> Value {
        loop {
            let status = self.status();
            let state = status["state"].as_str().unwrap();
            let lives = ["TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING"];
            if status["task_id"]["value"] == task && !lives.contains(&state) {
                return status;
            }
        }
    }

    pub(crate) fn offer(&mut self) -> Value {
        self.events.until("OFFERS")["offers"][0].clone()
    }

    pub(crate) fn launch(&self, offer: &Value, tasks: &[Value]) {
        self.accepted(
            "ACCEPT",
            &json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0.1},
                    "operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}]}),
        );
    }
}

pub(crate) fn task(offer: &Value, name: &str, command: &str) -> Value {
    json!({
        "name": name, "task_id": {"value": name}, "agent_id": offer["agent_id"],
        "command": {"value": command},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                      {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}],
    })
}

pub(crate) fn cluster(world: &World) -> (Master<'_>, Agent<'_>) {
    let master = world.master(&[]);
    let agent = master.agent(&["--resources", "cpus:2;mem:1024;ports:[31000-31009]"]);
    (master, agent)
}

pub(crate) fn end(world: &World, master: Master<'_>, agent: Agent<'_>) {
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_framework_lives_from_subscribe_to_teardown() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    framework.accepted("SUPPRESS", &Value::Null);
    framework.accepted("REVIVE", &Value::Null);
    let offer = framework.offer();
    assert_eq!(offer["framework_id"], framework.id);
    assert_eq!(offer["allocation_info"]["role"], "*");
    assert_eq!(offer["url"]["address"]["port"], agent.port);
    let names: Vec<&str> = offer["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"cpus") && names.contains(&"ports"), "{names:?}");
    let mut both = task(&offer, "both", "true");
    both["executor"] = json!({"executor_id": {"value": "x"}, "command": {"value": "true"}});
    let mut greedy = task(&offer, "greedy", "true");
    greedy["resources"][0]["scalar"]["value"] = json!(1_000_000);
    let well = [task(&offer, "well", "echo hello"), task(&offer, "ill", "exit 3")];
    framework
        .launch(&offer, &[&well[..], &[both, greedy, task(&offer, "long", "sleep 1000")]].concat());
    let mut states = std::collections::BTreeMap::new();
    // In whichever order they end.
    while states.len() < 5 {
        let status = framework.status();
        let (name, state) = (status["task_id"]["value"].clone(), status["state"].clone());
        if name == "long" && state == "TASK_RUNNING" {
            framework.accepted("KILL", &json!({"task_id": {"value": "long"}}));
        }
        if !["TASK_STARTING", "TASK_RUNNING"].contains(&state.as_str().unwrap()) {
            states.insert(name.to_string(), (state.to_string(), status));
        }
    }
    let state = |name: &str| states[&format!("\"{name}\"")].1["state"].clone();
    assert_eq!(state("well"), "TASK_FINISHED");
    assert_eq!(state("ill"), "TASK_FAILED");
    assert_eq!(state("both"), "TASK_ERROR");
    assert_eq!(state("greedy"), "TASK_ERROR");
    assert_eq!(state("long"), "TASK_KILLED");
    let well = &states["\"well\""].1;
    assert_eq!(well["executor_id"]["value"], "well");
    assert!(well["timestamp"].as_f64().unwrap() > 1.7e9, "{well}");
    assert_eq!(well["agent_id"], offer["agent_id"]);
    framework.accepted("RECONCILE", &json!({"tasks": [{"task_id": {"value": "nobody"}}]}));
    let status = framework.status();
    assert_eq!(
        (&status["state"], &status["reason"]),
        (&json!("TASK_UNKNOWN"), &json!("REASON_RECONCILIATION"))
    );
    // An agent that never was is called what the framework called it.
    let named = json!({"task_id": {"value": "nobody"}, "agent_id": {"value": "nowhere"}});
    framework.accepted("RECONCILE", &json!({"tasks": [named]}));
    let status = framework.status();
    assert_eq!(
        (&status["state"], &status["agent_id"]["value"]),
        (&json!("TASK_UNKNOWN"), &json!("nowhere"))
    );
    let answer = framework.call(
        "UPDATE_FRAMEWORK",
        &json!({"framework_info": {
        "user": user(), "name": "renamed", "id": framework.id, "roles": ["*"],
        "labels": {"labels": [{"key": "k", "value": "v"}]},
        "capabilities": [{"type": "MULTI_ROLE"}]}}),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(master.rows(&["--frameworks"]).iter().any(|row| row["name"] == "renamed"));
    // What there cannot be is dropped without a word.
    framework.accepted("REVIVE", &json!({"roles": ["/bad"]}));
    framework.accepted("KILL", &json!({"task_id": {"value": ""}}));
    let told = &read_at(master.port, "/frameworks")["frameworks"][0];
    assert_eq!(told["labels"], json!([{"key": "k", "value": "v"}]));
    framework.accepted("TEARDOWN", &Value::Null);
    while framework.events.event().is_some() {}
    assert_eq!(master.rows(&["--frameworks"]).len(), 0);
    // Who comes back all the same hears why not, and that is all.
    let again = subscription(&json!({"id": framework.id})).to_string();
    let mut events = Records::open(master.port, PATH, &JSON, again.as_bytes());
    assert_eq!(events.event().unwrap()["error"]["message"], "Framework has been removed");
    assert_eq!(events.event(), None);
    end(&world, master, agent);
}

#[test]
fn what_is_wrong_with_a_call_has_the_code_and_the_words_of_mesos() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let framework = Framework::subscribe(&master, &json!({}));
    let well = subscription(&json!({})).to_string();
    let teardown =
        |id: &str| json!({"type": "TEARDOWN", "framework_id": {"value": id}}).to_string();
    let id = framework.id["value"].as_str().unwrap();
    let stream = ("Mesos-Stream-Id", "00000000-0000-0000-0000-000000000000");
    let json = JSON[0];
    type Headers = Vec<(&'static str, &'static str)>;
    let cases: Vec<(Headers, String, u16, &str)> = vec![
        (vec![], well.clone(), 400, "Expecting 'Content-Type' to be present"),
        (
            vec![("Content-Type", "text/plain")],
            well.clone(),
            415,
            "Expecting 'Content-Type' of application/json or application/x-protobuf",
        ),
        (vec![json], "{not json".to_owned(), 400, "Failed to parse body into JSON: "),
        (vec![json], String::new(), 400, "Failed to parse body into JSON: "),
        (
            vec![json],
            "[]".to_owned(),
            400,
            "Failed to convert JSON into Call protobuf: Expecting a JSON object",
        ),
        (
            vec![("Content-Type", "application/x-protobuf")],
            "\u{ff}\u{ff}".to_owned(),
            400,
            "Failed to parse body into Call protobuf",
        ),
        (
            vec![json, ("Accept", "text/html")],
            well.clone(),
            406,
            "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
        ),
        (
            vec![json, stream],
            well.clone(),
            400,
            "Subscribe calls should not include the 'Mesos-Stream-Id' header",
        ),
        (
            vec![json],
            r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"name":"x"}}}"#.to_owned(),
            400,
            "Missing required fields: subscribe.framework_info.user",
        ),
        (
            vec![json],
            r#"{"type":"FOO"}"#.to_owned(),
            400,
            "Failed to validate scheduler::Call: Expecting 'type' to be present",
        ),
        (vec![json], teardown("nope"), 400, "Framework cannot be found"),
        (
            vec![json],
            teardown(id),
            400,
            "All non-subscribe calls should include the 'Mesos-Stream-Id' header",
        ),
        (vec![json, stream], teardown(id), 400, "didn't match the stream ID"),
        (vec![json, ("Content-Encoding", "br")], well, 415, "gzip and identity"),
    ];
    for (headers, body, status, words) in cases {
        let answer = ask(master.port, "POST", PATH, &headers, body.as_bytes());
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.text().contains(words), "{body}: {}", answer.text());
    }
    let answer = framework.call("UNKNOWN", &Value::Null);
    assert_eq!((answer.status, &*answer.text()), (501, "Received 'UNKNOWN' call"));
    let info = json!({"user": user(), "name": "x", "id": {"value": id}, "checkpoint": true, "roles": ["*"],
        "capabilities": [{"type": "MULTI_ROLE"}]});
    let answer = framework.call("UPDATE_FRAMEWORK", &json!({ "framework_info": info }));
    let words = "Updating 'FrameworkInfo.checkpoint' is unsupported";
    assert_eq!((answer.status, &*answer.text()), (400, words));
    let answer = ask(master.port, "GET", PATH, &[], b"");
    assert_eq!((answer.status, answer.header("Allow")), (405, Some("POST")));
    let words = "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.";
    assert_eq!(answer.text(), words);
    // None of it was more than words.
    assert_eq!(master.rows(&["--frameworks"]).len(), 1);
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn a_framework_that_cannot_be_is_told_so_on_a_stream_that_ends() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let removed = json!({"id": {"value": "0000000000000000-1-0001"}});
    for (more, words) in [
        (
            json!({"roles": ["/bad/"]}),
            "contains invalid role: Role '/bad/' cannot start with a slash",
        ),
        (json!({"roles": ["a", "a"]}), "contains duplicate role: a"),
        (json!({"failover_timeout": -1}), "failover_timeout"),
        (json!({"roles": (0..17).map(|n| format!("r{n}")).collect::<Vec<_>>()}), "roles"),
        (removed, "Framework has been removed"),
    ] {
        let call = subscription(&more).to_string();
        let mut events = Records::open(master.port, PATH, &JSON, call.as_bytes());
        let event = events.event().unwrap();
        assert_eq!(event["type"], "ERROR");
        assert!(event["error"]["message"].as_str().unwrap().contains(words), "{event}");
        assert_eq!(events.event(), None);
    }
    assert_eq!(master.rows(&["--frameworks"]).len(), 0);
    end(&world, master, agent);
}

#[test]
fn a_task_that_cannot_be_is_told_so_and_the_one_beside_it_runs() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut tasks =
        ["allocated", "foreign", "shares", "named", "well"].map(|name| task(&offer, name, "true"));
    tasks[0]["resources"][0]["allocation_info"] = json!({"role": "web"});
    tasks[2]["container"] = json!({"type": "MESOS", "linux_info": {"share_cgroups": false}});
    for (task, framework, executor) in [(1, "stranger-0001", "x"), (3, "", "a/b")] {
        let executor = json!({"executor_id": {"value": executor}, "command": {"value": "true"},
                              "framework_id": {"value": framework}});
        tasks[task]["executor"] = executor;
        tasks[task].as_object_mut().unwrap().remove("command");
    }
    tasks[3]["executor"]["framework_id"] = framework.id.clone();
    // What is allocated to the offer's own role says nothing new.
    tasks[4]["resources"][0]["allocation_info"] = json!({"role": "*"});
    let unknown = json!({"type": "NEWER_THAN_THIS"});
    framework.accepted(
        "ACCEPT",
        &json!({"offer_ids": [offer["id"]], "operations": [
            unknown, {"type": "LAUNCH", "launch": {"task_infos": tasks}}]}),
    );
    for (task, words) in [
        ("allocated", "another role"),
        ("foreign", "invalid FrameworkID"),
        ("shares", "share_cgroups"),
        ("named", "executor.id"),
    ] {
        let status = framework.end_of(task);
        assert_eq!(status["state"], "TASK_ERROR", "{status}");
        assert_eq!(status["reason"], "REASON_TASK_INVALID", "{status}");
        assert!(status["message"].as_str().unwrap().contains(words), "{status}");
    }
    assert_eq!(framework.end_of("well")["state"], "TASK_FINISHED");
    let offer = framework.offer();
    let id = &offer["id"];
    for (name, offers, words) in [
        ("twice", json!([id, id]), "Duplicate offer in offer list"),
        ("none", json!([]), "No offers specified"),
        ("gone", json!([{"value": "no-such"}]), "no longer valid"),
    ] {
        let launch =
            json!({"type": "LAUNCH", "launch": {"task_infos": [task(&offer, name, "true")]}});
        framework.accepted("ACCEPT", &json!({"offer_ids": offers, "operations": [launch]}));
        let status = framework.end_of(name);
        assert_eq!(status["reason"], "REASON_INVALID_OFFERS", "{status}");
        assert!(status["message"].as_str().unwrap().contains(words), "{status}");
    }
    // They count as tasks that ended, though they never were.
    let told = read_at(master.port, "/metrics/snapshot");
    for (name, count) in [
        ("tasks_error", 4.0),
        ("task_error/source_master/reason_task_invalid", 4.0),
        ("tasks_dropped", 3.0),
        ("task_dropped/source_master/reason_invalid_offers", 3.0),
    ] {
        assert_eq!(told[&format!("master/{name}")], count, "{name}");
    }
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn a_framework_in_no_role_is_offered_nothing_until_it_has_one() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({"roles": []}));
    let waits = master.run(&["--wait", "20s", "--", "true"]).end();
    assert_eq!(waits.status, 0, "what nobody is offered is others' to use: {}", waits.err);
    let told = ask(master.port, "GET", "/frameworks", &[], b"").text();
    let told: Value = serde_json::from_str(&told).unwrap();
    let mut rows = told["frameworks"].as_array().unwrap().iter();
    let row = rows.find(|one| one["id"] == framework.id["value"]).unwrap();
    assert_eq!(row["roles"], json!([]));
    let mut info = subscription(&json!({}))["subscribe"]["framework_info"].clone();
    info["id"] = framework.id.clone();
    let answer = framework.call("UPDATE_FRAMEWORK", &json!({ "framework_info": info }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    framework.events.until("OFFERS");
    framework.accepted("TEARDOWN", &Value::Null);
    // Neither its id nor one that nobody has been given is anybody's.
    let own = framework.id["value"].as_str().unwrap().to_owned();
    let unknown = format!("{}-0099", own.rsplit_once('-').unwrap().0);
    for (id, words) in [
        (own.as_str(), "Framework has been removed"),
        (&unknown, "no master of this cluster has given that framework id"),
        ("c33f5ab4-7415-4dd5-a2fc-f4fa03ea5627-0002", "Framework has been removed: '"),
    ] {
        let call = subscription(&json!({"id": {"value": id}})).to_string();
        let mut events = Records::open(master.port, PATH, &JSON, call.as_bytes());
        let event = events.event().unwrap();
        assert_eq!(event["type"], "ERROR", "{event}");
        assert!(event["error"]["message"].as_str().unwrap().contains(words), "{event}");
    }
    end(&world, master, agent);
}

#[test]
fn a_scheduler_that_comes_back_takes_over_its_tasks() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut old = Framework::subscribe(&master, &json!({}));
    let offer = old.offer();
    old.launch(&offer, &[task(&offer, "long", "sleep 1000")]);
    while old.status()["state"] != "TASK_RUNNING" {}
    let told = || read_at(master.port, "/frameworks")["frameworks"][0].clone();
    assert_eq!(told()["reregistered_time"], Value::Null);
    let mut new = Framework::subscribe(&master, &json!({"id": old.id}));
    assert_eq!(new.id, old.id);
    assert!(told()["reregistered_time"].as_f64() > told()["registered_time"].as_f64());
    let state = read_at(master.port, "/state")["frameworks"][0].clone();
    assert_eq!(state["reregistered_time"], told()["reregistered_time"]);
    let error = old.events.until("ERROR");
    assert_eq!(error["message"], "Framework failed over");
    assert_eq!(old.events.event(), None);
    assert_eq!(old.call("REVIVE", &Value::Null).status, 400);
    new.accepted("RECONCILE", &json!({"tasks": []}));
    let status = new.events.until("UPDATE")["status"].clone();
    assert_eq!(
        (&status["task_id"]["value"], &status["state"]),
        (&json!("long"), &json!("TASK_RUNNING"))
    );
    new.accepted("KILL", &json!({"task_id": {"value": "long"}}));
    assert_eq!(new.end_of("long")["state"], "TASK_KILLED");
    new.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn the_same_is_said_in_protobuf() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let call = subscription(&json!({})).to_string();
    let both = [JSON[0], ("Accept", "application/x-protobuf")];
    let mut events = Records::open(master.port, PATH, &both, call.as_bytes());
    let header = |name: &str| {
        let found = events.headers.iter().find(|(of, _)| of == name);
        found.map(|(_, value)| value.clone()).unwrap()
    };
    assert_eq!(header("Content-Type"), "application/x-protobuf");
    let stream = header("Mesos-Stream-Id");
    // Event: type (1) SUBSCRIBED (1), subscribed (2) { framework_id (1) { value (1) } }.
    let subscribed = events.record().unwrap();
    assert_eq!(subscribed[..3], [0x08, 1, 0x12]);
    let at = subscribed.iter().skip(4).position(|byte| *byte == 0x0a).unwrap() + 4;
    let id = &subscribed[at + 4..at + 4 + usize::from(subscribed[at + 3])];
    assert!(id.ends_with(b"-1-0001"), "{}", String::from_utf8_lossy(id));
    // Call: framework_id (1) { value (1) }, type (2) TEARDOWN (2).
    let len = u8::try_from(id.len()).unwrap();
    let call = [&[0x0a, len + 2, 0x0a, len], id, &[0x10, 2]].concat();
    let headers = [("Content-Type", "application/x-protobuf"), ("Mesos-Stream-Id", &*stream)];
    let answer = ask(master.port, "POST", PATH, &headers, &call);
    assert_eq!(answer.status, 202, "{}", answer.text());
    while events.record().is_some() {}
    end(&world, master, agent);
}

#[test]
fn any_number_of_tasks_is_asked_after_by_one_call() {
    let world = World::new();
    let master = world.master(&[]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let tasks = (0..1_000).map(|number| json!({"task_id": {"value": format!("{number:0200}")}}));
    framework.accepted("RECONCILE", &json!({"tasks": tasks.collect::<Vec<_>>()}));
    let names = (0..1_000).map(|_| framework.status()["task_id"]["value"].to_string());
    assert_eq!(names.collect::<std::collections::BTreeSet<_>>().len(), 1_000);
    drop(framework);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_task_whose_name_is_longer_than_any_is_unknown_as_others_are() {
    let world = World::new();
    let master = world.master(&[]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let named = |name: &str| json!({"task_id": {"value": name}});
    let long = "y".repeat(10_000);
    // The first asks about nothing else, and not about everything.
    framework.accepted("RECONCILE", &json!({"tasks": [named(&long)]}));
    assert_eq!(framework.status()["task_id"]["value"], *long);
    framework.accepted("RECONCILE", &json!({"tasks": [named(&long), named("fine")]}));
    for name in [&*long, "fine"] {
        let status = framework.status();
        assert_eq!(status["task_id"]["value"], name);
        assert_eq!(
            [&status["state"], &status["reason"], &status["message"]],
            ["TASK_UNKNOWN", "REASON_RECONCILIATION", "Reconciliation: Task is unknown"]
        );
    }
    drop(framework);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn any_number_of_offers_is_declined_by_one_call() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let cluster = framework.id["value"].as_str().unwrap().split('-').next().unwrap().to_owned();
    let foreign = |number: u32| json!({"value": format!("{cluster}-1-O{}", number + 1_000_000)});
    let mut ids: Vec<Value> = (0..5_000).map(foreign).collect();
    ids.push(offer["id"].clone());
    let now = json!({"refuse_seconds": 0.0});
    framework.accepted("DECLINE", &json!({"offer_ids": ids, "filters": now}));
    // It was among them.
    assert_ne!(framework.offer()["id"], offer["id"]);
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn constraints_that_are_too_long_change_nothing() {
    let world = World::new();
    let master = world.master(&[]);
    let framework = Framework::subscribe(&master, &json!({"name": "before"}));
    let one = json!({"selector": {"attribute_name": "rack"},
        "predicate": {"text_equals": {"value": "x".repeat(200)}}});
    let all = vec![one; 400];
    let constraints =
        json!({"role_constraints": {"*": {"groups": [{"attribute_constraints": all}]}}});
    let mut call = subscription(&json!({"name": "after"}));
    let mut info = call["subscribe"]["framework_info"].clone();
    info["id"] = framework.id.clone();
    let answer = framework.call(
        "UPDATE_FRAMEWORK",
        &json!({"framework_info": info, "offer_constraints": constraints}),
    );
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(read_at(master.port, "/frameworks")["frameworks"][0]["name"], "before");
    call["subscribe"]["offer_constraints"] = constraints;
    let answer = post(master.port, PATH, &[("Accept", "application/json")], &call);
    assert_eq!(answer.status, 400, "{}", answer.text());
    drop(framework);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_stream_that_nobody_reads_is_cut_off() {
    let world = World::new();
    let master = world.master(&["--max-stream-bytes", "64KiB"]);
    let framework = Framework::subscribe(&master, &json!({}));
    let many: Vec<Value> =
        (0..256).map(|number| json!({"task_id": {"value": format!("{number:0200}")}})).collect();
    let many = json!({"tasks": many});
    let cut = || {
        // 403: there is no stream any more.
        framework.call("RECONCILE", &many).status == 403
    };
    eventually(cut, || "the stream is still there".to_owned());
    let metrics = get(master.port, "/metrics");
    assert!(metrics.contains("\nmesita_master_scheduler_streams 0\n"), "{metrics}");
    assert!(metrics.contains("\nmesita_master_scheduler_stream_bytes 0\n"), "{metrics}");
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_framework_is_offered_only_the_agents_that_it_wants() {
    let world = World::new();
    let master = world.master(&[]);
    let agents = ["a", "b"].map(|rack| {
        let flags = [format!("--attributes=rack:{rack}"), format!("--hostname=host-{rack}")];
        master.agent(&[&flags[0], &flags[1], "--resources", "cpus:1;mem:64"])
    });
    let want = |rack: &str| {
        json!({"role_constraints": {"*": {"groups": [{"attribute_constraints": [
            {"selector": {"attribute_name": "rack"},
             "predicate": {"text_equals": {"value": rack}}}]}]}}})
    };
    let mut call = subscription(&json!({}));
    call["subscribe"]["offer_constraints"] = want("b");
    let mut events = Records::open(master.port, PATH, &JSON, call.to_string().as_bytes());
    let stream = events.headers.iter().find(|(name, _)| name == "Mesos-Stream-Id");
    let stream = stream.unwrap().1.clone();
    let id = events.until("SUBSCRIBED")["framework_id"].clone();
    let mut framework = Framework { port: master.port, events, id, stream, shown: None };
    // From the first offer on.
    let offers = framework.events.until("OFFERS")["offers"].clone();
    let host = |offer: &Value| offer["hostname"].as_str().unwrap().to_owned();
    let hosts: Vec<String> = offers.as_array().unwrap().iter().map(host).collect();
    assert_eq!(hosts, ["host-b"]);
    for offer in offers.as_array().unwrap() {
        framework.accepted(
            "DECLINE",
            &json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}}),
        );
    }
    let again = framework.events.until("OFFERS")["offers"].clone();
    assert!(again.as_array().unwrap().iter().all(|offer| host(offer) == "host-b"), "{again}");
    for (constraints, words) in [
        (json!({"role_constraints": {"web": {"groups": []}}}), "not in role 'web'"),
        (
            json!({"role_constraints": {"*": {"groups": [{"attribute_constraints": [
                {"selector": {"attribute_name": "rack"},
                 "predicate": {"text_matches": {"regex": "a(.*"}}}]}]}}}),
            "`a(.*` is no regular expression",
        ),
    ] {
        let mut call = subscription(&json!({}));
        call["subscribe"]["offer_constraints"] = constraints;
        let call = call.to_string();
        let mut events = Records::open(master.port, PATH, &JSON, call.as_bytes());
        let event = events.event().unwrap();
        assert!(event["error"]["message"].as_str().unwrap().contains(words), "{event}");
    }
    framework.accepted("TEARDOWN", &Value::Null);
    agents.into_iter().for_each(|agent| agent.leave());
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_framework_is_offered_only_the_hosts_that_a_pattern_matches() {
    let world = World::new();
    let master = world.master(&[]);
    let pi =
        |host: &str| master.agent(&[&format!("--hostname={host}"), "--resources=cpus:1;mem:64"]);
    let first = pi("web-2");
    let matching = |predicate: &str, regex: &str| {
        json!({"role_constraints": {"*": {"groups": [{"attribute_constraints": [
            {"selector": {"pseudoattribute_type": "HOSTNAME"},
             "predicate": {predicate: {"regex": regex}}}]}]}}})
    };
    let mut framework = Framework::subscribe(&master, &json!({}));
    let mut update = json!({"framework_info": subscription(&json!({}))["subscribe"]["framework_info"],
                            "offer_constraints": matching("text_matches", "pi-[0-9]+")});
    update["framework_info"]["id"] = framework.id.clone();
    let answer = framework.call("UPDATE_FRAMEWORK", &update);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let read = get(master.port, "/frameworks");
    assert!(read.contains(r#""regex":"pi-[0-9]+""#), "{read}");
    let told = post(master.port, "/api/v1", &[], &json!({"type": "GET_FRAMEWORKS"})).text();
    assert!(told.contains(r#""offer_constraints":{"role_constraints":{"*""#), "{told}");
    // What was offered before may have come already.
    let second = pi("pi-7");
    let third = pi("pi-x");
    let mut hosts = Vec::new();
    while !hosts.contains(&"pi-7".to_owned()) {
        let offer = framework.offer();
        hosts.push(offer["hostname"].as_str().unwrap().to_owned());
    }
    assert!(!hosts.contains(&"pi-x".to_owned()), "{hosts:?}");
    let said = world.told(&[
        "explain",
        framework.id["value"].as_str().unwrap(),
        "--master",
        &master.address(),
    ]);
    assert!(said.out.contains("pi-x: the framework wants other agents"), "{}", said.out);
    update["offer_constraints"] = matching("text_not_matches", "pi-[0-9]+");
    assert_eq!(framework.call("UPDATE_FRAMEWORK", &update).status, 200);
    while framework.offer()["hostname"] != "pi-x" {}
    framework.accepted("TEARDOWN", &Value::Null);
    [first, second, third].into_iter().for_each(|agent| agent.leave());
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_framework_that_asks_for_no_time_and_has_nothing_goes_when_it_leaves() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let framework = Framework::subscribe(&master, &json!({"failover_timeout": 0}));
    let mut update =
        json!({"framework_info": subscription(&json!({}))["subscribe"]["framework_info"]});
    update["framework_info"]["id"] = framework.id.clone();
    update["framework_info"]["user"] = json!("nobody");
    let answer = framework.call("UPDATE_FRAMEWORK", &update);
    let words = "Updating 'FrameworkInfo.user' is unsupported";
    assert!(answer.status == 400 && answer.text().contains(words), "{}", answer.text());
    let left = || read_at(master.port, "/frameworks")["frameworks"].as_array().unwrap().len();
    assert_eq!(left(), 1);
    drop(framework);
    eventually(|| left() == 0, || "it is kept for a minute".to_owned());
    // With a task it is waited for, and then its task is killed for that.
    let mut framework = Framework::subscribe(&master, &json!({"failover_timeout": 0}));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "runs", "sleep 1000")]);
    while framework.status()["state"] != "TASK_RUNNING" {}
    let mut info = json!({ "id": framework.id });
    info["failover_timeout"] = json!(0);
    drop(framework);
    eventually(
        || get(master.port, "/frameworks").contains(r#""active":false"#),
        || get(master.port, "/frameworks"),
    );
    let framework = Framework::subscribe(&master, &info);
    framework.accepted("TEARDOWN", &Value::Null);
    let words = r#""reason":"REASON_FRAMEWORK_REMOVED""#;
    let told = || post(master.port, "/api/v1", &[], &json!({"type": "GET_TASKS"})).text();
    eventually(|| told().contains(words), told);
    end(&world, master, agent);
}

#[test]
fn large_tasks_and_their_agent_outlive_a_restart_of_the_master() {
    let world = World::new();
    let mut master = world.master(&[]);
    let agent = master.agent(&["--resources", "cpus:2;mem:1024"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let tasks: Vec<Value> = (0..4)
        .map(|number| {
            let mut task = task(&offer, &format!("large-{number}"), "sleep 1000");
            task["labels"] = json!({"labels": [{"key": "k", "value": "v".repeat(3 << 20)}]});
            task
        })
        .collect();
    // One call of 12 MiB.
    framework.launch(&offer, &tasks);
    let mut running = std::collections::BTreeSet::new();
    while running.len() < 4 {
        let status = framework.status();
        assert_ne!(status["state"], "TASK_LOST", "{status}");
        if status["state"] == "TASK_RUNNING" {
            running.insert(status["task_id"]["value"].to_string());
        }
    }
    master.kill();
    master.start();
    let back = || {
        let rows = master.rows(&[]);
        rows.len() == 4 && rows.iter().all(|row| row["state"] == "TASK_RUNNING")
    };
    eventually(back, || format!("{:?}", master.rows(&["--agents"])));
    assert_eq!(master.run(&["--resources", "cpus:0.1;mem:16", "--", "true"]).end().status, 0);
    let call = json!({"type": "TEARDOWN", "teardown": {"framework_id": framework.id}});
    assert_eq!(post(master.port, "/api/v1", &[], &call).status, 200);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn no_ordinary_user_takes_all_the_room_that_there_is_for_frameworks() {
    if !crate::world::needs_root() {
        return;
    }
    let world = World::new();
    let (master, agent) = cluster(&world);
    // Each is a framework that says that it will come back in a year, and goes.
    let script = format!(
        r#"
import http.client, json
refused = 0
for number in range(40):
    call = {{"type": "SUBSCRIBE", "subscribe": {{"framework_info": {{
        "user": "nobody", "name": "n%d" % number, "failover_timeout": 1e9}}}}}}
    connection = http.client.HTTPConnection("127.0.0.1", {})
    connection.request("POST", "{PATH}", json.dumps(call), {{"Content-Type": "application/json"}})
    answer = connection.getresponse().read1(4096)
    refused += b"no room for another framework" in answer
    connection.close()
print(refused)
"#,
        master.port
    );
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut python = world.command_in(&nobody, "python3");
    python.args(["-c", &script]);
    let said = world.start(python).end();
    let refused: u32 = said.out.trim().parse().unwrap_or_else(|_| panic!("{}", said.err));
    assert!(refused >= 15, "{refused} of 40 were refused");
    assert_eq!(master.run(&["--resources", "cpus:0.1;mem:16", "--", "true"]).end().status, 0);
    end(&world, master, agent);
}

#[test]
fn tasks_of_a_framework_that_ends_are_killed_whatever_it_has_not_acknowledged() {
    let world = World::new();
    let (master, agent) = cluster(&world);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "unheard", "sleep 1000")]);
    framework.events.until("UPDATE");
    framework.accepted("TEARDOWN", &Value::Null);
    let is_killed = || {
        let rows = master.rows(&["--all"]);
        rows.iter().any(|row| row["id"] == "unheard" && row["state"] == "TASK_KILLED")
    };
    // Well before the agent says it again by itself, after ten seconds.
    let soon = crate::world::within(std::time::Duration::from_secs(8), is_killed);
    assert!(soon, "{:?}", master.rows(&["--all"]));
    end(&world, master, agent);
}
