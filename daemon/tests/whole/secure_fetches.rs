//! What tasks fetch over TLS, and from HDFS.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::certificates::{Authority, Speaks};
use crate::fetches::{Files, fetching, server};
use crate::scheduler_api::{Framework, end};
use crate::world::{Agent, Master, World, eventually, lives};

/// A master, and an agent with these flags.
fn cluster_with<'w>(world: &'w World, flags: &[&str]) -> (Master<'w>, Agent<'w>) {
    let master = world.master(&[]);
    let agent = master.agent(&[&["--resources", "cpus:2;mem:1024"], flags].concat());
    (master, agent)
}

/// How a task ends that fetches this and is content with it.
fn ends(
    framework: &mut Framework,
    name: &str,
    command: &str,
    uri: &serde_json::Value,
) -> (String, String) {
    let offer = framework.offer();
    framework.launch(&offer, &[fetching(&offer, name, command, &json!([uri]))]);
    let status = framework.end_of(name);
    let word = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    (word("state"), word("message"))
}

#[test]
fn servers_that_an_authority_vouches_for_are_fetched_from() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let speaks = authority.server("127.0.0.1", 2020..2100);
    let (port, asked) =
        server(&speaks, vec![("/data", b"data".to_vec()), ("/big", vec![7; 3 << 20])]);
    let location = format!("https://127.0.0.1:{port}/moved");
    let (plain, _) = server(&Speaks::Plain, vec![("/leads", location.into_bytes())]);
    let (master, agent) = cluster_with(&world, &["--fetcher-ca-file", authority.flag()]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let at = |path: &str| format!("https://127.0.0.1:{port}{path}");
    for (name, command, uri) in [
        ("plainly", "test \"$(cat data)\" = data", json!({"value": at("/data")})),
        ("large", "test $(wc -c <big) = 3145728", json!({"value": at("/big")})),
        (
            "led-on",
            "test \"$(cat data)\" = data",
            json!({"value": at("/moved"), "output_file": "data"}),
        ),
        (
            "led-here",
            "test \"$(cat data)\" = data",
            json!({"value": format!("http://127.0.0.1:{plain}/leads"), "output_file": "data"}),
        ),
    ] {
        let (state, why) = ends(&mut framework, name, command, &uri);
        assert_eq!(state, "TASK_FINISHED", "{name}: {why}");
    }
    let before = asked.load(std::sync::atomic::Ordering::Relaxed);
    for name in ["cached", "again"] {
        let uri = json!({"value": at("/data"), "cache": true});
        assert_eq!(ends(&mut framework, name, "test -s data", &uri).0, "TASK_FINISHED");
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), before + 1);
    end(&world, master, agent);
}

#[test]
fn servers_that_nobody_vouches_for_are_not_fetched_from() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let files = || -> Files {
        vec![("/data", b"data".to_vec()), ("/leads", b"http://127.0.0.1/x".to_vec())]
    };
    let port_of = |speaks: Speaks| server(&speaks, files()).0;
    let good = port_of(authority.server("127.0.0.1", 2020..2100));
    let others = port_of(Authority::new(&world, "other").server("127.0.0.1", 2020..2100));
    let over = port_of(authority.server("127.0.0.1", 2020..2021));
    let early = port_of(authority.server("127.0.0.1", 2098..2099));
    let named = port_of(authority.server("example.org", 2020..2100));
    let plain = port_of(Speaks::Plain);
    let (master, agent) = cluster_with(&world, &["--fetcher-ca-file", authority.flag()]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    for (name, port, path, words) in [
        ("other", others, "/data", "is by no authority in"),
        ("over", over, "/data", "has expired"),
        ("early", early, "/data", "is not valid yet"),
        ("named", named, "/data", "is another host's"),
        ("plain", plain, "/data", "speaks no TLS there"),
        ("back", good, "/leads", "leads from https:// to http://127.0.0.1/x"),
    ] {
        let uri = json!({"value": format!("https://127.0.0.1:{port}{path}")});
        let (state, why) = ends(&mut framework, name, "true", &uri);
        assert_eq!(state, "TASK_FAILED", "{name}: {why}");
        assert!(why.contains(words), "{name}: {why}");
    }
    end(&world, master, agent);
}

#[test]
fn without_a_file_of_authorities_it_is_those_of_the_machine() {
    let world = World::new();
    let speaks = Authority::new(&world, "ca").server("127.0.0.1", 2020..2100);
    let (port, _) = server(&speaks, vec![("/data", b"data".to_vec())]);
    let (master, agent) = cluster_with(&world, &[]);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let uri = json!({"value": format!("https://127.0.0.1:{port}/data")});
    let (state, why) = ends(&mut framework, "stranger", "true", &uri);
    assert_eq!(state, "TASK_FAILED", "{why}");
    assert!(why.contains("/etc/") || why.contains("install ca-certificates"), "{why}");
    assert!(why.contains("--fetcher-ca-file"), "{why}");
    end(&world, master, agent);
}

/// What a namenode says of a file that it does not have, as Hadoop 3 does.
const NO_FILE: &str = "{\"RemoteException\":{\"exception\":\"FileNotFoundException\",\
                       \"javaClassName\":\"java.io.FileNotFoundException\",\
                       \"message\":\"File does not exist: /d/none\"}}";

/// A namenode and a datanode, which answer WebHDFS as Hadoop's do: who opens a file is led from one
/// to the other.
fn hdfs(speaks: &Speaks, user: &str) -> u16 {
    let data = format!("/webhdfs/v1/d/data?op=OPEN&user.name={user}");
    let there = "/webhdfs/v1/d/data?op=OPEN&namenoderpcaddress=n:8020&offset=0";
    let (datanode, _) = server(speaks, vec![(there, b"data".to_vec())]);
    let location = format!("{}://127.0.0.1:{datanode}{there}", speaks.scheme());
    let none = format!("/webhdfs/v1/d/none?op=OPEN&user.name={user}");
    let leads: &'static str = format!("{data} leads").leak();
    let missing: &'static str = format!("{none} 404").leak();
    server(speaks, vec![(leads, location.into_bytes()), (missing, NO_FILE.into())]).0
}

#[test]
fn files_of_hdfs_are_fetched_by_its_http() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let user = mesita_isolation_user();
    let plain = hdfs(&Speaks::Plain, &user);
    let secure = hdfs(&authority.server("127.0.0.1", 2020..2100), &user);
    let web = format!("http:{plain}");
    let flags = ["--fetcher-ca-file", authority.flag(), "--fetcher-webhdfs", &web];
    let (master, agent) = cluster_with(&world, &flags);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let content = "test \"$(cat data)\" = data";
    for (name, uri) in [
        ("hdfs", "hdfs://127.0.0.1:8020/d/data".to_owned()),
        ("webhdfs", format!("webhdfs://127.0.0.1:{plain}/d/data")),
        ("swebhdfs", format!("swebhdfs://127.0.0.1:{secure}/d/data")),
    ] {
        for (kind, cache) in [("kept", true), ("once", false)] {
            let uri = json!({"value": uri, "cache": cache});
            let (state, why) = ends(&mut framework, &format!("{name}-{kind}"), content, &uri);
            assert_eq!(state, "TASK_FINISHED", "{name}: {why}");
        }
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (name, uri, words) in [
        (
            "none",
            "hdfs://127.0.0.1/d/none".to_owned(),
            "FileNotFoundException: File does not exist: /d/none",
        ),
        ("gone", format!("webhdfs://127.0.0.1:{closed}/d/data"), "--hadoop-home"),
        ("nameless", "hdfs:///d/data".to_owned(), "--hadoop-home"),
    ] {
        let (state, why) = ends(&mut framework, name, "true", &json!({"value": uri}));
        assert_eq!(state, "TASK_FAILED", "{name}: {why}");
        assert!(why.contains(words), "{name}: {why}");
    }
    end(&world, master, agent);
}

/// The name of whoever runs the tests.
fn mesita_isolation_user() -> String {
    let said = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

/// What Hadoop's client does, as far as it is asked to.
const CLIENT: &str = "#!/bin/sh
test \"$1 $2\" = 'fs -cat' && test -n \"$HADOOP_USER_NAME\" || exit 9
case $3 in
*/data) printf data ;;
*/slow) printf slow; sleep 1000 & echo $! $$ >\"$HADOOP_HOME/pids\"; wait ;;
*) echo \"cat: \\`$3': No such file or directory\" >&2; exit 1 ;;
esac
";

#[test]
fn hadoops_client_fetches_where_there_is_one() {
    let world = World::new();
    let home = world.path("hadoop");
    std::fs::create_dir_all(home.join("bin")).unwrap();
    std::fs::write(home.join("bin/hadoop"), CLIENT).unwrap();
    let all = PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(home.join("bin/hadoop"), all).unwrap();
    let flags = ["--hadoop-home", home.to_str().unwrap()];
    let (master, agent) = cluster_with(&world, &flags);
    let mut framework = Framework::subscribe(&master, &json!({}));
    let uri = json!({"value": "hdfs://n/d/data"});
    let content = "test \"$(cat data)\" = data";
    assert_eq!(ends(&mut framework, "by-client", content, &uri).0, "TASK_FINISHED");
    let uri = json!({"value": "hdfs:///d/none"});
    let (state, why) = ends(&mut framework, "none", "true", &uri);
    assert_eq!(state, "TASK_FAILED", "{why}");
    assert!(why.contains("hdfs:///d/none': No such file or directory"), "{why}");
    // One that is killed while the client works takes the client along, and what that started.
    let offer = framework.offer();
    let uris = json!([{"value": "hdfs://n/d/slow"}]);
    framework.launch(&offer, &[fetching(&offer, "slow", "true", &uris)]);
    let pids = || -> Vec<i32> {
        let said = std::fs::read_to_string(home.join("pids")).unwrap_or_default();
        said.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    eventually(|| pids().len() == 2, || "the client works".to_owned());
    assert!(pids().iter().all(|pid| lives(*pid)));
    framework.accepted("KILL", &json!({"task_id": {"value": "slow"}}));
    assert_eq!(framework.end_of("slow")["state"], "TASK_KILLED");
    eventually(|| !pids().iter().any(|pid| lives(*pid)), || "the client is gone".to_owned());
    end(&world, master, agent);
}
