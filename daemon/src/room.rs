//! Room on the disk: what is free of it, and what is set aside for later.

use std::fs::File;
use std::io;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

/// True for the errors of a call that found no room.
pub(crate) fn is_none(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT)) || error.kind() == io::ErrorKind::StorageFull
}

/// What to do about an error, where that is that there is no room.
pub(crate) fn hint(error: &io::Error) -> &'static str {
    if is_none(error) { "; remove something from that disk, or --work-dir elsewhere" } else { "" }
}

/// Sets room aside for a file, from one byte to another, and leaves its length as it is.
pub(crate) fn set_aside(file: &File, from: u64, to: u64) -> io::Result<()> {
    let len = to.saturating_sub(from);
    rustix::io::retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, from, len))?;
    Ok(())
}

/// True when less than `bytes` of the file's file system are free for everybody, or no new file can
/// be made there. One that was short is so until twice as much is free, so that it does not come and
/// go. Of one that does not tell there is enough.
pub(crate) fn is_short(file: &File, bytes: u64, was: bool) -> bool {
    let Ok(disk) = fstatvfs(file) else { return false };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let wanted = if was { bytes.saturating_mul(2) } else { bytes };
    (disk.f_blocks > 0 && free < wanted) || (disk.f_files > 0 && disk.f_favail == 0)
}
