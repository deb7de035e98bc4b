//! Paths that the kernel holds to a directory.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// How often a path is walked anew that somebody else's rename or mount has disturbed. Who would
/// disturb every one of these walks gets a launch refused, never one that led elsewhere.
const WALKS_MAX: u16 = 10_000;

/// Opens what is below a directory, on a way that `how` allows; the empty path is the directory.
///
/// On a way with `..` in it, of the path's own or of a link's, the kernel cannot tell whether it was
/// led out if anything on the machine was renamed or mounted meanwhile: it says EAGAIN, and that it
/// should be asked anew (openat2(2)).
pub(crate) fn open_within(
    directory: impl AsFd,
    path: &[u8],
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let path = OsStr::from_bytes(if path.is_empty() { b"." } else { path });
    for _ in 1..WALKS_MAX {
        match openat2(directory.as_fd(), path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    openat2(directory, path, flags, Mode::empty(), how)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use rustix::fs::open;

    use super::*;
    use crate::testing::Directory;

    #[test]
    fn a_way_that_others_disturb_is_walked_anew() {
        let (own, others) = (Directory::new("own"), Directory::new("others"));
        fs::create_dir_all(own.path().join("a/b/c/d")).unwrap();
        fs::create_dir(own.path().join("aim")).unwrap();
        symlink("../../../../aim", own.path().join("a/b/c/d/link")).unwrap();
        let directory = open(own.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let (from, to) = (others.path().join("from"), others.path().join("to"));
                fs::write(&from, "").unwrap();
                while !over.load(Ordering::Relaxed) {
                    fs::rename(&from, &to).unwrap();
                    fs::rename(&to, &from).unwrap();
                }
            });
            let path = b"a/b/c/d/link";
            let mut disturbed = 0;
            let opened = (0..20_000).try_for_each(|_| {
                let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                let once = openat2(&directory, OsStr::from_bytes(path), flags, Mode::empty(), how);
                disturbed += u32::from(once.is_err());
                open_within(&directory, path, flags, how).map(drop)
            });
            over.store(true, Ordering::Relaxed);
            opened.unwrap();
            println!("{disturbed} of 20,000 were disturbed once");
        });
    }
}
