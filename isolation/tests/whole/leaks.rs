//! Nothing is left: after many launches with every sort of death in between, there is no process,
//! cgroup, mount, namespace, loop device, link or file that was not there before.
//!
//! `MESITA_LAUNCHES` says how many; `ci/nightly` asks for 10,000.

use std::collections::BTreeSet;
use std::path::Path;

use mesita_core::wire::ContainerId;
use mesita_isolation::isolators::TaskLimits;
use mesita_isolation::keeper::protocol::{Held, Request};
use rustix::process::Signal;

use crate::networks;
use crate::walls::{Walls, limits};
use crate::world::{Agent, children, eventually, kill};

/// Links that the kernel has still to take down when one more is made; there are addresses for twice as
/// many.
const LINKS_MAX: usize = 64;

/// What a machine has that a launch could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: usize,
    loops: usize,
    namespaces: usize,
    links: usize,
    files: BTreeSet<String>,
}

impl Machine {
    fn now(work_dir: &Path) -> Self {
        let count = |text: String| text.lines().count();
        let loops = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let loops = loops.filter(|of| of.path().join("loop/backing_file").exists()).count();
        let files = std::fs::read_dir(work_dir).unwrap().flatten();
        Self {
            mounts: count(std::fs::read_to_string("/proc/self/mountinfo").unwrap()),
            loops,
            namespaces: namespaces(work_dir),
            links: links(),
            files: files.map(|file| file.file_name().into_string().unwrap()).collect(),
        }
    }
}

/// Ends of networks that have an address of this test's own.
fn links() -> usize {
    let routes = std::fs::read_to_string("/proc/net/fib_trie").unwrap();
    let range = networks::range().to_string();
    let ours = range.rsplit_once('.').map_or("", |(ours, _)| ours);
    let addresses = routes.lines().filter(|line| line.contains(&format!("-- {ours}.")));
    addresses.collect::<BTreeSet<_>>().len()
}

/// Namespaces of processes that work below a directory, or did.
fn namespaces(work_dir: &Path) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ours = processes.filter(|process| {
        std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(work_dir))
    });
    let kinds = ["pid", "mnt", "ipc", "uts", "net", "cgroup"];
    let links = ours.flat_map(|process| kinds.map(|kind| process.path().join("ns").join(kind)));
    links.filter_map(|link| std::fs::read_link(link).ok()).collect::<BTreeSet<_>>().len()
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

pub(crate) fn nothing_is_left_of_many_launches_and_every_sort_of_death() {
    let launches = std::env::var("MESITA_LAUNCHES").ok().and_then(|text| text.parse().ok());
    let launches: u64 = launches.unwrap_or(300);
    let linked = (!networks::is_lacking()).then_some("namespaces/net");
    let isolators: Vec<&str> = ["all"].into_iter().chain(linked).collect();
    let mut walls = Walls::of(Some(&isolators), |options| {
        let wide = networks::range().to_string().replace("/28", "/24");
        options.container_network = Some(wide.parse().unwrap());
    });
    let (mut dice, mut deaths) = (Dice(0x2545_f491_4f6c_dd1d), [0u32; 5]);
    // The file that tasks write to is there from the first of them on.
    let (first, _) = walls.run(&limits(64), &["exit", "0"]);
    walls.world.exit(first);
    walls.isolation.kill(first).unwrap();
    walls.isolation.cleanup(first).unwrap();
    // The kernel takes networks down in its own time.
    let at_most = |most| eventually(|| links() <= most, || format!("{} links", links()));
    at_most(0);
    let before = Machine::now(walls.world.path());
    for number in 0..launches {
        at_most(LINKS_MAX);
        let few = TaskLimits { pids: Some(32), ..limits(64) };
        let words: &[&str] = if dice.roll(3) == 0 { &["stubborn", "1"] } else { &["exit", "0"] };
        let (container, pid) = walls.run(&few, words);
        let death = if number % 97 == 96 { 4 } else { dice.roll(4) };
        deaths[usize::try_from(death).unwrap()] += 1;
        match death {
            // By itself, or by being told to, or by somebody else.
            0 if words[0] == "exit" => wait_for_end(&mut walls, container),
            1 => kill_if_there(pid),
            // The agent is another one now, which finds it again.
            2 => walls.world.reattach(),
            // Their keeper: what it left is found by the next.
            4 => {
                kill(walls.world.keeper, Signal::KILL);
                let next = Agent::start(walls.world.path(), &[], None);
                walls.world.keeper = next.keeper();
                walls.world.reattach();
                next.leave();
                for held in walls.world.client.held().to_vec() {
                    if let Held::Left(left) = held {
                        walls.isolation.kill_left(left.container, &left).unwrap();
                    }
                    let of = held.container();
                    walls.isolation.cleanup(of).unwrap();
                    walls.world.client.send(&Request::Forget { container: of }).unwrap();
                }
            }
            _ => walls.world.signal(container, Signal::KILL),
        }
        let waited = death == 0 && words[0] == "exit";
        walls.isolation.kill(container).unwrap();
        if death != 4 {
            if !waited {
                wait_for_end(&mut walls, container);
            }
            walls.world.client.send(&Request::Forget { container }).unwrap();
        }
        walls.isolation.cleanup(container).unwrap();
    }
    let keeper = walls.world.keeper;
    eventually(|| children(keeper).is_empty(), || format!("{:?}", children(keeper)));
    at_most(0);
    assert_eq!(Machine::now(walls.world.path()), before);
    assert_eq!(walls.containers(), [] as [std::path::PathBuf; 0]);
    println!("{launches} containers, by death {deaths:?}: nothing left");
}

/// Waits for an end that a new agent may have been told of at once.
fn wait_for_end(walls: &mut Walls, container: ContainerId) {
    let held = walls.world.client.held();
    if !held.iter().any(|held| matches!(held, Held::Ended(of) if of.container == container)) {
        walls.world.ended(container);
    }
}

/// It may have ended by itself.
fn kill_if_there(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}
