//! Agents and keepers that die, in every order.

use std::time::Duration;

use mesita_core::wire::task::Exit;
use mesita_isolation::keeper::end_left;
use mesita_isolation::keeper::protocol::{Held, Request};
use rustix::process::Signal;

use crate::world::{Agent, Directory, World, attach, eventually, is_alive, kill, nap, within};

pub(crate) fn an_agent_that_was_killed_finds_its_tasks_and_their_ends() {
    let directory = Directory::new();
    let mut agent = Agent::start(directory.path(), &[], None);
    let keeper = agent.keeper();
    let running = agent.launch(&["/bin/sleep", "600"]);
    agent.launch(&["/bin/false"]);
    let killed = agent.launch(&["/bin/sleep", "600"]);
    agent.kill();
    assert!(is_alive(keeper) && is_alive(running));
    kill(killed, Signal::TERM);
    eventually(|| !is_alive(killed), || "its end".to_owned());
    // The next agent uses the same keeper.
    let next = Agent::start(directory.path(), &[], None);
    assert_eq!(next.first, format!("keeper {keeper} false"));
    next.kill();
    let mut client = attach(directory.path());
    let held: Vec<Held> = client.held().to_vec();
    let [Held::Running { pid, .. }, Held::Ended(first), Held::Ended(second)] = held[..] else {
        panic!("{held:?}")
    };
    assert_eq!(pid, running);
    assert_eq!((first.exit, second.exit), (Exit::Code(1), Exit::Signal(15)));
    client.send(&Request::EndAll).unwrap();
    eventually(|| !is_alive(running), || "its end".to_owned());
    for held in held {
        client.send(&Request::Forget { container: held.container() }).unwrap();
    }
    drop(client);
    // The last end may have been seen after it was to be forgotten; then it is kept.
    if !within(Duration::from_millis(500), || !is_alive(keeper)) {
        let mut client = attach(directory.path());
        client.send(&Request::Exit).unwrap();
    }
    eventually(|| !is_alive(keeper), || "the keeper's end".to_owned());
}

pub(crate) fn what_an_agent_had_sent_and_was_not_read_dies_with_its_connection() {
    let mut world = World::new();
    kill(world.keeper, Signal::STOP);
    let marker = world.path().join("started");
    let script = format!("touch {}", marker.display());
    for _ in 0..10 {
        let plan = world.plan(&["/bin/sh", "-c", &script]);
        world.send(plan);
    }
    // The agent dies and comes back before the keeper has read any of it. Its hello waits in the
    // keeper's socket just as the launches do.
    let directory = world.path().to_owned();
    let next = std::thread::spawn(move || attach(&directory));
    nap(Duration::from_millis(300));
    kill(world.keeper, Signal::CONT);
    world.client = next.join().unwrap();
    assert_eq!(world.client.held(), []);
    let (container, _) = world.shell("exit 4");
    assert_eq!(world.exit(container), Exit::Code(4));
    assert!(!marker.exists(), "a launch of the connection before was done");
    assert_eq!(world.list(), []);
}

pub(crate) fn ends_survive_the_keeper() {
    let mut world = World::new();
    let (container, _) = world.shell("exit 9");
    let ended = world.ended(container);
    let (forgotten, _) = world.shell("exit 8");
    world.exit(forgotten);
    assert_eq!(world.list().len(), 1);
    kill(world.keeper, Signal::KILL);
    eventually(|| !is_alive(world.keeper), || "its end".to_owned());
    assert!(world.client.receive(Duration::from_secs(5)).is_err(), "the stream has ended");
    let next = Agent::start(world.path(), &[], None);
    assert!(next.first.ends_with("true"), "a new one: {}", next.first);
    world.keeper = next.keeper();
    world.reattach();
    assert_eq!(world.client.held(), [Held::Ended(ended)]);
}

pub(crate) fn tasks_of_a_dead_keeper_are_told_and_can_be_ended() {
    let mut world = World::new();
    let (container, pid) = world.shell("sleep 600 & sleep 600");
    kill(world.keeper, Signal::KILL);
    eventually(|| !is_alive(world.keeper), || "its end".to_owned());
    assert!(is_alive(pid), "a task outlives its keeper");
    let next = Agent::start(world.path(), &[], None);
    world.keeper = next.keeper();
    world.reattach();
    let held = world.client.held().to_vec();
    let [Held::Left(left)] = held[..] else { panic!("{held:?}") };
    assert_eq!((left.container, left.pid), (container, pid));
    assert!(end_left(&left));
    assert!(!is_alive(pid));
    world.client.send(&Request::Forget { container }).unwrap();
    assert_eq!(world.list(), []);
}

pub(crate) fn a_keeper_of_run_takes_everything_along() {
    let directory = Directory::new();
    let work_dir = directory.path().join("run");
    std::fs::create_dir(&work_dir).unwrap();
    let mut agent = Agent::start(&work_dir, &["ends", "temporary"], None);
    let keeper = agent.keeper();
    let own = crate::world::program();
    let tasks = [
        agent.launch(&["/bin/sleep", "600"]),
        agent.launch(&[own.to_str().unwrap(), "role:stubborn", "2"]),
        agent.launch(&[own.to_str().unwrap(), "role:closed"]),
    ];
    let said = || std::fs::read_to_string(work_dir.join("out")).unwrap_or_default();
    eventually(|| said().contains("closed"), said);
    assert!(tasks.iter().all(|&pid| is_alive(pid)));
    agent.kill();
    let gone =
        || !is_alive(keeper) && !work_dir.exists() && tasks.iter().all(|&pid| !is_alive(pid));
    assert!(within(Duration::from_secs(5), gone), "everything within 5 s");
}

pub(crate) fn two_agents_do_not_have_two_keepers() {
    let mut world = World::new();
    let (_, pid) = world.role(&["sleep", "600"]);
    let second = Agent::start(world.path(), &[], None);
    assert_eq!(second.keeper(), world.keeper);
    second.leave();
    // Even where the socket's name is gone, the lock is not.
    std::fs::remove_file(world.path().join("meta/keeper.sock")).unwrap();
    let third = Agent::start(world.path(), &[], None);
    assert!(third.first.starts_with("error lock"), "{}", third.first);
    // Nobody can talk to this keeper any more.
    kill(world.keeper, Signal::KILL);
    kill(pid, Signal::KILL);
}
