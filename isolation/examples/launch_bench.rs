//! What a launch costs, against a process started by hand in the same run.
//!
//! `cargo run --release -p mesita-isolation --example launch_bench [ROUNDS]` prints one JSON line
//! for each way: µs from asking to the running program (`running`), and to its collected end
//! (`ended`). As root all ways are measured, otherwise those that need no privilege. The program
//! does nothing but end, so what is measured is ours and the kernel's. Where there are cgroups, the
//! calls of the kernel alone that make as much are measured beside them, and `runc run`, if there is
//! one; then 1,000 containers at once, and what is left of them.

// The bare calls are made without anybody's help.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::{CString, c_int, c_void};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mesita_core::wire::{ContainerId, Session};
use mesita_isolation::images::{Bounds, Digest, Image, Name, Platform, Provisioner, Source, Store};
use mesita_isolation::isolators::{Stands, TaskLimits};
use mesita_isolation::keeper::protocol::{Launch, Namespaces, Reply, Request, User};
use mesita_isolation::keeper::{Client, KeeperOptions, start};
use mesita_isolation::sys::Linux;
use mesita_isolation::{Isolation, Options, machine};
use rustix::time::{ClockId, clock_gettime};

static LINUX: Linux = Linux;

/// Containers that run at once.
const MANY: usize = 1_000;
/// Launches that are under way at once.
const IN_FLIGHT: usize = 64;
/// Rounds of what takes tens of milliseconds.
const FEW: usize = 30;
/// Where a task on an image finds its sandbox.
const SANDBOX: &str = "/mnt/mesos/sandbox";

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(500);
    let work_dir = std::env::temp_dir().join(format!("mesita-bench-{}", std::process::id()));
    std::fs::create_dir(&work_dir).unwrap();
    let mut options = KeeperOptions::new(&work_dir);
    (options.ends_with_client, options.temporary) = (true, true);
    // Before everything else, as an agent does.
    let client = start(&options).unwrap();
    let program = program(&work_dir, "nothing", &ENDS);
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
    let total = machine::memory_bytes(&LINUX).unwrap();
    let isolation = |isolators: Option<&[&str]>, provisioner, welcome: &_| {
        let isolators = isolators.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        let cgroups_root = "mesita-bench".to_owned();
        let options = Options::new(key, welcome, total);
        let options = Options { isolators, cgroups_root, provisioner, ..options };
        Isolation::new(&options, &LINUX).ok().map(|(isolation, _)| isolation)
    };
    let all: &[(&str, Option<&[&str]>)] =
        &[("keeper, cgroups", Some(&["cgroups"])), ("keeper, every isolator", None)];
    for &(name, isolators) in all {
        let welcome = *bench.client.welcome();
        let Some(isolation) = isolation(isolators, Ok(None), &welcome) else { continue };
        if !isolation.has_cgroups() {
            continue;
        }
        bench.client.send(&isolation.remove_at_end()).unwrap();
        bench.bare("bare clone and exec in as many cgroups", &isolation, 0);
        if isolators.is_none() {
            bench.bare("the same, with all namespaces", &isolation, NAMESPACES);
        }
        bench.keeper(name, nothing, None, Some(&isolation));
    }
    let (image, provisioner) = bench.image();
    let welcome = *bench.client.welcome();
    match isolation(None, Ok(provisioner), &welcome) {
        Some(isolation) if isolation.names().contains(&"filesystem/linux") => {
            bench.on_image("keeper, every isolator, an image", &image, &isolation);
        }
        _ => println!(r#"{{"what":"keeper, an image","skipped":"no images here"}}"#),
    }
    bench.runc();
    bench.in_flight();
    bench.memory(possible);
    // Last of all: the kernel goes on to take down what they had for a while.
    let welcome = *bench.client.welcome();
    if let Some(isolation) = isolation(None, Ok(None), &welcome).filter(Isolation::has_cgroups) {
        bench.many(&isolation);
    }
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

    /// The calls that make as many cgroups with as many limits, and a process in them and in these
    /// namespaces, by clone(2) with borrowed memory.
    fn bare(&self, name: &str, isolation: &Isolation<'_>, namespaces: c_int) {
        let mut times = Times::default();
        for _ in 0..self.rounds {
            let begun = now_ns();
            let directories: Vec<PathBuf> =
                directories(isolation).into_iter().map(|above| above.join("bare")).collect();
            for directory in &directories {
                std::fs::create_dir(directory).unwrap();
                for (file, value) in LIMITS {
                    // Each hierarchy has its own.
                    let _ = std::fs::OpenOptions::new().write(true).open(directory.join(file)).map(
                        |mut file| std::io::Write::write_all(&mut file, value.as_bytes()).unwrap(),
                    );
                }
            }
            let procs = directories.iter().map(|of| text(&of.join("cgroup.procs"))).collect();
            let pid = clone_and_execute(&self.program, procs, namespaces);
            times.running.push(now_ns() - begun);
            // SAFETY: no status is asked for.
            assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
            for directory in &directories {
                while std::fs::remove_dir(directory).is_err() {
                    assert!(directory.exists());
                }
            }
            times.ended.push(now_ns() - begun);
        }
        times.print(name);
    }

    /// An image with the program alone, and who provides it.
    fn image(&self) -> (Image, Option<Arc<Provisioner>>) {
        let store = Store::open(&self.work_dir.join("images"), Bounds::default()).unwrap();
        let path = self.work_dir.join("image.tar");
        std::fs::write(&path, archive(&std::fs::read(&self.program).unwrap())).unwrap();
        let name = Name::parse(path.to_str().unwrap()).unwrap();
        let image = store.add(&name, Source::open(&path, None).unwrap(), &BTreeSet::new).unwrap();
        let provisioner = Provisioner::new(store, &self.work_dir, None, SANDBOX);
        (image, provisioner.ok().map(Arc::new))
    }

    fn on_image(&mut self, name: &str, image: &Image, isolation: &Isolation<'_>) {
        let stands = Stands { image: image.clone(), sandbox: self.work_dir.clone() };
        let limits = TaskLimits { stands: Some(stands), ..limits() };
        let change = |launch: &mut Launch| {
            launch.program = c"/nothing".into();
            launch.directory = CString::new(SANDBOX).unwrap();
        };
        self.launches(name, Some((isolation, &limits)), &change);
    }

    /// `runc run` of the same program in a root of its own, from the command to its end.
    fn runc(&self) {
        let bundle = self.work_dir.join("bundle");
        std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
        std::fs::copy(&self.program, bundle.join("rootfs/nothing")).unwrap();
        let runc = |words: &[&str]| {
            let mut command = Command::new("runc");
            command.args(words).current_dir(&bundle).stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        if !runc(&["spec"]) {
            return println!(r#"{{"what":"runc run","skipped":"needs Debian's runc, and root"}}"#);
        }
        let config = std::fs::read_to_string(bundle.join("config.json")).unwrap();
        let config = config.replace(r#""terminal": true"#, r#""terminal": false"#);
        let config = config.replace("\"sh\"", "\"/nothing\"");
        std::fs::write(bundle.join("config.json"), config).unwrap();
        let mut times = Times::default();
        for round in 0..FEW {
            let begun = now_ns();
            let name = format!("mesita-bench-{}-{round}", std::process::id());
            if !runc(&["run", &name]) {
                return println!(r#"{{"what":"runc run","skipped":"it does not run here"}}"#);
            }
            times.ended.push(now_ns() - begun);
        }
        times.print("runc run");
    }

    /// Launches many containers that stay, and destroys them all.
    fn many(&mut self, isolation: &Isolation<'_>) {
        let program = program(&self.work_dir, "stays", &STAYS);
        let (mut containers, mut launched) = (Vec::new(), 0);
        let begun = now_ns();
        while launched < MANY {
            while containers.len() < MANY && containers.len() - launched < IN_FLIGHT {
                let mut launch = self.launch();
                launch.program = text(&program);
                let container = launch.container;
                let walls = isolation.prepare(container, &limits()).unwrap().add_to(&mut launch);
                self.client.send(&Request::launch(launch, walls)).unwrap();
                containers.push(container);
            }
            launched += usize::from(matches!(self.reply(), Reply::Launched { .. }));
        }
        let running = (now_ns() - begun) / 1_000_000;
        let begun = now_ns();
        for &container in &containers {
            isolation.kill(container).unwrap();
            isolation.cleanup(container).unwrap();
        }
        let mut ended = 0;
        while ended < MANY {
            ended += usize::from(matches!(self.reply(), Reply::Ended(_)));
        }
        for container in containers {
            self.client.send(&Request::Forget { container }).unwrap();
        }
        let gone = (now_ns() - begun) / 1_000_000;
        let left: usize = directories(isolation).iter().map(|directory| inside(directory)).sum();
        println!(
            r#"{{"what":"{MANY} containers, every isolator","running_ms":{running},"gone_ms":{gone},"cgroups_left":{left}}}"#
        );
    }

    fn keeper(
        &mut self,
        name: &str,
        namespaces: Namespaces,
        user: Option<&User>,
        isolation: Option<&Isolation<'_>>,
    ) {
        let change = |launch: &mut Launch| {
            (launch.namespaces, launch.user) = (namespaces, user.cloned());
            if user.is_some() {
                // The directory is not theirs to write.
                (launch.stdout, launch.stderr) = (CString::default(), CString::default());
            }
        };
        let limits = limits();
        self.launches(name, isolation.map(|isolation| (isolation, &limits)), &change);
    }

    fn launches(
        &mut self,
        name: &str,
        isolation: Option<(&Isolation<'_>, &TaskLimits)>,
        change: &dyn Fn(&mut Launch),
    ) {
        let mut times = Times::default();
        for _ in 0..self.rounds {
            let mut launch = self.launch();
            change(&mut launch);
            let container = launch.container;
            let (begun, mut walls) = (now_ns(), Vec::new());
            if let Some((isolation, limits)) = isolation {
                walls = isolation.prepare(container, limits).unwrap().add_to(&mut launch);
            }
            self.client.send(&Request::launch(launch, walls)).unwrap();
            while !matches!(self.reply(), Reply::Launched { .. }) {}
            times.running.push(now_ns() - begun);
            while !matches!(self.reply(), Reply::Ended(_)) {}
            if let Some((isolation, _)) = isolation {
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
            while sent < total && sent - ended < IN_FLIGHT {
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
        let mut line = format!(r#"{{"what":"{name}","n":{}"#, self.ended.len());
        for (of, times) in [("running", &mut self.running), ("ended", &mut self.ended)] {
            if times.is_empty() {
                continue;
            }
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

/// What is limited of a task of `limits`, in whichever hierarchy that is.
const LIMITS: [(&str, &str); 6] = [
    ("cpu.shares", "1024"),
    ("cpu.weight", "100"),
    ("memory.limit_in_bytes", "33554432"),
    ("memory.max", "33554432"),
    ("pids.max", "1000"),
    ("memory.soft_limit_in_bytes", "33554432"),
];
/// All that a task has of its own by default.
const NAMESPACES: c_int = libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Directories in which the agent's containers have theirs.
fn directories(isolation: &Isolation<'_>) -> Vec<PathBuf> {
    let Request::RemoveAtEnd { directories } = isolation.remove_at_end() else { return Vec::new() };
    let all: Vec<PathBuf> =
        directories.iter().map(|path| PathBuf::from(path.to_str().unwrap())).collect();
    // Those above them are of several agents.
    let is_last = |path: &&PathBuf| !all.iter().any(|other| other.parent() == Some(path));
    all.iter().filter(is_last).cloned().collect()
}

/// Directories in one.
fn inside(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|of| of.is_dir())).count()
}

/// What a process is told that has its parent's memory.
struct Begins {
    procs: Vec<CString>,
    program: CString,
}

/// Puts itself where it belongs, and becomes the program.
extern "C" fn begin(told: *mut c_void) -> c_int {
    // SAFETY: the parent waits until this process has executed, with what it told in its place; all
    // calls read texts that end with NUL.
    unsafe {
        let told = &*told.cast::<Begins>();
        for procs in &told.procs {
            let file = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            libc::write(file, c"0".as_ptr().cast(), 1);
            libc::close(file);
        }
        let none: *const *const std::ffi::c_char = std::ptr::null();
        let arguments = [told.program.as_ptr(), std::ptr::null()];
        libc::execve(told.program.as_ptr(), arguments.as_ptr(), none);
        libc::_exit(127)
    }
}

fn clone_and_execute(program: &Path, procs: Vec<CString>, namespaces: c_int) -> c_int {
    const STACK: usize = 64 << 10;
    let mut stack = vec![0u128; STACK / size_of::<u128>()];
    let mut told = Begins { procs, program: text(program) };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | namespaces;
    // SAFETY: the stack is large enough and outlives the child's use of it, as does what it is told:
    // with CLONE_VFORK this returns when the child has executed or ended.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        libc::clone(begin, top, flags, (&raw mut told).cast())
    };
    assert!(pid > 0, "{}", std::io::Error::last_os_error());
    pid
}

/// An image with one program, as `docker save` writes it.
fn archive(program: &[u8]) -> Vec<u8> {
    fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, contents: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(contents.len() as u64);
        tar.append_data(&mut header, path, contents).unwrap();
    }
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "nothing", program);
    let layer = layer.into_inner().unwrap();
    let configuration = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{}},"rootfs":{{"diff_ids":["{}"]}}}}"#,
        Platform::own().architecture,
        Digest::of(&layer)
    );
    let path = format!("{}.json", Digest::of(configuration.as_bytes()).hex());
    let manifest =
        format!(r#"[{{"Config":"{path}","RepoTags":["x:latest"],"Layers":["layer.tar"]}}]"#);
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "layer.tar", &layer);
    append(&mut tar, &path, configuration.as_bytes());
    append(&mut tar, "manifest.json", manifest.as_bytes());
    tar.into_inner().unwrap()
}

/// `mov eax, 60` (exit), `xor edi, edi`, `syscall`.
const ENDS: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
/// `mov eax, 34` (pause), `syscall`, and again.
const STAYS: [u8; 9] = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

/// A program of nine bytes, and 120 that lead to them; on another machine than x86-64 one of Debian's
/// that does as little.
fn program(work_dir: &Path, name: &str, code: &[u8]) -> PathBuf {
    if !cfg!(target_arch = "x86_64") {
        return PathBuf::from(if name == "nothing" { "/bin/true" } else { "/bin/cat" });
    }
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
    elf.extend_from_slice(code);
    let path = work_dir.join(name);
    std::fs::write(&path, elf).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}
