//! A directory with daemons and commands in it, what can be asked of them, and what they leave.
//!
//! Every process that a test starts carries the test's mark in its environment, and so do keepers,
//! which are forks of agents, and the tasks of `run`. By that mark leftovers are found, and nothing
//! of another test is.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// How long anything may take on a busy machine before it counts as never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Whom tests of ordinary users run as when the tests run as root.
pub(crate) const NOBODY: u32 = 65_534;
/// The variable that carries the mark.
const MARK: &str = "MESITA_WHOLE_TEST";
/// Where programs are, for everybody.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Ports that no outgoing connection is given by the kernel.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

static MADE: AtomicU32 = AtomicU32::new(0);

/// Waits until something is so; `what` tells what it was that never came.
pub(crate) fn eventually(is_so: impl FnMut() -> bool, what: impl FnOnce() -> String) {
    assert!(within(PATIENCE, is_so), "in vain: {}", what());
}

/// True when something is so within a time.
pub(crate) fn within(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// True when the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// True when this is root with a controller of cgroups; says why a test is skipped otherwise.
pub(crate) fn has_cgroups(controller: &str) -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let v1 = own.lines().any(|line| line.split(':').nth(1) == Some(controller));
    let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let has = is_root() && (v1 || v2.split_whitespace().any(|name| name == controller));
    if !has {
        println!("SKIPPED: needs root and the {controller} controller of cgroups");
    }
    has
}

/// True when this is root; says that a test is skipped otherwise.
pub(crate) fn needs_root() -> bool {
    if !is_root() {
        println!("SKIPPED: needs root");
    }
    is_root()
}

/// A test's directory, its ports and its mark.
#[derive(Debug)]
pub(crate) struct World {
    directory: PathBuf,
    mark: String,
    /// Ports are held at another loopback address for as long as the test lives.
    ports: Mutex<Vec<TcpListener>>,
    started: AtomicU32,
}

impl World {
    pub(crate) fn new() -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let mark = format!("mesita-whole-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(&mark);
        fs::create_dir(&directory).unwrap();
        let world = Self { directory, mark, ports: Mutex::default(), started: AtomicU32::new(0) };
        let all = fs::Permissions::from_mode(0o1777);
        fs::create_dir(world.temporary()).unwrap();
        fs::set_permissions(world.temporary(), all).unwrap();
        world
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A new file that only its owner reads.
    pub(crate) fn secret(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Where what is started makes its temporary files.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.path("tmp")
    }

    /// A port that nobody else listens at.
    pub(crate) fn port(&self) -> u16 {
        let mut ports = self.ports.lock().unwrap();
        let count = u32::from(PORTS.end - PORTS.start);
        let from = std::process::id().wrapping_mul(101) + MADE.fetch_add(17, Ordering::Relaxed);
        for number in 0..count {
            let port = PORTS.start + u16::try_from((from + number) % count).unwrap();
            // The daemons listen at 127.0.0.1: who holds 127.0.0.2 has the port.
            let Ok(held) = TcpListener::bind(("127.0.0.2", port)) else { continue };
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                ports.push(held);
                return port;
            }
        }
        panic!("no port is free");
    }

    /// `mesita` with arguments, marked, in an environment without a cluster.
    pub(crate) fn mesita(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesita"));
        command.args(arguments);
        self.mark(&mut command);
        command
    }

    /// The same where no other process can be connected to, so that `run` finds no cluster.
    pub(crate) fn alone(&self, arguments: &[&str]) -> Command {
        if !is_root() {
            for port in [5050, 5051] {
                let busy = TcpStream::connect(("127.0.0.1", port)).is_ok();
                assert!(!busy, "a cluster runs at port {port}, and only root can be apart from it");
            }
            return self.mesita(arguments);
        }
        self.wrapped(&["unshare", "--net", "--"], arguments)
    }

    /// `mesita` started by another program, which becomes it.
    pub(crate) fn wrapped(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(self.binary()).args(arguments);
        self.mark(&mut command);
        command
    }

    /// Another program, started by one that becomes it.
    pub(crate) fn command_in(&self, wrapper: &[&str], program: &str) -> Command {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(program);
        self.mark(&mut command);
        command
    }

    /// A name that no other test has.
    pub(crate) fn name(&self) -> &str {
        &self.mark
    }

    /// The sandboxes of an agent, the newest last.
    pub(crate) fn sandboxes(&self, work_dir: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(Path::new(work_dir).join("sandboxes")).unwrap().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
        paths
    }

    /// The binary where every user can run it.
    pub(crate) fn binary(&self) -> PathBuf {
        let path = self.path("mesita");
        if !path.exists() {
            fs::copy(env!("CARGO_BIN_EXE_mesita"), &path).unwrap();
        }
        path
    }

    fn mark(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MESITA_") {
                command.env_remove(name);
            }
        }
        command.env(MARK, &self.mark).env("TMPDIR", self.temporary()).env("PATH", PATH);
    }

    /// The flag that marks a task.
    pub(crate) fn marked(&self) -> String {
        format!("--env={MARK}={}", self.mark)
    }

    /// Starts a command; what it says goes to files.
    pub(crate) fn start(&self, mut command: Command) -> Process {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let [out, err] = ["out", "err"].map(|kind| self.path(&format!("{number}.{kind}")));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let pid = i32::try_from(child.id()).unwrap();
        Process { child: RefCell::new(child), pid, out, err }
    }

    /// Runs `mesita` to its end.
    pub(crate) fn told(&self, arguments: &[&str]) -> Said {
        self.start(self.mesita(arguments)).end()
    }

    /// `mesita run` with its flags, in a cluster of its own.
    pub(crate) fn run_alone(&self, arguments: &[&str]) -> Process {
        let mark = self.marked();
        self.start(self.alone(&[&["run", &mark], arguments].concat()))
    }

    /// A master that leads.
    pub(crate) fn master(&self, flags: &[&str]) -> Master<'_> {
        let port = self.port();
        let mut master = Master { world: self, port, flags: owned(flags), process: None };
        master.start();
        master
    }

    /// Processes of this test that live, by what they were called with.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        pids().filter_map(|pid| Some((pid, self.called(pid)?))).collect()
    }

    /// What a process of this test was called with; none if it is another's, or a zombie.
    fn called(&self, pid: i32) -> Option<String> {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mark = format!("{MARK}={}", self.mark).into_bytes();
        // The environment of a keeper is only root's to read; what its agent was called with is
        // everybody's, and holds the test's directory.
        let is_keeper = name.trim() == "mesita-keeper" && line.contains(&self.mark);
        let is_ours = is_keeper || environment.split(|&byte| byte == 0).any(|one| one == mark);
        is_ours.then(|| format!("{}: {line}", name.trim()))
    }

    /// The only process of this test with this name.
    pub(crate) fn process(&self, name: &str) -> i32 {
        let found = || {
            let mut all = self.processes();
            all.retain(|(_, called)| called.starts_with(&format!("{name}: ")));
            all
        };
        eventually(|| found().len() == 1, || format!("one {name} among {:?}", self.processes()));
        found()[0].0
    }

    /// What is left of what this test started; empty when all is well.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.processes().into_iter().map(|(pid, called)| format!("{pid} {called}")).collect();
        left.extend(self.cgroups().into_iter().map(|path| path.display().to_string()));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = mounts.lines().filter(|line| line.contains(&self.mark));
        left.extend(ours.map(str::to_owned));
        let files = fs::read_dir(self.temporary()).unwrap().flatten();
        left.extend(files.map(|entry| entry.path().display().to_string()));
        left
    }

    /// Directories of cgroups whose root has the name of this test.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let mut bases = vec![PathBuf::from("/sys/fs/cgroup")];
        bases.extend(hierarchies.map(|entry| entry.path()).filter(|path| path.is_dir()));
        bases.into_iter().map(|base| base.join(&self.mark)).filter(|path| path.exists()).collect()
    }

    /// Waits until nothing is left.
    pub(crate) fn nothing_is_left(&self) {
        eventually(|| self.left().is_empty(), || format!("nothing left: {:#?}", self.left()));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Only a test that failed has anything left here.
        for _ in 0..100 {
            let left = self.processes();
            left.iter().for_each(|(pid, _)| send(*pid, Signal::KILL));
            let gone = self.cgroups().iter().all(|path| remove_cgroups(path));
            if left.is_empty() && gone {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        if std::thread::panicking() {
            println!("{}", self.everything_said());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl World {
    /// All that was said, for who looks for the reason of a failure.
    fn everything_said(&self) -> String {
        let count = self.started.load(Ordering::Relaxed);
        let files =
            (0..count).flat_map(|number| [format!("{number}.out"), format!("{number}.err")]);
        let said = files.map(|name| {
            let text = fs::read(self.path(&name)).unwrap_or_default();
            format!("--- {name}\n{}", String::from_utf8_lossy(&text[..text.len().min(8192)]))
        });
        said.collect::<Vec<_>>().join("\n")
    }
}

/// Removes a directory of cgroups, those below it first.
fn remove_cgroups(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroups(&entry.path());
        }
    }
    fs::remove_dir(path).is_ok()
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Every process that there is.
pub(crate) fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Sends a signal; that nobody is there to get it is no error.
pub(crate) fn send(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).unwrap();
    let _ = kill_process(pid, signal);
}

/// The parent of a process.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// True when a process is there and no zombie.
pub(crate) fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Process {
    child: RefCell<Child>,
    pid: i32,
    out: PathBuf,
    err: PathBuf,
}

/// All that a process said, and its status: the code, or 128 and its signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Process {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).unwrap()).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap()).into_owned()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.child.borrow_mut().try_wait().unwrap().is_some()
    }

    /// Waits until it has said a text on stderr.
    pub(crate) fn says(&self, text: &str) {
        eventually(
            || self.err().contains(text) || self.has_ended(),
            || format!("{text:?} in {}", self.err()),
        );
        assert!(self.err().contains(text), "it ended without {text:?}: {}", self.err());
    }

    /// Waits until it has said a text on stdout.
    pub(crate) fn prints(&self, text: &str) {
        eventually(
            || self.out().contains(text) || self.has_ended(),
            || format!("{text:?} in {}; {}", self.out(), self.err()),
        );
        assert!(self.out().contains(text), "it ended without {text:?}: {}", self.err());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Kills it outright.
    pub(crate) fn kill(self) {
        let mut child = self.child.borrow_mut();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(self) -> Said {
        use std::os::unix::process::ExitStatusExt;
        eventually(|| self.has_ended(), || format!("its end; it said {}", self.err()));
        let status = self.child.borrow_mut().wait().unwrap();
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        Said { status, out: self.out(), err: self.err() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        if let Ok(None) = child.try_wait() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A master.
#[derive(Debug)]
pub(crate) struct Master<'w> {
    world: &'w World,
    pub(crate) port: u16,
    pub(crate) flags: Vec<String>,
    pub(crate) process: Option<Process>,
}

impl<'w> Master<'w> {
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it, for the first time or again.
    pub(crate) fn start(&mut self) {
        let port = self.port.to_string();
        let work_dir = self.world.path(&format!("master-{port}"));
        let mut command = self.world.mesita(&["master", "--port", &port, "--work-dir"]);
        command.arg(work_dir).args(&self.flags);
        let process = self.world.start(command);
        process.says("master at 127.0.0.1:");
        self.process = Some(process);
    }

    /// Its process.
    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    /// Waits for its end, which comes by itself.
    pub(crate) fn over(&mut self) -> Said {
        self.process.take().unwrap().end()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// An agent of this master, registered.
    pub(crate) fn agent(&self, flags: &[&str]) -> Agent<'w> {
        let mut agent = Agent::new(self.world, &self.address(), flags);
        agent.start();
        agent.process().says("registered with the master");
        agent
    }

    /// `mesita run` on this cluster.
    pub(crate) fn run(&self, arguments: &[&str]) -> Process {
        let (mark, address) = (self.world.marked(), self.address());
        let begin = ["run", &mark, "--master", &address];
        self.world.start(self.world.mesita(&[&begin, arguments].concat()))
    }

    /// Rows of `mesita ps`, as JSON.
    pub(crate) fn rows(&self, flags: &[&str]) -> Vec<serde_json::Value> {
        let begin = ["ps", "--json", "--master", &self.address()];
        let said = self.world.told(&[&begin, flags].concat());
        assert_eq!(said.status, 0, "{}", said.err);
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until a task is told to be in a state.
    pub(crate) fn sees(&self, task: &str, state: &str) {
        let is =
            || self.rows(&["--all"]).iter().any(|row| row["id"] == task && row["state"] == state);
        eventually(is, || format!("{task} in {state}: {:?}", self.rows(&["--all"])));
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::TERM);
        let said = process.end();
        assert_eq!(said.status, 0, "{}", said.err);
    }
}

/// An agent.
#[derive(Debug)]
pub(crate) struct Agent<'w> {
    world: &'w World,
    pub(crate) port: u16,
    work_dir: PathBuf,
    master: String,
    flags: Vec<String>,
    process: Option<Process>,
}

impl<'w> Agent<'w> {
    pub(crate) fn new(world: &'w World, master: &str, flags: &[&str]) -> Self {
        let port = world.port();
        let work_dir = world.path(&format!("agent-{port}"));
        let (master, flags) = (master.to_owned(), owned(flags));
        Self { world, port, work_dir, master, flags, process: None }
    }

    /// Its master is another one from its next start on.
    pub(crate) fn now_at(&mut self, master: &str) {
        master.clone_into(&mut self.master);
    }

    /// Its flags are others from its next start on.
    pub(crate) fn now_with(&mut self, flags: &[&str]) {
        self.flags = owned(flags);
    }

    pub(crate) fn work_dir(&self) -> &Path {
        &self.work_dir
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        let port = self.port.to_string();
        let begin = ["agent", "--master", &self.master, "--port", &port];
        let root = format!("--cgroups-root={}", self.world.mark);
        let more = [&root, "--registration-backoff-factor=100ms", "--work-dir"];
        let mut command = self.world.mesita(&[&begin[..], &more].concat());
        command.arg(&self.work_dir).args(&self.flags);
        if !self.flags.iter().any(|flag| flag.starts_with("--resources")) {
            command.arg("--resources=cpus:4;mem:1024;ports:[31000-31099]");
        }
        // Sandboxes are looked into however full the disk is.
        if !self.flags.iter().any(|flag| flag.starts_with("--gc-disk-headroom")) {
            command.arg("--gc-disk-headroom=0%");
        }
        command
    }

    /// Starts it, for the first time or again.
    pub(crate) fn start(&mut self) {
        self.process = Some(self.world.start(self.command()));
    }

    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    /// Starts it, and waits for its end.
    pub(crate) fn ends(&mut self) -> Said {
        self.start();
        self.process.take().unwrap().end()
    }

    /// Waits for its end, which comes by itself.
    pub(crate) fn over(&mut self) -> Said {
        self.process.take().unwrap().end()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// SIGTERM: it ends, and its keeper and tasks stay.
    pub(crate) fn terminate(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::TERM);
        let said = process.end();
        assert_eq!(said.status, 0, "{}", said.err);
    }

    /// SIGUSR1: its tasks end, and it leaves the cluster.
    pub(crate) fn leave(mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::USR1);
        let said = process.end();
        assert_eq!(said.status, 0, "{}", said.err);
    }
}

/// What the daemon at a port answers to `GET path`.
pub(crate) fn get(port: u16, path: &str) -> String {
    ask(port, path).unwrap()
}

/// The same, of a daemon that may not be there.
pub(crate) fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
