//! A work directory with a keeper, seen from its agent, and what to ask of processes.

use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mesita_core::wire::task::Exit;
use mesita_core::wire::{ContainerId, Session};
use mesita_isolation::keeper::protocol::{
    Ended, Enter, Held, Launch, Namespaces, Refused, Reply, Request, Stdio as Given,
};
use mesita_isolation::keeper::wall::Wall;
use mesita_isolation::keeper::{Client, Error, connect};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take on a slow machine before it counts as never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Whom tests of ordinary users run as when the tests run as root.
pub(crate) const NOBODY: u32 = 65_534;

static MADE: AtomicU32 = AtomicU32::new(0);

/// A directory that anybody may pass through; it goes away with its owner.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("mesita-whole-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Another process of this binary that plays an agent.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The first line it said.
    pub(crate) first: String,
}

impl Agent {
    /// Starts one, as `uid` or as ourselves, and waits until it has something to say.
    pub(crate) fn start(work_dir: &Path, words: &[&str], uid: Option<u32>) -> Self {
        let mut command = Command::new(program());
        command.arg("role:agent").arg(work_dir).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        Self::of(command)
    }

    /// Starts a command that speaks like one.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut agent = Self { child, input, output, first: String::new() };
        agent.first = agent.line();
        agent
    }

    /// The keeper it has.
    pub(crate) fn keeper(&self) -> u32 {
        let words: Vec<_> = self.first.split(' ').collect();
        assert_eq!(words[0], "keeper", "{}", self.first);
        words[1].parse().unwrap()
    }

    /// What it says next.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Has it launch a task, and gives the task's pid.
    pub(crate) fn launch(&mut self, words: &[&str]) -> u32 {
        writeln!(self.input.as_ref().unwrap(), "launch {}", words.join(" ")).unwrap();
        let line = self.line();
        line.strip_prefix("launched ").unwrap_or_else(|| panic!("{line}")).parse().unwrap()
    }

    /// It ends by itself, without a word.
    pub(crate) fn leave(mut self) {
        drop(self.input.take());
        self.child.wait().unwrap();
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A keeper in a work directory of its own, and the test as its agent.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) directory: Directory,
    pub(crate) client: Client,
    pub(crate) keeper: u32,
    counter: u32,
    early: Vec<Reply>,
    /// What is done to every launch.
    pub(crate) namespaces: Namespaces,
    pub(crate) walls: Vec<Wall>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&[], None)
    }

    /// With words for the agent that starts the keeper, which may run as another user.
    pub(crate) fn with(words: &[&str], uid: Option<u32>) -> Self {
        Self::at(Directory::new(), words, uid)
    }

    /// In a directory that is there.
    pub(crate) fn at(directory: Directory, words: &[&str], uid: Option<u32>) -> Self {
        let work_dir = directory.path();
        if let Some(uid) = uid {
            std::os::unix::fs::chown(work_dir, Some(uid), Some(uid)).unwrap();
        }
        let agent = Agent::start(work_dir, words, uid);
        let client = attach(work_dir);
        assert_eq!(client.welcome().pid, agent.keeper());
        let keeper = agent.keeper();
        agent.leave();
        let (counter, early, walls) = (0, Vec::new(), Vec::new());
        let namespaces = Namespaces::default();
        Self { directory, client, keeper, counter, early, namespaces, walls }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A launch of `words` that can be changed before it is sent; output goes to `out`.
    pub(crate) fn plan(&mut self, words: &[&str]) -> Launch {
        self.counter += 1;
        let container = ContainerId { incarnation: 1, counter: self.counter };
        let mut launch = launch_of(container, self.path(), words);
        launch.namespaces = self.namespaces;
        launch
    }

    pub(crate) fn send(&mut self, launch: Launch) -> ContainerId {
        let container = launch.container;
        self.client.send(&Request::launch(launch, self.walls.clone())).unwrap();
        container
    }

    /// Starts a script of the shell beside the task of a container.
    pub(crate) fn beside(&mut self, inside: ContainerId, script: &str) -> ContainerId {
        self.beside_behind(inside, script, Vec::new())
    }

    /// The same behind walls.
    pub(crate) fn beside_behind(
        &mut self,
        inside: ContainerId,
        script: &str,
        walls: Vec<Wall>,
    ) -> ContainerId {
        let launch = self.plan(&["/bin/sh", "-c", script]);
        let container = launch.container;
        let enter = Enter { inside, launch };
        let request = Request::enter(enter, c"".into(), Given::Files, walls);
        self.client.send(&request).unwrap();
        container
    }

    /// Launches `words` and sees them run.
    pub(crate) fn launch(&mut self, words: &[&str]) -> (ContainerId, u32) {
        let launch = self.plan(words);
        let container = self.send(launch);
        let pid = self.launched(container);
        (container, pid)
    }

    /// Launches a script of the shell.
    pub(crate) fn shell(&mut self, script: &str) -> (ContainerId, u32) {
        self.launch(&["/bin/sh", "-c", script])
    }

    /// Launches a role of this binary.
    pub(crate) fn role(&mut self, words: &[&str]) -> (ContainerId, u32) {
        let plan = self.role_plan(words);
        let container = self.send(plan);
        let pid = self.launched(container);
        (container, pid)
    }

    /// A launch of a role of this binary.
    pub(crate) fn role_plan(&mut self, words: &[&str]) -> Launch {
        let own = program();
        let role = format!("role:{}", words[0]);
        let mut all = vec![own.to_str().unwrap(), &role];
        all.extend(&words[1..]);
        self.plan(&all)
    }

    /// Waits for a reply that `wanted` takes; others are kept for later.
    pub(crate) fn wait<T>(&mut self, mut wanted: impl FnMut(&Reply) -> Option<T>) -> T {
        if let Some(at) = self.early.iter().position(|reply| wanted(reply).is_some()) {
            return wanted(&self.early.remove(at)).unwrap();
        }
        loop {
            let reply = self.client.receive(PATIENCE).unwrap();
            let reply = reply.unwrap_or_else(|| panic!("no reply; there were {:?}", self.early));
            if let Some(found) = wanted(&reply) {
                return found;
            }
            self.early.push(reply);
        }
    }

    pub(crate) fn launched(&mut self, of: ContainerId) -> u32 {
        self.wait(|reply| match reply {
            Reply::Launched { container, pid, .. } if *container == of => Some(*pid),
            Reply::Refused(refused) if refused.container == of => panic!("{}", refused.trouble),
            _ => None,
        })
    }

    /// Sees it wait for a word.
    pub(crate) fn waits(&mut self, of: ContainerId) -> u32 {
        self.wait(|reply| match reply {
            Reply::Waits { container, pid, .. } if *container == of => Some(*pid),
            Reply::Refused(refused) if refused.container == of => panic!("{}", refused.trouble),
            Reply::Launched { container, .. } if *container == of => panic!("it was launched"),
            _ => None,
        })
    }

    pub(crate) fn refused(&mut self, of: ContainerId) -> Refused {
        self.wait(|reply| match reply {
            Reply::Refused(refused) if refused.container == of => Some(*refused),
            Reply::Launched { container, .. } if *container == of => panic!("it was launched"),
            _ => None,
        })
    }

    pub(crate) fn ended(&mut self, of: ContainerId) -> Ended {
        self.wait(|reply| match reply {
            Reply::Ended(ended) if ended.container == of => Some(*ended),
            _ => None,
        })
    }

    /// How it ended, and lets go of it.
    pub(crate) fn exit(&mut self, container: ContainerId) -> Exit {
        let exit = self.ended(container).exit;
        self.client.send(&Request::Forget { container }).unwrap();
        exit
    }

    /// How it ended, if it could be launched, and lets go of it.
    pub(crate) fn outcome(&mut self, of: ContainerId) -> Option<Exit> {
        let exit = self.wait(|reply| match reply {
            Reply::Ended(ended) if ended.container == of => Some(Some(ended.exit)),
            Reply::Refused(refused) if refused.container == of => Some(None),
            _ => None,
        });
        self.early.clear();
        let forget = Request::Forget { container: of };
        exit.inspect(|_| self.client.send(&forget).unwrap())
    }

    pub(crate) fn signal(&mut self, container: ContainerId, signal: Signal) {
        let signal = u8::try_from(signal.as_raw()).unwrap();
        self.client.send(&Request::Signal { container, signal }).unwrap();
    }

    pub(crate) fn list(&mut self) -> Vec<Held> {
        self.client.send(&Request::List).unwrap();
        let mut held = Vec::new();
        while !self.wait(|reply| match reply {
            Reply::Listed { containers, last } => {
                held.extend(containers.iter().copied());
                Some(*last)
            }
            _ => None,
        }) {}
        held
    }

    /// What tasks have said so far.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.path().join("out")).unwrap_or_default()
    }

    /// Waits until tasks have said `text`.
    pub(crate) fn said(&self, text: &str) {
        eventually(|| self.output().contains(text), || format!("{text:?} in {:?}", self.output()));
    }

    /// The agent is another one from now on.
    pub(crate) fn reattach(&mut self) {
        self.client = attach(self.directory.path());
        self.early.clear();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The keeper may be dead already; that is what some tests are about.
        let _ = self.client.send(&Request::EndAll);
        while let Ok(Some(reply)) = self.client.receive(PATIENCE) {
            if reply == Reply::AllEnded {
                break;
            }
        }
        let _ = self.client.send(&Request::Exit);
        let ended = within(PATIENCE, || !is_alive(self.keeper));
        if !ended {
            kill(self.keeper, Signal::KILL);
        }
        if !std::thread::panicking() {
            assert!(ended, "the keeper did not end when it was asked to");
        }
    }
}

/// Connects to the keeper of a work directory as the agent's next start.
pub(crate) fn attach(work_dir: &Path) -> Client {
    try_attach(work_dir).unwrap().expect("a keeper")
}

pub(crate) fn try_attach(work_dir: &Path) -> Result<Option<Client>, Error> {
    connect(work_dir, Session { incarnation: 1, counter: 1 })
}

/// A launch of `words` in `directory`, which gets its output in `out`.
pub(crate) fn launch_of(container: ContainerId, directory: &Path, words: &[&str]) -> Launch {
    Launch {
        container,
        attempt: 0,
        session: Session { incarnation: 1, counter: 1 },
        deadline_us: 0,
        program: CString::default(),
        arguments: words.iter().map(|word| CString::new(*word).unwrap()).collect(),
        environment: vec![c"PATH=/usr/local/bin:/usr/bin:/bin".into(), c"MARK=of the test".into()],
        directory: text(directory),
        stdout: c"out".into(),
        stderr: c"out".into(),
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

pub(crate) fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// A copy of this binary, once it was needed.
static COPY: Mutex<Option<Directory>> = Mutex::new(None);

/// Removes what tests shared.
pub(crate) fn clean_up() {
    *COPY.lock().unwrap() = None;
}

/// This binary, where everybody may execute it: a build directory may be closed to other users.
pub(crate) fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let open_to_all =
        |path: &Path| std::fs::metadata(path).is_ok_and(|of| of.permissions().mode() & 0o001 != 0);
    if !rustix::process::geteuid().is_root() || own.ancestors().all(open_to_all) {
        return own;
    }
    let mut copy = COPY.lock().unwrap();
    let directory = copy.get_or_insert_with(|| {
        let directory = Directory::new();
        let path = directory.path().join("whole");
        std::fs::copy(&own, &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        directory
    });
    directory.path().join("whole")
}

pub(crate) fn nap(time: Duration) {
    let tv_sec = i64::try_from(time.as_secs()).unwrap();
    let _ = rustix::thread::nanosleep(&rustix::time::Timespec {
        tv_sec,
        tv_nsec: time.subsec_nanos().into(),
    });
}

/// True as soon as `holds` does, false if it does not in that time.
pub(crate) fn within(time: Duration, mut holds: impl FnMut() -> bool) -> bool {
    for _ in 0..time.as_millis() / 5 {
        if holds() {
            return true;
        }
        nap(Duration::from_millis(5));
    }
    holds()
}

/// Waits until `holds` does; says `what` if it never does.
pub(crate) fn eventually(holds: impl FnMut() -> bool, what: impl Fn() -> String) {
    assert!(within(PATIENCE, holds), "never: {}", what());
}

/// A process exists and has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = kill_process(pid, signal);
}

/// A field of `/proc/PID/status`.
pub(crate) fn status(pid: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// The children of a process, those included that wait to be collected.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| status(pid, "PPid") == of.to_string()).collect()
}
