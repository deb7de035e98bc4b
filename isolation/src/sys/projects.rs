//! Projects of a file system: ids of files by which it counts and limits what they take, whoever they
//! belong to. quotactl(2), ioctl_xfs_fsgetxattr(2).

use std::ffi::{CString, c_long};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstat, major, minor, open};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

use super::{Failure, last};
use crate::tree;

/// Since Linux 5.14; the same number everywhere.
pub(crate) const SYS_QUOTACTL_FD: c_long = 443;

/// What a project has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// Bytes of disk that its files take.
    pub bytes: u64,
    /// How many they are, directories among them.
    pub files: u64,
    /// Bytes from which on it is to be told; 0 = no limit.
    pub soft_bytes: u64,
}

/// What a file system does about projects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Projects {
    /// It counts what they take.
    pub counted: bool,
    /// It refuses what is more than they may.
    pub enforced: bool,
}

/// The kernel's `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attributes {
    flags: u32,
    extent_bytes: u32,
    extents: u32,
    project: u32,
    copied_extent_bytes: u32,
    rest: [u8; 8],
}

/// What is made in a directory has its project.
const INHERIT: u32 = 0x200;

const GET_ATTRIBUTES: Opcode = opcode::read::<Attributes>(b'X', 31);
/// `FS_IOC_FSSETXATTR`, by which an owner gives a file another project.
pub(crate) const SET_ATTRIBUTES: Opcode = opcode::write::<Attributes>(b'X', 32);
/// `FS_IOC_SETFLAGS`, by which an owner ends that a directory hands its project on.
pub(crate) const SET_FLAGS: Opcode = opcode::write::<c_long>(b'f', 2);

/// The kernel's `struct if_dqblk`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Block {
    /// In KiB, as the soft limit.
    hard_kib: u64,
    soft_kib: u64,
    bytes: u64,
    hard_files: u64,
    soft_files: u64,
    files: u64,
    block_time: u64,
    file_time: u64,
    /// Which of these are meant.
    valid: u32,
}

/// Both limits of bytes, and both of files.
const LIMITS: u32 = 1 | 4;
/// Quotas of projects.
const OF_PROJECTS: u32 = 2;
const GET: u32 = 0x80_0007;
const SET: u32 = 0x80_0008;
const STATE: u32 = 0x5805;
/// Of the state: projects are counted, and limited.
const COUNTED: u16 = 1 << 4;
const ENFORCED: u16 = 1 << 5;
/// Bytes that the state has room in; it has 80.
const STATE_WORDS: usize = 32;

/// What the file system of a path does about projects. Where it knows none: nothing.
pub(crate) fn state(at: &Path) -> Result<Projects, Failure> {
    let mut words = [0u64; STATE_WORDS];
    match control(at, STATE, 0, (&raw mut words).cast()) {
        Ok(()) => {}
        Err(failure) if failure.errno == libc::EPERM => return Err(failure),
        Err(_) => return Ok(Projects::default()),
    }
    // `struct fs_quota_stat`: a version of one byte, one of padding, and flags.
    let bytes = words[0].to_ne_bytes();
    let flags = u16::from_ne_bytes([bytes[2], bytes[3]]);
    Ok(Projects { counted: flags & COUNTED != 0, enforced: flags & ENFORCED != 0 })
}

/// What a project has on the file system of a path.
pub(crate) fn of(at: &Path, id: u32) -> Result<Project, Failure> {
    let mut block = Block::default();
    match control(at, GET, id, (&raw mut block).cast()) {
        // Nobody has ever had it.
        Err(failure) if failure.errno == libc::ENOENT => return Ok(Project::default()),
        done => done?,
    }
    let soft_bytes = block.soft_kib.saturating_mul(1024);
    Ok(Project { bytes: block.bytes, files: block.files, soft_bytes })
}

/// Limits a project; 0 = not.
pub(crate) fn limit(
    at: &Path,
    id: u32,
    (soft, hard): (u64, u64),
    files: u64,
) -> Result<(), Failure> {
    let (soft_kib, hard_kib) = (soft.div_ceil(1024), hard.div_ceil(1024));
    let hard_files = files;
    let mut block = Block { soft_kib, hard_kib, hard_files, valid: LIMITS, ..Block::default() };
    control(at, SET, id, (&raw mut block).cast())
}

/// The project of a directory.
pub(crate) fn id(directory: &Path) -> Result<u32, Failure> {
    let failed = |errno: Errno| Failure::new("read project", directory, errno.raw_os_error());
    let opened = opened(directory).map_err(failed)?;
    attributes(opened.as_fd()).map(|of| of.project).map_err(failed)
}

/// Gives a directory, and all that is in it, to a project; what is made there later has it, too. If that
/// fails, what was given is given back.
pub(crate) fn give(directory: &Path, id: u32) -> Result<(), Failure> {
    let before = self::id(directory)?;
    let given = give_all(directory, id);
    if given.is_err() {
        // It comes as far as that did.
        let _ = give_all(directory, before);
    }
    given
}

/// The directory itself comes last: what has the project has it with all that is in it.
fn give_all(directory: &Path, id: u32) -> Result<(), Failure> {
    let mut itself = true;
    tree::visit(directory, &mut |file, is_directory| {
        if std::mem::take(&mut itself) { Ok(()) } else { set(file, is_directory, id) }
    })?;
    give_itself(directory, id)
}

/// Gives a directory to a project, and what will be made in it.
pub(crate) fn give_itself(directory: &Path, id: u32) -> Result<(), Failure> {
    let failed = |errno: Errno| Failure::new("give project", directory, errno.raw_os_error());
    let opened = opened(directory).map_err(failed)?;
    set(opened.as_fd(), true, id).map_err(failed)
}

fn set(file: BorrowedFd<'_>, is_directory: bool, id: u32) -> Result<(), Errno> {
    let mut of = attributes(file)?;
    of.project = id;
    if is_directory {
        of.flags = if id == 0 { of.flags & !INHERIT } else { of.flags | INHERIT };
    }
    // SAFETY: the call reads a structure of the type that its number says.
    unsafe { ioctl(file, Setter::<SET_ATTRIBUTES, Attributes>::new(of)) }
}

fn attributes(file: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    // SAFETY: the call fills in a structure of the type that its number says.
    unsafe { ioctl(file, Getter::<GET_ATTRIBUTES, Attributes>::new()) }
}

fn opened(directory: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(directory, flags, Mode::empty())
}

/// A call about quotas of projects on the file system that `at` is on; `data` is what it reads or
/// fills in, of at most [`STATE_WORDS`] words.
fn control(at: &Path, call: u32, id: u32, data: *mut u8) -> Result<(), Failure> {
    let failed = |errno: i32| Failure::new("quotactl", at, errno);
    let directory = opened(at).map_err(|errno| failed(errno.raw_os_error()))?;
    let command = call << 8 | OF_PROJECTS;
    // SAFETY: `data` is of the type that the command reads or fills in, and outlives the call.
    let done = unsafe { libc::syscall(SYS_QUOTACTL_FD, directory.as_raw_fd(), command, id, data) };
    match if done == 0 { 0 } else { last() } {
        0 => Ok(()),
        // Before Linux 5.14 the device has to be named.
        libc::ENOSYS => by_device(&directory, command, id, data).map_err(failed),
        errno => Err(failed(errno)),
    }
}

fn by_device(of: &OwnedFd, command: u32, id: u32, data: *mut u8) -> Result<(), i32> {
    let device = device(of).ok_or(libc::ENOSYS)?;
    // SAFETY: as above, and a text that ends with NUL.
    let done = unsafe { libc::syscall(libc::SYS_quotactl, command, device.as_ptr(), id, data) };
    if done == 0 { Ok(()) } else { Err(last()) }
}

/// The device that something is on, by the list of what is mounted.
fn device(of: &OwnedFd) -> Option<CString> {
    let number = fstat(of).ok()?.st_dev;
    let number = format!("{}:{}", major(number), minor(number));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut lines = mounts.lines().filter(|line| line.split(' ').nth(2) == Some(&number));
    let source = lines.next()?.split_once(" - ")?.1.split(' ').nth(1)?;
    CString::new(Path::new(source).as_os_str().as_bytes()).ok()
}
