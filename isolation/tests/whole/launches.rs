//! What becomes of a launch.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mesita_core::wire::Session;
use mesita_core::wire::task::Exit;
use mesita_isolation::keeper::protocol::{
    Asked, Enter, Held, Launch, Request, Rlimit, Stdio, Step, User,
};
use mesita_isolation::sys::boottime_us;
use rustix::pipe::pipe;
use rustix::process::Signal;

use crate::world::{Agent, World, children, eventually, is_alive, program, status};

pub(crate) fn a_task_ends_with_its_own_status() {
    let mut world = World::new();
    for code in [0, 1, 7, 127, 255] {
        let (container, _) = world.shell(&format!("exit {code}"));
        assert_eq!(world.exit(container), Exit::Code(code));
    }
}

pub(crate) fn a_task_ends_by_its_signal() {
    let mut world = World::new();
    for signal in [1, 9, 15] {
        let (container, _) = world.shell(&format!("kill -{signal} $$"));
        assert_eq!(world.exit(container), Exit::Signal(signal));
    }
    let (container, _) = world.role(&["sleep", "600"]);
    world.client.send(&Request::Signal { container, signal: 40 }).unwrap();
    assert_eq!(world.exit(container), Exit::Signal(40), "a real-time signal");
    let (container, _) = world.role(&["sleep", "600"]);
    for signal in [0, 65] {
        world.client.send(&Request::Signal { container, signal }).unwrap();
        assert_eq!(world.refused(container).trouble.step, Step::Signal);
    }
    world.signal(container, Signal::KILL);
    let ended = world.ended(container);
    assert_eq!(ended.exit, Exit::Signal(9));
    world.signal(container, Signal::TERM);
    let refused = world.refused(container);
    assert_eq!((refused.asked, refused.trouble.step), (Asked::Signal, Step::NotRunning));
}

pub(crate) fn a_signal_reaches_the_whole_group() {
    let mut world = World::new();
    let script = "trap 'echo child; exit' TERM; echo up; while :; do sleep 0.05; done";
    let script = format!("trap 'wait; echo parent; exit 3' TERM; ({script}) & wait; wait");
    let (container, _) = world.shell(&script);
    world.said("up");
    world.signal(container, Signal::TERM);
    assert_eq!(world.exit(container), Exit::Code(3));
    let output = world.output();
    assert!(output.contains("child") && output.contains("parent"), "{output}");
}

pub(crate) fn what_is_left_of_a_group_ends_with_its_leader() {
    let mut world = World::new();
    let (container, _) = world.shell("sleep 600 & echo left $!; exit 2");
    assert_eq!(world.exit(container), Exit::Code(2));
    let output = world.output();
    let left: u32 = output.trim().strip_prefix("left ").unwrap().parse().unwrap();
    eventually(|| !is_alive(left), || format!("the end of {left}"));
}

pub(crate) fn orphans_are_collected() {
    let mut world = World::new();
    // The children of subshells that have ended are the keeper's.
    let script = "i=0; while [ $i -lt 20 ]; do (sleep 0.1 & ) ; i=$((i+1)); done; sleep 0.5";
    let (container, _) = world.shell(script);
    assert_eq!(world.exit(container), Exit::Code(0));
    eventually(|| children(world.keeper).is_empty(), || "no zombie".to_owned());
}

pub(crate) fn usage_of_the_task_and_its_children_is_told() {
    let mut world = World::new();
    let own = program();
    let (container, _) = world.shell(&format!("{} role:burn 200; true", own.display()));
    let ended = world.ended(container);
    let used = ended.user_us + ended.system_us;
    assert!((190_000..2_000_000).contains(&used), "{used}");
    assert!(ended.max_rss_kib > 100, "{}", ended.max_rss_kib);
    assert!(ended.ended_us <= boottime_us());
}

pub(crate) fn each_step_that_fails_is_named() {
    let mut world = World::new();
    let directory = world.path().to_owned();
    std::fs::write(directory.join("plain"), "text").unwrap();
    std::fs::write(directory.join("broken"), "\x7fELF broken").unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.join("broken"), executable).unwrap();
    std::os::unix::fs::symlink(&directory, directory.join("link")).unwrap();
    let gone = crate::world::text(&directory.join("gone"));
    let link = crate::world::text(&directory.join("link"));
    let mut check = |step, errno, change: &dyn Fn(&mut Launch)| {
        let mut plan = world.plan(&["/bin/true"]);
        change(&mut plan);
        let container = world.send(plan);
        let trouble = world.refused(container).trouble;
        assert_eq!((trouble.step, trouble.errno), (step, errno), "{trouble}");
    };
    let program = |name: &str| CString::new(name).unwrap();
    check(Step::Execute, libc::ENOENT, &|plan| plan.program = program("/no/such"));
    check(Step::Execute, libc::ENOENT, &|plan| plan.program = program("no-such-command"));
    check(Step::Execute, libc::EACCES, &|plan| plan.program = program("./plain"));
    check(Step::Execute, libc::ENOEXEC, &|plan| plan.program = program("./broken"));
    check(Step::Directory, libc::ENOENT, &|plan| plan.directory = gone.clone());
    check(Step::Directory, libc::ENOTDIR, &|plan| plan.directory = link.clone());
    check(Step::Stdout, libc::ENOENT, &|plan| plan.stdout = program("no/such/out"));
    check(Step::Stderr, libc::ENOENT, &|plan| plan.stderr = program("no/such/err"));
    check(Step::Request, libc::EINVAL, &|plan| plan.arguments.clear());
    check(Step::Cgroup, libc::ENOENT, &|plan| {
        let directory = CString::new(format!("/sys/fs/cgroup/none/{}", plan.container)).unwrap();
        let cgroup = mesita_isolation::keeper::protocol::Cgroup { directory, unified: false };
        plan.cgroups.push(cgroup).unwrap();
    });
    check(Step::Request, libc::EINVAL, &|plan| {
        let directory = program("/sys/fs/cgroup/of-somebody-else");
        let cgroup = mesita_isolation::keeper::protocol::Cgroup { directory, unified: false };
        plan.cgroups.push(cgroup).unwrap();
    });
    if !rustix::process::geteuid().is_root() {
        let user = User { uid: 0, gid: 0, groups: Vec::new() };
        check(Step::User, libc::EPERM, &|plan| plan.user = Some(user.clone()));
    }
    assert_eq!(world.list(), []);
    eventually(|| children(world.keeper).is_empty(), || "no zombie".to_owned());
}

pub(crate) fn output_is_appended_to_files_that_are_nothing_else() {
    let mut world = World::new();
    for word in ["first", "second"] {
        let mut plan = world.plan(&["/bin/sh", "-c", &format!("echo {word}; echo {word} >&2")]);
        plan.stderr = c"err".into();
        let container = world.send(plan);
        assert_eq!(world.exit(container), Exit::Code(0));
    }
    assert_eq!(world.output(), "first\nsecond\n");
    let errors = std::fs::read_to_string(world.path().join("err")).unwrap();
    assert_eq!(errors, "first\nsecond\n");
    // What a task may have put in their place before it is started again.
    let pipe = world.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let reader = rustix::fs::open(
        &pipe,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK,
        rustix::fs::Mode::empty(),
    );
    std::os::unix::fs::symlink("/etc/passwd", world.path().join("link")).unwrap();
    for (name, errno) in [("pipe", libc::EINVAL), ("link", libc::ELOOP), (".", libc::EISDIR)] {
        let mut plan = world.plan(&["/bin/true"]);
        plan.stdout = CString::new(name).unwrap();
        let container = world.send(plan);
        let trouble = world.refused(container).trouble;
        assert_eq!((trouble.step, trouble.errno), (Step::Stdout, errno), "{name}: {trouble}");
    }
    drop(reader);
    // Nowhere is nowhere.
    let mut plan =
        world.plan(&["/bin/sh", "-c", "readlink /proc/self/fd/1 >kept; echo x; echo x >&2"]);
    (plan.stdout, plan.stderr) = (CString::default(), CString::default());
    let container = world.send(plan);
    assert_eq!(world.exit(container), Exit::Code(0));
}

pub(crate) fn a_task_inherits_nothing_but_what_it_was_given() {
    let mut world = World::new();
    let (container, pid) = world.shell(
        "cat /proc/self/status; ls -l /proc/self/fd; env; pwd; umask; \
         cat /proc/$$/stat; read line || echo end of input; echo nofile $(ulimit -Sn)",
    );
    assert_eq!(world.exit(container), Exit::Code(0));
    let output = world.output();
    let field = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("no {name} in {output}")).to_owned()
    };
    for mask in ["SigBlk", "SigIgn", "SigCgt", "SigPnd"] {
        assert_eq!(u64::from_str_radix(&field(mask), 16), Ok(0), "{mask}");
    }
    let descriptors: Vec<_> = output.lines().filter(|line| line.contains(" -> ")).collect();
    let others = descriptors.iter().filter(|line| {
        // `ls` has the directory open that it lists.
        !line.contains("/dev/null") && !line.ends_with("/out") && !line.contains("/proc/")
    });
    assert_eq!(others.count(), 0, "{descriptors:?}");
    let environment: Vec<_> = output.lines().filter(|line| line.contains('=')).collect();
    // What the shell adds of its own.
    let given =
        environment.iter().filter(|line| !line.starts_with("PWD=") && !line.starts_with("_="));
    let given: Vec<_> =
        given.filter(|line| !line.starts_with("SHLVL=") && !line.starts_with("OLDPWD=")).collect();
    assert_eq!(given.len(), 2, "{environment:?}");
    assert!(output.contains("MARK=of the test"));
    assert!(output.contains(world.path().to_str().unwrap()));
    assert!(output.contains("\n0022\n"), "the umask");
    assert!(output.contains("end of input"));
    // The keeper has raised its own, for the many tasks that it may have.
    let nofile = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap();
    assert!(output.contains(&format!("nofile {nofile}\n")), "{output}");
    // pid, name, state, parent, group, session, terminal.
    let stat = output.lines().find(|line| line.starts_with(&format!("{pid} ("))).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[1], world.keeper.to_string());
    assert_eq!((fields[2], fields[3], fields[4]), (&*pid.to_string(), &*pid.to_string(), "0"));
}

pub(crate) fn a_launch_of_an_older_session_is_refused() {
    let mut world = World::new();
    let session = |incarnation, counter| Session { incarnation, counter };
    let launch = |world: &mut World, of| {
        let mut plan = world.plan(&["/bin/true"]);
        plan.session = of;
        let container = world.send(plan);
        world.wait(|reply| match reply {
            mesita_isolation::keeper::protocol::Reply::Launched { container: of, .. } => {
                (*of == container).then_some(None)
            }
            mesita_isolation::keeper::protocol::Reply::Refused(refused) => {
                (refused.container == container).then_some(Some(refused.trouble.step))
            }
            _ => None,
        })
    };
    assert_eq!(launch(&mut world, session(1, 5)), None);
    assert_eq!(launch(&mut world, session(1, 4)), Some(Step::Stale));
    assert_eq!(launch(&mut world, session(1, 5)), None);
    // A session that has begun bars the one before, though it has launched nothing.
    world.client.send(&Request::Renew { session: session(1, 6), contact_us: 0 }).unwrap();
    assert_eq!(launch(&mut world, session(1, 5)), Some(Step::Stale));
    assert_eq!(launch(&mut world, session(2, 1)), None);
    assert_eq!(launch(&mut world, session(1, 9)), Some(Step::Stale));
}

pub(crate) fn a_launch_after_its_deadline_is_refused() {
    let mut world = World::new();
    let mut launch = |deadline_us| {
        let mut plan = world.plan(&["/bin/sh", "-c", "echo it ran"]);
        plan.deadline_us = deadline_us;
        world.send(plan)
    };
    let late = launch(boottime_us() - 1);
    let in_time = launch(boottime_us() + 60_000_000);
    assert_eq!(world.refused(late).trouble.step, Step::Late);
    assert_eq!(world.exit(in_time), Exit::Code(0));
    assert_eq!(world.output(), "it ran\n");
}

pub(crate) fn a_task_that_would_be_stopped_by_now_is_not_started() {
    let mut world = World::new();
    let contact_us = boottime_us() - 1_000_000;
    let session = Session { incarnation: 1, counter: 1 };
    world.client.send(&Request::Renew { session, contact_us }).unwrap();
    let mut launch = |stop_after_us| {
        let mut plan = world.plan(&["/bin/true"]);
        plan.stop_after_us = stop_after_us;
        world.send(plan)
    };
    let (late, in_time) = (launch(900_000), launch(60_000_000));
    assert_eq!(world.refused(late).trouble.step, Step::Late);
    assert_eq!(world.exit(in_time), Exit::Code(0));
}

pub(crate) fn a_container_is_launched_once() {
    let mut world = World::new();
    let mut plan = world.plan(&["/bin/true"]);
    let container = world.send(plan.clone());
    world.launched(container);
    world.ended(container);
    plan.attempt = 1;
    world.send(plan.clone());
    assert_eq!(world.refused(container).trouble.step, Step::Known);
    world.client.send(&Request::Forget { container }).unwrap();
    world.send(plan);
    assert_eq!(world.ended(container).attempt, 1);
}

pub(crate) fn rlimits_are_those_of_the_task() {
    let mut world = World::new();
    let mut plan = world.plan(&["/bin/sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -Sc"]);
    for (resource, soft, hard) in [(libc::RLIMIT_NOFILE, 77, 88), (libc::RLIMIT_CORE, 0, 0)] {
        let resource = u8::try_from(resource).unwrap();
        plan.rlimits.push(Rlimit { resource, soft: Some(soft), hard: Some(hard) }).unwrap();
    }
    let container = world.send(plan);
    assert_eq!(world.exit(container), Exit::Code(0));
    assert_eq!(world.output(), "77\n88\n0\n");
    assert!(status(world.keeper, "Name").contains("mesita-keeper"));
}

pub(crate) fn a_process_beside_a_task_ends_by_itself_or_with_it() {
    let mut world = World::new();
    let mut plan = world.plan(&["/bin/sh", "-c", "sleep 600"]);
    plan.oom_score_adj = 300;
    let task = world.send(plan);
    world.launched(task);
    // At a limit that both have in common it goes as soon as the task.
    let score = world.beside(task, "echo badness $(cat /proc/self/oom_score_adj)");
    world.launched(score);
    assert_eq!(world.exit(score), Exit::Code(0));
    world.said("badness 300");
    for code in [0, 7] {
        let check = world.beside(task, &format!("exit {code}"));
        world.launched(check);
        assert_eq!(world.exit(check), Exit::Code(code));
    }
    let check = world.beside(task, "echo told; sleep 600 & wait");
    let outer = world.launched(check);
    world.said("told");
    world.signal(check, Signal::KILL);
    assert_eq!(world.exit(check), Exit::Signal(9));
    eventually(|| !is_alive(outer), || "the end of the outer process".to_owned());
    // One that hangs goes with its task, and none begins after its end.
    let check = world.beside(task, "echo again; sleep 600");
    world.launched(check);
    world.said("again");
    world.signal(task, Signal::KILL);
    assert_eq!(world.ended(task).exit, Exit::Signal(9));
    assert_eq!(world.exit(check), Exit::Signal(9));
    let late = world.beside(task, "true");
    assert_eq!(world.refused(late).trouble.step, Step::NotRunning);
    let missing = world.beside(late, "true");
    assert_eq!(world.refused(missing).trouble.step, Step::Unknown);
    let absent = world.plan(&["/nowhere/program"]);
    let (running, _) = world.shell("sleep 600");
    let container = absent.container;
    let enter = Enter { inside: running, launch: absent };
    world.client.send(&Request::Enter(Box::new(enter))).unwrap();
    assert_eq!(world.refused(container).trouble.step, Step::Execute);
    assert!(world.list().iter().all(|held| held.container() != container));
}

pub(crate) fn what_an_agent_gives_is_what_a_process_beside_a_task_reads_and_writes() {
    let mut world = World::new();
    let (task, _) = world.shell("sleep 600");
    let (input, to_input) = pipe().unwrap();
    let (from_output, output) = pipe().unwrap();
    let (from_error, error) = pipe().unwrap();
    let script = "cat; echo oops >&2; exec >&- 2>&-; sleep 600";
    let launch = world.plan(&["/bin/sh", "-c", script]);
    let container = launch.container;
    let enter = Box::new(Enter { inside: task, launch: launch.clone() });
    let with = |stdio: Stdio, below: &CStr| Request::EnterWith {
        enter: enter.clone(),
        below: below.into(),
        stdio,
    };
    let lent = [input.as_fd(), output.as_fd(), error.as_fd()];
    world.client.send_with(&with(Stdio::Given, c""), &lent).unwrap();
    world.launched(container);
    drop((input, output, error));
    File::from(to_input).write_all(b"said").unwrap();
    // It closes both, and runs on: nobody else holds them.
    let all = |from: OwnedFd| io::read_to_string(File::from(from)).unwrap();
    assert_eq!((all(from_output), all(from_error)), ("said".to_owned(), "oops\n".to_owned()));
    world.signal(container, Signal::KILL);
    assert_eq!(world.exit(container), Exit::Signal(9));
    // None came along.
    world.client.send(&with(Stdio::Given, c"")).unwrap();
    assert_eq!(world.refused(container).trouble.step, Step::Stdio);
    // What is no terminal cannot become one.
    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    world.client.send_with(&with(Stdio::Terminal, c""), &[null.as_fd(); 3]).unwrap();
    assert_eq!(world.refused(container).trouble.step, Step::Terminal);
    // Files need no descriptors, and may be further down.
    world.client.send(&with(Stdio::Files, c"nowhere")).unwrap();
    assert_eq!(world.refused(container).trouble.step, Step::Directory);
    std::fs::create_dir(world.path().join("further")).unwrap();
    world.client.send(&with(Stdio::Files, c"further")).unwrap();
    world.launched(container);
    eventually(
        || world.path().join("further/out").exists(),
        || "its output further down".to_owned(),
    );
}

pub(crate) fn a_task_is_not_heard_by_any_keeper() {
    let (mut world, mut other) = (World::new(), World::new());
    let connect = |world: &World| {
        let (own, socket) = (program(), world.path().join("meta/keeper.sock"));
        format!("{} role:connect {}", own.display(), socket.display())
    };
    let (ours, theirs) = (connect(&world), connect(&other));
    let agent = |script: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Agent::of(command).first.clone()
    };
    // Who is in no task is heard: an agent that comes again. A keeper of nothing would end with it.
    other.role(&["sleep", "600"]);
    assert_eq!(agent(&theirs), "answered");
    other.reattach();
    // One whose parents are gone is its keeper's child by then.
    let orphan = |script: &str| format!("(sleep 0.2; {script}) & exec setsid true");
    for script in [ours.clone(), theirs.clone()] {
        for script in [script.clone(), format!("({}); sleep 1", orphan(&script))] {
            let (container, _) = world.shell(&script);
            let said = || world.output().ends_with('\n');
            eventually(said, || "a word of it".to_owned());
            assert_eq!(world.output(), "closed\n", "{script}");
            assert_eq!(world.exit(container), Exit::Code(0));
            std::fs::remove_file(world.path().join("out")).unwrap();
        }
    }
    let (container, _) = world.role(&["sleep", "600"]);
    let beside = world.beside(container, &ours);
    world.exit(beside);
    assert_eq!(world.output(), "closed\n");
}

/// What waits, each in its own way: has it launched, seen to wait, and told what it is to be.
pub(crate) fn waiting(world: &mut World) {
    let early = world.path().join("early");
    let script = format!("echo early > {}; exit 3", early.display());
    let begin = |world: &mut World| {
        let plan = world.plan(&["/bin/sh", "-c", &script]);
        let container = plan.container;
        let request = Request::launch(plan, world.walls.clone()).waiting();
        world.client.send(&request).unwrap();
        let pid = world.waits(container);
        assert!(is_alive(pid));
        (container, pid)
    };
    // It ends by what it is sent, and as who never began.
    for signal in [Signal::TERM, Signal::KILL] {
        let (container, pid) = begin(world);
        assert!(world.list().iter().any(|held| {
            matches!(held, Held::Starting { container: of, .. } if *of == container)
        }));
        world.signal(container, signal);
        assert_eq!(world.refused(container).trouble.step, Step::Died);
        eventually(|| !is_alive(pid), || format!("the end of {pid}"));
        // Late words are for nobody.
        world.client.send(&Request::Go { container, deadline_us: 0 }).unwrap();
    }
    let (late, _) = begin(world);
    world.client.send(&Request::Go { container: late, deadline_us: 1 }).unwrap();
    assert_eq!(world.refused(late).trouble.step, Step::Late);
    let (container, _) = begin(world);
    assert!(!early.exists(), "its program has begun");
    world.client.send(&Request::Go { container, deadline_us: 0 }).unwrap();
    world.launched(container);
    assert_eq!(world.exit(container), Exit::Code(3));
    assert!(early.exists());
    std::fs::remove_file(early).unwrap();
    eventually(|| children(world.keeper).is_empty(), || "nothing".to_owned());
}

pub(crate) fn who_waits_for_a_word_runs_nothing_before_it() {
    let mut world = World::new();
    waiting(&mut world);
    // It stands in nobody's way meanwhile.
    let plan = world.plan(&["/bin/sh", "-c", "exit 5"]);
    let container = plan.container;
    world.client.send(&Request::launch(plan, Vec::new()).waiting()).unwrap();
    world.waits(container);
    let (other, _) = world.shell("exit 4");
    assert_eq!(world.exit(other), Exit::Code(4));
    world.client.send(&Request::Go { container, deadline_us: 0 }).unwrap();
    assert_eq!(world.exit(container), Exit::Code(5));
}

pub(crate) fn who_waits_ends_with_the_agent_that_asked_for_it() {
    let mut world = World::new();
    for _ in 0..2 {
        let script = format!("echo early > {}", world.path().join("early").display());
        let plan = world.plan(&["/bin/sh", "-c", &script]);
        let container = plan.container;
        world.client.send(&Request::launch(plan, Vec::new()).waiting()).unwrap();
        let pid = world.waits(container);
        world.reattach();
        assert_eq!(world.list(), []);
        eventually(|| !is_alive(pid), || format!("the end of {pid}"));
        // What comes too late from who comes next is for nobody.
        world.client.send(&Request::Go { container, deadline_us: 0 }).unwrap();
        assert_eq!(world.list(), []);
    }
    assert!(!world.path().join("early").exists());
}
