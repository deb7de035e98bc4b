//! Nodes that join by a token, and are known by their key from then on.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::certificates::Authority;
use crate::network::{cable, or_skipped, start};
use crate::secure_doors::credentials;
use crate::world::{Agent, Master, Signal, World, eventually, needs_root, within};

/// A master at whose port agents must show who they are, and the file of an operator's credential.
pub(crate) fn master<'w>(world: &'w World, authority: &Authority) -> (Master<'w>, String) {
    let [certificate, key] = authority.files(world, "127.0.0.1");
    let [all, one] = credentials(world);
    let flags = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--credentials", &all];
    (world.master(&[&flags[..], &["--authenticate-agents"]].concat()), one)
}

/// What `mesita token create` prints.
pub(crate) fn token(master: &Master<'_>, world: &World, flags: &[&str]) -> String {
    let create = ["token", "create", "--master", &master.address()];
    let said = world.told(&[&create[..], flags].concat());
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.err.contains("mesita agent --master https://127.0.0.1:"), "{}", said.err);
    said.out.trim().to_owned()
}

/// Lines of `mesita node ls` or `mesita token ls`.
pub(crate) fn listed(master: &Master<'_>, world: &World, what: &str) -> Vec<serde_json::Value> {
    let said = world.told(&[what, "ls", "--json", "--master", &master.address()]);
    assert_eq!(said.status, 0, "{}", said.err);
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An agent that reaches the master by TLS.
pub(crate) fn agent<'w>(world: &'w World, master: &Master<'_>, flags: &[&str]) -> Agent<'w> {
    Agent::new(world, &format!("https://{}", master.address()), flags)
}

/// Nothing of an attempt to join is left with an agent that was not let in.
fn has_not_joined(agent: &Agent<'_>) {
    assert!(!agent.work_dir().join("meta/joined").exists());
    assert!(!agent.process().err().contains("registered with"), "{}", agent.process().err());
}

#[test]
fn a_node_joins_once_and_needs_no_token_again() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let (mut master, _) = master(&world, &authority);
    let text = token(&master, &world, &[]);
    let file = world.path("token");
    std::fs::write(&file, format!("{text}\n")).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let mut first = agent(&world, &master, &["--join", file.to_str().unwrap()]);
    let said = world.start(first.command()).end();
    assert!(said.status == 2 && said.err.contains("others can read or write it"), "{}", said.err);
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    first.start();
    first.process().says("registered with the master");
    assert!(first.work_dir().join("meta/joined").exists());
    // It speaks with no others, and in the clear with nobody.
    let work_dir = first.work_dir().display().to_string();
    let plain = world.told(&["agent", "--work-dir", &work_dir, "--master", &master.address()]);
    assert!(plain.status == 2 && plain.err.contains("by TLS"), "{}", plain.err);
    let at = format!("https://{}", master.address().trim_start_matches("https://"));
    let doctor = |more: &[&str]| {
        let flags =
            ["doctor", "--json", "--isolation=posix/rlimits", "--port", "0", "--master", &at];
        let said = world.told(&[&flags[..], more].concat()).out;
        let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let mut rows = said.lines().map(row);
        rows.find(|row| row["check"].as_str().unwrap().starts_with("master")).unwrap()
    };
    let told = doctor(&["--work-dir", &work_dir]);
    assert!(told["state"] == "on" && told["says"].as_str().unwrap().contains("takes"), "{told}");
    let elsewhere = world.path("elsewhere").display().to_string();
    let told = doctor(&["--work-dir", &elsewhere, "--join", &text]);
    assert!(told["says"].as_str().unwrap().contains("the key that the token says"), "{told}");
    let nobody =
        doctor(&["--work-dir", &elsewhere, "--tls-pin", &crate::secure_doors::pin(&master)]);
    assert!(nobody["state"] == "fails", "{nobody}");
    // Of another cluster, and in the clear.
    let wrong = "ab".repeat(32);
    let other = doctor(&["--work-dir", &elsewhere, "--tls-pin", &wrong]);
    assert!(other["fix"].as_str().unwrap().contains("is of another cluster"), "{other}");
    let whole = doctor(&["--work-dir", &elsewhere, "--join", "v1.00"]);
    assert!(whole["says"].as_str().unwrap().contains("not whole"), "{whole}");
    let nodes = listed(&master, &world, "node");
    assert!(nodes.len() == 1 && nodes[0]["state"] == "agent", "{nodes:?}");
    assert_eq!(listed(&master, &world, "token")[0]["uses"], 0);
    // By the same token, which was for one, nobody else does; who has, may come with it again.
    let mut second = agent(&world, &master, &["--join", &text]);
    second.start();
    second.process().says("the token was used up");
    has_not_joined(&second);
    second.kill();
    first.terminate();
    first.start();
    first.process().says("registered with the master");
    assert_eq!(listed(&master, &world, "node").len(), 1);
    // Without it, and whatever becomes of the master and of the token.
    first.kill();
    first.now_with(&[]);
    let id = text.split('.').nth(2).unwrap();
    let said = world.told(&["token", "revoke", id, "--master", &master.address()]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(listed(&master, &world, "token").is_empty());
    // The key that it has joined by counts, whatever the environment says.
    first.now_with(&["--tls-pin", &wrong]);
    let said = world.start(first.command()).end();
    assert!(said.status == 2 && said.err.contains("is another key than that"), "{}", said.err);
    let foreign = text.replacen(text.split('.').nth(1).unwrap(), &wrong, 1);
    first.now_with(&["--join", &foreign]);
    let said = world.start(first.command()).end();
    assert!(
        said.status == 2 && said.err.contains("another cluster than the token's"),
        "{}",
        said.err
    );
    // Nor does another authority, and it is said that it would not.
    let other = Authority::new(&world, "other");
    for (flags, words) in [
        (vec!["--tls-ca-file", other.flag()], "has the key that this node has joined by"),
        (vec!["--join", &text, "--tls-ca-file", other.flag()], "has the key that the token names"),
        (vec!["--tls-ca-file", "/no/such"], "--tls-ca-file /no/such: "),
    ] {
        first.now_with(&flags);
        let said = world.start(first.command()).end();
        assert!(said.status == 2 && said.err.contains(words), "{words}: {}", said.err);
    }
    let doctor_says = doctor(&["--work-dir", &work_dir, "--tls-ca-file", other.flag()]);
    assert!(doctor_says["says"].as_str().unwrap().contains("--tls-ca-file"), "{doctor_says}");
    // The authority's own file says nothing else.
    first.now_with(&["--tls-ca-file", authority.flag()]);
    // Without its secret it is nobody, and says so before it asks anybody.
    let secret = first.work_dir().join("meta/secret");
    let aside = world.path("secret");
    std::fs::rename(&secret, &aside).unwrap();
    let said = world.start(first.command()).end();
    assert!(said.status != 0 && said.err.contains("meta/secret is gone"), "{}", said.err);
    std::fs::rename(&aside, &secret).unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o666)).unwrap();
    let said = world.start(first.command()).end();
    assert!(said.err.contains("meta/secret: others can read or write it"), "{}", said.err);
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    master.kill();
    master.start();
    first.start();
    first.process().says("registered with the master");
    let said = master.run(&["--command", "echo by key"]).end();
    assert_eq!((said.status, said.out.as_str()), (0, "by key\n"), "{}", said.err);
    // A token is not used up for a directory whose node is another one.
    let mut lost = agent(&world, &master, &["--join", &token(&master, &world, &[])]);
    std::fs::create_dir_all(lost.work_dir().join("meta")).unwrap();
    std::fs::write(lost.work_dir().join("meta/ledger"), "").unwrap();
    let said = world.start(lost.command()).end();
    assert!(said.status != 0 && said.err.contains("move the work dir away"), "{}", said.err);
    assert_eq!(listed(&master, &world, "token")[0]["uses"], 1);
    lost.now_with(&[]);
    // Nobody reads a token out of what is told of the agent.
    let told = crate::world::get(first.port, "/flags");
    assert!(!told.contains("v1.") && !master.process().err().contains(&text), "{told}");
    first.leave();
    second.start();
    second.process().says("the cluster does not know this token");
    second.kill();
    master.stop();
}

#[test]
fn tokens_that_are_no_use_have_their_sentences_and_join_nobody() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let (master, _) = master(&world, &authority);
    let text = token(&master, &world, &["--uses", "9"]);
    let parts: Vec<&str> = text.split('.').collect();
    let with = |at: usize, part: &str| {
        let mut all = parts.clone();
        all[at] = part;
        all.join(".")
    };
    // What can be told before anybody is asked.
    let mut command = agent(&world, &master, &[]);
    for (bad, words) in [
        (text[..text.len() - 1].to_owned(), "not whole"),
        (with(0, "v9"), "form v9"),
        ("K10::server:secret".to_owned(), "no token"),
        ("/no/such/file".to_owned(), "No such file"),
    ] {
        command.now_with(&["--join", &bad]);
        let said = world.start(command.command()).end();
        assert!(said.status == 2 && said.err.contains(words), "{bad}: {}", said.err);
    }
    let mut plain = Agent::new(&world, &master.address(), &["--join", &text]);
    let said = world.start(plain.command()).end();
    assert!(said.status == 2 && said.err.contains("joins by TLS"), "{}", said.err);
    // What only the masters can tell, or their key.
    let over = token(&master, &world, &["--expires", "1s"]);
    eventually(|| listed(&master, &world, "token").len() == 1, || "the time is over".to_owned());
    let zeros = "0".repeat(32);
    for (bad, words) in [
        (over, "the cluster does not know this token"),
        (with(2, "00000000"), "the cluster does not know this token"),
        (with(3, &zeros), "the cluster does not know this token"),
        (with(1, &"0".repeat(64)), "has another key than"),
    ] {
        let mut agent = agent(&world, &master, &["--join", &bad]);
        agent.start();
        agent.process().says(words);
        has_not_joined(&agent);
        agent.kill();
    }
    // Who shows nothing is told what to show.
    let pin = ["--tls-pin", &crate::secure_doors::pin(&master)];
    let mut nobody = agent(&world, &master, &pin);
    nobody.start();
    nobody.process().says("asks for a credential");
    nobody.kill();
    assert!(listed(&master, &world, "node").is_empty());
    assert_eq!(listed(&master, &world, "token")[0]["uses"], 9);
    plain.now_with(&[]);
    master.stop();
    // What a journal would tell, is not kept.
    let [certificate, key] = authority.files(&world, "127.0.0.1");
    let journal = world.path("journal");
    let flags = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--journal"];
    let told = world.master(&[&flags[..], &[journal.to_str().unwrap()]].concat());
    let said = world.told(&["token", "create", "--master", &told.address()]);
    assert!(said.status != 0 && said.err.contains("secrets never enter it"), "{}", said.err);
    told.stop();
}

#[test]
fn a_node_that_was_revoked_is_spoken_with_no_more() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let (mut master, one) = master(&world, &authority);
    let text = token(&master, &world, &["--uses", "2"]);
    let mut agent_one = agent(&world, &master, &["--join", &text]);
    agent_one.start();
    agent_one.process().says("registered with the master");
    // Who has the name of a node that has joined, and not its secret, is not that node, whatever
    // else it shows.
    let key = std::fs::read(agent_one.work_dir().join("meta/key")).unwrap();
    let mut thief = Agent::new(&world, &master.address(), &["--credential", &one]);
    std::fs::create_dir_all(thief.work_dir().join("meta")).unwrap();
    std::fs::write(thief.work_dir().join("meta/key"), &key).unwrap();
    // On a machine of its own, so to speak: beside the node it would not start.
    agent_one.kill();
    thief.start();
    thief.process().says("proves who it is by TLS");
    thief.kill();
    agent_one.start();
    agent_one.process().says("registered with the master");
    let node = listed(&master, &world, "node")[0]["key"].as_str().unwrap().to_owned();
    let revoke = ["node", "revoke", "--master", &master.address()];
    for (bad, words) in [("00", "at least 8 digits"), ("0000000000", "names 0 nodes")] {
        let said = world.told(&[&revoke[..], &[bad]].concat());
        assert!(said.status != 0 && said.err.contains(words), "{}", said.err);
    }
    let said = world.told(&[&revoke[..], &[&node[..12]]].concat());
    assert_eq!(said.status, 0, "{}", said.err);
    let at = ["--master", &master.address()];
    let noted = world.told(&[&["audit", "--json"], &at[..]].concat()).out;
    let noted = noted.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let noted = noted.into_iter().find(|line| line["what"] == "revoke node").unwrap();
    assert!(node.starts_with(noted["of"].as_str().unwrap()), "{noted}");
    // For good, and nobody else is a node by that way.
    for (words, why) in [
        (&["put", "0000", "x", "--owner", ":nodes"][..], "mesita node revoke"),
        (&["put", "0009", "x", "--owner", ":nodes"], "mesita node revoke"),
        (&["rm", "0000", "--owner", ":nodes"], "stays so"),
        (&["put", "x", "y", "--owner", ":tokens"], "mesita token create"),
    ] {
        let said = world.told(&[&["store"][..], words, &at].concat());
        assert!(said.status != 0 && said.err.contains(why), "{words:?}: {}", said.err);
    }
    agent_one.process().says("this node was revoked");
    assert_eq!(listed(&master, &world, "node")[0]["state"], "revoked");
    agent_one.kill();
    let work_dir = agent_one.work_dir().display().to_string();
    let to = format!("https://{}", master.address());
    let doctor = ["doctor", "--isolation=posix/rlimits", "--port=0", "--work-dir", &work_dir];
    let told = world.told(&[&doctor[..], &["--master", &to]].concat()).out;
    assert!(told.contains("`mesita token create` makes a token"), "{told}");
    agent_one.start();
    // Also by a token that is good for others, and after the master was there anew.
    agent_one.kill();
    master.kill();
    master.start();
    agent_one.start();
    agent_one.process().says("this node was revoked");
    assert_eq!(listed(&master, &world, "token")[0]["uses"], 1);
    let before = agent_one.process().err().matches("registered with").count();
    assert_eq!(before, 0, "{}", agent_one.process().err());
    agent_one.kill();
    master.stop();
}

#[test]
fn boards_that_joined_by_one_token_are_told_apart_and_revoked_by_what_they_are_called() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let (mut master, _) = master(&world, &authority);
    let text = token(&master, &world, &["--uses", "3"]);
    let mut boards = ["zero", "zero", "stolen"].map(|name| {
        let host = format!("--hostname={name}");
        let mut board = agent(&world, &master, &["--join", &text, &host]);
        board.start();
        board.process().says("registered with the master");
        board
    });
    let row = |board: &Agent<'_>| {
        let said = board.process().err();
        let key = said.split(" as node ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let key = key.unwrap_or_else(|| panic!("it says which node it is: {said}")).to_owned();
        let rows = listed(&master, &world, "node");
        assert_eq!(rows.len(), 3, "{rows:?}");
        let row = rows.iter().find(|row| row["key"] == key.as_str()).cloned();
        row.unwrap_or_else(|| panic!("{key} in {rows:?}"))
    };
    let rows = boards.each_ref().map(row);
    let of = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("hostname"), ["zero", "zero", "stolen"]);
    let told = world.told(&["ps", "--agents", "--json", "--master", &master.address()]).out;
    for agent in of("agent") {
        assert!(told.contains(&format!("\"id\":{agent}")), "{agent}: {told}");
    }
    let said = master.process().err();
    assert_eq!(said.matches(" from 127.0.0.1:").count(), 3, "{said}");
    let at = master.address();
    let revoke = |name: &str| world.told(&["node", "revoke", name, "--master", &at]);
    let said = revoke("zero");
    assert!(said.status != 0 && said.err.contains("`zero` names 2 nodes"), "{}", said.err);
    let said = revoke("stolen");
    let key = rows[2]["key"].as_str().unwrap();
    assert!(said.status == 0 && said.err.contains(key), "{}", said.err);
    boards[2].process().says("this node was revoked");
    boards[2].kill();
    // Also by what a master knows that was not there when they came.
    boards.iter_mut().take(2).for_each(Agent::kill);
    master.kill();
    master.start();
    let again = listed(&master, &world, "node");
    let second = again.iter().find(|row| row["key"] == rows[1]["key"]).unwrap();
    assert_eq!((&second["hostname"], &second["agent"]), (&rows[1]["hostname"], &rows[1]["agent"]));
    let said = revoke(rows[1]["agent"].as_str().unwrap());
    assert_eq!(said.status, 0, "{}", said.err);
    boards[1].start();
    boards[1].process().says("this node was revoked");
    boards[1].kill();
    // Of what it was called one is left, which the others are no more.
    let said = revoke("zero");
    assert_eq!(said.status, 0, "{}", said.err);
    boards[0].start();
    boards[0].process().says("this node was revoked");
    boards[0].kill();
    let said = revoke("zero");
    assert!(said.status != 0 && said.err.contains("`zero` names 0 nodes"), "{}", said.err);
    master.stop();
}

#[test]
fn what_a_leader_has_counted_and_let_in_its_successor_knows() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let [certificate, key] = authority.files(&world, "127.0.0.1");
    let [all, _] = credentials(&world);
    let ports = [world.port(), world.port(), world.port()].map(|port| port.to_string());
    let list = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let masters = ports.clone().map(|port| {
        let work_dir = world.path(&format!("m{port}"));
        let flags = ["master", "--port", &port, "--masters", &list, "--bootstrap", "--work-dir"];
        let mut command = world.mesita(&flags);
        command.arg(work_dir).args(["--tls-cert-file", &certificate, "--tls-key-file", &key]);
        command.args(["--credentials", &all, "--authenticate-agents"]);
        world.start(command)
    });
    let create = ["token", "create", "--uses", "2", "--expires=1hrs", "--master", &list];
    let text = std::cell::RefCell::new(String::new());
    let made = || {
        let said = world.told(&create);
        *text.borrow_mut() = said.out.trim().to_owned();
        said.status == 0
    };
    eventually(made, || "a leader makes a token".to_owned());
    let text = text.into_inner();
    // What is left of it now, whenever it was written down.
    let left = || {
        let said = world.told(&["token", "ls", "--json", "--master", &list]).out;
        let row = said.lines().next().map(serde_json::from_str::<serde_json::Value>);
        row.and_then(Result::ok).and_then(|row| row["seconds"].as_u64())
    };
    eventually(|| left().is_some_and(|seconds| seconds < 3_600), || format!("{:?}", left()));
    let secure = list.split(',').map(|one| format!("https://{one}")).collect::<Vec<_>>().join(",");
    let mut one = Agent::new(&world, &secure, &["--join", &text]);
    one.start();
    one.process().says("registered with the master");
    // Where the leader is, the agent says.
    let said = one.process().err();
    let at = said.split("registered with the master at 127.0.0.1:").nth(1).unwrap();
    let leader = ports.iter().position(|port| at.starts_with(port)).unwrap();
    let mut masters = masters.map(Some);
    masters[leader].take().unwrap().kill();
    let again = || one.process().err().matches("registered with the master at").count() >= 2;
    assert!(within(crate::world::PATIENCE, again), "{}", one.process().err());
    let uses = || {
        let said = world.told(&["token", "ls", "--json", "--master", &list]);
        said.out
            .lines()
            .next()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["uses"].clone())
    };
    assert_eq!(uses(), Some(1.into()));
    let mut two = Agent::new(&world, &secure, &["--join", &text]);
    two.start();
    two.process().says("registered with the master");
    assert_eq!(uses(), Some(0.into()));
    one.kill();
    two.kill();
    masters.into_iter().flatten().for_each(|master| master.kill());
}

#[test]
fn a_cluster_that_was_made_by_init_is_closed_and_others_join_by_its_line() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some([outside, inside]) = or_skipped(cable(&world)) else { return };
    let directory = world.path("shop");
    let at = directory.to_str().unwrap();
    let init = ["init", "--name", "shop", "--ip", "10.77.0.1", "--dir", at];
    let said = start(&world, &outside, &init).end();
    assert_eq!(said.status, 0, "{}", said.err);
    let again = start(&world, &outside, &init).end();
    assert!(again.status != 0 && again.err.contains("has a cluster already"), "{}", again.err);
    let file = |name: &str| format!("{at}/{name}");
    for name in ["ca.key", "master.key", "operator", "credentials", "agent.token", "master.toml"] {
        let mode = std::fs::metadata(file(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o711, "tasks of users go through to their sandboxes");
    let master = start(&world, &outside, &["master", "--config", &file("master.toml")]);
    master.says("master at 10.77.0.1:5050");
    let root = format!("--cgroups-root={}", world.name());
    let first = ["agent", "--config", &file("agent.toml"), &root, "--hostname=first"];
    let first = start(&world, &outside, &first);
    first.says("registered with the master at 10.77.0.1:5050");
    let line = said.out.lines().find(|line| line.contains("--join")).unwrap();
    let line: Vec<&str> = line.split_whitespace().skip(1).collect();
    let more = [&root, "--hostname=second", "--work-dir"];
    let second = world.path("second");
    let all = [&line[..], &more, &[second.to_str().unwrap()]].concat();
    let second = start(&world, &inside, &all);
    second.says("registered with the master at 10.77.0.1:5050");
    let by = ["--credential", &file("operator"), "--tls-ca-file", &file("ca.pem")];
    let ps = ["ps", "--agents", "--master", "https://10.77.0.1:5050"];
    let rows = start(&world, &inside, &[&ps[..], &by].concat()).end();
    assert!(rows.out.contains("first") && rows.out.contains("second"), "{}{}", rows.out, rows.err);
    let open = start(&world, &inside, &[&ps[..], &by[2..]].concat()).end();
    assert!(open.status != 0 && open.out.is_empty(), "{}", open.out);
    assert!(!directory.join("master/meta/first-tokens").exists());
    for process in [second, first, master] {
        process.signal(Signal::TERM);
        assert_eq!(process.end().status, 0);
    }
}

/// However often one ends, and however.
#[test]
fn no_end_of_a_leader_gives_a_token_time_back() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let (mut master, _) = master(&world, &authority);
    token(&master, &world, &["--expires=1hrs"]);
    let left =
        |master: &Master<'_>| listed(master, &world, "token")[0]["seconds"].as_u64().unwrap();
    assert!(left(&master) > 3_540);
    for ends in 1..=3 {
        master.kill();
        master.start();
        // A minute each: as much as could have been counted and not written down.
        let most = 3_600 - 60 * ends;
        eventually(|| left(&master) <= most, || format!("{} after {ends}", left(&master)));
    }
    master.stop();
    world.nothing_is_left();
}

/// The file of flags is one of secrets then.
#[test]
fn a_token_in_a_file_of_flags_that_others_read_is_refused() {
    let world = World::new();
    let authority = Authority::new(&world, "ca");
    let (master, _) = master(&world, &authority);
    let text = token(&master, &world, &[]);
    let config = world.path("agent.toml");
    let flags = format!(
        "master = \"https://{}\"\njoin = \"{text}\"\nwork_dir = \"{}\"\nisolation = \"posix/rlimits\"\n",
        master.address(),
        world.path("with-config").display(),
    );
    std::fs::write(&config, flags).unwrap();
    let named = config.to_str().unwrap();
    let mode = |mode: u32| std::fs::set_permissions(&config, Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let said = world.told(&["agent", "--config", named]);
    assert!(said.status == 2 && said.err.contains("--config"), "{}", said.err);
    assert!(said.err.contains("the token of `join` is in it, and others can read"), "{}", said.err);
    let doctor = || world.told(&["doctor", "--config", named, "--port=0"]);
    let said = doctor();
    assert!(
        said.status != 0 && said.out.contains("agent.toml (--config, mode 0644)"),
        "{}",
        said.out
    );
    mode(0o600);
    assert!(!doctor().out.contains("(--config"), "{}", doctor().out);
    let agent = world.start(world.mesita(&["agent", "--config", named, "--port=0"]));
    agent.says("registered with the master");
    agent.signal(Signal::TERM);
    agent.end();
    master.stop();
}

/// A cluster on loopback that `mesita init` has made: its directory, and the flags of its master.
fn made(world: &World) -> (std::path::PathBuf, [String; 3]) {
    let (directory, port) = (world.path("shop"), world.port().to_string());
    let init = ["init", "--name=shop", "--ip=127.0.0.1", "--port", &port, "--dir"];
    let said = world.told(&[&init[..], &[directory.to_str().unwrap()]].concat());
    assert_eq!(said.status, 0, "{}", said.err);
    let config = directory.join("master.toml").display().to_string();
    (directory, ["master".to_owned(), "--config".to_owned(), config])
}

fn leads(world: &World, flags: &[String; 3]) -> crate::world::Process {
    let master = world.start(world.mesita(&flags.each_ref().map(String::as_str)));
    master.says("master at 127.0.0.1:");
    master
}

fn ends(master: crate::world::Process) -> crate::world::Said {
    master.signal(Signal::TERM);
    let said = master.end();
    assert_eq!(said.status, 0, "{}", said.err);
    said
}

#[test]
fn first_tokens_that_cannot_be_read_are_told_and_kept() {
    let world = World::new();
    let (directory, flags) = made(&world);
    let first = directory.join("master/meta/first-tokens");
    let whole = std::fs::read(&first).unwrap();
    std::fs::write(&first, "junk").unwrap();
    let master = leads(&world, &flags);
    master.says("first-tokens: it has no tokens that this release knows");
    assert!(ends(master).err.contains("mesita token create"));
    assert_eq!(std::fs::read(&first).unwrap(), b"junk");
    std::fs::write(&first, whole).unwrap();
    let master = leads(&world, &flags);
    eventually(|| !first.exists(), || master.err());
    ends(master);
    world.nothing_is_left();
}

/// What of it cannot be made again is not written over, whatever else is gone.
#[test]
fn no_cluster_is_made_where_one_has_begun() {
    let world = World::new();
    let (directory, flags) = made(&world);
    ends(leads(&world, &flags));
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let before = ["ca.key", "gossip.key", "credentials"].map(read);
    std::fs::rename(directory.join("ca.pem"), directory.join("moved")).unwrap();
    let init = ["init", "--name=shop", "--ip=127.0.0.1", "--dir", directory.to_str().unwrap()];
    let again = world.told(&init);
    assert!(again.status != 0 && again.err.contains("has a cluster already"), "{}", again.err);
    assert_eq!(["ca.key", "gossip.key", "credentials"].map(read), before);
    std::fs::rename(directory.join("moved"), directory.join("ca.pem")).unwrap();
    ends(leads(&world, &flags));
    world.nothing_is_left();
}

/// Else it is somebody whom no other node knows, in silence.
#[test]
fn a_master_without_its_secret_says_which_file_is_gone() {
    let world = World::new();
    let (directory, flags) = made(&world);
    ends(leads(&world, &flags));
    let file = |name: &str| directory.join("master/meta").join(name);
    for (gone, words) in [
        (&["secret"][..], "secret is gone"),
        (&["secret", "key"], "key and `secret` beside it are gone"),
    ] {
        for name in gone {
            std::fs::rename(file(name), world.path(name)).unwrap();
        }
        let said = world.told(&flags.each_ref().map(String::as_str));
        assert!(said.status == 2 && said.err.contains(words), "{gone:?}: {}", said.err);
        for name in gone {
            assert!(!file(name).exists(), "{name} is not made anew");
            std::fs::rename(world.path(name), file(name)).unwrap();
        }
    }
    ends(leads(&world, &flags));
    world.nothing_is_left();
}

/// The first tokens are kept by way of the core, and a journal has all that goes there.
#[test]
fn the_first_master_of_a_cluster_writes_no_journal_before_its_tokens_are_kept() {
    let world = World::new();
    let directory = world.path("shop");
    let port = world.port().to_string();
    let init = ["init", "--name=shop", "--ip=127.0.0.1", "--port", &port, "--dir"];
    let said = world.told(&[&init[..], &[directory.to_str().unwrap()]].concat());
    assert_eq!(said.status, 0, "{}", said.err);
    let said = world.told(&[&init[..], &[directory.to_str().unwrap(), "--journal=x"]].concat());
    assert!(said.status == 2 && said.err.contains("--journal"), "{}", said.err);
    let config = directory.join("master.toml").display().to_string();
    let journal = format!("--journal={}", world.path("journal").display());
    let first = directory.join("master/meta/first-tokens");
    let refused = world.told(&["master", "--config", &config, &journal]);
    assert!(refused.status == 2 && refused.err.contains("first tokens"), "{}", refused.err);
    assert!(first.exists() && !world.path("journal").exists(), "nothing was begun");
    let start = |more: &[&str]| {
        let master = world.start(world.mesita(&[&["master", "--config", &config], more].concat()));
        master.says("master at 127.0.0.1:");
        master
    };
    let stop = |master: crate::world::Process| {
        master.signal(Signal::TERM);
        assert_eq!(master.end().status, 0);
    };
    let master = start(&[]);
    eventually(|| !first.exists(), || master.err());
    stop(master);
    stop(start(&[&journal]));
    world.nothing_is_left();
}

/// No node that has joined would speak with it.
#[test]
fn a_master_does_not_lead_with_the_authority_of_another_cluster() {
    let world = World::new();
    let made = |name: &str| {
        let (directory, port) = (world.path(name), world.port().to_string());
        let init = ["init", "--name=shop", "--ip=127.0.0.1", "--port", &port, "--dir"];
        let said = world.told(&[&init[..], &[directory.to_str().unwrap()]].concat());
        assert_eq!(said.status, 0, "{}", said.err);
        (directory.join("master.toml").display().to_string(), directory.join("master"))
    };
    let ((own, work_dir), (other, _)) = (made("own"), made("other"));
    let work_dir = format!("--work-dir={}", work_dir.display());
    let leads = || {
        let master = world.start(world.mesita(&["master", "--config", &own]));
        master.says("master at 127.0.0.1:");
        master.signal(Signal::TERM);
        assert_eq!(master.end().status, 0);
    };
    leads();
    let said = world.told(&["master", "--config", &other, &work_dir]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("know its masters by the authority"), "{}", said.err);
    leads();
    world.nothing_is_left();
}

#[test]
fn a_node_behind_nat_with_no_clock_joins_by_tls() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let Some([outside, inside]) = or_skipped(cable(&world)) else { return };
    let authority = Authority::new(&world, "ca");
    // The address is none of the certificate's: nodes know masters by key.
    let [certificate, key] = authority.files(&world, "example.org");
    let [all, one] = credentials(&world);
    let (work_dir, agent_dir) = (world.path("outside"), world.path("inside"));
    let [work_dir, agent_dir] = [&work_dir, &agent_dir].map(|path| path.to_str().unwrap());
    let asks = ["agents", "http-readonly", "http-readwrite", "http-frameworks"];
    let asks = asks.map(|of| format!("--authenticate-{of}"));
    let mut flags = vec!["master", "--ip", "10.77.0.1", "--work-dir", work_dir];
    flags.extend(["--tls-cert-file", &certificate, "--tls-key-file", &key, "--credentials", &all]);
    flags.extend(asks.iter().map(String::as_str));
    let master = start(&world, &outside, &flags);
    master.says("master at 10.77.0.1:5050");
    let at = ["--master", "10.77.0.1:5050", "--credential", &one];
    let said = start(&world, &outside, &[&["token", "create"], &at[..]].concat()).end();
    assert_eq!(said.status, 0, "{}", said.err);
    let token = said.out.trim();
    let root = format!("--cgroups-root={}", world.name());
    let to = ["--master", "https://10.77.0.1:5050"];
    let agent = ["agent", "--work-dir", agent_dir, &root, "--join", token];
    let agent = start(&world, &inside, &[&agent[..], &to].concat());
    agent.says("registered with the master at 10.77.0.1:5050");
    let mark = world.marked();
    let run = ["run", &mark, "--user", "nobody", "--command", "echo there"];
    let said = start(&world, &outside, &[&run[..], &at].concat()).end();
    assert_eq!((said.status, said.out.as_str()), (0, "there\n"), "{}", said.err);
    assert!(Path::new(agent_dir).join("meta/joined").exists());
    for process in [agent, master] {
        process.signal(Signal::TERM);
        assert_eq!(process.end().status, 0);
    }
}
