//! Tasks that stand on images: made here, of this machine's static busybox.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::devices::with_device;
use crate::http::post;
use crate::scheduler_api::{Framework, end, task};
use crate::world::{Agent, Master, NOBODY, World, eventually, get, is_root};

/// A program that needs no library.
const BUSYBOX: &str = "/bin/busybox";
/// Programs that it is by other names.
const PROGRAMS: [&str; 14] = [
    "sh", "ls", "cat", "id", "pwd", "env", "sleep", "touch", "echo", "mount", "stat", "mknod",
    "rm", "test",
];

/// True when tasks can stand on images here; says why a test is skipped otherwise.
pub(crate) fn can_stand() -> bool {
    let has = Path::new(BUSYBOX).exists();
    if !has || !is_root() {
        println!("SKIPPED: needs root, and {BUSYBOX} of Debian's busybox-static");
    }
    has && is_root()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Appends one entry; of a link the contents are where it leads.
fn append(tar: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, mode: u32, contents: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    if kind.is_symlink() {
        header.set_size(0);
        let target = std::str::from_utf8(contents).unwrap();
        tar.append_link(&mut header, path, target).unwrap();
    } else {
        header.set_size(contents.len() as u64);
        tar.append_data(&mut header, path, contents).unwrap();
    }
}

/// A layer with busybox, and one that changes it.
fn layers() -> [Vec<u8>; 2] {
    let mut lower = Builder::new(Vec::new());
    append(&mut lower, EntryType::Directory, "bin/", 0o755, b"");
    append(&mut lower, EntryType::Regular, "bin/busybox", 0o755, &fs::read(BUSYBOX).unwrap());
    for program in PROGRAMS {
        append(&mut lower, EntryType::Symlink, &format!("bin/{program}"), 0o777, b"busybox");
    }
    let users = b"root:x:0:0::/:/bin/sh\napp:x:1234:1235::/:/bin/sh\n";
    append(&mut lower, EntryType::Regular, "etc/passwd", 0o644, users);
    append(&mut lower, EntryType::Regular, "removed", 0o644, b"lower");
    append(&mut lower, EntryType::Regular, "made-of", 0o644, b"lower");
    append(&mut lower, EntryType::Directory, "tmp/", 0o1777, b"");
    let mut upper = Builder::new(Vec::new());
    append(&mut upper, EntryType::Regular, ".wh.removed", 0o644, b"");
    append(&mut upper, EntryType::Regular, "made-of", 0o644, b"two layers\n");
    append(&mut upper, EntryType::Directory, "srv/", 0o755, b"");
    [lower, upper].map(|tar| tar.into_inner().unwrap())
}

/// An image as `docker save` writes it.
fn saved(name: &str, config: &Value) -> Vec<u8> {
    let layers = layers();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let digests: Vec<String> =
        layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
    let configuration = json!({"architecture": architecture, "os": "linux", "config": config,
                               "rootfs": {"type": "layers", "diff_ids": digests}});
    let configuration = configuration.to_string();
    let path = format!("{}.json", hex(configuration.as_bytes()));
    let manifest = json!([{"Config": path, "RepoTags": [name],
                           "Layers": ["0/layer.tar", "1/layer.tar"]}]);
    let mut tar = Builder::new(Vec::new());
    let mut put = |path: &str, bytes: &[u8]| {
        append(&mut tar, EntryType::Regular, path, 0o644, bytes);
    };
    put("0/layer.tar", &layers[0]);
    put("1/layer.tar", &layers[1]);
    put(&path, configuration.as_bytes());
    put("manifest.json", manifest.to_string().as_bytes());
    tar.into_inner().unwrap()
}

/// The same archive with something before all of it.
pub(crate) fn preceded(archive: &[u8]) -> Vec<u8> {
    /// What says that nothing follows.
    const END: usize = 1024;
    let mut tar = Builder::new(Vec::new());
    append(&mut tar, EntryType::Regular, "before", 0o644, &[7; 1000]);
    let mut bytes = tar.into_inner().unwrap();
    bytes.truncate(bytes.len() - END);
    [bytes.as_slice(), archive].concat()
}

/// A registry with an image that runs something by itself.
pub(crate) fn registry(world: &World) -> PathBuf {
    let directory = world.path("registry");
    fs::create_dir_all(directory.join("acme")).unwrap();
    let config = json!({"Entrypoint": ["/bin/echo", "from the image:"], "Cmd": ["and", "more"],
                        "Env": ["GREETING=hello", "PATH=/bin", "MESOS_SANDBOX=/nowhere"],
                        "WorkingDir": "/srv", "User": "app"});
    fs::write(directory.join("acme/app:v1.tar"), saved("acme/app:v1", &config)).unwrap();
    fs::write(directory.join("plain.tar"), saved("plain:latest", &json!({}))).unwrap();
    directory
}

fn cluster<'w>(world: &'w World, more: &[&str]) -> (Master<'w>, Agent<'w>) {
    // An offer that is passed over while something else is waited for comes again soon.
    let master = world.master(&["--offer-timeout=5secs"]);
    let registry = registry(world);
    let flag = format!("--docker-registry={}", registry.display());
    let agent = master.agent(&[&[&*flag, "--resources=cpus:4;mem:1024;disk:1000"], more].concat());
    (master, agent)
}

fn on_image(mut task: Value, name: &str) -> Value {
    task["container"] =
        json!({"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": name}}}});
    task
}

/// Directories of containers that stand on images.
fn provisioned(agent: &Agent<'_>) -> usize {
    fs::read_dir(agent.work_dir().join("provisioner")).unwrap().count()
}

pub(crate) fn gauge(agent: &Agent<'_>, name: &str) -> String {
    let told = get(agent.port, "/metrics");
    let is = |line: &&str| !line.starts_with('#') && line.contains(&format!("_{name} "));
    let line = told.lines().find(is).unwrap_or_default();
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_task_stands_on_its_image_and_sees_nothing_of_the_machine() {
    if !can_stand() {
        return;
    }
    let world = World::new();
    for backend in ["overlay", "copy"] {
        let flag = format!("--image-provisioner-backend={backend}");
        let (master, agent) = cluster(&world, &[&flag]);
        let script = "cat /made-of; test ! -e /removed && echo gone; pwd; echo in > here; \
                      cat /mnt/mesos/sandbox/here; echo $MESOS_SANDBOX; ls /; ls /dev; \
                      touch /new && echo writable; test ! -s /proc/keys && echo hidden; touch /proc/sys/kernel/core_pattern /sys/x /dev/x; \
                      mknod /tmp/null c 1 3 && echo x > /tmp/null; cat /proc/1/comm; \
                      ls -d /proc/[0-9]* | cat; mount; test ! -e /etc/hosts || cat /etc/hosts";
        let said = master.run(&["--image", "plain", "--command", script]).end();
        assert_eq!(said.status, 0, "{}\n{}", said.out, said.err);
        let (out, err) = (&said.out, &said.err);
        let begin = "two layers\ngone\n/mnt/mesos/sandbox\nin\n/mnt/mesos/sandbox\n";
        assert!(out.starts_with(begin), "{out}\n{err}");
        let (all, rest) =
            out.strip_prefix(begin).unwrap().split_once("writable\nhidden\n").unwrap();
        let names: Vec<&str> = all.split_whitespace().collect();
        let expected = [
            "bin", "dev", "etc", "made-of", "mnt", "proc", "srv", "sys", "tmp", "fd", "full",
            "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
            "zero",
        ];
        assert_eq!(names, expected);
        for refused in ["core_pattern: Read-only", "/sys/x: Read-only", "/dev/x: Read-only"] {
            assert!(err.contains(refused), "{refused}: {err}");
        }
        // A device node that it makes is of no use.
        assert!(!err.contains("/tmp/null: Permission") || err.contains("can't create"), "{err}");
        assert!(rest.starts_with("mesita-init\n"), "{rest}");
        let mounts: Vec<&str> = rest.lines().filter(|line| line.contains(" on / ")).collect();
        assert_eq!(mounts.len(), 1, "{rest}");
        assert_eq!(mounts[0].starts_with("overlay"), backend == "overlay", "{mounts:?}");
        let harmful =
            rest.lines().filter(|line| line.contains(" type ") && !line.contains("nosuid"));
        assert_eq!(harmful.count(), 0, "{rest}");
        eventually(|| provisioned(&agent) == 0, || "the root goes with its task".to_owned());
        end(&world, master, agent);
    }
}

#[test]
fn what_a_task_does_not_say_its_image_does() {
    if !can_stand() {
        return;
    }
    let world = World::new();
    let (master, agent) = cluster(&world, &[]);
    let mut framework = Framework::subscribe(&master, &json!({"user": "root"}));
    let offer = framework.offer();
    let mut entry = on_image(task(&offer, "entry", ""), "acme/app:v1");
    entry["command"] = json!({"shell": false});
    let mut arguments = on_image(task(&offer, "arguments", ""), "acme/app:v1");
    arguments["command"] = json!({"shell": false, "arguments": ["own"]});
    let about =
        "pwd; id -u; id -g; echo $GREETING $MESOS_SANDBOX; stat -c %u $MESOS_SANDBOX/stdout";
    let line = on_image(task(&offer, "line", about), "acme/app:v1");
    let mut own = on_image(task(&offer, "own", "echo $GREETING; id -u"), "acme/app:v1");
    own["command"]["user"] = json!("nobody");
    own["command"]["environment"] = json!({"variables": [{"name": "GREETING", "value": "mine"}]});
    let missing = on_image(task(&offer, "missing", "true"), "no/such");
    let mut nothing = on_image(task(&offer, "nothing", ""), "plain");
    nothing["command"] = json!({"shell": false});
    let mut appc = on_image(task(&offer, "appc", "true"), "plain");
    appc["container"]["mesos"]["image"] = json!({"type": "APPC", "appc": {"name": "x"}});
    framework.launch(&offer, &[entry, arguments, line, own, missing, nothing, appc]);
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < 7 {
        let status = framework.status();
        if !["TASK_STARTING", "TASK_RUNNING"].contains(&status["state"].as_str().unwrap()) {
            ends.insert(status["task_id"]["value"].as_str().unwrap().to_owned(), status);
        }
    }
    let printed = |task: &str| {
        assert_eq!(ends[task]["state"], "TASK_FINISHED", "{}", ends[task]);
        world.told(&["logs", "--master", &master.address(), task]).out
    };
    assert_eq!(printed("entry"), "from the image: and more\n");
    assert_eq!(printed("arguments"), "from the image: own\n");
    assert_eq!(printed("line"), "/srv\n1234\n1235\nhello /mnt/mesos/sandbox\n1234\n");
    assert_eq!(printed("own"), "mine\n65534\n", "who is not root stays who it is");
    for (task, words) in [
        ("missing", "Failed to pull image 'no/such': there is no image no/such in"),
        ("nothing", "neither the command nor its image says a program to run"),
    ] {
        let status = &ends[task];
        assert_eq!(status["reason"], "REASON_CONTAINER_LAUNCH_FAILED", "{status}");
        assert!(status["message"].as_str().unwrap().contains(words), "{status}");
    }
    assert_eq!(ends["appc"]["state"], "TASK_ERROR", "{}", ends["appc"]);
    // What is kept is told, and goes when nobody needs it.
    assert_eq!(gauge(&agent, "images_len"), "2");
    let prune = json!({"type": "PRUNE_IMAGES", "prune_images": {"excluded_images":
        [{"type": "DOCKER", "docker": {"name": "plain"}}]}});
    assert_eq!(post(agent.port, "/api/v1", &[], &prune).status, 200);
    assert_eq!(
        (gauge(&agent, "images_len"), gauge(&agent, "image_layers_len")),
        ("1".into(), "2".into())
    );
    assert_eq!(post(agent.port, "/api/v1", &[], &json!({"type": "PRUNE_IMAGES"})).status, 200);
    assert_eq!(gauge(&agent, "image_store_bytes"), "0");
    drop(framework);
    end(&world, master, agent);
}

#[test]
fn a_task_on_an_image_outlives_its_agent_and_can_be_looked_into() {
    if !can_stand() {
        return;
    }
    let world = World::new();
    let (master, mut agent) = cluster(&world, &[]);
    let address = master.address();
    let script = "echo up; cd /mnt/mesos/sandbox; while test ! -e stop; do sleep 0.1; done; echo $(cat stop)";
    let run = master.run(&["--name", "stays", "--image", "acme/app:v1", "--command", script]);
    run.prints("up");
    agent.kill();
    // What a container left that nobody knows goes.
    let stray = agent.work_dir().join("provisioner/1-99");
    fs::create_dir_all(stray.join("root")).unwrap();
    agent.start();
    agent.process().says("registered with the master");
    eventually(|| !stray.exists(), || "the stray goes".to_owned());
    let exec = |line: &str| {
        let words = ["exec", "--master", &address, "stays", "--", "sh", "-c", line];
        let said = world.told(&words);
        assert_eq!(said.status, 0, "{line}: {}", said.err);
        said.out
    };
    assert_eq!(
        exec("cat /made-of; pwd; echo $GREETING"),
        "two layers\n/mnt/mesos/sandbox\nhello\n"
    );
    // A container inside of it finds the image as well, and processes of its own.
    let told = post(agent.port, "/api/v1", &[], &json!({"type": "GET_CONTAINERS"})).text();
    let told: Value = serde_json::from_str(&told).unwrap();
    let around = told["get_containers"]["containers"][0]["container_id"].clone();
    let id = json!({"value": "inner", "parent": around});
    let script = "cat /made-of /proc/1/comm; echo $$; exit 3";
    let call = |kind: &str, part: Value| {
        let answer =
            post(agent.port, "/api/v1", &[], &json!({"type": kind.to_uppercase(), kind: part}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    };
    call("launch_nested_container", json!({"container_id": id, "command": {"value": script}}));
    let waited = call("wait_nested_container", json!({"container_id": id}));
    assert!(waited.contains(&format!("{}", 3 << 8)), "{waited}");
    let seen = exec("cat containers/inner/stdout");
    assert_eq!(seen, "two layers\nmesita-init\n2\n");
    call("remove_nested_container", json!({"container_id": id}));
    assert!(exec("echo containers/*").starts_with("containers/*"));
    // An image in use stays.
    assert_eq!(post(agent.port, "/api/v1", &[], &json!({"type": "PRUNE_IMAGES"})).status, 200);
    assert_eq!(gauge(&agent, "images_len"), "1");
    exec("echo bye > stop");
    let said = run.end();
    assert_eq!((said.status, said.out.as_str()), (0, "up\nbye\n"), "{}", said.err);
    eventually(|| provisioned(&agent) == 0, || "the root goes with its task".to_owned());
    end(&world, master, agent);
}

#[test]
fn a_task_on_an_image_may_be_among_users_of_its_own() {
    if !can_stand() {
        return;
    }
    let world = World::new();
    let (master, agent) = cluster(&world, &["--isolation=all,namespaces/user"]);
    let mut framework = Framework::subscribe(&master, &json!({"user": "root"}));
    let offer = framework.offer();
    let looks = "cat /made-of /proc/self/uid_map && cd /mnt/mesos/sandbox && echo x > file && echo x > /tmp/file";
    let mut own = on_image(task(&offer, "own", looks), "plain");
    own["command"]["user"] = json!("nobody");
    // Of root's it is whom its image names, and who that would be root is refused.
    let named = on_image(task(&offer, "named", looks), "acme/app:v1");
    let refused = on_image(task(&offer, "refused", looks), "plain");
    framework.launch(&offer, &[own, named, refused]);
    let mut left = vec!["own", "named", "refused"];
    while !left.is_empty() {
        let status = framework.status();
        let state = status["state"].as_str().unwrap();
        if ["TASK_STARTING", "TASK_RUNNING"].contains(&state) {
            continue;
        }
        let name = status["task_id"]["value"].as_str().unwrap().to_owned();
        left.retain(|one| *one != name);
        if name == "refused" {
            let message = status["message"].as_str().unwrap();
            assert!(state == "TASK_FAILED" && message.contains("would run as root"), "{status}");
            continue;
        }
        assert_eq!(state, "TASK_FINISHED", "{status}");
        let said = world.told(&["logs", "--master", &master.address(), &name]).out;
        let user = if name == "own" { NOBODY } else { 1234 };
        let words: Vec<&str> = said.split_whitespace().collect();
        let user = user.to_string();
        assert_eq!(words, ["two", "layers", &user, &user, "1"], "{said}");
    }
    drop(framework);
    end(&world, master, agent);
}

#[test]
fn volumes_and_the_tasks_of_a_group_are_in_the_root_of_an_image() {
    if !can_stand() {
        return;
    }
    let world = World::new();
    let (master, agent) = cluster(&world, &[]);
    let mut framework = Framework::subscribe(
        &master,
        &json!({"user": "root", "roles": ["web"], "principal": "p",
            "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"},
                             {"type": "RESERVATION_REFINEMENT"}]}),
    );
    let offer = framework.offer();
    let reserved = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 10.0},
        "reservations": [{"type": "DYNAMIC", "role": "web", "principal": "p"}]});
    let mut volume = reserved.clone();
    volume["disk"] = json!({"persistence": {"id": "db", "principal": "p"},
                            "volume": {"container_path": "data", "mode": "RW"}});
    let mut writer = on_image(task(&offer, "writer", "echo kept > data/file"), "plain");
    writer["resources"].as_array_mut().unwrap().push(volume.clone());
    let executor = json!({"type": "DEFAULT", "executor_id": {"value": "pod"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                      {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}]});
    let at = |path: &str, mode: &str| {
        json!({"container_path": path, "mode": mode,
               "image": {"type": "DOCKER", "docker": {"name": "plain"}}})
    };
    let script = "cat tools/made-of && ! touch tools/x && touch scratch/x && ls scratch";
    let mut finder = task(&offer, "finder", script);
    finder["container"] =
        json!({"type": "MESOS", "volumes": [at("tools", "RO"), at("scratch", "RW")]});
    let mut both = on_image(task(&offer, "both", "cat /opt/tools/made-of && ls /opt"), "plain");
    both["container"]["volumes"] = json!([at("/opt/tools", "RO")]);
    let mut group = [
        on_image(task(&offer, "one", "cat /made-of /proc/1/comm; pwd"), "plain"),
        task(&offer, "two", "test ! -e /made-of && test $(cat /proc/1/comm) = mesita-group"),
    ];
    // What they have in common is processes, and no root.
    for task in &mut group {
        task["container"]["type"] = json!("MESOS");
        task["container"]["linux_info"] = json!({"share_pid_namespace": true});
    }
    framework.accepted(
        "ACCEPT",
        &json!({"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0.1}, "operations": [
            {"type": "RESERVE", "reserve": {"resources": [reserved]}},
            {"type": "CREATE", "create": {"volumes": [volume]}},
            {"type": "LAUNCH", "launch": {"task_infos": [writer, finder, both]}},
            {"type": "LAUNCH_GROUP",
             "launch_group": {"executor": executor, "task_group": {"tasks": group}}}]}),
    );
    let mut left = vec!["writer", "finder", "both", "one", "two"];
    while !left.is_empty() {
        let status = framework.status();
        let state = status["state"].as_str().unwrap();
        if !["TASK_STARTING", "TASK_RUNNING"].contains(&state) {
            assert_eq!(state, "TASK_FINISHED", "{status}");
            left.retain(|name| status["task_id"]["value"] != *name);
        }
    }
    let file = agent.work_dir().join("volumes/roles/web/db/file");
    assert_eq!(fs::read_to_string(file).unwrap(), "kept\n");
    let said = world.told(&["logs", "--master", &master.address(), "one"]);
    assert_eq!(said.out, "two layers\nmesita-group\n/mnt/mesos/sandbox\n");
    for (name, expected) in [("finder", "two layers\nbin\n"), ("both", "two layers\ntools\n")] {
        let said = world.told(&["logs", "--master", &master.address(), name]).out;
        assert!(said.starts_with(expected), "{name}: {said}");
    }
    // A persistent one that is only to be read.
    let has = |offer: &Value| {
        let mut resources = offer["resources"].as_array().unwrap().iter();
        resources.any(|one| !one["disk"]["persistence"].is_null())
    };
    let mut offer = framework.offer();
    while !has(&offer) {
        offer = framework.offer();
    }
    volume["disk"]["volume"]["mode"] = json!("RO");
    let script = "cat data/file && ! touch data/x && cat data/file";
    let mut reader = on_image(task(&offer, "reader", script), "plain");
    reader["resources"].as_array_mut().unwrap().push(volume);
    framework.launch(&offer, &[reader]);
    let ended = framework.end_of("reader");
    assert_eq!(ended["state"], "TASK_FINISHED", "{ended}");
    assert!(!agent.work_dir().join("volumes/roles/web/db/x").exists());
    eventually(|| provisioned(&agent) == 0, || "nothing of the volumes is left".to_owned());
    drop(framework);
    end(&world, master, agent);
}

/// A server of a directory.
fn serve(directory: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let len = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..len]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            let _ = match fs::read(directory.join(path)) {
                Ok(bytes) => {
                    write!(stream, "HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n", bytes.len())
                        .and_then(|()| stream.write_all(&bytes))
                }
                Err(_) => write!(stream, "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"),
            };
        }
    });
    port
}

/// An image as a layout, its layers packed.
pub(crate) fn lay_out(directory: &Path) {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        fs::write(blobs.join(hex(bytes)), bytes).unwrap();
        json!({"digest": format!("sha256:{}", hex(bytes)), "size": bytes.len()})
    };
    let layers = layers();
    let digests: Vec<String> =
        layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
    let packed: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(layer).unwrap();
            put(&encoder.finish().unwrap())
        })
        .collect();
    let config = json!({"os": "linux", "config": {}, "rootfs": {"diff_ids": digests}});
    let manifest = json!({"config": put(config.to_string().as_bytes()), "layers": packed});
    let manifest = put(manifest.to_string().as_bytes());
    let index = json!({"manifests": [manifest]});
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn images_come_by_http_and_from_paths_and_a_store_is_one_agents() {
    if !can_stand() {
        return;
    }
    let world = World::new();
    let directory = registry(&world);
    lay_out(&directory.join("laid/out"));
    let port = serve(directory.clone());
    let master = world.master(&[]);
    let store = format!("--docker-store-dir={}", world.path("store").display());
    let flag = format!("--docker-registry=http://127.0.0.1:{port}/");
    let agent = master.agent(&[&flag, &store]);
    for image in ["acme/app:v1", "laid/out", "laid/out:latest"] {
        let said = master.run(&["--image", image, "--command", "cat /made-of"]).end();
        assert_eq!((said.status, said.out.as_str()), (0, "two layers\n"), "{image}: {}", said.err);
    }
    let said = master.run(&["--image", "laid/away", "--command", "true"]).end();
    assert!(said.err.contains("404"), "{}", said.err);
    // All of them have the same two layers.
    assert_eq!(
        (gauge(&agent, "images_len"), gauge(&agent, "image_layers_len")),
        ("3".into(), "2".into())
    );
    let other = Agent::new(&world, &master.address(), &[&store]);
    let refused = world.start(other.command()).end();
    assert!(refused.err.contains("give this one another --docker-store-dir"), "{}", refused.err);
    end(&world, master, agent);
    // Without any cluster, from a file of this machine.
    let path = directory.join("acme/app:v1.tar");
    let copy = world.path("app.tar");
    fs::copy(path, &copy).unwrap();
    let said = world.run_alone(&["--image", copy.to_str().unwrap()]).end();
    assert_eq!((said.status, said.out.as_str()), (0, "from the image: and more\n"), "{}", said.err);
    let said = world.run_alone(&["--image", "../x"]).end();
    assert_eq!(said.status, 2, "{}", said.err);
    world.nothing_is_left();
}

#[test]
fn a_task_on_an_image_finds_the_devices_that_it_holds_and_they_are_its_own() {
    if !can_stand() || !Path::new("/dev/loop-control").exists() {
        return;
    }
    let world = World::new();
    let (master, agent) = cluster(&world, &["--devices=serial:{loop-control}"]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let offer = framework.offer();
    // It is root's on the machine, and this user's in there.
    let script = "exec 3</dev/loop-control && exit 7";
    let mut holds = with_device(task(&offer, "holds", script), "loop-control");
    holds["command"]["user"] = json!("nobody");
    let lacks = task(&offer, "lacks", "test ! -e /dev/loop-control && exit 8");
    framework.launch(&offer, &[on_image(holds, "plain"), on_image(lacks, "plain")]);
    let mut ends = [("holds", "7"), ("lacks", "8")].map(|(name, status)| (name, status, false));
    while ends.iter().any(|(.., ended)| !ended) {
        let status = framework.status();
        for (name, wanted, ended) in &mut ends {
            if status["task_id"]["value"] == *name && status["state"] == "TASK_FAILED" {
                assert!(status["message"].as_str().unwrap().ends_with(*wanted), "{status}");
                *ended = true;
            }
        }
    }
    end(&world, master, agent);
}
