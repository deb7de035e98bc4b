//! Tasks in namespaces of their own. Where the tests run as root, these run as an ordinary user:
//! that is the harder half, and what root can do is shown in `walls`.

use std::ffi::CString;

use mesita_core::wire::ContainerId;
use mesita_core::wire::task::Exit;
use mesita_isolation::keeper::protocol::{Held, Launch, Namespaces, Request, Step};
use mesita_isolation::keeper::wall::Wall;
use rustix::process::Signal;

use crate::world::{
    Agent, Directory, NOBODY, World, attach, children, eventually, is_alive, kill, status,
};

/// What these tests are called in lists.
pub(crate) const ROOTLESS: &str = "user namespace";

/// The user that these tests run as.
fn user() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(NOBODY)
}

/// Why an ordinary user gets no namespaces here.
pub(crate) fn missing() -> Option<String> {
    let directory = Directory::new();
    if let Some(uid) = user() {
        std::os::unix::fs::chown(directory.path(), Some(uid), Some(uid)).unwrap();
    }
    let agent = Agent::start(directory.path(), &[], user());
    let welcome = *attach(directory.path()).welcome();
    agent.leave();
    welcome.trouble.map(|trouble| trouble.to_string())
}

fn world() -> World {
    let mut world = World::with(&[], user());
    world.namespaces = world.client.welcome().namespaces;
    assert_eq!(world.namespaces, Namespaces { user: true, pid: true, mount: true });
    world
}

pub(crate) fn a_task_sees_itself_alone() {
    let mut world = world();
    let (container, init) =
        world.shell("echo pid $$; ls -d /proc/[0-9]*; cat /proc/1/comm; id -u; touch made");
    assert_eq!(world.exit(container), Exit::Code(0));
    let output = world.output();
    let mut pids: Vec<_> = output.lines().filter_map(|line| line.strip_prefix("/proc/")).collect();
    // `ls` itself has a number that depends on the shell.
    pids.retain(|&pid| pid != "1" && pid != "2");
    assert!(output.contains("pid 2\n") && pids.len() <= 1, "{output}");
    assert!(output.contains("mesita-init"), "{output}");
    let uid = user().unwrap_or_else(|| rustix::process::geteuid().as_raw());
    assert!(output.contains(&format!("\n{uid}\n")), "{output}");
    assert!(world.path().join("made").exists());
    assert!(!is_alive(init));
}

/// What a script prints of the namespaces that it is in.
const LOOK: &str = "for of in ipc uts net; do readlink /proc/self/ns/$of; done; \
                    cat /proc/self/cgroup; cat /proc/net/dev; hostname; echo done";

pub(crate) fn what_is_parted_from_the_host_is_the_tasks_own_and_of_who_is_beside_it() {
    let mut world = world();
    let hostname = c"of-the-task".into();
    world.walls = vec![Wall::Ipc, Wall::Uts { hostname }, Wall::Cgroup, Wall::Network];
    let (container, _) = world.shell(&format!("{LOOK}; sleep 600"));
    world.said("done");
    let seen = world.output();
    for kind in ["ipc", "uts", "net"] {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert!(!seen.contains(host.to_str().unwrap()), "{kind}: {seen}");
    }
    assert!(seen.contains("of-the-task\n"), "{seen}");
    assert!(seen.lines().filter(|line| line.starts_with("0::")).all(|line| line == "0::/"));
    let devices = seen.lines().filter(|line| line.contains(": ")).count();
    assert_eq!(devices, 1, "a loopback alone: {seen}");
    std::fs::remove_file(world.path().join("out")).unwrap();
    let beside = world.beside(container, LOOK);
    world.launched(beside);
    assert_eq!(world.exit(beside), Exit::Code(0));
    assert_eq!(world.output(), seen);
    // One that speaks to itself is heard.
    let (container, _) = world.role(&["loopback"]);
    assert_eq!(world.exit(container), Exit::Code(0));
}

pub(crate) fn ends_and_signals_are_those_of_the_task() {
    let mut world = world();
    for code in [0, 7, 255] {
        let (container, _) = world.shell(&format!("exit {code}"));
        assert_eq!(world.exit(container), Exit::Code(code));
    }
    let (container, _) = world.shell("kill -9 $$");
    assert_eq!(world.exit(container), Exit::Signal(9));
    let script = "trap 'echo told; exit 5' TERM; echo up; while :; do sleep 0.05; done";
    let (container, _) = world.shell(script);
    world.said("up");
    world.signal(container, Signal::TERM);
    assert_eq!(world.exit(container), Exit::Code(5));
    world.said("told");
    // An operator's signal to the pid that is shown reaches the task as well.
    let (container, init) = world.shell(&script.replace("up", "again"));
    world.said("again");
    kill(init, Signal::TERM);
    assert_eq!(world.exit(container), Exit::Code(5));
    // A task that stops itself goes on when it is told to.
    let (container, _) = world.shell("echo stopping; kill -STOP $$; exit 6");
    world.said("stopping");
    world.signal(container, Signal::CONT);
    let before = std::time::Duration::from_millis(200);
    crate::world::nap(before);
    world.signal(container, Signal::CONT);
    assert_eq!(world.exit(container), Exit::Code(6));
}

pub(crate) fn nothing_outlives_the_task() {
    let mut world = world();
    let (container, init) = world.role(&["stubborn", "3"]);
    eventually(|| descendants(init).len() == 4, || "four processes".to_owned());
    let all = descendants(init);
    // The task itself, and none of those that it left behind.
    kill(all[0], Signal::KILL);
    assert_eq!(world.ended(container).exit, Exit::Signal(9));
    assert!(all.iter().all(|&pid| !is_alive(pid)), "{all:?}");
    eventually(|| children(world.keeper).is_empty(), || "no zombie".to_owned());
}

pub(crate) fn nothing_outlives_the_keeper() {
    let mut world = world();
    let (container, init) = world.role(&["stubborn", "2"]);
    eventually(|| descendants(init).len() == 3, || "three processes".to_owned());
    let all = descendants(init);
    kill(world.keeper, Signal::KILL);
    eventually(|| all.iter().all(|&pid| !is_alive(pid)), || format!("the end of {all:?}"));
    let next = Agent::start(world.path(), &[], user());
    world.keeper = next.keeper();
    world.reattach();
    assert!(matches!(world.client.held(), [Held::Left(left)] if left.container == container));
}

pub(crate) fn a_killed_init_is_told_as_the_signal() {
    let mut world = world();
    let (container, init) = world.role(&["sleep", "600"]);
    kill(init, Signal::KILL);
    assert_eq!(world.exit(container), Exit::Signal(9));
    let (container, init) = world.role(&["sleep", "600"]);
    world.signal(container, Signal::KILL);
    assert_eq!(world.exit(container), Exit::Signal(9));
    assert!(!is_alive(init));
}

pub(crate) fn who_may_burst_is_killed_first_without_a_privilege() {
    let mut world = world();
    let possible = world.namespaces;
    for namespaces in [Namespaces::default(), possible] {
        world.namespaces = namespaces;
        let mut plan = world.plan(&["/bin/sh", "-c", "cat /proc/$$/oom_score_adj"]);
        plan.oom_score_adj = 300;
        let container = world.send(plan);
        assert_eq!(world.exit(container), Exit::Code(0));
    }
    assert_eq!(world.output(), "300\n300\n");
    let keeper = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", world.keeper));
    assert_eq!(keeper.unwrap(), "0\n");
}

pub(crate) fn each_step_that_fails_is_named() {
    let mut world = world();
    let gone = crate::world::text(&world.path().join("gone"));
    let mut check = |step, errno, change: &dyn Fn(&mut Launch)| {
        let mut plan = world.plan(&["/bin/true"]);
        change(&mut plan);
        let container = world.send(plan);
        let trouble = world.refused(container).trouble;
        assert_eq!((trouble.step, trouble.errno), (step, errno), "{trouble}");
    };
    check(Step::Execute, libc::ENOENT, &|plan| plan.program = CString::new("/no/such").unwrap());
    check(Step::Directory, libc::ENOENT, &|plan| plan.directory = gone.clone());
    assert_eq!(world.list(), []);
    eventually(|| children(world.keeper).is_empty(), || "no zombie".to_owned());
}

/// The processes below one, its child first.
fn descendants(of: u32) -> Vec<u32> {
    let mut found = children(of);
    let mut at = 0;
    while let Some(&pid) = found.get(at) {
        found.extend(children(pid).into_iter().filter(|child| !status(*child, "Pid").is_empty()));
        at += 1;
    }
    found
}

pub(crate) fn a_process_beside_a_task_sees_what_it_sees() {
    let mut world = world();
    let (task, init) = world
        .shell("echo task $(readlink /proc/self/ns/pid) $(readlink /proc/self/ns/mnt); sleep 600");
    world.said("task pid:");
    let check = world.beside(
        task,
        "echo check $(readlink /proc/self/ns/pid) $(readlink /proc/self/ns/mnt); cat /proc/1/comm; exit 3",
    );
    world.launched(check);
    assert_eq!(world.exit(check), Exit::Code(3));
    let output = world.output();
    let after = |word: &str| output.lines().find_map(|line| line.strip_prefix(word)).unwrap();
    assert_eq!(after("task "), after("check "), "{output}");
    assert!(output.contains("mesita-init"), "{output}");
    // A signal reaches it; the end of the task ends it.
    let check = world.beside(task, "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done");
    let outer = world.launched(check);
    world.said("up");
    world.signal(check, Signal::TERM);
    assert_eq!(world.exit(check), Exit::Code(4));
    let check = world.beside(task, "echo last; sleep 600");
    let last = world.launched(check);
    world.said("last");
    kill(init, Signal::KILL);
    assert_eq!(world.exit(task), Exit::Signal(9));
    assert_eq!(world.exit(check), Exit::Signal(9));
    eventually(|| !is_alive(outer) && !is_alive(last), || "nothing is left".to_owned());
}

/// What a script prints of the processes that it sees, the first of them by its name.
const SEE: &str = "echo at $(readlink /proc/self/ns/pid) $$ below $(cat /proc/1/comm)";

/// What a task has printed by [`SEE`] after this word: namespace, own number, and the name of process 1.
fn seen(world: &World, word: &str) -> (String, String, String) {
    world.said(&format!("{word} at "));
    let output = world.output();
    let line = output.lines().find_map(|line| line.strip_prefix(&format!("{word} at "))).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    (words[0].to_owned(), words[1].to_owned(), words[3].to_owned())
}

/// A script that prints that, with a word of its own, and goes on.
fn sees(word: &str, then: &str) -> String {
    format!("{}; {then}", SEE.replace("echo", &format!("echo {word}")))
}

pub(crate) fn who_has_processes_of_its_own_beside_a_task_sees_itself_alone() {
    let mut world = world();
    let (task, init) = world.shell(&sees("task", "sleep 600"));
    let around = seen(&world, "task");
    let parted = || vec![Wall::Processes, Wall::Hidden { path: c"/proc/timer_list".into() }];
    let script = sees("own", "ls -d /proc/[0-9]*; wc -c < /proc/timer_list; exit 3");
    let own = world.beside_behind(task, &script, parted());
    world.launched(own);
    assert_eq!(world.exit(own), Exit::Code(3));
    let (namespace, number, first) = seen(&world, "own");
    assert!(namespace != around.0 && number == "2" && first == "mesita-init", "{first}");
    let output = world.output();
    let shown = output.lines().filter(|line| line.starts_with("/proc/")).count();
    assert!(shown <= 3, "process 1, the shell and `ls`: {output}");
    // Whoever is beside that one sees what it sees; a signal reaches it, and all of it ends with it.
    let script = "trap 'exit 4' TERM; while :; do sleep 0.05; done";
    let own = world.beside_behind(task, &sees("again", script), parted());
    world.launched(own);
    let again = seen(&world, "again");
    let inner = world.beside(own, &sees("inner", "sleep 600"));
    world.launched(inner);
    assert_eq!(seen(&world, "inner").0, again.0);
    world.signal(own, Signal::TERM);
    assert_eq!(world.exit(own), Exit::Code(4));
    assert_eq!(world.exit(inner), Exit::Signal(9));
    // Killed, it leaves nothing, and the task runs on.
    let own = world.beside_behind(task, &sees("killed", "setsid sleep 600 & wait"), parted());
    let outer = world.launched(own);
    seen(&world, "killed");
    let all = descendants(outer);
    world.signal(own, Signal::KILL);
    assert_eq!(world.exit(own), Exit::Signal(9));
    let lives = |all: &[u32]| all.iter().any(|&pid| is_alive(pid));
    eventually(|| !lives(&all), || format!("the end of {all:?}"));
    // It ends with the task.
    let own = world.beside_behind(task, &sees("last", "sleep 600"), parted());
    let outer = world.launched(own);
    seen(&world, "last");
    let all = descendants(outer);
    kill(init, Signal::KILL);
    assert_eq!(world.exit(task), Exit::Signal(9));
    world.exit(own);
    eventually(|| !lives(&all) && !is_alive(outer), || format!("the end of {all:?}"));
    eventually(|| children(world.keeper).is_empty(), || "no zombie".to_owned());
    // Where there is no such program, nothing is left of it either.
    let (task, _) = world.shell("sleep 600");
    let refused = world.beside_behind(task, "true", vec![Wall::ReadOnly { path: c"x".into() }]);
    assert_eq!(world.refused(refused).trouble.step, Step::Request);
}

/// What tasks of these tests are in a group of.
const GROUP: ContainerId = ContainerId { incarnation: 9, counter: 9 };

fn grouped() -> World {
    let mut world = world();
    world.walls = vec![Wall::Group { of: GROUP }];
    world
}

pub(crate) fn tasks_of_a_group_have_their_processes_in_common() {
    let mut world = grouped();
    let (one, _) = world.shell(&sees("one", "sleep 600 & echo $! > one; wait; exit 5"));
    let first = seen(&world, "one");
    assert_eq!(first.2, "mesita-group");
    let script = sees("two", "ls -d /proc/[0-9]*; kill -9 $(cat one); echo killed; sleep 600");
    let (two, _) = world.shell(&script);
    let second = seen(&world, "two");
    assert!(second.0 == first.0 && second.1 != first.1, "{second:?}");
    // One may do to the other what its user may.
    world.said("killed");
    assert_eq!(world.exit(one), Exit::Code(5));
    assert!(world.output().contains(&format!("/proc/{}\n", first.1)), "{}", world.output());
    // Process 1 is killed by nobody there; who is beside one sees the same.
    let beside = world.beside(two, &sees("beside", "kill -9 1; kill -TERM 1; exit 0"));
    world.launched(beside);
    world.outcome(beside);
    assert_eq!(seen(&world, "beside").0, first.0);
    // Others have their own, in the same group's mounts and all.
    world.walls = vec![Wall::Group { of: ContainerId { counter: 8, ..GROUP } }];
    let (other, _) = world.shell(&sees("other", "exit 7"));
    assert_ne!(seen(&world, "other").0, first.0);
    assert_eq!(world.exit(other), Exit::Code(7));
    world.walls = Vec::new();
    let (alone, _) = world.shell(&sees("alone", "exit 8"));
    assert!(seen(&world, "alone").2 == "mesita-init");
    assert_eq!(world.exit(alone), Exit::Code(8));
    // A signal and a kill reach the task that they are for, and no other.
    world.walls = vec![Wall::Group { of: GROUP }];
    let script = sees("told", "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done");
    let (told, _) = world.shell(&script);
    world.said("ready");
    world.signal(told, Signal::TERM);
    assert_eq!(world.exit(told), Exit::Code(6));
    let (killed, _) = world.shell(&sees("killed", "sleep 600 & sleep 601"));
    seen(&world, "killed");
    world.signal(killed, Signal::KILL);
    assert_eq!(world.exit(killed), Exit::Signal(9));
    let missing = world.plan(&["/no/such"]);
    let missing = world.send(missing);
    assert_eq!(world.refused(missing).trouble.step, Step::Execute);
    assert!(world.list().iter().any(|held| held.container() == two));
    world.signal(two, Signal::KILL);
    assert_eq!(world.exit(two), Exit::Signal(9));
    eventually(|| children(world.keeper).is_empty(), || "no process 1".to_owned());
}

pub(crate) fn a_group_ends_with_its_last_task_and_with_its_keeper() {
    let mut world = grouped();
    // What a task has left behind in another session is its group's until that ends.
    let (stray, _) = world.shell("setsid sleep 600 & exit 0");
    assert_eq!(world.exit(stray), Exit::Code(0));
    eventually(|| children(world.keeper).is_empty(), || "no stray".to_owned());
    // A task that never began leaves none either.
    let missing = world.plan(&["/no/such"]);
    let missing = world.send(missing);
    world.refused(missing);
    eventually(|| children(world.keeper).is_empty(), || "nothing".to_owned());
    // Who is in it ends with process 1.
    let (task, outer) = world.shell(&sees("task", "sleep 600"));
    seen(&world, "task");
    let holder = children(world.keeper).into_iter().find(|&pid| pid != outer).unwrap();
    kill(holder, Signal::KILL);
    assert_eq!(world.exit(task), Exit::Signal(9));
    let (_, outer) = world.shell(&sees("again", "setsid sleep 600 & sleep 601"));
    seen(&world, "again");
    let all: Vec<u32> = children(world.keeper).into_iter().chain(descendants(outer)).collect();
    assert!(all.len() >= 3, "{all:?}");
    kill(world.keeper, Signal::KILL);
    eventually(|| all.iter().all(|&pid| !is_alive(pid)), || format!("the end of {all:?}"));
    let next = Agent::start(world.path(), &[], user());
    world.keeper = next.keeper();
    world.reattach();
}

pub(crate) fn a_task_of_the_keepers_own_user_is_not_heard() {
    let mut world = world();
    let socket = world.path().join("meta/keeper.sock");
    for namespaces in [world.namespaces, Namespaces::default()] {
        world.namespaces = namespaces;
        let (container, _) = world.role(&["connect", socket.to_str().unwrap()]);
        assert_eq!(world.exit(container), Exit::Code(0));
        assert_eq!(world.output(), "closed\n");
        std::fs::remove_file(world.path().join("out")).unwrap();
    }
}

pub(crate) fn who_waits_in_namespaces_runs_nothing_before_its_word() {
    let mut world = world();
    crate::launches::waiting(&mut world);
    world.walls = vec![Wall::Group { of: GROUP }];
    crate::launches::waiting(&mut world);
    // Who dies with its keeper has run nothing either.
    for walls in [Vec::new(), vec![Wall::Group { of: GROUP }]] {
        let script = format!("echo early > {}", world.path().join("early").display());
        let plan = world.plan(&["/bin/sh", "-c", &script]);
        let container = plan.container;
        world.client.send(&Request::launch(plan, walls).waiting()).unwrap();
        let pid = world.waits(container);
        let all: Vec<u32> = descendants(pid).into_iter().chain([pid]).collect();
        assert!(all.len() >= 2, "{all:?}");
        kill(world.keeper, Signal::KILL);
        eventually(|| all.iter().all(|&pid| !is_alive(pid)), || format!("the end of {all:?}"));
        assert!(!world.path().join("early").exists());
        let next = Agent::start(world.path(), &[], user());
        world.keeper = next.keeper();
        world.reattach();
    }
}
