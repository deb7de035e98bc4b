//! Isolators that are on where they are named, and what a task asks of them.

use std::path::Path;

use serde_json::{Value, json};

use crate::inner::call;
use crate::reads::{operate_at, read_at};
use crate::scheduler_api::{Framework, end, task};
use crate::world::{World, eventually, get, needs_root};

#[test]
fn a_task_has_users_a_network_and_a_tmp_of_its_own_where_they_are_named() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let range = format!("--container-network=10.213.{}.16/28", std::process::id() % 256);
    let agent = master.agent(&[
        "--isolation=all,namespaces/user,namespaces/net,network/bandwidth,filesystem/shared",
        &range,
        "--egress-rate-limit-per-container=10MB",
        "--resources=cpus:2;mem:1024",
    ]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let name = format!("mesita-own-{}", std::process::id());
    let line = format!(
        "perl -MIO::Socket::INET -e \
         '$s = IO::Socket::INET->new(LocalPort => 24444, Listen => 5); sleep 1000' & \
         echo own > /var/tmp/{name}; echo $MESOS_CONTAINER_IP > address; cat /proc/self/uid_map > map; hostname > called; \
         cat /proc/net/dev > devices; touch done; sleep 1000"
    );
    let mut own = task(&offer, "own", &line);
    own["command"]["user"] = json!("nobody");
    own["container"] = json!({"type": "MESOS", "hostname": "of-the-task",
        "linux_info": {"ipc_mode": "PRIVATE"}});
    // It listens where nobody of this machine does.
    own["check"] = json!({"type": "TCP", "tcp": {"port": 24444}, "delay_seconds": 0,
        "interval_seconds": 0.1});
    // What the agent has no task shares.
    let mut refused = vec![
        ("processes", json!({"share_pid_namespace": true}), "share the processes of its agent"),
        ("root", json!({}), "would run as root"),
        ("ipc", json!({"ipc_mode": "SHARE_PARENT"}), "share the IPC of its agent"),
    ];
    let asking = refused.iter().map(|(name, asks, _)| {
        let mut shares = task(&offer, name, "true");
        let user = if *name == "root" { "root" } else { "nobody" };
        shares["command"]["user"] = json!(user);
        shares["container"] = json!({"type": "MESOS", "linux_info": asks});
        shares
    });
    let all: Vec<Value> = asking.chain([own]).collect();
    framework.launch(&offer, &all);
    let mut runs = Value::Null;
    while runs.is_null() || !refused.is_empty() {
        let status = framework.status();
        let message = status["message"].as_str().unwrap_or_default();
        if message.contains("cannot link its network to the host's") {
            println!("SKIPPED: {message}: this kernel has no veth, or no sch_tbf");
            framework.accepted("TEARDOWN", &Value::Null);
            return end(&world, master, agent);
        }
        if status["task_id"]["value"] == "own" {
            // Never at its agent's.
            for network in
                status["container_status"]["network_infos"].as_array().into_iter().flatten()
            {
                let address = network["ip_addresses"][0]["ip_address"].as_str().unwrap();
                assert!(address.starts_with("10.213."), "{status}");
            }
        }
        if status["check_status"]["tcp"]["succeeded"] == true {
            runs = status["container_status"].clone();
        }
        if status["state"] == "TASK_FAILED" {
            let of = |(name, ..): &(&str, Value, &str)| status["task_id"]["value"] == *name;
            let (_, _, words) = refused.remove(refused.iter().position(of).expect("it runs"));
            assert_eq!(status["reason"], "REASON_CONTAINER_LAUNCH_FAILED", "{status}");
            assert!(message.contains(words), "{status}");
        }
    }
    let status = runs;
    let container = &status["container_id"]["value"];
    let address = &status["network_infos"][0]["ip_addresses"][0]["ip_address"];
    let address = address.as_str().unwrap();
    assert!(address.starts_with("10.213."), "{status}");
    let sandbox = agent.work_dir().join("sandboxes").join(container.as_str().unwrap());
    eventually(|| sandbox.join("done").exists(), || "the task".to_owned());
    let said = |file: &str| std::fs::read_to_string(sandbox.join(file)).unwrap();
    assert_eq!(said(&format!("shared/var-tmp/{name}")), "own\n");
    assert!(!Path::new("/var/tmp").join(&name).exists());
    assert_eq!(said("map").lines().count(), 1, "one user: {}", said("map"));
    assert_eq!(said("called"), "of-the-task\n");
    assert_eq!(said("address"), format!("{address}\n"));
    for port in [agent.port, master.port] {
        let state = read_at(port, "/state");
        let told = &state["frameworks"][0];
        let row = if port == master.port { told } else { &told["executors"][0] };
        let own = row["tasks"].as_array().unwrap().iter().find(|row| row["id"] == "own").unwrap();
        for status in own["statuses"].as_array().unwrap() {
            let networks = &status["container_status"]["network_infos"];
            assert_eq!(networks[0]["ip_addresses"][0]["ip_address"], address, "{own}");
        }
        let tasks = &operate_at(port, "GET_TASKS");
        let tasks = if port == master.port { &tasks["tasks"] } else { &tasks["launched_tasks"] };
        for status in tasks[0]["statuses"].as_array().unwrap() {
            let networks = &status["container_status"]["network_infos"];
            assert_eq!(networks[0]["ip_addresses"][0]["ip_address"], address, "{tasks}");
        }
    }
    // What is inside of it finds it as well.
    let inside = json!({"value": "inside", "parent": status["container_id"]});
    let command = json!({"value": "echo $MESOS_CONTAINER_IP"});
    let part = json!({"container_id": inside, "command": command});
    assert_eq!(call(agent.port, "/api/v1", "LAUNCH_NESTED_CONTAINER", &part).status, 200);
    let found =
        || std::fs::read_to_string(sandbox.join("containers/inside/stdout")).unwrap_or_default();
    eventually(|| found() == format!("{address}\n"), found);
    assert!(said("devices").contains("eth0:"), "{}", said("devices"));
    let told = read_at(agent.port, "/monitor/statistics");
    let statistics = &told[0]["statistics"];
    for count in ["net_tx_bytes", "net_tx_errors", "net_rx_errors"] {
        assert!(statistics[count].is_u64(), "{count}: {told}");
    }
    if statistics["mem_swap_bytes"].is_u64() {
        let both = statistics["mem_total_memsw_bytes"].as_u64();
        assert!(both >= statistics["mem_total_bytes"].as_u64(), "{told}");
    }
    assert_eq!(statistics["net_tx_rate_limit"], 10 << 20, "{told}");
    let metrics = get(agent.port, "/metrics/containers");
    let executor = |line: &str| line.contains(r#"executor="own"} "#);
    for name in ["network_sent_bytes_total", "memory_bytes", "cpu_user_seconds_total", "disk_bytes"]
    {
        let own =
            metrics.lines().filter(|line| line.starts_with(&format!("mesita_container_{name}{{")));
        assert_eq!(own.filter(|line| executor(line)).count(), 1, "{name}: {metrics}");
    }
    let listed = world.told(&["ps", "--usage", "--master", &master.address()]).out;
    let own: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((own[0], own[1], own.len()), ("own", "RUNNING", 8), "{listed}");
    assert!(!own[3..].contains(&"-"), "{listed}");
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn an_isolator_from_outside_is_asked_about_each_process_once_and_before_its_task_runs() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let (log, refuses) = (world.path("log"), world.path("refuses"));
    let text = format!(
        "#!/bin/sh\necho $1 >>{}\n[ $1 != isolate ] || [ ! -e {} ] || echo '{{\"error\": \"not that one\"}}'\n",
        log.display(),
        refuses.display()
    );
    let path = world.path("isolator");
    std::fs::write(&path, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).unwrap();
    let master = world.master(&[]);
    let mut agent = master.agent(&[&format!("--isolation=all,exec:{}", path.display())]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let mut open = task(&offer, "open", "true");
    open["container"] = json!({"type": "MESOS", "linux_info": {"seccomp": {"unconfined": true}}});
    framework.launch(&offer, &[task(&offer, "runs", "sleep 1000"), open]);
    let (mut runs, mut refused) = (false, false);
    while !runs || !refused {
        let status = framework.status();
        let message = status["message"].as_str().unwrap_or_default();
        runs |= status["task_id"]["value"] == "runs" && status["state"] == "TASK_RUNNING";
        refused |= status["state"] == "TASK_FAILED" && message.contains("--seccomp-unconfined");
    }
    let count = |word: &str| {
        let told = std::fs::read_to_string(&log).unwrap();
        told.lines().filter(|line| *line == word).count()
    };
    assert_eq!(count("isolate"), 1);
    agent.kill();
    agent.start();
    let offer = framework.offer();
    std::fs::write(&refuses, "").unwrap();
    framework.launch(&offer, &[task(&offer, "refused", "sleep 1000")]);
    loop {
        let status = framework.status();
        if status["task_id"]["value"] != "refused" || status["state"] == "TASK_STARTING" {
            continue;
        }
        // That offer was of the agent's session before.
        if status["state"] == "TASK_DROPPED" {
            let offer = framework.offer();
            framework.launch(&offer, &[task(&offer, "refused", "sleep 1000")]);
            continue;
        }
        assert_eq!(status["state"], "TASK_FAILED", "{status}");
        assert_eq!(status["reason"], "REASON_CONTAINER_LAUNCH_FAILED", "{status}");
        assert!(status["message"].as_str().unwrap().contains("not that one"), "{status}");
        break;
    }
    // Not again for the one that ran on, and what was refused leaves nothing.
    assert_eq!(count("isolate"), 2);
    let below = |at: &Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(at).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let containers = || {
        let agents = world.cgroups().iter().flat_map(|root| below(root)).collect::<Vec<_>>();
        let all = agents.iter().flat_map(|agent| below(agent));
        let names = all.map(|path| path.file_name().unwrap().to_owned());
        let names = names.filter(|name| name.to_string_lossy().contains('-'));
        names.collect::<std::collections::BTreeSet<_>>()
    };
    eventually(|| containers().len() <= 1, || format!("{:?}", containers()));
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

#[test]
fn a_program_begins_when_isolators_from_outside_have_answered_and_never_if_they_refuse() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let (ran, asked, answer) = (world.path("ran"), world.path("asked"), world.path("answer"));
    // It gives a program that would begin by itself the time to.
    let text = format!(
        "#!/bin/sh\n[ $1 = isolate ] || exit 0\ncat > /dev/null\necho asked > {}\n\
         for i in 1 2 3 4 5 6 7 8 9 10; do [ -e {} ] && break; sleep 0.1; done\n\
         while [ ! -e {answer} ]; do sleep 0.05; done\ncat {answer}\n",
        asked.display(),
        ran.display(),
        answer = answer.display(),
    );
    let path = world.path("isolator");
    std::fs::write(&path, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).unwrap();
    let named = format!("exec:{}", path.display());
    for isolation in [format!("--isolation=all,{named}"), format!("--isolation={named}")] {
        std::fs::write(&answer, "{\"error\": \"not that one\"}").unwrap();
        let master = world.master(&[]);
        let writable = format!("--writable={}", world.path("").display());
        let mut agent = master.agent(&[&isolation, &writable]);
        let knows =
            json!({"capabilities": [{"type": "MULTI_ROLE"}, {"type": "TASK_KILLING_STATE"}]});
        let mut framework = Framework::subscribe(&master, &knows);
        let line = format!("echo ran > {}; sleep 1000", ran.display());
        let short = format!("echo ran > {}", ran.display());
        let launch = |framework: &mut Framework, name: &str, line: &str| {
            let offer = framework.offer();
            let mut one = task(&offer, name, line);
            one["command"]["user"] = json!("root");
            framework.launch(&offer, &[one]);
        };
        launch(&mut framework, "refused", &short);
        let status = framework.end_of("refused");
        assert_eq!(status["state"], "TASK_FAILED", "{status}");
        assert_eq!(status["reason"], "REASON_CONTAINER_LAUNCH_FAILED", "{status}");
        assert!(status["message"].as_str().unwrap().contains("not that one"), "{status}");
        assert!(!ran.exists(), "it ran before it was refused");
        // Who is killed meanwhile never runs either.
        let begin = |framework: &mut Framework, name: &str| {
            std::fs::remove_file(&answer).unwrap();
            std::fs::remove_file(&asked).unwrap();
            launch(framework, name, &short);
            eventually(|| asked.exists(), || "a question".to_owned());
        };
        begin(&mut framework, "killed");
        framework.accepted("KILL", &json!({"task_id": {"value": "killed"}}));
        while framework.status()["state"] != "TASK_KILLING" {}
        std::fs::write(&answer, "{}").unwrap();
        let status = framework.end_of("killed");
        assert_eq!(status["state"], "TASK_KILLED", "{status}");
        assert!(!ran.exists(), "it ran though it was killed");
        // Nor does one whose agent has died: the next one does not know what it was told.
        begin(&mut framework, "lost");
        agent.kill();
        std::fs::write(&answer, "{}").unwrap();
        agent.start();
        let status = framework.end_of("lost");
        assert_ne!(status["state"], "TASK_FINISHED", "{status}");
        assert!(!ran.exists(), "it ran though nobody has said that it may");
        launch(&mut framework, "runs", &line);
        loop {
            let status = framework.status();
            match (status["task_id"]["value"].as_str(), status["state"].as_str()) {
                (Some("runs"), Some("TASK_RUNNING")) => break,
                // That offer was of the agent's session before.
                (Some("runs"), Some("TASK_DROPPED")) => launch(&mut framework, "runs", &line),
                (Some("runs"), Some("TASK_STARTING")) => {}
                _ => assert_ne!(status["task_id"]["value"], "runs", "{status}"),
            }
        }
        eventually(|| ran.exists(), || "its run".to_owned());
        std::fs::remove_file(&ran).unwrap();
        framework.accepted("TEARDOWN", &Value::Null);
        end(&world, master, agent);
    }
}

#[test]
fn a_task_of_root_neither_moves_nor_finds_the_work_directory_of_a_master_beside_its_agents() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let master = world.master(&[]);
    let writable = format!("--writable={}", world.path("").display());
    let agent = master.agent(&[&writable]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    let of_master = world.path(&format!("master-{}", master.port));
    assert!(of_master.join("meta").exists());
    let at = of_master.display();
    let line = format!("! mv {at} {at}-moved; ls -A {at} | wc -l; ! touch {at}/meta/new");
    let mut moves = task(&offer, "moves", &line);
    moves["command"]["user"] = json!("root");
    framework.launch(&offer, &[moves]);
    let status = framework.end_of("moves");
    assert_eq!(status["state"], "TASK_FINISHED", "{status}");
    assert!(of_master.join("meta").exists() && !of_master.join("meta/new").exists());
    let work_dir = agent.work_dir().display().to_string();
    let told = world.sandboxes(&work_dir).into_iter().map(|path| path.join("stdout"));
    let told: Vec<String> = told.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert_eq!(told, ["0\n"]);
    framework.accepted("TEARDOWN", &Value::Null);
    end(&world, master, agent);
}

/// Asks its agent for a container inside of its own.
const ASKS: &str = r#"
call='{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "kid",
    "parent": {"value": "'$(basename $MESOS_SANDBOX)'"}}, "command": {"value": "true"}}}'
exec 3<>/dev/tcp/${MESOS_AGENT_ENDPOINT%:*}/${MESOS_AGENT_ENDPOINT#*:}
printf 'POST /api/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n' >&3
printf 'Content-Type: application/json\r\n' >&3
printf 'Authorization: Bearer %s\r\n' "$MESOS_EXECUTOR_AUTHENTICATION_TOKEN" >&3
printf 'Content-Length: %d\r\n\r\n%s' ${#call} "$call" >&3
cat <&3 > answer.new; mv answer.new answer
sleep 1000
"#;

#[test]
fn an_executor_with_a_network_of_its_own_reaches_its_agent_or_is_refused() {
    if !needs_root() {
        return;
    }
    // The address by which this machine would go elsewhere.
    let own = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = own.connect("192.0.2.1:9").and_then(|()| own.local_addr()).map(|own| own.ip());
    let own = own.ok().map(|own| own.to_string());
    for (ip, at) in [Some("127.0.0.1"), own.as_deref()].into_iter().flatten().zip([32, 48]) {
        let world = World::new();
        let master = world.master(&[]);
        let range = format!("--container-network=10.213.{}.{at}/28", std::process::id() % 256);
        let (ip, open) = (format!("--ip={ip}"), ip != "127.0.0.1");
        let mut flags = vec!["--isolation=all,namespaces/net", &range, &ip];
        flags.extend(open.then_some("--insecure"));
        let agent = master.agent(&flags);
        let mut framework = Framework::subscribe(&master, &json!({}));
        let offer = framework.offer();
        let mut given = task(&offer, "given", "");
        given.as_object_mut().unwrap().remove("command");
        let resources = given["resources"].clone();
        given["executor"] = json!({"type": "CUSTOM", "executor_id": {"value": "asks"},
            "command": {"shell": false, "value": "/bin/bash", "arguments": ["bash", "-c", ASKS]},
            "resources": resources});
        framework.launch(&offer, &[given]);
        if !open {
            let status = framework.end_of("given");
            let message = status["message"].as_str().unwrap();
            let words = "alone, which an executor with a network of its own does not reach";
            if !message.contains("cannot link its network") {
                assert!(message.contains(words), "{status}");
            }
            end(&world, master, agent);
            continue;
        }
        let work_dir = agent.work_dir().display().to_string();
        let answer = || {
            if !agent.work_dir().join("sandboxes").exists() {
                return None;
            }
            let files = world.sandboxes(&work_dir).into_iter().map(|path| path.join("answer"));
            files.filter_map(|path| std::fs::read_to_string(path).ok()).next()
        };
        let unable = || agent.process().err().contains("cannot link its network");
        eventually(|| answer().is_some() || unable(), || "an answer".to_owned());
        if let Some(answer) = answer() {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        } else {
            println!("SKIPPED: this kernel has no veth");
        }
        framework.accepted("TEARDOWN", &Value::Null);
        end(&world, master, agent);
    }
}
