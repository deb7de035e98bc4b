//! Files that processes have open, whatever they are called by now: one without a name takes as much room
//! as any other, for as long as somebody has it.
//!
//! It is what `/proc/<pid>/fd` and `/proc/<pid>/map_files` lead to. Nothing is opened to be looked at, and
//! no file system is asked that is not the machine's own.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, StatxFlags, fstat, makedev, open, openat, statat, statx,
};

/// Processes whose files are looked at, and files of all of them.
const PROCESSES_MAX: usize = 4096;
const FILES_MAX: usize = 65_536;

/// Bytes of disk on one device of the files without a name that these processes have. A file of root's that
/// none of them can write to is none of theirs: a library of the machine's that was replaced.
pub(crate) fn nameless_bytes(pids: &[u32], device: u64) -> u64 {
    let (mut seen, mut bytes) = (BTreeSet::new(), 0u64);
    visit(pids, &mut |at, name| {
        let Some(of) = looked_at(at, name).filter(|of| of.links == 0 && of.device == device) else {
            return false;
        };
        if (is_written(at, name) || of.owner != 0) && seen.insert(of.inode) {
            bytes = bytes.saturating_add(of.bytes);
        }
        false
    });
    bytes
}

/// True for what a process may write to: its link says how it is open.
fn is_written(at: BorrowedFd<'_>, name: &CStr) -> bool {
    let link = statat(at, name, AtFlags::SYMLINK_NOFOLLOW);
    link.is_ok_and(|link| Mode::from_raw_mode(link.st_mode).contains(Mode::WUSR))
}

/// A file that one of these processes may write to, to be written to. Of what they only read nothing is
/// theirs to be changed.
pub(crate) fn opened(pids: &[u32], device: u64, inode: u64) -> Option<File> {
    let mut found = None;
    visit(pids, &mut |at, name| {
        let is_it = looked_at(at, name).is_some_and(|of| (of.device, of.inode) == (device, inode));
        // What is behind a name may be another by now.
        let is_it = is_it && is_written(at, name);
        found = is_it.then(|| held(at, name, device, inode)).flatten();
        found.is_some()
    });
    let path = format!("/proc/self/fd/{}", found.as_ref()?.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok().map(File::from)
}

/// Where one of these processes has a file without a name on one device as this descriptor, to be written to.
pub(crate) fn nameless_output(pids: &[u32], number: u32, device: u64) -> Option<PathBuf> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let name = CString::new(number.to_string()).ok()?;
    pids.iter().take(PROCESSES_MAX).find_map(|pid| {
        let list = PathBuf::from(format!("/proc/{pid}/fd"));
        let at = open(&list, flags, Mode::empty()).ok()?;
        let of = looked_at(at.as_fd(), &name)?;
        let is = of.links == 0 && of.device == device && is_written(at.as_fd(), &name);
        is.then(|| list.join(number.to_string()))
    })
}

fn held(at: BorrowedFd<'_>, name: &CStr, device: u64, inode: u64) -> Option<OwnedFd> {
    let file = openat(at, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let of = fstat(&file).ok()?;
    ((of.st_dev, of.st_ino) == (device, inode)).then_some(file)
}

/// A plain file.
struct Looked {
    device: u64,
    inode: u64,
    links: u32,
    owner: u32,
    bytes: u64,
}

fn looked_at(at: BorrowedFd<'_>, name: &CStr) -> Option<Looked> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let of = statx(at, name, flags, StatxFlags::BASIC_STATS).ok()?;
    let is_plain = FileType::from_raw_mode(of.stx_mode.into()) == FileType::RegularFile;
    is_plain.then(|| Looked {
        device: makedev(of.stx_dev_major, of.stx_dev_minor),
        inode: of.stx_ino,
        links: of.stx_nlink,
        owner: of.stx_uid,
        bytes: of.stx_blocks.saturating_mul(512),
    })
}

/// Visits what processes have open or mapped, until a visit says that it was that.
fn visit(pids: &[u32], what: &mut dyn FnMut(BorrowedFd<'_>, &CStr) -> bool) {
    let mut left = FILES_MAX;
    for pid in pids.iter().take(PROCESSES_MAX) {
        for list in ["fd", "map_files"] {
            let path = PathBuf::from(format!("/proc/{pid}/{list}"));
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            // It ended, or is not ours to look at.
            let Ok(directory) = open(path, flags, Mode::empty()) else { continue };
            let Ok(mut entries) = Dir::new(directory) else { continue };
            while let Some(Ok(entry)) = entries.read() {
                let name = entry.file_name();
                if [c".", c".."].contains(&name) {
                    continue;
                }
                let Some(less) = left.checked_sub(1) else { return };
                left = less;
                let Ok(at) = entries.fd() else { break };
                if what(at, name) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::testing::Directory;

    #[test]
    fn a_file_without_a_name_is_counted_once_and_one_with_a_name_not_at_all() {
        let directory = Directory::new("held");
        let device = std::fs::metadata(directory.path()).unwrap().dev();
        let own = [std::process::id()];
        let (path, other) = (directory.path().join("a"), directory.path().join("b"));
        let mut file = File::create(&path).unwrap();
        file.write_all(&[1; 700_000]).unwrap();
        file.sync_all().unwrap();
        let _again = File::open(&path).unwrap();
        std::fs::write(&other, [1; 700_000]).unwrap();
        let _named = File::open(&other).unwrap();
        // Other tests of this process may have such files as well, smaller ones.
        assert!(nameless_bytes(&own, device) < 700_000);
        std::fs::remove_file(&path).unwrap();
        assert!((700_000..1_400_000).contains(&nameless_bytes(&own, device)));
        assert!(nameless_bytes(&own, device + 1) < 700_000);
        let (number, here) = (u32::try_from(file.as_raw_fd()).unwrap(), Some(own[0]));
        let path = here.map(|pid| PathBuf::from(format!("/proc/{pid}/fd/{number}")));
        assert_eq!(nameless_output(&own, number, device), path);
        assert_eq!(nameless_output(&own, number, device + 1), None);
        let found = opened(&own, device, file.metadata().unwrap().ino()).unwrap();
        found.set_len(0).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert!(opened(&own, device, u64::MAX).is_none());
        let read_only = std::fs::metadata(&other).unwrap().ino();
        assert!(opened(&own, device, read_only).is_none(), "nobody writes to it");
    }
}
