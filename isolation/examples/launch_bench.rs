//! What a launch costs, against a process started by hand in the same run.
//!
//! `cargo run --release -p mesita-isolation --example launch_bench [ROUNDS]` prints one JSON line
//! for each way: µs from asking to the running program (`running`), and to its collected end
//! (`ended`). As root all ways are measured, otherwise those that need no privilege. The program
//! does nothing but end, so what is measured is ours and the kernel's.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mesita_core::wire::{ContainerId, Session};
use mesita_isolation::isolators::TaskLimits;
use mesita_isolation::keeper::protocol::{Launch, Namespaces, Reply, Request, User};
use mesita_isolation::keeper::{Client, KeeperOptions, start};
use mesita_isolation::sys::Linux;
use mesita_isolation::{Isolation, Options, machine};
use rustix::time::{ClockId, clock_gettime};

static LINUX: Linux = Linux;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(500);
    let work_dir = std::env::temp_dir().join(format!("mesita-bench-{}", std::process::id()));
    std::fs::create_dir(&work_dir).unwrap();
    let mut options = KeeperOptions::new(&work_dir);
    (options.ends_with_client, options.temporary) = (true, true);
    // Before everything else, as an agent does.
    let client = start(&options).unwrap();
    let program = program(&work_dir);
    let mut bench = Bench { client, work_dir, program, rounds, counter: 0 };
    bench.by_hand("spawn by hand (vfork and exec)", false);
    bench.by_hand("spawn by hand (fork and exec)", true);
    let nothing = Namespaces::default();
    bench.keeper("keeper", nothing, None, None);
    let possible = bench.client.welcome().namespaces;
    if possible.pid {
        bench.keeper("keeper, namespaces", possible, None, None);
    }
    if rustix::process::geteuid().is_root() {
        let user = User { uid: 65_534, gid: 65_534, groups: Vec::new() };
        bench.keeper("keeper, another user", nothing, Some(&user), None);
    }
    let key = std::array::from_fn(|at| u8::try_from(at).unwrap_or(0) ^ 0xb5);
    for (name, isolators) in
        [("keeper, cgroups", Some(vec!["cgroups".to_owned()])), ("keeper, every isolator", None)]
    {
        let total = machine::memory_bytes(&LINUX).unwrap();
        let options = Options {
            isolators,
            cgroups_root: "mesita-bench".to_owned(),
            ..Options::new(key, bench.client.welcome(), total)
        };
        let Ok((isolation, _)) = Isolation::new(&options, &LINUX) else { continue };
        if isolation.has_cgroups() {
            bench.client.send(&isolation.remove_at_end()).unwrap();
            bench.keeper(name, nothing, None, Some(&isolation));
        }
    }
    bench.in_flight();
    bench.memory(possible);
}

struct Bench {
    client: Client,
    work_dir: PathBuf,
    program: PathBuf,
    rounds: usize,
    counter: u32,
}

impl Bench {
    fn by_hand(&self, name: &str, forks: bool) {
        let mut times = Times::default();
        for _ in 0..self.rounds {
            let mut command = Command::new(&self.program);
            if forks {
                // Setting the user, even to what it is, makes the standard library fork.
                command.uid(rustix::process::geteuid().as_raw());
            }
            let begun = now_ns();
            let mut child = command.spawn().unwrap();
            times.running.push(now_ns() - begun);
            child.wait().unwrap();
            times.ended.push(now_ns() - begun);
        }
        times.print(name);
    }

    fn keeper(
        &mut self,
        name: &str,
        namespaces: Namespaces,
        user: Option<&User>,
        isolation: Option<&Isolation<'_>>,
    ) {
        let mut times = Times::default();
        for _ in 0..self.rounds {
            let mut launch = self.launch();
            (launch.namespaces, launch.user) = (namespaces, user.cloned());
            if user.is_some() {
                // The directory is not theirs to write.
                (launch.stdout, launch.stderr) = (CString::default(), CString::default());
            }
            let container = launch.container;
            let (begun, mut walls) = (now_ns(), Vec::new());
            if let Some(isolation) = isolation {
                walls = isolation.prepare(container, &limits()).unwrap().add_to(&mut launch);
            }
            self.client.send(&Request::launch(launch, walls)).unwrap();
            while !matches!(self.reply(), Reply::Launched { .. }) {}
            times.running.push(now_ns() - begun);
            while !matches!(self.reply(), Reply::Ended(_)) {}
            if let Some(isolation) = isolation {
                isolation.kill(container).unwrap();
                isolation.cleanup(container).unwrap();
            }
            times.ended.push(now_ns() - begun);
            self.client.send(&Request::Forget { container }).unwrap();
        }
        times.print(name);
    }

    /// Tasks a second with 64 of them under way.
    fn in_flight(&mut self) {
        let total = self.rounds * 4;
        let (mut sent, mut ended) = (0, 0);
        let begun = now_ns();
        while ended < total {
            while sent < total && sent - ended < 64 {
                let launch = self.launch();
                self.client.send(&Request::Launch(Box::new(launch))).unwrap();
                sent += 1;
            }
            if let Reply::Ended(of) = self.reply() {
                ended += 1;
                self.client.send(&Request::Forget { container: of.container }).unwrap();
            }
        }
        let rate = total as u64 * 1_000_000_000 / (now_ns() - begun);
        println!(r#"{{"what":"keeper, 64 in flight","tasks_per_second":{rate}}}"#);
        let begun = now_ns();
        for _ in 0..total {
            Command::new(&self.program).spawn().unwrap().wait().unwrap();
        }
        let rate = total as u64 * 1_000_000_000 / (now_ns() - begun);
        println!(r#"{{"what":"by hand, one after the other","tasks_per_second":{rate}}}"#);
    }

    /// What the keeper and the first process of a namespace have for themselves; what the keeper
    /// shares with the process it was forked from is not counted.
    fn memory(&mut self, possible: Namespaces) {
        let private = |pid: u32| {
            let path = format!("/proc/{pid}/smaps_rollup");
            let rollup = std::fs::read_to_string(path).unwrap_or_default();
            let line = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:"));
            line.map_or_else(|| "null".to_owned(), |kib| kib.trim().replace(" kB", ""))
        };
        // Pages of this binary that the disk does not have yet are nobody's private memory.
        std::fs::File::open(std::env::current_exe().unwrap()).unwrap().sync_all().unwrap();
        let keeper = private(self.client.welcome().pid);
        println!(r#"{{"what":"keeper","private_dirty_kib":{keeper}}}"#);
        if possible.pid {
            let mut launch = self.launch();
            (launch.namespaces, launch.program) = (possible, c"/bin/sleep".into());
            launch.arguments = vec![c"sleep".into(), c"600".into()];
            self.client.send(&Request::Launch(Box::new(launch))).unwrap();
            loop {
                if let Reply::Launched { pid, .. } = self.reply() {
                    let init = private(pid);
                    println!(r#"{{"what":"process 1 of a task","private_dirty_kib":{init}}}"#);
                    break;
                }
            }
        }
    }

    fn reply(&mut self) -> Reply {
        match self.client.receive(Duration::from_secs(30)).unwrap() {
            Some(Reply::Refused(refused)) => panic!("{}", refused.trouble),
            Some(reply) => reply,
            None => panic!("the keeper does not answer"),
        }
    }

    fn launch(&mut self) -> Launch {
        self.counter += 1;
        Launch {
            container: ContainerId { incarnation: 1, counter: self.counter },
            attempt: 0,
            session: Session::default(),
            deadline_us: 0,
            program: text(&self.program),
            arguments: vec![c"nothing".into()],
            environment: vec![c"PATH=/usr/bin:/bin".into()],
            directory: text(&self.work_dir),
            stdout: c"stdout".into(),
            stderr: c"stderr".into(),
            user: None,
            rlimits: heapless::Vec::new(),
            cgroups: heapless::Vec::new(),
            namespaces: Namespaces::default(),
            no_new_privs: false,
            oom_score_adj: 0,
            stop_after_us: 0,
            grace_us: 0,
        }
    }
}

fn limits() -> TaskLimits {
    TaskLimits { cpus_milli: 1000, mem_bytes: 32 << 20, ..TaskLimits::default() }
}

#[derive(Default)]
struct Times {
    running: Vec<u64>,
    ended: Vec<u64>,
}

impl Times {
    fn print(mut self, name: &str) {
        let mut line = format!(r#"{{"what":"{name}","n":{}"#, self.running.len());
        for (of, times) in [("running", &mut self.running), ("ended", &mut self.ended)] {
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100] / 1000;
            let (min, p50, p99) = (at(0), at(50), at(99));
            let _ = write!(line, r#","{of}_us":{{"min":{min},"p50":{p50},"p99":{p99}}}"#);
        }
        println!("{line}}}");
    }
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// A program that only ends: 132 bytes on x86-64, `true` elsewhere.
fn program(work_dir: &Path) -> PathBuf {
    if !cfg!(target_arch = "x86_64") {
        return PathBuf::from("/bin/true");
    }
    // mov eax, 60 (exit); xor edi, edi; syscall
    let code = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (base, headers) = (0x40_0000u64, 64 + 56u64);
    let end = headers + u64::try_from(code.len()).unwrap();
    for half in [2u16, 62] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&1u32.to_le_bytes());
    for word in [base + headers, 64, 0] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    // One segment to load, to be read and executed.
    elf.extend_from_slice(&1u32.to_le_bytes());
    elf.extend_from_slice(&5u32.to_le_bytes());
    for word in [0, base, base, end, end, 0x1000] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(&code);
    let path = work_dir.join("nothing");
    std::fs::write(&path, elf).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}
