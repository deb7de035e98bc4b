//! The core thread allocates nothing after its start.
//!
//! This binary is the harness, and with `child` as first argument a daemon whose allocator counts.
//! SIGUSR2 begins the counting, and the next one ends it.

// The allocator is what this is about; each use is explained.
#![allow(unsafe_code)]
// Conditions are waited for on the tests' own clock.
#![allow(clippy::disallowed_methods)]

#[allow(dead_code, reason = "the other tests use the rest of it")]
#[path = "whole/world.rs"]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use libtest_mimic::{Arguments, Trial};
use world::{Signal, World};

/// How often memory was taken, by the core thread and by others: before, during and after.
static BY_CORE: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static BY_OTHERS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
/// Which of the three it is.
static PHASE: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes to where it is told, and these are 16.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let by = if name.starts_with(b"core\0") { &BY_CORE } else { &BY_OTHERS };
    let phase = usize::try_from(PHASE.load(SeqCst)).map_or(2, |phase| phase.min(2));
    by[phase].fetch_add(1, SeqCst);
}

// SAFETY: everything is passed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the same promise that this needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

extern "C" fn next_phase(_: libc::c_int) {
    PHASE.fetch_add(1, SeqCst);
}

/// Is a daemon, and says at its end what was counted.
fn child(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let handler = nix::sys::signal::SigHandler::Handler(next_phase);
    // SAFETY: the handler does nothing but add to an atomic.
    unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGUSR2, handler) }.unwrap();
    let status = mesita::main(arguments.collect());
    let [by_core, by_others] =
        [&BY_CORE, &BY_OTHERS].map(|counts| counts.each_ref().map(|count| count.load(SeqCst)));
    println!("core {by_core:?} others {by_others:?}");
    status
}

fn the_core_thread_allocates_nothing_after_its_start() {
    let world = World::new();
    let (port, journal) = (world.port().to_string(), world.path("journal"));
    let own = std::env::current_exe().unwrap();
    let mut dev = world.command_in(&[own.to_str().unwrap(), "child"], "dev");
    dev.args(["--agents", "2", "--port", &port, "--size", "tiny", "--journal-max", "1MiB"]);
    let dev = world.start({
        dev.arg("--journal").arg(&journal).args(["--cgroups-root", world.name()]);
        dev
    });
    dev.says("cluster at 127.0.0.1:");
    let (mark, address) = (world.marked(), format!("127.0.0.1:{port}"));
    let run = |arguments: &[&str]| {
        let begin = ["run", &mark, "--master", &address, "--resources", "cpus:0.1;mem:4"];
        world.start(world.mesita(&[&begin, arguments].concat())).end()
    };
    let all = || {
        assert_eq!(run(&["--", "true"]).status, 0);
        assert_eq!(run(&["--instances", "20", "--command", "exit 3"]).status, 3);
        assert_eq!(run(&["--role", "some/role", "--wait", "20s", "--", "true"]).status, 0);
        let none = ["run", "--master", &address, "--resources", "cpus:999", "--wait", "3s"];
        assert_eq!(world.told(&[&none[..], &["--", "true"]].concat()).status, 3);
        assert_eq!(world.told(&["ps", "--all", "--master", &address]).status, 0);
        assert!(world::get(port.parse().unwrap(), "/metrics").contains("mesita_master_"));
    };
    let is_registered = || {
        let said = world.told(&["ps", "--agents", "--json", "--master", &address]);
        said.out.matches("\"state\":\"active\"").count() == 2
    };
    world::eventually(is_registered, || dev.err());
    dev.signal(Signal::USR2);
    all();
    dev.signal(Signal::USR2);
    dev.signal(Signal::TERM);
    let said = dev.end();
    assert_eq!(said.status, 0, "{}", said.err);
    let counts = said.out.trim().strip_prefix("core [").unwrap();
    let (by_core, by_others) = counts.split_once("] others [").unwrap();
    let number = |counts: &str, phase: usize| {
        let count = counts.trim_end_matches(']').split(", ").nth(phase).unwrap();
        count.parse::<u64>().unwrap()
    };
    // Who counts nothing proves nothing: both were seen to allocate.
    assert!(number(by_core, 0) > 0, "the core thread at its start: {counts}");
    assert!(number(by_others, 1) > 0, "the IO thread at work: {counts}");
    assert_eq!(number(by_core, 1), 0, "the core thread at work: {counts}");
    let replayed = world.told(&["replay", journal.to_str().unwrap()]);
    assert!(replayed.out.ends_with("identical to the recorded run\n"), "{replayed:?}");
    world.nothing_is_left();
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == "child") {
        return child(std::iter::once("mesita".into()).chain(arguments));
    }
    let name = "the_core_thread_allocates_nothing_after_its_start";
    let test = Trial::test(name, || {
        the_core_thread_allocates_nothing_after_its_start();
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![test]).exit_code()
}
