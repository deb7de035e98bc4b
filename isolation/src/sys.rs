//! The kernel as this crate uses it, and the only `unsafe` of the crate.
//!
//! [`Sys`] is what isolators see: files of `/proc`, `/sys` and cgroups, limits written through
//! cgroups-rs, and signals; [`Linux`] is the real one, `fake` a small kernel for unit tests that
//! records every write. What the keeper needs beyond that, creating processes and collecting their
//! ends, is below it as functions of the crate.
//!
//! Before changing `Cloner`: a child that shares the keeper's memory runs while the keeper's only
//! thread is suspended, so it is one more function call on another stack, and every rule of a
//! function call holds: it may read what its closure borrows, and it may not return.
#![allow(unsafe_code)]

mod devices;
#[cfg(test)]
pub(crate) mod fake;
mod link;
mod linux;
mod paths;
mod projects;
mod walls;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::time::{ClockId, clock_gettime};

pub use devices::{Device, DeviceKind};
pub(crate) use link::{Link, part_network};
pub use linux::Linux;
pub(crate) use linux::timeout;
pub(crate) use paths::open_within;
pub use projects::{Project, Projects};
pub(crate) use projects::{SET_ATTRIBUTES, SET_FLAGS, SYS_QUOTACTL_FD};
pub use walls::landlock_abi;
pub(crate) use walls::*;

/// A call that the kernel refused: which, on what, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The call, as in `write` or `clone`.
    pub call: &'static str,
    /// What it was about; empty when that says nothing.
    pub path: PathBuf,
    /// The error number.
    pub errno: i32,
}

impl Failure {
    /// Names a call on a path.
    pub fn new(call: &'static str, path: &Path, errno: impl Into<i32>) -> Self {
        Self { call, path: path.to_owned(), errno: errno.into() }
    }

    /// Names a call on nothing in particular.
    pub(crate) fn plain(call: &'static str, errno: impl Into<i32>) -> Self {
        Self { call, path: PathBuf::new(), errno: errno.into() }
    }

    /// Names what the standard library was asked for.
    pub(crate) fn io(call: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(call, path, error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)?;
        if !self.path.as_os_str().is_empty() {
            write!(f, " {}", self.path.display())?;
        }
        write!(f, ": {}", errno_text(self.errno))
    }
}

impl std::error::Error for Failure {}

/// The sentence of an error number, such as `No such file or directory`.
pub fn errno_text(errno: i32) -> &'static str {
    nix::errno::Errno::from_raw(errno).desc()
}

/// Which interface a cgroup directory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy for all, `cgroup2`.
    V2,
}

/// A limit of a cgroup, whatever its file is called in either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// v1 `cpu.shares`, v2 `cpu.weight`, in that file's own unit.
    CpuWeight(u64),
    /// `cpu.cfs_quota_us`, `cpu.max`: µs of every 100 ms period; `None` = no limit.
    CpuQuota(Option<u32>),
    /// `memory.limit_in_bytes`, `memory.max`.
    Memory(u64),
    /// `memory.soft_limit_in_bytes`, `memory.low`: what is left to it under pressure.
    MemoryKept(u64),
    /// `pids.max`.
    Pids(u32),
    /// `freezer.state`, `cgroup.freeze`.
    Frozen(bool),
}

impl Limit {
    /// The file that holds it.
    pub(crate) const fn file(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::CpuWeight(_), Version::V1) => "cpu.shares",
            (Self::CpuWeight(_), Version::V2) => "cpu.weight",
            (Self::CpuQuota(_), Version::V1) => "cpu.cfs_quota_us",
            (Self::CpuQuota(_), Version::V2) => "cpu.max",
            (Self::Memory(_), Version::V1) => "memory.limit_in_bytes",
            (Self::Memory(_), Version::V2) => "memory.max",
            (Self::MemoryKept(_), Version::V1) => "memory.soft_limit_in_bytes",
            (Self::MemoryKept(_), Version::V2) => "memory.low",
            (Self::Pids(_), _) => "pids.max",
            (Self::Frozen(_), Version::V1) => "freezer.state",
            (Self::Frozen(_), Version::V2) => "cgroup.freeze",
        }
    }
}

/// Each system call and cgroup write of the isolators. Everything blocks; nothing keeps state.
pub trait Sys: fmt::Debug + Send + Sync {
    /// The text of a file.
    fn read(&self, path: &Path) -> Result<String, Failure>;
    /// True when there is something of that name.
    fn exists(&self, path: &Path) -> bool;
    /// Writes a whole file that exists.
    fn write(&self, path: &Path, text: &str) -> Result<(), Failure>;
    /// Sets a limit of the cgroup `directory`.
    fn limit(&self, version: Version, directory: &Path, limit: Limit) -> Result<(), Failure>;
    /// Makes a directory; one that exists is as good.
    fn make(&self, directory: &Path) -> Result<(), Failure>;
    /// Removes an empty directory; one that does not exist is as good.
    fn remove(&self, directory: &Path) -> Result<(), Failure>;
    /// The names of the directories in a directory, sorted.
    fn children(&self, directory: &Path) -> Result<Vec<String>, Failure>;
    /// The names of all that is in a directory, sorted.
    fn entries(&self, directory: &Path) -> Result<Vec<String>, Failure>;
    /// Lets the processes of the cgroup `directory` use these devices and no other.
    fn allow_devices(
        &self,
        version: Version,
        directory: &Path,
        allowed: &[Device],
    ) -> Result<(), Failure>;
    /// The same where processes run that may use others so far, each of these at any moment.
    fn change_devices(
        &self,
        version: Version,
        directory: &Path,
        allowed: &[Device],
    ) -> Result<(), Failure>;
    /// Why that cannot be done with v2, if it cannot.
    fn can_program_devices(&self) -> Result<(), Failure>;
    /// Whether a process's system calls can be filtered.
    fn can_filter_calls(&self) -> bool;
    /// Whether a process can be told where it may write.
    fn can_restrict_writing(&self) -> bool;
    /// Whether that says of cutting files short, too.
    fn can_restrict_truncating(&self) -> bool;
    /// Sends a signal to one process.
    fn signal(&self, pid: u32, signal: i32) -> Result<(), Failure>;
    /// Waits up to `ms` for the end of one of `pids`, or for nothing when there are none.
    fn wait(&self, pids: &[u32], ms: u32);
    /// Waits up to `ms` for a change of `cgroup.events` in a v2 `directory`.
    fn wait_events(&self, directory: &Path, ms: u32);
    /// A descriptor that becomes readable when the kernel kills for memory in `directory`.
    fn watch_memory(&self, version: Version, directory: &Path) -> Result<OwnedFd, Failure>;
    /// Whether it can be told which ports it may listen on.
    fn can_restrict_ports(&self) -> bool;
    /// A descriptor that becomes readable every so many µs.
    fn alarm(&self, every_us: u64) -> Result<OwnedFd, Failure>;
    /// What the file system of a directory does about projects.
    fn projects(&self, at: &Path) -> Result<Projects, Failure>;
    /// The project of a directory; 0 = none.
    fn project_of(&self, directory: &Path) -> Result<u32, Failure>;
    /// Gives a directory, with all that is and will be in it, to a project.
    fn give_to_project(&self, directory: &Path, id: u32) -> Result<(), Failure>;
    /// The same, but for what is in it already.
    fn give_empty_to_project(&self, directory: &Path, id: u32) -> Result<(), Failure>;
    /// What a project has on the file system of a directory.
    fn project(&self, at: &Path, id: u32) -> Result<Project, Failure>;
    /// Limits what it may take: in bytes, from where on it is told and from where on it is refused
    /// more, and how many files; 0 = not.
    fn limit_project(
        &self,
        at: &Path,
        id: u32,
        bytes: (u64, u64),
        files: u64,
    ) -> Result<(), Failure>;
    /// The address of an interface of this process's network.
    fn address_of(&self, interface: &CStr) -> Option<Ipv4Addr>;
    /// True for uid 0.
    fn is_root(&self) -> bool;
    /// This process.
    fn pid(&self) -> u32;
}

/// µs since the machine was started, through suspend.
pub fn boottime_us() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000)
}

/// True when the kernel calls its wall clock synchronised: adjtimex(2), which is asked and told
/// nothing. Where it does not answer, nobody knows.
pub fn clock_is_synchronised() -> bool {
    // SAFETY: all zeros is a valid `timex`, and means that nothing is to be changed.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: it points to a `timex` of our own that outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut asked) };
    state >= 0 && state != libc::TIME_ERROR && asked.status & libc::STA_UNSYNC == 0
}

/// The error number of the last call of libc.
fn last() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Sends `signal` to a process, or to a group when `pid` is below zero. Refuses 0 and -1, which
/// would reach this process's own group or everybody.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<(), i32> {
    if matches!(pid, 0 | -1) {
        return Err(libc::ESRCH);
    }
    // SAFETY: kill takes two numbers and touches no memory.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(last()) }
}

/// True unless the process that connected this socket has ended. Before Linux 6.5 that is not told.
pub(crate) fn peer_lives(socket: BorrowedFd<'_>) -> bool {
    let mut pidfd: c_int = -1;
    let Ok(mut len) = libc::socklen_t::try_from(size_of::<c_int>()) else { return false };
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERPIDFD);
    // SAFETY: both pointers are to locals that outlive the call, which writes `len` bytes at most.
    let got = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut pidfd).cast(), &raw mut len)
    };
    if got != 0 {
        return last() == libc::ENOPROTOOPT;
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let mut ended = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut ended, Some(&timeout(0))).is_ok_and(|ready| ready == 0)
}

/// A child that has ended, and what it used together with the children it had waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reaped {
    /// The status as wait(2) gives it.
    pub(crate) status: i32,
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) max_rss_kib: u64,
}

/// A child that has ended and not been collected. Its number, and that of its process group, stay
/// its own until it is. `Err(ECHILD)` when there are no children at all.
pub(crate) fn ended_child() -> Result<Option<u32>, i32> {
    // SAFETY: siginfo_t is plain numbers and pointers, for which all zero bytes are a value.
    let mut child: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the pointer is to a local that outlives the call.
    if unsafe { libc::waitid(libc::P_ALL, 0, &mut child, options) } != 0 {
        return Err(last());
    }
    // SAFETY: waitid fills in the fields of SIGCHLD, or leaves all zero when nobody has ended.
    Ok(u32::try_from(unsafe { child.si_pid() }).ok().filter(|&pid| pid != 0))
}

/// Collects the child `pid`, which must have ended: no waiting.
pub(crate) fn reap(pid: u32) -> Result<Reaped, i32> {
    let pid = i32::try_from(pid).map_err(|_| libc::ESRCH)?;
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which all zero bytes are a value.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals that outlive the call.
    let got = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG | libc::__WALL, &mut used) };
    match got {
        0 => Err(libc::EAGAIN),
        got if got == pid => Ok(Reaped {
            status,
            user_us: micros(used.ru_utime),
            system_us: micros(used.ru_stime),
            max_rss_kib: u64::try_from(used.ru_maxrss).unwrap_or(0),
        }),
        _ => Err(last()),
    }
}

/// Waits until the child `pid` has ended, and collects it.
pub(crate) fn wait_for_child(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    // SAFETY: the status is not asked for.
    while unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) } < 0 && last() == libc::EINTR
    {
    }
}

// Both fields are i64 here and i32 on small targets.
#[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
fn micros(time: libc::timeval) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_usec).unwrap_or(0))
}

/// Runs `child` in a new process whose parent is the nearest reaper above, in a session of its own.
///
/// The caller must have one thread only: others would not exist in the child, nor let go of what
/// they hold. The child ends with what `child` returns.
pub(crate) fn fork_detached(child: impl FnOnce() -> i32) -> Result<(), Failure> {
    // SAFETY: the process has one thread, so the copy is complete and no lock is held.
    match unsafe { libc::fork() } {
        0 => {
            let status = rustix::process::setsid().map_or(1, |_| {
                // SAFETY: as above; the middle process only ends.
                match unsafe { libc::fork() } {
                    0 => child(),
                    -1 => 1,
                    _ => 0,
                }
            });
            end(status)
        }
        -1 => Err(Failure::plain("fork", last())),
        middle => {
            let mut status = 0;
            // SAFETY: the pointer is to a local that outlives the call.
            if unsafe { libc::waitpid(middle, &mut status, 0) } < 0 {
                return Err(Failure::plain("waitpid", last()));
            }
            if status == 0 { Ok(()) } else { Err(Failure::plain("fork", libc::EAGAIN)) }
        }
    }
}

/// Ends this process without running what was registered for its end.
pub(crate) fn end(status: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// How a new process relates to its parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clone {
    /// The child borrows the parent's memory, which waits until it executes a program or ends.
    pub(crate) borrows: bool,
    /// `CLONE_NEW*` flags.
    pub(crate) namespaces: c_int,
}

/// Creates processes. It has a stack on which children begin, so that none ever runs on its
/// parent's.
#[derive(Debug)]
pub(crate) struct Cloner {
    stack: *mut c_void,
}

/// Bytes of the stack, above a page that nobody may touch.
const STACK: usize = 64 * 1024;
const GUARD: usize = 64 * 1024;

impl Cloner {
    /// Reserves the stack. Pages are taken when a child first touches them.
    pub(crate) fn new() -> Result<Self, Failure> {
        let (read_write, private) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing.
        let stack =
            unsafe { libc::mmap(ptr::null_mut(), GUARD + STACK, read_write, private, -1, 0) };
        if stack == libc::MAP_FAILED {
            return Err(Failure::plain("mmap", last()));
        }
        // SAFETY: the first GUARD bytes belong to the mapping made above and hold nothing.
        if unsafe { libc::mprotect(stack, GUARD, libc::PROT_NONE) } != 0 {
            return Err(Failure::plain("mprotect", last()));
        }
        Ok(Self { stack })
    }

    /// Runs `child` in a new process and returns its pid. If this kernel can, the process is in
    /// the v2 cgroup `into` from its first instruction on; `child` is told whether it is.
    ///
    /// `child` ends the process with what it returns. It must not unwind. Where it borrows, the
    /// parent stands still until it is gone or has become another program.
    pub(crate) fn spawn(
        &mut self,
        how: Clone,
        into: Option<BorrowedFd<'_>>,
        child: &mut dyn FnMut(bool) -> i32,
    ) -> Result<u32, i32> {
        let shared = if how.borrows { libc::CLONE_VM | libc::CLONE_VFORK } else { 0 };
        let flags = how.namespaces | shared;
        let mut start = Start { child, joined: true };
        if let Some(pid) = into.and_then(|into| self.clone_into(flags, into, &mut start)) {
            return Ok(pid);
        }
        start.joined = false;
        // SAFETY: STACK bytes from GUARD on are this mapping's, the stack grows down from their
        // end, which is aligned; `enter` gets the pointer it expects, to a local that outlives the
        // child's use of it: the parent waits, or the child has a copy.
        let pid = unsafe {
            let top = self.stack.byte_add(GUARD + STACK);
            libc::clone(enter, top, flags | libc::SIGCHLD, (&raw mut start).cast())
        };
        u32::try_from(pid).map_err(|_| last())
    }

    /// `clone3` with `CLONE_INTO_CGROUP`; `None` when this kernel or machine cannot.
    fn clone_into(
        &mut self,
        flags: c_int,
        into: BorrowedFd<'_>,
        start: &mut Start<'_>,
    ) -> Option<u32> {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        let arguments = Clone3 {
            flags: u64::from(flags.cast_unsigned()) | CLONE_INTO_CGROUP,
            exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
            stack: self.stack.addr().wrapping_add(GUARD) as u64,
            stack_size: STACK as u64,
            cgroup: u64::from(into.as_raw_fd().unsigned_abs()),
            ..Clone3::default()
        };
        u32::try_from(clone3(&arguments, start)).ok()
    }
}

/// The kernel's `struct clone_args`.
#[repr(C)]
#[derive(Default)]
struct Clone3 {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The child's pid, or an error number below zero. libc has no such call, for a child cannot return
/// from it to a stack that it does not have; so each machine has its few instructions, in which the
/// child goes to `enter` and never comes back.
#[cfg(target_arch = "x86_64")]
fn clone3(arguments: &Clone3, start: &mut Start<'_>) -> isize {
    let result: isize;
    // SAFETY: the kernel reads `arguments` of the size given. The parent continues behind label 2
    // with all registers but rax, rcx and r11 as they were. The child begins on the top of the
    // stack that was given, 16-byte aligned and nobody else's, and leaves only through `enter`,
    // which never returns; `start` is what that expects, and outlives the child's use of it. `out`
    // rather than `lateout` keeps the child's operands out of the registers that are overwritten.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {start}",
            "call {enter}",
            "ud2",
            "2:",
            start = in(reg) start,
            enter = in(reg) enter as extern "C" fn(*mut c_void) -> c_int,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") arguments,
            in("rsi") size_of::<Clone3>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn clone3(arguments: &Clone3, start: &mut Start<'_>) -> isize {
    let result: isize;
    // SAFETY: as above; here the call changes x0 alone, and the child's frame ends with x29 = 0.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, {start}",
            "blr {enter}",
            "brk 1",
            "2:",
            start = in(reg) start,
            enter = in(reg) enter as extern "C" fn(*mut c_void) -> c_int,
            inlateout("x0") arguments => result,
            in("x1") size_of::<Clone3>(),
            in("x8") libc::SYS_clone3,
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn clone3(_: &Clone3, _: &mut Start<'_>) -> isize {
    // The child joins its cgroup by itself, 10 µs later.
    -1
}

impl Drop for Cloner {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no child that borrows it is alive while its parent runs.
        unsafe { libc::munmap(self.stack, GUARD + STACK) };
    }
}

/// What a child begins with.
struct Start<'a> {
    child: &'a mut dyn FnMut(bool) -> i32,
    /// It was created in its v2 cgroup.
    joined: bool,
}

/// Where every child begins. `start` is a pointer to a `Start`.
extern "C" fn enter(start: *mut c_void) -> c_int {
    // SAFETY: `Cloner` passes exactly this type, alive and not used by anybody else.
    let start = unsafe { &mut *start.cast::<Start<'_>>() };
    end((start.child)(start.joined))
}

/// The arguments or the environment of a program, in the form that the kernel takes.
#[derive(Debug)]
pub(crate) struct Strings<'a> {
    pointers: Vec<*const c_char>,
    texts: PhantomData<&'a CStr>,
}

impl<'a> Strings<'a> {
    /// Borrows the texts; the only allocation, so that none is left for the child.
    pub(crate) fn new(texts: &'a [CString]) -> Self {
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, texts: PhantomData }
    }
}

/// Becomes another program, or says why not.
pub(crate) fn execute(program: &CStr, arguments: &Strings<'_>, environment: &Strings<'_>) -> i32 {
    // SAFETY: three pointers to texts that end with NUL and to lists that end with null, all
    // borrowed for longer than the call.
    unsafe {
        libc::execve(program.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr());
    }
    last()
}

/// Blocks every signal in this thread.
pub(crate) fn block_signals() {
    // The call refuses only a mask that does not exist.
    let _ = nix::sys::signal::SigSet::all().thread_set_mask();
}

/// Lets every signal through in this thread.
pub(crate) fn unblock_signals() {
    // As above.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Bytes of the kernel's signal masks.
const MASK_BYTES: usize =
    if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 16 } else { 8 };

/// Gives every signal its default meaning, so that children begin with that.
pub(crate) fn default_signals() {
    // The kernel's own structure, larger on no machine; all zero is the default. libc would refuse
    // the two numbers that it keeps for itself, and they may be ignored where we were started.
    let default = [0u64; 16];
    let nothing: *mut c_void = ptr::null_mut();
    for signal in 1..=64 {
        // SAFETY: the kernel reads a structure that the array has room for, and installs no code.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), nothing, MASK_BYTES)
        };
    }
}

/// Closes every descriptor above 2 but these; false if the kernel cannot (before Linux 5.9), when
/// those that programs must not have still close themselves at exec. Allocates nothing.
///
/// Whoever owns one of the closed ones must not use or drop it again: this is for a fresh copy of
/// a process that never returns to those owners.
pub(crate) fn close_all_but<const N: usize>(mut kept: [RawFd; N]) -> bool {
    kept.sort_unstable();
    let mut from = 3;
    let mut closed = true;
    for fd in kept.into_iter().filter_map(|fd| u32::try_from(fd).ok()) {
        if fd > from {
            closed &= close_range(from, fd - 1);
        }
        from = from.max(fd.saturating_add(1));
    }
    closed & close_range(from, u32::MAX)
}

/// What this command starts is killed when the thread that starts it ends.
pub(crate) fn ends_with_its_thread(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let ends = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        Ok(())
    };
    // SAFETY: between fork and exec this makes one call of the kernel, and nothing else.
    unsafe { command.pre_exec(ends) };
}

/// The same on every kernel, for a process with memory of its own.
pub(crate) fn close_all_but_on_any_kernel<const N: usize>(kept: [RawFd; N]) {
    if !close_all_but(kept) {
        close_listed_but(&kept);
    }
}

fn close_listed_but(kept: &[RawFd]) {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> =
        open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // The one that the list was read from is closed by now, and refused.
    for fd in open.into_iter().filter(|fd| *fd > 2 && !kept.contains(fd)) {
        // SAFETY: the caller gives up all of these descriptors.
        unsafe { libc::close(fd) };
    }
}

fn close_range(first: u32, last: u32) -> bool {
    // SAFETY: the caller gives up all of these descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

/// Gives memory back that a forked process has no use for: pages of the stack below this frame,
/// and what the allocator holds for later.
pub(crate) fn forget_inherited_memory() {
    let marker = 0u8;
    let here = (&raw const marker).addr();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let stack = maps.lines().find(|line| line.ends_with("[stack]"));
    let range = stack.and_then(|line| line.split_once(' ')).and_then(|(range, _)| {
        let (low, high) = range.split_once('-')?;
        Some((usize::from_str_radix(low, 16).ok()?, usize::from_str_radix(high, 16).ok()?))
    });
    // 64 KiB below this frame are left to the calls that are about to be made.
    let end = here.saturating_sub(64 * 1024) & !0xffff;
    if let Some((low, high)) = range.filter(|&(low, high)| low < end && here < high) {
        debug_assert!(end < high);
        // SAFETY: this is the stack that the thread runs on, below every frame in use and the
        // calls this function makes; what lies there was left by calls that have returned.
        unsafe {
            libc::madvise(ptr::with_exposed_provenance_mut(low), end - low, libc::MADV_DONTNEED);
        }
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator gives back pages that no allocation lies in.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets this thread alone use files and make sockets as this user and group, and no more as root;
/// false if it still does not.
pub(crate) fn use_files_as(uid: u32, gid: u32) -> bool {
    // SAFETY: neither call touches memory. The kernel answers what was, so each is asked again.
    let now = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX))
    };
    (now.0.cast_unsigned(), now.1.cast_unsigned()) == (uid, gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_call_the_path_and_the_reason() {
        let failure = Failure::new("write", Path::new("/sys/x"), libc::EACCES);
        assert_eq!(failure.to_string(), "write /sys/x: Permission denied");
        assert_eq!(Failure::plain("fork", libc::EAGAIN).to_string(), "fork: Try again");
    }

    #[test]
    fn no_signal_goes_to_everybody() {
        assert_eq!(kill(-1, 0), Err(libc::ESRCH));
        assert_eq!(kill(0, 0), Err(libc::ESRCH));
    }

    /// Runs `child` in a process of its own and gives its status.
    fn status_of(
        how: Clone,
        into: Option<BorrowedFd<'_>>,
        child: &mut dyn FnMut(bool) -> i32,
    ) -> i32 {
        let pid = Cloner::new().unwrap().spawn(how, into, child).unwrap();
        let pid = i32::try_from(pid).unwrap();
        let mut status = 0;
        // SAFETY: the pointer is to a local that outlives the call.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status), "{status:x}");
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn a_child_that_borrows_changes_its_parents_memory_and_one_that_does_not_has_its_own() {
        for (borrows, expected) in [(true, 8), (false, 7)] {
            let mut number = 7;
            let how = Clone { borrows, namespaces: 0 };
            let status = status_of(how, None, &mut |_| {
                number += 1;
                number
            });
            assert_eq!((status, number), (8, expected));
        }
    }

    #[test]
    fn either_way_of_closing_leaves_what_is_to_be_kept_and_nothing_else() {
        let null = || std::fs::File::open("/dev/null").unwrap();
        let (first, kept, last) = (null(), null(), null());
        let is_open = |file: &std::fs::File| rustix::io::fcntl_getfd(file).is_ok();
        let listed = |kept: RawFd| close_listed_but(&[kept]);
        let ranges = |kept: RawFd| close_all_but_on_any_kernel([kept]);
        for close in [&listed as &dyn Fn(RawFd), &ranges] {
            let how = Clone { borrows: false, namespaces: 0 };
            let status = status_of(how, None, &mut |_| {
                close(kept.as_raw_fd());
                let open = [&first, &kept, &last].map(|file| i32::from(is_open(file)));
                open[0] << 2 | open[1] << 1 | open[2]
            });
            assert_eq!(status, 0b010);
        }
        assert!(is_open(&first) && is_open(&last), "they were closed in the child alone");
    }

    #[test]
    #[ignore = "needs root and a unified cgroup hierarchy"]
    fn a_child_begins_in_its_cgroup_where_the_machine_has_the_instructions_for_it() {
        let directories = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let unified = directories.iter().find(|at| Path::new(at).join("cgroup.procs").exists());
        let unified = std::fs::File::open(unified.expect("a unified hierarchy")).unwrap();
        for borrows in [true, false] {
            let how = Clone { borrows, namespaces: 0 };
            let into = Some(std::os::fd::AsFd::as_fd(&unified));
            let joined = status_of(how, into, &mut |joined| i32::from(joined)) == 1;
            assert_eq!(joined, cfg!(any(target_arch = "x86_64", target_arch = "aarch64")));
        }
        // What is no cgroup is left to the child.
        let root = std::fs::File::open("/").unwrap();
        let how = Clone { borrows: true, namespaces: 0 };
        let into = Some(std::os::fd::AsFd::as_fd(&root));
        assert_eq!(status_of(how, into, &mut |joined| i32::from(joined)), 0);
    }

    #[test]
    fn the_clock_counts_in_microseconds() {
        let before = boottime_us();
        Linux.wait(&[], 2);
        let passed = boottime_us() - before;
        assert!((2_000..2_000_000).contains(&passed), "{passed}");
    }
}
