//! Principals that the masters keep: made while the cluster runs, limited to what is theirs, removed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::credentials::{EVERYBODY, credential, credentials, plain_credentials, secret_file};
use crate::http::{Records, Sending, ask, post};
use crate::inner::{self, Host};
use crate::masters::Set;
use crate::scheduler_api::{JSON, subscription};
use crate::world::{Master, Said, Signal, World, eventually, needs_root};

/// A master that asks everybody, and what its operator shows.
fn closed<'w>(world: &'w World, more: &[&str]) -> (Master<'w>, String) {
    let known = credentials(world);
    let master = world.master(&[&[&*known], &EVERYBODY[..], more].concat());
    let (_, operator) = credential(world, "ops");
    (master, format!("--credential={operator}"))
}

/// `mesita` to a master, as somebody.
fn said(world: &World, master: &Master<'_>, words: &[&str], shown: &str) -> Said {
    let at = format!("--master={}", master.address());
    let (begin, command) =
        words.split_at(words.iter().position(|word| *word == "--").unwrap_or(words.len()));
    world.told(&[begin, &[&*at, shown], command].concat())
}

/// Makes a principal; the flag by which it shows itself, and its secret.
fn add(world: &World, master: &Master<'_>, operator: &str, words: &[&str]) -> (String, String) {
    let path = world.path(&format!("{}.made", words[0]));
    let out = format!("--out={}", path.display());
    let added = said(world, master, &[&["principal", "add"], words, &[&*out]].concat(), operator);
    assert_eq!((added.status, &*added.out), (0, ""), "{}", added.err);
    let text = fs::read_to_string(&path).unwrap();
    let made: Value = serde_json::from_str(&text).unwrap();
    (format!("--credential={}", path.display()), made["secret"].as_str().unwrap().to_owned())
}

#[test]
fn a_principal_that_was_added_may_do_what_is_its_own_and_nothing_else() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let (master, operator) = closed(&world, &[]);
    let (_, pis) = credential(&world, "pis");
    let agent = master.agent(&["--credential", &pis]);
    let (shop, secret) =
        add(&world, &master, &operator, &["shop", "--role=shop,shop/%", "--user=nobody"]);
    assert_eq!(secret.len(), 48);
    let listed = said(&world, &master, &["principal", "ls"], &operator);
    assert!(listed.out.contains("shop") && listed.out.contains("shop,shop/%"), "{}", listed.out);
    let mark = world.marked();
    let run = |more: &[&str]| {
        let begin = ["run", &mark, "--wait=5secs"];
        said(&world, &master, &[&begin, more, &["--", "echo", "out"]].concat(), &shop)
    };
    for role in ["shop", "shop/till"] {
        let ran = run(&["--role", role, "--user=nobody"]);
        assert_eq!((ran.status, &*ran.out), (0, "out\n"), "{role}: {}", ran.err);
    }
    for (flags, why) in [
        (&["--role=*", "--user=nobody"][..], "Not authorized to use roles"),
        (&["--role=db", "--user=nobody"], "Not authorized to use roles"),
        (&["--role=shop", "--user=root"], "root"),
        (&["--role=shop", "--user=daemon"], "daemon"),
    ] {
        let refused = run(flags);
        assert_ne!(refused.status, 0, "{flags:?}");
        assert!(refused.err.contains(why), "{flags:?}: {}", refused.err);
    }
    for words in [
        &["quota", "set", "shop", "--guarantee=cpus:1"][..],
        &["principal", "add", "more"],
        &["principal", "ls"],
        &["principal", "rm", "shop"],
        &["store", "get", "shop", "--owner=:principals"],
        &["drain", "x"],
        &["masters", "remove", "1"],
    ] {
        let refused = said(&world, &master, words, &shop);
        assert_ne!(refused.status, 0, "{words:?}: {}", refused.out);
    }
    // It may read what runs.
    assert_eq!(said(&world, &master, &["ps"], &shop).status, 0);
    // Nobody is told its secret, not even who made it.
    let refused =
        said(&world, &master, &["store", "get", "shop", "--owner=:principals"], &operator);
    assert!(refused.status != 0 && refused.err.contains("secrets are not told"), "{}", refused.err);
    let listed = said(&world, &master, &["principal", "ls", "--json"], &operator);
    assert!(!listed.out.contains(&secret));
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// Principals of `--credentials` as Mesos has them: it says nothing of what they may.
#[test]
fn a_principal_of_the_file_operates_nothing_unless_that_is_said() {
    let world = World::new();
    let known = plain_credentials(&world);
    let master = world.master(&[&[&*known], &EVERYBODY[..]].concat());
    master.process().says("ops, pis, web of --credentials may read");
    let shown = |who: &str| format!("--credential={}", credential(&world, who).1);
    let (pis, web) = (shown("pis"), shown("web"));
    let mut refused = crate::world::Agent::new(&world, &master.address(), &[&pis]);
    refused.start();
    refused.process().says("\"agent\": true beside their secret in --credentials");
    refused.kill();
    for words in [
        &["quota", "set", "shop", "--guarantee=cpus:1"][..],
        &["weights", "set", "shop=2"],
        &["drain", "x"],
        &["maintenance", "start", "x"],
        &["masters", "remove", "1"],
        &["principal", "add", "more"],
        &["principal", "rm", "more"],
        &["token", "create"],
        &["token", "create", "--role=master"],
        &["token", "ls"],
        &["node", "ls"],
        &["audit"],
        &["store", "ls", "--owner=ops"],
        &["run", "--user=nobody", "--wait=5s", "--", "true"],
        &["run", "--user=nobody", "--role=web", "--wait=5s", "--", "true"],
    ] {
        let refused = said(&world, &master, words, &web);
        assert_ne!(refused.status, 0, "{words:?}: {}", refused.out);
    }
    let basic =
        |who: &str| format!("Basic {}", STANDARD.encode(format!("{who}:planted-3f9c-{who}")));
    let (basic_web, basic_ops) = (basic("web"), basic("ops"));
    let quota =
        json!({"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [{"role": "web"}]}});
    let call =
        |shown: &str, call: &Value| post(master.port, "/api/v1", &[("Authorization", shown)], call);
    let denied = call(&basic_web, &quota);
    let why = "\"operate\": true beside their secret in --credentials";
    assert!(denied.status == 403 && denied.text().contains(why), "{}", denied.text());
    for (path, body) in [
        ("/teardown", "frameworkId=x"),
        ("/machine/down", "[]"),
        ("/weights", "[{\"role\": \"web\", \"weight\": 2}]"),
        ("/masters/change", "{\"remove\": 1}"),
        ("/logging/toggle", ""),
    ] {
        let method = if path == "/weights" { "PUT" } else { "POST" };
        let headers = [("Authorization", &*basic_web)];
        let answer = ask(master.port, method, path, &headers, body.as_bytes());
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    // What it has stored is its own, and it reads.
    assert_eq!(said(&world, &master, &["store", "put", "k", "v"], &web).status, 0);
    assert_eq!(said(&world, &master, &["ps"], &web).status, 0);
    master.stop();
    // Mesos' own way is one word, and another closes what no rule allows.
    for (rules, who, status) in [
        (r#"--acls={"permissive": true}"#, &basic_web, 200),
        (
            r#"--acls={"permissive": false, "update_quotas": [{"principals": {"values": ["ops"]},
            "roles": {"type": "ANY"}}]}"#,
            &basic_ops,
            200,
        ),
        (r#"--acls={"permissive": false}"#, &basic_ops, 403),
        // A rule is about what it is about.
        (
            r#"--acls={"run_tasks": [{"principals": {"type": "ANY"}, "users": {"type": "ANY"}}]}"#,
            &basic_ops,
            403,
        ),
    ] {
        let master = world.master(&[&[&*known, rules], &EVERYBODY[..]].concat());
        let headers = [("Authorization", &**who)];
        let answer = post(master.port, "/api/v1", &headers, &quota);
        assert_eq!(answer.status, status, "{rules}: {}", answer.text());
        master.stop();
    }
    let master = world.master(&[&[&*credentials(&world)], &EVERYBODY[..]].concat());
    let headers = [("Authorization", &*basic_ops)];
    assert_eq!(post(master.port, "/api/v1", &headers, &quota).status, 200);
    let agent = master.agent(&[&pis]);
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// No master has to be started again because somebody is to be let in no more.
#[test]
fn the_file_of_credentials_is_read_again_and_who_is_not_in_it_is_cut_off() {
    let world = World::new();
    let (master, operator) = closed(&world, &[]);
    let row = |who: &str, secret: &str, more: &Value| {
        let mut row = json!({"principal": who, "secret": secret});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    let write = |rows: &[Value]| {
        secret_file(&world, "credentials", &json!({ "credentials": rows }));
    };
    let hang_up = || master.process().signal(Signal::HUP);
    let basic =
        |who: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{who}:{secret}")));
    let web = basic("web", "planted-3f9c-web");
    let headers = [&JSON[..], &[("Authorization", &*web)]].concat();
    let call = subscription(&json!({"roles": ["*"], "user": "nobody"}));
    let open = |path: &str, body: &str| Records::open(master.port, path, &headers, body.as_bytes());
    let mut framework = open("/api/v1/scheduler", &call.to_string());
    framework.until("SUBSCRIBED");
    let mut events = open("/api/v1", r#"{"type": "SUBSCRIBE"}"#);
    events.until("SUBSCRIBED");
    let (_, shown) = credential(&world, "web");
    let at = format!("--master={}", master.address());
    let watch = world.mesita(&["events", "--json", &at, &format!("--credential={shown}")]);
    let watch = world.start(watch);
    watch.prints("SUBSCRIBED");
    let status =
        |shown: &str| ask(master.port, "GET", "/state", &[("Authorization", shown)], b"").status;
    // What is no use changes nothing, and is said.
    for (bad, why) in [
        (json!({"credentials": [{"principal": "web"}]}), "`web` has no secret"),
        (json!({"credentials": []}), "nobody is left in it"),
        (json!({"credentials": [row("a", "b", &json!({"operates": true}))]}), "operate and agent"),
        (json!({"credentials": [row("a", "b", &json!({"roles": ["//"]}))]}), "is no role"),
    ] {
        secret_file(&world, "credentials", &bad);
        hang_up();
        master.process().says(why);
        assert_eq!(status(&web), 200, "{why}");
    }
    assert!(master.process().err().contains("the credentials stay as they were"));
    let operates = json!({"operate": true, "roles": ["/%"]});
    let ops = row("ops", "planted-3f9c-ops", &operates);
    write(&[ops.clone(), row("new", "a secret", &json!({}))]);
    hang_up();
    while framework.event().is_some() {}
    while events.event().is_some() {}
    eventually(
        || watch.has_ended() || watch.err().contains("asks for a credential"),
        || watch.err(),
    );
    drop(watch);
    assert_eq!((status(&web), status(&basic("new", "a secret"))), (401, 200));
    // Who operated, and is not said to any more, does not by a connection of before.
    let mut before = Records::open(
        master.port,
        "/api/v1",
        &[&JSON[..], &[("Authorization", &*basic("ops", "planted-3f9c-ops"))]].concat(),
        br#"{"type": "SUBSCRIBE"}"#,
    );
    before.until("SUBSCRIBED");
    write(&[row("ops", "planted-3f9c-ops", &json!({}))]);
    hang_up();
    while before.event().is_some() {}
    assert_ne!(
        said(&world, &master, &["quota", "set", "a", "--limit=cpus:1"], &operator).status,
        0
    );
    // One that is kept counts when the file has it no more, and the reverse.
    write(std::slice::from_ref(&ops));
    hang_up();
    eventually(
        || said(&world, &master, &["weights", "set", "a=2"], &operator).status == 0,
        || master.process().err(),
    );
    let (kept, _) = add(&world, &master, &operator, &["both", "--role=both"]);
    let ps = |shown: &str| said(&world, &master, &["ps"], shown).status;
    assert_eq!(ps(&kept), 0);
    write(&[ops.clone(), row("both", "other", &json!({}))]);
    hang_up();
    eventually(|| status(&basic("both", "other")) == 200, || master.process().err());
    assert_ne!(ps(&kept), 0, "the file's secret counts");
    write(&[ops]);
    hang_up();
    eventually(|| ps(&kept) == 0, || master.process().err());
    assert_eq!(status(&basic("both", "other")), 401);
    drop((framework, events, before));
    master.stop();
    world.nothing_is_left();
}

/// An id is no secret: a master that never heard of a framework knows whose it is.
#[test]
fn a_framework_of_a_master_that_was_killed_is_its_principals_alone() {
    let world = World::new();
    let (mut master, operator) = closed(&world, &[]);
    let [shop, thief] = ["shop", "thief"].map(|name| {
        let (_, secret) = add(&world, &master, &operator, &[name, "--role=shop", "--user=nobody"]);
        format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
    });
    let subscribe = |master: &Master<'_>, shown: &str, more: Value| {
        let mut call = subscription(&json!({ "user": "nobody", "roles": ["shop"] }));
        let info = &mut call["subscribe"]["framework_info"];
        info["failover_timeout"] = json!(600.0);
        if !more.is_null() {
            info["id"] = more.clone();
            call["framework_id"] = more;
        }
        let headers = [&JSON[..], &[("Authorization", shown)]].concat();
        Records::open(master.port, "/api/v1/scheduler", &headers, call.to_string().as_bytes())
    };
    let id = subscribe(&master, &shop, Value::Null).until("SUBSCRIBED")["framework_id"].clone();
    // SUBSCRIBED may come before that is on disk; what an operator is answered comes after all before it.
    assert_eq!(said(&world, &master, &["weights", "set", "shop=2"], &operator).status, 0);
    for _ in 0..2 {
        master.kill();
        master.start();
        let refused = subscribe(&master, &thief, id.clone()).event().unwrap();
        assert_eq!(refused["error"]["message"], "this caller may not do that", "{refused}");
        let mut again = subscribe(&master, &shop, id.clone());
        assert_eq!(again.until("SUBSCRIBED")["framework_id"], id);
    }
    master.stop();
    world.nothing_is_left();
}

/// Who may not run tasks as root cannot make itself somebody who may.
#[test]
fn nobody_hands_on_that_root_runs_its_tasks_who_may_not_do_that_itself() {
    let world = World::new();
    let (master, operator) = closed(&world, &[]);
    for user in ["root", "0", "00", "+0"] {
        let (root, why) = (matches!(user, "root" | "0"), ["is no user", "hands that on to nobody"]);
        let user = format!("--user={user}");
        let more = ["principal", "add", "more", "--operate", "--role=*", &user];
        let refused = said(&world, &master, &more, &operator);
        assert_ne!(refused.status, 0, "{}", refused.out);
        assert!(refused.err.contains(why[usize::from(root)]), "{}", refused.err);
    }
    // Nor other users than its own, by name or by naming none.
    let (some, _) = add(&world, &master, &operator, &["some", "--operate", "--user=nobody,daemon"]);
    for (users, why) in
        [(&["--user=www-data"][..], "tasks as `www-data`"), (&[], "name them by --user")]
    {
        let more = [&["principal", "add", "less"][..], users].concat();
        let refused = said(&world, &master, &more, &some);
        assert!(refused.status != 0 && refused.err.contains(why), "{users:?}: {}", refused.err);
    }
    add(&world, &master, &some, &["less", "--user=nobody"]);
    // What cannot be is told before it is kept.
    for (flag, why) in [("--role=a//b", "is no role"), ("--user=no such:user", "is no user")] {
        let refused = said(&world, &master, &["principal", "add", "never", flag], &operator);
        assert!(refused.status != 0 && refused.err.contains(why), "{flag}: {}", refused.err);
    }
    master.stop();
    let rules = r#"--acls={"run_tasks": [{"principals": {"values": ["ops"]}, "users": {"values": ["root"]}}]}"#;
    let (master, operator) = closed(&world, &[rules]);
    add(&world, &master, &operator, &["more", "--role=*", "--user=root"]);
    master.stop();
    world.nothing_is_left();
}

/// Rules know users by their texts, so that one that they deny is nobody's under another.
#[test]
fn nobody_runs_as_whom_rules_deny_by_another_text() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let denied = json!({"run_tasks": [
        {"principals": {"type": "NONE"}, "users": {"values": ["root", "nobody"]}}]});
    let (master, operator) = closed(&world, &[&format!("--acls={denied}")]);
    let (_, pis) = credential(&world, "pis");
    let agent = master.agent(&["--credential", &pis]);
    let (plain, _) = add(&world, &master, &operator, &["plain", "--role=plain"]);
    let mark = world.marked();
    let run = |user: &str| {
        let flags = ["run", &mark, "--wait=5secs", "--role=plain", "--user", user];
        said(&world, &master, &[&flags[..], &["--", "id", "-u"]].concat(), &plain)
    };
    let number = mesita_isolation::user::resolve("nobody").unwrap().uid.to_string();
    for user in ["root", "0", "00", "+0", "nobody", &number, &format!("0{number}")] {
        let refused = run(user);
        assert_ne!(refused.status, 0, "{user}: {}", refused.out);
        assert_eq!(refused.out, "", "{user}");
    }
    assert!(run(&number).err.contains("has a name: say `nobody`"), "{}", run(&number).err);
    for (user, uid) in [("daemon", "1\n"), ("54321", "54321\n")] {
        let ran = run(user);
        assert_eq!((ran.status, &*ran.out), (0, uid), "{user}: {}", ran.err);
    }
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// Inside of a task as outside: by way of the master, to an agent that knows nothing of its terms.
#[test]
fn who_runs_tasks_as_some_users_is_nobody_else_inside_of_them() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let (master, operator) = closed(&world, &[]);
    let (_, pis) = credential(&world, "pis");
    let named = json!({"launch_nested_container_sessions_as_user": [
        {"principals": {"values": ["onlyn"]}, "users": {"values": ["games"]}}]});
    let agent = master.agent(&["--credential", &pis, &format!("--acls={named}")]);
    let (onlyn, secret) =
        add(&world, &master, &operator, &["onlyn", "--role=w", "--user=nobody", "--operate"]);
    let (at, mark) = (format!("--master={}", master.address()), world.marked());
    let flags = ["run", &mark, "--name=host", "--role=w", "--user=nobody", &at, &onlyn];
    let command = ["--", "sh", "-c", "echo on; sleep 1000"];
    let host = world.start(world.mesita(&[&flags[..], &command].concat()));
    host.prints("on");
    let exec = |user: &[&str]| {
        let words = [&["exec"], user, &["host", "--", "id", "-un"]].concat();
        said(&world, &master, &words, &onlyn)
    };
    let own =
        [(&[][..], "nobody\n"), (&["--user=nobody"], "nobody\n"), (&["--user=games"], "games\n")];
    for (user, name) in own {
        let told = exec(user);
        assert_eq!((told.status, &*told.out), (0, name), "{user:?}: {}", told.err);
    }
    // Nor in a container of its own, which is inside of none.
    let basic = format!("Basic {}", STANDARD.encode(format!("onlyn:{secret}")));
    let agents = said(&world, &master, &["ps", "--agents", "--json"], &operator).out;
    let id = serde_json::from_str::<Value>(&agents).unwrap()["id"].as_str().unwrap().to_owned();
    let part =
        json!({"container_id": {"value": "alone"}, "command": {"value": "id", "user": "daemon"}});
    let call = json!({"type": "LAUNCH_CONTAINER", "launch_container": part});
    let path = format!("/agent/{id}/api/v1");
    let asks = |call: &Value| post(master.port, &path, &[("Authorization", &*basic)], call);
    let answer = asks(&call);
    assert!(answer.status == 403 && answer.text().contains("`daemon`"), "{}", answer.text());
    let told: Value =
        serde_json::from_str(&asks(&json!({"type": "GET_CONTAINERS"})).text()).unwrap();
    let parent = told["get_containers"]["containers"][0]["container_id"].clone();
    for (at, user) in ["daemon", "root", "0", "00", "+0", "games"].into_iter().enumerate() {
        let why = format!("run anything as the user `{user}` here");
        let id = json!({"value": format!("kid{at}"), "parent": parent});
        let part = json!({"container_id": id, "command": {"value": "id", "user": user}});
        let answer =
            asks(&json!({"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": part}));
        assert!(answer.status == 403 && answer.text().contains(&why), "{user}: {}", answer.text());
        if user != "games" {
            let refused = exec(&["--user", user]);
            assert!(refused.status != 0 && refused.out.is_empty(), "{user}: {}", refused.out);
            assert!(refused.err.contains(&why), "{user}: {}", refused.err);
        }
    }
    host.signal(Signal::INT);
    host.end();
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

/// A token of masters makes one, and with that all keys of the cluster are its own.
#[test]
fn a_rule_on_masters_is_one_on_their_tokens() {
    let world = World::new();
    let rules = r#"--acls={"change_masters": [{"principals": {"values": ["ops"]}, "masters": {"type": "NONE"}}]}"#;
    let (master, operator) = closed(&world, &[rules]);
    let owner = "--owner=:tokens";
    let refused = said(&world, &master, &["store", "put", "00000001", "x", owner], &operator);
    assert_ne!(refused.status, 0, "{}", refused.out);
    assert!(refused.err.contains("`change_masters` of --acls"), "{}", refused.err);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn streams_over_http_end_with_their_principal() {
    let world = World::new();
    let (master, operator) = closed(&world, &[]);
    let (_, secret) = add(&world, &master, &operator, &["watch", "--role=watch"]);
    let bearer = format!("Bearer {secret}");
    let headers = [&JSON[..], &[("Authorization", &*bearer)]].concat();
    let mut call = subscription(&serde_json::json!({"roles": ["watch"], "user": "nobody"}));
    call["subscribe"]["framework_info"]["principal"] = "watch".into();
    let open = |path: &str, body: &str| Records::open(master.port, path, &headers, body.as_bytes());
    let mut framework = open("/api/v1/scheduler", &call.to_string());
    framework.until("SUBSCRIBED");
    let mut events = open("/api/v1", r#"{"type": "SUBSCRIBE"}"#);
    events.until("SUBSCRIBED");
    assert_eq!(said(&world, &master, &["principal", "rm", "watch"], &operator).status, 0);
    while framework.event().is_some() {}
    while events.event().is_some() {}
    drop((framework, events));
    master.stop();
    world.nothing_is_left();
}

/// Sessions, followed logs and what waits for an answer: by way of the master, and at the agent's own port.
#[test]
fn what_a_principal_has_open_at_agents_ends_with_it() {
    let world = World::new();
    let master = world.master(&[&*credentials(&world)]);
    let row = |who: &str| json!({"principal": who, "secret": format!("of-{who}-itself"), "operate": true});
    let own = |rows: &[Value]| secret_file(&world, "own", &json!({ "credentials": rows }));
    let known = own(&[row("stays"), row("goes")]);
    let agent = master
        .agent(&["--isolation=posix/rlimits", &format!("--http-credentials={}", known.display())]);
    let host = Host::on(master, agent, |_| Vec::new());
    let (_, operator) = credential(&world, "ops");
    let operator = format!("--credential={operator}");
    let (shown, secret) = add(&world, &host.master, &operator, &["watch", "--operate"]);
    let basic =
        |who: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{who}:{secret}")));
    let watch = basic("watch", &secret);
    let [stays, goes] = ["stays", "goes"].map(|who| basic(who, &format!("of-{who}-itself")));
    let session = |port: u16, path: &str, name: &str, shown: &str| {
        let part =
            json!({"container_id": host.inside(name), "command": {"value": "echo on; sleep 987"}});
        let call = json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION",
                          "launch_nested_container_session": part});
        let headers = [&JSON[..], &[("Authorization", shown)]].concat();
        let mut records = Records::open(port, path, &headers, call.to_string().as_bytes());
        assert!(records.record().is_some(), "{name}");
        records
    };
    let (path, port) = (host.path(), host.agent.port);
    let mut by_master = session(host.master.port, &path, "one", &watch);
    let mut at_agent = session(port, "/api/v1", "two", &goes);
    // Sessions of another, that go on.
    let mut kept = ["three", "four"].map(|name| session(port, "/api/v1", name, &stays));
    let attach = |port: u16, path: &str, name: &str, shown: &str| {
        let headers = [
            ("Content-Type", "application/recordio"),
            ("Message-Content-Type", "application/json"),
            ("Authorization", shown),
        ];
        let mut input = Sending::open(port, path, &headers);
        let first = json!({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input":
            {"type": "CONTAINER_ID", "container_id": host.inside(name)}});
        input.record(first.to_string().as_bytes());
        assert!(!input.is_answered_within(Duration::from_millis(100)), "{name}");
        input
    };
    let input_by_master = attach(host.master.port, &path, "three", &watch);
    let input_at_agent = attach(port, "/api/v1", "four", &goes);
    let at = format!("--master={}", host.master.address());
    let logs = world.start(world.mesita(&["logs", "--follow", "host", &at, &shown]));
    let exec = ["exec", &at, &shown, "host", "--", "sh", "-c", "echo in; sleep 987"];
    let exec = world.start(world.mesita(&exec));
    exec.prints("in");
    let of = |name: &str| {
        let shown = inner::shown(&host, &json!({"show_nested": true}));
        shown.iter().any(|one| one["container_id"]["value"] == name)
    };
    assert!(["one", "two", "three", "four"].into_iter().all(of));
    assert_eq!(said(&world, &host.master, &["principal", "rm", "watch"], &operator).status, 0);
    while by_master.record().is_some() {}
    assert_eq!(input_by_master.end().status, 401);
    let no_more = |err: String| err.contains("this principal is no more");
    eventually(|| no_more(exec.err()) && no_more(logs.err()), || exec.err() + &logs.err());
    // What runs in sessions ends with who watched it.
    eventually(|| !of("one") && of("two"), || format!("{:?}", world.processes()));
    own(&[row("stays")]);
    host.agent.process().signal(Signal::HUP);
    while at_agent.record().is_some() {}
    assert_eq!(input_at_agent.end().status, 401);
    eventually(|| !of("two"), || format!("{:?}", world.processes()));
    for (name, records) in ["three", "four"].into_iter().zip(&mut kept) {
        assert!(of(name), "who is still known goes on");
        let part = json!({"container_id": host.inside(name)});
        let kill = json!({"type": "KILL_NESTED_CONTAINER", "kill_nested_container": part});
        assert_eq!(post(port, "/api/v1", &[("Authorization", &*stays)], &kill).status, 200);
        while records.record().is_some() {}
    }
    drop((by_master, at_agent, kept, logs, exec));
    host.end(&world);
}

/// Rules and rates are read again as credentials are, and one that is no use changes nothing.
#[test]
fn rules_and_rates_are_read_again() {
    let world = World::new();
    let known = plain_credentials(&world);
    let (rules, rates) = (world.path("rules"), world.path("rates"));
    let write = |path: &Path, text: &str| fs::write(path, text).unwrap();
    let quotas = |who: &str| {
        format!(
            r#"{{"permissive": true, "update_quotas": [
                {{"principals": {{"values": ["{who}"]}}, "roles": {{"type": "ANY"}}}},
                {{"principals": {{"type": "ANY"}}, "roles": {{"type": "NONE"}}}}]}}"#
        )
    };
    write(&rules, &quotas("ops"));
    write(&rates, "{}");
    let files =
        [format!("--acls={}", rules.display()), format!("--rate-limits={}", rates.display())];
    let flags = [&*known, &*files[0], &*files[1]];
    let master = world.master(&[&flags[..], &EVERYBODY[..]].concat());
    let set = |who: &str| {
        let shown = format!("--credential={}", credential(&world, who).1);
        said(&world, &master, &["quota", "set", "a", "--limit=cpus:1"], &shown).status
    };
    assert_eq!((set("ops"), set("web")), (0, 1));
    let hang_up = || master.process().signal(Signal::HUP);
    for (bad, why) in [
        ("{\"run_taks\": []}", "`run_taks` is not known"),
        ("{", "--acls: "),
        (
            r#"{"view_roles": [{"principals": {"type": "ANY"}, "roles": {"values": ["a/%/b"]}}]}"#,
            "`a/%/b` is no role",
        ),
    ] {
        write(&rules, bad);
        write(&rates, "{\"limit\": []}");
        hang_up();
        master.process().says(why);
        assert_eq!((set("ops"), set("web")), (0, 1), "{why}");
    }
    let said = master.process().err();
    assert!(said.contains("the rules stay as they were"), "{said}");
    assert!(said.contains("the rates stay as they were"), "{said}");
    write(&rules, &quotas("web"));
    write(&rates, r#"{"aggregate_default_qps": 0.001, "aggregate_default_capacity": 0}"#);
    hang_up();
    eventually(|| set("web") == 0, || master.process().err());
    assert_eq!(set("ops"), 1);
    // A call of a framework, whatever it is: the second waits for a quarter of an hour, or may not.
    let shown = [JSON[0], JSON[1], ("Authorization", "Basic d2ViOnBsYW50ZWQtM2Y5Yy13ZWI=")];
    let call = json!({"type": "TEARDOWN", "framework_id": {"value": "none"}});
    let call = || post(master.port, "/api/v1/scheduler", &shown[2..], &call).status;
    assert_eq!((call(), call()), (400, 429));
    // Who may run tasks as root from now on has that at once, and who may not any more is cut off.
    let root = quotas("web").replacen(
        '{',
        r#"{"run_tasks": [{"principals": {"values": ["web"]}, "users": {"type": "ANY"}}], "#,
        1,
    );
    write(&rates, "{}");
    let subscribe = || {
        let call = subscription(&json!({"user": "root", "principal": "web"}));
        let mut events =
            Records::open(master.port, "/api/v1/scheduler", &shown, call.to_string().as_bytes());
        let first = events.event().unwrap();
        (events, first["type"] == "SUBSCRIBED")
    };
    assert!(
        call() == 429 && {
            hang_up();
            eventually(|| call() == 400, || master.process().err());
            !subscribe().1
        }
    );
    write(&rules, &root);
    hang_up();
    eventually(|| subscribe().1, || master.process().err());
    let (mut events, _) = subscribe();
    write(&rules, &quotas("web"));
    hang_up();
    while events.event().is_some() {}
    assert!(!subscribe().1);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn another_secret_and_the_end_of_a_principal_count_at_once() {
    let world = World::new();
    let (master, operator) = closed(&world, &[]);
    let (old, _) = add(&world, &master, &operator, &["watch", "--role=watch"]);
    let ps = |shown: &str| said(&world, &master, &["ps"], shown).status;
    assert_eq!(ps(&old), 0);
    let twice = said(&world, &master, &["principal", "add", "watch"], &operator);
    assert!(twice.status == 1 && twice.out.is_empty(), "{}", twice.err);
    assert!(twice.err.contains("there is a principal `watch`: --replace"), "{}", twice.err);
    let again = ["principal", "add", "watch", "--role=watch", "--replace"];
    let again = said(&world, &master, &again, &operator);
    assert_eq!(again.status, 0, "{}", again.err);
    assert_ne!(ps(&old), 0, "the old secret is none any more");
    let new = world.path("new");
    fs::write(&new, again.out).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    let new = format!("--credential={}", new.display());
    assert_eq!(ps(&new), 0);
    // Who is connected is cut off with its principal.
    let at = format!("--master={}", master.address());
    let waits = world.start(world.mesita(&[
        "run",
        &at,
        &new,
        "--role=watch",
        "--user=nobody",
        "--",
        "true",
    ]));
    let frameworks = || {
        let listed = said(&world, &master, &["ps", "--frameworks", "--json"], &operator);
        listed.out.lines().filter(|line| line.contains("active")).count()
    };
    eventually(|| frameworks() == 1, || waits.err());
    assert_eq!(said(&world, &master, &["principal", "rm", "watch"], &operator).status, 0);
    let told = || waits.has_ended() || waits.err().contains("asks for a credential");
    eventually(told, || waits.err());
    drop(waits);
    assert_ne!(ps(&new), 0);
    let gone = said(&world, &master, &["principal", "rm", "watch"], &operator);
    assert!(gone.status == 1 && gone.err.contains("there is no principal `watch`"), "{}", gone.err);
    // Those of the file are changed there.
    let taken = said(&world, &master, &["principal", "add", "web"], &operator);
    assert!(taken.err.contains("--credentials: change it there"), "{}", taken.err);
    master.stop();
    world.nothing_is_left();
}

#[test]
fn an_agent_is_let_in_by_a_principal_for_agents_alone() {
    let world = World::new();
    let (master, operator) = closed(&world, &[]);
    let (agents, _) = add(&world, &master, &operator, &["boards", "--agent"]);
    let (others, _) = add(&world, &master, &operator, &["others", "--role=*"]);
    let refused = crate::world::Agent::new(&world, &master.address(), &[&others]);
    let mut refused = refused;
    refused.start();
    refused.process().says("may register agents");
    let agent = master.agent(&[&agents]);
    assert_eq!(said(&world, &master, &["drain", "x"], &agents).status, 1, "it operates nothing");
    refused.kill();
    agent.leave();
    master.stop();
    world.nothing_is_left();
}

#[test]
fn principals_outlive_every_master_and_their_secrets_are_in_the_registry_alone() {
    let world = World::new();
    let known = credentials(&world);
    let (_, operator) = credential(&world, "ops");
    let mut master = world.master(&[&[&*known], &EVERYBODY[..]].concat());
    let operator = format!("--credential={operator}");
    let (shown, secret) = add(&world, &master, &operator, &["web2", "--role=web2"]);
    assert_eq!(said(&world, &master, &["ps"], &shown).status, 0);
    master.kill();
    master.start();
    eventually(
        || said(&world, &master, &["ps"], &shown).status == 0,
        || "the principal".to_owned(),
    );
    let pair = format!("web2:{secret}");
    let basic = format!("Basic {}", STANDARD.encode(pair));
    let headers = [("Authorization", &*basic)];
    assert_eq!(ask(master.port, "GET", "/state", &headers, b"").status, 200);
    let bearer = format!("Bearer {secret}");
    let state = ask(master.port, "GET", "/state", &[("Authorization", &*bearer)], b"");
    assert_eq!(state.status, 200);
    assert!(!state.text().contains(&secret));
    let weights = br#"[{"role": "web2", "weight": 2}]"#;
    assert_eq!(ask(master.port, "PUT", "/weights", &headers, weights).status, 403);
    master.stop();
    let holders = holding(&world.path(""), &secret);
    let names: Vec<&str> = holders.iter().filter_map(|path| path.rsplit('/').next()).collect();
    assert!(names.iter().all(|name| ["registry", "web2.made"].contains(name)), "{holders:?}");
    assert!(names.contains(&"registry"));
    world.nothing_is_left();
}

#[test]
fn a_master_that_writes_a_journal_keeps_no_secrets() {
    let world = World::new();
    let journal = format!("--journal={}", world.path("journal").display());
    let (master, operator) = closed(&world, &[&journal]);
    let refused = said(&world, &master, &["principal", "add", "web2"], &operator);
    assert!(refused.status == 1 && refused.out.is_empty(), "{}", refused.out);
    assert!(refused.err.contains("--journal"), "{}", refused.err);
    master.stop();
    world.nothing_is_left();
}

/// Files below a directory that have a text in them.
fn holding(directory: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(holding(&path, text));
        } else if entry.file_type().unwrap().is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn a_new_leader_knows_the_principals_of_the_one_before() {
    let world = World::new();
    let known = credentials(&world);
    let mut set = Set::made(&world, &[&[&*known], &EVERYBODY[..]].concat());
    let (_, operator) = credential(&world, "ops");
    let operator = format!("--credential={operator}");
    let first = set.leader();
    let out = world.path("made");
    let out_flag = format!("--out={}", out.display());
    let added = set.told("principal", &["add", "kept", "--operate", &out_flag, &operator]);
    assert_eq!(added.status, 0, "{}", added.err);
    set.kill(first);
    let shown = format!("--credential={}", out.display());
    let told = || set.told("principal", &["ls", &shown]);
    eventually(|| told().status == 0 && told().out.contains("kept"), || told().err);
    set.stop();
    world.nothing_is_left();
}
