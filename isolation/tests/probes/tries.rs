//! What probes try, as tasks. Each says what came of it: it got through, it was held, or this machine
//! has not what it takes to try.

use std::ffi::{CStr, CString, c_long};
use std::fs::{File, OpenOptions};
use std::io::{Error, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::{Command, Stdio};

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// The wall is not there.
    Through,
    /// It is, and this is what was seen of it.
    Held(String),
    /// It cannot be tried here.
    Lacking(String),
}

use Got::{Held, Lacking, Through};

/// What a try is told by the test, if anything.
pub(crate) type Words<'w> = &'w [String];

fn call(number: c_long, arguments: [usize; 6]) -> Result<c_long, i32> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the callers pass numbers, null, or pointers to what outlives the call.
    let done = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if done < 0 { Err(Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(done) }
}

/// A call that a filter or a missing capability refuses fails so; any other way it was let through.
fn of_call(done: Result<c_long, i32>) -> Got {
    match done {
        Err(errno @ (libc::EPERM | libc::EACCES)) => {
            Held(Error::from_raw_os_error(errno).to_string())
        }
        Err(libc::ENOSYS) => Held("no such call".to_owned()),
        Ok(_) | Err(_) => Through,
    }
}

fn of_io<T>(done: std::io::Result<T>) -> Got {
    match done {
        Ok(_) => Through,
        Err(error) => Held(error.to_string()),
    }
}

/// Opening a file of the host that must be there; nothing is written.
fn open_to_write(path: &str) -> Got {
    match OpenOptions::new().write(true).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Lacking(format!("no {path}")),
        // It may, only not now.
        Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => Through,
        opened => of_io(opened),
    }
}

/// Reading a file to its first byte: what is hidden has none.
fn read_some(path: &str) -> Got {
    use std::io::Read;
    let mut byte = [0];
    match File::open(path).and_then(|mut file| file.read(&mut byte)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Lacking(format!("no {path}")),
        Ok(0) => Held("empty".to_owned()),
        read => of_io(read),
    }
}

pub(crate) fn play(name: &str, words: Words<'_>) -> Got {
    match name {
        // Rows 1 and 2: privileges.
        "setuid" => setuid(words),
        "set-user-id" => set_id(0o4755),
        "set-group-id" => set_id(0o2755),
        "born-set-user-id" => born_set_user_id(),
        "bounding" => bounding(),
        "raw-socket" => of_call(socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
        "packet-socket" => of_call(socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
        "mknod" => mknod(),
        "chroot" => of_call(call(libc::SYS_chroot, [c".".as_ptr() as usize, 0, 0, 0, 0, 0])),
        "chown" => chown(),
        "nice" => of_call(call(libc::SYS_setpriority, [0, 0, -5isize as usize, 0, 0, 0])),
        "real-time" => real_time(),
        "mlock" => mlock(),
        "low-port" => low_port(),
        // Row 3: calls.
        "bpf" => of_call(call(libc::SYS_bpf, [99, 0, 0, 0, 0, 0])),
        "perf" => of_call(call(libc::SYS_perf_event_open, [0, 0, usize::MAX, usize::MAX, 0, 0])),
        "keyctl" => of_call(call(libc::SYS_keyctl, [0, -3isize as usize, 0, 0, 0, 0])),
        "add-key" => of_call(call(libc::SYS_add_key, [0; 6])),
        "userfaultfd" => of_call(call(libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0])),
        "io-uring" => of_call(call(libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0])),
        "unshare-user" => unshare(libc::CLONE_NEWUSER),
        "unshare-mount" => unshare(libc::CLONE_NEWNS),
        "unshare-net" => unshare(libc::CLONE_NEWNET),
        "clone-user" => clone_user(),
        "clone3" => of_call(call(libc::SYS_clone3, [0; 6])),
        "setns" => setns(),
        "ptrace" => of_call(call(libc::SYS_ptrace, [libc::PTRACE_TRACEME as usize, 0, 0, 0, 0, 0])),
        "vm-read" => of_call(call(libc::SYS_process_vm_readv, [own(), 0, 0, 0, 0, 0])),
        "pidfd-getfd" => of_call(call(libc::SYS_pidfd_getfd, [usize::MAX, 0, 0, 0, 0, 0])),
        "kcmp" => of_call(call(libc::SYS_kcmp, [own(), own(), 99, 0, 0, 0])),
        "kexec" => of_call(call(libc::SYS_kexec_load, [0, 0, 0, usize::MAX >> 1, 0, 0])),
        "module" => of_call(call(libc::SYS_init_module, [0; 6])),
        "handle" => of_call(call(libc::SYS_open_by_handle_at, [usize::MAX, 0, 0, 0, 0, 0])),
        "mount" => mount(),
        "fsopen" => of_call(call(libc::SYS_fsopen, [c"tmpfs".as_ptr() as usize, 0, 0, 0, 0, 0])),
        "open-tree" => open_tree(),
        "mount-setattr" => of_call(call(libc::SYS_mount_setattr, [usize::MAX, 0, 0, 0, 0, 0])),
        "pivot-root" => of_call(call(libc::SYS_pivot_root, [0; 6])),
        "swapon" => of_call(call(libc::SYS_swapon, [0; 6])),
        "clock" => of_call(call(libc::SYS_settimeofday, [8, 0, 0, 0, 0, 0])),
        "reboot" => of_call(call(libc::SYS_reboot, [0; 6])),
        "syslog" => of_call(call(libc::SYS_syslog, [10, 0, 0, 0, 0, 0])),
        "quota" => of_call(call(libc::SYS_quotactl, [0; 6])),
        "type" => type_into_terminal(0x5412),
        "crypto-socket" => match socket(38, libc::SOCK_SEQPACKET, 0) {
            Err(libc::EAFNOSUPPORT) => Lacking("no such family of sockets".to_owned()),
            done => of_call(done),
        },
        "vm-socket" => match socket(40, libc::SOCK_STREAM, 0) {
            Err(libc::EAFNOSUPPORT) => Lacking("no such family of sockets".to_owned()),
            done => of_call(done),
        },
        "compat" => compat(),
        "x32" => of_x32(),
        // Rows 5 and 26: others.
        "signal" => match call(libc::SYS_kill, [number(words), 0, 0, 0, 0, 0]) {
            Err(libc::ESRCH) => Held("no such process".to_owned()),
            done => of_call(done),
        },
        "see" => of_io(std::fs::read(format!("/proc/{}/cmdline", words[0]))),
        "shm" => match call(libc::SYS_shmget, [number(words), 0, 0, 0, 0, 0]) {
            Ok(_) => Through,
            Err(errno) => Held(Error::from_raw_os_error(errno).to_string()),
        },
        "queue" => queue(words),
        "hostname" => hostname(),
        "abstract" => abstract_socket(words),
        "port" => of_io(std::net::TcpListener::bind("127.0.0.1:31999")),
        "interfaces" => interfaces(),
        "multipath-port" => multipath_port(),
        "connect" => of_io(TcpStream::connect(words[0].as_str())),
        // Rows 6, 9, 10, 34: the host's files.
        "init-exe" => open_to_write("/proc/1/exe"),
        "core-pattern" => open_to_write("/proc/sys/kernel/core_pattern"),
        "sysrq" => open_to_write("/proc/sysrq-trigger"),
        "kcore" => read_some("/proc/kcore"),
        "keys" => read_some("/proc/keys"),
        "timers" => read_some("/proc/timer_list"),
        "slabs" => read_some("/proc/slabinfo"),
        "sysfs" => open_to_write("/sys/kernel/mm/transparent_hugepage/enabled"),
        "write" => of_io(File::create(&words[0])),
        "truncate" => of_io(OpenOptions::new().write(true).truncate(true).open(&words[0])),
        "truncate-by-name" => truncate(&words[0]),
        "truncate-by-reading" => truncate_by_reading(&words[0]),
        "remove" => of_io(std::fs::remove_file(&words[0])),
        "rename" => of_io(std::fs::rename(&words[0], format!("{}.gone", words[0]))),
        "mode" => {
            use std::os::unix::fs::PermissionsExt;
            of_io(std::fs::set_permissions(&words[0], std::fs::Permissions::from_mode(0o600)))
        }
        "owner" => of_io(std::os::unix::fs::chown(&words[0], Some(0), Some(0))),
        "times" => of_io(times(&words[0])),
        "attribute" => attribute(&words[0]),
        "flags" => flags(&words[0]),
        "service" => of_io(UnixStream::connect(&words[0])),
        "shared-file" => of_io(File::open(&words[0])),
        "identity" => of_io(File::open(&words[0])),
        "ledger" => of_io(OpenOptions::new().append(true).open(&words[0])),
        "work-dir" => moved(&words[0]),
        // Rows 18 and 19: cgroups.
        "own-limit" => {
            let none = if words[0].ends_with("memory.max") { "max" } else { "-1" };
            // Of the host's, or its own as it finds it.
            let v1 = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
            let places = [words[0].as_str(), v1, "/sys/fs/cgroup/memory.max"];
            let mut tried = places.iter().map(|place| of_io(std::fs::write(place, none)));
            tried.find(|got| *got == Through).unwrap_or(Held("none can be written".to_owned()))
        }
        "leave-cgroup" => of_io(std::fs::write(&words[0], "0")),
        "cgroups-of-others" => finds_cgroups("mesita-whole"),
        "cgroups-of-all" => finds_cgroups("cgroup.procs"),
        "host-cgroup" => sees_host_cgroup(),
        "mount-cgroup" => mount_cgroup(),
        "release-agent" => {
            let own = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
            let places = own.map(|place| place.path().join("release_agent"));
            let Some(agent) = places.into_iter().find(|place| place.exists()) else {
                return Held("none is there".to_owned());
            };
            open_to_write(agent.to_str().unwrap())
        }
        "cover-proc" => mounted(c"tmpfs", c"/proc/sys", c""),
        // Row 7.
        "works-elsewhere" => {
            let at = std::env::current_dir().map(|at| at.display().to_string());
            match at {
                Ok(at) if at.starts_with('/') => Through,
                other => Held(format!("{other:?}")),
            }
        }
        // Row 33: devices.
        "kmsg" => open_to_write("/dev/kmsg"),
        "made-node" => made_node(),
        // Rows 8, 28, 29, 31, 36: what it begins with.
        "descriptors" => descriptors(),
        "environment" => environment(),
        "terminal" => of_io(File::open("/dev/tty")),
        "agents-key" => agents_key(words),
        "core" => core_limit(),
        // Rows 20 and 21: bombs.
        "forks" => forks(),
        "memory" => memory(),
        "shared-memory" => shared_memory(),
        "pipes" => pipes(),
        "sockets" => sockets(),
        other => panic!("no probe {other}"),
    }
}

fn number(words: Words<'_>) -> usize {
    words[0].parse().unwrap()
}

fn own() -> usize {
    std::process::id() as usize
}

fn socket(family: i32, kind: i32, protocol: i32) -> Result<c_long, i32> {
    call(libc::SYS_socket, [family as usize, kind as usize, protocol as usize, 0, 0, 0])
}

/// Whose interfaces are listed.
fn interfaces() -> Got {
    let mut entries = match std::fs::read_dir("/sys/class/net") {
        Ok(entries) => entries.flatten(),
        Err(error) => return Held(error.to_string()),
    };
    if entries.any(|entry| entry.file_name() != "lo") {
        return Through;
    }
    Lacking("no interface but a loopback".to_owned())
}

/// Listening by MPTCP, which those reach who speak TCP.
fn multipath_port() -> Got {
    if !std::path::Path::new("/proc/sys/net/mptcp").exists() {
        return Lacking("no MPTCP".to_owned());
    }
    let socket = match socket(libc::AF_INET, libc::SOCK_STREAM, 262) {
        Ok(socket) => socket as i32,
        Err(errno) => return Held(Error::from_raw_os_error(errno).to_string()),
    };
    // SAFETY: sockaddr_in is plain numbers, for which all zero bytes are a value.
    let mut at: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    at.sin_family = libc::AF_INET as libc::sa_family_t;
    at.sin_port = 31_998_u16.to_be();
    at.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the address is as long as is said, and outlives the call.
    let bound = unsafe { libc::bind(socket, std::ptr::from_ref(&at).cast(), length) };
    // SAFETY: the call takes two numbers and touches no memory.
    if bound != 0 || unsafe { libc::listen(socket, 1) } != 0 {
        return Held(Error::last_os_error().to_string());
    }
    of_io(TcpStream::connect("127.0.0.1:31998"))
}

fn setuid(words: Words<'_>) -> Got {
    let out = Command::new(&words[0]).arg("role:euid").output().unwrap().stdout;
    if out.starts_with(b"0\n") { Through } else { Held("still the same user".to_owned()) }
}

/// A program of its own that others would run as its owner: a file that is there already.
fn set_id(mode: u32) -> Got {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write("left", "").unwrap();
    of_io(std::fs::set_permissions("left", std::fs::Permissions::from_mode(mode)))
}

/// The same of one that is made so, by each call that makes one.
fn born_set_user_id() -> Got {
    use std::os::unix::fs::OpenOptionsExt;
    let _ = std::fs::remove_file("born");
    let mut born = OpenOptions::new();
    let born = of_io(born.write(true).create(true).mode(0o4755).open("born"));
    let flags = (libc::O_TMPFILE | libc::O_WRONLY) as usize;
    let nameless = [-100isize as usize, c".".as_ptr() as usize, flags, 0o4755, 0, 0];
    let nameless = of_call(call(libc::SYS_openat, nameless));
    let how = [(libc::O_CREAT | libc::O_WRONLY) as u64, 0o4755, 0];
    let path = c"how".as_ptr() as usize;
    let how = [-100isize as usize, path, how.as_ptr() as usize, size_of_val(&how), 0, 0];
    let how = of_call(call(libc::SYS_openat2, how));
    let node = [-100isize as usize, c"node".as_ptr() as usize, 0o104_755, 0, 0, 0];
    let node = of_call(call(libc::SYS_mknodat, node));
    let all = [born, nameless, how, node];
    let through = all.iter().find(|got| **got == Through).cloned();
    through.unwrap_or_else(|| Held(format!("{all:?}")))
}

fn bounding() -> Got {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let sets = status.lines().filter(|line| line.starts_with("Cap"));
    let some = sets.filter(|line| !line.ends_with("\t0000000000000000")).count();
    if some > 0 { Through } else { Held("all sets are empty".to_owned()) }
}

/// A node of `/dev/null`, which harms nobody.
fn mknod() -> Got {
    let _ = std::fs::remove_file("node");
    let path = c"node".as_ptr() as usize;
    let device = libc::makedev(1, 3) as usize;
    of_call(call(libc::SYS_mknodat, [-100isize as usize, path, 0o020_666, device, 0, 0]))
}

fn made_node() -> Got {
    let (path, device) = (c"kmsg-node".as_ptr() as usize, libc::makedev(1, 11) as usize);
    let _ = std::fs::remove_file("kmsg-node");
    let made = call(libc::SYS_mknodat, [-100isize as usize, path, 0o020_666, device, 0, 0]);
    if made.is_err() {
        return of_call(made);
    }
    of_io(OpenOptions::new().write(true).open("kmsg-node"))
}

fn chown() -> Got {
    let _ = std::fs::remove_file("mine");
    File::create("mine").unwrap();
    of_io(std::os::unix::fs::chown("mine", Some(12_345), None))
}

fn real_time() -> Got {
    let priority = 1i32;
    let at = (&raw const priority) as usize;
    of_call(call(libc::SYS_sched_setscheduler, [0, libc::SCHED_FIFO as usize, at, 0, 0, 0]))
}

/// More than anybody may lock who has not the privilege.
fn mlock() -> Got {
    let memory = vec![1u8; 1 << 20];
    match call(libc::SYS_mlock, [memory.as_ptr() as usize, memory.len(), 0, 0, 0, 0]) {
        Err(libc::ENOMEM) => Held("over the limit".to_owned()),
        done => of_call(done),
    }
}

/// The first port that anybody may have is the kernel's to say.
fn low_port() -> Got {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if first.is_ok_and(|first| first.trim().parse::<u32>().is_ok_and(|first| first <= 81)) {
        return Lacking("anybody may have any port".to_owned());
    }
    of_io(std::net::TcpListener::bind("127.0.0.1:81"))
}

fn unshare(flag: i32) -> Got {
    of_call(call(libc::SYS_unshare, [flag as usize, 0, 0, 0, 0, 0]))
}

fn clone_user() -> Got {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    let child = call(libc::SYS_clone, [flags as usize, 0, 0, 0, 0, 0]);
    if child == Ok(0) {
        // SAFETY: the child of a process with one thread ends at once.
        unsafe { libc::_exit(0) };
    }
    of_call(child)
}

fn setns() -> Got {
    use std::os::fd::AsRawFd;
    let own = File::open("/proc/self/ns/uts").unwrap();
    of_call(call(libc::SYS_setns, [own.as_raw_fd() as usize, 0, 0, 0, 0, 0]))
}

fn mount() -> Got {
    std::fs::create_dir_all("mounted").unwrap();
    mounted(c"tmpfs", c"mounted", c"")
}

fn mounted(kind: &CStr, at: &CStr, data: &CStr) -> Got {
    let [kind, at, data] = [kind, at, data].map(|text| text.as_ptr() as usize);
    of_call(call(libc::SYS_mount, [kind, at, kind, 0, data, 0]))
}

/// A hierarchy of the first version, in whose topmost group a program is named that the kernel runs as root
/// of the host (CVE-2022-0492).
fn mount_cgroup() -> Got {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if !own.lines().any(|line| line.split(':').nth(1) == Some("memory")) {
        return Lacking("no hierarchy of the first version".to_owned());
    }
    std::fs::create_dir_all("mounted").unwrap();
    mounted(c"cgroup", c"mounted", c"memory")
}

fn open_tree() -> Got {
    let flags = 1 | libc::O_CLOEXEC;
    let path = c"/".as_ptr() as usize;
    of_call(call(libc::SYS_open_tree, [-100isize as usize, path, flags as usize, 0, 0, 0]))
}

/// A terminal that it made itself, which types into nobody else's.
fn type_into_terminal(request: usize) -> Got {
    use std::os::fd::AsRawFd;
    let Ok(terminal) = OpenOptions::new().read(true).write(true).open("/dev/ptmx") else {
        return Lacking("no terminals".to_owned());
    };
    // An ioctl that is let through complains of its argument, or of the terminal not being its own.
    let letter = b'x';
    let at = (&raw const letter) as usize;
    match call(libc::SYS_ioctl, [terminal.as_raw_fd() as usize, request, at, 0, 0, 0]) {
        Err(libc::EIO) => Lacking("this kernel lets nobody type".to_owned()),
        done => of_call(done),
    }
}

/// The number of getpid(2) as a program of 32 bits has it.
#[cfg(target_arch = "x86_64")]
fn compat() -> Got {
    let result: i32;
    // SAFETY: the call takes nothing and touches no memory; the registers that it changes are named.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") 20i32 => result, out("r8") _, out("r9") _,
                        out("r10") _, out("r11") _);
    }
    if result > 0 { Through } else { Held(Error::from_raw_os_error(-result).to_string()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn compat() -> Got {
    Lacking("no such calls".to_owned())
}

/// getpid(2) with the bit of pointers of 32 bits.
fn of_x32() -> Got {
    if cfg!(not(target_arch = "x86_64")) {
        return Lacking("no such calls".to_owned());
    }
    match call(0x4000_0000 | libc::SYS_getpid, [0; 6]) {
        Ok(_) => Through,
        Err(_) => Held("no such call".to_owned()),
    }
}

/// The times of a file, by its name alone.
fn times(path: &str) -> std::io::Result<()> {
    let path = CString::new(path).unwrap();
    let done = call(libc::SYS_utimensat, [-100isize as usize, path.as_ptr() as usize, 0, 0, 0, 0]);
    done.map(drop).map_err(Error::from_raw_os_error)
}

/// Without a descriptor of it.
fn truncate(path: &str) -> Got {
    let path = CString::new(path).unwrap();
    of_call(call(libc::SYS_truncate, [path.as_ptr() as usize, 1, 0, 0, 0, 0]))
}

/// By a descriptor that nothing can be written to.
fn truncate_by_reading(path: &str) -> Got {
    let path = CString::new(path).unwrap();
    let flags = (libc::O_RDONLY | libc::O_TRUNC) as usize;
    of_call(call(libc::SYS_openat, [-100isize as usize, path.as_ptr() as usize, flags, 0, 0, 0]))
}

fn attribute(path: &str) -> Got {
    let path = CString::new(path).unwrap();
    let name = c"user.mesita".as_ptr() as usize;
    match call(libc::SYS_setxattr, [path.as_ptr() as usize, name, name, 1, 0, 0]) {
        Err(libc::EOPNOTSUPP) => Lacking("no attributes".to_owned()),
        done => {
            of_call(done.map_err(|errno| if errno == libc::EROFS { libc::EPERM } else { errno }))
        }
    }
}

/// Flags of a file that is only read: those that it has, which changes nothing.
fn flags(path: &str) -> Got {
    use std::os::fd::AsRawFd;
    let file = File::open(path).unwrap();
    let mut has = [0_u64; 2];
    let (get, set) = (0x8008_6601_usize, 0x4008_6602_usize);
    let fd = file.as_raw_fd() as usize;
    if call(libc::SYS_ioctl, [fd, get, has.as_mut_ptr() as usize, 0, 0, 0]).is_err() {
        return Lacking("no flags of files".to_owned());
    }
    match call(libc::SYS_ioctl, [fd, set, has.as_ptr() as usize, 0, 0, 0]) {
        Ok(_) => Through,
        Err(errno) => Held(Error::from_raw_os_error(errno).to_string()),
    }
}

fn queue(words: Words<'_>) -> Got {
    let name = CString::new(words[0].as_str()).unwrap();
    // SAFETY: the name ends with NUL and outlives the call.
    let queue = unsafe { libc::mq_open(name.as_ptr(), libc::O_RDONLY) };
    if queue >= 0 { Through } else { Held(Error::last_os_error().to_string()) }
}

/// The host's own name, so that nothing is changed where it may be.
fn hostname() -> Got {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let name = name.trim_end();
    let at = name.as_ptr() as usize;
    of_call(call(libc::SYS_sethostname, [at, name.len(), 0, 0, 0, 0]))
}

fn abstract_socket(words: Words<'_>) -> Got {
    let address = SocketAddr::from_abstract_name(words[0].as_bytes()).unwrap();
    of_io(UnixStream::connect_addr(&address))
}

/// Moves a directory away and back again.
fn moved(path: &str) -> Got {
    let away = format!("{path}.gone");
    of_io(std::fs::rename(path, &away).and_then(|()| std::fs::rename(&away, path)))
}

/// Something of that name in any hierarchy of the host, at its top or one below.
fn finds_cgroups(name: &str) -> Got {
    let top = std::path::Path::new("/sys/fs/cgroup");
    let Ok(hierarchies) = std::fs::read_dir(top) else { return Held("nothing there".to_owned()) };
    let mut places = hierarchies.flatten().map(|one| one.path()).chain([top.to_owned()]);
    let found = places.any(|place| place.join(name).exists());
    if found { Through } else { Held("none of others".to_owned()) }
}

fn sees_host_cgroup() -> Got {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    if cgroups.contains("mesita-whole") {
        Through
    } else {
        Held("its own is the topmost".to_owned())
    }
}

fn descriptors() -> Got {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = open.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // The list itself is one.
    let more: Vec<i32> = open.filter(|fd| *fd > 2).collect();
    if more.len() > 1 { Through } else { Held("only three".to_owned()) }
}

fn environment() -> Got {
    let secret = std::env::vars_os().any(|(name, _)| name == "MESITA_PROBE_SECRET");
    if secret { Through } else { Held("not in the environment".to_owned()) }
}

/// A key that the test put into its own session.
fn agents_key(words: Words<'_>) -> Got {
    const SEARCH: usize = 10;
    const SESSION: isize = -3;
    let name = CString::new(words[0].as_str()).unwrap();
    let (kind, name) = (c"user".as_ptr() as usize, name.as_ptr() as usize);
    match call(libc::SYS_keyctl, [SEARCH, SESSION as usize, kind, name, 0, 0]) {
        Ok(_) => Through,
        Err(errno) => Held(Error::from_raw_os_error(errno).to_string()),
    }
}

fn core_limit() -> Got {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
    let small = limit.maximum.is_some_and(|most| most <= 1);
    if small { Held("no core files".to_owned()) } else { Through }
}

fn forks() -> Got {
    let own = std::env::current_exe().unwrap();
    let mut children = Vec::new();
    let refused = (0..60).find_map(|_| {
        let child = Command::new(&own).args(["role:sleep", "60"]).stdout(Stdio::null()).spawn();
        child.map(|child| children.push(child)).err()
    });
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    refused.map_or(Through, |error| Held(error.to_string()))
}

/// Bytes that no bomb may hold: half as much again as the limit of the task.
const BOMB: usize = 48 << 20;

fn memory() -> Got {
    let mut held = vec![0u8; BOMB];
    held.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(held);
    Through
}

fn shared_memory() -> Got {
    let file = rustix::fs::memfd_create(c"bomb", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(file);
    let block = vec![1u8; 1 << 20];
    for _ in 0..BOMB >> 20 {
        if let Err(error) = file.write_all(&block) {
            return Held(error.to_string());
        }
    }
    Through
}

fn pipes() -> Got {
    let mut held = Vec::new();
    let block = vec![1u8; 1 << 20];
    for _ in 0..BOMB >> 20 {
        let Ok((reader, writer)) = std::io::pipe() else { return Held("no more pipes".to_owned()) };
        let grown = rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20);
        if grown.is_err() || (&writer).write_all(&block).is_err() {
            return Held("no larger pipes".to_owned());
        }
        held.push((reader, writer));
    }
    Through
}

fn sockets() -> Got {
    let mut held = Vec::new();
    let block = vec![1u8; 1 << 16];
    let mut sent = 0;
    while sent < BOMB {
        let Ok((one, other)) = UnixStream::pair() else {
            return Held("no more sockets".to_owned());
        };
        one.set_nonblocking(true).unwrap();
        while let Ok(some) = (&one).write(&block) {
            sent += some;
        }
        held.push((one, other));
        if held.len() > 4000 {
            return Held("no larger buffers".to_owned());
        }
    }
    Through
}

/// In how many of three ways a task's own files get out of its project.
pub(crate) fn other_projects() -> usize {
    use std::os::fd::AsRawFd;
    let (set_attributes, get_attributes, set_flags, get_flags) =
        (0x401c_5820_u64, 0x801c_581f_u64, 0x4008_6602_u64, 0x8008_6601_u64);
    let directory = File::open(".").unwrap();
    let fd = directory.as_raw_fd();
    let mut got = 0;
    // SAFETY: each call reads or fills in less than there is.
    unsafe {
        let mut flags = [0_u64; 8];
        libc::ioctl(fd, get_flags as _, flags.as_mut_ptr());
        flags[0] &= !0x2000_0000;
        got += usize::from(libc::ioctl(fd, set_flags as _, flags.as_mut_ptr()) == 0);
        let mut of = [0_u32; 16];
        libc::ioctl(fd, get_attributes as _, of.as_mut_ptr());
        of[3] = 0;
        // What is more of the number than the kernel looks at hides nothing.
        let hidden = set_attributes | 1 << 40;
        got += usize::from(libc::syscall(libc::SYS_ioctl, fd, hidden, of.as_mut_ptr()) == 0);
        // `struct file_attr`: flags, then extent size, extents, project, copied extent size.
        let mut attributes = [0_u32; 6];
        let (path, size) = (c"".as_ptr(), size_of_val(&attributes));
        let empty = libc::AT_EMPTY_PATH;
        let set = libc::syscall(469, fd, path, attributes.as_mut_ptr(), size, empty);
        got += usize::from(set == 0);
    }
    got
}
