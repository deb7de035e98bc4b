//! Calls that put up walls around this process. Except for the mounts', they allocate nothing.

use std::ffi::{CStr, CString, c_int, c_long};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::UnshareFlags;

use super::last;

fn done(result: c_long) -> Result<c_long, i32> {
    if result < 0 { Err(last()) } else { Ok(result) }
}

fn errno(errno: i32) -> Errno {
    Errno::from_raw_os_error(errno)
}

/// Parts this process from others. Not for `FILES`.
pub(crate) fn unshare(what: UnshareFlags) -> Result<(), Errno> {
    debug_assert!(!what.contains(UnshareFlags::FILES));
    // SAFETY: the table of descriptors stays shared with whoever it is shared with.
    unsafe { rustix::thread::unshare_unsafe(what) }
}

/// Lets a new network namespace talk to itself.
pub(crate) fn raise_loopback() -> Result<(), Errno> {
    let socket = match socket(AddressFamily::INET, SocketType::DGRAM, None) {
        // Without IPv4 there is nothing to be raised by.
        Err(Errno::AFNOSUPPORT) => return Ok(()),
        socket => socket?,
    };
    // SAFETY: ifreq is plain numbers, for which all zero bytes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed() as std::ffi::c_char;
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = i16::try_from(up).unwrap_or(1);
    // SAFETY: the request is of the type that this call takes, and outlives it.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) };
    done(set.into()).map(drop).map_err(errno)
}

/// A copy, not attached to anywhere, of what a descriptor is of, and of all that is mounted below.
pub(crate) fn clone_mounts(of: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(of, c"", flags)
}

/// Mounts such a copy over what another descriptor is of.
pub(crate) fn attach_mounts(tree: impl AsFd, over: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", over, c"", flags)
}

/// Makes a mount and all below it read-only. `NOSYS` before Linux 5.12.
pub(crate) fn set_mounts_read_only(at: impl AsFd, path: &CStr) -> Result<(), Errno> {
    // The kernel's `struct mount_attr`: what to set, to clear, propagation, user namespace.
    let attributes: [u64; 4] = [1, 0, 0, 0];
    let flags = libc::AT_RECURSIVE | if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let at = at.as_fd().as_raw_fd();
    // SAFETY: the kernel reads a text that ends with NUL and a structure of the size given.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at,
            path.as_ptr(),
            flags,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    done(set).map(drop).map_err(errno)
}

/// Gives this thread a session keyring of its own, without a name. Where the kernel has no keys, or
/// gives this user no more, the one that it has stays: that of the keeper, which is empty.
pub(crate) fn new_keyring() {
    const JOIN_SESSION_KEYRING: c_int = 1;
    let nameless: *const std::ffi::c_char = ptr::null();
    // SAFETY: no name is given, so no memory is touched.
    let _ = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, nameless) };
}

/// True when the path of the working directory leads from this process's root to it.
pub(crate) fn works_inside() -> bool {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes into the array, at most as many bytes as it has.
    let got = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) };
    match done(got) {
        Ok(_) => path.first() == Some(&b'/'),
        // It is there, and its path too long to be told.
        Err(errno) => matches!(errno, libc::ERANGE | libc::ENAMETOOLONG),
    }
}

/// Whether the kernel has such filters (since 4.14, when it can first be asked). What emulates a
/// processor may have files of the machine's kernel, and no such call.
pub(crate) fn can_filter_calls() -> bool {
    const GET_ACTION_AVAIL: c_int = 2;
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads the number, which is there, before the call returns.
    done(unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) })
        .is_ok()
}

/// Filters the system calls of this thread, and of the programs that it becomes. It must not be able
/// to get new privileges.
pub(crate) fn filter_calls(filter: &[libc::sock_filter]) -> Result<(), i32> {
    const SET_MODE_FILTER: c_int = 1;
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| libc::EINVAL)?,
        // The kernel only reads it.
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions, which are there, before the call returns.
    done(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const program) })
        .map(drop)
}

/// What Landlock can do here: the number of its interface, or 0 (`landlock_create_ruleset(2)`).
pub fn landlock_abi() -> u32 {
    const VERSION: c_int = 1;
    let nothing: *const LandlockRules = ptr::null();
    // SAFETY: asked for its version, the kernel looks at no memory.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// The kernel's `struct landlock_ruleset_attr`.
#[repr(C)]
struct LandlockRules {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// The kernel's `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct LandlockBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// Writing a file, and cutting it short.
const WRITE_FILE: u64 = 1 << 1;
const TRUNCATE: u64 = 1 << 14;
/// Removing and making entries of a directory, and moving them from one to another.
const CHANGE_ENTRIES: u64 = 0b11_1111_1111 << 4;
/// No connection to an abstract socket of somebody outside; interface 6.
const SCOPE_ABSTRACT_SOCKETS: u64 = 1;

/// The oldest interface in which moving a file from one directory to another can be allowed.
pub(crate) const LANDLOCK_ABI_MIN: u32 = 2;

/// The first interface that knows of cutting a file short.
pub(crate) const LANDLOCK_ABI_TRUNCATE: u32 = 3;

/// Lets this thread write below these directories alone, where the kernel can; `.` is `works`. It
/// must not be able to get new privileges.
pub(crate) fn restrict_writing(writable: &[CString], works: BorrowedFd<'_>) -> Result<(), i32> {
    let abi = landlock_abi();
    if abi < LANDLOCK_ABI_MIN {
        return Ok(());
    }
    let of_file = WRITE_FILE | if abi >= LANDLOCK_ABI_TRUNCATE { TRUNCATE } else { 0 };
    let all = of_file | CHANGE_ENTRIES;
    let scoped = SCOPE_ABSTRACT_SOCKETS;
    let rules = LandlockRules { handled_access_fs: all, handled_access_net: 0, scoped };
    let known = if abi >= 6 { size_of::<LandlockRules>() } else { size_of::<u64>() };
    let set = new_rules(&rules, known)?;
    for path in writable {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let Ok(at) = openat(works, path.as_c_str(), flags, Mode::empty()) else { continue };
        let kind = fstat(&at).map_err(Errno::raw_os_error)?.st_mode;
        let directory = FileType::from_raw_mode(kind) == FileType::Directory;
        allow_below(&set, &at, if directory { all } else { of_file })?;
    }
    restrict(&set)
}

/// The first interface that knows ports.
pub(crate) const LANDLOCK_ABI_PORTS: u32 = 4;

/// Lets this thread listen on these ports alone, and on those that the kernel picks. It must not be
/// able to get new privileges.
pub(crate) fn restrict_ports(held: &[(u16, u16)]) -> Result<(), i32> {
    const BIND_TCP: u64 = 1;
    const NET_PORT: c_int = 2;
    let rules = LandlockRules { handled_access_fs: 0, handled_access_net: BIND_TCP, scoped: 0 };
    let set = new_rules(&rules, 2 * size_of::<u64>())?;
    let picked = std::iter::once((0, 0));
    for port in picked.chain(held.iter().copied()).flat_map(|(first, last)| first..=last) {
        // The kernel's `struct landlock_net_port_attr`.
        let rule = [BIND_TCP, u64::from(port)];
        let set = set.as_raw_fd();
        // SAFETY: the kernel reads the structure of this kind of rule.
        let added =
            unsafe { libc::syscall(libc::SYS_landlock_add_rule, set, NET_PORT, rule.as_ptr(), 0) };
        done(added)?;
    }
    restrict(&set)
}

/// An empty set of rules; the kernel takes as many bytes of it as it knows.
fn new_rules(rules: &LandlockRules, known: usize) -> Result<OwnedFd, i32> {
    // SAFETY: the kernel reads as many bytes of the structure as it is told.
    let set =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::from_ref(rules), known, 0) };
    let set = c_int::try_from(done(set)?).map_err(|_| libc::EBADF)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(set) })
}

/// Holds this thread to a set of rules.
fn restrict(set: &OwnedFd) -> Result<(), i32> {
    // SAFETY: the call takes two numbers and touches no memory.
    done(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, set.as_raw_fd(), 0) }).map(drop)
}

fn allow_below(set: &OwnedFd, at: &OwnedFd, allowed_access: u64) -> Result<(), i32> {
    const PATH_BENEATH: c_int = 1;
    let rule = LandlockBeneath { allowed_access, parent_fd: at.as_raw_fd() };
    // SAFETY: the kernel reads the structure of this kind of rule.
    let added = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            set.as_raw_fd(),
            PATH_BENEATH,
            &raw const rule,
            0,
        )
    };
    done(added).map(drop)
}
