//! Attack probes: hostile programs run as tasks, for the walls of a task that asks for nothing.
//!
//! A probe is first shown to get through with its walls taken away, so that it can fail honestly, and
//! then to be held by all of them. The ones of root need it; the others run as an ordinary user, or
//! as nobody where the tests run as root. `tries` has what they do, and `races` those that have to be
//! tried often.

// Probes are system calls that no library makes.
#![allow(
    unsafe_code,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation
)]

pub(crate) mod races;
pub(crate) mod tries;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mesita_core::wire::ContainerId;
use mesita_core::wire::task::Exit;
use mesita_isolation::isolators::{Rlimit, TaskLimits};
use mesita_isolation::keeper::protocol::{Request, User};
use mesita_isolation::sys::landlock_abi;
use mesita_isolation::{Isolation, Options};

use crate::walls::{LINUX, options, remove};
use crate::world::{NOBODY, World, program};
use tries::Got;

/// As whom a probe runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Root, below an agent of root: there is most to be held.
    Root,
    /// An ordinary user below an agent of root.
    Switched,
    /// An ordinary user below an agent of its own.
    User,
}

use Who::{Root, Switched, User as Ordinary};

/// What is there for a probe to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Nothing,
    /// A process of the host.
    Process,
    /// A copy of this program that makes whoever executes it root.
    Setuid,
    /// An object in the host's shared memory, or a queue.
    Shm,
    Queue,
    /// A file of it in `/dev/shm`.
    Shared,
    /// Somebody who listens on an abstract socket, or on the host's loopback.
    Abstract,
    Listener,
    /// A file in a directory that anybody may write to, and a name in it that is free.
    File,
    Name,
    /// A file of its user's, elsewhere than it writes.
    Own,
    /// Somebody who listens where services of the machine do.
    Service,
    /// Files of its agent's work directory, and a directory that this is in, all below `--writable`.
    Identity,
    Ledger,
    Above,
    /// The limit of its own memory, and the list of processes of the topmost cgroup.
    OwnLimit,
    Topmost,
}

/// One probe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) who: Who,
    /// The walls that hold it, all of which have to be taken away.
    walls: &'static [&'static str],
    /// A wall that is only there where it is named.
    named: Option<&'static str>,
    /// Walls that are not there at all.
    lacks: &'static [&'static str],
    given: Given,
}

impl Probe {
    /// What its test is called: the same is tried by several.
    pub(crate) fn title(&self) -> String {
        let same = PROBES.iter().filter(|other| other.name == self.name).count() > 1;
        let lacking = if self.lacks == SIGHT { "-without-mounts" } else { "" };
        let by = self.named.map_or_else(String::new, |wall| format!("-by-{wall}"));
        if same {
            format!("{}-of-{:?}{lacking}{}", self.name, self.who, by.replace('/', "-"))
        } else {
            self.name.to_owned()
        }
    }
}

const fn probe(
    name: &'static str,
    who: Who,
    walls: &'static [&'static str],
    given: Given,
) -> Probe {
    Probe { name, who, walls, named: None, lacks: &[], given }
}

const GRANTS: &[&str] = &["linux/nnp", "linux/landlock", "linux/seccomp"];
const CAPABILITIES: &[&str] = &["linux/capabilities"];
const CALLS: &[&str] = &["linux/seccomp"];
const BOTH: &[&str] = &["linux/capabilities", "linux/seccomp"];
const MOUNTS: &[&str] = &["linux/capabilities", "linux/seccomp", "linux/landlock"];
const SIGHT: &[&str] = &["namespaces/pid", "namespaces/ipc", "namespaces/uts", "namespaces/cgroup"];
const HIDDEN: &[&str] = &[
    "namespaces/pid",
    "namespaces/ipc",
    "namespaces/uts",
    "namespaces/cgroup",
    "linux/capabilities",
];
const SYS: &[&str] = &[
    "namespaces/pid",
    "namespaces/ipc",
    "namespaces/uts",
    "namespaces/cgroup",
    "linux/capabilities",
    "linux/landlock",
];
const WRITING: &[&str] = &["linux/landlock"];
/// What makes a task change nothing of the machine's, in mounts of its own.
const STILL: &[&str] = &["filesystem/linux", "linux/landlock"];
const MEMORY: &[&str] = &["cgroups/mem"];
/// Whatever gives a task mounts of its own.
const MOUNTED: &[&str] =
    &["namespaces/pid", "namespaces/ipc", "namespaces/uts", "namespaces/cgroup", "linux/landlock"];

/// All of them, by the rows of the list of measures that they are about.
pub(crate) const PROBES: &[Probe] = &[
    // 1, 2: privileges.
    probe("setuid", Switched, GRANTS, Given::Setuid),
    probe("set-user-id", Root, CAPABILITIES, Given::Nothing),
    probe("set-group-id", Root, CAPABILITIES, Given::Nothing),
    probe("born-set-user-id", Root, CAPABILITIES, Given::Nothing),
    probe("bounding", Root, CAPABILITIES, Given::Nothing),
    probe("raw-socket", Root, CAPABILITIES, Given::Nothing),
    probe("packet-socket", Root, CAPABILITIES, Given::Nothing),
    probe("mknod", Root, CAPABILITIES, Given::Nothing),
    probe("chroot", Root, CAPABILITIES, Given::Nothing),
    probe("chown", Root, CAPABILITIES, Given::Nothing),
    probe("nice", Root, CAPABILITIES, Given::Nothing),
    // Where time is shared by groups, none but the topmost has any of this kind.
    probe("real-time", Root, &["linux/capabilities", "cgroups/cpu"], Given::Nothing),
    probe("mlock", Root, CAPABILITIES, Given::Nothing),
    probe("low-port", Root, CAPABILITIES, Given::Nothing),
    // Who is granted all of them has them over users of its own.
    Probe {
        named: Some("namespaces/user"),
        lacks: CAPABILITIES,
        ..probe("chown", Root, &["namespaces/user"], Given::Nothing)
    },
    Probe {
        named: Some("namespaces/user"),
        lacks: CAPABILITIES,
        ..probe("raw-socket", Root, &["namespaces/user"], Given::Nothing)
    },
    // 3, 35, 36: calls, of both sorts of users.
    probe("bpf", Root, BOTH, Given::Nothing),
    probe("perf", Root, BOTH, Given::Nothing),
    probe("keyctl", Ordinary, CALLS, Given::Nothing),
    probe("add-key", Ordinary, CALLS, Given::Nothing),
    probe("userfaultfd", Root, BOTH, Given::Nothing),
    probe("io-uring", Ordinary, CALLS, Given::Nothing),
    probe("unshare-user", Switched, CALLS, Given::Nothing),
    probe("unshare-mount", Root, BOTH, Given::Nothing),
    probe("unshare-net", Root, BOTH, Given::Nothing),
    probe("clone-user", Switched, CALLS, Given::Nothing),
    probe("clone3", Ordinary, CALLS, Given::Nothing),
    probe("setns", Root, BOTH, Given::Nothing),
    probe("ptrace", Ordinary, CALLS, Given::Nothing),
    probe("vm-read", Ordinary, CALLS, Given::Nothing),
    probe("pidfd-getfd", Ordinary, CALLS, Given::Nothing),
    probe("kcmp", Ordinary, CALLS, Given::Nothing),
    probe("kexec", Root, BOTH, Given::Nothing),
    probe("module", Root, BOTH, Given::Nothing),
    probe("handle", Root, BOTH, Given::Nothing),
    probe("mount", Root, MOUNTS, Given::Nothing),
    probe("fsopen", Root, BOTH, Given::Nothing),
    probe("open-tree", Root, BOTH, Given::Nothing),
    probe("mount-setattr", Root, BOTH, Given::Nothing),
    probe("pivot-root", Root, MOUNTS, Given::Nothing),
    probe("swapon", Root, BOTH, Given::Nothing),
    probe("clock", Root, BOTH, Given::Nothing),
    probe("reboot", Root, BOTH, Given::Nothing),
    probe("syslog", Root, BOTH, Given::Nothing),
    probe("quota", Root, BOTH, Given::Nothing),
    probe("type", Root, BOTH, Given::Nothing),
    probe("crypto-socket", Ordinary, CALLS, Given::Nothing),
    probe("vm-socket", Ordinary, CALLS, Given::Nothing),
    probe("compat", Ordinary, CALLS, Given::Nothing),
    probe("x32", Ordinary, CALLS, Given::Nothing),
    // 5, 26: others.
    probe("signal", Ordinary, SIGHT, Given::Process),
    probe("see", Ordinary, SIGHT, Given::Process),
    probe("shm", Ordinary, &["namespaces/ipc"], Given::Shm),
    probe("shared-file", Ordinary, &["namespaces/ipc"], Given::Shared),
    probe("queue", Ordinary, &["namespaces/ipc"], Given::Queue),
    probe("hostname", Root, &["linux/capabilities", "linux/seccomp"], Given::Nothing),
    probe("abstract", Ordinary, WRITING, Given::Abstract),
    Probe {
        named: Some("network/none"),
        ..probe("connect", Ordinary, &["network/none"], Given::Listener)
    },
    Probe {
        named: Some("network/none"),
        ..probe("interfaces", Ordinary, &["network/none"], Given::Nothing)
    },
    Probe {
        named: Some("network/ports"),
        ..probe("port", Ordinary, &["network/ports"], Given::Nothing)
    },
    Probe {
        named: Some("network/ports"),
        ..probe("multipath-port", Ordinary, &["network/ports"], Given::Nothing)
    },
    // 6, 9, 10, 32, 34, 41: files of the host.
    probe("init-exe", Root, MOUNTS, Given::Nothing),
    probe("core-pattern", Root, HIDDEN, Given::Nothing),
    probe("sysrq", Root, HIDDEN, Given::Nothing),
    probe("kcore", Root, HIDDEN, Given::Nothing),
    probe("keys", Ordinary, SIGHT, Given::Nothing),
    probe("timers", Root, HIDDEN, Given::Nothing),
    probe("slabs", Root, HIDDEN, Given::Nothing),
    probe("sysfs", Root, SYS, Given::Nothing),
    probe("write", Ordinary, STILL, Given::Name),
    Probe { lacks: SIGHT, ..probe("write", Ordinary, WRITING, Given::Name) },
    Probe { lacks: SIGHT, ..probe("truncate", Ordinary, WRITING, Given::File) },
    Probe { lacks: SIGHT, ..probe("truncate-by-name", Ordinary, WRITING, Given::File) },
    Probe { lacks: SIGHT, ..probe("truncate-by-reading", Ordinary, WRITING, Given::File) },
    Probe { lacks: SIGHT, ..probe("remove", Ordinary, WRITING, Given::File) },
    Probe { lacks: SIGHT, ..probe("rename", Ordinary, WRITING, Given::File) },
    // What changes a file without writing it, and whoever serves the machine.
    probe("mode", Root, STILL, Given::Own),
    probe("mode", Ordinary, STILL, Given::Own),
    probe("owner", Root, STILL, Given::Own),
    probe("times", Root, STILL, Given::Own),
    probe("attribute", Root, STILL, Given::Own),
    probe("flags", Root, STILL, Given::Own),
    probe("service", Root, STILL, Given::Service),
    probe("service", Ordinary, STILL, Given::Service),
    // 5, 32: its agent's.
    probe("identity", Ordinary, SIGHT, Given::Identity),
    probe("ledger", Ordinary, MOUNTED, Given::Ledger),
    Probe { lacks: SIGHT, ..probe("ledger", Ordinary, WRITING, Given::Ledger) },
    probe("identity", Root, SIGHT, Given::Identity),
    probe("ledger", Root, MOUNTED, Given::Ledger),
    probe("work-dir", Ordinary, MOUNTED, Given::Above),
    probe("work-dir", Root, MOUNTED, Given::Above),
    // 18: cgroups.
    probe("own-limit", Root, SYS, Given::OwnLimit),
    probe("leave-cgroup", Root, SYS, Given::Topmost),
    probe("cgroups-of-others", Root, &["namespaces/cgroup"], Given::Nothing),
    probe("cgroups-of-all", Ordinary, &["namespaces/cgroup"], Given::Nothing),
    probe("host-cgroup", Root, &["namespaces/cgroup"], Given::Nothing),
    // 13, 19: hierarchies and files of the kernel that it would make, or cover.
    probe("mount-cgroup", Root, MOUNTS, Given::Nothing),
    probe("release-agent", Root, SYS, Given::Nothing),
    probe("cover-proc", Root, MOUNTS, Given::Nothing),
    // 33: devices.
    probe("kmsg", Root, &["cgroups/devices"], Given::Nothing),
    probe("made-node", Root, &["cgroups/devices", "linux/capabilities"], Given::Nothing),
    // 20, 21: bombs.
    probe("forks", Root, &["cgroups/pids"], Given::Nothing),
    probe("memory", Root, MEMORY, Given::Nothing),
    probe("shared-memory", Root, MEMORY, Given::Nothing),
    probe("pipes", Root, MEMORY, Given::Nothing),
    probe("sockets", Root, MEMORY, Given::Nothing),
    // 29: what it may leave behind.
    probe("core", Ordinary, &["posix/rlimits"], Given::Nothing),
];

/// Those that are held by the keeper itself, whatever isolators are on: shown to get through where
/// there is no keeper.
pub(crate) const OF_THE_KEEPER: [&str; 3] = ["descriptors", "environment", "agents-key"];

/// Working directories that are descriptors of whoever makes the task: so many of them are tried.
const DESCRIPTORS: u32 = 1024;

const MIB: u64 = 1 << 20;

/// A machine with something for a probe to find, which goes away again.
struct Host {
    words: Vec<String>,
    process: Option<Child>,
    directory: Option<PathBuf>,
    shm: Option<i32>,
    queue: Option<std::ffi::CString>,
    shared: Option<PathBuf>,
    _abstract: Option<std::os::unix::net::UnixListener>,
    _listener: Option<std::net::TcpListener>,
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir_all(directory);
        }
        if let Some(shared) = &self.shared {
            let _ = std::fs::remove_file(shared);
        }
        if let Some(shm) = self.shm {
            // SAFETY: removing an object touches no memory.
            unsafe { libc::shmctl(shm, libc::IPC_RMID, std::ptr::null_mut()) };
        }
        if let Some(queue) = &self.queue {
            // SAFETY: the name ends with NUL and outlives the call.
            unsafe { libc::mq_unlink(queue.as_ptr()) };
        }
    }
}

/// A directory where nobody writes unless everybody may; not among those that tasks may write to.
fn outside() -> PathBuf {
    let path = PathBuf::from(format!("/var/mesita-probe-{}", std::process::id()));
    let made = std::fs::create_dir(&path);
    let path = if made.is_ok() { path } else { program().parent().unwrap().join("probe-outside") };
    let _ = std::fs::create_dir(&path);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    path
}

impl Host {
    fn with(given: Given, owner: Option<u32>) -> Self {
        let mut host = Self {
            words: Vec::new(),
            process: None,
            directory: None,
            shm: None,
            queue: None,
            shared: None,
            _abstract: None,
            _listener: None,
        };
        let name = format!("mesita-probe-{}", std::process::id());
        match given {
            Given::Nothing | Given::OwnLimit | Given::Identity | Given::Ledger | Given::Above => {}
            Given::Process => {
                use std::os::unix::process::CommandExt;
                let mut command = Command::new(program());
                command.args(["role:sleep", "600"]).stdout(Stdio::null());
                if rustix::process::geteuid().is_root() {
                    command.uid(NOBODY).gid(NOBODY);
                }
                let process = command.spawn().unwrap();
                host.words.push(process.id().to_string());
                host.process = Some(process);
            }
            Given::Setuid => {
                let directory = outside();
                let copy = directory.join("program");
                std::fs::copy(program(), &copy).unwrap();
                std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).unwrap();
                host.words.push(copy.to_str().unwrap().to_owned());
                host.directory = Some(directory);
            }
            Given::Shm => {
                let key = i32::try_from(std::process::id()).unwrap() | 0x4d00_0000;
                // SAFETY: making an object touches no memory of ours.
                let shm = unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | 0o666) };
                assert!(shm >= 0);
                host.shm = Some(shm);
                host.words.push(key.to_string());
            }
            Given::Shared => {
                let file = Path::new("/dev/shm").join(name);
                std::fs::write(&file, "precious").unwrap();
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
                host.words.push(file.to_str().unwrap().to_owned());
                host.shared = Some(file);
            }
            Given::Queue => {
                let name = std::ffi::CString::new(format!("/{name}")).unwrap();
                let flags = libc::O_CREAT | libc::O_RDWR;
                let none: *const libc::mq_attr = std::ptr::null();
                // SAFETY: the name ends with NUL and outlives the call; no attributes are given.
                let queue = unsafe { libc::mq_open(name.as_ptr(), flags, 0o666, none) };
                if queue >= 0 {
                    // SAFETY: nobody else closes it.
                    unsafe { libc::fchmod(queue, 0o666) };
                    host.words.push(name.to_str().unwrap().to_owned());
                    host.queue = Some(name);
                }
            }
            Given::Abstract => {
                let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
                host._abstract =
                    Some(std::os::unix::net::UnixListener::bind_addr(&address).unwrap());
                host.words.push(name);
            }
            Given::Listener => {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                host.words.push(listener.local_addr().unwrap().to_string());
                host._listener = Some(listener);
            }
            Given::Service => {
                let socket = Path::new("/run").join(name);
                let Ok(listener) = std::os::unix::net::UnixListener::bind(&socket) else {
                    return host;
                };
                let all = std::fs::Permissions::from_mode(0o666);
                std::fs::set_permissions(&socket, all).unwrap();
                host._abstract = Some(listener);
                host.words.push(socket.to_str().unwrap().to_owned());
                host.shared = Some(socket);
            }
            Given::File | Given::Name | Given::Own => {
                let directory = outside();
                let file = directory.join("file");
                if given == Given::Own {
                    std::fs::write(&file, "precious").unwrap();
                    let own = owner.map(|_| NOBODY);
                    std::os::unix::fs::chown(&file, own, own).unwrap();
                }
                if given == Given::File {
                    std::fs::write(&file, "precious").unwrap();
                    let all = std::fs::Permissions::from_mode(0o666);
                    std::fs::set_permissions(&file, all).unwrap();
                }
                host.words.push(file.to_str().unwrap().to_owned());
                host.directory = Some(directory);
            }
            Given::Topmost => {
                let places = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
                let found = places.iter().map(|place| Path::new(place).join("cgroup.procs"));
                let found = found.into_iter().find(|path| path.exists()).unwrap();
                host.words.push(found.to_str().unwrap().to_owned());
            }
        }
        host
    }
}

/// Runs a probe with these isolators; what it says, or that it was killed for what it did.
fn run(probe: &Probe, isolators: &[String]) -> Got {
    let as_user = probe.who == Ordinary && rustix::process::geteuid().is_root();
    let mut host = Host::with(probe.given, as_user.then_some(NOBODY));
    let mut world = World::with(&[], as_user.then_some(NOBODY));
    let key = u64::from(std::process::id()) << 24 | 0x70_0000;
    let mut options =
        Options { isolators: Some(isolators.to_vec()), ..options(world.client.welcome(), key) };
    let work_dir = world.path().join("above/agent");
    let given = match probe.given {
        Given::Identity => Some(work_dir.join("meta/secret")),
        Given::Ledger => Some(work_dir.join("meta/ledger")),
        Given::Above => Some(world.path().join("above")),
        _ => None,
    };
    if let Some(given) = &given {
        options.work_dir = Some(work_dir.clone());
        host.words.push(given.to_str().unwrap().to_owned());
    }
    let isolation = match Isolation::new(&options, &LINUX) {
        Ok((isolation, _)) => isolation,
        // One that is only where it is named.
        Err(why) => return Got::Lacking(why.to_string()),
    };
    let mut launch = world.role_plan(&["probe", probe.name]);
    let container = launch.container;
    let mut output = world.path().join("out");
    if given.is_some() {
        let owner = as_user.then(|| User { uid: NOBODY, gid: NOBODY, groups: Vec::new() });
        let sandbox = work_dir_of(&work_dir, container, owner.as_ref());
        launch.directory = crate::world::text(&sandbox);
        output = sandbox.join("out");
    }
    if probe.given == Given::OwnLimit {
        let paths = isolation.remove_at_end();
        let Request::RemoveAtEnd { directories } = paths else { panic!() };
        let own = directories.iter().map(|path| Path::new(path.to_str().unwrap()));
        let limits = ["memory.limit_in_bytes", "memory.max"];
        let own = own.map(|path| path.join(container.to_string()));
        isolation.prepare(container, &TaskLimits::default()).unwrap();
        let mut files = own.flat_map(|path| limits.map(|file| path.join(file)));
        let found = files.find(|path| path.exists()).map(|path| path.to_str().unwrap().to_owned());
        let Some(found) = found else { return Got::Lacking("no limit of memory".to_owned()) };
        isolation.cleanup(container).unwrap();
        host.words.push(found);
    }
    if matches!(probe.given, Given::Queue | Given::Service) && host.words.is_empty() {
        return Got::Lacking("no queues, or no services of ours".to_owned());
    }
    launch
        .arguments
        .extend(host.words.iter().map(|word| std::ffi::CString::new(word.as_str()).unwrap()));
    if probe.who == Switched {
        launch.user = Some(User { uid: NOBODY, gid: NOBODY, groups: Vec::new() });
        let own = Some(NOBODY);
        std::os::unix::fs::chown(world.path(), own, own).unwrap();
    }
    let limits = TaskLimits {
        cpus_milli: 1000,
        mem_bytes: if probe.walls == MEMORY { 32 } else { 400 } * MIB,
        pids: Some(40),
        root: probe.who == Root,
        rlimits: [small("RLMT_MEMLOCK")].into_iter().collect(),
        ..TaskLimits::default()
    };
    // Where rlimits are the wall that is taken away, nobody may ask for any.
    let asks = isolators.iter().any(|name| name == "posix/rlimits");
    let none = TaskLimits { rlimits: Default::default(), ..limits.clone() };
    let limits = if asks { limits } else { none };
    let prepared = isolation.prepare(container, &limits).unwrap_or_else(|why| panic!("{why}"));
    let walls = prepared.add_to(&mut launch);
    if probe.who == Ordinary {
        // They are root's here.
        launch.cgroups.clear();
    }
    world.client.send(&Request::launch(launch, walls)).unwrap();
    world.launched(container);
    let exit = world.exit(container);
    let said = std::fs::read_to_string(output).unwrap_or_default();
    let got = match (exit, said.trim_end().split_once(' ')) {
        (_, Some(("lacking", why))) => Got::Lacking(why.to_owned()),
        (_, Some(("held", why))) => Got::Held(why.to_owned()),
        (Exit::Code(0), None) if said.trim_end() == "through" => Got::Through,
        (Exit::Signal(11), _) => Got::Lacking("no such instruction".to_owned()),
        // Killed for what it did, before it could say anything.
        (Exit::Signal(_), _) => Got::Held(format!("{exit:?}")),
        other => panic!("{}: {other:?}: {said}", probe.name),
    };
    isolation.kill(container).unwrap();
    isolation.cleanup(container).unwrap();
    remove(&isolation);
    got
}

/// An agent's work directory, all of it its user's, and the sandbox of a task there.
fn work_dir_of(work_dir: &Path, container: ContainerId, owner: Option<&User>) -> PathBuf {
    let meta = work_dir.join("meta");
    std::fs::create_dir_all(&meta).unwrap();
    std::fs::write(meta.join("secret"), "precious").unwrap();
    std::fs::write(meta.join("ledger"), "precious").unwrap();
    let own = owner.map(|user| user.uid);
    let files = [meta.join("secret"), meta.join("ledger"), meta];
    for path in files.iter().map(PathBuf::as_path).chain(work_dir.ancestors().take(2)) {
        std::os::unix::fs::chown(path, own, own).unwrap();
    }
    let sandbox = mesita_isolation::sandbox::create(work_dir, container, owner).unwrap();
    std::os::unix::fs::chown(work_dir.join("sandboxes"), own, own).unwrap();
    sandbox
}

fn small(name: &str) -> Rlimit {
    Rlimit { name: name.to_owned(), soft: Some(65_536), hard: Some(65_536) }
}

/// All isolators that there are for such a probe.
fn isolators(probe: &Probe) -> Vec<String> {
    let as_user = probe.who == Ordinary && rustix::process::geteuid().is_root();
    let world = World::with(&[], as_user.then_some(NOBODY));
    let options = options(world.client.welcome(), u64::from(std::process::id()) << 24 | 0x71_0000);
    let (isolation, _) = Isolation::new(&options, &LINUX).unwrap();
    remove(&isolation);
    // Cgroups are root's here.
    let own = |name: &&str| {
        (probe.who != Ordinary || !name.starts_with("cgroups/")) && !probe.lacks.contains(name)
    };
    let names = isolation.names().into_iter().filter(own).chain(probe.named);
    names.map(str::to_owned).collect()
}

/// From where on Landlock parts abstract sockets.
const SCOPES: u32 = 6;

/// Shows that a probe gets through without its walls, and is held by them.
pub(crate) fn holds(probe: &Probe) {
    let all = isolators(probe);
    let missing: Vec<_> =
        probe.walls.iter().filter(|wall| !all.iter().any(|name| name == *wall)).collect();
    if missing.len() == probe.walls.len() {
        println!("SKIPPED: {}: {missing:?} cannot be here", probe.name);
        return;
    }
    if probe.name == "abstract" && landlock_abi() < SCOPES {
        println!("SKIPPED: {}: Landlock knows scopes from Linux 6.12 on", probe.name);
        return;
    }
    let without: Vec<String> =
        all.iter().filter(|name| !probe.walls.contains(&name.as_str())).cloned().collect();
    match run(probe, &without) {
        Got::Through => {}
        Got::Lacking(why) => return println!("SKIPPED: {}: {why}", probe.name),
        Got::Held(why) if why == "no such call" => {
            return println!("SKIPPED: {}: {why}", probe.name);
        }
        Got::Held(why) => panic!("{}: held without its walls: {why}", probe.name),
    }
    match run(probe, &all) {
        Got::Held(why) => println!("{}: {why}", probe.name),
        Got::Lacking(why) => println!("SKIPPED: {}: {why}", probe.name),
        got @ Got::Through => panic!("{}: {got:?} through {all:?}", probe.name),
    }
}

/// The same for what the keeper itself holds: without one, a process has what its parent has.
pub(crate) fn the_keeper_holds(name: &str) {
    use std::os::fd::AsRawFd;
    let secret = format!("mesita-probe-{}", std::process::id());
    let leaked = std::fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let has_keys = name != "agents-key" || put_key(&secret);
    if !has_keys {
        return println!("SKIPPED: {name}: no keys");
    }
    let mut directly = Command::new(program());
    directly.args(["role:probe", name, &secret]).env("MESITA_PROBE_SECRET", "1");
    let said = directly.output().unwrap().stdout;
    assert_eq!(said, b"through\n", "{}: fd {}", name, leaked.as_raw_fd());
    let mut world = World::new();
    let (container, _) = world.role(&["probe", name, &secret]);
    assert_eq!(world.exit(container), Exit::Code(0));
    let said = world.output();
    assert!(said.starts_with("held "), "{name}: {said}");
}

/// A working directory is none of the descriptors of the keeper's (CVE-2024-21626). Without a keeper a
/// process that asks for one is there.
pub(crate) fn a_task_works_in_no_descriptor() {
    use std::os::fd::AsRawFd;
    let leaked = std::fs::File::open("/usr").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let mut directly = Command::new(program());
    directly.current_dir(format!("/proc/self/fd/{}", leaked.as_raw_fd()));
    let said = directly.args(["role:probe", "works-elsewhere"]).output().unwrap().stdout;
    assert_eq!(said, b"through\n", "fd {}", leaked.as_raw_fd());
    let mut world = World::new();
    for number in 0..DESCRIPTORS {
        for end in ["", "/", "/."] {
            let mut launch = world.role_plan(&["probe", "works-elsewhere"]);
            let directory = format!("/proc/self/fd/{number}{end}");
            launch.directory = std::ffi::CString::new(directory.clone()).unwrap();
            let container = world.send(launch);
            if world.outcome(container).is_some() {
                let said = world.output();
                assert!(!said.contains("through"), "{directory}: {said}");
            }
        }
    }
}

/// A signal is for a task, and not for whoever has the number that it had. The number alone reaches
/// whoever that is.
pub(crate) fn a_signal_reaches_nobody_who_has_the_number_of_one_that_ended() {
    let mut world = World::new();
    let (container, pid) = world.role(&["exit", "0"]);
    assert_eq!(world.ended(container).exit, Exit::Code(0));
    let Some(other) = process_of_number(pid) else {
        return println!("SKIPPED: this kernel makes no process of a chosen number");
    };
    let lives = || crate::world::is_alive(pid);
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        world.signal(container, signal);
    }
    // Whatever was asked for before is done.
    let known = world.list();
    assert!(known.iter().all(|held| !format!("{held:?}").contains("Running")), "{known:?}");
    assert!(lives(), "the keeper killed another process");
    world.client.send(&Request::Forget { container }).unwrap();
    world.signal(container, rustix::process::Signal::KILL);
    world.list();
    assert!(lives(), "the keeper killed another process");
    // SAFETY: both calls take numbers, of a child of this process's own.
    unsafe {
        libc::kill(other, libc::SIGKILL);
        let mut status = 0;
        assert_eq!(libc::waitpid(other, &mut status, 0), other);
        assert_eq!(libc::WTERMSIG(status), libc::SIGKILL);
    }
}

/// A child that waits to be killed and has this number, which nobody has.
fn process_of_number(pid: u32) -> Option<i32> {
    let number = [i32::try_from(pid).ok()?];
    // `struct clone_args`: flags, pidfd, two places for the number, a signal, a stack and its size, TLS,
    // the numbers that are wanted and how many, a cgroup.
    let arguments: [u64; 11] =
        [0, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, number.as_ptr().addr() as u64, 1, 0];
    let make = || {
        // SAFETY: the call reads what outlives it; the child does nothing but wait in the kernel.
        let made =
            unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
        if made == 0 {
            loop {
                // SAFETY: it takes nothing, and returns when a signal has come.
                unsafe { libc::pause() };
            }
        }
        made
    };
    // It is collected a moment after its end is told.
    let mut made = make();
    for _ in 0..100 {
        if made >= 0 {
            break;
        }
        crate::world::nap(std::time::Duration::from_millis(10));
        made = make();
    }
    i32::try_from(made).ok().filter(|made| *made > 0)
}

/// What a task would have a helper do: a program of the operator's is told nothing of where its caller
/// runs, and so of no task's. Without that it does what its environment says.
pub(crate) fn a_helper_does_what_nobodys_environment_says() {
    use std::os::unix::fs::PermissionsExt;
    if !Path::new("/bin/bash").exists() {
        return println!("SKIPPED: needs bash");
    }
    let world = World::new();
    let (helper, evil, trace) =
        (world.path().join("helper"), world.path().join("evil"), world.path().join("trace"));
    let script = "#!/bin/bash\necho $LD_PRELOAD$IFS_SAYS; cat >/dev/null; env >&2; echo '{}'\n";
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&evil, format!("echo $0 >>{}\n", trace.display())).unwrap();
    let hostile = [
        ("BASH_ENV", evil.to_str().unwrap()),
        ("ENV", evil.to_str().unwrap()),
        ("PATH", world.path().to_str().unwrap()),
        ("LD_PRELOAD", "/nonexistent/evil.so"),
        ("IFS", "/"),
    ];
    let run = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).envs(hostile).stdin(Stdio::null());
        command.output().unwrap()
    };
    run(&[helper.to_str().unwrap(), "prepare"]);
    assert!(trace.exists(), "nothing was done that its environment says");
    std::fs::remove_file(&trace).unwrap();
    let own = program();
    let said = run(&[own.to_str().unwrap(), "role:helped", helper.to_str().unwrap()]);
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(out.contains("helped"), "{out} {err}");
    assert!(!trace.exists(), "{out} {err}");
}

/// An agent that has a helper prepare a container.
pub(crate) fn helped(helper: &str) {
    let welcome = mesita_isolation::keeper::protocol::Welcome {
        version: mesita_isolation::keeper::protocol::VERSION_MAX,
        pid: std::process::id(),
        boot: [0; 16],
        namespaces: Default::default(),
        trouble: None,
    };
    let key = u64::from(std::process::id()) << 24 | 0x72_0000;
    let isolators = Some(vec![format!("exec:{helper}")]);
    let options = Options { isolators, ..options(&welcome, key) };
    let (isolation, _) = Isolation::new(&options, &LINUX).unwrap();
    let container = ContainerId { incarnation: 1, counter: 1 };
    let prepared = isolation.prepare(container, &TaskLimits::default());
    println!("{}", prepared.map_or_else(|why| why.to_string(), |_| "helped".to_owned()));
    let _ = isolation.cleanup(container);
    remove(&isolation);
}

/// A key in a session of this test's own, which is its children's as well.
fn put_key(name: &str) -> bool {
    let name = std::ffi::CString::new(name).unwrap();
    let none: *const std::ffi::c_char = std::ptr::null();
    // SAFETY: both calls read texts that end with NUL and outlive them, or nothing.
    unsafe {
        let joined = libc::syscall(libc::SYS_keyctl, 1, none);
        let (kind, secret) = (c"user".as_ptr(), c"secret".as_ptr());
        let put = libc::syscall(libc::SYS_add_key, kind, name.as_ptr(), secret, 6, -3);
        joined >= 0 && put >= 0
    }
}

/// What a task that is a probe does.
pub(crate) fn play(words: &[String]) {
    match tries::play(&words[0], &words[1..]) {
        Got::Through => println!("through"),
        Got::Held(why) => println!("held {why}"),
        Got::Lacking(why) => println!("lacking {why}"),
    }
}
