//! What a keeper of root's does with tasks of others. Needs root.

use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use mesita_core::wire::task::Exit;
use mesita_isolation::keeper::protocol::{Held, Launch, Namespaces, Reply, Step, User};
use mesita_isolation::keeper::wall::Wall;
use mesita_isolation::sandbox;
use rustix::process::Signal;

use crate::world::{Agent, Directory, NOBODY, World, is_alive, program, status, text};

fn nobody() -> User {
    User { uid: NOBODY, gid: NOBODY, groups: vec![NOBODY, 4242] }
}

/// A launch as nobody, in a sandbox of its own.
fn plan(world: &mut World, words: &[&str]) -> Launch {
    let mut plan = world.plan(words);
    let sandbox = sandbox::create(world.path(), plan.container, Some(&nobody())).unwrap();
    plan.directory = text(&sandbox);
    plan.user = Some(nobody());
    plan
}

fn output(world: &World, launch: &Launch) -> String {
    let sandbox = sandbox::path(world.path(), launch.container);
    std::fs::read_to_string(sandbox.join("out")).unwrap()
}

/// Runs a script as nobody to its end, and gives what it said.
fn run(world: &mut World, script: &str, change: impl Fn(&mut Launch)) -> String {
    let mut plan = plan(world, &["/bin/sh", "-c", script]);
    change(&mut plan);
    let container = world.send(plan.clone());
    assert_eq!(world.exit(container), Exit::Code(0));
    output(world, &plan)
}

/// In the process group of the keeper's, and in a pid namespace.
const BOTH: [Namespaces; 2] = [
    Namespaces { user: false, pid: false, mount: false },
    Namespaces { user: false, pid: true, mount: true },
];

pub(crate) fn a_task_becomes_its_user_and_nobody_else() {
    let mut world = World::new();
    for namespaces in BOTH {
        world.namespaces = namespaces;
        let keeper = world.keeper;
        let script = format!(
            "cat /proc/self/status; cat /proc/{keeper}/environ || echo no look; \
             kill -0 {keeper} || echo no touch; kill -0 1 || echo nor init; true"
        );
        let output = run(&mut world, &script, |_| {});
        let has = |line: &str| assert!(output.contains(line), "no {line:?} in {output}");
        has("Uid:\t65534\t65534\t65534\t65534\n");
        has("Gid:\t65534\t65534\t65534\t65534\n");
        has("Groups:\t4242 65534 \n");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            has(&format!("{set}:\t0000000000000000\n"));
        }
        has("no look");
        has("no touch");
        has("nor init");
    }
}

pub(crate) fn a_sandbox_that_the_keeper_alone_can_reach_is_entered() {
    let mut world = World::new();
    std::fs::set_permissions(world.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    for namespaces in BOTH {
        world.namespaces = namespaces;
        let output = run(&mut world, "echo made >file && cat file && id -u", |_| {});
        assert_eq!(output, "made\n65534\n");
    }
    // And nobody's rights are what counts in it.
    let mut plan = plan(&mut world, &["/bin/true"]);
    plan.directory = text(world.path());
    let container = world.send(plan);
    assert_eq!(world.refused(container).trouble.step, Step::Directory);
}

pub(crate) fn a_user_may_not_talk_to_the_keeper_of_another() {
    use std::os::unix::process::CommandExt;
    let world = World::new();
    let (meta, socket) = (world.path().join("meta"), world.path().join("meta/keeper.sock"));
    let ask = || {
        let mut command = Command::new(program());
        command.arg("role:connect").arg(&socket).uid(NOBODY).gid(NOBODY);
        Agent::of(command).first.clone()
    };
    assert_eq!(ask(), "refused: permission denied");
    // Even if both were left open, the keeper looks at who it is.
    std::fs::set_permissions(&meta, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(ask(), "closed");
}

pub(crate) fn no_new_privileges_hold_a_setuid_program() {
    let mut world = World::new();
    let setuid = world.path().join("setuid");
    std::fs::copy(program(), &setuid).unwrap();
    std::fs::set_permissions(&setuid, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let script = format!("{} role:euid", setuid.display());
    for (no_new_privs, euid) in [(false, "0\n"), (true, "65534\n")] {
        let output = run(&mut world, &script, |plan| plan.no_new_privs = no_new_privs);
        assert_eq!(output, euid, "no_new_privs: {no_new_privs}");
    }
}

/// A script that tells who it is, and tries what only root may: a file of root's among it.
fn tries(secret: &std::path::Path) -> String {
    format!(
        "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -G; grep CapEff /proc/self/status; \
         cat {} >/dev/null 2>&1 && echo reads; touch own; chown 1 own 2>/dev/null && echo gives; \
         hostname x 2>/dev/null && echo names; echo done",
        secret.display()
    )
}

pub(crate) fn root_among_users_of_its_own_is_none_outside() {
    let mut world = World::new();
    world.namespaces = BOTH[1];
    let bits = (1 << 41) - 1;
    let all = Wall::Capabilities { bounding: bits, effective: bits };
    let secret = world.path().join("secret");
    std::fs::write(&secret, "").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let tries = tries(&secret);
    // Whoever has all capabilities of the machine may do all of it.
    // A name that is changed is the task's alone.
    let uts = Wall::Uts { hostname: c"".into() };
    world.walls = vec![uts.clone(), all.clone()];
    let output = run(&mut world, &tries, |_| {});
    let tried = ["reads", "gives", "names"];
    assert!(tried.iter().all(|what| output.contains(what)), "{output}");
    world.walls = vec![uts, all, Wall::Users];
    let output = run(&mut world, &tries, |_| {});
    let lines: Vec<Vec<&str>> =
        output.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["65534", "65534", "1"], "{output}");
    assert_eq!(lines[1..3], [["4242", "4242", "1"], ["65534", "65534", "1"]], "{output}");
    assert_eq!(lines[3..5], [vec!["65534"], vec!["65534", "4242"]], "{output}");
    // Root's file is nobody's, and it has all capabilities, to no avail.
    assert!(output.contains("CapEff:\t000001ff"), "{output}");
    assert!(tried.iter().all(|what| !output.contains(what)), "{output}");
    // Nobody is in the group of root there.
    let output = run(&mut world, "cat /proc/self/gid_map; id -G", |plan| {
        plan.user = Some(User { groups: vec![0, 4242], ..nobody() });
    });
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words.join(" "), "4242 4242 1 65534 65534 1 65534 4242", "{output}");
    assert!(is_alive(world.keeper));
}

pub(crate) fn a_hanging_file_system_of_a_user_stops_that_task_alone() {
    let mut world = World::new();
    let mount = Directory::new();
    let fuse = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&fuse);
    let options = format!("fd={descriptor},rootmode=40000,user_id=0,group_id=0,allow_other");
    let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
    let options = CString::new(options).unwrap();
    rustix::mount::mount(c"hangs", mount.path(), c"fuse", flags, options.as_c_str()).unwrap();
    let _mounted = Mounted(mount.path());
    let hanging: Vec<_> = BOTH
        .into_iter()
        .map(|namespaces| {
            world.namespaces = namespaces;
            let mut plan = plan(&mut world, &["x"]);
            plan.program = text(&mount.path().join("program"));
            world.send(plan)
        })
        .collect();
    // The keeper serves everybody else meanwhile.
    world.namespaces = Namespaces::default();
    for code in 0..20 {
        let (container, _) = world.shell(&format!("exit {code}"));
        assert_eq!(world.exit(container), Exit::Code(code));
    }
    let starting = |held: &Held| matches!(held, Held::Starting { .. });
    assert!(world.list().iter().all(starting), "{:?}", world.list());
    // One can be given up, and the other fails when the file system does.
    world.signal(hanging[0], Signal::KILL);
    drop(fuse);
    for container in hanging {
        let trouble = world.refused(container).trouble;
        assert!(matches!(trouble.step, Step::Execute | Step::Died), "{trouble}");
    }
}

/// A mount that goes away whatever happens.
struct Mounted<'a>(&'a std::path::Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

pub(crate) fn the_keeper_is_killed_last_when_memory_is_out() {
    let mut world = World::new();
    let badness = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    // Where root may not do that, it has to be as it was.
    let may = u64::from_str_radix(&status(world.keeper, "CapEff"), 16).unwrap() & 1 << 24 != 0;
    let expected = if may { "-900\n" } else { "0\n" };
    if !may {
        println!("SKIPPED: this root has no CAP_SYS_RESOURCE, so the keeper stays where it was");
    }
    assert_eq!(badness(world.keeper), expected);
    for namespaces in BOTH {
        for adj in [0, 300] {
            world.namespaces = namespaces;
            let mut plan = world.plan(&["/bin/sh", "-c", "cat /proc/$$/oom_score_adj"]);
            (plan.oom_score_adj, plan.stdout) = (adj, CString::new(format!("out{adj}")).unwrap());
            let container = world.send(plan);
            assert_eq!(world.exit(container), Exit::Code(0));
            let output = std::fs::read_to_string(world.path().join(format!("out{adj}"))).unwrap();
            assert!(output.lines().all(|line| line == adj.to_string()), "{output}");
        }
    }
    // Setting the task's was not done to the keeper it had borrowed its memory from.
    assert_eq!(badness(world.keeper), expected);
    assert!(is_alive(world.keeper));
    assert!(matches!(
        world.client.receive(Duration::from_millis(1)),
        Ok(None | Some(Reply::Ended(_)))
    ));
}
