//! The keeper by itself.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use mesita_core::wire::task::Exit;
use mesita_core::wire::{ContainerId, Session};
use mesita_isolation::keeper::protocol::{Held, Reply, Request, Step, VERSION_MAX, encode};
use mesita_isolation::sys::boottime_us;
use rustix::process::Signal;

use crate::world::{
    Agent, Directory, World, attach, children, eventually, is_alive, kill, nap, program, status,
    try_attach,
};

pub(crate) fn an_idle_keeper_never_wakes_up() {
    let mut world = World::new();
    let (_, _) = world.role(&["sleep", "600"]);
    let switches = || status(world.keeper, "voluntary_ctxt_switches");
    // What the launch had set off has to settle first.
    nap(Duration::from_millis(200));
    let before = switches();
    nap(Duration::from_secs(2));
    assert_eq!(switches(), before);
}

pub(crate) fn a_keeper_fits_into_half_a_mebibyte() {
    let mut world = World::new();
    for _ in 0..100 {
        let (container, _) = world.role(&["exit", "0"]);
        world.exit(container);
    }
    // A large request must not leave its buffer behind.
    let mut launch = world.role_plan(&["exit", "0"]);
    launch.environment.push(std::ffi::CString::new(vec![b'x'; 100_000]).unwrap());
    let large = world.send(launch);
    world.exit(large);
    let (_, _) = world.role(&["sleep", "600"]);
    // The agent that it was forked from is gone, so nothing is shared with it any more.
    let private = private_kib(world.keeper);
    println!("private memory of the keeper: {private} KiB");
    assert!(private <= 512, "{private} KiB");
}

/// Anonymous memory, without pages of this binary that its loader wrote to: the more it holds the more
/// of them there are, and the static one that ships has none.
fn private_kib(pid: u32) -> u64 {
    let kib = |text: &str| text.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
    let own = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut of_binary, mut written) = (false, 0);
    for line in own.lines() {
        if let Some(anonymous) = line.strip_prefix("Anonymous:").filter(|_| of_binary) {
            written += kib(anonymous);
        } else if !line.split(' ').next().unwrap_or_default().ends_with(':') {
            of_binary = line.ends_with(program().to_str().unwrap());
        }
    }
    kib(&status(pid, "RssAnon")).saturating_sub(written)
}

pub(crate) fn a_thousand_launches_leave_nothing_behind() {
    // With so few descriptors that losing one now and then would be felt.
    let mut world = World::with(&["nofile=80"], None);
    let counts = |world: &World| {
        // Only root may look at what a keeper has open.
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", world.keeper));
        let files = std::fs::read_dir(world.path().join("meta")).unwrap();
        (descriptors.map_or(0, Iterator::count), files.count())
    };
    let before = counts(&world);
    for round in 0..20 {
        let launched: Vec<_> = (0..50)
            .map(|number: u32| {
                let mut plan = world.role_plan(&["exit", "0"]);
                if number % 10 == 9 {
                    plan.arguments[0] = c"/no/such/program".into();
                }
                (number, world.send(plan))
            })
            .collect();
        for (number, container) in launched {
            if number % 10 == 9 {
                world.refused(container);
            } else {
                assert_eq!(world.exit(container), Exit::Code(0), "round {round}");
            }
        }
    }
    assert_eq!(world.list(), []);
    assert_eq!(counts(&world), before);
    eventually(|| children(world.keeper).is_empty(), || "no zombie".to_owned());
    let exits = std::fs::metadata(world.path().join("meta/exits")).unwrap().len();
    assert!(exits <= 4096, "{exits}");
}

pub(crate) fn a_long_path_to_the_socket_is_no_trouble() {
    let directory = Directory::new();
    let deep = directory.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let agent = Agent::start(&deep, &[], None);
    assert_eq!(attach(&deep).welcome().pid, agent.keeper());
    let keeper = agent.keeper();
    agent.leave();
    eventually(|| !is_alive(keeper), || "its end".to_owned());
}

pub(crate) fn a_keeper_that_has_nothing_to_keep_ends_with_its_agent() {
    let directory = Directory::new();
    let agent = Agent::start(directory.path(), &[], None);
    let keeper = agent.keeper();
    agent.kill();
    eventually(|| !is_alive(keeper), || "its end".to_owned());
    assert!(!directory.path().join("meta/keeper.sock").exists());
    assert!(try_attach(directory.path()).unwrap().is_none());
}

pub(crate) fn a_process_with_threads_cannot_start_a_keeper() {
    let directory = Directory::new();
    let mut command = Command::new(program());
    command.arg("role:threaded").arg(directory.path());
    let said = Agent::of(command).first.clone();
    assert!(said.contains("before the first thread; there are 2"), "{said}");
}

pub(crate) fn a_keeper_that_does_not_answer_is_not_doubled() {
    let world = World::new();
    kill(world.keeper, Signal::STOP);
    let agent = Agent::start(world.path(), &[], None);
    assert!(agent.first.contains("does not answer"), "{}", agent.first);
    kill(world.keeper, Signal::CONT);
}

pub(crate) fn whoever_does_not_say_hello_disturbs_nobody() {
    let mut world = World::new();
    let socket = world.path().join("meta/keeper.sock");
    let silent: Vec<_> = (0..12).map(|_| UnixStream::connect(&socket)).collect();
    let (container, _) = world.shell("exit 4");
    assert_eq!(world.exit(container), Exit::Code(4));
    // Those that came first had to make room.
    let mut first = silent.into_iter().next().unwrap().unwrap();
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
}

pub(crate) fn garbage_closes_the_connection_and_nothing_else() {
    let mut world = World::new();
    let socket = world.path().join("meta/keeper.sock");
    let mut request = Vec::new();
    encode(&Request::List, &mut request).unwrap();
    for bytes in [&[0xff; 64][..], &[4, 0, 0, 0, 99, 1, 2, 3], &request] {
        let mut stranger = UnixStream::connect(&socket).unwrap();
        stranger.write_all(bytes).unwrap();
        // An end, or the word that bytes were left unread: it is hung up either way.
        assert_eq!(stranger.read(&mut [0]).unwrap_or(0), 0);
    }
    let (container, _) = world.shell("exit 4");
    assert_eq!(world.exit(container), Exit::Code(4));
}

pub(crate) fn an_agent_of_another_version_learns_which_one_is_spoken() {
    let world = World::new();
    let mut stranger = UnixStream::connect(world.path().join("meta/keeper.sock")).unwrap();
    let mut bytes = Vec::new();
    let session = Session { incarnation: 1, counter: 1 };
    encode(&Request::Hello { min: 900, max: 901, session }, &mut bytes).unwrap();
    stranger.write_all(&bytes).unwrap();
    let mut decoder = mesita_isolation::keeper::protocol::Decoder::default();
    let mut answer = Vec::new();
    stranger.read_to_end(&mut answer).unwrap();
    decoder.push(&answer);
    let Ok(Some(Reply::Hello(welcome))) = decoder.message() else { panic!("{answer:?}") };
    assert_eq!(welcome.version, VERSION_MAX);
    assert!(is_alive(world.keeper));
}

pub(crate) fn an_exit_waits_for_the_last_task() {
    let mut world = World::new();
    let (container, pid) = world.role(&["sleep", "600"]);
    world.client.send(&Request::Exit).unwrap();
    let running = world.wait(|reply| match reply {
        Reply::Busy { running } => Some(*running),
        _ => None,
    });
    assert_eq!(running, 1);
    world.client.send(&Request::Forget { container }).unwrap();
    assert_eq!(world.refused(container).trouble.step, Step::Running);
    assert!(is_alive(pid));
}

pub(crate) fn ending_all_reaches_processes_that_left_their_session() {
    let mut world = World::new();
    let (container, _) = world.role(&["stubborn", "3"]);
    eventually(
        || {
            let own = status(world.keeper, "PPid");
            !own.is_empty() && descendants(world.keeper).len() == 4
        },
        || format!("four processes, not {:?}", descendants(world.keeper)),
    );
    let all = descendants(world.keeper);
    world.client.send(&Request::EndAll).unwrap();
    world.wait(|reply| (*reply == Reply::AllEnded).then_some(()));
    assert_eq!(world.ended(container).exit, Exit::Signal(9));
    assert!(all.iter().all(|&pid| !is_alive(pid)));
    // And it goes on as before.
    let (container, _) = world.shell("exit 4");
    assert_eq!(world.exit(container), Exit::Code(4));
}

fn descendants(of: u32) -> Vec<u32> {
    let mut found = children(of);
    let mut at = 0;
    while let Some(&pid) = found.get(at) {
        found.extend(children(pid));
        at += 1;
    }
    found
}

pub(crate) fn a_full_keeper_refuses_and_changes_nothing() {
    let mut world = World::with(&["max=2"], None);
    let (first, _) = world.role(&["sleep", "600"]);
    let (second, _) = world.shell("exit 4");
    world.ended(second);
    let plan = world.plan(&["/bin/true"]);
    let third = world.send(plan);
    assert_eq!(world.refused(third).trouble.step, Step::Full);
    let held: Vec<_> = world.list().iter().map(Held::container).collect();
    assert_eq!(held, [first, second]);
    world.client.send(&Request::Forget { container: second }).unwrap();
    let (container, _) = world.shell("exit 5");
    assert_eq!(world.exit(container), Exit::Code(5));
}

pub(crate) fn a_task_whose_agent_lost_its_master_is_stopped_in_time() {
    let mut world = World::new();
    let session = Session { incarnation: 1, counter: 1 };
    let limited = |world: &mut World, script: &str, grace_us| {
        let mut plan = world.plan(&["/bin/sh", "-c", script]);
        (plan.stop_after_us, plan.grace_us) = (600_000, grace_us);
        let container = world.send(plan);
        world.launched(container);
        container
    };
    let polite = limited(&mut world, "trap 'exit 7' TERM; while :; do sleep 0.05; done", 5_000_000);
    let deaf = limited(&mut world, "trap '' TERM; while :; do sleep 0.05; done", 1_000_000);
    let abrupt = limited(&mut world, "trap 'exit 7' TERM; while :; do sleep 0.05; done", 0);
    // As long as the master is heard of, they run.
    let start = boottime_us();
    while boottime_us() - start < 1_200_000 {
        world.client.send(&Request::Renew { session, contact_us: boottime_us() }).unwrap();
        nap(Duration::from_millis(100));
    }
    assert!(world.list().iter().all(|held| matches!(held, Held::Running { .. })));
    let silent = boottime_us();
    assert_eq!(world.exit(polite), Exit::Code(7));
    assert_eq!(world.exit(abrupt), Exit::Signal(9));
    let (first, ended) = (boottime_us() - silent, world.ended(deaf));
    assert_eq!(ended.exit, Exit::Signal(9));
    assert!((400_000..2_000_000).contains(&first), "{first}");
    assert!(ended.ended_us - silent >= 1_400_000, "{}", ended.ended_us - silent);
}

pub(crate) fn a_list_longer_than_a_message_is_told_whole() {
    let mut world = World::new();
    let mut expected = Vec::new();
    for _ in 0..150 {
        let plan = world.role_plan(&["exit", "3"]);
        expected.push(world.send(plan));
    }
    for &container in &expected {
        world.ended(container);
    }
    let listed: Vec<_> = world.list().iter().map(Held::container).collect();
    assert_eq!(listed, expected);
    world.reattach();
    let held: Vec<ContainerId> = world.client.held().iter().map(Held::container).collect();
    assert_eq!(held, expected);
}

pub(crate) fn what_its_agent_was_called_with_is_no_more_to_be_seen() {
    let world = World::with(&["max=7"], None);
    let line = std::fs::read(format!("/proc/{}/cmdline", world.keeper)).unwrap();
    let line = String::from_utf8_lossy(&line).trim_end_matches('\0').to_owned();
    assert!(line.starts_with("mesita-keeper ") && !line.contains("max=7"), "{line}");
    let work_dir = world.path().to_str().unwrap();
    assert!(format!("mesita-keeper {work_dir}").starts_with(&line), "{line}");
}
