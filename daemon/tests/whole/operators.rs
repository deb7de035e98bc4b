//! What operators do to agents and machines: lists of hosts, draining, absences, farewells.

use serde_json::{Value, json};

use crate::http::post;
use crate::reads::read_at;
use crate::scheduler_api::{Framework, task};
use crate::world::{Agent, Master, Process, Signal, World, eventually, get, send};

/// A task that never ends by itself.
fn endless(master: &Master<'_>, name: &str) -> Process {
    let run = master.run(&["--name", name, "--command", "echo here; exec sleep 1000"]);
    run.prints("here");
    run
}

fn told(world: &World, master: &Master<'_>, words: &[&str]) {
    let said = world.told(&[words, &["--master", &master.address()]].concat());
    assert_eq!(said.status, 0, "{words:?}: {}", said.err);
}

fn refused(world: &World, master: &Master<'_>, words: &[&str], why: &str) {
    let said = world.told(&[words, &["--master", &master.address()]].concat());
    assert!(said.status == 1 && said.err.contains(why), "{words:?}: {} {}", said.status, said.err);
}

fn state(master: &Master<'_>, host: &str) -> String {
    let rows = master.rows(&["--agents"]);
    let row = rows.iter().find(|row| row["hostname"] == host);
    row.map_or("none".to_owned(), |row| row["state"].as_str().unwrap().to_owned())
}

pub(crate) fn becomes(master: &Master<'_>, host: &str, wanted: &str) {
    let is = || state(master, host) == wanted;
    eventually(is, || format!("{host} {wanted}, not {}", state(master, host)));
}

/// Nothing is offered: a run ends without having found room.
fn finds_no_room(master: &Master<'_>) {
    let said = master.run(&["--wait", "1s", "--command", "true"]).end();
    assert_eq!(said.status, 3, "{}", said.err);
}

fn runs(master: &Master<'_>) {
    let said = master.run(&["--wait", "20s", "--command", "true"]).end();
    assert_eq!(said.status, 0, "{}", said.err);
}

#[test]
fn only_hosts_of_the_list_are_offered() {
    let world = World::new();
    let list = world.path("hosts");
    let master = world.master(&[&format!("--whitelist={}", list.display())]);
    // Until it can be read nothing is offered.
    master.process().says("No such file");
    std::fs::write(&list, "pi7\n").unwrap();
    let agent = master.agent(&["--hostname=pi1"]);
    finds_no_room(&master);
    std::fs::write(&list, "# both\npi7\npi1\n").unwrap();
    // The file is read again within 5 s.
    runs(&master);
    // What is refused changes nothing.
    let many: String = (0..5_000).map(|number| format!("host-{number}\n")).collect();
    std::fs::write(&list, many).unwrap();
    master.process().says("refused with status");
    runs(&master);
    std::fs::remove_file(&list).unwrap();
    runs(&master);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn a_drained_agent_is_empty_and_stays_so_whoever_is_killed() {
    let world = World::new();
    let mut master = world.master(&["--agent-timeout=3s"]);
    let mut agent = master.agent(&["--hostname=pi1"]);
    let run = endless(&master, "long");
    refused(&world, &master, &["drain", "pi9"], "no agent `pi9` is known");
    refused(&world, &master, &["reactivate", "pi1"], "not deactivated");
    told(&world, &master, &["drain", "pi1", "--grace", "1s"]);
    let said = run.end();
    assert!(said.status == 143 && said.err.contains("TASK_KILLED"), "{}", said.err);
    assert!(said.err.contains("REASON_AGENT_DRAINING"), "{}", said.err);
    becomes(&master, "pi1", "drained");
    // Since when is told wherever Mesos tells it.
    let since = |told: &Value| told["slaves"][0]["estimated_drain_start_time_seconds"].clone();
    let (slaves, state) = (read_at(master.port, "/slaves"), read_at(master.port, "/state"));
    assert!(since(&slaves).as_f64() > Some(1.7e9), "{slaves}");
    assert_eq!(since(&slaves), since(&state));
    let agents = || {
        let answer = post(master.port, "/api/v1", &[], &json!({"type": "GET_AGENTS"}));
        let told: Value = serde_json::from_str(&answer.text()).unwrap();
        told["get_agents"]["agents"][0]["estimated_drain_start_time"]["nanoseconds"].as_f64()
    };
    assert!(agents() > Some(1.7e18), "{:?}", agents());
    finds_no_room(&master);
    agent.kill();
    agent.start();
    becomes(&master, "pi1", "drained");
    master.kill();
    master.start();
    becomes(&master, "pi1", "drained");
    finds_no_room(&master);
    told(&world, &master, &["reactivate", "pi1"]);
    becomes(&master, "pi1", "active");
    assert_eq!(since(&read_at(master.port, "/slaves")), Value::Null);
    runs(&master);
    told(&world, &master, &["deactivate", "pi1"]);
    becomes(&master, "pi1", "deactivated");
    told(&world, &master, &["reactivate", "pi1"]);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn an_agent_that_is_marked_gone_ends_and_may_not_come_back() {
    let world = World::new();
    let master = world.master(&[]);
    let mut agent = master.agent(&["--hostname=pi1"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "t", "exec sleep 1000")]);
    while framework.status()["state"] != "TASK_RUNNING" {}
    let gone =
        json!({"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": offer["agent_id"]}});
    assert_eq!(post(master.port, "/api/v1", &[], &gone).status, 200);
    let status = framework.status();
    assert_eq!(status["state"], "TASK_GONE_BY_OPERATOR");
    assert_eq!(status["reason"], "REASON_AGENT_REMOVED_BY_OPERATOR");
    eventually(|| agent.process().has_ended(), || "the agent to end".to_owned());
    agent.start();
    agent.process().says("marked this agent gone; start it with a new work dir");
    eventually(|| agent.process().has_ended(), || "the agent to end again".to_owned());
    assert_eq!(post(master.port, "/api/v1", &[], &gone).status, 200, "once more is no mistake");
    drop(framework);
    master.stop();
    world.nothing_is_left();
}

/// What the operator API answers to a call without arguments.
fn ask(master: &Master<'_>, kind: &str) -> Value {
    let answer = post(master.port, "/api/v1", &[], &json!({"type": kind}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

fn operates(master: &Master<'_>, call: &Value, status: u16) -> String {
    let answer = post(master.port, "/api/v1", &[], call);
    assert_eq!(answer.status, status, "{call}: {}", answer.text());
    answer.text()
}

#[test]
fn weights_are_all_set_or_none() {
    let world = World::new();
    let master = world.master(&[]);
    let weights = json!([{"role": "fine", "weight": 2.0}, {"role": "/bad", "weight": 2.0}]);
    let call = json!({"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": weights}});
    let told = operates(&master, &call, 400);
    assert!(told.contains("Invalid weight for role '/bad': Role '/bad' "), "{told}");
    assert!(!ask(&master, "GET_WEIGHTS").to_string().contains("fine"));
    // Nothing is done for who could not read the answer.
    let call = json!({"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [weights[0]]}});
    let headers = [("Content-Type", "application/json"), ("Accept", "text/html")];
    let body = call.to_string();
    let answer = crate::http::ask(master.port, "POST", "/api/v1", &headers, body.as_bytes());
    assert_eq!(answer.status, 406, "{}", answer.text());
    assert!(!ask(&master, "GET_WEIGHTS").to_string().contains("fine"));
    master.stop();
    world.nothing_is_left();
}

fn planned(host: &str) -> Value {
    let unavailability = json!({"start": {"nanoseconds": 1_795_000_000_000_000_000_i64},
               "duration": {"nanoseconds": 60_000_000_000_i64}});
    json!({"type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule": {
        "schedule": {"windows": [{"machine_ids": [{"hostname": host}],
                                  "unavailability": unavailability}]}}})
}

fn machines(kind: &str, host: &str) -> Value {
    json!({"type": kind, kind.to_lowercase(): {"machines": [{"hostname": host}]}})
}

#[test]
fn a_machine_that_will_be_absent_is_asked_for_and_then_goes() {
    let world = World::new();
    let master = world.master(&[]);
    let mut agent = master.agent(&["--hostname=Pi1", "--resources=cpus:2;mem:256"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    assert!(offer["unavailability"].is_null());
    framework.launch(&offer, &[task(&offer, "t", "exec sleep 1000")]);
    while framework.status()["state"] != "TASK_RUNNING" {}
    operates(&master, &planned("pi1"), 200);
    let schedule = ask(&master, "GET_MAINTENANCE_SCHEDULE");
    let windows = &schedule["get_maintenance_schedule"]["schedule"]["windows"];
    assert_eq!(windows[0]["machine_ids"], json!([{"hostname": "pi1"}]));
    assert_eq!(windows[0]["unavailability"]["duration"]["nanoseconds"], 60_000_000_000_i64);
    // The task's framework is asked for what it has; offers say when the machine goes.
    let asked = framework.events.until("INVERSE_OFFERS")["inverse_offers"][0].clone();
    assert_eq!(asked["agent_id"], offer["agent_id"]);
    assert_eq!(asked["unavailability"]["start"]["nanoseconds"], 1_795_000_000_000_000_000_i64);
    let frameworks = ask(&master, "GET_FRAMEWORKS");
    let told = &frameworks["get_frameworks"]["frameworks"][0]["inverse_offers"][0];
    assert_eq!(told["id"], asked["id"]);
    framework.accepted(
        "ACCEPT_INVERSE_OFFERS",
        &json!({"inverse_offer_ids": [asked["id"]], "filters": {"refuse_seconds": 1}}),
    );
    let answers = || ask(&master, "GET_MAINTENANCE_STATUS")["get_maintenance_status"].clone();
    let first = |told: &Value| told["status"]["draining_machines"][0]["statuses"][0].clone();
    eventually(|| first(&answers())["status"] == "ACCEPT", || answers().to_string());
    assert_eq!(first(&answers())["framework_id"], framework.id);
    framework.events.until("INVERSE_OFFERS");
    let body = get(master.port, "/maintenance/status");
    assert!(body.contains("\"ACCEPT\""), "{body}");
    // Emptying it otherwise is no use; what is not planned cannot go.
    refused(&world, &master, &["drain", "Pi1"], "maintenance window");
    let plan = |machines: Value| {
        let start = json!({ "start": { "nanoseconds": 1_000_000 } });
        let windows = json!([{ "machine_ids": machines, "unavailability": start }]);
        json!({
            "type": "UPDATE_MAINTENANCE_SCHEDULE",
            "update_maintenance_schedule": { "schedule": { "windows": windows } },
        })
    };
    let nowhere = operates(&master, &plan(json!([{ "ip": "10.0.0" }])), 400);
    assert!(nowhere.contains("'10.0.0' is no IP address"), "{nowhere}");
    assert!(operates(&master, &plan(json!([{}])), 400).contains("are empty"));
    let many: Vec<Value> = (0..2_000).map(|n| json!({ "hostname": format!("h{n}") })).collect();
    let many = operates(&master, &plan(json!(many)), 400);
    assert!(many.contains("2000 machines in a call: at most"), "{many}");
    let empty = json!({"type": "UPDATE_MAINTENANCE_SCHEDULE"});
    assert!(operates(&master, &empty, 400).contains("to be present"));
    operates(&master, &machines("START_MAINTENANCE", "pi9"), 400);
    operates(&master, &machines("STOP_MAINTENANCE", "pi1"), 400);
    operates(&master, &machines("START_MAINTENANCE", "pi1"), 200);
    let status = framework.end_of("t");
    assert_eq!((&status["state"], &status["reason"]), (&json!("TASK_LOST"), &removed()));
    eventually(|| agent.process().has_ended(), || "the agent to end".to_owned());
    assert_eq!(answers()["status"]["down_machines"], json!([{"hostname": "pi1"}]));
    agent.start();
    agent.process().says("the machine is down for maintenance");
    operates(&master, &planned("pi2"), 400);
    operates(&master, &machines("STOP_MAINTENANCE", "pi1"), 200);
    becomes(&master, "Pi1", "active");
    assert_eq!(answers()["status"], json!({}));
    let offer = framework.offer();
    assert!(offer["unavailability"].is_null());
    drop(framework);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

fn removed() -> Value {
    json!("REASON_AGENT_REMOVED")
}

#[test]
fn absences_are_planned_from_the_command_line() {
    let world = World::new();
    let master = world.master(&[]);
    let agents: Vec<Agent<'_>> =
        ["pi1", "pi2"].map(|host| master.agent(&[&format!("--hostname={host}")])).into();
    told(
        &world,
        &master,
        &["maintenance", "plan", "PI1", "10.0.0.9", "--in", "1hrs", "--for", "5m"],
    );
    told(&world, &master, &["maintenance", "plan", "pi2"]);
    let said = world.told(&["maintenance", "ls", "--master", &master.address()]);
    let lines: Vec<Vec<&str>> =
        said.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1][..3], ["pi1", "-", "DRAINING"], "{}", said.out);
    assert_eq!(lines[2][..3], ["-", "10.0.0.9", "DRAINING"], "{}", said.out);
    assert_eq!(lines[3], ["pi2", "-", "DRAINING", "now", "good"], "{}", said.out);
    told(&world, &master, &["maintenance", "start", "pi2"]);
    becomes(&master, "pi2", "gone");
    let down = ["maintenance", "drop", "pi2"];
    refused(&world, &master, &down, "down for maintenance");
    told(&world, &master, &["maintenance", "stop", "pi2"]);
    told(&world, &master, &["maintenance", "drop", "pi1", "10.0.0.9"]);
    let said = world.told(&["maintenance", "drop", "pi1", "--master", &master.address()]);
    assert_eq!(said.status, 2, "{}", said.err);
    let said = world.told(&["maintenance", "ls", "--master", &master.address()]);
    assert_eq!(said.out.lines().count(), 1, "{}", said.out);
    let [first, second] = <[Agent<'_>; 2]>::try_from(agents).ok().unwrap();
    eventually(|| second.process().has_ended(), || "the agent of pi2 to end".to_owned());
    first.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn top_shows_what_there_is_once_in_a_file_and_as_it_changes_on_a_terminal() {
    let world = World::new();
    let master = world.master(&[]);
    let agent = master.agent(&["--hostname=pi1", "--resources=cpus:4;mem:1024"]);
    let first = endless(&master, "first");
    let said = world.told(&["top", "--master", &master.address()]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.out.contains("cpus [|||||               ] 1/4"), "{}", said.out);
    assert!(said.out.contains("pi1    active  1      1/4"), "{}", said.out);
    assert!(said.out.contains("first  RUNNING  pi1"), "{}", said.out);
    // A terminal, as script(1) makes one.
    let line = format!("{} top --master {}", world.binary().display(), master.address());
    let mut command = world.command_in(&["script", "-q", "-e", "-c"], &line);
    command.arg("/dev/null").env("TERM", "xterm");
    let live = world.start(command);
    live.prints("first  RUNNING  pi1");
    let second = endless(&master, "second");
    live.prints("second  RUNNING  pi1");
    live.prints("cpus [||||||||||          ] 2/4");
    let is_top = |called: &str| called.starts_with("mesita: ") && called.contains(" top ");
    let (top, _) = world.processes().into_iter().find(|(_, called)| is_top(called)).unwrap();
    send(top, Signal::INT);
    let said = live.end();
    assert_eq!(said.status, 0, "{}", said.out);
    // The terminal is as it was.
    assert!(said.out.trim_end().ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{:?}", said.out);
    let said = world.told(&["top", "--master", "127.0.0.1:1"]);
    assert_eq!(said.status, 4, "{}", said.err);
    drop((first, second));
    agent.leave();
    master.stop();
    world.nothing_is_left();
}
