//! Masters that join a closed cluster by a token.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::http::post;
use crate::world::{Agent, Process, Said, Signal, World, eventually, is_root};

/// A cluster that `mesita init` has made on loopback, and its masters.
struct Shop<'w> {
    world: &'w World,
    directory: PathBuf,
    ports: RefCell<Vec<u16>>,
    running: Vec<Option<Process>>,
}

impl<'w> Shop<'w> {
    /// Its first master leads.
    fn new(world: &'w World, name: &str) -> Self {
        let (directory, port) = (world.path(name), world.port());
        let init = ["init", "--name", name, "--ip", "127.0.0.1", "--port", &port.to_string()];
        let said = world.told(&[&init[..], &["--dir", directory.to_str().unwrap()]].concat());
        assert_eq!(said.status, 0, "{}", said.err);
        assert!(said.out.contains("mesita token create --role master"), "{}", said.out);
        let ports = RefCell::new(vec![port]);
        let mut shop = Self { world, directory, ports, running: vec![None] };
        shop.start(0, &[]);
        shop
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn address(&self, at: usize) -> String {
        format!("https://127.0.0.1:{}", self.ports.borrow()[at])
    }

    fn list(&self) -> String {
        let all = (0..self.running.len()).map(|at| self.address(at));
        all.collect::<Vec<_>>().join(",")
    }

    fn work_dir(&self, at: usize) -> PathBuf {
        self.world.path(&format!("master-{}", self.ports.borrow()[at]))
    }

    /// Starts a master with these flags.
    fn begin(&self, at: usize, more: &[&str]) -> Process {
        if at == 0 {
            let config = self.file("master.toml");
            let begin = ["master", "--config", &config];
            return self.world.start(self.world.mesita(&[&begin[..], more].concat()));
        }
        let (port, work_dir) = (self.ports.borrow()[at].to_string(), self.work_dir(at));
        let mut command = self.world.mesita(&["master", "--port", &port, "--work-dir"]);
        command.arg(work_dir).args(more);
        self.world.start(command)
    }

    fn start(&mut self, at: usize, more: &[&str]) {
        let process = self.begin(at, more);
        process.says("master at 127.0.0.1:");
        self.running[at] = Some(process);
    }

    /// A place for another master.
    fn place(&mut self) -> usize {
        self.ports.borrow_mut().push(self.world.port());
        self.running.push(None);
        self.running.len() - 1
    }

    /// Another master that joins by a token, and is one of them.
    fn join(&mut self, token: &str) -> usize {
        let (at, first) = (self.place(), self.address(0));
        self.start(at, &["--masters", &first, "--join", token]);
        at
    }

    fn kill(&mut self, at: usize) {
        self.running[at].take().unwrap().kill();
    }

    /// What an operator is told.
    fn told(&self, words: &[&str]) -> Said {
        let (credential, authority) = (self.file("operator"), self.file("ca.pem"));
        let list = self.list();
        let by = ["--master", &list, "--credential", &credential, "--tls-ca-file", &authority];
        self.world.told(&[words, &by].concat())
    }

    fn rows(&self, words: &[&str]) -> Vec<Value> {
        let said = self.told(&[words, &["--json"]].concat());
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn token(&self, flags: &[&str]) -> String {
        let said = self.told(&[&["token", "create"], flags].concat());
        assert_eq!(said.status, 0, "{}", said.err);
        said.out.trim().to_owned()
    }

    /// The flags that one of them shows.
    fn flags(&self, at: usize) -> Value {
        let secret: Value =
            serde_json::from_str(&fs::read_to_string(self.file("operator")).unwrap()).unwrap();
        let user = format!("operator:{}", secret["secret"].as_str().unwrap());
        let (authority, url) = (self.file("ca.pem"), format!("{}/flags", self.address(at)));
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "--max-time", "20", "--cacert", &authority, "-u", &user, &url]);
        let said = self.world.start(curl).end();
        let told: Value =
            serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.err));
        told["flags"].clone()
    }

    /// Waits until so many vote, all of them heard.
    fn voting(&self, count: usize) {
        let rows = || self.rows(&["masters", "ls"]);
        let well = |row: &&Value| row["votes"] == true && row["state"] != "silent";
        let all = || {
            let rows = rows();
            rows.iter().filter(well).count() == count
                && rows.iter().filter(|row| row["id"].is_u64()).count() == count
        };
        eventually(all, || format!("{count} that vote: {:?}", rows()));
    }

    fn stop(self) {
        let all: Vec<Process> = self.running.into_iter().flatten().collect();
        all.iter().for_each(|process| process.signal(Signal::TERM));
        for process in all {
            let said = process.end();
            assert_eq!(said.status, 0, "{}", said.err);
        }
    }
}

/// A user whose tasks an agent of this one's runs, and who is not root.
fn user() -> String {
    if is_root() {
        return "nobody".to_owned();
    }
    let said = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

#[test]
fn two_masters_join_by_one_token_and_the_set_goes_on_without_its_leader() {
    let world = World::new();
    let mut shop = Shop::new(&world, "shop");
    let mut agent = Agent::new(&world, &shop.address(0), &["--join", &shop.file("agent.token")]);
    agent.start();
    agent.process().says("registered with the master");
    let token = shop.token(&["--role", "master", "--uses", "2"]);
    let second = shop.join(&token);
    shop.voting(2);
    let file = world.secret("token", token.as_bytes());
    let third = shop.join(file.to_str().unwrap());
    shop.voting(3);
    let nodes = shop.rows(&["node", "ls"]);
    let masters = nodes.iter().filter(|row| row["state"] == "master").count();
    assert_eq!(masters, 2, "{nodes:?}");
    let uses = |role: &str| {
        let rows = shop.rows(&["token", "ls"]);
        rows.into_iter().find(|row| row["role"] == role).map(|row| row["uses"].clone())
    };
    assert_eq!(uses("master"), Some(0.into()));
    // Who asked for which change outlives who leads, wherever it was asked.
    let said = shop.told(&["audit"]);
    assert!(said.err.contains("shop/master/audit.log"), "{}", said.err);
    let log = shop.directory.join("master/audit.log");
    assert!(fs::read_to_string(&log).unwrap().contains("\"join\""));
    assert!(shop.work_dir(second).join("audit.log").exists());
    // So does what was asked of an agent at its own port.
    post(agent.port, "/api/v1", &[], &json!({"type": "KILL_CONTAINER"}));
    let log = agent.work_dir().join("audit.log");
    assert!(fs::read_to_string(&log).unwrap().contains("\"kill container\""));
    // What they were given nobody else reads.
    let given = shop.work_dir(second).join("meta/given");
    assert_eq!(fs::metadata(&given).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&given).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
    }
    // A master goes by the roster before its key does.
    let address = shop.address(second);
    let address = address.trim_start_matches("https://");
    let of_master = nodes.iter().find(|row| row["address"] == address).unwrap();
    assert_eq!(of_master["state"], "master", "{nodes:?}");
    let key = of_master["key"].clone();
    let said = shop.told(&["node", "revoke", key.as_str().unwrap()]);
    assert!(said.status != 0 && said.err.contains("mesita masters remove"), "{}", said.err);

    shop.kill(0);
    let again = || agent.process().err().matches("registered with the master at").count() >= 2;
    eventually(again, || agent.process().err());
    let mark = world.marked();
    let user = user();
    let said = shop.told(&["run", &mark, "--user", &user, "--command", "echo on"]);
    assert_eq!((said.status, said.out.as_str()), (0, "on\n"), "{}", said.err);
    // What they were given is among the flags that they show.
    let flags = shop.flags(third);
    assert_eq!(flags["authenticate_http_readwrite"], "true", "{flags}");
    assert_eq!(flags["authenticate_agents"], "true", "{flags}");
    assert!(flags["credentials"].as_str().unwrap().ends_with("meta/given/credentials"), "{flags}");
    assert!(flags.get("join").is_none(), "{flags}");
    // Each comes back as who it is: the first as it was made, others without a token.
    shop.start(0, &[]);
    shop.voting(3);
    shop.kill(second);
    let list = format!("127.0.0.1:{}", shop.ports.borrow()[0]);
    shop.start(second, &["--masters", &list]);
    shop.kill(third);
    // The same command again is one that was done.
    shop.start(third, &["--masters", &shop.address(0), "--join", &token]);
    shop.voting(3);
    // Nobody was told of a token or of what it gave.
    for at in [second, third] {
        let said = shop.running[at].as_ref().unwrap().err();
        assert!(!said.contains(&token), "{said}");
    }
    agent.leave();
    shop.stop();
    world.nothing_is_left();
}

#[test]
fn tokens_that_let_no_master_in_have_their_sentences_and_change_nothing() {
    let world = World::new();
    let mut shop = Shop::new(&world, "shop");
    let mut other = Shop::new(&world, "other");
    let of_agents = shop.token(&["--uses", "9"]);
    let of_masters = shop.token(&["--role", "master", "--uses", "9"]);
    let of_others = other.token(&["--role", "master"]);
    let over = shop.token(&["--role", "master", "--expires", "1s"]);
    let left = || shop.rows(&["token", "ls"]).iter().filter(|row| row["uses"] == 1).count();
    eventually(|| left() == 1, || "the time is over".to_owned());
    let (at, first) = (shop.place(), shop.address(0));
    let (short, newer) =
        (of_masters[..of_masters.len() - 1].to_owned(), of_masters.replacen("v1", "v2", 1));
    for (bad, status, words) in [
        (&of_agents, 1, "this token is for agents"),
        (&of_others, 1, "has another key than"),
        (&over, 1, "the cluster does not know this token"),
        (&short, 2, "not whole"),
        (&newer, 2, "form v2"),
        (&"K10::server:x".to_owned(), 2, "no token"),
    ] {
        let said = shop.begin(at, &["--masters", &first, "--join", bad]).end();
        assert_eq!(said.status, status, "{bad}: {}", said.err);
        assert!(said.err.contains(words), "{bad}: {}", said.err);
        assert!(!shop.work_dir(at).join("meta/given").exists(), "{bad}");
    }
    let me = format!("127.0.0.1:{}", shop.ports.borrow()[at]);
    let said = shop.begin(at, &["--masters", &me, "--join", &of_masters]).end();
    assert!(said.status == 2 && said.err.contains("names"), "{}", said.err);
    // By a token for masters nobody is an agent.
    let mut agent = Agent::new(&world, &first, &["--join", &of_masters]);
    agent.start();
    agent.process().says("this token is for masters");
    agent.kill();
    let uses = shop.rows(&["token", "ls"]).into_iter().map(|row| row["uses"].clone());
    assert_eq!(uses.filter(|uses| *uses == 9).count(), 2);
    assert!(shop.rows(&["node", "ls"]).is_empty());
    assert_eq!(shop.rows(&["masters", "ls"]).len(), 1);
    // What has joined one cluster is none of another.
    shop.start(at, &["--masters", &first, "--join", &of_masters]);
    shop.voting(2);
    shop.kill(at);
    let said = shop.begin(at, &["--masters", &other.address(0), "--join", &of_others]).end();
    assert!(said.status == 2 && said.err.contains("another cluster"), "{}", said.err);
    shop.start(at, &["--masters", &first, "--join", &of_masters]);
    shop.voting(2);
    // A single one that hears nobody makes no token for masters.
    let alone = world.master(&[]);
    let said = world.told(&["token", "create", "--role=master", "--master", &alone.address()]);
    assert!(said.status != 0 && said.err.contains("TLS"), "{}", said.err);
    alone.stop();
    other.kill(0);
    shop.stop();
    world.nothing_is_left();
}

/// Whoever signed by another key would be a master that no node speaks with.
#[test]
fn the_key_of_another_authority_is_given_to_nobody() {
    let world = World::new();
    let mut shop = Shop::new(&world, "shop");
    let other = Shop::new(&world, "other");
    let token = shop.token(&["--role", "master"]);
    let (path, foreign) = (shop.file("ca.key"), fs::read(other.file("ca.key")).unwrap());
    let own = fs::read(&path).unwrap();
    let (at, first) = (shop.place(), shop.address(0));
    let config = shop.file("master.toml");
    for (bad, words) in [
        (&foreign[..], "ca.key: is not the key of the last certificate of --tls-cert-file"),
        (&own[..100], "ca.key: has no private key in it that can sign"),
    ] {
        fs::write(&path, bad).unwrap();
        let said = shop.begin(at, &["--masters", &first, "--join", &token]).end();
        assert!(said.status == 1 && said.err.contains(words), "{}", said.err);
        let meta = shop.work_dir(at).join("meta");
        assert!(!meta.join("given").exists() && !meta.join("given.new").exists());
        let uses = shop.rows(&["token", "ls"]).into_iter().filter(|row| row["role"] == "master");
        assert!(uses.clone().count() == 1 && uses.clone().all(|row| row["uses"] == 1));
        assert!(shop.rows(&["node", "ls"]).is_empty());
        let said = world.told(&["doctor", "master", "--config", &config]);
        assert!(said.status != 0 && said.out.contains(words), "{}", said.out);
    }
    // Nor does a master begin with it.
    shop.kill(0);
    let said = shop.begin(0, &[]).end();
    assert!(said.status == 2 && said.err.contains("--tls-ca-key-file"), "{}", said.err);
    fs::write(&path, own).unwrap();
    shop.start(0, &[]);
    shop.start(at, &["--masters", &first, "--join", &token]);
    shop.voting(2);
    other.stop();
    shop.stop();
    world.nothing_is_left();
}

/// A use that may be lost with its reign is told as one of which that is not known.
#[test]
fn the_audit_says_of_nobody_that_it_has_joined_before_a_majority_knows_it() {
    let world = World::new();
    let mut shop = Shop::new(&world, "shop");
    let (of_masters, of_agents) = (shop.token(&["--role", "master"]), shop.token(&[]));
    let second = shop.join(&of_masters);
    shop.voting(2);
    let rows = shop.rows(&["masters", "ls"]);
    let address = rows.into_iter().find(|row| row["state"] == "leads").unwrap()["address"].clone();
    let first_leads = address.as_str() == shop.address(0).strip_prefix("https://");
    let (leader, other) = if first_leads { (0, second) } else { (second, 0) };
    let stopped = shop.running[other].as_ref().unwrap();
    stopped.signal(Signal::STOP);
    let log = match leader {
        0 => PathBuf::from(shop.file("master/audit.log")),
        _ => shop.work_dir(second).join("audit.log"),
    };
    let joins = || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["what"] == "join" && line["who"] != "nobody").collect::<Vec<_>>()
    };
    let told = || joins().into_iter().map(|line| line["told"].clone()).collect::<Vec<_>>();
    let before = told().iter().filter(|told| *told == "allowed").count();
    let mut agent = Agent::new(&world, &shop.address(leader), &["--join", &of_agents]);
    agent.start();
    let unsure =
        |told: &Value| told.as_str().unwrap().contains("whether this was done is not known");
    eventually(|| told().iter().any(unsure), || format!("{:?} {}", joins(), agent.process().err()));
    assert_eq!(told().iter().filter(|told| *told == "allowed").count(), before);
    stopped.signal(Signal::CONT);
    agent.kill();
    drop(shop);
}

#[test]
fn a_master_that_is_one_too_many_waits_for_a_place_and_has_it_after_a_power_cut_too() {
    let world = World::new();
    let mut shop = Shop::new(&world, "shop");
    let token = shop.token(&["--role", "master", "--uses", "3"]);
    let second = shop.join(&token);
    shop.voting(2);
    shop.join(&token);
    shop.voting(3);
    let (fourth, first) = (shop.place(), shop.address(0));
    let words = ["--masters", &first, "--join", &token];
    let waits = shop.begin(fourth, &words);
    waits.says("have a second new master ask to follow");
    assert!(shop.work_dir(fourth).join("meta/given").exists());
    waits.kill();
    let waits = shop.begin(fourth, &words);
    waits.says("have a second new master ask to follow");
    // Its use was one, and it is said by none.
    let rows = shop.rows(&["token", "ls"]);
    assert!(rows.iter().any(|row| row["role"] == "master" && row["uses"] == 0), "{rows:?}");
    let asks = || {
        let rows = shop.rows(&["masters", "ls"]);
        rows.iter().find(|row| row["state"] == "asks").map(|row| row["key"].clone())
    };
    eventually(|| asks().is_some(), || "one that asks".to_owned());
    let key = asks().unwrap().as_str().unwrap().to_owned();
    let port = shop.ports.borrow()[second].to_string();
    let rows = shop.rows(&["masters", "ls"]);
    let of_second = |row: &&Value| row["address"].as_str().is_some_and(|at| at.ends_with(&port));
    let lost = rows.iter().find(of_second).unwrap();
    let (id, old) = (lost["id"].to_string(), lost["key"].clone());
    shop.kill(second);
    let silent = || shop.rows(&["masters", "ls"]).iter().any(|row| row["state"] == "silent");
    eventually(silent, || format!("one that is silent: {:?}", shop.rows(&["masters", "ls"])));
    let kept = world.path("kept");
    let add = ["principal", "add", "till", "--role=till", "--out", kept.to_str().unwrap()];
    assert_eq!(shop.told(&add).status, 0);
    let said = shop.told(&["masters", "replace", &id, &key]);
    assert_eq!(said.status, 0, "{}", said.err);
    // Whoever takes one away is told what that one knew, and how to change it.
    for words in ["gossip2.key", "(till)", "--tls-ca-key-file", "--credentials", "token revoke"] {
        assert!(said.err.contains(words), "{words}: {}", said.err);
    }
    waits.says("master at 127.0.0.1:");
    shop.running[fourth] = Some(waits);
    shop.voting(3);
    // The one that was replaced is nobody any more, also where its disk has forgotten that.
    let revoked = |row: &Value| row["key"] == old && row["state"] == "revoked";
    assert!(shop.rows(&["node", "ls"]).iter().any(revoked), "{:?}", shop.rows(&["node", "ls"]));
    let meta = shop.work_dir(second).join("meta");
    for name in ["registry", "set"] {
        fs::remove_file(meta.join(name)).unwrap();
    }
    fs::remove_dir_all(meta.join("given")).unwrap();
    let said = shop.begin(second, &["--masters", &first, "--join", &token]).end();
    assert!(said.status == 1 && said.err.contains("was revoked"), "{}", said.err);
    // Nor is it one that an operator could let in again.
    let gossip = format!("--gossip-key-file={}", shop.file("gossip.key"));
    let asks = shop.begin(second, &[&gossip, "--masters", &first, "--join"]);
    asks.says("this node was revoked");
    let rows = shop.rows(&["masters", "ls"]);
    assert!(rows.iter().all(|row| row["id"].is_u64()), "{rows:?}");
    for words in [&["masters", "add"][..], &["masters", "replace", &id]] {
        let said = shop.told(&[words, &[old.as_str().unwrap()]].concat());
        assert_ne!(said.status, 0, "{words:?}: {}", said.out);
    }
    asks.kill();
    shop.stop();
    world.nothing_is_left();
}

#[test]
fn a_cluster_of_init_is_given_another_key_for_its_datagrams_without_a_restart() {
    let world = World::new();
    let mut shop = Shop::new(&world, "shop");
    let token = shop.token(&["--role", "master"]);
    let second = shop.join(&token);
    shop.voting(2);
    let places = [shop.directory.clone(), shop.work_dir(second).join("meta/given")];
    let again = |count: usize, times: usize| {
        shop.running.iter().flatten().for_each(|process| process.signal(Signal::HUP));
        let words = format!("{count} gossip keys were read again");
        let said = |process: &Process| process.err().matches(&words).count() >= times;
        eventually(
            || shop.running.iter().flatten().all(said),
            || format!("{words}, {times} times"),
        );
    };
    again(1, 1);
    for (name, times) in [("gossip2.key", 1), ("gossip.key", 2)] {
        for place in &places {
            fs::write(place.join(name), [9; 32]).unwrap();
            fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        again(2, times);
    }
    places.iter().for_each(|place| fs::remove_file(place.join("gossip2.key")).unwrap());
    again(1, 2);
    shop.voting(2);
    shop.stop();
    world.nothing_is_left();
}
